/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A service's table as a packet sees it, small or large. It is looked up once for a packet: whatever
 * user space puts into its place meanwhile, no packet sees some of the old service and some of the new
 * one.
 */
#ifndef SIDESTEP_LB_TABLE_H
#define SIDESTEP_LB_TABLE_H

#include "maps.h"

/* The verifier follows either size on a path of its own, since it knows is_large there. */
struct table {
	const struct ss_lb_head *head;
	__u64 is_large;
};

static __always_inline const void *table_at(void *inner)
{
	__u32 zero = 0;

	return inner ? bpf_map_lookup_elem(inner, &zero) : NULL;
}

/* The place for @vip among the services that this processor has seen. */
static __always_inline struct ss_lb_seen *service_seen(const struct ss_endpoint *vip)
{
	__u32 sum = SS_BE32(vip->addr.w[3]) + 37 * SS_BE16(vip->port) + vip->protocol;
	__u32 at = sum % SS_LB_SEEN;

	return bpf_map_lookup_elem(&services_seen, &at);
}

/*
 * Looks for the service @vip. Returns 1 with its value in the map "services" in *@value, or 0. Most packets
 * are for a service that was there shortly before: comparing with that takes 3 ns, the hash 11.
 *
 * What changes is counted by user space, last. It is read first here, so that nothing is kept as newer
 * than it is.
 */
static __always_inline int service_find(const struct ss_endpoint *vip, __u32 *value)
{
	__u32 zero = 0, *changed = bpf_map_lookup_elem(&services_changed, &zero), *found, since;
	struct ss_lb_seen *seen = service_seen(vip);

	if (!changed || !seen)
		return 0;
	since = *(volatile __u32 *)changed + 1;
	if (seen->since == since && ss_endpoint_equal(&seen->vip, vip)) {
		*value = seen->value;
		return 1;
	}
	found = bpf_map_lookup_elem(&services, vip);
	if (!found)
		return 0;
	*value = *found;
	*seen = (struct ss_lb_seen){ .vip = *vip, .value = *value, .since = since };
	return 1;
}

/* Finds the table of the service @vip. Returns 0 if there is none. */
static __always_inline int table_find(const struct ss_endpoint *vip, struct table *out)
{
	__u32 value, index;
	__u64 is_large;

	if (!service_find(vip, &value))
		return 0;
	index = value & ~SS_LB_IS_LARGE;
	if (value & SS_LB_IS_LARGE) {
		out->head = table_at(bpf_map_lookup_elem(&large_tables, &index));
		is_large = 1;
		barrier_var(is_large); /* or the compiler keeps value for it */
	} else {
		out->head = table_at(bpf_map_lookup_elem(&small_tables, &index));
		is_large = 0;
		barrier_var(is_large);
	}
	out->is_large = is_large;
	return out->head != NULL;
}

#define SMALL(table) ((const struct ss_lb_small_table *)(table)->head)
#define LARGE(table) ((const struct ss_lb_large_table *)(table)->head)

/* The index of the backend that has the slot number @slot. */
static __always_inline __u32 table_slot(const struct table *table, __u32 slot)
{
	barrier_var(slot); /* the compiler knows its bound, the verifier has to see it */
	if (table->is_large)
		return slot < SS_LB_LARGE_SLOTS ? LARGE(table)->slot[slot] : 0;
	return slot < SS_LB_SMALL_SLOTS ? SMALL(table)->slot[slot] : 0;
}

/* Where what the balancer itself sends to @to, in an outer header or by nat, comes from. 0: nowhere. */
static __always_inline int table_source(const struct table *table, const struct ss_addr *to,
					struct ss_addr *source)
{
	if (ss_addr_is_v4(to)) {
		*source = ss_addr_v4(table->head->source4);
		return table->head->source4 != 0;
	}
	*source = table->head->source6;
	return ss_addr_is_set(source);
}

/* The backend at @index; NULL if there is none. */
static __always_inline const struct ss_lb_backend *table_backend(const struct table *table,
								 __u32 index)
{
	barrier_var(index);
	if (table->is_large)
		return index < SS_LB_LARGE_BACKENDS ? &LARGE(table)->backend[index] : NULL;
	return index < SS_LB_SMALL_BACKENDS ? &SMALL(table)->backend[index] : NULL;
}

#endif
