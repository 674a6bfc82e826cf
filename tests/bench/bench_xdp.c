// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Nanoseconds per packet of the balancer's XDP program, by BPF_PROG_TEST_RUN: an empty program, a
 * redirected SYN from 1, 64 k and 1 M different flows, IPv4 and IPv6, by Maglev and round robin,
 * from 64 k by the other schedulers, and packets of connections that the balancer keeps forwarding
 * (1 M are more than its flow table holds), by all methods, or by their hash alone.
 *
 * Keys that begin with "veth" are of live frames: they leave by one end of a veth pair, and the other
 * end's program drops them, all on the same processor.
 *
 * All variants run in turn within a round, pinned to one processor; the figure is the median over the
 * rounds. Prints JSON: key -> {median, min, max, rounds}.
 */
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <jansson.h>

#include <sidestep/option.h>

#include "address.h"
#include "bench.h"
#include "bench.skel.h"
#include "figure.h"
#include "lb_apply.h"
#include "../lb_skel.h"
#include "../packet.h"

#define ROUNDS_MAX 99
#define BACKENDS 100
#define SERVICES 19

/* One thing to time. */
struct variant {
	const char *key;
	const char *src, *dst;
	unsigned flows; /* a power of two; 0: the empty program */
	const char *flags; /* NULL: a SYN with a request */
	bool live;
	const char *begin; /* flags of what makes the connections known; NULL: the same packet */
	double ns[ROUNDS_MAX];
	double wrapper_ns[ROUNDS_MAX];
};

#define CLIENT4 "10.0.1.2:1"
#define CLIENT6 "[fd00::1]:1"
#define MAGLEV4 "10.99.0.1:80"
#define MAGLEV6 "[fd00:99::1]:80"
#define ROUND_ROBIN4 "10.99.0.1:81"
#define ROUND_ROBIN6 "[fd00:99::1]:81"
/* Services with connections that stay on the balancer. */
#define STAYING4 "10.99.0.1:84"
#define STAYING6 "[fd00:99::1]:84"
#define IPIP4 "10.99.0.1:82"
#define GUE4 "10.99.0.1:83"
#define RANDOM4 "10.99.0.1:85"
#define RANDOM6 "[fd00:99::1]:85"
#define SOURCE4 "10.99.0.1:86"
#define SOURCE6 "[fd00:99::1]:86"
#define LEAST4 "10.99.0.1:87"
#define LEAST6 "[fd00:99::1]:87"
#define POWER4 "10.99.0.1:88"
#define POWER6 "[fd00:99::1]:88"
#define NAT4 "10.99.0.1:89"
#define HASHED4 "10.99.0.1:90" /* without a flow table */
#define HASHED6 "[fd00:99::1]:90"
#define FLOWS_64K (1 << 16)
#define FLOWS_1M (1 << 20)
#define KNOWING 4 /* packets of each flow before its packets are timed */
#define LIVE_PART 8 /* so many times fewer live frames */

static struct variant variants[] = {
	{ "xdp_empty_ns", NULL, NULL, 0 },
	{ "xdp_syn_1_ns", CLIENT4, MAGLEV4, 1 },
	{ "xdp_syn_64k_ns", CLIENT4, MAGLEV4, FLOWS_64K },
	{ "xdp_syn_1m_ns", CLIENT4, MAGLEV4, FLOWS_1M },
	{ "xdp_syn6_1_ns", CLIENT6, MAGLEV6, 1 },
	{ "xdp_syn6_64k_ns", CLIENT6, MAGLEV6, FLOWS_64K },
	{ "xdp_syn6_1m_ns", CLIENT6, MAGLEV6, FLOWS_1M },
	{ "xdp_rr_1_ns", CLIENT4, ROUND_ROBIN4, 1 },
	{ "xdp_rr_64k_ns", CLIENT4, ROUND_ROBIN4, FLOWS_64K },
	{ "xdp_rr_1m_ns", CLIENT4, ROUND_ROBIN4, FLOWS_1M },
	{ "xdp_rr6_1_ns", CLIENT6, ROUND_ROBIN6, 1 },
	{ "xdp_rr6_64k_ns", CLIENT6, ROUND_ROBIN6, FLOWS_64K },
	{ "xdp_rr6_1m_ns", CLIENT6, ROUND_ROBIN6, FLOWS_1M },
	{ "xdp_random_64k_ns", CLIENT4, RANDOM4, FLOWS_64K },
	{ "xdp_random6_64k_ns", CLIENT6, RANDOM6, FLOWS_64K },
	{ "xdp_source_64k_ns", CLIENT4, SOURCE4, FLOWS_64K },
	{ "xdp_source6_64k_ns", CLIENT6, SOURCE6, FLOWS_64K },
	{ "xdp_least_64k_ns", CLIENT4, LEAST4, FLOWS_64K },
	{ "xdp_least6_64k_ns", CLIENT6, LEAST6, FLOWS_64K },
	{ "xdp_power_64k_ns", CLIENT4, POWER4, FLOWS_64K },
	{ "xdp_power6_64k_ns", CLIENT6, POWER6, FLOWS_64K },
	{ "xdp_known_1_ns", CLIENT4, STAYING4, 1, "A" },
	{ "xdp_known_64k_ns", CLIENT4, STAYING4, FLOWS_64K, "A" },
	{ "xdp_known_1m_ns", CLIENT4, STAYING4, FLOWS_1M, "A" },
	{ "xdp_known6_64k_ns", CLIENT6, STAYING6, FLOWS_64K, "A" },
	{ "xdp_ipip_64k_ns", CLIENT4, IPIP4, FLOWS_64K, "A" },
	{ "xdp_gue_64k_ns", CLIENT4, GUE4, FLOWS_64K, "A" },
	{ "xdp_nat_64k_ns", CLIENT4, NAT4, FLOWS_64K, "A", .begin = "S" },
	{ "xdp_plain_syn_1_ns", CLIENT4, IPIP4, 1, "S" },
	{ "xdp_plain_syn_64k_ns", CLIENT4, IPIP4, FLOWS_64K, "S" },
	{ "xdp_plain_syn_1m_ns", CLIENT4, IPIP4, FLOWS_1M, "S" },
	{ "xdp_unknown_1_ns", CLIENT4, HASHED4, 1, "A" },
	{ "xdp_unknown_64k_ns", CLIENT4, HASHED4, FLOWS_64K, "A" },
	{ "xdp_unknown_1m_ns", CLIENT4, HASHED4, FLOWS_1M, "A" },
	{ "xdp_unknown6_64k_ns", CLIENT6, HASHED6, FLOWS_64K, "A" },
	{ "veth_empty_ns", NULL, NULL, 0, NULL, true },
	{ "veth_syn_1_ns", CLIENT4, MAGLEV4, 1, NULL, true },
	{ "veth_syn_64k_ns", CLIENT4, MAGLEV4, FLOWS_64K, NULL, true },
	{ "veth_syn_1m_ns", CLIENT4, MAGLEV4, FLOWS_1M, NULL, true },
	{ "veth_syn6_64k_ns", CLIENT6, MAGLEV6, FLOWS_64K, NULL, true },
	{ "veth_known_64k_ns", CLIENT4, STAYING4, FLOWS_64K, "A", true },
	{ "veth_ipip_64k_ns", CLIENT4, IPIP4, FLOWS_64K, "A", true },
	{ "veth_gue_64k_ns", CLIENT4, GUE4, FLOWS_64K, "A", true },
};
#define VARIANTS (sizeof(variants) / sizeof(*variants))

static int near_end; /* the interface that packets come in by, and leave by */

static void die(const char *what)
{
	fprintf(stderr, "bench_xdp: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Linux' default SYN options with the request behind them. */
static void build_syn(const struct variant *v, struct packet_buf *p)
{
	uint8_t options[40] = { 2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7 };
	struct packet_spec spec = {
		.src = v->src, .dst = v->dst, .flags = "S", .options = options
	};

	spec.options_len = 20 + packet_request(v->dst, v->src, SS_OPT_ARMED, options + 20);
	packet_build(p, &spec);
}

/* Nanoseconds for each of @repeat packets, which come in by near_end. */
static double run(const struct variant *v, int prog_fd, unsigned repeat, bool live)
{
	uint8_t in[BENCH_PACKET_LEN] = { 0 }, out[BENCH_PACKET_LEN + 64];
	struct xdp_md ctx = { .data_end = sizeof(in), .ingress_ifindex = near_end };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in, .data_size_in = sizeof(in),
		    .ctx_in = &ctx, .ctx_size_in = sizeof(ctx));

	opts.repeat = repeat;
	if (live) {
		opts.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
		opts.repeat = repeat / LIVE_PART + 1;
	} else {
		opts.data_out = out;
		opts.data_size_out = sizeof(out);
	}
	if (bpf_prog_test_run_opts(prog_fd, &opts))
		die("BPF_PROG_TEST_RUN");
	if (!live && opts.retval != 3 /* XDP_TX */) {
		fprintf(stderr, "bench_xdp: %s: the program returned %u, not XDP_TX\n", v->key,
			opts.retval);
		exit(1);
	}
	return opts.duration;
}

static void build_plain(const struct variant *v, const char *flags, struct packet_buf *p)
{
	packet_build(p, &(struct packet_spec){ .src = v->src, .dst = v->dst, .flags = flags });
}

/* The programs get packets of @v with @flags. */
static void packet_set(struct bench_bpf *skel, const struct variant *v, const char *flags)
{
	struct packet_buf p;

	if (flags)
		build_plain(v, flags, &p);
	else
		build_syn(v, &p);
	memcpy(skel->bss->packet.bytes, p.bytes, BENCH_PACKET_LEN);
	skel->bss->packet.flow_mask = v->flows - 1;
	skel->bss->packet.asks = !flags;
	skel->bss->packet.ip6 = p.bytes[p.l3] >> 4 == 6;
}

static void measure(struct bench_bpf *skel, struct variant *v, unsigned round, unsigned repeat)
{
	int balancer = bpf_program__fd(skel->progs.bench_balancer);

	if (!v->flows) {
		v->ns[round] = run(v, bpf_program__fd(skel->progs.bench_empty), repeat, v->live);
		return;
	}
	packet_set(skel, v, v->begin ? v->begin : v->flags);
	/* now they are known: what is met again stays in the table, rather than what is new */
	(void)run(v, balancer, KNOWING * v->flows, false);
	packet_set(skel, v, v->flags);
	v->wrapper_ns[round] = run(v, bpf_program__fd(skel->progs.bench_wrapper), repeat, v->live);
	v->ns[round] = run(v, balancer, repeat, v->live);
}

static void service_fill(struct service_config *service, const char *vip, int scheduler,
			 enum ss_method method)
{
	bool v4 = vip[0] != '[';

	service->scheduler = scheduler;
	service->method = method;
	service->flow_table = strcmp(vip, HASHED4) && strcmp(vip, HASHED6);
	endpoint_parse(vip, &service->vip);
	address_parse("10.0.2.2", &service->source[0]); /* of wrapped packets and by nat */
	snprintf(service->name, sizeof(service->name), "%s", vip);
	service->backends = calloc(BACKENDS, sizeof(*service->backends));
	service->backends_count = BACKENDS;
	for (int i = 0; i < BACKENDS; i++) {
		char text[ADDRESS_TEXT_LEN];

		snprintf(text, sizeof(text), v4 ? "10.0.3.%d:8080" : "[fd00:1::%x]:80", i + 1);
		endpoint_parse(text, &service->backends[i].address);
		snprintf(service->backends[i].name, SS_LB_NAME_LEN, "s%d", i + 1);
		service->backends[i].weight = 100;
	}
}

/* Every backend's next hop is known and stays fresh: what is timed is the balancer, not the FIB. */
static void hops_fill(const struct lb_maps *maps)
{
	const struct ss_lb_backend_cpu hop = {
		.fresh_until = ~0ULL,
		.confirm_at = SS_LB_CONFIRM_NEVER,
		.ifindex = near_end,
	};

	if (lb_hops_fill(maps, SERVICES * BACKENDS, &hop))
		die("backend_cpu");
}

/* Every backend has reported some connections, and goes on doing so. */
static void loads_fill(const struct lb_maps *maps)
{
	for (__u32 id = 0; id < SERVICES * BACKENDS; id++) {
		struct ss_lb_load load = { .fresh_until = ~0ULL, .open = id * 7919 % 1000 };

		if (bpf_map_update_elem(maps->loads, &id, &load, BPF_ANY))
			die("loads");
	}
}

/* In a network namespace of this process: a veth pair, both ends with a program, or XDP sends nothing. */
static void pair_create(struct bench_bpf *skel)
{
	int drop = bpf_program__fd(skel->progs.bench_drop);

	if (unshare(CLONE_NEWNET) ||
	    system("ip link add near type veth peer name far && ip link set near up && "
		   "ip link set far up"))
		die("cannot create a veth pair");
	near_end = if_nametoindex("near");
	if (bpf_xdp_attach(near_end, drop, 0, NULL) ||
	    bpf_xdp_attach(if_nametoindex("far"), drop, 0, NULL))
		die("cannot attach a program to a veth pair");
}

static void setup(struct bench_bpf *skel)
{
	struct lb_maps maps = LB_MAPS_OF(skel);
	static const struct {
		const char *vip;
		enum ss_scheduler scheduler;
		enum ss_method method;
	} rows[SERVICES] = {
		{ MAGLEV4, SS_SCHED_MAGLEV },
		{ MAGLEV6, SS_SCHED_MAGLEV },
		{ ROUND_ROBIN4, SS_SCHED_ROUND_ROBIN },
		{ ROUND_ROBIN6, SS_SCHED_ROUND_ROBIN },
		{ STAYING4, SS_SCHED_MAGLEV },
		{ STAYING6, SS_SCHED_MAGLEV },
		{ RANDOM4, SS_SCHED_RANDOM },
		{ RANDOM6, SS_SCHED_RANDOM },
		{ SOURCE4, SS_SCHED_SOURCE_HASH },
		{ SOURCE6, SS_SCHED_SOURCE_HASH },
		{ LEAST4, SS_SCHED_LEAST_CONNECTIONS },
		{ LEAST6, SS_SCHED_LEAST_CONNECTIONS },
		{ POWER4, SS_SCHED_POWER_OF_TWO },
		{ POWER6, SS_SCHED_POWER_OF_TWO },
		{ IPIP4, SS_SCHED_MAGLEV, SS_METHOD_IPIP },
		{ GUE4, SS_SCHED_MAGLEV, SS_METHOD_GUE },
		{ NAT4, SS_SCHED_MAGLEV, SS_METHOD_NAT },
		{ HASHED4, SS_SCHED_MAGLEV },
		{ HASHED6, SS_SCHED_MAGLEV },
	};
	struct service_config services[SERVICES] = {};
	struct error err;

	for (int i = 0; i < SERVICES; i++)
		service_fill(&services[i], rows[i].vip, rows[i].scheduler, rows[i].method);
	if (lb_services_apply(&maps, services, SERVICES, &err) < 0) {
		fprintf(stderr, "bench_xdp: %s\n", err.text);
		exit(1);
	}
	hops_fill(&maps);
	loads_fill(&maps);
	for (int i = 0; i < SERVICES; i++)
		free(services[i].backends);
}

/*
 * What a packet takes: the run, less what its wrapper takes beyond the empty program. So the figure
 * stands beside the empty program's, and both hold what BPF_PROG_TEST_RUN itself takes.
 */
static void result_add(json_t *out, struct variant *v, unsigned rounds)
{
	const struct variant *empty = variants;
	double ns[ROUNDS_MAX];

	while (empty->flows || empty->live != v->live)
		empty++;
	for (unsigned i = 0; i < rounds; i++)
		ns[i] = v->flows ? v->ns[i] - v->wrapper_ns[i] + empty->ns[i] : v->ns[i];
	json_object_set_new(out, v->key, bench_figure(ns, rounds));
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? atoi(argv[1]) : 15,
		 repeat = argc > 2 ? atoi(argv[2]) : 2000000;
	struct bench_bpf *skel;
	json_t *out;

	if (rounds < 1 || rounds > ROUNDS_MAX || repeat < 1) {
		fprintf(stderr, "usage: bench_xdp [ROUNDS (1 to %d) [REPEATS]]\n", ROUNDS_MAX);
		return 2;
	}
	if (bench_pin())
		die("sched_setaffinity");
	skel = bench_bpf__open_and_load();
	if (!skel)
		die("cannot load the programs");
	pair_create(skel);
	setup(skel);
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = 0; i < VARIANTS; i++)
			measure(skel, &variants[i], round, repeat);
	out = json_object();
	for (unsigned i = 0; i < VARIANTS; i++)
		result_add(out, &variants[i], rounds);
	bench_print(out);
	bench_bpf__destroy(skel);
	return 0;
}
