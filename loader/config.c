// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Reads the configuration file, in three steps: libyaml parses the text once to know the line of
 * everything; libcyaml checks its structure against the schemas below and hands over strings;
 * these become typed values here. Whatever is wrong ends in fail_at(), which knows the line.
 */
#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cyaml/cyaml.h>

#include "address.h"
#include "yaml_line.h"

#define INTERFACES_MAX 256
#define WEIGHT_DEFAULT 100
#define WEIGHT_MAX 65535
#define FILE_MAX (64 << 20)
#define PATH_LEN 128 /* of all that the schemas know */
#define KEY_MAX 1100 /* YAML's own limit for keys of this kind is 1024 characters */

/* The file as libcyaml hands it over. */
struct raw_list {
	char **item;
	unsigned count;
};

struct raw_serve {
	char *vip;
	char *listen;
	char *replies;
};

struct raw_host {
	struct raw_list interfaces;
	struct raw_list trusted_balancers;
	struct raw_list backends;
	struct raw_list dial;
	struct raw_serve *serve;
	unsigned serve_count;
	char *attach;
	char *cgroup;
};

struct raw_backend {
	char *name;
	char *address;
	char *weight;
	char *state;
};

struct raw_service {
	char *name;
	char *vip;
	char *scheduler;
	struct raw_backend *backends;
	unsigned backends_count;
};

struct raw_balancer {
	struct raw_list interfaces;
};

struct raw_config {
	struct raw_host *host;
	struct raw_balancer *balancer;
	struct raw_service *services;
	unsigned services_count;
};

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
#define OPTIONAL CYAML_FLAG_OPTIONAL

static const cyaml_schema_value_t schema_text = {
	CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED),
};

static const cyaml_schema_field_t serve_keys[] = {
	KEY_TEXT(struct raw_serve, vip, 0),
	KEY_TEXT(struct raw_serve, listen, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_serve, replies, OPTIONAL_TEXT),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t schema_serve = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_serve, serve_keys),
};

static const cyaml_schema_field_t host_keys[] = {
	KEY_LIST(struct raw_host, interfaces, 0, INTERFACES_MAX),
	KEY_LIST(struct raw_host, trusted_balancers, OPTIONAL, CYAML_UNLIMITED),
	KEY_LIST(struct raw_host, backends, OPTIONAL, CYAML_UNLIMITED),
	KEY_LIST(struct raw_host, dial, OPTIONAL, CYAML_UNLIMITED),
	KEY_MAPPINGS(struct raw_host, serve, &schema_serve, CYAML_UNLIMITED),
	KEY_TEXT(struct raw_host, attach, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_host, cgroup, OPTIONAL_TEXT),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t backend_keys[] = {
	KEY_TEXT(struct raw_backend, name, 0),
	KEY_TEXT(struct raw_backend, address, 0),
	KEY_TEXT(struct raw_backend, weight, OPTIONAL_TEXT),
	KEY_TEXT(struct raw_backend, state, OPTIONAL_TEXT),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t schema_backend = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_backend, backend_keys),
};

static const cyaml_schema_field_t service_keys[] = {
	KEY_TEXT(struct raw_service, name, 0),
	KEY_TEXT(struct raw_service, vip, 0),
	KEY_TEXT(struct raw_service, scheduler, OPTIONAL_TEXT),
	KEY_MAPPINGS(struct raw_service, backends, &schema_backend, SS_LB_SERVICE_BACKENDS),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t schema_service = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_service, service_keys),
};

static const cyaml_schema_field_t balancer_keys[] = {
	KEY_LIST(struct raw_balancer, interfaces, 0, INTERFACES_MAX),
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
	{ "host.backends", "a list of prefixes, such as [10.0.0.0/16]" },
	{ "host.backends[]", "a prefix or an address, such as 10.0.0.0/16 or fd00::1" },
	{ "host.dial", "a list of services, such as [10.99.0.0/24, \"[fd00:99::1]:443\"]" },
	{ "host.dial[]", "a prefix, such as 10.99.0.0/24, or ADDRESS:PORT" },
	{ "host.serve", "a list of mappings, such as [{vip: \"10.99.0.1:80\", listen: 8080}]" },
	{ "host.serve[]", "a mapping, such as {vip: \"10.99.0.1:80\", listen: 8080}" },
	{ "host.serve[].vip", "ADDRESS:PORT, such as 10.99.0.1:80 or \"[fd00:99::1]:80\"" },
	{ "host.serve[].listen", "a port, 1 to 65535" },
	{ "host.serve[].replies", "classic" },
	{ "host.attach", "auto, tcx or clsact" },
	{ "host.cgroup", "the path of a cgroup2 folder" },
	{ "balancer", "a mapping with the key interfaces" },
	{ "balancer.interfaces", "a list of network interfaces, such as [eth0]" },
	{ "balancer.interfaces[]", "the name of a network interface: 1 to 15 bytes" },
	{ "services", "a list of mappings with the keys name, vip and backends" },
	{ "services[]", "a mapping with the keys name, vip and backends" },
	{ "services[].name", "1 to 63 bytes without blanks and slashes" },
	{ "services[].vip", "ADDRESS:PORT, such as 10.99.0.1:80 or \"[fd00:99::1]:80\"" },
	{ "services[].scheduler", "maglev or round-robin" },
	{ "services[].backends",
	  "a list of mappings, such as [{name: s1, address: \"10.0.3.2:80\"}]" },
	{ "services[].backends[]", "a mapping, such as {name: s1, address: \"10.0.3.2:80\"}" },
	{ "services[].backends[].name", "1 to 63 bytes without blanks and slashes" },
	{ "services[].backends[].address",
	  "ADDRESS:PORT, such as 10.0.3.2:80 or \"[fd00:1::2]:80\"" },
	{ "services[].backends[].weight", "a number, 0 to 65535" },
	{ "services[].backends[].state", "up or drain" },
};

#define EXPECTATIONS (sizeof(expectations) / sizeof(expectations[0]))

/* The text being read, and where to complain about it. */
struct source {
	const char *name;
	yaml_document_t doc;
	struct error *err;
};

/* A place in the configuration: a key or a list item, and the place that it is in. */
struct place {
	struct source *src;
	const struct place *in; /* NULL: the whole file */
	const char *key; /* NULL: a list item */
	unsigned item;
};

#define AT_KEY(at, name) (&(const struct place){ (at)->src, (at), (name), 0 })
#define AT_ITEM(at, number) (&(const struct place){ (at)->src, (at), NULL, (number) })

/* Writes @path into @buf (PATH_LEN bytes) with every "[number]" as "[]". */
static void path_generalise(const char *path, char *buf)
{
	size_t len = 0;
	bool number = false;

	for (; *path && len < PATH_LEN - 1; path++) {
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
	char general[PATH_LEN];

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

/* Complains about what stands at @path. Where @expected is NULL, the table above says it. */
__attribute__((format(printf, 4, 5))) static int
fail_path(struct source *src, const char *path, const char *expected, const char *format, ...)
{
	va_list args;
	int ret;

	va_start(args, format);
	ret = fail_v(src, path, expected, format, args);
	va_end(args);
	return ret;
}

/* Appends the path of @at to the @len bytes in @buf (PATH_LEN bytes). Returns the new length. */
static size_t place_write(const struct place *at, char *buf)
{
	size_t len = at->in ? place_write(at->in, buf) : 0;

	if (at->in && at->key)
		len += snprintf(buf + len, PATH_LEN - len, "%s%s", len ? "." : "", at->key);
	else if (at->in)
		len += snprintf(buf + len, PATH_LEN - len, "[%u]", at->item);
	else
		buf[0] = 0;
	return len;
}

__attribute__((format(printf, 3, 4))) static int
fail_at(const struct place *at, const char *expected, const char *format, ...)
{
	char path[PATH_LEN];
	va_list args;
	int ret;

	place_write(at, path);
	va_start(args, format);
	ret = fail_v(at->src, path, expected, format, args);
	va_end(args);
	return ret;
}

static int fail_memory(const struct place *at)
{
	return error_set(at->src->err, -ENOMEM, "%s: out of memory", at->src->name);
}

/*
 * What libcyaml logged about a failure: a message, then a backtrace from the innermost place on.
 */
struct cyaml_report {
	char message[KEY_MAX + 64];
	char path[PATH_LEN]; /* of the innermost place */
	char parent[PATH_LEN]; /* of the one around it */
	bool deeper; /* the innermost place is known */
};

/* Puts @part in front of the path in @buf (PATH_LEN bytes). */
static void path_prepend(char *buf, const char *part)
{
	char rest[PATH_LEN];
	const char *dot = *part && *buf && *buf != '[' ? "." : "";

	strcpy(rest, buf);
	snprintf(buf, PATH_LEN, "%.40s%s%.80s", part, dot, rest);
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

/* The keys that the mapping at @path knows, for an error message. */
static void keys_list(const char *path, char *buf, size_t size)
{
	char general[PATH_LEN];
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
	char path[PATH_LEN + KEY_MAX + 64], expected[256], got[32];
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

/* Loads @text into libcyaml's structs, to be freed with cyaml_free(). NULL if it is empty. */
static int raw_load(struct source *src, const cyaml_config_t *cyaml, const char *text, size_t len,
		    struct raw_config **out)
{
	cyaml_err_t code;

	code = cyaml_load_data((const uint8_t *)text, len, cyaml, &schema_config, (void **)out,
			       NULL);
	return code == CYAML_OK ? 0 : fail_cyaml(src, cyaml->log_ctx, code);
}

/* Finds @text among the @n @choices; absent (NULL) leaves *@out as it is. */
static int choice_convert(const struct place *at, const char *text, const char *const *choices,
			  unsigned n, unsigned *out)
{
	if (!text)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		if (!strcmp(text, choices[i])) {
			*out = i;
			return 0;
		}
	}
	return fail_at(at, NULL, "unknown value '%.64s'", text);
}

/* Reads a number without sign from @min to @max; absent (NULL) leaves *@out as it is. */
static int number_convert(const struct place *at, const char *text, unsigned min, unsigned max,
			  unsigned *out)
{
	unsigned long value;

	if (!text)
		return 0;
	if (!*text || text[strspn(text, "0123456789")])
		return fail_at(at, NULL, "'%.64s' is not a number", text);
	value = strlen(text) > 10 ? ULONG_MAX : strtoul(text, NULL, 10);
	if (value < min || value > max)
		return fail_at(at, NULL, "%.64s is out of range", text);
	*out = value;
	return 0;
}

/* What is wrong with @text as a name; NULL if nothing. */
static const char *name_flaw(const char *text)
{
	if (!*text)
		return "is empty";
	if (strchr(text, '/'))
		return "has a slash in it";
	for (; *text; text++)
		if (isspace((unsigned char)*text))
			return "has a blank in it";
	return NULL;
}

static int name_convert(const struct place *at, const char *text, char *out)
{
	const char *flaw = name_flaw(text);
	size_t len = strlen(text);

	if (flaw)
		return fail_at(at, NULL, "'%.64s' %s", text, flaw);
	if (len >= SS_LB_NAME_LEN)
		return fail_at(at, NULL, "'%.64s...' has %zu bytes", text, len);
	memcpy(out, text, len + 1);
	return 0;
}

/* 0.0.0.0/8, multicast, reserved and broadcast addresses are no host's own. */
static bool is_host_address(const struct ss_addr *a)
{
	const uint8_t *byte = (const uint8_t *)a->w;

	if (ss_addr_is_v4(a))
		return byte[12] != 0 && byte[12] < 224;
	return byte[0] != 0xff && (a->w[0] || a->w[1] || a->w[2] || a->w[3]);
}

static int endpoint_convert(const struct place *at, const char *text, struct ss_endpoint *out)
{
	if (endpoint_parse(text, out))
		return fail_at(at, NULL, "'%.64s' is not an address and port", text);
	if (!is_host_address(&out->addr))
		return fail_at(at, NULL, "'%.64s' is not the address of a host", text);
	return 0;
}

/*
 * IPv4 addresses are IPv4-mapped in the maps, so a prefix like ::/0 would match them too, which
 * nobody who writes it to trust or to accept all of IPv6 means.
 */
static int prefix_convert(const struct place *at, const char *text, struct ss_prefix *out)
{
	if (prefix_parse(text, out))
		return fail_at(at, NULL, "'%.64s' is not a prefix, or has bits set behind it",
			       text);
	if (out->prefixlen <= SS_PREFIX_PORT_BITS + 80 && !out->addr.w[0] && !out->addr.w[1] &&
	    !out->addr.w[2])
		return fail_at(at, "a longer prefix, such as 2000::/3",
			       "'%.64s' contains all of IPv4", text);
	return 0;
}

static int prefixes_convert(const struct place *at, const struct raw_list *raw,
			    struct ss_prefix **out, unsigned *count)
{
	if (!raw->count)
		return 0;
	*out = calloc(raw->count, sizeof(**out));
	if (!*out)
		return fail_memory(at);
	*count = raw->count;
	for (unsigned i = 0; i < raw->count; i++) {
		int ret = prefix_convert(AT_ITEM(at, i), raw->item[i], &(*out)[i]);

		if (ret)
			return ret;
	}
	return 0;
}

static int dial_convert(const struct place *at, const char *text, struct dial *out)
{
	struct ss_endpoint exact;

	if (endpoint_parse(text, &exact)) {
		if (!prefix_parse(text, &out->prefix))
			return prefix_convert(at, text, &out->prefix);
		return fail_at(at, NULL,
			       "'%.64s' is neither a prefix without bits behind it nor "
			       "an address and port",
			       text);
	}
	out->prefix = (struct ss_prefix){
		.prefixlen = SS_PREFIX_PORT_BITS + 128,
		.port = exact.port,
		.addr = exact.addr,
	};
	return 0;
}

static int dials_convert(const struct place *at, const struct raw_list *raw,
			 struct host_config *host)
{
	if (!raw->count)
		return 0;
	host->dial = calloc(raw->count, sizeof(*host->dial));
	if (!host->dial)
		return fail_memory(at);
	host->dial_count = raw->count;
	for (unsigned i = 0; i < raw->count; i++) {
		int ret = dial_convert(AT_ITEM(at, i), raw->item[i], &host->dial[i]);

		if (ret)
			return ret;
	}
	if (!host->backends_count)
		return fail_at(at, "host.backends as well: where a grant may point",
			       "no grant can be accepted");
	return 0;
}

static int interface_convert(const struct place *at, const char *text, char **out)
{
	const char *flaw = name_flaw(text);

	if (flaw)
		return fail_at(at, NULL, "'%.64s' %s", text, flaw);
	if (strlen(text) >= IFNAMSIZ)
		return fail_at(at, NULL, "'%.64s' has %zu bytes", text, strlen(text));
	*out = strdup(text);
	return *out ? 0 : fail_memory(at);
}

static int interfaces_convert(const struct place *at, const struct raw_list *raw, char ***out,
			      unsigned *count)
{
	int ret;

	if (!raw->count)
		return fail_at(at, NULL, "empty");
	*out = calloc(raw->count, sizeof(**out));
	if (!*out)
		return fail_memory(at);
	*count = raw->count;
	for (unsigned i = 0; i < raw->count; i++) {
		ret = interface_convert(AT_ITEM(at, i), raw->item[i], &(*out)[i]);
		if (ret)
			return ret;
		for (unsigned j = 0; j < i; j++)
			if (!strcmp((*out)[j], (*out)[i]))
				return fail_at(AT_ITEM(at, i), "every interface once",
					       "'%s' is in the list already", (*out)[i]);
	}
	return 0;
}

/* A key of @size bytes, for sorting. */
struct sort_key {
	const char *at;
	size_t size;
};

/* Orders keys by their bytes, equal ones as they stand in memory. */
static int key_compare(const void *a, const void *b)
{
	const struct sort_key *x = a, *y = b;
	int order = memcmp(x->at, y->at, x->size);

	return order ? order : (x->at > y->at) - (x->at < y->at);
}

/*
 * Looks for two equal keys of @size bytes among the @count that stand @stride bytes apart from
 * @first on. Returns 1 with the indices of a pair in *@earlier and *@later (the first one that a
 * reader of the file meets), 0 if there is none, or -ENOMEM.
 */
static int duplicate_find(const void *first, unsigned count, size_t stride, size_t size,
			  unsigned *earlier, unsigned *later)
{
	struct sort_key *key;
	unsigned i;

	*earlier = 0;
	*later = count;
	if (count < 2)
		return 0;
	key = malloc(count * sizeof(*key));
	if (!key)
		return -ENOMEM;
	for (i = 0; i < count; i++)
		key[i] = (struct sort_key){ (const char *)first + i * stride, size };
	qsort(key, count, sizeof(*key), key_compare);
	for (i = 1; i < count; i++) {
		unsigned at = (key[i].at - (const char *)first) / stride;

		if (memcmp(key[i - 1].at, key[i].at, size) || at > *later)
			continue;
		*later = at;
		*earlier = (key[i - 1].at - (const char *)first) / stride;
	}
	free(key);
	return *later < count;
}

/* Refuses equal members @key of the items of the list at @at. */
static int unique_check(const struct place *at, const char *key, const void *first, unsigned count,
			size_t stride, size_t size)
{
	unsigned earlier, later;
	char expected[64];
	int ret = duplicate_find(first, count, stride, size, &earlier, &later);

	if (ret < 0)
		return fail_memory(at);
	if (!ret)
		return 0;
	snprintf(expected, sizeof(expected), "another %s", key);
	return fail_at(AT_KEY(AT_ITEM(at, later), key), expected, "the same as in %s[%u]", at->key,
		       earlier);
}

#define UNIQUE_CHECK(at, items, count, member, name)                          \
	unique_check(at, name, &(items)[0].member, count, sizeof((items)[0]), \
		     sizeof((items)[0].member))

static int serve_convert(const struct place *at, const struct raw_serve *raw, struct serve *out)
{
	const struct place *listen_at = AT_KEY(at, "listen");
	unsigned listen;
	int ret;

	ret = endpoint_convert(AT_KEY(at, "vip"), raw->vip, &out->vip);
	if (ret)
		return ret;
	listen = ntohs(out->vip.port);
	ret = number_convert(listen_at, raw->listen, 1, 65535, &listen);
	if (ret)
		return ret;
	if (!ss_addr_is_v4(&out->vip.addr) && listen != ntohs(out->vip.port))
		return fail_at(listen_at, "the same port: an IPv6 grant has no room for another",
			       "%u is not the service's port %u", listen, ntohs(out->vip.port));
	out->listen = listen;
	if (raw->replies && !strcmp(raw->replies, "strict"))
		return fail_at(AT_KEY(at, "replies"), NULL, "strict is not supported yet");
	if (raw->replies && strcmp(raw->replies, "classic"))
		return fail_at(AT_KEY(at, "replies"), NULL, "unknown value '%.64s'", raw->replies);
	return 0;
}

static int serves_convert(const struct place *at, const struct raw_host *raw,
			  struct host_config *host)
{
	if (!raw->serve_count)
		return 0;
	host->serve = calloc(raw->serve_count, sizeof(*host->serve));
	if (!host->serve)
		return fail_memory(at);
	host->serve_count = raw->serve_count;
	for (unsigned i = 0; i < raw->serve_count; i++) {
		int ret = serve_convert(AT_ITEM(at, i), &raw->serve[i], &host->serve[i]);

		if (ret)
			return ret;
	}
	return UNIQUE_CHECK(at, host->serve, host->serve_count, vip, "vip");
}

static int host_convert(const struct place *at, const struct raw_host *raw,
			struct host_config *host)
{
	static const char *const attach[] = { "auto", "tcx", "clsact" };
	unsigned choice = TC_ATTACH_AUTO;
	int ret;

	ret = interfaces_convert(AT_KEY(at, "interfaces"), &raw->interfaces, &host->interfaces,
				 &host->interfaces_count);
	if (!ret)
		ret = prefixes_convert(AT_KEY(at, "trusted_balancers"), &raw->trusted_balancers,
				       &host->trusted_balancers, &host->trusted_balancers_count);
	if (!ret)
		ret = prefixes_convert(AT_KEY(at, "backends"), &raw->backends, &host->backends,
				       &host->backends_count);
	if (!ret)
		ret = dials_convert(AT_KEY(at, "dial"), &raw->dial, host);
	if (!ret)
		ret = serves_convert(AT_KEY(at, "serve"), raw, host);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "attach"), raw->attach, attach, 3, &choice);
	if (ret)
		return ret;
	host->attach = choice;
	if (!raw->cgroup)
		return 0;
	host->cgroup = strdup(raw->cgroup);
	return host->cgroup ? 0 : fail_memory(at);
}

static int backend_convert(const struct place *at, const struct raw_backend *raw,
			   const struct ss_endpoint *vip, struct backend_config *out)
{
	static const char *const states[] = { "up", "drain" };
	const struct place *address = AT_KEY(at, "address");
	bool v4 = ss_addr_is_v4(&vip->addr);
	unsigned state = SS_BACKEND_UP;
	int ret;

	out->weight = WEIGHT_DEFAULT;
	ret = name_convert(AT_KEY(at, "name"), raw->name, out->name);
	if (!ret)
		ret = endpoint_convert(address, raw->address, &out->address);
	if (!ret)
		ret = number_convert(AT_KEY(at, "weight"), raw->weight, 0, WEIGHT_MAX,
				     &out->weight);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "state"), raw->state, states, 2, &state);
	if (ret)
		return ret;
	out->state = state;
	if (ss_addr_is_v4(&out->address.addr) != v4)
		return fail_at(address, v4 ? "an IPv4 address" : "an IPv6 address",
			       "%s backend of an %s service", v4 ? "IPv6" : "IPv4",
			       v4 ? "IPv4" : "IPv6");
	if (!v4 && out->address.port != vip->port)
		return fail_at(address, "the same port: an IPv6 grant has no room for another",
			       "%u is not the service's port %u", ntohs(out->address.port),
			       ntohs(vip->port));
	return 0;
}

static int service_convert(const struct place *at, const struct raw_service *raw,
			   struct service_config *out)
{
	static const char *const schedulers[] = { "maglev", "round-robin" };
	const struct place *list = AT_KEY(at, "backends");
	unsigned scheduler = SS_SCHED_MAGLEV;
	int ret;

	ret = name_convert(AT_KEY(at, "name"), raw->name, out->name);
	if (!ret)
		ret = endpoint_convert(AT_KEY(at, "vip"), raw->vip, &out->vip);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "scheduler"), raw->scheduler, schedulers, 2,
				     &scheduler);
	if (ret)
		return ret;
	out->scheduler = scheduler;
	if (!raw->backends_count)
		return 0;
	out->backends = calloc(raw->backends_count, sizeof(*out->backends));
	if (!out->backends)
		return fail_memory(at);
	out->backends_count = raw->backends_count;
	for (unsigned i = 0; i < raw->backends_count; i++) {
		ret = backend_convert(AT_ITEM(list, i), &raw->backends[i], &out->vip,
				      &out->backends[i]);
		if (ret)
			return ret;
	}
	ret = UNIQUE_CHECK(list, out->backends, out->backends_count, name, "name");
	if (!ret)
		ret = UNIQUE_CHECK(list, out->backends, out->backends_count, address, "address");
	return ret;
}

static int services_convert(const struct place *at, const struct raw_config *raw,
			    struct balancer_config *balancer)
{
	unsigned backends = 0;
	int ret;

	if (!raw->services_count)
		return 0;
	balancer->services = calloc(raw->services_count, sizeof(*balancer->services));
	if (!balancer->services)
		return fail_memory(at);
	balancer->services_count = raw->services_count;
	for (unsigned i = 0; i < raw->services_count; i++) {
		const struct place *item = AT_ITEM(at, i);

		backends += raw->services[i].backends_count;
		if (backends > SS_LB_BACKENDS)
			return fail_at(AT_KEY(item, "backends"), NULL,
				       "more than %u backends in all services", SS_LB_BACKENDS);
		ret = service_convert(item, &raw->services[i], &balancer->services[i]);
		if (ret)
			return ret;
	}
	ret = UNIQUE_CHECK(at, balancer->services, balancer->services_count, name, "name");
	if (!ret)
		ret = UNIQUE_CHECK(at, balancer->services, balancer->services_count, vip, "vip");
	return ret;
}

static int config_convert(const struct place *at, const struct raw_config *raw, struct config *c)
{
	int ret = 0;

	if (!raw || (!raw->host && !raw->balancer && !raw->services_count))
		return fail_at(at, NULL, "nothing configured");
	if (raw->services_count && !raw->balancer)
		return fail_at(AT_KEY(at, "services"), "the key balancer as well",
			       "services without a balancer");
	if (raw->host) {
		c->host = calloc(1, sizeof(*c->host));
		ret = c->host ? host_convert(AT_KEY(at, "host"), raw->host, c->host)
			      : fail_memory(at);
	}
	if (ret || !raw->balancer)
		return ret;
	c->balancer = calloc(1, sizeof(*c->balancer));
	if (!c->balancer)
		return fail_memory(at);
	ret = interfaces_convert(AT_KEY(AT_KEY(at, "balancer"), "interfaces"),
				 &raw->balancer->interfaces, &c->balancer->interfaces,
				 &c->balancer->interfaces_count);
	return ret ? ret : services_convert(AT_KEY(at, "services"), raw, c->balancer);
}

int config_parse(const char *name, const char *text, size_t len, struct config **out,
		 struct error *err)
{
	struct source src = { .name = name, .err = err };
	const struct place all = { .src = &src };
	struct cyaml_report report = {};
	const cyaml_config_t cyaml = {
		.log_fn = log_take,
		.log_ctx = &report,
		.mem_fn = cyaml_mem,
		.log_level = CYAML_LOG_ERROR,
	};
	struct raw_config *raw = NULL;
	struct config *c;
	int ret;

	ret = yaml_line_load(&src.doc, name, text, len, err);
	if (ret)
		return ret;
	c = calloc(1, sizeof(*c));
	ret = c ? raw_load(&src, &cyaml, text, len, &raw) : fail_memory(&all);
	if (!ret)
		ret = config_convert(&all, raw, c);
	cyaml_free(&cyaml, &schema_config, raw, 0);
	yaml_document_delete(&src.doc);
	if (ret)
		config_free(c);
	else
		*out = c;
	return ret;
}

/* Reads all of @file into *@text, to be freed. Returns 0 or a negative errno. */
static int file_read(FILE *file, char **text, size_t *len)
{
	size_t size = 0;
	char *grown;

	do {
		if (*len == size) {
			size = size ? 2 * size : 1 << 16;
			grown = size <= FILE_MAX ? realloc(*text, size) : NULL;
			if (!grown)
				return size <= FILE_MAX ? -ENOMEM : -EFBIG;
			*text = grown;
		}
		*len += fread(*text + *len, 1, size - *len, file);
	} while (!feof(file) && !ferror(file));
	return ferror(file) ? -(errno ? errno : EIO) : 0;
}

int config_load(const char *path, struct config **out, struct error *err)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t len = 0;
	int ret;

	if (!file)
		return error_set(err, -errno, "%s: cannot open: %s", path, strerror(errno));
	ret = file_read(file, &text, &len);
	(void)fclose(file);
	if (ret)
		error_set(err, ret, "%s: cannot read: %s", path, strerror(-ret));
	else
		ret = config_parse(path, text, len, out, err);
	free(text);
	return ret;
}

static void interfaces_free(char **interfaces, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		free(interfaces[i]);
	free(interfaces);
}

static void host_free(struct host_config *host)
{
	if (!host)
		return;
	interfaces_free(host->interfaces, host->interfaces_count);
	free(host->trusted_balancers);
	free(host->backends);
	free(host->dial);
	free(host->serve);
	free(host->cgroup);
	free(host);
}

static void balancer_free(struct balancer_config *balancer)
{
	if (!balancer)
		return;
	interfaces_free(balancer->interfaces, balancer->interfaces_count);
	for (unsigned i = 0; i < balancer->services_count; i++)
		free(balancer->services[i].backends);
	free(balancer->services);
	free(balancer);
}

void config_free(struct config *c)
{
	if (!c)
		return;
	host_free(c->host);
	balancer_free(c->balancer);
	free(c);
}
