// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "config_place.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <sidestep/lb.h>

#include "yaml_line.h"

/* ", maglev, round-robin, ..." */
#define SCHEDULER_NAME(id, name, hashed, choose, fill) ", " name
#define SCHEDULER_NAMES SS_SCHEDULERS(SCHEDULER_NAME)

/*
 * What is expected where: the end of every error message. "[]" stands for any list item. The
 * keys that a mapping knows, as listed for one that it does not, are this table's too.
 */
static const struct {
	const char *path;
	const char *expected;
} expectations[] = {
	{ "", "a mapping with the key host, or balancer and services" },
	{ "host", "a mapping with the key interfaces and others" },
	{ "host.interfaces", "a list of network interfaces, such as [eth0]" },
	{ "host.interfaces[]", "the name of a network interface: 1 to 15 bytes" },
	{ "host.trusted_balancers", "a list of prefixes, such as [10.0.2.0/24]" },
	{ "host.trusted_balancers[]", "a prefix or an address, such as 10.0.2.0/24 or fd00::1" },
	{ "host.clients", "a list of prefixes, such as [10.0.0.0/8]" },
	{ "host.clients[]", "a prefix or an address, such as 10.0.0.0/8 or fd00::1" },
	{ "host.backends", "a list of prefixes, such as [10.0.0.0/16]" },
	{ "host.backends[]", "a prefix or an address, such as 10.0.0.0/16 or fd00::1" },
	{ "host.dial", "a list of services, such as [10.99.0.0/24, \"[fd00:99::1]:443\"]" },
	{ "host.dial[]", "a prefix, such as 10.99.0.0/24, or ADDRESS:PORT" },
	{ "host.serve", "a list of mappings, such as [{vip: \"10.99.0.1:80\", listen: 8080}]" },
	{ "host.serve[]", "a mapping, such as {vip: \"10.99.0.1:80\", listen: 8080}" },
	{ "host.serve[].vip", "ADDRESS:PORT, such as 10.99.0.1:80 or \"[fd00:99::1]:80\"" },
	{ "host.serve[].listen", "a port, 1 to 65535" },
	{ "host.serve[].listen_also", "a list of up to 3 ports, such as [8081]" },
	{ "host.serve[].listen_also[]", "a port, 1 to 65535" },
	{ "host.serve[].replies", "classic or strict" },
	{ "host.serve[].protocol", "tcp or udp" },
	{ "host.serve[].address", "one of the server's own addresses, of the VIP's IP version" },
	{ "host.report", "a mapping with the keys balancers and key" },
	{ "host.report.balancers", "a list of endpoints, such as [\"10.0.2.2:7946\"]" },
	{ "host.report.balancers[]",
	  "ADDRESS:PORT, such as 10.0.2.2:7946 or \"[fd00:2::2]:7946\"" },
	{ "host.report.key", "the path of a file" },
	{ "host.report.interval", "milliseconds, 10 to 60000" },
	{ "host.attach", "auto, tcx or clsact" },
	{ "host.cgroup", "the path of a cgroup2 folder" },
	{ "balancer", "a mapping with the key interfaces" },
	{ "balancer.interfaces", "a list of network interfaces, such as [eth0]" },
	{ "balancer.interfaces[]", "the name of a network interface: 1 to 15 bytes" },
	{ "balancer.source", "a list of addresses, such as [10.0.2.2]" },
	{ "balancer.source[]", "one of the balancer's own addresses for each IP version" },
	{ "balancer.xdp_mode", "auto, native or generic" },
	{ "balancer.reports", "a mapping with the keys port and key" },
	{ "balancer.reports.port", "a UDP port, 1 to 65535" },
	{ "balancer.reports.key", "the path of a file" },
	{ "balancer.fragments", "drop or pass" },
	{ "balancer.no_service", "pass, drop or unreachable" },
	{ "balancer.syn_limit", "a mapping with the key rate and others" },
	{ "balancer.syn_limit.rate", "SYNs a second, 1 to 1000000" },
	{ "balancer.syn_limit.burst", "SYNs, 1 to 1000000" },
	{ "balancer.syn_limit.prefix4", "a number of bits, 1 to 32" },
	{ "balancer.syn_limit.prefix6", "a number of bits, 1 to 128" },
	{ "services", "a list of mappings with the keys name, vip and backends" },
	{ "services[]", "a mapping with the keys name, vip and backends" },
	{ "services[].name", "1 to 63 bytes without blanks and slashes" },
	{ "services[].vip", "ADDRESS:PORT, such as 10.99.0.1:80 or \"[fd00:99::1]:80\"" },
	{ "services[].protocol", "tcp or udp" },
	{ "services[].scheduler", &SCHEDULER_NAMES[2] },
	{ "services[].method", "rewrite, ipip, gue or nat" },
	{ "services[].flow_table", "yes or no" },
	{ "services[].slots", "8191 or 65537" },
	{ "services[].fail_open", "yes or no" },
	{ "services[].no_backend", "drop, reset or unreachable" },
	{ "services[].unknown", "drop or reset" },
	{ "services[].quic_id_length", "bytes, 1 to 8" },
	{ "services[].suspect", "a mapping with the key unanswered and others" },
	{ "services[].suspect.unanswered", "a number of SYNs, 1 to 65535" },
	{ "services[].suspect.share", "percent, 1 to 100" },
	{ "services[].suspect.hold", "seconds, 2 to 3600" },
	{ "services[].slow_start", "seconds, 0 to 3600" },
	{ "services[].backends",
	  "a list of mappings, such as [{name: s1, address: \"10.0.3.2:80\"}]" },
	{ "services[].backends[]", "a mapping, such as {name: s1, address: \"10.0.3.2:80\"}" },
	{ "services[].backends[].name", "1 to 63 bytes without blanks and slashes" },
	{ "services[].backends[].address",
	  "ADDRESS:PORT, such as 10.0.3.2:80 or \"[fd00:1::2]:80\"" },
	{ "services[].backends[].weight", "a number, 0 to 65535" },
	{ "services[].backends[].state", "up, drain or down" },
	{ "services[].backends[].quic_id",
	  "hexadecimal digits, two for each byte of quic_id_length" },
};

#define EXPECTATIONS (sizeof(expectations) / sizeof(expectations[0]))

/* Writes @path into @buf (CONFIG_PATH_LEN bytes) with every "[number]" as "[]". */
static void path_generalise(const char *path, char *buf)
{
	size_t len = 0;
	bool number = false;

	for (; *path && len < CONFIG_PATH_LEN - 1; path++) {
		if (*path == ']')
			number = false;
		if (!number)
			buf[len++] = *path;
		if (*path == '[')
			number = true;
	}
	buf[len] = 0;
}

/* What is expected at @path; NULL if nothing is known about it. */
static const char *expected_at(const char *path)
{
	char general[CONFIG_PATH_LEN];

	path_generalise(path, general);
	for (size_t i = 0; i < EXPECTATIONS; i++)
		if (!strcmp(expectations[i].path, general))
			return expectations[i].expected;
	return NULL;
}

static int fail_v(struct source *src, const char *path, const char *expected, const char *format,
		  va_list args)
{
	unsigned line = yaml_line(&src->doc, path);
	char what[256];

	vsnprintf(what, sizeof(what), format, args);
	if (!expected)
		expected = expected_at(path);
	return error_set(src->err, -EINVAL, "%s:%u: %.128s%s%s%s%s", src->name, line, path,
			 *path ? ": " : "", what, expected ? "; expected " : "",
			 expected ? expected : "");
}

int fail_path(struct source *src, const char *path, const char *expected, const char *format, ...)
{
	va_list args;
	int ret;

	va_start(args, format);
	ret = fail_v(src, path, expected, format, args);
	va_end(args);
	return ret;
}

/* Appends the path of @at to the @len bytes in @buf (CONFIG_PATH_LEN bytes). Returns the new length. */
static size_t place_write(const struct place *at, char *buf)
{
	size_t len = at->in ? place_write(at->in, buf) : 0;

	if (at->in && at->key)
		len += snprintf(buf + len, CONFIG_PATH_LEN - len, "%s%s", len ? "." : "", at->key);
	else if (at->in)
		len += snprintf(buf + len, CONFIG_PATH_LEN - len, "[%u]", at->item);
	else
		buf[0] = 0;
	return len;
}

int fail_at(const struct place *at, const char *expected, const char *format, ...)
{
	char path[CONFIG_PATH_LEN];
	va_list args;
	int ret;

	place_write(at, path);
	va_start(args, format);
	ret = fail_v(at->src, path, expected, format, args);
	va_end(args);
	return ret;
}

int fail_memory(const struct place *at)
{
	return error_set(at->src->err, -ENOMEM, "%s: out of memory", at->src->name);
}

void keys_list(const char *path, char *buf, size_t size)
{
	char general[CONFIG_PATH_LEN];
	const char *before = "one of ";
	size_t len, used = 0;

	path_generalise(path, general);
	len = strlen(general);
	for (size_t i = 0; i < EXPECTATIONS && used < size; i++) {
		const char *key = expectations[i].path;

		if (strncmp(key, general, len))
			continue;
		key += len;
		if ((len && *key++ != '.') || !*key || strpbrk(key, ".["))
			continue;
		used += snprintf(buf + used, size - used, "%s%s", before, key);
		before = ", ";
	}
}
