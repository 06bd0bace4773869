/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What a tree is made of, and the steps that its files share. The essay on how it
 * works, and the list of its invariants, open tree.c.
 *
 *	tree.c		create, destroy, lock, statistics
 *	tree_bound.c	how many objects writes take at most; prepare, finish
 *	tree_read.c	load and cursors
 *	tree_view.c	what readers make of cursors: snapshots, holes
 *	tree_cursor.c	writes by cursor
 *	tree_build.c	a tree from ranges in order, or from another tree
 *	tree_leaf.c	a write in one leaf, changed in place
 *	tree_write.c	store, insert, erase; a write that replaces nodes
 *	tree_level.c	one level of such a write: gather, borrow, divide
 *	tree_gap.c	the gap index, and the search for free keys
 *	tree_check.c	all invariants
 *	tree_dump.c	text and Graphviz
 */
#ifndef TREE_NODE_H
#define TREE_NODE_H

#include <sheaf/tree.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "tree_equal.h"

#include <assert.h>
#include <pthread.h>

/*
 * Slots of a leaf of points and of a leaf of ranges, and least entries of a leaf off the
 * edge; most and least children of an inner node. Tests build the tree again with small
 * ones, to be high with few ranges; a least of 2 keeps SHEAF_TREE_HEIGHT_MAX up to 2^31
 * ranges.
 */
#ifndef TREE_FANOUT
#define TREE_POINTS 15u
#define TREE_RANGES 10u
#define TREE_SPARSE 4u
#define TREE_FANOUT 15u
#define TREE_LEAST 4u
#endif
#define TREE_PIVOTS (TREE_FANOUT - 1)

static_assert(TREE_POINTS <= 15, "slot 15 is none, and ends the order of a leaf");
static_assert(TREE_RANGES <= TREE_POINTS, "the bounds on nodes made count on it");
static_assert(TREE_LEAST >= 2 && TREE_SPARSE >= 2, "heights must grow with the logarithm");
static_assert(2 * TREE_LEAST <= TREE_FANOUT + 1, "a node that overflows makes two that are legal");
static_assert(2 * TREE_SPARSE <= TREE_RANGES + 1, "so does a leaf");
/* Guarantee 9 in tree.c, the claim for leaves. */
static_assert(2 * TREE_POINTS <= 3 * TREE_RANGES && TREE_POINTS + 1 <= 2 * TREE_RANGES &&
		      TREE_SPARSE - 1 + TREE_POINTS <= 2 * TREE_RANGES && TREE_RANGES >= 2,
	      "points that become ranges fit in as many leaves");

/* What the slots of a leaf hold. */
enum { TREE_KIND_POINTS, TREE_KIND_RANGES };

/* The head of every node. */
struct tree_node {
	/* 0 for a leaf. Constant once published. */
	uint8_t level;
	/* Leaf: TREE_KIND_POINTS or TREE_KIND_RANGES. Constant once published. */
	uint8_t kind;
	/* Leaf: a bit for each slot that is in use. One store of it is one change of the
	 * leaf. Written by the writer, read by all. */
	uint16_t live;
	/* Leaf: slots written to, from 0 up. The writer's. */
	uint16_t used;
	/* Leaf: bits in live; the writer's. Inner node: children; constant once published. */
	uint16_t count;
};

/*
 *	 0      8               128                   248     256
 *	 +------+---------------+---------------------+-------+
 *	 | head | key[15]       | entry[15]           | order |	leaf of points
 *	 +------+----------+----+-----+---------------+-------+
 *	 | head | last[10] | first[10]| entry[10]     | order |	leaf of ranges
 *	 +------+----------+----------+---------------+-------+
 *
 * What a load compares lies together in the first lines. Slots are written in the order
 * in which entries arrive, each once: by relaxed stores, before the store of live that
 * first names it. After that only its entry may change, by one store. The exception is a
 * tree without readers, which writes its leaves anew.
 *
 * order lists the used slots by first key, 4 bits each from the lowest up, then 15s. A
 * slot is put in before live names it, and those that were there keep their order, so a
 * reader may meet slots that its live does not name, and passes over them.
 */
struct tree_leaf {
	struct tree_node head;
	union {
		struct {
			uint64_t key[TREE_POINTS];
			void *entry[TREE_POINTS];
		} points;
		struct {
			uint64_t last[TREE_RANGES];
			uint64_t first[TREE_RANGES];
			void *entry[TREE_RANGES];
		} ranges;
	};
	uint64_t order;
};

#define TREE_NONE 15u
#define TREE_ORDER_EMPTY UINT64_MAX

/*
 *	 0      8                 120                  240    248
 *	 +------+-----------------+--------------------+------+
 *	 | head | pivot[14]       | child[15]          | gaps |	inner node
 *	 +------+-----------------+--------------------+------+
 *
 * Subtrees. Pivots past the last are UINT64_MAX, children past the last NULL, so that a
 * search need not know count. The writer lowers pivots and replaces children in place, one
 * store each; all else is constant once published. The gaps, if the tree keeps any, are
 * an object of their own, so that readers do without them; they are written under the
 * writer lock.
 */
struct tree_inner {
	struct tree_node head;
	/* The last key stored in child[i]; the last child has none. */
	uint64_t pivot[TREE_PIVOTS];
	struct tree_node *child[TREE_FANOUT];
	/* NULL without a gap index. */
	struct tree_gaps *gaps;
};

struct tree_gaps {
	/* No hole in the span of child[i] is larger. */
	uint64_t gap[TREE_FANOUT];
};

static_assert(sizeof(struct tree_leaf) <= SHEAF_TREE_NODE_BYTES, "a leaf is one object");
static_assert(sizeof(struct tree_inner) <= SHEAF_TREE_NODE_BYTES, "an inner node is one object");
static_assert(sizeof(struct tree_gaps) <= SHEAF_TREE_NODE_BYTES, "and its gaps another");

struct sheaf_tree {
	/* What readers see; root is written by the writer, the others never. */
	struct tree_node *root cacheline_aligned;
	struct sheaf_gp *gp;
	struct sheaf_cache *nodes;
	bool own_nodes;
	/* Attributes: has a gap index, has readers. */
	bool gaps;
	bool readers;

	/* The writer's, under the writer lock. prepare reads height without it. */
	pthread_mutex_t lock cacheline_aligned;
	uint32_t height;
	/* Changes whenever a node is replaced or a span ends earlier: cursors that write
	 * compare it. */
	uint64_t version;
	/* Odd during a write; two more with each. Partners: sheaf_tree_snapshot_range() and
	 * sheaf_tree_gap_rcu(). */
	uint64_t moment;
	uint64_t entries;
	uint64_t writes;
	uint64_t nodes_made;
	uint64_t nodes_retired;
	uint64_t objects_made;
	uint64_t objects_retired;
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

/* Objects of an inner node. */
static inline uint32_t tree_objects(const struct sheaf_tree *tree)
{
	return tree->gaps ? 2 : 1;
}

/* All lines of a node but the first, which is looked at right away: which of them a search
 * needs is known only when it has that. */
static inline void tree_prefetch(const struct tree_node *node)
{
	const char *at = (const char *)node;

	/* cppcheck-suppress nullPointerArithmeticRedundantCheck ; the loop is over where there is no child */
	__builtin_prefetch(at + CACHE_LINE);
	__builtin_prefetch(at + (size_t)2 * CACHE_LINE);
	__builtin_prefetch(at + (size_t)3 * CACHE_LINE);
}

/*
 * The child whose span holds a key. Counts instead of branching; see the padding: first
 * among all thirds of the pivots, then in one. Pivots may be lowered meanwhile; tree.c says
 * why that is harmless.
 */
static inline uint32_t tree_slot(const struct tree_inner *inner, uint64_t key)
{
	const uint64_t *pivot = inner->pivot;
	uint32_t i, third, slot = 0;

	if (TREE_PIVOTS != 14) {
		for (i = 0; i < TREE_PIVOTS; i++)
			slot += load_relaxed(&pivot[i]) < key;
		return slot;
	}
	/* 0 to 3, 5 to 8, 10 to 13, with 4 and 9 between them. */
	third = load_relaxed(&pivot[4]) < key;
	third += load_relaxed(&pivot[9]) < key;
	slot = 5 * third;
	pivot += slot;
	unrolled
	for (i = 0; i < 4; i++)
		slot += load_relaxed(&pivot[i]) < key;
	return slot;
}

/* Slots of a kind of leaf. */
static inline uint32_t tree_room(uint32_t kind)
{
	return kind == TREE_KIND_POINTS ? TREE_POINTS : TREE_RANGES;
}

/* A slot that some live has named. */
static inline uint64_t tree_first(const struct tree_leaf *leaf, uint32_t slot)
{
	return leaf->head.kind == TREE_KIND_POINTS ? leaf->points.key[slot]
						   : leaf->ranges.first[slot];
}

static inline uint64_t tree_last(const struct tree_leaf *leaf, uint32_t slot)
{
	return leaf->head.kind == TREE_KIND_POINTS ? leaf->points.key[slot]
						   : leaf->ranges.last[slot];
}

/* Where the entry of a slot is. */
static inline void **tree_entry_at(const struct tree_leaf *leaf, uint32_t slot)
{
	struct tree_leaf *l = (struct tree_leaf *)leaf;

	return l->head.kind == TREE_KIND_POINTS ? &l->points.entry[slot] : &l->ranges.entry[slot];
}

/* The slot of an order at a place; TREE_NONE past the last. */
static inline uint32_t tree_order_at(uint64_t order, uint32_t place)
{
	return (order >> (4 * place)) & 15;
}

/* Places that an order fills, which is not empty: those before its last 15s. */
static inline uint32_t tree_order_places(uint64_t order)
{
	return 16 - (uint32_t)__builtin_clzll(~order | 1) / 4;
}

/* The live slots alone, in order. */
static inline uint64_t tree_order_live(uint64_t order, uint32_t live)
{
	const uint32_t n = tree_order_places(order);
	uint64_t list = TREE_ORDER_EMPTY;
	uint32_t slot, at;

	/* The most common case: all that is used is live. */
	if (likely(live + 1 == 1u << n))
		return order;
	for (at = 0; (slot = order & 15) != TREE_NONE; order >>= 4)
		if (live >> slot & 1)
			list ^= (uint64_t)(slot ^ TREE_NONE) << (4 * at++);
	return list;
}

/* The writer's view of a leaf. */
static inline uint64_t tree_list(const struct tree_leaf *leaf)
{
	return tree_order_live(leaf->order, leaf->head.live);
}

/* Where a leaf's last range ends; the leaf is not empty. The writer's. */
static inline uint64_t tree_leaf_end(const struct tree_leaf *leaf)
{
	return tree_last(leaf, tree_order_at(tree_list(leaf), leaf->head.count - 1u));
}

/* The live slot whose range has a key, as a bit; 0 if there is none. Of slots that no live
 * has named yet it reads what is there, and masks it. Each bit is a carry: from the
 * highest slot down, 4 or 6 instructions each. */
static inline uint32_t tree_leaf_hold(const struct tree_leaf *leaf, uint32_t live, uint64_t key)
{
	uint32_t i, bits = 0;

	if (leaf->head.kind == TREE_KIND_POINTS) {
#ifdef TREE_EQUAL_16
		/* The word behind the keys is an entry. */
		if (TREE_POINTS == 15)
			return tree_equal_16(leaf->points.key, key) & live;
#endif
		unrolled
		for (i = TREE_POINTS; i-- > 0;)
			bits += bits + ((load_relaxed(&leaf->points.key[i]) ^ key) < 1);
		return bits & live;
	}
	unrolled
	for (i = TREE_RANGES; i-- > 0;) {
		const uint64_t first = load_relaxed(&leaf->ranges.first[i]);

		bits += bits + (load_relaxed(&leaf->ranges.last[i]) - first < key - first);
	}
	return ~bits & live;
}

/* Live slots whose range has a key of first .. last. */
static inline uint32_t tree_leaf_find(const struct tree_leaf *leaf, uint32_t live, uint64_t first,
				      uint64_t last)
{
	uint32_t i, bits = 0;

	if (leaf->head.kind == TREE_KIND_POINTS) {
		if (likely(first == last))
			return tree_leaf_hold(leaf, live, first);
		unrolled
		for (i = TREE_POINTS; i-- > 0;)
			bits += bits + (last - first < load_relaxed(&leaf->points.key[i]) - first);
	} else {
		unrolled
		for (i = TREE_RANGES; i-- > 0;)
			bits += bits + ((uint32_t)(last < load_relaxed(&leaf->ranges.first[i])) |
					(uint32_t)(load_relaxed(&leaf->ranges.last[i]) < first));
	}
	return ~bits & live;
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
	step->hi = slot + 1u < inner->head.count ? inner->pivot[slot] : above->hi;
}

/* The path to the leaf whose span holds a key. The writer's; the tree is not empty. */
void tree_descend(const struct sheaf_tree *tree, uint64_t key, struct tree_path *path);

/* What became of a write that was tried in one leaf. */
enum tree_tried {
	TREE_CHANGED,   /* done */
	TREE_UNCHANGED, /* done, there was nothing to change */
	TREE_ELSEWHERE, /* not done: nodes have to be replaced */
};

/* Overwrite first .. last by @p entry (NULL: by a hole) where @p path leads, if it is
 * within that leaf and can be done by one store. */
enum tree_tried tree_leaf_store(struct sheaf_tree *tree, const struct tree_path *path,
				uint64_t first, uint64_t last, void *entry);

/* Take the range of one live slot out of the leaf where @p path leads, if that is left with
 * enough. */
enum tree_tried tree_leaf_erase(struct sheaf_tree *tree, const struct tree_path *path,
				uint32_t slot);

/* Store a key where it is not yet, in a leaf of points in whose span it is, if that has a
 * slot left. */
bool tree_leaf_put(struct sheaf_tree *tree, struct tree_leaf *leaf, uint64_t key, void *entry);

/* Paused on a range, or where one was. */
void tree_cursor_set(struct sheaf_tree_cursor *cursor, uint64_t first, uint64_t last, void *entry);

/* A write begins, and ends. */
static inline void tree_moment_begin(struct sheaf_tree *tree)
{
	/* Partners: sheaf_tree_snapshot_range() and sheaf_tree_gap_rcu(). Before each release
	 * of the write. */
	store_relaxed(&tree->moment, tree->moment + 1);
}

static inline void tree_moment_end(struct sheaf_tree *tree)
{
	/* Partners: as above. After all that was published. */
	store_release(&tree->moment, tree->moment + 1);
}

/* The largest hole in a leaf whose span is lo to hi; in an inner node no hole is larger. */
uint64_t tree_node_gap(const struct tree_node *node, uint64_t lo, uint64_t hi);

/* There will be a hole of this size below @p level of a path: tell those from there up, before
 * it is published. */
void tree_gaps_raise(struct sheaf_tree *tree, const struct tree_path *path, uint32_t level,
		     uint64_t gap);

/* The span of the leaf that holds a key will reach from @p lo to @p hi at least: raise its
 * gap, before that is published. */
void tree_gaps_widen(struct sheaf_tree *tree, uint64_t key, uint64_t lo, uint64_t hi);

/*
 * Objects that @writes writes need at most; guarantee 9 in tree.c.
 *
 * @objects: of an inner node
 * @height: of the tree when the objects were set aside
 * @extra: nodes that the level which was the root's then has now, beyond one
 */
uint64_t tree_bound(uint32_t objects, uint32_t height, uint64_t extra, uint32_t writes);

#endif
