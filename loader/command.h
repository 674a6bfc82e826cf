/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The command line: tables of commands, and the options that all of them share.
 *
 * A command gets its own arguments, prints what it shows to standard output, and returns the exit
 * status: 0, 1 (it could not be done; one line on standard error said why), 2 (wrong usage) or 3
 * (COMMAND_PROBLEM, of status: something that is configured does not run).
 */
#ifndef SIDESTEP_COMMAND_H
#define SIDESTEP_COMMAND_H

#include <stdbool.h>

#include <jansson.h>

#include "error.h"
#include "pins.h"

#define COMMAND_PROBLEM 3

struct options {
	const char *pin_dir; /* --pin-dir, $SIDESTEP_PIN_DIR */
	const char *cgroup; /* --cgroup, $SIDESTEP_CGROUP; NULL: the configuration's */
	bool json; /* --json */
	bool force; /* --force */
	bool verbose; /* -v */
	long wait; /* --wait: seconds, for another command that is at work */
	long weight; /* --weight; -1: not given */
	const char *quic_id; /* --quic-id; NULL: not given */
};

struct command {
	const char *name; /* "host up" */
	const char *arguments; /* "FILE" */
	const char *help;
	int argc; /* how many arguments there must be */
	int (*run)(const struct options *options, char **argv);
};

int cmd_host_up(const struct options *options, char **argv);
int cmd_host_down(const struct options *options, char **argv);
int cmd_host_status(const struct options *options, char **argv);
int cmd_host_connections(const struct options *options, char **argv);
int cmd_host_report(const struct options *options, char **argv);
int cmd_balancer_up(const struct options *options, char **argv);
int cmd_balancer_down(const struct options *options, char **argv);
int cmd_balancer_status(const struct options *options, char **argv);
int cmd_backend_add(const struct options *options, char **argv);
int cmd_backend_remove(const struct options *options, char **argv);
int cmd_backend_weight(const struct options *options, char **argv);
int cmd_backend_drain(const struct options *options, char **argv);
int cmd_backend_down(const struct options *options, char **argv);
int cmd_backend_up(const struct options *options, char **argv);
int cmd_report_key(const struct options *options, char **argv);
int cmd_check(const struct options *options, char **argv);

/* Prints "sidestep: " and the error's line to standard error; returns 1, the exit status. */
int command_fail(const struct error *err);

/*
 * What commands that touch the kernel begin with: checks the machine, takes the lock (into
 * *@lock, to be closed) and names the pins of @component. Returns 0 or a negative errno.
 */
int command_begin(const struct options *options, const char *component, struct pins *pins,
		  int *lock, struct error *err);

/*
 * "COMPONENT up FILE": reads the file @path, whose section @component must be there, begins, and
 * has @up do it. Returns the exit status.
 */
struct config;
int command_up(const struct options *options, const char *component, const char *path,
	       int (*up)(const struct pins *pins, const struct config *config,
			 const struct options *options, struct error *err));

/* Prints @value as JSON and frees it. Returns 0, the exit status. */
int command_print_json(json_t *value);

/* New JSON text of addresses. */
struct ss_addr;
struct ss_endpoint;
struct ss_prefix;
json_t *json_endpoint(const struct ss_endpoint *endpoint);
json_t *json_prefix(const struct ss_prefix *prefix);

/* What a counter is called, and what it counts: from the lists in sidestep/counters.h. */
struct counter_text {
	const char *name, *help;
};
#define COUNTER_TEXT(name, help) { #name, help },

/* The counters @values[0 .. @n - 1], whose texts are @texts: a new JSON object, or a line each. */
json_t *json_counters(const struct counter_text *texts, const __u64 *values, unsigned n);
void counters_print(const struct counter_text *texts, const __u64 *values, unsigned n);

/* An array's texts with blanks in between, or "none"; for people. In a static buffer. */
const char *json_join(const json_t *array);

#endif
