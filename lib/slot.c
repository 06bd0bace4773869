/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The way into a slot, and what is done there: thread_do() is the one for slots of threads, slot_do()
 * the one for either kind. Who comes from outside is in slot_remote.c, who has which slot in
 * slot_registry.c.
 */
#include "slot.h"

#include "base/memory.h"
#include "base/topology.h"
#include "cache_state.h"

__thread struct slot_table slot_table;

struct sheaf sheaf_none;

#define NO_SHEAVES                                                                                 \
	{                                                                                          \
		&sheaf_none, &sheaf_none,                                                          \
		{                                                                                  \
			&sheaf_none, &sheaf_none                                                   \
		}                                                                                  \
	}

const struct slot_sheaves slot_no_sheaves = NO_SHEAVES;
struct slot slot_none = {.busy = 1, .held = NO_SHEAVES};

#ifdef RSEQ_WIDEN
uint32_t rseq_pause;
#endif

/* The calling thread's slot: found, adopted or made; &slot_none if there is no memory, or nowait
 * is set and it is not there. */
static struct slot *slot_get(struct sheaf_cache *cache, bool nowait)
{
	struct slot *slot = slot_find(cache);

	if (likely(slot != &slot_none) || nowait)
		return slot;
	return slot_make(cache);
}

/* How the owner got in. */
enum slot_way {
	SLOT_ROUND,  /* not in: go round the slot */
	SLOT_INSIDE, /* entered */
	SLOT_LOCKED, /* the same, and holds the lock */
};

/* The lock of a slot that is not frozen (S5). */
static void slot_lock(struct slot *slot)
{
	pthread_mutex_lock(&slot->lock);
	while (unlikely(slot->frozen)) {
		pthread_mutex_unlock(&slot->lock);
		pthread_mutex_lock(&slot->cache->remote_lock);
		pthread_mutex_unlock(&slot->cache->remote_lock);
		pthread_mutex_lock(&slot->lock);
	}
}

static enum slot_way slot_hold(struct slot *slot, bool nowait)
{
	if (likely(slot_enter(slot)))
		return SLOT_INSIDE;
	if (nowait || load_relaxed(&slot->busy))
		return SLOT_ROUND;
	slot_lock(slot);
	store_relaxed(&slot->busy, 1); /* S4 */
	compiler_barrier();
	return SLOT_LOCKED;
}

static void slot_release(struct slot *slot, enum slot_way way)
{
	slot_leave(slot);
	if (unlikely(way == SLOT_LOCKED))
		pthread_mutex_unlock(&slot->lock);
}

/* The place in pair that main is not at. */
static struct sheaf **spare_of(struct slot_sheaves *held)
{
	return &held->pair[held->pair[0] == held->main];
}

static enum slot_did install(struct sheaf **place, struct slot_io *io)
{
	struct sheaf *was = *place;

	/* release: partner the load in has_part() */
	store_release(place, io->sheaf ? io->sheaf : &sheaf_none);
	io->sheaf = sheaf_is_none(was) ? NULL : was;
	return SLOT_DID;
}

/* The operations of slot_cpu.h for who is inside a thread's slot. */
static enum slot_did inside_do(struct slot_sheaves *held, enum slot_op op, struct slot_io *io)
{
	struct sheaf **spare = spare_of(held);
	uint32_t n;

	switch (op) {
	case SLOT_POP_MANY:
		/* sheaf_none is shared by all: never written, not even to what it was. */
		if (sheaf_empty(held->main))
			return SLOT_UNMET;
		io->n = sheaf_pop_many(held->main, io->n, io->objects);
		return SLOT_DID;
	case SLOT_PUSH_MANY:
		for (n = 0; n < io->n && slot_push(held->main, io->objects[n]); n++)
			;
		io->n = n;
		return n ? SLOT_DID : SLOT_UNMET;
	case SLOT_PUSH_RCU:
		return slot_push(held->rcu, io->objects[0]) ? SLOT_DID : SLOT_UNMET;
	case SLOT_SWAP:
		/* A look from outside may be going on: slots_look_idle(). */
		store_relaxed(&held->main, *spare);
		return SLOT_DID;
	case SLOT_SWAP_FILLED:
		if (sheaf_empty(*spare))
			return SLOT_UNMET;
		store_relaxed(&held->main, *spare);
		return SLOT_DID;
	case SLOT_SWAP_ROOMY:
		if (sheaf_full(*spare))
			return SLOT_UNMET;
		store_relaxed(&held->main, *spare);
		return SLOT_DID;
	case SLOT_INSTALL:
		return install(spare, io);
	case SLOT_INSTALL_IF_EMPTY:
		return sheaf_empty(*spare) ? install(spare, io) : SLOT_UNMET;
	case SLOT_INSTALL_RCU:
		return install(&held->rcu, io);
	case SLOT_INSTALL_RCU_FULL:
		return sheaf_full(held->rcu) ? install(&held->rcu, io) : SLOT_UNMET;
	}
	return SLOT_AWAY;
}

static enum slot_did thread_do(struct sheaf_cache *cache, enum slot_op op, bool nowait,
			       struct slot_io *io)
{
	struct slot *slot = slot_get(cache, nowait);
	enum slot_way way = slot_hold(slot, nowait);
	enum slot_did did;

	if (way == SLOT_ROUND)
		return SLOT_AWAY;
	did = inside_do(&slot->held, op, io);
	slot_release(slot, way);
	return did;
}

/* One attempt at the slot of this CPU. */
static enum slot_did cpu_do(const struct cpu_slots *cpus, enum slot_op op, struct slot_io *io)
{
	struct sheaf *sheaf = io->sheaf ? io->sheaf : &sheaf_none, *was = NULL;
	enum slot_did did = SLOT_AWAY;

	switch (op) {
	case SLOT_POP_MANY:
		return cpu_pop_many(cpus, &io->n, io->objects);
	case SLOT_PUSH_MANY:
		return cpu_push_many(cpus, &io->n, io->objects);
	case SLOT_PUSH_RCU:
		return cpu_push_rcu(cpus, io->objects[0]);
	case SLOT_SWAP:
		return cpu_swap(cpus);
	case SLOT_SWAP_FILLED:
		return cpu_swap_filled(cpus);
	case SLOT_SWAP_ROOMY:
		return cpu_swap_roomy(cpus);
	case SLOT_INSTALL:
		did = cpu_install_spare(cpus, sheaf, &was);
		break;
	case SLOT_INSTALL_IF_EMPTY:
		did = cpu_install_spare_if_empty(cpus, sheaf, &was);
		break;
	case SLOT_INSTALL_RCU:
		did = cpu_install_rcu(cpus, sheaf, &was);
		break;
	case SLOT_INSTALL_RCU_FULL:
		did = cpu_install_rcu_if_full(cpus, sheaf, &was);
		break;
	}
	if (did == SLOT_DID)
		io->sheaf = sheaf_is_none(was) ? NULL : was;
	return did;
}

/* There was no way into the slot of this CPU. True if another try makes sense. */
static bool cpu_retry(struct sheaf_cache *cache, bool nowait)
{
	uint32_t cpu = load_relaxed(&rseq_self()->cpu_id);

	if (cpu == RSEQ_CPU_UNREGISTERED)
		return rseq_thread_register();
	if (nowait || cpu >= cache->cpus.n)
		return false;
	/* A remote party is at work, which holds this lock. */
	pthread_mutex_lock(&cache->remote_lock);
	pthread_mutex_unlock(&cache->remote_lock);
	return true;
}

/* So many attempts fail in a row only under a debugger or a storm of signals. */
#define ATTEMPTS 64

enum slot_did slot_do(struct sheaf_cache *cache, enum slot_op op, bool nowait, struct slot_io *io)
{
	unsigned aborts;

	if (!cache->cpus.n)
		return thread_do(cache, op, nowait, io);
	for (aborts = 0; aborts < ATTEMPTS;) {
		enum slot_did did = cpu_do(&cache->cpus, op, io);

		if (did == SLOT_DID || did == SLOT_UNMET)
			return did;
		if (did == SLOT_ABORTED) {
			fetch_add_relaxed(&cache->aborts, 1);
			aborts++;
		} else if (!cpu_retry(cache, nowait)) {
			break;
		}
	}
	return SLOT_AWAY;
}

struct slot_trips *slot_trips(struct sheaf_cache *cache)
{
	struct slot *slot;

	if (cache->cpus.n) {
		uint32_t cpu = load_relaxed(&rseq_self()->cpu_id);

		return cpu < cache->cpus.n ? &cache->cpus.slots[cpu].trips : &cache->trips;
	}
	slot = slot_find(cache);
	return slot != &slot_none ? &slot->trips : &cache->trips;
}

bool cpu_slots_make(struct sheaf_cache *cache)
{
	uint32_t n = topology_cpus(), i;

	cache->cpus.slots =
		memory_zalloc(sizeof(*cache->cpus.slots), n * sizeof(*cache->cpus.slots));
	cache->cpu_seen = memory_zalloc(CACHE_LINE, n * sizeof(*cache->cpu_seen));
	cache->cpu_marks = memory_zalloc(CACHE_LINE, n * sizeof(*cache->cpu_marks));
	if (!cache->cpus.slots || !cache->cpu_seen || !cache->cpu_marks)
		return false;
	for (i = 0; i < n; i++)
		cache->cpus.slots[i].held = slot_no_sheaves;
	cache->cpus.n = n;
	return true;
}

void slots_delete(struct sheaf_cache *cache)
{
	struct slot *slot;

	while ((slot = cache->slots) != NULL) {
		cache->slots = slot->next;
		pthread_mutex_destroy(&slot->lock);
		memory_free(slot);
	}
	memory_free(cache->cpus.slots);
	memory_free(cache->cpu_seen);
	memory_free(cache->cpu_marks);
}

static bool held_check(const struct slot_sheaves *held)
{
	if (held->main != held->pair[0] && held->main != held->pair[1])
		return false;
	if (held->pair[0] == held->pair[1] && !sheaf_is_none(held->main))
		return false;
	return sheaf_check(held->pair[0]) && sheaf_check(held->pair[1]) && sheaf_check(held->rcu);
}

bool slots_check(const struct sheaf_cache *cache)
{
	const struct slot *slot;
	uint32_t i;

	for (i = 0; i < cache->cpus.n; i++)
		if (cache->cpus.slots[i].stop || !held_check(&cache->cpus.slots[i].held))
			return false;
	for (slot = cache->slots; slot; slot = slot->next)
		if (slot->busy || !held_check(&slot->held))
			return false;
	return true;
}
