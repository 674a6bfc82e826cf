// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Steps 3, 5 and 10 of a connection, and ICMP errors about it, packet in, packet out: the TC
 * programs of a host.
 *
 * Ingress runs by BPF_PROG_TEST_RUN. Egress cannot: there every packet has a plain socket, which
 * the program leaves alone. So it sits on a veth interface, and packets are sent through it from a
 * packet socket, as a control socket's are: with a finished checksum, and with one that is left to
 * the device, as the kernel's own packets have it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/tcp.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>

#include <sidestep/counters.h>
#include <sidestep/csum.h>
#include <sidestep/host.h>
#include <sidestep/option.h>

#include "address.h"
#include "host.skel.h"
#include "packet.h"
#include "progrun.h"

#define TC_NEXT ((unsigned)-1)
#define TC_DROP 2
#define TC_REDIRECT 7

/* Who is who. LISTEN is where this server's sockets listen, STRANGER no trusted balancer. */
#define CLIENT4 "10.0.1.2:40000"
#define CLIENT6 "[fd00:1::2]:40000"
#define BALANCER4 "10.0.2.1:50000"
#define STRANGER4 "10.0.9.1:50000"
#define DIP4 "10.0.3.2"
#define DIP6 "fd00:3::2"
#define LISTEN4 DIP4 ":8080"
#define LISTEN6 "[" DIP6 "]:80"

/* Services: classic replies, strict replies, and one that is not served here. */
#define VIP4 "10.99.0.1:80"
#define VIP6 "[fd00:99::1]:80"
#define STRICT4 "10.99.0.2:80"
#define STRICT6 "[fd00:99::2]:80"
#define PORT6 "[fd00:99::4]:80" /* served on another port */

/* A UDP service on each VIP, and where its server listens. */
#define ASKED4 "10.99.0.1:53"
#define ASKED6 "[fd00:99::1]:53"
#define ANSWERS4 DIP4 ":5353"
#define ANSWERS6 "[" DIP6 "]:5353"

static const struct serve_row {
	const char *vip;
	unsigned listen;
	bool strict, udp;
	const char *address; /* for what comes wrapped in the other IP version */
	unsigned also; /* a further port of it */
} serve_rows[] = {
	{ VIP4, 8080, false, false, DIP4, 8089 },
	{ STRICT4, 8080, true },
	{ VIP6, 80, false, false, DIP6 },
	{ STRICT6, 80, true },
	{ PORT6, 8080 },
	{ ASKED4, 5353, false, true, DIP4 },
	{ ASKED6, 5353, false, true, DIP6 },
};
static const char *const clients_rows[] = { "10.0.1.0/24", "fd00:1::/64" };
static const char *const trusted_rows[] = { "10.0.2.0/24", "fd00:2::/64" };

/* As a client: the servers are where the clients of the other tests are. */
static const char *const backends_rows[] = { "10.0.1.0/24", "fd00:1::/64" };

/* Options beside ours. */
#define LINUX "\2\4\5\xb4\4\2\x8\xa\0\0\0\1\0\0\0\0\1\3\3\7"
#define NOP4 "\1\1\1\1"
#define MPTCP "\x1e\4\1\1"
#define FAST_OPEN "\x22\xa\1\2\3\4\5\6\7\x8\1\1" /* a cookie of 8 bytes */
#define OTHER_253 "\xfd\x8\xf9\x89\1\2\3\4" /* another experiment's ExID */
#define OTHER_254 "\xfe\x8\x5d\x50\xa\x63\0\1" /* our ExID, but the other kind */

/* Addresses and ports in options. */
#define BYTES_VIP4 "\xa\x63\0\1"
#define BYTES_STRICT4 "\xa\x63\0\2"
#define BYTES_OTHER4 "\xa\x63\0\3"
#define BYTES_CLIENT4 "\xa\0\1\2"
#define BYTES_DIP4 "\xa\0\3\2"
#define BYTES_DIP6 "\xfd\0\0\3\0\0\0\0\0\0\0\0\0\0\0\2"
#define PORT_80 "\0\x50"
#define PORT_81 "\0\x51"
#define PORT_8080 "\x1f\x90"
#define PORT_40000 "\x9c\x40"
#define NO_WPORT "\0\0"

/* Tags of services, whose first words are the short ones, and of a client, each with its port. */
#define TAG_VIP6           \
	"\x8b\xa8\xd1\xbe" \
	"\xed\x9f"
#define TAG_STRICT6        \
	"\xe1\xd1\xd2\xb7" \
	"\x5c\x64"
#define TAG_OTHER6         \
	"\x40\x80\xd2\x56" \
	"\x10\x85" /* [fd00:99::3]:80 */
#define TAG_PORT6          \
	"\x7d\xa6\x6b\x08" \
	"\x83\x40"
#define TAG_CLIENT6        \
	"\x78\x5c\xd0\xf8" \
	"\xe4\xbc"
#define SHORT_VIP4 "\x66\x83\x1c\xb3"
#define SHORT_VIP6 "\x8b\xa8\xd1\xbe"
#define SHORT_STRICT4 "\xf6\xf5\xfb\x60"
#define SHORT_STRICT6 "\xe1\xd1\xd2\xb7"

/* Requests and grants. */
#define FULL_TO(vip, vport) "\xfd\x10\x5d\x52" vip BYTES_CLIENT4 vport PORT_40000
#define FULL FULL_TO(BYTES_VIP4, PORT_80)
#define FULL_RETRY "\xfd\x10\x5d\x53" BYTES_VIP4 BYTES_CLIENT4 PORT_80 PORT_40000
#define STRICT_RETRY "\xfd\x10\x5d\x53" BYTES_STRICT4 BYTES_CLIENT4 PORT_80 PORT_40000
#define SHORT_TO(vip) "\xfd\x8\x5d\x50" vip
#define SHORT SHORT_TO(BYTES_VIP4)
#define REQUEST6_TO(tag) "\xfd\x14\x5d\x54" tag TAG_CLIENT6 PORT_80 PORT_40000
#define REQUEST6 REQUEST6_TO(TAG_VIP6)
#define REQUEST6_RETRY(tag) "\xfd\x14\x5d\x55" tag TAG_CLIENT6 PORT_80 PORT_40000
#define SHORT6 "\xfd\x8\x5d\x56" SHORT_VIP6

/* Held and judged ones. */
#define HELD_FULL "\xfd\x10\x5d\x42" BYTES_VIP4 BYTES_CLIENT4 PORT_80 PORT_40000
#define HELD_SHORT "\xfd\x8\x5d\x40" BYTES_VIP4
#define HELD6 "\xfd\x14\x5d\x44" TAG_VIP6 TAG_CLIENT6 PORT_80 PORT_40000
#define JUDGED "\xfd\x10\x5d\x62" BYTES_VIP4 BYTES_CLIENT4 PORT_80 PORT_40000
#define GRANT4(form, address, port) "\xfd\xc\x5d" form address port NO_WPORT
#define GRANT6(form, address) "\xfd\x14\x5d" form address
#define TAGGED(id, tag) "\xfd\x8\x5d" id tag
#define NOP12 NOP4 NOP4 NOP4
#define STRICT_GRANT4 GRANT4("\x59", BYTES_VIP4, PORT_80)
#define CLASSIC_GRANT4 GRANT4("\x58", BYTES_DIP4, PORT_8080)
#define STRICT_GRANT6 TAGGED("\x5b", SHORT_VIP6) NOP12 /* with room for the classic one */
#define CLASSIC_GRANT6 GRANT6("\x5a", BYTES_DIP6)

#define OPTIONS(s) .options = (s), .options_len = sizeof(s) - 1
#define IPOPT(s) .ip_options = (s), .ip_options_len = sizeof(s) - 1
#define HOP_BY_HOP .ip6_next = 0, IPOPT("\6\0\1\4\0\0\0\0")
#define JUMBO .ip6_next = 0, IPOPT("\6\0\xc2\4\0\1\0\0") /* as in packets of more than 64 kB */
#define C(name) (1ULL << SS_HOST_##name)

static struct host_bpf *skel;
static int ingress;
static int listeners[4];

#define NAME(name, help) #name,
static const char *const counter_names[] = { SS_HOST_COUNTERS(NAME) };
static struct watch counters = { .n = SS_HOST_COUNTER_MAX, .names = counter_names };

static bool is_ip6(const struct packet_buf *p)
{
	return p->bytes[p->l3] >> 4 == 6;
}

static struct ss_endpoint endpoint(const char *text)
{
	struct ss_endpoint e = {};

	if (endpoint_parse(text, &e))
		fail_msg("no endpoint: %s", text);
	return e;
}

/* --- ingress --------------------------------------------------------------------------------- */

/* clang-format off */
#define FROM(source, destination, letters, ...)                                                    \
	{ .src = source, .dst = destination, .flags = letters, ##__VA_ARGS__ }
/* clang-format on */
#define SYN(source, destination, options) FROM(source, destination, "S", OPTIONS(options))
#define UNTOUCHED NULL, NULL, 0
#define NOT_SERVED NULL, NULL, C(syn_not_served)
#define AMBIGUOUS NULL, NULL, C(syn_ambiguous), true
#define UNTRUSTED NULL, NULL, C(syn_untrusted)
#define NOT_RESTORED NULL, NULL, C(syn_not_restored)
#define REFUSED_CLIENT NULL, NULL, C(syn_client_refused)
#define ACCEPTED NULL, NULL, 0, false, MARKED
#define SOURCE_RESTORED CLIENT4, NULL, C(syn_restored), false, MARKED
#define PORT_RESTORED NULL, LISTEN4, C(syn_restored), false, MARKED
#define BOTH_RESTORED CLIENT4, LISTEN4, C(syn_restored), false, MARKED

/* What the request says when ingress has seen it. */
enum option_fate {
	AS_BEFORE,
	MARKED, /* accepted, for sockops to read: 0x5D6_, and the mark */
	HOLDS, /* 0x5D4_ in place of 0x5D5_ */
};

static const struct ingress_row {
	const char *why;
	struct packet_case in;
	const char *src, *dst; /* NULL: as it came in */
	__u64 counters;
	bool dropped;
	enum option_fate fate;
} ingress_rows[] = {
	/* A request, and nothing or something to put right. */
	{ "nothing to restore", { SYN(CLIENT4, LISTEN4, LINUX FULL) }, ACCEPTED },
	{ "v6 nothing to restore", { SYN(CLIENT6, LISTEN6, LINUX REQUEST6) }, ACCEPTED },
	{ "another source, trusted", { SYN(BALANCER4, LISTEN4, LINUX FULL) }, SOURCE_RESTORED },
	{ "retry, trusted", { SYN(BALANCER4, LISTEN4, LINUX FULL_RETRY) }, SOURCE_RESTORED },
	{ "another source port only, trusted",
	  { SYN("10.0.2.1:40000", LISTEN4, LINUX FULL) },
	  SOURCE_RESTORED },
	{ "another source, not trusted", { SYN(STRANGER4, LISTEN4, LINUX FULL) }, UNTRUSTED },
	{ "the client's address with another port, not trusted",
	  { SYN("10.0.1.2:40001", LISTEN4, LINUX FULL) },
	  UNTRUSTED },
	{ "not trusted, and another port", { SYN(STRANGER4, DIP4 ":80", LINUX FULL) }, UNTRUSTED },
	{ "the service's port", { SYN(CLIENT4, DIP4 ":80", LINUX FULL) }, PORT_RESTORED },
	{ "another port of the server's", { SYN(CLIENT4, DIP4 ":8089", LINUX FULL) }, ACCEPTED },
	{ "another port of the server's, another source",
	  { SYN(BALANCER4, DIP4 ":8089", LINUX FULL) },
	  SOURCE_RESTORED },
	{ "none of the server's ports", { SYN(CLIENT4, DIP4 ":8088", LINUX FULL) }, PORT_RESTORED },
	{ "port and source, counted once",
	  { SYN(BALANCER4, DIP4 ":80", LINUX FULL) },
	  BOTH_RESTORED },
	{ "short, the service's port", { SYN(CLIENT4, DIP4 ":80", LINUX SHORT) }, PORT_RESTORED },
	{ "short, the server's port means the service",
	  { SYN(CLIENT4, LISTEN4, SHORT) },
	  ACCEPTED },
	{ "short, neither port: another service",
	  { SYN(CLIENT4, DIP4 ":81", LINUX SHORT) },
	  NOT_SERVED },
	{ "short, several services at the server's port",
	  { SYN(CLIENT4, DIP4 ":9000", LINUX SHORT) },
	  AMBIGUOUS },
	{ "full, no service's port",
	  { SYN(CLIENT4, DIP4 ":9000", FULL_TO(BYTES_VIP4, "\x23\x28")) },
	  NOT_SERVED },
	{ "short: the source is the client", { SYN(STRANGER4, DIP4 ":80", SHORT) }, PORT_RESTORED },
	{ "short, trusted: who is the client?",
	  { SYN(BALANCER4, DIP4 ":80", SHORT) },
	  NOT_RESTORED },
	{ "v6 short", { SYN(CLIENT6, LISTEN6, LINUX SHORT6) }, ACCEPTED },
	{ "v6 short: the source is the client",
	  { SYN("[fd00:9::1]:1", LISTEN6, LINUX SHORT6) },
	  ACCEPTED },
	{ "v6 short, trusted", { SYN("[fd00:2::1]:1", LISTEN6, SHORT6) }, NOT_RESTORED },
	{ "v6 another source, trusted", { SYN("[fd00:2::1]:1", LISTEN6, REQUEST6) }, NOT_RESTORED },
	{ "v6 another source, not trusted",
	  { SYN("[fd00:9::1]:40000", LISTEN6, REQUEST6) },
	  UNTRUSTED },
	{ "v6 another source port", { SYN("[fd00:1::2]:40001", LISTEN6, REQUEST6) }, UNTRUSTED },
	{ "v6 the service's port",
	  { SYN(CLIENT6, "[" DIP6 "]:80", LINUX REQUEST6_TO(TAG_PORT6)) },
	  NULL,
	  "[" DIP6 "]:8080",
	  C(syn_restored),
	  false,
	  MARKED },
	{ "v6 the service's tag with another port",
	  { SYN(CLIENT6, LISTEN6, "\xfd\x14\x5d\x54" TAG_VIP6 TAG_CLIENT6 PORT_81 PORT_40000) },
	  NOT_SERVED },
	{ "v6 half of the service's tag",
	  { SYN(CLIENT6, LISTEN6, REQUEST6_TO(SHORT_VIP6 "\1\2")) },
	  NOT_SERVED },
	{ "a client that trusted balancers may not name",
	  { SYN(BALANCER4, LISTEN4,
		"\xfd\x10\x5d\x52" BYTES_VIP4 "\xa\0\x8\x2" PORT_80 PORT_40000) },
	  REFUSED_CLIENT },

	/* Requests that are held, or that nobody can have sent. */
	{ "held", { SYN(CLIENT4, LISTEN4, LINUX HELD_FULL) }, UNTOUCHED },
	{ "held, the service's port",
	  { SYN(CLIENT4, DIP4 ":80", LINUX HELD_FULL) },
	  NULL,
	  LISTEN4,
	  C(syn_restored) },
	{ "held, short", { SYN(CLIENT4, LISTEN4, LINUX HELD_SHORT) }, UNTOUCHED },
	{ "held, another source", { SYN(STRANGER4, DIP4 ":80", LINUX HELD_FULL) }, UNTRUSTED },
	{ "held, another source, trusted",
	  { SYN(BALANCER4, DIP4 ":80", LINUX HELD_FULL) },
	  UNTOUCHED },
	{ "v6 held", { SYN(CLIENT6, LISTEN6, LINUX HELD6) }, UNTOUCHED },
	{ "a mark of somebody else's", { SYN(CLIENT4, DIP4 ":80", LINUX JUDGED) }, UNTOUCHED },

	/* Segments that repeat a request after a SYN cookie. */
	{ "repeated", { FROM(CLIENT4, LISTEN4, "A", OPTIONS(FULL)) }, ACCEPTED },
	{ "repeated, behind timestamps",
	  { FROM(CLIENT4, LISTEN4, "PA", OPTIONS("\1\1\x8\xa\0\0\0\1\0\0\0\0" FULL),
		 .payload = "odd", .payload_len = 3) },
	  ACCEPTED },
	{ "repeated, held", { FROM(CLIENT4, LISTEN4, "A", OPTIONS(HELD_FULL)) }, UNTOUCHED },
	{ "repeated, another source",
	  { FROM(STRANGER4, LISTEN4, "A", OPTIONS(FULL)) },
	  NULL,
	  NULL,
	  0,
	  false,
	  HOLDS },
	{ "v6 repeated", { FROM(CLIENT6, LISTEN6, "A", OPTIONS(REQUEST6)) }, ACCEPTED },
	{ "v6 repeated, another source",
	  { FROM("[fd00:9::1]:40000", LISTEN6, "A", OPTIONS(REQUEST6)) },
	  NULL,
	  NULL,
	  0,
	  false,
	  HOLDS },
	{ "strict service",
	  { SYN(BALANCER4, DIP4 ":80", FULL_TO(BYTES_STRICT4, PORT_80)) },
	  BOTH_RESTORED },
	{ "data in the SYN",
	  { FROM(BALANCER4, LISTEN4, "S", OPTIONS(FULL), .payload = "odd", .payload_len = 3) },
	  SOURCE_RESTORED },
	{ "IPv4 options",
	  { FROM(BALANCER4, DIP4 ":80", "S", OPTIONS(FULL), IPOPT(NOP4 NOP4)) },
	  BOTH_RESTORED },
	{ "40 bytes of IPv4 options, request not at the tail",
	  { FROM(BALANCER4, DIP4 ":80", "S", OPTIONS(FULL LINUX),
		 IPOPT(NOP4 NOP4 NOP4 NOP4 NOP4 NOP4 NOP4 NOP4 NOP4 NOP4)) },
	  BOTH_RESTORED },

	/* The SYN-ACK has room for the short grant; if it will be full, the balancer's address stays. */
	{ "MPTCP", { SYN(BALANCER4, LISTEN4, LINUX MPTCP FULL) }, SOURCE_RESTORED },
	{ "Fast Open, cookie request",
	  { SYN(BALANCER4, LISTEN4, FULL LINUX "\x22\2") },
	  SOURCE_RESTORED },
	{ "Fast Open, a cookie", { SYN(BALANCER4, LISTEN4, FAST_OPEN FULL) }, SOURCE_RESTORED },
	{ "MPTCP and Fast Open", { SYN(BALANCER4, LISTEN4, MPTCP FAST_OPEN FULL) }, NOT_RESTORED },
	{ "MPTCP, source not changed",
	  { SYN(CLIENT4, DIP4 ":80", LINUX MPTCP FULL) },
	  PORT_RESTORED },
	{ "MPTCP and Fast Open behind the end of list",
	  { SYN(BALANCER4, LISTEN4, FULL "\0\0\0\0" MPTCP FAST_OPEN) },
	  SOURCE_RESTORED },

	/* Requests elsewhere than at the tail. */
	{ "first of the options", { SYN(BALANCER4, LISTEN4, FULL LINUX) }, SOURCE_RESTORED },
	{ "unaligned", { SYN(BALANCER4, LISTEN4, "\1" FULL "\1\1\1") }, SOURCE_RESTORED },
	{ "the other kind of experiment", { SYN(CLIENT4, DIP4 ":80", OTHER_254) }, UNTOUCHED },
	{ "other experiments beside it",
	  { SYN(BALANCER4, LISTEN4, OTHER_253 FULL OTHER_254) },
	  SOURCE_RESTORED },
	{ "short, first of the options", { SYN(CLIENT4, DIP4 ":80", SHORT LINUX) }, PORT_RESTORED },

	/* None of ours. */
	{ "VIP not served",
	  { SYN(BALANCER4, LISTEN4, FULL_TO(BYTES_OTHER4, PORT_80)) },
	  NOT_SERVED },
	{ "port of the VIP not served",
	  { SYN(BALANCER4, LISTEN4, FULL_TO(BYTES_VIP4, PORT_81)) },
	  NOT_SERVED },
	{ "v6 VIP not served", { SYN(CLIENT6, LISTEN6, REQUEST6_TO(TAG_OTHER6)) }, NOT_SERVED },
	{ "no options", { SYN(CLIENT4, DIP4 ":80", "") }, UNTOUCHED },
	{ "default Linux SYN", { SYN(CLIENT4, DIP4 ":80", LINUX) }, UNTOUCHED },
	{ "v6 default Linux SYN", { SYN(CLIENT6, LISTEN6, LINUX) }, UNTOUCHED },
	{ "SYN-ACK", { FROM(BALANCER4, DIP4 ":80", "SA", OPTIONS(FULL)) }, UNTOUCHED },
	{ "ACK", { FROM(BALANCER4, DIP4 ":80", "A", OPTIONS(FULL)) }, UNTOUCHED },
	{ "data",
	  { FROM(CLIENT4, LISTEN4, "PA", .payload = "hello", .payload_len = 5) },
	  UNTOUCHED },
	{ "RST", { FROM(CLIENT4, LISTEN4, "R") }, UNTOUCHED },
	{ "v6 ACK", { FROM(CLIENT6, LISTEN6, "A") }, UNTOUCHED },
	{ "UDP", { SYN(BALANCER4, DIP4 ":80", FULL), POKE(IP, 9, "\x11") }, UNTOUCHED },
	{ "v6 UDP", { SYN(CLIENT6, LISTEN6, REQUEST6), POKE(IP, 6, "\x11") }, UNTOUCHED },
	{ "ARP", { SYN(BALANCER4, DIP4 ":80", FULL), POKE(FRAME, 12, "\x8\6") }, UNTOUCHED },
	{ "802.1Q", { FROM(BALANCER4, DIP4 ":80", "S", OPTIONS(FULL), .vlan = 7) }, UNTOUCHED },
	{ "first fragment",
	  { SYN(BALANCER4, DIP4 ":80", FULL), POKE(IP, 6, "\x20\0") },
	  UNTOUCHED },
	{ "middle fragment",
	  { SYN(BALANCER4, DIP4 ":80", FULL), POKE(IP, 6, "\x20\x10") },
	  UNTOUCHED },
	{ "v6 extension header",
	  { FROM(CLIENT6, LISTEN6, "S", OPTIONS(REQUEST6), HOP_BY_HOP) },
	  UNTOUCHED },

	/* Broken options and headers. */
	{ "length 0 before it", { SYN(BALANCER4, DIP4 ":80", "\x8\0\1\1" FULL NOP4) }, UNTOUCHED },
	{ "overrun before it", { SYN(BALANCER4, DIP4 ":80", "\x8\x29\1\1" FULL NOP4) }, UNTOUCHED },
	{ "behind the end of list",
	  { SYN(BALANCER4, DIP4 ":80", "\0\4\1\1" FULL NOP4) },
	  UNTOUCHED },
	{ "ours, too short",
	  { SYN(BALANCER4, DIP4 ":80", "\xfd\xf\x5d\x52" BYTES_VIP4 BYTES_CLIENT4 PORT_80 "\0") },
	  UNTOUCHED },
	{ "ours, overrun",
	  { SYN(BALANCER4, DIP4 ":80", "\xfd\x10\x5d\x52" BYTES_VIP4) },
	  UNTOUCHED },
	{ "full with the length of short",
	  { SYN(BALANCER4, DIP4 ":80", "\xfd\x8\x5d\x52" BYTES_VIP4) },
	  UNTOUCHED },
	{ "v6's form in IPv4", { SYN(CLIENT4, DIP4 ":80", REQUEST6) }, UNTOUCHED },
	{ "v4's form in IPv6", { SYN(CLIENT6, LISTEN6, FULL) }, UNTOUCHED },
	{ "a grant", { SYN(BALANCER4, DIP4 ":80", STRICT_GRANT4) }, UNTOUCHED },
	{ "doff 4", { SYN(BALANCER4, DIP4 ":80", FULL), POKE(TCP, 12, "\x40") }, UNTOUCHED },
	{ "doff beyond the packet",
	  { SYN(BALANCER4, DIP4 ":80", FULL), POKE(TCP, 12, "\xf0") },
	  UNTOUCHED },
	{ "ihl 4", { SYN(BALANCER4, DIP4 ":80", FULL), POKE(IP, 0, "\x44") }, UNTOUCHED },
};

/* The option of ours in @p; NULL: there is none. */
static uint8_t *option_of(struct packet_buf *p)
{
	unsigned end = p->l4 + (p->bytes[p->l4 + 12] >> 4) * 4;

	for (unsigned i = p->l4 + 20; i + 8 <= end; i++)
		if (p->bytes[i] == SS_OPT_KIND && p->bytes[i + 2] == SS_OPT_ARMED >> 8 &&
		    p->bytes[i + 1] == ss_opt_len(p->bytes[i + 3] & 15))
			return p->bytes + i;
	return NULL;
}

/* @want gets the option that @out must have: with the mark of @out, whatever that is (the key is random). */
static void option_want(struct packet_buf *want, struct packet_buf *out, enum option_fate fate,
			const char *why)
{
	uint8_t *wanted, *seen;

	if (fate == AS_BEFORE)
		return;
	wanted = option_of(want);
	if (!wanted) {
		row_failed(why, "no option");
		return;
	}
	seen = out->bytes + (wanted - want->bytes);
	wanted[3] = (wanted[3] & 15) | (fate == MARKED ? SS_OPT_JUDGED & 0xf0 : SS_OPT_HELD & 0xf0);
	if (fate == MARKED && !memcmp(wanted + 4, seen + 4, 4))
		row_failed(why, "no mark");
	if (fate == MARKED)
		memcpy(wanted + 4, seen + 4, 4);
	packet_checksum(want);
}

static void ingress_run(const struct ingress_row *row)
{
	struct packet_buf in, want, out;
	unsigned verdict;

	packet_case_build(&in, &row->in);
	want = in;
	if (row->src)
		packet_set_src(&want, row->src);
	if (row->dst)
		packet_set_dst(&want, row->dst);
	watch_start(&counters);
	verdict = tc_run(ingress, &in, &out);
	if (verdict != (row->dropped ? TC_DROP : TC_NEXT))
		row_failed(row->why, "verdict %u", verdict);
	watch_expect(&counters, row->counters, row->why);
	option_want(&want, &out, row->fate, row->why);
	packet_expect(&want, &out, row->why);
}

static void ingress_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(ingress_rows); i++)
		ingress_run(&ingress_rows[i]);
	rows_done();
}

/* Every row's packet, cut within its TCP header: left as it is. (TEST_RUN wants the IP header.) */
static void ingress_truncated(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(ingress_rows); i++) {
		const char *why = ingress_rows[i].why;
		struct packet_buf whole, out;
		unsigned end;

		packet_case_build(&whole, &ingress_rows[i].in);
		end = whole.l4 + (whole.bytes[whole.l4 + 12] >> 4) * 4;
		if (end > whole.len)
			end = whole.len;
		watch_start(&counters);
		for (unsigned len = whole.l3 + (is_ip6(&whole) ? 40 : 20); len < end; len++) {
			whole.len = len;
			if (tc_run(ingress, &whole, &out) != TC_NEXT)
				row_failed(why, "dropped at length %u", len);
			packet_expect(&whole, &out, why);
		}
		watch_expect(&counters, 0, why);
	}
	rows_done();
}

/* --- wrapped packets ---------------------------------------------------------------------------- */

/* clang-format off */
#define WRAP4_FROM(from, ...) { .src = from, .dst = DIP4, .ttl = 60, ##__VA_ARGS__ }
#define WRAP6_FROM(from, ...) { .src = from, .dst = DIP6, .ttl = 60, ##__VA_ARGS__ }
#define WRAP4(...) WRAP4_FROM("10.0.2.1", ##__VA_ARGS__)
#define WRAP6(...) WRAP6_FROM("fd00:2::1", ##__VA_ARGS__)
/* clang-format on */
#define UDP .sport = 50000
#define STAYS_WRAPPED false, 0
#define UNWRAPPED true, 0
#define MANGLE(offset, s) POKE(IP, offset, s)

static const struct unwrap_row {
	const char *why;
	struct packet_case in;
	struct wrap_spec wrap;
	bool unwrapped;
	__u64 counters;
	struct poke outer; /* AT_IP: from the outer header */
	const char *inner_tos; /* afterwards; NULL: as it was */
	bool asks;
} unwrap_rows[] = {
	{ "SYN", { SYN(CLIENT4, VIP4, LINUX) }, WRAP4(), UNWRAPPED },
	{ "SYN, UDP", { SYN(CLIENT4, VIP4, LINUX) }, WRAP4(UDP), UNWRAPPED },
	{ "ACK", { FROM(CLIENT4, VIP4, "A") }, WRAP4(), UNWRAPPED },
	{ "RST", { FROM(CLIENT4, VIP4, "R") }, WRAP4(UDP), UNWRAPPED },
	{ "IPv4 options inside", { FROM(CLIENT4, VIP4, "A", IPOPT(NOP4)) }, WRAP4(), UNWRAPPED },
	{ "SYN with a request",
	  { SYN(CLIENT4, VIP4, LINUX FULL) },
	  WRAP4(),
	  UNWRAPPED,
	  .asks = true },
	{ "strict service", { SYN(CLIENT4, STRICT4, LINUX) }, WRAP4(), UNWRAPPED },
	{ "from the client", { FROM(CLIENT4, VIP4, "A") }, WRAP4_FROM("10.0.1.2"), UNWRAPPED },
	{ "from a stranger",
	  { FROM(CLIENT4, VIP4, "A") },
	  WRAP4_FROM("10.0.9.1"),
	  false,
	  C(wrapped_untrusted) },
	{ "not a service", { FROM(CLIENT4, "10.99.0.1:99", "A") }, WRAP4(), STAYS_WRAPPED },
	{ "a UDP service", { FROM(CLIENT4, ASKED4, "A") }, WRAP4(), STAYS_WRAPPED },
	{ "the server's own address", { FROM(CLIENT4, LISTEN4, "A") }, WRAP4(), STAYS_WRAPPED },
	{ "UDP inside", { FROM(CLIENT4, VIP4, "A"), POKE(IP, 9, "\x11") }, WRAP4(), STAYS_WRAPPED },
	{ "a fragment inside",
	  { FROM(CLIENT4, VIP4, "A"), POKE(IP, 6, "\x20\0") },
	  WRAP4(),
	  STAYS_WRAPPED },
	{ "a fragment", { FROM(CLIENT4, VIP4, "A") }, WRAP4(), STAYS_WRAPPED, MANGLE(6, "\x20\0") },
	{ "IPv6 inside",
	  { FROM(CLIENT4, VIP4, "A"), POKE(IP, 0, "\x65") },
	  WRAP4(),
	  STAYS_WRAPPED },
	{ "another protocol",
	  { FROM(CLIENT4, VIP4, "A") },
	  WRAP4(),
	  STAYS_WRAPPED,
	  MANGLE(9, "\x2f") },
	{ "another UDP port",
	  { FROM(CLIENT4, VIP4, "A") },
	  WRAP4(UDP),
	  STAYS_WRAPPED,
	  MANGLE(22, "\0\x35") },
	{ "a header of GUE",
	  { FROM(CLIENT4, VIP4, "A"), POKE(IP, 0, "\0") },
	  WRAP4(UDP),
	  STAYS_WRAPPED },
	{ "congestion, ECT(0) inside",
	  { FROM(CLIENT4, VIP4, "A"), POKE(IP, 1, "\x2") },
	  WRAP4(.tos = 3),
	  UNWRAPPED,
	  .inner_tos = "\x3" },
	{ "congestion, ECT(1) inside",
	  { FROM(CLIENT4, VIP4, "A"), POKE(IP, 1, "\xb9") },
	  WRAP4(UDP, .tos = 3),
	  UNWRAPPED,
	  .inner_tos = "\xbb" },
	{ "congestion, not ECT inside", { FROM(CLIENT4, VIP4, "A") }, WRAP4(.tos = 3), UNWRAPPED },
	{ "v6 SYN", { SYN(CLIENT6, VIP6, LINUX) }, WRAP6(), UNWRAPPED },
	{ "v6 ACK, UDP", { FROM(CLIENT6, VIP6, "A") }, WRAP6(UDP), UNWRAPPED },
	{ "v6 SYN with a request",
	  { SYN(CLIENT6, VIP6, LINUX REQUEST6) },
	  WRAP6(),
	  UNWRAPPED,
	  .asks = true },
	{ "v6 from the client", { FROM(CLIENT6, VIP6, "A") }, WRAP6_FROM("fd00:1::2"), UNWRAPPED },
	{ "v6 from a stranger",
	  { FROM(CLIENT6, VIP6, "A") },
	  WRAP6_FROM("fd00:9::1"),
	  false,
	  C(wrapped_untrusted) },
	{ "v6 not a service", { FROM(CLIENT6, "[fd00:99::1]:99", "A") }, WRAP6(), STAYS_WRAPPED },
	{ "v6 extension header inside",
	  { FROM(CLIENT6, VIP6, "A", HOP_BY_HOP) },
	  WRAP6(),
	  STAYS_WRAPPED },
	{ "v6 another protocol",
	  { FROM(CLIENT6, VIP6, "A") },
	  WRAP6(),
	  STAYS_WRAPPED,
	  MANGLE(6, "\x2f") },
	{ "v6 congestion, ECT(0) inside",
	  { FROM(CLIENT6, VIP6, "A"), POKE(IP, 1, "\x20") },
	  WRAP6(.tos = 3),
	  UNWRAPPED,
	  .inner_tos = "\x30" },
	{ "in IPv6, SYN", { SYN(CLIENT4, VIP4, LINUX) }, WRAP6(), UNWRAPPED },
	{ "in IPv6, ACK, UDP", { FROM(CLIENT4, VIP4, "A") }, WRAP6(UDP), UNWRAPPED },
	{ "in IPv6, IPv4 options", { FROM(CLIENT4, VIP4, "A", IPOPT(NOP4)) }, WRAP6(), UNWRAPPED },
	{ "in IPv6, SYN with a request",
	  { SYN(CLIENT4, VIP4, LINUX FULL) },
	  WRAP6(),
	  UNWRAPPED,
	  .asks = true },
	{ "in IPv6, congestion, ECT(0) inside",
	  { FROM(CLIENT4, VIP4, "A"), POKE(IP, 1, "\x2") },
	  WRAP6(.tos = 3),
	  UNWRAPPED,
	  .inner_tos = "\3" },
	{ "in IPv6, from a stranger",
	  { FROM(CLIENT4, VIP4, "A") },
	  WRAP6_FROM("fd00:1::2"),
	  false,
	  C(wrapped_untrusted) },
	{ "in IPv6, no address",
	  { FROM(CLIENT4, STRICT4, "A") },
	  WRAP6(),
	  false,
	  C(wrapped_no_address) },
	{ "in IPv6, not a service",
	  { FROM(CLIENT4, "10.99.0.1:99", "A") },
	  WRAP6(),
	  STAYS_WRAPPED },
	{ "in IPv4, SYN", { SYN(CLIENT6, VIP6, LINUX) }, WRAP4(), UNWRAPPED },
	{ "in IPv4, ACK, UDP", { FROM(CLIENT6, VIP6, "A") }, WRAP4(UDP), UNWRAPPED },
	{ "in IPv4, SYN with a request",
	  { SYN(CLIENT6, VIP6, LINUX REQUEST6) },
	  WRAP4(UDP),
	  UNWRAPPED,
	  .asks = true },
	{ "in IPv4, congestion, ECT(0) inside",
	  { FROM(CLIENT6, VIP6, "A"), POKE(IP, 1, "\x20") },
	  WRAP4(.tos = 3),
	  UNWRAPPED,
	  .inner_tos = "\x30" },
	{ "in IPv4, from a stranger",
	  { FROM(CLIENT6, VIP6, "A") },
	  WRAP4_FROM("10.0.1.2"),
	  false,
	  C(wrapped_untrusted) },
	{ "in IPv4, no address",
	  { FROM(CLIENT6, STRICT6, "A") },
	  WRAP4(),
	  false,
	  C(wrapped_no_address) },
};

/* What was inside, for the server's own address. */
static void make_unwrapped(const struct unwrap_row *row, const struct packet_buf *inner,
			   struct packet_buf *want)
{
	*want = *inner;
	packet_set_dst(want, is_ip6(inner) ? LISTEN6 : LISTEN4);
	if (!row->inner_tos)
		return;
	want->bytes[want->l3 + 1] = row->inner_tos[0];
	packet_checksum(want);
}

/* Does the host know now that the client of @p did not ask? It is to forget that again. */
static bool is_remembered(const struct packet_buf *p)
{
	struct ss_flow flow = { endpoint(is_ip6(p) ? LISTEN6 : LISTEN4), endpoint(packet_src(p)) };

	return !bpf_map_delete_elem(bpf_map__fd(skel->maps.late), &flow);
}

static void unwrap_run(const struct unwrap_row *row)
{
	struct packet_buf inner, in, want, out;
	unsigned verdict;

	packet_case_build(&inner, &row->in);
	if (!is_ip6(&inner) && inner.bytes[inner.l3] == 0x45)
		packet_checksum(&inner);
	in = inner;
	packet_wrap(&in, &row->wrap);
	if (row->outer.len)
		memcpy(in.bytes + in.l3 + row->outer.off, row->outer.bytes, row->outer.len);
	want = in;
	if (row->unwrapped)
		make_unwrapped(row, &inner, &want);
	watch_start(&counters);
	verdict = tc_run(ingress, &in, &out);
	if (verdict != TC_NEXT)
		row_failed(row->why, "verdict %u", verdict);
	if (is_remembered(&inner) != (row->unwrapped && !row->asks))
		row_failed(row->why, "remembered as one that did not ask, or not");
	watch_expect(&counters, row->counters, row->why);
	option_want(&want, &out, row->asks ? MARKED : AS_BEFORE, row->why);
	packet_expect(&want, &out, row->why);
}

static void unwrap_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(unwrap_rows); i++)
		unwrap_run(&unwrap_rows[i]);
	rows_done();
}

/* Every row's packet, cut before the ports inside: left as it is. */
static void unwrap_truncated(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(unwrap_rows); i++) {
		const char *why = unwrap_rows[i].why;
		struct packet_buf whole, out;
		unsigned end;

		packet_case_build(&whole, &unwrap_rows[i].in);
		end = whole.l4 - whole.l3 + 4;
		packet_wrap(&whole, &unwrap_rows[i].wrap);
		end += whole.l4 + (unwrap_rows[i].wrap.sport ? 8 : 0);
		for (unsigned len = whole.l4; len < end; len++) {
			whole.len = len;
			if (tc_run(ingress, &whole, &out) != TC_NEXT)
				row_failed(why, "dropped at length %u", len);
			packet_expect(&whole, &out, why);
		}
	}
	rows_done();
}

/* --- frames on a link ------------------------------------------------------------------------ */

/* A packet socket of @interface that receives @protocol; frames come with a virtio_net_hdr. */
static int packet_socket(const char *interface, int protocol)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET,
				    .sll_protocol = htons(protocol),
				    .sll_ifindex = if_nametoindex(interface) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), on = 1;

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/*
 * A TCP checksum that is left to the device is the sum of the pseudo-header; a finished one is the
 * complement of that sum and the segment's. So each is the complement of the segment with the
 * other in it: this turns a finished one into an unfinished one, and back.
 */
static void checksum_turn(struct packet_buf *p, unsigned offset)
{
	uint8_t *check = p->bytes + p->l4 + offset;
	uint32_t sum = 0;

	for (unsigned i = p->l4; i < packet_ip_end(p); i++)
		sum += p->bytes[i] << ((i - p->l4) & 1 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	check[0] = ~sum >> 8;
	check[1] = ~sum & 0xff;
}

/* Sends @p, whose checksum is right, by @fd; with @unfinished, it is left to the device. */
static void frame_send(int fd, const struct packet_buf *p, bool unfinished)
{
	struct packet_buf copy = *p;
	struct virtio_net_hdr vnet = {};
	struct iovec iov[] = { { &vnet, sizeof(vnet) }, { copy.bytes, copy.len } };

	if (unfinished) {
		checksum_turn(&copy, 16);
		vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		vnet.csum_start = p->l4;
		vnet.csum_offset = 16;
	}
	if (writev(fd, iov, 2) != (ssize_t)(sizeof(vnet) + p->len))
		fail_msg("cannot send: %s", strerror(errno));
}

/* The next frame with one of our MAC addresses, its checksum finished. False: none within 1 s. */
static bool frame_receive(int fd, struct packet_buf *p)
{
	struct virtio_net_hdr vnet;
	struct iovec iov[] = { { &vnet, sizeof(vnet) }, { p->bytes, sizeof(p->bytes) } };
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	while (poll(&ready, 1, 1000) == 1) {
		ssize_t len = readv(fd, iov, 2);

		assert_true(len > (ssize_t)sizeof(vnet));
		p->len = len - sizeof(vnet);
		if (p->bytes[0] != 2)
			continue;
		if (vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
			checksum_turn(p, vnet.csum_offset);
		return true;
	}
	return false;
}

/* --- collisions ------------------------------------------------------------------------------ */

/* The sockets that have, or could have, the SYN's addresses and ports. */
struct pair {
	bool ip6;
	int listener, client, server;
};

static socklen_t sockaddr_fill(struct sockaddr_storage *out, const char *text)
{
	struct ss_endpoint e = endpoint(text);
	struct sockaddr_in6 *in6 = (void *)out;
	struct sockaddr_in *in = (void *)out;

	*out = (struct sockaddr_storage){};
	if (ss_addr_is_v4(&e.addr)) {
		in->sin_family = AF_INET;
		in->sin_addr.s_addr = e.addr.w[3];
		in->sin_port = e.port;
		return sizeof(*in);
	}
	in6->sin6_family = AF_INET6;
	memcpy(&in6->sin6_addr, &e.addr, 16);
	in6->sin6_port = e.port;
	return sizeof(*in6);
}

/* A TCP socket with the local address @text. */
static int socket_at(const char *text)
{
	struct sockaddr_storage addr;
	socklen_t len = sockaddr_fill(&addr, text);
	int fd = socket(addr.ss_family, SOCK_STREAM, 0), on = 1;

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	if (addr.ss_family == AF_INET6)
		assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)), 0);
	if (bind(fd, (struct sockaddr *)&addr, len))
		fail_msg("bind %s: %s", text, strerror(errno));
	return fd;
}

static void listening_at(struct pair *p, const char *text)
{
	p->listener = socket_at(text);
	assert_int_equal(listen(p->listener, 8), 0);
}

/* The programs know the listener @fd. */
static void listener_state(int fd)
{
	struct ss_conn conn = { .role = SS_ROLE_LISTENER };

	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.conns), &fd, &conn, BPF_ANY),
			 0);
}

static void listening(struct pair *p)
{
	listening_at(p, p->ip6 ? LISTEN6 : LISTEN4);
}

/* The client's address, connected to @text. */
static void connected(struct pair *p, const char *text)
{
	struct sockaddr_storage addr;
	socklen_t len = sockaddr_fill(&addr, text);

	listening_at(p, text);
	p->client = socket_at(p->ip6 ? CLIENT6 : CLIENT4);
	/* a new IPv6 address can be used when the kernel has got round to it */
	for (int i = 0; connect(p->client, (struct sockaddr *)&addr, len); i++) {
		if (errno != ENETUNREACH || i == 500)
			fail_msg("connect: %s", strerror(errno));
		poll(NULL, 0, 10);
	}
	p->server = accept(p->listener, NULL, NULL);
	assert_true(p->server >= 0);
}

static void established(struct pair *p)
{
	connected(p, p->ip6 ? LISTEN6 : LISTEN4);
}

/* The server's socket is a redirected connection of the service @vip. */
static void established_of(struct pair *p, const char *vip)
{
	struct ss_conn conn = { .role = SS_ROLE_SERVER, .wire = endpoint(vip) };

	established(p);
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(skel->maps.conns), &p->server, &conn, BPF_ANY), 0);
}

static void established_same(struct pair *p)
{
	established_of(p, p->ip6 ? VIP6 : VIP4);
}

static void established_other(struct pair *p)
{
	established_of(p, p->ip6 ? STRICT6 : STRICT4);
}

/* The other end has closed, this one not yet. */
static void close_wait(struct pair *p)
{
	established(p);
	close(p->client);
	p->client = -1;
}

/* The server has closed first: its end waits, without a full socket. */
static void time_wait(struct pair *p)
{
	char byte;

	established(p);
	close(p->server);
	p->server = -1;
	assert_int_equal(read(p->client, &byte, 1), 0);
	close(p->client);
	p->client = -1;
}

/* No listener: a socket of this host is itself connecting from there to the client. */
static void connecting(struct pair *p)
{
	struct sockaddr_storage addr;
	socklen_t len = sockaddr_fill(&addr, p->ip6 ? "[fd00:1::77]:40000" : "10.0.1.77:40000");

	p->client = socket_at(p->ip6 ? LISTEN6 : LISTEN4);
	assert_int_equal(fcntl(p->client, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(connect(p->client, (struct sockaddr *)&addr, len), -1);
	assert_int_equal(errno, EINPROGRESS);
}

static void listening_ours(struct pair *p)
{
	listening(p);
	listener_state(p->listener);
}

/* A connection without state, whose answers are known to be the service's. */
static void established_noted(struct pair *p)
{
	struct ss_endpoint vip = endpoint(p->ip6 ? VIP6 : VIP4);
	struct ss_flow flow = { endpoint(p->ip6 ? LISTEN6 : LISTEN4),
				endpoint(p->ip6 ? CLIENT6 : CLIENT4) };
	__u32 zero = 0, one = 1;

	established(p);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.answers), &flow, &vip, BPF_ANY),
			 0);
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(skel->maps.answers_used), &zero, &one, BPF_ANY), 0);
}

/* Nothing is known of flows without state. */
static void answers_clear(void)
{
	__u32 zero = 0, none = 0;
	struct ss_flow flow;

	while (!bpf_map_get_next_key(bpf_map__fd(skel->maps.answers), NULL, &flow))
		assert_int_equal(bpf_map_delete_elem(bpf_map__fd(skel->maps.answers), &flow), 0);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.answers_used), &zero, &none,
					     BPF_ANY),
			 0);
}

static void nothing(struct pair *p)
{
	(void)p;
}

/* Closes without leaving anything in TIME_WAIT. */
static void socket_reset(int fd)
{
	struct linger reset = { .l_onoff = 1 };

	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

static void pair_close(struct pair *p)
{
	socket_reset(p->server);
	socket_reset(p->client);
	socket_reset(p->listener);
}

#define PASSES TC_NEXT, 0
#define ACCEPTS TC_NEXT, 0, MARKED
#define COLLIDES TC_DROP, C(syn_collision), AS_BEFORE
#define OLD_LISTENER TC_NEXT, C(syn_old_listener), HOLDS
#define NO_SOCKET TC_NEXT, C(server_elsewhere), HOLDS

static const struct collision_row {
	const char *why;
	const char *src4, *src6; /* of the SYN */
	void (*make)(struct pair *pair);
	unsigned verdict;
	__u64 counters;
	enum option_fate fate;
} collision_rows[] = {
#define CLIENTS CLIENT4, CLIENT6
#define OTHERS "10.0.1.2:40001", "[fd00:1::2]:40001"
#define FAR4 "10.0.1.77:40000"
#define FAR6 "[fd00:1::77]:40000"
#define FARAWAY FAR4, FAR6
	{ "no socket", CLIENTS, nothing, NO_SOCKET },
	{ "a listener", CLIENTS, listening_ours, ACCEPTS },
	{ "a listener that was there first", CLIENTS, listening, OLD_LISTENER },
	{ "a live connection without sidestep", CLIENTS, established, COLLIDES },
	{ "a live connection of another service", CLIENTS, established_other, COLLIDES },
	{ "its own connection", CLIENTS, established_same, ACCEPTS },
	{ "its own connection, without state", CLIENTS, established_noted, ACCEPTS },
	{ "a live connection from another port", OTHERS, established, OLD_LISTENER },
	{ "a half-closed connection", CLIENTS, close_wait, COLLIDES },
	{ "this host connects to the client", FARAWAY, connecting, COLLIDES },
	{ "TIME_WAIT", CLIENTS, time_wait, ACCEPTS }, /* last: it stays for a minute */
};

static struct packet_case collision_syn(bool ip6, const char *src4, const char *src6)
{
	static char request4[] = LINUX FULL;
	struct packet_case syn4 = { SYN(src4, LISTEN4, LINUX FULL) };
	static char request6[] = LINUX REQUEST6;
	struct packet_case syn6 = { SYN(src6, LISTEN6, LINUX REQUEST6) };
	struct ss_endpoint src = endpoint(src4), source6 = endpoint(src6);
	struct ss_tag tag = ss_tag_of(&source6);

	memcpy(request4 + sizeof(LINUX) - 1 + 8, &src.addr.w[3], 4);
	memcpy(request4 + sizeof(LINUX) - 1 + 14, &src.port, 2);
	syn4.spec.options = request4;
	memcpy(request6 + sizeof(LINUX) - 1 + 10, &tag, 6);
	memcpy(request6 + sizeof(LINUX) - 1 + 18, &source6.port, 2);
	syn6.spec.options = request6;
	return ip6 ? syn6 : syn4;
}

/* The program's verdict over @in, of which it may change the request only. */
static void collision_expect(const char *why, const struct packet_buf *in, unsigned want,
			     __u64 moved, enum option_fate fate)
{
	struct packet_buf out, wanted = *in;
	unsigned verdict;

	watch_start(&counters);
	verdict = tc_run(ingress, in, &out);
	if (verdict != want)
		row_failed(why, "IPv%u: verdict %d, not %d", is_ip6(in) ? 6 : 4, (int)verdict,
			   (int)want);
	watch_expect(&counters, moved, why);
	option_want(&wanted, &out, fate, why);
	packet_expect(&wanted, &out, why);
}

static void collision_run(const struct collision_row *row, bool ip6)
{
	struct packet_case syn = collision_syn(ip6, row->src4, row->src6);
	struct pair pair = { ip6, -1, -1, -1 };
	struct packet_buf in;

	packet_case_build(&in, &syn);
	row->make(&pair);
	collision_expect(row->why, &in, row->verdict, row->counters, row->fate);
	pair_close(&pair);
	answers_clear();
}

static void collisions(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(collision_rows); i++) {
		collision_run(&collision_rows[i], false);
		collision_run(&collision_rows[i], true);
	}
	rows_done();
}

/* What counts are the addresses and ports that the server sees, not those of the wire. */
static void restored_collision(void **state)
{
	const struct packet_case syn = { SYN(BALANCER4, DIP4 ":80", LINUX FULL) };
	struct pair pair = { false, -1, -1, -1 };
	struct packet_buf in, out;

	(void)state;
	packet_case_build(&in, &syn);
	established_other(&pair);
	watch_start(&counters);
	assert_int_equal(tc_run(ingress, &in, &out), TC_DROP);
	watch_expect(&counters, C(syn_collision), "restored");
	pair_close(&pair);
	rows_done();
}

/* The packet @in, of CLIENT, is refused from @src. */
static void refused_expect(const char *why, const struct packet_buf *in, const char *src,
			   __u64 moved)
{
	const char *client = strchr(src, '[') ? CLIENT6 : CLIENT4;
	struct packet_buf out;
	const uint8_t *tcp;
	uint32_t ack;

	watch_start(&counters);
	if (tc_run(ingress, in, &out) != TC_REDIRECT)
		row_failed(why, "not sent back");
	watch_expect(&counters, moved, why);
	tcp = out.bytes + out.l4;
	memcpy(&ack, tcp + 8, sizeof(ack));
	if (strcmp(packet_src(&out), src) || strcmp(packet_dst(&out), client))
		row_failed(why, "from %s to %s", packet_src(&out), packet_dst(&out));
	if (tcp[12] != 0x50 || tcp[13] != 0x14 || ntohl(ack) != 1001 || out.len != out.l4 + 20 ||
	    !packet_checksum_ok(&out))
		row_failed(why, "no RST: flags %x, ack %u, %u bytes, checksum %d", tcp[13],
			   ntohl(ack), out.len, packet_checksum_ok(&out));
}

/*
 * The second copy of a SYN that meets another service's connection is refused, by the service or, where
 * it replies strictly, by the server; a wrapped one without a request at once.
 */
static void collisions_refused(void **state)
{
	static const struct wrap_spec wrap4 = WRAP4(), wrap6 = WRAP6();
	static const struct packet_case syns[] = {
		{ SYN(CLIENT4, LISTEN4, LINUX FULL_RETRY), .spec.seq = 1000 },
		{ SYN(CLIENT4, LISTEN4, LINUX STRICT_RETRY), .spec.seq = 1000 },
		{ SYN(CLIENT6, LISTEN6, LINUX REQUEST6_RETRY(TAG_VIP6)), .spec.seq = 1000 },
		{ SYN(CLIENT6, LISTEN6, REQUEST6_RETRY(TAG_STRICT6)), .spec.seq = 1000 },
		{ SYN(CLIENT4, VIP4, LINUX), .spec.seq = 1000 },
		{ SYN(CLIENT6, VIP6, LINUX), .spec.seq = 1000 },
	};
	static const char *const from[] = { VIP4, LISTEN4, VIP6, LISTEN6, VIP4, VIP6 };

	(void)state;
	for (size_t i = 0; i < ROWS(syns); i++) {
		struct pair pair = { strchr(from[i], '[') != NULL, -1, -1, -1 };
		struct ss_flow flow = { endpoint(pair.ip6 ? LISTEN6 : LISTEN4),
					endpoint(pair.ip6 ? CLIENT6 : CLIENT4) };
		struct packet_buf in;

		(void)bpf_map_delete_elem(bpf_map__fd(skel->maps.collided), &flow);
		packet_case_build(&in, &syns[i]);
		if (i >= 4)
			packet_wrap(&in, pair.ip6 ? &wrap6 : &wrap4);
		established(&pair);
		if (i < 4)
			collision_expect("the first copy", &in, COLLIDES);
		refused_expect(from[i], &in, from[i], C(syn_collision) | C(syn_refused));
		pair_close(&pair);
	}
	rows_done();
}

/* A SYN with these options reaches a server that keeps it, from FARAWAY: a half-open connection. */
static void half_open(struct pair *pair, int wire, struct packet_case *syn, struct packet_buf *in)
{
	const uint8_t mac[6] = { 2, 0, 0, 0, 0xa, 0 };
	struct packet_buf synack;
	int on = 1;

	listening(pair);
	assert_int_equal(setsockopt(pair->listener, IPPROTO_TCP, TCP_SAVE_SYN, &on, sizeof(on)), 0);
	syn->spec.seq = 1000;
	packet_case_build(in, syn);
	memcpy(in->bytes, mac, 6);
	frame_send(wire, in, false);
	synack = (struct packet_buf){ .l3 = in->l3, .l4 = in->l4 };
	assert_true(frame_receive(wire, &synack));
	assert_string_equal(packet_src(&synack), pair->ip6 ? LISTEN6 : LISTEN4);
}

/*
 * What meets a half-open connection whose SYN asked for VIP: the same SYN; another one, since that may
 * have been anybody's; one of another service.
 */
static void half_open_collision(bool ip6, int wire)
{
	struct packet_case syn = collision_syn(ip6, FARAWAY), other = syn;
	struct pair pair = { ip6, -1, -1, -1 };
	struct packet_buf in;

	half_open(&pair, wire, &syn, &in);
	collision_expect("the same SYN", &in, ACCEPTS);
	syn.spec.seq = 70000;
	packet_case_build(&in, &syn);
	collision_expect("another SYN for the same service", &in, ACCEPTS);
	other.spec.seq = 70000;
	if (ip6)
		other.spec.options = LINUX "\xfd\x14\x5d\x54" TAG_STRICT6
					   "\x4a\xbf\x0b\x12\x15\xfe" PORT_80 PORT_40000;
	else
		other.spec.options =
			LINUX "\xfd\x10\x5d\x52" BYTES_STRICT4 "\xa\0\1\x4d" PORT_80 PORT_40000;
	packet_case_build(&in, &other);
	collision_expect("a SYN for another service", &in, COLLIDES);
	pair_close(&pair);
}

static void half_open_collisions(void **state)
{
	int wire = packet_socket("a1", ETH_P_ALL);

	(void)state;
	half_open_collision(false, wire);
	half_open_collision(true, wire);
	close(wire);
	rows_done();
}

/* What the late map has of FARAWAY's connection. */
static struct ss_late half_open_note(bool ip6)
{
	struct ss_flow flow = { endpoint(ip6 ? LISTEN6 : LISTEN4), endpoint(ip6 ? FAR6 : FAR4) };
	struct ss_late note = {};

	(void)bpf_map_lookup_elem(bpf_map__fd(skel->maps.late), &flow, &note);
	return note;
}

/*
 * A client that did not ask, by a balancer that wraps: its third ACK and its first data are lost, and
 * what comes then is no collision. What is known of its SYN stays. One of another service is one.
 */
static void half_open_plain_run(bool ip6, int wire)
{
	static const struct wrap_spec wrap4 = WRAP4(), wrap6 = WRAP6();
	const char *far = ip6 ? FAR6 : FAR4;
	struct packet_case syn = { FROM(far, ip6 ? LISTEN6 : LISTEN4, "S", OPTIONS(LINUX)) };
	struct packet_spec spec = { .src = far, .flags = "S", .seq = 1000 };
	struct pair pair = { ip6, -1, -1, -1 };
	struct packet_buf in, out;

	half_open(&pair, wire, &syn, &in);
	for (int i = 0; i < 3; i++) { /* the SYN; later data; the same of another service */
		const char *vip = ip6 ? VIP6 : VIP4, *other = ip6 ? STRICT6 : STRICT4;

		spec.dst = i < 2 ? vip : other;
		spec.flags = i ? "PA" : "S";
		spec.seq = i ? 3000 : 1000;
		packet_build(&in, &spec);
		packet_wrap(&in, ip6 ? &wrap6 : &wrap4);
		watch_start(&counters);
		if (tc_run(ingress, &in, &out) != (i < 2 ? TC_NEXT : TC_DROP))
			row_failed("half open, plain", "packet %d, IPv%d", i, ip6 ? 6 : 4);
		watch_expect(&counters, i < 2 ? 0 : C(syn_collision), "half open, plain");
		assert_int_equal(ntohl(half_open_note(ip6).synack), 1001);
	}
	pair_close(&pair);
}

static void half_open_plain(void **state)
{
	int wire = packet_socket("a1", ETH_P_ALL);

	(void)state;
	half_open_plain_run(false, wire);
	half_open_plain_run(true, wire);
	close(wire);
	rows_done();
}

/* --- SYN-ACKs that come again ------------------------------------------------------------------ */

#define STAYS 0
#define GOES_BACK C(client_blocked)
#define GOES_DIRECT C(client_unblocked)
#define GIVES_UP C(client_cut_off)
#define MINUTE_NS 60000000000ULL

/* The client's state, and a SYN-ACK that comes after so many milliseconds. */
static const struct again_row {
	const char *why;
	__u64 counters;
	unsigned ms;
	__u8 reason, syn_retries, acked;
	int isn, ack; /* added to the right ones */
	bool server_spoke;
} again_rows[] = {
#define DIRECT SS_HOST_client_direct
	{ "after a second", GOES_BACK, 1000, DIRECT, 0, 1 },
	{ "a copy made by the network", STAYS, 100, DIRECT, 0, 1 },
	{ "another server's", STAYS, 1000, DIRECT, 0, 1, .isn = 1 },
	{ "another server's, just before", STAYS, 1000, DIRECT, 0, 1, .isn = -1 },
	{ "a forgery", STAYS, 1000, DIRECT, 0, 1, .ack = 1 },
	{ "a forgery, just before", STAYS, 1000, DIRECT, 0, 1, .ack = -1 },
	{ "the client's SYN came again, too", STAYS, 1000, DIRECT, 1, 1 },
	{ "bytes were acknowledged", STAYS, 1000, DIRECT, 0, 0 },
	{ "the server has spoken", STAYS, 1000, DIRECT, 0, 1, .server_spoke = true },
	{ "data in the SYN", GOES_BACK, 1000, DIRECT, 0, 9 },
	{ "data in the SYN, the server has spoken", GOES_BACK, 1000, DIRECT, 0, 9,
	  .server_spoke = true },
	{ "back on the balancer path", GOES_DIRECT, 1000, SS_HOST_client_blocked, 0, 1 },
	{ "back, a copy", STAYS, 100, SS_HOST_client_blocked, 0, 1 },
	{ "back, bytes were acknowledged", STAYS, 1000, SS_HOST_client_blocked, 0, 0 },
	{ "not tried directly", GOES_DIRECT, 1000, SS_HOST_client_backend_blocked, 0, 1 },
	{ "direct after all", GIVES_UP, 1000, SS_HOST_client_unblocked, 0, 1 },
	{ "direct after all, a copy", STAYS, 100, SS_HOST_client_unblocked, 0, 1 },
	{ "not granted", GIVES_UP, 1000, SS_HOST_client_no_grant, 0, 1 },
	{ "not granted, a copy", STAYS, 100, SS_HOST_client_no_grant, 0, 1 },
	{ "not granted, the server has spoken", STAYS, 1000, SS_HOST_client_no_grant, 0, 1,
	  .server_spoke = true },
	{ "a malformed grant", GIVES_UP, 1000, SS_HOST_client_bad_grant, 0, 1 },
	{ "an impossible grant", GIVES_UP, 1000, SS_HOST_client_out_of_range, 0, 1 },
	{ "cut off before", STAYS, 1000, SS_HOST_client_cut_off, 0, 1 },
	{ "did not ask", STAYS, 1000, SS_HOST_client_dialled_plainly, 0, 1 },
	{ "not established", STAYS, 1000, 0, 0, 1 },
	{ "a server's socket", STAYS, 1000, SS_HOST_server_direct, 0, 1 },
};

static __u64 monotonic_ns(void)
{
	struct timespec t;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &t), 0);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* The sequence number of the next byte of @fd's @queue: TCP_RECV_QUEUE or TCP_SEND_QUEUE. */
static uint32_t next_byte(int fd, int queue)
{
	int on = 1, off = -1;
	socklen_t len = sizeof(uint32_t);
	uint32_t seq;

	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)), 0);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, &len), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)), 0);
	return seq;
}

/*
 * A SYN that this host sent as a client comes back to it, chosen as its own server: it goes to the
 * service again, with the retry bit. Its request may stand at any offset.
 */
static void own_syn_sent_on(void **state)
{
	static const struct packet_case syns[] = {
		{ SYN(CLIENT4, LISTEN4, LINUX FULL_TO(BYTES_STRICT4, PORT_80)) },
		{ SYN(CLIENT4, LISTEN4, "\1" FULL_TO(BYTES_STRICT4, PORT_80) "\1\1\1") },
		{ SYN(CLIENT4, LISTEN4, "\1\1" FULL_TO(BYTES_STRICT4, PORT_80) "\1\1") },
		{ SYN(CLIENT4, LISTEN4, "\1\1\1" FULL_TO(BYTES_STRICT4, PORT_80) "\1") },
	};
	static const size_t at[] = { sizeof(LINUX) - 1, 1, 2, 3 };
	const struct ss_conn asking = { .role = SS_ROLE_CLIENT, .path = SS_PATH_ASKING };
	struct sockaddr_storage addr;
	socklen_t len = sockaddr_fill(&addr, STRICT4);
	int fd = socket_at(CLIENT4);

	(void)state;
	shell("ip route add 10.99.0.2 dev a0");
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, len), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.conns), &fd, &asking, BPF_ANY),
			 0);
	for (size_t i = 0; i < ROWS(syns); i++) {
		struct packet_case syn = syns[i];
		struct packet_buf in, out;
		const uint8_t *request;

		syn.spec.seq = next_byte(fd, TCP_SEND_QUEUE) - 1;
		packet_case_build(&in, &syn);
		watch_start(&counters);
		if (tc_run(ingress, &in, &out) != TC_REDIRECT)
			row_failed("own SYN", "request at %zu: not sent on", at[i]);
		watch_expect(&counters, C(syn_sent_on), "own SYN");
		request = out.bytes + out.l4 + 20 + at[i];
		if (strcmp(packet_src(&out), CLIENT4) || strcmp(packet_dst(&out), STRICT4) ||
		    memcmp(request, "\xfd\x10\x5d\x53", 4) || !packet_checksum_ok(&out))
			row_failed("own SYN", "request at %zu: to %s, ExID %02x%02x, checksum %d",
				   at[i], packet_dst(&out), request[2], request[3],
				   packet_checksum_ok(&out));
	}
	close(fd);
	shell("ip route del 10.99.0.2 dev a0");
	rows_done();
}

/* What the program has to go by. */
static struct ss_conn again_state(const struct again_row *row, const struct pair *pair)
{
	bool direct = row->reason == SS_HOST_client_direct ||
		      row->reason == SS_HOST_client_unblocked ||
		      row->reason == SS_HOST_server_direct;
	struct ss_conn conn = { .role = row->reason == SS_HOST_server_direct ? SS_ROLE_SERVER
									     : SS_ROLE_CLIENT,
				.path = direct ? SS_PATH_DIRECT : SS_PATH_BALANCER,
				.reason = row->reason,
				.rewrite = direct,
				.timeouts = 1,
				.syn_retries = row->syn_retries,
				.acked = row->acked,
				.since = monotonic_ns() - row->ms * 1000000ULL,
				.flow = { endpoint(pair->ip6 ? CLIENT6 : CLIENT4),
					  endpoint(pair->ip6 ? LISTEN6 : LISTEN4) },
				.wire = endpoint(pair->ip6 ? STRICT6 : STRICT4) };
	__u64 until = monotonic_ns() + MINUTE_NS;

	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.conns), &pair->client, &conn,
					     BPF_ANY),
			 0);
	if (!direct)
		assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.blocked),
						     &conn.wire.addr, &until, BPF_ANY),
				 0);
	return conn;
}

/* @before, the state, as it has to be after the row's packet. */
static void again_change(const struct again_row *row, struct ss_conn *before)
{
	if (row->counters == GOES_BACK) {
		before->path = SS_PATH_BALANCER;
		before->rewrite = 0;
		before->catch_up = 1;
		before->reason = SS_HOST_client_blocked;
	} else if (row->counters == GOES_DIRECT) {
		before->path = SS_PATH_DIRECT;
		before->rewrite = 1;
		before->reason = SS_HOST_client_unblocked;
		before->addr_csum = ss_csum_to32(
			ss_csum_diff_addr(&before->flow.remote.addr, &before->wire.addr));
	}
	if (row->counters == GIVES_UP)
		before->reason = SS_HOST_client_cut_off;
	if (row->counters)
		before->timeouts = 0;
}

/* The connection and what is remembered of its backend are as @row says. */
static void again_expect(const struct again_row *row, const struct pair *pair,
			 struct ss_conn *before)
{
	int blocked = bpf_map__fd(skel->maps.blocked), plain = bpf_map__fd(skel->maps.plain);
	__u64 until = 0, left;
	struct ss_conn now;

	again_change(row, before);
	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skel->maps.conns), &pair->client, &now),
			 0);
	if (row->counters && now.since <= before->since)
		row_failed(row->why, "since then: %llu", now.since);
	if (row->counters)
		before->since = now.since;
	if (memcmp(before, &now, sizeof(now)))
		row_failed(row->why, "path %u, rewrite %u, reason %u", now.path, now.rewrite,
			   now.reason);
	if (!bpf_map_delete_elem(plain, &now.flow.remote) != (row->counters == GIVES_UP))
		row_failed(row->why, "dialled plainly or not");
	(void)bpf_map_lookup_elem(blocked, &now.wire.addr, &until);
	left = until ? until - monotonic_ns() : 0;
	if (now.rewrite ? until != 0 : left > MINUTE_NS || left < MINUTE_NS / 2)
		row_failed(row->why, "blocked for %llu ns", left);
	(void)bpf_map_delete_elem(blocked, &now.wire.addr);
}

static void again_run(const struct again_row *row, bool ip6)
{
	struct pair pair = { ip6, -1, -1, -1 };
	struct packet_spec synack = { .src = ip6 ? LISTEN6 : LISTEN4,
				      .dst = ip6 ? CLIENT6 : CLIENT4,
				      .flags = "SA" };
	struct packet_buf in;
	struct ss_conn conn;
	char byte = 1;

	established(&pair);
	if (row->server_spoke) {
		assert_int_equal(write(pair.server, &byte, 1), 1);
		assert_int_equal(read(pair.client, &byte, 1), 1);
	}
	synack.seq = next_byte(pair.client, TCP_RECV_QUEUE) - 1 - row->server_spoke + row->isn;
	synack.ack = next_byte(pair.client, TCP_SEND_QUEUE) + row->ack;
	packet_build(&in, &synack);
	conn = again_state(row, &pair);
	collision_expect(row->why, &in, TC_NEXT, row->counters, AS_BEFORE);
	again_expect(row, &pair, &conn);
	pair_close(&pair);
}

static void synack_again(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(again_rows); i++) {
		again_run(&again_rows[i], false);
		again_run(&again_rows[i], true);
	}
	rows_done();
}

/* --- SYN-ACKs -------------------------------------------------------------------------------- */

/*
 * SYN-ACKs for LISTEN, here a client's port, from backends' own addresses, which nobody has asked for:
 * the kernel's RST ends what their servers take for a connection. strict_rows has those that are asked
 * for.
 */
static const struct synack_row {
	const char *why;
	const char *src4, *src6;
	void (*make)(struct pair *pair);
	unsigned verdict;
	__u64 counters;
} synack_rows[] = {
#define NO_BACKEND STRANGER4, "[fd00:9::1]:50000"
	{ "no socket", CLIENTS, nothing, PASSES },
	{ "a listener on that port", CLIENTS, listening, PASSES },
	{ "a connection to another server", OTHERS, established, PASSES },
	{ "a socket that dialled it", FARAWAY, connecting, PASSES },
	{ "a socket that dialled another server", CLIENTS, connecting, PASSES },
	{ "an established connection", CLIENTS, established, PASSES },
	{ "not a backend's address", NO_BACKEND, nothing, PASSES },
};

static void synack_run(const struct synack_row *row, bool ip6)
{
	const struct packet_case synack = { FROM(ip6 ? row->src6 : row->src4,
						 ip6 ? LISTEN6 : LISTEN4, "SA", OPTIONS(LINUX)) };
	struct pair pair = { ip6, -1, -1, -1 };
	struct packet_buf in;

	packet_case_build(&in, &synack);
	row->make(&pair);
	collision_expect(row->why, &in, row->verdict, row->counters, AS_BEFORE);
	pair_close(&pair);
}

static void synacks(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(synack_rows); i++) {
		synack_run(&synack_rows[i], false);
		synack_run(&synack_rows[i], true);
	}
	rows_done();
}

/* --- strict replies -------------------------------------------------------------------------- */

/* LISTEN is a client's port here, which dials the service FAR; BACK is a server of that. */
#define BACK4 "10.0.1.5:8080"
#define BACK6 "[fd00:1::5]:40000"
#define BYTES_FAR4 "\xa\0\1\x4d"
#define SHORT_FAR4 "\x3d\xf5\x11\x8c"
#define SHORT_FAR6 "\x4a\xbf\x0b\x12"
#define BYTES_BACK4 "\xa\0\1\5"
#define BYTES_BACK6 "\xfd\0\0\1\0\0\0\0\0\0\0\0\0\0\0\5"
#define STRICT_FAR4 GRANT4("\x59", BYTES_FAR4, PORT_40000)
#define STRICT_FAR6 TAGGED("\x5b", SHORT_FAR6)
#define SHORT_STRICT_FAR4 TAGGED("\x5b", SHORT_FAR4)
#define CLASSIC_BACK4 GRANT4("\x58", BYTES_BACK4, PORT_8080)
#define CLASSIC_BACK6 GRANT6("\x5a", BYTES_BACK6)
#define KEEPS(options) BECOMES(options, options)

/* A SYN-ACK of BACK for that client, with these options; and the options it is to have then. */
static const struct strict_row {
	const char *why;
	const char *in, *out; /* @out: NULL if the SYN-ACK does not get through */
	unsigned len;
	bool ip6;
	int ack; /* added to the right one */
	bool mute; /* the client has not asked */
	bool stray; /* none of that client's: as it was, to the kernel */
	__u64 counters;
	const char *src; /* NULL: BACK */
	__u16 reason; /* that the connection has then */
} strict_rows[] = {
#define BECOMES(before, after) before, after, sizeof(before) - 1
#define REFUSED(before) before, NULL, sizeof(before) - 1
#define STRAY(before) before, before, sizeof(before) - 1, .stray = true
#define SYNACK_GONE .counters = C(synack_dropped)
	{ "strict", BECOMES(LINUX STRICT_FAR4, LINUX CLASSIC_BACK4) },
	{ "strict, the grant alone", BECOMES(STRICT_FAR4, CLASSIC_BACK4) },
	{ "strict, first of the options", BECOMES(STRICT_FAR4 LINUX, CLASSIC_BACK4 LINUX) },
	{ "strict, at an odd offset",
	  BECOMES("\1" STRICT_FAR4 "\1\1\1", "\1" CLASSIC_BACK4 "\1\1\1") },
	{ "strict, other experiments beside it",
	  BECOMES(OTHER_253 STRICT_FAR4 OTHER_254, OTHER_253 CLASSIC_BACK4 OTHER_254) },
	{ "strict, repeat",
	  BECOMES(GRANT4("\x5d", BYTES_FAR4, PORT_40000), GRANT4("\x5c", BYTES_BACK4, PORT_8080)) },
	{ "strict, with a port for the wire",
	  BECOMES("\xfd\xc\x5d\x59" BYTES_FAR4 PORT_40000 "\x12\x34",
		  "\xfd\xc\x5d\x58" BYTES_BACK4 PORT_8080 "\x12\x34") },
	{ "short", KEEPS(LINUX SHORT_STRICT_FAR4) },
	{ "v6 strict", KEEPS(LINUX STRICT_FAR6), .ip6 = true },
	{ "v6 strict, with room for a classic one", KEEPS(LINUX STRICT_FAR6 NOP12), .ip6 = true },
	{ "v6 strict, first of the options", KEEPS(STRICT_FAR6 LINUX), .ip6 = true },
	{ "v6 strict, at an odd offset", KEEPS("\1" STRICT_FAR6 "\1\1\1"), .ip6 = true },
	{ "v6 strict, repeat", KEEPS(TAGGED("\x5f", SHORT_FAR6)), .ip6 = true },
	{ "the answer to a held request", REFUSED(TAGGED("\x4b", SHORT_FAR4)), SYNACK_GONE },
	{ "short, for another service", REFUSED(TAGGED("\x5b", SHORT_VIP4)), SYNACK_GONE },

	{ "strict, acknowledges too much", STRAY(STRICT_FAR4), .ack = 1 },
	{ "strict, acknowledges nothing", STRAY(STRICT_FAR4), .ack = -1 },
	{ "strict, acknowledges anything", STRAY(STRICT_FAR4), .ack = 1 << 30 },
	{ "strict, not asked for", STRAY(STRICT_FAR4), .mute = true },
	{ "strict, for another service", REFUSED(STRICT_GRANT4), SYNACK_GONE },
	{ "strict, for another port", REFUSED(GRANT4("\x59", BYTES_FAR4, PORT_80)), SYNACK_GONE },
	{ "strict, from nowhere", REFUSED(STRICT_FAR4), .src = STRANGER4,
	  .reason = SS_HOST_client_out_of_range },
	{ "classic, but from the server's address", REFUSED(CLASSIC_BACK4), SYNACK_GONE },
	{ "no grant, from the server's address", REFUSED(LINUX), SYNACK_GONE },
	{ "v6 strict, acknowledges too much", STRAY(STRICT_FAR6), .ip6 = true, .ack = 1 },
	{ "v6 strict, not asked for", STRAY(STRICT_FAR6), .ip6 = true, .mute = true },
	{ "v6 strict, for another service", REFUSED(STRICT_GRANT6), .ip6 = true, SYNACK_GONE },
	{ "v6 strict, from nowhere", REFUSED(STRICT_FAR6), .ip6 = true, .src = "[fd00:9::1]:40000",
	  .reason = SS_HOST_client_out_of_range },
};

static int strict_fd(void)
{
	return bpf_map__fd(skel->maps.strict_flows);
}

static struct ss_flow strict_wire(bool ip6, const char *src)
{
	return (struct ss_flow){ endpoint(ip6 ? LISTEN6 : LISTEN4), endpoint(src) };
}

/* How the connection @flow, which asks, is found, by the @tag of its service or without (0). */
static void asking_hint(const struct ss_flow *flow, __be32 tag)
{
	struct ss_wire hint = { .wire.local = flow->local, .flow = *flow };
	__u32 slot;

	hint.wire.remote.addr.w[0] = tag;
	slot = ss_wire_slot(&hint.wire);
	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(skel->maps.wire_flows), &slot, &hint, BPF_ANY), 0);
}

/* The client that dials FAR, and what the programs know of it. */
static void strict_client(struct pair *pair, bool mute)
{
	struct ss_conn conn = { .role = SS_ROLE_CLIENT,
				.path = SS_PATH_ASKING,
				.asked = !mute,
				.flow = { endpoint(pair->ip6 ? LISTEN6 : LISTEN4),
					  endpoint(pair->ip6 ? FAR6 : FAR4) } };

	connecting(pair);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.conns), &pair->client, &conn,
					     BPF_ANY),
			 0);
	asking_hint(&conn.flow, 0);
	asking_hint(&conn.flow, ss_tag_of(&conn.flow.remote).first);
}

/* The client's connection, and what is known of its flow, are as @row says. */
static void strict_learnt(const struct strict_row *row, const struct pair *pair, const char *src)
{
	struct ss_endpoint service = endpoint(row->ip6 ? FAR6 : FAR4);
	struct ss_flow wire = strict_wire(row->ip6, src);
	struct ss_strict_flow value = {};
	struct ss_conn conn;
	bool known;

	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skel->maps.conns), &pair->client, &conn),
			 0);
	known = !bpf_map_lookup_elem(strict_fd(), &wire, &value);
	if (known != (row->out && !row->stray) || conn.strict != known ||
	    conn.reason != row->reason)
		row_failed(row->why, "known %d, strict %u, reason %u", known, conn.strict,
			   conn.reason);
	if (known && (memcmp(&value.service, &service, sizeof(service)) || value.ends ||
		      memcmp(&conn.wire, &wire.remote, sizeof(wire.remote))))
		row_failed(row->why, "something else was learnt");
	(void)bpf_map_delete_elem(strict_fd(), &wire);
}

static void strict_run(const struct strict_row *row)
{
	const char *src = row->src ? row->src : row->ip6 ? BACK6 : BACK4;
	struct packet_spec spec = { .src = src,
				    .dst = row->ip6 ? LISTEN6 : LISTEN4,
				    .flags = "SA",
				    .options = row->in,
				    .options_len = row->len };
	struct pair pair = { row->ip6, -1, -1, -1 };
	struct packet_buf in, want, out;
	unsigned verdict;

	strict_client(&pair, row->mute);
	spec.ack = next_byte(pair.client, TCP_SEND_QUEUE) + row->ack;
	packet_build(&in, &spec);
	memset(in.bytes, 0, 6); /* the MAC address of TEST_RUN's interface */
	want = in;
	if (row->out && !row->stray) {
		memcpy(want.bytes + want.l4 + 20, row->out, row->len);
		packet_set_src(&want, row->ip6 ? FAR6 : FAR4);
	}
	watch_start(&counters);
	verdict = tc_run(ingress, &in, &out);
	if (verdict != (row->out ? TC_NEXT : TC_DROP))
		row_failed(row->why, "verdict %d", (int)verdict);
	watch_expect(&counters, row->counters, row->why);
	packet_expect(&want, &out, row->why);
	strict_learnt(row, &pair, src);
	pair_close(&pair);
}

static void strict_synacks(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(strict_rows); i++)
		strict_run(&strict_rows[i]);
	rows_done();
}

/* Whatever comes in on a flow that is known, with these flags. NULL: not known. */
static const struct flow_row {
	const char *why;
	const char *flags;
	const char *src4, *src6;
	bool known;
	bool jumbo; /* in IPv6: of more than 64 kB */
} flow_rows[] = {
	{ "an ACK", "A", BACK4, BACK6, true },
	{ "data", "PA", BACK4, BACK6, true },
	{ "a large packet", "PA", BACK4, BACK6, true, .jumbo = true },
	{ "a FIN", "FA", BACK4, BACK6, true },
	{ "a RST", "R", BACK4, BACK6, true },
	{ "data from another port", "PA", "10.0.1.5:81", "[fd00:1::5]:81", false },
	{ "data from another server", "PA", "10.0.1.6:8080", "[fd00:1::6]:40000", false },
	{ "data from the service", "PA", FAR4, FAR6, false },
};

static void flow_known(bool ip6, __u64 ends)
{
	struct ss_flow wire = strict_wire(ip6, ip6 ? BACK6 : BACK4);
	struct ss_strict_flow value = { .service = endpoint(ip6 ? FAR6 : FAR4), .ends = ends };
	__u32 zero = 0;
	char use[64] = {};

	value.addr_csum = ss_csum_to32(ss_csum_diff_addr(&wire.remote.addr, &value.service.addr));
	assert_int_equal(bpf_map_update_elem(strict_fd(), &wire, &value, BPF_ANY), 0);
	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(skel->maps.strict_use), &zero, use), 0);
	assert_int_equal(*(__u32 *)(use + 24), 1); /* the rows before have used it */
}

static void flow_run(const struct flow_row *row, bool ip6)
{
	struct packet_spec spec = { .src = ip6 ? row->src6 : row->src4,
				    .dst = ip6 ? LISTEN6 : LISTEN4,
				    .flags = row->flags,
				    .payload = "odd",
				    .payload_len = row->flags[0] == 'P' ? 3 : 0 };
	static const struct packet_spec jumbo = { JUMBO };
	struct packet_buf in, want, out;

	if (ip6 && row->jumbo) {
		spec.ip_options = jumbo.ip_options;
		spec.ip_options_len = jumbo.ip_options_len;
	}
	flow_known(ip6, 0);
	packet_build(&in, &spec);
	want = in;
	if (row->known)
		packet_set_src(&want, ip6 ? FAR6 : FAR4);
	watch_start(&counters);
	if (tc_run(ingress, &in, &out) != TC_NEXT)
		row_failed(row->why, "not passed");
	watch_expect(&counters, 0, row->why);
	packet_expect(&want, &out, row->why);
}

static void strict_packets(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(flow_rows); i++) {
		flow_run(&flow_rows[i], false);
		flow_run(&flow_rows[i], true);
	}
	rows_done();
}

/*
 * The client dials the server itself, from the port of an earlier connection to the service. The
 * SYN-ACK that answers it (by @ack less: does not) takes the flow over.
 */
static void flow_taken(bool ip6, int ack)
{
	const char *src = ip6 ? FAR6 : FAR4, *why = ack ? "not taken over" : "taken over";
	struct ss_flow wire = strict_wire(ip6, src);
	struct ss_strict_flow value = { .service = endpoint(ip6 ? BACK6 : BACK4) };
	struct packet_spec spec = { .src = src, .dst = ip6 ? LISTEN6 : LISTEN4, .flags = "SA" };
	struct pair pair = { ip6, -1, -1, -1 };
	struct packet_buf in, want, out;

	connecting(&pair);
	value.addr_csum = ss_csum_to32(ss_csum_diff_addr(&wire.remote.addr, &value.service.addr));
	assert_int_equal(bpf_map_update_elem(strict_fd(), &wire, &value, BPF_ANY), 0);
	spec.ack = next_byte(pair.client, TCP_SEND_QUEUE) - ack;
	packet_build(&in, &spec);
	memset(in.bytes, 0, 6);
	want = in;
	if (ack)
		packet_set_src(&want, ip6 ? BACK6 : BACK4);
	if (tc_run(ingress, &in, &out) != TC_NEXT)
		row_failed(why, "verdict");
	packet_expect(&want, &out, why);
	if (bpf_map_lookup_elem(strict_fd(), &wire, &value) != (ack ? 0 : -ENOENT))
		row_failed(why, "what was known is %sthere", ack ? "not " : "");
	(void)bpf_map_delete_elem(strict_fd(), &wire);
	pair_close(&pair);
}

static void strict_taken(void **state)
{
	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++)
		for (int ack = 0; ack < 2; ack++)
			flow_taken(ip6, ack);
	rows_done();
}

/* --- ICMP errors ----------------------------------------------------------------------------- */

/* What is known of the connection that an error is about. */
enum known {
	ALIVE,
	UNKNOWN, /* nothing */
	CLOSED, /* the map has an entry, but the socket is gone */
	PLAIN, /* the map has an entry, but the socket's packets are not rewritten */
	ELSEWHERE, /* the map has an entry, but the socket's packets go to another server */
};

/* What a client sends directly, and a server as the service; and how their kernels know it. */
#define ROUTER4 "10.0.2.9:1"
#define ROUTER6 "[fd00:2::9]:1"
#define HELLO .payload = "hello", .payload_len = 5
#define SENT_BY_CLIENT4(...) FROM(CLIENT4, LISTEN4, "PA", HELLO, ##__VA_ARGS__)
#define SENT_BY_CLIENT6 FROM(CLIENT6, LISTEN6, "PA", HELLO)
#define SENT_BY_SERVER4(...) FROM(VIP4, CLIENT4, "PA", HELLO, ##__VA_ARGS__)
#define SENT_BY_SERVER6 FROM(VIP6, CLIENT6, "PA", HELLO)

#define ERROR(from, to, number, ...)                                  \
	{                                                             \
		.src = from, .dst = to, .type = number, ##__VA_ARGS__ \
	}
#define TO_CLIENT4(number, ...) ERROR(ROUTER4, CLIENT4, number, ##__VA_ARGS__), SENT_BY_CLIENT4()
#define TO_CLIENT6(number, ...) ERROR(ROUTER6, CLIENT6, number, ##__VA_ARGS__), SENT_BY_CLIENT6
#define TO_SERVICE4(number, ...) ERROR(ROUTER4, VIP4, number, ##__VA_ARGS__), SENT_BY_SERVER4()
#define TO_SERVICE6(number, ...) ERROR(ROUTER6, VIP6, number, ##__VA_ARGS__), SENT_BY_SERVER6
#define QUOTE(offset, s) .poke = POKE(TCP, 8 + (offset), s)
#define TOO_BIG4 3, .code = 4
#define TOO_BIG6 2

static const struct icmp_row {
	const char *why;
	struct icmp_spec error;
	struct packet_spec about; /* what is quoted: as it was on the wire */
	bool translated;
	enum known known;
	struct poke poke; /* AT_TCP: from the ICMP header */
	unsigned shorter; /* the IP header says that the packet is that much shorter */
} icmp_rows[] = {
	{ "too big", TO_CLIENT4(TOO_BIG4), true },
	{ "too big, 8 bytes quoted", TO_CLIENT4(TOO_BIG4, .quoted = 8), true },
	{ "too big, odd length", TO_CLIENT4(TOO_BIG4, .quoted = 23), true },
	{ "network unreachable", TO_CLIENT4(3), true },
	{ "prohibited", TO_CLIENT4(3, .code = 13), true },
	{ "time exceeded", TO_CLIENT4(11), true },
	{ "parameter problem", TO_CLIENT4(12), true },
	{ "IPv4 options", TO_CLIENT4(TOO_BIG4, IPOPT(NOP4)), true },
	{ "quoted IPv4 options", ERROR(ROUTER4, CLIENT4, TOO_BIG4),
	  SENT_BY_CLIENT4(IPOPT(NOP4 NOP4)), true },
	{ "IPv4 options in both, 8 bytes quoted",
	  ERROR(ROUTER4, CLIENT4, TOO_BIG4, IPOPT(NOP4 NOP4 NOP4), .quoted = 8),
	  SENT_BY_CLIENT4(IPOPT(NOP4)), true },
	{ "from the server itself", ERROR(LISTEN4, CLIENT4, 3, .code = 3), SENT_BY_CLIENT4(),
	  true },
	{ "too big, to the service", TO_SERVICE4(TOO_BIG4), true },
	{ "too big, to the service, 8 bytes quoted", TO_SERVICE4(TOO_BIG4, .quoted = 8), true },
	{ "too big, to the service, IPv4 options", TO_SERVICE4(TOO_BIG4, IPOPT(NOP4)), true },
	{ "too big, about the service's packet, to the server", ERROR(ROUTER4, LISTEN4, TOO_BIG4),
	  SENT_BY_SERVER4(), true },
	{ "too big, about the service's packet, to yet another address",
	  ERROR(ROUTER4, "10.0.3.9:1", TOO_BIG4), SENT_BY_SERVER4(), true },
	{ "v6 too big", TO_CLIENT6(TOO_BIG6), true },
	{ "v6 too big, 8 bytes quoted", TO_CLIENT6(TOO_BIG6, .quoted = 8), true },
	{ "v6 too big, odd length", TO_CLIENT6(TOO_BIG6, .quoted = 23), true },
	{ "v6 too big, quoted jumbo header", ERROR(ROUTER6, CLIENT6, TOO_BIG6),
	  FROM(CLIENT6, LISTEN6, "PA", HELLO, JUMBO), true },
	{ "v6 too big, quoted jumbo header, 7 bytes of TCP",
	  ERROR(ROUTER6, CLIENT6, TOO_BIG6, .quoted = 7),
	  FROM(CLIENT6, LISTEN6, "PA", HELLO, JUMBO) },
	{ "v6 too big, quoted other extension header", ERROR(ROUTER6, CLIENT6, TOO_BIG6),
	  FROM(CLIENT6, LISTEN6, "PA", HELLO, HOP_BY_HOP) },
	{ "v6 unreachable", TO_CLIENT6(1, .code = 4), true },
	{ "v6 time exceeded", TO_CLIENT6(3), true },
	{ "v6 parameter problem", TO_CLIENT6(4), true },
	{ "v6 too big, to the service", TO_SERVICE6(TOO_BIG6), true },
	{ "v6 too big, to the service, 8 bytes quoted", TO_SERVICE6(TOO_BIG6, .quoted = 8), true },
	{ "v6 too big, about the service's packet, to the server",
	  ERROR(ROUTER6, LISTEN6, TOO_BIG6), SENT_BY_SERVER6, true },
	{ "v6 too big, about the service's packet, to yet another address",
	  ERROR(ROUTER6, "[fd00:3::9]:1", TOO_BIG6), SENT_BY_SERVER6, true },

	/* Not about a packet that was rewritten. */
	{ "nothing known", TO_CLIENT4(TOO_BIG4), .known = UNKNOWN },
	{ "closed", TO_CLIENT4(TOO_BIG4), .known = CLOSED },
	{ "not redirected", TO_CLIENT4(TOO_BIG4), .known = PLAIN },
	{ "redirected elsewhere", TO_CLIENT4(TOO_BIG4), .known = ELSEWHERE },
	{ "service's, closed", TO_SERVICE4(TOO_BIG4), .known = CLOSED },
	{ "service's, another service's", TO_SERVICE4(TOO_BIG4), .known = ELSEWHERE },
	{ "about another port's packet", ERROR(ROUTER4, CLIENT4, TOO_BIG4),
	  FROM("10.0.1.2:40001", LISTEN4, "A") },
	{ "about a packet to the service", ERROR(ROUTER4, CLIENT4, TOO_BIG4),
	  FROM(CLIENT4, VIP4, "S") },
	{ "v6 nothing known", TO_CLIENT6(TOO_BIG6), .known = UNKNOWN },
	{ "v6 closed", TO_CLIENT6(TOO_BIG6), .known = CLOSED },
	{ "v6 not redirected", TO_CLIENT6(TOO_BIG6), .known = PLAIN },
	{ "v6 redirected elsewhere", TO_CLIENT6(TOO_BIG6), .known = ELSEWHERE },
	{ "v6 service's, another service's", TO_SERVICE6(TOO_BIG6), .known = ELSEWHERE },

	/* No errors, or not understood. */
	{ "echo reply", TO_CLIENT4(0) },
	{ "source quench", TO_CLIENT4(4) },
	{ "redirect", TO_CLIENT4(5) },
	{ "echo", TO_CLIENT4(8) },
	{ "v6 type 0", TO_CLIENT6(0) },
	{ "v6 type 5", TO_CLIENT6(5) },
	{ "v6 echo", TO_CLIENT6(128) },
	{ "v6 redirect", TO_CLIENT6(137) },
	{ "7 bytes quoted", TO_CLIENT4(TOO_BIG4, .quoted = 7) },
	{ "7 bytes quoted, padding", TO_CLIENT4(TOO_BIG4, .quoted = 8), .shorter = 1 },
	{ "quote of a UDP packet", TO_CLIENT4(TOO_BIG4), QUOTE(9, "\x11") },
	{ "quote of a later fragment", TO_CLIENT4(TOO_BIG4), QUOTE(6, "\x20\1") },
	{ "quoted version 6", TO_CLIENT4(TOO_BIG4), QUOTE(0, "\x65") },
	{ "quoted ihl 4", TO_CLIENT4(TOO_BIG4), QUOTE(0, "\x44") },
	{ "quoted ihl 15, beyond the packet", TO_CLIENT4(TOO_BIG4, .quoted = 8), QUOTE(0, "\x4f") },
	{ "fragment", TO_CLIENT4(TOO_BIG4), .poke = POKE(IP, 6, "\x20\0") },
	{ "ihl 4", TO_CLIENT4(TOO_BIG4), .poke = POKE(IP, 0, "\x44") },
	{ "not ICMP", TO_CLIENT4(TOO_BIG4), .poke = POKE(IP, 9, "\x11") },
	{ "v6 7 bytes quoted", TO_CLIENT6(TOO_BIG6, .quoted = 7) },
	{ "v6 7 bytes quoted, padding", TO_CLIENT6(TOO_BIG6, .quoted = 8), .shorter = 1 },
	{ "v6 quote of a UDP packet", TO_CLIENT6(TOO_BIG6), QUOTE(6, "\x11") },
	{ "v6 quote of a fragment", TO_CLIENT6(TOO_BIG6), QUOTE(6, "\x2c") },
	{ "v6 quoted version 4", TO_CLIENT6(TOO_BIG6), QUOTE(0, "\x45") },
	{ "v6 extension header", TO_CLIENT6(TOO_BIG6), .poke = POKE(IP, 6, "\0") },
	{ "v6 ICMP of IPv4", TO_CLIENT6(TOO_BIG6), .poke = POKE(IP, 6, "\1") },
};

static bool text_is_ip6(const char *endpoint)
{
	return endpoint[0] == '[';
}

/* Has this host sent what has the source @src as server? */
static bool sent_by_server(const char *src)
{
	return !strcmp(src, text_is_ip6(src) ? VIP6 : VIP4);
}

/* What the kernel sent: the packet of the row before it was rewritten. */
static struct packet_spec icmp_origin(const struct icmp_row *row)
{
	bool ip6 = text_is_ip6(row->about.src);
	struct packet_spec origin = row->about;

	if (sent_by_server(row->about.src))
		origin.src = ip6 ? LISTEN6 : LISTEN4;
	else
		origin.dst = ip6 ? VIP6 : VIP4;
	return origin;
}

/* The kernel's flow and that of the wire: as client to the service, or as server of it. */
static void wire_flows(const char *src, struct ss_flow *flow, struct ss_flow *wire)
{
	bool ip6 = text_is_ip6(src);
	struct ss_endpoint client = endpoint(ip6 ? CLIENT6 : CLIENT4);
	struct ss_endpoint server = endpoint(ip6 ? LISTEN6 : LISTEN4);
	struct ss_endpoint vip = endpoint(ip6 ? VIP6 : VIP4);

	if (sent_by_server(src)) {
		*flow = (struct ss_flow){ server, client };
		*wire = (struct ss_flow){ vip, client };
	} else {
		*flow = (struct ss_flow){ client, vip };
		*wire = (struct ss_flow){ client, server };
	}
}

/* Connections to the service as client, and of it as server; IPv4 and IPv6. For the whole table. */
static struct pair wire_pairs[2][2];

static void wire_connect(bool server)
{
	static const char *const dialled[2][2] = { { VIP4, VIP6 }, { LISTEN4, LISTEN6 } };

	for (int ip6 = 0; ip6 < 2; ip6++) {
		wire_pairs[server][ip6] = (struct pair){ ip6, -1, -1, -1 };
		connected(&wire_pairs[server][ip6], dialled[server][ip6]);
	}
}

static void wire_disconnect(bool server)
{
	for (int ip6 = 0; ip6 < 2; ip6++)
		pair_close(&wire_pairs[server][ip6]);
}

/* What the map and the socket say of the connection whose packets leave with the source @src. */
static void wire_state(const char *src, enum known known)
{
	bool server = sent_by_server(src);
	const struct pair *pair = &wire_pairs[server][text_is_ip6(src)];
	struct ss_conn conn = { .role = server ? SS_ROLE_SERVER : SS_ROLE_CLIENT,
				.rewrite = known != PLAIN };
	int map = bpf_map__fd(skel->maps.wire_flows);
	struct ss_flow flow, wire;
	struct ss_wire hint;
	__u32 slot;

	wire_flows(src, &flow, &wire);
	conn.flow = flow;
	conn.wire = server ? wire.local : wire.remote;
	if (known == ELSEWHERE)
		conn.wire.addr.w[3] ^= SS_BE32(255);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.conns),
					     server ? &pair->server : &pair->client, &conn, 0),
			 0);
	if (known == CLOSED)
		flow.remote.port ^= 1; /* no socket has that */
	slot = ss_wire_slot(&wire);
	hint = (struct ss_wire){ wire, flow };
	if (known == UNKNOWN)
		hint = (struct ss_wire){};
	assert_int_equal(bpf_map_update_elem(map, &slot, &hint, 0), 0);
}

static void icmp_build(const struct icmp_row *row, struct packet_buf *p)
{
	struct packet_buf about;
	uint8_t *len;

	packet_build(&about, &row->about);
	packet_build_icmp(p, &row->error, &about);
	if (row->poke.len)
		memcpy(p->bytes + (row->poke.base == AT_IP ? p->l3 : p->l4) + row->poke.off,
		       row->poke.bytes, row->poke.len);
	len = p->bytes + p->l3 + (is_ip6(p) ? 5 : 3);
	*len -= row->shorter;
}

/* The error about the packet that the kernel knows; only its TCP checksum is that of the wire. */
static void icmp_want(const struct icmp_row *row, struct packet_buf *want)
{
	struct packet_spec origin = icmp_origin(row);
	struct icmp_spec error = row->error;
	struct packet_buf about, sent;

	packet_build(&about, &origin);
	packet_build(&sent, &row->about);
	memcpy(about.bytes + about.l4 + 16, sent.bytes + sent.l4 + 16, 2);
	if (!strcmp(error.dst, row->about.src))
		error.dst = origin.src;
	packet_build_icmp(want, &error, &about);
}

static void icmp_run(const struct icmp_row *row)
{
	struct packet_buf in, want, out;
	unsigned verdict;

	icmp_build(row, &in);
	want = in;
	if (row->translated)
		icmp_want(row, &want);
	watch_start(&counters);
	verdict = tc_run(ingress, &in, &out);
	if (verdict != TC_NEXT)
		row_failed(row->why, "verdict %u", verdict);
	watch_expect(&counters, row->translated ? C(icmp_translated) : 0, row->why);
	packet_expect(&want, &out, row->why);
}

/* The row's packet, cut before eight bytes of TCP are quoted: left as it is. */
static void icmp_cut(const struct icmp_row *row)
{
	struct packet_buf in, out;
	unsigned end;

	icmp_build(row, &in);
	end = in.l4 + 8 + (is_ip6(&in) ? 40 : (in.bytes[in.l4 + 8] & 15) * 4) + 8;
	if (end > in.len)
		end = in.len;
	watch_start(&counters);
	for (unsigned len = in.l3 + (is_ip6(&in) ? 40 : 20); len < end; len++) {
		in.len = len;
		if (tc_run(ingress, &in, &out) != TC_NEXT)
			row_failed(row->why, "dropped at length %u", len);
		packet_expect(&in, &out, row->why);
	}
	watch_expect(&counters, 0, row->why);
}

static void icmp_table(void **state)
{
	(void)state;
	wire_connect(false);
	wire_connect(true);
	for (size_t i = 0; i < ROWS(icmp_rows); i++) {
		wire_state(icmp_rows[i].about.src, icmp_rows[i].known);
		icmp_run(&icmp_rows[i]);
		icmp_cut(&icmp_rows[i]);
	}
	wire_disconnect(true);
	wire_disconnect(false);
	rows_done();
}

/*
 * An error to the service's address, wrapped by a balancer in either IP version: as if it had come as it
 * is. About a connection that is not known, it is nobody's.
 */
static void icmp_unwrap_run(const struct icmp_row *row, const struct wrap_spec *wrap)
{
	struct packet_buf in, want, out;
	unsigned verdict;

	icmp_build(row, &in);
	packet_wrap(&in, wrap);
	icmp_want(row, &want);
	watch_start(&counters);
	verdict = tc_run(ingress, &in, &out);
	if (verdict != (row->translated ? TC_NEXT : TC_DROP))
		row_failed(row->why, "in %s: verdict %u", wrap->dst, verdict);
	watch_expect(&counters, row->translated ? C(icmp_translated) : 0, row->why);
	if (row->translated)
		packet_expect(&want, &out, row->why);
}

static void icmp_unwrap(void **state)
{
	static const struct wrap_spec wraps[] = { WRAP4(), WRAP4(UDP), WRAP6(), WRAP6(UDP) };
	unsigned translated = 0, dropped = 0;

	(void)state;
	wire_connect(true);
	for (size_t i = 0; i < ROWS(icmp_rows); i++) {
		const struct icmp_row *row = &icmp_rows[i];

		if (strcmp(row->error.dst, row->about.src) || !sent_by_server(row->about.src) ||
		    row->poke.len || row->shorter || (row->error.quoted && row->error.quoted < 8))
			continue;
		wire_state(row->about.src, row->known);
		for (size_t j = 0; j < ROWS(wraps); j++)
			icmp_unwrap_run(row, &wraps[j]);
		translated += row->translated;
		dropped += !row->translated;
	}
	assert_true(translated >= 4 && dropped >= 2);
	wire_disconnect(true);
	rows_done();
}

/* --- RSTs in the server's own name ---------------------------------------------------------------- */

static const struct reset_row {
	const char *why;
	struct packet_spec in;
	bool restored;
	enum known known;
} reset_rows[] = {
	{ "RST", FROM(LISTEN4, CLIENT4, "R"), true },
	{ "RST with ACK", FROM(LISTEN4, CLIENT4, "RA"), true },
	{ "RST with data", FROM(LISTEN4, CLIENT4, "R", HELLO), true },
	{ "RST, IPv4 options", FROM(LISTEN4, CLIENT4, "R", IPOPT(NOP4)), true },
	{ "back on the balancer path", FROM(LISTEN4, CLIENT4, "R"), true, PLAIN },
	{ "v6 RST", FROM(LISTEN6, CLIENT6, "R"), true },
	{ "v6 RST with ACK", FROM(LISTEN6, CLIENT6, "RA"), true },

	{ "nothing known", FROM(LISTEN4, CLIENT4, "R"), false, UNKNOWN },
	{ "closed", FROM(LISTEN4, CLIENT4, "R"), false, CLOSED },
	{ "redirected elsewhere", FROM(LISTEN4, CLIENT4, "R"), false, ELSEWHERE },
	{ "from another port", FROM(DIP4 ":8081", CLIENT4, "R") },
	{ "to another port", FROM(LISTEN4, "10.0.1.2:40001", "R") },
	{ "from the service", FROM(VIP4, CLIENT4, "R") },
	{ "ACK", FROM(LISTEN4, CLIENT4, "A") },
	{ "FIN", FROM(LISTEN4, CLIENT4, "FA") },
	{ "v6 redirected elsewhere", FROM(LISTEN6, CLIENT6, "R"), false, ELSEWHERE },
	{ "v6 from the service", FROM(VIP6, CLIENT6, "R") },
};

static void reset_run(const struct reset_row *row, bool restored)
{
	bool ip6 = text_is_ip6(row->in.src);
	struct packet_buf in, want, out;

	wire_state(ip6 ? CLIENT6 : CLIENT4, row->known);
	packet_build(&in, &row->in);
	want = in;
	if (restored)
		packet_set_src(&want, ip6 ? VIP6 : VIP4);
	watch_start(&counters);
	if (tc_run(ingress, &in, &out) != TC_NEXT)
		row_failed(row->why, "dropped");
	watch_expect(&counters, restored ? C(reset_restored) : 0, row->why);
	packet_expect(&want, &out, row->why);
}

/* Last, a connection to the server itself, with the same port, has a socket: the RST is for that. */
static void reset_table(void **state)
{
	(void)state;
	wire_connect(false);
	for (size_t i = 0; i < ROWS(reset_rows); i++)
		reset_run(&reset_rows[i], reset_rows[i].restored);
	wire_connect(true);
	for (size_t i = 0; i < ROWS(reset_rows); i++)
		reset_run(&reset_rows[i], false);
	wire_disconnect(true);
	wire_disconnect(false);
	rows_done();
}

/* --- UDP services: what comes in ----------------------------------------------------------------- */

static const struct udp_row {
	const char *why;
	const char *src, *dst; /* inside */
	struct wrap_spec wrap;
	unsigned len;
	bool unwrapped;
	__u64 counters;
	struct poke poke; /* AT_TCP: the UDP header */
} udp_rows[] = {
	{ "a question", CLIENT4, ASKED4, WRAP4(), 10, UNWRAPPED },
	{ "gue", CLIENT4, ASKED4, WRAP4(UDP), 10, UNWRAPPED },
	{ "odd length", CLIENT4, ASKED4, WRAP4(), 11, UNWRAPPED },
	{ "no payload", CLIENT4, ASKED4, WRAP4(), 0, UNWRAPPED },
	{ "large", CLIENT4, ASKED4, WRAP4(UDP), 1400, UNWRAPPED },
	{ "no checksum", CLIENT4, ASKED4, WRAP4(), 10, UNWRAPPED, POKE(TCP, 6, "\0\0") },
	{ "gue, no checksum", CLIENT4, ASKED4, WRAP4(UDP), 10, UNWRAPPED, POKE(TCP, 6, "\0\0") },
	{ "from the client", CLIENT4, ASKED4, WRAP4_FROM("10.0.1.2"), 10, UNWRAPPED },
	{ "not trusted", CLIENT4, ASKED4, WRAP4_FROM("10.0.9.1"), 10, false, C(wrapped_untrusted) },
	{ "not a service", CLIENT4, "10.99.0.1:99", WRAP4(), 10, STAYS_WRAPPED },
	{ "a TCP service", CLIENT4, VIP4, WRAP4(), 10, STAYS_WRAPPED },
	{ "the server's own address", CLIENT4, ANSWERS4, WRAP4(), 10, STAYS_WRAPPED },
	{ "fragment inside", CLIENT4, ASKED4, WRAP4(), 10, STAYS_WRAPPED, POKE(IP, 6, "\x20\0") },
	{ "UDP-Lite inside", CLIENT4, ASKED4, WRAP4(), 10, STAYS_WRAPPED, POKE(IP, 9, "\x88") },
	{ "UDP-Lite for a TCP service", CLIENT4, VIP4, WRAP4(), 10, STAYS_WRAPPED,
	  POKE(IP, 9, "\x88") },
	{ "v6 question", CLIENT6, ASKED6, WRAP6(), 10, UNWRAPPED },
	{ "v6 gue", CLIENT6, ASKED6, WRAP6(UDP), 11, UNWRAPPED },
	{ "v6 large", CLIENT6, ASKED6, WRAP6(UDP), 1400, UNWRAPPED },
	{ "v6 from the client", CLIENT6, ASKED6, WRAP6_FROM("fd00:1::2"), 10, UNWRAPPED },
	{ "v6 not trusted", CLIENT6, ASKED6, WRAP6_FROM("fd00:9::1"), 10, false,
	  C(wrapped_untrusted) },
	{ "v6 a TCP service", CLIENT6, VIP6, WRAP6(), 10, STAYS_WRAPPED },
	{ "in IPv6", CLIENT4, ASKED4, WRAP6(), 10, UNWRAPPED },
	{ "in IPv6, gue", CLIENT4, ASKED4, WRAP6(UDP), 11, UNWRAPPED },
	{ "in IPv4", CLIENT6, ASKED6, WRAP4(), 10, UNWRAPPED },
	{ "in IPv4, gue", CLIENT6, ASKED6, WRAP4(UDP), 11, UNWRAPPED },
};

static const char udp_payload[1400] = "what?";

static void udp_poke(const struct udp_row *row, struct packet_buf *p)
{
	if (row->poke.len)
		memcpy(p->bytes + (row->poke.base == AT_IP ? p->l3 : p->l4) + row->poke.off,
		       row->poke.bytes, row->poke.len);
}

/* The packet of @row to @dst. */
static void udp_build(const struct udp_row *row, const char *dst, struct packet_buf *p)
{
	packet_build_udp(p, row->src, dst, udp_payload, row->len);
	udp_poke(row, p);
}

/* The flow of a client, as the kernel of this server knows it. */
static struct ss_flow udp_flow(const char *own, const char *client)
{
	return (struct ss_flow){ endpoint(own), endpoint(client) };
}

/* What answers to @client leave as, which is forgotten then; port 0: as they are. */
static struct ss_endpoint udp_forget(const char *own, const char *client)
{
	int fd = bpf_map__fd(skel->maps.udp_flows);
	struct ss_flow flow = udp_flow(own, client);
	struct ss_endpoint service = {};

	if (!bpf_map_lookup_elem(fd, &flow, &service))
		assert_int_equal(bpf_map_delete_elem(fd, &flow), 0);
	return service;
}

static void udp_run(const struct udp_row *row)
{
	bool ip6 = row->src[0] == '[';
	const char *own = ip6 ? ANSWERS6 : ANSWERS4;
	struct ss_endpoint asked = endpoint(row->dst), service;
	struct packet_buf in, want, out;

	udp_build(row, row->dst, &in);
	packet_wrap(&in, &row->wrap);
	want = in;
	if (row->unwrapped)
		udp_build(row, own, &want);
	asked.protocol = SS_UDP;
	watch_start(&counters);
	if (tc_run(ingress, &in, &out) != TC_NEXT)
		row_failed(row->why, "dropped");
	watch_expect(&counters, row->unwrapped ? C(udp_unwrapped) : row->counters, row->why);
	packet_expect(&want, &out, row->why);
	service = udp_forget(own, row->src);
	if (row->unwrapped ? !ss_endpoint_equal(&service, &asked) : service.port != 0)
		row_failed(row->why, "answers would come from elsewhere");
}

static void udp_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(udp_rows); i++)
		udp_run(&udp_rows[i]);
	rows_done();
}

/* Cut before the ports inside: left as it is. */
static void udp_truncated(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(udp_rows); i++) {
		struct packet_buf inner, whole, out;
		unsigned end;

		udp_build(&udp_rows[i], udp_rows[i].dst, &inner);
		whole = inner;
		packet_wrap(&whole, &udp_rows[i].wrap);
		end = whole.len - inner.len + inner.l4 + 4;
		watch_start(&counters);
		for (unsigned len = whole.l4; len < end; len++) {
			whole.len = len;
			if (tc_run(ingress, &whole, &out) != TC_NEXT)
				row_failed(udp_rows[i].why, "dropped at length %u", len);
			packet_expect(&whole, &out, udp_rows[i].why);
		}
		watch_expect(&counters, 0, udp_rows[i].why);
	}
	rows_done();
}

/* Who has asked the service, and then asks the server itself, is answered by the server. */
static void udp_asked_directly(void **state)
{
	static const char *const others[] = { "10.0.1.2:40001", "[fd00:1::2]:40001" };

	(void)state;
	for (int ip6 = 0; ip6 < 2; ip6++) {
		const char *own = ip6 ? ANSWERS6 : ANSWERS4, *client = ip6 ? CLIENT6 : CLIENT4;
		struct wrap_spec wrap4 = WRAP4(), wrap6 = WRAP6();
		struct packet_buf in, out;

		packet_build_udp(&in, client, ip6 ? ASKED6 : ASKED4, "x", 1);
		packet_wrap(&in, ip6 ? &wrap6 : &wrap4);
		assert_int_equal(tc_run(ingress, &in, &out), TC_NEXT);
		packet_build_udp(&in, others[ip6], own, "x", 1);
		assert_int_equal(tc_run(ingress, &in, &out), TC_NEXT);
		packet_expect(&in, &out, "another client");
		assert_int_equal(udp_forget(own, client).port, SS_BE16(53));

		packet_build_udp(&in, client, ip6 ? ASKED6 : ASKED4, "x", 1);
		packet_wrap(&in, ip6 ? &wrap6 : &wrap4);
		assert_int_equal(tc_run(ingress, &in, &out), TC_NEXT);
		packet_build_udp(&in, client, own, "x", 1);
		assert_int_equal(tc_run(ingress, &in, &out), TC_NEXT);
		packet_expect(&in, &out, "asked directly");
		assert_int_equal(udp_forget(own, client).port, 0);
	}
	rows_done();
}

static void udp_remembered(const char *own, const char *client, const char *service)
{
	struct ss_flow flow = udp_flow(own, client);
	struct ss_endpoint value = endpoint(service);
	int fd = bpf_map__fd(skel->maps.udp_flows);

	value.protocol = SS_UDP;
	assert_int_equal(bpf_map_update_elem(fd, &flow, &value, BPF_ANY), 0);
}

/* A router's error about what a server said in the service's name. */
static const struct udp_error_row {
	const char *why;
	bool ip6;
	unsigned quoted;
	const char *client; /* who has asked the service; NULL: nobody */
	const char *asked; /* the service */
	bool translated;
} udp_error_rows[] = {
	{ "too big", false, 0, CLIENT4, ASKED4, true },
	{ "too big, eight bytes quoted", false, 8, CLIENT4, ASKED4, true },
	{ "too big, seven bytes quoted", false, 7, CLIENT4, ASKED4, false },
	{ "nobody asked", false, 0, NULL, ASKED4, false },
	{ "another client asked", false, 0, "10.0.1.2:40001", ASKED4, false },
	{ "another service was asked", false, 0, CLIENT4, "10.99.0.2:53", false },
	{ "v6 too big", true, 0, CLIENT6, ASKED6, true },
	{ "v6 too big, eight bytes quoted", true, 8, CLIENT6, ASKED6, true },
	{ "v6 nobody asked", true, 0, NULL, ASKED6, false },
	{ "v6 another service was asked", true, 0, CLIENT6, "[fd00:99::2]:53", false },
};

static void udp_error_run(const struct udp_error_row *row)
{
	const char *own = row->ip6 ? ANSWERS6 : ANSWERS4, *to = row->ip6 ? CLIENT6 : CLIENT4;
	struct icmp_spec spec = { .src = row->ip6 ? "[fd00:5::1]:1" : "10.0.5.1:1",
				  .dst = own,
				  .type = row->ip6 ? 2 : 3,
				  .code = row->ip6 ? 0 : 4,
				  .quoted = row->quoted };
	struct packet_buf sent, said, in, want, out;

	packet_build_udp(&sent, row->ip6 ? ASKED6 : ASKED4, to, "an answer", 9);
	packet_build_udp(&said, own, to, "an answer", 9);
	memcpy(said.bytes + said.l4 + 6, sent.bytes + sent.l4 + 6, 2); /* nobody looks at it */
	packet_build_icmp(&in, &spec, &sent);
	packet_build_icmp(&want, &spec, &said);
	if (row->client)
		udp_remembered(own, row->client, row->asked);
	watch_start(&counters);
	if (tc_run(ingress, &in, &out) != TC_NEXT)
		row_failed(row->why, "dropped");
	watch_expect(&counters, row->translated ? C(icmp_translated) : 0, row->why);
	packet_expect(row->translated ? &want : &in, &out, row->why);
	if (row->client)
		(void)udp_forget(own, row->client);
}

static void udp_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(udp_error_rows); i++)
		udp_error_run(&udp_error_rows[i]);
	rows_done();
}

/* --- egress ---------------------------------------------------------------------------------- */

/* What the map of late packets holds while a row's packet is sent; "local" is the host's end. */
struct late_case {
	const char *local, *remote; /* NULL: nothing */
	const char *wire;
	enum ss_role role;
	uint32_t synack; /* half-open: what its SYN-ACK acknowledges */
	enum ss_half_open half_open;
	enum ss_host_counter reason;
};

enum how {
	SENT, /* by sidestep's host itself */
	FORWARDED, /* came in by another interface: another host's, or a container's */
};

/* clang-format off */
#define AS_IT_WAS {}
#define LATE_SERVER4 { LISTEN4, CLIENT4, VIP4, SS_ROLE_SERVER, 0 }
#define LATE_SERVER6 { LISTEN6, CLIENT6, VIP6, SS_ROLE_SERVER, 0 }
#define LATE_CLIENT4 { CLIENT4, VIP4, LISTEN4, SS_ROLE_CLIENT, 0 }
#define LATE_CLIENT6 { CLIENT6, VIP6, LISTEN6, SS_ROLE_CLIENT, 0 }
#define FAST4 { LISTEN4, CLIENT4, VIP4, SS_ROLE_SERVER, 0, SS_HALF_OPEN_FAST }
#define FAST_PLAIN4 { LISTEN4, CLIENT4, VIP4, SS_ROLE_SERVER, 0, SS_HALF_OPEN_FAST, SS_HOST_server_plain }
#define FAST_PLAIN6 { LISTEN6, CLIENT6, VIP6, SS_ROLE_SERVER, 0, SS_HALF_OPEN_FAST, SS_HOST_server_plain }
#define FAST6 { LISTEN6, CLIENT6, VIP6, SS_ROLE_SERVER, 0, SS_HALF_OPEN_FAST }
#define HALF_OPEN4 { LISTEN4, CLIENT4, VIP4, SS_ROLE_SERVER, 1001, SS_HALF_OPEN_SYNACK }
#define HALF_OPEN6 { LISTEN6, CLIENT6, VIP6, SS_ROLE_SERVER, 1001, SS_HALF_OPEN_SYNACK }
#define PLAIN4 { LISTEN4, CLIENT4, VIP4, SS_ROLE_SERVER, 1001, SS_HALF_OPEN_PLAIN }
#define PLAIN6 { LISTEN6, CLIENT6, VIP6, SS_ROLE_SERVER, 1001, SS_HALF_OPEN_PLAIN }
/* clang-format on */
/* What a server sends, and how it is to leave; what a client sends to the VIP, and directly. */
#define SERVER4(letters, ...) FROM(LISTEN4, CLIENT4, letters, ##__VA_ARGS__)
#define SERVER6(letters, ...) FROM(LISTEN6, CLIENT6, letters, ##__VA_ARGS__)
#define AS_VIP4(letters, ...) FROM(VIP4, CLIENT4, letters, ##__VA_ARGS__)
#define AS_VIP6(letters, ...) FROM(VIP6, CLIENT6, letters, ##__VA_ARGS__)
#define DIALLED4(letters) FROM(CLIENT4, VIP4, letters)
#define DIALLED6(letters) FROM(CLIENT6, VIP6, letters)
#define DIRECT4(letters) FROM(CLIENT4, LISTEN4, letters)
#define DIRECT6(letters) FROM(CLIENT6, LISTEN6, letters)
#define SYNACK4(options) SERVER4("SA", OPTIONS(options), .ack = 1001)
#define SYNACK6(options) SERVER6("SA", OPTIONS(options), .ack = 1001)
#define GRANTED4(options) AS_VIP4("SA", OPTIONS(options), .ack = 1001)
#define GRANTED6(options) AS_VIP6("SA", OPTIONS(options), .ack = 1001)
#define LATE C(late_rewritten)
#define MSS_REST(mss) "\2\4" mss "\4\2\1\1"

static const struct egress_row {
	const char *why;
	struct packet_case in;
	struct packet_spec out; /* nothing: as it was */
	struct late_case late;
	__u64 counters;
	enum how how;
} egress_rows[] = {
	/* Step 5: the server's address and the one that the grant names change places. */
	{ "classic service", { SYNACK4(LINUX STRICT_GRANT4) }, GRANTED4(LINUX CLASSIC_GRANT4) },
	{ "grant alone", { SYNACK4(STRICT_GRANT4) }, GRANTED4(CLASSIC_GRANT4) },
	{ "repeat",
	  { SYNACK4(GRANT4("\x5d", BYTES_VIP4, PORT_80)) },
	  GRANTED4(GRANT4("\x5c", BYTES_DIP4, PORT_8080)) },
	{ "IPv4 options",
	  { SERVER4("SA", OPTIONS(STRICT_GRANT4), IPOPT(NOP4)) },
	  AS_VIP4("SA", OPTIONS(CLASSIC_GRANT4), IPOPT(NOP4)) },
	{ "data (Fast Open)",
	  { SERVER4("SA", OPTIONS(STRICT_GRANT4), .payload = "x", .payload_len = 1) },
	  AS_VIP4("SA", OPTIONS(CLASSIC_GRANT4), .payload = "x", .payload_len = 1) },
	{ "v6 classic service", { SYNACK6(LINUX STRICT_GRANT6) }, GRANTED6(LINUX CLASSIC_GRANT6) },
	{ "v6 grant alone", { SYNACK6(STRICT_GRANT6) }, GRANTED6(CLASSIC_GRANT6) },
	{ "v6 repeat",
	  { SYNACK6(TAGGED("\x5f", SHORT_VIP6) NOP12) },
	  GRANTED6(GRANT6("\x5e", BYTES_DIP6)) },

	/* Not to be exchanged. */
	{ "exchanged before", { GRANTED4(LINUX CLASSIC_GRANT4) }, AS_IT_WAS },
	{ "v6 exchanged before", { GRANTED6(LINUX CLASSIC_GRANT6) }, AS_IT_WAS },
	{ "classic grant of a service's own address",
	  { SYNACK4(GRANT4("\x58", BYTES_VIP4, PORT_80)) },
	  AS_IT_WAS },
	{ "repeat, exchanged before",
	  { GRANTED4(GRANT4("\x5c", BYTES_DIP4, PORT_8080)) },
	  AS_IT_WAS },
	{ "v6 repeat, exchanged before", { GRANTED6(GRANT6("\x5e", BYTES_DIP6)) }, AS_IT_WAS },
	{ "strict service", { SYNACK4(GRANT4("\x59", BYTES_STRICT4, PORT_80)) }, AS_IT_WAS },
	{ "strict service, repeat",
	  { SYNACK4(GRANT4("\x5d", BYTES_STRICT4, PORT_80)) },
	  AS_IT_WAS },
	{ "v6 strict service, repeat",
	  { SYNACK6(TAGGED("\x5f", SHORT_STRICT6) NOP12) },
	  AS_IT_WAS },
	{ "service not served here",
	  { SYNACK4(GRANT4("\x59", BYTES_OTHER4, PORT_80)) },
	  AS_IT_WAS },
	{ "port not served here", { SYNACK4(GRANT4("\x59", BYTES_VIP4, PORT_81)) }, AS_IT_WAS },
	{ "v6 strict service", { SYNACK6(TAGGED("\x5b", SHORT_STRICT6) NOP12) }, AS_IT_WAS },
	{ "v6 service not served here",
	  { SYNACK6(TAGGED("\x5b", "\x40\x80\xd2\x56") NOP12) },
	  AS_IT_WAS },
	{ "v6 port not served here",
	  { FROM("[" DIP6 "]:81", CLIENT6, "SA", OPTIONS(STRICT_GRANT6)) },
	  AS_IT_WAS },
	{ "v6 no room for a classic one",
	  { SYNACK6(LINUX TAGGED("\x5b", SHORT_VIP6)) },
	  AS_IT_WAS },
	{ "v6 not only NOPs behind it",
	  { SYNACK6(TAGGED("\x5b", SHORT_VIP6) NOP4 NOP4 "\1\1\1\0") },
	  AS_IT_WAS },
	{ "short", { SYNACK4(LINUX TAGGED("\x5b", SHORT_VIP4)) }, AS_IT_WAS },
	{ "grant not at the tail", { SYNACK4(STRICT_GRANT4 LINUX) }, AS_IT_WAS },
	{ "v6 grant not at the tail", { SYNACK6(STRICT_GRANT6 LINUX) }, AS_IT_WAS },
	{ "wrong length", { SYNACK4("\xfd\xb\x5d\x59" BYTES_VIP4 PORT_80 NO_WPORT) }, AS_IT_WAS },
	{ "cut off", { SYNACK4("\xfd\xc\x5d\x59" BYTES_VIP4) }, AS_IT_WAS },
	{ "v6 cut off",
	  { SYNACK6("\xfd\x14\x5d\x5b" BYTES_DIP4 BYTES_DIP4 BYTES_DIP4) },
	  AS_IT_WAS },
	{ "a request in its place", { SYNACK4(FULL) }, AS_IT_WAS },

	/* The request was held: the answer comes from the service all the same, and may be encapsulated. */
	{ "held",
	  { SYNACK4(MSS_REST("\5\xb4") TAGGED("\x4b", SHORT_VIP4)) },
	  GRANTED4(MSS_REST("\5\x84") TAGGED("\x4b", SHORT_VIP4)) },
	{ "held, after a SYN cookie",
	  { SYNACK4(TAGGED("\x4f", SHORT_VIP4)) },
	  GRANTED4(TAGGED("\x4f", SHORT_VIP4)) },
	{ "held, strict service",
	  { SYNACK4(TAGGED("\x4b", SHORT_STRICT4)) },
	  FROM(STRICT4, CLIENT4, "SA", OPTIONS(TAGGED("\x4b", SHORT_STRICT4)), .ack = 1001) },
	{ "held, rewritten before", { GRANTED4(TAGGED("\x4b", SHORT_VIP4)) }, AS_IT_WAS },
	{ "held, not served here", { SYNACK4(TAGGED("\x4b", "\1\2\3\4")) }, AS_IT_WAS },
	{ "held, from another port",
	  { FROM(DIP4 ":8081", CLIENT4, "SA", OPTIONS(TAGGED("\x4b", SHORT_VIP4))) },
	  AS_IT_WAS },
	{ "v6 held",
	  { SYNACK6(MSS_REST("\5\xb4") TAGGED("\x4b", SHORT_VIP6)) },
	  GRANTED6(MSS_REST("\5\x84") TAGGED("\x4b", SHORT_VIP6)) },
	{ "v6 held, strict service",
	  { SYNACK6(TAGGED("\x4b", SHORT_STRICT6)) },
	  FROM(STRICT6, CLIENT6, "SA", OPTIONS(TAGGED("\x4b", SHORT_STRICT6)), .ack = 1001) },

	/* None of ours. */
	{ "another experiment", { SYNACK4("\xfd\xc\xf9\x89\1\2\3\4\5\6\7\x8") }, AS_IT_WAS },
	{ "no options", { SYNACK4("") }, AS_IT_WAS },
	{ "v6 no options", { SYNACK6("") }, AS_IT_WAS },
	{ "grant in a SYN", { SERVER4("S", OPTIONS(STRICT_GRANT4)) }, AS_IT_WAS },
	{ "grant in an ACK", { SERVER4("A", OPTIONS(STRICT_GRANT4)) }, AS_IT_WAS },
	{ "UDP", { SYNACK4(STRICT_GRANT4), POKE(IP, 9, "\x11") }, AS_IT_WAS },
	{ "fragment", { SYNACK4(STRICT_GRANT4), POKE(IP, 6, "\x20\0") }, AS_IT_WAS },
	{ "v6 extension header", { SERVER6("SA", OPTIONS(STRICT_GRANT6), HOP_BY_HOP) }, AS_IT_WAS },
	{ "forwarded",
	  { SYNACK4(STRICT_GRANT4) },
	  SERVER4("SA", OPTIONS(STRICT_GRANT4), .ack = 1001, .ttl = 63),
	  .how = FORWARDED },
	{ "v6 forwarded",
	  { SYNACK6(STRICT_GRANT6) },
	  SERVER6("SA", OPTIONS(STRICT_GRANT6), .ack = 1001, .ttl = 63),
	  .how = FORWARDED },

	/* Step 10: late packets, by what is known of their connection. */
	{ "server's ACK", { SERVER4("A") }, AS_VIP4("A"), LATE_SERVER4, LATE },
	{ "server's RST", { SERVER4("RA") }, AS_VIP4("RA"), LATE_SERVER4, LATE },
	{ "server's, IPv4 options",
	  { SERVER4("A", IPOPT(NOP4)) },
	  AS_VIP4("A", IPOPT(NOP4)),
	  LATE_SERVER4,
	  LATE },
	{ "client's ACK", { DIALLED4("A") }, DIRECT4("A"), LATE_CLIENT4, LATE },
	{ "client's RST", { DIALLED4("R") }, DIRECT4("R"), LATE_CLIENT4, LATE },
	{ "client's second pass", { DIRECT4("A") }, AS_IT_WAS, LATE_CLIENT4 },
	{ "v6 server's ACK", { SERVER6("A") }, AS_VIP6("A"), LATE_SERVER6, LATE },
	{ "v6 server's RST", { SERVER6("RA") }, AS_VIP6("RA"), LATE_SERVER6, LATE },
	{ "v6 client's ACK", { DIALLED6("A") }, DIRECT6("A"), LATE_CLIENT6, LATE },
	{ "v6 client's RST", { DIALLED6("R") }, DIRECT6("R"), LATE_CLIENT6, LATE },
	{ "v6 client's second pass", { DIRECT6("A") }, AS_IT_WAS, LATE_CLIENT6 },
	{ "v6 server's, jumbo header",
	  { SERVER6("A", JUMBO) },
	  AS_VIP6("A", JUMBO),
	  LATE_SERVER6,
	  LATE },
	{ "v6 server's, jumbo header of another protocol",
	  { SERVER6("A", .ip6_next = 0, IPOPT("\x11\0\xc2\4\0\1\0\0")) },
	  AS_IT_WAS,
	  LATE_SERVER6 },
	{ "v6 server's, jumbo header with more in it",
	  { SERVER6("A", .ip6_next = 0, IPOPT("\6\1\xc2\4\0\1\0\0\1\6\0\0\0\0\0\0")) },
	  AS_IT_WAS,
	  LATE_SERVER6 },
	{ "v6 server's, destination options",
	  { SERVER6("A", .ip6_next = 60, IPOPT("\6\0\xc2\4\0\1\0\0")) },
	  AS_IT_WAS,
	  LATE_SERVER6 },
	{ "nothing known", { SERVER4("A") }, AS_IT_WAS },
	{ "another connection's",
	  { FROM(LISTEN4, "10.0.1.2:40001", "A") },
	  AS_IT_WAS,
	  LATE_SERVER4 },
	{ "the other direction", { DIRECT4("A") }, AS_IT_WAS, LATE_SERVER4 },
	{ "a new SYN", { DIALLED4("S") }, AS_IT_WAS, LATE_CLIENT4 },
	{ "a new SYN-ACK", { SYNACK4("") }, AS_IT_WAS, LATE_SERVER4 },
	{ "v6 a new SYN", { DIALLED6("S") }, AS_IT_WAS, LATE_CLIENT6 },
	{ "v6 a new SYN-ACK", { SYNACK6("") }, AS_IT_WAS, LATE_SERVER6 },
	{ "late, UDP", { SERVER4("A"), POKE(IP, 9, "\x11") }, AS_IT_WAS, LATE_SERVER4 },
	{ "late, fragment", { SERVER4("A"), POKE(IP, 6, "\0\1") }, AS_IT_WAS, LATE_SERVER4 },
	{ "late, forwarded",
	  { SERVER4("A") },
	  SERVER4("A", .ttl = 63),
	  LATE_SERVER4,
	  .how = FORWARDED },

	/* A client that did not ask: all is late; and the SYN-ACK leaves room for outer headers. */
	{ "plain, SYN-ACK",
	  { SYNACK4(MSS_REST("\5\xb4")) },
	  GRANTED4(MSS_REST("\5\x84")),
	  PLAIN4,
	  LATE },
	{ "plain, SYN-ACK without options", { SYNACK4("") }, GRANTED4(""), PLAIN4, LATE },
	{ "plain, another option first",
	  { SYNACK4("\3\3\7\1" MSS_REST("\5\xb4")) },
	  GRANTED4("\3\3\7\1" MSS_REST("\5\xb4")),
	  PLAIN4,
	  LATE },
	{ "plain, no room",
	  { SYNACK4(MSS_REST("\0\x30")) },
	  GRANTED4(MSS_REST("\0\x30")),
	  PLAIN4,
	  LATE },
	{ "plain, ACK", { SERVER4("A") }, AS_VIP4("A"), PLAIN4, LATE },
	{ "plain, RST", { SERVER4("RA") }, AS_VIP4("RA"), PLAIN4, LATE },
	{ "plain, another SYN-ACK", { SERVER4("SA", .ack = 1002) }, AS_IT_WAS, PLAIN4 },
	{ "plain, SYN", { SERVER4("S") }, AS_IT_WAS, PLAIN4 },
	{ "v6 plain, SYN-ACK",
	  { SYNACK6(MSS_REST("\5\xa0")) },
	  GRANTED6(MSS_REST("\5\x70")),
	  PLAIN6,
	  LATE },
	{ "v6 plain, RST", { SERVER6("RA") }, AS_VIP6("RA"), PLAIN6, LATE },
	{ "v6 plain, another SYN-ACK", { SERVER6("SA", .ack = 1002) }, AS_IT_WAS, PLAIN6 },

	/* A half-open connection's SYN-ACK without a grant is such a one; nothing else. */
	{ "half-open, SYN-ACK",
	  { SYNACK4(MSS_REST("\5\xb4")) },
	  GRANTED4(MSS_REST("\5\x84")),
	  HALF_OPEN4,
	  LATE },
	{ "half-open, another SYN's", { SERVER4("SA", .ack = 1002) }, AS_IT_WAS, HALF_OPEN4 },
	{ "half-open, ACK", { SERVER4("A", .ack = 1001) }, AS_IT_WAS, HALF_OPEN4 },
	{ "half-open, RST", { SERVER4("RA", .ack = 1001) }, AS_IT_WAS, HALF_OPEN4 },
	{ "half-open, SYN", { SERVER4("S", .ack = 1001) }, AS_IT_WAS, HALF_OPEN4 },
	{ "half-open, with a grant",
	  { SYNACK4(STRICT_GRANT4) },
	  GRANTED4(CLASSIC_GRANT4),
	  HALF_OPEN4 },
	{ "v6 half-open, SYN-ACK",
	  { SYNACK6(MSS_REST("\5\xa0")) },
	  GRANTED6(MSS_REST("\5\x70")),
	  HALF_OPEN6,
	  LATE },
	{ "v6 half-open, another SYN's", { SERVER6("SA", .ack = 1002) }, AS_IT_WAS, HALF_OPEN6 },
	{ "v6 half-open, ACK", { SERVER6("A", .ack = 1001) }, AS_IT_WAS, HALF_OPEN6 },

	/* With Fast Open the connection is there, and its SYN-ACK may come again. */
	{ "Fast Open, SYN-ACK", { SYNACK4(LINUX) }, GRANTED4(LINUX), FAST4, LATE },
	{ "Fast Open, with a grant", { SYNACK4(STRICT_GRANT4) }, GRANTED4(CLASSIC_GRANT4), FAST4 },
	{ "Fast Open, RST", { SERVER4("RA") }, AS_VIP4("RA"), FAST4, LATE },
	{ "Fast Open, no grant, SYN-ACK",
	  { SYNACK4(MSS_REST("\5\xb4")) },
	  GRANTED4(MSS_REST("\5\x84")),
	  FAST_PLAIN4,
	  LATE },
	{ "Fast Open, no grant, ACK", { SERVER4("A") }, AS_VIP4("A"), FAST_PLAIN4, LATE },
	{ "v6 Fast Open, no grant, SYN-ACK",
	  { SYNACK6(MSS_REST("\5\xa0")) },
	  GRANTED6(MSS_REST("\5\x70")),
	  FAST_PLAIN6,
	  LATE },
	{ "v6 Fast Open, SYN-ACK", { SYNACK6(LINUX) }, GRANTED6(LINUX), FAST6, LATE },
};

/* Next hops and interfaces as egress_setup() makes them; all MAC addresses here start with 2. */
static const uint8_t a0_mac[6] = { 2, 0, 0, 0, 0xa, 0 }, b0_mac[6] = { 2, 0, 0, 0, 0xb, 0 };
static const uint8_t client_mac[6] = { 2, 0, 0, 0, 0xa, 1 }, server_mac[6] = { 2, 0, 0, 0, 0xa, 2 };

/* Packet sockets: this host's end of the link, the other end, and a link to another host. */
static int out_socket, wire_socket, other_socket;

static void late_fill(const struct late_case *c, struct ss_flow *key, struct ss_late *value)
{
	struct ss_endpoint old;

	*key = (struct ss_flow){ endpoint(c->local), endpoint(c->remote) };
	*value = (struct ss_late){ .wire = endpoint(c->wire),
				   .role = c->role,
				   .synack = SS_BE32(c->synack),
				   .half_open = c->half_open,
				   .reason = c->reason };
	old = c->role == SS_ROLE_CLIENT ? key->remote : key->local;
	value->addr_csum = ss_csum_to32(ss_csum_diff_addr(&old.addr, &value->wire.addr));
}

/* The packet that has to come out of the row. */
static void egress_want(const struct egress_row *row, struct packet_buf *want)
{
	packet_case_build(want, &row->in);
	if (row->out.src)
		packet_build(want, &row->out);
	if (row->how == FORWARDED)
		packet_set_macs(want, client_mac, a0_mac);
	else if (row->out.src && row->late.role == SS_ROLE_CLIENT)
		packet_set_macs(want, server_mac, a0_mac);
}

static void egress_send(const struct egress_row *row, bool unfinished)
{
	struct packet_buf in, want, out;

	packet_case_build(&in, &row->in);
	egress_want(row, &want);
	if (row->how == FORWARDED)
		memcpy(in.bytes, b0_mac, 6);
	out = (struct packet_buf){ .l3 = in.l3, .l4 = in.l4 };
	watch_start(&counters);
	frame_send(row->how == FORWARDED ? other_socket : out_socket, &in, unfinished);
	if (!frame_receive(wire_socket, &out))
		row_failed(row->why, "nothing came out");
	else
		packet_expect(&want, &out, row->why);
	watch_expect(&counters, row->counters, row->why);
}

static void egress_table(void **state)
{
	int late = bpf_map__fd(skel->maps.late);

	(void)state;
	for (size_t i = 0; i < ROWS(egress_rows); i++) {
		const struct egress_row *row = &egress_rows[i];
		struct ss_flow key;
		struct ss_late value;

		if (row->late.local) {
			late_fill(&row->late, &key, &value);
			assert_int_equal(bpf_map_update_elem(late, &key, &value, BPF_ANY), 0);
		}
		egress_send(row, false);
		egress_send(row, true);
		if (row->late.local)
			assert_int_equal(bpf_map_delete_elem(late, &key), 0);
	}
	rows_done();
}

/* A packet with a socket that is none of ours: TEST_RUN's own. */
static void plain_socket(void **state)
{
	const struct packet_case c = { SYNACK4(STRICT_GRANT4) };
	struct packet_buf in, out;

	(void)state;
	packet_case_build(&in, &c);
	watch_start(&counters);
	assert_int_equal(tc_run(bpf_program__fd(skel->progs.sidestep_egress), &in, &out), TC_NEXT);
	watch_expect(&counters, 0, "plain socket");
	packet_expect(&in, &out, "plain socket");
	rows_done();
}

/* --- UDP services: what leaves ------------------------------------------------------------------ */

/* As egress_setup() has it. */
#define OUT4 "10.0.200.1"
#define OUT6 "fd00:c8::1"

static void udp_used(__u32 used)
{
	__u32 zero = 0;

	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(skel->maps.udp_used), &zero, &used, BPF_ANY), 0);
}

static struct sockaddr_storage udp_sockaddr(const char *text)
{
	struct ss_endpoint e = endpoint(text);
	struct sockaddr_storage address = {};

	if (ss_addr_is_v4(&e.addr)) {
		struct sockaddr_in *in = (void *)&address;

		in->sin_family = AF_INET;
		in->sin_port = e.port;
		in->sin_addr.s_addr = e.addr.w[3];
	} else {
		struct sockaddr_in6 *in = (void *)&address;

		in->sin6_family = AF_INET6;
		in->sin6_port = e.port;
		memcpy(&in->sin6_addr, &e.addr, sizeof(in->sin6_addr));
	}
	return address;
}

/* A server at @own says something to @client: it has to leave as if from @src. */
static void udp_says(const char *why, const char *own, const char *client, const char *src,
		     bool checksum)
{
	struct sockaddr_storage from = udp_sockaddr(own), to = udp_sockaddr(client);
	bool ip6 = own[0] == '[', rewritten = strcmp(own, src);
	int fd = socket(from.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), off = !checksum;
	struct packet_buf want, out;

	packet_build_udp(&want, src, client, "an answer", 9);
	packet_set_macs(&want, client_mac, a0_mac);
	if (!checksum)
		memset(want.bytes + want.l4 + 6, 0, 2);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (void *)&from, sizeof(from)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, &off, sizeof(off)), 0);
	watch_start(&counters);
	assert_int_equal(sendto(fd, "an answer", 9, 0, (void *)&to, sizeof(to)), 9);
	out = (struct packet_buf){ .l3 = want.l3, .l4 = want.l4 };
	if (!frame_receive(wire_socket, &out)) {
		row_failed(why, "nothing came out");
	} else {
		if (ip6) { /* the kernel chooses the flow label, or the id */
			memcpy(want.bytes + want.l3 + 1, out.bytes + out.l3 + 1, 3);
		} else {
			memcpy(want.bytes + want.l3 + 4, out.bytes + out.l3 + 4, 2);
			ipv4_checksum(want.bytes + want.l3);
		}
		packet_expect(&want, &out, why);
	}
	watch_expect(&counters, rewritten ? C(udp_answered) : 0, why);
	close(fd);
}

/* A server's answers, with the checksum left to the device, finished, and none. */
static void udp_answers(void **state)
{
	(void)state;
	udp_used(1);
	udp_remembered(OUT4 ":5353", CLIENT4, ASKED4);
	udp_remembered("[" OUT6 "]:5353", CLIENT6, ASKED6);
	for (int finished = 0; finished < 2; finished++) {
		shell("ethtool -K a0 tx %s >/dev/null", finished ? "off" : "on");
		udp_says("answer", OUT4 ":5353", CLIENT4, ASKED4, true);
		udp_says("v6 answer", "[" OUT6 "]:5353", CLIENT6, ASKED6, true);
		udp_says("no checksum", OUT4 ":5353", CLIENT4, ASKED4, false);
		udp_says("another client", OUT4 ":5353", "10.0.1.2:40001", OUT4 ":5353", true);
		udp_says("another server", OUT4 ":5354", CLIENT4, OUT4 ":5354", true);
		udp_says("v6 another client", "[" OUT6 "]:5353", "[fd00:1::2]:40001",
			 "[" OUT6 "]:5353", true);
	}
	rows_done();
}

/* Until a service was asked, nothing is looked up. */
static void udp_unused(void **state)
{
	(void)state;
	udp_used(0);
	udp_says("unused", OUT4 ":5353", CLIENT4, OUT4 ":5353", true);
	udp_says("v6 unused", "[" OUT6 "]:5353", CLIENT6, "[" OUT6 "]:5353", true);
	rows_done();
}

/* --- setup ----------------------------------------------------------------------------------- */

static void prefix_add(const struct bpf_map *map, const char *text)
{
	struct ss_prefix prefix;
	__u32 present = 1;

	assert_int_equal(prefix_parse(text, &prefix), 0);
	assert_int_equal(bpf_map_update_elem(bpf_map__fd(map), &prefix, &present, BPF_ANY), 0);
}

static void configure_port(const char *at, __u16 vport)
{
	struct ss_endpoint key = endpoint(at);
	__u32 value = htons(vport);

	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(skel->maps.serve_ports), &key, &value, BPF_ANY), 0);
}

static void configure_tag(const struct ss_endpoint *vip)
{
	__be32 tag = ss_tag_of(vip).first;

	assert_int_equal(
		bpf_map_update_elem(bpf_map__fd(skel->maps.serve_tags), &tag, vip, BPF_ANY), 0);
}

static void configure(void)
{
	configure_port("10.99.0.1:8080", 80);
	configure_port("10.99.0.1:9000", 0);
	for (size_t i = 0; i < ROWS(serve_rows); i++) {
		struct ss_endpoint vip = endpoint(serve_rows[i].vip);
		struct ss_serve serve = { .listen = htons(serve_rows[i].listen),
					  .also = { 0, htons(serve_rows[i].also) },
					  .strict = serve_rows[i].strict };

		if (!serve_rows[i].udp)
			configure_tag(&vip);
		if (serve_rows[i].address)
			assert_int_equal(address_parse(serve_rows[i].address, &serve.address), 0);
		vip.protocol = serve_rows[i].udp ? SS_UDP : 0;
		assert_int_equal(bpf_map_update_elem(bpf_map__fd(skel->maps.serve), &vip, &serve,
						     BPF_ANY),
				 0);
	}
	for (size_t i = 0; i < ROWS(trusted_rows); i++)
		prefix_add(skel->maps.trusted, trusted_rows[i]);
	for (size_t i = 0; i < ROWS(backends_rows); i++)
		prefix_add(skel->maps.backends, backends_rows[i]);
	for (size_t i = 0; i < ROWS(clients_rows); i++)
		prefix_add(skel->maps.clients, clients_rows[i]);
}

/* Servers that may grant: listeners with the state that sockops gives them. */
static void listeners_setup(void)
{
	static const char *const at[] = { "0.0.0.0:8080", "[::]:80", "[::]:8080", "0.0.0.0:8089" };

	for (size_t i = 0; i < ROWS(at); i++) {
		struct pair pair;

		listening_at(&pair, at[i]);
		listener_state(pair.listener);
		listeners[i] = pair.listener;
	}
}

static int ingress_teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(listeners); i++)
		close(listeners[i]);
	return 0;
}

/* A network with a link a0-a1, and beyond it the clients. */
static void network_setup(void)
{
	netns_private();
	shell("for i in all default; do echo 0 > /proc/sys/net/ipv4/conf/$i/rp_filter; done");
	shell("ip link add a0 address 02:00:00:00:0a:00 type veth peer name a1 && "
	      "ip link set a0 up && ip link set a1 up && "
	      "ip addr add 10.0.200.1/24 dev a0 && ip addr add fd00:c8::1/64 dev a0 nodad");
	shell("for n in 10.0.1.0/24 fd00:1::/64; do ip route add $n dev a0 || exit 1; done");
	shell("for c in 10.0.1.2 10.0.1.77 fd00:1::2 fd00:1::77; do ip neigh add $c dev a0 "
	      "lladdr 02:00:00:00:0a:01 nud permanent || exit 1; done");
}

static int ingress_setup(void **state)
{
	(void)state;
	skel = host_bpf__open_and_load();
	if (!skel)
		return -1;
	ingress = bpf_program__fd(skel->progs.sidestep_ingress);
	counters.fd = bpf_map__fd(skel->maps.counters);
	configure();
	network_setup();
	listeners_setup();
	return 0;
}

/* This host has all addresses: both ends of a connection are here. */
static int sockets_setup(void **state)
{
	(void)state;
	answers_clear();
	network_setup();
	shell("for a in " DIP4 " 10.0.1.2 10.99.0.1; do ip addr add $a/32 dev lo || exit 1; done");
	shell("for a in " DIP6
	      " fd00:1::2 fd00:99::1; do ip addr add $a/128 dev lo nodad || exit 1; "
	      "done");
	return 0;
}

/* Servers are beyond a0, too; b0 leads to another host, for which this one forwards. */
static int egress_setup(void **state)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = bpf_program__fd(skel->progs.sidestep_egress));

	(void)state;
	answers_clear();
	network_setup();
	shell("for i in ipv4 ipv6; do echo 1 > /proc/sys/net/$i/conf/all/forwarding; done");
	shell("ip link add b0 address 02:00:00:00:0b:00 type veth peer name b1 && "
	      "ip link set b0 up && ip link set b1 up");
	shell("for n in 10.0.3.0/24 fd00:3::/64; do ip route add $n dev a0 || exit 1; done");
	shell("for s in " DIP4 " " DIP6 "; do ip neigh add $s dev a0 "
	      "lladdr 02:00:00:00:0a:02 nud permanent || exit 1; done");
	hook.ifindex = if_nametoindex("a0");
	assert_int_equal(bpf_tc_hook_create(&hook), 0);
	assert_int_equal(bpf_tc_attach(&hook, &opts), 0);
	out_socket = packet_socket("a0", 0);
	wire_socket = packet_socket("a1", ETH_P_ALL);
	other_socket = packet_socket("b1", 0);
	return 0;
}

static int egress_teardown(void **state)
{
	(void)state;
	close(out_socket);
	close(wire_socket);
	close(other_socket);
	return 0;
}

int main(void)
{
	const struct CMUnitTest ingress_tests[] = {
		cmocka_unit_test(ingress_table),      cmocka_unit_test(ingress_truncated),
		cmocka_unit_test(unwrap_table),	      cmocka_unit_test(unwrap_truncated),
		cmocka_unit_test(udp_table),	      cmocka_unit_test(udp_truncated),
		cmocka_unit_test(udp_asked_directly), cmocka_unit_test(udp_errors),
	};
	const struct CMUnitTest socket_tests[] = {
		cmocka_unit_test(synack_again), /* first: no TIME_WAIT is left yet */
		cmocka_unit_test(synacks),	   cmocka_unit_test(strict_synacks),
		cmocka_unit_test(strict_packets),  cmocka_unit_test(strict_taken),
		cmocka_unit_test(icmp_table),	   cmocka_unit_test(icmp_unwrap),
		cmocka_unit_test(reset_table),	   cmocka_unit_test(restored_collision),
		cmocka_unit_test(own_syn_sent_on), cmocka_unit_test(collisions_refused),
		cmocka_unit_test(collisions),	   cmocka_unit_test(half_open_collisions),
		cmocka_unit_test(half_open_plain),
	};
	const struct CMUnitTest egress_tests[] = {
		cmocka_unit_test(egress_table), cmocka_unit_test(plain_socket),
		cmocka_unit_test(udp_answers), cmocka_unit_test(udp_unused), /* last */
	};
	int failed;

	failed = cmocka_run_group_tests(ingress_tests, ingress_setup, ingress_teardown) +
		 cmocka_run_group_tests(socket_tests, sockets_setup, NULL) +
		 cmocka_run_group_tests(egress_tests, egress_setup, egress_teardown);
	host_bpf__destroy(skel);
	return failed != 0;
}
