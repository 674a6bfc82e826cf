/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The grant in a SYN-ACK that passes by, and the exchange of steps 5 and 6: the packet's source and
 * the address in a strict grant change places, so that the source is the service and the grant, a
 * classic one, names the server.
 *
 * At a classic server's egress that makes the packets of the wire, at the client's ingress what
 * the kernel is to see of a strict server; from there on both kinds look alike.
 */
#ifndef SIDESTEP_HOST_GRANT_H
#define SIDESTEP_HOST_GRANT_H

#include <sidestep/option.h>

#include "packet.h"
#include "rewrite.h"

/* A grant as a packet carries it. */
struct grant {
	struct ss_endpoint
		names; /* the service, or the server; IPv6: with the packet's source port */
	__u32 offset; /* of the option in the frame */
	__u32 form; /* an ss_opt_form, repeat bit included */
};

/* Reads the option at out->offset. Returns 1 with the rest of *@out set if it is a grant. */
static __always_inline int grant_read(struct __sk_buff *skb, const struct packet *p,
				      struct grant *out)
{
	union {
		struct ss_opt_grant4 v4;
		struct ss_opt_addr6 v6;
	} grant = {};
	__u32 forms = p->is_ip6 ? SS_FORMS_GRANT6 : SS_FORMS_GRANT4;

	out->names.port = p->tcp->source;
	if (p->is_ip6) {
		if (bpf_skb_load_bytes(skb, out->offset, &grant.v6, sizeof(grant.v6)))
			return 0;
		__builtin_memcpy(&out->names.addr, grant.v6.addr, sizeof(out->names.addr));
	} else {
		if (bpf_skb_load_bytes(skb, out->offset, &grant.v4, sizeof(grant.v4)))
			return 0;
		out->names.addr = ss_addr_v4(grant.v4.addr);
		out->names.port = grant.v4.port;
	}
	return ss_opt_match((const __u8 *)&grant, forms, &out->form) == SS_OPT_FOUND;
}

/* The grant at the end of the options, where our own kernel writes it. Returns 1 with *@out set. */
static __always_inline int grant_at_tail(struct __sk_buff *skb, const struct packet *p,
					 struct grant *out)
{
	__u32 len = p->is_ip6 ? sizeof(struct ss_opt_addr6) : sizeof(struct ss_opt_grant4);

	if (p->tcp->doff * 4 < sizeof(struct tcphdr) + len)
		return 0;
	out->offset = p->l4 + p->tcp->doff * 4 - len;
	return grant_read(skb, p, out);
}

/*
 * Where is the grant, if not at the tail? A middlebox may have moved it. Returns 1 with out->offset
 * set; reading it is left to the caller.
 */
static __noinline int grant_walk(struct __sk_buff *skb, const struct packet *p, struct grant *out)
{
	struct ss_opt_cursor c = {};

	if (!packet_options(skb, p, &c))
		return 0;
	c.forms = p->is_ip6 ? SS_FORMS_GRANT6 : SS_FORMS_GRANT4;
	bpf_loop(SS_TCP_OPTS_MAX + 1, ss_opt_step, &c, 0);
	if (c.result != SS_OPT_FOUND)
		return 0;
	out->offset = p->l4 + sizeof(struct tcphdr) + c.off;
	return 1;
}

/*
 * What a change of bytes adds to the sum over the TCP segment, given what it adds if the bytes
 * stand at an even offset (RFC 1071, section 2, part B).
 */
static __always_inline __u32 csum_at(__u64 diff, __u32 offset)
{
	__u16 sum = ~ss_csum_fold(diff);

	return offset & 1 ? (__u16)__builtin_bswap16(sum) : sum;
}

/* The exchange, for a strict @grant. Ends @p's pointers. */
static __noinline void grant_exchange(struct __sk_buff *skb, struct packet *p,
				      const struct grant *grant)
{
	struct ss_endpoint dip = packet_source(p);
	struct ss_opt_head head = ss_opt_head(grant->form & ~SS_GRANT_STRICT);
	__u64 addr = ss_csum_diff_addr(&dip.addr, &grant->names.addr);
	__u64 opt = ss_csum_diff_addr(&grant->names.addr, &dip.addr) +
		    ss_csum_diff16(SS_BE16(SS_OPT_EXID | grant->form), head.exid);
	__u32 check = p->l4 + CHECK_OFFSET;
	long err;

	if (p->is_ip6) {
		struct ss_opt_addr6 classic = { .head = head };

		__builtin_memcpy(classic.addr, &dip.addr, sizeof(classic.addr));
		err = bpf_skb_store_bytes(skb, grant->offset, &classic, sizeof(classic), 0);
	} else {
		struct ss_opt_grant4 classic = { head, dip.addr.w[3], dip.port, 0 };
		__u32 len = __builtin_offsetof(struct ss_opt_grant4, wport); /* that stays */

		opt += ss_csum_diff16(grant->names.port, dip.port);
		err = bpf_skb_store_bytes(skb, grant->offset, &classic, len, 0);
	}
	err |= bpf_l4_csum_replace(skb, check, 0, csum_at(opt, grant->offset - p->l4), 0);
	if (err || !packet_headers(skb, p)) {
		count(SS_HOST_error_helper);
		return;
	}
	rewrite(skb, p, REWRITE_SOURCE, &grant->names, ss_csum_to32(addr));
}

#endif
