// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Backends come, drain and go while connections are open and others are made, of clients that are
 * redirected and of clients that are not: none of them breaks.
 */
#include "cases.h"

#include <poll.h>

#include "ask.h"
#include "capture.h"
#include "programs.h"

#define OPEN 50 /* connections of each kind at any time */
#define CHANGES 60
#define CHANGE_MS 100

/*
 * Asks on all connections in turn until @stop, and every time replaces one by a new one. Half of
 * them stay for all the time.
 */
static void keeps_asking(const struct talk *talk, int stop, unsigned *dialled)
{
	static int fds[OPEN];
	static unsigned from[OPEN];

	for (int i = 0; i < OPEN; i++)
		fds[i] = -1;
	do {
		int next = *dialled < OPEN ? *dialled : *dialled % (OPEN / 2);

		if (fds[next] >= 0)
			close(fds[next]);
		fds[next] = tcp_dial(talk);
		NEED(fds[next] >= 0);
		from[next] = which_server(fds[next]);
		(*dialled)++;
		for (int i = 0; i < OPEN; i++)
			NEED(fds[i] < 0 || which_server(fds[i]) == from[i]);
	} while (!event_wait(stop, 0));
	for (int i = 0; i < OPEN; i++)
		close(fds[i]);
}

static void redirected_client(void *arg)
{
	struct talk *talk = arg;

	keeps_asking(talk, talk->go[0], &talk->counts[0]);
}

static void plain_client(void *arg)
{
	struct talk *talk = arg;

	netns_enter("c1");
	keeps_asking(talk, talk->go[1], &talk->counts[1]);
}

/* One of the service's three servers is always up. */
static void backends_change(const struct family *family)
{
	static const char *const changes[] = { "drain many%s s2",    "remove many%s s3",
					       "up many%s s2",	     "add many%s s3 %s",
					       "weight many%s s1 0", "weight many%s s1 300",
					       "remove many%s s2",   "add many%s s2 %s" };
	const char *s3 = family->af == AF_INET ? "10.0.5.2:8085" : "[fd00:1:5::2]:85";
	const char *s2 = family->af == AF_INET ? "10.0.4.2:8085" : "[fd00:1:4::2]:85";

	for (int i = 0; i < CHANGES; i++) {
		size_t which = i % (sizeof(changes) / sizeof(*changes));
		char command[128];

		snprintf(command, sizeof(command), changes[which], family->suffix,
			 which == 3 ? s3 : s2);
		must("lb", "sidestep balancer backend %s", command);
		(void)poll(NULL, 0, CHANGE_MS);
		capture_clear(); /* which would run over */
	}
}

void case_backends_change(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_MANY, NULL, NULL);
	pid_t servers[3], clients[2];

	balancer_load_method("ipip");
	counters_mark();
	servers_start(talk, servers, 3);
	clients[0] = child_start("c1", redirected_client, talk);
	clients[1] = child_start("s3", plain_client, talk);
	backends_change(family);
	event_post(talk->go[0]);
	event_post(talk->go[1]);
	child_join(clients[0]);
	child_join(clients[1]);
	capture_clear();
	print_message("             %u redirected, %u plain connections\n", talk->counts[0],
		      talk->counts[1]);
	assert_true(talk->counts[0] > OPEN && talk->counts[1] > OPEN);
	expect_outcome("c1", "client_direct", talk->counts[0]);
	assert_int_equal(counted("lb", "syn_plain"), talk->counts[1]);
	servers_end(servers, 3);
	talk_finish(talk);
	balancer_load();
}
