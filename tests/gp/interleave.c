/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the urcu source that in every interleaving of its atomic accesses, locks and
 * sleeps (of up to four threads, up to a number of preemptions, as far as the runs go) no ticket is forgotten: whoever
 * only looks, or waits, is served, be the driver awake, asleep, in between, just being
 * made, or not to be had; no ticket elapses while a section that was running when it was
 * taken goes on; no period is under way during a fork but what a reader forks in;
 * forks and periods let each other go on; and the end comes. A forgotten wake-up is a run that gets stuck. The
 * flavour is a plain one made here, which waits for the sections that it finds.
 */
#include <sheaf/gp.h>

#include <urcu/flavor.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "common.h"
#include "gp_fork.h"
#include "schedule.h"

#include <stdio.h>

static struct sheaf_gp_urcu urcu, second;
static struct sheaf_gp *gp = &urcu.gp;
/* Is the second source there as well? */
static bool two;
/* Odd inside a section. */
static unsigned section[SCHEDULE_THREADS + 1];
static __thread unsigned self = SCHEDULE_THREADS;
static unsigned done;
static unsigned errors;
static unsigned threads;
/* Under way, and all that began. */
static unsigned periods, begun;

static void plain_lock(void)
{
	schedule_point();
	section[self]++;
}

static void plain_unlock(void)
{
	schedule_point();
	section[self]++;
}

static int plain_ongoing(void)
{
	return section[self] % 2;
}

static void plain_synchronize(void)
{
	unsigned seen[SCHEDULE_THREADS];

	periods++;
	begun++;
	schedule_point();
	for (unsigned i = 0; i < SCHEDULE_THREADS; i++)
		seen[i] = section[i];
	for (unsigned i = 0; i < SCHEDULE_THREADS; i++)
		while (seen[i] % 2 && section[i] == seen[i])
			schedule_yield();
	periods--;
}

static void nothing(void)
{
}

static const struct rcu_flavor_struct plain_flavor = {
	.read_lock = plain_lock,
	.read_unlock = plain_unlock,
	.read_ongoing = plain_ongoing,
	.update_synchronize_rcu = plain_synchronize,
	.thread_offline = nothing,
	.thread_online = nothing,
};

static void begin(void)
{
	const struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .spacing_us = 1};

	sheaf_gp_urcu_init(&urcu, &plain_flavor, &attr);
	if (two)
		sheaf_gp_urcu_init(&second, &plain_flavor, &attr);
	done = errors = periods = 0;
	for (unsigned i = 0; i <= SCHEDULE_THREADS; i++)
		section[i] = 0;
}

static const char *end(void)
{
	return errors ? "elapsed too early, or a wait that failed" : NULL;
}

/* The last one to be done ends the sources, and with them the driver. */
static void finish(void)
{
	if (++done < threads)
		return;
	sheaf_gp_urcu_fini(&urcu);
	if (two)
		sheaf_gp_urcu_fini(&second);
}

static void poll(uint64_t ticket)
{
	while (!sheaf_gp_elapsed(gp, ticket))
		schedule_yield();
}

static void wait_for(uint64_t ticket)
{
	errors += sheaf_gp_wait(gp, ticket) != 0;
	errors += !sheaf_gp_elapsed(gp, ticket);
}

/* The sections that run now must be over when the ticket has elapsed. */
static void check_ticket(void (*serve)(uint64_t ticket))
{
	unsigned seen[SCHEDULE_THREADS];
	uint64_t ticket;

	for (unsigned i = 0; i < SCHEDULE_THREADS; i++)
		seen[i] = section[i];
	ticket = sheaf_gp_ticket(gp);
	serve(ticket);
	for (unsigned i = 0; i < SCHEDULE_THREADS; i++)
		errors += i != self && seen[i] % 2 && section[i] == seen[i];
}

static void run_pollers(unsigned me)
{
	self = me;
	for (unsigned i = 0; i < 2; i++)
		check_ticket(poll);
	finish();
}

static void run_waiters(unsigned me)
{
	self = me;
	for (unsigned i = 0; i < 2; i++)
		check_ticket(me ? wait_for : poll);
	finish();
}

static void run_readers(unsigned me)
{
	uint64_t ticket;

	self = me;
	if (me == 0) {
		check_ticket(poll);
		check_ticket(wait_for);
	} else {
		sheaf_gp_read_lock(gp);
		ticket = sheaf_gp_ticket(gp);
		sheaf_gp_hurry(gp);
		errors += sheaf_gp_elapsed(gp, ticket);
		sheaf_gp_read_unlock(gp);
		poll(ticket);
	}
	finish();
}

/* Nobody runs periods but who waits; a reader in between only takes a ticket. */
static void run_alone(unsigned me)
{
	self = me;
	if (me < 2) {
		check_ticket(wait_for);
	} else {
		sheaf_gp_read_lock(gp);
		sheaf_gp_ticket(gp);
		sheaf_gp_read_unlock(gp);
	}
	finish();
}

/* In the middle, threads can be had again. */
static void run_alone_for_a_while(unsigned me)
{
	self = me;
	if (me == 0) {
		sheaf_gp_ticket(gp);
		schedule_refuse_threads(false);
	}
	check_ticket(wait_for);
	finish();
}

/* What fork() does, up to the moment of it and in the parent after it. It takes a microsecond,
 * in which others get as far as they can. */
static void fork_once(bool reader)
{
	uint64_t start = clock_ns();
	uint32_t copying = 0;
	unsigned before;

	gp_fork_prepare();
	errors += !reader && periods;
	before = begun;
	futex_wait(&copying, 0, clock_ns() + 1000);
	errors += !reader && begun != before;
	gp_fork_parent();
	/* It did not have to wait until its patience was at an end. */
	errors += clock_ns() - start > 1000000000;
}

/* The fork ends though others go on asking; they are served though forks go on. */
static void run_forks(unsigned me)
{
	uint64_t ticket;

	self = me;
	ticket = sheaf_gp_ticket(gp);
	if (me == threads - 1 && threads > 1)
		check_ticket(wait_for);
	else
		do {
			fork_once(false);
		} while (!sheaf_gp_elapsed(gp, ticket));
	finish();
}

static void run_fork_in_a_section(unsigned me)
{
	self = me;
	if (me == 0) {
		sheaf_gp_read_lock(gp);
		sheaf_gp_ticket(gp);
		fork_once(true);
		sheaf_gp_read_unlock(gp);
	}
	if (me == 2)
		fork_once(false);
	else
		check_ticket(me ? wait_for : poll);
	finish();
}

static void run_forks_alone(unsigned me)
{
	self = me;
	if (me)
		check_ticket(wait_for);
	else
		fork_once(false);
	finish();
}

/* The gate is for all sources: one finds another one's period waiting there. */
static void run_forks_of_two_sources(unsigned me)
{
	struct sheaf_gp *mine = me == 1 ? &urcu.gp : &second.gp;

	self = me;
	if (me)
		errors += sheaf_gp_wait(mine, sheaf_gp_ticket(mine)) != 0;
	else
		fork_once(false);
	finish();
}

static const struct interleaving {
	const char *name;
	unsigned threads;
	bool refuse;
	/* With so many preemptions all decisions are tried; -1: there are too many without any, because who looks
	 * or waits gives way as often as it likes. */
	int whole;
	void (*run)(unsigned me);
} interleavings[] = {
	{"one looks", 1, false, 2, run_pollers},
	{"two look", 2, false, 0, run_pollers},
	{"three look", 3, false, -1, run_pollers},
	{"one looks, one waits", 2, false, 0, run_waiters},
	{"one looks, two wait", 3, false, -1, run_waiters},
	{"a reader", 2, false, 0, run_readers},
	{"two readers", 3, false, -1, run_readers},
	{"without a driver", 2, true, 2, run_alone},
	{"without a driver, a reader", 3, true, 1, run_alone},
	{"without a driver at first", 2, true, 1, run_alone_for_a_while},
	{"a fork", 1, false, 2, run_forks},
	{"a fork, one waits", 2, false, 1, run_forks},
	{"two forks, one waits", 3, false, 0, run_forks},
	{"a fork in a section", 2, false, 1, run_fork_in_a_section},
	{"two forks, one in a section", 3, false, 0, run_fork_in_a_section},
	{"a fork without a driver", 3, true, 1, run_forks_alone},
	{"a fork, two sources without a driver", 3, true, 1, run_forks_of_two_sources},
};

#define INTERLEAVINGS (sizeof(interleavings) / sizeof(interleavings[0]))

static bool refuse;

static void begin_refused(void)
{
	schedule_refuse_threads(refuse);
	begin();
}

START_TEST(no_ticket_forgotten_none_early)
{
	const struct interleaving *i = &interleavings[_i];
	struct schedule schedule = {
		.threads = i->threads,
		.begin = begin_refused,
		.run = i->run,
		.end = end,
		.preemptions = 2 + test_full(),
		.runs = test_rounds(3000),
	};
	struct schedule_result result;

	threads = i->threads;
	refuse = i->refuse;
	two = i->run == run_forks_of_two_sources;
	schedule_deepen(&schedule, i->whole, i->name);
	schedule.preemptions = 20;
	schedule.seed = test_seed();
	result = schedule_run(&schedule);
	ck_assert_msg(!result.error, "%s: %s, run %u", i->name, result.error, result.runs);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("interleave");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, no_ticket_forgotten_none_early, 0, INTERLEAVINGS);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
