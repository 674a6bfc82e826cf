// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Which SYNs come in, and which backend gets them where the scheduler's choice is not the last word,
 * packet in, packet out: the limit by source prefix; backends
 * that are held since SYNs came again, or have just come up; and what
 * the flow table says of connections that are left.
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

#include <netinet/in.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>

#include "address.h"
#include "balancer_run.h"
#include "lb_backends.h"
#include "lb_flows.h"
#include "lb_health.h"
#include "lb_limit.h"
#include "lb_maps.h"
#include "lb_table.h"
#include "packet.h"
#include "progrun.h"

/* Takes every entry out of the map @fd. */
static void map_clear(int fd)
{
	uint8_t key[64];

	while (!bpf_map_get_next_key(fd, NULL, key))
		assert_int_equal(bpf_map_delete_elem(fd, key), 0);
}

static unsigned map_count(int fd)
{
	uint8_t key[64];
	unsigned n = 0;

	for (void *prev = NULL; !bpf_map_get_next_key(fd, prev, key); prev = key)
		n++;
	return n;
}

/* The services at WEB4 and WEB6, each with @n backends. */
static void services_begin(enum ss_scheduler scheduler, unsigned n)
{
	struct service_config services[2];

	services_apply(NULL, 0);
	map_clear(bpf_map__fd(skel->maps.flows));
	service_fill(&services[0], WEB4, scheduler, n);
	service_fill(&services[1], WEB6, scheduler, n);
	for (int i = 0; i < 2; i++) {
		services[i].method = SS_METHOD_IPIP;
		services[i].flow_table = true;
	}
	services_apply(services, 2);
	for (int i = 0; i < 2; i++)
		free(services[i].backends);
	hops_fill();
}

/* --- the limit --------------------------------------------------------------------------------- */

static void limit_begin(const struct syn_limit_config *config)
{
	assert_int_equal(lb_syn_limit_write(&maps, config), 0);
	map_clear(bpf_map__fd(skel->maps.syn_buckets));
}

static int limit_end(void **state)
{
	(void)state;
	limit_begin(&(struct syn_limit_config){});
	return 0;
}

/* A packet from @source, an address; "S" is a SYN with a request, "H" with a held one, "SP" without. */
static unsigned verdict_of(const char *source, const char *flags, uint16_t port)
{
	struct packet_buf in, out;
	bool ip6 = strchr(source, ':');
	char text[ADDRESS_TEXT_LEN];

	snprintf(text, sizeof(text), ip6 ? "[%s]:%u" : "%s:%u", source, port);
	packet_from(ip6 ? WEB6 : WEB4, text, flags, false, &in);
	return xdp_run(prog, 0, &in, &out);
}

/* Of @n SYNs from @source, how many are let in; the others are counted as dropped. */
static unsigned let_in(const char *source, const char *flags, unsigned n)
{
	static uint16_t port;
	unsigned in = 0;

	for (unsigned i = 0; i < n; i++) {
		unsigned verdict;

		watch_start(&counters);
		verdict = verdict_of(source, flags, ++port);
		if (verdict == XDP_DROP)
			watch_expect(&counters, C(drop_syn_limit), source);
		in += verdict == XDP_TX;
	}
	return in;
}

/* One a second and five at once: who shares them, and who has his own. */
static const struct limit_row {
	const char *why;
	unsigned prefix4, prefix6;
	const char *first, *second;
	bool share;
} limit_rows[] = {
	{ "the same client", 24, 56, "10.0.1.2", "10.0.1.2", true },
	{ "a neighbour", 24, 56, "10.0.1.2", "10.0.1.255", true },
	{ "another network", 24, 56, "10.0.1.2", "10.0.2.2", false },
	{ "another network, /23", 23, 56, "10.0.2.2", "10.0.3.2", true },
	{ "a neighbour, /32", 32, 56, "10.0.1.2", "10.0.1.3", false },
	{ "all of IPv4's half", 1, 1, "1.0.1.2", "100.0.1.3", true },
	{ "v6 the same client", 24, 56, "fd00:1::2", "fd00:1::2", true },
	{ "v6 the same /56", 24, 56, "fd00:1::2", "fd00:1:0:ff:1:2:3:4", true },
	{ "v6 the next /56", 24, 56, "fd00:1::2", "fd00:1:0:100::2", false },
	{ "v6 the same /64", 24, 64, "fd00:1::2", "fd00:1::1:0:0:9", true },
	{ "v6 the next /64", 24, 64, "fd00:1::2", "fd00:1:0:1::2", false },
	{ "v6 a neighbour, /128", 32, 128, "fd00:1::2", "fd00:1::3", false },
	{ "v6 and v4", 1, 1, "fd00:1::2", "10.0.1.2", false },
};

static void limit_by_prefix(void **state)
{
	(void)state;
	services_begin(SS_SCHED_MAGLEV, 2);
	for (size_t i = 0; i < ROWS(limit_rows); i++) {
		const struct limit_row *row = &limit_rows[i];
		unsigned first, second;

		limit_begin(&(struct syn_limit_config){ 1, 5, row->prefix4, row->prefix6 });
		first = let_in(row->first, "S", 10);
		second = let_in(row->second, "S", 10);
		if (first != 5 || second != (row->share ? 0 : 5))
			row_failed(row->why, "%u, then %u SYNs are let in", first, second);
	}
	rows_done();
}

/*
 * SYNs alike, with a request, a held one, without and sent again, use it up; other packets do not, nor does it
 * stop them.
 */
static void limit_of_what(void **state)
{
	static const char *const sources[] = { "10.0.1.2", "fd00:1::2" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		services_begin(SS_SCHED_MAGLEV, 2);
		limit_begin(&(struct syn_limit_config){ 1, 4, 24, 56 });
		for (int n = 0; n < 10; n++)
			assert_int_equal(verdict_of(sources[i], "A", 1000), XDP_TX);
		map_clear(bpf_map__fd(skel->maps.flows));
		assert_int_equal(let_in(sources[i], "S", 2), 2);
		assert_int_equal(let_in(sources[i], "H", 1), 1);
		assert_int_equal(let_in(sources[i], "SP", 9), 1);
		/* dropped before anything is remembered of it */
		assert_int_equal(map_count(bpf_map__fd(skel->maps.flows)), 2);
		assert_int_equal(let_in(sources[i], "S", 1), 0);
		assert_int_equal(let_in(sources[i], "H", 1), 0);
		assert_int_equal(verdict_of(sources[i], "A", 1000), XDP_TX);
	}
	rows_done();
}

/* @ns before @time, if there was such a time; 0, never, stays. */
static __u64 earlier(__u64 time, __u64 ns)
{
	if (!time)
		return 0;
	return time > ns ? time - ns : 1;
}

/* As if the last SYN of the only prefix had come @ms earlier. */
static void limit_wait(unsigned ms)
{
	int fd = bpf_map__fd(skel->maps.syn_buckets);
	struct ss_addr key;
	__u64 full;

	assert_int_equal(bpf_map_get_next_key(fd, NULL, &key), 0);
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &full), 0);
	full = earlier(full, ms * 1000000ULL);
	assert_int_equal(bpf_map_update_elem(fd, &key, &full, BPF_EXIST), 0);
}

/* Tokens come back at the rate, and no more than the burst of them; what was dropped costs none. */
static void limit_refills(void **state)
{
	(void)state;
	services_begin(SS_SCHED_MAGLEV, 2);
	limit_begin(&(struct syn_limit_config){ 1, 5, 24, 56 });
	assert_int_equal(let_in("10.0.1.2", "S", 100), 5);
	limit_wait(2000);
	assert_int_equal(let_in("10.0.1.2", "S", 10), 2);
	limit_wait(1000);
	assert_int_equal(let_in("10.0.1.2", "S", 10), 1);
	limit_wait(1000000);
	assert_int_equal(let_in("10.0.1.2", "S", 10), 5);
	rows_done();
}

static void limit_off(void **state)
{
	(void)state;
	services_begin(SS_SCHED_MAGLEV, 2);
	limit_begin(&(struct syn_limit_config){ 1, 1, 24, 56 });
	assert_int_equal(let_in("10.0.1.2", "S", 2), 1);
	limit_begin(&(struct syn_limit_config){});
	assert_int_equal(let_in("10.0.1.2", "S", 1000), 1000);
	assert_int_equal(map_count(bpf_map__fd(skel->maps.syn_buckets)), 0);
	rows_done();
}

/* --- connections that are left ------------------------------------------------------------------ */

static const char *const vips[] = { WEB4, WEB6 };

/* What is counted for backend number @n of the service at @vip. */
static struct lb_left left_of(const char *vip, unsigned n)
{
	static struct lb_left left[SS_LB_IDS];
	int id = backend_id(vip, n);

	memset(left, 0, sizeof(left));
	assert_in_range(id, 0, SS_LB_IDS - 1);
	left[id] = (struct lb_left){ true, backend_read(id).owner };
	assert_int_equal(lb_flows_count(&maps, left), 0);
	for (int i = 0; i < SS_LB_IDS; i++)
		assert_true(i == id || !left[i].connections);
	return left[id];
}

/* As if the last packet of each connection had come @seconds earlier. */
static void flows_wait(unsigned seconds)
{
	static struct ss_lb_flow_key keys[32768]; /* all of them first: an update moves an entry */
	int fd = bpf_map__fd(skel->maps.flows);
	struct ss_lb_flow flow;
	unsigned n = 0;

	while (!bpf_map_get_next_key(fd, n ? &keys[n - 1] : NULL, &keys[n]))
		assert_true(++n < ROWS(keys));
	while (n--) {
		assert_int_equal(bpf_map_lookup_elem(fd, &keys[n], &flow), 0);
		flow.used -= SS_LB_TICK(seconds * 1000000000ULL);
		assert_int_equal(bpf_map_update_elem(fd, &keys[n], &flow, BPF_EXIST), 0);
	}
}

/* A connection's packets, how long after the last one it counts, and when it does not any more. */
static const struct left_row {
	const char *why;
	const char *packets[4];
	unsigned seconds;
} left_rows[] = {
	{ "a SYN", { "SP" }, 240 },
	{ "the same again", { "SP", "SP" }, 240 },
	{ "an ACK", { "SP", "A" }, 7440 },
	{ "an ACK without a SYN", { "A" }, 7440 },
	{ "data", { "SP", "PA" }, 7440 },
	{ "the client's FIN", { "SP", "A", "FA" }, 60 },
	{ "ACKs behind it", { "SP", "FA", "A", "A" }, 60 },
	{ "a RST", { "SP", "A", "RA" }, 60 },
	{ "a FIN alone", { "FA" }, 60 },
	{ "the second choice's SYN", { "retry" }, 240 },
	{ "it was redirected", { "S" }, 0 },
	{ "a SYN whose request is held", { "H" }, 240 },
	{ "the same, sent again", { "H", "H" }, 240 },
	{ "an ACK behind it", { "H", "A" }, 7440 },
};

static void left_run(const struct left_row *row, const char *vip)
{
	struct packet_buf in, out;
	unsigned backend = 0;
	struct lb_left left;

	services_begin(SS_SCHED_MAGLEV, 2);
	for (int i = 0; i < 4 && row->packets[i]; i++) {
		bool retry = !strcmp(row->packets[i], "retry");

		flow_packet(vip, 1, retry ? "S" : row->packets[i], retry, &in);
		assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
		backend = out.bytes[out.l3 + (vip[0] == '[' ? 39 : 19)];
	}
	left = left_of(vip, backend);
	if (left.connections != (row->seconds > 0) || left.quiet > 2)
		row_failed(row->why, "%s: %u connections at once", vip, left.connections);
	flows_wait(row->seconds - 5);
	left = left_of(vip, backend);
	if (row->seconds &&
	    (left.connections != 1 || left.quiet > row->seconds || left.quiet < row->seconds - 8))
		row_failed(row->why, "%s: %u connections, quiet for %u s", vip, left.connections,
			   left.quiet);
	flows_wait(10);
	if (left_of(vip, backend).connections)
		row_failed(row->why, "%s: too long", vip);
}

static void left_for_how_long(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(left_rows); i++)
		for (size_t v = 0; v < ROWS(vips); v++)
			left_run(&left_rows[i], vips[v]);
	rows_done();
}

/* Many, of which some come back to life. */
static void left_of_many(void **state)
{
	unsigned sent[3] = {}, again = 0, one = 0;
	struct packet_buf in, out;
	struct lb_left left;

	(void)state;
	services_begin(SS_SCHED_MAGLEV, 2);
	for (unsigned flow = 0; flow < 20000; flow++) {
		flow_packet(WEB4, flow, "SP", false, &in);
		assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
		sent[out.bytes[out.l3 + 19]]++;
	}
	assert_int_equal(left_of(WEB4, 1).connections, sent[1]);
	assert_int_equal(left_of(WEB4, 2).connections, sent[2]);
	flows_wait(1000);
	for (unsigned flow = 0; flow < 100; flow++) {
		flow_packet(WEB4, flow, "A", false, &in);
		assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
		again += out.bytes[out.l3 + 19] == 2;
		one = out.bytes[out.l3 + 19] == 2 ? flow : one;
	}
	flows_wait(100);
	flow_packet(WEB4, one, "A", false, &in);
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
	left = left_of(WEB4, 2);
	assert_int_equal(left.connections, again);
	assert_in_range(left.quiet, 0, 2);
}

/* UDP's flows are over when the balancer forgets them. */
static void left_of_udp(void **state)
{
	struct service_config service;
	struct packet_buf in, out;
	const int id = 0; /* the first */
	struct lb_left *left = calloc(SS_LB_IDS, sizeof(*left));
	static const unsigned waits[] = { 0, 50, 60, 20 }, expected[] = { 1, 1, 1, 0 };

	(void)state;
	assert_non_null(left);
	services_apply(NULL, 0);
	map_clear(maps.flows);
	service_fill(&service, WEB4, SS_SCHED_MAGLEV, 1);
	service.vip.protocol = service.backends[0].address.protocol = IPPROTO_UDP;
	service.method = SS_METHOD_IPIP;
	service.flow_table = true;
	services_apply(&service, 1);
	hops_fill();
	packet_build_udp(&in, "10.0.1.2:1", WEB4, "x", 1);
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
	for (size_t i = 0; i < ROWS(waits); i++) {
		flows_wait(waits[i]);
		left[id] = (struct lb_left){ true, lb_backend_owner(&service.backends[0].address) };
		assert_int_equal(lb_flows_count(&maps, left), 0);
		assert_int_equal(left[id].connections, expected[i]);
	}
	free(service.backends);
	free(left);
}

/* A service whose only backend is another one, and has the id @id. */
static void service_of_another(int id)
{
	struct service_config service;

	service_fill(&service, WEB6, SS_SCHED_MAGLEV, 1);
	services_apply(&service, 1);
	free(service.backends);
	assert_int_equal(backend_id(WEB6, 1), id);
}

/* Another backend that has got the id of one that is gone does not inherit its connections. */
static void left_of_whom(void **state)
{
	struct packet_buf in, out;
	struct lb_left left;
	int id;

	(void)state;
	services_begin(SS_SCHED_MAGLEV, 1);
	flow_packet(WEB4, 1, "A", false, &in);
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
	assert_int_equal(left_of(WEB4, 1).connections, 1);
	id = backend_id(WEB4, 1);
	services_apply(NULL, 0);
	service_of_another(id);
	left = left_of(WEB6, 1);
	assert_int_equal(left.connections, 0);
}

/* --- backends that do not answer, and that have just come up ---------------------------------------- */

static const struct suspect_config suspect = { 5, 50, 10 };
static const struct suspect_config suspect_long = { 5, 50,
						    60 }; /* longer than a slow machine's test */

/* Services at WEB4 and WEB6 with the backends of the set bits of @up, the others of three are down. */
static void diverting_apply(enum ss_scheduler scheduler, unsigned up, unsigned slow_start,
			    const struct suspect_config *suspects)
{
	struct service_config services[2];

	for (int i = 0; i < 2; i++) {
		service_fill(&services[i], vips[i], scheduler, 3);
		services[i].method = SS_METHOD_IPIP;
		services[i].flow_table = true;
		services[i].slow_start = slow_start;
		if (suspects)
			services[i].suspect = *suspects;
		for (int b = 0; b < 3; b++)
			services[i].backends[b].state =
				up >> b & 1 ? SS_BACKEND_UP : SS_BACKEND_DOWN;
	}
	services_apply(services, 2);
	for (int i = 0; i < 2; i++)
		free(services[i].backends);
	hops_fill();
}

static void diverting_begin(enum ss_scheduler scheduler, unsigned up, unsigned slow_start,
			    const struct suspect_config *suspects)
{
	services_apply(NULL, 0);
	map_clear(bpf_map__fd(skel->maps.flows));
	diverting_apply(scheduler, up, slow_start, suspects);
}

static struct ss_lb_health health_of(const char *vip, unsigned n)
{
	struct ss_lb_health h;

	lb_health_read(&maps, backend_id(vip, n), &h);
	return h;
}

/* As if @seconds had gone by for backend number @n. */
static void health_wait(const char *vip, unsigned n, unsigned seconds)
{
	struct ss_lb_health h = health_of(vip, n);
	__u64 ns = seconds * 1000000000ULL;
	int id = backend_id(vip, n);

	h.up_since = earlier(h.up_since, ns);
	h.window_end = earlier(h.window_end, ns);
	h.held_until = earlier(h.held_until, ns);
	assert_int_equal(bpf_map_update_elem(maps.health, &id, &h, BPF_EXIST), 0);
}

/* No SYN has been counted for it lately. */
static void health_uncount(const char *vip, unsigned n)
{
	struct ss_lb_health h = health_of(vip, n);
	int id = backend_id(vip, n);

	h.syns = h.unanswered = h.syns_before = h.unanswered_before = 0;
	assert_int_equal(bpf_map_update_elem(maps.health, &id, &h, BPF_EXIST), 0);
}

/* A packet of @flow; the backend that it gets. */
static unsigned sent_to(const char *vip, unsigned flow, const char *flags, bool retry)
{
	struct packet_buf in, out;

	flow_packet(vip, flow, flags, retry, &in);
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
	return out.bytes[out.l3 + (vip[0] == '[' ? 39 : 19)];
}

/* Number @n from @from on of the flows whose SYN backend 1 gets by the scheduler; with nobody held. */
static unsigned flow_of_first(const char *vip, unsigned from)
{
	while (sent_to(vip, from, "A", false) != 1)
		from++;
	return from;
}

/* Which backends get the SYNs of the flows from @from on: counts. */
static void shares_of(const char *vip, const char *flags, unsigned from, unsigned n,
		      unsigned got[4])
{
	memset(got, 0, 4 * sizeof(*got));
	for (unsigned flow = from; flow < from + n; flow++)
		got[sent_to(vip, flow, flags, false)]++;
}

/* SYNs with a request, a held one, or none, to backend 1, of which the first @again come again. */
static void first_does_not_answer(const char *vip, const char *flags, unsigned n, unsigned again)
{
	unsigned flow = 0;

	for (unsigned i = 0; i < n; i++, flow++) {
		while (sent_to(vip, flow, flags, false) != 1)
			assert_true(++flow < 60000);
		if (i < again)
			sent_to(vip, flow, flags, true);
	}
}

static const char *const syns[] = { "S", "SP", "H" };

/* One that leaves enough SYNs without an answer gets none for a while; its connections go on. */
static void suspect_is_held(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++) {
		const char *vip = vips[i & 1], *flags = syns[i >> 1];
		unsigned got[4], known;

		diverting_begin(SS_SCHED_MAGLEV, 7, 0, &suspect);
		known = flow_of_first(vip, 50000);
		first_does_not_answer(vip, flags, 4, 4);
		assert_int_equal(health_of(vip, 1).holds, 0);
		first_does_not_answer(vip, flags, 1, 1);
		assert_int_equal(health_of(vip, 1).holds, 1);
		shares_of(vip, flags, 10000, 600, got);
		assert_int_equal(got[1], 0);
		assert_in_range(got[2], 230, 370); /* what it does not get is shared */
		assert_int_equal(sent_to(vip, known, "A", false), 1);
		/* packets behind a diverted SYN follow it */
		for (unsigned flow = 10000; flow < 10100; flow++)
			assert_int_not_equal(sent_to(vip, flow, "A", false), 1);
		assert_int_equal(health_of(vips[!(i & 1)], 1).holds, 0);
	}
}

/* A part of many SYNs is not enough; nor is anything if it is not configured. */
static void suspect_by_share(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		const char *vip = vips[i & 1], *flags = syns[i >> 1];

		diverting_begin(SS_SCHED_MAGLEV, 7, 0, &suspect);
		first_does_not_answer(vip, flags, 40, 0);
		map_clear(bpf_map__fd(skel->maps.flows));
		first_does_not_answer(vip, flags, 19, 19);
		assert_int_equal(health_of(vip, 1).holds, 0);
		/* those of the window before still count, those of another do not */
		health_wait(vip, 1, 11);
		map_clear(bpf_map__fd(skel->maps.flows));
		first_does_not_answer(vip, flags, 6, 6);
		assert_int_equal(health_of(vip, 1).holds, 0);
		health_wait(vip, 1, 100);
		map_clear(bpf_map__fd(skel->maps.flows));
		first_does_not_answer(vip, flags, 5, 5);
		assert_int_equal(health_of(vip, 1).holds, 1);
		diverting_begin(SS_SCHED_MAGLEV, 7, 0, NULL);
		first_does_not_answer(vip, flags, 50, 50);
		assert_int_equal(health_of(vip, 1).holds, 0);
	}
}

/* After the hold every eighth SYN tries; one without an answer prolongs it, a good window ends it. */
static void suspect_is_tried(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		const char *vip = vips[i];
		unsigned got[4], flow = 20000;

		diverting_begin(SS_SCHED_MAGLEV, 1, 0, &suspect);
		diverting_apply(SS_SCHED_MAGLEV, 7, 0, &suspect);
		first_does_not_answer(vip, "S", 5, 5);
		health_wait(vip, 1, 11);
		shares_of(vip, "S", 10000, 2400, got);
		assert_in_range(got[1], 70, 170); /* it is looked at for others' SYNs, too */
		health_wait(vip, 1, 9);
		while (sent_to(vip, flow, "S", false) != 1)
			assert_true(++flow < 60000);
		health_wait(vip, 1, 11);
		diverting_apply(SS_SCHED_MAGLEV, 7, 0, &suspect);
		shares_of(vip, "S", 30000, 100, got);
		shares_of(vip, "S", 30100, 600, got);
		assert_in_range(got[1], 150, 250); /* passed */

		health_uncount(vip, 1);
		first_does_not_answer(vip, "S", 5, 5);
		assert_int_equal(health_of(vip, 1).holds, 2);
		health_wait(vip, 1, 11); /* the second takes longer */
		shares_of(vip, "S", 40000, 600, got);
		assert_int_equal(got[1], 0);
		health_wait(vip, 1, 10);
		map_clear(bpf_map__fd(skel->maps.flows));
		first_does_not_answer(vip, "S", 1, 1);
		assert_int_equal(health_of(vip, 1).holds, 3);
	}
}

/* If nobody is left, everybody is. */
static void suspects_all(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		unsigned got[4];

		diverting_begin(SS_SCHED_MAGLEV, 7, 0, &suspect);
		for (unsigned flow = 0; flow < 2000; flow++) {
			sent_to(vips[i], flow, "S", false);
			sent_to(vips[i], flow, "S", true);
		}
		for (unsigned n = 1; n <= 3; n++)
			assert_int_equal(health_of(vips[i], n).holds, 1);
		shares_of(vips[i], "S", 10000, 600, got);
		for (unsigned n = 1; n <= 3; n++)
			assert_in_range(got[n], 150, 250);
	}
}

/* A SYN that was diverted and comes again goes to a third; its second choice is told to be silent. */
static void diverted_again(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		unsigned flow = flow_of_first(vips[i], 1000), got;
		struct ss_lb_health before[4], after[4];

		diverting_begin(SS_SCHED_MAGLEV, 7, 0, &suspect_long);
		first_does_not_answer(vips[i], "S", 5, 5);
		for (int n = 0; n < 100; n++, flow = flow_of_first(vips[i], flow + 1)) {
			map_clear(bpf_map__fd(skel->maps.flows));
			got = sent_to(vips[i], flow, "S", false);
			assert_int_not_equal(got, 1);
			for (unsigned b = 1; b <= 3; b++)
				before[b] = health_of(vips[i], b);
			assert_int_not_equal(sent_to(vips[i], flow, "S", true), got);
			for (unsigned b = 1; b <= 3; b++)
				after[b] = health_of(vips[i], b);
			assert_int_equal(after[got].unanswered + after[got].holds * 1000,
					 before[got].unanswered + before[got].holds * 1000 + 1);
			health_wait(vips[i], got, 8 * 60 + 1);
		}
	}
}

/* For so many seconds after a backend has come up: what it gets of 3000 SYNs, with 100 of slow start. */
static const unsigned slow_rows[] = { 0, 5, 25, 50, 75, 101 };

/* How many that should be just now; a slow machine takes seconds for its SYNs. */
static unsigned slow_share(const char *vip, unsigned n)
{
	struct timespec now;
	double age;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC_COARSE, &now), 0);
	age = now.tv_sec + now.tv_nsec / 1e9 - health_of(vip, n).up_since / 1e9;
	age = age < 100.0 / 16 ? 100.0 / 16 : age;
	return 10 * (age > 100 ? 100 : age);
}

static void slow_start_grows(void **state)
{
	static const enum ss_scheduler schedulers[] = { SS_SCHED_MAGLEV, SS_SCHED_RANDOM,
							SS_SCHED_ROUND_ROBIN };

	(void)state;
	for (int i = 0; i < 12; i++) {
		const char *vip = vips[i & 1], *flags = syns[i >> 1 & 1];

		diverting_begin(schedulers[i >> 2], 6, 100, NULL);
		diverting_apply(schedulers[i >> 2], 7, 100, NULL);
		for (size_t row = 0; row < ROWS(slow_rows); row++) {
			unsigned got[4], least, most;

			map_clear(bpf_map__fd(skel->maps.flows));
			health_wait(vip, 1, slow_rows[row] - (row ? slow_rows[row - 1] : 0));
			least = slow_share(vip, 1);
			shares_of(vip, flags, 0, 3000, got);
			most = slow_share(vip, 1);
			if (got[1] + 30 + most / 15 < least || got[1] > most + 30 + most / 15)
				row_failed(vip, "%s, %u seconds: %u SYNs, not %u to %u", flags,
					   slow_rows[row], got[1], least, most);
			if (abs((int)got[2] - (int)got[3]) > 250)
				row_failed(vip, "the others: %u and %u", got[2], got[3]);
		}
	}
	rows_done();
}

/* None for a service that is new, or had no other backends, or when only a weight or name changes. */
static void slow_start_of_whom(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		unsigned got[4];

		diverting_begin(SS_SCHED_MAGLEV, 7, 100, NULL);
		shares_of(vips[i], "S", 0, 300, got);
		assert_in_range(got[1], 70, 130);
		diverting_begin(SS_SCHED_MAGLEV, 0, 100, NULL);
		diverting_apply(SS_SCHED_MAGLEV, 1, 100, NULL);
		assert_int_equal(health_of(vips[i], 1).up_since, 0);
		diverting_apply(SS_SCHED_MAGLEV, 3, 100, NULL);
		assert_int_equal(health_of(vips[i], 1).up_since, 0);
		assert_true(health_of(vips[i], 2).up_since > 0);
		health_wait(vips[i], 2, 101);
		diverting_apply(SS_SCHED_MAGLEV, 7, 100, &suspect);
		assert_true(health_of(vips[i], 3).up_since > health_of(vips[i], 2).up_since);
		diverting_apply(SS_SCHED_MAGLEV, 7, 0, NULL);
		assert_int_equal(map_count(maps.health), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(suspect_is_held),
		cmocka_unit_test(suspect_by_share),
		cmocka_unit_test(suspect_is_tried),
		cmocka_unit_test(suspects_all),
		cmocka_unit_test(diverted_again),
		cmocka_unit_test(slow_start_grows),
		cmocka_unit_test(slow_start_of_whom),
		cmocka_unit_test(left_for_how_long),
		cmocka_unit_test(left_of_many),
		cmocka_unit_test(left_of_udp),
		cmocka_unit_test(left_of_whom),
		cmocka_unit_test_teardown(limit_by_prefix, limit_end),
		cmocka_unit_test_teardown(limit_of_what, limit_end),
		cmocka_unit_test_teardown(limit_refills, limit_end),
		cmocka_unit_test_teardown(limit_off, limit_end),
	};

	return cmocka_run_group_tests(tests, balancer_load, balancer_unload);
}
