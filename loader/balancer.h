/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The life of the balancer: loaded, brought in line with a configuration, changed, unloaded. */
#ifndef SIDESTEP_LOADER_BALANCER_H
#define SIDESTEP_LOADER_BALANCER_H

#include "config.h"
#include "error.h"
#include "lb_maps.h"
#include "pins.h"

/*
 * Makes the balancer run as @config says: loads it, or, if it is loaded, applies the difference.
 * When the first start fails, nothing is left. @warn gets lines about what works, but not as one
 * would expect. Returns 0 or a negative errno with @err set.
 */
int balancer_up(const struct pins *pins, const struct balancer_config *config,
		void (*warn)(const char *text), struct error *err);

/*
 * Unloads the balancer. Redirected connections do not need it. One of another network namespace
 * stays, unless @force, and -EEXIST is returned with @err set.
 */
int balancer_down(const struct pins *pins, bool force, struct error *err);

/* Opens the running balancer's maps; close with balancer_maps_close(). 0, or @err set. */
int balancer_maps_open(const struct pins *pins, struct lb_maps *out, struct error *err);
void balancer_maps_close(struct lb_maps *maps);

/*
 * Changes the running service named @service: reads it from the kernel, has @change edit it, and
 * puts it back as a whole. @change returns 0, or a negative errno with its error set.
 */
int balancer_change(const struct pins *pins, const char *service,
		    int (*change)(struct service_config *service, void *arg, struct error *err),
		    void *arg, struct error *err);

#endif
