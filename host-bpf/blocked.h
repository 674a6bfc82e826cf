/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A direct path that does not carry packets: something between the client and its server, which
 * both reach the balancer, drops what one sends to the other.
 *
 * The handshake cannot find out: the SYN-ACK did arrive, and the third ACK is the first packet that
 * goes direct. So until the direct path has carried something, the client watches for what a
 * lost packet causes: its own timeouts, if it speaks first, or the server's SYN-ACK again, if it is
 * silent. Then the connection goes back to the balancer path. The server needs to know nothing:
 * what the balancer forwards has the same addresses and ports there.
 */
#ifndef SIDESTEP_HOST_BLOCKED_H
#define SIDESTEP_HOST_BLOCKED_H

#include "conn.h"
#include "minute.h"

/* So many timeouts show that the path carries nothing; one may be a lost packet. */
#define BLOCKED_TIMEOUTS 2

/*
 * A single SYN-ACK that comes again must do, as the next one comes after 3 seconds only. A server's
 * timer sends it after 1 second (RFC 6298, section 2); copies made by the network come sooner.
 */
#define SYNACK_AGAIN_NS (SECOND_NS / 2)

/*
 * Has @conn, whose socket is @tcp, carried anything from the client? What the server says is no proof: a
 * filter that saw one half of the handshake may let pass what goes the one way, and not the other.
 */
static __always_inline int path_carried(const struct ss_conn *conn, const struct bpf_tcp_sock *tcp)
{
	return tcp->bytes_acked > conn->acked;
}

/*
 * Has the server got at least the third ACK of @conn? It has if it speaks; but if it took data out of
 * the SYN (TCP Fast Open), it does not wait for that.
 */
static __always_inline int server_has_heard(const struct ss_conn *conn,
					    const struct bpf_tcp_sock *tcp)
{
	return path_carried(conn, tcp) || (tcp->bytes_received && conn->acked <= 1);
}

/* Is there another path for @conn, which was granted the direct one? */
static __always_inline int path_is_choice(const struct ss_conn *conn)
{
	return conn->reason == SS_HOST_client_direct || conn->reason == SS_HOST_client_blocked ||
	       conn->reason == SS_HOST_client_backend_blocked;
}

/*
 * Did @conn get an answer from the service to its request, but no grant? Either the server gave none,
 * and the balancer path is its path; or the grant was lost on the way. The server then answers as one
 * that was redirected, which not every balancer's address translation stands: nothing is carried.
 */
static __always_inline int grant_is_missing(const struct ss_conn *conn)
{
	return conn->reason == SS_HOST_client_no_grant ||
	       conn->reason == SS_HOST_client_bad_grant ||
	       conn->reason == SS_HOST_client_out_of_range;
}

/* Is anything to be done for or learnt from @conn if it carries nothing? */
static __always_inline int path_on_trial(const struct ss_conn *conn)
{
	return path_is_choice(conn) || grant_is_missing(conn) ||
	       conn->reason == SS_HOST_client_unblocked;
}

/* @conn is established, and so far @acked bytes were acknowledged. */
static __always_inline void path_begin(struct ss_conn *conn, __u32 acked)
{
	conn->since = bpf_ktime_get_ns();
	conn->acked = acked;
}

/* Is it not for certain that the balancer's first choice is the server that answered @conn? */
static __always_inline int path_is_second(const struct ss_conn *conn)
{
	return conn->syn_retries || conn->sent_on;
}

/* @conn has the grant @dip. */
static __always_inline void path_granted(struct ss_conn *conn, const struct ss_endpoint *dip)
{
	if (bpf_map_lookup_elem(&plain, &conn->flow.remote))
		(void)bpf_map_delete_elem(&plain, &conn->flow.remote);
	if (!path_is_second(conn) && minute_lasts(&blocked, &dip->addr)) {
		conn->wire = *dip;
		conn_decide(conn, SS_PATH_BALANCER, SS_HOST_client_backend_blocked);
		return;
	}
	conn_rewrite(conn, dip);
	conn_decide_direct(conn);
}

/*
 * The direct path of @conn carries nothing. Through the balancer, its packets get to the backend
 * that the hash names first. If the SYN was sent again, that may be another server than the one that
 * answered, which would reset the connection: then it stays where it is.
 */
static __always_inline void direct_fails(struct ss_conn *conn)
{
	minute_begin(&blocked, &conn->wire.addr);
	if (path_is_second(conn)) {
		conn_decide(conn, SS_PATH_DIRECT, SS_HOST_client_blocked_retry);
		return;
	}
	conn->rewrite = 0;
	conn->catch_up = 1;
	conn_decide(conn, SS_PATH_BALANCER, SS_HOST_client_blocked);
}

/*
 * The balancer path of @conn carries nothing either. That may be since the balancer forwards SYNs
 * only (round robin), and the direct path had but a bad moment: it gets the connection for good.
 */
static __always_inline void balancer_fails(struct ss_conn *conn)
{
	struct ss_endpoint dip = conn->wire;

	(void)bpf_map_delete_elem(&blocked, &dip.addr);
	conn_rewrite(conn, &dip);
	conn_decide(conn, SS_PATH_DIRECT, SS_HOST_client_unblocked);
}

/*
 * Nothing is left to try for @conn. Balancers that translate addresses and follow connections carry
 * one that did not ask: the next ones shall not.
 */
static __always_inline void all_fails(struct ss_conn *conn)
{
	minute_begin(&plain, &conn->flow.remote);
	conn_decide(conn, conn->path, SS_HOST_client_cut_off);
}

static __always_inline void path_fails(struct ss_conn *conn)
{
	conn->since = bpf_ktime_get_ns();
	conn->timeouts = 0;
	if (!path_is_choice(conn))
		all_fails(conn);
	else if (conn->path == SS_PATH_DIRECT)
		direct_fails(conn);
	else
		balancer_fails(conn);
}

/* A timeout of @conn. Runs before the packet is sent again. */
static __always_inline void path_timeout(struct ss_conn *conn, const struct bpf_tcp_sock *tcp)
{
	if (!path_on_trial(conn) || path_carried(conn, tcp))
		return;
	conn->catch_up = conn->reason == SS_HOST_client_blocked;
	if (++conn->timeouts >= BLOCKED_TIMEOUTS)
		path_fails(conn);
}

/*
 * A SYN-ACK with the sequence numbers @seq and @ack came for @conn. Is it that of its handshake again,
 * because the server has got nothing since? Not if the client sent its SYN again, too: each SYN is
 * answered. Nor if it has other numbers: then another server answered another of those SYNs, or it
 * is a forgery. Before anything was carried, what the handshake acknowledged is all there is.
 */
static __always_inline void path_synack(struct ss_conn *conn, const struct bpf_tcp_sock *tcp,
					__u32 seq, __u32 ack)
{
	if (!path_on_trial(conn) || server_has_heard(conn, tcp) || conn->syn_retries)
		return;
	if (seq + 1 + (__u32)tcp->bytes_received != tcp->rcv_nxt || ack != tcp->snd_una)
		return;
	if (bpf_ktime_get_ns() - conn->since >= SYNACK_AGAIN_NS)
		path_fails(conn);
}

/*
 * A RST with sequence number @seq came for @conn. If it is the first thing to come, its sender may
 * not know the connection.
 */
static __always_inline void path_reset(struct ss_conn *conn, const struct bpf_tcp_sock *tcp,
				       __u32 seq)
{
	if (grant_is_missing(conn) && !server_has_heard(conn, tcp) && seq == tcp->rcv_nxt)
		path_fails(conn);
}

#endif
