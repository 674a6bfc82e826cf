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

/*
 * Slots that a backend's walk looks at together: none waits for another, and a branch that the
 * processor cannot foresee comes once in so many. Most steps are made for a table's last slots.
 */
#define STEPS 4

/* With so many free slots left, they are looked through, instead of a backend's permutation. */
#define LAST_SLOTS 64

/* A backend while a Maglev table is built: its permutation of the slots, and its turns. */
struct walker {
	uint32_t slot; /* next in its permutation */
	uint32_t skip[STEPS + 1]; /* so far are the next ones from it */
	uint32_t inverse; /* of skip[1], modulo the number of slots; 0: not known yet */
	uint32_t index;
	uint32_t next; /* in the same round, as position + 1; 0: last */
	uint64_t due; /* its next turn's time */
	uint64_t period; /* between its turns */
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
	uint32_t slots;
	uint32_t left; /* slots that nobody has */
	struct walker *walker;
	struct round *round;
	uint64_t rounds;
	uint8_t *taken; /* by slot */
	uint32_t free[LAST_SLOTS]; /* the last slots */
	uint32_t free_count;
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

/*
 * How many rounds it takes at most to fill the table: in r rounds a backend of weight w has had
 * r * w / W turns, rounded; r rounds of all of them are enough once that is as many as slots.
 */
static uint64_t rounds_needed(uint32_t slots, const struct slot_backend *backend, uint32_t n,
			      uint64_t max)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += backend[i].weight ? backend[i].weight : 1;
	return ((uint64_t)slots + n) * max / sum + 2;
}

static uint64_t weight_max(const struct slot_backend *backend, uint32_t n)
{
	uint64_t max = 1;

	for (uint32_t i = 0; i < n; i++)
		if (max < backend[i].weight)
			max = backend[i].weight;
	return max;
}

static bool weights_equal(const struct slot_backend *backend, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++)
		if (backend[i].weight != backend[0].weight)
			return false;
	return true;
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

/* Sets up @w as the walk through the slots of the backend number @index of that @hash. */
static void walker_init(struct walker *w, uint32_t slots, uint64_t hash, uint32_t index)
{
	uint64_t permutation = mix(hash + 0x9e3779b97f4a7c15);

	*w = (struct walker){
		.slot = (uint32_t)(permutation >> 32) % slots,
		.skip[1] = 1 + (uint32_t)permutation % (slots - 1),
		.index = index,
	};
	for (uint32_t i = 2; i <= STEPS; i++) {
		w->skip[i] = w->skip[i - 1] + w->skip[1];
		w->skip[i] -= w->skip[i] >= slots ? slots : 0;
	}
}

/* Sets up the walkers in the order of their hashes, all due in round 0. */
static int build_init(struct build *b, uint32_t slots, const struct slot_backend *backend,
		      uint32_t n)
{
	uint64_t max = weight_max(backend, n), rounds = rounds_needed(slots, backend, n, max);
	struct sort_item *item = malloc(n * sizeof(*item));

	*b = (struct build){
		.slots = slots,
		.left = slots,
		.walker = malloc(n * sizeof(*b->walker)),
		.rounds = rounds,
		.round = calloc(rounds, sizeof(*b->round)),
		.taken = calloc(slots, 1),
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
		uint32_t weight = backend[item[i].index].weight;

		walker_init(&b->walker[i], slots, item[i].hash, item[i].index);
		b->walker[i].period = (max << ROUND_SHIFT) / (weight ? weight : 1);
		round_add(b, i);
	}
	free(item);
	return 0;
}

static uint32_t slot_add(uint32_t slot, uint32_t skip, uint32_t slots)
{
	slot += skip;
	return slot - (slot >= slots ? slots : 0);
}

/* Takes the next free slot of @w's permutation. There must be one. */
static uint32_t slot_take(struct build *b, struct walker *w)
{
	uint32_t slot[STEPS + 1] = { w->slot }, taken, at;

	for (;;) {
		taken = b->taken[slot[0]];
#pragma GCC unroll 4
		for (uint32_t i = 1; i < STEPS; i++) {
			slot[i] = slot_add(slot[0], w->skip[i], b->slots);
			taken |= (uint32_t)b->taken[slot[i]] << i;
		}
		slot[STEPS] = slot_add(slot[0], w->skip[STEPS], b->slots);
		if (taken != (1U << STEPS) - 1)
			break;
		slot[0] = slot[STEPS];
	}
	at = __builtin_ctz(~taken);
	b->taken[slot[at]] = 1;
	w->slot = slot[at + 1];
	return slot[at];
}

/* The number that times @a is 1 modulo @slots, a prime. */
static uint32_t inverse(uint32_t a, uint32_t slots)
{
	int64_t r = slots, next_r = a, t = 0, next_t = 1;

	while (next_r) {
		int64_t quotient = r / next_r, rest;

		rest = r - quotient * next_r;
		r = next_r;
		next_r = rest;
		rest = t - quotient * next_t;
		t = next_t;
		next_t = rest;
	}
	return t < 0 ? t + slots : t;
}

/* Lists the slots that are free still. */
static void free_list(struct build *b)
{
	b->free_count = 0;
	for (uint32_t i = 0; i < b->slots; i++)
		if (!b->taken[i])
			b->free[b->free_count++] = i;
}

/* The same as slot_take() where free_list() was called: the free slot that @w comes to first. */
static uint32_t slot_take_last(struct build *b, struct walker *w)
{
	uint64_t best = UINT64_MAX, reciprocal = UINT64_MAX / b->slots + 1;
	uint32_t found = 0, slot;

	if (!w->inverse)
		w->inverse = inverse(w->skip[1], b->slots);
	for (uint32_t i = 0; i < b->free_count; i++) {
		uint32_t distance = slot_add(b->free[i], b->slots - w->slot, b->slots);
		uint64_t steps = (uint64_t)distance * w->inverse;

		/* modulo slots, without a division; right below 2^21 slots */
		steps -= (uint64_t)((unsigned __int128)steps * reciprocal >> 64) * b->slots;
		if (steps < best) {
			best = steps;
			found = i;
		}
	}
	slot = b->free[found];
	b->free[found] = b->free[--b->free_count];
	return slot;
}

/* A turn of @w: the next free slot of its permutation is its own. There must be one. */
static void take_turn(struct build *b, struct walker *w, uint16_t *slot)
{
	slot[b->left > LAST_SLOTS ? slot_take(b, w) : slot_take_last(b, w)] = w->index;
	if (--b->left == LAST_SLOTS)
		free_list(b);
}

/* Every round is a turn of each. */
static void fill_by_turns(struct build *b, uint32_t n, uint16_t *slot)
{
	while (b->left)
		for (uint32_t i = 0; i < n && b->left; i++)
			take_turn(b, &b->walker[i], slot);
}

static void fill_by_weight(struct build *b, uint16_t *slot)
{
	for (uint64_t r = 0; b->left; r++) {
		uint32_t at = b->round[r].first;

		while (at && b->left) {
			struct walker *w = &b->walker[at - 1];
			uint32_t next = w->next;

			take_turn(b, w, slot);
			w->due += w->due ? w->period : w->period + w->period / 2;
			round_add(b, at - 1);
			at = next;
		}
	}
}

int maglev_fill(uint16_t *slot, uint32_t slots, const struct slot_backend *backend, uint32_t n)
{
	struct build b;

	if (build_init(&b, slots, backend, n))
		return -ENOMEM;
	if (b.left <= LAST_SLOTS)
		free_list(&b);
	if (weights_equal(backend, n)) /* the same, without asking who is due */
		fill_by_turns(&b, n, slot);
	else
		fill_by_weight(&b, slot);
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
