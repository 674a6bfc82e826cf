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

/* What a walk over the table does with a flow. */
typedef void flow_fn(const struct lb_maps *maps, const struct ss_lb_flow_key *key,
		     const struct ss_lb_flow *flow, void *arg);

/* Calls @fn for every flow. Returns 0 or a negative errno. */
static int flows_walk(const struct lb_maps *maps, flow_fn *fn, void *arg)
{
	struct ss_lb_flow_key *keys = calloc(BATCH, sizeof(*keys));
	struct ss_lb_flow *flows = calloc(BATCH, sizeof(*flows));
	__u32 at, n, *from = NULL;
	int err = keys && flows ? 0 : -ENOMEM;

	while (!err) {
		n = BATCH;
		if (bpf_map_lookup_batch(maps->flows, from, &at, keys, flows, &n, NULL))
			err = -errno;
		if (err && err != -ENOENT) /* which says that these were the last */
			break;
		for (__u32 i = 0; i < n; i++)
			if (flows[i].backend.id < SS_LB_IDS)
				fn(maps, &keys[i], &flows[i], arg);
		from = &at;
	}
	free(keys);
	free(flows);
	return err == -ENOENT ? 0 : err;
}

struct counting {
	__u64 now;
	struct lb_left *left;
};

static void flow_count(const struct lb_maps *maps, const struct ss_lb_flow_key *key,
		       const struct ss_lb_flow *flow, void *arg)
{
	const struct counting *c = arg;
	struct lb_left *left = &c->left[flow->backend.id];
	__u32 ticks = SS_LB_TICK(c->now) - flow->used;
	unsigned quiet = ((__u64)ticks << 30) / NSEC_PER_SEC;

	(void)maps;
	(void)key;
	if (!left->wanted || left->owner != flow->backend.owner || !flow_is_open(flow, quiet))
		return;
	if (!left->connections++ || quiet < left->quiet)
		left->quiet = quiet;
}

int lb_flows_count(const struct lb_maps *maps, struct lb_left *left)
{
	struct counting c = { .now = coarse_ns(), .left = left };

	return flows_walk(maps, flow_count, &c);
}

static void flow_forget(const struct lb_maps *maps, const struct ss_lb_flow_key *key,
			const struct ss_lb_flow *flow, void *arg)
{
	const bool *down = arg;

	if (flow->seen & SS_LB_FLOW_UDP && down[flow->backend.id])
		(void)bpf_map_delete_elem(maps->flows, key); /* it may have gone by itself */
}

int lb_flows_forget_udp(const struct lb_maps *maps, const bool *down)
{
	return flows_walk(maps, flow_forget, (void *)down);
}
