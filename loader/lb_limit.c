// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_limit.h"

#include <errno.h>

#include <bpf/bpf.h>

#include "coarse.h"

/* The first @bits bits. */
static struct ss_addr mask_of(unsigned bits)
{
	struct ss_addr mask = {};
	__u8 *byte = (__u8 *)mask.w;

	for (unsigned i = 0; i < bits; i++)
		byte[i / 8] |= 0x80 >> i % 8;
	return mask;
}

static struct ss_lb_syn_limit limit_build(const struct syn_limit_config *config)
{
	__u64 interval = config->rate ? NSEC_PER_SEC / config->rate : 0;

	return (struct ss_lb_syn_limit){
		.interval = interval,
		.ahead = interval * config->burst,
		.mask4 = mask_of(96 + config->prefix4),
		.mask6 = mask_of(config->prefix6),
		.rate = config->rate,
		.burst = config->burst,
		.prefix4 = config->prefix4,
		.prefix6 = config->prefix6,
	};
}

int lb_syn_limit_write(const struct lb_maps *maps, const struct syn_limit_config *config)
{
	struct ss_lb_syn_limit limit = limit_build(config);
	__u32 zero = 0;

	return bpf_map_update_elem(maps->syn_limit, &zero, &limit, BPF_ANY) ? -errno : 0;
}

int lb_syn_limit_read(const struct lb_maps *maps, struct ss_lb_syn_limit *out)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(maps->syn_limit, &zero, out) ? -errno : 0;
}
