// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * UDP services, of clients that know nothing of all this: their questions are wrapped on the way to a
 * server, which listens on another port, and its answers come from the service. There is a TCP service
 * on the same address and port, and nobody minds.
 */
#include "cases.h"

#include <linux/udp.h>
#include <netinet/in.h>

#include "ask.h"
#include "capture.h"
#include "programs.h"

#define LISTEN_PORT 8085 /* of UDP, whatever the IP version */
#define FLOWS 30
#define QUESTION_MAX 1400
#define ANSWERS 8 /* to a question of the greatest length */
#define TRIES 5 /* of a question: there is nobody but the client to send it again */

#ifndef UDP_SEGMENT /* Linux 4.18 */
#define UDP_SEGMENT 103
#endif

/* --- the servers: they answer with the question, and their own number in its first byte ------------ */

/* All answers at once: the kernel has them cut late, behind the programs. */
static void answer_often(int fd, const char *text, size_t len, const struct sockaddr_storage *to,
			 socklen_t to_len)
{
	static char all[ANSWERS * QUESTION_MAX];
	int size = len;

	for (int i = 0; i < ANSWERS; i++)
		memcpy(all + i * len, text, len);
	NEED(!setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)));
	NEED(sendto(fd, all, ANSWERS * len, 0, (const void *)to, to_len) ==
	     (ssize_t)(ANSWERS * len));
	size = 0;
	NEED(!setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)));
}

static void udp_server(void *arg)
{
	struct talk *talk = arg;
	int af = talk->family->af, fd = socket(af, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage any = address_of(af, af == AF_INET ? "0.0.0.0" : "::", LISTEN_PORT);
	char number = talk->server_host[1]; /* the next server gets another one */

	NEED(!bind(fd, (void *)&any, sizeof(any)));
	event_post(talk->listening);
	for (;;) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		char text[QUESTION_MAX];
		ssize_t n = recvfrom(fd, text, sizeof(text), 0, (void *)&from, &len);

		NEED(n > 0);
		text[0] = number;
		if (n == QUESTION_MAX)
			answer_often(fd, text, n, &from, len);
		else
			NEED(sendto(fd, text, n, 0, (void *)&from, len) == n);
	}
}

static void udp_servers_start(struct talk *talk, pid_t *pids)
{
	static const char *const names[ASK_SERVERS] = { "s1", "s2", "s3" };

	for (int i = 0; i < ASK_SERVERS; i++) {
		talk->server_host = names[i];
		pids[i] = child_start(names[i], udp_server, talk);
		assert_true(event_wait(talk->listening, WAIT_MS));
	}
}

/* --- the client --------------------------------------------------------------------------------- */

/* A socket that takes nothing but what comes from the service. */
static int udp_dial_from(const struct talk *talk, int port)
{
	struct sockaddr_storage vip = address_of(talk->family->af, talk->vip, talk->vport);
	struct sockaddr_storage own = address_of(talk->family->af, talk->family->client, port);
	int fd = socket(talk->family->af, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	NEED(fd >= 0);
	NEED(!bind(fd, (void *)&own, sizeof(own)));
	NEED(!connect(fd, (void *)&vip, sizeof(vip)));
	set_timeout(fd, SO_RCVTIMEO, 1000 * patience);
	return fd;
}

static int udp_dial(const struct talk *talk)
{
	return udp_dial_from(talk, 0);
}

#define NEW_PORT 400 /* and above: none of those that the kernel hands out */

/* A new flow, from a port that no earlier one had: the balancer would know that one still. */
static int udp_dial_new(const struct talk *talk)
{
	static int port = NEW_PORT;

	return udp_dial_from(talk, port++);
}

/* Asks a question of @len bytes, number @id. Returns which server has answered. */
static unsigned udp_ask(int fd, size_t len, unsigned id)
{
	char question[QUESTION_MAX] = {}, text[QUESTION_MAX + 1];
	ssize_t n = -1;

	memset(question, 'a' + id % 26, len);
	for (int i = 0; i < TRIES && n < 0; i++) {
		NEED(send(fd, question, len, 0) == (ssize_t)len);
		n = recv(fd, text, sizeof(text), 0);
	}
	for (int more = len == QUESTION_MAX ? ANSWERS - 1 : 0; n > 0 && more; more--)
		NEED(recv(fd, text, sizeof(text), 0) == n);
	NEED(n == (ssize_t)len);
	NEED(!memcmp(text + 1, question + 1, len - 1));
	NEED(text[0] > '0' && text[0] <= '0' + ASK_SERVERS);
	return text[0] - '0';
}

/* Questions of all lengths on many flows; each flow has one server, and all servers have some. */
static void udp_client(void *arg)
{
	static const size_t lengths[] = { 1, 2, 513, QUESTION_MAX };
	unsigned got[ASK_SERVERS + 1] = {};
	struct talk *talk = arg;

	for (unsigned flow = 0; flow < FLOWS; flow++) {
		int fd = udp_dial(talk);
		unsigned server = udp_ask(fd, 5, flow);

		for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
			NEED(udp_ask(fd, lengths[i], flow + i) == server);
		got[server]++;
		close(fd);
	}
	for (int i = 1; i <= ASK_SERVERS; i++)
		NEED(got[i]);
}

/* Flows go on while the test changes the backends. */
static void udp_goes_on(void *arg)
{
	struct talk *talk = arg;
	unsigned server[FLOWS];
	int fds[FLOWS];

	for (unsigned i = 0; i < FLOWS; i++) {
		fds[i] = udp_dial(talk);
		server[i] = udp_ask(fds[i], 100, i);
	}
	do {
		event_post(talk->go[0]);
		NEED(event_wait(talk->go[1], WAIT_MS));
		for (unsigned i = 0; i < FLOWS; i++)
			NEED(udp_ask(fds[i], 100, i) == server[i]);
		for (unsigned i = 0; i < FLOWS; i++) {
			int fd = udp_dial_new(talk);

			NEED(udp_ask(fd, 100, i) != 2);
			close(fd);
		}
	} while (!talk->stream.stop);
}

/* --- the cases ---------------------------------------------------------------------------------- */

static long counted_by_servers(const char *name)
{
	return counted("s1", name) + counted("s2", name) + counted("s3", name);
}

/* Each question crosses the balancer, no answer does. */
static void udp_counted(void)
{
	long asked = counted("lb", "udp_forwarded"), answers = counted_by_servers("udp_answered");

	assert_true(asked >= FLOWS * 5);
	assert_int_equal(counted_by_servers("udp_unwrapped"), asked);
	/* those that are cut behind the program are one for it */
	assert_int_equal(answers, asked);
}

static struct talk *udp_talk(const struct family *family, pid_t *servers)
{
	struct talk *talk = talk_new(family, PORT_MANY, NULL, NULL);

	counters_mark();
	capture_clear();
	udp_servers_start(talk, servers);
	return talk;
}

static void udp_asks(const struct family *family)
{
	pid_t servers[ASK_SERVERS];
	struct talk *talk = udp_talk(family, servers);

	child_join(child_start("c1", udp_client, talk));
	udp_counted();
	servers_end(servers, ASK_SERVERS);
	talk_finish(talk);
}

static void udp_by(const struct family *family, const char *method)
{
	must(NULL, "sed -E 's/(name: datagrams6?),/\\1, method: %s,/' '%s' >'%s'", method,
	     config_path(CONFIG_BALANCER), config_path("udp.yaml"));
	must("lb", "sidestep balancer up '%s'", config_path("udp.yaml"));
	udp_asks(family);
	balancer_load();
}

void case_udp_ipip(const struct family *family)
{
	udp_by(family, "ipip");
}

void case_udp_gue(const struct family *family)
{
	udp_by(family, "gue");
}

/* The servers' addresses are of the other IP version. */
void case_udp_across(const struct family *family)
{
	across_begin("gue");
	udp_asks(family);
	across_end();
}

/* A backend drains, goes, and others come: no flow that goes on notices. */
void case_udp_change(const struct family *family)
{
	const char *name = family->af == AF_INET ? "datagrams" : "datagrams6";
	pid_t servers[ASK_SERVERS], client;
	struct talk *talk = udp_talk(family, servers);

	client = child_start("c1", udp_goes_on, talk);
	assert_true(event_wait(talk->go[0], WAIT_MS));
	must("lb", "sidestep balancer backend drain %s s2", name);
	event_post(talk->go[1]);
	assert_true(event_wait(talk->go[0], WAIT_MS));
	talk->stream.stop = 1;
	must("lb", "sidestep balancer backend remove %s s2", name);
	event_post(talk->go[1]);
	child_join(client);
	servers_end(servers, ASK_SERVERS);
	talk_finish(talk);
	balancer_load();
}

#define QUIC_PACKET \
	"\x40\0\xab\2more of a packet with a short header" /* of the connection with s2 */

/* A QUIC connection whose client comes from another port with each packet. */
static void quic_client(void *arg)
{
	struct talk *talk = arg;

	for (int i = 0; i < FLOWS; i++) {
		char text[sizeof(QUIC_PACKET)] = QUIC_PACKET;
		int fd = udp_dial(talk);
		ssize_t n = -1;

		for (int try = 0; try < TRIES && n < 0; try++) {
			NEED(send(fd, QUIC_PACKET, sizeof(text), 0) == sizeof(text));
			n = recv(fd, text, sizeof(text), 0);
		}
		NEED(n == sizeof(text) && text[0] == '2');
		NEED(!memcmp(text + 1, &QUIC_PACKET[1], n - 1));
		close(fd);
	}
}

/* The service "datagrams" is one of QUIC, and its third backend comes at run time. */
void case_udp_quic(const struct family *family)
{
	bool v6 = family->af == AF_INET6;
	pid_t servers[ASK_SERVERS];
	struct talk *talk;
	char text[512];

	snprintf(text, sizeof(text),
		 "balancer:\n  interfaces: [eth0]\nservices:\n"
		 "  - name: quic\n    protocol: udp\n    quic_id_length: 2\n    vip: \"%s\"\n"
		 "    backends:\n"
		 "      - {name: s1, address: \"%s\", quic_id: ab01}\n"
		 "      - {name: s3, address: \"%s\", quic_id: ab03}\n",
		 v6 ? "[fd00:99::1]:85" : "10.99.0.1:85",
		 v6 ? "[fd00:1:3::2]:8085" : "10.0.3.2:8085",
		 v6 ? "[fd00:1:5::2]:8085" : "10.0.5.2:8085");
	config_write("quic.yaml", text);
	must("lb", "sidestep balancer up '%s'", config_path("quic.yaml"));
	assert_int_not_equal(run("lb", NULL, "sidestep balancer backend add quic s2 '%s' 2>&1",
				 v6 ? "[fd00:1:4::2]:8085" : "10.0.4.2:8085"),
			     0);
	must("lb", "sidestep balancer backend add quic s2 '%s' --quic-id ab02",
	     v6 ? "[fd00:1:4::2]:8085" : "10.0.4.2:8085");
	must("lb", "sidestep balancer status --json | grep -q '\"quic_id\": \"ab02\"'");
	talk = udp_talk(family, servers);
	child_join(child_start("c1", quic_client, talk));
	assert_true(counted("lb", "quic_routed") >= FLOWS);
	assert_int_equal(counted("lb", "quic_routed"), counted("lb", "udp_forwarded"));
	assert_int_equal(counted("s2", "udp_answered"), counted("lb", "udp_forwarded"));
	servers_end(servers, ASK_SERVERS);
	talk_finish(talk);
	balancer_load();
}

/* A TCP connection and a UDP flow from the same port of the client, to the same port of the service. */
static void udp_and_tcp_client(void *arg)
{
	struct talk *talk = arg;
	struct sockaddr_storage own;
	socklen_t len = sizeof(own);
	int tcp = tcp_dial(talk), udp = socket(talk->family->af, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage vip = address_of(talk->family->af, talk->vip, talk->vport);

	NEED(tcp >= 0 && udp >= 0);
	NEED(!getsockname(tcp, (void *)&own, &len));
	NEED(!bind(udp, (void *)&own, len));
	NEED(!connect(udp, (void *)&vip, sizeof(vip)));
	set_timeout(udp, SO_RCVTIMEO, 1000 * patience);
	for (unsigned i = 0; i < 20; i++) {
		(void)udp_ask(udp, 200, i);
		(void)which_server(tcp);
	}
	close_at_once(tcp);
}

void case_udp_and_tcp(const struct family *family)
{
	pid_t servers[ASK_SERVERS], tcp_servers[ASK_SERVERS];
	struct talk *talk = udp_talk(family, servers);

	servers_start(talk, tcp_servers, ASK_SERVERS);
	child_join(child_start("c1", udp_and_tcp_client, talk));
	servers_end(tcp_servers, ASK_SERVERS);
	servers_end(servers, ASK_SERVERS);
	talk_finish(talk);
	expect_outcome("c1", "client_direct", 1);
	assert_true(counted_by_servers("udp_answered") >= 20);
}
