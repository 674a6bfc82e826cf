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

/* Whom a request names as its client, beside its packet's source. */
enum request_client {
	CLIENT_SAME, /* that source */
	CLIENT_OTHER, /* something on the way has changed it */
	CLIENT_UNNAMED, /* nobody: it is too short */
};

/* What a request says, together with its packet. */
struct request {
	struct ss_endpoint vip; /* the service that was dialled; port 0: it cannot be told */
	struct ss_endpoint
		client; /* who dialled it, as the client knows itself; IPv6: only if same */
	enum request_client names;
};

/* Is the last option of @c's header, @len bytes long, out of c->forms? Then c->off is its place. */
static __always_inline int option_at_tail(struct ss_opt_cursor *c, __u32 len)
{
	__u32 off = c->len - len;

	barrier_var(off);
	if (off > SS_TCP_OPTS_MAX)
		return 0;
	c->off = off;
	return ss_opt_match(c->opts + off, c->forms, &c->form, &c->word) == SS_OPT_FOUND &&
	       ss_opt_len(c->form) == len;
}

/* Is there a request where our own kernel writes it: at the end of @c's options (opts and len are set)? */
static __always_inline int request_at_tail(struct ss_opt_cursor *c, int ipv4)
{
	c->forms = ipv4 ? SS_FORMS_REQUEST4 : SS_FORMS_REQUEST6;
	return option_at_tail(c, ipv4 ? sizeof(struct ss_opt_request4)
				      : sizeof(struct ss_opt_request6)) ||
	       option_at_tail(c, sizeof(struct ss_opt_tagged));
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

/* The service of this host whose tag begins with @first; NULL if there is none. */
static __always_inline const struct ss_endpoint *tag_service(__be32 first)
{
	return bpf_map_lookup_elem(&serve_tags, &first);
}

static __always_inline void request_read4(const struct ss_opt_cursor *c, const __u8 *opt,
					  const struct ss_endpoint *source, struct request *out)
{
	const struct ss_opt_request4 *full = (const void *)opt;
	struct ss_endpoint short_of = { ss_addr_v4(full->vip), out->vip.port, 0 };
	__u32 *vport;

	out->vip.addr = short_of.addr;
	if ((c->form & ~SS_REQUEST_RETRY) == SS_REQUEST4) {
		out->vip.port = full->vport;
		out->client.addr = ss_addr_v4(full->cip);
		out->client.port = full->cport;
		out->names = ss_endpoint_equal(&out->client, source) ? CLIENT_SAME : CLIENT_OTHER;
		return;
	}
	/* kernel 6.1 takes no key from @out */
	vport = bpf_map_lookup_elem(&serve_ports, &short_of);
	if (vport)
		out->vip.port = *vport;
}

static __always_inline void request_read6(const struct ss_opt_cursor *c, const __u8 *opt,
					  const struct ss_endpoint *source, struct request *out)
{
	const struct ss_opt_request6 *full = (const void *)opt;
	const struct ss_endpoint *vip = tag_service(full->service.first);
	struct ss_tag tag;

	out->vip.port = 0;
	if (!vip)
		return;
	out->vip = *vip;
	if ((c->form & ~SS_REQUEST_RETRY) != SS_REQUEST6)
		return;
	tag = ss_tag_of(vip);
	if (!ss_tag_equal(&tag, &full->service) || full->vport != vip->port)
		out->vip.port = 0;
	tag = ss_tag_of(source);
	out->names = ss_tag_equal(&tag, &full->client) && full->cport == source->port
			     ? CLIENT_SAME
			     : CLIENT_OTHER;
}

/*
 * Reads the request that request_find() found. What the short forms leave out is as in the packet:
 * @source and @dport. If a balancer changed the port, the one that was dialled follows from it; 0 if
 * it does not. IPv6: 0 if the service is none of this host's. A global function: the verifier looks at it
 * once, and its cases do not multiply what comes behind it.
 */
__noinline int request_read(const struct ss_opt_cursor *c, const struct ss_endpoint *source,
			    __be16 dport, struct request *out)
{
	__u32 off;

	if (!c || !source || !out)
		return -1;
	off = c->off;
	barrier_var(off);
	if (off > SS_TCP_OPTS_MAX)
		return -1;
	out->client = *source;
	out->names = CLIENT_UNNAMED;
	out->vip.port = dport;
	if ((c->form & ~1) < SS_REQUEST6)
		request_read4(c, c->opts + off, source, out);
	else
		request_read6(c, c->opts + off, source, out);
	return 0;
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
