/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The clock that the balancer's XDP program goes by. */
#ifndef SIDESTEP_COARSE_H
#define SIDESTEP_COARSE_H

#include <time.h>

#include <linux/types.h>

#define NSEC_PER_SEC 1000000000ULL

/* CLOCK_MONOTONIC_COARSE in ns: what bpf_ktime_get_coarse_ns() returns at the same time. */
static inline __u64 coarse_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

#endif
