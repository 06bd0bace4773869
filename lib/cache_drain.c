/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Giving back: one thread's slot, or everything that is free.
 *
 * Sheaves leave slots and barns in the hands of the caller, and only then are flushed:
 * the backend is never called while a slot is held.
 */
#include "cache_state.h"

#include "base/probe.h"
#include "watch.h"

static size_t discard_list(struct sheaf_cache *cache, struct sheaf *list)
{
	size_t n = 0;

	while (list) {
		struct sheaf *next = list->link;

		n += sheaf_discard(cache, list);
		list = next;
	}
	return n;
}

void cache_discard_one(void *arg, struct sheaf *sheaf)
{
	struct discarded *count = arg;

	count->objects += sheaf_discard(count->cache, sheaf);
}

size_t cache_drain_slots(struct sheaf_cache *cache)
{
	struct sheaf *list;
	size_t n = 0;

	if (cache->watch)
		n = watch_drain(cache);
	pthread_mutex_lock(&cache->remote_lock);
	slots_stop(cache, PART_ALLOC);
	list = slots_collect(cache, PART_ALLOC);
	slots_go(cache);
	pthread_mutex_unlock(&cache->remote_lock);
	/* First home, that is to the barns. */
	if (cache->cross) {
		cache_drain_slots(cache->cross);
		/* What a trim had there, and vanished with in a fork. */
		cache_drain_barns(cache->cross);
	}
	n += discard_list(cache, list);
	PROBE(drain, PROBE_CACHE(cache), n);
	return n;
}

size_t cache_drain_barns(struct sheaf_cache *cache)
{
	struct discarded count = {cache, 0};
	uint32_t i;

	for (i = 0; i < cache->nodes; i++)
		sheaf_barn_drain(&cache->node[i].barn, cache_discard_one, &count);
	return count.objects;
}

size_t sheaf_cache_shrink(struct sheaf_cache *cache)
{
	struct sheaf *ripe;
	size_t objects = 0;
	uint32_t i;

	if (cache->gp)
		cache_seal_all(cache, false);
	for (i = 0; i < cache->nodes; i++)
		cache_unspill_slow(cache, &cache->node[i], false);
	/* First: what a callback frees goes into slots. */
	while ((ripe = cache_drain_ripe(cache)) != NULL)
		objects += sheaf_discard(cache, ripe);
	objects += cache_drain_slots(cache);
	objects += cache_drain_barns(cache);
	PROBE(shrink, PROBE_CACHE(cache), objects);
	/* What the backend keeps of that is its own to decide: the next allocation may be near. */
	return objects;
}

/* Below the slot: to the barn, else flushed. */
static void give_below(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	if (!sheaf)
		return;
	if (!sheaf_empty(sheaf) && sheaf_barn_give_full(cache_home_barn(cache, sheaf), sheaf) == 0)
		return;
	sheaf_flush(cache, sheaf);
	sheaf_dispose(cache, sheaf);
}

void sheaf_cache_flush(struct sheaf_cache *cache)
{
	struct cache_node *node = cache_node(cache);
	struct slot_io io = {0};
	uint64_t *transit;

	cache_unspill(cache);
	if (cache->cross)
		sheaf_cache_flush(cache->cross);
	give_below(cache, cache_take_spare(cache, false));
	slot_do(cache, SLOT_SWAP, false, &io);
	give_below(cache, cache_take_spare(cache, false));

	transit = transit_begin(cache, node);
	if (slot_do(cache, SLOT_INSTALL_RCU, false, &io) == SLOT_DID && io.sheaf) {
		if (sheaf_empty(io.sheaf))
			sheaf_dispose(cache, io.sheaf);
		else
			cache_seal(cache, node, io.sheaf);
	}
	transit_end(transit);
}
