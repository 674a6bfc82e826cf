// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * A firewall between client and server: the direct path carries nothing, the balancer path is open.
 *
 * The router drops what comes in by the client's port for a server. What the balancer sends back for
 * that server has the same addresses, but comes in by the balancer's port.
 */
#include "cases.h"

#include <poll.h>

#include "capture.h"
#include "programs.h"

#define GOES_ON_MS 3000
#define AT_ONCE_MS 500 /* less than two timeouts, or than a SYN-ACK takes to come again */

/* Drops what c1 sends directly to s1: all of it, or what the nft match @which names. */
static void block(const struct family *family, const char *which)
{
	must("r",
	     "nft 'add table inet block; add chain inet block f { type filter hook forward "
	     "priority 0; }; add rule inet block f iifname to-c1 oifname to-s1 %s saddr %s %s "
	     "drop'",
	     family->af == AF_INET ? "ip" : "ip6", family->client, which);
}

/* Of what the balancer sends back, only SYNs get through. */
static void block_balancer(void)
{
	must("r", "nft 'add table inet block; add chain inet block f { type filter hook forward "
		  "priority 0; }; add rule inet block f iifname to-lb tcp flags & syn == 0 drop'");
}

static void unblock(void)
{
	must("r", "nft delete table inet block");
}

/* c1 forgets what it has found out: another load, other maps. */
static void forget(void)
{
	host_unload("c1");
	host_load("c1", CONFIG_CLIENT);
}

/* --- what c1 remembers -------------------------------------------------------------------------- */

/* For how many seconds c1 takes s1 for blocked; 0: it does not. It knows of no other. */
static long blocked_seconds(const struct family *family)
{
	return remembered_seconds("c1", "blocked", "address", family->s1);
}

/* --- talks that take their time ------------------------------------------------------------------ */

/* talk_one() that takes at most @ms, and more than @least. */
static void talk_timed(const struct family *family, bool server_first, long least, long ms)
{
	long begin = now_ms(), took;

	if (server_first)
		talk_one(family, listens_first, speaks_first);
	else
		talk_one(family, echo_client, echo_server);
	took = now_ms() - begin;
	if (took > ms || took < least)
		fail_msg("it took %ld ms, expected %ld to %ld", took, least, ms);
}

/* One connection of @family, that was put on the balancer path, and the next one there at once. */
static void blocked_talk(const struct family *family, bool server_first)
{
	block(family, "");
	talk_timed(family, server_first, AT_ONCE_MS, GOES_ON_MS);
	assert_int_equal(counted("c1", "client_direct"), 1);
	assert_int_equal(counted("c1", "client_blocked"), 1);
	assert_in_range(blocked_seconds(family), 50, 60);
	must("c1", "sidestep host status | grep '^blocked  *%s for '", family->s1);
	expect_through_balancer(1);

	talk_timed(family, server_first, 0, AT_ONCE_MS);
	assert_int_equal(counted("c1", "client_direct"), 1);
	assert_int_equal(counted("c1", "client_blocked"), 1);
	assert_int_equal(counted("c1", "client_backend_blocked"), 1);
	expect_through_balancer(2);
	unblock();
	forget();
}

void case_blocked_client_first(const struct family *family)
{
	blocked_talk(family, false);
}

void case_blocked_server_first(const struct family *family)
{
	blocked_talk(family, true);
}

/* --- another connection finds it out --------------------------------------------------------------- */

/* What a connection found out holds for all of the backend's services, and for a minute. */
void case_blocked_again(const struct family *family)
{
	block(family, "");
	talk_timed(family, false, AT_ONCE_MS, GOES_ON_MS);
	unblock();
	talk_run(talk_new(family, PORT_OTHER, echo_client, echo_server));
	assert_int_equal(counted("c1", "client_backend_blocked"), 1);
	expect_through_balancer(2);

	remembered_expire("c1", "blocked");
	assert_int_equal(blocked_seconds(family), 0);
	counters_mark();
	capture_clear();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
	forget();
}

/* --- the one or the other path carries less than its SYN-ACK promised -------------------------------- */

/* The server has the third ACK, and nothing to repeat: the client's timeouts alone tell. */
void case_blocked_data(const struct family *family)
{
	block(family, "meta length > 500");
	talk_timed(family, false, AT_ONCE_MS, GOES_ON_MS);
	assert_int_equal(counted("c1", "client_blocked"), 1);
	expect_through_balancer(1);
	unblock();
	forget();
}

/* c1 takes s1 for blocked, and no connection of the service can use the balancer: as round robin. */
static void unblocked_talk(const struct family *family, bool server_first)
{
	block(family, "");
	talk_one(family, echo_client, echo_server);
	unblock();
	counters_mark();
	capture_clear();

	block_balancer();
	talk_timed(family, server_first, AT_ONCE_MS, GOES_ON_MS);
	assert_int_equal(counted("c1", "client_backend_blocked"), 1);
	assert_int_equal(counted("c1", "client_unblocked"), 1);
	assert_int_equal(counted("c1", "client_direct"), 0);
	assert_int_equal(blocked_seconds(family), 0);
	unblock();
}

void case_blocked_balancer(const struct family *family)
{
	unblocked_talk(family, false);
	counters_mark();
	capture_clear();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
	unblocked_talk(family, true);
}

/* --- a balancer that encapsulates -------------------------------------------------------------------- */

#define FULL_SIZED MB

static void uploads(struct talk *talk, int fd)
{
	(void)talk;
	pattern_send(fd, 5, FULL_SIZED);
	pattern_receive(fd, 6, 1);
}

static void takes_upload(struct talk *talk, int fd)
{
	(void)talk;
	pattern_receive(fd, 5, FULL_SIZED);
	pattern_send(fd, 6, 1);
}

/* The balancer has said that its outer headers do not fit; c1 would remember that for ten minutes. */
static void expect_too_big(const struct family *family)
{
	assert_true(counted("lb", "answered_too_big") > 0);
	must("c1", "ip %s route flush cache", family->af == AF_INET ? "-4" : "-6");
}

/* The grant's SYN-ACK has let the client send segments that do not fit into the balancer's headers. */
void case_blocked_wrapped(const struct family *family)
{
	static const char *const methods[] = { "ipip", "gue" };

	for (int i = 0; i < 2; i++) {
		long begin;

		balancer_load_method(methods[i]);
		counters_mark();
		block(family, "");
		begin = now_ms();
		talk_one(family, uploads, takes_upload);
		assert_in_range(now_ms() - begin, AT_ONCE_MS, GOES_ON_MS);
		assert_int_equal(counted("c1", "client_blocked"), 1);
		unblock();
		expect_too_big(family);
		forget();
	}
	balancer_load();
}

/* --- the second choice ----------------------------------------------------------------------------- */

/* Dials the service "one"; the first SYN is lost. */
static void dial_retried(struct talk *talk)
{
	const struct crossing first = { .syns_in = 1, .syns_out = 1 };

	talk_serve(talk);
	must("s1", "nft 'add table inet deaf; add chain inet deaf in { type filter hook input "
		   "priority 0; }; add rule inet deaf in tcp flags syn / syn,ack drop'");
	capture_clear();
	talk_dial(talk);
	(void)capture_settle(&first);
	must("s1", "nft delete table inet deaf");
}

/*
 * The balancer sends what is not a SYN to its first choice. A connection to the second one is
 * better off waiting on the direct path, and takes that path if it is a try.
 */
void case_blocked_retry(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, echo_client, echo_server);

	block(family, "");
	dial_retried(talk);
	expect_soon("c1", "client_blocked_retry", 1);
	assert_in_range(blocked_seconds(family), 50, 60);
	unblock();
	talk_finish(talk);
	expect_crossing(2, 2);

	talk = talk_new(family, PORT_ONE, echo_client, echo_server);
	dial_retried(talk);
	talk_finish(talk);
	expect_crossing(2, 2);
	assert_int_equal(counted("c1", "client_direct"), 2);
	assert_int_equal(counted("c1", "client_blocked"), 0);
	assert_int_equal(counted("c1", "client_blocked_retry"), 1);
	assert_int_equal(counted("c1", "client_backend_blocked"), 0);
	forget();
}

/* --- SYN cookies ------------------------------------------------------------------------------------ */

/* The server has heard of the connection neither from the third ACK nor from the data so far. */
void case_blocked_cookie(const struct family *family)
{
	block(family, "");
	cookies_always(true);
	talk_timed(family, false, AT_ONCE_MS, GOES_ON_MS);
	talk_timed(family, false, 0, AT_ONCE_MS);
	cookies_always(false);
	assert_int_equal(counted("c1", "client_blocked"), 1);
	assert_int_equal(counted("c1", "client_backend_blocked"), 1);
	assert_int_equal(counted("s1", "server_cookie_direct"), 2);
	expect_through_balancer(2);
	unblock();
	forget();
}

/* --- the path fails later -------------------------------------------------------------------------- */

/* The client's socket has run into three timeouts in a row. */
static void wait_timeouts(void)
{
	long deadline = now_ms() + WAIT_MS;

	while (run("c1", NULL, "ss -tnoH | grep -q 'timer:(on,[^,]*,[3-9])'") &&
	       now_ms() < deadline)
		poll(NULL, 0, 10);
	must("c1", "ss -tnoH | grep 'timer:(on,[^,]*,[3-9])'");
}

/* Then the connection waits, as any other does, and is none of the balancer's business. */
void case_blocked_later(const struct family *family)
{
	struct talk *talk = stream_begin(family);

	block(family, "");
	wait_timeouts();
	unblock();
	stream_survives(talk);
	expect_direct(1);
	assert_int_equal(blocked_seconds(family), 0);
}

/* --- a filter that sees half of a handshake ---------------------------------------------------------- */

/*
 * A stateful firewall on the router: only what it takes for part of a connection gets to c1, and nothing
 * that it takes for part of none may leave. It does not look at the balancer's link, or it would see
 * each packet twice.
 */
static void guard_begin(void)
{
	must("r", "nft 'table inet guard { "
		  "chain p { type filter hook prerouting priority -300; iifname to-lb notrack; }; "
		  "chain f { type filter hook forward priority 0; ct state untracked accept; "
		  "oifname to-c1 ct state established,related accept; oifname to-c1 meta l4proto "
		  "tcp drop; "
		  "iifname to-c1 ct state invalid drop; }; }'");
}

static void half_seen_talks(const struct family *family, bool server_first)
{
	if (family->strict)
		balancer_load_method("ipip"); /* the third SYN asks for nothing */
	guard_begin();
	talk_timed(family, server_first, 0, 2 * GOES_ON_MS);
	talk_timed(family, server_first, 0, AT_ONCE_MS);
	must("r", "nft delete table inet guard");
	balancer_load();
	forget();
}

void case_half_seen(const struct family *family)
{
	half_seen_talks(family, false);
}

void case_half_seen_server_first(const struct family *family)
{
	half_seen_talks(family, true);
}
