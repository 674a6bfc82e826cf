// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Middleboxes that do something to TCP options: TC programs for the router's ports, a section each.
 * They look at what carries one of our options, or would: SYNs and SYN-ACKs.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include <sidestep/csum.h>
#include <sidestep/option.h>

#include "../../host-bpf/packet.h"

#define EXPERIMENT_LEN 4 /* of somebody else's experimental option */

struct segment {
	struct packet p;
	struct ss_opt_cursor c; /* the options as they are, and where ours is */
	__u8 out[SS_TCP_OPTS_MAX]; /* as they are to be; zeros behind them */
	__u32 out_len;
	__u8 more[SS_OPT_MAX_LEN]; /* what is added */
};

/* Returns 1 if @skb is a SYN or SYN-ACK, whose options are then in @s. */
static __always_inline int segment_load(struct __sk_buff *skb, struct segment *s)
{
	if (!packet_parse(skb, &s->p) || !s->p.tcp->syn || !packet_options(skb, &s->p, &s->c))
		return 0;
	s->out_len = s->c.len;
	return packet_headers(skb, &s->p);
}

/* Is one of ours among them? Then s->c.off is its place. */
static __always_inline int segment_find(struct segment *s)
{
	s->c.forms = 0xffff;
	bpf_loop(SS_TCP_OPTS_MAX + 1, ss_opt_step, &s->c, 0);
	return s->c.result == SS_OPT_FOUND;
}

/* The packet gets room for s->out_len bytes of options; it has no data behind them. */
static __always_inline int segment_grow(struct __sk_buff *skb, struct segment *s)
{
	__u32 more = s->out_len - s->c.len, check = s->p.l4 + CHECK_OFFSET;
	__u32 field = s->p.is_ip6 ? L3_OFFSET + __builtin_offsetof(struct ipv6hdr, payload_len)
				  : L3_OFFSET + __builtin_offsetof(struct iphdr, tot_len);
	__u32 offset_field = s->p.l4 + 12;
	__be16 before, after, word;
	long err;

	if (!more)
		return 0;
	err = bpf_skb_change_tail(skb, skb->len + more, 0);
	err |= bpf_skb_load_bytes(skb, field, &before, sizeof(before));
	after = SS_BE16(SS_BE16(before) + more);
	err |= bpf_skb_store_bytes(skb, field, &after, sizeof(after), 0);
	if (!s->p.is_ip6)
		err |= bpf_l3_csum_replace(skb, L3_OFFSET + __builtin_offsetof(struct iphdr, check),
					   before, after, sizeof(after));
	/* The pseudo-header's length counts from elsewhere, but grows by as much. */
	err |= bpf_l4_csum_replace(skb, check, before, after, BPF_F_PSEUDO_HDR | sizeof(after));
	err |= bpf_skb_load_bytes(skb, offset_field, &before, sizeof(before));
	word = SS_BE16(SS_BE16(before) + (more / 4 << 12));
	err |= bpf_skb_store_bytes(skb, offset_field, &word, sizeof(word), 0);
	err |= bpf_l4_csum_replace(skb, check, before, word, sizeof(word));
	return err ? -1 : 0;
}

/* The packet gets the options s->out. A box that fails drops, so that its case fails. */
static __always_inline int segment_store(struct __sk_buff *skb, struct segment *s)
{
	__u32 at = s->p.l4 + sizeof(struct tcphdr), check = s->p.l4 + CHECK_OFFSET, len;
	const __be32 *old = (const void *)s->c.opts, *new = (const void *)s->out;
	__u64 diff = 0;

	if (segment_grow(skb, s))
		return TC_ACT_SHOT;
	for (int i = 0; i < SS_TCP_OPTS_MAX / 4; i++)
		diff += ss_csum_diff32(old[i], new[i]);
	len = s->out_len;
	barrier_var(len);
	if (len > SS_TCP_OPTS_MAX)
		return TC_ACT_SHOT;
	barrier_var(len);
	if (len < sizeof(struct ss_opt_head) || bpf_skb_store_bytes(skb, at, s->out, len, 0) ||
	    bpf_l4_csum_replace(skb, check, 0, ss_csum_to32(diff), 0))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

/* Byte @i of @s's options; 0 outside of them. */
static __always_inline __u8 option_byte(const struct segment *s, __u32 i)
{
	barrier_var(i);
	return i < SS_TCP_OPTS_MAX && i < s->c.len ? s->c.opts[i] : 0;
}

/* Byte @i of what is added to them. */
static __always_inline __u8 more_byte(const struct segment *s, __u32 i)
{
	barrier_var(i);
	return i < sizeof(s->more) ? s->more[i] : 0;
}

/*
 * What follows writes byte @i of the options as they are to be. A function for each box, called by
 * bpf_loop(): in a loop of its own, the verifier would follow every path through every byte.
 */
#define EACH_BYTE(name)                                                      \
	static __always_inline __u8 name##_byte(struct segment *s, __u32 i); \
	static long name##_each(__u32 i, struct segment *s)                  \
	{                                                                    \
		__u8 byte = name##_byte(s, i);                               \
                                                                             \
		barrier_var(i);                                              \
		if (i < SS_TCP_OPTS_MAX)                                     \
			s->out[i] = byte;                                    \
		return 0;                                                    \
	}                                                                    \
	static __always_inline __u8 name##_byte(struct segment *s, __u32 i)

EACH_BYTE(strip)
{
	return i >= s->c.off && i < s->c.off + ss_opt_len(s->c.form) ? 1 : option_byte(s, i);
}

/* Ours becomes no-operations. */
SEC("strip")
int middlebox_strip(struct __sk_buff *skb)
{
	struct segment s = {};

	if (!segment_load(skb, &s) || !segment_find(&s))
		return TC_ACT_OK;
	bpf_loop(SS_TCP_OPTS_MAX, strip_each, &s, 0);
	return segment_store(skb, &s);
}

/* What has ours is dropped. */
SEC("drop")
int middlebox_drop(struct __sk_buff *skb)
{
	struct segment s = {};

	return segment_load(skb, &s) && segment_find(&s) ? TC_ACT_SHOT : TC_ACT_OK;
}

EACH_BYTE(front)
{
	__u32 from = i + s->c.off;

	if (i >= s->c.len)
		return 0;
	return option_byte(s, from < s->c.len ? from : from - s->c.len);
}

/* Ours, which is the last, goes to the front. */
SEC("front")
int middlebox_front(struct __sk_buff *skb)
{
	struct segment s = {};

	if (!segment_load(skb, &s) || !segment_find(&s))
		return TC_ACT_OK;
	bpf_loop(SS_TCP_OPTS_MAX, front_each, &s, 0);
	return segment_store(skb, &s);
}

EACH_BYTE(crowd)
{
	if (i < EXPERIMENT_LEN)
		return more_byte(s, i);
	i -= EXPERIMENT_LEN;
	return i < s->c.len ? option_byte(s, i) : more_byte(s, i - s->c.len + EXPERIMENT_LEN);
}

/* Somebody else's experiments stand before and behind it: another of our kind, ours of another kind. */
SEC("crowd")
int middlebox_crowd(struct __sk_buff *skb)
{
	struct segment s = { .more = { 253, EXPERIMENT_LEN, 0x12, 0x34, 254, EXPERIMENT_LEN, 0x5d,
				       0x58 } };

	if (!segment_load(skb, &s) || !segment_find(&s))
		return TC_ACT_OK;
	if (s.c.len > SS_TCP_OPTS_MAX - 2 * EXPERIMENT_LEN)
		return TC_ACT_SHOT;
	s.out_len = s.c.len + 2 * EXPERIMENT_LEN;
	bpf_loop(SS_TCP_OPTS_MAX, crowd_each, &s, 0);
	return segment_store(skb, &s);
}

EACH_BYTE(reflect)
{
	return i < s->c.len ? option_byte(s, i) : more_byte(s, i - s->c.len);
}

/* The request of the SYN that @s answers: the SYN-ACK's own header says what it was. */
static __always_inline __u32 request_rebuild(struct segment *s)
{
	struct ss_endpoint vip = packet_source(&s->p), client = packet_destination(&s->p);
	struct ss_opt_request4 v4 = { ss_opt_head(SS_OPT_ARMED, SS_REQUEST4), vip.addr.w[3],
				      client.addr.w[3], vip.port, client.port };
	struct ss_opt_request6 v6 = { .head = ss_opt_head(SS_OPT_ARMED, SS_REQUEST6),
				      .service = ss_tag_of(&vip),
				      .client = ss_tag_of(&client),
				      .vport = vip.port,
				      .cport = client.port };

	if (!s->p.is_ip6) {
		__builtin_memcpy(s->more, &v4, sizeof(v4));
		return sizeof(v4);
	}
	__builtin_memcpy(s->more, &v6, sizeof(v6));
	return sizeof(v6);
}

/* A SYN-ACK gets the request that its SYN had. */
SEC("reflect")
int middlebox_reflect(struct __sk_buff *skb)
{
	struct segment s = {};

	if (!segment_load(skb, &s) || !s.p.tcp->ack)
		return TC_ACT_OK;
	s.out_len = s.c.len + request_rebuild(&s);
	if (s.out_len > SS_TCP_OPTS_MAX)
		return TC_ACT_SHOT;
	bpf_loop(SS_TCP_OPTS_MAX, reflect_each, &s, 0);
	return segment_store(skb, &s);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
