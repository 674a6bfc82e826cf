// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Middleboxes between the client and everybody else, on the router's port toward the client, that do
 * something to our options: it costs seconds at most, and is remembered for a minute.
 */
#include "cases.h"

#include "capture.h"
#include "nat.h"
#include "programs.h"

#define IMPATIENT_MS 700
#define AT_ONCE_MS 900 /* before a SYN is sent again */
#define THIRD_SYN_MS 2000 /* after the first: 1 s, and then 1 s again, or 2 s before Linux 6.5 */

/* What comes from ("ingress") or goes to ("egress") c1 passes the middlebox @box. */
static void box_begin(const char *direction, const char *box)
{
	must("r",
	     "{ tc qdisc add dev to-c1 clsact 2>/dev/null; tc filter add dev to-c1 %s bpf "
	     "direct-action object-file %s/middlebox.bpf.o section %s; }",
	     direction, build_dir(), box);
}

static void box_end(void)
{
	must("r", "tc qdisc del dev to-c1 clsact");
}

/* --- what c1 remembers --------------------------------------------------------------------------- */

/* For how many seconds c1 dials the service "one" plainly; 0: it does not. It knows of no other. */
static long plain_seconds(const struct family *family)
{
	char service[128];

	snprintf(service, sizeof(service), family->af == AF_INET ? "%s:%d" : "[%s]:%d", family->vip,
		 PORT_ONE);
	return remembered_seconds("c1", "plain", "service", service);
}

/* A connection that takes from @least to less than @most ms. */
static void talk_timed(const struct family *family, long least, long most)
{
	long begin = now_ms(), took;

	talk_one(family, echo_client, echo_server);
	took = now_ms() - begin;
	if (took < least || took >= most)
		fail_msg("it took %ld ms, expected %ld to %ld", took, least, most);
}

/* The service is dialled plainly, which goes through the balancer at once. */
static void expect_dialled_plainly(const struct family *family)
{
	assert_in_range(plain_seconds(family), 50, 60);
	must("c1", "sidestep host status | grep '^plain  *.*%s.* for '", family->vip);
	counters_mark();
	capture_clear();
	talk_timed(family, 0, AT_ONCE_MS);
	expect_outcome("c1", "client_dialled_plainly", 1);
	expect_through_balancer(1);
}

/* After the minute, with nothing in the way any more. */
static void expect_asked_again(const struct family *family)
{
	remembered_expire("c1", "plain");
	assert_int_equal(plain_seconds(family), 0);
	counters_mark();
	capture_clear();
	talk_timed(family, 0, AT_ONCE_MS);
	expect_direct(1);
}

/* --- requests ------------------------------------------------------------------------------------ */

/* Without a request it is a plain connection. */
void case_request_stripped(const struct family *family)
{
	nat_begin(family, NAT_BOTH);
	box_begin("ingress", "strip");
	talk_timed(family, 0, AT_ONCE_MS);
	expect_outcome("c1", "client_no_grant", 1);
	expect_outcome("s1", "server_direct", 0);
	expect_through_balancer(1);
	assert_int_equal(plain_seconds(family), 0);
	box_end();
	nat_end();
}

/*
 * What has a request is dropped: the third SYN has none. For a minute none has, unless that gets no
 * answer: our own balancer does not take plain connections.
 */
void case_request_dropped(const struct family *family)
{
	nat_begin(family, NAT_BOTH);
	box_begin("ingress", "drop");
	talk_timed(family, THIRD_SYN_MS, 3 * THIRD_SYN_MS);
	expect_outcome("c1", "client_gave_up", 1);
	expect_through_balancer(1);
	expect_dialled_plainly(family);
	box_end();
	nat_end();

	counters_mark();
	capture_clear();
	talk_timed(family, AT_ONCE_MS, THIRD_SYN_MS);
	expect_outcome("c1", "client_direct", 1);
	expect_crossing(2, 1);
	assert_int_equal(plain_seconds(family), 0);
}

/* Dials "one" for as long as an impatient application does. */
static void impatient_client(void *arg)
{
	struct talk *talk = arg;
	int af = talk->family->af, fd = tcp_socket(af);
	struct sockaddr_storage to = address_of(af, talk->vip, talk->vport);

	set_timeout(fd, SO_SNDTIMEO, IMPATIENT_MS);
	NEED(connect(fd, (void *)&to, sizeof(to)) && errno == EINPROGRESS);
	close(fd);
}

static void dial_impatiently(struct talk *talk)
{
	child_join(child_start("c1", impatient_client, talk));
}

/*
 * What has a request is dropped, and applications give up before the third SYN: the third dial is a plain
 * one. Where the service is simply down, that is forgotten again.
 */
void case_impatient(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, echo_client, echo_server);

	nat_begin(family, NAT_BOTH);
	box_begin("ingress", "drop");
	dial_impatiently(talk);
	assert_int_equal(plain_seconds(family), 0);
	dial_impatiently(talk);
	assert_int_equal(counted("c1", "dial_unanswered"), 2);
	expect_dialled_plainly(family);
	must("r",
	     "nft 'table inet down { chain f { type filter hook forward priority 0; iifname to-c1 "
	     "drop; }; }'");
	dial_impatiently(talk);
	must("r", "nft delete table inet down");
	assert_int_equal(plain_seconds(family), 0);
	box_end();
	nat_end();
	talk_finish(talk);
}

/*
 * Two SYNs are lost, for whatever reason. The third has no request, which the method "rewrite" takes
 * nobody without; the fourth has one again.
 */
void case_syns_lost(const struct family *family)
{
	must("r", "nft 'table inet lose { chain f { type filter hook prerouting priority -300; "
		  "iifname to-c1 "
		  "tcp flags & (syn | ack) == syn limit rate 1/hour burst 2 packets drop; }; }'");
	talk_timed(family, THIRD_SYN_MS, 5 * THIRD_SYN_MS);
	must("r", "nft delete table inet lose");
	assert_int_equal(counted("lb", "drop_no_request"), 1);
	expect_outcome("c1", "client_direct", 1);
	expect_crossing(2, 1);
	assert_int_equal(plain_seconds(family), 0);
}

/* A request is in the SYN-ACK of a server without host programs: that is no grant. */
void case_request_reflected(const struct family *family)
{
	host_unload("s1");
	nat_begin(family, NAT_BOTH);
	box_begin("egress", "reflect");
	talk_timed(family, 0, AT_ONCE_MS);
	expect_outcome("c1", "client_no_grant", 1);
	expect_through_balancer(1);
	box_end();
	nat_end();
	host_load("s1", CONFIG_SERVER);
}

/* --- grants -------------------------------------------------------------------------------------- */

/*
 * What comes from a server's own address without a grant is of no use to the client, which asks
 * again, and then dials plainly. (An IPv6 server grants nothing through such a balancer.)
 */
static void stripped_strictly(const struct family *family)
{
	if (family->af == AF_INET6)
		return;
	nat_begin(family, NAT_BOTH);
	box_begin("egress", "strip");
	talk_timed(family, THIRD_SYN_MS, 5 * THIRD_SYN_MS);
	expect_outcome("c1", "client_gave_up", 1);
	expect_through_balancer(3);
	expect_dialled_plainly(family);
	box_end();
	nat_end();
	expect_asked_again(family);
}

/* Our balancer forwards what follows to the right server. */
void case_grant_stripped(const struct family *family)
{
	if (family->strict) {
		stripped_strictly(family);
		return;
	}
	box_begin("egress", "strip");
	talk_timed(family, 0, AT_ONCE_MS);
	expect_outcome("c1", "client_no_grant", 1);
	expect_outcome("s1", "server_direct", 1);
	expect_through_balancer(1);
	assert_int_equal(plain_seconds(family), 0);
	box_end();
}

/* Dials "one" in vain; is ended, or has its connection reset. */
static void cut_off_client(void *arg)
{
	struct talk *talk = arg;
	struct linger none = { .l_onoff = 1 };
	int fd = tcp_dial(talk);
	char c;

	NEED(fd >= 0 || errno == ECONNRESET);
	if (fd < 0)
		return;
	NEED(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)));
	NEED(send(fd, "?", 1, MSG_NOSIGNAL) == 1);
	NEED(recv(fd, &c, 1, 0) < 0);
}

/* A connection that carries nothing. */
static struct talk *cut_off_begin(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, echo_server);

	talk_serve(talk);
	talk->client_pid = child_start("c1", cut_off_client, talk);
	expect_soon("c1", "client_cut_off", 1);
	return talk;
}

/* It is lost, but it is the only one. */
static void cut_off_end(struct talk *talk)
{
	const struct family *family = talk->family;

	child_kill(talk->client_pid);
	child_kill(talk->server_pid);
	talk->client_pid = talk->server_pid = 0;
	talk_finish(talk);
	expect_dialled_plainly(family);
}

/*
 * Balancers that change the source do not: the server answers the client's own address, so what
 * the client sends is, to conntrack, no part of a connection, and without conntrack it reaches
 * the server from another address.
 */
static void grant_is_lost(const struct family *family, enum nat nat)
{
	nat_begin(family, nat);
	box_begin("egress", "strip");
	cut_off_end(cut_off_begin(family));
	box_end();
	nat_end();
	expect_asked_again(family);
}

void case_grant_lost(const struct family *family)
{
	grant_is_lost(family, NAT_BOTH);
}

void case_grant_lost_reset(const struct family *family)
{
	grant_is_lost(family, NAT_STATELESS);
}

/* Nor do they carry what is not dialled plainly if a firewall blocks the direct path. */
void case_nat_blocked(const struct family *family)
{
	struct talk *talk;

	nat_begin(family, NAT_BOTH);
	must("r",
	     "nft 'table inet block { chain f { type filter hook forward priority 0; iifname to-c1 "
	     "ip daddr %s drop; }; }'",
	     family->s1);
	talk = cut_off_begin(family);
	must("r", "nft delete table inet block"); /* or nothing tells the server that it is over */
	cut_off_end(talk);
	nat_end();
	expect_asked_again(family);
}

/* --- options beside and behind ours --------------------------------------------------------------- */

static void box_both(const struct family *family, const char *box)
{
	box_begin("ingress", box);
	box_begin("egress", box);
	talk_one(family, echo_client, echo_server);
	box_end();
	expect_direct(1);
}

void case_options_moved(const struct family *family)
{
	box_both(family, "front");
}

/* Without timestamps there is room for others. */
void case_options_crowded(const struct family *family)
{
	must("c1", "sysctl -qw net.ipv4.tcp_timestamps=0");
	box_both(family, "crowd");
	must("c1", "sysctl -qw net.ipv4.tcp_timestamps=1");
}
