/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What a tree is made of, and the steps that its files share. The essay on how it
 * works, and the list of its invariants, open tree.c.
 *
 *	tree.c		create, destroy, lock, prepare, statistics
 *	tree_read.c	load and cursors
 *	tree_write.c	store, insert, erase: what changes, and how it is published
 *	tree_level.c	one level of a write: gather, borrow, divide
 *	tree_gap.c	the gap index, and the search for free keys
 *	tree_check.c	all invariants
 *	tree_dump.c	text and Graphviz
 */
#ifndef TREE_NODE_H
#define TREE_NODE_H

#include <sheaf/tree.h>

#include "base/atomic.h"
#include "base/compiler.h"

#include <assert.h>
#include <pthread.h>

/*
 * Most and least items of a node. Tests build the tree again with small ones, to be
 * high with few ranges; a least of 2 keeps SHEAF_TREE_HEIGHT_MAX up to 2^31 ranges.
 */
#ifndef TREE_FANOUT
#define TREE_FANOUT 10
#define TREE_LEAST 4
#endif

static_assert(TREE_LEAST >= 2, "heights must grow with the logarithm of the count");
static_assert(2 * TREE_LEAST <= TREE_FANOUT + 1, "a node that overflows makes two that are legal");

/* The head of every node. Both fields are constant once the node is published. */
struct tree_node {
	/* 0 for a leaf. */
	uint32_t level;
	/* Items in use, from 0 up. */
	uint32_t count;
};

/*
 *	 0      8          88         168        248    256
 *	 +------+----------+----------+----------+------+
 *	 | head | last[10] | first[10]| entry[10]|      |	leaf
 *	 +------+----------+----------+----------+------+
 *	 | head | pivot[9] | child[10]| gap[10]  |      |	inner node
 *	 +------+----------+----------+----------+------+
 *	 0      8          80         160        240    256
 *
 * What a search compares comes first and lies together. Items past count are padded so
 * that a search need not know count: last, first and pivot with UINT64_MAX, the
 * pointers with NULL.
 */

/* Ranges. Constant once published, but for entry[]: the writer may replace one entry by
 * another of the very same range. */
struct tree_leaf {
	struct tree_node head;
	uint64_t last[TREE_FANOUT];
	uint64_t first[TREE_FANOUT];
	void *entry[TREE_FANOUT];
};

/* Subtrees. pivot[] is constant once published; child[] is replaced in place by the
 * writer; gap[] is read and written under the writer lock only. */
struct tree_inner {
	struct tree_node head;
	/* The last key stored in child[i]; the last child has none. */
	uint64_t pivot[TREE_FANOUT - 1];
	struct tree_node *child[TREE_FANOUT];
	/* Size of the largest hole in the span of child[i]. */
	uint64_t gap[TREE_FANOUT];
};

static_assert(sizeof(struct tree_leaf) <= SHEAF_TREE_NODE_BYTES, "a leaf is one object");
static_assert(sizeof(struct tree_inner) <= SHEAF_TREE_NODE_BYTES, "an inner node is one object");

struct sheaf_tree {
	/* What readers see; root is written by the writer, the others never. */
	struct tree_node *root cacheline_aligned;
	struct sheaf_gp *gp;
	struct sheaf_cache *nodes;
	bool own_nodes;

	/* The writer's, under the writer lock. prepare reads height without it. */
	pthread_mutex_t lock cacheline_aligned;
	uint32_t height;
	uint64_t entries;
	uint64_t writes;
	uint64_t nodes_made;
	uint64_t nodes_retired;
	uint64_t level_nodes[SHEAF_TREE_HEIGHT_MAX];
};

static inline struct tree_leaf *tree_leaf(const struct tree_node *node)
{
	return (struct tree_leaf *)node;
}

static inline struct tree_inner *tree_inner(const struct tree_node *node)
{
	return (struct tree_inner *)node;
}

/* The child whose span holds a key. Counts instead of branching; see the padding. */
static inline uint32_t tree_slot(const struct tree_inner *inner, uint64_t key)
{
	uint32_t i, slot = 0;

	for (i = 0; i < TREE_FANOUT - 1; i++)
		slot += inner->pivot[i] < key;
	return slot;
}

/* The only range of a leaf that can hold a key, or a padded one. */
static inline uint32_t tree_place(const struct tree_leaf *leaf, uint64_t key)
{
	uint32_t i, place = 0;

	for (i = 0; i < TREE_FANOUT - 1; i++)
		place += leaf->last[i] < key;
	return place;
}

/* A node on a path, where the path leaves it, and its span. */
struct tree_step {
	struct tree_node *node;
	uint32_t slot;
	uint64_t lo;
	uint64_t hi;
};

/* A path from the root to a leaf, by level. One more than the height: a new root. */
struct tree_path {
	struct tree_step step[SHEAF_TREE_HEIGHT_MAX + 1];
};

/* Is it the last node of its level? Then its span is open above its last key. */
static inline bool tree_step_edge(const struct tree_step *step)
{
	return step->hi == UINT64_MAX;
}

/* Step down: the child at @p slot of @p above. */
static inline void tree_step_down(struct tree_step *step, const struct tree_step *above,
				  uint32_t slot)
{
	const struct tree_inner *inner = tree_inner(above->node);

	step->node = inner->child[slot];
	step->slot = 0;
	step->lo = slot ? inner->pivot[slot - 1] + 1 : above->lo;
	step->hi = slot + 1 < inner->head.count ? inner->pivot[slot] : above->hi;
}

/* The path to the leaf whose span holds a key. The writer's; the tree is not empty. */
void tree_descend(const struct sheaf_tree *tree, uint64_t key, struct tree_path *path);

/* The largest hole in a node whose span is lo to hi. */
uint64_t tree_node_gap(const struct tree_node *node, uint64_t lo, uint64_t hi);

/* The node below @p level on a path has this gap now: tell those above it. */
void tree_gaps_up(struct sheaf_tree *tree, const struct tree_path *path, uint32_t level,
		  uint64_t gap);

/* The span of the leaf that holds a key has changed: compute its gap again. */
void tree_gaps_refresh(struct sheaf_tree *tree, uint64_t key);

/*
 * Nodes that @writes writes need at most; guarantee 8 in tree.c.
 *
 * @height: of the tree when the nodes were set aside
 * @extra: nodes that the level which was the root's then has now, beyond one
 */
uint64_t tree_bound(uint32_t height, uint64_t extra, uint32_t writes);

#endif
