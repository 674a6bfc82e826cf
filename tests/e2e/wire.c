// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "wire.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "hosts.h"

#define BUFFER_BYTES (16 << 20)
#define KIND_EXPERIMENTAL 253

static int tap = -1, raw4 = -1, raw6 = -1;

#define LOAD_HALF(offset) BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offset)
#define IF_EQUAL(value, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, otherwise)

/* Of the traffic that runs beside, nothing: it would fill the buffer. */
static void tap_filter(uint16_t port)
{
	struct sock_filter code[] = {
		LOAD_HALF(12),
		IF_EQUAL(ETH_P_IP, 0, 4), /* without options */
		LOAD_HALF(ETH_HLEN + 20),
		IF_EQUAL(port, 7, 0),
		LOAD_HALF(ETH_HLEN + 22),
		IF_EQUAL(port, 5, 6),
		IF_EQUAL(ETH_P_IPV6, 0, 5),
		LOAD_HALF(ETH_HLEN + 40),
		IF_EQUAL(port, 2, 0),
		LOAD_HALF(ETH_HLEN + 42),
		IF_EQUAL(port, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, PACKET_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog filter = { .len = sizeof(code) / sizeof(*code), .filter = code };

	assert_int_equal(setsockopt(tap, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)), 0);
}

void wire_begin(const char *interface, uint16_t port)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int size = BUFFER_BYTES, on = 1;

	wire_end(); /* of a failed case */
	netns_enter("r");
	tap = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	raw4 = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	raw6 = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	address.sll_ifindex = if_nametoindex(interface);
	netns_enter(NULL);
	assert_true(tap >= 0 && raw4 >= 0 && raw6 >= 0);
	assert_int_equal(setsockopt(tap, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)), 0);
	assert_int_equal(setsockopt(tap, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)), 0);
	tap_filter(port);
	assert_int_equal(bind(tap, (void *)&address, sizeof(address)), 0);
}

void wire_end(void)
{
	if (tap >= 0)
		close(tap);
	if (raw4 >= 0)
		close(raw4);
	if (raw6 >= 0)
		close(raw6);
	tap = raw4 = raw6 = -1;
}

void wire_send_buf(const struct packet_buf *p)
{
	const uint8_t *ip = p->bytes + p->l3;
	size_t len = p->len - p->l3;

	if (ip[0] >> 4 == 4) {
		struct sockaddr_in to = { .sin_family = AF_INET };

		memcpy(&to.sin_addr, ip + 16, sizeof(to.sin_addr));
		assert_int_equal(sendto(raw4, ip, len, 0, (void *)&to, sizeof(to)), len);
	} else {
		struct sockaddr_in6 to = { .sin6_family = AF_INET6 };

		memcpy(&to.sin6_addr, ip + 24, sizeof(to.sin6_addr));
		assert_int_equal(sendto(raw6, ip, len, 0, (void *)&to, sizeof(to)), len);
	}
}

void wire_send(const struct packet_spec *spec)
{
	struct packet_buf p;

	packet_build(&p, spec);
	wire_send_buf(&p);
}

static void packet_read(struct wire_packet *packet)
{
	const uint8_t *ip = packet->buf.bytes + ETH_HLEN;
	bool ip6 = ip[0] >> 4 == 6;
	struct tcphdr tcp;
	unsigned ip_len;

	packet->buf.l3 = ETH_HLEN;
	packet->buf.l4 = ETH_HLEN + (ip6 ? 40 : (ip[0] & 15) * 4);
	memcpy(&tcp, packet->buf.bytes + packet->buf.l4, sizeof(tcp));
	ip_len = ip6 ? 40 + (ip[4] << 8 | ip[5]) : ip[2] << 8 | ip[3];
	packet->payload_len = ETH_HLEN + ip_len - packet->buf.l4 - tcp.doff * 4;
	packet->seq = ntohl(tcp.seq);
	packet->ack = ntohl(tcp.ack_seq);
	snprintf(packet->flags, sizeof(packet->flags), "%s%s%s%s%s", tcp.fin ? "F" : "",
		 tcp.syn ? "S" : "", tcp.rst ? "R" : "", tcp.psh ? "P" : "", tcp.ack ? "A" : "");
	snprintf(packet->src, sizeof(packet->src), "%s", packet_src(&packet->buf));
	snprintf(packet->dst, sizeof(packet->dst), "%s", packet_dst(&packet->buf));
}

bool wire_next(struct wire_packet *packet, int ms)
{
	struct pollfd p = { .fd = tap, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, ms) != 1)
		return false;
	*packet = (struct wire_packet){};
	n = recv(tap, packet->buf.bytes, PACKET_MAX, 0);
	assert_true(n >= ETH_HLEN + 40);
	packet->buf.len = n;
	packet_read(packet);
	return true;
}

void wire_expect(struct wire_packet *packet, const char *flags)
{
	do {
		if (!wire_next(packet, WAIT_MS))
			fail_msg("no packet with the flags %s", flags);
	} while (strcmp(packet->flags, flags));
}

const uint8_t *wire_option(const struct wire_packet *packet)
{
	const uint8_t *tcp = packet->buf.bytes + packet->buf.l4, *end = tcp + (tcp[12] >> 4) * 4;
	const uint8_t *option = tcp + 20;

	while (option < end && *option && *option != KIND_EXPERIMENTAL)
		option += *option == 1 ? 1 : option[1];
	return option < end && *option ? option : NULL;
}
