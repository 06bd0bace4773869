/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The gap index: beside each child pointer the size of the largest hole in the child's
 * span, and the search for free keys that it guides. All of it under the writer lock;
 * readers do not know of it.
 *
 * A pivot is a stored key, so a hole never reaches from one span into the next: the free
 * keys between two ranges belong to the leaf of the second one, those after the last
 * range of all to the last leaf. So a gap is computed from one node and its span, and a
 * search need look into no subtree whose gap is too small. Sizes fit in 64 bits, because
 * a tree that has a node has a range. The empty tree, a hole of 2^64 keys, has none.
 */
#include "tree_node.h"

#include <errno.h>

/* Which place to find: the lowest or the highest. */
struct want {
	uint64_t min;
	uint64_t max;
	uint64_t size;
	uint64_t align;
	bool highest;
	uint64_t at;
};

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t largest_gap(const struct tree_inner *inner)
{
	uint64_t gap = 0;
	uint32_t i;

	for (i = 0; i < inner->head.count; i++)
		gap = larger(gap, inner->gap[i]);
	return gap;
}

uint64_t tree_node_gap(const struct tree_node *node, uint64_t lo, uint64_t hi)
{
	const struct tree_leaf *leaf = tree_leaf(node);
	uint64_t gap;
	uint32_t i;

	if (node->level)
		return largest_gap(tree_inner(node));
	gap = larger(leaf->first[0] - lo, hi - leaf->last[node->count - 1]);
	for (i = 1; i < node->count; i++)
		gap = larger(gap, leaf->first[i] - leaf->last[i - 1] - 1);
	return gap;
}

void tree_gaps_up(struct sheaf_tree *tree, const struct tree_path *path, uint32_t level,
		  uint64_t gap)
{
	for (; level < tree->height; level++) {
		const struct tree_step *step = &path->step[level];
		struct tree_inner *inner = tree_inner(step->node);

		if (inner->gap[step->slot] == gap)
			return;
		inner->gap[step->slot] = gap;
		gap = largest_gap(inner);
	}
}

void tree_gaps_refresh(struct sheaf_tree *tree, uint64_t key)
{
	struct tree_path path;
	const struct tree_step *leaf = &path.step[0];

	tree_descend(tree, key, &path);
	tree_gaps_up(tree, &path, 1, tree_node_gap(leaf->node, leaf->lo, leaf->hi));
}

/* Does it fit in the hole first .. last? No sum here can leave 64 bits. */
static bool fits(struct want *want, uint64_t first, uint64_t last)
{
	const uint64_t mask = want->align ? want->align - 1 : 0;
	uint64_t at;

	if (first < want->min)
		first = want->min;
	if (last > want->max)
		last = want->max;
	if (first > last || last - first < want->size - 1)
		return false;
	if (want->highest) {
		at = (last - (want->size - 1)) & ~mask;
		if (at < first)
			return false;
	} else {
		at = first + (-first & mask);
		if (at < first || at > last || last - at < want->size - 1)
			return false;
	}
	want->at = at;
	return true;
}

static bool fits_leaf(struct want *want, const struct tree_step *step)
{
	const struct tree_leaf *leaf = tree_leaf(step->node);
	const uint32_t count = leaf->head.count;
	uint32_t i;

	/* Hole i lies before range i, the last one after all of them. */
	for (i = 0; i <= count; i++) {
		uint32_t hole = want->highest ? count - i : i;
		uint64_t first = hole ? leaf->last[hole - 1] + 1 : step->lo;
		uint64_t last = hole < count ? leaf->first[hole] - 1 : step->hi;

		/* Nothing after key UINT64_MAX, nothing before key 0. */
		if ((hole && !first) || (hole < count && !leaf->first[hole]))
			continue;
		if (first <= last && fits(want, first, last))
			return true;
	}
	return false;
}

/* Recursion is as deep as the tree is high. */
static bool search(struct want *want, const struct tree_step *step)
{
	const struct tree_inner *inner = tree_inner(step->node);
	struct tree_step below;
	uint32_t i;

	if (!step->node->level)
		return fits_leaf(want, step);
	for (i = 0; i < inner->head.count; i++) {
		uint32_t slot = want->highest ? inner->head.count - 1 - i : i;

		if (inner->gap[slot] < want->size)
			continue;
		tree_step_down(&below, step, slot);
		if (below.hi < want->min || below.lo > want->max)
			continue;
		if (search(want, &below))
			return true;
	}
	return false;
}

static int gap_locked(const struct sheaf_tree *tree, struct want *want, uint64_t *at)
{
	const struct tree_step root = {.node = tree->root, .lo = 0, .hi = UINT64_MAX};

	if (!want->size || want->min > want->max || (want->align & (want->align - 1)))
		return -EINVAL;
	if (!(root.node ? search(want, &root) : fits(want, 0, UINT64_MAX)))
		return -ENOSPC;
	*at = want->at;
	return 0;
}

int sheaf_tree_lowest_gap_locked(const struct sheaf_tree *tree, uint64_t min, uint64_t max,
				 uint64_t size, uint64_t align, uint64_t *at)
{
	struct want want = {.min = min, .max = max, .size = size, .align = align};

	return gap_locked(tree, &want, at);
}

int sheaf_tree_lowest_gap(struct sheaf_tree *tree, uint64_t min, uint64_t max, uint64_t size,
			  uint64_t align, uint64_t *at)
{
	int err;

	sheaf_tree_lock(tree);
	err = sheaf_tree_lowest_gap_locked(tree, min, max, size, align, at);
	sheaf_tree_unlock(tree);
	return err;
}

int sheaf_tree_highest_gap_locked(const struct sheaf_tree *tree, uint64_t min, uint64_t max,
				  uint64_t size, uint64_t align, uint64_t *at)
{
	struct want want = {.min = min, .max = max, .size = size, .align = align, .highest = true};

	return gap_locked(tree, &want, at);
}

int sheaf_tree_highest_gap(struct sheaf_tree *tree, uint64_t min, uint64_t max, uint64_t size,
			   uint64_t align, uint64_t *at)
{
	int err;

	sheaf_tree_lock(tree);
	err = sheaf_tree_highest_gap_locked(tree, min, max, size, align, at);
	sheaf_tree_unlock(tree);
	return err;
}
