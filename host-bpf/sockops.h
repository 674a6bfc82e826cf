/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What a sockops callback knows of its connection, in the form of our maps. */
#ifndef SIDESTEP_HOST_SOCKOPS_H
#define SIDESTEP_HOST_SOCKOPS_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include <sidestep/addr.h>
#include <sidestep/option.h>

#include "kernel.h"
#include "maps.h"

#define TCP_FLAG_SYN 0x02
#define TCP_FLAG_ACK 0x10

/*
 * Reads a field of the context. In assembler, because clang 14 joins loads from two branches into
 * one through a computed pointer, which the verifier does not allow into a context.
 */
#define CTX_READ(ctx, field)                                                                   \
	({                                                                                     \
		__u64 value;                                                                   \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                                          \
			     : "=r"(value)                                                     \
			     : "r"(ctx), "i"(__builtin_offsetof(struct bpf_sock_ops, field))); \
		(__u32) value;                                                                 \
	})

/*
 * A socket of the IPv6 family may speak IPv4 (IPv4-mapped addresses); our form of an address makes
 * no difference there.
 */
static __always_inline struct ss_flow sockops_flow(struct bpf_sock_ops *ctx)
{
	struct ss_flow flow = {};

	if (ctx->family == AF_INET) {
		flow.local.addr = ss_addr_v4(CTX_READ(ctx, local_ip4));
		flow.remote.addr = ss_addr_v4(CTX_READ(ctx, remote_ip4));
	} else {
		flow.local.addr.w[0] = CTX_READ(ctx, local_ip6[0]);
		flow.local.addr.w[1] = CTX_READ(ctx, local_ip6[1]);
		flow.local.addr.w[2] = CTX_READ(ctx, local_ip6[2]);
		flow.local.addr.w[3] = CTX_READ(ctx, local_ip6[3]);
		flow.remote.addr.w[0] = CTX_READ(ctx, remote_ip6[0]);
		flow.remote.addr.w[1] = CTX_READ(ctx, remote_ip6[1]);
		flow.remote.addr.w[2] = CTX_READ(ctx, remote_ip6[2]);
		flow.remote.addr.w[3] = CTX_READ(ctx, remote_ip6[3]);
	}
	flow.local.port = bpf_htons(CTX_READ(ctx, local_port));
	flow.remote.port = bpf_htons(bpf_ntohl(CTX_READ(ctx, remote_port)));
	return flow;
}

/*
 * Is the socket of @ctx in the network namespace that the programs were loaded for? sockops runs for every
 * namespace's sockets in its cgroup, and addresses mean something in their own namespace only.
 */
static __always_inline int is_own_netns(struct bpf_sock_ops *ctx)
{
	__u32 zero = 0;
	const struct ss_meta *own = bpf_map_lookup_elem(&meta, &zero);

	return !own || !own->netns_cookie || own->netns_cookie == bpf_get_netns_cookie(ctx);
}

/*
 * Reads our option of @form and @word in the segment that @ctx shows into the @size bytes of @opt. Returns its
 * length, or a negative errno: -ENOMSG if there is none.
 */
static __always_inline long option_load(struct bpf_sock_ops *ctx, __u32 word, __u32 form, void *opt,
					__u32 size)
{
	struct ss_opt_head head = ss_opt_head(word, form);

	head.len = sizeof(head); /* what to compare: kind and ExID */
	__builtin_memcpy(opt, &head, sizeof(head));
	return bpf_load_hdr_opt(ctx, opt, size, 0);
}

/* Switches callbacks @flags on for this socket; returns those that were off. */
static __always_inline __u8 callbacks_on(struct bpf_sock_ops *ctx, __u32 flags)
{
	__u32 before = ctx->bpf_sock_ops_cb_flags;

	(void)bpf_sock_ops_cb_flags_set(ctx, before | flags);
	return flags & ~before;
}

/* Switches off @flags: those that callbacks_on() returned, so that other programs keep theirs. */
static __always_inline void callbacks_off(struct bpf_sock_ops *ctx, __u8 flags)
{
	if (flags)
		(void)bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~flags);
}

#endif
