/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The gap index: beside each child pointer a size that no hole in the child's span
 * exceeds, and the search for free keys that it guides.
 *
 * A pivot is a stored key, so a hole never reaches from one span into the next: the free
 * keys between two ranges belong to the leaf of the second one, those after the last
 * range of all to the last leaf. So a leaf tells its holes from its ranges and its span.
 * Sizes fit in 64 bits, because a tree that has a node has a range. The empty tree, a hole
 * of 2^64 keys, has none.
 *
 * A gap may be too large: what is stored into a hole leaves it as it is, and costs
 * nothing. It is never too small: who makes a hole larger raises the gaps above it. A
 * search that has looked for nothing below a child corrects the child's gap, so that each
 * store misleads one search at most.
 */
#include "tree_node.h"

#include <errno.h>

/* Which place to find: the lowest or the highest. */
struct want {
	const struct sheaf_tree *tree;
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
	const struct tree_gaps *gaps = inner->gaps;
	uint64_t gap = 0;
	uint32_t i;

	for (i = 0; i < TREE_FANOUT; i++)
		gap = larger(gap, gaps->gap[i]);
	return gap;
}

uint64_t tree_node_gap(const struct tree_node *node, uint64_t lo, uint64_t hi)
{
	const struct tree_leaf *leaf = tree_leaf(node);
	uint64_t list, gap = 0, from = lo;

	if (node->level)
		return largest_gap(tree_inner(node));
	for (list = tree_list(leaf); (list & 15) != TREE_NONE; list >>= 4) {
		gap = larger(gap, tree_first(leaf, list & 15) - from);
		from = tree_last(leaf, list & 15) + 1;
	}
	/* From 0 if the last key of all is taken: there is none behind it. */
	return from ? larger(gap, hi - from + 1) : gap;
}

void tree_gaps_raise(struct sheaf_tree *tree, const struct tree_path *path, uint32_t level,
		     uint64_t gap)
{
	for (; level < tree->height; level++) {
		const struct tree_step *step = &path->step[level];
		uint64_t *place = &tree_inner(step->node)->gaps->gap[step->slot];

		if (*place >= gap)
			return;
		store_relaxed(place, gap);
	}
}

void tree_gaps_refresh(struct sheaf_tree *tree, uint64_t key)
{
	const struct tree_step *step;
	struct tree_path path;

	tree_descend(tree, key, &path);
	step = &path.step[0];
	tree_gaps_raise(tree, &path, 1, tree_node_gap(step->node, step->lo, step->hi));
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
	const uint64_t list = tree_list(leaf);
	const uint32_t count = leaf->head.count;
	uint32_t i;

	/* Hole i lies before range i, the last one after all of them. */
	for (i = 0; i <= count; i++) {
		const uint32_t hole = want->highest ? count - i : i;
		const uint32_t slot = tree_order_at(list, hole);
		uint64_t first =
			hole ? tree_last(leaf, tree_order_at(list, hole - 1)) + 1 : step->lo;
		uint64_t last = hole < count ? tree_first(leaf, slot) - 1 : step->hi;

		/* Nothing after key UINT64_MAX, nothing before key 0. */
		if ((hole && !first) || (hole < count && !tree_first(leaf, slot)))
			continue;
		if (first <= last && fits(want, first, last))
			return true;
	}
	return false;
}

static bool search(struct want *want, const struct tree_step *step);

/* Looks below a child whose gap is large enough, and corrects that if it is not. */
static bool search_child(struct want *want, const struct tree_step *step, uint32_t slot)
{
	struct tree_gaps *gaps = tree_inner(step->node)->gaps;
	struct tree_step below;
	uint64_t gap;

	tree_step_down(&below, step, slot);
	if (search(want, &below))
		return true;
	if (!gaps)
		return false;
	gap = tree_node_gap(below.node, below.lo, below.hi);
	if (gap != gaps->gap[slot])
		store_relaxed(&gaps->gap[slot], gap);
	return false;
}

/* Recursion is as deep as the tree is high. */
static bool search(struct want *want, const struct tree_step *step)
{
	const struct tree_inner *inner = tree_inner(step->node);
	const struct tree_gaps *gaps;
	uint32_t slot, end;

	if (!step->node->level)
		return fits_leaf(want, step);
	gaps = inner->gaps;
	slot = tree_slot(inner, want->highest ? want->max : want->min);
	end = tree_slot(inner, want->highest ? want->min : want->max);
	for (;; slot += want->highest ? UINT32_MAX : 1) {
		if ((!gaps || gaps->gap[slot] >= want->size) && search_child(want, step, slot))
			return true;
		if (slot == end)
			return false;
	}
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
