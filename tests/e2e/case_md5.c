// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * TCP MD5 (RFC 2385) signs addresses and ports, so that such connections cannot be redirected. They
 * work, or not, as if the programs were not there.
 */
#include "cases.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "capture.h"
#include "programs.h"

static void key_set(int fd, int af, const char *peer)
{
	struct tcp_md5sig key = { .tcpm_addr = address_of(af, peer, 0), .tcpm_keylen = 6 };

	memcpy(key.tcpm_key, "secret", key.tcpm_keylen);
	NEED(!setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof(key)));
}

/* Whoever it talks to: it signs. */
static void keys_set(const struct talk *talk, int fd)
{
	key_set(fd, talk->family->af, talk->vip);
	key_set(fd, talk->family->af, talk->family->client);
}

static struct talk *signing_talk(const struct family *family)
{
	struct talk *talk = talk_new(family, PORT_SAME, echo_client, echo_server);

	talk->prepare = keys_set;
	return talk;
}

/* It has nothing to do with us, but for the listener, which is a service's. */
void case_md5_direct(const struct family *family)
{
	struct talk *talk = signing_talk(family);

	talk->vip = family->s1;
	talk_run(talk);
	expect_outcome("c1", "client_direct", 0);
	expect_outcome("s1", "server_direct", 0);
	expect_crossing(0, 0);
}

/* The server has the service's address, so there is a way without translation. */
void case_md5_service(const struct family *family)
{
	bool v4 = family->af == AF_INET;
	const char *options = v4 ? "" : " nodad";

	must("s1", "ip addr add %s dev lo%s", family->vip, options);
	must("r", "ip route add %s via %s", family->vip, family->s1);
	talk_run(signing_talk(family));
	must("r", "ip route del %s via %s", family->vip, family->s1);
	must("s1", "ip addr del %s/%d dev lo", family->vip, v4 ? 32 : 128);
	expect_outcome("c1", "client_signed", 1);
	expect_outcome("s1", "server_direct", 0);
	assert_int_equal(counted("c1", "client_asked"), 0);
	expect_crossing(0, 0);
}
