// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_flows.h"

#include <errno.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "coarse.h"

#define BATCH 4096

/* May the connection go on, after so many seconds without a packet? */
static bool flow_is_open(const struct ss_lb_flow *flow, unsigned quiet)
{
	if (flow->seen & SS_LB_FLOW_ENDED)
		return quiet < SS_LB_CLOSED_SECONDS;
	if (flow->seen & SS_LB_FLOW_UDP)
		return quiet < SS_LB_UDP_SECONDS;
	return quiet < (flow->seen & SS_LB_FLOW_MORE ? SS_LB_OPEN_SECONDS : SS_LB_OPENING_SECONDS);
}

static void flow_count(const struct ss_lb_flow *flow, __u64 now, struct lb_left *left)
{
	__u32 ticks = SS_LB_TICK(now) - flow->used;
	unsigned quiet = ((__u64)ticks << 30) / NSEC_PER_SEC;

	if (flow->backend.id >= SS_LB_IDS)
		return;
	left += flow->backend.id;
	if (!left->wanted || left->owner != flow->backend.owner || !flow_is_open(flow, quiet))
		return;
	if (!left->connections++ || quiet < left->quiet)
		left->quiet = quiet;
}

int lb_flows_count(const struct lb_maps *maps, struct lb_left *left)
{
	struct ss_lb_flow_key *keys = calloc(BATCH, sizeof(*keys));
	struct ss_lb_flow *flows = calloc(BATCH, sizeof(*flows));
	__u32 at, n, *from = NULL;
	__u64 now = coarse_ns();
	int err = keys && flows ? 0 : -ENOMEM;

	while (!err) {
		n = BATCH;
		if (bpf_map_lookup_batch(maps->flows, from, &at, keys, flows, &n, NULL))
			err = -errno;
		if (err && err != -ENOENT) /* which says that these were the last */
			break;
		for (__u32 i = 0; i < n; i++)
			flow_count(&flows[i], now, left);
		from = &at;
	}
	free(keys);
	free(flows);
	return err == -ENOENT ? 0 : err;
}
