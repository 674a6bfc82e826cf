/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The interfaces that a component is configured for, kept in its pinned map "interfaces": one that
 * was deleted and made anew with the same name has no program, and nothing else would know.
 */
#ifndef SIDESTEP_INTERFACES_H
#define SIDESTEP_INTERFACES_H

#include <stdbool.h>
#include <stddef.h>

#include "error.h"
#include "map_sync.h"
#include "pins.h"

/* The change *@out that makes the map say @names, @n of them, with the indices @ifindex. */
int interfaces_change(struct map_change *out, const struct pins *pins, char *const *names,
		      const int *ifindex, unsigned n, struct error *err);

/* Makes the map say so. Returns 0 or a negative errno with @err set. */
int interfaces_write(const struct pins *pins, char *const *names, const int *ifindex, unsigned n,
		     struct error *err);

/* Calls @fn with every configured interface, and with its index when the programs were attached. */
void interfaces_each(const struct pins *pins, void (*fn)(const char *name, int ifindex, void *arg),
		     void *arg);

/* Their indices when the programs were attached, *@n of them: a new array, or NULL. */
int *interfaces_indices(const struct pins *pins, unsigned *n);

/*
 * Is @name still the interface that had the index @before? If not, says so in @text (@size bytes), and
 * what to do.
 */
bool interface_is_same(const struct pins *pins, const char *name, int before, char *text,
		       size_t size);

#endif
