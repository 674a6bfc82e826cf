/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * TC programs on interfaces: by TCX links where the kernel has them (6.6), else by clsact filters.
 * Either way other people's programs on the same hook stay, and a pin records what is ours:
 * "tcx_DIRECTION_IFINDEX" (the link), or "clsact_DIRECTION_IFINDEX_HANDLE_PRIORITY" (the program);
 * "qdisc_IFINDEX": the clsact qdisc there is ours, too.
 *
 * Ours is attached ahead of what is there: any program of a hook can end the chain, and then those
 * behind it see no packet.
 */
#ifndef SIDESTEP_TC_H
#define SIDESTEP_TC_H

#include "config.h"
#include "error.h"
#include "pins.h"

enum tc_direction { TC_DIRECTION_INGRESS, TC_DIRECTION_EGRESS };

const char *tc_direction_name(enum tc_direction direction);

/*
 * Attaches @prog_fd to @ifindex, named @interface in errors, unless it is there already.
 * Returns 0 or a negative errno with @err set.
 */
int tc_attach(const struct pins *pins, int prog_fd, int ifindex, const char *interface,
	      enum tc_direction direction, enum tc_attach how, struct error *err);

/* One attached program. */
struct tc_attached {
	int ifindex;
	enum tc_direction direction;
	bool tcx;
	__u32 handle, priority; /* clsact only */
};

/* Reads a pin's name. Returns 0, or -EINVAL if it is not one of a TC program. */
int tc_attached_parse(const char *name, struct tc_attached *out);

/* Is @a, the pin @name, attached still? A filter can be removed by anybody, an interface can go. */
bool tc_is_attached(const struct pins *pins, const char *name, const struct tc_attached *a);

/*
 * Calls @fn with every program that runs ahead of ours, @a with the pin @name, on the same hook,
 * and with its kernel's id (0: a filter that is no program). Any of them may end the chain.
 */
void tc_each_ahead(const struct pins *pins, const char *name, const struct tc_attached *a,
		   void (*fn)(const char *program, __u32 id, void *arg), void *arg);

/* Detaches the programs of every interface that is not in @keep (@n interface indices). */
void tc_detach_others(const struct pins *pins, const int *keep, unsigned n);

#endif
