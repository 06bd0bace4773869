/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Allocation and free.
 *
 *	alloc:  main -> spare -> barn (my empty for a full) -> ripe sheaf -> backend
 *	free:   main -> spare -> barn (my full for an empty) -> flush a sheaf to the backend
 *
 * Read cache_get() and cache_put() first: they are the two trips down. A slot is worked on by
 * single operations (slot.h), each at once or not at all; between them a sheaf on its way is
 * in the hands of the thread, and nobody else sees it. A trip takes the spare out, trades
 * it below, and installs what it got as spare.
 *
 * Guarantees:
 *  G1  No operation on a slot blocks, frees memory or calls the backend: what has to be
 *      flushed or freed is in the hands of the thread.
 *  G2  Between two operations on a slot everything may have changed: the thread may be on
 *      another CPU, other threads of this one may have been here, a remote party may
 *      have emptied the slot. So a spare that was taken out is looked at again, and what
 *      cannot be installed any more goes below.
 *  G3  A bulk operation that comes to the backend goes there once with all that is left,
 *      and does not come back to the sheaves.
 *  G4  No path loses an object: what has no place in slot or barn goes to the backend, and
 *      where a sheaf cannot be had the object goes there alone.
 */
#include "cache_state.h"

#include "base/memory.h"
#include "base/probe.h"
#include "watch.h"

/* In a row, without an object between them. */
#define SWAPS_MOST 3

/* Sheaves count in 32 bits. */
static uint32_t clamp_u32(size_t n)
{
	return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

struct sheaf *cache_take_spare(struct sheaf_cache *cache, bool nowait)
{
	struct slot_io io = {0};

	return slot_do(cache, SLOT_INSTALL, nowait, &io) == SLOT_DID ? io.sheaf : NULL;
}

/*
 * From main, then spare. Unmet: the slot has no more, or others of this CPU change main and spare
 * as often as we do.
 */
static enum slot_did slot_get(struct sheaf_cache *cache, bool nowait, size_t n, void **objects,
			      size_t *done)
{
	unsigned swaps = 0;

	for (;;) {
		struct slot_io io = {.n = clamp_u32(n - *done), .objects = objects + *done};
		enum slot_did did = slot_do(cache, SLOT_POP_MANY, nowait, &io);

		if (did == SLOT_DID) {
			*done += io.n;
			swaps = 0;
		} else if (did == SLOT_UNMET && swaps++ < SWAPS_MOST) {
			did = slot_do(cache, SLOT_SWAP_FILLED, nowait, &io);
		}
		if (did != SLOT_DID || *done == n)
			return did;
	}
}

enum slot_did cache_slot_put(struct sheaf_cache *cache, bool nowait, size_t n, void *const *objects,
			     size_t *done)
{
	unsigned swaps = 0;

	for (;;) {
		struct slot_io io = {.n = clamp_u32(n - *done),
				     .objects = (void **)objects + *done};
		enum slot_did did = slot_do(cache, SLOT_PUSH_MANY, nowait, &io);

		if (did == SLOT_DID) {
			*done += io.n;
			swaps = 0;
		} else if (did == SLOT_UNMET && swaps++ < SWAPS_MOST) {
			did = slot_do(cache, SLOT_SWAP_ROOMY, nowait, &io);
		}
		if (did != SLOT_DID || *done == n)
			return did;
	}
}

/* Round the slot: what barn and recycler have. Returns how many came. */
static size_t get_round(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects)
{
	struct cache_node *node = cache_node(cache);
	size_t done = 0;

	fetch_add_relaxed(&cache->bypassed, 1);
	PROBE(bypass, PROBE_CACHE(cache), n);
	while (done < n) {
		struct sheaf *sheaf = sheaf_barn_take_full(&node->barn);

		if (!sheaf)
			sheaf = cache_take_ripe(cache, node, flags);
		if (!sheaf)
			break;
		done += sheaf_pop_many(sheaf, clamp_u32(n - done), objects + done);
		sheaf_barn_keep(&node->barn, sheaf);
	}
	return done;
}

struct sheaf *barn_take_roomy(struct sheaf_barn *barn)
{
	struct sheaf *sheaf = sheaf_barn_take_full(barn);

	if (sheaf && !sheaf_full(sheaf))
		return sheaf;
	if (sheaf)
		sheaf_barn_keep(barn, sheaf);
	return sheaf_barn_has_room(barn) ? sheaf_barn_take_empty(barn) : NULL;
}

/* Round the slot: what the barn has room for. Returns how many went. */
static size_t put_round(struct sheaf_cache *cache, size_t n, void *const *objects)
{
	struct cache_node *node = cache_node(cache);
	size_t done = 0;

	fetch_add_relaxed(&cache->bypassed, 1);
	PROBE(bypass, PROBE_CACHE(cache), n);
	while (done < n) {
		struct sheaf *sheaf = barn_take_roomy(&node->barn);

		if (!sheaf)
			break;
		done += sheaf_push_many(sheaf, clamp_u32(n - done), objects + done);
		sheaf_barn_keep(&node->barn, sheaf);
	}
	return done;
}

/*
 * A sheaf with objects from barn or recycler, in the caller's hands. *empty, if any, pays for a
 * trade and is NULL then.
 */
static struct sheaf *take_filled(struct sheaf_cache *cache, unsigned flags, struct sheaf **empty)
{
	struct cache_node *node = cache_node(cache);
	struct slot_trips *trips = slot_trips(cache);
	struct sheaf *sheaf;

	fetch_add_relaxed(&trips->barn_alloc, 1);
	if (*empty && sheaf_outdated(cache, *empty) && !(flags & SHEAF_NOWAIT)) {
		sheaf_delete(*empty);
		*empty = NULL;
	}
	if (*empty) {
		sheaf = sheaf_barn_trade_empty(&node->barn, *empty);
		if (sheaf)
			*empty = NULL;
	} else {
		sheaf = sheaf_barn_take_full(&node->barn);
	}
	PROBE(alloc_trip, PROBE_CACHE(cache), sheaf);
	if (sheaf)
		return sheaf;
	fetch_add_relaxed(&trips->alloc_failed, 1);
	if (cache->spread > 1) {
		fetch_add_relaxed(&trips->barn_alloc, 1);
		sheaf = cache_take_sibling(cache, node);
		PROBE(alloc_trip, PROBE_CACHE(cache), sheaf);
		if (sheaf)
			return sheaf;
	}
	sheaf = cache_take_ripe(cache, node, flags);
	return sheaf || (flags & SHEAF_NOWAIT) ? sheaf : cache_wait_ripe(cache, node);
}

/* Into the slot what was fetched for it. Main is empty as a rule: the next ones come from here. */
static void put_filled(struct sheaf_cache *cache, struct sheaf *sheaf, bool nowait)
{
	struct slot_io io = {0};

	cache_put_sheaf(cache, sheaf, nowait);
	slot_do(cache, SLOT_SWAP_FILLED, nowait, &io);
}

static size_t backend_get(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects)
{
	return backend_get_on(cache, cache_numa(cache), flags, n, n, objects);
}

/* One object, and a sheaf for the slot if *empty or memory is there to hold it. */
static size_t get_backend_one(struct sheaf_cache *cache, unsigned flags, struct sheaf **empty,
			      void **object)
{
	struct sheaf *sheaf = *empty;

	*empty = NULL;
	if (!sheaf && !(flags & SHEAF_NOWAIT))
		sheaf = sheaf_new(cache_capacity(cache));
	if (!sheaf)
		return backend_get(cache, flags, 1, object);
	sheaf->size = (uint32_t)backend_get_on(cache, cache_numa(cache), flags, sheaf->capacity, 1,
					       sheaf->objects);
	*object = sheaf_pop(sheaf);
	put_filled(cache, sheaf, flags & SHEAF_NOWAIT);
	return *object != NULL;
}

bool cache_reclaim_refused(struct sheaf_cache *cache, unsigned flags)
{
	uint64_t freed;

	if ((flags & (SHEAF_NOWAIT | CACHE_LAYERS_ONLY)) || budget_is_short() ||
	    cache_inside_ripe())
		return false;
	/* Not all that goes back is counted by who gives it: what was on its way home is not. */
	freed = load_relaxed(&cache->backend_freed);
	return sheaf_cache_shrink(cache) || load_relaxed(&cache->backend_freed) != freed;
}

size_t cache_get(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects)
{
	bool nowait = flags & SHEAF_NOWAIT;
	struct sheaf *empty = NULL, *sheaf;
	size_t done = 0;

	if (!nowait)
		cache_unspill(cache);
	while (done < n) {
		enum slot_did did = slot_get(cache, nowait, n, objects, &done);

		if (did == SLOT_DID)
			break;
		if (did == SLOT_AWAY) {
			done += get_round(cache, flags, n - done, objects + done);
			break;
		}
		sheaf = empty ? NULL : cache_take_spare(cache, nowait);
		if (sheaf && sheaf_empty(sheaf)) {
			empty = sheaf;
			sheaf = NULL;
		}
		if (!sheaf)
			sheaf = take_filled(cache, flags, &empty);
		if (!sheaf)
			break;
		done += sheaf_pop_many(sheaf, clamp_u32(n - done), objects + done);
		if (sheaf_empty(sheaf) && !empty)
			empty = sheaf;
		else
			put_filled(cache, sheaf, nowait);
	}
	if (done < n && !(flags & CACHE_LAYERS_ONLY))
		done += n == 1 ? get_backend_one(cache, flags, &empty, objects)
			       : backend_get(cache, flags, n - done, objects + done);
	if (unlikely(done < n && cache->watch))
		done += watch_release(cache, n - done, objects + done);
	if (unlikely(done < n && cache_reclaim_refused(cache, flags)))
		done += backend_get(cache, flags, n - done, objects + done);
	if (empty)
		cache_put_sheaf(cache, empty, nowait);
	return done;
}

static __attribute__((noinline)) void *alloc_slow(struct sheaf_cache *cache, unsigned flags)
{
	unsigned tries = 0;
	void *object;

	if (unlikely(cache->watch && watch_refuses(cache, NULL)))
		return NULL;
	while (!cache_get(cache, flags & SHEAF_NOWAIT, 1, &object))
		if (!budget_may_wait(flags) || !budget_wait(cache, &tries))
			return NULL;
	if (unlikely(cache->watch))
		return watch_out(cache, object, __builtin_return_address(0), flags & SHEAF_NOWAIT);
	object_out(cache, object);
	return object;
}

void *sheaf_cache_alloc(struct sheaf_cache *cache, unsigned flags)
{
	void *object;

	if (likely(cache->gate.cpus.n)) {
		if (likely(cpu_pop(&cache->gate.cpus, &object) == SLOT_DID)) {
			object_out(cache, object);
			return object;
		}
	} else {
		struct slot *slot = slot_find_fast(cache);

		if (likely(slot_enter(slot))) {
			object = sheaf_pop(slot->held.main);
			slot_leave(slot);
			if (likely(object)) {
				object_out(cache, object);
				return object;
			}
		}
	}
	return alloc_slow(cache, flags);
}

/*
 * An empty sheaf in exchange for a full one, or for nothing (NULL). If the barn has none, it
 * takes in the full one and a new one is made; if it has no room either, the full one
 * is flushed for a single object. NULL: *full, if any, is still the caller's.
 */
static struct sheaf *take_empty(struct sheaf_cache *cache, struct sheaf **full, bool single)
{
	struct cache_node *node = cache_node(cache);
	struct slot_trips *trips = slot_trips(cache);
	struct sheaf *empty, *was = *full;

	fetch_add_relaxed(&trips->barn_free, 1);
	empty = was ? sheaf_barn_trade_full(&node->barn, was) : sheaf_barn_take_empty(&node->barn);
	PROBE(free_trip, PROBE_CACHE(cache), was, empty);
	if (empty) {
		*full = NULL;
		return sheaf_renew(cache, empty);
	}
	fetch_add_relaxed(&trips->free_failed, 1);
	if (was && cache->spread > 1 && !sheaf_barn_has_room(&node->barn)) {
		fetch_add_relaxed(&trips->barn_free, 1);
		PROBE(free_trip, PROBE_CACHE(cache), was, NULL);
		if (cache_give_sibling(cache, node, was))
			*full = was = NULL;
	}
	if (single || !was || sheaf_barn_has_room(&node->barn)) {
		if (!was || sheaf_barn_has_room(&node->barn))
			empty = sheaf_new(cache_capacity(cache));
		if (empty && was && sheaf_barn_give_full(&node->barn, was) == 0)
			*full = was = NULL;
		if (was && single) {
			sheaf_flush(cache, was);
			if (empty)
				sheaf_dispose(cache, was);
			else
				empty = was;
			*full = NULL;
		}
	}
	return empty;
}

void cache_put_many(struct sheaf_cache *cache, size_t n, void *const *objects)
{
	struct slot_io io = {0};
	size_t done = 0;

	while (done < n) {
		enum slot_did did = cache_slot_put(cache, false, n, objects, &done);
		struct sheaf *full, *roomy;

		if (did == SLOT_DID)
			break;
		if (did == SLOT_AWAY) {
			done += put_round(cache, n - done, objects + done);
			break;
		}
		full = cache_take_spare(cache, false);
		roomy = full;
		if (full && !sheaf_full(full))
			full = NULL;
		else
			roomy = take_empty(cache, &full, n == 1);
		if (full)
			cache_put_sheaf(cache, full, false);
		if (!roomy)
			break;
		done += sheaf_push_many(roomy, clamp_u32(n - done), objects + done);
		cache_put_sheaf(cache, roomy, false);
		/* Main is full as a rule: the next ones go where there is room. */
		slot_do(cache, SLOT_SWAP_ROOMY, false, &io);
	}
	if (done < n)
		backend_put(cache, n - done, objects + done);
}

/* The fast path of free did not do, or many are to be put. */
void cache_put(struct sheaf_cache *cache, size_t n, void *const *objects)
{
	cache_unspill(cache);
	if (cache->cross)
		cache_put_sorted(cache, n, objects);
	else
		cache_put_many(cache, n, objects);
}

static __attribute__((noinline)) void free_slow(struct sheaf_cache *cache, void *object)
{
	cache_unspill(cache);
	cache_put_many(cache, 1, &object);
}

static inline __attribute__((always_inline)) void
free_to_cpu(struct sheaf_cache *cache, void *object)
{
	if (unlikely(cpu_push(&cache->gate.cpus, object) != SLOT_DID))
		free_slow(cache, object);
}

static inline __attribute__((always_inline)) void
free_to_thread(struct sheaf_cache *cache, void *object)
{
	struct slot *slot = slot_find_fast(cache);

	if (likely(slot_enter(slot))) {
		bool pushed = slot_push(slot->held.main, object);

		slot_leave(slot);
		if (likely(pushed))
			return;
	}
	free_slow(cache, object);
}

static __attribute__((noinline)) void free_anyhow_slow(struct sheaf_cache *cache, void *object)
{
	if (unlikely(cache->watch)) {
		object = watch_in(cache, object, __builtin_return_address(0), false);
		if (object)
			cache_put(cache, 1, &object);
		return;
	}
	if (cache_is_remote(cache, object))
		cache = cache->cross;
	if (cache->gate.cpus.n)
		free_to_cpu(cache, object);
	else
		free_to_thread(cache, object);
}

void sheaf_cache_free(struct sheaf_cache *cache, void *object)
{
	if (unlikely(!object))
		return;
	if (!cache->watch)
		object_in(cache, object);
	if (likely(cache->gate.free_way == FREE_TO_CPU))
		free_to_cpu(cache, object);
	else if (cache->gate.free_way == FREE_TO_THREAD)
		free_to_thread(cache, object);
	else
		free_anyhow_slow(cache, object);
}

size_t sheaf_cache_alloc_bulk(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects)
{
	bool part = unlikely(cache->watch) && watch_refuses(cache, &n);
	size_t got = cache_get(cache, flags & SHEAF_NOWAIT, n, objects);
	unsigned tries = 0;

	while (!part && got < n && budget_may_wait(flags) && budget_wait(cache, &tries))
		got += cache_get(cache, 0, n - got, objects + got);
	if (unlikely(cache->watch)) {
		const void *caller = __builtin_return_address(0);
		size_t i;

		for (i = 0; i < got; i++)
			objects[i] = watch_out(cache, objects[i], caller, flags & SHEAF_NOWAIT);
		return got;
	}
	objects_out(cache, got, objects);
	return got;
}

/* The user's array stays as it is. */
static void free_watched(struct sheaf_cache *cache, size_t n, void *const *objects,
			 const void *caller)
{
	void *blocks[64];
	size_t some = 0, i;

	for (i = 0; i < n; i++) {
		blocks[some] = watch_in(cache, objects[i], caller, false);
		if (blocks[some])
			some++;
		if (some == sizeof(blocks) / sizeof(*blocks) || i + 1 == n) {
			cache_put(cache, some, blocks);
			some = 0;
		}
	}
}

void sheaf_cache_free_bulk(struct sheaf_cache *cache, size_t n, void *const *objects)
{
	if (unlikely(cache->watch)) {
		free_watched(cache, n, objects, __builtin_return_address(0));
		return;
	}
	objects_in(cache, n, objects);
	cache_put(cache, n, objects);
}

void cache_put_sheaf(struct sheaf_cache *cache, struct sheaf *sheaf, bool nowait)
{
	struct cache_node *node = cache_node(cache);
	struct sheaf_barn *barn = &node->barn;
	struct slot_io io = {.sheaf = sheaf};
	enum slot_did did;

	if (unlikely(!cache_is_home(cache, sheaf))) {
		/* We are on another node than when it was fetched. */
		sheaf_barn_keep(cache_home_barn(cache, sheaf), sheaf);
		return;
	}
	did = slot_do(cache, SLOT_INSTALL_IF_EMPTY, nowait, &io);
	/* The spare is not empty; main may be. */
	if (did == SLOT_UNMET && !sheaf_empty(sheaf) &&
	    slot_do(cache, SLOT_SWAP, nowait, &io) == SLOT_DID)
		did = slot_do(cache, SLOT_INSTALL_IF_EMPTY, nowait, &io);
	if (did == SLOT_DID)
		sheaf = io.sheaf;
	if (!nowait)
		cache_arm_trim(cache);
	if (!sheaf)
		return;
	if (nowait) {
		sheaf_barn_keep(barn, sheaf);
		return;
	}
	if (!sheaf_empty(sheaf)) {
		fetch_add_relaxed(&slot_trips(cache)->barn_free, 1);
		PROBE(free_trip, PROBE_CACHE(cache), sheaf, NULL);
		if (sheaf_barn_give_full(barn, sheaf) == 0 ||
		    (cache->spread > 1 && cache_give_sibling(cache, node, sheaf)))
			return;
		sheaf_flush(cache, sheaf);
	}
	sheaf_dispose(cache, sheaf);
}
