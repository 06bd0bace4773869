/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What memory checkers are told. Nothing at all in a plain build, but to LeakSanitizer, which may come with the program.
 *
 * Objects in a sheaf count as free. With ASan they are poisoned. For Memcheck (option
 * -Dvalgrind=true) each cache is a pool: an object is a block of it from the moment it is handed
 * out until it is free again, so that a report says where the block was allocated and freed, a
 * second free and one to another cache are invalid, and what is not freed is a leak. Between a
 * backend and a cache objects are plain memory, open to the backend and shut in the cache.
 *
 *	backend --open--> cache --object_out--> caller
 *	        <--open--  shut <--object_in---
 *
 * What was retired stays a block while it ripens, because readers may look at it; it is freed
 * when somebody takes its sheaf from the recycler.
 *
 * In a checker build objects of the library's own backends have a red zone behind them, which is
 * never open.
 *
 * Race checkers are told by <sheaf/edges.h>: the library's atomics are edges, liburcu's are named.
 */
#ifndef BASE_ANNOTATE_H
#define BASE_ANNOTATE_H

#include <stdbool.h>
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
#define ANNOTATE_ASAN 1
#define ANNOTATE_MEMCHECK 0
#elif defined(SHEAF_VALGRIND)
#define ANNOTATE_ASAN 0
#define ANNOTATE_MEMCHECK 1
#else
#define ANNOTATE_ASAN 0
#define ANNOTATE_MEMCHECK 0
#endif

/* Bytes behind an object that are nobody's, where there is a checker to see to it. */
#define RED_ZONE 16
#define ANNOTATE_RED_ZONE (ANNOTATE_ASAN || ANNOTATE_MEMCHECK ? RED_ZONE : 0)

/* Weak: see above. */
#ifdef HAVE_LSAN
#include <sanitizer/lsan_interface.h>
#pragma weak __lsan_register_root_region
#pragma weak __lsan_unregister_root_region
#endif

/* Pages have objects of users, where LeakSanitizer should look for pointers; and have them no more, before they are
 * unmapped. It takes a lock: not in signal handlers. */
static inline void annotate_root(const void *mem, size_t bytes)
{
#ifdef HAVE_LSAN
	if (__lsan_register_root_region)
		__lsan_register_root_region(mem, bytes);
#else
	(void)mem;
	(void)bytes;
#endif
}

static inline void annotate_unroot(const void *mem, size_t bytes)
{
#ifdef HAVE_LSAN
	if (__lsan_unregister_root_region)
		__lsan_unregister_root_region(mem, bytes);
#else
	(void)mem;
	(void)bytes;
#endif
}

/*
 * Memcheck's requests. They are code, of some instructions: for builds for it, and for who has found
 * that it runs (watch.c). Without its header nobody finds that.
 */
#if defined(HAVE_VALGRIND) || defined(SHEAF_VALGRIND)
#include <valgrind/memcheck.h>
static inline bool memcheck_may_run(void)
{
	return RUNNING_ON_VALGRIND != 0;
}

static inline void memcheck_shut(void *memory, size_t size)
{
	(void)VALGRIND_MAKE_MEM_NOACCESS(memory, size);
}

static inline void memcheck_open(void *memory, size_t size)
{
	(void)VALGRIND_MAKE_MEM_UNDEFINED(memory, size);
}

static inline void memcheck_open_filled(void *memory, size_t size)
{
	(void)VALGRIND_MAKE_MEM_DEFINED(memory, size);
}

static inline void memcheck_pool_begin(const void *pool, bool filled)
{
	VALGRIND_CREATE_MEMPOOL(pool, 0, filled);
}

static inline void memcheck_pool_end(const void *pool)
{
	VALGRIND_DESTROY_MEMPOOL(pool);
}

static inline void memcheck_out(const void *pool, void *object, size_t size)
{
	VALGRIND_MEMPOOL_ALLOC(pool, object, size);
}

static inline void memcheck_in(const void *pool, void *object)
{
	VALGRIND_MEMPOOL_FREE(pool, object);
}

static inline void memcheck_touch(const void *object)
{
	(void)VALGRIND_CHECK_MEM_IS_ADDRESSABLE(object, 1);
}
#else
static inline bool memcheck_may_run(void)
{
	return false;
}

static inline void memcheck_shut(void *memory, size_t size)
{
	(void)memory;
	(void)size;
}

static inline void memcheck_open(void *memory, size_t size)
{
	(void)memory;
	(void)size;
}

static inline void memcheck_open_filled(void *memory, size_t size)
{
	(void)memory;
	(void)size;
}

static inline void memcheck_pool_begin(const void *pool, bool filled)
{
	(void)pool;
	(void)filled;
}

static inline void memcheck_pool_end(const void *pool)
{
	(void)pool;
}

static inline void memcheck_out(const void *pool, void *object, size_t size)
{
	(void)pool;
	(void)object;
	(void)size;
}

static inline void memcheck_in(const void *pool, void *object)
{
	(void)pool;
	(void)object;
}

static inline void memcheck_touch(const void *object)
{
	(void)object;
}
#endif

/* Memory is shut, or open to who has it next: with contents undefined, or as they were. */
static inline void annotate_shut(void *memory, size_t size)
{
#if ANNOTATE_ASAN
	ASAN_POISON_MEMORY_REGION(memory, size);
#endif
	if (ANNOTATE_MEMCHECK)
		memcheck_shut(memory, size);
	(void)memory;
	(void)size;
}

static inline void annotate_open(void *memory, size_t size)
{
#if ANNOTATE_ASAN
	ASAN_UNPOISON_MEMORY_REGION(memory, size);
#endif
	if (ANNOTATE_MEMCHECK)
		memcheck_open(memory, size);
	(void)memory;
	(void)size;
}

static inline void annotate_open_filled(void *memory, size_t size)
{
	if (ANNOTATE_MEMCHECK)
		memcheck_open_filled(memory, size);
	else
		annotate_open(memory, size);
}

/* An object that is free already is reported here, with ASan by reading it. */
static inline void annotate_touch(const void *object)
{
#if ANNOTATE_ASAN
	(void)__atomic_load_n((const char *)object, __ATOMIC_RELAXED);
#endif
	if (ANNOTATE_MEMCHECK)
		memcheck_touch(object);
	(void)object;
}

/* A pool goes by its address; filled: objects have contents when they are handed out. */
static inline void annotate_pool_begin(const void *pool, bool filled)
{
	if (ANNOTATE_MEMCHECK)
		memcheck_pool_begin(pool, filled);
}

/* All blocks are back. */
static inline void annotate_pool_end(const void *pool)
{
	if (ANNOTATE_MEMCHECK)
		memcheck_pool_end(pool);
}

static inline void annotate_object_out(const void *pool, void *object, size_t size)
{
	if (ANNOTATE_MEMCHECK)
		memcheck_out(pool, object, size);
	else
		annotate_open(object, size);
}

/* A second time is reported here, and for Memcheck one to another pool. */
static inline void annotate_object_in(const void *pool, void *object, size_t size)
{
	if (ANNOTATE_MEMCHECK) {
		memcheck_in(pool, object);
	} else {
		annotate_touch(object);
		annotate_shut(object, size);
	}
}

#endif
