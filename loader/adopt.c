// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "adopt.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "adopt.skel.h"

#define LISTENERS_AT_ONCE 64

/* Reads all that the iterator @fd writes: that is what makes it walk. */
static int walk(int fd, void (*fn)(const struct ss_endpoint *local, void *arg), void *arg)
{
	struct ss_endpoint buf[LISTENERS_AT_ONCE];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf)))) {
		if (n < 0 && errno != EAGAIN &&
		    errno != EINTR) /* EAGAIN: a million sockets so far */
			return -errno;
		for (ssize_t i = 0; fn && i < n / (ssize_t)sizeof(*buf); i++)
			fn(&buf[i], arg);
	}
	return 0;
}

int adopt_listeners(const struct pins *pins, __u64 cgroup, enum adopt_mode mode,
		    void (*fn)(const struct ss_endpoint *local, void *arg), void *arg,
		    struct error *err)
{
	struct adopt_bpf *skel = adopt_bpf__open();
	struct bpf_link *link = NULL;
	int fd = -1, ret;

	if (!skel)
		return error_set(err, -errno, "cannot open the listeners' program: %s",
				 strerror(errno));
	skel->rodata->only_report = mode == ADOPT_NOTHING;
	skel->rodata->cgroup_id = cgroup;
	ret = pins_use_for_maps(pins, skel->obj, err);
	if (!ret && adopt_bpf__load(skel))
		ret = error_set(err, -errno, "the kernel refuses the listeners' program: %s",
				strerror(errno));
	if (!ret) {
		link = bpf_program__attach_iter(skel->progs.sidestep_adopt, NULL);
		fd = link ? bpf_iter_create(bpf_link__fd(link)) : -1;
		ret = fd < 0 ? -errno : walk(fd, fn, arg);
		if (ret)
			(void)error_set(err, ret, "cannot walk over the listeners: %s",
					strerror(-ret));
	}
	if (fd >= 0)
		close(fd);
	bpf_link__destroy(link);
	adopt_bpf__destroy(skel);
	return ret;
}
