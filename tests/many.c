// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "many.h"

#include <stdio.h>
#include <stdlib.h>

/* 10.@a.@b.@c:8080 */
static struct ss_endpoint endpoint(unsigned a, unsigned b, unsigned c)
{
	return (struct ss_endpoint){
		.addr = ss_addr_v4(SS_BE32(10U << 24 | a << 16 | b << 8 | c)),
		.port = SS_BE16(8080),
	};
}

static void service_fill(struct service_config *service, unsigned number, unsigned generation)
{
	*service = (struct service_config){
		.vip = endpoint(200 + number / 250, number % 250, 1),
		.flow_table = true,
		.backends = calloc(MANY_BACKENDS, sizeof(*service->backends)),
	};
	snprintf(service->name, sizeof(service->name), "service-%u", number);
	for (unsigned i = 0; service->backends && i < MANY_BACKENDS; i++) {
		unsigned part = i % (MANY_BACKENDS / MANY_CHANGED) ? 0 : generation;
		struct backend_config *b = &service->backends[service->backends_count++];

		b->address = endpoint(4 * part + number / 250, number % 250, i + 1);
		b->weight = 100;
		snprintf(b->name, sizeof(b->name), "backend-%u-%u", part, i);
	}
}

struct service_config *many_services(unsigned generation)
{
	struct service_config *services = calloc(MANY_SERVICES, sizeof(*services));

	for (unsigned i = 0; services && i < MANY_SERVICES; i++) {
		service_fill(&services[i], i, generation);
		if (!services[i].backends_count) {
			many_free(services);
			return NULL;
		}
	}
	return services;
}

void many_free(struct service_config *services)
{
	for (unsigned i = 0; services && i < MANY_SERVICES; i++)
		free(services[i].backends);
	free(services);
}
