/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that the fence by hand, which goes from CPU to CPU, is one: the storms of take-overs on each
 * restartable sequence (tests/rseq/hands.h) lose nothing with it in the place of the kernel's. And
 * that these storms would tell: with a walk that stays where it is they do.
 */
#define _GNU_SOURCE
#include "base/atomic.h"
#include "base/membarrier.h"
#include "common.h"
#include "hands.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

int __real_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set);
int __wrap_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set);
int __real_sched_getcpu(void);
int __wrap_sched_getcpu(void);
void __wrap_rseq_fence(void);

/* Where the walk believes that it is, while it stays; else -1. */
static __thread int believed = -1;
static bool stays;
static uint64_t walks;

/* So many moves fail, with this. */
static unsigned refusals;
static int refused_with;

int __wrap_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
	int cpu;

	if (believed >= 0 && refusals) {
		refusals--;
		errno = refused_with;
		return -1;
	}
	if (believed < 0 || !stays)
		return __real_sched_setaffinity(pid, size, set);
	for (cpu = 0; cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, set); cpu++)
		;
	believed = cpu;
	return 0;
}

int __wrap_sched_getcpu(void)
{
	return believed < 0 || !stays ? __real_sched_getcpu() : believed;
}

void __wrap_rseq_fence(void)
{
	take_over_fences++;
	believed = 0;
	membarrier_walk();
	believed = -1;
	fetch_add_relaxed(&walks, 1);
}

START_TEST(fences)
{
	struct storm storm = hands_storm((enum section)_i, STORM_TAKE_OVERS,
					 test_more(60), test_seed());
	struct storm_report report;

	stays = false;
	storm.pause = 4000;
	report = storm_run(&storm);
	ck_assert_msg(storm_clean(&report), "%s: %s", section_name((enum section)_i),
		      storm_text(&report));
}
END_TEST

/* Without an end: a storm that never tells runs into the timeout. */
START_TEST(would_tell)
{
	enum section section = _i ? SWAP : PUSH;
	struct storm_report report = {0};
	unsigned storms = 0;

	stays = true;
	while (!report.all_faults) {
		struct storm storm =
			hands_storm(section, STORM_TAKE_OVERS, storms < 5 ? 50u << storms : 1600,
				    test_seed() + storms);

		storms++;
		storm.pause = 4000;
		report = storm_run(&storm);
		ck_assert(!report.failed);
	}
	printf("# %s: found out after %u storms: %s\n", section_name(section), storms,
	       storm_text(&report));
	fflush(stdout);
}
END_TEST

/* The caller is where it was, may be where it might, and nobody sees an error. */
START_TEST(leaves_no_trace)
{
	cpu_set_t before, after;

	stays = false;
	ck_assert_int_eq(sched_getaffinity(0, sizeof(before), &before), 0);
	errno = ENOTTY;
	__wrap_rseq_fence();
	ck_assert_int_eq(errno, ENOTTY);
	ck_assert_int_eq(sched_getaffinity(0, sizeof(after), &after), 0);
	ck_assert(CPU_EQUAL(&before, &after));
	ck_assert_uint_eq(walks, 1);
}
END_TEST

static void walk(void *arg)
{
	(void)arg;
	__wrap_rseq_fence();
}

/* Memory that the kernel lacks for a moment is waited for; and no other error is a CPU that is not there. */
START_TEST(leaves_none_out)
{
	cpu_set_t may;

	stays = false;
	refused_with = ENOMEM;
	refusals = 3;
	walk(NULL);
	ck_assert_uint_eq(refusals, 0);
	/* This one has no thread of ours; if there are others. */
	refused_with = EINVAL;
	ck_assert_int_eq(sched_getaffinity(0, sizeof(may), &may), 0);
	refusals = CPU_COUNT(&may) > 1;
	walk(NULL);
	ck_assert_uint_eq(refusals, 0);
	refused_with = EPERM;
	refusals = 1;
	ck_assert(test_dies(walk, NULL, "so is sched_setaffinity(2)"));
	refused_with = ENOMEM;
	refusals = UINT32_MAX;
	ck_assert(test_dies(walk, NULL, "so is sched_setaffinity(2)"));
	refusals = 0;
}
END_TEST

int main(void)
{
	Suite *suite;
	cpu_set_t may;
	TCase *tc;

	if (!storm_possible())
		return EXIT_SUCCESS;
	test_seed();
	suite = suite_create("faults");
	tc = tcase_create("walk");
	tcase_set_timeout(tc, test_full() ? 1800 : 600);
	tcase_add_test(tc, leaves_no_trace);
	tcase_add_test(tc, leaves_none_out);
	tcase_add_loop_test(tc, fences, 0, SECTIONS);
	/* Two parties that run at once. */
	if (!sched_getaffinity(0, sizeof(may), &may) && CPU_COUNT(&may) > 1)
		tcase_add_loop_test(tc, would_tell, 0, 2);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
