// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The programs of a host, client and server alike: what to do with a packet follows from its
 * connection's own state. A table of contents; the steps (DESIGN section 2) are in
 *
 *   handshake_client.h   1, 7    the request in the SYN; where the connection goes
 *   handshake_server.h   4, 8    the grant in the SYN-ACK; the connection's state
 *   ingress.h            3       what a balancer did to a SYN is undone
 *   refuse.h             3       SYNs that no server will take
 *   decap.h, plain.h     3       what a balancer has wrapped, and clients that did not ask
 *   udp.h                3, 9    UDP services
 *   grant.h              5, 6    a strict grant becomes a classic one
 *   synack.h             6       the SYN-ACK reaches the client
 *   strict.h             6, 9    a server that answers from its own address
 *   blocked.h            7, 9    a direct path that carries nothing
 *   egress.h             5, 9, 10  packets get the addresses of the wire
 *   reset.h              10      a RST in the server's own name
 *   closing.h            10      packets that leave without their socket
 *   unanswered.h         6       dials that are given up
 *   open.h               8       how many connections a service has open
 *   icmp.h               ICMP errors about such packets get the kernel's addresses
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "closing.h"
#include "egress.h"
#include "handshake_client.h"
#include "handshake_server.h"
#include "ingress.h"
#include "maps.h"

/* "Go on with the next program", by TCX as by clsact. */
#define TC_NEXT (-1)
#define TC_DROP 2

SEC("sockops")
int sidestep_sockops(struct bpf_sock_ops *ctx)
{
	__u32 synack = TCP_FLAG_SYN | TCP_FLAG_ACK;
	int is_synack = (ctx->skb_tcp_flags & synack) == synack;

	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		client_connect(ctx);
		break;
	case BPF_SOCK_OPS_RTO_CB:
		client_timeout(ctx);
		server_timeout(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		client_established(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		server_fast_decide(ctx);
		conn_state(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		server_listen(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		server_established(ctx);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		if (is_synack)
			server_reserve(ctx);
		else
			client_reserve(ctx);
		break;
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		if (is_synack)
			server_write(ctx);
		else
			client_write(ctx);
		break;
	}
	return 1;
}

SEC("tc")
int sidestep_ingress(struct __sk_buff *skb)
{
	switch (ingress(skb)) {
	case INGRESS_DROP:
		return TC_DROP;
	case INGRESS_NEIGHBOUR:
		return bpf_redirect_neigh(skb->ifindex, NULL, 0, 0);
	default:
		return TC_NEXT;
	}
}

SEC("tc")
int sidestep_egress(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;

	if (egress(skb, &ifindex) == EGRESS_NEIGHBOUR)
		return bpf_redirect_neigh(ifindex, NULL, 0, 0);
	return TC_NEXT;
}

/* What the iterator needs of the kernel's structures; found by BTF (CO-RE). */
struct sock_common {
	unsigned char skc_state;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	struct ss_conn *value;
};

/* Writes a struct ss_conn_record for every connection, for `sidestep host connections`. */
SEC("iter/bpf_sk_storage_map")
int sidestep_connections(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct ss_conn_record record = {};

	if (!ctx->sk || !ctx->value)
		return 0;
	record.conn = *ctx->value;
	record.state = ctx->sk->__sk_common.skc_state;
	(void)bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
