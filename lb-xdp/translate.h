/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The method nat, both ways: a packet for a service goes on from a port of the balancer's own address, and
 * its server's answers come back there (nat.h has the ports).
 */
#ifndef SIDESTEP_LB_TRANSLATE_H
#define SIDESTEP_LB_TRANSLATE_H

#include "choose.h"
#include "flow.h"
#include "maps.h"
#include "nat.h"
#include "nat_icmp.h"
#include "parse.h"
#include "send.h"
#include "table.h"

/*
 * The SYN @p begins a connection by nat: its backend and its port are those of w->flow from now on.
 * Returns 0, or the counter that says why there is no such connection, negated.
 */
static __always_inline int nat_begin(const struct table *table, const struct packet *p,
				     enum kind kind, struct nat_work *w)
{
	const struct ss_lb_backend *backend = balance_choose(table, p, kind).backend;

	if (!backend)
		return -SS_LB_drop_no_backend;
	w->nat.client = w->client;
	w->nat.service = p->dst;
	w->nat.used = bpf_ktime_get_coarse_ns();
	w->nat.seen = 0;
	w->nat.isn = 0;
	if (!table_source(table, &backend->endpoint.addr, &w->ends.local.addr))
		return -SS_LB_drop_no_route;
	w->ends.remote = backend->endpoint;
	if (nat_take(&w->ends, &w->nat, packet_hash(p)))
		return -SS_LB_drop_no_port;
	flow_write(&w->key, backend, w->ends.local.port, 0, flow_isn(p));
	w->flow.backend = *backend;
	w->flow.nat_port = w->ends.local.port;
	return 0;
}

/* Finds the connection of @p, or begins it: w->flow. Returns 0, or a counter, negated. */
static __always_inline int nat_flow(const struct table *table, const struct packet *p,
				    enum kind kind, struct nat_work *w)
{
	struct ss_lb_flow *known;

	w->client = packet_source(p);
	w->key = packet_flow_key(table, p);
	known = bpf_map_lookup_elem(&flows, &w->key);
	if (known && known->nat_port && flow_goes_on(known, p, kind)) {
		flow_note(known, p);
		if (kind == KIND_PLAIN_SYN)
			count_unanswered(table, known->backend.id);
		w->flow = *known;
		return 0;
	}
	if (kind == KIND_OTHER)
		return -SS_LB_drop_no_state;
	return nat_begin(table, p, kind, w);
}

/* The connection @key is no longer half open: no packet of its client needs to be looked at for that. */
static __always_inline void nat_flow_opens(const struct ss_lb_flow_key *key)
{
	struct ss_lb_flow *flow = bpf_map_lookup_elem(&flows, key);

	if (flow)
		flow->seen |= SS_LB_FLOW_OPEN;
}

/*
 * A packet to a service whose method is nat. The kernel would forward none from its own address: what it
 * gets, to find the neighbour by, is a RST from the client, which no server answers.
 */
static __noinline int balance_nat(struct xdp_md *ctx, struct packet *p, const struct table *table,
				  enum kind kind)
{
	struct nat_work *w = nat_work_get();
	struct ss_lb_backend_cpu *state;
	int action, mtu;

	if (!w)
		return drop(SS_LB_error_map);
	action = nat_flow(table, p, kind, w);
	if (action)
		return balance_refused(ctx, p, table, -action);
	state = backend_state(&w->flow.backend);
	if (!state)
		return drop(SS_LB_error_map);
	if (!table_source(table, &w->flow.backend.endpoint.addr, &w->ends.local.addr))
		return drop(SS_LB_drop_no_route);
	mtu = too_big_for(p, state, 0);
	if (mtu)
		return balance_too_big(ctx, p, mtu);
	w->ends.local.port = w->flow.nat_port;
	w->ends.remote = w->flow.backend.endpoint;
	if (kind == KIND_OTHER && !(w->flow.seen & SS_LB_FLOW_OPEN) && nat_opens(p, &w->ends))
		nat_flow_opens(&w->key);
	nat_to_server(p, &w->ends);
	action = balance_forward(ctx, p, state);
	if (action == XDP_PASS) {
		rewrite_source(p, &w->client);
		make_reset(p->tcp);
	}
	if (action != XDP_DROP)
		count_forwarded(state, kind);
	return action;
}

/*
 * An ICMP error to a service's address, about what the service's server has said to a client, @quoted at
 * @l4: it goes to that server, from the balancer's own address.
 */
static __noinline int balance_nat_error(struct xdp_md *ctx, struct packet *p,
					const struct table *table, const struct ss_flow *quoted)
{
	struct ss_lb_flow_key key = flow_key(table, &quoted->remote.addr, quoted->remote.port);
	const struct ss_lb_flow *flow = bpf_map_lookup_elem(&flows, &key);
	struct ss_lb_backend_cpu *state;
	struct nat_error e = {};

	if (!flow || !flow->nat_port)
		return drop(SS_LB_drop_no_state);
	e.source = flow->backend.endpoint;
	e.to = e.source.addr;
	if (!table_source(table, &e.to, &e.from))
		return drop(SS_LB_drop_no_route);
	e.destination.addr = e.from;
	e.destination.port = flow->nat_port;
	state = backend_state(&flow->backend);
	if (!state)
		return drop(SS_LB_error_map);
	if (!nat_error_rewrite(p, &e))
		return drop(SS_LB_drop_no_state);
	p->own_source = 1;
	return icmp_counted(balance_forward(ctx, p, state));
}

/* An ICMP error to none of the services: about what went to a server by nat, or none of ours. */
static __noinline int balance_return_error(struct xdp_md *ctx, struct packet *p,
					   const struct ss_flow *quoted)
{
	const struct ss_lb_nat *nat = NULL;
	struct ss_lb_backend_cpu *hop;
	struct nat_error e = {};

	if (quoted && nats_are_used())
		nat = bpf_map_lookup_elem(&nats, quoted);
	if (!nat)
		return NOT_OURS;
	e.source = nat->client;
	e.destination = nat->service;
	e.from = e.destination.addr;
	e.to = e.source.addr;
	hop = hop_once();
	if (!hop || !nat_error_rewrite(p, &e))
		return drop(SS_LB_error_map);
	return icmp_counted(balance_forward(ctx, p, hop));
}

/* A packet to none of the services: a server's answer by nat, or none of ours. */
static __noinline int balance_return(struct xdp_md *ctx, struct packet *p)
{
	struct ss_lb_backend_cpu *hop;
	int action;

	if (!nats_are_used() || !nat_to_client(p))
		return NOT_OURS;
	hop = hop_once();
	if (!hop)
		return drop(SS_LB_error_map);
	action = balance_forward(ctx, p, hop);
	if (action != XDP_DROP)
		count(SS_LB_nat_returned);
	return action;
}

#endif
