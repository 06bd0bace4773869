/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the cache, used by several threads at once: whatever they do with it, while
 * yet another one keeps taking their slots over (shrink, barrier, statistics) and
 * threads come and go, no object is in two hands, none is lost, what its last owner
 * wrote happened before what its next one does, and the sums are right at the end. Then: a
 * barrier and a shrink bring home everything that was retired before them, although
 * the retiring goes on. Capacities are 2 and 3, so that nearly every call is a slow one.
 */
#include <urcu/urcu-memb.h>

#include "arena.h"
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"
#include "lazy.h"

#include <sched.h>
#include <string.h>

#define HAND 10
#define THREADS_MOST 4

static const struct variant {
	const char *name;
	uint32_t capacity;
	uint32_t limit;
	unsigned threads;
	unsigned nodes;
	/* Threads end and are made anew so many times. */
	unsigned generations;
	bool remote;
	bool retires;
} variants[] = {
	{"two threads", 2, 2, 2, 1, 1, false, false},
	{"retire", 2, 2, 3, 1, 1, false, true},
	{"taken over", 2, 3, 2, 1, 1, true, false},
	{"taken over, retire", 3, 3, 3, 1, 1, true, true},
	{"no barn", 2, UINT32_MAX, 2, 1, 1, true, true},
	{"two nodes", 2, 3, 3, 2, 1, true, true},
	{"four nodes", 3, 2, 4, 4, 1, true, true},
	{"threads come and go", 2, 3, 3, 2, 60, true, true},
};

#define VARIANTS (sizeof(variants) / sizeof(variants[0]))

struct object {
	uint64_t contents;
	void *self;
};

struct worker {
	uint32_t me;
	unsigned rounds;
	uint64_t state;
	unsigned in_hand;
	unsigned errors;
	unsigned got;
	struct object *hand[HAND + 8];
};

static const struct variant *variant;
static struct arena arena;
static struct sheaf_cache *cache;
static bool stop;

/* Plain writes: ThreadSanitizer sees if the last owner's are not ordered before. */
static void hand_add(struct worker *w, void *object)
{
	struct object *o = object;

	if (!o)
		return;
	w->errors += !arena_own(&arena, o, w->me);
	o->contents = w->me;
	o->self = o;
	w->got++;
	w->hand[w->in_hand++] = o;
}

static void *hand_remove(struct worker *w)
{
	unsigned i = (unsigned)test_below(&w->state, w->in_hand);
	struct object *o = w->hand[i];

	w->hand[i] = w->hand[--w->in_hand];
	w->errors += o->contents != w->me || o->self != o;
	w->errors += !arena_disown(&arena, o, w->me);
	return o;
}

static void bulk(struct worker *w)
{
	void *objects[HAND];
	size_t n = test_below(&w->state, HAND), i;

	if (w->in_hand + n <= HAND) {
		n = sheaf_cache_alloc_bulk(cache, n % 3 ? 0 : SHEAF_NOWAIT, n, objects);
		for (i = 0; i < n; i++)
			hand_add(w, objects[i]);
		return;
	}
	for (i = 0; i < n && w->in_hand; i++)
		objects[i] = hand_remove(w);
	sheaf_cache_free_bulk(cache, i, objects);
}

static void borrow(struct worker *w)
{
	uint32_t n = (uint32_t)test_below(&w->state, 5);
	struct sheaf *sheaf = sheaf_cache_prefill(cache, n, n % 2 ? 0 : SHEAF_NOWAIT);

	if (!sheaf)
		return;
	w->errors += sheaf_size(sheaf) < n;
	while (w->in_hand < HAND && n--)
		hand_add(w, sheaf_cache_alloc_from(cache, sheaf));
	sheaf_cache_return(cache, sheaf);
}

static void work_once(struct worker *w)
{
	uint64_t what = test_below(&w->state, 100);

	if (what < 10)
		bulk(w);
	else if (what < 15)
		borrow(w);
	else if (what < 16)
		sheaf_cache_flush(cache);
	else if (what < 55 && w->in_hand < HAND)
		hand_add(w, sheaf_cache_alloc(cache, what % 8 ? 0 : SHEAF_NOWAIT));
	else if (!w->in_hand)
		return;
	else if (what < 75 && variant->retires)
		sheaf_cache_free_rcu(cache, hand_remove(w));
	else
		sheaf_cache_free(cache, hand_remove(w));
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = w->rounds; i; i--)
		work_once(w);
	while (w->in_hand)
		sheaf_cache_free(cache, hand_remove(w));
	return NULL;
}

/* A thread takes itself for one of any node, and changes its mind. */
static int wandering_node(void *arg)
{
	static __thread unsigned calls;

	(void)arg;
	return (int)(++calls / 16);
}

struct remote {
	uint64_t state;
	unsigned errors;
	unsigned rounds;
};

static void *take_over(void *arg)
{
	struct remote *r = arg;
	struct sheaf_cache_stats stats;

	/* Once at least, however late this thread begins. */
	do {
		switch (test_below(&r->state, 4)) {
		case 0:
			sheaf_cache_shrink(cache);
			break;
		case 1:
			r->errors += sheaf_cache_barrier(cache) != 0;
			break;
		default:
			sheaf_cache_stats(cache, &stats, sizeof(stats));
			r->errors += !stats.cpu_slots && stats.slots > 4 * THREADS_MOST + 2;
		}
		if (r->rounds++ % 4 == 0)
			sched_yield();
	} while (!load_acquire(&stop));
	return NULL;
}

static unsigned run_workers(uint64_t seed)
{
	static struct worker workers[THREADS_MOST];
	unsigned rounds = test_rounds(1500000) / variant->generations + 1, errors = 0, got = 0;

	for (unsigned g = 0; g < variant->generations; g++) {
		for (unsigned i = 0; i < variant->threads; i++)
			workers[i] = (struct worker){
				.me = ARENA_USER + i, .rounds = rounds, .state = seed + g * 8 + i};
		test_threads(variant->threads, work, workers, sizeof(workers[0]));
		for (unsigned i = 0; i < variant->threads; i++) {
			errors += workers[i].errors;
			got += workers[i].got;
		}
	}
	ck_assert_uint_gt(got, 0);
	return errors;
}

START_TEST(no_object_in_two_hands)
{
	const struct sheaf_gp_driver_attr spacing = {.size = sizeof(spacing), .spacing_us = 20};
	struct remote remote = {.state = test_seed()};
	struct sheaf_gp_urcu urcu;
	struct sheaf_cache_stats s;
	pthread_t thread;
	unsigned errors;

	variant = &variants[_i];
	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &spacing), 0);
	arena_init(&arena, sizeof(struct object));
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = variant->capacity,
					    .barn_full = variant->limit,
					    .barn_empty = variant->limit,
					    .nodes = variant->nodes,
					    .current_node = wandering_node,
					    .gp = variant->retires ? &urcu.gp : NULL,
				    });
	arena.nowait_too = _i % 2;
	stop = false;
	if (variant->remote)
		ck_assert_int_eq(pthread_create(&thread, NULL, take_over, &remote), 0);
	errors = run_workers(test_seed());
	store_release(&stop, true);
	if (variant->remote) {
		pthread_join(thread, NULL);
		ck_assert_uint_gt(remote.rounds, 0);
	}
	ck_assert_msg(errors + remote.errors + arena.errors == 0, "%s: %u errors", variant->name,
		      errors + remote.errors + arena.errors);
	s = cache_stats_at_rest(cache);
	/* As many slots as there were threads at one time. */
	ck_assert(s.cpu_slots || s.slots <= variant->threads + 1);
	ck_assert_uint_eq(s.held_lent + s.abandoned, 0);
	ck_assert_uint_eq(s.held_slots + s.held_barns + s.in_flight, arena_out(&arena));
	arena_cache_end(&arena, cache);
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

/* What was retired before a barrier: nothing is ripe by chance. */
static struct lazy lazy;

#define STOCK 1000

struct retirer {
	void *stock[STOCK];
	uint32_t retired;
	uint64_t state;
};

static void *retire_stock(void *arg)
{
	struct retirer *r = arg;

	for (unsigned i = 0; i < STOCK; i++) {
		sheaf_cache_free_rcu(cache, r->stock[i]);
		store_release(&r->retired, i + 1);
		if (!test_below(&r->state, 64))
			sheaf_cache_flush(cache);
		if (!test_below(&r->state, 16))
			sched_yield();
	}
	return NULL;
}

/* Everybody else has ended or only retires: nothing is allocated again. */
static unsigned missed(const struct retirer *r, uint32_t n)
{
	unsigned wrong = 0;

	for (uint32_t i = 0; i < n; i++)
		wrong += load_relaxed(&arena.owner[arena_index(&arena, r->stock[i])]) !=
			 ARENA_BACKEND;
	return wrong;
}

START_TEST(barrier_misses_nothing)
{
	static struct retirer retirers[2];
	uint64_t seed = test_seed();

	for (unsigned round = test_rounds(30); round; round--) {
		pthread_t threads[2];
		uint32_t seen[2] = {0, 0};
		unsigned wrong = 0;

		lazy_begin(&lazy);
		arena_init(&arena, sizeof(struct object));
		cache = arena_cache(&arena, (struct sheaf_cache_attr){
						    .capacity = 2 + round % 2,
						    .nodes = 1 + round % 3,
						    .current_node = wandering_node,
						    .gp = &lazy.gp,
					    });
		for (unsigned t = 0; t < 2; t++) {
			retirers[t].retired = 0;
			retirers[t].state = seed + round * 2 + t;
			ck_assert_uint_eq(
				sheaf_cache_alloc_bulk(cache, 0, STOCK, retirers[t].stock), STOCK);
		}
		for (unsigned t = 0; t < 2; t++)
			pthread_create(&threads[t], NULL, retire_stock, &retirers[t]);
		while (seen[0] < STOCK || seen[1] < STOCK) {
			for (unsigned t = 0; t < 2; t++)
				seen[t] = load_acquire(&retirers[t].retired);
			wrong += sheaf_cache_barrier(cache) != 0;
			sheaf_cache_shrink(cache);
			for (unsigned t = 0; t < 2; t++)
				wrong += missed(&retirers[t], seen[t]);
			sched_yield();
		}
		for (unsigned t = 0; t < 2; t++)
			pthread_join(threads[t], NULL);
		ck_assert_uint_eq(wrong, 0);
		arena_cache_end(&arena, cache);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("race");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, no_object_in_two_hands, 0, VARIANTS);
	tcase_add_test(tc, barrier_misses_nothing);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
