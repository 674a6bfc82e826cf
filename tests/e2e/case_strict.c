// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Strict replies: no packet has a source that is not its sender's own, and what that takes. */
#include "cases.h"

#include <linux/bpf.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#include <bpf/bpf.h>

#include <sidestep/host.h>

#include "capture.h"
#include "programs.h"

#define FLOWS_MAX 262144 /* STRICT_MAX of host-bpf/maps.h */

/* --- anti-spoofing ------------------------------------------------------------------------------ */

/* The router drops what does not come from its sender's own address, and counts it. */
static void source_checked(const char *host, const char *ip4, const char *ip6)
{
	must("r",
	     "nft 'add rule inet own f iifname to-%s ip saddr != %s counter name spoofed drop'",
	     host, ip4);
	must("r",
	     "nft 'add rule inet own f iifname to-%s ip6 saddr != { %s, fe80::/10 } "
	     "counter name spoofed drop'",
	     host, ip6);
}

static void sources_checked(void)
{
	must("r", "nft 'add table inet own; add counter inet own spoofed; "
		  "add chain inet own f { type filter hook prerouting priority -300; }'");
	source_checked("c1", "10.0.21.2", "fd00:1:21::2");
	source_checked("s1", "10.0.3.2", "fd00:1:3::2");
	source_checked("s2", "10.0.4.2", "fd00:1:4::2");
}

static long sources_spoofed(void)
{
	static char output[OUTPUT_LEN];

	assert_int_equal(run("r", output,
			     "nft -j list counter inet own spoofed | "
			     "jq '.nftables[1].counter.packets'"),
			 0);
	return atol(output);
}

/* Classic replies are just what such a network drops. */
static void spoofed_talk(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, echo_server);

	talk_serve(talk);
	child_join(child_start("c1", vain_client, talk));
	assert_true(sources_spoofed() > 0);
	talk_abandon(talk);
}

void case_own_source(const struct family *family)
{
	static void (*const again[])(const struct family *family) = {
		case_server_first,	 case_client_half_closes,
		case_server_half_closes, case_server_resets,
		case_data_after_close,	 case_last_ack,
		case_parallel,		 case_bulk,
	};

	sources_checked();
	if (!family->strict) {
		spoofed_talk(family);
		must("r", "nft delete table inet own");
		return;
	}
	for (size_t i = 0; i < sizeof(again) / sizeof(*again); i++) {
		counters_mark();
		capture_clear();
		again[i](family);
	}
	assert_int_equal(sources_spoofed(), 0);
	must("r", "nft delete table inet own");
}

/* --- the life of what the client knows ------------------------------------------------------------ */

static int map_open(const char *name)
{
	return pin_open("c1", name);
}

/* For how many seconds the flow @wire of c1 is kept; 0: its socket lives. */
static long flow_seconds(const struct ss_flow *wire)
{
	struct ss_strict_flow flow;
	int fd = map_open("strict_flows");
	struct timespec now;

	assert_int_equal(bpf_map_lookup_elem(fd, wire, &flow), 0);
	close(fd);
	clock_gettime(CLOCK_MONOTONIC, &now);
	return flow.ends ? (long)(flow.ends / 1000000000) - now.tv_sec : 0;
}

/* The one flow that c1 knows. */
static struct ss_flow flow_only(void)
{
	int fd = map_open("strict_flows");
	struct ss_flow wire, more;

	assert_int_equal(bpf_map_get_next_key(fd, NULL, &wire), 0);
	assert_int_equal(bpf_map_get_next_key(fd, &wire, &more), -ENOENT);
	close(fd);
	return wire;
}

/* Time passes for the first end in @queue: it is over. */
static struct ss_flow end_over(const char *queue)
{
	int ends = map_open(queue);
	struct ss_strict_end end;

	assert_int_equal(bpf_map_lookup_and_delete_elem(ends, NULL, &end), 0);
	end.at = 1;
	assert_int_equal(bpf_map_update_elem(ends, NULL, &end, BPF_ANY), 0);
	close(ends);
	return end.wire;
}

/* The timer has seen to all that is over in @queue. */
static void expect_no_ends(const char *queue)
{
	long deadline = now_ms() + WAIT_MS;
	int ends = map_open(queue), err;
	struct ss_strict_end end;

	while (!(err = bpf_map_lookup_elem(ends, NULL, &end)) && now_ms() < deadline)
		poll(NULL, 0, 20);
	assert_int_equal(err, -ENOENT);
	close(ends);
}

/* The same, and its flow knows of it. */
static void flow_over(const char *queue)
{
	int flows = map_open("strict_flows");
	struct ss_flow wire = end_over(queue);
	struct ss_strict_flow flow;

	assert_int_equal(bpf_map_lookup_elem(flows, &wire, &flow), 0);
	flow.ends = 1;
	assert_int_equal(bpf_map_update_elem(flows, &wire, &flow, BPF_EXIST), 0);
	close(flows);
}

/* c1 comes to know @n flows; nothing but the kernel's own timer is there to see to it. */
static void expect_flows(long n)
{
	long deadline = now_ms() + WAIT_MS;

	while (strict_connections("c1") != n && now_ms() < deadline)
		poll(NULL, 0, 20);
	assert_int_equal(strict_connections("c1"), n);
}

/* c1 forgets what other cases have left. */
static void forget(void)
{
	host_unload("c1");
	host_load("c1", CONFIG_CLIENT);
	counters_mark();
	expect_flows(0);
}

/* One connection, which is watched while it lives and when it is over. */
static void life_of(struct talk *talk, const char *queue, long least, long most)
{
	struct ss_flow wire;
	long seconds;

	talk_finish(talk);
	expect_flows(1);
	wire = flow_only();
	seconds = flow_seconds(&wire);
	if (seconds < least || seconds > most)
		fail_msg("kept for %ld s, not %ld to %ld", seconds, least, most);
	flow_over(queue);
	expect_flows(0);
}

static void closes_first(struct talk *talk, int fd)
{
	(void)talk;
	pattern_send(fd, 1, 1000);
	NEED(!shutdown(fd, SHUT_WR));
	eof_receive(fd);
}

static void closes_last(struct talk *talk, int fd)
{
	(void)talk;
	pattern_receive(fd, 1, 1000);
	eof_receive(fd);
}

/* The client closes first, and keeps a TIME_WAIT socket for a minute; or it closes last. */
void case_strict_life(const struct family *family)
{
	struct talk *talk;
	struct ss_flow wire;

	forget();
	talk = stream_begin(family);
	wire = flow_only();
	assert_int_equal(flow_seconds(&wire), 0);
	stream_finish(talk);
	forget();

	talk = talk_new(family, PORT_ONE, closes_first, closes_last);
	talk_start(talk);
	life_of(talk, "strict_time_wait", 125, 135);
	talk = talk_new(family, PORT_ONE, closes_last, closes_first);
	talk_start(talk);
	life_of(talk, "strict_closed", 5, 15);
}

/* The port of a connection in TIME_WAIT is used anew: that connection's end is none of the new one. */
void case_strict_reused(const struct family *family)
{
	struct talk *talk;
	struct ss_flow wire;

	forget();
	talk = talk_new(family, PORT_ONE, closes_last, closes_first);
	talk->source_port = 4245;
	talk_run(talk);
	expect_flows(1);
	talk = stream_new(family, STREAM_ENDLESS);
	talk->source_port = 4245;
	talk_start(talk);
	stream_progress(talk, 1);
	wire = flow_only();
	assert_int_equal(flow_seconds(&wire), 0);
	end_over("strict_closed");
	expect_no_ends("strict_closed");
	assert_int_equal(strict_connections("c1"), 1);
	stream_survives(talk);
}

/* --- no room ---------------------------------------------------------------------------------------- */

static void flows_fill(int fd, bool fill)
{
	struct ss_strict_flow flow = {};
	struct ss_flow wire = {};
	int err = 0;

	for (__u32 i = 0; i < FLOWS_MAX && !err; i++) {
		wire.local.addr.w[0] = i;
		err = fill ? bpf_map_update_elem(fd, &wire, &flow, BPF_ANY)
			   : bpf_map_delete_elem(fd, &wire);
	}
	assert_int_equal(err, 0);
}

/* A strict SYN-ACK that nothing can be learnt from is refused; then the client does not ask. */
void case_strict_full(const struct family *family)
{
	struct talk *talk;
	int fd;

	forget();
	fd = map_open("strict_flows");
	flows_fill(fd, true);
	talk = talk_new(family, PORT_ONE, NULL, echo_server);
	talk_serve(talk);
	child_join(child_start("c1", vain_client, talk));
	assert_int_equal(counted("c1", "client_asked"), 1);
	child_join(child_start("c1", vain_client, talk));
	assert_int_equal(counted("c1", "client_asked"), 1);
	assert_int_equal(counted("c1", "client_state_full"), 1);
	assert_int_equal(counted("lb", "drop_no_request"), 1);
	child_kill(talk->server_pid);
	talk->server_pid = 0;
	flows_fill(fd, false);
	close(fd);
	talk_finish(talk);
	forget();
	capture_clear();
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
}
