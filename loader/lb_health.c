// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_health.h"

#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>

#include "coarse.h"
#include "endpoint_map.h"
#include "lb_table.h"

static bool config_wants(const struct service_config *service)
{
	return service && (service->suspect.count || service->slow_start);
}

static bool table_wants(const struct lb_table *table)
{
	return table->head->suspect_count || table->head->slow_start;
}

/* New entries for the backends that are not among the active ones of @old. */
static int entries_add(const struct lb_maps *maps, const struct service_config *service,
		       const uint32_t *ids, const struct endpoint_map *old, bool slowly)
{
	struct ss_lb_health entry = { .up_since = slowly ? coarse_ns() : 0 };

	for (unsigned i = 0; i < service->backends_count; i++) {
		const struct backend_config *b = &service->backends[i];

		if (!lb_backend_active(service, i) || endpoint_map_find(old, &b->address) >= 0)
			continue;
		if (bpf_map_update_elem(maps->health, &ids[i], &entry, BPF_ANY))
			return -errno;
	}
	return 0;
}

int lb_health_apply(const struct lb_maps *maps, const struct service_config *service,
		    const uint32_t *ids, const struct lb_service *old)
{
	static const struct ss_endpoint none;
	const struct lb_table *table = old ? &old->table : NULL;
	uint32_t active = table ? table->head->active : 0;
	uint32_t known = active && table_wants(table) ? active : 0;
	struct endpoint_map map;
	bool slowly;
	int err;

	if (!config_wants(service))
		return 0;
	/* who was active before has no slow start, even if the service had none of this */
	slowly = service->slow_start && active && known == active;
	err = endpoint_map_init(&map, known ? &table->backend[0].endpoint : &none,
				sizeof(*table->backend), known);
	if (err)
		return err;
	err = entries_add(maps, service, ids, &map, slowly);
	endpoint_map_done(&map);
	return err;
}

int lb_health_forget(const struct lb_maps *maps, const struct service_config *service,
		     const struct lb_service *old, const bool *stays)
{
	bool all = !config_wants(service) || !stays;

	if (!table_wants(&old->table))
		return 0;
	for (uint32_t i = 0; i < old->table.head->backends; i++) {
		uint32_t id = old->table.backend[i].id;

		if ((all || !stays[i]) && bpf_map_delete_elem(maps->health, &id) && errno != ENOENT)
			return -errno;
	}
	return 0;
}

const char *lb_condition_name(enum lb_condition condition)
{
	static const char *const names[] = { "good", "slow start", "held", "tried" };

	return names[condition];
}

/* Whole seconds until @then, rounded up; 0 if it is over. */
static unsigned seconds_to(__u64 then, __u64 now)
{
	return then > now ? (then - now + NSEC_PER_SEC - 1) / NSEC_PER_SEC : 0;
}

enum lb_condition lb_health_condition(const struct ss_lb_health *h, const struct ss_lb_head *head,
				      unsigned *seconds)
{
	__u64 now = coarse_ns();

	*seconds = seconds_to(h->held_until, now);
	if (h->held_until)
		return *seconds ? LB_CONDITION_HELD : LB_CONDITION_TRIED;
	if (h->up_since)
		*seconds = seconds_to(h->up_since + head->slow_start * NSEC_PER_SEC, now);
	return *seconds ? LB_CONDITION_SLOW : LB_CONDITION_GOOD;
}

void lb_health_read(const struct lb_maps *maps, uint32_t id, struct ss_lb_health *out)
{
	if (bpf_map_lookup_elem(maps->health, &id, out))
		memset(out, 0, sizeof(*out));
}
