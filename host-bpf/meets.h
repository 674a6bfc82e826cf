/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 3: which socket of the server would a packet reach that is for one of its services? Several
 * services can share an address and port of the server, and the kernel cannot tell them apart.
 */
#ifndef SIDESTEP_HOST_MEETS_H
#define SIDESTEP_HOST_MEETS_H

#include "kernel.h"
#include "maps.h"
#include "socket.h"

/* What of the kernel's request socket is needed here; found by BTF (CO-RE). */
struct tcp_request_sock {
	__u32 rcv_isn;
} __attribute__((preserve_access_index));

/* What meets a SYN. */
enum syn_meets {
	MEETS_OURS, /* a listener that may grant, the same SYN sent again, or nobody */
	MEETS_OWN, /* the live connection that it belongs to */
	MEETS_OLD_LISTENER, /* it listened before the programs were loaded, or is none of theirs */
	MEETS_OTHER, /* a live connection of another service */
};

/*
 * Would the kernel give the SYN, which asks for @vip, to @sk, a live connection of another service?
 * Linux reuses a source port toward different VIPs, and two VIPs can share a backend; such a
 * SYN could reset that connection. The same service's own SYN, sent again, is no such case.
 */
static __always_inline enum syn_meets sock_meets(struct bpf_sock *sk, __u32 isn,
						 const struct ss_endpoint *vip)
{
	struct tcp_request_sock *req;
	struct ss_conn *conn;

	if (sk->state == TCP_TIME_WAIT)
		return MEETS_OURS;
	if (sk->state == TCP_NEW_SYN_RECV) {
		req = bpf_skc_to_tcp_request_sock(sk);
		return req && req->rcv_isn != isn ? MEETS_OTHER : MEETS_OURS;
	}
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (sk->state == TCP_LISTEN)
		return conn ? MEETS_OURS : MEETS_OLD_LISTENER;
	return conn && ss_endpoint_equal(&conn->wire, vip) ? MEETS_OWN : MEETS_OTHER;
}

/* The same for whatever socket has the addresses and ports of @flow. */
static __always_inline enum syn_meets syn_meets(struct __sk_buff *skb, const struct ss_flow *flow,
						__u32 isn, const struct ss_endpoint *vip)
{
	struct bpf_sock *sk = flow_socket(skb, flow);
	enum syn_meets meets;

	if (!sk)
		return MEETS_OURS;
	meets = sock_meets(sk, isn, vip);
	bpf_sk_release(sk);
	return meets;
}

#endif
