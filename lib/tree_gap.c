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
 * A reader's search is guided by gaps as it finds them. Of a leaf it believes the holes that have
 * a live range behind them, down to the pivot by which it came: at the moment when live is loaded
 * (or the last one before the leaf was replaced) that range is stored in this leaf, so what is
 * free before it is nobody else's; and the span of a leaf that stays only ever begins earlier.
 * Its end is another matter. It may have come down by a lowered pivot, or because what came
 * behind all was put into a leaf beside (append()); what is stored in the next leaf by now looks
 * free in this one once its last range is gone. So behind the last live range a leaf off the
 * edge has no hole (at rest there is none, by I4). If a reader came to it as the edge, it
 * walks from the root down the last children when it has loaded live; if that leads to the same
 * leaf, the hole was free at some moment since live was loaded:
 * - The walk leads to what was the last leaf at some moment of the walk. A child was the last of
 *   its level while its parent was, or came below it later, while it still was: for an inner
 *   node that ceases to be the last one is replaced, and then nobody changes it. (A leaf alone
 *   is kept when something is put behind it.)
 * - If the leaf was the edge when live was loaded, what is behind its last range was free then.
 * - If not, the write that made it the edge since has removed all that was behind it, and left
 *   the leaf as it was. Until then no key came behind those that live named: what is above the
 *   pivot goes to the next leaf, and the pivot is only ever lowered. So what is behind them was
 *   free after that write.
 * If it leads to another leaf, that one is looked at and asked in turn, a bounded number of times.
 *
 * A hole that is between the same two ranges all the time, before the first of the writes
 * meanwhile too, is in the leaf of the second one all the time, and the gaps above it are large
 * enough all the time: who makes nodes anew gives them gaps that are. The hole behind all ranges
 * is overlooked if each time another leaf is the last one. A hole that was joined with another,
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

/* Searches of a reader beside writers; and leaves that each asks whether they are the edge. */
#define TRIES 4

/* What to find, and what was found. */
struct want {
	const struct sheaf_tree *tree;
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

/* Does it fit in the hole first .. last? What is added or taken away is compared before with how far
 * it is to the end, so that nothing leaves 64 bits; but for what the mask makes a remainder. */
static bool fits(struct want *want, uint64_t first, uint64_t last)
{
	const struct sheaf_tree_gap *gap = &want->gap;
	const uint64_t mask = gap->align ? gap->align - 1 : 0;
	uint64_t at, rest;

	if (first < gap->min)
		first = gap->min;
	if (last > gap->max)
		last = gap->max;
	if (first > last || last - first < gap->size - 1)
		return false;
	if (gap->highest) {
		at = last - (gap->size - 1);
		rest = (at - gap->offset) & mask;
		if (rest > at - first)
			return false;
		want->at = at - rest;
	} else {
		rest = (gap->offset - first) & mask;
		if (rest > last - first - (gap->size - 1))
			return false;
		want->at = first + rest;
	}
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

/* Where what is in the slots of a leaf begins, and where it ends. */
static const uint64_t *firsts_of(const struct tree_leaf *leaf)
{
	return leaf->head.kind == TREE_KIND_POINTS ? leaf->points.key : leaf->ranges.first;
}

static const uint64_t *lasts_of(const struct tree_leaf *leaf)
{
	return leaf->head.kind == TREE_KIND_POINTS ? leaf->points.key : leaf->ranges.last;
}

/* The live slots of a leaf, in order; there is one at least. */
static uint64_t list_of(const struct tree_leaf *leaf)
{
	/* Partner: publish(). */
	const uint32_t live = load_acquire(&leaf->head.live);

	return tree_order_live(load_relaxed(&leaf->order), live);
}

/* The first key behind the last range of a list; 0 if that is the last key of all. */
static uint64_t behind(const struct tree_leaf *leaf, uint64_t list)
{
	return lasts_of(leaf)[tree_order_at(list, tree_order_places(list) - 1)] + 1;
}

/* The edge: the last leaf of some moment of the walk. */
static const struct tree_node *last_leaf(const struct sheaf_tree *tree)
{
	/* Partners: publish_root(), publish_child(). */
	const struct tree_node *node = load_acquire(&tree->root);

	while (node && node->level)
		node = load_acquire(&tree_inner(node)->child[node->count - 1u]);
	return node;
}

/* The hole behind the last range of all, @p list loaded of a leaf that was the edge. A reader
 * has to find that it is, once it has loaded the list: see above. */
static bool fits_behind(struct want *want, const struct tree_leaf *leaf, uint64_t list)
{
	const struct tree_node *edge;
	uint64_t first;
	uint32_t i;

	for (i = 0; i < TRIES; i++) {
		first = behind(leaf, list);
		if (!first || !fits(want, first, UINT64_MAX))
			return false;
		edge = want->correct ? &leaf->head : last_leaf(want->tree);
		if (edge == &leaf->head)
			return true;
		if (!edge)
			return false;
		leaf = tree_leaf(edge);
		list = list_of(leaf);
	}
	return false;
}

/* The holes of a leaf as its live word has them: one before each range, but for one at key 0; and
 * at the edge one behind them all. */
static bool fits_leaf(struct want *want, const struct tree_step *step)
{
	const struct tree_leaf *leaf = tree_leaf(step->node);
	const uint64_t *firsts = firsts_of(leaf), *lasts = lasts_of(leaf);
	const uint64_t whole = list_of(leaf);
	const bool edge = tree_step_edge(step);
	uint64_t list = whole, first = step->lo;
	uint32_t slot, left;

	if (!want->gap.highest) {
		for (; (slot = list & 15) != TREE_NONE; list >>= 4) {
			if (firsts[slot] && hole_fits(want, step, first, firsts[slot] - 1))
				return true;
			first = lasts[slot] + 1;
		}
		return edge && fits_behind(want, leaf, whole);
	}
	if (edge && fits_behind(want, leaf, whole))
		return true;
	for (left = tree_order_places(list); left--;) {
		slot = tree_order_at(list, left);
		first = left ? lasts[tree_order_at(list, left - 1)] + 1 : step->lo;
		if (firsts[slot] && hole_fits(want, step, first, firsts[slot] - 1))
			return true;
	}
	return false;
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
	struct want want = {.tree = tree, .gap = *gap, .correct = correct};
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
