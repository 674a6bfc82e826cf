/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* From a service as configured to the table that the balancer's XDP program reads. Pure. */
#ifndef SIDESTEP_LB_TABLE_H
#define SIDESTEP_LB_TABLE_H

#include <sidestep/lb.h>

#include "config.h"

/*
 * Builds the table of @service into *@out. @index is the service's place in the map "tables",
 * @ids[i] the id of backend i, an index into the map "backend_cpu". Backends that are up and have
 * a weight take new connections. Returns 0 or a negative errno.
 */
int lb_table_build(const struct service_config *service, uint32_t index, const uint32_t *ids,
		   struct ss_lb_table *out);

/*
 * The reverse: what @table, which answers at @vip, was built from, into *@out. The backends come
 * in the table's order. Returns 0 or -ENOMEM; free *@out with service_config_done().
 */
int lb_table_to_config(const struct ss_lb_table *table, const struct ss_endpoint *vip,
		       struct service_config *out);

/* What tells the backend at @endpoint from another one with its id (ss_lb_backend.owner). */
uint32_t lb_backend_owner(const struct ss_endpoint *endpoint);

/* Frees what @service points to. */
void service_config_done(struct service_config *service);

/* Text of a scheduler, a method and a backend's state, as the configuration writes them. */
const char *scheduler_name(enum ss_scheduler scheduler);
const char *method_name(enum ss_method method);
const char *backend_state_name(enum ss_backend_state state);

#endif
