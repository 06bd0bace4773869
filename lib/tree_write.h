/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A write that replaces nodes: what tree_level.c and tree_write.c share. Nothing of it can
 * be seen by readers before the one store that publishes it.
 */
#ifndef TREE_WRITE_H
#define TREE_WRITE_H

#include "tree_node.h"

/* A range, or in an inner node a subtree. */
struct tree_item {
	/* Leaf: first key of the range. */
	uint64_t first;
	/* Last key of the range, or under the subtree (UINT64_MAX at the edge). */
	uint64_t last;
	/* Inner node: no hole in the span of the subtree is larger. */
	uint64_t gap;
	/* The entry, or the root of the subtree. */
	void *what;
};

/* Items in key order; most are two full nodes and what was put between them. */
#define TREE_POOL (TREE_FANOUT > TREE_POINTS + 1 ? 2 * TREE_FANOUT + 1 : 2 * (TREE_POINTS + 1) + 1)

struct tree_items {
	uint32_t n;
	struct tree_item item[TREE_POOL];
};

/* Children from .. to - 1 of a node: subtrees that the write overwrites as a whole. */
struct tree_doomed {
	struct tree_inner *inner;
	uint32_t from;
	uint32_t to;
};

struct tree_write {
	struct sheaf_tree *tree;
	/* Where objects come from; NULL for the cache. */
	struct sheaf *sheaf;
	/* The nodes that the write replaces on each level: these two and all between. */
	struct tree_path left;
	struct tree_path right;
	/* What the nodes of the level in work are to hold. */
	struct tree_items pool;
	/* Where in the pool what is new begins. */
	uint32_t at;
	/* The range was put behind all others, into a leaf of its own. */
	bool appended;
	/* Objects taken; to be given back if the write fails. */
	uint32_t n_fresh;
	/* What is new, to be counted once the write is published. */
	uint32_t levels;
	uint32_t nodes_made;
	uint32_t entries_made;
	uint32_t level_made[SHEAF_TREE_HEIGHT_MAX];
	/* Nodes and subtrees to retire once the write is published. */
	uint32_t n_dead;
	uint32_t n_doomed;
	void *fresh[6 * SHEAF_TREE_HEIGHT_MAX];
	struct tree_node *dead[4 * SHEAF_TREE_HEIGHT_MAX];
	struct tree_doomed doomed[2 * SHEAF_TREE_HEIGHT_MAX];
};

static inline void tree_bury(struct tree_write *w, struct tree_node *node)
{
	w->dead[w->n_dead++] = node;
}

/* The leaf's last range is gone: its span ends at @p end now, and the hole begins the
 * next one. @p level is that of the child, in place, whose span shrinks. */
void tree_lower_pivot(struct sheaf_tree *tree, const struct tree_path *path, uint32_t level,
		      uint64_t end);

/* Write a leaf as a whole: at most TREE_RANGES items, or TREE_POINTS single keys. */
void tree_leaf_fill(struct tree_leaf *leaf, const struct tree_item *item, uint32_t n);

/* Nodes of items. Of @p w, from what was set aside, and noted there to be counted or given
 * back; without it from the cache. NULL if there is no memory. */
struct tree_node *tree_make_inner(struct sheaf_tree *tree, struct tree_write *w, uint32_t level,
				  const struct tree_item *item, uint32_t n);
struct tree_node *tree_make_leaf(struct sheaf_tree *tree, struct tree_write *w,
				 const struct tree_item *item, uint32_t n);

/* Free a node and all below it at once. */
void tree_free_subtree(struct sheaf_tree *tree, struct tree_node *node);

/* Fill the pool with what the leaves from left to right hold once first .. last is
 * overwritten by @p entry (NULL: by a hole). The tree may be empty. */
void tree_gather_ranges(struct tree_write *w, uint64_t first, uint64_t last, void *entry);

/* Fill the pool of an inner level: what stays left and right of the nodes @p made below. */
void tree_gather_children(struct tree_write *w, uint32_t level, const struct tree_items *made);

/* The pool of a level is too small for a node: take in a neighbour. */
void tree_borrow(struct tree_write *w, uint32_t level);

/* Make nodes of the pool; false if there is no memory. */
bool tree_divide(struct tree_write *w, uint32_t level, bool borrowed, struct tree_items *made);

#endif
