/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Parsed -> decision: the service of a packet, and the backend that takes it.
 *
 * The choice is a function of the packet, the service's table and, for round robin, of whose turn
 * it is, or of the backends' load (load.h). No connection is remembered: a retransmitted SYN says by its retry bit that the first
 * choice did not answer, and then gets another backend.
 *
 * A scheduler is a row of SS_SCHEDULERS: it says what is hashed, and which of the functions choose_*()
 * finds a backend by that hash.
 */
#ifndef SIDESTEP_LB_PICK_H
#define SIDESTEP_LB_PICK_H

#include "load.h"
#include "maps.h"
#include "parse.h"
#include "table.h"

/* Multipliers of splitmix64's finalizer: odd, well mixing. */
#define MIX_1 0xbf58476d1ce4e5b9ULL
#define MIX_2 0x94d049bb133111ebULL

static __always_inline __u64 mix(__u64 h, __u64 word)
{
	h = (h ^ word) * MIX_1;
	return h ^ h >> 32;
}

/*
 * The hash of addresses and ports, IPv4's or IPv6's. The same on every balancer and in every version,
 * so that balancers which do not know of each other agree.
 */
static __always_inline __u64 flow_hash(int is_ip6, const __be32 *src, const __be32 *dst,
				       __be16 sport, __be16 dport)
{
	__u64 ports = (__u64)sport << 16 | dport, h = MIX_2;

	if (!is_ip6) {
		h = mix(h, (__u64)*src << 32 | *dst);
	} else {
		for (int i = 0; i < 4; i += 2) {
			h = mix(h, (__u64)src[i] << 32 | src[i + 1]);
			h = mix(h, (__u64)dst[i] << 32 | dst[i + 1]);
		}
	}
	h = mix(h, ports) * MIX_2;
	return h ^ h >> 29;
}

/* The hash of a client's address, for schedulers that keep a client with its backend. */
static __always_inline __u64 source_hash(int is_ip6, const __be32 *src)
{
	__u64 h = MIX_2;

	if (!is_ip6) {
		h = mix(h, *src);
	} else {
		h = mix(h, (__u64)src[0] << 32 | src[1]);
		h = mix(h, (__u64)src[2] << 32 | src[3]);
	}
	h *= MIX_2;
	return h ^ h >> 29;
}

static __always_inline struct ss_addr packet_client(const struct packet *p)
{
	struct ss_addr addr;

	if (!p->is_ip6)
		return ss_addr_v4(p->ip4->saddr);
	__builtin_memcpy(&addr, &p->ip6->saddr, sizeof(addr));
	return addr;
}

static __always_inline struct ss_endpoint packet_source(const struct packet *p)
{
	return (struct ss_endpoint){ .addr = packet_client(p), .port = p->tcp->source };
}

static __always_inline __u64 packet_hash(const struct packet *p)
{
	if (!p->is_ip6)
		return flow_hash(0, &p->ip4->saddr, &p->ip4->daddr, p->tcp->source, p->tcp->dest);
	return flow_hash(1, p->ip6->saddr.in6_u.u6_addr32, p->ip6->daddr.in6_u.u6_addr32,
			 p->tcp->source, p->tcp->dest);
}

/*
 * What the scheduler of @table chooses by for @p. Where that is the SYN itself, its sequence number
 * tells connections of the same addresses and ports apart, and is that of its retransmissions.
 */
static __always_inline __u64 choice_hash(const struct table *table, const struct packet *p)
{
	enum ss_hashed hashed = ss_scheduler_hashed(table->head->scheduler);
	__u64 h;

	if (hashed == SS_HASHED_SOURCE)
		return p->is_ip6 ? source_hash(1, p->ip6->saddr.in6_u.u6_addr32)
				 : source_hash(0, &p->ip4->saddr);
	h = packet_hash(p);
	return hashed == SS_HASHED_SYN ? mix(h, p->tcp->seq) * MIX_2 : h;
}

/* The same for the packets which @quoted's client, the remote end, sends to the service. */
static __always_inline __u64 quoted_hash(const struct table *table, const struct ss_flow *quoted)
{
	const struct ss_endpoint *client = &quoted->remote, *vip = &quoted->local;
	int at = ss_addr_is_v4(&vip->addr) ? 3 : 0;

	if (ss_scheduler_hashed(table->head->scheduler) == SS_HASHED_SOURCE)
		return source_hash(!at, client->addr.w + at);
	return flow_hash(!at, client->addr.w + at, vip->addr.w + at, client->port, vip->port);
}

/* Maps 32 bits evenly to 0 .. @n - 1, without a division. */
static __always_inline __u32 scale(__u32 bits, __u32 n)
{
	return (__u64)bits * n >> 32;
}

/* 1 if some service has the address that @p is for, whatever the port. */
static __always_inline int service_address(const struct packet *p)
{
	struct ss_endpoint any_port = { .addr = p->dst.addr };

	return bpf_map_lookup_elem(&services, &any_port) != NULL;
}

/* The slot whose turn it is on this processor. Processors start apart from each other. */
static __always_inline __u32 next_turn(const struct table *table)
{
	const struct ss_lb_head *head = table->head;
	__u32 index = head->index, *turn = bpf_map_lookup_elem(&turns, &index);

	if (!turn || !head->slots)
		return 0;
	return ((*turn)++ + bpf_get_smp_processor_id()) % head->slots;
}

/* Another of @table's backends than the one at @index, if there is one. */
static __always_inline __u32 another(const struct table *table, __u32 index, __u64 hash)
{
	__u32 active = table->head->active;

	if (active < 2)
		return index;
	index += 1 + scale(hash, active - 1);
	return index < active ? index : index - active;
}

/*
 * The functions choose_*(): the index of the backend for a SYN of @hash, or with @second another than
 * the one that it got the first time, if there is one.
 */

/* The backend whose share of the slots @bits point into. */
static __always_inline __u32 slot_index(const struct table *table, __u32 bits)
{
	return table_slot(table, scale(bits, table->head->slots));
}

/* By hash alone. */
static __always_inline __u32 choose_slot(const struct table *table, __u64 hash, int second)
{
	__u32 index = slot_index(table, hash >> 32);

	return second ? another(table, index, hash) : index;
}

/*
 * The backend whose turn it is. The turn has moved on already since a SYN was sent first: a second
 * choice goes further only if this is who had the last one.
 */
static __always_inline __u32 choose_turn(const struct table *table, __u64 hash, int second)
{
	__u32 slot = next_turn(table), index = table_slot(table, slot);

	if (second && index == table_slot(table, slot ? slot - 1 : table->head->slots - 1))
		index = another(table, index, hash);
	return index;
}

/* A choice by load under way. */
struct load_walk {
	const struct table *table;
	__u64 now; /* CLOCK_MONOTONIC_COARSE in ns */
	__u64 draw;
	__u32 sample;
	__u32 avoid; /* a backend's id */
	__u32 index; /* that was looked at last */
	struct candidate best;
};

/*
 * Compares one more backend with the best: the next one if they are all looked at, else one that is
 * drawn by weight.
 */
static long load_step(__u32 i, struct load_walk *w)
{
	const struct table *table = w->table;
	struct candidate other = {};

	if (table->head->active <= w->sample) {
		if (i + 1 >= table->head->active)
			return 1;
		w->index = w->index + 1 < table->head->active ? w->index + 1 : 0;
	} else {
		w->draw = mix(w->draw, i + 1);
		w->index = slot_index(table, w->draw >> 32);
		if (w->index == w->best.index)
			w->index = another(table, w->index, w->draw);
	}
	if (candidate_read(table, w->index, w->now, &other) && other.id != w->avoid &&
	    is_less(&other, &w->best))
		w->best = other;
	return 0;
}

/*
 * By load, out of @sample backends. The first one is drawn by weight, and if its load is not known,
 * it stays with that.
 */
static __noinline __u32 choose_by_load(const struct table *table, __u64 hash, int second,
				       __u32 sample)
{
	struct load_walk w = { .table = table, .draw = hash, .sample = sample };
	int known;

	w.now = bpf_ktime_get_coarse_ns();
	w.avoid = second ? choice_recall(hash) : NO_BACKEND;
	w.index = slot_index(table, hash >> 32);
	known = candidate_read(table, w.index, w.now, &w.best);
	if (w.best.id == w.avoid) {
		w.index = another(table, w.index, hash);
		known = candidate_read(table, w.index, w.now, &w.best);
	}
	if (known)
		bpf_loop(sample - 1, load_step, &w, 0);
	load_sent(w.best.id);
	if (!second)
		choice_remember(hash, w.best.id);
	return w.best.index;
}

/* The least loaded of all, or of 16 where there are more. */
static __always_inline __u32 choose_least(const struct table *table, __u64 hash, int second)
{
	return choose_by_load(table, hash, second, LEAST_SAMPLE);
}

/* The less loaded of two. */
static __always_inline __u32 choose_power(const struct table *table, __u64 hash, int second)
{
	return choose_by_load(table, hash, second, POWER_SAMPLE);
}

/* The functions first_*(): the id of the backend that the first SYN of @hash got, if that is known. */

static __always_inline __u32 first_slot(const struct table *table, __u64 hash)
{
	const struct ss_lb_backend *backend = table_backend(table, slot_index(table, hash >> 32));

	return backend ? backend->id : NO_BACKEND;
}

static __always_inline __u32 first_turn(const struct table *table, __u64 hash)
{
	return NO_BACKEND; /* it was another turn */
}

static __always_inline __u32 first_least(const struct table *table, __u64 hash)
{
	return choice_recall(hash);
}

static __always_inline __u32 first_power(const struct table *table, __u64 hash)
{
	return choice_recall(hash);
}

static __noinline __u32 first_choice(const struct table *table, __u64 hash)
{
	switch (table->head->scheduler) {
#define FIRST(id, name, hashed, choose, fill) \
	case SS_SCHED_##id:                   \
		return first_##choose(table, hash);
		SS_SCHEDULERS(FIRST)
#undef FIRST
	}
	return NO_BACKEND;
}

/*
 * The index of the backend for a packet of @hash out of @table, which has some. With @second, another
 * than the one that it would get otherwise, if there is one. A switch, since a call through a pointer
 * costs more than all the rest.
 */
static __always_inline __u32 pick_index(const struct table *table, __u64 hash, int second)
{
	switch (table->head->scheduler) {
#define CHOOSE(id, name, hashed, choose, fill) \
	case SS_SCHED_##id:                    \
		return choose_##choose(table, hash, second);
		SS_SCHEDULERS(CHOOSE)
#undef CHOOSE
	}
	return 0;
}

/* The backend for a packet of @hash; NULL if none takes connections. */
static __always_inline const struct ss_lb_backend *pick(const struct table *table, __u64 hash)
{
	return table->head->active ? table_backend(table, pick_index(table, hash, 0)) : NULL;
}

#endif
