/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the barn that in every interleaving of its atomic accesses (of two and three
 * threads, up to a number of preemptions, as far as the runs go) its calls are linearizable to two bags of
 * sheaves, one of the full and one of the empty, and all invariants hold when the threads are done: takes against
 * takes, gives against takes, sheaves that are freed and made anew in between, trims, and the chain. A take from a
 * bag that holds something gets it; where there is a chain, unless another take from that bag was under way
 * meanwhile (G8). A trade is a
 * take and a give, and a trim some takes, each at its own moment of the call. What is
 * counted is right as well: gives one by one, and a peak that is never above what there is. Begins
 * with proofs that the scheduler finds what it is for (a lost update, and a dead end), and that histories are told
 * apart.
 */
#include <sheaf/barn.h>

#include "base/atomic.h"
#include "common.h"
#include "history.h"
#include "schedule.h"

#include <stdio.h>
#include <stdlib.h>

#define SHEAVES 12

static struct sheaf_barn barn;
/* Sheaves by the number in their mark: the full ones come first. */
static unsigned known, known_full;
/* Gives of both sides, as the barn must have counted them. */
static uint64_t given;
static unsigned errors;
static unsigned depth;

static struct history history;
enum { KEEP_EMPTY, KEEP_FULL, TAKE_EMPTY, TAKE_FULL };

/* A bit for each sheaf in the barn: those without objects, those with. */
struct bags {
	uint32_t held[2];
};

static struct bags bags_first;
/* There is a chain, which a taker may have in its hands (G8). */
static bool chains;

static void bags_begin(void *state)
{
	*(struct bags *)state = bags_first;
}

static bool bags_make(void *state, const struct history_call *call)
{
	struct bags *bags = state;
	bool full = call->kind == KEEP_FULL || call->kind == TAKE_FULL;
	bool keeps = call->kind == KEEP_EMPTY || call->kind == KEEP_FULL;
	int number = keeps ? call->arg : call->result;
	uint32_t *held = &bags->held[full], sheaf;

	if (number < 0)
		return !*held ||
		       (chains && call->beside & (full ? 1 << TAKE_FULL : 1 << TAKE_EMPTY));
	if (number >= SHEAVES)
		return false;
	sheaf = UINT32_C(1) << number;
	if (!(*held & sheaf) != keeps)
		return false;
	*held ^= sheaf;
	return true;
}

static const struct history_model bags = {sizeof(struct bags), bags_begin, bags_make};

static struct sheaf *sheaf_make(unsigned number, bool full)
{
	struct sheaf *sheaf = sheaf_init(malloc(sheaf_bytes(2)), 2);

	sheaf->mark = (uint16_t)number;
	if (full)
		sheaf_push(sheaf, sheaf);
	return sheaf;
}

static bool is_full(const struct sheaf *sheaf)
{
	return sheaf->mark < known_full;
}

static struct sheaf *note_take(unsigned began, bool full, struct sheaf *sheaf)
{
	history_end(&history, began, full ? TAKE_FULL : TAKE_EMPTY, 0, sheaf ? sheaf->mark : -1);
	errors += sheaf &&
		  (is_full(sheaf) != full || sheaf_size(sheaf) != full || !sheaf_check(sheaf));
	return sheaf;
}

static struct sheaf *take(bool full)
{
	unsigned began = history_begin(&history);

	return note_take(began, full,
			 full ? sheaf_barn_take_full(&barn) : sheaf_barn_take_empty(&barn));
}

static uint64_t gives_counted(void)
{
	struct sheaf_barn_stats stats;

	sheaf_barn_stats(&barn, &stats);
	return stats.full.gives + stats.empty.gives;
}

static void note_keep(unsigned began, bool full, int number)
{
	given++;
	history_end(&history, began, full ? KEEP_FULL : KEEP_EMPTY, number, 0);
}

/* It may be another's, or freed, when this returns. */
static void keep(struct sheaf *sheaf)
{
	bool full = is_full(sheaf);
	int number = sheaf->mark;
	unsigned began = history_begin(&history);

	sheaf_barn_keep(&barn, sheaf);
	note_keep(began, full, number);
}

/* There from the beginning. */
static void stock(bool full)
{
	bags_first.held[full] |= UINT32_C(1) << known;
	sheaf_barn_keep(&barn, sheaf_make(known++, full));
	given++;
}

static void begin_with(unsigned full, unsigned empty)
{
	history = (struct history){0};
	bags_first = (struct bags){0};
	errors = known = 0;
	chains = false;
	given = 0;
	known_full = full;
	sheaf_barn_init(&barn, 0, 100, 100);
	while (known < full + empty)
		stock(known < full);
}

static void occupy_cells(struct sheaf *sheaf)
{
	for (unsigned i = 0; i < SHEAF_BARN_CELLS; i++)
		barn.full.cells[i].sheaf = barn.empty.cells[i].sheaf = sheaf;
}

/* The threads are done, so none of these is beside anything: the last two want the bags to be empty. */
static void drop(void *arg, struct sheaf *sheaf)
{
	(void)arg;
	note_take(history_begin(&history), is_full(sheaf), sheaf);
	free(sheaf);
}

static const char *end(void)
{
	bool right = sheaf_barn_check(&barn);
	bool counted = gives_counted() == given;
	bool above = barn.full.peak > known || barn.empty.peak > known;

	sheaf_barn_drain(&barn, drop, NULL);
	note_take(history_begin(&history), false, NULL);
	note_take(history_begin(&history), true, NULL);
	if (!right)
		return "an invariant is broken";
	if (errors)
		return "a sheaf of the other side";
	if (!history_linearizable(&history, &bags))
		return "a sheaf in two places, lost, or not found";
	if (!counted)
		return "a give was not counted";
	if (above)
		return "a peak that never was";
	return sheaf_barn_fini(&barn) ? "a count is wrong" : NULL;
}

static const char *end_chained(void)
{
	occupy_cells(NULL);
	return end();
}

/* All cells look as if somebody were about to fill them: the chain is all there is. */
static void begin_chained_with(unsigned n)
{
	static struct sheaf nobody;

	begin_with(0, 0);
	chains = true;
	occupy_cells(&nobody);
	while (known < n)
		stock(false);
}

static void begin_chained(void)
{
	begin_chained_with(3);
}

/* More than a taker takes out of it at a time: the rest goes back while others push. */
static void begin_long(void)
{
	begin_chained_with(10);
}

static void begin_one(void)
{
	begin_with(1, 1);
}

static void begin_two(void)
{
	begin_with(2, 2);
}

/* Three sheaves in the chain, the cells vacant. */
static void begin_chain(void)
{
	struct sheaf *filler[SHEAF_BARN_CELLS];

	begin_with(0, 0);
	chains = true;
	for (unsigned i = 0; i < SHEAF_BARN_CELLS; i++)
		sheaf_barn_keep(&barn, sheaf_make(0, false));
	while (known < 3)
		stock(false);
	for (unsigned i = 0; i < SHEAF_BARN_CELLS; i++)
		free(filler[i] = sheaf_barn_take_empty(&barn));
	given = gives_counted();
	barn.full.peak = barn.empty.peak = 0;
}

/* The same, and one in the hand of thread 1. */
static struct sheaf *in_hand;

static void begin_chain_giver(void)
{
	begin_chain();
	in_hand = sheaf_make(known++, false);
}

static struct sheaf_barn_look look;

static void begin_trim(void)
{
	begin_with(2, 2);
	look = (struct sheaf_barn_look){0};
	sheaf_barn_trim(&barn, &look, drop, NULL);
}

static void begin_trim_chain(void)
{
	begin_chain();
	look = (struct sheaf_barn_look){0};
	sheaf_barn_trim(&barn, &look, drop, NULL);
}

static void run_take_and_keep(unsigned me)
{
	(void)me;
	for (unsigned i = 0; i < depth; i++) {
		struct sheaf *sheaf = take(true);

		if (sheaf)
			keep(sheaf);
	}
}

static void run_trades(unsigned me)
{
	struct sheaf *sheaf = take(me % 2), *other;

	for (unsigned i = 0; sheaf && i < depth; i++) {
		bool full = is_full(sheaf);
		int number = sheaf->mark;
		unsigned began = history_begin(&history);

		other = full ? sheaf_barn_trade_full(&barn, sheaf)
			     : sheaf_barn_trade_empty(&barn, sheaf);
		note_take(began, !full, other);
		if (!other)
			continue;
		note_keep(began, full, number);
		sheaf = other;
	}
	if (sheaf)
		keep(sheaf);
}

/* What the trimming one of the threads got; it gives it back afterwards. */
static struct sheaf *trimmed[SHEAVES];
static unsigned n_trimmed;

static void note_trimmed(void *arg, struct sheaf *sheaf)
{
	trimmed[n_trimmed++] = note_take(*(unsigned *)arg, is_full(sheaf), sheaf);
}

/* The memory of a taken sheaf is gone when the next one is given, perhaps at its address. */
static void run_fresh(unsigned me)
{
	(void)me;
	for (unsigned i = 0; i < depth; i++) {
		struct sheaf *sheaf = take(false);
		unsigned number;

		if (!sheaf)
			continue;
		number = sheaf->mark;
		sheaf->mark = SHEAVES - 1;
		free(sheaf);
		keep(sheaf_make(number, false));
	}
}

static void run_trim(unsigned me)
{
	if (me) {
		known_full ? run_take_and_keep(me) : run_fresh(me);
		return;
	}
	for (unsigned i = 0; i < depth; i++) {
		unsigned began = history_begin(&history);

		n_trimmed = 0;
		sheaf_barn_trim(&barn, &look, note_trimmed, &began);
		while (n_trimmed)
			keep(trimmed[--n_trimmed]);
	}
}

static void run_giver(unsigned me)
{
	if (me == 1)
		keep(in_hand);
	else
		run_fresh(me);
}

/*
 * Two out, and the first one in again: it is at the head of the chain as before, and the one behind it is not. That
 * one comes back when all is over, so that who was interrupted goes on here.
 */
static struct sheaf *kept_out;

static void begin_out_out_in(void)
{
	begin_chained();
	kept_out = NULL;
}

static void run_out_out_in(unsigned me)
{
	struct sheaf *first = take(false);

	if (me)
		kept_out = take(false);
	if (first)
		keep(first);
}

static const char *end_out_out_in(void)
{
	const struct sheaf *sheaf = barn.empty.chain;

	for (unsigned i = 0; sheaf && i < known; i++, sheaf = sheaf->link)
		if (sheaf == kept_out)
			return "a sheaf in a hand and in the chain";
	if (kept_out)
		keep(kept_out);
	return end_chained();
}

static const struct interleaving {
	const char *name;
	unsigned threads;
	unsigned depth;
	unsigned preemptions;
	void (*begin)(void);
	void (*run)(unsigned me);
	const char *(*end)(void);
} interleavings[] = {
	{"take, keep: one", 2, 2, 2, begin_one, run_take_and_keep, end},
	{"take, keep: two", 2, 2, 2, begin_two, run_take_and_keep, end},
	{"take, keep: three threads", 3, 1, 2, begin_two, run_take_and_keep, end},
	{"trades", 2, 2, 2, begin_two, run_trades, end},
	{"trades: three threads", 3, 1, 2, begin_two, run_trades, end},
	{"fresh", 2, 2, 2, begin_two, run_fresh, end},
	{"chain", 2, 2, 2, begin_chain, run_fresh, end},
	{"chain only", 2, 2, 2, begin_chained, run_fresh, end_chained},
	{"chain only: three threads", 3, 1, 2, begin_chained, run_fresh, end_chained},
	{"chain only, out and in", 2, 1, 2, begin_out_out_in, run_out_out_in, end_out_out_in},
	{"trim", 2, 2, 2, begin_trim, run_trim, end},
	{"trim: three threads", 3, 1, 2, begin_trim, run_trim, end},
	{"trim: chain", 2, 2, 2, begin_trim_chain, run_trim, end},
	{"chain: three threads", 3, 1, 2, begin_chain, run_fresh, end},
	{"chain, a giver", 2, 1, 2, begin_chain_giver, run_giver, end},
	{"chain only, long", 2, 1, 2, begin_long, run_fresh, end_chained},
	{"chain only, long: three threads", 3, 1, 1, begin_long, run_fresh, end_chained},
};

#define INTERLEAVINGS (sizeof(interleavings) / sizeof(interleavings[0]))

START_TEST(two_bags)
{
	const struct interleaving *i = &interleavings[_i];
	struct schedule schedule = {
		.threads = i->threads,
		.begin = i->begin,
		.run = i->run,
		.end = i->end,
		.preemptions = i->preemptions + test_full(),
		.runs = test_rounds(10000),
	};
	struct schedule_result result;

	depth = i->depth;
	result = schedule_deepen(&schedule, (int)i->preemptions - 1, i->name);
	/* What was not tried in turn, a part of it by chance. */
	if (result.complete)
		return;
	schedule.preemptions = 20;
	schedule.seed = test_seed();
	result = schedule_run(&schedule);
	ck_assert_msg(!result.error, "%s: %s, run %u", i->name, result.error, result.runs);
}
END_TEST

/*
 * The scheduler itself.
 */
static unsigned counter;

static void begin_counter(void)
{
	counter = 0;
}

static void run_lost_update(unsigned me)
{
	unsigned old;

	(void)me;
	schedule_point();
	old = counter;
	schedule_point();
	counter = old + 1;
}

static const char *end_counter(void)
{
	return counter == 2 ? NULL : "lost";
}

static pthread_mutex_t locks[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};

static void run_dead_end(unsigned me)
{
	schedule_lock(&locks[me]);
	schedule_lock(&locks[!me]);
	counter++;
	schedule_unlock(&locks[!me]);
	schedule_unlock(&locks[me]);
}

static void run_wait_for_ever(unsigned me)
{
	counter++;
	while (me && counter < 3)
		schedule_yield();
}

START_TEST(scheduler_finds_what_it_is_for)
{
	struct schedule schedule = {
		.threads = 2,
		.begin = begin_counter,
		.run = run_lost_update,
		.end = end_counter,
		.runs = 1000,
	};
	struct schedule_result result = schedule_run(&schedule);

	/* Without a preemption nothing happens, and there are only two ways. */
	ck_assert_ptr_null(result.error);
	ck_assert(result.complete);
	ck_assert_uint_eq(result.runs, 2);
	schedule.preemptions = 1;
	result = schedule_run(&schedule);
	ck_assert_str_eq(result.error, "lost");
	schedule.seed = 1;
	result = schedule_run(&schedule);
	ck_assert_str_eq(result.error, "lost");
	/* A checker of leaks would report the threads that are stuck. */
	if (test_slow())
		return;
	schedule.seed = 0;
	schedule.run = run_dead_end;
	result = schedule_run(&schedule);
	ck_assert_str_eq(result.error, "stuck");
	schedule.run = run_wait_for_ever;
	result = schedule_run(&schedule);
	ck_assert_str_eq(result.error, "stuck");
}
END_TEST

/*
 * Histories themselves: of two threads, by the moments of beginning and end.
 */
START_TEST(histories_are_told_apart)
{
	struct history h = {0};
	unsigned first, second;

	bags_first = (struct bags){.held = {0, 2}};
	chains = true;
	/* Nothing found, where a sheaf has been all the time: only beside another take from that bag, and a chain. */
	history_end(&h, history_begin(&h), TAKE_FULL, 0, -1);
	ck_assert(!history_linearizable(&h, &bags));
	h = (struct history){0};
	first = history_begin(&h);
	second = history_begin(&h);
	history_end(&h, first, TAKE_FULL, 0, -1);
	history_end(&h, second, TAKE_EMPTY, 0, -1);
	ck_assert(!history_linearizable(&h, &bags));
	history_end(&h, second, TAKE_FULL, 0, 1);
	ck_assert(history_linearizable(&h, &bags));
	chains = false;
	h.calls[0].ended = second;
	h.calls[2].began = h.calls[1].ended;
	ck_assert(!history_linearizable(&h, &bags));
	h.calls[0].ended = h.clock + 1;
	ck_assert(history_linearizable(&h, &bags));
	/* One sheaf twice. */
	history_end(&h, first, TAKE_FULL, 0, 1);
	ck_assert(!history_linearizable(&h, &bags));
	/* Unless it was given in between: not after both, but beside the later one, which is noted before. */
	history_end(&h, history_begin(&h), KEEP_FULL, 1, 0);
	ck_assert(!history_linearizable(&h, &bags));
	h = (struct history){0};
	history_end(&h, history_begin(&h), TAKE_FULL, 0, 1);
	first = history_begin(&h);
	second = history_begin(&h);
	history_end(&h, first, TAKE_FULL, 0, 1);
	history_end(&h, second, KEEP_FULL, 1, 0);
	ck_assert(history_linearizable(&h, &bags));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("barn");
	TCase *tc = tcase_create("interleave");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, scheduler_finds_what_it_is_for);
	tcase_add_test(tc, histories_are_told_apart);
	tcase_add_loop_test(tc, two_bags, 0, INTERLEAVINGS);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
