// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_quic.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <bpf/bpf.h>

static struct ss_lb_quic_key key_of(const uint8_t *quic_id, uint32_t index)
{
	struct ss_lb_quic_key key = { .service = index };

	memcpy(key.id, quic_id, sizeof(key.id));
	return key;
}

int lb_quic_ids_add(const struct lb_maps *maps, const struct service_config *service,
		    uint32_t index, const uint32_t *ids)
{
	for (unsigned i = 0; service->quic_id_len && i < service->backends_count; i++) {
		const struct backend_config *b = &service->backends[i];
		struct ss_lb_quic_key key = key_of(b->quic_id, index);
		struct ss_lb_backend backend = lb_backend_make(b, ids[i]);

		if (bpf_map_update_elem(maps->quic_ids, &key, &backend, BPF_ANY))
			return -errno;
	}
	return 0;
}

static bool has_quic_id(const struct service_config *service, const uint8_t *quic_id)
{
	for (unsigned i = 0; service->quic_id_len && i < service->backends_count; i++)
		if (!memcmp(service->backends[i].quic_id, quic_id, SS_LB_QUIC_ID))
			return true;
	return false;
}

void lb_quic_ids_remove(const struct lb_maps *maps, const struct lb_service *old,
			const struct service_config *now)
{
	const struct ss_lb_head *head = old->table.head;

	for (unsigned i = 0; head->quic_id_len && i < head->backends; i++) {
		const uint8_t *quic_id = old->table.info[i].quic_id;
		struct ss_lb_quic_key key = key_of(quic_id, old->index);

		if (!now || !has_quic_id(now, quic_id))
			(void)bpf_map_delete_elem(maps->quic_ids, &key);
	}
}
