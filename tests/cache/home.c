/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of caches with several nodes, injected: what is freed on a node where it is not at home comes
 * back to the barn of its home, by one visit for each home and sheaf; allocation hands out
 * memory of the caller's node, also after ripe objects of all nodes came together; alloc_node
 * asks the right node; a local prefill is local or refused; a node without memory is served by
 * another; several barns of a node help each other out before the backend is asked; and in
 * threads that free what others have allocated nothing is lost.
 */
#include "arena.h"
#include "cache_state.h"
#include "common.h"

#include <string.h>

#define CAPACITY 8
#define NODES 4
#define MANY 256

static struct arena arena;
static struct sheaf_gp_manual manual;
static struct sheaf_cache *cache;
static void *objects[MANY];
/* Where the calling thread is. */
static __thread int here;

/* Where in an allocation the budget comes to be short, and not any more; see below. */
static __thread struct {
	unsigned calls; /* so far */
	unsigned each;  /* in one attempt; 0 for nothing */
	unsigned short_for;
} budget_at;

static void change_budget(void)
{
	unsigned attempt = budget_at.calls / budget_at.each, at = budget_at.calls % budget_at.each;

	budget_at.calls++;
	if (at == 0 && attempt < budget_at.short_for)
		sheaf_cache_set_budget(cache, 32);
	else if (at + 1 == budget_at.each)
		sheaf_cache_set_budget(cache, 64);
}

/* What the capacity becomes in the midst of the next call that asks where it is; 0 for nothing. */
static __thread uint32_t new_capacity;

static int tell_place(void *arg)
{
	uint32_t capacity = new_capacity;

	(void)arg;
	if (budget_at.each)
		change_budget();
	else
		budget_at.calls++;
	new_capacity = 0;
	if (capacity)
		sheaf_cache_set_capacity(cache, capacity);
	return here;
}

static void begin(struct sheaf_cache_attr attr)
{
	arena_init(&arena, 32);
	arena.knows_nodes = true;
	sheaf_gp_manual_init(&manual, 0);
	attr.capacity = CAPACITY;
	attr.nodes = NODES;
	attr.current_node = tell_place;
	attr.gp = &manual.gp;
	cache = arena_cache(&arena, attr);
	here = 0;
}

static void end(void)
{
	sheaf_gp_manual_step(&manual);
	arena_cache_end(&arena, cache);
}

static int home(const void *object)
{
	return arena.home[arena_index(&arena, object)];
}

/* A slot belongs to one node; that of a thread goes with it. */
static void move_to(int node)
{
	sheaf_cache_flush(cache);
	here = node;
}

static void get(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++) {
		objects[i] = sheaf_cache_alloc(cache, 0);
		ck_assert_ptr_nonnull(objects[i]);
		ck_assert(arena_own(&arena, objects[i], ARENA_USER));
	}
}

static void put(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++) {
		ck_assert(arena_disown(&arena, objects[i], ARENA_USER));
		sheaf_cache_free(cache, objects[i]);
	}
}

/* Everything in slots and barns lies where it is at home. */
static void all_at_home(void)
{
	struct sheaf *sheaf;
	uint32_t node, i;

	sheaf_cache_flush(cache);
	for (node = 0; node < cache->nodes; node++)
		while ((sheaf = sheaf_barn_take_full(&cache->node[node].barn)) != NULL) {
			for (i = 0; i < sheaf->size; i++)
				ck_assert_int_eq(home(sheaf->objects[i]),
						 (int)(node / cache->spread));
			sheaf_discard(cache, sheaf);
		}
}

START_TEST(remote_objects_go_home)
{
	uint64_t asked;

	begin((struct sheaf_cache_attr){0});
	for (int node = 0; node < NODES; node++) {
		move_to(node);
		get((unsigned)node * 2 * CAPACITY, 2 * CAPACITY);
	}
	for (unsigned i = 0; i < NODES * 2 * CAPACITY; i++)
		ck_assert_int_eq(home(objects[i]), (int)(i / (2 * CAPACITY)));
	/* All of them freed on one node. */
	move_to(1);
	put(0, NODES * 2 * CAPACITY);
	ck_assert_uint_le(cache_stats(cache).held_cross, 2 * CAPACITY);
	sheaf_cache_flush(cache);
	ck_assert_uint_eq(cache_stats(cache).held_cross, 0);
	/* They serve their nodes again, without the backend. */
	asked = arena.alloc_calls;
	for (int node = 0; node < NODES; node++) {
		move_to(node);
		get(0, 2 * CAPACITY);
		for (unsigned i = 0; i < 2 * CAPACITY; i++)
			ck_assert_int_eq(home(objects[i]), node);
		put(0, 2 * CAPACITY);
		sheaf_cache_flush(cache);
	}
	ck_assert_uint_eq(arena.alloc_calls, asked);
	move_to(0);
	all_at_home();
	end();
}
END_TEST

/* One visit for each home in what a sheaf of remote objects holds. */
START_TEST(visits_by_home)
{
	const unsigned sheaves = 12;
	struct sheaf_cache_stats stats;
	uint64_t before;

	begin((struct sheaf_cache_attr){.barn_full = 64});
	for (unsigned i = 0; i < sheaves * CAPACITY; i++) {
		move_to(1 + (int)(i % (NODES - 1)));
		get(i, 1);
		ck_assert_int_eq(home(objects[i]), here);
	}
	move_to(0);
	before = cache_stats(cache).home_trips;
	put(0, sheaves * CAPACITY);
	sheaf_cache_flush(cache);
	stats = cache_stats(cache);
	/* A sheaf that gets full on the way is one visit more. */
	ck_assert_uint_le(stats.home_trips - before, sheaves * NODES);
	ck_assert_uint_ge(stats.home_trips - before, sheaves);
	ck_assert_uint_eq(stats.backend_freed, 0);
	all_at_home();
	end();
}
END_TEST

START_TEST(bulk_and_ripe_objects_are_sorted)
{
	begin((struct sheaf_cache_attr){0});
	for (int node = 0; node < NODES; node++) {
		move_to(node);
		get((unsigned)node * CAPACITY, CAPACITY);
	}
	move_to(2);
	for (unsigned i = 0; i < NODES * CAPACITY; i++)
		ck_assert(arena_disown(&arena, objects[i], ARENA_USER));
	sheaf_cache_free_bulk(cache, NODES * CAPACITY, objects);
	all_at_home();

	for (int node = 0; node < NODES; node++) {
		move_to(node);
		get((unsigned)node * CAPACITY, CAPACITY);
	}
	move_to(3);
	for (unsigned i = 0; i < NODES * CAPACITY; i++) {
		unsigned at = i % NODES * CAPACITY + i / NODES;

		ck_assert(arena_disown(&arena, objects[at], ARENA_USER));
		sheaf_cache_free_rcu(cache, objects[at]);
	}
	ck_assert_int_eq(sheaf_cache_barrier(cache), -EDEADLK);
	sheaf_gp_manual_step(&manual);
	for (unsigned i = 0; i < CAPACITY; i++) {
		get(0, 1);
		ck_assert_int_eq(home(objects[0]), 3);
		put(0, 1);
	}
	while (cache_stats(cache).in_flight)
		get(MANY - 1, 1), put(MANY - 1, 1), sheaf_cache_flush(cache),
			sheaf_cache_shrink(cache);
	all_at_home();
	end();
}
END_TEST

START_TEST(alloc_on_a_node)
{
	begin((struct sheaf_cache_attr){0});
	for (unsigned i = 0; i < 8 * NODES; i++) {
		int node = (int)(i * 7 % NODES);

		move_to((int)(i / 8));
		objects[i] = sheaf_cache_alloc_node(cache, i % 2 ? SHEAF_WAIT : 0, node);
		ck_assert_int_eq(home(objects[i]), node);
		ck_assert(arena_own(&arena, objects[i], ARENA_USER));
	}
	ck_assert_ptr_null(sheaf_cache_alloc_node(cache, 0, NODES));
	ck_assert_ptr_null(sheaf_cache_alloc_node(cache, 0, -2));
	objects[8 * NODES] = sheaf_cache_alloc_node(cache, 0, SHEAF_NODE_ANY);
	ck_assert(arena_own(&arena, objects[8 * NODES], ARENA_USER));
	put(0, 8 * NODES + 1);
	move_to(0);
	all_at_home();
	end();
}
END_TEST

/* Who retires what he has from another node gets it again from there, instead of more memory. */
START_TEST(ripe_objects_come_back_on_any_node)
{
	begin((struct sheaf_cache_attr){0});
	for (unsigned i = 0; i < 500; i++) {
		void *object = sheaf_cache_alloc_node(cache, 0, 1);

		ck_assert_int_eq(home(object), 1);
		ck_assert(arena_own(&arena, object, ARENA_USER));
		ck_assert(arena_disown(&arena, object, ARENA_USER));
		sheaf_cache_free_rcu(cache, object);
		if (i % CAPACITY == 0)
			sheaf_gp_manual_step(&manual);
		ck_assert_uint_le(arena_out(&arena), 8 * CAPACITY);
	}
	sheaf_cache_flush(cache);
	end();
}
END_TEST

/* They are not handed out as if they were of this node, nor do they take others with them. */
START_TEST(ripe_objects_of_a_full_home)
{
	begin((struct sheaf_cache_attr){.barn_full = 1});
	move_to(1);
	get(0, 6 * CAPACITY);
	put(4 * CAPACITY, 2 * CAPACITY);
	move_to(0);
	get(4 * CAPACITY, 4 * CAPACITY);
	for (unsigned i = 0; i < 4 * CAPACITY; i++) {
		for (unsigned k = i; k < 8 * CAPACITY; k += 4 * CAPACITY) {
			ck_assert(arena_disown(&arena, objects[k], ARENA_USER));
			sheaf_cache_free_rcu(cache, objects[k]);
		}
	}
	ck_assert_int_eq(sheaf_cache_barrier(cache), -EDEADLK);
	sheaf_gp_manual_step(&manual);
	for (unsigned i = 0; i < 6 * CAPACITY; i++) {
		get(i, 1);
		ck_assert_int_eq(home(objects[i]), 0);
	}
	put(0, 6 * CAPACITY);
	all_at_home();
	end();
}
END_TEST

/* What a look round finds on its way home may go to the backend, which has something then. */
START_TEST(what_was_on_its_way_home_is_found)
{
	begin((struct sheaf_cache_attr){.barn_full = UINT32_MAX});
	move_to(1);
	get(0, CAPACITY);
	move_to(0);
	get(CAPACITY, CAPACITY);
	arena.most = (unsigned)arena_out(&arena);
	ck_assert_uint_eq(arena.most, 2 * CAPACITY);
	put(0, 1);
	get(0, 1);
	put(0, 2 * CAPACITY);
	end();
}
END_TEST

START_TEST(local_prefill)
{
	struct sheaf *sheaf;

	begin((struct sheaf_cache_attr){0});
	/* A signal handler leaves strangers in the slot. */
	move_to(1);
	get(0, CAPACITY / 2);
	move_to(0);
	for (unsigned i = 0; i < CAPACITY / 2; i++) {
		ck_assert(arena_disown(&arena, objects[i], ARENA_USER));
		sheaf_cache_free_nowait(cache, objects[i]);
	}
	sheaf = sheaf_cache_prefill(cache, CAPACITY, SHEAF_LOCAL);
	ck_assert_ptr_nonnull(sheaf);
	ck_assert_uint_ge(sheaf->size, CAPACITY);
	for (unsigned i = 0; i < sheaf->size; i++)
		ck_assert_int_eq(home(sheaf->objects[i]), 0);
	sheaf_cache_return(cache, sheaf);

	/* No memory there: refused, and nothing lost. */
	arena.memory_nodes = 3;
	move_to(3);
	ck_assert_ptr_null(sheaf_cache_prefill(cache, 3 * CAPACITY, SHEAF_LOCAL));
	sheaf = sheaf_cache_prefill(cache, 3 * CAPACITY, 0);
	ck_assert_ptr_nonnull(sheaf);
	sheaf_cache_return(cache, sheaf);
	end();
}
END_TEST

/* A sheaf that is made after the capacity has become less holds what was asked for all the same. */
START_TEST(prefill_while_the_capacity_falls)
{
	struct sheaf *sheaf;

	begin((struct sheaf_cache_attr){0});
	new_capacity = 1;
	sheaf = sheaf_cache_prefill(cache, CAPACITY, 0);
	ck_assert_uint_eq(cache_stats(cache).capacity, 1);
	ck_assert_ptr_nonnull(sheaf);
	ck_assert_uint_ge(sheaf->capacity, CAPACITY);
	ck_assert(sheaf_check(sheaf));
	sheaf_cache_return(cache, sheaf);
	end();
}
END_TEST

START_TEST(one_node_has_no_second)
{
	arena_init(&arena, 32);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){.nodes = 1});
	ck_assert_ptr_null(sheaf_cache_alloc_node(cache, 0, 1));
	ck_assert_ptr_null(sheaf_cache_alloc_node(cache, 0, -2));
	objects[0] = sheaf_cache_alloc_node(cache, 0, 0);
	ck_assert(arena_own(&arena, objects[0], ARENA_USER));
	put(0, 1);
	arena_cache_end(&arena, cache);
}
END_TEST

/* Trips of the cache count, not those of what it collects. */
START_TEST(capacity_follows_local_load)
{
	begin((struct sheaf_cache_attr){.tune = true, .trim_us = UINT32_MAX});
	/* A look each hundredth of a second: 200 trips are many. */
	cache->trim_task.delay_ns = 10000000;
	for (unsigned i = 0; i < 200; i++) {
		get(0, 6 * CAPACITY);
		put(0, 6 * CAPACITY);
	}
	sheaf_cache_trim(cache);
	ck_assert_uint_eq(cache_stats(cache).capacity, 2 * CAPACITY + 4);
	end();
}
END_TEST

/* What is freed far from home while the task rests wakes it. */
START_TEST(late_strangers_are_trimmed)
{
	uint64_t deadline = test_patience_ms() + 20000;

	begin((struct sheaf_cache_attr){.trim_us = 30000});
	move_to(1);
	get(0, 2);
	while (arena_out(&arena) != 2 || load_relaxed(&cache->trim_task.armed)) {
		ck_assert_uint_lt(test_patience_ms(), deadline);
		test_sleep_ms(5);
	}
	here = 0;
	put(0, 2);
	while (arena_out(&arena)) {
		ck_assert_uint_lt(test_patience_ms(), deadline);
		test_sleep_ms(5);
	}
	end();
}
END_TEST

/* Others are quicker, again and again: each time there was something when we looked, and it was gone
 * when we asked. That is no reason to refuse who waits. */
START_TEST(who_waits_may_come_late)
{
	begin((struct sheaf_cache_attr){.budget = 32});
	get(0, 1);
	ck_assert_ptr_null(sheaf_cache_alloc(cache, 0));
	budget_at.calls = 0;
	ck_assert_ptr_null(sheaf_cache_alloc(cache, 0));
	budget_at.each = budget_at.calls;
	budget_at.calls = 0;
	budget_at.short_for = 5;
	objects[1] = sheaf_cache_alloc(cache, SHEAF_WAIT);
	budget_at.each = 0;
	ck_assert_ptr_nonnull(objects[1]);
	ck_assert(arena_own(&arena, objects[1], ARENA_USER));
	ck_assert_uint_ge(cache_stats(cache).budget_refused, 2 + 5);
	/* The backend's refusal is one, whatever the budget. */
	sheaf_cache_set_budget(cache, 4 * 32);
	arena.most = 3;
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, SHEAF_WAIT, 5, objects + 2), 1);
	ck_assert(arena_own(&arena, objects[2], ARENA_USER));
	put(0, 3);
	end();
}
END_TEST

/* Sheaves that are used up on the way are not piled up in the barn. */
START_TEST(alloc_on_a_node_leaves_no_empty_sheaves)
{
	struct sheaf_barn_stats stats;

	begin((struct sheaf_cache_attr){.barn_empty = 2});
	for (unsigned i = 0; i < MANY; i++) {
		objects[i] = sheaf_cache_alloc_node(cache, 0, 2);
		ck_assert_int_eq(home(objects[i]), 2);
		ck_assert(arena_own(&arena, objects[i], ARENA_USER));
	}
	sheaf_barn_stats(&cache->node[2].barn, &stats);
	ck_assert_uint_le(stats.empty.held, 2);
	/* Nor when there is nothing to be had. */
	arena.most = MANY;
	for (unsigned i = 0; i < 20 * CAPACITY; i++)
		(void)sheaf_cache_alloc_node(cache, 0, 1);
	sheaf_barn_stats(&cache->node[1].barn, &stats);
	ck_assert_uint_le(stats.empty.held, 2);
	put(0, MANY);
	end();
}
END_TEST

START_TEST(node_without_memory_is_served)
{
	begin((struct sheaf_cache_attr){0});
	arena.memory_nodes = 2;
	move_to(3);
	for (unsigned i = 0; i < 4; i++) {
		get(0, 4 * CAPACITY);
		for (unsigned j = 0; j < 4 * CAPACITY; j++)
			ck_assert_int_eq(home(objects[j]), 0);
		put(0, 4 * CAPACITY);
	}
	/* What comes back is remote here, so it is at hand for its home. */
	sheaf_cache_flush(cache);
	move_to(0);
	get(0, CAPACITY);
	put(0, CAPACITY);
	all_at_home();
	end();
}
END_TEST

/* Places of one node: what one has too much of the other takes in, and gives. */
START_TEST(siblings_come_before_the_backend)
{
	uint64_t asked, given;

	begin((struct sheaf_cache_attr){.barns_per_node = 2, .barn_full = 3});
	ck_assert_uint_eq(cache_stats(cache).nodes, 2 * NODES);
	move_to(2); /* node 1, first barn */
	get(0, 8 * CAPACITY);
	given = arena.free_calls;
	put(0, 8 * CAPACITY);
	/* Two sheaves stay in the slot, three in each barn. */
	ck_assert_uint_eq(arena.free_calls, given);
	sheaf_cache_flush(cache);
	given = arena.free_calls;
	move_to(3);
	asked = arena.alloc_calls;
	get(0, 6 * CAPACITY);
	ck_assert_uint_eq(arena.alloc_calls, asked);
	for (unsigned i = 0; i < 6 * CAPACITY; i++)
		ck_assert_int_eq(home(objects[i]), 1);
	put(0, 6 * CAPACITY);
	/* Another node's are none. */
	move_to(0);
	get(0, 1);
	ck_assert_int_eq(home(objects[0]), 0);
	put(0, 1);
	all_at_home();
	end();
}
END_TEST

/* Threads on all nodes free what the one before them has allocated. */
#define THREADS 4
#define RING 64

static void *ring[THREADS][RING];
static uint32_t heads[THREADS], tails[THREADS];

struct worker {
	unsigned number;
	unsigned rounds;
	unsigned strangers;
};

static void *pass_round(void *arg)
{
	struct worker *w = arg;
	unsigned next = (w->number + 1) % THREADS;

	here = (int)(w->number % NODES);
	for (unsigned i = 0; i < w->rounds; i++) {
		uint32_t head = heads[next];
		void *object;

		if (head - load_acquire(&tails[next]) < RING) {
			object = sheaf_cache_alloc(cache, 0);
			if (!object || !arena_own(&arena, object, ARENA_USER + w->number))
				return arg;
			w->strangers += home(object) != here;
			ring[next][head % RING] = object;
			store_release(&heads[next], head + 1);
		}
		if (load_acquire(&heads[w->number]) != tails[w->number]) {
			uint32_t tail = tails[w->number];

			object = ring[w->number][tail % RING];
			if (!arena_disown(&arena, object,
					  ARENA_USER + (w->number + THREADS - 1) % THREADS))
				return arg;
			store_release(&tails[w->number], tail + 1);
			if (i % 3)
				sheaf_cache_free(cache, object);
			else
				sheaf_cache_free_bulk(cache, 1, &object);
		}
		if (i % 256 == 0)
			sheaf_cache_trim(cache);
	}
	return NULL;
}

START_TEST(threads_of_all_nodes)
{
	struct worker workers[THREADS];

	begin((struct sheaf_cache_attr){.slots = SHEAF_SLOTS_THREAD});
	memset(heads, 0, sizeof(heads));
	memset(tails, 0, sizeof(tails));
	for (unsigned i = 0; i < THREADS; i++)
		workers[i] = (struct worker){i, test_rounds(20000), 0};
	test_threads(THREADS, pass_round, workers, sizeof(workers[0]));
	ck_assert_uint_eq(arena.errors, 0);
	for (unsigned i = 0; i < THREADS; i++) {
		unsigned from = (i + THREADS - 1) % THREADS;

		/* Each thread stays on its node and has its slot: all it gets is local. */
		ck_assert_uint_eq(workers[i].strangers, 0);
		for (; tails[i] != heads[i]; tails[i]++) {
			void *object = ring[i][tails[i] % RING];

			ck_assert(arena_disown(&arena, object, ARENA_USER + from));
			sheaf_cache_free(cache, object);
		}
	}
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("home");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, remote_objects_go_home);
	tcase_add_test(tc, visits_by_home);
	tcase_add_test(tc, bulk_and_ripe_objects_are_sorted);
	tcase_add_test(tc, alloc_on_a_node);
	tcase_add_test(tc, ripe_objects_come_back_on_any_node);
	tcase_add_test(tc, ripe_objects_of_a_full_home);
	tcase_add_test(tc, what_was_on_its_way_home_is_found);
	tcase_add_test(tc, local_prefill);
	tcase_add_test(tc, prefill_while_the_capacity_falls);
	tcase_add_test(tc, capacity_follows_local_load);
	tcase_add_test(tc, late_strangers_are_trimmed);
	tcase_add_test(tc, who_waits_may_come_late);
	tcase_add_test(tc, one_node_has_no_second);
	tcase_add_test(tc, alloc_on_a_node_leaves_no_empty_sheaves);
	tcase_add_test(tc, node_without_memory_is_served);
	tcase_add_test(tc, siblings_come_before_the_backend);
	tcase_add_test(tc, threads_of_all_nodes);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
