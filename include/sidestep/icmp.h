/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ICMP errors, as far as both sides of a balancer look into them: which types quote a packet, and
 * what of a quoted TCP or UDP packet is there at least. Included by BPF programs: only <linux/types.h>.
 */
#ifndef SIDESTEP_ICMP_H
#define SIDESTEP_ICMP_H

#include <linux/types.h>

#define SS_ICMP_HEADER 8 /* what is quoted follows */

/* Does the ICMP message (RFC 792) of @type quote a packet that had some trouble? */
static inline int ss_icmp4_quotes(__u8 type)
{
	return type == 3 || type == 11 || type == 12; /* unreachable, time exceeded, parameter */
}

/* The same for ICMPv6 (RFC 4443): unreachable, too big, time exceeded, parameter problem. */
static inline int ss_icmp6_quotes(__u8 type)
{
	return type >= 1 && type <= 4;
}

/* What is quoted at least (RFC 792: eight bytes of what follows the IP header), of TCP as of UDP. */
struct ss_quoted_l4 {
	__be16 source;
	__be16 dest;
	__be32 rest; /* TCP: the sequence number */
};

_Static_assert(sizeof(struct ss_quoted_l4) == 8, "RFC 792: eight bytes");

#endif
