// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_backends.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

void lb_backends_init(struct lb_backends *backends, const struct lb_maps *maps)
{
	backends->map = maps->backend_cpu;
	for (unsigned i = 0; i < LB_BACKEND_GROUPS; i++)
		backends->group[i] = -1;
}

void lb_backends_done(struct lb_backends *backends)
{
	for (unsigned i = 0; i < LB_BACKEND_GROUPS; i++)
		if (backends->group[i] >= 0)
			close(backends->group[i]);
}

int lb_backends_group(struct lb_backends *backends, uint32_t id)
{
	uint32_t group = id / SS_LB_ID_GROUP;
	int fd;

	if (group >= LB_BACKEND_GROUPS)
		return -ENOENT;
	if (backends->group[group] >= 0)
		return backends->group[group];
	fd = lb_inner_open(backends->map, group);
	if (fd >= 0)
		backends->group[group] = fd;
	return fd;
}

int lb_backends_create(struct lb_backends *backends, const uint32_t *group, uint32_t n)
{
	int fd[LB_BACKEND_GROUPS], err = 0;
	uint32_t created, done = n;

	for (created = 0; created < n; created++) {
		fd[created] = bpf_map_create(BPF_MAP_TYPE_PERCPU_ARRAY, "lb_backend_cpu",
					     sizeof(uint32_t), sizeof(struct ss_lb_backend_cpu),
					     SS_LB_ID_GROUP, NULL);
		if (fd[created] < 0)
			break;
	}
	if (created < n || (n && bpf_map_update_batch(backends->map, group, fd, &done, NULL)))
		err = -errno;
	for (uint32_t i = 0; i < created; i++) {
		if (err)
			close(fd[i]);
		else
			backends->group[group[i]] = fd[i];
	}
	return err;
}

/* Adds what one processor has counted to *@sum; the next hop is that which stays fresh longest. */
static void sum_add(struct ss_lb_backend_cpu *sum, const struct ss_lb_backend_cpu *one)
{
	__u64 syns = sum->syns + one->syns, retries = sum->retries + one->retries;
	__u64 others = sum->others + one->others;
	__u32 unanswered = sum->unanswered + one->unanswered;

	if (one->fresh_until >= sum->fresh_until)
		*sum = *one;
	sum->syns = syns;
	sum->retries = retries;
	sum->others = others;
	sum->unanswered = unanswered;
}

int lb_backends_read(struct lb_backends *backends, uint32_t id, struct ss_lb_backend_cpu *out)
{
	int fd = lb_backends_group(backends, id), cpus = libbpf_num_possible_cpus(), err = 0;
	struct ss_lb_backend_cpu *each, sum = {};
	uint32_t at = id % SS_LB_ID_GROUP;

	if (fd < 0)
		return fd;
	each = calloc(cpus, sizeof(*each));
	if (!each)
		return -ENOMEM;
	if (bpf_map_lookup_elem(fd, &at, each))
		err = -errno;
	for (int i = 0; !err && i < cpus; i++)
		sum_add(&sum, &each[i]);
	free(each);
	if (!err)
		*out = sum;
	return err;
}
