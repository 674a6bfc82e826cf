// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "coarse.h"
#include "map_sync.h"
#include "workers.h"

#define SHARE 32 /* tables that a thread maps between two looks for more */
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

size_t lb_table_room(bool large)
{
	size_t page = sysconf(_SC_PAGESIZE);

	return (lb_table_size(large) + page - 1) / page * page;
}

void *lb_row_reserve(size_t size)
{
	void *row = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return row == MAP_FAILED ? NULL : row;
}

/*
 * Maps the table of @service to where its head is to be. Returns 0 or a negative errno; the head is NULL
 * if it was removed.
 */
static int table_map(const struct lb_maps *maps, struct lb_service *service)
{
	int fd = lb_inner_open(lb_tables(maps, service->is_large), service->index), err = 0;
	void *at = service->table.head;

	if (fd < 0)
		return fd;
	if (mmap(at, lb_table_size(service->is_large), PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED)
		err = -errno;
	close(fd);
	if (!err)
		err = lb_table_view(at, service->is_large, &service->table);
	if (err == -ENOENT)
		service->table.head = NULL;
	return err == -ENOENT ? 0 : err;
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

/* All services without their tables, in no order. */
static int services_list(const struct lb_maps *maps, struct lb_services *list)
{
	struct ss_endpoint key, *prev = NULL;
	int err = 0;

	while (!err && !bpf_map_get_next_key(maps->services, prev, &key)) {
		struct lb_service service = { .vip = key };
		uint32_t value;

		prev = &key;
		if (!key.port)
			continue;
		if (bpf_map_lookup_elem(maps->services, &key, &value))
			continue; /* removed while we read */
		service.index = value & ~SS_LB_IS_LARGE;
		service.is_large = value & SS_LB_IS_LARGE;
		list->row_size += lb_table_room(service.is_large);
		err = service_append(list, &service);
	}
	return err;
}

/* Gives every service of @list its place in the row of tables. */
static int row_divide(struct lb_services *list)
{
	char *at;

	if (!list->count)
		return 0;
	at = list->row = lb_row_reserve(list->row_size);
	if (!at)
		return -ENOMEM;
	for (unsigned i = 0; i < list->count; i++) {
		list->item[i].table.head = (void *)at;
		at += lb_table_room(list->item[i].is_large);
	}
	return 0;
}

struct mapping {
	const struct lb_maps *maps;
	struct lb_services *list;
};

static int share_map(void *arg, unsigned first, unsigned n)
{
	const struct mapping *m = arg;
	int err = 0;

	for (unsigned i = 0; !err && i < n; i++)
		err = table_map(m->maps, &m->list->item[first + i]);
	return err;
}

/* Those whose tables were removed meanwhile go, the others come in order. */
static void services_sort(struct lb_services *list)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < list->count; i++)
		if (list->item[i].table.head)
			list->item[kept++] = list->item[i];
	list->count = kept;
	if (kept)
		qsort(list->item, kept, sizeof(*list->item), by_name);
}

int lb_services_read(const struct lb_maps *maps, struct lb_services *out, struct error *err)
{
	struct lb_services list = {};
	int ret = services_list(maps, &list);

	if (!ret)
		ret = row_divide(&list);
	if (!ret)
		ret = workers_run(list.count, SHARE, share_map,
				  &(struct mapping){ .maps = maps, .list = &list });
	if (ret) {
		lb_services_done(&list);
		return error_set(err, ret, "cannot read the services from the kernel: %s",
				 strerror(-ret));
	}
	services_sort(&list);
	*out = list;
	return 0;
}

void lb_services_done(struct lb_services *services)
{
	if (services->row)
		(void)munmap(services->row, services->row_size);
	free(services->item);
	*services = (struct lb_services){};
}

/* CLOCK_TAI less CLOCK_REALTIME: whole seconds, as the kernel was told them; mostly 0 or 37. */
static __s64 tai_ahead(void)
{
	struct timespec tai, real;

	(void)clock_gettime(CLOCK_REALTIME, &real);
	(void)clock_gettime(CLOCK_TAI, &tai);
	return (tai.tv_sec - real.tv_sec + (tai.tv_nsec < real.tv_nsec ? -1 : 0)) * 1000000000LL;
}

static int own_write(int map, const struct ss_addr *own, unsigned n)
{
	struct map_change change = { .fd = dup(map),
				     .key_size = sizeof(*own),
				     .value_size = sizeof(__u8),
				     .keys = calloc(n + 1, sizeof(*own)),
				     .values = calloc(n + 1, sizeof(__u8)),
				     .n = n };
	int ret = change.fd < 0 || !change.keys || !change.values ? -ENOMEM : 0;
	size_t failed;

	if (!ret && n)
		memcpy(change.keys, own, n * sizeof(*own));
	if (!ret)
		ret = map_changes_write(&change, 1, &failed);
	map_changes_done(&change, 1);
	return ret;
}

int lb_reports_accept(const struct lb_maps *maps, const struct ss_lb_report_rules *rules,
		      const struct ss_addr *own, unsigned n)
{
	struct ss_lb_report_rules written = {};
	__u32 zero = 0;
	int ret = own_write(maps->report_to, own, n);

	if (ret)
		return ret;
	if (rules) {
		written = *rules;
		written.tai_ahead = tai_ahead();
	}
	return bpf_map_update_elem(maps->report_rules, &zero, &written, BPF_ANY) ? -errno : 0;
}

int lb_rules_write(const struct lb_maps *maps, const struct ss_lb_rules *rules)
{
	__u32 zero = 0;

	return bpf_map_update_elem(maps->rules, &zero, rules, BPF_ANY) ? -errno : 0;
}

int lb_rules_read(const struct lb_maps *maps, struct ss_lb_rules *rules)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(maps->rules, &zero, rules) ? -errno : 0;
}

int lb_load_read(const struct lb_maps *maps, uint32_t id, struct ss_lb_load *out)
{
	return !bpf_map_lookup_elem(maps->loads, &id, out) && out->fresh_until > coarse_ns();
}
