/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 3: a SYN with a request reaches the server. Before the kernel sees it, what a balancer did
 * to its source and port is undone, and it is kept from a connection that it does not belong to.
 *
 * A host that is client and server of a service can be given itself. Its SYN comes back with its own
 * address as the source, which the kernel does not accept (IPv4), or answers past these programs, by
 * the loopback interface (IPv6). Such a SYN is sent on to the balancer's second choice.
 *
 * What else comes in: SYN-ACKs (synack.h), packets of servers that answer strictly (strict.h), RSTs
 * of servers that do not know a connection (reset.h), and ICMP errors (icmp.h). Everything else
 * carries the addresses that the kernel knows.
 */
#ifndef SIDESTEP_HOST_INGRESS_H
#define SIDESTEP_HOST_INGRESS_H

#include "blocked.h"
#include "conn.h"
#include "decap.h"
#include "icmp.h"
#include "kernel.h"
#include "meets.h"
#include "packet.h"
#include "plain.h"
#include "request.h"
#include "refuse.h"
#include "reset.h"
#include "rewrite.h"
#include "socket.h"
#include "strict.h"
#include "synack.h"
#include "udp.h"

/* Options of others that take 12 bytes of a SYN-ACK: RFC 8684, RFC 7413. */
#define OPT_MPTCP 30
#define OPT_FAST_OPEN 34

/* Looks for a request in the SYN's options. */
static __always_inline int syn_request(struct __sk_buff *skb, const struct packet *p,
				       struct ss_opt_cursor *c)
{
	return packet_options(skb, p, c) && request_find(c, !p->is_ip6) == SS_OPT_FOUND;
}

/* Is the option of @c at @c->off one that the SYN-ACK answers by one that leaves a grant no room? */
static long option_takes_room(__u32 i, struct ss_opt_cursor *c)
{
	__u32 off = c->off, kind, len;

	barrier_var(off);
	if (off >= SS_TCP_OPTS_MAX || off >= c->len)
		return 1;
	kind = c->opts[off];
	if (!kind)
		return 1;
	len = kind == 1 ? 1 : c->opts[off + 1];
	c->form = kind == OPT_MPTCP || kind == OPT_FAST_OPEN;
	c->off = off + len;
	return c->form || !len;
}

/* Will the SYN-ACK to the SYN whose options @c holds have no room for a grant? */
static __always_inline int synack_is_full(struct ss_opt_cursor *c)
{
	c->off = 0;
	c->form = 0;
	bpf_loop(SS_TCP_OPTS_MAX + 1, option_takes_room, c, 0);
	return c->form;
}

/*
 * What the SYN's addresses and ports are to become: those that the client and the server know.
 * Returns 0, or -1 if the packet is to stay as it is. A connection without a grant needs the
 * balancer that changed its source both ways: its SYN keeps the balancer's address.
 */
static __always_inline int syn_target(const struct packet *p, const struct request *request,
				      struct ss_opt_cursor *c, const struct ss_serve *served,
				      struct ss_flow *flow)
{
	if (!p->is_ip6 && !ss_serve_listens(served, flow->local.port))
		flow->local.port = served->listen;
	if (ss_endpoint_equal(&request->client, &flow->remote))
		return 0;
	if (!source_is_trusted(&flow->remote.addr)) {
		count(SS_HOST_syn_untrusted);
		return -1;
	}
	if (synack_is_full(c)) {
		count(SS_HOST_syn_not_restored);
		return -1;
	}
	flow->remote = request->client;
	return 0;
}

/* Has the SYN @p another source than that of @flow, the client's? */
static __always_inline int source_differs(const struct packet *p, const struct ss_flow *flow)
{
	struct ss_endpoint source = packet_source(p);

	return !ss_endpoint_equal(&source, &flow->remote);
}

/* The SYN @p gets the source and the port of @flow. */
static __always_inline void syn_restore(struct __sk_buff *skb, struct packet *p,
					const struct ss_flow *flow)
{
	struct ss_endpoint source = packet_source(p);
	int restored = 0;
	__u32 csum;

	if (source_differs(p, flow)) {
		csum = ss_csum_to32(ss_csum_diff_addr(&source.addr, &flow->remote.addr));
		rewrite(skb, p, REWRITE_SOURCE, &flow->remote, csum);
		restored = 1;
		if (!packet_headers(skb, p))
			return;
	}
	if (p->tcp->dest != flow->local.port) {
		rewrite(skb, p, REWRITE_DESTINATION, &flow->local, 0);
		restored = 1;
	}
	if (restored)
		count(SS_HOST_syn_restored);
}

/* Is the SYN with the sequence number @isn that of the connection whose client's socket is @sk? */
static __always_inline int sock_has_sent(struct bpf_sock *sk, __u32 isn)
{
	struct ss_conn *conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	struct bpf_tcp_sock *tcp = conn ? bpf_tcp_sock(sk) : NULL;

	if (!conn || !tcp || conn->path != SS_PATH_ASKING || tcp->snd_una != isn)
		return 0;
	conn->sent_on = 1;
	return 1;
}

/* Has this host itself sent the SYN that asks for @request? */
static __noinline int syn_is_own(struct __sk_buff *skb, const struct request *request, __u32 isn)
{
	struct ss_flow flow = { .local = request->client, .remote = request->vip };
	struct bpf_sock *sk = flow_socket(skb, &flow);
	int own;

	if (!sk)
		return 0;
	own = sock_has_sent(sk, isn);
	bpf_sk_release(sk);
	return own;
}

/*
 * A SYN that has come back to its sender goes to the service again, with the retry bit: the balancer
 * then names its second choice. @c holds its options.
 */
static __always_inline enum ingress_result syn_send_on(struct __sk_buff *skb, struct packet *p,
						       const struct ss_opt_cursor *c,
						       const struct request *request)
{
	__u32 offset = p->l4 + sizeof(struct tcphdr) + c->off +
		       __builtin_offsetof(struct ss_opt_head, exid);
	__be16 first = SS_BE16(SS_OPT_EXID | c->form);
	__be16 second = SS_BE16(SS_OPT_EXID | c->form | SS_REQUEST_RETRY);
	struct ss_endpoint own = packet_destination(p);
	__u32 csum = ss_csum_to32(ss_csum_diff_addr(&own.addr, &request->vip.addr));

	if (c->form & SS_REQUEST_RETRY) {
		count(SS_HOST_syn_own_dropped);
		return INGRESS_DROP;
	}
	rewrite(skb, p, REWRITE_DESTINATION, &request->vip, csum);
	if (bpf_skb_store_bytes(skb, offset, &second, sizeof(second), 0) ||
	    bpf_l4_csum_replace(skb, p->l4 + CHECK_OFFSET, first, second, sizeof(second)))
		count(SS_HOST_error_helper);
	count(SS_HOST_syn_sent_on);
	return INGRESS_NEIGHBOUR;
}

/* Has the SYN of @in been here before? From now on it has. */
static __always_inline int collided_before(const struct arrival *in)
{
	__u32 isn = in->isn, *before = bpf_map_lookup_elem(&collided, &in->flow);

	if (before && *before == isn)
		return 1;
	if (bpf_map_update_elem(&collided, &in->flow, &isn, BPF_ANY))
		count(SS_HOST_error_map);
	return 0;
}

/*
 * The SYN @p, for the service in->vip, would get to another one's connection. It is dropped: the
 * balancer may have another server for the next copy. If it has none, that copy, @retried, comes here
 * again. Where the balancer's address is the source, it alone knows how to answer. *@from: who refuses.
 */
static __always_inline enum ingress_result syn_collides(const struct packet *p,
							const struct arrival *in,
							const struct ss_serve *served,
							__u32 retried, struct ss_endpoint *from)
{
	count(SS_HOST_syn_collision);
	if (!collided_before(in) || !retried || source_differs(p, &in->flow))
		return INGRESS_DROP;
	*from = served->strict ? packet_destination(p) : in->vip;
	return INGRESS_REFUSE;
}

/* *@from: with INGRESS_REFUSE, where the RST comes from. */
static __noinline int ingress_syn(struct __sk_buff *skb, struct packet *p, struct ss_endpoint *from)
{
	struct arrival in = { .flow = { packet_destination(p), packet_source(p) },
			      .isn = SS_BE32(p->tcp->seq) };
	const struct ss_serve *served;
	struct request request = {};
	enum syn_meets meets;
	__u32 retried;

	if (!from)
		return INGRESS_PASS;
	if (!syn_request(skb, p, &in.c))
		return INGRESS_PLAIN;
	request_read(&in.c, &in.flow.remote, in.flow.local.port, &request);
	if (syn_is_own(skb, &request, in.isn)) {
		/* from a balancer that changes sources: it will carry the connection both ways */
		if (!ss_endpoint_equal(&request.client, &in.flow.remote))
			return INGRESS_PASS;
		return syn_send_on(skb, p, &in.c, &request);
	}
	served = bpf_map_lookup_elem(&serve, &request.vip);
	if (!served && !request.vip.port) {
		count(SS_HOST_syn_ambiguous);
		return INGRESS_DROP;
	}
	if (!served) {
		count(SS_HOST_syn_not_served);
		return INGRESS_PASS;
	}
	if (syn_target(p, &request, &in.c, served, &in.flow))
		return INGRESS_PASS;
	in.vip = request.vip;
	retried = in.c.form & SS_REQUEST_RETRY;
	meets = syn_meets(skb, &in);
	if (meets == MEETS_OTHER)
		return syn_collides(p, &in, served, retried, from);
	if (meets == MEETS_OLD_LISTENER) {
		count(SS_HOST_syn_old_listener);
		if (source_differs(p, &in.flow)) {
			count(SS_HOST_syn_not_restored);
			return INGRESS_PASS;
		}
	}
	syn_restore(skb, p, &in.flow);
	return INGRESS_PASS;
}

/* A packet that is no SYN, on a host that has had connections to strict servers. 1: it was one's. */
static __always_inline int ingress_strict(struct __sk_buff *skb, struct packet *p)
{
	struct ss_flow flow = { .local = packet_destination(p), .remote = packet_source(p) };

	return strict_translate(skb, p, &flow);
}

/* Does the SYN @p carry a request? A function of its own, for the stack of kernel 6.1. */
static __noinline int syn_asks(struct __sk_buff *skb, const struct packet *p)
{
	struct ss_opt_cursor c = {};

	return syn_request(skb, p, &c);
}

/* A packet for @service that a balancer had wrapped. */
static __always_inline enum ingress_result
ingress_unwrapped(struct __sk_buff *skb, struct packet *p, struct ss_endpoint *service)
{
	if (p->tcp->syn && syn_asks(skb, p))
		return ingress_syn(skb, p, service);
	if (plain_arrives(skb, p, service))
		return INGRESS_PASS;
	/* the balancer has no other server for a SYN without a request */
	return p->tcp->syn ? INGRESS_REFUSE : INGRESS_DROP;
}

/* A packet that is not TCP, unless a balancer has wrapped it. */
static __always_inline enum ingress_result ingress_other(struct __sk_buff *skb, struct packet *p,
							 struct ss_endpoint *service)
{
	switch (decapsulate(skb, p, service)) {
	case DECAPSULATED_TCP:
		return ingress_unwrapped(skb, p, service);
	case DECAPSULATED_UDP:
		return INGRESS_PASS;
	case DECAPSULATED_ICMP:
		return icmp_translate(skb) ? INGRESS_PASS : INGRESS_DROP;
	case DECAPSULATED_BROKEN:
		return INGRESS_DROP;
	default:
		if (udp_is_used())
			udp_direct(skb);
		(void)icmp_translate(skb);
		return INGRESS_PASS;
	}
}

static __always_inline enum ingress_result ingress_packet(struct __sk_buff *skb, struct packet *p,
							  struct ss_endpoint *service)
{

	if (!packet_parse(skb, p))
		return ingress_other(skb, p, service);
	if (p->tcp->syn)
		return p->tcp->ack ? ingress_synack(skb, p) : ingress_syn(skb, p, service);
	if (p->tcp->rst && reset_refuses(skb, p))
		return INGRESS_PASS;
	if (strict_is_used() && ingress_strict(skb, p))
		return INGRESS_PASS;
	if (p->tcp->rst) {
		reset_judge(skb, p);
		reset_restore(skb, p);
	}
	return INGRESS_PASS;
}

static __always_inline enum ingress_result ingress(struct __sk_buff *skb)
{
	struct ss_endpoint service = {};
	struct packet p = {};
	enum ingress_result result = ingress_packet(skb, &p, &service);

	if (result == INGRESS_PLAIN)
		plain_again(skb, &p);
	if (result == INGRESS_REFUSE)
		return syn_refuse(skb, &p, &service) ? INGRESS_NEIGHBOUR : INGRESS_DROP;
	return result;
}

#endif
