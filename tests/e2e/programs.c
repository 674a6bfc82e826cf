// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "programs.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <jansson.h>

#include <sidestep/addr.h>

#include "capture.h"
#include "hosts.h"

#define TESTBED_CONFIG "netns-testbed/config/"

static const char server_more[] = "    - {vip: \"10.99.0.1:81\", listen: 8081}\n"
				  "    - {vip: \"10.99.0.2:81\", listen: 8081}\n"
				  "    - {vip: \"[fd00:99::1]:81\"}\n"
				  "    - {vip: \"[fd00:99::2]:81\"}\n"
				  "    - {vip: \"10.99.0.1:84\", listen: 8084}\n"
				  "    - {vip: \"[fd00:99::1]:84\"}\n"
				  "    - {vip: \"10.99.0.1:85\", listen: 8085}\n"
				  "    - {vip: \"10.99.0.2:85\", listen: 8085}\n"
				  "    - {vip: \"[fd00:99::1]:85\"}\n"
				  "    - {vip: \"[fd00:99::2]:85\"}\n"
				  "    - {protocol: udp, vip: \"10.99.0.1:85\", listen: 8085}\n"
				  "    - {protocol: udp, vip: \"[fd00:99::1]:85\", listen: 8085}\n";

/* To sed: services that have the testbed's method have none. */
#define WITHOUT_METHOD "s#, method: rewrite##;/^    method: rewrite$/d"

#define BACKEND(name, address) "{name: " name ", address: \"" address "\"}"
#define MANY(name, vip)                                                \
	"  - {name: " name ", vip: \"" vip                             \
	"\", backends: [" BACKEND("s1", "10.0.3.2:8085") ", " BACKEND( \
		"s2", "10.0.4.2:8085") ", " BACKEND("s3", "10.0.5.2:8085") "]}\n"
#define UDP6(name, vip)                                                                    \
	"  - {name: " name ", vip: \"" vip                                                 \
	"\", protocol: udp, backends: [" BACKEND("s1", "[fd00:1:3::2]:8085") ", " BACKEND( \
		"s2", "[fd00:1:4::2]:8085") ", " BACKEND("s3", "[fd00:1:5::2]:8085") "]}\n"
#define MANY6(name, vip)                                                  \
	"  - {name: " name ", vip: \"" vip                                \
	"\", backends: [" BACKEND("s1", "[fd00:1:3::2]:85") ", " BACKEND( \
		"s2", "[fd00:1:4::2]:85") ", " BACKEND("s3", "[fd00:1:5::2]:85") "]}\n"

static const char balancer_more[] =
	"  - {name: one, method: rewrite, vip: \"10.99.0.1:81\", backends: [{name: s1, "
	"address: \"10.0.3.2:8081\"}]}\n"
	"  - {name: twin, method: rewrite, vip: \"10.99.0.2:81\", backends: [{name: s1, "
	"address: \"10.0.3.2:8081\"}]}\n"
	"  - {name: unserved, method: rewrite, vip: \"10.99.0.1:83\",\n"
	"     backends: [{name: s1, address: \"10.0.3.2:8083\"}]}\n"
	"  - {name: one6, method: rewrite, vip: \"[fd00:99::1]:81\",\n"
	"     backends: [{name: s1, address: \"[fd00:1:3::2]:81\"}]}\n"
	"  - {name: twin6, method: rewrite, vip: \"[fd00:99::2]:81\",\n"
	"     backends: [{name: s1, address: \"[fd00:1:3::2]:81\"}]}\n"
	"  - {name: unserved6, method: rewrite, vip: \"[fd00:99::1]:83\",\n"
	"     backends: [{name: s1, address: \"[fd00:1:3::2]:83\"}]}\n"
	"  - {name: other, method: rewrite, vip: \"10.99.0.1:84\", backends: [{name: "
	"s1, address: \"10.0.3.2:8084\"}]}\n"
	"  - {name: other6, method: rewrite, vip: \"[fd00:99::1]:84\",\n"
	"     backends: [{name: s1, address: \"[fd00:1:3::2]:84\"}]}\n" MANY(
		"many, method: rewrite", "10.99.0.1:85")
		MANY("manytwin, method: rewrite", "10.99.0.2:85")
			MANY6("many6, method: rewrite", "[fd00:99::1]:85")
				MANY6("manytwin6, method: rewrite", "[fd00:99::2]:85")
					MANY("datagrams, protocol: udp", "10.99.0.1:85")
						UDP6("datagrams6", "[fd00:99::1]:85");

static const char *const names[] = { "c1", "s1", "s2", "s3", "lb" };
#define HOSTS (sizeof(names) / sizeof(*names))
#define BALANCER 4

static char folder[64];
static json_t *baseline[HOSTS]; /* status when the counting began; NULL: nothing was loaded */

const char *config_path(const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(paths[turn], PATH_MAX, "%s/%s", folder, name);
	return paths[turn];
}

void config_write(const char *name, const char *text)
{
	FILE *file = fopen(config_path(name), "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* Writes @text, a host's configuration, with strict replies for every service. */
static void config_write_strict(const char *name, const char *text)
{
	FILE *file = fopen(config_path(name), "we");
	const char *end, *line = text;

	assert_non_null(file);
	for (; (end = strchr(line, '\n')); line = end + 1) {
		bool service = !strncmp(line, "    - {vip:", 11);
		int len = end - line - service;

		fprintf(file, "%.*s%s\n", len, line, service ? ", replies: strict}" : "");
	}
	assert_int_equal(fclose(file), 0);
}

/* The testbed's configuration @name with @more at its end, where it has a list. */
static void config_extend(const char *name, const char *more, bool strict)
{
	char text[8192], path[PATH_MAX];
	size_t n;
	FILE *file;

	snprintf(path, sizeof(path), TESTBED_CONFIG "%s", name);
	file = fopen(path, "re");
	assert_non_null(file);
	n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	assert_true(n + strlen(more) < sizeof(text));
	strcpy(text + n, more);
	if (strict)
		config_write_strict(name, text);
	else
		config_write(name, text);
}

void config_begin(bool strict)
{
	const char *name = getenv("SIDESTEP_TESTBED");

	snprintf(folder, sizeof(folder), "/tmp/sidestep-e2e%s%.20s", name ? "-" : "",
		 name ? name : "");
	must(NULL, "rm -rf '%s'", folder); /* of a killed run */
	assert_int_equal(mkdir(folder, 0700), 0);
	config_extend(CONFIG_BALANCER, balancer_more, false);
	config_extend(CONFIG_SERVER, server_more, strict);
	config_extend(CONFIG_CLIENT, "", false);
}

void config_end(void)
{
	for (size_t i = 0; i < HOSTS; i++) {
		json_decref(baseline[i]);
		baseline[i] = NULL;
	}
	if (folder[0])
		(void)run(NULL, NULL, "rm -rf '%s'", folder);
	folder[0] = 0;
}

void host_load(const char *host, const char *config)
{
	must(host, "sidestep host up '%s'", config_path(config));
}

void balancer_load(void)
{
	must("lb", "sidestep balancer up '%s'", config_path(CONFIG_BALANCER));
}

void balancer_load_services(const char *keys)
{
	bool method = strstr(keys, "method:");

	must(NULL, "sed -E '/name: (one|other|many)6?,/{s/(name: [^,]*),/\\1, %s,/;%s}' '%s' >'%s'",
	     keys, method ? WITHOUT_METHOD : "", config_path(CONFIG_BALANCER),
	     config_path("services.yaml"));
	must("lb", "sidestep balancer up '%s'", config_path("services.yaml"));
}

void balancer_load_method(const char *method)
{
	char keys[64];

	snprintf(keys, sizeof(keys), "method: %s", method);
	balancer_load_services(keys);
}

/* Server number @n, whose addresses are those of the link 2 + @n. */
static void across_server(int n)
{
	char host[8], name[32];

	snprintf(host, sizeof(host), "s%d", n);
	snprintf(name, sizeof(name), "%s-" CONFIG_ACROSS, host);
	must(NULL,
	     "sed -E 's#vip: \"10[^\"]*\"#&, address: \"10.0.%d.2\"#; "
	     "s#vip: \"\\[[^\"]*\"#&, address: \"fd00:1:%d::2\"#' '%s' >'%s'",
	     2 + n, 2 + n, config_path(CONFIG_SERVER), config_path(name));
	host_load(host, name);
}

/* The balancer's neighbours are known: else it would lose the first packet of the other IP version. */
static void across_neighbours(void)
{
	must("lb", "ping -q -i 0.2 -c 1 -w 5 10.0.3.2 && ping -q -i 0.2 -c 1 -w 5 fd00:1:3::2");
}

void across_begin(const char *method)
{
	across_neighbours();
	for (int n = 1; n <= 3; n++)
		across_server(n);
	must(NULL,
	     "sed -E '" WITHOUT_METHOD "; s#(\\{name: [^{]*)(vip: \"[^\"]*\")#\\1\\2, method: %s#; "
	     "s#^    vip: .*#&\\n    method: %s#; "
	     "s#address: \"10\\.0\\.([0-9]+)\\.2:#address:  \"[fd00:1:\\1::2]:#g; "
	     "s#address: \"\\[fd00:1:([0-9]+)::2\\]:#address: \"10.0.\\1.2:#g' '%s' >'%s'",
	     method, method, config_path(CONFIG_BALANCER), config_path(CONFIG_ACROSS));
	must("lb", "sidestep balancer up '%s'", config_path(CONFIG_ACROSS));
}

/* The balancer forgets its flows: servers would not know what it sends them on old ones any more. */
void across_end(void)
{
	must("lb", "sidestep balancer down");
	balancer_load();
	for (int n = 1; n <= 3; n++)
		host_load((const char *[]){ "s1", "s2", "s3" }[n - 1], CONFIG_SERVER);
}

void balancer_load_with(const char *keys)
{
	must(NULL, "sed 's#^balancer:#&\\n  %s#' '%s' >'%s'", keys, config_path(CONFIG_BALANCER),
	     config_path("with.yaml"));
	must("lb", "sidestep balancer up '%s'", config_path("with.yaml"));
}

/* As the testbed comes first, then with what the tests add: the second time is a change. */
void programs_load(void)
{
	must("s1", "sidestep host up " TESTBED_CONFIG "server.yaml");
	must("lb", "sidestep balancer up " TESTBED_CONFIG "balancer.yaml");
	host_load("s1", CONFIG_SERVER);
	host_load("s2", CONFIG_SERVER);
	host_load("s3", CONFIG_SERVER);
	balancer_load();
	host_load("c1", CONFIG_CLIENT);
}

static json_t *status_read(const char *host)
{
	static char text[OUTPUT_LEN];
	int status = run(host, text, "sidestep %s status --json",
			 strcmp(host, "lb") ? "host" : "balancer");

	if (status && status != STATUS_PROBLEM)
		return NULL;
	return json_loads(text, 0, NULL);
}

static void check_errors(const char *host)
{
	json_t *status = status_read(host), *counters = json_object_get(status, "counters");
	json_int_t map = json_integer_value(json_object_get(counters, "error_map"));
	json_int_t helper = json_integer_value(json_object_get(counters, "error_helper"));

	json_decref(status);
	if (map || helper)
		fail_msg("%s: error_map %lld, error_helper %lld", host, map, helper);
}

void expect_no_errors(void)
{
	for (size_t i = 0; i < HOSTS; i++)
		check_errors(names[i]);
}

unsigned sockops_programs(const char *host)
{
	int cgroup = open(host_cgroup(host), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	__u32 ids[16], n = 16, flags;

	assert_true(cgroup >= 0);
	assert_int_equal(bpf_prog_query(cgroup, BPF_CGROUP_SOCK_OPS, 0, &flags, ids, &n), 0);
	close(cgroup);
	return n;
}

void cookies_always(bool always)
{
	must("s1", "sysctl -qw net.ipv4.tcp_syncookies=%d", always ? 2 : 1);
}

int pin_open(const char *host, const char *name)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/host/%s", host_pin_dir(host), name);
	fd = bpf_obj_get(path);
	assert_true(fd >= 0);
	return fd;
}

long remembered_seconds(const char *host, const char *kind, const char *field, const char *expected)
{
	json_t *status = status_read(host), *list = json_object_get(status, kind), *item;
	long seconds = 0;

	assert_true(json_is_array(list) && json_array_size(list) <= 1);
	item = json_array_get(list, 0);
	if (item) {
		assert_string_equal(json_string_value(json_object_get(item, field)), expected);
		seconds = json_integer_value(json_object_get(item, "seconds"));
	}
	json_decref(status);
	return seconds;
}

void remembered_expire(const char *host, const char *kind)
{
	struct ss_endpoint key; /* or what begins it, an address */
	int fd = pin_open(host, kind);
	__u64 until = 1;

	assert_int_equal(bpf_map_get_next_key(fd, NULL, &key), 0);
	assert_int_equal(bpf_map_update_elem(fd, &key, &until, BPF_EXIST), 0);
	close(fd);
}

unsigned long sockops_runs(const char *host)
{
	int prog = pin_open(host, "prog_sockops");
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(prog, &info, &len), 0);
	close(prog);
	return info.run_cnt;
}

size_t map_entries(const char *host, const char *name)
{
	int map = pin_open(host, name);
	unsigned char key[256];
	void *last = NULL;
	size_t n = 0;

	for (; !bpf_map_get_next_key(map, last, key); last = key)
		n++;
	close(map);
	return n;
}

/* The kernel may detach a program some time after its link's last reference is gone. */
void host_unload(const char *host)
{
	unsigned before = sockops_programs(host), after = before ? before - 1 : 0;
	long deadline = now_ms() + WAIT_MS;

	check_errors(host);
	must(host, "sidestep host down");
	while (sockops_programs(host) != after && now_ms() < deadline)
		poll(NULL, 0, 1);
	assert_int_equal(sockops_programs(host), after);
}

void balancer_unload(void)
{
	check_errors("lb");
	must("lb", "sidestep balancer down");
}

void counters_mark(void)
{
	for (size_t i = 0; i < HOSTS; i++) {
		json_decref(baseline[i]);
		baseline[i] = status_read(names[i]);
	}
}

static size_t host_number(const char *host)
{
	for (size_t i = 0; i < HOSTS; i++)
		if (!strcmp(names[i], host))
			return i;
	fail_msg("%s has no counters", host);
	return 0;
}

static json_int_t counter_value(const json_t *status, const char *name)
{
	return json_integer_value(json_object_get(json_object_get(status, "counters"), name));
}

long counted(const char *host, const char *name)
{
	const json_t *before = baseline[host_number(host)];
	json_t *now = status_read(host);
	json_int_t grown;

	assert_non_null(now);
	assert_non_null(json_object_get(json_object_get(now, "counters"), name));
	grown = counter_value(now, name) - counter_value(before, name);
	json_decref(now);
	return grown;
}

long strict_connections(const char *host)
{
	json_t *status = status_read(host);
	json_int_t n = json_integer_value(json_object_get(status, "strict_connections"));

	assert_non_null(status);
	json_decref(status);
	return n;
}

long open_connections(const char *host, const struct family *family, uint16_t vport,
		      const char *field)
{
	json_t *status = status_read(host), *item;
	json_int_t n = 0;
	char vip[64];
	size_t i;

	assert_true(json_is_array(json_object_get(status, "open")));
	snprintf(vip, sizeof(vip), family->af == AF_INET ? "%s:%u" : "[%s]:%u", family->vip, vport);
	json_array_foreach(json_object_get(status, "open"), i, item)
	{
		if (strcmp(json_string_value(json_object_get(item, "vip")), vip))
			continue;
		assert_int_equal(json_integer_value(json_object_get(item, "listen")),
				 listen_port(family, vport));
		n = json_integer_value(json_object_get(item, field));
	}
	json_decref(status);
	return n;
}

/* The first of @host's services with another number of open connections than 0; NULL: none. */
static json_t *first_open(const char *host)
{
	json_t *status = status_read(host), *item, *found = NULL;
	size_t i;

	json_array_foreach(json_object_get(status, "open"), i, item)
	{
		if (!found && json_integer_value(json_object_get(item, "open")))
			found = json_incref(item);
	}
	json_decref(status);
	return found;
}

void expect_none_open(void)
{
	for (size_t i = 0; i < BALANCER; i++) {
		long deadline = now_ms() + WAIT_MS;
		json_t *open;

		while ((open = first_open(names[i])) && now_ms() < deadline) {
			json_decref(open);
			poll(NULL, 0, 10);
		}
		if (open)
			fail_msg("%s: %s has %lld connections open", names[i],
				 json_string_value(json_object_get(open, "vip")),
				 json_integer_value(json_object_get(open, "open")));
	}
}

void expect_soon(const char *host, const char *name, long n)
{
	long deadline = now_ms() + WAIT_MS;

	while (counted(host, name) != n && now_ms() < deadline)
		poll(NULL, 0, 10);
	assert_int_equal(counted(host, name), n);
}

static json_t *item_named(const json_t *list, const char *name)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i,
			   item) if (!strcmp(json_string_value(json_object_get(item, "name")),
					     name)) return item;
	return NULL;
}

static json_int_t syns_value(const json_t *status, const char *service, const char *backend)
{
	json_t *item = item_named(json_object_get(status, "services"), service);

	item = item_named(json_object_get(item, "backends"), backend);
	return json_integer_value(json_object_get(item, "syns"));
}

long backend_syns(const char *service, const char *backend)
{
	json_t *now = status_read("lb");
	json_int_t grown = syns_value(now, service, backend) -
			   syns_value(baseline[BALANCER], service, backend);

	json_decref(now);
	return grown;
}

/* What the status says of @backend of @service as @field; to be freed. */
static json_t *backend_field(const char *service, const char *backend, const char *field)
{
	json_t *status = status_read("lb"), *item;

	item = item_named(json_object_get(status, "services"), service);
	item = item_named(json_object_get(item, "backends"), backend);
	item = json_incref(json_object_get(item, field));
	assert_non_null(item);
	json_decref(status);
	return item;
}

long backend_open(const char *service, const char *backend)
{
	json_t *open = backend_field(service, backend, "open");
	long n = json_is_null(open) ? -1 : json_integer_value(open);

	json_decref(open);
	return n;
}

long backend_left(const char *service, const char *backend)
{
	json_t *left = backend_field(service, backend, "left");
	long n = json_is_null(left) ? -1 : json_integer_value(json_object_get(left, "connections"));

	json_decref(left);
	return n;
}

void expect_outcome(const char *host, const char *name, long n)
{
	size_t role_len = strcspn(name, "_");
	json_t *now = status_read(host), *value;
	const char *key;

	assert_non_null(now);
	json_object_foreach(json_object_get(now, "counters"), key, value)
	{
		json_int_t expected = strcmp(key, name) ? 0 : n, grown;

		if (strncmp(key, name, role_len + 1) || !strcmp(key, "client_asked"))
			continue;
		grown = json_integer_value(value) - counter_value(baseline[host_number(host)], key);
		if (grown != expected)
			fail_msg("%s: %s: expected %lld, counted %lld", host, key, expected, grown);
	}
	json_decref(now);
}

void expect_direct(long n)
{
	expect_crossing(n, n);
	expect_outcome("c1", "client_direct", n);
	assert_int_equal(counted("s1", "server_direct") + counted("s2", "server_direct"), n);
}
