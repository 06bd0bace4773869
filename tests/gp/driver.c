/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the driver thread of the urcu source: it is made with the first ticket;
 * an idle source runs no periods; no ticket is forgotten, whatever the driver is
 * about (asleep, falling asleep, just made); it keeps its spacing and drops it when
 * hurried; without a driver (no thread can be made) nothing blocks a ticket, and waiters
 * run the periods; a wait inside a read section ends the program with a message
 * instead of for ever. "Served" means within seconds, where 100 us would do: machines
 * under load must not fail.
 */
#include <urcu/urcu-memb.h>

#include <sheaf/gp.h>

#include "base/atomic.h"
#include "common.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define SERVED_MS 5000

static struct sheaf_gp_urcu urcu;
static struct sheaf_gp *gp = &urcu.gp;

/* The driver names itself between its creation and its being known to run: a
 * moment that can be made as long as one likes. */
static unsigned naming_ms;

int pthread_setname_np(pthread_t thread, const char *name)
{
	(void)thread;
	(void)name;
	test_sleep_ms(naming_ms);
	return 0;
}

static void begin(uint32_t spacing_us)
{
	const struct sheaf_gp_urcu_attr attr = {.size = sizeof(attr), .spacing_us = spacing_us};

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr), 0);
}

static uint64_t periods(void)
{
	struct sheaf_gp_urcu_stats stats;

	sheaf_gp_urcu_stats(&urcu, &stats);
	return stats.periods;
}

static bool running(void)
{
	struct sheaf_gp_urcu_stats stats;

	sheaf_gp_urcu_stats(&urcu, &stats);
	return stats.running;
}

/* Polls only: nothing here may wake the driver. */
static bool served(uint64_t ticket)
{
	uint64_t end = test_ms() + SERVED_MS;

	while (!sheaf_gp_elapsed(gp, ticket)) {
		if (test_ms() > end)
			return false;
		sched_yield();
	}
	return true;
}

START_TEST(wrong_attributes_are_refused)
{
	struct {
		struct sheaf_gp_urcu_attr attr;
		uint64_t newer;
	} attr = {.attr = {.size = sizeof(attr)}};

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, NULL, NULL), -EINVAL);
	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr.attr), 0);
	sheaf_gp_urcu_fini(&urcu);
	attr.newer = 1;
	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr.attr), -EINVAL);
	attr.attr.size = 0;
	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr.attr), -EINVAL);
	attr.attr.size = sizeof(attr.attr) - 1;
	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr.attr), -EINVAL);
	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL), 0);
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

START_TEST(first_ticket_makes_the_driver)
{
	begin(0);
	ck_assert(!running());
	ck_assert(sheaf_gp_elapsed(gp, 0));
	ck_assert_int_eq(sheaf_gp_wait(gp, 0), 0);
	ck_assert(!running());
	ck_assert(served(sheaf_gp_ticket(gp)));
	ck_assert(running());
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

START_TEST(idle_costs_no_periods)
{
	uint64_t before;

	begin(0);
	ck_assert_int_eq(sheaf_gp_wait(gp, sheaf_gp_ticket(gp)), 0);
	before = periods();
	test_sleep_ms(200);
	ck_assert_uint_eq(periods(), before);
	/* Nor does hurry alone. */
	for (unsigned i = 0; i < 20; i++) {
		sheaf_gp_hurry(gp);
		test_sleep_ms(1);
	}
	ck_assert_uint_eq(periods(), before);
	ck_assert(served(sheaf_gp_ticket(gp)));
	ck_assert_uint_le(periods(), before + 1);
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

/* Pauses of all lengths around the time it takes to fall asleep. */
START_TEST(no_ticket_is_forgotten)
{
	uint64_t state = test_seed();

	begin(1);
	for (unsigned i = test_rounds(20000); i; i--) {
		ck_assert(served(sheaf_gp_ticket(gp)));
		for (uint64_t n = test_below(&state, 3000); n; n--)
			compiler_barrier();
		if (!test_below(&state, 200))
			test_sleep_ms(1);
	}
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

static void *first_ticket(void *arg)
{
	return served(sheaf_gp_ticket(arg)) ? arg : NULL;
}

/*
 * While the first ticket's thread still makes the driver known, the driver has served
 * that ticket and sleeps; the second ticket must wake it all the same.
 */
START_TEST(ticket_while_the_driver_is_made)
{
	pthread_t thread;
	void *ok;

	begin(0);
	naming_ms = 300;
	ck_assert_int_eq(pthread_create(&thread, NULL, first_ticket, gp), 0);
	test_sleep_ms(100);
	ck_assert(!running());
	ck_assert_uint_eq(periods(), 1);
	ck_assert(served(sheaf_gp_ticket(gp)));
	pthread_join(thread, &ok);
	ck_assert_ptr_nonnull(ok);
	naming_ms = 0;
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

START_TEST(spacing_and_hurry)
{
	uint64_t start, ticket;

	begin(300000);
	ck_assert(served(sheaf_gp_ticket(gp)));
	/* The pause holds ... */
	ticket = sheaf_gp_ticket(gp);
	test_sleep_ms(50);
	ck_assert(!sheaf_gp_elapsed(gp, ticket));
	ck_assert(served(ticket));
	/* ... unless somebody is in a hurry, inside a read section or not ... */
	start = test_ms();
	ticket = sheaf_gp_ticket(gp);
	sheaf_gp_hurry(gp);
	ck_assert(served(ticket));
	ck_assert_uint_lt(test_ms() - start, 250);
	/* ... or waits. */
	start = test_ms();
	ck_assert_int_eq(sheaf_gp_wait(gp, sheaf_gp_ticket(gp)), 0);
	ck_assert_uint_lt(test_ms() - start, 250);
	/* And the hurry is over after that. */
	ticket = sheaf_gp_ticket(gp);
	test_sleep_ms(50);
	ck_assert(!sheaf_gp_elapsed(gp, ticket));
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

START_TEST(many_tickets_share_a_period)
{
	uint64_t tickets = 0, start;

	begin(10000);
	for (start = test_ms(); test_ms() < start + 200; tickets++)
		sheaf_gp_ticket(gp);
	ck_assert_uint_ge(periods(), 2);
	ck_assert_uint_le(periods(), 22);
	ck_assert_uint_gt(tickets, 10 * periods());
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

/* No thread can be made with a stack as large as the address space. */
static void refuse_threads(bool refuse)
{
	static size_t usual;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	if (refuse)
		pthread_attr_getstacksize(&attr, &usual);
	pthread_attr_setstacksize(&attr, refuse ? (size_t)1 << 46 : usual);
	ck_assert_int_eq(pthread_setattr_default_np(&attr), 0);
	pthread_attr_destroy(&attr);
}

START_TEST(waiters_do_without_a_driver)
{
	uint64_t ticket;

	begin(0);
	refuse_threads(true);
	for (unsigned i = 0; i < 10; i++) {
		ticket = sheaf_gp_ticket(gp);
		ck_assert(!running());
		test_sleep_ms(2);
		ck_assert(!sheaf_gp_elapsed(gp, ticket));
		ck_assert_int_eq(sheaf_gp_wait(gp, ticket), 0);
		ck_assert(sheaf_gp_elapsed(gp, ticket));
	}
	ck_assert_uint_eq(periods(), 10);
	/* Once threads can be had again, the next ticket makes the driver. */
	ticket = sheaf_gp_ticket(gp);
	refuse_threads(false);
	ck_assert(served(sheaf_gp_ticket(gp)));
	ck_assert(sheaf_gp_elapsed(gp, ticket));
	ck_assert(running());
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

static void *wait_for(void *arg)
{
	return sheaf_gp_wait(gp, *(uint64_t *)arg) == 0 ? arg : NULL;
}

START_TEST(many_waiters_without_a_driver)
{
	pthread_attr_t attr;
	pthread_t threads[4];
	uint64_t tickets[4];
	void *ok;

	begin(0);
	/* The waiters' own threads are made with an attribute of theirs. */
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 1 << 20);
	refuse_threads(true);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 4; i++) {
			tickets[i] = sheaf_gp_ticket(gp);
			ck_assert_int_eq(pthread_create(&threads[i], &attr, wait_for, &tickets[i]),
					 0);
		}
		for (unsigned i = 0; i < 4; i++) {
			pthread_join(threads[i], &ok);
			ck_assert_ptr_nonnull(ok);
		}
	}
	ck_assert(!running());
	refuse_threads(false);
	sheaf_gp_urcu_fini(&urcu);
	pthread_attr_destroy(&attr);
}
END_TEST

static uint32_t inside;
static uint32_t taken;

/* Takes a ticket in the middle of a section that another thread waits for. */
static void *ticket_in_section(void *arg)
{
	rcu_register_thread();
	sheaf_gp_read_lock(arg);
	store_release(&inside, 1);
	test_sleep_ms(100);
	sheaf_gp_ticket(arg);
	store_release(&taken, 1);
	sheaf_gp_read_unlock(arg);
	rcu_unregister_thread();
	return NULL;
}

START_TEST(ticket_in_a_section_without_a_driver)
{
	uint64_t ticket, end = test_ms() + SERVED_MS;
	pthread_t reader, waiter;
	pthread_attr_t attr;

	begin(0);
	inside = taken = 0;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 1 << 20);
	refuse_threads(true);
	ck_assert_int_eq(pthread_create(&reader, &attr, ticket_in_section, gp), 0);
	while (!load_acquire(&inside))
		sched_yield();
	ticket = sheaf_gp_ticket(gp);
	ck_assert_int_eq(pthread_create(&waiter, &attr, wait_for, &ticket), 0);
	while (!load_acquire(&taken) && test_ms() < end)
		test_sleep_ms(1);
	/* Those two threads cannot be joined if this fails. */
	ck_assert(load_acquire(&taken));
	pthread_join(reader, NULL);
	pthread_join(waiter, NULL);
	refuse_threads(false);
	sheaf_gp_urcu_fini(&urcu);
	pthread_attr_destroy(&attr);
}
END_TEST

/* The end does not wait for what nobody asks for any more. */
START_TEST(end_in_any_state)
{
	begin(0);
	sheaf_gp_urcu_fini(&urcu);
	for (unsigned i = 0; i < 50; i++) {
		begin(1000000);
		sheaf_gp_ticket(gp);
		if (i % 3)
			sheaf_gp_wait(gp, sheaf_gp_ticket(gp));
		if (i % 3 == 2)
			sheaf_gp_ticket(gp);
		sheaf_gp_urcu_fini(&urcu);
	}
}
END_TEST

static void wait_in_section(void *arg)
{
	rcu_register_thread();
	sheaf_gp_read_lock(arg);
	sheaf_gp_wait(arg, sheaf_gp_ticket(arg));
}

static void wait_for_the_past_in_section(void *arg)
{
	uint64_t ticket = sheaf_gp_ticket(arg);

	sheaf_gp_wait(arg, ticket);
	rcu_register_thread();
	sheaf_gp_read_lock(arg);
	if (sheaf_gp_wait(arg, ticket) == 0)
		abort();
}

START_TEST(wait_in_a_read_section_is_told)
{
	begin(0);
	ck_assert(test_dies(wait_in_section, gp, "inside a read section"));
	/* Where there is nothing to wait for, there is nothing to tell. */
	ck_assert(!test_dies(wait_for_the_past_in_section, gp, "inside a read section"));
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("driver");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, wrong_attributes_are_refused);
	tcase_add_test(tc, first_ticket_makes_the_driver);
	tcase_add_test(tc, idle_costs_no_periods);
	tcase_add_test(tc, no_ticket_is_forgotten);
	tcase_add_test(tc, ticket_while_the_driver_is_made);
	tcase_add_test(tc, spacing_and_hurry);
	tcase_add_test(tc, many_tickets_share_a_period);
	tcase_add_test(tc, waiters_do_without_a_driver);
	tcase_add_test(tc, many_waiters_without_a_driver);
	tcase_add_test(tc, ticket_in_a_section_without_a_driver);
	tcase_add_test(tc, end_in_any_state);
	tcase_add_test(tc, wait_in_a_read_section_is_told);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
