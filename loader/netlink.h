/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the kernel tells by rtnetlink of interfaces and TC filters of this network namespace. */
#ifndef SIDESTEP_NETLINK_H
#define SIDESTEP_NETLINK_H

#include <stdbool.h>

#include <linux/types.h>

/*
 * Does @ifindex belong to a bridge, bond or the like, whose packets are not its own? Then the
 * other's index is in *@master and what it is ("bridge") in @kind. A VRF is none of these.
 */
bool netlink_has_master(int ifindex, int *master, char kind[16]);

/* The TC filters of the clsact qdisc of @ifindex, in the order in which they run. */
struct netlink_filter {
	__u32 priority, handle; /* ours is found by these */
	char name[64]; /* of its program if it has one, else its kind, such as "u32" */
};

/*
 * Calls @fn with every filter of @ifindex at @parent, until it returns another value than 0, which
 * is then returned; a negative errno if the kernel did not answer.
 */
int netlink_filters(int ifindex, __u32 parent,
		    int (*fn)(const struct netlink_filter *filter, void *arg), void *arg);

#endif
