/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The services in the kernel: reading them back from the balancer's maps, and making the maps say
 * what a configuration says, by the difference and one service at a time, each at once.
 */
#ifndef SIDESTEP_LB_MAPS_H
#define SIDESTEP_LB_MAPS_H

#include <linux/types.h>

#include <sidestep/lb.h>

#include "config.h"
#include "error.h"

/* File descriptors of the balancer's maps (lb-xdp/maps.h). */
struct lb_maps {
	int services;
	int tables;
	int backend_cpu;
	int counters;
	int reporters;
	int loads;
	int report_rules;
};

/* One service as it stands in the kernel. */
struct lb_service {
	struct ss_endpoint vip;
	uint32_t index;
	struct ss_lb_table *table;
};

struct lb_services {
	struct lb_service *item;
	unsigned count;
};

/* Reads all services, ordered by name. Returns 0 or a negative errno with @err set. */
int lb_services_read(const struct lb_maps *maps, struct lb_services *out, struct error *err);
void lb_services_done(struct lb_services *services);

/*
 * Makes the kernel serve exactly @services. What is the same stays untouched; a service whose
 * backends, weights or scheduler differ is replaced as a whole. A backend that stays keeps its id
 * and so its counters. Returns how many services changed, or a negative errno with @err set.
 */
int lb_services_apply(const struct lb_maps *maps, const struct service_config *services,
		      unsigned count, struct error *err);

/* Sums the backend's counters over all processors into *@out (next hop fields: one of them). */
int lb_backend_read(const struct lb_maps *maps, uint32_t id, struct ss_lb_backend_cpu *out);

/* From now on servers' reports are taken in as @rules says; NULL: none are. 0 or a negative errno. */
int lb_reports_accept(const struct lb_maps *maps, const struct ss_lb_report_rules *rules);

/* The load that the backend reported, into *@out. Returns 1, or 0 if there is none that counts now. */
int lb_load_read(const struct lb_maps *maps, uint32_t id, struct ss_lb_load *out);

#endif
