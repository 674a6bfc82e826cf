// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "capture.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "hosts.h"

#define SNAPLEN 128
#define BUFFER_BYTES (64 << 20)
#define BALANCER "10.0.2.2"

enum packet_kind { KIND_IGNORED, KIND_SYN, KIND_TCP, KIND_OTHER, KIND_MARKER };

/* The padding puts what follows the Ethernet header where its fields are aligned. */
struct frame {
	uint8_t pad[2];
	uint8_t bytes[SNAPLEN];
	size_t len;
} __attribute__((aligned(8)));

static int capture = -1, ping = -1;
static uint16_t marker; /* number of the last ping */
static struct crossing seen;

static enum packet_kind tcp_kind(const struct frame *f, size_t at)
{
	const struct tcphdr *tcp = (const void *)(f->bytes + at);

	if (at + sizeof(*tcp) > f->len)
		return KIND_OTHER;
	return tcp->syn && !tcp->ack ? KIND_SYN : KIND_TCP;
}

static enum packet_kind icmp_kind(const struct frame *f, size_t at)
{
	const struct icmphdr *icmp = (const void *)(f->bytes + at);

	if (at + sizeof(*icmp) > f->len)
		return KIND_OTHER;
	if (icmp->type == ICMP_ECHOREPLY && ntohs(icmp->un.echo.sequence) == marker)
		return KIND_MARKER;
	return icmp->type == ICMP_ECHO || icmp->type == ICMP_ECHOREPLY ? KIND_IGNORED : KIND_OTHER;
}

static enum packet_kind icmp6_kind(const struct frame *f, size_t at)
{
	switch (f->bytes[at]) {
	case ICMP6_ECHO_REQUEST:
	case ICMP6_ECHO_REPLY:
	case ND_ROUTER_SOLICIT:
	case ND_ROUTER_ADVERT:
	case ND_NEIGHBOR_SOLICIT:
	case ND_NEIGHBOR_ADVERT:
	case ND_REDIRECT:
		return KIND_IGNORED;
	default:
		return KIND_OTHER;
	}
}

static enum packet_kind packet_kind(const struct frame *f)
{
	const struct ethhdr *eth = (const void *)f->bytes;
	const struct iphdr *ip4 = (const void *)(f->bytes + ETH_HLEN);
	const struct ip6_hdr *ip6 = (const void *)(f->bytes + ETH_HLEN);
	size_t at;

	if (eth->h_proto == htons(ETH_P_IP)) {
		at = ETH_HLEN + ip4->ihl * 4;
		if (ip4->protocol == IPPROTO_TCP)
			return tcp_kind(f, at);
		return ip4->protocol == IPPROTO_ICMP ? icmp_kind(f, at) : KIND_OTHER;
	}
	if (eth->h_proto == htons(ETH_P_IPV6)) {
		at = ETH_HLEN + sizeof(*ip6);
		if (ip6->ip6_dst.s6_addr[0] == 0xff) /* neighbour discovery, group reports */
			return KIND_IGNORED;
		if (ip6->ip6_nxt == IPPROTO_TCP)
			return tcp_kind(f, at);
		return ip6->ip6_nxt == IPPROTO_ICMPV6 ? icmp6_kind(f, at) : KIND_OTHER;
	}
	return eth->h_proto == htons(ETH_P_ARP) ? KIND_IGNORED : KIND_OTHER;
}

/* Counts one packet. Returns its kind, or -1 if there is none within @ms. */
static int capture_one(int ms)
{
	struct pollfd p = { .fd = capture, .events = POLLIN };
	struct sockaddr_ll from;
	socklen_t from_len = sizeof(from);
	struct frame f = {};
	ssize_t n;
	int kind;
	bool in;

	if (poll(&p, 1, ms) != 1)
		return -1;
	n = recvfrom(capture, f.bytes, sizeof(f.bytes), 0, (void *)&from, &from_len);
	assert_true(n > 0);
	f.len = n;
	kind = packet_kind(&f);
	in = from.sll_pkttype == PACKET_OUTGOING;
	if (kind == KIND_SYN)
		(*(in ? &seen.syns_in : &seen.syns_out))++;
	else if (kind == KIND_TCP)
		(*(in ? &seen.tcp_in : &seen.tcp_out))++;
	else if (kind == KIND_OTHER)
		seen.other++;
	return kind;
}

/* Whole packets would fill the buffer: the filter cuts them off. */
static void capture_open(void)
{
	struct sock_filter cut = BPF_STMT(BPF_RET | BPF_K, SNAPLEN);
	struct sock_fprog filter = { .len = 1, .filter = &cut };
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int size = BUFFER_BYTES;

	capture = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	assert_true(capture >= 0);
	address.sll_ifindex = if_nametoindex("to-lb");
	assert_int_equal(setsockopt(capture, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)), 0);
	assert_int_equal(setsockopt(capture, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)),
			 0);
	assert_int_equal(bind(capture, (void *)&address, sizeof(address)), 0);
	ping = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	assert_true(ping >= 0);
}

void capture_begin(void)
{
	netns_enter("r");
	capture_open();
	netns_enter(NULL);
}

void capture_end(void)
{
	if (capture >= 0)
		close(capture);
	if (ping >= 0)
		close(ping);
	capture = ping = -1;
}

static void marker_send(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct icmphdr echo = { .type = ICMP_ECHO };
	uint32_t sum;

	marker++;
	echo.un.echo.sequence = htons(marker);
	sum = (uint32_t)htons(ICMP_ECHO << 8) + echo.un.echo.sequence;
	echo.checksum = ~((sum & 0xffff) + (sum >> 16));
	inet_pton(AF_INET, BALANCER, &to.sin_addr);
	assert_int_equal(sendto(ping, &echo, sizeof(echo), 0, (void *)&to, sizeof(to)),
			 sizeof(echo));
}

static void capture_drain(void)
{
	struct tpacket_stats stats;
	socklen_t len = sizeof(stats);
	int kind;

	marker_send();
	do {
		kind = capture_one(WAIT_MS);
		if (kind < 0)
			fail_msg("the balancer does not answer a ping");
	} while (kind != KIND_MARKER);
	assert_int_equal(getsockopt(capture, SOL_PACKET, PACKET_STATISTICS, &stats, &len), 0);
	assert_int_equal(stats.tp_drops, 0);
}

void capture_clear(void)
{
	capture_drain();
	seen = (struct crossing){};
}

struct crossing capture_settle(const struct crossing *expected)
{
	long deadline = now_ms() + 1000;

	while (expected && memcmp(&seen, expected, sizeof(seen)) && now_ms() < deadline)
		(void)capture_one(50);
	capture_drain();
	return seen;
}

void expect_through_balancer(unsigned syns)
{
	struct crossing c = capture_settle(NULL);

	assert_int_equal(c.syns_in, syns);
	assert_int_equal(c.syns_out, syns);
	assert_true(c.tcp_in > syns);
	assert_int_equal(c.tcp_in, c.tcp_out);
	assert_int_equal(c.other, 0);
}

void expect_crossing(unsigned in, unsigned out)
{
	struct crossing expected = { .syns_in = in, .syns_out = out }, got;

	got = capture_settle(&expected);
	if (memcmp(&got, &expected, sizeof(got)))
		fail_msg("SYNs in and out: expected %u %u, saw %u %u; other TCP: %u in, %u out; "
			 "neither: %u",
			 in, out, got.syns_in, got.syns_out, got.tcp_in, got.tcp_out, got.other);
}
