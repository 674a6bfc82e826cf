/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The balancer's maps out of a skeleton that has its code: the balancer's own, or the benchmark's. */
#ifndef SIDESTEP_TEST_LB_SKEL_H
#define SIDESTEP_TEST_LB_SKEL_H

#include <bpf/libbpf.h>

#include "lb_maps.h"

#define LB_MAPS_OF(skel)                                                         \
	((struct lb_maps){ .services = bpf_map__fd((skel)->maps.services),       \
			   .tables = bpf_map__fd((skel)->maps.tables),           \
			   .backend_cpu = bpf_map__fd((skel)->maps.backend_cpu), \
			   .counters = bpf_map__fd((skel)->maps.counters),       \
			   .reporters = bpf_map__fd((skel)->maps.reporters),     \
			   .loads = bpf_map__fd((skel)->maps.loads),             \
			   .report_rules = bpf_map__fd((skel)->maps.report_rules) })

#endif
