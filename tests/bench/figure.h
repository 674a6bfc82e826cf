/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* How benchmarks state what they measured: the median over rounds, with minimum and maximum. */
#ifndef SIDESTEP_BENCH_FIGURE_H
#define SIDESTEP_BENCH_FIGURE_H

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

static inline int bench_by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Sorts @values and returns the value that the share @q (0 to 1) of them does not exceed. */
static inline double bench_quantile(double *values, unsigned n, double q)
{
	unsigned at = q * n;

	qsort(values, n, sizeof(*values), bench_by_value);
	return values[at < n ? at : n - 1];
}

/* {median, min, max, rounds} of @values, which are sorted by this. */
static inline json_t *bench_figure(double *values, unsigned n)
{
	double median = bench_quantile(values, n, 0.5);

	return json_pack("{s:f,s:f,s:f,s:i}", "median", median, "min", values[0], "max",
			 values[n - 1], "rounds", n);
}

/* Prints @figures as JSON to standard output and frees them. */
static inline void bench_print(json_t *figures)
{
	json_dumpf(figures, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(5));
	printf("\n");
	json_decref(figures);
}

/* Pins this process to the last processor. Returns 0 or -1 with errno set. */
static inline int bench_pin(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &cpus);
	return sched_setaffinity(0, sizeof(cpus), &cpus);
}

/* CLOCK_MONOTONIC in seconds. */
static inline double bench_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

#endif
