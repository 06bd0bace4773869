/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Calls for any context, signal handlers included, and what they leave behind.
 *
 * They may interrupt any instruction of the library on the same cache. So they use only what
 * is whole at every instruction: operations on slots (a thread slot that is in use turns them
 * away), the barn, the recycler's take, and the single words below. They do not lock,
 * wait, call the backend, malloc, or the grace-period source.
 *
 * What a handler cannot put away is left on the node, for the next normal call that leaves
 * the fast path:
 *
 *	spilled   free objects, chained through their own first word
 *	sealed    rcu sheaves that want a ticket, chained through link
 *	noted     retired objects, each in a note
 *
 * A retired object is still read by others, so it cannot carry a chain: it needs a place in a
 * sheaf, or a note. In this order: the rcu sheaf of the slot; an empty sheaf of the barn; one
 * of the node's notes, which normal calls give back; any sheaf of free objects, which are
 * spilled to empty it; a page of memory from the kernel.
 *
 * Guarantees:
 *  N1  spilled, sealed and noted are only pushed to with CAS, and emptied as a whole with an
 *      exchange: no ABA, and nobody looks at what it does not own. A note is taken by
 *      clearing its bit in a word and given back by setting it.
 *  N2  What was left before the exchange is visible to who takes it in: CAS (release) to
 *      exchange (acquire). A note's last use is over before its bit is set (release to acquire).
 *  N3  A barrier does not miss what was retired before it. That lies in an rcu sheaf, which
 *      the barrier takes over; or on noted or sealed, which it takes in before that; or a handler
 *      has moved that rcu sheaf to sealed meanwhile, in a transit, for which the barrier waits
 *      before it takes in sealed once more; or another party has taken it in. That one has begun
 *      a transit before its exchange (release), and the barrier, who found the list without it
 *      (acquire), sees that and waits. So nobody may take from these lists and put back.
 */
#include "cache_state.h"

#include "base/memory.h"
#include "base/probe.h"
#include "base/report.h"
#include "watch.h"

#include <string.h>

#define NOTE_WORDS 4

struct note {
	struct note *next;
	void *object;
};

struct notes {
	uint64_t free[NOTE_WORDS]; /* a bit per note */
	struct note note[NOTE_WORDS * 64];
};

bool notes_make(struct cache_node *node)
{
	struct notes *notes = memory_zalloc(CACHE_LINE, sizeof(*notes));
	unsigned i;

	if (!notes)
		return false;
	for (i = 0; i < NOTE_WORDS; i++)
		notes->free[i] = UINT64_MAX;
	node->notes = notes;
	return true;
}

void notes_delete(struct cache_node *node)
{
	memory_free(node->notes);
}

static struct note *note_take(struct notes *notes)
{
	unsigned i;

	for (i = 0; i < NOTE_WORDS; i++) {
		uint64_t found = load_relaxed(&notes->free[i]);

		while (found) {
			unsigned n = (unsigned)__builtin_ctzll(found);

			/* acquire: N2 */
			found = fetch_and_acquire(&notes->free[i], ~(UINT64_C(1) << n));
			if (found & UINT64_C(1) << n)
				return &notes->note[i * 64 + n];
		}
	}
	return NULL;
}

static void note_give(struct notes *notes, struct note *note)
{
	unsigned n = (unsigned)(note - notes->note);

	fetch_or_release(&notes->free[n / 64], UINT64_C(1) << n % 64); /* N2 */
}

/* Can free objects be chained? What somebody wants to find in them again must not be written to. */
static bool can_chain(const struct sheaf_cache *cache)
{
	return cache->object_size >= sizeof(void *) && !cache->ctor && !cache->stable &&
	       !watch_writes(cache);
}

/* Free objects are shut to checkers, those found at run time included. */
static void chain_open(const struct sheaf_cache *cache, void *object)
{
	annotate_open_filled(object, sizeof(void *));
	if (unlikely(cache->watch))
		memcheck_open_filled(object, sizeof(void *));
}

static void chain_shut(const struct sheaf_cache *cache, void *object)
{
	annotate_shut(object, sizeof(void *));
	if (unlikely(cache->watch))
		memcheck_shut(object, sizeof(void *));
}

/* The chain through a free object, which need not be aligned for a pointer. */
static void chain_set(const struct sheaf_cache *cache, void *object, void *next)
{
	chain_open(cache, object);
	memcpy(object, &next, sizeof(next));
	chain_shut(cache, object);
}

static void *chain_next(const struct sheaf_cache *cache, void *object)
{
	void *next;

	chain_open(cache, object);
	memcpy(&next, object, sizeof(next));
	chain_shut(cache, object);
	return next;
}

/* Pushes the chain from first to last (n objects). */
static void spill(const struct sheaf_cache *cache, struct cache_node *node, void *first, void *last,
		  uint64_t n)
{
	void *head = load_relaxed(&node->spilled);

	/* release: G6 in cache_stats.c, as for left_objects */
	fetch_add_release(&node->spilled_objects, n);
	PROBE(spill, PROBE_CACHE(cache), n);
	do {
		chain_set(cache, last, head);
		/* release: N2 */
	} while (!cas_weak_release(&node->spilled, &head, first));
}

/* Takes all that is spilled on a node. */
static void *unspill(struct cache_node *node)
{
	return load_relaxed(&node->spilled) ? exchange_acq_rel(&node->spilled, NULL) : NULL;
}

static void leave_sealed(struct sheaf_cache *cache, struct cache_node *node, struct sheaf *sheaf)
{
	struct sheaf *head = load_relaxed(&node->sealed);

	fetch_add_relaxed(&cache->spills, 1);
	PROBE(spill, PROBE_CACHE(cache), sheaf->size);
	fetch_add_release(&node->left_objects, sheaf->size);
	sheaf->node = (uint16_t)(node - cache->node);
	do {
		sheaf->link = head;
		/* release: N2 */
	} while (!cas_weak_release(&node->sealed, &head, sheaf));
}

/* False if all notes are taken. */
static bool leave_noted(struct sheaf_cache *cache, struct cache_node *node, void *object)
{
	struct note *note = note_take(node->notes);
	struct note *head = load_relaxed(&node->noted);

	if (!note)
		return false;
	fetch_add_relaxed(&cache->spills, 1);
	PROBE(spill, PROBE_CACHE(cache), 1);
	fetch_add_release(&node->left_objects, 1);
	note->object = object;
	do {
		note->next = head;
		/* release: N2 */
	} while (!cas_weak_release(&node->noted, &head, note));
	return true;
}

/* A sheaf of free objects, emptied by spilling them. */
static struct sheaf *empty_by_spilling(struct sheaf_cache *cache, struct cache_node *node)
{
	struct sheaf *sheaf = cache_take_spare(cache, true);
	uint32_t i;

	if (!sheaf)
		sheaf = sheaf_barn_take_full(&node->barn);
	if (!sheaf || sheaf_empty(sheaf))
		return sheaf;
	for (i = 1; i < sheaf->size; i++)
		chain_set(cache, sheaf->objects[i - 1], sheaf->objects[i]);
	spill(cache, node, sheaf->objects[0], sheaf->objects[sheaf->size - 1], sheaf->size);
	sheaf->size = 0;
	return sheaf;
}

/* Without a note left: an empty sheaf at any price. */
static struct sheaf *dear_one(struct sheaf_cache *cache, struct cache_node *node)
{
	struct sheaf *sheaf = sheaf_barn_take_empty(&node->barn);

	if (!sheaf && can_chain(cache))
		sheaf = empty_by_spilling(cache, node);
	return sheaf ? sheaf : sheaf_map();
}

/* The rcu sheaf is full: this one takes its place, with the object in it. If there is no way
 * in, or another one came first, it is left by itself. */
static void retire_in(struct sheaf_cache *cache, struct cache_node *node, struct sheaf *fresh,
		      void *object)
{
	struct slot_io io = {.sheaf = fresh};

	sheaf_push(fresh, object);
	if (slot_do(cache, SLOT_INSTALL_RCU_FULL, true, &io) == SLOT_DID)
		/* release: A1, partner the exchange in cache_rcu_installed() */
		store_release(&cache->age_missed, true);
	else
		io.sheaf = fresh;
	if (io.sheaf)
		leave_sealed(cache, node, io.sheaf);
}

/* Not into the rcu sheaf of the slot: it is full, or there is no way in. */
static void retire_aside(struct sheaf_cache *cache, struct cache_node *node, bool full, void *object)
{
	struct sheaf *fresh = NULL;

	if (full) {
		fetch_add_relaxed(&slot_trips(cache)->barn_free, 1);
		fresh = sheaf_barn_take_empty(&node->barn);
		PROBE(free_trip, PROBE_CACHE(cache), NULL, fresh);
	}
	if (!fresh && leave_noted(cache, node, object))
		return;
	if (!fresh)
		fresh = dear_one(cache, node);
	if (fresh)
		retire_in(cache, node, fresh, object);
	else
		fetch_add_relaxed(&cache->abandoned, 1);
}

void sheaf_cache_free_rcu_nowait(struct sheaf_cache *cache, void *object)
{
	struct slot_io io = {.objects = &object};
	struct cache_node *node;
	enum slot_did did;
	uint64_t *transit;

	if (!object)
		return;
	if (!cache->gp)
		fatal("cache %s: retire without a grace-period source", cache->name);
	watch_touch(cache, object);
	if (unlikely(cache->watch)) {
		object = watch_retired(cache, object, __builtin_return_address(0), true);
		if (!object)
			return;
	}
	did = slot_do(cache, SLOT_PUSH_RCU, true, &io);
	if (did == SLOT_DID)
		return;
	node = cache_node(cache);
	transit = transit_begin(cache, node);
	if (did == SLOT_AWAY)
		fetch_add_relaxed(&cache->bypassed, 1);
	retire_aside(cache, node, did == SLOT_UNMET, object);
	transit_end(transit);
}

/* From what is spilled on the node; the rest goes back. */
static void *alloc_spilled(const struct sheaf_cache *cache, struct cache_node *node)
{
	void *object = unspill(node), *none = NULL, *rest, *last, *next;

	if (!object)
		return NULL;
	fetch_sub_relaxed(&node->spilled_objects, 1);
	rest = chain_next(cache, object);
	/* release: N2. Nobody has spilled meanwhile, as a rule. */
	if (!rest || cas_release(&node->spilled, &none, rest))
		return object;
	for (last = rest; (next = chain_next(cache, last)) != NULL; last = next)
		;
	spill(cache, node, rest, last, 0);
	return object;
}

void *sheaf_cache_alloc_nowait(struct sheaf_cache *cache)
{
	void *object;

	if (unlikely(cache->watch) && watch_refuses(cache, NULL))
		return NULL;
	if (!cache_get(cache, SHEAF_NOWAIT | CACHE_LAYERS_ONLY, 1, &object))
		object = alloc_spilled(cache, cache_node(cache));
	if (object && unlikely(cache->watch))
		return watch_out(cache, object, __builtin_return_address(0), true);
	if (object)
		object_out(cache, object);
	return object;
}

/* No place in slot or barn. */
static void free_aside(struct sheaf_cache *cache, struct cache_node *node, void *object)
{
	struct sheaf *page;

	if (can_chain(cache)) {
		fetch_add_relaxed(&cache->spills, 1);
		spill(cache, node, object, object, 1);
		return;
	}
	/* The page of the last one, as a rule. */
	page = barn_take_roomy(&node->barn);
	if (!page)
		page = sheaf_map();
	if (!page) {
		fetch_add_relaxed(&cache->abandoned, 1);
		return;
	}
	sheaf_push(page, object);
	sheaf_barn_keep(&node->barn, page);
}

void sheaf_cache_free_nowait(struct sheaf_cache *cache, void *object)
{
	struct sheaf *full, *roomy;
	struct cache_node *node;
	enum slot_did did;
	size_t done = 0;

	if (!object)
		return;
	if (unlikely(cache->watch)) {
		object = watch_in(cache, object, __builtin_return_address(0), true);
		if (!object)
			return;
	} else {
		object_in(cache, object);
	}
	did = cache_slot_put(cache, true, 1, &object, &done);
	if (did == SLOT_DID)
		return;
	if (did == SLOT_AWAY)
		fetch_add_relaxed(&cache->bypassed, 1);
	node = cache_node(cache);
	full = roomy = cache_take_spare(cache, true);
	if (!full)
		roomy = sheaf_barn_take_empty(&node->barn);
	else if (sheaf_full(full))
		roomy = sheaf_barn_trade_full(&node->barn, full);
	if (!roomy && full)
		cache_put_sheaf(cache, full, true);
	if (!roomy) {
		free_aside(cache, node, object);
		return;
	}
	sheaf_push(roomy, object);
	cache_put_sheaf(cache, roomy, true);
}

static void take_in_spilled(struct sheaf_cache *cache, struct cache_node *node)
{
	void *batch[64], *object = unspill(node);
	size_t n;

	while (object) {
		for (n = 0; object && n < sizeof(batch) / sizeof(*batch); n++) {
			batch[n] = object;
			object = chain_next(cache, object);
		}
		/* First: never in two places; G1 in cache_stats.c. */
		fetch_sub_relaxed(&node->spilled_objects, n);
		cache_put_many(cache, n, batch);
	}
}

static void take_in_sealed(struct sheaf_cache *cache, struct cache_node *node)
{
	struct sheaf *sheaf = exchange_acq_rel(&node->sealed, NULL), *next;

	for (; sheaf; sheaf = next) {
		next = sheaf->link;
		fetch_sub_relaxed(&node->left_objects, sheaf->size);
		cache_seal(cache, node, sheaf);
	}
}

/*
 * An empty sheaf is there before the first note is taken: who must not wait leaves them
 * where they are, rather than to have them in hand without memory.
 */
static void take_in_noted(struct sheaf_cache *cache, struct cache_node *node, bool may_wait)
{
	struct sheaf *fresh = cache_fresh_sheaf(cache);
	struct note *note = NULL, *next;
	void *object;

	if (fresh || may_wait)
		note = exchange_acq_rel(&node->noted, NULL);
	for (; note; note = next) {
		next = note->next;
		object = note->object;
		note_give(node->notes, note);
		fetch_sub_relaxed(&node->left_objects, 1);
		if (!fresh)
			fresh = cache_fresh_sheaf(cache);
		if (cache_retire(cache, object, fresh))
			fresh = NULL;
	}
	if (fresh)
		sheaf_dispose(cache, fresh);
}

void cache_take_in_retired(struct sheaf_cache *cache, struct cache_node *node, bool may_wait)
{
	uint64_t *transit;

	if (!load_acquire(&node->sealed) && !load_acquire(&node->noted))
		return;
	transit = transit_begin(cache, node);
	take_in_sealed(cache, node);
	/* acquire: N3, where this is all that is looked at */
	if (load_acquire(&node->noted))
		take_in_noted(cache, node, may_wait);
	transit_end(transit);
}

void cache_unspill_slow(struct sheaf_cache *cache, struct cache_node *node, bool may_wait)
{
	if (load_relaxed(&node->spilled))
		take_in_spilled(cache, node);
	cache_take_in_retired(cache, node, may_wait);
}

void cache_recount_left(struct sheaf_cache *cache)
{
	uint32_t i;

	for (i = 0; i < cache->nodes; i++) {
		struct cache_node *node = &cache->node[i];
		const struct sheaf *sheaf;
		const struct note *note;
		void *object;

		node->spilled_objects = node->left_objects = 0;
		for (object = node->spilled; object; object = chain_next(cache, object))
			node->spilled_objects++;
		for (sheaf = node->sealed; sheaf; sheaf = sheaf->link)
			node->left_objects += sheaf->size;
		for (note = node->noted; note; note = note->next)
			node->left_objects++;
	}
}
