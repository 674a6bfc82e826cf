/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The balancer's XDP program on interfaces, through libxdp, so that it can share an interface with
 * other XDP programs. A pin "xdp_IFINDEX" (the program) records what is ours.
 */
#ifndef SIDESTEP_XDP_H
#define SIDESTEP_XDP_H

#include <stdbool.h>

#include "config.h"
#include "error.h"
#include "pins.h"

/*
 * Loads the balancer's program over the pinned maps and attaches it to @ifindex by @mode; unless it
 * is. Where XDP_AUTO had to take generic mode since the driver refused, @notice says so and why, else
 * it becomes "". Returns 0, or a negative errno with @err set.
 */
int xdp_attach(const struct pins *pins, int ifindex, const char *interface, enum xdp_mode mode,
	       struct error *notice, struct error *err);

/* Interface index of a pin's name; 0 if it is not one of an XDP program. */
int xdp_attached_ifindex(const char *name);

/* How the program pinned as @name runs: "native", "generic"; NULL if it is not attached now. */
const char *xdp_attached_mode(const struct pins *pins, const char *name);

/* Detaches our programs from every interface that is not in @keep (@n interface indices). */
void xdp_detach_others(const struct pins *pins, const int *keep, unsigned n);

#endif
