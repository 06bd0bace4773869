/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a write which gets no memory changes nothing. Each write is tried with a
 * backend that hands out no node, then one, and so on until it succeeds; all that is
 * free has been taken from the cache before, so every allocation fails once. Before
 * that the write says -ENOMEM, the tree is the oracle's, and no node is lost. The same
 * for prepare, and for the memory of the tree itself.
 */
#include "oracle.h"

#include <errno.h>

/* A store, or an erase by key as the store that it is. Returns how often it failed. */
static unsigned any_write(struct rig *rig, struct oracle *oracle, uint64_t *state)
{
	uint64_t first = test_below(state, 2000);
	uint64_t last = first + test_below(state, test_below(state, 6) ? 8 : 600);
	void *entry = test_below(state, 3) ? rig : NULL;
	const bool erase = oracle_load(oracle, first) && test_below(state, 2);
	const uint64_t key = first;
	unsigned budget;

	if (erase) {
		const struct oracle_range *range = &oracle->range[oracle_at(oracle, first)];

		first = range->first;
		last = range->last;
		entry = NULL;
	}
	for (budget = 0;; budget++) {
		size_t out;
		int err;

		rig_drain(rig);
		out = rig->out;
		rig->budget = budget;
		err = erase ? sheaf_tree_erase(rig->tree, key, NULL)
			    : sheaf_tree_store(rig->tree, first, last, entry);
		rig->budget = SIZE_MAX;
		if (!err)
			break;
		expect(err == -ENOMEM);
		rig_compare(rig, oracle);
		rig_drain(rig);
		expect(rig->out == out);
	}
	oracle_store(oracle, first, last, entry);
	rig_compare(rig, oracle);
	return budget;
}

START_TEST(write_fails_as_a_whole)
{
	uint64_t state = test_seed() + (unsigned)_i;
	struct oracle oracle = {.n = 0};
	unsigned i, failed = 0;
	struct rig rig;

	rig_init(&rig, 1 + (uint32_t)_i, (unsigned)_i & 1 ? SHEAF_TREE_GAPS : 0);
	for (i = 0; i < 300; i++) {
		uint64_t key = test_below(&state, 2000);

		expect(sheaf_tree_store(rig.tree, key, key + 2, &oracle) == 0);
		oracle_store(&oracle, key, key + 2, &oracle);
	}
	for (i = 0; i < test_rounds(400); i++)
		failed += any_write(&rig, &oracle, &state);
	expect(failed);
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
	tcase_add_test(tcase, prepare_fails_as_a_whole);
	tcase_add_test(tcase, create_fails_as_a_whole);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
