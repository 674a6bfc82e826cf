/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Steps 3 and 9 for connections whose socket keeps no state of ours: it belongs to a container behind this
 * host's address translation, or its listener is too old, or outside of the cgroup. They stay on the
 * balancer path, and their answers have to come from the service all the same. So ingress notes by the
 * client's SYN which service a flow is for, and egress makes that the source of what leaves on it, whoever
 * sends it. The note goes when the map is full and others were used later.
 */
#ifndef SIDESTEP_HOST_ANSWERS_H
#define SIDESTEP_HOST_ANSWERS_H

#include <sidestep/csum.h>

#include "maps.h"
#include "mss.h"
#include "rewrite.h"

static __always_inline int answers_are_used(void)
{
	__u32 zero = 0, *used = bpf_map_lookup_elem(&answers_used, &zero);

	return used && *used;
}

/* The service that @flow, of this host's address, is for; NULL: there is no note. */
static __always_inline const struct ss_endpoint *answers_service(const struct ss_flow *flow)
{
	return answers_are_used() ? bpf_map_lookup_elem(&answers, flow) : NULL;
}

static __always_inline int answers_are_for(const struct ss_flow *flow,
					   const struct ss_endpoint *service)
{
	const struct ss_endpoint *noted = answers_service(flow);

	return noted && ss_endpoint_equal(noted, service);
}

/* From now on what leaves on @flow comes from @service. */
static __noinline void answers_note(const struct ss_flow *flow, const struct ss_endpoint *service)
{
	__u32 zero = 0, *used = bpf_map_lookup_elem(&answers_used, &zero);

	if (!flow || !service || !used || answers_are_for(flow, service))
		return;
	if (bpf_map_update_elem(&answers, flow, service, BPF_ANY))
		count(SS_HOST_error_map);
	if (!*used)
		*used = 1;
}

/* The client of @flow dials this host itself. */
static __always_inline void answers_forget(const struct ss_flow *flow)
{
	if (answers_service(flow))
		(void)bpf_map_delete_elem(&answers, flow);
}

/* The TCP packet @p leaves: as the service's, if that was dialled. Returns whether it was. */
static __noinline int answers_rewrite(struct __sk_buff *skb, struct packet *p)
{
	struct ss_flow flow = { .local = packet_source(p), .remote = packet_destination(p) };
	const struct ss_endpoint *service = answers_service(&flow);

	if (!service || (p->tcp->syn && !mss_reduce(skb, p)))
		return 0;
	rewrite_from(skb, p, REWRITE_SOURCE, &flow.local, service);
	return 1;
}

#endif
