// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "pins.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include <sidestep/host.h>

#include "platform.h"

static int pin_path(const struct pins *pins, const char *name, char path[PINS_PATH_LEN])
{
	int n = snprintf(path, PINS_PATH_LEN, "%s/%s", pins->dir, name);

	return n < PINS_PATH_LEN ? 0 : -ENAMETOOLONG;
}

int pins_init(struct pins *pins, const char *pin_dir, const char *component, const char *version,
	      struct error *err)
{
	int n = snprintf(pins->dir, sizeof(pins->dir), "%s/%s", pin_dir, component);

	/* room for the longest pin's name */
	if (n + 64 >= (int)sizeof(pins->dir))
		return error_set(err, -ENAMETOOLONG, "the pin folder's name is too long: %s",
				 pin_dir);
	pins->component = component;
	pins->version = version;
	return platform_netns_cookie(&pins->netns_cookie, err);
}

/* @shared: others may have folders of their own in @path, but not take away ours (the sticky bit). */
static int folder_check(const char *path, bool shared, struct error *err)
{
	struct stat st;

	if (lstat(path, &st))
		return 0;
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ENOTDIR, "%s is not a folder; remove it", path);
	if (st.st_uid != geteuid() || (st.st_mode & 022 && !(shared && st.st_mode & S_ISVTX)))
		return error_set(err, -EPERM,
				 "others than root can write in the pin folder %s (owner %u, mode "
				 "%04o); remove it, after a look at who made it",
				 path, st.st_uid, st.st_mode & 07777);
	return 0;
}

/* Goes up to the folder above; false: @path is where the bpf file system is mounted. */
static bool folder_up(char *path)
{
	struct stat inner, outer;
	bool known = !stat(path, &inner);
	char *slash = strrchr(path, '/');

	if (!slash || slash == path)
		return false;
	*slash = 0;
	return !known || (!stat(path, &outer) && inner.st_dev == outer.st_dev);
}

int pins_check(const struct pins *pins, struct error *err)
{
	char path[PINS_PATH_LEN];
	int ret;

	snprintf(path, sizeof(path), "%s", pins->dir);
	ret = folder_check(path, false, err);
	while (!ret && folder_up(path))
		ret = folder_check(path, true, err);
	return ret;
}

enum pins_state pins_state(const struct pins *pins, struct error *err)
{
	struct ss_meta meta = {};
	int fd, failed;
	__u32 zero = 0;

	if (access(pins->dir, F_OK))
		return PINS_NONE;
	fd = pins_get(pins, "meta");
	failed = fd < 0 || bpf_map_lookup_elem(fd, &zero, &meta);
	if (fd >= 0)
		close(fd);
	if (!failed && meta.netns_cookie && meta.netns_cookie != pins->netns_cookie) {
		error_set(err, 0,
			  "%s is in use by another network namespace: choose another --pin-dir "
			  "for this one (if that one is gone: sidestep %s down --force)",
			  pins->dir, pins->component);
		return PINS_ELSEWHERE;
	}
	if (failed || !meta.version[0])
		return PINS_BROKEN;
	meta.version[sizeof(meta.version) - 1] = 0;
	if (!strcmp(meta.version, pins->version))
		return PINS_OURS;
	error_set(err, 0,
		  "version %s of the %s programs is loaded, this is %s; unload them first with: "
		  "sidestep %s down",
		  meta.version, pins->component, pins->version, pins->component);
	return PINS_OTHER;
}

int pins_mkdir(const struct pins *pins, struct error *err)
{
	char path[PINS_PATH_LEN];

	snprintf(path, sizeof(path), "%s", pins->dir);
	for (char *p = path + 1;; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = 0;
		if (mkdir(path, 0700) && errno != EEXIST)
			return error_set(err, -errno, "cannot create the folder %s: %s", path,
					 strerror(errno));
		if (!c)
			return 0;
		*p = c;
	}
}

int pins_get(const struct pins *pins, const char *name)
{
	char path[PINS_PATH_LEN];
	int fd;

	if (pin_path(pins, name, path))
		return -ENAMETOOLONG;
	fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

int pins_put(const struct pins *pins, const char *name, int fd, struct error *err)
{
	char path[PINS_PATH_LEN];
	int ret = pin_path(pins, name, path);

	if (!ret && bpf_obj_pin(fd, path))
		ret = -errno;
	if (ret)
		return error_set(err, ret, "cannot pin %s/%s: %s", pins->dir, name, strerror(-ret));
	return 0;
}

void pins_unlink(const struct pins *pins, const char *name)
{
	char path[PINS_PATH_LEN];

	if (!pin_path(pins, name, path))
		(void)unlink(path);
}

int pins_use_for_maps(const struct pins *pins, struct bpf_object *object, struct error *err)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
	{
		char path[PINS_PATH_LEN];
		int ret;

		if (bpf_map__is_internal(map))
			continue;
		ret = pin_path(pins, bpf_map__name(map), path);
		if (!ret)
			ret = bpf_map__set_pin_path(map, path);
		if (ret)
			return error_set(err, ret, "cannot name the pin of the map %s: %s",
					 bpf_map__name(map), strerror(-ret));
	}
	return 0;
}

int pins_each(const struct pins *pins, const char *prefix,
	      int (*fn)(const struct pins *pins, const char *name, void *arg), void *arg)
{
	DIR *dir = opendir(pins->dir);
	struct dirent *entry;
	int ret = 0;

	if (!dir)
		return 0;
	while (!ret && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && !strncmp(entry->d_name, prefix, strlen(prefix)))
			ret = fn(pins, entry->d_name, arg);
	closedir(dir);
	return ret;
}

bool pins_is_kept(const struct pins_keep *keep, int ifindex)
{
	for (unsigned i = 0; i < keep->n; i++)
		if (keep->ifindex[i] == ifindex)
			return true;
	return false;
}

static int meta_write(const struct pins *pins, const char *version, struct error *err)
{
	struct ss_meta meta = { .netns_cookie = pins->netns_cookie };
	int fd = pins_get(pins, "meta"), ret = 0;
	__u32 zero = 0;

	snprintf(meta.version, sizeof(meta.version), "%s", version);
	if (fd < 0)
		ret = fd;
	else if (bpf_map_update_elem(fd, &zero, &meta, BPF_ANY))
		ret = -errno;
	if (fd >= 0)
		close(fd);
	if (ret)
		return error_set(err, ret, "cannot write %s/meta: %s", pins->dir, strerror(-ret));
	return 0;
}

int pins_claim(const struct pins *pins, struct error *err)
{
	return meta_write(pins, "", err);
}

int pins_commit(const struct pins *pins, struct error *err)
{
	return meta_write(pins, pins->version, err);
}

static int unlink_one(const struct pins *pins, const char *name, void *arg)
{
	(void)arg;
	pins_unlink(pins, name);
	return 0;
}

void pins_remove(const struct pins *pins)
{
	char parent[PINS_PATH_LEN];
	char *slash;

	pins_each(pins, "", unlink_one, NULL);
	(void)rmdir(pins->dir);
	snprintf(parent, sizeof(parent), "%s", pins->dir);
	slash = strrchr(parent, '/');
	if (slash) {
		*slash = 0;
		(void)rmdir(parent); /* stays if the other component is loaded */
	}
}
