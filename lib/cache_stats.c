/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Counting a cache, and checking its invariants. */
#include "base/attr.h"
#include "cache_state.h"

void cache_count_loans(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	unsigned i;

	stats->held_lent = load_relaxed(&cache->lent_objects);
	stats->prefills_oversize = load_relaxed(&cache->prefills_oversize);
	stats->prefills = 0 - load_relaxed(&cache->refills);
	for (i = 0; i < SHEAF_CACHE_PREFILLS; i++) {
		stats->prefill_asked[i] = load_relaxed(&cache->prefill_asked[i]);
		stats->prefill_used[i] = load_relaxed(&cache->prefill_used[i]);
		stats->prefills += stats->prefill_asked[i];
	}
}

static void add_trips(struct sheaf_cache_stats *stats, const struct slot_trips *trips)
{
	stats->barn_alloc_trips += load_relaxed(&trips->barn_alloc);
	stats->barn_free_trips += load_relaxed(&trips->barn_free);
	stats->barn_failed += load_relaxed(&trips->barn_failed);
}

static void stats_of_slots(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	struct slot *slot;
	uint32_t i;

	pthread_mutex_lock(&cache->remote_lock);
	slots_stop(cache, PART_RCU | PART_ALLOC);
	stats->held_slots = slots_count(cache);
	slots_go(cache);
	add_trips(stats, &cache->trips);
	for (i = 0; i < cache->cpus.n; i++)
		add_trips(stats, &cache->cpus.slots[i].trips);
	stats->slots = cache->cpus.n;
	for (slot = load_acquire(&cache->slots); slot; slot = slot->next) {
		add_trips(stats, &slot->trips);
		stats->slots++;
	}
	stats->orphans = registry_orphans(cache);
	pthread_mutex_unlock(&cache->remote_lock);
	if (cache->cross) {
		struct sheaf_cache_stats cross;

		sheaf_cache_stats(cache->cross, &cross, sizeof(cross));
		stats->held_cross = cross.held_slots;
		stats->held_slots += cross.held_slots;
	}
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

static void count(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	*stats = (struct sheaf_cache_stats){
		.object_size = cache->object_size,
		.capacity = cache_capacity(cache),
		.nodes = cache->nodes,
		.backend_alloc_trips = load_relaxed(&cache->backend_alloc_trips),
		.backend_free_trips = load_relaxed(&cache->backend_free_trips),
		.backend_allocated = load_relaxed(&cache->backend_allocated),
		.backend_freed = load_relaxed(&cache->backend_freed),
		.bypassed = load_relaxed(&cache->bypassed),
		.abandoned = load_relaxed(&cache->abandoned),
		.aged = load_relaxed(&cache->aged),
		.surplus = load_relaxed(&cache->surplus),
		.gave_way = load_relaxed(&cache->gave_way),
		.throttled = load_relaxed(&cache->throttled),
		.spilled = spilled_objects(cache),
		.spills = load_relaxed(&cache->spills),
		.budget_used = load_relaxed(&cache->used),
		.budget_refused = load_relaxed(&cache->budget_refused),
		.trimmed = load_relaxed(&cache->trimmed),
		.tuned = load_relaxed(&cache->tuned),
		.home_trips = load_relaxed(&cache->home_trips),
		.aborts = load_relaxed(&cache->aborts),
		.cpu_slots = cache->cpus.n != 0,
	};
	cache_count_loans(cache, stats);
	stats_of_slots(cache, stats);
	stats_of_nodes(cache, stats);
}

size_t sheaf_cache_stats(struct sheaf_cache *cache, struct sheaf_cache_stats *stats, size_t size)
{
	struct sheaf_cache_stats all;

	count(cache, &all);
	return struct_copy(stats, size, &all, sizeof(all));
}

unsigned sheaf_cache_slots(const struct sheaf_cache *cache, const char **why)
{
	if (why)
		*why = cache->slots_why;
	return cache->cpus.n ? SHEAF_SLOTS_CPU : SHEAF_SLOTS_THREAD;
}

static bool check_at_rest(struct sheaf_cache *cache)
{
	struct sheaf_cache_stats stats;
	uint32_t i;

	if (!slots_check(cache) || (cache->cross && !slots_check(cache->cross)))
		return false;
	for (i = 0; i < cache->nodes; i++)
		if (cache->node[i].transit[0] || cache->node[i].transit[1] ||
		    !sheaf_barn_check(&cache->node[i].barn) ||
		    (cache->gp && !sheaf_recycler_check(&cache->node[i].recycler)))
			return false;
	sheaf_cache_stats(cache, &stats, sizeof(stats));
	return stats.held_slots + stats.held_barns + stats.in_flight + stats.abandoned +
		       stats.spilled <=
	       stats.backend_allocated - stats.backend_freed;
}

bool sheaf_cache_check(struct sheaf_cache *cache)
{
	bool right;

	/* Who trims all caches, and the source's thread, are its users. */
	registry_close(cache);
	cache_ripe_end(cache);
	right = check_at_rest(cache);
	cache_ripe_again(cache);
	registry_open(cache);
	return right;
}
