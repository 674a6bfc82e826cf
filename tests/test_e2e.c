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

#define IPV4 "", AF_INET, "10.99.0.1", "10.99.0.2", "10.0.21.2", "10.0.3.2"
#define IPV6 "6", AF_INET6, "fd00:99::1", "fd00:99::2", "fd00:1:21::2", "fd00:1:3::2"

static const struct family families[] = {
	{ "IPv4", IPV4, false },
	{ "IPv6", IPV6, false },
	{ "IPv4 strict", IPV4, true },
	{ "IPv6 strict", IPV6, true },
};
#define FAMILIES (sizeof(families) / sizeof(*families))

/* With which of them a case runs: the first, all, or those with these replies or this version. */
enum which_families { ONCE, ALL, CLASSIC, STRICT, ONLY_IPV4 };

static const struct e2e_case {
	const char *name;
	const char *text;
	enum which_families families;
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
} prepared[FAMILIES * CASES];

static bool dirty; /* a case has not come to its end */
static bool strict; /* how the servers reply now */

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
	config_begin(strict);
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
	const struct prepared *p = *state;

	if (!dirty && p->family->strict == strict)
		return 0;
	strict = p->family->strict;
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
	expect_none_open();
	assert_int_equal(checksum_errors(), 0);
	dirty = false;
}

static bool runs_with(const struct e2e_case *which, const struct family *family)
{
	switch (which->families) {
	case ONCE:
		return family == families;
	case CLASSIC:
		return !family->strict;
	case STRICT:
		return family->strict;
	case ONLY_IPV4:
		return family->af == AF_INET;
	default:
		return true;
	}
}

static struct CMUnitTest prepare(struct prepared *p, const struct e2e_case *which,
				 const struct family *family)
{
	bool once = which->families == ONCE;

	p->which = which;
	p->family = family;
	snprintf(p->name, sizeof(p->name), "%s%s%s: %s", which->name, once ? "" : " ",
		 once ? "" : family->name, which->text);
	return (struct CMUnitTest){ p->name, case_run, case_setup, NULL, p };
}

/* Classic replies first, so that the programs are loaded anew but once in between. */
int main(int argc, char **argv)
{
	static struct CMUnitTest tests[FAMILIES * CASES];
	size_t n = 0;

	if (geteuid()) {
		fprintf(stderr, "%s: root is needed\n", argv[0]);
		return 2;
	}
	for (int turn = 0; turn < 2; turn++)
		for (size_t i = 0; i < CASES * FAMILIES; i++) {
			const struct e2e_case *which = &cases[i / FAMILIES];
			const struct family *family = &families[i % FAMILIES];

			if (family->strict != turn || !runs_with(which, family))
				continue;
			tests[n] = prepare(&prepared[n], which, family);
			n++;
		}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return _cmocka_run_group_tests("end to end", tests, n, group_setup, group_teardown);
}
