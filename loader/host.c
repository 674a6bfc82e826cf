// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "adopt.h"
#include "host.skel.h"
#include "host_rules.h"
#include "interfaces.h"
#include "map_sync.h"
#include "platform.h"
#include "sockops.h"
#include "tc.h"

/* Pins beside those of the maps, which are named like the maps. */
#define PIN_INGRESS "prog_ingress"
#define PIN_EGRESS "prog_egress"
#define PIN_SOCKOPS "prog_sockops"
#define PIN_CONNECTIONS "prog_connections"

static int programs_load(const struct pins *pins, struct error *err)
{
	struct host_bpf *skel = host_bpf__open();
	int ret;

	if (!skel)
		return error_set(err, -errno, "cannot open the host programs: %s", strerror(errno));
	if (getrandom(&skel->rodata->judge_key, sizeof(skel->rodata->judge_key), 0) !=
	    sizeof(skel->rodata->judge_key)) {
		ret = error_set(err, -errno, "cannot make a key: %s", strerror(errno));
		host_bpf__destroy(skel);
		return ret;
	}
	ret = pins_use_for_maps(pins, skel->obj, err);
	if (!ret && host_bpf__load(skel))
		ret = error_set(err, -errno,
				"the kernel refuses the host programs: %s (-v shows more)",
				strerror(errno));
	if (!ret)
		ret = pins_put(pins, PIN_INGRESS, bpf_program__fd(skel->progs.sidestep_ingress),
			       err);
	if (!ret)
		ret = pins_put(pins, PIN_EGRESS, bpf_program__fd(skel->progs.sidestep_egress), err);
	if (!ret)
		ret = pins_put(pins, PIN_SOCKOPS, bpf_program__fd(skel->progs.sidestep_sockops),
			       err);
	if (!ret)
		ret = pins_put(pins, PIN_CONNECTIONS,
			       bpf_program__fd(skel->progs.sidestep_connections), err);
	host_bpf__destroy(skel);
	return ret;
}

/* The pinned program @name on @interface. */
static int interface_attach(const struct pins *pins, const char *name, int ifindex,
			    const char *interface, enum tc_direction direction, enum tc_attach how,
			    struct error *err)
{
	int fd = pins_get(pins, name), ret;

	if (fd < 0)
		return error_set(err, fd, "cannot open %s/%s: %s", pins->dir, name, strerror(-fd));
	ret = tc_attach(pins, fd, ifindex, interface, direction, how, err);
	close(fd);
	return ret;
}

static int interfaces_attach(const struct pins *pins, const struct host_config *config,
			     const int *ifindex, struct error *err)
{
	for (unsigned i = 0; i < config->interfaces_count; i++) {
		const char *interface = config->interfaces[i];
		int ret;

		ret = interface_attach(pins, PIN_EGRESS, ifindex[i], interface, TC_DIRECTION_EGRESS,
				       config->attach, err);
		if (!ret)
			ret = interface_attach(pins, PIN_INGRESS, ifindex[i], interface,
					       TC_DIRECTION_INGRESS, config->attach, err);
		if (ret)
			return ret;
	}
	return 0;
}

/* The cgroup to attach to: @override, else the configuration's, else the root. It is there. */
static int cgroup_find(const struct host_config *config, const char *override,
		       char path[PLATFORM_PATH_LEN], struct error *err)
{
	const char *cgroup = override ? override : config->cgroup;
	int fd, ret = 0;

	if (cgroup)
		snprintf(path, PLATFORM_PATH_LEN, "%s", cgroup);
	else
		ret = platform_cgroup2_root(path, err);
	if (ret)
		return ret;
	fd = platform_cgroup2_open(path, err);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* Egress and ingress first, sockops last: nothing is asked for or granted that cannot be kept. */
static int programs_attach(const struct pins *pins, const struct host_config *config,
			   const char *cgroup, const int *ifindex, struct error *err)
{
	int ret = interfaces_attach(pins, config, ifindex, err), fd;

	if (ret)
		return ret;
	fd = pins_get(pins, PIN_SOCKOPS);
	if (fd < 0)
		return error_set(err, fd, "cannot open %s/" PIN_SOCKOPS ": %s", pins->dir,
				 strerror(-fd));
	ret = sockops_attach(pins, fd, cgroup, err);
	close(fd);
	return ret;
}

/* The programs stay on the interfaces that the rules name, and on no others. */
static void programs_detach_others(const struct pins *pins)
{
	unsigned n;
	int *ifindex = interfaces_indices(pins, &n);

	if (ifindex)
		tc_detach_others(pins, ifindex, n);
	free(ifindex);
}

/* All that @config says; or all stays as it was, and the programs where they were. */
static int host_apply(const struct pins *pins, const struct host_config *config, const char *cgroup,
		      const int *ifindex, struct error *err)
{
	struct host_rules rules = {};
	int ret;

	ret = host_rules_write(&rules, pins, config, cgroup, ifindex, err);
	if (!ret) {
		ret = programs_attach(pins, config, cgroup, ifindex, err);
		if (ret)
			host_rules_undo(&rules);
		programs_detach_others(pins);
	}
	host_rules_done(&rules);
	return ret;
}

static void host_remove(const struct pins *pins)
{
	sockops_detach(pins);
	tc_detach_others(pins, NULL, 0);
	pins_remove(pins);
}

/* Loads what is not there yet, and applies @config. */
static int host_start(const struct pins *pins, enum pins_state state,
		      const struct host_config *config, const char *cgroup, const int *ifindex,
		      struct error *err)
{
	int ret = 0;

	if (state == PINS_BROKEN)
		host_remove(pins);
	if (state != PINS_OURS)
		ret = pins_mkdir(pins, err);
	if (!ret && state != PINS_OURS)
		ret = programs_load(pins, err);
	if (!ret && state != PINS_OURS)
		ret = pins_claim(pins, err);
	if (!ret)
		ret = host_apply(pins, config, cgroup, ifindex, err);
	if (!ret && state != PINS_OURS)
		ret = pins_commit(pins, err);
	if (ret && state != PINS_OURS)
		host_remove(pins);
	return ret;
}

int host_up(const struct pins *pins, const struct host_config *config, const char *cgroup,
	    struct error *err)
{
	enum pins_state state = pins_state(pins, err);
	char cgroup_path[PLATFORM_PATH_LEN];
	int *ifindex, ret;

	if (state == PINS_OTHER || state == PINS_ELSEWHERE)
		return -EEXIST;
	ret = cgroup_find(config, cgroup, cgroup_path, err);
	if (ret)
		return ret;
	ret = platform_interfaces(config->interfaces, config->interfaces_count, &ifindex, err);
	if (ret)
		return ret;
	ret = host_start(pins, state, config, cgroup_path, ifindex, err);
	free(ifindex);
	if (!ret) /* what fails there costs a redirection, no connection: host_old_listeners() tells */
		(void)adopt_listeners(pins, sockops_cgroup(pins), ADOPT_WHAT_CAN_BE, NULL, NULL,
				      NULL);
	return ret;
}

int host_old_listeners(const struct pins *pins,
		       void (*fn)(const struct ss_endpoint *local, void *arg), void *arg,
		       struct error *err)
{
	return adopt_listeners(pins, sockops_cgroup(pins), ADOPT_NOTHING, fn, arg, err);
}

/* Connections whose packets the programs rewrite, on their way out or in. */
static void count_rewritten(const struct ss_conn_record *record, void *arg)
{
	if ((record->conn.rewrite || record->conn.strict) && record->conn.role != SS_ROLE_LISTENER)
		++*(unsigned *)arg;
}

int host_down(const struct pins *pins, bool force, struct error *err)
{
	enum pins_state state = pins_state(pins, err);
	unsigned live = 0;

	if (state == PINS_NONE)
		return 0;
	if (state == PINS_ELSEWHERE && !force)
		return -EEXIST;
	/* Nothing is asked for or granted any more. What lives needs all programs, to its end. */
	host_rules_clear(pins);
	if (!force && state != PINS_BROKEN &&
	    !host_connections(pins, count_rewritten, &live, NULL) && live)
		return error_set(
			err, -EBUSY,
			"%u redirected connection%s still need%s the programs; no new ones "
			"are redirected now. Try again later, or break them with --force",
			live, live == 1 ? "" : "s", live == 1 ? "s" : "");
	host_remove(pins);
	return 0;
}

int host_counters(const struct pins *pins, __u64 out[SS_HOST_COUNTER_MAX], struct error *err)
{
	int fd = pins_get(pins, "counters"), ret;

	ret = fd < 0 ? fd : map_counters_read(fd, out, SS_HOST_COUNTER_MAX);
	if (fd >= 0)
		close(fd);
	if (ret)
		return error_set(err, ret, "cannot read %s/counters: %s", pins->dir,
				 strerror(-ret));
	return 0;
}

/* An iterator over the sockets of the map @map_fd: a file that reads as the program @prog_fd says. */
static int iterator_open(int prog_fd, int map_fd)
{
	union bpf_iter_link_info info = { .map.map_fd = map_fd };
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof(info));
	int link_fd, fd;

	link_fd = bpf_link_create(prog_fd, 0, BPF_TRACE_ITER, &opts);
	if (link_fd < 0)
		return -errno;
	fd = bpf_iter_create(link_fd);
	if (fd < 0)
		fd = -errno;
	close(link_fd);
	return fd;
}

int host_connections(const struct pins *pins,
		     void (*fn)(const struct ss_conn_record *record, void *arg), void *arg,
		     struct error *err)
{
	int prog_fd = pins_get(pins, PIN_CONNECTIONS), map_fd = pins_get(pins, "conns");
	struct ss_conn_record record;
	int fd = -ENOENT;
	FILE *file = NULL;

	if (prog_fd >= 0 && map_fd >= 0)
		fd = iterator_open(prog_fd, map_fd);
	if (fd >= 0)
		file = fdopen(fd, "r");
	while (file && fread(&record, sizeof(record), 1, file) == 1)
		fn(&record, arg);
	if (file)
		fclose(file);
	if (prog_fd >= 0)
		close(prog_fd);
	if (map_fd >= 0)
		close(map_fd);
	return file ? 0 : error_set(err, fd, "cannot read the connections: %s", strerror(-fd));
}

/* Calls @fn for each port of @serve, as if there were no other. */
static void ports_each(const struct ss_endpoint *vip, const struct ss_serve *serve,
		       void (*fn)(const struct ss_endpoint *vip, const struct ss_serve *serve,
				  void *arg),
		       void *arg)
{
	fn(vip, serve, arg);
	for (unsigned i = 0; i < SS_SERVE_ALSO; i++) {
		struct ss_serve other = *serve;

		other.listen = serve->also[i];
		if (other.listen)
			fn(vip, &other, arg);
	}
}

void host_services(const struct pins *pins,
		   void (*fn)(const struct ss_endpoint *vip, const struct ss_serve *serve,
			      void *arg),
		   void *arg)
{
	struct ss_endpoint key, *prev = NULL;
	struct ss_serve value;
	int fd = pins_get(pins, "serve");

	if (fd < 0)
		return;
	for (; !bpf_map_get_next_key(fd, prev, &key); prev = &key)
		if (!bpf_map_lookup_elem(fd, &key, &value))
			ports_each(&key, &value, fn, arg);
	close(fd);
}

void host_open(const struct pins *pins,
	       void (*fn)(const struct ss_served_at *at, const struct ss_open *open, void *arg),
	       void *arg)
{
	int fd = pins_get(pins, "open_conns"), cpus = libbpf_num_possible_cpus();
	struct ss_open *each = calloc(cpus, sizeof(*each));
	struct ss_served_at key, *prev = NULL;

	for (; each && fd >= 0 && !bpf_map_get_next_key(fd, prev, &key); prev = &key) {
		struct ss_open sum = {};

		if (bpf_map_lookup_elem(fd, &key, each))
			continue;
		for (int i = 0; i < cpus; i++) {
			sum.open += each[i].open;
			sum.accepted += each[i].accepted;
		}
		fn(&key, &sum, arg);
	}
	free(each);
	if (fd >= 0)
		close(fd);
}

/* As the programs count time, in ns. */
static __u64 monotonic_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

void host_remembered(const struct pins *pins, const char *name,
		     void (*fn)(const void *key, unsigned seconds, void *arg), void *arg)
{
	struct ss_endpoint key, *prev = NULL; /* or a struct ss_addr, which is shorter */
	__u64 until, now = monotonic_now();
	int fd = pins_get(pins, name);

	if (fd < 0)
		return;
	for (; !bpf_map_get_next_key(fd, prev, &key); prev = &key)
		if (!bpf_map_lookup_elem(fd, &key, &until) && until > now)
			fn(&key, (until - now) / 1000000000 + 1, arg);
	close(fd);
}

unsigned host_strict_flows(const struct pins *pins)
{
	struct ss_flow key, *prev = NULL;
	int fd = pins_get(pins, "strict_flows");
	unsigned n = 0;

	if (fd < 0)
		return 0;
	for (; !bpf_map_get_next_key(fd, prev, &key); prev = &key)
		n++;
	close(fd);
	return n;
}

void host_prefixes(const struct pins *pins, const char *name,
		   void (*fn)(const struct ss_prefix *prefix, void *arg), void *arg)
{
	struct ss_prefix key, *prev = NULL;
	int fd = pins_get(pins, name);

	if (fd < 0)
		return;
	for (; !bpf_map_get_next_key(fd, prev, &key); prev = &key)
		fn(&key, arg);
	close(fd);
}
