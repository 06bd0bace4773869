/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the cache, by one thread at a time: attributes are checked; the trips
 * to barn and backend are as few as the capacity and the limits say, to the trip;
 * bulk operations go to the backend once; the backend is never called inside a
 * slot; the node is asked anew after each time out of a slot; a slot that is in use
 * is gone round; partial sheaves of any capacity may stand in a barn; flush does not
 * skip; shrink and destroy give back everything, and a refused destroy leaves the cache
 * as it was.
 */
#include "arena.h"
#include "base/memory.h"
#include "base/topology.h"
#include "cache_state.h"
#include "common.h"

#include <errno.h>
#include <string.h>

#define CAPACITY 4
#define MANY 64

static struct arena arena;
static struct sheaf_cache *cache;
static void *objects[MANY];

static void begin(uint32_t full, uint32_t empty)
{
	arena_init(&arena, 32);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = CAPACITY,
					    .barn_full = full,
					    .barn_empty = empty,
					    .nodes = 1,
				    });
}

static void end(void)
{
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

static void put(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		ck_assert(arena_disown(&arena, objects[i], ARENA_USER));
		sheaf_cache_free(cache, objects[i]);
	}
}

/* An attribute struct that is right; tests make one thing wrong. */
static struct sheaf_cache_attr *right(void)
{
	static struct sheaf_cache_attr attr;

	attr = (struct sheaf_cache_attr){
		.size = sizeof(attr),
		.object_size = 32,
		.backend = arena_backend(&arena),
	};
	return &attr;
}

static void refuse(const struct sheaf_cache_attr *attr)
{
	struct sheaf_cache *made = NULL;

	ck_assert_int_eq(sheaf_cache_create(&made, attr), -EINVAL);
	ck_assert_ptr_null(made);
	/* Its backend stays the caller's. */
	ck_assert(!arena.destroyed);
}

static int always_first(void *arg)
{
	(void)arg;
	return 0;
}

START_TEST(wrong_attributes_are_refused)
{
	static const struct sheaf_backend_ops no_alloc = {.name = "no alloc"};
	static const size_t aligns[] = {3, 12, 24, ((size_t)1 << 40) + 1};
	struct {
		struct sheaf_cache_attr attr;
		uint64_t newer;
	} larger;
	struct sheaf_cache_attr *a;

	arena_init(&arena, 32);
	refuse(NULL);
	(a = right())->size = 0;
	refuse(a);
	(a = right())->size = sizeof(*a) - 1;
	refuse(a);
	(a = right())->object_size = 0;
	refuse(a);
	(a = right())->object_size = ((size_t)1 << 30) + 1;
	refuse(a);
	(a = right())->capacity = 65537;
	refuse(a);
	(a = right())->nodes = 65;
	refuse(a);
	(a = right())->barns_per_node = TOPOLOGY_CACHES_MAX + 1;
	a->current_node = always_first;
	refuse(a);
	/* Who tells them apart? */
	(a = right())->barns_per_node = 2;
	a->current_node = NULL;
	refuse(a);
	(a = right())->backend.ops = &no_alloc;
	refuse(a);
	for (unsigned i = 0; i < 4; i++) {
		(a = right())->object_align = aligns[i];
		refuse(a);
	}
	/* Without a backend of one's own, one of the library's must be able to do it. */
	(a = right())->backend.ops = NULL;
	a->object_align = 1u << 21;
	refuse(a);
	/* A newer program may only lack what it does not use. */
	larger.attr = *right();
	larger.attr.size = sizeof(larger);
	larger.newer = 1;
	refuse(&larger.attr);
	larger.newer = 0;
	ck_assert_int_eq(sheaf_cache_create(&cache, &larger.attr), 0);
	end();
}
END_TEST

START_TEST(own_backends_of_any_size)
{
	static const size_t sizes[] = {1,  2,   7,    8,    9,     15,    16,
				       17, 100, 4096, 8192, 65536, 65537, 1 << 20};

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (size_t align = 0; align <= 8192; align = align ? align * 2 : 1) {
			struct sheaf_cache_attr a = {
				.size = sizeof(a),
				.object_size = sizes[i],
				.object_align = align,
			};
			size_t want = align ? align : sizes[i] < 16 ? 8 : 16;

			ck_assert_int_eq(sheaf_cache_create(&cache, &a), 0);
			for (unsigned n = 0; n < 3; n++) {
				objects[n] = sheaf_cache_alloc(cache, 0);
				ck_assert_ptr_nonnull(objects[n]);
				ck_assert_uint_eq((uintptr_t)objects[n] % want, 0);
				memset(objects[n], 0x55, sizes[i]);
			}
			for (unsigned n = 0; n < 3; n++)
				sheaf_cache_free(cache, objects[n]);
			ck_assert(sheaf_cache_check(cache));
			ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
		}
	}
}
END_TEST

/* One trip to the backend per sheaf out, and one per sheaf back that has no place. */
START_TEST(trips_are_one_per_sheaf)
{
	struct sheaf_cache_stats s;

	begin(2, 2);
	get(6 * CAPACITY);
	s = cache_stats(cache);
	ck_assert_uint_eq(s.backend_alloc_trips, 6);
	ck_assert_uint_eq(s.backend_allocated, 6 * CAPACITY);
	ck_assert_uint_eq(s.barn_alloc_trips, 6);
	ck_assert_uint_eq(s.barn_failed, 6);
	ck_assert_uint_eq(s.held_slots + s.held_barns, 0);
	put(6 * CAPACITY);
	s = cache_stats(cache);
	/* Two sheaves stay in the slot, two in the barn; two go back. */
	ck_assert_uint_eq(s.held_slots, 2 * CAPACITY);
	ck_assert_uint_eq(s.held_barns, 2 * CAPACITY);
	ck_assert_uint_eq(s.backend_free_trips, 2);
	ck_assert_uint_eq(s.backend_freed, 2 * CAPACITY);
	ck_assert_uint_eq(arena_out(&arena), 4 * CAPACITY);
	ck_assert(sheaf_cache_check(cache));
	end();
}
END_TEST

/* What fits into slot and barn goes round there, however often. */
START_TEST(steady_state_stays_in_slot_and_barn)
{
	struct sheaf_cache_stats warm, s;

	begin(8, 8);
	for (unsigned i = 0; i < 3; i++) {
		get(6 * CAPACITY);
		put(6 * CAPACITY);
	}
	warm = cache_stats(cache);
	for (unsigned i = 0; i < 100; i++) {
		get(2 * CAPACITY);
		put(2 * CAPACITY);
	}
	s = cache_stats(cache);
	ck_assert_uint_eq(s.barn_alloc_trips, warm.barn_alloc_trips);
	ck_assert_uint_eq(s.barn_free_trips, warm.barn_free_trips);
	for (unsigned i = 0; i < 100; i++) {
		get(6 * CAPACITY);
		put(6 * CAPACITY);
	}
	s = cache_stats(cache);
	ck_assert_uint_eq(s.backend_alloc_trips, warm.backend_alloc_trips);
	ck_assert_uint_eq(s.backend_free_trips, warm.backend_free_trips);
	ck_assert_uint_eq(s.barn_failed, warm.barn_failed);
	/* Two of six sheaves are in the slot: four trades each way. */
	ck_assert_uint_le(s.barn_alloc_trips - warm.barn_alloc_trips, 400);
	ck_assert_uint_le(s.barn_free_trips - warm.barn_free_trips, 400);
	end();
}
END_TEST

/* Fills the slot, so that the next free has no place in it. */
static void fill_slot(void)
{
	get(2 * CAPACITY);
	put(2 * CAPACITY);
	ck_assert_uint_eq(cache_stats(cache).held_slots, 2 * CAPACITY);
}

START_TEST(bulk_free_goes_to_the_backend_once)
{
	struct sheaf_cache_stats before, after;

	/* No place in the barn: all of it, in one trip, and the slot stays as it was. */
	begin(UINT32_MAX, 2);
	get(MANY);
	put(2 * CAPACITY);
	before = cache_stats(cache);
	for (unsigned i = 2 * CAPACITY; i < MANY; i++)
		arena_disown(&arena, objects[i], ARENA_USER);
	sheaf_cache_free_bulk(cache, MANY - 2 * CAPACITY, objects + 2 * CAPACITY);
	after = cache_stats(cache);
	ck_assert_uint_eq(after.backend_free_trips - before.backend_free_trips, 1);
	ck_assert_uint_eq(arena.last_free, MANY - 2 * CAPACITY);
	ck_assert_uint_eq(after.held_slots, 2 * CAPACITY);
	ck_assert_uint_eq(after.held_barns, 0);
	end();
}
END_TEST

/* Each number of objects, into a slot with each number in it: none is left behind. */
START_TEST(bulk_of_every_size)
{
	for (unsigned in_slot = 0; in_slot <= 2 * CAPACITY; in_slot++)
		for (unsigned n = 0; n <= 6 * CAPACITY; n++) {
			uint64_t trips;

			begin(1 + n % 3, 1 + n % 2);
			get(in_slot);
			put(in_slot);
			trips = arena.alloc_calls;
			ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, n, objects), n);
			ck_assert_uint_le(arena.alloc_calls - trips, 1);
			for (unsigned i = 0; i < n; i++)
				ck_assert(arena_own(&arena, objects[i], ARENA_USER));
			for (unsigned i = 0; i < n; i++)
				ck_assert(arena_disown(&arena, objects[i], ARENA_USER));
			trips = arena.free_calls;
			sheaf_cache_free_bulk(cache, n, objects);
			ck_assert_uint_le(arena.free_calls - trips, 1);
			ck_assert_uint_eq(arena.errors, 0);
			ck_assert(sheaf_cache_check(cache));
			end();
		}
}
END_TEST

/* From inside the backend: this thread is in no slot, and may use any cache. */
static struct sheaf_cache *other;
static unsigned slot_errors;
static unsigned depth;

static void look_at_slot(void *arg)
{
	struct slot *slot = slot_find(cache);
	void *object;

	(void)arg;
	if (slot != &slot_none) {
		slot_errors += slot->busy != 0;
		slot_errors += pthread_mutex_trylock(&slot->lock) != 0;
		pthread_mutex_unlock(&slot->lock);
	}
	if (depth)
		return;
	depth++;
	object = sheaf_cache_alloc(other, 0);
	slot_errors += !object;
	sheaf_cache_free(other, object);
	object = sheaf_cache_alloc(cache, 0);
	slot_errors += !object;
	sheaf_cache_free(cache, object);
	depth--;
}

START_TEST(backend_is_called_outside_slots)
{
	struct sheaf_cache_attr plain = {.size = sizeof(plain), .object_size = 64};
	struct sheaf *sheaf;

	begin(1, 1);
	ck_assert_int_eq(sheaf_cache_create(&other, &plain), 0);
	slot_errors = depth = 0;
	arena.hook = look_at_slot;
	for (unsigned i = 0; i < 10; i++) {
		get(6 * CAPACITY);
		put(6 * CAPACITY);
		ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, MANY, objects), MANY);
		sheaf_cache_free_bulk(cache, MANY, objects);
		sheaf = sheaf_cache_prefill(cache, 3, 0);
		ck_assert_ptr_nonnull(sheaf);
		sheaf_cache_return(cache, sheaf);
		sheaf = sheaf_cache_prefill(cache, 5 * CAPACITY, 0);
		ck_assert_ptr_nonnull(sheaf);
		sheaf_cache_return(cache, sheaf);
		sheaf_cache_flush(cache);
		sheaf_cache_shrink(cache);
	}
	ck_assert_uint_eq(slot_errors, 0);
	ck_assert_uint_gt(arena.alloc_calls + arena.free_calls, 100);
	arena.hook = NULL;
	ck_assert_int_eq(sheaf_cache_destroy(other, NULL), 0);
	end();
}
END_TEST

/* A signal handler that came in while its thread was inside would find this. */
START_TEST(slot_in_use_is_gone_round)
{
	struct sheaf_cache_stats before, after;
	struct slot *slot;
	struct sheaf *sheaf;

	begin(4, 4);
	if (cache->cpus.n) {
		end();
		return;
	}
	fill_slot();
	slot = slot_find(cache);
	before = cache_stats(cache);
	slot->busy = 1;
	for (unsigned i = 0; i < 3; i++) {
		get(3 * CAPACITY);
		put(3 * CAPACITY);
		ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, 10, objects), 10);
		sheaf_cache_free_bulk(cache, 10, objects);
		sheaf = sheaf_cache_prefill(cache, 3, 0);
		ck_assert_ptr_nonnull(sheaf);
		ck_assert_ptr_nonnull(objects[0] = sheaf_cache_alloc_from(cache, sheaf));
		sheaf_cache_return(cache, sheaf);
		sheaf_cache_free(cache, objects[0]);
		sheaf_cache_flush(cache);
	}
	ck_assert_uint_eq(slot->busy, 1);
	slot->busy = 0;
	after = cache_stats(cache);
	/* The slot itself was not touched. */
	ck_assert_uint_eq(after.held_slots, before.held_slots);
	ck_assert_uint_gt(after.bypassed, before.bypassed + 10);
	ck_assert_uint_eq(arena.errors, 0);
	end();
}
END_TEST

START_TEST(bulk_round_a_slot_in_use_goes_to_the_backend_once)
{
	uint64_t allocs, frees;

	begin(2, 2);
	fill_slot();
	slot_find(cache)->busy = 1;
	allocs = arena.alloc_calls;
	frees = arena.free_calls;
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, MANY, objects), MANY);
	ck_assert_uint_eq(arena.alloc_calls, allocs + 1);
	sheaf_cache_free_bulk(cache, MANY, objects);
	ck_assert_uint_le(arena.free_calls, frees + 1);
	slot_find(cache)->busy = 0;
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

static uint64_t held_by_node(unsigned node)
{
	struct sheaf_barn_stats stats;

	sheaf_barn_stats(&cache->node[node].barn, &stats);
	return stats.objects;
}

START_TEST(sheaves_go_to_the_node_of_the_moment)
{
	arena_init(&arena, 32);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = CAPACITY,
					    .nodes = 4,
					    .current_node = injected_node,
					    .node_arg = &node_now,
				    });
	for (node_now = 0; node_now < 4; node_now++) {
		get(2 * CAPACITY);
		ck_assert_int_eq(arena.last_node, (int)node_now);
		put(2 * CAPACITY);
		sheaf_cache_flush(cache);
		ck_assert_uint_eq(held_by_node(node_now), 2 * CAPACITY);
	}
	/* Each node's barn serves its own. */
	for (node_now = 3; node_now < 4; node_now--) {
		uint64_t trips = arena.alloc_calls;

		get(2 * CAPACITY);
		ck_assert_uint_eq(arena.alloc_calls, trips);
		ck_assert_uint_eq(held_by_node(node_now), 0);
		sheaf_cache_free_bulk(cache, 0, NULL);
		for (unsigned i = 0; i < 2 * CAPACITY; i++)
			arena_disown(&arena, objects[i], ARENA_USER);
		sheaf_cache_free_bulk(cache, 2 * CAPACITY, objects);
		sheaf_cache_flush(cache);
	}
	/* A number out of range folds. */
	node_now = 6;
	get(1);
	ck_assert_uint_eq(held_by_node(2), CAPACITY);
	put(1);
	end();
}
END_TEST

/* The node changes each time it is asked for. */
static int restless_node(void *arg)
{
	return (int)++*(unsigned *)arg;
}

START_TEST(thread_that_is_never_where_it_was)
{
	uint64_t state = test_seed();

	arena_init(&arena, 32);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = CAPACITY,
					    .barn_full = 2,
					    .nodes = 3,
					    .current_node = restless_node,
					    .node_arg = &node_now,
				    });
	for (unsigned round = test_rounds(2000); round; round--) {
		unsigned n = 1 + (unsigned)test_below(&state, MANY - 1);

		get(n);
		put(n);
		if (!test_below(&state, 10))
			sheaf_cache_flush(cache);
		ck_assert(sheaf_cache_check(cache));
	}
	end();
}
END_TEST

/* Sheaves of other capacities, full or partial, wherever they come from. */
START_TEST(sheaves_of_any_capacity_and_fill)
{
	static const uint32_t capacities[] = {1, 2, CAPACITY, 7, 15};
	struct sheaf *sheaf;

	begin(40, 40);
	for (unsigned i = 0; i < 20; i++) {
		uint32_t capacity = capacities[i % 5], fill = i % (capacity + 1);

		sheaf = sheaf_new(capacity);
		if (fill)
			sheaf->size =
				(uint32_t)backend_get_on(cache, 0, 0, fill, fill, sheaf->objects);
		sheaf_barn_keep(&cache->node[0].barn, sheaf);
	}
	for (unsigned i = 0; i < 200; i++) {
		unsigned n = 1 + i * 7 % (MANY - 1);

		get(n);
		put(n);
		sheaf = sheaf_cache_prefill(cache, 1 + i % CAPACITY, i % 3 ? 0 : SHEAF_STRICT);
		ck_assert_ptr_nonnull(sheaf);
		ck_assert_ptr_nonnull(objects[0] = sheaf_cache_alloc_from(cache, sheaf));
		sheaf_cache_return(cache, sheaf);
		sheaf_cache_free(cache, objects[0]);
		if (i % 4 == 0)
			sheaf_cache_flush(cache);
		/* The newest is too small for a prefill. */
		if (i % 8 == 0 && (sheaf = sheaf_barn_take_empty(&cache->node[0].barn)) != NULL) {
			sheaf_delete(sheaf);
			sheaf = sheaf_new(1);
			sheaf->size = (uint32_t)backend_get_on(cache, 0, 0, 1, 1, sheaf->objects);
			sheaf_barn_keep(&cache->node[0].barn, sheaf);
			sheaf_cache_return(cache, sheaf_cache_prefill(cache, 2 + i % 3, 0));
		}
		ck_assert(sheaf_cache_check(cache));
	}
	end();
}
END_TEST

START_TEST(flush_gives_the_slot_to_the_barn)
{
	struct sheaf_cache_stats s;

	begin(1, 4);
	fill_slot();
	sheaf_cache_flush(cache);
	s = cache_stats(cache);
	/* One sheaf had room in the barn. */
	ck_assert_uint_eq(s.held_slots, 0);
	ck_assert_uint_eq(s.held_barns, CAPACITY);
	ck_assert_uint_eq(s.backend_freed, CAPACITY);
	sheaf_cache_flush(cache);
	ck_assert_uint_eq(cache_stats(cache).held_barns, CAPACITY);
	end();
}
END_TEST

static uint32_t flushed;

static void *flush_own(void *arg)
{
	(void)arg;
	fill_slot();
	store_release(&flushed, 1);
	while (load_acquire(&flushed) == 1)
		;
	sheaf_cache_flush(cache);
	store_release(&flushed, 3);
	return NULL;
}

/* While another party holds the slot, flush waits; it does not leave the slot full. */
START_TEST(flush_does_not_skip)
{
	pthread_t thread;

	begin(8, 8);
	flushed = 0;
	ck_assert_int_eq(pthread_create(&thread, NULL, flush_own, NULL), 0);
	while (!load_acquire(&flushed))
		;
	pthread_mutex_lock(&cache->remote_lock);
	slots_stop(cache, PART_RCU | PART_ALLOC);
	if (cache->stopped)
		pthread_mutex_lock(&cache->stopped->lock);
	store_release(&flushed, 2);
	test_sleep_ms(50);
	ck_assert_uint_eq(load_acquire(&flushed), 2);
	if (cache->stopped)
		pthread_mutex_unlock(&cache->stopped->lock);
	slots_go(cache);
	pthread_mutex_unlock(&cache->remote_lock);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(cache_stats(cache).held_slots, 0);
	ck_assert_uint_eq(cache_stats(cache).held_barns, 2 * CAPACITY);
	end();
}
END_TEST

START_TEST(shrink_gives_back_everything)
{
	begin(8, 8);
	get(MANY);
	put(MANY - 3);
	/* Ten sheaves have a place; the one that was begun holds one object. */
	ck_assert_uint_eq(sheaf_cache_shrink(cache), 9 * CAPACITY + 1);
	ck_assert_uint_eq(arena_out(&arena), 3);
	ck_assert_uint_eq(cache_stats(cache).held_slots + cache_stats(cache).held_barns, 0);
	ck_assert_uint_eq(sheaf_cache_shrink(cache), 0);
	put(0);
	for (unsigned i = MANY - 3; i < MANY; i++) {
		arena_disown(&arena, objects[i], ARENA_USER);
		sheaf_cache_free(cache, objects[i]);
	}
	ck_assert_uint_eq(sheaf_cache_shrink(cache), 3);
	ck_assert_uint_eq(arena_out(&arena), 0);
	end();
}
END_TEST

START_TEST(destroy_counts_what_is_out_and_lets_go_on)
{
	struct sheaf *sheaf;
	size_t live = 0;

	begin(8, 8);
	get(5);
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EBUSY);
	ck_assert_uint_eq(live, 5);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), -EBUSY);
	put(5);
	get(MANY);
	put(MANY);
	sheaf = sheaf_cache_prefill(cache, 3, 0);
	live = 0;
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EBUSY);
	ck_assert_uint_eq(live, sheaf->size);
	/* A lent sheaf is one even when nothing is in it. */
	objects[0] = sheaf_cache_alloc_from(cache, sheaf);
	sheaf_cache_free(cache, objects[0]);
	sheaf_cache_return(cache, sheaf);
	sheaf_cache_shrink(cache);
	sheaf = sheaf_cache_prefill(cache, 0, 0);
	ck_assert_uint_eq(sheaf_size(sheaf), 0);
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EBUSY);
	ck_assert_uint_eq(live, 0);
	sheaf_cache_return(cache, sheaf);
	ck_assert(!arena.destroyed);
	end();
}
END_TEST

START_TEST(limits_change_while_in_use)
{
	begin(8, 8);
	get(MANY);
	put(MANY);
	ck_assert_uint_eq(held_by_node(0), 8 * CAPACITY);
	sheaf_cache_set_barn_limits(cache, 2, 0);
	/* What is there stays until it is taken, and is not replaced. */
	ck_assert_uint_eq(held_by_node(0), 8 * CAPACITY);
	get(MANY);
	ck_assert_uint_eq(held_by_node(0), 0);
	put(MANY);
	ck_assert_uint_eq(held_by_node(0), 2 * CAPACITY);
	end();
}
END_TEST

START_TEST(null_is_nothing)
{
	begin(8, 8);
	sheaf_cache_free(cache, NULL);
	sheaf_cache_free_rcu(cache, NULL);
	sheaf_cache_return(cache, NULL);
	ck_assert_uint_eq(cache_stats(cache).held_slots, 0);
	end();
}
END_TEST

/* Cache numbers are used again; each thread's table follows. */
START_TEST(many_caches_come_and_go)
{
	struct sheaf_cache *caches[100];
	struct sheaf_cache_attr plain = {
		.size = sizeof(plain), .object_size = 64, .slots = SHEAF_SLOTS_THREAD};

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 100; i++) {
			ck_assert_int_eq(sheaf_cache_create(&caches[i], &plain), 0);
			sheaf_cache_free(caches[i], sheaf_cache_alloc(caches[i], 0));
		}
		for (unsigned i = round; i < 100; i += 2)
			ck_assert_int_eq(sheaf_cache_destroy(caches[i], NULL), 0);
		for (unsigned i = round; i < 100; i += 2)
			ck_assert_int_eq(sheaf_cache_create(&caches[i], &plain), 0);
		for (unsigned i = 0; i < 100; i++) {
			struct slot *slot = slot_find(caches[i]);

			ck_assert(slot == &slot_none || slot->cache == caches[i]);
			sheaf_cache_free(caches[i], sheaf_cache_alloc(caches[i], 0));
			ck_assert_ptr_eq(slot_find(caches[i])->cache, caches[i]);
		}
		for (unsigned i = 0; i < 100; i++)
			ck_assert_int_eq(sheaf_cache_destroy(caches[i], NULL), 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("unit");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, wrong_attributes_are_refused);
	tcase_add_test(tc, own_backends_of_any_size);
	tcase_add_test(tc, trips_are_one_per_sheaf);
	tcase_add_test(tc, steady_state_stays_in_slot_and_barn);
	tcase_add_test(tc, bulk_free_goes_to_the_backend_once);
	tcase_add_test(tc, bulk_of_every_size);
	tcase_add_test(tc, backend_is_called_outside_slots);
	tcase_add_test(tc, slot_in_use_is_gone_round);
	tcase_add_test(tc, bulk_round_a_slot_in_use_goes_to_the_backend_once);
	tcase_add_test(tc, sheaves_go_to_the_node_of_the_moment);
	tcase_add_test(tc, thread_that_is_never_where_it_was);
	tcase_add_test(tc, sheaves_of_any_capacity_and_fill);
	tcase_add_test(tc, flush_gives_the_slot_to_the_barn);
	tcase_add_test(tc, flush_does_not_skip);
	tcase_add_test(tc, shrink_gives_back_everything);
	tcase_add_test(tc, destroy_counts_what_is_out_and_lets_go_on);
	tcase_add_test(tc, limits_change_while_in_use);
	tcase_add_test(tc, null_is_nothing);
	tcase_add_test(tc, many_caches_come_and_go);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
