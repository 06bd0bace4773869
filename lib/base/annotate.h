/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What race and memory checkers are told. Nothing at all in a plain build.
 *
 * Objects in a sheaf count as free: with ASan they are poisoned, under Memcheck
 * (option -Dmemcheck=true) they are not accessible. The backend gets them back as
 * it handed them out. TSan sees the library's own atomics and needs only the one
 * edge that liburcu's assembly hides (see sheaf_gp_read_unlock()).
 */
#ifndef BASE_ANNOTATE_H
#define BASE_ANNOTATE_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define BASE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BASE_ASAN 1
#endif
#endif

#if defined(BASE_ASAN)
#include <sanitizer/asan_interface.h>
static inline void annotate_free(void *object, size_t size)
{
	ASAN_POISON_MEMORY_REGION(object, size);
}
static inline void annotate_alloc(void *object, size_t size)
{
	ASAN_UNPOISON_MEMORY_REGION(object, size);
}
static inline void annotate_read(void *object, size_t size)
{
	ASAN_UNPOISON_MEMORY_REGION(object, size);
}
#elif defined(SHEAF_MEMCHECK)
#include <valgrind/memcheck.h>
static inline void annotate_free(void *object, size_t size)
{
	(void)VALGRIND_MAKE_MEM_NOACCESS(object, size);
}
static inline void annotate_alloc(void *object, size_t size)
{
	(void)VALGRIND_MAKE_MEM_UNDEFINED(object, size);
}
/* What was written to a free object before is read again. */
static inline void annotate_read(void *object, size_t size)
{
	(void)VALGRIND_MAKE_MEM_DEFINED(object, size);
}
#else
static inline void annotate_free(void *object, size_t size)
{
	(void)object;
	(void)size;
}
static inline void annotate_alloc(void *object, size_t size)
{
	(void)object;
	(void)size;
}
static inline void annotate_read(void *object, size_t size)
{
	(void)object;
	(void)size;
}
#endif

#if defined(__SANITIZE_THREAD__)
#define BASE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BASE_TSAN 1
#endif
#endif

#ifdef BASE_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define annotate_tsan_acquire(p) __tsan_acquire(p)
#define annotate_tsan_release(p) __tsan_release(p)
#else
#define annotate_tsan_acquire(p) ((void)(p))
#define annotate_tsan_release(p) ((void)(p))
#endif

#endif
