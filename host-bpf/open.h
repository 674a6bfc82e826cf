/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 8 to the end: how many connections each service has open on this host.
 *
 * A connection counts from being established until its socket is closed, at the service and port of
 * its own state, so that a changed configuration in between makes no difference. The state says that
 * it is counted: neither a program that runs twice while it is exchanged, nor a socket that was
 * there before the programs, can be counted twice or taken off without having been added.
 */
#ifndef SIDESTEP_HOST_OPEN_H
#define SIDESTEP_HOST_OPEN_H

#include "maps.h"

/* This processor's share of the count of @conn's service; NULL: there is no room for it. */
static __always_inline struct ss_open *open_of(const struct ss_conn *conn)
{
	struct ss_served_at key = { .vip = conn->wire, .listen = conn->flow.local.port };
	struct ss_open *open = bpf_map_lookup_elem(&open_conns, &key), none = {};

	if (open)
		return open;
	(void)bpf_map_update_elem(&open_conns, &key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&open_conns, &key);
}

/* The server's connection @conn is established; its service is in conn->wire. */
static __noinline void open_add(struct ss_conn *conn)
{
	const struct ss_serve *served;
	struct ss_endpoint vip;
	struct ss_open *open;

	if (!conn || conn->counted)
		return;
	vip = conn->wire;
	served = bpf_map_lookup_elem(&serve, &vip);
	if (!served || !ss_serve_listens(served, conn->flow.local.port))
		return;
	open = open_of(conn);
	if (!open) {
		count(SS_HOST_error_map);
		return;
	}
	open->open++;
	open->accepted++;
	conn->counted = 1;
}

/* The socket of @conn is closed. */
static __noinline void open_remove(struct ss_conn *conn)
{
	struct ss_open *open;

	if (!conn || !conn->counted)
		return;
	open = open_of(conn);
	if (open)
		open->open--;
	conn->counted = 0;
}

#endif
