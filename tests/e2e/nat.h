/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A balancer that is not ours: nftables rules on lb, in place of our XDP program. It translates the
 * addresses of the services "one" to those of s1.
 */
#ifndef SIDESTEP_E2E_NAT_H
#define SIDESTEP_E2E_NAT_H

#include "talk.h"

enum nat {
	NAT_DESTINATION, /* by conntrack: the destination; replies do not come back through lb */
	NAT_BOTH, /* by conntrack: source as well, with another port */
	NAT_STATELESS, /* both, without conntrack and with the same port; IPv4 */
};

/* Unloads our balancer and puts @nat for @family there. Counters and capture start anew. */
void nat_begin(const struct family *family, enum nat nat);

/* Our balancer again, whatever has become of the other. */
void nat_end(void);

/* It forgets all connections. */
void nat_flush(void);

/* It forwards nothing any more. */
void nat_stop(void);

#endif
