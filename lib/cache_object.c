/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Allocation and free.
 *
 * Read slot_fill() and slot_make_room() first: they are the two trips down, and the only
 * places where sheaves move between slot and barn.
 *
 *	alloc:  main -> spare -> barn (my empty for a full) -> ripe sheaf -> backend
 *	free:   main -> spare -> barn (my full for an empty) -> flush a sheaf to the backend
 *
 * Guarantees:
 *  G1  Inside a slot nothing blocks, frees memory or calls the backend: what has to be
 *      flushed or freed leaves the slot first, in the hands of the thread.
 *  G2  After a time out of the slot everything is decided again: another thread on a remote
 *      errand may have emptied it.
 *  G3  A bulk operation that comes to the backend goes there once with all that is left,
 *      and does not come back to the sheaves.
 *  G4  No path loses an object: what has no place in slot or barn goes to the backend, and
 *      where a sheaf cannot be had the object goes there alone.
 */
#include "cache_state.h"

#include "base/memory.h"

/* Sheaves count in 32 bits. */
static uint32_t clamp_u32(size_t n)
{
	return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static void slot_swap(struct slot *slot)
{
	struct sheaf *main = slot->main;

	slot->main = slot->spare;
	slot->spare = main;
}

/*
 * Makes main non-empty from spare, barn or recycler. Inside. An emptied main stays as
 * spare; the spare it pushes out is empty and pays for the trade. *over is an empty sheaf
 * that even the barn has no room for; it is disposed of outside.
 */
static bool slot_fill(struct sheaf_cache *cache, struct slot *slot, struct sheaf **over)
{
	struct cache_node *node;
	struct sheaf *full;

	if (!sheaf_empty(slot->main))
		return true;
	if (!sheaf_empty(slot->spare)) {
		slot_swap(slot);
		return true;
	}
	node = cache_node(cache);
	slot_count(&slot->trips.barn_alloc);
	if (sheaf_is_none(slot->spare)) {
		full = sheaf_barn_take_full(&node->barn);
	} else {
		full = sheaf_barn_trade_empty(&node->barn, slot->spare);
		if (full)
			slot->spare = &sheaf_none;
	}
	if (!full) {
		slot_count(&slot->trips.barn_failed);
		full = cache_take_ripe(cache, node);
	}
	if (!full)
		return false;
	if (!sheaf_is_none(slot->spare) && sheaf_barn_give_empty(&node->barn, slot->spare)) {
		slot->spare->link = *over;
		*over = slot->spare;
	}
	slot->spare = slot->main;
	slot->main = full;
	return true;
}

/* Disposes of what slot_fill() left over. Freeing memory may take a lock of malloc's. */
static void dispose_over(struct sheaf_cache *cache, struct sheaf *over, bool nowait)
{
	while (unlikely(over)) {
		struct sheaf *next = over->link;

		if (nowait)
			sheaf_barn_keep(&cache_node(cache)->barn, over);
		else
			sheaf_dispose(cache, over);
		over = next;
	}
}

/*
 * Makes room in main from spare or barn, or with *fresh, an empty sheaf that the caller
 * brings. Inside. False: come back with a fresh sheaf. *victim, if asked for, is then a
 * full one that has no place below and should be flushed.
 */
static bool slot_make_room(struct sheaf_cache *cache, struct slot *slot, struct sheaf **fresh,
			   struct sheaf **victim)
{
	struct cache_node *node;
	struct sheaf *empty;

	if (!sheaf_full(slot->main))
		return true;
	if (!sheaf_full(slot->spare)) {
		slot_swap(slot);
		return true;
	}
	node = cache_node(cache);
	if (*fresh) {
		if (!sheaf_is_none(slot->spare) && sheaf_barn_give_full(&node->barn, slot->spare)) {
			if (!victim)
				return false;
			*victim = slot->spare;
		}
		empty = *fresh;
		*fresh = NULL;
	} else {
		slot_count(&slot->trips.barn_free);
		empty = sheaf_is_none(slot->spare) ?
				sheaf_barn_take_empty(&node->barn) :
				sheaf_barn_trade_full(&node->barn, slot->spare);
	}
	if (empty) {
		slot->spare = slot->main;
		slot->main = empty;
		return true;
	}
	slot_count(&slot->trips.barn_failed);
	if (victim && !sheaf_is_none(slot->spare) && !sheaf_barn_has_room(&node->barn)) {
		*victim = slot->spare;
		slot->spare = &sheaf_none;
	}
	return false;
}

/* Round the slot: what barn and recycler have. Returns how many came. */
static size_t get_round(struct sheaf_cache *cache, size_t n, void **objects)
{
	struct cache_node *node = cache_node(cache);
	size_t done = 0;

	fetch_add_relaxed(&cache->bypassed, 1);
	while (done < n) {
		struct sheaf *sheaf = sheaf_barn_take_full(&node->barn);

		if (!sheaf)
			sheaf = cache_take_ripe(cache, node);
		if (!sheaf)
			break;
		done += sheaf_pop_many(sheaf, clamp_u32(n - done), objects + done);
		sheaf_barn_keep(&node->barn, sheaf);
	}
	return done;
}

/* Round the slot: what the barn has empty sheaves and room for. Returns how many went. */
static size_t put_round(struct sheaf_cache *cache, size_t n, void *const *objects)
{
	struct cache_node *node = cache_node(cache);
	size_t done = 0;

	fetch_add_relaxed(&cache->bypassed, 1);
	while (done < n && sheaf_barn_has_room(&node->barn)) {
		struct sheaf *sheaf = sheaf_barn_take_empty(&node->barn);

		if (!sheaf)
			break;
		done += sheaf_push_many(sheaf, clamp_u32(n - done), objects + done);
		sheaf_barn_keep(&node->barn, sheaf);
	}
	return done;
}

/*
 * Slot, barn and recycler are empty: a whole sheaf from the backend. The empty sheaf for it
 * comes out of the slot, or is made.
 */
static void *get_backend(struct sheaf_cache *cache, struct slot *slot, unsigned flags)
{
	bool nowait = flags & SHEAF_NOWAIT;
	enum slot_way way = slot_hold(slot, nowait);
	struct sheaf *sheaf = NULL;
	void *object = NULL;

	if (way != SLOT_ROUND && sheaf_empty(slot->spare) && !sheaf_is_none(slot->spare)) {
		sheaf = slot->spare;
		slot->spare = &sheaf_none;
	} else if (way != SLOT_ROUND && sheaf_empty(slot->main) && !sheaf_is_none(slot->main)) {
		sheaf = slot->main;
		slot->main = &sheaf_none;
	}
	slot_release(slot, way);
	if (!sheaf && !nowait)
		sheaf = sheaf_new(cache->capacity);
	if (!sheaf)
		return backend_get(cache, flags, 1, &object) ? object : NULL;
	sheaf->size = (uint32_t)backend_get(cache, flags, sheaf->capacity, sheaf->objects);
	object = sheaf_pop(sheaf);
	cache_put_sheaf(cache, sheaf, nowait);
	return object;
}

static __attribute__((noinline)) void *alloc_slow(struct sheaf_cache *cache, unsigned flags)
{
	bool nowait = flags & SHEAF_NOWAIT;
	struct slot *slot = slot_get(cache, nowait);
	enum slot_way way = slot_hold(slot, nowait);
	struct sheaf *over = NULL;
	void *object = NULL;

	if (way == SLOT_ROUND) {
		if (!get_round(cache, 1, &object) && !backend_get(cache, flags, 1, &object))
			return NULL;
	} else {
		if (slot_fill(cache, slot, &over))
			object = sheaf_pop(slot->main);
		slot_release(slot, way);
		dispose_over(cache, over, nowait);
		if (!object)
			object = get_backend(cache, slot, flags);
	}
	if (object)
		object_out(cache, object);
	return object;
}

void *sheaf_cache_alloc(struct sheaf_cache *cache, unsigned flags)
{
	struct slot *slot = slot_find(cache);

	if (likely(slot_enter(slot))) {
		void *object = sheaf_pop(slot->main);

		slot_leave(slot);
		if (likely(object)) {
			object_out(cache, object);
			return object;
		}
	}
	return alloc_slow(cache, flags);
}

/* The fast path of free did not do, or many are to be put. */
void cache_put(struct sheaf_cache *cache, size_t n, void *const *objects)
{
	struct slot *slot = slot_get(cache, false);
	struct sheaf *fresh = NULL;
	size_t done = 0;

	while (done < n) {
		enum slot_way way = slot_hold(slot, false);
		struct sheaf *victim = NULL;

		if (way == SLOT_ROUND) {
			done += put_round(cache, n - done, objects + done);
			break;
		}
		/* One object evicts a sheaf; many go to the backend themselves (G3). */
		while (done < n && slot_make_room(cache, slot, &fresh, n == 1 ? &victim : NULL))
			done += sheaf_push_many(slot->main, clamp_u32(n - done), objects + done);
		slot_release(slot, way);
		if (victim) {
			sheaf_flush(cache, victim);
			if (!fresh)
				fresh = victim;
			else
				sheaf_dispose(cache, victim);
		}
		if (done == n)
			break;
		if (!fresh && (n == 1 || sheaf_barn_has_room(&cache_node(cache)->barn)))
			fresh = sheaf_new(cache->capacity);
		else if (n > 1)
			break;
		if (!fresh)
			break;
	}
	if (done < n)
		backend_put(cache, n - done, objects + done);
	if (fresh)
		sheaf_dispose(cache, fresh);
}

static __attribute__((noinline)) void free_slow(struct sheaf_cache *cache, void *object)
{
	cache_put(cache, 1, &object);
}

void sheaf_cache_free(struct sheaf_cache *cache, void *object)
{
	struct slot *slot = slot_find(cache);

	if (unlikely(!object))
		return;
	object_in(cache, object);
	if (likely(slot_enter(slot))) {
		bool pushed = sheaf_push(slot->main, object);

		slot_leave(slot);
		if (likely(pushed))
			return;
	}
	free_slow(cache, object);
}

size_t cache_get(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects)
{
	bool nowait = flags & SHEAF_NOWAIT;
	struct slot *slot = slot_get(cache, nowait);
	enum slot_way way = slot_hold(slot, nowait);
	struct sheaf *over = NULL;
	size_t done = 0;

	if (way == SLOT_ROUND) {
		done = get_round(cache, n, objects);
	} else {
		while (done < n && slot_fill(cache, slot, &over))
			done += sheaf_pop_many(slot->main, clamp_u32(n - done), objects + done);
		slot_release(slot, way);
		dispose_over(cache, over, nowait);
	}
	if (done < n)
		done += backend_get(cache, flags, n - done, objects + done);
	return done;
}

size_t sheaf_cache_alloc_bulk(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects)
{
	size_t got = cache_get(cache, flags, n, objects);

	objects_out(cache, got, objects);
	return got;
}

void sheaf_cache_free_bulk(struct sheaf_cache *cache, size_t n, void *const *objects)
{
	objects_in(cache, n, objects);
	cache_put(cache, n, objects);
}

/* What slot_install() could not place comes back. Inside. */
static struct sheaf *slot_install(struct slot *slot, struct sheaf *sheaf)
{
	struct sheaf *out;

	if (!sheaf_empty(sheaf) && sheaf_empty(slot->main)) {
		out = slot->main;
		slot->main = sheaf;
		sheaf = out;
	} else if (!sheaf_empty(sheaf) && sheaf_empty(slot->spare)) {
		out = slot->spare;
		slot->spare = sheaf;
		sheaf = out;
	}
	if (!sheaf_is_none(sheaf) && sheaf_is_none(slot->spare)) {
		slot->spare = sheaf;
		sheaf = &sheaf_none;
	}
	return sheaf_is_none(sheaf) ? NULL : sheaf;
}

void cache_put_sheaf(struct sheaf_cache *cache, struct sheaf *sheaf, bool nowait)
{
	struct slot *slot = slot_get(cache, true);
	enum slot_way way = slot_hold(slot, true);

	if (way != SLOT_ROUND) {
		sheaf = slot_install(slot, sheaf);
		if (sheaf && !sheaf_empty(sheaf))
			slot_count(&slot->trips.barn_free);
		slot_release(slot, way);
	}
	if (!sheaf)
		return;
	if (nowait) {
		sheaf_barn_keep(&cache_node(cache)->barn, sheaf);
		return;
	}
	if (!sheaf_empty(sheaf)) {
		if (sheaf_barn_give_full(&cache_node(cache)->barn, sheaf) == 0)
			return;
		sheaf_flush(cache, sheaf);
	}
	sheaf_dispose(cache, sheaf);
}
