/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The flow table: which backend has a connection whose packets stay on the balancer. Those of
 * clients that did not ask are there from their SYN on; those that did ask, and were not
 * redirected, from the first packet behind it on, or from their SYN if that was a second choice.
 *
 * A hash would mostly do without. But what it says changes with the backends, and a connection may
 * outlive such a change; and not every scheduler hashes. What is least recently used goes when the
 * table is full; then it is the hash again that says where a connection belongs.
 */
#ifndef SIDESTEP_LB_FLOW_H
#define SIDESTEP_LB_FLOW_H

#include "forward.h"
#include "maps.h"
#include "parse.h"
#include "pick.h"

/* A SYN that comes within this time is the same again: the first retransmission (RFC 6298). */
#define FLOW_SYN_NS (2 * NSEC_PER_SEC)

/* The key of @client's connection from @port to the service of @table. */
static __always_inline struct ss_lb_flow_key flow_key(const struct table *table,
						      const struct ss_addr *client, __be16 port)
{
	return (struct ss_lb_flow_key){ .client = *client,
					.port = port,
					.service = table->head->flow_id };
}

static __always_inline struct ss_lb_flow_key packet_flow_key(const struct table *table,
							     const struct packet *p)
{
	struct ss_addr client = packet_client(p);

	return flow_key(table, &client, p->tcp->source);
}

/* What a packet of a client says of its connection: an ss_lb_flow.seen. */
static __always_inline __u8 flow_seen(const struct packet *p)
{
	if (is_syn(p))
		return 0;
	return p->tcp->fin || p->tcp->rst ? SS_LB_FLOW_MORE | SS_LB_FLOW_ENDED : SS_LB_FLOW_MORE;
}

/* The number of the SYN @p; 0 if it is none. */
static __always_inline __be32 flow_isn(const struct packet *p)
{
	return is_syn(p) ? p->tcp->seq : 0;
}

/* The packet @p of @flow comes by. Writes only what is new: other processors read it. */
static __always_inline void flow_note(struct ss_lb_flow *flow, const struct packet *p)
{
	__u32 now = SS_LB_TICK(bpf_ktime_get_coarse_ns());
	__u8 seen = flow->seen | flow_seen(p);

	if (flow->used != now)
		flow->used = now;
	if (flow->seen != seen)
		flow->seen = seen;
}

/* From now on @backend has the connection @key. @nat_port, @seen, @isn: as in ss_lb_flow. */
static __noinline void flow_write(const struct ss_lb_flow_key *key,
				  const struct ss_lb_backend *backend, __be16 nat_port, __u8 seen,
				  __be32 isn)
{
	struct ss_lb_flow flow = {};

	if (!key || !backend)
		return;
	flow.backend = *backend;
	flow.since = bpf_ktime_get_coarse_ns();
	flow.nat_port = nat_port;
	flow.seen = seen;
	flow.isn = isn;
	flow.used = SS_LB_TICK(flow.since);
	if (bpf_map_update_elem(&flows, key, &flow, BPF_ANY))
		count(SS_LB_error_map);
}

/* The same for a packet that is no SYN: the connection may be one that asked. */
static __always_inline void flow_adopt(const struct table *table, const struct ss_lb_flow_key *key,
				       const struct ss_lb_backend *backend, const struct packet *p)
{
	__u32 index = table->head->index, *asked = bpf_map_lookup_elem(&flows_asked, &index);

	if (asked && !*asked)
		*asked = 1;
	flow_write(key, backend, 0, flow_seen(p), flow_isn(p));
}

/* The SYN @p asks: nothing that an earlier connection left may touch the new one's packets. */
static __always_inline void flow_forget(const struct table *table, const struct packet *p)
{
	__u32 index = table->head->index, *asked = bpf_map_lookup_elem(&flows_asked, &index);
	struct ss_lb_flow_key key;

	if (!asked || !*asked)
		return;
	key = packet_flow_key(table, p);
	if (bpf_map_lookup_elem(&flows, &key)) /* rarely: that takes no lock */
		(void)bpf_map_delete_elem(&flows, &key);
}

/*
 * Does @flow know of the SYN @p, which is retransmitted? One with another number is another connection, as a client
 * may dial again from the same port at once; so is one behind an end.
 */
static __always_inline int flow_has_syn(const struct ss_lb_flow *flow, const struct packet *p)
{
	return flow->isn == p->tcp->seq && !(flow->seen & SS_LB_FLOW_ENDED) &&
	       bpf_ktime_get_coarse_ns() - flow->since < FLOW_SYN_NS;
}

#endif
