/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the poll source, over a double of a flavour that has polled grace periods: it
 * begins a period exactly when one is wanted and none is out, looks exactly when it is asked to,
 * calls liburcu online only, and leaves it alone while a fork goes on, so that a child finds
 * liburcu's lock free (or is told that it does not); it keeps what every source has to keep, also where its numbers wrap; and
 * over a flavour that says yes too early it does not.
 */
#include <sheaf/gp.h>

#include <urcu/flavor.h>

#include "base/atomic.h"
#include "child.h"
#include "common.h"
#include "conform.h"
#include "gp_calls.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct sheaf_gp_poll polled;
static struct sheaf_gp *gp = &polled.gp;

/*
 * A flavour that does as it is told: periods up to `passed` have passed. One thread.
 */
static struct {
	unsigned long started;
	unsigned long passed;
	unsigned looks;
	/* Passes by itself at this look. */
	unsigned pass_at;
	/* qsbr: a reader unless offline, and whether it was called so. */
	bool reader;
	bool offline;
	unsigned offlines;
	unsigned errors;
	/* Inside a section of another flavour's kind. */
	bool section;
} told;

static struct urcu_gp_poll_state told_start(void)
{
	told.errors += told.offline;
	return (struct urcu_gp_poll_state){++told.started};
}

static bool told_poll(struct urcu_gp_poll_state state)
{
	told.errors += told.offline || state.grace_period_id != told.started;
	if (++told.looks == told.pass_at)
		told.passed = told.started;
	return state.grace_period_id <= told.passed;
}

static int told_ongoing(void)
{
	return told.section || (told.reader && !told.offline);
}

static void told_offline(void)
{
	told.offline = told.reader;
	told.offlines++;
}

static void told_online(void)
{
	told.offline = false;
}

static void nothing(void)
{
}

static const struct rcu_flavor_struct told_flavor = {
	.read_lock = nothing,
	.read_unlock = nothing,
	.read_ongoing = told_ongoing,
	.thread_offline = told_offline,
	.thread_online = told_online,
	.update_start_poll_synchronize_rcu = told_start,
	.update_poll_state_synchronize_rcu = told_poll,
};

static void begin_told(void)
{
	memset(&told, 0, sizeof(told));
	ck_assert_int_eq(sheaf_gp_poll_init(&polled, &told_flavor), 0);
}

static void end_told(void)
{
	sheaf_gp_poll_fini(&polled);
	ck_assert_uint_eq(told.errors, 0);
}

START_TEST(wrong_arguments_are_refused)
{
	ck_assert_int_eq(sheaf_gp_poll_init(&polled, NULL), -EINVAL);
}
END_TEST

START_TEST(begins_what_is_wanted)
{
	uint64_t first, second, third;

	begin_told();
	sheaf_gp_hurry(gp);
	ck_assert_uint_eq(told.started + told.looks, 0);
	first = sheaf_gp_ticket(gp);
	ck_assert_uint_eq(told.started, 1);
	/* Not of the period that has begun. */
	second = sheaf_gp_ticket(gp);
	ck_assert(!sheaf_gp_not_after(second, first));
	ck_assert_uint_eq(sheaf_gp_ticket(gp), second);
	ck_assert_uint_eq(told.started, 1);
	ck_assert(!sheaf_gp_elapsed(gp, first));
	/* The first passes: seen by who asks for more than whether it has elapsed. */
	told.passed = 1;
	ck_assert(!sheaf_gp_elapsed(gp, first));
	sheaf_gp_hurry(gp);
	ck_assert(sheaf_gp_elapsed(gp, first));
	ck_assert(!sheaf_gp_elapsed(gp, second));
	ck_assert_uint_eq(told.started, 2);
	/* The second passes: a ticket looks, too, and its own is of the next. */
	told.passed = 2;
	third = sheaf_gp_ticket(gp);
	ck_assert(sheaf_gp_elapsed(gp, second));
	ck_assert(!sheaf_gp_elapsed(gp, third));
	ck_assert_uint_eq(told.started, 3);
	told.passed = 3;
	sheaf_gp_hurry(gp);
	ck_assert(sheaf_gp_elapsed(gp, third));
	/* Nothing wanted, nothing begun, nothing to look at. */
	told.looks = 0;
	sheaf_gp_hurry(gp);
	ck_assert_int_eq(sheaf_gp_wait(gp, third), 0);
	ck_assert_uint_eq(told.started, 3);
	ck_assert_uint_eq(told.looks, 0);
	end_told();
}
END_TEST

START_TEST(waits_by_looking)
{
	uint64_t ticket;

	begin_told();
	told.reader = true;
	sheaf_gp_ticket(gp);
	ticket = sheaf_gp_ticket(gp);
	told.pass_at = 3;
	ck_assert(sheaf_gp_read_ongoing(gp));
	/* One period passes at the third look, and the next one, ... */
	told.looks = 0;
	told.passed = 0;
	ck_assert_int_eq(sheaf_gp_wait(gp, ticket - 8), 0);
	ck_assert_uint_eq(told.looks, 3);
	ck_assert(!sheaf_gp_elapsed(gp, ticket));
	/* ... which the first has begun, as well. */
	told.looks = 0;
	ck_assert_int_eq(sheaf_gp_wait(gp, ticket), 0);
	ck_assert_uint_eq(told.looks, 3);
	ck_assert_uint_ge(told.offlines, 4);
	ck_assert(!told.offline);
	end_told();
}
END_TEST

static void wait_in_section(void *arg)
{
	told.section = true;
	sheaf_gp_wait(arg, sheaf_gp_ticket(arg));
}

START_TEST(wait_in_a_read_section_is_told)
{
	begin_told();
	ck_assert(test_dies(wait_in_section, gp, "inside a read section"));
	end_told();
}
END_TEST

START_TEST(leaves_liburcu_alone_during_a_fork)
{
	uint64_t ticket;

	begin_told();
	gp_calls_fork_prepare();
	ticket = sheaf_gp_ticket(gp);
	sheaf_gp_hurry(gp);
	ck_assert_uint_eq(told.started + told.looks, 0);
	gp_calls_fork_parent();
	ck_assert_uint_eq(told.started, 0);
	told.pass_at = 2;
	ck_assert_int_eq(sheaf_gp_wait(gp, ticket), 0);
	ck_assert_uint_eq(told.started, 1);
	end_told();
}
END_TEST

/*
 * A flavour with sections: a number for each thread, odd inside one. Read-modify-writes on it order
 * section and look, as liburcu's barriers do.
 */
#define THREADS 16

static uint32_t section[THREADS];
static uint32_t threads;
static __thread uint32_t *own;
static bool hasty;

static uint32_t *own_section(void)
{
	/* Readers of later runs take places of earlier ones. */
	if (!own)
		own = &section[fetch_add_relaxed(&threads, 1) % THREADS];
	return own;
}

static void section_turn(void)
{
	fetch_add_acq_rel(own_section(), 1);
}

static int section_ongoing(void)
{
	return own && load_relaxed(own) % 2;
}

/* As in liburcu, under a lock; and not in no time. */
static pthread_mutex_t liburcu = PTHREAD_MUTEX_INITIALIZER;
static unsigned slow_ms;
static unsigned long started;
static uint32_t seen[THREADS];

static struct urcu_gp_poll_state section_start(void)
{
	struct urcu_gp_poll_state state;

	pthread_mutex_lock(&liburcu);
	for (unsigned i = 0; i < THREADS; i++)
		seen[i] = fetch_add_acq_rel(&section[i], 0);
	state.grace_period_id = ++started;
	test_sleep_ms(slow_ms);
	pthread_mutex_unlock(&liburcu);
	return state;
}

static bool section_poll(struct urcu_gp_poll_state state)
{
	bool passed = true;

	pthread_mutex_lock(&liburcu);
	for (unsigned i = 0; i < THREADS; i++)
		if (seen[i] % 2 && load_acquire(&section[i]) == seen[i])
			passed = hasty;
	if (state.grace_period_id != started)
		passed = false;
	test_sleep_ms(slow_ms);
	pthread_mutex_unlock(&liburcu);
	return passed;
}

static const struct rcu_flavor_struct section_flavor = {
	.read_lock = section_turn,
	.read_unlock = section_turn,
	.read_ongoing = section_ongoing,
	.thread_offline = nothing,
	.thread_online = nothing,
	.update_start_poll_synchronize_rcu = section_start,
	.update_poll_state_synchronize_rcu = section_poll,
};

static struct conform_result conform_from(uint64_t first, bool broken, unsigned ms)
{
	const struct conform conform = {.gp = gp, .waits = true, .wraps = first && !broken};
	struct conform_result result;

	ck_assert_int_eq(sheaf_gp_poll_init(&polled, &section_flavor), 0);
	polled.begun = gp->completed = first;
	hasty = broken;
	slow_ms = 0;
	result = conform_run(&conform, ms);
	sheaf_gp_poll_fini(&polled);
	ck_assert_uint_gt(result.sections, 0);
	ck_assert_uint_gt(result.tickets, 0);
	return result;
}

START_TEST(keeps_what_a_source_has_to)
{
	struct conform_result result =
		conform_from(_i ? UINT64_MAX - 39 : 0, false, test_more(400));

	ck_assert_uint_eq(conform_errors(&result), 0);
	ck_assert_uint_eq(result.unaware, 0);
	if (_i)
		ck_assert_uint_lt(gp->completed, UINT64_MAX / 2);
}
END_TEST

/* On a machine that is busy elsewhere, readers may not meet the fault in one run. */
START_TEST(does_not_over_a_hasty_flavour)
{
	struct conform_result result;
	unsigned runs = 0;

	do
		result = conform_from(0, true, 300);
	while (!result.early && ++runs < 30);
	ck_assert_uint_gt(result.early, 0);
}
END_TEST

static uint32_t stop;

static void *use_on(void *arg)
{
	unsigned *errors = arg;

	while (!load_acquire(&stop)) {
		uint64_t ticket = sheaf_gp_ticket(gp);

		*errors += sheaf_gp_wait(gp, ticket) || !sheaf_gp_elapsed(gp, ticket);
	}
	return NULL;
}

/* Nobody else is inside, and nobody has liburcu's lock. */
static int use_in_child(uint64_t before)
{
	for (unsigned i = 0; i < 3; i++)
		if (sheaf_gp_wait(gp, sheaf_gp_ticket(gp)))
			return 1;
	return sheaf_gp_elapsed(gp, before) ? 0 : 2;
}

START_TEST(a_child_goes_on)
{
	unsigned errors[3] = {0};
	pthread_t users[3];

	ck_assert_int_eq(sheaf_gp_poll_init(&polled, &section_flavor), 0);
	hasty = false;
	slow_ms = 1;
	stop = 0;
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&users[i], NULL, use_on, &errors[i]), 0);
	for (unsigned i = test_rounds(40); i; i--) {
		uint64_t before = sheaf_gp_ticket(gp);
		pid_t pid = fork();

		if (pid == 0)
			_exit(use_in_child(before));
		ck_assert_int_eq(child_end(pid), 0);
	}
	store_release(&stop, 1);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(users[i], NULL);
		ck_assert_uint_eq(errors[i], 0);
	}
	slow_ms = 0;
	sheaf_gp_poll_fini(&polled);
}
END_TEST

/* As if a thread had been inside when this child was made. */
static int use_torn(void)
{
	uint64_t ticket;

	if (!gp_calls_enter(0))
		return 1;
	gp_calls_fork_child();
	ticket = sheaf_gp_ticket(gp);
	sheaf_gp_hurry(gp);
	if (told.started + told.looks)
		return 2;
	return sheaf_gp_wait(gp, ticket) == -EDEADLK ? 0 : 3;
}

START_TEST(a_torn_child_is_told)
{
	pid_t pid;

	begin_told();
	pid = fork();
	if (pid == 0)
		_exit(use_torn());
	ck_assert_int_eq(child_end(pid), 0);
	end_told();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("poll");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, wrong_arguments_are_refused);
	tcase_add_test(tc, begins_what_is_wanted);
	tcase_add_test(tc, waits_by_looking);
	tcase_add_test(tc, wait_in_a_read_section_is_told);
	tcase_add_test(tc, leaves_liburcu_alone_during_a_fork);
	tcase_add_loop_test(tc, keeps_what_a_source_has_to, 0, 2);
	tcase_add_test(tc, does_not_over_a_hasty_flavour);
	/* As for all tests of fork(): see meson.build. */
	if (!test_asan() && !test_tsan()) {
		tcase_add_test(tc, a_child_goes_on);
		tcase_add_test(tc, a_torn_child_is_told);
	}
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
