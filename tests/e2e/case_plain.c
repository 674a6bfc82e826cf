// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Clients without host programs, and clients with them, of the same service at the same time: the
 * balancer forwards what the former send by the service's method, and the server answers as the
 * service.
 */
#include "cases.h"

#include "ask.h"
#include "capture.h"
#include "programs.h"
#include "reports.h"

#define AT_ONCE_MS 900 /* less than one SYN retransmission */

/* @talk, with a client that does not ask. */
static void plain_run(struct talk *talk)
{
	talk_serve(talk);
	talk_dial_outside(talk);
	talk_finish(talk);
}

static void refused_outside(void *arg)
{
	netns_enter("c1");
	refused_client(arg);
}

/* Nobody listens. */
static void plain_refused(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, NULL);

	child_join(child_start("s3", refused_outside, talk));
	assert_true(talk->counts[0] < AT_ONCE_MS);
	talk_finish(talk);
}

/* What a closed socket's data is answered with. */
static void sends_until_reset(struct talk *talk, int fd)
{
	char c;

	(void)talk;
	while (send(fd, "more", 4, MSG_NOSIGNAL) == 4)
		NEED(recv(fd, &c, 1, 0) <= 0);
	NEED(errno == EPIPE || errno == ECONNRESET);
}

static void leaves(struct talk *talk, int fd)
{
	(void)talk;
	(void)fd;
}

/* One after the other. */
static void plain_talks(const struct family *family)
{
	long accepted = open_connections("s1", family, PORT_ONE, "accepted");
	struct talk *stream;

	plain_run(talk_new(family, PORT_ONE, echo_client, echo_server));
	plain_run(talk_new(family, PORT_ONE, listens_first, speaks_first));
	plain_run(talk_new(family, PORT_ONE, sends_until_reset, leaves));
	stream = stream_new(family, STREAM_MORE * MB);
	talk_serve(stream);
	talk_dial_outside(stream);
	stream_finish(stream);
	expect_outcome("s1", "server_plain", 4);
	assert_int_equal(open_connections("s1", family, PORT_ONE, "accepted") - accepted, 4);
	expect_none_open();
}

static void plain_cookies(const struct family *family)
{
	counters_mark();
	cookies_always(true);
	plain_run(talk_new(family, PORT_ONE, echo_client, echo_server));
	cookies_always(false);
	expect_outcome("s1", "server_plain", 1);
}

/* A redirected stream, and a client that does not ask beside it. */
static void plain_beside(const struct family *family)
{
	struct talk *stream;

	counters_mark();
	stream = stream_begin(family);
	plain_run(talk_new(family, PORT_OTHER, echo_client, echo_server));
	stream_survives(stream);
	expect_outcome("c1", "client_direct", 1);
	assert_int_equal(counted("s1", "server_direct"), 1);
	assert_int_equal(counted("s1", "server_plain"), 1);
	assert_int_equal(counted("lb", "syn_plain"), 1);
}

#define EACH 50

/* Connections to one service that are all open at once. */
static void asks_often(void *arg)
{
	static int fds[EACH];
	struct talk *talk = arg;

	for (int i = 0; i < EACH; i++) {
		fds[i] = tcp_dial(talk);
		NEED(fds[i] >= 0);
	}
	event_post(talk->go[0]);
	NEED(event_wait(talk->go[1], WAIT_MS));
	for (int i = 0; i < EACH; i++) {
		NEED(which_server(fds[i]) >= 1);
		close(fds[i]);
	}
}

static void asks_often_outside(void *arg)
{
	netns_enter("c1");
	asks_often(arg);
}

/* Both kinds of clients, one service, three servers. */
static void plain_and_redirected(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_MANY, NULL, NULL);
	pid_t servers[3], clients[2];
	long plain = 0, direct = 0;

	counters_mark();
	servers_start(talk, servers, 3);
	clients[0] = child_start("c1", asks_often, talk);
	clients[1] = child_start("s3", asks_often_outside, talk);
	for (int i = 0; i < 2; i++)
		assert_true(event_wait(talk->go[0], WAIT_MS));
	for (int i = 0; i < 2; i++)
		event_post(talk->go[1]);
	for (int i = 0; i < 2; i++)
		child_join(clients[i]);
	servers_end(servers, 3);
	talk_finish(talk);
	for (int i = 0; i < 3; i++) {
		static const char *const names[] = { "s1", "s2", "s3" };

		plain += counted(names[i], "server_plain");
		direct += counted(names[i], "server_direct");
	}
	assert_int_equal(plain, EACH);
	assert_int_equal(direct, EACH);
	expect_outcome("c1", "client_direct", EACH);
}

/* A host without any program. */
static void plain_host(const struct family *family)
{
	host_unload("c1");
	counters_mark();
	talk_one(family, echo_client, echo_server);
	expect_outcome("s1", "server_plain", 1);
	host_load("c1", CONFIG_CLIENT);
}

static void plain_all(const struct family *family)
{
	counters_mark();
	capture_clear();
	plain_talks(family);
	plain_refused(family);
	plain_cookies(family);
	plain_beside(family);
	plain_and_redirected(family);
	plain_host(family);
}

/* A service's first backend comes later: by then, where outer headers come from has to be known. */
static void plain_backend_later(const struct family *family)
{
	bool v6 = family->af == AF_INET6;
	char text[256];

	snprintf(text, sizeof(text),
		 "balancer:\n  interfaces: [eth0]\nservices:\n"
		 "  - {name: later, vip: \"%s\", method: ipip, backends: []}\n",
		 v6 ? "[fd00:99::1]:81" : "10.99.0.1:81");
	config_write("later.yaml", text);
	must("lb", "sidestep balancer up '%s' && sidestep balancer backend add later s1 '%s'",
	     config_path("later.yaml"), v6 ? "[fd00:1:3::2]:81" : "10.0.3.2:8081");
	if (!v6) { /* what is wrapped says no port: the backend could not be told from the first */
		char said[OUTPUT_LEN];

		assert_int_equal(run("lb", said,
				     "sidestep balancer backend add later s2 10.0.3.2:8082 2>&1"),
				 1);
		assert_non_null(strstr(said, "its method ipip does not tell ports"));
	}
	counters_mark();
	plain_run(talk_new(family, PORT_ONE, echo_client, echo_server));
	expect_outcome("s1", "server_plain", 1);
	balancer_load();
}

void case_plain_ipip(const struct family *family)
{
	balancer_load_method("ipip");
	plain_all(family);
	plain_backend_later(family);
}

void case_plain_gue(const struct family *family)
{
	balancer_load_method("gue");
	plain_all(family);
	balancer_load();
}

/* --- servers of the other IP version ------------------------------------------------------------ */

/* A server reports to a balancer that sends it the other IP version, too. */
static void across_reports(const struct family *family)
{
	const char *service = family->af == AF_INET ? "one" : "one6";
	long deadline = now_ms() + WAIT_MS;
	struct reporter reporter;

	reports_accept_in(CONFIG_ACROSS, NULL);
	reporter_start(&reporter, "s1", REPORT_KEY, 100);
	while (backend_open(service, "s1") != 0 && now_ms() < deadline)
		usleep(10000);
	assert_int_equal(backend_open(service, "s1"), 0);
	reporter_stop(&reporter);
}

void case_across_ipip(const struct family *family)
{
	across_begin("ipip");
	plain_all(family);
	across_reports(family);
	across_end();
}

void case_across_gue(const struct family *family)
{
	across_begin("gue");
	plain_all(family);
	across_end();
}

/* A server that has not been told where such packets are to go. */
void case_across_unknown(const struct family *family)
{
	across_begin("ipip");
	host_load("s1", CONFIG_SERVER);
	counters_mark();
	must("c1", "! curl -s -m 2 -o /dev/null 'http://%s:81/'",
	     family->af == AF_INET ? "10.99.0.1" : "[fd00:99::1]");
	assert_true(counted("s1", "wrapped_no_address") > 0);
	across_end();
}

/* --- servers that have nothing of ours ---------------------------------------------------------- */

/* One after the other, from a client that @dial makes. */
static void nat_talks(const struct family *family, void (*dial)(struct talk *talk))
{
	struct talk *talks[] = {
		talk_new(family, PORT_ONE, echo_client, echo_server),
		talk_new(family, PORT_ONE, listens_first, speaks_first),
		talk_new(family, PORT_ONE, sends_until_reset, leaves),
	};

	for (size_t i = 0; i < sizeof(talks) / sizeof(*talks); i++) {
		talk_serve(talks[i]);
		dial(talks[i]);
		talk_finish(talks[i]);
	}
}

static void nat_stream(const struct family *family)
{
	struct talk *stream = stream_new(family, 2 * MB); /* all of it is captured */

	capture_clear();
	talk_serve(stream);
	talk_dial_outside(stream);
	stream_finish(stream);
	capture_clear();
}

/* Whether the client asks or not: the server knows nothing of it, and all crosses the balancer. */
void case_plain_nat(const struct family *family)
{
	host_unload("s1");
	balancer_load_method("nat");
	counters_mark();
	capture_clear();
	nat_talks(family, talk_dial_outside);
	nat_stream(family);
	plain_refused(family);
	/* the first is sent again if the balancer has to find its neighbour */
	assert_in_range(counted("lb", "syn_plain"), 5, 6);
	assert_true(counted("lb", "nat_returned") > 100);
	nat_talks(family, talk_dial);
	expect_outcome("c1", "client_no_grant", 3);
	balancer_load();
	host_load("s1", CONFIG_SERVER);
}

/*
 * A server with host programs behind such a balancer: who asked is redirected (IPv6 requests do not
 * say who the client is: they are not), who did not is carried both ways.
 */
void case_nat_redirected(const struct family *family)
{
	bool v6 = family->af == AF_INET6;

	balancer_load_method("nat");
	counters_mark();
	capture_clear();
	nat_talks(family, talk_dial);
	expect_outcome("c1", v6 ? "client_no_grant" : "client_direct", 3);
	expect_outcome("s1", v6 ? "server_source_changed" : "server_direct", 3);
	nat_talks(family, talk_dial_outside);
	assert_in_range(counted("lb", "syn_plain"), 3, 4);
	balancer_load();
}

/* A service's address is on no interface. */
void case_ping(const struct family *family)
{
	must("c1", "ping -c 3 -i 0.01 -W 2 %s", family->vip);
	assert_int_equal(counted("lb", "echo_answered"), 3);
}

#define LARGE_PING "ping -c 1 -W 1 -s 3000 %s"

/* Fragments for a service's address, here those of a large ping, are dropped, or the kernel's. */
void case_fragments(const struct family *family)
{
	must("lb", "sidestep balancer status | grep -qx 'fragments drop'");
	assert_int_not_equal(run("c1", NULL, LARGE_PING, family->vip), 0);
	assert_true(counted("lb", "drop_fragment") >= 2);
	balancer_load_with("fragments: pass");
	must("lb", "sidestep balancer status | grep -qx 'fragments pass'");
	counters_mark();
	(void)run("c1", NULL, LARGE_PING, family->vip); /* the kernel does not know the address */
	assert_true(counted("lb", "fragment_passed") >= 2);
	balancer_load();
}
