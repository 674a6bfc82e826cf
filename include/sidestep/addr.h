/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Addresses, endpoints and flows, as map keys and values carry them.
 *
 * Both families share one form: 16 bytes, IPv4 as an IPv4-mapped IPv6 address (RFC 4291,
 * section 2.5.5.2), so that every map has one key layout and every comparison one shape.
 * Included by BPF programs, user space and tests: only <linux/types.h>.
 */
#ifndef SIDESTEP_ADDR_H
#define SIDESTEP_ADDR_H

#include <linux/types.h>

/* Network byte order constants that need no byte-order header in BPF. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SS_BE16(x) ((__be16)__builtin_bswap16(x))
#define SS_BE32(x) ((__be32)__builtin_bswap32(x))
#define SS_BE64(x) ((__be64)__builtin_bswap64(x))
#else
#define SS_BE16(x) ((__be16)(x))
#define SS_BE32(x) ((__be32)(x))
#define SS_BE64(x) ((__be64)(x))
#endif

/* An IPv6 address, or an IPv4 address in IPv4-mapped form; network byte order. */
struct ss_addr {
	__be32 w[4];
};

#define SS_TCP 6 /* IP's number of it */
#define SS_UDP 17 /* the same, and ss_endpoint.protocol */

/* Address and port; port in network byte order. */
struct ss_endpoint {
	struct ss_addr addr;
	__be16 port;
	__u16 protocol; /* SS_UDP: a UDP service; 0 all else: the struct is a map key */
};

/* A connection as one host's kernel knows it. */
struct ss_flow {
	struct ss_endpoint local;
	struct ss_endpoint remote;
};

/* Key of a longest-prefix map: prefixlen counts the bits of port and address that matter. */
struct ss_prefix {
	__u32 prefixlen;
	__be16 port; /* 0 where the map does not tell ports apart */
	__u16 pad;
	struct ss_addr addr;
};

/* Bits of ss_prefix before the address, and bits of an IPv4-mapped address before IPv4's. */
#define SS_PREFIX_PORT_BITS 32
#define SS_PREFIX_V4_BITS 96

_Static_assert(sizeof(struct ss_addr) == 16, "ss_addr is a map key");
_Static_assert(sizeof(struct ss_endpoint) == 20, "ss_endpoint is a map key");
_Static_assert(sizeof(struct ss_flow) == 40, "ss_flow is a map key");
_Static_assert(sizeof(struct ss_prefix) == 24, "ss_prefix is a map key");

/* The IPv4-mapped form of @ip (network byte order). */
static inline struct ss_addr ss_addr_v4(__be32 ip)
{
	return (struct ss_addr){ .w = { 0, 0, SS_BE32(0xffff), ip } };
}

/* 1 if @a is an IPv4 address. */
static inline int ss_addr_is_v4(const struct ss_addr *a)
{
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == SS_BE32(0xffff);
}

/* 0 if @a is the unspecified address, all zeroes, which is IPv6's: it stands for none. */
static inline int ss_addr_is_set(const struct ss_addr *a)
{
	return (a->w[0] | a->w[1] | a->w[2] | a->w[3]) != 0;
}

/* 1 if @a and @b are the same address. */
static inline int ss_addr_equal(const struct ss_addr *a, const struct ss_addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

/* 1 if @a and @b are the same address, port and protocol. */
static inline int ss_endpoint_equal(const struct ss_endpoint *a, const struct ss_endpoint *b)
{
	return ss_addr_equal(&a->addr, &b->addr) && a->port == b->port &&
	       a->protocol == b->protocol;
}

/* @endpoint becomes one of IP's protocol @proto. Returns 0 if that is neither TCP nor UDP. */
static inline int ss_endpoint_of(struct ss_endpoint *endpoint, __u8 proto)
{
	endpoint->protocol = proto == SS_UDP ? SS_UDP : 0;
	return proto == SS_TCP || proto == SS_UDP;
}

/* 1 if @a and @b are the same connection. */
static inline int ss_flow_equal(const struct ss_flow *a, const struct ss_flow *b)
{
	return ss_endpoint_equal(&a->local, &b->local) && ss_endpoint_equal(&a->remote, &b->remote);
}

#endif
