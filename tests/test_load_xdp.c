// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Servers' reports of their load, packet in, packet out: which ones the balancer's XDP program takes in,
 * what it knows then, and where its schedulers by load send SYNs.
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

#include <sidestep/counters.h>
#include <sidestep/option.h>

#include "address.h"
#include "balancer_run.h"
#include "lb_apply.h"
#include "packet.h"
#include "progrun.h"
#include "report.h"

/* --- services ---------------------------------------------------------------------------------- */

/* The two services, with two backends each, and nothing reported. */
static int services_default(void **state)
{
	struct service_config services[2];

	(void)state;
	services_apply(NULL, 0);
	service_fill(&services[0], WEB4, SS_SCHED_MAGLEV, 2);
	service_fill(&services[1], WEB6, SS_SCHED_MAGLEV, 2);
	services_apply(services, 2);
	for (int i = 0; i < 2; i++)
		free(services[i].backends);
	return 0;
}

/* What is known of that backend's load: open connections; -1: nothing that counts. */
static long known_open(const char *vip, unsigned n)
{
	struct ss_lb_load load;

	return lb_load_read(&maps, backend_id(vip, n), &load) ? (long)load.open : -1;
}

/* --- reports ----------------------------------------------------------------------------------- */

#define BALANCER4 "10.0.2.2:7946"
#define BALANCER6 "[fd00:2::2]:7946"
#define PORT 7946

static uint64_t began; /* UTC in ns, when the tests began */
static int64_t tai_ahead; /* of UTC, in ns */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static const struct ss_lb_report_rules rules = {
	.key = { { 0x1122334455667788, 0x99aabbccddeeff00 } }, .port = SS_BE16(PORT)
};

/* Reports are taken by the balancer's addresses. */
static int reports_accept(void)
{
	struct ss_endpoint own4, own6;

	assert_int_equal(endpoint_parse(BALANCER4, &own4), 0);
	assert_int_equal(endpoint_parse(BALANCER6, &own6), 0);
	return lb_reports_accept(&maps, &rules, (struct ss_addr[]){ own4.addr, own6.addr }, 2);
}

/* A report that s1, a backend of both services, sends about one of them. */
struct report_spec {
	const char *vip;
	const char *source; /* of the packet; NULL: s1 */
	const char *from; /* whom it names; NULL: s1 */
	const char *to; /* NULL: the balancer */
	unsigned entries; /* 0: 1; the others are about services that do not exist */
	unsigned listen; /* 0: where s1 is a backend */
	unsigned open;
	uint64_t time; /* ns since the tests began */
	int64_t ahead; /* seconds that the sender's clock is */
	bool last; /* the highest of all times */
	unsigned interval; /* 0: 1000 */
	const struct ss_sip_key *key; /* NULL: the right one */
	const char *key_of; /* whose key; NULL: that of whom it names */
};

static unsigned report_build(const struct report_spec *spec, struct report_buf *buf)
{
	bool ip6 = spec->vip[0] == '[';
	const char *s1 = ip6 ? "[fd00:3::1]:9" : "10.0.3.1:9";
	unsigned entries = spec->entries ? spec->entries : 1;
	struct ss_endpoint from, whose, vip;
	struct ss_sip_key key;

	memset(buf, 0, sizeof(*buf));
	assert_int_equal(endpoint_parse(spec->from ? spec->from : s1, &from), 0);
	assert_int_equal(endpoint_parse(spec->vip, &vip), 0);
	for (unsigned i = 0; i < entries && i < SS_REPORT_ENTRIES; i++) {
		struct ss_report_entry *entry = &buf->report.entry[i];

		entry->vip = vip;
		entry->vip.port = i + 1 == entries ? vip.port : SS_BE16(1000 + i);
		entry->listen = SS_BE16(spec->listen ? spec->listen : ip6 ? 80 : 8080);
		entry->open = SS_BE32(spec->open);
	}
	whose = from;
	if (spec->key_of)
		assert_int_equal(endpoint_parse(spec->key_of, &whose), 0);
	key = spec->key ? *spec->key : ss_report_key(&rules.key, &whose.addr);
	return report_finish(buf, &from.addr, entries,
			     spec->last ? UINT64_MAX
					: began + spec->time + spec->ahead * 1000000000LL,
			     spec->interval ? spec->interval : 1000, &key);
}

static void report_packet(const struct report_spec *spec, const void *payload, unsigned len,
			  struct packet_buf *p)
{
	bool ip6 = spec->vip[0] == '[';
	const char *source = spec->source ? spec->source : ip6 ? "[fd00:3::1]:9" : "10.0.3.1:9";

	packet_build_udp(p, source,
			 spec->to ? spec->to
			 : ip6	  ? BALANCER6
				  : BALANCER4,
			 payload, len);
}

/* Sends the report; complains unless it is counted as @counter (0: passed, as none of ours). */
static void report_send(const struct report_spec *spec, __u64 counter, const char *why)
{
	struct packet_buf in, out;
	struct report_buf buf;
	unsigned len = report_build(spec, &buf), verdict;

	report_packet(spec, &buf, len, &in);
	watch_start(&counters);
	verdict = xdp_run(prog, 0, &in, &out);
	if (verdict != (counter ? XDP_DROP : XDP_PASS))
		row_failed(why, "verdict %u", verdict);
	watch_expect(&counters, counter, why);
	packet_expect(&in, &out, why);
}

static const struct ss_sip_key other_key = { { 0x1122334455667788, 0x99aabbccddeeff01 } };

static const struct report_row {
	const char *why;
	struct report_spec report;
	__u64 counter;
} report_rows[] = {
	{ "v4", { WEB4, .open = 7 }, C(report_taken) },
	{ "v6", { WEB6, .open = 7 }, C(report_taken) },
	{ "the last of 32 services", { WEB4, .open = 7, .entries = 32 }, C(report_taken) },
	{ "v6, the second of two", { WEB6, .open = 7, .entries = 2 }, C(report_taken) },
	{ "another key", { WEB4, .open = 7, .key = &other_key }, C(report_forged) },
	{ "v6 another key", { WEB6, .open = 7, .key = &other_key }, C(report_forged) },
	{ "the master key itself", { WEB4, .open = 7, .key = &rules.key }, C(report_forged) },
	{ "another server's key", { WEB4, .open = 7, .key_of = "10.0.3.2:9" }, C(report_forged) },
	{ "v6 another server's key",
	  { WEB6, .open = 7, .key_of = "[fd00:3::2]:9" },
	  C(report_forged) },
	{ "a clock that is ahead", { WEB4, .open = 7, .ahead = 55 }, C(report_taken) },
	{ "a clock that is too far ahead", { WEB4, .ahead = 120 }, C(report_untimely) },
	{ "a clock that is too far behind", { WEB4, .ahead = -61 }, C(report_untimely) },
	{ "v6 a clock that is too far behind", { WEB6, .ahead = -61 }, C(report_untimely) },
	{ "a time after which none would be later", { WEB4, .last = true }, C(report_untimely) },
	{ "v6 a time after which none would be later", { WEB6, .last = true }, C(report_untimely) },
	{ "from another address than it names",
	  { WEB4, .source = "10.0.3.2:9" },
	  C(report_wrong_source) },
	{ "naming another address", { WEB4, .from = "10.0.3.2:9" }, C(report_wrong_source) },
	{ "v6 from another address", { WEB6, .source = "[fd00:3::2]:9" }, C(report_wrong_source) },
	{ "from no backend",
	  { WEB4, .source = "10.0.3.9:9", .from = "10.0.3.9:9" },
	  C(report_unknown) },
	{ "of another port", { WEB4, .listen = 8081 }, C(report_unknown) },
	{ "of another service", { "10.99.0.1:81" }, C(report_unknown) },
	{ "to another's address", { WEB4, .to = "10.0.2.3:7946" }, 0 },
	{ "v6 to another's address", { WEB6, .to = "[fd00:2::3]:7946" }, 0 },
	{ "to another port", { WEB4, .to = "10.0.2.2:7947" }, 0 },
	{ "v6 to another port", { WEB6, .to = "[fd00:2::2]:7947" }, 0 },
};

/* A report that is not taken in changes nothing. */
static void reports(void **state)
{
	for (size_t i = 0; i < ROWS(report_rows); i++) {
		struct report_spec before = { report_rows[i].report.vip, .open = 3, .time = 10 };
		struct report_spec report = report_rows[i].report;
		const char *vip = before.vip;
		long expected = report_rows[i].counter == C(report_taken) ? 7 : 3;

		services_default(state);
		if (backend_id(vip, 1) >= 0)
			report_send(&before, C(report_taken), report_rows[i].why);
		report.time = 11;
		report_send(&report, report_rows[i].counter, report_rows[i].why);
		if (backend_id(vip, 1) >= 0 && known_open(vip, 1) != expected)
			row_failed(report_rows[i].why, "%ld connections", known_open(vip, 1));
		if (backend_id(vip, 2) >= 0 && known_open(vip, 2) != -1)
			row_failed(report_rows[i].why, "the other backend is changed");
	}
	rows_done();
}

/* Whatever bit of a report is changed, cut off or added: it is dropped, and nothing is changed. */
static void changed_anywhere(void **state)
{
	struct report_spec spec = { WEB4, .open = 7, .time = 20, .entries = 2 };
	struct packet_buf in, out;
	uint8_t longer[sizeof(struct report_buf) + 64] = {};
	struct report_buf buf;
	unsigned len;

	(void)state;
	len = report_build(&spec, &buf);
	memcpy(longer, &buf, sizeof(buf));
	for (unsigned bit = 0; bit < len * 8; bit++) {
		((uint8_t *)&buf)[bit / 8] ^= 1 << bit % 8;
		report_packet(&spec, &buf, len, &in);
		assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_DROP);
		((uint8_t *)&buf)[bit / 8] ^= 1 << bit % 8;
		if (known_open(WEB4, 1) != -1)
			row_failed("changed", "bit %u", bit);
	}
	for (unsigned cut = 0; cut <= sizeof(longer); cut++) {
		if (cut == len)
			continue;
		report_packet(&spec, longer, cut, &in);
		watch_start(&counters);
		assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_DROP);
		watch_expect(&counters, C(report_malformed), "cut");
	}
	assert_int_equal(known_open(WEB4, 1), -1);
	report_send(&spec, C(report_taken), "unchanged");
	rows_done();
}

/* A UDP length that the packet does not have is not ours to judge. */
static void udp_length(void **state)
{
	struct report_spec spec = { WEB4, .time = 1 };
	struct packet_buf in, out;
	struct report_buf buf;

	(void)state;
	report_packet(&spec, &buf, report_build(&spec, &buf), &in);
	in.bytes[in.l4 + 5]++;
	watch_start(&counters);
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_PASS);
	in.bytes[in.l4 + 4] = 0;
	in.bytes[in.l4 + 5] = 7;
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_PASS);
	watch_expect(&counters, 0, "UDP length");
	rows_done();
}

static void replayed(void **state)
{
	struct report_spec first = { WEB4, .open = 1, .time = 100 };
	struct report_spec second = { WEB4, .open = 2, .time = 101 };

	(void)state;
	report_send(&first, C(report_taken), "first");
	report_send(&first, C(report_old), "first again");
	report_send(&second, C(report_taken), "second");
	report_send(&first, C(report_old), "first after the second");
	assert_int_equal(known_open(WEB4, 1), 2);
	rows_done();
}

/*
 * A balancer that was restarted does not know the last report; what is older than a minute is refused all
 * the same. One whose clock was wrong believes its servers again when it is right.
 */
static void replayed_after_restart(void **state)
{
	struct report_spec old = { WEB4, .open = 1, .ahead = -61 };
	struct report_spec now = { WEB4, .open = 2, .time = 5 };
	int id = backend_id(WEB4, 1);
	struct ss_lb_load wrong = { .time = began + 3600 * 1000000000ULL };

	(void)state;
	report_send(&old, C(report_untimely), "replayed");
	assert_int_equal(bpf_map_update_elem(maps.loads, &id, &wrong, BPF_ANY), 0);
	report_send(&now, C(report_taken), "after the clock was an hour ahead");
	report_send(&now, C(report_old), "replayed");
	rows_done();
}

/* The leap seconds that the kernel was told of do not matter. */
static void leap_seconds(void **state)
{
	struct report_spec report = { WEB4, .open = 1, .time = 1, .ahead = -30 };
	struct ss_lb_report_rules changed;
	__u32 zero = 0;

	(void)state;
	/* on a slow machine the tests before this one took their time */
	began = clock_ns(CLOCK_REALTIME);
	assert_int_equal(bpf_map_lookup_elem(maps.report_rules, &zero, &changed), 0);
	assert_int_equal(changed.tai_ahead, tai_ahead);
	changed.tai_ahead += 100 * 1000000000LL; /* as if 100 s were told: now is that much less */
	assert_int_equal(bpf_map_update_elem(maps.report_rules, &zero, &changed, BPF_ANY), 0);
	report_send(&report, C(report_untimely), "30 s behind is 70 ahead");
	report.ahead = -100;
	report_send(&report, C(report_taken), "100 s behind is now");
	assert_int_equal(reports_accept(), 0);
	report_send(&report, C(report_untimely), "100 s behind");
	rows_done();
}

/* After three intervals a report does not count any more. */
static void outdated(void **state)
{
	struct report_spec spec = { WEB4, .open = 1, .time = 1, .interval = 50 };
	int id = backend_id(WEB4, 1);
	struct ss_lb_load load;
	struct timespec now;
	int64_t left;

	(void)state;
	report_send(&spec, C(report_taken), "report");
	assert_int_equal(lb_load_read(&maps, id, &load), 1);
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	left = load.fresh_until - (now.tv_sec * 1000000000LL + now.tv_nsec);
	assert_in_range(left, 1, 150000000);
	load.fresh_until -= left;
	assert_int_equal(bpf_map_update_elem(maps.loads, &id, &load, BPF_ANY), 0);
	assert_int_equal(known_open(WEB4, 1), -1);
	rows_done();
}

/* Who is no backend any more is not heard; who comes anew starts with nothing known. */
static void backends_change(void **state)
{
	struct report_spec spec = { WEB4, .open = 4, .time = 1 };
	struct service_config service;

	(void)state;
	report_send(&spec, C(report_taken), "backend");
	service_fill(&service, WEB4, SS_SCHED_MAGLEV, 2);
	service.backends[0] = service.backends[1];
	service.backends_count = 1;
	services_apply(&service, 1);
	spec.time++;
	report_send(&spec, C(report_unknown), "removed backend");
	free(service.backends);
	service_fill(&service, WEB4, SS_SCHED_MAGLEV, 2);
	services_apply(&service, 1);
	assert_int_equal(known_open(WEB4, 1), -1);
	report_send(&spec, C(report_taken), "it is back");
	service.backends[0].weight = 7;
	services_apply(&service, 1);
	assert_int_equal(known_open(WEB4, 1), 4);
	free(service.backends);
	services_apply(NULL, 0);
	spec.time++;
	report_send(&spec, C(report_unknown), "removed service");
	rows_done();
}

/* Without a configured port a report is a UDP packet as any other. */
static void not_configured(void **state)
{
	struct report_spec spec = { WEB4, .open = 4, .time = 1 };

	(void)state;
	assert_int_equal(lb_reports_accept(&maps, NULL, NULL, 0), 0);
	report_send(&spec, 0, "not configured");
	assert_int_equal(known_open(WEB4, 1), -1);
	assert_int_equal(reports_accept(), 0);
	report_send(&spec, C(report_taken), "configured");
	rows_done();
}

/* --- schedulers by load ------------------------------------------------------------------------ */

#define LEAST SS_SCHED_LEAST_CONNECTIONS
#define POWER SS_SCHED_POWER_OF_TWO
#define SYNS 65536

/* One service at @vip with @n backends of these weights (NULL: equal ones), nothing reported. */
static void service_begin(const char *vip, enum ss_scheduler scheduler, unsigned n,
			  const unsigned *weight)
{
	struct service_config service;

	services_apply(NULL, 0);
	service_fill(&service, vip, scheduler, n);
	for (unsigned i = 0; weight && i < n; i++)
		service.backends[i].weight = weight[i];
	services_apply(&service, 1);
	free(service.backends);
	hops_fill();
}

/* Backend number @n reports, as of now, @open connections. */
static void reported(const char *vip, unsigned n, unsigned open)
{
	struct report_spec spec = { vip, .open = open, .time = clock_ns(CLOCK_REALTIME) - began,
				    .interval = 60000 };
	char source[ADDRESS_TEXT_LEN];

	snprintf(source, sizeof(source), vip[0] == '[' ? "[fd00:3::%x]:9" : "10.0.3.%u:9", n);
	spec.source = spec.from = source;
	report_send(&spec, C(report_taken), "reported");
}

static const char *const vips[] = { WEB4, WEB6 };

#define UNKNOWN (~0U)
#define EQUAL                 \
	{                     \
		100, 100, 100 \
	}

/* What three backends reported, and how many of @syns SYNs each gets then, give or take @slack. */
static const struct load_row {
	const char *why;
	enum ss_scheduler scheduler;
	unsigned weight[3];
	unsigned open[3];
	unsigned syns;
	unsigned expected[3];
	unsigned slack;
} load_rows[] = {
	{ "idle", LEAST, EQUAL, { 0, 0, 0 }, 300, { 100, 100, 100 }, 0 },
	{ "filled up", LEAST, EQUAL, { 5, 0, 2 }, 8, { 0, 5, 3 }, 0 },
	{ "one is busy", LEAST, EQUAL, { 1000, 0, 0 }, 100, { 0, 50, 50 }, 0 },
	{ "weights", LEAST, { 100, 300, 600 }, { 0, 0, 0 }, 1000, { 100, 300, 600 }, 2 },
	{ "busy for its weight", LEAST, { 1, 10, 10 }, { 10, 50, 100 }, 50, { 0, 50, 0 }, 0 },
	{ "no reports",
	  LEAST,
	  { 20, 30, 50 },
	  { UNKNOWN, UNKNOWN, UNKNOWN },
	  SYNS,
	  { SYNS / 5, SYNS * 3 / 10, SYNS / 2 },
	  SYNS / 100 },
	{ "one does not report",
	  LEAST,
	  EQUAL,
	  { 0, UNKNOWN, 0 },
	  SYNS,
	  { SYNS / 3, SYNS / 3, SYNS / 3 },
	  SYNS / 100 },
	{ "one does not report, the others are busy",
	  LEAST,
	  { 40, 20, 40 },
	  { 9000000, UNKNOWN, 9000000 },
	  SYNS,
	  { SYNS * 2 / 5, SYNS / 5, SYNS * 2 / 5 },
	  SYNS / 100 },
	{ "power of two, one is busy", POWER, EQUAL, { 9000, 0, 0 }, 100, { 0, 50, 50 }, 15 },
	{ "power of two, weights",
	  POWER,
	  { 100, 300, 600 },
	  { 0, 0, 0 },
	  10000,
	  { 1000, 3000, 6000 },
	  300 },
	{ "power of two, no reports",
	  POWER,
	  { 20, 30, 50 },
	  { UNKNOWN, UNKNOWN, UNKNOWN },
	  SYNS,
	  { SYNS / 5, SYNS * 3 / 10, SYNS / 2 },
	  SYNS / 100 },
	{ "power of two, one does not report",
	  POWER,
	  EQUAL,
	  { 0, UNKNOWN, 0 },
	  SYNS,
	  { SYNS / 3, SYNS / 3, SYNS / 3 },
	  SYNS / 100 },
};

static void load_run(const struct load_row *row, const char *vip)
{
	unsigned got[4] = {};

	service_begin(vip, row->scheduler, 3, row->weight);
	for (unsigned i = 0; i < 3; i++)
		if (row->open[i] != UNKNOWN)
			reported(vip, i + 1, row->open[i]);
	for (unsigned flow = 0; flow < row->syns; flow++)
		got[backend_of(vip, flow, false) & 3]++;
	for (unsigned i = 0; i < 3; i++)
		if (abs((int)got[i + 1] - (int)row->expected[i]) > (int)row->slack)
			row_failed(row->why, "%s: backend %u: %u SYNs, not %u", vip, i + 1,
				   got[i + 1], row->expected[i]);
}

static void by_load(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(load_rows); i++)
		for (size_t v = 0; v < ROWS(vips); v++)
			load_run(&load_rows[i], vips[v]);
	rows_done();
}

/* A report takes the place of what was sent before it. */
static void report_corrects(void **state)
{
	(void)state;
	for (size_t v = 0; v < ROWS(vips); v++) {
		service_begin(vips[v], LEAST, 2, NULL);
		reported(vips[v], 1, 0);
		reported(vips[v], 2, 0);
		for (unsigned flow = 0; flow < 10; flow++)
			backend_of(vips[v], flow, false);
		reported(vips[v], 1, 0);
		for (unsigned flow = 0; flow < 4; flow++)
			assert_int_equal(backend_of(vips[v], flow, false), 1);
		reported(vips[v], 2, 20);
		for (unsigned flow = 0; flow < 15; flow++)
			assert_int_equal(backend_of(vips[v], flow, false), 1);
	}
	rows_done();
}

#define FEW 100 /* SYNs for each of BACKENDS_MAX backends */

/* How far the backend with the most SYNs, of many idle ones, is from the one with the fewest. */
static unsigned spread(const char *vip, enum ss_scheduler scheduler)
{
	unsigned got[256] = {}, min = ~0U, max = 0;

	service_begin(vip, scheduler, BACKENDS_MAX, NULL);
	for (unsigned i = 0; i < BACKENDS_MAX; i++)
		reported(vip, i + 1, 0);
	for (unsigned flow = 0; flow < FEW * BACKENDS_MAX; flow++)
		got[backend_of(vip, flow, false)]++;
	for (unsigned i = 1; i <= BACKENDS_MAX; i++) {
		min = got[i] < min ? got[i] : min;
		max = got[i] > max ? got[i] : max;
	}
	return max - min;
}

/* Where there are more than are compared. */
static void many_backends(void **state)
{
	(void)state;
	for (size_t v = 0; v < ROWS(vips); v++) {
		unsigned random = spread(vips[v], SS_SCHED_RANDOM);
		unsigned power = spread(vips[v], POWER), least = spread(vips[v], LEAST);

		if (random < 30 || power > 10 || least > 3)
			row_failed(vips[v], "random %u, power of two %u, least connections %u",
				   random, power, least);
	}
	rows_done();
}

/* A retransmitted SYN goes elsewhere, whatever was sent or reported in between. */
static void retried(void **state)
{
	static const enum ss_scheduler schedulers[] = { LEAST, POWER };
	static const unsigned backends[] = { 2, 3, BACKENDS_MAX };

	(void)state;
	for (unsigned i = 0; i < 2 * 3 * 2; i++) {
		const char *vip = vips[i % 2];
		unsigned n = backends[i / 2 % 3], same = 0, first[100];

		service_begin(vip, schedulers[i / 6], n, NULL);
		for (unsigned b = 1; b < n; b++) /* one does not report */
			reported(vip, b, b);
		for (unsigned flow = 0; flow < 100; flow++)
			first[flow] = backend_of(vip, flow, false);
		reported(vip, 1, 0);
		for (unsigned flow = 0; flow < 100; flow++)
			same += backend_of(vip, flow, true) == first[flow];
		if (same)
			row_failed(vip, "%u backends: %u of 100 retries go to the first choice", n,
				   same);
	}
	service_begin(WEB4, LEAST, 1, NULL);
	assert_int_equal(backend_of(WEB4, 1, false), 1);
	assert_int_equal(backend_of(WEB4, 1, true), 1);
	rows_done();
}

/* Only the SYN is forwarded: nothing is remembered of the connection. */
static void others_dropped(void **state)
{
	static const enum ss_scheduler schedulers[] = { LEAST, POWER };
	struct packet_buf in, out;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		service_begin(vips[i % 2], schedulers[i / 2], 1, NULL);
		flow_packet(vips[i % 2], 1, "A", false, &in);
		watch_start(&counters);
		assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_DROP);
		watch_expect(&counters, C(drop_no_state), vips[i % 2]);
	}
	rows_done();
}

static int load(void **state)
{
	began = clock_ns(CLOCK_REALTIME);
	tai_ahead = ((int64_t)(clock_ns(CLOCK_TAI) - began) + 500000000) / 1000000000 * 1000000000;
	return balancer_load(state) || reports_accept();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reports),
		cmocka_unit_test_setup(changed_anywhere, services_default),
		cmocka_unit_test_setup(udp_length, services_default),
		cmocka_unit_test_setup(replayed, services_default),
		cmocka_unit_test_setup(replayed_after_restart, services_default),
		cmocka_unit_test_setup(leap_seconds, services_default),
		cmocka_unit_test_setup(outdated, services_default),
		cmocka_unit_test_setup(backends_change, services_default),
		cmocka_unit_test_setup(not_configured, services_default),
		cmocka_unit_test(by_load),
		cmocka_unit_test(report_corrects),
		cmocka_unit_test(many_backends),
		cmocka_unit_test(retried),
		cmocka_unit_test(others_dropped),
	};

	return cmocka_run_group_tests(tests, load, balancer_unload);
}
