// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Addresses as text. IPv4-mapped IPv6 text ("::ffff:10.0.0.1") is refused: inside it would be
 * the IPv4 address, which people write without the prefix.
 */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ADDRESS_BITS 128

/* Reads all of @text as a decimal number of at most @max, without sign or leading zeros. */
static int decimal_parse(const char *text, unsigned max, unsigned *out)
{
	unsigned value = 0;

	if (!*text || (text[0] == '0' && text[1]))
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		value = value * 10 + (*text - '0');
		if (value > max)
			return -EINVAL;
	}
	*out = value;
	return 0;
}

/* Copies the @len bytes at @text into @buf (ADDRESS_TEXT_LEN bytes) as a string. */
static int text_cut(const char *text, size_t len, char *buf)
{
	if (len >= ADDRESS_TEXT_LEN)
		return -EINVAL;
	memcpy(buf, text, len);
	buf[len] = 0;
	return 0;
}

int address_parse(const char *text, struct ss_addr *out)
{
	struct ss_addr v6;
	__be32 v4;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		*out = ss_addr_v4(v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &v6) != 1 || ss_addr_is_v4(&v6))
		return -EINVAL;
	*out = v6;
	return 0;
}

int endpoint_parse(const char *text, struct ss_endpoint *out)
{
	struct ss_endpoint endpoint = {};
	char address[ADDRESS_TEXT_LEN];
	const char *colon = strrchr(text, ':');
	int bracketed = text[0] == '[';
	unsigned port;

	if (!colon || decimal_parse(colon + 1, 65535, &port) || !port)
		return -EINVAL;
	if (bracketed && colon[-1] != ']')
		return -EINVAL;
	if (text_cut(text + bracketed, colon - text - 2 * bracketed, address) ||
	    address_parse(address, &endpoint.addr) || ss_addr_is_v4(&endpoint.addr) == bracketed)
		return -EINVAL;
	endpoint.port = htons(port);
	*out = endpoint;
	return 0;
}

/* 1 if all bits of @addr behind the first @bits are 0. */
static int host_bits_clear(const struct ss_addr *addr, unsigned bits)
{
	const unsigned char *byte = (const unsigned char *)addr->w;
	unsigned i = bits / 8;

	if (bits % 8 && byte[i++] & 0xff >> bits % 8)
		return 0;
	for (; i < sizeof(addr->w); i++)
		if (byte[i])
			return 0;
	return 1;
}

int prefix_parse(const char *text, struct ss_prefix *out)
{
	struct ss_prefix prefix = {};
	char address[ADDRESS_TEXT_LEN];
	const char *slash = text + strcspn(text, "/");
	unsigned before, bits;

	if (text_cut(text, slash - text, address) || address_parse(address, &prefix.addr))
		return -EINVAL;
	before = ss_addr_is_v4(&prefix.addr) ? SS_PREFIX_V4_BITS : 0;
	bits = ADDRESS_BITS - before;
	if (*slash && decimal_parse(slash + 1, bits, &bits))
		return -EINVAL;
	if (!host_bits_clear(&prefix.addr, before + bits))
		return -EINVAL;
	prefix.prefixlen = SS_PREFIX_PORT_BITS + before + bits;
	*out = prefix;
	return 0;
}

char *address_format(const struct ss_addr *x, char *buf)
{
	int v4 = ss_addr_is_v4(x);

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? &x->w[3] : x->w, buf, ADDRESS_TEXT_LEN);
	return buf;
}

char *endpoint_format(const struct ss_endpoint *x, char *buf)
{
	const char *format = ss_addr_is_v4(&x->addr) ? "%s:%u" : "[%s]:%u";
	char address[ADDRESS_TEXT_LEN];

	address_format(&x->addr, address);
	snprintf(buf, ADDRESS_TEXT_LEN, format, address, ntohs(x->port));
	return buf;
}

/* A prefix that names a port (struct dial) is an endpoint, and is written like one. */
char *prefix_format(const struct ss_prefix *x, char *buf)
{
	unsigned before = SS_PREFIX_PORT_BITS + (ss_addr_is_v4(&x->addr) ? SS_PREFIX_V4_BITS : 0);
	size_t len;

	if (x->port)
		return endpoint_format(&(struct ss_endpoint){ x->addr, x->port, 0 }, buf);
	len = strlen(address_format(&x->addr, buf));
	snprintf(buf + len, ADDRESS_TEXT_LEN - len, "/%u", x->prefixlen - before);
	return buf;
}

const char *endpoint_protocol(const struct ss_endpoint *x)
{
	return x->protocol == SS_UDP ? "udp" : "tcp";
}
