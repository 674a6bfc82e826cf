// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * The central balancer: step 2 of a connection. Each packet for a service is sent to a backend,
 * everything else is passed to the kernel. See balance.h for the table of contents.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <xdp/xdp_helpers.h>

#include "balance.h"

/* libxdp's dispatcher: before programs that keep the default priority of 50; they go on where
 * this one passes a packet. */
struct {
	__uint(priority, 20);
	__uint(XDP_PASS, 1);
} XDP_RUN_CONFIG(sidestep_lb);

SEC("xdp")
int sidestep_lb(struct xdp_md *ctx)
{
	return balance(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
