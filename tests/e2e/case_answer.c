// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * What the balancer answers itself, and what it must not send back to the router: clients learn at once
 * that no backend is there, that a connection is unknown, that a packet is too large to be sent on; and
 * what is for a service's address, but for none of its services, does not go round and round.
 */
#include "cases.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "capture.h"
#include "programs.h"

#define AT_ONCE_MS 900 /* less than one SYN retransmission */
#define PORT_NOTHING 9
#define PORT_LOGIN 2222 /* of the balancer's own kernel */

/* --- no backend -------------------------------------------------------------------------------- */

static void backend_set(const char *service, const struct family *family, const char *backend,
			const char *state)
{
	must("lb", "sidestep balancer backend %s %s%s %s", state, service, family->suffix, backend);
}

static void refused_outside(void *arg)
{
	netns_enter("c1");
	refused_client(arg);
}

/* c1 dials @service's port and is refused, at once; with its host programs, and without. */
static void refused_run(const struct family *family, uint16_t port)
{
	struct talk *talk = talk_new(family, port, NULL, NULL);

	counters_mark();
	child_join(child_start("c1", refused_client, talk));
	assert_true(talk->counts[0] < AT_ONCE_MS);
	child_join(child_start("s3", refused_outside, talk));
	assert_true(talk->counts[0] < AT_ONCE_MS);
	talk_finish(talk);
	assert_int_equal(counted("lb", "answered_reset"), 2);
	assert_int_equal(counted("lb", "drop_no_backend"), 2);
}

/* A datagram for which nobody is there. */
static void unreachable_client(void *arg)
{
	struct talk *talk = arg;
	struct sockaddr_storage to = address_of(talk->family->af, talk->vip, talk->vport);
	int fd = socket(talk->family->af, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char c;

	set_timeout(fd, SO_RCVTIMEO, SOCKET_SECONDS * 1000);
	NEED(!connect(fd, (void *)&to, sizeof(to)));
	NEED(send(fd, "?", 1, 0) == 1);
	NEED(recv(fd, &c, 1, 0) < 0 && errno == ECONNREFUSED);
}

static void unreachable_run(const struct family *family, uint16_t port)
{
	struct talk *talk = talk_new(family, port, NULL, NULL);

	child_join(child_start("c1", unreachable_client, talk));
	talk_finish(talk);
}

void case_no_backend(const struct family *family)
{
	static const char *const servers[] = { "s1", "s2", "s3" };

	balancer_load_method("ipip");
	talk_one(family, echo_client, echo_server);
	backend_set("one", family, "s1", "drain");
	refused_run(family, PORT_ONE);
	backend_set("one", family, "s1", "up");
	talk_one(family, echo_client, echo_server);

	for (int i = 0; i < 3; i++)
		backend_set("datagrams", family, servers[i], "down");
	unreachable_run(family, PORT_MANY);
	assert_int_equal(counted("lb", "answered_unreachable"), 1);
	balancer_load();
}

/* --- no service -------------------------------------------------------------------------------- */

/* How many packets the balancer's kernel has forwarded. */
static long forwarded(const struct family *family)
{
	char output[OUTPUT_LEN];

	/* the second line that begins with "Ip:" has the values */
	assert_int_equal(run("lb", output,
			     family->af == AF_INET
				     ? "awk '/^Ip:/ {n = $7} END {print n}' /proc/net/snmp"
				     : "awk '/^Ip6OutForwDatagrams/ {print $2}' /proc/net/snmp6"),
			 0);
	return atol(output);
}

/* One datagram to a port that has no service. */
static void datagram_client(void *arg)
{
	struct talk *talk = arg;
	struct sockaddr_storage to = address_of(talk->family->af, talk->vip, talk->vport);
	int fd = socket(talk->family->af, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	NEED(sendto(fd, "?", 1, 0, (void *)&to, sizeof(to)) == 1);
}

/* How often the balancer's kernel has had it, when it has ended. */
static long rounds(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_NOTHING, NULL, NULL);
	long before = forwarded(family), now;

	child_join(child_start("c1", datagram_client, talk));
	talk_finish(talk);
	for (int i = 0; i < 10; i++) { /* it is on its way still while this moves */
		now = forwarded(family);
		usleep(20000);
		if (forwarded(family) == now)
			break;
	}
	return now - before;
}

/* The balancer's own login, at the service's address. */
static void login_server(void *arg)
{
	struct talk *talk = arg;
	struct sockaddr_storage own = address_of(talk->family->af, talk->vip, PORT_LOGIN);
	int fd = tcp_socket(talk->family->af);

	NEED(!bind(fd, (void *)&own, sizeof(own)) && !listen(fd, 8));
	event_post(talk->listening);
	fd = tcp_accept(fd);
	echo_server(talk, fd);
}

static void login_client(void *arg)
{
	struct talk *talk = arg;

	echo_client(talk, tcp_dial(talk));
}

static void login_run(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_LOGIN, NULL, NULL);
	pid_t server = child_start("lb", login_server, talk);

	assert_true(event_wait(talk->listening, WAIT_MS));
	child_join(child_start("c1", login_client, talk));
	child_join(server);
	talk_finish(talk);
}

void case_no_service(const struct family *family)
{
	const char *bits = family->af == AF_INET ? "32" : "128 nodad";
	const char *prefix = family->af == AF_INET ? "10.99.0.0/24" : "fd00:99::/64";

	/* as where nobody thought of it: the testbed did */
	must("lb", "ip route del unreachable %s", prefix);
	balancer_load_with("no_service: pass");
	assert_true(rounds(family) > 10); /* what was to be mended */
	balancer_load();
	counters_mark();
	assert_int_equal(rounds(family), 0);
	assert_int_equal(counted("lb", "drop_no_service"), 1);
	talk_one(family, echo_client, echo_server);

	balancer_load_with("no_service: unreachable");
	unreachable_run(family, PORT_NOTHING);

	must("lb", "ip addr add %s/%s dev lo", family->vip, bits);
	login_run(family);
	talk_one(family, echo_client, echo_server);
	must("lb", "ip addr del %s/%s dev lo", family->vip, family->af == AF_INET ? "32" : "128");
	must("lb", "ip route add unreachable %s", prefix);
	balancer_load();
}
