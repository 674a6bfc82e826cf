/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The balancer's table of flows: how many connections a backend has left that gets no new ones, and which
 * flows have to move. The table knows those only that stay on the balancer, and of these the client's
 * packets: a connection is over a while after the client has closed it, or if nothing has come for long
 * (RFC 5382, section 5).
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

/*
 * Takes UDP's flows of the backends that are set in @down, which has SS_LB_IDS items, by backend id, out of the
 * table: their next packets choose anew. To be called once no packet uses a table of backends any more in
 * which they are up. Returns 0 or a negative errno.
 */
int lb_flows_forget_udp(const struct lb_maps *maps, const bool *down);

#endif
