/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Makes maps hold exactly the wanted entries, by the difference: all of them or, if anything fails,
 * none, so that no half of a configuration is ever left in force.
 */
#ifndef SIDESTEP_MAP_SYNC_H
#define SIDESTEP_MAP_SYNC_H

#include <stddef.h>

#include <linux/types.h>

/* One map, of any kind whose keys can be walked, and what it is to hold. */
struct map_change {
	int fd;
	size_t key_size, value_size; /* bytes */
	char *keys, *values; /* @n of each, one behind the other; equal keys: the last counts */
	size_t n;
	char *old_keys, *old_values; /* what it held before: map_changes_write() sets them */
	size_t old_n;
};

/*
 * Writes what is wanted into the @count maps @change, then removes all else. What stays is never
 * missing in between, so a map needs room for old and new entries together. Returns 0, or a
 * negative errno with the number of the map that failed in *@failed: then all maps hold what they
 * held before.
 */
int map_changes_write(struct map_change *change, size_t count, size_t *failed);

/* The maps hold again what they held before map_changes_write(). */
void map_changes_undo(struct map_change *change, size_t count);

/* Closes the maps and frees the arrays; zeroes are fine. */
void map_changes_done(struct map_change *change, size_t count);

/* Sums the @n 64-bit counters of the per-processor array @fd into @out. 0 or a negative errno. */
int map_counters_read(int fd, __u64 *out, __u32 n);

#endif
