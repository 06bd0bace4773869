/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Contents of a block that tell one block from another. */
#ifndef TESTS_CK_MALLOC_PATTERN_H
#define TESTS_CK_MALLOC_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

static inline unsigned char byte_of(unsigned mark, size_t i)
{
	return (unsigned char)(mark * 37 + i + (i >> 8));
}

static inline void fill(unsigned char *block, size_t bytes, unsigned mark)
{
	for (size_t i = 0; i < bytes; i++)
		block[i] = byte_of(mark, i);
}

static inline bool filled(const unsigned char *block, size_t bytes, unsigned mark)
{
	for (size_t i = 0; i < bytes; i++)
		if (block[i] != byte_of(mark, i))
			return false;
	return true;
}

#endif
