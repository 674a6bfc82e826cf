/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What a server tells balancers of its load, on the wire: one UDP datagram for each balancer and
 * interval, taken in by the balancer's XDP program.
 *
 * A datagram is believed if its sender knew the key, is whom it names (and the packet's source is
 * that), and is later than the last one: nobody can forge, redirect or repeat one. What it says is for
 * everybody to read.
 */
#ifndef SIDESTEP_REPORT_H
#define SIDESTEP_REPORT_H

#include <linux/types.h>

#include "addr.h"

#define SS_REPORT_MAGIC SS_BE32(0x5d5d0001) /* a report, of this layout */
#define SS_REPORT_ENTRIES 32 /* at most, in one datagram */
#define SS_REPORT_LATE 3 /* intervals after which a report does not count any more */

/* One service of the sender; addresses and numbers in network byte order. */
struct ss_report_entry {
	struct ss_endpoint vip;
	__be16 listen; /* with the sender's address: where the balancer sends the service's SYNs */
	__u16 pad;
	__be32 open; /* connections */
	__u32 pad2;
};

/* The datagram: this, and 1 to SS_REPORT_ENTRIES entries. */
struct ss_report {
	__u64 mac; /* SipHash-2-4 of all that follows, little endian */
	__be32 magic;
	__be16 entries;
	__be16 interval; /* until the next report, in ms */
	__be64 time; /* of the sender, in ns; only the order matters */
	struct ss_addr from; /* the sender */
	struct ss_report_entry entry[];
};

#define SS_REPORT_MAX \
	(sizeof(struct ss_report) + SS_REPORT_ENTRIES * sizeof(struct ss_report_entry))

_Static_assert(sizeof(struct ss_report_entry) == 32, "ss_report_entry is part of the wire format");
_Static_assert(sizeof(struct ss_report) == 40, "ss_report is part of the wire format");

/* The length of a report with @entries. */
static inline __u32 ss_report_len(__u32 entries)
{
	return sizeof(struct ss_report) + entries * sizeof(struct ss_report_entry);
}

#endif
