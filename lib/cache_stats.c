/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Counting a cache, and checking its invariants. Read count_objects() first.
 *
 * Fast paths count nothing. But each object that came from the backend and is not back is either
 * with a caller or in one of few places, each of which can be counted:
 *
 *	in use = allocated - freed - abandoned
 *	         - (slots + barns + recyclers + spilled + left + quarantine)      at rest
 *
 * While others go on, an object that moves from one place to another might be met twice, or
 * nowhere, and there would be no bound to that: a busy cache moves a sheaf every few microseconds.
 * Two things bound it. Slots are frozen while the places are counted (slots_freeze()), so
 * that calls stop where they want to move a sheaf into or out of their slot. And the order:
 *
 *	freeze, freed, slots, barns, cross cache, recyclers, spilled, left, quarantine, allocated, thaw
 *
 *  G1  What is on its way is in somebody's hands, so it counts as in use. No place counts an object
 *      before it is there, or after it has left, but for the pushes and pops of G3: what is
 *      spilled or left aside is taken off its count before it is put anywhere.
 *  G2  No object is subtracted twice, with slots frozen. Sheaves go from slots (or hands) to barns,
 *      recyclers and the backend, from recyclers to barns by the source's thread, and from
 *      the backend to hands. Going from a place that is counted later to one that is counted
 *      earlier an object is missed at most, which adds to what is in use. Against the order
 *      it goes only to the backend: freed is read first, so who has left a place since is
 *      not in it; and allocated last, so what has come since is in it. Both while slots are frozen: else
 *      what comes and goes before and after would be in one of the two only. From barns and recyclers
 *      to a slot nobody gets.
 *  G3  So the sum differs from what was in use in the moment of the freeze by
 *       - what fast paths pushed to and popped from the slots of CPUs since, which do not ask
 *         whether the slot is stopped: between nothing and its capacity in the one main
 *         sheaf and in the one rcu sheaf that the slot has all the time. Owners of thread
 *         slots do ask, and wait;
 *       - what is in the hands of calls beside a slot, G1. Each such call holds two sheaves at most,
 *         and has to come to its slot before it can begin with others. Bulk calls also have what
 *         they carry for their caller; calls for a certain node, for signal handlers, and those
 *         that empty the cache (allocations too, when the backend refuses) never come to a slot,
 *         and count each time that they move a sheaf; if that is from a place counted earlier to
 *         one counted later (a barn to the spill lists or to the barn of another node), as free twice.
 *  G4  At rest nothing is in hands, so the sum is exact.
 *  G5  The freeze ends: nobody who holds remote_lock, the registry or the lock of a slot waits
 *      for anything else than another of these, in this order. The cross cache's remote_lock comes
 *      after that of its cache.
 *
 *  G6  Orders. An object is added to the count of a place with release, and of freed; the counts are read with
 *      acquire. So who finds it in one finds it gone from where it was before: it is not counted again in a
 *      place that is read later (G2), and is in allocated.
 *
 * Objects in lent sheaves are the borrower's, who takes them without a word. They are in use, all
 * of them: a sheaf that is returned takes what is left in it out of that again.
 *
 * A child of fork(2) counts barns, recyclers and what is left aside anew, so that G4 holds there;
 * what vanished threads had in their hands is in use.
 */
#include "base/attr.h"
#include "cache_state.h"
#include "debug_state.h"
#include "slab_locate.h"
#include "watch.h"

#include <string.h>

void cache_count_loans(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	uint64_t used = 0;
	unsigned i;

	stats->held_lent = load_relaxed(&cache->lent_objects);
	stats->prefills_oversize = load_relaxed(&cache->prefills_oversize);
	/* acquire, here and below: partners count_used() and refill() */
	stats->prefills = 0 - load_acquire(&cache->refills);
	for (i = 0; i < SHEAF_CACHE_PREFILLS; i++) {
		stats->prefill_used[i] = load_acquire(&cache->prefill_used[i]);
		used += stats->prefill_used[i];
	}
	stats->lent_sheaves = 0 - used;
	for (i = 0; i < SHEAF_CACHE_PREFILLS; i++) {
		stats->prefill_asked[i] = load_relaxed(&cache->prefill_asked[i]);
		stats->prefills += stats->prefill_asked[i];
		stats->lent_sheaves += stats->prefill_asked[i];
	}
}

static void add_trips(struct sheaf_cache_stats *stats, const struct slot_trips *trips)
{
	uint64_t failed = load_relaxed(&trips->alloc_failed);

	stats->barn_alloc_trips += load_relaxed(&trips->barn_alloc);
	stats->barn_free_trips += load_relaxed(&trips->barn_free);
	stats->barn_alloc_failed += failed;
	stats->barn_failed += failed + load_relaxed(&trips->free_failed);
}

/* Under the registry's lock. */
static void add_slots(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	struct slot *slot;
	uint32_t i;

	add_trips(stats, &cache->trips);
	for (i = 0; i < cache->cpus.n; i++)
		add_trips(stats, &cache->cpus.slots[i].trips);
	stats->slots = cache->cpus.n;
	for (slot = cache->slots; slot; slot = slot->next) {
		add_trips(stats, &slot->trips);
		stats->slots++;
		stats->orphans += slot->orphan;
	}
}

static void count_slots(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	struct slots_held held = slots_count(cache);

	stats->held_slots += held.objects;
	stats->held_rcu += held.retired;
}

static void count_barns(const struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	struct sheaf_barn_stats barn;
	uint32_t i;

	for (i = 0; i < cache->nodes; i++) {
		sheaf_barn_stats(&cache->node[i].barn, &barn);
		stats->barn_races += barn.full.lost_races + barn.empty.lost_races;
		stats->barn_full += barn.full.held;
		stats->barn_empty += barn.empty.held;
		stats->held_barns += barn.objects;
	}
}

static void count_recyclers(const struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	struct sheaf_recycler_stats recycler;
	uint32_t i, k;

	for (i = 0; cache->gp && i < cache->nodes; i++) {
		sheaf_recycler_stats(&cache->node[i].recycler, &recycler);
		stats->sealed += recycler.given;
		stats->recycled += recycler.taken;
		stats->in_flight += recycler.objects;
		stats->in_flight_peak += recycler.peak;
		for (k = 0; k < SHEAF_RECYCLER_AGES; k++)
			stats->ages[k] += recycler.ages[k];
	}
}

static void count_left(const struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	uint32_t i;

	for (i = 0; i < cache->nodes; i++) {
		/* acquire: G6, partners in cache_nowait.c */
		stats->spilled += load_acquire(&cache->node[i].spilled_objects);
		stats->left_retired += load_acquire(&cache->node[i].left_objects);
	}
}

/* All that is neither in use nor with the backend. */
static uint64_t cache_held(const struct sheaf_cache_stats *stats)
{
	return stats->held_slots + stats->held_barns + stats->in_flight + stats->spilled +
	       stats->left_retired + stats->held_quarantine;
}

/* A cross cache keeps what is on its way home in slots, and for a moment of a trim in its barn. */
static void count_cross(struct sheaf_cache *cross, struct sheaf_cache_stats *stats)
{
	struct sheaf_barn_stats barn;

	sheaf_barn_stats(&cross->node[0].barn, &barn);
	stats->held_cross = slots_count(cross).objects + barn.objects;
	stats->held_slots += stats->held_cross;
}

void cache_freeze(struct sheaf_cache *cache)
{
	struct sheaf_cache *cross = cache->cross;

	/* G5 */
	pthread_mutex_lock(&cache->remote_lock);
	if (cross)
		pthread_mutex_lock(&cross->remote_lock);
	registry_hold();
	slots_freeze(cache);
	if (cross)
		slots_freeze(cross);
}

void cache_thaw(struct sheaf_cache *cache)
{
	struct sheaf_cache *cross = cache->cross;

	if (cross)
		slots_thaw(cross);
	slots_thaw(cache);
	registry_let_go();
	if (cross)
		pthread_mutex_unlock(&cross->remote_lock);
	pthread_mutex_unlock(&cache->remote_lock);
}

static void count_frozen(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	cache_freeze(cache);
	/* G2: first of all. What others did before the freeze is seen after it: its fence lies between
	 * (C2 in slot_cpu.h, S1 in slot.h), or the lock of each slot. acquire: G6, partner backend_put() */
	stats->backend_freed = load_acquire(&cache->backend_freed);
	stats->abandoned = load_relaxed(&cache->abandoned);
	count_slots(cache, stats);
	count_barns(cache, stats);
	/* After the barns, where what lies in it goes: a trim that empties it is not held up. */
	if (cache->cross)
		count_cross(cache->cross, stats);
	count_recyclers(cache, stats);
	count_left(cache, stats);
	if (watch_writes(cache))
		stats->held_quarantine = debug_held_back(cache->watch->debug);
	stats->backend_allocated = load_relaxed(&cache->backend_allocated);
	add_slots(cache, stats);
	cache_thaw(cache);
}

static void count_objects(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	uint64_t gone;

	count_frozen(cache, stats);
	gone = stats->backend_freed + stats->abandoned + cache_held(stats);
	/* G3: of few objects in use too many may be found where they are free. */
	stats->in_use = stats->backend_allocated > gone ? stats->backend_allocated - gone : 0;
}

static void count_memory(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	struct sheaf_slab *slab = slab_of(&cache->backend);
	struct sheaf_slab_stats s;

	stats->slab = slab != NULL;
	if (!slab) {
		uint64_t out = stats->backend_allocated - stats->backend_freed;

		stats->memory_touched = stats->memory_mapped = out * cache->block_size;
		return;
	}
	sheaf_slab_stats(slab, &s);
	stats->memory_touched = s.bytes_touched;
	stats->memory_mapped = s.bytes_mapped;
	stats->slab_room = s.bytes_touched / s.slab_bytes * s.slab_objects;
}

static void count(struct sheaf_cache *cache, struct sheaf_cache_stats *stats)
{
	*stats = (struct sheaf_cache_stats){
		.number = cache->number,
		.object_size = cache->object_size,
		.capacity = cache_capacity(cache),
		.nodes = cache->nodes,
		.cpu_slots = cache->cpus.n != 0,
		.retires = cache->gp != NULL,
		.debug = watch_writes(cache),
		.backend_alloc_trips = load_relaxed(&cache->backend_alloc_trips),
		.backend_free_trips = load_relaxed(&cache->backend_free_trips),
		.budget_used = load_relaxed(&cache->used),
		.budget_refused = load_relaxed(&cache->budget_refused),
		.home_trips = load_relaxed(&cache->home_trips),
		.bypassed = load_relaxed(&cache->bypassed),
		.aborts = load_relaxed(&cache->aborts),
		.spills = load_relaxed(&cache->spills),
		.aged = load_relaxed(&cache->aged),
		.surplus = load_relaxed(&cache->surplus),
		.gave_way = load_relaxed(&cache->gave_way),
		.throttled = load_relaxed(&cache->throttled),
		.trimmed = load_relaxed(&cache->trimmed),
		.tuned = load_relaxed(&cache->tuned),
	};
	memcpy(stats->name, cache->name, sizeof(stats->name));
	cache_count_loans(cache, stats);
	count_objects(cache, stats);
	count_memory(cache, stats);
}

size_t sheaf_cache_stats(struct sheaf_cache *cache, struct sheaf_cache_stats *stats, size_t size)
{
	struct sheaf_cache_stats all;

	count(cache, &all);
	return struct_copy(stats, size, &all, sizeof(all));
}

int sheaf_cache_walk(sheaf_cache_walk_fn *fn, void *arg)
{
	struct sheaf_cache *cache;
	uint32_t next = 0;
	int said = 0;

	while (!said && (cache = registry_pin(&next)) != NULL) {
		said = fn(arg, cache);
		registry_unpin(cache);
	}
	return said;
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
	return cache_held(&stats) + stats.abandoned <=
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
