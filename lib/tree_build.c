/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A tree from ranges in ascending order: items are collected on each level, and make a node
 * when there are as many as it holds. So all nodes are full but the last one of each
 * level, which is at the edge and may be anything. Nobody sees them before the root is
 * published.
 */
#include "tree_write.h"

#include <errno.h>

struct level {
	uint32_t n;
	/* First key of the span that comes next. */
	uint64_t lo;
	struct tree_item item[TREE_FANOUT > TREE_POINTS ? TREE_FANOUT : TREE_POINTS];
};

struct builder {
	struct sheaf_tree *tree;
	uint32_t height;
	uint64_t entries;
	uint64_t last;
	/* A leaf with a range among its items holds TREE_RANGES. */
	bool ranges;
	struct level level[SHEAF_TREE_HEIGHT_MAX];
};

static void begin(struct builder *b, struct sheaf_tree *tree)
{
	b->tree = tree;
	b->height = 1;
	b->entries = 0;
	b->ranges = false;
	b->level[0].n = 0;
	b->level[0].lo = 0;
}

static void add_item(struct level *level, uint64_t first, uint64_t last, uint64_t gap, void *what)
{
	level->item[level->n++] = (struct tree_item){first, last, gap, what};
}

/* A node of what a level has collected; its span ends at @p last. */
static struct tree_node *make_node(struct builder *b, uint32_t at, uint64_t last)
{
	struct level *level = &b->level[at];
	struct tree_node *node;

	if (at) {
		node = tree_make_inner(b->tree, NULL, at, level->item, level->n);
	} else {
		node = tree_make_leaf(b->tree, NULL, level->item, level->n);
		b->ranges = false;
	}
	if (!node)
		return NULL;
	level->n = 0;
	level->lo = last + 1;
	return node;
}

/* Hand what a level has collected to the one above, which is as full as it may be. */
static bool flush(struct builder *b, uint32_t at, uint64_t last)
{
	struct level *level = &b->level[at];
	const uint64_t lo = level->lo;
	struct tree_node *node;

	if (at + 1 == b->height) {
		b->level[at + 1].n = 0;
		b->level[at + 1].lo = 0;
		b->height++;
	} else if (b->level[at + 1].n == TREE_FANOUT) {
		const struct level *above = &b->level[at + 1];

		if (!flush(b, at + 1, above->item[above->n - 1].last))
			return false;
	}
	node = make_node(b, at, last);
	if (!node)
		return false;
	b->tree->level_nodes[at]++;
	add_item(&b->level[at + 1], 0, last, b->tree->gaps ? tree_node_gap(node, lo, last) : 0,
		 node);
	return true;
}

static int add(struct builder *b, uint64_t first, uint64_t last, void *entry)
{
	struct level *level = &b->level[0];

	if (first > last || !entry || (b->entries && first <= b->last))
		return -EINVAL;
	if (level->n == TREE_POINTS || (level->n >= TREE_RANGES && (b->ranges || first != last)))
		if (!flush(b, 0, b->last))
			return -ENOMEM;
	b->ranges |= first != last;
	b->last = last;
	b->entries++;
	add_item(level, first, last, 0, entry);
	return 0;
}

/* Free what was made: nobody has seen it. */
static void drop(struct builder *b)
{
	uint32_t at, i;

	for (at = 1; at < b->height; at++)
		for (i = 0; i < b->level[at].n; i++)
			tree_free_subtree(b->tree, b->level[at].item[i].what);
}

static int end(struct builder *b)
{
	struct sheaf_tree *tree = b->tree;
	struct tree_node *root;
	uint32_t at;

	if (!b->entries)
		return 0;
	/* The last node of each level, up to the only one. */
	for (at = 0; at + 1 < b->height; at++)
		if (!flush(b, at, UINT64_MAX))
			return -ENOMEM;
	root = b->level[at].item[0].what;
	if (!at || b->level[at].n > 1) {
		root = make_node(b, at, UINT64_MAX);
		if (!root)
			return -ENOMEM;
		tree->level_nodes[at]++;
	}
	tree_moment_begin(tree);
	/* Partner: tree_root(). */
	store_release(&tree->root, root);
	tree_moment_end(tree);
	store_relaxed(&tree->height, root->level + 1u);
	tree->entries = b->entries;
	tree->version++;
	tree->writes++;
	for (at = 0; at < tree->height; at++) {
		tree->nodes_made += tree->level_nodes[at];
		tree->objects_made += tree->level_nodes[at] * (at ? tree_objects(tree) : 1);
	}
	return 0;
}

int sheaf_tree_build(struct sheaf_tree *tree, const struct sheaf_tree_range *ranges, size_t n)
{
	struct builder b;
	int err = 0;
	size_t i;

	sheaf_tree_lock(tree);
	begin(&b, tree);
	if (tree->root)
		err = -EEXIST;
	for (i = 0; i < n && !err; i++)
		err = add(&b, ranges[i].first, ranges[i].last, ranges[i].entry);
	if (!err)
		err = end(&b);
	if (err)
		drop(&b);
	sheaf_tree_unlock(tree);
	return err;
}

int sheaf_tree_dup(struct sheaf_tree *copy, struct sheaf_tree *tree)
{
	struct sheaf_tree_cursor cursor;
	struct builder b;
	void *entry;
	int err;

	if (copy->root)
		return -EEXIST;
	begin(&b, copy);
	sheaf_tree_lock(tree);
	sheaf_tree_cursor_init(&cursor, tree);
	err = 0;
	while (!err && (entry = sheaf_tree_next_rcu(&cursor)))
		err = add(&b, cursor.first, cursor.last, entry);
	sheaf_tree_unlock(tree);
	if (!err)
		err = end(&b);
	if (err)
		drop(&b);
	return err;
}
