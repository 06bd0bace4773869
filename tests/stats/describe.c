/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that sheaf_describe() finds each object in the place where it was put, over slabs, malloc
 * and a backend of the test's, with debug mode and without, and knows what is of no cache; that
 * looking changes nothing; that it may look while three threads go on, and finds what they do not
 * touch; and that sheaf_cache_walk() meets each cache once, while others come and go.
 */
#include <sheaf/debug.h>
#include <urcu/urcu-memb.h>

#include "arena.h"
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <sched.h>
#include <string.h>

#define CAPACITY 4

enum kind { KIND_SLAB, KIND_MALLOC, KIND_DEBUG, KIND_ZONES, KINDS };

static struct sheaf_gp_manual manual;
static struct sheaf_cache *cache;
static enum kind kind;

static void begin(enum kind k)
{
	const struct sheaf_debug_attr debug = {.size = sizeof(debug),
					       .flags = SHEAF_DEBUG_POISON |
							(k == KIND_ZONES ? SHEAF_DEBUG_REDZONE : 0),
					       .quarantine = k == KIND_ZONES ? 3 : 0};
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.name = "described",
					.object_size = 48,
					.capacity = CAPACITY,
					.gp = &manual.gp,
					.rcu_age_us = UINT32_MAX,
					.nodes = 1,
					.debug = k >= KIND_DEBUG ? &debug : NULL};

	kind = k;
	sheaf_gp_manual_init(&manual, 1);
	if (k == KIND_MALLOC)
		ck_assert_int_eq(sheaf_backend_malloc(&attr.backend, 48, 16), 0);
	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
}

static void end(void)
{
	ck_assert(sheaf_cache_check(cache));
	while (sheaf_cache_barrier(cache))
		sheaf_gp_manual_step(&manual);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
}

/* Inside the object as well as at its beginning. */
static void expect(const void *object, enum sheaf_place place)
{
	static const ptrdiff_t offsets[] = {0, 1, 47};
	struct sheaf_description d;
	unsigned i;

	for (i = 0; i < 3; i++) {
		bool known = sheaf_describe((const char *)object + offsets[i], &d, sizeof(d));

		/* A malloc that was not asked cannot be asked. */
		if (kind == KIND_MALLOC &&
		    (place == SHEAF_PLACE_IN_USE || place == SHEAF_PLACE_BACKEND)) {
			ck_assert(!known && d.place == SHEAF_PLACE_NONE && !d.cache);
			continue;
		}
		ck_assert(known);
		ck_assert_str_eq(sheaf_place_name(d.place), sheaf_place_name(place));
		ck_assert_ptr_eq(d.cache, cache);
		ck_assert_str_eq(d.name, "described");
		ck_assert_uint_eq(d.object_size, 48);
		ck_assert_ptr_eq(d.object, object);
		ck_assert_int_eq(d.offset, offsets[i]);
	}
}

START_TEST(each_place)
{
	void *objects[4 * CAPACITY];
	struct sheaf *lent;
	unsigned i;

	begin((enum kind)_i);
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, 4 * CAPACITY, objects), 4 * CAPACITY);
	for (i = 0; i < 4 * CAPACITY; i++)
		expect(objects[i], SHEAF_PLACE_IN_USE);

	if (kind == KIND_ZONES) {
		/* Three are held back; the fourth pushes the first one out. */
		for (i = 0; i < 4; i++)
			sheaf_cache_free(cache, objects[i]);
		expect(objects[0], SHEAF_PLACE_MAIN);
		for (i = 1; i < 4; i++)
			expect(objects[i], SHEAF_PLACE_QUARANTINE);
		sheaf_cache_free_bulk(cache, 3 * CAPACITY, objects + 4);
		sheaf_cache_shrink(cache);
		expect(objects[0], SHEAF_PLACE_BACKEND);
		end();
		return;
	}

	/* The spare is the one that was filled first. */
	for (i = 0; i < 2 * CAPACITY; i++)
		sheaf_cache_free(cache, objects[i]);
	for (i = 0; i < 2 * CAPACITY; i++)
		expect(objects[i], i < CAPACITY ? SHEAF_PLACE_SPARE : SHEAF_PLACE_MAIN);
	for (; i < 3 * CAPACITY; i++)
		sheaf_cache_free(cache, objects[i]);
	expect(objects[0], SHEAF_PLACE_BARN);
	expect(objects[3 * CAPACITY - 1], SHEAF_PLACE_MAIN);

	sheaf_cache_free_rcu(cache, objects[i]);
	expect(objects[i], SHEAF_PLACE_RCU);
	sheaf_cache_flush(cache);
	expect(objects[i], SHEAF_PLACE_RIPENING);
	expect(objects[0], SHEAF_PLACE_BARN);
	sheaf_gp_manual_step(&manual);
	expect(objects[i], SHEAF_PLACE_RIPE);
	sheaf_cache_shrink(cache);
	expect(objects[i], SHEAF_PLACE_BACKEND);
	expect(objects[0], SHEAF_PLACE_BACKEND);
	expect(objects[i + 1], SHEAF_PLACE_IN_USE);
	sheaf_cache_free_bulk(cache, CAPACITY - 1, objects + i + 1);

	lent = sheaf_cache_prefill(cache, 2, 0);
	ck_assert_ptr_nonnull(lent);
	objects[0] = sheaf_cache_alloc_from(cache, lent);
	objects[1] = sheaf_cache_alloc_from(cache, lent);
	sheaf_cache_free(cache, objects[1]);
	expect(objects[0], SHEAF_PLACE_IN_USE);
	expect(objects[1], SHEAF_PLACE_MAIN);
	sheaf_cache_return(cache, lent);
	sheaf_cache_free(cache, objects[0]);
	end();
}
END_TEST

/* What is in a lent sheaf is told from what is in use by debug mode alone; else by the number. */
START_TEST(lent)
{
	struct sheaf_description d;
	struct sheaf *sheaf;
	void *object, *last;

	begin(_i ? KIND_DEBUG : KIND_SLAB);
	sheaf = sheaf_cache_prefill(cache, 2, 0);
	ck_assert_ptr_nonnull(sheaf);
	last = sheaf->objects[0];
	object = sheaf_cache_alloc_from(cache, sheaf);
	ck_assert(sheaf_describe(last, &d, sizeof(d)));
	ck_assert_uint_eq(d.lent_sheaves, 1);
	ck_assert_int_eq(d.place, _i ? SHEAF_PLACE_LENT : SHEAF_PLACE_IN_USE);
	ck_assert(sheaf_describe(object, &d, sizeof(d)));
	ck_assert_int_eq(d.place, SHEAF_PLACE_IN_USE);
	ck_assert(_i ? d.allocated.n > 0 : d.allocated.n == 0);
	sheaf_cache_free(cache, object);
	sheaf_cache_return(cache, sheaf);
	ck_assert(sheaf_describe(last, &d, sizeof(d)));
	ck_assert_uint_eq(d.lent_sheaves, 0);
	end();
}
END_TEST

/* What a signal handler left is taken in, then found. */
START_TEST(left_aside)
{
	struct sheaf_description d;
	void *objects[300];
	unsigned i;

	begin(KIND_SLAB);
	sheaf_cache_set_barn_limits(cache, 0, 0);
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, 300, objects), 300);
	for (i = 0; i < 300; i++)
		sheaf_cache_free_rcu_nowait(cache, objects[i]);
	ck_assert_uint_gt(cache_stats(cache).left_retired, 0);
	for (i = 0; i < 300; i++) {
		ck_assert(sheaf_describe(objects[i], &d, sizeof(d)));
		ck_assert(d.place == SHEAF_PLACE_RIPENING || d.place == SHEAF_PLACE_RCU);
	}
	ck_assert_uint_eq(cache_stats(cache).left_retired, 0);
	end();
}
END_TEST

START_TEST(of_no_cache)
{
	static int mine;
	struct sheaf_description d;
	const void *const others[] = {
		NULL, &mine, &d, (void *)(uintptr_t)-1, (void *)(uintptr_t)0xdead0000beef, "text"};
	unsigned i;

	begin(KIND_SLAB);
	for (i = 0; i < sizeof(others) / sizeof(*others); i++) {
		memset(&d, 0xee, sizeof(d));
		ck_assert(!sheaf_describe(others[i], &d, sizeof(d)));
		ck_assert(d.place == SHEAF_PLACE_NONE && !d.cache && !d.object);
	}
	end();
}
END_TEST

/* Nothing is lost, counted or put elsewhere by being looked at. */
START_TEST(looking_changes_nothing)
{
	struct sheaf_cache_stats before, after;
	void *objects[200];
	struct sheaf_description d;

	begin(KIND_SLAB);
	/* Beyond the cells of the barn, so that its chain is in use. */
	sheaf_cache_set_barn_limits(cache, 200, 200);
	for (unsigned i = 0; i < 200; i++)
		objects[i] = sheaf_cache_alloc(cache, 0);
	sheaf_cache_set_capacity(cache, 1);
	sheaf_cache_shrink(cache);
	for (unsigned i = 0; i < 200; i++)
		sheaf_cache_free(cache, objects[i]);
	before = cache_stats(cache);
	ck_assert_uint_gt(before.barn_full, SHEAF_BARN_CELLS);
	for (unsigned i = 0; i < 200; i++)
		ck_assert(sheaf_describe(objects[i], &d, sizeof(d)) &&
			  d.place != SHEAF_PLACE_IN_USE);
	ck_assert(sheaf_cache_check(cache));
	after = cache_stats(cache);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);
	end();
}
END_TEST

static bool stop;

struct user {
	uint64_t state;
	unsigned errors;
};

static void *use(void *arg)
{
	struct user *u = arg;
	void *objects[10];

	while (!load_acquire(&stop)) {
		size_t n = 1 + test_below(&u->state, 10);

		for (size_t i = 0; i < n; i++) {
			objects[i] = sheaf_cache_alloc(cache, 0);
			if (objects[i])
				*(uint64_t *)objects[i] = u->state;
		}
		for (size_t i = 0; i < n; i++) {
			if (objects[i])
				u->errors += *(uint64_t *)objects[i] != u->state;
			if (i % 3)
				sheaf_cache_free(cache, objects[i]);
			else
				sheaf_cache_free_rcu(cache, objects[i]);
		}
		sched_yield();
	}
	return NULL;
}

START_TEST(while_others_go_on)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 48, .capacity = 2, .nodes = 2};
	struct sheaf_gp_urcu urcu;
	struct user users[3];
	pthread_t threads[3];
	struct sheaf_description d;
	void *mine, *seen[16] = {NULL};
	unsigned errors = 0, found = 0, places[SHEAF_PLACE_BACKEND + 1] = {0};

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL), 0);
	attr.gp = &urcu.gp;
	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	mine = sheaf_cache_alloc(cache, 0);
	for (unsigned i = 0; i < 16; i++)
		seen[i] = sheaf_cache_alloc(cache, 0);
	for (unsigned i = 0; i < 16; i++)
		sheaf_cache_free(cache, seen[i]);
	stop = false;
	for (unsigned i = 0; i < 3; i++) {
		users[i] = (struct user){.state = test_seed() + i};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, use, &users[i]), 0);
	}
	for (unsigned round = test_rounds(300); round; round--) {
		errors += !sheaf_describe(mine, &d, sizeof(d)) || d.place != SHEAF_PLACE_IN_USE ||
			  d.object != mine;
		errors += !sheaf_describe(seen[round % 16], &d, sizeof(d)) ||
			  d.object != seen[round % 16];
		places[d.place]++;
	}
	store_release(&stop, true);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		errors += users[i].errors;
	}
	ck_assert_uint_eq(errors, 0);
	places[SHEAF_PLACE_IN_USE] = places[SHEAF_PLACE_BACKEND] = 0;
	for (unsigned i = 0; i <= SHEAF_PLACE_BACKEND; i++)
		found += places[i];
	ck_assert_uint_gt(found, 0);
	sheaf_cache_free(cache, mine);
	ck_assert(sheaf_cache_check(cache));
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

#define STAY 5

struct walked {
	struct sheaf_cache *stay[STAY];
	unsigned met[STAY];
	unsigned all;
	unsigned most;
	unsigned goes; /* met in all walks */
};

static int meet(void *arg, struct sheaf_cache *c)
{
	struct walked *w = arg;
	struct sheaf_cache_stats s;

	sheaf_cache_stats(c, &s, sizeof(s));
	/* Time for who would like to end it. */
	if (!strcmp(s.name, "goes")) {
		w->goes++;
		test_sleep_ms(1);
		sheaf_cache_stats(c, &s, sizeof(s));
	}
	/* A cache that is destroyed has none; one that is not has its name. */
	if (strcmp(s.name, "stays") && strcmp(s.name, "goes"))
		return -1;
	for (unsigned i = 0; i < STAY; i++)
		w->met[i] += w->stay[i] == c;
	return ++w->all == w->most;
}

static void *come_and_go(void *arg)
{
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 32, .name = "goes"};
	struct user *u = arg;
	struct sheaf_cache *c;

	while (!load_acquire(&stop)) {
		if (sheaf_cache_create(&c, &attr)) {
			u->errors++;
			continue;
		}
		sheaf_cache_free(c, sheaf_cache_alloc(c, 0));
		u->errors += sheaf_cache_destroy(c, NULL) != 0;
	}
	return NULL;
}

START_TEST(walk)
{
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 32, .name = "stays"};
	struct walked w = {.most = 0};
	struct user users[2] = {{.errors = 0}};
	pthread_t threads[2];
	unsigned errors = 0;

	ck_assert_int_eq(sheaf_cache_walk(meet, &w), 0);
	ck_assert_uint_eq(w.all, 0);
	for (unsigned i = 0; i < STAY; i++)
		ck_assert_int_eq(sheaf_cache_create(&w.stay[i], &attr), 0);
	w.most = 3;
	ck_assert_int_eq(sheaf_cache_walk(meet, &w), 1);
	ck_assert_uint_eq(w.all, 3);
	stop = false;
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, &users[i]), 0);
	while (w.goes < test_rounds(50)) {
		memset(w.met, 0, sizeof(w.met));
		w.most = w.all = 0;
		errors += sheaf_cache_walk(meet, &w) != 0;
		for (unsigned i = 0; i < STAY; i++)
			errors += w.met[i] != 1;
		sched_yield();
	}
	store_release(&stop, true);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		errors += users[i].errors;
	}
	ck_assert_uint_eq(errors, 0);
	for (unsigned i = 0; i < STAY; i++)
		ck_assert_int_eq(sheaf_cache_destroy(w.stay[i], NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("stats");
	TCase *tc = tcase_create("describe");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, each_place, 0, KINDS);
	tcase_add_loop_test(tc, lent, 0, 2);
	tcase_add_test(tc, left_aside);
	tcase_add_test(tc, of_no_cache);
	tcase_add_test(tc, looking_changes_nothing);
	tcase_add_test(tc, while_others_go_on);
	tcase_add_test(tc, walk);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
