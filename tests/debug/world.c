/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of debug mode and what is round it: SHEAF_DEBUG is read as it is written, for caches by name, and what is
 * bad in it is told of and changes nothing; without a callback the message goes to stderr and the program
 * aborts, if it was asked to; every allocation that fails is an error and nothing else; several threads, signal handlers and
 * children use it, of two who free an object at the same time one is told; two threads in
 * one prefilled sheaf are found; and what is known of an address is told in any state.
 */
#define _GNU_SOURCE
#include "base/memory.h"
#include "common.h"
#include "debug_state.h"
#include "watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 48

static struct sheaf_cache *make(const char *name, const struct sheaf_debug_attr *debug,
				struct sheaf_gp *gp)
{
	const struct sheaf_cache_attr attr = {.size = sizeof(attr),
					      .object_size = SIZE,
					      .name = name,
					      .capacity = 4,
					      .gp = gp,
					      .debug = debug};
	struct sheaf_cache *cache;

	return sheaf_cache_create(&cache, &attr) ? NULL : cache;
}

/* What create reads in the variable. */
static struct debug read_as(const char *text, const char *name)
{
	struct sheaf_cache *cache;
	struct debug found = {0};

	setenv("SHEAF_DEBUG", text, 1);
	cache = make(name, NULL, NULL);
	unsetenv("SHEAF_DEBUG");
	ck_assert_ptr_nonnull(cache);
	if (watch_writes(cache))
		found = *cache->watch->debug;
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
	return found;
}

START_TEST(words)
{
	static const struct {
		const char *text;
		const char *name;
		unsigned flags;
		uint32_t quarantine, sample, fail;
		uint64_t seed;
	} cases[] = {
		{"", "a", 0, 0, 0, 0, 0},
		{"none", "a", 0, 0, 0, 0, 0},
		{"poison", "a", SHEAF_DEBUG_POISON, 0, 0, 0, 0},
		{"all", "a", 127 & ~SHEAF_DEBUG_STRICT, 0, 0, 0, 0},
		{"all,strict", "a", 127, 0, 0, 0, 0},
		{"redzone,owner,trace,leaks,abort", "a", 2 | 4 | 8 | 16 | 64, 0, 0, 0, 0},
		{"quarantine=64,sample=1/100,fail=1/1000,seed=0x7fffffffffffffff", "a", 0, 64, 100,
		 1000, INT64_MAX},
		{"sample=9,fail=8,seed=7", "a", 0, 0, 9, 8, 7},
		{"poison:a", "a", 1, 0, 0, 0, 0},
		{"poison:a", "b", 0, 0, 0, 0, 0},
		{"poison:a", "ab", 0, 0, 0, 0, 0},
		{"poison:x,ab,y", "ab", 1, 0, 0, 0, 0},
		{"poison:a*", "abc", 1, 0, 0, 0, 0},
		{"poison:b*", "abc", 0, 0, 0, 0, 0},
		{"poison:a;redzone:b;owner", "a", 1, 0, 0, 0, 0},
		{"poison:a;redzone:b;owner", "b", 2, 0, 0, 0, 0},
		{"poison:a;redzone:b;owner", "c", 4, 0, 0, 0, 0},
		{"none:a;poison", "a", 0, 0, 0, 0, 0},
		{",,poison,;", "a", 1, 0, 0, 0, 0},
		{"poison,frobnicate,quarantine=,sample=x,fail=1/,seed=-1,redzone", "a", 3, 0, 0, 0,
		 0},
		{"quarantine=99999999,poison=3,abort", "a", 64, 0, 0, 0, 0},
	};
	struct debug found = read_as(cases[_i].text, cases[_i].name);

	ck_assert_uint_eq(found.flags, cases[_i].flags);
	ck_assert_uint_eq(found.quarantine_n, cases[_i].quarantine);
	ck_assert_uint_eq(found.sample, cases[_i].sample);
	ck_assert_uint_eq(found.fail, cases[_i].fail);
	ck_assert_uint_eq(found.seed, cases[_i].seed);
}
END_TEST

static void read_and_die(void *arg)
{
	setenv("SHEAF_DEBUG", arg, 1);
	for (unsigned i = 0; i < 3; i++)
		if (!make("a", NULL, NULL))
			_exit(1);
	fprintf(stderr, "then.");
	abort();
}

START_TEST(bad_words_are_told_once)
{
	char text[] = "poison,frobnicate";

	ck_assert(test_dies(
		read_and_die, text,
		"libsheaf: SHEAF_DEBUG: \"frobnicate\" is not understood, and passed over\n"
		"then."));
}
END_TEST

START_TEST(attributes)
{
	struct sheaf_debug_attr debug = {.size = sizeof(debug), .flags = 128};
	struct sheaf_cache *cache;

	ck_assert_ptr_null(make("a", &debug, NULL));
	debug.flags = SHEAF_DEBUG_POISON;
	debug.quarantine = (1u << 20) + 1;
	ck_assert_ptr_null(make("a", &debug, NULL));
	debug.quarantine = 0;
	debug.guards = 16385;
	ck_assert_ptr_null(make("a", &debug, NULL));
	debug.guards = 0;
	debug.size--;
	ck_assert_ptr_null(make("a", &debug, NULL));
	debug.size++;
	/* The attribute comes before the environment, also if it says nothing. */
	setenv("SHEAF_DEBUG", "all", 1);
	debug.flags = 0;
	cache = make("a", &debug, NULL);
	unsetenv("SHEAF_DEBUG");
	ck_assert_ptr_null(cache->watch);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
}
END_TEST

static void free_twice(void *arg)
{
	const struct sheaf_debug_attr debug = {
		.size = sizeof(debug), .flags = arg ? SHEAF_DEBUG_ABORT : SHEAF_DEBUG_OWNER};
	struct sheaf_cache *cache = make("twice", &debug, NULL);
	void *object = sheaf_cache_alloc(cache, 0);

	sheaf_cache_free(cache, object);
	sheaf_cache_free(cache, object);
	fprintf(stderr, "goes on");
	abort();
}

START_TEST(message_and_abort)
{
	char yes[] = "";

	ck_assert(test_dies(free_twice, yes, "libsheaf: cache twice: double free: 0x"));
	ck_assert(!test_dies(free_twice, yes, "goes on"));
	ck_assert(test_dies(free_twice, NULL, "libsheaf: cache twice: double free: 0x"));
	ck_assert(test_dies(free_twice, NULL, "  freed by thread"));
}
END_TEST

static void explain(void *arg)
{
	const int how = *(int *)arg;
	const struct sheaf_debug_attr debug = {
		.size = sizeof(debug), .flags = SHEAF_DEBUG_REDZONE, .sample = how > 3};
	struct sheaf_gp_manual manual;
	struct sheaf_cache *cache;
	char *object;

	sheaf_gp_manual_init(&manual, 0);
	cache = make("known", &debug, &manual.gp);
	object = sheaf_cache_alloc(cache, 0);
	/* Where an overrun ends that begins at the object: in the last byte of the page behind it, in the first of that before (if pages have 4096 bytes; if they have more, nearer). */
	if (how == 4)
		sheaf_debug_explain((char *)(((uintptr_t)object | 4095) + 4096));
	if (how == 5)
		sheaf_debug_explain((char *)(((uintptr_t)object & ~(uintptr_t)4095) - 4096));
	switch (how) {
	case 1:
		sheaf_cache_free(cache, object);
		break;
	case 2:
		sheaf_cache_free_rcu(cache, object);
		break;
	}
	if (how < 4)
		sheaf_debug_explain(how == 3 ? (char *)arg : object + 5);
	abort();
}

START_TEST(addresses_are_explained)
{
	static const char *const texts[] = {
		" of 48 bytes, of cache known, allocated\n  allocated by thread",
		" of 48 bytes, of cache known, free\n  allocated by thread",
		" of 48 bytes, of cache known, retired\n  allocated by thread",
		" is in no object of a cache with debug mode\n",
		" is byte 4143 of object ",
		" is byte -8144 of object ",
	};
	int how = _i;

	ck_assert(test_dies(explain, &how, texts[_i]));
	if (_i < 3)
		ck_assert(test_dies(explain, &how, " is byte 5 of object 0x"));
}
END_TEST

/*
 * Memory ends at each allocation in turn.
 */
static bool use_all(struct sheaf_cache *cache, struct sheaf_gp_manual *manual)
{
	void *objects[20];
	unsigned n = 0;
	bool all = true;

	for (unsigned i = 0; i < 20; i++) {
		objects[n] = sheaf_cache_alloc(cache, 0);
		all &= objects[n] != NULL;
		n += objects[n] != NULL;
	}
	while (n) {
		if (n % 2)
			sheaf_cache_free(cache, objects[--n]);
		else
			sheaf_cache_free_rcu(cache, objects[--n]);
	}
	sheaf_gp_manual_step(manual);
	return all;
}

START_TEST(memory_ends)
{
	struct sheaf_debug_attr debug = {.size = sizeof(debug),
					 .flags = 31 | SHEAF_DEBUG_ABORT,
					 .quarantine = 3,
					 .sample = 3,
					 .guards = 2};
	struct sheaf_gp_manual manual;
	struct sheaf_cache *cache;
	unsigned nth, none = 0, some = 0;

	for (nth = 0;; nth++) {
		size_t live = 0;
		bool all;

		sheaf_gp_manual_init(&manual, 0);
		test_fail_nth(nth, _i);
		cache = make("short", &debug, &manual.gp);
		if (!cache) {
			ck_assert(test_fail_end());
			none++;
			continue;
		}
		all = use_all(cache, &manual);
		some += !all;
		if (!test_fail_end()) {
			ck_assert(all);
			nth = UINT32_MAX - 1;
		}
		ck_assert(use_all(cache, &manual));
		if (sheaf_cache_barrier(cache) == -EDEADLK)
			sheaf_gp_manual_step(&manual);
		ck_assert(sheaf_cache_check(cache));
		/* Only what a cache without debug mode would have given up. */
		if (sheaf_cache_destroy(cache, &live)) {
			struct sheaf_cache_stats stats;

			sheaf_cache_stats(cache, &stats, sizeof(stats));
			ck_assert_uint_eq(live, stats.abandoned);
		}
		if (nth == UINT32_MAX - 1)
			break;
	}
	ck_assert_uint_ge(none, 5);
	ck_assert_uint_ge(some, 1);
}
END_TEST

/*
 * Threads.
 */
#define THREADS 4
#define PLACES 64

static struct {
	struct sheaf_cache *cache;
	void *places[PLACES];
	unsigned reports;
	unsigned kinds[SHEAF_DEBUG_RETURNED_SHEAF + 1];
	unsigned rounds;
} shared;

static void count_report(void *arg, const struct sheaf_debug_report *report)
{
	(void)arg;
	fetch_add_relaxed(&shared.reports, 1);
	fetch_add_relaxed(&shared.kinds[report->kind], 1);
}

/* Objects change hands through places, and go back in all ways. */
static void *trade(void *arg)
{
	uint64_t state = *(uint64_t *)arg;
	struct sheaf *sheaf;
	void *object;

	for (unsigned i = 0; i < shared.rounds; i++) {
		void **place = &shared.places[test_below(&state, PLACES)];

		object = sheaf_cache_alloc(shared.cache, 0);
		if (object)
			memset(object, (int)i, SIZE);
		object = exchange_acq_rel(place, object);
		switch (test_below(&state, 8)) {
		case 0:
			if (object)
				sheaf_cache_free_bulk(shared.cache, 1, &object);
			break;
		case 1:
		case 2:
			sheaf_cache_free_rcu(shared.cache, object);
			break;
		case 3:
			sheaf_cache_free_nowait(shared.cache, object);
			break;
		case 4:
			sheaf_cache_free_rcu_nowait(shared.cache, object);
			break;
		case 5:
			sheaf = sheaf_cache_prefill(shared.cache, 5, 0);
			sheaf_cache_free(shared.cache, object);
			if (sheaf) {
				sheaf_cache_free(shared.cache,
						 sheaf_cache_alloc_from(shared.cache, sheaf));
				sheaf_cache_return(shared.cache, sheaf);
			}
			break;
		default:
			sheaf_cache_free(shared.cache, object);
		}
		if (i % 500 == 0)
			sheaf_cache_shrink(shared.cache);
	}
	return NULL;
}

static void shared_begin_with(unsigned quarantine, unsigned sample, unsigned guards,
			      struct sheaf_gp *gp)
{
	const struct sheaf_debug_attr debug = {.size = sizeof(debug),
					       .flags = SHEAF_DEBUG_POISON | SHEAF_DEBUG_REDZONE |
							SHEAF_DEBUG_OWNER,
					       .quarantine = quarantine,
					       .sample = sample,
					       .guards = guards,
					       .report = count_report};

	memset(&shared, 0, sizeof(shared));
	shared.cache = make("shared", &debug, gp);
	ck_assert_ptr_nonnull(shared.cache);
}

static void shared_begin(unsigned quarantine, unsigned sample, struct sheaf_gp *gp)
{
	shared_begin_with(quarantine, sample, 8, gp);
}

static void shared_end(struct sheaf_gp_manual *manual)
{
	for (unsigned i = 0; i < PLACES; i++)
		sheaf_cache_free(shared.cache, shared.places[i]);
	if (sheaf_cache_barrier(shared.cache) == -EDEADLK)
		sheaf_gp_manual_step(manual);
	ck_assert(sheaf_cache_check(shared.cache));
	ck_assert_int_eq(sheaf_cache_destroy(shared.cache, NULL), 0);
}

static void *step(void *arg)
{
	struct sheaf_gp_manual *manual = arg;

	while (!load_relaxed(&shared.kinds[0])) {
		sheaf_gp_manual_step(manual);
		test_pause();
	}
	return NULL;
}

START_TEST(threads_trade)
{
	struct sheaf_gp_manual manual;
	uint64_t seeds[THREADS];
	pthread_t stepper;

	sheaf_gp_manual_init(&manual, 0);
	shared_begin(_i & 1 ? 1 : 0, _i & 2 ? 5 : 0, &manual.gp);
	shared.rounds = test_rounds(3000);
	for (unsigned i = 0; i < THREADS; i++)
		seeds[i] = test_seed() + i;
	ck_assert_int_eq(pthread_create(&stepper, NULL, step, &manual), 0);
	test_threads(THREADS, trade, seeds, sizeof(*seeds));
	store_relaxed(&shared.kinds[0], 1);
	pthread_join(stepper, NULL);
	ck_assert_uint_eq(shared.reports, 0);
	shared_end(&manual);
	ck_assert_uint_eq(shared.reports, 0);
}
END_TEST

/*
 * One uses the only guard, which is new then, and another one after him. They know of each other by a relaxed word,
 * so that ThreadSanitizer finds out if the guard does not hand on what was written about it.
 */
static void *use_guard(void *arg)
{
	const unsigned me = *(unsigned *)arg;
	char *object;

	while (load_relaxed(&shared.rounds) < me)
		test_pause();
	object = sheaf_cache_alloc(shared.cache, 0);
	ck_assert_ptr_nonnull(object);
	ck_assert_ptr_nonnull(object_find(object)->place);
	*object = (char)me;
	sheaf_cache_free(shared.cache, object);
	store_relaxed(&shared.rounds, me + 1);
	/* Who comes second does not get the slot of one who has ended, under a lock. */
	while (load_relaxed(&shared.rounds) < 2)
		test_pause();
	return NULL;
}

START_TEST(a_guard_goes_from_hand_to_hand)
{
	struct sheaf_gp_manual manual;

	sheaf_gp_manual_init(&manual, 0);
	for (unsigned round = 0; round < 10; round++) {
		unsigned order[2] = {0, 1};

		shared_begin_with(0, 1, 1, &manual.gp);
		test_threads(2, use_guard, order, sizeof(*order));
		shared_end(&manual);
		ck_assert_uint_eq(shared.reports, 0);
	}
}
END_TEST

/* All threads free the same objects: one of them does, the others are told. */
static pthread_barrier_t start;

static void *free_all(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&start);
	for (unsigned i = 0; i < PLACES; i++)
		sheaf_cache_free(shared.cache, shared.places[i]);
	return NULL;
}

START_TEST(one_of_two_frees)
{
	int unused[2];

	shared_begin(0, 0, NULL);
	pthread_barrier_init(&start, NULL, 2);
	for (unsigned round = 0; round < test_rounds(500); round++) {
		for (unsigned i = 0; i < PLACES; i++)
			shared.places[i] = sheaf_cache_alloc(shared.cache, 0);
		shared.reports = 0;
		test_threads(2, free_all, unused, sizeof(*unused));
		ck_assert_uint_eq(shared.reports, PLACES * (2 - 1));
		ck_assert_uint_eq(shared.kinds[SHEAF_DEBUG_DOUBLE_FREE] +
					  shared.kinds[SHEAF_DEBUG_NO_OBJECT],
				  (round + 1) * PLACES * (2 - 1));
	}
	pthread_barrier_destroy(&start);
	ck_assert(sheaf_cache_check(shared.cache));
	ck_assert_int_eq(sheaf_cache_destroy(shared.cache, NULL), 0);
}
END_TEST

/*
 * Signal handlers.
 */
static void on_alarm(int number)
{
	int saved = errno;
	void *object = sheaf_cache_alloc_nowait(shared.cache);

	(void)number;
	if (object && shared.rounds++ % 2)
		sheaf_cache_free_nowait(shared.cache, object);
	else
		sheaf_cache_free_rcu_nowait(shared.cache, object);
	errno = saved;
}

START_TEST(signal_handlers)
{
	const struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct sheaf_gp_manual manual;
	uint64_t end = test_ms() + 300;
	void *objects[10];

	sheaf_gp_manual_init(&manual, 0);
	shared_begin(5, 3, &manual.gp);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	while (test_ms() < end || load_relaxed(&shared.rounds) < 3) {
		for (unsigned i = 0; i < 10; i++)
			objects[i] = sheaf_cache_alloc(shared.cache, 0);
		for (unsigned i = 0; i < 10; i++)
			if (i % 2)
				sheaf_cache_free(shared.cache, objects[i]);
			else
				sheaf_cache_free_rcu(shared.cache, objects[i]);
		sheaf_gp_manual_step(&manual);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	ck_assert_uint_eq(shared.reports, 0);
	shared_end(&manual);
}
END_TEST

START_TEST(children)
{
	struct sheaf_gp_manual manual;
	void *object;
	pid_t child;
	int status;

	sheaf_gp_manual_init(&manual, 0);
	shared_begin(5, 2, &manual.gp);
	for (unsigned i = 0; i < PLACES; i++)
		shared.places[i] = sheaf_cache_alloc(shared.cache, 0);
	object = shared.places[0];
	child = fork();
	if (child == 0) {
		sheaf_cache_free(shared.cache, object);
		sheaf_cache_free(shared.cache, object);
		shared.places[0] = NULL;
		if (shared.reports != 1)
			_exit(1);
		shared_end(&manual);
		_exit(shared.reports != 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	sheaf_cache_free(shared.cache, object);
	shared.places[0] = NULL;
	ck_assert_uint_eq(shared.reports, 0);
	shared_end(&manual);
}
END_TEST

/* Two threads in one sheaf, one after the other and at the same time. */
static struct sheaf *lent;

static void *use_lent(void *arg)
{
	uint64_t end = test_patience_ms() + 10000;

	(void)arg;
	while (!load_relaxed(&shared.kinds[SHEAF_DEBUG_SHARED_SHEAF]) && test_patience_ms() < end) {
		void *object = sheaf_cache_alloc_from(shared.cache, lent);

		if (!object)
			break;
		sheaf_cache_free(shared.cache, object);
	}
	return NULL;
}

START_TEST(two_threads_in_a_sheaf)
{
	int unused[2];

	shared_begin(0, 0, NULL);
	lent = sheaf_cache_prefill(shared.cache, _i ? 1 << 18 : 1000, 0);
	ck_assert_ptr_nonnull(lent);
	test_threads(_i ? 2 : 1, use_lent, unused, sizeof(*unused));
	ck_assert_uint_eq(shared.reports, shared.kinds[SHEAF_DEBUG_SHARED_SHEAF]);
	ck_assert_int_eq(shared.reports != 0, _i);
	sheaf_cache_return(shared.cache, lent);
	ck_assert_int_eq(sheaf_cache_destroy(shared.cache, NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("debug");
	TCase *tc = tcase_create("world");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, words, 0, 21);
	if (!test_valgrind())
		tcase_add_test(tc, bad_words_are_told_once);
	tcase_add_test(tc, attributes);
	if (!test_valgrind()) {
		tcase_add_test(tc, message_and_abort);
		tcase_add_loop_test(tc, addresses_are_explained, 0, 6);
	}
	tcase_add_loop_test(tc, memory_ends, 0, 2);
	tcase_add_loop_test(tc, threads_trade, 0, 4);
	tcase_add_test(tc, a_guard_goes_from_hand_to_hand);
	tcase_add_test(tc, one_of_two_frees);
	tcase_add_test(tc, signal_handlers);
	tcase_add_test(tc, children);
	tcase_add_loop_test(tc, two_threads_in_a_sheaf, 0, 2);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
