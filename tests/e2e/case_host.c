// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What `host up` changes while programs run, and what `host status` says of where they run. */
#include "cases.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include <sidestep/host.h>

#include "programs.h"

/* A client's configuration with @n services from 10.@net.0.0 on, and another list of backends. */
static void config_many(const char *name, unsigned net, unsigned n)
{
	FILE *file = fopen(config_path(name), "we");

	assert_non_null(file);
	fprintf(file, "host: {interfaces: [eth0], backends: [10.%u.0.0/16], dial: [\n", net);
	for (unsigned i = 0; i < n; i++)
		fprintf(file, "  10.%u.%u.%u,\n", net, i / 256, i % 256);
	fprintf(file, "]}\n");
	assert_int_equal(fclose(file), 0);
}

/* What @host's maps say of the configuration. */
static void rules_read(const char *host, char *output)
{
	if (run(host, output,
		"sidestep host status --json | "
		"jq -cS '[.dial, .backends, .serve, .trusted_balancers | sort]'"))
		fail_msg("%s", output);
}

/* @command fails on @host, and its rules stay what they were. */
static void expect_undone(const char *host, const char *command)
{
	static char before[OUTPUT_LEN], after[OUTPUT_LEN], output[OUTPUT_LEN];

	rules_read(host, before);
	assert_int_equal(run(host, output, "%s", command), 1);
	assert_ptr_equal(strstr(output, "sidestep: "), output);
	rules_read(host, after);
	assert_string_equal(before, after);
}

/* Puts as many services into the map as it takes, but for @room. */
static void dial_fill(const char *host, unsigned room)
{
	int fd = pin_open(host, "dial");
	unsigned n = 2 * SS_HOST_RULES - map_entries(host, "dial") - room;
	__u32 value = 0;

	for (unsigned i = 0; i < n; i++) {
		struct ss_prefix key = { .prefixlen = SS_PREFIX_PORT_BITS + 128 };

		key.addr = ss_addr_v4(SS_BE32(0x0a600000 + i)); /* 10.96.0.0 */
		assert_int_equal(bpf_map_update_elem(fd, &key, &value, BPF_NOEXIST), 0);
	}
	close(fd);
}

/* The longest list replaces the longest list; and a change that fails half-way changes nothing. */
void case_rules_whole(const struct family *family)
{
	char command[256];

	config_many("first.yaml", 97, SS_HOST_RULES);
	config_many("second.yaml", 98, SS_HOST_RULES);
	host_load("c1", "first.yaml");
	host_load("c1", "second.yaml");
	assert_int_equal(map_entries("c1", "dial"), SS_HOST_RULES);
	host_load("c1", CONFIG_CLIENT);
	dial_fill("c1", 2);
	snprintf(command, sizeof(command), "sidestep host up '%s'", config_path("second.yaml"));
	expect_undone("c1", command);
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
	host_load("c1", CONFIG_CLIENT);
}

/* --- where the programs are to run --------------------------------------------------------------- */

/* `host status` on @host exits with @status, and one line of it says @text (NULL: none has to). */
static void expect_status(const char *host, int status, const char *text)
{
	static char output[OUTPUT_LEN];
	int got = run(host, output, "sidestep host status");

	if (got != status || (text && !strstr(output, text)))
		fail_msg("expected exit status %d and \"%s\", got %d: %.1000s", status,
			 text ? text : "", got, output);
}

/* `host up` on @host succeeds and says @text. */
static void expect_warning(const char *host, const char *config, const char *text)
{
	static char output[OUTPUT_LEN];

	assert_int_equal(run(host, output, "sidestep host up '%s'", config_path(config)), 0);
	if (!strstr(output, text))
		fail_msg("expected a warning with \"%s\", got: %s", text, output);
}

static void extra_add(const char *host)
{
	must(host, "ip link add extra type veth peer name extra1");
}

static void extra_config(const char *attach)
{
	char text[256];

	snprintf(text, sizeof(text), "host: {interfaces: [eth0, extra], attach: %s}\n", attach);
	config_write("extra.yaml", text);
}

/* An interface goes, and one of the same name comes: it has no programs until the next `host up`. */
void case_interface_anew(const struct family *family)
{
	expect_status("c1", 0, NULL);
	extra_config("auto");
	extra_add("c1");
	host_load("c1", "extra.yaml");
	expect_status("c1", 0, "extra egress");
	must("c1", "ip link del extra");
	expect_status("c1", STATUS_PROBLEM, "problem   there is no interface extra any more");
	extra_add("c1");
	expect_status("c1", STATUS_PROBLEM, "problem   extra is another interface than before");
	host_load("c1", "extra.yaml");
	expect_status("c1", 0, "extra egress");
	must("c1", "ip link add over type bridge && ip link set extra master over");
	expect_warning("c1", "extra.yaml", "warning: extra is a port of the bridge over");
	expect_status("c1", 0, "warning   extra is a port of the bridge over");
	host_load("c1", CONFIG_CLIENT);
	must("c1", "ip link del extra && ip link del over");
	expect_status("c1", 0, NULL);
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}

/* The same on the balancer. */
void case_balancer_anew(const struct family *family)
{
	static char output[OUTPUT_LEN];
	static const char status[] = "sidestep balancer status";

	config_write("extra.yaml", "balancer: {interfaces: [eth0, extra]}\nservices: []\n");
	must("lb", status);
	extra_add("lb");
	must("lb", "sidestep balancer up '%s' && %s | grep 'extra (native)'",
	     config_path("extra.yaml"), status);
	must("lb", "ip link set extra xdp off");
	assert_int_equal(run("lb", output, status), STATUS_PROBLEM);
	assert_non_null(strstr(output, "problem   extra: the program was detached; run: "));
	must("lb", "ip link del extra");
	assert_int_equal(run("lb", output, status), STATUS_PROBLEM);
	assert_non_null(strstr(output, "problem   there is no interface extra any more"));
	extra_add("lb");
	assert_int_equal(run("lb", output, status), STATUS_PROBLEM);
	assert_non_null(strstr(output, "problem   extra is another interface than before"));
	must("lb", "sidestep balancer up '%s' && %s", config_path("extra.yaml"), status);
	must("lb", "ip link del extra");
	balancer_load();
	must("lb", status);
	extra_add("lb"); /* and one that takes no program: what was in force stays */
	must("lb", "ip link set dev extra xdpdrv object '%s/xdp_pass.bpf.o' section xdp",
	     build_dir());
	assert_int_equal(run("lb", output, "sidestep balancer up '%s'", config_path("extra.yaml")),
			 1);
	must("lb", "ip link del extra && %s | grep '^service   one '", status);
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}

/* Somebody removes the qdisc that our filters are in; or leaves it, and then `host down` does that. */
void case_qdisc_gone(const struct family *family)
{
	extra_config("clsact");
	extra_add("c1");
	host_load("c1", "extra.yaml");
	expect_status("c1", 0, "extra egress (clsact)");
	must("c1", "tc qdisc del dev extra clsact");
	expect_status("c1", STATUS_PROBLEM, "problem   extra: the egress program was detached");
	host_load("c1", "extra.yaml");
	expect_status("c1", 0, "extra egress (clsact)");
	must("c1",
	     "tc filter add dev extra egress pref 7 protocol ip u32 match u32 0 0 flowid 1:1");
	host_unload("c1");
	must("c1", "! tc qdisc show dev eth0 | grep -q clsact");
	must("c1", "tc qdisc show dev extra | grep -q clsact && ip link del extra");
	host_load("c1", CONFIG_CLIENT);
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}

/* The cgroup is removed and made anew, as a service manager does it with a service. */
void case_cgroup_anew(const struct family *family)
{
	char cgroup[256], up[512];

	snprintf(cgroup, sizeof(cgroup), "%s/service", host_cgroup("c1"));
	snprintf(up, sizeof(up), "sidestep host up '%s' --cgroup '%s'", config_path(CONFIG_CLIENT),
		 cgroup);
	must("c1", "mkdir '%s' && %s", cgroup, up);
	expect_status("c1", 0, NULL);
	must("c1", "rmdir '%s'", cgroup);
	expect_status("c1", STATUS_PROBLEM, "/service was removed");
	must("c1", "mkdir '%s'", cgroup);
	expect_status("c1", STATUS_PROBLEM, "/service was made anew");
	must("c1", "%s", up);
	expect_status("c1", 0, NULL);
	host_load("c1", CONFIG_CLIENT);
	must("c1", "rmdir '%s'", cgroup);
	expect_status("c1", 0, NULL);
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}

/* --- other people's programs ---------------------------------------------------------------------- */

/* A program @name of @type that does nothing but return @result. */
static int program_load(enum bpf_prog_type type, const char *name, int result)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = result },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(type, name, "GPL", insns, 2, NULL);

	assert_true(fd >= 0);
	return fd;
}

/* A sockops program that lets no other one in beside it, on the cgroup or above it. */
void case_sockops_exclusive(const struct family *family)
{
	int other = program_load(BPF_PROG_TYPE_SOCK_OPS, "exclusive", 1), cgroup;
	char path[256], up[512];

	(void)family;
	snprintf(path, sizeof(path), "%s/taken", host_cgroup("c1"));
	must("c1", "mkdir -p '%s/below'", path);
	cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(bpf_prog_attach(other, cgroup, BPF_CGROUP_SOCK_OPS, 0), 0);
	expect_status("c1", 0, "warning   the sockops program exclusive");
	config_many("other.yaml", 97, 3);
	for (int below = 0; below < 2; below++) {
		snprintf(up, sizeof(up),
			 "sidestep host up '%s' --cgroup '%s%s' 2>&1 | tee /dev/stderr | grep -q "
			 "'the sockops program exclusive (id [0-9]*) on .*/taken lets no other' && "
			 "exit 1",
			 config_path("other.yaml"), path, below ? "/below" : "");
		expect_undone("c1", up);
	}
	assert_int_equal(bpf_prog_detach2(other, cgroup, BPF_CGROUP_SOCK_OPS), 0);
	close(cgroup);
	close(other);
	must("c1", "sidestep host up '%s' --cgroup '%s/below'", config_path("other.yaml"), path);
	host_load("c1", CONFIG_CLIENT);
	must("c1", "rmdir '%s/below' '%s'", path, path);
}

/* A TCX program called "ender" on @host, which lets no other one run behind it; to be closed. */
static int ender_add(const char *host, int type, unsigned flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);
	int fd = program_load(BPF_PROG_TYPE_SCHED_CLS, "ender", 0), link;

	netns_enter(host);
	link = bpf_link_create(fd, if_nametoindex("eth0"), (enum bpf_attach_type)type, &opts);
	netns_enter(NULL);
	close(fd);
	return link;
}

#define TCX_INGRESS 46
#define TCX_EGRESS 47
#define BEFORE (1U << 3)

/*
 * Programs that end the chain are there first, on both sides: ours come ahead of them. When another
 * one comes ahead of ours, status says so.
 */
void case_tcx_first(const struct family *family)
{
	static const char *const names[] = { "c1", "s1" };
	static const char *const configs[] = { CONFIG_CLIENT, CONFIG_SERVER };
	int link[2][2], late;

	for (int i = 0; i < 2; i++) {
		host_unload(names[i]);
		link[i][0] = ender_add(names[i], TCX_INGRESS, 0);
		link[i][1] = ender_add(names[i], TCX_EGRESS, 0);
		if (link[i][0] < 0) {
			host_load(names[i], configs[i]);
			SKIP("this kernel has no TCX");
		}
		host_load(names[i], configs[i]);
		expect_status(names[i], 0, NULL);
		must(names[i], "! sidestep host status | grep ^warning");
	}
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
	late = ender_add("c1", TCX_EGRESS, BEFORE);
	assert_true(late >= 0);
	expect_status("c1", 0, "warning   eth0 egress: ender (id ");
	close(late);
	for (int i = 0; i < 2; i++) {
		close(link[i][0]);
		close(link[i][1]);
	}
}

/* The same with filters. */
void case_clsact_first(const struct family *family)
{
	static const char *const names[] = { "c1", "s1" };
	static const char *const configs[] = { CONFIG_CLIENT, CONFIG_SERVER };

	for (int i = 0; i < 2; i++) {
		host_unload(names[i]);
		must(names[i], "tc qdisc add dev eth0 clsact; for way in ingress egress; do tc "
			       "filter add dev eth0 $way pref 50 protocol all u32 match u32 0 0 "
			       "flowid 1:1 || exit 1; done");
		must(NULL, "sed 's/^host:/&\\n  attach: clsact/' '%s' >'%s'",
		     config_path(configs[i]), config_path("clsact.yaml"));
		host_load(names[i], "clsact.yaml");
		must(names[i], "! sidestep host status | grep ^warning");
	}
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
	for (int i = 0; i < 2; i++) {
		host_unload(names[i]);
		must(names[i], "tc qdisc del dev eth0 clsact");
		host_load(names[i], configs[i]);
	}
}

/* --- what others can prepare, and what would not last ---------------------------------------------- */

/* @command fails on @host with one line, which says @text. */
static void expect_refused(const char *host, const char *text, const char *command)
{
	static char output[OUTPUT_LEN];

	if (run(host, output, "%s", command) != 1 || strncmp(output, "sidestep: ", 10) ||
	    !strstr(output, text) || strchr(output, '\n') != output + strlen(output) - 1)
		fail_msg("%s: expected one line with \"%s\", got: %s", command, text, output);
}

/* Mounts of a command's own, in which pins would vanish with it; and those where they do not. */
void case_private_mounts(const struct family *family)
{
	char command[512];

	host_unload("c1");
	snprintf(command, sizeof(command),
		 "ip netns exec $(ip netns identify $$) sidestep host up '%s'",
		 config_path(CONFIG_CLIENT));
	expect_refused("c1", "nsenter --net=/run/netns/", command);
	assert_int_equal(sockops_programs("c1"), 0);
	snprintf(command, sizeof(command),
		 "unshare -m sh -c \"mount -t bpf none /sys/fs/bpf && exec sidestep host up '%s'\"",
		 config_path(CONFIG_CLIENT));
	expect_refused("c1", "would vanish", command);
	snprintf(command, sizeof(command),
		 "ip netns exec $(ip netns identify $$) sidestep balancer up '%s'",
		 config_path(CONFIG_BALANCER));
	expect_refused("lb", "nsenter --net=/run/netns/", command);
	must("c1", "unshare -m sidestep host up '%s'", config_path(CONFIG_CLIENT));
	must("c1", "sidestep host down && nsenter --net=/proc/self/ns/net sidestep host up '%s'",
	     config_path(CONFIG_CLIENT));
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}

/* Runs @prepare and then `host status`, where /run is empty before. */
#define WITH_EMPTY_RUN(prepare)                                                       \
	"unshare -m sh -c 'mount -t tmpfs -o mode=755 none /run && { " prepare "; } " \
	"&& exec sidestep host status --wait 0'"

/* A local user was there before the first command of a boot. */
void case_prepared_folders(const struct family *family)
{
	(void)family;
	must("c1", WITH_EMPTY_RUN("umask 0") " >/dev/null");
	must("c1", "unshare -m sh -c 'mount -t tmpfs -o mode=755 none /run && umask 0 && sidestep "
		   "host status && [ $(stat -c %%a.%%u /run/sidestep) = 755.0 ]'");
	must("c1",
	     WITH_EMPTY_RUN("mkdir -m 1777 /run/lock && ln -s /run/there /run/lock/sidestep"));
	expect_refused("c1", "others than root can write in /run/sidestep",
		       WITH_EMPTY_RUN("mkdir /run/sidestep && chown 65534 /run/sidestep"));
	expect_refused("c1", "others than root can write in /run/sidestep",
		       WITH_EMPTY_RUN("mkdir /run/sidestep && chmod 1777 /run/sidestep"));
	expect_refused("c1", "cannot open the folder /run/sidestep",
		       WITH_EMPTY_RUN("mkdir /run/there && ln -s there /run/sidestep"));
	expect_refused("c1", "cannot open the lock /run/sidestep/",
		       WITH_EMPTY_RUN(
			       "sidestep host status >/dev/null && for f in /run/sidestep/*; "
			       "do rm $f && ln -s /run/there $f; done"));
	expect_refused("c1", "is not a file of root",
		       WITH_EMPTY_RUN("sidestep host status >/dev/null && "
				      "chown 65534 /run/sidestep/*.lock"));
	expect_refused("c1", "is changing the same programs, and holds /run/sidestep/",
		       WITH_EMPTY_RUN(
			       "sidestep host status >/dev/null && for f in /run/sidestep/*; "
			       "do exec 9<>$f; flock 9; echo $$ >&9; done"));
	must("c1", "mkdir $SIDESTEP_PIN_DIR/prepared && chown 65534 $SIDESTEP_PIN_DIR/prepared");
	expect_refused("c1", "others than root can write in the pin folder",
		       "sidestep host status --pin-dir $SIDESTEP_PIN_DIR/prepared");
	expect_refused("c1", "others than root can write in the pin folder",
		       "sidestep host status --pin-dir $SIDESTEP_PIN_DIR/prepared/below/there");
	must("c1", "chown 0 $SIDESTEP_PIN_DIR/prepared && mkdir -m 777 "
		   "$SIDESTEP_PIN_DIR/prepared/host");
	expect_refused("c1", "others than root can write in the pin folder",
		       "sidestep host status --pin-dir $SIDESTEP_PIN_DIR/prepared");
	must("c1", "rmdir $SIDESTEP_PIN_DIR/prepared/host $SIDESTEP_PIN_DIR/prepared");
}

/* --- the command line ------------------------------------------------------------------------------ */

/* What is wrong on the command line is named, and nothing is done. */
void case_usage(const struct family *family)
{
	static const struct {
		const char *command, *text;
		int status;
	} rows[] = {
		{ "host upp", "no such command: host upp; expected up, down, status", 2 },
		{ "hst up", "no such command: hst; expected host, balancer, check", 2 },
		{ "balancer backend ad", "no such command: balancer backend ad; expected add,", 2 },
		{ "host status --pin-dir ''", "expected a folder, got nothing: --pin-dir", 2 },
		{ "host status --cgroup ''", "expected a folder, got nothing: --cgroup", 2 },
		{ "host status --wait x", "--wait takes seconds", 2 },
		{ "host status >/dev/full", "cannot write to standard output: No space left", 1 },
		{ "host status --json >/dev/full", "cannot write to standard output", 1 },
		{ "balancer status --json >/dev/full", "cannot write to standard output", 1 },
		{ "--help >/dev/full", "cannot write to standard output", 1 },
	};
	static char output[OUTPUT_LEN];

	(void)family;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const char *host = strncmp(rows[i].command, "balancer s", 10) ? "c1" : "lb";
		int status = run(host, output, "sidestep %s", rows[i].command);

		if (status != rows[i].status || !strstr(output, rows[i].text))
			fail_msg("%s: expected %d and \"%s\", got %d: %s", rows[i].command,
				 rows[i].status, rows[i].text, status, output);
	}
	must("c1", "sidestep host status >/dev/null");
}
