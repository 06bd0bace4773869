/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Which of 15 keys equal one? In a leaf of points this is what a load does most.
 *
 * With SSE2, which every amd64 has, two keys at a time: 32 instructions where carries take 75.
 * Each key is read by one aligned 8-byte half of a load, which is as good as a relaxed load of
 * it on this machine; race checkers cannot know that, so they get the portable text.
 */
#ifndef TREE_EQUAL_H
#define TREE_EQUAL_H

#include <sheaf/gp.h>

#include "base/atomic.h"
#include "base/compiler.h"

#if defined(__SSE2__) && !defined(SHEAF_EDGES_TSAN) && !defined(SHEAF_VALGRIND)
#include <emmintrin.h>

static inline __m128i tree_equal_two(const uint64_t *keys, __m128i key)
{
	return _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)keys), key);
}

/* All ones in each of four words whose 64-bit key equals. */
static inline __m128i tree_equal_four(const uint64_t *keys, __m128i key)
{
	const __m128 a = _mm_castsi128_ps(tree_equal_two(keys, key));
	const __m128 b = _mm_castsi128_ps(tree_equal_two(keys + 2, key));

	return _mm_castps_si128(_mm_and_ps(_mm_shuffle_ps(a, b, 0x88), _mm_shuffle_ps(a, b, 0xdd)));
}

/* A bit for each of 16 words that equals; the caller masks the last one. */
static inline uint32_t tree_equal_16(const uint64_t *words, uint64_t key)
{
	const __m128i k = _mm_set1_epi64x((long long)key);
	const __m128i low =
		_mm_packs_epi32(tree_equal_four(words, k), tree_equal_four(words + 4, k));
	const __m128i high =
		_mm_packs_epi32(tree_equal_four(words + 8, k), tree_equal_four(words + 12, k));

	return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high));
}
#define TREE_EQUAL_16 1
#endif

#endif
