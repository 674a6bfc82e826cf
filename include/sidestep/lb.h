/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the balancer's XDP program and user space share: the values of the balancer's maps.
 *
 * A service is one table, the single element of an inner array map. Everything that may change of a
 * service stands in it, so that replacing the inner map replaces all of it at once and no packet sees
 * half of a change.
 * It is also the only record of what is configured: `sidestep balancer status` and `backend add`
 * read it back from the kernel.
 */
#ifndef SIDESTEP_LB_H
#define SIDESTEP_LB_H

#include <linux/types.h>

#include "addr.h"
#include "siphash.h"

/*
 * Tables of services come in two sizes. The number of slots is a prime, as Maglev wants (NSDI 2016,
 * section 3.4), and 64 or more for each backend: its share is exact to less than 2 percent.
 */
#define SS_LB_SMALL_SLOTS 8191
#define SS_LB_SMALL_BACKENDS 128
#define SS_LB_LARGE_SLOTS 65537
#define SS_LB_LARGE_BACKENDS 1024

#define SS_LB_SERVICES 1024 /* services of one balancer */
#define SS_LB_TABLES (2 * SS_LB_SERVICES) /* old and new ones, while a change is applied */
#define SS_LB_SERVICE_BACKENDS SS_LB_LARGE_BACKENDS /* backends of one service */
#define SS_LB_BACKENDS 131072 /* backends of one balancer */
#define SS_LB_IDS (2 * SS_LB_BACKENDS) /* of old and new ones, while a change is applied */
#define SS_LB_ID_GROUP 1024 /* ids in one inner map of the map "backend_cpu" */
#define SS_LB_CHOICES 65536 /* SYNs whose backend is remembered by schedulers that go by load */
#define SS_LB_QUIC_ID 8 /* bytes of a server's id in QUIC's connection ids, at most */
#define SS_LB_NAME_LEN 64 /* a name's bytes with the ending 0 */

/*
 * What a scheduler's hash is made of. What every packet of a connection shows leads each of them to
 * the same backend, and nothing has to be remembered of the connection.
 */
enum ss_hashed {
	SS_HASHED_FLOW, /* addresses and ports */
	SS_HASHED_SOURCE, /* the client's address */
	SS_HASHED_SYN, /* addresses, ports and the SYN's sequence number: the SYN, and again */
};

/*
 * Every scheduler once: its id, its name in configuration and status, what its hash is made of, who
 * chooses a backend by that (a choose_*() of lb-xdp/pick.h), and who fills the slots (a *_fill() of
 * loader/maglev.h). Ids stay what they are: they stand in the tables of a running balancer.
 */
/* clang-format off */
#define SS_SCHEDULERS(X)                                                                           \
	X(MAGLEV,            "maglev",            FLOW,   slot,  maglev)                           \
	X(ROUND_ROBIN,       "round-robin",       SYN,    turn,  round_robin)                      \
	X(RANDOM,            "random",            SYN,    slot,  maglev)                           \
	X(SOURCE_HASH,       "source-hash",       SOURCE, slot,  maglev)                           \
	X(LEAST_CONNECTIONS, "least-connections", SYN,    least, maglev)                           \
	X(POWER_OF_TWO,      "power-of-two",      SYN,    power, maglev)
/* clang-format on */

#define SS_SCHED_ENUM(id, name, hashed, choose, fill) SS_SCHED_##id,
enum ss_scheduler { SS_SCHEDULERS(SS_SCHED_ENUM) SS_SCHED_MAX };
#undef SS_SCHED_ENUM

/* What the hash of @scheduler is made of. */
static inline enum ss_hashed ss_scheduler_hashed(__u32 scheduler)
{
	switch (scheduler) {
#define SS_SCHED_HASHED(id, name, hashed, choose, fill) \
	case SS_SCHED_##id:                             \
		return SS_HASHED_##hashed;
		SS_SCHEDULERS(SS_SCHED_HASHED)
#undef SS_SCHED_HASHED
	}
	return SS_HASHED_SYN;
}

/* 1 if @scheduler finds the backend of a connection by any of its packets. */
static inline int ss_scheduler_is_hash(__u32 scheduler)
{
	return ss_scheduler_hashed(scheduler) != SS_HASHED_SYN;
}

/*
 * How packets get to a backend, by their names in the configuration. Without nat, SYNs with a request
 * are rewritten in any case: it is what redirected connections need, and all they need.
 */
#define SS_METHODS(X)         \
	X(REWRITE, "rewrite") \
	X(IPIP, "ipip")       \
	X(GUE, "gue")         \
	X(NAT, "nat")

#define SS_METHOD_ENUM(name, text) SS_METHOD_##name,
enum ss_method { SS_METHODS(SS_METHOD_ENUM) SS_METHOD_MAX };
#undef SS_METHOD_ENUM

enum ss_backend_state {
	SS_BACKEND_UP = 0,
	SS_BACKEND_DRAIN = 1, /* no new connections */
	SS_BACKEND_DOWN =
		2, /* the same, for it does not work; unless none does, if so configured */
};

/* What becomes of a packet that is not sent on, and that one may answer. */
enum ss_answer {
	SS_ANSWER_DROP = 0, /* nothing: it is dropped in silence */
	SS_ANSWER_RESET = 1, /* a RST */
	SS_ANSWER_UNREACHABLE = 2, /* an ICMP error: destination unreachable */
};

/* ss_lb_head.answers: an ss_answer for packets that no backend is there for, and more. */
#define SS_LB_ANSWER_NO_BACKEND 3
#define SS_LB_ANSWER_UNKNOWN 4 /* set: unknown connections get a RST */

/* What a packet needs to know of a backend. */
struct ss_lb_backend {
	struct ss_endpoint endpoint; /* where the server listens */
	__u32 id; /* index into the map "backend_cpu"; unique in the balancer */
	__u32 owner; /* as in ss_lb_backend_cpu, unless the id has been given to another one */
	__u32 weight;
};

/* What only user space needs to know of a backend. */
struct ss_lb_backend_info {
	char name[SS_LB_NAME_LEN];
	__u32 state; /* an ss_backend_state */
	__u8 quic_id[SS_LB_QUIC_ID]; /* as in ss_lb_quic_key */
};

/* What a packet needs to know of a service. */
struct ss_lb_head {
	__u32 scheduler; /* an ss_scheduler */
	__u32 active;
	__u32 backends; /* all, with those that take no new connections */
	__u32 index; /* of this service in the maps of tables, and in "turns" */
	__u32 slots;
	__be32 source4; /* of outer headers to IPv4 backends; 0: not known */
	__u32 method; /* an ss_method */
	__u32 flow_id; /* of the service in the map "flows"; 0: it does without */
	struct ss_addr source6; /* the same to IPv6 backends */
	__u32 slots_wanted; /* by the configuration; 0: as many as the number of backends asks for */
	__u16 fail_open; /* 1: if no backend is up, those that are down count as up */
	__u16 quic_id_len; /* bytes of a server's id in QUIC's connection ids; 0: they tell nothing */
	__u16 slow_start; /* seconds; 0: none */
	__u16 suspect_count; /* unanswered SYNs that make a backend suspect; 0: they do not */
	__u16 suspect_hold; /* for how many seconds it is held then */
	__u8 suspect_share; /* percent of its SYNs that have to be unanswered for that */
	__u8 answers; /* SS_LB_ANSWER_* */
};

#define SS_LB_SUSPECT_WINDOW_NS \
	10000000000ULL /* SYNs of this time and the one before are counted */
#define SS_LB_SLOW_START_PART 16 /* a slow start begins with a 16th of a backend's share */

/* Per backend, of services that want it: is it one for new connections? */
struct ss_lb_health {
	__u64 up_since; /* CLOCK_MONOTONIC_COARSE in ns; 0: there is no slow start */
	__u64 window_end; /* by the same clock, as all of these times */
	__u64 held_until; /* 0: it is not held; in the past: it is on trial */
	__u32 syns; /* in this window, that it got first */
	__u32 unanswered; /* of those, and of those before */
	__u32 syns_before; /* in the last window */
	__u32 unanswered_before;
	__u32 tries; /* SYNs that it was looked at for in its trial */
	__u32 strikes; /* how often it was held lately */
	__u32 holds; /* and since it is known */
	__u32 held_syns; /* why it was held last: what was counted */
	__u32 held_unanswered;
	__u32 pad;
};

/*
 * The table of a service. The backends that take new connections stand first, at 0 to active - 1; slots
 * hold indices into them. Where active is 0 the slots mean nothing. What packets need comes first.
 */
#define SS_LB_TABLE(size, SIZE)                                          \
	struct ss_lb_##size##_table {                                    \
		struct ss_lb_head head;                                  \
		struct ss_lb_backend backend[SS_LB_##SIZE##_BACKENDS];   \
		__u16 slot[(SS_LB_##SIZE##_SLOTS + 3) / 4 * 4];          \
		char name[SS_LB_NAME_LEN];                               \
		struct ss_lb_backend_info info[SS_LB_##SIZE##_BACKENDS]; \
	}
SS_LB_TABLE(small, SMALL);
SS_LB_TABLE(large, LARGE);
#undef SS_LB_TABLE

/* The value of a service in the map "services": its index, and this if its table is a large one. */
#define SS_LB_IS_LARGE 0x80000000U

/* How many services each processor remembers from the packets before. A power of two. */
#define SS_LB_SEEN 256

/* A service that a processor has seen. */
struct ss_lb_seen {
	struct ss_endpoint vip;
	__u32 value; /* as in the map "services" */
	__u32 since; /* "services_changed" then, and 1: an entry of zeroes is none */
};

#define SS_LB_CONFIRM_NEVER (~0U) /* ss_lb_backend_cpu.confirm_at: no packet does */

/* Per backend and processor: what was sent there, and the next hop as last looked up. */
struct ss_lb_backend_cpu {
	__u64 syns; /* forwarded, with retries */
	__u64 retries; /* of SYNs that were sent to another backend first */
	__u64 others; /* forwarded packets that are not SYNs */
	__u64 fresh_until; /* CLOCK_MONOTONIC_COARSE in ns; 0: never looked up */
	__u32 confirm_at; /* in s: when a packet takes the kernel's way, so that it confirms the neighbour */
	__u32 mtu; /* of the way to it, as the kernel has it; 0: not known */
	__u32 ifindex;
	__u8 dmac[6];
	__u8 smac[6];
	__u32 owner; /* which backend this is: a hash of its endpoint */
	__u32 unanswered; /* SYNs that were sent here first, and again: no answer came in time */
};

#define SS_LB_FLOWS 262144 /* connections that stay on the balancer, in its table of flows */

/* For so many seconds without a packet a connection that stays on the balancer may still go on. */
#define SS_LB_OPEN_SECONDS 7440 /* RFC 5382, REQ-5: 2 hours 4 minutes */
#define SS_LB_OPENING_SECONDS 240 /* 4 minutes, if there was nothing but a SYN */
#define SS_LB_NAT_OPENING_SECONDS 60 /* nat, half open: as long as Linux retransmits a SYN-ACK */
#define SS_LB_CLOSED_SECONDS 60 /* as long as Linux keeps a TIME_WAIT socket */
#define SS_LB_UDP_SECONDS 120 /* RFC 4787, REQ-5: two minutes, or more */

/* A connection that stays on the balancer. */
struct ss_lb_flow_key {
	struct ss_addr client;
	__be16 port; /* the client's */
	__u16 pad;
	__u32 service; /* ss_lb_head.flow_id */
};

struct ss_lb_flow {
	struct ss_lb_backend backend; /* which has it, whether it still takes new ones or not */
	__u64 since; /* its SYN, or UDP's last packet (to a second), by CLOCK_MONOTONIC_COARSE, in ns */
	__be16 nat_port; /* of the balancer's address, which the backend knows it by; 0: the client's */
	__u8 seen; /* SS_LB_FLOW_* */
	__u8 pad;
	__u32 used; /* when the client sent the last packet, in SS_LB_TICK of the same clock */
	__be32 isn; /* the sequence number of its SYN; 0: not seen */
	__u32 pad2;
};

/* What was seen of it, but for its SYN. */
#define SS_LB_FLOW_MORE 1 /* a packet of the client */
#define SS_LB_FLOW_ENDED 2 /* the client's FIN or RST */
#define SS_LB_FLOW_UDP 4 /* it is UDP's: there are no SYNs */
#define SS_LB_FLOW_OPEN 8 /* nat: the client has acknowledged the server's number */

#define SS_LB_TICK(ns) ((__u32)((ns) >> 30)) /* about a second: cheaper than a division */

/* Which of a service's backends QUIC's connection ids name. */
struct ss_lb_quic_key {
	__u8 id[SS_LB_QUIC_ID]; /* ss_lb_head.quic_id_len bytes, and zeroes */
	__u32 service; /* ss_lb_head.index */
};

/* Ports of the balancer's own address that stand for connections of clients, for each backend. */
#define SS_LB_NAT_PORT 10240
#define SS_LB_NAT_PORTS 16384

/* What was seen of a connection with such a port. */
#define SS_LB_NAT_OPEN 1 /* the client has acknowledged the server's number */
#define SS_LB_NAT_CLIENT_FIN 2
#define SS_LB_NAT_SERVER_FIN 4
#define SS_LB_NAT_RESET 8
#define SS_LB_NAT_ANSWERED 16 /* the server's SYN-ACK: its number is known */

/* Whose a server's packets to the balancer's own address are; found by an ss_flow, local the balancer. */
struct ss_lb_nat {
	struct ss_endpoint client;
	struct ss_endpoint service;
	__u64 used; /* when a packet came by last, by CLOCK_MONOTONIC_COARSE, in ns */
	__be32 isn; /* the sequence number of the server's SYN-ACK, if SS_LB_NAT_ANSWERED */
	__u8 seen; /* SS_LB_NAT_* */
	__u8 pad[3];
};

#define SS_LB_PREFIXES 65536 /* source prefixes whose SYNs are counted at a time */

/* How many SYNs a source prefix may send. */
struct ss_lb_syn_limit {
	__u64 interval; /* between two of them, in ns; 0: there is no limit */
	__u64 ahead; /* how much sooner they may come, in ns: the burst */
	struct ss_addr mask4; /* the bits of an IPv4 source that are its prefix */
	struct ss_addr mask6;
	__u32 rate; /* SYNs a second */
	__u32 burst;
	__u8 prefix4; /* in bits */
	__u8 prefix6;
	__u8 pad[6];
};

/* Who reports a backend's load: the service, and where its server listens. */
struct ss_lb_reporter {
	struct ss_endpoint vip;
	struct ss_endpoint backend;
};

/* Per backend: the load that its server reported last. */
struct ss_lb_load {
	__u64 time; /* of the server's last report, as in struct ss_report; 0: it never reported */
	__u64 fresh_until; /* CLOCK_MONOTONIC_COARSE in ns; from then on it does not count */
	__u32 open; /* connections */
	__u32 sent; /* SYNs that were sent there since, by schedulers that go by load */
};

#define SS_LB_OWN_ADDRESSES 4096 /* to which reports are taken */

/* Which UDP packets to the balancer's own addresses are reports. */
struct ss_lb_report_rules {
	struct ss_sip_key key; /* master key: each sender's is made from it */
	__s64 tai_ahead; /* CLOCK_TAI less CLOCK_REALTIME, in ns */
	__be16 port; /* 0: none are */
	__u16 pad[3];
};

/* What becomes of packets for a service's address that no service is there for. */
enum ss_no_service {
	SS_NO_SERVICE_PASS = 0, /* they are the kernel's */
	SS_NO_SERVICE_DROP = 1, /* so are those for its own addresses; the others are dropped */
	SS_NO_SERVICE_UNREACHABLE = 2, /* the same, with an ICMP error */
};

/* What goes for the whole balancer. */
struct ss_lb_rules {
	__u32 pass_fragments; /* 1: IP fragments for a service's address are the kernel's */
	__u32 no_service; /* an ss_no_service */
};

/* A next hop toward backends that the kernel keeps resolved. A map key. */
struct ss_lb_neighbour {
	struct ss_addr addr;
	__u32 ifindex;
};

_Static_assert(sizeof(struct ss_lb_neighbour) == 20, "ss_lb_neighbour is a map key");
_Static_assert(sizeof(struct ss_lb_rules) == 8, "ss_lb_rules has no hidden padding");
_Static_assert(sizeof(struct ss_lb_quic_key) == 12, "ss_lb_quic_key is a map key");
_Static_assert(sizeof(struct ss_lb_reporter) == 40, "ss_lb_reporter is a map key");
_Static_assert(sizeof(struct ss_lb_health) == 64, "one cache line");
_Static_assert(sizeof(struct ss_lb_syn_limit) == 64, "one cache line");
_Static_assert(sizeof(struct ss_lb_load) == 24, "ss_lb_load has no hidden padding");
_Static_assert(sizeof(struct ss_lb_report_rules) == 32, "ss_lb_report_rules has no hidden padding");
_Static_assert(sizeof(struct ss_lb_backend) == 32, "ss_lb_backend has no hidden padding");
_Static_assert(sizeof(struct ss_lb_flow_key) == 24, "ss_lb_flow_key is a map key");
_Static_assert(sizeof(struct ss_lb_flow) == 56, "ss_lb_flow has no hidden padding");
_Static_assert(sizeof(struct ss_lb_nat) == 56, "ss_lb_nat has no hidden padding");
_Static_assert(sizeof(struct ss_lb_head) == 64, "one cache line");
_Static_assert(sizeof(struct ss_lb_small_table) % 8 == 0, "array map elements are 8-aligned");
_Static_assert(sizeof(struct ss_lb_large_table) % 8 == 0, "array map elements are 8-aligned");
_Static_assert(sizeof(struct ss_lb_backend_cpu) == 64, "one cache line");

#endif
