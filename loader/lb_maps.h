/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The services in the kernel, read back from the balancer's maps. lb_apply.h changes them. */
#ifndef SIDESTEP_LB_MAPS_H
#define SIDESTEP_LB_MAPS_H

#include <linux/types.h>

#include <sidestep/lb.h>

#include "error.h"
#include "lb_table.h"

/* The balancer's maps (lb-xdp/maps.h) that user space works with, by their names. */
#define LB_MAPS(X)      \
	X(services)     \
	X(small_tables) \
	X(large_tables) \
	X(backend_cpu)  \
	X(counters)     \
	X(reporters)    \
	X(loads)        \
	X(report_rules) \
	X(report_to)    \
	X(rules)        \
	X(quic_ids)     \
	X(syn_limit)    \
	X(flows)        \
	X(health)       \
	X(services_changed)

/* Their file descriptors. */
struct lb_maps {
#define LB_MAP_FD(name) int name;
	LB_MAPS(LB_MAP_FD)
#undef LB_MAP_FD
};

/* The map of tables of that size. */
static inline int lb_tables(const struct lb_maps *maps, bool large)
{
	return large ? maps->large_tables : maps->small_tables;
}

/* One service as it stands in the kernel. */
struct lb_service {
	struct ss_endpoint vip;
	uint32_t index;
	bool is_large; /* its table */
	struct lb_table table; /* to read, not to write */
};

struct lb_services {
	struct lb_service *item;
	unsigned count;
	void *row; /* of all tables */
	size_t row_size;
};

/*
 * Tables are mapped in a row, so that they go together: each time a mapping goes, all processors wait for
 * each other. lb_row_reserve(): @size bytes of address space, by lb_table_room() for each; NULL: there is
 * not as much.
 */
size_t lb_table_room(bool large);
void *lb_row_reserve(size_t size);

/*
 * Reads all services, ordered by name. Their tables are mapped, not copied; they stay as they are even
 * where services are replaced meanwhile. Returns 0 or a negative errno with @err set.
 */
int lb_services_read(const struct lb_maps *maps, struct lb_services *out, struct error *err);
void lb_services_done(struct lb_services *services);

/*
 * From now on servers' reports are taken in as @rules says, by the @n addresses @own of this balancer;
 * NULL: none are. The clocks' difference is put in here. 0 or a negative errno (-E2BIG: too many addresses).
 */
int lb_reports_accept(const struct lb_maps *maps, const struct ss_lb_report_rules *rules,
		      const struct ss_addr *own, unsigned n);

/* From now on the balancer does as @rules says; what it does. Return 0 or a negative errno. */
int lb_rules_write(const struct lb_maps *maps, const struct ss_lb_rules *rules);
int lb_rules_read(const struct lb_maps *maps, struct ss_lb_rules *rules);

/* The load that the backend reported, into *@out. Returns 1, or 0 if there is none that counts now. */
int lb_load_read(const struct lb_maps *maps, uint32_t id, struct ss_lb_load *out);

/* Opens the inner map at @index of the map of maps @fd. A file descriptor or a negative errno. */
int lb_inner_open(int fd, uint32_t index);

#endif
