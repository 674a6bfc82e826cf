/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Parsed -> decision, for QUIC: the backend that a packet's connection id names, whatever address the
 * client has by now (draft-ietf-quic-load-balancers, plaintext ids: one byte, then the server's id).
 *
 * Until a client has heard of its server, the id is of the client's own making and names nobody: the first
 * flight goes by its flow. So does what a version of QUIC that is not known here calls its packets.
 */
#ifndef SIDESTEP_LB_QUIC_H
#define SIDESTEP_LB_QUIC_H

#include "maps.h"
#include "parse.h"
#include "table.h"

#define QUIC_LONG 0x80 /* RFC 8999: a packet with a long header */
#define QUIC_V1 SS_BE32(1) /* RFC 9000 */
#define QUIC_V2 SS_BE32(0x6b3343cf) /* RFC 9369 */
#define QUIC_UNROUTABLE 7 /* the first three bits of an id that names nobody */

/* A long header up to the destination connection id (RFC 8999, section 5.1). */
struct quic_long {
	__u8 first;
	__be32 version;
	__u8 id_len;
} __attribute__((packed));

/* Has the server seen no packet of this connection before, so that it could not have named itself? */
static __always_inline int quic_is_first_flight(const struct quic_long *head)
{
	__u32 type = head->first >> 4 & 3;

	if (head->version == QUIC_V1)
		return type <= 1; /* Initial, 0-RTT */
	if (head->version == QUIC_V2)
		return type == 1 || type == 2;
	return 1;
}

/*
 * The destination connection id of @p that tells who the server is, at least 1 + @len bytes by what the
 * packet states of itself; NULL: there is none.
 */
static __always_inline const __u8 *quic_id(const struct packet *p, __u32 len)
{
	const struct quic_long *head = (void *)(p->udp + 1);
	__u32 room = SS_BE16(p->udp->len) - sizeof(*p->udp);

	if ((void *)(&head->first + 1) > p->end)
		return NULL;
	if (!(head->first & QUIC_LONG))
		return room < 1 + 1 + len ? NULL : &head->first + 1;
	if (room < sizeof(*head) + 1 + len || (void *)(head + 1) > p->end)
		return NULL;
	if (quic_is_first_flight(head) || head->id_len < 1 + len)
		return NULL;
	return (void *)(head + 1);
}

/* The backend that the QUIC packet @p names; NULL: nobody, or nobody of @table's. */
static __noinline const struct ss_lb_backend *quic_backend(const struct table *table,
							   const struct packet *p)
{
	struct ss_lb_quic_key key = { .service = table->head->index };
	__u32 len = table->head->quic_id_len;
	const __u8 *id = quic_id(p, len);

	if (!id || (void *)(id + 1) > p->end || *id >> 5 == QUIC_UNROUTABLE)
		return NULL;
	id++;
	for (__u32 i = 0; i < SS_LB_QUIC_ID && i < len; i++) {
		if ((void *)(id + i + 1) > p->end)
			return NULL;
		key.id[i] = id[i];
	}
	return bpf_map_lookup_elem(&quic_ids, &key);
}

#endif
