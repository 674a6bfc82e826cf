/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The balancer's maps. Layouts: sidestep/lb.h. */
#ifndef SIDESTEP_LB_MAPS_H
#define SIDESTEP_LB_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <sidestep/counters.h>
#include <sidestep/host.h>
#include <sidestep/lb.h>
#include <sidestep/report.h>

/*
 * VIP:vport and protocol -> index and size of its table; VIP with port 0 -> present for every address
 * that has a service. User space writes, every packet reads.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * SS_LB_TABLES);
	__type(key, struct ss_endpoint);
	__type(value, __u32);
} services SEC(".maps");

/* How often a service has got another value there, or none. User space writes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} services_changed SEC(".maps");

/* By a part of a service's address and port: which was seen last. Written by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SS_LB_SEEN);
	__type(key, __u32);
	__type(value, struct ss_lb_seen);
} services_seen SEC(".maps");

/*
 * Tables, by size: one inner map a service, replaced as a whole by user space, which writes it through a
 * mapping, and no more once packets can see it. An index is in use in one of the two maps.
 */
#define TABLES(size)                                                                       \
	struct ss_lb_##size##_map {                                                        \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                          \
		__uint(map_flags, BPF_F_MMAPABLE);                                         \
		__uint(max_entries, 1);                                                    \
		__uint(key_size, sizeof(__u32)); /* clang 14 leaves its type unfinished */ \
		__uint(value_size, sizeof(struct ss_lb_##size##_table));                   \
	};                                                                                 \
	struct {                                                                           \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                  \
		__uint(max_entries, SS_LB_TABLES);                                         \
		__type(key, __u32);                                                        \
		__array(values, struct ss_lb_##size##_map);                                \
	} size##_tables SEC(".maps")

TABLES(small);
TABLES(large);

/* Round robin: whose turn it is, by service. Written by the program, one count a processor. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SS_LB_TABLES);
	__type(key, __u32);
	__type(value, __u32);
} turns SEC(".maps");

/*
 * Connections that stay on the balancer -> their backend. Written by the program; the least recently
 * used go when it is full. Each processor has a list of its own, or they would wait for each other.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(map_flags, BPF_F_NO_COMMON_LRU);
	__uint(max_entries, SS_LB_FLOWS);
	__type(key, struct ss_lb_flow_key);
	__type(value, struct ss_lb_flow);
} flows SEC(".maps");

/*
 * A service and a server's id in QUIC's connection ids -> the backend that has it, whether it takes new
 * connections or not. User space writes.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SS_LB_IDS);
	__type(key, struct ss_lb_quic_key);
	__type(value, struct ss_lb_backend);
} quic_ids SEC(".maps");

/*
 * By service: 1 once "flows" had a connection that did ask. Then, and only then, it may have an entry
 * for a SYN that does, of an earlier connection.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SS_LB_TABLES);
	__type(key, __u32);
	__type(value, __u32);
} flows_asked SEC(".maps");

/*
 * A server and a port of the balancer's address -> whose connection that is. Written by the program;
 * otherwise as "flows".
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(map_flags, BPF_F_NO_COMMON_LRU);
	__uint(max_entries, SS_LB_FLOWS);
	__type(key, struct ss_flow);
	__type(value, struct ss_lb_nat);
} nats SEC(".maps");

/* What a packet of such a connection is worked out in: kernel 6.1's stack has no room for it. */
struct nat_work {
	struct ss_lb_flow_key key;
	struct ss_lb_flow flow;
	struct ss_flow ends; /* local: the balancer; remote: the server */
	struct ss_lb_nat nat;
	struct ss_endpoint client;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_work);
} nat_work SEC(".maps");

/* 1 once there was such a connection: until then, no packet is looked up there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nats_used SEC(".maps");

/* A next hop for one packet: see hop_once(). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ss_lb_backend_cpu);
} hop_once_cpu SEC(".maps");

struct ss_lb_backend_cpu_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SS_LB_ID_GROUP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct ss_lb_backend_cpu));
};

/*
 * By backend id / SS_LB_ID_GROUP, then the rest: counters and next hop. Written by the program; user
 * space zeroes new ones, and adds inner maps as more ids are in use.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SS_LB_IDS / SS_LB_ID_GROUP);
	__type(key, __u32);
	__array(values, struct ss_lb_backend_cpu_map);
} backend_cpu SEC(".maps");

/* Whose report is about which backend: its id. User space writes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* most balancers have few */
	__uint(max_entries, SS_LB_IDS);
	__type(key, struct ss_lb_reporter);
	__type(value, __u32);
} reporters SEC(".maps");

/* By backend id: its load. Written by the program; user space zeroes new ones. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SS_LB_IDS);
	__type(key, __u32);
	__type(value, struct ss_lb_load);
} loads SEC(".maps");

/*
 * By a part of a SYN's hash: the id of the backend that it got, and more of its hash. Written and read
 * by schedulers that go by load; a later SYN takes the place.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SS_LB_CHOICES);
	__type(key, __u32);
	__type(value, __u32);
} choices SEC(".maps");

/*
 * By backend id: what decides whether it gets new connections, for backends of services that want that.
 * User space writes new ones and deletes them; written by the program.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SS_LB_IDS);
	__type(key, __u32);
	__type(value, struct ss_lb_health);
} health SEC(".maps");

/* How many SYNs each source prefix may send. User space writes, every SYN reads. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ss_lb_syn_limit);
} syn_limit SEC(".maps");

/* A source prefix -> its bucket (limit.h). Written by the program; otherwise as "flows". */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(map_flags, BPF_F_NO_COMMON_LRU);
	__uint(max_entries, SS_LB_PREFIXES);
	__type(key, struct ss_addr);
	__type(value, __u64);
} syn_buckets SEC(".maps");

/* The balancer's own addresses, to which reports are taken. User space writes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SS_LB_OWN_ADDRESSES);
	__type(key, struct ss_addr);
	__type(value, __u8);
} report_to SEC(".maps");

/* Which UDP packets are reports, and their master key. User space writes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ss_lb_report_rules);
} report_rules SEC(".maps");

/* What goes for the whole balancer. User space writes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ss_lb_rules);
} rules SEC(".maps");

/* The next hops that the kernel was asked to keep resolved. User space writes, until `down`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SS_LB_BACKENDS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ss_lb_neighbour);
	__type(value, __u8);
} neighbours SEC(".maps");

/* By kind of answer (answer.h), RSTs and ICMP errors: a bucket of each processor. Written by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} answer_buckets SEC(".maps");

#define ANSWER_QUOTE 1280

/* The packet, or its beginning, that a processor answers just now. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, ANSWER_QUOTE);
} answer_quote SEC(".maps");

/* The report that a processor reads just now. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, SS_REPORT_MAX);
} report_copy SEC(".maps");

/* By enum ss_lb_counter. Written by the program, read by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SS_LB_COUNTER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Which program this is. User space only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ss_meta);
} meta SEC(".maps");

/* The configured interfaces -> their indices when the program was attached. User space only. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * SS_HOST_INTERFACES);
	__type(key, struct ss_interface);
	__type(value, __u32);
} interfaces SEC(".maps");

/* This processor's entry of the backend @id; NULL if there is none. */
static __always_inline struct ss_lb_backend_cpu *backend_cpu_of(__u32 id)
{
	__u32 group = id / SS_LB_ID_GROUP, rest = id % SS_LB_ID_GROUP;
	void *inner = bpf_map_lookup_elem(&backend_cpu, &group);

	return inner ? bpf_map_lookup_elem(inner, &rest) : NULL;
}

static __always_inline void count(enum ss_lb_counter counter)
{
	__u32 key = counter;
	__u64 *n = bpf_map_lookup_elem(&counters, &key);

	if (n)
		(*n)++;
}

#endif
