/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of what caches, threads and nodes share, in every interleaving (of two and three threads, up
 * to a number of preemptions, as far as the runs go): never more is out than the budgets say, those who stay within them
 * are not refused, and the sums are right in the end; walkers of the registry and who
 * closes or ends a cache do not meet; and objects that are freed on another node than theirs are
 * neither lost nor had twice, while slots and barns are emptied.
 */
#include "common.h"
#include "stage.h"

/* All stocks together. */
#define OUT (SCHEDULE_THREADS * STAGE_STOCK)
#define MORE 3

/*
 * Budgets.
 */
static unsigned reserved;
/* What is asked for or held now, and the most of it while each thread was in its call. */
static unsigned claimed;
static unsigned peak[SCHEDULE_THREADS];
/* Had before anybody claims. */
static uint64_t base;

static void begin_budget(void)
{
	sheaf_set_budget(0);
	reserved = claimed = 0;
	stage_begin_with((struct sheaf_cache_attr){.budget = (OUT + MORE) * 16}, false);
	base = stage_cache->used;
}

/* That of the process is the lower one. */
static void begin_process(void)
{
	begin_budget();
	sheaf_set_budget((OUT + MORE - 1) * 16);
}

static unsigned room(void)
{
	return (unsigned)(budget_least(stage_cache) / 16) - OUT;
}

/* Nobody is refused anything while all that was claimed during the call fits. */
static void reserve(unsigned me, unsigned n)
{
	size_t got;

	claimed += n;
	peak[me] = 0;
	for (unsigned t = 0; t < SCHEDULE_THREADS; t++)
		peak[t] = claimed > peak[t] ? claimed : peak[t];
	got = budget_reserve(stage_cache, n);
	stage_errors += got > n;
	stage_errors += got < n && base + peak[me] * 16 <= budget_least(stage_cache);
	reserved += (unsigned)got;
	stage_errors += reserved > room();
	schedule_point();
	reserved -= (unsigned)got;
	budget_release(stage_cache, got);
	claimed -= n;
}

static void run_reserve(unsigned me)
{
	reserve(me, 2);
	reserve(me, 1 + me);
}

/* As much as there is, by the front door. */
static void check_out(void *arg)
{
	(void)arg;
	stage_errors += stage_arena.allocated - stage_arena.freed > OUT + room();
}

static void run_alloc_all(unsigned me)
{
	void *objects[MORE];
	size_t n = sheaf_cache_alloc_bulk(stage_cache, 0, MORE - me % 2, objects);

	check_out(NULL);
	for (size_t i = 0; i < n; i++)
		stage_errors += !arena_own(&stage_arena, objects[i], 8);
	for (size_t i = 0; i < n; i++)
		stage_errors += !arena_disown(&stage_arena, objects[i], 8);
	sheaf_cache_free_bulk(stage_cache, n, objects);
	check_out(NULL);
}

static void begin_alloc_all(void)
{
	begin_budget();
	stage_arena.hook = check_out;
}

static void begin_alloc_all_process(void)
{
	begin_process();
	stage_arena.hook = check_out;
}

/*
 * The registry.
 */
static bool closed;

static void begin_pins(void)
{
	sheaf_set_budget(0);
	closed = false;
	stage_begin();
}

static void walk(void)
{
	struct sheaf_cache *cache;
	uint32_t next = 0;

	while ((cache = registry_pin(&next)) != NULL) {
		stage_errors += cache != stage_cache || closed;
		schedule_point();
		stage_errors += closed;
		registry_unpin(cache);
	}
}

static void close_and_open(void)
{
	registry_close(stage_cache);
	closed = true;
	schedule_point();
	closed = false;
	registry_open(stage_cache);
}

static void run_pins(unsigned me)
{
	if (me == 1)
		close_and_open();
	else
		walk();
	if (me == 1)
		close_and_open();
}

/* Another cache comes, and ends under the walker. */
static struct arena arena;

static void in_time(void *arg)
{
	(void)arg;
	stage_errors += arena.destroyed;
}

static void run_destroy(unsigned me)
{
	struct sheaf_cache *cache;
	void *object;

	if (me) {
		sheaf_trim(SIZE_MAX);
		return;
	}
	arena_init(&arena, 16);
	arena.hook = in_time;
	cache = arena_cache(&arena, (struct sheaf_cache_attr){.capacity = 2, .nodes = 1});
	object = sheaf_cache_alloc(cache, 0);
	sheaf_cache_free(cache, object);
	stage_errors += sheaf_cache_destroy(cache, NULL) != 0;
	stage_errors += arena.errors != 0 || arena.allocated != arena.freed;
	arena_fini(&arena);
}

/*
 * Nodes. Thread me is on node me % 2; what is in the stocks is at home on node 0.
 */
static __thread unsigned my_node;

static int node_of_thread(void *arg)
{
	(void)arg;
	return (int)my_node;
}

static void begin_nodes(void)
{
	my_node = 0;
	sheaf_set_budget(0);
	stage_begin_with((struct sheaf_cache_attr){.nodes = 2, .current_node = node_of_thread},
			 true);
}

/* Nothing has a place in the barns: it goes to the backend. */
static void begin_narrow_nodes(void)
{
	my_node = 0;
	sheaf_set_budget(0);
	stage_begin_with((struct sheaf_cache_attr){.nodes = 2,
						   .current_node = node_of_thread,
						   .barn_full = UINT32_MAX,
						   .barn_empty = UINT32_MAX},
			 true);
}

static void run_nodes(unsigned me)
{
	my_node = me % 2;
	if (me == 2) {
		sheaf_cache_shrink(stage_cache);
		return;
	}
	for (unsigned i = 0; i < 5; i++)
		stage_put(me, i);
	stage_get(me, 0);
	stage_get(me, 1);
}

static void run_nodes_flush(unsigned me)
{
	my_node = me % 2;
	if (me == 0) {
		sheaf_cache_shrink(stage_cache);
		return;
	}
	for (unsigned i = 0; i < 3; i++)
		stage_put(me, i);
	sheaf_cache_flush(stage_cache);
	stage_get(me, 0);
}

static const struct stage_case plays[] = {
	{"budget", 2, begin_budget, run_reserve, NULL, false},
	{"budget: three threads", 3, begin_budget, run_reserve, NULL, false},
	{"budget of the process", 2, begin_process, run_reserve, NULL, false},
	{"budget of the process: three threads", 3, begin_process, run_reserve, NULL, false},
	{"all of the budget", 2, begin_alloc_all, run_alloc_all, NULL, false},
	{"all of that of the process", 2, begin_alloc_all_process, run_alloc_all, NULL, false},
	{"pins", 2, begin_pins, run_pins, NULL, false},
	{"pins: three threads", 3, begin_pins, run_pins, NULL, false},
	{"the end under a walker", 2, begin_pins, run_destroy, NULL, false},
	{"two nodes", 2, begin_nodes, run_nodes, NULL, false},
	{"two nodes, shrink", 3, begin_nodes, run_nodes, NULL, false},
	{"two nodes, flush", 2, begin_nodes, run_nodes_flush, NULL, false},
	{"two nodes, no place", 2, begin_narrow_nodes, run_nodes, NULL, false},
};

START_TEST(nothing_is_lost_among_them)
{
	stage_play(&plays[_i], 1500);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("interleave-shared");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, nothing_is_lost_among_them, 0, sizeof(plays) / sizeof(plays[0]));
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
