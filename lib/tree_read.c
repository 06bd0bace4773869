/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What readers do: loads and cursors. They follow pointers that the writer may replace
 * at any moment, each loaded once, and of a leaf they load the live word once. See the
 * essay in tree.c, guarantees 1 to 5.
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

/* Partner: the writer's publish(). The slots it names are complete. */
static uint32_t tree_live(const struct tree_leaf *leaf)
{
	return load_acquire(&leaf->head.live);
}

/* Partner: the writer's replacing an entry in tree_leaf_store(). */
static void *tree_entry(const struct tree_leaf *leaf, uint32_t slot)
{
	return load_acquire(tree_entry_at(leaf, slot));
}

void *sheaf_tree_load_rcu(const struct sheaf_tree *tree, uint64_t key)
{
	const struct tree_node *node = tree_root(tree);
	const struct tree_leaf *leaf;
	uint32_t found;

	if (unlikely(!node))
		return NULL;
	while (node->level) {
		node = tree_child(node, tree_slot(tree_inner(node), key));
		tree_prefetch(node);
	}
	leaf = tree_leaf(node);
	found = tree_leaf_hold(leaf, tree_live(leaf), key);
	return found ? tree_entry(leaf, (uint32_t)__builtin_ctz(found)) : NULL;
}

void *sheaf_tree_load(const struct sheaf_tree *tree, uint64_t key)
{
	void *entry;

	if (!tree->readers)
		return sheaf_tree_load_rcu(tree, key);
	sheaf_gp_read_lock(tree->gp);
	entry = sheaf_tree_load_rcu(tree, key);
	sheaf_gp_read_unlock(tree->gp);
	return entry;
}

void sheaf_tree_cursor_init(struct sheaf_tree_cursor *cursor, const struct sheaf_tree *tree)
{
	*cursor = (struct sheaf_tree_cursor){
		.tree = tree, .state = NOWHERE, .order = TREE_ORDER_EMPTY};
}

void sheaf_tree_cursor_pause(struct sheaf_tree_cursor *cursor)
{
	cursor->leaf = NULL;
	/* A step within a leaf has nowhere to go. */
	cursor->order = TREE_ORDER_EMPTY;
	if (cursor->state == ON_RANGE)
		cursor->state = PAUSED;
}

void tree_cursor_set(struct sheaf_tree_cursor *cursor, uint64_t first, uint64_t last, void *entry)
{
	cursor->first = first;
	cursor->last = last;
	cursor->entry = entry;
	cursor->leaf = NULL;
	cursor->order = TREE_ORDER_EMPTY;
	cursor->state = PAUSED;
}

static void *stand_nowhere(struct sheaf_tree_cursor *cursor, uint32_t state)
{
	cursor->leaf = NULL;
	cursor->order = TREE_ORDER_EMPTY;
	cursor->entry = NULL;
	cursor->state = state;
	return NULL;
}

static void *stand_on(struct sheaf_tree_cursor *cursor, uint32_t place)
{
	const uint32_t slot = tree_order_at(cursor->order, place);

	cursor->first = cursor->firsts[slot];
	cursor->last = cursor->lasts[slot];
	/* Partner: the writer's replacing an entry in tree_leaf_store(). */
	cursor->entry = load_acquire(&cursor->entries[slot]);
	cursor->place = place;
	return cursor->entry;
}

/* Come to a leaf: what is in it now is what the cursor sees of it. */
static const struct tree_leaf *enter(struct sheaf_tree_cursor *cursor, const struct tree_node *node)
{
	const struct tree_leaf *leaf = tree_leaf(node);
	const uint32_t live = tree_live(leaf);

	if (node->kind == TREE_KIND_POINTS) {
		cursor->firsts = leaf->points.key;
		cursor->lasts = leaf->points.key;
		cursor->entries = leaf->points.entry;
	} else {
		cursor->firsts = leaf->ranges.first;
		cursor->lasts = leaf->ranges.last;
		cursor->entries = leaf->ranges.entry;
	}
	cursor->leaf = leaf;
	cursor->order = tree_order_live(load_relaxed(&leaf->order), live);
	cursor->place = 0;
	cursor->state = ON_RANGE;
	return leaf;
}

/* Stand on the lowest range that reaches up to @p key or beyond, or not at all. */
static bool stand_up(struct sheaf_tree_cursor *cursor, const struct tree_leaf *leaf, uint64_t key)
{
	uint32_t place = 0, slot;

	while ((slot = tree_order_at(cursor->order, place)) != TREE_NONE &&
	       tree_last(leaf, slot) < key)
		place++;
	return slot != TREE_NONE && (stand_on(cursor, place), true);
}

/* Stand on the highest range that reaches down to @p key or beyond, or not at all. */
static bool stand_down(struct sheaf_tree_cursor *cursor, const struct tree_leaf *leaf, uint64_t key)
{
	uint32_t place = 0, slot;

	while ((slot = tree_order_at(cursor->order, place)) != TREE_NONE &&
	       tree_first(leaf, slot) <= key)
		place++;
	return place && (stand_on(cursor, place - 1), true);
}

/* From a node down its first or its last children. */
static const struct tree_node *descend_side(struct sheaf_tree_cursor *cursor,
					    const struct tree_node *node, bool last)
{
	while (node->level) {
		cursor->above = node;
		cursor->slot = last ? node->count - 1u : 0;
		node = tree_child(node, cursor->slot);
	}
	return node;
}

/*
 * The leaf whose span holds a key, and the last place on the way where there was a way to
 * the right (left) of it.
 */
static const struct tree_node *descend(struct sheaf_tree_cursor *cursor, uint64_t key, bool down,
				       const struct tree_node **fork, uint32_t *fork_slot)
{
	const struct tree_node *node = tree_root(cursor->tree);
	uint32_t slot;

	*fork = NULL;
	cursor->above = NULL;
	while (node && node->level) {
		slot = tree_slot(tree_inner(node), key);
		if (down ? slot != 0 : slot + 1u < node->count) {
			*fork = node;
			*fork_slot = down ? slot - 1 : slot + 1;
		}
		cursor->above = node;
		cursor->slot = slot;
		node = tree_child(node, slot);
	}
	return node;
}

/*
 * The lowest range that reaches up to @p key or beyond. It is in the leaf whose span holds
 * the key, or in the next one, if the pivot between them is about to be lowered. If it is
 * not there either, the writer has changed the tree meanwhile, and it is looked for again.
 */
static void *seek_up(struct sheaf_tree_cursor *cursor, uint64_t key)
{
	const struct tree_node *node, *fork;
	uint32_t slot = 0;

	for (;;) {
		node = descend(cursor, key, false, &fork, &slot);
		if (!node)
			return stand_nowhere(cursor, PAST_END);
		if (stand_up(cursor, enter(cursor, node), key))
			return cursor->entry;
		if (!fork)
			return stand_nowhere(cursor, PAST_END);
		cursor->above = fork;
		cursor->slot = slot;
		node = descend_side(cursor, tree_child(fork, slot), false);
		if (stand_up(cursor, enter(cursor, node), key))
			return cursor->entry;
	}
}

/* The highest range that reaches down to @p key or beyond: in the leaf whose span holds
 * the key, or else the last one left of the path. */
static void *seek_down(struct sheaf_tree_cursor *cursor, uint64_t key)
{
	const struct tree_node *node, *fork;
	uint32_t slot = 0;

	for (;;) {
		node = descend(cursor, key, true, &fork, &slot);
		if (!node)
			return stand_nowhere(cursor, BEFORE_START);
		if (stand_down(cursor, enter(cursor, node), key))
			return cursor->entry;
		if (!fork)
			return stand_nowhere(cursor, BEFORE_START);
		cursor->above = fork;
		cursor->slot = slot;
		node = descend_side(cursor, tree_child(fork, slot), true);
		if (stand_down(cursor, enter(cursor, node), key))
			return cursor->entry;
	}
}

void *sheaf_tree_find_rcu(struct sheaf_tree_cursor *cursor, uint64_t key)
{
	return seek_up(cursor, key);
}

/* Past the last range of a leaf: the next leaf under the same parent, as that was when the
 * cursor came by it; else from the root by key. */
static void *next_leaf(struct sheaf_tree_cursor *cursor)
{
	const struct tree_node *above = cursor->above;
	const uint64_t passed = cursor->last;

	if (passed == UINT64_MAX)
		return stand_nowhere(cursor, PAST_END);
	while (above && cursor->slot + 1 < above->count) {
		cursor->slot++;
		if (cursor->slot + 2 < above->count)
			tree_prefetch(tree_child(above, cursor->slot + 2));
		if (!stand_up(cursor, enter(cursor, tree_child(above, cursor->slot)), passed + 1))
			continue;
		if (cursor->first <= passed)
			cursor->first = passed + 1;
		return cursor->entry;
	}
	if (seek_up(cursor, passed + 1) && cursor->first <= passed)
		cursor->first = passed + 1;
	return cursor->entry;
}

static void *prev_leaf(struct sheaf_tree_cursor *cursor)
{
	const struct tree_node *above = cursor->above;
	const uint64_t passed = cursor->first;

	if (!passed)
		return stand_nowhere(cursor, BEFORE_START);
	while (above && cursor->slot) {
		cursor->slot--;
		if (cursor->slot > 1)
			tree_prefetch(tree_child(above, cursor->slot - 2));
		if (!stand_down(cursor, enter(cursor, tree_child(above, cursor->slot)), passed - 1))
			continue;
		if (cursor->last >= passed)
			cursor->last = passed - 1;
		return cursor->entry;
	}
	if (seek_down(cursor, passed - 1) && cursor->last >= passed)
		cursor->last = passed - 1;
	return cursor->entry;
}

void *sheaf_tree_next_leaf_rcu(struct sheaf_tree_cursor *cursor)
{
	if (likely(cursor->state == ON_RANGE))
		return next_leaf(cursor);
	if (cursor->state == PAST_END)
		return NULL;
	if (cursor->state != PAUSED)
		return seek_up(cursor, 0);
	cursor->above = NULL;
	return next_leaf(cursor);
}

void *sheaf_tree_prev_rcu(struct sheaf_tree_cursor *cursor)
{
	if (likely(cursor->state == ON_RANGE)) {
		if (cursor->place)
			return stand_on(cursor, cursor->place - 1);
		return prev_leaf(cursor);
	}
	if (cursor->state == BEFORE_START)
		return NULL;
	if (cursor->state != PAUSED)
		return seek_down(cursor, UINT64_MAX);
	cursor->above = NULL;
	return prev_leaf(cursor);
}
