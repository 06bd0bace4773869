/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What the library does round fork(2). One set of handlers for all of it, because the order
 * counts: a level may wait for parties that need the levels after it, never the other way round.
 *
 *	FORK_GP     waits for drivers to end their period; readers who hold it up may be
 *	            in any call on a cache meanwhile, so nothing may be locked before
 *	FORK_CALLS  waits for calls into liburcu, which are short and need nothing of ours
 *	FORK_STATS  waits for an update of statistics, which wants what the next two lock
 *	FORK_CACHE  holds back remote parties; they need slabs, and no driver
 *	FORK_SLAB   locks
 *	FORK_PRESSURE  holds nothing; a child closes files, and those that were there before
 */
#ifndef BASE_FORK_H
#define BASE_FORK_H

#include <pthread.h>
#include <stdbool.h>

#if defined(__SANITIZE_THREAD__)
#define BASE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BASE_TSAN 1
#endif
#endif

#if defined(BASE_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

/* In a child of fork(2), from before its handlers are called. */
extern bool fork_is_child;

enum fork_level {
	FORK_GP,
	FORK_CALLS,
	FORK_STATS,
	FORK_CACHE,
	FORK_SLAB,
	FORK_PRESSURE,
	FORK_LEVELS
};

/* Each may be NULL. */
struct fork_handlers {
	void (*prepare)(void);
	void (*parent)(void);
	void (*child)(void);
};

/*
 * Calls fork_handle() before main(), or before dlopen(3) returns; who needs the level calls it again, for the
 * error. A level that was first set when it is needed might be set while a fork is under way, after the fork
 * has passed it: then the child would find held what the level's first user holds, and believe in its threads.
 */
#define FORK_EARLY(call)                                                                           \
	__attribute__((constructor)) static void fork_handle_early(void)                           \
	{                                                                                          \
		(void)(call);                                                                      \
	}

/*
 * Sets the handlers of a level, the same each time; from then on they are called. 0, or -ENOMEM.
 * May be called with the level's own locks held.
 */
int fork_handle(enum fork_level level, const struct fork_handlers *handlers);

/*
 * For a lock that a handler holds over the fork with as many others as the program has caches.
 * ThreadSanitizer ends a program that holds more than 64: it is told that such a lock is let go, and has it back
 * right before it is.
 */
static inline void fork_lock(pthread_mutex_t *lock)
{
	pthread_mutex_lock(lock);
#if defined(BASE_TSAN)
	__tsan_mutex_pre_unlock(lock, 0);
	__tsan_mutex_post_unlock(lock, 0);
#endif
}

static inline void fork_unlock(pthread_mutex_t *lock)
{
#if defined(BASE_TSAN)
	__tsan_mutex_pre_lock(lock, __tsan_mutex_try_lock);
	__tsan_mutex_post_lock(lock, __tsan_mutex_try_lock, 0);
#endif
	pthread_mutex_unlock(lock);
}

/* In a child, a lock that the forking thread does not hold: who did has vanished. DRD wants none made anew that is
 * not held. */
static inline void fork_free_in_child(pthread_mutex_t *lock)
{
	if (pthread_mutex_trylock(lock))
		pthread_mutex_init(lock, NULL);
	else
		pthread_mutex_unlock(lock);
}

/* In a child of a program with threads the checker does not see what is unlocked. */
static inline void fork_unlock_in_child(pthread_mutex_t *lock)
{
#if defined(BASE_TSAN)
	pthread_mutex_init(lock, NULL);
#else
	pthread_mutex_unlock(lock);
#endif
}

#endif
