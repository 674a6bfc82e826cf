/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * RSTs that a server sends in its own name, since it has no socket that would know the service's: it
 * refuses a connection (step 6), or was restarted and has forgotten one (step 10). The client's
 * kernel knows the service only; without this the RST would find no socket, and the connection would
 * wait for minutes, where a direct one ends at once.
 *
 * The map of wire flows only says which connection to ask, as for ICMP errors. Nothing is changed
 * unless that connection is alive and waits for an answer, or has this server; the kernel then looks
 * at the RST's numbers, as at any other's.
 */
#ifndef SIDESTEP_HOST_RESET_H
#define SIDESTEP_HOST_RESET_H

#include "asking.h"
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
static __noinline void reset_judge(struct __sk_buff *skb, const struct packet *p)
{
	struct ss_flow flow = { .local = packet_destination(p), .remote = packet_source(p) };
	__u32 seq = SS_BE32(p->tcp->seq);
	struct bpf_sock *sk = flow_socket(skb, &flow);
	struct bpf_tcp_sock *tcp;
	struct ss_conn *conn;

	if (!sk)
		return;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	tcp = conn ? bpf_tcp_sock(sk) : NULL;
	if (conn && tcp)
		path_reset(conn, tcp, seq);
	bpf_sk_release(sk);
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
	rewrite_from(skb, p, REWRITE_SOURCE, &wire.remote, &flow.remote);
	count(SS_HOST_reset_restored);
}

/*
 * A RST. If it refuses the SYN of a connection that waits for an answer, the service becomes its
 * source. Returns 1 if it does.
 */
static __noinline int reset_refuses(struct __sk_buff *skb, struct packet *p)
{
	struct ss_endpoint local = packet_destination(p), server = packet_source(p);
	const struct ss_flow *known = asking_recall(&local, 0);
	struct ss_flow flow;

	if (!known || !p->tcp->ack || !prefix_covers(&backends, &server.addr))
		return 0;
	flow = *known;
	if (!conn_awaiting(skb, &flow, SS_BE32(p->tcp->ack_seq)))
		return 0;
	rewrite_from(skb, p, REWRITE_SOURCE, &server, &flow.remote);
	count(SS_HOST_reset_refused);
	return 1;
}

#endif
