/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * How a packet is wrapped on its way from the balancer to a server (step 2), and unwrapped there
 * (step 3). The outer header is of the server's IP version, the packet inside of the client's.
 *
 * ipip: IP in IP (RFC 2003, RFC 2473, RFC 4213), protocol 4 or 41 by what is inside. gue: the same behind
 * a UDP header, without a header of its own (Generic UDP Encapsulation, draft-ietf-intarea-gue-09,
 * version 1), so that routers spread connections by the UDP source port. Either is what Linux' own tunnels
 * understand.
 */
#ifndef SIDESTEP_ENCAP_H
#define SIDESTEP_ENCAP_H

#include <linux/types.h>

#include "addr.h"

#define SS_GUE_PORT 6080 /* registered for GUE; host byte order */
#define SS_GUE_SOURCE_PORTS 0xc000 /* source ports are these and above: dynamic ones (RFC 6335) */

/* The longest outer headers: what a path that carries wrapped packets has less room for. */
#define SS_ENCAP4_MAX 28
#define SS_ENCAP6_MAX 48
#define SS_ENCAP_MAX SS_ENCAP6_MAX

#define SS_ECN_MASK 3 /* RFC 3168: of a type-of-service byte */
#define SS_ECN_CE 3

struct ss_udp {
	__be16 source;
	__be16 dest;
	__be16 len;
	__u16 check; /* 0: none (RFC 768; RFC 6935 for tunnels in IPv6) */
};

_Static_assert(sizeof(struct ss_udp) == 8, "the header of RFC 768");

#endif
