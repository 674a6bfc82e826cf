/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Parsed -> decision: what a TCP packet of a service is, and the backend that it goes to. Packets of
 * connections that the flow table knows go where they went before; SYNs, and what can be hashed, go by
 * the scheduler, which a backend's health may overrule.
 */
#ifndef SIDESTEP_LB_CHOOSE_H
#define SIDESTEP_LB_CHOOSE_H

#include "flow.h"
#include "health.h"
#include "maps.h"
#include "parse.h"
#include "pick.h"
#include "request.h"
#include "table.h"

/* What a TCP packet of a service is. */
enum kind {
	KIND_REQUEST, /* a SYN with a request: one that may be redirected */
	KIND_RETRY, /* the same, sent again */
	KIND_PLAIN_SYN, /* a SYN without one */
	KIND_OTHER,
	KIND_FORGED, /* a SYN that nobody sends who means well */
};

static __always_inline int is_asking(enum kind kind)
{
	return kind == KIND_REQUEST || kind == KIND_RETRY;
}

/* Can packets other than SYNs be sent on without anything known of their connection? */
static __always_inline int is_hashed(const struct table *table)
{
	return ss_scheduler_is_hash(table->head->scheduler);
}

/* Who has the connection that an ICMP error is about. */
static __always_inline const struct ss_lb_backend *quoted_backend(const struct table *table,
								  const struct ss_flow *quoted)
{
	struct ss_lb_flow_key key = flow_key(table, &quoted->remote.addr, quoted->remote.port);
	const struct ss_lb_flow *flow = NULL;

	if (table->head->flow_id)
		flow = bpf_map_lookup_elem(&flows, &key);
	if (flow)
		return &flow->backend;
	return is_hashed(table) ? pick(table, quoted_hash(table, quoted)) : NULL;
}

/*
 * A SYN with a request that may not be granted. By `rewrite` only its request lets the server know the
 * service, so it goes on like one that asks; else it is a client's that did not.
 */
static __always_inline enum kind held_kind(const struct request *request, const struct table *table)
{
	/* by `rewrite` it needs a hash: nothing else finds the server for what follows */
	if (table->head->method != SS_METHOD_REWRITE || !is_hashed(table))
		return KIND_PLAIN_SYN;
	return request->form & SS_REQUEST_RETRY ? KIND_RETRY : KIND_REQUEST;
}

/* What the SYN @p is, for the service of @table. May change its request. */
static __noinline enum kind syn_kind(struct xdp_md *ctx, struct packet *p,
				     const struct table *table)
{
	struct request request = {};

	if (!request_find(ctx, p, &request) || request.word == SS_OPT_JUDGED)
		return KIND_PLAIN_SYN;
	if (table->head->method == SS_METHOD_NAT && request_is_short(&request)) {
		request_erase(p, &request);
		/* a second one would reach the server unseen, in the balancer's name */
		return request_find(ctx, p, &request) ? KIND_FORGED : KIND_PLAIN_SYN;
	}
	if (request.word == SS_OPT_ARMED && request_names_source(p, &request))
		return request.form & SS_REQUEST_RETRY ? KIND_RETRY : KIND_REQUEST;
	request_hold(p, &request);
	count(SS_LB_syn_held);
	return held_kind(&request, table);
}

/*
 * What the TCP packet @p is. Nearly every SYN that asks is one of IPv4 with its request where our own kernel writes
 * it, and names its source: those are told without a call.
 */
static __always_inline enum kind packet_kind(struct xdp_md *ctx, struct packet *p,
					     const struct table *table)
{
	struct request request = {};

	if (!is_syn(p))
		return KIND_OTHER;
	if (!p->is_ip6 &&
	    request_at_tail(p, sizeof(struct ss_opt_request4), 1 << SS_REQUEST4, &request) &&
	    request.word == SS_OPT_ARMED && request_names_source4(p, &request))
		return KIND_REQUEST;
	return syn_kind(ctx, p, table);
}

/* A SYN that the backend @id got first has come again: it has not answered, or its answer was lost. */
static __always_inline void count_unanswered(const struct table *table, __u32 id)
{
	struct ss_lb_backend_cpu *state = backend_cpu_of(id);
	const struct ss_lb_head *head = table->head;

	if (state)
		state->unanswered++;
	if (head->suspect_count)
		health_missed(id, head->suspect_count, head->suspect_share, head->suspect_hold);
}

/*
 * Who got the SYN @p, of @hash, the first time, as far as that is known: a backend's id. If it was not
 * the scheduler's choice, the flow table has it.
 */
static __noinline __u32 first_backend(const struct table *table, const struct packet *p, __u64 hash)
{
	if (health_matters(table)) {
		struct ss_lb_flow_key key = packet_flow_key(table, p);
		const struct ss_lb_flow *flow = bpf_map_lookup_elem(&flows, &key);

		if (flow && flow_has_syn(flow, p))
			return flow->backend.id;
	}
	return first_choice(table, hash);
}

/* What was chosen for a packet. */
struct choice {
	const struct ss_lb_backend *backend; /* NULL: there is none */
	int diverted; /* it is not the scheduler's choice */
};

#define DIVERTED (1U << 31) /* beside a backend's index */

/*
 * The index of the backend for @p, of @hash. For SYNs it also matters how the backends are; then the
 * index may be DIVERTED.
 */
static __noinline __u32 balance_index(const struct table *table, const struct packet *p,
				      enum kind kind, __u64 hash)
{
	__u32 index, chosen, first = NO_BACKEND;

	if (kind == KIND_RETRY) {
		first = first_backend(table, p, hash);
		count_unanswered(table, first);
	}
	index = pick_index(table, hash, kind == KIND_RETRY);
	if (kind == KIND_OTHER || !health_matters(table))
		return index;
	chosen = health_choose(table, hash, index, first);
	return chosen == index ? index : chosen | DIVERTED;
}

/* The backend that the scheduler of @table has for @p. If it comes again, that is its second choice. */
static __always_inline struct choice balance_choose(const struct table *table,
						    const struct packet *p, enum kind kind)
{
	struct choice choice = {};
	__u32 index;

	if (!table->head->active)
		return choice;
	index = balance_index(table, p, kind, choice_hash(table, p));
	choice.diverted = index & DIVERTED;
	choice.backend = table_backend(table, index & ~DIVERTED);
	if (!choice.backend || kind == KIND_OTHER)
		return choice;
	if (kind != KIND_RETRY && table->head->suspect_count)
		health_sent(choice.backend->id);
	if (choice.diverted) {
		count(SS_LB_syn_diverted);
		load_sent(choice.backend->id);
	}
	return choice;
}

/* The backend for a SYN with a request: nothing is remembered, but what no hash says. */
static __always_inline const struct ss_lb_backend *
balance_asking(const struct table *table, const struct packet *p, enum kind kind)
{
	struct choice choice = balance_choose(table, p, kind);
	struct ss_lb_flow_key key;

	if (!table->head->flow_id || !choice.backend)
		return choice.backend;
	if (kind == KIND_REQUEST && !choice.diverted) {
		flow_forget(table, p);
		return choice.backend;
	}
	key = packet_flow_key(table, p);
	flow_adopt(table, &key, choice.backend, p);
	return choice.backend;
}

/*
 * Is there a way to find, for a packet of @kind, the backend of its connection, and for what follows
 * it? If nothing is hashed, plain SYNs want to be remembered, and packets behind them known.
 */
static __always_inline int is_known_by(const struct table *table, enum kind kind)
{
	return is_asking(kind) || is_hashed(table) ||
	       (kind == KIND_PLAIN_SYN && table->head->flow_id);
}

/* Is a packet of @kind one of the connection that @flow knows? Else a new one has its place. */
static __always_inline int flow_goes_on(const struct ss_lb_flow *flow, const struct packet *p,
					enum kind kind)
{
	return kind == KIND_OTHER || (kind != KIND_RETRY && flow_has_syn(flow, p));
}

/* The backend for a packet of a connection that stays on the balancer; NULL: there is none. */
static __noinline const struct ss_lb_backend *
balance_staying(const struct table *table, const struct packet *p, enum kind kind)
{
	const struct ss_lb_backend *backend;
	struct ss_lb_flow *flow = NULL;
	struct ss_lb_flow_key key;

	key = packet_flow_key(table, p);
	if (table->head->flow_id)
		flow = bpf_map_lookup_elem(&flows, &key);
	if (flow && flow_goes_on(flow, p, kind)) {
		flow_note(flow, p);
		if (kind == KIND_PLAIN_SYN)
			count_unanswered(table, flow->backend.id);
		return &flow->backend;
	}
	if (!is_known_by(table, kind))
		return NULL;
	backend = balance_choose(table, p, kind).backend;
	if (!backend || !table->head->flow_id)
		return backend;
	if (kind == KIND_OTHER)
		flow_adopt(table, &key, backend, p);
	else
		flow_write(&key, backend, 0, 0, flow_isn(p));
	return backend;
}

#endif
