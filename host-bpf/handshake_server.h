/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The server's side of the handshake: the grant in the SYN-ACK (step 4) and the connection's state
 * once it is established (step 8).
 *
 * The grant is written in the strict form; egress turns it into a classic one. Only a request that
 * TC ingress has marked is granted (judged.h). One that is held, or that has no mark, still names the service:
 * its SYN-ACK carries a word that says so, which lets egress send it as the service's without any state.
 *
 * The SYN-ACK callbacks have no socket to keep anything in, so the request is read anew where
 * it is needed, from the SYN that the kernel keeps. Of a SYN that is answered with a SYN cookie it
 * keeps nothing, and neither do we, as it may be one of a flood: the grant asks the client to repeat
 * its request until the server has answered.
 */
#ifndef SIDESTEP_HOST_HANDSHAKE_SERVER_H
#define SIDESTEP_HOST_HANDSHAKE_SERVER_H

#include <linux/tcp.h>

#include <sidestep/option.h>

#include "conn.h"
#include "judged.h"
#include "open.h"
#include "request.h"
#include "sockops.h"

/* What the server makes of a SYN. */
enum judgement {
	JUDGED_PLAIN, /* no request */
	JUDGED_UNKNOWN, /* the SYN is not there any more, and nothing repeats its request */
	JUDGED_GRANT,
	JUDGED_HELD, /* no grant, but the answers come from the service */
	JUDGED_REFUSED, /* *reason says why */
};

/* A SYN's TCP header as the kernel hands it out, options where the cursor expects them. */
struct saved_syn {
	struct tcphdr tcp;
	struct ss_opt_cursor c;
};

/* The SYN of @ctx, where the kernel has it still. Returns 0 if it has not. */
static __always_inline int syn_load(struct bpf_sock_ops *ctx, struct saved_syn *syn)
{
	if (bpf_getsockopt(ctx, SOL_TCP, TCP_BPF_SYN, syn, sizeof(syn->tcp) + SS_TCP_OPTS_MAX) <
	    (long)sizeof(syn->tcp))
		return 0;
	syn->c.len = syn->tcp.doff * 4 - sizeof(syn->tcp);
	return 1;
}

/*
 * The request in the segment that @ctx shows, into @c, as if there were no other options. Returns
 * 0 if there is none. Ingress has made of it what it is: accepted, or held; or it did not pass there.
 */
static __noinline int repeat_load(struct bpf_sock_ops *ctx, int ipv4, struct ss_opt_cursor *c)
{
	__u32 first = ipv4 ? SS_REQUEST4_SHORT : SS_REQUEST6;
	long len;

	if (!c)
		return 0;
	for (__u32 i = 0; i < 12; i++) {
		__u32 word = SS_OPT_JUDGED - i / 4 * (SS_OPT_JUDGED - SS_OPT_ARMED);

		len = option_load(ctx, word, first + i % 4, c->opts, SS_OPT_MAX_LEN);
		if (len > 0) {
			c->len = len;
			return 1;
		}
	}
	return 0;
}

/*
 * A TCP Fast Open socket has taken the SYN that the kernel kept, when its SYN-ACK is sent again: it
 * was judged before.
 */
static __always_inline enum judgement syn_judged(const struct ss_flow *flow,
						 struct ss_endpoint *vip)
{
	struct ss_late *entry = bpf_map_lookup_elem(&late, flow);

	if (!entry || entry->half_open < SS_HALF_OPEN_FAST)
		return JUDGED_UNKNOWN;
	*vip = entry->wire;
	if (entry->reason == SS_HOST_server_held)
		return JUDGED_HELD;
	return entry->reason ? JUDGED_UNKNOWN : JUDGED_GRANT;
}

/* Why a request that ingress did not accept is not held, but a plain connection's; 0: it is held. */
static __always_inline enum ss_host_counter held_refusal(const struct ss_flow *flow,
							 const struct request *request)
{
	const struct ss_serve *served = bpf_map_lookup_elem(&serve, &request->vip);

	if (!served)
		return SS_HOST_server_not_served;
	if (!ss_serve_listens(served, flow->local.port))
		return SS_HOST_server_port_mismatch;
	/* the balancer that changed it will change the answers back: they are its own */
	if (request->names != CLIENT_SAME && source_is_trusted(&flow->remote.addr))
		return SS_HOST_server_source_changed;
	return request->names == CLIENT_OTHER ? SS_HOST_server_source_mismatch : 0;
}

/*
 * Judges the request in @c, of a packet on @flow; *@vip: the service that it asks for. A function of
 * its own: kernel 6.1 has no room for what it needs on the stack of the callers.
 */
static __noinline enum judgement request_judge(const struct ss_flow *flow, struct ss_opt_cursor *c,
					       struct ss_endpoint *vip,
					       enum ss_host_counter *reason)
{
	const struct ss_endpoint *accepted;
	struct request request = {};
	enum ss_opt_result found;

	found = request_find(c, ss_addr_is_v4(&flow->remote.addr));
	if (found == SS_OPT_ABSENT)
		return JUDGED_PLAIN;
	*reason = SS_HOST_server_bad_request;
	if (found != SS_OPT_FOUND)
		return JUDGED_REFUSED;
	if (c->word == SS_OPT_JUDGED) {
		accepted = judge_service(c, &flow->remote);
		if (!accepted)
			return JUDGED_PLAIN;
		*vip = *accepted;
		*reason = SS_HOST_server_direct;
		return JUDGED_GRANT;
	}
	request_read(c, &flow->remote, flow->local.port, &request);
	*vip = request.vip;
	*reason = held_refusal(flow, &request);
	if (*reason)
		return JUDGED_REFUSED;
	*reason = SS_HOST_server_held;
	return JUDGED_HELD;
}

/* The same for the SYN that is answered. */
static __always_inline enum judgement syn_judge(struct bpf_sock_ops *ctx,
						const struct ss_flow *flow, struct saved_syn *syn,
						struct ss_endpoint *vip,
						enum ss_host_counter *reason)
{
	if (!syn_load(ctx, syn))
		return syn_judged(flow, vip);
	return request_judge(flow, &syn->c, vip, reason);
}

/* TCP_LISTEN_CB: a server of ours starts to listen. */
static __always_inline void server_listen(struct bpf_sock_ops *ctx)
{
	struct ss_conn state = { .role = SS_ROLE_LISTENER };
	__u32 port = ctx->local_port;
	struct bpf_sock *sk = ctx->sk;
	struct ss_conn *conn;
	int on = 1;

	if (!sk || !bpf_map_lookup_elem(&listen_ports, &port) || !is_own_netns(ctx))
		return;
	state.flow = sockops_flow(ctx);
	conn = bpf_sk_storage_get(&conns, sk, &state, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn) {
		count(SS_HOST_server_state_full);
		return;
	}
	if (bpf_setsockopt(ctx, SOL_TCP, TCP_SAVE_SYN, &on, sizeof(on)))
		count(SS_HOST_error_helper);
	conn->role = SS_ROLE_LISTENER;
	conn->cb_flags |= callbacks_on(ctx, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

/*
 * The connection asked, but its SYN-ACK cannot carry a grant. It stays on the balancer path, where
 * its packets have to come from the VIP all the same; there is no socket yet to keep that in. With
 * TCP Fast Open there is one, which looks for the reason when its handshake is over.
 */
static __always_inline void server_half_open(const struct ss_flow *flow,
					     const struct saved_syn *syn,
					     const struct ss_endpoint *vip,
					     enum ss_host_counter reason)
{
	struct ss_late entry = { .wire = *vip,
				 .synack = bpf_htonl(bpf_ntohl(syn->tcp.seq) + 1),
				 .reason = reason,
				 .role = SS_ROLE_SERVER,
				 .half_open = SS_HALF_OPEN_SYNACK };
	struct ss_late *fast = bpf_map_lookup_elem(&late, flow);

	if (fast && fast->half_open >= SS_HALF_OPEN_FAST) {
		fast->reason = reason;
		return;
	}
	entry.addr_csum = ss_csum_to32(ss_csum_diff_addr(&flow->local.addr, &vip->addr));
	if (bpf_map_update_elem(&late, flow, &entry, BPF_ANY))
		count(SS_HOST_error_map);
}

/* Has the client sent this SYN again without a request, so that the SYN-ACK is to carry no grant? */
static __always_inline int asks_no_more(const struct ss_flow *flow, const struct saved_syn *syn)
{
	const struct ss_late *entry = bpf_map_lookup_elem(&late, flow);

	return entry && entry->half_open == SS_HALF_OPEN_PLAIN &&
	       entry->synack == bpf_htonl(bpf_ntohl(syn->tcp.seq) + 1);
}

/* Has a grant for @vip its own address for the classic form? There is no port in IPv6's. */
static __always_inline int grant_is_full6(const struct ss_endpoint *vip)
{
	const struct ss_serve *served = bpf_map_lookup_elem(&serve, vip);

	return served && !served->strict && served->listen == vip->port;
}

/* How long the answer to a SYN for @vip would best be, in bytes: a grant, or the word for a held request. */
static __always_inline __u32 answer_len(enum judgement judged, const struct ss_endpoint *vip)
{
	if (judged == JUDGED_HELD)
		return sizeof(struct ss_opt_tagged);
	if (ss_addr_is_v4(&vip->addr))
		return sizeof(struct ss_opt_grant4);
	return grant_is_full6(vip) ? sizeof(struct ss_opt_grant6) : sizeof(struct ss_opt_tagged);
}

/*
 * HDR_OPT_LEN_CB of a SYN-ACK: reserve room for a grant, if there is to be one, or for the word that says
 * that the request was held.
 */
static __always_inline void server_reserve(struct bpf_sock_ops *ctx)
{
	struct ss_flow flow = sockops_flow(ctx);
	enum ss_host_counter reason;
	struct ss_endpoint vip = {};
	struct saved_syn syn = {};
	enum judgement judged;
	__u32 len;

	judged = syn_judge(ctx, &flow, &syn, &vip, &reason);
	if ((judged != JUDGED_GRANT && judged != JUDGED_HELD) || !is_own_netns(ctx) ||
	    asks_no_more(&flow, &syn))
		return;
	len = answer_len(judged, &vip);
	if (!bpf_reserve_hdr_opt(ctx, len, 0))
		return;
	if (len == sizeof(struct ss_opt_tagged) ||
	    bpf_reserve_hdr_opt(ctx, sizeof(struct ss_opt_tagged), 0))
		server_half_open(&flow, &syn, &vip,
				 judged == JUDGED_HELD ? SS_HOST_server_held
						       : SS_HOST_server_no_room);
}

/* Writes the answer in the short form; what else was reserved becomes NOPs, and egress may use it. */
static __always_inline void answer_write_tag(struct bpf_sock_ops *ctx, __u32 word, __u32 repeat,
					     const struct ss_endpoint *vip)
{
	struct ss_opt_tagged tagged = {
		.head = ss_opt_head(word, SS_GRANT_SHORT | repeat),
		.service = ss_tag_of(vip).first,
	};

	(void)bpf_store_hdr_opt(ctx, &tagged, sizeof(tagged), 0);
}

/* The same for IPv4: the full grant or, if there is no room for that, the short one. */
static __always_inline void answer_write4(struct bpf_sock_ops *ctx, __u32 repeat,
					  const struct ss_endpoint *vip)
{
	struct ss_opt_grant4 grant = {
		.head = ss_opt_head(SS_OPT_ARMED, SS_GRANT4_STRICT | repeat),
		.addr = vip->addr.w[3],
		.port = vip->port,
	};

	if (bpf_store_hdr_opt(ctx, &grant, sizeof(grant), 0))
		answer_write_tag(ctx, SS_OPT_ARMED, repeat, vip);
}

/*
 * WRITE_HDR_OPT_CB of a SYN-ACK. Comes only if this or another program reserved room. If there is none,
 * server_reserve() was told so, and has taken care of it.
 */
static __always_inline void server_write(struct bpf_sock_ops *ctx)
{
	struct ss_flow flow = sockops_flow(ctx);
	enum ss_host_counter reason;
	struct ss_endpoint vip = {};
	struct saved_syn syn = {};
	enum judgement judged;
	__u32 repeat = 0;

	judged = syn_judge(ctx, &flow, &syn, &vip, &reason);
	if ((judged != JUDGED_GRANT && judged != JUDGED_HELD) || !is_own_netns(ctx))
		return;
	if (ctx->args[0] == BPF_WRITE_HDR_TCP_SYNACK_COOKIE)
		repeat = SS_GRANT_REPEAT;
	if (judged == JUDGED_HELD)
		answer_write_tag(ctx, SS_OPT_HELD, repeat, &vip);
	else if (ss_addr_is_v4(&vip.addr))
		answer_write4(ctx, repeat, &vip);
	else
		answer_write_tag(ctx, SS_OPT_ARMED, repeat, &vip);
}

/*
 * The reason why the SYN-ACK of this very handshake carried no grant, and the service it asked
 * for. Returns 0 if it carried one, or if the client did not ask.
 */
static __always_inline int half_open_find(struct bpf_sock_ops *ctx, const struct ss_flow *flow,
					  struct ss_endpoint *vip, enum ss_host_counter *reason)
{
	struct ss_late *entry = bpf_map_lookup_elem(&late, flow);

	if (!entry || entry->half_open == SS_HALF_OPEN_NO ||
	    entry->half_open >= SS_HALF_OPEN_FAST || entry->synack != bpf_htonl(ctx->rcv_nxt))
		return 0;
	*vip = entry->wire;
	*reason = entry->reason;
	return 1;
}

/* Do packets for @vip leave with this host's own address? Without a grant the client cannot know. */
static __always_inline int is_strict(const struct ss_endpoint *vip)
{
	const struct ss_serve *served = bpf_map_lookup_elem(&serve, vip);

	return served && served->strict;
}

/*
 * Judges the request of the connection that was established: by its SYN or, where that was answered
 * with a SYN cookie and forgotten, by the segment that completed the handshake.
 */
static __always_inline enum judgement established_judge(struct bpf_sock_ops *ctx,
							const struct ss_flow *flow,
							struct ss_endpoint *vip,
							enum ss_host_counter *reason)
{
	int ipv4 = ss_addr_is_v4(&flow->remote.addr);
	__u32 port = ctx->local_port;
	struct saved_syn syn = {};
	enum judgement judged;

	if (syn_load(ctx, &syn))
		return request_judge(flow, &syn.c, vip, reason);
	if (!bpf_map_lookup_elem(&listen_ports, &port) || !repeat_load(ctx, ipv4, &syn.c))
		return JUDGED_UNKNOWN;
	judged = request_judge(flow, &syn.c, vip, reason);
	if (judged == JUDGED_GRANT)
		count(SS_HOST_server_cookie_direct);
	return judged;
}

/* Packets of a connection that came encapsulated: did its SYN have a request, which was held? */
static __noinline int syn_was_held(struct bpf_sock_ops *ctx, const struct ss_flow *flow)
{
	enum ss_host_counter reason;
	struct ss_endpoint vip = {};
	struct saved_syn syn = {};

	return flow && syn_judge(ctx, flow, &syn, &vip, &reason) == JUDGED_HELD;
}

/*
 * A fresh state for the server's connection @sk, of the @flow, which may have one from its listener:
 * @conn. A listener may have its callbacks on, but no state, from programs that were unloaded since.
 */
static __always_inline struct ss_conn *server_conn(struct bpf_sock *sk, struct ss_conn *conn,
						   const struct ss_flow *flow)
{
	struct ss_conn state = { .flow = *flow, .role = SS_ROLE_SERVER };

	if (conn)
		state.counted = conn->counted;
	else
		conn = bpf_sk_storage_get(&conns, sk, &state, BPF_SK_STORAGE_GET_F_CREATE);
	if (conn)
		*conn = state;
	else
		count(SS_HOST_server_state_full);
	return conn;
}

/*
 * TCP Fast Open: the SYN was accepted as a connection, and its SYN-ACK is still to be sent. The
 * callbacks for that are those of the new socket; they have to go when they are not needed any more.
 * @reason: why there will be no grant, or 0.
 */
static __noinline void server_fast_open(struct bpf_sock_ops *ctx, struct ss_conn *conn,
					enum ss_host_counter reason)
{
	struct ss_late entry = {};

	entry.wire = conn->wire;
	entry.addr_csum = conn->addr_csum;
	entry.reason = reason;
	entry.role = SS_ROLE_SERVER;
	entry.half_open = conn->rewrite ? SS_HALF_OPEN_FAST : SS_HALF_OPEN_FAST_STRICT;
	if (bpf_map_update_elem(&late, &conn->flow, &entry, BPF_ANY))
		count(SS_HOST_error_map);
	conn->path = SS_PATH_ASKING;
	conn->cb_flags =
		callbacks_on(ctx, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* STATE_CB: has the third ACK come? A server may close its connection before that. */
static __always_inline void server_fast_decide(struct bpf_sock_ops *ctx)
{
	enum ss_host_counter reason = SS_HOST_server_direct;
	struct bpf_sock *sk = ctx->sk;
	struct ss_late *entry;
	struct ss_conn *conn;

	if (!sk || ctx->args[1] == TCP_SYN_RECV || ctx->args[1] == TCP_FIN_WAIT1)
		return;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!conn || conn->role != SS_ROLE_SERVER || conn->path != SS_PATH_ASKING)
		return;
	entry = bpf_map_lookup_elem(&late, &conn->flow);
	if (entry && entry->half_open >= SS_HALF_OPEN_FAST) {
		if (entry->reason)
			reason = entry->reason;
		if (entry->half_open == SS_HALF_OPEN_FAST)
			entry->half_open = SS_HALF_OPEN_NO;
		else
			late_forget(&conn->flow);
	}
	callbacks_off(ctx, conn->cb_flags & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	conn_decide(conn, reason == SS_HOST_server_direct ? SS_PATH_DIRECT : SS_PATH_BALANCER,
		    reason);
}

/* RTO_CB: what was sent may be too big for the way to the client. */
static __always_inline void server_timeout(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct ss_conn *conn;

	if (!sk)
		return;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (conn && conn->role == SS_ROLE_SERVER && conn->rewrite)
		wire_remember(conn);
}

/* PASSIVE_ESTABLISHED_CB: a connection was accepted. */
static __always_inline void server_established(struct bpf_sock_ops *ctx)
{
	struct ss_flow flow = sockops_flow(ctx);
	enum ss_host_counter reason = 0;
	struct ss_endpoint vip = {};
	struct bpf_sock *sk = ctx->sk;
	int half_open, judged;
	struct ss_conn *conn;
	__u32 callbacks;

	if (!sk || !is_own_netns(ctx))
		return;
	half_open = half_open_find(ctx, &flow, &vip, &reason);
	late_forget(&flow);
	conn = bpf_sk_storage_get(&conns, sk, 0, 0); /* cloned from the listener */
	if (conn)
		callbacks_off(ctx, conn->cb_flags);
	judged = half_open ? JUDGED_GRANT : established_judge(ctx, &flow, &vip, &reason);
	if (half_open && reason == SS_HOST_server_plain && syn_was_held(ctx, &flow))
		reason = SS_HOST_server_held;
	if (judged == JUDGED_UNKNOWN && conn) /* a listener with state keeps SYNs */
		count(SS_HOST_cookie_no_request);
	if (judged == JUDGED_PLAIN || judged == JUDGED_UNKNOWN) {
		(void)bpf_sk_storage_delete(&conns, sk);
		return;
	}
	conn = server_conn(sk, conn, &flow);
	if (!conn)
		return;
	conn->wire = vip;
	open_add(conn);
	if (judged == JUDGED_HELD || (judged == JUDGED_GRANT && (half_open || !is_strict(&vip))))
		conn_rewrite(conn, &vip);
	if (judged != JUDGED_REFUSED && ctx->skb_tcp_flags & TCP_FLAG_SYN) {
		server_fast_open(ctx, conn, judged == JUDGED_HELD || half_open ? reason : 0);
		return;
	}
	callbacks = conn->counted ? BPF_SOCK_OPS_STATE_CB_FLAG : 0;
	if (conn->rewrite)
		callbacks = BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG;
	conn->cb_flags = callbacks_on(ctx, callbacks);
	conn_decide(conn, judged == JUDGED_GRANT && !half_open ? SS_PATH_DIRECT : SS_PATH_BALANCER,
		    reason);
}

#endif
