// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Slot tables: shares, stability when backends come and go, and spread over the turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "maglev.h"

#define SLOTS 65537
#define N_MAX 65535

static uint16_t table[SLOTS], other[SLOTS];
static struct slot_backend backend[N_MAX];
static uint32_t share[N_MAX];

/* @n backends of weight 1, with the hashes of 0 to @n - 1. */
static void backends_make(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		backend[i] = (struct slot_backend){ slot_hash(&i, sizeof(i)), 1 };
}

/* Fills share[] from @slot; every entry must be below @n. */
static void shares_count(const uint16_t *slot, uint32_t slots, uint32_t n)
{
	memset(share, 0, sizeof(share));
	for (uint32_t i = 0; i < slots; i++) {
		assert_in_range(slot[i], 0, n - 1);
		share[slot[i]]++;
	}
}

/* Checks that each of the @n backends has its weight's share of the slots, +- @slack slots. */
static void shares_check(const char *why, uint32_t slots, uint32_t n, double slack)
{
	double weights = 0;

	for (uint32_t i = 0; i < n; i++)
		weights += backend[i].weight;
	for (uint32_t i = 0; i < n; i++) {
		double fair = slots * (backend[i].weight / weights);

		if (share[i] < fair - slack || share[i] > fair + slack)
			fail_msg("%s: backend %u has %u slots, fair are %.2f", why, i, share[i],
				 fair);
	}
}

enum weights { EQUAL, RISING, ONE_HEAVY, POWERS, LARGE };

static void weights_set(uint32_t n, enum weights weights)
{
	for (uint32_t i = 0; i < n; i++) {
		switch (weights) {
		case EQUAL:
			backend[i].weight = 100;
			break;
		case RISING:
			backend[i].weight = i + 1;
			break;
		case ONE_HEAVY:
			backend[i].weight = i ? 1 : 65535;
			break;
		case POWERS:
			backend[i].weight = 1U << i;
			break;
		case LARGE:
			backend[i].weight = UINT32_MAX - i * 1000003;
			break;
		}
	}
}

static const struct share_row {
	const char *why;
	uint32_t slots;
	uint32_t n;
	enum weights weights;
	double maglev_slack; /* slots more or less than fair */
} share_rows[] = {
	{ "one backend", SLOTS, 1, EQUAL, 0 },
	{ "two, equal", SLOTS, 2, EQUAL, 1 },
	{ "three, equal", SLOTS, 3, EQUAL, 1 },
	{ "hundred, equal", SLOTS, 100, EQUAL, 1 },
	{ "thousand, equal", SLOTS, 1000, EQUAL, 1 },
	{ "all that an index can name", SLOTS, 65535, EQUAL, 1 },
	{ "weights 1 to 10", SLOTS, 10, RISING, 1.5 },
	{ "weights 1 to 100", SLOTS, 100, RISING, 1.5 },
	{ "weights 1 to 1000", SLOTS, 1000, RISING, 1.5 },
	{ "weights 1 and 65535", SLOTS, 2, ONE_HEAVY, 1 },
	{ "thousand, one heavy", SLOTS, 1000, ONE_HEAVY, 20 },
	{ "powers of two", SLOTS, 16, POWERS, 1.5 },
	{ "weights of 32 bits", SLOTS, 1000, LARGE, 1.5 },
	{ "few slots", 7, 3, EQUAL, 1 },
	{ "one slot more than backends", 101, 100, EQUAL, 1 },
	{ "smallest", 2, 1, EQUAL, 0 },
};

static void maglev_shares(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(share_rows) / sizeof(share_rows[0]); i++) {
		const struct share_row *row = &share_rows[i];

		backends_make(row->n);
		weights_set(row->n, row->weights);
		memset(table, 0xff, sizeof(table));
		assert_int_equal(maglev_fill(table, row->slots, backend, row->n), 0);
		shares_count(table, row->slots, row->n);
		shares_check(row->why, row->slots, row->n, row->maglev_slack);
		for (uint32_t b = 0; b < row->n; b++)
			if (!share[b])
				fail_msg("%s: backend %u has no slot", row->why, b);
	}
}

/* Rounding is fair too: many light backends together have what they should. */
static void maglev_light_shares(void **state)
{
	uint32_t sum = 0, weight = 100 * 101 / 2, weights = 1000 * 1001 / 2;

	(void)state;
	backends_make(1000);
	weights_set(1000, RISING);
	assert_int_equal(maglev_fill(table, SLOTS, backend, 1000), 0);
	shares_count(table, SLOTS, 1000);
	for (uint32_t i = 0; i < 100; i++)
		sum += share[i];
	assert_in_range(sum, SLOTS * 0.99 * weight / weights, SLOTS * 1.01 * weight / weights);
}

/* What the interface promises: within 2 % of the fair share at 100 equal backends. */
static void maglev_balance(void **state)
{
	(void)state;
	backends_make(100);
	assert_int_equal(maglev_fill(table, SLOTS, backend, 100), 0);
	shares_count(table, SLOTS, 100);
	shares_check("2 %", SLOTS, 100, SLOTS / 100.0 * 0.02);
}

/* Slots that backends other than @gone lose when it leaves the @n in backend[]. */
static uint32_t disruption(uint32_t n, uint32_t gone)
{
	struct slot_backend left[1000];
	uint32_t moved = 0;

	memcpy(left, backend, gone * sizeof(*left));
	memcpy(left + gone, backend + gone + 1, (n - gone - 1) * sizeof(*left));
	assert_int_equal(maglev_fill(table, SLOTS, backend, n), 0);
	assert_int_equal(maglev_fill(other, SLOTS, left, n - 1), 0);
	for (uint32_t i = 0; i < SLOTS; i++) {
		uint32_t now = other[i] + (other[i] >= gone);

		moved += table[i] != gone && table[i] != now;
	}
	return moved;
}

static const struct stability_row {
	const char *why;
	uint32_t n;
	enum weights weights;
	double limit; /* part of all slots */
} stability_rows[] = {
	{ "hundred, equal", 100, EQUAL, 0.025 },
	{ "ten, equal", 10, EQUAL, 0.025 },
	{ "hundred, weights 1 to 100", 100, RISING, 0.025 },
};

static void maglev_stability(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(stability_rows) / sizeof(stability_rows[0]); i++) {
		const struct stability_row *row = &stability_rows[i];

		backends_make(row->n);
		weights_set(row->n, row->weights);
		for (uint32_t gone = 0; gone < row->n; gone++) {
			uint32_t moved = disruption(row->n, gone);

			if (moved > row->limit * SLOTS)
				fail_msg("%s: without %u, %.2f %% moved", row->why, gone,
					 100.0 * moved / SLOTS);
		}
	}
}

/* The same backends in another order make the same table. */
static void maglev_order(void **state)
{
	static struct slot_backend shuffled[1000];
	static uint32_t origin[1000];
	const uint32_t n = 1000;

	(void)state;
	backends_make(n);
	weights_set(n, RISING);
	for (uint32_t i = 0; i < n; i++) {
		origin[i] = i * 387 % n; /* 387 and 1000 have no common divisor */
		shuffled[i] = backend[origin[i]];
	}
	assert_int_equal(maglev_fill(table, SLOTS, backend, n), 0);
	assert_int_equal(maglev_fill(other, SLOTS, shuffled, n), 0);
	for (uint32_t i = 0; i < SLOTS; i++)
		assert_int_equal(table[i], origin[other[i]]);
}

/*
 * Balancers must agree across versions and machines: how a table is computed may change, what comes
 * out may not.
 */
static const struct fixed_row {
	const char *why;
	uint32_t slots;
	uint32_t n;
	enum weights weights;
	uint64_t hash; /* of the table's bytes, little-endian */
} fixed_rows[] = {
	{ "smallest", 2, 1, EQUAL, 0x4d33a93727192487 },
	{ "few slots", 7, 3, EQUAL, 0x23dceac75199d185 },
	{ "one slot more than backends", 101, 100, EQUAL, 0x3ebcc25d63f772fc },
	{ "one of 8191", 8191, 1, EQUAL, 0x80d443754a09c621 },
	{ "hundred of 8191", 8191, 100, EQUAL, 0xd022b1a181dd7d7a },
	{ "weights 1 to 128 of 8191", 8191, 128, RISING, 0x29dc8539a4f8410d },
	{ "thousand", SLOTS, 1000, EQUAL, 0x790088e30d90b667 },
	{ "weights 1 to 1000", SLOTS, 1000, RISING, 0xb88895f6ac19c8eb },
	{ "thousand, one heavy", SLOTS, 1000, ONE_HEAVY, 0x6b9e7035b21d444a },
	{ "weights of 32 bits", SLOTS, 1024, LARGE, 0xff0b845f703e6962 },
	{ "powers of two", SLOTS, 16, POWERS, 0x6c8c42f71614e4ab },
	{ "all that an index can name", SLOTS, 65535, EQUAL, 0x4dce5e103b6e77ef },
};

static void maglev_fixed(void **state)
{
	static const uint16_t expected[13] = { 2, 0, 1, 1, 0, 0, 2, 1, 2, 0, 0, 2, 1 };

	(void)state;
	backends_make(3);
	assert_int_equal(maglev_fill(table, 13, backend, 3), 0);
	assert_memory_equal(table, expected, sizeof(expected));
	for (size_t i = 0; i < sizeof(fixed_rows) / sizeof(fixed_rows[0]); i++) {
		const struct fixed_row *row = &fixed_rows[i];

		backends_make(row->n);
		weights_set(row->n, row->weights);
		assert_int_equal(maglev_fill(table, row->slots, backend, row->n), 0);
		if (slot_hash(table, row->slots * sizeof(*table)) != row->hash)
			fail_msg("%s: another table than before", row->why);
	}
}

/* Backends with one hash still share. */
static void maglev_same_hash(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 10; i++)
		backend[i] = (struct slot_backend){ 42, 1 };
	assert_int_equal(maglev_fill(table, SLOTS, backend, 10), 0);
	shares_count(table, SLOTS, 10);
	shares_check("same hash", SLOTS, 10, 1);
}

static void round_robin_shares(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(share_rows) / sizeof(share_rows[0]); i++) {
		const struct share_row *row = &share_rows[i];

		backends_make(row->n);
		weights_set(row->n, row->weights);
		memset(table, 0xff, sizeof(table));
		assert_int_equal(round_robin_fill(table, row->slots, backend, row->n), 0);
		shares_count(table, row->slots, row->n);
		shares_check(row->why, row->slots, row->n, 1);
	}
}

/* At every moment, not only at the end, nobody is more than a turn away from its share. */
static void round_robin_is_smooth(void **state)
{
	static const enum weights all[] = { EQUAL, RISING, ONE_HEAVY };
	const uint32_t n = 20, slots = 4099;

	(void)state;
	for (size_t w = 0; w < sizeof(all) / sizeof(all[0]); w++) {
		backends_make(n);
		weights_set(n, all[w]);
		assert_int_equal(round_robin_fill(table, slots, backend, n), 0);
		for (uint32_t i = 1; i <= slots; i++) {
			shares_count(table, i, n);
			shares_check("smooth", i, n, 1);
		}
	}
}

static const struct {
	const char *why;
	uint32_t n;
	uint32_t weight[4];
	const char *order; /* one digit a slot */
} order_rows[] = {
	{ "one", 1, { 7 }, "00000" },
	{ "equal: in the order given", 4, { 1, 1, 1, 1 }, "0123012301230" },
	{ "equal, whatever the weight", 3, { 100, 100, 100 }, "01201201201" },
	{ "two to one", 2, { 2, 1 }, "010010010010" },
	{ "one to three", 2, { 1, 3 }, "1011101110111011" },
	{ "five, one, one", 3, { 5, 1, 1 }, "01002000100200" },
};

static void round_robin_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(order_rows) / sizeof(order_rows[0]); i++) {
		uint32_t slots = strlen(order_rows[i].order);
		char order[32] = "";

		backends_make(order_rows[i].n);
		for (uint32_t b = 0; b < order_rows[i].n; b++)
			backend[b].weight = order_rows[i].weight[b];
		assert_int_equal(round_robin_fill(table, slots, backend, order_rows[i].n), 0);
		for (uint32_t s = 0; s < slots; s++)
			order[s] = '0' + table[s];
		if (strcmp(order, order_rows[i].order))
			fail_msg("%s: %s", order_rows[i].why, order);
	}
}

/* One bit of input changes about half of the hash, wherever it is. */
static void hash_mixes(void **state)
{
	uint8_t data[20] = "10.0.3.2:8080";
	uint64_t hash = slot_hash(data, sizeof(data));
	uint32_t flips[64] = { 0 };

	(void)state;
	for (uint32_t bit = 0; bit < 8 * sizeof(data); bit++) {
		uint64_t changed;

		data[bit / 8] ^= 1 << bit % 8;
		changed = hash ^ slot_hash(data, sizeof(data));
		data[bit / 8] ^= 1 << bit % 8;
		assert_in_range(__builtin_popcountll(changed), 14, 50);
		for (uint32_t i = 0; i < 64; i++)
			flips[i] += changed >> i & 1;
	}
	for (uint32_t i = 0; i < 64; i++)
		assert_in_range(flips[i], 50, 110); /* of 160 */
	assert_int_not_equal(slot_hash("", 0), slot_hash("\0", 1));
	assert_int_equal(hash, slot_hash(data, sizeof(data)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maglev_shares),
		cmocka_unit_test(maglev_light_shares),
		cmocka_unit_test(maglev_balance),
		cmocka_unit_test(maglev_stability),
		cmocka_unit_test(maglev_order),
		cmocka_unit_test(maglev_fixed),
		cmocka_unit_test(maglev_same_hash),
		cmocka_unit_test(round_robin_shares),
		cmocka_unit_test(round_robin_is_smooth),
		cmocka_unit_test(round_robin_order),
		cmocka_unit_test(hash_mixes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
