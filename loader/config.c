// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Reads the configuration file, in three steps: libyaml parses the text once to know the line of
 * everything (yaml_line.c); libcyaml checks its structure and hands over strings (config_raw.c);
 * these become typed values here. Whatever is wrong ends in fail_at() (config_place.c), which knows
 * the line.
 */
#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sidestep/host.h>
#include <sidestep/option.h>

#include "address.h"
#include "config_place.h"
#include "config_raw.h"
#include "hex.h"
#include "yaml_line.h"

#define FILE_MAX (64 << 20)

/* Finds @text among the @n @choices; absent (NULL) leaves *@out as it is. */
static int choice_convert(const struct place *at, const char *text, const char *const *choices,
			  unsigned n, unsigned *out)
{
	if (!text)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		if (!strcmp(text, choices[i])) {
			*out = i;
			return 0;
		}
	}
	return fail_at(at, NULL, "unknown value '%.64s'", text);
}

/* Reads a number without sign from @min to @max; absent (NULL) leaves *@out as it is. */
static int number_convert(const struct place *at, const char *text, unsigned min, unsigned max,
			  unsigned *out)
{
	unsigned long value;

	if (!text)
		return 0;
	if (!*text || text[strspn(text, "0123456789")])
		return fail_at(at, NULL, "'%.64s' is not a number", text);
	value = strlen(text) > 10 ? ULONG_MAX : strtoul(text, NULL, 10);
	if (value < min || value > max)
		return fail_at(at, NULL, "%.64s is out of range", text);
	*out = value;
	return 0;
}

/* What is wrong with @text as one word; NULL if nothing. */
static const char *word_flaw(const char *text)
{
	if (!*text)
		return "is empty";
	if (strchr(text, '/'))
		return "has a slash in it";
	for (; *text; text++)
		if (isspace((unsigned char)*text))
			return "has a blank in it";
	return NULL;
}

const char *config_name_flaw(const char *text)
{
	return strlen(text) >= SS_LB_NAME_LEN ? "is too long" : word_flaw(text);
}

static int name_convert(const struct place *at, const char *text, char *out)
{
	const char *flaw = config_name_flaw(text);

	if (flaw)
		return fail_at(at, NULL, "'%.64s' %s", text, flaw);
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

/* 0.0.0.0/8, multicast, reserved and broadcast addresses are no host's own. */
static bool is_host_address(const struct ss_addr *a)
{
	const uint8_t *byte = (const uint8_t *)a->w;

	if (ss_addr_is_v4(a))
		return byte[12] != 0 && byte[12] < 224;
	return byte[0] != 0xff && ss_addr_is_set(a);
}

static int endpoint_convert(const struct place *at, const char *text, struct ss_endpoint *out)
{
	if (endpoint_parse(text, out))
		return fail_at(at, NULL, "'%.64s' is not an address and port", text);
	if (!is_host_address(&out->addr))
		return fail_at(at, NULL, "'%.64s' is not the address of a host", text);
	return 0;
}

/*
 * IPv4 addresses are IPv4-mapped in the maps, so a prefix like ::/0 would match them too, which
 * nobody who writes it to trust or to accept all of IPv6 means.
 */
static int prefix_convert(const struct place *at, const char *text, struct ss_prefix *out)
{
	if (prefix_parse(text, out))
		return fail_at(at, NULL, "'%.64s' is not a prefix, or has bits set behind it",
			       text);
	if (out->prefixlen <= SS_PREFIX_PORT_BITS + 80 && !out->addr.w[0] && !out->addr.w[1] &&
	    !out->addr.w[2])
		return fail_at(at, "a longer prefix, such as 2000::/3",
			       "'%.64s' contains all of IPv4", text);
	return 0;
}

static int prefixes_convert(const struct place *at, const struct raw_list *raw,
			    struct ss_prefix **out, unsigned *count)
{
	if (!raw->count)
		return 0;
	*out = calloc(raw->count, sizeof(**out));
	if (!*out)
		return fail_memory(at);
	*count = raw->count;
	for (unsigned i = 0; i < raw->count; i++) {
		int ret = prefix_convert(AT_ITEM(at, i), raw->item[i], &(*out)[i]);

		if (ret)
			return ret;
	}
	return 0;
}

static int dial_convert(const struct place *at, const char *text, struct dial *out)
{
	struct ss_endpoint exact;

	if (endpoint_parse(text, &exact)) {
		if (!prefix_parse(text, &out->prefix))
			return prefix_convert(at, text, &out->prefix);
		return fail_at(at, NULL,
			       "'%.64s' is neither a prefix without bits behind it nor "
			       "an address and port",
			       text);
	}
	out->prefix = (struct ss_prefix){
		.prefixlen = SS_PREFIX_PORT_BITS + 128,
		.port = exact.port,
		.addr = exact.addr,
	};
	return 0;
}

static int dials_convert(const struct place *at, const struct raw_list *raw,
			 struct host_config *host)
{
	if (!raw->count)
		return 0;
	host->dial = calloc(raw->count, sizeof(*host->dial));
	if (!host->dial)
		return fail_memory(at);
	host->dial_count = raw->count;
	for (unsigned i = 0; i < raw->count; i++) {
		int ret = dial_convert(AT_ITEM(at, i), raw->item[i], &host->dial[i]);

		if (ret)
			return ret;
	}
	if (!host->backends_count)
		return fail_at(at, "host.backends as well: where a grant may point",
			       "no grant can be accepted");
	return 0;
}

static int interface_convert(const struct place *at, const char *text, char **out)
{
	const char *flaw = word_flaw(text);

	if (flaw)
		return fail_at(at, NULL, "'%.64s' %s", text, flaw);
	if (strlen(text) >= IFNAMSIZ)
		return fail_at(at, NULL, "'%.64s' has %zu bytes", text, strlen(text));
	*out = strdup(text);
	return *out ? 0 : fail_memory(at);
}

static int interfaces_convert(const struct place *at, const struct raw_list *raw, char ***out,
			      unsigned *count)
{
	int ret;

	if (!raw->count)
		return fail_at(at, NULL, "empty");
	*out = calloc(raw->count, sizeof(**out));
	if (!*out)
		return fail_memory(at);
	*count = raw->count;
	for (unsigned i = 0; i < raw->count; i++) {
		ret = interface_convert(AT_ITEM(at, i), raw->item[i], &(*out)[i]);
		if (ret)
			return ret;
		for (unsigned j = 0; j < i; j++)
			if (!strcmp((*out)[j], (*out)[i]))
				return fail_at(AT_ITEM(at, i), "every interface once",
					       "'%s' is in the list already", (*out)[i]);
	}
	return 0;
}

/* A key of @size bytes, for sorting. */
struct sort_key {
	const char *at;
	size_t size;
};

/* Orders keys by their bytes, equal ones as they stand in memory. */
static int key_compare(const void *a, const void *b)
{
	const struct sort_key *x = a, *y = b;
	int order = memcmp(x->at, y->at, x->size);

	return order ? order : (x->at > y->at) - (x->at < y->at);
}

/*
 * Looks for two equal keys of @size bytes among the @count that stand @stride bytes apart from
 * @first on. Returns 1 with the indices of a pair in *@earlier and *@later (the first one that a
 * reader of the file meets), 0 if there is none, or -ENOMEM.
 */
static int duplicate_find(const void *first, unsigned count, size_t stride, size_t size,
			  unsigned *earlier, unsigned *later)
{
	struct sort_key *key;
	unsigned i;

	*earlier = 0;
	*later = count;
	if (count < 2)
		return 0;
	key = malloc(count * sizeof(*key));
	if (!key)
		return -ENOMEM;
	for (i = 0; i < count; i++)
		key[i] = (struct sort_key){ (const char *)first + i * stride, size };
	qsort(key, count, sizeof(*key), key_compare);
	for (i = 1; i < count; i++) {
		unsigned at = (key[i].at - (const char *)first) / stride;

		if (memcmp(key[i - 1].at, key[i].at, size) || at > *later)
			continue;
		*later = at;
		*earlier = (key[i - 1].at - (const char *)first) / stride;
	}
	free(key);
	return *later < count;
}

/* Refuses equal members @key of the items of the list at @at. */
static int unique_check(const struct place *at, const char *key, const void *first, unsigned count,
			size_t stride, size_t size)
{
	unsigned earlier, later;
	char expected[64];
	int ret = duplicate_find(first, count, stride, size, &earlier, &later);

	if (ret < 0)
		return fail_memory(at);
	if (!ret)
		return 0;
	snprintf(expected, sizeof(expected), "another %s", key);
	return fail_at(AT_KEY(AT_ITEM(at, later), key), expected, "the same as in %s[%u]", at->key,
		       earlier);
}

#define UNIQUE_CHECK(at, items, count, member, name)                          \
	unique_check(at, name, &(items)[0].member, count, sizeof((items)[0]), \
		     sizeof((items)[0].member))

/* The service at @at has the endpoint @vip and, below, the protocol @protocol. */
static int vip_convert(const struct place *at, const char *vip, const char *protocol,
		       struct ss_endpoint *out)
{
	static const char *const protocols[] = { "tcp", "udp" };
	unsigned udp = 0;
	int ret;

	ret = endpoint_convert(AT_KEY(at, "vip"), vip, out);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "protocol"), protocol, protocols, 2, &udp);
	if (udp)
		out->protocol = SS_UDP;
	return ret;
}

/* Where packets go that a balancer wraps in the other IP version. */
static int serve_address_convert(const struct place *at, const char *text, struct serve *out)
{
	if (!text)
		return 0;
	if (address_parse(text, &out->address) || !is_host_address(&out->address))
		return fail_at(at, NULL, "'%.64s' is not the address of a host", text);
	if (ss_addr_is_v4(&out->address) != ss_addr_is_v4(&out->vip.addr))
		return fail_at(at, NULL, "'%.64s' is not of the VIP's IP version", text);
	return 0;
}

/* Further ports on which servers of the service listen. */
static int also_convert(const struct place *at, const struct raw_list *raw, struct serve *out)
{
	if (raw->count && (out->vip.protocol || !ss_addr_is_v4(&out->vip.addr)))
		return fail_at(at, "it for TCP in IPv4 only", "further ports");
	for (unsigned i = 0; i < raw->count; i++) {
		unsigned port = 0;
		int ret = number_convert(AT_ITEM(at, i), raw->item[i], 1, 65535, &port);
		bool twice = port == out->listen;

		if (ret)
			return ret;
		for (unsigned earlier = 0; earlier < i; earlier++)
			twice |= port == out->also[earlier];
		if (twice)
			return fail_at(AT_ITEM(at, i), "another port", "%u a second time", port);
		out->also[i] = port;
	}
	return 0;
}

static int serve_convert(const struct place *at, const struct raw_serve *raw, struct serve *out)
{
	const struct place *listen_at = AT_KEY(at, "listen");
	unsigned listen;
	int ret;

	ret = vip_convert(at, raw->vip, raw->protocol, &out->vip);
	if (ret)
		return ret;
	listen = ntohs(out->vip.port);
	ret = number_convert(listen_at, raw->listen, 1, 65535, &listen);
	if (ret)
		return ret;
	out->listen = listen;
	ret = also_convert(AT_KEY(at, "listen_also"), &raw->listen_also, out);
	if (ret)
		return ret;
	out->strict = raw->replies && !strcmp(raw->replies, "strict");
	if (raw->replies && !out->strict && strcmp(raw->replies, "classic"))
		return fail_at(AT_KEY(at, "replies"), NULL, "unknown value '%.64s'", raw->replies);
	if (out->strict && out->vip.protocol)
		return fail_at(AT_KEY(at, "replies"), "classic",
			       "a UDP client knows no other address than the service's");
	return serve_address_convert(AT_KEY(at, "address"), raw->address, out);
}

/*
 * Requests and grants may name a TCP service by four bytes (sidestep/option.h): are they one service's only?
 * Of all pairs of services one in four thousand million has the same.
 */
static int tags_check(const struct place *at, const struct host_config *host)
{
	for (unsigned i = 0; i < host->serve_count; i++) {
		struct ss_tag tag = ss_tag_of(&host->serve[i].vip);

		for (unsigned k = 0; k < i && !host->serve[i].vip.protocol; k++)
			if (!host->serve[k].vip.protocol &&
			    ss_tag_of(&host->serve[k].vip).first == tag.first)
				return fail_at(
					AT_KEY(AT_ITEM(at, i), "vip"), "another port or address",
					"its short name on the wire is also that of serve[%u]", k);
	}
	return 0;
}

static int serves_convert(const struct place *at, const struct raw_host *raw,
			  struct host_config *host)
{
	int ret;

	if (!raw->serve_count)
		return 0;
	host->serve = calloc(raw->serve_count, sizeof(*host->serve));
	if (!host->serve)
		return fail_memory(at);
	host->serve_count = raw->serve_count;
	for (unsigned i = 0; i < raw->serve_count; i++) {
		ret = serve_convert(AT_ITEM(at, i), &raw->serve[i], &host->serve[i]);
		if (ret)
			return ret;
	}
	ret = UNIQUE_CHECK(at, host->serve, host->serve_count, vip, "vip");
	return ret ? ret : tags_check(at, host);
}

static int path_convert(const struct place *at, const char *text, char **out)
{
	if (!*text)
		return fail_at(at, NULL, "empty");
	*out = strdup(text);
	return *out ? 0 : fail_memory(at);
}

static int report_convert(const struct place *at, const struct raw_report *raw,
			  struct host_report_config *out)
{
	const struct place *list = AT_KEY(at, "balancers");
	int ret;

	out->interval = CONFIG_REPORT_MS_DEFAULT;
	if (!raw)
		return 0;
	if (!raw->balancers.count)
		return fail_at(list, NULL, "empty");
	out->balancers = calloc(raw->balancers.count, sizeof(*out->balancers));
	if (!out->balancers)
		return fail_memory(at);
	out->balancers_count = raw->balancers.count;
	for (unsigned i = 0; i < raw->balancers.count; i++) {
		ret = endpoint_convert(AT_ITEM(list, i), raw->balancers.item[i],
				       &out->balancers[i]);
		if (ret)
			return ret;
	}
	ret = path_convert(AT_KEY(at, "key"), raw->key, &out->key);
	if (ret)
		return ret;
	return number_convert(AT_KEY(at, "interval"), raw->interval, 10, 60000, &out->interval);
}

static int reports_convert(const struct place *at, const struct raw_reports *raw,
			   struct reports_config *out)
{
	unsigned port = 0;
	int ret;

	if (!raw)
		return 0;
	ret = number_convert(AT_KEY(at, "port"), raw->port, 1, 65535, &port);
	out->port = port;
	return ret ? ret : path_convert(AT_KEY(at, "key"), raw->key, &out->key);
}

static int syn_limit_convert(const struct place *at, const struct raw_syn_limit *raw,
			     struct syn_limit_config *out)
{
	int ret;

	if (!raw)
		return 0;
	out->prefix4 = CONFIG_SYN_PREFIX4_DEFAULT;
	out->prefix6 = CONFIG_SYN_PREFIX6_DEFAULT;
	ret = number_convert(AT_KEY(at, "rate"), raw->rate, 1, CONFIG_SYN_RATE_MAX, &out->rate);
	out->burst = out->rate;
	if (!ret)
		ret = number_convert(AT_KEY(at, "burst"), raw->burst, 1, CONFIG_SYN_RATE_MAX,
				     &out->burst);
	if (!ret)
		ret = number_convert(AT_KEY(at, "prefix4"), raw->prefix4, 1, 32, &out->prefix4);
	if (!ret)
		ret = number_convert(AT_KEY(at, "prefix6"), raw->prefix6, 1, 128, &out->prefix6);
	if (!ret && out->burst < out->rate / 100)
		return fail_at(AT_KEY(at, "burst"), "at least a hundredth of the rate",
			       "%u is less than what comes between two ticks of the clock",
			       out->burst);
	return ret;
}

static int host_convert(const struct place *at, const struct raw_host *raw,
			struct host_config *host)
{
	static const char *const attach[] = { "auto", "tcx", "clsact" };
	unsigned choice = TC_ATTACH_AUTO;
	int ret;

	ret = interfaces_convert(AT_KEY(at, "interfaces"), &raw->interfaces, &host->interfaces,
				 &host->interfaces_count);
	if (!ret)
		ret = prefixes_convert(AT_KEY(at, "trusted_balancers"), &raw->trusted_balancers,
				       &host->trusted_balancers, &host->trusted_balancers_count);
	if (!ret)
		ret = prefixes_convert(AT_KEY(at, "clients"), &raw->clients, &host->clients,
				       &host->clients_count);
	if (!ret)
		ret = prefixes_convert(AT_KEY(at, "backends"), &raw->backends, &host->backends,
				       &host->backends_count);
	if (!ret)
		ret = dials_convert(AT_KEY(at, "dial"), &raw->dial, host);
	if (!ret)
		ret = serves_convert(AT_KEY(at, "serve"), raw, host);
	if (!ret)
		ret = report_convert(AT_KEY(at, "report"), raw->report, &host->report);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "attach"), raw->attach, attach, 3, &choice);
	if (ret)
		return ret;
	host->attach = choice;
	if (!raw->cgroup)
		return 0;
	if (strlen(raw->cgroup) >= SS_PLACE_PATH)
		return fail_at(AT_KEY(at, "cgroup"), NULL, "more than %d bytes", SS_PLACE_PATH - 1);
	return path_convert(AT_KEY(at, "cgroup"), raw->cgroup, &host->cgroup);
}

const char *const config_schedulers[] = {
#define NAME(id, name, hashed, choose, fill) name,
	SS_SCHEDULERS(NAME)
#undef NAME
};

const char *const config_methods[] = {
#define NAME(id, name) name,
	SS_METHODS(NAME)
#undef NAME
};

const char *const config_states[] = {
	[SS_BACKEND_UP] = "up",
	[SS_BACKEND_DRAIN] = "drain",
	[SS_BACKEND_DOWN] = "down",
};

const char *const config_no_service[] = {
	[SS_NO_SERVICE_PASS] = "pass",
	[SS_NO_SERVICE_DROP] = "drop",
	[SS_NO_SERVICE_UNREACHABLE] = "unreachable",
};

/* The id of a backend of a service whose ids have @len bytes. */
static int quic_id_convert(const struct place *at, const char *text, unsigned len, uint8_t *out)
{
	if (!text && !len)
		return 0;
	if (!text)
		return fail_at(at, NULL, "missing");
	if (!len)
		return fail_at(at, "the service's key quic_id_length as well", "an id for no use");
	if (strlen(text) != 2 * len || hex_parse(text, out, len) != len)
		return fail_at(at, NULL, "'%.64s' is not an id of %u byte%s", text, len,
			       len == 1 ? "" : "s");
	return 0;
}

static bool service_wraps(const struct service_config *service)
{
	return service->method == SS_METHOD_IPIP || service->method == SS_METHOD_GUE;
}

bool service_tells_ports(const struct service_config *service)
{
	return !service_wraps(service);
}

const struct ss_addr *service_sent_to(const struct service_config *service)
{
	return service->backends_count ? &service->backends[0].address.addr : &service->vip.addr;
}

bool service_takes(const struct service_config *service, const struct ss_addr *backend)
{
	const struct ss_addr *like = &service->vip.addr;

	if (service_wraps(service) && !service->backends_count)
		return true;
	if (service_wraps(service))
		like = &service->backends[0].address.addr;
	return ss_addr_is_v4(backend) == ss_addr_is_v4(like);
}

static int backend_convert(const struct place *at, const struct raw_backend *raw,
			   const struct service_config *service, struct backend_config *out)
{
	const struct place *address = AT_KEY(at, "address");
	unsigned state = SS_BACKEND_UP;
	int ret;

	out->weight = CONFIG_WEIGHT_DEFAULT;
	ret = name_convert(AT_KEY(at, "name"), raw->name, out->name);
	if (!ret)
		ret = endpoint_convert(address, raw->address, &out->address);
	if (!ret)
		ret = number_convert(AT_KEY(at, "weight"), raw->weight, 0, CONFIG_WEIGHT_MAX,
				     &out->weight);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "state"), raw->state, config_states, CONFIG_STATES,
				     &state);
	if (!ret)
		ret = quic_id_convert(AT_KEY(at, "quic_id"), raw->quic_id, service->quic_id_len,
				      out->quic_id);
	if (ret)
		return ret;
	out->state = state;
	if (!service_takes(service, &out->address.addr))
		return fail_at(address,
			       service_wraps(service) ? "one IP version for all backends"
						      : "the service's IP version, or "
							"method: ipip or gue",
			       "an %s backend",
			       ss_addr_is_v4(&out->address.addr) ? "IPv4" : "IPv6");
	return 0;
}

/* Two backends at one address: what is wrapped says no port, and would all get to one of them. */
static int ports_check(const struct place *at, const struct service_config *service)
{
	unsigned earlier, later;
	int ret;

	if (service_tells_ports(service) || !service->backends_count)
		return 0;
	ret = duplicate_find(&service->backends[0].address.addr, service->backends_count,
			     sizeof(service->backends[0]), sizeof(struct ss_addr), &earlier,
			     &later);
	if (ret < 0)
		return fail_memory(at);
	return ret ? fail_at(AT_KEY(AT_ITEM(at, later), "address"),
			     "another address, or the service's method: rewrite or nat",
			     "only the port differs from backends[%u], which method %s does not "
			     "tell",
			     earlier, config_methods[service->method])
		   : 0;
}

static int backends_convert(const struct place *at, const struct raw_service *raw,
			    struct service_config *out)
{
	int ret;

	if (!raw->backends_count)
		return 0;
	out->backends = calloc(raw->backends_count, sizeof(*out->backends));
	if (!out->backends)
		return fail_memory(at);
	out->backends_count = raw->backends_count;
	for (unsigned i = 0; i < raw->backends_count; i++) {
		ret = backend_convert(AT_ITEM(at, i), &raw->backends[i], out, &out->backends[i]);
		if (ret)
			return ret;
	}
	ret = UNIQUE_CHECK(at, out->backends, out->backends_count, name, "name");
	if (!ret)
		ret = UNIQUE_CHECK(at, out->backends, out->backends_count, address, "address");
	if (!ret)
		ret = ports_check(at, out);
	if (!ret && out->quic_id_len)
		ret = UNIQUE_CHECK(at, out->backends, out->backends_count, quic_id, "quic_id");
	return ret;
}

/* What @service, of UDP, cannot have. */
static int udp_check(const struct place *at, const struct service_config *service)
{
	enum ss_scheduler scheduler = service->scheduler;

	if (service->method != SS_METHOD_IPIP && service->method != SS_METHOD_GUE)
		return fail_at(AT_KEY(at, "method"), "ipip or gue", "no method for UDP");
	if (scheduler == SS_SCHED_LEAST_CONNECTIONS || scheduler == SS_SCHED_POWER_OF_TWO)
		return fail_at(AT_KEY(at, "scheduler"),
			       "maglev, source-hash, round-robin or random",
			       "servers do not report the load of UDP services");
	if (!service->flow_table && !ss_scheduler_is_hash(scheduler))
		return fail_at(AT_KEY(at, "flow_table"),
			       "yes, or a scheduler that finds a flow's server by a hash",
			       "each packet would go to another server");
	return 0;
}

static int suspect_convert(const struct place *at, const struct raw_suspect *raw,
			   struct suspect_config *out)
{
	int ret;

	if (!raw)
		return 0;
	out->share = CONFIG_SUSPECT_SHARE_DEFAULT;
	out->hold = CONFIG_SUSPECT_HOLD_DEFAULT;
	ret = number_convert(AT_KEY(at, "unanswered"), raw->unanswered, 1, 65535, &out->count);
	if (!ret)
		ret = number_convert(AT_KEY(at, "share"), raw->share, 1, 100, &out->share);
	return ret ? ret : number_convert(AT_KEY(at, "hold"), raw->hold, 2, 3600, &out->hold);
}

/* What sends SYNs elsewhere than the scheduler would. */
static int diverting_convert(const struct place *at, const struct raw_service *raw,
			     struct service_config *out)
{
	const struct place *suspect = AT_KEY(at, "suspect");
	int ret = suspect_convert(suspect, raw->suspect, &out->suspect);

	if (!ret)
		ret = number_convert(AT_KEY(at, "slow_start"), raw->slow_start, 0, 3600,
				     &out->slow_start);
	if (ret)
		return ret;
	if (out->vip.protocol && (out->suspect.count || out->slow_start))
		return fail_at(AT_KEY(at, "protocol"), "tcp", "suspect and slow_start go by SYNs");
	if (!out->flow_table && (out->suspect.count || out->slow_start))
		return fail_at(AT_KEY(at, "flow_table"), "yes",
			       "a SYN that does not go where its hash says has to be remembered");
	if (out->suspect.count && out->scheduler == SS_SCHED_ROUND_ROBIN)
		return fail_at(suspect, "another scheduler than round-robin",
			       "who got a SYN first is not known");
	return 0;
}

/* How packets are answered that are not sent on. */
static int answers_convert(const struct place *at, const struct raw_service *raw,
			   struct service_config *out)
{
	static const char *const answers[] = { "drop", "reset", "unreachable" };
	static const char *const unknown[] = { "drop", "reset" };
	unsigned answer = out->vip.protocol ? SS_ANSWER_UNREACHABLE : SS_ANSWER_RESET, reset = 0;
	int ret = choice_convert(AT_KEY(at, "no_backend"), raw->no_backend, answers, 3, &answer);

	if (!ret)
		ret = choice_convert(AT_KEY(at, "unknown"), raw->unknown, unknown, 2, &reset);
	if (ret)
		return ret;
	if (out->vip.protocol && answer == SS_ANSWER_RESET)
		return fail_at(AT_KEY(at, "no_backend"), "drop or unreachable", "UDP knows no RST");
	if (out->vip.protocol && reset)
		return fail_at(AT_KEY(at, "unknown"), "drop", "UDP knows no RST");
	if (reset && out->method != SS_METHOD_NAT && ss_scheduler_is_hash(out->scheduler))
		return fail_at(AT_KEY(at, "unknown"), "drop, method: nat, or another scheduler",
			       "a hash knows every connection's server");
	out->no_backend = answer;
	out->unknown_reset = reset;
	return 0;
}

static int service_convert(const struct place *at, const struct raw_service *raw,
			   struct service_config *out)
{
	static const char *const yes_no[] = { "yes", "no" };
	static const char *const slots_text[] = { "8191", "65537" };
	static const uint32_t slots_number[] = { SS_LB_SMALL_SLOTS, SS_LB_LARGE_SLOTS, 0 };
	unsigned scheduler = SS_SCHED_MAGLEV, method = SS_METHOD_IPIP, without = 0, closed = 1;
	unsigned slots = 2;
	int ret;

	ret = name_convert(AT_KEY(at, "name"), raw->name, out->name);
	if (!ret)
		ret = vip_convert(at, raw->vip, raw->protocol, &out->vip);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "scheduler"), raw->scheduler, config_schedulers,
				     SS_SCHED_MAX, &scheduler);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "method"), raw->method, config_methods,
				     SS_METHOD_MAX, &method);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "flow_table"), raw->flow_table, yes_no, 2,
				     &without);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "slots"), raw->slots, slots_text, 2, &slots);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "fail_open"), raw->fail_open, yes_no, 2, &closed);
	if (!ret)
		ret = number_convert(AT_KEY(at, "quic_id_length"), raw->quic_id_length, 1,
				     SS_LB_QUIC_ID, &out->quic_id_len);
	if (ret)
		return ret;
	out->scheduler = scheduler;
	out->method = method;
	out->flow_table = !without;
	out->slots = slots_number[slots];
	out->fail_open = !closed;
	if (out->slots == SS_LB_SMALL_SLOTS && raw->backends_count > SS_LB_SMALL_BACKENDS)
		return fail_at(AT_KEY(at, "slots"), "65537", "a table for at most %u backends",
			       SS_LB_SMALL_BACKENDS);
	if (out->vip.protocol && udp_check(at, out))
		return -EINVAL;
	if (!out->vip.protocol && out->quic_id_len)
		return fail_at(AT_KEY(at, "quic_id_length"), "protocol: udp as well",
			       "QUIC by TCP");
	if (without && method == SS_METHOD_NAT)
		return fail_at(AT_KEY(at, "flow_table"), "yes",
			       "address translation without a table");
	if (without && method != SS_METHOD_REWRITE && !ss_scheduler_is_hash(scheduler))
		return fail_at(AT_KEY(at, "flow_table"),
			       "yes, or a scheduler that finds a connection's server by a hash",
			       "packets behind a SYN would not be forwarded");
	ret = answers_convert(at, raw, out);
	if (!ret)
		ret = diverting_convert(at, raw, out);
	return ret ? ret : backends_convert(AT_KEY(at, "backends"), raw, out);
}

/* The addresses that outer headers come from: at most one for each IP version. */
static int sources_convert(const struct place *at, const struct raw_list *raw,
			   struct balancer_config *balancer)
{
	struct ss_addr source[2] = {}, addr;

	for (unsigned i = 0; i < raw->count; i++) {
		bool v6;

		if (address_parse(raw->item[i], &addr) || !is_host_address(&addr))
			return fail_at(AT_ITEM(at, i), NULL, "'%.64s' is not the address of a host",
				       raw->item[i]);
		v6 = !ss_addr_is_v4(&addr);
		if (ss_addr_is_set(&source[v6]))
			return fail_at(AT_ITEM(at, i), NULL, "a second %s address",
				       v6 ? "IPv6" : "IPv4");
		source[v6] = addr;
	}
	for (unsigned i = 0; i < balancer->services_count; i++) {
		struct service_config *service = &balancer->services[i];

		memcpy(service->source, source, sizeof(source));
	}
	return 0;
}

static int services_convert(const struct place *at, const struct raw_config *raw,
			    struct balancer_config *balancer)
{
	unsigned backends = 0;
	int ret;

	if (!raw->services_count)
		return 0;
	balancer->services = calloc(raw->services_count, sizeof(*balancer->services));
	if (!balancer->services)
		return fail_memory(at);
	balancer->services_count = raw->services_count;
	for (unsigned i = 0; i < raw->services_count; i++) {
		const struct place *item = AT_ITEM(at, i);

		backends += raw->services[i].backends_count;
		if (backends > SS_LB_BACKENDS)
			return fail_at(AT_KEY(item, "backends"), NULL,
				       "more than %u backends in all services", SS_LB_BACKENDS);
		ret = service_convert(item, &raw->services[i], &balancer->services[i]);
		if (ret)
			return ret;
	}
	ret = UNIQUE_CHECK(at, balancer->services, balancer->services_count, name, "name");
	if (!ret)
		ret = UNIQUE_CHECK(at, balancer->services, balancer->services_count, vip, "vip");
	return ret;
}

static int balancer_convert(const struct place *at, const struct raw_balancer *raw,
			    struct balancer_config *balancer)
{
	static const char *const fragments[] = { "drop", "pass" };
	static const char *const modes[] = { "auto", "native", "generic" };
	unsigned pass = 0, mode = XDP_AUTO, no_service = SS_NO_SERVICE_DROP;
	int ret;

	ret = interfaces_convert(AT_KEY(at, "interfaces"), &raw->interfaces, &balancer->interfaces,
				 &balancer->interfaces_count);
	if (!ret)
		ret = reports_convert(AT_KEY(at, "reports"), raw->reports, &balancer->reports);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "fragments"), raw->fragments, fragments, 2, &pass);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "xdp_mode"), raw->xdp_mode, modes, 3, &mode);
	if (!ret)
		ret = choice_convert(AT_KEY(at, "no_service"), raw->no_service, config_no_service,
				     CONFIG_NO_SERVICE, &no_service);
	balancer->xdp_mode = mode;
	balancer->pass_fragments = pass;
	balancer->no_service = no_service;
	return ret;
}

static int config_convert(const struct place *at, const struct raw_config *raw, struct config *c)
{
	int ret = 0;

	if (!raw || (!raw->host && !raw->balancer && !raw->services_count))
		return fail_at(at, NULL, "nothing configured");
	if (raw->services_count && !raw->balancer)
		return fail_at(AT_KEY(at, "services"), "the key balancer as well",
			       "services without a balancer");
	if (raw->host) {
		c->host = calloc(1, sizeof(*c->host));
		ret = c->host ? host_convert(AT_KEY(at, "host"), raw->host, c->host)
			      : fail_memory(at);
	}
	if (ret || !raw->balancer)
		return ret;
	c->balancer = calloc(1, sizeof(*c->balancer));
	if (!c->balancer)
		return fail_memory(at);
	ret = balancer_convert(AT_KEY(at, "balancer"), raw->balancer, c->balancer);
	if (!ret)
		ret = syn_limit_convert(AT_KEY(AT_KEY(at, "balancer"), "syn_limit"),
					raw->balancer->syn_limit, &c->balancer->syn_limit);
	if (!ret)
		ret = services_convert(AT_KEY(at, "services"), raw, c->balancer);
	return ret ? ret
		   : sources_convert(AT_KEY(AT_KEY(at, "balancer"), "source"),
				     &raw->balancer->source, c->balancer);
}

int config_parse(const char *name, const char *text, size_t len, struct config **out,
		 struct error *err)
{
	struct source src = { .name = name, .err = err };
	const struct place all = { .src = &src };
	struct raw_config *raw = NULL;
	struct config *c;
	int ret;

	ret = yaml_line_load(&src.doc, name, text, len, err);
	if (ret)
		return ret;
	c = calloc(1, sizeof(*c));
	ret = c ? config_raw_load(&src, text, len, &raw) : fail_memory(&all);
	if (!ret)
		ret = config_convert(&all, raw, c);
	config_raw_free(raw);
	yaml_document_delete(&src.doc);
	if (ret)
		config_free(c);
	else
		*out = c;
	return ret;
}

/* Reads all of @file into *@text, to be freed. Returns 0 or a negative errno. */
static int file_read(FILE *file, char **text, size_t *len)
{
	size_t size = 0;
	char *grown;

	do {
		if (*len == size) {
			size = size ? 2 * size : 1 << 16;
			grown = size <= FILE_MAX ? realloc(*text, size) : NULL;
			if (!grown)
				return size <= FILE_MAX ? -ENOMEM : -EFBIG;
			*text = grown;
		}
		*len += fread(*text + *len, 1, size - *len, file);
	} while (!feof(file) && !ferror(file));
	return ferror(file) ? -(errno ? errno : EIO) : 0;
}

int config_load(const char *path, struct config **out, struct error *err)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t len = 0;
	int ret;

	if (!file)
		return error_set(err, -errno, "%s: cannot open: %s", path, strerror(errno));
	ret = file_read(file, &text, &len);
	(void)fclose(file);
	if (ret)
		error_set(err, ret, "%s: cannot read: %s", path, strerror(-ret));
	else
		ret = config_parse(path, text, len, out, err);
	free(text);
	return ret;
}

static void interfaces_free(char **interfaces, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		free(interfaces[i]);
	free(interfaces);
}

static void host_free(struct host_config *host)
{
	if (!host)
		return;
	interfaces_free(host->interfaces, host->interfaces_count);
	free(host->trusted_balancers);
	free(host->clients);
	free(host->backends);
	free(host->dial);
	free(host->serve);
	free(host->report.balancers);
	free(host->report.key);
	free(host->cgroup);
	free(host);
}

static void balancer_free(struct balancer_config *balancer)
{
	if (!balancer)
		return;
	interfaces_free(balancer->interfaces, balancer->interfaces_count);
	for (unsigned i = 0; i < balancer->services_count; i++)
		free(balancer->services[i].backends);
	free(balancer->services);
	free(balancer->reports.key);
	free(balancer);
}

void config_free(struct config *c)
{
	if (!c)
		return;
	host_free(c->host);
	balancer_free(c->balancer);
	free(c);
}
