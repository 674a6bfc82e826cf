// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "program.h"

#include <stdio.h>
#include <unistd.h>

#include <bpf/bpf.h>

const char *program_name(__u32 id, char name[PROGRAM_NAME_LEN])
{
	struct bpf_prog_info info = {};
	int fd = bpf_prog_get_fd_by_id(id);
	__u32 len = sizeof(info);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) || !info.name[0])
		snprintf(info.name, sizeof(info.name), "?");
	if (fd >= 0)
		close(fd);
	snprintf(name, PROGRAM_NAME_LEN, "%s", info.name);
	return name;
}
