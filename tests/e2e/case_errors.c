// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What the loader refuses: it says so in one line, and leaves nothing behind. */
#include "cases.h"

#include <stdlib.h>

#include <bpf/bpf.h>

#include <sidestep/host.h>

#include "programs.h"

/* Where nothing is loaded yet; the testbed removes it, should the loader not. */
#define FRESH "--pin-dir /sys/fs/bpf/sidestep-testbed/fresh"
#define FRESH_DIR "/sys/fs/bpf/sidestep-testbed/fresh"

/* @command fails on @host with one line, which says @why. */
static void expect_error(const char *host, const char *why, const char *command)
{
	static char output[OUTPUT_LEN];
	int status = run(host, output, "%s", command);
	char *end = strchr(output, '\n');

	if (status != 1 || strncmp(output, "sidestep: ", 10) || !strstr(output, why) || !end ||
	    end[1])
		fail_msg("%s: expected status 1 and one line with \"%s\", got %d: %s", command, why,
			 status, output);
	assert_int_equal(access(FRESH_DIR, F_OK), -1);
}

static void not_root(void)
{
	char command[1024];

	snprintf(command, sizeof(command),
		 "cd '%s' && chmod 711 . && cp $(command -v sidestep) . && "
		 "exec setpriv --reuid 65534 --regid 65534 --clear-groups "
		 "./sidestep host up " CONFIG_CLIENT " " FRESH,
		 config_path(""));
	expect_error("c1", "needs root", command);
}

/* A kernel that is too old, or was built without what is needed, as the loader would see it. */
static void poor_kernel(void)
{
	char command[1024];

	snprintf(command, sizeof(command), "setarch --uname-2.6 sidestep host up '%s' " FRESH,
		 config_path(CONFIG_CLIENT));
	expect_error("c1", "is too old: sidestep needs 6.1", command);
	snprintf(command, sizeof(command),
		 "unshare --mount sh -c \"mount -t tmpfs none /sys/kernel/btf && "
		 "exec sidestep host up '%s' " FRESH "\"",
		 config_path(CONFIG_CLIENT));
	expect_error("c1", "/sys/kernel/btf/vmlinux is missing", command);
	snprintf(command, sizeof(command),
		 "unshare --mount sh -c \"umount --all --lazy --types cgroup2 && "
		 "SIDESTEP_CGROUP= exec sidestep host up '%s' " FRESH "\"",
		 config_path(CONFIG_CLIENT));
	expect_error("c1", "no cgroup2 file system is mounted", command);
}

static void missing_places(void)
{
	char command[1024];

	config_write("nowhere.yaml", "host:\n  interfaces: [eth0, nowhere0]\n");
	snprintf(command, sizeof(command), "sidestep host up '%s' " FRESH,
		 config_path("nowhere.yaml"));
	expect_error("c1", "no interface nowhere0", command);
	snprintf(command, sizeof(command), "sidestep host up '%s' " FRESH " --cgroup %s/nowhere",
		 config_path(CONFIG_CLIENT), host_cgroup("c1"));
	expect_error("c1", "/nowhere", command);
	snprintf(command, sizeof(command), "sidestep host up '%s' " FRESH " --cgroup /tmp",
		 config_path(CONFIG_CLIENT));
	expect_error("c1", "not a folder of a cgroup2", command);
	snprintf(command, sizeof(command), "sidestep host up '%s' --pin-dir /tmp/fresh",
		 config_path(CONFIG_CLIENT));
	expect_error("c1", "bpf file system", command);
	config_write("nowhere.yaml", "balancer:\n  interfaces: [nowhere0]\nservices: []\n");
	snprintf(command, sizeof(command), "sidestep balancer up '%s' " FRESH,
		 config_path("nowhere.yaml"));
	expect_error("lb", "no interface nowhere0", command);
}

static void no_forwarding(void)
{
	char command[1024];

	snprintf(command, sizeof(command), "sidestep balancer up '%s' " FRESH,
		 config_path(CONFIG_BALANCER));
	must("lb", "sysctl -qw net.ipv6.conf.eth0.forwarding=0");
	expect_error("lb", "net.ipv6.conf.eth0.forwarding=1", command);
	must("lb", "sysctl -qw net.ipv6.conf.eth0.forwarding=1");
}

/* Exchanges the version that @host's programs are marked with for the one in @meta. */
static void version_swap(const char *host, const char *component, struct ss_meta *meta)
{
	struct ss_meta before;
	char path[256];
	__u32 zero = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/meta", host_pin_dir(host), component);
	fd = bpf_obj_get(path);
	assert_true(fd >= 0);
	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &before), 0);
	assert_int_equal(bpf_map_update_elem(fd, &zero, meta, BPF_ANY), 0);
	close(fd);
	*meta = before;
}

static void other_version(const char *host, const char *component, const char *config)
{
	struct ss_meta meta = { .version = "0.0.0+other" };
	char command[1024];

	version_swap(host, component, &meta);
	snprintf(command, sizeof(command), "sidestep %s up '%s'", component, config_path(config));
	expect_error(host, "version 0.0.0+other of the", command);
	snprintf(command, sizeof(command), "sidestep %s status", component);
	expect_error(host, "version 0.0.0+other of the", command);
	version_swap(host, component, &meta);
	must(host, "%s", command);
}

/* @command, with the pin folder of another network namespace, is refused on @host. */
static void expect_elsewhere(const char *host, const char *command, const char *pin_dir)
{
	char text[1024];

	snprintf(text, sizeof(text), "sidestep %s --pin-dir '%s'", command, pin_dir);
	expect_error(host, "is in use by another network namespace", text);
}

/* What one network namespace has loaded, another one leaves alone; unless the first is gone. */
static void other_netns(void)
{
	char up[512];

	snprintf(up, sizeof(up), "host up '%s'", config_path(CONFIG_SERVER));
	expect_elsewhere("s1", up, host_pin_dir("c1"));
	expect_elsewhere("s1", "host status", host_pin_dir("c1"));
	expect_elsewhere("s1", "host down", host_pin_dir("c1"));
	snprintf(up, sizeof(up), "balancer up '%s'", config_path(CONFIG_BALANCER));
	expect_elsewhere("c1", up, host_pin_dir("lb"));
	expect_elsewhere("c1", "balancer status", host_pin_dir("lb"));
	expect_elsewhere("c1", "balancer down", host_pin_dir("lb"));
	must("c1", "sidestep host status && sidestep host up '%s'", config_path(CONFIG_CLIENT));
	must("lb", "sidestep balancer status");
	must("c1",
	     "unshare --net sh -c \"ip link add eth0 type veth peer name eth1 && "
	     "sidestep host up '%s' " FRESH "\" && ! sidestep host down " FRESH " && "
	     "sidestep host down --force " FRESH,
	     config_path(CONFIG_CLIENT));
	assert_int_equal(access(FRESH_DIR, F_OK), -1);
}

/* A program that did not come through libxdp does not share the interface, and stays. */
static void foreign_xdp(void)
{
	char command[1024];

	snprintf(command, sizeof(command), "sidestep balancer up '%s' " FRESH,
		 config_path(CONFIG_BALANCER));
	balancer_unload();
	must("lb", "ip link set dev eth0 xdpdrv object '%s/xdp_pass.bpf.o' section xdp",
	     build_dir());
	expect_error("lb", "eth0 has an XDP program already", command);
	must("lb", "ip link show dev eth0 | grep -q xdp_pass");
	must("lb", "ip link set dev eth0 xdpdrv off");
	balancer_load();
}

void case_loader_errors(const struct family *family)
{
	not_root();
	poor_kernel();
	missing_places();
	no_forwarding();
	other_version("c1", "host", CONFIG_CLIENT);
	other_version("lb", "balancer", CONFIG_BALANCER);
	other_netns();
	foreign_xdp();
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}
