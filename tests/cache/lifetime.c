/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that threads may end anyhow while caches are in use (return, pthread_exit(),
 * pthread_cancel(), and destructors of thread-specific data that use the cache once more),
 * and that a module which links the library may be opened, used by threads that go on
 * running, and closed: nothing is lost, and nothing of the module is used afterwards. And
 * that a program with many caches may fork under a checker.
 */
#include "arena.h"
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sheaf/gp.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define CAPACITY 4

static struct arena arena;
static struct sheaf_cache *cache;
static struct sheaf_gp_manual source;

static void begin(void)
{
	sheaf_gp_manual_init(&source, 0);
	arena_init(&arena, 32);
	cache = arena_cache(&arena,
			    (struct sheaf_cache_attr){.capacity = CAPACITY, .gp = &source.gp});
}

static void end(void)
{
	(void)sheaf_cache_barrier(cache);
	sheaf_gp_manual_step(&source);
	arena_cache_end(&arena, cache);
}

/* Objects in the hands of a thread, given back by who waits for it. */
struct hand {
	void *objects[64];
	unsigned n;
	unsigned rounds;
	uint64_t random;
};

/* One turn. The library must have no cancellation point in it, and there is none here (assertions of
 * the test framework write to a file), so an object is never in a variable only when the thread
 * is cancelled. */
static void turn(struct hand *hand, uint64_t *random)
{
	struct sheaf *sheaf;

	while (hand->n < 32 + test_below(random, 32)) {
		void *object = sheaf_cache_alloc(cache, 0);

		/* What is retired comes back when the source is stepped. */
		if (!object)
			break;
		hand->objects[hand->n++] = object;
	}
	sheaf = sheaf_cache_prefill(cache, CAPACITY * 2, 0);
	sheaf_cache_return(cache, sheaf);
	while (hand->n > test_below(random, 16)) {
		void *object = hand->objects[--hand->n];

		if (hand->n % 3)
			sheaf_cache_free(cache, object);
		else
			sheaf_cache_free_rcu(cache, object);
	}
	hand->rounds++;
}

static void *until_cancelled(void *arg)
{
	struct hand *hand = arg;

	for (;;) {
		turn(hand, &hand->random);
		pthread_testcancel();
	}
	return NULL;
}

static void empty_hand(struct hand *hand)
{
	while (hand->n)
		sheaf_cache_free(cache, hand->objects[--hand->n]);
}

START_TEST(cancelled_threads_leave_nothing)
{
	unsigned rounds = 0;

	begin();
	for (unsigned k = 0; k < test_rounds(20); k++) {
		struct hand hands[THREADS] = {0};
		pthread_t threads[THREADS];

		for (unsigned i = 0; i < THREADS; i++)
			hands[i].random = (test_seed() + k * THREADS + i) | 1;
		for (unsigned i = 0; i < THREADS; i++)
			ck_assert_int_eq(
				pthread_create(&threads[i], NULL, until_cancelled, &hands[i]), 0);
		for (unsigned i = 0; i < 5; i++) {
			test_sleep_ms(1);
			sheaf_gp_manual_step(&source);
		}
		for (unsigned i = 0; i < THREADS; i++)
			pthread_cancel(threads[i]);
		for (unsigned i = 0; i < THREADS; i++) {
			void *how;

			pthread_join(threads[i], &how);
			ck_assert_ptr_eq(how, PTHREAD_CANCELED);
			rounds += hands[i].rounds;
			empty_hand(&hands[i]);
		}
		sheaf_gp_manual_step(&source);
	}
	ck_assert_uint_gt(rounds, 0);
	if (!cache_stats(cache).cpu_slots)
		ck_assert_uint_le(cache_stats(cache).slots, THREADS + 1);
	end();
}
END_TEST

static uint32_t remote_began, remote_ended;

/* AddressSanitizer does not clean the stack of a frame that cancellation ends: nothing lies there. */
static void *look_and_tell(void *arg)
{
	static struct sheaf_cache_stats stats;

	store_release(&remote_began, 1);
	sheaf_cache_stats(cache, &stats, sizeof(stats));
	store_release(&remote_ended, 1);
	pthread_testcancel();
	return arg;
}

/* It waits for an owner who is inside a slot, with a lock that all others want. */
START_TEST(cancelled_remote_parties_finish)
{
	struct slot *slot;
	pthread_t thread;
	void *how;

	sheaf_gp_manual_init(&source, 0);
	arena_init(&arena, 32);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){.capacity = CAPACITY,
							      .gp = &source.gp,
							      .slots = SHEAF_SLOTS_THREAD});
	sheaf_cache_free(cache, sheaf_cache_alloc(cache, 0));
	slot = slot_find(cache);
	store_relaxed(&slot->busy, 1);
	remote_began = remote_ended = 0;
	ck_assert_int_eq(pthread_create(&thread, NULL, look_and_tell, NULL), 0);
	while (!load_acquire(&remote_began))
		test_pause();
	pthread_cancel(thread);
	/* Long enough to sleep between two looks. */
	test_sleep_ms(50);
	store_release(&slot->busy, 0);
	pthread_join(thread, &how);
	ck_assert_ptr_eq(how, PTHREAD_CANCELED);
	ck_assert_uint_eq(remote_ended, 1);
	end();
}
END_TEST

static pthread_key_t late;

/* Runs after the library's own destructor, or before: both orders occur. */
static void use_once_more(void *arg)
{
	struct hand *hand = arg;

	empty_hand(hand);
	hand->objects[hand->n++] = sheaf_cache_alloc(cache, 0);
	sheaf_cache_free_rcu(cache, hand->objects[--hand->n]);
	if (hand->rounds++ < 3)
		pthread_setspecific(late, hand);
}

static void *exits_late(void *arg)
{
	struct hand *hand = arg;

	pthread_setspecific(late, hand);
	hand->objects[hand->n++] = sheaf_cache_alloc(cache, 0);
	pthread_exit(NULL);
}

START_TEST(destructors_may_use_the_cache)
{
	ck_assert_int_eq(pthread_key_create(&late, use_once_more), 0);
	begin();
	for (unsigned k = 0; k < 30; k++) {
		struct hand hands[THREADS] = {0};

		test_threads(THREADS, exits_late, hands, sizeof(hands[0]));
		for (unsigned i = 0; i < THREADS; i++)
			ck_assert_uint_ge(hands[i].rounds, 4);
	}
	end();
	pthread_key_delete(late);
}
END_TEST

/* The module, used by a thread that lives on after it was closed. */
struct visit {
	int (*run)(struct sheaf_cache **kept);
	struct sheaf_cache *kept;
	uint32_t step;
	int result;
};

static void *visitor(void *arg)
{
	struct visit *visit = arg;

	visit->result = visit->run(&visit->kept);
	store_release(&visit->step, 1);
	while (load_acquire(&visit->step) != 2)
		test_pause();
	/* The scheduler has looked at what the module left with this thread many times by now. */
	for (unsigned i = 0; i < 100; i++)
		test_pause();
	return NULL;
}

START_TEST(modules_come_and_go)
{
	for (unsigned k = 0; k < test_rounds(20); k++) {
		void *module = dlopen(_i ? PLUGIN_WHOLE : PLUGIN, RTLD_NOW | RTLD_LOCAL);
		int (*module_end)(struct sheaf_cache *);
		struct visit visits[THREADS] = {0};
		pthread_t threads[THREADS];

		ck_assert_msg(module != NULL, "%s", dlerror());
		*(void **)&module_end = dlsym(module, "plugin_end");
		for (unsigned i = 0; i < THREADS; i++) {
			*(void **)&visits[i].run = dlsym(module, "plugin_run");
			ck_assert_int_eq(pthread_create(&threads[i], NULL, visitor, &visits[i]), 0);
		}
		for (unsigned i = 0; i < THREADS; i++) {
			while (load_acquire(&visits[i].step) != 1)
				test_pause();
			ck_assert_int_eq(visits[i].result, 0);
			ck_assert_int_eq(module_end(visits[i].kept), 0);
		}
		ck_assert_int_eq(dlclose(module), 0);
		for (unsigned i = 0; i < THREADS; i++)
			store_release(&visits[i].step, 2);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
	}
}
END_TEST

static void *wait_for_end(void *arg)
{
	while (!load_acquire((uint32_t *)arg))
		test_sleep_ms(1);
	return arg;
}

/* More locks than ThreadSanitizer lets a thread hold. */
START_TEST(many_caches_fork)
{
	/* No trims: their thread cannot be made in the checker's child. */
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 64, .trim_us = UINT32_MAX};
	struct sheaf_cache *caches[100];
	int status, wrong = 0;
	uint32_t end = 0;
	pthread_t other;
	pid_t child;

	/* With threads the checker does less in the child; and others' malloc may stay locked there. */
	if (test_tsan())
		ck_assert_int_eq(pthread_create(&other, NULL, wait_for_end, &end), 0);
	for (unsigned i = 0; i < 100; i++)
		ck_assert_int_eq(sheaf_cache_create(&caches[i], &attr), 0);
	child = fork();
	for (unsigned i = 0; i < 100; i++) {
		sheaf_cache_free(caches[i], sheaf_cache_alloc(caches[i], 0));
		sheaf_cache_shrink(caches[i]);
		wrong |= sheaf_cache_destroy(caches[i], NULL);
	}
	if (child == 0)
		_exit(wrong != 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(wrong, 0);
	store_release(&end, 1);
	if (test_tsan())
		pthread_join(other, NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("lifetime");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, cancelled_threads_leave_nothing);
	tcase_add_test(tc, cancelled_remote_parties_finish);
	/* ThreadSanitizer has ended its part of a thread by the last round of destructors. */
	if (!test_tsan())
		tcase_add_test(tc, destructors_may_use_the_cache);
	tcase_add_loop_test(tc, modules_come_and_go, 0, 2);
	tcase_add_test(tc, many_caches_fork);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
