/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Retiring objects, and waiting for them.
 *
 *	free_rcu -> rcu sheaf of the slot -> sealed when full -> recycler of the node
 *
 * A sealed sheaf leaves the slot before it is given: taking a ticket may start the
 * source's driver, which has no place inside a slot. In between it is in nobody's list, and
 * is counted in transit[].
 *
 * Guarantees:
 *  G1  An object is handed out again only after its ticket, which is taken after the object
 *      was pushed: it sits in a sealed sheaf, and sealing comes before the ticket.
 *  G2  A barrier misses nothing that was retired before it began: every slot with an rcu
 *      sheaf is taken over, nobody looks into the sheaf without that, so what is in it is
 *      sealed (slot.h says why a slot without one may be passed over, so that a barrier
 *      costs a load per slot and a take-over of those used since the last one); and a
 *      sheaf that had left is waited for. transit_begin() comes before the operation that takes the sheaf out. So
 *      if the barrier's take-over finds it gone, it sees the count: in program order
 *      before what the fence (C2) or the way out of a thread's slot (S3) made visible. It sees
 *      each of the two counts at zero once, after the take-over; the sheaf's giver went
 *      from zero only after transit_end() (release to acquire), when the recycler had it.
 *      New sheaves count in the other phase meanwhile, so that the wait ends; one waits
 *      at a time (phase_lock), else two could keep turning the phase for each other.
 *  G3  Retiring never fails. Without memory for a sheaf it empties one; see no_sheaf().
 */
#include "cache_state.h"

#include "base/probe.h"
#include "base/report.h"
#include "base/wait.h"
#include "watch.h"

uint64_t *transit_begin(struct sheaf_cache *cache, struct cache_node *node)
{
	uint64_t *transit = &node->transit[load_relaxed(&cache->phase)];

	fetch_add_relaxed(transit, 1);
	return transit;
}

void transit_end(uint64_t *transit)
{
	/* release: G2, partner load in wait_transit() */
	fetch_sub_release(transit, 1);
}

/*
 * The rcu sheaf is full or missing, and there is no memory for an empty one. Empty one of
 * our own; the objects in it are free and go to the backend. NULL if there is none.
 */
static struct sheaf *empty_one(struct sheaf_cache *cache)
{
	struct cache_node *node = cache_node(cache);
	struct sheaf *sheaf = cache_take_spare(cache, false);
	struct slot_io io = {0};

	if (!sheaf) {
		slot_do(cache, SLOT_SWAP, false, &io);
		sheaf = cache_take_spare(cache, false);
	}
	if (!sheaf)
		sheaf = sheaf_barn_take_full(&node->barn);
	if (!sheaf)
		sheaf = cache_take_ripe(cache, node, 0);
	if (sheaf)
		sheaf_flush(cache, sheaf);
	return sheaf;
}

/* Without a sheaf, but through the callback. */
static void put_one_ripe(struct sheaf_cache *cache, void *object)
{
	_Alignas(struct sheaf) unsigned char memory[sizeof(struct sheaf) + sizeof(void *)];
	struct sheaf *sheaf = sheaf_init(memory, 1);

	sheaf_push(sheaf, object);
	cache_call_ripe(cache, sheaf);
	cache_ripe_in(cache, sheaf, false);
	sheaf_flush(cache, sheaf);
}

/* No sheaf at all to put the object in. */
static void no_sheaf(struct sheaf_cache *cache, void *object)
{
	if (!cache_inside_ripe() && !sheaf_gp_read_ongoing(cache->gp) &&
	    sheaf_gp_wait(cache->gp, sheaf_gp_ticket(cache->gp)) == 0) {
		put_one_ripe(cache, object);
		return;
	}
	fetch_add_relaxed(&cache->abandoned, 1);
}

struct sheaf *cache_fresh_sheaf(struct sheaf_cache *cache)
{
	struct sheaf *fresh = sheaf_barn_take_empty(&cache_node(cache)->barn);

	return fresh ? sheaf_renew(cache, fresh) : sheaf_new(cache_capacity(cache));
}

/*
 * The rcu sheaf is full: exchange it for one that has the object in it, and give it to the
 * recycler. Round the slot, or if another one came first, that one goes there by itself.
 */
static void retire_in(struct sheaf_cache *cache, struct sheaf *fresh, void *object)
{
	/* Where the sheaf is sealed counts, not where it is given. */
	struct cache_node *node = cache_node(cache);
	uint64_t *transit = transit_begin(cache, node);
	struct slot_io io = {.sheaf = fresh};

	sheaf_push(fresh, object);
	/* The empty sheaf came from the barn, or was looked for there. */
	fetch_add_relaxed(&slot_trips(cache)->barn_free, 1);
	PROBE(free_trip, PROBE_CACHE(cache), NULL, fresh);
	switch (slot_do(cache, SLOT_INSTALL_RCU_FULL, false, &io)) {
	case SLOT_DID:
		cache_rcu_installed(cache);
		break;
	case SLOT_UNMET:
		io.sheaf = fresh;
		break;
	default:
		fetch_add_relaxed(&cache->bypassed, 1);
		io.sheaf = fresh;
	}
	if (io.sheaf)
		cache_seal(cache, node, io.sheaf);
	transit_end(transit);
}

bool cache_retire(struct sheaf_cache *cache, void *object, struct sheaf *fresh)
{
	struct slot_io io = {.objects = &object};
	bool used = fresh != NULL;

	if (slot_do(cache, SLOT_PUSH_RCU, false, &io) == SLOT_DID)
		return false;
	if (!fresh)
		fresh = cache_fresh_sheaf(cache);
	if (!fresh)
		fresh = empty_one(cache);
	if (fresh)
		retire_in(cache, fresh, object);
	else
		no_sheaf(cache, object);
	return used;
}

static __attribute__((noinline)) void retire_slow(struct sheaf_cache *cache, void *object)
{
	struct cache_node *node;

	if (!cache->gp)
		fatal("cache %s: retire without a grace-period source", cache->name);
	if (unlikely(cache->watch)) {
		object = watch_retired(cache, object, __builtin_return_address(0), false);
		if (!object)
			return;
	}
	node = cache_node(cache);
	/* Not the free objects: they might go to the backend, which may block. */
	if (unlikely(load_relaxed(&node->sealed) || load_relaxed(&node->noted)))
		cache_take_in_retired(cache, node, false);
	if (unlikely(load_relaxed(&cache->age_missed)))
		cache_rcu_installed(cache);
	cache_retire(cache, object, NULL);
}

void sheaf_cache_free_rcu(struct sheaf_cache *cache, void *object)
{
	if (unlikely(!object))
		return;
	watch_touch(cache, object);
	if (likely(cache->gate.cpus.n)) {
		if (likely(cpu_push_rcu(&cache->gate.cpus, object) == SLOT_DID))
			return;
	} else {
		struct slot *slot = slot_find_fast(cache);

		if (likely(slot_enter(slot))) {
			bool pushed = slot_push(slot->held.rcu, object);

			slot_leave(slot);
			if (likely(pushed))
				return;
		}
	}
	retire_slow(cache, object);
}

static bool in_transit(struct sheaf_cache *cache, unsigned phase)
{
	uint32_t i;

	for (i = 0; i < cache->nodes; i++)
		/* acquire: G2, partner transit_end() */
		if (load_acquire(&cache->node[i].transit[phase]))
			return true;
	return false;
}

/*
 * Who is in transit may have no memory, and wait for a grace period (no_sheaf()). With qsbr that
 * one waits for us, so we let it pass.
 */
static void wait_longer(struct sheaf_cache *cache, unsigned *turns)
{
	if (*turns > WAIT_SPINS + WAIT_YIELDS &&
	    sheaf_gp_wait(cache->gp, sheaf_gp_ticket(cache->gp)) == 0)
		return;
	wait_a_little(turns);
}

/* Waits until sheaves that had left their slots have arrived. */
static void wait_transit(struct sheaf_cache *cache)
{
	unsigned phase, turns = 0;

	for (phase = 0; phase < 2; phase++) {
		if (!in_transit(cache, phase))
			continue;
		while (pthread_mutex_trylock(&cache->phase_lock))
			wait_longer(cache, &turns);
		store_relaxed(&cache->phase, !phase);
		while (in_transit(cache, phase))
			wait_longer(cache, &turns);
		pthread_mutex_unlock(&cache->phase_lock);
	}
}

/* Takes rcu sheaves out of slots and seals them; how many objects. */
static uint64_t seal_slots(struct sheaf_cache *cache, unsigned parts)
{
	struct cache_node *node = cache_node(cache);
	uint64_t *transit = transit_begin(cache, node);
	struct sheaf *list, *next;
	uint64_t objects = 0;

	pthread_mutex_lock(&cache->remote_lock);
	slots_stop(cache, parts);
	list = slots_collect(cache, parts);
	slots_go(cache);
	pthread_mutex_unlock(&cache->remote_lock);
	for (; list; list = next) {
		next = list->link;
		objects += list->size;
		if (sheaf_empty(list))
			sheaf_dispose(cache, list);
		else
			cache_seal(cache, node, list);
	}
	transit_end(transit);
	return objects;
}

bool cache_seal_aged(struct sheaf_cache *cache)
{
	struct slots_look look;

	pthread_mutex_lock(&cache->remote_lock);
	look = slots_look(cache);
	pthread_mutex_unlock(&cache->remote_lock);
	if (look.aged)
		fetch_add_relaxed(&cache->aged, seal_slots(cache, PART_AGED));
	return look.young;
}

void cache_seal_all(struct sheaf_cache *cache, bool wait)
{
	uint32_t i;

	/* What signal handlers noted goes into slots, also by those who took it in before us. */
	for (i = 0; i < cache->nodes; i++)
		cache_unspill_slow(cache, &cache->node[i], wait);
	if (wait)
		wait_transit(cache);
	seal_slots(cache, PART_RCU);
	if (wait)
		wait_transit(cache);

	/* G2 as well: a signal handler took a full rcu sheaf out before we came to its slot. */
	for (i = 0; i < cache->nodes; i++)
		cache_take_in_retired(cache, &cache->node[i], wait);
	if (wait)
		wait_transit(cache);
}

/* Ends the program where a barrier would wait for its caller. */
static void may_wait(struct sheaf_cache *cache)
{
	if (cache_inside_ripe())
		fatal("cache %s: barrier called by a callback for ripe objects", cache->name);
	/* A source tells even if there is nothing to wait for. */
	(void)cache->gp->ops->wait(cache->gp, load_acquire(&cache->gp->completed));
}

int cache_barrier(struct sheaf_cache *cache)
{
	uint32_t i;
	int err;

	if (!cache->gp)
		return 0;
	cache_seal_all(cache, true);
	for (i = 0; i < cache->nodes; i++) {
		err = sheaf_recycler_barrier(&cache->node[i].recycler);
		if (err)
			return err;
	}
	return 0;
}

int sheaf_cache_barrier(struct sheaf_cache *cache)
{
	if (cache->gp)
		may_wait(cache);
	return cache_barrier(cache);
}
