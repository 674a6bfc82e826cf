// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* sidestep balancer up, down, and backend add, remove, weight, drain, down, up. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "balancer.h"
#include "command.h"
#include "config.h"
#include "hex.h"

static void warn(const char *text)
{
	fprintf(stderr, "sidestep: warning: %s\n", text);
}

static int up(const struct pins *pins, const struct config *config, const struct options *options,
	      struct error *err)
{
	(void)options;
	return balancer_up(pins, config->balancer, warn, err);
}

int cmd_balancer_up(const struct options *options, char **argv)
{
	return command_up(options, "balancer", argv[0], up);
}

int cmd_balancer_down(const struct options *options, char **argv)
{
	struct error err = {};
	struct pins pins;
	int lock, ret;

	(void)argv;
	ret = command_begin(options, "balancer", &pins, &lock, &err);
	if (!ret) {
		ret = balancer_down(&pins, options->force, &err);
		close(lock);
	}
	return ret ? command_fail(&err) : 0;
}

/* What a "backend" command wants done. */
struct backend_edit {
	const char *name;
	struct ss_endpoint address; /* add */
	uint32_t weight; /* add, weight */
	uint8_t quic_id[SS_LB_QUIC_ID]; /* add */
	unsigned quic_id_len;
	enum ss_backend_state state; /* drain, down, up */
};

static struct backend_config *backend_find(struct service_config *service, const char *name,
					   struct error *err)
{
	for (unsigned i = 0; i < service->backends_count; i++)
		if (!strcmp(service->backends[i].name, name))
			return &service->backends[i];
	(void)error_set(err, -ENOENT,
			"service %s has no backend %s (see: sidestep balancer status)",
			service->name, name);
	return NULL;
}

static int backend_check_new(const struct service_config *service, const struct backend_edit *edit,
			     struct error *err)
{
	if (service->backends_count == SS_LB_SERVICE_BACKENDS)
		return error_set(err, -E2BIG, "service %s has %d backends, as many as it can",
				 service->name, SS_LB_SERVICE_BACKENDS);
	if (!service_takes(service, &edit->address.addr))
		return error_set(err, -EINVAL,
				 "service %s and the new backend's address differ in IP version",
				 service->name);
	if (!ss_addr_is_v4(&service->vip.addr) && !service->vip.protocol &&
	    edit->address.port != service->vip.port)
		return error_set(err, -EINVAL,
				 "a backend of an IPv6 service must have the service's port (%d): "
				 "there is no room in the TCP header to translate it",
				 SS_BE16(service->vip.port));
	if (edit->quic_id_len != service->quic_id_len)
		return error_set(err, -EINVAL,
				 "service %s has backends with a --quic-id of %u bytes, not %u",
				 service->name, service->quic_id_len, edit->quic_id_len);
	for (unsigned i = 0; i < service->backends_count; i++) {
		const struct backend_config *b = &service->backends[i];

		if (!strcmp(b->name, edit->name) ||
		    ss_endpoint_equal(&b->address, &edit->address) ||
		    (service->quic_id_len &&
		     !memcmp(b->quic_id, edit->quic_id, sizeof(b->quic_id))))
			return error_set(
				err, -EEXIST,
				"service %s has a backend of that name, address or QUIC id: %s",
				service->name, b->name);
		if (!service_tells_ports(service) &&
		    ss_addr_equal(&b->address.addr, &edit->address.addr))
			return error_set(
				err, -EEXIST,
				"service %s has backend %s at that address, and its method %s "
				"does not tell ports; use method rewrite or nat",
				service->name, b->name, config_methods[service->method]);
	}
	return 0;
}

static int change_add(struct service_config *service, void *arg, struct error *err)
{
	const struct backend_edit *edit = arg;
	struct backend_config *grown, *b;
	int ret = backend_check_new(service, edit, err);

	if (ret)
		return ret;
	grown = realloc(service->backends, (service->backends_count + 1) * sizeof(*grown));
	if (!grown)
		return error_set(err, -ENOMEM, "out of memory");
	service->backends = grown;
	b = &grown[service->backends_count++];
	*b = (struct backend_config){ .address = edit->address, .weight = edit->weight };
	snprintf(b->name, sizeof(b->name), "%s", edit->name);
	memcpy(b->quic_id, edit->quic_id, sizeof(b->quic_id));
	return 0;
}

static int change_remove(struct service_config *service, void *arg, struct error *err)
{
	const struct backend_edit *edit = arg;
	struct backend_config *b = backend_find(service, edit->name, err);

	if (!b)
		return -ENOENT;
	*b = service->backends[--service->backends_count];
	return 0;
}

static int change_weight(struct service_config *service, void *arg, struct error *err)
{
	const struct backend_edit *edit = arg;
	struct backend_config *b = backend_find(service, edit->name, err);

	if (!b)
		return -ENOENT;
	b->weight = edit->weight;
	return 0;
}

static int change_state(struct service_config *service, void *arg, struct error *err)
{
	const struct backend_edit *edit = arg;
	struct backend_config *b = backend_find(service, edit->name, err);

	if (!b)
		return -ENOENT;
	b->state = edit->state;
	return 0;
}

static int
backend_change(const struct options *options, const char *service, struct backend_edit *edit,
	       int (*change)(struct service_config *service, void *arg, struct error *err))
{
	struct error err = {};
	struct pins pins;
	int lock, ret;

	ret = command_begin(options, "balancer", &pins, &lock, &err);
	if (!ret) {
		ret = balancer_change(&pins, service, change, edit, &err);
		close(lock);
	}
	return ret ? command_fail(&err) : 0;
}

static int usage(const char *what)
{
	fprintf(stderr, "sidestep: %s\n", what);
	return 2;
}

int cmd_backend_add(const struct options *options, char **argv)
{
	struct backend_edit edit = { .name = argv[1], .weight = CONFIG_WEIGHT_DEFAULT };

	if (config_name_flaw(edit.name))
		return usage("a backend's name has 1 to 63 characters, no blanks and no slashes");
	if (endpoint_parse(argv[2], &edit.address))
		return usage("expected an address and port such as 10.0.3.2:8080 or [fd00::2]:80");
	if (options->weight >= 0)
		edit.weight = options->weight;
	if (options->quic_id)
		edit.quic_id_len = hex_parse(options->quic_id, edit.quic_id, SS_LB_QUIC_ID);
	if (options->quic_id && (!edit.quic_id_len || options->quic_id[2 * edit.quic_id_len]))
		return usage("--quic-id takes 2 to 16 hexadecimal digits, two a byte");
	return backend_change(options, argv[0], &edit, change_add);
}

int cmd_backend_remove(const struct options *options, char **argv)
{
	struct backend_edit edit = { .name = argv[1] };

	return backend_change(options, argv[0], &edit, change_remove);
}

int cmd_backend_weight(const struct options *options, char **argv)
{
	struct backend_edit edit = { .name = argv[1] };
	char *end;
	long weight = strtol(argv[2], &end, 10);

	if (!argv[2][0] || *end || weight < 0 || weight > CONFIG_WEIGHT_MAX)
		return usage("a weight is a number from 0 to 65535");
	edit.weight = weight;
	return backend_change(options, argv[0], &edit, change_weight);
}

int cmd_backend_drain(const struct options *options, char **argv)
{
	struct backend_edit edit = { .name = argv[1], .state = SS_BACKEND_DRAIN };

	return backend_change(options, argv[0], &edit, change_state);
}

int cmd_backend_down(const struct options *options, char **argv)
{
	struct backend_edit edit = { .name = argv[1], .state = SS_BACKEND_DOWN };

	return backend_change(options, argv[0], &edit, change_state);
}

int cmd_backend_up(const struct options *options, char **argv)
{
	struct backend_edit edit = { .name = argv[1], .state = SS_BACKEND_UP };

	return backend_change(options, argv[0], &edit, change_state);
}
