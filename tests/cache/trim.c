/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of budgets, trims and capacities: never more is out of the backend than the budgets
 * say, whoever asks; what lies free elsewhere comes before a refusal; who waits gets what comes
 * back; a trim takes what nobody needed and leaves what was needed; an unused cache ends empty
 * by itself, and then its task rests; the capacity changes while the cache is used, follows the
 * load when asked to, and stays below the budget; and a burst leaves no memory behind.
 */
#include "arena.h"
#include "cache_state.h"
#include "common.h"

#include <errno.h>
#include <sheaf/slab.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern const struct rcu_flavor_struct urcu_memb_flavor;

#define CAPACITY 4
#define SIZE 32
#define MANY 256

static struct arena arena;
static struct sheaf_cache *cache;
static void *objects[MANY];

static void begin(struct sheaf_cache_attr attr)
{
	arena_init(&arena, SIZE);
	if (!attr.capacity)
		attr.capacity = CAPACITY;
	attr.nodes = 1;
	cache = arena_cache(&arena, attr);
}

static void end(void)
{
	arena_cache_end(&arena, cache);
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

START_TEST(budget_is_exact)
{
	begin((struct sheaf_cache_attr){.budget = 10 * SIZE + SIZE - 1});
	get(0, 10);
	ck_assert_uint_eq(arena_out(&arena), 10);
	ck_assert_ptr_null(sheaf_cache_alloc(cache, 0));
	ck_assert_ptr_null(sheaf_cache_alloc(cache, SHEAF_NOWAIT));
	ck_assert_ptr_null(sheaf_cache_prefill(cache, 1, 0));
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, 5, objects + 10), 0);
	ck_assert_uint_ge(cache_stats(cache).budget_refused, 3);
	put(0, 10);
	/* All of it serves again, as a part of what is asked for. */
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, 20, objects), 10);
	sheaf_cache_free_bulk(cache, 10, objects);
	sheaf_cache_set_budget(cache, 4 * SIZE);
	ck_assert_uint_le(arena_out(&arena), 4);
	get(0, 4);
	ck_assert_ptr_null(sheaf_cache_alloc(cache, 0));
	sheaf_cache_set_budget(cache, 0);
	get(4, 20);
	put(0, 24);
	end();
}
END_TEST

struct holder {
	pthread_barrier_t barrier;
	void *one;
};

static void *hold_one(void *arg)
{
	struct holder *holder = arg;

	holder->one = sheaf_cache_alloc(cache, 0);
	pthread_barrier_wait(&holder->barrier);
	pthread_barrier_wait(&holder->barrier);
	return NULL;
}

/* What the slot of another thread, or the barn, has free is no reason to refuse. */
START_TEST(free_objects_elsewhere_come_first)
{
	const uint64_t budgets[] = {2 * CAPACITY * SIZE, 0};
	struct holder holder = {0};
	pthread_t thread;

	begin((struct sheaf_cache_attr){.budget = budgets[_i], .slots = SHEAF_SLOTS_THREAD});
	/* Without a budget it is the backend that refuses. */
	if (!budgets[_i])
		arena.most = 2 * CAPACITY;
	/* Its slot has the rest of a sheaf. */
	pthread_barrier_init(&holder.barrier, NULL, 2);
	ck_assert_int_eq(pthread_create(&thread, NULL, hold_one, &holder), 0);
	pthread_barrier_wait(&holder.barrier);
	ck_assert_uint_eq(arena_out(&arena), CAPACITY);
	ck_assert(arena_own(&arena, holder.one, ARENA_USER));
	get(0, 2 * CAPACITY - 1);
	ck_assert_ptr_null(sheaf_cache_alloc(cache, 0));
	put(0, 2 * CAPACITY - 1);
	pthread_barrier_wait(&holder.barrier);
	pthread_join(thread, NULL);
	ck_assert(arena_disown(&arena, holder.one, ARENA_USER));
	sheaf_cache_free(cache, holder.one);
	end();
	pthread_barrier_destroy(&holder.barrier);
}
END_TEST

static void *free_later(void *arg)
{
	test_sleep_ms(20);
	ck_assert(arena_disown(&arena, *(void **)arg, ARENA_USER));
	sheaf_cache_free(cache, *(void **)arg);
	return NULL;
}

START_TEST(who_waits_gets_what_comes_back)
{
	pthread_t thread;
	void *last;

	begin((struct sheaf_cache_attr){.budget = 8 * SIZE});
	get(0, 8);
	last = objects[7];
	ck_assert_int_eq(pthread_create(&thread, NULL, free_later, &last), 0);
	objects[7] = sheaf_cache_alloc(cache, SHEAF_WAIT);
	ck_assert(arena_own(&arena, objects[7], ARENA_USER));
	pthread_join(thread, NULL);
	/* Memory that the backend does not have is not waited for. */
	sheaf_cache_set_budget(cache, 0);
	arena.most = 8;
	ck_assert_ptr_null(sheaf_cache_alloc(cache, SHEAF_WAIT));
	arena.most = ARENA_OBJECTS;
	put(0, 8);
	end();
}
END_TEST

/* One budget for two caches: what the other one has free comes first. */
START_TEST(budget_of_the_process)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = SIZE, .nodes = 1,
					.capacity = CAPACITY};
	struct sheaf_cache *other;
	uint64_t before = sheaf_budget_used();
	void *mine[12], *more;
	unsigned n;

	begin((struct sheaf_cache_attr){0});
	ck_assert_int_eq(sheaf_cache_create(&other, &attr), 0);
	sheaf_set_budget(before + 12 * SIZE);
	for (n = 0; n < 12; n++)
		ck_assert_ptr_nonnull(mine[n] = sheaf_cache_alloc(other, 0));
	ck_assert_ptr_null(sheaf_cache_alloc(cache, 0));
	ck_assert_uint_eq(sheaf_budget_used(), before + 12 * SIZE);
	for (n = 0; n < 6; n++)
		sheaf_cache_free(other, mine[n]);
	get(0, 6);
	ck_assert_ptr_null(more = sheaf_cache_alloc(other, 0));
	put(0, 6);
	for (n = 6; n < 12; n++)
		sheaf_cache_free(other, mine[n]);
	sheaf_set_budget(before + 2 * SIZE);
	ck_assert_uint_le(sheaf_budget_used(), before + 2 * SIZE);
	sheaf_set_budget(0);
	ck_assert_int_eq(sheaf_cache_destroy(other, NULL), 0);
	end();
	ck_assert_uint_eq(sheaf_budget_used(), before);
}
END_TEST

struct asker {
	unsigned rounds;
	unsigned got;
	uint64_t most;
};

static void *ask(void *arg)
{
	struct asker *a = arg;
	void *some[16];

	for (unsigned i = 0; i < a->rounds; i++) {
		size_t n = sheaf_cache_alloc_bulk(cache, 0, 1 + i % 16, some), j;
		uint64_t out = arena_out(&arena);

		a->most = out > a->most ? out : a->most;
		a->got += (unsigned)n;
		for (j = 0; j < n; j++)
			sheaf_cache_free(cache, some[j]);
	}
	return NULL;
}

/* A backend that takes what it hands out from another cache, under a lock of its own. */
static struct sheaf_cache *below;
static bool locked;
static unsigned entered_twice;

static size_t stacked_alloc(void *ctx, int node, unsigned flags, size_t n, void **found)
{
	(void)ctx;
	(void)node;
	entered_twice += locked;
	locked = true;
	n = sheaf_cache_alloc_bulk(below, flags, n, found);
	locked = false;
	return n;
}

static void stacked_free(void *ctx, size_t n, void *const *given)
{
	(void)ctx;
	entered_twice += locked;
	locked = true;
	sheaf_cache_free_bulk(below, n, given);
	locked = false;
}

/* At the end of the process's budget no backend is called while this thread is in one. */
START_TEST(backends_are_not_entered_twice)
{
	static const struct sheaf_backend_ops ops = {
		.name = "stacked", .alloc_bulk = stacked_alloc, .free_bulk = stacked_free};
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = SIZE,
					.capacity = CAPACITY,
					.nodes = 1,
					.trim_us = UINT32_MAX};
	struct sheaf_cache *plain, *upper, *third;
	void *some[16 * CAPACITY];
	size_t n;

	entered_twice = 0;
	/* The first to give back. */
	ck_assert_int_eq(sheaf_cache_create(&plain, &attr), 0);
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(plain, 0, 8 * CAPACITY, some), 8 * CAPACITY);
	sheaf_cache_free_bulk(plain, 8 * CAPACITY, some);
	ck_assert_int_eq(sheaf_cache_create(&below, &attr), 0);
	attr.backend = (struct sheaf_backend){&ops, NULL};
	ck_assert_int_eq(sheaf_cache_create(&upper, &attr), 0);
	ck_assert_int_eq(sheaf_cache_create(&third, &attr), 0);
	/* This one has free objects as well, the budget is what is there, and another one wants some. */
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(third, 0, 16 * CAPACITY, some), 16 * CAPACITY);
	sheaf_cache_free_bulk(third, 16 * CAPACITY, some);
	sheaf_cache_shrink(below);
	sheaf_set_budget(sheaf_budget_used());
	for (n = 0; n < 4 * CAPACITY && (some[n] = sheaf_cache_alloc(upper, 0)); n++)
		;
	ck_assert_uint_ge(n, CAPACITY);
	ck_assert_uint_eq(entered_twice, 0);
	sheaf_set_budget(0);
	sheaf_cache_free_bulk(upper, n, some);
	ck_assert_int_eq(sheaf_cache_destroy(third, NULL), 0);
	ck_assert_int_eq(sheaf_cache_destroy(upper, NULL), 0);
	ck_assert_int_eq(sheaf_cache_destroy(below, NULL), 0);
	ck_assert_int_eq(sheaf_cache_destroy(plain, NULL), 0);
}
END_TEST

START_TEST(budget_holds_in_a_crowd)
{
	const uint64_t most = 40;
	struct asker askers[4];
	unsigned got = 0;

	begin((struct sheaf_cache_attr){.budget = most * SIZE});
	for (unsigned i = 0; i < 4; i++)
		askers[i] = (struct asker){test_rounds(400), 0, 0};
	test_threads(4, ask, askers, sizeof(askers[0]));
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_uint_le(askers[i].most, most);
		got += askers[i].got;
	}
	ck_assert_uint_ge(got, test_rounds(400));
	end();
}
END_TEST

START_TEST(trim_leaves_what_is_needed)
{
	unsigned held;

	begin((struct sheaf_cache_attr){.trim_us = UINT32_MAX});
	get(0, 40 * CAPACITY);
	put(0, 40 * CAPACITY);
	held = (unsigned)cache_stats(cache).held_barns / CAPACITY;
	ck_assert_uint_ge(held, 30);
	ck_assert_uint_eq(sheaf_cache_trim(cache), 0);
	/* Ten sheaves are needed, the others are not. */
	for (unsigned i = 0; i < 3; i++) {
		uint64_t given;

		get(0, 12 * CAPACITY);
		given = sheaf_cache_trim(cache);
		ck_assert_uint_eq(given, i ? 0 : (held - 10) * CAPACITY);
		put(0, 12 * CAPACITY);
	}
	ck_assert_uint_gt(arena.trims, 0);
	/* Nothing is, from here on. */
	for (unsigned i = 0; i < 3; i++)
		sheaf_cache_trim(cache);
	ck_assert_uint_eq(arena_out(&arena), 0);
	ck_assert_uint_eq(cache_stats(cache).held_slots, 0);
	get(0, 1);
	put(0, 1);
	end();
}
END_TEST

/* Without a source too: by the library's thread, which then rests. */
START_TEST(unused_caches_end_empty)
{
	uint64_t deadline = test_patience_ms() + 20000;
	uint32_t armed = 1;

	begin((struct sheaf_cache_attr){.trim_us = 30000});
	for (unsigned round = 0; round < 3; round++) {
		get(0, 20 * CAPACITY);
		put(0, 20 * CAPACITY);
		while (arena_out(&arena) || armed) {
			ck_assert_uint_lt(test_patience_ms(), deadline);
			test_sleep_ms(5);
			armed = load_relaxed(&cache->trim_task.armed);
		}
		armed = 1;
	}
	ck_assert_uint_eq(cache_stats(cache).held_slots, 0);
	end();
}
END_TEST

/* Until the cache has nothing, and its task rests. */
static void wait_for_rest(uint64_t out)
{
	uint64_t deadline = test_patience_ms() + 20000;

	while (arena_out(&arena) != out || load_relaxed(&cache->trim_task.armed)) {
		ck_assert_uint_lt(test_patience_ms(), deadline);
		test_sleep_ms(5);
	}
}

/* What comes back while the task rests wakes it: a lent sheaf, what the source's thread brings. */
START_TEST(late_returns_are_trimmed)
{
	struct sheaf_gp_urcu rcu;
	struct sheaf *sheaf;

	begin((struct sheaf_cache_attr){.trim_us = 30000});
	sheaf = sheaf_cache_prefill(cache, CAPACITY, 0);
	ck_assert_ptr_nonnull(sheaf);
	wait_for_rest(sheaf->size);
	sheaf_cache_return(cache, sheaf);
	wait_for_rest(0);
	end();

	ck_assert_int_eq(sheaf_gp_urcu_init(&rcu, &urcu_memb_flavor, NULL), 0);
	begin((struct sheaf_cache_attr){.trim_us = 30000, .gp = &rcu.gp, .rcu_age_us = 1000,
					.ripe_by = SHEAF_RIPE_BY_DRIVER});
	get(0, 2 * CAPACITY);
	wait_for_rest(2 * CAPACITY);
	for (unsigned i = 0; i < 2 * CAPACITY; i++) {
		ck_assert(arena_disown(&arena, objects[i], ARENA_USER));
		sheaf_cache_free_rcu(cache, objects[i]);
	}
	wait_for_rest(0);
	end();
	sheaf_gp_urcu_fini(&rcu);
}
END_TEST

START_TEST(trim_of_the_process)
{
	begin((struct sheaf_cache_attr){0});
	get(0, 20 * CAPACITY);
	put(0, 20 * CAPACITY);
	ck_assert_uint_ge(sheaf_trim(1), SIZE);
	/* Barns before slots. */
	ck_assert_uint_eq(cache_stats(cache).held_barns, 0);
	ck_assert_uint_gt(cache_stats(cache).held_slots, 0);
	ck_assert_uint_gt(sheaf_trim(SIZE_MAX), 0);
	ck_assert_uint_eq(arena_out(&arena), 0);
	ck_assert_uint_eq(sheaf_trim(SIZE_MAX), 0);
	end();
}
END_TEST

static void *trim_all(void *arg)
{
	uint32_t *stop = arg;

	while (!load_relaxed(stop)) {
		sheaf_trim(SIZE_MAX);
		test_pause();
	}
	return NULL;
}

/* Check and destroy wait for who trims all caches; a destroy that failed lets him in again. */
START_TEST(idle_but_for_trims)
{
	uint32_t stop = 0;
	pthread_t thread;
	size_t live;

	ck_assert_int_eq(pthread_create(&thread, NULL, trim_all, &stop), 0);
	for (unsigned i = 0; i < test_rounds(40); i++) {
		begin((struct sheaf_cache_attr){0});
		get(0, 1);
		for (unsigned n = 0; n < 10; n++) {
			get(1, MANY - 1);
			put(1, MANY - 1);
			ck_assert(sheaf_cache_check(cache));
		}
		ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EBUSY);
		ck_assert_uint_eq(live, 1);
		get(1, 19);
		put(0, 20);
		end();
	}
	store_relaxed(&stop, 1);
	pthread_join(thread, NULL);
}
END_TEST

static void ripe_callback(void *arg, struct sheaf *sheaf)
{
	*(unsigned *)arg += sheaf->size;
}

/* So is what is ripe, but where it has to pass a callback: that is for who uses the cache. */
START_TEST(trim_of_what_is_ripe)
{
	struct sheaf_gp_manual manual;
	unsigned seen = 0;

	for (unsigned i = 0; i < 2; i++) {
		sheaf_gp_manual_init(&manual, 0);
		begin((struct sheaf_cache_attr){.gp = &manual.gp, .ripe = i ? ripe_callback : NULL,
						.ripe_arg = &seen});
		get(0, 2 * CAPACITY);
		for (unsigned n = 0; n < 2 * CAPACITY; n++) {
			ck_assert(arena_disown(&arena, objects[n], ARENA_USER));
			sheaf_cache_free_rcu(cache, objects[n]);
		}
		ck_assert_int_eq(sheaf_cache_barrier(cache), -EDEADLK);
		sheaf_trim(SIZE_MAX);
		ck_assert_uint_eq(arena_out(&arena), 2 * CAPACITY);
		sheaf_gp_manual_step(&manual);
		sheaf_trim(SIZE_MAX);
		ck_assert_uint_eq(arena_out(&arena), i ? 2 * CAPACITY : 0);
		ck_assert_uint_eq(seen, 0);
		end();
		ck_assert_uint_eq(seen, i ? 2 * CAPACITY : 0);
	}
}
END_TEST

START_TEST(capacity_changes_in_use)
{
	static const uint32_t capacities[] = {12, 3, 60, 1, 4};
	struct sheaf *sheaf;

	begin((struct sheaf_cache_attr){0});
	ck_assert_int_eq(sheaf_cache_set_capacity(cache, 0), -EINVAL);
	ck_assert_int_eq(sheaf_cache_set_capacity(cache, 65537), -EINVAL);
	ck_assert_uint_eq(cache_stats(cache).capacity, CAPACITY);
	for (unsigned i = 0; i < 5; i++) {
		get(0, MANY / 2);
		ck_assert_int_eq(sheaf_cache_set_capacity(cache, capacities[i]), 0);
		put(0, MANY / 2);
		get(0, MANY / 2);
		put(0, MANY / 2);
		ck_assert(sheaf_cache_check(cache));
	}
	/* When all has come by empty there is no other. */
	get(0, MANY);
	put(0, MANY);
	get(0, MANY);
	put(0, MANY);
	while ((sheaf = sheaf_barn_take_full(&cache->node[0].barn)) != NULL) {
		ck_assert_uint_eq(sheaf->capacity, CAPACITY);
		sheaf_discard(cache, sheaf);
	}
	while ((sheaf = sheaf_barn_take_empty(&cache->node[0].barn)) != NULL) {
		ck_assert_uint_eq(sheaf->capacity, CAPACITY);
		sheaf_delete(sheaf);
	}
	end();
}
END_TEST

/* A look each so many trips, without a clock. */
static void look_after(unsigned trips)
{
	unsigned n = load_relaxed(&cache->capacity) * 6;

	n = n < MANY ? n : MANY;
	for (unsigned i = 0; i < trips; i++) {
		get(0, n);
		put(0, n);
	}
	sheaf_cache_trim(cache);
}

START_TEST(capacity_follows_the_load)
{
	begin((struct sheaf_cache_attr){.tune = true, .trim_us = UINT32_MAX});
	/* A look stands for a hundred seconds here: 2,000,000 trips would be many. */
	cache->trim_task.delay_ns = 10000000;
	look_after(2000);
	ck_assert_uint_eq(cache_stats(cache).capacity, 2 * CAPACITY + 4);
	look_after(2000);
	ck_assert_uint_gt(cache_stats(cache).capacity, 2 * CAPACITY + 4);
	for (unsigned i = 0; i < 100; i++)
		sheaf_cache_trim(cache);
	ck_assert_uint_eq(cache_stats(cache).capacity, CAPACITY);
	ck_assert_uint_ge(cache_stats(cache).tuned, 4);
	/* The budget holds it down. */
	sheaf_cache_set_budget(cache, (uint64_t)MANY * SIZE);
	look_after(2000);
	ck_assert_uint_eq(cache_stats(cache).capacity, CAPACITY);
	end();
}
END_TEST

/* Down to what it was made with and not below; and not up, where somebody has set it lower. */
START_TEST(capacity_falls_to_what_it_was)
{
	static const uint32_t made[] = {1, 1, 3, 4, 4}, set[] = {4, 5, 8, 2, 12};

	for (unsigned i = 0; i < 5; i++) {
		uint64_t tuned = set[i] > made[i];

		begin((struct sheaf_cache_attr){
			.capacity = made[i], .tune = true, .trim_us = UINT32_MAX});
		ck_assert_int_eq(sheaf_cache_set_capacity(cache, set[i]), 0);
		for (unsigned n = 0; n < 40; n++)
			sheaf_cache_trim(cache);
		ck_assert_uint_eq(cache_stats(cache).capacity, tuned ? made[i] : set[i]);
		ck_assert_uint_eq(cache_stats(cache).tuned, tuned);
		end();
	}
}
END_TEST

/* What a fresh process may have: objects of 32 bytes. */
static int count_objects(void)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = SIZE};
	int n = 0;

	if (sheaf_cache_create(&cache, &attr))
		return 255;
	while (n < 200 && sheaf_cache_alloc(cache, 0))
		n++;
	return n;
}

START_TEST(budget_of_the_environment)
{
	static const struct {
		const char *text;
		int objects;
	} runs[] = {{"4K", 128}, {"1000", 31}, {"1M", 200}, {"", 200},
		    {"4 K", 200}, {"-1", 200}, {"4KK", 200}};

	for (unsigned i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
		int status;
		pid_t child = fork();

		ck_assert_int_ge(child, 0);
		if (!child) {
			setenv("SHEAF_BUDGET", runs[i].text, 1);
			execl("/proc/self/exe", "test-cache-trim", "count", (char *)NULL);
			_exit(254);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert(WIFEXITED(status));
		ck_assert_int_eq(WEXITSTATUS(status), runs[i].objects);
	}
}
END_TEST

/* Resident bytes of this process. */
static uint64_t resident(void)
{
	unsigned long long all, pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fscanf(file, "%llu %llu", &all, &pages), 2);
	fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A million objects of 256 bytes come and go; what stays is within a tenth after the time. */
START_TEST(bursts_leave_nothing)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 256, .trim_us = 300000};
	unsigned n = test_slow() ? 20000 : 1000000;
	uint64_t before, after, peak, start;
	void **many = malloc(n * sizeof(*many));

	ck_assert_ptr_nonnull(many);
	memset(many, 1, n * sizeof(*many));
	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	many[0] = sheaf_cache_alloc(cache, 0);
	before = resident();
	for (unsigned i = 1; i < n; i++) {
		ck_assert_ptr_nonnull(many[i] = sheaf_cache_alloc(cache, 0));
		*(char *)many[i] = 1;
	}
	peak = resident();
	for (unsigned i = 1; i < n; i++)
		sheaf_cache_free(cache, many[i]);
	/* The time of the attribute is 300 ms; a busy machine may take longer. */
	start = test_patience_ms();
	do {
		test_sleep_ms(10);
		after = resident();
	} while (test_patience_ms() < start + 20000 &&
		 (cache_stats(cache).held_slots || (!test_slow() && after > before + before / 10)));
	printf("# resident: before %llu, peak %llu, after %llu ms %llu KiB\n",
	       (unsigned long long)before >> 10, (unsigned long long)peak >> 10,
	       (unsigned long long)(test_patience_ms() - start), (unsigned long long)after >> 10);
	if (!test_slow()) {
		ck_assert_uint_gt(peak, before + 200 * (1u << 20));
		ck_assert_uint_le(after, before + before / 10);
	}
	sheaf_cache_free(cache, many[0]);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
	free(many);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("trim");

	if (argc == 2 && !strcmp(argv[1], "count"))
		_exit(count_objects());
	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, budget_is_exact);
	tcase_add_loop_test(tc, free_objects_elsewhere_come_first, 0, 2);
	tcase_add_test(tc, who_waits_gets_what_comes_back);
	tcase_add_test(tc, budget_of_the_process);
	tcase_add_test(tc, backends_are_not_entered_twice);
	tcase_add_test(tc, budget_holds_in_a_crowd);
	if (!test_valgrind())
		tcase_add_test(tc, budget_of_the_environment);
	tcase_add_test(tc, trim_leaves_what_is_needed);
	tcase_add_test(tc, unused_caches_end_empty);
	tcase_add_test(tc, late_returns_are_trimmed);
	tcase_add_test(tc, trim_of_the_process);
	tcase_add_test(tc, idle_but_for_trims);
	tcase_add_test(tc, trim_of_what_is_ripe);
	tcase_add_test(tc, capacity_changes_in_use);
	tcase_add_test(tc, capacity_follows_the_load);
	tcase_add_test(tc, capacity_falls_to_what_it_was);
	tcase_add_test(tc, bursts_leave_nothing);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
