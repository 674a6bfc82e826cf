/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Other people's programs, as the user may know them. */
#ifndef SIDESTEP_PROGRAM_H
#define SIDESTEP_PROGRAM_H

#include <linux/types.h>

#define PROGRAM_NAME_LEN 64

/* The name of the program with the kernel's id @id, "?" if it has none, or is gone; in @name. */
const char *program_name(__u32 id, char name[PROGRAM_NAME_LEN]);

#endif
