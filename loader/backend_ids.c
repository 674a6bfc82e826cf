// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "backend_ids.h"

#include <errno.h>
#include <stdlib.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "lb_backends.h"

int backend_ids_init(struct backend_ids *ids)
{
	*ids = (struct backend_ids){ .used = calloc(SS_LB_IDS, sizeof(*ids->used)) };
	return ids->used ? 0 : -ENOMEM;
}

void backend_ids_done(struct backend_ids *ids)
{
	free(ids->used);
	free(ids->taken);
	free(ids->owner);
	*ids = (struct backend_ids){};
}

void backend_ids_use(struct backend_ids *ids, uint32_t id)
{
	if (id < SS_LB_IDS)
		ids->used[id] = true;
}

/* Makes room for one more id that is taken. */
static int taken_grow(struct backend_ids *ids)
{
	uint32_t room = 2 * ids->taken_room + 64, *grown;

	if (ids->taken_count < ids->taken_room)
		return 0;
	grown = realloc(ids->taken, room * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	ids->taken = grown;
	grown = realloc(ids->owner, room * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	ids->owner = grown;
	ids->taken_room = room;
	return 0;
}

int backend_ids_take(struct backend_ids *ids, uint32_t owner, uint32_t *id)
{
	int err = taken_grow(ids);

	if (err)
		return err;
	while (ids->next < SS_LB_IDS && ids->used[ids->next])
		ids->next++;
	if (ids->next == SS_LB_IDS)
		return -E2BIG;
	ids->owner[ids->taken_count] = owner;
	*id = ids->taken[ids->taken_count++] = ids->next++;
	return 0;
}

/* How many of the ids from number @first on are of the group of that one. */
static uint32_t group_len(const struct backend_ids *ids, uint32_t first)
{
	const uint32_t *id = &ids->taken[first];
	uint32_t len = 1;

	while (first + len < ids->taken_count && id[len] / SS_LB_ID_GROUP == id[0] / SS_LB_ID_GROUP)
		len++;
	return len;
}

/* Creates those groups of ids that had none in use yet. */
static int groups_complete(const struct backend_ids *ids, struct lb_backends *backends)
{
	uint32_t missing[LB_BACKEND_GROUPS], n = 0;

	for (uint32_t i = 0; i < ids->taken_count; i += group_len(ids, i)) {
		int fd = lb_backends_group(backends, ids->taken[i]);

		if (fd == -ENOENT)
			missing[n++] = ids->taken[i] / SS_LB_ID_GROUP;
		else if (fd < 0)
			return fd;
	}
	return lb_backends_create(backends, missing, n);
}

/* Writes the @n ids from number @first on, all of one group. @each has room for all of a group. */
static int group_write(const struct backend_ids *ids, struct lb_backends *backends,
		       const struct lb_maps *maps, uint32_t first, uint32_t n,
		       struct ss_lb_backend_cpu *each)
{
	static const struct ss_lb_load no_load[SS_LB_ID_GROUP];
	uint32_t key[SS_LB_ID_GROUP], cpus = libbpf_num_possible_cpus(), done = n;
	int fd = lb_backends_group(backends, ids->taken[first]);

	if (fd < 0)
		return fd;
	for (uint32_t i = 0; i < n; i++) {
		key[i] = ids->taken[first + i] % SS_LB_ID_GROUP;
		for (uint32_t cpu = 0; cpu < cpus; cpu++)
			each[i * cpus + cpu].owner = ids->owner[first + i];
	}
	if (bpf_map_update_batch(fd, key, each, &done, NULL))
		return -errno;
	done = n;
	if (bpf_map_update_batch(maps->loads, &ids->taken[first], no_load, &done, NULL))
		return -errno;
	return 0;
}

int backend_ids_write(const struct backend_ids *ids, const struct lb_maps *maps)
{
	struct ss_lb_backend_cpu *each;
	struct lb_backends backends;
	uint32_t n;
	int err;

	each = calloc((size_t)SS_LB_ID_GROUP * libbpf_num_possible_cpus(), sizeof(*each));
	if (!each)
		return -ENOMEM;
	lb_backends_init(&backends, maps);
	err = groups_complete(ids, &backends);
	for (uint32_t i = 0; !err && i < ids->taken_count; i += n) {
		n = group_len(ids, i);
		err = group_write(ids, &backends, maps, i, n, each);
	}
	lb_backends_done(&backends);
	free(each);
	return err;
}
