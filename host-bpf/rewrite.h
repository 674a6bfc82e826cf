/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Decision -> rewritten: one end of a packet is replaced, with the checksums.
 *
 * The checksum of TCP or UDP goes through the kernel's helper, which knows whether it is finished, left to
 * the device (only the pseudo-header counts then), or known to the receiver (CHECKSUM_COMPLETE).
 * The IPv4 header's checksum is always finished at TC.
 */
#ifndef SIDESTEP_HOST_REWRITE_H
#define SIDESTEP_HOST_REWRITE_H

#include <sidestep/csum.h>
#include <sidestep/option.h>

#include "maps.h"
#include "packet.h"

enum rewrite_end { REWRITE_SOURCE, REWRITE_DESTINATION };

/* The part of an IPv4 header that changes with an address. */
struct ipv4_tail {
	__u16 check;
	__be32 saddr;
	__be32 daddr;
} __attribute__((packed));

#define IPV4_TAIL_OFFSET (L3_OFFSET + __builtin_offsetof(struct iphdr, check))

static __always_inline long rewrite_ipv4(struct __sk_buff *skb, const struct packet *p,
					 enum rewrite_end end, __be32 to, __u32 addr_csum)
{
	struct ipv4_tail tail = {
		.check = ss_csum_apply(p->ip4->check, addr_csum),
		.saddr = end == REWRITE_SOURCE ? to : p->ip4->saddr,
		.daddr = end == REWRITE_SOURCE ? p->ip4->daddr : to,
	};

	return bpf_skb_store_bytes(skb, IPV4_TAIL_OFFSET, &tail, sizeof(tail), 0);
}

static __always_inline long rewrite_ipv6(struct __sk_buff *skb, enum rewrite_end end,
					 const struct ss_addr *to)
{
	__u32 offset = end == REWRITE_SOURCE ? __builtin_offsetof(struct ipv6hdr, saddr)
					     : __builtin_offsetof(struct ipv6hdr, daddr);

	/* IPv6 has no header checksum to make up for the change in a sum over the packet. */
	return bpf_skb_store_bytes(skb, L3_OFFSET + offset, to, sizeof(*to), BPF_F_RECOMPUTE_CSUM);
}

/* Where a protocol has its checksum, and how the helpers are to treat it. */
struct l4_check {
	__u32 offset;
	__u32 replace; /* flags of bpf_l4_csum_replace() */
	__u32 store; /* flags of bpf_skb_store_bytes() */
};

/* @from, a port at @offset from the TCP or UDP header, becomes @to. */
static __always_inline long rewrite_port(struct __sk_buff *skb, const struct packet *p,
					 __u32 offset, __be16 from, __be16 to,
					 struct l4_check check)
{
	return bpf_skb_store_bytes(skb, p->l4 + offset, &to, sizeof(to), check.store) |
	       bpf_l4_csum_replace(skb, p->l4 + check.offset, from, to, check.replace | sizeof(to));
}

/*
 * Replaces the @end of @p by @to, with the checksum @check. @addr_csum: what the new address adds to a sum. Ends @p's
 * pointers. Only helpers write: a program that stores into packets itself makes the kernel
 * prepare every packet for that, also those that pass untouched.
 */
static __always_inline void rewrite_of(struct __sk_buff *skb, struct packet *p,
				       enum rewrite_end end, const struct ss_endpoint *to,
				       __u32 addr_csum, struct l4_check check)
{
	__u32 port_offset = end == REWRITE_SOURCE ? __builtin_offsetof(struct tcphdr, source)
						  : __builtin_offsetof(struct tcphdr, dest);
	__be16 port = end == REWRITE_SOURCE ? p->tcp->source : p->tcp->dest;
	long err;

	if (p->is_ip6)
		err = rewrite_ipv6(skb, end, &to->addr);
	else
		err = rewrite_ipv4(skb, p, end, to->addr.w[3], addr_csum);
	err |= bpf_l4_csum_replace(skb, p->l4 + check.offset, 0, addr_csum,
				   check.replace | BPF_F_PSEUDO_HDR);
	if (port != to->port)
		err |= rewrite_port(skb, p, port_offset, port, to->port, check);
	if (err)
		count(SS_HOST_error_helper);
}

/* The same for TCP. */
static __always_inline void rewrite(struct __sk_buff *skb, struct packet *p, enum rewrite_end end,
				    const struct ss_endpoint *to, __u32 addr_csum)
{
	rewrite_of(skb, p, end, to, addr_csum, (struct l4_check){ .offset = CHECK_OFFSET });
}

/* The same where nothing is known but what stands there: @from. */
static __always_inline void rewrite_from(struct __sk_buff *skb, struct packet *p,
					 enum rewrite_end end, const struct ss_endpoint *from,
					 const struct ss_endpoint *to)
{
	rewrite(skb, p, end, to, ss_csum_to32(ss_csum_diff_addr(&from->addr, &to->addr)));
}

/*
 * The ExID @from of our option at @offset, in the frame, becomes @to. @l4: the offset of the TCP header. Returns 0,
 * or an error. Ends packet pointers.
 */
static __always_inline long exid_replace(struct __sk_buff *skb, __u32 l4, __u32 offset, __be16 from,
					 __be16 to)
{
	__u32 at = offset + __builtin_offsetof(struct ss_opt_head, exid);

	return bpf_skb_store_bytes(skb, at, &to, sizeof(to), 0) |
	       bpf_l4_csum_replace(skb, l4 + CHECK_OFFSET, 0,
				   ss_csum_at(ss_csum_diff16(from, to), offset - l4), 0);
}

#endif
