/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * For packet-in/packet-out tests: runs a BPF program over a packet, and compares the packet that
 * comes out, and the counters that moved, with what a table's row wants. A row that is not
 * satisfied is reported, and the test goes on with the next one: rows_done() is what fails.
 */
#ifndef SIDESTEP_TEST_PROGRUN_H
#define SIDESTEP_TEST_PROGRUN_H

#include <stdint.h>

#include <linux/types.h>

#include "packet.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* Bytes that are changed after a packet was built: what packet_build() would not write. */
struct poke {
	enum { AT_FRAME, AT_IP, AT_TCP } base;
	unsigned off; /* from the base */
	const char *bytes;
	unsigned len;
};
#define POKE(at, offset, s)                       \
	{                                         \
		AT_##at, offset, s, sizeof(s) - 1 \
	}

/* A packet of a table's row. */
struct packet_case {
	struct packet_spec spec;
	struct poke poke;
	unsigned padding; /* bytes behind the IP packet, as short Ethernet frames have */
};

void packet_case_build(struct packet_buf *p, const struct packet_case *c);

/* Replaces the destination or source, and computes the checksums anew. */
void packet_set_dst(struct packet_buf *p, const char *endpoint);
void packet_set_src(struct packet_buf *p, const char *endpoint);

/* Replaces the MAC addresses: of the next hop, and of the interface that leads there. */
void packet_set_macs(struct packet_buf *p, const uint8_t to[6], const uint8_t from[6]);

/* The length of the frame without padding. */
unsigned packet_ip_end(const struct packet_buf *p);

/*
 * Each runs the program @fd over @in by BPF_PROG_TEST_RUN, and returns its verdict and the packet
 * in *@out. xdp_run(): as if it came in by the interface @ifindex; 0: by "lo". tc_run(): with a
 * known sum over the packet (CHECKSUM_COMPLETE), which must still be right afterwards.
 */
unsigned xdp_run(int fd, unsigned ifindex, const struct packet_buf *in, struct packet_buf *out);
unsigned tc_run(int fd, const struct packet_buf *in, struct packet_buf *out);

/* An array of counters and what it held when it was last looked at. */
#define WATCH_MAX 64
struct watch {
	int fd;
	unsigned n;
	const char *const *names;
	__u64 before[WATCH_MAX];
};

void watch_start(struct watch *w);

/* Complains unless exactly the counters of @set (a bit each) moved, each by one. */
void watch_expect(const struct watch *w, __u64 set, const char *why);

/* Complains unless @got is @want, byte for byte. */
void packet_expect(const struct packet_buf *want, const struct packet_buf *got, const char *why);

/* A row that is not satisfied: @why names it, the rest says how (printf format). */
void row_failed(const char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Ends a test over a table: fails if a row failed. */
void rows_done(void);

/* This process gets a network namespace of its own, with "lo" up, which goes with it. */
void netns_private(void);

/* Runs a shell command (printf format); fails the test if it fails. */
void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* This process stays on one processor from now on. Returns which. */
unsigned cpu_pin(void);

#endif
