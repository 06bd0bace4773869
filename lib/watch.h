/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A watched cache tells what becomes of each object, in any build, to whoever wants to know:
 * annotations for a checker that is found at run time, and debug mode (debug_state.h).
 *
 *	backend -- came --> free -- out --> the user's -- in --> free -- gone --> backend
 *	                                        |                 ^
 *	                                        +-- retired --> ripe
 *
 * A cache is watched from create to destroy, or not at all: cache->watch says so. Fast paths do not
 * look at it. They find the gate of the cache shut (cache_state.h), so that each call takes its
 * slow path, which asks for it. Objects run through slots, sheaves, barns and recyclers as in
 * any other cache. A cache that is not watched pays nothing.
 *
 * Inside the cache, in sheaves and for the backend, there are blocks; the user has objects. The
 * functions below turn one into the other where they change hands.
 */
#ifndef WATCH_H
#define WATCH_H

#include "cache_state.h"

struct debug;

struct watch {
	/* A checker that was found at run time. */
	bool checker;
	/* NULL without debug mode. */
	struct debug *debug;
};

/* Watches a new cache if there is a reason to, and says how large its blocks are; 0, -EINVAL or
 * -ENOMEM. Before it has a backend. */
int watch_create(struct sheaf_cache *cache, const struct sheaf_cache_attr *a);
void watch_destroy(struct sheaf_cache *cache);

/* The cache has its id: sheaves that it lends say so. */
void watch_numbered(struct sheaf_cache *cache);

/* A free block is the user's from here on: his object. caller is where the user called us; with
 * nowait set it was in any context, or with SHEAF_NOWAIT: nothing is asked of malloc(), the dynamic linker or the
 * backend, and nothing is mapped but the text of a report. */
void *watch_out(struct sheaf_cache *cache, void *block, const void *caller, bool nowait);

/* An object comes back from the user, to be free at once, or when it is ripe: its block. NULL: it stays
 * where it is, because the call was wrong, or for a while. */
void *watch_in(struct sheaf_cache *cache, void *object, const void *caller, bool nowait);
void *watch_retired(struct sheaf_cache *cache, void *object, const void *caller, bool nowait);

/* Ripe blocks of a sheaf are free, after the callback of the cache; those left in it afterwards are
 * for use. Round the callback: show makes objects of blocks, hide blocks of objects. */
void watch_ripe(struct sheaf_cache *cache, struct sheaf *sheaf, bool nowait);
void watch_show(struct sheaf_cache *cache, struct sheaf *sheaf);
void watch_hide(struct sheaf_cache *cache, struct sheaf *sheaf);

/* Blocks that the backend has given, the constructor included; and that it is about to get. */
size_t watch_came(struct sheaf_cache *cache, size_t n, void **blocks);
void watch_gone(struct sheaf_cache *cache, size_t n, void *const *blocks);

/* Free blocks that are held back: at most n, and all, to the backend. Returns how many. */
size_t watch_release(struct sheaf_cache *cache, size_t n, void **blocks);
size_t watch_drain(struct sheaf_cache *cache);

/* Is an allocation to fail? *part, if not NULL: of so many, how many may come. */
bool watch_refuses(struct sheaf_cache *cache, size_t *part);

/* A sheaf that the cache has not lent is about to be used: true after a report, without debug mode false. */
bool watch_sheaf_wrong(struct sheaf_cache *cache, enum sheaf_debug_kind kind,
		       const struct sheaf *sheaf, const void *caller, bool nowait);

/* Somebody is about to use a lent sheaf: true if somebody else is, after a report; then its link is not ours to
 * write, and it must not be chained by it. Else leave it. */
bool watch_sheaf_busy(struct sheaf_cache *cache, struct sheaf *sheaf, const void *caller,
		      bool nowait);
void watch_sheaf_leave(struct sheaf_cache *cache, struct sheaf *sheaf);

/* Are all lent sheaves strict? Was too much taken from one: true if it was reported. */
bool watch_strict(const struct sheaf_cache *cache);
bool watch_overuse(struct sheaf_cache *cache, const struct sheaf *sheaf, const void *caller);

/* Objects and lent sheaves that are out when the cache should end. */
void watch_leaks(struct sheaf_cache *cache, uint64_t loans);

/* Are free blocks left to who watches? Then nobody else writes to them. */
static inline bool watch_writes(const struct sheaf_cache *cache)
{
	return cache->watch && cache->watch->debug;
}

/* What is retired and free already is told of here by a checker that is built in; with debug mode, by that. */
static inline void watch_touch(const struct sheaf_cache *cache, const void *object)
{
	if (ANNOTATE_RED_ZONE && !watch_writes(cache))
		annotate_touch(object);
}

#endif
