/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The server's side of the handshake: the grant in the SYN-ACK (step 4) and the connection's state
 * once it is established (step 8).
 *
 * The grant is written in the strict form, naming VIP:vport; egress turns it into a classic one.
 * The SYN-ACK callbacks have no socket to keep anything in, so the request is judged anew where
 * it is needed, from the SYN that the kernel keeps. Of a SYN that is answered with a SYN cookie it
 * keeps nothing, and neither do we, as it may be one of a flood: the grant asks the client to repeat
 * its request until the server has answered.
 */
#ifndef SIDESTEP_HOST_HANDSHAKE_SERVER_H
#define SIDESTEP_HOST_HANDSHAKE_SERVER_H

#include <linux/tcp.h>

#include <sidestep/option.h>

#include "conn.h"
#include "open.h"
#include "request.h"
#include "sockops.h"

/* What the server makes of a SYN. */
enum judgement {
	JUDGED_PLAIN, /* no request */
	JUDGED_UNKNOWN, /* the SYN is not there any more, and nothing repeats its request */
	JUDGED_GRANT,
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
 * 0 if there is none.
 */
static __always_inline int repeat_load(struct bpf_sock_ops *ctx, int ipv4, struct ss_opt_cursor *c)
{
	__u32 forms = ipv4 ? SS_FORMS_REQUEST4 : SS_FORMS_REQUEST6;
	long len;

	for (__u32 form = SS_REQUEST4_SHORT; form <= (SS_REQUEST6 | SS_REQUEST_RETRY); form++) {
		struct ss_opt_head head = ss_opt_head(form);

		if (!(forms >> form & 1))
			continue;
		head.len = sizeof(head); /* what to compare: kind and ExID */
		__builtin_memcpy(c->opts, &head, sizeof(head));
		len = bpf_load_hdr_opt(ctx, c->opts, SS_OPT_MAX_LEN, 0);
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

	if (!entry || entry->half_open < SS_HALF_OPEN_FAST || entry->reason)
		return JUDGED_UNKNOWN;
	*vip = entry->wire;
	return JUDGED_GRANT;
}

/*
 * Judges the request in @c by DESIGN section 5; *@vip: the service that it asks for. A function of
 * its own: kernel 6.1 has no room for what it needs on the stack of the callers.
 */
static __noinline enum judgement request_judge(const struct ss_flow *flow, struct ss_opt_cursor *c,
					       struct ss_endpoint *vip,
					       enum ss_host_counter *reason)
{
	const struct ss_serve *served;
	struct request request = {};
	enum ss_opt_result found;
	int same;

	found = request_find(c, ss_addr_is_v4(&flow->remote.addr));
	if (found == SS_OPT_ABSENT)
		return JUDGED_PLAIN;
	*reason = SS_HOST_server_bad_request;
	if (found != SS_OPT_FOUND)
		return JUDGED_REFUSED;
	request_read(c, &flow->remote, flow->local.port, &request);
	*vip = request.vip;
	served = bpf_map_lookup_elem(&serve, vip);
	*reason = SS_HOST_server_not_served;
	if (!served)
		return JUDGED_REFUSED;
	*reason = SS_HOST_server_port_mismatch;
	if (!ss_serve_listens(served, flow->local.port))
		return JUDGED_REFUSED;
	/* Ingress could not restore it: a grant would go to the balancer, past its translation. */
	same = ss_endpoint_equal(&request.client, &flow->remote);
	*reason = SS_HOST_server_source_changed;
	if ((!same || !request.names_client) && source_is_trusted(&flow->remote.addr))
		return JUDGED_REFUSED;
	*reason = SS_HOST_server_source_mismatch;
	if (!same)
		return JUDGED_REFUSED;
	*reason = SS_HOST_server_direct;
	return JUDGED_GRANT;
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

	if (!sk || !bpf_map_lookup_elem(&listen_ports, &port))
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

/* HDR_OPT_LEN_CB of a SYN-ACK: reserve room for a grant, if there is to be one. */
static __always_inline void server_reserve(struct bpf_sock_ops *ctx)
{
	struct ss_flow flow = sockops_flow(ctx);
	enum ss_host_counter reason;
	struct ss_endpoint vip = {};
	struct saved_syn syn = {};
	__u32 len;

	if (syn_judge(ctx, &flow, &syn, &vip, &reason) != JUDGED_GRANT || asks_no_more(&flow, &syn))
		return;
	len = ss_addr_is_v4(&vip.addr) ? sizeof(struct ss_opt_grant4) : sizeof(struct ss_opt_addr6);
	if (bpf_reserve_hdr_opt(ctx, len, 0))
		server_half_open(&flow, &syn, &vip, SS_HOST_server_no_room);
}

/* WRITE_HDR_OPT_CB of a SYN-ACK. Comes only if this or another program reserved room. */
static __always_inline void server_write(struct bpf_sock_ops *ctx)
{
	struct ss_flow flow = sockops_flow(ctx);
	enum ss_host_counter reason;
	struct ss_endpoint vip = {};
	struct saved_syn syn = {};
	__u32 repeat = 0;

	if (syn_judge(ctx, &flow, &syn, &vip, &reason) != JUDGED_GRANT)
		return;
	if (ctx->args[0] == BPF_WRITE_HDR_TCP_SYNACK_COOKIE)
		repeat = SS_GRANT_REPEAT;
	/* No room: server_reserve() was told so, and has taken care of it. */
	if (ss_addr_is_v4(&vip.addr)) {
		struct ss_opt_grant4 grant = {
			.head = ss_opt_head(SS_GRANT4_STRICT | repeat),
			.addr = vip.addr.w[3],
			.port = vip.port,
		};

		(void)bpf_store_hdr_opt(ctx, &grant, sizeof(grant), 0);
	} else {
		struct ss_opt_addr6 grant = { .head = ss_opt_head(SS_GRANT6_STRICT | repeat) };

		__builtin_memcpy(grant.addr, &vip.addr, sizeof(grant.addr));
		(void)bpf_store_hdr_opt(ctx, &grant, sizeof(grant), 0);
	}
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

	if (!sk)
		return;
	half_open = half_open_find(ctx, &flow, &vip, &reason);
	late_forget(&flow);
	conn = bpf_sk_storage_get(&conns, sk, 0, 0); /* cloned from the listener */
	if (conn)
		callbacks_off(ctx, conn->cb_flags);
	judged = half_open ? JUDGED_GRANT : established_judge(ctx, &flow, &vip, &reason);
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
	if (judged == JUDGED_GRANT && (half_open || !is_strict(&vip)))
		conn_rewrite(conn, &vip);
	if (judged == JUDGED_GRANT && ctx->skb_tcp_flags & TCP_FLAG_SYN) {
		server_fast_open(ctx, conn, half_open ? reason : 0);
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
