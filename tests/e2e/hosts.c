// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "hosts.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include <jansson.h>

#define TESTBED "netns-testbed/testbed"
#define CHILDREN_MAX 16
#define TCP_TIME_WAIT 6
#define TCP_LISTEN 10

unsigned patience = 1;

static json_t *hosts; /* as "testbed status" prints them */
static int own_netns = -1;
static pid_t children[CHILDREN_MAX];

const char *build_dir(void)
{
	static char dir[PATH_MAX];
	ssize_t n;

	if (!dir[0]) {
		n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
		assert_true(n > 0);
		dir[n] = 0;
		dirname(dirname(dir)); /* BUILD/tests/test_e2e; cuts off in place */
	}
	return dir;
}

static const char *host_field(const char *name, const char *field)
{
	json_t *host;
	size_t i;

	json_array_foreach(
		hosts, i,
		host) if (!strcmp(json_string_value(json_object_get(host, "name")),
				  name)) return json_string_value(json_object_get(host, field));
	fprintf(stderr, "there is no host %s\n", name);
	abort();
}

const char *host_pin_dir(const char *name)
{
	return host_field(name, "pin_dir");
}

const char *host_cgroup(const char *name)
{
	return host_field(name, "cgroup");
}

static void environment_set(void)
{
	const char *times = getenv("SIDESTEP_PATIENCE");
	char path[2 * PATH_MAX];

	if (times && atoi(times) > 0)
		patience = atoi(times);
	snprintf(path, sizeof(path), "%s:%s", build_dir(), getenv("PATH"));
	setenv("PATH", path, 1);
	setenv("SIDESTEP_BUILD", build_dir(), 1);
}

int hosts_begin(void)
{
	static char text[OUTPUT_LEN];
	char path[PATH_MAX];
	json_t *status;

	if (own_netns < 0) {
		environment_set();
		own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	}
	hosts_end();
	if (run(NULL, text, TESTBED " down && " TESTBED " up --servers 3") ||
	    run(NULL, text, TESTBED " status --json")) {
		fprintf(stderr, "%s", text);
		return -1;
	}
	status = json_loads(text, 0, NULL);
	hosts = json_incref(json_object_get(status, "hosts"));
	json_decref(status);
	if (!hosts)
		return -1;
	/* as "testbed exec" does it; only the balancer uses libxdp */
	snprintf(path, sizeof(path), "%s-libxdp", host_pin_dir("lb"));
	setenv("LIBXDP_BPFFS", path, 1);
	return 0;
}

void hosts_end(void)
{
	children_kill();
	json_decref(hosts);
	hosts = NULL;
	(void)run(NULL, NULL, TESTBED " down");
}

static int netns_open(const char *host)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/run/netns/%s", host_field(host, "namespace"));
	return open(path, O_RDONLY | O_CLOEXEC);
}

void netns_enter(const char *host)
{
	int fd = host ? netns_open(host) : own_netns;

	if (fd < 0 || setns(fd, CLONE_NEWNET)) {
		perror(host ? host : "own namespace");
		abort();
	}
	if (host)
		close(fd);
}

/* A child's first steps: die with the test, move to @host. Cgroup first: sockets stay in it. */
static void child_begin(const char *host)
{
	char path[PATH_MAX];
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	alarm(CHILD_SECONDS);
	if (!host)
		return;
	snprintf(path, sizeof(path), "%s/cgroup.procs", host_cgroup(host));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	NEED(fd >= 0 && write(fd, "0", 1) == 1);
	close(fd);
	fd = netns_open(host);
	NEED(fd >= 0 && !setns(fd, CLONE_NEWNET));
	close(fd);
}

static pid_t *child_slot(pid_t pid)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (children[i] == pid)
			return &children[i];
	fprintf(stderr, "no slot for child %d\n", pid);
	abort();
}

static pid_t child_fork(const char *host)
{
	pid_t *slot = child_slot(0), pid;

	fflush(NULL);
	pid = fork();
	if (!pid)
		child_begin(host);
	assert_true(pid >= 0);
	*slot = pid;
	return pid;
}

pid_t child_start(const char *host, void (*role)(void *arg), void *arg)
{
	pid_t pid = child_fork(host);

	if (pid)
		return pid;
	role(arg);
	_exit(0);
}

static int child_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	*child_slot(pid) = 0;
	return status;
}

void child_join(pid_t pid)
{
	int status = child_wait(pid);

	if (WIFSIGNALED(status))
		fail_msg("a role was ended by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	assert_int_equal(WEXITSTATUS(status), 0);
}

void child_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	child_wait(pid);
}

int children_count(void)
{
	int n = 0;

	for (int i = 0; i < CHILDREN_MAX; i++)
		n += children[i] != 0;
	return n;
}

int children_kill(void)
{
	int n = 0;

	for (int i = 0; i < CHILDREN_MAX; i++) {
		if (!children[i])
			continue;
		child_kill(children[i]);
		n++;
	}
	return n;
}

/* Reads @fd to its end; what does not fit is read all the same. */
static void read_all(int fd, char *to, size_t len)
{
	char dump[4096];
	size_t used = 0;
	ssize_t n;

	do {
		n = used + 1 < len ? read(fd, to + used, len - 1 - used)
				   : read(fd, dump, sizeof(dump));
		if (n > 0 && used + 1 < len)
			used += n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	to[used] = 0;
}

static int run_command(const char *host, char *output, const char *command)
{
	static char unwanted[OUTPUT_LEN];
	int out[2], status;
	pid_t pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = child_fork(host);
	if (!pid) {
		dup2(out[1], STDOUT_FILENO);
		dup2(out[1], STDERR_FILENO);
		signal(SIGPIPE, SIG_DFL);
		if (host) {
			setenv("SIDESTEP_PIN_DIR", host_pin_dir(host), 1);
			setenv("SIDESTEP_CGROUP", host_cgroup(host), 1);
		}
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	close(out[1]);
	read_all(out[0], output ? output : unwanted, OUTPUT_LEN);
	close(out[0]);
	status = child_wait(pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int run(const char *host, char *output, const char *format, ...)
{
	char command[4096];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	return run_command(host, output, command);
}

void must(const char *host, const char *format, ...)
{
	static char output[OUTPUT_LEN];
	char command[4096];
	va_list args;
	int status;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	status = run_command(host, output, command);
	if (status)
		fail_msg("%s: %s: exit status %d: %s", host ? host : "-", command, status, output);
}

/* Sockets of this namespace that may still send something of their own accord */
static int live_sockets(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned state;
	char line[512];
	int live = 0;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " %*d: %*[0-9A-F]:%*x %*[0-9A-F]:%*x %x", &state) == 1)
			live += state != TCP_TIME_WAIT && state != TCP_LISTEN;
	if (file)
		fclose(file);
	return live;
}

static int live_sockets_everywhere(void)
{
	static const char *const names[] = { "c1", "s1", "s2", "s3" };
	int live = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		netns_enter(names[i]);
		live += live_sockets("/proc/thread-self/net/tcp");
		live += live_sockets("/proc/thread-self/net/tcp6");
		netns_enter(NULL);
	}
	return live;
}

/*
 * The kernel tells nobody when an orphaned socket is done: this has to ask. A half-open connection
 * without a listener goes with its next timer, the third of which takes 4 seconds.
 */
void hosts_quiet(void)
{
	long deadline = now_ms() + WAIT_MS;

	while (live_sockets_everywhere()) {
		if (now_ms() > deadline)
			fail_msg("sockets are still open after their programs have ended");
		poll(NULL, 0, 2);
	}
}

/* The field @name of the group @group, in the form of /proc/net/snmp: names, then values. */
static unsigned long snmp_field(const char *path, const char *group, const char *name)
{
	char names[8192], values[8192], *n, *v, *n_next, *v_next;
	unsigned long value = ULONG_MAX;
	FILE *file = fopen(path, "re");

	while (file && fgets(names, sizeof(names), file) && fgets(values, sizeof(values), file)) {
		n = strtok_r(names, " \n", &n_next);
		v = strtok_r(values, " \n", &v_next);
		if (!n || strcmp(n, group))
			continue;
		while ((n = strtok_r(NULL, " \n", &n_next)) && (v = strtok_r(NULL, " \n", &v_next)))
			if (!strcmp(n, name))
				value = strtoul(v, NULL, 10);
	}
	if (file)
		fclose(file);
	assert_true(value != ULONG_MAX);
	return value;
}

unsigned long checksum_errors(void)
{
	unsigned long sum = 0;
	json_t *host;
	size_t i;

	json_array_foreach(hosts, i, host)
	{
		netns_enter(json_string_value(json_object_get(host, "name")));
		sum += snmp_field("/proc/thread-self/net/snmp", "Tcp:", "InCsumErrors");
		sum += snmp_field("/proc/thread-self/net/netstat", "IpExt:", "InCsumErrors");
		netns_enter(NULL);
	}
	return sum;
}

int event_make(void)
{
	int fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

void event_post(int event)
{
	uint64_t one = 1;

	if (write(event, &one, sizeof(one)) != sizeof(one))
		abort();
}

bool event_wait(int event, int ms)
{
	struct pollfd p = { .fd = event, .events = POLLIN };
	long deadline = now_ms() + ms, left;
	uint64_t value;

	while ((left = deadline - now_ms()) >= 0 && poll(&p, 1, left) == 1)
		if (read(event, &value, sizeof(value)) == sizeof(value))
			return true; /* else another one who waits was faster */
	return false;
}

long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
