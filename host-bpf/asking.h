/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Steps 1 to 6: a connection that has asked, and has no answer yet. Nobody knows which server will
 * answer, and in whose name: SYN-ACKs (synack.h), RSTs (reset.h) and ICMP errors (icmp.h) of
 * backends find here whom they are for.
 */
#ifndef SIDESTEP_HOST_ASKING_H
#define SIDESTEP_HOST_ASKING_H

#include <sidestep/option.h>

#include "conn.h"
#include "kernel.h"
#include "socket.h"

/* What of the kernel's socket is needed here; found by BTF (CO-RE). */
struct tcp_sock {
	__u32 snd_una;
	__u32 write_seq;
} __attribute__((preserve_access_index));

/*
 * Does @ack_seq acknowledge the SYN that @sk has sent, and nothing that it has not? Not by snd_nxt:
 * tcp_connect() sets that once the SYN is sent, and on virtual links the answer is faster.
 */
static __always_inline int acks_syn(struct bpf_sock *sk, __u32 ack_seq)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	return tp && ack_seq - tp->snd_una - 1 < tp->write_seq - tp->snd_una;
}

/* The connection @flow, if it has asked, and waits for a SYN-ACK that acknowledges @ack_seq. */
static __noinline struct ss_conn *conn_awaiting(struct __sk_buff *skb, const struct ss_flow *flow,
						__u32 ack_seq)
{
	struct ss_conn *conn = NULL;
	struct bpf_sock *sk = flow_socket(skb, flow);

	if (!sk)
		return NULL;
	if (sk->state == TCP_SYN_SENT && acks_syn(sk, ack_seq))
		conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	bpf_sk_release(sk);
	return conn && conn->asked ? conn : NULL;
}

/* How a connection is found that asks from @local; @tag: of its service, or 0: whatever that is. */
static __always_inline struct ss_flow asking_key(const struct ss_endpoint *local, __be32 tag)
{
	return (struct ss_flow){ .local = *local, .remote.addr.w[0] = tag };
}

static __always_inline void asking_hint(const struct ss_flow *flow, __be32 tag)
{
	struct ss_flow key = asking_key(&flow->local, tag);
	__u32 slot = ss_wire_slot(&key);
	struct ss_wire *hint = bpf_map_lookup_elem(&wire_flows, &slot);

	if (!hint)
		return;
	hint->wire = key;
	hint->flow = *flow;
}

/* The connection @flow asks: its SYN is on its way. */
static __noinline void asking_remember(const struct ss_flow *flow)
{
	if (!flow)
		return;
	asking_hint(flow, 0);
	asking_hint(flow, ss_tag_of(&flow->remote).first);
}

/*
 * What the socket with the address and port @local may have asked for, by the kernel's flow; NULL if
 * there is no hint. Of several that ask from one port at once, the one of the service with this @tag, or,
 * without one (0), the one that sent its SYN last.
 */
static __always_inline const struct ss_flow *asking_recall(const struct ss_endpoint *local,
							   __be32 tag)
{
	struct ss_flow key = asking_key(local, tag);

	return wire_recall(&key);
}

#endif
