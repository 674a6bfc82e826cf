// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Invariant I6 where two connections of a client have the same addresses and ports at the server:
 * its kernel uses a source port again toward another address, and does not know that both mean
 * the same socket there.
 */
#include "cases.h"

#include "ask.h"
#include "capture.h"
#include "programs.h"

/* Dials the second VIP from the port that @fd has; the first connection shall not notice. */
static void colliding_client(struct talk *talk, int fd)
{
	int other;

	pattern_send(fd, 1, 1000);
	pattern_receive(fd, 2, 1000);
	other = tcp_dial_begin(talk, talk->family->vip2);
	event_post(talk->go[0]);
	NEED(event_wait(talk->go[1], WAIT_MS));
	close(other);
	echo_client(talk, fd);
}

static void colliding_server(struct talk *talk, int fd)
{
	pattern_receive(fd, 1, 1000);
	pattern_send(fd, 2, 1000);
	echo_server(talk, fd);
}

void case_collision(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, colliding_client, colliding_server);

	talk->source_port = 4243;
	talk_start(talk);
	assert_true(event_wait(talk->go[0], WAIT_MS));
	expect_crossing(2, 2);
	assert_int_equal(counted("s1", "syn_collision"), 1);
	event_post(talk->go[1]);
	talk_finish(talk);
	expect_crossing(2, 2);
	expect_outcome("c1", "client_direct", 1);
	expect_outcome("s1", "server_direct", 1);
}

/* --- refused ------------------------------------------------------------------------------------ */

#define REFUSED_MS 2500 /* when the SYN has come a second time, after a second */

/* The second VIP, from the port that @fd has, refuses: no other server is there. */
static void refused_dial(struct talk *talk, int fd)
{
	struct talk twin = *talk;
	long begin = now_ms();

	pattern_send(fd, 1, 1000);
	pattern_receive(fd, 2, 1000);
	twin.vip = talk->family->vip2;
	NEED(tcp_dial(&twin) < 0 && errno == ECONNREFUSED);
	NEED(now_ms() - begin < REFUSED_MS);
	echo_client(talk, fd);
}

/* So an application can dial again at once, and the first connection does not notice. */
void case_collision_refused(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, refused_dial, colliding_server);

	talk->source_port = 4247;
	talk_run(talk);
	assert_int_equal(counted("s1", "syn_collision"), 2);
	assert_int_equal(counted("s1", "syn_refused"), 1);
}

/* --- a direct connection ------------------------------------------------------------------------ */

/* Serves one connection after the other. */
static void server_of_two(void *arg)
{
	struct talk *talk = arg;
	int listener = tcp_listen(talk), fd;

	event_post(talk->listening);
	fd = tcp_accept(listener);
	colliding_server(talk, fd);
	close(fd);
	fd = tcp_accept(listener);
	echo_server(talk, fd);
	close(fd);
}

/*
 * Dials the server's own address from the port of a redirected connection, which goes on; when that
 * is over, the other one gets its answer.
 */
static void direct_client(void *arg)
{
	struct talk *talk = arg, direct = *talk;
	int fd = tcp_dial(talk), other;

	NEED(fd >= 0);
	pattern_send(fd, 1, 1000);
	pattern_receive(fd, 2, 1000);
	direct.vport = listen_port(talk->family, talk->vport);
	other = tcp_dial_begin(&direct, talk->family->s1);
	echo_client(talk, fd); /* takes the same way as the SYN, behind it */
	close(fd);
	dial_finish(other);
	echo_client(talk, other);
	close(other);
}

void case_collision_direct(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, NULL);

	talk->source_port = 4245;
	talk->server_pid = child_start("s1", server_of_two, talk);
	assert_true(event_wait(talk->listening, WAIT_MS));
	talk->client_pid = child_start("c1", direct_client, talk);
	talk_finish(talk);
	expect_direct(1);
}

/* The other way round: the direct connection is there first. */
static void reverse_client(void *arg)
{
	struct talk *talk = arg, direct = *talk;
	int there, fd;

	direct.vport = listen_port(talk->family, talk->vport);
	direct.vip = server_address(talk->family, talk->counts[0]);
	there = tcp_dial(&direct);
	NEED(there >= 0);
	NEED(which_server(there) == talk->counts[0]);
	fd = tcp_dial(talk);
	NEED(fd >= 0);
	talk->counts[1] = which_server(fd);
	NEED(which_server(there) == talk->counts[0]);
	NEED(which_server(fd) == talk->counts[1]);
	close_at_once(there);
	close_at_once(fd);
}

void case_collision_reverse(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_WEB, NULL, NULL);
	pid_t servers[2];
	char host[3];

	servers_start(talk, servers, 2);
	talk->source_port = 4246; /* the same packet gets the same server */
	talk->counts[0] = server_of(talk);
	child_join(child_start("c1", reverse_client, talk));
	assert_int_equal(talk->counts[1], 3 - talk->counts[0]);
	snprintf(host, sizeof(host), "s%u", talk->counts[0]);
	assert_int_equal(counted(host, "syn_collision"), 1);
	servers_end(servers, 2);
	talk_finish(talk);
	expect_crossing(3, 3);
	expect_outcome("c1", "client_direct", 2);
}

/* --- thousands --------------------------------------------------------------------------------- */

#define MANY 10000
#define MANY_PORT 20000 /* the first */

/* How many; less on a slow machine, where so many SYNs at once lose each other. */
static int many(void)
{
	return MANY / patience;
}

/* All at once, to both services by turns; each gets its own data, from one server all the time. */
static void many_client(void *arg)
{
	static int fds[MANY];
	static unsigned from[MANY];
	struct talk *talk = arg;

	files_allow();
	for (int i = 0; i < many(); i++)
		fds[i] = tcp_dial_begin(talk, i % 2 ? talk->family->vip2 : talk->family->vip);
	for (int i = 0; i < many(); i++) {
		dial_finish(fds[i]);
		ask(fds[i], i);
	}
	for (int i = 0; i < many(); i++)
		from[i] = answered(fds[i], i);
	for (int i = 0; i < many(); i++)
		ask(fds[i], many() + i);
	for (int i = 0; i < many(); i++) {
		NEED(answered(fds[i], many() + i) == from[i]);
		talk->counts[from[i] == 1]++;
		close(fds[i]);
	}
}

static long collisions(void)
{
	return counted("s1", "syn_collision") + counted("s2", "syn_collision") +
	       counted("s3", "syn_collision");
}

void case_collision_many(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_MANY, NULL, NULL);
	long begin = now_ms();
	pid_t servers[3];

	/* fewer than connections: most are used toward both services */
	must("c1", "sysctl -qw net.ipv4.ip_local_port_range='%u %u'", MANY_PORT,
	     MANY_PORT + many() * 6 / 10 - 1);
	servers_start(talk, servers, 3);
	child_join(child_start("c1", many_client, talk));
	print_message("%ld collisions, %ld ms\n", collisions(), now_ms() - begin);
	servers_end(servers, 3);
	talk_finish(talk);
	must("c1", "sysctl -qw net.ipv4.ip_local_port_range='1024 65535'");
	expect_outcome("c1", "client_direct", many());
	assert_int_equal(counted("lb", "syn_retried"), collisions());
	assert_true(collisions() > many() / 20);
}
