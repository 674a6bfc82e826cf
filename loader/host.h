/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The life of the host programs: loaded, brought in line with a configuration, read, unloaded. */
#ifndef SIDESTEP_LOADER_HOST_H
#define SIDESTEP_LOADER_HOST_H

#include <sidestep/counters.h>
#include <sidestep/host.h>

#include "config.h"
#include "error.h"
#include "pins.h"

/*
 * Makes the host programs run as @config says: loads them, or, if they are loaded, applies the
 * difference. @cgroup overrides the configuration's (NULL: it does not). Servers that listen
 * already are adopted, where the kernel can. When the first start fails, nothing is left. Returns
 * 0 or a negative errno with @err set.
 */
int host_up(const struct pins *pins, const struct host_config *config, const char *cgroup,
	    struct error *err);

/*
 * Unloads the host programs. New connections are not redirected from then on; but if connections
 * run directly, which need the programs, these stay, unless @force, and -EBUSY is returned with
 * @err set. Those of another network namespace stay likewise (-EEXIST).
 */
int host_down(const struct pins *pins, bool force, struct error *err);

/* The counters, summed over all processors. Returns 0 or a negative errno with @err set. */
int host_counters(const struct pins *pins, __u64 out[SS_HOST_COUNTER_MAX], struct error *err);

/*
 * Calls @fn with every connection (and listener) that has state. Returns 0 or a negative errno
 * with @err set.
 */
int host_connections(const struct pins *pins,
		     void (*fn)(const struct ss_conn_record *record, void *arg), void *arg,
		     struct error *err);

/*
 * Calls @fn with every server of this network namespace that listened before the programs knew its
 * service and could not be adopted: it has to start anew. Returns 0 or a negative errno with @err
 * set, where the kernel cannot tell.
 */
int host_old_listeners(const struct pins *pins,
		       void (*fn)(const struct ss_endpoint *local, void *arg), void *arg,
		       struct error *err);

/*
 * The services that are served, as the kernel's maps have them: calls @fn with each, and again for each
 * further port that its servers listen on, as if it were the only one.
 */
void host_services(const struct pins *pins,
		   void (*fn)(const struct ss_endpoint *vip, const struct ss_serve *serve,
			      void *arg),
		   void *arg);

/*
 * The connections that services have, or had, open here: calls @fn with each service and listening port
 * that had one since the programs were loaded, and with the sum over all processors.
 */
void host_open(const struct pins *pins,
	       void (*fn)(const struct ss_served_at *at, const struct ss_open *open, void *arg),
	       void *arg);

/* Calls @fn with every key of the map @name ("blocked", "plain"), and for how long it still counts. */
void host_remembered(const struct pins *pins, const char *name,
		     void (*fn)(const void *key, unsigned seconds, void *arg), void *arg);

/* How many connections to servers that answer strictly are known, also those that are just over. */
unsigned host_strict_flows(const struct pins *pins);

/* Calls @fn with every prefix of the map @name ("dial", "backends", "trusted"). */
void host_prefixes(const struct pins *pins, const char *name,
		   void (*fn)(const struct ss_prefix *prefix, void *arg), void *arg);

#endif
