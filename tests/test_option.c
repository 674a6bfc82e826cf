// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The TCP option codec: what is found in a header's options, and the bytes that are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <sidestep/option.h>

#define ANY (SS_FORMS_REQUEST4 | SS_FORMS_REQUEST6 | SS_FORMS_GRANT4 | SS_FORMS_GRANT6)
#define WHOLE 99 /* cut: not at all */
#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* Options as they come by: default Linux SYN, its timestamps, and one NOP. */
#define MSS "\2\4\5\xb4"
#define SACK "\4\2"
#define TIME "\x8\xa\0\0\0\1\0\0\0\2"
#define NOP "\1"
#define EOL "\0"
#define NOP10 NOP NOP NOP NOP NOP NOP NOP NOP NOP NOP

/* The IPv4 short request, the IPv4 grant and an IPv6 request, with content. */
#define SHORT "\xfd\x8\x5d\x50\xa\x63\0\1"
#define GRANT "\xfd\xc\x5d\x58\xa\0\3\2\x1f\x90\0\0"
#define REQUEST6 "\xfd\x14\x5d\x54\1\2\3\4\5\6\x11\x12\x13\x14\x15\x16\0\x50\xc0\1"
#define TAGGED(form) "\xfd\x8\x5d" form "\1\2\3\4"

/* Bytes and their number; a string constant may hold zeros. */
#define BYTES(s) (s), sizeof(s) - 1

static const struct {
	const char *why;
	const char *bytes;
	unsigned len;
	unsigned cut; /* the header ends here, though bytes follow */
	unsigned forms;
	enum ss_opt_result result;
	unsigned off; /* where, if found */
	unsigned form; /* which, if found */
	unsigned word; /* 0: armed */
} search_rows[] = {
	{ "no options", BYTES(""), WHOLE, ANY, SS_OPT_ABSENT, 0, 0 },
	{ "alone", BYTES(SHORT), WHOLE, ANY, SS_OPT_FOUND, 0, 0 },
	{ "at the tail", BYTES(MSS SACK TIME NOP NOP SHORT), WHOLE, ANY, SS_OPT_FOUND, 18, 0 },
	{ "in the middle", BYTES(MSS GRANT SACK NOP NOP), WHOLE, ANY, SS_OPT_FOUND, 4, 8 },
	{ "IPv6, unaligned", BYTES(NOP REQUEST6), WHOLE, ANY, SS_OPT_FOUND, 1, 4 },
	{ "fills all 40 bytes", BYTES(REQUEST6 NOP10 NOP10), WHOLE, ANY, SS_OPT_FOUND, 0, 4 },
	{ "last 20 of 40 bytes", BYTES(NOP10 NOP10 REQUEST6), WHOLE, ANY, SS_OPT_FOUND, 20, 4 },
	{ "first of two", BYTES(GRANT SHORT), WHOLE, ANY, SS_OPT_FOUND, 0, 8 },
	{ "one not wanted before it", BYTES(GRANT SHORT), WHOLE, SS_FORMS_REQUEST4, SS_OPT_FOUND,
	  12, 0 },
	{ "not wanted: a grant", BYTES(GRANT), WHOLE, SS_FORMS_REQUEST4, SS_OPT_ABSENT, 0, 0 },
	{ "not wanted: a request", BYTES(SHORT), WHOLE, SS_FORMS_GRANT4, SS_OPT_ABSENT, 0, 0 },
	{ "not wanted: IPv6", BYTES(REQUEST6), WHOLE, SS_FORMS_REQUEST4, SS_OPT_ABSENT, 0, 0 },
	{ "only NOPs, 40 bytes", BYTES(NOP10 NOP10 NOP10 NOP10), WHOLE, ANY, SS_OPT_ABSENT, 0, 0 },
	{ "only EOL", BYTES(EOL), WHOLE, ANY, SS_OPT_ABSENT, 0, 0 },
	{ "behind EOL", BYTES(MSS EOL SHORT), WHOLE, ANY, SS_OPT_ABSENT, 0, 0 },
	{ "behind the header", BYTES(MSS SHORT), 4, ANY, SS_OPT_ABSENT, 0, 0 },
	{ "other ExID", BYTES("\xfd\x8\xf9\x89\1\2\3\4" SHORT), WHOLE, ANY, SS_OPT_FOUND, 8, 0 },
	{ "other ExID only", BYTES("\xfd\x8\x5d\x30\1\2\3\4"), WHOLE, ANY, SS_OPT_ABSENT, 0, 0 },
	{ "held request", BYTES(TAGGED("\x40")), WHOLE, ANY, SS_OPT_FOUND, 0, 0, SS_OPT_HELD },
	{ "held request, IPv6, short", BYTES(TAGGED("\x47")), WHOLE, ANY, SS_OPT_FOUND, 0, 7,
	  SS_OPT_HELD },
	{ "answer to a held request", BYTES(TAGGED("\x4b")), WHOLE, ANY, SS_OPT_FOUND, 0, 11,
	  SS_OPT_HELD },
	{ "the same, with repeat", BYTES(TAGGED("\x4f")), WHOLE, ANY, SS_OPT_FOUND, 0, 15,
	  SS_OPT_HELD },
	{ "held grant", BYTES("\xfd\xc\x5d\x48\xa\0\3\2\x1f\x90\0\0"), WHOLE, ANY, SS_OPT_ABSENT, 0,
	  0 },
	{ "judged request", BYTES(TAGGED("\x60")), WHOLE, ANY, SS_OPT_FOUND, 0, 0, SS_OPT_JUDGED },
	{ "judged grant", BYTES(TAGGED("\x6b")), WHOLE, ANY, SS_OPT_ABSENT, 0, 0 },
	{ "other experiment kind", BYTES("\xfe\x8\x5d\x50\1\2\3\4"), WHOLE, ANY, SS_OPT_ABSENT, 0,
	  0 },
	{ "kind 253 without ExID", BYTES("\xfd\2" NOP NOP), WHOLE, ANY, SS_OPT_ABSENT, 0, 0 },
	{ "kind 253, half an ExID", BYTES("\xfd\3\x5d" SHORT), WHOLE, ANY, SS_OPT_FOUND, 3, 0 },
	{ "inside of another option", BYTES("\x8\xa" SHORT), WHOLE, ANY, SS_OPT_ABSENT, 0, 0 },
	{ "length 0", BYTES("\x8\0" SHORT), WHOLE, ANY, SS_OPT_TOO_SHORT, 0, 0 },
	{ "length 1", BYTES("\x8\1" SHORT), WHOLE, ANY, SS_OPT_TOO_SHORT, 0, 0 },
	{ "ours, length 0", BYTES("\xfd\0\x5d\x50\1\2\3\4"), WHOLE, ANY, SS_OPT_TOO_SHORT, 0, 0 },
	{ "length byte missing", BYTES(NOP "\x8"), WHOLE, ANY, SS_OPT_NO_LENGTH, 0, 0 },
	{ "length byte behind the header", BYTES(SHORT), 1, ANY, SS_OPT_NO_LENGTH, 0, 0 },
	{ "length byte missing at 40", BYTES(NOP10 NOP10 NOP10 "\1\1\1\1\1\1\1\1\1\xfd"), WHOLE,
	  ANY, SS_OPT_NO_LENGTH, 0, 0 },
	{ "overrun by one", BYTES("\x8\xa\0\0\0\1\0\0\0"), WHOLE, ANY, SS_OPT_OVERRUN, 0, 0 },
	{ "overrun, length 255", BYTES("\x8\xff\0\0"), WHOLE, ANY, SS_OPT_OVERRUN, 0, 0 },
	{ "ours, cut by one", BYTES(SHORT), 7, ANY, SS_OPT_OVERRUN, 0, 0 },
	{ "ours, cut behind its ExID", BYTES(GRANT), 4, ANY, SS_OPT_OVERRUN, 0, 0 },
	{ "ours, length of another form", BYTES("\xfd\x8\x5d\x58\xa\0\3\2"), WHOLE, ANY,
	  SS_OPT_BAD_LENGTH, 0, 0 },
	{ "ours, one too long", BYTES("\xfd\x9\x5d\x50\1\2\3\4\5"), WHOLE, ANY, SS_OPT_BAD_LENGTH,
	  0, 0 },
	{ "ours, ExID only", BYTES("\xfd\4\x5d\x50"), WHOLE, ANY, SS_OPT_BAD_LENGTH, 0, 0 },
	{ "short IPv6 request", BYTES(TAGGED("\x56")), WHOLE, ANY, SS_OPT_FOUND, 0, 6 },
	{ "short grant", BYTES(TAGGED("\x5b")), WHOLE, SS_FORMS_GRANT4, SS_OPT_FOUND, 0, 11 },
	{ "short grant, IPv6", BYTES(TAGGED("\x5f")), WHOLE, SS_FORMS_GRANT6, SS_OPT_FOUND, 0, 15 },
};

static void search(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS(search_rows); i++) {
		struct ss_opt_cursor c = { .forms = search_rows[i].forms };
		unsigned len = search_rows[i].len;
		enum ss_opt_result result;

		memcpy(c.opts, search_rows[i].bytes, len);
		c.len = search_rows[i].cut == WHOLE ? len : search_rows[i].cut;
		result = ss_opt_walk(&c);
		if (result != search_rows[i].result)
			fail_msg("%s: result %d", search_rows[i].why, result);
		if (result != SS_OPT_FOUND)
			continue;
		if (c.off != search_rows[i].off || c.form != search_rows[i].form)
			fail_msg("%s: form %u at %u", search_rows[i].why, c.form, c.off);
		assert_int_equal(c.word, search_rows[i].word ?: SS_OPT_ARMED);
	}
}

/* DESIGN: the lengths of all forms, with retry and repeat bits. */
static const unsigned form_len[16] = { 8, 8, 16, 16, 20, 20, 8, 8, 12, 12, 20, 8, 12, 12, 20, 8 };

static void every_form_is_found(void **state)
{
	(void)state;
	for (unsigned form = 0; form < 16; form++) {
		struct ss_opt_cursor c = { .forms = 1U << form };
		struct ss_opt_head head = ss_opt_head(SS_OPT_ARMED, form);

		assert_int_equal(ss_opt_len(form), form_len[form]);
		if (!form_len[form])
			continue;
		memcpy(c.opts, MSS, 4);
		memcpy(c.opts + 4, &head, sizeof(head));
		c.len = 4 + form_len[form];
		assert_int_equal(ss_opt_walk(&c), SS_OPT_FOUND);
		assert_int_equal(c.off, 4);
		assert_int_equal(c.form, form);
	}
}

static void no_length_but_the_form_s_own(void **state)
{
	(void)state;
	for (unsigned form = 0; form < 16; form++) {
		for (unsigned len = 4; len <= SS_TCP_OPTS_MAX; len++) {
			struct ss_opt_cursor c = { .forms = 0xFFFF, .len = SS_TCP_OPTS_MAX };
			struct ss_opt_head head = ss_opt_head(SS_OPT_ARMED, form);

			head.len = len;
			memcpy(c.opts, &head, sizeof(head));
			assert_int_equal(ss_opt_walk(&c),
					 len == form_len[form] ? SS_OPT_FOUND : SS_OPT_BAD_LENGTH);
		}
	}
}

/* Sets of forms: a bit for every form in one of them; short grants are both IP versions'. */
static void sets_of_forms(void **state)
{
	(void)state;
	for (unsigned form = 0; form < 16; form++) {
		int sets = (SS_FORMS_REQUEST4 >> form & 1) + (SS_FORMS_REQUEST6 >> form & 1) +
			   (SS_FORMS_GRANT4 >> form & 1) + (SS_FORMS_GRANT6 >> form & 1);

		assert_int_equal(sets, form == SS_GRANT_SHORT ||
						       form == (SS_GRANT_SHORT | SS_GRANT_REPEAT)
					       ? 2
					       : 1);
	}
}

/* The walk stops by itself however it is driven; bytes behind 40 are never an option. */
static void walk_is_bounded(void **state)
{
	struct ss_opt_cursor c = { .forms = ANY, .len = 1000 };

	(void)state;
	memset(c.opts, 1, sizeof(c.opts));
	memcpy(c.opts + SS_TCP_OPTS_MAX, SHORT, 8);
	assert_int_equal(ss_opt_walk(&c), SS_OPT_ABSENT);
	assert_int_equal(c.off, SS_TCP_OPTS_MAX);
	assert_int_equal(ss_opt_step(0, &c), 1);
	assert_int_equal(c.off, SS_TCP_OPTS_MAX);
}

/* A search goes on from where the cursor stands: the second of two options. */
static void search_goes_on(void **state)
{
	struct ss_opt_cursor c = { .forms = ANY, .len = 20 };

	(void)state;
	memcpy(c.opts, GRANT SHORT, 20);
	assert_int_equal(ss_opt_walk(&c), SS_OPT_FOUND);
	c.off += ss_opt_len(c.form);
	assert_int_equal(ss_opt_walk(&c), SS_OPT_FOUND);
	assert_int_equal(c.off, 12);
	assert_int_equal(c.form, SS_REQUEST4_SHORT);
}

static void match_leaves_form(void **state)
{
	__u32 form = 77, word = 78;

	(void)state;
	assert_int_equal(ss_opt_match((const __u8 *)MSS, ANY, &form, &word), SS_OPT_ABSENT);
	assert_int_equal(ss_opt_match((const __u8 *)"\xfd\x9\x5d\x50", ANY, &form, &word),
			 SS_OPT_BAD_LENGTH);
	assert_int_equal(form, 77);
	assert_int_equal(word, 78);
	assert_int_equal(ss_opt_match((const __u8 *)GRANT, ANY, &form, &word), SS_OPT_FOUND);
	assert_int_equal(form, SS_GRANT4_CLASSIC);
	assert_int_equal(word, SS_OPT_ARMED);
}

#define VIP SS_BE32(0x0a630001) /* 10.99.0.1 */
#define CIP SS_BE32(0x0a000102)
#define DIP SS_BE32(0x0a000302)

static void wire_bytes(void **state)
{
	const struct ss_opt_request4_short request4_short = {
		.head = ss_opt_head(SS_OPT_HELD, SS_REQUEST4_SHORT | SS_REQUEST_RETRY),
		.vip = VIP,
	};
	const struct ss_opt_request4 request4 = {
		.head = ss_opt_head(SS_OPT_ARMED, SS_REQUEST4),
		.vip = VIP,
		.cip = CIP,
		.vport = SS_BE16(80),
		.cport = SS_BE16(0xc001),
	};
	const struct ss_opt_request6 request6 = {
		.head = ss_opt_head(SS_OPT_ARMED, SS_REQUEST6),
		.service = { SS_BE32(0x01020304), SS_BE16(0x0506) },
		.client = { SS_BE32(0x11121314), SS_BE16(0x1516) },
		.vport = SS_BE16(80),
		.cport = SS_BE16(0xc001),
	};
	const struct ss_opt_grant4 classic4 = {
		.head = ss_opt_head(SS_OPT_ARMED, SS_GRANT4_CLASSIC),
		.addr = DIP,
		.port = SS_BE16(8080),
	};
	const struct ss_opt_grant4 strict4 = {
		.head = ss_opt_head(SS_OPT_ARMED, SS_GRANT4_STRICT | SS_GRANT_REPEAT),
		.addr = VIP,
		.port = SS_BE16(80),
		.wport = SS_BE16(0x1234),
	};
	const struct ss_opt_grant6 classic6 = {
		.head = ss_opt_head(SS_OPT_ARMED, SS_GRANT6_CLASSIC),
		.addr = { SS_BE32(0xfd000099), SS_BE32(0x01020304), SS_BE32(0x05060708), VIP },
	};
	const struct ss_opt_tagged held = {
		.head = ss_opt_head(SS_OPT_HELD, SS_GRANT_SHORT | SS_GRANT_REPEAT),
		.service = SS_BE32(0x01020304),
	};

	(void)state;
	assert_memory_equal(&request4_short, "\xfd\x8\x5d\x41\xa\x63\0\1", 8);
	assert_memory_equal(&request4, "\xfd\x10\x5d\x52\xa\x63\0\1\xa\0\1\2\0\x50\xc0\1", 16);
	assert_memory_equal(&request6, REQUEST6, 20);
	assert_memory_equal(&classic4, GRANT, 12);
	assert_memory_equal(&strict4, "\xfd\xc\x5d\x5d\xa\x63\0\1\0\x50\x12\x34", 12);
	assert_memory_equal(&classic6, "\xfd\x14\x5d\x5a\xfd\0\0\x99\1\2\3\4\5\6\7\x8\xa\x63\0\1",
			    20);
	assert_memory_equal(&held, TAGGED("\x4f"), 8);
}

/* Tags: the same bytes on every host, and others for another address or another port. */
static void tags(void **state)
{
	struct ss_endpoint e = { .addr = ss_addr_v4(VIP), .port = SS_BE16(80) }, other = e;
	struct ss_tag tag = ss_tag_of(&e), another;

	(void)state;
	assert_memory_equal(&tag, "\x66\x83\x1c\xb3\x70\x64", 6);
	other.port = SS_BE16(81);
	another = ss_tag_of(&other);
	assert_false(ss_tag_equal(&tag, &another));
	assert_true(tag.first != another.first);
	for (int i = 0; i < 4; i++) {
		other = e;
		other.addr.w[i] ^= SS_BE32(1);
		another = ss_tag_of(&other);
		assert_false(ss_tag_equal(&tag, &another));
		assert_true(tag.first != another.first);
	}
	another = tag;
	another.rest ^= 1;
	assert_false(ss_tag_equal(&tag, &another));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(search),
		cmocka_unit_test(every_form_is_found),
		cmocka_unit_test(no_length_but_the_form_s_own),
		cmocka_unit_test(sets_of_forms),
		cmocka_unit_test(walk_is_bounded),
		cmocka_unit_test(search_goes_on),
		cmocka_unit_test(match_leaves_form),
		cmocka_unit_test(wire_bytes),
		cmocka_unit_test(tags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
