/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The client's side of the handshake: the request in the SYN (step 1) and, once the SYN-ACK is
 * there, the decision where the connection goes (step 7), before the third ACK leaves. A server that
 * used a SYN cookie gets the request again in what follows.
 */
#ifndef SIDESTEP_HOST_HANDSHAKE_CLIENT_H
#define SIDESTEP_HOST_HANDSHAKE_CLIENT_H

#include <linux/errno.h>
#include <bpf/bpf_core_read.h>

#include <sidestep/option.h>

#include "blocked.h"
#include "conn.h"
#include "link.h"
#include "sockops.h"
#include "strict.h"

/*
 * Of a connection's SYNs the first two carry a request, the third does not, and so on: a middlebox that
 * drops unknown options must cost seconds, not the connection (as in RFC 8684, section 3.8). But SYNs get
 * lost for other reasons, too, and a balancer may take none without a request. Retry bits come in pairs
 * then, 0 1, 1 0, 0 1: no choice of the balancer's is left out.
 */
#define REQUEST_SYNS 2
#define REQUEST_TURN (REQUEST_SYNS + 1)

/*
 * The same for segments with a repeated request: so many timeouts in a row, and it is left out. By
 * then both paths have been tried.
 */
#define REPEAT_TIMEOUTS 4

/* Is it the turn of a request in the SYN that @conn sends now? */
static __always_inline int request_is_due(const struct ss_conn *conn)
{
	return conn->syn_retries % REQUEST_TURN < REQUEST_SYNS;
}

/* Is @remote a service, by its address or by its address and port? */
static __always_inline int is_dialled(const struct ss_endpoint *remote)
{
	struct ss_prefix exact = { .prefixlen = sizeof(exact) * 8 - 32,
				   .port = remote->port,
				   .addr = remote->addr };

	return prefix_covers(&dial, &remote->addr) || bpf_map_lookup_elem(&dial, &exact);
}

/* The state of the client's connection that @ctx is about; NULL if it is none of ours. */
static __always_inline struct ss_conn *client_conn(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct ss_conn *conn;

	if (!sk)
		return NULL;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	return conn && conn->role == SS_ROLE_CLIENT ? conn : NULL;
}

/* What of the kernel's TCP socket is needed here; found by BTF (CO-RE), if it is there. */
struct tcp_sock___keys {
	void *md5sig_info; /* RFC 2385 */
	void *ao_info; /* RFC 5925; Linux 6.7 */
} __attribute__((preserve_access_index));

/* Do signatures cover the addresses of @sk's packets, so that nobody may change them? */
static __always_inline int is_signed(struct bpf_sock *sk)
{
	struct tcp_sock___keys *tcp = (void *)bpf_skc_to_tcp_sock(sk);

	if (!tcp)
		return 0;
	if (bpf_core_field_exists(tcp->md5sig_info) && tcp->md5sig_info)
		return 1;
	return bpf_core_field_exists(tcp->ao_info) && tcp->ao_info;
}

/* TCP_CONNECT_CB: the application connects. */
static __always_inline void client_connect(struct bpf_sock_ops *ctx)
{
	struct ss_conn first = { .role = SS_ROLE_CLIENT, .path = SS_PATH_ASKING };
	struct bpf_sock *sk = ctx->sk;
	struct ss_conn *conn;

	if (!sk)
		return;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (conn) { /* of an earlier connect() with this socket */
		callbacks_off(ctx, conn->cb_flags);
		(void)bpf_sk_storage_delete(&conns, sk);
	}
	first.flow = sockops_flow(ctx);
	if (!is_dialled(&first.flow.remote))
		return;
	first.foreign = !is_own_netns(ctx);
	if (!first.foreign && minute_lasts(&plain, &first.flow.remote)) {
		first.reason = SS_HOST_client_dialled_plainly;
		first.plain_first = 1;
	}
	first.since = bpf_ktime_get_ns();
	conn = bpf_sk_storage_get(&conns, sk, &first, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn) {
		count(SS_HOST_client_state_full);
		return;
	}
	if (conn->foreign) {
		conn->cb_flags = callbacks_on(ctx, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG |
							   BPF_SOCK_OPS_RTO_CB_FLAG);
		return;
	}
	if (strict_is_full()) {
		conn_decide(conn, SS_PATH_BALANCER, SS_HOST_client_state_full);
		return;
	}
	if (is_signed(sk)) {
		late_forget(&first.flow);
		conn_decide(conn, SS_PATH_BALANCER, SS_HOST_client_signed);
		return;
	}
	conn->cb_flags =
		callbacks_on(ctx, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG |
					  BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* The request of @conn is repeated no more. */
static __always_inline void repeat_end(struct bpf_sock_ops *ctx, struct ss_conn *conn)
{
	conn->repeat = 0;
	conn->request_len = 0;
	callbacks_off(ctx, conn->cb_flags & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

/* RTO_CB: runs before the packet is sent again. */
static __always_inline void client_timeout(struct bpf_sock_ops *ctx)
{
	struct ss_conn *conn = client_conn(ctx);
	struct bpf_sock *sk = ctx->sk;
	struct bpf_tcp_sock *tcp;

	if (!conn || !sk)
		return;
	if (conn->path == SS_PATH_ASKING && conn->syn_retries < 255)
		conn->syn_retries++;
	if (conn->rewrite)
		wire_remember(conn);
	conn->hop = SS_HOP_UNKNOWN; /* the way to the server may have changed: look again */
	tcp = bpf_tcp_sock(sk);
	if (tcp)
		path_timeout(conn, tcp);
	/* without it, the server answers from its own address */
	if (conn->repeat && conn->strict && conn->repeat++ == REPEAT_TIMEOUTS)
		repeat_end(ctx, conn);
}

/* Reserves room for the longest request that fits. */
static __always_inline void request_reserve(struct bpf_sock_ops *ctx, struct ss_conn *conn)
{
	__u32 len = ss_addr_is_v4(&conn->flow.remote.addr) ? sizeof(struct ss_opt_request4)
							   : sizeof(struct ss_opt_request6);

	if (bpf_reserve_hdr_opt(ctx, len, 0)) {
		len = sizeof(struct ss_opt_tagged);
		if (bpf_reserve_hdr_opt(ctx, len, 0))
			return;
	}
	conn->request_len = len;
}

/*
 * Is there no reason why @conn's SYN should not name its service? That egress may not arm the request is
 * none: servers answer held ones from the service's address.
 */
static __always_inline int request_is_wanted(const struct ss_conn *conn)
{
	return !conn->reason || conn->reason == SS_HOST_client_translated ||
	       conn->reason == SS_HOST_client_no_ingress;
}

/*
 * HDR_OPT_LEN_CB: does the segment carry a request? SYNs do, and what follows upon a repeat grant,
 * whether the connection makes use of that or not: the server knows the service from nowhere else.
 * It has heard of it when it acknowledges or sends data. Any segment before that may be the one
 * that completes the handshake, as others can be lost.
 */
static __always_inline void client_reserve(struct bpf_sock_ops *ctx)
{
	struct ss_conn *conn = client_conn(ctx);
	struct bpf_sock *sk = ctx->sk;
	struct bpf_tcp_sock *tcp;

	if (!conn || !sk)
		return;
	conn->request_len = 0;
	if (conn->path == SS_PATH_ASKING) {
		if (conn->reason == SS_HOST_client_dialled_plainly && conn->syn_retries)
			conn->reason = 0; /* no answer: what is remembered may not hold */
		if (request_is_due(conn) && request_is_wanted(conn))
			request_reserve(ctx, conn);
		return;
	}
	tcp = conn->repeat ? bpf_tcp_sock(sk) : NULL;
	if (!tcp)
		return;
	if (server_has_heard(conn, tcp))
		repeat_end(ctx, conn);
	else
		request_reserve(ctx, conn);
}

static __always_inline long request_write4(struct bpf_sock_ops *ctx, const struct ss_conn *conn,
					   __u32 retry)
{
	const struct ss_flow *flow = &conn->flow;
	struct ss_opt_request4 request = {
		.head = ss_opt_head(SS_OPT_HELD, SS_REQUEST4 | retry),
		.vip = flow->remote.addr.w[3],
		.cip = flow->local.addr.w[3],
		.vport = flow->remote.port,
		.cport = flow->local.port,
	};

	if (conn->request_len == sizeof(struct ss_opt_request4))
		return bpf_store_hdr_opt(ctx, &request, sizeof(request), 0);
	request.head = ss_opt_head(SS_OPT_HELD, SS_REQUEST4_SHORT | retry);
	return bpf_store_hdr_opt(ctx, &request, sizeof(struct ss_opt_tagged), 0);
}

static __always_inline long request_write6(struct bpf_sock_ops *ctx, const struct ss_conn *conn,
					   __u32 retry)
{
	const struct ss_flow *flow = &conn->flow;
	struct ss_opt_request6 request = {
		.head = ss_opt_head(SS_OPT_HELD, SS_REQUEST6 | retry),
		.service = ss_tag_of(&flow->remote),
		.client = ss_tag_of(&flow->local),
		.vport = flow->remote.port,
		.cport = flow->local.port,
	};

	if (conn->request_len == sizeof(struct ss_opt_request6))
		return bpf_store_hdr_opt(ctx, &request, sizeof(request), 0);
	request.head = ss_opt_head(SS_OPT_HELD, SS_REQUEST6_SHORT | retry);
	return bpf_store_hdr_opt(ctx, &request, sizeof(struct ss_opt_tagged), 0);
}

/* WRITE_HDR_OPT_CB: write the request that room was reserved for. It is held: egress arms it (arm.h). */
static __always_inline void client_write(struct bpf_sock_ops *ctx)
{
	struct ss_conn *conn = client_conn(ctx);
	__u32 retry;
	long err;

	if (!conn || !conn->request_len)
		return;
	retry = conn->syn_retries & SS_REQUEST_RETRY;
	err = ss_addr_is_v4(&conn->flow.remote.addr) ? request_write4(ctx, conn, retry)
						     : request_write6(ctx, conn, retry);
	if (err)
		count(SS_HOST_error_helper);
}

/* Reads the option of @form and @word in the SYN-ACK that @ctx shows into @opt, of @size. As grant_load(). */
static __always_inline long grant_option(struct bpf_sock_ops *ctx, __u32 word, __u32 form,
					 void *opt, __u32 size)
{
	long len = option_load(ctx, word, form, opt, size);

	if (len != size)
		return len < 0 ? len : -1;
	return 0;
}

/*
 * The classic grant of the SYN-ACK that @ctx shows, with the bit @repeat, into *@out. Returns 0,
 * -ENOMSG if there is none, or another negative errno for a malformed one. Where the SYN-ACK comes
 * from a strict server, ingress has made it look like this already.
 */
static __always_inline long grant_load(struct bpf_sock_ops *ctx, const struct ss_flow *flow,
				       __u32 repeat, struct ss_endpoint *out)
{
	long err;

	if (ss_addr_is_v4(&flow->remote.addr)) {
		struct ss_opt_grant4 grant = {};

		err = grant_option(ctx, SS_OPT_ARMED, SS_GRANT4_CLASSIC | repeat, &grant,
				   sizeof(grant));
		out->addr = ss_addr_v4(grant.addr);
		out->port = grant.port;
	} else {
		struct ss_opt_grant6 grant = {};

		err = grant_option(ctx, SS_OPT_ARMED, SS_GRANT6_CLASSIC | repeat, &grant,
				   sizeof(grant));
		__builtin_memcpy(&out->addr, grant.addr, sizeof(out->addr));
		out->port = flow->remote.port;
	}
	return err;
}

/* Is there a short grant, or the answer to a held request, of @word, for what @conn dialled? */
static __always_inline int tag_load(struct bpf_sock_ops *ctx, const struct ss_conn *conn,
				    __u32 word, __u32 repeat)
{
	struct ss_opt_tagged tagged = {};

	return !grant_option(ctx, word, SS_GRANT_SHORT | repeat, &tagged, sizeof(tagged)) &&
	       tagged.service == ss_tag_of(&conn->flow.remote).first;
}

/*
 * What the SYN-ACK says, with the bit @repeat: as grant_load(). -EALREADY: the request was held. A
 * short grant is one that ingress has taken in: it has put the server into the state of the connection.
 */
static __noinline long answer_load(struct bpf_sock_ops *ctx, const struct ss_conn *conn,
				   __u32 repeat, struct ss_endpoint *out)
{
	long err;

	if (!conn || !out)
		return -EINVAL;
	err = grant_load(ctx, &conn->flow, repeat, out);
	if (err != -ENOMSG)
		return err;
	if (conn->strict && tag_load(ctx, conn, SS_OPT_ARMED, repeat)) {
		*out = conn->wire;
		return 0;
	}
	return tag_load(ctx, conn, SS_OPT_HELD, repeat) ? -EALREADY : -ENOMSG;
}

/* Why no SYN of @conn was armed. */
static __always_inline enum ss_host_counter unarmed_reason(const struct ss_conn *conn)
{
	if (conn->foreign)
		return SS_HOST_client_other_netns;
	if (conn->reason)
		return conn->reason;
	return conn->request_len || conn->syn_retries ? SS_HOST_client_unseen
						      : SS_HOST_client_no_room;
}

/* Why @conn is not redirected: what came of looking for a grant is @err, or @dip. 0: it is. */
static __always_inline enum ss_host_counter client_refusal(const struct ss_conn *conn, long err,
							   const struct ss_endpoint *dip)
{
	if (!conn->asked)
		return unarmed_reason(conn);
	if (err == -EALREADY)
		return SS_HOST_client_held;
	if (err && conn->reason) /* why it asked no more */
		return conn->reason;
	if (err == -ENOMSG)
		return conn->syn_retries >= REQUEST_SYNS ? SS_HOST_client_gave_up
							 : SS_HOST_client_no_grant;
	if (err)
		return SS_HOST_client_bad_grant;
	return prefix_covers(&backends, &dip->addr) ? 0 : SS_HOST_client_out_of_range;
}

/*
 * @conn is granted the server @dip. One that used a SYN cookie knows the service from a request that
 * comes again; if that is removed on the way, its packets come from its own address.
 */
static __always_inline void client_granted(struct ss_conn *conn, const struct ss_endpoint *dip)
{
	if (conn->strict && !ss_endpoint_equal(&conn->wire, dip)) /* not from there */
		strict_forget(conn);
	if (conn->repeat && !conn->strict)
		(void)strict_learn(conn, dip);
	path_granted(conn, dip);
}

/* ACTIVE_ESTABLISHED_CB: the SYN-ACK is there, the third ACK is not sent yet. */
static __always_inline void client_established(struct bpf_sock_ops *ctx)
{
	struct ss_conn *conn = client_conn(ctx);
	struct ss_endpoint dip = {};
	enum ss_host_counter reason;
	long err;

	if (!conn || conn->path != SS_PATH_ASKING)
		return;
	if (!conn->foreign)
		late_forget(&conn->flow);
	if (conn->asked && !conn->answered)
		link_found_blind(conn->hop_ifindex);
	conn->hop_ifindex = 0;
	path_begin(conn, ctx->bytes_acked);
	err = answer_load(ctx, conn, 0, &dip);
	if (err == -ENOMSG) {
		err = answer_load(ctx, conn, SS_GRANT_REPEAT, &dip);
		conn->repeat = err != -ENOMSG;
	}
	reason = client_refusal(conn, err, &dip);
	if (!conn->repeat)
		repeat_end(ctx, conn);
	if (!reason) {
		client_granted(conn, &dip);
		return;
	}
	conn_decide(conn, SS_PATH_BALANCER, reason);
	if (reason == SS_HOST_client_gave_up)
		minute_begin(&plain, &conn->flow.remote);
	if (!path_on_trial(conn))
		callbacks_off(ctx, conn->cb_flags & BPF_SOCK_OPS_RTO_CB_FLAG);
}

#endif
