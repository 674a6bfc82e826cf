// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Step 10: RSTs, which have no full socket or a closed one, find their way. */
#include "cases.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "programs.h"

#define RESET_MS 1000

static void reset_client(struct talk *talk, int fd)
{
	char c;

	(void)talk;
	pattern_send(fd, 1, 1000);
	set_timeout(fd, SO_RCVTIMEO, RESET_MS);
	NEED(recv(fd, &c, 1, 0) < 0 && errno == ECONNRESET);
}

/* Closing without lingering is aborting: what is closed is gone when the RST leaves. */
static void reset_server(struct talk *talk, int fd)
{
	struct linger none = { .l_onoff = 1 };

	(void)talk;
	pattern_receive(fd, 1, 1000);
	NEED(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)));
}

void case_server_resets(const struct family *family)
{
	talk_one(family, reset_client, reset_server);
	expect_direct(1);
}

/*
 * Closes in two steps, so that what is left is a TIME_WAIT socket, which has no state of ours: the
 * kernel turns a socket into one if its FIN has been acknowledged by then, and tells nobody when.
 */
static void close_into_time_wait(struct talk *talk, int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);
	long deadline = now_ms() + WAIT_MS;

	NEED(!shutdown(fd, SHUT_WR));
	NEED(event_wait(talk->go[0], WAIT_MS)); /* the other end has seen it */
	do {
		NEED(now_ms() < deadline);
		poll(NULL, 0, 1);
		NEED(!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	} while (info.tcpi_state != TCP_FIN_WAIT2);
	NEED(!close(fd));
	event_post(talk->go[1]);
}

static void late_client(struct talk *talk, int fd)
{
	struct pollfd p = { .fd = fd };
	socklen_t len = sizeof(int);
	int err;

	pattern_send(fd, 1, 1000);
	eof_receive(fd);
	event_post(talk->go[0]);
	NEED(event_wait(talk->go[1], WAIT_MS));
	pattern_send(fd, 2, 1000);
	NEED(poll(&p, 1, RESET_MS) == 1 && p.revents & POLLERR);
	NEED(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	NEED(err == EPIPE || err == ECONNRESET);
}

static void early_server(struct talk *talk, int fd)
{
	pattern_receive(fd, 1, 1000);
	close_into_time_wait(talk, fd);
}

void case_data_after_close(const struct family *family)
{
	talk_one(family, late_client, early_server);
	expect_direct(1);
	assert_true(family->strict || counted("s1", "late_rewritten") > 0);
}

static void early_client(struct talk *talk, int fd)
{
	pattern_send(fd, 1, 1000);
	close_into_time_wait(talk, fd);
}

/* Its FIN is answered by the client's TIME_WAIT socket; talk_finish() waits for that. */
static void late_server(struct talk *talk, int fd)
{
	pattern_receive(fd, 1, 1000);
	eof_receive(fd);
	event_post(talk->go[0]);
	NEED(event_wait(talk->go[1], WAIT_MS));
}

void case_last_ack(const struct family *family)
{
	talk_one(family, early_client, late_server);
	expect_direct(1);
	assert_true(counted("c1", "late_rewritten") > 0);
}
