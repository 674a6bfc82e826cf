// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "interfaces.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include <sidestep/host.h>

int interfaces_change(struct map_change *out, const struct pins *pins, char *const *names,
		      const int *ifindex, unsigned n, struct error *err)
{
	*out = (struct map_change){
		.fd = pins_get(pins, "interfaces"),
		.key_size = sizeof(struct ss_interface),
		.value_size = sizeof(__u32),
		.keys = calloc(n + 1, sizeof(struct ss_interface)),
		.values = calloc(n + 1, sizeof(__u32)),
		.n = n,
	};
	if (out->fd < 0)
		return error_set(err, out->fd, "cannot open %s/interfaces: %s", pins->dir,
				 strerror(-out->fd));
	if (!out->keys || !out->values)
		return error_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < n; i++) {
		struct ss_interface *key = &((struct ss_interface *)out->keys)[i];

		snprintf(key->name, sizeof(key->name), "%s", names[i]);
		((__u32 *)out->values)[i] = ifindex[i];
	}
	return 0;
}

int interfaces_write(const struct pins *pins, char *const *names, const int *ifindex, unsigned n,
		     struct error *err)
{
	struct map_change change;
	size_t failed;
	int ret = interfaces_change(&change, pins, names, ifindex, n, err);

	if (!ret) {
		ret = map_changes_write(&change, 1, &failed);
		if (ret)
			error_set(err, ret, "cannot write %s/interfaces: %s", pins->dir,
				  strerror(-ret));
	}
	map_changes_done(&change, 1);
	return ret;
}

void interfaces_each(const struct pins *pins, void (*fn)(const char *name, int ifindex, void *arg),
		     void *arg)
{
	int fd = pins_get(pins, "interfaces");
	struct ss_interface key, *prev = NULL;
	__u32 ifindex;

	if (fd < 0)
		return;
	for (; !bpf_map_get_next_key(fd, prev, &key); prev = &key)
		if (!bpf_map_lookup_elem(fd, &key, &ifindex))
			fn(key.name, ifindex, arg);
	close(fd);
}

bool interface_is_same(const struct pins *pins, const char *name, int before, char *text,
		       size_t size)
{
	int now = if_nametoindex(name);

	if (!now)
		snprintf(text, size,
			 "there is no interface %s any more; when it is back, run: sidestep %s up "
			 "FILE",
			 name, pins->component);
	else if (now != before)
		snprintf(text, size,
			 "%s is another interface than before, without a program; run: sidestep %s "
			 "up FILE",
			 name, pins->component);
	return now == before;
}

/* A list that grows. */
struct indices {
	int *item;
	unsigned n;
};

static void add_index(const char *name, int ifindex, void *arg)
{
	struct indices *list = arg;
	int *grown = realloc(list->item, (list->n + 1) * sizeof(*grown));

	(void)name;
	if (!grown)
		return;
	list->item = grown;
	grown[list->n++] = ifindex;
}

int *interfaces_indices(const struct pins *pins, unsigned *n)
{
	struct indices list = {};

	interfaces_each(pins, add_index, &list);
	*n = list.n;
	return list.item;
}
