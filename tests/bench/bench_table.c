// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Milliseconds to build a Maglev table: 65537 slots, 1000 backends. Pinned, median of the rounds. */
#include <stdint.h>

#include <sidestep/lb.h>

#include "figure.h"
#include "maglev.h"

#define BACKENDS 1000
#define ROUNDS 21

int main(void)
{
	static uint16_t slots[SS_LB_SLOTS];
	struct slot_backend backends[BACKENDS];
	double ms[ROUNDS];
	json_t *out = json_object();

	if (bench_pin())
		return 1;
	for (uint32_t i = 0; i < BACKENDS; i++) {
		backends[i].hash = slot_hash(&i, sizeof(i));
		backends[i].weight = 100;
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		double start = bench_now();

		if (maglev_fill(slots, SS_LB_SLOTS, backends, BACKENDS))
			return 1;
		ms[i] = (bench_now() - start) * 1e3;
	}
	json_object_set_new(out, "maglev_build_ms", bench_figure(ms, ROUNDS));
	bench_print(out);
	return 0;
}
