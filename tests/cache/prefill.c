/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of prefilled sheaves: as many objects as were asked for can be had, for any
 * number below and above the capacity, and after any refill; a strict one gives exactly
 * that many and tells of one more with the call site; to borrow and return costs no trip
 * at all in the steady state, and a returned sheaf goes where there is room and not to
 * the backend; under SHEAF_NOWAIT nothing allocates, and the backend is only asked under
 * the same flag; failure loses nothing and leaves the sheaf as good as it was; the
 * histograms count what was asked and used, exactly.
 */
#include "arena.h"
#include "base/memory.h"
#include "cache_state.h"
#include "common.h"

#include <errno.h>
#include <string.h>

#define CAPACITY 4
#define MANY 64
#define PREFILL_MAX (1u << 20)

static struct arena arena;
static struct sheaf_cache *cache;
static void *objects[MANY];
static unsigned in_hand;

static struct {
	unsigned calls;
	uint32_t asked;
	const void *caller;
} overuse;

static void on_overuse(void *arg, struct sheaf_cache *which, uint32_t asked, const void *caller)
{
	ck_assert_ptr_eq(arg, &overuse);
	ck_assert_ptr_eq(which, cache);
	overuse.calls++;
	overuse.asked = asked;
	overuse.caller = caller;
}

static void begin(uint32_t full, uint32_t empty)
{
	arena_init(&arena, 32);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = CAPACITY,
					    .barn_full = full,
					    .barn_empty = empty,
					    .nodes = 1,
					    .overuse = on_overuse,
					    .overuse_arg = &overuse,
				    });
	overuse.calls = 0;
	in_hand = 0;
}

static void free_all(void)
{
	while (in_hand) {
		in_hand--;
		ck_assert(arena_disown(&arena, objects[in_hand], ARENA_USER));
		sheaf_cache_free(cache, objects[in_hand]);
	}
}

static void end(void)
{
	free_all();
	arena_cache_end(&arena, cache);
}

/* Fills slot and barn. */
static void warm_up(void)
{
	void *warm[MANY];

	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, MANY, warm), MANY);
	for (unsigned i = 0; i < MANY; i++)
		sheaf_cache_free(cache, warm[i]);
}

static bool use(struct sheaf *sheaf)
{
	void *object = sheaf_cache_alloc_from(cache, sheaf);

	if (!object)
		return false;
	ck_assert(arena_own(&arena, object, ARENA_USER));
	objects[in_hand++] = object;
	return true;
}

static struct sheaf *borrow(uint32_t n, unsigned flags)
{
	struct sheaf *sheaf = sheaf_cache_prefill(cache, n, flags);

	ck_assert_ptr_nonnull(sheaf);
	ck_assert_uint_ge(sheaf_size(sheaf), n);
	ck_assert(sheaf_check(sheaf));
	return sheaf;
}

START_TEST(as_many_as_asked_for)
{
	for (unsigned strict = 0; strict < 2; strict++) {
		begin(4, 4);
		for (uint32_t n = 0; n <= 5 * CAPACITY; n++) {
			struct sheaf *sheaf = borrow(n, strict ? SHEAF_STRICT : 0);
			uint32_t most = sheaf_size(sheaf);

			for (uint32_t i = 0; i < n; i++)
				ck_assert(use(sheaf));
			while (!strict && in_hand < most)
				ck_assert(use(sheaf));
			ck_assert_uint_eq(overuse.calls, 0);
			ck_assert(!use(sheaf));
			ck_assert(!use(sheaf));
			ck_assert_uint_eq(overuse.calls, strict ? 2 : 0);
			if (strict) {
				ck_assert_uint_eq(overuse.asked, n);
				ck_assert_ptr_nonnull(overuse.caller);
			}
			overuse.calls = 0;
			sheaf_cache_return(cache, sheaf);
			free_all();
			ck_assert(sheaf_cache_check(cache));
		}
		end();
	}
}
END_TEST

/* Borrow, use one or none, return: all from the spare. */
START_TEST(steady_state_makes_no_trips)
{
	struct sheaf_cache_stats before, after;

	begin(8, 8);
	warm_up();
	before = cache_stats(cache);
	for (unsigned i = 0; i < 1000; i++) {
		struct sheaf *sheaf = borrow(1 + i % CAPACITY, i % 3 ? 0 : SHEAF_STRICT);

		if (i % 2)
			ck_assert(use(sheaf));
		sheaf_cache_return(cache, sheaf);
		free_all();
	}
	after = cache_stats(cache);
	ck_assert_uint_eq(after.barn_alloc_trips, before.barn_alloc_trips);
	ck_assert_uint_eq(after.barn_free_trips, before.barn_free_trips);
	ck_assert_uint_eq(after.backend_alloc_trips, before.backend_alloc_trips);
	ck_assert_uint_eq(after.backend_free_trips, before.backend_free_trips);
	ck_assert_uint_eq(after.prefills, before.prefills + 1000);
	end();
}
END_TEST

/* All used, and freed before or after the return: at most four visits to the barn. */
START_TEST(use_of_all_stays_above_the_backend)
{
	struct sheaf_cache_stats before, after;

	begin(8, 8);
	warm_up();
	before = cache_stats(cache);
	for (unsigned i = 0; i < 1000; i++) {
		struct sheaf *sheaf = borrow(CAPACITY, 0);

		while (use(sheaf))
			;
		if (i % 2)
			free_all();
		sheaf_cache_return(cache, sheaf);
		free_all();
	}
	after = cache_stats(cache);
	ck_assert_uint_eq(after.backend_alloc_trips, before.backend_alloc_trips);
	ck_assert_uint_eq(after.backend_free_trips, before.backend_free_trips);
	ck_assert_uint_le(after.barn_alloc_trips + after.barn_free_trips,
			  before.barn_alloc_trips + before.barn_free_trips + 4 * 1000);
	end();
}
END_TEST

/* A limit test the wrong way round would flush each of them, or keep them all. */
START_TEST(returned_sheaves_go_where_there_is_room)
{
	struct sheaf *lent[10];
	struct sheaf_cache_stats s;

	begin(5, 5);
	for (unsigned i = 0; i < 10; i++)
		lent[i] = borrow(CAPACITY, 0);
	ck_assert_uint_eq(cache_stats(cache).held_lent, 10 * CAPACITY);
	for (unsigned i = 0; i < 7; i++)
		sheaf_cache_return(cache, lent[i]);
	s = cache_stats(cache);
	/* Two in the slot, five in the barn, no trip to the backend so far. */
	ck_assert_uint_eq(s.held_slots, 2 * CAPACITY);
	ck_assert_uint_eq(s.held_barns, 5 * CAPACITY);
	ck_assert_uint_eq(s.held_lent, 3 * CAPACITY);
	ck_assert_uint_eq(s.backend_free_trips, 0);
	for (unsigned i = 7; i < 10; i++)
		sheaf_cache_return(cache, lent[i]);
	s = cache_stats(cache);
	ck_assert_uint_eq(s.held_barns, 5 * CAPACITY);
	ck_assert_uint_eq(s.held_lent, 0);
	ck_assert_uint_eq(s.backend_free_trips, 3);
	ck_assert_uint_eq(s.backend_freed, 3 * CAPACITY);
	end();
}
END_TEST

START_TEST(oversize_objects_go_back_in_bulk)
{
	struct sheaf_cache_stats before, after;
	struct sheaf *sheaf;

	begin(2, 2);
	warm_up();
	before = cache_stats(cache);
	sheaf = borrow(10 * CAPACITY, 0);
	ck_assert_uint_eq(sheaf->capacity, 10 * CAPACITY);
	after = cache_stats(cache);
	ck_assert_uint_eq(after.prefills_oversize, before.prefills_oversize + 1);
	ck_assert_uint_le(after.backend_alloc_trips, before.backend_alloc_trips + 1);
	sheaf_cache_return(cache, sheaf);
	after = cache_stats(cache);
	ck_assert_uint_le(after.backend_free_trips, before.backend_free_trips + 1);
	end();
}
END_TEST

START_TEST(largest)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 8};
	struct sheaf *sheaf;

	begin(2, 2);
	ck_assert_ptr_null(sheaf_cache_prefill(cache, PREFILL_MAX + 1, 0));
	ck_assert_ptr_null(sheaf_cache_prefill(cache, UINT32_MAX, 0));
	/* More than there is. */
	ck_assert_ptr_null(sheaf_cache_prefill(cache, ARENA_OBJECTS + 1, 0));
	ck_assert_uint_eq(cache_stats(cache).prefills, 0);
	end();
	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	sheaf = sheaf_cache_prefill(cache, PREFILL_MAX, SHEAF_STRICT);
	ck_assert_ptr_nonnull(sheaf);
	ck_assert_uint_eq(sheaf_size(sheaf), PREFILL_MAX);
	ck_assert_int_eq(sheaf_cache_refill(cache, &sheaf, PREFILL_MAX + 1, 0), -EINVAL);
	sheaf_cache_return(cache, sheaf);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
}
END_TEST

/* From any state to any number: that many more, and a strict one not one more. */
START_TEST(refill_for_any_number)
{
	for (unsigned strict = 0; strict < 2; strict++)
		for (uint32_t n = 0; n <= 2 * CAPACITY; n++)
			for (uint32_t used = 0; used <= n; used++)
				for (uint32_t more = 0; more <= 3 * CAPACITY; more++) {
					struct sheaf *sheaf;

					begin(4, 4);
					sheaf = borrow(n, strict ? SHEAF_STRICT : 0);
					while (in_hand < used)
						ck_assert(use(sheaf));
					ck_assert_int_eq(sheaf_cache_refill(cache, &sheaf, more, 0),
							 0);
					ck_assert(sheaf_check(sheaf));
					while (in_hand < used + more)
						ck_assert(use(sheaf));
					if (strict)
						ck_assert(!use(sheaf));
					ck_assert_uint_eq(overuse.calls, strict);
					sheaf_cache_return(cache, sheaf);
					end();
				}
}
END_TEST

START_TEST(refill_that_fails_leaves_it_valid)
{
	for (unsigned strict = 0; strict < 2; strict++)
		for (uint32_t more = 2; more <= 3 * CAPACITY; more++) {
			struct sheaf *sheaf;
			uint32_t size;

			begin(4, 4);
			arena.most = 5;
			arena.per_call = 3;
			sheaf = borrow(3, strict ? SHEAF_STRICT : 0);
			ck_assert(use(sheaf));
			size = sheaf_size(sheaf);
			arena.most = 4;
			ck_assert_int_eq(sheaf_cache_refill(cache, &sheaf, PREFILL_MAX + 1, 0),
					 -EINVAL);
			ck_assert_int_eq(sheaf_cache_refill(cache, &sheaf, more, 0),
					 more <= 3 ? 0 : -ENOMEM);
			ck_assert_uint_ge(sheaf_size(sheaf), size);
			ck_assert(sheaf_check(sheaf));
			/* What was promised before still holds, and no more if it is strict. */
			ck_assert(use(sheaf));
			ck_assert(use(sheaf));
			if (strict && more > 3)
				ck_assert(!use(sheaf));
			while (!strict && use(sheaf))
				;
			sheaf_cache_return(cache, sheaf);
			arena.most = MANY;
			end();
		}
}
END_TEST

START_TEST(prefill_that_fails_loses_nothing)
{
	for (uint32_t n = 1; n <= 4 * CAPACITY; n++)
		for (unsigned most = 0; most < n; most++) {
			struct sheaf_cache_stats s;

			begin(4, 4);
			arena.most = most;
			arena.per_call = 1 + n % CAPACITY;
			ck_assert_ptr_null(sheaf_cache_prefill(cache, n, n % 2 ? SHEAF_STRICT : 0));
			ck_assert_uint_eq(arena.errors, 0);
			s = cache_stats(cache);
			ck_assert_uint_eq(s.held_slots + s.held_barns, arena_out(&arena));
			ck_assert_uint_eq(s.held_lent + s.prefills, 0);
			arena.most = ARENA_OBJECTS;
			arena.per_call = ARENA_OBJECTS;
			sheaf_cache_return(cache, borrow(n, 0));
			end();
		}
}
END_TEST

/*
 * SHEAF_NOWAIT.
 */
static unsigned library_allocations;

static bool count_allocation(size_t bytes)
{
	(void)bytes;
	library_allocations++;
	return false;
}

/* Tries it with everything watched; true if there was a sheaf. */
static bool try_nowait(uint32_t n, unsigned flags)
{
	uint64_t calls = arena.alloc_calls - arena.nowait_calls, frees = arena.free_calls;
	struct sheaf *sheaf;

	library_allocations = 0;
	sheaf_memory_fault = count_allocation;
	sheaf = sheaf_cache_prefill(cache, n, flags | SHEAF_NOWAIT);
	if (sheaf)
		while (use(sheaf) && in_hand < n)
			;
	if (sheaf)
		ck_assert_uint_eq(in_hand, n);
	sheaf_memory_fault = NULL;
	ck_assert_uint_eq(library_allocations, 0);
	ck_assert_uint_eq(arena.alloc_calls - arena.nowait_calls, calls);
	ck_assert_uint_eq(arena.free_calls, frees);
	if (!sheaf)
		return false;
	sheaf_cache_return(cache, sheaf);
	free_all();
	return true;
}

START_TEST(nowait_is_what_the_layers_hold)
{
	begin(2, 2);
	for (unsigned strict = 0; strict <= SHEAF_STRICT; strict += SHEAF_STRICT) {
		sheaf_cache_shrink(cache);
		ck_assert(!try_nowait(1, strict));
		warm_up();
		for (uint32_t n = 1; n <= CAPACITY; n++)
			ck_assert(try_nowait(n, strict));
		/* Full slot, full barn: what a strict one has too many has no place but in it. */
		for (uint32_t n = CAPACITY; n; n--) {
			warm_up();
			ck_assert(try_nowait(n, strict));
		}
		/* No room for more without an allocation. */
		ck_assert(!try_nowait(CAPACITY + 1, strict));
	}
	/* A backend that can do it without waiting is asked. */
	sheaf_cache_shrink(cache);
	warm_up();
	arena.nowait_too = true;
	for (unsigned i = 0; i < 20; i++) {
		struct sheaf *lent[6];

		for (unsigned k = 0; k < 4; k++)
			lent[k] = sheaf_cache_prefill(cache, CAPACITY, SHEAF_NOWAIT);
		for (unsigned k = 0; k < 4; k++)
			if (lent[k])
				sheaf_cache_return(cache, lent[k]);
		try_nowait(1 + i % CAPACITY, 0);
	}
	end();
}
END_TEST

static void *nowait_without_slot(void *arg)
{
	struct sheaf *sheaf = sheaf_cache_prefill(cache, 3, SHEAF_NOWAIT);
	void *bulk[CAPACITY];

	(void)arg;
	if (!sheaf)
		return "no sheaf, although the barn has some";
	sheaf_cache_return(cache, sheaf);
	if (sheaf_cache_alloc_bulk(cache, SHEAF_NOWAIT, CAPACITY, bulk) != CAPACITY)
		return "no bulk, although the barn has enough";
	sheaf_cache_free_bulk(cache, CAPACITY, bulk);
	return NULL;
}

/* A thread that never had a slot gets none for SHEAF_NOWAIT; the barn is there all the same. */
START_TEST(nowait_without_a_slot)
{
	pthread_t thread;
	void *error;

	begin(8, 8);
	warm_up();
	ck_assert_int_eq(pthread_create(&thread, NULL, nowait_without_slot, NULL), 0);
	pthread_join(thread, &error);
	ck_assert_msg(!error, "%s", (const char *)error);
	end();
}
END_TEST

/*
 * Histograms.
 */
static unsigned bucket_of(uint32_t value)
{
	unsigned bucket = 0;

	while (bucket < SHEAF_CACHE_PREFILLS - 1 && value >= UINT32_C(1) << bucket)
		bucket++;
	return bucket;
}

START_TEST(histograms_are_exact)
{
	uint64_t asked[SHEAF_CACHE_PREFILLS] = {0}, used[SHEAF_CACHE_PREFILLS] = {0};
	uint64_t state = test_seed(), prefills = 0, oversize = 0;
	struct sheaf_cache_stats s;

	begin(4, 4);
	for (unsigned round = test_rounds(2000); round; round--) {
		uint32_t n = (uint32_t)test_below(&state, 2 * CAPACITY + 1);
		uint32_t most = (uint32_t)test_below(&state, n + 1), before = in_hand;
		struct sheaf *sheaf = borrow(n, test_below(&state, 2) ? SHEAF_STRICT : 0);

		prefills++;
		oversize += n > CAPACITY;
		asked[bucket_of(n)]++;
		while (in_hand < before + most)
			ck_assert(use(sheaf));
		used[bucket_of(most)]++;
		if (test_below(&state, 2)) {
			n = (uint32_t)test_below(&state, 3 * CAPACITY);
			ck_assert_int_eq(sheaf_cache_refill(cache, &sheaf, n, 0), 0);
			asked[bucket_of(n)]++;
			used[0]++;
		}
		sheaf_cache_return(cache, sheaf);
		free_all();
	}
	s = cache_stats(cache);
	ck_assert_uint_eq(s.prefills, prefills);
	ck_assert_uint_eq(s.prefills_oversize, oversize);
	ck_assert_uint_eq(s.held_lent, 0);
	for (unsigned i = 0; i < SHEAF_CACHE_PREFILLS; i++) {
		ck_assert_uint_eq(s.prefill_asked[i], asked[i]);
		ck_assert_uint_eq(s.prefill_used[i], used[i]);
	}
	end();
}
END_TEST

/*
 * Misuse.
 */
static void overuse_by_default(void *arg)
{
	struct sheaf *sheaf;

	cache->overuse = NULL;
	sheaf = sheaf_cache_prefill(cache, 3, SHEAF_STRICT);
	for (unsigned i = 0; i < 4; i++)
		sheaf_cache_alloc_from(arg, sheaf);
}

static void return_what_is_not_lent(void *arg)
{
	struct sheaf *sheaf = sheaf_new(CAPACITY);

	sheaf_cache_return(arg, sheaf);
}

START_TEST(misuse_is_told)
{
	begin(4, 4);
	ck_assert(test_dies(overuse_by_default, cache, "more than the 3 objects"));
	ck_assert(test_dies(return_what_is_not_lent, cache, "not lent"));
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("prefill");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, as_many_as_asked_for);
	tcase_add_test(tc, steady_state_makes_no_trips);
	tcase_add_test(tc, use_of_all_stays_above_the_backend);
	tcase_add_test(tc, returned_sheaves_go_where_there_is_room);
	tcase_add_test(tc, oversize_objects_go_back_in_bulk);
	tcase_add_test(tc, largest);
	tcase_add_test(tc, refill_for_any_number);
	tcase_add_test(tc, refill_that_fails_leaves_it_valid);
	tcase_add_test(tc, prefill_that_fails_loses_nothing);
	tcase_add_test(tc, nowait_is_what_the_layers_hold);
	tcase_add_test(tc, nowait_without_a_slot);
	tcase_add_test(tc, histograms_are_exact);
	tcase_add_test(tc, misuse_is_told);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
