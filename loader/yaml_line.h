/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Where in a YAML text a value stands. libcyaml turns text into structs but forgets the lines of
 * values it accepted; libyaml's document remembers them.
 */
#ifndef SIDESTEP_YAML_LINE_H
#define SIDESTEP_YAML_LINE_H

#include <stddef.h>

#include <yaml.h>

#include "error.h"

/*
 * Parses the @len bytes of YAML at @text into @doc, to be freed with yaml_document_delete().
 * Refuses what no configuration needs: several documents, keys that are not plain words,
 * control characters in values. Returns 0 or -EINVAL, or -ENOMEM, with @err set, naming @name.
 */
int yaml_line_load(yaml_document_t *doc, const char *name, const char *text, size_t len,
		   struct error *err);

/*
 * The line, from 1, of what @path names in @doc, such as "services[0].backends[2].address": of
 * its key, or of its list item. Where the path ends early, the line of the last part that exists.
 */
unsigned yaml_line(yaml_document_t *doc, const char *path);

#endif
