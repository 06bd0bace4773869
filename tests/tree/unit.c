/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves what single calls promise: which arguments are refused, what happens at keys 0
 * and UINT64_MAX, what cursors do at the ends and when something is stored around them,
 * what destroy says, that replacing an entry makes no node, and that the writers'
 * checks find a broken tree and the dumps are complete.
 */
#include "oracle.h"
#include "tree_node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int a, b, c;

static struct rig rig;

static void setup(void)
{
	rig_init(&rig, 4, SHEAF_TREE_GAPS);
}

static void teardown(void)
{
	rig_fini(&rig);
}

START_TEST(arguments_are_checked)
{
	struct sheaf_tree_attr attr = {.size = sizeof(attr)};
	struct sheaf_cache_attr small = {
		.size = sizeof(small), .object_size = 255, .gp = &rig.gp.gp};
	struct sheaf_tree_prep prep;
	struct sheaf_cache *cache;
	struct sheaf_tree *tree;
	struct sheaf_tree_range range;
	size_t got;
	uint64_t at;

	ck_assert_int_eq(sheaf_tree_create(&tree, NULL), -EINVAL);
	ck_assert_int_eq(sheaf_tree_create(&tree, &attr), -EINVAL);
	attr.gp = &rig.gp.gp;
	attr.size = 8;
	ck_assert_int_eq(sheaf_tree_create(&tree, &attr), -EINVAL);
	attr.size = sizeof(attr);
	ck_assert_int_eq(sheaf_cache_create(&cache, &small), 0);
	attr.nodes = cache;
	ck_assert_int_eq(sheaf_tree_create(&tree, &attr), -EINVAL);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), 0);
	ck_assert_int_eq(sheaf_tree_nodes_create(&cache, NULL), -EINVAL);
	ck_assert_int_eq(sheaf_tree_nodes_create(NULL, &rig.gp.gp), -EINVAL);

	ck_assert_int_eq(sheaf_tree_store(rig.tree, 1, 0, &a), -EINVAL);
	ck_assert_int_eq(sheaf_tree_insert(rig.tree, 1, 0, &a), -EINVAL);
	ck_assert_int_eq(sheaf_tree_insert(rig.tree, 0, 1, NULL), -EINVAL);
	ck_assert_int_eq(sheaf_tree_erase(rig.tree, 0, NULL), -ENOENT);
	ck_assert_int_eq(sheaf_tree_prepare(rig.tree, &prep, 0), -EINVAL);
	ck_assert_int_eq(sheaf_tree_prepare(rig.tree, &prep, SHEAF_TREE_WRITES_MAX + 1), -EINVAL);
	ck_assert_int_eq(sheaf_tree_lowest_gap(rig.tree, 0, 9, 0, 0, &at), -EINVAL);
	ck_assert_int_eq(sheaf_tree_lowest_gap(rig.tree, 1, 0, 1, 0, &at), -EINVAL);
	ck_assert_int_eq(sheaf_tree_highest_gap(rig.tree, 0, 9, 1, 3, &at), -EINVAL);
	ck_assert_int_eq(sheaf_tree_snapshot_range(rig.tree, 1, 0, &range, 1, &got, 0), -EINVAL);
	ck_assert_int_eq(sheaf_tree_dump(rig.tree, (enum sheaf_tree_form)7, stdout), -EINVAL);
}
END_TEST

START_TEST(ends_of_the_keys)
{
	struct sheaf_tree_cursor cursor;
	void *entry = NULL;
	uint64_t at = 1;

	ck_assert_int_eq(sheaf_tree_lowest_gap(rig.tree, 0, UINT64_MAX, UINT64_MAX, 0, &at), 0);
	ck_assert_uint_eq(at, 0);
	ck_assert_int_eq(sheaf_tree_highest_gap(rig.tree, 0, UINT64_MAX, UINT64_MAX, 0, &at), 0);
	ck_assert_uint_eq(at, 1);
	/* All keys in one range; and pointers may have any bits. */
	ck_assert_int_eq(sheaf_tree_store(rig.tree, 0, UINT64_MAX, (void *)3), 0);
	ck_assert_ptr_eq(sheaf_tree_load(rig.tree, 0), (void *)3);
	ck_assert_ptr_eq(sheaf_tree_load(rig.tree, UINT64_MAX), (void *)3);
	ck_assert_int_eq(sheaf_tree_lowest_gap(rig.tree, 0, UINT64_MAX, 1, 0, &at), -ENOSPC);
	ck_assert_int_eq(sheaf_tree_insert(rig.tree, 7, 7, &a), -EEXIST);
	/* The ends alone. */
	ck_assert_int_eq(sheaf_tree_store(rig.tree, 1, UINT64_MAX - 1, NULL), 0);
	ck_assert_ptr_null(sheaf_tree_load(rig.tree, 1));
	ck_assert_ptr_null(sheaf_tree_check(rig.tree));
	ck_assert_int_eq(sheaf_tree_lowest_gap(rig.tree, 0, UINT64_MAX, UINT64_MAX - 1, 0, &at), 0);
	ck_assert_uint_eq(at, 1);
	ck_assert_int_eq(sheaf_tree_lowest_gap(rig.tree, 0, UINT64_MAX, UINT64_MAX, 0, &at),
			 -ENOSPC);
	sheaf_tree_cursor_init(&cursor, rig.tree);
	ck_assert_ptr_eq(sheaf_tree_find_rcu(&cursor, 1), (void *)3);
	ck_assert_uint_eq(cursor.first, UINT64_MAX);
	ck_assert_uint_eq(cursor.last, UINT64_MAX);
	sheaf_tree_cursor_pause(&cursor);
	ck_assert_ptr_null(sheaf_tree_next_rcu(&cursor));
	ck_assert_ptr_eq(sheaf_tree_prev_rcu(&cursor), (void *)3);
	ck_assert_ptr_eq(sheaf_tree_prev_rcu(&cursor), (void *)3);
	ck_assert_uint_eq(cursor.last, 0);
	sheaf_tree_cursor_pause(&cursor);
	ck_assert_ptr_null(sheaf_tree_prev_rcu(&cursor));
	ck_assert_int_eq(sheaf_tree_erase(rig.tree, UINT64_MAX, &entry), 0);
	ck_assert_ptr_eq(entry, (void *)3);
	ck_assert_int_eq(sheaf_tree_erase(rig.tree, UINT64_MAX, &entry), -ENOENT);
	ck_assert_ptr_null(sheaf_tree_find_rcu(&cursor, 1));
	ck_assert_ptr_eq(sheaf_tree_prev_rcu(&cursor), (void *)3);
	ck_assert_int_eq(sheaf_tree_erase(rig.tree, 0, NULL), 0);
	ck_assert_ptr_null(sheaf_tree_check(rig.tree));
	ck_assert_ptr_null(sheaf_tree_load(rig.tree, 0));
}
END_TEST

/* The offset is above the highest place there could be: what is left must not wrap round. */
START_TEST(no_place_below_key_zero)
{
	struct sheaf_tree_gap gap = {
		.max = UINT64_MAX, .size = UINT64_MAX - 9, .align = 64, .offset = 32};
	uint64_t at = 1;
	unsigned i;

	for (i = 0; i < 4; i++) {
		gap.highest = i % 2;
		/* The empty tree, and holes before a range and behind it. */
		ck_assert_int_eq(sheaf_tree_gap_rcu(rig.tree, &gap, &at), -ENOSPC);
		ck_assert_int_eq(sheaf_tree_store_gap(rig.tree, &gap, &a, &at), -ENOSPC);
		ck_assert_uint_eq(at, 1);
		if (i == 1)
			ck_assert_int_eq(sheaf_tree_store(rig.tree, UINT64_MAX, UINT64_MAX, &a), 0);
	}
	gap.size = UINT64_MAX - 40;
	gap.highest = true;
	ck_assert_int_eq(sheaf_tree_gap_rcu(rig.tree, &gap, &at), 0);
	ck_assert_uint_eq(at, 32);
}
END_TEST

START_TEST(entries_are_replaced_in_place)
{
	struct sheaf_tree_stats before, after;
	unsigned i;

	for (i = 0; i < 100; i++)
		ck_assert_int_eq(sheaf_tree_insert(rig.tree, 10 * i, 10 * i + 4, &a), 0);
	sheaf_tree_stats(rig.tree, &before);
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(sheaf_tree_store(rig.tree, 10 * i, 10 * i + 4, &b), 0);
	sheaf_tree_stats(rig.tree, &after);
	ck_assert_uint_eq(after.nodes_made, before.nodes_made);
	ck_assert_uint_eq(after.writes, before.writes + 100);
	for (i = 0; i < 100; i++)
		ck_assert_ptr_eq(sheaf_tree_load(rig.tree, 10 * i + 2), &b);
	/* One key less is another range. */
	ck_assert_int_eq(sheaf_tree_store(rig.tree, 500, 503, &c), 0);
	ck_assert_ptr_eq(sheaf_tree_load(rig.tree, 503), &c);
	ck_assert_ptr_eq(sheaf_tree_load(rig.tree, 504), &b);
	/* Erasing nothing is no write. */
	sheaf_tree_stats(rig.tree, &before);
	ck_assert_int_eq(sheaf_tree_store(rig.tree, 505, 509, NULL), 0);
	sheaf_tree_stats(rig.tree, &after);
	ck_assert_uint_eq(after.writes, before.writes);
	ck_assert_uint_eq(after.nodes_made, before.nodes_made);
}
END_TEST

/* Each place a cursor can be carried to, with a range stored around it meanwhile. */
START_TEST(scans_do_not_go_back)
{
	struct sheaf_tree_cursor cursor;
	unsigned i;

	for (i = 1; i <= 100; i++)
		ck_assert_int_eq(sheaf_tree_store(rig.tree, 10 * i, 10 * i + 4, &a), 0);
	sheaf_tree_cursor_init(&cursor, rig.tree);
	ck_assert_ptr_eq(sheaf_tree_find_rcu(&cursor, 495), &a);
	ck_assert_uint_eq(cursor.first, 500);
	sheaf_tree_cursor_pause(&cursor);
	ck_assert_int_eq(sheaf_tree_store(rig.tree, 450, 512, &b), 0);
	ck_assert_ptr_eq(sheaf_tree_next_rcu(&cursor), &b);
	ck_assert_uint_eq(cursor.first, 505);
	ck_assert_uint_eq(cursor.last, 512);
	ck_assert_ptr_eq(sheaf_tree_next_rcu(&cursor), &a);
	ck_assert_uint_eq(cursor.first, 513);
	ck_assert_uint_eq(cursor.last, 514);
	sheaf_tree_cursor_pause(&cursor);
	ck_assert_int_eq(sheaf_tree_store(rig.tree, 508, 600, &c), 0);
	ck_assert_ptr_eq(sheaf_tree_prev_rcu(&cursor), &c);
	ck_assert_uint_eq(cursor.first, 508);
	ck_assert_uint_eq(cursor.last, 512);
	ck_assert_ptr_eq(sheaf_tree_prev_rcu(&cursor), &b);
	ck_assert_uint_eq(cursor.last, 507);
	/* Erased under it: the key stays. */
	sheaf_tree_cursor_pause(&cursor);
	ck_assert_int_eq(sheaf_tree_store(rig.tree, 0, 700, NULL), 0);
	ck_assert_ptr_null(sheaf_tree_prev_rcu(&cursor));
	ck_assert_ptr_null(sheaf_tree_prev_rcu(&cursor));
	ck_assert_ptr_eq(sheaf_tree_next_rcu(&cursor), &a);
	ck_assert_uint_eq(cursor.first, 701);
	sheaf_tree_cursor_pause(&cursor);
	ck_assert_int_eq(sheaf_tree_store(rig.tree, 0, UINT64_MAX, NULL), 0);
	ck_assert_ptr_null(sheaf_tree_next_rcu(&cursor));
	ck_assert_ptr_null(sheaf_tree_next_rcu(&cursor));
	ck_assert_ptr_null(sheaf_tree_prev_rcu(&cursor));
}
END_TEST

START_TEST(clear_and_use_again)
{
	struct sheaf_tree_stats stats;
	unsigned round, i;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < 1000; i++)
			ck_assert_int_eq(sheaf_tree_store(rig.tree, i, i, &a), 0);
		sheaf_tree_stats(rig.tree, &stats);
		ck_assert_uint_eq(stats.entries, 1000);
		sheaf_tree_clear(rig.tree);
		sheaf_tree_stats(rig.tree, &stats);
		ck_assert_uint_eq(stats.entries, 0);
		ck_assert_uint_eq(stats.nodes, 0);
		ck_assert_uint_eq(stats.height, 0);
		ck_assert_ptr_null(sheaf_tree_check(rig.tree));
		ck_assert_ptr_null(sheaf_tree_load(rig.tree, 7));
	}
}
END_TEST

START_TEST(tree_with_nodes_of_its_own)
{
	const struct sheaf_tree_attr attr = {.size = sizeof(attr), .gp = &rig.gp.gp};
	struct sheaf_tree_prep prep;
	struct sheaf_tree *tree;
	unsigned i;

	ck_assert_int_eq(sheaf_tree_create(&tree, &attr), 0);
	for (i = 0; i < 1000; i++)
		ck_assert_int_eq(sheaf_tree_store(tree, i, i, &a), 0);
	/* Replaced nodes wait for the owner of the source. */
	ck_assert_int_eq(sheaf_tree_destroy(tree), -EDEADLK);
	ck_assert_ptr_null(sheaf_tree_check(tree));
	ck_assert_int_eq(sheaf_tree_store(tree, 1, 2, &a), 0);
	sheaf_gp_manual_step(&rig.gp);
	ck_assert_int_eq(sheaf_tree_prepare(tree, &prep, 1), 0);
	ck_assert_int_eq(sheaf_tree_destroy(tree), -EBUSY);
	sheaf_tree_finish(tree, &prep);
	ck_assert_int_eq(sheaf_tree_destroy(tree), 0);
}
END_TEST

/* What a dump says of a tree, and how often. */
static unsigned count_in_dump(enum sheaf_tree_form form, const char *text)
{
	char *dump = NULL, *at;
	unsigned n = 0;
	size_t bytes;
	FILE *out = open_memstream(&dump, &bytes);

	ck_assert_ptr_nonnull(out);
	ck_assert_int_eq(sheaf_tree_dump(rig.tree, form, out), 0);
	ck_assert_int_eq(fclose(out), 0);
	for (at = strstr(dump, text); at; at = strstr(at + 1, text))
		n++;
	free(dump);
	return n;
}

START_TEST(dumps_are_complete)
{
	struct sheaf_tree_stats stats;
	unsigned i;

	ck_assert_uint_eq(count_in_dump(SHEAF_TREE_TEXT, "tree height 0"), 1);
	ck_assert_uint_eq(count_in_dump(SHEAF_TREE_GRAPHVIZ, "label="), 0);
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(sheaf_tree_store(rig.tree, 1000 + i, 1000 + i, (void *)0xab5), 0);
	sheaf_tree_stats(rig.tree, &stats);
	ck_assert_uint_eq(count_in_dump(SHEAF_TREE_TEXT, " 0xab5"), 100);
	ck_assert_uint_eq(count_in_dump(SHEAF_TREE_TEXT, " level "), stats.nodes);
	ck_assert_uint_eq(count_in_dump(SHEAF_TREE_GRAPHVIZ, "0xab5"), 100);
	ck_assert_uint_eq(count_in_dump(SHEAF_TREE_GRAPHVIZ, "label="), stats.nodes);
	ck_assert_uint_eq(count_in_dump(SHEAF_TREE_GRAPHVIZ, " -> "), stats.nodes - 1);
}
END_TEST

static struct tree_inner *inner_above_leaves(void)
{
	struct tree_node *node = rig.tree->root;

	while (node->level > 1)
		node = tree_inner(node)->child[0];
	return tree_inner(node);
}

/* Breaks one thing at a time and asks if the check sees it. */
START_TEST(check_finds)
{
	struct tree_inner *inner, old_inner;
	struct tree_gaps *gaps, old_gaps;
	struct tree_leaf *leaf, old_leaf;
	struct tree_node *root, old_root;
	struct sheaf_tree old_tree;
	const char *found = "I1";
	uint32_t first, second, last;
	uint64_t i;

	for (i = 0; i < 200; i++)
		ck_assert_int_eq(sheaf_tree_store(rig.tree, 10 * i, 10 * i + 4, &a), 0);
	/* Room in the first leaf, and above it. */
	ck_assert_int_eq(sheaf_tree_store(rig.tree, 13, 14, NULL), 0);
	if (_i == 9)
		ck_assert_int_eq(
			sheaf_tree_store(rig.tree, 10 * TREE_RANGES, 20 * TREE_RANGES - 1, NULL),
			0);
	inner = inner_above_leaves();
	gaps = inner->gaps;
	leaf = tree_leaf(inner->child[0]);
	old_inner = *inner;
	old_gaps = *gaps;
	old_leaf = *leaf;
	old_tree = *rig.tree;
	root = old_tree.root;
	old_root = *root;
	first = tree_order_at(tree_list(leaf), 0);
	second = tree_order_at(tree_list(leaf), 1);
	last = tree_order_at(tree_list(leaf), leaf->head.count - 1u);
	ck_assert_uint_eq(leaf->head.kind, TREE_KIND_RANGES);
	switch (_i) {
	case 0:
		rig.tree->height++;
		break;
	case 1:
		root->level++;
		break;
	case 2:
		leaf->head.count = 1;
		found = "I2";
		break;
	case 3:
		leaf->head.count = TREE_RANGES + 1;
		found = "I2";
		break;
	case 4:
		leaf->ranges.first[second] = leaf->ranges.last[first];
		found = "I3";
		break;
	case 5:
		leaf->ranges.entry[first] = NULL;
		found = "I3";
		break;
	case 6:
		leaf->ranges.last[last]++;
		found = "I3";
		break;
	case 7:
		leaf->ranges.last[last]--;
		found = "I4";
		break;
	case 8:
		inner->pivot[0] = inner->pivot[1];
		found = "I4";
		break;
	case 9:
		ck_assert_uint_lt(inner->head.count, TREE_FANOUT);
		inner->pivot[inner->head.count - 1] = UINT64_MAX - 1;
		found = "I5";
		break;
	case 10:
		leaf->order = leaf->order << 4 | tree_order_at(leaf->order, 1);
		found = "I5";
		break;
	case 11:
		gaps->gap[1]--;
		found = "I6";
		break;
	case 12:
		rig.tree->entries--;
		found = "I7";
		break;
	case 13:
		leaf->order ^= UINT64_C(1) << 63;
		found = "I5";
		break;
	case 14:
		leaf->head.live |= 1u << leaf->head.used;
		found = "I5";
		break;
	case 15:
		leaf->head.live &= leaf->head.live - 1;
		found = "I2";
		break;
	default:
		rig.tree->level_nodes[1]++;
		found = "I7";
	}
	ck_assert_ptr_nonnull(sheaf_tree_check(rig.tree));
	ck_assert_int_eq(strncmp(sheaf_tree_check(rig.tree), found, 2), 0);
	*leaf = old_leaf;
	*gaps = old_gaps;
	*inner = old_inner;
	*root = old_root;
	*rig.tree = old_tree;
	ck_assert_ptr_null(sheaf_tree_check(rig.tree));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree-unit");
	TCase *tcase = tcase_create("calls");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, arguments_are_checked);
	tcase_add_test(tcase, ends_of_the_keys);
	tcase_add_test(tcase, no_place_below_key_zero);
	tcase_add_test(tcase, entries_are_replaced_in_place);
	tcase_add_test(tcase, scans_do_not_go_back);
	tcase_add_test(tcase, clear_and_use_again);
	tcase_add_test(tcase, tree_with_nodes_of_its_own);
	tcase_add_test(tcase, dumps_are_complete);
	tcase_add_loop_test(tcase, check_finds, 0, 17);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
