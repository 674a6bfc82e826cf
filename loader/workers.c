// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "workers.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS_MAX 16

struct work {
	unsigned count, share;
	int (*job)(void *arg, unsigned first, unsigned n);
	void *arg;
	atomic_uint next; /* the first item that nobody works on yet */
	atomic_int error;
};

static void *work_on(void *arg)
{
	struct work *work = arg;

	while (!work->error) {
		unsigned first = atomic_fetch_add(&work->next, work->share), n;
		int err;

		if (first >= work->count)
			break;
		n = work->count - first;
		err = work->job(work->arg, first, n < work->share ? n : work->share);
		if (err)
			work->error = err;
	}
	return NULL;
}

int workers_run(unsigned count, unsigned share, int (*job)(void *arg, unsigned first, unsigned n),
		void *arg)
{
	struct work work = { .count = count, .share = share, .job = job, .arg = arg };
	unsigned others = (count + share - 1) / share, started = 0;
	pthread_t thread[THREADS_MAX - 1];

	others = others ? others - 1 : 0;
	if (others > THREADS_MAX - 1)
		others = THREADS_MAX - 1;
	while (started < others && !pthread_create(&thread[started], NULL, work_on, &work))
		started++; /* fewer do as well */
	work_on(&work);
	while (started)
		(void)pthread_join(thread[--started], NULL);
	return work.error;
}
