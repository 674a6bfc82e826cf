/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The cases. Most run once for IPv4 and once for IPv6. */
#ifndef SIDESTEP_E2E_CASES_H
#define SIDESTEP_E2E_CASES_H

#include "talk.h"

#define E2E_CASES(X)                                                                          \
	X(bulk, "100 MB each way", BOTH)                                                      \
	X(parallel, "1000 connections at once", BOTH)                                         \
	X(client_half_closes, "the client closes its half", BOTH)                             \
	X(server_half_closes, "the server closes its half", BOTH)                             \
	X(server_resets, "the server resets", BOTH)                                           \
	X(data_after_close, "data for a closed socket is answered by a RST", BOTH)            \
	X(last_ack, "the last ACK comes from a TIME_WAIT socket", BOTH)                       \
	X(idle, "idle for 3 seconds, with and without keepalive", BOTH)                       \
	X(server_first, "the server speaks first", BOTH)                                      \
	X(names, "names of both ends", BOTH)                                                  \
	X(families, "mapped addresses and dual-stack listeners", BOTH)                        \
	X(collision, "two services, one 4-tuple at the server", BOTH)                         \
	X(syn_retried, "a retransmitted SYN reaches another server", BOTH)                    \
	X(balancer_stops, "the balancer stops during a transfer", BOTH)                       \
	X(balancer_lost, "the balancer's link goes down during a transfer", BOTH)             \
	X(backend_removed, "the backend is drained and removed during a transfer", BOTH)      \
	X(next_hop_other, "service and server lie behind different routers", BOTH)            \
	X(next_hop_moves, "the route to service and server changes", BOTH)                    \
	X(next_hop_parts, "the route to the server changes, that to the service stays", BOTH) \
	X(blocked_client_first, "no direct path, the client speaks first", BOTH)              \
	X(blocked_server_first, "no direct path, the server speaks first", BOTH)              \
	X(blocked_again, "no direct path, found out by another connection", BOTH)             \
	X(blocked_data, "a direct path that carries small packets only", BOTH)                \
	X(blocked_balancer, "the balancer path carries SYNs only", BOTH)                      \
	X(blocked_retry, "no direct path to the second choice", BOTH)                         \
	X(blocked_later, "the direct path fails during a transfer", BOTH)                     \
	X(path_mtu, "the way to the server is narrower than its links", BOTH)                 \
	X(no_host_programs, "a client without host programs", BOTH)                           \
	X(listener_first, "a server that listened before the programs were loaded", BOTH)     \
	X(adopted_callbacks, "a listener that was there first costs no calls for data", BOTH) \
	X(served_later, "a server that listened before its service was configured", BOTH)     \
	X(must_restart, "listeners that status shows as too old", BOTH)                       \
	X(not_served, "a service that the server is not configured for", BOTH)                \
	X(checksums, "checksums finished by the hosts, not left to the link", BOTH)           \
	X(out_of_range, "a grant outside of the client's backends", BOTH)                     \
	X(syn_cookie, "a server that answers with SYN cookies", BOTH)                         \
	X(host_up_again, "new configuration during a transfer", BOTH)                         \
	X(host_down_refused, "unloading while a connection needs the programs", BOTH)         \
	X(listener_stays, "programs are exchanged under a listening server", BOTH)            \
	X(other_programs, "other people's TC and cgroup programs", BOTH)                      \
	X(twice, "packets that meet the egress program twice", BOTH)                          \
	X(clsact, "programs attached by clsact", BOTH)                                        \
	X(other_xdp, "another program in the XDP dispatcher", ONCE)                           \
	X(loader_errors, "what the loader refuses", ONCE)
#define E2E_DECLARE(name, text, families) void case_##name(const struct family *family);
E2E_CASES(E2E_DECLARE)
#undef E2E_DECLARE

/* Says why a case cannot run here, and ends it. */
#define SKIP(why)                                          \
	do {                                               \
		print_message("[  SKIPPED ] %s\n", (why)); \
		skip();                                    \
	} while (0)

#endif
