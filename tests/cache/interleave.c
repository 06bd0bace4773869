/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of a cache that in every interleaving of its atomic accesses and locks (of two and
 * three threads, up to a number of preemptions, as far as the runs go) an owner in its slot and another thread that
 * takes slots over, to count, to shrink or for a barrier, do not meet: no object in two hands,
 * none lost, all sums right when the threads are done; and that a barrier misses nothing that
 * was retired before it, be it in a slot or on its way to the recycler. Stores and loads
 * are in order here: that membarrier() makes them so is for cache-race to prove.
 */
#include "common.h"
#include "stage.h"

static void own_slot(unsigned me)
{
	stage_put(me, 0);
	stage_put(me, 1);
	stage_get(me, 0);
	stage_put(me, 2);
	stage_get(me, 1);
	stage_get(me, 2);
}

static void remote(unsigned how)
{
	struct sheaf_cache_stats stats;

	if (how == 0)
		sheaf_cache_stats(stage_cache, &stats, sizeof(stats));
	else if (how == 1)
		sheaf_cache_shrink(stage_cache);
	else
		stage_errors += sheaf_cache_barrier(stage_cache) != 0;
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
	for (unsigned i = 0; i < STAGE_STOCK; i++)
		arena_disown(&stage_arena, stage_stock[0][i], ARENA_USER);
	sheaf_cache_free_bulk(stage_cache, STAGE_STOCK, stage_stock[0]);
	stage_errors += sheaf_cache_alloc_bulk(stage_cache, 0, STAGE_STOCK, stage_stock[0]) != STAGE_STOCK;
	for (unsigned i = 0; i < STAGE_STOCK; i++)
		stage_errors += !arena_own(&stage_arena, stage_stock[0][i], ARENA_USER);
}

static void run_prefill(unsigned me)
{
	struct sheaf *sheaf;

	if (me) {
		remote(1);
		return;
	}
	stage_put(0, 0);
	stage_put(0, 1);
	sheaf = sheaf_cache_prefill(stage_cache, 2, SHEAF_STRICT);
	stage_errors += !sheaf;
	stage_stock[0][0] = sheaf_cache_alloc_from(stage_cache, sheaf);
	stage_errors += !arena_own(&stage_arena, stage_stock[0][0], ARENA_USER);
	sheaf_cache_return(stage_cache, sheaf);
	stage_get(0, 1);
}

static void run_barrier(unsigned me)
{
	if (me) {
		stage_barrier_and_look();
		return;
	}
	for (unsigned i = 0; i < 5; i++)
		stage_retire(0, i);
}

static void run_barrier_flush(unsigned me)
{
	if (me) {
		stage_barrier_and_look();
		return;
	}
	for (unsigned i = 0; i < 3; i++)
		stage_retire(0, i);
	sheaf_cache_flush(stage_cache);
}

static void run_two_barriers(unsigned me)
{
	if (me == 1)
		stage_barrier_and_look();
	if (me == 2)
		remote(2);
	if (me)
		return;
	for (unsigned i = 0; i < 3; i++)
		stage_retire(0, i);
}

static void run_two_retirers(unsigned me)
{
	if (me == 2) {
		stage_barrier_and_look();
		return;
	}
	for (unsigned i = 0; i < 3; i++)
		stage_retire(me, i);
}

static const struct stage_case plays[] = {
	{"statistics", 2, stage_begin, run_stats, NULL, false},
	{"shrink", 2, stage_begin, run_shrink, NULL, false},
	{"two owners", 3, stage_begin, run_two_owners, NULL, false},
	{"two remotes", 3, stage_begin, run_two_remotes, NULL, false},
	{"bulk", 2, stage_begin, run_bulk, NULL, false},
	{"prefill", 2, stage_begin, run_prefill, NULL, false},
	{"barrier", 2, stage_begin, run_barrier, NULL, false},
	{"barrier, flush", 2, stage_begin, run_barrier_flush, NULL, false},
	{"two barriers", 3, stage_begin, run_two_barriers, NULL, true},
	{"two retire", 3, stage_begin, run_two_retirers, NULL, false},
};

START_TEST(owner_and_remote_do_not_meet)
{
	/* What a barrier of one phase misses shows in one of a thousand runs by chance. */
	stage_play(&plays[_i], plays[_i].run == run_two_barriers ? 8000 : 2000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("interleave");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, owner_and_remote_do_not_meet, 0, sizeof(plays) / sizeof(plays[0]));
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
