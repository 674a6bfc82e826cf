/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Servers that answer each request with their own name, and clients that ask: for connections whose
 * server is up to the balancer.
 */
#ifndef SIDESTEP_E2E_ASK_H
#define SIDESTEP_E2E_ASK_H

#include "talk.h"

#define ASK_SERVERS 3
#define ASK_FILES 16384 /* how many connections a process may have */

void files_allow(void);

/* Servers on s1 to s<@n> for talk->vport; they run until they are ended. */
void servers_start(struct talk *talk, pid_t *pids, int n);
void servers_end(const pid_t *pids, int n);

/* Sends request number @id. */
void ask(int fd, unsigned id);

/* Receives the answer to it; returns the number of the server that gave it. */
unsigned answered(int fd, unsigned id);

/* Both. */
unsigned which_server(int fd);

/* Dials, asks, and leaves no TIME_WAIT socket. Returns the server's number. */
unsigned server_of(struct talk *talk);

/* Closes @fd so that nothing of it is left. */
void close_at_once(int fd);

/* The connect() of @fd, which is not blocking, comes to a good end; now it is blocking. */
void dial_finish(int fd);

/* The address of server number @n. */
const char *server_address(const struct family *family, unsigned n);

#endif
