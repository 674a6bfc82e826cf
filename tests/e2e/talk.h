/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * One connection between c1 and a server, played by two roles: a function for each end, which gets
 * the connected socket. Sockets are blocking, with time limits.
 */
#ifndef SIDESTEP_E2E_TALK_H
#define SIDESTEP_E2E_TALK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "hosts.h"

#define SOCKET_SECONDS (10 * (int)patience)
#define DIGEST_LEN 65 /* SHA-256 in hexadecimal, with the ending 0 */
#define MB (1UL << 20)
#define STREAM_ENDLESS (~0UL)
#define STREAM_MORE 20 /* megabytes: more than what may be in buffers or on its way */

/* What the cases need to know of IPv4 and IPv6; test_e2e.c has the two. */
struct family {
	const char *name;
	const char *suffix; /* of the services' names */
	int af;
	const char *vip, *vip2, *client, *s1;
	bool strict; /* how the servers reply */
};

enum side { SIDE_CLIENT, SIDE_SERVER };

/* Data in both directions at once, until @limit bytes or @stop. */
struct stream {
	unsigned long limit;
	volatile int stop;
	int progress[2]; /* by receiving side: an eventfd that counts megabytes */
	unsigned long sent[2], received[2];
	char sent_digest[2][DIGEST_LEN], received_digest[2][DIGEST_LEN]; /* by sending side */
};

struct talk;
typedef void (*talk_role)(struct talk *talk, int fd);

/* In memory that the test and both roles share. */
struct talk {
	const struct family *family;
	talk_role client, server;
	uint16_t vport;
	const char *server_host; /* s1 */
	const char *vip; /* the family's first */
	uint16_t source_port; /* of the client; 0: any */
	int protocol[2]; /* by side: IPPROTO_MPTCP; 0: TCP */
	void (*prepare)(const struct talk *talk,
			int fd); /* before connect() and listen(); or NULL */
	bool direct; /* the client dials the server itself, not the service */
	bool mapped; /* IPv4, but the client's socket is of the IPv6 family */
	bool dual; /* the server's listener is [::], for both families */
	int listening, go[2]; /* events: dial now; and two for the roles' own use */
	struct stream stream;
	unsigned counts[2];
	pid_t client_pid, server_pid;
};

struct talk *talk_new(const struct family *family, uint16_t vport, talk_role client,
		      talk_role server);
void talk_start(struct talk *talk); /* both roles */
void talk_serve(struct talk *talk); /* the server alone; returns when it listens */
void talk_serve_outside(struct talk *talk); /* in c1's cgroup: sockops of its host do not see it */
void talk_dial(struct talk *talk); /* the client alone */
void talk_dial_outside(struct talk *talk); /* from c1, in s3's cgroup: it does not ask */
void talk_join(struct talk *talk); /* waits for both; what they noted can be read */
void talk_finish(struct talk *talk); /* waits for both; ends @talk */
void talk_abandon(struct talk *talk); /* the server that waits in vain is ended; ends @talk */
void talk_run(struct talk *talk); /* all of that */

/* talk_run() for the service "one". */
void talk_one(const struct family *family, talk_role client, talk_role server);

/* A request and its answer, 100 kB each, checked. */
void echo_client(struct talk *talk, int fd);
void echo_server(struct talk *talk, int fd);

/* The same after some bytes from the server, which speaks first. */
void listens_first(struct talk *talk, int fd);
void speaks_first(struct talk *talk, int fd);

/* Streams between c1 and the service "one", in both directions, as talk->stream says. */
struct talk *stream_new(const struct family *family, unsigned long limit);
struct talk *stream_begin(const struct family *family); /* an endless one that is under way */
void stream_progress(struct talk *talk, unsigned megabytes); /* from now on, on both sides */
void stream_finish(struct talk *talk); /* stops an endless one; checks what arrived */
void stream_survives(struct talk *talk); /* goes on for STREAM_MORE, then finishes */

/* The address for a socket of the family @af; IPv4 ones for AF_INET6 are mapped. */
struct sockaddr_storage address_of(int af, const char *ip, uint16_t port);
/* "IP port"; mapped IPv4 addresses are shown as they are. */
const char *address_text(const struct sockaddr_storage *address);

uint16_t listen_port(const struct family *family, uint16_t vport);
int tcp_socket(int af);
int tcp_listen(const struct talk *talk);
int tcp_accept(int listener);
int tcp_dial(const struct talk *talk); /* -1 with errno if that fails */
int tcp_dial_begin(const struct talk *talk, const char *vip); /* does not wait; not blocking */
void vain_client(void *arg); /* of a child: dials, and gets no answer */
void refused_client(void *arg); /* the same, but refused; counts[0]: after how many milliseconds */
void set_timeout(int fd, int option, int ms); /* SO_RCVTIMEO or SO_SNDTIMEO */

/* Bytes that depend on @seed and on their place, and a check that they are those. */
void pattern_send(int fd, unsigned seed, unsigned long len);
void pattern_receive(int fd, unsigned seed, unsigned long len);
void eof_receive(int fd);

#endif
