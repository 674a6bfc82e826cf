// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "ask.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#define REQUEST_LEN 16
#define EVENTS 64

void files_allow(void)
{
	struct rlimit limit = { ASK_FILES, ASK_FILES };

	NEED(!setrlimit(RLIMIT_NOFILE, &limit));
}

/* --- the server -------------------------------------------------------------------------------- */

static void answer(const char *name, int fd)
{
	char text[REQUEST_LEN];

	NEED(recv(fd, text, sizeof(text), MSG_WAITALL) == REQUEST_LEN);
	memset(text, 0, 4);
	strcpy(text, name);
	NEED(send(fd, text, sizeof(text), MSG_NOSIGNAL) == REQUEST_LEN);
}

static void watch(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	NEED(!epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

static void answering_server(void *arg)
{
	struct epoll_event events[EVENTS];
	struct talk *talk = arg;
	const char *name = talk->server_host; /* the next server gets another one */
	int listener, epoll = epoll_create1(EPOLL_CLOEXEC), n;

	files_allow();
	listener = tcp_listen(talk);
	watch(epoll, listener);
	event_post(talk->listening);
	for (;;) {
		n = epoll_wait(epoll, events, EVENTS, -1);
		NEED(n > 0);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (fd == listener)
				watch(epoll, tcp_accept(listener));
			else if (recv(fd, &(char){ 0 }, 1, MSG_PEEK) > 0)
				answer(name, fd);
			else
				close(fd);
		}
	}
}

void servers_start(struct talk *talk, pid_t *pids, int n)
{
	static const char *const names[ASK_SERVERS] = { "s1", "s2", "s3" };

	for (int i = 0; i < n; i++) {
		talk->server_host = names[i];
		pids[i] = child_start(names[i], answering_server, talk);
		assert_true(event_wait(talk->listening, WAIT_MS));
	}
}

void servers_end(const pid_t *pids, int n)
{
	for (int i = 0; i < n; i++)
		child_kill(pids[i]);
}

/* --- the client -------------------------------------------------------------------------------- */

void ask(int fd, unsigned id)
{
	char text[REQUEST_LEN] = {};

	snprintf(text, sizeof(text), "ask %8u", id);
	NEED(send(fd, text, sizeof(text), MSG_NOSIGNAL) == REQUEST_LEN);
}

unsigned answered(int fd, unsigned id)
{
	char text[REQUEST_LEN] = {}, expected[REQUEST_LEN] = {};

	snprintf(expected, sizeof(expected), "ask %8u", id);
	NEED(recv(fd, text, sizeof(text), MSG_WAITALL) == REQUEST_LEN);
	NEED(!memcmp(text + 4, expected + 4, REQUEST_LEN - 4));
	NEED(text[0] == 's' && text[1] > '0' && text[1] <= '0' + ASK_SERVERS);
	return text[1] - '0';
}

unsigned which_server(int fd)
{
	ask(fd, 1);
	return answered(fd, 1);
}

void close_at_once(int fd)
{
	struct linger none = { .l_onoff = 1 };

	NEED(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)));
	close(fd);
}

static void asking_client(void *arg)
{
	struct talk *talk = arg;
	int fd = tcp_dial(talk);

	NEED(fd >= 0);
	talk->counts[0] = which_server(fd);
	close_at_once(fd);
}

unsigned server_of(struct talk *talk)
{
	child_join(child_start("c1", asking_client, talk));
	return talk->counts[0];
}

void dial_finish(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int err;

	NEED(poll(&p, 1, WAIT_MS) == 1);
	NEED(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	errno = err;
	NEED(!err);
	NEED(!fcntl(fd, F_SETFL, 0));
}

const char *server_address(const struct family *family, unsigned n)
{
	static char text[32];

	snprintf(text, sizeof(text), family->af == AF_INET ? "10.0.%u.2" : "fd00:1:%u::2", n + 2);
	return text;
}
