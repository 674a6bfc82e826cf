/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ICMP errors about packets of connections by nat, both ways: one about what the balancer sent to a server
 * in a client's place goes on to that client, one about a server's answer to that server. What is quoted
 * becomes the packet that the receiver has sent.
 *
 * Sums: as in host-bpf/icmp.h. The quoted IPv4 header's own checksum makes up for its new addresses, so
 * that only the ports count; IPv6 has none, and its addresses count in the pseudo-header as well.
 */
#ifndef SIDESTEP_LB_NAT_ICMP_H
#define SIDESTEP_LB_NAT_ICMP_H

#include <sidestep/csum.h>
#include <sidestep/icmp.h>

#include "forward.h"
#include "icmp.h"
#include "maps.h"
#include "parse.h"

/* Who sends the error and who gets it; what it is about, as its receiver knows it. */
struct nat_error {
	struct ss_addr from, to;
	struct ss_endpoint source, destination;
};

/* The quoted packet of @p gets the addresses of @e. Returns what that adds to ICMP's sum. */
static __always_inline __u64 nat_quoted_addrs(struct packet *p, const struct nat_error *e)
{
	struct ipv6hdr *ip6 = (void *)p->icmp + SS_ICMP_HEADER;
	struct iphdr *ip4 = (void *)ip6;

	if (p->is_ip6)
		return rewrite_ipv6(&ip6->saddr, &e->source.addr) +
		       rewrite_ipv6(&ip6->daddr, &e->destination.addr);
	(void)rewrite_ipv4(ip4, &ip4->saddr, &e->source.addr);
	(void)rewrite_ipv4(ip4, &ip4->daddr, &e->destination.addr);
	return 0;
}

/* The same for the packet itself. */
static __always_inline __u64 nat_error_addrs(struct packet *p, const struct nat_error *e)
{
	if (p->is_ip6)
		return rewrite_ipv6(&p->ip6->saddr, &e->from) +
		       rewrite_ipv6(&p->ip6->daddr, &e->to);
	(void)rewrite_ipv4(p->ip4, &p->ip4->saddr, &e->from);
	(void)rewrite_ipv4(p->ip4, &p->ip4->daddr, &e->to);
	return 0;
}

/* @p, an ICMP error that icmp_quote() knows, becomes what @e says. Returns 1, or 0. */
static __always_inline int nat_error_rewrite(struct packet *p, const struct nat_error *e)
{
	struct ss_flow quoted;
	struct ss_quoted_l4 *l4 = icmp_quote(p, &quoted); /* for the verifier */
	__u64 sum;

	if (!l4)
		return 0;
	sum = ss_csum_diff16(l4->source, e->source.port) +
	      ss_csum_diff16(l4->dest, e->destination.port);
	l4->source = e->source.port;
	l4->dest = e->destination.port;
	sum += nat_quoted_addrs(p, e);
	sum += nat_error_addrs(p, e);
	p->icmp->check = ss_csum_apply(p->icmp->check, sum);
	return 1;
}

#endif
