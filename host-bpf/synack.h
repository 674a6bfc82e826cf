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
#include "link.h"
#include "packet.h"
#include "socket.h"
#include "strict.h"
#include "syn.h"

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
	if (conn && conn->path == SS_PATH_ASKING)
		conn->answered = 1;
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
	conn->answered = 1;
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
 * The service that @grant, in a packet on the flow @wire, is for: as it names it, or, a short one, as the
 * socket that asked knows it. NULL: not known.
 */
static __always_inline const struct ss_endpoint *grant_service(const struct grant *grant,
							       const struct ss_flow *wire)
{
	const struct ss_flow *asking;

	if (!grant_is_short(grant))
		return &grant->names;
	asking = asking_recall(&wire->local, grant->tag);
	if (!asking) /* another connection has taken the hint's slot; there are two */
		asking = asking_recall(&wire->local, 0);
	if (!asking || ss_tag_of(&asking->remote).first != grant->tag)
		return NULL;
	return &asking->remote;
}

/*
 * The strict grant in @p, if there is one. Returns the service that it is for, else NULL. The answer to a
 * held request is none: it comes from the service, or is of no use.
 */
static __always_inline const struct ss_endpoint *synack_grant(struct __sk_buff *skb,
							      const struct packet *p,
							      const struct ss_flow *wire,
							      struct grant *grant)
{
	if (!grant_at_tail(skb, p, grant) &&
	    !(grant_walk(skb, p, grant) && grant_read(skb, p, grant)))
		return NULL;
	if (!(grant->form & SS_GRANT_STRICT) || grant->word != SS_OPT_ARMED)
		return NULL;
	return grant_service(grant, wire);
}

/*
 * A SYN-ACK with a strict grant gives way to a classic one, if somebody waits for it. Others on a
 * flow that is known already, as those that come again, get the service's address only; as does one with
 * a short grant, which has no room for more (client_established() finds the server in the state of its
 * connection). @flow is as on the wire, and brought up to date.
 */
static __noinline int synack_exchange(struct __sk_buff *skb, struct packet *p, struct ss_flow *flow)
{
	__u32 ack_seq = SS_BE32(p->tcp->ack_seq);
	enum synack_owner owner = SYNACK_OF_NONE;
	struct ss_endpoint service = {};
	const struct ss_endpoint *found;
	struct grant grant = {};

	found = synack_grant(skb, p, flow, &grant);
	if (found) {
		service = *found;
		owner = strict_accept(skb, flow, &service, ack_seq);
	}
	if (owner == SYNACK_OF_CONN && !grant_is_short(&grant)) {
		grant_exchange4(skb, p, &grant, &service);
	} else if (owner == SYNACK_OF_CONN) {
		strict_translate(skb, p, flow);
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
	known = asking_recall(&flow->local, 0);
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

	link_is_seen(skb->ifindex);
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
