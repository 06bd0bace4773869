/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of whole caches on per-CPU slots: with all disturbances a process can meet (storm.h),
 * while threads do everything a cache offers, signal handlers on them do what handlers
 * may, and a remote party shrinks, waits and counts, no object is in two hands, none is lost,
 * every call returns, and the sums are right at the end. Capacities are 2 to 4, so that most
 * calls are slow ones.
 */
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"
#include "storm.h"
#include "users.h"

#include <stdio.h>
#include <stdlib.h>

static const struct variant {
	const char *name;
	uint32_t capacity;
	uint32_t limit;
	unsigned nodes;
	bool retires;
} variants[] = {
	{"plain", 2, 2, 1, false},
	{"retire", 3, 3, 1, true},
	{"no barn, two nodes, retire", 2, UINT32_MAX, 2, true},
	{"roomy, retire", 4, 8, 1, true},
};

#define VARIANTS (sizeof(variants) / sizeof(variants[0]))

static const struct variant *variant;
static struct users users;
static bool stepped;
static bool signalled;

static_assert(USERS >= 2 * STORM_THREADS, "a user per thread, one per thread's handlers");

static void look(const struct user *user)
{
	if (user->errors)
		storm_fault(FAULT_DOUBLED);
}

static void work(unsigned me)
{
	user_work(&users, me);
	look(&users.user[me]);
}

static void interrupt(unsigned me)
{
	user_interrupt(&users, STORM_THREADS + me);
	look(&users.user[STORM_THREADS + me]);
}

static void take_over(void)
{
	users_remote(&users);
	look(&users.remote);
}

static bool enough(void)
{
	unsigned i;

	for (i = 0; i < STORM_THREADS; i++)
		if (load_relaxed(&storm_now->thread[i].calls) < 100)
			return false;
	if (load_relaxed(&storm_now->refused))
		return true;
	if (signalled && !load_relaxed(&users.cache->aborts))
		return false;
	return !stepped || load_relaxed(&storm_now->stepped_calls);
}

static bool begin(void)
{
	const struct sheaf_cache_attr attr = {
		.capacity = variant->capacity,
		.barn_full = variant->limit,
		.barn_empty = variant->limit,
		.nodes = variant->nodes,
		.slots = SHEAF_SLOTS_CPU,
	};

	return users_begin(&users, attr, variant->retires, test_seed()) && users.cache->cpus.n;
}

static void end(void)
{
	struct sheaf_cache_stats stats;

	if (users_end(&users, &stats))
		storm_fault(FAULT_LOST);
	storm_now->counts[0] = stats.aborts;
	storm_now->counts[1] = stats.bypassed;
}

static const unsigned disturbances[] = {
	STORM_SIGNALS,
	STORM_STOPS | STORM_MOVES,
	STORM_STEPS | STORM_TAKE_OVERS,
	STORM_MOVES | STORM_TAKE_OVERS,
	STORM_SIGNALS | STORM_STOPS | STORM_MOVES | STORM_TAKE_OVERS,
};

#define DISTURBANCES (sizeof(disturbances) / sizeof(disturbances[0]))

static void tell(const struct storm_report *report, unsigned of)
{
	uint64_t calls = 0, signals = 0;

	for (unsigned i = 0; i < STORM_THREADS; i++) {
		calls += report->thread[i].calls;
		signals += report->thread[i].signals;
	}
	printf("# %s, %s%s: %llu calls, %llu signals, %llu stops, %llu moves, %llu take-overs, "
	       "%llu steps over %llu calls; %llu aborted, %llu round the slot\n",
	       variant->name, storm_disturbances(of), report->refused ? " (refused here)" : "",
	       (unsigned long long)calls, (unsigned long long)signals,
	       (unsigned long long)report->stops, (unsigned long long)report->moves,
	       (unsigned long long)report->take_overs, (unsigned long long)report->steps,
	       (unsigned long long)report->stepped_calls, (unsigned long long)report->counts[0],
	       (unsigned long long)report->counts[1]);
	fflush(stdout);
}

START_TEST(nothing_lost)
{
	unsigned of = disturbances[_i % DISTURBANCES];
	const struct storm storm = {
		.threads = STORM_THREADS,
		.disturbances = of,
		.ms = test_more(150),
		.seed = test_seed(),
		.begin = begin,
		.work = work,
		.interrupt = interrupt,
		.take_over = take_over,
		.enough = enough,
		.end = end,
	};
	struct storm_report report;

	variant = &variants[_i / DISTURBANCES];
	stepped = of & STORM_STEPS;
	signalled = of & STORM_SIGNALS;
	report = storm_run(&storm);
	tell(&report, of);
	ck_assert_msg(storm_clean(&report), "%s, %s: %s", variant->name, storm_disturbances(of),
		      storm_text(&report));
	if (signalled && !report.refused)
		ck_assert_uint_gt(report.counts[0], 0);
	if (stepped && !report.refused)
		ck_assert_uint_gt(report.stepped_calls, 0);
}
END_TEST

int main(void)
{
	Suite *suite;
	TCase *tc;

	if (!storm_possible())
		return EXIT_SUCCESS;
	test_seed();
	suite = suite_create("rseq");
	tc = tcase_create("caches");
	tcase_set_timeout(tc, 600);
	tcase_add_loop_test(tc, nothing_lost, 0, VARIANTS * DISTURBANCES);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
