// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hex.h"

#define KEY_DIGITS 32

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

int report_key_load(const char *path, struct ss_sip_key *out, struct error *err)
{
	char text[KEY_DIGITS + 4] = {};
	FILE *file = fopen(path, "re");
	struct stat st = {};
	int ret;

	if (!file)
		return error_set(err, -errno, "%s: cannot open: %s", path, strerror(errno));
	if (fstat(fileno(file), &st) || (st.st_uid && st.st_uid != geteuid()))
		ret = error_set(err, -EPERM, "%s: the key's owner is user %u; run: chown root %s",
				path, st.st_uid, path);
	else if (st.st_mode & 077)
		ret = error_set(err, -EPERM,
				"%s: others than its owner may read the key; run: chmod 600 %s",
				path, path);
	else if (fread(text, 1, sizeof(text) - 1, file) < KEY_DIGITS || key_parse(text, out))
		ret = error_set(
			err, -EINVAL,
			"%s: not a key; expected 32 hexadecimal digits, as made by: openssl "
			"rand -hex 16",
			path);
	else
		ret = 0;
	(void)fclose(file);
	return ret;
}
