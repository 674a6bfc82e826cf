// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "endpoint_map.h"

#include <errno.h>
#include <stdlib.h>

static const struct ss_endpoint *item_at(const struct endpoint_map *map, uint32_t number)
{
	return (const struct ss_endpoint *)(map->first + number * map->stride);
}

/* The cell in which @key is, or that is empty and would be its. There is always an empty one. */
static uint32_t *cell_of(const struct endpoint_map *map, const struct ss_endpoint *key)
{
	uint64_t hash = key->port;
	uint32_t at;

	for (int i = 0; i < 4; i++)
		hash = (hash ^ key->addr.w[i]) * 0x9e3779b97f4a7c15;
	for (at = hash >> 32;; at++) {
		uint32_t *cell = &map->cell[at & map->mask];

		if (!*cell || ss_endpoint_equal(item_at(map, *cell - 1), key))
			return cell;
	}
}

int endpoint_map_init(struct endpoint_map *map, const void *first, size_t stride, uint32_t count)
{
	uint32_t cells = 4;

	while (cells < 2 * count)
		cells *= 2;
	*map = (struct endpoint_map){
		.first = first,
		.stride = stride,
		.cell = calloc(cells, sizeof(*map->cell)),
		.mask = cells - 1,
	};
	if (!map->cell)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t *cell = cell_of(map, item_at(map, i));

		if (!*cell)
			*cell = i + 1;
	}
	return 0;
}

long endpoint_map_find(const struct endpoint_map *map, const struct ss_endpoint *key)
{
	return (long)*cell_of(map, key) - 1;
}

void endpoint_map_done(struct endpoint_map *map)
{
	free(map->cell);
	*map = (struct endpoint_map){};
}
