// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Invariant I2: what happens to the balancer does not touch connections that have met it. */
#include "cases.h"

#include "programs.h"

static void balancer_link_down(void)
{
	must("lb", "ip link set eth0 down");
}

/* The kernel forgot the routes with the link. Whether the other side has noticed, pings tell. */
static void balancer_link_up(void)
{
	must("lb", "ip link set eth0 up && ip route replace default via 10.0.2.1 && "
		   "ip -6 route replace ::/0 via fd00:1:2::1");
	must("r", "ping -q -i 0.2 -c 1 -w 5 10.0.2.2 && ping -q -i 0.2 -c 1 -w 5 fd00:1:2::2");
}

static void backend_remove(const struct family *family)
{
	must("lb",
	     "sidestep balancer backend drain one%s s1 && "
	     "sidestep balancer backend remove one%s s1",
	     family->suffix, family->suffix);
}

static void backend_add(const struct family *family)
{
	if (family->af == AF_INET)
		must("lb", "sidestep balancer backend add one s1 10.0.3.2:8081");
	else
		must("lb", "sidestep balancer backend add one6 s1 '[fd00:1:3::2]:81'");
}

void case_balancer_stops(const struct family *family)
{
	struct talk *talk = stream_begin(family);

	balancer_unload();
	stream_survives(talk);
	balancer_load();
	talk_one(family, echo_client, echo_server);
	expect_direct(2);
}

void case_balancer_lost(const struct family *family)
{
	struct talk *talk = stream_begin(family);

	balancer_link_down();
	stream_survives(talk);
	balancer_link_up();
	talk_one(family, echo_client, echo_server);
	expect_direct(2);
}

void case_backend_removed(const struct family *family)
{
	struct talk *talk = stream_begin(family);

	backend_remove(family);
	stream_survives(talk);
	backend_add(family);
	talk_one(family, echo_client, echo_server);
	expect_direct(2);
}
