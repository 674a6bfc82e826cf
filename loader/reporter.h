/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The process that reports this host's load: once an interval, one datagram to each balancer. */
#ifndef SIDESTEP_REPORTER_H
#define SIDESTEP_REPORTER_H

#include "config.h"
#include "error.h"
#include "pins.h"

/*
 * Reports as @config says until SIGINT or SIGTERM; tells the service manager when it is ready. A
 * balancer that does not answer, or programs that are not loaded, are waited for. Returns 0 or a
 * negative errno with @err set.
 */
int reporter_run(const struct pins *pins, const struct host_report_config *config,
		 struct error *err);

#endif
