// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "balancer_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include <sidestep/option.h>

#include "address.h"
#include "lb_apply.h"
#include "lb_skel.h"

void service_fill(struct service_config *service, const char *vip, enum ss_scheduler scheduler,
		  unsigned n)
{
	char text[ADDRESS_TEXT_LEN];

	*service = (struct service_config){ .scheduler = scheduler, .backends_count = n };
	assert_int_equal(endpoint_parse(vip, &service->vip), 0);
	assert_int_equal(address_parse("10.0.2.7", &service->source[0]), 0);
	assert_int_equal(address_parse("fd00:2::7", &service->source[1]), 0);
	snprintf(service->name, sizeof(service->name), "%s", vip);
	service->backends = calloc(n + 1, sizeof(*service->backends));
	assert_non_null(service->backends);
	for (unsigned i = 0; i < n; i++) {
		snprintf(text, sizeof(text), vip[0] == '[' ? "[fd00:3::%x]:80" : "10.0.3.%u:8080",
			 i + 1);
		assert_int_equal(endpoint_parse(text, &service->backends[i].address), 0);
		snprintf(service->backends[i].name, SS_LB_NAME_LEN, "s%u", i + 1);
		service->backends[i].weight = 100;
	}
}

void services_apply(struct service_config *services, unsigned n)
{
	struct error err = {};

	if (lb_services_apply(&maps, services, n, &err) < 0)
		fail_msg("%s", err.text);
}

void hops_fill(void)
{
	const struct ss_lb_backend_cpu hop = { .fresh_until = ~0ULL,
					       .ifindex = 1 /* "lo": TEST_RUN's ingress */ };

	assert_int_equal(lb_hops_fill(&maps, BACKENDS_MAX, &hop), 0);
}

int backend_id(const char *vip, unsigned n)
{
	struct lb_services all;
	struct ss_endpoint key;
	int id = -1;

	assert_int_equal(endpoint_parse(vip, &key), 0);
	assert_int_equal(lb_services_read(&maps, &all, NULL), 0);
	for (unsigned i = 0; i < all.count; i++) {
		const struct lb_table *table = &all.item[i].table;

		for (unsigned j = 0;
		     ss_endpoint_equal(&all.item[i].vip, &key) && j < table->head->backends; j++)
			if (SS_BE32(table->backend[j].endpoint.addr.w[3]) % 256 == n)
				id = table->backend[j].id;
	}
	lb_services_done(&all);
	return id;
}

static void packet_make(const char *vip, const char *src, unsigned seq, const char *flags,
			bool retry, struct packet_buf *p)
{
	bool held = !strcmp(flags, "H");
	struct packet_spec spec = {
		.src = src, .dst = vip, .flags = held ? "S" : flags, .seq = seq
	};
	uint8_t request[20];

	if (!strcmp(spec.flags, "S")) {
		spec.options_len =
			packet_request(vip, src, held ? SS_OPT_HELD : SS_OPT_ARMED, request);
		request[3] |= retry;
		spec.options = request;
	}
	packet_build(p, &spec);
}

void packet_from(const char *vip, const char *src, const char *flags, bool retry,
		 struct packet_buf *p)
{
	packet_make(vip, src, 64000, flags, retry, p);
}

void flow_packet(const char *vip, unsigned flow, const char *flags, bool retry,
		 struct packet_buf *p)
{
	char src[ADDRESS_TEXT_LEN];

	snprintf(src, sizeof(src), vip[0] == '[' ? "[fd00:1::%x]:%u" : "10.0.%u.2:%u", flow & 0xff,
		 1024 + (flow >> 8) % 60000);
	packet_make(vip, src, flow * 64000, flags, retry, p);
}

unsigned backend_of(const char *vip, unsigned flow, bool retry)
{
	struct packet_buf in, out;

	flow_packet(vip, flow, "S", retry, &in);
	assert_int_equal(xdp_run(prog, 0, &in, &out), XDP_TX);
	return out.bytes[out.l3 + (vip[0] == '[' ? 39 : 19)];
}
