// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What the balancer answers itself, packet in, packet out: RSTs and ICMP errors, byte by byte; what it
 * drops or leaves to its kernel, though it is for a service's address; and how many answers it sends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>
#include <net/if.h>

#include "address.h"
#include "balancer_load.h"
#include "lb_apply.h"
#include "lb_skel.h"
#include "lb_table.h"
#include "packet.h"
#include "progrun.h"

#define CLIENT4 "10.0.1.2:40000"
#define CLIENT6 "[fd00:1::2]:40000"
#define VIP4 "10.99.0.1:"
#define VIP6 "[fd00:99::1]:"
#define OWN4 "10.99.0.2:" /* the same, but the balancer has that address itself */
#define OWN6 "[fd00:99::2]:"

/* The services, by their port on both VIPs. */
#define RESET "80" /* no backend is up: these three say what comes of it */
#define UNREACHABLE "81"
#define SILENT "82"
#define NAT_RESET "84" /* unknown connections: RSTs */
#define TURNS_RESET "85"
#define TURNS_SILENT "86"
#define BY_IPIP "87" /* what is too large for these is answered */
#define BY_GUE "88"
#define ACROSS "89" /* of the other IP version than the service's */
#define BY_REWRITE "90"
#define BY_NAT "91"
#define NO_SERVICE "99"

static const struct service_row {
	const char *vip4, *vip6;
	bool udp, up, across;
	enum ss_scheduler scheduler;
	enum ss_method method;
	enum ss_answer no_backend;
	bool unknown_reset;
} service_rows[] = {
#define BOTH(port) VIP4 port, VIP6 port
	{ BOTH(RESET), .method = SS_METHOD_IPIP, .no_backend = SS_ANSWER_RESET },
	{ BOTH(UNREACHABLE), .method = SS_METHOD_IPIP, .no_backend = SS_ANSWER_UNREACHABLE },
	{ BOTH(SILENT), .method = SS_METHOD_IPIP },
	{ BOTH(UNREACHABLE), .udp = true, .method = SS_METHOD_IPIP,
	  .no_backend = SS_ANSWER_UNREACHABLE },
	{ BOTH(NAT_RESET), .up = true, .method = SS_METHOD_NAT, .unknown_reset = true,
	  .no_backend = SS_ANSWER_RESET },
	{ BOTH(TURNS_RESET), .up = true, .scheduler = SS_SCHED_ROUND_ROBIN,
	  .method = SS_METHOD_IPIP, .unknown_reset = true },
	{ BOTH(TURNS_SILENT), .up = true, .scheduler = SS_SCHED_ROUND_ROBIN,
	  .method = SS_METHOD_IPIP },
	{ BOTH(BY_IPIP), .up = true, .method = SS_METHOD_IPIP },
	{ BOTH(BY_IPIP), .up = true, .method = SS_METHOD_IPIP, .udp = true },
	{ BOTH(BY_GUE), .up = true, .method = SS_METHOD_GUE },
	{ BOTH(BY_GUE), .up = true, .method = SS_METHOD_GUE, .udp = true },
	{ BOTH(ACROSS), .up = true, .method = SS_METHOD_IPIP, .across = true },
	{ BOTH(ACROSS), .up = true, .method = SS_METHOD_GUE, .udp = true, .across = true },
	{ BOTH(BY_REWRITE), .up = true, .method = SS_METHOD_REWRITE },
	{ BOTH(BY_NAT), .up = true, .method = SS_METHOD_NAT },
	{ OWN4 RESET, OWN6 RESET, .up = true },
};
#define SERVICES (2 * ROWS(service_rows))

static void service_make(struct service_config *service, const struct service_row *row, bool ip6)
{
	const char *vip = ip6 ? row->vip6 : row->vip4;
	bool backend6 = ip6 != row->across;
	struct backend_config *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	*service = (struct service_config){ .scheduler = row->scheduler,
					    .method = row->method,
					    .no_backend = row->no_backend,
					    .unknown_reset = row->unknown_reset,
					    .flow_table = true,
					    .backends = b,
					    .backends_count = 1 };
	snprintf(service->name, sizeof(service->name), "%s%s", vip, row->udp ? "/udp" : "");
	assert_int_equal(endpoint_parse(vip, &service->vip), 0);
	service->vip.protocol = row->udp ? SS_UDP : 0;
	assert_int_equal(address_parse("10.0.3.254", &service->source[0]), 0);
	assert_int_equal(address_parse("fd00:3::254", &service->source[1]), 0);
	assert_int_equal(endpoint_parse(backend6 ? "[fd00:3::9]:80" : "10.0.3.9:80", &b->address),
			 0);
	snprintf(b->name, sizeof(b->name), "s1");
	b->weight = 100;
	b->state = row->up ? SS_BACKEND_UP : SS_BACKEND_DRAIN;
}

static void rules_set(enum ss_no_service no_service)
{
	const struct ss_lb_rules rules = { .no_service = no_service };

	assert_int_equal(lb_rules_write(&maps, &rules), 0);
}

/* Every processor may send as many answers as at the beginning. */
static void buckets_fill(void)
{
	int cpus = libbpf_num_possible_cpus();
	__u64 *zeroes = calloc(cpus, sizeof(*zeroes));

	assert_non_null(zeroes);
	for (__u32 i = 0; i < 2; i++)
		assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.answer_buckets), &i,
						     zeroes, BPF_ANY),
				 0);
	free(zeroes);
}

static int services_default(void **state)
{
	struct service_config config[SERVICES];
	struct error err = {};

	(void)state;
	for (unsigned i = 0; i < SERVICES; i++)
		service_make(&config[i], &service_rows[i / 2], i % 2);
	if (lb_services_apply(&maps, config, SERVICES, &err) < 0)
		fail_msg("%s", err.text);
	for (unsigned i = 0; i < SERVICES; i++)
		free(config[i].backends);
	rules_set(SS_NO_SERVICE_DROP);
	buckets_fill();
	return 0;
}

/* The way to clients and backends: by a0. The balancer has OWN4 and OWN6 itself. */
static int answers_setup(void **state)
{
	if (balancer_load(state))
		return -1;
	netns_private();
	shell("ip link add a0 type veth peer name a1 && ip link set a0 up && ip link set a1 up");
	shell("for i in ipv4 ipv6; do echo 1 > /proc/sys/net/$i/conf/all/forwarding; done");
	shell("ip addr add 10.0.3.254/24 dev a0 && ip addr add fd00:3::254/64 dev a0 nodad");
	shell("for a in 10.0.3.9 fd00:3::9; do ip neigh add $a dev a0 "
	      "lladdr 02:00:00:00:0a:09 nud permanent || exit 1; done");
	shell("ip route add default via 10.0.3.9 && ip -6 route add default via fd00:3::9");
	shell("ip addr add 10.99.0.2/32 dev lo && ip addr add fd00:99::2/128 dev lo nodad");
	/* TEST_RUN takes an interface only if its receive queue knows XDP. */
	assert_int_equal(bpf_xdp_attach(if_nametoindex("a0"), prog, 0, NULL), 0);
	return 0;
}

/* --- what comes out ---------------------------------------------------------------------------- */

#define ETHERNET_MIN 60

static bool is_ip6(const struct packet_buf *p)
{
	return p->bytes[p->l3] >> 4 == 6;
}

static uint32_t sum_add(uint32_t sum, const uint8_t *bytes, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		sum += i % 2 ? bytes[i] : bytes[i] << 8;
	return sum;
}

static void put16(uint8_t *at, unsigned value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

static void put_sum(uint8_t *at, uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(at, ~sum & 0xffff);
}

/* @want begins as @in does, sent back; and ends where @out does, with the same padding up to 60 bytes. */
static void frame_finish(struct packet_buf *want, const struct packet_buf *in,
			 const struct packet_buf *out)
{
	memcpy(want->bytes, in->bytes, in->l3);
	memcpy(want->bytes, in->bytes + 6, 6);
	memcpy(want->bytes + 6, in->bytes, 6);
	if (want->len < ETHERNET_MIN && out->len > want->len) {
		unsigned end = in->len < ETHERNET_MIN ? in->len : ETHERNET_MIN;

		if (end > want->len)
			memcpy(want->bytes + want->len, out->bytes + want->len, end - want->len);
		want->len = end > want->len ? end : want->len;
	}
}

/* The RST with those numbers that answers @in. */
static void reset_want(const struct packet_buf *in, const char *flags, uint32_t seq, uint32_t ack,
		       struct packet_buf *want)
{
	char src[ADDRESS_TEXT_LEN], dst[ADDRESS_TEXT_LEN];
	struct packet_spec spec = { .flags = flags, .seq = seq, .ack = ack };

	snprintf(src, sizeof(src), "%s", packet_src(in));
	snprintf(dst, sizeof(dst), "%s", packet_dst(in));
	spec.src = dst;
	spec.dst = src;
	spec.vlan = in->l3 == 18 ? 7 : 0;
	packet_build(want, &spec);
	put16(want->bytes + want->l4 + 14, 0); /* the window */
	packet_checksum(want);
}

/* The ICMP error about the packet from @at bytes into @in on. */
static void error_want(const struct packet_buf *in, unsigned at, uint8_t type, uint8_t code,
		       uint32_t rest, struct packet_buf *want)
{
	bool ip6 = in->bytes[at] >> 4 == 6;
	unsigned ip = ip6 ? 40 : 20, limit = ip6 ? 1280 - 48 : 576 - 28, quoted;
	const uint8_t *about = in->bytes + at;
	uint8_t *l3 = want->bytes + in->l3, *l4 = l3 + ip;
	uint32_t sum = 0;

	memset(want, 0, sizeof(*want));
	quoted = ip6 ? 40u + (about[4] << 8 | about[5]) : (unsigned)(about[2] << 8 | about[3]);
	quoted = quoted > limit ? limit : quoted;
	want->l3 = in->l3;
	want->l4 = in->l3 + ip;
	want->len = want->l4 + 8 + quoted;
	l4[0] = type;
	l4[1] = code;
	put32(l4 + 4, rest);
	memcpy(l4 + 8, about, quoted);
	if (ip6) {
		l3[0] = 0x60;
		put16(l3 + 4, 8 + quoted);
		l3[6] = 58;
		l3[7] = 64;
		memcpy(l3 + 8, about + 24, 16);
		memcpy(l3 + 24, about + 8, 16);
		sum = sum_add(58 + 8 + quoted, l3 + 8, 32);
	} else {
		memcpy(l3, (uint8_t[]){ 0x45, 0xc0, 0, 0, 0, 0, 0x40, 0, 64, 1 }, 10);
		put16(l3 + 2, 28 + quoted);
		memcpy(l3 + 12, about + 16, 4);
		memcpy(l3 + 16, about + 12, 4);
		ipv4_checksum(l3);
	}
	put_sum(l4 + 2, sum_add(sum, l4, 8 + quoted));
}

/* --- RSTs and "unreachable" -------------------------------------------------------------------- */

#define PAYLOAD(s) .payload = (s), .payload_len = sizeof(s) - 1
#define OPTIONS(s) .options = (s), .options_len = sizeof(s) - 1
#define LINUX "\2\4\5\xb4\4\2\x8\xa\0\0\0\1\0\0\0\0\1\3\3\7"
#define REQUEST4 "\xfd\x8\x5d\x50\xa\x63\0\1"
/* clang-format off */
#define TO4(service, letters, ...)                                                                 \
	{ .src = CLIENT4, .dst = VIP4 service, .flags = letters, .seq = 1000, .ack = 77,           \
	  ##__VA_ARGS__ }
#define TO6(service, letters, ...)                                                                 \
	{ .src = CLIENT6, .dst = VIP6 service, .flags = letters, .seq = 1000, .ack = 77,           \
	  ##__VA_ARGS__ }
/* clang-format on */
#define THEN_TCP "\6\0\1\4\0\0\0\0"
#define RST(reason, flags, seq, ack) XDP_TX, C(reason) | C(answered_reset), flags, seq, ack
#define ERROR(reason) XDP_TX, C(reason) | C(answered_unreachable), NULL
#define DROPPED(reason) XDP_DROP, C(reason)
#define NO_BACKEND drop_no_backend
#define UNKNOWN drop_no_state

static const struct row {
	const char *why;
	struct packet_case in;
	unsigned verdict;
	__u64 counters;
	const char *flags; /* of a RST; NULL: an ICMP error */
	uint32_t seq, ack;
} rows[] = {
	/* RFC 9293, 3.10.7.1: an ACK's number, or 0 and what has come. */
	{ "SYN", { TO4(RESET, "S", OPTIONS(LINUX REQUEST4)) }, RST(NO_BACKEND, "RA", 0, 1001) },
	{ "SYN without options",
	  { TO4(RESET, "S", OPTIONS(REQUEST4)) },
	  RST(NO_BACKEND, "RA", 0, 1001) },
	{ "SYN with data",
	  { TO4(RESET, "S", OPTIONS(REQUEST4), PAYLOAD("GET /")) },
	  RST(NO_BACKEND, "RA", 0, 1006) },
	{ "the last number",
	  { { .src = CLIENT4,
	      .dst = VIP4 RESET,
	      .flags = "S",
	      OPTIONS(REQUEST4),
	      .seq = 0xffffffff } },
	  RST(NO_BACKEND, "RA", 0, 0) },
	{ "ACK", { TO4(RESET, "A") }, RST(NO_BACKEND, "R", 77, 0) },
	{ "data", { TO4(RESET, "PA", PAYLOAD("0123456789")) }, RST(NO_BACKEND, "R", 77, 0) },
	{ "FIN without ACK", { TO4(RESET, "F", PAYLOAD("abc")) }, RST(NO_BACKEND, "RA", 0, 1004) },
	{ "RST", { TO4(RESET, "R") }, DROPPED(drop_no_backend) },
	{ "VLAN",
	  { TO4(RESET, "S", OPTIONS(LINUX REQUEST4), .vlan = 7) },
	  RST(NO_BACKEND, "RA", 0, 1001) },
	{ "IPv4 options",
	  { TO4(RESET, "PA", PAYLOAD("abc"), .ip_options = "\1\1\1\1", .ip_options_len = 4) },
	  RST(NO_BACKEND, "R", 77, 0) },
	{ "IPv4 options, FIN",
	  { TO4(RESET, "F", PAYLOAD("abc"), .ip_options = "\1\1\1\1", .ip_options_len = 4) },
	  RST(NO_BACKEND, "RA", 0, 1004) },
	{ "padding", { TO4(RESET, "F"), .padding = 6 }, RST(NO_BACKEND, "RA", 0, 1001) },
	{ "v6 SYN", { TO6(RESET, "S", OPTIONS(LINUX)) }, RST(NO_BACKEND, "RA", 0, 1001) },
	{ "v6 data", { TO6(RESET, "PA", PAYLOAD("0123456789")) }, RST(NO_BACKEND, "R", 77, 0) },
	{ "v6 FIN", { TO6(RESET, "F", PAYLOAD("abc")) }, RST(NO_BACKEND, "RA", 0, 1004) },
	{ "v6 VLAN", { TO6(RESET, "A", .vlan = 7) }, RST(NO_BACKEND, "R", 77, 0) },
	{ "v6 options",
	  { TO6(RESET, "F", PAYLOAD("abc"), .ip6_next = 60, .ip_options = THEN_TCP,
		.ip_options_len = 8) },
	  RST(NO_BACKEND, "RA", 0, 1004) },

	{ "unknown, nat", { TO4(NAT_RESET, "A") }, RST(UNKNOWN, "R", 77, 0) },
	{ "unknown, nat, RST", { TO4(NAT_RESET, "RA") }, DROPPED(drop_no_state) },
	{ "unknown, in turn", { TO4(TURNS_RESET, "PA", PAYLOAD("x")) }, RST(UNKNOWN, "R", 77, 0) },
	{ "unknown, silent", { TO4(TURNS_SILENT, "A") }, DROPPED(drop_no_state) },
	{ "v6 unknown, nat", { TO6(NAT_RESET, "A") }, RST(UNKNOWN, "R", 77, 0) },
	{ "v6 unknown, in turn", { TO6(TURNS_RESET, "A") }, RST(UNKNOWN, "R", 77, 0) },
	{ "v6 unknown, silent", { TO6(TURNS_SILENT, "A") }, DROPPED(drop_no_state) },

	{ "error", { TO4(UNREACHABLE, "S", OPTIONS(LINUX REQUEST4)) }, ERROR(NO_BACKEND) },
	{ "error, odd length",
	  { TO4(UNREACHABLE, "PA", PAYLOAD("0123456789a")) },
	  ERROR(NO_BACKEND) },
	{ "error, VLAN", { TO4(UNREACHABLE, "A", .vlan = 7) }, ERROR(NO_BACKEND) },
	{ "error, IPv4 options",
	  { TO4(UNREACHABLE, "A", .ip_options = "\1\1\1\1", .ip_options_len = 4) },
	  ERROR(NO_BACKEND) },
	{ "error, padding", { TO4(UNREACHABLE, "A"), .padding = 6 }, ERROR(NO_BACKEND) },
	{ "v6 error", { TO6(UNREACHABLE, "S", OPTIONS(LINUX)) }, ERROR(NO_BACKEND) },
	{ "v6 error, odd length",
	  { TO6(UNREACHABLE, "PA", PAYLOAD("0123456789a")) },
	  ERROR(NO_BACKEND) },
	{ "v6 error, VLAN", { TO6(UNREACHABLE, "A", .vlan = 7) }, ERROR(NO_BACKEND) },
	{ "silent", { TO4(SILENT, "S", OPTIONS(LINUX REQUEST4)) }, DROPPED(drop_no_backend) },
	{ "v6 silent", { TO6(SILENT, "A") }, DROPPED(drop_no_backend) },

	/* Nobody, or many, would get it. */
	{ "from everybody",
	  { TO4(RESET, "A"), POKE(IP, 12, "\xff\xff\xff\xff") },
	  DROPPED(drop_no_backend) },
	{ "from a group",
	  { TO4(RESET, "A"), POKE(IP, 12, "\xe0\0\0\1") },
	  DROPPED(drop_no_backend) },
	{ "from 0.0.0.0",
	  { TO4(UNREACHABLE, "A"), POKE(IP, 12, "\0\0\0\0") },
	  DROPPED(drop_no_backend) },
	{ "from 127.0.0.1",
	  { TO4(UNREACHABLE, "A"), POKE(IP, 12, "\x7f\0\0\1") },
	  DROPPED(drop_no_backend) },
	{ "from itself",
	  { TO4(RESET, "A"), POKE(IP, 12, "\xa\x63\0\1") },
	  DROPPED(drop_no_backend) },
	{ "to many",
	  { TO4(RESET, "A"), POKE(FRAME, 0, "\xff\xff\xff\xff\xff\xff") },
	  DROPPED(drop_no_backend) },
	{ "v6 from a group", { TO6(RESET, "A"), POKE(IP, 8, "\xff\2") }, DROPPED(drop_no_backend) },
	{ "v6 from ::1",
	  { TO6(RESET, "A"), POKE(IP, 8, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1") },
	  DROPPED(drop_no_backend) },
	{ "v6 from itself",
	  { TO6(UNREACHABLE, "A"), POKE(IP, 8, "\xfd\0\0\x99\0\0\0\0\0\0\0\0\0\0\0\1") },
	  DROPPED(drop_no_backend) },
};

/* Runs @in, as if it came in by a0, and compares what comes out with @want and what is counted. */
static void packet_run(const char *why, const struct packet_buf *in, struct packet_buf *want,
		       unsigned verdict, __u64 moved)
{
	struct packet_buf out;
	unsigned got;

	watch_start(&counters);
	got = xdp_run(prog, if_nametoindex("a0"), in, &out);
	if (got != verdict)
		row_failed(why, "verdict %u, not %u", got, verdict);
	watch_expect(&counters, moved, why);
	if (want && got == verdict) {
		frame_finish(want, in, &out);
		packet_expect(want, &out, why);
	}
}

static void port_error_want(const struct packet_buf *in, struct packet_buf *want)
{
	error_want(in, in->l3, is_ip6(in) ? 1 : 3, is_ip6(in) ? 4 : 3, 0, want);
}

static void answers(void **state)
{
	struct packet_buf in, want;

	(void)state;
	for (size_t i = 0; i < ROWS(rows); i++) {
		const struct row *row = &rows[i];

		packet_case_build(&in, &row->in);
		if (row->verdict == XDP_TX && row->flags)
			reset_want(&in, row->flags, row->seq, row->ack, &want);
		else if (row->verdict == XDP_TX)
			port_error_want(&in, &want);
		packet_run(row->why, &in, row->verdict == XDP_TX ? &want : NULL, row->verdict,
			   row->counters);
	}
	rows_done();
}

/* As much as may be is quoted, and no more, whatever the length. */
static void quotes(void **state)
{
	static const uint8_t data[1400] = { [0] = 1, [547] = 2, [1231] = 3, [1399] = 4 };
	static const unsigned lengths[] = { 0,	 1,   2,   3,	227,  228,  229,  483,
					    484, 519, 520, 521, 1183, 1184, 1185, 1400 };
	struct packet_buf in, want;
	char why[64];

	(void)state;
	for (size_t i = 0; i < ROWS(lengths); i++)
		for (int ip6 = 0; ip6 < 2; ip6++) {
			packet_build_udp(&in, ip6 ? CLIENT6 : CLIENT4,
					 ip6 ? VIP6 UNREACHABLE : VIP4 UNREACHABLE, data,
					 lengths[i]);
			port_error_want(&in, &want);
			snprintf(why, sizeof(why), "IPv%d, %u bytes by UDP", ip6 ? 6 : 4,
				 lengths[i]);
			packet_run(why, &in, &want, XDP_TX,
				   C(drop_no_backend) | C(answered_unreachable));
		}
	rows_done();
}

/* --- what is too large for the way to the backend ----------------------------------------------- */

#define MTU 1500 /* of a0 */

static const struct size_row {
	const char *why, *port;
	bool udp;
	unsigned room[2]; /* bytes of outer headers, by the service's IP version */
} size_rows[] = {
	{ "ipip", BY_IPIP, false, { 20, 40 } },
	{ "ipip, UDP", BY_IPIP, true, { 20, 40 } },
	{ "gue", BY_GUE, false, { 28, 48 } },
	{ "gue, UDP", BY_GUE, true, { 28, 48 } },
	{ "ipip, across", ACROSS, false, { 40, 20 } },
	{ "gue, across, UDP", ACROSS, true, { 48, 28 } },
	{ "rewrite", BY_REWRITE, false, { 0, 0 } },
	{ "nat", BY_NAT, false, { 0, 0 } },
};

/* A packet of @len bytes from its IP header on; of TCP with those @flags. */
static void sized_build(struct packet_buf *p, const struct size_row *row, bool ip6,
			const char *flags, unsigned len)
{
	static const uint8_t data[PACKET_MAX] = { [0] = 1, [1000] = 2 };
	unsigned headers = (ip6 ? 40 : 20) + (row->udp ? 8 : 20);
	struct packet_spec spec = { .src = ip6 ? CLIENT6 : CLIENT4, .flags = flags, .seq = 1001 };
	char vip[ADDRESS_TEXT_LEN];

	snprintf(vip, sizeof(vip), "%s%s", ip6 ? VIP6 : VIP4, row->port);
	spec.dst = vip;
	spec.payload = data;
	spec.payload_len = len - headers;
	if (row->udp)
		packet_build_udp(p, spec.src, vip, data, len - headers);
	else
		packet_build(p, &spec);
}

/* Small packets first: they begin the connection, and the balancer learns the MTU by them. */
static void sizes_run(const struct size_row *row, bool ip6)
{
	unsigned most = MTU - row->room[ip6];
	struct packet_buf in, want, out;
	char why[64];

	snprintf(why, sizeof(why), "IPv%d, %s", ip6 ? 6 : 4, row->why);
	if (!strcmp(row->port, BY_NAT)) { /* which knows connections by their SYN */
		sized_build(&in, row, ip6, "S", 60);
		xdp_run(prog, if_nametoindex("a0"), &in, &out);
	}
	for (unsigned len = most - 1; len <= most; len++) {
		sized_build(&in, row, ip6, "A", len);
		if (xdp_run(prog, if_nametoindex("a0"), &in, &out) != XDP_TX ||
		    packet_ip_end(&out) - out.l3 != len + row->room[ip6])
			row_failed(why, "%u bytes were not sent on", len);
	}
	sized_build(&in, row, ip6, "A", most + 1);
	error_want(&in, in.l3, ip6 ? 2 : 3, ip6 ? 0 : 4, most, &want);
	packet_run(why, &in, &want, XDP_TX, C(drop_too_big) | C(answered_too_big));
}

static void too_big(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(size_rows); i++)
		for (int ip6 = 0; ip6 < 2; ip6++)
			sizes_run(&size_rows[i], ip6);
	rows_done();
}

static __u64 now_ns(void)
{
	struct timespec now;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* How many of @n packets @in are answered; no less than @burst, no more than that and @rate say. */
static void limit_run(const struct packet_buf *in, unsigned n, unsigned burst, unsigned rate)
{
	unsigned sent = 0, most;
	struct packet_buf out;
	__u64 begin;

	buckets_fill();
	begin = now_ns();
	for (unsigned i = 0; i < n; i++)
		sent += xdp_run(prog, if_nametoindex("a0"), in, &out) == XDP_TX;
	most = burst + (now_ns() - begin + 20000000) * rate / 1000000000 +
	       1; /* 20: its clock stands */
	assert_in_range(sent, burst, most);
	if (most < n)
		assert_true(sent < n);
}

/* What is more than may be is dropped, and sent again once time has passed. */
static void limits(void **state)
{
	static const struct packet_spec syn = TO4(RESET, "S", OPTIONS(REQUEST4)),
					error = TO4(UNREACHABLE, "A");
	__u64 before[WATCH_MAX], *limited = &before[SS_LB_answer_limited], first;
	struct packet_buf in, out;

	(void)state;
	packet_build(&in, &error);
	watch_start(&counters);
	memcpy(before, counters.before, sizeof(before));
	first = *limited;
	limit_run(&in, 5000, 100, 1000);
	watch_start(&counters);
	assert_true(counters.before[SS_LB_answer_limited] > first);
	packet_build(&in, &syn); /* RSTs have a limit of their own */
	assert_int_equal(xdp_run(prog, if_nametoindex("a0"), &in, &out), XDP_TX);
	limit_run(&in, 20000, 1000, 10000);
	assert_int_equal(nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL), 0);
	assert_int_equal(xdp_run(prog, if_nametoindex("a0"), &in, &out), XDP_TX);
}

/* --- for a service's address, but for no service ----------------------------------------------- */

enum stray { STRAY_TCP, STRAY_UDP, STRAY_OTHER, STRAY_ICMP };

/* A packet for @dst: of TCP, UDP, GRE, or an ICMP error about nothing of ours. */
static void stray_build(enum stray kind, bool ip6, const char *dst, struct packet_buf *p)
{
	const char *src = ip6 ? CLIENT6 : CLIENT4;
	const struct packet_spec spec = { .src = src, .dst = dst, .flags = "S" };
	const struct packet_spec sent = { .src = ip6 ? VIP6 "7" : VIP4 "7",
					  .dst = src,
					  .flags = "A" };
	const struct icmp_spec error = { .src = src, .dst = dst, .type = ip6 ? 1 : 3 };
	struct packet_buf about;

	if (kind == STRAY_UDP) {
		packet_build_udp(p, src, dst, "x", 1);
		return;
	}
	packet_build(p, &spec);
	if (kind == STRAY_ICMP) {
		packet_build(&about, &sent);
		packet_build_icmp(p, &error, &about);
	} else if (kind == STRAY_OTHER) {
		p->bytes[p->l3 + (ip6 ? 6 : 9)] = 47;
		if (!ip6)
			ipv4_checksum(p->bytes + p->l3);
	}
}

static void stray_run(enum ss_no_service rule, enum stray kind, bool ip6, bool own)
{
	const char *dst = own	? ip6 ? OWN6 NO_SERVICE : OWN4 NO_SERVICE
			  : ip6 ? VIP6 NO_SERVICE
				: VIP4 NO_SERVICE;
	bool passes = own || rule == SS_NO_SERVICE_PASS;
	bool tells = rule == SS_NO_SERVICE_UNREACHABLE && kind != STRAY_ICMP;
	unsigned code4 = kind == STRAY_OTHER ? 2 : 3, code6 = kind == STRAY_OTHER ? 1 : 4;
	struct packet_buf in, want;
	char why[64];

	snprintf(why, sizeof(why), "rule %d, kind %d, IPv%d, %s", rule, kind, ip6 ? 6 : 4,
		 own ? "own" : "VIP");
	stray_build(kind, ip6, dst, &in);
	if (passes) {
		packet_run(why, &in, NULL, XDP_PASS, 0);
	} else if (tells) {
		error_want(&in, in.l3, ip6 ? 1 : 3, ip6 ? code6 : code4, 0, &want);
		packet_run(why, &in, &want, XDP_TX, C(drop_no_service) | C(answered_unreachable));
	} else {
		packet_run(why, &in, NULL, XDP_DROP, C(drop_no_service));
	}
}

static void strays(void **state)
{
	(void)state;
	for (int rule = SS_NO_SERVICE_PASS; rule <= SS_NO_SERVICE_UNREACHABLE; rule++) {
		rules_set(rule);
		for (int kind = STRAY_TCP; kind <= STRAY_ICMP; kind++)
			for (int i = 0; i < 4; i++)
				stray_run(rule, kind, i & 1, i & 2);
	}
	rows_done();
}

/* What is not for a service's address is none of ours, nor is neighbour discovery. */
static void others_pass(void **state)
{
	static const struct packet_spec elsewhere = { .src = CLIENT4,
						      .dst = "10.99.0.3:80",
						      .flags = "S" };
	static const struct icmp_spec asks = {
		.src = CLIENT6, .dst = VIP6 "1", .type = 135, .ttl = 255
	};
	static const struct packet_spec any = { .src = CLIENT6, .dst = VIP6 "80", .flags = "A" };
	struct packet_buf in, about;

	(void)state;
	packet_build(&in, &elsewhere);
	packet_run("another address", &in, NULL, XDP_PASS, 0);
	in.bytes[12] = 8;
	in.bytes[13] = 6;
	packet_run("ARP", &in, NULL, XDP_PASS, 0);
	packet_build(&about, &any);
	packet_build_icmp(&in, &asks, &about);
	packet_run("neighbour solicitation", &in, NULL, XDP_PASS, 0);
	shell("echo 0 > /proc/sys/net/ipv4/conf/a0/forwarding");
	stray_build(STRAY_TCP, false, VIP4 NO_SERVICE, &in);
	packet_run("the kernel forwards nothing", &in, NULL, XDP_PASS, 0);
	shell("echo 1 > /proc/sys/net/ipv4/conf/a0/forwarding");
	packet_run("now it does", &in, NULL, XDP_DROP, C(drop_no_service));
	rows_done();
}

/* What was configured is read back, so that a change of a backend leaves it as it is. */
static void read_back(void **state)
{
	struct service_config service;
	unsigned found = 0, of_tcp = 0;
	struct lb_services all;

	(void)state;
	assert_int_equal(lb_services_read(&maps, &all, NULL), 0);
	for (size_t j = 0; j < ROWS(service_rows); j++)
		of_tcp += !service_rows[j].udp;
	for (unsigned i = 0; i < all.count; i++)
		for (size_t j = 0; j < ROWS(service_rows); j++) {
			const struct service_row *row = &service_rows[j];

			if (strcmp(all.item[i].table.name, row->vip4) || row->udp)
				continue;
			assert_int_equal(lb_table_to_config(&all.item[i].table, &all.item[i].vip,
							    &service),
					 0);
			assert_int_equal(service.no_backend, row->no_backend);
			assert_int_equal(service.unknown_reset, row->unknown_reset);
			assert_true(lb_table_is(&all.item[i].table, &service));
			service.unknown_reset = !service.unknown_reset;
			assert_false(lb_table_is(&all.item[i].table, &service));
			service_config_done(&service);
			found++;
		}
	lb_services_done(&all);
	assert_int_equal(found, of_tcp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(answers, services_default),
		cmocka_unit_test_setup(quotes, services_default),
		cmocka_unit_test_setup(too_big, services_default),
		cmocka_unit_test_setup(limits, services_default),
		cmocka_unit_test_setup(strays, services_default),
		cmocka_unit_test_setup(others_pass, services_default),
		cmocka_unit_test_setup(read_back, services_default),
	};

	return cmocka_run_group_tests(tests, answers_setup, balancer_unload);
}
