/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Making, ending and counting a cache; its map is in cache_state.h. */
#include "cache_state.h"

#include "base/attr.h"
#include "base/memory.h"
#include "base/topology.h"

#include <errno.h>
#include <sheaf/slab.h>
#include <stdio.h>

#define CAPACITY_MAX 65536
#define OBJECT_MAX (UINT32_C(1) << 30)
#define BARN_LIMIT 32
#define RCU_SOFT_LIMIT 65536
#define SLAB_OBJECT_MAX 65536
#define SLAB_ALIGN_MAX 4096

struct sheaf *sheaf_new(uint32_t capacity)
{
	void *mem = memory_alloc(CACHE_LINE, sheaf_bytes(capacity));

	return mem ? sheaf_init(mem, capacity) : NULL;
}

void sheaf_delete(struct sheaf *sheaf)
{
	memory_free(sheaf);
}

size_t backend_get(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects)
{
	int node = (int)(cache_node(cache) - cache->node);
	size_t got = cache->backend.ops->alloc_bulk(cache->backend.ctx, node, flags & SHEAF_NOWAIT,
						    n, objects);

	fetch_add_relaxed(&cache->backend_alloc_trips, 1);
	fetch_add_relaxed(&cache->backend_allocated, got);
	objects_in(cache, got, objects);
	return got;
}

void backend_put(struct sheaf_cache *cache, size_t n, void *const *objects)
{
	objects_out(cache, n, objects);
	fetch_add_relaxed(&cache->backend_free_trips, 1);
	fetch_add_relaxed(&cache->backend_freed, n);
	cache->backend.ops->free_bulk(cache->backend.ctx, n, objects);
}

void sheaf_flush(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	uint32_t n = sheaf->size;

	sheaf->size = 0;
	if (n)
		backend_put(cache, n, sheaf->objects);
}

void sheaf_dispose(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	if (sheaf_barn_give_empty(&cache_node(cache)->barn, sheaf))
		sheaf_delete(sheaf);
}

/* Small objects share few cache lines with a sheaf's array; large ones should not pile up. */
static uint32_t default_capacity(size_t object_size)
{
	if (object_size <= 256)
		return 60;
	if (object_size <= 1024)
		return 28;
	return object_size <= 8192 ? 12 : 4;
}

static uint32_t default_limit(uint32_t limit)
{
	if (limit == UINT32_MAX)
		return 0;
	return limit ? limit : BARN_LIMIT;
}

static bool attr_valid(const struct sheaf_cache_attr *a)
{
	if (!a->object_size || a->object_size > OBJECT_MAX || a->capacity > CAPACITY_MAX)
		return false;
	if (a->object_align & (a->object_align - 1))
		return false;
	if (a->nodes > TOPOLOGY_NODES_MAX || (a->backend.ops && !a->backend.ops->free_bulk) ||
	    (a->backend.ops && !a->backend.ops->alloc_bulk))
		return false;
	return true;
}

/* The backend of the attributes, or the best of our own. */
static int choose_backend(struct sheaf_backend *backend, const struct sheaf_cache_attr *a)
{
	struct sheaf_slab_attr slab_attr = {
		.size = sizeof(slab_attr),
		.object_size = a->object_size < 8 ? 8 : a->object_size,
		.object_align = a->object_align,
		.nodes = a->nodes,
	};
	struct sheaf_slab *slab;
	int err;

	if (a->backend.ops) {
		*backend = a->backend;
		return 0;
	}
	if (a->object_size > SLAB_OBJECT_MAX || a->object_align > SLAB_ALIGN_MAX)
		return sheaf_backend_malloc(backend, a->object_size, a->object_align);
	err = sheaf_slab_create(&slab, &slab_attr);
	if (!err)
		*backend = sheaf_slab_backend(slab);
	return err;
}

static void nodes_init(struct sheaf_cache *cache, const struct sheaf_cache_attr *a)
{
	struct sheaf_recycler_attr recycler_attr = {.size = sizeof(recycler_attr)};
	uint32_t i;

	if (a->rcu_soft_limit != UINT64_MAX)
		recycler_attr.soft_limit = a->rcu_soft_limit ? a->rcu_soft_limit : RCU_SOFT_LIMIT;
	for (i = 0; i < cache->nodes; i++) {
		sheaf_barn_init(&cache->node[i].barn, (int)i, default_limit(a->barn_full),
				default_limit(a->barn_empty));
		if (cache->gp)
			sheaf_recycler_init(&cache->node[i].recycler, cache->gp, &recycler_attr);
	}
}

static void cache_delete(struct sheaf_cache *cache)
{
	memory_free(cache->node);
	memory_free(cache);
}

/* Memory and attributes of a cache, without backend and number; NULL if there is no memory. */
static struct sheaf_cache *cache_new(const struct sheaf_cache_attr *a)
{
	struct sheaf_cache *cache = memory_zalloc(CACHE_LINE, sizeof(*cache));

	if (!cache)
		return NULL;
	cache->nodes = a->nodes ? a->nodes : topology_nodes();
	cache->node = memory_zalloc(CACHE_LINE, cache->nodes * sizeof(*cache->node));
	if (!cache->node) {
		memory_free(cache);
		return NULL;
	}
	cache->object_size = a->object_size;
	cache->capacity = a->capacity ? a->capacity : default_capacity(a->object_size);
	cache->gp = a->gp;
	cache->current_node = a->current_node ? a->current_node : topology_current_node;
	cache->node_arg = a->node_arg;
	cache->overuse = a->overuse;
	cache->overuse_arg = a->overuse_arg;
	snprintf(cache->name, sizeof(cache->name), "%s", a->name ? a->name : "sheaf");
	pthread_mutex_init(&cache->remote_lock, NULL);
	nodes_init(cache, a);
	return cache;
}

int sheaf_cache_create(struct sheaf_cache **cache, const struct sheaf_cache_attr *attr)
{
	struct sheaf_cache_attr a;
	struct sheaf_cache *c;
	int err, id;

	if (!attr || attr_copy(&a, sizeof(a), attr, attr->size, sizeof(a)) || !attr_valid(&a))
		return -EINVAL;
	c = cache_new(&a);
	if (!c)
		return -ENOMEM;
	err = choose_backend(&c->backend, &a);
	if (err) {
		cache_delete(c);
		return err;
	}
	id = registry_add(c);
	if (id < 0) {
		if (!a.backend.ops && c->backend.ops->destroy)
			c->backend.ops->destroy(c->backend.ctx);
		cache_delete(c);
		return -ENOMEM;
	}
	c->id = (uint32_t)id;
	*cache = c;
	return 0;
}

int sheaf_cache_destroy(struct sheaf_cache *cache, size_t *live)
{
	int err = sheaf_cache_barrier(cache);
	struct slot *slot;
	size_t out;

	if (live)
		*live = 0;
	if (err)
		return err;
	sheaf_cache_shrink(cache);
	out = cache->backend_allocated - cache->backend_freed;
	if (live)
		*live = out;
	if (out || cache->lent_sheaves)
		return -EBUSY;

	registry_remove(cache);
	while ((slot = cache->slots) != NULL) {
		cache->slots = slot->next;
		pthread_mutex_destroy(&slot->lock);
		memory_free(slot);
	}
	if (cache->backend.ops->destroy)
		cache->backend.ops->destroy(cache->backend.ctx);
	pthread_mutex_destroy(&cache->remote_lock);
	cache_delete(cache);
	return 0;
}

void sheaf_cache_set_barn_limits(struct sheaf_cache *cache, uint32_t full, uint32_t empty)
{
	uint32_t i;

	for (i = 0; i < cache->nodes; i++)
		sheaf_barn_set_limits(&cache->node[i].barn, full, empty);
}

static void stats_of_slots(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	struct slot *slot;

	pthread_mutex_lock(&cache->remote_lock);
	slots_stop(cache);
	for (slot = cache->stopped; slot; slot = slot->next) {
		slot_seize(slot);
		stats->slots++;
		stats->barn_alloc_trips += slot->trips.barn_alloc;
		stats->barn_free_trips += slot->trips.barn_free;
		stats->barn_failed += slot->trips.barn_failed;
		stats->held_slots += slot->main->size + slot->spare->size + slot->rcu->size;
		slot_unseize(slot);
	}
	slots_go(cache);
	stats->orphans = registry_orphans(cache);
	pthread_mutex_unlock(&cache->remote_lock);
}

static void stats_of_nodes(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	struct sheaf_recycler_stats recycler;
	struct sheaf_barn_stats barn;
	uint32_t i;

	for (i = 0; i < cache->nodes; i++) {
		sheaf_barn_stats(&cache->node[i].barn, &barn);
		stats->barn_races += barn.full.lost_races + barn.empty.lost_races;
		stats->held_barns += barn.objects;
		if (!cache->gp)
			continue;
		sheaf_recycler_stats(&cache->node[i].recycler, &recycler);
		stats->sealed += recycler.given;
		stats->recycled += recycler.taken;
		stats->in_flight += recycler.objects;
		stats->in_flight_peak += recycler.peak;
	}
}

void sheaf_cache_stats(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	unsigned i;

	*stats = (struct sheaf_cache_stats){
		.object_size = cache->object_size,
		.capacity = cache->capacity,
		.nodes = cache->nodes,
		.backend_alloc_trips = load_relaxed(&cache->backend_alloc_trips),
		.backend_free_trips = load_relaxed(&cache->backend_free_trips),
		.backend_allocated = load_relaxed(&cache->backend_allocated),
		.backend_freed = load_relaxed(&cache->backend_freed),
		.held_lent = load_relaxed(&cache->lent_objects),
		.prefills = load_relaxed(&cache->prefills),
		.prefills_oversize = load_relaxed(&cache->prefills_oversize),
		.bypassed = load_relaxed(&cache->bypassed),
		.abandoned = load_relaxed(&cache->abandoned),
	};
	for (i = 0; i < SHEAF_CACHE_PREFILLS; i++) {
		stats->prefill_asked[i] = load_relaxed(&cache->prefill_asked[i]);
		stats->prefill_used[i] = load_relaxed(&cache->prefill_used[i]);
	}
	stats_of_slots(cache, stats);
	stats_of_nodes(cache, stats);
}

bool sheaf_cache_check(struct sheaf_cache *cache)
{
	struct sheaf_cache_stats stats;
	const struct slot *slot;
	uint32_t i;

	for (slot = cache->slots; slot; slot = slot->next)
		if (slot->busy || (slot->transit & 1) || !sheaf_check(slot->main) ||
		    !sheaf_check(slot->spare) || !sheaf_check(slot->rcu))
			return false;
	for (i = 0; i < cache->nodes; i++)
		if (!sheaf_barn_check(&cache->node[i].barn) ||
		    (cache->gp && !sheaf_recycler_check(&cache->node[i].recycler)))
			return false;
	sheaf_cache_stats(cache, &stats);
	return stats.held_slots + stats.held_barns + stats.in_flight + stats.abandoned <=
	       stats.backend_allocated - stats.backend_freed;
}
