// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "config.h"
#include "platform.h"
#include "version.h"

int command_fail(const struct error *err)
{
	fprintf(stderr, "sidestep: %s\n", err->text);
	return 1;
}

int command_begin(const struct options *options, const char *component, struct pins *pins,
		  int *lock, struct error *err)
{
	const char *version = strcmp(component, "host") ? BALANCER_VERSION : HOST_VERSION;
	int ret;

	ret = platform_check(options->pin_dir, err);
	if (!ret)
		ret = pins_init(pins, options->pin_dir, component, version, err);
	if (ret)
		return ret;
	ret = pins_check(pins, err);
	if (ret)
		return ret;
	*lock = platform_lock(options->pin_dir, options->wait, err);
	return *lock < 0 ? *lock : 0;
}

int command_up(const struct options *options, const char *component, const char *path,
	       int (*up)(const struct pins *pins, const struct config *config,
			 const struct options *options, struct error *err))
{
	struct config *config;
	struct error err = {};
	struct pins pins;
	int lock, ret;

	if (config_load(path, &config, &err))
		return command_fail(&err);
	if (strcmp(component, "host") ? !config->balancer : !config->host)
		ret = error_set(&err, -EINVAL, "%s: no \"%s\" section; expected one for: %s up",
				path, component, component);
	else
		ret = command_begin(options, component, &pins, &lock, &err);
	if (!ret) {
		ret = up(&pins, config, options, &err);
		close(lock);
	}
	config_free(config);
	return ret ? command_fail(&err) : 0;
}

int command_print_json(json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(value);
	return 0;
}

json_t *json_endpoint(const struct ss_endpoint *endpoint)
{
	char text[ADDRESS_TEXT_LEN];

	return json_string(endpoint_format(endpoint, text));
}

json_t *json_prefix(const struct ss_prefix *prefix)
{
	struct ss_endpoint exact = { .addr = prefix->addr, .port = prefix->port };
	char text[ADDRESS_TEXT_LEN];

	if (prefix->port)
		return json_endpoint(&exact);
	return json_string(prefix_format(prefix, text));
}

json_t *json_counters(const struct counter_text *texts, const __u64 *values, unsigned n)
{
	json_t *object = json_object();

	for (unsigned i = 0; i < n; i++)
		json_object_set_new(object, texts[i].name, json_integer(values[i]));
	return object;
}

void counters_print(const struct counter_text *texts, const __u64 *values, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		printf("%12llu  %-24s %s\n", values[i], texts[i].name, texts[i].help);
}

const char *json_join(const json_t *array)
{
	static char text[4096];
	const json_t *item;
	size_t i, len = 0;

	snprintf(text, sizeof(text), "none");
	json_array_foreach(array, i, item)
	{
		len += snprintf(text + len, sizeof(text) - len, "%s%s", i ? " " : "",
				json_string_value(item));
		if (len >= sizeof(text))
			break;
	}
	return text;
}
