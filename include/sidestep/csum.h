/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Internet checksum arithmetic (RFC 1071, RFC 1624): what a change of words adds to a sum.
 * Included by BPF programs, user space and tests: only <linux/types.h>.
 */
#ifndef SIDESTEP_CSUM_H
#define SIDESTEP_CSUM_H

#include <linux/types.h>

#include "addr.h"

/* Folds a sum of words into 16 bits and complements it: the value of a checksum field. */
static inline __u16 ss_csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The checksum field @check (as on the wire) after its data grew by @diff. */
static inline __u16 ss_csum_apply(__u16 check, __u64 diff)
{
	return ss_csum_fold(diff + (__u16)~check);
}

/* What replacing @from by @to adds to a sum (RFC 1624, equation 3). */
static inline __u64 ss_csum_diff16(__be16 from, __be16 to)
{
	return (__u64)(__u16)~from + to;
}

static inline __u64 ss_csum_diff32(__be32 from, __be32 to)
{
	return (__u64)(__u32)~from + to;
}

static inline __u64 ss_csum_diff_addr(const struct ss_addr *from, const struct ss_addr *to)
{
	__u64 sum = 0;

	for (int i = 0; i < 4; i++)
		sum += ss_csum_diff32(from->w[i], to->w[i]);
	return sum;
}

/*
 * What a change of bytes adds to a sum over a segment, given what it adds if the bytes stand at an
 * even offset: @diff. They stand at @offset (RFC 1071, section 2, part B).
 */
static inline __u16 ss_csum_at(__u64 diff, __u32 offset)
{
	__u16 sum = ~ss_csum_fold(diff);

	return offset & 1 ? __builtin_bswap16(sum) : sum;
}

/* A difference as the 32-bit sum that bpf_l4_csum_replace() takes. */
static inline __u32 ss_csum_to32(__u64 diff)
{
	diff = (diff & 0xffffffff) + (diff >> 32);
	return diff + (diff >> 32);
}

#endif
