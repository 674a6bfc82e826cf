/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What tests and the benchmark need of the balancer's maps, from a skeleton that has its code. */
#ifndef SIDESTEP_TEST_LB_SKEL_H
#define SIDESTEP_TEST_LB_SKEL_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "lb_maps.h"

#define LB_MAPS_OF(skel)                                     \
	({                                                   \
		const typeof(*(skel)) *of = (skel);          \
		(struct lb_maps){ LB_MAPS(LB_MAP_OF_SKEL) }; \
	})
#define LB_MAP_OF_SKEL(name) .name = bpf_map__fd(of->maps.name),

/*
 * Gives the backend @id the next hop, and its times, of @hop, on every processor; counters stay as they
 * are. Returns 0 or a negative errno.
 */
static inline int lb_hop_set(const struct lb_maps *in, __u32 id,
			     const struct ss_lb_backend_cpu *hop)
{
	int cpus = libbpf_num_possible_cpus(), fd = lb_backend_open(in, id), err = 0;
	struct ss_lb_backend_cpu *each = calloc(cpus, sizeof(*each));
	__u32 at = id % SS_LB_ID_GROUP;

	if (fd < 0 || !each || bpf_map_lookup_elem(fd, &at, each))
		err = fd < 0 ? fd : -errno;
	for (int i = 0; !err && i < cpus; i++) {
		each[i].fresh_until = hop->fresh_until;
		each[i].confirm_at = hop->confirm_at;
		each[i].ifindex = hop->ifindex;
		memcpy(each[i].dmac, hop->dmac, sizeof(hop->dmac));
		memcpy(each[i].smac, hop->smac, sizeof(hop->smac));
	}
	if (!err && bpf_map_update_elem(fd, &at, each, BPF_ANY))
		err = -errno;
	free(each);
	if (fd >= 0)
		close(fd);
	return err;
}

/*
 * The next hop of the backends with ids below @n is @to, from @from, and stays fresh. Returns 0 or a
 * negative errno.
 */
static inline int lb_hops_fill(const struct lb_maps *in, __u32 n, const __u8 to[6],
			       const __u8 from[6])
{
	struct ss_lb_backend_cpu hop = { .fresh_until = ~0ULL,
					 .ifindex = 1 /* "lo": TEST_RUN's ingress interface */ };
	int err = 0;

	memcpy(hop.dmac, to, sizeof(hop.dmac));
	memcpy(hop.smac, from, sizeof(hop.smac));
	for (__u32 id = 0; id < n && !err; id++)
		err = lb_hop_set(in, id, &hop);
	return err;
}

#endif
