/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Parsed -> decision, for UDP: the backend of a packet. UDP has no SYN that would begin a connection:
 * what comes from one address and port is one flow, and its backend is remembered while it goes on
 * (flow.h). A flow that has been silent for long is a new one, as for address translators. QUIC knows its
 * connections better than that: there, the packet itself may name its backend (quic.h).
 */
#ifndef SIDESTEP_LB_UDP_H
#define SIDESTEP_LB_UDP_H

#include "flow.h"
#include "pick.h"
#include "quic.h"

#define UDP_SILENT_NS (SS_LB_UDP_SECONDS * NSEC_PER_SEC)

/* Who has the flow @key; NULL: nobody, or it has been silent for long. */
static __always_inline const struct ss_lb_backend *udp_known(const struct ss_lb_flow_key *key)
{
	struct ss_lb_flow *flow = bpf_map_lookup_elem(&flows, key);
	__u64 silent;

	if (!flow)
		return NULL;
	silent = bpf_ktime_get_coarse_ns() - flow->since;
	if (silent > UDP_SILENT_NS)
		return NULL;
	if (silent > NSEC_PER_SEC) { /* not with each packet: other processors may read it */
		flow->since += silent;
		flow->used = SS_LB_TICK(flow->since);
	}
	return &flow->backend;
}

/*
 * The backend for the UDP packet @p; NULL: there is none. What chooses by a SYN's sequence number takes
 * what stands there in a UDP header, length and checksum: that is as good to draw by.
 */
static __noinline const struct ss_lb_backend *udp_backend(const struct table *table,
							  const struct packet *p)
{
	struct ss_lb_flow_key key = packet_flow_key(table, p);
	const struct ss_lb_backend *backend;

	backend = table->head->quic_id_len ? quic_backend(table, p) : NULL;
	if (backend) {
		count(SS_LB_quic_routed);
		return backend;
	}
	backend = table->head->flow_id ? udp_known(&key) : NULL;
	if (backend)
		return backend;
	backend = pick(table, choice_hash(table, p));
	if (backend && table->head->flow_id)
		flow_write(&key, backend, 0, SS_LB_FLOW_UDP, 0);
	return backend;
}

#endif
