/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The sockops program on its cgroup, and other people's beside it. The pin "link_sockops" is ours. */
#ifndef SIDESTEP_SOCKOPS_H
#define SIDESTEP_SOCKOPS_H

#include "error.h"
#include "pins.h"

/* The id of the cgroup that the program is attached to; 0: to none. */
__u64 sockops_cgroup(const struct pins *pins);

/* The id of the cgroup2 folder @path; 0: there is none. */
__u64 sockops_cgroup_id(const char *path);

/*
 * Attaches @prog_fd to the cgroup @path, unless it is there. An old link elsewhere goes once the new
 * one is there. Returns 0 or a negative errno with @err set.
 */
int sockops_attach(const struct pins *pins, int prog_fd, const char *path, struct error *err);

/* Detached when this returns. */
void sockops_detach(const struct pins *pins);

/*
 * Calls @fn with every other sockops program on the cgroup @path, on those above and on those below
 * it: all these see sockets that ours sees, and may take its callbacks away.
 */
void sockops_each_other(const struct pins *pins, const char *path,
			void (*fn)(const char *cgroup, __u32 id, void *arg), void *arg);

#endif
