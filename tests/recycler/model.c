/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the recycler, used by one thread over a manual source: sheaves come back
 * in the order they were given, each once, none before its ticket has elapsed (also
 * where tickets wrap), through the ripe callback exactly once, which may drop what it
 * likes; limits hurry the source and report pressure to the object; barrier, drain,
 * fini and all counters do what a plain queue does. sheaf_recycler_check() holds
 * after every step and sees damage.
 */
#include <sheaf/recycler.h>

#include "base/futex.h"
#include "common.h"

#include <errno.h>
#include <stdlib.h>

#define SHEAVES 40
#define CAPACITY 4

/* A manual source that counts what is asked of it. */
static struct {
	struct sheaf_gp gp;
	struct sheaf_gp_manual manual;
	unsigned tickets;
	unsigned hurries;
	unsigned waits;
} source;

static uint64_t count_ticket(struct sheaf_gp *gp)
{
	(void)gp;
	source.tickets++;
	return sheaf_gp_ticket(&source.manual.gp);
}

static int count_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	(void)gp;
	source.waits++;
	return sheaf_gp_wait(&source.manual.gp, ticket);
}

static void count_hurry(struct sheaf_gp *gp)
{
	(void)gp;
	source.hurries++;
}

static bool never_reading(struct sheaf_gp *gp)
{
	(void)gp;
	return false;
}

static const struct sheaf_gp_ops counting_ops = {
	.name = "counting",
	.ticket = count_ticket,
	.wait = count_wait,
	.hurry = count_hurry,
	.read_ongoing = never_reading,
};

static void source_init(uint64_t first)
{
	source.gp = (struct sheaf_gp){.ops = &counting_ops, .completed = first - 1};
	sheaf_gp_manual_init(&source.manual, first);
	source.tickets = source.hurries = source.waits = 0;
}

static void step(void)
{
	sheaf_gp_manual_step(&source.manual);
	source.gp.completed = source.manual.gp.completed;
}

/* The oracle: a queue. */
struct entry {
	struct sheaf *sheaf;
	uint64_t ticket;
	uint32_t size;
};

static struct {
	struct entry queue[SHEAVES];
	unsigned n;
	uint64_t objects;
	uint64_t given;
	uint64_t taken;
	uint64_t aged;
	uint64_t peak;
	uint64_t soft;
	uint64_t hard;
} model;

static struct sheaf_recycler recycler;
static struct sheaf *hand[SHEAVES];
static unsigned in_hand;
static uint64_t state;

/* What the callback saw last, and how many objects it drops from each sheaf. */
static struct {
	struct sheaf *seen;
	unsigned calls;
	uint32_t drops;
} ripe;

static void on_ripe(void *arg, struct sheaf *sheaf)
{
	ck_assert_ptr_eq(arg, &ripe);
	ripe.seen = sheaf;
	ripe.calls++;
	for (uint32_t i = ripe.drops; i; i--)
		sheaf_pop(sheaf);
}

static void compare(void)
{
	struct sheaf_recycler_stats stats;
	uint64_t aged = 0;

	ck_assert(sheaf_recycler_check(&recycler));
	sheaf_recycler_stats(&recycler, &stats);
	for (unsigned i = 0; i < SHEAF_RECYCLER_AGES; i++)
		aged += stats.ages[i];
	ck_assert(stats.given == model.given && stats.taken == model.taken);
	ck_assert(stats.sheaves == model.n && stats.objects == model.objects);
	ck_assert(stats.peak == model.peak && aged == model.aged);
	ck_assert_uint_eq(in_hand + model.n, SHEAVES);
}

static void begin(uint64_t first, bool callback)
{
	const struct sheaf_recycler_attr attr = {
		.size = sizeof(attr),
		.soft_limit = 30,
		.hard_limit = 60,
		.ripe = callback ? on_ripe : NULL,
		.ripe_arg = &ripe,
	};

	state = test_seed();
	source_init(first);
	model.n = 0;
	model.objects = model.given = model.taken = model.aged = model.peak = 0;
	model.soft = 30;
	model.hard = 60;
	ripe.drops = 0;
	ck_assert_int_eq(sheaf_recycler_init(&recycler, &source.gp, &attr), 0);
	for (in_hand = 0; in_hand < SHEAVES; in_hand++)
		hand[in_hand] = sheaf_init(malloc(sheaf_bytes(CAPACITY)), CAPACITY);
	compare();
}

/* The oldest leaves the model; it must be this one. */
static void model_remove(struct sheaf *sheaf)
{
	ck_assert_uint_gt(model.n, 0);
	ck_assert_ptr_eq(sheaf, model.queue[0].sheaf);
	model.objects -= model.queue[0].size;
	model.n--;
	for (unsigned i = 0; i < model.n; i++)
		model.queue[i] = model.queue[i + 1];
	model.taken++;
	hand[in_hand++] = sheaf;
}

static void end(void)
{
	ck_assert_int_eq(sheaf_recycler_fini(&recycler), model.n ? -EBUSY : 0);
	while (model.n) {
		unsigned calls = ripe.calls;

		model_remove(sheaf_recycler_drain(&recycler));
		ck_assert_uint_eq(ripe.calls, calls);
		compare();
	}
	ck_assert_ptr_null(sheaf_recycler_drain(&recycler));
	ck_assert_int_eq(sheaf_recycler_fini(&recycler), 0);
	while (in_hand)
		free(hand[--in_hand]);
}

static void step_give(void)
{
	struct sheaf *sheaf = hand[--in_hand];
	unsigned hurries = source.hurries;
	bool pressure, ripe_there;

	while (sheaf_pop(sheaf))
		;
	for (uint64_t n = test_below(&state, CAPACITY + 1); n; n--)
		sheaf_push(sheaf, sheaf);
	model.queue[model.n++] = (struct entry){sheaf, source.manual.now, sheaf->size};
	model.objects += sheaf->size;
	model.given++;
	if (model.objects > model.peak)
		model.peak = model.objects;
	/* As far as the recycler has looked. */
	ripe_there = recycler.waiting && sheaf_gp_elapsed(&source.gp, recycler.oldest);
	pressure = sheaf_recycler_give(&recycler, sheaf);
	ck_assert_int_eq(pressure, model.hard && model.objects > model.hard);
	ck_assert_uint_eq(source.hurries - hurries,
			  model.soft && model.objects > model.soft && !ripe_there);
	ck_assert_uint_eq(sheaf_recycler_objects(&recycler), model.objects);
	/* What has come in since is worth a look. */
	ck_assert(sheaf_recycler_ripe(&recycler) == (ripe_there || !recycler.waiting));
}

static void step_take(bool callback)
{
	const struct entry *oldest = &model.queue[0];
	bool want = model.n && sheaf_gp_elapsed(&source.gp, oldest->ticket);
	uint32_t size = want ? oldest->size : 0;
	unsigned calls = ripe.calls;
	struct sheaf *sheaf;

	ripe.drops = (uint32_t)test_below(&state, CAPACITY + 2);
	sheaf = sheaf_recycler_take(&recycler);
	ck_assert_int_eq(sheaf != NULL, want);
	ck_assert_uint_eq(ripe.calls - calls, want && callback);
	if (!want)
		return;
	ck_assert_ptr_null(sheaf->link);
	model_remove(sheaf);
	model.aged++;
	if (callback) {
		ck_assert_ptr_eq(ripe.seen, sheaf);
		size = size > ripe.drops ? size - ripe.drops : 0;
	}
	ck_assert_uint_eq(sheaf->size, size);
}

static void step_barrier(void)
{
	bool all = !model.n || sheaf_gp_elapsed(&source.gp, model.queue[model.n - 1].ticket);

	ck_assert_int_eq(sheaf_recycler_barrier(&recycler), all ? 0 : -EDEADLK);
}

static void step_limits(void)
{
	uint64_t soft = test_below(&state, 60), hard = test_below(&state, 100);
	bool wrong;

	if (!test_below(&state, 3))
		soft = 0;
	if (!test_below(&state, 3))
		hard = 0;
	wrong = hard && soft > hard;
	ck_assert_int_eq(sheaf_recycler_set_limits(&recycler, soft, hard), wrong ? -EINVAL : 0);
	if (!wrong) {
		model.soft = soft;
		model.hard = hard;
	}
}

START_TEST(every_operation_as_a_queue)
{
	bool callback = _i % 2;

	begin(_i < 2 ? UINT64_MAX - 50 : 0, callback);
	for (unsigned round = test_rounds(20000); round; round--) {
		uint64_t what = test_below(&state, 100);

		if (what < 40 && in_hand)
			step_give();
		else if (what < 75)
			step_take(callback);
		else if (what < 90)
			step();
		else if (what < 97)
			step_barrier();
		else
			step_limits();
		compare();
	}
	end();
}
END_TEST

START_TEST(nothing_before_its_ticket)
{
	begin(UINT64_MAX, false);
	step_give();
	step_give();
	for (unsigned i = 0; i < 3; i++)
		ck_assert_ptr_null(sheaf_recycler_take(&recycler));
	ck_assert_int_eq(sheaf_recycler_barrier(&recycler), -EDEADLK);
	step();
	step_give();
	/* What was given before the step is ripe, what came after is not. */
	step_take(false);
	ck_assert_uint_eq(model.taken, 1);
	ck_assert_int_eq(sheaf_recycler_barrier(&recycler), -EDEADLK);
	step_take(false);
	ck_assert_uint_eq(model.taken, 2);
	step_take(false);
	ck_assert_uint_eq(model.taken, 2);
	step();
	/* Ripe, though nobody has taken it: nothing to wait for, however often asked. */
	ck_assert_int_eq(sheaf_recycler_barrier(&recycler), 0);
	ck_assert_int_eq(sheaf_recycler_barrier(&recycler), 0);
	step_take(false);
	ck_assert_uint_eq(model.taken, 3);
	compare();
	end();
}
END_TEST

/* One ticket per sheaf, and none for looking. */
START_TEST(asking_costs_the_source_nothing)
{
	begin(7, false);
	step_give();
	step_give();
	ck_assert_uint_eq(source.tickets, 2);
	for (unsigned i = 0; i < 10; i++)
		step_take(false);
	step();
	step_take(false);
	step_take(false);
	step_take(false);
	ck_assert_uint_eq(source.tickets, 2);
	ck_assert_uint_eq(source.waits, 0);
	end();
}
END_TEST

/* One sheaf taken with a stamp set back by hand, by one and a half times the start of a
 * bucket. False if that took so long that the sheaf may be in the next bucket by now. */
static bool take_aged(unsigned i)
{
	unsigned bucket = i < SHEAF_RECYCLER_AGES ? i : SHEAF_RECYCLER_AGES - 1;
	struct sheaf_recycler_stats before, after;
	uint64_t start, took_us;

	sheaf_recycler_stats(&recycler, &before);
	step_give();
	start = clock_ns();
	model.queue[0].sheaf->stamp = (uint32_t)(start / 1000) - (UINT32_C(12) << i);
	step();
	step_take(false);
	sheaf_recycler_stats(&recycler, &after);
	took_us = (clock_ns() - start) / 1000;
	if (took_us + 1 >= UINT64_C(4) << i)
		return false;
	ck_assert_uint_eq(after.ages[bucket], before.ages[bucket] + 1);
	return true;
}

START_TEST(ages_fall_into_their_buckets)
{
	begin(0, false);
	for (unsigned i = 8; i < SHEAF_RECYCLER_AGES + 4; i++) {
		unsigned tries = 0;

		while (!take_aged(i))
			ck_assert_uint_lt(++tries, 1000);
	}
	end();
}
END_TEST

START_TEST(wrong_attributes_are_refused)
{
	struct {
		struct sheaf_recycler_attr attr;
		uint64_t newer;
	} attr = {.attr = {.size = sizeof(attr)}};

	source_init(0);
	ck_assert_int_eq(sheaf_recycler_init(&recycler, NULL, NULL), -EINVAL);
	ck_assert_int_eq(sheaf_recycler_init(&recycler, NULL, &attr.attr), -EINVAL);
	ck_assert_int_eq(sheaf_recycler_init(&recycler, &source.gp, &attr.attr), 0);
	attr.newer = 1;
	ck_assert_int_eq(sheaf_recycler_init(&recycler, &source.gp, &attr.attr), -EINVAL);
	attr.newer = 0;
	attr.attr.size = 0;
	ck_assert_int_eq(sheaf_recycler_init(&recycler, &source.gp, &attr.attr), -EINVAL);
	attr.attr = (struct sheaf_recycler_attr){
		.size = sizeof(attr.attr), .soft_limit = 11, .hard_limit = 10};
	ck_assert_int_eq(sheaf_recycler_init(&recycler, &source.gp, &attr.attr), -EINVAL);
	attr.attr.hard_limit = 11;
	ck_assert_int_eq(sheaf_recycler_init(&recycler, &source.gp, &attr.attr), 0);
	ck_assert_int_eq(sheaf_recycler_init(&recycler, &source.gp, NULL), 0);
	ck_assert_int_eq(sheaf_recycler_barrier(&recycler), 0);
	ck_assert_ptr_null(sheaf_recycler_take(&recycler));
	ck_assert_int_eq(sheaf_recycler_fini(&recycler), 0);
}
END_TEST

START_TEST(check_sees_damage)
{
	struct sheaf *sheaf;

	begin(0, false);
	step_give();
	step_give();
	step_give();
	step();
	step_take(false);
	step_give();
	compare();
	sheaf = recycler.head;
	recycler.head = sheaf->link;
	ck_assert(!sheaf_recycler_check(&recycler));
	recycler.head = sheaf;
	recycler.oldest++;
	ck_assert(!sheaf_recycler_check(&recycler));
	recycler.oldest--;
	recycler.objects++;
	ck_assert(!sheaf_recycler_check(&recycler));
	recycler.objects--;
	recycler.sheaves++;
	ck_assert(!sheaf_recycler_check(&recycler));
	recycler.sheaves--;
	recycler.busy = 1;
	ck_assert(!sheaf_recycler_check(&recycler));
	recycler.busy = 0;
	sheaf = recycler.incoming;
	recycler.incoming = NULL;
	ck_assert(!sheaf_recycler_check(&recycler));
	recycler.incoming = sheaf;
	compare();
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("recycler");
	TCase *tc = tcase_create("model");

	tcase_add_loop_test(tc, every_operation_as_a_queue, 0, 4);
	tcase_add_test(tc, nothing_before_its_ticket);
	tcase_add_test(tc, asking_costs_the_source_nothing);
	tcase_add_test(tc, ages_fall_into_their_buckets);
	tcase_add_test(tc, wrong_attributes_are_refused);
	tcase_add_test(tc, check_sees_damage);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
