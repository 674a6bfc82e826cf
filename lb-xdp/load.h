/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Decision by load: least connections, and power of two choices.
 *
 * A backend's load is what its server reported last, and the SYNs sent there since, so that a burst
 * between two reports is spread; divided by its weight. A backend whose report is outdated gets the
 * share of connections that its weight alone gives it: one that cannot report is neither flooded as
 * if it were idle nor left out.
 *
 * Nothing is searched or kept in order: a service has up to 1024 backends, and reports change all of
 * them all the time. What is compared is a sample, drawn by weight, or all where they are few.
 */
#ifndef SIDESTEP_LB_LOAD_H
#define SIDESTEP_LB_LOAD_H

#include "maps.h"
#include "table.h"

_Static_assert((SS_LB_IDS & (SS_LB_IDS - 1)) == 0, "an id is some bits of a choice");

#define LEAST_SAMPLE 16 /* backends that are compared by least connections */
#define POWER_SAMPLE 2
#define NO_BACKEND (~0U) /* no backend's id */

/* A backend that was looked at. */
struct candidate {
	__u32 index;
	__u32 id;
	__u32 weight;
	__u32 connections; /* with the one that is to come */
};

/* Looks at the backend at @index into *@out. Returns 0 if its load is not known. */
static __always_inline int candidate_read(const struct table *table, __u32 index, __u64 now,
					  struct candidate *out)
{
	const struct ss_lb_backend *backend = table_backend(table, index);
	const struct ss_lb_load *load;

	if (!backend)
		return 0;
	out->index = index;
	out->id = backend->id;
	out->weight = backend->weight;
	load = bpf_map_lookup_elem(&loads, &out->id);
	if (!load)
		return 0;
	out->connections = load->open + load->sent + 1;
	return now < load->fresh_until;
}

/* One more SYN goes to the backend @id. */
static __always_inline void load_sent(__u32 id)
{
	struct ss_lb_load *load = bpf_map_lookup_elem(&loads, &id);

	if (load)
		__sync_fetch_and_add(&load->sent, 1);
}

/* Has @a less to do than @b, for its weight? */
static __always_inline int is_less(const struct candidate *a, const struct candidate *b)
{
	return (__u64)a->connections * b->weight < (__u64)b->connections * a->weight;
}

/*
 * Which backend the SYN of a hash got, so that its retransmission gets another: the hash does not
 * tell, as loads change. A hint that a later SYN may have overwritten.
 */
static __always_inline __u32 *choice_slot(__u64 hash)
{
	__u32 slot = hash & (SS_LB_CHOICES - 1);

	return bpf_map_lookup_elem(&choices, &slot);
}

#define CHOICE_TAG(hash) ((__u32)((hash) >> 32) & ~(SS_LB_IDS - 1U))

static __always_inline __u32 choice_recall(__u64 hash)
{
	__u32 *choice = choice_slot(hash);

	if (!choice || (*choice & ~(SS_LB_IDS - 1U)) != CHOICE_TAG(hash))
		return NO_BACKEND;
	return *choice & (SS_LB_IDS - 1);
}

static __always_inline void choice_remember(__u64 hash, __u32 id)
{
	__u32 *choice = choice_slot(hash);

	if (choice)
		*choice = CHOICE_TAG(hash) | id;
}

#endif
