/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 9, for a connection that has left its direct path: filters on the balancer path, which have not seen
 * what the direct one carried, are told how far the client is.
 */
#ifndef SIDESTEP_HOST_CATCH_UP_H
#define SIDESTEP_HOST_CATCH_UP_H

#include "maps.h"
#include "packet.h"
#include "rewrite.h"

/* The packet @p, whose TCP header ends at @end, loses its data and gets the sequence number @seq. */
static __always_inline long ack_make(struct __sk_buff *skb, struct packet *p, __u32 end, __be32 seq)
{
	__be16 old = SS_BE16(skb->len - p->l4), len = SS_BE16(end - p->l4), total, was;
	__be32 before = p->tcp->seq;
	long err;

	err = bpf_skb_change_tail(skb, end, 0);
	if (err || !packet_headers(skb, p))
		return -1;
	was = p->is_ip6 ? 0 : p->ip4->tot_len;
	total = p->is_ip6 ? len : SS_BE16(end - L3_OFFSET);
	err = bpf_l4_csum_replace(skb, p->l4 + CHECK_OFFSET, old, len, BPF_F_PSEUDO_HDR | 2) |
	      bpf_l4_csum_replace(skb, p->l4 + CHECK_OFFSET, before, seq, sizeof(seq)) |
	      bpf_skb_store_bytes(skb, p->l4 + __builtin_offsetof(struct tcphdr, seq), &seq,
				  sizeof(seq), 0);
	if (p->is_ip6)
		return err | bpf_skb_store_bytes(skb,
						 L3_OFFSET + __builtin_offsetof(struct ipv6hdr,
										payload_len),
						 &total, sizeof(total), 0);
	return err |
	       bpf_l3_csum_replace(skb, L3_OFFSET + __builtin_offsetof(struct iphdr, check), was,
				   total, sizeof(total)) |
	       bpf_skb_store_bytes(skb, L3_OFFSET + __builtin_offsetof(struct iphdr, tot_len),
				   &total, sizeof(total), 0);
}

/*
 * A connection is back on the balancer path, and sends again what may have got through directly, one
 * segment at a time. The server acknowledges all that it has got, and a filter which has seen but that
 * one segment takes that for invalid. So an ACK goes behind the segment, with the number of what comes
 * next: it claims nothing new, and filters know then how far the client is.
 */
static __noinline void path_catch_up(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct bpf_tcp_sock *tcp;
	struct packet p = {};
	__u32 end, next;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	tcp = sk ? bpf_tcp_sock(sk) : NULL;
	if (!tcp || !packet_parse(skb, &p))
		return;
	next = tcp->snd_nxt;
	end = p.l4 + p.tcp->doff * 4;
	if (skb->len <= end || SS_BE32(p.tcp->seq) + (skb->len - end) == next)
		return;
	if (bpf_clone_redirect(skb, skb->ifindex, 0) || !packet_parse(skb, &p) ||
	    ack_make(skb, &p, end, SS_BE32(next)))
		count(SS_HOST_error_helper);
}

#endif
