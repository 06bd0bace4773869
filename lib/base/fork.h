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
 */
#ifndef BASE_FORK_H
#define BASE_FORK_H

enum fork_level { FORK_GP, FORK_CALLS, FORK_STATS, FORK_CACHE, FORK_SLAB, FORK_LEVELS };

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

#endif
