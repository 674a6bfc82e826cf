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
	__be32 tag; /* a short one's: of the service; names is not set then */
	__u32 offset; /* of the option in the frame */
	__u32 form; /* an ss_opt_form, repeat bit included */
	__u32 word; /* SS_OPT_ARMED, or SS_OPT_HELD: the answer to a request that was held */
};

static __always_inline int grant_is_short(const struct grant *grant)
{
	return SS_FORMS_SHORT_GRANT >> (grant->form & 15) & 1;
}

/* Reads the option at out->offset. Returns 1 with the rest of *@out set if it is a grant. */
static __always_inline int grant_read(struct __sk_buff *skb, const struct packet *p,
				      struct grant *out)
{
	__u32 forms = p->is_ip6 ? SS_FORMS_GRANT6 : SS_FORMS_GRANT4;
	union {
		struct ss_opt_tagged tagged;
		struct ss_opt_grant4 v4;
		struct ss_opt_grant6 v6;
	} grant = {};

	if (bpf_skb_load_bytes(skb, out->offset, &grant.tagged, sizeof(grant.tagged)) ||
	    ss_opt_match((const __u8 *)&grant, forms, &out->form, &out->word) != SS_OPT_FOUND)
		return 0;
	out->names.port = p->tcp->source;
	if (grant_is_short(out)) {
		out->tag = grant.tagged.service;
		return 1;
	}
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
	return 1;
}

/* The grant that begins @len bytes before the options end. Returns 1 with *@out set. */
static __always_inline int grant_before_end(struct __sk_buff *skb, const struct packet *p,
					    __u32 len, struct grant *out)
{
	if (p->tcp->doff * 4 < sizeof(struct tcphdr) + len)
		return 0;
	out->offset = p->l4 + p->tcp->doff * 4 - len;
	return grant_read(skb, p, out);
}

/* How much room our own kernel reserves for the longest grant, at the end of the options. */
static __always_inline __u32 grant_room(const struct packet *p)
{
	return p->is_ip6 ? sizeof(struct ss_opt_grant6) : sizeof(struct ss_opt_grant4);
}

/* The grant at the end of the options, where our own kernel writes it. Returns 1 with *@out set. */
static __noinline int grant_at_tail(struct __sk_buff *skb, const struct packet *p,
				    struct grant *out)
{
	return grant_before_end(skb, p, grant_room(p), out) ||
	       grant_before_end(skb, p, sizeof(struct ss_opt_tagged), out);
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

/* IPv4: the strict @grant in the packet becomes a classic one that names @dip. Returns 0, or an error. */
static __always_inline long grant_make_classic4(struct __sk_buff *skb, const struct packet *p,
						const struct grant *grant,
						const struct ss_endpoint *dip)
{
	struct ss_opt_head head = ss_opt_head(SS_OPT_ARMED, grant->form & ~SS_GRANT_STRICT);
	struct ss_opt_grant4 classic = { head, dip->addr.w[3], dip->port, 0 };
	__u32 len = __builtin_offsetof(struct ss_opt_grant4, wport); /* that stays */
	__u64 diff = ss_csum_diff_addr(&grant->names.addr, &dip->addr) +
		     ss_csum_diff16(SS_BE16(SS_OPT_ARMED | grant->form), head.exid) +
		     ss_csum_diff16(grant->names.port, dip->port);

	return bpf_skb_store_bytes(skb, grant->offset, &classic, len, 0) |
	       bpf_l4_csum_replace(skb, p->l4 + CHECK_OFFSET, 0,
				   ss_csum_at(diff, grant->offset - p->l4), 0);
}

/*
 * IPv6: our own kernel has written a short @grant, with NOPs behind it that are there for this. Returns 0,
 * 1 if there are none (then it stays strict), or another error.
 */
static __noinline long grant_make_classic6(struct __sk_buff *skb, const struct packet *p,
					   const struct grant *grant)
{
	struct ss_opt_grant6 old = {}, classic = {};
	struct ss_endpoint dip;
	__s64 diff;

	if (!p || !grant || bpf_skb_load_bytes(skb, grant->offset, &old, sizeof(old)))
		return 1;
	if (old.addr[1] != SS_OPT_NOPS4 || old.addr[2] != SS_OPT_NOPS4 ||
	    old.addr[3] != SS_OPT_NOPS4)
		return 1;
	dip = packet_source(p);
	classic.head = ss_opt_head(SS_OPT_ARMED, grant->form & ~SS_GRANT_STRICT);
	__builtin_memcpy(classic.addr, &dip.addr, sizeof(classic.addr));
	diff = bpf_csum_diff((__be32 *)&old, sizeof(old), (__be32 *)&classic, sizeof(classic), 0);
	if (diff < 0)
		return diff;
	return bpf_skb_store_bytes(skb, grant->offset, &classic, sizeof(classic), 0) |
	       bpf_l4_csum_replace(skb, p->l4 + CHECK_OFFSET, 0, diff, 0);
}

/* The source becomes @service, once the grant is changed; @err: whether that failed. */
static __always_inline void grant_source(struct __sk_buff *skb, struct packet *p, long err,
					 const struct ss_endpoint *service)
{
	struct ss_endpoint dip;

	if (err || !packet_headers(skb, p)) {
		count(SS_HOST_error_helper);
		return;
	}
	dip = packet_source(p);
	rewrite_from(skb, p, REWRITE_SOURCE, &dip, service);
}

/* The exchange in IPv4, for a strict @grant of @service. Ends @p's pointers. */
static __noinline void grant_exchange4(struct __sk_buff *skb, struct packet *p,
				       const struct grant *grant, const struct ss_endpoint *service)
{
	struct ss_endpoint dip = packet_source(p);

	if (service)
		grant_source(skb, p, grant_make_classic4(skb, p, grant, &dip), service);
}

/*
 * The same in IPv6, at the server: a grant that cannot become a classic one is left alone, and so is the
 * packet. Clients leave all short ones as they are.
 */
static __noinline void grant_exchange6(struct __sk_buff *skb, struct packet *p,
				       const struct grant *grant, const struct ss_endpoint *service)
{
	long err = grant_make_classic6(skb, p, grant);

	if (service && err != 1)
		grant_source(skb, p, err, service);
}

#endif
