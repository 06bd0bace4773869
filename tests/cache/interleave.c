/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of a cache that in every interleaving of its atomic accesses and locks (of two and
 * three threads, up to a number of preemptions) an owner in its slot and another thread that
 * takes slots over, to count, to shrink or for a barrier, do not meet: no object in two hands,
 * none lost, all sums right when the threads are done; and that a barrier misses nothing that
 * was retired before it, be it in a slot or on its way to the recycler. Stores and loads
 * are in order here: that membarrier() makes them so is for cache-race to prove.
 */
#include "arena.h"
#include "base/atomic.h"
#include "base/membarrier.h"
#include "cache_state.h"
#include "common.h"
#include "schedule.h"

#include <stdio.h>

#define CAPACITY 2
#define STOCK 6

static struct arena arena;
static struct sheaf_cache *cache;
static unsigned errors;

/* What each thread holds when a run begins, and how many of them it has retired. */
static void *stock[SCHEDULE_THREADS][STOCK];
static unsigned retired[SCHEDULE_THREADS];

/* A source that only moves on when somebody waits. */
static struct sheaf_gp gp;
static uint64_t now;

static uint64_t lazy_ticket(struct sheaf_gp *source)
{
	(void)source;
	return fetch_add_acq_rel(&now, 0);
}

static int lazy_wait(struct sheaf_gp *source, uint64_t ticket)
{
	while (!sheaf_gp_elapsed(source, ticket)) {
		uint64_t completed = fetch_add_acq_rel(&now, 1);

		if (!sheaf_gp_not_after(completed, source->completed))
			store_release(&source->completed, completed);
	}
	return 0;
}

static bool lazy_read_ongoing(struct sheaf_gp *source)
{
	(void)source;
	return false;
}

static const struct sheaf_gp_ops lazy_ops = {
	.name = "lazy",
	.ticket = lazy_ticket,
	.wait = lazy_wait,
	.read_ongoing = lazy_read_ongoing,
};

static void begin(void)
{
	gp = (struct sheaf_gp){.ops = &lazy_ops};
	now = 1;
	errors = 0;
	arena_init(&arena, 16);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = CAPACITY,
					    .barn_full = 2,
					    .barn_empty = 2,
					    .nodes = 1,
					    .gp = &gp,
				    });
	for (unsigned t = 0; t < SCHEDULE_THREADS; t++) {
		retired[t] = 0;
		sheaf_cache_alloc_bulk(cache, 0, STOCK, stock[t]);
		for (unsigned i = 0; i < STOCK; i++)
			arena_own(&arena, stock[t][i], ARENA_USER + t);
	}
}

static const char *end(void)
{
	struct sheaf_cache_stats s;
	bool right = sheaf_cache_check(cache);

	for (unsigned t = 0; t < SCHEDULE_THREADS; t++)
		for (unsigned i = 0; i < STOCK; i++)
			if (stock[t][i] && arena_disown(&arena, stock[t][i], ARENA_USER + t))
				sheaf_cache_free(cache, stock[t][i]);
	s = cache_stats(cache);
	if (!right)
		return "an invariant is broken";
	if (errors || arena.errors)
		return "an object in two hands, or missed";
	if (s.held_slots + s.held_barns + s.in_flight != arena_out(&arena))
		return "an object is lost";
	if (sheaf_cache_destroy(cache, NULL))
		return "something is left";
	arena_fini(&arena);
	return NULL;
}

static void get(unsigned me, unsigned i)
{
	stock[me][i] = sheaf_cache_alloc(cache, 0);
	errors += !stock[me][i] || !arena_own(&arena, stock[me][i], ARENA_USER + me);
}

static void put(unsigned me, unsigned i)
{
	errors += !arena_disown(&arena, stock[me][i], ARENA_USER + me);
	sheaf_cache_free(cache, stock[me][i]);
	stock[me][i] = NULL;
}

/* The stamp tells where it is, so the pointer stays. */
static void retire(unsigned me, unsigned i)
{
	errors += !arena_disown(&arena, stock[me][i], ARENA_USER + me);
	sheaf_cache_free_rcu(cache, stock[me][i]);
	retired[me] = i + 1;
}

static void forget_retired(void)
{
	for (unsigned t = 0; t < SCHEDULE_THREADS; t++)
		for (unsigned i = 0; i < retired[t]; i++)
			stock[t][i] = NULL;
}

static const char *end_retired(void)
{
	forget_retired();
	return end();
}

static void own_slot(unsigned me)
{
	put(me, 0);
	put(me, 1);
	get(me, 0);
	put(me, 2);
	get(me, 1);
	get(me, 2);
}

static void remote(unsigned how)
{
	struct sheaf_cache_stats stats;

	if (how == 0)
		sheaf_cache_stats(cache, &stats);
	else if (how == 1)
		sheaf_cache_shrink(cache);
	else
		errors += sheaf_cache_barrier(cache) != 0;
}

static void run_stats(unsigned me)
{
	me ? remote(0) : own_slot(me);
}

static void run_shrink(unsigned me)
{
	me ? remote(1) : own_slot(me);
}

static void run_two_owners(unsigned me)
{
	me == 2 ? remote(1) : own_slot(me);
}

static void run_two_remotes(unsigned me)
{
	if (me == 0)
		own_slot(me);
	else
		remote(me - 1);
}

static void run_bulk(unsigned me)
{
	if (me) {
		remote(1);
		return;
	}
	for (unsigned i = 0; i < STOCK; i++)
		arena_disown(&arena, stock[0][i], ARENA_USER);
	sheaf_cache_free_bulk(cache, STOCK, stock[0]);
	errors += sheaf_cache_alloc_bulk(cache, 0, STOCK, stock[0]) != STOCK;
	for (unsigned i = 0; i < STOCK; i++)
		errors += !arena_own(&arena, stock[0][i], ARENA_USER);
}

static void run_prefill(unsigned me)
{
	struct sheaf *sheaf;

	if (me) {
		remote(1);
		return;
	}
	put(0, 0);
	put(0, 1);
	sheaf = sheaf_cache_prefill(cache, 2, SHEAF_STRICT);
	errors += !sheaf;
	stock[0][0] = sheaf_cache_alloc_from(cache, sheaf);
	errors += !arena_own(&arena, stock[0][0], ARENA_USER);
	sheaf_cache_return(cache, sheaf);
	get(0, 1);
}

/* Everything that had been retired when the barrier began is with the backend after a shrink:
 * nobody else allocates or shrinks here. */
static void barrier_and_look(void)
{
	unsigned before[SCHEDULE_THREADS];

	for (unsigned t = 0; t < SCHEDULE_THREADS; t++)
		before[t] = retired[t];
	errors += sheaf_cache_barrier(cache) != 0;
	sheaf_cache_shrink(cache);
	for (unsigned t = 0; t < SCHEDULE_THREADS; t++)
		for (unsigned i = 0; i < before[t]; i++)
			errors += arena.owner[arena_index(&arena, stock[t][i])] != ARENA_BACKEND;
}

static void run_barrier(unsigned me)
{
	if (me) {
		barrier_and_look();
		return;
	}
	for (unsigned i = 0; i < 5; i++)
		retire(0, i);
}

static void run_barrier_flush(unsigned me)
{
	if (me) {
		barrier_and_look();
		return;
	}
	for (unsigned i = 0; i < 3; i++)
		retire(0, i);
	sheaf_cache_flush(cache);
}

static void run_two_barriers(unsigned me)
{
	if (me == 1)
		barrier_and_look();
	if (me == 2)
		remote(2);
	if (me)
		return;
	for (unsigned i = 0; i < 3; i++)
		retire(0, i);
}

static void run_two_retirers(unsigned me)
{
	if (me == 2) {
		barrier_and_look();
		return;
	}
	for (unsigned i = 0; i < 3; i++)
		retire(me, i);
}

static const struct interleaving {
	const char *name;
	unsigned threads;
	void (*run)(unsigned me);
	const char *(*end)(void);
} interleavings[] = {
	{"statistics", 2, run_stats, end},
	{"shrink", 2, run_shrink, end},
	{"two owners", 3, run_two_owners, end},
	{"two remotes", 3, run_two_remotes, end},
	{"bulk", 2, run_bulk, end},
	{"prefill", 2, run_prefill, end},
	{"barrier", 2, run_barrier, end_retired},
	{"barrier, flush", 2, run_barrier_flush, end_retired},
	{"two barriers", 3, run_two_barriers, end_retired},
	{"two retire", 3, run_two_retirers, end_retired},
};

#define INTERLEAVINGS (sizeof(interleavings) / sizeof(interleavings[0]))

START_TEST(owner_and_remote_do_not_meet)
{
	const struct interleaving *i = &interleavings[_i];
	struct schedule schedule = {
		.threads = i->threads,
		.begin = begin,
		.run = i->run,
		.end = i->end,
		.preemptions = 2 + test_full(),
		.runs = test_rounds(2000),
	};
	struct schedule_result result;

	/* What happens only once in a process must not happen in the first run. */
	if (!membarrier_ready())
		return;
	result = schedule_run(&schedule);
	printf("# %s: %u runs%s\n", i->name, result.runs, result.complete ? ", all" : "");
	ck_assert_msg(!result.error, "%s: %s, run %u", i->name, result.error, result.runs);
	schedule.preemptions = 20;
	schedule.seed = test_seed();
	result = schedule_run(&schedule);
	ck_assert_msg(!result.error, "%s: %s, run %u", i->name, result.error, result.runs);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("interleave");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, owner_and_remote_do_not_meet, 0, INTERLEAVINGS);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
