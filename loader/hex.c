// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "hex.h"

/* The value of the hexadecimal digit @c; -1 if it is none. */
static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t hex_parse(const char *text, uint8_t *out, size_t max)
{
	size_t n;

	for (n = 0; n < max; n++) {
		int high = digit_value(text[2 * n]);
		int low = high < 0 ? -1 : digit_value(text[2 * n + 1]);

		if (low < 0)
			break;
		out[n] = high << 4 | low;
	}
	return n;
}

char *hex_format(const uint8_t *bytes, size_t n, char *buf)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		buf[2 * i] = digits[bytes[i] >> 4];
		buf[2 * i + 1] = digits[bytes[i] & 15];
	}
	buf[2 * n] = 0;
	return buf;
}
