/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Beside the connections: a server's report of its load (sidestep/report.h) is checked, and what it
 * says is kept by backend, where the schedulers find it.
 */
#ifndef SIDESTEP_LB_REPORT_H
#define SIDESTEP_LB_REPORT_H

#include <sidestep/report.h>

#include "maps.h"
#include "parse.h"

#define NSEC_PER_MSEC 1000000ULL
#define REPORT_WORDS (SS_REPORT_MAX / 8)

enum report_result {
	REPORT_TAKEN,
	REPORT_MALFORMED,
	REPORT_FORGED,
	REPORT_WRONG_SOURCE,
	REPORT_UNTIMELY,
	REPORT_OLD,
	REPORT_UNKNOWN,
};

/* A report on its way through the loops below; @words has room for the longest. */
struct report_walk {
	struct ss_sip sip;
	const __u64 *words;
	struct ss_sip_key key; /* the sender's */
	__u64 now; /* CLOCK_MONOTONIC_COARSE in ns */
	__u64 clock; /* UTC in ns */
	__u32 len;
	__u32 taken; /* entries */
	__u32 old;
};

static long report_sip_step(__u32 i, struct report_walk *w)
{
	i++; /* the first word is the MAC itself */
	if (i >= w->len / 8)
		return 1;
	barrier_var(i);
	if (i >= REPORT_WORDS)
		return 1;
	ss_sip_word(&w->sip, w->words[i]);
	return 0;
}

/* Does the MAC at the beginning of the report belong to the rest of it? */
static __always_inline int report_is_genuine(struct report_walk *w)
{
	w->sip = ss_sip_begin(&w->key);
	bpf_loop(REPORT_WORDS, report_sip_step, w, 0);
	return ss_sip_end(&w->sip, w->len - 8) == ss_sip_le64(w->words[0]);
}

/* The load record of the backend that @entry is about; NULL if there is no such backend. */
static __always_inline struct ss_lb_load *report_load(const struct ss_report *report,
						      const struct ss_report_entry *entry)
{
	struct ss_lb_reporter key = {
		.vip = entry->vip,
		.backend = { .addr = report->from, .port = entry->listen },
	};
	__u32 *id;

	key.vip.protocol = 0;
	id = bpf_map_lookup_elem(&reporters, &key);
	return id ? bpf_map_lookup_elem(&loads, id) : NULL;
}

/* Is @time not SS_REPORT_CLOCK or more off the balancer's clock? */
static __always_inline int report_is_timely(const struct report_walk *w, __u64 time)
{
	return time - (w->clock - SS_REPORT_CLOCK) < 2 * SS_REPORT_CLOCK;
}

static long report_entry_step(__u32 i, struct report_walk *w)
{
	const struct ss_report *report = (const void *)w->words;
	const struct ss_report_entry *entry;
	struct ss_lb_load *load;
	__u64 time = SS_BE64(report->time);

	if (i >= SS_BE16(report->entries))
		return 1;
	barrier_var(i);
	if (i >= SS_REPORT_ENTRIES)
		return 1;
	entry = &report->entry[i];
	load = report_load(report, entry);
	if (!load)
		return 0;
	/* A time that could not come today is of a day when the balancer's own clock was wrong. */
	if (time <= load->time && load->time < w->clock + SS_REPORT_CLOCK) {
		w->old++;
		return 0;
	}
	load->time = time;
	load->fresh_until = w->now + SS_BE16(report->interval) * (SS_REPORT_LATE * NSEC_PER_MSEC);
	load->open = SS_BE32(entry->open);
	load->sent = 0;
	w->taken++;
	return 0;
}

/* The report of @len bytes in @w->words, from the source of @p. */
static __always_inline enum report_result report_read(const struct packet *p, struct report_walk *w,
						      const struct ss_lb_report_rules *rules)
{
	const struct ss_report *report = (const void *)w->words;
	struct ss_addr source;

	if (report->magic != SS_REPORT_MAGIC || w->len != ss_report_len(SS_BE16(report->entries)))
		return REPORT_MALFORMED;
	if (p->is_ip6)
		__builtin_memcpy(&source, &p->ip6->saddr, sizeof(source));
	else
		source = ss_addr_v4(p->ip4->saddr);
	if (!ss_addr_equal(&source, &report->from))
		return REPORT_WRONG_SOURCE;
	w->key = ss_report_key(&rules->key, &source);
	if (!report_is_genuine(w))
		return REPORT_FORGED;
	/* TAI, as it follows the wall clock when that is set; the time since boot does not. */
	w->clock = bpf_ktime_get_tai_ns() - rules->tai_ahead;
	if (!report_is_timely(w, SS_BE64(report->time)))
		return REPORT_UNTIMELY;
	w->now = bpf_ktime_get_coarse_ns();
	bpf_loop(SS_REPORT_ENTRIES, report_entry_step, w, 0);
	if (w->old)
		return REPORT_OLD;
	return w->taken ? REPORT_TAKEN : REPORT_UNKNOWN;
}

/* Is the UDP packet @p a report? */
static __always_inline int is_report(const struct packet *p)
{
	__u32 zero = 0;
	struct ss_lb_report_rules *rules = bpf_map_lookup_elem(&report_rules, &zero);

	return rules && rules->port && p->dst.port == rules->port &&
	       bpf_map_lookup_elem(&report_to, &p->dst.addr);
}

/* What becomes of the report @p? */
static __always_inline enum report_result report_take(struct xdp_md *ctx, const struct packet *p)
{
	struct report_walk w = {};
	struct ss_lb_report_rules *rules;
	__u32 zero = 0, len;

	rules = bpf_map_lookup_elem(&report_rules, &zero);
	w.words = bpf_map_lookup_elem(&report_copy, &zero);
	if (!rules || !w.words)
		return REPORT_MALFORMED;
	len = SS_BE16(p->udp->len) - sizeof(struct udphdr);
	barrier_var(len); /* kernel 6.1 learns no bounds from a combined comparison */
	if (len > SS_REPORT_MAX)
		return REPORT_MALFORMED;
	barrier_var(len);
	if (len < sizeof(struct ss_report) + sizeof(struct ss_report_entry))
		return REPORT_MALFORMED;
	w.len = len;
	if (bpf_xdp_load_bytes(ctx, (void *)(p->udp + 1) - (void *)(long)ctx->data, (void *)w.words,
			       len))
		return REPORT_MALFORMED;
	return report_read(p, &w, rules);
}

#endif
