// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "maglev.h"

uint32_t lb_backend_owner(const struct ss_endpoint *endpoint)
{
	return slot_hash(endpoint, sizeof(*endpoint));
}

/* Of a service in the table of flows: the same after it was removed and came back. */
static uint32_t flow_id(const struct service_config *service)
{
	uint32_t id = slot_hash(&service->vip, sizeof(service->vip));

	if (!service->flow_table)
		return 0;
	return id ? id : 1;
}

/* Whose state lets backends of @service take connections: down ones only if nothing else is left. */
static enum ss_backend_state state_that_serves(const struct service_config *service)
{
	for (unsigned i = 0; i < service->backends_count; i++)
		if (service->backends[i].state == SS_BACKEND_UP && service->backends[i].weight)
			return SS_BACKEND_UP;
	return service->fail_open ? SS_BACKEND_DOWN : SS_BACKEND_UP;
}

/* Puts the backends of @service that do (or do not) take connections behind those in @out. */
static void append_backends(const struct service_config *service, const uint32_t *ids, bool active,
			    struct ss_lb_table *out)
{
	enum ss_backend_state serving = state_that_serves(service);

	for (unsigned i = 0; i < service->backends_count; i++) {
		const struct backend_config *b = &service->backends[i];
		struct ss_lb_backend_info *info = &out->info[out->backends];

		if ((b->state == serving && b->weight > 0) != active)
			continue;
		out->backend[out->backends].endpoint = b->address;
		out->backend[out->backends].id = ids[i];
		out->backend[out->backends].owner = lb_backend_owner(&b->address);
		snprintf(info->name, sizeof(info->name), "%s", b->name);
		info->weight = b->weight;
		info->state = b->state;
		out->backends++;
	}
}

/* Fills the slots of @out as its scheduler wants them. Returns 0 or a negative errno. */
static int slots_fill(struct ss_lb_table *out, const struct slot_backend *weighted)
{
	switch (out->scheduler) {
#define FILL(id, name, hashed, choose, fill) \
	case SS_SCHED_##id:                  \
		return fill##_fill(out->slot, SS_LB_SLOTS, weighted, out->active);
		SS_SCHEDULERS(FILL)
#undef FILL
	}
	return -EINVAL;
}

int lb_table_build(const struct service_config *service, uint32_t index, const uint32_t *ids,
		   struct ss_lb_table *out)
{
	struct slot_backend *weighted;
	int err;

	memset(out, 0, sizeof(*out));
	snprintf(out->name, sizeof(out->name), "%s", service->name);
	out->scheduler = service->scheduler;
	out->index = index;
	out->method = service->method;
	out->source = service->source;
	out->flow_id = flow_id(service);
	out->fail_open = service->fail_open;
	append_backends(service, ids, true, out);
	out->active = out->backends;
	append_backends(service, ids, false, out);
	if (!out->active)
		return 0;

	weighted = calloc(out->active, sizeof(*weighted));
	if (!weighted)
		return -ENOMEM;
	for (unsigned i = 0; i < out->active; i++) {
		const struct ss_endpoint *endpoint = &out->backend[i].endpoint;

		weighted[i].hash = slot_hash(endpoint, sizeof(*endpoint));
		weighted[i].weight = out->info[i].weight;
	}
	err = slots_fill(out, weighted);
	free(weighted);
	return err;
}

int lb_table_to_config(const struct ss_lb_table *table, const struct ss_endpoint *vip,
		       struct service_config *out)
{
	struct service_config service = {
		.vip = *vip,
		.scheduler = table->scheduler,
		.method = table->method,
		.source = table->source,
		.flow_table = table->flow_id != 0,
		.fail_open = table->fail_open,
		.backends_count = table->backends,
	};

	service.backends = calloc(table->backends + 1, sizeof(*service.backends));
	if (!service.backends)
		return -ENOMEM;
	snprintf(service.name, sizeof(service.name), "%s", table->name);
	for (unsigned i = 0; i < table->backends; i++) {
		struct backend_config *b = &service.backends[i];

		snprintf(b->name, sizeof(b->name), "%s", table->info[i].name);
		b->address = table->backend[i].endpoint;
		b->weight = table->info[i].weight;
		b->state = table->info[i].state;
	}
	*out = service;
	return 0;
}

void service_config_done(struct service_config *service)
{
	free(service->backends);
	service->backends = NULL;
	service->backends_count = 0;
}

const char *scheduler_name(enum ss_scheduler scheduler)
{
	return scheduler < SS_SCHED_MAX ? config_schedulers[scheduler] : "?";
}

const char *method_name(enum ss_method method)
{
	return method < SS_METHOD_MAX ? config_methods[method] : "?";
}

const char *backend_state_name(enum ss_backend_state state)
{
	return state < CONFIG_STATES ? config_states[state] : "?";
}
