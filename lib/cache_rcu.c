/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Retiring objects, and waiting for them.
 *
 *	free_rcu -> rcu sheaf of the slot -> sealed when full -> recycler of the node
 *
 * A sealed sheaf leaves the slot before it is given: taking a ticket may start the
 * source's driver, which has no place inside a slot. In between it is in nobody's list;
 * the slot's `transit` is odd then.
 *
 * Guarantees:
 *  G1  An object is handed out again only after its ticket, which is taken after the object
 *      was pushed: it sits in a sealed sheaf, and sealing comes before the ticket.
 *  G2  A barrier misses nothing that was retired before it began: every slot is taken over,
 *      never peeked at, so what is in an rcu sheaf is sealed; a sheaf that had left is
 *      seen by its odd transit, which the owner set inside, and waited for; what another
 *      barrier took out of slots has been given when remote_lock is free again.
 *  G3  Retiring never fails. Without memory for a sheaf it empties one; see no_sheaf().
 */
#include "cache_state.h"

#include "base/report.h"

#include <sched.h>

void cache_seal(struct sheaf_cache *cache, struct cache_node *node, struct sheaf *sheaf)
{
	sheaf->node = (uint16_t)(node - cache->node);
	(void)sheaf_recycler_give(&node->recycler, sheaf);
}

/*
 * The rcu sheaf is full or missing, and there is no memory for an empty one. Empty one of
 * our own; the objects in it are free and go to the backend. NULL if there is none.
 */
static struct sheaf *empty_one(struct sheaf_cache *cache, struct slot *slot)
{
	struct cache_node *node = cache_node(cache);
	enum slot_way way = slot_hold(slot, false);
	struct sheaf *sheaf = NULL;

	if (way != SLOT_ROUND) {
		if (!sheaf_is_none(slot->spare)) {
			sheaf = slot->spare;
			slot->spare = &sheaf_none;
		} else if (!sheaf_is_none(slot->main)) {
			sheaf = slot->main;
			slot->main = &sheaf_none;
		}
		slot_release(slot, way);
	}
	if (!sheaf)
		sheaf = sheaf_barn_take_full(&node->barn);
	if (!sheaf)
		sheaf = cache_take_ripe(cache, node);
	if (sheaf)
		sheaf_flush(cache, sheaf);
	return sheaf;
}

/* No sheaf at all to put the object in. */
static void no_sheaf(struct sheaf_cache *cache, void *object)
{
	if (!sheaf_gp_read_ongoing(cache->gp) &&
	    sheaf_gp_wait(cache->gp, sheaf_gp_ticket(cache->gp)) == 0) {
		object_in(cache, object);
		backend_put(cache, 1, &object);
		return;
	}
	fetch_add_relaxed(&cache->abandoned, 1);
}

/* Round the slot: a sheaf of its own for one object. */
static bool retire_round(struct sheaf_cache *cache, struct sheaf **fresh, void *object)
{
	fetch_add_relaxed(&cache->bypassed, 1);
	if (!*fresh)
		return false;
	sheaf_push(*fresh, object);
	cache_seal(cache, cache_node(cache), *fresh);
	*fresh = NULL;
	return true;
}

/*
 * Push, with an empty sheaf in exchange for a full one. *sealed leaves the slot then, and
 * transit is odd until retire_slow() has given it. Inside.
 */
static bool retire_inside(struct slot *slot, struct sheaf **fresh, void *object,
			  struct sheaf **sealed)
{
	if (sheaf_push(slot->rcu, object))
		return true;
	if (!*fresh)
		return false;
	if (!sheaf_is_none(slot->rcu)) {
		*sealed = slot->rcu;
		store_relaxed(&slot->transit, slot->transit + 1);
	}
	/* The empty sheaf came from the barn, or was looked for there. */
	slot_count(&slot->trips.barn_free);
	slot->rcu = *fresh;
	*fresh = NULL;
	sheaf_push(slot->rcu, object);
	return true;
}

static __attribute__((noinline)) void retire_slow(struct sheaf_cache *cache, void *object)
{
	struct slot *slot = slot_get(cache, false);
	struct sheaf *fresh = NULL, *sealed = NULL;
	bool tried = false, pushed;
	struct cache_node *node;

	if (!cache->gp)
		fatal("cache %s: retire without a grace-period source", cache->name);
	for (;;) {
		enum slot_way way = slot_hold(slot, false);

		/* Where the sheaf is sealed counts, not where it is given. */
		node = cache_node(cache);
		pushed = way == SLOT_ROUND ? retire_round(cache, &fresh, object) :
					     retire_inside(slot, &fresh, object, &sealed);
		slot_release(slot, way);
		if (pushed || tried)
			break;
		tried = true;
		fresh = sheaf_barn_take_empty(&node->barn);
		if (!fresh)
			fresh = sheaf_new(cache->capacity);
		if (!fresh)
			fresh = empty_one(cache, slot);
	}
	if (sealed) {
		cache_seal(cache, node, sealed);
		/* release: G2, partner load in wait_transit() */
		store_release(&slot->transit, slot->transit + 1);
	}
	if (fresh)
		sheaf_dispose(cache, fresh);
	if (!pushed)
		no_sheaf(cache, object);
}

void sheaf_cache_free_rcu(struct sheaf_cache *cache, void *object)
{
	struct slot *slot = slot_find(cache);

	if (unlikely(!object))
		return;
	if (likely(slot_enter(slot))) {
		bool pushed = sheaf_push(slot->rcu, object);

		slot_leave(slot);
		if (likely(pushed))
			return;
	}
	retire_slow(cache, object);
}

struct sheaf *cache_take_ripe(struct sheaf_cache *cache, struct cache_node *node)
{
	uint32_t i, first = (uint32_t)(node - cache->node);

	if (!cache->gp)
		return NULL;
	for (i = 0; i < cache->nodes; i++) {
		struct cache_node *from = &cache->node[(first + i) % cache->nodes];
		struct sheaf *sheaf = sheaf_recycler_take(&from->recycler);

		if (sheaf) {
			objects_in(cache, sheaf->size, sheaf->objects);
			return sheaf;
		}
	}
	return NULL;
}

/* Waits until a sheaf that was on its way when the slot was seized has arrived. */
static void wait_transit(struct slot *slot)
{
	/* acquire: G2, partner store in retire_slow() */
	uint32_t seen = load_acquire(&slot->transit);

	if (!(seen & 1))
		return;
	while (load_acquire(&slot->transit) == seen)
		sched_yield();
}

void cache_seal_all(struct sheaf_cache *cache)
{
	struct cache_node *node = cache_node(cache);
	struct sheaf *sheaf, *next;
	struct slot *slot;

	for (sheaf = slots_collect(cache, PART_RCU); sheaf; sheaf = next) {
		next = sheaf->link;
		if (sheaf_empty(sheaf))
			sheaf_dispose(cache, sheaf);
		else
			cache_seal(cache, node, sheaf);
	}
	for (slot = cache->stopped; slot; slot = slot->next)
		wait_transit(slot);
}

int sheaf_cache_barrier(struct sheaf_cache *cache)
{
	uint32_t i;
	int err;

	if (!cache->gp)
		return 0;
	pthread_mutex_lock(&cache->remote_lock);
	slots_stop(cache);
	cache_seal_all(cache);
	slots_go(cache);
	pthread_mutex_unlock(&cache->remote_lock);
	for (i = 0; i < cache->nodes; i++) {
		err = sheaf_recycler_barrier(&cache->node[i].recycler);
		if (err)
			return err;
	}
	return 0;
}
