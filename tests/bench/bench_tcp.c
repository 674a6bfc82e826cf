// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * A TCP server, and a client that measures against it one round of one kind: for comparing
 * redirected with direct connections in turn.
 *
 *   bench_tcp serve PORT                      answers for ever, one connection at a time
 *   bench_tcp stream ADDRESS PORT SECONDS     one connection, as fast as it goes: Gbit/s
 *   bench_tcp rr ADDRESS PORT COUNT           64 bytes there and back: median and 99th pct in us
 *   bench_tcp crr ADDRESS PORT COUNT          connect, 64 bytes there and back, close: 1/s
 *   bench_tcp connect ADDRESS PORT COUNT      connect, close: the median of connect() in us
 *
 * Both ends are pinned to the same processor: all that a packet costs then shows in the figure,
 * and packets do not overtake each other between processors.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "figure.h"

#define MESSAGE 64
#define CHUNK (256 * 1024)
#define COUNT_MAX 200000

static char buffer[CHUNK];

static void die(const char *what)
{
	fprintf(stderr, "bench_tcp: %s: %s\n", what, strerror(errno));
	exit(1);
}

/*
 * No delays that are not the network's: no Nagle, and Debian's default congestion control even
 * where the machine's paces packets by timers.
 */
static void prepare(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5))
		die("TCP_CONGESTION cubic");
}

static void read_all(int fd, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = read(fd, buffer + got, len - got);

		if (n <= 0)
			die("read");
		got += n;
	}
}

static void write_all(int fd, size_t len)
{
	if (write(fd, buffer, len) != (ssize_t)len)
		die("write");
}

/* A connection begins with a letter: S, take all that comes; E, send messages back. */
static void serve_one(int fd)
{
	char kind = 0;
	ssize_t n;

	prepare(fd);
	if (read(fd, &kind, 1) == 1)
		while ((n = read(fd, buffer, kind == 'S' ? CHUNK : MESSAGE)) > 0)
			if (kind == 'E' && write(fd, buffer, n) != n)
				break;
	close(fd);
}

static _Noreturn void serve(int port)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 128))
		die("listen");
	for (;;) {
		int client = accept(fd, NULL, NULL);

		if (client < 0)
			die("accept");
		serve_one(client);
	}
}

static int socket_new(const struct addrinfo *to)
{
	int fd = socket(to->ai_family, SOCK_STREAM, 0);

	if (fd < 0)
		die("socket");
	prepare(fd);
	return fd;
}

static int dial(const struct addrinfo *to, char kind)
{
	int fd = socket_new(to);

	if (connect(fd, to->ai_addr, to->ai_addrlen))
		die("connect");
	buffer[0] = kind;
	write_all(fd, 1);
	return fd;
}

static void stream(const struct addrinfo *to, double seconds, json_t *out)
{
	double start, now, bytes = 0;
	int fd = dial(to, 'S');

	start = bench_now();
	do {
		write_all(fd, CHUNK);
		bytes += CHUNK;
		now = bench_now();
	} while (now - start < seconds);
	close(fd);
	json_object_set_new(out, "gbit_s", json_real(bytes * 8 / (now - start) / 1e9));
}

static void round_trip(int fd)
{
	write_all(fd, MESSAGE);
	read_all(fd, MESSAGE);
}

static void rr(const struct addrinfo *to, unsigned count, json_t *out)
{
	static double us[COUNT_MAX];
	int fd = dial(to, 'E');

	for (unsigned i = 0; i < count / 10; i++) /* warm up */
		round_trip(fd);
	for (unsigned i = 0; i < count; i++) {
		double start = bench_now();

		round_trip(fd);
		us[i] = (bench_now() - start) * 1e6;
	}
	close(fd);
	json_object_set_new(out, "p50_us", json_real(bench_quantile(us, count, 0.5)));
	json_object_set_new(out, "p99_us", json_real(bench_quantile(us, count, 0.99)));
}

static void crr(const struct addrinfo *to, unsigned count, json_t *out)
{
	double start = bench_now();

	for (unsigned i = 0; i < count; i++) {
		int fd = dial(to, 'E');

		round_trip(fd);
		close(fd);
	}
	json_object_set_new(out, "per_s", json_real(count / (bench_now() - start)));
}

/*
 * The message lets the server keep up: it has accepted each connection before the next one comes. A
 * RST leaves no TIME_WAIT sockets.
 */
static void connects(const struct addrinfo *to, unsigned count, json_t *out)
{
	struct linger none = { .l_onoff = 1 };
	static double us[COUNT_MAX];

	for (unsigned i = 0; i < count; i++) {
		int fd = socket_new(to);
		double start = bench_now();

		if (connect(fd, to->ai_addr, to->ai_addrlen))
			die("connect");
		us[i] = (bench_now() - start) * 1e6;
		buffer[0] = 'E';
		write_all(fd, 1);
		round_trip(fd);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
		close(fd);
	}
	json_object_set_new(out, "p50_us", json_real(bench_quantile(us, count, 0.5)));
}

static int client(const char *kind, const char *address, const char *port, int count)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST }, *to;
	json_t *out = json_object();

	if (count < 1 || count > COUNT_MAX || getaddrinfo(address, port, &hints, &to))
		return 2;
	if (!strcmp(kind, "stream"))
		stream(to, count, out);
	else if (!strcmp(kind, "rr"))
		rr(to, count, out);
	else if (!strcmp(kind, "crr"))
		crr(to, count, out);
	else if (!strcmp(kind, "connect"))
		connects(to, count, out);
	else
		return 2;
	freeaddrinfo(to);
	bench_print(out);
	return 0;
}

int main(int argc, char **argv)
{
	if (bench_pin())
		die("sched_setaffinity");
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(atoi(argv[2]));
	if (argc == 5)
		return client(argv[1], argv[2], argv[3], atoi(argv[4]));
	fprintf(stderr, "usage: bench_tcp serve PORT | stream|rr|crr|connect ADDRESS PORT COUNT\n");
	return 2;
}
