// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * A server refuses the connection: nobody listens, or its firewall rejects it. It does so in its own
 * name, which the client's socket does not know; connect() has to fail as it does on a direct
 * connection.
 */
#include "cases.h"

#include "capture.h"
#include "programs.h"

#define AT_ONCE_MS 900 /* less than one SYN retransmission */

/* Returns how long connect() took, in ms. */
static unsigned refused_ms(const struct family *family, bool direct)
{
	struct talk *talk = talk_new(family, PORT_ONE, NULL, NULL);
	unsigned ms;

	talk->direct = direct;
	child_join(child_start("c1", refused_client, talk));
	ms = talk->counts[0];
	talk_finish(talk);
	return ms;
}

/* @bare: the server has no programs, so its RST comes from its own address. */
static void refused_run(const struct family *family, bool bare)
{
	counters_mark();
	capture_clear();
	assert_in_range(refused_ms(family, false), 0, AT_ONCE_MS);
	assert_int_equal(counted("c1", "client_asked"), 1);
	assert_int_equal(counted("c1", "reset_refused"), bare);
	if (!bare)
		assert_int_equal(counted("s1", "server_elsewhere"), 1);
	expect_outcome("c1", "client_direct", 0);
	expect_crossing(1, 1);
}

void case_refused(const struct family *family)
{
	refused_run(family, false);
	talk_one(family, echo_client, echo_server);
	refused_run(family, false); /* with what that connection has left */
	host_unload("s1");
	refused_run(family, true);
	host_load("s1", CONFIG_SERVER);
}

/*
 * Linux does not fail a connect() by an ICMP error that comes while it is sending the SYN, as it does
 * on virtual links, but by the one for the SYN sent again.
 */
void case_rejected(const struct family *family)
{
	must("s1",
	     "nft 'add table inet wall; add chain inet wall in { type filter hook input priority "
	     "0; }; add rule inet wall in tcp dport %u reject'",
	     listen_port(family, PORT_ONE));
	assert_in_range(refused_ms(family, false), 0, refused_ms(family, true) + AT_ONCE_MS);
	assert_in_range(counted("c1", "icmp_translated"), 1, 2);
	expect_outcome("c1", "client_direct", 0);
	must("s1", "nft delete table inet wall");
}
