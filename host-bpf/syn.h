/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 3: a SYN with a request reaches the server. Before the kernel sees it, it is judged; what a balancer
 * did to its source and port is undone, and it is kept from a connection that it does not belong to. What
 * became of the request is written into it, for sockops to read (judged.h).
 *
 * A host that is client and server of a service can be given itself. Its SYN comes back with its own
 * address as the source, which the kernel does not accept (IPv4), or answers past these programs, by
 * the loopback interface (IPv6). Such a SYN is sent on to the balancer's second choice.
 */
#ifndef SIDESTEP_HOST_SYN_H
#define SIDESTEP_HOST_SYN_H

#include "answers.h"
#include "conn.h"
#include "judged.h"
#include "kernel.h"
#include "meets.h"
#include "packet.h"
#include "plain.h"
#include "request.h"
#include "rewrite.h"
#include "socket.h"

enum ingress_result {
	INGRESS_PASS,
	INGRESS_PLAIN, /* the same, for a SYN that the programs have nothing to do with */
	INGRESS_DROP,
	INGRESS_NEIGHBOUR, /* to the next hop of its new destination */
	INGRESS_REFUSE, /* a SYN: dropped, and answered with a RST from refuses_as() */
};

/* Options of others that take 12 bytes of a SYN-ACK: RFC 8684, RFC 7413. */
#define OPT_MPTCP 30
#define OPT_FAST_OPEN 34
#define ROOM_FOR_OTHERS 1 /* beside so many of them, a short grant finds room */

/* What one SYN is judged by: not on the stack, whose 512 bytes all frames share. */
struct syn_work {
	struct arrival in; /* from the packet's source, to the port that the server listens on */
	struct request request;
	__u32 form, word; /* of its option, as in ss_opt_cursor */
	__u32 offset; /* of the option, in the frame */
	__be32 content; /* the option's first word behind its ExID */
	struct ss_endpoint refused_by; /* where a RST comes from that refuses it */
	__u32 crowded; /* 1: the SYN-ACK may have no room for a grant; of SYNs from trusted balancers */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct syn_work);
} syn_work SEC(".maps");

static __always_inline struct syn_work *syn_work_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&syn_work, &zero);
}

/* The packet's SYN is refused, as by @service. */
static __always_inline void refuse_as(const struct ss_endpoint *service)
{
	struct syn_work *w = syn_work_get();

	if (w)
		w->refused_by = *service;
}

static __always_inline const struct ss_endpoint *refuses_as(void)
{
	struct syn_work *w = syn_work_get();

	return w ? &w->refused_by : NULL;
}

/* Counts the options of @c that the SYN-ACK answers by one that takes a grant's room, in c->form. */
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
	c->form += kind == OPT_MPTCP || kind == OPT_FAST_OPEN;
	c->off = off + len;
	return !len;
}

/* Will the SYN-ACK to the SYN whose options @c holds have no room for a grant? */
static __always_inline int synack_is_full(struct ss_opt_cursor *c)
{
	c->off = 0;
	c->form = 0;
	bpf_loop(SS_TCP_OPTS_MAX + 1, option_takes_room, c, 0);
	return c->form > ROOM_FOR_OTHERS;
}

/* The request in @c, of the packet @p. Ends the search: @c is used for something else. */
static __always_inline void syn_read(struct packet *p, struct ss_opt_cursor *c, struct syn_work *w)
{
	__u32 off = c->off;

	barrier_var(off);
	if (off > SS_TCP_OPTS_MAX)
		return;
	w->form = c->form & 15;
	w->word = c->word;
	w->offset = p->l4 + sizeof(struct tcphdr) + off;
	w->content = ((const struct ss_opt_tagged *)(c->opts + off))->service;
	request_read(c, &w->in.flow.remote, w->in.flow.local.port, &w->request);
	w->crowded = w->request.names == CLIENT_OTHER &&
		     source_is_trusted(&w->in.flow.remote.addr) && synack_is_full(c);
}

/*
 * Reads the request of the segment @skb into @w. Returns 1 if there is one; w->in.flow is set in any case.
 * @tail_only: only where our own kernel writes it.
 */
static __noinline int segment_read(struct __sk_buff *skb, struct syn_work *w, int tail_only)
{
	struct ss_opt_cursor c = {};
	struct packet p = {};

	if (!w || !packet_parse(skb, &p))
		return 0;
	w->in.flow.local = packet_destination(&p);
	w->in.flow.remote = packet_source(&p);
	if (!packet_options(skb, &p, &c))
		return 0;
	if (tail_only ? !request_at_tail(&c, !p.is_ip6)
		      : request_find(&c, !p.is_ip6) != SS_OPT_FOUND)
		return 0;
	syn_read(&p, &c, w);
	return 1;
}

/* What becomes of a SYN with a request. */
enum syn_fate {
	SYN_PLAIN, /* the packet stays as it is, and gets no grant */
	SYN_HELD, /* no grant, but the answers come from the service */
	SYN_ACCEPTED,
};

/*
 * The SYN comes from a trusted balancer, which has changed its source: may it get that back? A connection
 * without a grant needs that balancer both ways, so its SYN keeps the balancer's address.
 */
static __always_inline enum syn_fate syn_behind_balancer(const struct syn_work *w)
{
	if (w->word != SS_OPT_ARMED)
		return SYN_PLAIN;
	if (w->form >= SS_REQUEST6 || w->request.names == CLIENT_UNNAMED || w->crowded) {
		count(SS_HOST_syn_not_restored);
		return SYN_PLAIN;
	}
	if (!prefix_covers(&clients, &w->request.client.addr)) {
		count(SS_HOST_syn_client_refused);
		return SYN_PLAIN;
	}
	return SYN_ACCEPTED;
}

/* Judges the request by what it says of its client (docs/design.md, "Who is believed"). */
static __noinline enum syn_fate syn_judge_client(const struct syn_work *w)
{
	if (!w || w->word == SS_OPT_JUDGED) /* nobody sends that */
		return SYN_PLAIN;
	if (w->request.names != CLIENT_SAME && source_is_trusted(&w->in.flow.remote.addr))
		return syn_behind_balancer(w);
	if (w->request.names == CLIENT_OTHER) {
		count(SS_HOST_syn_untrusted);
		return SYN_PLAIN;
	}
	return w->word == SS_OPT_ARMED ? SYN_ACCEPTED : SYN_HELD;
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
 * The SYN of @w would get to another service's connection. It is dropped: the balancer may have another
 * server for the next copy. If it has none, that copy, with the retry bit, comes here again, and is
 * refused. Where the balancer's address is the source, it alone knows how to answer.
 */
static __noinline int syn_collides(struct syn_work *w)
{
	const struct ss_serve *served;

	count(SS_HOST_syn_collision);
	if (!w || !collided_before(&w->in) || !(w->form & SS_REQUEST_RETRY) ||
	    w->request.names == CLIENT_OTHER)
		return INGRESS_DROP;
	served = bpf_map_lookup_elem(&serve, &w->in.vip);
	w->refused_by = served && served->strict ? w->in.flow.local : w->in.vip;
	return INGRESS_REFUSE;
}

/*
 * Which socket does the SYN with the sequence number @isn, of w->in.flow, reach, and can that keep what a grant
 * would promise? @fate is brought up to date. Returns INGRESS_PASS if the SYN may go on.
 */
static __noinline int syn_meet(struct __sk_buff *skb, struct syn_work *w, __u32 isn,
			       enum syn_fate *fate)
{
	if (!w || !fate)
		return INGRESS_DROP;
	w->in.vip = w->request.vip;
	w->in.isn = isn;
	switch (syn_meets(skb, &w->in)) {
	case MEETS_OTHER:
		return syn_collides(w);
	case MEETS_NOBODY:
		count(SS_HOST_server_elsewhere);
		break;
	case MEETS_OLD_LISTENER:
		count(SS_HOST_syn_old_listener);
		break;
	default:
		plain_forget(&w->in.flow, isn);
		/* a container's published port may come first, whoever listens here */
		if (may_be_forwarded(skb, w->form >= SS_REQUEST6))
			answers_note(&w->in.flow, &w->request.vip);
		return INGRESS_PASS;
	}
	if (w->request.names == CLIENT_OTHER) { /* it would have to be restored */
		count(SS_HOST_syn_not_restored);
		*fate = SYN_PLAIN;
		return INGRESS_PASS;
	}
	*fate = SYN_HELD;
	answers_note(&w->in.flow, &w->request.vip);
	return INGRESS_PASS;
}

/* The SYN gets the source and the port of w->in.flow. */
static __noinline int syn_restore(struct __sk_buff *skb, const struct syn_work *w)
{
	struct packet p = {};
	int restored = 0;

	if (!w || !packet_parse(skb, &p))
		return -1;
	if (w->request.names == CLIENT_OTHER) {
		struct ss_endpoint source = packet_source(&p);

		rewrite_from(skb, &p, REWRITE_SOURCE, &source, &w->in.flow.remote);
		restored = 1;
		if (!packet_headers(skb, &p))
			return -1;
	}
	if (p.tcp->dest != w->in.flow.local.port) {
		rewrite(skb, &p, REWRITE_DESTINATION, &w->in.flow.local, 0);
		restored = 1;
	}
	if (restored)
		count(SS_HOST_syn_restored);
	return 0;
}

/*
 * The request says from now on what became of it: it is marked as accepted, for whoever answers the segment of
 * w->in.flow, or it is held. @l4: the offset of the TCP header.
 */
static __noinline void syn_mark(struct __sk_buff *skb, const struct syn_work *w, __u32 l4,
				int accepted)
{
	struct ss_opt_tagged mark;
	__be16 exid;
	__u64 diff;
	long err;

	if (!w || (!accepted && w->word != SS_OPT_ARMED))
		return;
	exid = SS_BE16(w->word | w->form);
	if (accepted) {
		mark = judge_mark(w->form, &w->in.flow.remote, &w->request.vip);
		diff = ss_csum_diff32(w->content, mark.service) +
		       ss_csum_diff16(exid, mark.head.exid);
		err = bpf_skb_store_bytes(skb, w->offset, &mark, sizeof(mark), 0) |
		      bpf_l4_csum_replace(skb, l4 + CHECK_OFFSET, 0,
					  ss_csum_at(diff, w->offset - l4), 0);
	} else {
		err = exid_replace(skb, l4, w->offset, exid, SS_BE16(SS_OPT_HELD | w->form));
	}
	if (err)
		count(SS_HOST_error_helper);
}

/*
 * The SYN whose request is @w's is for a service of this host. w->in.flow leads from its source to the port that
 * the service's server listens on.
 */
static __noinline int syn_served(struct __sk_buff *skb, struct syn_work *w, __u32 isn, __u32 l4)
{
	enum syn_fate fate = syn_judge_client(w);
	int met;

	if (!w || fate == SYN_PLAIN)
		return INGRESS_PLAIN;
	if (fate == SYN_ACCEPTED)
		w->in.flow.remote = w->request.client;
	met = syn_meet(skb, w, isn, &fate);
	if (met != INGRESS_PASS)
		return met;
	if (fate == SYN_PLAIN)
		return INGRESS_PLAIN;
	if (!syn_restore(skb, w))
		syn_mark(skb, w, l4, fate == SYN_ACCEPTED);
	return INGRESS_PASS;
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
 * then names its second choice.
 */
static __noinline int syn_send_on(struct __sk_buff *skb, const struct syn_work *w)
{
	struct packet p = {};
	__u32 exid;

	if (!w || !packet_parse(skb, &p))
		return INGRESS_DROP;
	if (w->form & SS_REQUEST_RETRY) {
		count(SS_HOST_syn_own_dropped);
		return INGRESS_DROP;
	}
	exid = w->word | w->form;
	rewrite_from(skb, &p, REWRITE_DESTINATION, &w->in.flow.local, &w->request.vip);
	if (exid_replace(skb, p.l4, w->offset, SS_BE16(exid), SS_BE16(exid | SS_REQUEST_RETRY)))
		count(SS_HOST_error_helper);
	count(SS_HOST_syn_sent_on);
	return INGRESS_NEIGHBOUR;
}

/* A SYN with the request of @w. @service, @isn, @l4: as for ingress_syn(). */
static __always_inline int syn_asks(struct __sk_buff *skb, struct syn_work *w,
				    const struct ss_endpoint *service, __u32 isn, __u32 l4)
{
	const struct ss_serve *served;

	if (syn_is_own(skb, &w->request, isn)) {
		/* from a balancer that changes sources: it will carry the connection both ways */
		if (w->request.names == CLIENT_OTHER)
			return INGRESS_PLAIN;
		return syn_send_on(skb, w);
	}
	served = bpf_map_lookup_elem(&serve, &w->request.vip);
	if (!served && !w->request.vip.port && w->form < SS_REQUEST6) {
		count(SS_HOST_syn_ambiguous);
		return INGRESS_DROP;
	}
	if (!served) {
		count(SS_HOST_syn_not_served);
		return INGRESS_PLAIN;
	}
	if (service && !ss_endpoint_equal(service, &w->request.vip))
		return INGRESS_PLAIN;
	if (!ss_serve_listens(served, w->in.flow.local.port))
		w->in.flow.local.port = served->listen;
	return syn_served(skb, w, isn, l4);
}

/*
 * A SYN with the sequence number @isn, whose TCP header is at @l4. @service: whom it was for, if a balancer had
 * wrapped it; else NULL. Returns an ingress_result. A global function, which the verifier looks at once.
 */
__noinline int ingress_syn(struct __sk_buff *skb, const struct ss_endpoint *service, __u32 isn,
			   __u32 l4)
{
	struct syn_work *w = syn_work_get();

	if (!w)
		return INGRESS_PLAIN;
	if (segment_read(skb, w, 0))
		return syn_asks(skb, w, service, isn, l4);
	if (service)
		return INGRESS_PLAIN;
	plain_again(skb, &w->in.flow, isn);
	answers_forget(&w->in.flow);
	return INGRESS_PLAIN;
}

/* A segment that is no SYN has a request only beside other options: from so many words of header on. */
#define REPEAT_DOFF ((sizeof(struct tcphdr) + sizeof(struct ss_opt_request4)) / 4)

/*
 * A client repeats its request in a segment that is no SYN, since the server answered by a SYN cookie. It is
 * judged like that of a SYN, but the segment stays what it is.
 */
__noinline int ingress_repeat(struct __sk_buff *skb, __u32 l4)
{
	struct syn_work *w = syn_work_get();
	enum syn_fate fate = SYN_HELD;
	const struct ss_serve *served;

	if (!w || !segment_read(skb, w, 1))
		return 0;
	served = bpf_map_lookup_elem(&serve, &w->request.vip);
	if (!served || !ss_serve_listens(served, w->in.flow.local.port))
		return 0;
	if (w->request.names != CLIENT_OTHER)
		fate = syn_judge_client(w);
	syn_mark(skb, w, l4, fate == SYN_ACCEPTED);
	return 1;
}

#endif
