/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What crosses the balancer's link: the proof of invariant I1.
 *
 * A packet socket on the router's port toward the balancer sees every packet of that link, in both
 * directions. Neighbour discovery, multicast and pings do not count; all else does.
 */
#ifndef SIDESTEP_E2E_CAPTURE_H
#define SIDESTEP_E2E_CAPTURE_H

struct crossing {
	unsigned syns_in; /* SYNs toward the balancer */
	unsigned syns_out; /* SYNs from the balancer */
	unsigned tcp_in; /* other TCP packets */
	unsigned tcp_out;
	unsigned other; /* IP, but neither TCP nor one of those that do not count */
};

void capture_begin(void);
void capture_end(void);

/* Forgets what has crossed so far. */
void capture_clear(void);

/*
 * What has crossed since capture_clear(). Waits up to a second for @expected (NULL: for nothing),
 * then until a ping to the balancer, sent last, has come back: what crosses is counted by then.
 */
struct crossing capture_settle(const struct crossing *expected);

/* Exactly @in SYNs went in and @out came out, and not one other packet crossed. */
void expect_crossing(unsigned in, unsigned out);

/* @syns SYNs of as many connections did, and all their other packets, both ways or from the client. */
void expect_through_balancer(unsigned syns);

#endif
