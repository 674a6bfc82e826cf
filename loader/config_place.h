/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Where something stands in the configuration file, what is expected there, and the one line that
 * says so when something else is.
 */
#ifndef SIDESTEP_CONFIG_PLACE_H
#define SIDESTEP_CONFIG_PLACE_H

#include <stddef.h>

#include <yaml.h>

#include "error.h"

#define CONFIG_PATH_LEN 128 /* of all that the schemas know */

/* The text being read, and where to complain about it. */
struct source {
	const char *name;
	yaml_document_t doc;
	struct error *err;
};

/* A place in the configuration: a key or a list item, and the place that it is in. */
struct place {
	struct source *src;
	const struct place *in; /* NULL: the whole file */
	const char *key; /* NULL: a list item */
	unsigned item;
};

#define AT_KEY(at, name) (&(const struct place){ (at)->src, (at), (name), 0 })
#define AT_ITEM(at, number) (&(const struct place){ (at)->src, (at), NULL, (number) })

/*
 * Complain about what stands at @path ("services[0].vip"), or at @at. Where @expected is NULL, the
 * table of expectations has it. All return -EINVAL (fail_memory(): -ENOMEM) with the error set.
 */
int fail_path(struct source *src, const char *path, const char *expected, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
int fail_at(const struct place *at, const char *expected, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int fail_memory(const struct place *at);

/* Writes the keys that the mapping at @path knows into @buf (@size bytes), for an error message. */
void keys_list(const char *path, char *buf, size_t size);

#endif
