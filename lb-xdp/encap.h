/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Decision -> rewritten, for packets that the server must see as the client sent them: the packet
 * stays as it is, and gets an outer header to the backend. The server answers as the service, and
 * the client needs no program of ours.
 *
 * The outer source is the balancer's own address, so that nobody on the way takes it for spoofed, and
 * errors about the outer packet come back here. Only what the kernel is to forward comes from the
 * client: a kernel does not forward packets from its own address.
 *
 * The outer header is of the backend's IP version, whatever the packet's.
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

/* Sources that are nobody's: 192.0.0.8 (RFC 7600), 100::1 (RFC 6666). */
#define NOBODY4 SS_BE32(0xc0000008)
#define NOBODY6 SS_BE32(0x01000000)

struct mac_addrs {
	__u8 byte[2 * ETH_ALEN];
};

/* What becomes of the frame's beginning. */
struct encap {
	struct ss_addr from, to;
	__u64 outer6; /* 1: the outer header is IPv6's; a scalar, as in struct packet */
	__u32 tagged; /* 1: there is a VLAN tag */
	__u32 gue; /* 1: with a UDP header */
	__be16 sport; /* of that */
	__u16 room; /* bytes of outer headers */
	__u16 inner; /* bytes of the packet inside */
	__u8 proto; /* of what follows the outer IP header */
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

static __always_inline void outer_ipv4(struct iphdr *ip, const struct encap *e)
{
	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tos = e->tos,
		.tot_len = SS_BE16(e->room + e->inner),
		.frag_off = IPV4_DONT_FRAGMENT, /* so it needs no id (RFC 6864) */
		.ttl = ENCAP_TTL,
		.protocol = e->proto,
		.saddr = e->from.w[3],
		.daddr = e->to.w[3],
	};
	ip->check = ipv4_csum(ip);
}

static __always_inline void outer_ipv6(struct ipv6hdr *ip, const struct encap *e)
{
	*ip = (struct ipv6hdr){
		.version = 6,
		.priority = e->tos >> 4,
		.flow_lbl = { (e->tos & 15) << 4 },
		.payload_len = SS_BE16(e->room - sizeof(*ip) + e->inner),
		.nexthdr = e->proto,
		.hop_limit = ENCAP_TTL,
	};
	__builtin_memcpy(&ip->saddr, &e->from, sizeof(e->from));
	__builtin_memcpy(&ip->daddr, &e->to, sizeof(e->to));
}

static __always_inline void outer_udp(struct ss_udp *udp, const struct encap *e)
{
	*udp = (struct ss_udp){
		.source = e->sport,
		.dest = SS_BE16(SS_GUE_PORT),
		.len = SS_BE16(sizeof(*udp) + e->inner),
	};
}

/* How many bytes of outer headers a packet for a backend at @to gets by @method. */
static __always_inline __u16 encap_len(enum ss_method method, const struct ss_addr *to)
{
	return (ss_addr_is_v4(to) ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) +
	       (method == SS_METHOD_GUE ? sizeof(struct ss_udp) : 0);
}

static __always_inline void encap_plan(const struct packet *p, enum ss_method method,
				       struct encap *e)
{
	e->tagged = p->tagged;
	e->gue = method == SS_METHOD_GUE;
	e->room = encap_len(method, &e->to);
	e->inner = packet_len(p);
	if (p->is_ip6) {
		e->proto = IPPROTO_IPV6;
		e->tos = p->ip6->priority << 4 | p->ip6->flow_lbl[0] >> 4;
	} else {
		e->proto = IPPROTO_IPIP;
		e->tos = p->ip4->tos;
	}
	if (e->gue) {
		e->proto = IPPROTO_UDP;
		e->sport = SS_BE16(SS_GUE_SOURCE_PORTS | (packet_hash(p) & 0x3fff));
	}
}

/* The outer IP header's place in a frame, if all outer headers are there; or NULL. */
static __always_inline void *encap_place(struct xdp_md *ctx, const struct encap *e)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	void *l3 = data + sizeof(struct ethhdr) + (e->tagged ? sizeof(struct vlan_header) : 0);

	return l3 + (e->outer6 ? SS_ENCAP6_MAX : SS_ENCAP4_MAX) > end ? NULL : l3;
}

/* The Ethernet header, and a VLAN tag, move e->room bytes to the front. Returns 0 or -1. */
static __always_inline int encap_room(struct xdp_md *ctx, const struct encap *e)
{
	__be16 proto = e->outer6 ? SS_BE16(ETH_P_IPV6) : SS_BE16(ETH_P_IP);
	struct vlan_header tag = {}, *tag_at;
	struct mac_addrs macs;
	struct ethhdr *eth;

	eth = (void *)(long)ctx->data;
	tag_at = (void *)(eth + 1);
	if ((void *)(tag_at + 1) > (void *)(long)ctx->data_end)
		return -1;
	macs = *(struct mac_addrs *)eth;
	if (e->tagged) {
		tag = *tag_at;
		tag.proto = proto;
		proto = eth->h_proto;
	}
	if (bpf_xdp_adjust_head(ctx, -(int)e->room))
		return -1;
	eth = (void *)(long)ctx->data;
	tag_at = (void *)(eth + 1);
	if ((void *)(tag_at + 1) > (void *)(long)ctx->data_end)
		return -1;
	*(struct mac_addrs *)eth = macs;
	eth->h_proto = proto;
	if (e->tagged)
		*tag_at = tag;
	return 0;
}

/*
 * Puts the outer headers of @e before the packet. Returns 0, or -1 if there is no room before the frame.
 * A global function, which the verifier looks at once, whatever led here.
 */
__noinline int encap_write(struct xdp_md *ctx, const struct encap *e)
{
	void *l3;

	if (!e || encap_room(ctx, e))
		return -1;
	l3 = encap_place(ctx, e);
	if (!l3)
		return -1;
	if (e->outer6) {
		outer_ipv6(l3, e);
		if (e->gue)
			outer_udp(l3 + sizeof(struct ipv6hdr), e);
	} else {
		outer_ipv4(l3, e);
		if (e->gue)
			outer_udp(l3 + sizeof(struct iphdr), e);
	}
	return 0;
}

/*
 * Wraps @p for @to, from @from. Afterwards @p's IP header is the outer one,
 * and there is none of TCP. Returns 0, or -1 if there is no room before the frame.
 */
static __always_inline int encapsulate(struct xdp_md *ctx, struct packet *p, enum ss_method method,
				       const struct ss_addr *from, const struct ss_addr *to)
{
	struct encap e = { .from = *from, .to = *to, .outer6 = !ss_addr_is_v4(to) };

	encap_plan(p, method, &e);
	if (encap_write(ctx, &e))
		return -1;
	p->eth = (void *)(long)ctx->data;
	p->end = (void *)(long)ctx->data_end;
	p->ip4 = encap_place(ctx, &e);
	if (!p->ip4)
		return -1;
	p->ip6 = (void *)p->ip4;
	p->own_source = 1;
	p->is_ip6 = e.outer6;
	return 0;
}

/*
 * The outer source becomes that of the packet inside, @client, instead of @from; or nobody's, where that
 * is of the other IP version. Then no server takes the packet, which has done its work once the kernel
 * looks for the neighbour.
 */
static __always_inline void encap_as_client(struct packet *p, const struct ss_addr *from,
					    const struct ss_addr *client)
{
	struct ss_addr source = *client;

	if (p->is_ip6) {
		if (ss_addr_is_v4(client))
			source = (struct ss_addr){ { NOBODY6, 0, 0, SS_BE32(1) } };
		__builtin_memcpy(&p->ip6->saddr, &source, sizeof(source));
		return;
	}
	if (!ss_addr_is_v4(client))
		source.w[3] = NOBODY4;
	p->ip4->check = ss_csum_apply(p->ip4->check, ss_csum_diff32(from->w[3], source.w[3]));
	p->ip4->saddr = source.w[3];
}

#endif
