/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 9, the way back: ICMP errors about packets that egress rewrote.
 *
 * A router quotes a packet as it was on the wire, and the kernel looks for its socket by what is
 * quoted: without this, a path MTU smaller than the interface's would swallow a redirected
 * connection's large packets. So the quote gets the addresses and ports that the kernel knows; in
 * an error that was sent to a service's address, so does the destination.
 *
 * The map of wire flows only says which connection to ask. Nothing is changed unless that
 * connection is alive and sends just what is quoted, so an entry may be as old as it likes. The
 * kernel then compares the quoted sequence number, as with any other error.
 *
 * What a UDP server has said to a client is known from that client's questions (udp.h).
 *
 * Sums: only eight bytes of TCP need to be quoted, so its checksum, which nobody looks at, stays
 * as it was, and UDP's as well. The quoted IPv4 header's checksum is kept right; thus the new addresses do not change
 * the sum over the quote, and in ICMP's checksum only the ports count. IPv6 has no such checksum:
 * there the addresses count too, and once more in the pseudo-header if the destination changes.
 */
#ifndef SIDESTEP_HOST_ICMP_H
#define SIDESTEP_HOST_ICMP_H

#include <sidestep/csum.h>
#include <sidestep/icmp.h>

#include "asking.h"
#include "conn.h"
#include "packet.h"
#include "socket.h"
#include "udp.h"

#define ICMP_CHECK_OFFSET 2
#define IP_FRAGMENT_OFFSET SS_BE16(0x1fff)

/* An ICMP error and the TCP or UDP packet that it quotes, which this host has sent. */
struct icmp_error {
	__u32 l4; /* offset of the ICMP header in the frame */
	__u32 ports; /* offset of the quoted ports */
	struct ss_addr to; /* where the error was sent */
	struct ss_flow quoted;
	__u64 is_ip6;
};

/* Source and destination, as they stand side by side in an IP header. */
struct ipv4_addrs {
	__be32 saddr;
	__be32 daddr;
};

struct ipv6_addrs {
	struct ss_addr saddr;
	struct ss_addr daddr;
};

#define IPV4_CHECK_OFFSET __builtin_offsetof(struct iphdr, check)
#define IPV4_ADDRS_OFFSET __builtin_offsetof(struct iphdr, saddr)
#define IPV6_ADDRS_OFFSET __builtin_offsetof(struct ipv6hdr, saddr)
#define IPV6_DADDR_OFFSET __builtin_offsetof(struct ipv6hdr, daddr)

/* Reads the quoted ports, at e->ports; the IP packet ends at @end. */
static __always_inline int icmp_ports(struct __sk_buff *skb, struct icmp_error *e, __u32 end)
{
	struct ss_quoted_l4 l4;

	if (e->ports + sizeof(l4) > end || bpf_skb_load_bytes(skb, e->ports, &l4, sizeof(l4)))
		return 0;
	e->quoted.local.port = l4.source;
	e->quoted.remote.port = l4.dest;
	return 1;
}

static __always_inline int icmp_parse4(struct __sk_buff *skb, struct icmp_error *e)
{
	struct iphdr *ip = (void *)(long)skb->data + L3_OFFSET, quote;
	__u32 end;
	__u8 type;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end || ip->protocol != IPPROTO_ICMP ||
	    ip->ihl < 5 || ip->frag_off & IP_FRAGMENT)
		return 0;
	e->l4 = L3_OFFSET + ip->ihl * 4;
	e->to = ss_addr_v4(ip->daddr);
	end = L3_OFFSET + SS_BE16(ip->tot_len);
	if (bpf_skb_load_bytes(skb, e->l4, &type, sizeof(type)) || !ss_icmp4_quotes(type))
		return 0;
	if (bpf_skb_load_bytes(skb, e->l4 + SS_ICMP_HEADER, &quote, sizeof(quote)) ||
	    quote.version != 4 || quote.ihl < 5 ||
	    !ss_endpoint_of(&e->quoted.local, quote.protocol) ||
	    quote.frag_off & IP_FRAGMENT_OFFSET)
		return 0;
	e->quoted.local.addr = ss_addr_v4(quote.saddr);
	e->quoted.remote.addr = ss_addr_v4(quote.daddr);
	e->ports = e->l4 + SS_ICMP_HEADER + quote.ihl * 4;
	return icmp_ports(skb, e, end);
}

/*
 * A router that is a kernel on this machine, for a container say, quotes a packet as it was inside of
 * the host: the jumbo header at e->ports is skipped. Returns what follows it, or what is no protocol
 * of ours.
 */
static __always_inline __u8 icmp_jumbo(struct __sk_buff *skb, struct icmp_error *e)
{
	struct jumbo_header jumbo;

	if (bpf_skb_load_bytes(skb, e->ports, &jumbo, sizeof(jumbo)) ||
	    !jumbo_is_before(&jumbo, IPPROTO_TCP))
		return IPPROTO_NONE;
	e->ports += sizeof(jumbo);
	return IPPROTO_TCP;
}

static __always_inline int icmp_parse6(struct __sk_buff *skb, struct icmp_error *e)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + L3_OFFSET, quote;
	__u32 end;
	__u8 type;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end || ip->nexthdr != IPPROTO_ICMPV6)
		return 0;
	e->is_ip6 = 1;
	e->l4 = L3_OFFSET + sizeof(*ip);
	e->to = packet_addr6(&ip->daddr);
	end = e->l4 + SS_BE16(ip->payload_len);
	if (bpf_skb_load_bytes(skb, e->l4, &type, sizeof(type)) || !ss_icmp6_quotes(type))
		return 0;
	if (bpf_skb_load_bytes(skb, e->l4 + SS_ICMP_HEADER, &quote, sizeof(quote)) ||
	    quote.version != 6)
		return 0;
	e->ports = e->l4 + SS_ICMP_HEADER + sizeof(quote);
	if (quote.nexthdr == IPPROTO_HOPOPTS)
		quote.nexthdr = icmp_jumbo(skb, e);
	if (!ss_endpoint_of(&e->quoted.local, quote.nexthdr))
		return 0;
	e->quoted.local.addr = packet_addr6(&quote.saddr);
	e->quoted.remote.addr = packet_addr6(&quote.daddr);
	return icmp_ports(skb, e, end);
}

/* Are @conn's packets sent as @wire? A SYN is; a backend has got it that the balancer chose. */
static __always_inline int conn_is_sent_as(const struct ss_conn *conn, const struct ss_flow *wire)
{
	struct ss_flow sent = conn_wire_flow(conn);

	if (conn->role == SS_ROLE_CLIENT && conn->path == SS_PATH_ASKING)
		return conn->asked && ss_endpoint_equal(&sent.local, &wire->local) &&
		       prefix_covers(&backends, &wire->remote.addr);
	return conn->rewrite && ss_flow_equal(&sent, wire);
}

/* Is there a connection @flow, and do its packets leave as @wire? */
static __noinline int is_sent_as(struct __sk_buff *skb, const struct ss_flow *flow,
				 const struct ss_flow *wire)
{
	struct bpf_sock *sk = flow_socket(skb, flow);
	const struct ss_conn *conn;
	int is_sent;

	if (!sk)
		return 0;
	conn = bpf_sk_storage_get(&conns, sk, 0, 0);
	is_sent = conn && conn_is_sent_as(conn, wire);
	bpf_sk_release(sk);
	return is_sent;
}

/* Who has sent what is quoted. Returns 1 with *@flow set, as the kernel knows it. */
static __always_inline int icmp_sender(struct __sk_buff *skb, const struct icmp_error *e,
				       struct ss_flow *flow)
{
	const struct ss_flow *quoted = &e->quoted, *known;

	if (quoted->local.protocol)
		return udp_is_used() && udp_sender(quoted, &e->to, flow);
	known = wire_recall(quoted);
	if (known) {
		*flow = *known;
		if (is_sent_as(skb, flow, quoted))
			return 1;
	}
	known = asking_recall(&quoted->local, 0);
	if (!known)
		return 0;
	*flow = *known;
	return is_sent_as(skb, flow, quoted);
}

/* What putting @flow in place of the quoted addresses, or ports, adds to a sum. */
static __always_inline __u64 icmp_addrs_diff(const struct icmp_error *e, const struct ss_flow *flow)
{
	return ss_csum_diff_addr(&e->quoted.local.addr, &flow->local.addr) +
	       ss_csum_diff_addr(&e->quoted.remote.addr, &flow->remote.addr);
}

static __always_inline __u64 icmp_ports_diff(const struct icmp_error *e, const struct ss_flow *flow)
{
	return ss_csum_diff16(e->quoted.local.port, flow->local.port) +
	       ss_csum_diff16(e->quoted.remote.port, flow->remote.port);
}

/* The error was sent to where the quoted packet came from; now to this host's own address, @to. */
static __always_inline long icmp_destination(struct __sk_buff *skb, const struct icmp_error *e,
					     const struct ss_addr *to)
{
	__u32 daddr = L3_OFFSET + __builtin_offsetof(struct iphdr, daddr);

	if (e->is_ip6)
		return bpf_skb_store_bytes(skb, L3_OFFSET + IPV6_DADDR_OFFSET, to, sizeof(*to), 0);
	return bpf_skb_store_bytes(skb, daddr, &to->w[3], sizeof(to->w[3]), 0) |
	       bpf_l3_csum_replace(skb, L3_OFFSET + IPV4_CHECK_OFFSET, e->to.w[3], to->w[3],
				   sizeof(to->w[3]));
}

/* The quoted addresses and ports become those of @flow. */
static __always_inline long icmp_quote(struct __sk_buff *skb, const struct icmp_error *e,
				       const struct ss_flow *flow)
{
	__be16 ports[] = { flow->local.port, flow->remote.port };
	__u32 quote = e->l4 + SS_ICMP_HEADER;
	long err;

	if (e->is_ip6) {
		struct ipv6_addrs addrs = { flow->local.addr, flow->remote.addr };

		err = bpf_skb_store_bytes(skb, quote + IPV6_ADDRS_OFFSET, &addrs, sizeof(addrs), 0);
	} else {
		struct ipv4_addrs addrs = { flow->local.addr.w[3], flow->remote.addr.w[3] };
		__u32 diff = ss_csum_to32(icmp_addrs_diff(e, flow));

		err = bpf_skb_store_bytes(skb, quote + IPV4_ADDRS_OFFSET, &addrs, sizeof(addrs), 0);
		err |= bpf_l3_csum_replace(skb, quote + IPV4_CHECK_OFFSET, 0, diff, 0);
	}
	return err | bpf_skb_store_bytes(skb, e->ports, ports, sizeof(ports), 0);
}

static __always_inline long icmp_apply(struct __sk_buff *skb, const struct icmp_error *e,
				       const struct ss_flow *flow)
{
	__u64 diff = icmp_ports_diff(e, flow);
	long err = icmp_quote(skb, e, flow);

	if (e->is_ip6)
		diff += icmp_addrs_diff(e, flow);
	if (ss_addr_equal(&e->to, &e->quoted.local.addr)) {
		if (e->is_ip6)
			diff += ss_csum_diff_addr(&e->to, &flow->local.addr);
		err |= icmp_destination(skb, e, &flow->local.addr);
	}
	/*
	 * BPF_F_PSEUDO_HDR is not for this: IPv6 has no header checksum, so that all changes
	 * together leave the sum over the packet (CHECKSUM_COMPLETE) as it was.
	 */
	return err | bpf_l4_csum_replace(skb, e->l4 + ICMP_CHECK_OFFSET, 0, ss_csum_to32(diff), 0);
}

/* Any packet that is not TCP. Returns 1 if it was such an error. */
static __noinline int icmp_translate(struct __sk_buff *skb)
{
	struct icmp_error e = {};
	struct ss_flow flow;

	if (!(skb->protocol == SS_BE16(ETH_P_IP) && icmp_parse4(skb, &e)) &&
	    !(skb->protocol == SS_BE16(ETH_P_IPV6) && icmp_parse6(skb, &e)))
		return 0;
	if (!icmp_sender(skb, &e, &flow))
		return 0;
	if (icmp_apply(skb, &e, &flow)) {
		count(SS_HOST_error_helper);
		return 0;
	}
	count(SS_HOST_icmp_translated);
	return 1;
}

#endif
