/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 3: a SYN that cannot be delivered, since a connection of another service has its addresses and
 * ports here, and that no other server will get either. It is refused by a RST, as one whose port is
 * closed: the application knows at once, and can dial again, from another port.
 *
 * The RST comes from where the client can take it: from the service, or, with strict replies, from the
 * server's own address (reset.h restores it).
 */
#ifndef SIDESTEP_HOST_REFUSE_H
#define SIDESTEP_HOST_REFUSE_H

#include <sidestep/csum.h>

#include "maps.h"
#include "meets.h"
#include "packet.h"
#include "rewrite.h"

#define REFUSE_TTL 64
#define REFUSE_FLAGS SS_BE16(5 << 12 | 0x14) /* 20 bytes of header; RST and ACK */

/* A TCP header without options, as words for the checksum. */
struct refusal {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack_seq;
	__be16 flags; /* with the header's length */
	__be16 window;
};

/* What is to be summed of the SYN's TCP header: all but its checksum and urgent pointer. */
struct refused {
	struct refusal head;
	__u8 options[SS_TCP_OPTS_MAX];
};

/* The packet becomes a bare TCP header from @from to @to: what remains in the IP header. */
static __always_inline long refuse_ip(struct __sk_buff *skb, const struct packet *p,
				      const struct ss_endpoint *from, const struct ss_endpoint *to)
{
	if (p->is_ip6) {
		struct ipv6hdr ip = *p->ip6;

		ip.payload_len = SS_BE16(sizeof(struct tcphdr));
		ip.hop_limit = REFUSE_TTL;
		__builtin_memcpy(&ip.saddr, &from->addr, sizeof(ip.saddr));
		__builtin_memcpy(&ip.daddr, &to->addr, sizeof(ip.daddr));
		return bpf_skb_store_bytes(skb, L3_OFFSET, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
	}
	struct iphdr ip = *p->ip4;

	ip.tot_len = SS_BE16(sizeof(ip) + sizeof(struct tcphdr));
	ip.ttl = REFUSE_TTL;
	ip.saddr = from->addr.w[3];
	ip.daddr = to->addr.w[3];
	ip.check = 0;
	ip.check = ss_csum_fold(bpf_csum_diff(NULL, 0, (void *)&ip, sizeof(ip), 0));
	return bpf_skb_store_bytes(skb, L3_OFFSET, &ip, sizeof(ip), 0);
}

/* Kernel 6.1 forgets what a length was compared with once it is on the stack: it is compared where it is used. */
static __always_inline long options_load(struct __sk_buff *skb, __u32 off, __u8 *options, __u32 len)
{
	barrier_var(len);
	return len < 4 ? 0 : bpf_skb_load_bytes(skb, off, options, len);
}

static __always_inline long options_store(struct __sk_buff *skb, __u32 off, const __u8 *options,
					  __u32 len)
{
	barrier_var(len);
	return len < 4 ? 0 : bpf_skb_store_bytes(skb, off, options, len, 0);
}

/*
 * The SYN @p becomes the RST that refuses it, from @from. Returns 1 if it may be sent; 0: it is one that
 * is not refused (with data, or IPv4 options: the next one is without).
 */
static __noinline int syn_refuse(struct __sk_buff *skb, struct packet *p,
				 const struct ss_endpoint *from)
{
	struct ss_endpoint client, server;
	struct refusal reset = {};
	struct refused syn = {};
	__u32 len, end, check;
	__be16 old_len;
	__u64 addr;
	long sum;

	if (!from || !packet_headers(skb, p))
		return 0;
	client = packet_source(p);
	server = packet_destination(p);
	reset = (struct refusal){ .source = from->port,
				  .dest = client.port,
				  .ack_seq = SS_BE32(SS_BE32(p->tcp->seq) + 1),
				  .flags = REFUSE_FLAGS };
	len = p->tcp->doff * 4 - sizeof(struct tcphdr);
	end = p->l4 + sizeof(struct tcphdr);
	check = p->l4 + CHECK_OFFSET;
	old_len = SS_BE16(len + sizeof(struct tcphdr));
	barrier_var(len);
	if (len > SS_TCP_OPTS_MAX)
		return 0;
	barrier_var(len);
	if (skb->len != end + len ||
	    end != L3_OFFSET + (p->is_ip6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) +
			    sizeof(struct tcphdr))
		return 0;
	if (bpf_skb_load_bytes(skb, p->l4, &syn.head, sizeof(syn.head)) ||
	    options_load(skb, end, syn.options, len))
		return 0;
	sum = bpf_csum_diff((void *)&syn, sizeof(syn), (void *)&reset, sizeof(reset), 0);
	addr = ss_csum_diff_addr(&server.addr, &from->addr);
	__builtin_memset(&syn, 0, sizeof(syn));
	/* zeroes are cut off, and last: a sum over the packet, which the device made, stays right */
	if (sum < 0 || bpf_skb_store_bytes(skb, p->l4, &reset, sizeof(reset), 0) ||
	    options_store(skb, end, syn.options, len) ||
	    bpf_l4_csum_replace(skb, check, 0, sum, 0) || !packet_headers(skb, p) ||
	    refuse_ip(skb, p, from, &client) ||
	    bpf_l4_csum_replace(skb, check, 0, ss_csum_to32(addr), BPF_F_PSEUDO_HDR) ||
	    bpf_l4_csum_replace(skb, check, old_len, SS_BE16(sizeof(struct tcphdr)),
				BPF_F_PSEUDO_HDR | sizeof(old_len)) ||
	    bpf_skb_change_tail(skb, end, 0)) {
		count(SS_HOST_error_helper);
		return 0;
	}
	count(SS_HOST_syn_refused);
	return 1;
}

#endif
