/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Parsed -> does this SYN carry a request, is it a retransmission (the retry bit), and may it be granted?
 *
 * A request that names another client than the packet's source has met an address translation on its way:
 * what a server would send to that client might not reach it. So it is held from here on, and names
 * the source that was seen here, so that a server can tell whether anything behind this balancer has changed it.
 *
 * The kernel writes BPF options last, so a request ends where the header ends: those bytes are
 * looked at first. Only where it is not there are the options walked, on a copy.
 */
#ifndef SIDESTEP_LB_REQUEST_H
#define SIDESTEP_LB_REQUEST_H

#include <sidestep/csum.h>
#include <sidestep/option.h>

#include "maps.h"
#include "parse.h"
#include "pick.h"

/* A request, as a SYN carries it. */
struct request {
	__u32 form; /* retry bit included */
	__u32 word; /* SS_OPT_ARMED or SS_OPT_HELD */
	__u32 offset; /* of the option, from the TCP header */
};

/* Is an option of length @len out of @forms the last one of @p's TCP header? */
static __always_inline int request_at_tail(const struct packet *p, __u32 len, __u32 forms,
					   struct request *out)
{
	__u32 offset = p->tcp->doff * 4 - len;
	void *opt;

	barrier_var(offset); /* one sum, or the verifier sees an offset before the header */
	if (offset < sizeof(struct tcphdr) || offset > sizeof(struct tcphdr) + SS_TCP_OPTS_MAX)
		return 0;
	opt = (void *)p->tcp + offset;
	if (opt + sizeof(struct ss_opt_head) > p->end)
		return 0;
	out->offset = offset;
	return ss_opt_match(opt, forms, &out->form, &out->word) == SS_OPT_FOUND &&
	       ss_opt_len(out->form) == len;
}

/*
 * Walks all of the SYN's options. Not inlined: the common SYN does not come here. Returns form, word and offset
 * in one number, or -1.
 */
__noinline int request_walk(struct xdp_md *ctx, __u32 offset, __u32 len, __u32 forms)
{
	struct ss_opt_cursor c = {
		.len = len,
		.forms = forms,
	};

	if (len > SS_TCP_OPTS_MAX)
		return -1;
	barrier_var(len); /* two comparisons: kernel 6.1 learns no bound from a combined one */
	if (len < sizeof(struct ss_opt_head))
		return -1;
	if (bpf_xdp_load_bytes(ctx, offset, c.opts, len)) {
		count(SS_LB_error_helper);
		return -1;
	}
	bpf_loop(SS_TCP_OPTS_MAX + 1, ss_opt_step, &c, 0);
	if (c.result != SS_OPT_FOUND)
		return -1;
	return (c.off & 63) << 16 | c.word | c.form;
}

/* The request in the SYN @p, into *@out. Returns 0 if there is none. */
static __always_inline int request_find(struct xdp_md *ctx, const struct packet *p,
					struct request *out)
{
	__u32 forms = p->is_ip6 ? SS_FORMS_REQUEST6 : SS_FORMS_REQUEST4;
	int found;

	if (p->is_ip6 ? request_at_tail(p, sizeof(struct ss_opt_request6), forms, out)
		      : request_at_tail(p, sizeof(struct ss_opt_request4), forms, out))
		return 1;
	if (request_at_tail(p, sizeof(struct ss_opt_tagged), forms, out))
		return 1;
	found = request_walk(ctx, (void *)(p->tcp + 1) - (void *)(long)ctx->data,
			     p->tcp->doff * 4 - sizeof(struct tcphdr), forms);
	if (found < 0)
		return 0;
	out->form = found & 15;
	out->word = found & SS_OPT_WORD_MASK;
	out->offset = (found >> 16) + sizeof(struct tcphdr);
	return 1;
}

/* The bytes of @request, @len of them; NULL if the packet ends before that. */
static __always_inline void *request_bytes(const struct packet *p, const struct request *request,
					   __u32 len)
{
	__u32 offset = request->offset;
	void *opt;

	barrier_var(offset);
	if (offset < sizeof(struct tcphdr) || offset > sizeof(struct tcphdr) + SS_TCP_OPTS_MAX)
		return NULL;
	opt = (void *)p->tcp + offset;
	return opt + len > p->end ? NULL : opt;
}

static __always_inline int request_is_short(const struct request *request)
{
	return ss_opt_len(request->form) == sizeof(struct ss_opt_tagged);
}

/* Is the client that the full IPv4 @request names the source of @p? */
static __always_inline int request_names_source4(const struct packet *p,
						 const struct request *request)
{
	const struct ss_opt_request4 *opt = request_bytes(p, request, sizeof(*opt));

	return opt && opt->cport == p->tcp->source && opt->cip == p->ip4->saddr;
}

/* The same for any request, which may name none. */
static __always_inline int request_names_source(const struct packet *p,
						const struct request *request)
{
	const struct ss_opt_request6 *opt;
	struct ss_endpoint source;
	struct ss_tag tag;

	if (request_is_short(request))
		return 1;
	if (!p->is_ip6)
		return request_names_source4(p, request);
	opt = request_bytes(p, request, sizeof(*opt));
	source = packet_source(p);
	tag = ss_tag_of(&source);
	return opt && opt->cport == source.port && ss_tag_equal(&opt->client, &tag);
}

/* The request changes by @sum. It stands at an odd offset if something on the way has moved it. */
static __always_inline void request_checksum(struct packet *p, const struct request *request,
					     __u64 sum)
{
	p->tcp->check = ss_csum_apply(p->tcp->check, ss_csum_at(sum, request->offset));
}

/* The client that @request names becomes the source of @p. Returns what that adds to a sum. */
static __always_inline __u64 request_rename(struct packet *p, const struct request *request)
{
	struct ss_endpoint source = packet_source(p);
	__u64 sum = 0;

	if (request_is_short(request))
		return 0;
	if (p->is_ip6) {
		struct ss_opt_request6 *opt = request_bytes(p, request, sizeof(*opt));
		struct ss_tag tag = ss_tag_of(&source);

		if (!opt)
			return 0;
		sum = ss_csum_diff32(opt->client.first, tag.first) +
		      ss_csum_diff16(opt->client.rest, tag.rest) +
		      ss_csum_diff16(opt->cport, source.port);
		opt->client = tag;
		opt->cport = source.port;
	} else {
		struct ss_opt_request4 *opt = request_bytes(p, request, sizeof(*opt));

		if (!opt)
			return 0;
		sum = ss_csum_diff32(opt->cip, source.addr.w[3]) +
		      ss_csum_diff16(opt->cport, source.port);
		opt->cip = source.addr.w[3];
		opt->cport = source.port;
	}
	return sum;
}

/* The @request of @p must not be granted: it says so from now on, and names the source that @p has here. */
static __noinline int request_hold(struct packet *p, const struct request *request)
{
	struct ss_opt_head *head;
	__be16 held;
	__u64 sum;

	if (!p || !request)
		return 0;
	held = SS_BE16(SS_OPT_HELD | request->form);
	sum = request_rename(p, request);
	head = request_bytes(p, request, sizeof(*head));
	if (!head)
		return 0;
	sum += ss_csum_diff16(head->exid, held);
	head->exid = held;
	request_checksum(p, request, sum);
	return 1;
}

/*
 * The short @request of @p goes: NOPs take its place. The server could not tell that the source it sees is not
 * the client that was meant.
 */
static __noinline int request_erase(struct packet *p, const struct request *request)
{
	__be32 *words;

	if (!p || !request)
		return 0;
	words = request_bytes(p, request, sizeof(struct ss_opt_tagged));
	if (!words)
		return 0;
	request_checksum(p, request,
			 ss_csum_diff32(words[0], SS_OPT_NOPS4) +
				 ss_csum_diff32(words[1], SS_OPT_NOPS4));
	words[0] = SS_OPT_NOPS4;
	words[1] = SS_OPT_NOPS4;
	return 1;
}

#endif
