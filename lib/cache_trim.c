/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Giving back what nobody needs, and following the load.
 *
 *	slot without a trip since the last look -> barn -> untouched at the next look -> backend
 *
 * A trim looks three times in the time of the attribute: at the first look a slot's
 * sheaves are noted, at the second they go to the barn, if the slot has made no trip and holds
 * the same ones, at the third they go on to the backend, if nobody has come for them. A slot that is
 * busy within its two sheaves looks idle; it gets them back by one trip to the barn, at each look.
 * That is the price of a fast path that counts nothing.
 *
 *  T1  The task runs as long as there is anything to look at: a call that leaves the fast path
 *      arms it, so does who puts ripe sheaves into barns, and a run arms it again if it has seen a
 *      sheaf. What comes into a cache comes by a slow path first, for the slots of an idle
 *      cache are empty. So an idle cache ends without sheaves, and then without wake-ups.
 *  T2  A call looks whether the task is armed before its work and after it has put a sheaf into
 *      the slot. It only looks: an exchange (as A1 in cache_ripe.c) would be paid for at each trip. So
 *      what comes in the very moment of the last look may stay until the next such call, and so
 *      does what a nowait call has put there: those do not call sources.
 *  T3  A cache is walked to by sheaf_trim() only while it is pinned, and who destroys it waits
 *      for that; so no lock of the registry is held while backends are called.
 *
 * Capacity. Twice the trips cost twice, twice the capacity halves them; memory is what it costs.
 * At each look the trips since the last one are compared with two marks far apart, so that it does
 * not swing: above the upper one, or with races lost in the barn, the capacity doubles,
 * below the lower one for some time it is halved, down to what it was made with.
 */
#include "cache_state.h"

#include "base/probe.h"
#include "gp_keeper.h"

#include <errno.h>

#define TRIM_US 1000000
/* Looks in the time of the attribute. */
#define LOOKS 3

/* Trips of one slot and second that are worth memory: at half a microsecond each one per cent. */
#define TRIPS_MANY 20000
#define TRIPS_FEW 1000
/* Looks with few trips before the capacity is halved. */
#define CALM_LOOKS 12
/* One trip of so many loses a race. */
#define RACES_MANY 16
#define CAPACITY_TUNED_MAX 4092
#define TUNE_BYTES (UINT64_C(64) << 20)

/* Slots that look idle give their sheaves to the barn. */
static struct slots_look trim_slots(struct sheaf_cache *cache)
{
	struct sheaf *list = NULL, *next;
	struct slots_look look;

	pthread_mutex_lock(&cache->remote_lock);
	look = slots_look_idle(cache);
	if (look.aged) {
		slots_stop(cache, PART_IDLE);
		list = slots_collect(cache, PART_IDLE);
		slots_go(cache);
	}
	pthread_mutex_unlock(&cache->remote_lock);
	for (; list; list = next) {
		next = list->link;
		if (sheaf_empty(list))
			sheaf_dispose(cache, list);
		else
			sheaf_barn_keep(cache_home_barn(cache, list), list);
	}
	return look;
}

static uint64_t races(const struct sheaf_cache *cache)
{
	struct sheaf_barn_stats stats;
	uint64_t lost = 0;
	uint32_t i;

	for (i = 0; i < cache->nodes; i++) {
		sheaf_barn_stats(&cache->node[i].barn, &stats);
		lost += stats.full.lost_races + stats.empty.lost_races;
	}
	return lost;
}

/* Slots that hold sheaves now, about: those that made a trip at some time. */
static uint32_t slots_used(const struct sheaf_cache *cache)
{
	const struct slot *slot;
	uint32_t n = 0, i;

	for (i = 0; i < cache->cpus.n; i++)
		n += cache->cpu_marks[i].trips != 0;
	/* acquire: partner store in slot_take() */
	for (slot = load_acquire(&cache->slots); slot; slot = slot->next)
		n += slot->mark.trips != 0;
	return n ? n : 1;
}

/* Would free objects of full slots and barns stay below a quarter of what may be used? */
static bool fits(const struct sheaf_cache *cache, uint32_t capacity, uint32_t slots)
{
	uint64_t most = budget_least(cache), sheaves = 2 * (uint64_t)slots;
	struct sheaf_barn_stats stats;
	uint32_t i;

	for (i = 0; i < cache->nodes; i++) {
		sheaf_barn_stats(&cache->node[i].barn, &stats);
		sheaves += stats.full.limit;
	}
	if (most == UINT64_MAX)
		most = TUNE_BYTES;
	return sheaves * capacity <= most / 4 / cache->object_size;
}

static void tune(struct sheaf_cache *cache, uint64_t trips)
{
	struct cache_tuning *t = &cache->tuning;
	uint64_t lost = races(cache), new_trips = trips - t->trips, new_races = lost - t->races;
	uint64_t looks = UINT64_C(1000000000) / (cache->trim_task.delay_ns + 1) + 1;
	uint32_t slots = slots_used(cache), capacity = load_relaxed(&cache->capacity), next;
	bool many = new_trips * looks > (uint64_t)TRIPS_MANY * slots ||
		    (new_races * RACES_MANY > new_trips && new_races > slots);

	t->trips = trips;
	t->races = lost;
	t->calm = new_trips * looks < (uint64_t)TRIPS_FEW * slots ? t->calm + 1 : 0;
	/* Half a line of header and whole lines of pointers, as default_capacity(). */
	if (many)
		next = 2 * capacity + 4;
	else if (t->calm >= CALM_LOOKS && capacity > t->least)
		next = capacity > 2 * t->least + 4 ? (capacity - 4) / 2 : t->least;
	else
		return;
	t->calm = 0;
	if (many && (next > CAPACITY_TUNED_MAX || !fits(cache, next, slots)))
		return;
	sheaf_cache_set_capacity(cache, next);
	fetch_add_relaxed(&cache->tuned, 1);
}

/* One look; true if there is something for the next one. */
static bool trim(struct sheaf_cache *cache, size_t *objects)
{
	struct discarded trimming = {cache, 0};
	struct slots_look look = trim_slots(cache);
	bool left = look.aged || look.young;
	uint32_t i;

	if (cache->cross) {
		struct slots_look remote = trim_slots(cache->cross);

		left |= remote.aged || remote.young;
		/* The barn of a cross cache holds empty sheaves, and those that were idle. */
		cache_drain_barns(cache->cross);
	}
	for (i = 0; i < cache->nodes; i++)
		left |= sheaf_barn_trim(&cache->node[i].barn, &cache->node[i].look, cache_discard_one,
					&trimming);
	if (trimming.objects && cache->backend.ops->trim)
		cache->backend.ops->trim(cache->backend.ctx);
	fetch_add_relaxed(&cache->trimmed, trimming.objects);
	PROBE(trim, PROBE_CACHE(cache), trimming.objects);
	if (cache->tuning.on)
		tune(cache, look.trips);
	*objects = trimming.objects;
	return left;
}

size_t sheaf_cache_trim(struct sheaf_cache *cache)
{
	size_t objects;

	pthread_mutex_lock(&cache->trim_lock);
	(void)trim(cache, &objects);
	pthread_mutex_unlock(&cache->trim_lock);
	return objects;
}

static void trim_run(struct sheaf_gp_task *task)
{
	struct sheaf_cache *cache = container_of(task, struct sheaf_cache, trim_task);
	size_t objects;
	bool left;

	pthread_mutex_lock(&cache->trim_lock);
	left = trim(cache, &objects);
	pthread_mutex_unlock(&cache->trim_lock);
	if (left)
		sheaf_gp_arm(cache->trim_gp, task);
}

int cache_trim_init(struct sheaf_cache *cache, const struct sheaf_cache_attr *a)
{
	cache->tuning.on = a->tune;
	cache->tuning.least = cache->capacity;
	cache->trim_task.delay_ns = (uint64_t)(a->trim_us ? a->trim_us : TRIM_US) * 1000 / LOOKS;
	if (a->trim_us == UINT32_MAX)
		return 0;
	cache->trim_task.run = trim_run;
	if (cache->gp && sheaf_gp_attach(cache->gp, &cache->trim_task) == 0) {
		cache->trim_gp = cache->gp;
		return 0;
	}
	cache->trim_task.run = NULL;
	if (!a->trim_us)
		return 0;
	cache->trim_gp = gp_keeper_get();
	if (!cache->trim_gp)
		return -ENOMEM;
	cache->trim_task.run = trim_run;
	return sheaf_gp_attach(cache->trim_gp, &cache->trim_task);
}

void cache_trim_fini(struct sheaf_cache *cache)
{
	if (cache->trim_gp && cache->trim_gp != cache->gp)
		gp_keeper_put();
}

/*
 * Bytes of objects that one cache gives back: from barns, and what is ripe, or from slots too. A
 * callback over ripe objects may want what our caller holds, who may be another cache's.
 */
static size_t give_back(struct sheaf_cache *cache, bool slots)
{
	size_t objects = 0;
	struct sheaf *ripe;

	while (!cache->ripe && (ripe = cache_drain_ripe(cache)) != NULL)
		objects += sheaf_discard(cache, ripe);
	if (slots)
		objects += cache_drain_slots(cache);
	objects += cache_drain_barns(cache);
	if (objects && cache->backend.ops->trim)
		cache->backend.ops->trim(cache->backend.ctx);
	return objects * cache->object_size;
}

size_t sheaf_trim(size_t bytes)
{
	struct sheaf_cache *cache;
	size_t done = 0;
	uint32_t next;
	int slots;

	for (slots = 0; slots < 2; slots++)
		for (next = 0; done < bytes && (cache = registry_pin(&next)) != NULL;) {
			done += give_back(cache, slots);
			registry_unpin(cache);
		}
	return done;
}
