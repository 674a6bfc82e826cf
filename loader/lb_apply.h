/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Makes the balancer's maps say what a configuration says, by the difference: tables are built on
 * several threads and put into the kernel in batches, and each service changes at once.
 */
#ifndef SIDESTEP_LB_APPLY_H
#define SIDESTEP_LB_APPLY_H

#include "config.h"
#include "error.h"
#include "lb_maps.h"

/*
 * Makes the kernel serve exactly @services. What is the same stays untouched; a service whose
 * backends, weights or scheduler differ is replaced as a whole. A backend that stays keeps its id
 * and so its counters. Returns how many services changed, or a negative errno with @err set; some
 * services may have changed then.
 */
int lb_services_apply(const struct lb_maps *maps, const struct service_config *services,
		      unsigned count, struct error *err);

#endif
