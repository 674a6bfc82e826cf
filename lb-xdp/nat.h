/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Decision -> rewritten, for servers that have nothing of ours: they see a connection from the
 * balancer's own address, on a port that is this connection's, and answer there. The balancer
 * turns their packets into those of the service. So all of such a connection crosses the balancer,
 * and the server does not see who its client is.
 *
 * A port is taken for one server: the same port may stand for other connections to other servers.
 * It is found by a hash, and by a few steps from there; what its last connection has left is no
 * obstacle once that is over (RFC 5382, section 5).
 */
#ifndef SIDESTEP_LB_NAT_H
#define SIDESTEP_LB_NAT_H

#include <sidestep/lb.h>

#include "forward.h"
#include "maps.h"
#include "parse.h"
#include "pick.h"

#define NAT_TRIES 8
#define NAT_STEP 4099 /* no divisor of the number of ports */

/* How long a port stays with a connection of which nothing more is seen. */
#define NAT_OPEN_NS (SS_LB_OPEN_SECONDS * NSEC_PER_SEC)
#define NAT_OPENING_NS (SS_LB_NAT_OPENING_SECONDS * NSEC_PER_SEC) /* half open */
#define NAT_GIVES_WAY_NS \
	(3 * NSEC_PER_SEC) /* a half-open one goes after that, if ports are short */
#define NAT_ACK_WINDOW \
	(1 << 20) /* how much the client may have acknowledged when that is first seen */
#define NAT_CLOSED_NS (SS_LB_CLOSED_SECONDS * NSEC_PER_SEC)
#define NAT_RESET_NS NSEC_PER_SEC

static __always_inline struct nat_work *nat_work_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nat_work, &zero);
}

static __always_inline int nat_is_over(const struct ss_lb_nat *nat, __u64 now)
{
	__u64 idle = now - nat->used;

	if (nat->seen & SS_LB_NAT_RESET)
		return idle > NAT_RESET_NS;
	if (nat->seen & SS_LB_NAT_CLIENT_FIN && nat->seen & SS_LB_NAT_SERVER_FIN)
		return idle > NAT_CLOSED_NS;
	return idle > (nat->seen & SS_LB_NAT_OPEN ? NAT_OPEN_NS : NAT_OPENING_NS);
}

/* A packet of @nat's connection comes by; @fin: the one of SS_LB_NAT_*_FIN that a FIN stands for. */
static __always_inline void nat_note(struct ss_lb_nat *nat, const struct packet *p, __u8 fin)
{
	nat->used = bpf_ktime_get_coarse_ns();
	if (p->tcp->fin)
		nat->seen |= fin;
	if (p->tcp->rst)
		nat->seen |= SS_LB_NAT_RESET;
}

static __always_inline void nats_use(void)
{
	__u32 zero = 0, *used = bpf_map_lookup_elem(&nats_used, &zero);

	if (used && !*used)
		*used = 1;
}

static __always_inline int nats_are_used(void)
{
	__u32 zero = 0, *used = bpf_map_lookup_elem(&nats_used, &zero);

	return used && *used;
}

/* Does the port of @old have to stay with it when @entry wants one? @give_way: half-open ones do not have to. */
static __always_inline int nat_is_taken(const struct ss_lb_nat *old, const struct ss_lb_nat *entry,
					int give_way)
{
	if (nat_is_over(old, entry->used))
		return 0;
	if (ss_endpoint_equal(&old->client, &entry->client) &&
	    ss_endpoint_equal(&old->service, &entry->service))
		return 0;
	return !give_way || old->seen & SS_LB_NAT_OPEN ||
	       entry->used - old->used < NAT_GIVES_WAY_NS;
}

/*
 * Takes a port for @flow, whose local end is the balancer's address, yet without a port, and whose
 * remote end is the server: flow->local.port. Returns 0, or -1 if those that were tried are in use. They are
 * tried twice: the second time, half-open connections give way. A global function: the verifier looks at it once.
 */
__noinline int nat_take(struct ss_flow *flow, const struct ss_lb_nat *nat, __u32 hash)
{
	struct ss_lb_nat entry;
	struct ss_flow key; /* kernel 6.1 takes no key from @flow */

	if (!flow || !nat)
		return -1;
	entry = *nat;
	key = *flow;
	for (int i = 0; i < 2 * NAT_TRIES; i++) {
		__u32 step = i % NAT_TRIES * NAT_STEP;
		struct ss_lb_nat *old;

		key.local.port = SS_BE16((hash + step) % SS_LB_NAT_PORTS + SS_LB_NAT_PORT);
		old = bpf_map_lookup_elem(&nats, &key);
		if (old && nat_is_taken(old, &entry, i >= NAT_TRIES))
			continue;
		if (!bpf_map_update_elem(&nats, &key, &entry, BPF_ANY)) {
			flow->local.port = key.local.port;
			nats_use();
			return 0;
		}
	}
	return -1;
}

/*
 * A packet of @flow's client: does it acknowledge what the server has said? Only who got that can, so nobody
 * holds ports for long by SYNs in others' names. Before there is an answer no number is right, not even by chance.
 */
static __always_inline int nat_opens(const struct packet *p, const struct ss_flow *flow)
{
	struct ss_lb_nat *nat = bpf_map_lookup_elem(&nats, flow);

	if (!nat || !(nat->seen & SS_LB_NAT_ANSWERED) || !p->tcp->ack ||
	    SS_BE32(p->tcp->ack_seq) - SS_BE32(nat->isn) - 1 >= NAT_ACK_WINDOW)
		return 0;
	nat->seen |= SS_LB_NAT_OPEN;
	return 1;
}

/* @tcp becomes a RST that acknowledges nothing. */
static __always_inline void make_reset(struct tcphdr *tcp)
{
	__be16 *word = (__be16 *)tcp + 6; /* length of the header, and flags (RFC 9293, 3.1) */
	__be16 now = (*word & SS_BE16(0xff00)) | SS_BE16(0x0004);

	tcp->check = ss_csum_apply(tcp->check, ss_csum_diff16(*word, now));
	*word = now;
}

/* The packet @p of a client goes to @flow's server, from @flow's local end. */
static __always_inline void nat_to_server(struct packet *p, const struct ss_flow *flow)
{
	if (p->tcp->fin || p->tcp->rst) { /* its server's packets tell the rest */
		struct ss_lb_nat *nat = bpf_map_lookup_elem(&nats, flow);

		if (nat)
			nat_note(nat, p, SS_LB_NAT_CLIENT_FIN);
	}
	rewrite_source(p, &flow->local);
	rewrite_destination(p, &flow->remote);
	p->own_source = 1;
}

/* Is @p a server's answer to the balancer's own address? Then it is now the service's to the client. */
static __always_inline int nat_to_client(struct packet *p)
{
	struct ss_flow flow = { .local = p->dst, .remote = packet_source(p) };
	struct ss_lb_nat *nat = bpf_map_lookup_elem(&nats, &flow);

	if (!nat)
		return 0;
	if (p->tcp->syn) {
		nat->isn = p->tcp->seq;
		nat->seen |= SS_LB_NAT_ANSWERED;
	}
	nat_note(nat, p, SS_LB_NAT_SERVER_FIN);
	rewrite_source(p, &nat->service);
	rewrite_destination(p, &nat->client);
	return 1;
}

#endif
