/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A request in a SYN's options: found, and read. Both who sees the SYN first (ingress, step 3) and
 * who answers it (sockops, step 4) need it.
 */
#ifndef SIDESTEP_HOST_REQUEST_H
#define SIDESTEP_HOST_REQUEST_H

#include <bpf/bpf_helpers.h>

#include <sidestep/addr.h>
#include <sidestep/option.h>

#include "maps.h"

/* What a request says, together with its packet. */
struct request {
	struct ss_endpoint vip; /* the service that was dialled */
	struct ss_endpoint client; /* who dialled it, as the client knows itself */
	int names_client; /* 0: the request does not say, and client is the packet's source */
};

/* Is the last option of @c's header, @len bytes long, out of c->forms? Then c->off is its place. */
static __always_inline int option_at_tail(struct ss_opt_cursor *c, __u32 len)
{
	__u32 off = c->len - len;

	barrier_var(off);
	if (off > SS_TCP_OPTS_MAX)
		return 0;
	c->off = off;
	return ss_opt_match(c->opts + off, c->forms, &c->form) == SS_OPT_FOUND &&
	       ss_opt_len(c->form) == len;
}

/* Is a request the last option of @c's header (opts and len are set)? Then c->off is its place. */
static __always_inline int request_at_tail(struct ss_opt_cursor *c, int ipv4)
{
	c->forms = ipv4 ? SS_FORMS_REQUEST4 : SS_FORMS_REQUEST6;
	if (!ipv4)
		return option_at_tail(c, sizeof(struct ss_opt_addr6));
	return option_at_tail(c, sizeof(struct ss_opt_request4)) ||
	       option_at_tail(c, sizeof(struct ss_opt_request4_short));
}

/*
 * Finds a request in the options of @c (opts and len are set). The kernel writes BPF options last,
 * so the header's tail is looked at first, and the options are walked only if it is not there.
 */
static __always_inline enum ss_opt_result request_find(struct ss_opt_cursor *c, int ipv4)
{
	if (c->len < sizeof(struct ss_opt_head) || c->len > SS_TCP_OPTS_MAX)
		return SS_OPT_ABSENT;
	if (request_at_tail(c, ipv4))
		return SS_OPT_FOUND;
	c->off = 0;
	bpf_loop(SS_TCP_OPTS_MAX + 1, ss_opt_step, c, 0);
	return c->result;
}

/*
 * Reads the request that request_find() found. What the short forms leave out is as in the packet:
 * @source and @dport. If a balancer changed the port, the one that was dialled follows from it; 0 if
 * it does not.
 */
static __always_inline void request_read(const struct ss_opt_cursor *c,
					 const struct ss_endpoint *source, __be16 dport,
					 struct request *out)
{
	__u32 off = c->off, *vport;
	const __u8 *opt;

	barrier_var(off);
	if (off > SS_TCP_OPTS_MAX)
		return;
	opt = c->opts + off;
	out->client = *source;
	out->vip.port = dport;
	if ((c->form & ~SS_REQUEST_RETRY) == SS_REQUEST6) {
		const struct ss_opt_addr6 *request = (const void *)opt;

		__builtin_memcpy(&out->vip.addr, request->addr, sizeof(out->vip.addr));
		return;
	}
	out->vip.addr = ss_addr_v4(((const struct ss_opt_request4_short *)opt)->vip);
	if ((c->form & ~SS_REQUEST_RETRY) == SS_REQUEST4) {
		const struct ss_opt_request4 *request = (const void *)opt;

		out->vip.port = request->vport;
		out->client.addr = ss_addr_v4(request->cip);
		out->client.port = request->cport;
		out->names_client = 1;
		return;
	}
	vport = bpf_map_lookup_elem(&serve_ports, &out->vip);
	if (vport)
		out->vip.port = *vport;
}

/*
 * May @addr, a balancer's, be a SYN's source instead of the client's? A function of its own: kernel
 * 6.1 has no room for its key on the stack of the sockops program.
 */
static __noinline int source_is_trusted(const struct ss_addr *addr)
{
	return prefix_covers(&trusted, addr);
}

#endif
