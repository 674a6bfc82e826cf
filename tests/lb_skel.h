/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What tests and the benchmark need of the balancer's maps, from a skeleton that has its code. */
#ifndef SIDESTEP_TEST_LB_SKEL_H
#define SIDESTEP_TEST_LB_SKEL_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "lb_backends.h"
#include "lb_maps.h"

#define LB_MAPS_OF(skel)                                     \
	({                                                   \
		const typeof(*(skel)) *of = (skel);          \
		(struct lb_maps){ LB_MAPS(LB_MAP_OF_SKEL) }; \
	})
#define LB_MAP_OF_SKEL(name) .name = bpf_map__fd(of->maps.name),

/*
 * Gives the backends with ids below @n the next hop, and its times, of @hop, on every processor; counters
 * stay as they are. Returns 0 or a negative errno; -ENOENT: there are fewer.
 */
static inline int lb_hops_fill(const struct lb_maps *in, __u32 n,
			       const struct ss_lb_backend_cpu *hop)
{
	int cpus = libbpf_num_possible_cpus(), fd, err = 0;
	struct ss_lb_backend_cpu *each = calloc(cpus, sizeof(*each));
	struct lb_backends backends;

	if (!each)
		return -ENOMEM;
	lb_backends_init(&backends, in);
	for (__u32 id = 0; !err && id < n; id++) {
		__u32 at = id % SS_LB_ID_GROUP;

		fd = lb_backends_group(&backends, id);
		if (fd < 0 || bpf_map_lookup_elem(fd, &at, each)) {
			err = fd < 0 ? fd : -errno;
			break;
		}
		for (int i = 0; i < cpus; i++) {
			each[i].fresh_until = hop->fresh_until;
			each[i].confirm_at = hop->confirm_at;
			each[i].ifindex = hop->ifindex;
			memcpy(each[i].dmac, hop->dmac, sizeof(hop->dmac));
			memcpy(each[i].smac, hop->smac, sizeof(hop->smac));
		}
		if (bpf_map_update_elem(fd, &at, each, BPF_ANY))
			err = -errno;
	}
	lb_backends_done(&backends);
	free(each);
	return err;
}

/* A next hop that stays fresh: to @to, from @from. */
static inline struct ss_lb_backend_cpu lb_hop(const __u8 to[6], const __u8 from[6])
{
	struct ss_lb_backend_cpu hop = { .fresh_until = ~0ULL,
					 .ifindex = 1 /* "lo": TEST_RUN's ingress interface */ };

	memcpy(hop.dmac, to, sizeof(hop.dmac));
	memcpy(hop.smac, from, sizeof(hop.smac));
	return hop;
}

#endif
