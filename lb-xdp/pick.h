/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Parsed -> decision: the service of a packet, and the backend that takes it.
 *
 * The choice is a function of the packet, the service's table and, for round robin, of whose turn
 * it is. No connection is remembered: a retransmitted SYN says by its retry bit that the first
 * choice did not answer, and then gets another backend.
 */
#ifndef SIDESTEP_LB_PICK_H
#define SIDESTEP_LB_PICK_H

#include "maps.h"
#include "parse.h"

/* Multipliers of splitmix64's finalizer: odd, well mixing. */
#define MIX_1 0xbf58476d1ce4e5b9ULL
#define MIX_2 0x94d049bb133111ebULL

static __always_inline __u64 mix(__u64 h, __u64 word)
{
	h = (h ^ word) * MIX_1;
	return h ^ h >> 32;
}

/*
 * The hash of addresses and ports, IPv4's or IPv6's. The same on every balancer and in every version,
 * so that balancers which do not know of each other agree.
 */
static __always_inline __u64 flow_hash(int is_ip6, const __be32 *src, const __be32 *dst,
				       __be16 sport, __be16 dport)
{
	__u64 ports = (__u64)sport << 16 | dport, h = MIX_2;

	if (!is_ip6) {
		h = mix(h, (__u64)*src << 32 | *dst);
	} else {
		for (int i = 0; i < 4; i += 2) {
			h = mix(h, (__u64)src[i] << 32 | src[i + 1]);
			h = mix(h, (__u64)dst[i] << 32 | dst[i + 1]);
		}
	}
	h = mix(h, ports) * MIX_2;
	return h ^ h >> 29;
}

static __always_inline __u64 packet_hash(const struct packet *p)
{
	if (!p->is_ip6)
		return flow_hash(0, &p->ip4->saddr, &p->ip4->daddr, p->tcp->source, p->tcp->dest);
	return flow_hash(1, p->ip6->saddr.in6_u.u6_addr32, p->ip6->daddr.in6_u.u6_addr32,
			 p->tcp->source, p->tcp->dest);
}

static __always_inline struct ss_addr packet_client(const struct packet *p)
{
	struct ss_addr addr;

	if (!p->is_ip6)
		return ss_addr_v4(p->ip4->saddr);
	__builtin_memcpy(&addr, &p->ip6->saddr, sizeof(addr));
	return addr;
}

static __always_inline struct ss_endpoint packet_source(const struct packet *p)
{
	return (struct ss_endpoint){ .addr = packet_client(p), .port = p->tcp->source };
}

/* That of the packets which @quoted's client, the remote end, sends to the service. */
static __always_inline __u64 quoted_hash(const struct ss_flow *quoted)
{
	const struct ss_endpoint *client = &quoted->remote, *vip = &quoted->local;
	int at = ss_addr_is_v4(&vip->addr) ? 3 : 0;

	return flow_hash(!at, client->addr.w + at, vip->addr.w + at, client->port, vip->port);
}

/* Maps 32 bits evenly to 0 .. @n - 1, without a division. */
static __always_inline __u32 scale(__u32 bits, __u32 n)
{
	return (__u64)bits * n >> 32;
}

/* The table of the service @vip, NULL if there is none. */
static __always_inline struct ss_lb_table *service_table(const struct ss_endpoint *vip)
{
	__u32 *index = bpf_map_lookup_elem(&services, vip), zero = 0;
	void *inner;

	if (!index)
		return NULL;
	inner = bpf_map_lookup_elem(&tables, index);
	return inner ? bpf_map_lookup_elem(inner, &zero) : NULL;
}

/* 1 if some service has the address that @p is for, whatever the port. */
static __always_inline int service_address(const struct packet *p)
{
	struct ss_endpoint any_port = { .addr = p->dst.addr };

	return bpf_map_lookup_elem(&services, &any_port) != NULL;
}

/* The slot whose turn it is on this processor. Processors start apart from each other. */
static __always_inline __u32 next_turn(const struct ss_lb_table *table)
{
	__u32 index = table->index, *turn = bpf_map_lookup_elem(&turns, &index);

	if (!turn)
		return 0;
	return ((*turn)++ + bpf_get_smp_processor_id()) % SS_LB_SLOTS;
}

/*
 * The backend for a flow of @hash out of @table; NULL if none takes connections. With @second,
 * another than the one that the flow would get otherwise, if there is one.
 */
static __always_inline struct ss_lb_backend *pick(struct ss_lb_table *table, __u64 hash, int second)
{
	__u32 active = table->active, index, slot;

	if (!active)
		return NULL;
	if (table->scheduler == SS_SCHED_ROUND_ROBIN)
		slot = next_turn(table);
	else
		slot = scale(hash >> 32, SS_LB_SLOTS);
	barrier_var(slot); /* the compiler knows this bound, the verifier has to see it */
	if (slot >= SS_LB_SLOTS)
		return NULL;
	index = table->slot[slot];
	/* the turn has moved on already: go further only if that is who had the last one */
	if (second && table->scheduler == SS_SCHED_ROUND_ROBIN) {
		__u32 before = slot ? slot - 1 : SS_LB_SLOTS - 1;

		barrier_var(before); /* kernel 6.1 does not learn from slot != 0 */
		if (before >= SS_LB_SLOTS)
			return NULL;
		second = index == table->slot[before];
	}
	if (second && active > 1) {
		index += 1 + scale(hash, active - 1);
		if (index >= active)
			index -= active;
	}
	if (index >= SS_LB_SERVICE_BACKENDS)
		return NULL;
	return &table->backend[index];
}

#endif
