// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Invariant I3: something is missing, and a counter says what. */
#include "cases.h"

#include <stdlib.h>
#include <sys/utsname.h>

#include <bpf/bpf.h>
#include <jansson.h>

#include "capture.h"
#include "programs.h"

#define SOME_BYTES (4 * MB)
#define RUNS_MAX 20 /* of the sockops program, for one connection */

void case_no_host_programs(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, NULL);

	host_unload("c1");
	child_join(child_start("c1", vain_client, talk));
	expect_crossing(1, 0);
	assert_int_equal(counted("lb", "drop_no_request"), 1);
	talk_finish(talk);

	host_load("c1", CONFIG_CLIENT);
	counters_mark();
	capture_clear();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}

/* --- listeners that were there first ------------------------------------------------------------ */

/* Can the programs be switched on for a socket that listens already? */
static bool can_adopt(void)
{
	struct utsname name;
	int major, minor;

	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%d.%d", &major, &minor), 2);
	return major > 6 || (major == 6 && minor >= 12);
}

/* How many listeners `sidestep host status` on s1 wants to be restarted; all of them at @port. */
static size_t must_restart(uint16_t port)
{
	static char output[OUTPUT_LEN];
	json_t *status, *list, *item;
	char ending[16];
	size_t i, n;

	assert_int_equal(run("s1", output, "sidestep host status --json"), 0);
	status = json_loads(output, 0, NULL);
	list = json_object_get(status, "listeners_that_must_restart");
	assert_true(json_is_array(list));
	snprintf(ending, sizeof(ending), ":%u", port);
	json_array_foreach(list, i, item)
		assert_string_equal(strrchr(json_string_value(item), ':'), ending);
	n = json_array_size(list);
	json_decref(status);
	assert_int_equal(run("s1", output, "sidestep host status | grep ^restart"), !n);
	return n;
}

/* Such a listener has no callbacks; its SYN-ACKs come from an address that nobody dialled. */
static void expect_no_grant(struct talk *talk)
{
	child_join(child_start("c1", vain_client, talk));
	expect_outcome("c1", "client_direct", 0);
	expect_outcome("s1", "server_direct", 0);
	assert_int_equal(counted("s1", "syn_old_listener"), 1);
	expect_crossing(1, 1);
	talk_abandon(talk);
}

/* @talk's server listened before the programs knew that it should be looked at. */
static void expect_adopted(struct talk *talk)
{
	uint16_t port = listen_port(talk->family, talk->vport);

	counters_mark();
	if (!can_adopt()) {
		assert_int_equal(must_restart(port), 1);
		expect_no_grant(talk);
		return;
	}
	assert_int_equal(must_restart(port), 0);
	talk_dial(talk);
	talk_finish(talk);
	expect_direct(1);
	assert_int_equal(counted("s1", "syn_old_listener"), 0);
}

/* The kernel calls for the handshake, but not for a connection's every packet. */
void case_adopted_callbacks(const struct family *family)
{
	struct talk *talk = stream_new(family, SOME_BYTES);
	unsigned long before;
	int stats;

	if (!can_adopt())
		SKIP("this kernel cannot adopt listeners");
	host_unload("s1");
	talk_serve(talk);
	host_load("s1", CONFIG_SERVER);
	stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	assert_true(stats >= 0);
	before = sockops_runs("s1");
	talk_dial(talk);
	stream_finish(talk);
	assert_in_range(sockops_runs("s1") - before, 1, RUNS_MAX);
	close(stats);
}

void case_listener_first(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, echo_client, echo_server);

	host_unload("s1");
	talk_serve(talk);
	host_load("s1", CONFIG_SERVER);
	expect_adopted(talk);
}

/* The programs are there, but its service is not. */
void case_served_later(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_OTHER, echo_client, echo_server);

	must("s1", "sidestep host up netns-testbed/config/server.yaml");
	talk_serve(talk);
	assert_int_equal(must_restart(0), 0);
	host_load("s1", CONFIG_SERVER);
	expect_adopted(talk);
}

/* The maps say that sockets at @port are to be looked at, but nothing is adopted. */
static void port_add(uint16_t port)
{
	int map = pin_open("s1", "listen_ports");
	__u32 key = port;

	assert_int_equal(bpf_map_update_elem(map, &key, &key, BPF_ANY), 0);
	close(map);
}

/* What does not concern the programs, or belongs to others, does not have to restart. */
void case_must_restart(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_UNSERVED, NULL, echo_server);
	uint16_t port = listen_port(family, PORT_UNSERVED);

	talk_serve(talk);
	assert_int_equal(must_restart(port), 0);
	port_add(port);
	assert_int_equal(must_restart(port), 1);
	child_kill(talk->server_pid);
	talk_serve_outside(talk);
	assert_int_equal(must_restart(port), 0);
	talk_abandon(talk);
	host_load("s1", CONFIG_SERVER);
}

/* --- other things that are missing -------------------------------------------------------------- */

/* TCP's RSTs that @host has received, as its kernel tells (EstabResets + AttemptFails). */
static long resets(const char *host)
{
	static char output[OUTPUT_LEN];

	assert_int_equal(run(host, output, "awk '/^Tcp: [0-9]/ { print $8 + $9 }' /proc/net/snmp"),
			 0);
	return atol(output);
}

/*
 * The programs have nothing to do with that port, so the SYN-ACK comes from the server's own
 * address. A RST in reply would end what the server has half open.
 */
void case_not_served(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_UNSERVED, NULL, echo_server);
	long before = resets("s1");

	/* A new namespace takes that from the machine's own; on a host that forwards nothing is dropped */
	must("c1", "sysctl -qw net.ipv4.conf.eth0.forwarding=0");
	talk_serve(talk);
	child_join(child_start("c1", vain_client, talk));
	expect_outcome("c1", "client_direct", 0);
	expect_outcome("s1", "server_direct", 0);
	assert_int_equal(counted("s1", "syn_not_served"), 1);
	assert_true(counted("c1", "synack_dropped") >= 1); /* the server repeats it after 1 s */
	assert_int_equal(resets("s1"), before);
	expect_crossing(1, 1);
	talk_abandon(talk);
}

/* The grant is refused with its SYN-ACK. */
static void refused_strictly(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, echo_server);
	long before = resets("s1"), known = strict_connections("c1");

	talk_serve(talk);
	child_join(child_start("c1", vain_client, talk));
	assert_in_range(strict_connections("c1"), 0, known); /* earlier ones may be over by now */
	assert_int_equal(resets("s1"), before);
	expect_outcome("c1", "client_direct", 0);
	expect_crossing(1, 1);
	talk_abandon(talk);
}

/* A client that takes grants from other servers than s1. */
static void refused_talk(const struct family *family)
{
	config_write("elsewhere.yaml", "host:\n"
				       "  interfaces: [eth0]\n"
				       "  dial: [10.99.0.0/24, \"fd00:99::/64\"]\n"
				       "  backends: [10.0.4.0/24, \"fd00:1:4::/64\"]\n");
	host_load("c1", "elsewhere.yaml");
	if (family->strict) { /* the client would have to learn whose packets those are */
		refused_strictly(family);
	} else {
		talk_one(family, echo_client, echo_server);
		expect_outcome("c1", "client_out_of_range", 1);
		expect_through_balancer(1);
	}
	host_load("c1", CONFIG_CLIENT);
}

void case_out_of_range(const struct family *family)
{
	refused_talk(family);
	assert_int_equal(counted("s1", "server_direct"), !family->strict);
}

/* The server has to hear of the service all the same. */
void case_cookie_refused(const struct family *family)
{
	cookies_always(true);
	refused_talk(family);
	cookies_always(false);
	assert_int_equal(counted("s1", "server_cookie_direct"), !family->strict);
}

/*
 * With checksum offload a packet crosses virtual links without a finished checksum, which nobody
 * looks at. Without it the kernel finishes what the programs left, and the other end checks it.
 */
void case_checksums(const struct family *family)
{
	static void (*const again[])(const struct family *family) = {
		case_client_half_closes, case_server_half_closes, case_server_resets,
		case_families,		 case_data_after_close,	  case_last_ack,
		case_out_of_range,	 case_syn_cookie,
	};
	static const char *const names[] = { "c1", "s1" };

	for (int i = 0; i < 2; i++)
		must(names[i], "ethtool -K eth0 tx off");
	for (size_t i = 0; i < sizeof(again) / sizeof(*again); i++) {
		counters_mark();
		capture_clear();
		again[i](family);
	}
	for (int i = 0; i < 2; i++)
		must(names[i], "ethtool -K eth0 tx on");
}
