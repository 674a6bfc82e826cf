/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Parsed -> which connection is an ICMP error about, that was sent to a service's address?
 *
 * A server that answers with the service's address is told so, and by nobody else, that its packets
 * are too large for the path to a client: its path MTU discovery depends on these errors. They go
 * to the backend that gets the connection's packets, where the host programs give the quote the
 * addresses that the server's kernel knows. Of a redirected connection no more than a hash says which
 * backend that is: if the backends have changed, another server gets the error, and ignores it.
 */
#ifndef SIDESTEP_LB_ICMP_H
#define SIDESTEP_LB_ICMP_H

#include <sidestep/csum.h>
#include <sidestep/icmp.h>

#include "parse.h"

/* The eight bytes behind a quoted IP header of @len bytes at @ip; NULL: not there. */
static __always_inline struct ss_quoted_l4 *quoted_l4(const struct packet *p, void *ip, __u32 len)
{
	struct ss_quoted_l4 *l4 = ip + len;

	return (void *)(l4 + 1) > p->end ? NULL : l4;
}

static __always_inline struct ss_quoted_l4 *quote4(const struct packet *p, struct ss_flow *quoted)
{
	struct iphdr *ip = (void *)p->icmp + SS_ICMP_HEADER;

	if ((void *)(ip + 1) > p->end || !ss_icmp4_quotes(p->icmp->type) || ip->version != 4 ||
	    ip->ihl < 5 || !ss_endpoint_of(&quoted->local, ip->protocol) ||
	    ip->frag_off & IP_OFFSET)
		return NULL;
	quoted->local.addr = ss_addr_v4(ip->saddr);
	quoted->remote.addr = ss_addr_v4(ip->daddr);
	return quoted_l4(p, ip, ip->ihl * 4);
}

static __always_inline struct ss_quoted_l4 *quote6(const struct packet *p, struct ss_flow *quoted)
{
	struct ipv6hdr *ip = (void *)p->icmp + SS_ICMP_HEADER;

	if ((void *)(ip + 1) > p->end || !ss_icmp6_quotes(p->icmp->type) || ip->version != 6 ||
	    !ss_endpoint_of(&quoted->local, ip->nexthdr))
		return NULL;
	__builtin_memcpy(&quoted->local.addr, &ip->saddr, sizeof(quoted->local.addr));
	__builtin_memcpy(&quoted->remote.addr, &ip->daddr, sizeof(quoted->remote.addr));
	return quoted_l4(p, ip, sizeof(*ip));
}

/*
 * Is @p, an ICMP packet, an error about a TCP or UDP packet that left from where it was sent to? Then
 * *@quoted says whose: local is the service, remote the client; and the ports' place is returned. NULL: no.
 */
static __always_inline struct ss_quoted_l4 *icmp_quote(const struct packet *p,
						       struct ss_flow *quoted)
{
	struct ss_quoted_l4 *l4 = p->is_ip6 ? quote6(p, quoted) : quote4(p, quoted);

	if (!l4)
		return NULL;
	quoted->local.port = l4->source;
	quoted->remote.port = l4->dest;
	return ss_addr_equal(&quoted->local.addr, &p->dst.addr) ? l4 : NULL;
}

/*
 * The error goes to @to, and comes from the service's address. Its own source may be the very router
 * that the balancer sends it to, and which would take no packet with its own address as source.
 */
static __always_inline void icmp_readdress(struct packet *p, const struct ss_addr *to)
{
	if (!p->is_ip6) {
		__u64 diff = ss_csum_diff32(p->ip4->saddr, to->w[3]);

		p->ip4->check = ss_csum_apply(p->ip4->check, diff);
		p->ip4->saddr = p->ip4->daddr;
		p->ip4->daddr = to->w[3];
	} else {
		struct ss_addr from;
		__u64 diff;

		__builtin_memcpy(&from, &p->ip6->saddr, sizeof(from));
		diff = ss_csum_diff_addr(&from, to); /* of the pseudo-header */
		p->icmp->check = ss_csum_apply(p->icmp->check, diff);
		__builtin_memcpy(&p->ip6->saddr, &p->ip6->daddr, sizeof(from));
		__builtin_memcpy(&p->ip6->daddr, to, sizeof(*to));
	}
}

#endif
