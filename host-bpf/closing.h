/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 10: a socket closes, and packets of its connection will leave without it: the ACKs of a
 * TIME_WAIT socket, RSTs. What turns them into those of the wire is written to the map "late" now,
 * so that it is there however long the connection has lived, and costs its handshake nothing.
 *
 * An orphaned socket becomes a TIME_WAIT minisock when its FIN is acknowledged, which nothing tells
 * before it is done; so who closes first writes it before the FIN is sent. Else it is time when the
 * socket is closed: the RST of an abort leaves after that.
 */
#ifndef SIDESTEP_HOST_CLOSING_H
#define SIDESTEP_HOST_CLOSING_H

#include "conn.h"
#include "kernel.h"
#include "open.h"
#include "strict.h"
#include "unanswered.h"

/* Will packets leave without the socket that goes from @before to @now, for the first time? */
static __always_inline int is_closing(__u32 before, __u32 now)
{
	return now == TCP_FIN_WAIT1 || (now == TCP_CLOSE && before != TCP_FIN_WAIT1 &&
					before != TCP_FIN_WAIT2 && before != TCP_CLOSING);
}

static __noinline void late_write(const struct ss_conn *conn)
{
	struct ss_late entry = {};

	if (!conn)
		return;
	entry.wire = conn->wire;
	entry.addr_csum = conn->addr_csum;
	entry.role = conn->role;
	if (bpf_map_update_elem(&late, &conn->flow, &entry, BPF_ANY))
		count(SS_HOST_error_map);
}

/* STATE_CB: the state of a socket changes. */
static __always_inline void conn_state(struct bpf_sock_ops *ctx)
{
	__u32 before = ctx->args[0], now = ctx->args[1];
	struct bpf_sock *sk = ctx->sk;
	struct ss_conn *conn;

	if (!sk || (now != TCP_FIN_WAIT1 && now != TCP_CLOSE))
		return;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (!conn || conn->role == SS_ROLE_LISTENER)
		return;
	if (conn->rewrite && conn->path != SS_PATH_ASKING && is_closing(before, now))
		late_write(conn);
	if (now != TCP_CLOSE)
		return;
	if (before == TCP_SYN_SENT && conn->path == SS_PATH_ASKING && got_no_answer(sk))
		dial_unanswered(conn);
	if (conn->strict)
		strict_close(conn, before);
	open_remove(conn);
}

#endif
