/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The environment variable SHEAF_DEBUG:
 *
 *	part [; part ...]       the first part that is for a cache counts
 *	part: words [: names]   for caches of these names, else for all
 *	words: word [, word ...]
 *	names: name [, name ...], with a * at its end: all that begin so
 *
 * What is not understood is told of once for each text of the variable, and passed over.
 */
#define _GNU_SOURCE
#include "base/compiler.h"
#include "base/report.h"
#include "debug_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALL                                                                                        \
	(SHEAF_DEBUG_POISON | SHEAF_DEBUG_REDZONE | SHEAF_DEBUG_OWNER | SHEAF_DEBUG_TRACE |        \
	 SHEAF_DEBUG_LEAKS | SHEAF_DEBUG_ABORT)

static const struct {
	const char *word;
	unsigned flags;
} flags[] = {
	{"poison", SHEAF_DEBUG_POISON},
	{"redzone", SHEAF_DEBUG_REDZONE},
	{"owner", SHEAF_DEBUG_OWNER},
	{"trace", SHEAF_DEBUG_TRACE},
	{"leaks", SHEAF_DEBUG_LEAKS},
	{"strict", SHEAF_DEBUG_STRICT},
	{"abort", SHEAF_DEBUG_ABORT},
	{"all", ALL},
	{"none", 0},
};

static const struct {
	const char *word;
	size_t at;   /* in struct sheaf_debug_attr */
	size_t size; /* 8 for the seed, else 4 */
	uint64_t most;
} numbers[] = {
	{"quarantine", offsetof(struct sheaf_debug_attr, quarantine), 4, QUARANTINE_MAX},
	{"sample", offsetof(struct sheaf_debug_attr, sample), 4, UINT32_MAX},
	{"guards", offsetof(struct sheaf_debug_attr, guards), 4, GUARDS_MAX},
	{"fail", offsetof(struct sheaf_debug_attr, fail), 4, UINT32_MAX},
	{"seed", offsetof(struct sheaf_debug_attr, seed), 8, UINT64_MAX},
};

/* What a part says. */
struct words {
	struct sheaf_debug_attr attr;
	bool none;
};

static bool is_word(const char *text, size_t n, const char *word)
{
	return strlen(word) == n && !memcmp(text, word, n);
}

/* "64", and for what is one in so many "1/64" too. */
static bool read_number(const char *text, size_t n, uint64_t most, bool one_in, uint64_t *value)
{
	char digits[24], *end;

	if (one_in && n > 2 && text[0] == '1' && text[1] == '/') {
		text += 2;
		n -= 2;
	}
	if (!n || n >= sizeof(digits) || *text < '0' || *text > '9')
		return false;
	memcpy(digits, text, n);
	digits[n] = '\0';
	errno = 0;
	*value = strtoull(digits, &end, 0);
	return !*end && !errno && *value <= most;
}

static bool read_word(const char *text, size_t n, struct words *found)
{
	const char *equals = memchr(text, '=', n);
	size_t name = equals ? (size_t)(equals - text) : n, i;
	uint64_t value;

	for (i = 0; !equals && i < sizeof(flags) / sizeof(*flags); i++)
		if (is_word(text, n, flags[i].word)) {
			found->attr.flags |= flags[i].flags;
			found->none |= !flags[i].flags;
			return true;
		}
	for (i = 0; equals && i < sizeof(numbers) / sizeof(*numbers); i++) {
		void *field = (char *)&found->attr + numbers[i].at;
		bool one_in = numbers[i].at == offsetof(struct sheaf_debug_attr, fail) ||
			      numbers[i].at == offsetof(struct sheaf_debug_attr, sample);

		if (!is_word(text, name, numbers[i].word))
			continue;
		if (!read_number(equals + 1, n - name - 1, numbers[i].most, one_in, &value))
			return false;
		if (numbers[i].size == 8)
			memcpy(field, &value, 8);
		else
			memcpy(field, &(uint32_t){(uint32_t)value}, 4);
		return true;
	}
	return false;
}

static void complain(const char *text, size_t n)
{
	char line[256];
	int length =
		snprintf(line, sizeof(line),
			 "libsheaf: SHEAF_DEBUG: \"%.*s\" is not understood, and passed over\n",
			 n > 128 ? 128 : (int)n, text);

	(void)tell(line, (size_t)length);
}

/* The words from text to end. */
static void read_words(const char *text, const char *end, struct words *found, bool aloud)
{
	while (text < end) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		size_t n = (size_t)((comma ? comma : end) - text);

		if (n && !read_word(text, n, found) && aloud)
			complain(text, n);
		text += n + 1;
	}
}

/* Is name among those from text to end? */
static bool has_name(const char *text, const char *end, const char *name)
{
	while (text < end) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		size_t n = (size_t)((comma ? comma : end) - text);

		if (n && text[n - 1] == '*' ? !strncmp(name, text, n - 1) : is_word(text, n, name))
			return true;
		text += n + 1;
	}
	return false;
}

/* Is it the first time that this text is read? */
static bool is_new(const char *text)
{
	static uint64_t known;
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	while (*text)
		sum = (sum ^ (unsigned char)*text++) * UINT64_C(0x100000001b3);
	return exchange_relaxed(&known, sum) != sum;
}

struct sheaf_debug_attr debug_words(const char *name, bool *none)
{
	struct words found = {.attr = {.size = sizeof(found.attr)}};
	const char *text = secure_getenv("SHEAF_DEBUG");
	bool aloud = text && *text && is_new(text), done = false;

	while (text && *text) {
		const char *end = strchrnul(text, ';');
		const char *colon = memchr(text, ':', (size_t)(end - text));
		struct words words = {.attr = {.size = sizeof(words.attr)}};

		read_words(text, colon ? colon : end, &words, aloud);
		if (!done && (!colon || has_name(colon + 1, end, name))) {
			found = words;
			done = true;
		}
		text = *end ? end + 1 : end;
	}
	*none = found.none;
	return found.attr;
}
