/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What fuzz targets share. A target is one function that plays some bytes as a sequence of
 * calls and aborts if anything is not as it must be. It is linked with libFuzzer, which
 * has a main() of its own (-Dfuzz=true), or with main.c, which replays files.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Play an input; always returns 0. libFuzzer gives it its name. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of a target: how many kinds of calls there are, and a bit for each that an input has asked for. */
extern const unsigned fuzz_kinds;
extern uint64_t fuzz_played;

/* Says where, and aborts: both libFuzzer and AFL++ take that for a find. */
#define fuzz_check(cond)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);         \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* Bytes not played yet. Past the end there are zeros. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t fuzz_byte(struct fuzz_input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

/* A number of so many bytes, the lowest one first. */
static inline uint64_t fuzz_number(struct fuzz_input *in, unsigned bytes)
{
	uint64_t number = 0;
	unsigned i;

	for (i = 0; i < bytes; i++)
		number |= (uint64_t)fuzz_byte(in) << (8 * i);
	return number;
}

/* What comes next: by a byte one of the first `most` kinds, or by this byte and another one a kind behind those. So
 * kinds can be added, and inputs that do not have this byte in such a place stay what they are. */
#define FUZZ_MORE 0xff

static inline unsigned fuzz_kind(struct fuzz_input *in, unsigned most)
{
	const uint8_t byte = fuzz_byte(in);
	unsigned kind = byte % most;

	if (byte == FUZZ_MORE && fuzz_kinds > most)
		kind = most + fuzz_byte(in) % (fuzz_kinds - most);
	fuzz_played |= UINT64_C(1) << kind;
	return kind;
}

#endif
