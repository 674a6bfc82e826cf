/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Servers that report their load to the testbed's balancer: `sidestep host report`, as a child. */
#ifndef SIDESTEP_E2E_REPORTS_H
#define SIDESTEP_E2E_REPORTS_H

#include "hosts.h"

#define REPORT_KEY "00112233445566778899aabbccddeeff"

struct reporter {
	const char *host;
	char config[256], notify[256];
	int ready;
	pid_t pid;
};

/*
 * From now on the balancer takes in reports made with keys by REPORT_KEY. If @scheduler is not NULL, it is that
 * of the services "many" and "many6". balancer_load() ends both.
 */
void reports_accept(const char *scheduler);
/* The same, but it is the configuration @config that gets them. */
void reports_accept_in(const char *config, const char *scheduler);

/* @host reports every @interval ms, with keys by the master key @key. Returns when the first report is about to be sent. */
void reporter_start(struct reporter *reporter, const char *host, const char *key,
		    unsigned interval);
void reporter_stop(struct reporter *reporter);

#endif
