// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The balancer's interfaces: what their drivers refuse, and what the kernel around the program does. */
#include "cases.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "capture.h"
#include "programs.h"

static void expect_says(const char *host, int status, const char *word1, const char *word2,
			const char *command)
{
	static char output[OUTPUT_LEN];
	int got = run(host, output, "%s", command);

	if (got != status || !strstr(output, word1) || !strstr(output, word2))
		fail_msg("%s: expected status %d, \"%s\" and \"%s\"; got %d: %s", command, status,
			 word1, word2, got, output);
}

/* The testbed's configuration with `xdp_mode: @mode`: the command that loads it. */
static const char *up_by(const char *mode)
{
	static char command[512];

	must(NULL, "sed 's#^balancer:#&\\n  xdp_mode: %s#' '%s' >'%s'", mode,
	     config_path(CONFIG_BALANCER), config_path("mode.yaml"));
	snprintf(command, sizeof(command), "sidestep balancer up '%s' 2>&1",
		 config_path("mode.yaml"));
	return command;
}

static void works(const struct family *family)
{
	counters_mark();
	capture_clear();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}

/* No driver takes XDP on a veth whose peer has jumbo frames. */
void case_xdp_modes(const struct family *family)
{
	balancer_unload();
	must("r", "ip link set to-lb mtu 9000");
	expect_says("lb", 1, "MTU", "ip link set eth0 mtu 1500", up_by("native"));
	must("lb", "! ip link show dev eth0 | grep -q xdp && ! sidestep balancer status");
	expect_says("lb", 0, "MTU", "generic", up_by("auto"));
	expect_says("lb", 0, "eth0 (generic)", "", "sidestep balancer status");
	works(family);
	balancer_unload();
	must("lb", "ethtool -K eth0 gro on");
	expect_says("lb", 1, "ethtool -K eth0 gro off", "generic", up_by("auto"));
	must("lb", "ethtool -K eth0 gro off");
	must("r", "ip link set to-lb mtu 1500");
	expect_says("lb", 0, "", "", up_by("generic"));
	expect_says("lb", 0, "eth0 (generic)", "", "sidestep balancer status");
	expect_says("lb", 0, "", "", up_by("native"));
	expect_says("lb", 0, "eth0 (native)", "", "sidestep balancer status");
	works(family);
}

/* The kernel forwards nothing, and nobody but sidestep has it resolve the way to the servers. */
static void filter_begin(bool v6)
{
	must("r", "ip addr add %s dev to-lb%s", v6 ? "fd00:1:2::9/128" : "10.0.2.9/32",
	     v6 ? " nodad" : "");
	must("lb", "ip route replace %s via %s", v6 ? "fd00:1:3::/64" : "10.0.3.0/24",
	     v6 ? "fd00:1:2::9" : "10.0.2.9");
	must("lb",
	     "nft 'add table inet fw; add chain inet fw f { type filter hook forward priority 0; "
	     "policy drop; }'");
}

static void filter_end(bool v6)
{
	must("lb", "nft delete table inet fw && ip route del %s",
	     v6 ? "fd00:1:3::/64 via fd00:1:2::9" : "10.0.3.0/24 via 10.0.2.9");
	must("r", "ip addr del %s dev to-lb", v6 ? "fd00:1:2::9/128" : "10.0.2.9/32");
}

void case_next_hop_kept(const struct family *family)
{
	bool v6 = family->af == AF_INET6;
	const char *hop = v6 ? "fd00:1:2::9" : "10.0.2.9";

	balancer_unload();
	filter_begin(v6);
	balancer_load();
	must("lb", "ip neigh show %s dev eth0 | grep -q managed", hop);
	works(family);
	assert_int_equal(counted("lb", "stack_forwarded"), 0);
	must("lb", "! sidestep balancer status | grep -q 'is not reached'");
	must("r", "ip addr del %s dev to-lb", v6 ? "fd00:1:2::9/128" : "10.0.2.9/32");
	must("lb", "ip neigh flush dev eth0 %s", hop);
	must("lb", "sidestep balancer status | grep -q 's1 is not reached'");
	must("r", "ip addr add %s dev to-lb%s", v6 ? "fd00:1:2::9/128" : "10.0.2.9/32",
	     v6 ? " nodad" : "");
	balancer_unload();
	must("lb", "! ip neigh show %s dev eth0 | grep -q managed", hop);
	filter_end(v6);
	balancer_load();
}

/* By nat, a server on the balancer itself would answer its clients past it. */
void case_backend_itself(const struct family *family)
{
	char config[256];

	snprintf(config, sizeof(config),
		 "balancer:\n  interfaces: [eth0]\nservices:\n"
		 "  - {name: self, vip: \"%s\", method: nat, backends: [{name: me, address: "
		 "\"%s\"}]}\n",
		 family->af == AF_INET6 ? "[fd00:99::1]:86" : "10.99.0.1:86",
		 family->af == AF_INET6 ? "[fd00:1:2::2]:86" : "10.0.2.2:86");
	config_write("self.yaml", config);
	snprintf(config, sizeof(config), "sidestep balancer up '%s' 2>&1",
		 config_path("self.yaml"));
	expect_says("lb", 1, "backend me is this machine itself", "nat", config);
	works(family);
}

/* From Linux 6.3 on the kernel says what takes frames from XDP. */
static bool kernel_says(void)
{
	struct utsname name;
	int major = 0, minor = 0;

	assert_int_equal(uname(&name), 0);
	(void)sscanf(name.release, "%d.%d", &major, &minor);
	return major > 6 || (major == 6 && minor >= 3);
}

/* The way to the servers leaves by another veth, whose peer takes frames from XDP only with GRO. */
void case_second_arm(const struct family *family)
{
	const char *up = up_by("native");
	static char output[OUTPUT_LEN];

	(void)family;
	if (!kernel_says())
		return;
	must("lb",
	     "ip link add arm address 02:00:00:00:09:02 type veth peer name arm-peer && "
	     "ip addr add 10.0.9.2/24 dev arm && ip link set arm up && ip link set arm-peer up "
	     "&& ip route replace 10.0.3.0/24 via 10.0.9.1");
	expect_says("lb", 0, "leave by arm", "they will be lost", up);
	must("lb", "ethtool -K arm-peer gro on");
	assert_int_equal(run("lb", output, "%s", up), 0);
	assert_string_equal(output, "");
	must("lb", "ip link del arm");
	balancer_unload();
	balancer_load();
}
