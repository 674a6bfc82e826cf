// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* sidestep check: is a configuration file right? Touches nothing, needs no root. */
#include <stdio.h>

#include "command.h"
#include "config.h"

int cmd_check(const struct options *options, char **argv)
{
	struct config *config;
	struct error err;

	if (config_load(argv[0], &config, &err))
		return command_fail(&err);
	if (options->json)
		return config_free(config), command_print_json(json_pack("{s:b}", "valid", 1));
	printf("%s: ok:", argv[0]);
	if (config->host)
		printf(" host: %u interfaces, %u dial, %u serve", config->host->interfaces_count,
		       config->host->dial_count, config->host->serve_count);
	if (config->balancer)
		printf("%s balancer: %u interfaces, %u services", config->host ? ";" : "",
		       config->balancer->interfaces_count, config->balancer->services_count);
	printf("\n");
	config_free(config);
	return 0;
}
