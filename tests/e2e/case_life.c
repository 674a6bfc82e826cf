// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Invariant I4: programs come, change and go; connections, and what others have loaded, stay. */
#include "cases.h"

#include <linux/bpf.h>
#include <net/if.h>
#include <sys/utsname.h>

#include <bpf/bpf.h>
#include <xdp/libxdp.h>

#include "capture.h"
#include "programs.h"

#define SOME_BYTES (4 * MB)

/* The programs of @host are all gone. */
static void expect_unpinned(const char *host, const char *component)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", host_pin_dir(host), component);
	assert_int_equal(access(path, F_OK), -1);
}

/* The new configuration does not even know the service that the connection uses. */
void case_host_up_again(const struct family *family)
{
	struct talk *talk = stream_begin(family);

	config_write("c1-other.yaml", "host:\n"
				      "  interfaces: [eth0]\n"
				      "  dial: [\"10.99.0.1:84\", \"[fd00:99::1]:84\"]\n"
				      "  backends: [10.0.3.0/24, \"fd00:1:3::/64\"]\n");
	config_write("s1-other.yaml", "host:\n"
				      "  interfaces: [eth0]\n"
				      "  serve:\n"
				      "    - {vip: \"10.99.0.1:84\", listen: 8084}\n"
				      "    - {vip: \"[fd00:99::1]:84\"}\n");
	host_load("c1", "c1-other.yaml");
	host_load("s1", "s1-other.yaml");
	stream_progress(talk, STREAM_MORE);
	talk_run(talk_new(family, PORT_OTHER, echo_client, echo_server));
	host_load("s1", CONFIG_SERVER);
	host_load("c1", CONFIG_CLIENT);
	stream_survives(talk);
	talk_one(family, echo_client, echo_server);
	expect_direct(3);
}

static void expect_refusal(const char *host)
{
	static char output[OUTPUT_LEN];

	assert_int_equal(run(host, output, "sidestep host down"), 1);
	assert_ptr_equal(strstr(output, "sidestep: 1 redirected connection "), output);
	assert_string_equal(strchr(output, '\n'), "\n");
}

void case_host_down_refused(const struct family *family)
{
	const char *const names[] = { "c1", "s1" };
	struct talk *talk = stream_begin(family);

	expect_refusal("c1");
	if (!family->strict) /* else no packet of s1 is rewritten, and it can do without programs */
		expect_refusal("s1");
	else
		host_unload("s1");
	stream_survives(talk);
	expect_crossing(1, 1);
	expect_outcome("c1", "client_direct", 1);
	for (int i = 0; i < 2; i++) {
		host_unload(names[i]);
		expect_unpinned(names[i], "host");
	}
	host_load("s1", CONFIG_SERVER);
	host_load("c1", CONFIG_CLIENT);
	counters_mark();
	capture_clear();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}

/* A server goes on listening while its host's programs are exchanged, and serves as before. */
void case_listener_stays(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, echo_client, echo_server);

	talk_serve(talk);
	host_unload("s1");
	host_load("s1", CONFIG_SERVER);
	counters_mark();
	talk_dial(talk);
	talk_finish(talk);
	expect_direct(1);
}

/* --- other people's programs -------------------------------------------------------------------- */

/* A filter for UDP, in both directions. The qdisc may be there: of programs attached by clsact. */
static void filters_add(const char *host)
{
	must(host, "tc qdisc add dev eth0 clsact 2>/dev/null; "
		   "for way in ingress egress; do tc filter add dev eth0 $way protocol ip pref 100 "
		   "u32 match ip protocol 17 0xff flowid 1:1 || exit 1; done");
}

static void expect_filters(const char *host)
{
	must(host,
	     "for way in ingress egress; do "
	     "tc filter show dev eth0 $way | grep -q 'match 00110000/00ff0000' || exit 1; done");
}

static void filters_remove(const char *host)
{
	expect_filters(host);
	must(host, "tc qdisc del dev eth0 clsact");
}

/* A sockops program that does nothing, on the cgroup of @host. Returns its file descriptor. */
static int sockops_add(const char *host)
{
	static const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SOCK_OPS, "other_sockops", "GPL", nothing, 2, NULL);
	FILE *cgroup = fopen(host_cgroup(host), "re");

	assert_true(fd >= 0);
	assert_non_null(cgroup);
	assert_int_equal(
		bpf_prog_attach(fd, fileno(cgroup), BPF_CGROUP_SOCK_OPS, BPF_F_ALLOW_MULTI), 0);
	fclose(cgroup);
	return fd;
}

static void sockops_remove(const char *host, int fd)
{
	FILE *cgroup = fopen(host_cgroup(host), "re");

	assert_non_null(cgroup);
	assert_int_equal(bpf_prog_detach2(fd, fileno(cgroup), BPF_CGROUP_SOCK_OPS), 0);
	fclose(cgroup);
	close(fd);
}

void case_other_programs(const struct family *family)
{
	int other;

	host_unload("c1");
	assert_int_equal(sockops_programs("c1"), 0);
	filters_add("c1");
	other = sockops_add("c1");
	host_load("c1", CONFIG_CLIENT);
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
	assert_int_equal(sockops_programs("c1"), 2);
	must("c1", "sidestep host status | grep '^warning   the sockops program other_sockops'");
	expect_filters("c1");
	host_unload("c1");
	assert_int_equal(sockops_programs("c1"), 1);
	filters_remove("c1");
	sockops_remove("c1", other);
	host_load("c1", CONFIG_CLIENT);
}

/*
 * A packet meets the egress program twice, as it does where interfaces stand on each other: what was
 * rewritten stays as it is. The hosts finish checksums, so that a wrong one would be noticed.
 */
void case_twice(const struct family *family)
{
	static const char *const names[] = { "c1", "s1" };

	for (int i = 0; i < 2; i++)
		must(names[i],
		     "ethtool -K eth0 tx off && { tc qdisc add dev eth0 clsact 2>/dev/null; tc "
		     "filter "
		     "add dev eth0 egress pref 77 bpf direct-action object-pinned "
		     "%s/host/prog_egress; }",
		     host_pin_dir(names[i]));
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
	for (int i = 0; i < 2; i++)
		must(names[i], "tc filter del dev eth0 egress pref 77 && ethtool -K eth0 tx on");
}

/* --- clsact ------------------------------------------------------------------------------------ */

static void expect_attached(const char *host, const char *how)
{
	must(host, "[ $(sidestep host status --json | grep -c '\"attached\": \"%s\"') = 2 ]", how);
}

/* What "attach: auto" comes to: TCX from Linux 6.6 on. */
static const char *auto_attach(void)
{
	struct utsname name;
	int major, minor;

	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%d.%d", &major, &minor), 2);
	return major > 6 || (major == 6 && minor >= 6) ? "tcx" : "clsact";
}

void case_clsact(const struct family *family)
{
	static const char *const names[] = { "c1", "s1" };
	static const char *const configs[] = { CONFIG_CLIENT, CONFIG_SERVER };
	struct talk *talk;

	for (int i = 0; i < 2; i++) {
		if (i) /* c1's programs change over as they run */
			host_unload(names[i]);
		filters_add(names[i]);
		must(NULL, "sed 's/^host:/&\\n  attach: clsact/' '%s' >'%s'",
		     config_path(configs[i]), config_path("clsact.yaml"));
		host_load(names[i], "clsact.yaml");
		expect_attached(names[i], "clsact");
	}
	counters_mark();
	talk = stream_new(family, SOME_BYTES);
	talk_start(talk);
	stream_finish(talk);
	talk_one(family, echo_client, echo_server);
	expect_direct(2);
	for (int i = 0; i < 2; i++) {
		host_unload(names[i]);
		filters_remove(names[i]);
		host_load(names[i], configs[i]);
		expect_attached(names[i], auto_attach());
	}
}

/* --- XDP --------------------------------------------------------------------------------------- */

/* Is the XDP program @name on the balancer's interface? -1: there is no dispatcher. */
static int xdp_is_there(const char *name)
{
	struct xdp_multiprog *all = xdp_multiprog__get_from_ifindex(if_nametoindex("eth0"));
	struct xdp_program *prog = NULL;
	int found = -1;

	if (libxdp_get_error(all))
		return -1;
	if (!xdp_multiprog__is_legacy(all)) {
		found = 0;
		while (!found && (prog = xdp_multiprog__next_prog(prog, all)))
			found = !strcmp(xdp_program__name(prog), name);
	}
	xdp_multiprog__close(all);
	return found;
}

void case_other_xdp(const struct family *family)
{
	struct xdp_program *other;
	char path[256];

	netns_enter("lb");
	if (xdp_is_there("sidestep_lb") < 0) {
		netns_enter(NULL);
		SKIP("this kernel refuses libxdp's dispatcher (freplace programs)");
	}
	snprintf(path, sizeof(path), "%s/xdp_pass.bpf.o", build_dir());
	other = xdp_program__open_file(path, "xdp", NULL);
	assert_int_equal(libxdp_get_error(other), 0);
	assert_int_equal(xdp_program__attach(other, if_nametoindex("eth0"), XDP_MODE_NATIVE, 0), 0);
	balancer_unload();
	assert_int_equal(xdp_is_there(xdp_program__name(other)), 1);
	balancer_load();
	assert_int_equal(xdp_is_there(xdp_program__name(other)), 1);
	assert_int_equal(xdp_is_there("sidestep_lb"), 1);
	netns_enter(NULL);
	talk_one(family, echo_client, echo_server);
	netns_enter("lb");
	assert_int_equal(xdp_program__detach(other, if_nametoindex("eth0"), XDP_MODE_NATIVE, 0), 0);
	netns_enter(NULL);
	xdp_program__close(other);
}
