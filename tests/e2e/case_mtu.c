// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Step 9 where the path is narrow: beyond the router, the way to one end carries smaller packets than
 * all links say. Only the router's ICMP errors tell the other. Those about a server's packets go to
 * where they came from: to the service, that is, to the balancer.
 */
#include "cases.h"

#include <linux/bpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <bpf/bpf.h>

#include <sidestep/host.h>

#include "capture.h"
#include "programs.h"

#define NARROW_MTU 1400
#define LOAD (5 * MB)
#define PROMPT_MS 2000 /* more would be timeouts: the packets vanished */

/* What TCP says of the path of @fd. */
static unsigned path_mtu(int fd)
{
	struct tcp_info info = {};
	socklen_t len = sizeof(info);

	NEED(!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	return info.tcpi_pmtu;
}

/* Sends a lot, in good time, and notes what TCP took the path for before and after. */
static void loads(struct talk *talk, int fd)
{
	long begin = now_ms();

	talk->counts[0] = path_mtu(fd);
	pattern_send(fd, 5, LOAD);
	pattern_receive(fd, 6, 1);
	NEED(now_ms() - begin < PROMPT_MS);
	talk->counts[1] = path_mtu(fd);
}

static void takes_load(struct talk *talk, int fd)
{
	(void)talk;
	pattern_receive(fd, 5, LOAD);
	pattern_send(fd, 6, 1);
}

/* The route to @to, by the router's @port, alone: a link with that MTU would drop what comes back, too. */
static void narrow_begin(const char *to, const char *port)
{
	must("r", "ip route add %s dev %s mtu %d", to, port, NARROW_MTU);
}

/* What @sender has learnt goes as well; it would hold for ten minutes. */
static void narrow_end(const struct family *family, const char *to, const char *port,
		       const char *sender)
{
	const char *version = family->af == AF_INET ? "-4" : "-6";

	must("r", "ip route del %s dev %s", to, port);
	must(sender, "ip %s route flush cache", version);
}

/* One talk; @sender is the process that sends the load. */
static void narrow_talk(struct talk *talk, pid_t *sender)
{
	talk_start(talk);
	child_join(*sender);
	*sender = 0;
	assert_int_equal(talk->counts[0], 1500);
	assert_int_equal(talk->counts[1], NARROW_MTU);
	talk_finish(talk);
}

void case_path_mtu(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, loads, takes_load);

	narrow_begin(family->s1, "to-s1");
	narrow_talk(talk, &talk->client_pid);
	assert_true(counted("c1", "icmp_translated") > 0);
	expect_direct(1);
	narrow_end(family, family->s1, "to-s1", "c1");
}

void case_path_mtu_server(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, takes_load, loads);
	struct crossing c;
	long errors;

	narrow_begin(family->client, "to-c1");
	narrow_talk(talk, &talk->server_pid);
	errors = counted("lb", "icmp_forwarded");
	assert_int_equal(errors > 0, !family->strict); /* else they go to the server itself */
	assert_int_equal(counted("s1", "icmp_translated"), errors);
	expect_outcome("c1", "client_direct", 1);
	expect_outcome("s1", "server_direct", 1);
	c = capture_settle(NULL);
	assert_int_equal(c.syns_in + c.syns_out, 2);
	assert_int_equal(c.tcp_in + c.tcp_out, 0);
	assert_int_equal(c.other, 2 * errors);
	narrow_end(family, family->client, "to-c1", "s1");
}

/* The errors come wrapped: the server's address is of the other IP version. */
void case_path_mtu_across(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, takes_load, loads);
	long errors;

	across_begin("gue");
	counters_mark();
	narrow_begin(family->client, "to-c1");
	narrow_talk(talk, &talk->server_pid);
	errors = counted("lb", "icmp_forwarded");
	assert_true(errors > 0);
	assert_int_equal(counted("s1", "icmp_translated"), errors);
	expect_outcome("c1", "client_direct", 1);
	narrow_end(family, family->client, "to-c1", "s1");
	across_end();
}

/* By nat, errors about a client's packets are for the client, and those about answers for the server. */
void case_path_mtu_nat(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, loads, takes_load);

	host_unload("s1");
	balancer_load_method("nat");
	counters_mark();
	narrow_begin(family->s1, "to-s1");
	narrow_talk(talk, &talk->client_pid);
	narrow_end(family, family->s1, "to-s1", "c1");
	assert_true(counted("lb", "icmp_forwarded") > 0);

	counters_mark();
	talk = talk_new(family, PORT_ONE, takes_load, loads);
	narrow_begin(family->client, "to-c1");
	narrow_talk(talk, &talk->server_pid);
	narrow_end(family, family->client, "to-c1", "s1");
	assert_true(counted("lb", "icmp_forwarded") > 0);
	balancer_load();
	host_load("s1", CONFIG_SERVER);
}

/* --- hints that are lost ------------------------------------------------------------------------- */

/* Other connections have taken all slots of @host. */
static void hints_lose(const char *host)
{
	const struct ss_wire other = {};
	int fd = pin_open(host, "wire_flows");

	for (__u32 slot = 0; slot < SS_WIRE_SLOTS; slot++)
		assert_int_equal(bpf_map_update_elem(fd, &slot, &other, BPF_ANY), 0);
	close(fd);
}

static void loads_later(struct talk *talk, int fd)
{
	event_post(talk->go[0]);
	NEED(event_wait(talk->go[1], WAIT_MS));
	loads(talk, fd);
}

/* The first error leads nowhere; the timeout that follows makes the next one find its connection. */
static void forgotten_talk(struct talk *talk, pid_t *sender, const char *host)
{
	talk_start(talk);
	assert_true(event_wait(talk->go[0], WAIT_MS));
	hints_lose(host);
	event_post(talk->go[1]);
	child_join(*sender);
	*sender = 0;
	assert_int_equal(talk->counts[1], NARROW_MTU);
	talk_finish(talk);
}

void case_path_mtu_forgotten(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, loads_later, takes_load);

	narrow_begin(family->s1, "to-s1");
	forgotten_talk(talk, &talk->client_pid, "c1");
	expect_direct(1);
	narrow_end(family, family->s1, "to-s1", "c1");

	talk = talk_new(family, PORT_ONE, takes_load, loads_later);
	narrow_begin(family->client, "to-c1");
	forgotten_talk(talk, &talk->server_pid, "s1");
	narrow_end(family, family->client, "to-c1", "s1");
}
