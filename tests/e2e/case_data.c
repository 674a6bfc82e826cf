// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Steps 1 to 9: every kind of connection carries its data, and only its SYN meets the balancer. */
#include "cases.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "programs.h"

#define BULK_BYTES 100000000UL
#define HALF_BYTES MB
#define IDLE_MS 3000

void case_bulk(const struct family *family)
{
	struct talk *talk = stream_new(family, BULK_BYTES);

	talk_start(talk);
	stream_finish(talk);
	expect_direct(1);
}

/* --- half-close -------------------------------------------------------------------------------- */

static void closes_half(struct talk *talk, int fd)
{
	(void)talk;
	pattern_send(fd, 1, 1000);
	NEED(!shutdown(fd, SHUT_WR));
	pattern_receive(fd, 2, HALF_BYTES);
	eof_receive(fd);
}

static void goes_on(struct talk *talk, int fd)
{
	(void)talk;
	pattern_receive(fd, 1, 1000);
	eof_receive(fd);
	pattern_send(fd, 2, HALF_BYTES);
}

void case_client_half_closes(const struct family *family)
{
	talk_one(family, closes_half, goes_on);
	expect_direct(1);
}

void case_server_half_closes(const struct family *family)
{
	talk_one(family, goes_on, closes_half);
	expect_direct(1);
}

/* --- idle -------------------------------------------------------------------------------------- */

/* Time itself is what is tested here: nothing is to happen for a while. */
static void idle_client(struct talk *talk, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	pattern_send(fd, 3, 1);
	NEED(poll(&p, 1, IDLE_MS) == 0);
	echo_client(talk, fd);
}

static void idle_server(struct talk *talk, int fd)
{
	pattern_receive(fd, 3, 1);
	echo_server(talk, fd);
}

/* A probe a second; the connection ends with the first that is not answered. */
static void keepalive(int fd)
{
	int one = 1;

	NEED(!setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)));
	NEED(!setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof(one)));
	NEED(!setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof(one)));
	NEED(!setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &one, sizeof(one)));
}

static void probing_client(struct talk *talk, int fd)
{
	keepalive(fd);
	idle_client(talk, fd);
}

static void probing_server(struct talk *talk, int fd)
{
	keepalive(fd);
	idle_server(talk, fd);
}

void case_idle(const struct family *family)
{
	struct talk *silent = talk_new(family, PORT_ONE, idle_client, idle_server);
	struct talk *probing = talk_new(family, PORT_OTHER, probing_client, probing_server);

	talk_start(silent);
	talk_start(probing);
	child_join(silent->client_pid);
	silent->client_pid = 0;
	talk_finish(probing);
	talk_finish(silent);
	expect_direct(2);
}

/* --- the server speaks first ------------------------------------------------------------------- */

void case_server_first(const struct family *family)
{
	talk_one(family, listens_first, speaks_first);
	expect_direct(1);
}
