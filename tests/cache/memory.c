/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the cache when memory ends: every allocation that the library makes,
 * and every object that the backend gives, fails once, and fails from then on, in a
 * thread that does everything a thread can do with a cache. Whatever fails says so (NULL,
 * fewer, -ENOMEM) and nothing else: no object is lost or doubled, the cache is usable
 * afterwards, and gives everything back at its end.
 */
#include "base/memory.h"
#include "arena.h"
#include "cache_state.h"
#include "common.h"

#include <errno.h>

#define CAPACITY 3
#define MANY 40

static struct arena arena;
static struct sheaf_gp_manual manual;
static struct sheaf_cache *cache;

/* What a thread holds. */
struct hand {
	void *objects[MANY];
	unsigned n;
	unsigned errors;
};

static void hand_add(struct hand *hand, void *object)
{
	if (!object)
		return;
	hand->errors += !arena_own(&arena, object, ARENA_USER);
	hand->objects[hand->n++] = object;
}

static void *hand_remove(struct hand *hand)
{
	void *object = hand->objects[--hand->n];

	hand->errors += !arena_disown(&arena, object, ARENA_USER);
	return object;
}

static void singles(struct hand *hand)
{
	for (unsigned i = 0; i < MANY; i++)
		hand_add(hand, sheaf_cache_alloc(cache, i % 5 ? 0 : SHEAF_NOWAIT));
	while (hand->n > 4)
		sheaf_cache_free(cache, hand_remove(hand));
}

static void bulks(struct hand *hand)
{
	void *bulk[MANY];
	unsigned want = MANY - hand->n;
	size_t got = sheaf_cache_alloc_bulk(cache, 0, want, bulk);

	hand->errors += got > want;
	for (size_t i = 0; i < got; i++)
		hand_add(hand, bulk[i]);
	for (got = 0; hand->n > 2; got++)
		bulk[got] = hand_remove(hand);
	sheaf_cache_free_bulk(cache, got, bulk);
}

static void sheaves(struct hand *hand, uint32_t n, unsigned flags)
{
	struct sheaf *sheaf = sheaf_cache_prefill(cache, n, flags);
	uint32_t size, have = hand->n;

	if (!sheaf)
		return;
	while (hand->n < have + n / 2)
		hand_add(hand, sheaf_cache_alloc_from(cache, sheaf));
	size = sheaf_size(sheaf);
	if (sheaf_cache_refill(cache, &sheaf, n + CAPACITY, 0)) {
		hand->errors += sheaf_size(sheaf) < size;
		n -= n / 2;
	} else {
		n += CAPACITY;
	}
	/* What was promised must be there. */
	for (; n; n--) {
		void *object = sheaf_cache_alloc_from(cache, sheaf);

		hand->errors += !object;
		hand_add(hand, object);
	}
	sheaf_cache_return(cache, sheaf);
	while (hand->n)
		sheaf_cache_free(cache, hand_remove(hand));
}

static void retires(struct hand *hand)
{
	for (unsigned i = 0; i < MANY / 2; i++)
		hand_add(hand, sheaf_cache_alloc(cache, 0));
	while (hand->n) {
		sheaf_cache_free_rcu(cache, hand_remove(hand));
		if (hand->n % 7 == 0)
			sheaf_gp_manual_step(&manual);
	}
}

static void *do_everything(void *arg)
{
	struct hand *hand = arg;
	struct sheaf_cache_stats stats;

	singles(hand);
	bulks(hand);
	sheaves(hand, 2, SHEAF_STRICT);
	sheaves(hand, CAPACITY + 5, 0);
	retires(hand);
	sheaf_cache_barrier(cache);
	sheaf_gp_manual_step(&manual);
	sheaf_cache_stats(cache, &stats, sizeof(stats));
	singles(hand);
	sheaf_cache_flush(cache);
	bulks(hand);
	sheaf_cache_shrink(cache);
	retires(hand);
	singles(hand);
	while (hand->n)
		sheaf_cache_free(cache, hand_remove(hand));
	return NULL;
}

static void begin(void)
{
	arena_init(&arena, 16);
	sheaf_gp_manual_init(&manual, UINT64_MAX - 1);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = CAPACITY,
					    .barn_full = 2,
					    .barn_empty = 1,
					    .nodes = 1,
					    .gp = &manual.gp,
				    });
}

/* Nobody reads: what was abandoned can be found by its stamp and taken back. */
static void take_back_abandoned(void)
{
	struct sheaf_cache_stats s = cache_stats(cache);
	uint64_t lost = arena_out(&arena) - s.held_slots - s.held_barns - s.in_flight;

	ck_assert_uint_eq(lost, s.abandoned);
	arena.freed += lost;
	cache->backend_freed += lost;
	cache->abandoned = 0;
}

static void check_after(struct hand *hand)
{
	ck_assert_uint_eq(hand->errors, 0);
	ck_assert_uint_eq(hand->n, 0);
	ck_assert_uint_eq(arena.errors, 0);
	ck_assert(sheaf_cache_check(cache));
	take_back_abandoned();
	/* It works as ever. */
	do_everything(hand);
	ck_assert_uint_eq(hand->errors, 0);
	ck_assert_uint_eq(cache_stats(cache).abandoned, 0);
	ck_assert_int_eq(sheaf_cache_barrier(cache), -EDEADLK);
	sheaf_gp_manual_step(&manual);
	arena_cache_end(&arena, cache);
}

/* Runs it in a new thread, so that its slot and table are among what can fail. */
static bool run_failing(unsigned nth, bool all)
{
	struct hand hand = {.n = 0};
	pthread_t thread;
	bool failed;

	begin();
	test_fail_nth(nth, all);
	ck_assert_int_eq(pthread_create(&thread, NULL, do_everything, &hand), 0);
	pthread_join(thread, NULL);
	failed = test_fail_end();
	check_after(&hand);
	return failed;
}

START_TEST(every_allocation_fails)
{
	unsigned n = 0;

	while (run_failing(n, _i))
		n++;
	ck_assert_uint_gt(n, 10);
}
END_TEST

START_TEST(backend_ends_anywhere)
{
	for (unsigned most = 0; most <= MANY + 10; most++)
		for (unsigned per_call = 1; per_call <= CAPACITY + 1; per_call++) {
			struct hand hand = {.n = 0};

			begin();
			arena.most = most;
			arena.per_call = per_call;
			do_everything(&hand);
			arena.most = arena.per_call = ARENA_OBJECTS;
			check_after(&hand);
		}
}
END_TEST

START_TEST(backend_and_library_end_together)
{
	uint64_t state = test_seed();

	for (unsigned round = test_rounds(300); round; round--) {
		struct hand hand = {.n = 0};

		begin();
		arena.most = (unsigned)test_below(&state, MANY);
		test_fail_nth((unsigned)test_below(&state, 40), test_below(&state, 2));
		do_everything(&hand);
		test_fail_end();
		arena.most = ARENA_OBJECTS;
		check_after(&hand);
	}
}
END_TEST

/* Create with each kind of backend: -ENOMEM and nothing left, until it has all it needs. */
START_TEST(create_without_memory)
{
	static const size_t sizes[] = {8, 1000, 100000};
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .nodes = 3};

	for (unsigned i = 0; i < 4; i++) {
		int err = -ENOMEM;

		arena_init(&arena, 16);
		attr.object_size = i < 3 ? sizes[i] : 16;
		if (i == 3)
			attr.backend = arena_backend(&arena);
		for (unsigned n = 0; err; n++) {
			test_fail_nth(n, false);
			err = sheaf_cache_create(&cache, &attr);
			ck_assert_int_eq(test_fail_end(), err != 0);
			ck_assert(!err || err == -ENOMEM);
			ck_assert(!arena.destroyed);
		}
		sheaf_cache_free(cache, sheaf_cache_alloc(cache, 0));
		ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
		arena_fini(&arena);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("memory");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, every_allocation_fails, 0, 2);
	tcase_add_test(tc, backend_ends_anywhere);
	tcase_add_test(tc, backend_and_library_end_together);
	tcase_add_test(tc, create_without_memory);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
