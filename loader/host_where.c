// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "host_where.h"

#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include <sidestep/host.h>

#include "interfaces.h"
#include "netlink.h"
#include "program.h"
#include "sockops.h"
#include "tc.h"

#define AGAIN "run: sidestep host up FILE"

struct findings {
	const struct pins *pins;
	void (*fn)(enum host_finding kind, const char *text, void *arg);
	void *arg;
	unsigned problems;
};

__attribute__((format(printf, 3, 4))) static void tell(struct findings *f, enum host_finding kind,
						       const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	f->problems += kind == HOST_PROBLEM;
	f->fn(kind, text, f->arg);
}

/* A program that should be on an interface. */
struct wanted {
	struct findings *findings;
	const char *interface;
	int ifindex;
	enum tc_direction direction;
};

static void tell_ahead(const char *program, __u32 id, void *arg)
{
	const struct wanted *w = arg;
	char number[32] = "a filter";

	if (id)
		snprintf(number, sizeof(number), "id %u", id);
	tell(w->findings, HOST_WARNING,
	     "%s %s: %s (%s) runs ahead of sidestep's program, which does not run if that one ends "
	     "the chain; attach it after sidestep's",
	     w->interface, tc_direction_name(w->direction), program, number);
}

static int find_attached(const struct pins *pins, const char *name, void *arg)
{
	struct wanted *w = arg;
	struct tc_attached a;

	if (tc_attached_parse(name, &a) || a.ifindex != w->ifindex || a.direction != w->direction ||
	    !tc_is_attached(pins, name, &a))
		return 0;
	tc_each_ahead(pins, name, &a, tell_ahead, w);
	return 1;
}

static void master_check(struct findings *f, const char *interface, int ifindex)
{
	char name[IF_NAMESIZE] = "?", kind[16];
	int master;

	if (!netlink_has_master(ifindex, &master, kind))
		return;
	(void)if_indextoname(master, name);
	tell(f, HOST_WARNING,
	     "%s is a port of the %s %s, whose packets pass %s's programs, not those of its ports; "
	     "configure %s instead",
	     interface, kind, name, name, name);
}

static void interface_check(const char *interface, int ifindex, void *arg)
{
	struct wanted w = { .findings = arg, .interface = interface, .ifindex = ifindex };
	struct findings *f = arg;
	char text[256];

	if (!interface_is_same(f->pins, interface, ifindex, text, sizeof(text))) {
		tell(f, HOST_PROBLEM, "%s", text);
		return;
	}
	master_check(f, interface, ifindex);
	for (w.direction = TC_DIRECTION_INGRESS; w.direction <= TC_DIRECTION_EGRESS; w.direction++)
		if (!pins_each(f->pins, "", find_attached, &w))
			tell(f, HOST_PROBLEM,
			     "%s: the %s program was detached, or its qdisc was removed; " AGAIN,
			     interface, tc_direction_name(w.direction));
}

static void tell_other(const char *cgroup, __u32 id, void *arg)
{
	char name[PROGRAM_NAME_LEN];

	tell(arg, HOST_WARNING,
	     "the sockops program %s (id %u) on the cgroup %s sees the same sockets; if it sets "
	     "callback flags without keeping those that are set, connections are not followed to "
	     "their end",
	     program_name(id, name), id, cgroup);
}

static void cgroup_check(struct findings *f)
{
	int fd = pins_get(f->pins, "place");
	struct ss_place place = {};
	__u64 now, ours;
	__u32 zero = 0;

	if (fd < 0)
		return;
	if (bpf_map_lookup_elem(fd, &zero, &place))
		place.cgroup[0] = 0;
	close(fd);
	if (!place.cgroup[0])
		return;
	now = sockops_cgroup_id(place.cgroup);
	ours = sockops_cgroup(f->pins);
	if (!now)
		tell(f, HOST_PROBLEM,
		     "the cgroup %s was removed, no connection is redirected; when it is "
		     "back, " AGAIN,
		     place.cgroup);
	else if (now != ours)
		tell(f, HOST_PROBLEM,
		     "the cgroup %s was made anew, no connection is redirected; " AGAIN,
		     place.cgroup);
	else
		sockops_each_other(f->pins, place.cgroup, tell_other, f);
}

unsigned host_findings(const struct pins *pins,
		       void (*fn)(enum host_finding kind, const char *text, void *arg), void *arg)
{
	struct findings f = { .pins = pins, .fn = fn, .arg = arg };

	interfaces_each(pins, interface_check, &f);
	cgroup_check(&f);
	return f.problems;
}
