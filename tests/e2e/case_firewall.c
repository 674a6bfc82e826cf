// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * A stateful firewall on client and server, default drop: connection tracking sees what the kernel
 * sees, on both ways, so it finds nothing wrong with redirected connections of any kind.
 */
#include "cases.h"

#include "capture.h"
#include "programs.h"

/* Neighbour discovery is no connection. What is dropped, for whatever reason, is counted. */
static const char ruleset[] =
	"table inet guard {\n"
	"	counter lost { }\n"
	"	chain in { type filter hook input priority 0; policy drop;\n"
	"		ct state established,related accept\n"
	"		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
	"		%s\n"
	"		counter name lost drop\n"
	"	}\n"
	"	chain out { type filter hook output priority 0; policy drop;\n"
	"		ct state established,related accept\n"
	"		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
	"		%s\n"
	"		counter name lost drop\n"
	"	}\n"
	"}\n";

static void guard_begin(const char *host, const char *new_in, const char *new_out)
{
	char text[2048];

	snprintf(text, sizeof(text), ruleset, new_in, new_out);
	config_write("guard.nft", text);
	must(host, "nft -f '%s'", config_path("guard.nft"));
}

/* Nothing was lost; an invalid packet would be. */
static void guard_expect(const char *host, const char *what)
{
	static char output[OUTPUT_LEN];

	assert_int_equal(run(host, output, "nft list counter inet guard lost"), 0);
	if (!strstr(output, "packets 0 "))
		fail_msg("%s: %s: %s", host, what, output);
}

static void guard_end(const char *host)
{
	must(host, "nft delete table inet guard");
}

#define KINDS(X)              \
	X(bulk)               \
	X(server_first)       \
	X(client_half_closes) \
	X(server_half_closes) \
	X(server_resets)      \
	X(data_after_close)   \
	X(last_ack)           \
	X(path_mtu)           \
	X(path_mtu_server)

void case_firewall(const struct family *family)
{
	static const struct kind {
		const char *name;
		void (*run)(const struct family *family);
	} kinds[] = {
#define KIND(name) { #name, case_##name },
		KINDS(KIND)
#undef KIND
	};
	char served[80];

	snprintf(served, sizeof(served), "tcp dport %u tcp flags & (syn | ack) == syn accept",
		 listen_port(family, PORT_ONE));
	guard_begin("s1", served, "");
	guard_begin("c1", "", "ct state new tcp flags & (syn | ack) == syn accept");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		counters_mark();
		capture_clear();
		kinds[i].run(family);
		guard_expect("c1", kinds[i].name);
		guard_expect("s1", kinds[i].name);
	}
	guard_end("c1");
	guard_end("s1");
}
