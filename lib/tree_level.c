/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * One level of a write: gather what the new nodes are to hold in one pool, take in a
 * neighbour if that is too little for a node, divide it among as few nodes as hold it.
 * See the essay in tree.c.
 */
#include "base/probe.h"
#include "tree_write.h"

#include <string.h>

static void add(struct tree_items *items, uint64_t first, uint64_t last, uint64_t gap, void *what)
{
	items->item[items->n++] = (struct tree_item){first, last, gap, what};
}

/* All ranges of a leaf. */
static void add_ranges(struct tree_items *items, const struct tree_leaf *leaf)
{
	const uint64_t list = tree_list(leaf);
	uint32_t i;

	for (i = 0; i < leaf->head.count; i++) {
		const uint32_t slot = tree_order_at(list, i);

		add(items, tree_first(leaf, slot), tree_last(leaf, slot), 0,
		    *tree_entry_at(leaf, slot));
	}
}

/* The children from .. to - 1 of an inner node. */
static void add_children(struct tree_items *items, const struct tree_step *step, uint32_t from,
			 uint32_t to)
{
	const struct tree_inner *inner = tree_inner(step->node);
	const uint32_t end = inner->head.count - 1u;
	uint32_t i;

	for (i = from; i < to; i++)
		add(items, 0, i < end ? inner->pivot[i] : step->hi,
		    inner->gaps ? inner->gaps->gap[i] : 0, inner->child[i]);
}

/* All that a node holds. */
static void add_all(struct tree_items *items, const struct tree_step *step)
{
	if (step->node->level)
		add_children(items, step, 0, step->node->count);
	else
		add_ranges(items, tree_leaf(step->node));
}

/* A range that reaches into first .. last from below is cut on the left side, one that
 * reaches out above on the right side; one that does both is kept twice. */
void tree_gather_ranges(struct tree_write *w, uint64_t first, uint64_t last, void *entry)
{
	const struct tree_leaf *left = tree_leaf(w->left.step[0].node);
	const struct tree_leaf *right = tree_leaf(w->right.step[0].node);
	struct tree_items *pool = &w->pool;
	uint64_t list = left ? tree_list(left) : TREE_ORDER_EMPTY;
	uint32_t slot;

	pool->n = 0;
	for (; (slot = list & 15) != TREE_NONE && tree_first(left, slot) < first; list >>= 4)
		add(pool, tree_first(left, slot),
		    tree_last(left, slot) < first ? tree_last(left, slot) : first - 1, 0,
		    *tree_entry_at(left, slot));
	w->at = pool->n;
	if (entry)
		add(pool, first, last, 0, entry);
	list = right ? tree_list(right) : TREE_ORDER_EMPTY;
	for (; (slot = list & 15) != TREE_NONE; list >>= 4)
		if (tree_last(right, slot) > last)
			add(pool,
			    tree_first(right, slot) > last ? tree_first(right, slot) : last + 1,
			    tree_last(right, slot), 0, *tree_entry_at(right, slot));
}

void tree_gather_children(struct tree_write *w, uint32_t level, const struct tree_items *made)
{
	const struct tree_step *left = &w->left.step[level];
	const struct tree_step *right = &w->right.step[level];
	struct tree_items *pool = &w->pool;

	pool->n = 0;
	if (left->node)
		add_children(pool, left, 0, left->slot);
	w->at = pool->n;
	memcpy(&pool->item[pool->n], made->item, made->n * sizeof(made->item[0]));
	pool->n += made->n;
	if (right->node)
		add_children(pool, right, right->slot + 1, right->node->count);
}

/*
 * The neighbour is the next one under the same parent, else the previous one under the
 * same parent, else the next one of the level under another parent. There is a next
 * one, because the last node of a level does not borrow.
 */
void tree_borrow(struct tree_write *w, uint32_t level)
{
	struct tree_step *left = &w->left.step[level];
	struct tree_step *right = &w->right.step[level];
	struct tree_step *up = right + 1;

	PROBE(tree_merge, w->tree, level, w->pool.n);
	if (up->slot + 1 == up->node->count && left[1].slot) {
		struct tree_items front;

		left[1].slot--;
		tree_step_down(left, &left[1], left[1].slot);
		front.n = 0;
		add_all(&front, left);
		memmove(&w->pool.item[front.n], w->pool.item, w->pool.n * sizeof(w->pool.item[0]));
		memcpy(w->pool.item, front.item, front.n * sizeof(front.item[0]));
		w->pool.n += front.n;
		tree_bury(w, left->node);
		return;
	}
	/* Leaving a parent for the next one: the region grows over it on its level too. */
	for (; up->slot + 1 == up->node->count; up++)
		if (up->node != w->left.step[up->node->level].node)
			tree_bury(w, up->node);
	up->slot++;
	for (; up > right; up--)
		tree_step_down(up - 1, up, up->slot);
	add_all(&w->pool, right);
	tree_bury(w, right->node);
}

static void *take(struct sheaf_tree *tree, struct tree_write *w)
{
	void *object = w && w->sheaf ? sheaf_cache_alloc_from(tree->nodes, w->sheaf)
				     : sheaf_cache_alloc(tree->nodes, 0);

	if (object && w)
		w->fresh[w->n_fresh++] = object;
	return object;
}

static void fill_gaps(struct tree_gaps *gaps, const struct tree_item *item, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < TREE_FANOUT; i++)
		gaps->gap[i] = i < n ? item[i].gap : 0;
}

struct tree_node *tree_make_inner(struct sheaf_tree *tree, struct tree_write *w, uint32_t level,
				  const struct tree_item *item, uint32_t n)
{
	struct tree_inner *inner = take(tree, w);
	uint32_t i;

	if (!inner)
		return NULL;
	inner->gaps = NULL;
	if (tree->gaps) {
		inner->gaps = take(tree, w);
		if (!inner->gaps) {
			if (!w)
				sheaf_cache_free(tree->nodes, inner);
			return NULL;
		}
		fill_gaps(inner->gaps, item, n);
	}
	inner->head = (struct tree_node){.level = (uint8_t)level, .count = (uint16_t)n};
	for (i = 0; i < n; i++)
		inner->child[i] = item[i].what;
	for (; i < TREE_FANOUT; i++)
		inner->child[i] = NULL;
	for (i = 0; i + 1 < n; i++)
		inner->pivot[i] = item[i].last;
	for (; i < TREE_PIVOTS; i++)
		inner->pivot[i] = UINT64_MAX;
	return &inner->head;
}

struct tree_node *tree_make_leaf(struct sheaf_tree *tree, struct tree_write *w,
				 const struct tree_item *item, uint32_t n)
{
	struct tree_leaf *leaf = take(tree, w);

	if (!leaf)
		return NULL;
	tree_leaf_fill(leaf, item, n);
	if (w)
		w->entries_made += n;
	return &leaf->head;
}

/* Items that one node of the pool's kind holds. */
static uint32_t capacity(const struct tree_items *pool, uint32_t level)
{
	uint32_t i;

	if (level)
		return TREE_FANOUT;
	for (i = 0; i < pool->n; i++)
		if (pool->item[i].first != pool->item[i].last)
			return TREE_RANGES;
	return TREE_POINTS;
}

/*
 * Behind the last range of all and with the last leaf full: that leaf stays what it is, and
 * a new one is made beside it. In ascending order this is every TREE_POINTS'th write.
 */
static bool append(struct tree_write *w, struct tree_items *made)
{
	const struct tree_step *step = &w->left.step[0];
	struct tree_leaf *leaf = tree_leaf(step->node);
	const struct tree_item *item = &w->pool.item[w->pool.n - 1];
	struct tree_node *node = tree_make_leaf(w->tree, w, item, 1);
	uint64_t end;

	if (!node)
		return false;
	end = tree_leaf_end(leaf);
	add(made, 0, end, w->tree->gaps ? tree_node_gap(&leaf->head, step->lo, end) : 0, leaf);
	add(made, 0, UINT64_MAX, w->tree->gaps ? tree_node_gap(node, end + 1, UINT64_MAX) : 0,
	    node);
	w->level_made[0]++;
	w->nodes_made++;
	return true;
}

/*
 * Even shares, so that each node is legal and has room; but at the edge all nodes except
 * the last are full, because keys in ascending order always arrive there. A node that is
 * full, and gets something before all else, makes one with as little as may be, because keys in
 * descending order arrive there. One leaf that
 * would be left with next to no room, and a pool that fits in one inner node just so
 * after borrowing, make two: else the next write would divide it again.
 */
bool tree_divide(struct tree_write *w, uint32_t level, bool borrowed, struct tree_items *made)
{
	const bool edge = tree_step_edge(&w->right.step[level]);
	const uint32_t n = w->pool.n;
	const uint32_t room = capacity(&w->pool, level);
	const uint32_t spare = level ? (borrowed ? 1 : 0) : room / 5;
	const uint32_t least = level ? TREE_LEAST : TREE_SPARSE;
	uint32_t nodes = (n + room - 1) / room;
	uint64_t lo = w->left.step[level].lo;
	const bool descends = !edge && !borrowed && !w->at && n > room && n <= room + 2 &&
			      w->left.step[level].node == w->right.step[level].node;
	uint32_t from, share;

	made->n = 0;
	if (!level && w->appended)
		return append(w, made);
	if (nodes == 1 && !edge && n > room - spare && n >= 2 * least)
		nodes = 2;
	for (from = 0; from < n; from += share, nodes--) {
		const struct tree_item *item = &w->pool.item[from];
		struct tree_node *node;
		uint64_t last;

		share = edge ? room : (n - from + nodes - 1) / nodes;
		if (descends && !from)
			share = least;
		if (share > n - from)
			share = n - from;
		node = level ? tree_make_inner(w->tree, w, level, item, share)
			     : tree_make_leaf(w->tree, w, item, share);
		if (!node)
			return false;
		w->level_made[level]++;
		w->nodes_made++;
		last = edge && from + share == n ? UINT64_MAX : item[share - 1].last;
		add(made, 0, last, w->tree->gaps ? tree_node_gap(node, lo, last) : 0, node);
		lo = last + 1;
	}
	if (made->n > 1)
		PROBE(tree_split, w->tree, level, made->n);
	return true;
}
