/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The remote side of slots: what a party does that is not the owner of a thread's slot, or not
 * on the CPU of a CPU's. The protocols are in slot.h (S1 to S6) and slot_cpu.h (C1 to C4).
 */
#include "slot.h"

#include "base/membarrier.h"
#include "base/probe.h"
#include "base/wait.h"
#include "cache_state.h"

/* Is there something of these parts in the slot? */
static bool has_part(const struct slot_sheaves *held, const struct slot_mark *mark, unsigned parts)
{
	/* acquire: partners the stores in install() and cpu_install_rcu(). Who sees that a sheaf is gone
	 * sees the transit that began before. */
	const struct sheaf *rcu = load_acquire(&held->rcu);

	if ((parts & PART_ALLOC) || ((parts & PART_IDLE) && mark->idle))
		return true;
	return !sheaf_is_none(rcu) &&
	       ((parts & PART_RCU) || ((parts & PART_AGED) && rcu == mark->aged));
}

static bool cpu_slots_stop(struct sheaf_cache *cache, unsigned parts)
{
	bool any = false;
	uint32_t i;

	for (i = 0; i < cache->cpus.n; i++) {
		struct cpu_slot *slot = &cache->cpus.slots[i];

		if (!has_part(&slot->held, &cache->cpu_marks[i], parts))
			continue;
		slot->taken = any = true;
		store_release(&slot->stop, 1);
	}
	return any;
}

static bool thread_slots_stop(struct sheaf_cache *cache, unsigned parts)
{
	bool any = false;
	struct slot *slot;

	/* acquire: partner store in slot_take() */
	cache->stopped = load_acquire(&cache->slots);
	for (slot = cache->stopped; slot; slot = slot->next) {
		if (!has_part(&slot->held, &slot->mark, parts))
			continue;
		slot->taken = any = true;
		if (membarrier_ready())
			store_relaxed(&slot->stop, 1);
	}
	return any;
}

void slots_stop(struct sheaf_cache *cache, unsigned parts)
{
	PROBE(stop, PROBE_CACHE(cache), parts);
	if (cache->cpus.n) {
		if (cpu_slots_stop(cache, parts))
			rseq_fence(); /* C2 */
	} else if (thread_slots_stop(cache, parts) && membarrier_ready()) {
		membarrier_all(); /* S1, partner compiler_barrier() in slot_enter() */
	}
}

static void look_at(const struct slot_sheaves *held, const struct sheaf **aged,
		    struct slots_look *look)
{
	const struct sheaf *rcu = load_relaxed(&held->rcu);

	if (sheaf_is_none(rcu)) {
		*aged = NULL;
		return;
	}
	if (rcu == *aged)
		look->aged = true;
	else
		look->young = true;
	*aged = rcu;
}

struct slots_look slots_look(struct sheaf_cache *cache)
{
	struct slots_look look = {0};
	struct slot *slot;
	uint32_t i;

	for (i = 0; i < cache->cpus.n; i++)
		look_at(&cache->cpus.slots[i].held, &cache->cpu_marks[i].aged, &look);
	/* acquire: partner store in slot_take() */
	for (slot = load_acquire(&cache->slots); slot; slot = slot->next)
		look_at(&slot->held, &slot->mark.aged, &look);
	return look;
}

static void look_idle_at(const struct slot_sheaves *held, const struct slot_trips *counts,
			 struct slot_mark *mark, struct slots_look *look)
{
	struct slot_sheaves now = {
		.main = load_relaxed(&held->main),
		.pair = {load_relaxed(&held->pair[0]), load_relaxed(&held->pair[1])},
	};
	uint64_t trips = load_relaxed(&counts->barn_alloc) + load_relaxed(&counts->barn_free);

	mark->idle = trips == mark->trips && now.main == mark->seen.main &&
		     now.pair[0] == mark->seen.pair[0] && now.pair[1] == mark->seen.pair[1];
	mark->seen = now;
	mark->trips = trips;
	look->trips += trips;
	if (sheaf_is_none(now.pair[0]) && sheaf_is_none(now.pair[1]))
		mark->idle = false;
	else if (mark->idle)
		look->aged = true;
	else
		look->young = true;
}

struct slots_look slots_look_idle(struct sheaf_cache *cache)
{
	struct slots_look look = {0};
	struct slot *slot;
	uint32_t i;

	for (i = 0; i < cache->cpus.n; i++)
		look_idle_at(&cache->cpus.slots[i].held, &cache->cpus.slots[i].trips,
			     &cache->cpu_marks[i], &look);
	/* acquire: partner store in slot_take() */
	for (slot = load_acquire(&cache->slots); slot; slot = slot->next)
		look_idle_at(&slot->held, &slot->trips, &slot->mark, &look);
	return look;
}

static void seize(struct slot *slot)
{
	unsigned turns = 0;

	pthread_mutex_lock(&slot->lock);
	/* acquire: S3, partner store in slot_leave() */
	while (load_acquire(&slot->busy))
		wait_a_little(&turns);
}

void slots_go(struct sheaf_cache *cache)
{
	struct slot *slot;
	uint32_t i;

	PROBE(go, PROBE_CACHE(cache));
	/* C2: what was done to the slots is there for who sees stop gone. */
	for (i = 0; i < cache->cpus.n; i++) {
		if (!cache->cpus.slots[i].taken)
			continue;
		cache->cpus.slots[i].taken = false;
		store_release(&cache->cpus.slots[i].stop, 0);
	}
	if (cache->cpus.n)
		return;
	for (slot = cache->stopped; slot; slot = slot->next) {
		if (!slot->taken)
			continue;
		slot->taken = false;
		if (membarrier_ready())
			store_release(&slot->stop, 0); /* S3, partner load in slot_enter() */
	}
}

/* A sheaf into a list through link. */
static void list_add(struct sheaf **list, struct sheaf *sheaf)
{
	if (sheaf_is_none(sheaf))
		return;
	sheaf->link = *list;
	*list = sheaf;
}

/* Which of a slot's sheaves are meant. */
static bool wants_rcu(const struct slot_sheaves *held, const struct slot_mark *mark, unsigned parts)
{
	return (parts & PART_RCU) || ((parts & PART_AGED) && held->rcu == mark->aged);
}

static bool wants_alloc(const struct slot_mark *mark, unsigned parts)
{
	return (parts & PART_ALLOC) || ((parts & PART_IDLE) && mark->idle);
}

/* One store after the other, as the owner's: a copy of the slot (fork) may be made between them. */
static void collect(struct slot_sheaves *held, const struct slot_mark *mark, unsigned parts,
		    struct sheaf **list)
{
	if (wants_rcu(held, mark, parts)) {
		list_add(list, held->rcu);
		store_relaxed(&held->rcu, &sheaf_none);
	}
	if (wants_alloc(mark, parts)) {
		list_add(list, held->pair[0]);
		list_add(list, held->pair[1]);
		store_relaxed(&held->main, &sheaf_none);
		store_relaxed(&held->pair[0], &sheaf_none);
		store_relaxed(&held->pair[1], &sheaf_none);
	}
}

/*
 * C2. Sequences in progress may still push to and pop from the sheaves until the second fence, so
 * their links are not ours before it: what was seen waits in an array.
 */
static struct sheaf *cpu_collect(struct sheaf_cache *cache, unsigned parts)
{
	struct slot_sheaves *seen = cache->cpu_seen;
	struct sheaf *list = NULL;
	bool any = false;
	uint32_t i;

	for (i = 0; i < cache->cpus.n; i++) {
		struct slot_sheaves *held = &cache->cpus.slots[i].held;

		seen[i] = slot_no_sheaves;
		if (!cache->cpus.slots[i].taken)
			continue;
		any = true;
		if (wants_rcu(held, &cache->cpu_marks[i], parts)) {
			seen[i].rcu = held->rcu;
			store_relaxed(&held->rcu, &sheaf_none);
		}
		if (wants_alloc(&cache->cpu_marks[i], parts)) {
			seen[i].pair[0] = held->pair[0];
			seen[i].pair[1] = held->pair[1];
			store_relaxed(&held->main, &sheaf_none);
			store_relaxed(&held->pair[0], &sheaf_none);
			store_relaxed(&held->pair[1], &sheaf_none);
		}
	}
	if (!any)
		return NULL;
	rseq_fence(); /* C2 */
	for (i = 0; i < cache->cpus.n; i++)
		collect(&seen[i], NULL, PART_RCU | PART_ALLOC, &list);
	return list;
}

struct sheaf *slots_collect(struct sheaf_cache *cache, unsigned parts)
{
	struct sheaf *list = NULL;
	struct slot *slot;

	if (cache->cpus.n)
		return cpu_collect(cache, parts);
	for (slot = cache->stopped; slot; slot = slot->next) {
		if (!slot->taken)
			continue;
		seize(slot);
		collect(&slot->held, &slot->mark, parts, &list);
		pthread_mutex_unlock(&slot->lock);
	}
	return list;
}

void slots_freeze(struct sheaf_cache *cache)
{
	struct slot *slot;

	slots_stop(cache, PART_RCU | PART_ALLOC);
	for (slot = cache->cpus.n ? NULL : cache->stopped; slot; slot = slot->next) {
		seize(slot);
		slot->frozen = true; /* S5 */
		pthread_mutex_unlock(&slot->lock);
	}
}

void slots_thaw(struct sheaf_cache *cache)
{
	struct slot *slot;

	for (slot = cache->cpus.n ? NULL : cache->stopped; slot; slot = slot->next) {
		pthread_mutex_lock(&slot->lock);
		slot->frozen = false;
		pthread_mutex_unlock(&slot->lock);
	}
	slots_go(cache);
}

static void each_of(const struct slot_sheaves *held, uint32_t number, slots_each_fn *fn, void *arg)
{
	const struct sheaf *main = load_relaxed(&held->main), *rcu = load_relaxed(&held->rcu);
	int i;

	for (i = 0; i < 2; i++) {
		const struct sheaf *sheaf = load_relaxed(&held->pair[i]);

		/* Both of pair may be none. */
		if (!sheaf_is_none(sheaf))
			fn(arg, number, PART_ALLOC, sheaf != main, sheaf);
	}
	if (!sheaf_is_none(rcu))
		fn(arg, number, PART_RCU, false, rcu);
}

void slots_each(struct sheaf_cache *cache, slots_each_fn *fn, void *arg)
{
	struct slot *slot;
	uint32_t i;

	for (i = 0; i < cache->cpus.n; i++)
		each_of(&cache->cpus.slots[i].held, i, fn, arg);
	for (i = 0, slot = cache->cpus.n ? NULL : cache->stopped; slot; slot = slot->next)
		each_of(&slot->held, i++, fn, arg);
}

static void count(void *arg, uint32_t number, unsigned part, bool spare, const struct sheaf *sheaf)
{
	struct slots_held *held = arg;
	uint32_t size = load_relaxed(&sheaf->size);

	(void)number;
	(void)spare;
	held->objects += size;
	held->retired += part == PART_RCU ? size : 0;
}

struct slots_held slots_count(struct sheaf_cache *cache)
{
	struct slots_held held = {0};

	slots_each(cache, count, &held);
	return held;
}
