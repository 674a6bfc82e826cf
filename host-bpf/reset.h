/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 10, the way back: a RST from a server that knows nothing of the connection any more.
 *
 * A server that was restarted has neither the socket nor what egress rewrote its packets by: it resets
 * the connection in its own name. The client's kernel knows the service only; without this the RST
 * would find no socket, and the connection would wait for minutes, where a direct one ends at once.
 *
 * The map of wire flows only says which connection to ask, as for ICMP errors. Nothing is changed
 * unless that connection is alive and has this server; the kernel then looks at the RST's sequence
 * number, as at any other's.
 */
#ifndef SIDESTEP_HOST_RESET_H
#define SIDESTEP_HOST_RESET_H

#include "blocked.h"
#include "conn.h"
#include "packet.h"
#include "rewrite.h"
#include "socket.h"

/* Is there a connection @flow, with this host as client and @server as its server? */
static __always_inline int has_server(struct __sk_buff *skb, const struct ss_flow *flow,
				      const struct ss_endpoint *server)
{
	struct bpf_sock *sk = flow_socket(skb, flow);
	const struct ss_conn *conn;
	int has = 0;

	if (!sk)
		return 0;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	has = conn && conn->role == SS_ROLE_CLIENT && ss_endpoint_equal(&conn->wire, server);
	bpf_sk_release(sk);
	return has;
}

/* Has the packet's own flow a socket? Then the RST is for that, a connection to the server itself. */
static __always_inline int has_socket(struct __sk_buff *skb, const struct ss_flow *flow)
{
	struct bpf_sock *sk = flow_socket(skb, flow);
	int has;

	if (!sk)
		return 0;
	has = sk->state != TCP_LISTEN;
	bpf_sk_release(sk);
	return has;
}

/* A RST: is it the answer to a connection that asked in vain? */
static __noinline int reset_judge(struct __sk_buff *skb, const struct packet *p)
{
	struct ss_flow flow = { .local = packet_destination(p), .remote = packet_source(p) };
	__u32 seq = SS_BE32(p->tcp->seq);
	struct bpf_sock *sk = flow_socket(skb, &flow);
	struct bpf_tcp_sock *tcp;
	struct ss_conn *conn;

	if (!sk)
		return 0;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	tcp = conn ? bpf_tcp_sock(sk) : NULL;
	if (conn && tcp)
		path_reset(conn, tcp, seq);
	bpf_sk_release(sk);
	return 0;
}

/* A RST. The service becomes its source, if its source is what a connection has for the service. */
static __noinline void reset_restore(struct __sk_buff *skb, struct packet *p)
{
	struct ss_flow wire = { .local = packet_destination(p), .remote = packet_source(p) };
	const struct ss_flow *known = wire_recall(&wire);
	struct ss_flow flow;

	if (!known)
		return;
	flow = *known;
	if (!has_server(skb, &flow, &wire.remote) || has_socket(skb, &wire))
		return;
	rewrite(skb, p, REWRITE_SOURCE, &flow.remote,
		ss_csum_to32(ss_csum_diff_addr(&wire.remote.addr, &flow.remote.addr)));
	count(SS_HOST_reset_restored);
}

#endif
