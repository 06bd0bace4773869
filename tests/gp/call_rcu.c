/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the call_rcu source over a liburcu flavour (the one this program is built for):
 * while nothing is wanted nothing is called; one head is out at most, and serves many tickets;
 * no ticket is forgotten, whether its taker polls, waits, or is not registered; it can be
 * ended in any state; nobody may wait in a callback, and who retires there does not. "Served"
 * means within seconds, where 20 ms would do: machines under load must not fail.
 */
#include FLAVOR_HEADER

#include <sheaf/cache.h>

#include "base/atomic.h"
#include "common.h"

#include <errno.h>
#include <stdlib.h>

#define SERVED_MS 10000

static struct sheaf_gp_call_rcu call;
static struct sheaf_gp *gp = &call.gp;

/*
 * The flavour, with its call_rcu() watched.
 */
static struct rcu_flavor_struct watched;
static void (*callback)(struct rcu_head *head);
static unsigned calls;
static uint32_t out;
static unsigned errors;

static void watched_callback(struct rcu_head *head)
{
	fetch_sub_release(&out, 1);
	/* acquire: nobody sees liburcu's own order. */
	load_acquire(&callback)(head);
}

static void watched_call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	store_release(&callback, func);
	fetch_add_relaxed(&calls, 1);
	if (fetch_add_acq_rel(&out, 1))
		fetch_add_relaxed(&errors, 1);
	call_rcu(head, watched_callback);
}

static void begin(void)
{
	watched = rcu_flavor;
	watched.update_call_rcu = watched_call_rcu;
	store_relaxed(&calls, 0);
	store_relaxed(&out, 0);
	store_relaxed(&errors, 0);
	ck_assert_int_eq(sheaf_gp_call_rcu_init(&call, &watched), 0);
}

static void end(void)
{
	sheaf_gp_call_rcu_fini(&call);
	ck_assert_uint_eq(load_relaxed(&errors), 0);
	ck_assert_uint_eq(load_acquire(&out), 0);
}

/* Polls only. */
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

START_TEST(wrong_arguments_are_refused)
{
	ck_assert_int_eq(sheaf_gp_call_rcu_init(&call, NULL), -EINVAL);
}
END_TEST

#ifndef FLAVOR_QSBR
static void wait_in_section(void *arg)
{
	rcu_register_thread();
	sheaf_gp_read_lock(arg);
	sheaf_gp_wait(arg, sheaf_gp_ticket(arg));
}

START_TEST(wait_in_a_read_section_is_told)
{
	begin();
	ck_assert(test_dies(wait_in_section, gp, "inside a read section"));
	end();
}
END_TEST
#endif

static void wait_again(struct rcu_head *head)
{
	(void)head;
	sheaf_gp_wait(gp, sheaf_gp_ticket(gp));
}

static void end_in_callback(struct rcu_head *head)
{
	(void)head;
	sheaf_gp_call_rcu_fini(&call);
}

static void call_and_wait(void (*func)(struct rcu_head *head))
{
	static struct rcu_head head;

	/* liburcu's thread is known to be one by then. */
	sheaf_gp_wait(gp, sheaf_gp_ticket(gp));
	call_rcu(&head, func);
	for (unsigned i = 0; i < SERVED_MS / 10; i++)
		test_sleep_ms(10);
}

static void wait_in_callback(void *arg)
{
	(void)arg;
	call_and_wait(wait_again);
}

static void fini_in_callback(void *arg)
{
	(void)arg;
	call_and_wait(end_in_callback);
}

START_TEST(wait_in_a_callback_is_told)
{
	begin();
	ck_assert(test_dies(wait_in_callback, NULL, "inside a callback of call_rcu()"));
	ck_assert(test_dies(fini_in_callback, NULL, "inside a callback of call_rcu()"));
	end();
}
END_TEST

START_TEST(idle_calls_nothing)
{
	begin();
	ck_assert(sheaf_gp_elapsed(gp, 0));
	ck_assert_int_eq(sheaf_gp_wait(gp, 0), 0);
	sheaf_gp_hurry(gp);
	ck_assert_uint_eq(calls, 0);
	ck_assert_int_eq(sheaf_gp_wait(gp, sheaf_gp_ticket(gp)), 0);
	ck_assert_uint_eq(calls, 1);
	for (unsigned i = 0; i < 20; i++) {
		sheaf_gp_hurry(gp);
		test_sleep_ms(1);
	}
	ck_assert_uint_eq(calls, 1);
	ck_assert(served(sheaf_gp_ticket(gp)));
	ck_assert_uint_eq(load_relaxed(&calls), 2);
	end();
}
END_TEST

START_TEST(many_tickets_share_a_period)
{
	uint64_t tickets = 0, start = test_ms(), limit = test_patience_ms() + SERVED_MS;

	begin();
	for (; test_ms() < start + 200 || load_relaxed(&calls) < 2; tickets++) {
		ck_assert_uint_lt(test_patience_ms(), limit);
		sheaf_gp_ticket(gp);
	}
	/* liburcu's thread pauses for 10 ms after each. */
	ck_assert_uint_le(load_relaxed(&calls), (test_ms() - start) / 10 + 2);
	ck_assert_uint_gt(tickets, 10 * load_relaxed(&calls));
	end();
}
END_TEST

struct user {
	unsigned me;
	unsigned errors;
	unsigned rounds;
	uint64_t state;
};

/* Pauses of all lengths around a callback's coming. */
static void *use(void *arg)
{
	struct user *user = arg;
	bool registered = user->me % 2;

	if (registered)
		rcu_register_thread();
	for (unsigned i = user->rounds; i; i--) {
		uint64_t ticket = sheaf_gp_ticket(gp);

#ifdef FLAVOR_QSBR
		if (registered)
			rcu_thread_offline();
#endif
		if (user->me / 2)
			user->errors += sheaf_gp_wait(gp, ticket) != 0;
		else
			user->errors += !served(ticket);
		user->errors += !sheaf_gp_elapsed(gp, ticket);
		for (uint64_t n = test_below(&user->state, 100000); n; n--)
			compiler_barrier();
		if (!test_below(&user->state, 4))
			test_sleep_ms((unsigned)test_below(&user->state, 15));
#ifdef FLAVOR_QSBR
		if (registered)
			rcu_thread_online();
#endif
	}
	if (registered)
		rcu_unregister_thread();
	return NULL;
}

START_TEST(no_ticket_is_forgotten)
{
	struct user users[4];

	begin();
	for (unsigned i = 0; i < 4; i++)
		users[i] = (struct user){
			.me = i, .rounds = test_rounds(40), .state = test_seed() + i};
	test_threads(4, use, users, sizeof(users[0]));
	for (unsigned i = 0; i < 4; i++)
		ck_assert_uint_eq(users[i].errors, 0);
	end();
}
END_TEST

/* The end waits for what is out, and not for what is wanted after that; but it may come when a
 * callback is about to begin it. */
START_TEST(end_in_any_state)
{
	const unsigned rounds = 12;
	unsigned begun, begun_late = 0;

	begin();
	end();
	for (unsigned i = 0; i < rounds; i++) {
		begin();
		rcu_register_thread();
		if (i % 3 == 0)
			sheaf_gp_wait(gp, sheaf_gp_ticket(gp));
		sheaf_gp_ticket(gp);
		if (i % 3)
			sheaf_gp_ticket(gp);
		begun = load_relaxed(&calls);
		end();
		ck_assert_uint_le(load_relaxed(&calls), begun + 1);
		begun_late += load_relaxed(&calls) - begun;
		rcu_unregister_thread();
	}
	ck_assert_uint_lt(begun_late, rounds / 2);
}
END_TEST

/*
 * In callbacks: tickets and retiring, but no waiting, not even without any memory.
 */
static struct {
	struct rcu_head head;
	struct sheaf_cache *cache;
	void *object[8];
	uint32_t done;
	bool ongoing;
} retiring;

static void retire_in_callback(struct rcu_head *head)
{
	(void)head;
	retiring.ongoing = sheaf_gp_read_ongoing(gp);
	test_fail_nth(0, true);
	for (unsigned i = 0; i < 8; i++)
		sheaf_cache_free_rcu(retiring.cache, retiring.object[i]);
	test_fail_end();
	store_release(&retiring.done, 1);
}

START_TEST(callbacks_do_not_wait)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 64, .capacity = 2, .gp = gp};
	struct sheaf_cache_stats stats;

	begin();
	retiring.done = 0;
	ck_assert_int_eq(sheaf_cache_create(&retiring.cache, &attr), 0);
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(retiring.cache, 0, 8, retiring.object), 8);
	ck_assert_int_eq(sheaf_gp_wait(gp, sheaf_gp_ticket(gp)), 0);
	ck_assert(!sheaf_gp_read_ongoing(gp));
	call_rcu(&retiring.head, retire_in_callback);
	while (!load_acquire(&retiring.done))
		test_sleep_ms(1);
	ck_assert(retiring.ongoing);
	ck_assert_int_eq(sheaf_cache_barrier(retiring.cache), 0);
	sheaf_cache_stats(retiring.cache, &stats, sizeof(stats));
	/* Those were given up; they stay allocated. */
	ck_assert_uint_gt(stats.abandoned, 0);
	sheaf_cache_shrink(retiring.cache);
	sheaf_cache_stats(retiring.cache, &stats, sizeof(stats));
	ck_assert_uint_eq(stats.backend_allocated - stats.backend_freed, stats.abandoned);
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("call_rcu-" FLAVOR_NAME);

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, wrong_arguments_are_refused);
	/* These fork, and come before there is a thread of liburcu's in this process. */
#ifndef FLAVOR_QSBR
	tcase_add_test(tc, wait_in_a_read_section_is_told);
#endif
	tcase_add_test(tc, wait_in_a_callback_is_told);
	tcase_add_test(tc, idle_calls_nothing);
	tcase_add_test(tc, many_tickets_share_a_period);
	tcase_add_test(tc, no_ticket_is_forgotten);
	tcase_add_test(tc, end_in_any_state);
	tcase_add_test(tc, callbacks_do_not_wait);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
