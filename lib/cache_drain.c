/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Giving back: one thread's slot, or everything that is free.
 *
 * Sheaves leave slots and barns in the hands of the caller, and only then are flushed:
 * the backend is never called while a slot is held.
 */
#include "cache_state.h"

static void list_add(struct sheaf **list, struct sheaf *sheaf)
{
	sheaf->link = *list;
	*list = sheaf;
}

/* Takes one part of a slot; the place is empty afterwards. Inside. */
static void part_take(struct sheaf **part, struct sheaf **list)
{
	if (sheaf_is_none(*part))
		return;
	list_add(list, *part);
	*part = &sheaf_none;
}

static void slot_collect(struct slot *slot, unsigned parts, struct sheaf **list)
{
	if (parts & PART_RCU)
		part_take(&slot->rcu, list);
	if (parts & PART_ALLOC) {
		part_take(&slot->main, list);
		part_take(&slot->spare, list);
	}
}

struct sheaf *slots_collect(struct sheaf_cache *cache, unsigned parts)
{
	struct sheaf *list = NULL;
	struct slot *slot;

	for (slot = cache->stopped; slot; slot = slot->next) {
		slot_seize(slot);
		slot_collect(slot, parts, &list);
		slot_unseize(slot);
	}
	return list;
}

/* Objects to the backend, the sheaf's memory to the system. */
static size_t discard(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	size_t n = sheaf->size;

	sheaf_flush(cache, sheaf);
	sheaf_delete(sheaf);
	return n;
}

static size_t discard_list(struct sheaf_cache *cache, struct sheaf *list)
{
	size_t n = 0;

	while (list) {
		struct sheaf *next = list->link;

		n += discard(cache, list);
		list = next;
	}
	return n;
}

struct drain_count {
	struct sheaf_cache *cache;
	size_t objects;
};

static void discard_from_barn(void *arg, struct sheaf *sheaf)
{
	struct drain_count *count = arg;

	count->objects += discard(count->cache, sheaf);
}

size_t sheaf_cache_shrink(struct sheaf_cache *cache)
{
	struct drain_count count = {cache, 0};
	struct sheaf *list, *ripe;
	uint32_t i;

	pthread_mutex_lock(&cache->remote_lock);
	slots_stop(cache);
	if (cache->gp)
		cache_seal_all(cache);
	list = slots_collect(cache, PART_ALLOC);
	slots_go(cache);
	pthread_mutex_unlock(&cache->remote_lock);

	count.objects = discard_list(cache, list);
	for (i = 0; i < cache->nodes; i++)
		sheaf_barn_drain(&cache->node[i].barn, discard_from_barn, &count);
	while ((ripe = cache_take_ripe(cache, cache->node)) != NULL)
		count.objects += discard(cache, ripe);
	return count.objects;
}

void sheaf_cache_flush(struct sheaf_cache *cache)
{
	struct slot *slot = slot_get(cache, true);
	enum slot_way way = slot_hold(slot, false);
	struct cache_node *node = cache_node(cache);
	struct sheaf *list = NULL, *rcu = NULL, *next;

	if (way == SLOT_ROUND)
		return;
	slot_collect(slot, PART_ALLOC, &list);
	slot_collect(slot, PART_RCU, &rcu);
	if (rcu)
		store_relaxed(&slot->transit, slot->transit + 1);
	slot_release(slot, way);

	if (rcu) {
		if (sheaf_empty(rcu))
			sheaf_dispose(cache, rcu);
		else
			cache_seal(cache, node, rcu);
		/* release: partner load in wait_transit() */
		store_release(&slot->transit, slot->transit + 1);
	}
	for (; list; list = next) {
		next = list->link;
		if (!sheaf_empty(list) && sheaf_barn_give_full(&node->barn, list) == 0)
			continue;
		sheaf_flush(cache, list);
		sheaf_dispose(cache, list);
	}
}
