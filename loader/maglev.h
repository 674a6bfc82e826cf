/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Slot tables: which backend a hash value or a turn means. Pure: numbers in, numbers out.
 */
#ifndef SIDESTEP_MAGLEV_H
#define SIDESTEP_MAGLEV_H

#include <stdint.h>

/* One backend as the table builders see it. */
struct slot_backend {
	uint64_t hash; /* of what identifies the backend; the same on every balancer */
	uint32_t weight; /* at least 1 */
};

/*
 * Fills @slot[0 .. @slots-1] with indices into @backend (@n of them, 1 to 65535), so that each
 * gets its weight's share and that most slots stay as they are when a backend comes or goes
 * (Maglev, NSDI 2016, section 3.4; weights as turns taken less often). @slots is a prime larger
 * than @n and below 2^21. The order of @backend does not matter. Returns 0 or -ENOMEM.
 */
int maglev_fill(uint16_t *slot, uint32_t slots, const struct slot_backend *backend, uint32_t n);

/*
 * Fills @slot so that going through it in order serves the backends in turn, each as often as
 * its weight says and as evenly spread as can be (smooth weighted round robin).
 * Returns 0 or -ENOMEM.
 */
int round_robin_fill(uint16_t *slot, uint32_t slots, const struct slot_backend *backend,
		     uint32_t n);

/* The hash that identifies a backend: of its @len bytes at @data. */
uint64_t slot_hash(const void *data, uint32_t len);

#endif
