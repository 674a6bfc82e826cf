// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * SYN cookies: the server has forgotten the SYN when the connection is established, and goes by the
 * request that its client repeats.
 */
#include "cases.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>

#include <bpf/bpf.h>

#include <sidestep/option.h>

#include "address.h"

#include "../packet.h"
#include "capture.h"
#include "programs.h"

#define RUNS_MAX 60 /* of the client's sockops program, for one connection */

/* @n connections were redirected, all of them with cookies. */
static void expect_direct_cookies(long n)
{
	expect_direct(n);
	assert_int_equal(counted("s1", "server_cookie_direct"), n);
	assert_int_equal(counted("s1", "cookie_no_request"), 0);
}

/* A stream; the client's kernel calls for its first segments, but not for all. */
static void stream_counted(const struct family *family)
{
	struct talk *talk = stream_new(family, STREAM_MORE * MB);
	int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	unsigned long before;

	assert_true(stats >= 0);
	before = sockops_runs("c1");
	talk_start(talk);
	stream_finish(talk);
	assert_in_range(sockops_runs("c1") - before, 1, RUNS_MAX);
	close(stats);
}

void case_syn_cookie(const struct family *family)
{
	cookies_always(true);
	talk_one(family, echo_client, echo_server);
	talk_one(family, listens_first, speaks_first);
	stream_counted(family);
	cookies_always(false);
	expect_direct_cookies(3);
}

/* --- the third ACK is lost ---------------------------------------------------------------------- */

static void router_rule(const char *rule)
{
	must("r",
	     "nft 'add table inet way; add chain inet way f { type filter hook forward priority "
	     "0; }; add rule inet way f iifname to-c1 oifname to-s1 %s'",
	     rule);
}

static void router_rule_end(void)
{
	must("r", "nft delete table inet way");
}

/* Then the first data completes the handshake. */
void case_cookie_ack_lost(const struct family *family)
{
	cookies_always(true);
	router_rule("tcp flags ack / syn,psh,ack quota 100 bytes counter drop");
	talk_one(family, echo_client, echo_server);
	must("r", "nft list table inet way | grep 'counter packets 1 '");
	router_rule_end();
	cookies_always(false);
	expect_direct_cookies(1);
}

/* --- other requests, and none -------------------------------------------------------------------- */

/* The SYN that is answered is the second one, and so the request has its retry bit set. */
void case_cookie_retried(const struct family *family)
{
	cookies_always(true);
	must("s1", "nft 'add table inet deaf; add chain inet deaf in { type filter hook input "
		   "priority 0; }; add rule inet deaf in tcp flags syn / syn,ack quota 100 bytes "
		   "drop'");
	talk_one(family, echo_client, echo_server);
	must("s1", "nft delete table inet deaf");
	cookies_always(false);
	expect_crossing(2, 2);
	expect_outcome("c1", "client_direct", 1);
	assert_int_equal(counted("s1", "server_cookie_direct"), 1);
}

static void plain_client(void *arg)
{
	struct talk *talk = arg, plain = *talk;
	int fd;

	plain.vip = talk->family->s1;
	plain.vport = listen_port(talk->family, talk->vport);
	fd = tcp_dial(&plain);
	NEED(fd >= 0);
	echo_client(talk, fd);
	close(fd);
}

/* Who dials the server itself gets its answers from there. */
void case_cookie_plain(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, echo_server);

	cookies_always(true);
	talk_serve(talk);
	talk->client_pid = child_start("c1", plain_client, talk);
	talk_finish(talk);
	cookies_always(false);
	expect_outcome("s1", "server_direct", 0);
	assert_int_equal(counted("s1", "cookie_no_request"), 1);
}

/*
 * Something on the way removes the request from what follows the SYN: the server answers as it does
 * anybody, and its client knows whose packets those are.
 */
void case_cookie_stripped(const struct family *family)
{
	cookies_always(true);
	router_rule("tcp flags & syn == 0 reset tcp option 253");
	talk_one(family, echo_client, echo_server);
	talk_one(family, listens_first, speaks_first);
	router_rule_end();
	cookies_always(false);
	expect_crossing(2, 2);
	expect_outcome("c1", "client_direct", 2);
	expect_outcome("s1", "server_direct", 0);
	assert_int_equal(counted("s1", "cookie_no_request"), 2);
}

/* Something on the way, on both paths, drops what carries a request and is no SYN. */
void case_cookie_dropped(const struct family *family)
{
	cookies_always(true);
	must("r",
	     "nft 'add table inet way; add chain inet way f { type filter hook forward priority "
	     "0; }; add rule inet way f iifname to-c1 tcp flags & syn == 0 tcp option 253 "
	     "exists drop'");
	talk_one(family, echo_client, echo_server);
	router_rule_end();
	cookies_always(false);
	assert_int_equal(counted("c1", "client_direct"), 1);
	assert_int_equal(counted("c1", "client_blocked"), 1);
	assert_int_equal(counted("s1", "cookie_no_request"), 1);
	host_unload("c1"); /* it takes s1 for blocked */
	host_load("c1", CONFIG_CLIENT);
}

/* --- a SYN flood --------------------------------------------------------------------------------- */

#define BACKLOG 16
#define FLOOD_MAX 20000
#define FLOOD_AT_ONCE 8 /* per millisecond */
#define FLOOD_FIRST (16 * BACKLOG)
#define FLOODED_TALKS 20

static const char linux_options[] = "\2\4\5\xb4\4\2\10\n\0\0\0\1\0\0\0\0\1\3\3\7";
#define LINUX_LEN (sizeof(linux_options) - 1)

/* The options of flood SYN number @i, from @source: every other one carries a request. */
static unsigned flood_options(const struct talk *talk, unsigned i, const char *source, __u16 port,
			      uint8_t options[SS_TCP_OPTS_MAX])
{
	char vip[ADDRESS_TEXT_LEN], client[ADDRESS_TEXT_LEN];
	const char *form = talk->family->af == AF_INET ? "%s:%u" : "[%s]:%u";

	memcpy(options, linux_options, LINUX_LEN);
	if (i % 2)
		return LINUX_LEN;
	snprintf(vip, sizeof(vip), form, talk->vip, talk->vport);
	snprintf(client, sizeof(client), form, source, port);
	return LINUX_LEN + packet_request(vip, client, SS_OPT_ARMED, options + LINUX_LEN);
}

/* SYN number @i of a flood: straight for s1, from an address where nobody answers. */
static void flood_syn(const struct talk *talk, unsigned i, struct packet_buf *p)
{
	bool ipv4 = talk->family->af == AF_INET;
	char ip[64], src[80], dst[80];
	uint8_t options[SS_TCP_OPTS_MAX];
	__u16 port = 1024 + i % 60000;
	struct packet_spec spec = { .src = src, .dst = dst, .flags = "S", .options = options };

	snprintf(ip, sizeof(ip), ipv4 ? "10.9.%u.%u" : "fd00:9::%x:%x", i >> 8 & 255, i & 255);
	snprintf(src, sizeof(src), ipv4 ? "%s:%u" : "[%s]:%u", ip, port);
	snprintf(dst, sizeof(dst), ipv4 ? "%s:%u" : "[%s]:%u", talk->family->s1,
		 listen_port(talk->family, talk->vport));
	spec.options_len = flood_options(talk, i, ip, port, options);
	spec.seq = i * 2654435761U;
	packet_build(p, &spec);
	memcpy(p->bytes, (const uint8_t[ETH_ALEN]){ 2, 0, 0, 0, 3, 2 }, ETH_ALEN); /* s1 */
}

/* Sends SYNs from the router until it is ended, or has sent enough. */
static void flood(void *arg)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct sockaddr_ll to = { .sll_family = AF_PACKET };
	struct talk *talk = arg;
	struct packet_buf p;

	to.sll_ifindex = if_nametoindex("to-s1");
	NEED(fd >= 0 && to.sll_ifindex);
	for (unsigned i = 0; i < FLOOD_MAX; i++) {
		flood_syn(talk, i, &p);
		NEED(sendto(fd, p.bytes, p.len, 0, (void *)&to, sizeof(to)) == (ssize_t)p.len);
		if (i == FLOOD_FIRST)
			event_post(talk->go[0]);
		if (i % FLOOD_AT_ONCE == 0)
			poll(NULL, 0, 1);
	}
	pause();
}

/* A half-open connection is forgotten when its first SYN-ACK got no answer: soon after the flood. */
static void flood_prepare(int backlog, int retries, const char *route)
{
	must("s1", "sysctl -qw net.core.somaxconn=%d net.ipv4.tcp_synack_retries=%d", backlog,
	     retries);
	must("r", "ip route %s blackhole 10.9.0.0/16; ip -6 route %s blackhole fd00:9::/64", route,
	     route);
}

static void many_echo_client(void *arg)
{
	struct talk *talk = arg;

	for (int i = 0; i < FLOODED_TALKS; i++) {
		int fd = tcp_dial(talk);

		NEED(fd >= 0);
		echo_client(talk, fd);
		close(fd);
	}
}

static void many_echo_server(void *arg)
{
	struct talk *talk = arg;
	int listener = tcp_listen(talk);

	event_post(talk->listening);
	for (int i = 0; i < FLOODED_TALKS; i++) {
		int fd = tcp_accept(listener);

		echo_server(talk, fd);
		close(fd);
	}
}

/* What the server keeps, it keeps of connections, not of SYNs. */
void case_cookie_flood(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, NULL);
	size_t kept = map_entries("s1", "late");
	pid_t flooding;

	flood_prepare(BACKLOG, 0, "add");
	talk->server_pid = child_start("s1", many_echo_server, talk);
	assert_true(event_wait(talk->listening, WAIT_MS));
	flooding = child_start("r", flood, talk);
	assert_true(event_wait(talk->go[0], WAIT_MS));
	talk->client_pid = child_start("c1", many_echo_client, talk);
	talk_join(talk);
	child_kill(flooding);
	talk_finish(talk);
	flood_prepare(65535, 5, "del");
	expect_direct(FLOODED_TALKS);
	assert_in_range(counted("s1", "server_cookie_direct"), FLOODED_TALKS / 2, FLOODED_TALKS);
	assert_in_range(map_entries("s1", "late"), 0, kept + FLOODED_TALKS);
}
