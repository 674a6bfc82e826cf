// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "tc.h"

#include <errno.h>
#include <linux/pkt_sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "netlink.h"
#include "program.h"

/* linux/bpf.h of 6.6; Debian 12's headers are older. */
#define ATTACH_TCX_INGRESS ((enum bpf_attach_type)46)
#define ATTACH_TCX_EGRESS ((enum bpf_attach_type)47)
#define BEFORE_ALL_OTHERS (1U << 3) /* BPF_F_BEFORE, and no other program named */

#define AHEAD_MAX 64
#define CLSACT_PRIORITIES 16 /* tried, before the kernel is asked for one */

const char *tc_direction_name(enum tc_direction direction)
{
	return direction == TC_DIRECTION_INGRESS ? "ingress" : "egress";
}

int tc_attached_parse(const char *name, struct tc_attached *out)
{
	struct tc_attached a = {};
	char direction[16];

	if (sscanf(name, "tcx_%15[a-z]_%d", direction, &a.ifindex) == 2)
		a.tcx = true;
	else if (sscanf(name, "clsact_%15[a-z]_%d_%u_%u", direction, &a.ifindex, &a.handle,
			&a.priority) != 4)
		return -EINVAL;
	a.direction = strcmp(direction, "ingress") ? TC_DIRECTION_EGRESS : TC_DIRECTION_INGRESS;
	*out = a;
	return 0;
}

static enum bpf_attach_type tcx_type(enum tc_direction direction)
{
	return direction == TC_DIRECTION_INGRESS ? ATTACH_TCX_INGRESS : ATTACH_TCX_EGRESS;
}

static int tcx_attach(const struct pins *pins, int prog_fd, int ifindex,
		      enum tc_direction direction, struct error *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = BEFORE_ALL_OTHERS);
	char name[64];
	int fd, ret;

	fd = bpf_link_create(prog_fd, ifindex, tcx_type(direction), &opts);
	if (fd < 0)
		return -errno;
	snprintf(name, sizeof(name), "tcx_%s_%d", tc_direction_name(direction), ifindex);
	ret = pins_put(pins, name, fd, err);
	close(fd);
	return ret;
}

static void hook_init(struct bpf_tc_hook *hook, int ifindex, enum tc_direction direction)
{
	*hook = (struct bpf_tc_hook){
		.sz = sizeof(*hook),
		.ifindex = ifindex,
		.attach_point = direction == TC_DIRECTION_INGRESS ? BPF_TC_INGRESS : BPF_TC_EGRESS,
	};
}

static void qdisc_pin_name(char name[32], int ifindex)
{
	snprintf(name, 32, "qdisc_%d", ifindex);
}

/* Makes the qdisc of @hook, unless there is one; a pin of @prog_fd remembers that it is ours. */
static int qdisc_make(const struct pins *pins, struct bpf_tc_hook *hook, int prog_fd,
		      struct error *err)
{
	int ret = bpf_tc_hook_create(hook);
	char name[32];

	if (ret)
		return ret == -EEXIST ? 0 : ret;
	qdisc_pin_name(name, hook->ifindex);
	pins_unlink(pins, name); /* of one that somebody else has removed */
	return pins_put(pins, name, prog_fd, err);
}

/*
 * The filter with the lowest number runs first. One that somebody else has for another protocol, or
 * of another kind, cannot be shared.
 */
static int filter_add_first(struct bpf_tc_hook *hook, struct bpf_tc_opts *opts)
{
	int ret = -EINVAL;

	for (opts->priority = 1; ret == -EINVAL && opts->priority <= CLSACT_PRIORITIES;
	     opts->priority += ret != 0)
		ret = bpf_tc_attach(hook, opts);
	if (ret != -EINVAL)
		return ret;
	opts->priority = 0;
	return bpf_tc_attach(hook, opts);
}

static int clsact_attach(const struct pins *pins, int prog_fd, int ifindex,
			 enum tc_direction direction, struct error *err)
{
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = prog_fd);
	struct bpf_tc_hook hook;
	char name[64];
	int ret;

	hook_init(&hook, ifindex, direction);
	ret = qdisc_make(pins, &hook, prog_fd, err);
	if (!ret)
		ret = filter_add_first(&hook, &opts);
	if (ret)
		return ret;
	snprintf(name, sizeof(name), "clsact_%s_%d_%u_%u", tc_direction_name(direction), ifindex,
		 opts.handle, opts.priority);
	ret = pins_put(pins, name, prog_fd, err);
	if (ret) {
		opts.prog_fd = opts.prog_id = opts.flags = 0;
		(void)bpf_tc_detach(&hook, &opts);
	}
	return ret;
}

/* Is the filter @a there, with our program, the pin @name? Anybody can remove or replace one. */
static bool clsact_is_ours(const struct pins *pins, const char *name, const struct tc_attached *a)
{
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = a->handle, .priority = a->priority);
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	struct bpf_tc_hook hook;
	bool ours;
	int fd;

	hook_init(&hook, a->ifindex, a->direction);
	fd = pins_get(pins, name);
	if (fd < 0)
		return false;
	ours = !bpf_obj_get_info_by_fd(fd, &info, &len) && !bpf_tc_query(&hook, &opts) &&
	       opts.prog_id == info.id;
	close(fd);
	return ours;
}

/* A TCX link outlives its interface, as one of no interface. */
static bool tcx_is_ours(const struct pins *pins, const char *name, const struct tc_attached *a)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	int fd = pins_get(pins, name);

	if (fd < 0)
		return false;
	/* Debian 12's headers do not know tcx.ifindex; it stands where xdp.ifindex does */
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		info.xdp.ifindex = 0;
	close(fd);
	return info.xdp.ifindex == (__u32)a->ifindex;
}

bool tc_is_attached(const struct pins *pins, const char *name, const struct tc_attached *a)
{
	return a->tcx ? tcx_is_ours(pins, name, a) : clsact_is_ours(pins, name, a);
}

/* Who is ahead of ours: what is asked, and where the search is. */
struct ahead {
	void (*fn)(const char *program, __u32 id, void *arg);
	void *arg;
	const struct tc_attached *ours;
	struct netlink_filter last; /* one filter may be told as several parts */
};

/* The TCX programs in front of the one with the id @ours; all of them if it is 0. */
static void tcx_each_ahead(const struct tc_attached *a, __u32 ours, const struct ahead *ahead)
{
	__u32 ids[AHEAD_MAX], n = AHEAD_MAX;
	char name[PROGRAM_NAME_LEN];

	if (bpf_prog_query(a->ifindex, tcx_type(a->direction), 0, NULL, ids, &n))
		return; /* a kernel without TCX */
	for (__u32 i = 0; i < n && ids[i] != ours; i++)
		ahead->fn(program_name(ids[i], name), ids[i], ahead->arg);
}

static int filter_ahead(const struct netlink_filter *filter, void *arg)
{
	struct ahead *ahead = arg;

	if (filter->priority == ahead->ours->priority && filter->handle == ahead->ours->handle)
		return 1;
	if (filter->priority != ahead->last.priority || strcmp(filter->name, ahead->last.name))
		ahead->fn(filter->name, 0, ahead->arg);
	ahead->last = *filter;
	return 0;
}

static __u32 clsact_parent(enum tc_direction direction)
{
	return TC_H_MAKE(TC_H_CLSACT,
			 direction == TC_DIRECTION_INGRESS ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
}

void tc_each_ahead(const struct pins *pins, const char *name, const struct tc_attached *a,
		   void (*fn)(const char *program, __u32 id, void *arg), void *arg)
{
	struct ahead ahead = { .fn = fn, .arg = arg, .ours = a };
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	int fd;

	if (!a->tcx) {
		tcx_each_ahead(a, 0, &ahead);
		(void)netlink_filters(a->ifindex, clsact_parent(a->direction), filter_ahead,
				      &ahead);
		return;
	}
	fd = pins_get(pins, name);
	if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len))
		tcx_each_ahead(a, info.prog_id, &ahead);
	if (fd >= 0)
		close(fd);
}

/* Removes the filter @a, if the program there is still ours. */
static void clsact_detach(const struct pins *pins, const char *name, const struct tc_attached *a)
{
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = a->handle, .priority = a->priority);
	struct bpf_tc_hook hook;

	hook_init(&hook, a->ifindex, a->direction);
	if (clsact_is_ours(pins, name, a))
		(void)bpf_tc_detach(&hook, &opts);
}

static void detach(const struct pins *pins, const char *name, const struct tc_attached *a)
{
	if (!a->tcx)
		clsact_detach(pins, name, a);
	pins_unlink(pins, name);
}

struct attached_query {
	int ifindex;
	enum tc_direction direction;
	struct tc_attached found;
	char name[64]; /* of its pin */
};

static int is_attached(const struct pins *pins, const char *name, void *arg)
{
	struct attached_query *query = arg;
	struct tc_attached a;

	if (tc_attached_parse(name, &a) || a.ifindex != query->ifindex ||
	    a.direction != query->direction)
		return 0;
	if (!tc_is_attached(pins, name, &a)) {
		pins_unlink(pins, name);
		return 0;
	}
	query->found = a;
	snprintf(query->name, sizeof(query->name), "%s", name);
	return 1;
}

int tc_attach(const struct pins *pins, int prog_fd, int ifindex, const char *interface,
	      enum tc_direction direction, enum tc_attach how, struct error *err)
{
	struct attached_query old = { .ifindex = ifindex, .direction = direction };
	bool attached = pins_each(pins, "", is_attached, &old);
	int ret = -EINVAL;

	if (attached && (how == TC_ATTACH_AUTO || (how == TC_ATTACH_TCX) == old.found.tcx))
		return 0;
	error_set(err, 0, "%s", "");
	if (how != TC_ATTACH_CLSACT)
		ret = tcx_attach(pins, prog_fd, ifindex, direction, err);
	/* -EINVAL: a kernel before 6.6 does not know the attach type */
	if (how == TC_ATTACH_CLSACT || (how == TC_ATTACH_AUTO && ret == -EINVAL))
		ret = clsact_attach(pins, prog_fd, ifindex, direction, err);
	if (ret && (!err || !err->text[0]))
		error_set(err, ret, "cannot attach the %s program to %s: %s%s",
			  tc_direction_name(direction), interface, strerror(-ret),
			  how == TC_ATTACH_TCX && ret == -EINVAL
				  ? " (TCX needs kernel 6.6; use attach: auto)"
				  : "");
	if (!ret && attached) /* the other way; what one has rewritten, the other leaves */
		detach(pins, old.name, &old.found);
	return ret;
}

static int detach_unless_kept(const struct pins *pins, const char *name, void *arg)
{
	const struct pins_keep *keep = arg;
	struct tc_attached a;

	if (tc_attached_parse(name, &a))
		return 0;
	if (pins_is_kept(keep, a.ifindex))
		return 0;
	detach(pins, name, &a);
	return 0;
}

static int filter_found(const struct netlink_filter *filter, void *arg)
{
	(void)filter;
	(void)arg;
	return 1;
}

/* Removes a qdisc of ours, unless somebody else uses it by now. */
static void qdisc_remove(int ifindex)
{
	struct bpf_tc_hook hook = {
		.sz = sizeof(hook),
		.ifindex = ifindex,
		.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS,
	};

	if (!netlink_filters(ifindex, clsact_parent(TC_DIRECTION_INGRESS), filter_found, NULL) &&
	    !netlink_filters(ifindex, clsact_parent(TC_DIRECTION_EGRESS), filter_found, NULL))
		(void)bpf_tc_hook_destroy(&hook);
}

static int qdisc_remove_unless_kept(const struct pins *pins, const char *name, void *arg)
{
	const struct pins_keep *keep = arg;
	int ifindex;

	if (sscanf(name, "qdisc_%d", &ifindex) != 1 || pins_is_kept(keep, ifindex))
		return 0;
	qdisc_remove(ifindex);
	pins_unlink(pins, name);
	return 0;
}

void tc_detach_others(const struct pins *pins, const int *keep, unsigned n)
{
	struct pins_keep arg = { keep, n };

	pins_each(pins, "", detach_unless_kept, &arg);
	pins_each(pins, "qdisc_", qdisc_remove_unless_kept, &arg);
}
