// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_table.h"

#include <errno.h>
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

bool lb_table_is_large(const struct service_config *service)
{
	if (service->slots)
		return service->slots == SS_LB_LARGE_SLOTS;
	return service->backends_count > SS_LB_SMALL_BACKENDS;
}

size_t lb_table_size(bool large)
{
	return large ? sizeof(struct ss_lb_large_table) : sizeof(struct ss_lb_small_table);
}

static uint32_t slots_of(bool large)
{
	return large ? SS_LB_LARGE_SLOTS : SS_LB_SMALL_SLOTS;
}

static uint32_t backends_max(bool large)
{
	return large ? SS_LB_LARGE_BACKENDS : SS_LB_SMALL_BACKENDS;
}

#define PARTS(table)                                                                        \
	((struct lb_table){ &(table)->head, (table)->slot, (table)->backend, (table)->name, \
			    (table)->info })

/* The parts of a table at @memory. */
static struct lb_table table_parts(void *memory, bool large)
{
	struct ss_lb_small_table *small_table = memory;
	struct ss_lb_large_table *large_table = memory;

	return large ? PARTS(large_table) : PARTS(small_table);
}

int lb_table_view(void *memory, bool large, struct lb_table *out)
{
	const struct ss_lb_head *head = memory;

	if (!head->slots)
		return -ENOENT;
	if (head->slots != slots_of(large) || head->backends > backends_max(large) ||
	    head->active > head->backends)
		return -EINVAL;
	*out = table_parts(memory, large);
	return 0;
}

struct ss_lb_backend lb_backend_make(const struct backend_config *b, uint32_t id)
{
	return (struct ss_lb_backend){
		.endpoint = b->address,
		.id = id,
		.owner = lb_backend_owner(&b->address),
		.weight = b->weight,
	};
}

/* Does @b take connections, where @serving is state_that_serves()? */
static bool is_active(const struct backend_config *b, enum ss_backend_state serving)
{
	return b->state == serving && b->weight > 0;
}

/* Puts the backends of @service that do (or do not) take connections behind those in @out. */
static void append_backends(const struct service_config *service, const uint32_t *ids, bool active,
			    struct lb_table *out)
{
	enum ss_backend_state serving = state_that_serves(service);

	for (unsigned i = 0; i < service->backends_count; i++) {
		const struct backend_config *b = &service->backends[i];
		uint32_t at = out->head->backends;

		if (is_active(b, serving) != active)
			continue;
		out->backend[at] = lb_backend_make(b, ids[i]);
		memcpy(out->info[at].name, b->name, SS_LB_NAME_LEN);
		out->info[at].state = b->state;
		memcpy(out->info[at].quic_id, b->quic_id, SS_LB_QUIC_ID);
		out->head->backends++;
	}
}

/* Fills the slots of @table as its scheduler wants them. Returns 0 or a negative errno. */
static int slots_fill(struct lb_table *table, const struct slot_backend *weighted)
{
	const struct ss_lb_head *head = table->head;

	switch (head->scheduler) {
#define FILL(id, name, hashed, choose, fill) \
	case SS_SCHED_##id:                  \
		return fill##_fill(table->slot, head->slots, weighted, head->active);
		SS_SCHEDULERS(FILL)
#undef FILL
	}
	return -EINVAL;
}

static int slots_build(struct lb_table *table)
{
	uint32_t active = table->head->active;
	struct slot_backend *weighted = calloc(active + 1, sizeof(*weighted));
	int err;

	if (!weighted)
		return -ENOMEM;
	for (uint32_t i = 0; i < active; i++) {
		const struct ss_lb_backend *b = &table->backend[i];

		weighted[i].hash = slot_hash(&b->endpoint, sizeof(b->endpoint));
		weighted[i].weight = b->weight;
	}
	err = active ? slots_fill(table, weighted) : 0;
	free(weighted);
	return err;
}

/* The head of the table of @service, but for the numbers of its backends. */
static struct ss_lb_head head_of(const struct service_config *service, uint32_t index)
{
	return (struct ss_lb_head){
		.scheduler = service->scheduler,
		.index = index,
		.slots = slots_of(lb_table_is_large(service)),
		.slots_wanted = service->slots,
		.method = service->method,
		.flow_id = flow_id(service),
		.source4 = service->source[0].w[3],
		.source6 = service->source[1],
		.fail_open = service->fail_open,
		.quic_id_len = service->quic_id_len,
		.slow_start = service->slow_start,
		.suspect_count = service->suspect.count,
		.suspect_share = service->suspect.share,
		.suspect_hold = service->suspect.hold,
		.answers =
			service->no_backend | (service->unknown_reset ? SS_LB_ANSWER_UNKNOWN : 0),
	};
}

/*
 * Sources that @head does not say are those of @old, if there is one: connections may go on that it began,
 * to backends of the other IP version.
 */
static void sources_inherit(struct ss_lb_head *head, const struct ss_lb_head *old)
{
	if (old && !head->source4)
		head->source4 = old->source4;
	if (old && !ss_addr_is_set(&head->source6))
		head->source6 = old->source6;
}

int lb_table_build(const struct service_config *service, uint32_t index, const uint32_t *ids,
		   const struct ss_lb_head *old, void *memory)
{
	bool large = lb_table_is_large(service);
	struct lb_table table = table_parts(memory, large);

	if (service->backends_count > backends_max(large))
		return -E2BIG;
	*table.head = head_of(service, index);
	sources_inherit(table.head, old);
	memcpy(table.name, service->name, SS_LB_NAME_LEN);
	append_backends(service, ids, true, &table);
	table.head->active = table.head->backends;
	append_backends(service, ids, false, &table);
	return slots_build(&table);
}

/* Is backend number @at of @table what append_backends() makes of @b? */
static bool backend_is(const struct lb_table *table, uint32_t at, const struct backend_config *b)
{
	const struct ss_lb_backend *backend = &table->backend[at];

	return ss_endpoint_equal(&backend->endpoint, &b->address) && backend->weight == b->weight &&
	       table->info[at].state == b->state && !strcmp(table->info[at].name, b->name) &&
	       !memcmp(table->info[at].quic_id, b->quic_id, SS_LB_QUIC_ID);
}

bool lb_backend_active(const struct service_config *service, unsigned i)
{
	return is_active(&service->backends[i], state_that_serves(service));
}

bool lb_table_is(const struct lb_table *table, const struct service_config *service)
{
	enum ss_backend_state serving = state_that_serves(service);
	struct ss_lb_head head = head_of(service, table->head->index);
	uint32_t active = 0, other = table->head->active;

	sources_inherit(&head, table->head);
	head.active = table->head->active;
	head.backends = service->backends_count;
	if (memcmp(&head, table->head, sizeof(head)) || strcmp(table->name, service->name))
		return false;
	for (unsigned i = 0; i < service->backends_count; i++) {
		const struct backend_config *b = &service->backends[i];
		bool is = is_active(b, serving);

		if ((is ? active == head.active : other == head.backends) ||
		    !backend_is(table, is ? active : other, b))
			return false;
		*(is ? &active : &other) += 1;
	}
	return true;
}

int lb_table_to_config(const struct lb_table *table, const struct ss_endpoint *vip,
		       struct service_config *out)
{
	struct service_config service = {
		.vip = *vip,
		.scheduler = table->head->scheduler,
		.slots = table->head->slots_wanted,
		.method = table->head->method,
		.flow_table = table->head->flow_id != 0,
		.fail_open = table->head->fail_open,
		.quic_id_len = table->head->quic_id_len,
		.no_backend = table->head->answers & SS_LB_ANSWER_NO_BACKEND,
		.unknown_reset = table->head->answers & SS_LB_ANSWER_UNKNOWN,
		.slow_start = table->head->slow_start,
		.suspect = { table->head->suspect_count, table->head->suspect_share,
			     table->head->suspect_hold },
		.backends_count = table->head->backends,
	};

	if (table->head->source4)
		service.source[0] = ss_addr_v4(table->head->source4);
	service.source[1] = table->head->source6;
	service.backends = calloc(table->head->backends + 1, sizeof(*service.backends));
	if (!service.backends)
		return -ENOMEM;
	memcpy(service.name, table->name, sizeof(service.name));
	for (unsigned i = 0; i < table->head->backends; i++) {
		struct backend_config *b = &service.backends[i];

		memcpy(b->name, table->info[i].name, sizeof(b->name));
		b->address = table->backend[i].endpoint;
		b->weight = table->backend[i].weight;
		b->state = table->info[i].state;
		memcpy(b->quic_id, table->info[i].quic_id, sizeof(b->quic_id));
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
