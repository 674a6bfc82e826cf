/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The kernel's socket for a flow, for packets that come in: skb->sk is not to be trusted there. */
#ifndef SIDESTEP_HOST_SOCKET_H
#define SIDESTEP_HOST_SOCKET_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <sidestep/addr.h>

#include "kernel.h"

#define PACKET_HOST 0 /* linux/if_packet.h */

/* A socket of any state, or a listener that @flow would reach; to be released. NULL: none. */
static __always_inline struct bpf_sock *flow_socket(struct __sk_buff *skb,
						    const struct ss_flow *flow)
{
	struct bpf_sock_tuple tuple = {};
	__u32 len;

	if (ss_addr_is_v4(&flow->local.addr)) {
		tuple.ipv4.saddr = flow->remote.addr.w[3];
		tuple.ipv4.daddr = flow->local.addr.w[3];
		tuple.ipv4.sport = flow->remote.port;
		tuple.ipv4.dport = flow->local.port;
		len = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, &flow->remote.addr, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, &flow->local.addr, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = flow->remote.port;
		tuple.ipv6.dport = flow->local.port;
		len = sizeof(tuple.ipv6);
	}
	return bpf_skc_lookup_tcp(skb, &tuple, len, BPF_F_CURRENT_NETNS, 0);
}

/*
 * May the packet be meant for somebody behind this host, whose sockets are not seen here? The frame
 * is another's (a bridge's, a macvlan's), or the host forwards what comes in by the interface: to
 * a container, say, whose address translation is still to come.
 */
static __noinline int may_be_forwarded(struct __sk_buff *skb, int is_ip6)
{
	struct bpf_fib_lookup fib = { .family = is_ip6 ? AF_INET6 : AF_INET,
				      .ifindex = skb->ifindex };

	return skb->pkt_type != PACKET_HOST ||
	       bpf_fib_lookup(skb, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_FWD_DISABLED;
}

#endif
