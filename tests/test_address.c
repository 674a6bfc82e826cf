// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Addresses, endpoints and prefixes: what is read, what is refused, and how they are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "address.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))
#define V4(ip)                                     \
	{                                          \
		0, 0, SS_BE32(0xffff), SS_BE32(ip) \
	}
#define V6(a, b, c, d)                                         \
	{                                                      \
		SS_BE32(a), SS_BE32(b), SS_BE32(c), SS_BE32(d) \
	}

static const struct {
	const char *why;
	const char *text; /* as it is written back, too, where written is NULL */
	const char *written;
	struct ss_addr addr;
} address_rows[] = {
	{ "IPv4", "10.0.3.2", NULL, { V4(0x0a000302) } },
	{ "IPv4, all zero", "0.0.0.0", NULL, { V4(0) } },
	{ "IPv4, all one", "255.255.255.255", NULL, { V4(0xffffffff) } },
	{ "IPv6", "fd00:99::1", NULL, { V6(0xfd000099, 0, 0, 1) } },
	{ "IPv6, any", "::", NULL, { V6(0, 0, 0, 0) } },
	{ "IPv6, capitals and zeros",
	  "FD00:0:0:0:0:0:0:00A1",
	  "fd00::a1",
	  { V6(0xfd000000, 0, 0, 0xa1) } },
	{ "IPv6, all groups",
	  "1:2:3:4:5:6:7:8",
	  NULL,
	  { V6(0x00010002, 0x00030004, 0x00050006, 0x00070008) } },
};

static void addresses(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(address_rows); i++) {
		const char *text = address_rows[i].text, *written = address_rows[i].written;
		char buf[ADDRESS_TEXT_LEN];
		struct ss_addr addr;

		if (address_parse(text, &addr))
			fail_msg("%s: refused", address_rows[i].why);
		assert_memory_equal(&addr, &address_rows[i].addr, sizeof(addr));
		assert_ptr_equal(address_format(&addr, buf), buf);
		assert_string_equal(buf, written ? written : text);
	}
}

static const struct {
	const char *why;
	const char *text;
	const char *written;
	struct ss_endpoint endpoint;
} endpoint_rows[] = {
	{ "IPv4", "10.99.0.1:80", NULL, { { V4(0x0a630001) }, SS_BE16(80), 0 } },
	{ "lowest port", "10.99.0.1:1", NULL, { { V4(0x0a630001) }, SS_BE16(1), 0 } },
	{ "highest port", "10.99.0.1:65535", NULL, { { V4(0x0a630001) }, SS_BE16(65535), 0 } },
	{ "IPv6", "[fd00:99::1]:443", NULL, { { V6(0xfd000099, 0, 0, 1) }, SS_BE16(443), 0 } },
	{ "IPv6, written long",
	  "[fd00:99:0::0:1]:443",
	  "[fd00:99::1]:443",
	  { { V6(0xfd000099, 0, 0, 1) }, SS_BE16(443), 0 } },
	{ "longest text",
	  "[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
	  NULL,
	  { { V6(0x11112222, 0x33334444, 0x55556666, 0x77778888) }, SS_BE16(65535), 0 } },
};

static void endpoints(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(endpoint_rows); i++) {
		const char *text = endpoint_rows[i].text, *written = endpoint_rows[i].written;
		char buf[ADDRESS_TEXT_LEN];
		struct ss_endpoint endpoint;

		memset(&endpoint, 0xff, sizeof(endpoint));
		if (endpoint_parse(text, &endpoint))
			fail_msg("%s: refused", endpoint_rows[i].why);
		assert_memory_equal(&endpoint, &endpoint_rows[i].endpoint, sizeof(endpoint));
		assert_ptr_equal(endpoint_format(&endpoint, buf), buf);
		assert_string_equal(buf, written ? written : text);
	}
}

static const struct {
	const char *why;
	const char *text;
	const char *written;
	struct ss_prefix prefix;
} prefix_rows[] = {
	{ "IPv4", "10.0.0.0/16", NULL, { 32 + 96 + 16, 0, 0, { V4(0x0a000000) } } },
	{ "IPv4, within a byte",
	  "10.99.160.0/19",
	  NULL,
	  { 32 + 96 + 19, 0, 0, { V4(0x0a63a000) } } },
	{ "IPv4, everything", "0.0.0.0/0", NULL, { 32 + 96, 0, 0, { V4(0) } } },
	{ "IPv4, one address", "10.0.0.1/32", NULL, { 32 + 128, 0, 0, { V4(0x0a000001) } } },
	{ "IPv4, without a slash",
	  "10.0.0.1",
	  "10.0.0.1/32",
	  { 32 + 128, 0, 0, { V4(0x0a000001) } } },
	{ "IPv6", "fd00:1::/48", NULL, { 32 + 48, 0, 0, { V6(0xfd000001, 0, 0, 0) } } },
	{ "IPv6, within a byte",
	  "fd00:1:0:8000::/49",
	  NULL,
	  { 32 + 49, 0, 0, { V6(0xfd000001, 0x00008000, 0, 0) } } },
	{ "IPv6, everything", "::/0", NULL, { 32, 0, 0, { V6(0, 0, 0, 0) } } },
	{ "IPv6, without a slash",
	  "fd00::1",
	  "fd00::1/128",
	  { 32 + 128, 0, 0, { V6(0xfd000000, 0, 0, 1) } } },
	{ "IPv6, all but a bit",
	  "fd00::2/127",
	  NULL,
	  { 32 + 127, 0, 0, { V6(0xfd000000, 0, 0, 2) } } },
};

static void prefixes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(prefix_rows); i++) {
		const char *text = prefix_rows[i].text, *written = prefix_rows[i].written;
		char buf[ADDRESS_TEXT_LEN];
		struct ss_prefix prefix;

		memset(&prefix, 0xff, sizeof(prefix));
		if (prefix_parse(text, &prefix))
			fail_msg("%s: refused", prefix_rows[i].why);
		assert_memory_equal(&prefix, &prefix_rows[i].prefix, sizeof(prefix));
		assert_ptr_equal(prefix_format(&prefix, buf), buf);
		assert_string_equal(buf, written ? written : text);
	}
}

/* A prefix that also names a port, as in a configuration's "dial", is written as an endpoint. */
static void prefix_with_port(void **state)
{
	const struct ss_prefix v4 = { 32 + 128, SS_BE16(443), 0, { V4(0x0a630001) } };
	const struct ss_prefix v6 = { 32 + 128, SS_BE16(443), 0, { V6(0xfd000099, 0, 0, 1) } };
	char buf[ADDRESS_TEXT_LEN];

	(void)state;
	assert_string_equal(prefix_format(&v4, buf), "10.99.0.1:443");
	assert_string_equal(prefix_format(&v6, buf), "[fd00:99::1]:443");
}

#define LONG "1111111111111111111111111111111111111111111111111111111111111111111111111111"

/* Refused by all three parsers, but for the one named. */
static const struct {
	const char *why;
	const char *text;
	enum { NOBODY, ADDRESS, ENDPOINT, PREFIX } taker;
} refused_rows[] = {
	{ "empty", "", NOBODY },
	{ "junk", "localhost", NOBODY },
	{ "three bytes", "10.0.0", NOBODY },
	{ "three bytes and port", "10.0.0:80", NOBODY },
	{ "five bytes", "10.0.0.0.1", NOBODY },
	{ "byte too large", "10.0.0.256", NOBODY },
	{ "byte in octal", "10.0.0.010", NOBODY },
	{ "byte in hex", "0xa.0.0.1", NOBODY },
	{ "leading blank", " 10.0.0.1:80", NOBODY },
	{ "trailing blank", "10.0.0.1:80 ", NOBODY },
	{ "IPv4-mapped", "::ffff:10.0.0.1", NOBODY },
	{ "IPv4-mapped endpoint", "[::ffff:10.0.0.1]:80", NOBODY },
	{ "IPv4-mapped prefix", "::ffff:10.0.0.0/120", NOBODY },
	{ "scope", "fe80::1%lo", NOBODY },
	{ "two ::", "fd00::1::2", NOBODY },
	{ "very long", LONG, NOBODY },
	{ "very long, with port", LONG ":80", NOBODY },
	{ "very long, with length", LONG "/8", NOBODY },
	{ "no port", "10.0.0.1:", NOBODY },
	{ "port 0", "10.0.0.1:0", NOBODY },
	{ "port 65536", "10.0.0.1:65536", NOBODY },
	{ "port beyond 32 bits", "10.0.0.1:4294967376", NOBODY },
	{ "port with +", "10.0.0.1:+80", NOBODY },
	{ "port with -", "10.0.0.1:-80", NOBODY },
	{ "port with blank", "10.0.0.1: 80", NOBODY },
	{ "port with leading 0", "10.0.0.1:080", NOBODY },
	{ "port in hex", "10.0.0.1:0x50", NOBODY },
	{ "port name", "10.0.0.1:http", NOBODY },
	{ "two ports", "10.0.0.1:80:80", NOBODY },
	{ "port only", ":80", NOBODY },
	{ "IPv4 in brackets", "[10.0.0.1]:80", NOBODY },
	{ "IPv6 without port", "[fd00::1]", NOBODY },
	{ "IPv6 with empty port", "[fd00::1]:", NOBODY },
	{ "bracket not closed", "[fd00::1:80", NOBODY },
	{ "bracket not opened", "fd00::1]:80", NOBODY },
	{ "brackets without an address", "[]:80", NOBODY },
	{ "only a bracket", "[:80", NOBODY },
	{ "IPv6 with port but without brackets", "1:2:3:4:5:6:7:8:80", NOBODY },
	{ "junk behind the bracket", "[fd00::1]x:80", NOBODY },
	{ "prefix without length", "10.0.0.0/", NOBODY },
	{ "prefix without address", "/8", NOBODY },
	{ "prefix with port", "10.0.0.0/8:80", NOBODY },
	{ "prefix length 33", "10.0.0.0/33", NOBODY },
	{ "prefix length 129", "fd00::/129", NOBODY },
	{ "prefix length with +", "10.0.0.0/+8", NOBODY },
	{ "prefix length with leading 0", "10.0.0.0/08", NOBODY },
	{ "prefix as a mask", "10.0.0.0/255.0.0.0", NOBODY },
	{ "two lengths", "10.0.0.0/8/8", NOBODY },
	{ "last bit behind the prefix", "10.0.0.1/31", NOBODY },
	{ "first bit behind the prefix", "10.128.0.0/8", NOBODY },
	{ "IPv4 bits behind length 0", "0.0.0.1/0", NOBODY },
	{ "IPv6 bits behind the prefix", "fd00::1/64", NOBODY },
	{ "IPv6 bit just behind the prefix", "fd00:0:0:1::/63", NOBODY },
	{ "a prefix only", "10.0.0.0/8", PREFIX },
	{ "an endpoint only", "10.0.0.1:80", ENDPOINT },
};

static void refused(void **state)
{
	struct ss_addr addr, addr_before;
	struct ss_endpoint endpoint, endpoint_before;
	struct ss_prefix prefix, prefix_before;

	(void)state;
	memset(&addr, 0xa5, sizeof(addr));
	memset(&endpoint, 0xa5, sizeof(endpoint));
	memset(&prefix, 0xa5, sizeof(prefix));
	addr_before = addr;
	endpoint_before = endpoint;
	prefix_before = prefix;
	for (size_t i = 0; i < ROWS(refused_rows); i++) {
		const char *text = refused_rows[i].text, *why = refused_rows[i].why;

		if (refused_rows[i].taker != ADDRESS && address_parse(text, &addr) != -EINVAL)
			fail_msg("%s: taken as an address", why);
		if (refused_rows[i].taker != ENDPOINT && endpoint_parse(text, &endpoint) != -EINVAL)
			fail_msg("%s: taken as an endpoint", why);
		if (refused_rows[i].taker != PREFIX && prefix_parse(text, &prefix) != -EINVAL)
			fail_msg("%s: taken as a prefix", why);
	}
	assert_memory_equal(&addr, &addr_before, sizeof(addr));
	assert_memory_equal(&endpoint, &endpoint_before, sizeof(endpoint));
	assert_memory_equal(&prefix, &prefix_before, sizeof(prefix));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses), cmocka_unit_test(endpoints),
		cmocka_unit_test(prefixes),  cmocka_unit_test(prefix_with_port),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
