/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * SipHash-2-4 (INDOCRYPT 2012), word by word, for messages of whole 64-bit words. A program that may
 * not loop over a message as it likes calls ss_sip_word() from a loop of its own.
 */
#ifndef SIDESTEP_SIPHASH_H
#define SIDESTEP_SIPHASH_H

#include <linux/types.h>

/* A 128-bit key: its sixteen bytes as two little-endian words. */
struct ss_sip_key {
	__u64 k[2];
};

/* The state of a hash that is being computed. */
struct ss_sip {
	__u64 v[4];
};

/* A word as it stands in memory, read or written as little endian. */
static inline __u64 ss_sip_le64(__u64 word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return word;
#else
	return __builtin_bswap64(word);
#endif
}

static inline __u64 ss_sip_rotate(__u64 x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void ss_sip_round(struct ss_sip *s)
{
	s->v[0] += s->v[1];
	s->v[2] += s->v[3];
	s->v[1] = ss_sip_rotate(s->v[1], 13) ^ s->v[0];
	s->v[3] = ss_sip_rotate(s->v[3], 16) ^ s->v[2];
	s->v[0] = ss_sip_rotate(s->v[0], 32);
	s->v[2] += s->v[1];
	s->v[0] += s->v[3];
	s->v[1] = ss_sip_rotate(s->v[1], 17) ^ s->v[2];
	s->v[3] = ss_sip_rotate(s->v[3], 21) ^ s->v[0];
	s->v[2] = ss_sip_rotate(s->v[2], 32);
}

/* Begins a hash by @key. */
static inline struct ss_sip ss_sip_begin(const struct ss_sip_key *key)
{
	return (struct ss_sip){ { key->k[0] ^ 0x736f6d6570736575, key->k[1] ^ 0x646f72616e646f6d,
				  key->k[0] ^ 0x6c7967656e657261,
				  key->k[1] ^ 0x7465646279746573 } };
}

/* Takes in the next eight bytes of the message, @word as it stands in memory. */
static inline void ss_sip_word(struct ss_sip *s, __u64 word)
{
	word = ss_sip_le64(word);
	s->v[3] ^= word;
	ss_sip_round(s);
	ss_sip_round(s);
	s->v[0] ^= word;
}

/* The hash of the message of @len bytes (a multiple of 8) that was taken in. */
static inline __u64 ss_sip_end(struct ss_sip *s, __u32 len)
{
	ss_sip_word(s, ss_sip_le64((__u64)(len & 0xff) << 56));
	s->v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		ss_sip_round(s);
	return s->v[0] ^ s->v[1] ^ s->v[2] ^ s->v[3];
}

#endif
