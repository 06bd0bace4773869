/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of retiring: no object comes back before its ticket has elapsed, and all come
 * back after it; a barrier waits for what sits in the slots of other threads, of
 * threads that have ended, and of threads that are just between their slot and the
 * recycler; slots of ended threads are adopted whole; a retired sheaf belongs to
 * the node where it was sealed; destroy waits, or says what it lacks and leaves the
 * cache usable; and without any memory retiring still does what it can, and counts
 * what it could not.
 */
#include <urcu/urcu-memb.h>

#include "arena.h"
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <errno.h>
#include <string.h>

#define CAPACITY 4
#define MANY 64
#define THREADS 3

static struct arena arena;
static struct sheaf_cache *cache;
static void *objects[MANY];

/*
 * A source that its owner steps, counts hurries, waits by stepping if told so, and can hold
 * up whoever takes a ticket.
 */
static struct {
	struct sheaf_gp gp;
	uint64_t now;
	unsigned hurries;
	bool steps_itself;
	/* 1: the next ticket waits while this is not 0; it says so with 2. */
	uint32_t hold;
} source;

static uint64_t source_ticket(struct sheaf_gp *gp)
{
	uint32_t one = 1;

	(void)gp;
	if (cas_acq_rel(&source.hold, &one, 2))
		while (load_acquire(&source.hold))
			test_pause();
	return fetch_add_acq_rel(&source.now, 0);
}

static void source_step(void)
{
	store_release(&source.gp.completed, fetch_add_acq_rel(&source.now, 1));
}

static int source_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	(void)gp;
	if (!source.steps_itself)
		return -EDEADLK;
	while (!sheaf_gp_elapsed(&source.gp, ticket))
		source_step();
	return 0;
}

static void source_hurry(struct sheaf_gp *gp)
{
	(void)gp;
	source.hurries++;
}

static bool source_read_ongoing(struct sheaf_gp *gp)
{
	(void)gp;
	return false;
}

static const struct sheaf_gp_ops source_ops = {
	.name = "stepped",
	.ticket = source_ticket,
	.wait = source_wait,
	.hurry = source_hurry,
	.read_ongoing = source_read_ongoing,
};

static void begin_with(struct sheaf_cache_attr attr)
{
	memset(&source, 0, sizeof(source));
	source.gp.ops = &source_ops;
	source.now = 1;
	if (!attr.gp)
		attr.gp = &source.gp;
	attr.capacity = CAPACITY;
	if (!attr.nodes)
		attr.nodes = 1;
	arena_init(&arena, 32);
	cache = arena_cache(&arena, attr);
}

static void begin(void)
{
	begin_with((struct sheaf_cache_attr){0});
}

static void end(void)
{
	source.steps_itself = true;
	arena_cache_end(&arena, cache);
}

static void get(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		objects[i] = sheaf_cache_alloc(cache, 0);
		ck_assert_ptr_nonnull(objects[i]);
		ck_assert(arena_own(&arena, objects[i], ARENA_USER));
	}
}

static void put_one(unsigned i)
{
	ck_assert(arena_disown(&arena, objects[i], ARENA_USER));
	sheaf_cache_free(cache, objects[i]);
}

static void put(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		put_one(i);
}

static void retire_one(unsigned i)
{
	arena_disown(&arena, objects[i], ARENA_USER);
	sheaf_cache_free_rcu(cache, objects[i]);
}

static void retire(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		retire_one(i);
}

START_TEST(not_before_the_ticket_and_all_after_it)
{
	struct sheaf_cache_stats s;

	begin();
	arena.most = 4 * CAPACITY;
	get(4 * CAPACITY);
	retire(4 * CAPACITY);
	s = cache_stats(cache);
	ck_assert_uint_eq(s.sealed, 3);
	ck_assert_uint_eq(s.in_flight, 3 * CAPACITY);
	ck_assert_uint_eq(s.held_slots, CAPACITY);
	ck_assert_ptr_null(sheaf_cache_alloc(cache, 0));
	ck_assert_int_eq(sheaf_cache_barrier(cache), -EDEADLK);
	ck_assert_uint_eq(cache_stats(cache).sealed, 4);
	ck_assert_ptr_null(sheaf_cache_alloc(cache, 0));
	source_step();
	ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
	get(4 * CAPACITY);
	s = cache_stats(cache);
	ck_assert_uint_eq(s.recycled, 4);
	ck_assert_uint_eq(s.in_flight, 0);
	ck_assert_uint_eq(s.in_flight_peak, 4 * CAPACITY);
	put(4 * CAPACITY);
	end();
}
END_TEST

/* A sheaf that is sealed early still holds what it holds: no object is handed out twice. */
START_TEST(partial_sheaves_come_back_too)
{
	begin();
	for (unsigned n = 1; n <= 2 * CAPACITY; n++) {
		get(n);
		retire(n);
		sheaf_cache_flush(cache);
		ck_assert_uint_eq(cache_stats(cache).in_flight, n);
		source_step();
		arena.most = (unsigned)arena_out(&arena);
		get(n);
		arena.most = MANY;
		put(n);
		ck_assert(sheaf_cache_check(cache));
		sheaf_cache_shrink(cache);
	}
	end();
}
END_TEST

/*
 * Other threads.
 */
struct other {
	unsigned retired;
	bool stays;
};

static uint32_t settled;
static uint32_t leave;

static void *retire_and_stay(void *arg)
{
	const struct other *other = arg;
	void *mine[MANY];

	for (unsigned i = 0; i < other->retired; i++)
		mine[i] = sheaf_cache_alloc(cache, 0);
	for (unsigned i = 0; i < other->retired; i++)
		sheaf_cache_free_rcu(cache, mine[i]);
	fetch_add_acq_rel(&settled, 1);
	while (other->stays && !load_acquire(&leave))
		test_pause();
	return NULL;
}

START_TEST(barrier_reaches_every_slot)
{
	struct other others[THREADS];
	pthread_t threads[THREADS];
	struct sheaf_cache_stats s;
	unsigned all = 0;

	begin();
	settled = leave = 0;
	for (unsigned i = 0; i < THREADS; i++) {
		others[i] = (struct other){.retired = CAPACITY + 1 + i, .stays = _i};
		all += others[i].retired;
		pthread_create(&threads[i], NULL, retire_and_stay, &others[i]);
	}
	while (load_acquire(&settled) < THREADS)
		test_pause();
	for (unsigned i = 0; !_i && i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(sheaf_cache_barrier(cache), -EDEADLK);
	ck_assert_uint_eq(cache_stats(cache).in_flight, all);
	source_step();
	ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
	s = cache_stats(cache);
	ck_assert_uint_eq(s.orphans, _i || s.cpu_slots ? 0 : s.slots);
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(arena_out(&arena), 0);
	store_release(&leave, 1);
	for (unsigned i = 0; _i && i < THREADS; i++)
		pthread_join(threads[i], NULL);
	end();
}
END_TEST

static void *leave_objects(void *arg)
{
	(void)arg;
	get(2 * CAPACITY);
	put(2 * CAPACITY);
	return slot_find(cache);
}

static void *find_objects(void *arg)
{
	(void)arg;
	get(2 * CAPACITY);
	put(2 * CAPACITY);
	return slot_find(cache);
}

START_TEST(slots_of_ended_threads_are_adopted_whole)
{
	void *first = NULL, *next = NULL;
	pthread_t thread;
	uint64_t trips;

	begin();
	if (cache->cpus.n) {
		end();
		return;
	}
	pthread_create(&thread, NULL, leave_objects, NULL);
	pthread_join(thread, &first);
	ck_assert_uint_eq(cache_stats(cache).orphans, 1);
	ck_assert_uint_eq(cache_stats(cache).held_slots, 2 * CAPACITY);
	trips = arena.alloc_calls;
	for (unsigned i = 0; i < 50; i++) {
		pthread_create(&thread, NULL, find_objects, NULL);
		pthread_join(thread, &next);
		ck_assert_ptr_eq(next, first);
	}
	/* What the first left was all that the others needed. */
	ck_assert_uint_eq(arena.alloc_calls, trips);
	ck_assert_uint_eq(cache_stats(cache).slots, 1);
	ck_assert_uint_eq(cache_stats(cache).orphans, 1);
	end();
}
END_TEST

/*
 * In transit: sealed, out of the slot, not yet in the recycler.
 */
static void *retire_one_more(void *arg)
{
	(void)arg;
	get(CAPACITY + 1);
	retire(CAPACITY);
	store_release(&source.hold, 1);
	retire_one(CAPACITY);
	return NULL;
}

static void *flush_retired(void *arg)
{
	(void)arg;
	get(CAPACITY);
	retire(CAPACITY);
	store_release(&source.hold, 1);
	sheaf_cache_flush(cache);
	return NULL;
}

static uint32_t over;

static void *barrier_and_tell(void *arg)
{
	(void)arg;
	if (sheaf_cache_barrier(cache) == 0)
		store_release(&over, 1);
	return NULL;
}

/* The first objects were retired before the barrier began: it must not miss them. */
START_TEST(barrier_waits_for_sheaves_in_transit)
{
	pthread_t retirer, waiter;

	begin();
	source.steps_itself = true;
	over = 0;
	pthread_create(&retirer, NULL, _i ? flush_retired : retire_one_more, NULL);
	while (load_acquire(&source.hold) != 2)
		test_pause();
	pthread_create(&waiter, NULL, barrier_and_tell, NULL);
	test_sleep_ms(100);
	ck_assert_uint_eq(load_acquire(&over), 0);
	store_release(&source.hold, 0);
	pthread_join(retirer, NULL);
	pthread_join(waiter, NULL);
	ck_assert_uint_eq(over, 1);
	/* The ones that had been retired are ripe; nobody has to wait again. */
	source.steps_itself = false;
	sheaf_cache_shrink(cache);
	ck_assert_uint_le(arena_out(&arena), 1);
	end();
}
END_TEST

/*
 * Nodes.
 */
static unsigned node_now;

static int injected_node(void *arg)
{
	return (int)*(unsigned *)arg;
}

static uint64_t in_flight_of(unsigned node)
{
	struct sheaf_recycler_stats stats;

	sheaf_recycler_stats(&cache->node[node].recycler, &stats);
	return stats.objects;
}

START_TEST(retired_where_it_was_sealed)
{
	begin_with((struct sheaf_cache_attr){
		.nodes = 3, .current_node = injected_node, .node_arg = &node_now});
	node_now = 1;
	get(CAPACITY + 1);
	/* Filled on node 1, sealed on node 2. */
	retire(CAPACITY);
	node_now = 2;
	retire_one(CAPACITY);
	ck_assert_uint_eq(in_flight_of(2), CAPACITY);
	ck_assert_uint_eq(in_flight_of(0) + in_flight_of(1), 0);
	/* And it can be had from there by other nodes when they have nothing. */
	node_now = 0;
	source_step();
	arena.most = (unsigned)arena_out(&arena);
	ck_assert_ptr_nonnull(objects[0] = sheaf_cache_alloc(cache, 0));
	sheaf_cache_free(cache, objects[0]);
	end();
}
END_TEST

START_TEST(destroy_waits_for_what_is_retired)
{
	size_t live = 7;

	begin();
	get(CAPACITY + 2);
	retire(CAPACITY + 1);
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EDEADLK);
	source_step();
	/* Ripe now, and nothing has to be taken first for that to be seen. */
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EBUSY);
	ck_assert_uint_eq(live, 1);
	retire_one(CAPACITY + 1);
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EDEADLK);
	end();
	/* A source that can wait does. */
	begin();
	source.steps_itself = true;
	get(CAPACITY + 2);
	retire(CAPACITY + 2);
	arena_cache_end(&arena, cache);
}
END_TEST

START_TEST(slot_in_use_is_gone_round)
{
	begin();
	if (cache->cpus.n) {
		end();
		return;
	}
	get(3 * CAPACITY);
	slot_find(cache)->busy = 1;
	retire(3 * CAPACITY);
	slot_find(cache)->busy = 0;
	ck_assert_uint_eq(cache_stats(cache).in_flight, 3 * CAPACITY);
	ck_assert_int_eq(sheaf_cache_barrier(cache), -EDEADLK);
	source_step();
	arena.most = (unsigned)arena_out(&arena);
	get(3 * CAPACITY);
	put(3 * CAPACITY);
	end();
}
END_TEST

/*
 * Without memory.
 */
START_TEST(without_memory_sheaves_are_emptied)
{
	begin();
	source.steps_itself = true;
	get(MANY);
	for (unsigned i = 0; i < MANY / 2; i++) {
		put_one(i);
	}
	test_fail_nth(0, true);
	for (unsigned i = MANY / 2; i < MANY; i++) {
		retire_one(i);
		if (i % 8 == 0)
			source_step();
	}
	test_fail_end();
	ck_assert_uint_eq(cache_stats(cache).abandoned, 0);
	ck_assert(sheaf_cache_check(cache));
	end();
}
END_TEST

/* Nothing to empty, either: it waits, where that can be. */
START_TEST(without_any_sheaf_it_waits)
{
	begin();
	source.steps_itself = true;
	get(3);
	sheaf_cache_shrink(cache);
	test_fail_nth(0, true);
	retire(3);
	ck_assert(test_fail_end());
	ck_assert_uint_eq(arena_out(&arena), 0);
	ck_assert_uint_eq(cache_stats(cache).abandoned, 0);
	end();
}
END_TEST

static void *retire_without_slot(void *arg)
{
	(void)arg;
	retire(3);
	return NULL;
}

START_TEST(without_even_a_slot_it_waits)
{
	pthread_t thread;

	begin();
	source.steps_itself = true;
	get(3);
	sheaf_cache_shrink(cache);
	test_fail_nth(0, true);
	pthread_create(&thread, NULL, retire_without_slot, NULL);
	pthread_join(thread, NULL);
	ck_assert(test_fail_end());
	ck_assert_uint_eq(arena_out(&arena), 0);
	end();
}
END_TEST

/* Only a test can do this: it knows that nobody reads. */
static void take_back_abandoned(unsigned n)
{
	ck_assert_uint_eq(cache->abandoned, n);
	backend_put(cache, n, objects);
	cache->abandoned = 0;
}

START_TEST(without_anything_it_abandons_and_counts)
{
	size_t live = 0;

	/* A source that cannot wait. */
	begin();
	get(3);
	sheaf_cache_shrink(cache);
	test_fail_nth(0, true);
	retire(2);
	test_fail_end();
	ck_assert_uint_eq(cache_stats(cache).abandoned, 2);
	source_step();
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EBUSY);
	ck_assert_uint_eq(live, 3);
	take_back_abandoned(2);
	put_one(2);
	end();
}
END_TEST

/*
 * Over liburcu.
 */
static struct sheaf_gp_urcu urcu;

static void begin_urcu(void)
{
	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL), 0);
	begin_with((struct sheaf_cache_attr){.gp = &urcu.gp});
}

static void end_urcu(void)
{
	end();
	sheaf_gp_urcu_fini(&urcu);
}

START_TEST(inside_a_read_section_it_abandons)
{
	begin_urcu();
	rcu_register_thread();
	get(2);
	sheaf_cache_shrink(cache);
	test_fail_nth(0, true);
	sheaf_gp_read_lock(&urcu.gp);
	retire(1);
	sheaf_gp_read_unlock(&urcu.gp);
	ck_assert_uint_eq(cache->abandoned, 1);
	retire_one(1);
	test_fail_end();
	ck_assert_uint_eq(cache_stats(cache).abandoned, 1);
	ck_assert_uint_eq(arena_out(&arena), 1);
	take_back_abandoned(1);
	rcu_unregister_thread();
	end_urcu();
}
END_TEST

static uint32_t in_section;

static void *read_for_long(void *arg)
{
	(void)arg;
	rcu_register_thread();
	sheaf_gp_read_lock(&urcu.gp);
	/* Retiring is fine here, also when it seals. */
	get(2 * CAPACITY + 1);
	retire(2 * CAPACITY + 1);
	store_release(&in_section, 1);
	test_sleep_ms(100);
	store_release(&in_section, 2);
	sheaf_gp_read_unlock(&urcu.gp);
	rcu_unregister_thread();
	return NULL;
}

START_TEST(barrier_outlasts_read_sections)
{
	pthread_t reader;

	begin_urcu();
	in_section = 0;
	pthread_create(&reader, NULL, read_for_long, NULL);
	while (!load_acquire(&in_section))
		test_pause();
	ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
	ck_assert_uint_eq(load_acquire(&in_section), 2);
	pthread_join(reader, NULL);
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(arena_out(&arena), 0);
	end_urcu();
}
END_TEST

static void barrier_in_section(void *arg)
{
	(void)arg;
	get(1);
	rcu_register_thread();
	sheaf_gp_read_lock(&urcu.gp);
	retire(1);
	sheaf_cache_barrier(cache);
}

static void retire_without_source(void *arg)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 8, .name = "nameless"};

	(void)arg;
	sheaf_cache_create(&cache, &attr);
	sheaf_cache_free_rcu(cache, sheaf_cache_alloc(cache, 0));
}

START_TEST(misuse_is_told)
{
	begin_urcu();
	ck_assert(test_dies(barrier_in_section, NULL, "inside a read section"));
	ck_assert(test_dies(retire_without_source, NULL, "cache nameless: retire without"));
	end_urcu();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("rcu");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, not_before_the_ticket_and_all_after_it);
	tcase_add_test(tc, partial_sheaves_come_back_too);
	tcase_add_loop_test(tc, barrier_reaches_every_slot, 0, 2);
	tcase_add_test(tc, slots_of_ended_threads_are_adopted_whole);
	tcase_add_loop_test(tc, barrier_waits_for_sheaves_in_transit, 0, 2);
	tcase_add_test(tc, retired_where_it_was_sealed);
	tcase_add_test(tc, destroy_waits_for_what_is_retired);
	tcase_add_test(tc, slot_in_use_is_gone_round);
	tcase_add_test(tc, without_memory_sheaves_are_emptied);
	tcase_add_test(tc, without_any_sheaf_it_waits);
	tcase_add_test(tc, without_even_a_slot_it_waits);
	tcase_add_test(tc, without_anything_it_abandons_and_counts);
	tcase_add_test(tc, inside_a_read_section_it_abandons);
	tcase_add_test(tc, barrier_outlasts_read_sections);
	tcase_add_test(tc, misuse_is_told);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
