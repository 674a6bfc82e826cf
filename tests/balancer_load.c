// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "balancer_load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lb_skel.h"

struct balancer_bpf *skel;
struct lb_maps maps;
int prog;

#define NAME(name, help) #name,
static const char *const counter_names[] = { SS_LB_COUNTERS(NAME) };
struct watch counters = { .n = SS_LB_COUNTER_MAX, .names = counter_names };

int balancer_load(void **state)
{
	(void)state;
	cpu_pin();
	skel = balancer_bpf__open_and_load();
	if (!skel)
		return -1;
	prog = bpf_program__fd(skel->progs.sidestep_lb);
	maps = LB_MAPS_OF(skel);
	counters.fd = maps.counters;
	return 0;
}

int balancer_unload(void **state)
{
	(void)state;
	balancer_bpf__destroy(skel);
	return 0;
}

struct ss_lb_backend_cpu backend_read(__u32 id)
{
	struct ss_lb_backend_cpu sum;
	struct lb_backends backends;

	lb_backends_init(&backends, &maps);
	assert_int_equal(lb_backends_read(&backends, id, &sum), 0);
	lb_backends_done(&backends);
	return sum;
}
