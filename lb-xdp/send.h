/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Decision -> rewritten: how a packet leaves for the backend that was chosen, and what is counted of that.
 */
#ifndef SIDESTEP_LB_SEND_H
#define SIDESTEP_LB_SEND_H

#include "answer.h"
#include "choose.h"
#include "encap.h"
#include "forward.h"
#include "maps.h"
#include "parse.h"
#include "table.h"

/* In the place of an XDP action: the packet is none of ours; it is the kernel's, if it may be (balance.h). */
#define NOT_OURS (-1)

static __always_inline int drop(enum ss_lb_counter reason)
{
	count(reason);
	return XDP_DROP;
}

/* A packet for the service of @table is not sent on, for @reason. Returns an XDP action. */
static __noinline int balance_refused(struct xdp_md *ctx, const struct packet *p,
				      const struct table *table, enum ss_lb_counter reason)
{
	enum ss_answer answer = SS_ANSWER_DROP;

	if (reason == SS_LB_drop_no_backend)
		answer = table->head->answers & SS_LB_ANSWER_NO_BACKEND;
	else if (reason == SS_LB_drop_no_state && table->head->answers & SS_LB_ANSWER_UNKNOWN)
		answer = SS_ANSWER_RESET;
	count(reason);
	if (answer == SS_ANSWER_RESET)
		return reset_send(ctx, p);
	if (answer == SS_ANSWER_UNREACHABLE)
		return unreachable_send(ctx, p, 1);
	return XDP_DROP;
}

/* Sends @p on, and turns how it leaves into an XDP action. */
static __always_inline int balance_forward(struct xdp_md *ctx, struct packet *p,
					   struct ss_lb_backend_cpu *backend)
{
	switch (forward(ctx, p, backend)) {
	case FORWARD_TX:
		return XDP_TX;
	case FORWARD_REDIRECT:
		/* an action that the verifier knows: it follows what is done with NOT_OURS and others */
		return bpf_redirect(backend->ifindex, 0) == XDP_REDIRECT ? XDP_REDIRECT : XDP_DROP;
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

/* Counts an ICMP error that was sent on, or not: by @action. */
static __always_inline int icmp_counted(int action)
{
	if (action != XDP_DROP)
		count(SS_LB_icmp_forwarded);
	return action;
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

/* A next hop for one packet: for clients, of which there are too many to keep one for each. */
static __always_inline struct ss_lb_backend_cpu *hop_once(void)
{
	__u32 zero = 0;
	struct ss_lb_backend_cpu *hop = bpf_map_lookup_elem(&hop_once_cpu, &zero);

	if (!hop)
		return NULL;
	hop->fresh_until = 0;
	hop->mtu = 0;
	hop->confirm_at = SS_LB_CONFIRM_NEVER; /* it is everybody's */
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

/* Has @backend an address of the other IP version than @p? Then no address can be put in its place. */
static __always_inline int is_across(const struct packet *p, const struct ss_lb_backend *backend)
{
	return ss_addr_is_v4(&backend->endpoint.addr) == (int)p->is_ip6;
}

/*
 * Of how many bytes a packet may be, if @mtu fit and @room are for outer headers; 0: it may be of @len, or @mtu is 0,
 * not known yet. A global function, or kernel 6.1 would follow each of these cases through all that comes behind.
 */
__noinline int size_allowed(__u32 len, __u32 mtu, __u32 room)
{
	return mtu > room && len > mtu - room ? mtu - room : 0;
}

/* The same for @p, by @hop. What is larger would be lost on the way, and its sender would not learn why. */
static __always_inline __u32 too_big_for(const struct packet *p,
					 const struct ss_lb_backend_cpu *hop, __u32 room)
{
	return size_allowed(packet_len(p), hop->mtu, room);
}

/* @p is larger than the @mtu bytes that fit. Returns an XDP action. */
static __always_inline int balance_too_big(struct xdp_md *ctx, const struct packet *p, __u32 mtu)
{
	count(SS_LB_drop_too_big);
	return too_big_send(ctx, p, mtu);
}

/* @p goes to @backend in an outer header. */
static __noinline int balance_wrapped(struct xdp_md *ctx, struct packet *p,
				      const struct table *table,
				      const struct ss_lb_backend *backend,
				      struct ss_lb_backend_cpu *hop)
{
	struct ss_addr client = packet_client(p), source;
	int action;

	if (!table_source(table, &backend->endpoint.addr, &source))
		return drop(SS_LB_drop_no_route);
	if (!decrement_ttl(p))
		return drop(SS_LB_drop_ttl);
	if (encapsulate(ctx, p, table->head->method, &source, &backend->endpoint.addr))
		return drop(SS_LB_error_helper);
	action = balance_forward(ctx, p, hop);
	if (action == XDP_PASS)
		encap_as_client(p, &source, &client);
	return action;
}

#endif
