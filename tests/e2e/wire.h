/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Hand-made packets: sent from the router, with whatever source, and what a host says to them.
 *
 * The router sees what a host sends to it by one of its ports, before any of its own rules.
 */
#ifndef SIDESTEP_E2E_WIRE_H
#define SIDESTEP_E2E_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "../packet.h"

/* A TCP packet that was seen. */
struct wire_packet {
	struct packet_buf buf;
	char src[64], dst[64]; /* as packet_spec has them */
	char flags[8]; /* of "FSRPA", in that order */
	uint32_t seq, ack;
	unsigned payload_len;
};

/* Looks at the router's @interface from now on, for TCP packets with @port at either end. */
void wire_begin(const char *interface, uint16_t port);
void wire_end(void);

void wire_send(const struct packet_spec *spec);
void wire_send_buf(const struct packet_buf *p);

/* The next packet that the host sends; false if there is none within @ms. */
bool wire_next(struct wire_packet *packet, int ms);

/* The next packet with exactly @flags; fails the test if there is none. */
void wire_expect(struct wire_packet *packet, const char *flags);

/* The experimental option (kind 253) in @packet's TCP header; NULL: there is none. */
const uint8_t *wire_option(const struct wire_packet *packet);

#endif
