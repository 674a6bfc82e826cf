// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Step 2 of a connection, packet in, packet out: what the balancer's XDP program makes of a frame.
 *
 * First a table of frames: what goes in, and what has to come out, with the counters that move.
 * Then what takes many packets to see: which backend gets which flow, and next hops.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>
#include <net/if.h>

#include <sidestep/counters.h>
#include <sidestep/option.h>

#include "address.h"
#include "balancer_load.h"
#include "lb_apply.h"
#include "lb_skel.h"
#include "map_sync.h"
#include "packet.h"
#include "progrun.h"

/* Options: of a default Linux SYN, and what may stand beside ours. */
#define MSS "\2\4\5\xb4"
#define LINUX MSS "\4\2\x8\xa\0\0\0\1\0\0\0\0\1\3\3\7"
#define NOP4 "\1\1\1\1"
#define EOL "\0"
#define OTHER_253 "\xfd\x8\xf9\x89\1\2\3\4" /* another experiment's ExID */
#define OTHER_254 "\xfe\x8\x5d\x50\1\2\3\4" /* our ExID, but the other kind */

/* Requests and grants, with content. */
#define ADDR4 "\xa\x63\0\1"
#define ADDR6 "\xfd\0\0\x99\0\0\0\0\0\0\0\0\0\0\0\1"
#define TAG6 "\x45\x86\xf0\xc9\x91\x4a" /* [fd00:99::1]:81 */
#define CLIENT_TAG6 "\x78\x5c\xd0\xf8\xe4\xbc" /* [fd00:1::2]:40000 */
#define PORT_TAG6 "\x2d\x59\xd8\xb7\x3f\xa3" /* [fd00:1::2]:40001 */
#define OTHER_TAG6 "\x4a\xbf\x0b\x12\x15\xfe" /* [fd00:1::77]:40000 */
#define REST6 TAG6 CLIENT_TAG6 PORTS6
#define PORTS6 "\0\x51\x9c\x40"
#define FULL_REST ADDR4 "\xa\0\1\2\0\x51\x9c\x40"
#define FULL "\xfd\x10\x5d\x52" FULL_REST
#define FULL_RETRY "\xfd\x10\x5d\x53" FULL_REST
#define SHORT "\xfd\x8\x5d\x50" ADDR4
#define SHORT_RETRY "\xfd\x8\x5d\x51" ADDR4
#define REQUEST6 "\xfd\x14\x5d\x54" REST6
#define REQUEST6_RETRY "\xfd\x14\x5d\x55" REST6
#define TAG6_SHORT "\x45\x86\xf0\xc9"
#define SHORT6 "\xfd\x8\x5d\x56" TAG6_SHORT
#define SHORT6_RETRY "\xfd\x8\x5d\x57" TAG6_SHORT
#define HELD "\xfd\x10\x5d\x42" FULL_REST
#define HELD_RETRY "\xfd\x10\x5d\x43" FULL_REST
#define HELD_SHORT "\xfd\x8\x5d\x40" ADDR4
#define HELD6 "\xfd\x14\x5d\x44" REST6
#define HELD6_RETRY "\xfd\x14\x5d\x45" REST6
#define HELD6_SHORT "\xfd\x8\x5d\x46" TAG6_SHORT
#define JUDGED "\xfd\x10\x5d\x62" FULL_REST
#define JUDGED6 "\xfd\x14\x5d\x64" REST6
/* Requests of another client, or from another port, than the packet's. */
#define OTHER_REST ADDR4 "\xa\0\1\3\0\x51\x9c\x40"
#define OTHER_CLIENT "\xfd\x10\x5d\x52" OTHER_REST
#define OTHER_PORT "\xfd\x10\x5d\x52" ADDR4 "\xa\0\1\2\0\x51\x9c\x41"
#define OTHER_REST6 TAG6 OTHER_TAG6 PORTS6
#define OTHER_CLIENT6 "\xfd\x14\x5d\x54" OTHER_REST6
#define OTHER_PORT6 "\xfd\x14\x5d\x54" TAG6 PORT_TAG6 "\0\x51\x9c\x41"
#define GRANT_REST "\xa\0\3\2\x1f\x90\0\0"
#define SHORT_GRANT "\xfd\x8\x5d\x5b" TAG6_SHORT

/* The services, by their port on both VIPs. */
#define THREE "80" /* Maglev, three backends */
#define ONE "81" /* Maglev, one backend */
#define TURNS "82" /* round robin, three backends */
#define TURNS_ONE "83" /* round robin, one backend */
#define DRAINED "84" /* Maglev, no backend is up */
#define WEIGHTLESS "85" /* Maglev, no backend has a weight */
#define TURNS_DRAINED "86" /* round robin, no backend is up */
#define TWO "87" /* Maglev, two backends */
#define TURNS_TWO "88" /* round robin, two backends */
#define WRAPPED "89" /* by ipip, one backend */
#define WRAPPED_UDP "90" /* by gue, one backend */
#define WRAPPED_TURNS "91" /* by ipip, round robin */
#define RANDOM_THREE "92" /* random, three backends */
#define RANDOM_ONE "93" /* random, one backend */
#define RANDOM_TWO "94" /* random, two backends */
#define SOURCE_THREE "95" /* source hash, three backends */
#define SOURCE_ONE "96" /* source hash, one backend */
#define SOURCE_TWO "97" /* source hash, two backends */
#define ACROSS "100" /* by ipip, one backend, of the other IP version */
#define ACROSS_UDP "101" /* the same by gue */
#define NO_SERVICE "99"

/* The only backend of those with one. */
#define BACKEND4 "10.0.3.9:8080"
#define BACKEND6 "[fd00:3::9]:8080"

struct backend_row {
	const char *address;
	unsigned weight;
	enum ss_backend_state state;
};
/* clang-format off */
#define UP(address) { address, 100, SS_BACKEND_UP }
#define WEIGHT(address, weight) { address, weight, SS_BACKEND_UP }
#define DRAIN(address) { address, 100, SS_BACKEND_DRAIN }
#define DOWN(address) { address, 100, SS_BACKEND_DOWN }
/* clang-format on */

#define BACKENDS_MAX 4
struct service_row {
	const char *vip;
	enum ss_scheduler scheduler;
	struct backend_row backend[BACKENDS_MAX];
	enum ss_method method;
	bool flow_table, fail_open;
	unsigned slots; /* 0: as many as so few backends ask for */
};
#define MAGLEV SS_SCHED_MAGLEV
#define ROUND_ROBIN SS_SCHED_ROUND_ROBIN
#define RANDOM SS_SCHED_RANDOM
#define SOURCE_HASH SS_SCHED_SOURCE_HASH
#define TWO4 UP("10.0.3.1:8080"), UP("10.0.3.2:8080")
#define TWO6 UP("[fd00:3::1]:8080"), UP("[fd00:3::2]:8080")

static const struct service_row services[] = {
	{ "10.99.0.1:" THREE, MAGLEV, { TWO4, UP("10.0.3.3:8080") } },
	{ "10.99.0.1:" ONE, MAGLEV, { UP(BACKEND4), DRAIN("10.0.3.1:8080") } },
	{ "10.99.0.1:" TURNS, ROUND_ROBIN, { TWO4, UP("10.0.3.3:8080") } },
	{ "10.99.0.1:" TURNS_ONE, ROUND_ROBIN, { UP(BACKEND4) } },
	{ "10.99.0.1:" DRAINED, MAGLEV, { DRAIN("10.0.3.1:8080"), DRAIN("10.0.3.2:8080") } },
	{ "10.99.0.1:" WEIGHTLESS, MAGLEV, { WEIGHT("10.0.3.1:8080", 0) } },
	{ "10.99.0.1:" TURNS_DRAINED, ROUND_ROBIN, { DRAIN("10.0.3.1:8080") } },
	{ "10.99.0.1:" TWO, MAGLEV, { TWO4 } },
	{ "10.99.0.1:" TURNS_TWO, ROUND_ROBIN, { TWO4 } },
	{ "10.99.0.1:" RANDOM_THREE, RANDOM, { TWO4, UP("10.0.3.3:8080") } },
	{ "10.99.0.1:" RANDOM_ONE, RANDOM, { UP(BACKEND4) } },
	{ "10.99.0.1:" RANDOM_TWO, RANDOM, { TWO4 } },
	{ "10.99.0.1:" SOURCE_THREE, SOURCE_HASH, { TWO4, UP("10.0.3.3:8080") } },
	{ "10.99.0.1:" SOURCE_ONE, SOURCE_HASH, { UP(BACKEND4) } },
	{ "10.99.0.1:" SOURCE_TWO, SOURCE_HASH, { TWO4 } },
	{ "[fd00:99::1]:" THREE, MAGLEV, { TWO6, UP("[fd00:3::3]:8080") } },
	{ "[fd00:99::1]:" ONE, MAGLEV, { UP(BACKEND6), DRAIN("[fd00:3::1]:8080") } },
	{ "[fd00:99::1]:" TURNS, ROUND_ROBIN, { TWO6, UP("[fd00:3::3]:8080") } },
	{ "[fd00:99::1]:" TURNS_ONE, ROUND_ROBIN, { UP(BACKEND6) } },
	{ "[fd00:99::1]:" DRAINED, MAGLEV, { DRAIN("[fd00:3::1]:8080") } },
	{ "[fd00:99::1]:" WEIGHTLESS, MAGLEV, { WEIGHT("[fd00:3::1]:8080", 0) } },
	{ "[fd00:99::1]:" TURNS_DRAINED, ROUND_ROBIN, { DRAIN("[fd00:3::1]:8080") } },
	{ "[fd00:99::1]:" TWO, MAGLEV, { TWO6 } },
	{ "[fd00:99::1]:" TURNS_TWO, ROUND_ROBIN, { TWO6 } },
	{ "10.99.0.1:" WRAPPED, MAGLEV, { UP(BACKEND4) }, SS_METHOD_IPIP },
	{ "10.99.0.1:" WRAPPED_UDP, MAGLEV, { UP(BACKEND4) }, SS_METHOD_GUE },
	{ "10.99.0.1:" WRAPPED_TURNS, ROUND_ROBIN, { UP(BACKEND4) }, SS_METHOD_IPIP },
	{ "10.99.0.1:" ACROSS, MAGLEV, { UP(BACKEND6) }, SS_METHOD_IPIP },
	{ "10.99.0.1:" ACROSS_UDP, MAGLEV, { UP(BACKEND6) }, SS_METHOD_GUE },
	{ "[fd00:99::1]:" ACROSS, MAGLEV, { UP(BACKEND4) }, SS_METHOD_IPIP },
	{ "[fd00:99::1]:" ACROSS_UDP, MAGLEV, { UP(BACKEND4) }, SS_METHOD_GUE },
	{ "[fd00:99::1]:" WRAPPED, MAGLEV, { UP(BACKEND6) }, SS_METHOD_IPIP },
	{ "[fd00:99::1]:" WRAPPED_UDP, MAGLEV, { UP(BACKEND6) }, SS_METHOD_GUE },
	{ "[fd00:99::1]:" RANDOM_THREE, RANDOM, { TWO6, UP("[fd00:3::3]:8080") } },
	{ "[fd00:99::1]:" RANDOM_ONE, RANDOM, { UP(BACKEND6) } },
	{ "[fd00:99::1]:" RANDOM_TWO, RANDOM, { TWO6 } },
	{ "[fd00:99::1]:" SOURCE_THREE, SOURCE_HASH, { TWO6, UP("[fd00:3::3]:8080") } },
	{ "[fd00:99::1]:" SOURCE_ONE, SOURCE_HASH, { UP(BACKEND6) } },
	{ "[fd00:99::1]:" SOURCE_TWO, SOURCE_HASH, { TWO6 } },
};

/* Where outer headers come from. */
#define SOURCE4 "10.0.2.7"
#define SOURCE6 "fd00:2::7"

/* --- the table of frames --------------------------------------------------------------------- */

#define CLIENT4 "10.0.1.2:40000"
#define CLIENT6 "[fd00:1::2]:40000"
#define OPTIONS(s) .options = (s), .options_len = sizeof(s) - 1
#define PAYLOAD(s) .payload = (s), .payload_len = sizeof(s) - 1
#define IP_OPTIONS(s) .ip_options = (s), .ip_options_len = sizeof(s) - 1
#define EXT(type, s) .ip6_next = type, IP_OPTIONS(s)

/* A packet to a service; what else it has as designated members of struct packet_spec. */
/* clang-format off */
#define TO4(service, letters, ...)                                                                 \
	{ .src = CLIENT4, .dst = "10.99.0.1:" service, .flags = letters, ##__VA_ARGS__ }
#define TO6(service, letters, ...)                                                                 \
	{ .src = CLIENT6, .dst = "[fd00:99::1]:" service, .flags = letters, ##__VA_ARGS__ }
/* clang-format on */
#define SYN4(service, options) TO4(service, "S", OPTIONS(options))
#define SYN6(service, options) TO6(service, "S", OPTIONS(options))

/* What has to come out, with the counters that have to move. */
#define SENT(counters) XDP_TX, counters
#define SYN_SENT SENT(C(syn_forwarded))
#define RETRY_SENT SENT(C(syn_forwarded) | C(syn_retried))
#define HELD_SENT SENT(C(syn_forwarded) | C(syn_held))
#define HELD_RETRY_SENT SENT(C(syn_forwarded) | C(syn_retried) | C(syn_held))
#define OTHER_SENT SENT(C(other_forwarded))
#define DROPPED(reason) XDP_DROP, C(reason)
#define PASSED XDP_PASS, 0

/* IPv6 extension headers (RFC 8200): the next one's type, and padding inside. */
#define HOP_BY_HOP 0
#define ROUTING 43
#define FRAGMENT 44
#define DESTINATION 60
#define THEN_TCP "\6\0\1\4\0\0\0\0"
#define THEN_DESTINATION "\x3c\0\1\4\0\0\0\0"
#define THEN_FRAGMENT "\x2c\0\1\4\0\0\0\0"
#define FRAGMENT_OF_TCP(offset_and_more) "\6\0" offset_and_more "\0\0\0\1"

static const struct row {
	const char *why;
	struct packet_case in;
	unsigned verdict;
	__u64 counters;
} rows[] = {
	/* SYNs with a request, as the kernel writes it: at the header's tail. */
	{ "full request", { SYN4(ONE, LINUX FULL) }, SYN_SENT },
	{ "full request, retry", { SYN4(ONE, LINUX FULL_RETRY) }, RETRY_SENT },
	{ "short request", { SYN4(ONE, LINUX SHORT) }, SYN_SENT },
	{ "short request, retry", { SYN4(ONE, LINUX SHORT_RETRY) }, RETRY_SENT },
	{ "v6 request", { SYN6(ONE, LINUX REQUEST6) }, SYN_SENT },
	{ "v6 request, retry", { SYN6(ONE, LINUX REQUEST6_RETRY) }, RETRY_SENT },
	{ "v6 short request", { SYN6(ONE, LINUX SHORT6) }, SYN_SENT },
	{ "v6 short request, retry", { SYN6(ONE, LINUX SHORT6_RETRY) }, RETRY_SENT },
	{ "round robin", { SYN4(TURNS_ONE, LINUX FULL) }, SYN_SENT },
	{ "round robin, retry", { SYN4(TURNS_ONE, LINUX FULL_RETRY) }, RETRY_SENT },
	{ "v6 round robin", { SYN6(TURNS_ONE, LINUX REQUEST6) }, SYN_SENT },
	{ "v6 round robin, retry", { SYN6(TURNS_ONE, LINUX REQUEST6_RETRY) }, RETRY_SENT },
	{ "request alone", { SYN4(ONE, FULL) }, SYN_SENT },
	{ "short request alone", { SYN4(ONE, SHORT) }, SYN_SENT },
	{ "v6 request alone", { SYN6(ONE, REQUEST6) }, SYN_SENT },
	{ "v6 short request alone", { SYN6(ONE, SHORT6) }, SYN_SENT },
	{ "with data (Fast Open)", { TO4(ONE, "S", OPTIONS(SHORT), PAYLOAD("GET /")) }, SYN_SENT },
	{ "v6 with data", { TO6(ONE, "S", OPTIONS(REQUEST6), PAYLOAD("GET /")) }, SYN_SENT },
	{ "Ethernet padding", { SYN4(ONE, SHORT), .padding = 18 }, SYN_SENT },
	{ "v6 Ethernet padding", { SYN6(ONE, REQUEST6), .padding = 18 }, SYN_SENT },

	/* Requests elsewhere. */
	{ "first of the options", { SYN4(ONE, FULL LINUX) }, SYN_SENT },
	{ "v6 first of the options", { SYN6(ONE, REQUEST6 LINUX) }, SYN_SENT },
	{ "retry, first of the options", { SYN4(ONE, FULL_RETRY LINUX) }, RETRY_SENT },
	{ "unaligned, NOPs around", { SYN4(ONE, MSS "\1" FULL "\1\1\1") }, SYN_SENT },
	{ "short, unaligned", { SYN4(ONE, "\1" SHORT "\1\1\1") }, SYN_SENT },
	{ "v6 unaligned", { SYN6(ONE, "\1\1" REQUEST6 "\1\1") }, SYN_SENT },
	{ "v6 short, first of the options", { SYN6(ONE, SHORT6 LINUX) }, SYN_SENT },
	{ "v6 short, unaligned", { SYN6(ONE, "\1" SHORT6 "\1\1\1") }, SYN_SENT },
	{ "end of list behind it", { SYN4(ONE, FULL EOL EOL EOL EOL) }, SYN_SENT },
	{ "other 253 before it", { SYN4(ONE, OTHER_253 FULL) }, SYN_SENT },
	{ "other 253 behind it", { SYN4(ONE, FULL OTHER_253) }, SYN_SENT },
	{ "other 254 before it", { SYN4(ONE, OTHER_254 SHORT) }, SYN_SENT },
	{ "other 254 behind it", { SYN4(ONE, SHORT OTHER_254) }, SYN_SENT },
	{ "between both", { SYN4(ONE, OTHER_253 FULL OTHER_254) }, SYN_SENT },
	{ "v6 between both", { SYN6(ONE, OTHER_253 REQUEST6 OTHER_254) }, SYN_SENT },
	{ "v6 the other kind's like it", { SYN6(ONE, OTHER_254 SHORT6) }, SYN_SENT },
	{ "40 bytes of options", { SYN4(ONE, LINUX FULL NOP4) }, SYN_SENT },
	{ "a grant before it", { SYN4(ONE, "\xfd\xc\x5d\x58" GRANT_REST FULL) }, SYN_SENT },
	{ "v6 a short grant before it", { SYN6(ONE, SHORT_GRANT REQUEST6) }, SYN_SENT },

	/* Requests that the client holds; held_rows has more. */
	{ "held", { SYN4(ONE, LINUX HELD) }, HELD_SENT },
	{ "held, retry", { SYN4(ONE, LINUX HELD_RETRY) }, HELD_RETRY_SENT },
	{ "held, short", { SYN4(ONE, LINUX HELD_SHORT) }, HELD_SENT },
	{ "held, first of the options", { SYN4(ONE, HELD LINUX) }, HELD_SENT },
	{ "held, with data", { TO4(ONE, "S", OPTIONS(HELD), PAYLOAD("GET /")) }, HELD_SENT },
	{ "held, Ethernet padding", { SYN4(ONE, HELD_SHORT), .padding = 18 }, HELD_SENT },
	{ "held, IPv4 options",
	  { TO4(ONE, "S", OPTIONS(LINUX HELD), IP_OPTIONS(NOP4)) },
	  HELD_SENT },
	{ "v6 held", { SYN6(ONE, LINUX HELD6) }, HELD_SENT },
	{ "v6 held, retry", { SYN6(ONE, LINUX HELD6_RETRY) }, HELD_RETRY_SENT },
	{ "v6 held, short", { SYN6(ONE, LINUX HELD6_SHORT) }, HELD_SENT },
	{ "v6 held, first of the options", { SYN6(ONE, HELD6 LINUX) }, HELD_SENT },
	{ "v6 held, hop-by-hop options",
	  { TO6(ONE, "S", OPTIONS(LINUX HELD6), EXT(HOP_BY_HOP, THEN_TCP)) },
	  HELD_SENT },

	/* SYNs without one, or with broken options. */
	{ "no options", { SYN4(ONE, "") }, DROPPED(drop_no_request) },
	{ "v6 no options", { SYN6(ONE, "") }, DROPPED(drop_no_request) },
	{ "default Linux SYN", { SYN4(ONE, LINUX) }, DROPPED(drop_no_request) },
	{ "v6 default Linux SYN", { SYN6(ONE, LINUX) }, DROPPED(drop_no_request) },
	{ "round robin, no request", { SYN4(TURNS_ONE, LINUX) }, DROPPED(drop_no_request) },
	{ "other experiments only", { SYN4(ONE, OTHER_253 OTHER_254) }, DROPPED(drop_no_request) },
	{ "behind the end of list",
	  { SYN4(ONE, EOL "\4\1\1" FULL NOP4) },
	  DROPPED(drop_no_request) },
	{ "inside another option", { SYN4(ONE, "\x8\x12" FULL NOP4) }, DROPPED(drop_no_request) },
	{ "length 0 before it", { SYN4(ONE, "\x8\0\1\1" FULL NOP4) }, DROPPED(drop_no_request) },
	{ "length 1 before it", { SYN4(ONE, "\x8\1\1\1" FULL NOP4) }, DROPPED(drop_no_request) },
	{ "overrun before it", { SYN4(ONE, "\x8\x29\1\1" FULL NOP4) }, DROPPED(drop_no_request) },
	{ "no length byte", { SYN4(ONE, MSS "\1\1\1\x8") }, DROPPED(drop_no_request) },
	{ "ours, length 0", { SYN4(ONE, "\xfd\0\x5d\x52" FULL_REST) }, DROPPED(drop_no_request) },
	{ "ours, length 1", { SYN4(ONE, "\xfd\1\x5d\x52" FULL_REST) }, DROPPED(drop_no_request) },
	{ "ours, too short", { SYN4(ONE, "\xfd\xf\x5d\x52" FULL_REST) }, DROPPED(drop_no_request) },
	{ "ours, too long",
	  { SYN4(ONE, "\xfd\x11\x5d\x52" FULL_REST NOP4) },
	  DROPPED(drop_no_request) },
	{ "ours, overrun", { SYN4(ONE, "\xfd\x10\x5d\x52" ADDR4) }, DROPPED(drop_no_request) },
	{ "full with the length of short",
	  { SYN4(ONE, "\xfd\x8\x5d\x52" ADDR4) },
	  DROPPED(drop_no_request) },
	{ "short with the length of full",
	  { SYN4(ONE, "\xfd\x10\x5d\x50" FULL_REST) },
	  DROPPED(drop_no_request) },
	{ "v6 ours, wrong length",
	  { SYN6(ONE, "\xfd\x10\x5d\x54" FULL_REST) },
	  DROPPED(drop_no_request) },
	{ "IPv6's short form in IPv4", { SYN4(ONE, SHORT6) }, DROPPED(drop_no_request) },
	{ "IPv4's short form in IPv6", { SYN6(ONE, SHORT) }, DROPPED(drop_no_request) },
	{ "v6 full with the length of short",
	  { SYN6(ONE, "\xfd\x8\x5d\x54" TAG6_SHORT) },
	  DROPPED(drop_no_request) },
	{ "v6 short with the length of full",
	  { SYN6(ONE, "\xfd\x14\x5d\x56" REST6) },
	  DROPPED(drop_no_request) },
	{ "held, wrong length", { SYN4(ONE, "\xfd\x8\x5d\x42" ADDR4) }, DROPPED(drop_no_request) },
	{ "judged", { SYN4(ONE, LINUX JUDGED) }, DROPPED(drop_no_request) },
	{ "v6 judged", { SYN6(ONE, LINUX JUDGED6) }, DROPPED(drop_no_request) },
	{ "the word above judged",
	  { SYN4(ONE, LINUX "\xfd\x10\x5d\x72" FULL_REST) },
	  DROPPED(drop_no_request) },
	{ "the word below held",
	  { SYN4(ONE, LINUX "\xfd\x10\x5d\x32" FULL_REST) },
	  DROPPED(drop_no_request) },
	{ "IPv6's form in IPv4", { SYN4(ONE, REQUEST6) }, DROPPED(drop_no_request) },
	{ "IPv4's form in IPv6", { SYN6(ONE, FULL) }, DROPPED(drop_no_request) },
	{ "classic grant", { SYN4(ONE, "\xfd\xc\x5d\x58" GRANT_REST) }, DROPPED(drop_no_request) },
	{ "strict grant", { SYN4(ONE, "\xfd\xc\x5d\x59" GRANT_REST) }, DROPPED(drop_no_request) },
	{ "repeat grant", { SYN4(ONE, "\xfd\xc\x5d\x5d" GRANT_REST) }, DROPPED(drop_no_request) },
	{ "v6 classic grant", { SYN6(ONE, "\xfd\x14\x5d\x5a" ADDR6) }, DROPPED(drop_no_request) },
	{ "short grant", { SYN4(ONE, SHORT_GRANT) }, DROPPED(drop_no_request) },
	{ "v6 short grant", { SYN6(ONE, SHORT_GRANT) }, DROPPED(drop_no_request) },
	{ "v6 short grant, repeat",
	  { SYN6(ONE, "\xfd\x8\x5d\x5f" TAG6_SHORT) },
	  DROPPED(drop_no_request) },
	{ "answer to a held request",
	  { SYN4(ONE, "\xfd\x8\x5d\x4b" TAG6_SHORT) },
	  DROPPED(drop_no_request) },
	{ "v6 answer to a held request",
	  { SYN6(ONE, "\xfd\x8\x5d\x4b" TAG6_SHORT) },
	  DROPPED(drop_no_request) },

	/* The other schedulers. */
	{ "random", { SYN4(RANDOM_ONE, LINUX FULL) }, SYN_SENT },
	{ "random, retry", { SYN4(RANDOM_ONE, LINUX FULL_RETRY) }, RETRY_SENT },
	{ "v6 random", { SYN6(RANDOM_ONE, LINUX REQUEST6) }, SYN_SENT },
	{ "v6 random, retry", { SYN6(RANDOM_ONE, LINUX REQUEST6_RETRY) }, RETRY_SENT },
	{ "source hash", { SYN4(SOURCE_ONE, LINUX FULL) }, SYN_SENT },
	{ "source hash, retry", { SYN4(SOURCE_ONE, LINUX FULL_RETRY) }, RETRY_SENT },
	{ "v6 source hash", { SYN6(SOURCE_ONE, LINUX REQUEST6) }, SYN_SENT },
	{ "v6 source hash, retry", { SYN6(SOURCE_ONE, LINUX REQUEST6_RETRY) }, RETRY_SENT },

	/* Packets of connections that were not redirected. */
	{ "ACK", { TO4(ONE, "A") }, OTHER_SENT },
	{ "data", { TO4(ONE, "PA", PAYLOAD("hello")) }, OTHER_SENT },
	{ "FIN", { TO4(ONE, "FA") }, OTHER_SENT },
	{ "RST", { TO4(ONE, "R") }, OTHER_SENT },
	{ "SYN-ACK", { TO4(ONE, "SA") }, OTHER_SENT },
	{ "no flags", { TO4(ONE, "") }, OTHER_SENT },
	{ "ACK with a request, as after a SYN cookie",
	  { TO4(ONE, "A", OPTIONS(FULL)) },
	  OTHER_SENT },
	{ "ACK with another client's request",
	  { TO4(ONE, "A", OPTIONS(OTHER_CLIENT)) },
	  OTHER_SENT },
	{ "SYN-ACK with another client's request",
	  { TO4(ONE, "SA", OPTIONS(OTHER_CLIENT)) },
	  OTHER_SENT },
	{ "Ethernet padding behind data",
	  { TO4(ONE, "PA", PAYLOAD("x")), .padding = 5 },
	  OTHER_SENT },
	{ "v6 ACK", { TO6(ONE, "A") }, OTHER_SENT },
	{ "v6 data", { TO6(ONE, "PA", PAYLOAD("hello")) }, OTHER_SENT },
	{ "v6 FIN", { TO6(ONE, "FA") }, OTHER_SENT },
	{ "v6 RST", { TO6(ONE, "R") }, OTHER_SENT },
	{ "v6 ACK with another client's request",
	  { TO6(ONE, "A", OPTIONS(OTHER_CLIENT6)) },
	  OTHER_SENT },
	{ "round robin, ACK", { TO4(TURNS_ONE, "A") }, DROPPED(drop_no_state) },
	{ "round robin, data", { TO4(TURNS_ONE, "PA", PAYLOAD("x")) }, DROPPED(drop_no_state) },
	{ "round robin, RST", { TO4(TURNS_ONE, "R") }, DROPPED(drop_no_state) },
	{ "round robin, SYN-ACK", { TO4(TURNS_ONE, "SA") }, DROPPED(drop_no_state) },
	{ "v6 round robin, ACK", { TO6(TURNS_ONE, "A") }, DROPPED(drop_no_state) },
	{ "random, ACK", { TO4(RANDOM_ONE, "A") }, DROPPED(drop_no_state) },
	{ "random, SYN-ACK", { TO4(RANDOM_ONE, "SA") }, DROPPED(drop_no_state) },
	{ "v6 random, ACK", { TO6(RANDOM_ONE, "A") }, DROPPED(drop_no_state) },
	{ "source hash, ACK", { TO4(SOURCE_ONE, "A") }, OTHER_SENT },
	{ "source hash, RST", { TO4(SOURCE_ONE, "R") }, OTHER_SENT },
	{ "v6 source hash, ACK", { TO6(SOURCE_ONE, "A") }, OTHER_SENT },

	/* Nobody to take it. */
	{ "all drained", { SYN4(DRAINED, LINUX FULL) }, DROPPED(drop_no_backend) },
	{ "all drained, retry", { SYN4(DRAINED, LINUX FULL_RETRY) }, DROPPED(drop_no_backend) },
	{ "all drained, ACK", { TO4(DRAINED, "A") }, DROPPED(drop_no_backend) },
	{ "no weight", { SYN4(WEIGHTLESS, LINUX FULL) }, DROPPED(drop_no_backend) },
	{ "round robin, drained", { SYN4(TURNS_DRAINED, FULL) }, DROPPED(drop_no_backend) },
	{ "round robin, drained, ACK", { TO4(TURNS_DRAINED, "A") }, DROPPED(drop_no_state) },
	{ "v6 all drained", { SYN6(DRAINED, LINUX REQUEST6) }, DROPPED(drop_no_backend) },
	{ "v6 no weight", { SYN6(WEIGHTLESS, LINUX REQUEST6) }, DROPPED(drop_no_backend) },

	/* None of ours: left as it is, nothing counted. */
	{ "another port of the VIP", { SYN4(NO_SERVICE, LINUX FULL) }, PASSED },
	{ "v6 another port of the VIP", { SYN6(NO_SERVICE, LINUX REQUEST6) }, PASSED },
	{ "another port, another client", { SYN4(NO_SERVICE, LINUX OTHER_CLIENT) }, PASSED },
	{ "v6 another port, another client", { SYN6(NO_SERVICE, LINUX OTHER_CLIENT6) }, PASSED },
	{ "port 0 of the VIP", { SYN4(ONE, LINUX FULL), POKE(TCP, 2, "\0\0") }, PASSED },
	{ "port 0 of the VIP, ACK", { TO4(ONE, "A"), POKE(TCP, 2, "\0\0") }, PASSED },
	{ "v6 port 0 of the VIP", { SYN6(ONE, REQUEST6), POKE(TCP, 2, "\0\0") }, PASSED },
	{ "another address", { SYN4(ONE, LINUX FULL), POKE(IP, 16, "\xa\x63\0\2") }, PASSED },
	{ "v6 another address", { SYN6(ONE, REQUEST6), POKE(IP, 39, "\2") }, PASSED },
	{ "ICMP to the VIP", { SYN4(ONE, LINUX FULL), POKE(IP, 9, "\1") }, PASSED },
	{ "v6 ICMP to the VIP", { SYN6(ONE, REQUEST6), POKE(IP, 6, "\x3a") }, PASSED },
	{ "ARP", { SYN4(ONE, LINUX FULL), POKE(FRAME, 12, "\x8\6") }, PASSED },
	{ "802.3 length", { SYN4(ONE, LINUX FULL), POKE(FRAME, 12, "\0\x40") }, PASSED },

	/* Tags, IPv4 options, extension headers. */
	{ "802.1Q", { TO4(ONE, "S", OPTIONS(FULL), .vlan = 7) }, SYN_SENT },
	{ "802.1AD",
	  { TO4(ONE, "S", OPTIONS(FULL), .vlan = 7), POKE(FRAME, 12, "\x88\xa8") },
	  SYN_SENT },
	{ "v6 802.1Q", { TO6(ONE, "S", OPTIONS(REQUEST6), .vlan = 7) }, SYN_SENT },
	{ "v6 802.1AD",
	  { TO6(ONE, "S", OPTIONS(REQUEST6), .vlan = 7), POKE(FRAME, 12, "\x88\xa8") },
	  SYN_SENT },
	{ "802.1Q, request not at the tail",
	  { TO4(ONE, "S", OPTIONS(FULL LINUX), .vlan = 7) },
	  SYN_SENT },
	{ "802.1Q, data", { TO4(ONE, "PA", PAYLOAD("x"), .vlan = 4095) }, OTHER_SENT },
	{ "IPv4 options", { TO4(ONE, "S", OPTIONS(LINUX FULL), IP_OPTIONS(NOP4)) }, SYN_SENT },
	{ "40 bytes of IPv4 options, request not at the tail",
	  { TO4(ONE, "S", OPTIONS(FULL LINUX),
		IP_OPTIONS(NOP4 NOP4 NOP4 NOP4 NOP4 NOP4 NOP4 NOP4 NOP4 NOP4)) },
	  SYN_SENT },
	{ "IPv4 options, ACK", { TO4(ONE, "A", IP_OPTIONS(NOP4)) }, OTHER_SENT },
	{ "hop-by-hop options",
	  { TO6(ONE, "S", OPTIONS(LINUX REQUEST6), EXT(HOP_BY_HOP, THEN_TCP)) },
	  SYN_SENT },
	{ "destination options, request not at the tail",
	  { TO6(ONE, "S", OPTIONS(REQUEST6 LINUX), EXT(DESTINATION, THEN_TCP)) },
	  SYN_SENT },
	{ "both",
	  { TO6(ONE, "S", OPTIONS(REQUEST6), EXT(HOP_BY_HOP, THEN_DESTINATION THEN_TCP)) },
	  SYN_SENT },
	{ "16 bytes of hop-by-hop options, ACK",
	  { TO6(ONE, "A", EXT(HOP_BY_HOP, "\6\1\1\xc\0\0\0\0\0\0\0\0\0\0\0\0")) },
	  OTHER_SENT },
	{ "four extension headers",
	  { TO6(ONE, "A",
		EXT(DESTINATION, THEN_DESTINATION THEN_DESTINATION THEN_DESTINATION THEN_TCP)) },
	  OTHER_SENT },
	{ "a routing header", { TO6(ONE, "A", EXT(ROUTING, THEN_TCP)) }, PASSED },
	{ "another port, hop-by-hop options",
	  { TO6(NO_SERVICE, "A", EXT(HOP_BY_HOP, THEN_TCP)) },
	  PASSED },
	{ "extension header longer than the frame",
	  { TO6(ONE, "A", EXT(HOP_BY_HOP, "\6\xff\1\4\0\0\0\0")) },
	  DROPPED(drop_bad_tcp) },
	{ "extension header behind the end of the frame",
	  { TO6(ONE, "A", EXT(HOP_BY_HOP, "\x3c\xff\1\4\0\0\0\0")) },
	  DROPPED(drop_short) },

	/* Fragments. */
	/* Headers that contradict themselves or the frame. */
	{ "ihl 4", { SYN4(ONE, LINUX FULL), POKE(IP, 0, "\x44") }, DROPPED(drop_bad_ip) },
	{ "ihl 0", { SYN4(ONE, LINUX FULL), POKE(IP, 0, "\x40") }, DROPPED(drop_bad_ip) },
	{ "version 6 in IPv4",
	  { SYN4(ONE, LINUX FULL), POKE(IP, 0, "\x65") },
	  DROPPED(drop_bad_ip) },
	{ "version 4 in IPv6", { SYN6(ONE, REQUEST6), POKE(IP, 0, "\x40") }, DROPPED(drop_bad_ip) },
	{ "total length below the header's",
	  { SYN4(ONE, LINUX FULL), POKE(IP, 2, "\0\x13") },
	  DROPPED(drop_bad_ip) },
	{ "total length below ihl",
	  { TO4(ONE, "A"), POKE(IP, 0, "\x4f\0\0\x28") },
	  DROPPED(drop_bad_ip) },
	{ "total length beyond the frame",
	  { SYN4(ONE, LINUX FULL), POKE(IP, 2, "\0\x4d") },
	  DROPPED(drop_short) },
	{ "payload length beyond the frame",
	  { SYN6(ONE, REQUEST6), POKE(IP, 4, "\0\x29") },
	  DROPPED(drop_short) },
	{ "total length ends in the TCP header",
	  { SYN4(ONE, FULL), POKE(IP, 2, "\0\x27") },
	  DROPPED(drop_bad_tcp) },
	{ "total length ends in the TCP options",
	  { SYN4(ONE, FULL), POKE(IP, 2, "\0\x37") },
	  DROPPED(drop_bad_tcp) },
	{ "payload length ends in the TCP options",
	  { SYN6(ONE, REQUEST6), POKE(IP, 4, "\0\x27") },
	  DROPPED(drop_bad_tcp) },
	{ "payload length 0", { SYN6(ONE, REQUEST6), POKE(IP, 4, "\0\0") }, DROPPED(drop_bad_tcp) },
	{ "payload length ends in the extension header",
	  { TO6(ONE, "A", EXT(HOP_BY_HOP, THEN_TCP)), POKE(IP, 4, "\0\4") },
	  DROPPED(drop_bad_tcp) },
	{ "doff 4", { SYN4(ONE, FULL), POKE(TCP, 12, "\x40") }, DROPPED(drop_bad_tcp) },
	{ "doff 0", { TO4(ONE, "A"), POKE(TCP, 12, "\0") }, DROPPED(drop_bad_tcp) },
	{ "v6 doff 4", { SYN6(ONE, REQUEST6), POKE(TCP, 12, "\x40") }, DROPPED(drop_bad_tcp) },
	{ "doff beyond the frame",
	  { SYN4(ONE, FULL), POKE(TCP, 12, "\xa0") },
	  DROPPED(drop_bad_tcp) },
	{ "doff reaches into the padding",
	  { SYN4(ONE, FULL), POKE(TCP, 12, "\xa0"), .padding = 60 },
	  DROPPED(drop_bad_tcp) },
	{ "v6 doff reaches into the padding",
	  { SYN6(ONE, REQUEST6), POKE(TCP, 12, "\xb0"), .padding = 60 },
	  DROPPED(drop_bad_tcp) },
	{ "doff 4, another address",
	  { SYN4(ONE, FULL), POKE(IP, 16, "\xa\x63\0\2\x9c\x40\0\x51\0\0\0\0\0\0\0\0\x40") },
	  PASSED },

	/* Hops. */
	{ "TTL 2", { TO4(ONE, "S", OPTIONS(FULL), .ttl = 2) }, SYN_SENT },
	{ "TTL 255", { TO4(ONE, "S", OPTIONS(FULL), .ttl = 255) }, SYN_SENT },
	{ "TTL 1", { TO4(ONE, "S", OPTIONS(FULL), .ttl = 1) }, DROPPED(drop_ttl) },
	{ "TTL 1, retry", { TO4(ONE, "S", OPTIONS(FULL_RETRY), .ttl = 1) }, DROPPED(drop_ttl) },
	{ "TTL 1, ACK", { TO4(ONE, "A", .ttl = 1) }, DROPPED(drop_ttl) },
	{ "TTL 0", { TO4(ONE, "A"), POKE(IP, 8, "\0") }, DROPPED(drop_ttl) },
	{ "hop limit 2", { TO6(ONE, "S", OPTIONS(REQUEST6), .ttl = 2) }, SYN_SENT },
	{ "hop limit 1", { TO6(ONE, "S", OPTIONS(REQUEST6), .ttl = 1) }, DROPPED(drop_ttl) },
	{ "hop limit 1, ACK", { TO6(ONE, "A", .ttl = 1) }, DROPPED(drop_ttl) },
	{ "TTL 1, another address",
	  { TO4(ONE, "A", .ttl = 1), POKE(IP, 16, "\xa\x63\0\2") },
	  PASSED },
};

/* The next hop of every backend, unless a test is about next hops. */
static const uint8_t hop_mac[6] = { 2, 0, 0, 0, 3, 1 }, own_mac[6] = { 2, 0, 0, 0, 3, 0xfe };

static bool is_ip6(const struct packet_buf *p)
{
	return p->bytes[p->l3] >> 4 == 6;
}

/* @p as the balancer has to send it on to @backend. */
static void make_forwarded(struct packet_buf *p, const char *backend)
{
	p->bytes[p->l3 + (is_ip6(p) ? 7 : 8)]--;
	packet_set_macs(p, hop_mac, own_mac);
	packet_set_dst(p, backend);
}

static void row_run(const struct row *row)
{
	struct packet_buf in, want, out;
	unsigned verdict;

	packet_case_build(&in, &row->in);
	want = in;
	if (row->verdict == XDP_TX)
		make_forwarded(&want, is_ip6(&in) ? BACKEND6 : BACKEND4);
	watch_start(&counters);
	verdict = xdp_run(prog, 0, &in, &out);
	if (verdict != row->verdict)
		row_failed(row->why, "verdict %u, not %u", verdict, row->verdict);
	watch_expect(&counters, row->counters, row->why);
	if (verdict != XDP_DROP)
		packet_expect(&want, &out, row->why);
}

static void frames(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(rows); i++)
		row_run(&rows[i]);
	rows_done();
}

/* Fragments: dropped, or left to the kernel as they are. */
static const struct row fragment_rows[] = {
	{ "first fragment",
	  { SYN4(ONE, LINUX FULL), POKE(IP, 6, "\x20\0") },
	  DROPPED(drop_fragment) },
	{ "middle fragment", { TO4(ONE, "A"), POKE(IP, 6, "\x20\x10") }, DROPPED(drop_fragment) },
	{ "last fragment", { TO4(ONE, "A"), POKE(IP, 6, "\0\x10") }, DROPPED(drop_fragment) },
	{ "first fragment, another address",
	  { SYN4(ONE, FULL), POKE(IP, 6, "\x20\0\x40\6\0\0\xa\0\1\2\xa\x63\0\2") },
	  PASSED },
	{ "middle fragment, another address",
	  { SYN4(ONE, FULL), POKE(IP, 6, "\x20\x10\x40\6\0\0\xa\0\1\2\xa\x63\0\2") },
	  PASSED },
	{ "fragment of UDP to the VIP",
	  { TO4(ONE, "A"), POKE(IP, 6, "\x20\x10\x40\x11") },
	  DROPPED(drop_fragment) },
	{ "last fragment of ICMP to the VIP",
	  { TO4(ONE, "A"), POKE(IP, 6, "\0\x10\x40\1") },
	  DROPPED(drop_fragment) },
	{ "v6 first fragment",
	  { TO6(ONE, "S", OPTIONS(REQUEST6), EXT(FRAGMENT, FRAGMENT_OF_TCP("\0\1"))) },
	  DROPPED(drop_fragment) },
	{ "v6 middle fragment",
	  { TO6(ONE, "A", EXT(FRAGMENT, FRAGMENT_OF_TCP("\0\x41"))) },
	  DROPPED(drop_fragment) },
	{ "v6 fragment behind hop-by-hop options",
	  { TO6(ONE, "A", EXT(HOP_BY_HOP, THEN_FRAGMENT FRAGMENT_OF_TCP("\0\x40"))) },
	  DROPPED(drop_fragment) },
	{ "v6 fragment, another address",
	  { TO6(ONE, "A", EXT(FRAGMENT, FRAGMENT_OF_TCP("\0\1"))), POKE(IP, 39, "\2") },
	  PASSED },
	{ "v6 fragment of UDP to the VIP",
	  { TO6(ONE, "A", EXT(FRAGMENT, "\x11\0\0\x41\0\0\0\1")) },
	  DROPPED(drop_fragment) },
	{ "not a fragment", { SYN4(ONE, LINUX FULL) }, SYN_SENT },
	{ "v6 not a fragment", { SYN6(ONE, LINUX REQUEST6) }, SYN_SENT },
};

static void fragments(void **state)
{
	struct ss_lb_rules pass = { .pass_fragments = 1 }, drop = {};

	(void)state;
	for (size_t i = 0; i < ROWS(fragment_rows); i++)
		row_run(&fragment_rows[i]);
	assert_int_equal(lb_rules_write(&maps, &pass), 0);
	for (size_t i = 0; i < ROWS(fragment_rows); i++) {
		struct row row = fragment_rows[i];

		if (row.verdict == XDP_DROP) {
			row.verdict = XDP_PASS;
			row.counters = C(fragment_passed);
		}
		row_run(&row);
	}
	assert_int_equal(lb_rules_write(&maps, &drop), 0);
	rows_done();
}

/* --- what is wrapped -------------------------------------------------------------------------- */

#define PLAIN_SYN SENT(C(syn_forwarded) | C(syn_plain))
#define TOS4(s) POKE(IP, 1, s)
#define TOS6(s) POKE(IP, 0, s)

static const struct wrapped_row {
	const char *why;
	struct packet_case in;
	unsigned verdict;
	__u64 counters;
	uint8_t tos;
	bool rewritten; /* not wrapped at all */
	bool across; /* the outer header is of the other IP version */
} wrapped_rows[] = {
	{ "SYN", { SYN4(WRAPPED, LINUX) }, PLAIN_SYN },
	{ "SYN without options", { SYN4(WRAPPED, "") }, PLAIN_SYN },
	{ "SYN with data", { TO4(WRAPPED, "S", PAYLOAD("GET /")) }, PLAIN_SYN },
	{ "SYN with a broken request", { SYN4(WRAPPED, "\xfd\0\x5d\x52" FULL_REST) }, PLAIN_SYN },
	{ "ACK", { TO4(WRAPPED, "A") }, OTHER_SENT },
	{ "data, odd length", { TO4(WRAPPED, "PA", PAYLOAD("hello")) }, OTHER_SENT },
	{ "FIN", { TO4(WRAPPED, "FA") }, OTHER_SENT },
	{ "RST", { TO4(WRAPPED, "R") }, OTHER_SENT },
	{ "padding", { TO4(WRAPPED, "A"), .padding = 6 }, OTHER_SENT },
	{ "802.1Q", { TO4(WRAPPED, "A", .vlan = 7) }, OTHER_SENT },
	{ "IPv4 options", { TO4(WRAPPED, "A", IP_OPTIONS(NOP4)) }, OTHER_SENT },
	{ "congested, and a class", { TO4(WRAPPED, "A"), TOS4("\xbb") }, OTHER_SENT, .tos = 0xbb },
	{ "SYN with a request", { SYN4(WRAPPED, LINUX FULL) }, SYN_SENT, .rewritten = true },
	{ "last hop", { TO4(WRAPPED, "A", .ttl = 1) }, DROPPED(drop_ttl) },
	{ "last hop but one", { TO4(WRAPPED, "A", .ttl = 2) }, OTHER_SENT },
	{ "round robin, SYN", { SYN4(WRAPPED_TURNS, LINUX) }, DROPPED(drop_no_state) },
	{ "UDP, SYN", { SYN4(WRAPPED_UDP, LINUX) }, PLAIN_SYN },
	{ "UDP, data", { TO4(WRAPPED_UDP, "PA", PAYLOAD("hello")) }, OTHER_SENT },
	{ "UDP, 802.1Q", { TO4(WRAPPED_UDP, "A", .vlan = 7) }, OTHER_SENT },
	{ "UDP, SYN with a request",
	  { SYN4(WRAPPED_UDP, LINUX FULL) },
	  SYN_SENT,
	  .rewritten = true },
	{ "v6 SYN", { SYN6(WRAPPED, LINUX) }, PLAIN_SYN },
	{ "v6 ACK", { TO6(WRAPPED, "A") }, OTHER_SENT },
	{ "v6 data", { TO6(WRAPPED, "PA", PAYLOAD("hello")) }, OTHER_SENT },
	{ "v6 802.1Q", { TO6(WRAPPED, "A", .vlan = 7) }, OTHER_SENT },
	{ "v6 extension header", { TO6(WRAPPED, "A", EXT(HOP_BY_HOP, THEN_TCP)) }, OTHER_SENT },
	{ "v6 congested, and a class",
	  { TO6(WRAPPED, "A"), TOS6("\x6b\xb0") },
	  OTHER_SENT,
	  .tos = 0xbb },
	{ "v6 SYN with a request", { SYN6(WRAPPED, LINUX REQUEST6) }, SYN_SENT, .rewritten = true },
	{ "v6 last hop", { TO6(WRAPPED, "A", .ttl = 1) }, DROPPED(drop_ttl) },
	{ "v6 UDP, SYN", { SYN6(WRAPPED_UDP, LINUX) }, PLAIN_SYN },
	{ "v6 UDP, data", { TO6(WRAPPED_UDP, "PA", PAYLOAD("hello")) }, OTHER_SENT },
	{ "in IPv6, SYN", { SYN4(ACROSS, LINUX) }, PLAIN_SYN, .across = true },
	{ "in IPv6, SYN with a request", { SYN4(ACROSS, LINUX FULL) }, SYN_SENT, .across = true },
	{ "in IPv6, data", { TO4(ACROSS, "PA", PAYLOAD("hello")) }, OTHER_SENT, .across = true },
	{ "in IPv6, padding", { TO4(ACROSS, "A"), .padding = 6 }, OTHER_SENT, .across = true },
	{ "in IPv6, 802.1Q", { TO4(ACROSS, "A", .vlan = 7) }, OTHER_SENT, .across = true },
	{ "in IPv6, congested, and a class",
	  { TO4(ACROSS, "A"), TOS4("\xbb") },
	  OTHER_SENT,
	  .tos = 0xbb,
	  .across = true },
	{ "in IPv6, last hop", { TO4(ACROSS, "A", .ttl = 1) }, DROPPED(drop_ttl) },
	{ "in IPv6, UDP", { TO4(ACROSS_UDP, "PA", PAYLOAD("hello")) }, OTHER_SENT, .across = true },
	{ "in IPv6, UDP, 802.1Q", { TO4(ACROSS_UDP, "A", .vlan = 7) }, OTHER_SENT, .across = true },
	{ "in IPv4, SYN", { SYN6(ACROSS, LINUX) }, PLAIN_SYN, .across = true },
	{ "in IPv4, SYN with a request",
	  { SYN6(ACROSS, LINUX REQUEST6) },
	  SYN_SENT,
	  .across = true },
	{ "in IPv4, data", { TO6(ACROSS, "PA", PAYLOAD("hello")) }, OTHER_SENT, .across = true },
	{ "in IPv4, 802.1Q", { TO6(ACROSS, "A", .vlan = 7) }, OTHER_SENT, .across = true },
	{ "in IPv4, congested, and a class",
	  { TO6(ACROSS, "A"), TOS6("\x6b\xb0") },
	  OTHER_SENT,
	  .tos = 0xbb,
	  .across = true },
	{ "in IPv4, UDP", { TO6(ACROSS_UDP, "PA", PAYLOAD("hello")) }, OTHER_SENT, .across = true },
};

/* One hop less inside, and an outer header that has made one hop. @sport: as for packet_wrap(). */
static void make_wrapped(struct packet_buf *p, const struct wrapped_row *row, uint16_t sport)
{
	bool v6 = is_ip6(p) != row->across;
	struct wrap_spec spec = { .src = v6 ? SOURCE6 : SOURCE4,
				  .dst = v6 ? "fd00:3::9" : "10.0.3.9",
				  .sport = sport,
				  .tos = row->tos,
				  .ttl = 63 };

	p->bytes[p->l3 + (is_ip6(p) ? 7 : 8)]--;
	packet_checksum(p);
	packet_set_macs(p, hop_mac, own_mac);
	packet_wrap(p, &spec);
}

static void wrapped_run(const struct wrapped_row *row)
{
	struct packet_buf in, want, out;
	uint16_t sport = 0;
	unsigned verdict;

	packet_case_build(&in, &row->in);
	packet_checksum(&in);
	watch_start(&counters);
	verdict = xdp_run(prog, 0, &in, &out);
	if (verdict != row->verdict)
		row_failed(row->why, "verdict %u, not %u", verdict, row->verdict);
	watch_expect(&counters, row->counters, row->why);
	if (verdict != XDP_TX)
		return;
	if (!row->rewritten && strstr(row->why, "UDP")) { /* a hash, out of the dynamic ports */
		unsigned at = out.l3 + (is_ip6(&out) ? 40 : 20);

		sport = out.bytes[at] << 8 | out.bytes[at + 1];
		if (sport < 0xc000)
			row_failed(row->why, "source port %u", sport);
	}
	want = in;
	if (row->rewritten)
		make_forwarded(&want, is_ip6(&in) ? BACKEND6 : BACKEND4);
	else
		make_wrapped(&want, row, sport);
	packet_expect(&want, &out, row->why);
}

static void wrapped(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(wrapped_rows); i++)
		wrapped_run(&wrapped_rows[i]);
	rows_done();
}

/* What becomes of a SYN by what it asks for. */
enum asks {
	MAY_ASK, /* it is left as it is, and goes on as one that may be redirected */
	HOLDS, /* it says so from here on; by `rewrite` it goes on like others, else like a plain one */
	ASKS_NOTHING, /* it is left as it is, and is a plain one */
};

/*
 * Requests, and what they are behind the balancer. Those that name another client than the packet's source may not
 * be granted, nor may those that are held already: they go on as held, and name the source that the packet has here.
 */
static const struct held_row {
	const char *why;
	enum asks asks;
	bool ip6, retry;
	const char *in, *out;
	const char *by_nat; /* NULL: as @out */
	unsigned len;
} held_rows[] = {
#define BECOMES(in, out) in, out, NULL, sizeof(in) - 1
#define STAYS(in) in, in, NULL, sizeof(in) - 1
#define STAYS_BUT(in, by_nat) in, in, by_nat, sizeof(in) - 1
#define NOP8 NOP4 NOP4
#define V4 false, false
#define V4_RETRY false, true
#define V6 true, false
#define V6_RETRY true, true
	{ "another client", HOLDS, V4, BECOMES(LINUX OTHER_CLIENT, LINUX HELD) },
	{ "another port", HOLDS, V4, BECOMES(LINUX OTHER_PORT, LINUX HELD) },
	{ "another network's client", HOLDS, V4,
	  BECOMES(LINUX "\xfd\x10\x5d\x52" ADDR4 "\xac\x11\0\2\0\x51\x9c\x40", LINUX HELD) },
	{ "the port's high byte", HOLDS, V4,
	  BECOMES(LINUX "\xfd\x10\x5d\x52" ADDR4 "\xa\0\1\2\0\x51\x9d\x40", LINUX HELD) },
	{ "another client and port", HOLDS, V4,
	  BECOMES(LINUX "\xfd\x10\x5d\x52" ADDR4 "\xff\xff\xff\xff\0\x51\xff\xff", LINUX HELD) },
	{ "another client, retry", HOLDS, V4_RETRY,
	  BECOMES(LINUX "\xfd\x10\x5d\x53" OTHER_REST, LINUX HELD_RETRY) },
	{ "another client, alone", HOLDS, V4, BECOMES(OTHER_CLIENT, HELD) },
	{ "another client, first of the options", HOLDS, V4,
	  BECOMES(OTHER_CLIENT LINUX, HELD LINUX) },
	{ "another client, in the middle", HOLDS, V4,
	  BECOMES(MSS OTHER_CLIENT OTHER_254, MSS HELD OTHER_254) },
	{ "another client, at an odd offset", HOLDS, V4,
	  BECOMES("\1" OTHER_CLIENT "\1\1\1", "\1" HELD "\1\1\1") },
	{ "another port, at an odd offset", HOLDS, V4,
	  BECOMES(MSS "\1\1\1" OTHER_PORT "\1", MSS "\1\1\1" HELD "\1") },
	{ "another client, at an even offset", HOLDS, V4,
	  BECOMES("\1\1" OTHER_CLIENT "\1\1", "\1\1" HELD "\1\1") },
	{ "another port, retry, at an odd offset", HOLDS, V4_RETRY,
	  BECOMES("\1\xfd\x10\x5d\x53" ADDR4 "\xa\0\1\2\0\x51\x9c\x41\1\1\1",
		  "\1" HELD_RETRY "\1\1\1") },
	{ "another port, beside other experiments", HOLDS, V4,
	  BECOMES(OTHER_253 OTHER_PORT OTHER_254, OTHER_253 HELD OTHER_254) },
	{ "held", HOLDS, V4, STAYS(LINUX HELD) },
	{ "held, retry", HOLDS, V4_RETRY, STAYS(LINUX HELD_RETRY) },
	{ "held, at an odd offset", HOLDS, V4, STAYS("\1" HELD "\1\1\1") },
	{ "held, another client", HOLDS, V4,
	  BECOMES("\xfd\x10\x5d\x42" ADDR4 "\xac\x11\0\2\0\x51\x9c\x40", HELD) },
	{ "held, another port", HOLDS, V4,
	  BECOMES("\xfd\x10\x5d\x42" ADDR4 "\xa\0\1\2\0\x51\x9c\x41", HELD) },
	{ "held, another client, retry", HOLDS, V4_RETRY,
	  BECOMES("\xfd\x10\x5d\x43" OTHER_REST, HELD_RETRY) },
	{ "held, another client, at an odd offset", HOLDS, V4,
	  BECOMES("\1\xfd\x10\x5d\x42" OTHER_REST "\1\1\1", "\1" HELD "\1\1\1") },
	{ "held, short", HOLDS, V4, STAYS_BUT(LINUX HELD_SHORT, LINUX NOP8) },
	{ "held, short, retry", HOLDS, V4_RETRY, STAYS_BUT("\xfd\x8\x5d\x41" ADDR4, NOP8) },
	{ "held, short, at an odd offset", HOLDS, V4,
	  STAYS_BUT("\1" HELD_SHORT "\1\1\1", NOP8 NOP4) },
	{ "its own client", MAY_ASK, V4, STAYS(LINUX FULL) },
	{ "its own client, retry", MAY_ASK, V4_RETRY, STAYS(LINUX FULL_RETRY) },
	{ "short", MAY_ASK, V4, STAYS_BUT(LINUX SHORT, LINUX NOP8) },
	{ "short, retry", MAY_ASK, V4_RETRY, STAYS_BUT(LINUX SHORT_RETRY, LINUX NOP8) },
	{ "short, first of the options", MAY_ASK, V4, STAYS_BUT(SHORT LINUX, NOP8 LINUX) },
	{ "short, at an odd offset", MAY_ASK, V4,
	  STAYS_BUT(MSS "\1" SHORT "\1\1\1", MSS NOP8 NOP4) },
	{ "judged", ASKS_NOTHING, V4, STAYS(LINUX JUDGED) },
	{ "judged, first of the options", ASKS_NOTHING, V4, STAYS(JUDGED LINUX) },
	{ "judged, retry", ASKS_NOTHING, V4, STAYS("\xfd\x10\x5d\x63" FULL_REST) },
	{ "judged, another client", ASKS_NOTHING, V4, STAYS("\xfd\x10\x5d\x62" OTHER_REST) },
	{ "judged, short", ASKS_NOTHING, V4, STAYS("\xfd\x8\x5d\x60" ADDR4) },
	{ "answer to a held request", ASKS_NOTHING, V4, STAYS("\xfd\x8\x5d\x4b" TAG6_SHORT) },

	{ "v6 another client", HOLDS, V6, BECOMES(LINUX OTHER_CLIENT6, LINUX HELD6) },
	{ "v6 another port", HOLDS, V6, BECOMES(LINUX OTHER_PORT6, LINUX HELD6) },
	{ "v6 the tag alone", HOLDS, V6,
	  BECOMES("\xfd\x14\x5d\x54" TAG6 "\x78\x5c\xd0\xf8\xe4\xbd" PORTS6, HELD6) },
	{ "v6 the tag's first byte", HOLDS, V6,
	  BECOMES("\xfd\x14\x5d\x54" TAG6 "\xf8\x5c\xd0\xf8\xe4\xbc" PORTS6, HELD6) },
	{ "v6 the port alone", HOLDS, V6,
	  BECOMES("\xfd\x14\x5d\x54" TAG6 CLIENT_TAG6 "\0\x51\x9c\x41", HELD6) },
	{ "v6 another client, retry", HOLDS, V6_RETRY,
	  BECOMES(LINUX "\xfd\x14\x5d\x55" OTHER_REST6, LINUX HELD6_RETRY) },
	{ "v6 another client, first of the options", HOLDS, V6,
	  BECOMES(OTHER_CLIENT6 LINUX, HELD6 LINUX) },
	{ "v6 another client, in the middle", HOLDS, V6,
	  BECOMES(MSS OTHER_CLIENT6 OTHER_254, MSS HELD6 OTHER_254) },
	{ "v6 another client, at an odd offset", HOLDS, V6,
	  BECOMES("\1" OTHER_CLIENT6 "\1\1\1", "\1" HELD6 "\1\1\1") },
	{ "v6 another port, at an odd offset", HOLDS, V6,
	  BECOMES(MSS "\1\1\1" OTHER_PORT6 "\1", MSS "\1\1\1" HELD6 "\1") },
	{ "v6 another client, at an even offset", HOLDS, V6,
	  BECOMES("\1\1" OTHER_CLIENT6 "\1\1", "\1\1" HELD6 "\1\1") },
	{ "v6 held", HOLDS, V6, STAYS(LINUX HELD6) },
	{ "v6 held, retry", HOLDS, V6_RETRY, STAYS(LINUX HELD6_RETRY) },
	{ "v6 held, another client", HOLDS, V6,
	  BECOMES("\xfd\x14\x5d\x44" OTHER_REST6 LINUX, HELD6 LINUX) },
	{ "v6 held, another port", HOLDS, V6,
	  BECOMES("\xfd\x14\x5d\x44" TAG6 PORT_TAG6 "\0\x51\x9c\x41", HELD6) },
	{ "v6 held, another client, at an odd offset", HOLDS, V6,
	  BECOMES("\1\xfd\x14\x5d\x44" OTHER_REST6 "\1\1\1", "\1" HELD6 "\1\1\1") },
	{ "v6 held, short", HOLDS, V6, STAYS_BUT(LINUX HELD6_SHORT, LINUX NOP8) },
	{ "v6 held, short, retry", HOLDS, V6_RETRY, STAYS_BUT("\xfd\x8\x5d\x47" TAG6_SHORT, NOP8) },
	{ "v6 its own client", MAY_ASK, V6, STAYS(LINUX REQUEST6) },
	{ "v6 its own client, retry", MAY_ASK, V6_RETRY, STAYS(LINUX REQUEST6_RETRY) },
	{ "v6 short", MAY_ASK, V6, STAYS_BUT(LINUX SHORT6, LINUX NOP8) },
	{ "v6 short, retry", MAY_ASK, V6_RETRY, STAYS_BUT(LINUX SHORT6_RETRY, LINUX NOP8) },
	{ "v6 short, at an odd offset", MAY_ASK, V6, STAYS_BUT("\1" SHORT6 "\1\1\1", NOP8 NOP4) },
	{ "v6 judged", ASKS_NOTHING, V6, STAYS(LINUX JUDGED6) },
	{ "v6 judged, first of the options", ASKS_NOTHING, V6, STAYS(JUDGED6 LINUX) },
	{ "v6 judged, another client", ASKS_NOTHING, V6, STAYS("\xfd\x14\x5d\x64" OTHER_REST6) },
	{ "v6 judged, short", ASKS_NOTHING, V6, STAYS("\xfd\x8\x5d\x66" TAG6_SHORT) },
	{ "v6 answer to a held request", ASKS_NOTHING, V6, STAYS("\xfd\x8\x5d\x4b" TAG6_SHORT) },
#undef BECOMES
#undef STAYS
#undef STAYS_BUT
#undef NOP8
#undef V4
#undef V4_RETRY
#undef V6
#undef V6_RETRY
};

/* The ways to a server by which they go, nat apart. */
static const struct held_way {
	const char *name, *service;
	bool rewrites, udp, across;
} held_ways[] = {
	{ "by rewrite", ONE, .rewrites = true },
	{ "by ipip", WRAPPED },
	{ "by gue", WRAPPED_UDP, .udp = true },
	{ "by ipip, of the other IP version", ACROSS, .across = true },
	{ "by gue, of the other IP version", ACROSS_UDP, .udp = true, .across = true },
};

/* The row's SYN to @dst, and what its bytes are behind the balancer, with the addresses that it came with. */
static void held_build(const struct held_row *row, const char *dst, uint16_t vlan, const char *out,
		       struct packet_buf *in, struct packet_buf *want)
{
	packet_build(in, &(struct packet_spec){ .src = row->ip6 ? CLIENT6 : CLIENT4,
						.dst = dst,
						.flags = "S",
						.options = row->in,
						.options_len = row->len,
						.payload = "odd",
						.payload_len = vlan ? 3 : 0,
						.vlan = vlan });
	*want = *in;
	memcpy(want->bytes + want->l4 + 20, out, row->len);
	packet_checksum(want);
}

/* The counters that move if that SYN is sent. @plain: it went on like one without a request. */
static __u64 held_counters(const struct held_row *row, enum asks asks, bool plain)
{
	return C(syn_forwarded) | (asks == HOLDS ? C(syn_held) : 0) | (plain ? C(syn_plain) : 0) |
	       (row->retry && !plain ? C(syn_retried) : 0);
}

static void held_run(const struct held_row *row, const struct held_way *way, uint16_t vlan)
{
	bool plain = row->asks == ASKS_NOTHING || (row->asks == HOLDS && !way->rewrites);
	bool dropped = plain && way->rewrites;
	bool wraps = !way->rewrites && (plain || way->across);
	const struct wrapped_row as_wrapped = { .across = way->across };
	char dst[ADDRESS_TEXT_LEN], why[128];
	struct packet_buf in, want, out;
	uint16_t sport = 0;
	unsigned verdict;

	snprintf(dst, sizeof(dst), row->ip6 ? "[fd00:99::1]:%s" : "10.99.0.1:%s", way->service);
	snprintf(why, sizeof(why), "%s, %s, VLAN %u", row->why, way->name, vlan);
	held_build(row, dst, vlan, row->out, &in, &want);
	watch_start(&counters);
	verdict = xdp_run(prog, 0, &in, &out);
	if (verdict != (dropped ? XDP_DROP : XDP_TX))
		row_failed(why, "verdict %u", verdict);
	watch_expect(&counters, dropped ? C(drop_no_request) : held_counters(row, row->asks, plain),
		     why);
	if (dropped || verdict != XDP_TX)
		return;
	if (wraps && way->udp) { /* wrapped_run() looks at it closer */
		unsigned at = out.l3 + (is_ip6(&out) ? 40 : 20);

		sport = out.bytes[at] << 8 | out.bytes[at + 1];
	}
	if (wraps)
		make_wrapped(&want, &as_wrapped, sport);
	else
		make_forwarded(&want, row->ip6 ? BACKEND6 : BACKEND4);
	packet_expect(&want, &out, why);
}

static void held_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(held_rows); i++)
		for (size_t way = 0; way < ROWS(held_ways); way++)
			for (uint16_t vlan = 0; vlan <= 7; vlan += 7)
				held_run(&held_rows[i], &held_ways[way], vlan);
	rows_done();
}

/* Connections leave by many UDP source ports, and each by one. */
static void wrapped_ports(void **state)
{
	static bool seen[65536];
	unsigned ports = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		char src[32];
		struct packet_case c = { TO4(WRAPPED_UDP, "A") };
		uint16_t port[2];

		snprintf(src, sizeof(src), "10.0.1.2:%u", 10000 + i);
		c.spec.src = src;
		for (int turn = 0; turn < 2; turn++) {
			struct packet_buf in, out;

			packet_case_build(&in, &c);
			assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
			port[turn] = out.bytes[out.l3 + 20] << 8 | out.bytes[out.l3 + 21];
		}
		assert_int_equal(port[0], port[1]);
		ports += !seen[port[0]];
		seen[port[0]] = true;
	}
	assert_in_range(ports, 900, 1000); /* 970 are expected of 1000 in 16384 */
}

/* A frame that ends too early is never sent on, nor changed, and at most one counter says so. */
static void cut_run(const char *why, struct packet_buf *in)
{
	struct packet_buf out;
	__u64 now[SS_LB_COUNTER_MAX], moved = 0;
	unsigned verdict;

	watch_start(&counters);
	verdict = xdp_run(prog, 0, in, &out);
	map_counters_read(counters.fd, now, SS_LB_COUNTER_MAX);
	for (unsigned i = 0; i < SS_LB_COUNTER_MAX; i++)
		moved += now[i] - counters.before[i];
	if (verdict != XDP_PASS && verdict != XDP_DROP)
		row_failed(why, "verdict %u at length %u", verdict, in->len);
	if (moved != (verdict == XDP_DROP))
		row_failed(why, "%llu counters moved at length %u", moved, in->len);
	packet_expect(in, &out, why);
}

static void put_ip_len(struct packet_buf *p, unsigned len)
{
	unsigned at = is_ip6(p) ? 4 : 2;

	len -= p->l3 + (is_ip6(p) ? 40 : 0);
	p->bytes[p->l3 + at] = len >> 8;
	p->bytes[p->l3 + at + 1] = len & 0xff;
}

/* Every frame that is sent on whole, cut at every length: unnoticed by its IP header, and not. */
static void truncated(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(rows); i++) {
		struct packet_buf whole, in;

		packet_case_build(&whole, &rows[i].in);
		if (rows[i].verdict != XDP_TX)
			continue;
		for (unsigned len = 14; len < packet_ip_end(&whole); len++) {
			in = whole;
			in.len = len;
			cut_run(rows[i].why, &in);
		}
		if (rows[i].in.spec.payload_len)
			continue;
		for (unsigned len = whole.l4; len < packet_ip_end(&whole); len++) {
			in = whole;
			in.len = len;
			put_ip_len(&in, len);
			cut_run(rows[i].why, &in);
		}
	}
	rows_done();
}

/* --- ICMP errors ----------------------------------------------------------------------------- */

/* An error that @router sends to the VIP, about what a server sent as @service. */
#define ROUTER4 "10.0.7.1:1"
#define ROUTER6 "[fd00:7::1]:1"
/* clang-format off */
#define ICMP4(number, ...) { .src = ROUTER4, .dst = "10.99.0.1:1", .type = number, ##__VA_ARGS__ }
#define ICMP6(number, ...) { .src = ROUTER6, .dst = "[fd00:99::1]:1", .type = number, ##__VA_ARGS__ }
#define SENT4(service, ...)                                                                        \
	{ .src = "10.99.0.1:" service, .dst = CLIENT4, .flags = "PA", PAYLOAD("hello"), ##__VA_ARGS__ }
#define SENT6(service)                                                                             \
	{ .src = "[fd00:99::1]:" service, .dst = CLIENT6, .flags = "PA", PAYLOAD("hello") }
/* clang-format on */
#define TOO_BIG4 3, .code = 4
#define TOO_BIG6 2
#define ICMP_SENT SENT(C(icmp_forwarded))
#define QUOTE(offset, s) POKE(TCP, 8 + (offset), s)

static const struct icmp_row {
	const char *why;
	struct icmp_spec error;
	struct packet_spec about;
	unsigned verdict;
	__u64 counters;
	struct poke poke; /* AT_TCP: from the ICMP header */
} icmp_rows[] = {
	{ "too big", ICMP4(TOO_BIG4), SENT4(ONE), ICMP_SENT },
	{ "too big, 8 bytes quoted", ICMP4(TOO_BIG4, .quoted = 8), SENT4(ONE), ICMP_SENT },
	{ "too big, odd length", ICMP4(TOO_BIG4, .quoted = 21), SENT4(ONE), ICMP_SENT },
	{ "unreachable", ICMP4(3, .code = 1), SENT4(ONE), ICMP_SENT },
	{ "time exceeded", ICMP4(11), SENT4(ONE), ICMP_SENT },
	{ "parameter problem", ICMP4(12), SENT4(ONE), ICMP_SENT },
	{ "IPv4 options in both", ICMP4(TOO_BIG4, IP_OPTIONS(NOP4)),
	  SENT4(ONE, IP_OPTIONS(NOP4 NOP4)), ICMP_SENT },
	{ "from the client itself",
	  { .src = CLIENT4, .dst = "10.99.0.1:1", .type = 3, .code = 3 },
	  SENT4(ONE),
	  ICMP_SENT },
	{ "source hash", ICMP4(TOO_BIG4), SENT4(SOURCE_ONE), ICMP_SENT },
	{ "v6 source hash", ICMP6(TOO_BIG6), SENT6(SOURCE_ONE), ICMP_SENT },
	{ "TTL 1", ICMP4(TOO_BIG4, .ttl = 1), SENT4(ONE), DROPPED(drop_ttl) },
	{ "v6 too big", ICMP6(TOO_BIG6), SENT6(ONE), ICMP_SENT },
	{ "v6 too big, 8 bytes quoted", ICMP6(TOO_BIG6, .quoted = 8), SENT6(ONE), ICMP_SENT },
	{ "v6 unreachable", ICMP6(1), SENT6(ONE), ICMP_SENT },
	{ "v6 time exceeded", ICMP6(3), SENT6(ONE), ICMP_SENT },
	{ "v6 parameter problem", ICMP6(4), SENT6(ONE), ICMP_SENT },
	{ "v6 hop-by-hop options", ICMP6(TOO_BIG6, EXT(HOP_BY_HOP, "\x3a\0\1\4\0\0\0\0")),
	  SENT6(ONE), ICMP_SENT },
	{ "v6 hop limit 1", ICMP6(TOO_BIG6, .ttl = 1), SENT6(ONE), DROPPED(drop_ttl) },

	/* Nobody knows who sent it. */
	{ "round robin", ICMP4(TOO_BIG4), SENT4(TURNS_ONE), DROPPED(drop_no_state) },
	{ "all drained", ICMP4(TOO_BIG4), SENT4(DRAINED), DROPPED(drop_no_backend) },
	{ "v6 round robin", ICMP6(TOO_BIG6), SENT6(TURNS_ONE), DROPPED(drop_no_state) },
	{ "random", ICMP4(TOO_BIG4), SENT4(RANDOM_ONE), DROPPED(drop_no_state) },
	{ "v6 random", ICMP6(TOO_BIG6), SENT6(RANDOM_ONE), DROPPED(drop_no_state) },

	/* The kernel's: no error, none about a service, or nothing that makes sense. */
	{ "another port", ICMP4(TOO_BIG4), SENT4(NO_SERVICE), PASSED },
	{ "about a packet to the service", ICMP4(TOO_BIG4), TO4(ONE, "A"), PASSED },
	{ "sent to another address",
	  { .src = ROUTER4, .dst = "10.0.2.2:1", .type = TOO_BIG4 },
	  SENT4(ONE),
	  PASSED },
	{ "echo reply", ICMP4(0), SENT4(ONE), PASSED },
	{ "source quench", ICMP4(4), SENT4(ONE), PASSED },
	{ "redirect", ICMP4(5), SENT4(ONE), PASSED },
	{ "ICMPv6 in IPv4", ICMP4(TOO_BIG4), SENT4(ONE), PASSED, POKE(IP, 9, "\x3a") },
	{ "fragment", ICMP4(TOO_BIG4), SENT4(ONE), DROPPED(drop_fragment), POKE(IP, 6, "\x20\0") },
	{ "quoted version 6", ICMP4(TOO_BIG4), SENT4(ONE), PASSED, QUOTE(0, "\x65") },
	{ "quoted ihl 4", ICMP4(TOO_BIG4), SENT4(ONE), PASSED, QUOTE(0, "\x44") },
	{ "quoted UDP", ICMP4(TOO_BIG4), SENT4(ONE), PASSED, QUOTE(9, "\x11") },
	{ "quote of a later fragment", ICMP4(TOO_BIG4), SENT4(ONE), PASSED, QUOTE(6, "\x20\1") },
	{ "7 bytes quoted", ICMP4(TOO_BIG4, .quoted = 7), SENT4(ONE), PASSED },
	{ "quoted ihl beyond the frame", ICMP4(TOO_BIG4, .quoted = 8), SENT4(ONE), PASSED,
	  QUOTE(0, "\x4f") },
	{ "v6 another port", ICMP6(TOO_BIG6), SENT6(NO_SERVICE), PASSED },
	{ "v6 about a packet to the service", ICMP6(TOO_BIG6), TO6(ONE, "A"), PASSED },
	{ "v6 type 0", ICMP6(0), SENT6(ONE), PASSED },
	{ "v6 type 5", ICMP6(5), SENT6(ONE), PASSED },
	{ "ICMP in IPv6", ICMP6(TOO_BIG6), SENT6(ONE), PASSED, POKE(IP, 6, "\1") },
	{ "v6 quoted version 4", ICMP6(TOO_BIG6), SENT6(ONE), PASSED, QUOTE(0, "\x45") },
	{ "v6 quoted UDP", ICMP6(TOO_BIG6), SENT6(ONE), PASSED, QUOTE(6, "\x11") },
	{ "v6 7 bytes quoted", ICMP6(TOO_BIG6, .quoted = 7), SENT6(ONE), PASSED },
};

static void icmp_build(const struct icmp_row *row, struct packet_buf *p)
{
	struct packet_buf about;

	packet_build(&about, &row->about);
	packet_build_icmp(p, &row->error, &about);
	if (row->poke.len)
		memcpy(p->bytes + (row->poke.base == AT_IP ? p->l3 : p->l4) + row->poke.off,
		       row->poke.bytes, row->poke.len);
}

/* The same error, but from the VIP to the backend, one hop further. */
static void icmp_want(const struct icmp_row *row, struct packet_buf *want)
{
	bool ip6 = row->error.dst[0] == '[';
	struct icmp_spec error = row->error;
	struct packet_buf about;

	error.src = error.dst;
	error.dst = ip6 ? BACKEND6 : BACKEND4;
	error.ttl = 63;
	packet_build(&about, &row->about);
	packet_build_icmp(want, &error, &about);
	packet_set_macs(want, hop_mac, own_mac);
}

static void icmp_row_run(const struct icmp_row *row)
{
	struct packet_buf in, want, out;
	unsigned verdict;

	icmp_build(row, &in);
	want = in;
	if (row->verdict == XDP_TX)
		icmp_want(row, &want);
	watch_start(&counters);
	verdict = xdp_run(prog, 0, &in, &out);
	if (verdict != row->verdict)
		row_failed(row->why, "verdict %u, not %u", verdict, row->verdict);
	watch_expect(&counters, row->counters, row->why);
	if (verdict != XDP_DROP)
		packet_expect(&want, &out, row->why);
}

/* The row's packet, cut before eight bytes of TCP are quoted: not sent on. */
static void icmp_cut(const struct icmp_row *row)
{
	struct packet_buf in;
	unsigned end;

	icmp_build(row, &in);
	end = in.l4 + 8 + (is_ip6(&in) ? 40 : (in.bytes[in.l4 + 8] & 15) * 4) + 8;
	for (unsigned len = in.l4; len < end; len++) {
		in.len = len;
		put_ip_len(&in, len);
		cut_run(row->why, &in);
	}
}

static void icmp_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(icmp_rows); i++) {
		icmp_row_run(&icmp_rows[i]);
		if (icmp_rows[i].verdict == XDP_TX)
			icmp_cut(&icmp_rows[i]);
	}
	rows_done();
}

/* For a backend of the other IP version: wrapped, as it is. */
static void icmp_across(void **state)
{
	static const struct icmp_row across_rows[] = {
		{ "in IPv6", ICMP4(TOO_BIG4), SENT4(ACROSS), ICMP_SENT },
		{ "in IPv6, UDP", ICMP4(TOO_BIG4), SENT4(ACROSS_UDP), ICMP_SENT },
		{ "in IPv4", ICMP6(TOO_BIG6, .quoted = 8), SENT6(ACROSS), ICMP_SENT },
		{ "in IPv4, UDP", ICMP6(1), SENT6(ACROSS_UDP), ICMP_SENT },
	};

	(void)state;
	for (size_t i = 0; i < ROWS(across_rows); i++) {
		const struct icmp_row *row = &across_rows[i];
		struct wrap_spec outer = { .src = i < 2 ? SOURCE6 : SOURCE4,
					   .dst = i < 2 ? "fd00:3::9" : "10.0.3.9",
					   .ttl = 63 };
		struct packet_buf in, want, out;

		icmp_build(row, &in);
		watch_start(&counters);
		if (xdp_run(prog, 0, &in, &out) != XDP_TX)
			row_failed(row->why, "not sent");
		watch_expect(&counters, row->counters, row->why);
		want = in;
		want.bytes[want.l3 + (is_ip6(&want) ? 7 : 8)]--;
		if (!is_ip6(&want))
			ipv4_checksum(want.bytes + want.l3);
		packet_set_macs(&want, hop_mac, own_mac);
		if (i % 2) {
			unsigned udp = out.l3 + (i < 2 ? 40 : 20);

			outer.sport = out.bytes[udp] << 8 | out.bytes[udp + 1];
		}
		packet_wrap(&want, &outer);
		packet_expect(&want, &out, row->why);
	}
	rows_done();
}

/* --- echo requests ---------------------------------------------------------------------------- */

#define ECHO4(to, ...)                                                   \
	{                                                                \
		.src = CLIENT4, .dst = to ":1", .type = 8, ##__VA_ARGS__ \
	}
#define ECHO6(to, ...)                                                          \
	{                                                                       \
		.src = CLIENT6, .dst = "[" to "]:1", .type = 128, ##__VA_ARGS__ \
	}
#define ANSWERED SENT(C(echo_answered))

/* What a request carries is of no account: the rows' errors quote something. */
static const struct echo_row {
	const char *why;
	struct icmp_spec request;
	unsigned verdict;
	__u64 counters;
} echo_rows[] = {
	{ "service", ECHO4("10.99.0.1"), ANSWERED },
	{ "last hop", ECHO4("10.99.0.1", .ttl = 1), ANSWERED },
	{ "largest TTL", ECHO4("10.99.0.1", .ttl = 255), ANSWERED },
	{ "IPv4 options", ECHO4("10.99.0.1", IP_OPTIONS(NOP4)), ANSWERED },
	{ "another code", ECHO4("10.99.0.1", .code = 1), PASSED },
	{ "another address", ECHO4("10.99.0.77"), PASSED },
	{ "a backend", ECHO4("10.0.3.9"), PASSED },
	{ "v6 service", ECHO6("fd00:99::1"), ANSWERED },
	{ "v6 last hop", ECHO6("fd00:99::1", .ttl = 1), ANSWERED },
	{ "v6 extension header", ECHO6("fd00:99::1", EXT(HOP_BY_HOP, "\x3a\0\1\4\0\0\0\0")),
	  ANSWERED },
	{ "v6 another address", ECHO6("fd00:99::77"), PASSED },
};

/* The reply, built anew: from the service, with a TTL of its own, to who sent the frame. */
static void echo_want(const struct echo_row *row, const struct packet_buf *about,
		      const struct packet_buf *in, struct packet_buf *want)
{
	struct icmp_spec reply = row->request;

	reply.src = row->request.dst;
	reply.dst = row->request.src;
	reply.type = row->request.type == 8 ? 0 : 129;
	reply.ttl = 64;
	packet_build_icmp(want, &reply, about);
	packet_set_macs(want, in->bytes + 6, in->bytes);
}

static void echoes(void **state)
{
	const struct packet_spec quoted = SENT4(ONE);
	struct packet_buf about, in, want, out;

	(void)state;
	packet_build(&about, &quoted);
	for (size_t i = 0; i < ROWS(echo_rows); i++) {
		const struct echo_row *row = &echo_rows[i];
		unsigned verdict;

		packet_build_icmp(&in, &row->request, &about);
		want = in;
		if (row->verdict == XDP_TX)
			echo_want(row, &about, &in, &want);
		watch_start(&counters);
		verdict = xdp_run(prog, 0, &in, &out);
		if (verdict != row->verdict)
			row_failed(row->why, "verdict %u, not %u", verdict, row->verdict);
		watch_expect(&counters, row->counters, row->why);
		packet_expect(&want, &out, row->why);
	}
	rows_done();
}

/* --- checksums at their edges ---------------------------------------------------------------- */

enum sum { IP_SUM, TCP_SUM };
enum side { COMES_IN, GOES_OUT };

/* The checksum that is @value on one side of the balancer; others follow. */
static const struct edge_row {
	const char *why;
	const char *client, *vip, *backend;
	enum sum sum;
	enum side side;
	uint16_t value;
	const char *options, *become; /* of a SYN; NULL: it is an ACK */
	unsigned options_len;
} edge_rows[] = {
#define V4 CLIENT4, "10.99.0.1:" ONE, BACKEND4
#define V6 CLIENT6, "[fd00:99::1]:" ONE, BACKEND6
	{ "IP 0000 in", V4, IP_SUM, COMES_IN, 0x0000 },
	{ "IP 0000 out", V4, IP_SUM, GOES_OUT, 0x0000 },
	{ "IP 0001 out", V4, IP_SUM, GOES_OUT, 0x0001 },
	{ "IP fffe in", V4, IP_SUM, COMES_IN, 0xfffe },
	{ "IP fffe out", V4, IP_SUM, GOES_OUT, 0xfffe },
	{ "IP feff in: one hop less makes it ffff or 0000", V4, IP_SUM, COMES_IN, 0xfeff },
	{ "TCP 0000 in", V4, TCP_SUM, COMES_IN, 0x0000 },
	{ "TCP 0000 out", V4, TCP_SUM, GOES_OUT, 0x0000 },
	{ "TCP 0001 out", V4, TCP_SUM, GOES_OUT, 0x0001 },
	{ "TCP fffe in", V4, TCP_SUM, COMES_IN, 0xfffe },
	{ "TCP fffe out", V4, TCP_SUM, GOES_OUT, 0xfffe },
	{ "v6 TCP 0000 in", V6, TCP_SUM, COMES_IN, 0x0000 },
	{ "v6 TCP 0000 out", V6, TCP_SUM, GOES_OUT, 0x0000 },
	{ "v6 TCP 0001 out", V6, TCP_SUM, GOES_OUT, 0x0001 },
	{ "v6 TCP fffe in", V6, TCP_SUM, COMES_IN, 0xfffe },
	{ "v6 TCP fffe out", V6, TCP_SUM, GOES_OUT, 0xfffe },
#define HOLDS OTHER_CLIENT LINUX, HELD LINUX, sizeof(OTHER_CLIENT LINUX) - 1
#define HOLDS_ODD \
	"\1" OTHER_CLIENT "\1\1\1", "\1" HELD "\1\1\1", sizeof("\1" OTHER_CLIENT "\1\1\1") - 1
#define HOLDS6 OTHER_CLIENT6, HELD6, sizeof(OTHER_CLIENT6) - 1
	{ "held, TCP 0000 in", V4, TCP_SUM, COMES_IN, 0x0000, HOLDS },
	{ "held, TCP 0000 out", V4, TCP_SUM, GOES_OUT, 0x0000, HOLDS },
	{ "held, TCP fffe in", V4, TCP_SUM, COMES_IN, 0xfffe, HOLDS },
	{ "held, TCP fffe out", V4, TCP_SUM, GOES_OUT, 0xfffe, HOLDS },
	{ "held at an odd offset, TCP 0000 in", V4, TCP_SUM, COMES_IN, 0x0000, HOLDS_ODD },
	{ "held at an odd offset, TCP 0000 out", V4, TCP_SUM, GOES_OUT, 0x0000, HOLDS_ODD },
	{ "held at an odd offset, TCP fffe out", V4, TCP_SUM, GOES_OUT, 0xfffe, HOLDS_ODD },
	{ "v6 held, TCP 0000 in", V6, TCP_SUM, COMES_IN, 0x0000, HOLDS6 },
	{ "v6 held, TCP 0000 out", V6, TCP_SUM, GOES_OUT, 0x0000, HOLDS6 },
	{ "v6 held, TCP fffe out", V6, TCP_SUM, GOES_OUT, 0xfffe, HOLDS6 },
#undef HOLDS
#undef HOLDS_ODD
#undef HOLDS6
#undef V4
#undef V6
};

static unsigned sum_offset(const struct packet_buf *p, enum sum sum)
{
	return sum == IP_SUM ? p->l3 + 10 : p->l4 + 16;
}

static uint16_t sum_of(const struct packet_buf *p, enum sum sum)
{
	const uint8_t *at = p->bytes + sum_offset(p, sum);

	return at[0] << 8 | at[1];
}

/* Finds the packet: the IP header's identification or the sequence number makes the sum. */
static bool edge_find(const struct edge_row *row, struct packet_buf *in, struct packet_buf *want)
{
	const struct packet_spec spec = { .src = row->client,
					  .dst = row->vip,
					  .flags = row->options ? "S" : "A",
					  .options = row->options,
					  .options_len = row->options_len };
	unsigned knob;

	packet_build(in, &spec);
	knob = row->sum == IP_SUM ? in->l3 + 4 : in->l4 + 6;
	for (unsigned i = 0; i <= 0xffff; i++) {
		in->bytes[knob] = i >> 8;
		in->bytes[knob + 1] = i & 0xff;
		packet_checksum(in);
		*want = *in;
		if (row->become)
			memcpy(want->bytes + want->l4 + 20, row->become, row->options_len);
		make_forwarded(want, row->backend);
		if (sum_of(row->side == COMES_IN ? in : want, row->sum) == row->value)
			return true;
	}
	return false;
}

static void checksum_edges(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(edge_rows); i++) {
		const struct edge_row *row = &edge_rows[i];
		struct packet_buf in, want, out;
		unsigned at;

		if (!edge_find(row, &in, &want)) {
			row_failed(row->why, "no such packet");
			continue;
		}
		assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
		packet_expect(&want, &out, row->why);
		if (row->side != COMES_IN || row->value)
			continue;
		at = sum_offset(&in, row->sum); /* ffff is another way to write 0000 */
		memset(in.bytes + at, 0xff, 2);
		assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
		if (!packet_checksum_ok(&out))
			row_failed(row->why, "wrong if it comes in as ffff");
	}
	rows_done();
}

/* --- which backend --------------------------------------------------------------------------- */

#define FLOWS 65536

#define HELD_SYN "H" /* beside packet_spec's letters: a SYN with a held request */

/* A packet of flow number @flow to @service, a service's port. */
static struct packet_spec flow_packet(bool ip6, const char *service, unsigned flow,
				      const char *flags, bool retry)
{
	static char src[ADDRESS_TEXT_LEN], dst[ADDRESS_TEXT_LEN];
	static uint8_t request[20];
	bool held = !strcmp(flags, HELD_SYN);
	struct packet_spec spec = { .src = src, .dst = dst, .flags = held ? "S" : flags };

	snprintf(src, sizeof(src), ip6 ? "[fd00:1::%x]:%u" : "10.0.%u.2:%u", flow & 0xff,
		 1024 + (flow >> 8) * 7);
	snprintf(dst, sizeof(dst), ip6 ? "[fd00:99::1]:%s" : "10.99.0.1:%s", service);
	if (!strcmp(spec.flags, "S")) {
		spec.options_len =
			packet_request(dst, src, held ? SS_OPT_HELD : SS_OPT_ARMED, request);
		request[3] |= retry;
		spec.options = request;
	}
	return spec;
}

/* Which backend gets that packet: the last digit of its address; -1: none. */
static int backend_of_packet(const struct packet_spec *spec)
{
	struct packet_buf in, out;

	packet_build(&in, spec);
	if (xdp_run(prog, 0, &in, &out) != XDP_TX)
		return -1;
	return out.bytes[out.l3 + (is_ip6(&in) ? 39 : 19)];
}

static int backend_of(bool ip6, const char *service, unsigned flow, const char *flags, bool retry)
{
	struct packet_spec spec = flow_packet(ip6, service, flow, flags, retry);

	return backend_of_packet(&spec);
}

/* The same for a SYN of that flow with the sequence number @seq. */
static int backend_of_seq(bool ip6, const char *service, unsigned flow, uint32_t seq, bool retry)
{
	struct packet_spec spec = flow_packet(ip6, service, flow, "S", retry);

	spec.seq = seq;
	return backend_of_packet(&spec);
}

/* The same for a packet from client number @client, one of 65536, and its port @port. */
static int backend_of_client(bool ip6, const char *service, unsigned client, unsigned port,
			     const char *flags, bool retry)
{
	struct packet_spec spec = flow_packet(ip6, service, 0, flags, retry);
	char src[ADDRESS_TEXT_LEN];

	if (ip6)
		snprintf(src, sizeof(src), "[fd00:1:0:%x::%x]:%u", client >> 8, client & 0xff,
			 port);
	else
		snprintf(src, sizeof(src), "10.1.%u.%u:%u", client >> 8, client & 0xff, port);
	spec.src = src;
	return backend_of_packet(&spec);
}

/* A retransmission goes elsewhere, if there is another; later packets go where the SYN went. */
static void maglev_flow(bool ip6, const char *service, unsigned backends, unsigned flow)
{
	static const char *const later[] = { "A", "PA", "FA", "R", "RA", "SA" };
	int first = backend_of(ip6, service, flow, "S", false);
	int second = backend_of(ip6, service, flow, "S", true);

	if (first < 0 || (first != second) != (backends > 1))
		row_failed(service, "IPv%d flow %u goes to %d, then to %d", ip6 ? 6 : 4, flow,
			   first, second);
	if (backend_of(ip6, service, flow, "S", true) != second)
		row_failed(service, "flow %u: second choice changes", flow);
	for (size_t i = 0; i < ROWS(later); i++)
		if (backend_of(ip6, service, flow, later[i], false) != first)
			row_failed(service, "flow %u, %s: not to %d", flow, later[i], first);
}

static void maglev_choice(void **state)
{
	(void)state;
	for (unsigned flow = 0; flow < FLOWS; flow += 41)
		for (int ip6 = 0; ip6 < 2; ip6++) {
			maglev_flow(ip6, ONE, 1, flow);
			maglev_flow(ip6, TWO, 2, flow);
			maglev_flow(ip6, THREE, 3, flow);
		}
	rows_done();
}

/* Which backend gets an error about what the flow's server sent. */
static int backend_of_error(bool ip6, const char *service, unsigned flow)
{
	struct packet_spec spec = flow_packet(ip6, service, flow, "PA", false), about = spec;
	struct icmp_spec error = { .src = ip6 ? ROUTER6 : ROUTER4, .dst = spec.dst, .type = 3 };
	struct packet_buf quoted, in, out;

	about.src = spec.dst;
	about.dst = spec.src;
	packet_build(&quoted, &about);
	packet_build_icmp(&in, &error, &quoted);
	if (xdp_run(prog, 0, &in, &out) != XDP_TX)
		return -1;
	return out.bytes[out.l3 + (ip6 ? 39 : 19)];
}

/* It is the one that got the SYN. */
static void icmp_error_follows(bool ip6, const char *service, unsigned flow)
{
	int first = backend_of(ip6, service, flow, "S", false);
	int error = backend_of_error(ip6, service, flow);

	if (first != error)
		row_failed(service, "IPv%d flow %u goes to %d, errors to %d", ip6 ? 6 : 4, flow,
			   first, error);
}

static void icmp_errors_follow(void **state)
{
	(void)state;
	for (unsigned flow = 0; flow < FLOWS; flow += 41)
		for (int ip6 = 0; ip6 < 2; ip6++) {
			icmp_error_follows(ip6, THREE, flow);
			icmp_error_follows(ip6, SOURCE_THREE, flow);
		}
	rows_done();
}

/* Second choices of flows that went to one backend are spread over all others. */
static void maglev_second_choices(void **state)
{
	unsigned n[2][4][4] = {};

	(void)state;
	for (unsigned flow = 0; flow < FLOWS; flow += 7)
		for (int ip6 = 0; ip6 < 2; ip6++) {
			int first = backend_of(ip6, THREE, flow, "S", false);
			int second = backend_of(ip6, THREE, flow, "S", true);

			assert_in_range(first, 1, 3);
			assert_in_range(second, 1, 3);
			n[ip6][first][second]++;
		}
	for (int ip6 = 0; ip6 < 2; ip6++)
		for (int first = 1; first <= 3; first++)
			for (int second = 1; second <= 3; second++)
				if (first != second) /* 1560, give or take 5 sigma */
					assert_in_range(n[ip6][first][second], 1400, 1720);
}

static void service_config_fill(struct service_config *service, const struct service_row *row)
{
	*service = (struct service_config){ .scheduler = row->scheduler,
					    .method = row->method,
					    .slots = row->slots,
					    .fail_open = row->fail_open,
					    .flow_table = row->flow_table };
	assert_int_equal(endpoint_parse(row->vip, &service->vip), 0);
	snprintf(service->name, sizeof(service->name), "%s", row->vip);
	service->backends = calloc(BACKENDS_MAX, sizeof(*service->backends));
	assert_non_null(service->backends);
	for (unsigned i = 0; i < BACKENDS_MAX && row->backend[i].address; i++) {
		struct backend_config *b = &service->backends[service->backends_count++];

		assert_int_equal(endpoint_parse(row->backend[i].address, &b->address), 0);
		snprintf(b->name, sizeof(b->name), "s%u", i + 1);
		b->weight = row->backend[i].weight;
		b->state = row->backend[i].state;
	}
	assert_int_equal(address_parse(SOURCE4, &service->source[0]), 0);
	assert_int_equal(address_parse(SOURCE6, &service->source[1]), 0);
}

static void hops_fill(void)
{
	const struct ss_lb_backend_cpu hop = lb_hop(hop_mac, own_mac);

	assert_int_equal(lb_hops_fill(&maps, ROWS(services) * BACKENDS_MAX, &hop), 0);
}

/* The balancer serves exactly these. Returns how many services changed. */
static int services_apply(const struct service_row *row, unsigned n)
{
	struct service_config *config = calloc(n, sizeof(*config));
	struct error err = {};
	int changed;

	assert_non_null(config);
	for (unsigned i = 0; i < n; i++)
		service_config_fill(&config[i], &row[i]);
	changed = lb_services_apply(&maps, config, n, &err);
	if (changed < 0)
		fail_msg("%s", err.text);
	for (unsigned i = 0; i < n; i++)
		free(config[i].backends);
	free(config);
	return changed;
}

static int services_default(void **state)
{
	(void)state;
	services_apply(services, ROWS(services));
	hops_fill();
	return 0;
}

/* 64 k SYNs that differ in what the scheduler looks at. */
static int backend_of_number(bool ip6, const char *service, enum ss_scheduler scheduler, unsigned n)
{
	switch (scheduler) {
	case SS_SCHED_RANDOM:
		return backend_of_seq(ip6, service, 0, n * 64000, false);
	case SS_SCHED_SOURCE_HASH:
		return backend_of_client(ip6, service, n, 40000, "S", false);
	default:
		return backend_of(ip6, service, n, "S", false);
	}
}

static const struct share_row {
	const char *why;
	struct service_row service;
	unsigned share[BACKENDS_MAX]; /* in percent of all flows, for backends 1, 2, 3 */
} share_rows[] = {
	{ "equal", { "10.99.0.1:" THREE, MAGLEV, { TWO4, UP("10.0.3.3:1") } }, { 33, 33, 33 } },
	{ "v6 equal",
	  { "[fd00:99::1]:" THREE, MAGLEV, { TWO6, UP("[fd00:3::3]:1") } },
	  { 33, 33, 33 } },
	{ "a drained one gets nothing",
	  { "10.99.0.1:" THREE,
	    MAGLEV,
	    { DRAIN("10.0.3.1:1"), UP("10.0.3.2:1"), UP("10.0.3.3:1") } },
	  { 0, 50, 50 } },
	{ "weights 20, 30, 50",
	  { "10.99.0.1:" THREE,
	    MAGLEV,
	    { WEIGHT("10.0.3.1:1", 20), WEIGHT("10.0.3.2:1", 30), WEIGHT("10.0.3.3:1", 50) } },
	  { 20, 30, 50 } },
	{ "v6 weights 1, 9, 0",
	  { "[fd00:99::1]:" THREE,
	    MAGLEV,
	    { WEIGHT("[fd00:3::1]:1", 1), WEIGHT("[fd00:3::2]:1", 9),
	      WEIGHT("[fd00:3::3]:1", 0) } },
	  { 10, 90, 0 } },
	{ "random, equal",
	  { "10.99.0.1:" THREE, RANDOM, { TWO4, UP("10.0.3.3:1") } },
	  { 33, 33, 33 } },
	{ "v6 random, equal",
	  { "[fd00:99::1]:" THREE, RANDOM, { TWO6, UP("[fd00:3::3]:1") } },
	  { 33, 33, 33 } },
	{ "random, weights 20, 30, 50",
	  { "10.99.0.1:" THREE,
	    RANDOM,
	    { WEIGHT("10.0.3.1:1", 20), WEIGHT("10.0.3.2:1", 30), WEIGHT("10.0.3.3:1", 50) } },
	  { 20, 30, 50 } },
	{ "v6 random, weights 1, 9, and one drained",
	  { "[fd00:99::1]:" THREE,
	    RANDOM,
	    { WEIGHT("[fd00:3::1]:1", 1), WEIGHT("[fd00:3::2]:1", 9), DRAIN("[fd00:3::3]:1") } },
	  { 10, 90, 0 } },
	{ "source hash, equal",
	  { "10.99.0.1:" THREE, SOURCE_HASH, { TWO4, UP("10.0.3.3:1") } },
	  { 33, 33, 33 } },
	{ "v6 source hash, equal",
	  { "[fd00:99::1]:" THREE, SOURCE_HASH, { TWO6, UP("[fd00:3::3]:1") } },
	  { 33, 33, 33 } },
	{ "source hash, weights 20, 30, 50",
	  { "10.99.0.1:" THREE,
	    SOURCE_HASH,
	    { WEIGHT("10.0.3.1:1", 20), WEIGHT("10.0.3.2:1", 30), WEIGHT("10.0.3.3:1", 50) } },
	  { 20, 30, 50 } },
	{ "v6 source hash, weights 1, 9, and one drained",
	  { "[fd00:99::1]:" THREE,
	    SOURCE_HASH,
	    { WEIGHT("[fd00:3::1]:1", 1), WEIGHT("[fd00:3::2]:1", 9), DRAIN("[fd00:3::3]:1") } },
	  { 10, 90, 0 } },
};

/* 64 k SYNs: each backend gets its share, give or take one percent of all; or nothing. */
static void share_run(const struct share_row *row)
{
	bool ip6 = row->service.vip[0] == '[';
	unsigned got[BACKENDS_MAX + 1] = {};

	services_apply(&row->service, 1);
	hops_fill();
	for (unsigned flow = 0; flow < FLOWS; flow++) {
		int backend = backend_of_number(ip6, THREE, row->service.scheduler, flow);

		assert_in_range(backend, 1, 3);
		got[backend]++;
	}
	for (unsigned b = 1; b <= 3; b++) {
		double percent = got[b] * 100.0 / FLOWS, share = row->share[b - 1];

		if (share ? percent < share - 1 || percent > share + 1 : got[b] > 0)
			row_failed(row->why, "backend %u gets %.2f %%", b, percent);
	}
}

static void shares(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(share_rows); i++)
		share_run(&share_rows[i]);
	rows_done();
}

static const struct turn_row {
	const char *why;
	struct service_row service;
	unsigned period;
	unsigned share[BACKENDS_MAX]; /* turns out of @period, for backends 1, 2, 3 */
} turn_rows[] = {
	{ "equal",
	  { "10.99.0.1:" TURNS, ROUND_ROBIN, { TWO4, UP("10.0.3.3:1") } },
	  3,
	  { 1, 1, 1 } },
	{ "v6 equal",
	  { "[fd00:99::1]:" TURNS, ROUND_ROBIN, { TWO6, UP("[fd00:3::3]:1") } },
	  3,
	  { 1, 1, 1 } },
	{ "two, and one drained",
	  { "10.99.0.1:" TURNS, ROUND_ROBIN, { TWO4, DRAIN("10.0.3.3:1") } },
	  2,
	  { 1, 1, 0 } },
	{ "weights 1, 2, 5",
	  { "10.99.0.1:" TURNS,
	    ROUND_ROBIN,
	    { WEIGHT("10.0.3.1:1", 1), WEIGHT("10.0.3.2:1", 2), WEIGHT("10.0.3.3:1", 5) } },
	  8,
	  { 1, 2, 5 } },
};

/* On one processor the order is exact: the same in every period, to each its share. */
static void turn_run(const struct turn_row *row)
{
	bool ip6 = row->service.vip[0] == '[';
	unsigned got[BACKENDS_MAX + 1] = {};
	int order[8];

	services_apply(&row->service, 1);
	hops_fill();
	for (unsigned turn = 0; turn < row->period * 50; turn++) {
		int backend = backend_of(ip6, TURNS, turn / 2, "S", false);

		assert_in_range(backend, 1, 3);
		if (turn < row->period) {
			order[turn] = backend;
			got[backend]++;
		} else if (order[turn % row->period] != backend) {
			row_failed(row->why, "turn %u: backend %d", turn, backend);
		}
	}
	for (unsigned b = 1; b <= 3; b++)
		if (got[b] != row->share[b - 1])
			row_failed(row->why, "backend %u: %u turns", b, got[b]);
}

static void turns_are_exact(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(turn_rows); i++)
		turn_run(&turn_rows[i]);
	rows_done();
}

/* A retransmitted SYN goes elsewhere, where no other connection came in between. */
static void turns_retry(void **state)
{
	static const char *const service[] = { TURNS_TWO, TURNS };

	(void)state;
	for (size_t i = 0; i < ROWS(service); i++) {
		unsigned same = 0;

		for (unsigned flow = 0; flow < 100; flow++)
			for (int ip6 = 0; ip6 < 2; ip6++) {
				int first = backend_of(ip6, service[i], flow, "S", false);
				int second = backend_of(ip6, service[i], flow, "S", true);

				assert_in_range(first, 1, 3);
				assert_in_range(second, 1, 3);
				same += first == second;
			}
		if (same)
			row_failed(service[i], "%u of 200 retries go to the first choice", same);
	}
	rows_done();
}

/* The SYN alone decides: its retransmission goes elsewhere, the next connection anywhere. */
static void random_flow(bool ip6, const char *service, unsigned backends, unsigned flow)
{
	unsigned seen = 0;

	for (uint32_t seq = 1; seq <= 64; seq++) {
		int first = backend_of_seq(ip6, service, flow, seq, false);
		int second = backend_of_seq(ip6, service, flow, seq, true);

		if (first < 0 || (first != second) != (backends > 1))
			row_failed(service, "IPv%d flow %u goes to %d, then to %d", ip6 ? 6 : 4,
				   flow, first, second);
		if (backend_of_seq(ip6, service, flow, seq, false) != first)
			row_failed(service, "flow %u: the same SYN goes elsewhere", flow);
		seen |= 1U << first;
	}
	if (backends > 1 && seen != (1U << (backends + 1)) - 2)
		row_failed(service, "64 connections of flow %u go to %#x", flow, seen);
}

static void random_choice(void **state)
{
	(void)state;
	for (unsigned flow = 0; flow < 100; flow++)
		for (int ip6 = 0; ip6 < 2; ip6++) {
			random_flow(ip6, RANDOM_ONE, 1, flow);
			random_flow(ip6, RANDOM_TWO, 2, flow);
			random_flow(ip6, RANDOM_THREE, 3, flow);
		}
	rows_done();
}

/* All that a client sends goes to one backend, and all that it sends again to another. */
static void source_client(bool ip6, const char *service, unsigned backends, unsigned client)
{
	int first = backend_of_client(ip6, service, client, 1024, "S", false);
	int second = backend_of_client(ip6, service, client, 1024, "S", true);

	if (first < 0 || (first != second) != (backends > 1))
		row_failed(service, "IPv%d client %u goes to %d, then to %d", ip6 ? 6 : 4, client,
			   first, second);
	for (unsigned port = 1025; port < 1033; port++) {
		if (backend_of_client(ip6, service, client, port, "S", false) != first ||
		    backend_of_client(ip6, service, client, port, "A", false) != first)
			row_failed(service, "client %u, port %u: not to %d", client, port, first);
		if (backend_of_client(ip6, service, client, port, "S", true) != second)
			row_failed(service, "client %u, port %u: not to %d", client, port, second);
	}
}

static void source_choice(void **state)
{
	(void)state;
	for (unsigned client = 0; client < 65536; client += 401)
		for (int ip6 = 0; ip6 < 2; ip6++) {
			source_client(ip6, SOURCE_ONE, 1, client);
			source_client(ip6, SOURCE_TWO, 2, client);
			source_client(ip6, SOURCE_THREE, 3, client);
		}
	rows_done();
}

/* When a backend leaves, hardly a client of the others moves. */
static void source_hash_is_consistent(void **state)
{
	struct service_row row = { "10.99.0.1:" SOURCE_THREE,
				   SOURCE_HASH,
				   { TWO4, UP("10.0.3.3:1") } };
	static int before[65536];
	unsigned moved = 0;

	(void)state;
	services_apply(&row, 1);
	hops_fill();
	for (unsigned i = 0; i < 65536; i++)
		before[i] = backend_of_client(false, SOURCE_THREE, i, 1024, "S", false);
	row.backend[1].state = SS_BACKEND_DRAIN;
	services_apply(&row, 1);
	for (unsigned i = 0; i < 65536; i++) {
		int now = backend_of_client(false, SOURCE_THREE, i, 1024, "S", false);

		assert_int_not_equal(now, 2);
		moved += before[i] != 2 && now != before[i];
	}
	assert_in_range(moved, 0, 65536 * 3 / 100); /* of two thirds of them */
}

/* --- what user space sees and changes -------------------------------------------------------- */

/* The service at @vip out of @all. */
static const struct lb_service *service_in(const struct lb_services *all, const char *vip)
{
	struct ss_endpoint key;

	assert_int_equal(endpoint_parse(vip, &key), 0);
	for (unsigned i = 0; i < all->count; i++)
		if (ss_endpoint_equal(&all->item[i].vip, &key))
			return &all->item[i];
	fail_msg("no service at %s", vip);
	return NULL;
}

/* The backend with the last digit @digit of the service at @vip. */
static __u32 backend_id(const char *vip, int digit)
{
	const struct lb_service *service;
	struct lb_services all;
	__u32 id = ~0U;

	assert_int_equal(lb_services_read(&maps, &all, NULL), 0);
	service = service_in(&all, vip);
	for (unsigned i = 0; i < service->table.head->backends; i++)
		if (SS_BE32(service->table.backend[i].endpoint.addr.w[3]) % 256 == (__u32)digit)
			id = service->table.backend[i].id;
	lb_services_done(&all);
	assert_int_not_equal(id, ~0U);
	return id;
}

static void backends_are_counted(void **state)
{
	__u32 id = backend_id("10.99.0.1:" ONE, 9);
	struct ss_lb_backend_cpu before = backend_read(id), after;

	(void)state;
	for (unsigned i = 0; i < 10; i++) {
		backend_of(false, ONE, i, "S", false);
		if (i < 5)
			backend_of(false, ONE, i, "S", true);
		if (i < 3)
			backend_of(false, ONE, i, "PA", false);
	}
	backend_of(true, ONE, 0, "S", false); /* another service's */
	after = backend_read(id);
	assert_int_equal(after.syns - before.syns, 15);
	assert_int_equal(after.retries - before.retries, 5);
	assert_int_equal(after.others - before.others, 3);
}

/* Which backends of @row get connections: a bit each. */
static unsigned who_serves(const struct service_row *row)
{
	unsigned who = 0;

	services_apply(row, 0);
	services_apply(row, 1);
	hops_fill();
	for (unsigned flow = 0; flow < 100; flow++) {
		int backend = backend_of(false, THREE, flow, "S", false);

		if (backend > 0)
			who |= 1 << backend;
	}
	return who;
}

/* Those that are down get none, unless nobody is up and the service wants it so. */
static void down_and_fail_open(void **state)
{
	struct service_row row = { "10.99.0.1:" THREE,
				   MAGLEV,
				   { UP("10.0.3.1:8080"), DOWN("10.0.3.2:8080"),
				     DRAIN("10.0.3.3:8080") } };

	(void)state;
	assert_int_equal(who_serves(&row), 1 << 1);
	row.fail_open = true;
	assert_int_equal(who_serves(&row), 1 << 1);
	row.backend[0].state = SS_BACKEND_DOWN;
	assert_int_equal(who_serves(&row), 1 << 1 | 1 << 2);
	row.backend[1].weight = 0;
	assert_int_equal(who_serves(&row), 1 << 1);
	row.backend[1] = (struct backend_row)WEIGHT("10.0.3.2:8080", 0); /* up, but for nobody */
	assert_int_equal(who_serves(&row), 1 << 1);
	row.fail_open = false;
	assert_int_equal(who_serves(&row), 0);
}

/* How many SYNs the backends 1 to 3 of THREE have left without an answer. */
static void unanswered_read(unsigned n[4])
{
	for (int i = 1; i <= 3; i++)
		n[i] = backend_read(backend_id("10.99.0.1:" THREE, i)).unanswered;
}

/* A SYN that comes again says something of who got it first, not of who gets it now. */
static void unanswered_are_counted(void **state)
{
	unsigned before[4], after[4], expected[4] = {};

	(void)state;
	unanswered_read(before);
	for (unsigned i = 0; i < 300; i++) {
		expected[backend_of(false, THREE, i, "S", false)]++;
		backend_of(false, THREE, i, "S", true);
	}
	unanswered_read(after);
	for (int i = 1; i <= 3; i++)
		assert_int_equal(after[i] - before[i], expected[i]);
}

/* The kernel's id of the inner map that is the service at @vip. */
static __u32 table_map_id(const char *vip)
{
	struct lb_services all;
	__u32 id = 0;

	assert_int_equal(lb_services_read(&maps, &all, NULL), 0);
	assert_int_equal(bpf_map_lookup_elem(maps.small_tables, &service_in(&all, vip)->index, &id),
			 0);
	lb_services_done(&all);
	return id;
}

/* A backend leaves a service: it gets nothing any more, everything else stays as it was. */
static void backend_removed(void **state)
{
	struct service_row changed[ROWS(services)];
	__u32 table = table_map_id(services[0].vip), other = table_map_id(services[1].vip);
	__u32 kept = backend_id(services[0].vip, 3);
	struct ss_lb_backend_cpu before, after;

	(void)state;
	for (unsigned flow = 0; flow < 100; flow++)
		backend_of(false, THREE, flow, "S", false);
	before = backend_read(kept);
	assert_true(before.syns > 0);
	memcpy(changed, services, sizeof(services));
	changed[0].backend[1] = changed[0].backend[2];
	changed[0].backend[2] = (struct backend_row){};
	assert_int_equal(services_apply(changed, ROWS(changed)), 1);

	assert_int_not_equal(table_map_id(services[0].vip), table);
	assert_int_equal(table_map_id(services[1].vip), other);
	assert_int_equal(backend_id(services[0].vip, 3), kept);
	after = backend_read(kept);
	assert_memory_equal(&after, &before, sizeof(after));
	for (unsigned flow = 0; flow < 2000; flow++)
		for (int retry = 0; retry < 2; retry++)
			assert_int_not_equal(backend_of(false, THREE, flow, "S", retry), 2);
	assert_int_equal(services_apply(changed, ROWS(changed)), 0);
}

/* --- the flow table --------------------------------------------------------------------------- */

#define PLAIN "SP" /* a SYN without options, as flow_packet() builds it */
#define KEPT 300 /* flows that are followed */
#define THREE4                            \
	{                                 \
		TWO4, UP("10.0.3.3:8080") \
	}
#define THREE6                               \
	{                                    \
		TWO6, UP("[fd00:3::3]:8080") \
	}
#define WITHOUT WRAPPED /* Maglev and ipip, without a flow table */

/* clang-format off */
#define FLOW_SERVICES(vip, backends)                                                               \
	{ vip THREE, MAGLEV, backends, SS_METHOD_IPIP, true },                                     \
	{ vip TURNS, ROUND_ROBIN, backends, SS_METHOD_GUE, true },                                 \
	{ vip TWO, MAGLEV, backends, SS_METHOD_REWRITE, true },                                    \
	{ vip WITHOUT, MAGLEV, backends, SS_METHOD_IPIP }
/* clang-format on */

static const struct service_row flow_services[] = {
	FLOW_SERVICES("10.99.0.1:", THREE4),
	FLOW_SERVICES("[fd00:99::1]:", THREE6),
};

/* A service, and what brings its connections into the table. */
static const struct kept_row {
	const char *service, *first;
} kept_rows[] = {
	{ THREE, PLAIN }, { TURNS, PLAIN }, { TWO, "A" }, { THREE, HELD_SYN }, { TURNS, HELD_SYN },
};

static int flows_begin(void **state)
{
	int fd = bpf_map__fd(skel->maps.flows), asked = bpf_map__fd(skel->maps.flows_asked);
	struct ss_lb_flow_key key;

	(void)state;
	while (!bpf_map_get_next_key(fd, NULL, &key))
		assert_int_equal(bpf_map_delete_elem(fd, &key), 0);
	for (__u32 i = 0, no = 0; i < ROWS(flow_services); i++)
		assert_int_equal(bpf_map_update_elem(asked, &i, &no, BPF_ANY), 0);
	services_apply(flow_services, 0);
	services_apply(flow_services, ROWS(flow_services));
	hops_fill();
	return 0;
}

enum change { S2_DRAINS, S2_GOES, S4_COMES };

static void flows_change(enum change change)
{
	struct service_row changed[ROWS(flow_services)];

	memcpy(changed, flow_services, sizeof(changed));
	for (size_t i = 0; i < ROWS(changed); i++) {
		struct backend_row *b = changed[i].backend;

		if (change == S2_DRAINS)
			b[1].state = SS_BACKEND_DRAIN;
		else if (change == S2_GOES)
			b[1] = b[2], b[2] = (struct backend_row){};
		else
			b[3] = (struct backend_row)UP(changed[i].vip[0] == '[' ? "[fd00:3::4]:8080"
									       : "10.0.3.4:8080");
	}
	services_apply(changed, ROWS(changed));
	hops_fill();
}

static void flows_are_kept_by(const struct kept_row *row, bool ip6, enum change change)
{
	int first[KEPT];

	for (unsigned flow = 0; flow < KEPT; flow++)
		first[flow] = backend_of(ip6, row->service, flow, row->first, false);
	flows_change(change);
	for (unsigned flow = 0; flow < KEPT; flow++) {
		int now = backend_of(ip6, row->service, flow, "A", false);

		if (first[flow] < 1 || now != first[flow])
			row_failed(row->service, "change %d, IPv%d flow %u: from %d to %d", change,
				   ip6 ? 6 : 4, flow, first[flow], now);
		if (backend_of_error(ip6, row->service, flow) != now)
			row_failed(row->service, "flow %u: an error goes elsewhere", flow);
	}
	for (unsigned flow = KEPT; flow < 2 * KEPT && change != S4_COMES; flow++)
		if (backend_of(ip6, row->service, flow, row->first, false) == 2)
			row_failed(row->service, "a new connection goes to s2");
}

/* Whatever happens to the backends, a connection stays with its own. */
static void flows_are_kept(void **state)
{
	for (size_t i = 0; i < ROWS(kept_rows); i++)
		for (int ip6 = 0; ip6 < 2; ip6++)
			for (enum change change = S2_DRAINS; change <= S4_COMES; change++) {
				flows_begin(state);
				flows_are_kept_by(&kept_rows[i], ip6, change);
			}
	rows_done();
}

/* What a service without the table has to expect. */
static void flows_without_table(void **state)
{
	unsigned lost = 0;

	(void)state;
	for (unsigned flow = 0; flow < KEPT; flow++)
		lost += backend_of(false, WITHOUT, flow, PLAIN, false) == 2;
	flows_change(S2_GOES);
	for (unsigned flow = 0; flow < KEPT; flow++)
		assert_int_not_equal(backend_of(false, WITHOUT, flow, "A", false), 2);
	assert_in_range(lost, KEPT / 5, KEPT / 2);
}

/* Without a hash, who is not in the table is nobody's. */
static void flows_unknown(void **state)
{
	struct packet_spec spec = flow_packet(false, TURNS, 0, "A", false);
	struct packet_buf in, out;

	(void)state;
	packet_build(&in, &spec);
	watch_start(&counters);
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_DROP);
	watch_expect(&counters, C(drop_no_state), "unknown flow");
	rows_done();
}

/* The SYN of @flow was @seconds ago. */
static void flow_age(bool ip6, unsigned flow, unsigned seconds)
{
	struct packet_spec spec = flow_packet(ip6, TURNS, flow, "A", false);
	int fd = bpf_map__fd(skel->maps.flows);
	struct ss_lb_flow_key key, *prev = NULL;
	struct ss_endpoint client;
	struct ss_lb_flow value;

	assert_int_equal(endpoint_parse(spec.src, &client), 0);
	for (; !bpf_map_get_next_key(fd, prev, &key); prev = &key) {
		if (!ss_addr_equal(&key.client, &client.addr) || key.port != client.port)
			continue;
		assert_int_equal(bpf_map_lookup_elem(fd, &key, &value), 0);
		value.since -= seconds * 1000000000ULL;
		assert_int_equal(bpf_map_update_elem(fd, &key, &value, BPF_EXIST), 0);
		return;
	}
	fail_msg("flow %u is not in the table", flow);
}

/* A SYN sent again finds the same server; one that comes later is a new connection's. */
static void flows_syn_again(void **state)
{
	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++) {
		int first = backend_of(ip6, TURNS, 1, PLAIN, false), next;

		for (int i = 0; i < 3; i++)
			assert_int_equal(backend_of(ip6, TURNS, 1, PLAIN, false), first);
		flow_age(ip6, 1, 3);
		next = backend_of(ip6, TURNS, 1, PLAIN, false);
		assert_int_not_equal(next, first);
		assert_int_equal(backend_of(ip6, TURNS, 1, "A", false), next);
	}
}

/*
 * Within the time of a retransmission, a SYN with another number, or behind an end, is another connection's: it
 * gets its own server, and the first one is not blamed for an answer that did not come.
 */
static void flows_dialled_again(void **state)
{
	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++) {
		struct packet_spec spec = flow_packet(ip6, TURNS, 9, PLAIN, false);
		int first = backend_of_packet(&spec), next, last;

		spec.seq = 70000;
		next = backend_of_packet(&spec);
		assert_int_not_equal(next, first);
		assert_int_equal(backend_of_packet(&spec), next);
		assert_int_equal(backend_of(ip6, TURNS, 9, "R", false), next);
		spec = flow_packet(ip6, TURNS, 9, PLAIN, false);
		spec.seq = 70000;
		last = backend_of_packet(&spec);
		assert_int_not_equal(last, next);
	}
}

/* A connection that stays although it asked does not meet what an earlier one has left. */
static void flows_asked(void **state)
{
	unsigned moved = 0;

	(void)state;
	for (unsigned flow = 0; flow < KEPT; flow++)
		backend_of(false, TWO, flow, "A", false);
	flows_change(S2_GOES);
	for (unsigned flow = 0; flow < KEPT; flow++) {
		int before = backend_of(false, TWO, flow, "A", false);
		int syn = backend_of(false, TWO, flow, "S", false);

		moved += before != syn;
		assert_int_equal(backend_of(false, TWO, flow, "A", false), syn);
	}
	assert_in_range(moved, KEPT / 5, KEPT / 2); /* those that were with s2 */
}

/* A second choice is remembered, so that the connection can stay if it has to. */
static void flows_second_choice(void **state)
{
	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++)
		for (unsigned flow = 0; flow < KEPT; flow++) {
			int second = backend_of(ip6, TWO, flow, "S", true);

			assert_int_equal(backend_of(ip6, TWO, flow, "A", false), second);
			assert_int_equal(backend_of_error(ip6, TWO, flow), second);
		}
}

/* One client port, two services: two connections. */
static void flows_apart(void **state)
{
	unsigned other = 0;

	(void)state;
	for (unsigned flow = 0; flow < KEPT; flow++) {
		int turn = backend_of(false, TURNS, flow, PLAIN, false);
		int hash = backend_of(false, THREE, flow, PLAIN, false);

		assert_int_equal(backend_of(false, TURNS, flow, "A", false), turn);
		assert_int_equal(backend_of(false, THREE, flow, "A", false), hash);
		other += turn != hash;
	}
	assert_true(other > 0);
}

/* Services leave: their packets are none of ours; others on the same address stay. */
static void services_removed(void **state)
{
	struct packet_spec spec = flow_packet(false, ONE, 0, "S", false);
	struct packet_buf in, out;

	(void)state;
	packet_build(&in, &spec);
	assert_int_equal(services_apply(services, 1), ROWS(services) - 1);
	watch_start(&counters);
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_PASS);
	watch_expect(&counters, 0, "removed service");
	packet_expect(&in, &out, "removed service");
	in.bytes[in.l4 + 12] = 0x40; /* a service's address: bad TCP header, dropped */
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_DROP);
	assert_in_range(backend_of(false, THREE, 0, "S", false), 1, 3);

	assert_int_equal(services_apply(services, 0), 1);
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_PASS);
	assert_int_equal(backend_of(false, THREE, 0, "S", false), -1);
	rows_done();
}

/*
 * What a processor has seen of a service holds no longer than that service: it gets a table of the other
 * size, or leaves, and another one gets its place.
 */
static void services_seen(void **state)
{
	static const struct service_row steps[] = {
		{ "10.99.0.1:" ONE, MAGLEV, { UP("10.0.3.1:80") } },
		{ "10.99.0.1:" ONE, MAGLEV, { UP("10.0.3.2:80") }, .slots = SS_LB_LARGE_SLOTS },
		{ "10.99.0.1:" ONE, MAGLEV, { UP("10.0.3.3:80") } },
		{ "10.99.0.1:" TWO, MAGLEV, { UP("10.0.3.4:80") } },
		{ "10.99.0.1:" THREE, MAGLEV, { UP("10.0.3.5:80") } },
	};
	static const char *const ports[] = { ONE, TWO, THREE };

	(void)state;
	services_apply(services, 0);
	for (size_t i = 0; i < ROWS(steps); i++) {
		services_apply(&steps[i], 1);
		hops_fill();
		for (size_t port = 0; port < ROWS(ports); port++) {
			bool there = !strcmp(strchr(steps[i].vip, ':') + 1, ports[port]);
			int expected = there ? (int)i + 1 : -1;

			for (int again = 0; again < 2; again++)
				assert_int_equal(backend_of(false, ports[port], 0, "S", false),
						 expected);
		}
	}
}

/* --- next hops ------------------------------------------------------------------------------- */

/* The way out: the interface, the next hop's MAC address, the interface's own. */
/* clang-format off */
#define BY_A0 "a0", { 2, 0, 0, 0, 0xa, 9 }, { 2, 0, 0, 0, 0xa, 0 }
#define BY_B0 "b0", { 2, 0, 0, 0, 0xb, 9 }, { 2, 0, 0, 0, 0xb, 0 }
/* clang-format on */
#define REDIRECTED XDP_REDIRECT, C(syn_forwarded)
#define TO_STACK XDP_PASS, C(syn_forwarded) | C(stack_forwarded)

static const struct hop_row {
	const char *why;
	const char *backend;
	unsigned verdict;
	__u64 counters;
	const char *interface; /* NULL: the frame keeps its MAC addresses */
	uint8_t to[6], from[6];
	const char *before, *behind; /* commands */
} hop_rows[] = {
	{ "out of the same interface", "10.0.3.9:8080", SYN_SENT, BY_A0 },
	{ "out of another one", "10.0.4.9:8080", REDIRECTED, BY_B0 },
	{ "through a gateway", "10.0.6.1:8080", REDIRECTED, BY_B0 },
	{ "neighbour not resolved", "10.0.3.77:8080", TO_STACK },
	{ "own address", "10.0.3.254:8080", TO_STACK },
	{ "blackhole", "10.0.5.1:8080", DROPPED(drop_no_route) },
	{ "unreachable", "10.0.5.2:8080", DROPPED(drop_no_route) },
	{ "prohibited", "10.0.5.3:8080", DROPPED(drop_no_route) },
	{ "forwarding off", "10.0.3.9:8080", DROPPED(drop_no_forwarding),
	  .before = "echo 0 > /proc/sys/net/ipv4/conf/a0/forwarding",
	  .behind = "echo 1 > /proc/sys/net/ipv4/conf/a0/forwarding" },

	{ "v6 same interface", "[fd00:3::9]:8080", SYN_SENT, BY_A0 },
	{ "v6 another one", "[fd00:4::9]:8080", REDIRECTED, BY_B0 },
	{ "v6 gateway", "[fd00:6::1]:8080", REDIRECTED, BY_B0 },
	{ "v6 neighbour not resolved", "[fd00:3::77]:8080", TO_STACK },
	{ "v6 own address", "[fd00:3::254]:8080", TO_STACK },
	{ "v6 blackhole", "[fd00:5::1]:8080", DROPPED(drop_no_route) },
	{ "v6 unreachable", "[fd00:5::2]:8080", DROPPED(drop_no_route) },
	{ "v6 prohibited", "[fd00:5::3]:8080", DROPPED(drop_no_route) },
	{ "v6 forwarding off", "[fd00:3::9]:8080", DROPPED(drop_no_forwarding),
	  .before = "echo 0 > /proc/sys/net/ipv6/conf/a0/forwarding",
	  .behind = "echo 1 > /proc/sys/net/ipv6/conf/a0/forwarding" },
};

/* One service, with one backend, whose next hop is not known yet. */
static void service_with(const char *backend)
{
	struct service_row row = { backend[0] == '[' ? "[fd00:99::1]:" ONE : "10.99.0.1:" ONE,
				   MAGLEV,
				   { UP(backend) } };

	services_apply(&row, 0);
	services_apply(&row, 1);
}

/* A SYN for that service comes in by a0. Returns the verdict, and the packet in *@out. */
static unsigned syn_by_a0(bool ip6, struct packet_buf *in, struct packet_buf *out)
{
	struct packet_spec spec = flow_packet(ip6, ONE, 0, "S", false);

	packet_build(in, &spec);
	return xdp_run(prog, if_nametoindex("a0"), in, out);
}

/* @p as it has to come out, other than dropped. */
static void make_hopped(struct packet_buf *p, const struct hop_row *row)
{
	if (row->interface) {
		p->bytes[p->l3 + (is_ip6(p) ? 7 : 8)]--;
		packet_set_macs(p, row->to, row->from);
	}
	packet_set_dst(p, row->backend);
}

static void hop_run(const struct hop_row *row)
{
	bool ip6 = row->backend[0] == '[';
	struct packet_buf in, want, out;
	unsigned verdict;

	service_with(row->backend);
	watch_start(&counters);
	verdict = syn_by_a0(ip6, &in, &out);
	if (verdict != row->verdict)
		row_failed(row->why, "verdict %u, not %u", verdict, row->verdict);
	watch_expect(&counters, row->counters, row->why);
	if (verdict == XDP_DROP)
		return;
	want = in;
	make_hopped(&want, row);
	packet_expect(&want, &out, row->why);
	if (row->interface && backend_read(0).ifindex != if_nametoindex(row->interface))
		row_failed(row->why, "out of interface %u", backend_read(0).ifindex);
}

static void next_hops(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(hop_rows); i++) {
		const struct hop_row *row = &hop_rows[i];

		if (row->before)
			shell("%s", row->before);
		hop_run(row);
		if (row->behind)
			shell("%s", row->behind);
	}
	rows_done();
}

/* The kernel forwards no packet from its own address: what it is to send on comes from the client. */
static void wrapped_by_kernel(void **state)
{
	static const struct service_row wrapped_services[] = {
		{ "10.99.0.1:" ONE, MAGLEV, { UP("10.0.3.77:8080") }, SS_METHOD_IPIP },
		{ "[fd00:99::1]:" ONE, MAGLEV, { UP("[fd00:3::77]:8080") }, SS_METHOD_GUE },
		{ "10.99.0.1:" ACROSS, MAGLEV, { UP("[fd00:3::77]:8080") }, SS_METHOD_GUE },
		{ "[fd00:99::1]:" ACROSS, MAGLEV, { UP("10.0.3.77:8080") }, SS_METHOD_IPIP },
	};
	static const char *const sources[] = { "10.0.1.2", "fd00:1::2", "100::1", "192.0.0.8" };

	(void)state;
	services_apply(wrapped_services, 0);
	services_apply(wrapped_services, ROWS(wrapped_services));
	for (unsigned i = 0; i < ROWS(wrapped_services); i++) {
		struct packet_case c[] = { { TO4(ONE, "A") },
					   { TO6(ONE, "A") },
					   { TO4(ACROSS, "A") },
					   { TO6(ACROSS, "A") } };
		bool v6 = i % 2, outer6 = i == 1 || i == 2;
		struct wrap_spec outer = { .src = sources[i],
					   .dst = outer6 ? "fd00:3::77" : "10.0.3.77",
					   .ttl = 64 };
		struct packet_buf in, want, out;

		packet_case_build(&in, &c[i]);
		want = in;
		watch_start(&counters);
		assert_int_equal(xdp_run(prog, if_nametoindex("a0"), &in, &out), XDP_PASS);
		watch_expect(&counters, C(other_forwarded) | C(stack_forwarded), "to the kernel");
		want.bytes[want.l3 + (v6 ? 7 : 8)]--;
		packet_checksum(&want);
		if (outer6)
			outer.sport = out.bytes[out.l3 + 40] << 8 | out.bytes[out.l3 + 41];
		packet_wrap(&want, &outer);
		packet_expect(&want, &out, sources[i]);
	}
	rows_done();
}

/* A backend is gone, and another one has its id: its connections go on, and go to it. */
static void flow_of_lost_backend(void **state)
{
	struct service_row row = {
		"10.99.0.1:" ONE, MAGLEV, { UP("10.0.3.9:8080") }, SS_METHOD_IPIP, true
	};
	struct packet_case syn = { TO4(ONE, "S") }, ack = { TO4(ONE, "A") };
	static const uint8_t a0_hop[] = { 2, 0, 0, 0, 0xa, 9 };
	struct packet_buf in, out;
	char src[32];
	__u32 id;

	(void)state;
	services_apply(&row, 0);
	services_apply(&row, 1);
	id = backend_id(row.vip, 9);
	packet_case_build(&in, &syn);
	assert_int_equal(xdp_run(prog, if_nametoindex("a0"), &in, &out), XDP_TX);
	row.backend[0] = (struct backend_row)UP("10.0.4.9:8080");
	services_apply(&row, 1); /* takes another id, as the old one is still in use */
	row.backend[1] = (struct backend_row)UP("10.0.6.1:8080");
	services_apply(&row, 1);
	assert_true(backend_id(row.vip, 9) == id || backend_id(row.vip, 1) == id);
	for (unsigned i = 0; i < 100; i++) { /* now next hops are known for both */
		snprintf(src, sizeof(src), "10.0.1.2:%u", 20000 + i);
		syn.spec.src = src;
		packet_case_build(&in, &syn);
		assert_int_equal(xdp_run(prog, if_nametoindex("a0"), &in, &out), XDP_REDIRECT);
	}
	for (int i = 0; i < 2; i++) {
		packet_case_build(&in, &ack);
		assert_int_equal(xdp_run(prog, if_nametoindex("a0"), &in, &out), XDP_TX);
		assert_memory_equal(out.bytes, a0_hop, 6);
		assert_int_equal(out.bytes[out.l3 + 18], 3);
		assert_int_equal(out.bytes[out.l3 + 19], 9);
	}
}

/* The service of @row, which knows where packets to IPv4 backends, or to IPv6 ones, come from, not both. */
static void apply_with_source(const struct service_row *row, bool v6)
{
	struct service_config config;
	struct error err = {};

	service_config_fill(&config, row);
	config.source[!v6] = (struct ss_addr){};
	if (lb_services_apply(&maps, &config, 1, &err) < 0)
		fail_msg("%s", err.text);
	free(config.backends);
	hops_fill();
}

/* The service's backends are of the other IP version now: its connections go on to the old ones. */
static void flow_after_version(void **state)
{
	static const struct service_row versions[] = {
		{ "10.99.0.1:" ACROSS, MAGLEV, { UP(BACKEND4) }, SS_METHOD_IPIP, true },
		{ "10.99.0.1:" ACROSS, MAGLEV, { UP(BACKEND6) }, SS_METHOD_IPIP, true },
	};
	struct packet_case syn = { TO4(ACROSS, "S") }, ack = { TO4(ACROSS, "A") };
	struct wrapped_row other = { .across = true }, same = {};
	struct packet_buf in, want, out;

	(void)state;
	services_apply(versions, 0);
	apply_with_source(&versions[0], false);
	packet_case_build(&in, &syn);
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
	apply_with_source(&versions[1], true);
	for (int known = 0; known < 2; known++) {
		if (!known)
			ack.spec.src = "10.0.1.2:39999";
		else
			ack.spec.src = syn.spec.src;
		packet_case_build(&in, &ack);
		assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
		want = in;
		make_wrapped(&want, known ? &same : &other, 0);
		packet_expect(&want, &out, known ? "an old connection" : "a new one");
	}
	rows_done();
}

/* --- nat --------------------------------------------------------------------------------------- */

/* Clients behind b0, backends behind a0. */
#define NAT_SERVER(ip6) ((ip6) ? "[fd00:3::9]:8080" : "10.0.3.9:8080")
#define NAT_CLIENT(ip6) ((ip6) ? "[fd00:4::9]:40000" : "10.0.4.9:40000")
#define NAT_VIP(ip6) ((ip6) ? "[fd00:99::1]:81" : "10.99.0.1:81")

static int nat_begin(void **state)
{
	static const struct service_row nat_services[] = {
		{ "10.99.0.1:" ONE, MAGLEV, { UP("10.0.3.9:8080") }, SS_METHOD_NAT, true },
		{ "[fd00:99::1]:" ONE, MAGLEV, { UP("[fd00:3::9]:8080") }, SS_METHOD_NAT, true },
	};
	int fds[] = { bpf_map__fd(skel->maps.flows), bpf_map__fd(skel->maps.nats) };
	uint8_t key[64];

	(void)state;
	for (int i = 0; i < 2; i++)
		while (!bpf_map_get_next_key(fds[i], NULL, key))
			assert_int_equal(bpf_map_delete_elem(fds[i], key), 0);
	services_apply(nat_services, 0);
	services_apply(nat_services, 2);
	return 0;
}

/* A packet from @src to @dst comes in by @interface: its verdict, and the packet in *@out. */
static unsigned nat_run(const char *interface, const char *src, const char *dst, const char *flags,
			struct packet_buf *in, struct packet_buf *out)
{
	packet_build(in, &(struct packet_spec){ .src = src,
						.dst = dst,
						.flags = flags,
						.ack = strchr(flags, 'A') ? 1 : 0,
						.payload = "odd",
						.payload_len = 3 });
	return xdp_run(prog, if_nametoindex(interface), in, out);
}

/* What came out is @in, one hop further, from @src to @dst. */
static void nat_expect(const char *why, const struct packet_buf *in, const struct packet_buf *out,
		       const char *src, const char *dst)
{
	struct packet_buf want = *in;

	want.bytes[want.l3 + (is_ip6(in) ? 7 : 8)]--;
	memcpy(want.bytes, out->bytes, 12); /* next hops have tests of their own */
	packet_set_src(&want, src);
	packet_set_dst(&want, dst);
	packet_expect(&want, out, why);
}

/* The port that a packet to a backend came from; it came from the balancer's address. */
static unsigned nat_port(const struct packet_buf *out)
{
	unsigned port = out->bytes[out->l4] << 8 | out->bytes[out->l4 + 1];
	char text[ADDRESS_TEXT_LEN];

	snprintf(text, sizeof(text), is_ip6(out) ? "[" SOURCE6 "]:%u" : SOURCE4 ":%u", port);
	assert_string_equal(packet_src(out), text);
	return port;
}

/* A connection both ways. */
static void nat_both_ways(void **state)
{
	static const char *const later[] = { "A", "PA", "FA", "R" };

	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++) {
		struct packet_buf in, out;
		char own[ADDRESS_TEXT_LEN];

		watch_start(&counters);
		assert_int_equal(nat_run("b0", NAT_CLIENT(ip6), NAT_VIP(ip6), "S", &in, &out),
				 XDP_REDIRECT);
		watch_expect(&counters, C(syn_forwarded) | C(syn_plain), "SYN");
		assert_in_range(nat_port(&out), SS_LB_NAT_PORT,
				SS_LB_NAT_PORT + SS_LB_NAT_PORTS - 1);
		snprintf(own, sizeof(own), "%s", packet_src(&out));
		nat_expect("SYN", &in, &out, own, NAT_SERVER(ip6));
		watch_start(&counters);
		assert_int_equal(nat_run("a0", NAT_SERVER(ip6), own, "SA", &in, &out),
				 XDP_REDIRECT);
		watch_expect(&counters, C(nat_returned), "SYN-ACK");
		nat_expect("SYN-ACK", &in, &out, NAT_VIP(ip6), NAT_CLIENT(ip6));
		for (size_t i = 0; i < ROWS(later); i++) {
			assert_int_equal(nat_run("b0", NAT_CLIENT(ip6), NAT_VIP(ip6), later[i], &in,
						 &out),
					 XDP_REDIRECT);
			nat_expect(later[i], &in, &out, own, NAT_SERVER(ip6));
			assert_int_equal(nat_run("a0", NAT_SERVER(ip6), own, later[i], &in, &out),
					 XDP_REDIRECT);
			nat_expect(later[i], &in, &out, NAT_VIP(ip6), NAT_CLIENT(ip6));
		}
	}
	rows_done();
}

/*
 * An error of @router, which comes in by @interface, about a packet from @src to @dst. What comes out, if
 * @as_src is not NULL, is one from @from to @as_src's address, about a packet from there to @as_dst.
 */
static void nat_error_run(const char *interface, const char *router, const char *src,
			  const char *dst, const char *from, const char *as_src, const char *as_dst)
{
	bool ip6 = src[0] == '[';
	struct packet_spec about = { .src = src, .dst = dst, .flags = "PA", PAYLOAD("hello") };

	for (unsigned quoted = 0; quoted <= 8; quoted += 8) {
		struct icmp_spec error = { .src = router,
					   .dst = src,
					   .type = ip6 ? 2 : 3,
					   .code = ip6 ? 0 : 4,
					   .quoted = quoted };
		struct packet_buf sent, as, in, want, out;

		packet_build(&sent, &about);
		packet_build_icmp(&in, &error, &sent);
		watch_start(&counters);
		if (!as_src) {
			bool to_service = !strcmp(src, NAT_VIP(ip6));

			assert_int_equal(xdp_run(prog, if_nametoindex(interface), &in, &out),
					 to_service ? XDP_DROP : XDP_PASS);
			watch_expect(&counters, to_service ? C(drop_no_state) : 0, src);
			packet_expect(&in, &out, src);
			continue;
		}
		assert_int_equal(xdp_run(prog, if_nametoindex(interface), &in, &out), XDP_REDIRECT);
		watch_expect(&counters, C(icmp_forwarded), src);
		about.src = as_src;
		about.dst = as_dst;
		packet_build(&as, &about);
		memcpy(as.bytes + as.l4 + 16, sent.bytes + sent.l4 + 16,
		       2); /* nobody looks at it */
		error.src = from;
		error.dst = as_src;
		error.ttl = 63;
		packet_build_icmp(&want, &error, &as);
		memcpy(want.bytes, out.bytes, 12);
		packet_expect(&want, &out, src);
		about.src = src;
		about.dst = dst;
	}
}

/* Errors go to who has sent what they are about. */
static void nat_errors(void **state)
{
	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++) {
		const char *near = ip6 ? "[fd00:4::1]:1" : "10.0.4.1:1";
		const char *far = ip6 ? "[fd00:3::1]:1" : "10.0.3.1:1";
		const char *stranger = ip6 ? "[fd00:4::9]:40001" : "10.0.4.9:40001";
		const char *no_port = ip6 ? "[" SOURCE6 "]:9" : SOURCE4 ":9";
		struct packet_buf in, out;
		char own[ADDRESS_TEXT_LEN];

		assert_int_equal(nat_run("b0", NAT_CLIENT(ip6), NAT_VIP(ip6), "S", &in, &out),
				 XDP_REDIRECT);
		snprintf(own, sizeof(own), "%s", packet_src(&out));
		nat_error_run("b0", near, NAT_VIP(ip6), NAT_CLIENT(ip6), own, NAT_SERVER(ip6), own);
		nat_error_run("a0", far, own, NAT_SERVER(ip6), NAT_VIP(ip6), NAT_CLIENT(ip6),
			      NAT_VIP(ip6));
		nat_error_run("b0", near, NAT_VIP(ip6), stranger, NULL, NULL, NULL);
		nat_error_run("a0", far, no_port, NAT_SERVER(ip6), NULL, NULL, NULL);
	}
	rows_done();
}

/*
 * What a SYN asks for, by nat: a held request names the source that the balancer has seen, not its own address. A
 * short one names nobody, and goes.
 */
static void nat_request_run(const struct held_row *row, uint16_t vlan)
{
	enum asks asks = row->by_nat ? ASKS_NOTHING : row->asks;
	bool plain = asks != MAY_ASK;
	struct packet_buf in, want, out;
	unsigned verdict;
	char why[128];

	snprintf(why, sizeof(why), "%s, by nat, VLAN %u", row->why, vlan);
	held_build(row, NAT_VIP(row->ip6), vlan, row->by_nat ? row->by_nat : row->out, &in, &want);
	watch_start(&counters);
	verdict = xdp_run(prog, if_nametoindex("a0"), &in, &out);
	if (verdict != XDP_TX)
		row_failed(why, "verdict %u", verdict);
	watch_expect(&counters, held_counters(row, asks, plain), why);
	if (verdict != XDP_TX)
		return;
	nat_port(&out);
	nat_expect(why, &want, &out, packet_src(&out), NAT_SERVER(row->ip6));
}

static void nat_requests(void **state)
{
	for (size_t i = 0; i < ROWS(held_rows); i++)
		for (uint16_t vlan = 0; vlan <= 7; vlan += 7) {
			nat_begin(state);
			nat_request_run(&held_rows[i], vlan);
		}
	rows_done();
}

/* By nat, a second request behind a short one would reach the server in the balancer's name, and not be held. */
static void nat_two_requests(void **state)
{
	static const struct {
		const char *bytes;
		unsigned len;
	} twice[] = {
		{ OTHER_CLIENT SHORT, sizeof(OTHER_CLIENT SHORT) - 1 },
		{ SHORT OTHER_CLIENT NOP4, sizeof(SHORT OTHER_CLIENT NOP4) - 1 },
		{ SHORT SHORT OTHER_CLIENT NOP4, sizeof(SHORT SHORT OTHER_CLIENT NOP4) - 1 },
	};

	for (size_t i = 0; i < ROWS(twice); i++) {
		struct packet_buf in, out;

		nat_begin(state);
		packet_build(&in, &(struct packet_spec){ .src = NAT_CLIENT(0),
							 .dst = NAT_VIP(0),
							 .flags = "S",
							 .options = twice[i].bytes,
							 .options_len = twice[i].len });
		watch_start(&counters);
		if (xdp_run(prog, if_nametoindex("b0"), &in, &out) != XDP_DROP)
			row_failed("two requests", "row %zu: not dropped", i);
		watch_expect(&counters, C(drop_bad_tcp), "two requests");
	}
	rows_done();
}

/* What belongs to no connection. */
static void nat_unknown(void **state)
{
	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++) {
		const char *own = ip6 ? "[" SOURCE6 "]:12345" : SOURCE4 ":12345";
		struct packet_buf in, out;

		watch_start(&counters);
		assert_int_equal(nat_run("b0", NAT_CLIENT(ip6), NAT_VIP(ip6), "A", &in, &out),
				 XDP_DROP);
		watch_expect(&counters, C(drop_no_state), "unknown client");
		watch_start(&counters);
		assert_int_equal(nat_run("a0", NAT_SERVER(ip6), own, "SA", &in, &out), XDP_PASS);
		watch_expect(&counters, 0, "unknown server");
		packet_expect(&in, &out, "unknown server");
	}
	rows_done();
}

/* Clients share the balancer's address, and no port: each hears of its own connection. */
static void nat_many(void **state)
{
	static char client[2000][ADDRESS_TEXT_LEN], own[2000][ADDRESS_TEXT_LEN];
	static bool seen[65536];
	struct packet_buf in, out;

	(void)state;
	for (unsigned i = 0; i < ROWS(client); i++) {
		snprintf(client[i], sizeof(client[i]), "10.0.4.9:%u", 20000 + i);
		assert_int_equal(nat_run("b0", client[i], NAT_VIP(0), "S", &in, &out),
				 XDP_REDIRECT);
		assert_false(seen[nat_port(&out)]);
		seen[nat_port(&out)] = true;
		snprintf(own[i], sizeof(own[i]), "%s", packet_src(&out));
	}
	for (unsigned i = 0; i < ROWS(client); i++) {
		assert_int_equal(nat_run("a0", NAT_SERVER(0), own[i], "SA", &in, &out),
				 XDP_REDIRECT);
		assert_string_equal(packet_dst(&out), client[i]);
	}
}

/* How long a connection that somebody else had keeps its port; @seconds ago it was seen last. */
static const struct nat_over_row {
	const char *why;
	uint8_t seen;
	unsigned seconds;
	unsigned verdict;
	__u64 counters;
} nat_over_rows[] = {
#define IN_USE XDP_DROP, C(drop_no_port)
#define IS_FREE XDP_REDIRECT, C(syn_forwarded) | C(syn_plain)
	{ "half open", 0, 2, IN_USE },
	{ "half open, gives way", 0, 4, IS_FREE },
	{ "half open, over", 0, 61, IS_FREE },
	{ "open", SS_LB_NAT_OPEN, 7439, IN_USE },
	{ "open, over", SS_LB_NAT_OPEN, 7441, IS_FREE },
	{ "half closed by its client", SS_LB_NAT_OPEN | SS_LB_NAT_CLIENT_FIN, 61, IN_USE },
	{ "half closed by its server", SS_LB_NAT_OPEN | SS_LB_NAT_SERVER_FIN, 61, IN_USE },
	{ "closed", SS_LB_NAT_OPEN | SS_LB_NAT_CLIENT_FIN | SS_LB_NAT_SERVER_FIN, 59, IN_USE },
	{ "closed, over", SS_LB_NAT_OPEN | SS_LB_NAT_CLIENT_FIN | SS_LB_NAT_SERVER_FIN, 61,
	  IS_FREE },
	{ "reset", SS_LB_NAT_OPEN | SS_LB_NAT_RESET, 0, IN_USE },
	{ "reset, over", SS_LB_NAT_OPEN | SS_LB_NAT_RESET, 2, IS_FREE },
#undef IN_USE
#undef IS_FREE
};

/* Every port is somebody else's. */
static void nats_fill(const struct nat_over_row *row)
{
	struct ss_flow key = {};
	struct ss_lb_nat nat = { .seen = row->seen };
	struct timespec now;

	assert_int_equal(endpoint_parse("10.0.4.77:7", &nat.client), 0);
	assert_int_equal(endpoint_parse(NAT_VIP(0), &nat.service), 0);
	assert_int_equal(address_parse(SOURCE4, &key.local.addr), 0);
	assert_int_equal(endpoint_parse(NAT_SERVER(0), &key.remote), 0);
	clock_gettime(CLOCK_MONOTONIC, &now);
	nat.used = (now.tv_sec - row->seconds) * 1000000000ULL + now.tv_nsec;
	for (unsigned i = 0; i < SS_LB_NAT_PORTS; i++) {
		key.local.port = SS_BE16(SS_LB_NAT_PORT + i);
		assert_int_equal(
			bpf_map_update_elem(bpf_map__fd(skel->maps.nats), &key, &nat, BPF_ANY), 0);
	}
}

static void nat_over(void **state)
{
	for (size_t i = 0; i < ROWS(nat_over_rows); i++) {
		const struct nat_over_row *row = &nat_over_rows[i];
		struct packet_buf in, out;
		unsigned verdict;

		nat_begin(state);
		nats_fill(row);
		watch_start(&counters);
		verdict = nat_run("b0", NAT_CLIENT(0), NAT_VIP(0), "S", &in, &out);
		if (verdict != row->verdict)
			row_failed(row->why, "verdict %u, not %u", verdict, row->verdict);
		watch_expect(&counters, row->counters, row->why);
	}
	rows_done();
}

/* What is seen of a connection, by its packets both ways. */
static void nat_notes(void **state)
{
#define OPEN (SS_LB_NAT_ANSWERED | SS_LB_NAT_OPEN)
	static const struct {
		bool server;
		const char *flags;
		uint8_t seen;
	} steps[] = {
		{ false, "S", 0 },
		{ true, "SA", SS_LB_NAT_ANSWERED }, /* anybody's SYN is answered */
		{ false, "P", SS_LB_NAT_ANSWERED },
		{ false, "PA", OPEN },
		{ false, "FA", OPEN | SS_LB_NAT_CLIENT_FIN },
		{ true, "FA", OPEN | SS_LB_NAT_CLIENT_FIN | SS_LB_NAT_SERVER_FIN },
		{ false, "R",
		  OPEN | SS_LB_NAT_CLIENT_FIN | SS_LB_NAT_SERVER_FIN | SS_LB_NAT_RESET },
		{ false, "S", 0 }, /* the same SYN, or another connection: anew */
	};
#undef OPEN
	char own[ADDRESS_TEXT_LEN] = "";

	(void)state;
	for (size_t i = 0; i < ROWS(steps); i++) {
		struct packet_buf in, out;
		struct ss_lb_nat nat;
		struct ss_flow key;

		if (i == ROWS(steps) - 1) /* its SYN was long ago */
			nat_begin(state);
		assert_int_equal(steps[i].server ? nat_run("a0", NAT_SERVER(0), own, steps[i].flags,
							   &in, &out)
						 : nat_run("b0", NAT_CLIENT(0), NAT_VIP(0),
							   steps[i].flags, &in, &out),
				 XDP_REDIRECT);
		if (!steps[i].server)
			snprintf(own, sizeof(own), "%s", packet_src(&out));
		assert_int_equal(endpoint_parse(own, &key.local), 0);
		assert_int_equal(endpoint_parse(NAT_SERVER(0), &key.remote), 0);
		assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skel->maps.nats), &key, &nat), 0);
		assert_int_equal(nat.seen, steps[i].seen);
	}
}

/* What was seen of the connection of NAT_CLIENT, as its server knows it: by the balancer's @own. */
static uint8_t nat_seen(bool ip6, const char *own)
{
	struct ss_lb_nat nat;
	struct ss_flow key;

	assert_int_equal(endpoint_parse(own, &key.local), 0);
	assert_int_equal(endpoint_parse(NAT_SERVER(ip6), &key.remote), 0);
	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skel->maps.nats), &key, &nat), 0);
	return nat.seen;
}

/* A client's ACK of @ack leaves the connection half open, or opens it. */
static void nat_acked(bool ip6, const char *own, uint32_t ack, bool opens)
{
	const struct packet_spec spec = {
		.src = NAT_CLIENT(ip6), .dst = NAT_VIP(ip6), .flags = "A", .seq = 1, .ack = ack
	};
	struct packet_buf in, out;

	packet_build(&in, &spec);
	assert_int_equal(xdp_run(prog, if_nametoindex("b0"), &in, &out), XDP_REDIRECT);
	if (!(nat_seen(ip6, own) & SS_LB_NAT_OPEN) == opens)
		row_failed(own, "ACK of %u: open %d", ack, !opens);
}

/*
 * Who does not get the server's answer opens no connection: neither before there is one, whatever his ACK's
 * number, nor by another number.
 */
static void nat_opened(void **state)
{
	static const uint32_t isns[] = { 0, 7000000, 0xfffffff0 };

	for (size_t i = 0; i < 2 * ROWS(isns); i++) {
		uint32_t isn = isns[i / 2];
		char own[ADDRESS_TEXT_LEN];
		struct packet_buf in, out;
		bool ip6 = i % 2;

		nat_begin(state);
		assert_int_equal(nat_run("b0", NAT_CLIENT(ip6), NAT_VIP(ip6), "S", &in, &out),
				 XDP_REDIRECT);
		snprintf(own, sizeof(own), "%s", packet_src(&out));
		nat_acked(ip6, own, 1, false);
		nat_acked(ip6, own, 1000, false);
		nat_acked(ip6, own, isn + 1, false);
		packet_build(&in, &(struct packet_spec){ .src = NAT_SERVER(ip6),
							 .dst = own,
							 .flags = "SA",
							 .seq = isn,
							 .ack = 1 });
		assert_int_equal(xdp_run(prog, if_nametoindex("a0"), &in, &out), XDP_REDIRECT);
		nat_acked(ip6, own, isn, false);
		nat_acked(ip6, own, isn - 1000, false);
		nat_acked(ip6, own, isn + 1 + (1 << 20), false);
		nat_acked(ip6, own, isn + 0x80000000, false);
		nat_acked(ip6, own, isn + 1, true);
	}
	rows_done();
}

/* To find the neighbour, the kernel gets a packet that it forwards and no server answers. */
static void nat_by_kernel(void **state)
{
	static const struct service_row unresolved = {
		"10.99.0.1:" ONE, MAGLEV, { UP("10.0.3.77:8080") }, SS_METHOD_NAT, true
	};
	struct packet_buf in, want, out;

	(void)state;
	services_apply(&unresolved, 0);
	services_apply(&unresolved, 1);
	assert_int_equal(nat_run("b0", NAT_CLIENT(0), NAT_VIP(0), "S", &in, &out), XDP_PASS);
	want = in;
	want.bytes[want.l4 + 13] = 4; /* RST */
	packet_set_dst(&want, "10.0.3.77:8080");
	packet_expect(&want, &out, "to the kernel");
	rows_done();
}

static double now_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Seconds until a SYN leaves for the MAC address @to, or with @to NULL by the stack; 2: never. */
static double followed_after(bool ip6, const uint8_t *to)
{
	double start = now_seconds();
	struct packet_buf in, out;

	while (now_seconds() - start < 2) {
		unsigned verdict = syn_by_a0(ip6, &in, &out);

		if (to ? verdict == XDP_TX && !memcmp(out.bytes, to, 6) : verdict == XDP_PASS)
			return now_seconds() - start;
		usleep(20000);
	}
	return 2;
}

static void neighbour_is_followed(void **state)
{
	static const char *const address[] = { "10.0.3.9", "fd00:3::9" };
	static const char *const backend[] = { "10.0.3.9:8080", "[fd00:3::9]:8080" };
	const uint8_t old[] = { 2, 0, 0, 0, 0xa, 9 }, new[] = { 2, 0, 0, 0, 0xa, 0x10 };

	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++) {
		service_with(backend[ip6]);
		assert_true(followed_after(ip6, old) < 0.1);
		shell("ip neigh replace %s dev a0 lladdr 02:00:00:00:0a:10 nud permanent",
		      address[ip6]);
		assert_true(followed_after(ip6, new) < 1);
		shell("ip neigh del %s dev a0", address[ip6]);
		assert_true(followed_after(ip6, NULL) < 1);
		shell("ip neigh replace %s dev a0 lladdr 02:00:00:00:0a:09 nud permanent",
		      address[ip6]);
		assert_true(followed_after(ip6, old) < 1);
	}
}

/* Backend 0 was last confirmed long ago, and its next hop is to be looked up anew. */
static void confirmation_due(void)
{
	assert_int_equal(lb_hops_fill(&maps, 1, &(struct ss_lb_backend_cpu){ .confirm_at = 1 }), 0);
}

/* Now and then one packet takes the kernel's way, so that it confirms the neighbour. */
static void neighbour_is_confirmed(void **state)
{
	struct packet_buf in, out;

	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++) {
		service_with(ip6 ? "[fd00:3::9]:8080" : "10.0.3.9:8080");
		assert_int_equal(syn_by_a0(ip6, &in, &out), XDP_TX);
		confirmation_due();
		watch_start(&counters);
		assert_int_equal(syn_by_a0(ip6, &in, &out), XDP_PASS);
		watch_expect(&counters, C(syn_forwarded) | C(stack_forwarded), "confirmation");
		packet_set_dst(&in, ip6 ? "[fd00:3::9]:8080" : "10.0.3.9:8080");
		packet_expect(&in, &out, "confirmation");
		for (int i = 0; i < 3; i++)
			assert_int_equal(syn_by_a0(ip6, &in, &out), XDP_TX);
	}
	rows_done();
}

/* Two interfaces, a0 and b0, with routes and neighbours for the rows above. */
static int hops_setup(void **state)
{
	(void)state;
	netns_private();
	shell("ip link add a0 address 02:00:00:00:0a:00 type veth peer name a1 && "
	      "ip link add b0 address 02:00:00:00:0b:00 type veth peer name b1 && "
	      "for i in a0 a1 b0 b1; do ip link set $i up || exit 1; done");
	shell("for i in ipv4 ipv6; do echo 1 > /proc/sys/net/$i/conf/all/forwarding; done");
	shell("ip addr add 10.0.3.254/24 dev a0 && ip addr add 10.0.4.254/24 dev b0 && "
	      "ip addr add fd00:3::254/64 dev a0 nodad && "
	      "ip addr add fd00:4::254/64 dev b0 nodad");
	shell("for a in 10.0.3.9 fd00:3::9; do ip neigh add $a dev a0 "
	      "lladdr 02:00:00:00:0a:09 nud permanent || exit 1; done");
	shell("for a in 10.0.4.9 fd00:4::9; do ip neigh add $a dev b0 "
	      "lladdr 02:00:00:00:0b:09 nud permanent || exit 1; done");
	shell("ip route add 10.0.6.0/24 via 10.0.4.9 && ip route add fd00:6::/64 via fd00:4::9");
	shell("for n in 10.0.5. fd00:5::; do ip route add blackhole ${n}1 && "
	      "ip route add unreachable ${n}2 && ip route add prohibit ${n}3 || exit 1; done");
	/* TEST_RUN takes an interface only if its receive queue knows XDP. */
	assert_int_equal(bpf_xdp_attach(if_nametoindex("a0"), prog, 0, NULL), 0);
	return 0;
}

int main(void)
{
	const struct CMUnitTest frame_tests[] = {
		cmocka_unit_test_setup(frames, services_default),
		cmocka_unit_test_setup(fragments, services_default),
		cmocka_unit_test_setup(held_requests, services_default),
		cmocka_unit_test_setup(wrapped, services_default),
		cmocka_unit_test_setup(wrapped_ports, services_default),
		cmocka_unit_test_setup(truncated, services_default),
		cmocka_unit_test_setup(icmp_errors, services_default),
		cmocka_unit_test_setup(icmp_across, services_default),
		cmocka_unit_test_setup(echoes, services_default),
		cmocka_unit_test_setup(checksum_edges, services_default),
		cmocka_unit_test_setup(maglev_choice, services_default),
		cmocka_unit_test_setup(icmp_errors_follow, services_default),
		cmocka_unit_test_setup(maglev_second_choices, services_default),
		cmocka_unit_test(shares),
		cmocka_unit_test(turns_are_exact),
		cmocka_unit_test_setup(turns_retry, services_default),
		cmocka_unit_test_setup(random_choice, services_default),
		cmocka_unit_test_setup(source_choice, services_default),
		cmocka_unit_test(source_hash_is_consistent),
		cmocka_unit_test_setup(backends_are_counted, services_default),
		cmocka_unit_test_setup(unanswered_are_counted, services_default),
		cmocka_unit_test(down_and_fail_open),
		cmocka_unit_test_setup(backend_removed, services_default),
		cmocka_unit_test_setup(services_removed, services_default),
		cmocka_unit_test(services_seen),
		cmocka_unit_test(flows_are_kept),
		cmocka_unit_test_setup(flows_without_table, flows_begin),
		cmocka_unit_test_setup(flows_unknown, flows_begin),
		cmocka_unit_test_setup(flows_syn_again, flows_begin),
		cmocka_unit_test_setup(flows_dialled_again, flows_begin),
		cmocka_unit_test_setup(flows_asked, flows_begin),
		cmocka_unit_test_setup(flows_second_choice, flows_begin),
		cmocka_unit_test_setup(flows_apart, flows_begin),
	};
	const struct CMUnitTest hop_tests[] = {
		cmocka_unit_test(next_hops),
		cmocka_unit_test(wrapped_by_kernel),
		cmocka_unit_test(flow_of_lost_backend),
		cmocka_unit_test(flow_after_version),
		cmocka_unit_test_setup(nat_both_ways, nat_begin),
		cmocka_unit_test_setup(nat_requests, nat_begin),
		cmocka_unit_test_setup(nat_two_requests, nat_begin),
		cmocka_unit_test_setup(nat_errors, nat_begin),
		cmocka_unit_test_setup(nat_unknown, nat_begin),
		cmocka_unit_test_setup(nat_many, nat_begin),
		cmocka_unit_test(nat_over),
		cmocka_unit_test_setup(nat_notes, nat_begin),
		cmocka_unit_test(nat_opened),
		cmocka_unit_test_setup(nat_by_kernel, nat_begin),
		cmocka_unit_test(neighbour_is_followed),
		cmocka_unit_test(neighbour_is_confirmed),
	};
	int failed;

	failed = cmocka_run_group_tests(frame_tests, balancer_load, NULL) +
		 cmocka_run_group_tests(hop_tests, hops_setup, NULL);
	balancer_bpf__destroy(skel);
	return failed != 0;
}
