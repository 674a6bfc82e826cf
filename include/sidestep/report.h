/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What a server tells balancers of its load, on the wire: one UDP datagram for each balancer and
 * interval, taken in by the balancer's XDP program.
 *
 * A datagram is believed if its sender knew its key, is whom it names (and the packet's source is
 * that), its time is about the balancer's, and later than the last one's: nobody can forge, redirect or
 * repeat one. What it says is for everybody to read.
 *
 * Each sender has a key of its own, so that a server that is broken into can lie about itself only.
 * It is made from the balancers' master key and the sender's address (ss_report_key()): a balancer keeps no
 * list of keys.
 */
#ifndef SIDESTEP_REPORT_H
#define SIDESTEP_REPORT_H

#include <linux/types.h>

#include "addr.h"
#include "siphash.h"

#define SS_REPORT_MAGIC SS_BE32(0x5d5d0002) /* a report, of this layout */
#define SS_REPORT_ENTRIES 32 /* at most, in one datagram */
#define SS_REPORT_CLOCK 60000000000ULL /* ns that the clocks of sender and balancer may differ */
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
	__be64 time; /* of the sender: UTC, in ns since 1970 */
	struct ss_addr from; /* the sender */
	struct ss_report_entry entry[];
};

#define SS_REPORT_MAX \
	(sizeof(struct ss_report) + SS_REPORT_ENTRIES * sizeof(struct ss_report_entry))

_Static_assert(sizeof(struct ss_report_entry) == 32, "ss_report_entry is part of the wire format");
_Static_assert(sizeof(struct ss_report) == 40, "ss_report is part of the wire format");

/* Half of a sender's key: SipHash-2-4 by @master of the sender's address @from and of @half (0, 1). */
static inline __u64 ss_report_key_half(const struct ss_sip_key *master, const struct ss_addr *from,
				       __u64 half)
{
	struct ss_sip sip = ss_sip_begin(master);
	__u64 word[2];

	__builtin_memcpy(word, from, sizeof(word));
	ss_sip_word(&sip, word[0]);
	ss_sip_word(&sip, word[1]);
	ss_sip_word(&sip, ss_sip_le64(half));
	return ss_sip_end(&sip, sizeof(word) + sizeof(half));
}

/* The key of the sender whose address is @from, 16 bytes as in a packet; IPv4 as in struct ss_addr. */
static inline struct ss_sip_key ss_report_key(const struct ss_sip_key *master,
					      const struct ss_addr *from)
{
	return (struct ss_sip_key){ { ss_report_key_half(master, from, 0),
				      ss_report_key_half(master, from, 1) } };
}

/* The length of a report with @entries. */
static inline __u32 ss_report_len(__u32 entries)
{
	return sizeof(struct ss_report) + entries * sizeof(struct ss_report_entry);
}

#endif
