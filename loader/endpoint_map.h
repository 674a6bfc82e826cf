/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Finds an item of an array by its address and port: a hash table over it. Pure. */
#ifndef SIDESTEP_ENDPOINT_MAP_H
#define SIDESTEP_ENDPOINT_MAP_H

#include <stddef.h>
#include <stdint.h>

#include <sidestep/addr.h>

struct endpoint_map {
	const char *first; /* the endpoint of item 0 */
	size_t stride; /* bytes from one to the next */
	uint32_t *cell; /* an item's number + 1; 0: empty */
	uint32_t mask;
};

/*
 * Sets up *@map for @count items (at most 2^30). The endpoint of the first is at @first, of every
 * other @stride bytes behind the one before; they have to stay as they are while the map is used.
 * Of equal ones the first is found. Returns 0 or -ENOMEM; free it with endpoint_map_done().
 */
int endpoint_map_init(struct endpoint_map *map, const void *first, size_t stride, uint32_t count);

/* The number of the item with the endpoint @key; -1: none has it. */
long endpoint_map_find(const struct endpoint_map *map, const struct ss_endpoint *key);

/* Frees what @map holds; one of zeroes is fine. */
void endpoint_map_done(struct endpoint_map *map);

#endif
