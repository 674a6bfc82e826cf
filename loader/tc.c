// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "tc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/* linux/bpf.h of 6.6; Debian 12's headers are older. */
#define ATTACH_TCX_INGRESS ((enum bpf_attach_type)46)
#define ATTACH_TCX_EGRESS ((enum bpf_attach_type)47)

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

static int tcx_attach(const struct pins *pins, int prog_fd, int ifindex,
		      enum tc_direction direction, struct error *err)
{
	enum bpf_attach_type type =
		direction == TC_DIRECTION_INGRESS ? ATTACH_TCX_INGRESS : ATTACH_TCX_EGRESS;
	char name[64];
	int fd, ret;

	fd = bpf_link_create(prog_fd, ifindex, type, NULL);
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

static int clsact_attach(const struct pins *pins, int prog_fd, int ifindex,
			 enum tc_direction direction, struct error *err)
{
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = prog_fd);
	struct bpf_tc_hook hook;
	char name[64];
	int ret;

	hook_init(&hook, ifindex, direction);
	ret = bpf_tc_hook_create(&hook);
	if (ret && ret != -EEXIST)
		return ret;
	ret = bpf_tc_attach(&hook, &opts);
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

void tc_detach_others(const struct pins *pins, const int *keep, unsigned n)
{
	struct pins_keep arg = { keep, n };

	pins_each(pins, "", detach_unless_kept, &arg);
}
