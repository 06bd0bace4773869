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
	/** As made: bytes of an object, objects per sheaf, barns. */
	size_t object_size;
	uint32_t capacity;
	uint32_t nodes;
	/** Slots: one per CPU, or those ever made for threads; and those of threads that have ended. */
	uint32_t slots;
	uint32_t orphans;
	/** Visits of slots to a barn, for allocation and for free; a trade is one visit. */
	uint64_t barn_alloc_trips;
	uint64_t barn_free_trips;
	/** Of those, the ones that came back without what they went for. */
	uint64_t barn_failed;
	/** Barn races lost, all barns. */
	uint64_t barn_races;
	/** Visits to the backend, and objects that came and went. */
	uint64_t backend_alloc_trips;
	uint64_t backend_free_trips;
	uint64_t backend_allocated;
	uint64_t backend_freed;
	/** Rcu sheaves sealed, and ripe ones taken back for use. */
	uint64_t sealed;
	uint64_t recycled;
	/** Retired objects waiting in recyclers, now and at most (sum of the peaks of the nodes). */
	uint64_t in_flight;
	uint64_t in_flight_peak;
	/** Objects in slots, in barns, and in lent sheaves when they were last filled. */
	uint64_t held_slots;
	uint64_t held_barns;
	uint64_t held_lent;
	/** Prefilled sheaves lent, and those above capacity. */
	uint64_t prefills;
	uint64_t prefills_oversize;
	/** Objects asked for by each prefill and refill, and how many of them were used. */
	uint64_t prefill_asked[SHEAF_CACHE_PREFILLS];
	uint64_t prefill_used[SHEAF_CACHE_PREFILLS];
	/** Calls that went round the slot because it was in use or could not be made. */
	uint64_t bypassed;
	/** Objects given up for want of any memory: retired ones inside a read section or signal
	 *  handler, free ones in a signal handler if they cannot be chained. */
	uint64_t abandoned;
	/** Retired objects that were sealed by age; ripe ones that went to the backend because too much
	 *  was in flight; times that allocation gave way, and that throttle waited. */
	uint64_t aged;
	uint64_t surplus;
	uint64_t gave_way;
	uint64_t throttled;
	/** Bytes of objects that came from the backend and are not back; times that a budget
	 *  refused some; objects that trims gave back; times that the capacity was tuned. */
	uint64_t budget_used;
	uint64_t budget_refused;
	uint64_t trimmed;
	uint64_t tuned;
	/** Objects in slots, held_slots includes them, that wait to go to the barn of their node;
	 *  and visits to barns that took such objects home. */
	uint64_t held_cross;
	uint64_t home_trips;
	/** Free objects that nowait calls left aside for the next normal call, and how many times they
	 *  left something, retired objects included. */
	uint64_t spilled;
	uint64_t spills;
	/** Restartable sequences interrupted, as far as noticed: those of fast paths go to slow ones. */
	uint64_t aborts;
	/** Are slots per CPU? */
	bool cpu_slots;
};

/**
 * Read the counters. Exact when the cache is at rest.
 *
 * @param cache which
 * @param stats written
 * @param size sizeof(struct sheaf_cache_stats) of the caller: a library that knows less leaves zeros
 *	behind what it knows, one that knows more writes no more than this
 *
 * Context: any thread, not in a signal handler; may block for a short time. Ordering: none.
 *	Progress: blocking.
 * Return: bytes of the struct that the library knows, @p size at most.
 */
size_t sheaf_cache_stats(struct sheaf_cache *cache, struct sheaf_cache_stats *stats, size_t size);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
