/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the recycler that in every interleaving of its atomic accesses (of two and three
 * threads, up to a number of preemptions, as far as the runs go) gives, takes and ends of periods are linearizable to a
 * queue whose oldest sheaf can be had once its ticket has elapsed. A take beside another one may find nothing (G4).
 * Counts and invariants are right when the threads are done; and a barrier has waited for every give that was
 * over when it began. Begins with a proof that histories are told apart.
 */
#include <sheaf/recycler.h>

#include "base/atomic.h"
#include "common.h"
#include "history.h"
#include "schedule.h"

#include <stdio.h>
#include <stdlib.h>

#define SHEAVES 6

static struct sheaf_recycler recycler;
static struct sheaf_gp gp;
static uint64_t now;
static struct sheaf *sheaves[SHEAVES];
/* How many sheaves each giver has given. */
static unsigned given[SCHEDULE_THREADS];
static unsigned errors;

static struct history history;
enum { GIVE, TAKE, STEP };
/* What had elapsed at first. */
#define FIRST (UINT64_MAX - 1)

struct queue {
	/* Periods that have ended since. */
	unsigned ended;
	unsigned n;
	struct {
		unsigned char sheaf;
		/* Elapsed when so many periods have ended. */
		unsigned char after;
	} waiting[SHEAVES];
};

static void queue_begin(void *state)
{
	*(struct queue *)state = (struct queue){0};
}

static bool queue_make(void *state, const struct history_call *call)
{
	struct queue *queue = state;
	bool ripe = queue->n && queue->waiting[0].after <= queue->ended;

	if (call->kind == STEP) {
		queue->ended = (unsigned)call->result;
		return true;
	}
	if (call->kind == GIVE) {
		queue->waiting[queue->n].sheaf = (unsigned char)call->arg;
		queue->waiting[queue->n].after = (unsigned char)call->result;
		queue->n++;
		return true;
	}
	if (call->result < 0)
		return !ripe || call->beside & 1 << TAKE;
	if (!ripe || queue->waiting[0].sheaf != call->result)
		return false;
	queue->n--;
	for (unsigned i = 0; i < queue->n; i++)
		queue->waiting[i] = queue->waiting[i + 1];
	return true;
}

static const struct history_model a_queue = {sizeof(struct queue), queue_begin, queue_make};

static int since_first(uint64_t ticket)
{
	return (int)(ticket - FIRST);
}

static uint64_t lazy_ticket(struct sheaf_gp *source)
{
	(void)source;
	return fetch_add_acq_rel(&now, 0);
}

/* Others may be in between, but the end of a period is one moment. */
static void step(void)
{
	uint64_t ticket;
	unsigned began;

	schedule_point();
	ticket = fetch_add_acq_rel(&now, 1);
	schedule_point();
	began = history_begin(&history);
	if (!sheaf_gp_not_after(ticket, gp.completed))
		store_release(&gp.completed, ticket);
	history_end(&history, began, STEP, 0, since_first(gp.completed));
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
	gp = (struct sheaf_gp){.ops = &lazy_ops, .completed = FIRST};
	now = FIRST + 1;
	history = (struct history){0};
	errors = 0;
	sheaf_recycler_init(&recycler, &gp, NULL);
	for (unsigned i = 0; i < SHEAVES; i++) {
		sheaves[i] = sheaf_init(malloc(sheaf_bytes(2)), 2);
		sheaves[i]->mark = (uint16_t)i;
		sheaf_push(sheaves[i], sheaves[i]);
	}
	for (unsigned i = 0; i < SCHEDULE_THREADS; i++)
		given[i] = 0;
}

/* Sheaf number i is the (i / 2)-th of giver i % 2. */
static void give(unsigned me)
{
	unsigned i = given[me] * 2 + me, began = history_begin(&history);
	uint64_t before = now;

	sheaf_recycler_give(&recycler, sheaves[i]);
	errors += !sheaf_gp_not_after(before, sheaves[i]->ticket) ||
		  !sheaf_gp_not_after(sheaves[i]->ticket, now);
	history_end(&history, began, GIVE, (int)i, since_first(sheaves[i]->ticket));
	given[me]++;
}

static bool take(void)
{
	unsigned began = history_begin(&history);
	const struct sheaf *sheaf = sheaf_recycler_take(&recycler);

	history_end(&history, began, TAKE, 0, sheaf ? sheaf->mark : -1);
	return sheaf;
}

static const char *end(void)
{
	bool right = sheaf_recycler_check(&recycler);

	/* The last one, with nobody beside it, finds nothing. */
	step();
	while (take())
		;
	for (unsigned i = 0; i < SHEAVES; i++)
		free(sheaves[i]);
	if (!right)
		return "an invariant is broken";
	if (errors)
		return "a barrier is early, or a ticket of another moment";
	if (!history_linearizable(&history, &a_queue))
		return "a sheaf twice, lost, early, out of order, or not when it is ripe";
	return sheaf_recycler_fini(&recycler) ? "a count is wrong" : NULL;
}

static void run_give_and_take(unsigned me)
{
	if (me < 2)
		give(me);
	if (me == 1)
		step();
	take();
	if (me == 0)
		give(me);
	take();
}

static void run_takers(unsigned me)
{
	if (me == 0) {
		give(0);
		give(0);
		step();
	}
	take();
	take();
}

static void run_barrier(unsigned me)
{
	unsigned before[2];

	if (me < 2) {
		give(me);
		if (me) {
			/* Tickets differ from here on. */
			step();
			take();
		}
		give(me);
		return;
	}
	before[0] = given[0];
	before[1] = given[1];
	errors += sheaf_recycler_barrier(&recycler) != 0;
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

START_TEST(a_queue_of_tickets)
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

START_TEST(queues_are_told_apart)
{
	struct history h = {0};
	unsigned first;

	history_end(&h, history_begin(&h), GIVE, 0, 1);
	history_end(&h, history_begin(&h), GIVE, 1, 1);
	first = history_begin(&h);
	history_end(&h, history_begin(&h), STEP, 0, 1);
	ck_assert(history_linearizable(&h, &a_queue));
	/* The second one before the first, by two that take one after the other. */
	history_end(&h, first, TAKE, 0, 1);
	ck_assert(!history_linearizable(&h, &a_queue));
	history_end(&h, history_begin(&h), TAKE, 0, 0);
	ck_assert(!history_linearizable(&h, &a_queue));
	/* Beside each other: one of them was slow to return. */
	h.n = 3;
	history_end(&h, first, TAKE, 0, 1);
	history_end(&h, first, TAKE, 0, 0);
	ck_assert(history_linearizable(&h, &a_queue));
	/* Before the period has ended. */
	h = (struct history){0};
	history_end(&h, history_begin(&h), GIVE, 0, 2);
	history_end(&h, history_begin(&h), STEP, 0, 1);
	first = history_begin(&h);
	history_end(&h, first, TAKE, 0, 0);
	ck_assert(!history_linearizable(&h, &a_queue));
	/* Or beside its end. */
	history_end(&h, first, STEP, 0, 2);
	ck_assert(history_linearizable(&h, &a_queue));
	/* Ripe, and not found. */
	history_end(&h, history_begin(&h), GIVE, 1, 2);
	history_end(&h, history_begin(&h), TAKE, 0, -1);
	ck_assert(!history_linearizable(&h, &a_queue));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("recycler");
	TCase *tc = tcase_create("interleave");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, queues_are_told_apart);
	tcase_add_loop_test(tc, a_queue_of_tickets, 0, INTERLEAVINGS);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
