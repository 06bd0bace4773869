/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Objects and the NUMA nodes of their memory, where a cache has several and its backend knows.
 *
 *	free:  local object  -> slot
 *	       remote object -> slot of the cross cache -> full: sorted -> barn of each home
 *
 * What a slot and the barn of a node hold is memory of that node, so allocation need not look. A
 * free does: it asks the backend where the object is at home. Remote ones are collected by a
 * second cache, which is private to the first: it has slots, and as a backend it has
 * free_bulk() of this file, which sorts what comes and takes it home. So all that is true of slots
 * (signals, fork, threads that end, remote parties) is true of what is collected, and a sheaf
 * full of remote objects costs one barn visit for each home that it has objects of.
 *
 * Guarantees:
 *  G1  An object that sheaf_cache_alloc() returns is of the node whose slot it came from, if that node
 *      had memory when the backend was asked. Not so: what a signal handler has freed, up to
 *      the next time it passes here; ripe objects taken under SHEAF_NOWAIT whose home has no room; a thread that moves between the slot and its caller;
 *      slots of threads that run elsewhere than before.
 *  G2  Ripe objects were retired together wherever they are at home: they are sorted when they
 *      are taken (cache_take_home()).
 *  G3  Nothing is lost where there is no sheaf to carry it: it goes to the backend, which knows
 *      its home as well.
 *
 * A node may have several barns, one for each last-level cache (places). The first place of a node
 * takes in what comes home; who finds nothing in the barn of its place asks the siblings, places
 * of the same node, before going on.
 */
#include "cache_state.h"
#include "watch.h"

/* Objects that are sorted at a time; and those that go to the backend together. */
#define SORTED 4096
#define BATCH 64

static unsigned numa_of(const struct sheaf_cache *cache, const struct cache_node *node)
{
	return (unsigned)(node - cache->node) / cache->spread;
}

/* The first barn of a NUMA node, with those of the same node behind it. */
static struct cache_node *first_of(const struct sheaf_cache *cache, unsigned numa)
{
	return &cache->node[(size_t)numa * cache->spread];
}

unsigned cache_numa(struct sheaf_cache *cache)
{
	return numa_of(cache, cache_node(cache));
}

/* The node of an object's memory; that of the caller, if it is not known. */
static unsigned home_of(struct sheaf_cache *cache, const void *object, unsigned here)
{
	int home = cache->backend.ops->node_of(cache->backend.ctx, object);

	return home < 0 || (unsigned)home >= cache->nodes / cache->spread ? here : (unsigned)home;
}

struct sheaf_barn *cache_home_barn(struct sheaf_cache *cache, const struct sheaf *sheaf)
{
	unsigned here;

	if (!cache->cross)
		return &cache_node(cache)->barn;
	here = cache_numa(cache);
	if (!sheaf_empty(sheaf)) {
		unsigned home = home_of(cache, sheaf->objects[sheaf->size - 1], here);

		if (home != here)
			return &first_of(cache, home)->barn;
	}
	return &cache_node(cache)->barn;
}

bool cache_is_home(struct sheaf_cache *cache, const struct sheaf *sheaf)
{
	unsigned here;

	if (likely(!cache->cross) || sheaf_empty(sheaf))
		return true;
	here = cache_numa(cache);
	return home_of(cache, sheaf->objects[sheaf->size - 1], here) == here;
}

/* A sheaf of a barn with room in it, or a new one; NULL if the barn is full, or there is no memory. */
static struct sheaf *take_carrier(struct sheaf_cache *cache, struct sheaf_barn *barn, bool nowait)
{
	struct sheaf *sheaf = barn_take_roomy(barn);

	if (!sheaf && !nowait && sheaf_barn_has_room(barn))
		sheaf = sheaf_new(cache_capacity(cache));
	if (sheaf)
		fetch_add_relaxed(&cache->home_trips, 1);
	return sheaf;
}

/* Takes one free object to its node. False: there is no place. */
static bool put_home(struct sheaf_cache *cache, unsigned home, void *object, bool nowait)
{
	struct sheaf_barn *barn = &first_of(cache, home)->barn;
	struct sheaf *sheaf = take_carrier(cache, barn, nowait);

	if (!sheaf)
		return false;
	sheaf_push(sheaf, object);
	sheaf_barn_keep(barn, sheaf);
	return true;
}

/* Takes those of n objects home that are at home there, by one visit as a rule. */
static void go_home(struct sheaf_cache *cache, unsigned home, size_t n, void *const *objects,
		    const unsigned char *homes)
{
	struct sheaf_barn *barn = &first_of(cache, home)->barn;
	struct sheaf *sheaf = NULL;
	void *rest[BATCH];
	size_t rests = 0, i;

	for (i = 0; i < n; i++) {
		if (homes[i] != home)
			continue;
		if (!sheaf)
			sheaf = take_carrier(cache, barn, false);
		if (sheaf) {
			sheaf_push(sheaf, objects[i]);
			if (sheaf_full(sheaf)) {
				sheaf_barn_keep(barn, sheaf);
				sheaf = NULL;
			}
			continue;
		}
		rest[rests++] = objects[i];
		if (rests == BATCH) {
			backend_put(cache, rests, rest);
			rests = 0;
		}
	}
	if (sheaf)
		sheaf_barn_keep(barn, sheaf);
	if (rests)
		backend_put(cache, rests, rest);
}

static void cross_free_bulk(void *ctx, size_t n, void *const *objects)
{
	struct sheaf_cache *cache = ctx;
	unsigned char homes[SORTED];
	size_t some, i;

	blocks_in(cache, n, objects);
	for (; n; n -= some, objects += some) {
		uint64_t seen = 0;

		some = n < SORTED ? n : SORTED;
		for (i = 0; i < some; i++) {
			homes[i] = (unsigned char)home_of(cache, objects[i], 0);
			seen |= UINT64_C(1) << homes[i];
		}
		for (; seen; seen &= seen - 1)
			go_home(cache, (unsigned)__builtin_ctzll(seen), some, objects, homes);
	}
}

/* Nobody allocates from a cross cache. */
static size_t cross_alloc_bulk(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	(void)ctx;
	(void)node;
	(void)flags;
	(void)n;
	(void)objects;
	return 0;
}

static const struct sheaf_backend_ops cross_ops = {
	.name = "cross",
	.alloc_bulk = cross_alloc_bulk,
	.free_bulk = cross_free_bulk,
};

int cache_cross_make(struct sheaf_cache *cache)
{
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = cache->object_size,
		.name = cache->name,
		.capacity = cache_capacity(cache),
		/* What is full goes home at once. */
		.barn_full = UINT32_MAX,
		.backend = {&cross_ops, cache},
		.nodes = 1,
		.trim_us = UINT32_MAX,
		.slots = cache->cpus.n ? SHEAF_SLOTS_CPU : SHEAF_SLOTS_THREAD,
	};

	if (cache->nodes == cache->spread || !cache->backend.ops->node_of)
		return 0;
	return cache_create(&cache->cross, &attr, cache);
}

bool cache_is_remote(struct sheaf_cache *cache, const void *object)
{
	unsigned here = cache_numa(cache);

	return home_of(cache, object, here) != here;
}

void cache_put_sorted(struct sheaf_cache *cache, size_t n, void *const *objects)
{
	void *local[BATCH], *remote[BATCH];
	size_t i, locals = 0, remotes = 0;

	for (i = 0; i < n; i++) {
		if (cache_is_remote(cache, objects[i]))
			remote[remotes++] = objects[i];
		else
			local[locals++] = objects[i];
		if (i + 1 < n && locals < BATCH && remotes < BATCH)
			continue;
		if (locals)
			cache_put_many(cache, locals, local);
		if (remotes)
			cache_put_many(cache->cross, remotes, remote);
		locals = remotes = 0;
	}
}

struct sheaf *cache_take_home(struct sheaf_cache *cache, struct cache_node *node,
			      struct sheaf *sheaf, bool nowait)
{
	unsigned here = numa_of(cache, node);
	void *rest[BATCH];
	size_t rests = 0;
	uint32_t kept = 0, i;

	for (i = 0; i < sheaf->size; i++) {
		void *object = sheaf->objects[i];
		unsigned home = home_of(cache, object, here);

		if (home == here) {
			sheaf->objects[kept++] = object;
			continue;
		}
		if (put_home(cache, home, object, nowait))
			continue;
		/* G3, but for who may not call the backend. */
		if (nowait) {
			sheaf->objects[kept++] = object;
			continue;
		}
		rest[rests++] = object;
		if (rests == BATCH) {
			backend_put(cache, rests, rest);
			rests = 0;
		}
	}
	if (rests)
		backend_put(cache, rests, rest);
	sheaf->size = kept;
	if (kept || nowait)
		return sheaf;
	sheaf_dispose(cache, sheaf);
	return NULL;
}

struct sheaf *cache_take_sibling(struct sheaf_cache *cache, struct cache_node *node)
{
	struct cache_node *first = first_of(cache, numa_of(cache, node));
	struct sheaf *sheaf = NULL;
	uint32_t i;

	for (i = 0; !sheaf && i < cache->spread; i++)
		if (first + i != node)
			sheaf = sheaf_barn_take_full(&first[i].barn);
	return sheaf;
}

bool cache_give_sibling(struct sheaf_cache *cache, struct cache_node *node, struct sheaf *sheaf)
{
	struct cache_node *first = first_of(cache, numa_of(cache, node));
	uint32_t i;

	for (i = 0; i < cache->spread; i++)
		if (first + i != node && sheaf_barn_give_full(&first[i].barn, sheaf) == 0)
			return true;
	return false;
}

/* To a barn what is left of a sheaf. An empty one stays within the limit, unless nothing may be freed. */
static void put_rest(struct sheaf_cache *cache, struct sheaf_barn *barn, struct sheaf *sheaf,
		     bool nowait)
{
	if (nowait || !sheaf_empty(sheaf))
		sheaf_barn_keep(barn, sheaf);
	else if (sheaf_outdated(cache, sheaf) || sheaf_barn_give_empty(barn, sheaf))
		sheaf_delete(sheaf);
}

/* One of a sheaf, the rest of which goes to a barn; NULL if it is empty. */
static void *get_one(struct sheaf_cache *cache, struct sheaf_barn *barn, struct sheaf *sheaf,
		     bool nowait)
{
	void *object = sheaf_pop(sheaf);

	put_rest(cache, barn, sheaf, nowait);
	return object;
}

/* From the barns of a node, else what is ripe and at home there, else a sheaf of its backend; the rest of that
 * goes to its first barn. */
static void *get_from(struct sheaf_cache *cache, unsigned flags, unsigned numa)
{
	struct cache_node *first = first_of(cache, numa);
	bool nowait = flags & SHEAF_NOWAIT;
	struct sheaf *sheaf;
	void *object;
	uint32_t i;

	for (i = 0; i < cache->spread; i++) {
		sheaf = sheaf_barn_take_full(&first[i].barn);
		if (sheaf)
			return get_one(cache, &first[i].barn, sheaf, nowait);
	}
	/* As allocation on the own node does: what is in flight has a limit. Where nobody knows whose they are, only
	 * above that. */
	sheaf = cache->cross ? cache_take_ripe(cache, first, flags) : NULL;
	if (!sheaf && !nowait)
		sheaf = cache_wait_ripe(cache, first);
	object = sheaf ? get_one(cache, &first->barn, sheaf, nowait) : NULL;
	if (object)
		return object;
	sheaf = sheaf_barn_take_empty(&first->barn);
	if (!sheaf && !nowait)
		sheaf = sheaf_new(cache_capacity(cache));
	if (!sheaf)
		return backend_get_on(cache, numa, flags, 1, 1, &object) ? object : NULL;
	sheaf->size =
		(uint32_t)backend_get_on(cache, numa, flags, sheaf->capacity, 1, sheaf->objects);
	return get_one(cache, &first->barn, sheaf, nowait);
}

/* Where those have nothing: what is held back, wherever it is at home; then what the backend has after a look
 * round. */
static void *get_on(struct sheaf_cache *cache, unsigned flags, unsigned numa)
{
	void *object = get_from(cache, flags, numa);

	if (unlikely(!object && cache->watch) && watch_release(cache, 1, &object))
		return object;
	if (unlikely(!object) && cache_reclaim_refused(cache, flags))
		object = get_from(cache, flags, numa);
	return object;
}

void *sheaf_cache_alloc_node(struct sheaf_cache *cache, unsigned flags, int node)
{
	unsigned nodes = cache->nodes / cache->spread;
	unsigned tries = 0;
	const void *caller = __builtin_return_address(0);
	void *object;

	if (node == SHEAF_NODE_ANY)
		return sheaf_cache_alloc(cache, flags);
	if (node < 0 || (unsigned)node >= nodes)
		return NULL;
	if (nodes == 1)
		return sheaf_cache_alloc(cache, flags);
	if (!(flags & SHEAF_NOWAIT))
		cache_unspill(cache);
	if ((unsigned)node == cache_numa(cache))
		return sheaf_cache_alloc(cache, flags);
	if (unlikely(cache->watch) && watch_refuses(cache, NULL))
		return NULL;
	while ((object = get_on(cache, flags & SHEAF_NOWAIT, (unsigned)node)) == NULL)
		if (!budget_may_wait(flags) || !budget_wait(cache, &tries))
			return NULL;
	if (unlikely(cache->watch))
		return watch_out(cache, object, caller, flags & SHEAF_NOWAIT);
	object_out(cache, object);
	return object;
}

static void send_home(struct sheaf_cache *cache, unsigned here, void *object)
{
	if (!put_home(cache, home_of(cache, object, here), object, false))
		backend_put(cache, 1, &object);
}

bool cache_make_local(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	unsigned here = cache_numa(cache);
	uint32_t i;

	if (cache->nodes / cache->spread == 1)
		return true;
	if (!cache->cross)
		return false;
	for (i = 0; i < sheaf->size; i++) {
		void *object = sheaf->objects[i], *local;

		if (home_of(cache, object, here) == here)
			continue;
		local = get_on(cache, 0, here);
		if (!local)
			return false;
		if (home_of(cache, local, here) != here) {
			send_home(cache, here, local);
			return false;
		}
		sheaf->objects[i] = local;
		send_home(cache, here, object);
	}
	return true;
}
