/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Echo requests to a service's address are answered here: it is nobody's own address, and people try
 * whether it is there by a ping. The answer goes back the way that the request came.
 */
#ifndef SIDESTEP_LB_ECHO_H
#define SIDESTEP_LB_ECHO_H

#include <sidestep/csum.h>

#include "parse.h"

/* RFC 792, RFC 4443. */
#define ICMP4_ECHO_REQUEST 8
#define ICMP4_ECHO_REPLY 0
#define ICMP6_ECHO_REQUEST 128
#define ICMP6_ECHO_REPLY 129
#define ECHO_TTL 64

static __always_inline int is_echo_request(const struct packet *p)
{
	return p->icmp->type == (p->is_ip6 ? ICMP6_ECHO_REQUEST : ICMP4_ECHO_REQUEST) &&
	       !p->icmp->code;
}

static __always_inline void mac_swap(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

static __always_inline void ipv4_reply(struct iphdr *ip)
{
	__be32 from = ip->saddr;
	__be16 before = SS_BE16(ip->ttl << 8), after = SS_BE16(ECHO_TTL << 8);

	ip->saddr = ip->daddr; /* which leaves the checksum as it is */
	ip->daddr = from;
	ip->check = ss_csum_apply(ip->check, ss_csum_diff16(before, after));
	ip->ttl = ECHO_TTL;
}

static __always_inline void ipv6_reply(struct ipv6hdr *ip)
{
	struct in6_addr from = ip->saddr;

	ip->saddr = ip->daddr;
	ip->daddr = from;
	ip->hop_limit = ECHO_TTL;
}

/* The echo request @p becomes its reply. */
static __always_inline void echo_reply(struct packet *p)
{
	__u8 type = p->is_ip6 ? ICMP6_ECHO_REPLY : ICMP4_ECHO_REPLY;
	__be16 before = SS_BE16(p->icmp->type << 8), after = SS_BE16(type << 8);

	mac_swap(p->eth);
	if (p->is_ip6)
		ipv6_reply(p->ip6);
	else
		ipv4_reply(p->ip4);
	p->icmp->check = ss_csum_apply(p->icmp->check, ss_csum_diff16(before, after));
	p->icmp->type = type;
}

#endif
