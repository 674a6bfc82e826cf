// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The configuration file: what every key becomes, and the one line for every mistake in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "address.h"
#include "config.h"

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* Parses @text, which must be fine. */
static struct config *good(const char *text)
{
	struct config *c = NULL;
	struct error err = { "" };

	if (config_parse("f", text, strlen(text), &c, &err))
		fail_msg("%s", err.text);
	assert_non_null(c);
	return c;
}

static void prefix_is(const struct ss_prefix *prefix, const char *text)
{
	char buf[ADDRESS_TEXT_LEN];

	assert_string_equal(prefix_format(prefix, buf), text);
}

static void endpoint_is(const struct ss_endpoint *endpoint, const char *text)
{
	char buf[ADDRESS_TEXT_LEN];

	assert_string_equal(endpoint_format(endpoint, buf), text);
}

static void address_is(const struct ss_addr *address, const char *text)
{
	char buf[ADDRESS_TEXT_LEN];

	assert_string_equal(address_format(address, buf), text);
}

static void host_of_the_manual(void **state)
{
	struct config *c = good("# clients and servers\n"
				"host:\n"
				"  interfaces: [eth0, eth1]\n"
				"  trusted_balancers: [10.0.2.0/24]          # only these\n"
				"  backends: [10.0.0.0/16, \"fd00:1::/64\"]\n"
				"  dial: [10.99.0.0/24, \"[fd00:99::1]:443\", \"10.98.0.1:80\"]\n"
				"  serve:\n"
				"    - {vip: \"10.99.0.1:80\", listen: 8080, replies: classic}\n"
				"    - {vip: \"[fd00:99::1]:443\", address: \"fd00:1::2\"}\n"
				"  attach: clsact\n"
				"  cgroup: /sys/fs/cgroup/apps\n");
	const struct host_config *host = c->host;

	(void)state;
	assert_null(c->balancer);
	assert_int_equal(host->interfaces_count, 2);
	assert_string_equal(host->interfaces[0], "eth0");
	assert_string_equal(host->interfaces[1], "eth1");
	assert_int_equal(host->trusted_balancers_count, 1);
	prefix_is(&host->trusted_balancers[0], "10.0.2.0/24");
	assert_int_equal(host->backends_count, 2);
	prefix_is(&host->backends[0], "10.0.0.0/16");
	assert_int_equal(host->backends[0].prefixlen, 32 + 96 + 16);
	prefix_is(&host->backends[1], "fd00:1::/64");
	assert_int_equal(host->backends[1].prefixlen, 32 + 64);
	assert_int_equal(host->dial_count, 3);
	prefix_is(&host->dial[0].prefix, "10.99.0.0/24");
	assert_int_equal(host->dial[0].prefix.prefixlen, 32 + 96 + 24);
	assert_int_equal(host->dial[0].prefix.port, 0);
	prefix_is(&host->dial[1].prefix, "[fd00:99::1]:443");
	assert_int_equal(host->dial[1].prefix.prefixlen, 32 + 128);
	assert_int_equal(host->dial[1].prefix.port, SS_BE16(443));
	assert_int_equal(host->dial[1].prefix.pad, 0);
	prefix_is(&host->dial[2].prefix, "10.98.0.1:80");
	assert_int_equal(host->dial[2].prefix.prefixlen, 32 + 128);
	assert_int_equal(host->serve_count, 2);
	endpoint_is(&host->serve[0].vip, "10.99.0.1:80");
	assert_int_equal(host->serve[0].listen, 8080);
	assert_false(host->serve[0].strict);
	endpoint_is(&host->serve[1].vip, "[fd00:99::1]:443");
	assert_int_equal(host->serve[1].listen, 443);
	assert_true(ss_addr_equal(&host->serve[0].address, &(struct ss_addr){}));
	address_is(&host->serve[1].address, "fd00:1::2");
	assert_int_equal(host->attach, TC_ATTACH_CLSACT);
	assert_string_equal(host->cgroup, "/sys/fs/cgroup/apps");
	config_free(c);
}

static void reports_of_the_manual(void **state)
{
	struct config *c = good("host:\n"
				"  interfaces: [eth0]\n"
				"  report:\n"
				"    balancers: [\"10.0.2.2:7946\", \"[fd00:2::2]:7946\"]\n"
				"    key: /etc/sidestep/report.key\n"
				"    interval: 250\n"
				"balancer:\n"
				"  interfaces: [eth0]\n"
				"  reports: {port: 7946, key: /etc/sidestep/report.key}\n");

	(void)state;
	assert_false(c->balancer->pass_fragments);
	assert_int_equal(c->host->report.balancers_count, 2);
	endpoint_is(&c->host->report.balancers[0], "10.0.2.2:7946");
	endpoint_is(&c->host->report.balancers[1], "[fd00:2::2]:7946");
	assert_string_equal(c->host->report.key, "/etc/sidestep/report.key");
	assert_int_equal(c->host->report.interval, 250);
	assert_int_equal(c->balancer->reports.port, 7946);
	assert_string_equal(c->balancer->reports.key, "/etc/sidestep/report.key");
	config_free(c);
	c = good("host: {interfaces: [eth0], report: {balancers: [\"10.0.2.2:1\"], key: k}}\n");
	assert_int_equal(c->host->report.interval, 1000);
	config_free(c);
}

static void syn_limits(void **state)
{
	struct config *c = good("balancer:\n"
				"  interfaces: [eth0]\n"
				"  syn_limit: {rate: 1000, burst: 10, prefix4: 32, prefix6: 64}\n");

	(void)state;
	assert_int_equal(c->balancer->syn_limit.rate, 1000);
	assert_int_equal(c->balancer->syn_limit.burst, 10);
	assert_int_equal(c->balancer->syn_limit.prefix4, 32);
	assert_int_equal(c->balancer->syn_limit.prefix6, 64);
	config_free(c);
	c = good("balancer: {interfaces: [eth0], syn_limit: {rate: 7}}\n");
	assert_int_equal(c->balancer->syn_limit.rate, 7);
	assert_int_equal(c->balancer->syn_limit.burst, 7);
	assert_int_equal(c->balancer->syn_limit.prefix4, 24);
	assert_int_equal(c->balancer->syn_limit.prefix6, 56);
	config_free(c);
	c = good("balancer: {interfaces: [eth0]}\n");
	assert_int_equal(c->balancer->syn_limit.rate, 0);
	config_free(c);
}

/* Methods that say which port a packet is for. */
static void two_ports_of_one_server(void **state)
{
	static const char *const methods[] = { "rewrite", "nat" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		char text[256];
		struct config *c;

		snprintf(text, sizeof(text),
			 "balancer: {interfaces: [eth0]}\n"
			 "services:\n  - name: a\n    vip: 10.99.0.1:1\n    method: %s\n    "
			 "backends:\n"
			 "    - {name: a, address: 10.0.0.3:1}\n    - {name: b, address: "
			 "10.0.0.3:2}\n",
			 methods[i]);
		c = good(text);
		assert_int_equal(c->balancer->services[0].backends_count, 2);
		config_free(c);
	}
}

static void further_ports(void **state)
{
	struct config *c =
		good("host:\n  interfaces: [eth0]\n  serve:\n"
		     "    - {vip: \"10.99.0.1:80\", listen: 8080, listen_also: [8081, 80]}\n"
		     "    - {vip: \"10.99.0.1:81\"}\n");

	(void)state;
	assert_int_equal(c->host->serve[0].listen, 8080);
	assert_int_equal(c->host->serve[0].also[0], 8081);
	assert_int_equal(c->host->serve[0].also[1], 80);
	assert_int_equal(c->host->serve[0].also[2], 0);
	assert_int_equal(c->host->serve[1].also[0], 0);
	config_free(c);
}

static void suspects_and_slow_start(void **state)
{
	struct config *c = good("balancer: {interfaces: [eth0]}\n"
				"services:\n"
				"  - name: a\n"
				"    vip: 10.99.0.1:1\n"
				"    suspect: {unanswered: 7, share: 80, hold: 60}\n"
				"    slow_start: 30\n"
				"  - {name: b, vip: \"10.99.0.1:2\", suspect: {unanswered: 1}}\n"
				"  - {name: c, vip: \"10.99.0.1:3\"}\n");
	const struct service_config *s = c->balancer->services;

	(void)state;
	assert_int_equal(s[0].suspect.count, 7);
	assert_int_equal(s[0].suspect.share, 80);
	assert_int_equal(s[0].suspect.hold, 60);
	assert_int_equal(s[0].slow_start, 30);
	assert_int_equal(s[1].suspect.count, 1);
	assert_int_equal(s[1].suspect.share, 50);
	assert_int_equal(s[1].suspect.hold, 10);
	assert_int_equal(s[2].suspect.count, 0);
	assert_int_equal(s[2].slow_start, 0);
	config_free(c);
}

static void every_scheduler(void **state)
{
	static const char *const names[] = { "maglev",	    "round-robin",	 "random",
					     "source-hash", "least-connections", "power-of-two" };
	char text[256];

	(void)state;
	assert_int_equal(sizeof(names) / sizeof(*names), SS_SCHED_MAX);
	for (unsigned i = 0; i < SS_SCHED_MAX; i++) {
		struct config *c;

		snprintf(text, sizeof(text),
			 "balancer: {interfaces: [eth0]}\n"
			 "services: [{name: a, vip: \"10.99.0.1:1\", scheduler: %s}]\n",
			 names[i]);
		c = good(text);
		assert_int_equal(c->balancer->services[0].scheduler, i);
		config_free(c);
	}
}

static void balancer_of_the_manual(void **state)
{
	struct config *c = good("balancer:\n"
				"  interfaces: [eth0]\n"
				"  source: [10.0.2.2]\n"
				"  fragments: pass\n"
				"  no_service: unreachable\n"
				"services:\n"
				"  - name: web\n"
				"    vip: 10.99.0.1:80\n"
				"    scheduler: round-robin\n"
				"    method: ipip\n"
				"    unknown: reset\n"
				"    backends:\n"
				"      - {name: s1, address: \"10.0.3.2:8080\", weight: 7}\n"
				"      - {name: s2, address: 10.0.3.3:80, state: drain}\n"
				"      - {name: s3, address: 10.0.3.4:80, state: down, weight: 0}\n"
				"      - {name: s4, address: 10.0.3.5:80, weight: 65535}\n"
				"  - name: web6\n"
				"    vip: \"[fd00:99::1]:80\"\n"
				"    method: gue\n"
				"    flow_table: no\n"
				"    slots: 65537\n"
				"    fail_open: yes\n"
				"    no_backend: drop\n"
				"    backends: [{name: s1, address: \"[fd00:1::2]:80\"}]\n"
				"  - {name: none, vip: 10.99.0.1:81, scheduler: maglev}\n");
	const struct service_config *web, *web6, *none;

	(void)state;
	assert_null(c->host);
	assert_int_equal(c->balancer->interfaces_count, 1);
	assert_string_equal(c->balancer->interfaces[0], "eth0");
	assert_int_equal(c->balancer->services_count, 3);
	assert_true(c->balancer->pass_fragments);
	assert_int_equal(c->balancer->no_service, SS_NO_SERVICE_UNREACHABLE);
	web = &c->balancer->services[0];
	assert_string_equal(web->name, "web");
	endpoint_is(&web->vip, "10.99.0.1:80");
	assert_int_equal(web->scheduler, SS_SCHED_ROUND_ROBIN);
	assert_int_equal(web->method, SS_METHOD_IPIP);
	assert_true(web->flow_table);
	assert_int_equal(web->slots, 0);
	assert_false(web->fail_open);
	assert_int_equal(web->no_backend, SS_ANSWER_RESET);
	assert_true(web->unknown_reset);
	address_is(&web->source[0], "10.0.2.2");
	assert_false(web->source[1].w[0]); /* by the routes */
	assert_int_equal(web->backends_count, 4);
	assert_string_equal(web->backends[0].name, "s1");
	endpoint_is(&web->backends[0].address, "10.0.3.2:8080");
	assert_int_equal(web->backends[0].weight, 7);
	assert_int_equal(web->backends[0].state, SS_BACKEND_UP);
	assert_int_equal(web->backends[1].weight, 100);
	assert_int_equal(web->backends[1].state, SS_BACKEND_DRAIN);
	assert_int_equal(web->backends[2].weight, 0);
	assert_int_equal(web->backends[2].state, SS_BACKEND_DOWN);
	assert_int_equal(web->backends[3].weight, 65535);
	web6 = &c->balancer->services[1];
	assert_int_equal(web6->scheduler, SS_SCHED_MAGLEV);
	assert_int_equal(web6->method, SS_METHOD_GUE);
	assert_false(web6->flow_table);
	assert_int_equal(web6->slots, SS_LB_LARGE_SLOTS);
	assert_true(web6->fail_open);
	assert_int_equal(web6->no_backend, SS_ANSWER_DROP);
	assert_false(web6->unknown_reset);
	address_is(&web6->source[0], "10.0.2.2");
	assert_false(web6->source[1].w[0]);
	endpoint_is(&web6->backends[0].address, "[fd00:1::2]:80");
	none = &c->balancer->services[2];
	assert_string_equal(none->name, "none");
	assert_int_equal(none->method, SS_METHOD_IPIP);
	assert_int_equal(none->backends_count, 0);
	assert_null(none->backends);
	config_free(c);
}

/* UDP beside TCP, at the same endpoint; and what only UDP may have. */
static void udp_of_the_manual(void **state)
{
	struct config *c =
		good("host:\n"
		     "  interfaces: [eth0]\n"
		     "  serve:\n"
		     "    - {vip: \"10.99.0.1:53\", listen: 5353, protocol: udp}\n"
		     "    - {vip: \"10.99.0.1:53\"}\n"
		     "    - {vip: \"[fd00:99::1]:53\", listen: 5353, protocol: udp}\n"
		     "balancer:\n"
		     "  interfaces: [eth0]\n"
		     "services:\n"
		     "  - {name: dns, vip: 10.99.0.1:53, protocol: udp}\n"
		     "  - {name: dns-tcp, vip: 10.99.0.1:53, protocol: tcp}\n"
		     "  - name: dns6\n"
		     "    vip: \"[fd00:99::1]:53\"\n"
		     "    protocol: udp\n"
		     "    method: gue\n"
		     "    scheduler: round-robin\n"
		     "    backends: [{name: s1, address: \"[fd00:1::2]:5353\"}]\n"
		     "  - name: h3\n"
		     "    vip: 10.99.0.1:443\n"
		     "    protocol: udp\n"
		     "    quic_id_length: 2\n"
		     "    backends:\n"
		     "      - {name: s1, address: \"10.0.3.2:443\", quic_id: \"00aF\"}\n");
	const struct service_config *services = c->balancer->services;

	(void)state;
	assert_int_equal(c->host->serve[0].vip.protocol, SS_UDP);
	assert_int_equal(c->host->serve[0].listen, 5353);
	assert_int_equal(c->host->serve[1].vip.protocol, 0);
	assert_int_equal(c->host->serve[2].listen, 5353);
	assert_int_equal(services[0].vip.protocol, SS_UDP);
	assert_int_equal(services[0].method, SS_METHOD_IPIP);
	assert_int_equal(services[1].vip.protocol, 0);
	assert_int_equal(services[1].method, SS_METHOD_IPIP);
	assert_int_equal(services[2].vip.protocol, SS_UDP);
	assert_int_equal(services[2].method, SS_METHOD_GUE);
	endpoint_is(&services[2].backends[0].address, "[fd00:1::2]:5353");
	assert_int_equal(services[2].quic_id_len, 0);
	assert_int_equal(services[3].quic_id_len, 2);
	assert_memory_equal(services[3].backends[0].quic_id, "\0\xaf\0\0\0\0\0\0", 8);
	config_free(c);
}

static void defaults(void **state)
{
	struct config *c = good("host:\n  interfaces: [eth0]\n");

	(void)state;
	assert_int_equal(c->host->trusted_balancers_count, 0);
	assert_int_equal(c->host->backends_count, 0);
	assert_int_equal(c->host->dial_count, 0);
	assert_int_equal(c->host->serve_count, 0);
	assert_int_equal(c->host->attach, TC_ATTACH_AUTO);
	assert_null(c->host->cgroup);
	config_free(c);
}

/* Forms that the text may take; all are read without complaint. */
static const struct {
	const char *why;
	const char *text;
} good_rows[] = {
	{ "JSON", "{\"host\": {\"interfaces\": [\"eth0\"], \"attach\": \"tcx\",\n"
		  "\"serve\": [{\"vip\": \"10.99.0.1:80\", \"listen\": 8080}]},\n"
		  "\"balancer\": {\"interfaces\": [\"eth0\"]}, \"services\": []}" },
	{ "JSON with tabs and nulls",
	  "{\n\t\"host\": {\n\t\t\"interfaces\": [\"eth0\"],\n\t\t\"cgroup\": null,\n"
	  "\t\t\"dial\": null\n\t}\n}\n" },
	{ "both roles", "host: {interfaces: [a]}\nbalancer: {interfaces: [a]}\n" },
	{ "lists left empty", "balancer: {interfaces: [a]}\nservices:\n" },
	{ "backends left empty", "balancer: {interfaces: [a]}\nservices:\n  - name: a\n    vip: "
				 "10.0.0.1:1\n    backends:\n" },
	{ "windows line ends", "host:\r\n  interfaces:\r\n    - eth0\r\n" },
	{ "document marks", "%YAML 1.1\n---\nhost: {interfaces: [a]}\n...\n" },
	{ "no line end", "host: {interfaces: [a]}" },
	{ "longest interface name", "host: {interfaces: [abcdefghijklmno]}" },
	{ "an alias",
	  "balancer: {interfaces: [a]}\nservices:\n"
	  "- {name: a, vip: 10.0.0.1:1, backends: &b [{name: x, address: 10.0.0.3:1}]}\n"
	  "- {name: b, vip: 10.0.0.1:2, backends: *b}\n" },
	{ "one address for two VIPs",
	  "host: {interfaces: [a], serve: [{vip: 10.9.0.1:80, listen: 1},\n"
	  "{vip: 10.9.0.2:80, listen: 1}]}" },
	{ "dial without a length",
	  "host: {interfaces: [a], backends: [10.0.0.1], dial: [10.9.0.1]}" },
};

static void good_forms(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(good_rows); i++) {
		struct config *c = NULL;
		struct error err;

		if (config_parse("f", good_rows[i].text, strlen(good_rows[i].text), &c, &err))
			fail_msg("%s: %s", good_rows[i].why, err.text);
		config_free(c);
	}
}

/* What mistakes are set into: a host's and a service's first lines. */
#define HOST "host:\n  interfaces: [eth0]\n"
#define LB "balancer: {interfaces: [eth0]}\nservices:\n"
#define WEB "- name: web\n  vip: 10.99.0.1:80\n"
#define WEB6 "- name: web6\n  vip: \"[fd00:99::1]:80\"\n"
#define NAME64 "0123456789012345678901234567890123456789012345678901234567890123"

#define SOURCE "expected one of the balancer's own addresses for each IP version"
#define HOST_KEYS                                                                                 \
	"expected one of interfaces, trusted_balancers, clients, backends, dial, serve, report, " \
	"attach, cgroup"
#define VIP "expected ADDRESS:PORT, such as 10.99.0.1:80 or \"[fd00:99::1]:80\""
#define ADDRESS "expected ADDRESS:PORT, such as 10.0.3.2:80 or \"[fd00:1::2]:80\""
#define INTERFACE "expected the name of a network interface: 1 to 15 bytes"
#define INTERFACES "expected a list of network interfaces, such as [eth0]"
#define NAME "expected 1 to 63 bytes without blanks and slashes"
#define WEIGHT "expected a number, 0 to 65535"
#define QUIC LB WEB "  protocol: udp\n  quic_id_length: 2\n  backends:\n"
#define QUIC_ID "expected hexadecimal digits, two for each byte of quic_id_length"
#define ALL "expected a mapping with the key host, or balancer and services"

static const struct {
	const char *why;
	const char *text;
	const char *error;
} error_rows[] = {
	/* The text is not YAML, or not a configuration at all. */
	{ "empty", "", "f:1: nothing configured; " ALL },
	{ "only a comment", "# nothing\n\n", "f:1: nothing configured; " ALL },
	{ "an empty mapping", "\n{}\n", "f:2: nothing configured; " ALL },
	{ "a list", "\n- host\n", "f:2: a list; " ALL },
	{ "a word", "host\n", "f:1: empty or a single value; " ALL },
	{ "bracket left open", "host:\n  interfaces: [eth0\n  attach: tcx\n",
	  "f:3: syntax: did not find expected ',' or ']', while parsing a flow sequence that "
	  "starts in line 2; expected YAML or JSON" },
	{ "bad indentation", "host:\n  interfaces: [eth0]\n attach: tcx\n",
	  "f:3: syntax: did not find expected key, while parsing a block mapping that starts in "
	  "line 1; expected YAML or JSON" },
	{ "a tab", "host:\n\tinterfaces: [eth0]\n",
	  "f:2: syntax: found character that cannot start any token; expected YAML or JSON" },
	{ "two colons", "host:\n  interfaces: a: b\n",
	  "f:2: syntax: mapping values are not allowed in this context; expected YAML or JSON" },
	{ "not UTF-8", "host:\n  interfaces: [\xff]\n",
	  "f:2: syntax: invalid leading UTF-8 octet; expected YAML or JSON" },
	{ "unknown alias", HOST "  dial: *d\n",
	  "f:3: syntax: found undefined alias; expected YAML or JSON" },
	{ "alias of itself", HOST "  dial: &d [*d]\n",
	  "f:3: host.dial[0]: an alias inside of what it stands for; expected a prefix, such as "
	  "10.99.0.0/24, or ADDRESS:PORT" },
	{ "two documents", HOST "---\n" HOST, "f:4: a second document; expected only one" },
	{ "syntax error in the second", HOST "---\n]\n",
	  "f:4: syntax: did not find expected node content; expected YAML or JSON" },
	{ "a line end in a value", HOST "  cgroup: \"a\\nb\"\n",
	  "f:3: control character; expected a single line of text" },
	{ "a zero in a value", HOST "  cgroup: \"a\\0b\"\n",
	  "f:3: control character; expected a single line of text" },
	{ "a list as a key", HOST "  [a]: b\n",
	  "f:3: a list or mapping as a key; expected a word" },

	/* Keys. */
	{ "unknown at the top", HOST "hosts: 1\n",
	  "f:3: hosts: unknown key; expected one of host, balancer, services" },
	{ "unknown in host", "host:\n  interfaces: [a]\n  interface: a\n",
	  "f:3: host.interface: unknown key; " HOST_KEYS },
	{ "unknown with dots and brackets", HOST "\n  a.b[0].c: a\n",
	  "f:4: host.a.b[0].c: unknown key; " HOST_KEYS },
	{ "unknown in serve", HOST "  serve:\n  - vip: 10.9.0.1:80\n    port: 1\n",
	  "f:5: host.serve[0].port: unknown key; expected one of vip, listen, "
	  "listen_also, replies, protocol, address" },
	{ "unknown in balancer", "balancer:\n  interfaces: [a]\n  services: []\n",
	  "f:3: balancer.services: unknown key; expected one of interfaces, source, xdp_mode, "
	  "reports, "
	  "fragments, no_service, syn_limit" },
	{ "unknown in the second service", LB WEB WEB6 "  port: 1\n",
	  "f:7: services[1].port: unknown key; expected one of name, vip, protocol, scheduler, "
	  "method, flow_table, slots, fail_open, no_backend, unknown, quic_id_length, suspect, "
	  "slow_start, backends" },
	{ "unknown in a backend", LB WEB "  backends:\n  - name: a\n    wait: 1\n",
	  "f:7: services[0].backends[0].wait: unknown key; expected one of name, address, weight, "
	  "state, quic_id" },
	{ "capital letter", "Host: {interfaces: [a]}\n",
	  "f:1: Host: unknown key; expected one of host, balancer, services" },
	{ "twice", HOST "  attach: tcx\n  attach: auto\n",
	  "f:4: host.attach: a second time; expected it once" },
	{ "host twice", HOST HOST, "f:3: host: a second time; expected it once" },
	{ "no interfaces", "\nhost:\n  attach: tcx\n",
	  "f:2: host.interfaces: missing; " INTERFACES },
	{ "no interfaces in balancer", "balancer: {}\n",
	  "f:1: balancer.interfaces: missing; " INTERFACES },
	{ "no vip in serve", HOST "  serve:\n  - {listen: 80}\n",
	  "f:4: host.serve[0].vip: missing; " VIP },
	{ "no name", LB "- vip: 10.99.0.1:80\n", "f:3: services[0].name: missing; " NAME },
	{ "no vip", LB WEB "- name: b\n", "f:5: services[1].vip: missing; " VIP },
	{ "no address", LB WEB "  backends:\n  - {name: a, address: 10.0.0.3:1}\n  - name: b\n",
	  "f:7: services[0].backends[1].address: missing; " ADDRESS },
	{ "no backend name", LB WEB "  backends:\n  - address: 10.0.0.3:1\n",
	  "f:6: services[0].backends[0].name: missing; " NAME },
	{ "services without balancer", HOST "services:\n" WEB,
	  "f:3: services: services without a balancer; expected the key balancer as well" },
	{ "dial without backends", HOST "  dial: [10.99.0.0/24]\n",
	  "f:3: host.dial: no grant can be accepted; expected host.backends as well: where a grant "
	  "may point" },

	/* Types. */
	{ "host is empty", "host:\n",
	  "f:1: host: empty or a single value; expected a mapping with the key interfaces and "
	  "others" },
	{ "balancer is a list", "balancer:\n- interfaces: [a]\n",
	  "f:1: balancer: a list; expected a mapping with the key interfaces" },
	{ "interfaces is a word", "host:\n  interfaces: eth0\n",
	  "f:2: host.interfaces: empty or a single value; " INTERFACES },
	{ "interface is a mapping", "host:\n  interfaces:\n  - eth0\n  - name: eth1\n",
	  "f:4: host.interfaces[1]: a mapping; " INTERFACE },
	{ "attach is a list", HOST "  attach: [tcx]\n",
	  "f:3: host.attach: a list; expected auto, tcx or clsact" },
	{ "serve is a mapping", HOST "  serve: {vip: 10.9.0.1:80}\n",
	  "f:3: host.serve: a mapping; expected a list of mappings, such as [{vip: "
	  "\"10.99.0.1:80\", listen: 8080}]" },
	{ "services is a mapping", LB "  web: {}\n",
	  "f:2: services: a mapping; expected a list of mappings with the keys name, vip and "
	  "backends" },
	{ "service is a word", LB "- web\n",
	  "f:3: services[0]: empty or a single value; expected a mapping with the keys name, vip "
	  "and backends" },
	{ "backend is a word", LB WEB "  backends: [10.0.0.3:1]\n",
	  "f:5: services[0].backends[0]: empty or a single value; expected a mapping, such as "
	  "{name: s1, address: \"10.0.3.2:80\"}" },

	/* Values of a host. */
	{ "no interface", "host:\n  interfaces: []\n", "f:2: host.interfaces: empty; " INTERFACES },
	{ "interfaces left empty", "host:\n  interfaces:\n",
	  "f:2: host.interfaces: empty; " INTERFACES },
	{ "empty interface", "host:\n  interfaces: [a, \"\"]\n",
	  "f:2: host.interfaces[1]: '' is empty; " INTERFACE },
	{ "interface of 16 bytes", "host:\n  interfaces:\n  - a\n  - abcdefghijklmnop\n",
	  "f:4: host.interfaces[1]: 'abcdefghijklmnop' has 16 bytes; " INTERFACE },
	{ "blank in an interface", "host:\n  interfaces: [a b]\n",
	  "f:2: host.interfaces[0]: 'a b' has a blank in it; " INTERFACE },
	{ "slash in an interface", "balancer:\n  interfaces: [a/b]\n",
	  "f:2: balancer.interfaces[0]: 'a/b' has a slash in it; " INTERFACE },
	{ "interface twice", "host:\n  interfaces:\n  - a\n  - b\n  - a\n",
	  "f:5: host.interfaces[2]: 'a' is in the list already; expected every interface once" },
	{ "bad trusted balancer", HOST "  trusted_balancers:\n  - 10.0.0.0/8\n  - 10.0.0.1/8\n",
	  "f:5: host.trusted_balancers[1]: '10.0.0.1/8' is not a prefix, or has bits set behind "
	  "it; expected a prefix or an address, such as 10.0.2.0/24 or fd00::1" },
	{ "trust in all of IPv6", HOST "  trusted_balancers: [\"::/0\"]\n",
	  "f:3: host.trusted_balancers[0]: '::/0' contains all of IPv4; expected a longer prefix, "
	  "such as 2000::/3" },
	{ "bad backends", HOST "  backends: [host]\n",
	  "f:3: host.backends[0]: 'host' is not a prefix, or has bits set behind it; expected a "
	  "prefix or an address, such as 10.0.0.0/16 or fd00::1" },
	{ "bad dial", HOST "  backends: [10.0.0.0/8]\n  dial: [10.9.0.1:0]\n",
	  "f:4: host.dial[0]: '10.9.0.1:0' is neither a prefix without bits behind it nor an "
	  "address and port; expected a prefix, such as 10.99.0.0/24, or ADDRESS:PORT" },
	{ "dial all of IPv6", HOST "  backends: [10.0.0.0/8]\n  dial: [\"::/0\"]\n",
	  "f:4: host.dial[0]: '::/0' contains all of IPv4; expected a longer prefix, such as "
	  "2000::/3" },
	{ "serve port 0", HOST "  serve:\n  - vip: 10.9.0.1:0\n",
	  "f:4: host.serve[0].vip: '10.9.0.1:0' is not an address and port; " VIP },
	{ "serve without a port", HOST "  serve:\n  - vip: 10.9.0.1\n",
	  "f:4: host.serve[0].vip: '10.9.0.1' is not an address and port; " VIP },
	{ "serve multicast", HOST "  serve:\n  - vip: 224.0.0.1:80\n",
	  "f:4: host.serve[0].vip: '224.0.0.1:80' is not the address of a host; " VIP },
	{ "serve any", HOST "  serve:\n  - vip: \"[::]:80\"\n",
	  "f:4: host.serve[0].vip: '[::]:80' is not the address of a host; " VIP },
	{ "listen 0", HOST "  serve:\n  - vip: 10.9.0.1:80\n    listen: 0\n",
	  "f:5: host.serve[0].listen: 0 is out of range; expected a port, 1 to 65535" },
	{ "listen 65536", HOST "  serve:\n  - vip: 10.9.0.1:80\n    listen: 65536\n",
	  "f:5: host.serve[0].listen: 65536 is out of range; expected a port, 1 to 65535" },
	{ "listen beyond 64 bits",
	  HOST "  serve:\n  - vip: 10.9.0.1:80\n    listen: 18446744073709551696\n",
	  "f:5: host.serve[0].listen: 18446744073709551696 is out of range; expected a port, 1 to "
	  "65535" },
	{ "listen is a word", HOST "  serve:\n  - vip: 10.9.0.1:80\n    listen: http\n",
	  "f:5: host.serve[0].listen: 'http' is not a number; expected a port, 1 to 65535" },
	{ "listen with +", HOST "  serve:\n  - vip: 10.9.0.1:80\n    listen: +80\n",
	  "f:5: host.serve[0].listen: '+80' is not a number; expected a port, 1 to 65535" },
	{ "services with the same tag",
	  HOST "  serve:\n  - vip: 10.99.0.42:792\n  - vip: 10.99.0.123:408\n",
	  "f:5: host.serve[1].vip: its short name on the wire is also that of serve[0]; expected "
	  "another port or address" },
	{ "clients that are no prefixes", HOST "  clients: [10.0.0.0/33]\n",
	  "f:3: host.clients[0]: '10.0.0.0/33' is not a prefix, or has bits set behind it; "
	  "expected a prefix or "
	  "an address, such as 10.0.0.0/8 or fd00::1" },
	{ "unknown replies", HOST "  serve:\n  - vip: 10.9.0.1:80\n    replies: fast\n",
	  "f:5: host.serve[0].replies: unknown value 'fast'; expected classic or strict" },
	{ "bad address in serve", HOST "  serve:\n  - vip: 10.9.0.1:80\n    address: 10.9.0.1:80\n",
	  "f:5: host.serve[0].address: '10.9.0.1:80' is not the address of a host; expected one of "
	  "the server's own addresses, of the VIP's IP version" },
	{ "address of the other IP version in serve",
	  HOST "  serve:\n  - vip: 10.9.0.1:80\n    address: fd00::3\n",
	  "f:5: host.serve[0].address: 'fd00::3' is not of the VIP's IP version; expected one of "
	  "the server's own addresses, of the VIP's IP version" },
	{ "vip twice in serve",
	  HOST "  serve:\n  - vip: 10.9.0.1:80\n  - vip: 10.9.0.2:80\n  - vip: 10.9.0.1:80\n",
	  "f:6: host.serve[2].vip: the same as in serve[0]; expected another vip" },
	{ "unknown protocol in serve", HOST "  serve:\n  - vip: 10.9.0.1:80\n    protocol: sctp\n",
	  "f:5: host.serve[0].protocol: unknown value 'sctp'; expected tcp or udp" },
	{ "strict replies of UDP",
	  HOST "  serve:\n  - {vip: 10.9.0.1:80, protocol: udp,\n    replies: strict}\n",
	  "f:5: host.serve[0].replies: a UDP client knows no other address than the service's; "
	  "expected classic" },
	{ "UDP vip twice in serve",
	  HOST "  serve:\n  - {vip: 10.9.0.1:80, protocol: udp}\n  - vip: 10.9.0.1:80\n"
	       "  - {vip: 10.9.0.1:80, protocol: udp}\n",
	  "f:6: host.serve[2].vip: the same as in serve[0]; expected another vip" },
	{ "unknown attach", HOST "  attach: tc\n",
	  "f:3: host.attach: unknown value 'tc'; expected auto, tcx or clsact" },

	/* Values of a balancer. */
	{ "empty service name", LB "- name: \"\"\n  vip: 10.99.0.1:80\n",
	  "f:3: services[0].name: '' is empty; " NAME },
	{ "blank in a name", LB "- name: a b\n  vip: 10.99.0.1:80\n",
	  "f:3: services[0].name: 'a b' has a blank in it; " NAME },
	{ "slash in a name", LB "- vip: 10.99.0.1:80\n  name: a/b\n",
	  "f:4: services[0].name: 'a/b' has a slash in it; " NAME },
	{ "name of 64 bytes", LB "- vip: 10.99.0.1:80\n  name: " NAME64 "\n",
	  "f:4: services[0].name: '" NAME64 "' is too long; " NAME },
	{ "bad vip", LB "- name: web\n  vip: www:80\n",
	  "f:4: services[0].vip: 'www:80' is not an address and port; " VIP },
	{ "vip port 0", LB "- name: web\n  vip: \"[fd00::1]:0\"\n",
	  "f:4: services[0].vip: '[fd00::1]:0' is not an address and port; " VIP },
	{ "report to nobody", "host:\n  interfaces: [a]\n  report: {balancers: [], key: k}\n",
	  "f:3: host.report.balancers: empty; expected a list of endpoints, such as "
	  "[\"10.0.2.2:7946\"]" },
	{ "report without a key",
	  "host:\n  interfaces: [a]\n  report: {balancers: [\"10.0.2.2:1\"]}\n",
	  "f:3: host.report.key: missing; expected the path of a file" },
	{ "report too often",
	  "host:\n  interfaces: [a]\n  report:\n    balancers: [\"10.0.2.2:1\"]\n    key: k\n"
	  "    interval: 9\n",
	  "f:6: host.report.interval: 9 is out of range; expected milliseconds, 10 to 60000" },
	{ "unknown protocol", LB WEB "  protocol: quic\n",
	  "f:5: services[0].protocol: unknown value 'quic'; expected tcp or udp" },
	{ "UDP by rewrite", LB WEB "  protocol: udp\n  method: rewrite\n",
	  "f:6: services[0].method: no method for UDP; expected ipip or gue" },
	{ "UDP by nat", LB WEB "  protocol: udp\n  method: nat\n",
	  "f:6: services[0].method: no method for UDP; expected ipip or gue" },
	{ "UDP by load", LB WEB "  protocol: udp\n  scheduler: least-connections\n",
	  "f:6: services[0].scheduler: servers do not report the load of UDP services; expected "
	  "maglev, source-hash, round-robin or random" },
	{ "UDP by load of two", LB WEB "  protocol: udp\n  scheduler: power-of-two\n",
	  "f:6: services[0].scheduler: servers do not report the load of UDP services; expected "
	  "maglev, source-hash, round-robin or random" },
	{ "UDP in turn without a table",
	  LB WEB "  protocol: udp\n  scheduler: round-robin\n  flow_table: no\n",
	  "f:7: services[0].flow_table: each packet would go to another server; expected yes, or a "
	  "scheduler that finds a flow's server by a hash" },
	{ "QUIC by TCP", LB WEB "  quic_id_length: 4\n",
	  "f:5: services[0].quic_id_length: QUIC by TCP; expected protocol: udp as well" },
	{ "QUIC ids of 9 bytes", LB WEB "  protocol: udp\n  quic_id_length: 9\n",
	  "f:6: services[0].quic_id_length: 9 is out of range; expected bytes, 1 to 8" },
	{ "no QUIC id", QUIC "    - {name: a, address: 10.0.0.1:1}\n",
	  "f:8: services[0].backends[0].quic_id: missing; " QUIC_ID },
	{ "QUIC id too short", QUIC "    - {name: a, address: 10.0.0.1:1, quic_id: \"01\"}\n",
	  "f:8: services[0].backends[0].quic_id: '01' is not an id of 2 bytes; " QUIC_ID },
	{ "QUIC id of three digits",
	  QUIC "    - {name: a, address: 10.0.0.1:1, quic_id: \"010\"}\n",
	  "f:8: services[0].backends[0].quic_id: '010' is not an id of 2 bytes; " QUIC_ID },
	{ "QUIC id too long", QUIC "    - {name: a, address: 10.0.0.1:1, quic_id: \"010203\"}\n",
	  "f:8: services[0].backends[0].quic_id: '010203' is not an id of 2 bytes; " QUIC_ID },
	{ "QUIC id of other digits", QUIC "    - {name: a, address: 10.0.0.1:1, quic_id: 01g2}\n",
	  "f:8: services[0].backends[0].quic_id: '01g2' is not an id of 2 bytes; " QUIC_ID },
	{ "QUIC id twice",
	  QUIC "    - {name: a, address: 10.0.0.1:1, quic_id: ab01}\n"
	       "    - {name: b, address: 10.0.0.2:1, quic_id: AB01}\n",
	  "f:9: services[0].backends[1].quic_id: the same as in backends[0]; expected another "
	  "quic_id" },
	{ "QUIC id of no use",
	  LB WEB
	  "  protocol: udp\n  backends:\n    - {name: a, address: 10.0.0.1:1, quic_id: ab}\n",
	  "f:7: services[0].backends[0].quic_id: an id for no use; expected the service's key "
	  "quic_id_length as well" },
	{ "UDP vip twice",
	  LB "- {name: a, vip: 10.99.0.1:80, protocol: udp}\n" WEB
	     "- {name: b, vip: 10.99.0.1:80, protocol: udp}\n",
	  "f:6: services[2].vip: the same as in services[0]; expected another vip" },
	{ "fragments", "balancer:\n  interfaces: [a]\n  fragments: yes\n",
	  "f:3: balancer.fragments: unknown value 'yes'; expected drop or pass" },
	{ "no_service", "balancer:\n  interfaces: [a]\n  no_service: reset\n",
	  "f:3: balancer.no_service: unknown value 'reset'; expected pass, drop or unreachable" },
	{ "no_backend", LB WEB "  no_backend: no\n",
	  "f:5: services[0].no_backend: unknown value 'no'; expected drop, reset or unreachable" },
	{ "UDP has no RST", LB WEB "  protocol: udp\n  method: ipip\n  no_backend: reset\n",
	  "f:7: services[0].no_backend: UDP knows no RST; expected drop or unreachable" },
	{ "UDP has no RST for unknown ones",
	  LB WEB "  protocol: udp\n  method: ipip\n  unknown: reset\n",
	  "f:7: services[0].unknown: UDP knows no RST; expected drop" },
	{ "unknown to a hash", LB WEB "  unknown: reset\n",
	  "f:5: services[0].unknown: a hash knows every connection's server; expected drop, "
	  "method: nat, or another scheduler" },
	{ "reports at port 0",
	  "balancer:\n  interfaces: [a]\n  reports:\n    key: k\n    port: 0\n",
	  "f:5: balancer.reports.port: 0 is out of range; expected a UDP port, 1 to 65535" },
	{ "SYN limit without a rate", "balancer:\n  interfaces: [a]\n  syn_limit:\n    burst: 1\n",
	  "f:3: balancer.syn_limit.rate: missing; expected SYNs a second, 1 to 1000000" },
	{ "no SYN at all", "balancer:\n  interfaces: [a]\n  syn_limit:\n    rate: 0\n",
	  "f:4: balancer.syn_limit.rate: 0 is out of range; expected SYNs a second, 1 to 1000000" },
	{ "a burst too small for the clock",
	  "balancer:\n  interfaces: [a]\n  syn_limit:\n    rate: 1000\n    burst: 9\n",
	  "f:5: balancer.syn_limit.burst: 9 is less than what comes between two ticks of the "
	  "clock; "
	  "expected at least a hundredth of the rate" },
	{ "an IPv4 prefix too long",
	  "balancer:\n  interfaces: [a]\n  syn_limit: {rate: 1, prefix4: 33}\n",
	  "f:3: balancer.syn_limit.prefix4: 33 is out of range; expected a number of bits, 1 to "
	  "32" },
	{ "an IPv6 prefix too long",
	  "balancer:\n  interfaces: [a]\n  syn_limit: {rate: 1, prefix6: 129}\n",
	  "f:3: balancer.syn_limit.prefix6: 129 is out of range; expected a number of bits, 1 to "
	  "128" },
	{ "XDP somehow", "balancer:\n  interfaces: [a]\n  xdp_mode: skb\n",
	  "f:3: balancer.xdp_mode: unknown value 'skb'; expected auto, native or generic" },
	{ "unknown scheduler", LB WEB "  scheduler: best\n",
	  "f:5: services[0].scheduler: unknown value 'best'; expected maglev, round-robin, random, "
	  "source-hash, least-connections, power-of-two" },
	{ "unknown method", LB WEB "  method: nat64\n",
	  "f:5: services[0].method: unknown value 'nat64'; expected rewrite, ipip, gue or nat" },
	{ "unknown slots", LB WEB "  slots: 8192\n",
	  "f:5: services[0].slots: unknown value '8192'; expected 8191 or 65537" },
	{ "unknown flow_table", LB WEB "  flow_table: maybe\n",
	  "f:5: services[0].flow_table: unknown value 'maybe'; expected yes or no" },
	{ "round robin without a table, by the default method",
	  LB WEB "  scheduler: round-robin\n  flow_table: no\n",
	  "f:6: services[0].flow_table: packets behind a SYN would not be forwarded; expected yes, "
	  "or a scheduler that finds a connection's server by a hash" },
	{ "plain round robin without a table",
	  LB WEB "  scheduler: round-robin\n  method: ipip\n  flow_table: no\n",
	  "f:7: services[0].flow_table: packets behind a SYN would not be forwarded; expected yes, "
	  "or a scheduler that finds a connection's server by a hash" },
	{ "nat without a table", LB WEB "  method: nat\n  flow_table: no\n",
	  "f:6: services[0].flow_table: address translation without a table; expected yes" },
	{ "nobody is suspect for nothing", LB WEB "  suspect: {unanswered: 0}\n",
	  "f:5: services[0].suspect.unanswered: 0 is out of range; expected a number of SYNs, 1 to "
	  "65535" },
	{ "suspects without a count", LB WEB "  suspect: {hold: 5}\n",
	  "f:5: services[0].suspect.unanswered: missing; expected a number of SYNs, 1 to 65535" },
	{ "held too briefly", LB WEB "  suspect: {unanswered: 5, hold: 1}\n",
	  "f:5: services[0].suspect.hold: 1 is out of range; expected seconds, 2 to 3600" },
	{ "suspects without a table", LB WEB "  suspect: {unanswered: 5}\n  flow_table: no\n",
	  "f:6: services[0].flow_table: a SYN that does not go where its hash says has to be "
	  "remembered; expected yes" },
	{ "slow start without a table", LB WEB "  slow_start: 5\n  flow_table: no\n",
	  "f:6: services[0].flow_table: a SYN that does not go where its hash says has to be "
	  "remembered; expected yes" },
	{ "UDP has no SYNs", LB WEB "  protocol: udp\n  method: ipip\n  slow_start: 5\n",
	  "f:5: services[0].protocol: suspect and slow_start go by SYNs; expected tcp" },
	{ "suspects in turn", LB WEB "  scheduler: round-robin\n  suspect: {unanswered: 5}\n",
	  "f:6: services[0].suspect: who got a SYN first is not known; expected another scheduler "
	  "than "
	  "round-robin" },
	{ "slow start of hours", LB WEB "  slow_start: 3601\n",
	  "f:5: services[0].slow_start: 3601 is out of range; expected seconds, 0 to 3600" },
	{ "unknown fail_open", LB WEB "  fail_open: 1\n",
	  "f:5: services[0].fail_open: unknown value '1'; expected yes or no" },
	{ "bad source", "balancer:\n  interfaces: [a]\n  source: [lo]\n",
	  "f:3: balancer.source[0]: 'lo' is not the address of a host; " SOURCE },
	{ "multicast source", "balancer:\n  interfaces: [a]\n  source: [224.0.0.1]\n",
	  "f:3: balancer.source[0]: '224.0.0.1' is not the address of a host; " SOURCE },
	{ "two sources", "balancer:\n  interfaces: [a]\n  source: [10.0.0.1, 10.0.0.2]\n",
	  "f:3: balancer.source[1]: a second IPv4 address; " SOURCE },
	{ "bad address", LB WEB "  backends:\n  - name: a\n    address: 10.0.0.3\n",
	  "f:7: services[0].backends[0].address: '10.0.0.3' is not an address and port; " ADDRESS },
	{ "address port 0", LB WEB "  backends:\n  - name: a\n    address: 10.0.0.3:0\n",
	  "f:7: services[0].backends[0].address: '10.0.0.3:0' is not an address and "
	  "port; " ADDRESS },
	{ "weight 65536",
	  LB WEB "  backends:\n  - {name: a, address: 10.0.0.3:1,\n    weight: 65536}\n",
	  "f:7: services[0].backends[0].weight: 65536 is out of range; " WEIGHT },
	{ "weight -1", LB WEB "  backends:\n  - {name: a, address: 10.0.0.3:1,\n    weight: -1}\n",
	  "f:7: services[0].backends[0].weight: '-1' is not a number; " WEIGHT },
	{ "weight 1.5",
	  LB WEB "  backends:\n  - {name: a, address: 10.0.0.3:1,\n    weight: 1.5}\n",
	  "f:7: services[0].backends[0].weight: '1.5' is not a number; " WEIGHT },
	{ "weight with a unit",
	  LB WEB "  backends:\n  - {name: a, address: 10.0.0.3:1,\n    weight: 5k}\n",
	  "f:7: services[0].backends[0].weight: '5k' is not a number; " WEIGHT },
	{ "unknown state",
	  LB WEB "  backends:\n  - {name: a, address: 10.0.0.3:1,\n    state: off}\n",
	  "f:7: services[0].backends[0].state: unknown value 'off'; expected up, drain or down" },
	{ "IPv6 behind IPv4",
	  LB WEB "  method: rewrite\n  backends:\n  - name: a\n    address: \"[fd00::3]:80\"\n",
	  "f:8: services[0].backends[0].address: an IPv6 backend; expected the service's IP "
	  "version, or method: ipip or gue" },
	{ "IPv4 behind IPv6",
	  LB WEB6 "  method: rewrite\n  backends:\n  - name: a\n    address: 10.0.0.3:80\n",
	  "f:8: services[0].backends[0].address: an IPv4 backend; expected the service's IP "
	  "version, or method: ipip or gue" },
	{ "IPv4 behind IPv6 by nat",
	  LB WEB6 "  method: nat\n  backends:\n  - name: a\n    address: 10.0.0.3:80\n",
	  "f:8: services[0].backends[0].address: an IPv4 backend; expected the service's IP "
	  "version, or method: ipip or gue" },
	{ "backends of both IP versions",
	  LB WEB "  method: ipip\n  backends:\n  - {name: a, address: 10.0.0.3:80}\n"
		 "  - {name: b, address: \"[fd00::3]:80\"}\n",
	  "f:8: services[0].backends[1].address: an IPv6 backend; expected one IP version for all "
	  "backends" },
	{ "service name twice", LB WEB WEB6 "- name: web\n  vip: 10.99.0.1:81\n",
	  "f:7: services[2].name: the same as in services[0]; expected another name" },
	{ "vip twice", LB WEB "- name: b\n  vip: 10.99.0.1:80\n",
	  "f:6: services[1].vip: the same as in services[0]; expected another vip" },
	{ "backend name twice",
	  LB WEB
	  "  backends:\n  - {name: b, address: 10.0.0.3:1}\n  - {name: a, address: 10.0.0.3:2}\n"
	  "  - {name: b, address: 10.0.0.3:3}\n  - {name: a, address: 10.0.0.3:4}\n",
	  "f:8: services[0].backends[2].name: the same as in backends[0]; expected another name" },
	{ "backend address twice",
	  LB WEB
	  "  backends:\n  - {name: a, address: 10.0.0.3:1}\n  - {name: b, address: 10.0.0.3:1}\n",
	  "f:7: services[0].backends[1].address: the same as in backends[0]; expected another "
	  "address" },
	{ "a port listened on twice",
	  "host:\n  interfaces: [a]\n  serve:\n"
	  "    - {vip: \"10.99.0.1:80\", listen: 8080, listen_also: [8081, 8080]}\n",
	  "f:4: host.serve[0].listen_also[1]: 8080 a second time; expected another port" },
	{ "further ports for UDP",
	  "host:\n  interfaces: [a]\n  serve:\n"
	  "    - {vip: \"10.99.0.1:80\", protocol: udp, listen_also: [8081]}\n",
	  "f:4: host.serve[0].listen_also: further ports; expected it for TCP in IPv4 only" },
	{ "two ports of one server, by ipip",
	  LB WEB
	  "  method: ipip\n"
	  "  backends:\n  - {name: a, address: 10.0.0.3:1}\n  - {name: b, address: 10.0.0.4:1}\n"
	  "  - {name: c, address: 10.0.0.3:2}\n",
	  "f:9: services[0].backends[2].address: only the port differs from backends[0], which "
	  "method "
	  "ipip does not tell; expected another address, or the service's method: rewrite or nat" },
	{ "two ports of one server, by gue",
	  LB WEB
	  "  method: gue\n"
	  "  backends:\n  - {name: a, address: 10.0.0.3:1}\n  - {name: b, address: 10.0.0.3:2}\n",
	  "f:8: services[0].backends[1].address: only the port differs from backends[0], which "
	  "method "
	  "gue does not tell; expected another address, or the service's method: rewrite or nat" },
};

/* Parses @text, which must be refused with @error. */
static void bad(const char *why, const char *text, size_t len, const char *error)
{
	struct config *untouched = (struct config *)&error_rows, *c = untouched;
	struct error err = { "" };

	if (config_parse("f", text, len, &c, &err) != -EINVAL)
		fail_msg("%s: taken", why);
	assert_ptr_equal(c, untouched);
	if (strcmp(err.text, error))
		fail_msg("%s:\n%s\n%s", why, err.text, error);
	assert_int_equal(config_parse("f", text, len, &c, NULL), -EINVAL);
}

static void errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(error_rows); i++)
		bad(error_rows[i].why, error_rows[i].text, strlen(error_rows[i].text),
		    error_rows[i].error);
}

/* A balancer's configuration with that many services and backends of each, and @key in each service. */
static char *many(unsigned services, unsigned backends, const char *key, size_t *len)
{
	char *text;
	FILE *f = open_memstream(&text, len);

	assert_non_null(f);
	fprintf(f, LB);
	for (unsigned s = 0; s < services; s++) {
		fprintf(f, "- {name: s%u, vip: 10.99.0.1:%u, %s backends: [\n", s, s + 1, key);
		for (unsigned b = 0; b < backends; b++)
			fprintf(f, "  {name: b%u, address: 10.0.%u.%u:80},\n", b, b / 256, b % 256);
		fprintf(f, "  ]}\n");
	}
	fclose(f);
	return text;
}

/* A host's configuration with @n entries in the list @key, each the @entry of its number. */
static void list_limit(const char *key, const char *entry, unsigned n, const char *error)
{
	size_t len;
	char *text;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	fprintf(f, "host: {%s backends: [10.0.0.0/8], %s: [\n",
		strcmp(key, "interfaces") ? "interfaces: [eth0]," : "", key);
	for (unsigned i = 0; i < n; i++) {
		fprintf(f, entry, i / 256, i % 256);
		fprintf(f, ",\n");
	}
	fprintf(f, "]}\n");
	fclose(f);
	if (error)
		bad(key, text, len, error);
	else
		config_free(good(text));
	free(text);
}

/* What `check` lets pass, the kernel's maps have room for. */
static void host_limits(void **state)
{
	static const char too_many[] = "f:1: host.%s: too many entries; expected at most %u";
	static const struct {
		const char *key, *entry;
		unsigned most;
	} rows[] = {
		{ "dial", "10.1.%u.%u", 1024 },
		{ "trusted_balancers", "10.1.%u.%u", 1024 },
		{ "serve", "{vip: \"10.1.%u.%u:80\"}", 1024 },
		{ "interfaces", "eth%ux%u", 256 },
	};
	char text[1024];

	(void)state;
	for (size_t i = 0; i < ROWS(rows); i++) {
		char error[128];

		snprintf(error, sizeof(error), too_many, rows[i].key, rows[i].most);
		list_limit(rows[i].key, rows[i].entry, rows[i].most, NULL);
		list_limit(rows[i].key, rows[i].entry, rows[i].most + 1, error);
	}
	snprintf(text, sizeof(text), HOST "  cgroup: /%0510d\n", 0);
	config_free(good(text));
	snprintf(text, sizeof(text), HOST "  cgroup: /%0511d\n", 0);
	bad("a long path", text, strlen(text),
	    "f:3: host.cgroup: more than 511 bytes; expected the path of a cgroup2 folder");
}

static const struct {
	const char *why;
	unsigned services;
	unsigned backends;
	const char *error; /* NULL: fine */
	const char *key;
} limit_rows[] = {
	{ "most services", SS_LB_SERVICES, 1, NULL },
	{ "most backends of a service", 1, SS_LB_SERVICE_BACKENDS, NULL },
	{ "most backends", SS_LB_BACKENDS / 1000, 1000, NULL },
	{ "most backends of a small table", 1, SS_LB_SMALL_BACKENDS, NULL, "slots: 8191," },
	{ "a backend too many for a small table", 1, SS_LB_SMALL_BACKENDS + 1,
	  "f:3: services[0].slots: a table for at most 128 backends; expected 65537",
	  "slots: 8191," },
	{ "a service too many", SS_LB_SERVICES + 1, 0,
	  "f:2: services: too many entries; expected at most 1024" },
	{ "a backend too many for a service", 1, SS_LB_SERVICE_BACKENDS + 1,
	  "f:3: services[0].backends: too many entries; expected at most 1024" },
	{ "too many backends of all services", 132, 1000,
	  "f:131265: services[131].backends: more than 131072 backends in all services; expected a "
	  "list of mappings, such as [{name: s1, address: \"10.0.3.2:80\"}]" },
};

static void limits(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(limit_rows); i++) {
		size_t len;
		const char *key = limit_rows[i].key ? limit_rows[i].key : "";
		char *text = many(limit_rows[i].services, limit_rows[i].backends, key, &len);

		if (limit_rows[i].error)
			bad(limit_rows[i].why, text, len, limit_rows[i].error);
		else
			config_free(good(text));
		free(text);
	}
}

/* However long what the user wrote is, the error stays one line, and says where. */
static void long_mistakes(void **state)
{
	char text[5000] = HOST "  ";
	struct config *c = NULL;
	struct error err;
	size_t len = strlen(text);

	(void)state;
	memset(text + len, 'x', 1000);
	strcpy(text + len + 1000, ": 1\n");
	assert_int_equal(config_parse("f", text, strlen(text), &c, &err), -EINVAL);
	assert_memory_equal(err.text, "f:3: host.xxxxxx", 16);
	assert_non_null(strstr(err.text, ": unknown key; " HOST_KEYS));
	assert_null(strchr(err.text, '\n'));
	strcpy(text, HOST "  attach: ");
	len = strlen(text);
	memset(text + len, 'x', 4000);
	text[len + 4000] = 0;
	assert_int_equal(config_parse("f", text, strlen(text), &c, &err), -EINVAL);
	assert_memory_equal(err.text, "f:3: host.attach: unknown value 'xxxx", 37);
	assert_non_null(strstr(err.text, "; expected auto, tcx or clsact"));
	assert_null(c);
}

/* Any beginning of a good file is read or refused, and nothing is lost on the way. */
static void cut_anywhere(void **state)
{
	static const char text[] = HOST "  serve: [{vip: 10.9.0.1:80}]\n" LB WEB
					"  backends:\n  - {name: &a a, address: 10.0.0.3:1}\n";

	(void)state;
	for (size_t len = 0; len < sizeof(text); len++) {
		char *copy = malloc(len ? len : 1);
		struct config *c = NULL;
		struct error err = { "" };

		assert_non_null(copy);
		memcpy(copy, text, len);
		if (config_parse("f", copy, len, &c, &err))
			assert_memory_equal(err.text, "f:", 2);
		config_free(c);
		free(copy);
	}
}

static void files(void **state)
{
	char path[] = "/tmp/test_config.XXXXXX", expected[128];
	int fd = mkstemp(path);
	struct config *c = NULL;
	struct error err;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, HOST, strlen(HOST)), strlen(HOST));
	assert_int_equal(config_load(path, &c, &err), 0);
	assert_string_equal(c->host->interfaces[0], "eth0");
	config_free(c);
	c = NULL;
	assert_int_equal(write(fd, "x: 1\n", 5), 5);
	assert_int_equal(config_load(path, &c, &err), -EINVAL);
	snprintf(expected, sizeof(expected),
		 "%s:3: x: unknown key; expected one of host, balancer, services", path);
	assert_string_equal(err.text, expected);
	close(fd);
	unlink(path);
	assert_int_equal(config_load(path, &c, &err), -ENOENT);
	snprintf(expected, sizeof(expected), "%s: cannot open: No such file or directory", path);
	assert_string_equal(err.text, expected);
	assert_int_equal(config_load("/", &c, &err), -EISDIR);
	assert_string_equal(err.text, "/: cannot read: Is a directory");
	assert_null(c);
	config_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_of_the_manual),
		cmocka_unit_test(balancer_of_the_manual),
		cmocka_unit_test(reports_of_the_manual),
		cmocka_unit_test(udp_of_the_manual),
		cmocka_unit_test(syn_limits),
		cmocka_unit_test(two_ports_of_one_server),
		cmocka_unit_test(further_ports),
		cmocka_unit_test(suspects_and_slow_start),
		cmocka_unit_test(every_scheduler),
		cmocka_unit_test(defaults),
		cmocka_unit_test(good_forms),
		cmocka_unit_test(errors),
		cmocka_unit_test(limits),
		cmocka_unit_test(host_limits),
		cmocka_unit_test(long_mistakes),
		cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
