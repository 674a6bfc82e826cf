// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define REPLACED_MAX 100 /* looks at an inner map that is replaced again and again */

static int by_name(const void *a, const void *b)
{
	const struct lb_service *x = a, *y = b;

	return strcmp(x->table.name, y->table.name);
}

int lb_inner_open(int fd, uint32_t index)
{
	int inner = -ENOENT;

	for (int i = 0; i < REPLACED_MAX && inner == -ENOENT; i++) {
		uint32_t id;

		if (bpf_map_lookup_elem(fd, &index, &id))
			return -errno;
		inner = bpf_map_get_fd_by_id(id);
		if (inner < 0)
			inner = -errno;
	}
	return inner;
}

/* Maps the table at service->index. Returns 0 or a negative errno; -ENOENT: it was removed. */
static int table_map(const struct lb_maps *maps, struct lb_service *service)
{
	size_t size = lb_table_size(service->is_large);
	int fd = lb_inner_open(maps->tables[service->is_large], service->index), err;
	void *memory;

	if (fd < 0)
		return fd;
	memory = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	err = memory == MAP_FAILED ? -errno : 0;
	close(fd);
	if (err)
		return err;
	err = lb_table_view(memory, service->is_large, &service->table);
	if (err)
		(void)munmap(memory, size);
	return err;
}

static int service_append(struct lb_services *list, const struct lb_service *service)
{
	struct lb_service *grown;

	if (!(list->count & (list->count - 1))) { /* as many as there is room for */
		grown = realloc(list->item, (2 * list->count + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		list->item = grown;
	}
	list->item[list->count++] = *service;
	return 0;
}

int lb_services_read(const struct lb_maps *maps, struct lb_services *out, struct error *err)
{
	struct lb_services list = {};
	struct ss_endpoint key, *prev = NULL;
	int ret = 0;

	while (!ret && !bpf_map_get_next_key(maps->services, prev, &key)) {
		struct lb_service service = { .vip = key };
		uint32_t value;

		prev = &key;
		if (!key.port)
			continue;
		if (bpf_map_lookup_elem(maps->services, &key, &value))
			continue; /* removed while we read */
		service.index = value & ~SS_LB_IS_LARGE;
		service.is_large = value & SS_LB_IS_LARGE;
		ret = table_map(maps, &service);
		if (!ret)
			ret = service_append(&list, &service);
		else if (ret == -ENOENT)
			ret = 0; /* removed while we read */
	}
	if (ret) {
		lb_services_done(&list);
		return error_set(err, ret, "cannot read the services from the kernel: %s",
				 strerror(-ret));
	}
	if (list.count)
		qsort(list.item, list.count, sizeof(*list.item), by_name);
	*out = list;
	return 0;
}

void lb_services_done(struct lb_services *services)
{
	for (unsigned i = 0; i < services->count; i++)
		(void)munmap(services->item[i].table.head,
			     lb_table_size(services->item[i].is_large));
	free(services->item);
	*services = (struct lb_services){};
}

int lb_backend_open(const struct lb_maps *maps, uint32_t id)
{
	return lb_inner_open(maps->backend_cpu, id / SS_LB_ID_GROUP);
}

int lb_backend_read(const struct lb_maps *maps, uint32_t id, struct ss_lb_backend_cpu *out)
{
	int cpus = libbpf_num_possible_cpus();
	struct ss_lb_backend_cpu *each, sum = {};
	uint32_t at = id % SS_LB_ID_GROUP;
	int fd, err = 0;

	fd = lb_backend_open(maps, id);
	if (fd < 0)
		return fd;
	each = calloc(cpus, sizeof(*each));
	if (!each)
		err = -ENOMEM;
	else if (bpf_map_lookup_elem(fd, &at, each))
		err = -errno;
	close(fd);
	if (err) {
		free(each);
		return err;
	}
	for (int i = 0; i < cpus; i++) {
		__u64 syns = sum.syns + each[i].syns, retries = sum.retries + each[i].retries,
		      others = sum.others + each[i].others;
		__u32 unanswered = sum.unanswered + each[i].unanswered;

		if (each[i].fresh_until >= sum.fresh_until)
			sum = each[i];
		sum.syns = syns;
		sum.retries = retries;
		sum.others = others;
		sum.unanswered = unanswered;
	}
	free(each);
	*out = sum;
	return 0;
}

int lb_reports_accept(const struct lb_maps *maps, const struct ss_lb_report_rules *rules)
{
	static const struct ss_lb_report_rules none;
	__u32 zero = 0;

	return bpf_map_update_elem(maps->report_rules, &zero, rules ? rules : &none, BPF_ANY)
		       ? -errno
		       : 0;
}

int lb_rules_write(const struct lb_maps *maps, const struct ss_lb_rules *rules)
{
	__u32 zero = 0;

	return bpf_map_update_elem(maps->rules, &zero, rules, BPF_ANY) ? -errno : 0;
}

int lb_load_read(const struct lb_maps *maps, uint32_t id, struct ss_lb_load *out)
{
	struct timespec now;

	if (bpf_map_lookup_elem(maps->loads, &id, out))
		return 0;
	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return out->fresh_until > now.tv_sec * 1000000000ULL + now.tv_nsec;
}
