/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 6: a SYN-ACK reaches the client.
 *
 * One of a server that answers strictly is checked and made to look like a classic one, and what
 * its later packets need is learnt. One that comes again may mean that its path is blocked
 * (blocked.h). One that a server sent from its own address without a usable grant, to a socket that
 * waits for it, is kept from the kernel, which would answer it with a RST: a retransmitted SYN may yet
 * fare better. Others are left to the kernel: its RST ends what a forged SYN has begun at a server.
 */
#ifndef SIDESTEP_HOST_SYNACK_H
#define SIDESTEP_HOST_SYNACK_H

#include "asking.h"
#include "blocked.h"
#include "conn.h"
#include "grant.h"
#include "kernel.h"
#include "packet.h"
#include "socket.h"
#include "strict.h"

enum ingress_result {
	INGRESS_PASS,
	INGRESS_DROP,
	INGRESS_NEIGHBOUR, /* to the next hop of its new destination */
	INGRESS_PLAIN, /* a SYN that asks for nothing; otherwise as INGRESS_PASS */
	INGRESS_REFUSE, /* a SYN: dropped, and answered with a RST */
};

/*
 * Has a socket of this host sent the SYN that a SYN-ACK of @flow answers? Listeners send none. Where
 * the connection is established already, the SYN-ACK comes again, which its path is judged by.
 */
static __always_inline int synack_is_awaited(struct __sk_buff *skb, const struct ss_flow *flow,
					     __u32 seq, __u32 ack)
{
	struct bpf_sock *sk = flow_socket(skb, flow);
	struct bpf_tcp_sock *tcp;
	struct ss_conn *conn;
	int awaited;

	if (!sk)
		return 0;
	awaited = sk->state != TCP_LISTEN;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	tcp = conn ? bpf_tcp_sock(sk) : NULL;
	if (conn && tcp)
		path_synack(conn, tcp, seq, ack);
	bpf_sk_release(sk);
	return awaited;
}

enum synack_owner {
	SYNACK_OF_NONE, /* nobody waits for it */
	SYNACK_OF_CONN, /* it makes its sender the server of a connection that asked */
	SYNACK_REFUSED, /* it would, but may not */
};

/*
 * A SYN-ACK on the flow @wire, which acknowledges @ack_seq and says by a strict grant that it comes
 * for @service. If that is accepted, later packets find their way from now on.
 */
static __always_inline enum synack_owner strict_accept(struct __sk_buff *skb,
						       const struct ss_flow *wire,
						       const struct ss_endpoint *service,
						       __u32 ack_seq)
{
	struct ss_flow flow = { wire->local, *service };
	struct ss_conn *conn = conn_awaiting(skb, &flow, ack_seq);

	if (!conn)
		return SYNACK_OF_NONE;
	if (!prefix_covers(&backends, &wire->remote.addr))
		conn->reason = SS_HOST_client_out_of_range;
	else if (strict_learn(conn, &wire->remote))
		conn->reason = SS_HOST_client_state_full;
	else
		return SYNACK_OF_CONN;
	return SYNACK_REFUSED;
}

/*
 * Is the SYN-ACK on the flow @wire for a socket that dialled its sender itself? Then what an earlier
 * connection left of that flow is over.
 */
static __always_inline int is_dialled_plainly(struct __sk_buff *skb, const struct ss_flow *wire,
					      __u32 ack_seq)
{
	struct bpf_sock *sk = flow_socket(skb, wire);
	int dialled;

	if (!sk)
		return 0;
	dialled = sk->state == TCP_SYN_SENT && acks_syn(sk, ack_seq);
	bpf_sk_release(sk);
	return dialled;
}

/*
 * A SYN-ACK with a strict grant gives way to a classic one, if somebody waits for it. Others on a
 * flow that is known already, as those that come again, get the service's address only. @flow is
 * as on the wire, and brought up to date.
 */
static __noinline int synack_exchange(struct __sk_buff *skb, struct packet *p, struct ss_flow *flow)
{
	__u32 ack_seq = SS_BE32(p->tcp->ack_seq);
	enum synack_owner owner = SYNACK_OF_NONE;
	struct grant grant = {};

	if ((grant_at_tail(skb, p, &grant) ||
	     (grant_walk(skb, p, &grant) && grant_read(skb, p, &grant))) &&
	    grant.form & SS_GRANT_STRICT)
		owner = strict_accept(skb, flow, &grant.names, ack_seq);
	if (owner == SYNACK_OF_CONN) {
		grant_exchange(skb, p, &grant);
	} else if (owner == SYNACK_OF_NONE && strict_is_used()) {
		if (is_dialled_plainly(skb, flow, ack_seq))
			(void)bpf_map_delete_elem(&strict_flows, flow);
		strict_translate(skb, p, flow);
	}
	return owner;
}

/* One that comes again, or one that answers a connection which asked, from a server's own address? */
static __noinline int synack_judge(struct __sk_buff *skb, const struct ss_flow *flow, __u32 seq,
				   __u32 ack)
{
	const struct ss_flow *known;
	struct ss_flow asked;

	if (synack_is_awaited(skb, flow, seq, ack) || !prefix_covers(&backends, &flow->remote.addr))
		return INGRESS_PASS;
	known = asking_recall(&flow->local);
	if (!known)
		return INGRESS_PASS;
	asked = *known;
	if (!conn_awaiting(skb, &asked, ack))
		return INGRESS_PASS;
	count(SS_HOST_synack_dropped);
	return INGRESS_DROP;
}

static __always_inline enum ingress_result ingress_synack(struct __sk_buff *skb, struct packet *p)
{
	struct ss_flow flow = { .local = packet_destination(p), .remote = packet_source(p) };
	__u32 seq = SS_BE32(p->tcp->seq), ack = SS_BE32(p->tcp->ack_seq);

	switch (synack_exchange(skb, p, &flow)) {
	case SYNACK_OF_CONN:
		return INGRESS_PASS;
	case SYNACK_REFUSED:
		return INGRESS_DROP;
	default:
		return synack_judge(skb, &flow, seq, ack);
	}
}

#endif
