/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that every allocation of the library may fail. Each operation is tried again and again: the
 * first thing that it asks the system for is refused, then the second one, until none is, once
 * with that one refusal and once with all that come after it. Memory, pages and threads are such
 * things, and the memory of a thread's own words. Each try is on a cache of its own that is cold, and by a thread that is new to it. Then
 * the operation says so, or has done its work; it succeeds when it is called again; nothing is
 * lost but what the counter of abandoned objects says, and trees are as they were.
 */
#define _GNU_SOURCE
#include "base/atomic.h"
#include "base/memory.h"
#include "common.h"

#include <errno.h>
#include <sheaf/cache.h>
#include <sheaf/ck_malloc.h>
#include <sheaf/slab.h>
#include <sheaf/tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <urcu/urcu-memb.h>

#define HAND 60
#define MORE 150
#define KEYS 120

/*
 * Refusals, of the thread that asks for them.
 */
static __thread bool faulty;
static unsigned left;
static bool every, failed;

static bool refuse(size_t bytes)
{
	(void)bytes;
	if (!faulty)
		return false;
	if (left) {
		left--;
		return false;
	}
	if (failed && !every)
		return false;
	return failed = true;
}

void *__real_mmap(void *at, size_t bytes, int prot, int flags, int file, off_t offset);
void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int file, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int file, off_t offset);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg);
int __real_pthread_setspecific(pthread_key_t key, const void *value);
int __wrap_pthread_setspecific(pthread_key_t key, const void *value);

void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int file, off_t offset)
{
	if (refuse(bytes)) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap(at, bytes, prot, flags, file, offset);
}

void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int file, off_t offset)
{
	return __wrap_mmap(at, bytes, prot, flags, file, offset);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
			  void *arg)
{
	return refuse(1) ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

int __wrap_pthread_setspecific(pthread_key_t key, const void *value)
{
	return value && refuse(1) ? ENOMEM : __real_pthread_setspecific(key, value);
}

/*
 * What an operation works on.
 */
struct rig {
	struct sheaf_gp_urcu urcu;
	struct sheaf_gp_manual manual;
	struct sheaf_gp *gp;
	bool malloced;
	struct sheaf_cache *cache;
	struct sheaf_tree *tree, *other;
	struct sheaf_ck_memory memory;
	void *hand[HAND + MORE];
	unsigned n;
	uint64_t entries; /* of the tree */
	unsigned turn;
	struct rig *kept;
	/* Of the try. */
	bool (*run)(struct rig *rig);
	bool done;
};

static struct sheaf_cache_attr attr_of(const struct rig *rig)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = 48,
					.capacity = 4,
					.barn_full = 2,
					.barn_empty = 1,
					.gp = rig->gp};

	if (rig->malloced)
		ck_assert_int_eq(sheaf_backend_malloc(&attr.backend, 48, 0), 0);
	return attr;
}

static bool create_as(struct sheaf_cache_attr attr)
{
	struct sheaf_cache *cache = NULL;
	int err = sheaf_cache_create(&cache, &attr);
	const bool was = faulty;

	if (err) {
		if (err != -ENOMEM || cache)
			abort();
		return false;
	}
	faulty = false;
	if (sheaf_cache_destroy(cache, NULL))
		abort();
	faulty = was;
	return true;
}

static bool create(struct rig *rig)
{
	return create_as(attr_of(rig));
}

static void ripe(void *arg, struct sheaf *sheaf)
{
	(void)arg;
	(void)sheaf;
}

static bool create_with_all(struct rig *rig)
{
	struct sheaf_cache_attr attr = attr_of(rig);

	attr.nodes = 4;
	attr.barns_per_node = SHEAF_BARN_PER_CACHE;
	attr.ripe = ripe;
	attr.trim_us = 100000;
	attr.tune = true;
	return create_as(attr);
}

static bool create_shown(struct rig *rig)
{
	struct sheaf_cache_attr attr = attr_of(rig);

	attr.stats = true;
	return create_as(attr);
}

static bool alloc_node(struct rig *rig)
{
	void *object = sheaf_cache_alloc_node(rig->cache, 0, 0);

	if (object)
		rig->hand[rig->n++] = object;
	return object;
}

static bool alloc(struct rig *rig)
{
	void *object = sheaf_cache_alloc(rig->cache, 0);

	if (object)
		rig->hand[rig->n++] = object;
	return object;
}

static bool alloc_bulk(struct rig *rig)
{
	const size_t want = MORE / 2;
	size_t got = sheaf_cache_alloc_bulk(rig->cache, 0, want, rig->hand + rig->n);

	rig->n += (unsigned)got;
	return got == want;
}

static bool free_many(struct rig *rig)
{
	while (rig->n > 5)
		sheaf_cache_free(rig->cache, rig->hand[--rig->n]);
	return true;
}

static bool free_bulk(struct rig *rig)
{
	sheaf_cache_free_bulk(rig->cache, rig->n, rig->hand);
	rig->n = 0;
	return true;
}

static bool free_nowait(struct rig *rig)
{
	while (rig->n > 5)
		sheaf_cache_free_nowait(rig->cache, rig->hand[--rig->n]);
	return true;
}

static bool retire(struct rig *rig)
{
	while (rig->n > 5)
		sheaf_cache_free_rcu(rig->cache, rig->hand[--rig->n]);
	return true;
}

static bool retire_nowait(struct rig *rig)
{
	while (rig->n > 5)
		sheaf_cache_free_rcu_nowait(rig->cache, rig->hand[--rig->n]);
	return true;
}

static bool prefill(struct rig *rig)
{
	struct sheaf *sheaf = sheaf_cache_prefill(rig->cache, 20, 0);
	bool done = sheaf != NULL;
	unsigned i;

	if (!sheaf)
		return false;
	for (i = 0; i < 20; i++)
		if ((rig->hand[rig->n++] = sheaf_cache_alloc_from(rig->cache, sheaf)) == NULL)
			abort();
	done = sheaf_cache_refill(rig->cache, &sheaf, 30, 0) == 0;
	for (i = 0; done && i < 30; i++)
		if ((rig->hand[rig->n++] = sheaf_cache_alloc_from(rig->cache, sheaf)) == NULL)
			abort();
	sheaf_cache_return(rig->cache, sheaf);
	return done;
}

/* More is in flight than the hard limit says. */
static bool throttle(struct rig *rig)
{
	unsigned i;
	int err;

	if (sheaf_cache_set_rcu_limits(rig->cache, 4, 8))
		abort();
	for (i = 0; i < 30; i++)
		sheaf_cache_free_rcu(rig->cache, rig->hand[--rig->n]);
	err = sheaf_cache_throttle(rig->cache);
	/* A source that is stepped by hand cannot be waited for. */
	if (err && !(err == -EDEADLK && rig->gp == &rig->manual.gp))
		abort();
	return true;
}

/* What gives back, and what waits, needs no memory. */
static bool give_back(struct rig *rig)
{
	struct sheaf_cache_stats stats;
	int err;

	sheaf_cache_free_rcu(rig->cache, rig->hand[--rig->n]);
	sheaf_cache_free(rig->cache, rig->hand[--rig->n]);
	sheaf_cache_flush(rig->cache);
	sheaf_cache_free(rig->cache, rig->hand[--rig->n]);
	err = sheaf_cache_barrier(rig->cache);
	if (err && err != -EDEADLK)
		abort();
	sheaf_cache_trim(rig->cache);
	sheaf_cache_shrink(rig->cache);
	sheaf_cache_stats(rig->cache, &stats, sizeof(stats));
	return sheaf_cache_set_capacity(rig->cache, 9) == 0;
}

/* Each write is done wholly or not at all: the number of ranges tells. */
static bool tree_says(struct rig *rig, int err, int64_t more)
{
	struct sheaf_tree_stats after;
	const bool was = faulty;

	faulty = false;
	sheaf_tree_stats(rig->tree, &after);
	if (sheaf_tree_check(rig->tree) || (err && err != -ENOMEM) ||
	    after.entries != (uint64_t)((int64_t)rig->entries + (err ? 0 : more)))
		abort();
	rig->entries = after.entries;
	faulty = was;
	return !err;
}

static bool tree_insert(struct rig *rig)
{
	const uint64_t key = 1000 + 10 * rig->entries;
	unsigned i;

	for (i = 0; i < 20; i++)
		if (!tree_says(rig, sheaf_tree_insert(rig->tree, key + 3 * i, key + 3 * i, rig), 1))
			return false;
	return true;
}

/* Each cuts a range in two and stands between them. */
static bool tree_store(struct rig *rig)
{
	unsigned i;

	for (i = 0; i < 20; i++) {
		const uint64_t key = 10 * rig->turn + 2;

		if (!tree_says(rig, sheaf_tree_store(rig->tree, key, key, rig), 2))
			return false;
		rig->turn++;
	}
	return true;
}

static bool tree_prepared(struct rig *rig)
{
	struct sheaf_tree_prep prep;
	const uint64_t key = 5000 + 10 * rig->entries;
	unsigned i;

	if (sheaf_tree_prepare(rig->tree, &prep, 20))
		return tree_says(rig, -ENOMEM, 0);
	sheaf_tree_lock(rig->tree);
	for (i = 0; i < 20; i++)
		/* Cannot fail, whatever is refused. */
		if (sheaf_tree_insert_locked(rig->tree, &prep, key + 2 * i, key + 2 * i, rig))
			abort();
	sheaf_tree_unlock(rig->tree);
	sheaf_tree_finish(rig->tree, &prep);
	return tree_says(rig, 0, 20);
}

static bool tree_erase(struct rig *rig)
{
	unsigned i;

	for (i = 0; i < 40; i++) {
		int err = sheaf_tree_erase(rig->tree, 10 * i, NULL);

		if (err == -ENOENT)
			continue;
		if (!tree_says(rig, err, -1))
			return false;
	}
	return true;
}

/* Each is one whole range, and half of the hole behind it. */
static bool tree_erase_range(struct rig *rig)
{
	unsigned i;

	for (i = 0; i < 20; i++, rig->turn++)
		if (!tree_says(
			    rig,
			    sheaf_tree_erase_range(rig->tree, 10 * rig->turn, 10 * rig->turn + 7),
			    -1))
			return false;
	return true;
}

static bool tree_cursor(struct rig *rig)
{
	const uint64_t key = 9000 + 10 * rig->entries;
	struct sheaf_tree_cursor cursor;
	unsigned i;

	sheaf_tree_cursor_init(&cursor, rig->tree);
	for (i = 0; i < 20; i++)
		if (!tree_says(
			    rig,
			    sheaf_tree_cursor_store(&cursor, key + 2 * i, key + 2 * i + i % 2, rig),
			    1))
			return false;
	return true;
}

static bool tree_gap(struct rig *rig)
{
	const struct sheaf_tree_gap gap = {.max = UINT64_MAX, .size = 4};
	uint64_t at;
	unsigned i;

	for (i = 0; i < 20; i++)
		if (!tree_says(rig, sheaf_tree_store_gap(rig->tree, &gap, rig, &at), 1))
			return false;
	return true;
}

static bool other_tree(struct rig *rig)
{
	struct sheaf_tree_attr attr = {
		.size = sizeof(attr), .gp = rig->gp, .flags = SHEAF_TREE_GAPS};
	int err = rig->other ? 0 : sheaf_tree_create(&rig->other, &attr);

	if (err && (err != -ENOMEM || rig->other))
		abort();
	return !err;
}

/* The other tree has all or nothing. */
static bool other_says(struct rig *rig, int err)
{
	struct sheaf_tree_stats stats;
	const bool was = faulty;

	faulty = false;
	sheaf_tree_stats(rig->other, &stats);
	if (sheaf_tree_check(rig->other) || (err && err != -ENOMEM) || !stats.entries != !!err)
		abort();
	sheaf_tree_clear(rig->other);
	faulty = was;
	return !err;
}

static bool tree_dup(struct rig *rig)
{
	return other_tree(rig) && other_says(rig, sheaf_tree_dup(rig->other, rig->tree));
}

static bool tree_build(struct rig *rig)
{
	struct sheaf_tree_range ranges[KEYS];
	unsigned i;

	for (i = 0; i < KEYS; i++)
		ranges[i] = (struct sheaf_tree_range){10 * i, 10 * i + i % 9, rig};
	return other_tree(rig) && other_says(rig, sheaf_tree_build(rig->other, ranges, KEYS));
}

static bool shared_source(struct rig *rig)
{
	struct sheaf_gp *gp = NULL;
	int err = sheaf_gp_urcu_get(&gp, &rcu_flavor);

	(void)rig;
	if (err)
		return err != -ENOMEM || gp ? (abort(), false) : false;
	/* Without a thread who waits runs the period. */
	if (sheaf_gp_wait(gp, sheaf_gp_ticket(gp)))
		abort();
	sheaf_gp_urcu_put(gp);
	return true;
}

static bool slab(struct rig *rig)
{
	struct sheaf_slab_attr attr = {
		.size = sizeof(attr), .object_size = 100, .nodes = 3, .hardened = rig->malloced};
	struct sheaf_slab *made = NULL;
	struct sheaf_backend backend;
	void *objects[300];
	bool was;
	size_t got;

	if (sheaf_slab_create(&made, &attr)) {
		if (made)
			abort();
		return false;
	}
	backend = sheaf_slab_backend(made);
	got = backend.ops->alloc_bulk(backend.ctx, 1, 0, 300, objects);
	backend.ops->free_bulk(backend.ctx, got, objects);
	was = faulty;
	faulty = false;
	if (!sheaf_slab_check(made) || sheaf_slab_destroy(made))
		abort();
	faulty = was;
	return got == 300;
}

static bool blocks(struct rig *rig)
{
	void *block = sheaf_ck_memory_alloc(&rig->memory, 100), *larger, *largest;
	bool done;

	if (!block)
		return false;
	memset(block, 1, 100);
	larger = sheaf_ck_memory_realloc(&rig->memory, block, 100, 5000, true);
	if (!larger) {
		sheaf_ck_memory_free(&rig->memory, block, 100, true);
		return false;
	}
	largest = sheaf_ck_memory_realloc(&rig->memory, larger, 5000, 200000, true);
	done = largest != NULL;
	sheaf_ck_memory_free(&rig->memory, done ? largest : larger, done ? 200000 : 5000, true);
	return done;
}

static const struct scenario {
	const char *name;
	bool (*run)(struct rig *rig);
	bool never_fails;
	/* What is at hand may do. */
	bool may_be_free;
} scenarios[] = {
	{"create", create, false, false},
	{"create with all attributes", create_with_all, false, false},
	{"create, counters shown", create_shown, false, false},
	{"alloc", alloc, false, false},
	{"alloc_node", alloc_node, false, false},
	{"alloc_bulk", alloc_bulk, false, true},
	{"free", free_many, true, false},
	{"free_bulk", free_bulk, true, false},
	{"free_nowait", free_nowait, true, true},
	{"free_rcu", retire, true, false},
	{"free_rcu_nowait", retire_nowait, true, true},
	{"prefill", prefill, false, false},
	{"throttle", throttle, true, true},
	{"flush, barrier, trim, shrink", give_back, true, false},
	{"tree_insert", tree_insert, false, false},
	{"tree_store", tree_store, false, false},
	{"tree_prepare", tree_prepared, false, false},
	{"tree_erase", tree_erase, false, false},
	{"tree_erase_range", tree_erase_range, false, false},
	{"tree_cursor_store", tree_cursor, false, false},
	{"tree_store_gap", tree_gap, false, false},
	{"tree_dup", tree_dup, false, false},
	{"tree_build", tree_build, false, false},
	{"shared source", shared_source, false, false},
	{"slab", slab, false, false},
	{"blocks", blocks, false, false},
};

#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

static void begin(struct rig *rig, unsigned variant)
{
	struct sheaf_cache_attr attr;
	struct sheaf_tree_attr tree_attr = {.size = sizeof(tree_attr)};

	memset(rig, 0, sizeof(*rig));
	rig->malloced = variant & 1;
	if (variant & 2) {
		sheaf_gp_manual_init(&rig->manual, 0);
		rig->gp = &rig->manual.gp;
	} else {
		ck_assert_int_eq(sheaf_gp_urcu_init(&rig->urcu, &rcu_flavor, NULL), 0);
		rig->gp = &rig->urcu.gp;
	}
	attr = attr_of(rig);
	ck_assert_int_eq(sheaf_cache_create(&rig->cache, &attr), 0);
	rig->n = (unsigned)sheaf_cache_alloc_bulk(rig->cache, 0, HAND, rig->hand);
	ck_assert_uint_eq(rig->n, HAND);
	sheaf_cache_shrink(rig->cache);
	tree_attr.gp = rig->gp;
	tree_attr.flags = variant & 1 ? SHEAF_TREE_GAPS : 0;
	ck_assert_int_eq(sheaf_tree_create(&rig->tree, &tree_attr), 0);
	for (unsigned i = 0; i < KEYS; i++)
		ck_assert_int_eq(sheaf_tree_insert(rig->tree, 10 * i, 10 * i + 5, rig), 0);
	rig->entries = KEYS;
	ck_assert_int_eq(sheaf_ck_memory_init(&rig->memory, rig->gp), 0);
	sheaf_trim(SIZE_MAX);
}

static void step(struct rig *rig, bool manual)
{
	if (manual)
		sheaf_gp_manual_step(&rig->manual);
}

static struct rig *kept;

/* With a manual source nodes may be abandoned: then the tree cannot be ended. */
static bool end_tree(struct rig *rig, struct sheaf_tree *tree, bool manual)
{
	int err = tree ? sheaf_tree_destroy(tree) : 0;

	for (; err == -EDEADLK; err = sheaf_tree_destroy(tree)) {
		ck_assert(manual);
		step(rig, manual);
	}
	ck_assert_int_eq(err, manual && failed && err ? -EBUSY : 0);
	return !err;
}

static void end(struct rig *rig, const char *name, unsigned n, bool manual)
{
	struct sheaf_cache_stats stats;
	size_t live = 0;
	bool ended;
	int err;

	sheaf_cache_free_bulk(rig->cache, rig->n, rig->hand);
	(void)sheaf_cache_barrier(rig->cache);
	step(rig, manual);
	ck_assert(sheaf_cache_check(rig->cache));
	sheaf_cache_stats(rig->cache, &stats, sizeof(stats));
	err = sheaf_cache_destroy(rig->cache, &live);
	ck_assert_msg(err == (stats.abandoned ? -EBUSY : 0) && live == stats.abandoned,
		      "%s, refusal %u: destroy says %d, %zu objects are out, %llu abandoned", name,
		      n, err, live, (unsigned long long)stats.abandoned);
	/* Where one can wait for a grace period nothing retired need be given up. */
	ck_assert_msg(manual || !stats.abandoned || strstr(name, "nowait"), "%s, refusal %u", name,
		      n);
	ended = end_tree(rig, rig->other, manual);
	ended &= end_tree(rig, rig->tree, manual);
	for (err = sheaf_ck_memory_fini(&rig->memory, NULL); err;
	     err = sheaf_ck_memory_fini(&rig->memory, NULL)) {
		ck_assert(manual && err == -EDEADLK);
		step(rig, manual);
	}
	if (live || !ended) {
		/* What was abandoned keeps its cache, and that its source. */
		rig->kept = kept;
		kept = rig;
		return;
	}
	if (!manual)
		sheaf_gp_urcu_fini(&rig->urcu);
	free(rig);
}

static void *try_refused(void *arg)
{
	struct rig *rig = arg;

	rcu_register_thread();
	faulty = true;
	rig->done = rig->run(rig);
	faulty = false;
	rcu_unregister_thread();
	return NULL;
}

static void try_again(struct rig *rig, const char *name, unsigned n)
{
	ck_assert_msg(rig->run(rig), "%s fails after refusal %u has ended", name, n);
}

START_TEST(fails_as_a_whole)
{
	const struct scenario *scenario = &scenarios[(unsigned)_i % SCENARIOS];
	const unsigned variant = (unsigned)_i / SCENARIOS;
	unsigned n, most = 0;

	sheaf_memory_fault = refuse;
	for (n = 0; n < 2000; n++) {
		struct rig *rig = calloc(1, sizeof(*rig));
		pthread_t thread;

		begin(rig, variant);
		left = n / 2;
		every = n % 2;
		failed = false;
		rig->run = scenario->run;
		ck_assert_int_eq(pthread_create(&thread, NULL, try_refused, rig), 0);
		pthread_join(thread, NULL);
		ck_assert_msg(rig->done || failed, "%s fails without a refusal", scenario->name);
		ck_assert_msg(rig->done || !scenario->never_fails, "%s fails, refusal %u",
			      scenario->name, n);
		if (failed)
			most = n / 2 + 1;
		if (!scenario->never_fails)
			try_again(rig, scenario->name, n);
		end(rig, scenario->name, n, variant & 2);
		if (!failed && n % 2)
			break;
	}
	ck_assert_uint_lt(n, 2000);
	ck_assert_msg(most || scenario->may_be_free, "%s asks for nothing", scenario->name);
	sheaf_memory_fault = NULL;
	printf("# %s, variant %u: %u refusals\n", scenario->name, variant, most);
	fflush(stdout);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("faults");
	TCase *tc = tcase_create("nth");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, fails_as_a_whole, 0, 4 * SCENARIOS);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
