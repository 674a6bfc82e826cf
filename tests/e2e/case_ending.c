// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Step 10: connections that do not end well. Whatever happens to one end, the other learns it as it
 * does on a direct connection to the server, and as fast: each ending is played on both.
 */
#include "cases.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "programs.h"

#define SOME 1000UL
#define MUCH 300000UL /* more than a window: not all of it can be sent yet */
#define SLACK_MS 500 /* the machine's moods; what is lost takes longer, or for ever */
#define TRIES 3
#define PORT_AGAIN 30002
#define SYN_AGAIN_MS 1000

/* --- what the roles do --------------------------------------------------------------------------- */

/* This end has come to where things happen. */
static void ready(struct talk *talk)
{
	event_post(talk->go[1]);
}

/* What the other end's data arrives before. */
static void leave_unread(int fd)
{
	char c;

	NEED(recv(fd, &c, 1, MSG_PEEK) == 1);
}

/* Reads to the end, and notes what that is: an error, or 0. */
static void ends(struct talk *talk, enum side side, int fd)
{
	char buf[4096];
	ssize_t n;

	do
		n = recv(fd, buf, sizeof(buf), 0);
	while (n > 0);
	talk->counts[side] = n ? errno : 0;
}

static void client_ends(struct talk *talk, int fd)
{
	ready(talk);
	ends(talk, SIDE_CLIENT, fd);
}

static void server_ends(struct talk *talk, int fd)
{
	ready(talk);
	ends(talk, SIDE_SERVER, fd);
}

static void client_sends(struct talk *talk, int fd)
{
	pattern_send(fd, 1, SOME);
	client_ends(talk, fd);
}

static void server_sends(struct talk *talk, int fd)
{
	pattern_send(fd, 1, SOME);
	server_ends(talk, fd);
}

/* Sends once more when the other end is gone. */
static void client_sends_late(struct talk *talk, int fd)
{
	ready(talk);
	NEED(event_wait(talk->go[0], WAIT_MS));
	NEED(send(fd, "late", 4, MSG_NOSIGNAL) == 4);
	ends(talk, SIDE_CLIENT, fd);
}

static void server_sends_late(struct talk *talk, int fd)
{
	ready(talk);
	NEED(event_wait(talk->go[0], WAIT_MS));
	NEED(send(fd, "late", 4, MSG_NOSIGNAL) == 4);
	ends(talk, SIDE_SERVER, fd);
}

/* Reads to the end, and sends more. */
static void client_sends_on(struct talk *talk, int fd)
{
	socklen_t len = sizeof(talk->counts[0]);

	client_ends(talk, fd);
	if (talk->counts[SIDE_CLIENT])
		return;
	NEED(send(fd, "more", 4, MSG_NOSIGNAL) == 4);
	NEED(poll(&(struct pollfd){ .fd = fd }, 1, WAIT_MS) == 1);
	NEED(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &talk->counts[SIDE_CLIENT], &len));
}

static void aborts(struct talk *talk, int fd)
{
	leave_unread(fd);
	ready(talk);
}

/* Closing without lingering is aborting. Not before the other end knows that it is connected. */
static void does_not_linger(struct talk *talk, int fd)
{
	struct linger none = { .l_onoff = 1 };

	pattern_receive(fd, 1, SOME);
	ready(talk);
	NEED(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)));
}

static void is_killed(struct talk *talk, int fd)
{
	(void)fd;
	ready(talk);
	pause();
}

static void is_killed_unread(struct talk *talk, int fd)
{
	leave_unread(fd);
	is_killed(talk, fd);
}

/* A socket under repair says nothing when it is closed: to the other end, this host has lost power. */
static void vanishes(struct talk *talk, int fd)
{
	int on = 1;

	NEED(!setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)));
	ready(talk);
}

/* Leaves while most of what it said is still to be sent; the kernel has room for all of it. */
static void leaves_much(struct talk *talk, int fd)
{
	int room = 2 * MUCH;

	NEED(!setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)));
	pattern_send(fd, 3, MUCH);
	ready(talk);
}

static void reads_much(struct talk *talk, int fd)
{
	ready(talk);
	NEED(event_wait(talk->go[0], WAIT_MS));
	pattern_receive(fd, 3, MUCH);
	ends(talk, SIDE_CLIENT, fd);
}

/* --- what happens in between --------------------------------------------------------------------- */

static void role_joined(pid_t *pid)
{
	child_join(*pid);
	*pid = 0;
}

static void server_leaves(struct talk *talk)
{
	role_joined(&talk->server_pid);
	event_post(talk->go[0]);
}

static void server_killed(struct talk *talk)
{
	child_kill(talk->server_pid);
	talk->server_pid = 0;
	event_post(talk->go[0]);
}

static void client_killed(struct talk *talk)
{
	child_kill(talk->client_pid);
	talk->client_pid = 0;
	event_post(talk->go[0]);
}

/* The host comes back with its programs, which know nothing of what was. */
static void server_restarts(struct talk *talk)
{
	role_joined(&talk->server_pid);
	host_unload("s1");
	host_load("s1", CONFIG_SERVER);
	event_post(talk->go[0]);
}

static void client_restarts(struct talk *talk)
{
	role_joined(&talk->client_pid);
	host_unload("c1");
	host_load("c1", CONFIG_CLIENT);
	event_post(talk->go[0]);
}

/* --- endings ------------------------------------------------------------------------------------- */

static const struct ending {
	const char *why;
	talk_role client, server;
	void (*happens)(struct talk *talk);
	int side; /* of whom must see... */
	int err; /* ...this */
} endings[] = {
	{ "the server aborts, data unread", client_sends, aborts, NULL, SIDE_CLIENT, ECONNRESET },
	{ "the client aborts, data unread", aborts, server_sends, NULL, SIDE_SERVER, ECONNRESET },
	{ "the server does not linger", client_sends, does_not_linger, NULL, SIDE_CLIENT,
	  ECONNRESET },
	{ "the client does not linger", does_not_linger, server_sends, NULL, SIDE_SERVER,
	  ECONNRESET },
	{ "the server is killed", client_sends_on, is_killed, server_killed, SIDE_CLIENT, EPIPE },
	{ "the server is killed, data unread", client_sends, is_killed_unread, server_killed,
	  SIDE_CLIENT, ECONNRESET },
	{ "the client is killed", is_killed, server_ends, client_killed, SIDE_SERVER, 0 },
	{ "the client is killed, data unread", is_killed_unread, server_sends, client_killed,
	  SIDE_SERVER, ECONNRESET },
	{ "the server leaves its data to the kernel", reads_much, leaves_much, server_leaves,
	  SIDE_CLIENT, 0 },
	{ "data for a server that left", client_sends_late, leaves_much, server_leaves, SIDE_CLIENT,
	  ECONNRESET },
	{ "the server restarts", client_sends_late, vanishes, server_restarts, SIDE_CLIENT,
	  ECONNRESET },
	{ "the client restarts", vanishes, server_sends_late, client_restarts, SIDE_SERVER,
	  ECONNRESET },
};

/* How long it takes both ends, once it happens, until nothing is left of the connection. */
static long ending_time(const struct family *family, const struct ending *ending, bool direct)
{
	struct talk *talk = talk_new(family, PORT_ONE, ending->client, ending->server);
	unsigned seen;
	long begin;

	talk->direct = direct;
	counters_mark();
	talk_start(talk);
	for (int i = 0; i < 2; i++)
		assert_true(event_wait(talk->go[1], WAIT_MS));
	expect_outcome("c1", "client_direct", !direct);
	begin = now_ms();
	if (ending->happens)
		ending->happens(talk);
	if (ending->happens == server_restarts || ending->happens == client_restarts)
		begin = now_ms();
	if (talk->client_pid)
		role_joined(&talk->client_pid);
	if (talk->server_pid)
		role_joined(&talk->server_pid);
	seen = talk->counts[ending->side];
	talk_finish(talk);
	if ((int)seen != ending->err)
		fail_msg("%s: %s, not %s", direct ? "direct" : "redirected", strerror(seen),
			 strerror(ending->err));
	return now_ms() - begin;
}

/*
 * As fast as directly, in one of a few tries: a kernel that is just turning the closed socket into a
 * TIME_WAIT one loses what comes at that moment, which is then sent again, on whatever path.
 */
static void ending_compare(const struct family *family, const struct ending *ending)
{
	long direct = 0, redirected = 0;

	for (int i = 0; i < TRIES; i++) {
		direct = ending_time(family, ending, true);
		redirected = ending_time(family, ending, false);
		if (redirected <= direct + SLACK_MS)
			return;
	}
	fail_msg("it took %ld ms, on a direct connection %ld ms", redirected, direct);
}

void case_endings(const struct family *family)
{
	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
		print_message("             ending: %s\n", endings[i].why);
		ending_compare(family, &endings[i]);
	}
}

/* --- the same port again ------------------------------------------------------------------------- */

/* Until the client has come again, or the server would refuse it. */
static void server_ends_and_waits(struct talk *talk, int fd)
{
	server_ends(talk, fd);
	NEED(event_wait(talk->go[0], WAIT_MS));
}

static void comes_again(struct talk *talk, int fd)
{
	(void)fd;
	event_post(talk->go[0]);
}

/*
 * A client that was restarted uses the same port, and the server still has the old connection: it says
 * so, the client's kernel resets that, and the SYN that is sent again finds its way. It is sent at
 * once if the socket hears of all this. It does not from a strict server, which nobody here knows yet:
 * then it is sent when its time has come.
 */
static long again_time(const struct family *family, bool direct)
{
	struct talk *talk = talk_new(family, PORT_ONE, vanishes, server_ends_and_waits);
	long begin;

	talk->direct = direct;
	talk->source_port = PORT_AGAIN;
	counters_mark();
	talk_start(talk);
	for (int i = 0; i < 2; i++)
		assert_true(event_wait(talk->go[1], WAIT_MS));
	expect_outcome("c1", "client_direct", !direct);
	role_joined(&talk->client_pid);
	host_unload("c1");
	host_load("c1", CONFIG_CLIENT);

	talk->client = comes_again;
	begin = now_ms();
	talk_dial(talk);
	role_joined(&talk->client_pid);
	assert_int_equal(talk->counts[SIDE_SERVER], ECONNRESET);
	talk_finish(talk);
	return now_ms() - begin;
}

void case_port_again(const struct family *family)
{
	long direct = again_time(family, true), redirected = again_time(family, false);

	if (family->strict)
		direct += SYN_AGAIN_MS;
	if (redirected > direct + SLACK_MS)
		fail_msg("it took %ld ms, on a direct connection %ld ms", redirected, direct);
}

/* --- a FIN again --------------------------------------------------------------------------------- */

/* From now on the router loses what the client sends directly, and counts it. */
static void lose_client(const struct family *family)
{
	must("r",
	     "nft 'add table inet lose; add counter inet lose n; add chain inet lose f { type "
	     "filter "
	     "hook forward priority 0; }; add rule inet lose f iifname to-c1 oifname to-s1 %s "
	     "saddr "
	     "%s counter name n drop'",
	     family->af == AF_INET ? "ip" : "ip6", family->client);
}

/* So many packets were lost. */
static bool lost(unsigned n)
{
	return !run("r", NULL,
		    "test $(nft -j list counter inet lose n | jq '.nftables[1].counter.packets') "
		    "-ge %u",
		    n);
}

static void client_leaves_first(struct talk *talk, int fd)
{
	(void)talk;
	pattern_send(fd, 1, SOME);
}

static void server_leaves_second(struct talk *talk, int fd)
{
	pattern_receive(fd, 1, SOME);
	eof_receive(fd);
	ready(talk);
	NEED(event_wait(talk->go[0], WAIT_MS));
}

/*
 * The last ACK is lost, so the server sends its FIN again, to a TIME_WAIT socket. hosts_quiet(), at
 * the end, waits for the server to be content.
 */
void case_fin_again(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, client_leaves_first, server_leaves_second);
	long deadline = now_ms() + WAIT_MS;

	talk_start(talk);
	assert_true(event_wait(talk->go[1], WAIT_MS));
	role_joined(&talk->client_pid);
	lose_client(family);
	event_post(talk->go[0]);
	role_joined(&talk->server_pid);
	while (!lost(2) && now_ms() < deadline)
		(void)poll(NULL, 0, 1);
	must("r", "nft delete table inet lose");
	talk_finish(talk);
	expect_direct(1);
	assert_true(counted("c1", "late_rewritten") >= 2);
}
