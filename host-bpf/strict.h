/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Steps 6 and 9 at the client of a server that answers strictly: its packets come from its own
 * address, and the kernel knows that of the service. What turns the one into the other is learnt
 * from the SYN-ACK, and found by the addresses of the wire.
 *
 * A flow of the wire belongs to the connection whose SYN was acknowledged last on it. It is kept
 * while that connection's socket lives, and for as long as the kernel may keep a TIME_WAIT socket
 * of it. What is over stands in queues by the time of its end, and goes when others end, or by a
 * timer of the kernel's: no daemon is needed. Nothing is evicted: when there is no room, the client
 * does not ask for a while.
 *
 * One timer for all: kernels from 6.18 on may refuse to make one in a burst of connections.
 */
#ifndef SIDESTEP_HOST_STRICT_H
#define SIDESTEP_HOST_STRICT_H

#include <sidestep/csum.h>

#include "conn.h"
#include "kernel.h"
#include "maps.h"
#include "rewrite.h"

/*
 * The kernel keeps a closed connection for up to 60 seconds in FIN_WAIT2 and for 60 in TIME_WAIT
 * (include/net/tcp.h), which a FIN that comes again prolongs. Others leave nothing behind; their
 * server's last packets are still to be told from a stranger's.
 */
#define STRICT_TIME_WAIT_NS (135 * SECOND_NS)
#define STRICT_CLOSED_NS (15 * SECOND_NS)

/* How long a client does not ask, once there was no room. */
#define STRICT_FULL_NS (5 * SECOND_NS)

/* How often the timer looks for what is over, and how much goes at a time. */
#define STRICT_COLLECT_NS SECOND_NS
#define STRICT_COLLECT_MAX 16384

static __always_inline struct strict_use *strict_use_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&strict_use, &zero);
}

/* Is there no room for another connection's state? */
static __always_inline int strict_is_full(void)
{
	struct strict_use *use = strict_use_get();

	return use && use->full_until && use->full_until > bpf_ktime_get_ns();
}

/*
 * Removes the flow whose time comes first out of @queue, if that is over. Returns 0 if there was
 * one, 1 if there was none: the value of a bpf_loop() callback.
 */
static __always_inline long strict_collect_one(void *queue)
{
	struct ss_strict_end end;
	struct ss_strict_flow *flow;

	if (bpf_map_peek_elem(queue, &end) || end.at > bpf_ktime_get_ns() ||
	    bpf_map_pop_elem(queue, &end))
		return 1;
	flow = bpf_map_lookup_elem(&strict_flows, &end.wire);
	if (flow && flow->ends == end.at) /* else it is of a newer connection */
		(void)bpf_map_delete_elem(&strict_flows, &end.wire);
	return 0;
}

static long strict_collect_closed(__u32 i, void *ctx)
{
	return strict_collect_one(&strict_closed);
}

static long strict_collect_time_wait(__u32 i, void *ctx)
{
	return strict_collect_one(&strict_time_wait);
}

static __always_inline int strict_has_ends(void)
{
	struct ss_strict_end end;

	return !bpf_map_peek_elem(&strict_closed, &end) ||
	       !bpf_map_peek_elem(&strict_time_wait, &end);
}

/* The timer. It stops when there is nothing left to wait for. */
static int strict_collect(void *map, __u32 *key, struct strict_use *use)
{
	bpf_loop(STRICT_COLLECT_MAX, strict_collect_closed, NULL, 0);
	bpf_loop(STRICT_COLLECT_MAX, strict_collect_time_wait, NULL, 0);
	use->collecting = 0;
	if (strict_has_ends() && !bpf_timer_start(&use->timer, STRICT_COLLECT_NS, 0))
		use->collecting = 1;
	return 0;
}

/* Something will be over: the timer is to look. If it cannot be had, the next one tries. */
static __always_inline void strict_collect_later(struct strict_use *use)
{
	if (use->collecting)
		return;
	(void)bpf_timer_init(&use->timer, &strict_use, CLOCK_MONOTONIC);
	use->collecting = !bpf_timer_set_callback(&use->timer, strict_collect) &&
			  !bpf_timer_start(&use->timer, STRICT_COLLECT_NS, 0);
}

/* The server that @conn has learnt of is not its server. */
static __always_inline void strict_forget(struct ss_conn *conn)
{
	struct ss_flow wire = conn_wire_flow(conn);

	(void)bpf_map_delete_elem(&strict_flows, &wire);
	conn->strict = 0;
}

/*
 * @conn's SYN was acknowledged by @dip, a server that answers strictly: from now on its packets
 * are @conn's. Returns 0, or -1 if there is no room.
 */
static __noinline int strict_learn(struct ss_conn *conn, const struct ss_endpoint *dip)
{
	struct strict_use *use = strict_use_get();
	struct ss_strict_flow flow = {};
	struct ss_flow wire;

	if (!conn || !dip || !use)
		return -1;
	if (conn->strict)
		strict_forget(conn);
	conn->wire = *dip;
	wire = conn_wire_flow(conn);
	flow.service = conn->flow.remote;
	flow.addr_csum = ss_csum_to32(ss_csum_diff_addr(&dip->addr, &flow.service.addr));
	if (bpf_map_update_elem(&strict_flows, &wire, &flow, BPF_ANY)) {
		use->full_until = bpf_ktime_get_ns() + STRICT_FULL_NS;
		conn->strict = 0;
		return -1;
	}
	conn->strict = 1;
	use->used = 1;
	return 0;
}

/* The connection @conn was closed, in the state @before. */
static __noinline void strict_close(const struct ss_conn *conn, __u32 before)
{
	int time_wait = before == TCP_FIN_WAIT2 || before == TCP_CLOSING;
	struct strict_use *use = strict_use_get();
	struct ss_strict_flow *flow;
	struct ss_strict_end end = {};

	if (!conn || !use)
		return;
	end.wire = conn_wire_flow(conn);
	flow = bpf_map_lookup_elem(&strict_flows, &end.wire);
	if (!flow || !ss_endpoint_equal(&flow->service, &conn->flow.remote))
		return;
	end.at = bpf_ktime_get_ns() + (time_wait ? STRICT_TIME_WAIT_NS : STRICT_CLOSED_NS);
	flow->ends = end.at;
	if (time_wait ? bpf_map_push_elem(&strict_time_wait, &end, 0)
		      : bpf_map_push_elem(&strict_closed, &end, 0))
		(void)bpf_map_delete_elem(&strict_flows, &end.wire); /* no room to wait in */
	for (int i = 0; i < 2; i++) {
		(void)strict_collect_one(&strict_closed);
		(void)strict_collect_one(&strict_time_wait);
	}
	strict_collect_later(use);
}

/*
 * A packet that is no SYN comes in, from @p's source: of a strict server it is from the service.
 * Then returns 1, and ends @p's pointers. @flow, the packet's, is brought up to date.
 */
static __always_inline int strict_translate(struct __sk_buff *skb, struct packet *p,
					    struct ss_flow *flow)
{
	struct ss_strict_flow *known = bpf_map_lookup_elem(&strict_flows, flow);

	if (!known)
		return 0;
	flow->remote = known->service;
	rewrite(skb, p, REWRITE_SOURCE, &flow->remote, known->addr_csum);
	return 1;
}

/* Has this host ever been a client of a strict server? */
static __always_inline int strict_is_used(void)
{
	struct strict_use *use = strict_use_get();

	return use && use->used;
}

#endif
