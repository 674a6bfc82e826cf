// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Step 9 where the path is narrow: beyond the router, the way to the server carries smaller packets
 * than all links say. Only the router's ICMP errors tell the client.
 */
#include "cases.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "programs.h"

#define NARROW_MTU 1400
#define UPLOAD (5 * MB)
#define PROMPT_MS 2000 /* more would be timeouts: the packets vanished */

/* What TCP says of the path of @fd. */
static unsigned path_mtu(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	NEED(!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	return info.tcpi_pmtu;
}

static void uploads(struct talk *talk, int fd)
{
	long begin = now_ms();

	talk->counts[0] = path_mtu(fd);
	pattern_send(fd, 5, UPLOAD);
	pattern_receive(fd, 6, 1);
	NEED(now_ms() - begin < PROMPT_MS);
	talk->counts[1] = path_mtu(fd);
}

static void takes_upload(struct talk *talk, int fd)
{
	(void)talk;
	pattern_receive(fd, 5, UPLOAD);
	pattern_send(fd, 6, 1);
	eof_receive(fd);
}

/* The route to the server alone: a link with that MTU would drop what comes back, too. */
static void narrow_begin(const struct family *family)
{
	must("r", "ip route add %s dev to-s1 mtu %d", family->s1, NARROW_MTU);
}

/* What the client has learnt goes as well; it would hold for the service for ten minutes. */
static void narrow_end(const struct family *family)
{
	const char *version = family->af == AF_INET ? "-4" : "-6";

	must("r", "ip route del %s dev to-s1", family->s1);
	must("c1", "ip %s route flush cache", version);
}

void case_path_mtu(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, uploads, takes_upload);

	narrow_begin(family);
	talk_start(talk);
	child_join(talk->client_pid);
	talk->client_pid = 0;
	assert_int_equal(talk->counts[0], 1500);
	assert_int_equal(talk->counts[1], NARROW_MTU);
	talk_finish(talk);
	assert_true(counted("c1", "icmp_translated") > 0);
	expect_direct(1);
	narrow_end(family);
}
