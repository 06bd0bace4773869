/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that the storms of sections.c can fail: each program built of this file has one defect,
 * and each section that the defect touches is found out. MUTANT says which:
 *
 *	UNANNOUNCED    the kernel is not told of the sequences (the library is built so)
 *	NO_FENCE       a take-over that does not fence at all
 *	NO_FENCE_1     a take-over without its first fence: before it takes the sheaves
 *	NO_FENCE_2     a take-over without its second fence: before it touches them
 *	NO_STOP        a take-over that does not stop who swaps and installs
 *
 * Defects of the take-over come in by the linker (--wrap). They need two parties that run at
 * once: on one CPU only the first is tried.
 */
#define _GNU_SOURCE
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"
#include "hands.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static const enum mutant {
	UNANNOUNCED,
	NO_FENCE,
	NO_FENCE_1,
	NO_FENCE_2,
	NO_STOP,
} mutant = MUTANT;

void __real_rseq_fence(void);
void __wrap_rseq_fence(void);
void __real_slots_stop(struct sheaf_cache *cache, unsigned parts);
void __wrap_slots_stop(struct sheaf_cache *cache, unsigned parts);

void __wrap_rseq_fence(void)
{
	unsigned number = ++take_over_fences;

	if (mutant == NO_FENCE || (mutant == NO_FENCE_1 && number == 1) ||
	    (mutant == NO_FENCE_2 && number == 2))
		return;
	__real_rseq_fence();
}

void __wrap_slots_stop(struct sheaf_cache *cache, unsigned parts)
{
	__real_slots_stop(cache, parts);
	for (uint32_t i = 0; mutant == NO_STOP && i < cache->cpus.n; i++)
		store_release(&cache->cpus.slots[i].stop, 0);
}

/* Swaps and installs are held off by stop and the first fence, pops and pushes end with the
 * second. */
static bool touches(enum section section)
{
	switch (mutant) {
	case NO_FENCE_1:
	case NO_STOP:
		return section_stops(section);
	case NO_FENCE_2:
		return !section_stops(section);
	default:
		return true;
	}
}

/* Without an end: a mutant that is never found runs into the timeout. */
START_TEST(found_out)
{
	enum section section = (enum section)_i;
	uint64_t began = test_ms(), seed = test_seed();
	struct storm_report report = {0};
	unsigned storms = 0;

	while (!report.all_faults) {
		struct storm storm = hands_storm(
			section, mutant == UNANNOUNCED ? STORM_SIGNALS : STORM_TAKE_OVERS,
			storms < 5 ? 50u << storms : 1600, seed + storms);

		storms++;
		/* About as long as the remote party dawdles. */
		storm.pause = 4000;
		report = storm_run(&storm);
		ck_assert(!report.failed);
	}
	printf("# %s: found out after %u ms, %u storms: %s\n", section_name(section),
	       (unsigned)(test_ms() - began), storms, storm_text(&report));
	fflush(stdout);
}
END_TEST

static unsigned cpus_to_use(void)
{
	cpu_set_t may;

	return sched_getaffinity(0, sizeof(may), &may) ? 1 : (unsigned)CPU_COUNT(&may);
}

int main(void)
{
	Suite *suite;
	TCase *tc;

	if (!storm_possible())
		return EXIT_SUCCESS;
	if (mutant != UNANNOUNCED && cpus_to_use() < 2) {
		printf("1..0 # SKIP one CPU only\n");
		return EXIT_SUCCESS;
	}
	test_seed();
	suite = suite_create("rseq");
	tc = tcase_create("mutants");
	/* How soon is chance: ten seconds as a rule, and longer the more others run. */
	tcase_set_timeout(tc, 600);
	for (int section = 0; section < SECTIONS; section++)
		if (touches((enum section)section))
			tcase_add_loop_test(tc, found_out, section, section + 1);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
