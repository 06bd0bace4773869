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
#include <stdlib.h>

#define SERVED_MS 5000
#define SPACING_LONG_MS 60000

static struct sheaf_gp_urcu urcu;
static struct sheaf_gp *gp = &urcu.gp;

/* Who makes the driver names it, before it is done with that: a moment that can be made as long
 * as one likes. */
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
	const struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .spacing_us = spacing_us};

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr), 0);
}

static uint64_t periods(void)
{
	struct sheaf_gp_driver_stats stats;

	sheaf_gp_urcu_stats(&urcu, &stats);
	return stats.periods;
}

static bool running(void)
{
	struct sheaf_gp_driver_stats stats;

	sheaf_gp_urcu_stats(&urcu, &stats);
	return stats.running;
}

/* Polls only: nothing here may wake the driver. */
static bool served(uint64_t ticket)
{
	uint64_t end = test_patience_ms() + SERVED_MS;

	while (!sheaf_gp_elapsed(gp, ticket)) {
		if (test_patience_ms() > end)
			return false;
		test_pause();
	}
	return true;
}

START_TEST(wrong_attributes_are_refused)
{
	struct {
		struct sheaf_gp_driver_attr attr;
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
 * While the first ticket's thread is still busy with the driver it has made, that has served
 * the ticket and sleeps; the second ticket must wake it all the same.
 */
START_TEST(ticket_while_the_driver_is_made)
{
	pthread_t thread;
	void *ok;

	begin(0);
	naming_ms = 300;
	ck_assert_int_eq(pthread_create(&thread, NULL, first_ticket, gp), 0);
	while (!periods())
		test_pause();
	test_sleep_ms(20);
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
	unsigned tries;

	/* The pause ends ... */
	begin(300000);
	ck_assert(served(sheaf_gp_ticket(gp)));
	ck_assert(served(sheaf_gp_ticket(gp)));
	sheaf_gp_urcu_fini(&urcu);
	/* ... and holds: this one lasts longer than anybody here waits ... */
	begin(SPACING_LONG_MS * 1000);
	ck_assert(served(sheaf_gp_ticket(gp)));
	ticket = sheaf_gp_ticket(gp);
	test_sleep_ms(50);
	ck_assert(!sheaf_gp_elapsed(gp, ticket));
	/* ... unless somebody is in a hurry, inside a read section or not ... */
	sheaf_gp_hurry(gp);
	ck_assert(served(ticket));
	/* ... or waits. */
	start = test_ms();
	ck_assert_int_eq(sheaf_gp_wait(gp, sheaf_gp_ticket(gp)), 0);
	ck_assert_uint_lt(test_ms() - start, SPACING_LONG_MS / 2);
	/* And the hurry is over after that. Who waits may ask once more when the period is over already: one more is
	 * hurried then. */
	tries = 3;
	do {
		ticket = sheaf_gp_ticket(gp);
		test_sleep_ms(50);
	} while (sheaf_gp_elapsed(gp, ticket) && --tries);
	ck_assert_uint_gt(tries, 0);
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

START_TEST(many_tickets_share_a_period)
{
	uint64_t tickets = 0, start, limit = test_patience_ms() + SERVED_MS;

	begin(10000);
	start = test_ms();
	for (; test_ms() < start + 200 || periods() < 2; tickets++) {
		ck_assert_uint_lt(test_patience_ms(), limit);
		sheaf_gp_ticket(gp);
	}
	ck_assert_uint_le(periods(), (test_ms() - start) / 10 + 2);
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
	uint64_t ticket, end = test_patience_ms() + SERVED_MS;
	pthread_t reader, waiter;
	pthread_attr_t attr;

	begin(0);
	inside = taken = 0;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 1 << 20);
	refuse_threads(true);
	ck_assert_int_eq(pthread_create(&reader, &attr, ticket_in_section, gp), 0);
	while (!load_acquire(&inside))
		test_pause();
	ticket = sheaf_gp_ticket(gp);
	ck_assert_int_eq(pthread_create(&waiter, &attr, wait_for, &ticket), 0);
	while (!load_acquire(&taken) && test_patience_ms() < end)
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

/* A kind of our own: periods are counted, and may be made to cost processor time. */
static uint32_t own_periods;
static uint32_t own_cost_us;

static void own_synchronize(struct sheaf_gp_driver *driver)
{
	struct timespec now;
	uint64_t start, us;

	(void)driver;
	fetch_add_relaxed(&own_periods, 1);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	start = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	do {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
		us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 - start;
	} while (us < load_relaxed(&own_cost_us));
}

static bool own_read_ongoing(struct sheaf_gp_driver *driver)
{
	(void)driver;
	return false;
}

static const struct sheaf_gp_driver_ops own_kind = {
	.name = "own",
	.synchronize = own_synchronize,
	.read_ongoing = own_read_ongoing,
};

static void own_mark(void)
{
}

static struct sheaf_gp_driver own;

static void own_begin(uint32_t share)
{
	const struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .share = share};

	own_periods = own_cost_us = 0;
	ck_assert_int_eq(sheaf_gp_driver_init(&own, &own_kind, &attr, own_mark, own_mark), 0);
}

START_TEST(kinds_of_ones_own)
{
	struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .share = 1001};
	struct sheaf_gp_driver_ops lacking = own_kind;

	ck_assert_int_eq(sheaf_gp_driver_init(&own, &own_kind, &attr, own_mark, own_mark), -EINVAL);
	ck_assert_int_eq(sheaf_gp_driver_init(&own, &own_kind, NULL, NULL, own_mark), -EINVAL);
	ck_assert_int_eq(sheaf_gp_driver_init(&own, NULL, NULL, own_mark, own_mark), -EINVAL);
	lacking.synchronize = NULL;
	ck_assert_int_eq(sheaf_gp_driver_init(&own, &lacking, NULL, own_mark, own_mark), -EINVAL);
	own_begin(0);
	for (unsigned i = 1; i < 10; i++) {
		ck_assert_int_eq(sheaf_gp_wait(&own.gp, sheaf_gp_ticket(&own.gp)), 0);
		ck_assert_uint_ge(load_relaxed(&own_periods), i);
	}
	sheaf_gp_driver_fini(&own);
}
END_TEST

/* Periods of so many ms that come one after another, without hurry. */
static uint32_t periods_in(unsigned ms)
{
	uint64_t end = test_ms() + ms;
	uint32_t before = load_relaxed(&own_periods);

	while (test_ms() < end) {
		sheaf_gp_ticket(&own.gp);
		test_sleep_ms(1);
	}
	return load_relaxed(&own_periods) - before;
}

/* Polls only, as served(). */
static bool own_served(void)
{
	uint64_t ticket = sheaf_gp_ticket(&own.gp), end = test_patience_ms() + SERVED_MS;

	while (!sheaf_gp_elapsed(&own.gp, ticket) && test_patience_ms() < end)
		test_pause();
	return sheaf_gp_elapsed(&own.gp, ticket);
}

START_TEST(what_a_period_costs_spaces_them)
{
	struct sheaf_gp_driver_stats stats;
	uint64_t ticket, start;

	/* 10 us of 1 %: one each ms. */
	own_begin(0);
	own_cost_us = 10;
	ck_assert_uint_le(periods_in(200), 220);
	sheaf_gp_driver_stats(&own, &stats);
	ck_assert_uint_ge(stats.cost_ns, 10000);
	ck_assert_uint_ge(stats.spacing_ns, 1000000);
	ck_assert_uint_le(stats.spacing_ns, 4000000);
	sheaf_gp_driver_fini(&own);

	/* However dear, each 4 ms. */
	own_begin(1);
	own_cost_us = 100;
	ck_assert_uint_le(periods_in(200), 60);
	/* Who is served twice has seen two. */
	ck_assert(own_served());
	ck_assert(own_served());
	ck_assert_uint_gt(load_relaxed(&own_periods), 1);
	sheaf_gp_driver_stats(&own, &stats);
	ck_assert_uint_eq(stats.spacing_ns, 4000000);
	/* Under pressure ten times as often. */
	ticket = sheaf_gp_ticket(&own.gp);
	for (uint64_t end = test_ms() + 200; test_ms() < end;) {
		sheaf_gp_hurry(&own.gp);
		if (sheaf_gp_elapsed(&own.gp, ticket))
			ticket = sheaf_gp_ticket(&own.gp);
	}
	ck_assert_uint_le(load_relaxed(&own_periods), 60 + 600);
	sheaf_gp_driver_fini(&own);

	/* The whole of a processor, and cheap: each 100 us at most. A period that was disturbed is dear, and
	 * forgotten after some others. */
	own_begin(1000);
	start = test_patience_ms();
	do {
		ck_assert_uint_le(periods_in(100), 1100);
		sheaf_gp_driver_stats(&own, &stats);
	} while (stats.spacing_ns != 100000 && test_patience_ms() < start + SERVED_MS);
	ck_assert_uint_eq(stats.spacing_ns, 100000);
	sheaf_gp_driver_fini(&own);
}
END_TEST

START_TEST(giving_way_ends_with_the_period)
{
	uint64_t ticket, start;

	own_begin(0);
	/* Nothing wanted: nothing to wait for. */
	start = test_ms();
	for (unsigned i = 0; i < 1000; i++)
		sheaf_gp_give_way(&own.gp);
	ck_assert_uint_eq(load_relaxed(&own_periods), 0);
	ck_assert_uint_lt(test_ms() - start, SERVED_MS);
	for (unsigned i = 0; i < 100; i++) {
		ticket = sheaf_gp_ticket(&own.gp);
		start = test_patience_ms();
		while (!sheaf_gp_elapsed(&own.gp, ticket)) {
			sheaf_gp_give_way(&own.gp);
			ck_assert_uint_lt(test_patience_ms() - start, SERVED_MS);
		}
	}
	sheaf_gp_driver_fini(&own);
}
END_TEST

struct own_task {
	struct sheaf_gp_task task;
	uint32_t runs;
	uint32_t again;
	uint64_t at_ms;
};

static void own_run(struct sheaf_gp_task *task)
{
	struct own_task *t = (struct own_task *)task;

	t->at_ms = test_ms();
	if (t->again) {
		t->again--;
		sheaf_gp_arm(&own.gp, task);
	}
	fetch_add_acq_rel(&t->runs, 1);
}

static bool has_run(struct own_task *task, uint32_t times)
{
	uint64_t end = test_patience_ms() + SERVED_MS;

	while (load_acquire(&task->runs) < times)
		if (test_patience_ms() > end)
			return false;
	return true;
}

START_TEST(tasks_run_when_due)
{
	struct own_task tasks[2] = {{{.run = own_run, .delay_ns = 20000000}, 0, 0, 0},
				    {{.run = own_run, .delay_ns = 1000000}, 0, 5, 0}};
	uint64_t start;
	uint32_t before, most;

	own_begin(0);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(sheaf_gp_attach(&own.gp, &tasks[i].task), 0);
	test_sleep_ms(5);
	ck_assert_uint_eq(load_acquire(&tasks[0].runs) + load_acquire(&tasks[1].runs), 0);
	start = test_ms();
	sheaf_gp_arm(&own.gp, &tasks[0].task);
	sheaf_gp_arm(&own.gp, &tasks[0].task);
	/* As one, unless it was due before the second. */
	most = test_ms() + 1 < start + 20 ? 1 : 2;
	sheaf_gp_arm(&own.gp, &tasks[1].task);
	ck_assert(has_run(&tasks[0], 1));
	ck_assert_uint_ge(tasks[0].at_ms + 1, start + 20);
	ck_assert(has_run(&tasks[1], 6));
	/* Not more, and no periods. */
	test_sleep_ms(50);
	ck_assert_uint_le(load_acquire(&tasks[0].runs), most);
	ck_assert_uint_eq(load_acquire(&tasks[1].runs), 6);
	ck_assert_uint_eq(load_relaxed(&own_periods), 0);
	/* Also while periods are run. */
	sheaf_gp_arm(&own.gp, &tasks[1].task);
	periods_in(20);
	ck_assert(has_run(&tasks[1], 7));
	/* None is lost, whatever the driver is about. */
	for (unsigned i = test_rounds(2000); i; i--) {
		tasks[1].task.delay_ns = i % 3 ? 0 : 20000;
		/* Its last run is over, or it is armed still. */
		before = load_acquire(&tasks[1].runs);
		sheaf_gp_arm(&own.gp, &tasks[1].task);
		ck_assert(has_run(&tasks[1], before + !(i % 3)));
		if (i % 3 == 1)
			sheaf_gp_ticket(&own.gp);
	}
	sheaf_gp_detach(&own.gp, &tasks[1].task);
	sheaf_gp_arm(&own.gp, &tasks[0].task);
	ck_assert(has_run(&tasks[0], 2));
	sheaf_gp_detach(&own.gp, &tasks[0].task);
	sheaf_gp_driver_fini(&own);
}
END_TEST

static void *wait_for_own(void *arg)
{
	return sheaf_gp_wait(&own.gp, sheaf_gp_ticket(&own.gp)) == 0 ? arg : NULL;
}

/* Armed where no thread can be made, also while one who waits runs a period: no arming counts as one that
 * somebody will run. */
START_TEST(task_armed_for_nobody)
{
	struct own_task task = {{.run = own_run}, 0, 0, 0};
	pthread_attr_t attr;
	pthread_t waiter;
	void *ok;

	own_begin(0);
	ck_assert_int_eq(sheaf_gp_attach(&own.gp, &task.task), 0);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 1 << 20);
	store_relaxed(&own_cost_us, 100000);
	refuse_threads(true);
	if (_i)
		ck_assert_int_eq(pthread_create(&waiter, &attr, wait_for_own, &own), 0);
	while (_i && !load_acquire(&own_periods))
		test_pause();
	sheaf_gp_arm(&own.gp, &task.task);
	if (_i) {
		pthread_join(waiter, &ok);
		ck_assert_ptr_nonnull(ok);
	}
	ck_assert_uint_eq(load_acquire(&task.runs), 0);
	refuse_threads(false);
	sheaf_gp_arm(&own.gp, &task.task);
	ck_assert(has_run(&task, 1));
	sheaf_gp_detach(&own.gp, &task.task);
	sheaf_gp_driver_fini(&own);
	pthread_attr_destroy(&attr);
}
END_TEST

/* Whoever makes the driver, for a ticket here: it finds what was armed before. */
START_TEST(armed_for_nobody_waits_for_the_driver)
{
	struct own_task task = {{.run = own_run}, 0, 0, 0};

	own_begin(0);
	ck_assert_int_eq(sheaf_gp_attach(&own.gp, &task.task), 0);
	refuse_threads(true);
	sheaf_gp_arm(&own.gp, &task.task);
	refuse_threads(false);
	(void)sheaf_gp_ticket(&own.gp);
	ck_assert(has_run(&task, 1));
	sheaf_gp_detach(&own.gp, &task.task);
	sheaf_gp_driver_fini(&own);
}
END_TEST

static struct {
	struct sheaf_gp_task task;
	uint32_t begun;
	uint32_t ended;
} slow_task;

static void slow_run(struct sheaf_gp_task *task)
{
	(void)task;
	store_release(&slow_task.begun, 1);
	test_sleep_ms(50);
	store_release(&slow_task.ended, 1);
}

static void *arm_slow(void *arg)
{
	sheaf_gp_arm(gp, &slow_task.task);
	return arg;
}

/* The task runs while the thread that has made the driver for it is still busy with that. */
START_TEST(detach_while_the_driver_is_made)
{
	pthread_t thread;

	begin(0);
	slow_task.task.run = slow_run;
	ck_assert_int_eq(sheaf_gp_attach(gp, &slow_task.task), 0);
	naming_ms = 300;
	ck_assert_int_eq(pthread_create(&thread, NULL, arm_slow, NULL), 0);
	while (!load_acquire(&slow_task.begun))
		test_pause();
	sheaf_gp_detach(gp, &slow_task.task);
	ck_assert(load_acquire(&slow_task.ended));
	pthread_join(thread, NULL);
	naming_ms = 0;
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

START_TEST(one_source_for_all)
{
	struct sheaf_gp *first, *second, *third;
	static struct rcu_flavor_struct other;

	ck_assert_int_eq(sheaf_gp_urcu_get(&first, NULL), -EINVAL);
	ck_assert_int_eq(sheaf_gp_urcu_get(&first, &rcu_flavor), 0);
	ck_assert_int_eq(sheaf_gp_urcu_get(&second, &rcu_flavor), 0);
	ck_assert_ptr_eq(first, second);
	other = rcu_flavor;
	ck_assert_int_eq(sheaf_gp_urcu_get(&third, &other), 0);
	ck_assert_ptr_ne(first, third);
	sheaf_gp_urcu_put(first);
	ck_assert_int_eq(sheaf_gp_wait(second, sheaf_gp_ticket(second)), 0);
	sheaf_gp_urcu_put(third);
	sheaf_gp_urcu_put(second);
	test_fail_nth(0, true);
	ck_assert_int_eq(sheaf_gp_urcu_get(&first, &rcu_flavor), -ENOMEM);
	ck_assert(test_fail_end());
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
	tcase_add_test(tc, kinds_of_ones_own);
	tcase_add_test(tc, what_a_period_costs_spaces_them);
	tcase_add_test(tc, giving_way_ends_with_the_period);
	tcase_add_test(tc, tasks_run_when_due);
	tcase_add_loop_test(tc, task_armed_for_nobody, 0, 2);
	tcase_add_test(tc, armed_for_nobody_waits_for_the_driver);
	tcase_add_test(tc, detach_while_the_driver_is_made);
	tcase_add_test(tc, one_source_for_all);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
