/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Between steps 3 and 4: what TC ingress has found out about a request reaches the sockops program with the
 * packet itself, in the SYN that the kernel keeps.
 *
 * A server grants only what its own ingress has seen, in its own network namespace: there alone is it known
 * that the packet came by these programs, who sent it, and which socket it reaches. So ingress marks the
 * request that it accepts: another ExID, and in place of the content's first word the service's tag, under
 * a secret that changes with every client's address and port. Nobody else can write such a mark: not a
 * client, nor another namespace or container whose packets do not pass this ingress.
 */
#ifndef SIDESTEP_HOST_JUDGED_H
#define SIDESTEP_HOST_JUDGED_H

#include <sidestep/option.h>

#include "maps.h"
#include "request.h"

/* Random; set by user space before loading. */
const volatile __u64 judge_key;

/* What a mark for packets of @client is mixed with. */
static __always_inline __be32 judge_secret(const struct ss_endpoint *client)
{
	__u64 mixed = judge_key ^ ((__u64)client->addr.w[3] << 16 | client->port);

	for (int i = 0; i < 3; i++) {
		mixed = (mixed ^ client->addr.w[i]) * 0x9e3779b97f4a7c15ULL;
		mixed = (mixed ^ mixed >> 31) + judge_key;
	}
	mixed *= 0xbf58476d1ce4e5b9ULL;
	return mixed >> 32;
}

/* How the option begins that marks a request of @form, of @client for @vip, as accepted. */
static __always_inline struct ss_opt_tagged judge_mark(__u32 form, const struct ss_endpoint *client,
						       const struct ss_endpoint *vip)
{
	return (struct ss_opt_tagged){ .head = ss_opt_head(SS_OPT_JUDGED, form),
				       .service = ss_tag_of(vip).first ^ judge_secret(client) };
}

/* The service that the marked request in @c, of @client, was accepted for; NULL: it was not. */
static __always_inline const struct ss_endpoint *judge_service(const struct ss_opt_cursor *c,
							       const struct ss_endpoint *client)
{
	__u32 off = c->off;

	barrier_var(off);
	if (off > SS_TCP_OPTS_MAX)
		return NULL;
	return tag_service(((const struct ss_opt_tagged *)(c->opts + off))->service ^
			   judge_secret(client));
}

#endif
