/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Parsed -> does this SYN carry a request, and is it a retransmission (the retry bit)?
 *
 * The kernel writes BPF options last, so a request ends where the header ends: those bytes are
 * looked at first. Only where it is not there are the options walked, on a copy.
 */
#ifndef SIDESTEP_LB_REQUEST_H
#define SIDESTEP_LB_REQUEST_H

#include <sidestep/option.h>

#include "maps.h"
#include "parse.h"

/* Is an option of length @len out of @forms the last one of @p's TCP header? */
static __always_inline int request_at_tail(const struct packet *p, __u32 len, __u32 forms,
					   __u32 *form)
{
	__u32 offset = p->tcp->doff * 4 - len;
	void *opt;

	barrier_var(offset); /* one sum, or the verifier sees an offset before the header */
	if (offset < sizeof(struct tcphdr) || offset > sizeof(struct tcphdr) + SS_TCP_OPTS_MAX)
		return 0;
	opt = (void *)p->tcp + offset;
	if (opt + sizeof(struct ss_opt_head) > p->end)
		return 0;
	return ss_opt_match(opt, forms, form) == SS_OPT_FOUND && ss_opt_len(*form) == len;
}

/* Walks all of the SYN's options. Not inlined: the common SYN does not come here. */
static __noinline int request_walk(struct xdp_md *ctx, __u32 offset, __u32 len, __u32 forms)
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
	return c.result == SS_OPT_FOUND ? (int)c.form : -1;
}

/* The form of the request in the SYN @p, retry bit included; -1 if there is none. */
static __always_inline int request_find(struct xdp_md *ctx, const struct packet *p)
{
	__u32 form;

	if (!p->is_ip6) {
		if (request_at_tail(p, sizeof(struct ss_opt_request4), SS_FORMS_REQUEST4, &form))
			return form;
		if (request_at_tail(p, sizeof(struct ss_opt_request4_short), SS_FORMS_REQUEST4,
				    &form))
			return form;
	} else if (request_at_tail(p, sizeof(struct ss_opt_addr6), SS_FORMS_REQUEST6, &form)) {
		return form;
	}
	return request_walk(ctx, (void *)(p->tcp + 1) - (void *)(long)ctx->data,
			    p->tcp->doff * 4 - sizeof(struct tcphdr),
			    p->is_ip6 ? SS_FORMS_REQUEST6 : SS_FORMS_REQUEST4);
}

#endif
