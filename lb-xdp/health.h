/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Decision, a second look: is the backend that a SYN would get one for new connections just now?
 *
 * It is not while it is held: too many of the SYNs that it got first came again, so nobody answers
 * there. When the hold is over, it is tried with a part of its SYNs; a window without too many
 * unanswered ones ends the trial, otherwise it is held again, for twice as long. And a backend that
 * has just come up gets a growing part of its SYNs (slow start). What it does not get goes to another
 * one, drawn by weight, that is neither held nor slow. If there is none, it gets its SYN all the same:
 * a service is never left without backends.
 *
 * Only backends of services that want this have an entry in the map "health". Processors share it; a
 * count that gets lost between two of them does no harm. What works on an entry is a global function,
 * as the verifier looks at those but once.
 */
#ifndef SIDESTEP_LB_HEALTH_H
#define SIDESTEP_LB_HEALTH_H

#include "forward.h"
#include "load.h"
#include "maps.h"
#include "pick.h"

#define HEALTH_TRIAL_PART 8 /* a backend on trial gets every eighth of its SYNs */
#define HEALTH_STRIKES_MAX 3 /* the longest hold: 2 ^ 3 times the first */
#define HEALTH_DRAWS 4 /* other backends that are drawn by weight */
#define HEALTH_SALT 0x9e3779b97f4a7c15ULL /* makes the part of its SYNs independent of the slot */

/* Does the service of @table have entries there? */
static __always_inline int health_matters(const struct table *table)
{
	return table->head->suspect_count || table->head->slow_start;
}

/* Is the backend too young, for its slow start of so many seconds, to take a SYN of these @bits? */
static __always_inline int health_is_slow(const struct ss_lb_health *h, __u32 bits,
					  __u32 slow_start, __u64 now)
{
	__u64 period = slow_start * NSEC_PER_SEC, age = now - h->up_since;

	if (!h->up_since || age >= period)
		return 0;
	if (age < period / SS_LB_SLOW_START_PART)
		age = period / SS_LB_SLOW_START_PART;
	return (__u64)bits * (period >> 20) >> 32 >= age >> 20;
}

/* Is it held, or on trial, and this SYN not one to try it with? */
static __always_inline int health_is_held(struct ss_lb_health *h, __u64 now)
{
	__u64 until = h->held_until;

	if (!until)
		return 0;
	return now < until || __sync_fetch_and_add(&h->tries, 1) % HEALTH_TRIAL_PART;
}

/* Should the backend @id not have a SYN? @bits: of the SYN, what part of all SYNs it belongs to. */
__noinline int health_refuses(__u32 id, __u32 bits, __u32 slow_start)
{
	struct ss_lb_health *h = bpf_map_lookup_elem(&health, &id);
	__u64 now;

	if (!h)
		return 0;
	now = bpf_ktime_get_coarse_ns();
	return health_is_slow(h, bits, slow_start, now) || health_is_held(h, now);
}

/* The search for the backend of one SYN. */
struct health_look {
	const struct table *table;
	__u32 bits;
	__u32 avoid; /* a backend's id */
};

/* May the backend at @index have the SYN? */
static __always_inline int health_allows(const struct health_look *look, __u32 index)
{
	const struct ss_lb_backend *backend = table_backend(look->table, index);

	if (!backend || backend->id == look->avoid)
		return 0;
	return !health_refuses(backend->id, look->bits, look->table->head->slow_start);
}

/*
 * The index of the backend for a SYN of @hash, which the scheduler has at @index. @avoid: the id of one
 * that has had the SYN.
 */
static __noinline __u32 health_choose(const struct table *table, __u64 hash, __u32 index,
				      __u32 avoid)
{
	struct health_look look = { .table = table, .avoid = avoid };
	const struct ss_lb_backend *own;
	__u64 draw = mix(hash, HEALTH_SALT);
	__u32 other;

	look.bits = draw >> 32;
	if (health_allows(&look, index))
		return index;
	for (int i = 0; i < HEALTH_DRAWS; i++) {
		draw = mix(draw, i + 1);
		other = slot_index(table, draw >> 32);
		if (other != index && health_allows(&look, other))
			return other;
	}
	other = another(table, index, draw);
	if (health_allows(&look, other))
		return other;
	own = table_backend(table, index);
	return own && own->id == avoid ? other : index;
}

/* A window is over, since @end. What was counted still counts in the next, unless that is over, too. */
static __always_inline void health_turn(struct ss_lb_health *h, __u64 end, __u64 now)
{
	int is_recent = now < end + SS_LB_SUSPECT_WINDOW_NS;

	if (h->held_until && h->syns)
		h->held_until = 0; /* the trial has been passed */
	else if (!h->held_until && h->strikes)
		h->strikes--;
	h->syns_before = is_recent ? h->syns : 0;
	h->unanswered_before = is_recent ? h->unanswered : 0;
	h->syns = 0;
	h->unanswered = 0;
}

/* The entry of the backend @id, to count in; NULL: there is none, or it is held. */
static __always_inline struct ss_lb_health *health_window(__u32 id)
{
	struct ss_lb_health *h = bpf_map_lookup_elem(&health, &id);
	__u64 now = bpf_ktime_get_coarse_ns(), end;

	if (!h || now < h->held_until)
		return NULL;
	end = h->window_end;
	if (now >= end &&
	    __sync_val_compare_and_swap(&h->window_end, end, now + SS_LB_SUSPECT_WINDOW_NS) == end)
		health_turn(h, end, now);
	return h;
}

/* The backend @id gets a SYN, as the first. */
__noinline int health_sent(__u32 id)
{
	struct ss_lb_health *h = health_window(id);

	if (h)
		__sync_fetch_and_add(&h->syns, 1);
	return 0;
}

/* From now on the backend gets no SYNs; the reason is kept for people. */
static __always_inline void health_hold(struct ss_lb_health *h, __u64 ns, __u32 syns,
					__u32 unanswered)
{
	__u32 strikes = h->strikes;

	h->held_until = bpf_ktime_get_coarse_ns() + (ns << (strikes & HEALTH_STRIKES_MAX));
	h->strikes = strikes < HEALTH_STRIKES_MAX ? strikes + 1 : strikes;
	h->held_syns = syns;
	h->held_unanswered = unanswered;
	h->holds++;
	h->syns = h->syns_before = 0;
	h->unanswered = h->unanswered_before = 0;
	h->tries = 0;
	h->window_end = 0;
	count(SS_LB_backend_held);
}

/*
 * A SYN that the backend @id got first has come again. It is held for @hold seconds if there were
 * @least of those, and they were @share percent of its SYNs. On trial, one is enough.
 */
__noinline int health_missed(__u32 id, __u32 least, __u32 share, __u32 hold)
{
	struct ss_lb_health *h = health_window(id);
	__u32 syns, unanswered;

	if (!h)
		return 0;
	__sync_fetch_and_add(&h->unanswered, 1);
	syns = h->syns + h->syns_before;
	unanswered = h->unanswered + h->unanswered_before;
	if (unanswered >= (h->held_until ? 1 : least) &&
	    (__u64)unanswered * 100 >= (__u64)syns * share)
		health_hold(h, hold * NSEC_PER_SEC, syns, unanswered);
	return 0;
}

#endif
