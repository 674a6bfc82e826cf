// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What `host up` changes while programs run, and what `host status` says of where they run. */
#include "cases.h"

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
