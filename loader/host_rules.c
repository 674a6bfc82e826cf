// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "host_rules.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include <sidestep/host.h>
#include <sidestep/option.h>

#include "interfaces.h"

/*
 * The next map to be changed: the pinned one called @name, with room for @n keys of @key_size and
 * values of @value_size bytes, all zeroes. NULL with @err set.
 */
static struct map_change *rule_add(struct host_rules *rules, const struct pins *pins,
				   const char *name, size_t key_size, size_t value_size, size_t n,
				   struct error *err)
{
	struct map_change *c = &rules->change[rules->n++];

	assert(rules->n <= HOST_RULES_MAPS);
	*c = (struct map_change){
		.fd = pins_get(pins, name),
		.key_size = key_size,
		.value_size = value_size,
		.keys = calloc(n + 1, key_size),
		.values = calloc(n + 1, value_size),
		.n = n,
	};
	if (c->fd < 0)
		error_set(err, c->fd, "cannot open %s/%s: %s", pins->dir, name, strerror(-c->fd));
	else if (!c->keys || !c->values)
		error_set(err, -ENOMEM, "out of memory");
	else
		return c;
	return NULL;
}

static int prefixes_add(struct host_rules *rules, const struct pins *pins, const char *name,
			const struct ss_prefix *prefixes, unsigned n, struct error *err)
{
	struct map_change *c =
		rule_add(rules, pins, name, sizeof(*prefixes), sizeof(__u32), n, err);

	if (!c)
		return -EIO;
	if (n)
		memcpy(c->keys, prefixes, n * sizeof(*prefixes));
	return 0;
}

static int dial_add(struct host_rules *rules, const struct pins *pins,
		    const struct host_config *config, struct error *err)
{
	struct map_change *c = rule_add(rules, pins, "dial", sizeof(struct ss_prefix),
					sizeof(__u32), config->dial_count, err);

	if (!c)
		return -EIO;
	for (unsigned i = 0; i < config->dial_count; i++)
		((struct ss_prefix *)c->keys)[i] = config->dial[i].prefix;
	return 0;
}

/* The ports, in host byte order, that servers of @serve listen on, into @ports. Returns how many. */
static unsigned serve_ports(const struct serve *serve, uint16_t ports[1 + SS_SERVE_ALSO])
{
	unsigned n = 0;

	ports[n++] = serve->listen;
	for (unsigned i = 0; i < SS_SERVE_ALSO; i++)
		if (serve->also[i])
			ports[n++] = serve->also[i];
	return n;
}

static bool serve_listens(const struct serve *serve, uint16_t port)
{
	uint16_t ports[1 + SS_SERVE_ALSO];
	unsigned n = serve_ports(serve, ports);

	for (unsigned i = 0; i < n; i++)
		if (ports[i] == port)
			return true;
	return false;
}

/* Does @at, a VIP and a port that is listened on, mean @serve and no other service? */
static bool serve_is_only(const struct host_config *config, const struct serve *serve,
			  const struct ss_endpoint *at)
{
	for (unsigned i = 0; i < config->serve_count; i++) {
		const struct serve *other = &config->serve[i];

		if (other != serve && !other->vip.protocol &&
		    ss_addr_equal(&other->vip.addr, &at->addr) &&
		    (other->vip.port == at->port || serve_listens(other, SS_BE16(at->port))))
			return false;
	}
	return true;
}

static int serve_ports_add(struct host_rules *rules, const struct pins *pins,
			   const struct host_config *config, struct error *err)
{
	struct map_change *c =
		rule_add(rules, pins, "serve_ports", sizeof(struct ss_endpoint), sizeof(__u32),
			 config->serve_count * (1 + SS_SERVE_ALSO), err);
	unsigned n = 0;

	if (!c)
		return -EIO;
	for (unsigned i = 0; i < config->serve_count; i++) {
		const struct serve *serve = &config->serve[i];
		uint16_t ports[1 + SS_SERVE_ALSO];
		unsigned count = serve->vip.protocol ? 0 : serve_ports(serve, ports);

		for (unsigned k = 0; k < count; k++) {
			struct ss_endpoint *at = &((struct ss_endpoint *)c->keys)[n];

			*at = serve->vip;
			at->port = SS_BE16(ports[k]);
			((__u32 *)c->values)[n] =
				serve_is_only(config, serve, at) ? serve->vip.port : 0;
			n += at->port != serve->vip.port;
		}
	}
	c->n = n;
	return 0;
}

static int serve_tags_add(struct host_rules *rules, const struct pins *pins,
			  const struct host_config *config, struct error *err)
{
	struct map_change *c = rule_add(rules, pins, "serve_tags", sizeof(__be32),
					sizeof(struct ss_endpoint), config->serve_count, err);
	unsigned n = 0;

	if (!c)
		return -EIO;
	for (unsigned i = 0; i < config->serve_count; i++) {
		const struct ss_endpoint *vip = &config->serve[i].vip;

		if (vip->protocol)
			continue;
		((__be32 *)c->keys)[n] = ss_tag_of(vip).first;
		((struct ss_endpoint *)c->values)[n++] = *vip;
	}
	c->n = n;
	return 0;
}

static int listen_ports_add(struct host_rules *rules, const struct pins *pins,
			    const struct host_config *config, struct error *err)
{
	struct map_change *c = rule_add(rules, pins, "listen_ports", sizeof(__u32), sizeof(__u32),
					config->serve_count * (1 + SS_SERVE_ALSO), err);
	unsigned n = 0;

	if (!c)
		return -EIO;
	for (unsigned i = 0; i < config->serve_count; i++) {
		uint16_t ports[1 + SS_SERVE_ALSO];
		unsigned count = serve_ports(&config->serve[i], ports);

		for (unsigned k = 0; k < count && !config->serve[i].vip.protocol; k++)
			((__u32 *)c->keys)[n++] = ports[k];
	}
	c->n = n;
	return 0;
}

static int serve_add(struct host_rules *rules, const struct pins *pins,
		     const struct host_config *config, struct error *err)
{
	struct map_change *c = rule_add(rules, pins, "serve", sizeof(struct ss_endpoint),
					sizeof(struct ss_serve), config->serve_count, err);

	if (!c)
		return -EIO;
	for (unsigned i = 0; i < config->serve_count; i++) {
		const struct serve *serve = &config->serve[i];

		((struct ss_endpoint *)c->keys)[i] = serve->vip;
		((struct ss_serve *)c->values)[i] = (struct ss_serve){
			.listen = SS_BE16(serve->listen),
			.also = { SS_BE16(serve->also[0]), SS_BE16(serve->also[1]),
				  SS_BE16(serve->also[2]) },
			.strict = serve->strict,
			.address = serve->address,
		};
	}
	return 0;
}

static int place_add(struct host_rules *rules, const struct pins *pins, const char *cgroup,
		     struct error *err)
{
	struct map_change *c =
		rule_add(rules, pins, "place", sizeof(__u32), sizeof(struct ss_place), 1, err);

	if (!c)
		return -EIO;
	snprintf(((struct ss_place *)c->values)->cgroup, SS_PLACE_PATH, "%s", cgroup);
	return 0;
}

int host_rules_write(struct host_rules *out, const struct pins *pins,
		     const struct host_config *config, const char *cgroup, const int *ifindex,
		     struct error *err)
{
	size_t failed;
	int ret;

	ret = prefixes_add(out, pins, "backends", config->backends, config->backends_count, err);
	if (!ret)
		ret = prefixes_add(out, pins, "trusted", config->trusted_balancers,
				   config->trusted_balancers_count, err);
	if (!ret)
		ret = prefixes_add(out, pins, "clients", config->clients, config->clients_count,
				   err);
	if (!ret)
		ret = serve_add(out, pins, config, err);
	if (!ret)
		ret = serve_ports_add(out, pins, config, err);
	if (!ret)
		ret = serve_tags_add(out, pins, config, err);
	if (!ret)
		ret = listen_ports_add(out, pins, config, err);
	if (!ret)
		ret = dial_add(out, pins, config, err);
	if (!ret)
		ret = interfaces_change(&out->change[out->n++], pins, config->interfaces, ifindex,
					config->interfaces_count, err);
	if (!ret)
		ret = place_add(out, pins, cgroup, err);
	if (ret)
		return ret;
	ret = map_changes_write(out->change, out->n, &failed);
	if (!ret)
		return 0;
	return error_set(err, ret,
			 "cannot change the rules in %s: %s; those that were in force still are",
			 pins->dir, strerror(-ret));
}

void host_rules_undo(struct host_rules *rules)
{
	map_changes_undo(rules->change, rules->n);
}

void host_rules_done(struct host_rules *rules)
{
	map_changes_done(rules->change, rules->n);
	rules->n = 0;
}

void host_rules_clear(const struct pins *pins)
{
	static const char *const names[] = { "dial",	     "serve",	   "serve_ports",
					     "listen_ports", "backends",   "trusted",
					     "interfaces",   "serve_tags", "clients" };
	char key[256]; /* more than any version's */

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		int fd = pins_get(pins, names[i]);

		if (fd < 0)
			continue;
		while (!bpf_map_get_next_key(fd, NULL, key))
			if (bpf_map_delete_elem(fd, key))
				break;
		close(fd);
	}
}
