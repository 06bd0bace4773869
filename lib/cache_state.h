/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What a cache is made of, and the steps that its files share.
 *
 *	thread --- slot --- barn + recycler of the node --- backend
 *	           main     full / empty   ripening         alloc_bulk
 *	           spare                                    free_bulk
 *	           rcu
 *
 *	cache.c          create, destroy, statistics
 *	cache_object.c   alloc, free, bulk
 *	cache_rcu.c      retire, barrier
 *	cache_prefill.c  sheaves lent
 *	cache_drain.c    flush, shrink
 *	slot.c           threads' slots, the way in
 *
 * Invariants, at rest:
 *  C1  backend objects out == objects the callers hold + in slots + in barns + in
 *      recyclers + in lent sheaves
 *  C2  every sheaf is in exactly one place: a slot, a barn, a recycler, lent, or in the
 *      hands of one thread inside a call
 *  C3  a sheaf in a slot or barn has the capacity it was made with; nobody assumes it is
 *      that of the cache
 */
#ifndef CACHE_STATE_H
#define CACHE_STATE_H

#include <sheaf/barn.h>
#include <sheaf/cache.h>
#include <sheaf/recycler.h>

#include "base/annotate.h"
#include "slot.h"

struct cache_node {
	struct sheaf_barn barn;
	struct sheaf_recycler recycler;
};

struct sheaf_cache {
	/* Fixed by create. */
	uint32_t id;
	uint32_t capacity;
	uint32_t nodes;
	size_t object_size;
	struct cache_node *node;
	struct sheaf_gp *gp;
	struct sheaf_backend backend;
	int (*current_node)(void *arg);
	void *node_arg;
	sheaf_cache_overuse_fn *overuse;
	void *overuse_arg;
	char name[32];

	/* Slots ever made, newest first; added under the registry's lock, read without. */
	struct slot *slots;
	/* One remote party at a time; it works on the list that begins at stopped. */
	pthread_mutex_t remote_lock;
	struct slot *stopped;

	/* Counters of slow paths, relaxed. */
	uint64_t backend_alloc_trips cacheline_aligned;
	uint64_t backend_free_trips;
	uint64_t backend_allocated;
	uint64_t backend_freed;
	uint64_t bypassed;
	uint64_t abandoned;
	uint64_t lent_sheaves;
	uint64_t lent_objects;
	uint64_t prefills;
	uint64_t prefills_oversize;
	uint64_t prefill_asked[SHEAF_CACHE_PREFILLS];
	uint64_t prefill_used[SHEAF_CACHE_PREFILLS];
};

/* The calling thread's slot, or &slot_none. */
static inline struct slot *slot_find(const struct sheaf_cache *cache)
{
	return likely(cache->id < slot_table.n) ? slot_table.slots[cache->id] : &slot_none;
}

/* Counted by who is inside; read by anyone. */
static inline void slot_count(uint64_t *counter)
{
	store_relaxed(counter, *counter + 1);
}

/* The node of the calling thread; decided again after each time out of a slot. */
static inline struct cache_node *cache_node(struct sheaf_cache *cache)
{
	if (cache->nodes == 1)
		return &cache->node[0];
	return &cache->node[(unsigned)cache->current_node(cache->node_arg) % cache->nodes];
}

/* Objects come into and go out of the caller's hands. */
static inline void object_out(const struct sheaf_cache *cache, void *object)
{
	annotate_alloc(object, cache->object_size);
}

static inline void object_in(const struct sheaf_cache *cache, void *object)
{
	annotate_free(object, cache->object_size);
}

/* The same for many; the compiler drops the loops where there is nothing to tell. */
static inline void objects_out(const struct sheaf_cache *cache, size_t n, void *const *objects)
{
	size_t i;

	for (i = 0; i < n; i++)
		object_out(cache, objects[i]);
}

static inline void objects_in(const struct sheaf_cache *cache, size_t n, void *const *objects)
{
	size_t i;

	for (i = 0; i < n; i++)
		object_in(cache, objects[i]);
}

/* Sheaf memory. Sheaves are plain memory of the library: no cache below the cache. */
struct sheaf *sheaf_new(uint32_t capacity);
void sheaf_delete(struct sheaf *sheaf);

/* Visit the backend. Objects that come are free, as in a sheaf. */
size_t backend_get(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects);
void backend_put(struct sheaf_cache *cache, size_t n, void *const *objects);

/* Give all objects of a sheaf to the backend; it is empty afterwards. */
void sheaf_flush(struct sheaf_cache *cache, struct sheaf *sheaf);

/* Give an empty sheaf to the barn, or its memory back. Outside slots. */
void sheaf_dispose(struct sheaf_cache *cache, struct sheaf *sheaf);

/* A ripe sheaf of this node, else of any; NULL if there is none at hand. */
struct sheaf *cache_take_ripe(struct sheaf_cache *cache, struct cache_node *node);

/* alloc and free of many without annotation: objects count as free all along. */
size_t cache_get(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects);
void cache_put(struct sheaf_cache *cache, size_t n, void *const *objects);

/* Put a private sheaf where it serves best: slot, barn, else flush it; with nowait set,
 * else the barn whatever its limit. */
void cache_put_sheaf(struct sheaf_cache *cache, struct sheaf *sheaf, bool nowait);

/* Give a sealed sheaf to the recycler of the node where it was sealed. */
void cache_seal(struct sheaf_cache *cache, struct cache_node *node, struct sheaf *sheaf);

/*
 * Under remote_lock and slots_stop(): take what matches out of all slots. Sheaves come
 * as a list through link, in the caller's hands.
 */
enum slot_part { PART_RCU = 1, PART_ALLOC = 2 };
struct sheaf *slots_collect(struct sheaf_cache *cache, unsigned parts);

/* Seal the rcu sheaves of all slots; on return every sheaf sealed before has reached its
 * recycler. Under remote_lock. */
void cache_seal_all(struct sheaf_cache *cache);

#endif
