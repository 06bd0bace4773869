/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that statistics agree with a shadow count that the callers keep: exactly when
 * nobody is in a call, whatever several threads have done with the cache, by which calls,
 * and who emptied it meanwhile; and within what <sheaf/stats.h> says while they go on. What
 * is retired and never ripe is found to the last object, too. Capacities are 2 to 5, so that
 * sheaves move at nearly every call.
 */
#include <urcu/urcu-memb.h>

#include "arena.h"
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <sched.h>
#include <sheaf/debug.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define HAND 24
#define THREADS 3

enum {
	RETIRES = 1,
	PREFILLS = 2,
	NOWAIT = 4,
	NODES = 8,
	DEBUG = 16,
	DISTURBED = 32,
	NEVER_RIPE = 64
};

static const struct variant {
	const char *name;
	unsigned does;
	uint32_t capacity;
	uint32_t limit;
	unsigned generations;
} variants[] = {
	{"alloc and free", 0, 2, 2, 1},
	{"no barn", 0, 3, UINT32_MAX, 1},
	{"retire", RETIRES, 3, 3, 1},
	{"never ripe", RETIRES | NEVER_RIPE, 2, 3, 1},
	{"never ripe, nowait", RETIRES | NEVER_RIPE | NOWAIT, 2, 3, 1},
	{"prefill", PREFILLS, 3, 2, 1},
	{"nowait", NOWAIT | RETIRES, 2, 1, 1},
	{"nodes", NODES | RETIRES, 2, 3, 1},
	{"debug", DEBUG | RETIRES | PREFILLS, 3, 3, 1},
	{"threads come and go", RETIRES | PREFILLS, 2, 3, 40},
	{"disturbed", DISTURBED | RETIRES, 3, 3, 1},
	{"all of it", RETIRES | PREFILLS | NOWAIT | NODES | DISTURBED, 3, 2, 10},
	{"all of it, debug", RETIRES | PREFILLS | NOWAIT | NODES | DISTURBED | DEBUG, 3, 2, 10},
};

#define VARIANTS (sizeof(variants) / sizeof(variants[0]))
/* Retired and never back, by each thread. */
#define RETIRED_MOST 600

struct worker {
	uint64_t state;
	unsigned rounds;
	unsigned retired;
	unsigned in_hand;
	void *hand[HAND];
	struct sheaf *lent;
} __attribute__((aligned(64)));

static const struct variant *variant;
static struct arena arena;
static struct sheaf_cache *cache;
static struct worker workers[THREADS];
static bool stop;

static bool does(unsigned what)
{
	return variant->does & what;
}

static void add(struct worker *w, void *object)
{
	if (object)
		w->hand[w->in_hand++] = object;
}

static void *pick(struct worker *w)
{
	unsigned i = (unsigned)test_below(&w->state, w->in_hand);
	void *object = w->hand[i];

	w->hand[i] = w->hand[--w->in_hand];
	return object;
}

static bool may_retire(const struct worker *w)
{
	return does(RETIRES) && (!does(NEVER_RIPE) || w->retired < RETIRED_MOST);
}

static void give_back(struct worker *w)
{
	uint64_t how = test_below(&w->state, 4);

	if (!w->in_hand)
		return;
	if (how < 2 && may_retire(w)) {
		w->retired++;
		if (how && does(NOWAIT))
			sheaf_cache_free_rcu_nowait(cache, pick(w));
		else
			sheaf_cache_free_rcu(cache, pick(w));
	} else if (how == 2 && does(NOWAIT)) {
		sheaf_cache_free_nowait(cache, pick(w));
	} else {
		sheaf_cache_free(cache, pick(w));
	}
}

static void get(struct worker *w)
{
	uint64_t how = test_below(&w->state, 4);

	if (w->in_hand == HAND)
		return;
	if (how == 0 && does(NOWAIT))
		add(w, sheaf_cache_alloc_nowait(cache));
	else if (how == 1 && does(NODES))
		add(w, sheaf_cache_alloc_node(cache, 0, (int)test_below(&w->state, 4)));
	else
		add(w, sheaf_cache_alloc(cache, how == 2 ? SHEAF_NOWAIT : 0));
}

static void bulk(struct worker *w)
{
	size_t n = test_below(&w->state, 9), i;
	void *objects[9];

	if (w->in_hand + n <= HAND) {
		w->in_hand += (unsigned)sheaf_cache_alloc_bulk(cache, 0, n, w->hand + w->in_hand);
		return;
	}
	for (i = 0; i < n; i++)
		objects[i] = pick(w);
	sheaf_cache_free_bulk(cache, n, objects);
}

/* A lent sheaf stays for some rounds, also beyond the last. */
static void lend(struct worker *w)
{
	uint32_t n = (uint32_t)test_below(&w->state, 8);

	if (!w->lent)
		w->lent = sheaf_cache_prefill(cache, n, n % 4 ? 0 : SHEAF_NOWAIT);
	else if (n < 2)
		(void)sheaf_cache_refill(cache, &w->lent, n + 2, 0);
	else if (n < 6 && w->in_hand < HAND)
		add(w, sheaf_cache_alloc_from(cache, w->lent));
	else if (n >= 6) {
		sheaf_cache_return(cache, w->lent);
		w->lent = NULL;
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = w->rounds; i; i--) {
		uint64_t what = test_below(&w->state, 100);

		if (what < 8)
			bulk(w);
		else if (what < 20 && does(PREFILLS))
			lend(w);
		else if (what < 22)
			sheaf_cache_flush(cache);
		else if (what < 61)
			get(w);
		else
			give_back(w);
	}
	return NULL;
}

static void *disturb(void *arg)
{
	uint64_t state = test_seed();
	struct sheaf_cache_stats stats;

	do {
		switch (test_below(&state, 5)) {
		case 0:
			sheaf_cache_shrink(cache);
			break;
		case 1:
			sheaf_cache_set_capacity(cache, 2 + (uint32_t)test_below(&state, 4));
			break;
		case 2:
			sheaf_cache_trim(cache);
			break;
		case 3:
			sheaf_trim(100);
			break;
		default:
			sheaf_cache_stats(cache, &stats, sizeof(stats));
		}
		sched_yield();
	} while (!load_acquire(&stop));
	return arg;
}

static int wandering_node(void *arg)
{
	static __thread unsigned calls;

	(void)arg;
	return (int)(++calls / 8 % 4);
}

/* What the workers have, and what is in their lent sheaves. */
static uint64_t shadow(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		n += workers[i].in_hand;
		if (workers[i].lent)
			n += sheaf_size(workers[i].lent);
	}
	return n;
}

static unsigned lent_sheaves(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < THREADS; i++)
		n += workers[i].lent != NULL;
	return n;
}

static void compare(void)
{
	struct sheaf_cache_stats s = cache_stats_at_rest(cache);
	uint64_t held = s.held_slots + s.held_barns + s.in_flight + s.spilled + s.left_retired +
			s.held_quarantine;
	unsigned retired = 0;

	ck_assert_msg(s.in_use == shadow(), "%s: %llu in use, not %llu", variant->name,
		      (unsigned long long)s.in_use, (unsigned long long)shadow());
	ck_assert_uint_eq(s.abandoned, 0);
	ck_assert_uint_eq(s.backend_allocated - s.backend_freed, arena_out(&arena));
	ck_assert_uint_eq(s.in_use + held, arena_out(&arena));
	ck_assert_uint_eq(s.lent_sheaves, lent_sheaves());
	ck_assert_uint_ge(s.held_slots, s.held_rcu + s.held_cross);
	for (unsigned i = 0; i < THREADS; i++)
		retired += workers[i].retired;
	if (does(NEVER_RIPE))
		ck_assert_uint_eq(s.held_rcu + s.left_retired + s.in_flight, retired);
}

static void give_all_back(void)
{
	for (unsigned i = 0; i < THREADS; i++) {
		while (workers[i].in_hand)
			sheaf_cache_free(cache, pick(&workers[i]));
		sheaf_cache_return(cache, workers[i].lent);
		workers[i].lent = NULL;
	}
}

static void run_workers(unsigned rounds)
{
	pthread_t thread;

	stop = false;
	if (does(DISTURBED))
		ck_assert_int_eq(pthread_create(&thread, NULL, disturb, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		workers[i].rounds = rounds;
	test_threads(THREADS, work, workers, sizeof(workers[0]));
	store_release(&stop, true);
	if (does(DISTURBED))
		pthread_join(thread, NULL);
}

START_TEST(exact_at_rest)
{
	const struct sheaf_gp_driver_attr spacing = {.size = sizeof(spacing), .spacing_us = 20};
	const struct sheaf_debug_attr debug = {
		.size = sizeof(debug), .flags = SHEAF_DEBUG_POISON, .quarantine = 20};
	struct sheaf_gp_manual manual;
	struct sheaf_gp_urcu urcu;

	variant = &variants[_i];
	sheaf_gp_manual_init(&manual, 1);
	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &spacing), 0);
	arena_init(&arena, 16);
	arena.knows_nodes = does(NODES);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .name = variant->name,
					    .capacity = variant->capacity,
					    .barn_full = variant->limit,
					    .barn_empty = variant->limit,
					    .nodes = does(NODES) ? 4 : 1,
					    .current_node = wandering_node,
					    .gp = does(NEVER_RIPE) ? &manual.gp
						  : does(RETIRES)  ? &urcu.gp
								   : NULL,
					    .debug = does(DEBUG) ? &debug : NULL,
				    });
	memset(workers, 0, sizeof(workers));
	for (unsigned i = 0; i < THREADS; i++)
		workers[i].state = test_seed() + i;
	for (unsigned g = 0; g < variant->generations; g++) {
		run_workers(test_rounds(40000) / variant->generations + 1);
		compare();
	}
	give_all_back();
	compare();
	while (sheaf_cache_barrier(cache))
		sheaf_gp_manual_step(&manual);
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(cache_stats_at_rest(cache).in_use, 0);
	arena_cache_end(&arena, cache);
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

/*
 * While they go on. Each worker has between BASE and BASE + BURST objects, whatever the moment, and each
 * burst moves sheaves from one barn of many to another one, among some hundred free objects. So what
 * is in use is known to within the bursts, and all that the sum may be off by is what is pushed
 * and popped meanwhile, and what is in hands. If sheaves could move while barns are counted one after
 * the other, the sum would be off by dozens.
 */
#define BASE 30
#define BURST 4
#define STEADY_CAPACITY 1
#define STEADY_NODES 64
#define STEADY_FREE 400
#define STEADY_RETIRED 200

struct steady {
	uint64_t state;
	void *objects[BASE + BURST];
} __attribute__((aligned(64)));

static bool steady_retires, steady_refused;
static struct sheaf_gp_urcu steady_source;

static int any_node(void *arg)
{
	static __thread uint64_t state;

	(void)arg;
	if (!state)
		state = (uintptr_t)&state;
	return (int)test_below(&state, STEADY_NODES);
}

static void *be_steady(void *arg)
{
	struct steady *w = arg;
	unsigned n = BASE, retired = 0;

	while (!load_acquire(&stop)) {
		unsigned more = 1 + (unsigned)test_below(&w->state, BURST);

		for (; n < BASE + more; n++) {
			w->objects[n] = sheaf_cache_alloc(cache, 0);
			if (!w->objects[n])
				store_relaxed(&steady_refused, true);
		}
		while (n > BASE)
			if (steady_retires && n % 2) {
				sheaf_cache_free_rcu(cache, w->objects[--n]);
				retired++;
			} else {
				sheaf_cache_free(cache, w->objects[--n]);
			}
		/* Who finds the arena empty empties the cache, and that is outside the bound. */
		if (retired >= STEADY_RETIRED) {
			(void)sheaf_gp_wait(&steady_source.gp, sheaf_gp_ticket(&steady_source.gp));
			retired = 0;
		}
	}
	return NULL;
}

START_TEST(near_while_running)
{
	const struct sheaf_gp_driver_attr spacing = {.size = sizeof(spacing), .spacing_us = 20};
	const uint64_t least = (uint64_t)THREADS * BASE, most = (uint64_t)THREADS * (BASE + BURST);
	static struct steady steady[THREADS];
	static void *spare[STEADY_FREE];
	pthread_t threads[THREADS];
	uint64_t moved = 0;
	unsigned wrong = 0;

	steady_retires = _i;
	ck_assert_int_eq(sheaf_gp_urcu_init(&steady_source, &rcu_flavor, &spacing), 0);
	arena_init(&arena, 16);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){.capacity = STEADY_CAPACITY,
							      .barn_full = 40,
							      .barn_empty = 40,
							      .nodes = STEADY_NODES,
							      .current_node = any_node,
							      .trim_us = UINT32_MAX,
							      .gp = &steady_source.gp});
	stop = false;
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, STEADY_FREE, spare), STEADY_FREE);
	for (unsigned i = 0; i < STEADY_FREE; i++)
		sheaf_cache_free(cache, spare[i]);
	for (unsigned i = 0; i < THREADS; i++) {
		steady[i].state = test_seed() + i;
		ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, BASE, steady[i].objects), BASE);
	}
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, be_steady, &steady[i]), 0);
	for (unsigned round = 0; round < test_rounds(5000) || moved <= 1000; round++) {
		struct sheaf_cache_stats s;
		/* Slots of CPUs: a main sheaf each, and an rcu sheaf. In hands: two sheaves each. */
		uint64_t low, high;

		sheaf_cache_stats(cache, &s, sizeof(s));
		low = s.cpu_slots ? (uint64_t)s.slots * STEADY_CAPACITY : 0;
		high = (steady_retires + 1) * low + (uint64_t)THREADS * 2 * STEADY_CAPACITY;
		if (s.in_use + low < least || s.in_use > most + high) {
			fprintf(stderr, "# %llu in use, not %llu - %llu to %llu + %llu\n",
			       (unsigned long long)s.in_use, (unsigned long long)least,
			       (unsigned long long)low, (unsigned long long)most,
			       (unsigned long long)high);
			wrong++;
		}
		moved = s.barn_alloc_trips + s.barn_free_trips;
		/* Who counts all the time lets nobody move. */
		nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
	}
	store_release(&stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(wrong, 0);
	ck_assert(!steady_refused);
	ck_assert_uint_eq(cache_stats_at_rest(cache).in_use, least);
	for (unsigned i = 0; i < THREADS; i++)
		sheaf_cache_free_bulk(cache, BASE, steady[i].objects);
	arena_cache_end(&arena, cache);
	sheaf_gp_urcu_fini(&steady_source);
}
END_TEST

START_TEST(struct_of_another_size)
{
	union {
		struct sheaf_cache_stats stats;
		unsigned char bytes[sizeof(struct sheaf_cache_stats) + 64];
	} mine;
	const size_t known = offsetof(struct sheaf_cache_stats, in_use) + sizeof(uint64_t);
	void *object;

	arena_init(&arena, 16);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){.name = "sizes"});
	object = sheaf_cache_alloc(cache, 0);
	memset(&mine, 0xee, sizeof(mine));
	ck_assert_uint_eq(sheaf_cache_stats(cache, &mine.stats, known), known);
	ck_assert_str_eq(mine.stats.name, "sizes");
	ck_assert_uint_eq(mine.stats.in_use, 1);
	for (size_t i = known; i < sizeof(mine); i++)
		ck_assert_uint_eq(mine.bytes[i], 0xee);
	ck_assert_uint_eq(sheaf_cache_stats(cache, &mine.stats, sizeof(mine)),
			  sizeof(struct sheaf_cache_stats));
	ck_assert_uint_eq(mine.stats.backend_allocated, arena_out(&arena));
	for (size_t i = sizeof(struct sheaf_cache_stats); i < sizeof(mine); i++)
		ck_assert_uint_eq(mine.bytes[i], 0);
	sheaf_cache_free(cache, object);
	arena_cache_end(&arena, cache);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("stats");
	TCase *tc = tcase_create("shadow");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, exact_at_rest, 0, VARIANTS);
	tcase_add_loop_test(tc, near_while_running, 0, 2);
	tcase_add_test(tc, struct_of_another_size);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
