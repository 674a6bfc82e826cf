/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* From a service as configured to the table that the balancer's XDP program reads, and back. Pure. */
#ifndef SIDESTEP_LB_TABLE_H
#define SIDESTEP_LB_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include <sidestep/lb.h>

#include "config.h"

/* What stands where in a table, small or large (sidestep/lb.h). */
struct lb_table {
	struct ss_lb_head *head;
	__u16 *slot;
	struct ss_lb_backend *backend;
	char *name;
	struct ss_lb_backend_info *info;
};

/*
 * Does @service have a large table? Its configuration says so by its number of slots, or else its number
 * of backends does, whatever their states and weights: balancers that do not know of each other agree.
 */
bool lb_table_is_large(const struct service_config *service);

/* Bytes of a table. */
size_t lb_table_size(bool large);

/* Finds the parts of the table at @memory. -EINVAL: what is there is none; -ENOENT: only zeroes are. */
int lb_table_view(void *memory, bool large, struct lb_table *out);

/*
 * Builds the table of @service at @memory: lb_table_size() bytes of zeroes, 8-aligned. @index is the
 * service's place in the maps of tables, @ids[i] the id of backend i, an index into the map
 * "backend_cpu"; @old the head of the table that it replaces, or NULL. Backends that are up and have a
 * weight take new connections. Returns 0 or a negative errno; -E2BIG: its table has not as much room as it
 * has backends.
 */
int lb_table_build(const struct service_config *service, uint32_t index, const uint32_t *ids,
		   const struct ss_lb_head *old, void *memory);

/* Is @table what lb_table_build() makes of @service, apart from index and ids? */
bool lb_table_is(const struct lb_table *table, const struct service_config *service);

/*
 * The reverse: what @table, which answers at @vip, was built from, into *@out. The backends come
 * in the table's order. Returns 0 or -ENOMEM; free *@out with service_config_done().
 */
int lb_table_to_config(const struct lb_table *table, const struct ss_endpoint *vip,
		       struct service_config *out);

/* Does backend @i of @service take new connections? */
bool lb_backend_active(const struct service_config *service, unsigned i);

/* What tells the backend at @endpoint from another one with its id (ss_lb_backend.owner). */
uint32_t lb_backend_owner(const struct ss_endpoint *endpoint);

/* What packets need to know of @b, whose id is @id. */
struct ss_lb_backend lb_backend_make(const struct backend_config *b, uint32_t id);

/* Frees what @service points to. */
void service_config_done(struct service_config *service);

/* Text of a scheduler, a method and a backend's state, as the configuration writes them. */
const char *scheduler_name(enum ss_scheduler scheduler);
const char *method_name(enum ss_method method);
const char *backend_state_name(enum ss_backend_state state);

#endif
