// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Fuzzes the option codec. Input: two bytes of wanted forms, then the options of a TCP header.
 * What the codec finds is compared with a second walk, written without looking at the first.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <sidestep/option.h>

/* Is @option one of ours, by its ExID? Held are requests and short grants, judged are requests alone. */
static bool is_ours(const uint8_t *option)
{
	unsigned word, form;

	if (option[0] != 253 || option[1] < 4 || option[2] != 0x5d)
		return false;
	word = option[3] >> 4;
	form = option[3] & 15;
	return word == 5 || (word == 4 && (form < 8 || form == 11 || form == 15)) ||
	       (word == 6 && form < 8);
}

/* RFC 9293, section 3.1, and RFC 6994, in the plainest words. */
static enum ss_opt_result walk_again(const uint8_t *opts, size_t len, unsigned forms, size_t *at)
{
	static const unsigned lengths[16] = { 8,  8,  16, 16, 20, 20, 8,  8,
					      12, 12, 20, 8,  12, 12, 20, 8 };

	for (size_t i = 0; i < len; i += opts[i] == 1 ? 1 : opts[i + 1]) {
		if (opts[i] == 0)
			return SS_OPT_ABSENT;
		if (opts[i] == 1)
			continue;
		if (i + 1 == len)
			return SS_OPT_NO_LENGTH;
		if (opts[i + 1] < 2)
			return SS_OPT_TOO_SHORT;
		if (opts[i + 1] > len - i)
			return SS_OPT_OVERRUN;
		*at = i;
		if (!is_ours(opts + i) || !(forms & 1u << (opts[i + 3] & 15)))
			continue;
		return opts[i + 1] == lengths[opts[i + 3] & 15] ? SS_OPT_FOUND : SS_OPT_BAD_LENGTH;
	}
	return SS_OPT_ABSENT;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ss_opt_cursor c = {};
	enum ss_opt_result found, expected;
	size_t at = 0;

	if (size < 2 || size > 2 + SS_TCP_OPTS_MAX)
		return 0;
	c.forms = data[0] << 8 | data[1];
	c.len = size - 2;
	memcpy(c.opts, data + 2, c.len);
	found = ss_opt_walk(&c);
	expected = walk_again(data + 2, c.len, c.forms, &at);
	if (found != expected)
		abort();
	if (found == SS_OPT_FOUND &&
	    (c.off != at || (c.word | c.form) != (0x5d00u | data[2 + at + 3])))
		abort();
	return 0;
}
