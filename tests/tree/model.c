/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a tree is a set of ranges. The oracle is a sorted array. Random stores,
 * inserts and erases in key spaces of 64 keys to all of them, at both ends of the keys
 * and across, with entries of any bits: each returns what the oracle says; after each all
 * invariants hold and the counters are the oracle's; loads, finds, steps both ways with
 * and without pause, and the search for free keys agree. Trees grow and shrink in
 * turns, so that they are divided, merged and emptied.
 */
#include "oracle.h"

#include <errno.h>

/* A key space, and how it is used. */
struct world {
	uint64_t base;
	uint64_t size; /* 0: all keys */
	uint64_t longest;
};

static const struct world worlds[] = {
	{0, 64, 16},
	{0, 1000, 8},
	{UINT64_MAX - 999, 1000, 8},
	{UINT64_MAX - 63, 64, 40},
	{UINT64_MAX / 2, 20000, 100},
	{0, 0, UINT64_C(1) << 57},
	{0, 0, UINT64_C(1) << 52},
};

struct player {
	const struct world *world;
	struct rig rig;
	struct oracle oracle;
	uint64_t state;
};

static uint64_t in_world(const struct world *world, uint64_t x)
{
	return world->size ? world->base + x % world->size : x;
}

/* Often at or next to a key where something begins or ends. */
static uint64_t pick_key(struct player *p)
{
	uint64_t x = test_random(&p->state);
	const struct oracle_range *range;

	if (p->oracle.n && test_below(&p->state, 2)) {
		range = &p->oracle.range[test_below(&p->state, p->oracle.n)];
		x = (x & 8 ? range->first : range->last) + test_below(&p->state, 3) - 1;
		if (p->world->size && x - p->world->base >= p->world->size)
			x = range->first;
		return x;
	}
	switch (test_below(&p->state, 50)) {
	case 0:
		return p->world->base;
	case 1:
		return p->world->base + p->world->size - 1;
	}
	return in_world(p->world, x);
}

static void pick_range(struct player *p, uint64_t *first, uint64_t *last)
{
	const struct world *world = p->world;
	const uint64_t end = world->base + world->size - 1;
	uint64_t longest = world->longest;

	*first = pick_key(p);
	if (!test_below(&p->state, 400)) {
		*last = pick_key(p);
		if (*last < *first) {
			uint64_t swap = *first;

			*first = *last;
			*last = swap;
		}
		return;
	}
	/* Lengths of all magnitudes. */
	longest >>= test_below(&p->state, 64);
	*last = *first + (longest ? test_random(&p->state) % longest : 0);
	if (*last < *first || *last > end)
		*last = end;
}

static void *pick_entry(struct player *p)
{
	void *entry = (void *)(uintptr_t)test_random(&p->state);

	return entry ? entry : (void *)1;
}

static void play_store(struct player *p, bool insert)
{
	uint64_t first, last;
	void *entry = pick_entry(p);
	int err, want = 0;
	size_t i;

	pick_range(p, &first, &last);
	if (!insert) {
		err = sheaf_tree_store(p->rig.tree, first, last, entry);
	} else {
		i = oracle_at(&p->oracle, first);
		if (i < p->oracle.n && p->oracle.range[i].first <= last)
			want = -EEXIST;
		err = sheaf_tree_insert(p->rig.tree, first, last, entry);
	}
	expect(err == want);
	if (!err)
		oracle_store(&p->oracle, first, last, entry);
}

static void play_erase(struct player *p, bool range)
{
	uint64_t first, last;
	void *entry, *got = NULL;
	size_t i;
	int err;

	if (range) {
		struct sheaf_tree_stats before, after;
		bool changed;

		pick_range(p, &first, &last);
		sheaf_tree_stats(p->rig.tree, &before);
		expect(sheaf_tree_store(p->rig.tree, first, last, NULL) == 0);
		sheaf_tree_stats(p->rig.tree, &after);
		changed = oracle_store(&p->oracle, first, last, NULL);
		expect(after.writes == before.writes + changed);
		return;
	}
	first = pick_key(p);
	entry = oracle_load(&p->oracle, first);
	err = sheaf_tree_erase(p->rig.tree, first, &got);
	expect(err == (entry ? 0 : -ENOENT));
	expect(got == entry);
	if (err)
		return;
	i = oracle_at(&p->oracle, first);
	oracle_store(&p->oracle, p->oracle.range[i].first, p->oracle.range[i].last, NULL);
}

static void check_loads(struct player *p)
{
	unsigned i;

	for (i = 0; i < 4; i++) {
		uint64_t key = pick_key(p);
		void *entry = oracle_load(&p->oracle, key);

		expect(sheaf_tree_load_rcu(p->rig.tree, key) == entry);
		expect(sheaf_tree_load(p->rig.tree, key) == entry);
	}
	expect(sheaf_tree_load_rcu(p->rig.tree, 0) == oracle_load(&p->oracle, 0));
	expect(sheaf_tree_load_rcu(p->rig.tree, UINT64_MAX) == oracle_load(&p->oracle, UINT64_MAX));
}

/* A walk at random: up, down, with pauses. */
static void check_cursor(struct player *p)
{
	uint64_t key = pick_key(p);
	size_t at = oracle_at(&p->oracle, key);
	struct sheaf_tree_cursor cursor;
	unsigned steps;
	void *entry;

	sheaf_tree_cursor_init(&cursor, p->rig.tree);
	entry = sheaf_tree_find_rcu(&cursor, key);
	for (steps = 0; steps < 8; steps++) {
		if (at == p->oracle.n || at == SIZE_MAX) {
			expect(!entry);
		} else {
			expect(entry == p->oracle.range[at].entry);
			expect(cursor.first == p->oracle.range[at].first);
			expect(cursor.last == p->oracle.range[at].last);
		}
		if (test_below(&p->state, 2))
			sheaf_tree_cursor_pause(&cursor);
		if (test_below(&p->state, 2)) {
			entry = sheaf_tree_next_rcu(&cursor);
			at += at == p->oracle.n ? 0 : 1;
		} else {
			entry = sheaf_tree_prev_rcu(&cursor);
			at -= at == SIZE_MAX ? 0 : 1;
		}
	}
}

static void check_gap(struct player *p, bool highest)
{
	uint64_t size = test_random(&p->state) >> test_below(&p->state, 64);
	uint64_t align = test_below(&p->state, 3) ? 0 : UINT64_C(1) << test_below(&p->state, 64);
	uint64_t min = test_below(&p->state, 2) ? pick_key(p) : 0;
	uint64_t max = test_below(&p->state, 2) ? pick_key(p) : UINT64_MAX;
	uint64_t at = 1, want = 1;
	int err, want_err;

	if (min > max) {
		uint64_t swap = min;

		min = max;
		max = swap;
	}
	if (p->world->size && test_below(&p->state, 4)) {
		size = 1 + size % p->world->longest;
		align = align > 64 ? 16 : align;
		if (!min)
			min = p->world->base;
		if (max == UINT64_MAX)
			max = p->world->base + p->world->size - 1;
	}
	size += !size;
	want_err = oracle_gap(&p->oracle, highest, min, max, size, align, &want);
	err = highest ? sheaf_tree_highest_gap(p->rig.tree, min, max, size, align, &at)
		      : sheaf_tree_lowest_gap(p->rig.tree, min, max, size, align, &at);
	expect(err == want_err);
	expect(at == want);
}

static void play(struct player *p, unsigned rounds)
{
	bool grow = true;
	unsigned i;

	for (i = 0; i < rounds; i++) {
		unsigned what = (unsigned)test_below(&p->state, 100);

		if (!test_below(&p->state, grow ? 800 : 400))
			grow = !grow;
		if (what < (grow ? 60 : 10))
			play_store(p, false);
		else if (what < (grow ? 80 : 15))
			play_store(p, true);
		else if (what < (grow ? 98 : 97))
			play_erase(p, false);
		else
			play_erase(p, true);
		if (!test_below(&p->state, 50))
			sheaf_gp_manual_step(&p->rig.gp);
		rig_compare(&p->rig, &p->oracle);
		check_loads(p);
		check_cursor(p);
		check_gap(p, false);
		check_gap(p, true);
	}
	if (test_below(&p->state, 2)) {
		sheaf_tree_clear(p->rig.tree);
		expect(!sheaf_tree_check(p->rig.tree));
		expect(!sheaf_tree_load_rcu(p->rig.tree, p->world->base));
	}
}

START_TEST(random_writes)
{
	struct player p = {.world = &worlds[_i], .state = test_seed() + (unsigned)_i};
	unsigned round;

	for (round = 0; round < 4; round++) {
		rig_init(&p.rig, 2 + round, round);
		play(&p, test_rounds(3000));
		oracle_fini(&p.oracle);
		rig_fini(&p.rig);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree-model");
	TCase *tcase = tcase_create("random");

	tcase_add_loop_test(tcase, random_writes, 0, sizeof(worlds) / sizeof(worlds[0]));
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
