// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Many connections at the same time, and which server they get. */
#include "cases.h"

#include "ask.h"
#include "capture.h"
#include "programs.h"

#define PARALLEL 1000
#define SERVERS 2 /* of the service "web" */

static void parallel_client(void *arg)
{
	struct talk *talk = arg;
	static int fds[PARALLEL];

	files_allow();
	for (int i = 0; i < PARALLEL; i++)
		fds[i] = tcp_dial_begin(talk, talk->vip);
	for (int i = 0; i < PARALLEL; i++)
		dial_finish(fds[i]);
	for (int i = 0; i < PARALLEL; i++)
		ask(fds[i], i);
	for (int i = 0; i < PARALLEL; i++)
		talk->counts[answered(fds[i], i) - 1]++;
	for (int i = 0; i < PARALLEL; i++)
		close(fds[i]);
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
	pid_t servers[SERVERS];

	servers_start(talk, servers, SERVERS);
	child_join(child_start("c1", parallel_client, talk));
	assert_int_equal(talk->counts[0] + talk->counts[1], PARALLEL);
	assert_int_equal(backend_syns(web(family), "s1"), talk->counts[0]);
	assert_int_equal(backend_syns(web(family), "s2"), talk->counts[1]);
	assert_true(talk->counts[0] > PARALLEL / 3 && talk->counts[1] > PARALLEL / 3);
	servers_end(servers, SERVERS);
	talk_finish(talk);
	expect_direct(PARALLEL);
	assert_int_equal(counted("lb", "syn_retried"), 0);
}

/* --- the first choice does not answer ----------------------------------------------------------- */

void case_syn_retried(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_WEB, NULL, NULL);
	unsigned first, second;
	pid_t servers[SERVERS];
	char host[3];

	servers_start(talk, servers, SERVERS);
	talk->source_port = 4244; /* the same packet gets the same server */
	first = server_of(talk);
	assert_int_equal(server_of(talk), first);
	snprintf(host, sizeof(host), "s%u", first);
	must(host, "nft 'add table inet deaf; add chain inet deaf in { type filter hook input "
		   "priority 0; }; add rule inet deaf in tcp flags syn / syn,ack drop'");
	second = server_of(talk);
	must(host, "nft delete table inet deaf");
	assert_int_equal(second, 3 - first);
	servers_end(servers, SERVERS);
	talk_finish(talk);
	assert_int_equal(counted("lb", "syn_retried"), 1);
	expect_crossing(4, 4);
	expect_outcome("c1", "client_direct", 3);
}
