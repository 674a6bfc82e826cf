/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Runs a job over many items on several threads. */
#ifndef SIDESTEP_WORKERS_H
#define SIDESTEP_WORKERS_H

/*
 * Has @job work on the items 0 to @count - 1, @share of them at a time: @job(@arg, first, n) works on
 * the @n from @first on. Several threads call it, also where there is one processor, so that they
 * work while others wait in the kernel; with one share the caller does. After a share has failed no
 * further one is begun. Returns 0, the error of a failed share, or a negative errno.
 */
int workers_run(unsigned count, unsigned share, int (*job)(void *arg, unsigned first, unsigned n),
		void *arg);

#endif
