/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * How many objects writes take at most, and setting them aside. The proof is that of
 * guarantee 9 in tree.c.
 */
#include "base/probe.h"
#include "tree_node.h"

/* g(p) of guarantee 9. */
static uint64_t growth(uint64_t p)
{
	uint64_t levels = 0;

	for (; p; p /= TREE_LEAST)
		levels++;
	return levels;
}

/* The sum of g(i) over i < p: each power L^j below p counts for the i from it to p - 1.
 * Large sums wrap; differences of two are right. */
static uint64_t growth_sum(uint64_t p)
{
	uint64_t power, sum = 0;

	for (power = 1; power < p; power *= TREE_LEAST) {
		sum += p - power;
		if (power > UINT64_MAX / TREE_LEAST)
			break;
	}
	return sum;
}

uint64_t tree_bound(uint32_t objects, uint32_t height, uint64_t extra, uint32_t writes)
{
	const uint64_t end = extra + writes, c = objects;
	uint64_t grown, steady;

	if (!writes)
		return 0;
	if (!height)
		return 1 + tree_bound(objects, 1, 0, writes - 1);
	/* The one write that finds the root a leaf: it makes two, and a new root. */
	if (height == 1 && !extra)
		return 2 + c + tree_bound(objects, 1, 1, writes - 1);
	grown = growth(end) - growth(extra);
	/* W(height + g(p)) = W(height) + 3 c g(p), which wraps for height 1, where g(p) > 0. */
	steady = 3 * c * height + 3 - 5 * c;
	return writes * steady + 3 * c * (growth_sum(end) - growth_sum(extra)) + 2 * c * grown;
}

int sheaf_tree_prepare(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint32_t writes)
{
	/* Partner: publish_root(). Stale is as if the tree had changed just after. */
	const uint32_t height = load_relaxed(&tree->height);
	uint32_t objects;

	if (!writes || writes > SHEAF_TREE_WRITES_MAX)
		return -EINVAL;
	/* No write has ended at an odd moment. */
	*prep = (struct sheaf_tree_prep){.writes = writes, .height = height, .moment = 1};
	objects = (uint32_t)tree_bound(tree_objects(tree), height, 0, writes);
	prep->sheaf = sheaf_cache_prefill(tree->nodes, objects, SHEAF_STRICT);
	PROBE(tree_prepare, tree, writes, height, prep->sheaf);
	if (!prep->sheaf)
		return -ENOMEM;
	prep->surplus = sheaf_size(prep->sheaf) - objects;
	return 0;
}

bool sheaf_tree_prepared_locked(const struct sheaf_tree *tree, const struct sheaf_tree_prep *prep)
{
	uint32_t height = prep->height;
	uint64_t level_nodes;

	if (!prep->sheaf)
		return false;
	/* Prepared for an empty tree: it has a leaf now, or is still empty. */
	if (!height && tree->height)
		height = 1;
	level_nodes = height ? tree->level_nodes[height - 1] : 0;
	return tree_bound(tree_objects(tree), height, level_nodes ? level_nodes - 1 : 0,
			  prep->writes) <= sheaf_size(prep->sheaf) - prep->surplus;
}

void sheaf_tree_finish(struct sheaf_tree *tree, struct sheaf_tree_prep *prep)
{
	PROBE(tree_finish, tree, prep->writes);
	sheaf_cache_return(tree->nodes, prep->sheaf);
	*prep = (struct sheaf_tree_prep){.sheaf = NULL};
}
