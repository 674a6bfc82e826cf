/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Steps 1 to 6: a dial that ends without an answer. The third SYN would find out whether that is for its
 * request, but many applications do not wait for it: they give up after a second or two, and all their dials
 * would fail for ever. So after two such dials to a service, with nothing granted in between, it is
 * dialled plainly for a minute. A service that is simply down does not answer a plain dial either, which
 * forgets it again.
 *
 * The first of the two stands in the map "plain" as well, as a time that has passed.
 */
#ifndef SIDESTEP_HOST_UNANSWERED_H
#define SIDESTEP_HOST_UNANSWERED_H

#include <linux/errno.h>

#include "conn.h"
#include "kernel.h"
#include "minute.h"

/* Who gives up earlier has hardly waited for an answer. */
#define UNANSWERED_NS (SECOND_NS / 2)

/* What of the kernel's socket is needed here; found by BTF (CO-RE). */
struct sock___error {
	int sk_err;
} __attribute__((preserve_access_index));

struct inet_sock___error {
	struct sock___error sk;
} __attribute__((preserve_access_index));

struct inet_connection_sock___error {
	struct inet_sock___error icsk_inet;
} __attribute__((preserve_access_index));

struct tcp_sock___error {
	struct inet_connection_sock___error inet_conn;
} __attribute__((preserve_access_index));

/* Was @sk closed for want of an answer? A RST or an ICMP error would be one. */
static __always_inline int got_no_answer(struct bpf_sock *sk)
{
	struct tcp_sock___error *tcp = (void *)bpf_skc_to_tcp_sock(sk);
	int err;

	if (!tcp)
		return 0;
	err = tcp->inet_conn.icsk_inet.sk.sk_err;
	return !err || err == ETIMEDOUT;
}

/* The dial of @conn ends without an answer. */
static __noinline void dial_unanswered(struct ss_conn *conn)
{
	__u64 now = bpf_ktime_get_ns(), *noted;
	struct ss_endpoint service;

	if (!conn || now - conn->since < UNANSWERED_NS)
		return;
	service = conn->flow.remote;
	if (conn->plain_first) {
		(void)bpf_map_delete_elem(&plain, &service);
		return;
	}
	if (!conn->asked)
		return;
	count(SS_HOST_dial_unanswered);
	noted = bpf_map_lookup_elem(&plain, &service);
	if (noted && *noted <= now && now - *noted < MINUTE_NS)
		minute_begin(&plain, &service);
	else if (!noted || *noted <= now)
		if (bpf_map_update_elem(&plain, &service, &now, BPF_ANY))
			count(SS_HOST_error_map);
}

#endif
