// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * UDP services of the balancer, packet in, packet out: what its XDP program wraps, where flows go and
 * stay, and whom QUIC's connection ids name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>

#include <sidestep/counters.h>

#include "address.h"
#include "balancer_load.h"
#include "lb_apply.h"
#include "lb_maps.h"
#include "lb_skel.h"
#include "lb_table.h"
#include "map_sync.h"
#include "packet.h"
#include "progrun.h"

/* --- services ---------------------------------------------------------------------------------- */

#define VIP4 "10.99.0.1:"
#define VIP6 "[fd00:99::1]:"
#define CLIENT4 "10.0.1.2:40000"
#define CLIENT6 "[fd00:1::2]:40000"
#define SOURCE4 "10.0.2.7"
#define SOURCE6 "fd00:2::7"

/* The services, by their port on both VIPs; those at TCP's port are both. */
#define ONE "53" /* ipip, one backend */
#define ONE_GUE "54" /* gue, one backend */
#define MAGLEV "55"
#define TURNS "56"
#define RANDOM "57"
#define SOURCE "58"
#define WITHOUT "59" /* Maglev, without a flow table */
#define TCP_ONLY "80"
#define NOBODY "81" /* no backend */
#define QUIC "443" /* Maglev; backends have ids of four bytes: 1, 1, 1, 1 and so on */
#define QUIC_SHORT "444" /* of one byte */
#define QUIC_LONG "445" /* of eight */

struct service_row {
	const char *port;
	bool tcp;
	enum ss_scheduler scheduler;
	enum ss_method method;
	unsigned first, backends; /* 10.0.3.@first:5353 or [fd00:3::@first]:5353, and so on */
	bool flow_table;
	unsigned quic_id_len;
};

static const struct service_row service_rows[] = {
	{ ONE, false, SS_SCHED_MAGLEV, SS_METHOD_IPIP, 9, 1, true },
	{ ONE_GUE, false, SS_SCHED_MAGLEV, SS_METHOD_GUE, 9, 1, true },
	{ MAGLEV, false, SS_SCHED_MAGLEV, SS_METHOD_IPIP, 1, 3, true },
	{ TURNS, false, SS_SCHED_ROUND_ROBIN, SS_METHOD_GUE, 1, 3, true },
	{ RANDOM, false, SS_SCHED_RANDOM, SS_METHOD_IPIP, 1, 3, true },
	{ SOURCE, false, SS_SCHED_SOURCE_HASH, SS_METHOD_IPIP, 1, 3, true },
	{ WITHOUT, false, SS_SCHED_MAGLEV, SS_METHOD_IPIP, 1, 3, false },
	{ NOBODY, false, SS_SCHED_MAGLEV, SS_METHOD_IPIP, 1, 0, true },
	{ QUIC, false, SS_SCHED_MAGLEV, SS_METHOD_IPIP, 1, 3, true, 4 },
	{ QUIC_SHORT, false, SS_SCHED_MAGLEV, SS_METHOD_IPIP, 1, 3, true, 1 },
	{ QUIC_LONG, false, SS_SCHED_MAGLEV, SS_METHOD_IPIP, 1, 3, false, 8 },
	{ TCP_ONLY, true, SS_SCHED_MAGLEV, SS_METHOD_IPIP, 1, 3, true },
	{ TURNS, true, SS_SCHED_ROUND_ROBIN, SS_METHOD_IPIP, 11, 3, true },
};
#define SERVICES (2 * ROWS(service_rows))
#define BACKENDS_MAX 4

static const uint8_t hop_mac[6] = { 2, 0, 0, 0, 3, 1 }, own_mac[6] = { 2, 0, 0, 0, 3, 0xfe };

/* What happens to the services' backends. */
enum change { AS_THEY_WERE, S2_GOES, S2_DRAINS, S4_COMES, IDS_CHANGE, S2_DOWN };

static void service_fill(struct service_config *service, const struct service_row *row, bool ip6,
			 enum change change)
{
	unsigned n = row->backends + (change == S4_COMES);
	char text[48];

	*service = (struct service_config){ .scheduler = row->scheduler,
					    .method = row->method,
					    .flow_table = row->flow_table,
					    .quic_id_len = row->quic_id_len };
	snprintf(text, sizeof(text), "%s%s", ip6 ? VIP6 : VIP4, row->port);
	snprintf(service->name, sizeof(service->name), "%s%s", text, row->tcp ? "" : "/udp");
	assert_int_equal(endpoint_parse(text, &service->vip), 0);
	service->vip.protocol = row->tcp ? 0 : SS_UDP;
	assert_int_equal(address_parse(ip6 ? SOURCE6 : SOURCE4, &service->source[ip6]), 0);
	service->backends = calloc(BACKENDS_MAX, sizeof(*service->backends));
	assert_non_null(service->backends);
	for (unsigned i = 0; i < n; i++) {
		struct backend_config *b = &service->backends[service->backends_count];

		if (change == S2_GOES && i == 1)
			continue;
		snprintf(text, sizeof(text), ip6 ? "[fd00:3::%x]:5353" : "10.0.3.%u:5353",
			 row->first + i);
		assert_int_equal(endpoint_parse(text, &b->address), 0);
		snprintf(b->name, sizeof(b->name), "s%u", i + 1);
		b->weight = 100;
		memset(b->quic_id, row->first + i + (change == IDS_CHANGE ? 16 : 0),
		       row->quic_id_len);
		if (change == S2_DRAINS && i == 1)
			b->state = SS_BACKEND_DRAIN;
		if (change == S2_DOWN && i == 1)
			b->state = SS_BACKEND_DOWN;
		service->backends_count++;
	}
}

static void services_change(enum change change)
{
	const struct ss_lb_backend_cpu hop = lb_hop(hop_mac, own_mac);
	struct service_config config[SERVICES];
	struct error err = {};

	for (unsigned i = 0; i < SERVICES; i++)
		service_fill(&config[i], &service_rows[i / 2], i % 2, change);
	if (lb_services_apply(&maps, config, SERVICES, &err) < 0)
		fail_msg("%s", err.text);
	for (unsigned i = 0; i < SERVICES; i++)
		free(config[i].backends);
	assert_int_equal(lb_hops_fill(&maps, SERVICES * BACKENDS_MAX, &hop), 0);
}

static void flows_forget(void)
{
	int fd = bpf_map__fd(skel->maps.flows);
	struct ss_lb_flow_key key;

	while (!bpf_map_get_next_key(fd, NULL, &key))
		assert_int_equal(bpf_map_delete_elem(fd, &key), 0);
}

static int services_default(void **state)
{
	(void)state;
	flows_forget();
	services_change(AS_THEY_WERE);
	return 0;
}

/* --- what is wrapped --------------------------------------------------------------------------- */

static bool is_ip6(const struct packet_buf *p)
{
	return p->bytes[p->l3] >> 4 == 6;
}

#define IN4(port) CLIENT4, VIP4 port
#define IN6(port) CLIENT6, VIP6 port
#define DATA(s) s, sizeof(s) - 1
#define SENT XDP_TX, C(udp_forwarded)
#define PASSED XDP_PASS, 0
#define DROPPED(reason) XDP_DROP, C(reason)

static const struct frame_row {
	const char *why;
	const char *src, *dst;
	const char *payload;
	unsigned len;
	unsigned verdict;
	__u64 counters;
	struct poke poke; /* AT_TCP: the UDP header */
} frame_rows[] = {
	{ "a question", IN4(ONE), DATA("what?!"), SENT },
	{ "odd length", IN4(ONE), DATA("what?"), SENT },
	{ "no payload", IN4(ONE), DATA(""), SENT },
	{ "no checksum", IN4(ONE), DATA("what?!"), SENT, POKE(TCP, 6, "\0\0") },
	{ "gue", IN4(ONE_GUE), DATA("what?"), SENT },
	{ "gue, no checksum", IN4(ONE_GUE), DATA("what?"), SENT, POKE(TCP, 6, "\0\0") },
	{ "from a privileged port", "10.0.1.2:53", VIP4 ONE, DATA("what?"), SENT },
	{ "no backend", IN4(NOBODY), DATA("what?"), DROPPED(drop_no_backend) },
	{ "last hop", IN4(ONE), DATA("what?"), DROPPED(drop_ttl), POKE(IP, 8, "\1") },
	{ "another port", IN4("99"), DATA("what?"), PASSED },
	{ "port 0", IN4(ONE), DATA("what?"), PASSED, POKE(TCP, 2, "\0\0") },
	{ "a port of TCP alone", IN4(TCP_ONLY), DATA("what?"), PASSED },
	{ "another address", CLIENT4, "10.99.0.9:" ONE, DATA("what?"), PASSED },
	{ "length below the header's", IN4(ONE), DATA("what?"), DROPPED(drop_bad_udp),
	  POKE(TCP, 4, "\0\7") },
	{ "length 0", IN4(ONE), DATA("what?"), DROPPED(drop_bad_udp), POKE(TCP, 4, "\0\0") },
	{ "length beyond the packet", IN4(ONE), DATA("what?"), DROPPED(drop_bad_udp),
	  POKE(TCP, 4, "\0\x0e") },
	{ "ends in the header", IN4(ONE), DATA("what?"), DROPPED(drop_bad_udp),
	  POKE(IP, 2, "\0\x1b") },
	{ "another address, length 0", CLIENT4, "10.99.0.9:" ONE, DATA("what?"), PASSED,
	  POKE(TCP, 4, "\0\0") },
	{ "fragment", IN4(ONE), DATA("what?"), DROPPED(drop_fragment), POKE(IP, 6, "\x20\0") },
	{ "v6 question", IN6(ONE), DATA("what?!"), SENT },
	{ "v6 odd length", IN6(ONE), DATA("what?"), SENT },
	{ "v6 no checksum", IN6(ONE), DATA("what?"), SENT, POKE(TCP, 6, "\0\0") },
	{ "v6 gue", IN6(ONE_GUE), DATA("what?"), SENT },
	{ "v6 no backend", IN6(NOBODY), DATA("what?"), DROPPED(drop_no_backend) },
	{ "v6 last hop", IN6(ONE), DATA("what?"), DROPPED(drop_ttl), POKE(IP, 7, "\1") },
	{ "v6 another port", IN6("99"), DATA("what?"), PASSED },
	{ "v6 a port of TCP alone", IN6(TCP_ONLY), DATA("what?"), PASSED },
	{ "v6 length beyond the packet", IN6(ONE), DATA("what?"), DROPPED(drop_bad_udp),
	  POKE(TCP, 4, "\0\x0e") },
	{ "v6 length 0", IN6(ONE), DATA("what?"), DROPPED(drop_bad_udp), POKE(TCP, 4, "\0\0") },
};

static void frame_build(const struct frame_row *row, struct packet_buf *p)
{
	packet_build_udp(p, row->src, row->dst, row->payload, row->len);
	if (row->poke.len)
		memcpy(p->bytes + (row->poke.base == AT_IP ? p->l3 : p->l4) + row->poke.off,
		       row->poke.bytes, row->poke.len);
	if (row->poke.len && row->poke.base == AT_IP && !is_ip6(p))
		ipv4_checksum(p->bytes + p->l3);
}

/* One hop less inside, and an outer header that has made one hop, with the UDP source port of @out. */
static void make_wrapped(struct packet_buf *p, bool gue, const struct packet_buf *out)
{
	bool v6 = is_ip6(p);
	unsigned udp = out->l3 + (v6 ? 40 : 20);
	struct wrap_spec spec = { .src = v6 ? SOURCE6 : SOURCE4,
				  .dst = v6 ? "fd00:3::9" : "10.0.3.9",
				  .sport = gue ? out->bytes[udp] << 8 | out->bytes[udp + 1] : 0,
				  .ttl = 63 };

	p->bytes[p->l3 + (v6 ? 7 : 8)]--;
	if (!v6)
		ipv4_checksum(p->bytes + p->l3);
	packet_set_macs(p, hop_mac, own_mac);
	packet_wrap(p, &spec);
}

static void frame_run(const struct frame_row *row)
{
	struct packet_buf in, want, out;
	unsigned verdict;

	frame_build(row, &in);
	watch_start(&counters);
	verdict = xdp_run(prog, 0, &in, &out);
	if (verdict != row->verdict)
		row_failed(row->why, "verdict %u, not %u", verdict, row->verdict);
	watch_expect(&counters, row->counters, row->why);
	want = in;
	if (verdict == XDP_TX)
		make_wrapped(&want, strstr(row->dst, ":" ONE_GUE), &out);
	if (verdict != XDP_DROP)
		packet_expect(&want, &out, row->why);
}

static void frames(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(frame_rows); i++)
		frame_run(&frame_rows[i]);
	rows_done();
}

/* Cut off where the IP header does not tell, and where it does: never sent on. */
static void truncated(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(frame_rows); i++) {
		struct packet_buf whole, in, out;

		frame_build(&frame_rows[i], &whole);
		for (unsigned len = whole.l3 + 1; len < whole.len; len++) {
			unsigned at = is_ip6(&whole) ? 4 : 2, stated = len - whole.l3;

			in = whole;
			in.len = len;
			if (xdp_run(prog, 0, &in, &out) == XDP_TX)
				row_failed(frame_rows[i].why, "sent at length %u", len);
			if (is_ip6(&whole))
				stated -= stated < 40 ? stated : 40;
			in.bytes[in.l3 + at] = stated >> 8;
			in.bytes[in.l3 + at + 1] = stated & 0xff;
			if (xdp_run(prog, 0, &in, &out) == XDP_TX)
				row_failed(frame_rows[i].why, "sent, stated length %u", len);
		}
	}
	rows_done();
}

/* --- where flows go ---------------------------------------------------------------------------- */

#define FLOWS 300

/* Packet number @n of flow number @flow. */
static void flow_packet(bool ip6, const char *port, unsigned flow, unsigned n, struct packet_buf *p)
{
	char src[ADDRESS_TEXT_LEN], dst[ADDRESS_TEXT_LEN];

	snprintf(src, sizeof(src), ip6 ? "[fd00:1::%x]:%u" : "10.0.1.%u:%u", 2 + flow % 200,
		 20000 + flow);
	snprintf(dst, sizeof(dst), "%s%s", ip6 ? VIP6 : VIP4, port);
	packet_build_udp(p, src, dst, &n, sizeof(n));
}

/* Which backend gets @in; -1: none. */
static int backend_of_packet(const struct packet_buf *in)
{
	struct packet_buf out;

	if (xdp_run(prog, 0, in, &out) != XDP_TX)
		return -1;
	return out.bytes[out.l3 + (is_ip6(in) ? 39 : 19)];
}

static int backend_of(bool ip6, const char *port, unsigned flow)
{
	static unsigned n;
	struct packet_buf in;

	flow_packet(ip6, port, flow, n++, &in);
	return backend_of_packet(&in);
}

/* Who gets a router's error about what the service sent to the client of @flow. */
static int backend_of_error(bool ip6, const char *port, unsigned flow)
{
	struct icmp_spec spec = { .src = ip6 ? "[fd00:5::1]:1" : "10.0.5.1:1",
				  .dst = ip6 ? VIP6 "1" : VIP4 "1",
				  .type = ip6 ? 2 : 3,
				  .code = ip6 ? 0 : 4,
				  .quoted = 8 };
	struct packet_buf in, sent, error;

	flow_packet(ip6, port, flow, 0, &in);
	packet_build_udp(&sent, strdupa(packet_dst(&in)), strdupa(packet_src(&in)), "x", 1);
	packet_build_icmp(&error, &spec, &sent);
	return backend_of_packet(&error);
}

static const char *const tabled[] = { MAGLEV, TURNS, RANDOM, SOURCE };

/* Every backend gets flows; how many is the scheduler's matter. */
static void flows_are_spread(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(tabled) * 2; i++) {
		unsigned got[4] = {};

		for (unsigned flow = 0; flow < FLOWS; flow++) {
			int backend = backend_of(i % 2, tabled[i / 2], flow);

			assert_in_range(backend, 1, 3);
			got[backend]++;
		}
		for (unsigned b = 1; b <= 3; b++)
			if (got[b] < FLOWS / 6)
				row_failed(tabled[i / 2], "s%u got %u of %u", b, got[b], FLOWS);
	}
	rows_done();
}

/* Whatever happens to the backends, a flow that goes on stays; and so do errors about it. */
static void flows_are_kept_by(const char *port, bool ip6, enum change change)
{
	int first[FLOWS];

	services_default(NULL);
	for (unsigned flow = 0; flow < FLOWS; flow++)
		first[flow] = backend_of(ip6, port, flow);
	services_change(change);
	for (unsigned flow = 0; flow < FLOWS; flow++) {
		int now = backend_of(ip6, port, flow);

		if (first[flow] < 1 || now != first[flow])
			row_failed(port, "change %d, flow %u: from %d to %d", change, flow,
				   first[flow], now);
		if (backend_of_error(ip6, port, flow) != now)
			row_failed(port, "change %d, flow %u: errors go elsewhere", change, flow);
	}
	for (unsigned flow = FLOWS; flow < 2 * FLOWS && change != S4_COMES; flow++)
		if (backend_of(ip6, port, flow) == 2)
			row_failed(port, "change %d: a new flow goes to s2", change);
}

static void flows_are_kept(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(tabled) * 2; i++)
		for (enum change change = S2_GOES; change <= S4_COMES; change++)
			flows_are_kept_by(tabled[i / 2], i % 2, change);
	rows_done();
}

/* A backend that is down has lost its flows: they go to others, and stay there once it is back. */
static void flows_leave_by(const char *port, bool ip6)
{
	int first[FLOWS], then[FLOWS];

	services_default(NULL);
	for (unsigned flow = 0; flow < FLOWS; flow++)
		first[flow] = backend_of(ip6, port, flow);
	services_change(S2_DOWN);
	for (unsigned flow = 0; flow < FLOWS; flow++) {
		then[flow] = backend_of(ip6, port, flow);
		if (then[flow] < 1 || then[flow] == 2 ||
		    (first[flow] != 2 && then[flow] != first[flow]))
			row_failed(port, "flow %u: from %d to %d", flow, first[flow], then[flow]);
	}
	services_change(AS_THEY_WERE);
	for (unsigned flow = 0; flow < FLOWS; flow++)
		if (backend_of(ip6, port, flow) != then[flow])
			row_failed(port, "flow %u went back to s2", flow);
}

static void flows_leave(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(tabled) * 2; i++)
		flows_leave_by(tabled[i / 2], i % 2);
	rows_done();
}

/* Without the table the hash says it all: each packet alike, until the backends change. */
static void flows_without_table(void **state)
{
	unsigned lost = 0;

	(void)state;
	for (unsigned flow = 0; flow < FLOWS; flow++) {
		int first = backend_of(false, WITHOUT, flow);

		assert_int_equal(backend_of(false, WITHOUT, flow), first);
		assert_int_equal(backend_of_error(false, WITHOUT, flow), first);
		lost += first == 2;
	}
	services_change(S2_GOES);
	for (unsigned flow = 0; flow < FLOWS; flow++)
		assert_int_not_equal(backend_of(false, WITHOUT, flow), 2);
	assert_in_range(lost, FLOWS / 5, FLOWS / 2);
}

/* Without a table entry and without a hash, nobody knows whom an error is for. */
static void errors_unknown(void **state)
{
	(void)state;
	watch_start(&counters);
	assert_int_equal(backend_of_error(false, TURNS, 1), -1);
	watch_expect(&counters, C(drop_no_state), "unknown flow");
	rows_done();
}

/* The last packet of the only flow in the table was @seconds ago. */
static void flow_age(unsigned seconds)
{
	int fd = bpf_map__fd(skel->maps.flows);
	struct ss_lb_flow_key key;
	struct ss_lb_flow flow;

	assert_int_equal(bpf_map_get_next_key(fd, NULL, &key), 0);
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &flow), 0);
	flow.since -= seconds * 1000000000ULL;
	assert_int_equal(bpf_map_update_elem(fd, &key, &flow, BPF_EXIST), 0);
}

/* A flow lives while there are packets; after two minutes of silence it is a new one. */
static void flows_end(void **state)
{
	for (int ip6 = 0; ip6 < 2; ip6++) {
		int first;

		services_default(state);
		first = backend_of(ip6, TURNS, 1);
		for (int i = 0; i < 4; i++) {
			flow_age(100);
			assert_int_equal(backend_of(ip6, TURNS, 1), first);
		}
		flow_age(121);
		assert_int_not_equal(backend_of(ip6, TURNS, 1), first);
	}
}

/* A TCP connection from the same address and port to the same service is another matter. */
static void protocols_apart(void **state)
{
	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++)
		for (unsigned flow = 0; flow < FLOWS; flow++) {
			int udp = backend_of(ip6, TURNS, flow), tcp;
			struct packet_buf in, syn;
			struct packet_spec spec = { .flags = "S" };

			flow_packet(ip6, TURNS, flow, 0, &in);
			spec.src = strdupa(packet_src(&in));
			spec.dst = strdupa(packet_dst(&in));
			packet_build(&syn, &spec);
			tcp = backend_of_packet(&syn);
			assert_in_range(udp, 1, 3);
			assert_in_range(tcp, 11, 13);
			assert_int_equal(backend_of(ip6, TURNS, flow), udp);
			spec.flags = "A";
			packet_build(&syn, &spec);
			assert_int_equal(backend_of_packet(&syn), tcp);
		}
}

/* The service at @port of UDP (or TCP) is in the kernel, as it was configured. */
static bool service_is_there(const char *vip, bool tcp)
{
	struct lb_services all;
	struct ss_endpoint key;
	bool there = false;

	assert_int_equal(endpoint_parse(vip, &key), 0);
	key.protocol = tcp ? 0 : SS_UDP;
	assert_int_equal(lb_services_read(&maps, &all, NULL), 0);
	for (unsigned i = 0; i < all.count; i++)
		there |= ss_endpoint_equal(&all.item[i].vip, &key);
	lb_services_done(&all);
	return there;
}

/* UDP's service goes, TCP's at the same address and port stays. */
static void service_removed(void **state)
{
	struct service_config tcp;
	struct error err = {};

	(void)state;
	assert_true(service_is_there(VIP4 TURNS, false) && service_is_there(VIP4 TURNS, true));
	service_fill(&tcp, &service_rows[ROWS(service_rows) - 1], false, AS_THEY_WERE);
	assert_true(lb_services_apply(&maps, &tcp, 1, &err) > 0);
	free(tcp.backends);
	assert_false(service_is_there(VIP4 TURNS, false));
	assert_true(service_is_there(VIP4 TURNS, true));
	assert_int_equal(backend_of(false, TURNS, 1), -1);
}

/* --- QUIC -------------------------------------------------------------------------------------- */

#define NAMED(server) XDP_TX, C(udp_forwarded) | C(quic_routed), server
#define BY_FLOW XDP_TX, C(udp_forwarded), 0
#define V1 "\0\0\0\1"
#define V2 "\x6b\x33\x43\xcf"
#define S2 "\2\2\2\2"
#define S3 "\3\3\3\3"

static const struct quic_row {
	const char *why;
	const char *port;
	const char *payload;
	unsigned len;
	unsigned verdict;
	__u64 counters;
	int backend; /* 0: the flow's */
} quic_rows[] = {
	/* Short headers: the id begins with the second byte, and names a server from the third on. */
	{ "short header", QUIC, DATA("\x40\0" S2 "more"), NAMED(2) },
	{ "without the fixed bit", QUIC, DATA("\0\0" S3 "more"), NAMED(3) },
	{ "all of the other bits", QUIC, DATA("\x7f\x1f" S2 "more"), NAMED(2) },
	{ "another rotation", QUIC, DATA("\x40\x20" S2 "more"), NAMED(2) },
	{ "the last rotation", QUIC, DATA("\x40\xdf" S3 "more"), NAMED(3) },
	{ "unroutable", QUIC, DATA("\x40\xe0" S2 "more"), BY_FLOW },
	{ "unroutable, all bits", QUIC, DATA("\x40\xff" S2 "more"), BY_FLOW },
	{ "nobody's id", QUIC, DATA("\x40\0\2\2\2\1more"), BY_FLOW },
	{ "nothing behind the id", QUIC, DATA("\x40\0" S2), NAMED(2) },
	{ "cut within the id", QUIC, DATA("\x40\0\2\2\2"), BY_FLOW },
	{ "no id", QUIC, DATA("\x40"), BY_FLOW },
	{ "no payload", QUIC, DATA(""), BY_FLOW },
	{ "one byte", QUIC_SHORT, DATA("\x40\0\2more"), NAMED(2) },
	{ "one byte, cut", QUIC_SHORT, DATA("\x40\0"), BY_FLOW },
	{ "one byte, nobody's", QUIC_SHORT, DATA("\x40\0\4more"), BY_FLOW },
	{ "eight bytes", QUIC_LONG, DATA("\x40\0" S2 S2), NAMED(2) },
	{ "eight bytes, cut", QUIC_LONG, DATA("\x40\0" S2 "\2\2\2"), BY_FLOW },
	{ "eight bytes, four of another", QUIC_LONG, DATA("\x40\0" S2 S3), BY_FLOW },
	{ "not a QUIC service", MAGLEV, DATA("\x40\0" S2 "more"), BY_FLOW },

	/* Long headers: not the first flight, and of a version that is known. */
	{ "Initial", QUIC, DATA("\xc0" V1 "\5\0" S2 "\0more"), BY_FLOW },
	{ "0-RTT", QUIC, DATA("\xd0" V1 "\5\0" S2 "\0more"), BY_FLOW },
	{ "Handshake", QUIC, DATA("\xe0" V1 "\5\0" S2 "\0more"), NAMED(2) },
	{ "Handshake, all other bits", QUIC, DATA("\xef" V1 "\5\0" S3 "\0more"), NAMED(3) },
	{ "Retry", QUIC, DATA("\xf0" V1 "\5\0" S2 "\0more"), NAMED(2) },
	{ "version 2, Initial", QUIC, DATA("\xd0" V2 "\5\0" S2 "\0more"), BY_FLOW },
	{ "version 2, 0-RTT", QUIC, DATA("\xe0" V2 "\5\0" S2 "\0more"), BY_FLOW },
	{ "version 2, Handshake", QUIC, DATA("\xf0" V2 "\5\0" S2 "\0more"), NAMED(2) },
	{ "version 2, Retry", QUIC, DATA("\xc0" V2 "\5\0" S2 "\0more"), NAMED(2) },
	{ "version 3", QUIC, DATA("\xe0\0\0\0\3\5\0" S2 "\0more"), BY_FLOW },
	{ "version 0", QUIC, DATA("\xe0\0\0\0\0\5\0" S2 "\0more"), BY_FLOW },
	{ "a longer id", QUIC, DATA("\xe0" V1 "\x14\0" S2 "0123456789abcdef"), NAMED(2) },
	{ "long, unroutable", QUIC, DATA("\xe0" V1 "\5\xe0" S2 "\0more"), BY_FLOW },
	{ "long, a shorter id", QUIC, DATA("\xe0" V1 "\4\0" S2 "\0more"), BY_FLOW },
	{ "long, no id", QUIC, DATA("\xe0" V1 "\0\0" S2 "\0more"), BY_FLOW },
	{ "long, nothing behind the id", QUIC, DATA("\xe0" V1 "\5\0" S2), NAMED(2) },
	{ "long, cut within the id", QUIC, DATA("\xe0" V1 "\5\0\2\2\2"), BY_FLOW },
	{ "long, cut before the id", QUIC, DATA("\xe0" V1 "\5"), BY_FLOW },
	{ "long, cut within the version", QUIC, DATA("\xe0\0\0\0"), BY_FLOW },
};

/* The packet of @row from @flow's address and port, with what the id lacks as padding behind it. */
static void quic_build(const struct quic_row *row, bool ip6, unsigned flow, struct packet_buf *p)
{
	struct packet_buf model;

	flow_packet(ip6, row->port, flow, 0, &model);
	packet_build_udp(p, strdupa(packet_src(&model)), strdupa(packet_dst(&model)), row->payload,
			 row->len);
	memset(p->bytes + p->len, 2, 8);
	p->len += 8;
}

/* From whatever address it comes. */
static void quic_run(const struct quic_row *row, bool ip6)
{
	for (unsigned flow = 0; flow < 20; flow++) {
		int want = row->backend ? row->backend : backend_of(ip6, row->port, flow), got;
		struct packet_buf in;

		quic_build(row, ip6, flow, &in);
		watch_start(&counters);
		got = backend_of_packet(&in);
		watch_expect(&counters, row->counters, row->why);
		if (got != want)
			row_failed(row->why, "IPv%d flow %u: to %d, not %d", ip6 ? 6 : 4, flow, got,
				   want);
	}
}

static void quic_ids(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(quic_rows); i++)
		for (int ip6 = 0; ip6 < 2; ip6++)
			quic_run(&quic_rows[i], ip6);
	rows_done();
}

static unsigned quic_ids_known(void)
{
	struct ss_lb_quic_key key, *prev = NULL;
	unsigned n = 0;

	for (; !bpf_map_get_next_key(maps.quic_ids, prev, &key); prev = &key)
		n++;
	return n;
}

/* Who has an id keeps it while it is there, and nobody has it afterwards. */
static void quic_changes(void **state)
{
	static const struct quic_row named = { "s2", QUIC, DATA("\x40\0" S2 "more"), NAMED(2) };
	static const struct quic_row nobody = { "gone", QUIC, DATA("\x40\0" S2 "more"), BY_FLOW };
	static const struct quic_row changed = { "another id", QUIC, DATA("\x40\0\x12\x12\x12\x12"),
						 NAMED(2) };
	static const struct quic_row fourth = { "s4", QUIC, DATA("\x40\0\4\4\4\4"), NAMED(4) };
	struct error err = {};

	(void)state;
	assert_int_equal(quic_ids_known(), 3 * 2 * 3);
	services_change(S2_DRAINS);
	quic_run(&named, false);
	services_change(S2_GOES);
	quic_run(&nobody, true);
	assert_int_equal(quic_ids_known(), 3 * 2 * 2);
	services_change(S4_COMES);
	quic_run(&fourth, false);
	quic_run(&named, true);
	services_change(AS_THEY_WERE);
	services_change(IDS_CHANGE);
	quic_run(&nobody, false);
	quic_run(&changed, true);
	assert_int_equal(quic_ids_known(), 3 * 2 * 3);
	assert_true(lb_services_apply(&maps, NULL, 0, &err) > 0);
	assert_int_equal(quic_ids_known(), 0);
	rows_done();
}

/* What the kernel has is what was configured. */
static void quic_read_back(void **state)
{
	struct service_config service;
	struct lb_services all;

	(void)state;
	assert_int_equal(lb_services_read(&maps, &all, NULL), 0);
	for (unsigned i = 0; i < all.count; i++) {
		if (strcmp(all.item[i].table.name, VIP4 QUIC "/udp"))
			continue;
		assert_int_equal(lb_table_to_config(&all.item[i].table, &all.item[i].vip, &service),
				 0);
		assert_int_equal(service.quic_id_len, 4);
		assert_memory_equal(service.backends[2].quic_id, S3 "\0\0\0\0", 8);
		service_config_done(&service);
	}
	lb_services_done(&all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(frames, services_default),
		cmocka_unit_test_setup(truncated, services_default),
		cmocka_unit_test_setup(flows_are_spread, services_default),
		cmocka_unit_test(flows_are_kept),
		cmocka_unit_test(flows_leave),
		cmocka_unit_test_setup(flows_without_table, services_default),
		cmocka_unit_test_setup(errors_unknown, services_default),
		cmocka_unit_test(flows_end),
		cmocka_unit_test_setup(protocols_apart, services_default),
		cmocka_unit_test_setup(service_removed, services_default),
		cmocka_unit_test_setup(quic_ids, services_default),
		cmocka_unit_test_setup(quic_changes, services_default),
		cmocka_unit_test_setup(quic_read_back, services_default),
	};

	return cmocka_run_group_tests(tests, balancer_load, balancer_unload);
}
