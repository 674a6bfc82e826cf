/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 3: which socket of the server would a packet reach that is for one of its services? Several
 * services can share an address and port of the server, and the kernel cannot tell them apart.
 */
#ifndef SIDESTEP_HOST_MEETS_H
#define SIDESTEP_HOST_MEETS_H

#include <linux/tcp.h>

#include <sidestep/option.h>

#include "answers.h"
#include "judged.h"
#include "kernel.h"
#include "maps.h"
#include "request.h"
#include "socket.h"

/* What of the kernel's request socket is needed here; found by BTF (CO-RE). */
struct saved_syn___host { /* the SYN, from its IP header on: the server's sockets keep it */
	__u32 mac_hdrlen; /* 0, unless the server asked for that header, too */
	__u32 network_hdrlen;
	__u32 tcp_hdrlen;
	__u8 data[0];
} __attribute__((preserve_access_index));

struct request_sock {
	struct saved_syn___host *saved_syn;
} __attribute__((preserve_access_index));

struct inet_request_sock {
	struct request_sock req;
} __attribute__((preserve_access_index));

struct tcp_request_sock {
	struct inet_request_sock req;
	__u32 rcv_isn;
} __attribute__((preserve_access_index));

/* What meets a SYN. */
enum syn_meets {
	MEETS_OURS, /* a listener that may grant, or the same SYN sent again */
	MEETS_NOBODY, /* in this network namespace */
	MEETS_OWN, /* the live connection that it belongs to */
	MEETS_OLD_LISTENER, /* it listened before the programs were loaded, or is none of theirs */
	MEETS_OTHER, /* a connection of another service, be it only half open */
};

/* A packet for a service, and the SYN of its connection. */
struct arrival {
	struct ss_flow flow; /* as the server's kernel would see it */
	struct ss_endpoint vip; /* the service */
	__u32 isn; /* of the connection, as far as the packet tells */
	struct ss_opt_cursor c; /* the packet's options, and room for those of another SYN */
};

/* Loads the options of the SYN that made @req into @c. Returns 0 if there are none, or it was not kept. */
static __always_inline int pending_options(struct tcp_request_sock *req, struct ss_opt_cursor *c)
{
	struct saved_syn___host *syn = req->req.req.saved_syn;
	__u32 tcp, len;

	if (!syn)
		return 0;
	tcp = syn->mac_hdrlen + syn->network_hdrlen;
	len = syn->tcp_hdrlen - sizeof(struct tcphdr);
	barrier_var(len);
	if (len > SS_TCP_OPTS_MAX)
		return 0;
	if (bpf_probe_read_kernel(c->opts, len, syn->data + tcp + sizeof(struct tcphdr)))
		return 0;
	c->len = len;
	return 1;
}

/*
 * Is @req, a connection that is half open, one of the service that @in is for? Its SYN says so in a
 * request, or one that a balancer had wrapped was noted (plain.h). in->c is used. A function of its own,
 * for the stack of kernel 6.1; and only the SYN's last option is looked at, for its verifier.
 */
static __noinline int pending_is_own(struct tcp_request_sock *req, struct arrival *in)
{
	const struct ss_endpoint *accepted;
	const struct ss_late *entry;
	struct request request = {};

	if (!req || !in)
		return 0;
	if (pending_options(req, &in->c) &&
	    request_at_tail(&in->c, ss_addr_is_v4(&in->flow.local.addr))) {
		if (in->c.word == SS_OPT_JUDGED) {
			accepted = judge_service(&in->c, &in->flow.remote);
			return accepted && ss_endpoint_equal(accepted, &in->vip);
		}
		request_read(&in->c, &in->flow.remote, in->flow.local.port, &request);
		return ss_endpoint_equal(&request.vip, &in->vip);
	}
	entry = bpf_map_lookup_elem(&late, &in->flow);
	return entry && entry->synack == SS_BE32(req->rcv_isn + 1) &&
	       ss_endpoint_equal(&entry->wire, &in->vip);
}

/*
 * @in meets a connection that is half open. If its SYN had another sequence number, that may have been
 * anybody's, who need not own the address that it came from: where it was for the same service, the
 * kernel settles it with the client, as it does without these programs. What is no SYN may follow others
 * that were lost, so its own number does not tell: @in gets that of the SYN.
 */
static __always_inline enum syn_meets pending_meets(struct bpf_sock *sk, struct arrival *in)
{
	struct tcp_request_sock *req = bpf_skc_to_tcp_request_sock(sk);

	if (!req)
		return MEETS_OURS;
	if (req->rcv_isn == in->isn)
		return MEETS_OURS;
	if (!pending_is_own(req, in))
		return MEETS_OTHER;
	in->isn = req->rcv_isn;
	return MEETS_OURS;
}

/*
 * Would the kernel give @in to @sk, a live connection of another service? Linux reuses a source port
 * toward different VIPs, and two VIPs can share a backend; a SYN could reset that connection. The same
 * service's own SYN, sent again, is no such case.
 */
static __always_inline enum syn_meets sock_meets(struct bpf_sock *sk, struct arrival *in)
{
	struct ss_conn *conn;

	if (sk->state == TCP_TIME_WAIT)
		return MEETS_OURS;
	if (sk->state == TCP_NEW_SYN_RECV)
		return pending_meets(sk, in);
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	if (sk->state == TCP_LISTEN)
		return conn ? MEETS_OURS : MEETS_OLD_LISTENER;
	if (!conn) /* of an old listener, say */
		return answers_are_for(&in->flow, &in->vip) ? MEETS_OWN : MEETS_OTHER;
	return ss_endpoint_equal(&conn->wire, &in->vip) ? MEETS_OWN : MEETS_OTHER;
}

/* The same for whatever socket has the addresses and ports of @in. */
static __always_inline enum syn_meets syn_meets(struct __sk_buff *skb, struct arrival *in)
{
	struct bpf_sock *sk = flow_socket(skb, &in->flow);
	enum syn_meets meets;

	if (!sk)
		return MEETS_NOBODY;
	meets = sock_meets(sk, in);
	bpf_sk_release(sk);
	return meets;
}

#endif
