// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What the balancer lets in, and what it tells of backends that get nothing more. */
#include "cases.h"

#include "ask.h"
#include "capture.h"
#include "programs.h"

/* --- the limit by source prefix ------------------------------------------------------------------- */

#define BURST 3

/* What is too much comes again after a second, and gets in then. */
void case_syn_limit(const struct family *family)
{
	char text[OUTPUT_LEN];

	balancer_load_with("syn_limit: {rate: 1, burst: 3}");
	counters_mark();
	for (int i = 0; i <= BURST; i++)
		talk_one(family, echo_client, echo_server);
	assert_in_range(counted("lb", "drop_syn_limit"), 1, BURST);
	assert_int_equal(counted("c1", "client_direct"), BURST + 1);
	assert_int_equal(run("lb", text, "sidestep balancer status"), 0);
	assert_non_null(strstr(text, "SYN limit 1 a second and 3 at once from each /24"));
	balancer_load();
	assert_int_equal(run("lb", text, "sidestep balancer status"), 0);
	assert_null(strstr(text, "SYN limit"));
}

/* --- backends that do not answer ------------------------------------------------------------------ */

#define DIALS 60
#define UNANSWERED 3 /* SYNs that have to come again */

/* The router drops what s3 gets: nobody there refuses, or answers. */
static void s3_is_silent(void)
{
	config_write("silent.nft", "table inet silent {\n"
				   "	chain forward { type filter hook forward priority 0;\n"
				   "		ip daddr 10.0.5.2 drop\n"
				   "		ip6 daddr fd00:1:5::2 drop\n"
				   "	}\n"
				   "}\n");
	must("r", "nft -f '%s'", config_path("silent.nft"));
}

static void dials_many(void *arg)
{
	struct talk *talk = arg;

	for (int i = 0; i < DIALS; i++)
		NEED(server_of(talk) != 3);
}

/* It is held after the first of them, and all others get their connections at the first try. */
void case_held(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_MANY, NULL, NULL);
	char text[OUTPUT_LEN];
	pid_t servers[2];

	balancer_load_services("suspect: {unanswered: 3, hold: 60}");
	s3_is_silent();
	counters_mark();
	servers_start(talk, servers, 2);
	child_join(child_start("c1", dials_many, talk));
	assert_int_equal(counted("lb", "syn_retried"), UNANSWERED);
	assert_int_equal(counted("lb", "syn_forwarded"), DIALS + UNANSWERED);
	assert_int_equal(counted("lb", "backend_held"), 1);
	assert_true(counted("lb", "syn_diverted") > 0);
	assert_int_equal(run("lb", text, "sidestep balancer status"), 0);
	assert_non_null(strstr(text, "held 1 times, last since 3 of 3 SYNs came again"));
	must("r", "nft delete table inet silent");
	servers_end(servers, 2);
	talk_finish(talk);
	balancer_load();
}

/* --- drained backends ------------------------------------------------------------------------------ */

static void waits_client(struct talk *talk, int fd)
{
	event_post(talk->go[0]);
	NEED(event_wait(talk->go[1], WAIT_MS));
	echo_client(talk, fd);
}

/* A connection that stays on the balancer goes on after its backend was drained. */
void case_drained(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, waits_client, echo_server);
	char service[16], text[OUTPUT_LEN];

	snprintf(service, sizeof(service), "one%s", family->suffix);
	balancer_load_method("ipip");
	talk_serve(talk);
	talk_dial_outside(talk);
	assert_true(event_wait(talk->go[0], WAIT_MS));
	assert_int_equal(backend_left(service, "s1"), -1);
	must("lb", "sidestep balancer backend drain %s s1", service);
	assert_true(backend_left(service, "s1") >= 1);
	assert_int_equal(run("lb", text, "sidestep balancer status"), 0);
	assert_non_null(strstr(text, "s1 has connections left in the flow table: "));
	event_post(talk->go[1]);
	talk_finish(talk);
	balancer_load();
}
