// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "map_sync.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

static bool contains(const char *keys, size_t key_size, size_t n, const void *key)
{
	for (size_t i = 0; i < n; i++)
		if (!memcmp(keys + i * key_size, key, key_size))
			return true;
	return false;
}

/* The first key of the map behind @after (NULL: at all) that is not wanted. */
static bool next_unwanted(int fd, const void *keys, size_t key_size, size_t n, void *key)
{
	void *prev = NULL;

	while (!bpf_map_get_next_key(fd, prev, key)) {
		if (!contains(keys, key_size, n, key))
			return true;
		prev = key;
	}
	return false;
}

int map_sync(int fd, const void *keys, size_t key_size, const void *values, size_t value_size,
	     size_t n)
{
	const char *k = keys, *v = values;
	char *key;

	for (size_t i = 0; i < n; i++)
		if (bpf_map_update_elem(fd, k + i * key_size, v + i * value_size, BPF_ANY))
			return -errno;
	key = malloc(key_size);
	if (!key)
		return -ENOMEM;
	while (next_unwanted(fd, keys, key_size, n, key))
		if (bpf_map_delete_elem(fd, key) && errno != ENOENT) {
			free(key);
			return -errno;
		}
	free(key);
	return 0;
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
