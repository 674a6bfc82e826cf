/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Decision -> rewritten: one end of a packet is replaced, with the checksums.
 *
 * The TCP checksum goes through the kernel's helper, which knows whether it is finished, left to
 * the device (only the pseudo-header counts then), or known to the receiver (CHECKSUM_COMPLETE).
 * The IPv4 header's checksum is always finished at TC.
 */
#ifndef SIDESTEP_HOST_REWRITE_H
#define SIDESTEP_HOST_REWRITE_H

#include <sidestep/csum.h>

#include "maps.h"
#include "packet.h"

enum rewrite_end { REWRITE_SOURCE, REWRITE_DESTINATION };

/*
 * Replaces the @end of @p by @to. @addr_csum: what the new address adds to a sum. Ends @p's
 * pointers.
 */
static __always_inline void rewrite(struct __sk_buff *skb, struct packet *p, enum rewrite_end end,
				    const struct ss_endpoint *to, __u32 addr_csum)
{
	__be16 *port = end == REWRITE_SOURCE ? &p->tcp->source : &p->tcp->dest;
	__u32 check = p->l4 + CHECK_OFFSET;
	__be16 old_port = *port;
	long err;

	*port = to->port;
	if (p->is_ip6) {
		__builtin_memcpy(end == REWRITE_SOURCE ? &p->ip6->saddr : &p->ip6->daddr, &to->addr,
				 sizeof(to->addr));
	} else {
		p->ip4->check = ss_csum_apply(p->ip4->check, addr_csum);
		*(end == REWRITE_SOURCE ? &p->ip4->saddr : &p->ip4->daddr) = to->addr.w[3];
	}
	err = bpf_l4_csum_replace(skb, check, 0, addr_csum, BPF_F_PSEUDO_HDR);
	if (old_port != to->port)
		err |= bpf_l4_csum_replace(skb, check, old_port, to->port, sizeof(*port));
	if (err)
		count(SS_HOST_error_helper);
}

#endif
