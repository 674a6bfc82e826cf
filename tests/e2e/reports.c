// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "reports.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "programs.h"

#define REPORT_PORT 7946

static void key_write(const char *name, const char *key)
{
	config_write(name, key);
	must(NULL, "chmod 600 '%s'", config_path(name));
}

void reports_accept(const char *scheduler)
{
	reports_accept_in(CONFIG_BALANCER, scheduler);
}

void reports_accept_in(const char *config, const char *scheduler)
{
	key_write("balancer.key", REPORT_KEY);
	must(NULL,
	     "sed 's#^balancer:#&\\n  reports: {port: %d, key: %s}#; s/{name: many6\\?, /&%s%s%s/' "
	     "'%s' "
	     ">'%s'",
	     REPORT_PORT, config_path("balancer.key"), scheduler ? "scheduler: " : "",
	     scheduler ? scheduler : "", scheduler ? ", " : "", config_path(config),
	     config_path("balancer-reports.yaml"));
	must("lb", "sidestep balancer up '%s'", config_path("balancer-reports.yaml"));
}

static void reporter_role(void *arg)
{
	const struct reporter *reporter = arg;
	char path[256];

	snprintf(path, sizeof(path), "%s/sidestep", build_dir());
	setenv("SIDESTEP_PIN_DIR", host_pin_dir(reporter->host), 1);
	setenv("NOTIFY_SOCKET", reporter->notify, 1);
	execl(path, "sidestep", "host", "report", reporter->config, NULL);
	NEED(!"execl");
}

static int notify_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
	unlink(path);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

/* Writes the keys that go with the master key @key for all addresses of @host into the file @name. */
static void host_keys_write(const char *name, const char *host, const char *key)
{
	char keys[256], master[64];

	snprintf(master, sizeof(master), "%s.master", host);
	key_write(master, key);
	key_write(name, "");
	snprintf(keys, sizeof(keys), "%s", config_path(name));
	must(host,
	     "for address in $(ip -o address show scope global | sed -E 's#.* inet6? ([^/ "
	     "]+).*#\\1#'); "
	     "do sidestep report-key '%s' $address; done >'%s'",
	     config_path(master), keys);
}

void reporter_start(struct reporter *reporter, const char *host, const char *key, unsigned interval)
{
	char name[64], text[64];
	struct pollfd p;

	reporter->host = host;
	snprintf(name, sizeof(name), "%s.key", host);
	host_keys_write(name, host, key);
	snprintf(text, sizeof(text), "%s-report.yaml", host);
	snprintf(reporter->config, sizeof(reporter->config), "%s", config_path(text));
	must(NULL,
	     "sed 's#^host:#&\\n  report: {balancers: [\"10.0.2.2:%d\", \"[fd00:1:2::2]:%d\"], "
	     "key: %s, "
	     "interval: %u}#' '%s' >'%s'",
	     REPORT_PORT, REPORT_PORT, config_path(name), interval, config_path(CONFIG_SERVER),
	     reporter->config);
	snprintf(name, sizeof(name), "%s.notify", host);
	snprintf(reporter->notify, sizeof(reporter->notify), "%s", config_path(name));
	reporter->ready = notify_socket(reporter->notify);
	reporter->pid = child_start(host, reporter_role, reporter);
	p = (struct pollfd){ .fd = reporter->ready, .events = POLLIN };
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(recv(reporter->ready, text, sizeof(text), 0), 7);
	assert_memory_equal(text, "READY=1", 7);
}

void reporter_stop(struct reporter *reporter)
{
	assert_int_equal(kill(reporter->pid, SIGTERM), 0);
	child_join(reporter->pid);
	close(reporter->ready);
}
