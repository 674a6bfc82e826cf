// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Finds lines in YAML text, so that every error in a configuration can name one. */
#include "yaml_line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static unsigned node_line(const yaml_node_t *node)
{
	return node->start_mark.line + 1;
}

/* The line where @parser gave up. Errors in the encoding have an offset instead of a line. */
static unsigned problem_line(const yaml_parser_t *parser, const char *text, size_t len)
{
	unsigned line = 1;

	if (parser->error != YAML_READER_ERROR)
		return parser->problem_mark.line + 1;
	for (size_t i = 0; i < parser->problem_offset && i < len; i++)
		line += text[i] == '\n';
	return line;
}

static int syntax_error(const yaml_parser_t *parser, const char *name, const char *text, size_t len,
			struct error *err)
{
	unsigned line = problem_line(parser, text, len);
	unsigned from = parser->context_mark.line + 1;
	const char *problem = parser->problem ? parser->problem : "not readable";

	if (parser->error == YAML_MEMORY_ERROR)
		return error_set(err, -ENOMEM, "%s: out of memory", name);
	if (!parser->context || from == line)
		return error_set(err, -EINVAL, "%s:%u: syntax: %s; expected YAML or JSON", name,
				 line, problem);
	return error_set(err, -EINVAL,
			 "%s:%u: syntax: %s, %s that starts in line %u; expected YAML or JSON",
			 name, line, problem, parser->context, from);
}

static int is_plain_text(const yaml_node_t *node)
{
	for (size_t i = 0; i < node->data.scalar.length; i++)
		if (node->data.scalar.value[i] < ' ' || node->data.scalar.value[i] == 0x7f)
			return 0;
	return 1;
}

/* The first key of the mapping @node that is a list or a mapping; NULL if there is none. */
static const yaml_node_t *odd_key(yaml_document_t *doc, const yaml_node_t *node)
{
	const yaml_node_pair_t *pair = node->data.mapping.pairs.start;

	for (; pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = yaml_document_get_node(doc, pair->key);

		if (key->type != YAML_SCALAR_NODE)
			return key;
	}
	return NULL;
}

static int document_check(yaml_document_t *doc, const char *name, struct error *err)
{
	for (const yaml_node_t *node = doc->nodes.start; node < doc->nodes.top; node++) {
		const yaml_node_t *key;

		if (node->type == YAML_SCALAR_NODE && !is_plain_text(node))
			return error_set(err, -EINVAL,
					 "%s:%u: control character; expected a single line of text",
					 name, node_line(node));
		key = node->type == YAML_MAPPING_NODE ? odd_key(doc, node) : NULL;
		if (key)
			return error_set(err, -EINVAL,
					 "%s:%u: a list or mapping as a key; expected a word", name,
					 node_line(key));
	}
	return 0;
}

/* Checks that @parser has reached the end of its text. */
static int end_check(yaml_parser_t *parser, const char *name, const char *text, size_t len,
		     struct error *err)
{
	yaml_document_t second;
	yaml_node_t *root;
	int ret = 0;

	if (!yaml_parser_load(parser, &second))
		return syntax_error(parser, name, text, len, err);
	root = yaml_document_get_root_node(&second);
	if (root)
		ret = error_set(err, -EINVAL, "%s:%u: a second document; expected only one", name,
				node_line(root));
	yaml_document_delete(&second);
	return ret;
}

int yaml_line_load(yaml_document_t *doc, const char *name, const char *text, size_t len,
		   struct error *err)
{
	yaml_parser_t parser;
	int ret = 0;

	if (!yaml_parser_initialize(&parser))
		return error_set(err, -ENOMEM, "%s: out of memory", name);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	if (!yaml_parser_load(&parser, doc)) {
		ret = syntax_error(&parser, name, text, len, err);
		goto out;
	}
	if (yaml_document_get_root_node(doc))
		ret = end_check(&parser, name, text, len, err);
	if (!ret)
		ret = document_check(doc, name, err);
	if (ret)
		yaml_document_delete(doc);
out:
	yaml_parser_delete(&parser);
	return ret;
}

/*
 * The last pair of the mapping @node with the key of @len bytes at @key, or NULL. The last,
 * because of a key that stands there twice, the second is the one to complain about.
 */
static const yaml_node_pair_t *pair_find(yaml_document_t *doc, const yaml_node_t *node,
					 const char *key, size_t len)
{
	const yaml_node_pair_t *pair = node->data.mapping.pairs.top;

	while (pair-- > node->data.mapping.pairs.start) {
		const yaml_node_t *at = yaml_document_get_node(doc, pair->key);

		if (at->type == YAML_SCALAR_NODE && at->data.scalar.length == len &&
		    !memcmp(at->data.scalar.value, key, len))
			return pair;
	}
	return NULL;
}

/*
 * One step down from @node to the list item that *@path starts with. Moves *@path behind it and
 * returns it, or NULL if there is no such item.
 */
static const yaml_node_t *item_step(yaml_document_t *doc, const yaml_node_t *node,
				    const char **path)
{
	const yaml_node_item_t *start = node->data.sequence.items.start;
	size_t count = node->data.sequence.items.top - start;
	size_t item = strtoul(*path + 1, NULL, 10);

	if (**path != '[' || item >= count)
		return NULL;
	*path += strcspn(*path, "]");
	*path += strspn(*path, "].");
	return yaml_document_get_node(doc, start[item]);
}

/* The same to the pair of the key that *@path starts with. */
static const yaml_node_pair_t *key_step(yaml_document_t *doc, const yaml_node_t *node,
					const char **path)
{
	size_t len = strlen(*path);
	const yaml_node_pair_t *pair = pair_find(doc, node, *path, len);

	if (!pair) { /* not a key with dots in it: a path */
		len = strcspn(*path, ".[");
		pair = pair_find(doc, node, *path, len);
	}
	*path += len;
	*path += **path == '.';
	return pair;
}

unsigned yaml_line(yaml_document_t *doc, const char *path)
{
	const yaml_node_t *node = yaml_document_get_root_node(doc);
	unsigned line = node ? node_line(node) : 1;

	while (node && *path) {
		const yaml_node_pair_t *pair;

		if (node->type == YAML_SEQUENCE_NODE) {
			node = item_step(doc, node, &path);
			line = node ? node_line(node) : line;
			continue;
		}
		pair = node->type == YAML_MAPPING_NODE ? key_step(doc, node, &path) : NULL;
		if (!pair)
			break;
		line = node_line(yaml_document_get_node(doc, pair->key));
		node = yaml_document_get_node(doc, pair->value);
	}
	return line;
}
