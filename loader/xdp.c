// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "xdp.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/ethtool.h>

#include <bpf/bpf.h>
#include <xdp/libxdp.h>

#include "balancer.skel.h"
#include "platform.h"

#define SKIP_DISPATCHER "LIBXDP_SKIP_DISPATCHER" /* libxdp(3) */

int xdp_attached_ifindex(const char *name)
{
	int ifindex;

	return sscanf(name, "xdp_%d", &ifindex) == 1 ? ifindex : 0;
}

static void pin_name(char name[32], int ifindex)
{
	snprintf(name, 32, "xdp_%d", ifindex);
}

/* The kernel's id of the program @fd, which is closed; 0 if it is none. */
static __u32 program_id(int fd)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	if (fd < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		info.id = 0;
	close(fd);
	return info.id;
}

static __u32 pinned_id(const struct pins *pins, const char *name)
{
	return program_id(pins_get(pins, name));
}

/* Is the program @id on @ifindex? Then *@mode is how. */
static bool is_attached(int ifindex, __u32 id, enum xdp_attach_mode *mode)
{
	struct xdp_program *prog = NULL;
	struct xdp_multiprog *all;
	bool found = false;

	if (!id)
		return false;
	all = xdp_multiprog__get_from_ifindex(ifindex);
	if (libxdp_get_error(all))
		return false;
	if (xdp_multiprog__is_legacy(all)) {
		prog = xdp_multiprog__main_prog(all);
		found = prog && xdp_program__id(prog) == id;
	} else {
		while (!found && (prog = xdp_multiprog__next_prog(prog, all)))
			found = xdp_program__id(prog) == id;
	}
	*mode = xdp_multiprog__attach_mode(all);
	xdp_multiprog__close(all);
	return found;
}

const char *xdp_attached_mode(const struct pins *pins, const char *name)
{
	enum xdp_attach_mode mode;

	if (!is_attached(xdp_attached_ifindex(name), pinned_id(pins, name), &mode))
		return NULL;
	return mode == XDP_MODE_SKB ? "generic" : "native";
}

/* Removes the libxdp pin @path, its link's pin, and the dispatcher's folder if that is all. */
static void dispatcher_pin_remove(char *path)
{
	char link[PINS_PATH_LEN];
	char *dash = strrchr(path, '-');

	snprintf(link, sizeof(link), "%.*s-link", (int)(dash - path), path);
	(void)unlink(link);
	(void)unlink(path);
	*strrchr(path, '/') = 0;
	(void)rmdir(path);
}

/*
 * libxdp pins what a dispatcher runs. Where the interface is gone, or someone took the dispatcher
 * off, these pins would keep our program @id and its maps in the kernel. Others' pins stay:
 * libxdp_clean_references() would take those of other network namespaces.
 */
static void dispatcher_forget(int ifindex, __u32 id)
{
	const char *bpffs = secure_getenv(XDP_BPFFS_ENVVAR);
	char pattern[PINS_PATH_LEN];
	glob_t found;

	snprintf(pattern, sizeof(pattern), "%s/xdp/dispatch-%d-*/prog*-prog",
		 bpffs ? bpffs : "/sys/fs/bpf", ifindex);
	if (!id || glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (program_id(bpf_obj_get(found.gl_pathv[i])) == id)
			dispatcher_pin_remove(found.gl_pathv[i]);
	globfree(&found);
}

/* What is to be attached where, and what the kernel said of it. */
struct attaching {
	const struct pins *pins;
	const char *interface;
	int ifindex;
	enum xdp_attach_mode mode;
};

static char kernel_said[128]; /* about the last attachment; libbpf tells it only by its log */
static libbpf_print_fn_t print_before;

static int print_keep(enum libbpf_print_level level, const char *format, va_list args)
{
	static const char begin[] = "Kernel error message: ";
	char line[256], *text;
	va_list copy;

	va_copy(copy, args);
	vsnprintf(line, sizeof(line), format, copy);
	va_end(copy);
	text = strstr(line, begin);
	if (text) {
		text[strcspn(text, "\n")] = 0;
		snprintf(kernel_said, sizeof(kernel_said), "%.120s", text + strlen(begin));
	}
	return print_before ? print_before(level, format, args) : 0;
}

static int attach_keep_words(struct xdp_program *prog, const struct attaching *a)
{
	int ret;

	kernel_said[0] = 0;
	print_before = libbpf_set_print(print_keep);
	ret = xdp_program__attach(prog, a->ifindex, a->mode, 0);
	(void)libbpf_set_print(print_before);
	return ret;
}

/* Why the driver of @a refuses the program with @code, and the way out. */
static void refusal_words(const struct attaching *a, int code, struct error *out)
{
	const char *hint = "its driver or its settings (features, queues, MTU) do not allow it";
	char command[128] = "";

	if (code == -ERANGE || strcasestr(kernel_said, "MTU")) {
		hint = "the MTU is too large for XDP, its own or that of its veth peer";
		snprintf(command, sizeof(command), "; lower it, as by: ip link set %s mtu 1500",
			 a->interface);
	} else if (code == -ENOSPC || strcasestr(kernel_said, "queue")) {
		hint = "there are too few queues for XDP";
		snprintf(command, sizeof(command), "; see: ethtool -l %s", a->interface);
	} else if (code == -EOPNOTSUPP) {
		hint = "its driver has no native XDP";
	}
	(void)error_set(out, code, "%s: %s (%s)%s", a->interface, hint,
			*kernel_said ? kernel_said : strerror(-code), command);
}

static int attach_object(const struct attaching *a, struct bpf_object *object, struct error *err)
{
	DECLARE_LIBXDP_OPTS(xdp_program_opts, opts, .obj = object, .prog_name = "sidestep_lb");
	struct xdp_program *prog = xdp_program__create(&opts);
	char name[32];
	int ret;

	ret = libxdp_get_error(prog);
	if (ret)
		return error_set(err, ret, "cannot prepare the XDP program: %s", strerror(-ret));
	ret = attach_keep_words(prog, a);
	if (ret == -EEXIST || ret == -EBUSY) {
		error_set(err, ret,
			  "%s has an XDP program already that does not share the interface "
			  "(not loaded through libxdp's dispatcher); see: ip link show %s",
			  a->interface, a->interface);
	} else if (ret && a->mode == XDP_MODE_NATIVE) {
		refusal_words(a, ret, err);
	} else if (ret) {
		error_set(err, ret, "cannot attach the XDP program to %s: %s (-v shows more)",
			  a->interface, *kernel_said ? kernel_said : strerror(-ret));
	} else {
		pin_name(name, a->ifindex);
		ret = pins_put(a->pins, name, xdp_program__fd(prog), err);
		if (ret)
			(void)xdp_program__detach(prog, a->ifindex, XDP_MODE_UNSPEC, 0);
	}
	xdp_program__close(prog);
	return ret;
}

/* Opens the program and attaches it. */
static int attach(const struct attaching *a, struct error *err)
{
	struct balancer_bpf *skel = balancer_bpf__open();
	int ret;

	if (!skel)
		return error_set(err, -errno, "cannot open the XDP program: %s", strerror(errno));
	ret = pins_use_for_maps(a->pins, skel->obj, err);
	if (!ret)
		ret = attach_object(a, skel->obj, err);
	balancer_bpf__destroy(skel);
	return ret;
}

/*
 * Kernels from 6.12.6 on refuse a program that makes room in packets, as wrapping them does, in a
 * dispatcher that does not, as those of older libxdp (Debian 12): it has to have the interface for itself.
 */
static int attach_alone(const struct attaching *a, struct error *err)
{
	int ret;

	if (setenv(SKIP_DISPATCHER, "1", 1))
		return error_set(err, -ENOMEM, "out of memory");
	ret = attach(a, err);
	(void)unsetenv(SKIP_DISPATCHER);
	return ret;
}

static void detach(const struct pins *pins, const char *name)
{
	__u32 id = pinned_id(pins, name);
	int ifindex = xdp_attached_ifindex(name);
	enum xdp_attach_mode mode;
	struct xdp_program *prog;

	if (!is_attached(ifindex, id, &mode)) {
		dispatcher_forget(ifindex, id);
		return;
	}
	prog = xdp_program__from_id(id);
	if (libxdp_get_error(prog))
		return;
	(void)xdp_program__detach(prog, ifindex, mode, 0);
	xdp_program__close(prog);
}

static int attach_by_mode(struct attaching *a, enum xdp_attach_mode mode, struct error *err)
{
	int ret;

	a->mode = mode;
	ret = attach(a, err);
	return ret == -EINVAL ? attach_alone(a, err) : ret;
}

/*
 * Generic mode sees what the interface has joined already (GRO, LRO): packets that are larger than the
 * MTU, which cannot be wrapped or translated one by one. So it must not join any.
 */
static int joining_check(const char *interface, struct error *err)
{
	struct ethtool_value gro = { .cmd = ETHTOOL_GGRO }, flags = { .cmd = ETHTOOL_GFLAGS };
	bool joins = !platform_ethtool(interface, &gro) && gro.data;

	if (!platform_ethtool(interface, &flags) && (flags.data & ETH_FLAG_LRO))
		joins = true;
	return joins ? error_set(err, -EINVAL,
				 "%s joins packets, and XDP in generic mode cannot forward those; "
				 "do: ethtool -K %s gro off lro off",
				 interface, interface)
		     : 0;
}

static int attach_generic(struct attaching *a, struct error *err)
{
	int ret = joining_check(a->interface, err);

	return ret ? ret : attach_by_mode(a, XDP_MODE_SKB, err);
}

/* In the driver if it can, else generic. A program that the kernel does not load is none for either. */
static int attach_best(struct attaching *a, struct error *notice, struct error *err)
{
	struct error generic;
	int ret = attach_by_mode(a, XDP_MODE_NATIVE, err);

	if (!ret || ret == -EEXIST || ret == -EBUSY || ret == -ENOMEM || ret == -EPERM)
		return ret;
	if (attach_generic(a, &generic)) {
		*notice = *err;
		return error_set(err, ret, "%.300s; generic mode: %.180s", notice->text,
				 generic.text);
	}
	(void)error_set(notice, 0,
			"%.320s. XDP runs in generic mode, which is slower, and wants finished "
			"checksums (see: xdp_mode)",
			err->text);
	return 0;
}

int xdp_attach(const struct pins *pins, int ifindex, const char *interface, enum xdp_mode mode,
	       struct error *notice, struct error *err)
{
	struct attaching a = { pins, interface, ifindex, XDP_MODE_UNSPEC };
	enum xdp_attach_mode now;
	char name[32];
	__u32 id;

	notice->text[0] = 0;
	pin_name(name, ifindex);
	id = pinned_id(pins, name);
	if (is_attached(ifindex, id, &now)) {
		if (mode == XDP_AUTO || (mode == XDP_GENERIC) == (now == XDP_MODE_SKB))
			return 0;
		detach(pins, name);
	}
	dispatcher_forget(ifindex, id);
	pins_unlink(pins, name);
	if (mode == XDP_AUTO)
		return attach_best(&a, notice, err);
	return mode == XDP_GENERIC ? attach_generic(&a, err)
				   : attach_by_mode(&a, XDP_MODE_NATIVE, err);
}

static int detach_unless_kept(const struct pins *pins, const char *name, void *arg)
{
	const struct pins_keep *keep = arg;
	int ifindex = xdp_attached_ifindex(name);

	if (!ifindex)
		return 0;
	if (pins_is_kept(keep, ifindex))
		return 0;
	detach(pins, name);
	pins_unlink(pins, name);
	return 0;
}

void xdp_detach_others(const struct pins *pins, const int *keep, unsigned n)
{
	struct pins_keep arg = { keep, n };

	pins_each(pins, "xdp_", detach_unless_kept, &arg);
}
