// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Multipath TCP (RFC 8684): each subflow is a TCP connection of its own. A SYN has room for a
 * request of IPv4, for a short one if it joins others; the SYN-ACK has none for a grant. So where
 * both sides speak it, its subflows to the service go through the balancer; where one side does, it
 * is plain TCP, and redirected. IPv6 requests do not fit.
 */
#include "cases.h"

#include <linux/mptcp.h>
#include <netinet/in.h>
#include <poll.h>

#include "capture.h"
#include "programs.h"

#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif

#define SUBFLOWS \
	2 /* beside the first: one that the server's address invites to, one of the client's */

static void mptcp_needed(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	if (fd < 0)
		SKIP("this kernel does not speak Multipath TCP");
	close(fd);
}

static unsigned subflows(int fd)
{
	struct mptcp_info info = {};
	socklen_t len = sizeof(info);

	NEED(!getsockopt(fd, SOL_MPTCP, MPTCP_INFO, &info, &len));
	return info.mptcpi_subflows;
}

/* Data starts it; then the kernel makes the other subflows, and tells nobody when. */
static void multipath_client(struct talk *talk, int fd)
{
	long deadline = now_ms() + WAIT_MS;

	pattern_send(fd, 5, 1000);
	pattern_receive(fd, 6, 1000);
	while (subflows(fd) < SUBFLOWS) {
		NEED(now_ms() < deadline);
		poll(NULL, 0, 1);
	}
	event_post(talk->go[0]);
	echo_client(talk, fd);
}

static void multipath_server(struct talk *talk, int fd)
{
	pattern_receive(fd, 5, 1000);
	pattern_send(fd, 6, 1000);
	NEED(event_wait(talk->go[0], WAIT_MS));
	echo_server(talk, fd);
}

void case_mptcp(const struct family *family)
{
	struct talk *talk;

	mptcp_needed();
	talk = talk_new(family, PORT_ONE, multipath_client, multipath_server);
	talk->protocol[SIDE_CLIENT] = talk->protocol[SIDE_SERVER] = IPPROTO_MPTCP;
	must("s1", "ip addr add 10.0.3.9/24 dev eth0 && ip mptcp limits set subflows 2 && "
		   "ip mptcp endpoint add 10.0.3.9 port 8099 signal");
	must("c1", "ip addr add 10.0.21.7/24 dev eth0 && ip mptcp endpoint add 10.0.21.7 subflow "
		   "&& ip mptcp limits set add_addr_accepted 1 subflows 2");
	talk_run(talk);
	must("c1", "ip mptcp endpoint flush && ip addr del 10.0.21.7/24 dev eth0");
	must("s1", "ip mptcp endpoint flush && ip addr del 10.0.3.9/24 dev eth0");
	/* a SYN-ACK that joins a connection has 4 bytes left, too few for a grant */
	assert_int_equal(counted("c1", "client_direct"), 1);
	assert_int_equal(counted("c1", "client_no_grant"), 1);
	assert_int_equal(counted("s1", "server_direct"), 1);
	assert_int_equal(counted("s1", "server_no_room"), 1);
}

static void one_side(const struct family *family, enum side side)
{
	struct talk *talk;

	mptcp_needed();
	talk = talk_new(family, PORT_ONE, echo_client, echo_server);
	talk->protocol[side] = IPPROTO_MPTCP;
	talk_run(talk);
	expect_direct(1);
}

void case_mptcp_client(const struct family *family)
{
	one_side(family, SIDE_CLIENT);
}

void case_mptcp_server(const struct family *family)
{
	one_side(family, SIDE_SERVER);
}
