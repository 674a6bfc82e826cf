// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "config_raw.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cyaml/cyaml.h>

#include <sidestep/host.h>
#include <sidestep/lb.h>

#include "config.h"

#define KEY_MAX 1100 /* YAML's own limit for keys of this kind is 1024 characters */

/*
 * A key with one value; libcyaml sets no limits to it, the conversions below do. An optional one
 * may be null or empty, as if it were absent.
 */
#define KEY_TEXT(type, member, flags)                                                  \
	CYAML_FIELD_STRING_PTR(#member, CYAML_FLAG_POINTER | (flags), type, member, 0, \
			       CYAML_UNLIMITED)
#define OPTIONAL_TEXT (CYAML_FLAG_POINTER_NULL_STR | CYAML_FLAG_OPTIONAL)
/* A key with a list of values. */
#define KEY_LIST(type, member, flags, max)                                               \
	CYAML_FIELD_SEQUENCE_COUNT(#member, CYAML_FLAG_POINTER_NULL_STR | (flags), type, \
				   member.item, member.count, &schema_text, 0, max)
/* A key with a list of mappings. */
#define KEY_MAPPINGS(type, member, schema, max)                                                \
	CYAML_FIELD_SEQUENCE(#member, CYAML_FLAG_POINTER_NULL_STR | CYAML_FLAG_OPTIONAL, type, \
			     member, schema, 0, max)
/* An optional key with a mapping. */
#define KEY_MAPPING(type, member, keys)                                                          \
	CYAML_FIELD_MAPPING_PTR(#member, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, member, \
				keys)
#define OPTIONAL CYAML_FLAG_OPTIONAL

static const cyaml_schema_value_t schema_text = {
	CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED),
};

static const cyaml_schema_field_t serve_keys[] = {
	KEY_TEXT(struct raw_serve, vip, 0),
	KEY_TEXT(struct raw_serve, listen, OPTIONAL_TEXT),
	KEY_LIST(struct raw_serve, listen_also, OPTIONAL, SS_SERVE_ALSO),
	KEY_TEXT(struct raw_serve, replies, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_serve, protocol, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_serve, address, OPTIONAL_TEXT),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t schema_serve = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_serve, serve_keys),
};

static const cyaml_schema_field_t report_keys[] = {
	KEY_LIST(struct raw_report, balancers, 0, SS_HOST_RULES),
	KEY_TEXT(struct raw_report, key, 0),
	KEY_TEXT(struct raw_report, interval, OPTIONAL_TEXT),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t host_keys[] = {
	KEY_LIST(struct raw_host, interfaces, 0, SS_HOST_INTERFACES),
	KEY_LIST(struct raw_host, trusted_balancers, OPTIONAL, SS_HOST_RULES),
	KEY_LIST(struct raw_host, clients, OPTIONAL, SS_HOST_RULES),
	KEY_LIST(struct raw_host, backends, OPTIONAL, SS_HOST_RULES),
	KEY_LIST(struct raw_host, dial, OPTIONAL, SS_HOST_RULES),
	KEY_MAPPINGS(struct raw_host, serve, &schema_serve, SS_HOST_RULES),
	KEY_MAPPING(struct raw_host, report, report_keys),
	KEY_TEXT(struct raw_host, attach, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_host, cgroup, OPTIONAL_TEXT),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t backend_keys[] = {
	KEY_TEXT(struct raw_backend, name, 0),
	KEY_TEXT(struct raw_backend, address, 0),
	KEY_TEXT(struct raw_backend, weight, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_backend, state, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_backend, quic_id, OPTIONAL_TEXT),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t schema_backend = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_backend, backend_keys),
};

static const cyaml_schema_field_t suspect_keys[] = {
	KEY_TEXT(struct raw_suspect, unanswered, 0),
	KEY_TEXT(struct raw_suspect, share, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_suspect, hold, OPTIONAL_TEXT),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t service_keys[] = {
	KEY_TEXT(struct raw_service, name, 0),
	KEY_TEXT(struct raw_service, vip, 0),
	KEY_TEXT(struct raw_service, protocol, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_service, scheduler, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_service, method, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_service, flow_table, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_service, slots, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_service, fail_open, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_service, no_backend, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_service, unknown, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_service, quic_id_length, OPTIONAL_TEXT),
	KEY_MAPPING(struct raw_service, suspect, suspect_keys),
	KEY_TEXT(struct raw_service, slow_start, OPTIONAL_TEXT),
	KEY_MAPPINGS(struct raw_service, backends, &schema_backend, SS_LB_SERVICE_BACKENDS),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t schema_service = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_service, service_keys),
};

static const cyaml_schema_field_t reports_keys[] = {
	KEY_TEXT(struct raw_reports, port, 0),
	KEY_TEXT(struct raw_reports, key, 0),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t syn_limit_keys[] = {
	KEY_TEXT(struct raw_syn_limit, rate, 0),
	KEY_TEXT(struct raw_syn_limit, burst, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_syn_limit, prefix4, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_syn_limit, prefix6, OPTIONAL_TEXT),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t balancer_keys[] = {
	KEY_LIST(struct raw_balancer, interfaces, 0, SS_HOST_INTERFACES),
	KEY_LIST(struct raw_balancer, source, OPTIONAL, 2),
	KEY_TEXT(struct raw_balancer, xdp_mode, OPTIONAL_TEXT),
	KEY_MAPPING(struct raw_balancer, reports, reports_keys),
	KEY_TEXT(struct raw_balancer, fragments, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_balancer, no_service, OPTIONAL_TEXT),
	KEY_MAPPING(struct raw_balancer, syn_limit, syn_limit_keys),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t config_keys[] = {
	CYAML_FIELD_MAPPING_PTR("host", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_config,
				host, host_keys),
	CYAML_FIELD_MAPPING_PTR("balancer", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
				struct raw_config, balancer, balancer_keys),
	KEY_MAPPINGS(struct raw_config, services, &schema_service, SS_LB_SERVICES),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t schema_config = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw_config, config_keys),
};

/*
 * What libcyaml logged about a failure: a message, then a backtrace from the innermost place on.
 */
struct cyaml_report {
	char message[KEY_MAX + 64];
	char path[CONFIG_PATH_LEN]; /* of the innermost place */
	char parent[CONFIG_PATH_LEN]; /* of the one around it */
	bool deeper; /* the innermost place is known */
};

/* Puts @part in front of the path in @buf (CONFIG_PATH_LEN bytes). */
static void path_prepend(char *buf, const char *part)
{
	char rest[CONFIG_PATH_LEN];
	const char *dot = *part && *buf && *buf != '[' ? "." : "";

	strcpy(rest, buf);
	snprintf(buf, CONFIG_PATH_LEN, "%.40s%s%.80s", part, dot, rest);
}

/* libcyaml's log callback (1.3.1: one call a line, the backtrace's lines are indented). */
__attribute__((format(printf, 3, 0))) static void log_take(cyaml_log_t level, void *ctx,
							   const char *format, va_list args)
{
	struct cyaml_report *report = ctx;
	char line[KEY_MAX + 128], part[64];
	unsigned item;

	if (level < CYAML_LOG_ERROR)
		return;
	vsnprintf(line, sizeof(line), format, args);
	line[strcspn(line, "\n")] = 0;
	if (!strncmp(line, "Load: ", 6)) {
		if (!*report->message)
			snprintf(report->message, sizeof(report->message), "%.*s", KEY_MAX,
				 line + 6);
		return;
	}
	if (sscanf(line, " in sequence entry '%u'", &item) == 1)
		snprintf(part, sizeof(part), "[%u]", item ? item - 1 : 0);
	else if (sscanf(line, " in mapping field '%40[^']'", part) != 1)
		part[0] = 0; /* between two keys of a mapping */
	path_prepend(report->path, part);
	if (report->deeper)
		path_prepend(report->parent, part);
	report->deeper = true;
}

/* libcyaml's name for a kind of value, in words. */
static const char *kind_words(const char *kind)
{
	if (!strncmp(kind, "SEQUENCE", 8))
		return "a list";
	return !strncmp(kind, "MAPPING", 7) ? "a mapping" : "empty or a single value";
}

/* What stands behind @prefix in libcyaml's message; the whole message if it starts otherwise. */
static const char *message_tail(const struct cyaml_report *report, const char *prefix)
{
	size_t len = strlen(prefix);

	return report->message + (strncmp(report->message, prefix, len) ? 0 : len);
}

/* Turns what libcyaml logged before it returned @code into our one line. */
static int fail_cyaml(struct source *src, const struct cyaml_report *report, cyaml_err_t code)
{
	char path[CONFIG_PATH_LEN + KEY_MAX + 64], expected[256], got[32];
	const char *key;

	switch (code) {
	case CYAML_ERR_OOM:
		return error_set(src->err, -ENOMEM, "%s: out of memory", src->name);
	case CYAML_ERR_INVALID_KEY:
		key = message_tail(report, "Unexpected key: ");
		snprintf(path, sizeof(path), "%s%s%s", report->path, *report->path ? "." : "", key);
		keys_list(report->path, expected, sizeof(expected));
		return fail_path(src, path, expected, "unknown key");
	case CYAML_ERR_MAPPING_FIELD_MISSING:
		key = message_tail(report, "Missing required mapping field: ");
		snprintf(path, sizeof(path), "%s%s%s", report->parent, *report->parent ? "." : "",
			 key);
		return fail_path(src, path, NULL, "missing");
	case CYAML_ERR_SEQUENCE_ENTRIES_MAX:
		key = message_tail(report, "Excessive entries (");
		snprintf(expected, sizeof(expected), "at most %u", (unsigned)atoi(key));
		return fail_path(src, report->parent, expected, "too many entries");
	case CYAML_ERR_INVALID_ALIAS:
		return fail_path(src, report->path, NULL, "an alias inside of what it stands for");
	case CYAML_ERR_UNEXPECTED_EVENT:
		if (strstr(report->message, "already seen"))
			return fail_path(src, report->path, "it once", "a second time");
		break;
	default:
		if (sscanf(report->message, "Expecting %*s got event: %31s", got) == 1)
			return fail_path(src, report->path, NULL, "%s", kind_words(got));
	}
	return fail_path(src, report->path, NULL, "%s", report->message);
}

static const cyaml_config_t cyaml_base = {
	.log_fn = log_take,
	.mem_fn = cyaml_mem,
	.log_level = CYAML_LOG_ERROR,
};

int config_raw_load(struct source *src, const char *text, size_t len, struct raw_config **out)
{
	struct cyaml_report report = {};
	cyaml_config_t cyaml = cyaml_base;
	cyaml_err_t code;

	cyaml.log_ctx = &report;
	code = cyaml_load_data((const uint8_t *)text, len, &cyaml, &schema_config, (void **)out,
			       NULL);
	return code == CYAML_OK ? 0 : fail_cyaml(src, &report, code);
}

void config_raw_free(struct raw_config *raw)
{
	cyaml_free(&cyaml_base, &schema_config, raw, 0);
}
