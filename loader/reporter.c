// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Every interval, the connections that the host programs count are read from their maps and sent to
 * each balancer, with the services of the balancer's own IP version.
 *
 * Nothing is kept from one interval to the next but the time: the maps are found anew, and so is the
 * way to the balancer, whose source address the balancer takes for the backend's. So programs may be
 * exchanged, and addresses and routes may change.
 */
#include "reporter.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "address.h"
#include "host.h"
#include "platform.h"
#include "report.h"

/* A service, and what is said of it. */
struct reported {
	struct ss_report_entry entry;
	bool any_version; /* it may come from balancers in either IP version */
};

struct reporter {
	const struct pins *pins;
	const struct host_report_config *config;
	struct report_key *keys; /* by this host's addresses */
	int keys_count;
	sd_event *event;
	uint64_t due; /* CLOCK_MONOTONIC, in us */
	uint64_t last; /* the time in the last report */
	struct reported *service; /* this interval's, of both IP versions */
	unsigned services;
	bool failed; /* it could not be reported, and that was said */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/*
 * The time for the next report: later than all before, if the wall clock is set back by what balancers bear.
 * After more than that they take the true time: they took none of those that were too far ahead.
 */
static uint64_t report_time(struct reporter *r)
{
	uint64_t now = clock_ns(CLOCK_REALTIME);

	if (now <= r->last && r->last - now < SS_REPORT_CLOCK)
		now = r->last + 1;
	r->last = now;
	return now;
}

/* The key of reports from @from; NULL: there is none. */
static const struct ss_sip_key *key_of(const struct reporter *r, const struct ss_addr *from)
{
	for (int i = 0; i < r->keys_count; i++)
		if (ss_addr_equal(&r->keys[i].from, from))
			return &r->keys[i].key;
	return NULL;
}

static void add_service(const struct ss_endpoint *vip, const struct ss_serve *serve, void *arg)
{
	struct reporter *r = arg;
	struct reported *grown;

	if (vip->protocol) /* UDP has no connections to count */
		return;
	grown = realloc(r->service, (r->services + 1) * sizeof(*grown));
	if (!grown)
		return;
	r->service = grown;
	r->service[r->services++] =
		(struct reported){ .entry = { .vip = *vip, .listen = serve->listen },
				   .any_version = ss_addr_is_set(&serve->address) };
}

static void add_open(const struct ss_served_at *at, const struct ss_open *open, void *arg)
{
	struct reporter *r = arg;

	for (unsigned i = 0; i < r->services; i++) {
		struct ss_report_entry *entry = &r->service[i].entry;

		if (ss_endpoint_equal(&entry->vip, &at->vip) && entry->listen == at->listen)
			entry->open = SS_BE32(open->open > 0 ? (__u32)open->open : 0);
	}
}

/* May a balancer whose IP version that is send packets of @service here? */
static bool is_for(const struct reported *service, bool v4)
{
	return service->any_version || ss_addr_is_v4(&service->entry.vip.addr) == v4;
}

/*
 * Sends the services that @balancer may have by its IP version, in as many datagrams as it takes: mostly
 * one. Returns 0 or a negative errno; -ENOKEY: there is no key for *@from, where they would come from.
 */
static int balancer_report(struct reporter *r, const struct ss_endpoint *balancer,
			   struct ss_addr *from)
{
	bool v4 = ss_addr_is_v4(&balancer->addr);
	const struct ss_sip_key *key;
	struct report_buf buf;
	unsigned n = 0;
	int err = 0, fd = platform_udp_connect(balancer, from);

	if (fd < 0)
		return fd;
	key = key_of(r, from);
	if (!key)
		err = -ENOKEY;
	memset(&buf, 0, sizeof(buf));
	for (unsigned i = 0; i < r->services && !err; i++) {
		if (is_for(&r->service[i], v4))
			buf.report.entry[n++] = r->service[i].entry;
		if (n && (n == SS_REPORT_ENTRIES || i + 1 == r->services)) {
			uint32_t len = report_finish(&buf, from, n, report_time(r),
						     r->config->interval, key);

			err = send(fd, &buf, len, 0) < 0 ? -errno : 0;
			n = 0;
		}
	}
	close(fd);
	return err;
}

/* Says once that reports cannot be sent, and once that they can again. */
static void outcome_say(struct reporter *r, const char *text)
{
	if (text && !r->failed)
		fprintf(stderr, "sidestep: not reported: %s\n", text);
	else if (!text && r->failed)
		fprintf(stderr, "sidestep: reported again\n");
	r->failed = text != NULL;
}

/* Into @text, why @balancer, which reports from @from go to, was not told: @error, an errno. */
static void failure_text(const struct reporter *r, const struct ss_endpoint *balancer,
			 const struct ss_addr *from, int error, char *text, size_t size)
{
	char address[ADDRESS_TEXT_LEN];

	if (error == ENOKEY)
		snprintf(text, size,
			 "%s: no key for %s; add what a balancer prints by: sidestep report-key "
			 "MASTERFILE %s",
			 r->config->key, address_format(from, address), address);
	else
		snprintf(text, size, "cannot send to %s: %s", endpoint_format(balancer, address),
			 strerror(error));
}

static void report_all(struct reporter *r)
{
	char text[PATH_MAX + 256];
	const char *failed = NULL;
	struct error err = {};

	if (pins_state(r->pins, &err) != PINS_OURS) {
		outcome_say(r, err.text[0] ? err.text : "no host programs are loaded");
		return;
	}
	r->services = 0;
	host_services(r->pins, add_service, r);
	host_open(r->pins, add_open, r);
	for (unsigned i = 0; i < r->config->balancers_count; i++) {
		const struct ss_endpoint *balancer = &r->config->balancers[i];
		struct ss_addr from;
		int ret = balancer_report(r, balancer, &from);

		if (!ret)
			continue;
		failure_text(r, balancer, &from, -ret, text, sizeof(text));
		failed = text;
	}
	outcome_say(r, failed);
}

static int on_timer(sd_event_source *timer, uint64_t usec, void *arg)
{
	struct reporter *r = arg;

	report_all(r);
	r->due += r->config->interval * 1000ULL;
	if (r->due < usec) /* the machine slept, or was busy: nothing to catch up with */
		r->due = usec + r->config->interval * 1000ULL;
	return sd_event_source_set_time(timer, r->due);
}

/* The loop: a timer, and signals that end it. */
static int loop_run(struct reporter *r)
{
	sd_event_source *timer = NULL;
	sigset_t signals;
	int ret;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &signals, NULL))
		return -errno;
	ret = sd_event_add_signal(r->event, NULL, SIGINT, NULL, NULL);
	if (ret >= 0)
		ret = sd_event_add_signal(r->event, NULL, SIGTERM, NULL, NULL);
	if (ret >= 0)
		ret = sd_event_set_watchdog(r->event, true);
	if (ret >= 0)
		ret = sd_event_now(r->event, CLOCK_MONOTONIC, &r->due);
	if (ret >= 0)
		ret = sd_event_add_time(r->event, &timer, CLOCK_MONOTONIC, r->due, 1000, on_timer,
					r);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(timer, SD_EVENT_ON);
	if (ret >= 0) {
		(void)sd_notify(false, "READY=1");
		ret = sd_event_loop(r->event);
	}
	sd_event_source_unref(timer);
	return ret;
}

int reporter_run(const struct pins *pins, const struct host_report_config *config,
		 struct error *err)
{
	struct reporter r = { .pins = pins, .config = config };
	int ret = report_keys_load(config->key, &r.keys, err);

	if (ret < 0)
		return ret;
	r.keys_count = ret;
	ret = sd_event_default(&r.event);
	if (ret >= 0)
		ret = loop_run(&r);
	sd_event_unref(r.event);
	free(r.service);
	free(r.keys);
	return ret < 0 ? error_set(err, ret, "the event loop failed: %s", strerror(-ret)) : 0;
}
