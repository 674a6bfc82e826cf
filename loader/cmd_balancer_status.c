// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* sidestep balancer status: what the kernel has, as JSON, which is printed as it is or for people. */
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
#include "interfaces.h"
#include "lb_backends.h"
#include "lb_flows.h"
#include "lb_health.h"
#include "lb_limit.h"
#include "lb_neighbours.h"
#include "lb_table.h"
#include "map_sync.h"
#include "xdp.h"

#include <sidestep/counters.h>

static const struct counter_text counter_texts[] = { SS_LB_COUNTERS(COUNTER_TEXT) };

/* What is read from the kernel. */
struct seen {
	const struct pins *pins;
	struct lb_maps maps;
	struct lb_services services;
	struct lb_backends backends;
	struct lb_left *left; /* by id of backends */
	__u64 counters[SS_LB_COUNTER_MAX];
};

static int add_interface(const struct pins *pins, const char *name, void *arg)
{
	const char *mode = xdp_attached_mode(pins, name);
	char interface[IF_NAMESIZE] = "(gone)";

	(void)if_indextoname(xdp_attached_ifindex(name), interface);
	json_array_append_new(arg, json_pack("{s:s, s:s}", "interface", interface, "mode",
					     mode ? mode : "detached"));
	return 0;
}

/* What is said of interfaces whose packets the program does not see. */
struct problems {
	const struct pins *pins;
	json_t *list;
	int ifindex;
};

static int is_attached(const struct pins *pins, const char *name, void *arg)
{
	const struct problems *problems = arg;

	return xdp_attached_ifindex(name) == problems->ifindex && xdp_attached_mode(pins, name);
}

static void add_problem(const char *interface, int ifindex, void *arg)
{
	struct problems *problems = arg;
	char text[256];

	problems->ifindex = ifindex;
	if (interface_is_same(problems->pins, interface, ifindex, text, sizeof(text))) {
		if (pins_each(problems->pins, "xdp_", is_attached, problems))
			return;
		snprintf(text, sizeof(text),
			 "%s: the program was detached; run: sidestep balancer up FILE", interface);
	}
	json_array_append_new(problems->list, json_string(text));
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

static const char *next_hop_text(const struct ss_lb_backend *backend)
{
	struct next_hop hop;

	if (next_hop_find(&backend->endpoint.addr, &hop))
		return "no route";
	return next_hop_is_known(&hop) ? "known" : "unknown";
}

static json_t *backend_json(struct seen *seen, const struct lb_table *table, unsigned i)
{
	uint32_t id = table->backend[i].id;
	const struct ss_lb_backend_info *info = &table->info[i];
	struct ss_lb_backend_cpu sum = {};
	struct ss_lb_load load = {};
	int known = lb_load_read(&seen->maps, id, &load);
	char hex[2 * SS_LB_QUIC_ID + 1];
	json_t *item;

	(void)lb_backends_read(&seen->backends, id, &sum);
	item = json_pack("{s:s, s:o, s:i, s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:I}", "name",
			 info->name, "address", json_endpoint(&table->backend[i].endpoint),
			 "weight", (int)table->backend[i].weight, "state",
			 backend_state_name(info->state), "open",
			 known ? json_integer(load.open) : json_null(), "left",
			 left_json(&seen->left[id]), "health",
			 health_json(&seen->maps, table->head, id), "syns", (json_int_t)sum.syns,
			 "retries", (json_int_t)sum.retries, "unanswered",
			 (json_int_t)sum.unanswered, "others", (json_int_t)sum.others);
	json_object_set_new(item, "next_hop", json_string(next_hop_text(&table->backend[i])));
	if (table->head->quic_id_len)
		json_object_set_new(
			item, "quic_id",
			json_string(hex_format(info->quic_id, table->head->quic_id_len, hex)));
	return item;
}

static json_t *service_json(struct seen *seen, const struct lb_service *service)
{
	json_t *backends = json_array();

	for (unsigned i = 0; i < service->table.head->backends; i++)
		json_array_append_new(backends, backend_json(seen, &service->table, i));
	return json_pack("{s:s, s:o, s:s, s:s, s:s, s:o}", "name", service->table.name, "vip",
			 json_endpoint(&service->vip), "protocol", endpoint_protocol(&service->vip),
			 "scheduler", scheduler_name(service->table.head->scheduler), "method",
			 method_name(service->table.head->method), "backends", backends);
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

static const char *no_service_name(__u32 no_service)
{
	return no_service < CONFIG_NO_SERVICE ? config_no_service[no_service] : "?";
}

static json_t *status_json(struct seen *seen)
{
	json_t *interfaces = json_array(), *array = json_array();
	struct problems problems = { .pins = seen->pins, .list = json_array() };
	struct ss_lb_rules rules = {};

	(void)lb_rules_read(&seen->maps, &rules);
	pins_each(seen->pins, "xdp_", add_interface, interfaces);
	interfaces_each(seen->pins, add_problem, &problems);
	for (unsigned i = 0; i < seen->services.count; i++)
		json_array_append_new(array, service_json(seen, &seen->services.item[i]));
	return json_pack("{s:s, s:o, s:o, s:s, s:s, s:o, s:o, s:o}", "version", seen->pins->version,
			 "problems", problems.list, "interfaces", interfaces, "fragments",
			 rules.pass_fragments ? "pass" : "drop", "no_service",
			 no_service_name(rules.no_service), "syn_limit",
			 syn_limit_json(&seen->maps), "services", array, "counters",
			 json_counters(counter_texts, seen->counters, SS_LB_COUNTER_MAX));
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
	const char *name, *vip, *protocol, *scheduler, *method, *address, *state, *hop;
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
		hop = json_string_value(json_object_get(item, "next_hop"));
		if (strcmp(hop, "known"))
			printf("          %s is not reached: %s\n", name,
			       strcmp(hop, "unknown") ? hop : "nobody answers for its next hop");
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
	json_array_foreach(json_object_get(status, "problems"), i, item)
		printf("problem   %s\n", json_string_value(item));
	json_array_foreach(json_object_get(status, "interfaces"), i, item)
		printf("interface %s (%s)\n", json_string_value(json_object_get(item, "interface")),
		       json_string_value(json_object_get(item, "mode")));
	printf("fragments %s\n", json_string_value(json_object_get(status, "fragments")));
	printf("no service %s\n", json_string_value(json_object_get(status, "no_service")));
	syn_limit_print(json_object_get(status, "syn_limit"));
	json_array_foreach(json_object_get(status, "services"), i, item) service_print(item);
	printf("\n");
	counters_print(counter_texts, counters, SS_LB_COUNTER_MAX);
}

/* Reads everything into *@seen, whose maps are open, and makes JSON of it; NULL with @err set. */
static json_t *status_read(struct seen *seen, struct error *err)
{
	json_t *status = NULL;

	if (lb_services_read(&seen->maps, &seen->services, err))
		return NULL;
	(void)map_counters_read(seen->maps.counters, seen->counters, SS_LB_COUNTER_MAX);
	lb_backends_init(&seen->backends, &seen->maps);
	seen->left = left_read(&seen->maps, &seen->services);
	if (seen->left)
		status = status_json(seen);
	else
		error_set(err, -ENOMEM, "cannot count the connections that are left");
	free(seen->left);
	lb_backends_done(&seen->backends);
	lb_services_done(&seen->services);
	return status;
}

int cmd_balancer_status(const struct options *options, char **argv)
{
	struct seen seen = {};
	struct error err = {};
	enum pins_state state;
	struct pins pins;
	json_t *status;
	int lock, ret = 0;

	(void)argv;
	if (command_begin(options, "balancer", &pins, &lock, &err))
		return command_fail(&err);
	close(lock);
	seen.pins = &pins;
	state = pins_state(&pins, &err);
	if (state == PINS_OTHER || state == PINS_ELSEWHERE ||
	    balancer_maps_open(&pins, &seen.maps, &err))
		return command_fail(&err);
	status = status_read(&seen, &err);
	balancer_maps_close(&seen.maps);
	if (!status)
		return command_fail(&err);
	if (json_array_size(json_object_get(status, "problems")))
		ret = COMMAND_PROBLEM;
	if (options->json)
		return command_print_json(status), ret;
	status_print(status, seen.counters);
	json_decref(status);
	return ret;
}
