/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* All invariants of a tree, as tree.c lists them. */
#include "tree_node.h"

struct count {
	uint64_t entries;
	uint64_t level_nodes[SHEAF_TREE_HEIGHT_MAX];
};

static const char *check_leaf(const struct tree_step *step)
{
	const struct tree_leaf *leaf = tree_leaf(step->node);
	uint64_t lo = step->lo;
	uint32_t i;

	for (i = 0; i < leaf->head.count; i++) {
		if (i && leaf->last[i - 1] == UINT64_MAX)
			return "I3: a range follows the last key";
		if (leaf->first[i] < lo || leaf->last[i] < leaf->first[i])
			return "I3: ranges of a leaf are not in order";
		if (leaf->last[i] > step->hi)
			return "I3: a range is outside of the span of its leaf";
		if (!leaf->entry[i])
			return "I3: an entry is NULL";
		lo = leaf->last[i] + 1;
	}
	if (!tree_step_edge(step) && leaf->last[i - 1] != step->hi)
		return "I4: a pivot is not the last key below it";
	for (; i < TREE_FANOUT; i++)
		if (leaf->first[i] != UINT64_MAX || leaf->last[i] != UINT64_MAX || leaf->entry[i])
			return "I5: a leaf is not padded";
	return NULL;
}

static const char *check_inner(const struct tree_inner *inner)
{
	uint32_t i;

	for (i = 1; i + 1 < inner->head.count; i++)
		if (inner->pivot[i - 1] >= inner->pivot[i])
			return "I4: pivots are not in order";
	for (i = inner->head.count; i < TREE_FANOUT; i++)
		if (inner->pivot[i - 1] != UINT64_MAX || inner->child[i])
			return "I5: an inner node is not padded";
	return NULL;
}

/* Recursion is as deep as the tree is high. */
static const char *check_node(const struct tree_step *step, bool root, struct count *count)
{
	const struct tree_node *node = step->node;
	const struct tree_inner *inner = tree_inner(node);
	const char *broken;
	uint32_t i;

	if (!node->count || node->count > TREE_FANOUT)
		return "I2: a node is empty or too full";
	if (!tree_step_edge(step) && node->count < TREE_LEAST)
		return "I2: a node off the edge is below the least";
	if (root && node->level && node->count < 2)
		return "I2: an inner root has one child";
	count->level_nodes[node->level]++;
	if (!node->level) {
		count->entries += node->count;
		return check_leaf(step);
	}
	broken = check_inner(inner);
	for (i = 0; !broken && i < node->count; i++) {
		struct tree_step below;

		tree_step_down(&below, step, i);
		if (below.node->level + 1 != node->level)
			return "I1: a child is not one level below its parent";
		if (below.lo > below.hi)
			return "I4: a pivot is outside of the span";
		broken = check_node(&below, false, count);
		if (!broken && inner->gap[i] != tree_node_gap(below.node, below.lo, below.hi))
			return "I6: a gap is not the largest hole below it";
	}
	return broken;
}

const char *sheaf_tree_check(const struct sheaf_tree *tree)
{
	const struct tree_step root = {.node = tree->root, .lo = 0, .hi = UINT64_MAX};
	struct count count = {.entries = 0};
	const char *broken;
	uint32_t level;

	if (tree->height > SHEAF_TREE_HEIGHT_MAX ||
	    tree->height != (root.node ? root.node->level + 1 : 0))
		return "I1: the height is not that of the root";
	broken = root.node ? check_node(&root, true, &count) : NULL;
	if (broken)
		return broken;
	if (count.entries != tree->entries)
		return "I7: entries are not as counted";
	for (level = 0; level < SHEAF_TREE_HEIGHT_MAX; level++)
		if (count.level_nodes[level] != tree->level_nodes[level])
			return "I7: nodes are not as counted";
	return NULL;
}
