/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that the manual source keeps what every source has to keep when its owner
 * steps it only while no section runs, and that tickets, steps and the wrap are as
 * said to the number. Then proves the conformance test itself: sources that break one
 * promise each are caught by it.
 */
#include <sheaf/gp.h>

#include "base/atomic.h"
#include "common.h"
#include "conform.h"

#include <errno.h>
#include <sched.h>

static struct sheaf_gp_manual manual;

/* Sections of the manual source, as its owner says: holding this for reading. */
static pthread_rwlock_t sections;

static void lock(void)
{
	pthread_rwlock_rdlock(&sections);
}

static void unlock(void)
{
	pthread_rwlock_unlock(&sections);
}

static bool stop;
static bool stop_following;

static void *step_on(void *arg)
{
	while (!load_acquire(&stop)) {
		pthread_rwlock_wrlock(&sections);
		sheaf_gp_manual_step(arg);
		pthread_rwlock_unlock(&sections);
		sched_yield();
	}
	return NULL;
}

static struct conform_result run_stepped(struct sheaf_gp *gp, bool waits, unsigned ms)
{
	const struct conform conform = {.gp = gp, .lock = lock, .unlock = unlock, .waits = waits};
	struct conform_result result;
	pthread_rwlockattr_t attr;
	pthread_t stepper;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&sections, &attr);
	stop = false;
	ck_assert_int_eq(pthread_create(&stepper, NULL, step_on, &manual), 0);
	result = conform_run(&conform, ms);
	store_release(&stop, true);
	pthread_join(stepper, NULL);
	pthread_rwlock_destroy(&sections);
	ck_assert_uint_gt(result.sections, 0);
	return result;
}

START_TEST(keeps_what_a_source_has_to)
{
	struct conform_result result;

	/* Once from zero, once over the wrap. */
	sheaf_gp_manual_init(&manual, _i ? UINT64_MAX - 20 : 0);
	result = run_stepped(&manual.gp, false, test_more(300));
	ck_assert_uint_eq(conform_errors(&result), 0);
}
END_TEST

/* Tickets of one step are equal, elapse with it, and not before; in all places of the range. */
START_TEST(tickets_and_steps)
{
	static const uint64_t firsts[] = {0, 1, 1000, INT64_MAX, UINT64_MAX - 2, UINT64_MAX};

	for (unsigned i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
		struct sheaf_gp *gp = &manual.gp;
		uint64_t tickets[8];

		sheaf_gp_manual_init(&manual, firsts[i]);
		for (unsigned k = 0; k < 8; k++) {
			tickets[k] = sheaf_gp_ticket(gp);
			ck_assert_uint_eq(tickets[k], firsts[i] + k);
			ck_assert_uint_eq(sheaf_gp_ticket(gp), tickets[k]);
			ck_assert(!sheaf_gp_elapsed(gp, tickets[k]));
			ck_assert_int_eq(sheaf_gp_wait(gp, tickets[k]), -EDEADLK);
			sheaf_gp_hurry(gp);
			ck_assert(!sheaf_gp_elapsed(gp, tickets[k]));
			sheaf_gp_manual_step(&manual);
			for (unsigned n = 0; n <= k; n++) {
				ck_assert(sheaf_gp_elapsed(gp, tickets[n]));
				ck_assert_int_eq(sheaf_gp_wait(gp, tickets[n]), 0);
				ck_assert(sheaf_gp_not_after(tickets[n], tickets[k]));
				ck_assert_int_eq(sheaf_gp_not_after(tickets[k], tickets[n]),
						 n == k);
			}
		}
		sheaf_gp_read_lock(gp);
		ck_assert(!sheaf_gp_read_ongoing(gp));
		sheaf_gp_read_unlock(gp);
	}
}
END_TEST

START_TEST(order_of_tickets_wraps)
{
	ck_assert(sheaf_gp_not_after(0, 0));
	ck_assert(sheaf_gp_not_after(UINT64_MAX, 0));
	ck_assert(!sheaf_gp_not_after(0, UINT64_MAX));
	ck_assert(sheaf_gp_not_after(UINT64_MAX - 100, 100));
	ck_assert(sheaf_gp_not_after(5, 5 + (uint64_t)INT64_MAX));
	ck_assert(!sheaf_gp_not_after(5, 6 + (uint64_t)INT64_MAX));
}
END_TEST

/*
 * Sources that break a promise. Each is the manual source but for one operation.
 */
static struct sheaf_gp broken;

static uint64_t broken_ticket(struct sheaf_gp *gp)
{
	(void)gp;
	return sheaf_gp_ticket(&manual.gp);
}

static uint64_t broken_ticket_of_the_past(struct sheaf_gp *gp)
{
	return broken_ticket(gp) - 1;
}

static uint64_t broken_ticket_back_and_forth(struct sheaf_gp *gp)
{
	static __thread unsigned n;

	return broken_ticket(gp) + (++n % 16 ? 0 : 50);
}

static int broken_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	while (!sheaf_gp_elapsed(gp, ticket))
		test_pause();
	return 0;
}

static int broken_wait_that_does_not(struct sheaf_gp *gp, uint64_t ticket)
{
	(void)gp;
	(void)ticket;
	return 0;
}

static bool broken_read_ongoing(struct sheaf_gp *gp)
{
	(void)gp;
	return false;
}

/* Copies what the manual source has completed, with an error. */
static void *follow(void *arg)
{
	const int64_t *error = arg;

	while (!load_acquire(&stop_following)) {
		uint64_t completed = load_acquire(&manual.gp.completed);

		store_release(&broken.completed, completed + (uint64_t)*error);
		if (*error < 0) {
			/* For a while wrong, for a while right. */
			test_sleep_ms(1);
			store_release(&broken.completed, completed);
			test_sleep_ms(1);
		}
	}
	return NULL;
}

static struct conform_result run_broken(const struct sheaf_gp_ops *ops, int64_t error)
{
	struct conform_result result;
	pthread_t follower;

	sheaf_gp_manual_init(&manual, 1000000);
	broken = (struct sheaf_gp){.ops = ops, .completed = manual.gp.completed};
	stop_following = false;
	ck_assert_int_eq(pthread_create(&follower, NULL, follow, &error), 0);
	result = run_stepped(&broken, true, 300);
	store_release(&stop_following, true);
	pthread_join(follower, NULL);
	return result;
}

static const struct sheaf_gp_ops right_ops = {
	.name = "right",
	.ticket = broken_ticket,
	.wait = broken_wait,
	.read_ongoing = broken_read_ongoing,
};

START_TEST(conformance_passes_the_unbroken)
{
	struct conform_result result = run_broken(&right_ops, 0);

	ck_assert_uint_eq(conform_errors(&result), 0);
}
END_TEST

/* On a machine that is busy elsewhere, readers may not meet the fault in one run. */
#define RUN_UNTIL(caught, ops, error)                                                              \
	do {                                                                                       \
		unsigned run = 0;                                                                  \
		do                                                                                 \
			result = run_broken(ops, error);                                           \
		while (!(caught) && ++run < 30);                                                   \
		ck_assert(caught);                                                                 \
	} while (0)

START_TEST(conformance_catches_early_elapse)
{
	struct conform_result result;

	RUN_UNTIL(result.early, &right_ops, 1);
}
END_TEST

START_TEST(conformance_catches_old_tickets)
{
	struct sheaf_gp_ops ops = right_ops;
	struct conform_result result;

	ops.ticket = broken_ticket_of_the_past;
	RUN_UNTIL(result.early, &ops, 0);
}
END_TEST

START_TEST(conformance_catches_backward_tickets)
{
	struct sheaf_gp_ops ops = right_ops;
	struct conform_result result;

	ops.ticket = broken_ticket_back_and_forth;
	RUN_UNTIL(result.backwards, &ops, 0);
}
END_TEST

START_TEST(conformance_catches_a_relapse)
{
	struct conform_result result;

	RUN_UNTIL(result.unstable + result.unwaited, &right_ops, -1000);
}
END_TEST

START_TEST(conformance_catches_wait_that_does_not)
{
	struct sheaf_gp_ops ops = right_ops;
	struct conform_result result;

	ops.wait = broken_wait_that_does_not;
	RUN_UNTIL(result.unwaited, &ops, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("manual");

	tcase_add_loop_test(tc, keeps_what_a_source_has_to, 0, 2);
	tcase_add_test(tc, tickets_and_steps);
	tcase_add_test(tc, order_of_tickets_wraps);
	tcase_add_test(tc, conformance_passes_the_unbroken);
	tcase_add_test(tc, conformance_catches_early_elapse);
	tcase_add_test(tc, conformance_catches_old_tickets);
	tcase_add_test(tc, conformance_catches_backward_tickets);
	tcase_add_test(tc, conformance_catches_a_relapse);
	tcase_add_test(tc, conformance_catches_wait_that_does_not);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
