/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The balancer's XDP program, its maps and its counters, for packet-in/packet-out tests of it. */
#ifndef SIDESTEP_TEST_BALANCER_LOAD_H
#define SIDESTEP_TEST_BALANCER_LOAD_H

#include <sidestep/counters.h>

#include "balancer.skel.h"
#include "lb_maps.h"
#include "progrun.h"

extern struct balancer_bpf *skel;
extern struct lb_maps maps;
extern int prog;
extern struct watch counters;
#define C(name) (1ULL << SS_LB_##name)

/* cmocka's setup and teardown of a group. This process stays on one processor from then on. */
int balancer_load(void **state);
int balancer_unload(void **state);

/* What is counted for the backend @id, over all processors; or the test fails. */
struct ss_lb_backend_cpu backend_read(__u32 id);

#endif
