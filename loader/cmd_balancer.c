// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* sidestep balancer up, down, status, and backend add, remove, weight, drain, down, up. */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "balancer.h"
#include "command.h"
#include "config.h"
#include "hex.h"
#include "lb_flows.h"
#include "lb_health.h"
#include "lb_limit.h"
#include "lb_table.h"
#include "map_sync.h"
#include "xdp.h"

#include <sidestep/counters.h>

static int up(const struct pins *pins, const struct config *config, const struct options *options,
	      struct error *err)
{
	(void)options;
	return balancer_up(pins, config->balancer, err);
}

int cmd_balancer_up(const struct options *options, char **argv)
{
	return command_up(options, "balancer", argv[0], up);
}

int cmd_balancer_down(const struct options *options, char **argv)
{
	struct error err = {};
	struct pins pins;
	int lock;

	(void)argv;
	if (command_begin(options, "balancer", &pins, &lock, &err))
		return command_fail(&err);
	balancer_down(&pins);
	close(lock);
	return 0;
}

static int add_interface(const struct pins *pins, const char *name, void *arg)
{
	const char *mode = xdp_attached_mode(pins, name);
	char interface[IF_NAMESIZE] = "(gone)";

	(void)if_indextoname(xdp_attached_ifindex(name), interface);
	json_array_append_new(arg, json_pack("{s:s, s:s}", "interface", interface, "mode",
					     mode ? mode : "detached"));
	return 0;
}

/* Marks the backends that get no new connections in @left, by id. Returns whether there are any. */
static bool left_want(const struct lb_services *services, struct lb_left *left)
{
	bool any = false;

	for (unsigned i = 0; i < services->count; i++) {
		const struct lb_table *table = &services->item[i].table;
		unsigned end = table->head->flow_id ? table->head->backends : 0;

		for (unsigned j = table->head->active; j < end; j++) {
			left[table->backend[j].id] =
				(struct lb_left){ true, table->backend[j].owner };
			any = true;
		}
	}
	return any;
}

/* How many connections the backends have left that get no new ones, by id; NULL: out of memory. */
static struct lb_left *left_read(const struct lb_maps *maps, const struct lb_services *services)
{
	struct lb_left *left = calloc(SS_LB_IDS, sizeof(*left));

	if (left && left_want(services, left) && lb_flows_count(maps, left)) {
		free(left);
		return NULL;
	}
	return left;
}

/* Null: it gets new connections, or nothing is remembered of them. */
static json_t *left_json(const struct lb_left *left)
{
	if (!left->wanted)
		return json_null();
	return json_pack("{s:I, s:o}", "connections", (json_int_t)left->connections, "quiet",
			 left->connections ? json_integer(left->quiet) : json_null());
}

/* Null: it gets all the connections that are its. */
static json_t *health_json(const struct lb_maps *maps, const struct ss_lb_head *head, uint32_t id)
{
	struct ss_lb_health h;
	enum lb_condition condition;
	unsigned seconds;

	lb_health_read(maps, id, &h);
	condition = lb_health_condition(&h, head, &seconds);
	if (condition == LB_CONDITION_GOOD && !h.holds)
		return json_null();
	return json_pack("{s:s, s:I, s:I, s:I, s:I}", "condition", lb_condition_name(condition),
			 "seconds", (json_int_t)seconds, "held", (json_int_t)h.holds, "syns",
			 (json_int_t)h.held_syns, "unanswered", (json_int_t)h.held_unanswered);
}

static json_t *backend_json(const struct lb_maps *maps, const struct lb_table *table, unsigned i,
			    const struct lb_left *left)
{
	const struct ss_lb_backend_info *info = &table->info[i];
	struct ss_lb_backend_cpu sum = {};
	struct ss_lb_load load = {};
	int known = lb_load_read(maps, table->backend[i].id, &load);
	char hex[2 * SS_LB_QUIC_ID + 1];
	json_t *item;

	(void)lb_backend_read(maps, table->backend[i].id, &sum);
	item = json_pack("{s:s, s:o, s:i, s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:I}", "name",
			 info->name, "address", json_endpoint(&table->backend[i].endpoint),
			 "weight", (int)table->backend[i].weight, "state",
			 backend_state_name(info->state), "open",
			 known ? json_integer(load.open) : json_null(), "left",
			 left_json(&left[table->backend[i].id]), "health",
			 health_json(maps, table->head, table->backend[i].id), "syns",
			 (json_int_t)sum.syns, "retries", (json_int_t)sum.retries, "unanswered",
			 (json_int_t)sum.unanswered, "others", (json_int_t)sum.others);
	if (table->head->quic_id_len)
		json_object_set_new(
			item, "quic_id",
			json_string(hex_format(info->quic_id, table->head->quic_id_len, hex)));
	return item;
}

static json_t *service_json(const struct lb_maps *maps, const struct lb_service *service,
			    const struct lb_left *left)
{
	json_t *backends = json_array();

	for (unsigned i = 0; i < service->table.head->backends; i++)
		json_array_append_new(backends, backend_json(maps, &service->table, i, left));
	return json_pack("{s:s, s:o, s:s, s:s, s:s, s:o}", "name", service->table.name, "vip",
			 json_endpoint(&service->vip), "protocol", endpoint_protocol(&service->vip),
			 "scheduler", scheduler_name(service->table.head->scheduler), "method",
			 method_name(service->table.head->method), "backends", backends);
}

static json_t *counters_json(const __u64 *counters)
{
	json_t *object = json_object();

#define ADD(name, help) json_object_set_new(object, #name, json_integer(counters[SS_LB_##name]));
	SS_LB_COUNTERS(ADD)
#undef ADD
	return object;
}

/* Null: there is none. */
static json_t *syn_limit_json(const struct lb_maps *maps)
{
	struct ss_lb_syn_limit limit;

	if (lb_syn_limit_read(maps, &limit) || !limit.interval)
		return json_null();
	return json_pack("{s:I, s:I, s:i, s:i}", "rate", (json_int_t)limit.rate, "burst",
			 (json_int_t)limit.burst, "prefix4", limit.prefix4, "prefix6",
			 limit.prefix6);
}

static json_t *status_json(const struct pins *pins, const struct lb_maps *maps,
			   const struct lb_services *services, const struct lb_left *left,
			   const __u64 *counters)
{
	json_t *interfaces = json_array(), *array = json_array();

	pins_each(pins, "xdp_", add_interface, interfaces);
	for (unsigned i = 0; i < services->count; i++)
		json_array_append_new(array, service_json(maps, &services->item[i], left));
	return json_pack("{s:s, s:o, s:o, s:o, s:o}", "version", pins->version, "interfaces",
			 interfaces, "syn_limit", syn_limit_json(maps), "services", array,
			 "counters", counters_json(counters));
}

/* What @left says of backend @name, as in left_json(). */
static void left_print(const char *name, const json_t *left)
{
	json_int_t connections;
	json_t *quiet;

	if (json_unpack((json_t *)left, "{s:I, s:o}", "connections", &connections, "quiet", &quiet))
		return;
	printf("          %s has connections left in the flow table: %lld", name, connections);
	if (connections)
		printf(", the last packet %lld s ago", json_integer_value(quiet));
	printf("\n");
}

/* What @health says of backend @name, as in health_json(). */
static void health_print(const char *name, const json_t *health)
{
	json_int_t seconds, held, syns, unanswered;
	const char *condition;

	if (json_unpack((json_t *)health, "{s:s, s:I, s:I, s:I, s:I}", "condition", &condition,
			"seconds", &seconds, "held", &held, "syns", &syns, "unanswered",
			&unanswered))
		return;
	printf("          %s: %s", name, condition);
	if (seconds)
		printf(" for %lld s", seconds);
	if (held)
		printf("; held %lld times, last since %lld of %lld SYNs came again", held,
		       unanswered, syns);
	printf("\n");
}

static void service_print(const json_t *service)
{
	const char *name, *vip, *protocol, *scheduler, *method, *address, *state;
	json_t *backends, *item, *known;
	char open[24];
	json_int_t syns, retries, unanswered, others;
	int weight;
	size_t i;

	json_unpack((json_t *)service, "{s:s, s:s, s:s, s:s, s:s, s:o}", "name", &name, "vip", &vip,
		    "protocol", &protocol, "scheduler", &scheduler, "method", &method, "backends",
		    &backends);
	printf("service   %s %s %s %s %s\n", name, vip, protocol, scheduler, method);
	printf("          %-16s %-26s %6s %-6s %7s %10s %10s %10s %10s\n", "BACKEND", "ADDRESS",
	       "WEIGHT", "STATE", "OPEN", "SYNS", "RETRIES", "UNANSWERED", "OTHERS");
	json_array_foreach(backends, i, item)
	{
		json_unpack(item, "{s:s, s:s, s:i, s:s, s:o, s:I, s:I, s:I, s:I}", "name", &name,
			    "address", &address, "weight", &weight, "state", &state, "open", &known,
			    "syns", &syns, "retries", &retries, "unanswered", &unanswered, "others",
			    &others);
		snprintf(open, sizeof(open), "%lld", json_integer_value(known));
		printf("          %-16s %-26s %6d %-6s %7s %10lld %10lld %10lld %10lld\n", name,
		       address, weight, state, json_is_null(known) ? "-" : open, syns, retries,
		       unanswered, others);
		left_print(name, json_object_get(item, "left"));
		health_print(name, json_object_get(item, "health"));
	}
}

static void syn_limit_print(const json_t *limit)
{
	json_int_t rate, burst;
	int prefix4, prefix6;

	if (json_unpack((json_t *)limit, "{s:I, s:I, s:i, s:i}", "rate", &rate, "burst", &burst,
			"prefix4", &prefix4, "prefix6", &prefix6))
		return;
	printf("SYN limit %lld a second and %lld at once from each /%d (IPv6: /%d)\n", rate, burst,
	       prefix4, prefix6);
}

static void status_print(const json_t *status, const __u64 *counters)
{
	const json_t *item;
	size_t i;

	printf("version   %s\n", json_string_value(json_object_get(status, "version")));
	json_array_foreach(json_object_get(status, "interfaces"), i, item)
		printf("interface %s (%s)\n", json_string_value(json_object_get(item, "interface")),
		       json_string_value(json_object_get(item, "mode")));
	syn_limit_print(json_object_get(status, "syn_limit"));
	json_array_foreach(json_object_get(status, "services"), i, item) service_print(item);
	printf("\n");
#define PRINT(name, help) printf("%12llu  %-20s %s\n", counters[SS_LB_##name], #name, help);
	SS_LB_COUNTERS(PRINT)
#undef PRINT
}

int cmd_balancer_status(const struct options *options, char **argv)
{
	__u64 counters[SS_LB_COUNTER_MAX] = {};
	struct lb_services services;
	struct error err = {};
	struct lb_left *left;
	struct lb_maps maps;
	struct pins pins;
	json_t *status;
	int lock;

	(void)argv;
	if (command_begin(options, "balancer", &pins, &lock, &err))
		return command_fail(&err);
	close(lock);
	if (pins_state(&pins, &err) == PINS_OTHER || balancer_maps_open(&pins, &maps, &err))
		return command_fail(&err);
	if (lb_services_read(&maps, &services, &err)) {
		balancer_maps_close(&maps);
		return command_fail(&err);
	}
	(void)map_counters_read(maps.counters, counters, SS_LB_COUNTER_MAX);
	left = left_read(&maps, &services);
	status = left ? status_json(&pins, &maps, &services, left, counters) : NULL;
	free(left);
	lb_services_done(&services);
	balancer_maps_close(&maps);
	if (!status) {
		error_set(&err, -ENOMEM, "cannot count the connections that are left");
		return command_fail(&err);
	}
	if (options->json)
		return command_print_json(status);
	status_print(status, counters);
	json_decref(status);
	return 0;
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
	if (ss_addr_is_v4(&edit->address.addr) != ss_addr_is_v4(&service->vip.addr))
		return error_set(err, -EINVAL,
				 "service %s and the new backend's address differ in IP version",
				 service->name);
	if (!ss_addr_is_v4(&edit->address.addr) && !service->vip.protocol &&
	    edit->address.port != service->vip.port)
		return error_set(err, -EINVAL,
				 "an IPv6 backend must have its service's port (%d): there is no "
				 "room in the TCP header to translate it",
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
