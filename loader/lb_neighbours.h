/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The next hops toward backends. Frames that leave by XDP do not tell the kernel that a neighbour is in
 * use, so the kernel is asked to keep these resolved by itself ("managed", Linux 5.16). The map
 * "neighbours" has those that it was asked for: the program hands no client's packet to it for that,
 * which a filter for forwarded packets might drop.
 */
#ifndef SIDESTEP_LB_NEIGHBOURS_H
#define SIDESTEP_LB_NEIGHBOURS_H

#include "config.h"
#include "error.h"
#include "pins.h"

/* Where packets to an address leave. */
struct next_hop {
	int family; /* of addr */
	int ifindex;
	bool is_local; /* the address is this machine's own */
	struct ss_addr addr; /* the gateway, or the address itself */
};

/* The way to @to. Returns 0, or a negative errno if there is none. */
int next_hop_find(const struct ss_addr *to, struct next_hop *out);

/* Is the link address of @hop known to the kernel now? */
bool next_hop_is_known(const struct next_hop *hop);

/*
 * Is a backend of @services this machine, and cannot be by its service's method? Then -EINVAL is returned, with
 * @err set; else 0.
 */
int lb_neighbours_check(const struct service_config *services, unsigned count, struct error *err);

/* Asks the kernel to keep the next hops of all backends resolved. One that it cannot is left as it was. */
void lb_neighbours_keep(const struct pins *pins, const struct service_config *services,
			unsigned count);

/*
 * Tells @warn of interfaces that backends are reached by, other than those that packets come in by (the
 * interfaces of @config, @ifindex), and that take no frames from XDP. Linux 6.3 and later say so.
 */
void lb_ways_check(const struct pins *pins, const struct balancer_config *config,
		   const int *ifindex, void (*warn)(const char *text));

/* Undoes lb_neighbours_keep(). */
void lb_neighbours_release(const struct pins *pins);

#endif
