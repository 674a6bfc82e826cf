// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* A host that is client and server of the same service: it may be given itself. */
#include "cases.h"

#include "ask.h"
#include "capture.h"
#include "programs.h"

#define DIALS 20
#define AT_ONCE_MS 900 /* for all of them: less than one SYN retransmission */

/* s1 becomes a client as well. */
static void both_begin(void)
{
	must(NULL, "{ cat '%s'; sed -n '/dial:/p;/backends:/p' '%s'; } >'%s'",
	     config_path(CONFIG_SERVER), config_path(CONFIG_CLIENT), config_path("both.yaml"));
	host_load("s1", "both.yaml");
	counters_mark();
}

/* Dials from s1, where its own host would often be the first choice. */
static void self_client(void *arg)
{
	struct talk *talk = arg;
	long begin = now_ms();

	for (int i = 0; i < DIALS; i++) {
		int fd = tcp_dial(talk);

		NEED(fd >= 0);
		talk->counts[which_server(fd) - 1]++;
		close(fd);
	}
	NEED(now_ms() - begin < AT_ONCE_MS);
}

void case_self(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_WEB, NULL, NULL);
	pid_t servers[2];
	long sent_on;

	both_begin();
	servers_start(talk, servers, 2);
	child_join(child_start("s1", self_client, talk));
	assert_int_equal(talk->counts[0], 0);
	assert_int_equal(talk->counts[1], DIALS);
	servers_end(servers, 2);
	talk_finish(talk);
	sent_on = counted("s1", "syn_sent_on");
	assert_in_range(sent_on, 1, DIALS - 1);
	expect_outcome("s1", "client_direct", DIALS);
	expect_outcome("s2", "server_direct", DIALS);
	expect_crossing(DIALS + sent_on, DIALS + sent_on);
	host_load("s1", CONFIG_SERVER);
}

/* There is no other server: as with any balancer that keeps the source, no connection. */
void case_self_only(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, echo_server);

	both_begin();
	talk_serve(talk);
	child_join(child_start("s1", vain_client, talk));
	assert_int_equal(counted("s1", "syn_sent_on"), 1);
	assert_int_equal(counted("s1", "syn_own_dropped"), 1);
	expect_outcome("s1", "server_direct", 0);
	expect_crossing(2, 2);
	talk_abandon(talk);
	host_load("s1", CONFIG_SERVER);
}
