/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of what is between retiring and coming back: much given in one period hurries the
 * source; above the soft limit allocation gives way before it takes more memory, and
 * surplus goes to the backend; above the hard one throttle waits, and a writer who calls it stays
 * below whatever readers do; sheaves that lie in slots unused are sealed by age, others are not, and
 * a source with nothing to do sleeps; the callback sees each ripe object once, whoever calls
 * it, and keeps what it pops; and waits that could not end are told.
 */
#define _GNU_SOURCE
#include <urcu/urcu-memb.h>

#include "arena.h"
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY 4
#define MANY 256
#define SERVED_MS 10000

static struct arena arena;
static struct sheaf_cache *cache;
static void *objects[MANY];

/* A source that the test steps; it runs tasks when told, and says what it was asked. */
static struct {
	struct sheaf_gp gp;
	uint64_t now;
	unsigned hurries;
	unsigned waits;
	unsigned gave_way;
	bool steps_itself;
	bool steps_in_give_way;
	bool reading;
	struct sheaf_gp_task *tasks[4];
	unsigned arms;
} source;

static void step(void)
{
	store_release(&source.gp.completed, fetch_add_acq_rel(&source.now, 1));
}

static uint64_t source_ticket(struct sheaf_gp *gp)
{
	(void)gp;
	return fetch_add_acq_rel(&source.now, 0);
}

static int source_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	source.waits += !sheaf_gp_elapsed(gp, ticket);
	if (source.steps_itself)
		while (!sheaf_gp_elapsed(gp, ticket))
			step();
	return sheaf_gp_elapsed(gp, ticket) ? 0 : -EDEADLK;
}

static bool source_read_ongoing(struct sheaf_gp *gp)
{
	(void)gp;
	return source.reading;
}

static void source_hurry(struct sheaf_gp *gp)
{
	(void)gp;
	source.hurries++;
}

static void source_give_way(struct sheaf_gp *gp)
{
	(void)gp;
	source.gave_way++;
	if (source.steps_in_give_way)
		step();
}

static int source_attach(struct sheaf_gp *gp, struct sheaf_gp_task *task)
{
	unsigned i = 0;

	(void)gp;
	while (source.tasks[i])
		i++;
	task->armed = 0;
	source.tasks[i] = task;
	return 0;
}

static void source_detach(struct sheaf_gp *gp, struct sheaf_gp_task *task)
{
	(void)gp;
	for (unsigned i = 0; i < 4; i++)
		if (source.tasks[i] == task)
			source.tasks[i] = NULL;
}

static void source_arm(struct sheaf_gp *gp, struct sheaf_gp_task *task)
{
	bool attached = false;

	(void)gp;
	for (unsigned i = 0; i < 4; i++)
		attached |= source.tasks[i] == task;
	ck_assert(attached);
	source.arms++;
}

/* Runs what is armed; how many. */
static unsigned run_tasks(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 4; i++)
		if (source.tasks[i] && source.tasks[i]->armed) {
			source.tasks[i]->armed = 0;
			source.tasks[i]->run(source.tasks[i]);
			n++;
		}
	return n;
}

static const struct sheaf_gp_ops source_ops = {
	.name = "stepped",
	.ticket = source_ticket,
	.wait = source_wait,
	.read_ongoing = source_read_ongoing,
	.hurry = source_hurry,
	.give_way = source_give_way,
	.attach = source_attach,
	.detach = source_detach,
	.arm = source_arm,
};

static void begin_source(void)
{
	memset(&source, 0, sizeof(source));
	source.gp.ops = &source_ops;
	source.now = 1;
}

static void begin(struct sheaf_cache_attr attr)
{
	begin_source();
	attr.gp = &source.gp;
	attr.capacity = CAPACITY;
	attr.nodes = 1;
	/* Tasks are counted here. */
	if (!attr.trim_us)
		attr.trim_us = UINT32_MAX;
	arena_init(&arena, 32);
	cache = arena_cache(&arena, attr);
}

static void end(void)
{
	source.steps_itself = true;
	source.reading = false;
	arena_cache_end(&arena, cache);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_ptr_null(source.tasks[i]);
}

static void get(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		objects[i] = sheaf_cache_alloc(cache, 0);
		ck_assert(arena_own(&arena, objects[i], ARENA_USER));
	}
}

static void retire(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++) {
		ck_assert(arena_disown(&arena, objects[i], ARENA_USER));
		sheaf_cache_free_rcu(cache, objects[i]);
	}
}

static void put(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++) {
		ck_assert(arena_disown(&arena, objects[i], ARENA_USER));
		sheaf_cache_free(cache, objects[i]);
	}
}

static uint64_t in_flight(void)
{
	return cache_stats(cache).in_flight;
}

/* What was retired by this thread is with the recycler. */
static void seal(void)
{
	sheaf_cache_flush(cache);
}

START_TEST(much_in_one_period_hurries)
{
	begin((struct sheaf_cache_attr){.rcu_soft_limit = 6 * CAPACITY});
	get(8 * CAPACITY);
	retire(0, 2 * CAPACITY);
	seal();
	ck_assert_uint_eq(source.hurries, 0);
	retire(2 * CAPACITY, 1);
	seal();
	ck_assert_uint_eq(source.hurries, 1);
	/* As much in two periods is not too much. */
	for (unsigned i = 0; i < 2; i++) {
		step();
		retire((2 + 2 * i) * CAPACITY + 1, 2 * CAPACITY);
		seal();
	}
	ck_assert_uint_eq(source.hurries, 1);
	put(6 * CAPACITY + 1, 2 * CAPACITY - 1);
	end();
	begin((struct sheaf_cache_attr){.rcu_soft_limit = UINT64_MAX});
	get(MANY);
	retire(0, MANY);
	seal();
	ck_assert_uint_eq(source.hurries, 0);
	end();
}
END_TEST

/* So many are in flight, and nothing else is held. */
static void begin_in_flight(struct sheaf_cache_attr attr, unsigned n)
{
	begin(attr);
	get(n);
	retire(0, n);
	seal();
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(in_flight(), n);
	ck_assert_uint_eq(arena_out(&arena), n);
}

START_TEST(allocation_gives_way)
{
	const struct sheaf_cache_attr attr = {.rcu_soft_limit = 4 * CAPACITY};

	begin_in_flight(attr, 5 * CAPACITY);
	source.steps_in_give_way = true;
	get(1);
	ck_assert_uint_eq(source.gave_way, 1);
	ck_assert_uint_eq(cache_stats(cache).gave_way, 1);
	/* One sheaf came back; nothing is in flight beyond the limit any more. */
	ck_assert_uint_eq(in_flight(), 4 * CAPACITY);
	ck_assert_uint_eq(arena_out(&arena), 5 * CAPACITY);
	put(0, 1);
	end();

	/* It goes on without, if that does not help. */
	begin_in_flight(attr, 5 * CAPACITY);
	get(1);
	ck_assert_uint_eq(source.gave_way, 1);
	ck_assert_uint_gt(arena_out(&arena), 5 * CAPACITY);
	put(0, 1);
	end();

	/* Not inside a read section, not if it must not wait, not below the limit. */
	begin_in_flight(attr, 5 * CAPACITY);
	source.reading = true;
	get(1);
	source.reading = false;
	put(0, 1);
	sheaf_cache_shrink(cache);
	ck_assert_ptr_null(sheaf_cache_alloc_nowait(cache));
	ck_assert_uint_eq(source.gave_way, 0);
	end();
	begin_in_flight(attr, 4 * CAPACITY);
	get(1);
	ck_assert_uint_eq(source.gave_way, 0);
	put(0, 1);
	end();
}
END_TEST

/* After slow periods there is more than anybody takes. */
START_TEST(surplus_goes_back)
{
	begin_in_flight((struct sheaf_cache_attr){.rcu_soft_limit = 4 * CAPACITY}, 8 * CAPACITY);
	step();
	/* One for us, one for the backend. */
	get(1);
	ck_assert_uint_eq(in_flight(), 6 * CAPACITY);
	ck_assert_uint_eq(arena_out(&arena), 7 * CAPACITY);
	ck_assert_uint_eq(cache_stats(cache).surplus, CAPACITY);
	put(0, 1);
	end();

	begin_in_flight((struct sheaf_cache_attr){.rcu_soft_limit = 4 * CAPACITY}, 4 * CAPACITY);
	step();
	get(1);
	ck_assert_uint_eq(arena_out(&arena), 4 * CAPACITY);
	ck_assert_uint_eq(cache_stats(cache).surplus, 0);
	put(0, 1);
	end();
}
END_TEST

START_TEST(throttle_waits_above_the_hard_limit)
{
	const struct sheaf_cache_attr attr = {
		.rcu_soft_limit = 2 * CAPACITY,
		.rcu_hard_limit = 4 * CAPACITY,
	};

	begin_in_flight(attr, 4 * CAPACITY);
	ck_assert_int_eq(sheaf_cache_throttle(cache), 0);
	ck_assert_uint_eq(source.waits, 0);
	end();

	begin_in_flight(attr, 5 * CAPACITY);
	ck_assert_int_eq(sheaf_cache_throttle(cache), -EDEADLK);
	ck_assert_uint_eq(in_flight(), 5 * CAPACITY);
	source.steps_itself = true;
	ck_assert_int_eq(sheaf_cache_throttle(cache), 0);
	ck_assert_uint_eq(in_flight(), 2 * CAPACITY);
	ck_assert_uint_eq(arena_out(&arena), 2 * CAPACITY);
	ck_assert_uint_eq(cache_stats(cache).throttled, 2);
	end();

	/* A cache without a source has nothing in flight. */
	arena_init(&arena, 32);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){0});
	ck_assert_int_eq(sheaf_cache_throttle(cache), 0);
	arena_cache_end(&arena, cache);
}
END_TEST

START_TEST(limits_in_objects_and_bytes)
{
	/* An object has 32 bytes. */
	begin((struct sheaf_cache_attr){.rcu_soft_bytes = 3200, .rcu_hard_bytes = 6400});
	ck_assert_uint_eq(cache->rcu_soft_limit, 100);
	ck_assert_uint_eq(cache->rcu_hard_limit, 200);
	ck_assert_int_eq(sheaf_cache_set_rcu_limits(cache, 0, 5), -EINVAL);
	ck_assert_int_eq(sheaf_cache_set_rcu_limits(cache, 6, 5), -EINVAL);
	ck_assert_uint_eq(cache->rcu_soft_limit, 100);
	ck_assert_int_eq(sheaf_cache_set_rcu_limits(cache, 5, 6), 0);
	ck_assert_uint_eq(cache->rcu_soft_limit, 5);
	ck_assert_uint_eq(cache->rcu_hard_limit, 6);
	end();
	begin((struct sheaf_cache_attr){
		.rcu_soft_bytes = 3200, .rcu_soft_limit = 7, .rcu_hard_limit = 3});
	ck_assert_uint_eq(cache->rcu_soft_limit, 7);
	ck_assert_uint_eq(cache->rcu_hard_limit, 7);
	end();
	begin((struct sheaf_cache_attr){.rcu_hard_limit = 9});
	ck_assert_uint_eq(cache->rcu_soft_limit, 9);
	ck_assert_uint_eq(cache->rcu_hard_limit, 9);
	end();
	begin((struct sheaf_cache_attr){.rcu_soft_bytes = 1});
	ck_assert_uint_eq(cache->rcu_soft_limit, 1);
	ck_assert_uint_eq(cache->rcu_hard_limit, (UINT64_C(128) << 20) / 32);
	end();
}
END_TEST

START_TEST(what_lies_about_is_sealed)
{
	begin((struct sheaf_cache_attr){0});
	get(3 * CAPACITY);
	ck_assert_uint_eq(run_tasks(), 0);
	retire(0, 1);
	ck_assert_uint_eq(source.arms, 1);
	/* Seen once, and asks for another look; seen twice. */
	ck_assert_uint_eq(run_tasks(), 1);
	ck_assert_uint_eq(in_flight(), 0);
	ck_assert_uint_eq(run_tasks(), 1);
	ck_assert_uint_eq(in_flight(), 1);
	ck_assert_uint_eq(cache_stats(cache).aged, 1);
	ck_assert_uint_eq(run_tasks(), 0);

	/* A busy slot has another sheaf each time. */
	retire(1, 1);
	ck_assert_uint_eq(run_tasks(), 1);
	retire(2, CAPACITY);
	ck_assert_uint_eq(in_flight(), 1 + CAPACITY);
	ck_assert_uint_eq(run_tasks(), 1);
	ck_assert_uint_eq(in_flight(), 1 + CAPACITY);
	ck_assert_uint_eq(cache_stats(cache).aged, 1);
	ck_assert_uint_eq(run_tasks(), 1);
	ck_assert_uint_eq(in_flight(), 2 + CAPACITY);
	ck_assert_uint_eq(run_tasks(), 0);
	put(2 + CAPACITY, 2 * CAPACITY - 2);
	end();

	begin((struct sheaf_cache_attr){.rcu_age_us = UINT32_MAX});
	get(1);
	retire(0, 1);
	ck_assert_uint_eq(source.arms, 0);
	ck_assert_ptr_null(source.tasks[0]);
	end();
}
END_TEST

static void *get_and_retire(void *arg)
{
	(void)arg;
	get(2);
	retire(0, 2);
	return NULL;
}

START_TEST(what_ended_threads_left_is_sealed)
{
	begin((struct sheaf_cache_attr){0});
	test_threads(1, get_and_retire, &cache, 0);
	ck_assert_uint_eq(in_flight(), 0);
	ck_assert_uint_eq(run_tasks(), 1);
	ck_assert_uint_eq(run_tasks(), 1);
	ck_assert_uint_eq(in_flight(), 2);
	end();
}
END_TEST

/* What the callback is told; keeps some. */
static struct {
	unsigned objects;
	unsigned keep;
	unsigned kept;
	void *keeps[MANY];
	bool barrier;
} ripe;

static void ripe_fn(void *arg, struct sheaf *sheaf)
{
	ck_assert_ptr_eq(arg, &ripe);
	ripe.objects += sheaf_size(sheaf);
	while (ripe.keep && !sheaf_empty(sheaf)) {
		ripe.keeps[ripe.kept++] = sheaf_pop(sheaf);
		ripe.keep--;
	}
	if (ripe.barrier)
		sheaf_cache_barrier(cache);
}

static struct sheaf_cache_attr with_callback(unsigned by)
{
	memset(&ripe, 0, sizeof(ripe));
	return (struct sheaf_cache_attr){.ripe = ripe_fn, .ripe_arg = &ripe, .ripe_by = by};
}

static void free_kept(void)
{
	while (ripe.kept)
		sheaf_cache_free(cache, ripe.keeps[--ripe.kept]);
}

START_TEST(taker_calls_back)
{
	begin_in_flight(with_callback(SHEAF_RIPE_BY_TAKER), 3 * CAPACITY);
	ck_assert_uint_eq(ripe.objects, 0);
	step();
	ripe.keep = CAPACITY + 1;
	/* The first sheaf is kept as a whole, and one of the second. */
	get(CAPACITY - 1);
	ck_assert_uint_eq(ripe.objects, 2 * CAPACITY);
	ck_assert_uint_eq(ripe.kept, CAPACITY + 1);
	ck_assert_uint_eq(arena_out(&arena), 3 * CAPACITY);
	free_kept();
	put(0, CAPACITY - 1);
	end();
	ck_assert_uint_eq(ripe.objects, 3 * CAPACITY);
}
END_TEST

START_TEST(driver_calls_back)
{
	begin_in_flight(with_callback(SHEAF_RIPE_BY_DRIVER), 3 * CAPACITY);
	ck_assert_uint_eq(run_tasks(), 2);
	ck_assert_uint_eq(ripe.objects, 0);
	step();
	/* Not for takers. */
	get(1);
	ck_assert_uint_eq(ripe.objects, 0);
	put(0, 1);
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(ripe.objects, 3 * CAPACITY);
	end();

	begin_in_flight(with_callback(SHEAF_RIPE_BY_DRIVER), 3 * CAPACITY);
	step();
	ripe.keep = 2;
	run_tasks();
	ck_assert_uint_eq(ripe.objects, 3 * CAPACITY);
	ck_assert_uint_eq(in_flight(), 0);
	ck_assert_uint_eq(cache_stats(cache).held_barns, 3 * CAPACITY - 2);
	run_tasks();
	ck_assert_uint_eq(run_tasks(), 0);
	free_kept();
	end();
}
END_TEST

START_TEST(driver_is_needed_to_call_back)
{
	struct sheaf_gp_manual manual;
	struct sheaf_cache_attr attr = with_callback(SHEAF_RIPE_BY_DRIVER);

	sheaf_gp_manual_init(&manual, 1);
	attr.size = sizeof(attr);
	attr.object_size = 32;
	attr.gp = &manual.gp;
	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), -ENOTSUP);
	attr.ripe_by = 7;
	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), -EINVAL);
}
END_TEST

/* What a callback may do: allocate and free. */
static void *in_hand[MANY];
static unsigned in_hands;

static void use_fn(void *arg, struct sheaf *sheaf)
{
	void *object = sheaf_cache_alloc(cache, 0);

	(void)sheaf;
	ripe.objects += sheaf_size(sheaf);
	ck_assert_ptr_eq(arg, &ripe);
	if (object)
		sheaf_cache_free(cache, object);
	while (in_hands)
		sheaf_cache_free(cache, in_hand[--in_hands]);
}

START_TEST(callbacks_use_their_cache)
{
	struct sheaf_cache_attr attr = with_callback(SHEAF_RIPE_BY_TAKER);

	attr.ripe = use_fn;
	begin_in_flight(attr, 5 * CAPACITY);
	step();
	/* A handler's call does not call back, and what calls back does not do so within itself. */
	ck_assert_ptr_null(sheaf_cache_alloc_nowait(cache));
	ck_assert_uint_eq(ripe.objects, 0);
	get(1);
	ck_assert_uint_eq(ripe.objects, CAPACITY);
	put(0, 1);
	/* What destroy's own callback frees is free. */
	for (in_hands = 0; in_hands < 3; in_hands++) {
		in_hand[in_hands] = sheaf_cache_alloc(cache, 0);
		ck_assert_ptr_nonnull(in_hand[in_hands]);
	}
	end();
	ck_assert_uint_eq(ripe.objects, 5 * CAPACITY);
}
END_TEST

START_TEST(destroy_arms_nothing_that_is_detached)
{
	struct sheaf_cache_attr attr = with_callback(SHEAF_RIPE_BY_TAKER);
	unsigned arms;

	attr.ripe = use_fn;
	attr.trim_us = 1000000;
	begin_in_flight(attr, 5 * CAPACITY);
	for (in_hands = 0; in_hands < 5 * CAPACITY; in_hands++)
		in_hand[in_hands] = sheaf_cache_alloc(cache, 0);
	objects[0] = sheaf_cache_alloc(cache, 0);
	source.steps_itself = true;
	for (unsigned i = 0; i < 4; i++)
		if (source.tasks[i])
			source.tasks[i]->armed = 0;
	arms = source.arms;
	/* What callbacks free here goes to the barn. source_arm() looks. */
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), -EBUSY);
	ck_assert_uint_eq(in_hands, 0);
	/* It is as before, and what was wanted meanwhile is asked for now. */
	ck_assert(source.tasks[0] && source.tasks[1]);
	ck_assert_uint_gt(source.arms, arms);
	sheaf_cache_free(cache, objects[0]);
	end();
}
END_TEST

static unsigned constructed;

static void construct(void *arg, size_t n, void *const *made)
{
	ck_assert_ptr_eq(arg, &constructed);
	for (size_t i = 0; i < n; i++)
		ck_assert_ptr_nonnull(made[i]);
	constructed += (unsigned)n;
}

START_TEST(constructor_sees_all_that_comes)
{
	constructed = 0;
	begin((struct sheaf_cache_attr){.ctor = construct, .ctor_arg = &constructed});
	get(MANY / 2);
	put(0, MANY / 2);
	get(MANY / 2);
	ck_assert_uint_eq(constructed, cache_stats(cache).backend_allocated);
	put(0, MANY / 2);
	end();
}
END_TEST

/*
 * Over liburcu.
 */

static struct sheaf_gp_urcu urcu;

static void begin_urcu(struct sheaf_cache_attr attr)
{
	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL), 0);
	attr.gp = &urcu.gp;
	if (!attr.capacity)
		attr.capacity = CAPACITY;
	attr.nodes = 1;
	attr.trim_us = UINT32_MAX;
	arena_init(&arena, 32);
	cache = arena_cache(&arena, attr);
}

static void end_urcu(void)
{
	arena_cache_end(&arena, cache);
	sheaf_gp_urcu_fini(&urcu);
}

static void barrier_in_callback(void *arg)
{
	(void)arg;
	begin_in_flight(with_callback(SHEAF_RIPE_BY_TAKER), CAPACITY);
	ripe.barrier = true;
	step();
	get(1);
}

static void barrier_in_section(void *arg)
{
	(void)arg;
	begin_urcu((struct sheaf_cache_attr){0});
	rcu_register_thread();
	rcu_read_lock();
	/* There is nothing to wait for, but that is luck. */
	sheaf_cache_barrier(cache);
}

START_TEST(endless_waits_are_told)
{
	ck_assert(test_dies(barrier_in_callback, NULL, "barrier called by a callback"));
	ck_assert(test_dies(barrier_in_section, NULL, "inside a read section"));
}
END_TEST

/* How often the driver has slept; 0 if there is none. */
static uint64_t driver_sleeps(void)
{
	struct dirent *entry;
	uint64_t sleeps = 0;
	DIR *dir = opendir("/proc/self/task");

	while (dir && (entry = readdir(dir)) != NULL) {
		char path[300], line[128];
		bool driver = false;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file)) {
			driver |= !strcmp(line, "Name:\tsheaf-gp\n");
			if (driver && !strncmp(line, "voluntary", 9))
				sleeps = strtoull(strchr(line, ':') + 1, NULL, 10);
		}
		if (file)
			fclose(file);
	}
	if (dir)
		closedir(dir);
	return sleeps;
}

/* Until one object that was retired, alone, is ripe. */
static uint64_t trickle_ms(void)
{
	uint64_t start = test_ms(), limit = test_patience_ms() + SERVED_MS;

	get(1);
	retire(0, 1);
	while (!sheaf_recycler_objects(&cache->node[0].recycler) ||
	       !sheaf_gp_elapsed(&urcu.gp, load_relaxed(&cache->node[0].recycler.newest))) {
		if (test_patience_ms() > limit)
			break;
		test_sleep_ms(1);
	}
	start = test_ms() - start;
	sheaf_cache_shrink(cache);
	return start;
}

START_TEST(trickle_comes_back)
{
	uint64_t best = SERVED_MS, begun = test_patience_ms(), slept, ms;
	unsigned tries = 20;

	begin_urcu((struct sheaf_cache_attr){0});
	do {
		ms = trickle_ms();
		best = ms < best ? ms : best;
	} while (best > 10 && test_patience_ms() < begun + SERVED_MS);
	/* A busy machine may be slow many times. */
	printf("# trickle: %llu ms\n", (unsigned long long)best);
	ck_assert_uint_le(best, test_slow() ? 100 : 10);

	/* After that nobody wakes up, as soon as the driver has had the time to fall asleep. */
	do {
		slept = driver_sleeps();
		test_sleep_ms(200);
	} while (driver_sleeps() != slept && --tries);
	ck_assert_uint_gt(tries, 0);
	ck_assert_uint_gt(slept, 0);
	end_urcu();
}
END_TEST

static uint32_t reading;

/* Its first section lasts until the writer has waited for it, each other one for a time. */
static void *read_on(void *arg)
{
	rcu_register_thread();
	sheaf_gp_read_lock(&urcu.gp);
	store_release(&reading, 1);
	while (load_acquire(&reading) && !cache_stats(cache).throttled)
		test_sleep_ms(1);
	sheaf_gp_read_unlock(&urcu.gp);
	while (load_acquire(&reading)) {
		sheaf_gp_read_lock(&urcu.gp);
		test_sleep_ms(test_full() ? 100 : 20);
		sheaf_gp_read_unlock(&urcu.gp);
	}
	rcu_unregister_thread();
	return arg;
}

/* A writer who throttles stays below the limit, whatever readers do, and goes on. */
START_TEST(slow_readers_do_not_make_it_grow)
{
	const uint32_t hard = 40 * CAPACITY;
	/* Enough to pass the limit while the first section lasts. */
	unsigned rounds = hard + 4 * CAPACITY + test_rounds(2000);
	struct sheaf_cache_stats stats;
	pthread_t reader;
	void *arg;

	begin_urcu((struct sheaf_cache_attr){.rcu_soft_limit = hard / 2, .rcu_hard_limit = hard});
	store_relaxed(&reading, 0);
	ck_assert_int_eq(pthread_create(&reader, NULL, read_on, NULL), 0);
	while (!load_acquire(&reading))
		test_pause();
	for (; rounds; rounds--) {
		void *object = sheaf_cache_alloc(cache, 0);

		ck_assert_ptr_nonnull(object);
		sheaf_cache_free_rcu(cache, object);
		ck_assert_int_eq(sheaf_cache_throttle(cache), 0);
	}
	store_release(&reading, 0);
	pthread_join(reader, &arg);
	stats = cache_stats(cache);
	ck_assert_uint_gt(stats.throttled, 0);
	/* Limits are soft by what slots held. */
	ck_assert_uint_le(stats.in_flight_peak, hard + CAPACITY * (stats.slots + 1));
	/* What the driver's age task has in hand is in no list for a moment. */
	ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
	end_urcu();
}
END_TEST

/* No thread can be made with a stack as large as the address space. */
static void refuse_threads(bool refuse)
{
	static size_t usual;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	if (refuse)
		pthread_attr_getstacksize(&attr, &usual);
	pthread_attr_setstacksize(&attr, refuse ? (size_t)1 << 46 : usual);
	ck_assert_int_eq(pthread_setattr_default_np(&attr), 0);
	pthread_attr_destroy(&attr);
}

/* What was sealed while there could be no driver, nobody has asked one to call back for. */
START_TEST(throttle_asks_for_callbacks)
{
	struct sheaf_cache_attr attr = with_callback(SHEAF_RIPE_BY_DRIVER);

	attr.rcu_soft_limit = attr.rcu_hard_limit = CAPACITY;
	begin_urcu(attr);
	refuse_threads(true);
	get(4 * CAPACITY);
	retire(0, 4 * CAPACITY);
	seal();
	ck_assert_uint_eq(in_flight(), 4 * CAPACITY);
	refuse_threads(false);
	ck_assert_int_eq(sheaf_cache_throttle(cache), 0);
	ck_assert_uint_le(in_flight(), CAPACITY);
	end_urcu();
	ck_assert_uint_eq(ripe.objects, 4 * CAPACITY);
}
END_TEST

/* Its section is what another one waits for, running the period itself; in the midst of it this one retires. */
static void *retire_meanwhile(void *arg)
{
	rcu_register_thread();
	sheaf_gp_read_lock(&urcu.gp);
	store_release(&reading, 1);
	while (!cache_stats(cache).throttled)
		test_sleep_ms(1);
	test_sleep_ms(50);
	retire(4 * CAPACITY, 2 * CAPACITY);
	seal();
	sheaf_gp_read_unlock(&urcu.gp);
	rcu_unregister_thread();
	return arg;
}

/* Where no thread can be made, nobody's throttling depends on another one's. */
START_TEST(throttle_beside_others_without_threads)
{
	struct sheaf_cache_attr attr = with_callback(SHEAF_RIPE_BY_DRIVER);
	pthread_attr_t small;
	pthread_t reader;

	attr.rcu_soft_limit = attr.rcu_hard_limit = CAPACITY;
	begin_urcu(attr);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 20);
	refuse_threads(true);
	get(6 * CAPACITY);
	retire(0, 4 * CAPACITY);
	seal();
	store_relaxed(&reading, 0);
	ck_assert_int_eq(pthread_create(&reader, &small, retire_meanwhile, NULL), 0);
	while (!load_acquire(&reading))
		test_pause();
	ck_assert_int_eq(sheaf_cache_throttle(cache), 0);
	pthread_join(reader, NULL);
	ck_assert_int_eq(sheaf_cache_throttle(cache), 0);
	ck_assert_uint_le(in_flight(), CAPACITY);
	refuse_threads(false);
	end_urcu();
	ck_assert_uint_eq(ripe.objects, 6 * CAPACITY);
	pthread_attr_destroy(&small);
}
END_TEST

/* The callback allocates from another cache, whose callback allocates from this one. */
static struct sheaf_cache *pair[2];
static unsigned depth, deepest;

static void cross_fn(void *arg, struct sheaf *sheaf)
{
	struct sheaf_cache *other = pair[arg == &pair[0]];
	void *object;

	(void)sheaf;
	if (!other)
		return;
	deepest = ++depth > deepest ? depth : deepest;
	object = sheaf_cache_alloc(other, 0);
	sheaf_cache_free(other, object);
	depth--;
}

/* No callback is called inside itself, nor through another cache's. */
START_TEST(callbacks_do_not_nest_in_themselves)
{
	struct sheaf_gp_manual manual;
	void *held[2][8 * CAPACITY];

	depth = deepest = 0;
	sheaf_gp_manual_init(&manual, 0);
	for (unsigned i = 0; i < 2; i++) {
		const struct sheaf_cache_attr attr = {.size = sizeof(attr),
						      .object_size = 64,
						      .capacity = CAPACITY,
						      .nodes = 1,
						      .gp = &manual.gp,
						      .ripe = cross_fn,
						      .ripe_arg = &pair[i]};

		ck_assert_int_eq(sheaf_cache_create(&pair[i], &attr), 0);
		ck_assert_uint_eq(sheaf_cache_alloc_bulk(pair[i], 0, 8 * CAPACITY, held[i]),
				  8 * CAPACITY);
		sheaf_cache_shrink(pair[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < 8 * CAPACITY; k++)
			sheaf_cache_free_rcu(pair[i], held[i][k]);
		sheaf_cache_flush(pair[i]);
	}
	sheaf_gp_manual_step(&manual);
	sheaf_gp_manual_step(&manual);
	cross_fn(&pair[0], NULL);
	ck_assert_uint_ge(deepest, 2);
	ck_assert_uint_le(deepest, 3);
	for (unsigned i = 0; i < 2; i++) {
		struct sheaf_cache *ended = pair[i];

		pair[i] = NULL;
		ck_assert_int_eq(sheaf_cache_destroy(ended, NULL), 0);
	}
}
END_TEST

/* A callback of the driver makes and ends caches on the same source. */
static void nest_fn(void *arg, struct sheaf *sheaf)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 32, .gp = &urcu.gp};
	struct sheaf_cache *other;

	ck_assert_ptr_eq(arg, &ripe);
	ck_assert_int_eq(sheaf_cache_create(&other, &attr), 0);
	ck_assert_int_eq(sheaf_cache_destroy(other, NULL), 0);
	fetch_add_relaxed(&ripe.objects, sheaf_size(sheaf));
}

START_TEST(callbacks_by_the_driver_make_caches)
{
	struct sheaf_cache_attr attr = with_callback(SHEAF_RIPE_BY_DRIVER);
	uint64_t end = test_patience_ms() + SERVED_MS;

	attr.ripe = nest_fn;
	begin_urcu(attr);
	get(CAPACITY);
	retire(0, CAPACITY);
	seal();
	while (load_relaxed(&ripe.objects) < CAPACITY) {
		ck_assert_uint_lt(test_patience_ms(), end);
		test_pause();
	}
	end_urcu();
}
END_TEST

START_TEST(unused_cache_ends_anywhere)
{
	begin_urcu((struct sheaf_cache_attr){0});
	rcu_register_thread();
	rcu_read_lock();
	arena_cache_end(&arena, cache);
	rcu_read_unlock();
	rcu_unregister_thread();
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

START_TEST(callbacks_by_the_driver_miss_nothing)
{
	struct sheaf_cache_attr attr = with_callback(SHEAF_RIPE_BY_DRIVER);
	unsigned rounds = test_rounds(20000), retired = 0;

	begin_urcu(attr);
	for (unsigned i = 0; i < rounds; i++) {
		void *object = sheaf_cache_alloc(cache, 0);

		if (!object) {
			ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
			continue;
		}
		sheaf_cache_free_rcu(cache, object);
		retired++;
	}
	end_urcu();
	ck_assert_uint_eq(ripe.objects, retired);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("flight");

	tcase_set_timeout(tc, test_full() ? 600 : 60);
	tcase_add_test(tc, much_in_one_period_hurries);
	tcase_add_test(tc, allocation_gives_way);
	tcase_add_test(tc, surplus_goes_back);
	tcase_add_test(tc, throttle_waits_above_the_hard_limit);
	tcase_add_test(tc, limits_in_objects_and_bytes);
	tcase_add_test(tc, what_lies_about_is_sealed);
	tcase_add_test(tc, what_ended_threads_left_is_sealed);
	tcase_add_test(tc, taker_calls_back);
	tcase_add_test(tc, driver_calls_back);
	tcase_add_test(tc, callbacks_use_their_cache);
	tcase_add_test(tc, destroy_arms_nothing_that_is_detached);
	tcase_add_test(tc, driver_is_needed_to_call_back);
	tcase_add_test(tc, constructor_sees_all_that_comes);
	tcase_add_test(tc, endless_waits_are_told);
	tcase_add_test(tc, trickle_comes_back);
	tcase_add_test(tc, slow_readers_do_not_make_it_grow);
	tcase_add_test(tc, throttle_asks_for_callbacks);
	tcase_add_test(tc, throttle_beside_others_without_threads);
	tcase_add_test(tc, callbacks_do_not_nest_in_themselves);
	tcase_add_test(tc, callbacks_by_the_driver_miss_nothing);
	tcase_add_test(tc, callbacks_by_the_driver_make_caches);
	tcase_add_test(tc, unused_cache_ends_anywhere);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
