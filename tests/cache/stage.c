/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "stage.h"

#include "base/atomic.h"
#include "base/membarrier.h"
#include "common.h"
#include "lazy.h"

#include <stdio.h>

struct arena stage_arena;
struct sheaf_cache *stage_cache;
unsigned stage_errors;
void *stage_stock[SCHEDULE_THREADS][STAGE_STOCK];
unsigned stage_retired[SCHEDULE_THREADS];
static struct lazy lazy;

void stage_begin_with(struct sheaf_cache_attr attr, bool knows)
{
	lazy_begin(&lazy);
	lazy.meanwhile = schedule_yield; /* some wait for others by a barrier */
	stage_errors = 0;
	arena_init(&stage_arena, 16);
	stage_arena.knows_nodes = knows;
	attr.capacity = STAGE_CAPACITY;
	attr.barn_full = attr.barn_full ? attr.barn_full : 2;
	attr.barn_empty = attr.barn_empty ? attr.barn_empty : 2;
	attr.nodes = attr.nodes ? attr.nodes : 1;
	attr.gp = &lazy.gp;
	stage_cache = arena_cache(&stage_arena, attr);
	for (unsigned t = 0; t < SCHEDULE_THREADS; t++) {
		stage_retired[t] = 0;
		sheaf_cache_alloc_bulk(stage_cache, 0, STAGE_STOCK, stage_stock[t]);
		for (unsigned i = 0; i < STAGE_STOCK; i++)
			arena_own(&stage_arena, stage_stock[t][i], ARENA_USER + t);
	}
}

void stage_begin(void)
{
	stage_begin_with((struct sheaf_cache_attr){0}, false);
}

const char *stage_end(void)
{
	struct sheaf_cache_stats s;
	bool right = sheaf_cache_check(stage_cache);

	for (unsigned t = 0; t < SCHEDULE_THREADS; t++)
		for (unsigned i = stage_retired[t]; i < STAGE_STOCK; i++)
			if (stage_stock[t][i] &&
			    arena_disown(&stage_arena, stage_stock[t][i], ARENA_USER + t))
				sheaf_cache_free(stage_cache, stage_stock[t][i]);
	/* Where it is counted: what is in notes is in no list. */
	sheaf_cache_barrier(stage_cache);
	s = cache_stats(stage_cache);
	if (!right)
		return "an invariant is broken";
	if (stage_errors || stage_arena.errors)
		return "an object in two hands, or missed";
	if (s.held_slots + s.held_barns + s.in_flight != arena_out(&stage_arena))
		return "an object is lost";
	if (stage_cache->used != (uint64_t)arena_out(&stage_arena) * stage_arena.object_size)
		return "the budget is wrong";
	if (sheaf_cache_destroy(stage_cache, NULL))
		return "something is left";
	arena_fini(&stage_arena);
	return NULL;
}

static void got(unsigned me, unsigned i, bool must)
{
	void *object = stage_stock[me][i];

	stage_errors += must && !object;
	if (object)
		stage_errors += !arena_own(&stage_arena, object, ARENA_USER + me);
}

void stage_get(unsigned me, unsigned i)
{
	stage_stock[me][i] = sheaf_cache_alloc(stage_cache, 0);
	got(me, i, true);
}

void stage_get_nowait(unsigned me, unsigned i)
{
	stage_stock[me][i] = sheaf_cache_alloc_nowait(stage_cache);
	got(me, i, false);
}

static void *give(unsigned me, unsigned i)
{
	stage_errors += !arena_disown(&stage_arena, stage_stock[me][i], ARENA_USER + me);
	return stage_stock[me][i];
}

void stage_put(unsigned me, unsigned i)
{
	void *object = give(me, i);

	stage_stock[me][i] = NULL;
	sheaf_cache_free(stage_cache, object);
}

void stage_put_nowait(unsigned me, unsigned i)
{
	void *object = give(me, i);

	stage_stock[me][i] = NULL;
	sheaf_cache_free_nowait(stage_cache, object);
}

/* The stamp tells where it is, so the pointer stays. */
void stage_retire(unsigned me, unsigned i)
{
	sheaf_cache_free_rcu(stage_cache, give(me, i));
	stage_retired[me] = i + 1;
}

void stage_retire_nowait(unsigned me, unsigned i)
{
	sheaf_cache_free_rcu_nowait(stage_cache, give(me, i));
	stage_retired[me] = i + 1;
}

void stage_barrier_and_look(void)
{
	unsigned before[SCHEDULE_THREADS];

	for (unsigned t = 0; t < SCHEDULE_THREADS; t++)
		before[t] = stage_retired[t];
	stage_errors += sheaf_cache_barrier(stage_cache) != 0;
	sheaf_cache_shrink(stage_cache);
	for (unsigned t = 0; t < SCHEDULE_THREADS; t++)
		for (unsigned i = 0; i < before[t]; i++)
			stage_errors +=
				stage_arena.owner[arena_index(&stage_arena, stage_stock[t][i])] !=
				ARENA_BACKEND;
}

void stage_play(const struct stage_case *play, unsigned runs)
{
	stage_play_deeper(play, 1, runs);
}

void stage_play_deeper(const struct stage_case *play, unsigned preemptions, unsigned runs)
{
	struct schedule schedule = {
		.threads = play->threads,
		.begin = play->begin,
		.run = play->run,
		.end = stage_end,
		.handler = play->handler,
		.preemptions = preemptions + test_full(),
		.runs = test_rounds(3000 * preemptions),
	};
	struct schedule_result result;

	/* What happens only once in a process must not happen in the first run. */
	if (!membarrier_ready())
		printf("# %s: without membarrier(2)\n", play->name);
	schedule_deepen(&schedule, play->many ? 0 : 1, play->name);
	schedule.preemptions = 20;
	schedule.runs = test_rounds(runs);
	schedule.seed = test_seed();
	result = schedule_run(&schedule);
	ck_assert_msg(!result.error, "%s: %s, run %u", play->name, result.error, result.runs);
}
