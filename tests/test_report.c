// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Reports of a host's load: their key, their MAC, their bytes on the wire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "address.h"
#include "report.h"

/* The key of the algorithm's test vectors: bytes 0 to 15. */
static const struct ss_sip_key vector_key = { { 0x0706050403020100, 0x0f0e0d0c0b0a0908 } };

/* The authors' test vectors, for bytes 0, 1, 2, ...; those of whole words. */
static void siphash_vectors(void **state)
{
	static const struct {
		unsigned len;
		uint64_t hash;
	} vectors[] = {
		{ 0, 0x726fdb47dd0e0e31 },  { 8, 0x93f5f5799a932462 },	{ 16, 0x3f2acc7f57c29bdb },
		{ 24, 0xb8ad50c6f649af94 }, { 32, 0x7127512f72f27cce }, { 56, 0xb78dbfaf3a8d83bd },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
		struct ss_sip sip = ss_sip_begin(&vector_key);
		uint8_t message[64];
		uint64_t word;

		for (unsigned n = 0; n < sizeof(message); n++)
			message[n] = n;
		for (unsigned n = 0; n < vectors[i].len; n += 8) {
			memcpy(&word, message + n, 8);
			ss_sip_word(&sip, word);
		}
		assert_true(ss_sip_end(&sip, vectors[i].len) == vectors[i].hash);
	}
}

static void bytes_on_the_wire(void **state)
{
	static const uint8_t expected[72] = "\0\0\0\0\0\0\0\0" /* the MAC is checked apart */
					    "\x5d\x5d\0\2"
					    "\0\1"
					    "\3\xe8"
					    "\1\2\3\4\5\6\7\x8"
					    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xa\0\3\2"
					    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xa\x63\0\1"
					    "\0\x50\0\0"
					    "\x1f\x90\0\0"
					    "\0\0\0\x7b"
					    "\0\0\0";
	struct report_buf buf = {};
	struct ss_endpoint from;
	struct ss_sip sip = ss_sip_begin(&vector_key);

	(void)state;
	assert_int_equal(endpoint_parse("10.0.3.2:1", &from), 0);
	assert_int_equal(endpoint_parse("10.99.0.1:80", &buf.report.entry[0].vip), 0);
	buf.report.entry[0].listen = SS_BE16(8080);
	buf.report.entry[0].open = SS_BE32(123);
	assert_int_equal(report_finish(&buf, &from.addr, 1, 0x0102030405060708, 1000, &vector_key),
			 sizeof(expected));
	assert_memory_equal((uint8_t *)&buf + 8, expected + 8, sizeof(expected) - 8);
	for (unsigned i = 1; i < sizeof(expected) / 8; i++)
		ss_sip_word(&sip, buf.words[i]);
	assert_true(ss_sip_le64(buf.report.mac) == ss_sip_end(&sip, sizeof(expected) - 8));
}

/* --- the key's file ---------------------------------------------------------------------------- */

static const char *key_file(const char *text, mode_t mode)
{
	static char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/tmp/sidestep-key-%d", getpid());
	file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

#define DIGITS "000102030405060708090a0B0c0D0e0f"

static void keys(void **state)
{
	static const char *const good[] = { DIGITS, DIGITS "\n", DIGITS "\r\n" };
	static const char *const bad[] = { "",
					   "\n",
					   "000102030405060708090a0b0c0d0e0",
					   DIGITS "0",
					   DIGITS "\n1",
					   "000102030405060708090a0b0c0d0e0g",
					   " 00102030405060708090a0b0c0d0e0f" };
	struct ss_sip_key key;
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		memset(&key, 0, sizeof(key));
		assert_int_equal(report_key_load(key_file(good[i], 0600), &key, &err), 0);
		assert_memory_equal(&key, &vector_key, sizeof(key));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_true(report_key_load(key_file(bad[i], 0400), &key, &err) < 0);
		assert_non_null(strstr(err.text, "expected 32 hexadecimal digits"));
	}
	assert_true(report_key_load(key_file(DIGITS, 0640), &key, &err) < 0);
	assert_non_null(strstr(err.text, "chmod 600"));
	if (!geteuid()) {
		const char *path = key_file(DIGITS, 0600);

		assert_int_equal(chown(path, 65534, 65534), 0);
		assert_true(report_key_load(path, &key, &err) < 0);
		assert_non_null(strstr(err.text, "chown root"));
	}
	unlink(key_file("", 0600));
	assert_true(report_key_load("/nonexistent/key", &key, &err) < 0);
}

/* What "sidestep report-key" prints; computed with another SipHash. */
#define LINE4 "10.0.3.1 66c235e93cf660022b5542f3ace74469\n"
#define LINE6 "fd00:3::1 7c32b193c88d4364c9821467335b4321\n"

/* Each sender's key is made from the master key and its address. */
static void senders_keys(void **state)
{
	static const char *const bad[] = { "",
					   DIGITS "\n",
					   "10.0.3.1\n",
					   "10.0.3.1 \n",
					   LINE4 "\n",
					   LINE4 "10.0.3 " DIGITS "\n",
					   LINE4 "10.0.3.2 " DIGITS "0\n" };
	char text[REPORT_KEY_TEXT_LEN], address[ADDRESS_TEXT_LEN], line[128], lines[256] = "";
	struct report_key *keys = NULL;
	struct error err;

	(void)state;
	assert_int_equal(report_keys_load(key_file(LINE4 LINE6, 0600), &keys, &err), 2);
	for (int i = 0; i < 2; i++) {
		struct ss_sip_key key = ss_report_key(&vector_key, &keys[i].from);

		assert_memory_equal(&key, &keys[i].key, sizeof(key));
		snprintf(line, sizeof(line), "%s %s\n", address_format(&keys[i].from, address),
			 report_key_format(&key, text));
		strcat(lines, line);
	}
	assert_string_equal(lines, LINE4 LINE6);
	free(keys);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_true(report_keys_load(key_file(bad[i], 0600), &keys, &err) < 0);
		assert_non_null(
			strstr(err.text, i < 4 ? "line 1: expected an address and its key"
					       : "line 2: expected an address and its key"));
	}
	assert_true(report_keys_load(key_file(LINE4, 0640), &keys, &err) < 0);
	assert_non_null(strstr(err.text, "chmod 600"));
	unlink(key_file("", 0600));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(siphash_vectors),
		cmocka_unit_test(bytes_on_the_wire),
		cmocka_unit_test(keys),
		cmocka_unit_test(senders_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
