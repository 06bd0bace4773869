/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A watched cache tells what becomes of each object, in any build, to whoever wants to know:
 * annotations for a checker that is found at run time.
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

/* Watches a new cache if there is a reason to; 0 or -ENOMEM. Before it has a backend. */
int watch_create(struct sheaf_cache *cache);
void watch_destroy(struct sheaf_cache *cache);

/* A free block is the user's from here on: his object. caller is where the user called us; with
 * nowait set it was in any context. */
void *watch_out(struct sheaf_cache *cache, void *block, const void *caller, bool nowait);

/* An object comes back from the user, to be free at once, or when it is ripe: its block. */
void *watch_in(struct sheaf_cache *cache, void *object, const void *caller, bool nowait);
void *watch_retired(struct sheaf_cache *cache, void *object, const void *caller, bool nowait);

/* Ripe blocks of a sheaf are free, after the callback of the cache. */
void watch_ripe(struct sheaf_cache *cache, struct sheaf *sheaf);

/* Blocks that the backend has given, the constructor included; and that it is about to get. */
size_t watch_came(struct sheaf_cache *cache, size_t n, void **blocks);
void watch_gone(struct sheaf_cache *cache, size_t n, void *const *blocks);

#endif
