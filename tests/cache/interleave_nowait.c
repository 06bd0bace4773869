/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the calls for any context that in every interleaving (of two and three threads, up to
 * a number of preemptions, as far as the runs go) what they leave behind is had again once, and not lost: spilled
 * objects, sealed sheaves, retired objects in notes, with all notes there, with the last one
 * wanted by two, and with none; that an allocation with nobody beside it gets what is spilled; that a barrier misses
 * none of it, whoever takes it in; and that
 * a signal handler may come in at any point of a thread, in the midst of its slot, of a take-over, or
 * of taking in what another one has left.
 */
#include "common.h"
#include "stage.h"

/* Of the node; what cache_nowait.c is made with. */
#define NOTES 256

/* The stock of the handler. */
#define HANDLER 3

/* What is spilled; calls that go on, and all that have begun. */
static unsigned spilled, ongoing, begun;

static void spill(unsigned me, unsigned i)
{
	begun++;
	ongoing++;
	stage_put_nowait(me, i);
	ongoing--;
	spilled++;
}

/* With nobody beside it a call gets one, if there is one: alone from its beginning to its end. */
static void get_spilled(unsigned me, unsigned i)
{
	bool must = !ongoing && spilled;
	unsigned mine = ++begun;

	ongoing++;
	stage_get_nowait(me, i);
	ongoing--;
	if (stage_stock[me][i])
		spilled--;
	else
		stage_errors += must && begun == mine;
}

/* Threads that only make these calls have no slot, and the barn is empty: nothing but spilling is
 * left. */
static void run_spill(unsigned me)
{
	spill(me, 0);
	get_spilled(me, 1);
	spill(me, 3);
	get_spilled(me, 4);
}

/* Places 0 and 3 are filled, the others are for what a get finds. */
static void begin_spill(void)
{
	stage_begin();
	spilled = ongoing = begun = 0;
	for (unsigned t = 0; t < SCHEDULE_THREADS; t++)
		for (unsigned i = 1; i < STAGE_STOCK; i++)
			if (i != 3)
				stage_put(t, i);
	sheaf_cache_shrink(stage_cache);
}

static void run_spill_take_in(unsigned me)
{
	if (me == 0) {
		stage_put_nowait(0, 0);
		stage_put_nowait(0, 3);
	} else if (me == 1) {
		stage_put(1, 0);
		stage_get(1, 1);
	} else {
		stage_put_nowait(2, 0);
		stage_get_nowait(2, 1);
	}
}

static void run_retire(unsigned me)
{
	for (unsigned i = 0; i < 3; i++)
		stage_retire_nowait(me, i);
}

static void run_retire_barrier(unsigned me)
{
	if (me)
		stage_barrier_and_look();
	else
		run_retire(0);
}

/* Another one takes in what the barrier looks for. */
static void run_retire_take_in_barrier(unsigned me)
{
	if (me == 2)
		stage_barrier_and_look();
	else if (me == 1)
		for (unsigned i = 0; i < 2; i++)
			stage_retire(1, i);
	else
		for (unsigned i = 0; i < 2; i++)
			stage_retire_nowait(0, i);
}

static void run_retire_take_in(unsigned me)
{
	for (unsigned i = 0; i < 3; i++)
		me ? stage_retire(me, i) : stage_retire_nowait(me, i);
}

/* So many notes are left; what is in the others is not looked at. */
static void begin_notes(unsigned left)
{
	struct slot *slot;

	stage_begin();
	slot = slot_find(stage_cache);
	/* There is no way in: each takes a note. */
	slot->busy = 1;
	for (unsigned i = left; i < NOTES; i++) {
		void *object;

		stage_errors += stage_cache->backend.ops->alloc_bulk(stage_cache->backend.ctx, 0, 0,
								     1, &object) != 1;
		budget_reserve(stage_cache, 1);
		stage_cache->backend_allocated++;
		sheaf_cache_free_rcu_nowait(stage_cache, object);
	}
	slot->busy = 0;
}

static void begin_last_note(void)
{
	begin_notes(1);
}

static void begin_no_note(void)
{
	begin_notes(0);
}

static void run_two_retire_two(unsigned me)
{
	for (unsigned i = 0; i < 2; i++)
		stage_retire_nowait(me, i);
}

static void run_two_retire_barrier(unsigned me)
{
	if (me)
		stage_barrier_and_look();
	else
		run_two_retire_two(0);
}

/*
 * With a handler.
 */
static void handle_alloc(void)
{
	stage_put_nowait(HANDLER, 0);
	stage_put_nowait(HANDLER, 1);
	stage_get_nowait(HANDLER, 0);
}

static void handle_retire(void)
{
	for (unsigned i = 0; i < 3; i++)
		stage_retire_nowait(HANDLER, i);
}

static void run_alloc(unsigned me)
{
	if (me) {
		sheaf_cache_shrink(stage_cache);
		return;
	}
	stage_put(0, 0);
	stage_put(0, 1);
	stage_put(0, 2);
	stage_get(0, 0);
}

static void run_alloc_alone(unsigned me)
{
	run_alloc(me);
	stage_get(0, 1);
	stage_get(0, 2);
	stage_put(0, 3);
}

static void run_retire_slot(unsigned me)
{
	if (me)
		stage_barrier_and_look();
	else
		for (unsigned i = 0; i < 4; i++)
			stage_retire(0, i);
}

static void run_barrier_slot(unsigned me)
{
	if (me == 0)
		stage_barrier_and_look();
	else
		for (unsigned i = 0; i < 4; i++)
			stage_retire(1, i);
}

/* Who found his slot stopped is inside by the lock when the stop has gone: a handler must not follow. The slot is
 * made, and has room, before anybody looks at it. */
static void run_put_stopped(unsigned me)
{
	struct sheaf_cache_stats stats;

	if (me) {
		sheaf_cache_stats(stage_cache, &stats, sizeof(stats));
		return;
	}
	schedule_alone(true);
	stage_put(0, 0);
	schedule_alone(false);
	schedule_yield();
	stage_put(0, 1);
}

static void handle_put(void)
{
	stage_put_nowait(HANDLER, 0);
}

static const struct stage_case plays[] = {
	{"spill", 2, begin_spill, run_spill, NULL, false},
	{"spill: three threads", 3, begin_spill, run_spill, NULL, false},
	{"spill, take in", 2, begin_spill, run_spill_take_in, NULL, false},
	{"spill, take in: three threads", 3, begin_spill, run_spill_take_in, NULL, false},
	{"retire", 2, stage_begin, run_retire, NULL, false},
	{"retire, take in", 2, stage_begin, run_retire_take_in, NULL, false},
	{"retire, barrier", 2, stage_begin, run_retire_barrier, NULL, false},
	{"retire, take in, barrier", 3, stage_begin, run_retire_take_in_barrier, NULL, false},
	{"the last note", 2, begin_last_note, run_two_retire_two, NULL, false},
	{"the last note, barrier", 2, begin_last_note, run_two_retire_barrier, NULL, false},
	{"no note", 2, begin_no_note, run_two_retire_two, NULL, false},
	{"no note, barrier", 2, begin_no_note, run_two_retire_barrier, NULL, false},
	{"a handler allocates", 1, stage_begin, run_alloc_alone, handle_alloc, false},
	{"a handler allocates, shrink", 2, stage_begin, run_alloc, handle_alloc, false},
	{"a handler retires, shrink", 2, stage_begin, run_alloc, handle_retire, false},
	{"a handler retires, barrier", 2, stage_begin, run_retire_slot, handle_retire, false},
	{"a handler retires in a barrier", 2, stage_begin, run_barrier_slot, handle_retire, false},
};

static const struct stage_case by_the_lock = {"a handler frees, its thread is in by the lock",
					      2,
					      stage_begin,
					      run_put_stopped,
					      handle_put,
					      false};

START_TEST(a_handler_stays_out)
{
	stage_play_deeper(&by_the_lock, 2, 500);
}
END_TEST

START_TEST(what_is_left_is_had_once)
{
	stage_play(&plays[_i], 1500);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("interleave-nowait");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, what_is_left_is_had_once, 0, sizeof(plays) / sizeof(plays[0]));
	tcase_add_test(tc, a_handler_stays_out);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
