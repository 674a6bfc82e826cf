/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Where the host programs are to run, and whether they do. */
#ifndef SIDESTEP_HOST_WHERE_H
#define SIDESTEP_HOST_WHERE_H

#include "pins.h"

enum host_finding {
	HOST_PROBLEM, /* something that is configured does not run */
	HOST_WARNING, /* something may keep it from working */
};

/*
 * Calls @fn with one line of text for everything about the interfaces and the cgroup that keeps, or may
 * keep, the loaded programs from what they are configured for. Returns how many problems there are.
 */
unsigned host_findings(const struct pins *pins,
		       void (*fn)(enum host_finding kind, const char *text, void *arg), void *arg);

#endif
