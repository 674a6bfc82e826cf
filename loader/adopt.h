/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Servers of this network namespace that listened before the host programs were loaded, or before
 * the configuration had their service: taken over where the kernel can, else named.
 */
#ifndef SIDESTEP_ADOPT_H
#define SIDESTEP_ADOPT_H

#include <stdbool.h>

#include <sidestep/addr.h>

#include "error.h"
#include "pins.h"

enum adopt_mode {
	ADOPT_WHAT_CAN_BE, /* from Linux 6.12 on: all of them */
	ADOPT_NOTHING, /* only look */
};

/*
 * Walks over the listeners of configured services in the cgroup with the id @cgroup (0: in any),
 * and calls @fn (NULL: nothing) with those that cannot grant and have to start anew. The host's
 * maps are pinned. Returns 0, or a negative errno with @err set, such as for a kernel that refuses
 * the program: nothing else depends on it.
 */
int adopt_listeners(const struct pins *pins, __u64 cgroup, enum adopt_mode mode,
		    void (*fn)(const struct ss_endpoint *local, void *arg), void *arg,
		    struct error *err);

#endif
