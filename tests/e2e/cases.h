/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The cases. Most run for IPv4 and for IPv6, each with classic and with strict replies. */
#ifndef SIDESTEP_E2E_CASES_H
#define SIDESTEP_E2E_CASES_H

#include "talk.h"

#define E2E_CASES(X)                                                                              \
	X(bulk, "100 MB each way", ALL)                                                           \
	X(big_packets, "40 MB each way in packets of more than 64 kB", ALL)                       \
	X(parallel, "1000 connections at once", ALL)                                              \
	X(client_half_closes, "the client closes its half", ALL)                                  \
	X(server_half_closes, "the server closes its half", ALL)                                  \
	X(server_resets, "the server resets", ALL)                                                \
	X(data_after_close, "data for a closed socket is answered by a RST", ALL)                 \
	X(last_ack, "the last ACK comes from a TIME_WAIT socket", ALL)                            \
	X(endings, "connections that end badly", ALL)                                             \
	X(port_again, "a restarted client uses the same port", ALL)                               \
	X(fin_again, "a FIN is sent again, into TIME_WAIT", ALL)                                  \
	X(idle, "idle for 3 seconds, with and without keepalive", ALL)                            \
	X(server_first, "the server speaks first", ALL)                                           \
	X(refused, "nobody listens on the server's port", ALL)                                    \
	X(rejected, "the server's firewall rejects the connection", ALL)                          \
	X(names, "names of both ends", ALL)                                                       \
	X(families, "mapped addresses and dual-stack listeners", ALL)                             \
	X(collision, "two services, one 4-tuple at the server", ALL)                              \
	X(collision_refused, "the same, and no other server for the second", ALL)                 \
	X(collision_direct, "a direct connection with the 4-tuple of a redirected one", ALL)      \
	X(collision_reverse, "a redirected connection with the 4-tuple of a direct one", ALL)     \
	X(collision_many, "10000 connections to two services on the same servers", ALL)           \
	X(syn_retried, "a retransmitted SYN reaches another server", ALL)                         \
	X(balancer_stops, "the balancer stops during a transfer", ALL)                            \
	X(balancer_lost, "the balancer's link goes down during a transfer", ALL)                  \
	X(backend_removed, "the backend is drained and removed during a transfer", ALL)           \
	X(next_hop_other, "service and server lie behind different routers", ALL)                 \
	X(next_hop_moves, "the route to service and server changes", ALL)                         \
	X(next_hop_parts, "the route to the server changes, that to the service stays", ALL)      \
	X(next_hop_mac, "the routers' MAC addresses change", ALL)                                 \
	X(next_hop_mac_same, "the router's MAC address changes", ALL)                             \
	X(next_hop_stale, "the router's neighbour entry gets stale, and lost", ALL)               \
	X(next_hop_interface, "service and server are reached by two interfaces", ALL)            \
	X(next_hop_given, "the same, and the socket is bound to one, or marked", ALL)             \
	X(self, "a server that dials its own service", ALL)                                       \
	X(self_only, "the only server of a service dials it", ALL)                                \
	X(blocked_client_first, "no direct path, the client speaks first", ALL)                   \
	X(blocked_server_first, "no direct path, the server speaks first", ALL)                   \
	X(blocked_again, "no direct path, found out by another connection", ALL)                  \
	X(blocked_data, "a direct path that carries small packets only", ALL)                     \
	X(blocked_balancer, "the balancer path carries SYNs only", ALL)                           \
	X(blocked_retry, "no direct path to the second choice", ALL)                              \
	X(blocked_wrapped, "no direct path, and a balancer that encapsulates", ALL)               \
	X(blocked_cookie, "no direct path to a server that answers with SYN cookies", ALL)        \
	X(blocked_later, "the direct path fails during a transfer", ALL)                          \
	X(half_seen, "a firewall that sees half of a handshake", ALL)                             \
	X(half_seen_server_first, "the same, and the server speaks first", ALL)                   \
	X(path_mtu, "the way to the server is narrower than its links", ALL)                      \
	X(path_mtu_server, "the way to the client is narrower than its links", ALL)               \
	X(path_mtu_across, "the same, and the server is of the other IP version", CLASSIC)        \
	X(path_mtu_nat, "narrow ways, and a balancer that translates addresses", CLASSIC)         \
	X(path_mtu_forgotten, "the same, and other connections have taken the hints", ALL)        \
	X(firewall, "a stateful firewall on client and server", ALL)                              \
	X(own_source, "a network that drops spoofed sources", ALL)                                \
	X(strict_life, "what a client knows of strict replies goes in time", STRICT)              \
	X(strict_reused, "a port with strict replies is used anew", STRICT)                       \
	X(strict_full, "no room for strict replies", STRICT)                                      \
	X(fast_open, "TCP Fast Open", ALL)                                                        \
	X(fast_open_refused, "a Fast Open cookie that is not valid any more", ONLY_IPV4)          \
	X(fast_open_lost, "the SYN-ACK to data in a SYN is lost", ONLY_IPV4)                      \
	X(fast_open_ambiguous, "a SYN with data that two services could mean", ONLY_IPV4)         \
	X(fast_open_closed, "the server closes before the client has acknowledged anything",      \
	  ONLY_IPV4)                                                                              \
	X(fast_open_plain, "TCP Fast Open without host programs, encapsulated", ALL)              \
	X(mptcp, "Multipath TCP with more addresses of both sides", ONLY_IPV4)                    \
	X(mptcp_client, "a client alone speaks Multipath TCP", ONLY_IPV4)                         \
	X(mptcp_server, "a server alone speaks Multipath TCP", ALL)                               \
	X(md5_direct, "TCP MD5 to the server's own address", ALL)                                 \
	X(md5_service, "TCP MD5 to a service whose address the server has", ALL)                  \
	X(nat_destination, "a balancer that translates the destination", ALL)                     \
	X(nat_both, "a balancer that translates source and destination", ALL)                     \
	X(nat_plain, "such a balancer, and a client without host programs", ALL)                  \
	X(nat_untrusted, "such a balancer that is not trusted", ONCE)                             \
	X(nat_old_listener, "such a balancer, and a listener that cannot grant", ALL)             \
	X(nat_fast_open, "such a balancer, and TCP Fast Open", ONCE)                              \
	X(request_stripped, "a middlebox removes requests", ALL)                                  \
	X(request_dropped, "a middlebox drops what carries a request", ALL)                       \
	X(impatient, "the same, and applications that give up early", ALL)                        \
	X(syns_lost, "the first two SYNs are lost", ALL)                                          \
	X(request_reflected, "a middlebox reflects requests", ALL)                                \
	X(grant_stripped, "a middlebox removes grants", ALL)                                      \
	X(grant_lost, "the same, and a balancer that knows nothing of the connection", ONCE)      \
	X(grant_lost_reset, "the same, and a server that knows nothing of it", ONCE)              \
	X(nat_blocked, "such a balancer, and no direct path", ONCE)                               \
	X(options_moved, "our options before those of others", ALL)                               \
	X(options_crowded, "other experimental options beside ours", ALL)                         \
	X(no_host_programs, "a client without host programs", ALL)                                \
	X(plain_ipip, "clients that do not ask, by IP in IP", ALL)                                \
	X(across_ipip, "IPv4 clients in IPv6 and back, by IP in IP", ALL)                         \
	X(across_gue, "IPv4 clients in IPv6 and back, by Generic UDP Encapsulation", ALL)         \
	X(across_unknown, "the same, to a server that does not expect it", ONCE)                  \
	X(plain_nat, "servers without host programs, by address translation", ALL)                \
	X(nat_redirected, "the balancer translates addresses, the server has host programs", ALL) \
	X(ping, "a ping to a service's address", ALL)                                             \
	X(no_backend, "no backend is up, and clients learn it", CLASSIC)                          \
	X(no_service, "packets for a service's address, but for no service", CLASSIC)             \
	X(fragments, "fragments for a service's address", CLASSIC)                                \
	X(backends_change, "backends come, drain and go under load", ALL)                         \
	X(drained, "a drained backend's connections are counted", ALL)                            \
	X(held, "a backend that does not answer gets no more connections", ALL)                   \
	X(syn_limit, "more SYNs than a source prefix may send", ALL)                              \
	X(held_container, "a client in a container whose address is translated", ALL)             \
	X(held_router, "a router translates the client's address", ALL)                           \
	X(held_translated, "the client's host translates its ports", ALL)                         \
	X(held_egress, "the client's egress program is not reached", ALL)                         \
	X(held_ingress, "the server's ingress program is not reached", ALL)                       \
	X(held_blind, "the client's ingress program is not reached", ALL)                         \
	X(held_server_egress, "the server's egress program is not reached", ALL)                  \
	X(held_published, "a container's published port", ALL)                                    \
	X(held_listener, "a listener outside of the programs' cgroup", ALL)                       \
	X(held_clients, "a balancer that names a client it may not", ONLY_IPV4)                   \
	X(held_pretender, "a local user is client and server in a namespace of his own", ALL)     \
	X(plain_gue, "clients that do not ask, by Generic UDP Encapsulation", ALL)                \
	X(listener_first, "a server that listened before the programs were loaded", ALL)          \
	X(adopted_callbacks, "a listener that was there first costs no calls for data", ALL)      \
	X(served_later, "a server that listened before its service was configured", ALL)          \
	X(must_restart, "listeners that status shows as too old", ALL)                            \
	X(not_served, "a service that the server is not configured for", ALL)                     \
	X(checksums, "checksums finished by the hosts, not left to the link", ALL)                \
	X(out_of_range, "a grant outside of the client's backends", ALL)                          \
	X(forged_grants, "grants that no server gave", ALL)                                       \
	X(forged_again, "a SYN-ACK again, with other numbers", ALL)                               \
	X(forged_requests, "requests that no client made", ALL)                                   \
	X(forged_syn, "a SYN in the name of a client, which dials then", ALL)                     \
	X(syn_cookie, "a server that answers with SYN cookies", ALL)                              \
	X(cookie_ack_lost, "SYN cookies, and the third ACK is lost", ALL)                         \
	X(cookie_retried, "SYN cookies, and the first SYN is lost", ALL)                          \
	X(cookie_plain, "SYN cookies for somebody who dials the server itself", ALL)              \
	X(cookie_stripped, "SYN cookies, and requests are removed behind the SYN", ALL)           \
	X(cookie_dropped, "SYN cookies, and requests behind the SYN are dropped", ALL)            \
	X(cookie_refused, "SYN cookies, and a grant outside of the client's backends", ALL)       \
	X(cookie_flood, "connections during a SYN flood", ALL)                                    \
	X(open_counted, "open connections are counted", ALL)                                      \
	X(open_plain, "those of no service are not", ALL)                                         \
	X(open_configured, "they are, while the configuration changes", ALL)                      \
	X(open_twice, "and while a program runs twice", ALL)                                      \
	X(open_unaccepted, "and if nobody accepts them", ALL)                                     \
	X(open_many, "and all of 100000", ONCE)                                                   \
	X(open_second_port, "a server that listens on a second port", ONLY_IPV4)                  \
	X(open_reported, "they are reported to the balancer", ALL)                                \
	X(open_forged, "reports with another key are not believed", ONCE)                         \
	X(load_skewed, "connections that take very different times", ONCE)                        \
	X(udp_ipip, "UDP services, by ipip", CLASSIC)                                             \
	X(udp_gue, "UDP services, by gue", CLASSIC)                                               \
	X(udp_across, "UDP services, servers of the other IP version", CLASSIC)                   \
	X(udp_change, "backends drain and go, UDP flows go on", CLASSIC)                          \
	X(udp_quic, "a QUIC client that changes its address", CLASSIC)                            \
	X(udp_and_tcp, "UDP and TCP of one service, from one port", CLASSIC)                      \
	X(host_up_again, "new configuration during a transfer", ALL)                              \
	X(host_down_refused, "unloading while a connection needs the programs", ALL)              \
	X(listener_stays, "programs are exchanged under a listening server", ALL)                 \
	X(other_programs, "other people's TC and cgroup programs", ALL)                           \
	X(twice, "packets that meet the egress program twice", ALL)                               \
	X(clsact, "programs attached by clsact", ALL)                                             \
	X(other_xdp, "another program in the XDP dispatcher", ONCE)                               \
	X(rules_whole, "rules are replaced as a whole, or not at all", ONCE)                      \
	X(interface_anew, "an interface is removed and made anew", ONCE)                          \
	X(balancer_anew, "the same on the balancer", ONCE)                                        \
	X(qdisc_gone, "somebody removes the qdisc that our filters are in", ONCE)                 \
	X(cgroup_anew, "the cgroup is removed and made anew", ONCE)                               \
	X(sockops_exclusive, "a sockops program that lets no other one in", ONCE)                 \
	X(tcx_first, "other people's TCX programs end the chain", ALL)                            \
	X(clsact_first, "other people's filters end the chain", ALL)                              \
	X(private_mounts, "a command with mounts of its own", ONCE)                               \
	X(prepared_folders, "folders and locks that somebody else has prepared", ONCE)            \
	X(usage, "mistakes on the command line", ONCE)                                            \
	X(xdp_modes, "a driver that refuses XDP, and generic mode", ONCE)                         \
	X(next_hop_kept, "the balancer's kernel forwards nothing", CLASSIC)                       \
	X(backend_itself, "a backend that is the balancer itself, by nat", CLASSIC)               \
	X(second_arm, "servers behind an interface that takes no frames from XDP", ONCE)          \
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
