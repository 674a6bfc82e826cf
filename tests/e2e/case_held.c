// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Requests that nobody could keep: the client is in a container, something on the way translates its
 * address, programs do not run on one side, or the server's socket is none that the programs know. Such
 * connections are served through the balancer at once, from the first packet to the last, by whatever
 * method; counters say why, and none is counted as direct.
 */
#include "cases.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "capture.h"
#include "nat.h"
#include "programs.h"

#define AT_ONCE_MS 500 /* before a SYN is retransmitted */

static const char *const methods[] = { "rewrite", "ipip", "gue", "nat" };
#define METHODS (sizeof(methods) / sizeof(*methods))
#define NAT 3

/* Dials, and notes how long that took. */
static int dial_timed(struct talk *talk)
{
	long begin = now_ms();
	int fd = tcp_dial(talk);

	NEED(fd >= 0);
	talk->counts[0] = now_ms() - begin;
	return fd;
}

static void timed_client(void *arg)
{
	struct talk *talk = arg;
	int fd = dial_timed(talk);

	echo_client(talk, fd);
	close(fd);
}

/* One connection to the service "one" by @client on c1: it works, and at once. */
static void served_by(struct talk *talk, void (*client)(void *arg))
{
	talk->client_pid = child_start("c1", client, talk);
	talk_join(talk);
	assert_in_range(talk->counts[0], 0, AT_ONCE_MS);
	talk_finish(talk);
}

static void served(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, echo_server);

	talk_serve(talk);
	served_by(talk, timed_client);
}

/* What must hold after each: nothing went directly, and no backend is blamed. */
static void expect_held(const struct family *family, const char *method)
{
	char service[16];

	snprintf(service, sizeof(service), "one%s", family->suffix);
	if (counted("c1", "client_direct") || counted("s1", "server_direct"))
		fail_msg("%s: counted as direct", method);
	assert_int_equal(counted("lb", "backend_held"), 0);
	assert_int_equal(backend_syns(service, "s1"), counted("lb", "syn_forwarded"));
}

/* --- containers ------------------------------------------------------------------------------- */

/* A child in a network namespace of its own, behind c1 or s1, which then does @role. */
struct container {
	struct talk *talk;
	void (*role)(void *arg);
	int there, plugged; /* events */
};

static void container_main(void *arg)
{
	struct container *c = arg;

	NEED(!unshare(CLONE_NEWNET));
	event_post(c->there);
	NEED(event_wait(c->plugged, WAIT_MS));
	c->role(c->talk);
}

/* The child @pid is connected to @host, which forwards for it. */
static void container_plug(const char *host, pid_t pid)
{
	must(host,
	     "ip link add cont0 type veth peer name eth0 netns %d && ip link set cont0 up && "
	     "ip addr add 172.17.0.1/24 dev cont0 && ip addr add fd00:c0::1/64 dev cont0 nodad && "
	     "echo 1 >/proc/sys/net/ipv4/ip_forward && "
	     "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
	     pid);
	must(NULL,
	     "nsenter -t %d -n sh -c 'ip link set lo up && ip link set eth0 up && "
	     "ip addr add 172.17.0.2/24 dev eth0 && ip addr add fd00:c0::2/64 dev eth0 nodad && "
	     "ip route add default via 172.17.0.1 && ip -6 route add default via fd00:c0::1'",
	     pid);
}

static void container_unplug(const char *host)
{
	must(host, "nft flush ruleset; ip link del cont0 2>/dev/null; "
		   "echo 0 >/proc/sys/net/ipv4/ip_forward && "
		   "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
}

static pid_t container_start(const char *host, struct container *c)
{
	pid_t pid = child_start(host, container_main, c);

	assert_true(event_wait(c->there, WAIT_MS));
	container_plug(host, pid);
	return pid;
}

/* One connection of a client in a container behind c1, whose address c1 translates. */
static void contained_talk(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, echo_server);
	struct container c = { talk, timed_client, event_make(), event_make() };

	talk_serve(talk);
	talk->client_pid = container_start("c1", &c);
	must("c1", "nft 'add table inet nat; add chain inet nat post { type nat hook postrouting "
		   "priority srcnat; }; add rule inet nat post iifname cont0 masquerade'");
	event_post(c.plugged);
	talk_join(talk);
	assert_in_range(talk->counts[0], 0, AT_ONCE_MS);
	talk_finish(talk);
	container_unplug("c1");
}

/* sockops sees the container's sockets, as they are in the host's cgroup. */
void case_held_container(const struct family *family)
{
	for (size_t i = 0; i < METHODS; i++) {
		balancer_load_method(methods[i]);
		counters_mark();
		contained_talk(family);
		assert_int_equal(counted("c1", "client_other_netns"), 1);
		assert_int_equal(counted("c1", "client_asked"), 0);
		assert_int_equal(counted("lb", "syn_held"), 1);
		assert_int_equal(counted("s1", "server_held"), i != NAT);
		expect_held(family, methods[i]);
	}
	balancer_load();
}

/* The router before the client translates its address. */
void case_held_router(const struct family *family)
{
	/* to addresses that are behind it, as the rest of a real network is */
	must("r", "nft 'add table inet nat; add chain inet nat post { type nat hook postrouting "
		  "priority srcnat; }; "
		  "add rule inet nat post iifname to-c1 meta l4proto tcp snat ip to "
		  "10.0.77.1:20000-20999; "
		  "add rule inet nat post iifname to-c1 meta l4proto tcp snat ip6 to "
		  "[fd00:1:77::1]:20000-20999'");
	for (size_t i = 0; i < METHODS; i++) {
		balancer_load_method(methods[i]);
		counters_mark();
		served(family);
		assert_int_equal(counted("c1", "client_asked"), 1);
		assert_int_equal(counted("c1", "client_held"), i != NAT);
		assert_int_equal(counted("c1", "client_no_grant"), i == NAT);
		assert_int_equal(counted("lb", "syn_held"), 1);
		expect_held(family, methods[i]);
	}
	must("r", "nft delete table inet nat");
	balancer_load();
}

/* c1 translates the ports of its own sockets. */
void case_held_translated(const struct family *family)
{
	must("c1", "nft 'add table inet nat; add chain inet nat post { type nat hook postrouting "
		   "priority srcnat; }; add rule inet nat post meta l4proto tcp masquerade to "
		   ":20000-20999'");
	for (size_t i = 0; i < METHODS; i++) {
		balancer_load_method(methods[i]);
		counters_mark();
		served(family);
		assert_int_equal(counted("c1", "client_translated"), 1);
		assert_int_equal(counted("c1", "client_asked"), 0);
		expect_held(family, methods[i]);
	}
	must("c1", "nft delete table inet nat");
	balancer_load();
}

/* --- programs that do not run -------------------------------------------------------------------- */

#define TCX_INGRESS 46 /* of linux/bpf.h since Linux 6.6 */
#define TCX_EGRESS 47
#define BEFORE (1U << 3)

/* A TCX program before ours on @host, behind which none runs: TCX_PASS. -1: this kernel has no TCX. */
static int chain_end(const char *host, int hook)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = BEFORE);
	int prog = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "ender", "GPL", insns, 2, NULL), link;

	assert_true(prog >= 0);
	netns_enter(host);
	link = bpf_link_create(prog, if_nametoindex("eth0"), (enum bpf_attach_type)hook, &opts);
	netns_enter(NULL);
	close(prog);
	return link;
}

/* Connections while programs at @hook of @host are not reached. */
static void cut_short(const struct family *family, const char *host, int hook, const char *reason)
{
	int end = chain_end(host, hook);

	if (end < 0)
		SKIP("this kernel has no TCX");
	counters_mark();
	served(family);
	served(family);
	assert_int_equal(counted("c1", reason), 2);
	expect_held(family, reason);
	close(end);
	counters_mark();
	capture_clear();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}

/* The client's egress does not see SYNs; the server's ingress does not. */
void case_held_egress(const struct family *family)
{
	cut_short(family, "c1", TCX_EGRESS, "client_unseen");
}

void case_held_ingress(const struct family *family)
{
	cut_short(family, "s1", TCX_INGRESS, "client_held");
}

/*
 * The client's ingress: its first connection finds that out, at the cost of a retransmitted SYN where the server
 * replies strictly. From then on nothing is asked for that could not be received.
 */
void case_held_blind(const struct family *family)
{
	int end = chain_end("c1", TCX_INGRESS);

	if (end < 0)
		SKIP("this kernel has no TCX");
	talk_one(family, echo_client, echo_server);
	counters_mark();
	for (int i = 1; i <= 3; i++) {
		served(family);
		assert_int_equal(counted("c1", "client_no_ingress"), i);
	}
	expect_held(family, "blind");
	close(end);
	served(family); /* by its SYN-ACK ingress is seen again */
	counters_mark();
	capture_clear();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}

/* The server's egress: what would be classic replies are strict ones then. */
void case_held_server_egress(const struct family *family)
{
	int end = chain_end("s1", TCX_EGRESS);

	if (end < 0)
		SKIP("this kernel has no TCX");
	counters_mark();
	capture_clear();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
	close(end);
}

/* --- servers' sockets that the programs do not know ------------------------------------------------ */

/* The service is a container's published port: s1 translates destinations. */

/* What talk_serve() does, in a container behind s1; the listener's port is 80. */
static void published_server(void *arg)
{
	struct talk *talk = arg;
	struct sockaddr_storage any =
		address_of(talk->family->af, talk->family->af == AF_INET ? "0.0.0.0" : "::", 80);
	int listener = tcp_socket(talk->family->af), fd;

	NEED(!bind(listener, (void *)&any, sizeof(any)) && !listen(listener, 8));
	event_post(talk->listening);
	fd = tcp_accept(listener);
	echo_server(talk, fd);
	close(fd);
}

static void outside_client(void *arg)
{
	netns_enter("c1");
	timed_client(arg);
}

static void published_by(const struct family *family, const char *method, bool asks)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, NULL);
	struct container c = { talk, published_server, event_make(), event_make() };
	bool v4 = family->af == AF_INET;

	talk->server_pid = container_start("s1", &c);
	must("s1",
	     "nft 'add table inet nat; add chain inet nat pre { type nat hook prerouting priority "
	     "dstnat; }; add rule inet nat pre iifname eth0 tcp dport %u dnat %s to %s:80'",
	     listen_port(family, PORT_ONE), v4 ? "ip" : "ip6", v4 ? "172.17.0.2" : "[fd00:c0::2]");
	event_post(c.plugged);
	assert_true(event_wait(talk->listening, WAIT_MS));
	talk->client_pid =
		child_start(asks ? "c1" : "s3", asks ? timed_client : outside_client, talk);
	talk_join(talk);
	if (talk->counts[0] > AT_ONCE_MS)
		fail_msg("%s, %s: connected after %u ms", method, asks ? "asks" : "does not ask",
			 talk->counts[0]);
	talk_finish(talk);
	container_unplug("s1");
}

void case_held_published(const struct family *family)
{
	for (size_t i = 0; i < METHODS; i++) {
		balancer_load_method(methods[i]);
		counters_mark();
		published_by(family, methods[i], true);
		/* behind a balancer that changes IPv6 sources, nothing is asked of the server */
		assert_int_equal(counted("s1", "server_elsewhere"),
				 i != NAT || family->af == AF_INET);
		expect_held(family, methods[i]);
		if (i) /* by rewrite, clients without programs are not served */
			published_by(family, methods[i], false);
	}
	balancer_load();
}

/* The listener is outside of the programs' cgroup. */
static void stranger_talk(const struct family *family, void (*client)(void *arg), const char *where)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, echo_server);

	talk_serve_outside(talk);
	talk->client_pid = child_start(where, client, talk);
	talk_join(talk);
	assert_in_range(talk->counts[0], 0, AT_ONCE_MS);
	talk_finish(talk);
}

void case_held_listener(const struct family *family)
{
	for (size_t i = 0; i < METHODS; i++) {
		balancer_load_method(methods[i]);
		counters_mark();
		stranger_talk(family, timed_client, "c1");
		assert_int_equal(counted("s1", "syn_old_listener"),
				 i != NAT || family->af == AF_INET);
		expect_held(family, methods[i]);
		if (i)
			stranger_talk(family, outside_client, "s3");
		assert_int_equal(counted("s1", "syn_collision"), 0);
	}
	balancer_load();
}

/* --- what trusted balancers may say --------------------------------------------------------------- */

/* A balancer that changes sources may name those clients only that the server was told of. */
void case_held_clients(const struct family *family)
{
	must(NULL, "sed 's/clients: .*/clients: [10.77.0.0\\/16]/' '%s' >'%s'",
	     config_path(CONFIG_SERVER), config_path("clients.yaml"));
	host_load("s1", "clients.yaml");
	nat_begin(family, NAT_BOTH);
	talk_one(family, echo_client, echo_server);
	expect_outcome("c1", "client_no_grant", 1);
	assert_int_equal(counted("s1", "syn_restored"), 0);
	assert_int_equal(counted("s1", "syn_client_refused"), 1);
	expect_through_balancer(1);
	nat_end();
	host_load("s1", CONFIG_SERVER);
}

/* --- a local user -------------------------------------------------------------------------------- */

/* In a namespace of his own, he is the client, and the service, and the server. */
static void pretender(void *arg)
{
	struct talk *talk = arg;
	struct sockaddr_storage to, from;
	int listener, fd, on = 1;
	char command[256];

	snprintf(command, sizeof(command),
		 "ip link set lo up; for a in %s %s %s; do ip addr add $a dev lo %s; done",
		 talk->family->vip, talk->family->client, talk->family->s1,
		 talk->family->af == AF_INET ? "" : "nodad");
	NEED(!system(command));
	to = address_of(talk->family->af, talk->family->vip, talk->vport);
	from = address_of(talk->family->af, talk->family->client, 0);
	listener = tcp_socket(talk->family->af);
	NEED(!setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	NEED(!bind(listener, (void *)&to, sizeof(to)) && !listen(listener, 8));
	for (int i = 0; i < 20; i++) {
		fd = tcp_socket(talk->family->af);
		NEED(!bind(fd, (void *)&from, sizeof(from)));
		NEED(!connect(fd, (void *)&to, sizeof(to)));
		close(fd);
		close(tcp_accept(listener));
	}
}

static void pretender_main(void *arg)
{
	NEED(!unshare(CLONE_NEWNET));
	pretender(arg);
}

/* What he does there changes nothing that others read: not on a client, nor on a server. */
void case_held_pretender(const struct family *family)
{
	static const char *const hosts[] = { "c1", "s1" };

	for (int i = 0; i < 2; i++) {
		struct talk *talk = talk_new(family, listen_port(family, PORT_ONE), NULL, NULL);
		long accepted = open_connections("s1", family, PORT_ONE, "accepted");
		size_t late = map_entries(hosts[i], "late"), plain = map_entries(hosts[i], "plain"),
		       blocked = map_entries(hosts[i], "blocked");
		long strict = strict_connections(hosts[i]);

		if (!i)
			talk->vport = PORT_ONE;

		counters_mark();
		child_join(child_start(hosts[i], pretender_main, talk));
		assert_int_equal(strict_connections(hosts[i]), strict);
		assert_int_equal(map_entries(hosts[i], "late"), late);
		assert_int_equal(map_entries(hosts[i], "plain"), plain);
		assert_int_equal(map_entries(hosts[i], "blocked"), blocked);
		assert_int_equal(counted(hosts[i], "client_asked"), 0);
		assert_int_equal(open_connections("s1", family, PORT_ONE, "accepted"), accepted);
		talk_finish(talk);
	}
}
