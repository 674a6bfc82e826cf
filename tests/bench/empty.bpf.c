// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* A TC program that does nothing: what any program costs, to be subtracted from what ours do. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int bench_tc_empty(struct __sk_buff *skb)
{
	return -1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
