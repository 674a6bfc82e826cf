/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* A host's reports of its load, as balancers want them; and the files with keys on both sides. */
#ifndef SIDESTEP_LOADER_REPORT_H
#define SIDESTEP_LOADER_REPORT_H

#include <stdint.h>

#include <sidestep/report.h>
#include <sidestep/siphash.h>

#include "error.h"

/* The longest datagram. */
struct report_buf {
	union {
		struct ss_report report;
		uint64_t words[SS_REPORT_MAX / 8];
	};
};

/*
 * Finishes the report in @buf, whose first @entries entries are set: from the address @from, at @time
 * (ns), the next one to come after @interval ms. Returns its length.
 */
uint32_t report_finish(struct report_buf *buf, const struct ss_addr *from, unsigned entries,
		       uint64_t time, unsigned interval, const struct ss_sip_key *key);

/* "32 hexadecimal digits", with the ending 0. */
#define REPORT_KEY_TEXT_LEN 33

/* The key of one of a server's addresses. */
struct report_key {
	struct ss_addr from;
	struct ss_sip_key key;
};

/*
 * Balancer: reads the master key, 32 hexadecimal digits, out of the file @path, which nobody but its
 * owner may read. Returns 0 or a negative errno with @err set.
 */
int report_key_load(const char *path, struct ss_sip_key *out, struct error *err);

/*
 * Server: reads its keys out of the file @path, which nobody but its owner may read: lines of address and
 * key, as "sidestep report-key" prints them. A new array in *@out. Returns how many, or a negative errno
 * with @err set.
 */
int report_keys_load(const char *path, struct report_key **out, struct error *err);

/* @key as the files have it, into @buf (REPORT_KEY_TEXT_LEN bytes). Returns @buf. */
char *report_key_format(const struct ss_sip_key *key, char *buf);

#endif
