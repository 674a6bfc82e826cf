/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Wire -> parsed: from an Ethernet frame to the addresses and the TCP or ICMP header of a packet
 * that may be for a service, or to those of a UDP packet. Step 2 of a connection begins here.
 *
 * Every length that a packet states is checked against the bytes that are there. What cannot be
 * read is told apart from what is none of ours: only the caller, who knows the services, drops.
 */
#ifndef SIDESTEP_LB_PARSE_H
#define SIDESTEP_LB_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>

#include <sidestep/addr.h>

#define IP_OFFSET_OR_MORE SS_BE16(0x3fff) /* RFC 791: more-fragments bit and fragment offset */
#define IP_OFFSET SS_BE16(0x1fff)
#define IPV6_EXT_MAX 4 /* extension headers that are stepped over */

enum parse_result {
	PARSE_TCP, /* all fields are set */
	PARSE_ICMP, /* all fields are set, but dst has no port */
	PARSE_UDP, /* all fields are set */
	PARSE_OTHER, /* not IP, neither TCP nor UDP nor ICMP, or nothing that this program understands */
	PARSE_SHORT, /* the packet ends within its Ethernet or IP header */
	PARSE_BAD_IP, /* the IP header contradicts itself */
	PARSE_BAD_TCP, /* the TCP header is cut off or contradicts itself; dst is set */
	PARSE_BAD_UDP, /* the same of UDP */
	PARSE_FRAGMENT, /* an IP fragment, of whatever protocol; dst is set, but for its port */
};

/* The beginning of an ICMP or ICMPv6 message. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 rest; /* depends on the type */
};

/*
 * ip6 is set if is_ip6, else ip4; tcp, udp or icmp, by what was parsed. dst is the service endpoint, if
 * there is such a service. own_source: it is now from the balancer itself (encap.h, nat.h).
 */
struct packet {
	__u64 is_ip6; /* a scalar: the verifier does not learn from comparing packet pointers */
	__u32 tagged; /* 1: there is a VLAN tag */
	__u32 own_source;
	struct ethhdr *eth;
	struct iphdr *ip4;
	struct ipv6hdr *ip6;
	union {
		struct tcphdr *tcp;
		struct udphdr *udp;
		struct icmp_header *icmp;
	};
	void *end;
	struct ss_endpoint dst;
};

struct vlan_header {
	__be16 tci;
	__be16 proto;
};

/* Extension headers that are one length byte in units of 8 (RFC 8200, section 4). */
struct ipv6_ext {
	__u8 next;
	__u8 len;
};

/*
 * @at again, a place in the first 16 kB of the frame, so that the verifier forgets how it was found:
 * otherwise it follows all that comes behind IPv6 extension headers once for each number of them.
 */
static __always_inline void *place_again(const struct packet *p, void *at)
{
	__u64 offset;

	barrier_var(at);
	offset = at - (void *)p->eth;
	return (void *)p->eth + (offset & 0x3fff);
}

/* @room: how many bytes the IP header leaves for TCP; what follows them is padding. */
static __always_inline enum parse_result parse_tcp(struct packet *p, void *l4, __s32 room)
{
	struct tcphdr *tcp = place_again(p, l4);

	if ((void *)(tcp + 1) > p->end)
		return PARSE_BAD_TCP;
	if (tcp->doff < 5 || tcp->doff * 4 > room)
		return PARSE_BAD_TCP;
	p->tcp = tcp;
	p->dst.port = tcp->dest;
	return PARSE_TCP;
}

/* ICMP is worth a look if there may be a quote in it; everything else is the kernel's. */
static __always_inline enum parse_result parse_icmp(struct packet *p, void *l4)
{
	struct icmp_header *icmp = place_again(p, l4);

	if ((void *)(icmp + 1) > p->end)
		return PARSE_OTHER;
	p->icmp = icmp;
	return PARSE_ICMP;
}

/* @room as for parse_tcp(). */
static __always_inline enum parse_result parse_udp(struct packet *p, void *l4, __s32 room)
{
	struct udphdr *udp = place_again(p, l4);
	__s32 len;

	if ((void *)(udp + 1) > p->end)
		return PARSE_BAD_UDP;
	len = SS_BE16(udp->len);
	if (len < (__s32)sizeof(*udp) || len > room)
		return PARSE_BAD_UDP;
	p->udp = udp;
	p->dst.port = udp->dest;
	p->dst.protocol = SS_UDP;
	return PARSE_UDP;
}

static __always_inline enum parse_result parse_ipv4(struct packet *p, void *l3)
{
	struct iphdr *ip = l3;
	__u32 header, total;

	if ((void *)(ip + 1) > p->end)
		return PARSE_SHORT;
	header = ip->ihl * 4;
	total = SS_BE16(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || total < header)
		return PARSE_BAD_IP;
	if (l3 + total > p->end)
		return PARSE_SHORT;
	p->ip4 = ip;
	p->dst.addr = ss_addr_v4(ip->daddr);
	if (ip->frag_off & IP_OFFSET_OR_MORE)
		return PARSE_FRAGMENT;
	if (ip->protocol == IPPROTO_UDP)
		return parse_udp(p, l3 + header, total - header);
	if (ip->protocol != IPPROTO_TCP)
		return ip->protocol == IPPROTO_ICMP ? parse_icmp(p, l3 + header) : PARSE_OTHER;
	return parse_tcp(p, l3 + header, total - header);
}

static __always_inline enum parse_result parse_ipv6(struct packet *p, void *l3)
{
	struct ipv6hdr *ip = l3;
	void *l4 = ip + 1;
	__s32 room;
	__u8 next;

	if (l4 > p->end)
		return PARSE_SHORT;
	if (ip->version != 6)
		return PARSE_BAD_IP;
	room = SS_BE16(ip->payload_len);
	barrier_var(room); /* the compiler knows this bound; kernel 6.1 loses it in a byte swap */
	room &= 0xffff;
	if (l4 + room > p->end)
		return PARSE_SHORT;
	p->ip6 = ip;
	p->is_ip6 = 1;
	__builtin_memcpy(&p->dst.addr, &ip->daddr, sizeof(p->dst.addr));
	next = ip->nexthdr;
	for (int i = 0; i < IPV6_EXT_MAX; i++) {
		struct ipv6_ext *ext = l4;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT)
			break;
		if ((void *)(ext + 1) > p->end)
			return PARSE_SHORT;
		if (next == IPPROTO_FRAGMENT)
			return PARSE_FRAGMENT;
		next = ext->next;
		l4 += (ext->len + 1) * 8;
		room -= (ext->len + 1) * 8;
	}
	if (next == IPPROTO_UDP)
		return parse_udp(p, l4, room);
	if (next != IPPROTO_TCP)
		return next == IPPROTO_ICMPV6 ? parse_icmp(p, l4) : PARSE_OTHER;
	return parse_tcp(p, l4, room);
}

/* Parses the frame of @ctx into *@p, which starts out as zeroes. One VLAN tag is stepped over. */
static __always_inline enum parse_result parse_frame(struct xdp_md *ctx, struct packet *p)
{
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	void *l3 = eth + 1;
	__be16 proto;

	p->eth = eth;
	p->end = (void *)(long)ctx->data_end;
	if (l3 > p->end)
		return PARSE_SHORT;
	proto = eth->h_proto;
	if (proto == SS_BE16(ETH_P_8021Q) || proto == SS_BE16(ETH_P_8021AD)) {
		struct vlan_header *vlan = l3;

		l3 = vlan + 1;
		if (l3 > p->end)
			return PARSE_SHORT;
		proto = vlan->proto;
		p->tagged = 1;
	}
	if (proto == SS_BE16(ETH_P_IP))
		return parse_ipv4(p, l3);
	if (proto == SS_BE16(ETH_P_IPV6))
		return parse_ipv6(p, l3);
	return PARSE_OTHER;
}

/* Does the TCP packet @p begin a connection? */
static __always_inline int is_syn(const struct packet *p)
{
	return p->tcp->syn && !p->tcp->ack;
}

/* The bytes of @p from its IP header on. */
static __always_inline __u32 packet_len(const struct packet *p)
{
	return p->is_ip6 ? SS_BE16(p->ip6->payload_len) + sizeof(struct ipv6hdr)
			 : SS_BE16(p->ip4->tot_len);
}

#endif
