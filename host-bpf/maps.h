/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The host programs' maps. Layouts: sidestep/host.h. */
#ifndef SIDESTEP_HOST_MAPS_H
#define SIDESTEP_HOST_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <sidestep/counters.h>
#include <sidestep/host.h>

#define LATE_MAX 65536
#define RULES_MAX (2 * SS_HOST_RULES) /* for old and new ones, while they are exchanged */
#define PORTS_MAX (RULES_MAX * (1 + SS_SERVE_ALSO))
#define BLOCKED_MAX 4096
#define PLAIN_MAX BLOCKED_MAX
#define OPEN_MAX 2048
#define UDP_FLOWS_MAX 65536
#define ANSWERS_MAX 65536
#define LINKS_MAX 1024
#define STRICT_MAX 262144
#define STRICT_TIME_WAIT_MAX 131072
#define STRICT_CLOSED_MAX 65536

/*
 * State of a connection, with its socket. Written by sockops, and by egress for the next hop.
 * Cloned, so that the children of a listener know what was done to it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct ss_conn);
} conns SEC(".maps");

/*
 * How to rewrite packets that have no full socket (step 10), by the kernel's flow. Written by
 * sockops when a socket closes (closing.h); the least recently used goes when it is full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, LATE_MAX);
	__type(key, struct ss_flow);
	__type(value, struct ss_late);
} late SEC(".maps");

/*
 * Backends that could not be reached directly -> until when that counts, by the kernel's monotonic
 * clock, in ns. Written by sockops and ingress, read by sockops; what is outdated stays until it
 * is the least recently used when the map is full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BLOCKED_MAX);
	__type(key, struct ss_addr);
	__type(value, __u64);
} blocked SEC(".maps");

/* Services that are dialled without a request -> until when. As "blocked". */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PLAIN_MAX);
	__type(key, struct ss_endpoint);
	__type(value, __u64);
} plain SEC(".maps");

/*
 * SYNs that met another service's connection here -> their sequence numbers, to know them when they come
 * again. Written and read by ingress; the least recently used goes when it is full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BLOCKED_MAX);
	__type(key, struct ss_flow);
	__type(value, __u32);
} collided SEC(".maps");

/*
 * Hints, for ICMP errors and RSTs: which connection is sent as this flow of the wire? A slot holds
 * what was written last: when a connection was established, and again when it runs into a timeout,
 * as one does that waits for such an error. Nothing is believed that the connection's socket does
 * not confirm, so stale or lost hints do no harm. An array, since it is written in each handshake: an
 * insert into a full LRU map takes 20 times as long.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SS_WIRE_SLOTS);
	__type(key, __u32);
	__type(value, struct ss_wire);
} wire_flows SEC(".maps");

/*
 * A flow as it comes in: CIP:cport, DIP:dport -> whose it is. Written by ingress when the SYN-ACK
 * is accepted; lives as long as the socket, and then as long as sockops decides.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, STRICT_MAX);
	__type(key, struct ss_flow);
	__type(value, struct ss_strict_flow);
} strict_flows SEC(".maps");

/* Those ends in their order: of connections that leave a TIME_WAIT socket, and of others. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, STRICT_TIME_WAIT_MAX);
	__type(value, struct ss_strict_end);
} strict_time_wait SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, STRICT_CLOSED_MAX);
	__type(value, struct ss_strict_end);
} strict_closed SEC(".maps");

/* What the host programs know of those maps as a whole. */
struct strict_use {
	struct bpf_timer timer; /* removes what is over */
	__u64 full_until; /* no room before; in ns as above */
	__u32 used; /* 1 once there was an entry */
	__u32 collecting; /* 1 while the timer runs */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct strict_use);
} strict_use SEC(".maps");

/*
 * A UDP flow of a client that was asked of a service, as the kernel knows it -> that service. Written by
 * ingress, read by egress; the least recently used goes when it is full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, UDP_FLOWS_MAX);
	__type(key, struct ss_flow);
	__type(value, struct ss_endpoint);
} udp_flows SEC(".maps");

/* 1 once there was such a flow: until then, no packet is looked up there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} udp_used SEC(".maps");

/*
 * A TCP flow whose socket keeps no state here, as the kernel knows it at this host's address -> the
 * service that its client dialled. Written by ingress, read by egress; the least recently used goes when it is
 * full (answers.h).
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ANSWERS_MAX);
	__type(key, struct ss_flow);
	__type(value, struct ss_endpoint);
} answers SEC(".maps");

/* 1 once there was such a flow: until then, no packet is looked up there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} answers_used SEC(".maps");

/*
 * Interfaces, by index, where TC ingress was found not to run: no SYN that leaves there is armed. Written by
 * sockops and egress, which find that out; the entry goes when ingress sees a SYN-ACK there.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, LINKS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} links_blind SEC(".maps");

/* VIP:vport and protocol -> how this host serves it. Configuration: written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, RULES_MAX);
	__type(key, struct ss_endpoint);
	__type(value, struct ss_serve);
} serve SEC(".maps");

/*
 * VIP and the port that its server listens on -> the service's port, for requests that are too short
 * to name it; 0 if there are several. Not there where none has another one. Configuration.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORTS_MAX);
	__type(key, struct ss_endpoint);
	__type(value, __u32); /* in network byte order */
} serve_ports SEC(".maps");

/*
 * Its tag's first word -> a TCP service of this host's. No two have the same (user space sees to that).
 * Configuration.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, RULES_MAX);
	__type(key, __be32);
	__type(value, struct ss_endpoint);
} serve_tags SEC(".maps");

/*
 * How many connections a service has open, by service and listening port. Written by sockops; an entry
 * stays as long as the map, since connections may outlive the service's configuration.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, OPEN_MAX);
	__type(key, struct ss_served_at);
	__type(value, struct ss_open);
} open_conns SEC(".maps");

/* Ports that serving sockets listen on, in host byte order. Configuration. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PORTS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} listen_ports SEC(".maps");

/* Prefixes: configuration, written by user space. The value has no meaning. */
struct prefix_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, RULES_MAX);
	__type(key, struct ss_prefix);
	__type(value, __u32);
};

struct prefix_map dial SEC(".maps"); /* what a client counts as a service; with ports */
struct prefix_map backends SEC(".maps"); /* where a grant may point */
struct prefix_map trusted SEC(".maps"); /* balancers that may change a SYN's source */
struct prefix_map clients SEC(".maps"); /* whom they may name as the source that it had */

/* The configured interfaces -> their indices when the programs were attached. User space only. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * SS_HOST_INTERFACES);
	__type(key, struct ss_interface);
	__type(value, __u32);
} interfaces SEC(".maps");

/* The cgroup that sockops was attached to. User space only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ss_place);
} place SEC(".maps");

/* By enum ss_host_counter. Written by the programs, read by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SS_HOST_COUNTER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Which program this is, and whose network namespace it works for. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ss_meta);
} meta SEC(".maps");

static __always_inline void count(enum ss_host_counter counter)
{
	__u32 key = counter;
	__u64 *n = bpf_map_lookup_elem(&counters, &key);

	if (n)
		(*n)++;
}

/* Is @addr inside of a prefix of the map @prefixes, which does not tell ports apart? */
static __always_inline int prefix_covers(void *prefixes, const struct ss_addr *addr)
{
	struct ss_prefix key = { .prefixlen = sizeof(key) * 8 - 32, .addr = *addr };

	return bpf_map_lookup_elem(prefixes, &key) != NULL;
}

#endif
