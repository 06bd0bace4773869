/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What a cache is made of, and the steps that its files share.
 *
 *	CPU or thread --- slot --- barn + recycler of the node --- backend
 *	                  main     full / empty   ripening         alloc_bulk
 *	                  spare                   spilled          free_bulk
 *	                  rcu
 *
 *	cache.c          create, destroy
 *	cache_stats.c    statistics, check
 *	cache_describe.c  what an address is
 *	cache_page.c     statistics for another process to see
 *	cache_object.c   alloc, free, bulk
 *	cache_rcu.c      retire, barrier
 *	cache_ripe.c     limits of what is in flight, what comes back, tasks
 *	cache_prefill.c  sheaves lent
 *	cache_drain.c    flush, shrink
 *	cache_home.c     NUMA nodes: what is remote goes home
 *	cache_budget.c   hard limits of what may be out of backends
 *	cache_trim.c     what nobody needs, capacity by load
 *	cache_nowait.c   calls for signal handlers, and what they leave behind
 *	cache_fork.c     fork(2)
 *	watch.c, debug*.c  what checkers are told at run time, and debug mode; see watch.h
 *	slot*.c          slots: the way in, the remote side, who has which
 *
 * Invariants, at rest:
 *  C1  backend objects out == objects the callers hold + in slots + in barns + in
 *      recyclers + in lent sheaves + spilled
 *  C2  every sheaf is in exactly one place: a slot, a barn, a recycler, lent, spilled, in
 *      reserve, or in the hands of one thread inside a call
 *  C3  a sheaf in a slot or barn has the capacity it was made with; nobody assumes it is
 *      that of the cache
 */
#ifndef CACHE_STATE_H
#define CACHE_STATE_H

#include <sheaf/barn.h>
#include <sheaf/cache.h>
#include <sheaf/recycler.h>

#include "base/annotate.h"
#include "slot.h"

struct note;
struct notes;
struct watch;

struct cache_node {
	struct sheaf_barn barn;
	struct sheaf_recycler recycler;
	/* Of the trim, under trim_lock. */
	struct sheaf_barn_look look;

	/* Sheaves between a slot and the recycler, by the phase in which they left. */
	uint64_t transit[2] cacheline_aligned;
	/* What signal handlers left; see cache_nowait.c. */
	void *spilled;
	uint64_t spilled_objects;
	/* Retired ones: in sealed, and noted. */
	uint64_t left_objects;
	struct sheaf *sealed;
	struct note *noted;
	struct notes *notes;
};

/* How the capacity follows the load; under trim_lock, on and least are fixed. */
struct cache_tuning {
	bool on;
	uint32_t least;
	uint32_t calm; /* looks in a row with few trips */
	uint64_t trips;
	uint64_t races;
};

/* Where sheaf_cache_free() puts objects. */
enum free_way {
	FREE_TO_CPU,    /* slots are per CPU, nobody asks where objects are at home */
	FREE_TO_THREAD, /* the same, per thread */
	FREE_SLOWLY,    /* watched; or local objects to the slot, others to the cross cache */
};

/* What the fast paths look at, and nothing else does: the fields of the same names below, or where
 * a cache is watched no CPUs and no number, so that every call takes a slow path. */
struct cache_gate {
	struct cpu_slots cpus;
	enum free_way free_way;
	uint32_t id;
};

struct sheaf_cache {
	/* Used by every call. */
	struct cache_gate gate;
	struct cpu_slots cpus;
	uint32_t id;
	uint32_t capacity; /* of new sheaves, relaxed */
	size_t object_size;
	struct sheaf_gp *gp;
	/* NULL unless the cache is watched; see watch.h. */
	struct watch *watch;
	/* What the backend gives: an object, and what checkers or the watch have put round it. */
	size_t block_size;
	/* Others than the user may look at free objects: nobody writes to them. */
	bool stable;

	/* Fixed by create: places with a barn each, and how many of them are one NUMA node. */
	uint32_t nodes;
	uint32_t spread;
	struct cache_node *node;
	/* Collects remote objects, NULL if nobody asks; and whose cross cache this is. */
	struct sheaf_cache *cross;
	struct sheaf_cache *cross_of;
	struct sheaf_backend backend;
	int (*current_node)(void *arg);
	void *node_arg;
	/* The node of each CPU, where that is all it takes; else NULL, and current_node() tells. */
	const uint16_t *cpu_nodes;
	sheaf_cache_overuse_fn *overuse;
	void *overuse_arg;
	sheaf_cache_ctor_fn *ctor;
	void *ctor_arg;
	sheaf_recycler_ripe_fn *ripe;
	void *ripe_arg;
	bool ripe_by_driver;
	bool ended; /* of destroy: tasks are detached, and not to be armed */

	/* What may be in flight, objects; see cache_ripe.c. */
	uint64_t rcu_soft_limit;
	uint64_t rcu_hard_limit;
	/* Objects given since that period ended, about. */
	uint64_t volume;
	uint64_t volume_since;
	struct sheaf_gp_task age_task;
	/* A signal handler has put an rcu sheaf into a slot. */
	bool age_missed;
	struct sheaf_gp_task ripe_task;

	/* Bytes of objects; see cache_budget.c. */
	uint64_t budget;
	uint64_t used;
	/* See cache_trim.c. One trim at a time. */
	pthread_mutex_t trim_lock;
	struct sheaf_gp_task trim_task;
	struct sheaf_gp *trim_gp;
	struct cache_tuning tuning;
	/* Walkers of the registry that are here; none come any more once it is closed. */
	uint32_t pins;
	bool closed;

	const char *slots_why;
	char name[32];
	uint64_t number;
	/* For the page of cache_page.c. */
	bool published;

	/* Barns grow with the slots; see cache_fit_barns(). Thread slots are counted under the
	 * registry's lock. */
	bool fit_full;
	bool fit_empty;
	uint32_t thread_slots;
	/* Thread slots ever made, newest first; added under the registry's lock, read without. */
	struct slot *slots;
	/* One remote party at a time; it works on the list that begins at stopped, or on
	 * the slots of CPUs with cpu_seen, one per CPU, to note what it saw. */
	pthread_mutex_t remote_lock;
	struct slot *stopped;
	struct slot_sheaves *cpu_seen;
	/* What each CPU's slot held when it was last looked at for its age, or for being idle. */
	struct slot_mark *cpu_marks;
	/* 0 or 1: which of transit[] is used by sheaves that leave slots now. Changed under
	 * phase_lock. */
	uint32_t phase;
	pthread_mutex_t phase_lock;

	/* Counters of slow paths, relaxed. */
	uint64_t backend_alloc_trips cacheline_aligned;
	uint64_t backend_free_trips;
	uint64_t backend_allocated;
	uint64_t backend_freed;
	uint64_t bypassed;
	uint64_t abandoned;
	uint64_t throttled;
	uint64_t gave_way;
	uint64_t surplus;
	uint64_t aged;
	uint64_t aborts;
	uint64_t spills;
	uint64_t budget_refused;
	uint64_t trimmed;
	uint64_t tuned;
	uint64_t home_trips;
	struct slot_trips trips; /* of those who have no slot */
	/* Sheaves lent are all asked less all used. */
	uint64_t lent_objects cacheline_aligned;
	uint64_t refills;
	uint64_t prefills_oversize;
	uint64_t prefill_asked[SHEAF_CACHE_PREFILLS];
	uint64_t prefill_used[SHEAF_CACHE_PREFILLS];
};

/* The calling thread's slot, or &slot_none. */
static inline struct slot *slot_find(const struct sheaf_cache *cache)
{
	return likely(cache->id < slot_table.n) ? slot_table.slots[cache->id] : &slot_none;
}

/* The same for fast paths: &slot_none where the cache is watched. */
static inline struct slot *slot_find_fast(const struct sheaf_cache *cache)
{
	return likely(cache->gate.id < slot_table.n) ? slot_table.slots[cache->gate.id]
						     : &slot_none;
}

/* The node of the calling thread; decided again after each time out of a slot. */
static inline struct cache_node *cache_node(struct sheaf_cache *cache)
{
	if (cache->nodes == 1)
		return &cache->node[0];
	if (cache->cpu_nodes) {
		uint32_t cpu = load_relaxed(&rseq_self()->cpu_id);

		if (likely(cpu < cache->cpus.n && cache->cpu_nodes[cpu] < cache->nodes))
			return &cache->node[cache->cpu_nodes[cpu]];
	}
	return &cache->node[(unsigned)cache->current_node(cache->node_arg) % cache->nodes];
}

/* Objects come into and go out of the caller's hands. In a plain build these are nothing. */
static inline void object_out(const struct sheaf_cache *cache, void *object)
{
	if (!cache->stable)
		annotate_object_out(cache, object, cache->object_size);
}

static inline void object_in(const struct sheaf_cache *cache, void *object)
{
	if (!cache->stable)
		annotate_object_in(cache, object, cache->object_size);
}

/* The same for many; the compiler drops the loops where there is nothing to tell. */
static inline void objects_out(const struct sheaf_cache *cache, size_t n, void *const *objects)
{
	size_t i;

	for (i = 0; i < n; i++)
		object_out(cache, objects[i]);
}

static inline void objects_in(const struct sheaf_cache *cache, size_t n, void *const *objects)
{
	size_t i;

	for (i = 0; i < n; i++)
		object_in(cache, objects[i]);
}

/* The same for blocks, as the backend knows them: those of a watched cache may be larger. */
static inline void blocks_out(const struct sheaf_cache *cache, size_t n, void *const *blocks)
{
	size_t i;

	for (i = 0; i < n && !cache->stable; i++)
		annotate_open(blocks[i], cache->block_size);
}

/* The constructor has the object, and not the red zone behind it. */
static inline void blocks_to_make(const struct sheaf_cache *cache, size_t n, void *const *blocks)
{
	size_t i;

	for (i = 0; i < n && !cache->stable; i++)
		annotate_shut((char *)blocks[i] + cache->object_size,
			      cache->block_size - cache->object_size);
}

static inline void blocks_in(const struct sheaf_cache *cache, size_t n, void *const *blocks)
{
	size_t i;

	for (i = 0; i < n && !cache->stable; i++)
		annotate_shut(blocks[i], cache->block_size);
}

/*
 * What mark in the head of a sheaf says: how it is lent, and where its memory is from. Allocation
 * from a lent one that is strict, or of a watched cache, takes the slow path.
 */
enum { MARK_LENT = 1, MARK_STRICT = 2, MARK_OVERSIZE = 4, MARK_MAPPED = 8, MARK_SLOW = 16 };

/* Sheaf memory. Sheaves are plain memory of the library: no cache below the cache. */
struct sheaf *sheaf_new(uint32_t capacity);
void sheaf_delete(struct sheaf *sheaf);

/* The last resort of signal handlers: a sheaf straight from the kernel, or NULL. */
struct sheaf *sheaf_map(void);

/* An empty sheaf of another capacity than new ones have is exchanged for one that has it, if there
 * is memory. Outside slots. */
struct sheaf *sheaf_renew(struct sheaf_cache *cache, struct sheaf *sheaf);

/* Objects to the backend, memory to the system; how many objects. */
size_t sheaf_discard(struct sheaf_cache *cache, struct sheaf *sheaf);

/* Visit the backend. Objects that come are free, as in a sheaf. With less than least within the
 * budget, what lies free elsewhere is given back first. */
size_t backend_get_on(struct sheaf_cache *cache, unsigned numa, unsigned flags, size_t n,
		      size_t least, void **objects);
void backend_put(struct sheaf_cache *cache, size_t n, void *const *objects);

/* Give all objects of a sheaf to the backend; it is empty afterwards. */
void sheaf_flush(struct sheaf_cache *cache, struct sheaf *sheaf);

/* Give an empty sheaf to the barn, or its memory back. Outside slots. */
void sheaf_dispose(struct sheaf_cache *cache, struct sheaf *sheaf);

/*
 * A ripe sheaf of this node, else of any; NULL if there is none at hand, or they are the driver's.
 * Flags as of cache_get(); without SHEAF_NOWAIT it may call the backend.
 */
struct sheaf *cache_take_ripe(struct sheaf_cache *cache, struct cache_node *node, unsigned flags);

/* The same when the next thing would be the backend: with more in flight than there should be, lets
 * the source work for a moment. */
struct sheaf *cache_wait_ripe(struct sheaf_cache *cache, struct cache_node *node);

/* The same whoever they are for; to empty a cache. */
struct sheaf *cache_drain_ripe(struct sheaf_cache *cache);

/* The NUMA node of the calling thread. */
unsigned cache_numa(struct sheaf_cache *cache);

/* As sheaf_cache_create(); cross_of is NULL, or whose cross cache it is going to be. */
int cache_create(struct sheaf_cache **cache, const struct sheaf_cache_attr *attr,
		 struct sheaf_cache *cross_of);

/* A cross cache for a cache that has several nodes, if the backend knows them; 0 or -errno. */
int cache_cross_make(struct sheaf_cache *cache);

/*
 * With a cross cache only: is an object of another node? put_sorted: cache_put_many() by home.
 * take_home: what is remote in a ripe sheaf goes home; NULL if nothing is left. is_home, home_barn:
 * by the newest object of a sheaf; without a cross cache everything is.
 */
bool cache_is_remote(struct sheaf_cache *cache, const void *object);
void cache_put_sorted(struct sheaf_cache *cache, size_t n, void *const *objects);
struct sheaf *cache_take_home(struct sheaf_cache *cache, struct cache_node *node,
			      struct sheaf *sheaf, bool nowait);
bool cache_is_home(struct sheaf_cache *cache, const struct sheaf *sheaf);
struct sheaf_barn *cache_home_barn(struct sheaf_cache *cache, const struct sheaf *sheaf);

/* Makes all objects of a private sheaf local; false if that cannot be had, or not be known. */
bool cache_make_local(struct sheaf_cache *cache, struct sheaf *sheaf);

/* Barns of the same node. */
struct sheaf *cache_take_sibling(struct sheaf_cache *cache, struct cache_node *node);
bool cache_give_sibling(struct sheaf_cache *cache, struct cache_node *node, struct sheaf *sheaf);

/*
 * Barn limits by the number of slots where they were not asked for: what all slots of a node may
 * give or take in a fit should have its place in the barn, not in the backend. A trim takes
 * back what is there for longer. Under the registry's lock, or while the cache is made.
 */
void cache_fit_barns(struct sheaf_cache *cache, uint32_t slots);

/* No sheaf comes into a slot of the cache, or of its cross cache, nor leaves it, until
 * cache_thaw(); and no slots come or go. Takes the locks in the order of G5 in cache_stats.c. */
void cache_freeze(struct sheaf_cache *cache);
void cache_thaw(struct sheaf_cache *cache);

/* Loans and what was asked and used, from the buckets. */
void cache_count_loans(struct sheaf_cache *cache, struct sheaf_cache_stats *stats);

/* For barns that hand over sheaves: sheaf_discard() of each, the objects added up. */
struct discarded {
	struct sheaf_cache *cache;
	size_t objects;
};
void cache_discard_one(void *arg, struct sheaf *sheaf);

/* Everything free in slots, and in barns, to the backend; how many objects. */
size_t cache_drain_slots(struct sheaf_cache *cache);
size_t cache_drain_barns(struct sheaf_cache *cache);

/*
 * Budgets. reserve: up to n objects may be asked for, the answer says how many; hard: what lies
 * free is given back if they are less than least. release: they are back, or did not come.
 */
void budget_init(struct sheaf_cache *cache, uint64_t bytes);
size_t budget_reserve(struct sheaf_cache *cache, size_t n);
size_t budget_reserve_hard(struct sheaf_cache *cache, unsigned flags, size_t n, size_t least);
void budget_release(struct sheaf_cache *cache, size_t n);

/* The calling thread's last visit to a backend: was the budget why not all of it came? */
void budget_was_short(bool is);
bool budget_is_short(void);

/* An allocation came to nothing. If the budget is why, waits a while; true if another try makes
 * sense. tries counts from 0. */
bool budget_wait(struct sheaf_cache *cache, unsigned *tries);

/* Whoever must not block does not wait, whatever else he asks for. */
static inline bool budget_may_wait(unsigned flags)
{
	return (flags & (SHEAF_WAIT | SHEAF_NOWAIT)) == SHEAF_WAIT;
}

/* The lower one of the cache's budget and that of the process; UINT64_MAX if there is none. */
uint64_t budget_least(const struct sheaf_cache *cache);

/* In a child: for each cache what its counts say is out, after NULL. */
void budget_fork_child(struct sheaf_cache *cache);

/* The trim's task of a new cache, after cache_ripe_init(); 0 or -ENOMEM. fini: also after that. */
int cache_trim_init(struct sheaf_cache *cache, const struct sheaf_cache_attr *attr);
void cache_trim_fini(struct sheaf_cache *cache);

static inline uint32_t cache_capacity(const struct sheaf_cache *cache)
{
	return load_relaxed(&cache->capacity);
}

/* Was the capacity changed since the sheaf was made? Mapped ones have theirs from the page. */
static inline bool sheaf_outdated(const struct sheaf_cache *cache, const struct sheaf *sheaf)
{
	return sheaf->capacity != cache_capacity(cache) && !(sheaf->mark & MARK_MAPPED);
}

/* Limits, callbacks, tasks of a new cache; 0 or -ENOTSUP. Then recyclers may be used. */
int cache_ripe_init(struct sheaf_cache *cache, const struct sheaf_cache_attr *attr);

/* No task runs after end; again takes that back. */
void cache_ripe_end(struct sheaf_cache *cache);
void cache_ripe_again(struct sheaf_cache *cache);

/* An rcu sheaf with an object in it has come into a slot. */
void cache_rcu_installed(struct sheaf_cache *cache);

/* The callback of the cache over a sheaf of ripe objects, if there is one. */
void cache_call_ripe(struct sheaf_cache *cache, struct sheaf *sheaf);

/* What is left in the sheaf after that is free. Of a watched cache some of it may be held back. */
void cache_ripe_in(struct sheaf_cache *cache, struct sheaf *sheaf, bool nowait);

/* Is the calling thread inside the callback of any cache? */
bool cache_inside_ripe(void);

/* Is the calling thread in an operation of a backend? */
bool cache_inside_backend(void);

/* Flag of cache_get(): not from the backend. */
#define CACHE_LAYERS_ONLY (1u << 31)

/* The spare, in the caller's hands; NULL if there is none. */
struct sheaf *cache_take_spare(struct sheaf_cache *cache, bool nowait);

/* Into main, then spare; *done counts up. Unmet: the slot has no more room. */
enum slot_did cache_slot_put(struct sheaf_cache *cache, bool nowait, size_t n, void *const *objects,
			     size_t *done);

/* alloc and free of many without annotation: objects count as free all along. */
size_t cache_get(struct sheaf_cache *cache, unsigned flags, size_t n, void **objects);

/* The backend gave less than was asked for. Does it have by now what other slots, barns and recyclers held? */
bool cache_reclaim_refused(struct sheaf_cache *cache, unsigned flags);
void cache_put(struct sheaf_cache *cache, size_t n, void *const *objects);
/* The same without a look at what signal handlers left. */
void cache_put_many(struct sheaf_cache *cache, size_t n, void *const *objects);

/* A sheaf with room: one of the barn's that is partly filled, as a rule, else an empty one if it
 * could come back full; NULL if there is none. */
struct sheaf *barn_take_roomy(struct sheaf_barn *barn);

/* Put a private sheaf where it serves best: slot, barn, else flush it; with nowait set,
 * else the barn whatever its limit. */
void cache_put_sheaf(struct sheaf_cache *cache, struct sheaf *sheaf, bool nowait);

/* Give a sealed sheaf to the recycler of the node where it was sealed. */
void cache_seal(struct sheaf_cache *cache, struct cache_node *node, struct sheaf *sheaf);

/*
 * A sheaf is about to leave a slot for the recycler: counted in what is returned, until
 * transit_end(). Before the operation on the slot.
 */
uint64_t *transit_begin(struct sheaf_cache *cache, struct cache_node *node);
void transit_end(uint64_t *transit);

/*
 * Seal the rcu sheaves of all slots and what signal handlers retired. With wait set every sheaf
 * sealed before has reached its recycler on return; not inside a read section then.
 */
void cache_seal_all(struct sheaf_cache *cache, bool wait);

/* sheaf_cache_barrier() without a look at where it is called: waits only if it has to. */
int cache_barrier(struct sheaf_cache *cache);

/* Seal the rcu sheaves that lie in slots unused. True if there are others to look at later. */
bool cache_seal_aged(struct sheaf_cache *cache);

/* An empty sheaf of the barn, or a new one; NULL if there is no memory. */
struct sheaf *cache_fresh_sheaf(struct sheaf_cache *cache);

/*
 * Retire one object, without looking for what signal handlers left. If the slot has no place,
 * with fresh, which is used then; if that is NULL as well, see no_sheaf(). True if it was used.
 */
bool cache_retire(struct sheaf_cache *cache, void *object, struct sheaf *fresh);

/*
 * Take in what signal handlers left on a node; what is retired, or that and free objects too.
 * Not in signal handlers. Without memory retired objects stay where they are, unless the
 * caller may wait for a grace period.
 */
void cache_take_in_retired(struct sheaf_cache *cache, struct cache_node *node, bool may_wait);
void cache_unspill_slow(struct sheaf_cache *cache, struct cache_node *node, bool may_wait);

/* If there is such a task. While it is detached that is noted: should it be attached again, it runs. */
static inline void cache_arm(const struct sheaf_cache *cache, struct sheaf_gp *gp,
			     struct sheaf_gp_task *task)
{
	if (!task->run)
		return;
	if (unlikely(cache->ended))
		store_relaxed(&task->armed, SHEAF_GP_ARMED);
	else
		sheaf_gp_arm(gp, task);
}

/* T1: something has come into slots or barns, or is about to. What a cross cache has is looked at by
 * the trim of its cache. */
static inline void cache_arm_trim(struct sheaf_cache *cache)
{
	if (cache->cross_of)
		cache = cache->cross_of;
	if (unlikely(load_relaxed(&cache->trim_task.armed) != SHEAF_GP_ARMED))
		cache_arm(cache, cache->trim_gp, &cache->trim_task);
}

static inline void cache_unspill(struct sheaf_cache *cache)
{
	struct cache_node *node = cache_node(cache);

	if (unlikely(load_relaxed(&node->spilled) || load_relaxed(&node->sealed) ||
		     load_relaxed(&node->noted)))
		cache_unspill_slow(cache, node, false);
	if (unlikely(load_relaxed(&cache->age_missed)))
		cache_rcu_installed(cache);
	cache_arm_trim(cache);
}

/* Counts anew what signal handlers left: in a child, where it may be in nobody's hands. */
void cache_recount_left(struct sheaf_cache *cache);

/* Notes of a node, for a cache with a grace-period source; false if there is no memory. */
bool notes_make(struct cache_node *node);
void notes_delete(struct cache_node *node);

/* A new cache that wants to be seen by sheaf-stat is published: before it can be walked to, and
 * after it is no more. */
void page_enter(struct sheaf_cache *cache, const struct sheaf_cache_attr *a);
void page_leave(bool published);

/* Keeps fork(2) safe; 0 or -ENOMEM. */
int cache_fork_init(void);

#endif
