// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "sockops.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "platform.h"
#include "program.h"

#define PIN_LINK "link_sockops"
#define PROGRAMS_MAX 64 /* as many as the kernel lets one cgroup have */
#define FOLDERS_OPEN 16

/* What is known of the pinned link; zeroes: there is none. */
static struct bpf_link_info link_info(const struct pins *pins)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	int fd = pins_get(pins, PIN_LINK);

	if (fd < 0)
		return info;
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		info = (struct bpf_link_info){};
	close(fd);
	return info;
}

__u64 sockops_cgroup(const struct pins *pins)
{
	return link_info(pins).cgroup.cgroup_id;
}

__u64 sockops_cgroup_id(const char *path)
{
	struct error ignored;
	struct stat st = {};
	int fd = platform_cgroup2_open(path, &ignored);

	if (fd < 0)
		return 0;
	if (fstat(fd, &st))
		st.st_ino = 0;
	close(fd);
	return st.st_ino; /* cgroup2 takes a cgroup's id for it */
}

/* The sockops programs attached to the cgroup @path itself: their ids, and how many. */
static __u32 programs_on(const char *path, __u32 ids[PROGRAMS_MAX], __u32 *flags)
{
	__u32 n = PROGRAMS_MAX;
	struct error ignored;
	int fd = platform_cgroup2_open(path, &ignored);

	*flags = 0;
	if (fd < 0)
		return 0;
	if (bpf_prog_query(fd, BPF_CGROUP_SOCK_OPS, 0, flags, ids, &n))
		n = 0;
	close(fd);
	return n;
}

/* Goes up to the folder above. False: that is the root. */
static bool path_up(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || slash == path)
		return false;
	*slash = 0;
	return true;
}

/* Who attached a program to @path, or above it, in such a way that no other one is let in there? */
static bool exclusive_find(const char *path, char at[PLATFORM_PATH_LEN], __u32 *id)
{
	__u32 ids[PROGRAMS_MAX], flags;

	snprintf(at, PLATFORM_PATH_LEN, "%s", path);
	do {
		if (programs_on(at, ids, &flags) && !(flags & BPF_F_ALLOW_MULTI)) {
			*id = ids[0];
			return true;
		}
	} while (path_up(at));
	return false;
}

static int attach_error(const char *path, int code, struct error *err)
{
	char at[PLATFORM_PATH_LEN], name[PROGRAM_NAME_LEN];
	__u32 id;

	if (code == -EPERM && exclusive_find(path, at, &id))
		return error_set(
			err, code,
			"cannot attach to the cgroup %s: the sockops program %s (id %u) on "
			"%s lets no other one in; have it attached with BPF_F_ALLOW_MULTI "
			"(bpftool: \"multi\"), or choose another cgroup",
			path, program_name(id, name), id, at);
	return error_set(err, code, "cannot attach to the cgroup %s: %s", path, strerror(-code));
}

int sockops_attach(const struct pins *pins, int prog_fd, const char *path, struct error *err)
{
	__u64 before = sockops_cgroup(pins);
	int cgroup_fd, link_fd, ret = 0;

	cgroup_fd = platform_cgroup2_open(path, err);
	if (cgroup_fd < 0)
		return cgroup_fd;
	link_fd = bpf_link_create(prog_fd, cgroup_fd, BPF_CGROUP_SOCK_OPS, NULL);
	close(cgroup_fd);
	if (link_fd < 0)
		return attach_error(path, -errno, err);
	if (!before || before != sockops_cgroup_id(path)) {
		pins_unlink(pins, PIN_LINK);
		ret = pins_put(pins, PIN_LINK, link_fd, err);
	}
	close(link_fd);
	return ret;
}

/* Without the pin alone the kernel would detach the program in its own time. */
void sockops_detach(const struct pins *pins)
{
	int fd = pins_get(pins, PIN_LINK);

	if (fd >= 0) {
		(void)bpf_link_detach(fd);
		close(fd);
	}
	pins_unlink(pins, PIN_LINK);
}

/* For nftw(), which takes no argument. */
static struct {
	__u32 ours;
	void (*fn)(const char *cgroup, __u32 id, void *arg);
	void *arg;
} others;

static void others_tell(const char *path)
{
	__u32 ids[PROGRAMS_MAX], flags, n = programs_on(path, ids, &flags);

	for (__u32 i = 0; i < n; i++)
		if (ids[i] != others.ours)
			others.fn(path, ids[i], others.arg);
}

static int others_visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	if (type == FTW_D)
		others_tell(path);
	return 0;
}

void sockops_each_other(const struct pins *pins, const char *path,
			void (*fn)(const char *cgroup, __u32 id, void *arg), void *arg)
{
	char above[PLATFORM_PATH_LEN];

	others.ours = link_info(pins).prog_id;
	others.fn = fn;
	others.arg = arg;
	snprintf(above, sizeof(above), "%s", path);
	while (path_up(above))
		others_tell(above);
	(void)nftw(path, others_visit, FOLDERS_OPEN, FTW_PHYS | FTW_MOUNT);
}
