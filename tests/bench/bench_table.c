// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Milliseconds for what a change of the configuration takes, apart from reading the file:
 *
 * - maglev_build_ms: a Maglev table, 65537 slots, 1000 backends; pinned.
 * - apply_100k_ms: 1000 services of 100 backends each, into maps that hold none.
 * - apply_20k_ms: 20 backends of each of those services are replaced, from the parsed configuration to
 *   the last service in the kernel, where what was asked for is then looked for.
 *
 * Prints JSON: key -> {median, min, max, rounds}.
 */
#include <stdint.h>
#include <string.h>

#include <bpf/libbpf.h>

#include <sidestep/lb.h>

#include "balancer.skel.h"
#include "figure.h"
#include "lb_apply.h"
#include "maglev.h"
#include "../lb_skel.h"

#define SLOTS SS_LB_SLOTS_LARGE
#define BUILD_BACKENDS 1000
#define BUILD_ROUNDS 21

#define SERVICES 1000
#define BACKENDS 100
#define CHANGED 20
#define FIRST_ROUNDS 7
#define CHANGE_ROUNDS 21

static void die(const char *what)
{
	fprintf(stderr, "bench_table: %s\n", what);
	exit(1);
}

static json_t *build_measure(void)
{
	static uint16_t slots[SLOTS];
	struct slot_backend backends[BUILD_BACKENDS];
	double ms[BUILD_ROUNDS];

	for (uint32_t i = 0; i < BUILD_BACKENDS; i++) {
		backends[i].hash = slot_hash(&i, sizeof(i));
		backends[i].weight = 100;
	}
	for (unsigned i = 0; i < BUILD_ROUNDS; i++) {
		double start = bench_now();

		if (maglev_fill(slots, SLOTS, backends, BUILD_BACKENDS))
			die("out of memory");
		ms[i] = (bench_now() - start) * 1e3;
	}
	return bench_figure(ms, BUILD_ROUNDS);
}

/* 10.@a.@b.@c:8080 */
static struct ss_endpoint endpoint(unsigned a, unsigned b, unsigned c)
{
	return (struct ss_endpoint){
		.addr = ss_addr_v4(SS_BE32(10U << 24 | a << 16 | b << 8 | c)),
		.port = SS_BE16(8080),
	};
}

/* The services; every fifth backend of each is one that another @generation does not have. */
static struct service_config *services_make(unsigned generation)
{
	struct service_config *services = calloc(SERVICES, sizeof(*services));

	for (unsigned i = 0; services && i < SERVICES; i++) {
		struct service_config *s = &services[i];

		s->vip = endpoint(200 + i / 250, i % 250, 1);
		snprintf(s->name, sizeof(s->name), "service-%u", i);
		s->flow_table = true;
		s->backends_count = BACKENDS;
		s->backends = calloc(BACKENDS, sizeof(*s->backends));
		for (unsigned b = 0; s->backends && b < BACKENDS; b++) {
			unsigned part = b % (BACKENDS / CHANGED) ? 0 : generation;

			s->backends[b].address = endpoint(4 * part + i / 250, i % 250, b + 1);
			s->backends[b].weight = 100;
			snprintf(s->backends[b].name, SS_LB_NAME_LEN, "backend-%u-%u", part, b);
		}
	}
	return services;
}

/* Does the kernel serve exactly @services, by the tables that their backends make? */
static void services_check(const struct lb_maps *maps, const struct service_config *services)
{
	static uint16_t slots[SLOTS];
	struct slot_backend weighted[BACKENDS];
	struct lb_services now;
	unsigned found = 0;

	if (lb_services_read(maps, &now, NULL) || now.count != SERVICES)
		die("not as many services in the kernel as were asked for");
	for (unsigned i = 0; i < SERVICES; i++)
		for (unsigned j = 0; j < SERVICES; j++) {
			const struct lb_table *table = &now.item[j].table;

			if (!ss_endpoint_equal(&now.item[j].vip, &services[i].vip))
				continue;
			for (unsigned b = 0; b < BACKENDS; b++) {
				const struct ss_endpoint *e = &services[i].backends[b].address;

				found += ss_endpoint_equal(&table->backend[b].endpoint, e);
				weighted[b].hash = slot_hash(e, sizeof(*e));
				weighted[b].weight = 100;
			}
			maglev_fill(slots, table->head->slots, weighted, BACKENDS);
			if (memcmp(slots, table->slot, table->head->slots * sizeof(*slots)))
				die("a table in the kernel is not what its backends make");
		}
	lb_services_done(&now);
	if (found != SERVICES * BACKENDS)
		die("not the backends in the kernel that were asked for");
}

/* Milliseconds until the kernel serves the @count @services, instead of what it does now. */
static double apply_ms(const struct lb_maps *maps, const struct service_config *services,
		       unsigned count)
{
	struct error err = {};
	double start = bench_now(), ms;
	int changed = lb_services_apply(maps, services, count, &err);

	ms = (bench_now() - start) * 1e3;
	if (changed < 0)
		die(err.text);
	if (changed != SERVICES)
		die("not every service changed");
	return ms;
}

static void apply_measure(const struct lb_maps *maps, json_t *out)
{
	struct service_config *services[] = { services_make(1), services_make(2) };
	double first[FIRST_ROUNDS], change[CHANGE_ROUNDS];

	for (unsigned i = 0; i < FIRST_ROUNDS; i++) {
		if (i)
			(void)apply_ms(maps, services[0], 0);
		first[i] = apply_ms(maps, services[0], SERVICES);
	}
	for (unsigned i = 0; i < CHANGE_ROUNDS; i++) {
		change[i] = apply_ms(maps, services[(i + 1) % 2], SERVICES);
		services_check(maps, services[(i + 1) % 2]);
	}
	json_object_set_new(out, "apply_100k_ms", bench_figure(first, FIRST_ROUNDS));
	json_object_set_new(out, "apply_20k_ms", bench_figure(change, CHANGE_ROUNDS));
	for (unsigned k = 0; k < 2; k++) {
		for (unsigned i = 0; i < SERVICES; i++)
			free(services[k][i].backends);
		free(services[k]);
	}
}

int main(void)
{
	struct balancer_bpf *skel = balancer_bpf__open();
	json_t *out = json_object();
	struct lb_maps maps;

	if (!skel)
		die("cannot open the programs");
	bpf_program__set_autoload(skel->progs.sidestep_lb, false); /* its maps will do */
	if (balancer_bpf__load(skel))
		die("cannot create the balancer's maps");
	maps = LB_MAPS_OF(skel);
	apply_measure(&maps, out);
	if (bench_pin())
		die("cannot pin to a processor");
	json_object_set_new(out, "maglev_build_ms", build_measure());
	bench_print(out);
	balancer_bpf__destroy(skel);
	return 0;
}
