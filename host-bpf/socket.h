/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The kernel's socket for a flow, for packets that come in: skb->sk is not to be trusted there. */
#ifndef SIDESTEP_HOST_SOCKET_H
#define SIDESTEP_HOST_SOCKET_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <sidestep/addr.h>

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

#endif
