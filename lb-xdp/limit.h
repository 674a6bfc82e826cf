/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Parsed -> may it come in? A source prefix may send so many SYNs a second, and a burst at once.
 *
 * A prefix' token bucket is one number: when it is full again, if nothing more comes (the virtual
 * scheduling of ITU-T I.371, A.2). So processors need no lock: each adds its SYN's time, and none is
 * forgotten. At the most as many SYNs too many pass as there are processors. What is over the limit
 * changes nothing, so that a flood does not wait for writes.
 */
#ifndef SIDESTEP_LB_LIMIT_H
#define SIDESTEP_LB_LIMIT_H

#include "maps.h"
#include "parse.h"

static __always_inline struct ss_addr source_prefix(const struct packet *p,
						    const struct ss_lb_syn_limit *limit)
{
	struct ss_addr prefix;

	if (!p->is_ip6)
		return ss_addr_v4(p->ip4->saddr & limit->mask4.w[3]);
	for (int i = 0; i < 4; i++)
		prefix.w[i] = p->ip6->saddr.in6_u.u6_addr32[i] & limit->mask6.w[i];
	return prefix;
}

/* Takes a token out of @bucket. Returns 0 if there is none. */
static __always_inline int bucket_take(__u64 *bucket, const struct ss_lb_syn_limit *limit)
{
	__u64 now = bpf_ktime_get_coarse_ns(), full = *bucket;

	if (full <= now && __sync_val_compare_and_swap(bucket, full, now + limit->interval) == full)
		return 1;
	if (full > now && full + limit->interval - now > limit->ahead)
		return 0;
	__sync_fetch_and_add(bucket, limit->interval);
	return 1;
}

static __noinline int syn_limit_take(const struct packet *p, const struct ss_lb_syn_limit *limit)
{
	struct ss_addr prefix = source_prefix(p, limit);
	__u64 *bucket = bpf_map_lookup_elem(&syn_buckets, &prefix), full;

	if (bucket)
		return bucket_take(bucket, limit);
	full = bpf_ktime_get_coarse_ns() + limit->interval;
	if (bpf_map_update_elem(&syn_buckets, &prefix, &full, BPF_ANY))
		count(SS_LB_error_map);
	return 1;
}

/* May the SYN @p come in? */
static __always_inline int syn_is_allowed(const struct packet *p)
{
	__u32 zero = 0;
	const struct ss_lb_syn_limit *limit = bpf_map_lookup_elem(&syn_limit, &zero);

	return !limit || !limit->interval || syn_limit_take(p, limit);
}

#endif
