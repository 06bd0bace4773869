/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/debug.h
 * Debug mode of caches: finds wrong uses of objects without a checker, in any build.
 *
 * It is chosen when a cache is made, by the attribute debug, or where that is NULL by the
 * environment variable SHEAF_DEBUG (words and examples in doc/debug.md). A cache without it pays nothing. With it,
 * objects run through slots, sheaves, barns and recyclers as ever; each call does more on its way.
 *
 * Any debug mode checks whose an object is: one freed or retired twice, or to another cache, or a
 * pointer that is no object. The wrong call then does nothing but report.
 *
 * In calls for signal handlers (_nowait, sheaf_cache_alloc_from()), and with SHEAF_NOWAIT, all is checked as well, with
 * what is safe there: backtrace(3), which has been called when the cache was made, mprotect(2) for sampled objects
 * that become free, gettid(2) once in a thread, write(2) for a report, mmap(2) and munmap(2) for its text, and
 * nothing of malloc(), stdio or the dynamic linker. So reports from there have addresses without names, and what they
 * allocate is not sampled. A report callback may be called there, too. The backend is not asked.
 *
 * fork(2): the child goes on with what the parent had. SHEAF_BUDGET and the counters are in objects
 * without what debug mode puts round them.
 */
#ifndef SHEAF_DEBUG_H
#define SHEAF_DEBUG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** Flag: free objects are filled with 0xf5, and looked at before they are used again; fresh ones with
 *  0xa5. With a constructor a sum of the contents is kept instead. Not where the backend says
 *  that free objects are looked at, nor before a retired object is ripe. */
#define SHEAF_DEBUG_POISON 1u
/** Flag: red zones of 16 bytes or more before and behind each object, which must not change. Objects keep
 *  their alignment. Not over a backend of your own, whose objects have the size that you told it. */
#define SHEAF_DEBUG_REDZONE 2u
/** Flag: what any debug mode does, and no more. */
#define SHEAF_DEBUG_OWNER 4u
/** Flag: keep the call chains of each allocation and free, not only the addresses of the calls. */
#define SHEAF_DEBUG_TRACE 8u
/** Flag: sheaf_cache_destroy() reports objects still allocated, once for all of one call chain. */
#define SHEAF_DEBUG_LEAKS 16u
/** Flag: all prefilled sheaves are strict. */
#define SHEAF_DEBUG_STRICT 32u
/** Flag: abort() after each report but that of leaks. */
#define SHEAF_DEBUG_ABORT 64u

/** Calls in a chain that are kept. */
#define SHEAF_DEBUG_FRAMES 16

/** Kinds of reports. */
enum sheaf_debug_kind {
	/** A free object was written to: while it was free, or after it was ripe. */
	SHEAF_DEBUG_WRITE_AFTER_FREE = 1,
	/** The red zone before an object was written to, and the one behind it. */
	SHEAF_DEBUG_WRITE_BEFORE,
	SHEAF_DEBUG_WRITE_BEHIND,
	/** A free object was freed, and retired. */
	SHEAF_DEBUG_DOUBLE_FREE,
	SHEAF_DEBUG_RETIRE_FREE,
	/** A retired object was freed, and retired again. */
	SHEAF_DEBUG_FREE_RETIRED,
	SHEAF_DEBUG_RETIRE_TWICE,
	/** The object is another cache's. */
	SHEAF_DEBUG_WRONG_CACHE,
	/** The pointer is no object of a cache with debug mode, or not its beginning. */
	SHEAF_DEBUG_NO_OBJECT,
	/** Two threads were in calls with one prefilled sheaf at the same time. The later one has done nothing: the
	 *  sheaf is still lent. */
	SHEAF_DEBUG_SHARED_SHEAF,
	/** More was taken from a strict prefilled sheaf than was asked for, and no callback is there. */
	SHEAF_DEBUG_OVERUSE,
	/** The backend has handed out an object that it has not got back. */
	SHEAF_DEBUG_BACKEND,
	/** Objects are still allocated, or prefilled sheaves lent (then without an object). */
	SHEAF_DEBUG_LEAK,
	/** A prefilled sheaf was used with, or returned to, another cache than the one that lent it. Nothing is done: the
	 *  sheaf is still lent. An allocation from it is told of if both caches have debug mode. */
	SHEAF_DEBUG_WRONG_SHEAF,
	/** A prefilled sheaf was used after its return, or returned again. Nothing is done. It is told of as long as the
	 *  cache has the sheaf: not if it was lent again, and by chance if its memory has been freed, as that of a
	 *  sheaf for more objects than the capacity is at once. */
	SHEAF_DEBUG_RETURNED_SHEAF
};

/** Where something was done: n addresses, the innermost first, and the thread, as gettid(2) says. */
struct sheaf_debug_trace {
	/** How many of `frames` are set. */
	uint32_t n;
	/** As gettid(2) says. */
	uint32_t thread;
	/** Return addresses, the innermost call first. Of a callback over ripe objects, which has returned: an address in
	 *  the function. */
	void *frames[SHEAF_DEBUG_FRAMES];
};

/** A wrong use, as told to a sheaf_debug_report_fn; good during the call. */
struct sheaf_debug_report {
	/** What is wrong. */
	enum sheaf_debug_kind kind;
	/** Name of the cache that was called; and of the one that the object is of, NULL if of none. Where the
	 *  backend of a cache uses another one, of that whose object the user has. Of the one that lent the sheaf, if
	 *  another did, and has debug mode. */
	const char *cache;
	const char *owner;
	/** The object, or the pointer that was given, if it is none; or the prefilled sheaf. NULL if sheaves leak. */
	const void *object;
	/** The first byte that was changed, or that the pointer points to, from the beginning of the object, and
	 *  how many bytes to the last one that was changed. */
	ptrdiff_t offset;
	size_t bytes;
	/** Objects of a leak; else 1. */
	size_t count;
	/** Where the object was last allocated, last freed or retired, and where it was found. Without
	 *  addresses if that is not known. */
	struct sheaf_debug_trace allocated;
	struct sheaf_debug_trace freed;
	struct sheaf_debug_trace here;
	/** All of it in English, in lines, as the default writes it to stderr by one write(2). Where the kernel has no
	 *  pages for it the default writes line by line, and here is the beginning. */
	const char *text;
};

/**
 * Called for each report, on the thread that found it: one that calls the cache, in a signal handler too where
 * it is in one of the calls for these, or the thread of the grace-period source, which trims and takes what is ripe.
 *
 * Of the library's locks that of a trim of this cache may be held, for which only other trims of it wait. So the
 * callback must not call this cache, nor take a lock of the program that is held round a trim, or one that
 * readers need to come to the end of their section; and it must not wait for a grace period, nor for a thread that
 * does: on the source's thread that would be for itself. The thread is not cancelled in it, and it returns.
 */
typedef void sheaf_debug_report_fn(void *arg, const struct sheaf_debug_report *report);

/** Debug mode of a cache; zero means not. */
struct sheaf_debug_attr {
	/** sizeof(struct sheaf_debug_attr); an older program has a smaller one. */
	size_t size;
	/** SHEAF_DEBUG_ flags. If these and the numbers are 0 the cache has no debug mode, whatever the
	 *  environment says, nor is it watched for a checker that is found at run time. */
	unsigned flags;
	/** Freed and ripe objects wait until so many others have been freed, oldest first; up to 2^20. */
	uint32_t quarantine;
	/** One in so many allocations has pages of its own, which it ends at, with pages that cannot be
	 *  accessed on both sides; once it is free none of it can be. Of each run of so many one, which one follows
	 *  from the seed. Not where free objects are looked at, nor with an alignment above a page. */
	uint32_t sample;
	/** Of these at most so many; default 256, up to 16384. Beyond, nothing is sampled. Each is three mappings of
	 *  the process, and of these Linux gives 65,530. */
	uint32_t guards;
	/** One in so many allocations, of objects and prefilled sheaves, fails. Which ones follows from
	 *  the seed and the number of the call; sheaf_cache_alloc_from() never does. */
	uint32_t fail;
	/** For sampling and failing; any number. */
	uint64_t seed;
	/** Called instead of writing to stderr. */
	sheaf_debug_report_fn *report;
	/** Passed to @p report. */
	void *report_arg;
};

/**
 * Write to stderr what is known of an address: the object it is in, of which cache, whether it is
 * free, who allocated and freed it. For debuggers, and for a handler of SIGSEGV, where an access to a
 * sampled object after its free ends. It maps pages for its text, and writes line by line if it gets none.
 *
 * @param address any
 *
 * Context: any, signal handlers included, on an alternate stack of 8192 bytes too. No cancellation point; errno
 *	stays. Ordering: none. Progress: wait-free but for write(2), O(objects) if no object begins at @p address.
 */
void sheaf_debug_explain(const void *address);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
