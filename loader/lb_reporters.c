// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_reporters.h"

#include <errno.h>
#include <stdlib.h>

#include <bpf/bpf.h>

int lb_reporters_add(const struct lb_maps *maps, const struct service_config *service,
		     const uint32_t *ids, const bool *added)
{
	struct ss_lb_reporter *keys = calloc(service->backends_count + 1, sizeof(*keys));
	__u32 *values = calloc(service->backends_count + 1, sizeof(*values)), n = 0;
	int err = keys && values ? 0 : -ENOMEM;

	for (unsigned i = 0; !err && i < service->backends_count; i++) {
		if (!added[i])
			continue;
		keys[n] = (struct ss_lb_reporter){ .vip = service->vip,
						   .backend = service->backends[i].address };
		values[n++] = ids[i];
	}
	if (!err && n && bpf_map_update_batch(maps->reporters, keys, values, &n, NULL))
		err = -errno;
	free(values);
	free(keys);
	return err;
}

/* Deletes the @n @keys; those that are not there do not matter. */
static int keys_delete(int map, const struct ss_lb_reporter *keys, uint32_t n)
{
	uint32_t done;

	for (uint32_t i = 0; i < n; i += done + 1) {
		done = n - i;
		if (!bpf_map_delete_batch(map, &keys[i], &done, NULL))
			return 0;
		if (errno != ENOENT)
			return -errno;
	}
	return 0;
}

int lb_reporters_remove(const struct lb_maps *maps, const struct lb_service *service,
			const bool *stays)
{
	uint32_t backends = service->table.head->backends, n = 0;
	struct ss_lb_reporter *keys = calloc(backends + 1, sizeof(*keys));
	int err = keys ? 0 : -ENOMEM;

	for (uint32_t i = 0; !err && i < backends; i++)
		if (!stays || !stays[i])
			keys[n++] = (struct ss_lb_reporter){
				.vip = service->vip, .backend = service->table.backend[i].endpoint
			};
	if (!err)
		err = keys_delete(maps->reporters, keys, n);
	free(keys);
	return err;
}
