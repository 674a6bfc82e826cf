// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BPFFS "/sys/fs/bpf"
#define BTF_PATH "/sys/kernel/btf/vmlinux"
#define KERNEL_MAJOR 6
#define KERNEL_MINOR 1

static int check_kernel(struct error *err)
{
	struct utsname name;
	int major, minor;

	if (uname(&name) || sscanf(name.release, "%d.%d", &major, &minor) != 2)
		return error_set(err, -EINVAL, "cannot read the kernel's release");
	if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR))
		return error_set(err, -ENOSYS,
				 "kernel %s is too old: sidestep needs %d.%d or newer",
				 name.release, KERNEL_MAJOR, KERNEL_MINOR);
	return 0;
}

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return !statfs(path, &fs) && fs.f_type == BPF_FS_MAGIC;
}

/* Some systems leave it to the first user to mount bpffs; tc and ip do the same. */
static int check_bpffs(const char *pin_dir, struct error *err)
{
	char parent[PLATFORM_PATH_LEN];
	char *slash;

	snprintf(parent, sizeof(parent), "%s", pin_dir);
	while (access(parent, F_OK) && (slash = strrchr(parent, '/')) && slash != parent)
		*slash = 0;
	if (is_bpffs(parent))
		return 0;
	if (strncmp(pin_dir, BPFFS "/", strlen(BPFFS "/")))
		return error_set(err, -EINVAL,
				 "%s is not in a bpf file system; choose a --pin-dir below " BPFFS,
				 pin_dir);
	if (mount("bpf", BPFFS, "bpf", 0, "mode=0700"))
		return error_set(err, -errno, "cannot mount the bpf file system at " BPFFS ": %s",
				 strerror(errno));
	return 0;
}

int platform_check(const char *pin_dir, struct error *err)
{
	int ret;

	if (geteuid())
		return error_set(err, -EPERM, "this needs root; run it with sudo");
	ret = check_kernel(err);
	if (ret)
		return ret;
	if (access(BTF_PATH, R_OK))
		return error_set(err, -ENOENT,
				 BTF_PATH " is missing: this kernel was built without "
					  "CONFIG_DEBUG_INFO_BTF, which sidestep needs");
	return check_bpffs(pin_dir, err);
}

int platform_cgroup2_root(char path[PLATFORM_PATH_LEN], struct error *err)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	struct mntent *entry;
	bool found = false;

	while (mounts && !found && (entry = getmntent(mounts))) {
		found = !strcmp(entry->mnt_type, "cgroup2");
		if (found)
			snprintf(path, PLATFORM_PATH_LEN, "%s", entry->mnt_dir);
	}
	if (mounts)
		endmntent(mounts);
	if (!found)
		return error_set(
			err, -ENOENT,
			"no cgroup2 file system is mounted, and sockops programs attach to "
			"one; try: mount -t cgroup2 none /sys/fs/cgroup");
	return 0;
}

int platform_cgroup2_open(const char *path, struct error *err)
{
	struct statfs fs;
	int fd;

	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "cannot open the cgroup %s: %s", path,
				 strerror(errno));
	if (fstatfs(fd, &fs) || fs.f_type != CGROUP2_SUPER_MAGIC) {
		close(fd);
		return error_set(err, -EINVAL, "%s is not a folder of a cgroup2 file system", path);
	}
	return fd;
}

/* The index of the Ethernet interface @name, or a negative errno with @err set. */
static int interface_index(const char *name, struct error *err)
{
	struct ifreq request = {};
	int fd, index = if_nametoindex(name), ret = 0;

	if (!index)
		return error_set(
			err, -ENODEV,
			"there is no interface %s in this network namespace (see: ip link)", name);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(err, -errno, "cannot open a socket: %s", strerror(errno));
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFHWADDR, &request))
		ret = error_set(err, -errno, "cannot ask what interface %s is: %s", name,
				strerror(errno));
	else if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		ret = error_set(err, -EOPNOTSUPP, "%s is not an Ethernet interface", name);
	close(fd);
	return ret ? ret : index;
}

int platform_interfaces(char *const *names, unsigned n, int **out, struct error *err)
{
	int *index = calloc(n + 1, sizeof(*index));

	if (!index)
		return error_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < n; i++) {
		index[i] = interface_index(names[i], err);
		if (index[i] < 0) {
			int ret = index[i];

			free(index);
			return ret;
		}
	}
	*out = index;
	return 0;
}

int platform_forwarding(const char *interface, const char *family, struct error *err)
{
	char path[PLATFORM_PATH_LEN];
	FILE *file;
	int on = 0;

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/forwarding", family, interface);
	file = fopen(path, "re");
	if (file) {
		if (fscanf(file, "%d", &on) != 1)
			on = 0;
		fclose(file);
	}
	if (!on)
		return error_set(
			err, -EPERM,
			"%s forwarding is off on %s, and the kernel answers the balancer's "
			"route look-ups only where it is on; do: sysctl -w "
			"net.%s.conf.%s.forwarding=1",
			family, interface, family, interface);
	return 0;
}

int platform_netns_cookie(__u64 *cookie, struct error *err)
{
	socklen_t len = sizeof(*cookie);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret = 0;

	if (fd < 0)
		return error_set(err, -errno, "cannot open a socket: %s", strerror(errno));
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len))
		ret = error_set(err, -errno, "cannot ask which network namespace this is: %s",
				strerror(errno));
	close(fd);
	return ret;
}

int platform_udp_connect(const struct ss_endpoint *to, struct ss_addr *from)
{
	bool v4 = ss_addr_is_v4(&to->addr);
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = to->port };
	struct sockaddr_in four = { .sin_family = AF_INET,
				    .sin_port = to->port,
				    .sin_addr.s_addr = to->addr.w[3] };
	struct sockaddr *address = v4 ? (struct sockaddr *)&four : (struct sockaddr *)&six;
	socklen_t len = v4 ? sizeof(four) : sizeof(six);
	int fd = socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(&six.sin6_addr, &to->addr, sizeof(six.sin6_addr));
	if (fd < 0)
		return -errno;
	if (connect(fd, address, len) || getsockname(fd, address, &len)) {
		int err = -errno;

		close(fd);
		return err;
	}
	if (v4)
		*from = ss_addr_v4(four.sin_addr.s_addr);
	else
		memcpy(from, &six.sin6_addr, sizeof(*from));
	return fd;
}

int platform_source(const struct ss_addr *to, struct ss_addr *from)
{
	struct ss_endpoint discard = { .addr = *to, .port = SS_BE16(9) };
	int fd = platform_udp_connect(&discard, from);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

int platform_lock(const char *pin_dir, struct error *err)
{
	char path[PLATFORM_PATH_LEN];
	int fd;

	snprintf(path, sizeof(path), "/run/lock/sidestep");
	(void)mkdir("/run/lock", 0755);
	(void)mkdir(path, 0700);
	for (const char *p = pin_dir; *p && strlen(path) + 1 < sizeof(path); p++) {
		char c[2] = { *p == '/' ? (p == pin_dir ? '/' : '_') : *p, 0 };

		strcat(path, c);
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set(err, -errno, "cannot open the lock file %s: %s", path,
				 strerror(errno));
	if (flock(fd, LOCK_EX)) {
		int ret = -errno;

		close(fd);
		return error_set(err, ret, "cannot take the lock %s: %s", path, strerror(errno));
	}
	return fd;
}
