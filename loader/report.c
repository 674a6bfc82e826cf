// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "hex.h"

#define KEY_DIGITS 32
#define LINE_LEN 128 /* of a key with its address; longer ones are not right */

uint32_t report_finish(struct report_buf *buf, const struct ss_addr *from, unsigned entries,
		       uint64_t time, unsigned interval, const struct ss_sip_key *key)
{
	uint32_t len = ss_report_len(entries);
	struct ss_sip sip = ss_sip_begin(key);

	buf->report.magic = SS_REPORT_MAGIC;
	buf->report.entries = SS_BE16(entries);
	buf->report.interval = SS_BE16(interval);
	buf->report.time = SS_BE64(time);
	buf->report.from = *from;
	for (uint32_t i = 1; i < len / 8; i++)
		ss_sip_word(&sip, buf->words[i]);
	buf->report.mac = ss_sip_le64(ss_sip_end(&sip, len - 8));
	return len;
}

static int key_parse(const char *text, struct ss_sip_key *out)
{
	union {
		uint8_t bytes[KEY_DIGITS / 2];
		uint64_t words[KEY_DIGITS / 16];
	} key;

	if (hex_parse(text, key.bytes, sizeof(key.bytes)) != sizeof(key.bytes) ||
	    text[KEY_DIGITS + strspn(text + KEY_DIGITS, "\r\n")])
		return -EINVAL;
	for (size_t i = 0; i < KEY_DIGITS / 16; i++)
		out->k[i] = ss_sip_le64(key.words[i]);
	return 0;
}

char *report_key_format(const struct ss_sip_key *key, char *buf)
{
	uint64_t words[] = { ss_sip_le64(key->k[0]), ss_sip_le64(key->k[1]) };

	return hex_format((const uint8_t *)words, sizeof(words), buf);
}

/* Opens the file of keys @path. Returns NULL with @err set if it cannot be read, or by too many. */
static FILE *key_file_open(const char *path, struct error *err)
{
	FILE *file = fopen(path, "re");
	struct stat st = {};

	if (!file) {
		error_set(err, -errno, "%s: cannot open: %s", path, strerror(errno));
		return NULL;
	}
	if (fstat(fileno(file), &st) || (st.st_uid && st.st_uid != geteuid()))
		error_set(err, -EPERM, "%s: the key's owner is user %u; run: chown root %s", path,
			  st.st_uid, path);
	else if (st.st_mode & 077)
		error_set(err, -EPERM,
			  "%s: others than its owner may read the key; run: chmod 600 %s", path,
			  path);
	else
		return file;
	(void)fclose(file);
	return NULL;
}

int report_key_load(const char *path, struct ss_sip_key *out, struct error *err)
{
	char text[KEY_DIGITS + 4] = {};
	FILE *file = key_file_open(path, err);
	int ret = 0;

	if (!file)
		return -EPERM;
	if (fread(text, 1, sizeof(text) - 1, file) < KEY_DIGITS || key_parse(text, out))
		ret = error_set(
			err, -EINVAL,
			"%s: not a key; expected 32 hexadecimal digits, as made by: openssl "
			"rand -hex 16",
			path);
	(void)fclose(file);
	return ret;
}

/* Reads "ADDRESS KEY". Returns 0 or -EINVAL. */
static int line_parse(char *line, struct report_key *out)
{
	size_t address = strcspn(line, " ");

	if (!line[address])
		return -EINVAL;
	line[address] = 0;
	return address_parse(line, &out->from) || key_parse(line + address + 1, &out->key) ? -EINVAL
											   : 0;
}

/* Appends the line's key to the *@n at *@keys. Returns 0 or a negative errno. */
static int line_add(char *line, struct report_key **keys, int *n)
{
	struct report_key key, *grown;

	if (line_parse(line, &key))
		return -EINVAL;
	grown = realloc(*keys, (*n + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	*keys = grown;
	grown[(*n)++] = key;
	return 0;
}

int report_keys_load(const char *path, struct report_key **out, struct error *err)
{
	FILE *file = key_file_open(path, err);
	struct report_key *keys = NULL;
	char line[LINE_LEN];
	int n = 0, ret = 0;

	if (!file)
		return -EPERM;
	while (!ret && fgets(line, sizeof(line), file))
		ret = line_add(line, &keys, &n);
	(void)fclose(file);
	if (!ret && n) {
		*out = keys;
		return n;
	}
	free(keys);
	return error_set(
		err, -EINVAL,
		"%s: line %d: expected an address and its key, as printed on a balancer by: "
		"sidestep report-key MASTERFILE ADDRESS",
		path, n + 1);
}
