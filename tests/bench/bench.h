/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the benchmark's BPF wrappers and its user space share. */
#ifndef SIDESTEP_BENCH_H
#define SIDESTEP_BENCH_H

#include <linux/types.h>

#define BENCH_PACKET_LEN 120 /* room for Ethernet, IPv6 and the longest TCP header: 114 */

struct bench_packet {
	__u8 bytes[BENCH_PACKET_LEN];
	__u32 flow_mask; /* flows - 1; flows are a power of two */
	__u32 ip6;
	__u32 asks; /* 1: a SYN whose request, behind the options of a default one, names its client */
};

#endif
