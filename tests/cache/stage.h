/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What tests of a cache in every interleaving share: a cache over an arena with capacities of 2,
 * a source that moves on only when somebody waits, some objects in the hands of each thread,
 * and the accounts at the end. No other thread runs between two atomic accesses of the
 * library, so what is here needs no care.
 *
 * Objects of a cache have no order among them: it is a bag, and each object by itself is there or out. So that one is
 * never had while it is out, looked at when each call ends, is all that linearizability asks for.
 */
#ifndef TESTS_CACHE_STAGE_H
#define TESTS_CACHE_STAGE_H

#include "arena.h"
#include "cache_state.h"
#include "schedule.h"

#define STAGE_CAPACITY 2
#define STAGE_STOCK 6

extern struct arena stage_arena;
extern struct sheaf_cache *stage_cache;
/* Counted up by who finds something wrong. */
extern unsigned stage_errors;

/* What each thread holds when a run begins, and how many of them it has retired. */
extern void *stage_stock[SCHEDULE_THREADS][STAGE_STOCK];
extern unsigned stage_retired[SCHEDULE_THREADS];

/* Before a run: a cache with these attributes, capacity and source apart, and a barn of 2 and 2
 * if they are 0. knows: the backend tells the nodes of objects. */
void stage_begin_with(struct sheaf_cache_attr attr, bool knows);
void stage_begin(void);

/* After it: everything is somewhere, all sums are right, and the cache ends. What was retired is
 * not anybody's. NULL, or what is wrong. */
const char *stage_end(void);

/* Object i of a thread's stock: allocated, freed, retired. */
void stage_get(unsigned me, unsigned i);
void stage_put(unsigned me, unsigned i);
void stage_retire(unsigned me, unsigned i);
/* The same by the calls for any context. */
void stage_get_nowait(unsigned me, unsigned i);
void stage_put_nowait(unsigned me, unsigned i);
void stage_retire_nowait(unsigned me, unsigned i);

/* A barrier; then everything that had been retired when it began is with the backend after a
 * shrink, if nobody else allocates or shrinks. */
void stage_barrier_and_look(void);

struct stage_case {
	const char *name;
	unsigned threads;
	void (*begin)(void);
	void (*run)(unsigned me);
	/* What thread 0 does in a signal handler once, at any point; or NULL. */
	void (*handler)(void);
	/* With one preemption they are more than 100,000: none of these has to be complete. */
	bool many;
};

/* All decisions with one preemption, in full runs some with two; then so many runs by chance with many.
 * Asserts. */
void stage_play(const struct stage_case *play, unsigned runs);

/* The same with so many preemptions, one more in full runs: for small cases. */
void stage_play_deeper(const struct stage_case *play, unsigned preemptions, unsigned runs);

#endif
