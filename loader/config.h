/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The configuration file, typed: YAML text becomes one struct config, or one line that says
 * which file, which line, and what was expected there. Nothing here touches the kernel.
 */
#ifndef SIDESTEP_CONFIG_H
#define SIDESTEP_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sidestep/addr.h>
#include <sidestep/host.h>
#include <sidestep/lb.h>

#include "error.h"

#define CONFIG_WEIGHT_DEFAULT 100
#define CONFIG_WEIGHT_MAX 65535
#define CONFIG_REPORT_MS_DEFAULT 1000
#define CONFIG_SYN_RATE_MAX 1000000
#define CONFIG_SUSPECT_SHARE_DEFAULT 50
#define CONFIG_SUSPECT_HOLD_DEFAULT 10
#define CONFIG_SYN_PREFIX4_DEFAULT 24
#define CONFIG_SYN_PREFIX6_DEFAULT 56

/* What the configuration, and status, call schedulers, methods and states of backends. */
#define CONFIG_STATES 3
extern const char *const config_schedulers[SS_SCHED_MAX];
extern const char *const config_methods[SS_METHOD_MAX];
extern const char *const config_states[CONFIG_STATES]; /* by enum ss_backend_state */
#define CONFIG_NO_SERVICE 3
extern const char *const config_no_service[CONFIG_NO_SERVICE]; /* by enum ss_no_service */

/* How TC programs are attached. */
enum tc_attach {
	TC_ATTACH_AUTO, /* TCX where the kernel has it, else clsact */
	TC_ATTACH_TCX,
	TC_ATTACH_CLSACT,
};

/* A service that this host's clients dial: a prefix and any port, or one address and port. */
struct dial {
	struct ss_prefix prefix; /* port 0: any port */
};

/* A service that this host's servers answer for. */
struct serve {
	struct ss_endpoint vip; /* with the key "protocol": tcp (default), udp */
	uint16_t listen; /* host byte order */
	uint16_t also[SS_SERVE_ALSO]; /* key "listen_also": further ports; or 0 */
	bool strict; /* replies: strict */
	struct ss_addr
		address; /* key "address": the server's, of the VIP's IP version; 0: not given */
};

/* Of a host: how it reports its load to balancers. */
struct host_report_config {
	struct ss_endpoint *balancers;
	unsigned balancers_count; /* 0: it does not */
	char *key; /* the path of the key's file */
	unsigned interval; /* ms */
};

struct host_config {
	char **interfaces;
	unsigned interfaces_count;
	struct ss_prefix *trusted_balancers;
	unsigned trusted_balancers_count;
	struct ss_prefix *clients; /* whom those may name as a SYN's source */
	unsigned clients_count;
	struct ss_prefix *backends;
	unsigned backends_count;
	struct dial *dial;
	unsigned dial_count;
	struct serve *serve;
	unsigned serve_count;
	enum tc_attach attach; /* key "attach": auto (default), tcx, clsact */
	struct host_report_config report;
	char *cgroup; /* key "cgroup": a cgroup2 folder; NULL: the root of the mounted cgroup2 */
};

struct backend_config {
	char name[SS_LB_NAME_LEN];
	struct ss_endpoint address;
	uint32_t weight; /* at most CONFIG_WEIGHT_MAX; 0: no new connections */
	enum ss_backend_state state; /* key "state": up (default), drain, down */
	uint8_t quic_id[SS_LB_QUIC_ID]; /* key "quic_id", and zeroes */
};

/* Of a service: when unanswered SYNs make a backend suspect, so that it gets no new connections. */
struct suspect_config {
	unsigned count; /* of them, in 10 to 20 seconds; 0: never */
	unsigned share; /* percent of its SYNs */
	unsigned hold; /* seconds */
};

struct service_config {
	char name[SS_LB_NAME_LEN];
	struct ss_endpoint vip; /* with the key "protocol": tcp (default), udp */
	enum ss_scheduler scheduler; /* key "scheduler": SS_SCHEDULERS; maglev (default) */
	uint32_t slots; /* key "slots": SS_LB_SMALL_SLOTS or _LARGE_; 0: see lb_table_is_large() */
	enum ss_method method; /* key "method": rewrite, ipip (default), gue, nat */
	bool fail_open; /* key "fail_open": yes, no (default) */
	enum ss_answer no_backend; /* key "no_backend": TCP's default is reset, UDP's unreachable */
	bool unknown_reset; /* key "unknown": reset; drop (default) */
	bool flow_table; /* key "flow_table": yes (default), no */
	unsigned quic_id_len; /* key "quic_id_length"; 0: connection ids tell nothing (default) */
	struct suspect_config suspect;
	unsigned slow_start; /* seconds; 0: none */
	struct ss_addr
		source[2]; /* of outer headers, IPv4 and IPv6; 0: by the route to the backends */
	struct backend_config
		*backends; /* all of one IP version; that of the VIP unless they are wrapped */
	unsigned backends_count;
};

/* Of a balancer: which reports it takes in. */
struct reports_config {
	uint16_t port; /* UDP, host byte order; 0: none */
	char *key; /* the path of the key's file */
};

/* Of a balancer: how many SYNs each source prefix may send. */
struct syn_limit_config {
	unsigned rate; /* a second; 0: as many as it likes */
	unsigned burst; /* at once */
	unsigned prefix4; /* its length, by IP version */
	unsigned prefix6;
};

/* How the XDP program runs: in the driver, or in the kernel for any driver, which is slower. */
enum xdp_mode { XDP_AUTO, XDP_NATIVE, XDP_GENERIC };

struct balancer_config {
	char **interfaces;
	unsigned interfaces_count;
	enum xdp_mode xdp_mode; /* key "xdp_mode": auto (default), native, generic */
	struct reports_config reports;
	bool pass_fragments; /* key "fragments": drop (default), pass */
	enum ss_no_service no_service; /* key "no_service": pass, drop (default), unreachable */
	struct syn_limit_config syn_limit;
	struct service_config *services;
	unsigned services_count;
};

/* One file: a "host" mapping, or a "balancer" mapping with a "services" list, or both. */
struct config {
	struct host_config *host; /* NULL: not in the file */
	struct balancer_config *balancer; /* NULL: not in the file */
};

/*
 * Reads the configuration in the file @path. Returns 0 and the configuration in *@out (to be
 * freed with config_free()), or a negative errno with @err set to one line of the form
 * "FILE:LINE: KEY: what is wrong; what was expected". *@out is untouched on failure.
 */
int config_load(const char *path, struct config **out, struct error *err);

/* The same for the @len bytes of YAML at @text; @name stands in for the file in errors. */
int config_parse(const char *name, const char *text, size_t len, struct config **out,
		 struct error *err);

/* Frees @c; NULL is fine. */
void config_free(struct config *c);

/* May @backend, an address, be that of one more backend of @service, by its IP version? */
bool service_takes(const struct service_config *service, const struct ss_addr *backend);

/* May two backends of @service have one address and different ports, by its method? */
bool service_tells_ports(const struct service_config *service);

/* An address of the IP version in which packets of @service leave. */
const struct ss_addr *service_sent_to(const struct service_config *service);

/* What is wrong with @text as the name of a service or backend; NULL if nothing. */
const char *config_name_flaw(const char *text);

#endif
