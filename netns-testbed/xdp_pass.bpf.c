// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Passes every packet. The testbed attaches it to the router's port toward the balancer: veth
 * delivers what one end sends by XDP_TX only if the other end has an XDP program too.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int xdp_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
