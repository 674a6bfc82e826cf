// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What schedulers by load are for: servers that work on one connection after the other, and connections
 * that take them very different times.
 */
#include "cases.h"

#include <math.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>

#include "ask.h"
#include "programs.h"
#include "reports.h"

#define SERVERS 3
#define CONNECTIONS 1000
#define SHORT_US 10000
#define LONG_US 30000
#define LONG_SHARE 0.2 /* of all connections */
#define LOAD 0.8 /* of what the servers can do */
#define SLOW 2 /* how much longer the last server takes than the others */
#define REPORT_MS 10

/* In memory that the test and its client share. */
struct workload {
	struct talk *talk;
	double took[CONNECTIONS]; /* seconds from when it was due to its end */
};

/* --- the server: one at a time ------------------------------------------------------------------ */

static void working_server(void *arg)
{
	struct talk *talk = ((struct workload *)arg)->talk;
	bool last = !strcmp(talk->server_host, "s3");
	int listener = tcp_listen(talk);

	event_post(talk->listening);
	for (;;) {
		int fd = tcp_accept(listener);
		uint32_t us;

		NEED(recv(fd, &us, sizeof(us), MSG_WAITALL) == sizeof(us));
		usleep(last ? us * SLOW : us); /* the work */
		NEED(send(fd, &us, sizeof(us), MSG_NOSIGNAL) == sizeof(us));
		close(fd);
	}
}

/* --- the client: as many a second as planned, however long they take ----------------------------- */

static double now_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void begin(const struct talk *talk, int epoll, int *fd, unsigned i)
{
	struct epoll_event event = { .events = EPOLLOUT, .data.u32 = i };

	*fd = tcp_dial_begin(talk, talk->vip);
	NEED(!epoll_ctl(epoll, EPOLL_CTL_ADD, *fd, &event));
}

/* It is connected: says how much work it is, then waits for the end of that. */
static void ask_for_work(int epoll, int fd, unsigned i, uint32_t us)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };

	dial_finish(fd);
	NEED(send(fd, &us, sizeof(us), MSG_NOSIGNAL) == sizeof(us));
	NEED(!epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event));
}

/* The plan is the same for every scheduler: when connections are due, and how much work they are. */
static void plan(double *due, uint32_t *us)
{
	double work = (SHORT_US * (1 - LONG_SHARE) + LONG_US * LONG_SHARE) / 1e6, at = 0;
	double servers = SERVERS - 1 + 1.0 / SLOW; /* how many the fast ones would be */

	srand48(4711);
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		at += -log(1 - drand48()) * work / servers / LOAD;
		due[i] = at;
		us[i] = drand48() < LONG_SHARE ? LONG_US : SHORT_US;
	}
}

static void planned_client(void *arg)
{
	static double due[CONNECTIONS];
	static uint32_t us[CONNECTIONS];
	static int fds[CONNECTIONS];
	struct workload *w = arg;
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	unsigned begun = 0, ended = 0;
	double start;

	plan(due, us);
	files_allow();
	start = now_seconds();
	while (ended < CONNECTIONS) {
		double now = now_seconds() - start;
		struct epoll_event event;

		if (begun < CONNECTIONS && due[begun] <= now) {
			begin(w->talk, epoll, &fds[begun], begun);
			begun++;
			continue;
		}
		if (epoll_wait(epoll, &event, 1,
			       begun < CONNECTIONS ? (due[begun] - now) * 1000 + 1 : -1) < 1)
			continue;
		if (event.events & EPOLLOUT) {
			ask_for_work(epoll, fds[event.data.u32], event.data.u32,
				     us[event.data.u32]);
			continue;
		}
		w->took[event.data.u32] = now_seconds() - start - due[event.data.u32];
		close_at_once(fds[event.data.u32]);
		ended++;
	}
}

/* --- both --------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The 99th percentile of what the connections take with @scheduler, in ms. */
static double p99_with(const struct family *family, const char *scheduler)
{
	struct workload *w =
		mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	static const char *const names[SERVERS] = { "s1", "s2", "s3" };
	struct reporter reporters[SERVERS];
	pid_t servers[SERVERS];
	double p99;

	assert_true(w != MAP_FAILED);
	w->talk = talk_new(family, PORT_MANY, NULL, NULL);
	reports_accept(scheduler);
	for (int i = 0; i < SERVERS; i++) {
		w->talk->server_host = names[i];
		servers[i] = child_start(names[i], working_server, w);
		assert_true(event_wait(w->talk->listening, WAIT_MS));
		reporter_start(&reporters[i], names[i], REPORT_KEY, REPORT_MS);
	}
	child_join(child_start("c1", planned_client, w));
	for (int i = 0; i < SERVERS; i++)
		reporter_stop(&reporters[i]);
	servers_end(servers, SERVERS);
	talk_finish(w->talk);
	qsort(w->took, CONNECTIONS, sizeof(*w->took), by_size);
	p99 = w->took[CONNECTIONS * 99 / 100] * 1000;
	munmap(w, sizeof(*w));
	return p99;
}

/*
 * One server takes twice as long, so that random gives it more than it can do. Between servers alike the
 * 99th percentile of random depends on few long queues, and is no measure in a run as short as this.
 */
void case_load_skewed(const struct family *family)
{
	double random = p99_with(family, "random");
	double least = p99_with(family, "least-connections");
	double power = p99_with(family, "power-of-two");

	print_message("99th percentile: random %.0f ms, least connections %.0f ms, "
		      "power of two %.0f ms\n",
		      random, least, power);
	assert_true(least <= random / 2);
	assert_true(power < random);
	assert_int_equal(counted("c1", "client_direct"), 3 * CONNECTIONS);
	balancer_load();
}
