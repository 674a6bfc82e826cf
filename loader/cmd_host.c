// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* sidestep host up, down, report, status, connections. */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "command.h"
#include "config.h"
#include "host.h"
#include "host_where.h"
#include "reporter.h"
#include "tc.h"

#include <sidestep/counters.h>

static const struct counter_text counter_texts[] = { SS_HOST_COUNTERS(COUNTER_TEXT) };

static void warn(enum host_finding kind, const char *text, void *arg)
{
	(void)kind;
	(void)arg;
	fprintf(stderr, "sidestep: warning: %s\n", text);
}

static int up(const struct pins *pins, const struct config *config, const struct options *options,
	      struct error *err)
{
	int ret = host_up(pins, config->host, options->cgroup, err);

	if (!ret)
		(void)host_findings(pins, warn, NULL);
	return ret;
}

int cmd_host_up(const struct options *options, char **argv)
{
	return command_up(options, "host", argv[0], up);
}

int cmd_host_down(const struct options *options, char **argv)
{
	struct error err = {};
	struct pins pins;
	int lock, ret;

	(void)argv;
	ret = command_begin(options, "host", &pins, &lock, &err);
	if (!ret) {
		ret = host_down(&pins, options->force, &err);
		close(lock);
	}
	return ret ? command_fail(&err) : 0;
}

/* Stays: the lock is for those who change something, and given back at once. */
int cmd_host_report(const struct options *options, char **argv)
{
	struct config *config;
	struct error err = {};
	struct pins pins;
	int lock, ret;

	if (config_load(argv[0], &config, &err))
		return command_fail(&err);
	if (!config->host || !config->host->report.balancers_count)
		ret = error_set(&err, -EINVAL,
				"%s: no key \"report\" in a \"host\" section; expected one for: "
				"host report",
				argv[0]);
	else
		ret = command_begin(options, "host", &pins, &lock, &err);
	if (!ret) {
		close(lock);
		ret = reporter_run(&pins, &config->host->report, &err);
	}
	config_free(config);
	return ret ? command_fail(&err) : 0;
}

/* Begins a command that shows the loaded programs. Returns 0, or -1 after it said why not. */
static int show_begin(const struct options *options, struct pins *pins)
{
	struct error err = {};
	int lock;

	if (command_begin(options, "host", pins, &lock, &err))
		return command_fail(&err), -1;
	close(lock);
	switch (pins_state(pins, &err)) {
	case PINS_OURS:
		return 0;
	case PINS_OTHER:
	case PINS_ELSEWHERE:
		return command_fail(&err), -1;
	default:
		(void)error_set(&err, 0,
				"no host programs are loaded below %s; start them with: sidestep "
				"host up FILE",
				pins->dir);
		return command_fail(&err), -1;
	}
}

static void add_service(const struct ss_endpoint *vip, const struct ss_serve *serve, void *arg)
{
	json_t *service = json_pack("{s:o, s:s, s:i, s:s}", "vip", json_endpoint(vip), "protocol",
				    endpoint_protocol(vip), "listen", SS_BE16(serve->listen),
				    "replies", serve->strict ? "strict" : "classic");
	char address[ADDRESS_TEXT_LEN];

	if (ss_addr_is_set(&serve->address))
		json_object_set_new(service, "address",
				    json_string(address_format(&serve->address, address)));
	json_array_append_new(arg, service);
}

static void add_open(const struct ss_served_at *at, const struct ss_open *open, void *arg)
{
	json_array_append_new(arg, json_pack("{s:o, s:i, s:I, s:I}", "vip", json_endpoint(&at->vip),
					     "listen", SS_BE16(at->listen), "open",
					     (json_int_t)open->open, "accepted",
					     (json_int_t)open->accepted));
}

static void add_prefix(const struct ss_prefix *prefix, void *arg)
{
	json_array_append_new(arg, json_prefix(prefix));
}

static void add_blocked(const void *backend, unsigned seconds, void *arg)
{
	char text[ADDRESS_TEXT_LEN];

	json_array_append_new(arg, json_pack("{s:s, s:i}", "address", address_format(backend, text),
					     "seconds", seconds));
}

static void add_plain(const void *service, unsigned seconds, void *arg)
{
	json_array_append_new(arg, json_pack("{s:o, s:i}", "service", json_endpoint(service),
					     "seconds", seconds));
}

static json_t *prefixes_json(const struct pins *pins, const char *name)
{
	json_t *array = json_array();

	host_prefixes(pins, name, add_prefix, array);
	return array;
}

static int add_interface(const struct pins *pins, const char *name, void *arg)
{
	char interface[IF_NAMESIZE] = "(gone)";
	struct tc_attached a;
	const char *how;

	if (tc_attached_parse(name, &a))
		return 0;
	if (!tc_is_attached(pins, name, &a))
		how = "detached";
	else
		how = a.tcx ? "tcx" : "clsact";
	(void)if_indextoname(a.ifindex, interface);
	json_array_append_new(arg, json_pack("{s:s, s:i, s:s, s:s}", "interface", interface,
					     "ifindex", a.ifindex, "direction",
					     tc_direction_name(a.direction), "attached", how));
	return 0;
}

static void add_listener(const struct ss_endpoint *local, void *arg)
{
	json_array_append_new(arg, json_endpoint(local));
}

/* Listeners that must restart; null where the kernel cannot tell. */
static json_t *restart_json(const struct pins *pins)
{
	json_t *array = json_array();
	struct error err = {};

	if (!host_old_listeners(pins, add_listener, array, &err))
		return array;
	json_decref(array);
	return json_null();
}

/* What stands in the way, as two lists of texts. */
struct findings {
	json_t *problems, *warnings;
};

static void add_finding(enum host_finding kind, const char *text, void *arg)
{
	struct findings *findings = arg;

	json_array_append_new(kind == HOST_PROBLEM ? findings->problems : findings->warnings,
			      json_string(text));
}

static json_t *status_json(const struct pins *pins, const __u64 *counters)
{
	json_t *interfaces = json_array(), *services = json_array(), *blocked = json_array(),
	       *plain = json_array(), *open = json_array();
	struct findings findings = { json_array(), json_array() };

	(void)host_findings(pins, add_finding, &findings);
	pins_each(pins, "", add_interface, interfaces);
	host_services(pins, add_service, services);
	host_open(pins, add_open, open);
	host_remembered(pins, "blocked", add_blocked, blocked);
	host_remembered(pins, "plain", add_plain, plain);
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:o}",
			 "version", pins->version, "problems", findings.problems, "warnings",
			 findings.warnings, "programs", interfaces, "serve", services, "open", open,
			 "listeners_that_must_restart", restart_json(pins), "dial",
			 prefixes_json(pins, "dial"), "backends", prefixes_json(pins, "backends"),
			 "blocked", blocked, "plain", plain, "trusted_balancers",
			 prefixes_json(pins, "trusted"), "strict_connections",
			 host_strict_flows(pins), "counters",
			 json_counters(counter_texts, counters, SS_HOST_COUNTER_MAX));
}

static void status_print(const json_t *status, const __u64 *counters)
{
	const json_t *item;
	size_t i;

	printf("version   %s\n", json_string_value(json_object_get(status, "version")));
	json_array_foreach(json_object_get(status, "problems"), i, item)
		printf("problem   %s\n", json_string_value(item));
	json_array_foreach(json_object_get(status, "warnings"), i, item)
		printf("warning   %s\n", json_string_value(item));
	json_array_foreach(json_object_get(status, "programs"), i, item)
		printf("program   %s %s (%s)\n",
		       json_string_value(json_object_get(item, "interface")),
		       json_string_value(json_object_get(item, "direction")),
		       json_string_value(json_object_get(item, "attached")));
	printf("dial      %s\n", json_join(json_object_get(status, "dial")));
	printf("backends  %s\n", json_join(json_object_get(status, "backends")));
	printf("trusted   %s\n", json_join(json_object_get(status, "trusted_balancers")));
	json_array_foreach(json_object_get(status, "serve"), i, item)
	{
		const char *address = json_string_value(json_object_get(item, "address"));

		printf("serve     %s %s listen %lld %s%s%s\n",
		       json_string_value(json_object_get(item, "vip")),
		       json_string_value(json_object_get(item, "protocol")),
		       json_integer_value(json_object_get(item, "listen")),
		       json_string_value(json_object_get(item, "replies")),
		       address ? " address " : "", address ? address : "");
	}
	json_array_foreach(json_object_get(status, "open"), i, item)
		printf("open      %s listen %lld: %lld connections, %lld so far\n",
		       json_string_value(json_object_get(item, "vip")),
		       json_integer_value(json_object_get(item, "listen")),
		       json_integer_value(json_object_get(item, "open")),
		       json_integer_value(json_object_get(item, "accepted")));
	printf("strict    %lld connections to servers that reply strictly\n",
	       json_integer_value(json_object_get(status, "strict_connections")));
	json_array_foreach(json_object_get(status, "blocked"), i, item)
		printf("blocked   %s for %lld more seconds\n",
		       json_string_value(json_object_get(item, "address")),
		       json_integer_value(json_object_get(item, "seconds")));
	json_array_foreach(json_object_get(status, "plain"), i, item)
		printf("plain     %s for %lld more seconds\n",
		       json_string_value(json_object_get(item, "service")),
		       json_integer_value(json_object_get(item, "seconds")));
	json_array_foreach(json_object_get(status, "listeners_that_must_restart"), i, item)
		printf("restart   %s listened before the programs were loaded: it cannot grant\n",
		       json_string_value(item));
	printf("\n");
	counters_print(counter_texts, counters, SS_HOST_COUNTER_MAX);
}

int cmd_host_status(const struct options *options, char **argv)
{
	__u64 counters[SS_HOST_COUNTER_MAX];
	struct error err = {};
	struct pins pins;
	size_t problems;
	json_t *status;

	(void)argv;
	if (show_begin(options, &pins))
		return 1;
	if (host_counters(&pins, counters, &err))
		return command_fail(&err);
	status = status_json(&pins, counters);
	problems = json_array_size(json_object_get(status, "problems"));
	if (options->json)
		return command_print_json(status), problems ? COMMAND_PROBLEM : 0;
	status_print(status, counters);
	json_decref(status);
	return problems ? COMMAND_PROBLEM : 0;
}

static const char *path_name(const struct ss_conn *conn)
{
	switch (conn->path) {
	case SS_PATH_DIRECT:
		return "direct";
	case SS_PATH_BALANCER:
		return "balancer";
	default:
		return "asking";
	}
}

/* Why a connection takes its path: the counter of that reason. */
static const char *reason_name(const struct ss_conn *conn)
{
	if (conn->path == SS_PATH_ASKING || conn->reason >= SS_HOST_COUNTER_MAX)
		return "";
	return counter_texts[conn->reason].name;
}

static const char *state_name(__u32 state)
{
	/* include/net/tcp_states.h */
	static const char *const names[] = { "?",	   "ESTABLISHED", "SYN_SENT",  "SYN_RECV",
					     "FIN_WAIT1",  "FIN_WAIT2",	  "TIME_WAIT", "CLOSE",
					     "CLOSE_WAIT", "LAST_ACK",	  "LISTEN",    "CLOSING" };

	return state < sizeof(names) / sizeof(*names) ? names[state] : "?";
}

static void add_connection(const struct ss_conn_record *record, void *arg)
{
	const struct ss_conn *conn = &record->conn;
	json_t *item;

	if (conn->role == SS_ROLE_LISTENER)
		return;
	item = json_pack("{s:s, s:s, s:o, s:o, s:s, s:s}", "role",
			 conn->role == SS_ROLE_CLIENT ? "client" : "server", "state",
			 state_name(record->state), "local", json_endpoint(&conn->flow.local),
			 "remote", json_endpoint(&conn->flow.remote), "path", path_name(conn),
			 "reason", reason_name(conn));
	if (conn->rewrite)
		json_object_set_new(item, "wire", json_endpoint(&conn->wire));
	json_array_append_new(arg, item);
}

int cmd_host_connections(const struct options *options, char **argv)
{
	json_t *connections, *item;
	struct error err = {};
	struct pins pins;
	size_t i;

	(void)argv;
	if (show_begin(options, &pins))
		return 1;
	connections = json_array();
	if (host_connections(&pins, add_connection, connections, &err)) {
		json_decref(connections);
		return command_fail(&err);
	}
	if (options->json)
		return command_print_json(connections);
	printf("%-6s %-11s %-26s %-26s %-8s %-26s %s\n", "ROLE", "STATE", "LOCAL", "REMOTE", "PATH",
	       "ON THE WIRE", "REASON");
	json_array_foreach(connections, i, item)
	{
		const char *role, *state, *local, *remote, *path, *reason, *wire = "-";

		json_unpack(item, "{s:s, s:s, s:s, s:s, s:s, s:s, s?s}", "role", &role, "state",
			    &state, "local", &local, "remote", &remote, "path", &path, "reason",
			    &reason, "wire", &wire);
		printf("%-6s %-11s %-26s %-26s %-8s %-26s %s\n", role, state, local, remote, path,
		       wire, reason);
	}
	json_decref(connections);
	return 0;
}
