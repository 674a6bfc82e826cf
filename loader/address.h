/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Addresses, endpoints and prefixes as people write them, and back. Pure text work. */
#ifndef SIDESTEP_ADDRESS_H
#define SIDESTEP_ADDRESS_H

#include <stddef.h>

#include <sidestep/addr.h>

/* Large enough for "[v6 address]:port" and "v6 address/128", with the ending 0. */
#define ADDRESS_TEXT_LEN 64

/*
 * Each parses all of @text and returns 0, or -EINVAL with *@out untouched.
 *   address_parse()   "10.0.0.1", "fd00::1"
 *   endpoint_parse()  "10.0.0.1:80", "[fd00::1]:80"; ports 1 to 65535
 *   prefix_parse()    "10.0.0.0/16", "fd00::/48", or an address alone: all of its bits.
 *                     Bits behind the prefix must be 0. prefixlen counts SS_PREFIX_PORT_BITS too
 *                     and port is 0
 */
int address_parse(const char *text, struct ss_addr *out);
int endpoint_parse(const char *text, struct ss_endpoint *out);
int prefix_parse(const char *text, struct ss_prefix *out);

/* Each writes @x as the parser reads it into @buf (ADDRESS_TEXT_LEN bytes) and returns @buf. */
char *address_format(const struct ss_addr *x, char *buf);
char *endpoint_format(const struct ss_endpoint *x, char *buf);
char *prefix_format(const struct ss_prefix *x, char *buf);

/* "udp" or "tcp". */
const char *endpoint_protocol(const struct ss_endpoint *x);

#endif
