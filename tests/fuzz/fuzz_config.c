// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Fuzzes the configuration: any text is either a configuration, or refused in one line that names
 * file and line.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *config = NULL;
	struct error err = {};
	unsigned line;
	int ret;

	ret = config_parse("f", (const char *)data, size, &config, &err);
	if (!ret && (!config || (!config->host && !config->balancer)))
		abort();
	if (ret &&
	    (ret > 0 || config || strchr(err.text, '\n') || sscanf(err.text, "f:%u:", &line) != 1))
		abort();
	config_free(config);
	return 0;
}
