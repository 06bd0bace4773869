/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* All invariants of a tree, as tree.c lists them. */
#include "tree_node.h"

struct count {
	uint64_t entries;
	uint64_t level_nodes[SHEAF_TREE_HEIGHT_MAX];
};

static const char *check_order(const struct tree_leaf *leaf)
{
	const uint32_t used = leaf->head.used;
	uint32_t i, slots = 0;

	if (used > tree_room(leaf->head.kind))
		return "I5: more slots are used than there are";
	for (i = 0; i < used; i++) {
		slots |= 1u << tree_order_at(leaf->order, i);
		if (i && tree_first(leaf, tree_order_at(leaf->order, i)) <
				 tree_first(leaf, tree_order_at(leaf->order, i - 1)))
			return "I5: slots are not in order";
	}
	if (slots != (1u << used) - 1)
		return "I5: the order of a leaf is not one of its used slots";
	for (; i < 16; i++)
		if (tree_order_at(leaf->order, i) != TREE_NONE)
			return "I5: the order of a leaf is not padded";
	if (leaf->head.live & ~slots)
		return "I5: an unused slot is live";
	for (i = used; i < tree_room(leaf->head.kind); i++)
		if (tree_first(leaf, i) != UINT64_MAX)
			return "I5: an unused slot is not padded";
	return NULL;
}

static const char *check_leaf(const struct tree_step *step)
{
	const struct tree_leaf *leaf = tree_leaf(step->node);
	const char *broken = check_order(leaf);
	uint64_t list, lo = step->lo, last = 0;
	uint32_t count = 0;

	if (broken)
		return broken;
	for (list = tree_list(leaf); (list & 15) != TREE_NONE; list >>= 4, count++) {
		const uint32_t slot = list & 15;

		if (count && last == UINT64_MAX)
			return "I3: a range follows the last key";
		last = tree_last(leaf, slot);
		if (tree_first(leaf, slot) < lo || last < tree_first(leaf, slot))
			return "I3: ranges of a leaf are not in order";
		if (last > step->hi)
			return "I3: a range is outside of the span of its leaf";
		if (!*tree_entry_at(leaf, slot))
			return "I3: an entry is NULL";
		lo = last + 1;
	}
	if (count != leaf->head.count)
		return "I2: a leaf does not count its ranges right";
	if (!tree_step_edge(step) && last != step->hi)
		return "I4: a pivot is not the last key below it";
	return NULL;
}

static const char *check_inner(const struct tree_inner *inner)
{
	uint32_t i;

	for (i = 1; i + 1u < inner->head.count; i++)
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
	const uint32_t room = node->level ? TREE_FANOUT : tree_room(node->kind);
	const char *broken;
	uint32_t i;

	if (!node->count || node->count > room)
		return "I2: a node is empty or too full";
	if (!tree_step_edge(step) && node->count < (node->level ? TREE_LEAST : TREE_SPARSE))
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
		if (!broken && inner->gaps &&
		    inner->gaps->gap[i] < tree_node_gap(below.node, below.lo, below.hi))
			return "I6: a gap is smaller than a hole below it";
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
	    tree->height != (root.node ? root.node->level + 1u : 0))
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
