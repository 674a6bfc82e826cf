/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Steps 5, 9 and 10: what leaves the host gets the addresses of the wire.
 *
 * A packet of a connection is rewritten from its socket's state: one lookup. Packets without a
 * full socket come second: SYN-ACKs, whose grant says all that is needed, and late packets
 * (TIME_WAIT, RST), which the shadow map knows.
 *
 * A packet can come by more than once (bpf_redirect_neigh() sends it through this program again, as
 * do interfaces on top of each other); what has been rewritten already is left as it is.
 */
#ifndef SIDESTEP_HOST_EGRESS_H
#define SIDESTEP_HOST_EGRESS_H

#include <sidestep/encap.h>
#include <sidestep/option.h>

#include "conn.h"
#include "grant.h"
#include "kernel.h"
#include "packet.h"
#include "rewrite.h"
#include "sockops.h"
#include "udp.h"

enum egress_result {
	EGRESS_PASS,
	EGRESS_NEIGHBOUR, /* the next hop in the frame is not the new destination's */
};

static __noinline int egress_stateless(struct __sk_buff *skb);

static __always_inline int mac_equal(const __u8 *a, const __u8 *b)
{
	return *(const __u32 *)a == *(const __u32 *)b &&
	       *(const __u16 *)(a + 4) == *(const __u16 *)(b + 4);
}

#define LOOPBACK_IFINDEX 1

/*
 * Has the application, or the host's policy, a say in where @skb leaves? Its socket is bound to an
 * interface, or it carries a mark, which the lookup would not heed.
 */
static __always_inline int route_is_given(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (skb->mark)
		return 1;
	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	return sk && sk->bound_dev_if;
}

/*
 * The interface by which this host reaches @to; 0: not known, or that of the service. The kernel tells
 * where forwarding is on for the interface that is asked about, and for the loopback one it looks up
 * what it does for packets of its own.
 */
static __noinline __u32 route_ifindex(struct __sk_buff *skb, const struct ss_addr *from,
				      const struct ss_addr *to)
{
	struct bpf_fib_lookup fib = { .ifindex = LOOPBACK_IFINDEX, .l4_protocol = IPPROTO_TCP };
	long found;

	if (route_is_given(skb))
		return 0;
	if (ss_addr_is_v4(to)) {
		fib.family = AF_INET;
		fib.ipv4_src = from->w[3];
		fib.ipv4_dst = to->w[3];
	} else {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, from, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, to, sizeof(fib.ipv6_dst));
	}
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH &&
	    found != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return 0;
	return fib.ifindex == skb->ifindex ? 0 : fib.ifindex;
}

/*
 * How does a client's rewritten packet, whose frame carries the MAC address @mac of the service's
 * next hop, get to the server's? A connection's first packet finds out: it goes through
 * bpf_redirect_neigh() and comes by again with the server's next hop (conn_second_pass()), by another
 * interface if the server is reached by one (where it may not come by again). From
 * then on nothing is asked while both are the same. A timeout, or another next hop of the service,
 * starts it again.
 */
static __always_inline enum egress_result conn_next_hop(struct __sk_buff *skb, struct ss_conn *conn,
							const __u8 *mac)
{
	if (conn->hop == SS_HOP_SAME && mac_equal(mac, conn->hop_mac))
		return EGRESS_PASS;
	if (conn->hop == SS_HOP_SAME || conn->hop == SS_HOP_UNKNOWN) {
		__builtin_memcpy(conn->hop_mac, mac, ETH_ALEN);
		conn->hop_ifindex = route_ifindex(skb, &conn->flow.local.addr, &conn->wire.addr);
		conn->hop = SS_HOP_PROBING;
		count(SS_HOST_next_hop_probed);
	}
	return EGRESS_NEIGHBOUR;
}

/* A packet of @conn has been rewritten and has its server's next hop: what is that? */
static __always_inline void conn_second_pass(struct ss_conn *conn, const __u8 *mac)
{
	if (conn->hop == SS_HOP_PROBING)
		conn->hop = !conn->hop_ifindex && mac_equal(mac, conn->hop_mac) ? SS_HOP_SAME
										: SS_HOP_OTHER;
}

/* Is the @end of @p still what the kernel believes, @endpoint? Else it was rewritten before. */
static __always_inline int packet_has(const struct packet *p, enum rewrite_end end,
				      const struct ss_endpoint *endpoint)
{
	const __be32 *w = endpoint->addr.w, *in;

	if ((end == REWRITE_SOURCE ? p->tcp->source : p->tcp->dest) != endpoint->port)
		return 0;
	if (!p->is_ip6)
		return (end == REWRITE_SOURCE ? p->ip4->saddr : p->ip4->daddr) == w[3];
	in = end == REWRITE_SOURCE ? p->ip6->saddr.in6_u.u6_addr32 : p->ip6->daddr.in6_u.u6_addr32;
	return in[0] == w[0] && in[1] == w[1] && in[2] == w[2] && in[3] == w[3];
}

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

/* Step 9: a packet of a connection with state. With TCP Fast Open, the SYN-ACK is one of them. */
static __always_inline enum egress_result egress_conn(struct __sk_buff *skb, struct bpf_sock *sk,
						      struct ss_conn *conn, __u32 *ifindex)
{
	enum egress_result result;
	__u8 mac[ETH_ALEN];
	struct packet p = {};

	if (!conn->rewrite && conn->catch_up) {
		conn->catch_up = 0;
		path_catch_up(skb, sk);
	}
	if (!conn->rewrite || !packet_parse(skb, &p))
		return EGRESS_PASS;
	if (conn->role == SS_ROLE_SERVER) {
		if (p.tcp->syn)
			return egress_stateless(skb);
		if (packet_has(&p, REWRITE_SOURCE, &conn->flow.local))
			rewrite(skb, &p, REWRITE_SOURCE, &conn->wire, conn->addr_csum);
		return EGRESS_PASS;
	}
	if (!packet_has(&p, REWRITE_DESTINATION, &conn->flow.remote)) {
		conn_second_pass(conn, p.eth->h_dest);
		return EGRESS_PASS;
	}
	__builtin_memcpy(mac, p.eth->h_dest, ETH_ALEN);
	rewrite(skb, &p, REWRITE_DESTINATION, &conn->wire, conn->addr_csum);
	result = conn_next_hop(skb, conn, mac);
	if (conn->hop_ifindex)
		*ifindex = conn->hop_ifindex;
	return result;
}

/* The first option of a SYN-ACK, as Linux writes them. */
struct mss_option {
	__u8 kind; /* 2: RFC 9293, section 3.1 */
	__u8 len;
	__be16 mss;
} __attribute__((packed));

/*
 * What the client sends will be wrapped on its way: the SYN-ACK @p asks for packets that leave room
 * for that, in an outer header of either IP version. Returns 1 with @p's pointers renewed, or 0.
 */
static __always_inline int mss_reduce(struct __sk_buff *skb, struct packet *p)
{
	__u32 offset = p->l4 + sizeof(struct tcphdr);
	struct mss_option option;
	__be16 mss;

	if (bpf_skb_load_bytes(skb, offset, &option, sizeof(option)) || option.kind != 2 ||
	    option.len != sizeof(option) || SS_BE16(option.mss) <= SS_ENCAP_MAX)
		return 1;
	mss = SS_BE16(SS_BE16(option.mss) - SS_ENCAP_MAX);
	offset += __builtin_offsetof(struct mss_option, mss);
	if (bpf_skb_store_bytes(skb, offset, &mss, sizeof(mss), 0) ||
	    bpf_l4_csum_replace(skb, p->l4 + CHECK_OFFSET, option.mss, mss, sizeof(mss)))
		count(SS_HOST_error_helper);
	return packet_headers(skb, p);
}

/* Is @p one of those that @entry, of its flow, is for? */
static __always_inline int late_covers(const struct ss_late *entry, const struct packet *p)
{
	if (entry->half_open == SS_HALF_OPEN_FAST_STRICT)
		return 0;
	if (entry->half_open == SS_HALF_OPEN_FAST)
		return 1;
	if (!p->tcp->syn)
		return entry->half_open != SS_HALF_OPEN_SYNACK;
	return entry->half_open != SS_HALF_OPEN_NO && p->tcp->ack &&
	       p->tcp->ack_seq == entry->synack;
}

/*
 * Is @p, one that @entry is for, the SYN-ACK of a connection without a grant? All that its client sends
 * comes by the balancer, which may encapsulate it.
 */
static __always_inline int is_synack_for_balancer(const struct ss_late *entry,
						  const struct packet *p)
{
	if (!p->tcp->syn)
		return 0;
	return entry->half_open == SS_HALF_OPEN_PLAIN || entry->half_open == SS_HALF_OPEN_SYNACK ||
	       (entry->half_open == SS_HALF_OPEN_FAST && entry->reason);
}

/* A packet without a full socket, as the shadow map knows it. */
static __always_inline enum egress_result egress_late(struct __sk_buff *skb, struct packet *p)
{
	struct ss_flow flow = { .local = packet_source(p), .remote = packet_destination(p) };
	struct ss_late *entry = bpf_map_lookup_elem(&late, &flow);

	if (!entry || !late_covers(entry, p))
		return EGRESS_PASS;
	if (is_synack_for_balancer(entry, p) && !mss_reduce(skb, p))
		return EGRESS_PASS;
	count(SS_HOST_late_rewritten);
	if (entry->role == SS_ROLE_SERVER) {
		rewrite(skb, p, REWRITE_SOURCE, &entry->wire, entry->addr_csum);
		return EGRESS_PASS;
	}
	rewrite(skb, p, REWRITE_DESTINATION, &entry->wire, entry->addr_csum);
	return EGRESS_NEIGHBOUR;
}

/* Step 5 and step 10: a packet without a full socket. */
static __noinline int egress_stateless(struct __sk_buff *skb)
{
	const struct ss_serve *served;
	struct grant grant = {};
	struct packet p = {};

	if (!packet_parse(skb, &p))
		return EGRESS_PASS;
	if (!p.tcp->syn || !p.tcp->ack || !grant_at_tail(skb, &p, &grant))
		return egress_late(skb, &p);
	served = bpf_map_lookup_elem(&serve, &grant.names);
	if (served && !served->strict && grant.form & SS_GRANT_STRICT)
		grant_exchange(skb, &p, &grant);
	return EGRESS_PASS;
}

/* Does @sk stand for a live connection, or another protocol's socket, whose packets are plain? */
static __always_inline int is_plain_socket(struct bpf_sock *sk)
{
	/* RSTs come from a per-processor raw control socket (up to 6.12), or from a listener */
	return sk->type != SOCK_RAW && sk->state != TCP_LISTEN;
}

/* *@ifindex: the interface of EGRESS_NEIGHBOUR. */
static __always_inline enum egress_result egress(struct __sk_buff *skb, __u32 *ifindex)
{
	struct bpf_sock *sk = skb->sk;
	struct ss_conn *conn;

	if (sk) {
		conn = bpf_sk_storage_get(&conns, sk, 0, 0); /* none but full sockets have any */
		if (conn && conn->role != SS_ROLE_LISTENER)
			return egress_conn(skb, sk, conn, ifindex);
		sk = bpf_sk_fullsock(sk);
		if (sk && is_plain_socket(sk)) {
			if (sk->protocol == IPPROTO_UDP && udp_is_used())
				udp_answer(skb);
			return EGRESS_PASS;
		}
	}
	if (skb->ingress_ifindex) /* forwarded: not this host's */
		return EGRESS_PASS;
	return egress_stateless(skb);
}

#endif
