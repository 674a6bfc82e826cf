/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The state of a connection, and what it is found by when its packets have no full socket.
 */
#ifndef SIDESTEP_HOST_CONN_H
#define SIDESTEP_HOST_CONN_H

#include <sidestep/csum.h>

#include "maps.h"

/* @conn as its packets leave this host. While it asks, its remote end is not known: 0. */
static __always_inline struct ss_flow conn_wire_flow(const struct ss_conn *conn)
{
	struct ss_flow flow = conn->flow;

	if (conn->role == SS_ROLE_CLIENT)
		flow.remote = conn->wire;
	else
		flow.local = conn->wire;
	return flow;
}

/* The hint that leads from the wire to @conn. */
static __noinline void wire_remember(const struct ss_conn *conn)
{
	struct ss_wire *hint;
	struct ss_flow sent;
	__u32 slot;

	if (!conn)
		return;
	sent = conn_wire_flow(conn);
	slot = ss_wire_slot(&sent);
	hint = bpf_map_lookup_elem(&wire_flows, &slot);
	if (!hint)
		return;
	hint->wire = sent;
	hint->flow = conn->flow;
}

/* The connection that may be sent as @wire, by the kernel's flow; NULL if there is no hint. */
static __always_inline const struct ss_flow *wire_recall(const struct ss_flow *wire)
{
	__u32 slot = ss_wire_slot(wire);
	const struct ss_wire *hint = bpf_map_lookup_elem(&wire_flows, &slot);

	return hint && ss_flow_equal(&hint->wire, wire) ? &hint->flow : NULL;
}

/*
 * From now on @conn's packets carry @wire instead of the client's remote, the server's local end.
 * A function of its own: kernel 6.1 has no room for its keys on the stack of the callers.
 */
static __noinline void conn_rewrite(struct ss_conn *conn, const struct ss_endpoint *wire)
{
	const struct ss_endpoint *old =
		conn->role == SS_ROLE_CLIENT ? &conn->flow.remote : &conn->flow.local;

	if (ss_endpoint_equal(old, wire))
		return;
	conn->addr_csum = ss_csum_to32(ss_csum_diff_addr(&old->addr, &wire->addr));
	conn->wire = *wire;
	conn->rewrite = 1;
	wire_remember(conn);
}

/* The path of @conn is decided, and why. */
static __always_inline void conn_decide(struct ss_conn *conn, enum ss_path path,
					enum ss_host_counter reason)
{
	conn->path = path;
	conn->reason = reason;
	count(reason);
}

/*
 * The same for a client's direct path. It counts as such once a packet has left on it (conn_went_direct()):
 * what was granted may still not come true.
 */
static __always_inline void conn_decide_direct(struct ss_conn *conn)
{
	conn->path = SS_PATH_DIRECT;
	conn->reason = SS_HOST_client_direct;
}

/* A packet of the client's connection @conn leaves directly. */
static __always_inline void conn_went_direct(struct ss_conn *conn)
{
	if (conn->direct)
		return;
	conn->direct = 1;
	if (conn->reason == SS_HOST_client_direct) /* else it was counted when its path changed */
		count(SS_HOST_client_direct);
}

/* Nothing that an earlier connection of the same @flow left may touch the new one's packets. */
static __always_inline void late_forget(const struct ss_flow *flow)
{
	if (bpf_map_lookup_elem(&late, flow)) /* rarely: that costs less than deleting */
		(void)bpf_map_delete_elem(&late, flow);
}

#endif
