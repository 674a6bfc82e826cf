/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 1, its second half: a request is armed. sockops writes each one held, for it cannot know what becomes
 * of the packet: it runs for the sockets of any network namespace, behind any bridge or address translation.
 * Here, where the packet leaves, all that it promises is seen to be true, and the ExID says so from then on:
 * what comes from a server's own address will reach the socket, and what the socket sends will get there.
 *
 * Nothing that others read is written for a connection before this.
 */
#ifndef SIDESTEP_HOST_ARM_H
#define SIDESTEP_HOST_ARM_H

#include <sidestep/option.h>

#include "asking.h"
#include "link.h"
#include "packet.h"
#include "rewrite.h"

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

/* Why the request of @conn in the packet @p may not be armed; 0: it may. */
static __always_inline enum ss_host_counter
arm_refusal(struct __sk_buff *skb, const struct ss_conn *conn, const struct packet *p)
{
	if (conn->foreign)
		return SS_HOST_client_other_netns;
	if (!packet_has(p, REWRITE_SOURCE, &conn->flow.local) ||
	    !packet_has(p, REWRITE_DESTINATION, &conn->flow.remote))
		return SS_HOST_client_translated;
	return link_is_blind(skb->ifindex) ? SS_HOST_client_no_ingress : 0;
}

/* Where the request of @len bytes is whose ExID says @held, as sockops wrote it; 0: not there. */
static __always_inline __u32 arm_find(struct __sk_buff *skb, const struct packet *p, __u32 len,
				      __be16 *held)
{
	__u32 offset = p->l4 + p->tcp->doff * 4 - len, word;
	__u32 forms = p->is_ip6 ? SS_FORMS_REQUEST6 : SS_FORMS_REQUEST4, form;
	struct ss_opt_head head = {};
	struct ss_opt_cursor c = {};

	if (p->tcp->doff * 4 < sizeof(struct tcphdr) + len ||
	    bpf_skb_load_bytes(skb, offset, &head, sizeof(head)))
		return 0;
	if (ss_opt_match((const __u8 *)&head, forms, &form, &word) != SS_OPT_FOUND) {
		/* another sockops program has written its option behind ours */
		if (!packet_options(skb, p, &c))
			return 0;
		c.forms = forms;
		bpf_loop(SS_TCP_OPTS_MAX + 1, ss_opt_step, &c, 0);
		if (c.result != SS_OPT_FOUND)
			return 0;
		offset = p->l4 + sizeof(struct tcphdr) + c.off;
		form = c.form;
		word = c.word;
	}
	*held = SS_BE16(SS_OPT_HELD | form);
	return word == SS_OPT_HELD ? offset : 0;
}

/* The client's connection @conn sends a segment with a request. Ends packet pointers. */
static __noinline void request_arm(struct __sk_buff *skb, struct ss_conn *conn)
{
	enum ss_host_counter refusal;
	struct packet p = {};
	__u32 offset;
	__be16 held;

	if (!conn || !packet_parse(skb, &p))
		return;
	offset = arm_find(skb, &p, conn->request_len, &held);
	if (!offset)
		return;
	refusal = arm_refusal(skb, conn, &p);
	if (refusal) {
		if (conn->path == SS_PATH_ASKING)
			conn->reason = refusal;
		return;
	}
	if (exid_replace(skb, p.l4, offset, held, held ^ SS_BE16(SS_OPT_HELD ^ SS_OPT_ARMED))) {
		count(SS_HOST_error_helper);
		return;
	}
	if (conn->path != SS_PATH_ASKING)
		return;
	if (!conn->asked)
		count(SS_HOST_client_asked);
	conn->asked = 1;
	conn->hop_ifindex = skb->ifindex;
	asking_remember(&conn->flow);
}

#endif
