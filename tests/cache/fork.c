/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a program with busy threads may fork at any moment: in the child every cache goes
 * on (alloc, free, bulk, prefill, retire, barrier with a grace-period driver of the child's,
 * shrink, new threads, new caches, a child of its own), no object is handed out that somebody
 * holds or that was handed out before, and it ends in time; and that the parent never notices.
 *
 * Each object's first word says who holds it; the child looks at its copy.
 */
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sheaf/cache.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <urcu/urcu-bp.h>

/* One header of a flavour per file is all that liburcu allows. */
extern const struct rcu_flavor_struct urcu_memb_flavor, urcu_bp_flavor;

#define CACHES 3
#define THREADS 8
#define HAND 100
#define CHILD_SECONDS 60

/* In the first word of an object. */
#define FREE_MARK UINT64_C(0)
#define CHILD_MARK UINT64_MAX

static struct sheaf_gp_urcu source;
static struct sheaf_cache *caches[CACHES];
static uint32_t stop;
static uint64_t errors;
static uint64_t forks;
static bool readers;

struct worker {
	uint64_t id; /* not 0 */
	uint64_t random;
	unsigned forks;
	uint64_t *hand[CACHES][HAND];
	unsigned n[CACHES];
};

static void wrong(const char *what)
{
	fetch_add_relaxed(&errors, 1);
	fprintf(stderr, "%s\n", what);
}

/* Takes an object into a hand; it must be in nobody's. */
static bool take(unsigned c, uint64_t mark, uint64_t **object)
{
	*object = sheaf_cache_alloc(caches[c], 0);
	if (!*object)
		return false;
	if (exchange_relaxed(*object, mark) != FREE_MARK)
		wrong("handed out to two");
	return true;
}

static void drop(unsigned c, uint64_t mark, uint64_t *object, bool retire)
{
	if (exchange_relaxed(object, FREE_MARK) != mark)
		wrong("in two hands");
	if (retire)
		sheaf_cache_free_rcu(caches[c], object);
	else
		sheaf_cache_free(caches[c], object);
}

/* Fresh memory of a slab is zero only the first time: the mark is what the cache must keep. */
static void fill(void)
{
	void *objects[2000];

	for (unsigned c = 0; c < CACHES; c++) {
		size_t n = sheaf_cache_alloc_bulk(caches[c], 0, 2000, objects);

		for (size_t i = 0; i < n; i++)
			*(uint64_t *)objects[i] = FREE_MARK;
		sheaf_cache_free_bulk(caches[c], n, objects);
	}
}

static void work(struct worker *w)
{
	unsigned c = (unsigned)test_below(&w->random, CACHES);
	unsigned n = (unsigned)test_below(&w->random, HAND);
	struct sheaf *sheaf;

	if (readers)
		urcu_bp_read_lock();
	while (w->n[c] < n && take(c, w->id, &w->hand[c][w->n[c]]))
		w->n[c]++;
	if (readers)
		urcu_bp_read_unlock();
	while (w->n[c] > n / 4) {
		w->n[c]--;
		drop(c, w->id, w->hand[c][w->n[c]], w->n[c] % 2);
	}
	switch (test_below(&w->random, 200)) {
	case 0:
		sheaf_cache_shrink(caches[c]);
		break;
	case 1:
		if (sheaf_cache_barrier(caches[c]))
			wrong("barrier");
		break;
	case 2:
		sheaf_cache_flush(caches[c]);
		break;
	default:
		sheaf = sheaf_cache_prefill(caches[c], 10, 0);
		sheaf_cache_return(caches[c], sheaf);
	}
}

static void *work_in_child(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < 20; i++)
		work(w);
	for (unsigned c = 0; c < CACHES; c++)
		while (w->n[c])
			drop(c, w->id, w->hand[c][--w->n[c]], false);
	return NULL;
}

/* As many as are free without asking for more, and some more; all different, all free. */
static void take_much(unsigned c)
{
	enum { MUCH = 3000 };
	static uint64_t *objects[MUCH];
	unsigned n = 0;

	while (n < MUCH && take(c, CHILD_MARK, &objects[n]))
		n++;
	if (n < MUCH)
		wrong("no memory in the child");
	while (n) {
		n--;
		drop(c, CHILD_MARK, objects[n], n % 2);
	}
}

static void child_of_child(void)
{
	for (unsigned c = 0; c < CACHES; c++) {
		take_much(c);
		if (sheaf_cache_barrier(caches[c]))
			wrong("barrier in the child of the child");
	}
	_exit(load_relaxed(&errors) ? 1 : 0);
}

static void child(struct worker *w, bool again)
{
	struct worker other = {.id = CHILD_MARK - 1, .random = w->random};
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 64};
	struct sheaf_cache *fresh;
	pthread_t thread;

	alarm(CHILD_SECONDS);
	for (unsigned c = 0; c < CACHES; c++) {
		/* Ours are still ours. */
		while (w->n[c]) {
			w->n[c]--;
			drop(c, w->id, w->hand[c][w->n[c]], w->n[c] % 2);
		}
		take_much(c);
		if (sheaf_cache_barrier(caches[c]))
			wrong("barrier in the child");
		sheaf_cache_shrink(caches[c]);
	}
	if (pthread_create(&thread, NULL, work_in_child, &other) == 0)
		pthread_join(thread, NULL);
	for (unsigned c = 0; c < CACHES; c++) {
		struct sheaf_cache_stats stats;

		if (!sheaf_cache_check(caches[c]))
			wrong("an invariant is broken in the child");
		sheaf_cache_stats(caches[c], &stats, sizeof(stats));
		if (stats.budget_used !=
		    (stats.backend_allocated - stats.backend_freed) * stats.object_size)
			wrong("a budget in the child");
	}
	if (sheaf_cache_create(&fresh, &attr) == 0) {
		sheaf_cache_free(fresh, sheaf_cache_alloc(fresh, 0));
		if (sheaf_cache_destroy(fresh, NULL))
			wrong("a new cache of the child");
	}
	if (again) {
		int status = 1;
		pid_t pid = fork();

		if (pid == 0)
			child_of_child();
		if (waitpid(pid, &status, 0) != pid || status)
			wrong("child of the child");
	}
	/* Destroy tells of what vanished threads held, and leaves the cache usable. */
	for (unsigned c = 0; c < CACHES; c++) {
		size_t live = 0;
		int err = sheaf_cache_destroy(caches[c], &live);

		if (err != 0 && (err != -EBUSY || !live))
			wrong("destroy in the child");
	}
	_exit(load_relaxed(&errors) ? 1 : 0);
}

static void fork_once(struct worker *w)
{
	uint64_t before = load_relaxed(&errors);
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		errors = 0;
		child(w, w->forks % 8 == 0);
	}
	if (pid < 0) {
		wrong("fork");
		return;
	}
	fetch_add_relaxed(&forks, 1);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		fprintf(stderr, "child ended with %x\n", status);
	fetch_add_relaxed(&errors, status != 0 && load_relaxed(&errors) == before);
}

static void *run(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->forks; i++) {
		for (unsigned k = 0; k < 30; k++)
			work(w);
		fork_once(w);
	}
	return NULL;
}

/* Works until the others have forked enough. */
static void *stay_busy(void *arg)
{
	struct worker *w = arg;

	while (!load_relaxed(&stop))
		work(w);
	return NULL;
}

/* As a user of this flavour has to. */
static void bp_before(void)
{
	if (readers)
		urcu_bp_before_fork();
}

static void bp_parent(void)
{
	if (readers)
		urcu_bp_after_fork_parent();
}

static void bp_child(void)
{
	if (readers)
		urcu_bp_after_fork_child();
}

static const struct rcu_flavor_struct *flavour(unsigned which)
{
	return which ? &urcu_bp_flavor : &urcu_memb_flavor;
}

START_TEST(fork_storm)
{
	static struct worker workers[THREADS];
	static const uint32_t capacities[CACHES] = {4, 60, 13};
	unsigned each = test_more(test_slow() ? 1 : 8);
	struct worker busy = {.id = THREADS + 1, .random = test_seed() | 1};
	pthread_t thread;

	readers = _i != 0;
	stop = 0;
	errors = forks = 0;
	ck_assert_int_eq(sheaf_gp_urcu_init(&source, flavour((unsigned)_i), NULL), 0);
	for (unsigned c = 0; c < CACHES; c++) {
		struct sheaf_cache_attr attr = {.size = sizeof(attr),
						.object_size = 32 << c,
						.capacity = capacities[c],
						.nodes = c == 2 ? 2 : 1,
						.gp = &source.gp};

		ck_assert_int_eq(sheaf_cache_create(&caches[c], &attr), 0);
	}
	fill();
	for (unsigned i = 0; i < THREADS; i++) {
		memset(&workers[i], 0, sizeof(workers[i]));
		workers[i].id = i + 1;
		workers[i].random = (test_seed() + i * 77) | 1;
		workers[i].forks = each;
	}
	ck_assert_int_eq(pthread_create(&thread, NULL, stay_busy, &busy), 0);
	test_threads(THREADS, run, workers, sizeof(workers[0]));
	store_relaxed(&stop, 1);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(errors, 0);
	ck_assert_uint_eq(forks, THREADS * each);
	for (unsigned c = 0; c < CACHES; c++) {
		for (unsigned i = 0; i <= THREADS; i++) {
			struct worker *w = i < THREADS ? &workers[i] : &busy;

			while (w->n[c])
				drop(c, w->id, w->hand[c][--w->n[c]], false);
		}
		ck_assert_int_eq(sheaf_cache_destroy(caches[c], NULL), 0);
	}
	ck_assert_uint_eq(errors, 0);
	sheaf_gp_urcu_fini(&source);
}
END_TEST

/* The parent's task was armed at the fork; the child has nobody to run that, and arms its own. */
START_TEST(child_seals_by_age)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = 32,
					.capacity = 4,
					.gp = &source.gp,
					.rcu_age_us = 200000};
	struct sheaf_cache_stats stats = {0};
	void *objects[8];
	uint64_t end;
	int status;
	pid_t pid;

	ck_assert_int_eq(sheaf_gp_urcu_init(&source, flavour(0), NULL), 0);
	ck_assert_int_eq(sheaf_cache_create(&caches[0], &attr), 0);
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(caches[0], 0, 8, objects), 8);
	sheaf_cache_free_rcu(caches[0], objects[0]);
	ck_assert_int_eq(sheaf_cache_barrier(caches[0]), 0);
	pid = fork();
	if (pid == 0) {
		/* Into an empty slot: nothing is sealed, no ticket is taken. */
		sheaf_cache_free_rcu(caches[0], objects[1]);
		for (end = test_patience_ms() + 15000; !stats.aged && test_patience_ms() < end;) {
			test_sleep_ms(1);
			sheaf_cache_stats(caches[0], &stats, sizeof(stats));
		}
		_exit(stats.aged ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	sheaf_cache_free_bulk(caches[0], 7, objects + 1);
	ck_assert_int_eq(sheaf_cache_destroy(caches[0], NULL), 0);
	sheaf_gp_urcu_fini(&source);
}
END_TEST

/* A backend whose caller can be held up: before objects have gone, or after they have come. */
static uint32_t hold_calls, held;

static void hold_up(void)
{
	if (!load_acquire(&hold_calls))
		return;
	store_release(&held, 1);
	while (load_acquire(&hold_calls))
		sched_yield();
}

static size_t slow_alloc(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	(void)ctx;
	(void)node;
	(void)flags;
	for (size_t i = 0; i < n; i++)
		objects[i] = malloc(64);
	hold_up();
	return n;
}

static void slow_free(void *ctx, size_t n, void *const *objects)
{
	(void)ctx;
	hold_up();
	for (size_t i = 0; i < n; i++)
		free(objects[i]);
}

static void *fill_and_shrink(void *arg)
{
	void *object = sheaf_cache_alloc(arg, 0);

	sheaf_cache_free(arg, object);
	sheaf_cache_shrink(arg);
	return NULL;
}

/* What a thread that is not there had in its hands is out, for destroy and for the budget. */
START_TEST(books_of_a_child)
{
	static const struct sheaf_backend_ops ops = {
		.name = "slow", .alloc_bulk = slow_alloc, .free_bulk = slow_free};
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 64, .capacity = 4,
					.nodes = 1, .backend = {&ops, NULL}};
	uint64_t used = sheaf_budget_used();
	struct sheaf_cache_stats stats;
	struct sheaf_cache *cache;
	pthread_t thread;
	size_t live;
	int status;

	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	if (_i) /* the shrink is held up, else the allocation */
		sheaf_cache_free(cache, sheaf_cache_alloc(cache, 0));
	held = 0;
	store_release(&hold_calls, 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, fill_and_shrink, cache), 0);
	while (!load_acquire(&held))
		sched_yield();
	if (fork() == 0) {
		hold_calls = 0;
		status = sheaf_cache_destroy(cache, &live);
		if (status != -EBUSY || live != 4)
			_exit(1);
		sheaf_cache_stats(cache, &stats, sizeof(stats));
		_exit(stats.budget_used != live * 64 || sheaf_budget_used() != used + live * 64);
	}
	ck_assert_int_gt(wait(&status), 0);
	store_release(&hold_calls, 0);
	pthread_join(thread, NULL);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), 0);
	ck_assert_uint_eq(sheaf_budget_used(), used);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("fork");

	pthread_atfork(bp_before, bp_parent, bp_child);
	tcase_set_timeout(tc, test_full() ? 3600 : 120);
	tcase_add_loop_test(tc, fork_storm, 0, 2);
	tcase_add_test(tc, child_seals_by_age);
	tcase_add_loop_test(tc, books_of_a_child, 0, 2);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
