/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Which backends the connection ids of QUIC name: the map "quic_ids". */
#ifndef SIDESTEP_LB_QUIC_IDS_H
#define SIDESTEP_LB_QUIC_IDS_H

#include <stdint.h>

#include "config.h"
#include "lb_maps.h"

/*
 * The backends of @service, at @index of the map "tables" and with the ids @ids, are found by their
 * quic_id from now on. Returns 0 or a negative errno.
 */
int lb_quic_ids_add(const struct lb_maps *maps, const struct service_config *service,
		    uint32_t index, const uint32_t *ids);

/* Those of @old are not any more, but for those that @now (NULL: none) has. */
void lb_quic_ids_remove(const struct lb_maps *maps, const struct lb_service *old,
			const struct service_config *now);

#endif
