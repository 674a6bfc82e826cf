// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "xdp.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <xdp/libxdp.h>

#include "balancer.skel.h"

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

/* Attaches @prog in the driver if it can, else generic. */
static int attach_best_mode(struct xdp_program *prog, int ifindex)
{
	int ret = xdp_program__attach(prog, ifindex, XDP_MODE_NATIVE, 0);

	if (ret == -EOPNOTSUPP)
		ret = xdp_program__attach(prog, ifindex, XDP_MODE_SKB, 0);
	return ret;
}

static int attach_object(const struct pins *pins, struct bpf_object *object, int ifindex,
			 const char *interface, struct error *err)
{
	DECLARE_LIBXDP_OPTS(xdp_program_opts, opts, .obj = object, .prog_name = "sidestep_lb");
	struct xdp_program *prog = xdp_program__create(&opts);
	char name[32];
	int ret;

	ret = libxdp_get_error(prog);
	if (ret)
		return error_set(err, ret, "cannot prepare the XDP program: %s", strerror(-ret));
	ret = attach_best_mode(prog, ifindex);
	if (ret == -EEXIST || ret == -EBUSY) {
		error_set(err, ret,
			  "%s has an XDP program already that does not share the interface "
			  "(not loaded through libxdp's dispatcher); see: ip link show %s",
			  interface, interface);
	} else if (ret) {
		error_set(err, ret, "cannot attach the XDP program to %s: %s (-v shows more)",
			  interface, strerror(-ret));
	} else {
		pin_name(name, ifindex);
		ret = pins_put(pins, name, xdp_program__fd(prog), err);
		if (ret)
			(void)xdp_program__detach(prog, ifindex, XDP_MODE_UNSPEC, 0);
	}
	xdp_program__close(prog);
	return ret;
}

/* Opens the program and attaches it. */
static int attach(const struct pins *pins, int ifindex, const char *interface, struct error *err)
{
	struct balancer_bpf *skel = balancer_bpf__open();
	int ret;

	if (!skel)
		return error_set(err, -errno, "cannot open the XDP program: %s", strerror(errno));
	ret = pins_use_for_maps(pins, skel->obj, err);
	if (!ret)
		ret = attach_object(pins, skel->obj, ifindex, interface, err);
	balancer_bpf__destroy(skel);
	return ret;
}

/*
 * Kernels from 6.12.6 on refuse a program that makes room in packets, as wrapping them does, in a
 * dispatcher that does not, as those of older libxdp (Debian 12): it has to have the interface for itself.
 */
static int attach_alone(const struct pins *pins, int ifindex, const char *interface,
			struct error *err)
{
	int ret;

	if (setenv(SKIP_DISPATCHER, "1", 1))
		return error_set(err, -ENOMEM, "out of memory");
	ret = attach(pins, ifindex, interface, err);
	(void)unsetenv(SKIP_DISPATCHER);
	return ret;
}

int xdp_attach(const struct pins *pins, int ifindex, const char *interface, struct error *err)
{
	enum xdp_attach_mode mode;
	char name[32];
	__u32 id;
	int ret;

	pin_name(name, ifindex);
	id = pinned_id(pins, name);
	if (is_attached(ifindex, id, &mode))
		return 0;
	dispatcher_forget(ifindex, id);
	pins_unlink(pins, name);
	ret = attach(pins, ifindex, interface, err);
	return ret == -EINVAL ? attach_alone(pins, ifindex, interface, err) : ret;
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
