/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Wire -> parsed, at TC: where a TCP packet's headers are, and who it is from and for.
 *
 * Packets that are no plain TCP in IPv4 or IPv6 (fragments, extension headers, VLAN tags in the
 * frame) are none of ours: the kernel's own TCP does not send them, and a SYN that comes so is not
 * redirected.
 */
#ifndef SIDESTEP_HOST_PACKET_H
#define SIDESTEP_HOST_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>

#include <sidestep/addr.h>
#include <sidestep/option.h>

#define IP_FRAGMENT SS_BE16(0x3fff) /* RFC 791: more-fragments bit and fragment offset */
#define L3_OFFSET ((__u32)sizeof(struct ethhdr))
#define CHECK_OFFSET __builtin_offsetof(struct tcphdr, check)

/* Headers of a TCP packet. The pointers end with the next helper that may change the packet. */
struct packet {
	__u64 is_ip6; /* a scalar: the verifier does not learn from comparing packet pointers */
	struct ethhdr *eth;
	struct iphdr *ip4;
	struct ipv6hdr *ip6;
	struct tcphdr *tcp;
	__u32 l4; /* offset of the TCP header in the frame */
};

/* Returns 1 with *@p set, or 0 if @skb is not a TCP packet that these programs look at. */
static __always_inline int packet_headers(struct __sk_buff *skb, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	void *l3 = data + L3_OFFSET;

	p->eth = data;
	if (skb->protocol == SS_BE16(ETH_P_IP)) {
		struct iphdr *ip = l3;

		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP || ip->ihl < 5 ||
		    ip->frag_off & IP_FRAGMENT)
			return 0;
		p->is_ip6 = 0;
		p->ip4 = ip;
		p->l4 = L3_OFFSET + ip->ihl * 4;
	} else if (skb->protocol == SS_BE16(ETH_P_IPV6)) {
		struct ipv6hdr *ip = l3;

		if ((void *)(ip + 1) > end || ip->nexthdr != IPPROTO_TCP)
			return 0;
		p->is_ip6 = 1;
		p->ip6 = ip;
		p->l4 = L3_OFFSET + sizeof(*ip);
	} else {
		return 0;
	}
	p->tcp = data + p->l4;
	return (void *)(p->tcp + 1) <= end;
}

/* The same, for packets whose headers the driver may have left outside of the linear part. */
static __always_inline int packet_parse(struct __sk_buff *skb, struct packet *p)
{
	if (packet_headers(skb, p))
		return 1;
	if ((void *)(long)skb->data + L3_OFFSET + sizeof(struct ipv6hdr) + sizeof(struct tcphdr) <=
	    (void *)(long)skb->data_end)
		return 0;
	if (bpf_skb_pull_data(skb, L3_OFFSET + sizeof(struct ipv6hdr) + sizeof(struct tcphdr)) &&
	    bpf_skb_pull_data(skb, L3_OFFSET + sizeof(struct iphdr) + sizeof(struct tcphdr)))
		return 0;
	return packet_headers(skb, p);
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
