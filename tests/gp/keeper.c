/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the keeper, the process's one source for tasks, that threads may get and put it
 * at any time: as long as one has it, its thread runs what is armed; a task that was armed is
 * run after that, and sees what its armer wrote; once it is detached it does not run any more,
 * and its memory and the keeper's may go. ThreadSanitizer sees the order of it (plain memory on both
 * sides), AddressSanitizer and Memcheck the lifetimes.
 */
#include <sheaf/gp.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "common.h"
#include "gp_keeper.h"

#include <stdlib.h>

#define USERS 3
#define SERVED_MS 20000

struct work {
	struct sheaf_gp_task task;
	/* Plain: written by the user before it arms, and by the run. */
	unsigned wanted;
	unsigned done;
	uint32_t seen;
	/* How long a run takes. */
	unsigned turns;
};

static void run(struct sheaf_gp_task *task)
{
	struct work *work = container_of(task, struct work, task);
	unsigned wanted = work->wanted;

	for (unsigned i = 0; i < work->turns; i++)
		test_pause();
	work->done++;
	store_release(&work->seen, wanted);
}

static bool served(struct work *work, unsigned wanted)
{
	uint64_t end = test_patience_ms() + SERVED_MS;

	while (load_acquire(&work->seen) != wanted) {
		if (test_patience_ms() > end)
			return false;
		test_pause();
	}
	return true;
}

struct user {
	unsigned rounds;
	unsigned errors;
	uint64_t state;
};

/* Some wait for the run, others detach before it, or in the midst of it. */
static void use_once(struct user *user)
{
	struct sheaf_gp *gp = gp_keeper_get();
	struct work *work = calloc(1, sizeof(*work));
	unsigned runs = (unsigned)test_below(&user->state, 4), done;

	work->task.run = run;
	work->turns = (unsigned)test_below(&user->state, 3);
	user->errors += sheaf_gp_attach(gp, &work->task) != 0;
	for (unsigned i = 1; i <= runs; i++) {
		work->wanted = i;
		sheaf_gp_arm(gp, &work->task);
		if (i < runs || test_below(&user->state, 2))
			user->errors += !served(work, i);
		else if (test_below(&user->state, 2))
			test_pause();
	}
	sheaf_gp_detach(gp, &work->task);
	done = work->done;
	user->errors += done > runs || done + 1 < runs;
	free(work);
	gp_keeper_put();
}

static void *use(void *arg)
{
	struct user *user = arg;

	for (unsigned i = 0; i < user->rounds; i++)
		use_once(user);
	return NULL;
}

START_TEST(comes_and_goes)
{
	struct user users[USERS];
	unsigned errors = 0;

	for (unsigned i = 0; i < USERS; i++)
		users[i] = (struct user){.rounds = test_rounds(400) + 40,
					 .state = (test_seed() + i) | 1};
	test_threads(USERS, use, users, sizeof(users[0]));
	for (unsigned i = 0; i < USERS; i++)
		errors += users[i].errors;
	ck_assert_uint_eq(errors, 0);
}
END_TEST

/*
 * Armed in the very moment in which the last run ends: the task sees the number that was written
 * before, or is run once more. Atomic, because a run that is late may look meanwhile.
 */
static struct {
	struct sheaf_gp_task task;
	uint32_t wanted;
	uint32_t seen;
} last;

static void note_last(struct sheaf_gp_task *task)
{
	(void)task;
	store_release(&last.seen, load_relaxed(&last.wanted));
	/* The armer is quick: it comes while this run is not over. */
	for (unsigned i = 0; i < 20000; i++)
		compiler_barrier();
}

START_TEST(no_run_is_forgotten)
{
	struct sheaf_gp *gp = gp_keeper_get();

	ck_assert_ptr_nonnull(gp);
	last.task.run = note_last;
	last.wanted = last.seen = 0;
	ck_assert_int_eq(sheaf_gp_attach(gp, &last.task), 0);
	for (uint32_t i = 1; i <= test_rounds(20000); i++) {
		uint64_t end = test_patience_ms() + SERVED_MS;
		bool late = false;

		store_relaxed(&last.wanted, i);
		sheaf_gp_arm(gp, &last.task);
		/* Assertions take longer than a run does. */
		while (load_acquire(&last.seen) != i && !late)
			late = test_patience_ms() > end;
		ck_assert(!late);
	}
	sheaf_gp_detach(gp, &last.task);
	gp_keeper_put();
}
END_TEST

START_TEST(without_memory_there_is_none)
{
	struct sheaf_gp *gp;

	test_fail_nth(0, true);
	ck_assert_ptr_null(gp_keeper_get());
	ck_assert(test_fail_end());
	gp = gp_keeper_get();
	ck_assert_ptr_nonnull(gp);
	ck_assert_ptr_eq(gp_keeper_get(), gp);
	gp_keeper_put();
	gp_keeper_put();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("keeper");

	tcase_set_timeout(tc, test_full() ? 600 : 120);
	tcase_add_test(tc, comes_and_goes);
	tcase_add_test(tc, no_run_is_forgotten);
	tcase_add_test(tc, without_memory_there_is_none);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
