/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * sidestep's programs on the testbed: loaded by the real binary from the testbed's configuration
 * files and what the tests add to them, and watched through their counters.
 *
 * Services, beside those of the testbed (web: port 80 on s1 and s2); IPv4 ones are served on
 * their port + 8000, IPv6 ones on their own port. The name of an IPv6 service ends in 6.
 *
 *	one       VIP, port 81         s1 alone
 *	twin      second VIP, port 81  s1 alone, on the same port of s1 as "one"
 *	other     VIP, port 84         s1 alone
 *	many      VIP, port 85         s1, s2 and s3
 *	manytwin  second VIP, port 85  the same, on the same port of each
 *	datagrams VIP, port 85, UDP    the same, served on port 8085 in any case
 *	unserved  VIP, port 83         s1 alone, which is not configured to serve it
 */
#ifndef SIDESTEP_E2E_PROGRAMS_H
#define SIDESTEP_E2E_PROGRAMS_H

#include "talk.h"

#define PORT_WEB 80
#define PORT_ONE 81
#define PORT_UNSERVED 83
#define PORT_OTHER 84
#define PORT_MANY 85
#define PORT_SAME 5201 /* the testbed's "iperf", which is served on its own port */

/* Configuration files: the testbed's with additions. config_write() makes others. */
#define CONFIG_BALANCER "balancer.yaml"
#define CONFIG_ACROSS "across.yaml"
#define CONFIG_SERVER "server.yaml"
#define CONFIG_CLIENT "client.yaml"

void config_begin(bool strict); /* @strict: all services reply strictly */
void config_end(void);

/* Writes the configuration file @name. */
void config_write(const char *name, const char *text);

/* Its path. The pointer lives until the next call but three. */
const char *config_path(const char *name);

/* What `sidestep host status` exits with if something that is configured does not run. */
#define STATUS_PROBLEM 3

/* Loads everything, everywhere. */
void programs_load(void);

/* Loads or changes one host's programs. */
void host_load(const char *host, const char *config);
void balancer_load(void);
/* The same, but "one", "other" and "many" have these @keys, as YAML in braces has them. */
void balancer_load_services(const char *keys);
/* The same, but they have the method @method. */
void balancer_load_method(const char *method);

/*
 * Every service has the method @method and backends of the other IP version, and servers know where what
 * comes so wrapped is to go. The balancer's configuration is CONFIG_ACROSS then.
 */
void across_begin(const char *method);
void across_end(void);

/* Unloads a host's programs, after a look at their error counters. */
void host_unload(const char *host);
void balancer_unload(void);

/* How many sockops programs are attached to a host's cgroup, whoever attached them. */
unsigned sockops_programs(const char *host);

/* From now on s1 answers every SYN with a cookie; or, as by default, those that find no room. */
void cookies_always(bool always);

/* How often the sockops program of @host has run since the kernel keeps statistics. */
unsigned long sockops_runs(const char *host);

/* What the programs of @host have pinned as @name; to be closed. */
int pin_open(const char *host, const char *name);

/*
 * For how many seconds @host still counts @expected as @kind ("blocked", "plain"), which status shows
 * as its @field; 0: it does not. It counts no other.
 */
long remembered_seconds(const char *host, const char *kind, const char *field,
			const char *expected);

/* The minute of the one that @host counts as @kind is over. */
void remembered_expire(const char *host, const char *kind);

/* How many entries the map @name of @host's programs has. */
size_t map_entries(const char *host, const char *name);

/* From now on counted() starts at 0. Called before every case, and after programs were loaded. */
void counters_mark(void);

/* By how much the counter @name of @host has grown. */
long counted(const char *host, const char *name);

/* It has grown by @n, or soon will have. */
void expect_soon(const char *host, const char *name, long n);

/* How many connections to servers that reply strictly @host knows, also those just over. */
long strict_connections(const char *host);

/*
 * What @host's status says of the connections of the service at @vport: "open" ones, or how many it
 * "accepted".
 */
long open_connections(const char *host, const struct family *family, uint16_t vport,
		      const char *field);

/* No service has a connection open on any host, or soon none will have. */
void expect_none_open(void);

/* As counted(), the SYNs that @service got to @backend. */
long backend_syns(const char *service, const char *backend);

/* The open connections that @backend of @service reported to the balancer; -1: none that count now. */
long backend_open(const char *service, const char *backend);

/* How many connections of @backend the balancer's flow table has left; -1: it gets new ones. */
long backend_left(const char *service, const char *backend);

/* From now on the balancer's configuration has @keys below "balancer", as YAML in one line. */
void balancer_load_with(const char *keys);

/* @n connections came to the decision @name on @host, and none to another one of its role. */
void expect_outcome(const char *host, const char *name, long n);

/* @n connections were redirected from c1, none was not, and only their SYNs crossed the balancer. */
void expect_direct(long n);

/* Fails the test if a BPF map operation or helper has failed in programs that are loaded. */
void expect_no_errors(void);

#endif
