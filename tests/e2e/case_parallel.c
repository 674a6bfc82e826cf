// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Many connections at the same time, and which server they get. */
#include "cases.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>

#include "capture.h"
#include "programs.h"

#define PARALLEL 1000
#define REQUEST_LEN 16

static void files_allow(void)
{
	struct rlimit limit = { 4 * PARALLEL, 4 * PARALLEL };

	NEED(!setrlimit(RLIMIT_NOFILE, &limit));
}

/* --- the server: answers each request with its own name, until it is ended ---------------------- */

static void answer(const char *name, int fd)
{
	char text[REQUEST_LEN];

	NEED(recv(fd, text, sizeof(text), MSG_WAITALL) == REQUEST_LEN);
	memset(text, 0, 4);
	strcpy(text, name);
	NEED(send(fd, text, sizeof(text), MSG_NOSIGNAL) == REQUEST_LEN);
}

static void parallel_server(void *arg)
{
	static struct pollfd polled[PARALLEL + 1];
	struct talk *talk = arg;
	const char *name = talk->server_host; /* the next server gets another one */
	int listener, n = 1;

	files_allow();
	listener = tcp_listen(talk);
	event_post(talk->listening);
	polled[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
	for (;;) {
		NEED(poll(polled, n, -1) > 0);
		for (int i = n - 1; i > 0; i--) {
			if (!polled[i].revents)
				continue;
			if (recv(polled[i].fd, &(char){ 0 }, 1, MSG_PEEK) > 0) {
				answer(name, polled[i].fd);
				continue;
			}
			close(polled[i].fd);
			polled[i] = polled[--n];
		}
		if (polled[0].revents && n <= PARALLEL)
			polled[n++] =
				(struct pollfd){ .fd = tcp_accept(listener), .events = POLLIN };
	}
}

/* A server on s1 and one on s2; returns their processes. */
static void servers_start(struct talk *talk, pid_t pids[2])
{
	static const char *const names[] = { "s1", "s2" };

	for (int i = 0; i < 2; i++) {
		talk->server_host = names[i];
		pids[i] = child_start(names[i], parallel_server, talk);
		assert_true(event_wait(talk->listening, WAIT_MS));
	}
}

/* --- the client -------------------------------------------------------------------------------- */

static void all_connect(const struct talk *talk, struct pollfd *polled)
{
	for (int i = 0; i < PARALLEL; i++)
		polled[i] =
			(struct pollfd){ .fd = tcp_dial_begin(talk, talk->vip), .events = POLLOUT };
}

static void one_connected(int fd)
{
	socklen_t len = sizeof(int);
	int err;

	NEED(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	errno = err;
	NEED(!err);
	NEED(!fcntl(fd, F_SETFL, 0));
}

static void all_connected(struct pollfd *polled)
{
	for (int i = 0; i < PARALLEL; i++) {
		NEED(poll(&polled[i], 1, WAIT_MS) == 1);
		one_connected(polled[i].fd);
	}
}

static void all_ask(struct talk *talk, struct pollfd *polled)
{
	char text[REQUEST_LEN] = {}, expected[REQUEST_LEN] = {};

	for (int i = 0; i < PARALLEL; i++) {
		snprintf(text, sizeof(text), "ask %8d", i);
		NEED(send(polled[i].fd, text, sizeof(text), MSG_NOSIGNAL) == REQUEST_LEN);
	}
	for (int i = 0; i < PARALLEL; i++) {
		snprintf(expected, sizeof(expected), "ask %8d", i);
		NEED(recv(polled[i].fd, text, sizeof(text), MSG_WAITALL) == REQUEST_LEN);
		NEED(!memcmp(text + 4, expected + 4, REQUEST_LEN - 4));
		NEED(text[0] == 's' && (text[1] == '1' || text[1] == '2'));
		talk->counts[text[1] == '2']++;
	}
}

static void parallel_client(void *arg)
{
	static struct pollfd polled[PARALLEL];
	struct talk *talk = arg;

	files_allow();
	all_connect(talk, polled);
	all_connected(polled);
	all_ask(talk, polled);
	for (int i = 0; i < PARALLEL; i++)
		close(polled[i].fd);
}

static const char *web(const struct family *family)
{
	static char name[16];

	snprintf(name, sizeof(name), "web%s", family->suffix);
	return name;
}

void case_parallel(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_WEB, NULL, NULL);
	pid_t servers[2];

	servers_start(talk, servers);
	child_join(child_start("c1", parallel_client, talk));
	assert_int_equal(talk->counts[0] + talk->counts[1], PARALLEL);
	assert_int_equal(backend_syns(web(family), "s1"), talk->counts[0]);
	assert_int_equal(backend_syns(web(family), "s2"), talk->counts[1]);
	assert_true(talk->counts[0] > PARALLEL / 3 && talk->counts[1] > PARALLEL / 3);
	child_kill(servers[0]);
	child_kill(servers[1]);
	talk_finish(talk);
	expect_direct(PARALLEL);
	assert_int_equal(counted("lb", "syn_retried"), 0);
}

/* --- the first choice does not answer ----------------------------------------------------------- */

/* Asks whichever server it gets for its name, and leaves no TIME_WAIT socket. */
static void ask_client(void *arg)
{
	struct linger none = { .l_onoff = 1 };
	struct talk *talk = arg;
	char text[REQUEST_LEN] = "who";
	int fd = tcp_dial(talk);

	NEED(fd >= 0);
	NEED(send(fd, text, sizeof(text), MSG_NOSIGNAL) == REQUEST_LEN);
	NEED(recv(fd, text, sizeof(text), MSG_WAITALL) == REQUEST_LEN);
	talk->counts[0] = text[1] - '0';
	NEED(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)));
	close(fd);
}

static unsigned which_server(struct talk *talk)
{
	child_join(child_start("c1", ask_client, talk));
	return talk->counts[0];
}

void case_syn_retried(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_WEB, NULL, NULL);
	unsigned first, second;
	pid_t servers[2];
	char host[3];

	servers_start(talk, servers);
	talk->source_port = 4244; /* the same packet gets the same server */
	first = which_server(talk);
	assert_int_equal(which_server(talk), first);
	snprintf(host, sizeof(host), "s%u", first);
	must(host, "nft 'add table inet deaf; add chain inet deaf in { type filter hook input "
		   "priority 0; }; add rule inet deaf in tcp flags syn / syn,ack drop'");
	second = which_server(talk);
	must(host, "nft delete table inet deaf");
	assert_int_equal(second, 3 - first);
	child_kill(servers[0]);
	child_kill(servers[1]);
	talk_finish(talk);
	assert_int_equal(counted("lb", "syn_retried"), 1);
	expect_crossing(4, 4);
	expect_outcome("c1", "client_direct", 3);
}
