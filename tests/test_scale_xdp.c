// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Many services with many backends: what is asked for is what packets meet, changes of thousands of
 * backends leave all others as they are, and no packet sees half of one.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>

#include "address.h"
#include "balancer.skel.h"
#include "lb_apply.h"
#include "lb_skel.h"
#include "many.h"
#include "maglev.h"
#include "packet.h"
#include "progrun.h"

#define XDP_PASSED 2
#define FLOWS 3 /* of each service */

static struct balancer_bpf *skel;
static struct lb_maps maps;
static int prog;
static struct service_config *generation[3]; /* 1 and 2 */

/* The balancer serves exactly these. Returns how many services changed. */
static int apply(struct service_config *services, unsigned n)
{
	struct error err = {};
	int changed = lb_services_apply(&maps, services, n, &err);

	if (changed < 0)
		fail_msg("%s", err.text);
	return changed;
}

/* Every backend's next hop is known and stays fresh. */
static void hops_fill(void)
{
	const struct ss_lb_backend_cpu hop = { .fresh_until = ~0ULL,
					       .confirm_at = SS_LB_CONFIRM_NEVER,
					       .ifindex = 1 /* "lo": TEST_RUN's ingress */ };

	int err = lb_hops_fill(&maps, MANY_SERVICES * (MANY_BACKENDS + MANY_CHANGED), &hop);

	assert_true(!err || err == -ENOENT /* of a group of which none was taken */);
}

/* Generation 1 is served, and nothing else ever was but for it and other ones. */
static int first_generation(void **state)
{
	(void)state;
	apply(generation[1], MANY_SERVICES);
	hops_fill();
	return 0;
}

/* A SYN with a request (IPv4, short) for @service. */
static void syn_build(struct packet_buf *p, const struct service_config *service, unsigned flow)
{
	char src[ADDRESS_TEXT_LEN], dst[ADDRESS_TEXT_LEN];
	uint8_t request[8] = "\xfd\x08\x5d\x50";

	memcpy(&request[4], &service->vip.addr.w[3], 4);
	snprintf(src, sizeof(src), "10.0.0.%u:%u", 1 + flow % 200, 1024 + flow);
	packet_build(p, &(struct packet_spec){ .src = src,
					       .dst = endpoint_format(&service->vip, dst),
					       .flags = "S",
					       .options = request,
					       .options_len = sizeof(request) });
}

/* Where the balancer sends it; the verdict in *@verdict. */
static struct ss_endpoint syn_goes_to(const struct packet_buf *in, unsigned *verdict)
{
	struct ss_endpoint to = {};
	struct packet_buf out;
	__be32 addr;

	*verdict = xdp_run(prog, 0, in, &out);
	memcpy(&addr, &out.bytes[out.l3 + 16], 4);
	to.addr = ss_addr_v4(addr);
	memcpy(&to.port, &out.bytes[out.l4 + 2], 2);
	return to;
}

static bool is_backend(const struct service_config *service, const struct ss_endpoint *endpoint)
{
	for (unsigned i = 0; i < service->backends_count; i++)
		if (ss_endpoint_equal(&service->backends[i].address, endpoint))
			return true;
	return false;
}

/* Complains unless SYNs for each of the @n @services go to a backend of it. */
static void expect_served(const struct service_config *services, unsigned n)
{
	struct ss_endpoint to;
	struct packet_buf syn;
	unsigned verdict;

	for (unsigned i = 0; i < n; i++)
		for (unsigned flow = 0; flow < FLOWS; flow++) {
			syn_build(&syn, &services[i], flow);
			to = syn_goes_to(&syn, &verdict);
			if (verdict == XDP_PASSED || !is_backend(&services[i], &to))
				row_failed(services[i].name, "flow %u: verdict %u, port %u", flow,
					   verdict, SS_BE16(to.port));
		}
	rows_done();
}

/* The service at @service's VIP out of @all. */
static const struct lb_service *service_in(const struct lb_services *all,
					   const struct service_config *service)
{
	for (unsigned i = 0; i < all->count; i++)
		if (ss_endpoint_equal(&all->item[i].vip, &service->vip))
			return &all->item[i];
	fail_msg("%s is not served", service->name);
	return NULL;
}

static void services_read(struct lb_services *all)
{
	assert_int_equal(lb_services_read(&maps, all, NULL), 0);
}

/* Is there no table at @index of those of that size? */
static bool table_is_empty(bool large, uint32_t index)
{
	int fd = lb_inner_open(lb_tables(&maps, large), index);
	static struct ss_lb_large_table table;
	__u32 zero = 0;

	if (fd < 0)
		return true;
	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &table), 0);
	close(fd);
	return !table.head.slots;
}

/* --- tests ------------------------------------------------------------------------------------- */

/* All are served, and asking for the same once more changes nothing. */
static void served(void **state)
{
	(void)state;
	assert_int_equal(apply(generation[1], 0), MANY_SERVICES);
	assert_int_equal(apply(generation[1], MANY_SERVICES), MANY_SERVICES);
	hops_fill();
	expect_served(generation[1], MANY_SERVICES);
	assert_int_equal(apply(generation[1], MANY_SERVICES), 0);
}

/* Every table is the one that its backends make. */
static void tables(void **state)
{
	static uint16_t slots[SS_LB_LARGE_SLOTS];
	struct slot_backend weighted[MANY_BACKENDS];
	struct lb_services all;

	(void)state;
	services_read(&all);
	assert_int_equal(all.count, MANY_SERVICES);
	for (unsigned i = 0; i < MANY_SERVICES; i++) {
		const struct service_config *want = &generation[1][i];
		const struct lb_table *table = &service_in(&all, want)->table;

		assert_int_equal(table->head->slots, SS_LB_SMALL_SLOTS);
		for (unsigned b = 0; b < MANY_BACKENDS; b++) {
			weighted[b].hash = slot_hash(&want->backends[b].address,
						     sizeof(want->backends[b].address));
			weighted[b].weight = want->backends[b].weight;
		}
		assert_int_equal(maglev_fill(slots, SS_LB_SMALL_SLOTS, weighted, MANY_BACKENDS), 0);
		assert_memory_equal(slots, table->slot, SS_LB_SMALL_SLOTS * sizeof(*slots));
	}
	lb_services_done(&all);
}

/* What is counted for all backends of @all, by id. */
static void syns_read(const struct lb_services *all, __u64 *syns)
{
	struct ss_lb_backend_cpu sum;
	struct lb_backends backends;

	lb_backends_init(&backends, &maps);
	for (unsigned i = 0; i < all->count; i++)
		for (unsigned b = 0; b < all->item[i].table.head->backends; b++) {
			__u32 id = all->item[i].table.backend[b].id;

			assert_int_equal(lb_backends_read(&backends, id, &sum), 0);
			syns[id] = sum.syns;
		}
	lb_backends_done(&backends);
}

/* 20,000 backends are replaced: the others keep their ids and counters, new ones begin at 0. */
static void changed(void **state)
{
	static __u64 before[SS_LB_IDS], after[SS_LB_IDS];
	struct lb_services old, now;
	unsigned kept = 0;

	(void)state;
	expect_served(generation[1], MANY_SERVICES);
	services_read(&old);
	syns_read(&old, before);
	assert_int_equal(apply(generation[2], MANY_SERVICES), MANY_SERVICES);
	services_read(&now);
	syns_read(&now, after);
	for (unsigned i = 0; i < MANY_SERVICES; i++) {
		const struct lb_table *was = &service_in(&old, &generation[1][i])->table;
		const struct lb_table *is = &service_in(&now, &generation[1][i])->table;

		for (unsigned b = 0; b < MANY_BACKENDS; b++) {
			bool same = ss_endpoint_equal(&was->backend[b].endpoint,
						      &is->backend[b].endpoint);

			kept += same;
			assert_int_equal(was->backend[b].id == is->backend[b].id, same);
			assert_int_equal(after[is->backend[b].id],
					 same ? before[was->backend[b].id] : 0);
		}
	}
	assert_int_equal(kept, MANY_SERVICES * (MANY_BACKENDS - MANY_CHANGED));
	lb_services_done(&old);
	lb_services_done(&now);
	hops_fill();
	expect_served(generation[2], MANY_SERVICES);
}

/* The kernel's ids of all inner maps of services. */
static void map_ids_read(__u32 *ids)
{
	for (__u32 i = 0; i < MANY_SERVICES; i++)
		assert_int_equal(bpf_map_lookup_elem(maps.small_tables, &i, &ids[i]), 0);
}

/* One backend's weight changes: one table is replaced, the others are not touched. */
static void one(void **state)
{
	static __u32 before[MANY_SERVICES], after[MANY_SERVICES];
	struct backend_config *backend = &generation[1][500].backends[7];
	unsigned touched = 0;
	int replaced;

	(void)state;
	map_ids_read(before);
	backend->weight = 50;
	replaced = apply(generation[1], MANY_SERVICES);
	backend->weight = 100;
	assert_int_equal(replaced, 1);
	map_ids_read(after);
	for (unsigned i = 0; i < MANY_SERVICES; i++)
		touched += before[i] != after[i];
	assert_int_equal(touched, 1);
}

static unsigned entries(int map, unsigned key_size)
{
	unsigned char key[64], *prev = NULL;
	unsigned n = 0;

	assert_true(key_size <= sizeof(key));
	for (; !bpf_map_get_next_key(map, prev, key); prev = key)
		n++;
	return n;
}

/* Nothing is left of what is not served any more. */
static void removed(void **state)
{
	struct packet_buf syn;
	unsigned verdict;

	(void)state;
	assert_int_equal(entries(maps.reporters, sizeof(struct ss_lb_reporter)),
			 MANY_SERVICES * MANY_BACKENDS);
	assert_int_equal(apply(generation[1], 1), MANY_SERVICES - 1);
	assert_int_equal(entries(maps.reporters, sizeof(struct ss_lb_reporter)), MANY_BACKENDS);
	assert_int_equal(entries(maps.services, sizeof(struct ss_endpoint)), 2);
	syn_build(&syn, &generation[1][1], 0);
	(void)syn_goes_to(&syn, &verdict);
	assert_int_equal(verdict, XDP_PASSED);
	syn_build(&syn, &generation[1][0], 0);
	(void)syn_goes_to(&syn, &verdict);
	assert_int_not_equal(verdict, XDP_PASSED);
}

/* As many services as there may be give their places to as many others, at once. */
static void replaced(void **state)
{
	struct service_config *services = calloc(2 * SS_LB_SERVICES, sizeof(*services));

	(void)state;
	assert_non_null(services);
	for (unsigned i = 0; i < 2 * SS_LB_SERVICES; i++) {
		services[i] = generation[1][i % MANY_SERVICES];
		services[i].backends_count = 1;
		services[i].vip.port = 1000 + i;
	}
	(void)apply(services, SS_LB_SERVICES);
	assert_int_equal(apply(&services[SS_LB_SERVICES], SS_LB_SERVICES), 2 * SS_LB_SERVICES);
	assert_int_equal(apply(services, 0), SS_LB_SERVICES);
	free(services);
}

/* The size of the table of the one service, and whether the other map has none of it. */
static void expect_size(bool large)
{
	struct lb_services all;

	services_read(&all);
	assert_int_equal(all.count, 1);
	assert_int_equal(all.item[0].is_large, large);
	assert_int_equal(all.item[0].table.head->slots,
			 large ? SS_LB_LARGE_SLOTS : SS_LB_SMALL_SLOTS);
	assert_true(table_is_empty(!large, all.item[0].index));
	lb_services_done(&all);
}

/* A service gets as many backends as there may be, and loses them: its table grows and shrinks. */
static void sizes(void **state)
{
	static const unsigned counts[] = { SS_LB_SMALL_BACKENDS, SS_LB_SMALL_BACKENDS + 1,
					   SS_LB_LARGE_BACKENDS, 1 };
	struct service_config service = generation[1][0];

	(void)state;
	apply(&service, 1);
	service.backends = calloc(SS_LB_LARGE_BACKENDS, sizeof(*service.backends));
	assert_non_null(service.backends);
	for (unsigned i = 0; i < SS_LB_LARGE_BACKENDS; i++) {
		service.backends[i] = generation[1][i / MANY_BACKENDS].backends[i % MANY_BACKENDS];
		service.backends[i].weight = i + 1; /* most of the last ones */
	}
	for (unsigned i = 0; i < ROWS(counts); i++) {
		service.backends_count = counts[i];
		assert_int_equal(apply(&service, 1), 1);
		hops_fill();
		expect_size(counts[i] > SS_LB_SMALL_BACKENDS);
		expect_served(&service, 1);
	}
	free(service.backends);
}

/* --- packets meanwhile ------------------------------------------------------------------------- */

#define CHANGES 10

/* A service, a SYN for it, and where the tables of both generations send that. */
struct meanwhile {
	struct packet_buf syn;
	struct ss_endpoint first, second;
	bool stop;
	unsigned seen[2], others;
};

static void *meanwhile(void *arg)
{
	struct meanwhile *m = arg;

	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED)) {
		unsigned verdict;
		struct ss_endpoint to = syn_goes_to(&m->syn, &verdict);

		m->seen[0] += ss_endpoint_equal(&to, &m->first);
		m->seen[1] += ss_endpoint_equal(&to, &m->second);
		m->others +=
			!ss_endpoint_equal(&to, &m->first) && !ss_endpoint_equal(&to, &m->second);
	}
	return NULL;
}

/* While services change, a packet goes where the old table or the new one sends it, nowhere else. */
static void at_once(void **state)
{
	struct meanwhile m = {};
	pthread_t thread;
	unsigned verdict;

	(void)state;
	for (unsigned flow = 0; ss_endpoint_equal(&m.first, &m.second); flow++) {
		assert_true(flow < 1000);
		syn_build(&m.syn, &generation[1][999], flow);
		apply(generation[1], MANY_SERVICES);
		m.first = syn_goes_to(&m.syn, &verdict);
		apply(generation[2], MANY_SERVICES);
		m.second = syn_goes_to(&m.syn, &verdict);
	}
	assert_int_equal(pthread_create(&thread, NULL, meanwhile, &m), 0);
	for (unsigned i = 0; i < CHANGES; i++)
		apply(generation[1 + i % 2], MANY_SERVICES);
	__atomic_store_n(&m.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_true(m.seen[0] > 0 && m.seen[1] > 0);
	assert_int_equal(m.others, 0);
}

static int load(void **state)
{
	(void)state;
	generation[1] = many_services(1);
	generation[2] = many_services(2);
	skel = balancer_bpf__open_and_load();
	if (!generation[1] || !generation[2] || !skel)
		return -1;
	prog = bpf_program__fd(skel->progs.sidestep_lb);
	maps = LB_MAPS_OF(skel);
	return 0;
}

static int unload(void **state)
{
	(void)state;
	balancer_bpf__destroy(skel);
	many_free(generation[1]);
	many_free(generation[2]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(served, first_generation),
		cmocka_unit_test_setup(tables, first_generation),
		cmocka_unit_test_setup(changed, first_generation),
		cmocka_unit_test_setup(one, first_generation),
		cmocka_unit_test_setup(removed, first_generation),
		cmocka_unit_test(replaced),
		cmocka_unit_test(sizes),
		cmocka_unit_test_setup(at_once, first_generation),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
