/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 3, for packets that a balancer has wrapped (sidestep/encap.h): the packet inside, which is
 * for a service, goes to the server's own address. It is that of the outer header, or, where that is of
 * the other IP version, the one which the service's configuration names. A balancer wraps an ICMP error
 * about what a server sent as the service if it cannot send it to the server's address.
 *
 * Who may send such packets? A trusted balancer; and who sends in its own name inside as well as
 * outside, for it could send the same without wrapping it. Nobody else, or anyone could be a client
 * of any name. What is none of ours stays as it is: there may be tunnels of other people's.
 */
#ifndef SIDESTEP_HOST_DECAP_H
#define SIDESTEP_HOST_DECAP_H

#include <sidestep/csum.h>
#include <sidestep/encap.h>
#include <sidestep/icmp.h>

#include "maps.h"
#include "packet.h"
#include "request.h"
#include "rewrite.h"
#include "udp.h"

#define ETH_PROTO_OFFSET __builtin_offsetof(struct ethhdr, h_proto)
#define OUTER_BROKEN 1 /* outer_convert(): it failed half-way */

/* A wrapped TCP or UDP packet, or an ICMP error about one. */
struct wrapped {
	struct ss_flow flow; /* inside: local is the service, remote the client */
	struct ss_addr inner_from; /* the source inside: the client's, or a router's */
	struct ss_addr from, to; /* outside */
	__u32 room; /* bytes of outer headers */
	__u32 congested; /* RFC 3168: a router has marked the outer header */
	__u64 outer6, inner6; /* 1: that is IPv6's; scalars, as in the balancer's parse.h */
	__u8 proto; /* behind the header that was read last */
	__u8 is_error; /* 1: an ICMP error */
};

struct l4_ports {
	__be16 source;
	__be16 dest;
};

static __always_inline int outer_parse4(struct __sk_buff *skb, struct wrapped *w)
{
	struct iphdr *ip = (void *)(long)skb->data + L3_OFFSET;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end || ip->ihl != 5 ||
	    ip->frag_off & IP_FRAGMENT)
		return 0;
	w->from = ss_addr_v4(ip->saddr);
	w->to = ss_addr_v4(ip->daddr);
	w->congested = (ip->tos & SS_ECN_MASK) == SS_ECN_CE;
	w->room = sizeof(*ip);
	w->proto = ip->protocol;
	return 1;
}

static __always_inline int outer_parse6(struct __sk_buff *skb, struct wrapped *w)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + L3_OFFSET;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return 0;
	w->from = packet_addr6(&ip->saddr);
	w->to = packet_addr6(&ip->daddr);
	w->congested = (ip->flow_lbl[0] >> 4 & SS_ECN_MASK) == SS_ECN_CE;
	w->room = sizeof(*ip);
	w->outer6 = 1;
	w->proto = ip->nexthdr;
	return 1;
}

/* Is an IP packet inside of the outer header, or of a UDP header behind that? Of which version? */
static __always_inline int wrapped_kind(struct __sk_buff *skb, struct wrapped *w)
{
	struct ss_udp udp;
	__u8 version;

	if (w->proto == IPPROTO_IPIP || w->proto == IPPROTO_IPV6) {
		w->inner6 = w->proto == IPPROTO_IPV6;
		return 1;
	}
	if (w->proto != IPPROTO_UDP ||
	    bpf_skb_load_bytes(skb, L3_OFFSET + w->room, &udp, sizeof(udp)) ||
	    udp.dest != SS_BE16(SS_GUE_PORT))
		return 0;
	w->room += sizeof(udp);
	if (bpf_skb_load_bytes(skb, L3_OFFSET + w->room, &version, sizeof(version)))
		return 0;
	w->inner6 = version >> 4 == 6;
	return 1;
}

/*
 * Reads the IPv4 header at @off: addresses into *@source and *@destination, and w->proto. Returns its
 * length, or 0.
 */
static __always_inline __u32 inner_parse4(struct __sk_buff *skb, __u32 off, struct ss_addr *source,
					  struct ss_addr *destination, struct wrapped *w)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, off, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
	    ip.frag_off & IP_FRAGMENT)
		return 0;
	*source = ss_addr_v4(ip.saddr);
	*destination = ss_addr_v4(ip.daddr);
	w->proto = ip.protocol;
	return ip.ihl * 4;
}

/* The same for IPv6. */
static __always_inline __u32 inner_parse6(struct __sk_buff *skb, __u32 off, struct ss_addr *source,
					  struct ss_addr *destination, struct wrapped *w)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, off, &ip, sizeof(ip)) || ip.version != 6)
		return 0;
	*source = packet_addr6(&ip.saddr);
	*destination = packet_addr6(&ip.daddr);
	w->proto = ip.nexthdr;
	return sizeof(ip);
}

static __always_inline __u32 inner_parse(struct __sk_buff *skb, __u32 off, struct ss_addr *source,
					 struct ss_addr *destination, struct wrapped *w)
{
	return w->inner6 ? inner_parse6(skb, off, source, destination, w)
			 : inner_parse4(skb, off, source, destination, w);
}

/*
 * The packet inside, whose ports are at @off: it is for the service, from the client. Or what an ICMP
 * error quotes, @quoted: that is from the service.
 */
static __always_inline int inner_ports(struct __sk_buff *skb, __u32 off, int quoted,
				       struct wrapped *w)
{
	struct l4_ports ports;

	if (!ss_endpoint_of(&w->flow.local, w->proto) ||
	    bpf_skb_load_bytes(skb, off, &ports, sizeof(ports)))
		return 0;
	w->flow.local.port = quoted ? ports.source : ports.dest;
	w->flow.remote.port = quoted ? ports.dest : ports.source;
	return 1;
}

/* The ICMP message at @off, inside of a packet to w->flow.local: an error about what that has sent? */
static __always_inline int inner_error(struct __sk_buff *skb, __u32 off, struct wrapped *w)
{
	struct ss_addr to = w->flow.local.addr;
	__u32 len;
	__u8 type;

	if (bpf_skb_load_bytes(skb, off, &type, sizeof(type)) ||
	    !(w->inner6 ? ss_icmp6_quotes(type) : ss_icmp4_quotes(type)))
		return 0;
	off += SS_ICMP_HEADER;
	len = inner_parse(skb, off, &w->flow.local.addr, &w->flow.remote.addr, w);
	if (!len || !ss_addr_equal(&w->flow.local.addr, &to))
		return 0;
	w->is_error = 1;
	return inner_ports(skb, off + len, 1, w);
}

/* Returns 1 with *@w set if @skb is wrapped, and may be one of ours. */
static __noinline int wrapped_parse(struct __sk_buff *skb, struct wrapped *w)
{
	__u32 off, len;

	if (!w)
		return 0;
	if (!(skb->protocol == SS_BE16(ETH_P_IP) && outer_parse4(skb, w)) &&
	    !(skb->protocol == SS_BE16(ETH_P_IPV6) && outer_parse6(skb, w)))
		return 0;
	if (!wrapped_kind(skb, w))
		return 0;
	off = L3_OFFSET + w->room;
	len = inner_parse(skb, off, &w->flow.remote.addr, &w->flow.local.addr, w);
	if (!len)
		return 0;
	w->inner_from = w->flow.remote.addr;
	if (w->proto == (w->inner6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return inner_error(skb, off + len, w);
	return inner_ports(skb, off + len, 0, w);
}

/*
 * An outer header of the other IP version becomes one of the version inside, whatever stands in it: the
 * kernel then knows what the packet is once that is gone. Returns how much longer it is, or what
 * is no length.
 */
static __always_inline int outer_convert(struct __sk_buff *skb, const struct wrapped *w)
{
	int longer = sizeof(struct ipv6hdr) - sizeof(struct iphdr);
	__be16 proto = w->inner6 ? SS_BE16(ETH_P_IPV6) : SS_BE16(ETH_P_IP);

	if (w->inner6 == w->outer6)
		return 0;
	if (bpf_skb_change_proto(skb, proto, 0) ||
	    bpf_skb_store_bytes(skb, ETH_PROTO_OFFSET, &proto, sizeof(proto), 0))
		return OUTER_BROKEN;
	return w->inner6 ? longer : -longer;
}

/* The outer headers go. Returns 1, or 0. */
static __always_inline int unwrap(struct __sk_buff *skb, const struct wrapped *w)
{
	int longer = outer_convert(skb, w);

	if (longer == OUTER_BROKEN ||
	    bpf_skb_adjust_room(skb, -(int)w->room - longer, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO)) {
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
	rewrite_from(skb, p, REWRITE_DESTINATION, service, own);
	return packet_headers(skb, p);
}

enum decapsulated {
	DECAPSULATED_NOTHING, /* none of ours */
	DECAPSULATED_TCP,
	DECAPSULATED_UDP, /* and nothing more is to be done */
	DECAPSULATED_ICMP, /* an error about what a service has said */
	DECAPSULATED_BROKEN, /* no packet any more */
};

/*
 * The server's own address for the packet in @w, into *@own. Returns 0 if it has none of the packet's IP
 * version.
 */
static __always_inline int own_address(const struct wrapped *w, const struct ss_serve *served,
				       struct ss_addr *own)
{
	*own = w->inner6 == w->outer6 ? w->to : served->address;
	return ss_addr_is_set(own);
}

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

	if (!wrapped_parse(skb, &w))
		return DECAPSULATED_NOTHING;
	served = bpf_map_lookup_elem(&serve, &w.flow.local);
	if (!served)
		return DECAPSULATED_NOTHING;
	if (!ss_addr_equal(&w.from, &w.inner_from) && !source_is_trusted(&w.from)) {
		count(SS_HOST_wrapped_untrusted);
		return DECAPSULATED_NOTHING;
	}
	if (!own_address(&w, served, &own.addr)) {
		count(SS_HOST_wrapped_no_address);
		return DECAPSULATED_NOTHING;
	}
	own.port = served->listen;
	*service = w.flow.local;
	if (!unwrap(skb, &w))
		return DECAPSULATED_BROKEN;
	if (w.is_error)
		return DECAPSULATED_ICMP;
	if (!service->protocol)
		return unwrapped_tcp(skb, p, service, &own) ? DECAPSULATED_TCP
							    : DECAPSULATED_NOTHING;
	udp_arrives(skb, service, &own);
	return DECAPSULATED_UDP;
}

#endif
