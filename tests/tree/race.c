/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves what readers see while a writer works, on caches with sheaves of 2 to 4.
 *
 *  - A window of keys is always covered. Every so often one store covers all of it, many
 *    leaves high and wide, with an entry that says its version; smaller ones follow, each
 *    of which knows the last full one. Who has seen an entry must never again see one
 *    from before its full store, nor a hole, whichever key it loads and however it scans:
 *    each store is seen as a whole. Scans find the window covered without seams.
 *  - Ranges that are never written to, with others coming and going between them: each
 *    scan sees each of them once, in order, and nothing twice, and no free place that a reader finds is in one.
 *  - The same of single keys alone, which leaves of points hold: those that stay are found by each
 *    load, with an entry that is theirs, and so are others or they are not there.
 *  - Entries are retired through a cache and filled with rubbish when they are reused;
 *    a reader finds what it holds unchanged to the end of its section.
 *  - Several writers, with and without nodes set aside, leave what each one stored.
 */
#include "oracle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#define READERS 2
#define MAGIC UINT64_C(0x7465737476616c75)

/* What the tree's entries point to. Constant while it is in the tree. */
struct value {
	uint64_t magic;
	uint64_t first;
	uint64_t last;
	uint64_t version;
	/* Version of the last full store up to this one. */
	uint64_t full;
	uint64_t pad[3];
};

struct world {
	struct sheaf_gp_urcu gp;
	struct sheaf_cache *nodes;
	struct sheaf_cache *values;
	struct sheaf_tree *tree;
	unsigned rounds;
	int stop;
};

static void *value_get(struct world *world, uint64_t first, uint64_t last)
{
	struct value *value = sheaf_cache_alloc(world->values, 0);

	if (!value)
		abort();
	memset(value, 0xee, sizeof(*value));
	value->magic = MAGIC;
	value->first = first;
	value->last = last;
	return value;
}

static void world_init(struct world *world, uint32_t capacity)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = SHEAF_TREE_NODE_BYTES,
		.object_align = 64,
		.capacity = capacity,
	};
	struct sheaf_tree_attr tree = {.size = sizeof(tree), .flags = SHEAF_TREE_GAPS};

	memset(world, 0, sizeof(*world));
	ck_assert_int_eq(sheaf_gp_urcu_init(&world->gp, &rcu_flavor, NULL), 0);
	attr.gp = &world->gp.gp;
	ck_assert_int_eq(sheaf_cache_create(&world->nodes, &attr), 0);
	attr.object_size = sizeof(struct value);
	ck_assert_int_eq(sheaf_cache_create(&world->values, &attr), 0);
	tree.gp = &world->gp.gp;
	tree.nodes = world->nodes;
	ck_assert_int_eq(sheaf_tree_create(&world->tree, &tree), 0);
}

/* All values are retired or freed by now. */
static void world_fini(struct world *world)
{
	size_t live;

	ck_assert_ptr_null(sheaf_tree_check(world->tree));
	ck_assert_int_eq(sheaf_tree_destroy(world->tree), 0);
	ck_assert_int_eq(sheaf_cache_destroy(world->values, &live), 0);
	ck_assert_int_eq(sheaf_cache_destroy(world->nodes, &live), 0);
	sheaf_gp_urcu_fini(&world->gp);
}

struct worker {
	struct world *world;
	void (*work)(struct worker *worker);
	uint64_t state;
	uint64_t done;
	uint64_t bad;
	/* Highest version of a full store that was seen. */
	uint64_t floor;
	unsigned number;
	struct oracle oracle;
};

static bool stopped(const struct world *world)
{
	return __atomic_load_n(&world->stop, __ATOMIC_RELAXED);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;

	rcu_register_thread();
	worker->work(worker);
	rcu_unregister_thread();
	return NULL;
}

/* Run the writers to their end and the readers until then; counts are summed up. */
static void run(struct worker *workers, unsigned n)
{
	unsigned i;

	test_threads(n, worker_main, workers, sizeof(*workers));
	for (i = 0; i < n; i++) {
		ck_assert_uint_eq(workers[i].bad, 0);
		ck_assert_uint_gt(workers[i].done, 0);
	}
}

/* One writer, and readers. */
static void run_with(struct world *world, void (*write)(struct worker *),
		     void (*read)(struct worker *))
{
	struct worker workers[1 + READERS];
	unsigned i;

	for (i = 0; i <= READERS; i++)
		workers[i] = (struct worker){
			.world = world, .work = i ? read : write, .state = test_seed() + i};
	run(workers, 1 + READERS);
}

/* The window that is always covered. */
#define LOW UINT64_C(10000)
#define KEYS UINT64_C(3000)
#define HIGH (LOW + KEYS - 1)

/* Values since the last full store; that overwrites them all. */
#define GENERATION 600

static void retire_all(struct world *world, void **values, unsigned *n)
{
	while (*n)
		sheaf_cache_free_rcu(world->values, values[--*n]);
}

static void store_value(struct worker *w, struct value *value, uint64_t version, uint64_t full)
{
	value->version = version;
	value->full = full;
	w->bad += sheaf_tree_store(w->world->tree, value->first, value->last, value) != 0;
	w->done++;
}

static void write_versions(struct worker *w)
{
	struct world *world = w->world;
	struct sheaf_tree *tree = world->tree;
	void *old[GENERATION + 1];
	struct value *all;
	uint64_t version, full = 0;
	unsigned round, n = 0;

	for (version = 1, round = 0; round < world->rounds; round++) {
		unsigned some = (unsigned)test_below(&w->state, round % 8 ? 30 : GENERATION);

		full = version++;
		all = value_get(world, LOW - test_below(&w->state, 40),
				HIGH + test_below(&w->state, 40));
		store_value(w, all, full, full);
		/* What is left of the last generation beside it. */
		w->bad += sheaf_tree_store(tree, 0, all->first - 1, NULL) != 0;
		w->bad += sheaf_tree_store(tree, all->last + 1, UINT64_MAX, NULL) != 0;
		retire_all(world, old, &n);
		old[n++] = all;
		while (some--) {
			uint64_t first = LOW - 20 + test_below(&w->state, KEYS);
			uint64_t last = first + test_below(&w->state, some % 16 ? 8 : 400);

			if (last > HIGH + 20)
				last = HIGH + 20;
			old[n] = value_get(world, first, last);
			store_value(w, old[n++], version++, full);
		}
		/* The tree beside the window grows. */
		for (some = 0; some < 30; some++)
			w->bad += sheaf_tree_store(tree, 20 * some, 20 * some + 3, all) != 0;
	}
	__atomic_store_n(&world->stop, 1, __ATOMIC_RELAXED);
	sheaf_tree_store(tree, 0, UINT64_MAX, NULL);
	retire_all(world, old, &n);
}

/* Does a reader that loaded this for a key see what it must? */
static bool value_good(struct worker *w, const struct value *value, uint64_t key)
{
	if (!value || value->magic != MAGIC || value->first > key || value->last < key ||
	    value->version < w->floor)
		return false;
	if (value->full > w->floor)
		w->floor = value->full;
	return true;
}

static void read_keys(struct worker *w)
{
	const struct value *seen[16];
	uint64_t version[16];
	unsigned i;

	sheaf_gp_read_lock(&w->world->gp.gp);
	for (i = 0; i < 16; i++) {
		uint64_t key = LOW + test_below(&w->state, KEYS);

		seen[i] = sheaf_tree_load_rcu(w->world->tree, key);
		/* The writer is done, and has erased all. */
		if (!seen[i] && stopped(w->world))
			break;
		if (!value_good(w, seen[i], key)) {
			w->bad++;
			break;
		}
		version[i] = seen[i]->version;
	}
	while (i--)
		w->bad += seen[i]->magic != MAGIC || seen[i]->version != version[i];
	sheaf_gp_read_unlock(&w->world->gp.gp);
}

static void scan_window(struct worker *w, bool up, bool pause)
{
	struct sheaf_tree_cursor cursor;
	uint64_t at = up ? LOW : HIGH;
	const struct value *value;

	sheaf_tree_cursor_init(&cursor, w->world->tree);
	sheaf_gp_read_lock(&w->world->gp.gp);
	value = sheaf_tree_find_rcu(&cursor, at);
	for (;;) {
		if (!value && stopped(w->world))
			break;
		if (!value_good(w, value, at) || cursor.first > at || cursor.last < at) {
			w->bad++;
			break;
		}
		at = up ? cursor.last + 1 : cursor.first - 1;
		if (at < LOW || at > HIGH)
			break;
		if (pause && !test_below(&w->state, 8)) {
			sheaf_tree_cursor_pause(&cursor);
			sheaf_gp_read_unlock(&w->world->gp.gp);
			sheaf_gp_read_lock(&w->world->gp.gp);
		}
		value = up ? sheaf_tree_next_rcu(&cursor) : sheaf_tree_prev_rcu(&cursor);
	}
	sheaf_gp_read_unlock(&w->world->gp.gp);
}

static void read_versions(struct worker *w)
{
	/* The writer's first store may be still to come. */
	while (!stopped(w->world) && !sheaf_tree_load(w->world->tree, LOW))
		;
	do {
		read_keys(w);
		scan_window(w, test_below(&w->state, 2), test_below(&w->state, 2));
		w->done++;
	} while (!stopped(w->world) && !w->bad);
}

START_TEST(a_store_is_seen_as_a_whole)
{
	struct world world;

	world_init(&world, 2 + (uint32_t)_i);
	world.rounds = test_rounds(1500);
	run_with(&world, write_versions, read_versions);
	world_fini(&world);
}
END_TEST

/* Ranges at multiples of STEP stay; what is between comes and goes. */
#define STEP 64
#define FIXED 200

static void write_between(struct worker *w)
{
	struct world *world = w->world;
	unsigned i;

	for (i = 0; i < 20 * world->rounds; i++) {
		uint64_t room = STEP * test_below(&w->state, FIXED) + 8;
		uint64_t first = room + test_below(&w->state, STEP - 8);
		uint64_t last = first + test_below(&w->state, room + STEP - 8 - first);
		unsigned what = (unsigned)test_below(&w->state, 8);
		void *entry = what > 3 || (i & 1024) ? w : NULL;

		if (!what)
			w->bad += sheaf_tree_store(world->tree, room, room + STEP - 9, NULL) != 0;
		w->bad += sheaf_tree_store(world->tree, first, last, entry) != 0;
		w->done++;
	}
	__atomic_store_n(&world->stop, 1, __ATOMIC_RELAXED);
}

static void scan_fixed(struct worker *w, bool up)
{
	struct sheaf_tree_cursor cursor;
	uint64_t fixed = 0, passed = 0;
	bool any = false;
	void *entry;

	sheaf_tree_cursor_init(&cursor, w->world->tree);
	sheaf_gp_read_lock(&w->world->gp.gp);
	for (;;) {
		entry = up ? sheaf_tree_next_rcu(&cursor) : sheaf_tree_prev_rcu(&cursor);
		if (!entry)
			break;
		w->bad += cursor.last < cursor.first;
		w->bad += any && (up ? cursor.first <= passed : cursor.last >= passed);
		passed = up ? cursor.last : cursor.first;
		any = true;
		if (entry == w->world) {
			uint64_t want = STEP * (up ? fixed : FIXED - 1 - fixed);

			w->bad += cursor.first != want || cursor.last != want + 7;
			fixed++;
		}
		if (!test_below(&w->state, 30)) {
			sheaf_tree_cursor_pause(&cursor);
			sheaf_gp_read_unlock(&w->world->gp.gp);
			sheaf_gp_read_lock(&w->world->gp.gp);
		}
	}
	sheaf_gp_read_unlock(&w->world->gp.gp);
	w->bad += fixed != FIXED;
}

/* In the window, and where no range is that stays. */
static void find_room(struct worker *w)
{
	struct sheaf_tree_gap gap = {
		.min = test_below(&w->state, STEP * FIXED),
		.size = 1 + test_below(&w->state, STEP - 8),
		.highest = test_below(&w->state, 2),
	};
	uint64_t at = 0;
	int err;

	gap.max = gap.min + test_below(&w->state, STEP * FIXED - gap.min);
	sheaf_gp_read_lock(&w->world->gp.gp);
	err = sheaf_tree_gap_rcu(w->world->tree, &gap, &at);
	sheaf_gp_read_unlock(&w->world->gp.gp);
	if (err)
		w->bad += err != -ENOSPC && err != -EAGAIN;
	else
		w->bad += at < gap.min || at + gap.size - 1 > gap.max || at % STEP < 8 ||
			  at % STEP + gap.size > STEP;
}

static void read_between(struct worker *w)
{
	do {
		scan_fixed(w, test_below(&w->state, 2));
		for (unsigned i = 0; i < 10; i++)
			find_room(w);
		w->done++;
	} while (!stopped(w->world) && !w->bad);
}

START_TEST(a_scan_sees_what_stays_once)
{
	struct world world;
	unsigned i;

	world_init(&world, 2 + (uint32_t)_i);
	world.rounds = test_rounds(4000);
	for (i = 0; i < FIXED; i++)
		ck_assert_int_eq(sheaf_tree_store(world.tree, STEP * i, STEP * i + 7, &world), 0);
	run_with(&world, write_between, read_between);
	world_fini(&world);
}
END_TEST

/* Single keys: one of four stays, though its entry is stored again; those between come and go. */
#define POINTS (4 * 500)

static void *point_entry(uint64_t key, unsigned turn)
{
	return (void *)(uintptr_t)(2 * (4 * key + turn % 4) + 1);
}

static void write_points(struct worker *w)
{
	struct sheaf_tree *tree = w->world->tree;
	unsigned i;

	for (i = 0; i < 30 * w->world->rounds; i++) {
		const uint64_t key = test_below(&w->state, POINTS);
		/* More of them for a while, then fewer: leaves are divided, and merged. */
		const bool erase = key % 4 && test_below(&w->state, 4) < (i & 4096 ? 3 : 1);

		w->bad += sheaf_tree_store(tree, key, key, erase ? NULL : point_entry(key, i)) != 0;
		w->done++;
	}
	__atomic_store_n(&w->world->stop, 1, __ATOMIC_RELAXED);
}

static void read_points(struct worker *w)
{
	do {
		const uint64_t key = test_below(&w->state, POINTS);
		const uintptr_t entry = (uintptr_t)sheaf_tree_load(w->world->tree, key);

		w->bad += entry ? entry / 8 != key : key % 4 == 0;
		w->done++;
	} while (!stopped(w->world) && !w->bad);
}

START_TEST(a_point_that_stays_is_found)
{
	struct world world;
	uint64_t key;

	world_init(&world, 2 + (uint32_t)_i);
	world.rounds = test_rounds(2000);
	for (key = 0; key < POINTS; key += 4)
		ck_assert_int_eq(sheaf_tree_store(world.tree, key, key, point_entry(key, 0)), 0);
	run_with(&world, write_points, read_points);
	world_fini(&world);
}
END_TEST

/* Each writer has keys of its own, which lie among those of the others. */
#define WRITERS 3
#define PART 1000

static void part_write(struct worker *w, struct sheaf_tree_prep *prep)
{
	uint64_t part = WRITERS * test_below(&w->state, 3) + w->number;
	uint64_t first = PART * part + test_below(&w->state, PART);
	uint64_t last = first + test_below(&w->state, test_below(&w->state, 8) ? 6 : PART);
	void *entry = test_below(&w->state, 5) ? w : NULL;

	if (last >= PART * (part + 1))
		last = PART * (part + 1) - 1;
	if (prep)
		w->bad += sheaf_tree_store_locked(w->world->tree, prep, first, last, entry) != 0;
	else
		w->bad += sheaf_tree_store(w->world->tree, first, last, entry) != 0;
	oracle_store(&w->oracle, first, last, entry);
}

static void part_write_prepared(struct worker *w)
{
	uint32_t writes = 1 + (uint32_t)test_below(&w->state, 8);
	struct sheaf_tree *tree = w->world->tree;
	struct sheaf_tree_prep prep;

	for (;;) {
		if (sheaf_tree_prepare(tree, &prep, writes)) {
			w->bad++;
			return;
		}
		sheaf_tree_lock(tree);
		if (sheaf_tree_prepared_locked(tree, &prep))
			break;
		sheaf_tree_unlock(tree);
		sheaf_tree_finish(tree, &prep);
	}
	sheaf_gp_read_lock(&w->world->gp.gp);
	while (writes--)
		part_write(w, &prep);
	sheaf_gp_read_unlock(&w->world->gp.gp);
	sheaf_tree_unlock(tree);
	sheaf_tree_finish(tree, &prep);
}

static void write_part(struct worker *w)
{
	unsigned i;

	for (i = 0; i < 10 * w->world->rounds; i++) {
		if (test_below(&w->state, 2))
			part_write_prepared(w);
		else
			part_write(w, NULL);
		w->done++;
	}
	__atomic_fetch_add(&w->world->stop, 1, __ATOMIC_RELAXED);
}

/* Entries are workers: does each key have one of the right part? */
static void read_parts(struct worker *w)
{
	do {
		uint64_t key = test_below(&w->state, 3 * WRITERS * PART);
		struct worker *owner, *first = w - w->number;
		uint64_t at = 0;
		int err;

		owner = sheaf_tree_load(w->world->tree, key);
		w->bad += owner && owner != first + key / PART % WRITERS;
		err = sheaf_tree_lowest_gap(w->world->tree, 0, UINT64_MAX, 5, 8, &at);
		w->bad += err || at % 8;
		w->done++;
	} while (__atomic_load_n(&w->world->stop, __ATOMIC_RELAXED) < WRITERS);
}

START_TEST(writers_take_turns)
{
	struct worker workers[WRITERS + 1];
	struct sheaf_tree_stats stats;
	struct world world;
	size_t k, n = 0;
	unsigned i;

	world_init(&world, 2 + (uint32_t)_i);
	world.rounds = test_rounds(1000);
	for (i = 0; i <= WRITERS; i++)
		workers[i] = (struct worker){
			.world = &world,
			.work = i < WRITERS ? write_part : read_parts,
			.state = test_seed() + i,
			.number = i,
		};
	run(workers, WRITERS + 1);
	for (i = 0; i < WRITERS; i++) {
		for (k = 0; k < workers[i].oracle.n; k++) {
			const struct oracle_range *range = &workers[i].oracle.range[k];

			expect(sheaf_tree_load(world.tree, range->first) == range->entry);
			expect(sheaf_tree_load(world.tree, range->last) == range->entry);
		}
		n += workers[i].oracle.n;
		oracle_fini(&workers[i].oracle);
	}
	sheaf_tree_stats(world.tree, &stats);
	expect(stats.entries == n);
	world_fini(&world);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree-race");
	TCase *tcase = tcase_create("race");

	/* It loads, too. */
	rcu_register_thread();
	tcase_add_loop_test(tcase, a_store_is_seen_as_a_whole, 0, 3);
	tcase_add_loop_test(tcase, a_scan_sees_what_stays_once, 0, 3);
	tcase_add_loop_test(tcase, a_point_that_stays_is_found, 0, 3);
	tcase_add_loop_test(tcase, writers_take_turns, 0, 3);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
