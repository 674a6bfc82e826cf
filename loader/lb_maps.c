// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "lb_table.h"

static const struct ss_endpoint *any_port(const struct ss_endpoint *vip, struct ss_endpoint *key)
{
	*key = (struct ss_endpoint){ .addr = vip->addr };
	return key;
}

static int by_name(const void *a, const void *b)
{
	const struct lb_service *x = a, *y = b;

	return strcmp(x->table->name, y->table->name);
}

/* Reads the table at @index of the map "tables" into a new allocation. */
static int table_read(const struct lb_maps *maps, uint32_t index, struct ss_lb_table **out)
{
	struct ss_lb_table *table;
	uint32_t id, zero = 0;
	int fd, err = 0;

	if (bpf_map_lookup_elem(maps->tables, &index, &id))
		return -errno;
	fd = bpf_map_get_fd_by_id(id);
	if (fd < 0)
		return -errno;
	table = malloc(sizeof(*table));
	if (!table)
		err = -ENOMEM;
	else if (bpf_map_lookup_elem(fd, &zero, table))
		err = -errno;
	close(fd);
	if (err)
		free(table);
	else
		*out = table;
	return err;
}

static int service_append(struct lb_services *list, const struct lb_service *service)
{
	struct lb_service *grown;

	grown = realloc(list->item, (list->count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	list->item = grown;
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

		prev = &key;
		if (!key.port)
			continue;
		if (bpf_map_lookup_elem(maps->services, &key, &service.index))
			continue; /* removed while we read */
		ret = table_read(maps, service.index, &service.table);
		if (!ret)
			ret = service_append(&list, &service);
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
		free(services->item[i].table);
	free(services->item);
	*services = (struct lb_services){};
}

/* What one call of lb_services_apply() works with. */
struct apply {
	const struct lb_maps *maps;
	struct lb_services old;
	bool *index_used; /* SS_LB_SERVICES */
	bool *id_used; /* SS_LB_BACKENDS */
	uint32_t next_id;
	struct ss_lb_table *table; /* the one being built */
};

static const struct lb_service *service_at(const struct lb_services *list,
					   const struct ss_endpoint *vip)
{
	for (unsigned i = 0; i < list->count; i++)
		if (ss_endpoint_equal(&list->item[i].vip, vip))
			return &list->item[i];
	return NULL;
}

static int index_take(struct apply *a, uint32_t *index)
{
	for (uint32_t i = 0; i < SS_LB_SERVICES; i++) {
		if (a->index_used[i])
			continue;
		a->index_used[i] = true;
		*index = i;
		return 0;
	}
	return -E2BIG;
}

/* A free backend id for @address, with its counters, next hop and load at zero. */
static int id_take(struct apply *a, const struct ss_endpoint *address, uint32_t *id)
{
	const struct ss_lb_load no_load = {};
	int cpus = libbpf_num_possible_cpus();
	struct ss_lb_backend_cpu *zeroes;
	int err = 0;

	while (a->next_id < SS_LB_BACKENDS && a->id_used[a->next_id])
		a->next_id++;
	if (a->next_id == SS_LB_BACKENDS)
		return -E2BIG;
	zeroes = calloc(cpus, sizeof(*zeroes));
	if (!zeroes)
		return -ENOMEM;
	for (int i = 0; i < cpus; i++)
		zeroes[i].owner = lb_backend_owner(address);
	if (bpf_map_update_elem(a->maps->backend_cpu, &a->next_id, zeroes, BPF_ANY) ||
	    bpf_map_update_elem(a->maps->loads, &a->next_id, &no_load, BPF_ANY))
		err = -errno;
	free(zeroes);
	if (err)
		return err;
	*id = a->next_id++;
	return 0;
}

/* Ids for the backends of @service: the one it had at the same address in @old, or a new one. */
static int ids_assign(struct apply *a, const struct service_config *service,
		      const struct ss_lb_table *old, uint32_t *ids)
{
	for (unsigned i = 0; i < service->backends_count; i++) {
		const struct ss_endpoint *address = &service->backends[i].address;
		bool kept = false;
		int err = 0;

		for (unsigned j = 0; old && j < old->backends && !kept; j++) {
			kept = ss_endpoint_equal(&old->backend[j].endpoint, address);
			ids[i] = old->backend[j].id;
		}
		if (!kept)
			err = id_take(a, address, &ids[i]);
		if (err)
			return err;
	}
	return 0;
}

/* Puts a->table into the kernel as the service at @vip: one pointer changes, all else follows. */
static int table_install(struct apply *a, const struct ss_endpoint *vip)
{
	uint32_t index = a->table->index, zero = 0, present = SS_LB_SERVICES; /* no index */
	struct ss_endpoint address;
	int fd, err = 0;

	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "lb_table", sizeof(zero), sizeof(*a->table), 1,
			    NULL);
	if (fd < 0)
		return -errno;
	if (bpf_map_update_elem(fd, &zero, a->table, BPF_ANY) ||
	    bpf_map_update_elem(a->maps->tables, &index, &fd, BPF_ANY) ||
	    bpf_map_update_elem(a->maps->services, any_port(vip, &address), &present, BPF_ANY) ||
	    bpf_map_update_elem(a->maps->services, vip, &index, BPF_ANY))
		err = -errno;
	close(fd);
	return err;
}

/* Removes those who report for the backends of @old that @now (NULL: nobody) has not. */
static void reporters_remove(const struct lb_maps *maps, const struct lb_service *old,
			     const struct ss_lb_table *now)
{
	struct ss_lb_reporter key = { .vip = old->vip };

	for (unsigned i = 0; i < old->table->backends; i++) {
		bool stays = false;

		key.backend = old->table->backend[i].endpoint;
		for (unsigned j = 0; now && j < now->backends && !stays; j++)
			stays = ss_endpoint_equal(&now->backend[j].endpoint, &key.backend);
		if (!stays)
			(void)bpf_map_delete_elem(maps->reporters, &key);
	}
}

/* Every backend of @table, the service at @vip, may report. All at once: there can be many. */
static int reporters_add(const struct lb_maps *maps, const struct ss_endpoint *vip,
			 const struct ss_lb_table *table)
{
	struct ss_lb_reporter *keys = calloc(table->backends + 1, sizeof(*keys));
	__u32 *ids = calloc(table->backends + 1, sizeof(*ids)), n = table->backends;
	int err = keys && ids ? 0 : -ENOMEM;

	for (unsigned i = 0; i < n && !err; i++) {
		keys[i].vip = *vip;
		keys[i].backend = table->backend[i].endpoint;
		ids[i] = table->backend[i].id;
	}
	if (!err && n && bpf_map_update_batch(maps->reporters, keys, ids, &n, NULL))
		err = -errno;
	free(ids);
	free(keys);
	return err;
}

/* Returns 1 if the service was new or differed, 0 if not, or a negative errno. */
static int service_apply(struct apply *a, const struct service_config *service)
{
	const struct lb_service *old = service_at(&a->old, &service->vip);
	uint32_t index, *ids;
	int err = 0;

	ids = calloc(service->backends_count + 1, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	if (old)
		index = old->index;
	else
		err = index_take(a, &index);
	if (!err)
		err = ids_assign(a, service, old ? old->table : NULL, ids);
	if (!err)
		err = lb_table_build(service, index, ids, a->table);
	free(ids);
	if (err)
		return err;
	if (old && !memcmp(old->table, a->table, sizeof(*a->table)))
		return 0;
	if (old)
		reporters_remove(a->maps, old, a->table);
	err = table_install(a, &service->vip);
	if (!err)
		err = reporters_add(a->maps, &service->vip, a->table);
	return err ? err : 1;
}

static bool address_has_service(const struct ss_addr *addr, const struct service_config *services,
				unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (ss_addr_equal(&services[i].vip.addr, addr))
			return true;
	return false;
}

/* Removes the services that are not in @services any more. Returns how many. */
static int services_prune(struct apply *a, const struct service_config *services, unsigned count)
{
	struct ss_endpoint address;
	int removed = 0;

	for (unsigned i = 0; i < a->old.count; i++) {
		const struct lb_service *old = &a->old.item[i];
		bool stays = false;

		for (unsigned j = 0; j < count && !stays; j++)
			stays = ss_endpoint_equal(&services[j].vip, &old->vip);
		if (stays)
			continue;
		removed++;
		reporters_remove(a->maps, old, NULL);
		(void)bpf_map_delete_elem(a->maps->services, &old->vip);
		(void)bpf_map_delete_elem(a->maps->tables, &old->index);
		if (!address_has_service(&old->vip.addr, services, count))
			(void)bpf_map_delete_elem(a->maps->services, any_port(&old->vip, &address));
	}
	return removed;
}

static void apply_done(struct apply *a)
{
	lb_services_done(&a->old);
	free(a->index_used);
	free(a->id_used);
	free(a->table);
}

static int apply_init(struct apply *a, const struct lb_maps *maps, struct error *err)
{
	int ret;

	*a = (struct apply){ .maps = maps };
	ret = lb_services_read(maps, &a->old, err);
	if (ret)
		return ret;
	a->index_used = calloc(SS_LB_SERVICES, sizeof(*a->index_used));
	a->id_used = calloc(SS_LB_BACKENDS, sizeof(*a->id_used));
	a->table = malloc(sizeof(*a->table));
	if (!a->index_used || !a->id_used || !a->table) {
		apply_done(a);
		return error_set(err, -ENOMEM, "out of memory");
	}
	for (unsigned i = 0; i < a->old.count; i++) {
		const struct ss_lb_table *table = a->old.item[i].table;

		a->index_used[a->old.item[i].index] = true;
		for (unsigned j = 0; j < table->backends; j++)
			a->id_used[table->backend[j].id] = true;
	}
	return 0;
}

int lb_services_apply(const struct lb_maps *maps, const struct service_config *services,
		      unsigned count, struct error *err)
{
	struct apply a;
	int changed = 0, ret;

	ret = apply_init(&a, maps, err);
	if (ret)
		return ret;
	for (unsigned i = 0; i < count; i++) {
		ret = service_apply(&a, &services[i]);
		if (ret < 0) {
			apply_done(&a);
			return error_set(err, ret, "service %s: cannot write its table: %s",
					 services[i].name,
					 ret == -E2BIG ? "too many services or backends"
						       : strerror(-ret));
		}
		changed += ret;
	}
	changed += services_prune(&a, services, count);
	apply_done(&a);
	return changed;
}

int lb_backend_read(const struct lb_maps *maps, uint32_t id, struct ss_lb_backend_cpu *out)
{
	int cpus = libbpf_num_possible_cpus();
	struct ss_lb_backend_cpu *each, sum = {};

	each = calloc(cpus, sizeof(*each));
	if (!each)
		return -ENOMEM;
	if (bpf_map_lookup_elem(maps->backend_cpu, &id, each)) {
		int err = -errno;

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

int lb_load_read(const struct lb_maps *maps, uint32_t id, struct ss_lb_load *out)
{
	struct timespec now;

	if (bpf_map_lookup_elem(maps->loads, &id, out))
		return 0;
	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return out->fresh_until > now.tv_sec * 1000000000ULL + now.tv_nsec;
}
