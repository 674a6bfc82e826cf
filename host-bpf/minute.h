/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the client has found out the hard way is remembered for a minute, so that it costs one
 * connection its seconds and not every one: in the maps "blocked" and "plain".
 */
#ifndef SIDESTEP_HOST_MINUTE_H
#define SIDESTEP_HOST_MINUTE_H

#include "kernel.h"
#include "maps.h"

#define MINUTE_NS (60 * SECOND_NS)

static __always_inline void minute_begin(void *map, const void *key)
{
	__u64 until = bpf_ktime_get_ns() + MINUTE_NS;

	if (bpf_map_update_elem(map, key, &until, BPF_ANY))
		count(SS_HOST_error_map);
}

static __always_inline int minute_lasts(void *map, const void *key)
{
	__u64 *until = bpf_map_lookup_elem(map, key);

	return until && *until > bpf_ktime_get_ns();
}

#endif
