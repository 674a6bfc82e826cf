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

#include <sidestep/option.h>

#include "answers.h"
#include "arm.h"
#include "asking.h"
#include "catch_up.h"
#include "conn.h"
#include "grant.h"
#include "request.h"
#include "kernel.h"
#include "mss.h"
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

/* Step 9: a packet of a connection with state. With TCP Fast Open, the SYN-ACK is one of them. */
static __always_inline enum egress_result egress_conn(struct __sk_buff *skb, struct bpf_sock *sk,
						      struct ss_conn *conn, __u32 *ifindex)
{
	enum egress_result result;
	__u8 mac[ETH_ALEN];
	struct packet p = {};

	if (conn->request_len && conn->role == SS_ROLE_CLIENT)
		request_arm(skb, conn);
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
	conn_went_direct(conn);
	result = conn_next_hop(skb, conn, mac);
	if (conn->hop_ifindex)
		*ifindex = conn->hop_ifindex;
	return result;
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
static __noinline int egress_late(struct __sk_buff *skb, struct packet *p)
{
	struct ss_flow flow = { .local = packet_source(p), .remote = packet_destination(p) };
	struct ss_late *entry = bpf_map_lookup_elem(&late, &flow);

	if (!entry || !late_covers(entry, p)) {
		answers_rewrite(skb, p);
		return EGRESS_PASS;
	}
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

/*
 * Step 5: a SYN-ACK with a grant. By a service's classic replies the grant's address and the packet's source
 * change places; a strict one stays as sockops wrote it.
 */
static __always_inline void egress_grant(struct __sk_buff *skb, struct packet *p,
					 const struct grant *grant)
{
	const struct ss_endpoint *service =
		grant_is_short(grant) ? tag_service(grant->tag) : &grant->names;
	const struct ss_serve *served = service ? bpf_map_lookup_elem(&serve, service) : NULL;

	if (!served || served->strict || !(grant->form & SS_GRANT_STRICT))
		return;
	if (p->is_ip6 && p->tcp->source == service->port) /* a classic IPv6 grant has no port */
		grant_exchange6(skb, p, grant, service);
	else if (!p->is_ip6 && !grant_is_short(grant))
		grant_exchange4(skb, p, grant, service);
}

/*
 * A SYN-ACK that answers a held request: the connection stays on the balancer path, and its answers have to
 * come from the service. What the client sends may be encapsulated on its way.
 */
static __always_inline void egress_held(struct __sk_buff *skb, struct packet *p,
					const struct grant *grant)
{
	const struct ss_endpoint *service = tag_service(grant->tag);
	const struct ss_serve *served = service ? bpf_map_lookup_elem(&serve, service) : NULL;
	struct ss_endpoint source = packet_source(p);

	if (!served || !ss_serve_listens(served, source.port) ||
	    ss_addr_equal(&source.addr, &service->addr))
		return;
	if (!mss_reduce(skb, p))
		return;
	rewrite_from(skb, p, REWRITE_SOURCE, &source, service);
}

/*
 * A RST that answers a SYN-ACK of a backend, for a connection that waits for just that one: ingress would
 * have taken it in, and the kernel would have found its socket. So ingress does not run.
 */
static __noinline void egress_reset(struct __sk_buff *skb, const struct packet *p)
{
	struct ss_endpoint local = packet_source(p), remote = packet_destination(p);
	const struct ss_flow *known = asking_recall(&local, 0);
	const struct ss_conn *conn;
	struct ss_flow flow;

	if (!known || p->tcp->ack || !prefix_covers(&backends, &remote.addr))
		return;
	flow = *known;
	conn = conn_awaiting(skb, &flow, SS_BE32(p->tcp->seq));
	if (conn)
		link_found_blind(conn->hop_ifindex);
}

/* Step 5: a SYN-ACK that carries a word of ours. Returns 0 if it does not. */
static __noinline int egress_synack(struct __sk_buff *skb, struct packet *p)
{
	struct grant grant = {};

	if (!grant_at_tail(skb, p, &grant))
		return 0;
	if (grant.word == SS_OPT_ARMED)
		egress_grant(skb, p, &grant);
	else
		egress_held(skb, p, &grant);
	return 1;
}

/* Step 5 and step 10: a packet without a full socket. */
static __noinline int egress_stateless(struct __sk_buff *skb)
{
	struct packet p = {};

	if (!packet_parse(skb, &p))
		return EGRESS_PASS;
	if (p.tcp->syn && p.tcp->ack && egress_synack(skb, &p))
		return EGRESS_PASS;
	if (p.tcp->rst)
		egress_reset(skb, &p);
	return egress_late(skb, &p);
}

/* A packet of a socket, here or behind this host, that keeps no state of ours. */
static __noinline int egress_answer(struct __sk_buff *skb)
{
	struct packet p = {};

	if (packet_parse(skb, &p))
		answers_rewrite(skb, &p);
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

	/* forwarded: it may have a socket, but another network namespace's */
	if (skb->ingress_ifindex)
		return answers_are_used() ? egress_answer(skb) : EGRESS_PASS;
	if (sk) {
		conn = bpf_sk_storage_get(&conns, sk, 0, 0); /* none but full sockets have any */
		if (conn && conn->role != SS_ROLE_LISTENER)
			return egress_conn(skb, sk, conn, ifindex);
		sk = bpf_sk_fullsock(sk);
		if (sk && is_plain_socket(sk)) {
			if (sk->protocol == IPPROTO_UDP && udp_is_used())
				udp_answer(skb);
			else if (answers_are_used())
				return egress_answer(skb);
			return EGRESS_PASS;
		}
	}
	return egress_stateless(skb);
}

#endif
