// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Which SYNs come in, and which backend gets them where the scheduler's choice is not the last word,
 * packet in, packet out: the limit by source prefix.
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

#include "address.h"
#include "balancer_run.h"
#include "lb_limit.h"
#include "lb_maps.h"
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

/* A packet from @source, an address; "S" is a SYN with a request, "SP" one without. */
static unsigned verdict_of(const char *source, const char *flags, uint16_t port)
{
	struct packet_buf in, out;
	bool ip6 = strchr(source, ':');
	char text[ADDRESS_TEXT_LEN];

	snprintf(text, sizeof(text), ip6 ? "[%s]:%u" : "%s:%u", source, port);
	flow_packet(ip6 ? WEB6 : WEB4, 1, flags, false, &in);
	packet_set_src(&in, text);
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

/* SYNs alike, with a request, without and sent again, use it up; other packets do not, nor does it stop them. */
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
		assert_int_equal(let_in(sources[i], "SP", 9), 2);
		/* dropped before anything is remembered of it */
		assert_int_equal(map_count(bpf_map__fd(skel->maps.flows)), 2);
		assert_int_equal(let_in(sources[i], "S", 1), 0);
		assert_int_equal(verdict_of(sources[i], "A", 1000), XDP_TX);
	}
	rows_done();
}

/* As if the last SYN of the only prefix had come @ms earlier. */
static void limit_wait(unsigned ms)
{
	int fd = bpf_map__fd(skel->maps.syn_buckets);
	struct ss_addr key;
	__u64 full;

	assert_int_equal(bpf_map_get_next_key(fd, NULL, &key), 0);
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &full), 0);
	full -= ms * 1000000ULL;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(limit_by_prefix, limit_end),
		cmocka_unit_test_teardown(limit_of_what, limit_end),
		cmocka_unit_test_teardown(limit_refills, limit_end),
		cmocka_unit_test_teardown(limit_off, limit_end),
	};

	return cmocka_run_group_tests(tests, balancer_load, balancer_unload);
}
