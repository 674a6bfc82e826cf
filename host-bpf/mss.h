/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Step 5: the SYN-ACK of a connection whose packets may be encapsulated on their way from the client asks
 * for segments that leave room for the outer headers.
 */
#ifndef SIDESTEP_HOST_MSS_H
#define SIDESTEP_HOST_MSS_H

#include <sidestep/encap.h>

#include "packet.h"
#include "rewrite.h"

/* The first option of a SYN-ACK, as Linux writes them. */
struct mss_option {
	__u8 kind; /* 2: RFC 9293, section 3.1 */
	__u8 len;
	__be16 mss;
} __attribute__((packed));

/*
 * What the client sends will be wrapped on its way: the SYN-ACK @p asks for packets that leave room
 * for that, in an outer header of either IP version. Returns 1 with @p's pointers renewed, or 0.
 */
static __always_inline int mss_reduce(struct __sk_buff *skb, struct packet *p)
{
	__u32 offset = p->l4 + sizeof(struct tcphdr);
	struct mss_option option;
	__be16 mss;

	if (bpf_skb_load_bytes(skb, offset, &option, sizeof(option)) || option.kind != 2 ||
	    option.len != sizeof(option) || SS_BE16(option.mss) <= SS_ENCAP_MAX)
		return 1;
	mss = SS_BE16(SS_BE16(option.mss) - SS_ENCAP_MAX);
	offset += __builtin_offsetof(struct mss_option, mss);
	if (bpf_skb_store_bytes(skb, offset, &mss, sizeof(mss), 0) ||
	    bpf_l4_csum_replace(skb, p->l4 + CHECK_OFFSET, option.mss, mss, sizeof(mss)))
		count(SS_HOST_error_helper);
	return packet_headers(skb, p);
}

#endif
