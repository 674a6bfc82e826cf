// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "packet.h"

#include <arpa/inet.h>
#include <assert.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>

#include <sidestep/option.h>

#include "address.h"

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = v >> 8;
	p[1] = v & 0xff;
}

static uint16_t get16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static uint32_t sum16(const uint8_t *p, unsigned len, uint32_t sum)
{
	for (unsigned i = 0; i + 1 < len; i += 2)
		sum += get16(p + i);
	if (len & 1)
		sum += p[len - 1] << 8;
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static int is_ipv4(const struct packet_buf *p)
{
	return p->bytes[p->l3] >> 4 == 4;
}

/*
 * The checksum of @proto over the pseudo-header, which ICMP in IPv4 has not, and what follows; 0 if
 * the field in place is right.
 */
static uint16_t l4_sum(const struct packet_buf *p, unsigned proto)
{
	const uint8_t *l3 = p->bytes + p->l3;
	uint32_t sum = 0;
	unsigned len;

	if (is_ipv4(p)) {
		len = get16(l3 + 2) - (p->l4 - p->l3);
		if (proto != IPPROTO_ICMP)
			sum = sum16(l3 + 12, 8, proto + len);
	} else {
		len = get16(l3 + 4) + 40 - (p->l4 - p->l3);
		sum = sum16(l3 + 8, 32, proto + len);
	}
	return fold(sum16(p->bytes + p->l4, len, sum));
}

void ipv4_checksum(uint8_t *ip)
{
	put16(ip + 10, 0);
	put16(ip + 10, fold(sum16(ip, (ip[0] & 15) * 4, 0)));
}

void packet_checksum(struct packet_buf *p)
{
	if (is_ipv4(p))
		ipv4_checksum(p->bytes + p->l3);
	put16(p->bytes + p->l4 + 16, 0);
	put16(p->bytes + p->l4 + 16, l4_sum(p, IPPROTO_TCP));
}

int packet_checksum_ok(const struct packet_buf *p)
{
	const uint8_t *l3 = p->bytes + p->l3;

	if (is_ipv4(p) && fold(sum16(l3, (l3[0] & 15) * 4, 0)))
		return 0;
	return l4_sum(p, IPPROTO_TCP) == 0;
}

static void put(struct packet_buf *p, const void *data, unsigned len)
{
	assert(p->len + len <= PACKET_MAX);
	memcpy(p->bytes + p->len, data, len);
	p->len += len;
}

static void put_ethernet(struct packet_buf *p, const struct packet_spec *spec, uint16_t proto)
{
	static const uint8_t macs[12] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2 };
	uint8_t tag[4], type[2];

	put(p, macs, sizeof(macs));
	if (spec->vlan) {
		put16(tag, ETH_P_8021Q);
		put16(tag + 2, spec->vlan);
		put(p, tag, sizeof(tag));
	}
	put16(type, proto);
	put(p, type, sizeof(type));
}

static void put_ipv4(struct packet_buf *p, const struct packet_spec *spec,
		     const struct ss_endpoint *src, const struct ss_endpoint *dst, unsigned len)
{
	uint8_t ip[20] = { 0 };

	ip[0] = 0x40 | (5 + spec->ip_options_len / 4);
	put16(ip + 2, 20 + spec->ip_options_len + len);
	put16(ip + 6, 0x4000); /* don't fragment */
	ip[8] = spec->ttl ? spec->ttl : 64;
	ip[9] = IPPROTO_TCP;
	memcpy(ip + 12, &src->addr.w[3], 4);
	memcpy(ip + 16, &dst->addr.w[3], 4);
	put(p, ip, sizeof(ip));
}

static void put_ipv6(struct packet_buf *p, const struct packet_spec *spec,
		     const struct ss_endpoint *src, const struct ss_endpoint *dst, unsigned len)
{
	uint8_t ip[40] = { 0x60 };

	put16(ip + 4, spec->ip_options_len + len);
	ip[6] = spec->ip_options_len ? spec->ip6_next : IPPROTO_TCP;
	ip[7] = spec->ttl ? spec->ttl : 64;
	memcpy(ip + 8, &src->addr, 16);
	memcpy(ip + 24, &dst->addr, 16);
	put(p, ip, sizeof(ip));
}

static uint8_t tcp_flags(const char *letters)
{
	static const char names[] = "FSRPA";
	uint8_t flags = 0;

	for (; *letters; letters++) {
		const char *at = strchr(names, *letters);

		assert(at);
		flags |= 1 << (at - names);
	}
	return flags;
}

static void put_tcp(struct packet_buf *p, const struct packet_spec *spec, __be16 sport,
		    __be16 dport)
{
	unsigned options_len = (spec->options_len + 3) & ~3u;
	uint8_t tcp[60] = { 0 };

	assert(options_len <= 40);
	memcpy(tcp, &sport, 2);
	memcpy(tcp + 2, &dport, 2);
	put16(tcp + 4, spec->seq >> 16);
	put16(tcp + 6, spec->seq & 0xffff);
	put16(tcp + 8, spec->ack >> 16);
	put16(tcp + 10, spec->ack & 0xffff);
	tcp[12] = (5 + options_len / 4) << 4;
	tcp[13] = tcp_flags(spec->flags);
	put16(tcp + 14, 64240);
	if (spec->options_len)
		memcpy(tcp + 20, spec->options, spec->options_len);
	put(p, tcp, 20 + options_len);
}

void packet_build(struct packet_buf *p, const struct packet_spec *spec)
{
	unsigned tcp_len = 20 + ((spec->options_len + 3) & ~3u) + spec->payload_len;
	struct ss_endpoint src, dst;
	int err;

	memset(p, 0, sizeof(*p));
	err = endpoint_parse(spec->src, &src) | endpoint_parse(spec->dst, &dst);
	assert(!err);
	(void)err;
	if (ss_addr_is_v4(&dst.addr)) {
		put_ethernet(p, spec, ETH_P_IP);
		p->l3 = p->len;
		put_ipv4(p, spec, &src, &dst, tcp_len);
	} else {
		put_ethernet(p, spec, ETH_P_IPV6);
		p->l3 = p->len;
		put_ipv6(p, spec, &src, &dst, tcp_len);
	}
	if (spec->ip_options_len)
		put(p, spec->ip_options, spec->ip_options_len);
	p->l4 = p->len;
	put_tcp(p, spec, src.port, dst.port);
	if (spec->payload_len)
		put(p, spec->payload, spec->payload_len);
	packet_checksum(p);
}

/* Ethernet and IP header of @len bytes of the protocol @proto4, in IPv6 @proto6. */
static void put_headers(struct packet_buf *p, const struct icmp_spec *spec, unsigned len,
			uint8_t proto4, uint8_t proto6)
{
	struct packet_spec ip = { .ip_options = spec->ip_options,
				  .ip_options_len = spec->ip_options_len,
				  .ip6_next = spec->ip6_next,
				  .ttl = spec->ttl };
	struct ss_endpoint src, dst;
	int err;

	err = endpoint_parse(spec->src, &src) | endpoint_parse(spec->dst, &dst);
	assert(!err);
	(void)err;
	p->l3 = 14;
	if (ss_addr_is_v4(&dst.addr)) {
		put_ethernet(p, &ip, ETH_P_IP);
		put_ipv4(p, &ip, &src, &dst, len);
		p->bytes[p->l3 + 9] = proto4;
	} else {
		put_ethernet(p, &ip, ETH_P_IPV6);
		put_ipv6(p, &ip, &src, &dst, len);
		if (!spec->ip_options_len)
			p->bytes[p->l3 + 6] = proto6;
	}
	if (spec->ip_options_len)
		put(p, spec->ip_options, spec->ip_options_len);
	p->l4 = p->len;
	if (is_ipv4(p))
		ipv4_checksum(p->bytes + p->l3);
}

void packet_build_icmp(struct packet_buf *p, const struct icmp_spec *spec,
		       const struct packet_buf *about)
{
	uint8_t icmp[8] = { spec->type, spec->code, 0, 0, 0, 0, 1280 >> 8, 1280 & 0xff };
	unsigned quoted = about->len - about->l3;

	if (spec->quoted)
		quoted = about->l4 - about->l3 + spec->quoted;
	memset(p, 0, sizeof(*p));
	put_headers(p, spec, sizeof(icmp) + quoted, IPPROTO_ICMP, IPPROTO_ICMPV6);
	put(p, icmp, sizeof(icmp));
	put(p, about->bytes + about->l3, quoted);
	put16(p->bytes + p->l4 + 2, l4_sum(p, is_ipv4(p) ? IPPROTO_ICMP : IPPROTO_ICMPV6));
}

static unsigned wrap_ipv4(uint8_t *ip, const struct wrap_spec *spec, uint8_t proto, unsigned inner)
{
	unsigned udp = spec->sport ? 8 : 0;

	ip[0] = 0x45;
	ip[1] = spec->tos;
	put16(ip + 2, 20 + udp + inner);
	ip[6] = 0x40;
	ip[8] = spec->ttl;
	ip[9] = proto;
	inet_pton(AF_INET, spec->src, ip + 12);
	inet_pton(AF_INET, spec->dst, ip + 16);
	ipv4_checksum(ip);
	return 20;
}

static unsigned wrap_ipv6(uint8_t *ip, const struct wrap_spec *spec, uint8_t proto, unsigned inner)
{
	unsigned udp = spec->sport ? 8 : 0;

	ip[0] = 0x60 | spec->tos >> 4;
	ip[1] = spec->tos << 4;
	put16(ip + 4, udp + inner);
	ip[6] = proto;
	ip[7] = spec->ttl;
	inet_pton(AF_INET6, spec->src, ip + 8);
	inet_pton(AF_INET6, spec->dst, ip + 24);
	return 40;
}

void packet_wrap(struct packet_buf *p, const struct wrap_spec *spec)
{
	const uint8_t *l3 = p->bytes + p->l3;
	unsigned inner = is_ipv4(p) ? get16(l3 + 2) : get16(l3 + 4) + 40u, len;
	uint8_t outer[48] = { 0 }, proto = is_ipv4(p) ? IPPROTO_IPIP : IPPROTO_IPV6;
	int v4 = !strchr(spec->dst, ':');

	if (spec->sport)
		proto = IPPROTO_UDP;
	len = v4 ? wrap_ipv4(outer, spec, proto, inner) : wrap_ipv6(outer, spec, proto, inner);
	put16(p->bytes + p->l3 - 2, v4 ? ETH_P_IP : ETH_P_IPV6);
	p->l4 = p->l3 + len;
	if (spec->sport) {
		put16(outer + len, spec->sport);
		put16(outer + len + 2, 6080);
		put16(outer + len + 4, 8 + inner);
		len += 8;
	}
	assert(p->len + len <= PACKET_MAX);
	memmove(p->bytes + p->l3 + len, l3, p->len - p->l3);
	memcpy(p->bytes + p->l3, outer, len);
	p->len += len;
}

void packet_build_udp(struct packet_buf *p, const char *src, const char *dst, const void *payload,
		      unsigned len)
{
	struct icmp_spec addresses = { .src = src, .dst = dst };
	struct ss_endpoint from, to;
	uint8_t udp[8] = { 0 };

	memset(p, 0, sizeof(*p));
	put_headers(p, &addresses, sizeof(udp) + len, IPPROTO_UDP, IPPROTO_UDP);
	(void)endpoint_parse(src, &from);
	(void)endpoint_parse(dst, &to);
	memcpy(udp, &from.port, 2);
	memcpy(udp + 2, &to.port, 2);
	put16(udp + 4, sizeof(udp) + len);
	put(p, udp, sizeof(udp));
	put(p, payload, len);
	put16(p->bytes + p->l4 + 6, l4_sum(p, IPPROTO_UDP));
}

static const char *endpoint_text(const struct packet_buf *p, unsigned addr4, unsigned addr6,
				 unsigned port, char *buf)
{
	struct ss_endpoint e = {};

	if (is_ipv4(p)) {
		__be32 ip;

		memcpy(&ip, p->bytes + p->l3 + addr4, 4);
		e.addr = ss_addr_v4(ip);
	} else {
		memcpy(&e.addr, p->bytes + p->l3 + addr6, 16);
	}
	memcpy(&e.port, p->bytes + p->l4 + port, 2);
	return endpoint_format(&e, buf);
}

const char *packet_src(const struct packet_buf *p)
{
	static char buf[ADDRESS_TEXT_LEN];

	return endpoint_text(p, 12, 8, 0, buf);
}

const char *packet_dst(const struct packet_buf *p)
{
	static char buf[ADDRESS_TEXT_LEN];

	return endpoint_text(p, 16, 24, 2, buf);
}

unsigned packet_request(const char *vip, const char *client, unsigned word, uint8_t out[20])
{
	struct ss_opt_request4 v4 = { ss_opt_head(word, SS_REQUEST4) };
	struct ss_opt_request6 v6 = { ss_opt_head(word, SS_REQUEST6) };
	struct ss_endpoint to, from;

	assert(!endpoint_parse(vip, &to) && !endpoint_parse(client, &from));
	if (ss_addr_is_v4(&to.addr)) {
		v4.vip = to.addr.w[3];
		v4.cip = from.addr.w[3];
		v4.vport = to.port;
		v4.cport = from.port;
		memcpy(out, &v4, sizeof(v4));
		return sizeof(v4);
	}
	v6.service = ss_tag_of(&to);
	v6.client = ss_tag_of(&from);
	v6.vport = to.port;
	v6.cport = from.port;
	memcpy(out, &v6, sizeof(v6));
	return sizeof(v6);
}
