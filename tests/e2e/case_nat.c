// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Balancers that are not ours: the host programs redirect what they forward, or leave it alone, so
 * that the translation holds in both directions.
 */
#include "cases.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "capture.h"
#include "nat.h"
#include "programs.h"

/* Two connections that are redirected; the second is under way when the balancer is lost. */
static void nat_redirects(const struct family *family, enum nat nat)
{
	struct talk *talk;

	nat_begin(family, nat);
	talk_one(family, echo_client, echo_server);
	expect_direct(1);
	talk = stream_begin(family);
	nat_flush();
	stream_progress(talk, STREAM_MORE);
	nat_stop();
	stream_survives(talk);
	expect_direct(2);
	nat_end();
}

void case_nat_destination(const struct family *family)
{
	nat_redirects(family, NAT_DESTINATION);
}

/* An IPv6 request does not say who the client is: the connection stays with the balancer. */
void case_nat_both(const struct family *family)
{
	if (family->af == AF_INET) {
		nat_redirects(family, NAT_BOTH);
		return;
	}
	nat_begin(family, NAT_BOTH);
	talk_one(family, echo_client, echo_server);
	expect_outcome("c1", "client_no_grant", 1);
	expect_outcome("s1", "server_source_changed", 1);
	expect_through_balancer(1);
	nat_end();
}

/* A client without host programs, and a server with them. */
void case_nat_plain(const struct family *family)
{
	host_unload("c1");
	nat_begin(family, NAT_BOTH);
	talk_one(family, echo_client, echo_server);
	expect_outcome("s1", "server_direct", 0);
	expect_through_balancer(1);
	nat_end();
	host_load("c1", CONFIG_CLIENT);
}

/* A balancer that the server does not trust may not say who the client is. */
void case_nat_untrusted(const struct family *family)
{
	must(NULL, "sed '/trusted_balancers/d' '%s' >'%s'", config_path(CONFIG_SERVER),
	     config_path("untrusting.yaml"));
	host_load("s1", "untrusting.yaml");
	nat_begin(family, NAT_BOTH);
	talk_one(family, echo_client, echo_server);
	expect_outcome("c1", "client_no_grant", 1);
	expect_outcome("s1", "server_source_mismatch", 1);
	assert_int_equal(counted("s1", "syn_untrusted"), 1);
	expect_through_balancer(1);
	nat_end();
	host_load("s1", CONFIG_SERVER);
}

/* A server whose listener cannot grant. */
void case_nat_old_listener(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_ONE, echo_client, echo_server);

	nat_begin(family, NAT_BOTH);
	talk_serve_outside(talk);
	talk_dial(talk);
	talk_finish(talk);
	expect_outcome("c1", "client_no_grant", 1);
	assert_int_equal(counted("s1", "syn_old_listener"), family->af == AF_INET);
	assert_int_equal(counted("s1", "syn_not_restored"), 1);
	expect_through_balancer(1);
	nat_end();
}

/* --- no room for a grant ------------------------------------------------------------------------ */

static void fast_open_client(void *arg)
{
	struct talk *talk = arg;
	struct sockaddr_storage to = address_of(talk->family->af, talk->vip, talk->vport);
	int fd = tcp_socket(talk->family->af), on = 1;

	NEED(!setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)));
	NEED(!connect(fd, (void *)&to, sizeof(to)));
	echo_client(talk, fd);
	close(fd);
}

/*
 * TCP Fast Open: the first SYN asks for a cookie, beside which the SYN-ACK has room for the short grant. The
 * second one has it, and room for the short request, which does not name the client: it cannot be granted,
 * and keeps the balancer's address.
 */
void case_nat_fast_open(const struct family *family)
{
	must("s1", "sysctl -qw net.ipv4.tcp_fastopen=0x402");
	must("c1", "sysctl -qw net.ipv4.tcp_fastopen=1");
	nat_begin(family, NAT_BOTH);
	for (int cookie = 0; cookie < 2; cookie++) {
		struct talk *talk = talk_new(family, PORT_ONE, NULL, echo_server);

		counters_mark();
		capture_clear();
		talk_serve(talk);
		talk->client_pid = child_start("c1", fast_open_client, talk);
		talk_finish(talk);
		assert_int_equal(counted("s1", "syn_restored"), !cookie);
		assert_int_equal(counted("s1", "syn_not_restored"), cookie);
		if (cookie) {
			expect_outcome("c1", "client_no_grant", 1);
			expect_outcome("s1", "server_source_changed", 1);
			expect_through_balancer(1);
		} else {
			expect_direct(1);
		}
	}
	nat_end();
	must("c1", "ip tcp_metrics flush all");
}
