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
 * nothing. It is never too small: who makes a hole larger raises the gaps above it, before the
 * store that publishes the hole; a gap that becomes smaller does so after it. A
 * search under the writer lock that has looked below a child in vain corrects the child's
 * gap, so that each store misleads one such search at most.
 *
 * A reader's search is guided by gaps as it finds them, and believes a leaf: what its live word
 * leaves free is free at that moment, between the pivots by which the reader came. A hole that
 * is between the same two ranges all the time, before the first of the writes meanwhile too, is
 * in the leaf of the second one all the time, and the gaps above it are large enough all the
 * time: who makes nodes anew gives them gaps that are. One that was joined with another,
 * because the range between them is gone, may have come to the next leaf behind the reader's
 * back. So a search in vain says that nothing fits only if it is of one moment. The writer
 * makes the moment odd before all it stores for a write, and even after that. A gap, a pivot, a
 * child, a live word, the root: each is stored with release and loaded with acquire here. So a
 * search that met anything of a write, or of a correction after it, finds the moment changed
 * when it looks again; and a write that ended before the first look is seen as a whole. If both
 * looks find the same even moment, all of the search is of that moment, when gaps were upper
 * bounds. Else it is made again, a bounded number of times.
 */
#include "base/probe.h"
#include "tree_node.h"

#include <errno.h>

/* Searches of a reader beside writers. */
#define TRIES 4

/* What to find, and what was found. */
struct want {
	struct sheaf_tree_gap gap;
	/* Under the writer lock: gaps that mislead are corrected. */
	bool correct;
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
		/* Partner: search(), which learns by it that a write began. */
		store_release(place, gap);
	}
}

void tree_gaps_widen(struct sheaf_tree *tree, uint64_t key, uint64_t lo, uint64_t hi)
{
	const struct tree_step *step;
	struct tree_path path;

	tree_descend(tree, key, &path);
	step = &path.step[0];
	if (lo > step->lo)
		lo = step->lo;
	tree_gaps_raise(tree, &path, 1, tree_node_gap(step->node, lo, larger(hi, step->hi)));
}

/* Does it fit in the hole first .. last? No sum here can leave 64 bits. */
static bool fits(struct want *want, uint64_t first, uint64_t last)
{
	const struct sheaf_tree_gap *gap = &want->gap;
	const uint64_t mask = gap->align ? gap->align - 1 : 0;
	uint64_t at;

	if (first < gap->min)
		first = gap->min;
	if (last > gap->max)
		last = gap->max;
	if (first > last || last - first < gap->size - 1)
		return false;
	if (gap->highest) {
		at = last - (gap->size - 1);
		at -= (at - gap->offset) & mask;
		if (at < first || at > last)
			return false;
	} else {
		at = first + ((gap->offset - first) & mask);
		if (at < first || at > last || last - at < gap->size - 1)
			return false;
	}
	want->at = at;
	return true;
}

/* Most holes are too small, which is told first. The span of the leaf may have ended earlier or
 * later a moment before. */
static bool hole_fits(struct want *want, const struct tree_step *step, uint64_t first,
		      uint64_t last)
{
	return last - first >= want->gap.size - 1 && first <= last && first >= step->lo &&
	       last <= step->hi && fits(want, first, last);
}

/* The holes of a leaf as its live word has them. There is none before key 0, nor after the
 * last key of all. */
static bool fits_leaf(struct want *want, const struct tree_step *step)
{
	const struct tree_leaf *leaf = tree_leaf(step->node);
	const bool points = leaf->head.kind == TREE_KIND_POINTS;
	const uint64_t *firsts = points ? leaf->points.key : leaf->ranges.first;
	const uint64_t *lasts = points ? leaf->points.key : leaf->ranges.last;
	/* Partner: publish(). */
	const uint32_t live = load_acquire(&leaf->head.live);
	uint64_t list = tree_order_live(load_relaxed(&leaf->order), live);
	uint64_t first = step->lo, last = step->hi;
	uint32_t slot, left = 0;

	if (!want->gap.highest) {
		for (; (slot = list & 15) != TREE_NONE; list >>= 4) {
			if (firsts[slot] && hole_fits(want, step, first, firsts[slot] - 1))
				return true;
			first = lasts[slot] + 1;
			if (!first)
				return false;
		}
		return hole_fits(want, step, first, last);
	}
	while (tree_order_at(list, left) != TREE_NONE)
		left++;
	while (left--) {
		slot = tree_order_at(list, left);
		first = lasts[slot] + 1;
		if (first && hole_fits(want, step, first, last))
			return true;
		if (!firsts[slot])
			return false;
		last = firsts[slot] - 1;
	}
	return hole_fits(want, step, step->lo, last);
}

static bool search(struct want *want, const struct tree_step *step);

/* Looks below a child, its span given, if its gap is large enough, and corrects that if it is
 * not. */
static bool search_child(struct want *want, const struct tree_inner *inner, uint32_t slot,
			 struct tree_step *below)
{
	uint64_t gap;

	/* Partners: tree_gaps_raise(), publish_child() and what is below. */
	if (inner->gaps && load_acquire(&inner->gaps->gap[slot]) < want->gap.size)
		return false;
	/* Partner: publish_child(). */
	below->node = load_acquire(&inner->child[slot]);
	if (search(want, below))
		return true;
	if (!want->correct || !inner->gaps)
		return false;
	gap = tree_node_gap(below->node, below->lo, below->hi);
	if (gap != inner->gaps->gap[slot])
		/* Partner: above. What has been written since the gap was right comes before. */
		store_release(&inner->gaps->gap[slot], gap);
	return false;
}

/* Recursion is as deep as the tree is high. A pivot is loaded once: it ends one span and begins
 * the other. Partner: tree_lower_pivot(). */
static bool search(struct want *want, const struct tree_step *step)
{
	const struct tree_inner *inner = tree_inner(step->node);
	const struct sheaf_tree_gap *gap = &want->gap;
	struct tree_step below = {.lo = step->lo, .hi = step->hi};
	uint32_t end, i;

	if (!step->node->level)
		return fits_leaf(want, step);
	/* Only a leaf's changes. */
	end = step->node->count - 1u;
	if (!gap->highest) {
		for (i = 0; i <= end; i++, below.lo = below.hi + 1) {
			below.hi = i < end ? load_acquire(&inner->pivot[i]) : step->hi;
			if (below.hi >= gap->min && search_child(want, inner, i, &below))
				return true;
			if (below.hi >= gap->max)
				return false;
		}
		return false;
	}
	for (i = end;; i--, below.hi = below.lo - 1) {
		below.lo = i ? load_acquire(&inner->pivot[i - 1]) + 1 : step->lo;
		if (below.lo <= gap->max && search_child(want, inner, i, &below))
			return true;
		if (!i || below.lo <= gap->min)
			return false;
	}
}

static int find_gap(const struct sheaf_tree *tree, const struct sheaf_tree_gap *gap, bool correct,
		    uint64_t *at)
{
	struct want want = {.gap = *gap, .correct = correct};
	/* Partner: publish_root(). */
	const struct tree_step root = {
		.node = load_acquire(&tree->root), .lo = 0, .hi = UINT64_MAX};
	const uint64_t align = gap->align ? gap->align : 1;

	if (!gap->size || gap->min > gap->max || (align & (align - 1)) || gap->offset >= align)
		return -EINVAL;
	if (!(root.node ? search(&want, &root) : fits(&want, 0, UINT64_MAX)))
		return -ENOSPC;
	*at = want.at;
	return 0;
}

int sheaf_tree_gap_locked(struct sheaf_tree *tree, const struct sheaf_tree_gap *gap, uint64_t *at)
{
	return find_gap(tree, gap, true, at);
}

int sheaf_tree_gap_rcu(const struct sheaf_tree *tree, const struct sheaf_tree_gap *gap,
		       uint64_t *at)
{
	uint64_t moment;
	uint32_t i;
	int err;

	for (i = 0; i < TRIES; i++) {
		/* Partner: tree_moment_end(). */
		moment = load_acquire(&tree->moment);
		err = find_gap(tree, gap, false, at);
		if (err != -ENOSPC)
			return err;
		/* Partner: tree_moment_begin(), by what the search has acquired. */
		if (!(moment & 1) && load_relaxed(&tree->moment) == moment)
			return -ENOSPC;
	}
	PROBE(tree_gap_again, tree, gap->size);
	return -EAGAIN;
}

int sheaf_tree_store_gap_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep,
				const struct sheaf_tree_gap *gap, void *entry, uint64_t *at)
{
	uint64_t place;
	int err;

	if (!entry)
		return -EINVAL;
	err = find_gap(tree, gap, true, &place);
	if (!err)
		err = sheaf_tree_store_locked(tree, prep, place, place + (gap->size - 1), entry);
	if (!err)
		*at = place;
	return err;
}

int sheaf_tree_store_gap(struct sheaf_tree *tree, const struct sheaf_tree_gap *gap, void *entry,
			 uint64_t *at)
{
	int err;

	sheaf_tree_lock(tree);
	err = sheaf_tree_store_gap_locked(tree, NULL, gap, entry, at);
	sheaf_tree_unlock(tree);
	return err;
}

int sheaf_tree_lowest_gap_locked(const struct sheaf_tree *tree, uint64_t min, uint64_t max,
				 uint64_t size, uint64_t align, uint64_t *at)
{
	const struct sheaf_tree_gap gap = {.min = min, .max = max, .size = size, .align = align};

	return find_gap(tree, &gap, true, at);
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
	const struct sheaf_tree_gap gap = {
		.min = min, .max = max, .size = size, .align = align, .highest = true};

	return find_gap(tree, &gap, true, at);
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
