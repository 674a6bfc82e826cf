/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The ids of backends: which are in use, and what the kernel keeps by those newly taken. */
#ifndef SIDESTEP_BACKEND_IDS_H
#define SIDESTEP_BACKEND_IDS_H

#include <stdbool.h>
#include <stdint.h>

#include "lb_maps.h"

struct backend_ids {
	bool *used; /* SS_LB_IDS */
	uint32_t next; /* none below is free */
	uint32_t *taken; /* by backend_ids_take(), in order */
	uint32_t *owner; /* of each */
	uint32_t taken_count;
	uint32_t taken_room;
};

/* Sets up *@ids with none in use. Returns 0 or -ENOMEM; free with backend_ids_done(). */
int backend_ids_init(struct backend_ids *ids);
void backend_ids_done(struct backend_ids *ids);

/* Notes that @id is in use. */
void backend_ids_use(struct backend_ids *ids, uint32_t id);

/* Takes the lowest free id for the backend that is @owner. Returns 0, -E2BIG if none is free, or -ENOMEM. */
int backend_ids_take(struct backend_ids *ids, uint32_t owner, uint32_t *id);

/*
 * Writes what the kernel keeps of all ids that were taken: their owners, all else zero. Returns 0 or a
 * negative errno.
 */
int backend_ids_write(const struct backend_ids *ids, const struct lb_maps *maps);

#endif
