/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The map "health": what decides whether a backend gets new connections, beside its state. There are
 * entries for the active backends of services that have "suspect" or "slow_start"; they begin here, and
 * the XDP program goes on with them.
 */
#ifndef SIDESTEP_LB_HEALTH_H
#define SIDESTEP_LB_HEALTH_H

#include <stdbool.h>

#include "config.h"
#include "lb_maps.h"

/*
 * New entries for the backends of @service, of these @ids, that have none yet, or have just come up: a
 * slow start begins then, unless the service, @old, had no others (NULL: it is new). Returns 0 or a
 * negative errno.
 */
int lb_health_apply(const struct lb_maps *maps, const struct service_config *service,
		    const uint32_t *ids, const struct lb_service *old);

/*
 * Deletes those of the backends of @old that are gone (by backend: not @stays; NULL: all), or of all, if
 * @service (NULL: removed) does without. Returns 0 or a negative errno.
 */
int lb_health_forget(const struct lb_maps *maps, const struct service_config *service,
		     const struct lb_service *old, const bool *stays);

/* Which connections a backend gets, of those that are its. */
enum lb_condition {
	LB_CONDITION_GOOD, /* all */
	LB_CONDITION_SLOW, /* a growing part: it has just come up */
	LB_CONDITION_HELD, /* none: too many SYNs came again */
	LB_CONDITION_TRIED, /* some, after that */
};

const char *lb_condition_name(enum lb_condition condition);

/* The condition of @h, of a service with @head; *@seconds: how long it will last, 0: unknown. */
enum lb_condition lb_health_condition(const struct ss_lb_health *h, const struct ss_lb_head *head,
				      unsigned *seconds);

/* What is known of the backend @id; *@out is zeroes if nothing is. */
void lb_health_read(const struct lb_maps *maps, uint32_t id, struct ss_lb_health *out);

#endif
