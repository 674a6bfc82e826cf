/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* A large balancer's services, for the tests and the benchmark of changes at that size. */
#ifndef SIDESTEP_TEST_MANY_H
#define SIDESTEP_TEST_MANY_H

#include "config.h"

#define MANY_SERVICES 1000
#define MANY_BACKENDS 100 /* of each */
#define MANY_CHANGED 20 /* of those: other ones in every generation */

/*
 * MANY_SERVICES services of @generation, 0 to 40: IPv4, backends of equal weight. Free it with
 * many_free(). NULL: there is no memory.
 */
struct service_config *many_services(unsigned generation);
void many_free(struct service_config *services);

#endif
