/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the call_rcu source and of the poll source that in every interleaving of their
 * atomic accesses and sleeps (of up to four threads, up to a number of preemptions, as far as the runs go) no ticket is
 * forgotten; none elapses while a section that was running when it was taken goes on; the
 * one head is out once at most, and one looks at a time; no call is cut by a fork;
 * forks and tickets let each other go on; and the end comes, after the last callback. A
 * forgotten ticket is a run that gets stuck. The flavour is a plain one made here: its
 * callbacks come from one of the threads, after the sections that it finds.
 */
#include <sheaf/gp.h>

#include <urcu/call-rcu.h>
#include <urcu/flavor.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "common.h"
#include "gp_calls.h"
#include "schedule.h"

#include <stdio.h>

struct interleaving {
	const char *name;
	unsigned users;
	bool poll;
	bool forks;
	/* With so many preemptions all decisions are tried; -1: there are too many without any. */
	int whole;
	void (*use)(void);
};

static const struct interleaving *now;
static struct sheaf_gp_call_rcu call;
static struct sheaf_gp_poll polled;
static struct sheaf_gp *gp;

/* Odd inside a section. */
static unsigned section[SCHEDULE_THREADS + 1];
static __thread unsigned self = SCHEDULE_THREADS;
static unsigned threads;
static unsigned done;
static unsigned errors;
static bool ended;

/* What is queued, and who is in a call of liburcu's: any, or not liburcu's thread. */
static struct rcu_head *queued;
static void (*callback)(struct rcu_head *head);
static unsigned calling;
static unsigned calling_out;

struct snapshot {
	unsigned seen[SCHEDULE_THREADS];
};

static struct snapshot snapshot_take(void)
{
	struct snapshot s;

	for (unsigned i = 0; i < SCHEDULE_THREADS; i++)
		s.seen[i] = section[i];
	return s;
}

static bool snapshot_passed(const struct snapshot *s)
{
	for (unsigned i = 0; i < SCHEDULE_THREADS; i++)
		if (s->seen[i] % 2 && section[i] == s->seen[i])
			return false;
	return true;
}

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

/* The last thread is liburcu's, if there is one. */
static bool is_helper(void)
{
	return gp == &call.gp && self == threads - 1;
}

static void call_begin(void)
{
	errors += calling++ > 0 && gp == &polled.gp;
	calling_out += !is_helper();
	schedule_point();
}

static void call_end(void)
{
	schedule_point();
	calling--;
	calling_out -= !is_helper();
}

static void plain_call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	call_begin();
	errors += queued != NULL || ended;
	queued = head;
	callback = func;
	call_end();
}

static void help(void)
{
	while (!ended) {
		struct rcu_head *head = queued;
		struct snapshot s;

		if (!head) {
			schedule_yield();
			continue;
		}
		queued = NULL;
		s = snapshot_take();
		while (!snapshot_passed(&s))
			schedule_yield();
		callback(head);
	}
}

static struct snapshot started;
static unsigned long newest;

static struct urcu_gp_poll_state plain_start_poll(void)
{
	struct urcu_gp_poll_state state;

	call_begin();
	started = snapshot_take();
	state.grace_period_id = ++newest;
	call_end();
	return state;
}

static bool plain_poll_state(struct urcu_gp_poll_state state)
{
	bool passed;

	call_begin();
	errors += state.grace_period_id != newest;
	passed = snapshot_passed(&started);
	call_end();
	return passed;
}

static void nothing(void)
{
}

static const struct rcu_flavor_struct plain_flavor = {
	.read_lock = plain_lock,
	.read_unlock = plain_unlock,
	.read_ongoing = plain_ongoing,
	.thread_offline = nothing,
	.thread_online = nothing,
	.update_call_rcu = plain_call_rcu,
	.update_start_poll_synchronize_rcu = plain_start_poll,
	.update_poll_state_synchronize_rcu = plain_poll_state,
};

static void begin(void)
{
	sheaf_gp_call_rcu_init(&call, &plain_flavor);
	sheaf_gp_poll_init(&polled, &plain_flavor);
	queued = NULL;
	done = errors = calling = calling_out = 0;
	ended = false;
	for (unsigned i = 0; i <= SCHEDULE_THREADS; i++)
		section[i] = 0;
}

static const char *end(void)
{
	/* What is wanted has begun; a fork may have kept its taker out. */
	if (!now->forks && (polled.begun & 3) == 1)
		return "wanted, and not begun";
	return errors ? "too early, twice, cut, or a wait that failed" : NULL;
}

/* The last user to be done ends the source; its callback touches nothing after that. */
static void finish(void)
{
	unsigned users = gp == &call.gp ? threads - 1 : threads;

	if (++done < users)
		return;
	if (gp == &call.gp)
		sheaf_gp_call_rcu_fini(&call);
	else
		sheaf_gp_poll_fini(&polled);
	call.begun |= 3;
	call.gp.completed++;
	ended = true;
}

/* The poll source looks when asked to. */
static void look(uint64_t ticket)
{
	while (!sheaf_gp_elapsed(gp, ticket)) {
		if (gp == &polled.gp)
			sheaf_gp_hurry(gp);
		schedule_yield();
	}
}

static void wait_for(uint64_t ticket)
{
	errors += sheaf_gp_wait(gp, ticket) != 0;
	errors += !sheaf_gp_elapsed(gp, ticket);
}

/* Nobody wakes up by time alone. */
static uint64_t take_ticket(void)
{
	uint64_t start = clock_ns(), ticket = sheaf_gp_ticket(gp);

	errors += clock_ns() - start > 50000000;
	return ticket;
}

/* The sections that run now must be over when the ticket has elapsed. */
static void check_ticket(void (*serve)(uint64_t ticket))
{
	struct snapshot s = snapshot_take();
	uint64_t ticket = take_ticket();

	serve(ticket);
	s.seen[self] = 0;
	errors += !snapshot_passed(&s);
}

static void use_looking(void)
{
	for (unsigned i = 0; i < 2; i++)
		check_ticket(look);
}

static void use_waiting(void)
{
	for (unsigned i = 0; i < 2; i++)
		check_ticket(self ? wait_for : look);
}

static void use_reading(void)
{
	uint64_t ticket;

	if (self == 0) {
		check_ticket(look);
		check_ticket(wait_for);
		return;
	}
	sheaf_gp_read_lock(gp);
	ticket = sheaf_gp_ticket(gp);
	sheaf_gp_hurry(gp);
	errors += sheaf_gp_elapsed(gp, ticket);
	sheaf_gp_read_unlock(gp);
	look(ticket);
}

/* The end comes while a callback is out, and nobody looks after the last ticket. */
static void use_leaving(void)
{
	sheaf_gp_ticket(gp);
	check_ticket(look);
	if (self)
		sheaf_gp_ticket(gp);
}

/* What fork() does, up to the moment of it and in the parent after it. Others may get on meanwhile;
 * it does not give way to them, for time would pass. */
static void fork_once(void)
{
	uint64_t start = clock_ns();

	gp_calls_fork_prepare();
	errors += calling_out;
	for (unsigned i = 0; i < 10; i++)
		schedule_point();
	/* In a handler of the program's. */
	take_ticket();
	errors += calling_out;
	gp_calls_fork_parent();
	/* Nobody was at the end of its patience. */
	errors += clock_ns() - start > 50000000;
}

static void use_forking(void)
{
	if (self) {
		check_ticket(look);
		check_ticket(wait_for);
		return;
	}
	take_ticket();
	fork_once();
	check_ticket(look);
	fork_once();
}

static const struct interleaving interleavings[] = {
	{"call_rcu, one looks", 1, false, false, 2, use_looking},
	{"call_rcu, two look", 2, false, false, 0, use_looking},
	{"call_rcu, three look", 3, false, false, -1, use_looking},
	{"call_rcu, one looks, two wait", 3, false, false, -1, use_waiting},
	{"call_rcu, a reader", 2, false, false, 0, use_reading},
	{"call_rcu, two readers", 3, false, false, -1, use_reading},
	{"call_rcu, the end", 2, false, false, 0, use_leaving},
	{"call_rcu, a fork", 2, false, true, 0, use_forking},
	{"call_rcu, a fork, two others", 3, false, true, -1, use_forking},
	{"poll, one looks", 1, true, false, 2, use_looking},
	{"poll, two look", 2, true, false, 1, use_looking},
	{"poll, three look", 3, true, false, 0, use_looking},
	{"poll, one looks, two wait", 3, true, false, 0, use_waiting},
	{"poll, a reader", 2, true, false, 2, use_reading},
	{"poll, two readers", 3, true, false, 0, use_reading},
	{"poll, the end", 2, true, false, 1, use_leaving},
	{"poll, a fork", 2, true, true, 1, use_forking},
	{"poll, a fork, two others", 3, true, true, 0, use_forking},
};

#define INTERLEAVINGS (sizeof(interleavings) / sizeof(interleavings[0]))

static void run(unsigned me)
{
	self = me;
	if (is_helper()) {
		help();
		return;
	}
	now->use();
	finish();
}

START_TEST(no_ticket_forgotten_none_early)
{
	struct schedule schedule = {
		.begin = begin,
		.run = run,
		.end = end,
		.preemptions = 2 + test_full(),
		.runs = test_rounds(3000),
	};
	struct schedule_result result;

	now = &interleavings[_i];
	gp = now->poll ? &polled.gp : &call.gp;
	threads = schedule.threads = now->users + !now->poll;
	schedule_deepen(&schedule, now->whole, now->name);
	schedule.preemptions = 20;
	schedule.seed = test_seed();
	result = schedule_run(&schedule);
	ck_assert_msg(!result.error, "%s: %s, run %u", now->name, result.error, result.runs);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("interleave-calls");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, no_ticket_forgotten_none_early, 0, INTERLEAVINGS);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
