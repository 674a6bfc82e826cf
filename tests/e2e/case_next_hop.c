// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The next hop of the service and that of the server are two things: here the client's router has
 * a second port ("alt", a MAC address and IP addresses of its own) on the client's link.
 */
#include "cases.h"

#include "programs.h"

#define MOVED 5 /* megabytes each way that show that a stream goes on */

static const char *alt_address(const struct family *family)
{
	return family->af == AF_INET ? "10.0.21.9" : "fd00:1:21::9";
}

static const char *vip_net(const struct family *family)
{
	return family->af == AF_INET ? "10.99.0.0/24" : "fd00:99::/64";
}

static const char *server_net(const struct family *family)
{
	return family->af == AF_INET ? "10.0.3.0/24" : "fd00:1:3::/64";
}

/* Both router ports answer for their own addresses only. */
static void alt_begin(void)
{
	must("r",
	     "ip link add alt link to-c1 address 02:00:00:00:21:09 type macvlan mode bridge && "
	     "sysctl -qw net.ipv4.conf.alt.rp_filter=0 net.ipv4.conf.alt.forwarding=1 "
	     "net.ipv6.conf.alt.forwarding=1 net.ipv4.conf.alt.send_redirects=0 "
	     "net.ipv4.conf.alt.arp_ignore=1 net.ipv4.conf.to-c1.arp_ignore=1 && "
	     "ip addr add 10.0.21.9/24 dev alt noprefixroute && "
	     "ip addr add fd00:1:21::9/64 dev alt nodad noprefixroute && ip link set alt up");
}

static void alt_end(const struct family *family)
{
	(void)run("c1", NULL, "ip route del %s via %s", vip_net(family), alt_address(family));
	(void)run("c1", NULL, "ip route del %s via %s", server_net(family), alt_address(family));
	(void)run("r", NULL, "nft delete table inet block");
	must("c1", "ip -4 neigh flush dev eth0; ip -6 neigh flush dev eth0");
	must("r", "ip link del alt && sysctl -qw net.ipv4.conf.to-c1.arp_ignore=0");
}

/* In the router: what comes in by @port for the server is lost. */
static void block(const struct family *family, const char *port)
{
	must("r",
	     "nft 'add table inet block; add chain inet block f { type filter hook forward "
	     "priority "
	     "0; }; add rule inet block f iifname %s %s daddr %s drop'",
	     port, family->af == AF_INET ? "ip" : "ip6", server_net(family));
}

static void stream_goes_on(struct talk *talk)
{
	stream_progress(talk, MOVED);
	stream_finish(talk);
	expect_direct(1);
}

/* The service lies behind the second port, the server behind the first. */
void case_next_hop_other(const struct family *family)
{
	struct talk *talk;

	alt_begin();
	must("c1", "ip route add %s via %s", vip_net(family), alt_address(family));
	block(family, "alt");
	talk = stream_begin(family);
	stream_goes_on(talk);
	alt_end(family);
}

/* During the connection the route to the service, and with it to the server, changes. */
void case_next_hop_moves(const struct family *family)
{
	struct talk *talk;

	alt_begin();
	talk = stream_begin(family);
	must("c1", "ip route add %s via %s && ip route add %s via %s", vip_net(family),
	     alt_address(family), server_net(family), alt_address(family));
	block(family, "to-c1");
	stream_goes_on(talk);
	alt_end(family);
}

/* During the connection the route to the server changes, that to the service does not. */
void case_next_hop_parts(const struct family *family)
{
	struct talk *talk;

	alt_begin();
	talk = stream_begin(family);
	must("c1", "ip route add %s via %s", server_net(family), alt_address(family));
	block(family, "to-c1");
	stream_goes_on(talk);
	alt_end(family);
}

/* --- neighbours -------------------------------------------------------------------------------- */

/* The router's @port has another MAC address from now on, and says so. */
static void mac_change(const char *port, const char *mac)
{
	must("r",
	     "sysctl -qw net.ipv4.conf.%s.arp_notify=1 net.ipv6.conf.%s.ndisc_notify=1 && "
	     "ip link set %s address %s",
	     port, port, port, mac);
}

/* Both next hops, that of the service and that of the server, get other addresses. */
void case_next_hop_mac(const struct family *family)
{
	struct talk *talk;

	alt_begin();
	must("c1", "ip route add %s via %s", server_net(family), alt_address(family));
	block(family, "to-c1");
	talk = stream_begin(family);
	mac_change("alt", "02:00:00:00:21:0a");
	stream_progress(talk, MOVED);
	mac_change("to-c1", "02:00:00:00:21:0b");
	stream_goes_on(talk);
	mac_change("to-c1", "02:00:00:00:21:01");
	alt_end(family);
}

/* One next hop for both, as usual, and its address changes. */
void case_next_hop_mac_same(const struct family *family)
{
	struct talk *talk = stream_begin(family);
	long probed = counted("c1", "next_hop_probed");

	mac_change("to-c1", "02:00:00:00:21:0b");
	stream_goes_on(talk);
	assert_true(counted("c1", "next_hop_probed") > probed);
	mac_change("to-c1", "02:00:00:00:21:01");
}

/* What is known of the next hop gets old, and then is gone. */
void case_next_hop_stale(const struct family *family)
{
	const char *router = family->af == AF_INET ? "10.0.21.1" : "fd00:1:21::1";
	struct talk *talk = stream_begin(family);

	must("c1", "ip neigh change %s dev eth0 nud stale", router);
	stream_progress(talk, MOVED);
	must("c1", "ip neigh del %s dev eth0", router);
	stream_goes_on(talk);
}

/* --- interfaces -------------------------------------------------------------------------------- */

/* The service is reached by eth0, the server by eth1 (on the same link, with an address of its own). */
static void interfaces_begin(const struct family *family, const char *blocked_mac)
{
	bool v4 = family->af == AF_INET;

	must("c1",
	     "sysctl -qw net.ipv4.conf.lo.forwarding=1 net.ipv6.conf.lo.forwarding=1 && "
	     "ip link add eth1 link eth0 address 02:00:00:00:21:12 type macvlan mode bridge && "
	     "ip addr add 10.0.21.12/24 dev eth1 noprefixroute && "
	     "ip addr add fd00:1:21::12/64 dev eth1 nodad noprefixroute && "
	     "ip link set eth1 up");
	must("c1", "ip route add %s via %s dev eth1 onlink", server_net(family),
	     v4 ? "10.0.21.1" : "fe80::ff:fe00:2101");
	must("r",
	     "nft 'add table inet block; add chain inet block f { type filter hook forward "
	     "priority 0; }; add rule inet block f ether saddr %s %s daddr %s drop'",
	     blocked_mac, v4 ? "ip" : "ip6", server_net(family));
	must(NULL, "sed 's/\\[eth0\\]/[eth0, eth1]/' '%s' >'%s'", config_path(CONFIG_CLIENT),
	     config_path("two.yaml"));
	host_load("c1", "two.yaml");
}

static void interfaces_end(void)
{
	must("r", "nft delete table inet block");
	must("c1", "ip link del eth1 && ip -4 neigh flush dev eth0; ip -6 neigh flush dev eth0; "
		   "sysctl -qw net.ipv4.conf.lo.forwarding=0 net.ipv6.conf.lo.forwarding=0");
}

void case_next_hop_interface(const struct family *family)
{
	struct talk *talk;

	interfaces_begin(family, "02:00:00:00:21:02");
	talk = stream_begin(family);
	stream_goes_on(talk);
	host_load("c1", CONFIG_CLIENT);
	talk = stream_begin(family); /* eth1 need not have the programs for what goes out */
	stream_progress(talk, MOVED);
	stream_finish(talk);
	expect_direct(2);
	interfaces_end();
}

static void bind_to_device(const struct talk *talk, int fd)
{
	(void)talk;
	NEED(!setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", sizeof("eth0")));
}

static void mark(const struct talk *talk, int fd)
{
	const int value = 7;

	(void)talk;
	NEED(!setsockopt(fd, SOL_SOCKET, SO_MARK, &value, sizeof(value)));
}

static void given_talk(const struct family *family,
		       void (*prepare)(const struct talk *talk, int fd))
{
	struct talk *talk = stream_new(family, MOVED * MB);

	talk->prepare = prepare;
	talk_start(talk);
	stream_finish(talk);
}

/* The same, but the socket is bound to eth0, or its mark says so to the host's rules. */
void case_next_hop_given(const struct family *family)
{
	const char *version = family->af == AF_INET ? "-4" : "-6";

	interfaces_begin(family, "02:00:00:00:21:12");
	must("c1",
	     "ip %s rule add fwmark 7 table 77 && "
	     "ip %s route add default via %s dev eth0 onlink table 77",
	     version, version, family->af == AF_INET ? "10.0.21.1" : "fd00:1:21::1");
	given_talk(family, bind_to_device);
	given_talk(family, mark);
	expect_direct(2);
	must("c1", "ip %s rule del fwmark 7 && ip %s route flush table 77", version, version);
	host_load("c1", CONFIG_CLIENT);
	interfaces_end();
}
