/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Decision -> rewritten: the packet's destination becomes the backend, and it leaves toward the
 * next hop that the kernel's routing and neighbour tables name.
 *
 * Asking those tables for every packet would be most of the cost, so each processor keeps the
 * answer per backend for HOP_FRESH_NS. Frames that leave by XDP do not tell the kernel that a
 * neighbour is in use. User space has the kernel keep those resolved that it knows of (map neighbours);
 * toward others one packet every HOP_CONFIRM_S takes the kernel's way, as does every packet while the
 * neighbour is not resolved. The kernel then confirms or resolves it. A
 * packet from the balancer's own address does so only if it has to: the kernel would not forward it.
 */
#ifndef SIDESTEP_LB_FORWARD_H
#define SIDESTEP_LB_FORWARD_H

#include <sidestep/csum.h>
#include <sidestep/lb.h>

#include "maps.h"
#include "parse.h"

#define AF_INET 2
#define AF_INET6 10

#define NSEC_PER_SEC 1000000000ULL
#define HOP_FRESH_NS (NSEC_PER_SEC / 2)
#define HOP_CONFIRM_S 15

enum forward_result {
	FORWARD_TX, /* out of the interface that it came in by */
	FORWARD_REDIRECT, /* out of hop->ifindex */
	FORWARD_STACK, /* rewritten, for the kernel to forward */
	FORWARD_NO_ROUTE,
	FORWARD_NO_FORWARDING,
	FORWARD_TTL,
};

/* The IPv4 address @addr becomes @to. Returns what that adds to a sum. */
static __always_inline __u64 rewrite_ipv4(struct iphdr *ip, __be32 *addr, const struct ss_addr *to)
{
	__u64 sum = ss_csum_diff32(*addr, to->w[3]);

	ip->check = ss_csum_apply(ip->check, sum);
	*addr = to->w[3];
	return sum;
}

/* The same for IPv6. */
static __always_inline __u64 rewrite_ipv6(struct in6_addr *addr, const struct ss_addr *to)
{
	__be32 *w = addr->in6_u.u6_addr32;
	__u64 sum = 0;

	for (int i = 0; i < 4; i++) {
		sum += ss_csum_diff32(w[i], to->w[i]);
		w[i] = to->w[i];
	}
	return sum;
}

/* @port becomes @to, and the addresses have added @sum: the checksum follows. */
static __always_inline void rewrite_tcp(struct tcphdr *tcp, __be16 *port, __be16 to, __u64 sum)
{
	tcp->check = ss_csum_apply(tcp->check, sum + ss_csum_diff16(*port, to));
	*port = to;
}

/* The destination becomes @to: addresses, ports and checksums. */
static __always_inline void rewrite_destination(struct packet *p, const struct ss_endpoint *to)
{
	__u64 sum = p->is_ip6 ? rewrite_ipv6(&p->ip6->daddr, &to->addr)
			      : rewrite_ipv4(p->ip4, &p->ip4->daddr, &to->addr);

	rewrite_tcp(p->tcp, &p->tcp->dest, to->port, sum);
}

/* The source becomes @to. */
static __always_inline void rewrite_source(struct packet *p, const struct ss_endpoint *to)
{
	__u64 sum = p->is_ip6 ? rewrite_ipv6(&p->ip6->saddr, &to->addr)
			      : rewrite_ipv4(p->ip4, &p->ip4->saddr, &to->addr);

	rewrite_tcp(p->tcp, &p->tcp->source, to->port, sum);
}

/* One hop more. 0 if the packet has come as far as it may. */
static __always_inline int decrement_ttl(struct packet *p)
{
	if (!p->is_ip6) {
		if (p->ip4->ttl <= 1)
			return 0;
		p->ip4->ttl--; /* the high byte of its 16-bit word */
		p->ip4->check = ss_csum_apply(p->ip4->check, ss_csum_diff16(SS_BE16(0x0100), 0));
	} else {
		if (p->ip6->hop_limit <= 1)
			return 0;
		p->ip6->hop_limit--;
	}
	return 1;
}

/* @fib asks for the way from the source of @p to its destination. */
static __always_inline void fib_from(struct bpf_fib_lookup *fib, const struct packet *p)
{
	if (!p->is_ip6) {
		fib->family = AF_INET;
		fib->ipv4_src = p->ip4->saddr;
		fib->ipv4_dst = p->ip4->daddr;
	} else {
		fib->family = AF_INET6;
		__builtin_memcpy(fib->ipv6_src, &p->ip6->saddr, sizeof(fib->ipv6_src));
		__builtin_memcpy(fib->ipv6_dst, &p->ip6->daddr, sizeof(fib->ipv6_dst));
	}
}

/* Does the kernel keep the next hop that @fib names resolved by itself? */
static __noinline int hop_is_kept(const struct bpf_fib_lookup *fib)
{
	struct ss_lb_neighbour key = {};

	if (!fib)
		return 0;
	key.ifindex = fib->ifindex;
	if (fib->family == AF_INET)
		key.addr = ss_addr_v4(fib->ipv4_dst);
	else
		__builtin_memcpy(&key.addr, fib->ipv6_dst, sizeof(key.addr));
	return bpf_map_lookup_elem(&neighbours, &key) != NULL;
}

/* Asks the kernel for the way of @p, which is rewritten already, and keeps the answer in @hop. */
static __noinline enum forward_result hop_lookup(struct xdp_md *ctx, struct packet *p,
						 struct ss_lb_backend_cpu *hop, __u64 now,
						 __u32 seconds)
{
	struct bpf_fib_lookup fib = { .ifindex = ctx->ingress_ifindex, .l4_protocol = IPPROTO_TCP };
	long found;

	fib_from(&fib, p);
	fib.tot_len = 1; /* else the kernel does not tell the MTU */
	found = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	switch (found) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		__builtin_memcpy(hop->dmac, fib.dmac, ETH_ALEN);
		__builtin_memcpy(hop->smac, fib.smac, ETH_ALEN);
		hop->ifindex = fib.ifindex;
		hop->mtu = fib.mtu_result;
		hop->fresh_until = now + HOP_FRESH_NS;
		if (seconds >= hop->confirm_at && hop_is_kept(&fib))
			hop->confirm_at = seconds + HOP_CONFIRM_S;
		return FORWARD_TX;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
	case BPF_FIB_LKUP_RET_UNREACHABLE:
	case BPF_FIB_LKUP_RET_PROHIBIT:
		return FORWARD_NO_ROUTE;
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return FORWARD_NO_FORWARDING;
	default: /* no neighbour yet, a local address, a tunnel, ...: the kernel knows how */
		if (found < 0)
			count(SS_LB_error_helper);
		return FORWARD_STACK;
	}
}

/* Sends @p, which is rewritten already, toward the backend that @hop belongs to. */
static __always_inline enum forward_result forward(struct xdp_md *ctx, struct packet *p,
						   struct ss_lb_backend_cpu *hop)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	if (now >= hop->fresh_until) {
		__u32 seconds = now / NSEC_PER_SEC;
		enum forward_result result = hop_lookup(ctx, p, hop, now, seconds);

		if (result != FORWARD_TX)
			return result;
		if (seconds >= hop->confirm_at && !p->own_source) {
			__u32 last = hop->confirm_at;

			hop->confirm_at = seconds + HOP_CONFIRM_S;
			if (last)
				return FORWARD_STACK;
		}
	}
	if (!decrement_ttl(p))
		return FORWARD_TTL;
	__builtin_memcpy(p->eth->h_dest, hop->dmac, ETH_ALEN);
	__builtin_memcpy(p->eth->h_source, hop->smac, ETH_ALEN);
	return hop->ifindex == ctx->ingress_ifindex ? FORWARD_TX : FORWARD_REDIRECT;
}

#endif
