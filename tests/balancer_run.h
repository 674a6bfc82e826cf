/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * For packet-in/packet-out tests of what the balancer chooses: services with
 * backends that are told by a number; flows, and which backend gets them.
 */
#ifndef SIDESTEP_TEST_BALANCER_RUN_H
#define SIDESTEP_TEST_BALANCER_RUN_H

#include <stdbool.h>

#include "balancer_load.h"
#include "config.h"
#include "packet.h"

#define BACKENDS_MAX 64
#define WEB4 "10.99.0.1:80"
#define WEB6 "[fd00:99::1]:80"

/*
 * A service with @n backends: 10.0.3.1:8080 or [fd00:3::1]:80, and so on, in a list of its own
 * that is to be freed.
 */
void service_fill(struct service_config *service, const char *vip, enum ss_scheduler scheduler,
		  unsigned n);

/* The balancer serves exactly these. */
void services_apply(struct service_config *services, unsigned n);

/* Every backend's next hop is known and stays fresh; counters stay as they are. */
void hops_fill(void);

/* The id of backend number @n, from 1 on, of the service at @vip; -1: there is none. */
int backend_id(const char *vip, unsigned n);

/* A packet from @src to the service at @vip; SYNs ("S") with a request, or a held one ("H"). */
void packet_from(const char *vip, const char *src, const char *flags, bool retry,
		 struct packet_buf *p);

/* The same of flow number @flow. */
void flow_packet(const char *vip, unsigned flow, const char *flags, bool retry,
		 struct packet_buf *p);

/* Which backend gets that SYN, from 1 on. */
unsigned backend_of(const char *vip, unsigned flow, bool retry);

#endif
