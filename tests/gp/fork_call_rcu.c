/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the call_rcu source over a flavour (the one this program is built for) that a child
 * of a program with threads goes on with it, if liburcu's hooks are called round the fork,
 * inside of our handlers or outside of them: tickets of before and after the fork elapse, waits
 * end, sources end, although other threads were just beginning periods, each call_rcu()
 * being made to last for milliseconds; that the parent's tickets elapse whoever met a
 * fork; that a reader who meets one, whom liburcu's hook waits for, does not hang, nor does a
 * thread that liburcu does not know yet; and that a child that was made with a call inside is told.
 */
#include FLAVOR_HEADER

#include <sheaf/gp.h>

#include "base/atomic.h"
#include "child.h"
#include "common.h"
#include "gp_calls.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

#define SERVED_MS 15000
#define SOURCES 3

static struct sheaf_gp_call_rcu calls[SOURCES];

/*
 * liburcu's hooks, and who calls them: handlers that were registered before ours run between
 * ours and the fork, those registered after, outside of ours.
 */
enum hooks { NONE, DIRECT, BETWEEN, OUTSIDE, HOOKS };

static enum hooks hooks;
static uint32_t fork_goes_on;
/* A reader is there, whom the fork waits for: who vanishes while liburcu knows
 * him, or within its lock, leaves a child in which no period ends. */
static uint32_t registered;

static void hooks_before(void)
{
	store_release(&fork_goes_on, 1);
	call_rcu_before_fork();
	while (load_acquire(&registered))
		sched_yield();
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
	store_release(&fork_goes_on, 0);
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

/* The library registers its handlers in a constructor too; this one comes first. */
__attribute__((constructor(101))) static void register_before_ours(void)
{
	pthread_atfork(between_before, between_parent, between_child);
}

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

/* The flavour, with a call_rcu() in which threads of ours can be met. */
static struct rcu_flavor_struct slow;
static __thread unsigned slow_ms;

static void slow_call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	test_sleep_ms(slow_ms);
	call_rcu(head, func);
	test_sleep_ms(slow_ms);
}

static void begin(enum hooks how)
{
	slow = rcu_flavor;
	slow.update_call_rcu = slow_call_rcu;
	for (unsigned i = 0; i < SOURCES; i++)
		ck_assert_int_eq(sheaf_gp_call_rcu_init(&calls[i], &slow), 0);
	/* The first call_rcu() of a process is another matter. */
	ck_assert_int_eq(sheaf_gp_wait(&calls[0].gp, sheaf_gp_ticket(&calls[0].gp)), 0);
	hooks = how;
}

static void end(void)
{
	hooks = NONE;
	for (unsigned i = 0; i < SOURCES; i++) {
		struct sheaf_gp *gp = &calls[i].gp;

		ck_assert_int_eq(sheaf_gp_wait(gp, sheaf_gp_ticket(gp)), 0);
		sheaf_gp_call_rcu_fini(&calls[i]);
	}
}

static bool served(struct sheaf_gp *gp, uint64_t ticket)
{
	uint64_t limit = test_patience_ms() + SERVED_MS;

	while (!sheaf_gp_elapsed(gp, ticket)) {
		if (test_patience_ms() > limit)
			return false;
		test_pause();
	}
	return true;
}

/* The newest ticket that anybody may hold, whatever its taker had done about it. */
static uint64_t newest(const struct sheaf_gp_call_rcu *source)
{
	uint64_t begun = load_relaxed(&source->begun);

	return (begun & ~UINT64_C(3)) + (begun & 1) * 4;
}

/* What a child does; 0 or the number of what went wrong. One hurries, one waits, one takes a ticket. */
static int use(void)
{
	struct sheaf_gp_call_rcu own;
	unsigned i;

	for (i = 0; i < SOURCES; i++) {
		struct sheaf_gp *gp = &calls[i].gp;
		uint64_t before = newest(&calls[i]), ticket;

		if (i == 0)
			sheaf_gp_hurry(gp);
		if (i == 1 && sheaf_gp_wait(gp, before))
			return 1;
		if (i == 0 && !served(gp, before))
			return 2;
		ticket = sheaf_gp_ticket(gp);
		if (!served(gp, ticket))
			return 3;
		if (!sheaf_gp_elapsed(gp, before))
			return 4;
		if (sheaf_gp_wait(gp, sheaf_gp_ticket(gp)))
			return 5;
		sheaf_gp_call_rcu_fini(&calls[i]);
	}
	if (sheaf_gp_call_rcu_init(&own, &slow))
		return 6;
	if (sheaf_gp_wait(&own.gp, sheaf_gp_ticket(&own.gp)))
		return 7;
	sheaf_gp_call_rcu_fini(&own);
	return 0;
}

static int fork_and_use(void)
{
	pid_t pid = fork_as();

	if (pid == 0)
		_exit(use());
	return child_end(pid);
}

START_TEST(at_rest)
{
	begin((enum hooks)_i);
	ck_assert_int_eq(fork_and_use(), 0);
	end();
}
END_TEST

/* One callback is out, or is and another one is wanted. */
START_TEST(callback_out)
{
	begin((enum hooks)_i);
	for (unsigned i = 0; i < SOURCES; i++) {
		sheaf_gp_ticket(&calls[i].gp);
		if (i)
			sheaf_gp_ticket(&calls[i].gp);
	}
	ck_assert_int_eq(fork_and_use(), 0);
	end();
}
END_TEST

struct user {
	unsigned me;
	unsigned errors;
	unsigned tickets;
};

static uint32_t stop;

/* A source's periods begin anew each time, so this thread is nearly always about to begin one. */
static void *use_on(void *arg)
{
	struct user *user = arg;
	struct sheaf_gp *gp = &calls[user->me].gp;

	slow_ms = 3;
	/* Once at least, however late this thread begins. */
	do {
		uint64_t ticket = sheaf_gp_ticket(gp);

		if (user->me == 2)
			user->errors += sheaf_gp_wait(gp, ticket) != 0;
		else
			user->errors += !served(gp, ticket);
		user->tickets++;
	} while (!load_acquire(&stop));
	return NULL;
}

START_TEST(others_begin_periods)
{
	struct user users[SOURCES];
	pthread_t threads[SOURCES];

	begin((enum hooks)_i);
	stop = 0;
	for (unsigned i = 0; i < SOURCES; i++) {
		users[i] = (struct user){.me = i};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, use_on, &users[i]), 0);
	}
	for (unsigned i = test_rounds(12); i; i--)
		ck_assert_int_eq(fork_and_use(), 0);
	store_release(&stop, 1);
	for (unsigned i = 0; i < SOURCES; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_uint_eq(users[i].errors, 0);
		ck_assert_uint_gt(users[i].tickets, 0);
	}
	end();
}
END_TEST

static int generations(unsigned n)
{
	pid_t pid;
	int err;

	for (unsigned i = 0; i < SOURCES; i++)
		sheaf_gp_ticket(&calls[i].gp);
	if (!n)
		return use();
	pid = fork_as();
	if (pid == 0)
		_exit(generations(n - 1));
	err = child_end(pid);
	if (err)
		return err < 256 ? err : 21;
	return sheaf_gp_wait(&calls[0].gp, sheaf_gp_ticket(&calls[0].gp)) ? 22 : 0;
}

START_TEST(grandchildren)
{
	begin((enum hooks)_i);
	ck_assert_int_eq(generations(3), 0);
	end();
}
END_TEST

/* qsbr: online is a section, and sheaf_gp_read_unlock() ends nothing. */
static uint32_t inside;
static uint64_t tickets[2];

static void *read_and_meet_a_fork(void *arg)
{
	struct user *user = arg;

	rcu_register_thread();
	sheaf_gp_read_lock(&calls[0].gp);
	tickets[0] = sheaf_gp_ticket(&calls[0].gp);
	/* liburcu's thread waits for this section by then. */
	test_sleep_ms(50);
	store_release(&inside, 1);
	while (!load_acquire(&fork_goes_on))
		sched_yield();
	test_sleep_ms(10);
	tickets[1] = sheaf_gp_ticket(&calls[1].gp);
	user->errors += sheaf_gp_elapsed(&calls[0].gp, tickets[0]);
	sheaf_gp_read_unlock(&calls[0].gp);
	rcu_unregister_thread();
	store_release(&registered, 0);
	return NULL;
}

START_TEST(a_reader_meets_a_fork)
{
	struct user user = {0};
	pthread_t thread;
	uint64_t start;
	pid_t pid;

	begin(BETWEEN);
	inside = 0;
	registered = 1;
	ck_assert_int_eq(pthread_create(&thread, NULL, read_and_meet_a_fork, &user), 0);
	while (!load_acquire(&inside))
		sched_yield();
	start = test_ms();
	/* Its hook waits for liburcu's thread, that one for the reader, who meets this fork. */
	pid = fork_as();
	if (pid == 0)
		_exit(use());
	ck_assert_uint_lt(test_ms() - start, 4900);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(user.errors, 0);
	ck_assert_int_eq(child_end(pid), 0);
	ck_assert(served(&calls[0].gp, tickets[0]));
	sheaf_gp_hurry(&calls[1].gp);
	ck_assert(served(&calls[1].gp, tickets[1]));
	end();
}
END_TEST

static void *take_first_ticket(void *arg)
{
	struct user *user = arg;
	struct sheaf_gp *gp = &calls[0].gp;

	user->errors += sheaf_gp_wait(gp, sheaf_gp_ticket(gp)) != 0;
	return NULL;
}

/* liburcu-bp gets to know a thread by its first section, and not while its hook holds a lock. */
START_TEST(a_new_thread_meets_a_fork)
{
	struct user user = {0};
	pthread_t thread;
	uint64_t start;
	pid_t pid;

	begin(NONE);
	hooks_before();
	ck_assert_int_eq(pthread_create(&thread, NULL, take_first_ticket, &user), 0);
	test_sleep_ms(20);
	start = test_ms();
	pid = fork();
	if (pid == 0) {
		hooks_child();
		_exit(use());
	}
	hooks_parent();
	ck_assert_uint_lt(test_ms() - start, 4900);
	ck_assert_int_eq(child_end(pid), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(user.errors, 0);
	end();
}
END_TEST

#ifdef FLAVOR_MEMB
static void *stay_inside(void *arg)
{
	ck_assert(gp_calls_enter(0));
	store_release(&inside, 1);
	while (!load_acquire(&stop))
		test_sleep_ms(1);
	gp_calls_leave();
	return arg;
}

static int use_torn(void)
{
	struct sheaf_gp_call_rcu own;
	uint64_t ticket = sheaf_gp_ticket(&calls[0].gp);

	sheaf_gp_hurry(&calls[0].gp);
	if (sheaf_gp_wait(&calls[0].gp, ticket) != -EDEADLK)
		return 30;
	if (sheaf_gp_elapsed(&calls[0].gp, ticket))
		return 31;
	sheaf_gp_call_rcu_fini(&calls[0]);
	if (sheaf_gp_call_rcu_init(&own, &slow))
		return 32;
	if (sheaf_gp_wait(&own.gp, sheaf_gp_ticket(&own.gp)) != -EDEADLK)
		return 33;
	sheaf_gp_call_rcu_fini(&own);
	return 0;
}

/* A call that does not end, for which the fork waits 5 seconds. */
START_TEST(a_call_is_cut)
{
	pthread_t thread;
	pid_t pid;

	begin(DIRECT);
	inside = stop = 0;
	ck_assert_int_eq(pthread_create(&thread, NULL, stay_inside, NULL), 0);
	while (!load_acquire(&inside))
		sched_yield();
	pid = fork_as();
	if (pid == 0)
		_exit(use_torn());
	ck_assert_int_eq(child_end(pid), 0);
	store_release(&stop, 1);
	pthread_join(thread, NULL);
	/* The parent has lost nothing. */
	ck_assert_int_eq(fork_and_use(), 0);
	end();
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("fork-call_rcu-" FLAVOR_NAME);

	pthread_atfork(outside_before, outside_parent, outside_child);
	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, at_rest, DIRECT, HOOKS);
	tcase_add_loop_test(tc, callback_out, DIRECT, HOOKS);
	tcase_add_loop_test(tc, others_begin_periods, DIRECT, HOOKS);
	tcase_add_loop_test(tc, grandchildren, DIRECT, HOOKS);
	tcase_add_test(tc, a_reader_meets_a_fork);
	tcase_add_test(tc, a_new_thread_meets_a_fork);
#ifdef FLAVOR_MEMB
	tcase_add_test(tc, a_call_is_cut);
#endif
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
