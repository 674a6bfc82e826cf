// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Steps 9 and 10 for packets of more than 64 kB inside of hosts ("BIG TCP"): in IPv6 such a packet may
 * have a header before TCP, in IPv4 its length is 0. They are cut for the wire; where machines are
 * network namespaces, nobody cuts them.
 */
#include "cases.h"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include "capture.h"
#include "programs.h"

#ifndef IFLA_GSO_IPV4_MAX_SIZE /* Linux 6.3 */
#define IFLA_GSO_IPV4_MAX_SIZE 63
#define IFLA_GRO_IPV4_MAX_SIZE 64
#endif

#define BIG_SIZE 150000
#define SIZE_BEFORE 65536
#define BIG_LOAD (40 * MB)
#define BIG_TALKS 8

struct size_request {
	struct nlmsghdr head;
	struct ifinfomsg link;
	struct rtattr gso;
	uint32_t gso_size;
	struct rtattr gro;
	uint32_t gro_size;
};

/* The largest packets of @link of @host in one IP version from now on; iproute2 may be too old for this. */
static void size_set(const char *host, const char *link, int af, uint32_t size)
{
	struct size_request request = {
		.head = { sizeof(request), RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0 },
		.gso = { 8, af == AF_INET ? IFLA_GSO_IPV4_MAX_SIZE : IFLA_GSO_MAX_SIZE },
		.gso_size = size,
		.gro = { 8, af == AF_INET ? IFLA_GRO_IPV4_MAX_SIZE : IFLA_GRO_MAX_SIZE },
		.gro_size = size,
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char more[512];
	} reply;
	int fd;

	netns_enter(host);
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	assert_true(fd >= 0);
	request.link.ifi_index = (int)if_nametoindex(link);
	assert_int_equal(send(fd, &request, sizeof(request), 0), sizeof(request));
	assert_true(recv(fd, &reply, sizeof(reply), 0) >= (ssize_t)sizeof(reply.head));
	assert_int_equal(reply.error.error, 0);
	close(fd);
	netns_enter(NULL);
}

/* The router checks a packet's length with the header that is not for the wire (IPv6): 8 bytes more. */
static void sizes_set(int af, uint32_t size, unsigned router_mtu)
{
	static const char *const links[][2] = {
		{ "s1", "eth0" }, { "c1", "eth0" }, { "r", "to-s1" }, { "r", "to-c1" }
	};

	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		size_set(links[i][0], links[i][1], af, size);
	must("r", "ip link set to-s1 mtu %u && ip link set to-c1 mtu %u", router_mtu, router_mtu);
}

/*
 * 40 MB each way, and such packets among them. The kernel makes them when it has much to send at once: on a
 * busy machine not in every transfer. Returns how many it took.
 */
static int big_talks(const struct family *family, bool direct)
{
	int n = 0, none = 1;

	must("r", "nft 'add table inet big; add chain inet big f { type filter hook forward "
		  "priority 0; }; add rule inet big f meta length > 65600 counter'");
	while (none && n < BIG_TALKS) {
		struct talk *talk = stream_new(family, BIG_LOAD);

		talk->direct = direct;
		talk_start(talk);
		stream_finish(talk);
		none = run("r", NULL,
			   "nft list table inet big | grep counter | grep -qv 'packets 0 '");
		n++;
	}
	must("r", "nft delete table inet big");
	assert_int_equal(none, 0);
	return n;
}

void case_big_packets(const struct family *family)
{
	sizes_set(family->af, BIG_SIZE, 1600);
	big_talks(family, true); /* to the server itself, past sidestep */
	counters_mark();
	capture_clear();
	expect_direct(big_talks(family, false));
	sizes_set(family->af, SIZE_BEFORE, 1500);
}
