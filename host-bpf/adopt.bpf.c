// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Before step 4: servers that listened before the programs were loaded. Their sockets never came
 * by TCP_LISTEN_CB, so a walk over the TCP sockets of a network namespace does for them what
 * server_listen() does: the kernel keeps their SYNs, and calls when it writes a SYN-ACK.
 *
 * An object of its own, over the host object's pinned maps: where the kernel refuses it, the rest
 * works. Kernels before 6.12 load it, but let an iterator switch no callbacks on; such a listener
 * is reported, and has to start anew.
 */
#include <linux/bpf.h>
#include <linux/in6.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "kernel.h"
#include "maps.h"

#define TCP_SAVE_SYN 27
#define TCP_BPF_SOCK_OPS_CB_FLAGS 1008 /* Linux 6.12 */
#define CGROUP_DEPTH_MAX 64

/* Set by user space before loading. */
const volatile __u32 only_report; /* 1: change nothing */
const volatile __u64 cgroup_id; /* that the sockops program is on; 0: not known */

/* What is needed of the kernel's structures; found by BTF (CO-RE). */
struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	__u16 skc_num;
	__be32 skc_rcv_saddr;
	struct in6_addr skc_v6_rcv_saddr;
} __attribute__((preserve_access_index));

struct kernfs_node {
	__u64 id;
} __attribute__((preserve_access_index));

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[1];
} __attribute__((preserve_access_index));

struct sock_cgroup_data {
	struct cgroup *cgroup;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
	struct sock_cgroup_data sk_cgrp_data;
} __attribute__((preserve_access_index));

struct tcp_sock {
	__u8 bpf_sock_ops_cb_flags;
} __attribute__((preserve_access_index));

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} __attribute__((preserve_access_index));

/* Does the sockops program see @sk, being in its cgroup or below? */
static __always_inline int is_in_cgroup(struct sock *sk)
{
	struct cgroup *cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup), **ancestor;
	int level = BPF_CORE_READ(cgroup, level);

	if (!cgroup_id || !bpf_core_field_exists(cgroup->ancestors))
		return 1;
	ancestor = __builtin_preserve_access_index(&cgroup->ancestors[0]);
	for (int i = 0; i < CGROUP_DEPTH_MAX && i <= level; i++) {
		struct cgroup *at = NULL;

		(void)bpf_probe_read_kernel(&at, sizeof(at), ancestor + i);
		if (BPF_CORE_READ(at, kn, id) == cgroup_id)
			return 1;
	}
	return 0;
}

static __always_inline struct ss_endpoint listener_address(const struct sock_common *sk)
{
	struct ss_endpoint local = { .port = SS_BE16(sk->skc_num) };

	if (sk->skc_family == AF_INET)
		local.addr = ss_addr_v4(sk->skc_rcv_saddr);
	else
		BPF_CORE_READ_INTO(&local.addr, sk, skc_v6_rcv_saddr);
	return local;
}

/*
 * What server_listen() does. Callbacks may be on already, from programs that were unloaded since,
 * or by others: then they are not ours to switch off. Returns 1, or 0 with no state left.
 */
static __always_inline int listener_adopt(struct tcp_sock *tp, const struct ss_endpoint *local)
{
	struct ss_conn state = { .flow.local = *local, .role = SS_ROLE_LISTENER };
	int before = tp->bpf_sock_ops_cb_flags, on = 1, flags;

	flags = before | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
	state.cb_flags = flags & ~before;
	if (!bpf_sk_storage_get(&conns, tp, &state, BPF_SK_STORAGE_GET_F_CREATE))
		return 0;
	if (!bpf_setsockopt(tp, SOL_TCP, TCP_SAVE_SYN, &on, sizeof(on)) &&
	    (flags == before ||
	     !bpf_setsockopt(tp, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags))))
		return 1;
	(void)bpf_sk_storage_delete(&conns, tp);
	return 0;
}

/* Adopts what can be; writes a struct ss_endpoint for every listener that has to start anew. */
SEC("iter/tcp")
int sidestep_adopt(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct ss_endpoint local;
	struct tcp_sock *tp;
	__u32 port;

	if (!sk || sk->skc_state != TCP_LISTEN)
		return 0;
	port = sk->skc_num;
	if (!bpf_map_lookup_elem(&listen_ports, &port))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || bpf_sk_storage_get(&conns, tp, 0, 0) || !is_in_cgroup((struct sock *)tp))
		return 0;
	local = listener_address(sk);
	if (only_report || !listener_adopt(tp, &local))
		(void)bpf_seq_write(ctx->meta->seq, &local, sizeof(local));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
