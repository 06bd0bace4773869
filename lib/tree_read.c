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
	cursor->order = TREE_ORDER_EMPTY;
	cursor->state = PAUSED;
}

static void *stand_nowhere(struct sheaf_tree_cursor *cursor, uint32_t state)
{
	cursor->order = TREE_ORDER_EMPTY;
	cursor->entry = NULL;
	cursor->state = state;
	return NULL;
}

static inline void *stand_on(struct sheaf_tree_cursor *cursor, uint32_t place)
{
	const uint64_t order = cursor->list >> (4 * place);
	const uint32_t slot = order & 15;

	cursor->order = order >> 4;
	cursor->first = cursor->firsts[slot];
	cursor->last = cursor->lasts[slot];
	/* Partner: the writer's replacing an entry in tree_leaf_store(). */
	cursor->entry = load_acquire(&cursor->entries[slot]);
	return cursor->entry;
}

/* The place of the range after the one where the cursor stands: each step has shifted zeros
 * into its order, and the list ends in ones. */
static uint32_t next_place(const struct sheaf_tree_cursor *cursor)
{
	return (uint32_t)__builtin_clzll(cursor->order) / 4;
}

/* Come to a leaf: what is in it now is what the cursor sees of it. */
static inline void enter(struct sheaf_tree_cursor *cursor, const struct tree_node *node)
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
	cursor->list = tree_order_live(load_relaxed(&leaf->order), live);
}

/* Stand on the lowest range that reaches up to @p key or beyond, or not at all. */
static inline bool stand_up(struct sheaf_tree_cursor *cursor, const struct tree_node *leaf,
			    uint64_t key)
{
	uint32_t place = 0, slot;

	enter(cursor, leaf);
	while ((slot = tree_order_at(cursor->list, place)) != TREE_NONE &&
	       cursor->lasts[slot] < key)
		place++;
	return slot != TREE_NONE && (stand_on(cursor, place), true);
}

/* Stand on the highest range that reaches down to @p key or beyond, or not at all. */
static inline bool stand_down(struct sheaf_tree_cursor *cursor, const struct tree_node *leaf,
			      uint64_t key)
{
	uint32_t place = 0, slot;

	enter(cursor, leaf);
	while ((slot = tree_order_at(cursor->list, place)) != TREE_NONE &&
	       cursor->firsts[slot] <= key)
		place++;
	return place && (stand_on(cursor, place - 1), true);
}

/* One step down, by the child at @p slot. The cursor keeps the last two nodes on the way. */
static const struct tree_node *step_down(struct sheaf_tree_cursor *cursor,
					 const struct tree_node *node, uint32_t slot)
{
	cursor->higher = cursor->above;
	cursor->higher_slot = cursor->slot;
	cursor->above = node;
	cursor->slot = slot;
	return tree_child(node, slot);
}

/* From a place on the way down its first or its last children. */
static const struct tree_node *descend_side(struct sheaf_tree_cursor *cursor,
					    const struct tree_node *fork, uint32_t slot, bool last)
{
	const struct tree_node *node;

	/* Above the leaves: what is above that stays. */
	if (fork == cursor->above) {
		cursor->slot = slot;
		return tree_child(fork, slot);
	}
	cursor->above = NULL;
	for (node = step_down(cursor, fork, slot); node->level;)
		node = step_down(cursor, node, last ? node->count - 1u : 0);
	return node;
}

/*
 * The leaf whose span holds a key, and the last place on the way where there was a way to
 * the right (left) of it. The caller goes on to stand on a range, or nowhere.
 */
static const struct tree_node *descend(struct sheaf_tree_cursor *cursor, uint64_t key, bool down,
				       const struct tree_node **fork, uint32_t *fork_slot)
{
	const struct tree_node *node = tree_root(cursor->tree);
	uint32_t slot;

	*fork = NULL;
	cursor->above = NULL;
	cursor->state = ON_RANGE;
	while (node && node->level) {
		slot = tree_slot(tree_inner(node), key);
		if (down ? slot != 0 : slot + 1u < node->count) {
			*fork = node;
			*fork_slot = down ? slot - 1 : slot + 1;
		}
		node = step_down(cursor, node, slot);
		tree_prefetch(node);
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
		if (stand_up(cursor, node, key))
			return cursor->entry;
		if (!fork)
			return stand_nowhere(cursor, PAST_END);
		node = descend_side(cursor, fork, slot, false);
		if (stand_up(cursor, node, key))
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
		if (stand_down(cursor, node, key))
			return cursor->entry;
		if (!fork)
			return stand_nowhere(cursor, BEFORE_START);
		node = descend_side(cursor, fork, slot, true);
		if (stand_down(cursor, node, key))
			return cursor->entry;
	}
}

void *sheaf_tree_find_rcu(struct sheaf_tree_cursor *cursor, uint64_t key)
{
	return seek_up(cursor, key);
}

/* Leaves that a scan asks for before it comes to them. */
#define AHEAD 4

/* All lines of a node that is come to later. */
static void prefetch_whole(const struct tree_node *node)
{
	__builtin_prefetch(node);
	tree_prefetch(node);
}

/* The slot so many to the right (left) of one, or one that is too large. */
static uint32_t slot_beside(uint32_t slot, uint32_t n, bool down)
{
	return down ? slot - n : slot + n;
}

/* Near the end of a parent, with @p left leaves to come: ask for one below the next parent. */
static __attribute__((noinline)) void look_beyond(const struct sheaf_tree_cursor *cursor,
						  uint32_t left, bool down)
{
	const uint32_t slot = slot_beside(cursor->higher_slot, 1, down);
	const uint32_t rest = AHEAD - 1 - left;
	const struct tree_node *next;

	if (!cursor->higher || slot >= ((const struct tree_node *)cursor->higher)->count)
		return;
	next = tree_child(cursor->higher, slot);
	if (rest < next->count)
		prefetch_whole(tree_child(next, down ? next->count - 1u - rest : rest));
}

/* The first leaf below the parent beside; asks for the parent after that. */
static __attribute__((noinline)) const struct tree_node *
parent_beside(struct sheaf_tree_cursor *cursor, bool down)
{
	const struct tree_node *above, *higher = cursor->higher;
	uint32_t slot = slot_beside(cursor->higher_slot, 1, down);

	if (!higher || slot >= higher->count)
		return NULL;
	above = tree_child(higher, slot);
	cursor->above = above;
	cursor->slot = down ? above->count - 1u : 0;
	cursor->higher_slot = slot;
	slot = slot_beside(slot, 1, down);
	if (slot < higher->count)
		prefetch_whole(tree_child(higher, slot));
	return tree_child(above, cursor->slot);
}

/* The leaf beside, by the last two nodes on the way, as they were when the cursor came by
 * them; NULL if that leads no further. */
static inline const struct tree_node *leaf_beside(struct sheaf_tree_cursor *cursor, bool down)
{
	const struct tree_node *above = cursor->above;
	uint32_t slot = cursor->slot, left;

	if (unlikely(!above))
		return NULL;
	left = down ? slot : above->count - 1u - slot;
	if (unlikely(!left))
		return parent_beside(cursor, down);
	slot = slot_beside(slot, 1, down);
	cursor->slot = slot;
	if (likely(left > AHEAD))
		prefetch_whole(tree_child(above, slot_beside(slot, AHEAD, down)));
	else
		look_beyond(cursor, left - 1, down);
	return tree_child(above, slot);
}

/* Past the last range of a leaf: the leaf beside, or else from the root by key. */
void *sheaf_tree_next_leaf_rcu(struct sheaf_tree_cursor *cursor)
{
	const struct tree_node *node;
	uint64_t passed;

	if (unlikely(cursor->state != ON_RANGE)) {
		if (cursor->state == PAST_END)
			return NULL;
		if (cursor->state != PAUSED)
			return seek_up(cursor, 0);
		cursor->above = NULL;
	}
	passed = cursor->last;
	if (unlikely(passed == UINT64_MAX))
		return stand_nowhere(cursor, PAST_END);
	while ((node = leaf_beside(cursor, false))) {
		if (!stand_up(cursor, node, passed + 1))
			continue;
		if (unlikely(cursor->first <= passed))
			cursor->first = passed + 1;
		return cursor->entry;
	}
	if (seek_up(cursor, passed + 1) && cursor->first <= passed)
		cursor->first = passed + 1;
	return cursor->entry;
}

static void *prev_leaf(struct sheaf_tree_cursor *cursor)
{
	const uint64_t passed = cursor->first;
	const struct tree_node *node;

	if (!passed)
		return stand_nowhere(cursor, BEFORE_START);
	while ((node = leaf_beside(cursor, true))) {
		if (!stand_down(cursor, node, passed - 1))
			continue;
		if (cursor->last >= passed)
			cursor->last = passed - 1;
		return cursor->entry;
	}
	if (seek_down(cursor, passed - 1) && cursor->last >= passed)
		cursor->last = passed - 1;
	return cursor->entry;
}

void *sheaf_tree_prev_rcu(struct sheaf_tree_cursor *cursor)
{
	if (likely(cursor->state == ON_RANGE)) {
		const uint32_t next = next_place(cursor);

		if (next > 1)
			return stand_on(cursor, next - 2);
		return prev_leaf(cursor);
	}
	if (cursor->state == BEFORE_START)
		return NULL;
	if (cursor->state != PAUSED)
		return seek_down(cursor, UINT64_MAX);
	cursor->above = NULL;
	return prev_leaf(cursor);
}
