/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Every counter of the host programs and of the balancer: name and help text, once.
 *
 * BPF programs take the enums from these lists, user space the names and the help texts that
 * `sidestep host status` and `sidestep balancer status` show. One counter a reason: whenever a
 * connection is not redirected or a packet is not forwarded, exactly one of them tells why.
 */
#ifndef SIDESTEP_COUNTERS_H
#define SIDESTEP_COUNTERS_H

/* clang-format off */
#define SS_HOST_COUNTERS(X)                                                                        \
	X(client_asked,           "connections whose SYN left with a request that may be granted")  \
	X(client_direct,          "connections that run directly to their server: their first packet has left so") \
	X(client_held,            "not redirected: the balancer or the server took the request back")                  \
	X(client_unseen,          "not redirected: the SYN did not pass this host's egress program")                    \
	X(client_no_ingress,      "not redirected: what arrives by this interface does not pass the ingress program")   \
	X(client_translated,      "not redirected: this host translates the connection's addresses or ports")           \
	X(client_other_netns,     "not redirected: the socket is in another network namespace (a container)")           \
	X(client_no_room,         "not redirected: no room for a request in the SYN")              \
	X(client_signed,          "not redirected: TCP MD5 or TCP-AO signs the addresses")                 \
	X(client_gave_up,         "not redirected: no answer to two SYNs with a request")          \
	X(client_no_grant,        "not redirected: the SYN-ACK carried no grant")                  \
	X(client_bad_grant,       "not redirected: the grant was malformed")                       \
	X(client_out_of_range,    "not redirected: the grant points outside of the backends")      \
	X(client_dialled_plainly, "not redirected: the service was dialled without a request, which got lost a moment ago") \
	X(client_state_full,      "not redirected: no memory for the connection's state")          \
	X(client_backend_blocked, "not redirected: the server was not reachable directly a moment ago") \
	X(client_blocked,         "back on the balancer path: the direct path carried nothing (included in client_direct)") \
	X(client_unblocked,       "on the direct path after all: the balancer path carried nothing either") \
	X(client_blocked_retry,   "the direct path carries nothing, but only the first choice is reached through the balancer (included in client_direct)") \
	X(client_cut_off,         "nothing was carried on any path: the service is dialled plainly for a minute (included in the above)") \
	X(dial_unanswered,        "dials given up without any answer to their request; after two, the service is dialled plainly for a minute") \
	X(server_direct,          "connections that were granted to come directly")                \
	X(server_cookie_direct,   "after a SYN cookie: the client repeated its request (included in server_direct)") \
	X(server_held,            "connections that stay on the balancer path: the client or the balancer holds the request, or it did not pass this host's ingress program") \
	X(server_elsewhere,       "SYNs for a service whose port no socket of this network namespace listens on (a container's published port?)") \
	X(server_plain,           "connections that stay on the balancer path: the client did not ask") \
	X(server_no_room,         "not granted: no room for a grant in the SYN-ACK")               \
	X(server_not_served,      "not granted: the request names a service not served here")      \
	X(server_source_mismatch, "not granted: the request names another client than its packet") \
	X(server_source_changed,  "not granted: a trusted balancer changed the source, and the SYN cannot say or have it restored") \
	X(server_port_mismatch,   "not granted: the SYN reached another port than the service's")  \
	X(server_bad_request,     "not granted: the request was malformed")                        \
	X(server_state_full,      "not granted: no memory for the connection's state")             \
	X(syn_restored,           "SYNs whose client address or port was restored")                \
	X(syn_not_restored,       "SYNs left with a trusted balancer's address: their SYN-ACK cannot carry a grant")               \
	X(syn_client_refused,     "SYNs left with a trusted balancer's address: the client is not inside of the clients configured") \
	X(syn_not_served,         "SYNs whose request names a service not served here")            \
	X(syn_ambiguous,          "SYNs dropped: too short to say which of several services on one port they want; the next one says") \
	X(syn_old_listener,       "SYNs for a server that listened before the programs were loaded: it cannot grant") \
	X(syn_untrusted,          "SYNs whose source differs from the request's, not from a trusted balancer") \
	X(syn_collision,          "SYNs dropped: a connection of another service has the same addresses and ports") \
	X(syn_refused,            "SYNs answered with a RST: no other server will get them (included in syn_collision)") \
	X(wrapped_untrusted,      "packets for a service that were not unwrapped: not from a trusted balancer") \
	X(wrapped_no_address,     "packets for a service, wrapped in the other IP version: not unwrapped, no address") \
	X(syn_sent_on,            "SYNs of this host's own that the balancer gave back to it, sent on to another server") \
	X(syn_own_dropped,        "SYNs of this host's own that came back again, dropped: the service has no other server") \
	X(synack_dropped,         "dropped: SYN-ACK from a backend's own address without a usable grant, for a connection that asked") \
	X(cookie_no_request,      "connections after a SYN cookie that came without a request: plain ones, or it was removed on the way") \
	X(late_rewritten,         "packets without a socket that were rewritten")                  \
	X(reset_refused,          "RSTs that a server sent in its own name: nobody listens there, the connection is refused") \
	X(reset_restored,         "RSTs that a server sent in its own name, after it had forgotten the connection") \
	X(udp_unwrapped,          "UDP packets for a service, unwrapped")                          \
	X(udp_answered,           "UDP packets that left as the service's")                       \
	X(icmp_translated,        "ICMP errors about redirected packets, translated")              \
	X(next_hop_probed,        "times a connection looked for its server's next hop")           \
	X(error_map,              "BPF map operations that failed")                                \
	X(error_helper,           "BPF helpers that failed")

#define SS_LB_COUNTERS(X)                                                                          \
	X(syn_forwarded,        "SYNs sent to a backend")                                          \
	X(syn_plain,            "SYNs without a request, sent by the service's method (included in syn_forwarded)") \
	X(syn_held,             "SYNs whose request may not be granted: the client holds it, or something on the way has changed the source") \
	X(syn_retried,          "SYNs sent to a second choice, being retransmissions (included in syn_forwarded)") \
	X(syn_diverted,         "SYNs sent to another backend than the scheduler's, which was held or in its slow start (included in syn_forwarded)") \
	X(backend_held,         "times that a backend was held: too many SYNs came again")         \
	X(other_forwarded,      "other packets sent to the backend that the hash names")           \
	X(udp_forwarded,        "UDP packets sent to a backend")                                   \
	X(quic_routed,          "UDP packets whose QUIC connection id named their backend (included in udp_forwarded)") \
	X(icmp_forwarded,       "ICMP errors about a service's packet, sent to the backend that the hash names") \
	X(nat_returned,         "packets of servers, sent to clients as the service's")            \
	X(echo_answered,        "echo requests to a service's address, answered")                 \
	X(answered_reset,       "RSTs sent to clients (what they answer is counted as dropped, too)") \
	X(answered_unreachable, "ICMP errors \"destination unreachable\" sent (what they answer is counted as dropped, too)") \
	X(answered_too_big,     "ICMP errors \"fragmentation needed\" and \"packet too big\" sent (what they answer is counted as dropped, too)") \
	X(answer_limited,       "RSTs and ICMP errors not sent: there were too many") \
	X(report_taken,         "servers' reports of their load that were taken in")                \
	X(stack_forwarded,      "packets left to the kernel to forward: next hop not resolved (included in the above)") \
	X(drop_no_request,      "dropped: SYN without a request, and the service's method is rewrite")                                  \
	X(drop_no_state,        "dropped: not a SYN (or an ICMP error), and the service's scheduler is not a hash") \
	X(drop_syn_limit,       "dropped: SYN, and its source prefix has sent as many as it may")  \
	X(drop_no_port,         "dropped: SYN, and no port of the balancer's address is free for its server") \
	X(drop_no_backend,      "dropped: no backend is up")                                       \
	X(drop_no_service,      "dropped: for a service's address, but for none of its services")  \
	X(drop_no_route,        "dropped: no route to the backend")                                \
	X(drop_no_forwarding,   "dropped: IP forwarding is off on the interface")                  \
	X(drop_ttl,             "dropped: TTL or hop limit used up")                               \
	X(drop_too_big,         "dropped: larger than the way to the backend takes, with the outer headers of ipip or gue") \
	X(drop_short,           "dropped: packet ends within its headers")                         \
	X(drop_bad_ip,          "dropped: malformed IP header")                                    \
	X(drop_bad_tcp,         "dropped: malformed TCP header of a service's packet")             \
	X(drop_bad_udp,         "dropped: malformed UDP header of a service's packet")             \
	X(drop_fragment,        "dropped: IP fragment for a service's address")                    \
	X(fragment_passed,      "IP fragments for a service's address, left to the kernel as configured") \
	X(report_malformed,     "dropped: a report of another length or layout than stated")       \
	X(report_forged,        "dropped: a report that was not made with its sender's key")       \
	X(report_wrong_source,  "dropped: a report from another address than it names")            \
	X(report_untimely,      "dropped: a report whose time is 60 s or more off the balancer's")     \
	X(report_old,           "dropped: a report that was not later than the last one")          \
	X(report_unknown,       "dropped: a report from a host that is no backend of the services it names") \
	X(error_map,            "BPF map operations that failed")                                  \
	X(error_helper,         "BPF helpers that failed")
/* clang-format on */

#define SS_HOST_ENUM(name, help) SS_HOST_##name,
enum ss_host_counter { SS_HOST_COUNTERS(SS_HOST_ENUM) SS_HOST_COUNTER_MAX };
#undef SS_HOST_ENUM

#define SS_LB_ENUM(name, help) SS_LB_##name,
enum ss_lb_counter { SS_LB_COUNTERS(SS_LB_ENUM) SS_LB_COUNTER_MAX };
#undef SS_LB_ENUM

#endif
