/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The configuration file's structure: libcyaml checks the YAML against schemas and hands over
 * strings. What they mean is not known here.
 */
#ifndef SIDESTEP_CONFIG_RAW_H
#define SIDESTEP_CONFIG_RAW_H

#include <stddef.h>

#include "config_place.h"

/* The file as libcyaml hands it over. */
struct raw_list {
	char **item;
	unsigned count;
};

struct raw_serve {
	char *vip;
	char *listen;
	struct raw_list listen_also;
	char *replies;
	char *protocol;
	char *address;
};

struct raw_report {
	struct raw_list balancers;
	char *key;
	char *interval;
};

struct raw_host {
	struct raw_list interfaces;
	struct raw_list trusted_balancers;
	struct raw_list clients;
	struct raw_list backends;
	struct raw_list dial;
	struct raw_serve *serve;
	unsigned serve_count;
	struct raw_report *report;
	char *attach;
	char *cgroup;
};

struct raw_backend {
	char *name;
	char *address;
	char *weight;
	char *state;
	char *quic_id;
};

struct raw_suspect {
	char *unanswered;
	char *share;
	char *hold;
};

struct raw_service {
	char *name;
	char *vip;
	char *protocol;
	char *scheduler;
	char *method;
	char *flow_table;
	char *slots;
	char *fail_open;
	char *no_backend;
	char *unknown;
	char *quic_id_length;
	struct raw_suspect *suspect;
	char *slow_start;
	struct raw_backend *backends;
	unsigned backends_count;
};

struct raw_reports {
	char *port;
	char *key;
};

struct raw_syn_limit {
	char *rate;
	char *burst;
	char *prefix4;
	char *prefix6;
};

struct raw_balancer {
	struct raw_list interfaces;
	struct raw_list source;
	char *xdp_mode;
	struct raw_reports *reports;
	char *fragments;
	char *no_service;
	struct raw_syn_limit *syn_limit;
};

struct raw_config {
	struct raw_host *host;
	struct raw_balancer *balancer;
	struct raw_service *services;
	unsigned services_count;
};

/*
 * Loads the @len bytes of YAML at @text. Returns 0 with *@out set (NULL if the text is empty; to be
 * freed with config_raw_free()), or a negative errno with the error of @src set.
 */
int config_raw_load(struct source *src, const char *text, size_t len, struct raw_config **out);
void config_raw_free(struct raw_config *raw);

#endif
