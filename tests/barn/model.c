/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the barn, used by one thread: each operation hands out exactly the sheaf
 * that a plain model says (newest first within the 64 cells of a side, then the
 * chain), refuses what the limits and sides say, counts what it did, and keeps all
 * invariants of sheaf_barn_check() after every step. Sheaves have any capacity,
 * 0 included, and the full side holds partial ones. A trim hands over what lay still.
 */
#include <sheaf/barn.h>

#include "common.h"

#include <errno.h>
#include <stdlib.h>

#define SHEAVES 200
#define CAPACITY_MOST 4
/* As in lib/barn.c. */
#define CHAIN_TAKE 8

/* One side: the cells as a stack, and what came when they were all taken, newest first. */
struct model_side {
	struct sheaf *cells[SHEAF_BARN_CELLS];
	struct sheaf *chain[SHEAVES];
	unsigned in_cells;
	unsigned in_chain;
	uint32_t limit;
	uint32_t peak;
	uint64_t gives;
	uint64_t takes;
	uint64_t failed;
};

static struct sheaf_barn barn;
static struct model_side full, empty;
static struct sheaf *hand[SHEAVES];
static unsigned in_hand;
static uintptr_t last_object;

static unsigned held(const struct model_side *side)
{
	return side->in_cells + side->in_chain;
}

static void model_put(struct model_side *side, struct sheaf *sheaf)
{
	if (side->in_cells < SHEAF_BARN_CELLS) {
		side->cells[side->in_cells++] = sheaf;
	} else {
		for (unsigned i = side->in_chain; i; i--)
			side->chain[i] = side->chain[i - 1];
		side->chain[0] = sheaf;
		side->in_chain++;
	}
	side->gives++;
	if (held(side) > side->peak)
		side->peak = held(side);
}

static struct sheaf *model_take(struct model_side *side)
{
	struct sheaf *sheaf;
	unsigned used = 1;

	if (!held(side)) {
		side->failed++;
		return NULL;
	}
	side->takes++;
	if (side->in_cells)
		return side->cells[--side->in_cells];
	sheaf = side->chain[0];
	while (used < side->in_chain && used < CHAIN_TAKE && side->in_cells < SHEAF_BARN_CELLS)
		side->cells[side->in_cells++] = side->chain[used++];
	side->in_chain -= used;
	for (unsigned i = 0; i < side->in_chain; i++)
		side->chain[i] = side->chain[i + used];
	return sheaf;
}

static struct model_side *side_of(const struct sheaf *sheaf)
{
	return sheaf_empty(sheaf) ? &empty : &full;
}

/* The hand holds what the barn does not. */
static void hand_add(struct sheaf *sheaf)
{
	ck_assert_ptr_nonnull(sheaf);
	ck_assert(sheaf_check(sheaf));
	hand[in_hand++] = sheaf;
}

static void hand_remove(const struct sheaf *sheaf)
{
	for (unsigned i = 0; i < in_hand; i++)
		if (hand[i] == sheaf) {
			hand[i] = hand[--in_hand];
			return;
		}
	ck_abort_msg("a sheaf that is not in hand");
}

static void check_side(const struct sheaf_barn_side_stats *stats, const struct model_side *side)
{
	ck_assert_uint_eq(stats->gives, side->gives);
	ck_assert_uint_eq(stats->takes, side->takes);
	ck_assert_uint_eq(stats->failed_takes, side->failed);
	ck_assert_uint_eq(stats->lost_races, 0);
	ck_assert_uint_eq(stats->held, held(side));
	ck_assert_uint_eq(stats->peak, side->peak);
	ck_assert_uint_eq(stats->limit, side->limit);
}

static void compare(void)
{
	struct sheaf_barn_stats stats;
	uint64_t objects = 0;
	unsigned i;

	ck_assert(sheaf_barn_check(&barn));
	sheaf_barn_stats(&barn, &stats);
	check_side(&stats.full, &full);
	check_side(&stats.empty, &empty);
	for (i = 0; i < full.in_cells; i++)
		objects += full.cells[i]->size;
	for (i = 0; i < full.in_chain; i++)
		objects += full.chain[i]->size;
	ck_assert_uint_eq(stats.objects, objects);
	ck_assert_int_eq(sheaf_barn_has_room(&barn), held(&full) < full.limit);
	ck_assert_uint_eq(in_hand + held(&full) + held(&empty), SHEAVES);
}

static void set_limits(uint32_t full_limit, uint32_t empty_limit)
{
	sheaf_barn_set_limits(&barn, full_limit, empty_limit);
	full.limit = full_limit;
	empty.limit = empty_limit;
}

static void setup(void)
{
	sheaf_barn_init(&barn, 3, 10, 7);
	full = (struct model_side){.limit = 10};
	empty = (struct model_side){.limit = 7};
	last_object = 0;
	in_hand = 0;
	for (unsigned i = 0; i < SHEAVES; i++) {
		uint32_t capacity = i % (CAPACITY_MOST + 1);

		hand_add(sheaf_init(malloc(sheaf_bytes(capacity)), capacity));
	}
	compare();
}

/* The next that a drain hands over: cells, then the chain, newest first. */
static struct sheaf *model_drain(struct model_side *side)
{
	struct sheaf *sheaf;

	side->takes++;
	if (side->in_cells)
		return side->cells[--side->in_cells];
	sheaf = side->chain[0];
	side->in_chain--;
	for (unsigned i = 0; i < side->in_chain; i++)
		side->chain[i] = side->chain[i + 1];
	return sheaf;
}

static void take_back(void *arg, struct sheaf *sheaf)
{
	unsigned *n = arg;

	ck_assert_ptr_eq(sheaf, model_drain(held(&full) ? &full : &empty));
	hand_add(sheaf);
	++*n;
}

static void step_drain(void)
{
	unsigned n = 0;
	size_t all = held(&full) + held(&empty);

	ck_assert_uint_eq(sheaf_barn_drain(&barn, take_back, &n), all);
	ck_assert_uint_eq(n, all);
	ck_assert_int_eq(sheaf_barn_fini(&barn), 0);
}

static void teardown(void)
{
	step_drain();
	while (in_hand)
		free(hand[--in_hand]);
}

static void step_take(struct model_side *side)
{
	struct sheaf *want = model_take(side);
	struct sheaf *sheaf =
		side == &full ? sheaf_barn_take_full(&barn) : sheaf_barn_take_empty(&barn);

	ck_assert_ptr_eq(sheaf, want);
	if (sheaf)
		hand_add(sheaf);
}

static void step_give(struct sheaf *sheaf, bool as_full)
{
	struct model_side *side = as_full ? &full : &empty;
	int err = 0;

	if (side != side_of(sheaf))
		err = -EINVAL;
	else if (held(side) >= side->limit)
		err = -ENOSPC;
	ck_assert_int_eq(as_full ? sheaf_barn_give_full(&barn, sheaf)
				 : sheaf_barn_give_empty(&barn, sheaf),
			 err);
	if (!err) {
		hand_remove(sheaf);
		model_put(side, sheaf);
	}
}

static void step_keep(struct sheaf *sheaf)
{
	hand_remove(sheaf);
	sheaf_barn_keep(&barn, sheaf);
	model_put(side_of(sheaf), sheaf);
}

static void step_trade(struct sheaf *mine)
{
	struct sheaf *sheaf, *want = NULL;

	if (sheaf_empty(mine)) {
		want = model_take(&full);
		sheaf = sheaf_barn_trade_empty(&barn, mine);
	} else {
		if (held(&full) < full.limit)
			want = model_take(&empty);
		sheaf = sheaf_barn_trade_full(&barn, mine);
	}
	ck_assert_ptr_eq(sheaf, want);
	if (!sheaf)
		return;
	hand_remove(mine);
	model_put(side_of(mine), mine);
	hand_add(sheaf);
}

/* Fill or empty a sheaf in hand. */
static void change(struct sheaf *sheaf, uint64_t *state)
{
	while (sheaf_pop(sheaf))
		;
	for (uint64_t n = test_below(state, sheaf->capacity + 1); n; n--)
		sheaf_push(sheaf, (void *)++last_object);
}

static void step_any(uint64_t *state, uint32_t limit_most, bool take_often)
{
	uint64_t what = test_below(state, 100);
	struct sheaf *sheaf = in_hand ? hand[test_below(state, in_hand)] : NULL;

	if (!sheaf || what < (take_often ? 50 : 20)) {
		step_take(test_below(state, 2) ? &full : &empty);
	} else if (what < 60) {
		change(sheaf, state);
		/* In one case of eight to the wrong side. */
		step_give(sheaf, !sheaf_empty(sheaf) ^ !test_below(state, 8));
	} else if (what < 75) {
		step_keep(sheaf);
	} else if (what < 98) {
		step_trade(sheaf);
	} else if (what < 99) {
		set_limits((uint32_t)test_below(state, limit_most),
			   (uint32_t)test_below(state, limit_most));
	} else if (!test_below(state, 20)) {
		step_drain();
	}
	compare();
}

START_TEST(every_operation_as_the_model)
{
	uint64_t state = test_seed() + (uint64_t)_i;
	const uint32_t limit_most = _i ? 2 * SHEAVES : 12;
	bool take_often = false;

	for (unsigned round = 1; round <= test_rounds(10000); round++) {
		/* Tides, so that both the ends and the chain are seen. */
		if (round % 500 == 0)
			take_often = !take_often;
		step_any(&state, limit_most, take_often);
	}
}
END_TEST

START_TEST(newest_first_then_the_chain)
{
	set_limits(SHEAVES, SHEAVES);
	while (in_hand)
		step_give(hand[in_hand - 1], false);
	compare();
	ck_assert_uint_eq(empty.in_chain, SHEAVES - SHEAF_BARN_CELLS);
	ck_assert_int_eq(sheaf_barn_fini(&barn), -EBUSY);
	for (unsigned i = 0; i < SHEAVES; i++) {
		step_take(&empty);
		compare();
	}
	step_take(&empty);
	ck_assert_uint_eq(in_hand, SHEAVES);
}
END_TEST

/* Limit zero lets nothing in, but undo paths and trades of equal number go on. */
START_TEST(limits_are_soft_for_undo_paths)
{
	struct sheaf *a = hand[4], *b = hand[5], *c = hand[3];

	set_limits(0, 0);
	sheaf_push(a, (void *)1);
	step_give(a, true);
	step_give(b, false);
	step_trade(a);
	ck_assert_uint_eq(held(&full) + held(&empty), 0);
	step_keep(a);
	step_keep(b);
	compare();
	step_trade(c);
	compare();
	ck_assert_uint_eq(held(&empty), 2);
	set_limits(1, 0);
	step_trade(a);
	compare();
	ck_assert_uint_eq(held(&full), 1);
}
END_TEST

/* As takes of several threads leave it: the limit is a matter of number, not of place. */
START_TEST(limits_count_across_holes)
{
	struct sheaf_barn_stats stats;
	unsigned i;

	for (i = 0; i < 3; i++) {
		sheaf_push(hand[1], (void *)1);
		step_keep(hand[1]);
	}
	compare();
	hand_add(barn.full.cells[0].sheaf);
	barn.full.cells[0].sheaf = NULL;
	barn.full.filled &= ~UINT64_C(1);
	ck_assert(sheaf_barn_check(&barn));
	for (i = 0; i < 3; i++)
		full.cells[i] = i < 2 ? full.cells[i + 1] : NULL;
	full.in_cells--;
	full.takes++;
	set_limits(3, 3);
	compare();
	sheaf_barn_stats(&barn, &stats);
	ck_assert(stats.full.held == 2 && stats.full.peak == 3);
}
END_TEST

static unsigned trimmed[SHEAVES];
static unsigned n_trimmed;

static void note_trimmed(void *arg, struct sheaf *sheaf)
{
	struct model_side *side = arg;
	unsigned i;

	for (i = 0; i < SHEAVES && hand[i] != sheaf; i++)
		;
	ck_assert_uint_lt(i, SHEAVES);
	ck_assert_uint_lt(n_trimmed, SHEAVES);
	trimmed[n_trimmed++] = i;
	side->takes++;
}

/* Sheaves 0 .. n - 1 lie in the barn from the bottom up, all with an object. */
static void fill_for_trim(unsigned n)
{
	sheaf_barn_set_limits(&barn, SHEAVES, SHEAVES);
	for (unsigned i = 0; i < n; i++) {
		sheaf_push(hand[i], (void *)1);
		ck_assert_int_eq(sheaf_barn_give_full(&barn, hand[i]), 0);
	}
}

START_TEST(trim_hands_over_what_lay_still)
{
	struct sheaf_barn_look look = {0};
	struct model_side count = {0};

	n_trimmed = 0;
	/* Those with room for an object come first. */
	for (unsigned i = 0, j = 0; i < SHEAVES; i++)
		if (hand[i]->capacity) {
			struct sheaf *swap = hand[i];

			hand[i] = hand[j];
			hand[j++] = swap;
		}
	fill_for_trim(20);
	ck_assert(sheaf_barn_trim(&barn, &look, note_trimmed, &count));
	ck_assert_uint_eq(n_trimmed, 0);
	/* Five are needed, two of them come back, in other places. */
	for (unsigned i = 0; i < 5; i++)
		ck_assert_ptr_eq(sheaf_barn_take_full(&barn), hand[19 - i]);
	ck_assert_int_eq(sheaf_barn_give_full(&barn, hand[18]), 0);
	ck_assert_int_eq(sheaf_barn_give_full(&barn, hand[17]), 0);
	ck_assert(sheaf_barn_trim(&barn, &look, note_trimmed, &count));
	ck_assert_uint_eq(n_trimmed, 15);
	for (unsigned i = 0; i < 15; i++)
		ck_assert_uint_eq(trimmed[i], i);
	ck_assert(sheaf_barn_check(&barn));
	/* What lies above the gap goes next time, and then there is nothing. */
	ck_assert(!sheaf_barn_trim(&barn, &look, note_trimmed, &count));
	ck_assert_uint_eq(n_trimmed, 17);
	ck_assert(!sheaf_barn_trim(&barn, &look, note_trimmed, &count));
	ck_assert_int_eq(sheaf_barn_fini(&barn), 0);
}
END_TEST

/* The chain as a whole, if nothing was pushed on it. */
START_TEST(trim_empties_a_chain_that_lay_still)
{
	struct sheaf_barn_look look = {0};
	struct model_side count = {0};
	unsigned given;

	sheaf_barn_set_limits(&barn, SHEAVES, SHEAVES);
	n_trimmed = 0;
	for (given = 0; given < SHEAF_BARN_CELLS + 10; given++)
		ck_assert_int_eq(sheaf_barn_give_empty(&barn, hand[given]), 0);
	ck_assert(sheaf_barn_trim(&barn, &look, note_trimmed, &count));
	ck_assert_int_eq(sheaf_barn_give_empty(&barn, hand[given]), 0);
	/* Cells did lie still. */
	ck_assert(sheaf_barn_trim(&barn, &look, note_trimmed, &count));
	ck_assert_uint_eq(n_trimmed, SHEAF_BARN_CELLS);
	ck_assert(sheaf_barn_check(&barn));
	ck_assert(!sheaf_barn_trim(&barn, &look, note_trimmed, &count));
	ck_assert_uint_eq(n_trimmed, SHEAF_BARN_CELLS + 11);
	ck_assert_int_eq(sheaf_barn_fini(&barn), 0);
}
END_TEST

START_TEST(check_sees_damage)
{
	struct sheaf *sheaf = hand[1];

	sheaf_push(sheaf, (void *)1);
	step_keep(sheaf);
	compare();
	sheaf->size = 0;
	ck_assert(!sheaf_barn_check(&barn));
	sheaf->size = 1;
	ck_assert(sheaf_barn_check(&barn));
	barn.full.filled = 0;
	ck_assert(!sheaf_barn_check(&barn));
	barn.full.filled = 3;
	ck_assert(!sheaf_barn_check(&barn));
	barn.full.filled = 1;
	barn.full.chain_gives++;
	ck_assert(!sheaf_barn_check(&barn));
	barn.full.chain_gives--;
	barn.full.cells[0].objects++;
	ck_assert(!sheaf_barn_check(&barn));
	barn.full.cells[0].objects--;
	barn.full.chain_objects = 1;
	ck_assert(!sheaf_barn_check(&barn));
	barn.full.chain_objects = 0;
	set_limits(SHEAVES, SHEAVES);
	while (in_hand)
		step_give(hand[in_hand - 1], false);
	compare();
	sheaf = barn.empty.chain;
	sheaf->size = 1;
	ck_assert(!sheaf_barn_check(&barn));
	sheaf->size = 0;
	barn.empty.chain = sheaf->link;
	ck_assert(!sheaf_barn_check(&barn));
	barn.empty.chain = sheaf;
	compare();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("barn");
	TCase *tc = tcase_create("model");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, every_operation_as_the_model, 0, 2);
	tcase_add_test(tc, newest_first_then_the_chain);
	tcase_add_test(tc, limits_are_soft_for_undo_paths);
	tcase_add_test(tc, limits_count_across_holes);
	tcase_add_test(tc, trim_hands_over_what_lay_still);
	tcase_add_test(tc, trim_empties_a_chain_that_lay_still);
	tcase_add_test(tc, check_sees_damage);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
