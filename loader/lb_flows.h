/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The balancer's table of flows, counted by backend: how many connections one has left that gets no new
 * ones. The table knows those only that stay on the balancer, and of these the client's packets: one
 * is over a while after the client has closed it, or if nothing has come for long (RFC 5382, section 5).
 */
#ifndef SIDESTEP_LB_FLOWS_H
#define SIDESTEP_LB_FLOWS_H

#include <stdbool.h>

#include <sidestep/lb.h>

#include "lb_maps.h"

/* What is left of one backend. */
struct lb_left {
	bool wanted;
	__u32 owner; /* as in ss_lb_backend */
	unsigned connections;
	unsigned quiet; /* seconds since the last packet of any of them */
};

/*
 * Counts the connections of every backend that is wanted in @left, which has SS_LB_IDS items, by
 * backend id. Returns 0 or a negative errno.
 */
int lb_flows_count(const struct lb_maps *maps, struct lb_left *left);

#endif
