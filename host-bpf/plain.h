/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Clients that did not ask: what their balancer wrapped comes in as if it were for the server's own
 * address (decap.h), and all that the server says has to come from the service. Once there is a
 * socket, its state says so. Before that, and after it, the late map does: it is written when such a
 * packet comes in, just before the kernel answers it. Thus SYN cookies and RSTs need nothing more.
 */
#ifndef SIDESTEP_HOST_PLAIN_H
#define SIDESTEP_HOST_PLAIN_H

#include <sidestep/csum.h>

#include "meets.h"

/* From now on what the kernel says on the @flow without a socket comes from @service. */
static __always_inline void plain_remember(const struct ss_flow *flow,
					   const struct ss_endpoint *service, __u32 isn)
{
	struct ss_late entry = { .wire = *service,
				 .synack = SS_BE32(isn + 1),
				 .reason = SS_HOST_server_plain,
				 .role = SS_ROLE_SERVER,
				 .half_open = SS_HALF_OPEN_PLAIN };

	entry.addr_csum = ss_csum_to32(ss_csum_diff_addr(&flow->local.addr, &service->addr));
	if (bpf_map_update_elem(&late, flow, &entry, BPF_ANY))
		count(SS_HOST_error_map);
}

/*
 * A SYN that is sent again has a request again: what was noted of one without is over. For SYNs alone: what follows
 * a plain one may be on two processors at once, and the one that accepts the connection needs the note.
 */
static __always_inline void plain_forget(const struct ss_flow *flow, __u32 isn)
{
	const struct ss_late *entry = bpf_map_lookup_elem(&late, flow);

	if (entry && entry->half_open == SS_HALF_OPEN_PLAIN && entry->synack == SS_BE32(isn + 1))
		(void)bpf_map_delete_elem(&late, flow);
}

/*
 * The packet @p came for @service, wrapped, and without a request that may be granted. Returns 1 if it may go on; 0: it
 * would get to a connection of another service.
 */
static __noinline int plain_arrives(struct __sk_buff *skb, const struct packet *p,
				    const struct ss_endpoint *service)
{
	/* until there is a socket, the client is at the beginning of its data */
	struct arrival in = { .flow = { packet_destination(p), packet_source(p) },
			      .vip = *service,
			      .isn = SS_BE32(p->tcp->seq) - !p->tcp->syn };

	switch (syn_meets(skb, &in)) {
	case MEETS_OTHER:
		count(SS_HOST_syn_collision);
		return 0;
	case MEETS_OWN:
		return 1;
	case MEETS_NOBODY:
	case MEETS_OLD_LISTENER:
		answers_note(&in.flow, service);
		return 1;
	default:
		if (p->tcp->syn && may_be_forwarded(skb, p->is_ip6))
			answers_note(&in.flow, service);
		plain_remember(&in.flow, service, in.isn);
		return 1;
	}
}

/*
 * A SYN of @flow, with the number @isn, asks for nothing, and was not wrapped. If it is that of a half-open connection, which asked
 * before, then it is without a request since answers to that got lost: what a client does last. The next
 * SYN-ACK is to be a plain one, too, from where the SYN went to.
 */
static __noinline int plain_again(struct __sk_buff *skb, const struct ss_flow *flow, __u32 isn)
{
	struct tcp_request_sock *req;
	struct bpf_sock *sk;
	int again = 0;
	__u32 port;

	if (!flow)
		return 0;
	port = SS_BE16(flow->local.port);
	if (!bpf_map_lookup_elem(&listen_ports, &port))
		return 0;
	sk = flow_socket(skb, flow);
	if (!sk)
		return 0;
	if (sk->state == TCP_NEW_SYN_RECV) {
		req = bpf_skc_to_tcp_request_sock(sk);
		again = req && req->rcv_isn == isn;
	}
	bpf_sk_release(sk);
	if (again)
		plain_remember(flow, &flow->local, isn);
	return again;
}

#endif
