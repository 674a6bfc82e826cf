/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What comes in, as a table of contents: SYNs (syn.h), SYN-ACKs (synack.h), packets of servers that answer
 * strictly (strict.h), RSTs of servers that do not know a connection (reset.h), what a balancer has wrapped
 * (decap.h), and ICMP errors (icmp.h). Everything else carries the addresses that the kernel knows.
 */
#ifndef SIDESTEP_HOST_INGRESS_H
#define SIDESTEP_HOST_INGRESS_H

#include "decap.h"
#include "icmp.h"
#include "packet.h"
#include "plain.h"
#include "refuse.h"
#include "reset.h"
#include "strict.h"
#include "syn.h"
#include "synack.h"
#include "udp.h"

/* A packet that is no SYN, on a host that has had connections to strict servers. 1: it was one's. */
static __always_inline int ingress_strict(struct __sk_buff *skb, struct packet *p)
{
	struct ss_flow flow = { .local = packet_destination(p), .remote = packet_source(p) };

	return strict_translate(skb, p, &flow);
}

/* A packet for @service that a balancer had wrapped. */
static __always_inline enum ingress_result
ingress_unwrapped(struct __sk_buff *skb, struct packet *p, const struct ss_endpoint *service)
{
	enum ingress_result result = INGRESS_PLAIN;

	if (p->tcp->syn)
		result = ingress_syn(skb, service, SS_BE32(p->tcp->seq), p->l4);
	if (result != INGRESS_PLAIN)
		return result;
	if (!packet_parse(skb, p) || plain_arrives(skb, p, service))
		return INGRESS_PASS;
	/* the balancer has no other server for a SYN without a request */
	if (!p->tcp->syn)
		return INGRESS_DROP;
	refuse_as(service);
	return INGRESS_REFUSE;
}

/* A packet that is not TCP, unless a balancer has wrapped it. */
static __always_inline enum ingress_result ingress_other(struct __sk_buff *skb, struct packet *p)
{
	struct ss_endpoint service = {};

	switch (decapsulate(skb, p, &service)) {
	case DECAPSULATED_TCP:
		return ingress_unwrapped(skb, p, &service);
	case DECAPSULATED_UDP:
		return INGRESS_PASS;
	case DECAPSULATED_ICMP:
		return icmp_translate(skb) ? INGRESS_PASS : INGRESS_DROP;
	case DECAPSULATED_BROKEN:
		return INGRESS_DROP;
	default:
		if (udp_is_used())
			udp_direct(skb);
		(void)icmp_translate(skb);
		return INGRESS_PASS;
	}
}

static __always_inline enum ingress_result ingress_packet(struct __sk_buff *skb, struct packet *p)
{
	if (!packet_parse(skb, p))
		return ingress_other(skb, p);
	if (p->tcp->syn)
		return p->tcp->ack ? ingress_synack(skb, p)
				   : ingress_syn(skb, NULL, SS_BE32(p->tcp->seq), p->l4);
	if (p->tcp->rst && reset_refuses(skb, p))
		return INGRESS_PASS;
	if (strict_is_used() && ingress_strict(skb, p))
		return INGRESS_PASS;
	if (p->tcp->rst) {
		reset_judge(skb, p);
		reset_restore(skb, p);
	} else if (p->tcp->doff >= REPEAT_DOFF) {
		ingress_repeat(skb, p->l4);
	}
	return INGRESS_PASS;
}

static __always_inline enum ingress_result ingress(struct __sk_buff *skb)
{
	struct packet p = {};
	enum ingress_result result = ingress_packet(skb, &p);

	if (result == INGRESS_REFUSE)
		return syn_refuse(skb, &p, refuses_as()) ? INGRESS_NEIGHBOUR : INGRESS_DROP;
	return result;
}

#endif
