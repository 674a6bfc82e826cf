/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The wire format: sidestep's TCP options, and the codec that finds and writes them.
 *
 * A request travels in the SYN ("I can be redirected; this is what I dialled"), a grant in the
 * SYN-ACK ("send straight to me"). Both use the experimental option kind 253 with a 16-bit
 * experiment id (RFC 6994). The id's high 12 bits say what kind of word it is, its low nibble the form:
 *
 *   0x5D5_  a request that is armed, or a grant
 *   0x5D4_  a request that is held: it names the service, but must not be granted; or (forms 11, 15)
 *           a server's answer to one
 *
 *   nibble  form                    length  content after kind, length, ExID
 *   0, 1    request, IPv4, short         8  VIP(4)
 *   2, 3    request, IPv4, full         16  VIP(4) CIP(4) vport(2) cport(2)
 *   4, 5    request, IPv6               20  service tag(6) client tag(6) vport(2) cport(2)
 *   6, 7    request, IPv6, short         8  service tag(4)
 *   8       grant, IPv4, classic        12  DIP(4) dport(2) wport(2)
 *   9       grant, IPv4, strict         12  VIP(4) vport(2) wport(2)
 *   10      grant, IPv6, classic        20  DIP(16)
 *   11      grant, strict, short         8  service tag(4); both IP versions
 *   12..15  the grants 8..11 with "repeat" (the server used a SYN cookie)
 *
 * The lowest bit of a request is the retry bit: the parity of how often this SYN was
 * retransmitted. A grant names the address that the packet's own header does not show; a short one
 * names the service by its tag, and the server is the packet's source. A classic IPv6 grant has no
 * port: the server's is the service's.
 *
 * Inside of a server, between its TC ingress and its sockops program, a request that ingress has
 * accepted reads 0x5D6_, with a token in place of its content's first word (host-bpf/judged.h). It
 * is never sent.
 *
 * This file is compiled into the balancer, the host programs, user space and the tests. It keeps
 * to <linux/types.h>, and to code that the BPF verifier can follow: the walk over the options
 * is a step function that BPF drives with bpf_loop() and user space with ss_opt_walk().
 */
#ifndef SIDESTEP_OPTION_H
#define SIDESTEP_OPTION_H

#include <linux/types.h>

#include "addr.h"

#define SS_OPT_KIND 253 /* RFC 4727, RFC 6994 */
#define SS_OPT_ARMED 0x5D50 /* high 12 bits of the ExID; the low nibble is the form */
#define SS_OPT_HELD 0x5D40
#define SS_OPT_JUDGED 0x5D60
#define SS_OPT_WORD_MASK 0xFFF0
#define SS_OPT_NOPS4 0x01010101 /* four no-operation options (RFC 9293, section 3.1) */
#define SS_TCP_OPTS_MAX 40 /* RFC 9293: data offset is 4 bits, in words */

enum ss_opt_form {
	SS_REQUEST4_SHORT = 0,
	SS_REQUEST4 = 2,
	SS_REQUEST6 = 4,
	SS_REQUEST6_SHORT = 6,
	SS_GRANT4_CLASSIC = 8,
	SS_GRANT4_STRICT = 9,
	SS_GRANT6_CLASSIC = 10,
	SS_GRANT_SHORT = 11,
};
#define SS_REQUEST_RETRY 1 /* lowest bit of a request's form */
#define SS_GRANT_REPEAT 4 /* added to a grant's form */
#define SS_GRANT_STRICT 1 /* lowest bit of a grant's form */

/* Sets of forms, a bit each, for "what may stand here". */
#define SS_FORMS_REQUEST4 0x000F
#define SS_FORMS_REQUEST6 0x00F0
#define SS_FORMS_GRANT4 0xBB00
#define SS_FORMS_GRANT6 0xCC00
#define SS_FORMS_SHORT_GRANT 0x8800

/*
 * Stands for an endpoint in 6 bytes, or 4: a mix of its address and port. No secret: it detects
 * address translation and accident, nothing else.
 */
struct ss_tag {
	__be32 first; /* all of it in the short forms */
	__be16 rest;
} __attribute__((packed));

struct ss_opt_head {
	__u8 kind;
	__u8 len;
	__be16 exid;
} __attribute__((packed));

struct ss_opt_request4_short {
	struct ss_opt_head head;
	__be32 vip;
} __attribute__((packed));

struct ss_opt_request4 {
	struct ss_opt_head head;
	__be32 vip;
	__be32 cip;
	__be16 vport;
	__be16 cport;
} __attribute__((packed));

struct ss_opt_request6 {
	struct ss_opt_head head;
	struct ss_tag service;
	struct ss_tag client;
	__be16 vport;
	__be16 cport;
} __attribute__((packed));

/* A service's tag alone: a short IPv6 request, a short grant, and the answer to a held request. */
struct ss_opt_tagged {
	struct ss_opt_head head;
	__be32 service; /* ss_tag.first */
} __attribute__((packed));

struct ss_opt_grant6 {
	struct ss_opt_head head;
	__be32 addr[4];
} __attribute__((packed));

struct ss_opt_grant4 {
	struct ss_opt_head head;
	__be32 addr;
	__be16 port;
	__be16 wport; /* reserved: 0 */
} __attribute__((packed));

_Static_assert(sizeof(struct ss_opt_head) == 4, "RFC 6994: kind, length, 16-bit ExID");
_Static_assert(sizeof(struct ss_opt_request4_short) == 8, "wire format");
_Static_assert(sizeof(struct ss_opt_request4) == 16, "wire format");
_Static_assert(sizeof(struct ss_opt_request6) == 20, "wire format");
_Static_assert(sizeof(struct ss_opt_tagged) == 8, "wire format");
_Static_assert(sizeof(struct ss_opt_grant6) == 20, "wire format");
_Static_assert(sizeof(struct ss_opt_grant4) == 12, "wire format");

#define SS_OPT_MAX_LEN sizeof(struct ss_opt_request6)

/* What a search for one of our options found. All but FOUND and ABSENT are malformed headers. */
enum ss_opt_result {
	SS_OPT_FOUND,
	SS_OPT_ABSENT,
	SS_OPT_NO_LENGTH, /* an option's length byte lies outside of the header */
	SS_OPT_TOO_SHORT, /* an option's length is below 2 (RFC 9293, section 3.1) */
	SS_OPT_OVERRUN, /* an option reaches outside of the header */
	SS_OPT_BAD_LENGTH, /* ours, but not as long as its form is */
};

/* A header's options and how far the search has come. */
struct ss_opt_cursor {
	__u8 opts[SS_TCP_OPTS_MAX +
		  SS_OPT_MAX_LEN]; /* behind the options: slack for the verifier */
	__u32 len; /* bytes of options: 0..40 */
	__u32 off; /* of the option to look at next; of ours once found */
	__u32 forms; /* wanted: a set of SS_FORMS_ */
	__u32 form; /* found: an ss_opt_form, retry and repeat bits included */
	__u32 word; /* found: SS_OPT_ARMED, SS_OPT_HELD or SS_OPT_JUDGED */
	__u32 result; /* an ss_opt_result */
};

/* Length in bytes of an option of @form (0..15). */
static inline __u32 ss_opt_len(__u32 form)
{
	if (form < SS_GRANT4_CLASSIC) {
		if ((form & 6) == SS_REQUEST4)
			return sizeof(struct ss_opt_request4);
		return (form & 6) == SS_REQUEST6 ? sizeof(struct ss_opt_request6)
						 : sizeof(struct ss_opt_tagged);
	}
	if (!(form & 2))
		return sizeof(struct ss_opt_grant4);
	return form & 1 ? sizeof(struct ss_opt_tagged) : sizeof(struct ss_opt_grant6);
}

/*
 * May an option be of this @word, and of @form? Requests have all three words; a grant is armed, and only
 * the short one may be held.
 */
static inline int ss_opt_word_fits(__u32 word, __u32 form)
{
	if (word == SS_OPT_ARMED)
		return 1;
	if (form < SS_GRANT4_CLASSIC)
		return word == SS_OPT_HELD || word == SS_OPT_JUDGED;
	return word == SS_OPT_HELD && SS_FORMS_SHORT_GRANT >> form & 1;
}

/*
 * Is the option whose first four bytes stand at @p one of ours, out of the set @forms?
 * Returns SS_OPT_FOUND with its form in *@form and its word in *@word, SS_OPT_ABSENT, or
 * SS_OPT_BAD_LENGTH for one of ours that has another length than its form. Always inlined: in the chain of
 * functions that searches a SYN-ACK, kernel 6.1 has no room on its stack for one more.
 */
static inline __attribute__((always_inline)) enum ss_opt_result
ss_opt_match(const __u8 *p, __u32 forms, __u32 *form, __u32 *word)
{
	__u32 exid = p[2] << 8 | p[3];

	if (p[0] != SS_OPT_KIND || !(forms >> (exid & 15) & 1) ||
	    !ss_opt_word_fits(exid & SS_OPT_WORD_MASK, exid & 15))
		return SS_OPT_ABSENT;
	if (p[1] != ss_opt_len(exid & 15))
		return SS_OPT_BAD_LENGTH;
	*form = exid & 15;
	*word = exid & SS_OPT_WORD_MASK;
	return SS_OPT_FOUND;
}

/*
 * One step of the walk over a TCP header's options (RFC 9293, section 3.1): looks at the option
 * at @c->off. Returns 0 to go on, 1 when @c->result says how the search ended. The signature is
 * that of a bpf_loop() callback; @i is not used.
 */
static inline long ss_opt_step(__u32 i, struct ss_opt_cursor *c)
{
	__u32 off = c->off, kind, len;

	(void)i;
	c->result = SS_OPT_ABSENT;
	if (off >= c->len || off >= SS_TCP_OPTS_MAX)
		return 1;
	kind = c->opts[off];
	if (kind == 0) /* end of option list */
		return 1;
	if (kind == 1) { /* no-operation */
		c->off = off + 1;
		return 0;
	}
	c->result = SS_OPT_NO_LENGTH;
	if (off + 1 >= c->len)
		return 1;
	len = c->opts[off + 1];
	c->result = SS_OPT_TOO_SHORT;
	if (len < 2)
		return 1;
	c->result = SS_OPT_OVERRUN;
	if (off + len > c->len)
		return 1;
	if (len >= sizeof(struct ss_opt_head)) {
		c->result = ss_opt_match(c->opts + off, c->forms, &c->form, &c->word);
		if (c->result != SS_OPT_ABSENT)
			return 1;
	}
	c->off = off + len;
	return 0;
}

/* Walks the options of @c from @c->off on. Returns what was found. For BPF: bpf_loop() instead. */
static inline enum ss_opt_result ss_opt_walk(struct ss_opt_cursor *c)
{
	for (__u32 i = 0; i <= SS_TCP_OPTS_MAX; i++)
		if (ss_opt_step(i, c))
			return c->result;
	return SS_OPT_ABSENT;
}

/* The head of an option of @form, whose ExID has the high bits @word. */
static inline struct ss_opt_head ss_opt_head(__u32 word, __u32 form)
{
	return (struct ss_opt_head){
		.kind = SS_OPT_KIND,
		.len = ss_opt_len(form),
		.exid = SS_BE16(word | form),
	};
}

/* The tag of @endpoint. The same on every host, whatever its byte order. */
static inline struct ss_tag ss_tag_of(const struct ss_endpoint *endpoint)
{
	__u64 mixed = SS_BE16(endpoint->port);

	for (int i = 0; i < 4; i++) {
		mixed = (mixed ^ SS_BE32(endpoint->addr.w[i])) * 0x9e3779b97f4a7c15ULL;
		mixed ^= mixed >> 32;
	}
	mixed *= 0xbf58476d1ce4e5b9ULL;
	return (struct ss_tag){ .first = SS_BE32((__u32)(mixed >> 32)),
				.rest = SS_BE16((__u16)(mixed >> 16)) };
}

static inline int ss_tag_equal(const struct ss_tag *a, const struct ss_tag *b)
{
	return a->first == b->first && a->rest == b->rest;
}

#endif
