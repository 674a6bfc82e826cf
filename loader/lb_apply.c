// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * In steps, the work of each shared among threads: every service is compared with what the kernel has;
 * tables of those that differ are built; all of them are put into the kernel's map of tables. There the
 * kernel waits until no program uses any more what they take the place of, once for a batch (and before
 * 6.8 for every table): those who wait at the same time wait for the same.
 */
#include "lb_apply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "backend_ids.h"
#include "endpoint_map.h"
#include "lb_flows.h"
#include "lb_health.h"
#include "lb_quic.h"
#include "lb_reporters.h"
#include "workers.h"

#define SHARE 32 /* services that a thread works on between two looks for more */
#define INSTALL_SHARE 64 /* tables that are put into the kernel together */
#define OTHER_FDS 128 /* file descriptors that are left for all else */

/* A service that is to be served. */
struct wanted {
	const struct service_config *config;
	const struct lb_service *old; /* NULL: new */
	uint32_t index; /* in the maps of tables */
	bool is_large; /* its table */
	uint32_t *ids; /* of its backends; NULL: nothing differs */
	bool *added; /* by backend: the old service had none at its address */
	bool *stays; /* by backend of the old service: the address has one still */
	int fd; /* of the new table, as long as it is not in the kernel's map of them; -1 */
	int err;
};

/* What one call of lb_services_apply() works with. */
struct apply {
	const struct lb_maps *maps;
	struct lb_services old;
	struct wanted *wanted;
	unsigned count;
	unsigned first; /* of those that are built and installed just now */
	struct backend_ids ids;
	bool index_used[SS_LB_TABLES];
	bool stays[SS_LB_TABLES]; /* by position in old */
};

static const struct ss_endpoint *any_port(const struct ss_endpoint *vip, struct ss_endpoint *key)
{
	*key = (struct ss_endpoint){ .addr = vip->addr };
	return key;
}

static int index_take(struct apply *a, uint32_t *index)
{
	for (uint32_t i = 0; i < SS_LB_TABLES; i++) {
		if (a->index_used[i])
			continue;
		a->index_used[i] = true;
		*index = i;
		return 0;
	}
	return -E2BIG;
}

/* --- what differs ---------------------------------------------------------------------------- */

/* Looks for the backends of @w among those of @w->old: those at the same address keep their ids. */
static void backends_match(struct wanted *w, const struct endpoint_map *map)
{
	for (unsigned i = 0; i < w->config->backends_count; i++) {
		long at = endpoint_map_find(map, &w->config->backends[i].address);

		w->added[i] = at < 0;
		if (at < 0)
			continue;
		w->ids[i] = w->old->table.backend[at].id;
		w->stays[at] = true;
	}
}

/* Notes that @w differs from what the kernel has, and which of its backends do. */
static int wanted_differs(struct wanted *w)
{
	static const struct ss_endpoint none;
	const struct ss_lb_backend *old = w->old ? w->old->table.backend : NULL;
	uint32_t old_count = w->old ? w->old->table.head->backends : 0;
	struct endpoint_map map;
	int err;

	w->ids = calloc(w->config->backends_count + 1, sizeof(*w->ids));
	w->added = calloc(w->config->backends_count + 1, sizeof(*w->added));
	w->stays = calloc(old_count + 1, sizeof(*w->stays));
	if (!w->ids || !w->added || !w->stays)
		return -ENOMEM;
	err = endpoint_map_init(&map, old ? &old->endpoint : &none, sizeof(*old), old_count);
	if (err)
		return err;
	backends_match(w, &map);
	endpoint_map_done(&map);
	return 0;
}

/* Compares the services of one share with what the kernel has. */
static int share_compare(void *arg, unsigned first, unsigned n)
{
	struct apply *a = arg;

	for (struct wanted *w = &a->wanted[first]; w < &a->wanted[first + n]; w++) {
		if (w->old && lb_table_is(&w->old->table, w->config))
			continue;
		w->err = wanted_differs(w);
		if (w->err)
			return w->err;
	}
	return 0;
}

static int id_take(struct apply *a, const struct backend_config *backend, uint32_t *id)
{
	return backend_ids_take(&a->ids, lb_backend_owner(&backend->address), id);
}

/* Takes the ids, and for new services the indices, that are still missing. */
static int numbers_take(struct apply *a)
{
	for (struct wanted *w = a->wanted; w < &a->wanted[a->count]; w++) {
		if (!w->ids)
			continue;
		if (!w->old)
			w->err = index_take(a, &w->index);
		for (unsigned i = 0; !w->err && i < w->config->backends_count; i++)
			if (w->added[i])
				w->err = id_take(a, &w->config->backends[i], &w->ids[i]);
		if (w->err)
			return w->err;
	}
	return 0;
}

/* --- tables ---------------------------------------------------------------------------------- */

/* An inner map with a table of zeroes. A file descriptor, or -errno. */
static int table_create(bool large)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "lb_table", sizeof(uint32_t),
				lb_table_size(large), 1, &opts);

	return fd < 0 ? -errno : fd;
}

/* Builds the table of @w in a map of its own, w->fd, by way of a mapping at @at. */
static int table_make(struct wanted *w, void *at)
{
	w->fd = table_create(w->is_large);
	if (w->fd < 0)
		return w->fd;
	if (mmap(at, lb_table_size(w->is_large), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED | MAP_POPULATE, w->fd, 0) == MAP_FAILED)
		return -errno;
	return lb_table_build(w->config, w->index, w->ids, w->old ? w->old->table.head : NULL, at);
}

/* Builds the tables of the services of one share that differ. */
static int share_build(void *arg, unsigned first, unsigned n)
{
	struct apply *a = arg;
	struct wanted *w = &a->wanted[a->first + first];
	size_t size = 0;
	char *row, *at;
	int err = 0;

	for (unsigned i = 0; i < n; i++)
		size += w[i].ids ? lb_table_room(w[i].is_large) : 0;
	if (!size)
		return 0;
	at = row = lb_row_reserve(size);
	if (!row)
		return -ENOMEM;
	for (unsigned i = 0; !err && i < n; i++) {
		if (!w[i].ids)
			continue;
		err = w[i].err = table_make(&w[i], at);
		at += lb_table_room(w[i].is_large);
	}
	(void)munmap(row, size);
	return err;
}

/* Lets packets find the table of @w, if it is not where they would look for it anyway. */
static int service_announce(const struct lb_maps *maps, const struct wanted *w)
{
	uint32_t present = SS_LB_TABLES; /* no index */
	uint32_t value = w->index | (w->is_large ? SS_LB_IS_LARGE : 0);
	const struct ss_endpoint *vip = &w->config->vip;
	struct ss_endpoint address;

	if (w->old && w->old->is_large == w->is_large)
		return 0;
	if (bpf_map_update_elem(maps->services, any_port(vip, &address), &present, BPF_ANY) ||
	    bpf_map_update_elem(maps->services, vip, &value, BPF_ANY))
		return -errno;
	return 0;
}

/* What follows once the kernel has the table of @w. */
static int service_installed(const struct lb_maps *maps, const struct wanted *w)
{
	int err = lb_reporters_add(maps, w->config, w->ids, w->added);

	if (!err)
		err = lb_quic_ids_add(maps, w->config, w->index, w->ids);
	if (!err)
		err = lb_health_apply(maps, w->config, w->ids, w->old);
	if (!err)
		err = service_announce(maps, w);
	if (err || !w->old)
		return err;
	lb_quic_ids_remove(maps, w->old, w->config);
	err = lb_health_forget(maps, w->config, w->old, w->stays);
	return err ? err : lb_reporters_remove(maps, w->old, w->stays);
}

/* Puts those of the @n tables from @w on that are new, of one size, into the kernel's map of them. */
static int tables_install(const struct lb_maps *maps, const struct wanted *w, unsigned n,
			  bool large)
{
	uint32_t index[INSTALL_SHARE], count = 0;
	int fd[INSTALL_SHARE];

	for (unsigned i = 0; i < n; i++) {
		if (w[i].fd < 0 || w[i].is_large != large)
			continue;
		index[count] = w[i].index;
		fd[count++] = w[i].fd;
	}
	if (count && bpf_map_update_batch(lb_tables(maps, large), index, fd, &count, NULL))
		return -errno;
	return 0;
}

/* Installs the tables of one share. */
static int share_install(void *arg, unsigned first, unsigned n)
{
	const struct apply *a = arg;
	struct wanted *w = &a->wanted[a->first + first];
	int err = tables_install(a->maps, w, n, false);

	if (!err)
		err = tables_install(a->maps, w, n, true);
	for (unsigned i = 0; !err && i < n; i++) {
		if (w[i].fd < 0)
			continue;
		close(w[i].fd);
		w[i].fd = -1;
		err = w[i].err = service_installed(a->maps, &w[i]);
	}
	return err;
}

/* How many file descriptors tables may have; up to @wanted, if the limit of this process can be raised. */
static unsigned table_fds(unsigned wanted)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return SHARE;
	if (limit.rlim_cur < wanted + OTHER_FDS) {
		limit.rlim_cur = wanted + OTHER_FDS;
		if (limit.rlim_cur > limit.rlim_max)
			limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur < SHARE + OTHER_FDS)
		return SHARE;
	return limit.rlim_cur - OTHER_FDS;
}

/* Builds all tables that differ, as many as there may be file descriptors, and installs them. */
static int tables_replace(struct apply *a)
{
	unsigned most = table_fds(a->count), n;
	int err = 0;

	for (unsigned first = 0; !err && first < a->count; first += n) {
		n = a->count - first < most ? a->count - first : most;
		a->first = first;
		err = workers_run(n, SHARE, share_build, a);
		if (!err)
			err = workers_run(n, INSTALL_SHARE, share_install, a);
	}
	return err;
}

/* --- UDP flows of backends that are down --------------------------------------------------------- */

/* Sets in @down the backends of @w, by id, that are. Returns if there are any. */
static bool down_note(const struct wanted *w, bool *down)
{
	const struct service_config *config = w->config;
	bool any = false;

	if (!w->ids || config->vip.protocol != SS_UDP || !config->flow_table)
		return false;
	for (unsigned i = 0; i < config->backends_count; i++)
		if (config->backends[i].state == SS_BACKEND_DOWN)
			down[w->ids[i]] = any = true;
	return any;
}

/*
 * UDP has no RST that would tell a client to begin anew, and no end of a connection to wait for: flows of a
 * backend that is down would be lost for as long as their clients go on. Those of one that drains stay.
 */
static int udp_flows_move(const struct apply *a)
{
	bool *down = calloc(SS_LB_IDS, sizeof(*down)), any = false;
	int err = 0;

	if (!down)
		return -ENOMEM;
	for (unsigned i = 0; i < a->count; i++)
		any |= down_note(&a->wanted[i], down);
	if (any)
		err = lb_flows_forget_udp(a->maps, down);
	free(down);
	return err;
}

/* --- removing -------------------------------------------------------------------------------- */

/* The endpoints of the services that stay, with port 0: the addresses that have a service. */
static struct ss_endpoint *addresses_list(const struct apply *a)
{
	struct ss_endpoint *address = calloc(a->count + 1, sizeof(*address));

	for (unsigned i = 0; address && i < a->count; i++)
		(void)any_port(&a->wanted[i].config->vip, &address[i]);
	return address;
}

/* From now on packets look for services again, whatever processors have seen. */
static int services_changed(const struct lb_maps *maps)
{
	uint32_t zero = 0, times = 0;

	if (bpf_map_lookup_elem(maps->services_changed, &zero, &times))
		return -errno;
	times++;
	return bpf_map_update_elem(maps->services_changed, &zero, &times, BPF_ANY) ? -errno : 0;
}

/*
 * Lets no packet find the services of @a that do not stay any more, nor one where it was before. What was
 * hidden until an error came counts, too: its index may be given to another service.
 */
static int services_hide(const struct apply *a)
{
	struct ss_endpoint *address = addresses_list(a), key;
	struct endpoint_map kept = {};
	int err = -ENOMEM, changed;

	if (address)
		err = endpoint_map_init(&kept, address, sizeof(*address), a->count);
	for (unsigned i = 0; !err && i < a->old.count; i++) {
		const struct ss_endpoint *vip = &a->old.item[i].vip;

		if (a->stays[i])
			continue;
		err = lb_reporters_remove(a->maps, &a->old.item[i], NULL);
		lb_quic_ids_remove(a->maps, &a->old.item[i], NULL);
		if (!err)
			err = lb_health_forget(a->maps, NULL, &a->old.item[i], NULL);
		(void)bpf_map_delete_elem(a->maps->services, vip);
		if (endpoint_map_find(&kept, any_port(vip, &key)) < 0)
			(void)bpf_map_delete_elem(a->maps->services, &key);
	}
	endpoint_map_done(&kept);
	free(address);
	changed = services_changed(a->maps);
	return err ? err : changed;
}

/* Tables that an empty one, @fd, takes the places of: the kernel knows no batch that deletes them. */
struct emptying {
	int map, fd;
	uint32_t index[SS_LB_TABLES];
	unsigned count;
};

static int share_empty(void *arg, unsigned first, unsigned n)
{
	const struct emptying *e = arg;
	int fd[INSTALL_SHARE];
	uint32_t done = n;

	for (unsigned i = 0; i < n; i++)
		fd[i] = e->fd;
	return bpf_map_update_batch(e->map, &e->index[first], fd, &done, NULL) ? -errno : 0;
}

/* Frees the tables that no packet finds any more: of services that are gone, or have the other size. */
static int tables_remove(const struct apply *a, bool large)
{
	struct emptying e = { .map = lb_tables(a->maps, large) };
	int err;

	for (unsigned i = 0; i < a->old.count; i++)
		if (!a->stays[i] && a->old.item[i].is_large == large)
			e.index[e.count++] = a->old.item[i].index;
	for (unsigned i = 0; i < a->count; i++)
		if (a->wanted[i].old && a->wanted[i].old->is_large == large &&
		    a->wanted[i].is_large != large)
			e.index[e.count++] = a->wanted[i].index;
	if (!e.count)
		return 0;
	e.fd = table_create(large);
	if (e.fd < 0)
		return e.fd;
	err = workers_run(e.count, INSTALL_SHARE, share_empty, &e);
	close(e.fd);
	return err;
}

/* --- all of it ------------------------------------------------------------------------------- */

/* Notes which indices and ids are in use: all that old tables have, until they are replaced. */
static void numbers_note(struct apply *a)
{
	for (unsigned i = 0; i < a->old.count; i++) {
		const struct lb_table *table = &a->old.item[i].table;

		a->index_used[a->old.item[i].index] = true;
		for (unsigned j = 0; j < table->head->backends; j++)
			backend_ids_use(&a->ids, table->backend[j].id);
	}
}

/* Finds for every service what the kernel has at its VIP. */
static int services_match(struct apply *a, const struct service_config *services)
{
	struct endpoint_map map = {};
	int err = 0;

	if (a->old.count)
		err = endpoint_map_init(&map, &a->old.item[0].vip, sizeof(a->old.item[0]),
					a->old.count);
	if (err)
		return err;
	for (unsigned i = 0; i < a->count; i++) {
		struct wanted *w = &a->wanted[i];
		long at = a->old.count ? endpoint_map_find(&map, &services[i].vip) : -1;

		w->config = &services[i];
		w->is_large = lb_table_is_large(w->config);
		w->fd = -1;
		if (at < 0)
			continue;
		w->old = &a->old.item[at];
		w->index = w->old->index;
		a->stays[at] = true;
	}
	endpoint_map_done(&map);
	return 0;
}

static void apply_done(struct apply *a)
{
	for (unsigned i = 0; a->wanted && i < a->count; i++) {
		if (a->wanted[i].ids && a->wanted[i].fd >= 0)
			close(a->wanted[i].fd);
		free(a->wanted[i].ids);
		free(a->wanted[i].added);
		free(a->wanted[i].stays);
	}
	free(a->wanted);
	backend_ids_done(&a->ids);
	lb_services_done(&a->old);
}

/* Returns how many services changed, or a negative errno. */
static int apply_run(struct apply *a, const struct service_config *services)
{
	int changed = 0, err;

	err = services_match(a, services);
	numbers_note(a);
	if (!err)
		err = workers_run(a->count, SHARE, share_compare, a);
	if (!err)
		err = numbers_take(a);
	if (!err)
		err = backend_ids_write(&a->ids, a->maps);
	if (!err)
		err = tables_replace(a);
	if (!err)
		err = udp_flows_move(a);
	if (!err)
		err = services_hide(a);
	if (!err)
		err = tables_remove(a, false);
	if (!err)
		err = tables_remove(a, true);
	for (unsigned i = 0; i < a->count; i++)
		changed += a->wanted[i].ids != NULL;
	for (unsigned i = 0; i < a->old.count; i++)
		changed += !a->stays[i];
	return err ? err : changed;
}

/* What went wrong in @a, which ended in @code: the name of the first service that it was with. */
static int apply_fail(const struct apply *a, int code, struct error *err)
{
	const char *text = code == -E2BIG ? "too many services or backends" : strerror(-code);

	for (unsigned i = 0; i < a->count; i++)
		if (a->wanted[i].err)
			return error_set(err, code, "service %s: cannot write its table: %s",
					 a->wanted[i].config->name, text);
	return error_set(err, code, "cannot write the services: %s", text);
}

int lb_services_apply(const struct lb_maps *maps, const struct service_config *services,
		      unsigned count, struct error *err)
{
	struct apply a = { .maps = maps, .count = count };
	int ret;

	a.wanted = calloc(count + 1, sizeof(*a.wanted));
	if (!a.wanted || backend_ids_init(&a.ids))
		ret = error_set(err, -ENOMEM, "out of memory");
	else
		ret = lb_services_read(maps, &a.old, err);
	if (!ret) {
		ret = apply_run(&a, services);
		if (ret < 0)
			ret = apply_fail(&a, ret, err);
	}
	apply_done(&a);
	return ret;
}
