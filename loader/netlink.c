// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "netlink.h"

#include <errno.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX 65536

typedef int (*message_function)(const struct nlmsghdr *message, void *arg);

/* Hands over the messages in @buf. Is there more to come? If not, *@ret is 0 or what @fn returned. */
static bool messages_take(const char *buf, int len, message_function fn, void *arg, int *ret)
{
	const struct nlmsghdr *message = (const struct nlmsghdr *)buf;

	for (; NLMSG_OK(message, (unsigned)len); message = NLMSG_NEXT(message, len)) {
		if (message->nlmsg_type == NLMSG_DONE)
			return false;
		if (message->nlmsg_type == NLMSG_ERROR)
			*ret = ((const struct nlmsgerr *)NLMSG_DATA(message))->error;
		else
			*ret = fn(message, arg);
		if (*ret || !(message->nlmsg_flags & NLM_F_MULTI))
			return false;
	}
	return true;
}

/* Asks @request, and hands each message of the answer to @fn, until that returns not 0. */
static int ask(const struct nlmsghdr *request, message_function fn, void *arg)
{
	static char buf[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), ret = 0;
	bool more = true;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (send(fd, request, request->nlmsg_len, 0) < 0)
		ret = -errno;
	while (!ret && more) {
		n = recv(fd, buf, sizeof(buf), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			ret = -errno;
		else
			more = messages_take(buf, n, fn, arg, &ret);
	}
	close(fd);
	return ret;
}

static const struct rtattr *attribute_find(const struct rtattr *attribute, int len, unsigned type)
{
	for (; RTA_OK(attribute, len); attribute = RTA_NEXT(attribute, len))
		if ((attribute->rta_type & NLA_TYPE_MASK) == type)
			return attribute;
	return NULL;
}

static const struct rtattr *attribute_inside(const struct rtattr *attribute, unsigned type)
{
	return attribute ? attribute_find(RTA_DATA(attribute), RTA_PAYLOAD(attribute), type) : NULL;
}

/* Copies the text of @attribute, which may be NULL, into @out (@size bytes). Is there one? */
static bool text_copy(const struct rtattr *attribute, char *out, size_t size)
{
	if (!attribute || !RTA_PAYLOAD(attribute))
		return false;
	snprintf(out, size, "%.*s", (int)RTA_PAYLOAD(attribute), (const char *)RTA_DATA(attribute));
	return true;
}

struct master_answer {
	int master;
	char kind[16];
};

static int master_take(const struct nlmsghdr *message, void *arg)
{
	const struct rtattr *all = IFLA_RTA(NLMSG_DATA(message)), *master;
	int len = IFLA_PAYLOAD(message);
	struct master_answer *answer = arg;

	master = attribute_find(all, len, IFLA_MASTER);
	if (master && RTA_PAYLOAD(master) >= sizeof(answer->master))
		memcpy(&answer->master, RTA_DATA(master), sizeof(answer->master));
	text_copy(attribute_inside(attribute_find(all, len, IFLA_LINKINFO), IFLA_INFO_SLAVE_KIND),
		  answer->kind, sizeof(answer->kind));
	return 0;
}

bool netlink_has_master(int ifindex, int *master, char kind[16])
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} request = {
		.header = { .nlmsg_len = sizeof(request),
			    .nlmsg_type = RTM_GETLINK,
			    .nlmsg_flags = NLM_F_REQUEST },
		.info.ifi_index = ifindex,
	};
	struct master_answer answer = { .kind = "device" };

	if (ask(&request.header, master_take, &answer) || !answer.master ||
	    !strcmp(answer.kind, "vrf"))
		return false;
	*master = answer.master;
	memcpy(kind, answer.kind, sizeof(answer.kind));
	return true;
}

struct filters_answer {
	int (*fn)(const struct netlink_filter *filter, void *arg);
	void *arg;
};

static int filter_take(const struct nlmsghdr *message, void *arg)
{
	const struct filters_answer *answer = arg;
	const struct tcmsg *tc = NLMSG_DATA(message);
	const struct rtattr *all = TCA_RTA(tc);
	struct netlink_filter filter = { .priority = tc->tcm_info >> 16, .handle = tc->tcm_handle };
	int len = TCA_PAYLOAD(message);

	/* a chain's beginning is told as a filter without a handle */
	if (message->nlmsg_type != RTM_NEWTFILTER || !tc->tcm_handle)
		return 0;
	if (!text_copy(attribute_inside(attribute_find(all, len, TCA_OPTIONS), TCA_BPF_NAME),
		       filter.name, sizeof(filter.name)))
		text_copy(attribute_find(all, len, TCA_KIND), filter.name, sizeof(filter.name));
	return answer->fn(&filter, answer->arg);
}

int netlink_filters(int ifindex, __u32 parent,
		    int (*fn)(const struct netlink_filter *filter, void *arg), void *arg)
{
	struct {
		struct nlmsghdr header;
		struct tcmsg tc;
	} request = {
		.header = { .nlmsg_len = sizeof(request),
			    .nlmsg_type = RTM_GETTFILTER,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.tc = { .tcm_ifindex = ifindex, .tcm_parent = parent },
	};
	struct filters_answer answer = { fn, arg };

	return ask(&request.header, filter_take, &answer);
}
