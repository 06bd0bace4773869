/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of recyclers and barns that a child finds them right, though other threads were in
 * the midst of using them when it was made: all invariants hold, no sheaf is there twice,
 * none is missing but what the others had in their hands, and what is counted is what can
 * be taken. First state by state, made by hand; then with threads that do nothing but
 * give and take, and many forks.
 */
#include <urcu/urcu-memb.h>

#include <sheaf/barn.h>
#include <sheaf/recycler.h>

#include "barn_fork.h"
#include "base/atomic.h"
#include "child.h"
#include "common.h"
#include "recycler_fork.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 3
#define SHEAVES_MOST 200
#define CAPACITY 4

static struct sheaf *sheaves[SHEAVES_MOST];
static unsigned n_sheaves;
static unsigned seen[SHEAVES_MOST];
static uint32_t stop;

static struct sheaf_gp_manual manual;
static struct sheaf_gp_urcu urcu;
static struct sheaf_recycler recycler;
static struct sheaf_barn barn;

/* Some of them empty. Nothing looks at the objects. */
static void make_sheaves(unsigned n)
{
	n_sheaves = n;
	for (unsigned i = 0; i < n; i++) {
		sheaves[i] = sheaf_init(malloc(sheaf_bytes(CAPACITY)), CAPACITY);
		sheaves[i]->mark = (uint16_t)i;
		for (unsigned k = i % (CAPACITY + 1); k; k--)
			sheaf_push(sheaves[i], &seen[i]);
		seen[i] = 0;
	}
}

static void free_sheaves(void)
{
	for (unsigned i = 0; i < n_sheaves; i++)
		free(sheaves[i]);
}

/* How many are there; 0 if one is there twice or not what it was. */
static unsigned count_seen(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_sheaves; i++) {
		if (seen[i] > 1 || sheaves[i]->size != i % (CAPACITY + 1))
			return 0;
		n += seen[i];
	}
	return n;
}

struct worker {
	uint64_t state;
	struct sheaf *hand;
	void (*work)(struct worker *w);
};

static struct worker workers[THREADS];
static pthread_t threads[THREADS];

static void *work_on(void *arg)
{
	struct worker *w = arg;

	while (!load_acquire(&stop))
		w->work(w);
	return NULL;
}

static void workers_begin(void (*work)(struct worker *w))
{
	uint64_t seed = test_seed();

	stop = 0;
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){.state = seed + i + 1, .work = work};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work_on, &workers[i]), 0);
	}
}

/* What they still have in their hands counts as seen. */
static void workers_end(void)
{
	store_release(&stop, 1);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		if (workers[i].hand)
			seen[workers[i].hand->mark]++;
	}
}

/* Somewhere in the midst of what they do. */
static void linger(uint64_t *state)
{
	for (uint64_t i = test_below(state, 2000); i; i--)
		compiler_barrier();
	if (!test_below(state, 4))
		test_pause();
}

/*
 * Recycler.
 */
static uint64_t objects_in_all(void)
{
	uint64_t objects = 0;

	for (unsigned i = 0; i < n_sheaves; i++)
		objects += sheaves[i]->size;
	return objects;
}

START_TEST(recycler_state_by_state)
{
	struct sheaf_recycler_stats stats;
	struct sheaf *sheaf;

	make_sheaves(6);
	sheaf_gp_manual_init(&manual, 0);
	ck_assert_int_eq(sheaf_recycler_init(&recycler, &manual.gp, NULL), 0);
	for (unsigned i = 0; i < 6; i++) {
		sheaf_recycler_give(&recycler, sheaves[i]);
		/* One is taken, so that the rest is in the queue; then more come in. */
		if (i != 3)
			continue;
		sheaf_gp_manual_step(&manual);
		sheaf = sheaf_recycler_take(&recycler);
		ck_assert_ptr_eq(sheaf, sheaves[0]);
		seen[0]++;
	}
	recycler_fork_prepare(&recycler);
	ck_assert_ptr_null(sheaf_recycler_take(&recycler));
	recycler_fork_parent(&recycler);
	ck_assert(sheaf_recycler_check(&recycler));
	recycler_fork_prepare(&recycler);
	/* A giver has counted three objects, noted its ticket, and vanished. */
	recycler.given++;
	recycler.sheaves++;
	recycler.objects += 3;
	recycler.newest = sheaf_gp_ticket(&manual.gp);
	/* A taker has popped, but not counted two. */
	recycler.sheaves++;
	recycler.objects += 2;
	ck_assert(!sheaf_recycler_check(&recycler));
	recycler_fork_child(&recycler);
	ck_assert(sheaf_recycler_check(&recycler));
	sheaf_recycler_stats(&recycler, &stats);
	ck_assert_uint_eq(stats.sheaves, 5);
	ck_assert_uint_eq(stats.taken, 1);
	ck_assert_uint_eq(stats.given, 6);
	ck_assert_uint_eq(stats.objects, objects_in_all());
	sheaf_gp_manual_step(&manual);
	ck_assert_int_eq(sheaf_recycler_barrier(&recycler), 0);
	while ((sheaf = sheaf_recycler_take(&recycler)) != NULL)
		seen[sheaf->mark]++;
	ck_assert_uint_eq(count_seen(), 6);
	ck_assert_int_eq(sheaf_recycler_fini(&recycler), 0);
	free_sheaves();
}
END_TEST

static void recycle(struct worker *w)
{
	if (w->hand) {
		sheaf_recycler_give(&recycler, w->hand);
		w->hand = NULL;
	} else {
		w->hand = sheaf_recycler_take(&recycler);
		if (!w->hand)
			test_pause();
	}
}

/* What a child does; 0 or the number of what went wrong. */
static int recycle_all(void)
{
	struct sheaf_recycler_stats stats;
	struct sheaf *sheaf;
	unsigned n;

	recycler_fork_child(&recycler);
	if (!sheaf_recycler_check(&recycler))
		return 1;
	sheaf_recycler_stats(&recycler, &stats);
	if (recycler.gp == &manual.gp)
		sheaf_gp_manual_step(&manual);
	if (sheaf_recycler_barrier(&recycler))
		return 2;
	for (n = 0; (sheaf = sheaf_recycler_take(&recycler)) != NULL; n++)
		seen[sheaf->mark]++;
	if (n != stats.sheaves || count_seen() != n)
		return 3;
	/* A thread has one in its hands at most. */
	if (n + THREADS < n_sheaves)
		return 4;
	if (!sheaf_recycler_check(&recycler) || sheaf_recycler_fini(&recycler))
		return 5;
	/* It works as before. */
	for (unsigned i = 0; i < 3; i++)
		sheaf_recycler_give(&recycler, sheaves[i]);
	if (recycler.gp == &manual.gp)
		sheaf_gp_manual_step(&manual);
	if (sheaf_recycler_barrier(&recycler))
		return 6;
	for (unsigned i = 0; i < 3; i++)
		if (sheaf_recycler_take(&recycler) != sheaves[i])
			return 7;
	return 0;
}

START_TEST(recycler_in_use)
{
	const struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .spacing_us = 1};
	uint64_t state = test_seed();
	struct sheaf *sheaf;

	make_sheaves(16);
	sheaf_gp_manual_init(&manual, UINT64_MAX - 100);
	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr), 0);
	ck_assert_int_eq(sheaf_recycler_init(&recycler, _i ? &urcu.gp : &manual.gp, NULL), 0);
	for (unsigned i = 0; i < n_sheaves; i++)
		sheaf_recycler_give(&recycler, sheaves[i]);
	workers_begin(recycle);
	for (unsigned i = test_rounds(60); i; i--) {
		pid_t pid;

		sheaf_gp_manual_step(&manual);
		linger(&state);
		recycler_fork_prepare(&recycler);
		pid = fork();
		if (pid == 0)
			_exit(recycle_all());
		recycler_fork_parent(&recycler);
		ck_assert_int_eq(child_end(pid), 0);
	}
	workers_end();
	ck_assert(sheaf_recycler_check(&recycler));
	while ((sheaf = sheaf_recycler_drain(&recycler)) != NULL)
		seen[sheaf->mark]++;
	ck_assert_uint_eq(count_seen(), n_sheaves);
	ck_assert_int_eq(sheaf_recycler_fini(&recycler), 0);
	sheaf_gp_urcu_fini(&urcu);
	free_sheaves();
}
END_TEST

/*
 * Barn.
 */
static void see(void *arg, struct sheaf *sheaf)
{
	(void)arg;
	seen[sheaf->mark]++;
}

START_TEST(barn_state_by_state)
{
	struct sheaf_barn_stats stats;

	make_sheaves(200);
	sheaf_barn_init(&barn, 0, 8, 8);
	/* More than cells on both sides: 160 with objects, 40 without. */
	for (unsigned i = 10; i < n_sheaves; i++)
		sheaf_barn_keep(&barn, sheaves[i]);
	for (unsigned i = 0; i < 10; i++) {
		struct sheaf *taken =
			i % 5 ? sheaf_barn_take_full(&barn) : sheaf_barn_take_empty(&barn);

		seen[taken->mark]++;
		sheaf_barn_keep(&barn, sheaves[i]);
	}
	ck_assert(sheaf_barn_check(&barn));
	/* Leaving: the bit is clear, perhaps the count of objects too. Arriving looks the same. */
	barn.full.filled &= ~UINT64_C(0x8000000000000001);
	barn.full.cells[63].objects = 0;
	barn.empty.filled &= ~UINT64_C(0x6);
	/* Counted, but not put. */
	barn.full.chain_gives += 2;
	barn.empty.chain_gives++;
	/* Counted on their way to the chain, but not there. */
	barn.full.chain_objects += 5;
	ck_assert(!sheaf_barn_check(&barn));
	barn_fork_child(&barn);
	ck_assert(sheaf_barn_check(&barn));
	sheaf_barn_stats(&barn, &stats);
	ck_assert_uint_eq(stats.full.held + stats.empty.held, n_sheaves - 10);
	ck_assert_uint_eq(sheaf_barn_drain(&barn, see, NULL), n_sheaves - 10);
	ck_assert_uint_eq(count_seen(), n_sheaves);
	sheaf_barn_stats(&barn, &stats);
	ck_assert_uint_eq(stats.objects, 0);
	ck_assert_int_eq(sheaf_barn_fini(&barn), 0);
	/* The first one ever: in its cell, but not yet counted. */
	sheaf_barn_init(&barn, 0, 8, 8);
	barn.full.cells[0].sheaf = sheaves[1];
	barn_fork_child(&barn);
	ck_assert(sheaf_barn_check(&barn));
	sheaf_barn_stats(&barn, &stats);
	ck_assert(stats.full.gives == 1 && stats.full.takes == 0 && stats.full.held == 1);
	ck_assert_ptr_nonnull(sheaf_barn_take_full(&barn));
	ck_assert_int_eq(sheaf_barn_fini(&barn), 0);
	free_sheaves();
}
END_TEST

static void trade(struct worker *w)
{
	bool any = test_below(&w->state, 2);
	struct sheaf *got;

	if (!w->hand) {
		w->hand = any ? sheaf_barn_take_full(&barn) : sheaf_barn_take_empty(&barn);
		return;
	}
	if (any) {
		sheaf_barn_keep(&barn, w->hand);
		w->hand = NULL;
		return;
	}
	got = sheaf_empty(w->hand) ? sheaf_barn_trade_empty(&barn, w->hand)
				   : sheaf_barn_trade_full(&barn, w->hand);
	if (got)
		w->hand = got;
}

static int drain_all(void)
{
	struct sheaf_barn_stats stats, after;
	uint64_t objects = 0;
	size_t n;

	barn_fork_child(&barn);
	if (!sheaf_barn_check(&barn))
		return 1;
	sheaf_barn_stats(&barn, &stats);
	n = sheaf_barn_drain(&barn, see, NULL);
	if (n != stats.full.held + stats.empty.held || count_seen() != n)
		return 2;
	for (unsigned i = 0; i < n_sheaves; i++)
		objects += seen[i] ? sheaves[i]->size : 0;
	sheaf_barn_stats(&barn, &after);
	if (objects != stats.objects || after.objects)
		return 3;
	/* One in a hand, and another one while they are traded; or what was in the chain. */
	if (n_sheaves <= SHEAF_BARN_CELLS && n + 2 * THREADS < n_sheaves)
		return 4;
	if (!sheaf_barn_check(&barn) || sheaf_barn_fini(&barn))
		return 5;
	for (unsigned i = 0; i < n_sheaves; i++)
		sheaf_barn_keep(&barn, sheaves[i]);
	return sheaf_barn_drain(&barn, see, NULL) == n_sheaves ? 0 : 6;
}

START_TEST(barn_in_use)
{
	uint64_t state = test_seed();

	make_sheaves(_i ? SHEAVES_MOST : 12);
	sheaf_barn_init(&barn, 0, 1000, 1000);
	for (unsigned i = 0; i < n_sheaves; i++)
		sheaf_barn_keep(&barn, sheaves[i]);
	workers_begin(trade);
	for (unsigned i = test_rounds(60); i; i--) {
		pid_t pid;

		linger(&state);
		pid = fork();
		if (pid == 0)
			_exit(drain_all());
		ck_assert_int_eq(child_end(pid), 0);
	}
	workers_end();
	ck_assert(sheaf_barn_check(&barn));
	sheaf_barn_drain(&barn, see, NULL);
	ck_assert_uint_eq(count_seen(), n_sheaves);
	ck_assert_int_eq(sheaf_barn_fini(&barn), 0);
	free_sheaves();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gp");
	TCase *tc = tcase_create("fork-pools");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, recycler_state_by_state);
	tcase_add_loop_test(tc, recycler_in_use, 0, 2);
	tcase_add_test(tc, barn_state_by_state);
	tcase_add_loop_test(tc, barn_in_use, 0, 2);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
