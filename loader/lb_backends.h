/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the balancer's program keeps of each backend, in user space: the map "backend_cpu" is one of maps,
 * of a group of ids each. Before 6.8 the kernel waits for all processors whenever a map of maps is looked
 * into (bpf_map_copy_value(), kernel/bpf/syscall.c), 10 to 20 ms: each group is opened but once.
 */
#ifndef SIDESTEP_LB_BACKENDS_H
#define SIDESTEP_LB_BACKENDS_H

#include <stdint.h>

#include <sidestep/lb.h>

#include "lb_maps.h"

#define LB_BACKEND_GROUPS (SS_LB_IDS / SS_LB_ID_GROUP)

struct lb_backends {
	int map; /* of maps */
	int group[LB_BACKEND_GROUPS]; /* file descriptors of inner maps; -1: not opened */
};

/* Sets up *@backends, with no group opened. Close them with lb_backends_done(). */
void lb_backends_init(struct lb_backends *backends, const struct lb_maps *maps);
void lb_backends_done(struct lb_backends *backends);

/*
 * The per-processor array with the entry of the backend @id, at @id % SS_LB_ID_GROUP: a file descriptor
 * that stays that of @backends, or a negative errno; -ENOENT: no backend of its group was there yet.
 */
int lb_backends_group(struct lb_backends *backends, uint32_t id);

/*
 * Creates the groups @group[0 .. @n - 1], which are not there yet, and opens them. Returns 0 or a
 * negative errno.
 */
int lb_backends_create(struct lb_backends *backends, const uint32_t *group, uint32_t n);

/*
 * Sums the counters of the backend @id over all processors into *@out (next hop fields: one of them).
 * Returns 0 or a negative errno.
 */
int lb_backends_read(struct lb_backends *backends, uint32_t id, struct ss_lb_backend_cpu *out);

#endif
