/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What is between retiring and coming back: how much it may be, when it is sealed though it is
 * not full, and who looks after it once it is ripe.
 *
 * Pressure. In flight are the objects in recyclers, ripe or not.
 *
 *	volume    Enough given within one period (a third of the soft limit) hurries the source:
 *	          what is in flight should fit a processor's cache, and time says nothing about it.
 *	soft      Above it, who would go to the backend for more memory gives way to the source
 *	          first; and who takes a ripe sheaf gives another one to the backend. Without the
 *	          latter, what a moment of slow periods has added would go round for ever: all
 *	          of the queue is used in turn, and none of it is warm.
 *	hard      sheaf_cache_throttle() waits above it. Nobody else does: retiring does not wait for it.
 *
 * Age. An rcu sheaf that is not full has to come to its recycler some time. Its first object
 * comes in by a slow path, which arms a task of the source after it. The task looks at the
 * address of each slot's rcu sheaf. One that was there the last time as well is sealed by a
 * take-over; if others are there it arms itself again. It looks twice in the time of the attribute,
 * less a bit for the grace period. A busy slot has another sheaf each time, and is left alone.
 *
 *  A1  No rcu sheaf with an object in it stays for ever while its slot is not used: the arming
 *      exchange comes after the object. Either it finds the task armed and comes before the
 *      exchange by which the run begins, which then sees the sheaf (release to acquire); or it
 *      arms a run that comes after it. For a sheaf that a signal handler put there the next
 *      call that leaves the fast path does it (age_missed): handlers do not call sources.
 *  A2  Addresses are compared, not followed (C3 in slot_cpu.h). One that was freed and comes
 *      again only makes a sheaf look older than it is.
 *
 * Callback. Each ripe object passes it once, in the taker's context or on the source's thread, and
 * counts as allocated meanwhile; what it pops from the sheaf stays allocated.
 */
#include "cache_state.h"

#include "base/probe.h"
#include "base/report.h"
#include "base/wait.h"
#include "watch.h"

#include <errno.h>

#define SOFT_BYTES (UINT64_C(8) << 20)
#define HARD_BYTES (UINT64_C(128) << 20)
/* Limits make no sense below some sheaves. */
#define SHEAVES_LEAST 8
#define AGE_US 10000
#define RIPE_DELAY_NS UINT64_C(200000)

/* The callbacks that this thread is in, the innermost first. */
struct inside {
	const struct sheaf_cache *cache;
	const struct inside *outer;
};

static __thread const struct inside *inside __attribute__((tls_model("initial-exec")));

bool cache_inside_ripe(void)
{
	return inside != NULL;
}

void cache_call_ripe(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	const struct inside me = {cache, inside};

	if (!cache->ripe)
		return;
	if (cache->watch)
		watch_show(cache, sheaf);
	inside = &me;
	cache->ripe(cache->ripe_arg, sheaf);
	inside = me.outer;
	if (cache->watch)
		watch_hide(cache, sheaf);
}

static bool is_inside(const struct sheaf_cache *cache)
{
	const struct inside *i = inside;

	while (i && i->cache != cache)
		i = i->outer;
	return i;
}

/* For recyclers. */
static void call_ripe(void *arg, struct sheaf *sheaf)
{
	cache_call_ripe(arg, sheaf);
}

static uint64_t in_flight(const struct sheaf_cache *cache)
{
	uint64_t objects = 0;
	uint32_t i;

	for (i = 0; i < cache->nodes; i++)
		objects += sheaf_recycler_objects(&cache->node[i].recycler);
	return objects;
}

static bool pressed(const struct sheaf_cache *cache)
{
	return in_flight(cache) > load_relaxed(&cache->rcu_soft_limit);
}

/* Counts what is given until the next period ends. Races lose some of it, which does not matter. */
static void count_volume(struct sheaf_cache *cache, uint32_t objects)
{
	uint64_t completed = load_relaxed(&cache->gp->completed), volume = objects;

	if (load_relaxed(&cache->volume_since) != completed) {
		store_relaxed(&cache->volume_since, completed);
		store_relaxed(&cache->volume, objects);
	} else {
		volume += fetch_add_relaxed(&cache->volume, objects);
	}
	if (volume <= load_relaxed(&cache->rcu_soft_limit) / 3)
		return;
	store_relaxed(&cache->volume, 0);
	sheaf_gp_hurry(cache->gp);
}

void cache_seal(struct sheaf_cache *cache, struct cache_node *node, struct sheaf *sheaf)
{
	uint32_t objects = sheaf->size;

	PROBE(seal, PROBE_CACHE(cache), node - cache->node, objects);
	sheaf->node = (uint16_t)(node - cache->node);
	(void)sheaf_recycler_give(&node->recycler, sheaf);
	/* From here on the sheaf is another's. */
	count_volume(cache, objects);
	cache_arm(cache, cache->gp, &cache->ripe_task);
}

void cache_ripe_in(struct sheaf_cache *cache, struct sheaf *sheaf, bool nowait)
{
	if (unlikely(cache->watch))
		watch_ripe(cache, sheaf, nowait);
	else
		objects_in(cache, sheaf->size, sheaf->objects);
}

static struct sheaf *take_from(struct sheaf_cache *cache, struct cache_node *node, bool nowait)
{
	struct sheaf *sheaf = sheaf_recycler_take(&node->recycler);

	if (sheaf) {
		PROBE(ripe, PROBE_CACHE(cache), node - cache->node, sheaf->size);
		cache_ripe_in(cache, sheaf, nowait);
	}
	return sheaf;
}

static void discard_surplus(struct sheaf_cache *cache, struct cache_node *node)
{
	struct sheaf *sheaf = pressed(cache) ? take_from(cache, node, false) : NULL;

	if (!sheaf)
		return;
	fetch_add_relaxed(&cache->surplus, sheaf->size);
	sheaf_flush(cache, sheaf);
	sheaf_dispose(cache, sheaf);
}

struct sheaf *cache_take_ripe(struct sheaf_cache *cache, struct cache_node *node, unsigned flags)
{
	uint32_t i, first = (uint32_t)(node - cache->node);

	if (!cache->gp || cache->ripe_by_driver)
		return NULL;
	/* The callback is not for signal handlers, and not to be called by itself. */
	if (cache->ripe && ((flags & CACHE_LAYERS_ONLY) || is_inside(cache)))
		return NULL;
	for (i = 0; i < cache->nodes; i++) {
		struct cache_node *from = &cache->node[(first + i) % cache->nodes];
		struct sheaf *sheaf = take_from(cache, from, flags & (CACHE_LAYERS_ONLY | SHEAF_NOWAIT));

		if (sheaf && cache->cross)
			sheaf = cache_take_home(cache, node, sheaf, flags & SHEAF_NOWAIT);
		if (!sheaf)
			continue;
		if (!(flags & SHEAF_NOWAIT))
			discard_surplus(cache, from);
		return sheaf;
	}
	return NULL;
}

struct sheaf *cache_wait_ripe(struct sheaf_cache *cache, struct cache_node *node)
{
	if (!cache->gp || inside || !pressed(cache) || sheaf_gp_read_ongoing(cache->gp))
		return NULL;
	fetch_add_relaxed(&cache->gave_way, 1);
	PROBE(gave_way, PROBE_CACHE(cache));
	sheaf_gp_give_way(cache->gp);
	/* The driver puts them there. */
	if (cache->ripe_by_driver)
		return sheaf_barn_take_full(&node->barn);
	return cache_take_ripe(cache, node, 0);
}

struct sheaf *cache_drain_ripe(struct sheaf_cache *cache)
{
	struct sheaf *sheaf = NULL;
	uint32_t i;

	for (i = 0; cache->gp && !sheaf && i < cache->nodes; i++)
		sheaf = take_from(cache, &cache->node[i], false);
	return sheaf;
}

/* Down to the soft limit. */
static void discard_ripe(struct sheaf_cache *cache)
{
	struct sheaf *sheaf;

	while (pressed(cache) && (sheaf = cache_drain_ripe(cache)) != NULL) {
		fetch_add_relaxed(&cache->surplus, sheaf->size);
		sheaf_flush(cache, sheaf);
		sheaf_dispose(cache, sheaf);
	}
}

int sheaf_cache_throttle(struct sheaf_cache *cache)
{
	unsigned turns = 0;
	int err;

	if (!cache->gp || in_flight(cache) <= load_relaxed(&cache->rcu_hard_limit))
		return 0;
	if (inside)
		fatal("cache %s: throttle called by a callback for ripe objects", cache->name);
	fetch_add_relaxed(&cache->throttled, 1);
	PROBE(throttle_begin, PROBE_CACHE(cache));
	do {
		err = sheaf_gp_wait(cache->gp, sheaf_gp_ticket(cache->gp));
		if (err) {
			PROBE(throttle_end, PROBE_CACHE(cache), err);
			return err;
		}
		if (!cache->ripe_by_driver) {
			discard_ripe(cache);
			continue;
		}
		/* Nobody has, if there was no driver when they were sealed, or before a fork. */
		sheaf_gp_arm(cache->gp, &cache->ripe_task);
		/* It has run since, or there is no driver. */
		if (load_acquire(&cache->ripe_task.armed) != SHEAF_GP_ARMED)
			discard_ripe(cache);
		wait_a_little(&turns);
	} while (in_flight(cache) > load_relaxed(&cache->rcu_hard_limit));
	PROBE(throttle_end, PROBE_CACHE(cache), err);
	return 0;
}

int sheaf_cache_set_rcu_limits(struct sheaf_cache *cache, uint64_t soft, uint64_t hard)
{
	if (!soft || soft > hard)
		return -EINVAL;
	store_relaxed(&cache->rcu_soft_limit, soft);
	store_relaxed(&cache->rcu_hard_limit, hard);
	return 0;
}

/* The source's thread: what is ripe goes through the callback, and to the barn. */
static void ripe_run(struct sheaf_gp_task *task)
{
	struct sheaf_cache *cache = container_of(task, struct sheaf_cache, ripe_task);
	struct sheaf *sheaf;
	uint32_t i;

	for (i = 0; i < cache->nodes; i++) {
		struct cache_node *node = &cache->node[i];

		while ((sheaf = take_from(cache, node, false)) != NULL) {
			if (cache->cross)
				sheaf = cache_take_home(cache, node, sheaf, false);
			if (!sheaf)
				continue;
			cache_arm_trim(cache);
			if (!sheaf_empty(sheaf) && sheaf_barn_give_full(&node->barn, sheaf) == 0)
				continue;
			sheaf_flush(cache, sheaf);
			sheaf_dispose(cache, sheaf);
		}
	}
	if (in_flight(cache))
		sheaf_gp_arm(cache->gp, task);
}

void cache_rcu_installed(struct sheaf_cache *cache)
{
	/* acq_rel: A1, partner the store in retire_in(); the arming exchange below passes it on */
	if (load_relaxed(&cache->age_missed))
		(void)exchange_acq_rel(&cache->age_missed, false);
	cache_arm(cache, cache->gp, &cache->age_task);
}

static void age_run(struct sheaf_gp_task *task)
{
	struct sheaf_cache *cache = container_of(task, struct sheaf_cache, age_task);

	PROBE(age_look, PROBE_CACHE(cache));
	if (cache_seal_aged(cache))
		sheaf_gp_arm(cache->gp, task);
}

/* The lower of two limits, 0 being the default of each. */
static uint64_t limit(uint64_t objects, uint64_t bytes, uint64_t bytes_default, size_t object_size,
		      uint64_t least)
{
	uint64_t n = UINT64_MAX;

	if (objects)
		n = objects;
	if (bytes)
		n = bytes / object_size < n ? bytes / object_size : n;
	if (!objects && !bytes)
		n = bytes_default / object_size > least ? bytes_default / object_size : least;
	return n ? n : 1;
}

int cache_ripe_init(struct sheaf_cache *cache, const struct sheaf_cache_attr *a)
{
	struct sheaf_recycler_attr recycler_attr = {.size = sizeof(recycler_attr)};
	uint64_t least = (uint64_t)SHEAVES_LEAST * cache->capacity, age;
	uint32_t i;
	int err = 0;

	cache->rcu_soft_limit =
		limit(a->rcu_soft_limit, a->rcu_soft_bytes, SOFT_BYTES, a->object_size, least);
	cache->rcu_hard_limit =
		limit(a->rcu_hard_limit, a->rcu_hard_bytes, HARD_BYTES, a->object_size, 2 * least);
	/* The soft one counts if it was asked for. */
	if (cache->rcu_hard_limit < cache->rcu_soft_limit) {
		if (a->rcu_soft_limit || a->rcu_soft_bytes)
			cache->rcu_hard_limit = cache->rcu_soft_limit;
		else
			cache->rcu_soft_limit = cache->rcu_hard_limit;
	}
	cache->ripe = a->ripe;
	cache->ripe_arg = a->ripe_arg;
	if (a->ripe) {
		recycler_attr.ripe = call_ripe;
		recycler_attr.ripe_arg = cache;
	}
	for (i = 0; cache->gp && i < cache->nodes; i++)
		sheaf_recycler_init(&cache->node[i].recycler, cache->gp, &recycler_attr);
	if (!cache->gp)
		return 0;

	/* Two looks in that time, and a fifth for the grace period. */
	age = a->rcu_age_us ? a->rcu_age_us : AGE_US;
	cache->age_task.delay_ns = age * 400;
	cache->age_task.run = age_run;
	if (age == UINT32_MAX || sheaf_gp_attach(cache->gp, &cache->age_task))
		cache->age_task.run = NULL;
	if (a->ripe_by != SHEAF_RIPE_BY_DRIVER)
		return 0;
	cache->ripe_task.delay_ns = RIPE_DELAY_NS;
	cache->ripe_task.run = ripe_run;
	err = sheaf_gp_attach(cache->gp, &cache->ripe_task);
	cache->ripe_by_driver = !err;
	if (err) {
		cache->ripe_task.run = NULL;
		cache_ripe_end(cache);
	}
	return err;
}

/* In this order: each may arm those behind it, and nobody arms what is detached. */
void cache_ripe_end(struct sheaf_cache *cache)
{
	if (cache->age_task.run)
		sheaf_gp_detach(cache->gp, &cache->age_task);
	if (cache->ripe_task.run)
		sheaf_gp_detach(cache->gp, &cache->ripe_task);
	if (cache->trim_task.run)
		sheaf_gp_detach(cache->trim_gp, &cache->trim_task);
	cache->ended = true;
}

/* One that was armed when it was detached is armed again. */
static void attach_again(struct sheaf_gp *gp, struct sheaf_gp_task *task)
{
	bool armed = load_relaxed(&task->armed);

	if (!task->run)
		return;
	sheaf_gp_attach(gp, task);
	if (armed)
		sheaf_gp_arm(gp, task);
}

void cache_ripe_again(struct sheaf_cache *cache)
{
	cache->ended = false;
	attach_again(cache->gp, &cache->age_task);
	attach_again(cache->gp, &cache->ripe_task);
	attach_again(cache->trim_gp, &cache->trim_task);
}
