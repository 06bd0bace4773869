/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves what is built on loads and stores. Against the oracle: stores and erases by
 * cursor, and where next and prev go from there; snapshots of windows; holes; free places with
 * alignment and offset, for readers and with a store in one call; trees built from an
 * array and from each other, also without memory. Beside a writer: each snapshot is of one
 * moment; a hole that is always there is always found, and never in what is always taken.
 */
#include "oracle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#define KEYS 3000

static void pick(uint64_t *state, uint64_t *first, uint64_t *last)
{
	*first = test_below(state, KEYS);
	*last = *first +
		(test_below(state, 3) ? 0 : test_below(state, test_below(state, 8) ? 6 : 400));
	if (!test_below(state, 200)) {
		*first = UINT64_MAX - test_below(state, 3);
		*last = UINT64_MAX;
	}
}

static void check_steps(struct sheaf_tree_cursor *cursor, const struct oracle *oracle,
			uint64_t *state)
{
	const uint64_t first = cursor->first, last = cursor->last;
	const bool up = test_below(state, 2);
	void *entry = up ? sheaf_tree_next_rcu(cursor) : sheaf_tree_prev_rcu(cursor);
	size_t i;

	if (up) {
		i = last == UINT64_MAX ? oracle->n : oracle_at(oracle, last + 1);
		expect(entry == (i < oracle->n ? oracle->range[i].entry : NULL));
		expect(!entry || cursor->last == oracle->range[i].last);
	} else {
		i = oracle_at(oracle, first);
		/* One that was stored round the place meanwhile is cut there. */
		i += i < oracle->n && oracle->range[i].first < first;
		expect(entry == (i ? oracle->range[i - 1].entry : NULL));
		expect(!entry || cursor->first == oracle->range[i - 1].first);
	}
}

START_TEST(cursors_write)
{
	uint64_t state = test_seed() + (unsigned)_i, first, last, run = 0;
	struct sheaf_tree_cursor cursor;
	struct oracle oracle = {.n = 0};
	struct rig rig;
	unsigned i;

	rig_init(&rig, 3, (unsigned)_i);
	sheaf_tree_cursor_init(&cursor, rig.tree);
	expect(sheaf_tree_cursor_erase_locked(&cursor) == -ENOENT);
	for (i = 0; i < test_rounds(4000); i++) {
		void *entry = test_below(&state, 8) ? (void *)(uintptr_t)(i + 1) : NULL;

		/* Often in ascending order, which is what cursors are for. */
		pick(&state, &first, &last);
		if (run) {
			first = last = cursor.last + 1;
			run--;
		} else if (!test_below(&state, 20)) {
			run = test_below(&state, 60);
		}
		if (cursor.entry && !test_below(&state, 6)) {
			first = cursor.first;
			last = cursor.last;
			sheaf_tree_lock(rig.tree);
			expect(sheaf_tree_cursor_erase_locked(&cursor) == 0);
			expect(sheaf_tree_cursor_erase_locked(&cursor) == -ENOENT);
			sheaf_tree_unlock(rig.tree);
			oracle_store(&oracle, first, last, NULL);
		} else {
			expect(sheaf_tree_cursor_store(&cursor, first, last, entry) == 0);
			expect(cursor.first == first && cursor.last == last &&
			       cursor.entry == entry);
			oracle_store(&oracle, first, last, entry);
		}
		if (!test_below(&state, 4)) {
			/* Others write, too. */
			pick(&state, &first, &last);
			entry = test_below(&state, 2) ? &rig : NULL;
			expect(sheaf_tree_store(rig.tree, first, last, entry) == 0);
			oracle_store(&oracle, first, last, entry);
		}
		if (cursor.entry && test_below(&state, 2))
			check_steps(&cursor, &oracle, &state);
		if (!test_below(&state, 50))
			sheaf_gp_manual_step(&rig.gp);
		rig_compare(&rig, &oracle);
	}
	oracle_fini(&oracle);
	rig_fini(&rig);
}
END_TEST

static void check_snapshot(const struct rig *rig, const struct oracle *oracle, uint64_t *state)
{
	struct sheaf_tree_range range[64];
	uint64_t first = test_below(state, KEYS), last = first + test_below(state, KEYS);
	size_t i, from = oracle_at(oracle, first), n = 0, got = 0;
	const size_t room = test_below(state, 65);
	int err = sheaf_tree_snapshot_range(rig->tree, first, last, range, room, &got, 0);

	while (from + n < oracle->n && oracle->range[from + n].first <= last)
		n++;
	expect(got == n);
	expect(err == (n > room ? -ENOBUFS : 0));
	for (i = 0; i < n && i < room; i++)
		expect(range[i].first == oracle->range[from + i].first &&
		       range[i].last == oracle->range[from + i].last &&
		       range[i].entry == oracle->range[from + i].entry);
}

/* Key by key: each one in the window is in a hole or taken. */
static void check_holes(const struct rig *rig, const struct oracle *oracle, uint64_t *state)
{
	uint64_t at = test_below(state, KEYS), last = at + test_below(state, 300);
	struct sheaf_tree_holes holes;

	if (!test_below(state, 10)) {
		last = UINT64_MAX;
		at = last - test_below(state, 4);
	}
	sheaf_tree_holes_init(&holes, rig->tree, at, last);
	while (sheaf_tree_hole_next_rcu(&holes)) {
		expect(holes.first >= at && holes.first <= holes.last && holes.last <= last);
		for (; at < holes.first; at++)
			expect(oracle_load(oracle, at));
		for (; at < holes.last; at++)
			expect(!oracle_load(oracle, at));
		expect(!oracle_load(oracle, at));
		if (at++ == last)
			break;
	}
	expect(!sheaf_tree_hole_next_rcu(&holes));
	for (; at && at < last; at++)
		expect(oracle_load(oracle, at));
}

/* By trying each key. */
static bool place_fits(const struct oracle *oracle, const struct sheaf_tree_gap *gap, uint64_t at)
{
	const size_t i = oracle_at(oracle, at);

	if (at < gap->min || at + gap->size - 1 > gap->max ||
	    (gap->align && at % gap->align != gap->offset))
		return false;
	return i == oracle->n || oracle->range[i].first > at + gap->size - 1;
}

static void check_gap(struct rig *rig, struct oracle *oracle, uint64_t *state)
{
	struct sheaf_tree_gap gap = {
		.min = test_below(state, KEYS),
		.size = 1 + test_below(state, 20),
		.highest = test_below(state, 2),
	};
	uint64_t at, want = UINT64_MAX, got = 0;
	int err;

	gap.max = gap.min + test_below(state, 400);
	if (test_below(state, 2)) {
		gap.align = UINT64_C(1) << test_below(state, 6);
		gap.offset = test_below(state, gap.align);
	}
	for (at = gap.min; at <= gap.max && (gap.highest || want == UINT64_MAX); at++)
		if (place_fits(oracle, &gap, at))
			want = at;
	err = sheaf_tree_gap_rcu(rig->tree, &gap, &got);
	expect(err == (want == UINT64_MAX ? -ENOSPC : 0));
	expect(err || got == want);
	err = sheaf_tree_store_gap(rig->tree, &gap, oracle, &got);
	expect(err == (want == UINT64_MAX ? -ENOSPC : 0));
	expect(err || got == want);
	if (!err)
		oracle_store(oracle, want, want + gap.size - 1, oracle);
	expect(sheaf_tree_store_gap(rig->tree, &gap, NULL, &got) == -EINVAL);
	gap.offset = gap.align ? gap.align : 1;
	expect(sheaf_tree_gap_rcu(rig->tree, &gap, &got) == -EINVAL);
}

START_TEST(windows_are_seen)
{
	uint64_t state = test_seed() + (unsigned)_i, first, last;
	struct oracle oracle = {.n = 0};
	struct rig rig;
	unsigned i;

	rig_init(&rig, 3, (unsigned)_i);
	for (i = 0; i < test_rounds(4000); i++) {
		pick(&state, &first, &last);
		if (test_below(&state, 3)) {
			expect(sheaf_tree_store(rig.tree, first, last, &rig) == 0);
			oracle_store(&oracle, first, last, &rig);
		} else {
			expect(sheaf_tree_erase_range(rig.tree, first, last) == 0);
			oracle_store(&oracle, first, last, NULL);
		}
		check_snapshot(&rig, &oracle, &state);
		check_holes(&rig, &oracle, &state);
		check_gap(&rig, &oracle, &state);
		rig_compare(&rig, &oracle);
		if (!test_below(&state, 50))
			sheaf_gp_manual_step(&rig.gp);
	}
	oracle_fini(&oracle);
	rig_fini(&rig);
}
END_TEST

/* Of all sizes, with points and ranges in runs. */
static void random_ranges(struct oracle *oracle, size_t n, uint64_t *state)
{
	bool points = false;
	uint64_t at = 0;

	while (oracle->n < n) {
		uint64_t last;

		if (!test_below(state, 12))
			points = !points;
		at += test_below(state, 3);
		last = at + (points ? 0 : test_below(state, 9));
		oracle_store(oracle, at, last, (void *)(uintptr_t)(at + 1));
		at = last + 1;
	}
}

static void compare_and_use(struct rig *rig, struct oracle *oracle, uint64_t *state)
{
	unsigned i;

	rig_compare(rig, oracle);
	for (i = 0; i < 50; i++) {
		uint64_t first, last;

		pick(state, &first, &last);
		expect(sheaf_tree_store(rig->tree, first, last, i % 3 ? rig : NULL) == 0);
		oracle_store(oracle, first, last, i % 3 ? rig : NULL);
		rig_compare(rig, oracle);
	}
}

START_TEST(trees_are_built)
{
	uint64_t state = test_seed() + (unsigned)_i;
	unsigned round;

	for (round = 0; round < test_rounds(120); round++) {
		const size_t n = round < 40 ? round : test_below(&state, round % 4 ? 400 : 3000);
		struct oracle oracle = {.n = 0}, shadow = {.n = 0};
		struct sheaf_tree_range one = {5, 4, &oracle};
		struct rig rig, twin;
		size_t i;

		rig_init(&rig, 3, (unsigned)_i);
		rig_init(&twin, 3, (unsigned)_i ^ SHEAF_TREE_GAPS);
		random_ranges(&oracle, n, &state);
		expect(sheaf_tree_build(rig.tree, &one, 1) == -EINVAL);
		expect(sheaf_tree_build(rig.tree, (struct sheaf_tree_range *)oracle.range, n) == 0);
		expect(!n || sheaf_tree_build(rig.tree, &one, 1) == -EEXIST);
		expect(sheaf_tree_dup(twin.tree, rig.tree) == 0);
		expect(!n || sheaf_tree_dup(twin.tree, rig.tree) == -EEXIST);
		for (i = 0; i < oracle.n; i++)
			oracle_store(&shadow, oracle.range[i].first, oracle.range[i].last,
				     oracle.range[i].entry);
		compare_and_use(&rig, &oracle, &state);
		compare_and_use(&twin, &shadow, &state);
		oracle_fini(&oracle);
		oracle_fini(&shadow);
		rig_fini(&rig);
		rig_fini(&twin);
	}
}
END_TEST

START_TEST(built_as_a_whole_or_not)
{
	uint64_t state = test_seed() + (unsigned)_i;
	struct oracle oracle = {.n = 0}, none = {.n = 0};
	struct rig rig, twin;
	size_t budget;
	int err;

	rig_init(&rig, 3, (unsigned)_i);
	rig_init(&twin, 3, (unsigned)_i);
	random_ranges(&oracle, 500, &state);
	for (budget = 0;; budget++) {
		rig_drain(&rig);
		rig.budget = budget;
		err = sheaf_tree_build(rig.tree, (struct sheaf_tree_range *)oracle.range, oracle.n);
		rig.budget = SIZE_MAX;
		if (!err)
			break;
		expect(err == -ENOMEM);
		rig_compare(&rig, &none);
		rig_drain(&rig);
		expect(!rig.out);
	}
	expect(budget > 30);
	rig_compare(&rig, &oracle);
	for (budget = 0;; budget++) {
		rig_drain(&twin);
		twin.budget = budget;
		err = sheaf_tree_dup(twin.tree, rig.tree);
		twin.budget = SIZE_MAX;
		if (!err)
			break;
		expect(err == -ENOMEM);
		rig_compare(&twin, &none);
	}
	rig_compare(&twin, &oracle);
	oracle_fini(&oracle);
	rig_fini(&rig);
	rig_fini(&twin);
}
END_TEST

/* Write number i goes to this key: the value of each key tells all writes before. */
#define WINDOW 61
#define KEY(i) ((i)*7 % WINDOW * 3)

struct world {
	struct sheaf_gp_urcu gp;
	struct sheaf_tree *tree;
	uint64_t writes;
	uint64_t bad;
	uint64_t seen;
	uint64_t missed;
	int stop;
};

/* The number of the last write to a key, of those up to n. */
static uint64_t last_to(uint64_t key, uint64_t n)
{
	while (KEY(n) != key)
		n--;
	return n;
}

static void snapshot_once(struct world *world)
{
	struct sheaf_tree_range range[2 * WINDOW];
	uint64_t newest = 0;
	size_t i, got, keys = 0;
	int err;

	sheaf_gp_read_lock(&world->gp.gp);
	err = sheaf_tree_snapshot_range(world->tree, 0, UINT64_MAX, range, 2 * WINDOW, &got, 1000);
	sheaf_gp_read_unlock(&world->gp.gp);
	if (err) {
		world->missed++;
		return;
	}
	world->seen++;
	for (i = 0; i < got; i++)
		if ((uintptr_t)range[i].entry > newest)
			newest = (uintptr_t)range[i].entry;
	for (i = 0; i < got; i++) {
		/* Behind some keys there is what a longer range has left. */
		if (range[i].first % 3)
			continue;
		world->bad += (uintptr_t)range[i].entry != last_to(range[i].first, newest);
		keys++;
	}
	world->bad += keys != WINDOW;
}

static void *reader(void *arg)
{
	struct world *world = *(struct world **)arg;

	rcu_register_thread();
	while (!__atomic_load_n(&world->stop, __ATOMIC_RELAXED) || !world->seen)
		snapshot_once(world);
	rcu_unregister_thread();
	return NULL;
}

/* By turns one key and two, so that entries are replaced, ranges swallowed and cut. */
static void *writer(void *arg)
{
	struct world *world = *(struct world **)arg;
	uint64_t i;

	rcu_register_thread();
	for (i = WINDOW; i < world->writes; i++) {
		const uint64_t last = KEY(i) + i % 2;

		if (sheaf_tree_store(world->tree, KEY(i), last, (void *)(uintptr_t)i))
			abort();
		if (i % 64 == 0)
			sched_yield();
	}
	__atomic_store_n(&world->stop, 1, __ATOMIC_RELAXED);
	rcu_unregister_thread();
	return NULL;
}

static void *play(void *arg)
{
	struct {
		struct world *world;
		void *(*role)(void *);
	} *part = arg;

	return part->role(part);
}

static void world_run(struct world *world, void *(*write)(void *), void *(*read)(void *))
{
	struct {
		struct world *world;
		void *(*role)(void *);
	} part[2] = {{world, write}, {world, read}};

	test_threads(2, play, part, sizeof(part[0]));
}

static void world_init(struct world *world)
{
	struct sheaf_tree_attr attr = {.size = sizeof(attr), .flags = SHEAF_TREE_GAPS};

	memset(world, 0, sizeof(*world));
	ck_assert_int_eq(sheaf_gp_urcu_init(&world->gp, &rcu_flavor, NULL), 0);
	attr.gp = &world->gp.gp;
	ck_assert_int_eq(sheaf_tree_create(&world->tree, &attr), 0);
}

static void world_fini(struct world *world)
{
	ck_assert_ptr_null(sheaf_tree_check(world->tree));
	ck_assert_int_eq(sheaf_tree_destroy(world->tree), 0);
	sheaf_gp_urcu_fini(&world->gp);
	ck_assert_uint_eq(world->bad, 0);
	ck_assert_uint_gt(world->seen, 0);
}

START_TEST(snapshots_are_of_one_moment)
{
	struct world world;
	uint64_t i;

	world_init(&world);
	world.writes = 40 * test_rounds(1000);
	for (i = 1; i < WINDOW; i++)
		ck_assert_int_eq(sheaf_tree_store(world.tree, KEY(i), KEY(i), (void *)(uintptr_t)i),
				 0);
	/* Number 0 would be no entry. */
	ck_assert_int_eq(sheaf_tree_store(world.tree, KEY(0), KEY(0), (void *)(uintptr_t)WINDOW),
			 0);
	world_run(&world, writer, reader);
	world_fini(&world);
}
END_TEST

/* Taken for ever: the first half of each hundred; free for ever: one stretch in the middle. */
#define HUNDREDS 200
#define STRETCH UINT64_C(40)
#define FREE_AT (100 * UINT64_C(90) + 55)

static void *churn(void *arg)
{
	struct world *world = *(struct world **)arg;
	uint64_t i, state = test_seed();

	rcu_register_thread();
	for (i = 0; i < world->writes; i++) {
		uint64_t at = 100 * test_below(&state, HUNDREDS) + 50, first, last;

		first = at + test_below(&state, 50);
		last = first + test_below(&state, at + 50 - first);
		if (at == FREE_AT - 5 && last >= FREE_AT)
			continue;
		if (sheaf_tree_store(world->tree, first, last, i % 3 ? world : NULL))
			abort();
	}
	__atomic_store_n(&world->stop, 1, __ATOMIC_RELAXED);
	rcu_unregister_thread();
	return NULL;
}

static void *seek(void *arg)
{
	struct world *world = *(struct world **)arg;
	struct sheaf_tree_gap gap = {.max = 100 * HUNDREDS, .size = STRETCH};
	uint64_t at;

	rcu_register_thread();
	do {
		gap.highest = !gap.highest;
		sheaf_gp_read_lock(&world->gp.gp);
		if (sheaf_tree_gap_rcu(world->tree, &gap, &at))
			world->bad++;
		else
			world->bad += at % 100 < 50 || at % 100 + STRETCH > 100;
		sheaf_gp_read_unlock(&world->gp.gp);
		world->seen++;
	} while (!__atomic_load_n(&world->stop, __ATOMIC_RELAXED));
	rcu_unregister_thread();
	return NULL;
}

START_TEST(holes_are_found_beside_a_writer)
{
	struct world world;
	uint64_t i;

	world_init(&world);
	world.writes = 20 * test_rounds(1000);
	for (i = 0; i <= HUNDREDS; i++)
		ck_assert_int_eq(sheaf_tree_store(world.tree, 100 * i, 100 * i + 49, &world), 0);
	world_run(&world, churn, seek);
	world_fini(&world);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree-views");
	TCase *tcase = tcase_create("views");

	tcase_add_loop_test(tcase, cursors_write, 0, 4);
	tcase_add_loop_test(tcase, windows_are_seen, 0, 4);
	tcase_add_loop_test(tcase, trees_are_built, 0, 4);
	tcase_add_loop_test(tcase, built_as_a_whole_or_not, 0, 4);
	tcase_add_test(tcase, snapshots_are_of_one_moment);
	tcase_add_test(tcase, holes_are_found_beside_a_writer);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
