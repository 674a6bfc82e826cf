/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Wire -> parsed, at TC: where the headers of a TCP or UDP packet are, and who it is from and for.
 *
 * Packets that are not plain ones in IPv4 or IPv6 (fragments, extension headers, VLAN tags in the
 * frame) are none of ours: the kernel's own TCP does not send them, and a SYN that comes so is not
 * redirected. But inside of a host, a TCP packet of more than 64 kB in IPv6 ("BIG TCP") may have one
 * header before TCP, which says its length: it goes when the packet is cut, for the wire.
 */
#ifndef SIDESTEP_HOST_PACKET_H
#define SIDESTEP_HOST_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>

#include <sidestep/addr.h>
#include <sidestep/option.h>

#define IP_FRAGMENT SS_BE16(0x3fff) /* RFC 791: more-fragments bit and fragment offset */
#define L3_OFFSET ((__u32)sizeof(struct ethhdr))
#define CHECK_OFFSET __builtin_offsetof(struct tcphdr, check)

/* Headers of a TCP or UDP packet. The pointers end with the next helper that may change the packet. */
struct packet {
	__u64 is_ip6; /* a scalar: the verifier does not learn from comparing packet pointers */
	struct ethhdr *eth;
	struct iphdr *ip4;
	struct ipv6hdr *ip6;
	union {
		struct tcphdr *tcp;
		struct udphdr *udp;
	};
	__u32 l4; /* offset of the TCP or UDP header in the frame */
};

/* RFC 2675: hop-by-hop options that are a jumbo payload option, as the kernel writes them. */
struct jumbo_header {
	__u8 nexthdr;
	__u8 hdrlen; /* 0: 8 bytes */
	__u8 option; /* 0xc2 */
	__u8 option_len; /* 4 */
	__be32 payload_len;
};

/* Does @jumbo say that a packet of @proto follows? */
static __always_inline int jumbo_is_before(const struct jumbo_header *jumbo, __u8 proto)
{
	return jumbo->nexthdr == proto && !jumbo->hdrlen && jumbo->option == 0xc2 &&
	       jumbo->option_len == 4;
}

/* The header of the protocol @proto, a constant. */
static __always_inline __u32 l4_length(__u8 proto)
{
	return proto == IPPROTO_UDP ? sizeof(struct udphdr) : sizeof(struct tcphdr);
}

/* Returns 1 with *@p set, or 0 if @skb is not a packet of @proto that these programs look at. */
static __always_inline int packet_headers_of(struct __sk_buff *skb, struct packet *p, __u8 proto)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	void *l3 = data + L3_OFFSET;

	p->eth = data;
	if (skb->protocol == SS_BE16(ETH_P_IP)) {
		struct iphdr *ip = l3;

		if ((void *)(ip + 1) > end || ip->protocol != proto || ip->ihl < 5 ||
		    ip->frag_off & IP_FRAGMENT)
			return 0;
		p->is_ip6 = 0;
		p->ip4 = ip;
		p->l4 = L3_OFFSET + ip->ihl * 4;
	} else if (skb->protocol == SS_BE16(ETH_P_IPV6)) {
		struct ipv6hdr *ip = l3;

		if ((void *)(ip + 1) > end)
			return 0;
		p->is_ip6 = 1;
		p->ip6 = ip;
		p->l4 = L3_OFFSET + sizeof(*ip);
		if (ip->nexthdr != proto) {
			struct jumbo_header *jumbo = (void *)(ip + 1);

			if (proto != IPPROTO_TCP || ip->nexthdr != IPPROTO_HOPOPTS ||
			    (void *)(jumbo + 1) > end || !jumbo_is_before(jumbo, proto))
				return 0;
			p->l4 += sizeof(*jumbo);
		}
	} else {
		return 0;
	}
	p->tcp = data + p->l4;
	return (void *)p->tcp + l4_length(proto) <= end;
}

static __always_inline int packet_headers(struct __sk_buff *skb, struct packet *p)
{
	return packet_headers_of(skb, p, IPPROTO_TCP);
}

/*
 * The same, for packets whose headers the driver may have left outside of the linear part. No driver
 * has packets with a jumbo header.
 */
static __always_inline int packet_parse_of(struct __sk_buff *skb, struct packet *p, __u8 proto)
{
	__u32 end4 = L3_OFFSET + sizeof(struct iphdr) + l4_length(proto);
	__u32 end6 = L3_OFFSET + sizeof(struct ipv6hdr) + l4_length(proto);

	if (packet_headers_of(skb, p, proto))
		return 1;
	if ((void *)(long)skb->data + end6 <= (void *)(long)skb->data_end)
		return 0;
	if (bpf_skb_pull_data(skb, end6) && bpf_skb_pull_data(skb, end4))
		return 0;
	return packet_headers_of(skb, p, proto);
}

static __always_inline int packet_parse(struct __sk_buff *skb, struct packet *p)
{
	return packet_parse_of(skb, p, IPPROTO_TCP);
}

/* Loads the TCP options into @c. Returns 0 if there are none that could be ours. */
static __always_inline int packet_options(struct __sk_buff *skb, const struct packet *p,
					  struct ss_opt_cursor *c)
{
	__u32 len = p->tcp->doff * 4 - sizeof(struct tcphdr);

	barrier_var(len);
	if (len > SS_TCP_OPTS_MAX)
		return 0;
	barrier_var(len); /* two comparisons: kernel 6.1 learns no bound from a combined one */
	if (len < sizeof(struct ss_opt_head))
		return 0;
	if (bpf_skb_load_bytes(skb, p->l4 + sizeof(struct tcphdr), c->opts, len))
		return 0;
	c->len = len;
	return 1;
}

static __always_inline struct ss_addr packet_addr6(const struct in6_addr *addr)
{
	struct ss_addr copy;

	__builtin_memcpy(&copy, addr, sizeof(copy));
	return copy;
}

static __always_inline struct ss_endpoint packet_source(const struct packet *p)
{
	return (struct ss_endpoint){
		.addr = p->is_ip6 ? packet_addr6(&p->ip6->saddr) : ss_addr_v4(p->ip4->saddr),
		.port = p->tcp->source,
	};
}

static __always_inline struct ss_endpoint packet_destination(const struct packet *p)
{
	return (struct ss_endpoint){
		.addr = p->is_ip6 ? packet_addr6(&p->ip6->daddr) : ss_addr_v4(p->ip4->daddr),
		.port = p->tcp->dest,
	};
}

#endif
