/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Builds test packets, byte by byte, with right checksums: for the packet-in/packet-out tests and
 * the benchmark. Deliberately apart from the code under test: it shares only the wire format.
 */
#ifndef SIDESTEP_TEST_PACKET_H
#define SIDESTEP_TEST_PACKET_H

#include <stdint.h>

#include <sidestep/addr.h>

#define PACKET_MAX 2048

struct packet_buf {
	uint8_t bytes[PACKET_MAX];
	unsigned len;
	unsigned l3; /* offset of the IP header */
	unsigned l4; /* offset of the TCP or ICMP header */
};

/* What packet_build() puts into a packet. */
struct packet_spec {
	const char *src, *dst; /* "10.0.0.1:1234", "[fd00::1]:1234" */
	const char *flags; /* letters of "SAFRP" */
	const void *options; /* TCP options; their length is rounded up to 4 with end-of-list */
	unsigned options_len;
	const void *payload;
	unsigned payload_len;
	const void *ip_options; /* IPv4 options (multiple of 4), or IPv6 extension headers (of 8) */
	unsigned ip_options_len;
	uint8_t ip6_next; /* with IPv6 extension headers: the type of the first */
	uint16_t vlan; /* 0: no VLAN tag */
	uint32_t seq, ack;
	uint8_t ttl; /* 0: 64 */
};

/* Builds the packet that @spec describes. Asserts that it is well formed. */
void packet_build(struct packet_buf *p, const struct packet_spec *spec);

/* An ICMP or ICMPv6 error. */
struct icmp_spec {
	const char *src, *dst; /* as in packet_spec; the ports do not matter */
	uint8_t type, code;
	unsigned quoted; /* how many bytes of the TCP packet are quoted; 0: all */
	const void *ip_options; /* these, and what follows, as in packet_spec */
	unsigned ip_options_len;
	uint8_t ip6_next;
	uint8_t ttl;
};

/* Builds the error that @spec describes about the packet @about. */
void packet_build_icmp(struct packet_buf *p, const struct icmp_spec *spec,
		       const struct packet_buf *about);

/* An outer header, of its addresses' IP version: IP in IP, or GUE if there is a UDP source port. */
struct wrap_spec {
	const char *src, *dst; /* addresses */
	uint16_t sport;
	uint8_t tos, ttl;
};

/* Wraps the IP packet @p, which has no VLAN tag or one. Afterwards its l3 is the outer header's offset, and l4 what follows that. */
void packet_wrap(struct packet_buf *p, const struct wrap_spec *spec);

/* Builds a UDP packet with @len bytes at @payload. */
void packet_build_udp(struct packet_buf *p, const char *src, const char *dst, const void *payload,
		      unsigned len);

/*
 * The full request of a client at @client that dialled @vip ("10.0.0.1:80", "[fd00::1]:80"), of the @word
 * SS_OPT_ARMED or another. Returns its length in bytes.
 */
unsigned packet_request(const char *vip, const char *client, unsigned word, uint8_t out[20]);

/* Sets the checksum of the IPv4 header @ip. */
void ipv4_checksum(uint8_t *ip);

/* Sets the IP header's checksum (IPv4) and the TCP checksum after bytes were changed. */
void packet_checksum(struct packet_buf *p);

/* 1 if the IP header's and the TCP checksum are right. */
int packet_checksum_ok(const struct packet_buf *p);

/* Source and destination of @p as text in static buffers. */
const char *packet_src(const struct packet_buf *p);
const char *packet_dst(const struct packet_buf *p);

#endif
