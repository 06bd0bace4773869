/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the urcu source over a flavour (the one this program is built for) that a child
 * of a program with threads goes on with it: tickets of before and after the fork elapse,
 * waits end, whatever the driver was about at that moment (not there, being made, asleep,
 * in a period), whatever other threads were about (tickets, waits, periods of
 * their own where no driver can be had), and whether liburcu's hooks are called round the
 * fork or by handlers before or after ours; that the parent goes on; that a fork inside a
 * read section does not hang and its child is told; and that readers who vanish outside
 * sections do no harm.
 */
#include FLAVOR_HEADER

#include <sheaf/gp.h>

#include "base/atomic.h"
#include "child.h"
#include "common.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define SERVED_MS 15000
#define READER_MS 60

#ifdef FLAVOR_BP
#define BP 1
#else
#define BP 0
#endif
#ifdef FLAVOR_QSBR
#define QSBR 1
#else
#define QSBR 0
#endif

static struct sheaf_gp_urcu urcu;
static struct sheaf_gp *gp = &urcu.gp;

/* Who makes the driver names it, before it is done with that. */
static unsigned naming_ms;

int pthread_setname_np(pthread_t thread, const char *name)
{
	(void)thread;
	(void)name;
	test_sleep_ms(naming_ms);
	return 0;
}

/* A new thread begins that much later than it is known to be there. */
static unsigned starting_ms;

struct late {
	void *(*fn)(void *arg);
	void *arg;
};

static void *begin_late(void *arg)
{
	struct late late = *(struct late *)arg;

	free(arg);
	test_sleep_ms(starting_ms);
	return late.fn(late.arg);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	struct late *late;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	if (!starting_ms)
		return real(thread, attr, fn, arg);
	late = malloc(sizeof(*late));
	if (!late)
		return EAGAIN;
	*late = (struct late){fn, arg};
	return real(thread, attr, begin_late, late);
}

/*
 * liburcu's hooks, and who calls them. In handlers that were registered before ours they
 * run between ours and the fork, in those registered after, outside of ours.
 */
enum hooks { NONE, DIRECT, BETWEEN, OUTSIDE, HOOKS };

/* bp does not do without. */
#define HOOKS_FIRST (BP ? DIRECT : NONE)

static enum hooks hooks;

static void hooks_before(void)
{
	call_rcu_before_fork();
#ifdef FLAVOR_BP
	urcu_bp_before_fork();
#endif
}

static void hooks_parent(void)
{
#ifdef FLAVOR_BP
	urcu_bp_after_fork_parent();
#endif
	call_rcu_after_fork_parent();
}

static void hooks_child(void)
{
#ifdef FLAVOR_BP
	urcu_bp_after_fork_child();
#endif
	call_rcu_after_fork_child();
}

#define HANDLERS(name, when)                                                                       \
	static void name##_before(void)                                                            \
	{                                                                                          \
		if (hooks == (when))                                                               \
			hooks_before();                                                            \
	}                                                                                          \
	static void name##_parent(void)                                                            \
	{                                                                                          \
		if (hooks == (when))                                                               \
			hooks_parent();                                                            \
	}                                                                                          \
	static void name##_child(void)                                                             \
	{                                                                                          \
		if (hooks == (when))                                                               \
			hooks_child();                                                             \
	}

HANDLERS(between, BETWEEN)
HANDLERS(outside, OUTSIDE)

static pid_t fork_as(void)
{
	pid_t pid;

	if (hooks == DIRECT)
		hooks_before();
	pid = fork();
	if (hooks == DIRECT && pid == 0)
		hooks_child();
	else if (hooks == DIRECT)
		hooks_parent();
	return pid;
}

static struct rcu_head head;

static void called(struct rcu_head *unused)
{
	(void)unused;
}

/* A source, and a thread of liburcu's own for the hooks to care for. */
static void begin(enum hooks how, uint32_t spacing_us)
{
	const struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .spacing_us = spacing_us};

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr), 0);
	hooks = how;
	if (how != NONE) {
		call_rcu(&head, called);
		rcu_barrier();
	}
}

/* What began with the test ends well in the parent, too. */
static void end(void)
{
	ck_assert_int_eq(sheaf_gp_wait(gp, sheaf_gp_ticket(gp)), 0);
	hooks = NONE;
	sheaf_gp_urcu_fini(&urcu);
}

static bool served(uint64_t ticket)
{
	uint64_t limit = test_patience_ms() + SERVED_MS;

	while (!sheaf_gp_elapsed(gp, ticket)) {
		if (test_patience_ms() > limit)
			return false;
		test_pause();
	}
	return true;
}

/* What a child does; 0 or the number of what went wrong. */
static int use(uint64_t before)
{
	static struct sheaf_gp_urcu own;
	uint64_t ticket;

	if (!served(sheaf_gp_ticket(gp)))
		return 1;
	if (!sheaf_gp_elapsed(gp, before))
		return 2;
	for (unsigned i = 0; i < 3; i++) {
		ticket = sheaf_gp_ticket(gp);
		if (sheaf_gp_wait(gp, ticket) || !sheaf_gp_elapsed(gp, ticket))
			return 3;
	}
	sheaf_gp_urcu_fini(&urcu);
	if (sheaf_gp_urcu_init(&own, &rcu_flavor, NULL))
		return 4;
	if (sheaf_gp_wait(&own.gp, sheaf_gp_ticket(&own.gp)))
		return 5;
	sheaf_gp_urcu_fini(&own);
	return 0;
}

static int fork_and_use(uint64_t before)
{
	pid_t pid = fork_as();

	if (pid == 0)
		_exit(use(before));
	return child_end(pid);
}

/* Is a period being run? */
static bool in_period(void)
{
	uint64_t begun = load_acquire(&urcu.driver.begun) & ~UINT64_C(3);

	return begun != load_acquire(&gp->completed);
}

static void until_in_period(void)
{
	while (!in_period())
		test_pause();
}

/* For who is late it is over: then this is another fork. */
static void until_in_period_of(uint64_t ticket)
{
	while (!in_period() && !sheaf_gp_elapsed(gp, ticket))
		test_pause();
}

START_TEST(without_a_driver)
{
	begin((enum hooks)_i, 0);
	ck_assert_int_eq(fork_and_use(0), 0);
	end();
}
END_TEST

START_TEST(driver_asleep)
{
	begin((enum hooks)_i, 0);
	ck_assert(served(sheaf_gp_ticket(gp)));
	test_sleep_ms(10);
	ck_assert_int_eq(fork_and_use(0), 0);
	end();
}
END_TEST

/* The driver pauses between two periods, and a ticket is out. */
START_TEST(driver_pauses)
{
	begin((enum hooks)_i, 500000);
	ck_assert(served(sheaf_gp_ticket(gp)));
	ck_assert_int_eq(fork_and_use(sheaf_gp_ticket(gp)), 0);
	end();
}
END_TEST

/* Only somebody who waits or hurries, no ticket, makes the driver of the child. */
START_TEST(ticket_of_before)
{
	uint64_t ticket;
	pid_t pid;

	begin(HOOKS_FIRST, 500000);
	ck_assert(served(sheaf_gp_ticket(gp)));
	ticket = sheaf_gp_ticket(gp);
	pid = fork_as();
	if (pid == 0) {
		if (_i)
			sheaf_gp_hurry(gp);
		else if (sheaf_gp_wait(gp, ticket))
			_exit(1);
		_exit(served(ticket) ? 0 : 2);
	}
	ck_assert_int_eq(child_end(pid), 0);
	end();
}
END_TEST

static uint32_t inside;
static uint32_t leave;
static uint32_t stop;

/* Inside a section for a while; gone from liburcu after that, but for the thread. */
static void *read_a_while(void *arg)
{
	rcu_register_thread();
	sheaf_gp_read_lock(gp);
	store_release(&inside, 1);
	until_in_period();
	test_sleep_ms(READER_MS);
	sheaf_gp_read_unlock(gp);
	rcu_unregister_thread();
	while (!load_acquire(&stop))
		test_sleep_ms(1);
	return arg;
}

static pthread_t reader_begin(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	inside = stop = 0;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 1 << 20);
	ck_assert_int_eq(pthread_create(&thread, &attr, read_a_while, NULL), 0);
	pthread_attr_destroy(&attr);
	while (!load_acquire(&inside))
		test_pause();
	return thread;
}

static void reader_end(pthread_t thread)
{
	store_release(&stop, 1);
	pthread_join(thread, NULL);
}

START_TEST(driver_in_a_period)
{
	pthread_t reader;
	uint64_t ticket;
	pid_t pid;

	begin((enum hooks)_i, 0);
	reader = reader_begin();
	ticket = sheaf_gp_ticket(gp);
	until_in_period_of(ticket);
	pid = fork_as();
	if (pid == 0) {
		/* The fork has waited for it. */
		if (!BP && (in_period() || !sheaf_gp_elapsed(gp, ticket)))
			_exit(100);
		_exit(use(ticket));
	}
	ck_assert_int_eq(child_end(pid), 0);
	reader_end(reader);
	end();
}
END_TEST

/*
 * liburcu's hooks have run, and the driver begins a period all the same. With bp it vanishes
 * inside, and nobody may want a period after that one.
 */
START_TEST(period_after_the_hooks)
{
	uint64_t ticket;
	pid_t pid;

	begin(NONE, 0);
	ck_assert(served(sheaf_gp_ticket(gp)));
	hooks_before();
	ticket = sheaf_gp_ticket(gp);
	test_sleep_ms(10);
	pid = fork();
	if (pid == 0) {
		hooks_child();
		if (_i == 1 && sheaf_gp_wait(gp, ticket))
			_exit(100);
		/* Who only hurries and polls. */
		for (uint64_t give_up = test_patience_ms() + SERVED_MS;
		     _i == 2 && !sheaf_gp_elapsed(gp, ticket);) {
			sheaf_gp_hurry(gp);
			if (test_patience_ms() > give_up)
				_exit(101);
			test_pause();
		}
		_exit(use(ticket));
	}
	hooks_parent();
	ck_assert_int_eq(child_end(pid), 0);
	end();
}
END_TEST

static void *take_ticket(void *arg)
{
	return served(sheaf_gp_ticket(gp)) ? arg : NULL;
}

START_TEST(driver_being_made)
{
	pthread_t thread;
	void *ok;

	begin((enum hooks)_i, 0);
	naming_ms = 200;
	ck_assert_int_eq(pthread_create(&thread, NULL, take_ticket, gp), 0);
	while (!load_acquire(&urcu.driver.begun))
		test_pause();
	test_sleep_ms(20);
	naming_ms = 0;
	/* On a machine that is very busy it may be made by now: then this is another fork. */
	ck_assert_int_eq(fork_and_use(4), 0);
	pthread_join(thread, &ok);
	ck_assert_ptr_nonnull(ok);
	end();
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

static void *wait_for(void *arg)
{
	return sheaf_gp_wait(gp, *(uint64_t *)arg) == 0 ? arg : NULL;
}

/*
 * One waiter runs the period that the reader holds up, the next one has a ticket for the
 * period after it, and then has the lock but not the gate.
 */
START_TEST(waiters_without_a_driver)
{
	pthread_t reader, waiters[2];
	uint64_t tickets[2];
	pthread_attr_t attr;
	void *ok;

	begin((enum hooks)_i, 0);
	refuse_threads(true);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 1 << 20);
	reader = reader_begin();
	for (unsigned i = 0; i < 2; i++) {
		tickets[i] = sheaf_gp_ticket(gp);
		ck_assert_int_eq(pthread_create(&waiters[i], &attr, wait_for, &tickets[i]), 0);
		until_in_period_of(tickets[i]);
	}
	test_sleep_ms(10);
	/* The child's liburcu does not do without. */
	refuse_threads(false);
	ck_assert_int_eq(fork_and_use(tickets[1]), 0);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(waiters[i], &ok);
		ck_assert_ptr_nonnull(ok);
	}
	reader_end(reader);
	end();
	pthread_attr_destroy(&attr);
}
END_TEST

/* Nor can the child make one. */
START_TEST(child_without_a_driver)
{
	struct sheaf_gp_driver_stats stats;
	uint64_t ticket;
	pid_t pid;

	begin(NONE, 0);
	refuse_threads(true);
	ticket = sheaf_gp_ticket(gp);
	pid = fork();
	if (pid == 0) {
		if (sheaf_gp_wait(gp, ticket) || sheaf_gp_wait(gp, sheaf_gp_ticket(gp)))
			_exit(1);
		sheaf_gp_urcu_stats(&urcu, &stats);
		_exit(stats.running ? 2 : 0);
	}
	ck_assert_int_eq(child_end(pid), 0);
	refuse_threads(false);
	end();
}
END_TEST

/* Threads that do nothing but use the source. */
struct user {
	unsigned me;
	unsigned waits;
	unsigned errors;
};

static void *use_on(void *arg)
{
	struct user *user = arg;

	/* Once at least, however late this thread begins. */
	do {
		uint64_t ticket = sheaf_gp_ticket(gp);

		if (user->me % 2)
			sheaf_gp_hurry(gp);
		if (user->me == 2)
			user->errors += !served(ticket);
		else
			user->errors += sheaf_gp_wait(gp, ticket) || !sheaf_gp_elapsed(gp, ticket);
		user->waits++;
	} while (!load_acquire(&stop));
	return NULL;
}

#define USERS 3

static struct user users[USERS];
static pthread_t user_threads[USERS];

static void users_begin(void)
{
	stop = 0;
	for (unsigned i = 0; i < USERS; i++) {
		users[i] = (struct user){.me = i};
		ck_assert_int_eq(pthread_create(&user_threads[i], NULL, use_on, &users[i]), 0);
	}
}

static void users_end(void)
{
	store_release(&stop, 1);
	for (unsigned i = 0; i < USERS; i++) {
		pthread_join(user_threads[i], NULL);
		ck_assert_uint_eq(users[i].errors, 0);
		ck_assert_uint_gt(users[i].waits, 0);
	}
}

START_TEST(others_use_it)
{
	begin((enum hooks)_i, 1);
	users_begin();
	for (unsigned i = test_rounds(15); i; i--)
		ck_assert_int_eq(fork_and_use(sheaf_gp_ticket(gp)), 0);
	users_end();
	end();
}
END_TEST

struct forker {
	unsigned rounds;
	unsigned errors;
	int last;
};

static void *fork_on(void *arg)
{
	struct forker *forker = arg;

	for (unsigned i = forker->rounds; i; i--) {
		int err = fork_and_use(sheaf_gp_ticket(gp));

		if (err) {
			forker->errors++;
			forker->last = err;
		}
	}
	return NULL;
}

#define FORKERS 4

START_TEST(many_threads_fork)
{
	struct forker forkers[FORKERS];

	begin((enum hooks)_i, 1);
	users_begin();
	/* liburcu's hooks let a helper come round, which looks about every 10 ms. */
	for (unsigned i = 0; i < FORKERS; i++)
		forkers[i] = (struct forker){.rounds = test_rounds(_i ? 40 : 80) / FORKERS + 1};
	test_threads(FORKERS, fork_on, forkers, sizeof(forkers[0]));
	for (unsigned i = 0; i < FORKERS; i++)
		ck_assert_msg(!forkers[i].errors, "%u children, the last one with %d",
			      forkers[i].errors, forkers[i].last);
	users_end();
	end();
}
END_TEST

/* Each generation uses it, and its child has a driver to lose. */
static int generations(unsigned n)
{
	uint64_t ticket = sheaf_gp_ticket(gp);
	pid_t pid;
	int err;

	if (sheaf_gp_wait(gp, ticket))
		return 20;
	if (!n)
		return use(ticket);
	pid = fork_as();
	if (pid == 0)
		_exit(generations(n - 1));
	err = child_end(pid);
	if (err)
		return err < 256 ? err : 21;
	return sheaf_gp_wait(gp, sheaf_gp_ticket(gp)) ? 22 : 0;
}

START_TEST(grandchildren)
{
	begin((enum hooks)_i, 0);
	ck_assert_int_eq(generations(3), 0);
	end();
}
END_TEST

static uint32_t registered;

/* Registered, and in a section or not, until told. */
static void *stay(void *arg)
{
	rcu_register_thread();
#ifdef FLAVOR_QSBR
	rcu_thread_offline();
#endif
	if (arg)
		sheaf_gp_read_lock(gp);
	fetch_add_acq_rel(&registered, 1);
	while (!load_acquire(&leave))
		test_sleep_ms(1);
	if (arg)
		sheaf_gp_read_unlock(gp);
	rcu_unregister_thread();
	return NULL;
}

/* Their registrations are on their stacks, which a new thread in the child would get. */
static void vanish(bool in_section)
{
	pthread_t threads[4];

	begin(HOOKS_FIRST, 0);
	registered = leave = 0;
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, stay, in_section ? gp : NULL),
				 0);
	while (load_acquire(&registered) < 4)
		test_pause();
	ck_assert_int_eq(fork_and_use(sheaf_gp_ticket(gp)), 0);
	store_release(&leave, 1);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	end();
}

START_TEST(readers_vanish_outside_sections)
{
	vanish(false);
}
END_TEST

/* For bp the fork waits in its hook as long as a period runs: no ticket before. */
#ifdef FLAVOR_BP
static void *leave_later(void *arg)
{
	test_sleep_ms(READER_MS);
	store_release(&leave, 1);
	return arg;
}

START_TEST(readers_vanish_inside_sections)
{
	pthread_t thread, later;
	pid_t pid;

	begin(DIRECT, 0);
	registered = leave = 0;
	ck_assert_int_eq(pthread_create(&thread, NULL, stay, gp), 0);
	while (!load_acquire(&registered))
		test_pause();
	pid = fork_as();
	if (pid == 0)
		_exit(use(0));
	ck_assert_int_eq(child_end(pid), 0);
	ck_assert_int_eq(pthread_create(&later, NULL, leave_later, NULL), 0);
	pthread_join(later, NULL);
	pthread_join(thread, NULL);
	end();
}
END_TEST
#else

/* The child of a fork in the midst of a period that waits for the forking thread. */
static int use_torn(uint64_t before)
{
	static struct sheaf_gp_urcu own;
	uint64_t ticket;

	if (sheaf_gp_elapsed(gp, before))
		return 30;
	sheaf_gp_read_unlock(gp);
	ticket = sheaf_gp_ticket(gp);
	sheaf_gp_hurry(gp);
	if (sheaf_gp_wait(gp, ticket) != -EDEADLK || sheaf_gp_wait(gp, before) != -EDEADLK)
		return 31;
	if (sheaf_gp_elapsed(gp, ticket) || sheaf_gp_elapsed(gp, before))
		return 32;
	sheaf_gp_urcu_fini(&urcu);
	if (sheaf_gp_urcu_init(&own, &rcu_flavor, NULL))
		return 33;
	if (sheaf_gp_wait(&own.gp, sheaf_gp_ticket(&own.gp)) != -EDEADLK)
		return 34;
	sheaf_gp_urcu_fini(&own);
	return 0;
}

START_TEST(inside_a_section)
{
	uint64_t ticket, start;
	pid_t pid;

	begin(NONE, 0);
	ck_assert_int_eq(sheaf_gp_wait(gp, sheaf_gp_ticket(gp)), 0);
	rcu_register_thread();
	sheaf_gp_read_lock(gp);
	/* Nobody runs a period: all is well. */
	pid = fork();
	if (pid == 0) {
		sheaf_gp_read_unlock(gp);
		if (QSBR)
			rcu_unregister_thread();
		_exit(use(0));
	}
	ck_assert_int_eq(child_end(pid), 0);
	/* The driver waits for this very section. */
	ticket = sheaf_gp_ticket(gp);
	until_in_period();
	test_sleep_ms(5);
	start = test_ms();
	pid = fork();
	if (pid == 0)
		_exit(use_torn(ticket));
	/* As long as it would wait elsewhere. */
	ck_assert_uint_lt(test_ms() - start, 5000);
	ck_assert_int_eq(child_end(pid), 0);
	ck_assert(!sheaf_gp_elapsed(gp, ticket));
	sheaf_gp_read_unlock(gp);
	rcu_unregister_thread();
	ck_assert(served(ticket));
	end();
}
END_TEST
#endif

/* Sources that come and go while others fork. */
static void *come_and_go(void *arg)
{
	struct user *user = arg;

	while (!load_acquire(&stop)) {
		struct sheaf_gp_urcu own[3];

		for (unsigned i = 0; i < 3; i++)
			user->errors += sheaf_gp_urcu_init(&own[i], &rcu_flavor, NULL) != 0;
		if (user->waits++ % 4 == 0)
			user->errors += sheaf_gp_wait(&own[1].gp, sheaf_gp_ticket(&own[1].gp)) != 0;
		for (unsigned i = 0; i < 3; i++)
			sheaf_gp_urcu_fini(&own[(i + user->me) % 3]);
	}
	return NULL;
}

START_TEST(sources_come_and_go)
{
	pthread_t threads[2];

	begin(HOOKS_FIRST, 0);
	stop = 0;
	for (unsigned i = 0; i < 2; i++) {
		users[i] = (struct user){.me = i};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, &users[i]), 0);
	}
	for (unsigned i = test_rounds(15); i; i--)
		ck_assert_int_eq(fork_and_use(0), 0);
	store_release(&stop, 1);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_uint_eq(users[i].errors, 0);
	}
	end();
}
END_TEST

static uint32_t running_task;

static void run_until_told(struct sheaf_gp_task *task)
{
	(void)task;
	store_release(&running_task, 1);
	while (!load_acquire(&stop))
		test_pause();
}

/* The driver was running this task when it vanished; the child's own has not begun yet. */
static int detach_in_child(struct sheaf_gp_task *task)
{
	uint64_t ticket;

	starting_ms = 100;
	ticket = sheaf_gp_ticket(gp);
	sheaf_gp_detach(gp, task);
	starting_ms = 0;
	return served(ticket) ? use(ticket) : 40;
}

START_TEST(driver_runs_a_task)
{
	static struct sheaf_gp_task task = {.run = run_until_told, .delay_ns = 1000};
	pid_t pid;

	begin((enum hooks)_i, 0);
	store_release(&stop, 0);
	store_release(&running_task, 0);
	ck_assert_int_eq(sheaf_gp_attach(gp, &task), 0);
	sheaf_gp_arm(gp, &task);
	while (!load_acquire(&running_task))
		test_pause();
	pid = fork_as();
	if (pid == 0)
		_exit(detach_in_child(&task));
	ck_assert_int_eq(child_end(pid), 0);
	store_release(&stop, 1);
	sheaf_gp_detach(gp, &task);
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("fork-" FLAVOR_NAME);

	/* Between our handlers and the fork; then ours; then outside of them. */
	pthread_atfork(between_before, between_parent, between_child);
	if (sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL))
		return 1;
	sheaf_gp_urcu_fini(&urcu);
	pthread_atfork(outside_before, outside_parent, outside_child);
	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, without_a_driver, HOOKS_FIRST, HOOKS);
	tcase_add_loop_test(tc, driver_asleep, HOOKS_FIRST, HOOKS);
	tcase_add_loop_test(tc, driver_pauses, HOOKS_FIRST, HOOKS);
	tcase_add_loop_test(tc, ticket_of_before, 0, 2);
	tcase_add_loop_test(tc, driver_in_a_period, HOOKS_FIRST, HOOKS);
	tcase_add_loop_test(tc, period_after_the_hooks, 0, 3);
	tcase_add_loop_test(tc, driver_being_made, HOOKS_FIRST, HOOKS);
	tcase_add_loop_test(tc, waiters_without_a_driver, HOOKS_FIRST, HOOKS);
	tcase_add_test(tc, child_without_a_driver);
	tcase_add_loop_test(tc, others_use_it, HOOKS_FIRST, HOOKS);
	tcase_add_loop_test(tc, many_threads_fork, HOOKS_FIRST, HOOKS);
	tcase_add_loop_test(tc, grandchildren, HOOKS_FIRST, HOOKS);
	tcase_add_test(tc, readers_vanish_outside_sections);
#ifdef FLAVOR_BP
	tcase_add_test(tc, readers_vanish_inside_sections);
#else
	tcase_add_test(tc, inside_a_section);
#endif
	tcase_add_test(tc, sources_come_and_go);
	tcase_add_loop_test(tc, driver_runs_a_task, HOOKS_FIRST, HOOKS);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
