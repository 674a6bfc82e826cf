// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Invariant I6: what applications see of their connection. */
#include "cases.h"

#include <netinet/in.h>

#include "programs.h"

typedef int (*name_function)(int fd, struct sockaddr *address, socklen_t *len);

/* What @name, a getsockname() or getpeername(), says of @fd is @ip and @port, 0 being any port. */
static void need_name(int fd, name_function name, int af, const char *ip, uint16_t port)
{
	struct sockaddr_storage got = {}, expected;
	socklen_t len = sizeof(got);

	NEED(!name(fd, (void *)&got, &len));
	if (!port) /* at the same place for both families */
		port = ntohs(((struct sockaddr_in *)&got)->sin_port);
	NEED(port);
	expected = address_of(af, ip, port);
	if (strcmp(address_text(&got), address_text(&expected))) {
		fprintf(stderr, "expected %s, got %s\n", address_text(&expected),
			address_text(&got));
		NEED(!"the right name");
	}
}

static void named_client(struct talk *talk, int fd)
{
	int af = talk->mapped ? AF_INET6 : talk->family->af;

	for (int i = 0; i < 2; i++) {
		need_name(fd, getpeername, af, talk->vip, talk->vport);
		need_name(fd, getsockname, af, talk->family->client, talk->source_port);
		pattern_receive(fd, i, 1000);
	}
	echo_client(talk, fd);
}

static void named_server(struct talk *talk, int fd)
{
	int af = talk->dual ? AF_INET6 : talk->family->af;

	need_name(fd, getpeername, af, talk->family->client, talk->source_port);
	need_name(fd, getsockname, af, talk->family->s1, listen_port(talk->family, talk->vport));
	pattern_send(fd, 0, 1000);
	pattern_send(fd, 1, 1000);
	echo_server(talk, fd);
}

void case_names(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, named_client, named_server);

	talk->source_port = 4242;
	talk_run(talk);
	expect_direct(1);
}

void case_families(const struct family *family)
{
	long n = 0;

	for (int mapped = 0; mapped <= (family->af == AF_INET); mapped++) {
		for (int dual = 0; dual <= 1; dual++) {
			struct talk *talk = talk_new(family, PORT_ONE, named_client, named_server);

			talk->mapped = mapped;
			talk->dual = dual;
			talk_run(talk);
			n++;
		}
	}
	expect_direct(n);
}
