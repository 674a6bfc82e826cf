/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the host programs and user space share: the values of the host object's maps.
 *
 * Addresses and ports are in network byte order, everything else in the host's.
 */
#ifndef SIDESTEP_HOST_H
#define SIDESTEP_HOST_H

#include <linux/types.h>

#include "addr.h"

enum ss_role {
	SS_ROLE_CLIENT = 1,
	SS_ROLE_SERVER = 2,
	SS_ROLE_LISTENER = 3, /* of a service; its children start with a copy of its state */
};

enum ss_path {
	SS_PATH_ASKING = 1, /* the SYN, or a TCP Fast Open socket's SYN-ACK, is under way */
	SS_PATH_BALANCER = 2,
	SS_PATH_DIRECT = 3,
};

/* What a connection knows of the way to its wire address; client only. */
enum ss_hop {
	SS_HOP_UNKNOWN = 0, /* the next packet probes */
	SS_HOP_PROBING = 1, /* sent to bpf_redirect_neigh(), comes by again with the right MAC */
	SS_HOP_SAME = 2, /* the service's next hop is the server's: rewriting is enough */
	SS_HOP_OTHER = 3, /* every packet goes through bpf_redirect_neigh() */
};

/* Per-socket state (BPF sk_storage): lives as long as the socket. */
struct ss_conn {
	struct ss_flow flow; /* what the kernel believes */
	struct ss_endpoint wire; /* client: DIP:dport for remote; server: VIP:vport for local */
	__u32 addr_csum; /* what the rewritten address adds to a checksum */
	__u64 since; /* client: its dial's, then its path's beginning, by the kernel's monotonic clock, in ns */
	__u32 acked; /* client: bytes acknowledged at first: the SYN, and data in it */
	__u16 reason; /* an ss_host_counter: why the path is what it is */
	__u8 role; /* an ss_role */
	__u8 path; /* an ss_path */
	__u8 rewrite; /* 1: packets are rewritten to or from wire */
	__u8 syn_retries; /* client: how often the SYN was retransmitted */
	__u8 request_len; /* client: bytes of request in the last segment; 0: none */
	__u8 asked; /* client: 1 once egress armed a request of its SYN */
	__u8 cb_flags; /* sockops callbacks that this program switched on */
	__u8 hop; /* an ss_hop */
	__u8 hop_mac[6]; /* the service's next hop when hop was decided */
	__u8 timeouts; /* client: on its path, before anything was carried */
	__u8 strict; /* client: 1 if the server answers, or may, from its own address */
	__u8 repeat; /* client: not 0 while segments repeat the request; 1 + timeouts */
	__u8 sent_on; /* client: 1 if its SYN came back and was sent on to the second choice */
	__u32 hop_ifindex; /* to the server; 0: that of the service; while it asks: where the SYN left */
	__u8 counted; /* server: 1 while it is in open_conns */
	__u8 catch_up; /* client: 1 if the balancer path is to hear of what the direct one took */
	__u8 plain_first; /* client: 1 if its first SYN was plain for what was remembered */
	__u8 foreign; /* client: 1: of another network namespace than the programs' */
	__u8 answered; /* client: 1 once ingress saw the answer to its SYN */
	__u8 direct; /* client: 1 once a packet has left directly */
	__u8 pad2[6];
};

/* One connection as `sidestep host connections` reads it from the iterator program. */
struct ss_conn_record {
	struct ss_conn conn;
	__u32 state; /* TCP_ESTABLISHED, ... of the kernel */
};

/* How to rewrite a packet that has no full socket; found by the kernel's flow. */
struct ss_late {
	struct ss_endpoint wire; /* as in ss_conn */
	__u32 addr_csum; /* as in ss_conn */
	__be32 synack; /* the ack_seq of the SYN-ACK that this entry is for */
	__u16 reason; /* an ss_host_counter: why that SYN-ACK carries no grant */
	__u8 role; /* an ss_role */
	__u8 half_open; /* an ss_half_open */
};

/* What an ss_late is for. */
enum ss_half_open {
	SS_HALF_OPEN_NO = 0, /* late packets; no SYN-ACKs, which are another connection's */
	SS_HALF_OPEN_SYNACK = 1, /* that SYN-ACK only */
	SS_HALF_OPEN_PLAIN = 2, /* both: a client that did not ask, whose packets came wrapped */
	SS_HALF_OPEN_FAST = 3, /* TCP Fast Open: both; its SYN-ACK may yet be sent again */
	SS_HALF_OPEN_FAST_STRICT = 4, /* the same with strict replies: nothing is rewritten */
};

/*
 * A connection as this host sends it on the wire, and as its kernel knows it; in the slot that
 * ss_wire_slot() names, where a later connection may take its place.
 */
struct ss_wire {
	struct ss_flow wire;
	struct ss_flow flow;
};

#define SS_WIRE_SLOTS 131072 /* a power of two */

static inline __u32 ss_wire_slot(const struct ss_flow *wire)
{
	__u32 words[sizeof(*wire) / sizeof(__u32)], hash = 0;

	__builtin_memcpy(words, wire, sizeof(words));
	for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++) {
		hash = (hash ^ words[i]) * 0x9e3779b1; /* 2^32 / golden ratio */
		hash ^= hash >> 15;
	}
	return hash & (SS_WIRE_SLOTS - 1);
}

/*
 * Whose packets come in on a flow from a server that answers strictly; found by the flow of the
 * wire: CIP:cport, DIP:dport.
 */
struct ss_strict_flow {
	struct ss_endpoint service; /* what the client's kernel knows in the server's place */
	__u32 addr_csum; /* what its address adds to a checksum in place of the server's */
	__u64 ends; /* 0: its socket lives; else until when it is kept, as in ss_strict_end */
};

/* Such a flow whose socket was closed. */
struct ss_strict_end {
	struct ss_flow wire;
	__u64 at; /* when its entry goes, by the kernel's monotonic clock, in ns */
};

#define SS_SERVE_ALSO 3 /* further ports at most */

/* A service that this host serves; found by VIP:vport. */
struct ss_serve {
	__be16 listen; /* the port of the server's listening socket */
	__be16 also[SS_SERVE_ALSO]; /* those of others, which balancers can choose as well; or 0 */
	__u8 strict; /* 1: strict replies */
	__u8 pad[3];
	/* the server's, for what comes wrapped in the other IP version; zeroes: it is not taken */
	struct ss_addr address;
};

/* Does a server of @serve listen on @port? */
static inline int ss_serve_listens(const struct ss_serve *serve, __be16 port)
{
	if (!port)
		return 0;
	return port == serve->listen || port == serve->also[0] || port == serve->also[1] ||
	       port == serve->also[2];
}

_Static_assert(SS_SERVE_ALSO == 3, "ss_serve_listens() looks at all of them");

/* A service, and the port that its server listens on here. */
struct ss_served_at {
	struct ss_endpoint vip;
	__be16 listen;
	__u16 pad; /* always 0: the struct is a map key */
};

/*
 * Its connections, as one processor saw them come and go: only the sum over all processors means
 * anything, as a connection may be closed by another than the one that opened it.
 */
struct ss_open {
	__s64 open;
	__u64 accepted; /* so far */
};

/*
 * What is loaded, and for which network namespace: one entry in the map "meta" of the host and
 * balancer objects. Written by user space: the cookie before any program is attached, the version
 * when all is.
 */
struct ss_meta {
	char version[64]; /* empty: the start is not complete */
	__u64 netns_cookie; /* as bpf_get_netns_cookie() and SO_NETNS_COOKIE tell it; 0: not known */
};

/* Where the programs are to run, as configured: what status compares with where they do. */
#define SS_PLACE_PATH 512

struct ss_interface {
	char name[16];
};

struct ss_place {
	char cgroup[SS_PLACE_PATH];
};

/* How many entries each list of a host's configuration may have. */
#define SS_HOST_RULES 1024
#define SS_HOST_INTERFACES 256

_Static_assert(sizeof(struct ss_conn) == 112, "ss_conn has no hidden padding");
_Static_assert(sizeof(struct ss_strict_flow) == 32, "ss_strict_flow has no hidden padding");
_Static_assert(sizeof(struct ss_strict_end) == 48, "ss_strict_end has no hidden padding");
_Static_assert(sizeof(struct ss_serve) == 28, "ss_serve has no hidden padding");
_Static_assert(sizeof(struct ss_served_at) == 24, "ss_served_at is a map key");
_Static_assert(sizeof(struct ss_late) == 32, "ss_late has no hidden padding");
_Static_assert(sizeof(struct ss_meta) == 72, "ss_meta has no hidden padding");

#endif
