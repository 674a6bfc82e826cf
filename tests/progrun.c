// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "progrun.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <cmocka.h>

#include "address.h"
#include "map_sync.h"

/* Linux 6.17: the kernel sums the packet before the program runs, and compares afterwards. */
#ifndef BPF_F_TEST_SKB_CHECKSUM_COMPLETE
#define BPF_F_TEST_SKB_CHECKSUM_COMPLETE (1U << 2)
#endif

#define COMPLAINTS_SHOWN 60

static unsigned failures;

void row_failed(const char *why, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (++failures <= COMPLAINTS_SHOWN)
		print_error("%s: %s\n", why, text);
}

void rows_done(void)
{
	unsigned n = failures;

	failures = 0;
	if (n)
		fail_msg("%u complaints", n);
}

void packet_case_build(struct packet_buf *p, const struct packet_case *c)
{
	unsigned base[] = { [AT_FRAME] = 0, [AT_IP] = 0, [AT_TCP] = 0 };

	packet_build(p, &c->spec);
	base[AT_IP] = p->l3;
	base[AT_TCP] = p->l4;
	if (c->poke.len)
		memcpy(p->bytes + base[c->poke.base] + c->poke.off, c->poke.bytes, c->poke.len);
	memset(p->bytes + p->len, 0xa5, c->padding);
	p->len += c->padding;
}

static int is_ipv4(const struct packet_buf *p)
{
	return p->bytes[p->l3] >> 4 == 4;
}

static void set_endpoint(struct packet_buf *p, const char *text, unsigned addr4, unsigned addr6,
			 unsigned port)
{
	struct ss_endpoint e = {};

	assert_int_equal(endpoint_parse(text, &e), 0);
	if (is_ipv4(p))
		memcpy(p->bytes + p->l3 + addr4, &e.addr.w[3], 4);
	else
		memcpy(p->bytes + p->l3 + addr6, &e.addr, 16);
	memcpy(p->bytes + p->l4 + port, &e.port, 2);
	packet_checksum(p);
}

void packet_set_src(struct packet_buf *p, const char *endpoint)
{
	set_endpoint(p, endpoint, 12, 8, 0);
}

void packet_set_dst(struct packet_buf *p, const char *endpoint)
{
	set_endpoint(p, endpoint, 16, 24, 2);
}

void packet_set_macs(struct packet_buf *p, const uint8_t to[6], const uint8_t from[6])
{
	memcpy(p->bytes, to, 6);
	memcpy(p->bytes + 6, from, 6);
}

unsigned packet_ip_end(const struct packet_buf *p)
{
	const uint8_t *l3 = p->bytes + p->l3;

	return p->l3 + (is_ipv4(p) ? l3[2] << 8 | l3[3] : 40 + (l3[4] << 8 | l3[5]));
}

/* Runs with @flags. Returns 0 or a negative errno. */
static int prog_run(int fd, const void *ctx, unsigned ctx_len, unsigned flags,
		    const struct packet_buf *in, struct packet_buf *out, unsigned *verdict)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in->bytes, .data_size_in = in->len,
		    .data_out = out->bytes, .data_size_out = sizeof(out->bytes), .ctx_in = ctx,
		    .ctx_size_in = ctx_len, .flags = flags);

	*out = (struct packet_buf){ .l3 = in->l3, .l4 = in->l4 };
	if (bpf_prog_test_run_opts(fd, &opts))
		return -errno;
	out->len = opts.data_size_out;
	*verdict = opts.retval;
	return 0;
}

unsigned xdp_run(int fd, unsigned ifindex, const struct packet_buf *in, struct packet_buf *out)
{
	struct xdp_md ctx = { .data_end = in->len, .ingress_ifindex = ifindex };
	unsigned verdict = 0;
	int err;

	err = prog_run(fd, ifindex ? &ctx : NULL, ifindex ? sizeof(ctx) : 0, 0, in, out, &verdict);
	if (err)
		fail_msg("BPF_PROG_TEST_RUN: %s", strerror(-err));
	return verdict;
}

unsigned tc_run(int fd, const struct packet_buf *in, struct packet_buf *out)
{
	unsigned verdict = 0;
	int err;

	err = prog_run(fd, NULL, 0, BPF_F_TEST_SKB_CHECKSUM_COMPLETE, in, out, &verdict);
	if (err == -EINVAL) /* an older kernel */
		err = prog_run(fd, NULL, 0, 0, in, out, &verdict);
	if (err)
		fail_msg("BPF_PROG_TEST_RUN: %s", strerror(-err));
	return verdict;
}

void watch_start(struct watch *w)
{
	assert_int_equal(map_counters_read(w->fd, w->before, w->n), 0);
}

void watch_expect(const struct watch *w, __u64 set, const char *why)
{
	__u64 now[WATCH_MAX];

	assert_int_equal(map_counters_read(w->fd, now, w->n), 0);
	for (unsigned i = 0; i < w->n; i++)
		if (now[i] - w->before[i] != (set >> i & 1))
			row_failed(why, "counter %s moved by %lld, not %lld", w->names[i],
				   now[i] - w->before[i], set >> i & 1);
}

void packet_expect(const struct packet_buf *want, const struct packet_buf *got, const char *why)
{
	if (got->len != want->len)
		row_failed(why, "%u bytes came out, not %u", got->len, want->len);
	for (unsigned i = 0; i < want->len; i++)
		if (got->bytes[i] != want->bytes[i]) {
			row_failed(why, "byte %u (IP%+d, TCP%+d) is %02x, not %02x", i,
				   (int)(i - want->l3), (int)(i - want->l4), got->bytes[i],
				   want->bytes[i]);
			return;
		}
}

void netns_private(void)
{
	if (unshare(CLONE_NEWNET))
		fail_msg("a new network namespace: %s", strerror(errno));
	shell("ip link set lo up");
}

void shell(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command))
		fail_msg("failed: %s", command);
}

unsigned cpu_pin(void)
{
	unsigned cpu = sched_getcpu();
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	assert_int_equal(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
	return cpu;
}
