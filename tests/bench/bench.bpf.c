// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Times the balancer's own code by BPF_PROG_TEST_RUN, which does not restore a packet between
 * runs: each wrapper here puts the packet back, gives it the next flow's source, and then calls
 * what is to be timed. bench_wrapper calls nothing, so that its cost can be subtracted.
 */
#include "../../lb-xdp/balance.h"

#include "bench.h"

/* The packet, and how many different flows it is to come from. User space writes. */
struct bench_packet packet;

#define SYN_LEN 40 /* a TCP header with the options of Linux' default SYN */

static __u32 flow;

/* Puts the packet back, as flow number "flow". Returns 0, or -1 if the frame is too short. */
static __always_inline int packet_restore(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 *to, *from = (__u64 *)packet.bytes;
	__u32 n;

	if (end - data !=
	    BENCH_PACKET_LEN) { /* it was wrapped; what this costs is not subtracted */
		if (bpf_xdp_adjust_head(ctx, end - data - BENCH_PACKET_LEN))
			return -1;
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
	}
	if (data + BENCH_PACKET_LEN > end)
		return -1;
	to = data;
	for (int i = 0; i < BENCH_PACKET_LEN / 8; i++)
		to[i] = from[i];
	n = flow++ & packet.flow_mask;
	if (packet.ip6) {
		struct ipv6hdr *ip = data + sizeof(struct ethhdr);

		((struct tcphdr *)(ip + 1))->source = n;
		ip->saddr.in6_u.u6_addr16[3] = n >> 16;
		if (packet.asks) {
			struct ss_opt_request6 *request = (void *)(ip + 1) + SYN_LEN;
			struct ss_endpoint client = { .port = n };

			__builtin_memcpy(&client.addr, &ip->saddr, sizeof(client.addr));
			request->client = ss_tag_of(&client);
			request->cport = n;
		}
	} else {
		struct iphdr *ip = data + sizeof(struct ethhdr);

		((struct tcphdr *)(ip + 1))->source = n;
		ip->saddr += (n >> 16) << 24; /* the last byte */
		if (packet.asks) {
			struct ss_opt_request4 *request = (void *)(ip + 1) + SYN_LEN;

			request->cip = ip->saddr;
			request->cport = n;
		}
	}
	return 0;
}

static __noinline int balance_call(struct xdp_md *ctx)
{
	return balance(ctx);
}

SEC("xdp")
int bench_empty(struct xdp_md *ctx)
{
	return XDP_TX;
}

SEC("xdp")
int bench_wrapper(struct xdp_md *ctx)
{
	return packet_restore(ctx) ? XDP_ABORTED : XDP_TX;
}

SEC("xdp")
int bench_balancer(struct xdp_md *ctx)
{
	if (packet_restore(ctx))
		return XDP_ABORTED;
	return balance_call(ctx);
}

/* For both ends of the pair that live frames cross. */
SEC("xdp")
int bench_drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
