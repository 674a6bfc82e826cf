// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The command `sidestep`: a table of commands and a loop over it. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/libbpf.h>
#include <xdp/libxdp.h>

#include "command.h"
#include "config.h"
#include "version.h"

static const struct command commands[] = {
	{ "host up", "FILE", "load the host programs, or apply what FILE changes", 1, cmd_host_up },
	{ "host down", "", "unload the host programs", 0, cmd_host_down },
	{ "host status", "", "show programs, configuration and counters", 0, cmd_host_status },
	{ "host connections", "", "show connections, their path and why", 0, cmd_host_connections },
	{ "host report", "FILE", "report this host's load to FILE's balancers; stays", 1,
	  cmd_host_report },
	{ "balancer up", "FILE", "load the balancer, or apply what FILE changes", 1,
	  cmd_balancer_up },
	{ "balancer down", "", "unload the balancer", 0, cmd_balancer_down },
	{ "balancer status", "", "show services, backends and counters", 0, cmd_balancer_status },
	{ "balancer backend add", "SERVICE NAME ADDRESS:PORT", "add a backend (--weight)", 3,
	  cmd_backend_add },
	{ "balancer backend remove", "SERVICE NAME", "remove a backend", 2, cmd_backend_remove },
	{ "balancer backend weight", "SERVICE NAME WEIGHT", "change a backend's weight", 3,
	  cmd_backend_weight },
	{ "balancer backend drain", "SERVICE NAME", "send no new connections to a backend", 2,
	  cmd_backend_drain },
	{ "balancer backend down", "SERVICE NAME", "the same, for a backend that does not work", 2,
	  cmd_backend_down },
	{ "balancer backend up", "SERVICE NAME", "end a backend's drain, or its being down", 2,
	  cmd_backend_up },
	{ "check", "FILE", "check a configuration file, touch nothing", 1, cmd_check },
	{ "report-key", "MASTERFILE ADDRESS", "print the key that a server reports with", 2,
	  cmd_report_key },
};
#define WAIT_MAX 3600
#define COMMANDS (sizeof(commands) / sizeof(*commands))

enum {
	OPT_PIN_DIR = 256,
	OPT_CGROUP,
	OPT_JSON,
	OPT_FORCE,
	OPT_WEIGHT,
	OPT_QUIC_ID,
	OPT_WAIT,
	OPT_VERSION
};

static const struct option long_options[] = {
	{ "pin-dir", required_argument, NULL, OPT_PIN_DIR },
	{ "cgroup", required_argument, NULL, OPT_CGROUP },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "force", no_argument, NULL, OPT_FORCE },
	{ "weight", required_argument, NULL, OPT_WEIGHT },
	{ "quic-id", required_argument, NULL, OPT_QUIC_ID },
	{ "wait", required_argument, NULL, OPT_WAIT },
	{ "verbose", no_argument, NULL, 'v' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static const char *const options_help =
	"Options:\n"
	"  --pin-dir DIR   bpffs folder for what stays loaded (" PINS_DEFAULT_DIR
	";\n                  or $SIDESTEP_PIN_DIR)\n"
	"  --cgroup DIR    host up: cgroup2 folder whose sockets are redirected (the file's\n"
	"                  \"cgroup\", else all; or $SIDESTEP_CGROUP)\n"
	"  --weight N      backend add: its weight, 0 to 65535 (100)\n"
	"  --quic-id HEX   backend add: its id in QUIC's connection ids\n"
	"  --force         host down: break the connections that run directly;\n"
	"                  down: remove what a network namespace that is gone has left\n"
	"  --wait SECONDS  how long to wait while another command is at work (30)\n"
	"  --json          print JSON\n"
	"  -v, --verbose   print what libbpf and libxdp say\n"
	"  --version       print the version\n"
	"  -h, --help      print this\n";

static void usage(FILE *out)
{
	fprintf(out, "usage: sidestep COMMAND [OPTIONS]\n\nCommands:\n");
	for (size_t i = 0; i < COMMANDS; i++) {
		char line[80];

		snprintf(line, sizeof(line), "%s %s", commands[i].name, commands[i].arguments);
		fprintf(out, "  %-50s %s\n", line, commands[i].help);
	}
	fprintf(out, "\n%s", options_help);
}

static int bad_usage(const char *what, const char *which)
{
	fprintf(stderr, "sidestep: %s%s%s (see: sidestep --help)\n", what, which ? ": " : "",
		which ? which : "");
	return 2;
}

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	return vfprintf(stderr, format, args);
}

static int print_libxdp(enum libxdp_print_level level, const char *format, va_list args)
{
	(void)level;
	return vfprintf(stderr, format, args);
}

/* The option's argument, a number from 0 to @max, into *@out. Is it one? */
static bool number_read(long *out, long max)
{
	char *end;

	*out = strtol(optarg, &end, 10);
	return *optarg && !*end && *out >= 0 && *out <= max;
}

/* Reads the options. Returns 0, or -1 with the exit status in *@status. */
static int options_read(int argc, char **argv, struct options *o, int *status)
{
	int c;

	*status = 0;
	while ((c = getopt_long(argc, argv, "vh", long_options, NULL)) != -1) {
		switch (c) {
		case OPT_PIN_DIR:
		case OPT_CGROUP:
			if (!*optarg) {
				*status = bad_usage("expected a folder, got nothing",
						    c == OPT_CGROUP ? "--cgroup" : "--pin-dir");
				return -1;
			}
			*(c == OPT_CGROUP ? &o->cgroup : &o->pin_dir) = optarg;
			break;
		case OPT_JSON:
			o->json = true;
			break;
		case OPT_FORCE:
			o->force = true;
			break;
		case OPT_QUIC_ID:
			o->quic_id = optarg;
			break;
		case OPT_WEIGHT:
			if (!number_read(&o->weight, CONFIG_WEIGHT_MAX)) {
				*status =
					bad_usage("--weight takes a number from 0 to 65535", NULL);
				return -1;
			}
			break;
		case OPT_WAIT:
			if (!number_read(&o->wait, WAIT_MAX)) {
				*status = bad_usage("--wait takes seconds, 0 to 3600", NULL);
				return -1;
			}
			break;
		case 'v':
			o->verbose = true;
			break;
		case OPT_VERSION:
			printf("sidestep %s\n", SIDESTEP_VERSION);
			return -1;
		case 'h':
			usage(stdout);
			return -1;
		default:
			*status = 2;
			return -1;
		}
	}
	return 0;
}

/* How many of @argv's words @name begins with; *@all: there are no further ones in @name. */
static int words_common(const char *name, int argc, char **argv, bool *all)
{
	int words = 0;

	for (; words < argc && *name; words++) {
		size_t len = strcspn(name, " ");

		if (strlen(argv[words]) != len || strncmp(argv[words], name, len))
			break;
		name += len;
		name += *name == ' ';
	}
	*all = !*name;
	return words;
}

/* How many words of @argv begin some command. */
static int words_known(int argc, char **argv)
{
	int known = 0;
	bool all;

	for (size_t i = 0; i < COMMANDS; i++) {
		int words = words_common(commands[i].name, argc, argv, &all);

		known = words > known ? words : known;
	}
	return known;
}

/* Says which word is wrong, and what could stand there. */
static int no_such_command(int argc, char **argv)
{
	int known = words_known(argc, argv);
	char text[512] = "", last[64] = "";
	size_t at = 0;
	bool all;

	for (int i = 0; i <= known && i < argc; i++)
		at += snprintf(text + at, sizeof(text) - at, "%s%.64s", i ? " " : "", argv[i]);
	at += snprintf(text + at, sizeof(text) - at, "; expected");
	for (size_t i = 0; i < COMMANDS; i++) {
		const char *word = commands[i].name, *comma = *last ? "," : "";

		if (words_common(word, argc, argv, &all) < known)
			continue;
		for (int n = 0; n < known; n++)
			word = strchr(word, ' ') + 1;
		if (strlen(last) == strcspn(word, " ") && !strncmp(last, word, strlen(last)))
			continue;
		snprintf(last, sizeof(last), "%.*s", (int)strcspn(word, " "), word);
		at += snprintf(text + at, sizeof(text) - at, "%s %s", comma, last);
	}
	return bad_usage("there is no such command", text);
}

/* What was printed has to have arrived: a full disk must not look like success. */
static int finish(int status)
{
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	fprintf(stderr, "sidestep: cannot write to standard output: %s\n", strerror(errno));
	return status ? status : 1;
}

int main(int argc, char **argv)
{
	struct options o = {
		.pin_dir = getenv("SIDESTEP_PIN_DIR"),
		.cgroup = getenv("SIDESTEP_CGROUP"),
		.weight = -1,
		.wait = 30,
	};
	int status;

	if (options_read(argc, argv, &o, &status))
		return finish(status);
	if (!o.pin_dir || !*o.pin_dir)
		o.pin_dir = PINS_DEFAULT_DIR;
	if (o.cgroup && !*o.cgroup)
		o.cgroup = NULL;
	libbpf_set_print(o.verbose ? print_libbpf : NULL);
	libxdp_set_print(o.verbose ? print_libxdp : NULL);
	argc -= optind;
	argv += optind;
	if (!argc) {
		usage(stderr);
		return 2;
	}
	for (size_t i = 0; i < COMMANDS; i++) {
		bool all;
		int words = words_common(commands[i].name, argc, argv, &all);

		if (!all)
			continue;
		if (argc - words != commands[i].argc)
			return bad_usage(commands[i].argc ? "expected arguments"
							  : "expected no argument",
					 commands[i].arguments[0] ? commands[i].arguments : NULL);
		return finish(commands[i].run(&o, argv + words));
	}
	return no_such_command(argc, argv);
}
