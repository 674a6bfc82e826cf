/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The limit of SYNs by source prefix: from the configuration to the balancer's map, and back. */
#ifndef SIDESTEP_LB_LIMIT_H
#define SIDESTEP_LB_LIMIT_H

#include <sidestep/lb.h>

#include "config.h"
#include "lb_maps.h"

/* From now on SYNs are limited as @config says. Returns 0 or a negative errno. */
int lb_syn_limit_write(const struct lb_maps *maps, const struct syn_limit_config *config);

/* How they are, into *@out. Returns 0 or a negative errno. */
int lb_syn_limit_read(const struct lb_maps *maps, struct ss_lb_syn_limit *out);

#endif
