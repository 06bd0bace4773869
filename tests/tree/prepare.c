/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves the bounds on nodes. Random writes on random trees of all heights up to 5 and
 * more never use more than was set aside: the prefilled sheaves are strict, and the
 * backend aborts if it is called between prepare and finish. The bound of one write is
 * attained at heights 0 to 5, with and without a gap index. Preparing many writes guarantees that many and no more,
 * from the empty tree on and while the tree grows by them; a tree that others made grow
 * says that it does not suffice, before anything has changed.
 */
#include "oracle.h"
#include "tree_node.h"

#include <errno.h>

static uint32_t height_of(const struct rig *rig)
{
	struct sheaf_tree_stats stats;

	sheaf_tree_stats(rig->tree, &stats);
	return stats.height;
}

static uint64_t made_by(const struct rig *rig)
{
	struct sheaf_tree_stats stats;

	sheaf_tree_stats(rig->tree, &stats);
	return stats.objects_made;
}

/* One write as it is meant to be used. */
static int prepared_store(struct rig *rig, uint64_t first, uint64_t last, void *entry)
{
	struct sheaf_tree_prep prep;
	int err;

	expect(sheaf_tree_prepare(rig->tree, &prep, 1) == 0);
	rig->forbidden = true;
	sheaf_tree_lock(rig->tree);
	err = sheaf_tree_store_locked(rig->tree, &prep, first, last, entry);
	expect(err || sheaf_tree_store_locked(rig->tree, &prep, first, last, entry) == -EAGAIN);
	sheaf_tree_unlock(rig->tree);
	rig->forbidden = false;
	sheaf_tree_finish(rig->tree, &prep);
	return err;
}

/* All nodes full, no holes but at the end, each range 4 keys. */
static uint64_t fill(struct rig *rig, uint32_t height)
{
	uint64_t i, n = height ? TREE_RANGES : 0;
	uint32_t h;

	for (h = 1; h < height; h++)
		n *= TREE_FANOUT;
	for (i = 0; i < n; i++)
		expect(sheaf_tree_store(rig->tree, 4 * i, 4 * i + 3, rig) == 0);
	expect(height_of(rig) == height);
	expect(!sheaf_tree_check(rig->tree));
	return n;
}

/* What one write takes at most, by level. */
static uint64_t most_made(uint32_t objects, uint32_t height, bool grows)
{
	uint64_t leaves = height > 1 ? 3 : height && grows ? 2 : 1;
	uint64_t inner = height > 1 ? 3 * (height - 2) + (grows ? 3 : 1) : height && grows ? 1 : 0;

	return leaves + objects * inner;
}

START_TEST(bound_is_attained)
{
	const uint32_t height = (uint32_t)_i / 2;
	const unsigned flags = _i % 2 ? SHEAF_TREE_GAPS : 0;
	const uint32_t objects = flags ? 2 : 1;
	uint64_t n, made, middle;
	struct rig rig;

	if (height > (test_slow() ? 3 : 4) && TREE_FANOUT > 4)
		return;
	rig_init(&rig, 4, flags);
	n = fill(&rig, height);
	made = made_by(&rig);
	if (height > 1) {
		middle = 4 * n / TREE_FANOUT * (TREE_FANOUT / 2);
		expect(prepared_store(&rig, middle - 2, middle + 1, &rig) == 0);
	} else {
		expect(prepared_store(&rig, 1, 2, &rig) == 0);
	}
	expect(made_by(&rig) - made == most_made(objects, height, true));
	expect(tree_bound(objects, height, 0, 1) == made_by(&rig) - made);
	expect(height_of(&rig) == height + 1);
	expect(!sheaf_tree_check(rig.tree));
	rig_fini(&rig);
}
END_TEST

/* Mostly next to what is there, now and then across much of it. */
static void pick(uint64_t *state, uint64_t keys, uint64_t *first, uint64_t *last)
{
	uint64_t length = test_below(state, 8);

	if (!test_below(state, 8))
		length = test_below(state, keys);
	*first = test_below(state, keys);
	*last = *first + length;
}

static void *pick_entry(struct rig *rig, uint64_t *state)
{
	return test_below(state, 3) ? rig : NULL;
}

/* Trees from dense to loose, from one leaf to some thousand ranges. */
static uint64_t grow(struct rig *rig, uint64_t *state)
{
	const uint64_t keys = 4 << test_below(state, 12);
	uint64_t i, n = test_below(state, keys / 4) + 1;

	for (i = 0; i < n; i++) {
		uint64_t key = test_below(state, 4) ? 4 * i : test_below(state, keys);

		expect(sheaf_tree_store(rig->tree, key, key + 3, rig) == 0);
	}
	return keys;
}

START_TEST(one_write_keeps_its_bound)
{
	uint64_t state = test_seed() + (unsigned)_i;
	unsigned round, i;

	for (round = 0; round < test_rounds(100); round++) {
		struct rig rig;
		uint64_t keys, first, last;

		rig_init(&rig, 2 + round % 3, SHEAF_TREE_GAPS);
		keys = grow(&rig, &state);
		for (i = 0; i < 200; i++) {
			uint32_t height = height_of(&rig);
			uint64_t made = made_by(&rig);
			bool grown;

			pick(&state, keys, &first, &last);
			expect(!prepared_store(&rig, first, last, pick_entry(&rig, &state)));
			made = made_by(&rig) - made;
			grown = height_of(&rig) > height;
			expect(made <= tree_bound(2, height, 0, 1));
			expect(made <= most_made(2, height, grown));
			expect(height_of(&rig) <= height + 1);
			expect(!sheaf_tree_check(rig.tree));
			if (!test_below(&state, 20))
				sheaf_gp_manual_step(&rig.gp);
		}
		rig_fini(&rig);
	}
}
END_TEST

static int any_write(struct rig *rig, struct sheaf_tree_prep *prep, uint64_t *state, uint64_t keys)
{
	uint64_t first, last;
	int err;

	pick(state, keys, &first, &last);
	switch (test_below(state, 4)) {
	case 0:
		err = sheaf_tree_insert_locked(rig->tree, prep, first, last, rig);
		return err == -EEXIST ? 0 : err;
	case 1:
		err = sheaf_tree_erase_locked(rig->tree, prep, first, NULL);
		return err == -ENOENT ? 0 : err;
	case 2:
		return sheaf_tree_store_locked(rig->tree, prep, first, first, rig);
	}
	return sheaf_tree_store_locked(rig->tree, prep, first, last, pick_entry(rig, state));
}

START_TEST(many_writes_keep_their_bound)
{
	uint64_t state = test_seed() + (unsigned)_i;
	unsigned round;

	for (round = 0; round < test_rounds(60); round++) {
		uint32_t writes = 1 + (uint32_t)test_below(&state, round % 4 ? 64 : 1024);
		struct sheaf_tree_prep prep;
		uint64_t keys = 1000;
		struct rig rig;

		rig_init(&rig, 2 + round % 3, SHEAF_TREE_GAPS);
		if (round % 3)
			keys = grow(&rig, &state);
		expect(sheaf_tree_prepare(rig.tree, &prep, writes) == 0);
		rig.forbidden = true;
		sheaf_tree_lock(rig.tree);
		while (prep.writes) {
			expect(sheaf_tree_prepared_locked(rig.tree, &prep));
			expect(any_write(&rig, &prep, &state, keys) == 0);
			expect(!sheaf_tree_check(rig.tree));
		}
		expect(sheaf_tree_store_locked(rig.tree, &prep, 0, 0, &rig) == -EAGAIN);
		sheaf_tree_unlock(rig.tree);
		rig.forbidden = false;
		sheaf_tree_finish(rig.tree, &prep);
		rig_fini(&rig);
	}
}
END_TEST

/* In ascending order trees grow fastest. */
START_TEST(growth_is_allowed_for)
{
	const uint32_t writes = SHEAF_TREE_WRITES_MAX;
	struct sheaf_tree_prep prep;
	struct rig rig;
	uint64_t i;

	rig_init(&rig, 4, SHEAF_TREE_GAPS);
	fill(&rig, (uint32_t)_i);
	expect(sheaf_tree_prepare(rig.tree, &prep, writes) == 0);
	rig.forbidden = true;
	sheaf_tree_lock(rig.tree);
	for (i = 0; i < writes; i++) {
		uint64_t key = UINT64_C(1000000) + 2 * i;

		expect(sheaf_tree_prepared_locked(rig.tree, &prep));
		expect(sheaf_tree_store_locked(rig.tree, &prep, key, key, &rig) == 0);
	}
	sheaf_tree_unlock(rig.tree);
	rig.forbidden = false;
	sheaf_tree_finish(rig.tree, &prep);
	rig_fini(&rig);
}
END_TEST

/* What lies in a sheaf that is lent beyond what was asked for does not help. */
START_TEST(higher_tree_needs_more)
{
	const uint32_t height = (uint32_t)_i / 2, capacity = _i % 2 ? 252 : 4;
	struct sheaf_tree_prep prep;
	void *warm[2 * 252], *entry;
	struct rig rig;
	uint64_t n;

	rig_init(&rig, capacity, SHEAF_TREE_GAPS);
	n = fill(&rig, height);
	expect(sheaf_cache_alloc_bulk(rig.nodes, 0, 2 * capacity, warm) == 2 * capacity);
	sheaf_cache_free_bulk(rig.nodes, 2 * capacity, warm);
	expect(sheaf_tree_prepare(rig.tree, &prep, 3) == 0);
	expect(sheaf_tree_store(rig.tree, 4 * n, 4 * n + 3, &rig) == 0);
	expect(height_of(&rig) == height + 1);
	sheaf_tree_lock(rig.tree);
	expect(!sheaf_tree_prepared_locked(rig.tree, &prep));
	expect(sheaf_tree_store_locked(rig.tree, &prep, 1, 1, &prep) == -EAGAIN);
	expect(sheaf_tree_insert_locked(rig.tree, &prep, UINT64_MAX, UINT64_MAX, &prep) == -EAGAIN);
	expect(sheaf_tree_erase_locked(rig.tree, &prep, 1, &entry) == -EAGAIN);
	/* What is not a write is told first. */
	expect(sheaf_tree_insert_locked(rig.tree, &prep, 1, 1, &prep) == -EEXIST);
	expect(sheaf_tree_erase_locked(rig.tree, &prep, UINT64_MAX, &entry) == -ENOENT);
	expect(sheaf_tree_store_locked(rig.tree, &prep, 1, 0, &prep) == -EINVAL);
	expect(sheaf_tree_erase_range_locked(rig.tree, &prep, 1, 0) == -EINVAL);
	expect(sheaf_tree_erase_range_locked(rig.tree, &prep, 1, 1) == -EAGAIN);
	sheaf_tree_unlock(rig.tree);
	expect(prep.writes == 3);
	expect(sheaf_tree_load(rig.tree, 1) == &rig);
	expect(!sheaf_tree_check(rig.tree));
	sheaf_tree_finish(rig.tree, &prep);
	/* A lower tree does not. */
	expect(sheaf_tree_prepare(rig.tree, &prep, 2) == 0);
	expect(sheaf_tree_store(rig.tree, 0, UINT64_MAX, NULL) == 0);
	sheaf_tree_lock(rig.tree);
	expect(sheaf_tree_prepared_locked(rig.tree, &prep));
	expect(sheaf_tree_store_locked(rig.tree, &prep, 1, 1, &prep) == 0);
	expect(sheaf_tree_erase_locked(rig.tree, &prep, 1, &entry) == 0);
	expect(entry == &prep);
	sheaf_tree_unlock(rig.tree);
	sheaf_tree_finish(rig.tree, &prep);
	/* A range at once. */
	expect(sheaf_tree_prepare(rig.tree, &prep, 2) == 0);
	sheaf_tree_lock(rig.tree);
	expect(sheaf_tree_store_locked(rig.tree, &prep, 1, 9, &prep) == 0);
	expect(sheaf_tree_erase_range_locked(rig.tree, &prep, 3, 5) == 0);
	sheaf_tree_unlock(rig.tree);
	sheaf_tree_finish(rig.tree, &prep);
	expect(sheaf_tree_load(rig.tree, 2) == &prep && sheaf_tree_load(rig.tree, 6) == &prep);
	expect(!sheaf_tree_load(rig.tree, 3) && !sheaf_tree_load(rig.tree, 5));
	expect(sheaf_tree_store(rig.tree, 0, UINT64_MAX, NULL) == 0);
	rig_fini(&rig);
}
END_TEST

/* What suffices for one write may not suffice for the next, if others come between. */
START_TEST(others_between_are_noticed)
{
	struct sheaf_tree_prep prep;
	struct rig rig;
	uint64_t i;

	rig_init(&rig, 4, SHEAF_TREE_GAPS);
	fill(&rig, 2);
	expect(sheaf_tree_prepare(rig.tree, &prep, 2) == 0);
	sheaf_tree_lock(rig.tree);
	expect(sheaf_tree_store_locked(rig.tree, &prep, 0, 3, &rig) == 0);
	for (i = UINT64_C(1000000); sheaf_tree_prepared_locked(rig.tree, &prep); i += 4)
		expect(sheaf_tree_store_locked(rig.tree, NULL, i, i + 3, &rig) == 0);
	expect(sheaf_tree_store_locked(rig.tree, &prep, 0, 3, &prep) == -EAGAIN);
	expect(sheaf_tree_erase_locked(rig.tree, &prep, 0, NULL) == -EAGAIN);
	sheaf_tree_unlock(rig.tree);
	expect(prep.writes == 1);
	sheaf_tree_finish(rig.tree, &prep);
	rig_fini(&rig);
}
END_TEST

/* g(p) and its sums as the essay has them, the long way. */
static uint64_t long_growth(uint64_t p)
{
	uint64_t power = 1, levels = 0;

	for (; power <= p; power *= TREE_LEAST)
		levels++;
	return levels;
}

START_TEST(bound_is_the_sum)
{
	uint64_t extra, sum, p;
	uint32_t writes;

	for (extra = 0; extra < 300; extra += 1 + extra / 8)
		for (writes = 1; writes <= SHEAF_TREE_WRITES_MAX; writes += 1 + writes / 8) {
			uint32_t height = 1 + writes % 9, objects = 1 + writes % 2;

			sum = 0;
			for (p = extra; p < extra + writes; p++)
				sum += most_made(objects, height + (uint32_t)long_growth(p), false);
			/* A root that is divided: the leaf's second half, or 2 inner nodes. */
			for (p = extra; p < extra + writes; p++)
				if (long_growth(p + 1) > long_growth(p))
					sum += height + long_growth(p) > 1 ? 2 * objects
									   : 1 + objects;
			expect(tree_bound(objects, height, extra, writes) == sum);
		}
	expect(tree_bound(1, 7, 0, 0) == 0);
	expect(tree_bound(1, 0, 0, 1) == 1);
	expect(tree_bound(2, 0, 0, 9) == 1 + tree_bound(2, 1, 0, 8));
	expect(tree_bound(1, 7, UINT64_MAX - 5, 2) > tree_bound(1, 7, 0, 2));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree-prepare");
	TCase *tcase = tcase_create("prepare");

	tcase_add_loop_test(tcase, bound_is_attained, 0, 12);
	tcase_add_loop_test(tcase, one_write_keeps_its_bound, 0, 4);
	tcase_add_loop_test(tcase, many_writes_keep_their_bound, 0, 4);
	tcase_add_loop_test(tcase, growth_is_allowed_for, 0, 4);
	tcase_add_loop_test(tcase, higher_tree_needs_more, 0, 8);
	tcase_add_test(tcase, others_between_are_noticed);
	tcase_add_test(tcase, bound_is_the_sum);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
