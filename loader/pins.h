/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What stays in the kernel when the loader exits: maps, programs and links, pinned in one bpffs
 * folder a component (PIN_DIR/host, PIN_DIR/balancer). Pins are the only record of what is ours.
 */
#ifndef SIDESTEP_PINS_H
#define SIDESTEP_PINS_H

#include <stdbool.h>

#include <bpf/libbpf.h>

#include "error.h"

#define PINS_PATH_LEN 512
#define PINS_DEFAULT_DIR "/sys/fs/bpf/sidestep"

/* One component's folder. */
struct pins {
	char dir[PINS_PATH_LEN];
	const char *component; /* "host" or "balancer" */
	const char *version; /* of the programs that this binary carries */
	__u64 netns_cookie; /* of the network namespace that this command runs in */
};

/* What is loaded. */
enum pins_state {
	PINS_NONE,
	PINS_OURS, /* by this version */
	PINS_OTHER, /* by another version, named in pins_state()'s @err */
	PINS_BROKEN, /* something is pinned, but no version: a killed start */
	PINS_ELSEWHERE, /* for another network namespace, as pins_state()'s @err says */
};

/*
 * Names @component's folder below @pin_dir, as used in the network namespace of this thread.
 * Returns 0 or a negative errno with @err set.
 */
int pins_init(struct pins *pins, const char *pin_dir, const char *component, const char *version,
	      struct error *err);

/*
 * Refuses a folder that somebody else could have prepared, or can write in, and one below such. Returns 0 or a negative
 * errno with @err set; folders that are not there yet are fine.
 */
int pins_check(const struct pins *pins, struct error *err);

enum pins_state pins_state(const struct pins *pins, struct error *err);

/* Creates the folder and those above it. Returns 0 or a negative errno with @err set. */
int pins_mkdir(const struct pins *pins, struct error *err);

/*
 * Writes into the map "meta" which network namespace this is: before anything is attached, since
 * programs read it. Returns 0 or a negative errno with @err set.
 */
int pins_claim(const struct pins *pins, struct error *err);

/* Opens the pinned object @name. Returns a file descriptor or a negative errno. */
int pins_get(const struct pins *pins, const char *name);

/* Pins @fd as @name. Returns 0 or a negative errno with @err set. */
int pins_put(const struct pins *pins, const char *name, int fd, struct error *err);

/* Removes the pin @name, if it is there. */
void pins_unlink(const struct pins *pins, const char *name);

/* Has every map of @object pinned when the object is loaded, or taken from its pin if it is. */
int pins_use_for_maps(const struct pins *pins, struct bpf_object *object, struct error *err);

/*
 * Calls @fn with every pin's name that starts with @prefix, until it returns another value than
 * 0, which is then returned.
 */
int pins_each(const struct pins *pins, const char *prefix,
	      int (*fn)(const struct pins *pins, const char *name, void *arg), void *arg);

/* Interfaces whose programs stay when others are detached: @n interface indices. */
struct pins_keep {
	const int *ifindex;
	unsigned n;
};

bool pins_is_kept(const struct pins_keep *keep, int ifindex);

/* Writes this binary's version into the map "meta": from now on the folder is complete. */
int pins_commit(const struct pins *pins, struct error *err);

/* Removes every pin and the folder; what nothing else refers to is freed by the kernel. */
void pins_remove(const struct pins *pins);

#endif
