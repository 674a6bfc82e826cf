/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Steps 1 and 6: does TC ingress run on the interfaces that SYNs leave by? A client's SYN promises that what
 * comes for it from a server's own address reaches its socket, which is ingress' work. Other people's
 * programs may end the chain before it, or its filter may be deleted. Then no SYN is armed until ingress
 * is seen again.
 *
 * There are two signs of that, and neither can be made by anybody who does not see the SYN: an answer reached
 * the socket, but not ingress; or the kernel answered a SYN-ACK by a RST that ingress would have taken in.
 */
#ifndef SIDESTEP_HOST_LINK_H
#define SIDESTEP_HOST_LINK_H

#include "maps.h"

static __always_inline int link_is_blind(__u32 ifindex)
{
	return bpf_map_lookup_elem(&links_blind, &ifindex) != NULL;
}

/* Ingress does not run on the interface @ifindex. */
static __always_inline void link_found_blind(__u32 ifindex)
{
	__u32 blind = 1;

	if (bpf_map_update_elem(&links_blind, &ifindex, &blind, BPF_ANY))
		count(SS_HOST_error_map);
}

/* It does. */
static __always_inline void link_is_seen(__u32 ifindex)
{
	if (link_is_blind(ifindex))
		(void)bpf_map_delete_elem(&links_blind, &ifindex);
}

#endif
