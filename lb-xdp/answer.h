/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Decision -> answered: a packet that is not sent on becomes, in its place, a RST or an ICMP error to its
 * sender, from the address that it was sent to. Then nobody waits for what does not come.
 *
 * Each processor sends so many of them a second and no more: who is answered may not have asked.
 */
#ifndef SIDESTEP_LB_ANSWER_H
#define SIDESTEP_LB_ANSWER_H

#include <sidestep/csum.h>
#include <sidestep/icmp.h>

#include "forward.h"
#include "maps.h"
#include "parse.h"

#define ANSWER_TTL 64
#define ANSWER_TOS4 0xc0 /* of ICMP errors: RFC 1812, 4.3.2.5 */
#define ETHERNET_MIN 60 /* what is shorter is padded on the way anyway */

#define ICMP4_UNREACHABLE 3 /* RFC 792 */
#define ICMP4_TOO_BIG 4 /* its code; the MTU follows: RFC 1191, section 4 */
#define ICMP4_NO_PROTOCOL 2
#define ICMP4_NO_PORT 3
#define ICMP6_UNREACHABLE 1 /* RFC 4443 */
#define ICMP6_TOO_BIG 2
#define ICMP6_PROHIBITED 1
#define ICMP6_NO_PORT 4

/* How much of a packet is quoted at most: RFC 1812, 4.3.2.3; RFC 4443, 3.1. */
#define QUOTE4_MAX (576 - sizeof(struct iphdr) - SS_ICMP_HEADER)
#define QUOTE6_MAX (1280 - sizeof(struct ipv6hdr) - SS_ICMP_HEADER)
_Static_assert(QUOTE6_MAX + sizeof(__u32) <= ANSWER_QUOTE, "a quote and its padding fit in");

/* How many are sent by each processor: a second, and at once. */
#define RESETS_A_SECOND 10000
#define ERRORS_A_SECOND 1000 /* as many as Linux sends, icmp_msgs_per_sec */
#define RESETS_AT_ONCE 1000
#define ERRORS_AT_ONCE 100

/* TCP's flags, in the 16-bit word with the header's length (RFC 9293, 3.1). */
#define TCP_RST 0x0004
#define TCP_ACK 0x0010

/* May this processor send one more, every @interval ns, and @burst at once? */
static __always_inline int answer_take(__u32 which, __u64 interval, __u32 burst)
{
	__u64 *full = bpf_map_lookup_elem(&answer_buckets, &which), now, at;

	if (!full)
		return 0;
	now = bpf_ktime_get_coarse_ns();
	at = (*full > now ? *full : now) + interval; /* as in limit.h */
	if (at - now > burst * interval) {
		count(SS_LB_answer_limited);
		return 0;
	}
	*full = at;
	return 1;
}

static __always_inline int is_unicast4(__be32 addr)
{
	__u8 first = SS_BE32(addr) >> 24;

	return first != 0 && first != 127 && first < 224;
}

/* Is @p from one host, and to this one? No answer may go to many (RFC 1122, 3.2.2; RFC 4443, 2.4). */
static __always_inline int is_answerable(const struct packet *p)
{
	const __be32 *from = p->ip6->saddr.in6_u.u6_addr32;

	if (p->eth->h_dest[0] & 1 || p->eth->h_source[0] & 1)
		return 0;
	if (!p->is_ip6)
		return is_unicast4(p->ip4->saddr) && p->ip4->saddr != p->ip4->daddr;
	if (SS_BE32(from[0]) >> 24 == 0xff)
		return 0;
	if (!from[0] && !from[1] && !from[2])
		return 0; /* "::", "::1": no host's, or this one's */
	return from[0] != p->ip6->daddr.in6_u.u6_addr32[0] ||
	       from[1] != p->ip6->daddr.in6_u.u6_addr32[1] ||
	       from[2] != p->ip6->daddr.in6_u.u6_addr32[2] ||
	       from[3] != p->ip6->daddr.in6_u.u6_addr32[3];
}

/* The sum of the @len bytes at @data, at most ANSWER_QUOTE, a multiple of 4. */
static __always_inline __u64 sum_of(void *data, __u32 len)
{
	__u32 sum = 0;

	for (__u32 at = 0; at < ANSWER_QUOTE; at += 256) { /* the helper takes 512 at most */
		__u32 part;

		if (at >= len)
			break;
		part = len - at;
		barrier_var(part);
		if (part > 256)
			part = 256;
		sum = bpf_csum_diff(NULL, 0, data + at, part & ~3U, sum);
	}
	return sum;
}

/* What an Ethernet frame begins with, with a VLAN tag or without. */
struct answer_l2 {
	__u8 to[ETH_ALEN], from[ETH_ALEN];
	__be16 proto;
	struct vlan_header tag;
};

static __always_inline __u32 answer_l2_len(__u32 tagged)
{
	return tagged ? sizeof(struct ethhdr) + sizeof(struct vlan_header) : sizeof(struct ethhdr);
}

/*
 * Makes room in the frame of @ctx for an answer of @len bytes from its IP header on, which is to begin
 * @shift bytes further behind than its own Ethernet header now says; that goes back to where it came from.
 * Returns 0 or -1.
 */
static __always_inline int answer_frame(struct xdp_md *ctx, __u32 tagged, int shift, __u32 len)
{
	__u32 l2_len = answer_l2_len(tagged), wanted = l2_len + len, have;
	struct answer_l2 l2 = {}, *at = (void *)(long)ctx->data;

	if ((void *)(at + 1) > (void *)(long)ctx->data_end)
		return -1;
	__builtin_memcpy(l2.to, at->from, ETH_ALEN);
	__builtin_memcpy(l2.from, at->to, ETH_ALEN);
	l2.proto = at->proto;
	l2.tag = at->tag;
	if (shift && bpf_xdp_adjust_head(ctx, shift))
		return -1;
	have = bpf_xdp_get_buff_len(
		ctx); /* the verifier does not follow what a difference of pointers makes */
	if (wanted < ETHERNET_MIN)
		wanted = ETHERNET_MIN;
	if (have > wanted && bpf_xdp_adjust_tail(ctx, (int)(wanted - have)))
		return -1;
	at = (void *)(long)ctx->data;
	if ((void *)(at + 1) > (void *)(long)ctx->data_end)
		return -1;
	__builtin_memcpy(at, &l2, sizeof(struct ethhdr));
	if (tagged)
		at->tag = l2.tag;
	return 0;
}

/* An IPv4 header for @len bytes in all, from whom @to's packet was for. */
static __always_inline void answer_ipv4(struct iphdr *ip, const struct iphdr *to, __u32 len,
					__u8 protocol, __u8 tos)
{
	__u64 sum = 0;

	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tos = tos,
		.tot_len = SS_BE16(len),
		.frag_off =
			SS_BE16(0x4000), /* may not be fragmented, so it needs no id (RFC 6864) */
		.ttl = ANSWER_TTL,
		.protocol = protocol,
		.saddr = to->daddr,
		.daddr = to->saddr,
	};
	sum = bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0);
	ip->check = ss_csum_fold(sum);
}

/* The same for IPv6, and what its addresses, and the rest of the pseudo-header, add to a sum. */
static __always_inline __u64 answer_ipv6(struct ipv6hdr *ip, const struct ipv6hdr *to, __u32 len,
					 __u8 protocol)
{
	__u32 payload = len - sizeof(*ip);

	*ip = (struct ipv6hdr){
		.version = 6,
		.payload_len = SS_BE16(payload),
		.nexthdr = protocol,
		.hop_limit = ANSWER_TTL,
		.saddr = to->daddr,
		.daddr = to->saddr,
	};
	return (__u64)bpf_csum_diff(NULL, 0, (__be32 *)&ip->saddr, 2 * sizeof(ip->saddr), 0) +
	       SS_BE16(payload) + SS_BE16(protocol);
}

/* Writes the IP header and ICMP's of an error about what is quoted behind them. Returns 0 or -1. */
static __always_inline int answer_icmp_write(struct xdp_md *ctx, const void *quote, __u32 tagged,
					     __u64 is_ip6, struct icmp_header icmp, __u64 sum,
					     __u32 len)
{
	void *l3 = (void *)(long)ctx->data + answer_l2_len(tagged);
	void *end = (void *)(long)ctx->data_end;
	struct icmp_header *at;

	if (is_ip6) {
		struct ipv6hdr *ip = l3;

		at = (void *)(ip + 1);
		if ((void *)(at + 1) > end)
			return -1;
		sum += answer_ipv6(ip, quote, len, IPPROTO_ICMPV6);
	} else {
		struct iphdr *ip = l3;

		at = (void *)(ip + 1);
		if ((void *)(at + 1) > end)
			return -1;
		answer_ipv4(ip, quote, len, IPPROTO_ICMP, ANSWER_TOS4);
	}
	sum += SS_BE16(icmp.type << 8 | icmp.code) + (__u64)icmp.rest;
	icmp.check = ss_csum_fold(sum);
	*at = icmp;
	return 0;
}

/*
 * The packet that begins @at bytes into the frame becomes an ICMP error about itself: of type and code
 * @what (the type shifted left by 8), with @rest (network order) in the header. Returns 0, or -1: the frame
 * is no good any more. A global function, which the verifier looks at once, whatever led here.
 */
__noinline int answer_icmp(struct xdp_md *ctx, __u32 at, __u32 tagged, __u32 what, __u32 rest)
{
	struct icmp_header icmp = { .type = what >> 8, .code = what, .rest = rest };
	__u32 zero = 0, len, header, most;
	__u8 *quote = bpf_map_lookup_elem(&answer_quote, &zero);
	__u64 is_ip6, sum;

	if (!quote || bpf_xdp_load_bytes(ctx, at, quote, sizeof(struct iphdr)))
		return -1;
	is_ip6 = quote[0] >> 4 == 6;
	if (is_ip6) {
		len = SS_BE16(((struct ipv6hdr *)quote)->payload_len) + sizeof(struct ipv6hdr);
		header = sizeof(struct ipv6hdr) + SS_ICMP_HEADER;
		most = QUOTE6_MAX;
	} else {
		len = SS_BE16(((struct iphdr *)quote)->tot_len);
		header = sizeof(struct iphdr) + SS_ICMP_HEADER;
		most = QUOTE4_MAX;
	}
	if (len > most)
		len = most;
	barrier_var(len); /* kernel 6.1 learns no bounds from a combined comparison */
	if (len > QUOTE6_MAX)
		return -1;
	barrier_var(len);
	if (len < sizeof(struct iphdr))
		return -1;
	if (bpf_xdp_load_bytes(ctx, at, quote, len))
		return -1;
	__builtin_memset(quote + len, 0, sizeof(__u32));
	sum = sum_of(quote, len + 3);
	if (answer_frame(ctx, tagged, (int)at - (int)(answer_l2_len(tagged) + header),
			 header + len))
		return -1;
	return answer_icmp_write(ctx, quote, tagged, is_ip6, icmp, sum, header + len);
}

/* What a RST says to a packet (RFC 9293, 3.10.7.1) with @tcp, of @len bytes from that header on. */
static __always_inline void reset_fill(struct tcphdr *rst, const struct tcphdr *tcp, __u32 len)
{
	__be16 *flags = (__be16 *)rst + 6;

	*rst = (struct tcphdr){ .source = tcp->dest, .dest = tcp->source };
	if (tcp->ack) {
		rst->seq = tcp->ack_seq;
		*flags = SS_BE16(5 << 12 | TCP_RST);
		return;
	}
	len = len - tcp->doff * 4 + tcp->syn + tcp->fin;
	rst->ack_seq = SS_BE32(SS_BE32(tcp->seq) + len);
	*flags = SS_BE16(5 << 12 | TCP_RST | TCP_ACK);
}

/*
 * The TCP packet whose IP header begins @l3 bytes into the frame, and its TCP header @l4, becomes the RST
 * that answers it. Otherwise as answer_icmp().
 */
__noinline int answer_reset(struct xdp_md *ctx, __u32 l4, __u32 tagged)
{
	__u32 zero = 0, l3 = answer_l2_len(tagged), len;
	__u8 *copy = bpf_map_lookup_elem(&answer_quote, &zero);
	struct ipv6hdr *ip6 = (void *)copy;
	struct iphdr *ip4 = (void *)copy;
	struct tcphdr *tcp, rst;
	__u64 sum;
	void *at;

	if (!copy || bpf_xdp_load_bytes(ctx, l3, copy, sizeof(*ip6)))
		return -1;
	tcp = (void *)(copy + sizeof(*ip6));
	if (bpf_xdp_load_bytes(ctx, l4, tcp, sizeof(*tcp)))
		return -1;
	if (ip4->version == 6) {
		reset_fill(&rst, tcp, l3 + sizeof(*ip6) + SS_BE16(ip6->payload_len) - l4);
		len = sizeof(*ip6) + sizeof(rst);
	} else {
		reset_fill(&rst, tcp, l3 + SS_BE16(ip4->tot_len) - l4);
		len = sizeof(*ip4) + sizeof(rst);
	}
	if (answer_frame(ctx, tagged, 0, len))
		return -1;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&rst, sizeof(rst), 0);
	at = (void *)(long)ctx->data + l3;
	if (ip4->version == 6) {
		struct ipv6hdr *ip = at;

		at = ip + 1;
		if (at + sizeof(rst) > (void *)(long)ctx->data_end)
			return -1;
		sum += answer_ipv6(ip, ip6, len, IPPROTO_TCP);
	} else {
		struct iphdr *ip = at;

		at = ip + 1;
		if (at + sizeof(rst) > (void *)(long)ctx->data_end)
			return -1;
		answer_ipv4(ip, ip4, len, IPPROTO_TCP, 0);
		sum += (__u64)ip->saddr + ip->daddr + SS_BE16(IPPROTO_TCP) + SS_BE16(sizeof(rst));
	}
	rst.check = ss_csum_fold(sum);
	*(struct tcphdr *)at = rst;
	return 0;
}

/* Answers @p by a RST, if it is of TCP and none itself. Returns an XDP action. */
static __noinline int reset_send(struct xdp_md *ctx, const struct packet *p)
{
	if (p->dst.protocol == SS_UDP || (void *)(p->tcp + 1) > p->end || p->tcp->rst ||
	    !is_answerable(p) || !answer_take(0, NSEC_PER_SEC / RESETS_A_SECOND, RESETS_AT_ONCE))
		return XDP_DROP;
	if (answer_reset(ctx, (void *)p->tcp - (void *)p->eth, p->tagged)) {
		count(SS_LB_error_helper);
		return XDP_DROP;
	}
	count(SS_LB_answered_reset);
	return XDP_TX;
}

/* Answers @p by the ICMP error @what (as answer_icmp()), with @rest, and counts @counter. Returns an XDP action. */
static __always_inline int error_send(struct xdp_md *ctx, const struct packet *p, __u32 what,
				      __u32 rest, enum ss_lb_counter counter)
{
	if (!is_answerable(p) || !answer_take(1, NSEC_PER_SEC / ERRORS_A_SECOND, ERRORS_AT_ONCE))
		return XDP_DROP;
	if (answer_icmp(ctx, answer_l2_len(p->tagged), p->tagged, what, rest)) {
		count(SS_LB_error_helper);
		return XDP_DROP;
	}
	count(counter);
	return XDP_TX;
}

/* Answers @p, neither ICMP nor a fragment, by "destination unreachable". Returns an XDP action. */
static __noinline int unreachable_send(struct xdp_md *ctx, const struct packet *p, int has_ports)
{
	__u32 what;

	if (p->is_ip6)
		what = ICMP6_UNREACHABLE << 8 | (has_ports ? ICMP6_NO_PORT : ICMP6_PROHIBITED);
	else
		what = ICMP4_UNREACHABLE << 8 | (has_ports ? ICMP4_NO_PORT : ICMP4_NO_PROTOCOL);
	return error_send(ctx, p, what, 0, SS_LB_answered_unreachable);
}

/*
 * Answers @p, neither ICMP nor a fragment, by "fragmentation needed" or "packet too big" (RFC 4443, 3.2):
 * packets of @mtu bytes would fit. Returns an XDP action.
 */
static __noinline int too_big_send(struct xdp_md *ctx, const struct packet *p, __u32 mtu)
{
	__u32 what = p->is_ip6 ? ICMP6_TOO_BIG << 8 : ICMP4_UNREACHABLE << 8 | ICMP4_TOO_BIG;

	return error_send(ctx, p, what, SS_BE32(mtu), SS_LB_answered_too_big);
}

#endif
