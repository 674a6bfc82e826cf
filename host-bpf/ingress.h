/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 3: a SYN with a request reaches the server. Before the kernel sees it, what a balancer did
 * to its source and port is undone, and it is kept from a connection that it does not belong to.
 *
 * At the client, a SYN-ACK that comes again may mean that its path is blocked (blocked.h); one that
 * a server sent from its own address without a usable grant is kept from the kernel, which would
 * answer it with a RST: a retransmitted SYN may yet fare better.
 *
 * Of TCP nothing else needs ingress: the addresses on the wire are those that the kernel knows.
 * What remains are ICMP errors (icmp.h).
 */
#ifndef SIDESTEP_HOST_INGRESS_H
#define SIDESTEP_HOST_INGRESS_H

#include "blocked.h"
#include "conn.h"
#include "icmp.h"
#include "kernel.h"
#include "packet.h"
#include "request.h"
#include "rewrite.h"
#include "socket.h"
#include "sockops.h"

#define PACKET_HOST 0 /* linux/if_packet.h */

enum ingress_result { INGRESS_PASS, INGRESS_DROP };

/* What of the kernel's request socket is needed here; found by BTF (CO-RE). */
struct tcp_request_sock {
	__u32 rcv_isn;
} __attribute__((preserve_access_index));

/*
 * Would the kernel give the SYN, which asks for @vip, to @sk, a live connection of another service?
 * Linux reuses a source port toward different VIPs, and two VIPs can share a backend; such a
 * SYN could reset that connection. The same service's own SYN, sent again, is no such case.
 */
static __always_inline int sock_collides(struct bpf_sock *sk, __u32 isn,
					 const struct ss_endpoint *vip)
{
	struct tcp_request_sock *req;
	struct ss_conn *conn;

	if (sk->state == TCP_TIME_WAIT)
		return 0;
	if (sk->state == TCP_LISTEN) {
		if (!bpf_sk_storage_get(&conns, sk, 0, 0))
			count(SS_HOST_syn_old_listener);
		return 0;
	}
	if (sk->state == TCP_NEW_SYN_RECV) {
		req = bpf_skc_to_tcp_request_sock(sk);
		return req && req->rcv_isn != isn;
	}
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	return !conn || !ss_endpoint_equal(&conn->wire, vip);
}

/* The same for whatever socket has the SYN's addresses and ports. */
static __always_inline int syn_collides(struct __sk_buff *skb, const struct ss_flow *flow,
					__u32 isn, const struct ss_endpoint *vip)
{
	struct bpf_sock *sk = flow_socket(skb, flow);
	int collides;

	if (!sk)
		return 0;
	collides = sock_collides(sk, isn, vip);
	bpf_sk_release(sk);
	return collides;
}

/* Loads the SYN's options and looks for a request in them. */
static __always_inline int syn_request(struct __sk_buff *skb, const struct packet *p,
				       struct ss_opt_cursor *c)
{
	__u32 len = p->tcp->doff * 4 - sizeof(struct tcphdr);

	barrier_var(len);
	if (len > SS_TCP_OPTS_MAX)
		return 0;
	barrier_var(len); /* two comparisons: kernel 6.1 learns no bound from a combined one */
	if (len < sizeof(struct ss_opt_head))
		return 0;
	if (bpf_skb_load_bytes(skb, p->l4 + sizeof(struct tcphdr), c->opts, len))
		return 0;
	c->len = len;
	return request_find(c, !p->is_ip6) == SS_OPT_FOUND;
}

/*
 * The SYN's source and port become what the client and the server know. Returns 0, or -1 if the
 * packet is to stay as it is. @flow is brought up to date.
 */
static __always_inline int syn_restore(struct __sk_buff *skb, struct packet *p,
				       const struct request *request, const struct ss_serve *served,
				       struct ss_flow *flow)
{
	int restored = 0;
	__u32 csum;

	if (!ss_endpoint_equal(&request->client, &flow->remote)) {
		if (!prefix_covers(&trusted, &flow->remote.addr)) {
			count(SS_HOST_syn_untrusted);
			return -1;
		}
		csum = ss_csum_to32(ss_csum_diff_addr(&flow->remote.addr, &request->client.addr));
		rewrite(skb, p, REWRITE_SOURCE, &request->client, csum);
		flow->remote = request->client;
		restored = 1;
		if (!packet_headers(skb, p))
			return -1;
	}
	if (flow->local.port != served->listen && !p->is_ip6) {
		flow->local.port = served->listen;
		rewrite(skb, p, REWRITE_DESTINATION, &flow->local, 0);
		restored = 1;
	}
	if (restored)
		count(SS_HOST_syn_restored);
	return 0;
}

static __noinline int ingress_syn(struct __sk_buff *skb, struct packet *p)
{
	struct ss_flow flow = { .local = packet_destination(p), .remote = packet_source(p) };
	__u32 isn = SS_BE32(p->tcp->seq);
	const struct ss_serve *served;
	struct request request = {};
	struct ss_opt_cursor c = {};

	if (!syn_request(skb, p, &c))
		return INGRESS_PASS;
	request_read(&c, &flow.remote, flow.local.port, &request);
	served = bpf_map_lookup_elem(&serve, &request.vip);
	if (!served) {
		count(SS_HOST_syn_not_served);
		return INGRESS_PASS;
	}
	if (syn_restore(skb, p, &request, served, &flow))
		return INGRESS_PASS;
	if (syn_collides(skb, &flow, isn, &request.vip)) {
		count(SS_HOST_syn_collision);
		return INGRESS_DROP;
	}
	return INGRESS_PASS;
}

/*
 * Has a socket of this host sent the SYN that a SYN-ACK of @flow answers? Listeners send none. Where
 * the connection is established already, the SYN-ACK comes again, which its path is judged by.
 */
static __always_inline int synack_is_awaited(struct __sk_buff *skb, const struct ss_flow *flow,
					     __u32 isn)
{
	struct bpf_sock *sk = flow_socket(skb, flow);
	struct bpf_tcp_sock *tcp;
	struct ss_conn *conn;
	int awaited;

	if (!sk)
		return 0;
	awaited = sk->state != TCP_LISTEN;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	tcp = conn ? bpf_tcp_sock(sk) : NULL;
	if (conn && tcp)
		path_synack(conn, tcp, isn);
	bpf_sk_release(sk);
	return awaited;
}

/*
 * May the packet be meant for somebody behind this host, whose sockets are not seen here? The frame
 * is another's (a bridge's, a macvlan's), or the host forwards what comes in by the interface: to
 * a container, say, whose address translation is still to come.
 */
static __always_inline int may_be_forwarded(struct __sk_buff *skb, int is_ip6)
{
	struct bpf_fib_lookup fib = { .family = is_ip6 ? AF_INET6 : AF_INET,
				      .ifindex = skb->ifindex };

	return skb->pkt_type != PACKET_HOST ||
	       bpf_fib_lookup(skb, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* A SYN-ACK: one that comes again, or one that nobody here has asked for? */
static __noinline int ingress_synack(struct __sk_buff *skb, const struct packet *p)
{
	struct ss_flow flow = { .local = packet_destination(p), .remote = packet_source(p) };

	if (synack_is_awaited(skb, &flow, SS_BE32(p->tcp->seq)) ||
	    !prefix_covers(&backends, &flow.remote.addr) || may_be_forwarded(skb, p->is_ip6))
		return INGRESS_PASS;
	count(SS_HOST_synack_dropped);
	return INGRESS_DROP;
}

static __always_inline enum ingress_result ingress(struct __sk_buff *skb)
{
	struct packet p = {};

	if (!packet_parse(skb, &p)) {
		icmp_translate(skb);
		return INGRESS_PASS;
	}
	if (!p.tcp->syn)
		return INGRESS_PASS;
	return p.tcp->ack ? ingress_synack(skb, &p) : ingress_syn(skb, &p);
}

#endif
