/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 3, for packets that a balancer has wrapped (sidestep/encap.h): the packet inside, which is
 * for a service, goes to the server's own address. It is that of the outer header.
 *
 * Who may send such packets? A trusted balancer; and who sends in its own name inside as well as
 * outside, for it could send the same without wrapping it. Nobody else, or anyone could be a client
 * of any name. What is none of ours stays as it is: there may be tunnels of other people's.
 */
#ifndef SIDESTEP_HOST_DECAP_H
#define SIDESTEP_HOST_DECAP_H

#include <sidestep/csum.h>
#include <sidestep/encap.h>

#include "maps.h"
#include "packet.h"
#include "request.h"
#include "rewrite.h"
#include "udp.h"

/* A wrapped TCP or UDP packet. */
struct wrapped {
	struct ss_flow flow; /* inside: local is the service, remote the client */
	struct ss_addr from, to; /* outside */
	__u32 room; /* bytes of outer headers */
	__u32 congested; /* RFC 3168: a router has marked the outer header */
};

struct l4_ports {
	__be16 source;
	__be16 dest;
};

/*
 * What follows an outer IP header of w->room bytes, whose protocol is @proto. Returns 1 with w->room
 * set anew if that is a packet of the same IP version, which the protocol @direct stands for.
 */
static __always_inline int wrapped_kind(struct __sk_buff *skb, __u8 proto, __u8 direct,
					struct wrapped *w)
{
	struct ss_udp udp;

	if (proto == direct)
		return 1;
	if (proto != IPPROTO_UDP ||
	    bpf_skb_load_bytes(skb, L3_OFFSET + w->room, &udp, sizeof(udp)) ||
	    udp.dest != SS_BE16(SS_GUE_PORT))
		return 0;
	w->room += sizeof(udp);
	return 1;
}

/* The ports inside, where @proto is, and the IP header is @len bytes long. */
static __always_inline int wrapped_ports(struct __sk_buff *skb, __u8 proto, __u32 len,
					 struct wrapped *w)
{
	struct l4_ports ports;

	if (!ss_endpoint_of(&w->flow.local, proto))
		return 0;
	if (bpf_skb_load_bytes(skb, L3_OFFSET + w->room + len, &ports, sizeof(ports)))
		return 0;
	w->flow.local.port = ports.dest;
	w->flow.remote.port = ports.source;
	return 1;
}

static __always_inline int wrapped_parse4(struct __sk_buff *skb, struct wrapped *w)
{
	struct iphdr *ip = (void *)(long)skb->data + L3_OFFSET, inner;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end || ip->ihl != 5 ||
	    ip->frag_off & IP_FRAGMENT)
		return 0;
	w->from = ss_addr_v4(ip->saddr);
	w->to = ss_addr_v4(ip->daddr);
	w->congested = (ip->tos & SS_ECN_MASK) == SS_ECN_CE;
	w->room = sizeof(*ip);
	if (!wrapped_kind(skb, ip->protocol, IPPROTO_IPIP, w) ||
	    bpf_skb_load_bytes(skb, L3_OFFSET + w->room, &inner, sizeof(inner)) ||
	    inner.version != 4 || inner.ihl < 5 || inner.frag_off & IP_FRAGMENT)
		return 0;
	w->flow.local.addr = ss_addr_v4(inner.daddr);
	w->flow.remote.addr = ss_addr_v4(inner.saddr);
	return wrapped_ports(skb, inner.protocol, inner.ihl * 4, w);
}

static __always_inline int wrapped_parse6(struct __sk_buff *skb, struct wrapped *w)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + L3_OFFSET, inner;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return 0;
	w->from = packet_addr6(&ip->saddr);
	w->to = packet_addr6(&ip->daddr);
	w->congested = (ip->flow_lbl[0] >> 4 & SS_ECN_MASK) == SS_ECN_CE;
	w->room = sizeof(*ip);
	if (!wrapped_kind(skb, ip->nexthdr, IPPROTO_IPV6, w) ||
	    bpf_skb_load_bytes(skb, L3_OFFSET + w->room, &inner, sizeof(inner)) ||
	    inner.version != 6)
		return 0;
	w->flow.local.addr = packet_addr6(&inner.daddr);
	w->flow.remote.addr = packet_addr6(&inner.saddr);
	return wrapped_ports(skb, inner.nexthdr, sizeof(inner), w);
}

/* The outer headers go. Returns 1, or 0. */
static __always_inline int unwrap(struct __sk_buff *skb, const struct wrapped *w)
{
	if (bpf_skb_adjust_room(skb, -(int)w->room, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO)) {
		count(SS_HOST_error_helper);
		return 0;
	}
	if (w->congested) /* RFC 6040; if the packet inside says that it may be marked */
		(void)bpf_skb_ecn_set_ce(skb);
	return 1;
}

/* The TCP packet that was inside, *@p from now on, for @service, goes to @own. Returns 1, or 0. */
static __always_inline int unwrapped_tcp(struct __sk_buff *skb, struct packet *p,
					 const struct ss_endpoint *service,
					 const struct ss_endpoint *own)
{
	if (!packet_parse(skb, p))
		return 0;
	rewrite(skb, p, REWRITE_DESTINATION, own,
		ss_csum_to32(ss_csum_diff_addr(&service->addr, &own->addr)));
	return packet_headers(skb, p);
}

enum decapsulated {
	DECAPSULATED_NOTHING, /* none of ours */
	DECAPSULATED_TCP,
	DECAPSULATED_UDP, /* and nothing more is to be done */
};

/*
 * A packet that is not TCP: what was it, if it was a wrapped one for a service of this host? With TCP,
 * *@p is what was inside, and *@service what it was for.
 */
static __noinline enum decapsulated decapsulate(struct __sk_buff *skb, struct packet *p,
						struct ss_endpoint *service)
{
	const struct ss_serve *served;
	struct ss_endpoint own = {};
	struct wrapped w = {};

	if (!(skb->protocol == SS_BE16(ETH_P_IP) && wrapped_parse4(skb, &w)) &&
	    !(skb->protocol == SS_BE16(ETH_P_IPV6) && wrapped_parse6(skb, &w)))
		return DECAPSULATED_NOTHING;
	served = bpf_map_lookup_elem(&serve, &w.flow.local);
	if (!served)
		return DECAPSULATED_NOTHING;
	if (!ss_addr_equal(&w.from, &w.flow.remote.addr) && !source_is_trusted(&w.from)) {
		count(SS_HOST_wrapped_untrusted);
		return DECAPSULATED_NOTHING;
	}
	own.addr = w.to;
	own.port = served->listen;
	*service = w.flow.local;
	if (!unwrap(skb, &w))
		return DECAPSULATED_NOTHING;
	if (!service->protocol)
		return unwrapped_tcp(skb, p, service, &own) ? DECAPSULATED_TCP
							    : DECAPSULATED_NOTHING;
	udp_arrives(skb, service, &own);
	return DECAPSULATED_UDP;
}

#endif
