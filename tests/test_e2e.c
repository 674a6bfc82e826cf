// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * End to end: real programs, real kernels' TCP, in the namespaces of netns-testbed/testbed.
 *
 * The testbed is built once and torn down at the end; a case that fails has it built anew for the
 * next. Run as root from the top folder; an argument selects cases by a shell pattern, such as
 * '*IPv6' or 'bulk*'. The tests own the testbed while they run.
 */
#include <stdlib.h>
#include <sys/socket.h>

#include "e2e/capture.h"
#include "e2e/cases.h"
#include "e2e/hosts.h"
#include "e2e/programs.h"

static const struct family families[] = {
	{ "IPv4", "", AF_INET, "10.99.0.1", "10.99.0.2", "10.0.21.2", "10.0.3.2" },
	{ "IPv6", "6", AF_INET6, "fd00:99::1", "fd00:99::2", "fd00:1:21::2", "fd00:1:3::2" },
};

enum { ONCE = 1, BOTH = 2 };

static const struct e2e_case {
	const char *name;
	const char *text;
	int families;
	void (*run)(const struct family *family);
} cases[] = {
#define ROW(name, text, families) { #name, text, families, case_##name },
	E2E_CASES(ROW)
#undef ROW
};
#define CASES (sizeof(cases) / sizeof(*cases))

static struct prepared {
	char name[128];
	const struct e2e_case *which;
	const struct family *family;
} prepared[2 * CASES];

static bool dirty; /* a case has not come to its end */

static void everything_down(void)
{
	capture_end();
	config_end();
	hosts_end();
}

static int everything_up(void)
{
	if (hosts_begin())
		return -1;
	config_begin();
	programs_load();
	capture_begin();
	dirty = false;
	return 0;
}

static int group_setup(void **state)
{
	(void)state;
	return everything_up();
}

static int group_teardown(void **state)
{
	(void)state;
	everything_down();
	return 0;
}

static int case_setup(void **state)
{
	(void)state;
	if (!dirty)
		return 0;
	netns_enter(NULL);
	everything_down();
	return everything_up();
}

static void case_run(void **state)
{
	const struct prepared *p = *state;

	dirty = true;
	counters_mark();
	capture_clear();
	p->which->run(p->family);
	assert_int_equal(children_kill(), 0);
	expect_no_errors();
	assert_int_equal(checksum_errors(), 0);
	dirty = false;
}

int main(int argc, char **argv)
{
	static struct CMUnitTest tests[2 * CASES];
	size_t n = 0;

	if (geteuid()) {
		fprintf(stderr, "%s: root is needed\n", argv[0]);
		return 2;
	}
	for (size_t i = 0; i < CASES; i++) {
		for (int j = 0; j < cases[i].families; j++) {
			struct prepared *p = &prepared[n];

			p->which = &cases[i];
			p->family = &families[j];
			snprintf(p->name, sizeof(p->name), "%s%s%s: %s", cases[i].name,
				 cases[i].families == BOTH ? " " : "",
				 cases[i].families == BOTH ? families[j].name : "", cases[i].text);
			tests[n++] = (struct CMUnitTest){ p->name, case_run, case_setup, NULL, p };
		}
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return _cmocka_run_group_tests("end to end", tests, n, group_setup, group_teardown);
}
