// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* How many connections a service has open is counted exactly, whatever happens to programs and sockets. */
#include "cases.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "ask.h"
#include "capture.h"
#include "programs.h"

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
	NEED(event_wait(talk->go[1], WAIT_MS));
}

static void waiting_client(void *arg)
{
	struct talk *talk = arg;

	for (int i = 0; i < HELD; i++)
		NEED(tcp_dial(talk) >= 0);
	event_post(talk->go[0]);
	NEED(event_wait(talk->go[1], WAIT_MS));
}

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
	event_post(talk->go[1]);
	event_post(talk->go[1]);
	child_join(server);
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

#define REPORT_PORT 7946
#define REPORT_KEY "00112233445566778899aabbccddeeff"

/* `sidestep host report` on s1, with @key; it says when it is ready. */
struct reporter {
	char config[256], notify[256];
	int ready;
	pid_t pid;
};

static void reporter_role(void *arg)
{
	const struct reporter *reporter = arg;
	char path[256];

	snprintf(path, sizeof(path), "%s/sidestep", build_dir());
	setenv("SIDESTEP_PIN_DIR", host_pin_dir("s1"), 1);
	setenv("NOTIFY_SOCKET", reporter->notify, 1);
	execl(path, "sidestep", "host", "report", reporter->config, NULL);
	NEED(!"execl");
}

static int notify_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
	unlink(path);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

static void key_write(const char *name, const char *key)
{
	config_write(name, key);
	must(NULL, "chmod 600 '%s'", config_path(name));
}

/* s1 reports to the balancer every 50 ms, with the right key or another one. */
static void reporter_start(struct reporter *reporter, const char *key)
{
	struct pollfd p;
	char text[64];

	key_write("balancer.key", REPORT_KEY);
	key_write("host.key", key);
	must(NULL, "sed 's#^balancer:#&\\n  reports: {port: %d, key: %s}#' '%s' >'%s'", REPORT_PORT,
	     config_path("balancer.key"), config_path(CONFIG_BALANCER),
	     config_path("balancer-reports.yaml"));
	must("lb", "sidestep balancer up '%s'", config_path("balancer-reports.yaml"));
	snprintf(reporter->config, sizeof(reporter->config), "%s", config_path("s1-report.yaml"));
	must(NULL,
	     "sed 's#^host:#&\\n  report: {balancers: [\"10.0.2.2:%d\", \"[fd00:1:2::2]:%d\"], "
	     "key: %s, "
	     "interval: 50}#' '%s' >'%s'",
	     REPORT_PORT, REPORT_PORT, config_path("host.key"), config_path(CONFIG_SERVER),
	     reporter->config);
	snprintf(reporter->notify, sizeof(reporter->notify), "%s", config_path("notify"));
	reporter->ready = notify_socket(reporter->notify);
	reporter->pid = child_start("s1", reporter_role, reporter);
	p = (struct pollfd){ .fd = reporter->ready, .events = POLLIN };
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(recv(reporter->ready, text, sizeof(text), 0), 7);
	assert_memory_equal(text, "READY=1", 7);
}

static void reporter_stop(struct reporter *reporter)
{
	assert_int_equal(kill(reporter->pid, SIGTERM), 0);
	child_join(reporter->pid);
	close(reporter->ready);
}

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

	reporter_start(&reporter, REPORT_KEY);
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

	reporter_start(&reporter, "00112233445566778899aabbccddeefe");
	while (counted("lb", "report_forged") < 4 && now_ms() < deadline)
		usleep(1000);
	assert_true(counted("lb", "report_forged") >= 4);
	assert_int_equal(counted("lb", "report_taken"), 0);
	expect_reported_soon(family, -1);
	reporter_stop(&reporter);
	balancer_load();
}
