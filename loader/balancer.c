// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "balancer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "balancer.skel.h"
#include "interfaces.h"
#include "lb_apply.h"
#include "lb_limit.h"
#include "lb_neighbours.h"
#include "lb_table.h"
#include "platform.h"
#include "report.h"
#include "xdp.h"

void balancer_maps_close(struct lb_maps *maps)
{
#define CLOSE(name)                \
	if (maps->name >= 0)       \
		close(maps->name); \
	maps->name = -1;
	LB_MAPS(CLOSE)
#undef CLOSE
}

static bool all_open(const struct lb_maps *maps)
{
#define AND_OPEN(name) &&maps->name >= 0
	return true LB_MAPS(AND_OPEN);
#undef AND_OPEN
}

int balancer_maps_open(const struct pins *pins, struct lb_maps *out, struct error *err)
{
	struct lb_maps maps = {
#define OPEN(name) .name = pins_get(pins, #name),
		LB_MAPS(OPEN)
#undef OPEN
	};

	if (!all_open(&maps)) {
		balancer_maps_close(&maps);
		return error_set(
			err, -ENOENT,
			"no balancer is loaded below %s; start one with: sidestep balancer "
			"up FILE",
			pins->dir);
	}
	*out = maps;
	return 0;
}

/* Creates and pins the maps, without a program: they are filled before any packet comes. */
static int maps_create(const struct pins *pins, struct error *err)
{
	struct balancer_bpf *skel = balancer_bpf__open();
	int ret;

	if (!skel)
		return error_set(err, -errno, "cannot open the XDP program: %s", strerror(errno));
	bpf_program__set_autoload(skel->progs.sidestep_lb, false);
	ret = pins_use_for_maps(pins, skel->obj, err);
	if (!ret && balancer_bpf__load(skel))
		ret = error_set(err, -errno,
				"cannot create the balancer's maps: %s (-v shows more)",
				strerror(errno));
	balancer_bpf__destroy(skel);
	return ret;
}

/* Fills in the sources of outer headers that the configuration leaves to the routes. */
static int sources_find(struct service_config *services, unsigned count, struct error *err)
{
	for (unsigned i = 0; i < count; i++) {
		struct service_config *service = &services[i];
		const struct ss_addr *to = service_sent_to(service);
		struct ss_addr *source = &service->source[!ss_addr_is_v4(to)];
		int ret;

		if (service->method == SS_METHOD_REWRITE || !service->backends_count ||
		    ss_addr_is_set(source))
			continue;
		ret = platform_source(to, source);
		if (ret)
			return error_set(err, ret,
					 "service %s: no address to reach backend %s from (%s); "
					 "set balancer.source",
					 service->name, service->backends[0].name, strerror(-ret));
	}
	return 0;
}

/* Whose reports are taken in; before the services, so that a bad key changes nothing. */
static int reports_apply(const struct lb_maps *maps, const struct balancer_config *config,
			 struct error *err)
{
	struct ss_lb_report_rules rules = { .port = SS_BE16(config->reports.port) };
	struct ss_addr *own = NULL;
	int n = 0, ret;

	if (config->reports.port) {
		if (report_key_load(config->reports.key, &rules.key, err))
			return -EINVAL;
		n = platform_addresses(&own);
		if (n < 0)
			return error_set(err, n, "cannot list this host's addresses: %s",
					 strerror(-n));
	}
	ret = lb_reports_accept(maps, n ? &rules : NULL, own, n);
	free(own);
	return ret ? error_set(err, ret, "cannot write whose reports are taken: %s", strerror(-ret))
		   : 0;
}

static int rules_apply(const struct lb_maps *maps, const struct balancer_config *config,
		       struct error *err)
{
	struct ss_lb_rules rules = { .pass_fragments = config->pass_fragments,
				     .no_service = config->no_service };
	int ret = lb_rules_write(maps, &rules);

	return ret ? error_set(err, ret, "cannot write the balancer's rules: %s", strerror(-ret))
		   : 0;
}

static int syn_limit_apply(const struct lb_maps *maps, const struct balancer_config *config,
			   struct error *err)
{
	int ret = lb_syn_limit_write(maps, &config->syn_limit);

	return ret ? error_set(err, ret, "cannot write the limit of SYNs: %s", strerror(-ret)) : 0;
}

/* Which IP versions leave for the services' backends: the kernel must forward those. */
static int forwarding_check(const struct balancer_config *config, struct error *err)
{
	bool v4 = false, v6 = false;
	int ret = 0;

	for (unsigned i = 0; i < config->services_count; i++) {
		if (ss_addr_is_v4(service_sent_to(&config->services[i])))
			v4 = true;
		else
			v6 = true;
	}
	for (unsigned i = 0; i < config->interfaces_count && !ret; i++) {
		if (v4)
			ret = platform_forwarding(config->interfaces[i], "ipv4", err);
		if (v6 && !ret)
			ret = platform_forwarding(config->interfaces[i], "ipv6", err);
	}
	return ret;
}

static int interfaces_attach(const struct pins *pins, const struct balancer_config *config,
			     const int *ifindex, void (*warn)(const char *text), struct error *err)
{
	struct error notice;
	int ret = 0;

	for (unsigned i = 0; i < config->interfaces_count && !ret; i++) {
		ret = xdp_attach(pins, ifindex[i], config->interfaces[i], config->xdp_mode, &notice,
				 err);
		if (!ret && notice.text[0])
			warn(notice.text);
	}
	return ret;
}

/* What the maps say of services and all else. */
static int maps_apply(const struct pins *pins, const struct balancer_config *config,
		      struct error *err)
{
	struct lb_maps maps;
	int ret;

	ret = balancer_maps_open(pins, &maps, err);
	if (ret)
		return ret;
	ret = sources_find(config->services, config->services_count, err);
	if (!ret)
		ret = reports_apply(&maps, config, err);
	if (!ret)
		ret = rules_apply(&maps, config, err);
	if (!ret)
		ret = syn_limit_apply(&maps, config, err);
	if (!ret)
		ret = lb_services_apply(&maps, config->services, config->services_count, err);
	balancer_maps_close(&maps);
	return ret < 0 ? ret : 0;
}

/* The program stays on the interfaces that were configured last, and on no others. */
static void detach_others(const struct pins *pins)
{
	unsigned n;
	int *ifindex = interfaces_indices(pins, &n);

	if (ifindex)
		xdp_detach_others(pins, ifindex, n);
	free(ifindex);
}

/*
 * At first the services, so that no packet comes by before they are there. Where they are already,
 * the program first: an interface that takes none must not leave half of @config in force.
 */
static int balancer_apply(const struct pins *pins, bool running,
			  const struct balancer_config *config, const int *ifindex,
			  void (*warn)(const char *text), struct error *err)
{
	int ret = running ? interfaces_attach(pins, config, ifindex, warn, err) : 0;

	if (!ret)
		ret = maps_apply(pins, config, err);
	if (!ret && !running)
		ret = interfaces_attach(pins, config, ifindex, warn, err);
	if (!ret)
		ret = interfaces_write(pins, config->interfaces, ifindex, config->interfaces_count,
				       err);
	detach_others(pins);
	if (ret)
		return ret;
	lb_neighbours_keep(pins, config->services, config->services_count);
	lb_ways_check(pins, config, ifindex, warn);
	return 0;
}

static void balancer_remove(const struct pins *pins)
{
	xdp_detach_others(pins, NULL, 0);
	lb_neighbours_release(pins);
	pins_remove(pins);
}

/* Creates what is not there yet, and applies @config. */
static int balancer_start(const struct pins *pins, enum pins_state state,
			  const struct balancer_config *config, const int *ifindex,
			  void (*warn)(const char *text), struct error *err)
{
	int ret = 0;

	if (state == PINS_BROKEN)
		balancer_remove(pins);
	if (state != PINS_OURS)
		ret = pins_mkdir(pins, err);
	if (!ret && state != PINS_OURS)
		ret = maps_create(pins, err);
	if (!ret && state != PINS_OURS)
		ret = pins_claim(pins, err);
	if (!ret)
		ret = balancer_apply(pins, state == PINS_OURS, config, ifindex, warn, err);
	if (!ret && state != PINS_OURS)
		ret = pins_commit(pins, err);
	if (ret && state != PINS_OURS)
		balancer_remove(pins);
	return ret;
}

int balancer_up(const struct pins *pins, const struct balancer_config *config,
		void (*warn)(const char *text), struct error *err)
{
	enum pins_state state = pins_state(pins, err);
	int *ifindex, ret;

	if (state == PINS_OTHER || state == PINS_ELSEWHERE)
		return -EEXIST;
	ret = platform_interfaces(config->interfaces, config->interfaces_count, &ifindex, err);
	if (ret)
		return ret;
	ret = forwarding_check(config, err);
	if (!ret)
		ret = lb_neighbours_check(config->services, config->services_count, err);
	if (!ret)
		ret = balancer_start(pins, state, config, ifindex, warn, err);
	free(ifindex);
	return ret;
}

int balancer_down(const struct pins *pins, bool force, struct error *err)
{
	if (pins_state(pins, err) == PINS_ELSEWHERE && !force)
		return -EEXIST;
	balancer_remove(pins);
	return 0;
}

/* All services as configurations, with the one named @name edited by @change. */
static int
services_change(const struct lb_services *now, const char *name, struct service_config *configs,
		int (*change)(struct service_config *service, void *arg, struct error *err),
		void *arg, struct error *err)
{
	bool found = false;

	for (unsigned i = 0; i < now->count; i++) {
		const struct lb_service *service = &now->item[i];
		int ret = lb_table_to_config(&service->table, &service->vip, &configs[i]);

		if (ret)
			return error_set(err, ret, "out of memory");
		if (strcmp(configs[i].name, name))
			continue;
		found = true;
		ret = change(&configs[i], arg, err);
		if (ret)
			return ret;
	}
	if (!found)
		return error_set(err, -ENOENT,
				 "there is no service %s (see: sidestep balancer status)", name);
	return 0;
}

int balancer_change(const struct pins *pins, const char *service,
		    int (*change)(struct service_config *service, void *arg, struct error *err),
		    void *arg, struct error *err)
{
	struct service_config *configs = NULL;
	struct lb_services now = {};
	enum pins_state state = pins_state(pins, err);
	struct lb_maps maps;
	int ret;

	if (state == PINS_OTHER || state == PINS_ELSEWHERE)
		return -EEXIST;
	ret = balancer_maps_open(pins, &maps, err);
	if (ret)
		return ret;
	ret = lb_services_read(&maps, &now, err);
	if (ret)
		goto out;
	configs = calloc(now.count + 1, sizeof(*configs));
	if (!configs) {
		ret = error_set(err, -ENOMEM, "out of memory");
		goto out;
	}
	ret = services_change(&now, service, configs, change, arg, err);
	if (!ret) /* of one that had no backend yet */
		ret = sources_find(configs, now.count, err);
	if (!ret)
		ret = lb_neighbours_check(configs, now.count, err);
	if (!ret)
		lb_neighbours_keep(pins, configs, now.count);
	if (!ret)
		ret = lb_services_apply(&maps, configs, now.count, err);
out:
	for (unsigned i = 0; configs && i < now.count; i++)
		service_config_done(&configs[i]);
	free(configs);
	lb_services_done(&now);
	balancer_maps_close(&maps);
	return ret < 0 ? ret : 0;
}
