/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Steps 3 and 9 for UDP services: what a balancer has wrapped (decap.h) goes to the port that the server
 * listens on, at its own address, and the answer leaves as the service's. The client has nothing of
 * ours, and its packets do not ask.
 *
 * UDP has no connections, and one socket talks to all clients. So what an answer is to come from follows
 * from how its client came here last: by which service, or to the server itself.
 */
#ifndef SIDESTEP_HOST_UDP_H
#define SIDESTEP_HOST_UDP_H

#include <sidestep/csum.h>

#include "maps.h"
#include "packet.h"
#include "rewrite.h"

static __always_inline int udp_is_used(void)
{
	__u32 zero = 0, *used = bpf_map_lookup_elem(&udp_used, &zero);

	return used && *used;
}

static __always_inline void udp_use(void)
{
	__u32 zero = 0, *used = bpf_map_lookup_elem(&udp_used, &zero);

	if (used && !*used)
		*used = 1;
}

/* The @end of the UDP packet @p becomes @to, which stands in place of @from. */
static __always_inline void udp_rewrite(struct __sk_buff *skb, struct packet *p,
					enum rewrite_end end, const struct ss_endpoint *from,
					const struct ss_endpoint *to)
{
	struct l4_check check = { .offset = __builtin_offsetof(struct udphdr, check),
				  .replace = BPF_F_MARK_MANGLED_0 };

	if (!p->udp->check) /* RFC 768: there is none, which would make up for another port */
		check.store = BPF_F_RECOMPUTE_CSUM;
	rewrite_of(skb, p, end, to, ss_csum_to32(ss_csum_diff_addr(&from->addr, &to->addr)), check);
}

/* What the server says on @flow is @service's from now on. */
static __always_inline void udp_remember(const struct ss_flow *flow,
					 const struct ss_endpoint *service)
{
	const struct ss_endpoint *known = bpf_map_lookup_elem(&udp_flows, flow);

	if (known && ss_endpoint_equal(known, service))
		return;
	if (bpf_map_update_elem(&udp_flows, flow, service, BPF_ANY))
		count(SS_HOST_error_map);
	udp_use();
}

/* A UDP packet for @service, which has been unwrapped, goes to @own. */
static __noinline void udp_arrives(struct __sk_buff *skb, const struct ss_endpoint *service,
				   const struct ss_endpoint *own)
{
	struct packet p = {};
	struct ss_flow flow;

	if (!service || !own || !packet_parse_of(skb, &p, IPPROTO_UDP))
		return;
	flow.local = *own;
	flow.remote = packet_source(&p);
	udp_remember(&flow, service);
	udp_rewrite(skb, &p, REWRITE_DESTINATION, service, own);
	count(SS_HOST_udp_unwrapped);
}

/* A UDP packet that was not wrapped: its sender dials the server itself. */
static __noinline void udp_direct(struct __sk_buff *skb)
{
	struct packet p = {};
	struct ss_flow flow;

	if (!packet_parse_of(skb, &p, IPPROTO_UDP))
		return;
	flow.local = packet_destination(&p);
	flow.remote = packet_source(&p);
	if (bpf_map_lookup_elem(&udp_flows, &flow)) /* rarely: that takes no lock */
		(void)bpf_map_delete_elem(&udp_flows, &flow);
}

/* A UDP packet leaves: as the service's, if that was asked. */
static __noinline void udp_answer(struct __sk_buff *skb)
{
	const struct ss_endpoint *service;
	struct packet p = {};
	struct ss_flow flow;

	if (!packet_parse_of(skb, &p, IPPROTO_UDP))
		return;
	flow.local = packet_source(&p);
	flow.remote = packet_destination(&p);
	service = bpf_map_lookup_elem(&udp_flows, &flow);
	if (!service)
		return;
	udp_rewrite(skb, &p, REWRITE_SOURCE, &flow.local, service);
	count(SS_HOST_udp_answered);
}

/*
 * Which flow's answers leave as what is @quoted in an ICMP error to @to, this host's own address or, if
 * it was wrapped, the service's? Returns 1 with *@flow set, as the kernel knows it.
 */
static __noinline int udp_sender(const struct ss_flow *quoted, const struct ss_addr *to,
				 struct ss_flow *flow)
{
	const struct ss_endpoint *service;
	const struct ss_serve *served;

	if (!quoted || !to || !flow)
		return 0;
	served = bpf_map_lookup_elem(&serve, &quoted->local);
	if (!served)
		return 0;
	flow->local = (struct ss_endpoint){ .addr = *to, .port = served->listen };
	if (ss_addr_equal(to, &quoted->local.addr))
		flow->local.addr = served->address;
	flow->remote = quoted->remote;
	service = bpf_map_lookup_elem(&udp_flows, flow);
	return service && ss_endpoint_equal(service, &quoted->local);
}

#endif
