/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * One level of a write: gather what the new nodes are to hold in one pool, take in a
 * neighbour if that is too little for a node, divide it among as few nodes as hold it.
 * See the essay in tree.c.
 */
#include "tree_write.h"

#include <string.h>

static void add(struct tree_items *items, uint64_t first, uint64_t last, uint64_t gap, void *what)
{
	items->item[items->n++] = (struct tree_item){first, last, gap, what};
}

/* All ranges of a leaf, or the children from .. to - 1 of an inner node. */
static void add_from(struct tree_items *items, const struct tree_step *step, uint32_t from,
		     uint32_t to)
{
	uint32_t i;

	if (!step->node->level) {
		const struct tree_leaf *leaf = tree_leaf(step->node);

		for (i = from; i < to; i++)
			add(items, leaf->first[i], leaf->last[i], 0, leaf->entry[i]);
	} else {
		const struct tree_inner *inner = tree_inner(step->node);
		const uint32_t end = inner->head.count - 1;

		for (i = from; i < to; i++)
			add(items, 0, i < end ? inner->pivot[i] : step->hi, inner->gap[i],
			    inner->child[i]);
	}
}

/* A range that reaches into first .. last from below is cut on the left side, one that
 * reaches out above on the right side; one that does both is kept twice. */
void tree_gather_ranges(struct tree_write *w, uint64_t first, uint64_t last, void *entry)
{
	const struct tree_leaf *left = tree_leaf(w->left.step[0].node);
	const struct tree_leaf *right = tree_leaf(w->right.step[0].node);
	struct tree_items *pool = &w->pool;
	uint32_t i;

	pool->n = 0;
	for (i = 0; left && i < left->head.count && left->first[i] < first; i++)
		add(pool, left->first[i], left->last[i] < first ? left->last[i] : first - 1, 0,
		    left->entry[i]);
	if (entry)
		add(pool, first, last, 0, entry);
	for (i = 0; right && i < right->head.count; i++)
		if (right->last[i] > last)
			add(pool, right->first[i] > last ? right->first[i] : last + 1,
			    right->last[i], 0, right->entry[i]);
}

void tree_gather_children(struct tree_write *w, uint32_t level, const struct tree_items *made)
{
	const struct tree_step *left = &w->left.step[level];
	const struct tree_step *right = &w->right.step[level];
	struct tree_items *pool = &w->pool;

	pool->n = 0;
	if (left->node)
		add_from(pool, left, 0, left->slot);
	memcpy(&pool->item[pool->n], made->item, made->n * sizeof(made->item[0]));
	pool->n += made->n;
	if (right->node)
		add_from(pool, right, right->slot + 1, right->node->count);
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

	if (up->slot + 1 == up->node->count && left[1].slot) {
		struct tree_items front = {.n = 0};

		left[1].slot--;
		tree_step_down(left, &left[1], left[1].slot);
		add_from(&front, left, 0, left->node->count);
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
	add_from(&w->pool, right, 0, right->node->count);
	tree_bury(w, right->node);
}

static struct tree_node *take(struct tree_write *w)
{
	struct sheaf_cache *nodes = w->tree->nodes;
	struct tree_node *node =
		w->sheaf ? sheaf_cache_alloc_from(nodes, w->sheaf) : sheaf_cache_alloc(nodes, 0);

	if (node)
		w->fresh[w->n_fresh++] = node;
	return node;
}

static void fill_leaf(struct tree_leaf *leaf, const struct tree_item *item, uint32_t n)
{
	uint32_t i;

	leaf->head = (struct tree_node){.level = 0, .count = n};
	for (i = 0; i < n; i++) {
		leaf->last[i] = item[i].last;
		leaf->first[i] = item[i].first;
		leaf->entry[i] = item[i].what;
	}
	for (; i < TREE_FANOUT; i++) {
		leaf->last[i] = UINT64_MAX;
		leaf->first[i] = UINT64_MAX;
		leaf->entry[i] = NULL;
	}
}

static void fill_inner(struct tree_inner *inner, uint32_t level, const struct tree_item *item,
		       uint32_t n)
{
	uint32_t i;

	inner->head = (struct tree_node){.level = level, .count = n};
	for (i = 0; i < TREE_FANOUT - 1; i++)
		inner->pivot[i] = i + 1 < n ? item[i].last : UINT64_MAX;
	for (i = 0; i < TREE_FANOUT; i++) {
		inner->child[i] = i < n ? item[i].what : NULL;
		inner->gap[i] = i < n ? item[i].gap : 0;
	}
}

/*
 * Even shares, so that each node is legal and has room; but at the edge all nodes except
 * the last are full, because keys in ascending order always arrive there. A pool that
 * fits in one node just so, after borrowing, makes two: else the next write would
 * divide it again.
 */
bool tree_divide(struct tree_write *w, uint32_t level, bool borrowed, struct tree_items *made)
{
	const bool edge = tree_step_edge(&w->right.step[level]);
	const uint32_t n = w->pool.n;
	uint32_t nodes = (n + TREE_FANOUT - 1) / TREE_FANOUT;
	uint64_t lo = w->left.step[level].lo;
	uint32_t from, share;

	if (borrowed && n == TREE_FANOUT && n >= 2 * TREE_LEAST)
		nodes = 2;
	made->n = 0;
	for (from = 0; from < n; from += share, nodes--) {
		const struct tree_item *item = &w->pool.item[from];
		struct tree_node *node = take(w);
		uint64_t last;

		if (!node)
			return false;
		share = edge ? TREE_FANOUT : (n - from + nodes - 1) / nodes;
		if (share > n - from)
			share = n - from;
		if (level)
			fill_inner((struct tree_inner *)node, level, item, share);
		else
			fill_leaf((struct tree_leaf *)node, item, share);
		last = edge && from + share == n ? UINT64_MAX : item[share - 1].last;
		add(made, 0, last, tree_node_gap(node, lo, last), node);
		lo = last + 1;
	}
	return true;
}
