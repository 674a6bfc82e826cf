/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The testbed's hosts, as the end-to-end tests use them: what runs there, as which process, and
 * how it is waited for.
 *
 * A role (a client, a server) is a C function in a forked child that moved to its host first: into
 * the host's cgroup2 folder and network namespace. Every child dies with the test, and after
 * CHILD_SECONDS in any case, so nothing hangs. The test waits for events, never for time to pass.
 */
#ifndef SIDESTEP_E2E_HOSTS_H
#define SIDESTEP_E2E_HOSTS_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

/* Limits that only what hangs reaches; on slow machines $SIDESTEP_PATIENCE times as long. */
extern unsigned patience;
#define CHILD_SECONDS (30 * patience)
#define WAIT_MS ((int)(10000 * patience))
#define OUTPUT_LEN 65536

/* What a role insists on: ends its process with failure, which child_join() reports. */
#define NEED(condition)                                                                     \
	do {                                                                                \
		if (!(condition)) {                                                         \
			fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, \
				strerror(errno));                                           \
			_exit(1);                                                           \
		}                                                                           \
	} while (0)

/* Builds the testbed anew, whatever was there. Returns 0, or -1 after saying why not. */
int hosts_begin(void);
void hosts_end(void);

/* The folder that this program was built into. */
const char *build_dir(void);

/* The folder where host @name pins its programs. */
const char *host_pin_dir(const char *name);

/* Its cgroup2 folder. */
const char *host_cgroup(const char *name);

/* Runs @role(@arg) on @host in a child. */
pid_t child_start(const char *host, void (*role)(void *arg), void *arg);

/* Waits until the child ended, and fails the test if it did not succeed. */
void child_join(pid_t pid);

/* Ends the child at once. */
void child_kill(pid_t pid);

/* How many run now. */
int children_count(void);

/* Ends all that are left of a failed case. Returns how many there were. */
int children_kill(void);

/*
 * Runs a shell command on @host (NULL: on none) and returns its exit status. What it prints
 * goes into @output (OUTPUT_LEN bytes; NULL: nowhere). `sidestep` is the binary that was built.
 */
int run(const char *host, char *output, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same for a command that has to succeed. */
void must(const char *host, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* This process's network namespace becomes that of @host; NULL: its own again. */
void netns_enter(const char *host);

/* Waits until no TCP socket of any host has anything left to say (but TIME_WAIT's replies). */
void hosts_quiet(void);

/* TcpInCsumErrors and IpInCsumErrors of all namespaces together. */
unsigned long checksum_errors(void);

/* Events between processes: each post lets a wait go on once. */
int event_make(void);
void event_post(int event);
bool event_wait(int event, int ms); /* false: it took longer than @ms */

long now_ms(void);

#endif
