// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The balancer's interfaces: what their drivers refuse, and what the kernel around the program does. */
#include "cases.h"

#include <string.h>

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
