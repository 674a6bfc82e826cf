/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * How a function tells its caller what went wrong: a negative errno to act on, and one line for
 * the user that says what, where and what to do. Library functions never print it; commands do.
 */
#ifndef SIDESTEP_ERROR_H
#define SIDESTEP_ERROR_H

struct error {
	char text[512];
};

/*
 * Writes the line into @err (printf format, without a newline; NULL is fine) and returns @code,
 * so that a function can end with `return error_set(err, -EINVAL, "...")`.
 */
int error_set(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
