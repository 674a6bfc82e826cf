// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * TCP Fast Open (RFC 7413): data in the SYN, an accepted connection before the third ACK.
 *
 * With a request for a cookie, a SYN has room for an IPv4 request, but the SYN-ACK with the cookie
 * none for a grant. With a cookie, there is room for the short IPv4 request, and in the SYN-ACK for
 * the grant. IPv6 requests fit neither.
 */
#include "cases.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "capture.h"
#include "programs.h"

#define SYN_DATA 500

#ifndef TCPI_OPT_SYN_DATA
#define TCPI_OPT_SYN_DATA 32
#endif

/* With a cookie, connect() waits for the first data. */
static int fast_dial(const struct talk *talk)
{
	struct sockaddr_storage to = address_of(talk->family->af, talk->vip, talk->vport);
	int fd = tcp_socket(talk->family->af), on = 1;

	NEED(!setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)));
	NEED(!connect(fd, (void *)&to, sizeof(to)));
	return fd;
}

static void fast_client(void *arg)
{
	struct talk *talk = arg;
	int fd = fast_dial(talk);

	pattern_send(fd, 5, SYN_DATA);
	echo_client(talk, fd);
	close(fd);
}

/* Did data come with the SYN? */
static void note_syn_data(struct talk *talk, int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	NEED(!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	talk->counts[0] = (info.tcpi_options & TCPI_OPT_SYN_DATA) != 0;
}

static void fast_server(struct talk *talk, int fd)
{
	note_syn_data(talk, fd);
	pattern_receive(fd, 5, SYN_DATA);
	echo_server(talk, fd);
}

/* Every listener of s1 accepts data in SYNs, every client's socket may send some. */
static void fast_open_begin(void)
{
	must("s1", "sysctl -qw net.ipv4.tcp_fastopen=0x402");
	must("c1", "sysctl -qw net.ipv4.tcp_fastopen=1 && ip tcp_metrics flush all");
}

static void fast_open_end(void)
{
	must("c1", "ip tcp_metrics flush all");
	must("s1", "sysctl -qw net.ipv4.tcp_fastopen=0");
}

/* One connection; whether its data came with the SYN. Counting starts anew. */
static bool fast_talk(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, fast_server);
	bool fast;

	counters_mark();
	capture_clear();
	talk_serve(talk);
	talk->client_pid = child_start("c1", fast_client, talk);
	talk_join(talk);
	fast = talk->counts[0];
	talk_finish(talk);
	return fast;
}

/* The SYN-ACK carries a cookie, beside which there is room for the short grant. */
static void expect_cookie(const struct family *family)
{
	assert_false(fast_talk(family));
	expect_outcome("s1", "server_direct", 1);
	expect_direct(1);
}

static void expect_fast(const struct family *family)
{
	assert_true(fast_talk(family));
	expect_outcome("s1", "server_direct", 1);
	expect_direct(1);
}

void case_fast_open(const struct family *family)
{
	fast_open_begin();
	expect_cookie(family);
	expect_fast(family);
	expect_fast(family);
	fast_open_end();
}

/* The cookie is not valid any more: the server has another key. Data goes again, but arrives once. */
void case_fast_open_refused(const struct family *family)
{
	fast_open_begin();
	expect_cookie(family);
	must("s1", "sysctl -qw net.ipv4.tcp_fastopen_key=00000001-00000002-00000003-00000004");
	expect_cookie(family);
	expect_fast(family);
	fast_open_end();
}

/*
 * The SYN-ACK is lost: the server's data would be the client's first news of it. The SYN goes again
 * without data, which the server has.
 */
void case_fast_open_lost(const struct family *family)
{
	fast_open_begin();
	expect_cookie(family);
	must("r", "nft 'add table inet lose; add chain inet lose f { type filter hook forward "
		  "priority 0; }; add rule inet lose f iifname to-s1 tcp flags & (syn|ack) == "
		  "(syn|ack) limit rate 1/day burst 1 packets drop'");
	assert_true(fast_talk(family));
	must("r", "nft delete table inet lose");
	expect_outcome("s1", "server_direct", 1);
	expect_outcome("c1", "client_direct", 1);
	expect_crossing(2, 2);
	fast_open_end();
}

/* The short request does not say which of two services it is for. The next SYN has a full one. */
void case_fast_open_ambiguous(const struct family *family)
{
	must(NULL, "sed 's/listen: 8084/listen: 8081/' '%s' >'%s'", config_path(CONFIG_SERVER),
	     config_path("ambiguous.yaml"));
	host_load("s1", "ambiguous.yaml");
	fast_open_begin();
	expect_cookie(family);
	assert_false(fast_talk(family));
	assert_int_equal(counted("s1", "syn_ambiguous"), 1);
	expect_outcome("s1", "server_direct", 1);
	expect_outcome("c1", "client_direct", 1);
	expect_crossing(2, 2);
	fast_open_end();
	host_load("s1", CONFIG_SERVER);
}

/* --- a server that closes at once --------------------------------------------------------------- */

static void brief_client(void *arg)
{
	struct talk *talk = arg;
	int fd = fast_dial(talk);

	pattern_send(fd, 5, SYN_DATA);
	pattern_receive(fd, 6, SYN_DATA);
	eof_receive(fd);
	event_post(talk->go[0]);
	NEED(event_wait(talk->go[1], WAIT_MS));
	close(fd);
}

static void brief_server(struct talk *talk, int fd)
{
	note_syn_data(talk, fd);
	pattern_receive(fd, 5, SYN_DATA);
	pattern_send(fd, 6, SYN_DATA);
}

/* All of it comes before the third ACK, which is lost, as is whatever the client says later. */
void case_fast_open_closed(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, brief_server);

	fast_open_begin();
	expect_cookie(family);
	counters_mark();
	capture_clear();
	must("r", "nft 'add table inet lose; add chain inet lose f { type filter hook forward "
		  "priority 0; }; add rule inet lose f iifname to-c1 tcp flags & (syn|ack) == ack "
		  "drop'");
	talk_serve(talk);
	talk->client_pid = child_start("c1", brief_client, talk);
	assert_true(event_wait(talk->go[0], WAIT_MS));
	child_join(talk->server_pid);
	talk->server_pid = 0;
	assert_int_equal(talk->counts[0], 1);
	expect_outcome("s1", "server_direct", 0);
	must("r", "nft delete table inet lose");
	event_post(talk->go[1]);
	talk_finish(talk);
	expect_outcome("s1", "server_direct", 1);
	expect_direct(1);
	fast_open_end();
}

/* --- a client that does not ask, and a balancer that encapsulates -------------------------------- */

#define UPLOAD (100 * 1024)
#define PROMPT_MS 1000 /* more would be timeouts: what is full-sized vanished */

static void upload_client(struct talk *talk)
{
	int fd = fast_dial(talk);
	long begin = now_ms();

	pattern_send(fd, 5, UPLOAD);
	pattern_receive(fd, 6, 1);
	NEED(now_ms() - begin < PROMPT_MS);
	close(fd);
}

/* A client of c1 in the cgroup of s3, which has no programs for it. */
static void upload_outside(void *arg)
{
	netns_enter("c1");
	upload_client(arg);
}

static void upload_server(struct talk *talk, int fd)
{
	note_syn_data(talk, fd);
	pattern_receive(fd, 5, UPLOAD);
	pattern_send(fd, 6, 1);
}

/* One connection; whether its data came with the SYN. */
static bool plain_talk(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, upload_server);
	bool fast;

	counters_mark();
	talk_serve(talk);
	talk->client_pid = child_start("s3", upload_outside, talk);
	talk_join(talk);
	fast = talk->counts[0];
	talk_finish(talk);
	expect_outcome("s1", "server_plain", 1);
	return fast;
}

void case_fast_open_plain(const struct family *family)
{
	static const char *const methods[] = { "ipip", "gue" };

	fast_open_begin();
	for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
		balancer_load_method(methods[i]);
		must("c1", "ip tcp_metrics flush all");
		assert_false(plain_talk(family)); /* the control: an ordinary handshake */
		assert_true(plain_talk(family));
	}
	balancer_load();
	fast_open_end();
}
