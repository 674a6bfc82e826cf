// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "nat.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>

#include "capture.h"
#include "programs.h"

/* The port is another one for certain, not only if the client's is taken. */
#define MASQUERADE "masquerade to :20000-20999"

static void conntrack_begin(const struct family *family, bool source)
{
	const char *ip = family->af == AF_INET ? "ip" : "ip6";
	bool v4 = family->af == AF_INET;

	must("lb",
	     "nft 'table inet nat { "
	     "chain there { type nat hook prerouting priority dstnat; "
	     "%s daddr %s tcp dport %d dnat %s to %s%s%s:%d; }; "
	     "chain back { type nat hook postrouting priority srcnat; "
	     "%s daddr %s meta l4proto tcp %s; }; }'",
	     ip, family->vip, PORT_ONE, ip, v4 ? "" : "[", family->s1, v4 ? "" : "]",
	     listen_port(family, PORT_ONE), ip, family->s1, source ? MASQUERADE : "accept");
}

static void stateless_begin(const struct family *family)
{
	int listen = listen_port(family, PORT_ONE);

	assert_int_equal(family->af, AF_INET);
	must("lb",
	     "nft 'table ip nat { "
	     "chain there { type filter hook prerouting priority raw; "
	     "ip daddr %s tcp dport %d ip daddr set %s tcp dport set %d accept; "
	     "ip saddr %s tcp sport %d ip daddr set %s; }; "
	     "chain back { type filter hook postrouting priority srcnat; "
	     "ip daddr %s tcp dport %d ip saddr set 10.0.2.2; "
	     "ip saddr %s tcp sport %d ip saddr set %s tcp sport set %d; }; }'",
	     family->vip, PORT_ONE, family->s1, listen, family->s1, listen, family->client,
	     family->s1, listen, family->s1, listen, family->vip, PORT_ONE);
}

void nat_begin(const struct family *family, enum nat nat)
{
	balancer_unload();
	if (nat == NAT_STATELESS)
		stateless_begin(family);
	else
		conntrack_begin(family, nat == NAT_BOTH);
	counters_mark();
	capture_clear();
}

void nat_stop(void)
{
	must("lb", "nft flush ruleset");
	nat_flush();
}

void nat_end(void)
{
	nat_stop();
	balancer_load();
}

/* What `conntrack -F` does, which is not everywhere. */
void nat_flush(void)
{
	struct {
		struct nlmsghdr head;
		struct nfgenmsg family;
		struct nlmsgerr answer;
	} message = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg)),
			  .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.family = { .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0 },
	};
	const struct nlmsgerr *answer = NLMSG_DATA(&message.head);
	int fd;

	netns_enter("lb");
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	netns_enter(NULL);
	assert_true(fd >= 0);
	assert_true(send(fd, &message, message.head.nlmsg_len, 0) > 0);
	assert_true(recv(fd, &message, sizeof(message), 0) >= (ssize_t)NLMSG_LENGTH(sizeof(int)));
	assert_int_equal(message.head.nlmsg_type, NLMSG_ERROR);
	assert_int_equal(answer->error, 0);
	close(fd);
}
