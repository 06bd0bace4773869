/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What readers do: loads and cursors. They follow pointers that the writer may replace
 * at any moment, each loaded once, and read nothing else that changes. See the essay
 * in tree.c, guarantees 1 to 5.
 */
#include "tree_node.h"

/* Where a cursor stands. */
enum {
	NOWHERE,
	BEFORE_START,
	PAST_END,
	ON_RANGE,
	PAUSED,
};

/* Partner: the writer's publish_root(). The node is complete, and all below it. */
static const struct tree_node *tree_root(const struct sheaf_tree *tree)
{
	return load_acquire(&tree->root);
}

/* Partner: the writer's publish_child(). */
static const struct tree_node *tree_child(const struct tree_node *node, uint32_t slot)
{
	return load_acquire(&tree_inner(node)->child[slot]);
}

/* Partner: the writer's replace_entry(). */
static void *tree_entry(const struct tree_leaf *leaf, uint32_t i)
{
	return load_acquire(&leaf->entry[i]);
}

void *sheaf_tree_load_rcu(const struct sheaf_tree *tree, uint64_t key)
{
	const struct tree_node *node = tree_root(tree);
	const struct tree_leaf *leaf;
	uint32_t i;

	if (!node)
		return NULL;
	while (node->level)
		node = tree_child(node, tree_slot(tree_inner(node), key));
	leaf = tree_leaf(node);
	i = tree_place(leaf, key);
	/* A padded range may pass the test for UINT64_MAX; its entry is NULL. */
	if (key < leaf->first[i] || key > leaf->last[i])
		return NULL;
	return tree_entry(leaf, i);
}

void *sheaf_tree_load(const struct sheaf_tree *tree, uint64_t key)
{
	void *entry;

	sheaf_gp_read_lock(tree->gp);
	entry = sheaf_tree_load_rcu(tree, key);
	sheaf_gp_read_unlock(tree->gp);
	return entry;
}

void sheaf_tree_cursor_init(struct sheaf_tree_cursor *cursor, const struct sheaf_tree *tree)
{
	*cursor = (struct sheaf_tree_cursor){.tree = tree, .state = NOWHERE};
}

void sheaf_tree_cursor_pause(struct sheaf_tree_cursor *cursor)
{
	cursor->leaf = NULL;
	if (cursor->state == ON_RANGE)
		cursor->state = PAUSED;
}

static void *stand_nowhere(struct sheaf_tree_cursor *cursor, uint32_t state)
{
	cursor->leaf = NULL;
	cursor->entry = NULL;
	cursor->state = state;
	return NULL;
}

static void *stand_on(struct sheaf_tree_cursor *cursor, const struct tree_leaf *leaf, uint32_t i)
{
	cursor->first = leaf->first[i];
	cursor->last = leaf->last[i];
	cursor->entry = tree_entry(leaf, i);
	cursor->leaf = leaf;
	cursor->index = i;
	cursor->state = ON_RANGE;
	return cursor->entry;
}

/* The lowest range that reaches up to @p key or beyond. If it is not in the leaf whose
 * span holds the key, then nowhere: a pivot is a stored key. */
static void *seek_up(struct sheaf_tree_cursor *cursor, uint64_t key)
{
	const struct tree_node *node = tree_root(cursor->tree);
	const struct tree_leaf *leaf;
	uint32_t i;

	if (!node)
		return stand_nowhere(cursor, PAST_END);
	while (node->level)
		node = tree_child(node, tree_slot(tree_inner(node), key));
	leaf = tree_leaf(node);
	for (i = 0; i < node->count && leaf->last[i] < key; i++)
		;
	if (i == node->count)
		return stand_nowhere(cursor, PAST_END);
	return stand_on(cursor, leaf, i);
}

/* The highest range that reaches down to @p key or beyond: in the leaf whose span holds
 * the key, or else the last one left of the path. */
static void *seek_down(struct sheaf_tree_cursor *cursor, uint64_t key)
{
	const struct tree_node *node = tree_root(cursor->tree);
	const struct tree_node *fork = NULL;
	const struct tree_leaf *leaf;
	uint32_t i, slot, fork_slot = 0;

	if (!node)
		return stand_nowhere(cursor, BEFORE_START);
	while (node->level) {
		slot = tree_slot(tree_inner(node), key);
		if (slot) {
			fork = node;
			fork_slot = slot - 1;
		}
		node = tree_child(node, slot);
	}
	leaf = tree_leaf(node);
	for (i = node->count; i && leaf->first[i - 1] > key; i--)
		;
	if (i)
		return stand_on(cursor, leaf, i - 1);
	if (!fork)
		return stand_nowhere(cursor, BEFORE_START);
	node = tree_child(fork, fork_slot);
	while (node->level)
		node = tree_child(node, node->count - 1);
	return stand_on(cursor, tree_leaf(node), node->count - 1);
}

void *sheaf_tree_find_rcu(struct sheaf_tree_cursor *cursor, uint64_t key)
{
	return seek_up(cursor, key);
}

/* Within a leaf, published once and for all, the next index; else from the root by key.
 * What has been stored meanwhile over keys already passed is cut off. */
void *sheaf_tree_next_rcu(struct sheaf_tree_cursor *cursor)
{
	const struct tree_leaf *leaf = cursor->leaf;
	const uint64_t passed = cursor->last;

	switch (cursor->state) {
	case ON_RANGE:
		if (cursor->index + 1 < leaf->head.count)
			return stand_on(cursor, leaf, cursor->index + 1);
		break;
	case PAUSED:
		break;
	case PAST_END:
		return NULL;
	default:
		return seek_up(cursor, 0);
	}
	if (passed == UINT64_MAX)
		return stand_nowhere(cursor, PAST_END);
	if (seek_up(cursor, passed + 1) && cursor->first <= passed)
		cursor->first = passed + 1;
	return cursor->entry;
}

void *sheaf_tree_prev_rcu(struct sheaf_tree_cursor *cursor)
{
	const struct tree_leaf *leaf = cursor->leaf;
	const uint64_t passed = cursor->first;

	switch (cursor->state) {
	case ON_RANGE:
		if (cursor->index)
			return stand_on(cursor, leaf, cursor->index - 1);
		break;
	case PAUSED:
		break;
	case BEFORE_START:
		return NULL;
	default:
		return seek_down(cursor, UINT64_MAX);
	}
	if (!passed)
		return stand_nowhere(cursor, BEFORE_START);
	if (seek_down(cursor, passed - 1) && cursor->last >= passed)
		cursor->last = passed - 1;
	return cursor->entry;
}
