/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Bytes as hexadecimal digits, and back. Pure text work. */
#ifndef SIDESTEP_HEX_H
#define SIDESTEP_HEX_H

#include <stddef.h>
#include <stdint.h>

/*
 * Reads the hexadecimal digits that @text begins with, two a byte, into @out: at most @max bytes, whole
 * ones. Returns how many.
 */
size_t hex_parse(const char *text, uint8_t *out, size_t max);

/* Writes the @n bytes at @bytes into @buf (2 * @n + 1 bytes) and returns @buf. */
char *hex_format(const uint8_t *bytes, size_t n, char *buf);

#endif
