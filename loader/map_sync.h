/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Makes a hash or trie map hold exactly the wanted entries, by the difference. */
#ifndef SIDESTEP_MAP_SYNC_H
#define SIDESTEP_MAP_SYNC_H

#include <stddef.h>

#include <linux/types.h>

/*
 * Writes the @n entries whose keys stand at @keys and values at @values (@key_size and @value_size
 * bytes each, one behind the other) into the map @fd and removes all others. What stays is never
 * missing in between. Returns 0 or a negative errno.
 */
int map_sync(int fd, const void *keys, size_t key_size, const void *values, size_t value_size,
	     size_t n);

/* Sums the @n 64-bit counters of the per-processor array @fd into @out. 0 or a negative errno. */
int map_counters_read(int fd, __u64 *out, __u32 n);

#endif
