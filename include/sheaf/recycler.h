/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/recycler.h
 * A recycler: retired sheaves ripen here until their grace period has passed, and
 * come back as memory that is ready to use.
 *
 * You collect objects that readers may still hold in a sheaf of your own, seal it
 * (push no more) and give it; later you take whole ripe sheaves back. One ticket
 * per sheaf, no callback per object, no thread of its own.
 *
 * Which operations may run at the same time on one recycler:
 *
 *	              | give, take, | drain | init,
 *	              | barrier,    |       | fini
 *	              | stats,limits|       |
 *	--------------+-------------+-------+------
 *	give .. limits|     yes     |  no   |  no
 *	drain         |     no      |  no   |  no
 *	init, fini    |     no      |  no   |  no
 *
 * After fork() a child may go on with a recycler that no other thread was in the midst of
 * using: keep them out with a lock of yours that fork handlers hold, or by other means.
 * If only giving went on, just the counters are too high for ever, so that fini refuses. A
 * cache sees to its own recyclers.
 */
#ifndef SHEAF_RECYCLER_H
#define SHEAF_RECYCLER_H

#include <pthread.h>
#include <sheaf/gp.h>
#include <sheaf/sheaf.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** Buckets of the age histogram: bucket i counts ages below 2^i * 16 microseconds. */
#define SHEAF_RECYCLER_AGES 16

/**
 * Called over a whole ripe sheaf before it is handed out: destructors, accounting.
 * It may drop objects by popping them, all of them included.
 */
typedef void sheaf_recycler_ripe_fn(void *arg, struct sheaf *sheaf);

/** How a recycler works; zero means default. */
struct sheaf_recycler_attr {
	/** sizeof(struct sheaf_recycler_attr); an older program has a smaller one. */
	size_t size;
	/** Above this many objects in flight the source is hurried, unless the oldest one that a
	 *  taker has seen is ripe; default: no limit. */
	uint64_t soft_limit;
	/** Above this many objects in flight give() reports pressure; default: no limit. */
	uint64_t hard_limit;
	/** Called by the taker over each ripe sheaf; default: none. */
	sheaf_recycler_ripe_fn *ripe;
	/** Passed to @p ripe. */
	void *ripe_arg;
};

/** A recycler in the caller's memory. Its fields are private; explained in lib/recycler.c. */
struct sheaf_recycler {
	/* Written by givers. */
	struct sheaf *incoming __attribute__((aligned(64)));
	uint64_t sheaves;
	uint64_t objects;
	uint64_t peak;
	uint64_t given;
	uint64_t newest;
	/* Seldom written. */
	uint64_t soft_limit __attribute__((aligned(64)));
	uint64_t hard_limit;
	struct sheaf_gp *gp;
	sheaf_recycler_ripe_fn *ripe;
	void *ripe_arg;
	/* Written by takers. */
	uint32_t busy __attribute__((aligned(64)));
	uint32_t waiting;
	uint64_t oldest;
	struct sheaf *head;
	struct sheaf *tail;
	uint64_t taken;
	uint64_t ages[SHEAF_RECYCLER_AGES];
};

/** Counters of a recycler; see sheaf_recycler_stats(). */
struct sheaf_recycler_stats {
	/** Sheaves given, since init. */
	uint64_t given;
	/** Sheaves taken back, since init. */
	uint64_t taken;
	/** Sheaves and objects in flight now. */
	uint64_t sheaves;
	uint64_t objects;
	/** Most objects in flight at one time. */
	uint64_t peak;
	/** Sheaves by age when they were found ripe; bucket i is below 2^i * 16 us, the last is the rest. */
	uint64_t ages[SHEAF_RECYCLER_AGES];
};

/**
 * Make an empty recycler.
 *
 * @param recycler memory of the caller, aligned to 64 bytes; stays the caller's
 * @param gp where tickets come from; must outlive the recycler
 * @param attr limits and callback; NULL means defaults; not kept
 *
 * Context: the only user of @p recycler. Ordering: none. Progress: wait-free.
 * Return: 0; -EINVAL if @p gp is NULL, @p attr is not of a known size, or the soft
 *	limit is above the hard one.
 */
int sheaf_recycler_init(struct sheaf_recycler *recycler, struct sheaf_gp *gp,
			const struct sheaf_recycler_attr *attr);

/**
 * End a recycler; take or drain everything first.
 *
 * Context: the only user of @p recycler. Ordering: none. Progress: wait-free.
 * Return: 0, or -EBUSY if it still holds sheaves (unchanged then).
 */
int sheaf_recycler_fini(struct sheaf_recycler *recycler);

/**
 * Give a sealed sheaf whose objects readers may still hold.
 *
 * @param recycler where
 * @param sheaf owned by the caller and not to be touched again by it; its objects
 *	can no longer be reached by a read section that begins now. Set
 *	sheaf->node before, if you care where it was sealed.
 *
 * Context: any thread, also inside a read section. Does not block.
 * Ordering: releases the caller's writes to whoever takes the sheaf.
 * Progress: lock-free (see sheaf_gp_ticket() for the source).
 * Return: is the hard limit passed now? The sheaf is taken in either case; a caller
 *	that may block then waits with sheaf_recycler_barrier().
 */
bool sheaf_recycler_give(struct sheaf_recycler *recycler, struct sheaf *sheaf);

/**
 * Take the oldest sheaf that is ripe.
 *
 * Context: any thread; never waits. The ripe callback runs in the caller's context.
 * Ordering: acquires what the giver released and what the read sections did that
 *	could hold the objects.
 * Progress: never waits; while another taker is inside, NULL comes back.
 * Return: the sheaf, now the caller's (empty if the callback dropped all); NULL if
 *	none was at hand.
 */
struct sheaf *sheaf_recycler_take(struct sheaf_recycler *recycler);

/**
 * Is a take worth the try? It may come back with nothing all the same.
 *
 * Context: any. Ordering: none. Progress: wait-free; three loads.
 * Return: false if nothing is in flight, the oldest ticket has not elapsed, or a taker is
 *	inside now.
 */
bool sheaf_recycler_ripe(const struct sheaf_recycler *recycler);

/**
 * Objects in flight: given and not yet taken back, ripe or not.
 *
 * Context: any. Ordering: none. Progress: wait-free; one load.
 * Return: their number, a recent one.
 */
uint64_t sheaf_recycler_objects(const struct sheaf_recycler *recycler);

/**
 * Wait until everything given before this call is ripe.
 *
 * Context: as sheaf_gp_wait(): may block, not inside a read section.
 * Ordering: as sheaf_gp_elapsed() that is true.
 * Progress: blocking, as long as the longest read section.
 * Return: 0; -EDEADLK if the source cannot be waited for, see sheaf_gp_wait().
 */
int sheaf_recycler_barrier(struct sheaf_recycler *recycler);

/**
 * Change the limits, also while the recycler is in use.
 *
 * @param recycler which
 * @param soft objects in flight above which the source is hurried; 0 for none
 * @param hard objects in flight above which give() reports pressure; 0 for none
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 * Return: 0; -EINVAL if soft is above hard (unchanged then).
 */
int sheaf_recycler_set_limits(struct sheaf_recycler *recycler, uint64_t soft, uint64_t hard);

/**
 * Take the oldest sheaf without asking if it is ripe, to tear down what no reader
 * can reach any more. The ripe callback is not called.
 *
 * Context: the only user of @p recycler, when no read section can hold an object
 *	in it. Ordering: acquires what the giver released. Progress: wait-free.
 * Return: the sheaf, now the caller's; NULL if the recycler is empty.
 */
struct sheaf *sheaf_recycler_drain(struct sheaf_recycler *recycler);

/**
 * Read the counters. Each is exact when the recycler is at rest.
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 */
void sheaf_recycler_stats(const struct sheaf_recycler *recycler,
			  struct sheaf_recycler_stats *stats);

/**
 * Do all invariants hold? They are listed in lib/recycler.c.
 *
 * Context: the only user of @p recycler; for tests.
 * Ordering: none. Progress: wait-free, O(sheaves held).
 * Return: true if they hold.
 */
bool sheaf_recycler_check(const struct sheaf_recycler *recycler);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
