/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a write which gets no memory changes nothing. Each write, of every kind, is tried
 * with a backend that hands out no node, then one, and so on until it succeeds; all that is
 * free has been taken from the cache before, so every allocation fails once. Before
 * that the write says -ENOMEM, the tree is the oracle's, no node is lost, and a cursor goes
 * on from where it stood. The same for trees built and copied, for prepare, and for the memory of
 * the tree itself. A snapshot takes no memory.
 */
#include "oracle.h"

#include <errno.h>

#define KEYS 2000

enum kind {
	STORE,
	INSERT,
	ERASE,
	ERASE_RANGE,
	CURSOR_STORE,
	CURSOR_ERASE,
	STORE_GAP,
	STORE_GAP_LOCKED,
	KINDS
};

/* A write, and the store that it is. */
struct write {
	enum kind kind;
	uint64_t first;
	uint64_t last;
	void *entry;
	struct sheaf_tree_gap gap;
	struct sheaf_tree_cursor *cursor;
};

static struct write pick_write(struct rig *rig, const struct oracle *oracle,
			       struct sheaf_tree_cursor *cursor, uint64_t *state)
{
	struct write w = {.kind = (enum kind)test_below(state, KINDS), .cursor = cursor};
	const struct oracle_range *range;
	uint64_t at;

	w.first = test_below(state, KEYS);
	w.last = w.first + test_below(state, test_below(state, 6) ? 8 : 600);
	w.entry = rig;
	range = &oracle->range[oracle_at(oracle, w.first)];
	if (range == oracle->range + oracle->n || !test_below(state, 8))
		w.kind = STORE;
	if (w.kind == ERASE || w.kind == CURSOR_ERASE) {
		w.first = range->first;
		w.last = range->last;
	}
	if (w.kind == ERASE || w.kind == ERASE_RANGE || w.kind == CURSOR_ERASE)
		w.entry = NULL;
	if (w.kind == CURSOR_ERASE)
		sheaf_tree_find_rcu(cursor, w.first);
	if (w.kind == CURSOR_STORE && test_below(state, 2))
		w.last = w.first;
	w.gap = (struct sheaf_tree_gap){
		.max = 2 * KEYS,
		.size = 1 + test_below(state, 4),
		.highest = test_below(state, 2),
	};
	if (w.kind == STORE_GAP || w.kind == STORE_GAP_LOCKED || w.kind == INSERT) {
		expect(!oracle_gap(oracle, &w.gap, &at));
		w.first = at;
		w.last = at + w.gap.size - 1;
	}
	return w;
}

static int try_write(struct rig *rig, const struct write *w)
{
	uint64_t at = UINT64_MAX;
	int err;

	switch (w->kind) {
	case INSERT:
		return sheaf_tree_insert(rig->tree, w->first, w->last, w->entry);
	case ERASE:
		return sheaf_tree_erase(rig->tree, w->first, NULL);
	case ERASE_RANGE:
		return sheaf_tree_erase_range(rig->tree, w->first, w->last);
	case CURSOR_STORE:
		return sheaf_tree_cursor_store(w->cursor, w->first, w->last, w->entry);
	case CURSOR_ERASE:
		sheaf_tree_lock(rig->tree);
		err = sheaf_tree_cursor_erase_locked(w->cursor);
		sheaf_tree_unlock(rig->tree);
		return err;
	case STORE_GAP:
		err = sheaf_tree_store_gap(rig->tree, &w->gap, w->entry, &at);
		expect(at == (err ? UINT64_MAX : w->first));
		return err;
	case STORE_GAP_LOCKED:
		sheaf_tree_lock(rig->tree);
		err = sheaf_tree_store_gap_locked(rig->tree, NULL, &w->gap, w->entry, &at);
		sheaf_tree_unlock(rig->tree);
		expect(at == (err ? UINT64_MAX : w->first));
		return err;
	default:
		return sheaf_tree_store(rig->tree, w->first, w->last, w->entry);
	}
}

/* A copy of the cursor goes to the next range. */
static void check_cursor(const struct sheaf_tree_cursor *cursor, const struct oracle *oracle)
{
	struct sheaf_tree_cursor copy = *cursor;
	const uint64_t passed = cursor->last;
	size_t i;

	if (!cursor->entry)
		return;
	i = oracle_at(oracle, passed + 1);
	if (i < oracle->n) {
		const struct oracle_range *range = &oracle->range[i];

		expect(sheaf_tree_next_rcu(&copy) == range->entry);
		expect(copy.first == (range->first > passed ? range->first : passed + 1));
		expect(copy.last == range->last);
	} else {
		expect(!sheaf_tree_next_rcu(&copy));
	}
}

/* Returns how often it failed. */
static unsigned any_write(struct rig *rig, struct oracle *oracle, struct sheaf_tree_cursor *cursor,
			  uint64_t *state)
{
	const struct write w = pick_write(rig, oracle, cursor, state);
	unsigned budget;

	for (budget = 0;; budget++) {
		const struct sheaf_tree_cursor before = *cursor;
		size_t out;
		int err;

		rig_drain(rig);
		out = rig->out;
		rig->budget = budget;
		err = try_write(rig, &w);
		rig->budget = SIZE_MAX;
		if (!err)
			break;
		expect(err == -ENOMEM);
		expect(cursor->first == before.first && cursor->last == before.last &&
		       cursor->entry == before.entry);
		if (w.kind == CURSOR_STORE || w.kind == CURSOR_ERASE)
			check_cursor(cursor, oracle);
		rig_compare(rig, oracle);
		rig_drain(rig);
		expect(rig->out == out);
	}
	oracle_store(oracle, w.first, w.last, w.entry);
	rig_compare(rig, oracle);
	if (w.kind != CURSOR_STORE)
		sheaf_tree_cursor_pause(cursor);
	return budget;
}

START_TEST(write_fails_as_a_whole)
{
	uint64_t state = test_seed() + (unsigned)_i;
	struct sheaf_tree_cursor cursor;
	struct oracle oracle = {.n = 0};
	unsigned i, failed = 0;
	struct rig rig;

	rig_init(&rig, 1 + (uint32_t)_i, (unsigned)_i);
	for (i = 0; i < 300; i++) {
		uint64_t key = test_below(&state, KEYS);

		expect(sheaf_tree_store(rig.tree, key, key + 2, &oracle) == 0);
		oracle_store(&oracle, key, key + 2, &oracle);
	}
	sheaf_tree_cursor_init(&cursor, rig.tree);
	for (i = 0; i < test_rounds(600); i++)
		failed += any_write(&rig, &oracle, &cursor, &state);
	expect(failed);
	oracle_fini(&oracle);
	rig_fini(&rig);
}
END_TEST

/* Of points and ranges, with holes between them. */
static void some_ranges(struct oracle *oracle, unsigned n, uint64_t *state)
{
	uint64_t at = 0;

	while (n--) {
		const uint64_t last = at + (n / 50 % 2 ? 0 : test_below(state, 4));

		oracle_store(oracle, at, last, oracle);
		at = last + 1 + test_below(state, 3);
	}
}

static int build_or_copy(struct rig *rig, const struct oracle *oracle, struct sheaf_tree *from)
{
	if (from)
		return sheaf_tree_dup(rig->tree, from);
	return sheaf_tree_build(rig->tree, (struct sheaf_tree_range *)oracle->range, oracle->n);
}

/* As above. Returns how often it failed. */
static size_t made_or_not(struct rig *rig, const struct oracle *oracle, struct sheaf_tree *from)
{
	const struct oracle none = {.n = 0};
	size_t budget;

	for (budget = 0;; budget++) {
		int err;

		rig->budget = budget;
		err = build_or_copy(rig, oracle, from);
		rig->budget = SIZE_MAX;
		if (!err)
			break;
		expect(err == -ENOMEM);
		rig_compare(rig, &none);
		rig_drain(rig);
		expect(!rig->out);
	}
	rig_compare(rig, oracle);
	return budget;
}

START_TEST(tree_is_made_as_a_whole)
{
	uint64_t state = test_seed() + (unsigned)_i;
	struct oracle oracle = {.n = 0};
	struct rig rig, twin;

	/* Sheaves of one: each node is an allocation that can fail. */
	rig_init(&rig, 1, (unsigned)_i);
	rig_init(&twin, 1, (unsigned)_i ^ SHEAF_TREE_GAPS);
	some_ranges(&oracle, 300, &state);
	expect(made_or_not(&rig, &oracle, NULL) > 20);
	expect(made_or_not(&twin, &oracle, rig.tree) > 20);
	/* The one that was copied is what it was, and may be written to. */
	rig_compare(&rig, &oracle);
	expect(sheaf_tree_store(rig.tree, 0, UINT64_MAX, NULL) == 0);
	rig_compare(&twin, &oracle);
	oracle_fini(&oracle);
	rig_fini(&rig);
	rig_fini(&twin);
}
END_TEST

START_TEST(snapshot_takes_nothing)
{
	uint64_t state = test_seed() + (unsigned)_i;
	struct sheaf_tree_range ranges[300];
	struct oracle oracle = {.n = 0};
	struct rig rig;
	size_t got, i;

	rig_init(&rig, 1, (unsigned)_i);
	some_ranges(&oracle, 300, &state);
	expect(build_or_copy(&rig, &oracle, NULL) == 0);
	rig.forbidden = true;
	test_fail_nth(0, true);
	expect(sheaf_tree_snapshot_range(rig.tree, 0, UINT64_MAX, ranges, 300, &got, 0) == 0);
	expect(!test_fail_end());
	rig.forbidden = false;
	expect(got == oracle.n);
	for (i = 0; i < got; i++)
		expect(ranges[i].first == oracle.range[i].first &&
		       ranges[i].last == oracle.range[i].last && ranges[i].entry == &oracle);
	oracle_fini(&oracle);
	rig_fini(&rig);
}
END_TEST

START_TEST(prepare_fails_as_a_whole)
{
	struct sheaf_tree_prep prep;
	size_t budget;
	struct rig rig;
	unsigned i;
	int err;

	rig_init(&rig, 4, SHEAF_TREE_GAPS);
	for (i = 0; i < 100; i++)
		expect(sheaf_tree_store(rig.tree, 2 * i, 2 * i, &rig) == 0);
	for (budget = 0;; budget++) {
		rig_drain(&rig);
		rig.budget = budget;
		err = sheaf_tree_prepare(rig.tree, &prep, 2);
		rig.budget = SIZE_MAX;
		if (!err)
			break;
		expect(err == -ENOMEM);
	}
	expect(budget);
	sheaf_tree_finish(rig.tree, &prep);
	/* Memory of the library: the sheaf that is lent. */
	for (i = 0;; i++) {
		rig_drain(&rig);
		test_fail_nth(i, false);
		err = sheaf_tree_prepare(rig.tree, &prep, SHEAF_TREE_WRITES_MAX);
		if (!test_fail_end())
			break;
		expect(!err || err == -ENOMEM);
		if (!err)
			sheaf_tree_finish(rig.tree, &prep);
	}
	sheaf_tree_finish(rig.tree, &prep);
	rig_fini(&rig);
}
END_TEST

START_TEST(create_fails_as_a_whole)
{
	struct sheaf_gp_manual gp;
	const struct sheaf_tree_attr attr = {.size = sizeof(attr), .gp = &gp.gp};
	struct sheaf_tree *tree;
	unsigned n;
	int err;

	sheaf_gp_manual_init(&gp, 0);
	for (n = 0;; n++) {
		test_fail_nth(n, false);
		err = sheaf_tree_create(&tree, &attr);
		if (!test_fail_end())
			break;
		expect(err == -ENOMEM);
	}
	expect(!err && n);
	expect(sheaf_tree_destroy(tree) == 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree-oom");
	TCase *tcase = tcase_create("oom");

	tcase_add_loop_test(tcase, write_fails_as_a_whole, 0, 4);
	tcase_add_loop_test(tcase, tree_is_made_as_a_whole, 0, 4);
	tcase_add_loop_test(tcase, snapshot_takes_nothing, 0, 4);
	tcase_add_test(tcase, prepare_fails_as_a_whole);
	tcase_add_test(tcase, create_fails_as_a_whole);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
