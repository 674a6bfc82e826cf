/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 2 of a connection, whole: parse -> service -> request -> backend -> forward. ICMP errors
 * about what a server sent as the service take the same way.
 *
 * In a header of its own so that the balancer and the benchmark that times it run the same code.
 */
#ifndef SIDESTEP_LB_BALANCE_H
#define SIDESTEP_LB_BALANCE_H

#include "answer.h"
#include "choose.h"
#include "echo.h"
#include "icmp.h"
#include "limit.h"
#include "maps.h"
#include "parse.h"
#include "pick.h"
#include "report.h"
#include "send.h"
#include "table.h"
#include "translate.h"
#include "udp.h"

/* Neighbour discovery (RFC 4861): from router solicitations to redirects. */
#define ICMP6_DISCOVERY_FIRST 133
#define ICMP6_DISCOVERY_LAST 137

/* Does the kernel take packets for the address of @p itself, or forward none? Then they do not come back. */
static __always_inline int is_kernels_own(struct xdp_md *ctx, const struct packet *p)
{
	struct bpf_fib_lookup fib = { .ifindex = ctx->ingress_ifindex };
	long found;

	fib_from(&fib, p);
	found = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	return found == BPF_FIB_LKUP_RET_NOT_FWDED || found == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* Neighbours ask each other for addresses that the kernel answers for, as a proxy; none is forwarded. */
static __always_inline int is_discovery(const struct packet *p, enum parse_result parsed)
{
	return parsed == PARSE_ICMP && p->is_ip6 && p->icmp->type >= ICMP6_DISCOVERY_FIRST &&
	       p->icmp->type <= ICMP6_DISCOVERY_LAST;
}

/*
 * A packet that is none of ours, but may be for a service's address: the kernel would give it back to the
 * router that sends all for that address here, and so on until its TTL ends.
 */
static __noinline int balance_stray(struct xdp_md *ctx, struct packet *p, enum parse_result parsed)
{
	__u32 zero = 0;
	struct ss_lb_rules *rule = bpf_map_lookup_elem(&rules, &zero);

	if (!rule || rule->no_service == SS_NO_SERVICE_PASS || !service_address(p) ||
	    is_discovery(p, parsed) || is_kernels_own(ctx, p))
		return XDP_PASS;
	count(SS_LB_drop_no_service);
	if (rule->no_service != SS_NO_SERVICE_UNREACHABLE || parsed == PARSE_ICMP)
		return XDP_DROP;
	return unreachable_send(ctx, p, parsed != PARSE_OTHER);
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

/* An ICMP packet: NOT_OURS, unless it asks for a service's address, or is an error about a connection. */
static __noinline int balance_icmp(struct xdp_md *ctx, struct packet *p)
{
	const struct ss_lb_backend *backend;
	struct ss_lb_backend_cpu *state;
	struct ss_flow quoted = {};
	struct table found, *table = &found;

	if (is_echo_request(p) && service_address(p)) {
		echo_reply(p);
		count(SS_LB_echo_answered);
		return XDP_TX;
	}
	if (!icmp_quote(p, &quoted))
		return NOT_OURS;
	if (!table_find(&quoted.local, table))
		return balance_return_error(ctx, p, &quoted);
	if (table->head->method == SS_METHOD_NAT)
		return balance_nat_error(ctx, p, table, &quoted);
	backend = quoted_backend(table, &quoted);
	if (!backend)
		return drop(is_hashed(table) ? SS_LB_drop_no_backend : SS_LB_drop_no_state);
	state = backend_state(backend);
	if (!state)
		return drop(SS_LB_error_map);
	if (is_across(p, backend))
		return icmp_counted(balance_wrapped(ctx, p, table, backend, state));
	icmp_readdress(p, &backend->endpoint.addr);
	return icmp_counted(balance_forward(ctx, p, state));
}

/* A UDP packet: NOT_OURS, unless it is for a service. */
static __noinline int balance_datagram(struct xdp_md *ctx, struct packet *p)
{
	const struct ss_lb_backend *backend;
	struct table found, *table = &found;
	struct ss_lb_backend_cpu *state;
	int action, mtu;

	if (!table_find(&p->dst, table))
		return NOT_OURS;
	backend = udp_backend(table, p);
	if (!backend)
		return balance_refused(ctx, p, table, SS_LB_drop_no_backend);
	state = backend_state(backend);
	if (!state)
		return drop(SS_LB_error_map);
	mtu = too_big_for(p, state, encap_len(table->head->method, &backend->endpoint.addr));
	if (mtu)
		return balance_too_big(ctx, p, mtu);
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
	case REPORT_UNTIMELY:
		return drop(SS_LB_report_untimely);
	case REPORT_OLD:
		return drop(SS_LB_report_old);
	case REPORT_UNKNOWN:
		return drop(SS_LB_report_unknown);
	}
	return XDP_DROP;
}

/* A TCP packet: NOT_OURS, unless it is for a service, or a server's answer by nat. */
static __always_inline int balance_tcp(struct xdp_md *ctx, struct packet *p)
{
	const struct ss_lb_backend *backend;
	struct ss_lb_backend_cpu *state;
	struct table found, *table = &found;
	int action, mtu, room = 0;
	enum kind kind;

	if (!table_find(&p->dst, table))
		return balance_return(ctx, p);
	if (is_syn(p) && !syn_is_allowed(p))
		return drop(SS_LB_drop_syn_limit);
	kind = packet_kind(ctx, p, table);
	if (kind == KIND_FORGED)
		return drop(SS_LB_drop_bad_tcp);
	if (table->head->method == SS_METHOD_NAT)
		return balance_nat(ctx, p, table, kind);
	if (kind == KIND_PLAIN_SYN && table->head->method == SS_METHOD_REWRITE)
		return drop(SS_LB_drop_no_request);
	backend =
		is_asking(kind) ? balance_asking(table, p, kind) : balance_staying(table, p, kind);
	if (!backend)
		return balance_refused(ctx, p, table,
				       is_known_by(table, kind) ? SS_LB_drop_no_backend
								: SS_LB_drop_no_state);
	state = backend_state(backend);
	if (!state)
		return drop(SS_LB_error_map);

	if (table->head->method != SS_METHOD_REWRITE && (!is_asking(kind) || is_across(p, backend)))
		room = encap_len(table->head->method, &backend->endpoint.addr);
	mtu = is_asking(kind) && !room ? 0 : too_big_for(p, state, room);
	if (mtu)
		return balance_too_big(ctx, p, mtu);
	if (room) {
		action = balance_wrapped(ctx, p, table, backend, state);
	} else {
		rewrite_destination(p, &backend->endpoint);
		action = balance_forward(ctx, p, state);
	}
	if (action != XDP_DROP)
		count_forwarded(state, kind);
	return action;
}

static __always_inline int balance(struct xdp_md *ctx)
{
	struct packet p = {};
	enum parse_result parsed = parse_frame(ctx, &p);
	int action = NOT_OURS;

	if (parsed == PARSE_TCP)
		action = balance_tcp(ctx, &p);
	else if (parsed == PARSE_UDP)
		action = is_report(&p) ? balance_report(ctx, &p) : balance_datagram(ctx, &p);
	else if (parsed == PARSE_ICMP)
		action = balance_icmp(ctx, &p);
	else if (parsed != PARSE_OTHER)
		return balance_unreadable(&p, parsed);
	if (action != NOT_OURS)
		return action;
	return p.is_ip6 || p.ip4 ? balance_stray(ctx, &p, parsed) : XDP_PASS;
}

#endif
