// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Slot tables for the balancer's schedulers: a Maglev table for hashes, an interleaved one for
 * turns.
 */
#include "maglev.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The finalizer of MurmurHash3, 64 bits: every bit of @x decides about every bit of the result. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccd;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53;
	return x ^ x >> 33;
}

/* FNV-1a, mixed: its own low and high bits are not even enough to make a permutation of. */
uint64_t slot_hash(const void *data, uint32_t len)
{
	const uint8_t *byte = data;
	uint64_t hash = 0xcbf29ce484222325;

	for (uint32_t i = 0; i < len; i++)
		hash = (hash ^ byte[i]) * 0x100000001b3;
	return mix(hash);
}

/* A backend while a Maglev table is built: its permutation of the slots, and its turns. */
struct walker {
	uint32_t slot; /* next in its permutation */
	uint32_t skip;
	uint64_t due; /* its next turn's time */
	uint64_t period; /* between its turns */
	uint32_t index;
	uint32_t next; /* in the same round, as position + 1; 0: last */
};

/*
 * Time is counted in rounds, with a fraction; a round is the time between two turns of a backend
 * with the largest weight W. One of weight w takes its k-th turn at (k - 1/2) * W / w, so that it
 * has had its share, rounded, whenever the table is full; the first turn comes at 0, so that no
 * backend goes without. The order of two backends' turns depends on nothing but their weights
 * and hashes: that keeps most slots as they are when a third one comes or goes.
 */
#define ROUND_SHIFT 20

/* The backends due in one round, as positions + 1, in the order in which they came. */
struct round {
	uint32_t first;
	uint32_t last;
};

struct build {
	struct walker *walker;
	struct round *round;
	uint64_t rounds;
	uint64_t *taken; /* a bit a slot: 8 KB stay in the L1 cache where the table would not */
};

struct sort_item {
	uint64_t hash;
	uint32_t index;
};

static int item_compare(const void *a, const void *b)
{
	const struct sort_item *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->index < y->index ? -1 : 1;
}

static uint64_t weight_max(const struct slot_backend *backend, uint32_t n)
{
	uint64_t max = 1;

	for (uint32_t i = 0; i < n; i++)
		if (max < backend[i].weight)
			max = backend[i].weight;
	return max;
}

/* Puts the backend at @position into the round in which it is due. */
static void round_add(struct build *b, uint32_t position)
{
	uint64_t number = b->walker[position].due >> ROUND_SHIFT;
	struct round *round;

	b->walker[position].next = 0;
	if (number >= b->rounds) /* the table is full before that */
		return;
	round = &b->round[number];
	if (round->last)
		b->walker[round->last - 1].next = position + 1;
	else
		round->first = position + 1;
	round->last = position + 1;
}

static void build_free(struct build *b)
{
	free(b->walker);
	free(b->round);
	free(b->taken);
}

/* Sets up the walkers in the order of their hashes, all due in round 0. */
static int build_init(struct build *b, uint32_t slots, const struct slot_backend *backend,
		      uint32_t n)
{
	uint64_t max = weight_max(backend, n);
	struct sort_item *item = malloc(n * sizeof(*item));

	*b = (struct build){
		.walker = malloc(n * sizeof(*b->walker)),
		.rounds = slots + 1ULL, /* the heaviest alone fills the table in that time */
		.round = calloc(slots + 1ULL, sizeof(*b->round)),
		.taken = calloc(slots / 64 + 1, sizeof(*b->taken)),
	};
	if (!item || !b->walker || !b->round || !b->taken) {
		free(item);
		build_free(b);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++)
		item[i] = (struct sort_item){ backend[i].hash, i };
	qsort(item, n, sizeof(*item), item_compare);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t permutation = mix(item[i].hash + 0x9e3779b97f4a7c15);
		uint32_t weight = backend[item[i].index].weight;

		b->walker[i] = (struct walker){
			.slot = (uint32_t)(permutation >> 32) % slots,
			.skip = 1 + (uint32_t)permutation % (slots - 1),
			.due = 0,
			.period = (max << ROUND_SHIFT) / (weight ? weight : 1),
			.index = item[i].index,
		};
		round_add(b, i);
	}
	free(item);
	return 0;
}

/* Takes the next free slot of @w's permutation. There must be one. */
static uint32_t slot_take(struct walker *w, uint64_t *taken, uint32_t slots)
{
	uint32_t slot = w->slot, skip = w->skip, found;

	do {
		found = slot;
		slot += skip;
		slot -= slot >= slots ? slots : 0;
	} while (taken[found / 64] >> found % 64 & 1);
	taken[found / 64] |= 1ULL << found % 64;
	w->slot = slot;
	return found;
}

int maglev_fill(uint16_t *slot, uint32_t slots, const struct slot_backend *backend, uint32_t n)
{
	uint32_t left = slots;
	struct build b;

	if (build_init(&b, slots, backend, n))
		return -ENOMEM;
	for (uint64_t r = 0; left; r++) {
		uint32_t at = b.round[r].first;

		while (at && left) {
			struct walker *w = &b.walker[at - 1];
			uint32_t next = w->next;

			slot[slot_take(w, b.taken, slots)] = w->index;
			left--;
			w->due += w->due ? w->period : w->period + w->period / 2;
			round_add(&b, at - 1);
			at = next;
		}
	}
	build_free(&b);
	return 0;
}

/*
 * Round robin by worst-case-fair queueing (WF2Q+, INFOCOM 1996): a backend's k-th turn is
 * allowed from (k - 1) / share slots on and due at k / share; of those allowed the one due first
 * has its turn. So nobody is ever more than one turn ahead of its share, or behind it.
 */
struct turn {
	uint32_t count; /* turns taken */
	uint32_t weight;
	uint32_t next; /* allowed from the same slot on, as index + 1; 0: last */
};

struct interleave {
	struct turn *turn;
	uint32_t *allowed; /* per slot: who may go from there on, as index + 1 */
	uint32_t *heap; /* indices of the backends that may go now, the one due first at the top */
	uint32_t heap_len;
	uint64_t weight; /* of all */
};

/* Is @a due before @b? Equals go in the order of their indices. */
static bool is_before(const struct interleave *v, uint32_t a, uint32_t b)
{
	const struct turn *x = &v->turn[a], *y = &v->turn[b];
	uint64_t due_x = (x->count + 1ULL) * y->weight;
	uint64_t due_y = (y->count + 1ULL) * x->weight;

	return due_x != due_y ? due_x < due_y : a < b;
}

static void heap_push(struct interleave *v, uint32_t index)
{
	uint32_t at = v->heap_len++;

	while (at && is_before(v, index, v->heap[(at - 1) / 2])) {
		v->heap[at] = v->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	v->heap[at] = index;
}

static uint32_t heap_pop(struct interleave *v)
{
	uint32_t top = v->heap[0], last = v->heap[--v->heap_len];
	uint32_t at = 0;

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child + 1 < v->heap_len && is_before(v, v->heap[child + 1], v->heap[child]))
			child++;
		if (child >= v->heap_len || is_before(v, last, v->heap[child]))
			break;
		v->heap[at] = v->heap[child];
		at = child;
	}
	v->heap[at] = last;
	return top;
}

/* Notes the slot, @earliest or later, from which on @index may have its next turn. */
static void turn_allow(struct interleave *v, uint32_t index, uint32_t earliest, uint32_t slots)
{
	struct turn *t = &v->turn[index];
	uint64_t from = (t->count * v->weight + t->weight - 1) / t->weight;

	if (from < earliest) /* not seen to happen; the backend would be lost */
		from = earliest;
	if (from >= slots)
		return;
	t->next = v->allowed[from];
	v->allowed[from] = index + 1;
}

static void interleave(struct interleave *v, uint16_t *slot, uint32_t slots)
{
	for (uint32_t i = 0; i < slots; i++) {
		uint32_t index;

		for (uint32_t at = v->allowed[i]; at; at = v->turn[at - 1].next)
			heap_push(v, at - 1);
		index = heap_pop(v);
		slot[i] = index;
		v->turn[index].count++;
		turn_allow(v, index, i + 1, slots);
	}
}

int round_robin_fill(uint16_t *slot, uint32_t slots, const struct slot_backend *backend, uint32_t n)
{
	struct interleave v = {
		.turn = calloc(n, sizeof(*v.turn)),
		.allowed = calloc(slots, sizeof(*v.allowed)),
		.heap = malloc(n * sizeof(*v.heap)),
	};
	int ret = v.turn && v.allowed && v.heap ? 0 : -ENOMEM;

	for (uint32_t i = 0; !ret && i < n; i++) {
		v.turn[i].weight = backend[i].weight ? backend[i].weight : 1;
		v.weight += v.turn[i].weight;
	}
	for (uint32_t i = 0; !ret && i < n; i++)
		turn_allow(&v, i, 0, slots);
	if (!ret)
		interleave(&v, slot, slots);
	free(v.turn);
	free(v.allowed);
	free(v.heap);
	return ret;
}
