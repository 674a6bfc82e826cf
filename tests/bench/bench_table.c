// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Milliseconds for what a change of the configuration takes, apart from reading the file:
 *
 * - maglev_build_ms: a Maglev table, 65537 slots, 1000 backends; pinned.
 * - apply_100k_ms: 1000 services of 100 backends each, into maps that hold none.
 * - apply_20k_ms: 20 backends of each of those services are replaced, from the parsed configuration to
 *   the last service in the kernel.
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
#include "../many.h"

#define SLOTS SS_LB_LARGE_SLOTS
#define BUILD_BACKENDS 1000
#define BUILD_ROUNDS 21

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
	if (changed != MANY_SERVICES)
		die("not every service changed");
	if (lb_services_apply(maps, services, count, &err))
		die("the kernel does not have what was asked for");
	return ms;
}

static void apply_measure(const struct lb_maps *maps, json_t *out)
{
	struct service_config *services[] = { many_services(1), many_services(2) };
	double first[FIRST_ROUNDS], change[CHANGE_ROUNDS];

	if (!services[0] || !services[1])
		die("out of memory");
	for (unsigned i = 0; i < FIRST_ROUNDS; i++) {
		if (i)
			(void)apply_ms(maps, services[0], 0);
		first[i] = apply_ms(maps, services[0], MANY_SERVICES);
	}
	for (unsigned i = 0; i < CHANGE_ROUNDS; i++)
		change[i] = apply_ms(maps, services[(i + 1) % 2], MANY_SERVICES);
	json_object_set_new(out, "apply_100k_ms", bench_figure(first, FIRST_ROUNDS));
	json_object_set_new(out, "apply_20k_ms", bench_figure(change, CHANGE_ROUNDS));
	many_free(services[0]);
	many_free(services[1]);
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
