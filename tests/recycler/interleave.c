/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the recycler that in every interleaving of its atomic accesses (of two and three
 * threads, up to a number of preemptions, as far as the runs go) each sheaf given is taken once, after its ticket
 * and in the order of its giver; that counts and invariants are right when the threads are
 * done; that a take with nobody beside it gets what is ripe; and that a barrier has waited for every give that was
 * over when it began.
 */
#include <sheaf/recycler.h>

#include "base/atomic.h"
#include "common.h"
#include "schedule.h"

#include <stdio.h>
#include <stdlib.h>

#define SHEAVES 6

static struct sheaf_recycler recycler;
static struct sheaf_gp gp;
static uint64_t now;
static struct sheaf *sheaves[SHEAVES];
static unsigned taken[SHEAVES];
/* How many sheaves each giver has given, and the next that each taker may get of it. */
static unsigned given[SCHEDULE_THREADS];
static unsigned next_of[SCHEDULE_THREADS][2];
static unsigned errors;
/* Calls that have begun, and those that have not ended yet. */
static unsigned begun, ongoing;

static uint64_t lazy_ticket(struct sheaf_gp *source)
{
	(void)source;
	return fetch_add_acq_rel(&now, 0);
}

static void step(void)
{
	uint64_t ticket = fetch_add_acq_rel(&now, 1);

	store_release(&gp.completed, ticket);
}

static int lazy_wait(struct sheaf_gp *source, uint64_t ticket)
{
	while (!sheaf_gp_elapsed(source, ticket))
		step();
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
	gp = (struct sheaf_gp){.ops = &lazy_ops, .completed = UINT64_MAX - 1};
	now = UINT64_MAX;
	errors = begun = ongoing = 0;
	sheaf_recycler_init(&recycler, &gp, NULL);
	for (unsigned i = 0; i < SHEAVES; i++) {
		sheaves[i] = sheaf_init(malloc(sheaf_bytes(2)), 2);
		sheaves[i]->mark = (uint16_t)i;
		sheaf_push(sheaves[i], sheaves[i]);
		taken[i] = 0;
	}
	for (unsigned i = 0; i < SCHEDULE_THREADS; i++)
		given[i] = next_of[i][0] = next_of[i][1] = 0;
}

/* Sheaf number i is the (i / 2)-th of giver i % 2. */
static void give(unsigned me)
{
	unsigned i = given[me] * 2 + me;

	begun++;
	ongoing++;
	sheaf_recycler_give(&recycler, sheaves[i]);
	ongoing--;
	given[me]++;
}

/* There are sheaves, and all that are there are ripe. */
static bool all_ripe(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SHEAVES; i++) {
		if (taken[i] || i / 2 >= given[i % 2])
			continue;
		if (!sheaf_gp_not_after(sheaves[i]->ticket, gp.completed))
			return false;
		n++;
	}
	return n;
}

/* One taker gets the sheaves of one giver in order; another one may be slow to return. */
static void take(unsigned me)
{
	bool alone = !ongoing && all_ripe();
	unsigned mine = ++begun, i;
	struct sheaf *sheaf;

	ongoing++;
	sheaf = sheaf_recycler_take(&recycler);
	ongoing--;
	errors += !sheaf && alone && begun == mine;
	if (!sheaf)
		return;
	i = sheaf->mark;
	errors += taken[i]++ != 0;
	errors += !sheaf_gp_not_after(sheaf->ticket, gp.completed);
	errors += i / 2 < next_of[me][i % 2];
	next_of[me][i % 2] = i / 2 + 1;
}

static const char *end(void)
{
	struct sheaf *sheaf;
	unsigned out = 0, in = 0;
	bool right = sheaf_recycler_check(&recycler);

	step();
	while ((sheaf = sheaf_recycler_take(&recycler)) != NULL)
		taken[sheaf->mark]++;
	for (unsigned i = 0; i < SHEAVES; i++) {
		errors += taken[i] > 1;
		out += taken[i];
		free(sheaves[i]);
	}
	for (unsigned i = 0; i < SCHEDULE_THREADS; i++)
		in += given[i];
	if (!right)
		return "an invariant is broken";
	if (errors)
		return "a sheaf twice, early, out of order, or not when it is ripe";
	if (in != out)
		return "a sheaf is lost";
	return sheaf_recycler_fini(&recycler) ? "a count is wrong" : NULL;
}

static void run_give_and_take(unsigned me)
{
	if (me < 2)
		give(me);
	if (me == 1)
		step();
	take(me);
	if (me == 0)
		give(me);
	take(me);
}

static void run_takers(unsigned me)
{
	if (me == 0) {
		give(0);
		give(0);
		step();
	}
	take(me);
	take(me);
}

static void run_barrier(unsigned me)
{
	unsigned before[2];

	if (me < 2) {
		give(me);
		if (me) {
			/* Tickets differ from here on. */
			step();
			take(me);
		}
		give(me);
		return;
	}
	before[0] = given[0];
	before[1] = given[1];
	begun++;
	ongoing++;
	errors += sheaf_recycler_barrier(&recycler) != 0;
	ongoing--;
	for (unsigned g = 0; g < 2; g++)
		for (unsigned n = 0; n < before[g]; n++)
			errors += !sheaf_gp_not_after(sheaves[n * 2 + g]->ticket, gp.completed);
}

static const struct interleaving {
	const char *name;
	unsigned threads;
	void (*run)(unsigned me);
} interleavings[] = {
	{"give and take", 2, run_give_and_take},
	{"give and take: three threads", 3, run_give_and_take},
	{"takers", 2, run_takers},
	{"takers: three threads", 3, run_takers},
	{"barrier", 3, run_barrier},
};

#define INTERLEAVINGS (sizeof(interleavings) / sizeof(interleavings[0]))

START_TEST(each_sheaf_once_after_its_ticket)
{
	const struct interleaving *i = &interleavings[_i];
	struct schedule schedule = {
		.threads = i->threads,
		.begin = begin,
		.run = i->run,
		.end = end,
		.preemptions = 2 + test_full(),
		.runs = test_rounds(10000),
	};
	struct schedule_result result;

	schedule_deepen(&schedule, 1, i->name);
	schedule.preemptions = 20;
	schedule.seed = test_seed();
	result = schedule_run(&schedule);
	ck_assert_msg(!result.error, "%s: %s, run %u", i->name, result.error, result.runs);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("recycler");
	TCase *tc = tcase_create("interleave");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, each_sheaf_once_after_its_ticket, 0, INTERLEAVINGS);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
