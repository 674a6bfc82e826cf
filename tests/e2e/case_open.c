// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* How many connections a service has open is counted exactly, whatever happens to programs and sockets. */
#include "cases.h"

#include "ask.h"
#include "capture.h"
#include "programs.h"
#include "reports.h"

#define HELD 99
#define MANY 100000
#define AT_ONCE 2000

static const struct family *the_family;

static long open_now(void)
{
	return open_connections("s1", the_family, PORT_ONE, "open");
}

static long accepted_now(void)
{
	return open_connections("s1", the_family, PORT_ONE, "accepted");
}

static void expect_open_soon(long n)
{
	long deadline = now_ms() + WAIT_MS;

	while (open_now() != n && now_ms() < deadline)
		usleep(1000);
	assert_int_equal(open_now(), n);
}

/* Connections that are all answered; then a third is closed, a third reset, a third held on. */
static void holding_client(void *arg)
{
	struct talk *talk = arg;
	int fds[HELD];

	for (int i = 0; i < HELD; i++) {
		fds[i] = tcp_dial(talk);
		NEED(fds[i] >= 0);
		NEED(which_server(fds[i]) == 1);
	}
	event_post(talk->go[0]);
	NEED(event_wait(talk->go[1], WAIT_MS));
	for (int i = 0; i < HELD / 3; i++) {
		close(fds[i]);
		close_at_once(fds[HELD / 3 + i]);
	}
	NEED(event_wait(talk->go[1], WAIT_MS));
}

/* The service "one", with a server that answers, and a client that holds connections to it. */
struct held {
	struct talk *talk;
	pid_t server, client;
	long accepted; /* before */
};

static struct held hold(const struct family *family)
{
	struct held held = { .talk = talk_new(family, PORT_ONE, NULL, NULL) };

	the_family = family;
	servers_start(held.talk, &held.server, 1);
	held.accepted = accepted_now();
	held.client = child_start("c1", holding_client, held.talk);
	assert_true(event_wait(held.talk->go[0], WAIT_MS));
	return held;
}

/* All but a third end, then those. */
static void let_go(struct held *held)
{
	event_post(held->talk->go[1]);
	expect_open_soon(HELD / 3);
	assert_int_equal(accepted_now() - held->accepted, HELD);
	event_post(held->talk->go[1]);
	child_join(held->client);
	expect_open_soon(0);
	servers_end(&held->server, 1);
	talk_finish(held->talk);
}

void case_open_counted(const struct family *family)
{
	struct held held = hold(family);

	assert_int_equal(open_now(), HELD);
	assert_int_equal(accepted_now() - held.accepted, HELD);
	let_go(&held);
}

/* Somebody who dials the server itself is no connection of a service. */
void case_open_plain(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, echo_client, echo_server);
	long accepted;

	the_family = family;
	accepted = accepted_now();
	talk->direct = true;
	talk_run(talk);
	assert_int_equal(accepted_now(), accepted);
	assert_int_equal(open_now(), 0);
}

/* The service leaves the configuration and comes back; what is open stays counted. */
void case_open_configured(const struct family *family)
{
	struct held held = hold(family);

	config_write("s1-other.yaml", "host:\n"
				      "  interfaces: [eth0]\n"
				      "  serve:\n"
				      "    - {vip: \"10.99.0.1:84\", listen: 8084}\n");
	host_load("s1", "s1-other.yaml");
	assert_int_equal(open_now(), HELD);
	host_load("s1", CONFIG_SERVER);
	assert_int_equal(open_now(), HELD);
	let_go(&held);
}

/* While a program is exchanged it can be attached twice, and runs twice. */
void case_open_twice(const struct family *family)
{
	struct held held;

	must("s1", "bpftool cgroup attach '%s' sock_ops pinned '%s/host/prog_sockops' multi",
	     host_cgroup("s1"), host_pin_dir("s1"));
	held = hold(family);
	assert_int_equal(open_now(), HELD);
	let_go(&held);
	must("s1", "bpftool cgroup detach '%s' sock_ops pinned '%s/host/prog_sockops'",
	     host_cgroup("s1"), host_pin_dir("s1"));
}

/* --- connections that nobody accepts ------------------------------------------------------------ */

/* A listener that is closed with connections in its queue. */
static void idle_listener(void *arg)
{
	struct talk *talk = arg;
	int listener = tcp_listen(talk);

	event_post(talk->listening);
	NEED(event_wait(talk->go[1], WAIT_MS));
	close(listener);
}

static void waiting_client(void *arg)
{
	struct talk *talk = arg;

	for (int i = 0; i < HELD; i++)
		NEED(tcp_dial(talk) >= 0);
	event_post(talk->go[0]);
	NEED(event_wait(talk->listening, WAIT_MS));
}

/*
 * The server ends before the client does. If both did at once, a RST could reach the client's socket on one
 * processor while another one makes it a TIME_WAIT socket: the kernel loses it then (it says so in
 * tcp_rcv_state_process()), whoever has sent it, and the socket stays for a minute.
 */
void case_open_unaccepted(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, NULL);
	pid_t server, client;

	the_family = family;
	server = child_start("s1", idle_listener, talk);
	assert_true(event_wait(talk->listening, WAIT_MS));
	client = child_start("c1", waiting_client, talk);
	assert_true(event_wait(talk->go[0], WAIT_MS));
	expect_open_soon(HELD); /* the last third ACK may still be under way */
	event_post(talk->go[1]);
	child_join(server);
	event_post(talk->listening);
	child_join(client);
	expect_open_soon(0);
	talk_finish(talk);
}

/* --- many --------------------------------------------------------------------------------------- */

static void many_client(void *arg)
{
	struct talk *talk = arg;
	static int fds[AT_ONCE];

	files_allow();
	for (int i = 0; i < AT_ONCE; i++)
		fds[i] = tcp_dial_begin(talk, talk->vip);
	for (int i = 0; i < AT_ONCE; i++)
		dial_finish(fds[i]);
	for (int i = 0; i < AT_ONCE; i++)
		ask(fds[i], i);
	for (int i = 0; i < AT_ONCE; i++)
		NEED(answered(fds[i], i) == 1);
	for (int i = 0; i < AT_ONCE; i++)
		close_at_once(fds[i]);
}

void case_open_many(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, NULL);
	long accepted;
	pid_t server;

	the_family = family;
	servers_start(talk, &server, 1);
	accepted = accepted_now();
	for (int i = 0; i < MANY / AT_ONCE; i += 2) {
		pid_t one = child_start("c1", many_client, talk);

		child_join(child_start("c1", many_client, talk));
		child_join(one);
		capture_clear(); /* it has no room for all of them */
	}
	assert_int_equal(accepted_now() - accepted, MANY);
	expect_open_soon(0);
	servers_end(&server, 1);
	talk_finish(talk);
}

/* --- the balancer is told ----------------------------------------------------------------------- */

static void expect_reported_soon(const struct family *family, long n)
{
	const char *service = family->af == AF_INET ? "one" : "one6";
	long deadline = now_ms() + WAIT_MS;

	while (backend_open(service, "s1") != n && now_ms() < deadline)
		usleep(1000);
	assert_int_equal(backend_open(service, "s1"), n);
}

void case_open_reported(const struct family *family)
{
	struct reporter reporter;
	struct held held;

	reports_accept(NULL);
	reporter_start(&reporter, "s1", REPORT_KEY, 50);
	expect_reported_soon(family, 0);
	held = hold(family);
	expect_reported_soon(family, HELD);
	assert_int_equal(backend_open(family->af == AF_INET ? "web" : "web6", "s1"), 0);
	assert_int_equal(backend_open(family->af == AF_INET ? "web" : "web6", "s2"), -1);
	let_go(&held);
	expect_reported_soon(family, 0);
	host_unload("s1"); /* nothing to report: what was reported is outdated soon */
	expect_reported_soon(family, -1);
	host_load("s1", CONFIG_SERVER);
	expect_reported_soon(family, 0);
	reporter_stop(&reporter);
	expect_reported_soon(family, -1);
	assert_true(counted("lb", "report_taken") > 0);
	assert_int_equal(counted("lb", "report_old") + counted("lb", "report_forged") +
				 counted("lb", "report_malformed") +
				 counted("lb", "report_wrong_source"),
			 0);
	balancer_load();
}

void case_open_forged(const struct family *family)
{
	struct reporter reporter;
	long deadline = now_ms() + WAIT_MS;

	reports_accept(NULL);
	reporter_start(&reporter, "s1", "00112233445566778899aabbccddeefe", 50);
	while (counted("lb", "report_forged") < 4 && now_ms() < deadline)
		usleep(1000);
	assert_true(counted("lb", "report_forged") >= 4);
	assert_int_equal(counted("lb", "report_taken"), 0);
	expect_reported_soon(family, -1);
	reporter_stop(&reporter);
	balancer_load();
}

/* --- a second port ------------------------------------------------------------------------------ */

/* The backend is a server's second port: redirected clients get there, not to the first, which is closed. */
void case_open_second_port(const struct family *family)
{
	static const char *const methods[] = { "rewrite", "nat" };
	struct reporter reporter;

	must(NULL, "sed 's/listen: 8081/listen: 8099, listen_also: [8081]/' '%s' >'%s'",
	     config_path(CONFIG_SERVER), config_path("second.yaml"));
	host_load("s1", "second.yaml");
	for (size_t i = 0; i < 2; i++) {
		balancer_load_method(methods[i]);
		counters_mark();
		talk_run(talk_new(family, PORT_ONE, echo_client, echo_server));
		expect_outcome("s1", "server_direct", 1);
		expect_outcome("c1", "client_direct", 1);
	}
	reports_accept(NULL);
	reporter_start(&reporter, "s1", REPORT_KEY, 50);
	expect_reported_soon(family, 0);
	reporter_stop(&reporter);
	balancer_load();
	host_load("s1", CONFIG_SERVER);
}
