/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Whose load reports the balancer takes for which backend: the map "reporters". */
#ifndef SIDESTEP_LB_REPORTERS_H
#define SIDESTEP_LB_REPORTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "lb_maps.h"

/*
 * The backends of @service may report as those of the ids @ids; only those with @added[i] are written.
 * Returns 0 or a negative errno.
 */
int lb_reporters_add(const struct lb_maps *maps, const struct service_config *service,
		     const uint32_t *ids, const bool *added);

/*
 * The backends of @service may report no more, but for those with @stays[i]; NULL: none of them. Returns
 * 0 or a negative errno.
 */
int lb_reporters_remove(const struct lb_maps *maps, const struct lb_service *service,
			const bool *stays);

#endif
