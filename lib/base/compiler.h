/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What the compiler can be told, in one word each. */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

#include <stddef.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define CACHE_LINE 64
#define cacheline_aligned __attribute__((aligned(CACHE_LINE)))

/* Before a loop of a small constant count whose body is a few instructions. */
#ifdef __clang__
#define unrolled _Pragma("clang loop unroll(full)")
#else
#define unrolled _Pragma("GCC unroll 16")
#endif

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#endif
