/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Decision -> rewritten, for packets that the server must see as the client sent them: the packet
 * stays as it is, and gets an outer header to the backend. The server answers as the service, and
 * the client needs no program of ours.
 *
 * The outer source is the balancer's own address, so that nobody on the way takes it for spoofed, and
 * errors about the outer packet come back here. Only what the kernel is to forward comes from the
 * client: a kernel does not forward packets from its own address.
 */
#ifndef SIDESTEP_LB_ENCAP_H
#define SIDESTEP_LB_ENCAP_H

#include <sidestep/csum.h>
#include <sidestep/encap.h>
#include <sidestep/lb.h>

#include "parse.h"
#include "pick.h"

#define IPV4_DONT_FRAGMENT SS_BE16(0x4000)
#define ENCAP_TTL 64

struct mac_addrs {
	__u8 byte[2 * ETH_ALEN];
};

/* What becomes of the frame's beginning. */
struct encap {
	__u32 gue; /* 1: with a UDP header */
	__be16 sport; /* of that */
	__u16 room; /* bytes of outer headers */
	__u16 inner; /* bytes of the packet inside */
	__u8 tos;
};

static __always_inline __u16 ipv4_csum(const struct iphdr *ip)
{
	const __u16 *word = (const void *)ip;
	__u64 sum = 0;

	for (unsigned i = 0; i < sizeof(*ip) / sizeof(*word); i++)
		sum += word[i];
	return ss_csum_fold(sum);
}

static __always_inline void outer_ipv4(struct iphdr *ip, const struct encap *e,
				       const struct ss_addr *from, const struct ss_addr *to)
{
	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tos = e->tos,
		.tot_len = SS_BE16(e->room + e->inner),
		.frag_off = IPV4_DONT_FRAGMENT, /* so it needs no id (RFC 6864) */
		.ttl = ENCAP_TTL,
		.protocol = e->gue ? IPPROTO_UDP : IPPROTO_IPIP,
		.saddr = from->w[3],
		.daddr = to->w[3],
	};
	ip->check = ipv4_csum(ip);
}

static __always_inline void outer_ipv6(struct ipv6hdr *ip, const struct encap *e,
				       const struct ss_addr *from, const struct ss_addr *to)
{
	*ip = (struct ipv6hdr){
		.version = 6,
		.priority = e->tos >> 4,
		.flow_lbl = { (e->tos & 15) << 4 },
		.payload_len = SS_BE16(e->room - sizeof(*ip) + e->inner),
		.nexthdr = e->gue ? IPPROTO_UDP : IPPROTO_IPV6,
		.hop_limit = ENCAP_TTL,
	};
	__builtin_memcpy(&ip->saddr, from, sizeof(*from));
	__builtin_memcpy(&ip->daddr, to, sizeof(*to));
}

static __always_inline void outer_udp(struct ss_udp *udp, const struct encap *e)
{
	*udp = (struct ss_udp){
		.source = e->sport,
		.dest = SS_BE16(SS_GUE_PORT),
		.len = SS_BE16(sizeof(*udp) + e->inner),
	};
}

static __always_inline void encap_plan(const struct packet *p, enum ss_method method,
				       struct encap *e)
{
	e->gue = method == SS_METHOD_GUE;
	if (p->is_ip6) {
		e->room = sizeof(struct ipv6hdr);
		e->inner = SS_BE16(p->ip6->payload_len) + sizeof(struct ipv6hdr);
		e->tos = p->ip6->priority << 4 | p->ip6->flow_lbl[0] >> 4;
	} else {
		e->room = sizeof(struct iphdr);
		e->inner = SS_BE16(p->ip4->tot_len);
		e->tos = p->ip4->tos;
	}
	if (e->gue) {
		e->room += sizeof(struct ss_udp);
		e->sport = SS_BE16(SS_GUE_SOURCE_PORTS | (packet_hash(p) & 0x3fff));
	}
}

/*
 * Makes room for e->room bytes before @p's IP header, a VLAN tag staying where it is. Returns
 * 0 with p->eth, p->end and the IP header's pointer set anew, or -1.
 */
static __always_inline int encap_room(struct xdp_md *ctx, struct packet *p, const struct encap *e)
{
	struct mac_addrs macs = *(struct mac_addrs *)p->eth;
	struct vlan_header tag = {};
	__be16 proto = p->eth->h_proto;
	void *l3;

	if (p->tagged)
		tag = *(struct vlan_header *)(p->eth + 1);
	if (bpf_xdp_adjust_head(ctx, -(int)e->room))
		return -1;
	p->eth = (void *)(long)ctx->data;
	p->end = (void *)(long)ctx->data_end;
	l3 = (void *)(p->eth + 1) + sizeof(tag);
	if (l3 + (p->is_ip6 ? SS_ENCAP6_MAX : SS_ENCAP4_MAX) > p->end)
		return -1;
	*(struct mac_addrs *)p->eth = macs;
	p->eth->h_proto = proto;
	if (p->tagged)
		*(struct vlan_header *)(p->eth + 1) = tag;
	else
		l3 = p->eth + 1;
	p->ip4 = l3;
	p->ip6 = l3;
	return 0;
}

/*
 * Wraps @p for @to, from @from. Afterwards @p's IP header is the outer one,
 * and there is none of TCP. Returns 0, or -1 if there is no room before the frame.
 */
static __always_inline int encapsulate(struct xdp_md *ctx, struct packet *p, enum ss_method method,
				       const struct ss_addr *from, const struct ss_addr *to)
{
	struct encap e = {};

	encap_plan(p, method, &e);
	if (encap_room(ctx, p, &e))
		return -1;
	p->own_source = 1;
	if (p->is_ip6) {
		outer_ipv6(p->ip6, &e, from, to);
		if (e.gue)
			outer_udp((void *)(p->ip6 + 1), &e);
	} else {
		outer_ipv4(p->ip4, &e, from, to);
		if (e.gue)
			outer_udp((void *)(p->ip4 + 1), &e);
	}
	return 0;
}

/* The outer source becomes that of the packet inside, @client, instead of @from. */
static __always_inline void encap_as_client(struct packet *p, const struct ss_addr *from,
					    const struct ss_addr *client)
{
	if (p->is_ip6) {
		__builtin_memcpy(&p->ip6->saddr, client, sizeof(*client));
		return;
	}
	p->ip4->check = ss_csum_apply(p->ip4->check, ss_csum_diff32(from->w[3], client->w[3]));
	p->ip4->saddr = client->w[3];
}

#endif
