// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* sidestep report-key: which key a server makes its reports with. Reads a file, needs no programs. */
#include <errno.h>
#include <stdio.h>

#include "address.h"
#include "command.h"
#include "report.h"

int cmd_report_key(const struct options *options, char **argv)
{
	char address[ADDRESS_TEXT_LEN], text[REPORT_KEY_TEXT_LEN];
	struct ss_sip_key master, key;
	struct error err = {};
	struct ss_addr from;

	if (address_parse(argv[1], &from)) {
		error_set(&err, -EINVAL,
			  "%s: not an address; expected the server's, such as 10.0.3.1", argv[1]);
		return command_fail(&err);
	}
	if (report_key_load(argv[0], &master, &err))
		return command_fail(&err);
	key = ss_report_key(&master, &from);
	address_format(&from, address);
	report_key_format(&key, text);
	if (options->json)
		return command_print_json(json_pack("{s:s, s:s}", "address", address, "key", text));
	printf("%s %s\n", address, text);
	return 0;
}
