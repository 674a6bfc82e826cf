// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "map_sync.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

static bool contains(const char *keys, size_t key_size, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (!memcmp(keys + i * key_size, key, key_size))
			return true;
	return false;
}

/* Makes room for one more entry than *@c->old_n of what the map holds. */
static int old_grow(struct map_change *c, size_t *room)
{
	char *keys, *values;

	if (c->old_n < *room)
		return 0;
	*room = *room ? 2 * *room : 64;
	keys = realloc(c->old_keys, *room * c->key_size);
	if (keys)
		c->old_keys = keys;
	values = realloc(c->old_values, *room * c->value_size);
	if (values)
		c->old_values = values;
	return keys && values ? 0 : -ENOMEM;
}

/* Reads what the map holds now. */
static int old_read(struct map_change *c)
{
	size_t room = 0;
	char *key, *prev = NULL;
	int ret;

	for (;; c->old_n++) {
		ret = old_grow(c, &room);
		if (ret)
			return ret;
		key = c->old_keys + c->old_n * c->key_size;
		prev = c->old_n ? key - c->key_size : NULL;
		if (bpf_map_get_next_key(c->fd, prev, key))
			return errno == ENOENT ? 0 : -errno;
		if (bpf_map_lookup_elem(c->fd, key, c->old_values + c->old_n * c->value_size))
			return -errno;
	}
}

static int entries_write(const struct map_change *c, const char *keys, const char *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bpf_map_update_elem(c->fd, keys + i * c->key_size, values + i * c->value_size,
					BPF_ANY))
			return -errno;
	return 0;
}

/* Deletes those of the @n @keys that are not among the @kept_n @kept. */
static int entries_delete(const struct map_change *c, const char *keys, size_t n, const char *kept,
			  size_t kept_n)
{
	for (size_t i = 0; i < n; i++) {
		const char *key = keys + i * c->key_size;

		if (!contains(kept, c->key_size, kept_n, key) && bpf_map_delete_elem(c->fd, key) &&
		    errno != ENOENT)
			return -errno;
	}
	return 0;
}

void map_changes_undo(struct map_change *change, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct map_change *c = &change[i];

		/* first what makes room: then nothing is left that could fail */
		(void)entries_delete(c, c->keys, c->n, c->old_keys, c->old_n);
		(void)entries_write(c, c->old_keys, c->old_values, c->old_n);
	}
}

int map_changes_write(struct map_change *change, size_t count, size_t *failed)
{
	size_t i;
	int ret;

	for (i = 0, ret = 0; i < count && !ret; i++)
		ret = old_read(&change[ *failed = i]);
	if (ret)
		return ret;
	for (i = 0; i < count && !ret; i++)
		ret = entries_write(&change[ *failed = i], change[i].keys, change[i].values,
				    change[i].n);
	for (i = 0; i < count && !ret; i++)
		ret = entries_delete(&change[ *failed = i], change[i].old_keys, change[i].old_n,
				     change[i].keys, change[i].n);
	if (ret)
		map_changes_undo(change, count);
	return ret;
}

void map_changes_done(struct map_change *change, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (change[i].fd > 0)
			close(change[i].fd);
		free(change[i].keys);
		free(change[i].values);
		free(change[i].old_keys);
		free(change[i].old_values);
		change[i] = (struct map_change){};
	}
}

int map_counters_read(int fd, __u64 *out, __u32 n)
{
	int cpus = libbpf_num_possible_cpus();
	__u64 *each = calloc(cpus, sizeof(*each));
	int ret = 0;

	if (!each)
		return -ENOMEM;
	for (__u32 i = 0; i < n && !ret; i++) {
		out[i] = 0;
		if (bpf_map_lookup_elem(fd, &i, each))
			ret = -errno;
		for (int cpu = 0; cpu < cpus && !ret; cpu++)
			out[i] += each[cpu];
	}
	free(each);
	return ret;
}
