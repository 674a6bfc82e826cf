/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the machine must offer before anything is loaded, and where things are on it. Each check
 * fails with one line that says what to do.
 */
#ifndef SIDESTEP_PLATFORM_H
#define SIDESTEP_PLATFORM_H

#include <stdbool.h>

#include <sidestep/addr.h>

#include "error.h"

#define PLATFORM_PATH_LEN 512

/*
 * Root, kernel release, BTF, and a bpf file system where @pin_dir is to be (mounted if need be) that
 * does not go away with this command.
 */
int platform_check(const char *pin_dir, struct error *err);

/* The root of the cgroup2 hierarchy into @path, or an error if none is mounted. */
int platform_cgroup2_root(char path[PLATFORM_PATH_LEN], struct error *err);

/* Opens the cgroup2 folder @path. Returns a file descriptor, or a negative errno with @err set. */
int platform_cgroup2_open(const char *path, struct error *err);

/*
 * Indices of the @n Ethernet interfaces @names in this network namespace, into a new array *@out.
 * Returns 0 or a negative errno with @err set (one is missing, or not an Ethernet interface).
 */
int platform_interfaces(char *const *names, unsigned n, int **out, struct error *err);

/*
 * Does the kernel forward packets that come in by @interface? @family: "ipv4" or "ipv6". Returns 0,
 * or -EPERM with @err saying how to switch it on.
 */
int platform_forwarding(const char *interface, const char *family, struct error *err);

/*
 * The number *@cookie that the kernel gives the network namespace of this thread: no other gets it
 * until the next boot. Returns 0 or a negative errno with @err set.
 */
int platform_netns_cookie(__u64 *cookie, struct error *err);

/*
 * A UDP socket that is connected to @to, not blocking; *@from: the address that its packets come from,
 * by this host's routes. Nothing is sent. Returns a file descriptor or a negative errno (-ENETUNREACH:
 * there is no route).
 */
int platform_udp_connect(const struct ss_endpoint *to, struct ss_addr *from);

/*
 * The address *@from that this host's packets to @to come from, by its routes. Returns 0 or a
 * negative errno (-ENETUNREACH: there is no route).
 */
int platform_source(const struct ss_addr *to, struct ss_addr *from);

/* All addresses of this host, a new array in *@out. Returns how many, or a negative errno. */
int platform_addresses(struct ss_addr **out);

/*
 * One sidestep command at a time may change what lies below @pin_dir. Returns a file descriptor
 * that holds the lock until it is closed, or a negative errno with @err set: after @seconds, -EAGAIN,
 * and @err names who holds it.
 */
int platform_lock(const char *pin_dir, unsigned seconds, struct error *err);

/* Has the interface @name fill in @request, a struct of linux/ethtool.h. Returns 0 or a negative errno. */
int platform_ethtool(const char *name, void *request);

#endif
