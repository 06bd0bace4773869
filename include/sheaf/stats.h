/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/stats.h
 * What caches hold, where it lies, and what has been done. Comes with <sheaf/cache.h>.
 *
 * Fast paths count nothing. What they have done follows from what came from the backend, and what
 * lies in each layer now; lib/cache_stats.c says why the sums are right.
 *
 * All that is here may run at the same time as anything else on a cache, except create, destroy and
 * check; sheaf_cache_walk() and sheaf_describe() also as these.
 */
#ifndef SHEAF_STATS_H
#define SHEAF_STATS_H

#include <sheaf/debug.h>
#include <sheaf/recycler.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** A cache; library's memory. */
struct sheaf_cache;

/** Buckets of the prefill histograms: bucket i counts values below 2^i, the last is the rest. */
#define SHEAF_CACHE_PREFILLS 16

/** Counters of a cache; see sheaf_cache_stats(). Trips are visits to the next layer down. It only
 *  ever grows at its end. */
struct sheaf_cache_stats {
	/** As made: name; its number among the caches that the process has made, private ones
	 *  included; bytes of an object; barns. Objects of a new sheaf now. */
	char name[32];
	uint64_t number;
	size_t object_size;
	uint32_t nodes;
	uint32_t capacity;
	/** Slots: one per CPU, or those ever made for threads; and those of threads that have ended. */
	uint32_t slots;
	uint32_t orphans;
	/** Are slots per CPU? Can the cache retire? Has it debug mode? */
	bool cpu_slots;
	bool retires;
	bool debug;

	/** Objects that callers have: allocated, and neither freed nor retired. Those in lent sheaves
	 *  are among them. */
	uint64_t in_use;
	/** Objects in slots, and of these the retired ones; in barns; in lent sheaves when they were
	 *  last filled. */
	uint64_t held_slots;
	uint64_t held_rcu;
	uint64_t held_barns;
	uint64_t held_lent;
	/** Objects in slots, held_slots includes them, that wait to go to the barn of their node. */
	uint64_t held_cross;
	/** Free objects that debug mode holds back. */
	uint64_t held_quarantine;
	/** Free objects that nowait calls left aside for the next normal call, and retired ones. */
	uint64_t spilled;
	uint64_t left_retired;
	/** Retired objects waiting in recyclers, now and at most (sum of the peaks of the nodes). */
	uint64_t in_flight;
	uint64_t in_flight_peak;
	/** Objects given up for want of any memory: retired ones inside a read section or signal
	 *  handler, free ones in a signal handler if they cannot be chained. Nobody has them. */
	uint64_t abandoned;
	/** Sheaves in barns now, with objects and without; and lent ones. */
	uint64_t barn_full;
	uint64_t barn_empty;
	uint64_t lent_sheaves;

	/** Objects that came from the backend, and went there; and visits to it. What is asked of the
	 *  backend counts before it is there, so the first falls again when it gives less. */
	uint64_t backend_allocated;
	uint64_t backend_freed;
	uint64_t backend_alloc_trips;
	uint64_t backend_free_trips;
	/** Bytes of objects that came from the backend and are not back; times that a budget
	 *  refused some. */
	uint64_t budget_used;
	uint64_t budget_refused;
	/** Bytes of the backend, as far as they are known: what is resident at most, and address space. From
	 *  a slab backend as in struct sheaf_slab_stats, else the objects that are not back. */
	uint64_t memory_touched;
	uint64_t memory_mapped;
	/** Is it a slab backend? Objects that its touched slabs have room for. */
	bool slab;
	uint64_t slab_room;

	/** Visits of slots to a barn, for allocation and for free; a trade is one visit. */
	uint64_t barn_alloc_trips;
	uint64_t barn_free_trips;
	/** Of those, the ones that came back without what they went for; and of these, for allocation. */
	uint64_t barn_failed;
	uint64_t barn_alloc_failed;
	/** Barn races lost, all barns. */
	uint64_t barn_races;
	/** Visits to barns that took objects home to their node. */
	uint64_t home_trips;
	/** Calls that went round the slot because it was in use or could not be made. */
	uint64_t bypassed;
	/** Restartable sequences interrupted, as far as noticed: those of fast paths go to slow ones. */
	uint64_t aborts;
	/** Times that nowait calls left something, retired objects included. */
	uint64_t spills;

	/** Rcu sheaves sealed, and ripe ones taken back for use. */
	uint64_t sealed;
	uint64_t recycled;
	/** Retired objects that were sealed by age; ripe ones that went to the backend because too much
	 *  was in flight; times that allocation gave way, and that throttle waited. */
	uint64_t aged;
	uint64_t surplus;
	uint64_t gave_way;
	uint64_t throttled;
	/** Sheaves by age when they were found ripe; bucket i is below 2^i * 16 us, the last is the rest. */
	uint64_t ages[SHEAF_RECYCLER_AGES];

	/** Prefilled sheaves lent, and those above capacity. The first is a sum that may fall by the refills of the
	 *  moment. */
	uint64_t prefills;
	uint64_t prefills_oversize;
	/** Objects asked for by each prefill and refill, and how many of them were used. */
	uint64_t prefill_asked[SHEAF_CACHE_PREFILLS];
	uint64_t prefill_used[SHEAF_CACHE_PREFILLS];

	/** Objects that trims gave back; times that the capacity was tuned. */
	uint64_t trimmed;
	uint64_t tuned;
};

/**
 * Read the counters. Exact when the cache is at rest: no call is under way, nor a task of its source.
 *
 * While others go on, in_use and what is held are from one moment, but for
 *  - what fast paths push to and pop from the slots of CPUs after it: one sheaf per slot at most, and
 *    as much of retired objects. Slots of threads stand still;
 *  - what is in the hands of calls that are at work beside a slot, which counts as in use: two
 *    sheaves each, or what a bulk call moves. Calls for signal handlers and for a certain node count so each
 *    time that they move a sheaf, and may count as free twice what they take from a barn; and so do those
 *    that empty the cache, as an allocation does for which the backend had no memory.
 * Other counters are recent values. In a child of fork(2) what other threads had in their
 * hands is in use for ever.
 *
 * @param cache which
 * @param stats written
 * @param size sizeof(struct sheaf_cache_stats) of the caller: a library that knows less leaves zeros
 *	behind what it knows, one that knows more writes no more than this
 *
 * Context: any thread, not in a signal handler; blocks for a short time, as do calls meanwhile
 *	that need more than their fast path. Ordering: none. Progress: blocking.
 * Return: bytes of the struct that the library knows, @p size at most.
 */
size_t sheaf_cache_stats(struct sheaf_cache *cache, struct sheaf_cache_stats *stats, size_t size);

/** Called for a cache; anything but 0 ends the walk. */
typedef int sheaf_cache_walk_fn(void *arg, struct sheaf_cache *cache);

/**
 * Call a function for each cache of the process.
 *
 * @param fn called on the calling thread, with no lock of the library held. The cache stays until it
 *	returns: who destroys or checks it meanwhile waits for that. So fn may do with it whatever
 *	is allowed beside other calls, walk, make caches and destroy others, but neither destroy nor
 *	check this one, nor wait for who does. A child that it forks must not return from it.
 * @param arg passed to @p fn
 *
 * Caches that are made or ended meanwhile are met or not; all others once.
 *
 * Context: any thread, not in a signal handler. Ordering: acquires what made the cache.
 *	Progress: blocks for a moment for each cache, and in @p fn.
 * Return: what fn returned last; 0 if there is no cache.
 */
int sheaf_cache_walk(sheaf_cache_walk_fn *fn, void *arg);

/** Where an object is, as sheaf_describe() finds it. */
enum sheaf_place {
	/** No object of a cache is known at this address. */
	SHEAF_PLACE_NONE,
	/** A caller has it; or it is in a lent sheaf or on its way between two places, if that cannot
	 *  be told apart. */
	SHEAF_PLACE_IN_USE,
	/** In main, the spare or the rcu sheaf of a slot; or in a slot that collects what goes to another
	 *  NUMA node. */
	SHEAF_PLACE_MAIN,
	SHEAF_PLACE_SPARE,
	SHEAF_PLACE_RCU,
	SHEAF_PLACE_HOMEWARD,
	/** In a sheaf of a barn. */
	SHEAF_PLACE_BARN,
	/** In a recycler, before and after its grace period has passed. */
	SHEAF_PLACE_RIPENING,
	SHEAF_PLACE_RIPE,
	/** Held back by debug mode. */
	SHEAF_PLACE_QUARANTINE,
	/** Debug mode knows that no caller has it: it is in a lent sheaf, or on its way. */
	SHEAF_PLACE_LENT,
	/** Free memory of the backend. */
	SHEAF_PLACE_BACKEND
};

/** What an address is; see sheaf_describe(). It only ever grows at its end. */
struct sheaf_description {
	/** Where its object is. */
	enum sheaf_place place;
	/** Number of the CPU, the thread slot (newest first), the barn or the recycler. */
	uint32_t number;
	/** The cache, which may end as soon as its owner wants; NULL if there is none. And its name. */
	struct sheaf_cache *cache;
	char name[32];
	/** Where the object begins; bytes of it; and how far behind that the address is. NULL if the
	 *  address is in memory of the cache's backend, but in no object. */
	void *object;
	size_t object_size;
	ptrdiff_t offset;
	/** Sheaves lent by the cache: if 0, what is in use is not in one. */
	uint64_t lent_sheaves;
	/** With debug mode: where it was last allocated, and last freed or retired. */
	struct sheaf_debug_trace allocated;
	struct sheaf_debug_trace freed;
};

/**
 * Find out what an address is: of which cache, the beginning of its object, and where that is now.
 *
 * Objects of slab backends and of caches with debug mode are found wherever they are; those of other
 * backends in slots, barns, recyclers. Other calls go on meanwhile, so an answer about
 * an object that others use may be old when it comes. What signal handlers left aside is taken in
 * first. Nothing is read at the address.
 *
 * @param address any, also of memory that is not there
 * @param description written
 * @param size sizeof(struct sheaf_description) of the caller
 *
 * Context: any thread, not in a signal handler, nor in a callback over ripe objects or an operation of
 *	a backend; blocks as sheaf_cache_stats(). sheaf_debug_explain() is for signal handlers.
 *	Ordering: none. Progress: blocking, O(objects that are free).
 * Return: is an object or memory of a cache at the address? If not, place is
 *	SHEAF_PLACE_NONE, and cache NULL.
 */
bool sheaf_describe(const void *address, struct sheaf_description *description, size_t size);

/**
 * A place in a few words of English.
 *
 * Context: any. Ordering: none. Progress: wait-free.
 * Return: a constant string.
 */
const char *sheaf_place_name(enum sheaf_place place);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
