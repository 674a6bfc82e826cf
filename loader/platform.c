// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <ifaddrs.h>
#include <linux/magic.h>
#include <linux/sockios.h>
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
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define BPFFS "/sys/fs/bpf"
#define BTF_PATH "/sys/kernel/btf/vmlinux"
#define RUN_DIR "/run/sidestep"
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

/*
 * Does process 1 see the file system @dev, too? A mount of this command's own, as "ip netns exec"
 * makes them, goes away with it, and all that is pinned there. Where that cannot be told: yes.
 */
static bool mount_lasts(dev_t dev)
{
	FILE *mounts = fopen("/proc/1/mountinfo", "re");
	unsigned major_number, minor_number;
	bool found = !mounts;
	char line[4096];

	while (!found && fgets(line, sizeof(line), mounts))
		found = sscanf(line, "%*d %*d %u:%u", &major_number, &minor_number) == 2 &&
			makedev(major_number, minor_number) == dev;
	if (mounts)
		fclose(mounts);
	return found;
}

/* The file in /run/netns that is this network namespace; FILE if none is. */
static const char *netns_file(char path[PLATFORM_PATH_LEN])
{
	struct stat ours, st;
	glob_t found = {};

	snprintf(path, PLATFORM_PATH_LEN, "FILE");
	if (stat("/proc/thread-self/ns/net", &ours) || glob("/run/netns/*", 0, NULL, &found))
		return path;
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (!stat(found.gl_pathv[i], &st) && st.st_ino == ours.st_ino &&
		    st.st_dev == ours.st_dev)
			snprintf(path, PLATFORM_PATH_LEN, "%s", found.gl_pathv[i]);
	globfree(&found);
	return path;
}

static int fail_private(const char *what, struct error *err)
{
	char file[PLATFORM_PATH_LEN];

	return error_set(err, -EINVAL,
			 "%s: this command has mounts of its own, as \"ip netns exec\" makes them; "
			 "run it where process 1's are: nsenter --net=%.200s sidestep ...",
			 what, netns_file(file));
}

#define VANISHES "what is pinned below " BPFFS " would vanish when this ends"

/* Some systems leave it to the first user to mount bpffs; tc and ip do the same. */
static int bpffs_mount(struct error *err)
{
	struct stat st;

	if (mount("bpf", BPFFS, "bpf", 0, "mode=0700"))
		return error_set(err, -errno, "cannot mount the bpf file system at " BPFFS ": %s",
				 strerror(errno));
	if (!stat(BPFFS, &st) && mount_lasts(st.st_dev))
		return 0;
	(void)umount2(BPFFS, MNT_DETACH);
	return fail_private(VANISHES, err);
}

static int check_bpffs(const char *pin_dir, struct error *err)
{
	char parent[PLATFORM_PATH_LEN];
	struct stat st;
	char *slash;

	snprintf(parent, sizeof(parent), "%s", pin_dir);
	while (access(parent, F_OK) && (slash = strrchr(parent, '/')) && slash != parent)
		*slash = 0;
	if (is_bpffs(parent)) {
		if (!stat(parent, &st) && mount_lasts(st.st_dev))
			return 0;
		return fail_private(VANISHES, err);
	}
	if (strncmp(pin_dir, BPFFS "/", strlen(BPFFS "/")))
		return error_set(err, -EINVAL,
				 "%s is not in a bpf file system; choose a --pin-dir below " BPFFS,
				 pin_dir);
	return bpffs_mount(err);
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
			"no cgroup2 file system is mounted where this command runs, and sockops "
			"programs attach to one; try: mkdir /run/cgroup2 && mount -t cgroup2 none "
			"/run/cgroup2");
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

int platform_ethtool(const char *name, void *request)
{
	struct ifreq ifr = { .ifr_data = request };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	ret = ioctl(fd, SIOCETHTOOL, &ifr) ? -errno : 0;
	close(fd);
	return ret;
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

/* The address in @sa into *@out; false: it is none of IP. */
static bool ip_address(const struct sockaddr *sa, struct ss_addr *out)
{
	if (sa && sa->sa_family == AF_INET)
		*out = ss_addr_v4(((const struct sockaddr_in *)sa)->sin_addr.s_addr);
	else if (sa && sa->sa_family == AF_INET6)
		memcpy(out, &((const struct sockaddr_in6 *)sa)->sin6_addr, sizeof(*out));
	else
		return false;
	return true;
}

int platform_addresses(struct ss_addr **out)
{
	struct ifaddrs *list, *i;
	struct ss_addr *array;
	int n = 0;

	if (getifaddrs(&list))
		return -errno;
	for (i = list; i; i = i->ifa_next)
		n++;
	array = calloc(n + 1, sizeof(*array));
	n = 0;
	for (i = list; i && array; i = i->ifa_next)
		n += ip_address(i->ifa_addr, &array[n]);
	freeifaddrs(list);
	*out = array;
	return array ? n : -ENOMEM;
}

/* Is @fd a folder, or a file if not @folder, that nobody but root can have prepared? */
static bool is_roots_own(int fd, bool folder)
{
	struct stat st;

	return !fstat(fd, &st) && (folder ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)) &&
	       st.st_uid == geteuid() && !(st.st_mode & 022);
}

/* Says who holds the lock @fd, and where it is. */
static int fail_locked(int fd, const char *path, struct error *err)
{
	char text[16] = "", file[64], name[32] = "";
	FILE *comm;
	int pid;

	if (pread(fd, text, sizeof(text) - 1, 0) <= 0 || sscanf(text, "%d", &pid) != 1)
		return error_set(err, -EAGAIN, "another command holds the lock %s", path);
	snprintf(file, sizeof(file), "/proc/%d/comm", pid);
	comm = fopen(file, "re");
	if (comm) {
		if (fgets(name, sizeof(name), comm))
			name[strcspn(name, "\n")] = 0;
		fclose(comm);
	}
	return error_set(err, -EAGAIN,
			 "process %d (%s) is changing the same programs, and holds %s; "
			 "--wait SECONDS waits longer",
			 pid, *name ? name : "gone", path);
}

/* Waits for the lock, which has no time-out of its own, for at most @seconds. */
static int lock_wait(int fd, unsigned seconds)
{
	const struct timespec pause = { .tv_nsec = 20000000 };
	unsigned left = seconds * 50;

	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (!left--)
			return -EAGAIN;
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

/* Opens the lock's file, of root's own, in a folder of root's own, and says its @path. */
static int lock_open(const char *pin_dir, char path[PLATFORM_PATH_LEN], struct error *err)
{
	char name[200];
	int folder, fd;
	size_t len = 0;

	for (const char *p = pin_dir + (*pin_dir == '/'); *p && len < sizeof(name) - 1; p++)
		name[len++] = *p == '/' ? '_' : *p;
	name[len] = 0;
	snprintf(path, PLATFORM_PATH_LEN, RUN_DIR "/%s.lock", name);
	if (!mkdir(RUN_DIR, 0755))
		(void)chmod(RUN_DIR, 0755); /* whatever the umask */
	folder = open(RUN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (folder < 0)
		return error_set(err, -errno, "cannot open the folder " RUN_DIR ": %s",
				 strerror(errno));
	if (!is_roots_own(folder, true)) {
		close(folder);
		return error_set(err, -EPERM,
				 "others than root can write in " RUN_DIR
				 "; remove it, after a look "
				 "at who made it");
	}
	fd = openat(folder, path + strlen(RUN_DIR "/"), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	close(folder);
	if (fd < 0)
		return error_set(err, -errno, "cannot open the lock %s: %s", path, strerror(errno));
	if (!is_roots_own(fd, false)) {
		close(fd);
		return error_set(err, -EPERM, "the lock %s is not a file of root's own; remove it",
				 path);
	}
	return fd;
}

int platform_lock(const char *pin_dir, unsigned seconds, struct error *err)
{
	char path[PLATFORM_PATH_LEN];
	int fd = lock_open(pin_dir, path, err), ret;

	if (fd < 0)
		return fd;
	ret = lock_wait(fd, seconds);
	if (!ret) { /* for those who wait: nothing depends on it */
		(void)ftruncate(fd, 0);
		(void)dprintf(fd, "%d\n", getpid());
		return fd;
	}
	if (ret == -EAGAIN)
		ret = fail_locked(fd, path, err);
	else
		ret = error_set(err, ret, "cannot take the lock %s: %s", path, strerror(-ret));
	close(fd);
	return ret;
}
