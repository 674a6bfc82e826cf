// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "talk.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "programs.h"

#define CHUNK 65536
#define ECHO_LEN 100000UL
#define SOON_MS 300 /* before a SYN is sent again */

/* --- sockets ---------------------------------------------------------------------------------- */

struct sockaddr_storage address_of(int af, const char *ip, uint16_t port)
{
	struct sockaddr_storage any = { .ss_family = af };
	struct sockaddr_in6 *in6 = (void *)&any;
	struct sockaddr_in *in = (void *)&any;
	char mapped[64];

	if (af == AF_INET) {
		in->sin_port = htons(port);
		NEED(inet_pton(AF_INET, ip, &in->sin_addr) == 1);
	} else {
		snprintf(mapped, sizeof(mapped), "%s%s", strchr(ip, ':') ? "" : "::ffff:", ip);
		in6->sin6_port = htons(port);
		NEED(inet_pton(AF_INET6, mapped, &in6->sin6_addr) == 1);
	}
	return any;
}

const char *address_text(const struct sockaddr_storage *address)
{
	const struct sockaddr_in6 *in6 = (const void *)address;
	const struct sockaddr_in *in = (const void *)address;
	static char text[2][80];
	static int turn;
	char ip[64];

	turn = !turn;
	if (address->ss_family == AF_INET)
		inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip));
	else
		inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
	snprintf(text[turn], sizeof(text[0]), "%s %u", ip, ntohs(in->sin_port));
	return text[turn];
}

uint16_t listen_port(const struct family *family, uint16_t vport)
{
	return family->af == AF_INET && vport != PORT_SAME ? 8000 + vport : vport;
}

void set_timeout(int fd, int option, int ms)
{
	struct timeval t = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	NEED(!setsockopt(fd, SOL_SOCKET, option, &t, sizeof(t)));
}

static int stream_socket(int af, int protocol)
{
	int fd = socket(af, SOCK_STREAM | SOCK_CLOEXEC, protocol), on = 1;

	NEED(fd >= 0);
	NEED(!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	set_timeout(fd, SO_RCVTIMEO, SOCKET_SECONDS * 1000);
	set_timeout(fd, SO_SNDTIMEO, SOCKET_SECONDS * 1000);
	return fd;
}

int tcp_socket(int af)
{
	return stream_socket(af, 0);
}

int tcp_listen(const struct talk *talk)
{
	int af = talk->dual ? AF_INET6 : talk->family->af, only = !talk->dual;
	int fd = stream_socket(af, talk->protocol[SIDE_SERVER]);
	struct sockaddr_storage address;

	address = address_of(
		af, af == AF_INET ? "0.0.0.0" : "::", listen_port(talk->family, talk->vport));
	if (af == AF_INET6)
		NEED(!setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)));
	NEED(!bind(fd, (void *)&address, sizeof(address)));
	if (talk->prepare)
		talk->prepare(talk, fd);
	NEED(!listen(fd, 4096));
	return fd;
}

int tcp_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	NEED(fd >= 0);
	set_timeout(fd, SO_RCVTIMEO, SOCKET_SECONDS * 1000);
	set_timeout(fd, SO_SNDTIMEO, SOCKET_SECONDS * 1000);
	return fd;
}

/* The client's socket, bound if it is to have a certain port. */
static int client_socket(const struct talk *talk, int af)
{
	struct sockaddr_storage address;
	int fd = stream_socket(af, talk->protocol[SIDE_CLIENT]);

	if (talk->source_port) {
		address = address_of(af, talk->family->client, talk->source_port);
		NEED(!bind(fd, (void *)&address, sizeof(address)));
	}
	if (talk->prepare)
		talk->prepare(talk, fd);
	return fd;
}

int tcp_dial(const struct talk *talk)
{
	int af = talk->mapped ? AF_INET6 : talk->family->af, fd = client_socket(talk, af), err;
	struct sockaddr_storage address = address_of(af, talk->vip, talk->vport);

	if (talk->direct)
		address = address_of(af, talk->family->s1, listen_port(talk->family, talk->vport));
	if (!connect(fd, (void *)&address, sizeof(address)))
		return fd;
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

int tcp_dial_begin(const struct talk *talk, const char *vip)
{
	struct sockaddr_storage address = address_of(talk->family->af, vip, talk->vport);
	int fd = client_socket(talk, talk->family->af);

	NEED(!fcntl(fd, F_SETFL, O_NONBLOCK));
	NEED(!connect(fd, (void *)&address, sizeof(address)) || errno == EINPROGRESS);
	return fd;
}

void vain_client(void *arg)
{
	struct talk *talk = arg;
	int af = talk->family->af, fd = tcp_socket(af);
	struct sockaddr_storage to = address_of(af, talk->vip, talk->vport);

	set_timeout(fd, SO_SNDTIMEO, SOON_MS);
	NEED(connect(fd, (void *)&to, sizeof(to)) && errno == EINPROGRESS);
	close(fd);
}

void refused_client(void *arg)
{
	struct talk *talk = arg;
	long begin = now_ms();

	NEED(tcp_dial(talk) < 0 && errno == ECONNREFUSED);
	talk->counts[0] = now_ms() - begin;
}

/* --- data ------------------------------------------------------------------------------------- */

static void pattern_fill(uint64_t *to, unsigned seed, unsigned long from, size_t words)
{
	for (size_t i = 0; i < words; i++) {
		uint64_t x = (from / 8 + i) * 0x9e3779b97f4a7c15ULL + seed;

		to[i] = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ULL;
	}
}

static bool send_all(int fd, const void *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data = (const char *)data + n;
		len -= n;
	}
	return true;
}

void pattern_send(int fd, unsigned seed, unsigned long len)
{
	static uint64_t buf[CHUNK / 8];
	unsigned long done, n;

	for (done = 0; done < len; done += n) {
		n = len - done < CHUNK ? len - done : CHUNK;
		pattern_fill(buf, seed, done, CHUNK / 8);
		NEED(send_all(fd, buf, n));
	}
}

void pattern_receive(int fd, unsigned seed, unsigned long len)
{
	static uint64_t expected[CHUNK / 8];
	static char buf[CHUNK];
	unsigned long done, n;

	for (done = 0; done < len; done += n) {
		n = len - done < CHUNK ? len - done : CHUNK;
		pattern_fill(expected, seed, done, CHUNK / 8);
		NEED(recv(fd, buf, n, MSG_WAITALL) == (ssize_t)n);
		NEED(!memcmp(buf, expected, n));
	}
}

void eof_receive(int fd)
{
	char c;

	NEED(recv(fd, &c, 1, 0) == 0);
}

void echo_client(struct talk *talk, int fd)
{
	(void)talk;
	pattern_send(fd, 1, ECHO_LEN);
	pattern_receive(fd, 2, ECHO_LEN);
	NEED(!shutdown(fd, SHUT_WR));
	eof_receive(fd);
}

void echo_server(struct talk *talk, int fd)
{
	(void)talk;
	pattern_receive(fd, 1, ECHO_LEN);
	pattern_send(fd, 2, ECHO_LEN);
	eof_receive(fd);
}

/* --- streams ---------------------------------------------------------------------------------- */

/* SHA-256 of what is written into @in, by the program of that name. */
struct digest {
	int in, out;
	pid_t pid;
};

static void digest_begin(struct digest *d)
{
	int in[2], out[2];

	NEED(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC));
	d->pid = fork();
	if (!d->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execlp("sha256sum", "sha256sum", NULL);
		_exit(127);
	}
	NEED(d->pid > 0);
	close(in[0]);
	close(out[1]);
	d->in = in[1];
	d->out = out[0];
}

static void digest_add(const struct digest *d, const void *data, size_t len)
{
	while (len) {
		ssize_t n = write(d->in, data, len);

		NEED(n > 0);
		data = (const char *)data + n;
		len -= n;
	}
}

static void digest_end(struct digest *d, char text[DIGEST_LEN])
{
	size_t used = 0;
	ssize_t n;

	close(d->in);
	while (used < DIGEST_LEN - 1 && (n = read(d->out, text + used, DIGEST_LEN - 1 - used)) > 0)
		used += n;
	NEED(used == DIGEST_LEN - 1);
	text[used] = 0;
	close(d->out);
	waitpid(d->pid, NULL, 0);
}

struct stream_end {
	struct stream *stream;
	enum side side;
	int fd;
};

static void *stream_send(void *arg)
{
	static uint64_t buf[CHUNK / 8];
	struct stream_end *end = arg;
	struct stream *s = end->stream;
	unsigned long sent = 0, n;
	struct digest d;

	digest_begin(&d);
	while (!s->stop && sent < s->limit) {
		n = s->limit - sent < CHUNK ? s->limit - sent : CHUNK;
		pattern_fill(buf, end->side, sent, CHUNK / 8);
		NEED(send_all(end->fd, buf, n));
		digest_add(&d, buf, n);
		sent += n;
	}
	NEED(!shutdown(end->fd, SHUT_WR));
	digest_end(&d, s->sent_digest[end->side]);
	s->sent[end->side] = sent;
	return NULL;
}

static void stream_receive(struct stream_end *end)
{
	struct stream *s = end->stream;
	unsigned long received = 0;
	static char buf[CHUNK];
	uint64_t megabytes;
	struct digest d;
	ssize_t n;

	digest_begin(&d);
	while ((n = recv(end->fd, buf, sizeof(buf), 0)) > 0) {
		digest_add(&d, buf, n);
		megabytes = (received + n) / MB - received / MB;
		received += n;
		if (megabytes)
			NEED(write(s->progress[end->side], &megabytes, sizeof(megabytes)) > 0);
	}
	NEED(n == 0);
	digest_end(&d, s->received_digest[!end->side]);
	s->received[end->side] = received;
}

static void stream_role(struct talk *talk, int fd, enum side side)
{
	struct stream_end end = { &talk->stream, side, fd };
	pthread_t sender;

	NEED(!pthread_create(&sender, NULL, stream_send, &end));
	stream_receive(&end);
	NEED(!pthread_join(sender, NULL));
}

static void stream_client(struct talk *talk, int fd)
{
	stream_role(talk, fd, SIDE_CLIENT);
}

static void stream_server(struct talk *talk, int fd)
{
	stream_role(talk, fd, SIDE_SERVER);
}

struct talk *stream_new(const struct family *family, unsigned long limit)
{
	struct talk *talk = talk_new(family, PORT_ONE, stream_client, stream_server);

	talk->stream.limit = limit;
	for (int i = 0; i < 2; i++)
		talk->stream.progress[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return talk;
}

void stream_progress(struct talk *talk, unsigned megabytes)
{
	for (int i = 0; i < 2; i++) {
		struct pollfd p = { .fd = talk->stream.progress[i], .events = POLLIN };
		uint64_t sum = 0, n;

		(void)!read(p.fd, &n, sizeof(n)); /* what came before does not count */
		while (sum < megabytes) {
			if (poll(&p, 1, WAIT_MS) != 1 || read(p.fd, &n, sizeof(n)) != sizeof(n))
				fail_msg("the %s receives nothing", i ? "server" : "client");
			sum += n;
		}
	}
}

void stream_finish(struct talk *talk)
{
	struct stream s;

	talk->stream.stop = talk->stream.limit == STREAM_ENDLESS;
	talk_join(talk);
	s = talk->stream;
	talk_finish(talk);
	for (int i = 0; i < 2; i++) {
		close(s.progress[i]);
		assert_true(s.sent[i] > 0);
		assert_int_equal(s.sent[i], s.received[!i]);
		assert_string_equal(s.sent_digest[i], s.received_digest[i]);
	}
}

struct talk *stream_begin(const struct family *family)
{
	struct talk *talk = stream_new(family, STREAM_ENDLESS);

	talk_start(talk);
	stream_progress(talk, 2);
	return talk;
}

void stream_survives(struct talk *talk)
{
	stream_progress(talk, STREAM_MORE);
	stream_finish(talk);
}

void listens_first(struct talk *talk, int fd)
{
	pattern_receive(fd, 4, 500);
	echo_client(talk, fd);
}

void speaks_first(struct talk *talk, int fd)
{
	pattern_send(fd, 4, 500);
	echo_server(talk, fd);
}

/* --- talks ------------------------------------------------------------------------------------ */

struct talk *talk_new(const struct family *family, uint16_t vport, talk_role client,
		      talk_role server)
{
	struct talk *talk = mmap(NULL, sizeof(*talk), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(talk, MAP_FAILED);
	*talk = (struct talk){ .family = family,
			       .client = client,
			       .server = server,
			       .vport = vport,
			       .server_host = "s1",
			       .vip = family->vip,
			       .listening = event_make(),
			       .go = { event_make(), event_make() } };
	return talk;
}

static void server_main(void *arg)
{
	struct talk *talk = arg;
	int listener = tcp_listen(talk), fd;

	event_post(talk->listening);
	fd = tcp_accept(listener);
	talk->server(talk, fd);
	close(fd);
}

static void client_main(void *arg)
{
	struct talk *talk = arg;
	int fd = tcp_dial(talk);

	NEED(fd >= 0);
	talk->client(talk, fd);
	close(fd);
}

void talk_serve(struct talk *talk)
{
	talk->server_pid = child_start(talk->server_host, server_main, talk);
	assert_true(event_wait(talk->listening, WAIT_MS));
}

static void outside_main(void *arg)
{
	struct talk *talk = arg;

	netns_enter(talk->server_host);
	server_main(talk);
}

void talk_serve_outside(struct talk *talk)
{
	talk->server_pid = child_start("c1", outside_main, talk);
	assert_true(event_wait(talk->listening, WAIT_MS));
}

void talk_dial(struct talk *talk)
{
	talk->client_pid = child_start("c1", client_main, talk);
}

static void client_outside_main(void *arg)
{
	netns_enter("c1");
	client_main(arg);
}

void talk_dial_outside(struct talk *talk)
{
	talk->client_pid = child_start("s3", client_outside_main, talk);
}

void talk_start(struct talk *talk)
{
	talk_serve(talk);
	talk_dial(talk);
}

void talk_join(struct talk *talk)
{
	if (talk->client_pid)
		child_join(talk->client_pid);
	if (talk->server_pid)
		child_join(talk->server_pid);
	talk->client_pid = talk->server_pid = 0;
}

void talk_finish(struct talk *talk)
{
	talk_join(talk);
	close(talk->listening);
	close(talk->go[0]);
	close(talk->go[1]);
	munmap(talk, sizeof(*talk));
	if (!children_count())
		hosts_quiet();
}

void talk_abandon(struct talk *talk)
{
	child_kill(talk->server_pid);
	talk->server_pid = 0;
	talk_finish(talk);
}

void talk_run(struct talk *talk)
{
	talk_start(talk);
	talk_finish(talk);
}

void talk_one(const struct family *family, talk_role client, talk_role server)
{
	talk_run(talk_new(family, PORT_ONE, client, server));
}
