/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 2 of a connection, whole: parse -> service -> request -> backend -> forward. ICMP errors
 * about what a server sent as the service take the same way.
 *
 * In a header of its own so that the balancer and the benchmark that times it run the same code.
 */
#ifndef SIDESTEP_LB_BALANCE_H
#define SIDESTEP_LB_BALANCE_H

#include <sidestep/option.h>

#include "echo.h"
#include "encap.h"
#include "flow.h"
#include "forward.h"
#include "health.h"
#include "icmp.h"
#include "limit.h"
#include "maps.h"
#include "nat.h"
#include "parse.h"
#include "pick.h"
#include "report.h"
#include "request.h"
#include "table.h"
#include "udp.h"

static __always_inline int drop(enum ss_lb_counter reason)
{
	count(reason);
	return XDP_DROP;
}

/* A fragment for a service's address: only what is whole says by its ports where it belongs. */
static __always_inline int balance_fragment(void)
{
	__u32 zero = 0;
	struct ss_lb_rules *rule = bpf_map_lookup_elem(&rules, &zero);

	if (!rule || !rule->pass_fragments)
		return drop(SS_LB_drop_fragment);
	count(SS_LB_fragment_passed);
	return XDP_PASS;
}

/* A packet that is neither TCP nor UDP, or that cannot be read: whose is it, and what is wrong with it? */
static __noinline int balance_unreadable(const struct packet *p, enum parse_result parsed)
{
	switch (parsed) {
	case PARSE_SHORT:
		return drop(SS_LB_drop_short);
	case PARSE_BAD_IP:
		return drop(SS_LB_drop_bad_ip);
	case PARSE_BAD_TCP:
		return service_address(p) ? drop(SS_LB_drop_bad_tcp) : XDP_PASS;
	case PARSE_BAD_UDP:
		return service_address(p) ? drop(SS_LB_drop_bad_udp) : XDP_PASS;
	case PARSE_FRAGMENT:
		return service_address(p) ? balance_fragment() : XDP_PASS;
	default:
		return XDP_PASS;
	}
}

/* Sends @p on, and turns how it leaves into an XDP action. */
static __always_inline int balance_forward(struct xdp_md *ctx, struct packet *p,
					   struct ss_lb_backend_cpu *backend)
{
	switch (forward(ctx, p, backend)) {
	case FORWARD_TX:
		return XDP_TX;
	case FORWARD_REDIRECT:
		return bpf_redirect(backend->ifindex, 0);
	case FORWARD_STACK:
		count(SS_LB_stack_forwarded);
		return XDP_PASS;
	case FORWARD_NO_ROUTE:
		return drop(SS_LB_drop_no_route);
	case FORWARD_NO_FORWARDING:
		return drop(SS_LB_drop_no_forwarding);
	case FORWARD_TTL:
		return drop(SS_LB_drop_ttl);
	}
	return XDP_DROP;
}

/* What a TCP packet of a service is. */
enum kind {
	KIND_REQUEST, /* a SYN with a request: one that may be redirected */
	KIND_RETRY, /* the same, sent again */
	KIND_PLAIN_SYN, /* a SYN without one */
	KIND_OTHER,
};

static __always_inline int is_asking(enum kind kind)
{
	return kind == KIND_REQUEST || kind == KIND_RETRY;
}

/* Counts a packet that was sent to @backend. */
static __always_inline void count_forwarded(struct ss_lb_backend_cpu *backend, enum kind kind)
{
	if (kind == KIND_OTHER) {
		count(SS_LB_other_forwarded);
		backend->others++;
		return;
	}
	count(SS_LB_syn_forwarded);
	backend->syns++;
	if (kind == KIND_PLAIN_SYN)
		count(SS_LB_syn_plain);
	if (kind == KIND_RETRY) {
		count(SS_LB_syn_retried);
		backend->retries++;
	}
}

/* Can packets other than SYNs be sent on without anything known of their connection? */
static __always_inline int is_hashed(const struct table *table)
{
	return ss_scheduler_is_hash(table->head->scheduler);
}

/* A next hop for one packet: for clients, of which there are too many to keep one for each. */
static __always_inline struct ss_lb_backend_cpu *hop_once(void)
{
	__u32 zero = 0;
	struct ss_lb_backend_cpu *hop = bpf_map_lookup_elem(&hop_once_cpu, &zero);

	if (!hop)
		return NULL;
	hop->fresh_until = 0;
	hop->confirm_at = ~0ULL; /* it is everybody's */
	return hop;
}

/* What is kept of @backend, counters and next hop; NULL: nothing can be. */
static __always_inline struct ss_lb_backend_cpu *backend_state(const struct ss_lb_backend *backend)
{
	struct ss_lb_backend_cpu *state = backend_cpu_of(backend->id);

	if (!state || state->owner == backend->owner)
		return state;
	return hop_once(); /* it is gone, but not its connections, and another one has its id */
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

/* An ICMP packet: passed, unless it asks for a service's address, or is an error about a connection. */
static __noinline int balance_icmp(struct xdp_md *ctx, struct packet *p)
{
	const struct ss_lb_backend *backend;
	struct ss_lb_backend_cpu *state;
	struct ss_flow quoted = {};
	struct table found, *table = &found;
	int action;

	if (is_echo_request(p) && service_address(p)) {
		echo_reply(p);
		count(SS_LB_echo_answered);
		return XDP_TX;
	}
	if (!icmp_quote(p, &quoted))
		return XDP_PASS;
	if (!table_find(&quoted.local, table))
		return XDP_PASS;
	if (table->head->method == SS_METHOD_NAT)
		return drop(SS_LB_drop_no_state);
	backend = quoted_backend(table, &quoted);
	if (!backend)
		return drop(is_hashed(table) ? SS_LB_drop_no_backend : SS_LB_drop_no_state);
	state = backend_state(backend);
	if (!state)
		return drop(SS_LB_error_map);
	icmp_readdress(p, &backend->endpoint.addr);
	action = balance_forward(ctx, p, state);
	if (action != XDP_DROP)
		count(SS_LB_icmp_forwarded);
	return action;
}

static __always_inline enum kind packet_kind(struct xdp_md *ctx, const struct packet *p)
{
	int form;

	if (!p->tcp->syn || p->tcp->ack)
		return KIND_OTHER;
	form = request_find(ctx, p);
	if (form < 0)
		return KIND_PLAIN_SYN;
	return form & SS_REQUEST_RETRY ? KIND_RETRY : KIND_REQUEST;
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

		if (flow && flow_is_young(flow))
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
static __always_inline int flow_goes_on(const struct ss_lb_flow *flow, enum kind kind)
{
	return kind == KIND_OTHER || (kind != KIND_RETRY && flow_is_young(flow));
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
	if (flow && flow_goes_on(flow, kind)) {
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
		flow_write(&key, backend, 0, 0);
	return backend;
}

/* @p goes to @backend in an outer header. */
static __noinline int balance_wrapped(struct xdp_md *ctx, struct packet *p,
				      const struct table *table,
				      const struct ss_lb_backend *backend,
				      struct ss_lb_backend_cpu *hop)
{
	struct ss_addr client = packet_client(p);
	int action;

	if (!decrement_ttl(p))
		return drop(SS_LB_drop_ttl);
	if (encapsulate(ctx, p, table->head->method, &table->head->source, &backend->endpoint.addr))
		return drop(SS_LB_error_helper);
	action = balance_forward(ctx, p, hop);
	if (action == XDP_PASS)
		encap_as_client(p, &table->head->source, &client);
	return action;
}

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
	w->ends.local.addr = table->head->source;
	w->ends.remote = backend->endpoint;
	if (nat_take(&w->ends, &w->nat, packet_hash(p)))
		return -SS_LB_drop_no_port;
	flow_write(&w->key, backend, w->ends.local.port, 0);
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
	if (known && known->nat_port && flow_goes_on(known, kind)) {
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

/*
 * A packet to a service whose method is nat. The kernel would forward none from its own address: what it
 * gets, to find the neighbour by, is a RST from the client, which no server answers.
 */
static __noinline int balance_nat(struct xdp_md *ctx, struct packet *p, const struct table *table,
				  enum kind kind)
{
	struct nat_work *w = nat_work_get();
	struct ss_lb_backend_cpu *state;
	int action;

	if (!w)
		return drop(SS_LB_error_map);
	action = nat_flow(table, p, kind, w);
	if (action)
		return drop(-action);
	state = backend_state(&w->flow.backend);
	if (!state)
		return drop(SS_LB_error_map);
	w->ends.local.addr = table->head->source;
	w->ends.local.port = w->flow.nat_port;
	w->ends.remote = w->flow.backend.endpoint;
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

/* A packet to none of the services: a server's answer by nat, or none of ours. */
static __noinline int balance_return(struct xdp_md *ctx, struct packet *p)
{
	struct ss_lb_backend_cpu *hop;
	int action;

	if (!nats_are_used() || !nat_to_client(p))
		return XDP_PASS;
	hop = hop_once();
	if (!hop)
		return drop(SS_LB_error_map);
	action = balance_forward(ctx, p, hop);
	if (action != XDP_DROP)
		count(SS_LB_nat_returned);
	return action;
}

/* A UDP packet: passed, unless it is for a service. */
static __noinline int balance_datagram(struct xdp_md *ctx, struct packet *p)
{
	const struct ss_lb_backend *backend;
	struct table found, *table = &found;
	struct ss_lb_backend_cpu *state;
	int action;

	if (!table_find(&p->dst, table))
		return XDP_PASS;
	backend = udp_backend(table, p);
	if (!backend)
		return drop(SS_LB_drop_no_backend);
	state = backend_state(backend);
	if (!state)
		return drop(SS_LB_error_map);
	action = balance_wrapped(ctx, p, table, backend, state);
	if (action != XDP_DROP) {
		count(SS_LB_udp_forwarded);
		state->others++;
	}
	return action;
}

/* A server's report. */
static __noinline int balance_report(struct xdp_md *ctx, struct packet *p)
{
	switch (report_take(ctx, p)) {
	case REPORT_TAKEN:
		return drop(SS_LB_report_taken);
	case REPORT_MALFORMED:
		return drop(SS_LB_report_malformed);
	case REPORT_FORGED:
		return drop(SS_LB_report_forged);
	case REPORT_WRONG_SOURCE:
		return drop(SS_LB_report_wrong_source);
	case REPORT_OLD:
		return drop(SS_LB_report_old);
	case REPORT_UNKNOWN:
		return drop(SS_LB_report_unknown);
	}
	return XDP_DROP;
}

static __always_inline int balance(struct xdp_md *ctx)
{
	struct packet p = {};
	enum parse_result parsed = parse_frame(ctx, &p);
	const struct ss_lb_backend *backend;
	struct ss_lb_backend_cpu *state;
	struct table found, *table = &found;
	enum kind kind;
	int action;

	if (parsed == PARSE_ICMP)
		return balance_icmp(ctx, &p);
	if (parsed == PARSE_UDP)
		return is_report(&p) ? balance_report(ctx, &p) : balance_datagram(ctx, &p);
	if (parsed != PARSE_TCP)
		return parsed == PARSE_OTHER ? XDP_PASS : balance_unreadable(&p, parsed);
	if (!table_find(&p.dst, table))
		return balance_return(ctx, &p);

	kind = packet_kind(ctx, &p);
	if (kind != KIND_OTHER && !syn_is_allowed(&p))
		return drop(SS_LB_drop_syn_limit);
	if (table->head->method == SS_METHOD_NAT)
		return balance_nat(ctx, &p, table, kind);
	if (kind == KIND_PLAIN_SYN && table->head->method == SS_METHOD_REWRITE)
		return drop(SS_LB_drop_no_request);
	backend = is_asking(kind) ? balance_asking(table, &p, kind)
				  : balance_staying(table, &p, kind);
	if (!backend)
		return drop(is_known_by(table, kind) ? SS_LB_drop_no_backend : SS_LB_drop_no_state);
	state = backend_state(backend);
	if (!state)
		return drop(SS_LB_error_map);

	if (!is_asking(kind) && table->head->method != SS_METHOD_REWRITE) {
		action = balance_wrapped(ctx, &p, table, backend, state);
	} else {
		rewrite_destination(&p, &backend->endpoint);
		action = balance_forward(ctx, &p, state);
	}
	if (action != XDP_DROP)
		count_forwarded(state, kind);
	return action;
}

#endif
