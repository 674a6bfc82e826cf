// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "lb_neighbours.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include <sidestep/lb.h>

#include "xdp.h"

/* linux/netdev.h, of Linux 6.3 and later */
#define NETDEV_FAMILY "netdev"
#define NETDEV_DEV_GET 1
#define NETDEV_IFINDEX 1
#define NETDEV_XDP_FEATURES 3
#define NETDEV_XDP_NDO_XMIT 4

/* A request and, in its place, the answer. */
struct message {
	struct nlmsghdr head;
	union {
		struct rtmsg route;
		struct ndmsg neighbour;
		struct genlmsghdr generic;
		struct nlmsgerr error;
		char room[4096];
	};
};

static void message_add(struct message *m, unsigned short type, const void *value, unsigned len)
{
	struct rtattr *attribute = (void *)((char *)m + NLMSG_ALIGN(m->head.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = RTA_LENGTH(len);
	memcpy(RTA_DATA(attribute), value, len);
	m->head.nlmsg_len = NLMSG_ALIGN(m->head.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
}

static void message_add_address(struct message *m, unsigned short type, int family,
				const struct ss_addr *addr)
{
	bool v4 = family == AF_INET;

	message_add(m, type, v4 ? (void *)&addr->w[3] : (void *)addr, v4 ? 4 : 16);
}

/* Sends @m to the kernel and has the answer in its place. Returns 0 or a negative errno. */
static int message_ask_by(struct message *m, int protocol)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	ssize_t len;

	if (fd < 0)
		return -errno;
	len = send(fd, m, m->head.nlmsg_len, 0);
	if (len >= 0)
		len = recv(fd, m, sizeof(*m), 0);
	if (len < 0)
		len = -errno;
	close(fd);
	if (len < 0)
		return len;
	if ((size_t)len < NLMSG_LENGTH(sizeof(m->error)) || m->head.nlmsg_len > (size_t)len)
		return -EPROTO;
	return m->head.nlmsg_type == NLMSG_ERROR ? m->error.error : 0;
}

static int message_ask(struct message *m)
{
	return message_ask_by(m, NETLINK_ROUTE);
}

/* The attribute @type of @m behind a header of @skip bytes; NULL: it has none, or a shorter one than @len. */
static const void *message_get(const struct message *m, size_t skip, unsigned short type,
			       unsigned len)
{
	const struct rtattr *a = (const void *)((const char *)m + NLMSG_SPACE(skip));
	int left = m->head.nlmsg_len - NLMSG_SPACE(skip);

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return RTA_PAYLOAD(a) >= len ? RTA_DATA(a) : NULL;
	return NULL;
}

static void address_take(struct next_hop *hop, int family, const void *bytes)
{
	__be32 four;

	hop->family = family;
	memcpy(&four, bytes, sizeof(four));
	if (family == AF_INET)
		hop->addr = ss_addr_v4(four);
	else
		memcpy(&hop->addr, bytes, sizeof(hop->addr));
}

int next_hop_find(const struct ss_addr *to, struct next_hop *out)
{
	int family = ss_addr_is_v4(to) ? AF_INET : AF_INET6, ret;
	struct message m = { .head = { .nlmsg_len = NLMSG_LENGTH(sizeof(m.route)),
				       .nlmsg_type = RTM_GETROUTE,
				       .nlmsg_flags = NLM_F_REQUEST },
			     .route = { .rtm_family = family,
					.rtm_dst_len = family == AF_INET ? 32 : 128 } };
	const struct rtvia *via;
	const void *value;

	message_add_address(&m, RTA_DST, family, to);
	ret = message_ask(&m);
	if (ret)
		return ret;
	*out = (struct next_hop){ .family = family,
				  .addr = *to,
				  .is_local = m.route.rtm_type == RTN_LOCAL };
	value = message_get(&m, sizeof(m.route), RTA_OIF, 4);
	if (value)
		memcpy(&out->ifindex, value, sizeof(out->ifindex));
	value = message_get(&m, sizeof(m.route), RTA_GATEWAY, family == AF_INET ? 4 : 16);
	via = message_get(&m, sizeof(m.route), RTA_VIA, sizeof(*via) + 16);
	if (value)
		address_take(out, family, value);
	else if (via && via->rtvia_family == AF_INET6)
		address_take(out, AF_INET6, via->rtvia_addr);
	return 0;
}

/* What the kernel knows of the neighbour @hop: its state; 0: nothing. *@managed: it keeps it resolved. */
static unsigned neighbour_state(const struct next_hop *hop, bool *managed)
{
	struct message m = { .head = { .nlmsg_len = NLMSG_LENGTH(sizeof(m.neighbour)),
				       .nlmsg_type = RTM_GETNEIGH,
				       .nlmsg_flags = NLM_F_REQUEST },
			     .neighbour = { .ndm_family = hop->family,
					    .ndm_ifindex = hop->ifindex } };
	const __u32 *flags;

	message_add_address(&m, NDA_DST, hop->family, &hop->addr);
	*managed = false;
	if (message_ask(&m))
		return 0;
	flags = message_get(&m, sizeof(m.neighbour), NDA_FLAGS_EXT, sizeof(*flags));
	*managed = flags && (*flags & NTF_EXT_MANAGED);
	return m.neighbour.ndm_state;
}

bool next_hop_is_known(const struct next_hop *hop)
{
	const unsigned known =
		NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;
	bool managed;

	return hop->is_local || (neighbour_state(hop, &managed) & known);
}

/* The kernel keeps the neighbour @hop resolved, or no longer. Returns 0 or a negative errno. */
static int neighbour_manage(const struct next_hop *hop, bool managed)
{
	struct message m = { .head = { .nlmsg_len = NLMSG_LENGTH(sizeof(m.neighbour)),
				       .nlmsg_type = RTM_NEWNEIGH,
				       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE |
						      (managed ? NLM_F_CREATE : 0) },
			     .neighbour = { .ndm_family = hop->family,
					    .ndm_ifindex = hop->ifindex,
					    .ndm_flags = NTF_USE } };
	__u32 flags = managed ? NTF_EXT_MANAGED : 0;

	message_add_address(&m, NDA_DST, hop->family, &hop->addr);
	message_add(&m, NDA_FLAGS_EXT, &flags, sizeof(flags));
	return message_ask(&m);
}

int lb_neighbours_check(const struct service_config *services, unsigned count, struct error *err)
{
	struct next_hop hop;

	for (unsigned i = 0; i < count; i++) {
		const struct service_config *s = &services[i];

		for (unsigned j = 0; s->method == SS_METHOD_NAT && j < s->backends_count; j++)
			if (!next_hop_find(&s->backends[j].address.addr, &hop) && hop.is_local)
				return error_set(
					err, -EINVAL,
					"service %s: backend %s is this machine itself, and by nat "
					"its answers would not come back through the balancer; "
					"expected another machine, or method: ipip with the host "
					"programs here",
					s->name, s->backends[j].name);
	}
	return 0;
}

/* Asks for the way to @to, unless that is done. One that an administrator has set stays as it is. */
static void neighbour_keep(int map, const struct ss_addr *to)
{
	struct ss_lb_neighbour key = {};
	struct next_hop hop;
	__u8 yes = 1;
	bool managed;

	if (next_hop_find(to, &hop) || hop.is_local)
		return;
	key.ifindex = hop.ifindex;
	key.addr = hop.addr;
	if (neighbour_state(&hop, &managed) & (NUD_PERMANENT | NUD_NOARP) || managed)
		return;
	if (bpf_map_update_elem(map, &key, &yes, BPF_ANY))
		return;
	if (neighbour_manage(&hop, true) || !(neighbour_state(&hop, &managed), managed))
		(void)bpf_map_delete_elem(map, &key);
}

void lb_neighbours_keep(const struct pins *pins, const struct service_config *services,
			unsigned count)
{
	int map = pins_get(pins, "neighbours");

	for (unsigned i = 0; map >= 0 && i < count; i++)
		for (unsigned j = 0; j < services[i].backends_count; j++)
			neighbour_keep(map, &services[i].backends[j].address.addr);
	if (map >= 0)
		close(map);
}

void lb_neighbours_release(const struct pins *pins)
{
	int map = pins_get(pins, "neighbours");
	struct ss_lb_neighbour key;

	while (map >= 0 && !bpf_map_get_next_key(map, NULL, &key)) {
		struct next_hop hop = { .family = ss_addr_is_v4(&key.addr) ? AF_INET : AF_INET6,
					.ifindex = key.ifindex,
					.addr = key.addr };

		(void)neighbour_manage(&hop, false);
		if (bpf_map_delete_elem(map, &key))
			break;
	}
	if (map >= 0)
		close(map);
}

/* What XDP can do with the interface @ifindex, a mask. 0, or a negative errno: the kernel does not say. */
static int xdp_features(int ifindex, __u64 *features)
{
	struct message m = { .head = { .nlmsg_len = NLMSG_LENGTH(sizeof(m.generic)),
				       .nlmsg_type = GENL_ID_CTRL,
				       .nlmsg_flags = NLM_F_REQUEST },
			     .generic = { .cmd = CTRL_CMD_GETFAMILY, .version = 1 } };
	const void *value;
	__u16 family;
	int ret;

	message_add(&m, CTRL_ATTR_FAMILY_NAME, NETDEV_FAMILY, sizeof(NETDEV_FAMILY));
	ret = message_ask_by(&m, NETLINK_GENERIC);
	value = ret ? NULL
		    : message_get(&m, sizeof(m.generic), CTRL_ATTR_FAMILY_ID, sizeof(family));
	if (!value)
		return ret ? ret : -ENOENT;
	memcpy(&family, value, sizeof(family));
	m = (struct message){ .head = { .nlmsg_len = NLMSG_LENGTH(sizeof(m.generic)),
					.nlmsg_type = family,
					.nlmsg_flags = NLM_F_REQUEST },
			      .generic = { .cmd = NETDEV_DEV_GET, .version = 1 } };
	message_add(&m, NETDEV_IFINDEX, &ifindex, sizeof(ifindex));
	ret = message_ask_by(&m, NETLINK_GENERIC);
	value = ret ? NULL
		    : message_get(&m, sizeof(m.generic), NETDEV_XDP_FEATURES, sizeof(*features));
	if (!value)
		return ret ? ret : -ENOENT;
	memcpy(features, value, sizeof(*features));
	return 0;
}

/* A frame that came in natively by another interface than @ifindex would have to leave by that one. */
static bool is_redirected_to(const struct pins *pins, const int *from, unsigned n, int ifindex)
{
	const char *mode;
	char name[32];

	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "xdp_%d", from[i]);
		mode = from[i] == ifindex ? NULL : xdp_attached_mode(pins, name);
		if (mode && !strcmp(mode, "native"))
			return true;
	}
	return false;
}

/* Warns if the way to @to is none for XDP frames. Returns the interface that it warned of; else 0. */
static int way_check(const struct pins *pins, const int *from, unsigned n, const struct ss_addr *to,
		     int warned, void (*warn)(const char *text))
{
	char interface[IF_NAMESIZE], text[384];
	struct next_hop hop;
	__u64 features;

	if (next_hop_find(to, &hop) || hop.is_local || hop.ifindex == warned ||
	    !is_redirected_to(pins, from, n, hop.ifindex) || xdp_features(hop.ifindex, &features) ||
	    (features & NETDEV_XDP_NDO_XMIT) || !if_indextoname(hop.ifindex, interface))
		return 0;
	snprintf(
		text, sizeof(text),
		"packets to backends leave by %s, which takes no frames from XDP (a bridge; a veth "
		"whose peer has neither an XDP program nor GRO): they will be lost. Have XDP or "
		"GRO "
		"on at the peer, or say xdp_mode: generic",
		interface);
	warn(text);
	return hop.ifindex;
}

void lb_ways_check(const struct pins *pins, const struct balancer_config *config,
		   const int *ifindex, void (*warn)(const char *text))
{
	int warned = 0, now;

	for (unsigned i = 0; i < config->services_count; i++)
		for (unsigned j = 0; j < config->services[i].backends_count; j++) {
			now = way_check(pins, ifindex, config->interfaces_count,
					&config->services[i].backends[j].address.addr, warned,
					warn);
			warned = now ? now : warned;
		}
}
