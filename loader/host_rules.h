/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the host's maps say of services, prefixes and places: all that `host up` changes while
 * programs run. It is replaced as a whole; on any failure what was in force stays in force.
 */
#ifndef SIDESTEP_HOST_RULES_H
#define SIDESTEP_HOST_RULES_H

#include "config.h"
#include "error.h"
#include "map_sync.h"
#include "pins.h"

#define HOST_RULES_MAPS 16 /* more than there are */

/* A change that can still be undone. */
struct host_rules {
	struct map_change change[HOST_RULES_MAPS];
	unsigned n;
};

/*
 * Makes the maps say what @config does, for programs on the cgroup @cgroup and on the interfaces
 * @ifindex (as many as @config names). *@out, of zeroes, is to be passed to host_rules_done() in any
 * case. Returns 0 or a negative errno with @err set: then the maps say what they did before.
 */
int host_rules_write(struct host_rules *out, const struct pins *pins,
		     const struct host_config *config, const char *cgroup, const int *ifindex,
		     struct error *err);

/* The maps say again what they did before host_rules_write(). */
void host_rules_undo(struct host_rules *rules);

void host_rules_done(struct host_rules *rules);

/* No service, no prefix and no interface is configured any more; also of another version's maps. */
void host_rules_clear(const struct pins *pins);

#endif
