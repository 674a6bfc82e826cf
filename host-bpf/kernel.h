/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* Numbers of the kernel's that BPF programs cannot include the C library's headers for. */
#ifndef SIDESTEP_HOST_KERNEL_H
#define SIDESTEP_HOST_KERNEL_H

#define AF_INET 2
#define AF_INET6 10

#define SOCK_RAW 3
#define SOL_TCP 6

#define SECOND_NS 1000000000ULL
#define CLOCK_MONOTONIC 1

/* States of a socket (include/net/tcp_states.h). */
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define TCP_CLOSING 11
#define TCP_NEW_SYN_RECV 12

#endif
