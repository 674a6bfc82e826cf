/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A service's table as a packet sees it. The blocks of one table are looked up one by one, but all of
 * them in the map that was found first: whatever user space puts into its place meanwhile, no packet
 * sees some of the old service and some of the new one.
 */
#ifndef SIDESTEP_LB_TABLE_H
#define SIDESTEP_LB_TABLE_H

#include "maps.h"

struct table {
	void *map; /* of its blocks */
	const struct ss_lb_head *head;
};

/* The block number @number of @table, NULL if it has none. */
static __always_inline union ss_lb_block *table_block(const struct table *table, __u32 number)
{
	return bpf_map_lookup_elem(table->map, &number);
}

/* Finds the table of the service @vip. Returns 0 if there is none. */
static __always_inline int table_find(const struct ss_endpoint *vip, struct table *out)
{
	__u32 *index = bpf_map_lookup_elem(&services, vip);
	union ss_lb_block *first;

	if (!index)
		return 0;
	out->map = bpf_map_lookup_elem(&tables, index);
	if (!out->map)
		return 0;
	first = table_block(out, 0);
	if (!first)
		return 0;
	out->head = &first->head;
	return 1;
}

/* The index of the backend that has the slot number @slot. */
static __always_inline __u32 table_slot(const struct table *table, __u32 slot)
{
	const union ss_lb_block *block = table_block(table, ss_lb_slot_block(slot));

	return block ? block->slot[slot % SS_LB_BLOCK_SLOTS] : 0;
}

/* The backend at @index; NULL if there is none. */
static __always_inline const struct ss_lb_backend *table_backend(const struct table *table,
								 __u32 index)
{
	const union ss_lb_block *block =
		table_block(table, ss_lb_backend_block(table->head->slots, index));

	if (!block)
		return NULL;
	barrier_var(block); /* or the compiler adds before it compares */
	return &block->backend[index % SS_LB_BLOCK_BACKENDS];
}

#endif
