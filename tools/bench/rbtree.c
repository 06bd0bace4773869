/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Red-black: no red node has a red child, and every way from the top down meets the same
 * number of black ones. child[0] is below, child[1] above; each case is written once for
 * both sides. Read rotate() and gaps_update() first: they keep gap_most right, the one
 * where nodes change places, the other from a changed node to the top.
 */
#include "rbtree.h"

static bool is_red(const struct rb_range *node)
{
	return node && node->red;
}

static int side_of(const struct rb_range *node)
{
	return node->parent->child[1] == node;
}

static uint64_t gap_most_of(const struct rb_range *node)
{
	uint64_t most = node->gap;

	if (node->child[0] && node->child[0]->gap_most > most)
		most = node->child[0]->gap_most;
	if (node->child[1] && node->child[1]->gap_most > most)
		most = node->child[1]->gap_most;
	return most;
}

/* Up to the first that stays as it is. `all` goes on to the top. */
static void gaps_update(struct rb_range *node, bool all)
{
	for (; node; node = node->parent) {
		uint64_t most = gap_most_of(node);

		if (most == node->gap_most && !all)
			break;
		node->gap_most = most;
	}
}

/* Put `with` (or nothing) where `node` hangs. */
static void replace_below(struct rb_root *root, struct rb_range *node, struct rb_range *with)
{
	if (!node->parent)
		root->top = with;
	else
		node->parent->child[side_of(node)] = with;
	if (with)
		with->parent = node->parent;
}

/* The child on the other side comes up, node goes down to `side`. */
static void rotate(struct rb_root *root, struct rb_range *node, int side)
{
	struct rb_range *up = node->child[!side];

	replace_below(root, node, up);
	node->child[!side] = up->child[side];
	if (node->child[!side])
		node->child[!side]->parent = node;
	up->child[side] = node;
	node->parent = up;
	up->gap_most = node->gap_most;
	node->gap_most = gap_most_of(node);
}

struct rb_range *rb_step(const struct rb_range *node, int side)
{
	struct rb_range *next = node->child[side];

	if (next) {
		while (next->child[!side])
			next = next->child[!side];
		return next;
	}
	while (node->parent && side_of(node) == side)
		node = node->parent;
	return node->parent;
}

static void insert_balance(struct rb_root *root, struct rb_range *node)
{
	struct rb_range *parent, *grand, *uncle;
	int side;

	while (is_red(parent = node->parent)) {
		grand = parent->parent;
		side = side_of(parent);
		uncle = grand->child[!side];
		if (is_red(uncle)) {
			parent->red = uncle->red = false;
			grand->red = true;
			node = grand;
			continue;
		}
		if (side_of(node) != side) {
			rotate(root, parent, side);
			parent = node;
		}
		parent->red = false;
		grand->red = true;
		rotate(root, grand, !side);
		break;
	}
	root->top->red = false;
}

void rb_insert(struct rb_root *root, struct rb_range *node)
{
	struct rb_range **link = &root->top, *parent = NULL, *before, *after;

	while (*link) {
		parent = *link;
		link = &parent->child[node->first > parent->first];
	}
	node->parent = parent;
	node->child[0] = node->child[1] = NULL;
	node->red = true;
	*link = node;
	before = rb_step(node, 0);
	after = rb_step(node, 1);
	node->gap = node->first - (before ? before->last + 1 : 0);
	node->gap_most = node->gap;
	gaps_update(parent, false);
	if (after) {
		after->gap = after->first - node->last - 1;
		gaps_update(after, false);
	}
	insert_balance(root, node);
}

/* One black node is missing below parent, on the side where `node` (or nothing) hangs. */
static void erase_balance(struct rb_root *root, struct rb_range *node, struct rb_range *parent)
{
	struct rb_range *other;
	int side;

	while (parent && !is_red(node)) {
		side = parent->child[1] == node;
		other = parent->child[!side];
		if (is_red(other)) {
			other->red = false;
			parent->red = true;
			rotate(root, parent, side);
			other = parent->child[!side];
		}
		if (!is_red(other->child[0]) && !is_red(other->child[1])) {
			other->red = true;
			node = parent;
			parent = node->parent;
			continue;
		}
		if (!is_red(other->child[!side])) {
			other->child[side]->red = false;
			other->red = true;
			rotate(root, other, !side);
			other = parent->child[!side];
		}
		other->red = parent->red;
		parent->red = false;
		other->child[!side]->red = false;
		rotate(root, parent, side);
		return;
	}
	if (node)
		node->red = false;
}

void rb_erase(struct rb_root *root, struct rb_range *node)
{
	struct rb_range *after = rb_step(node, 1), *orphan, *parent;
	bool black;

	if (after)
		after->gap += node->gap + (node->last - node->first) + 1;
	if (node->child[0] && node->child[1]) {
		/* after is the lowest above: it has nothing below it and takes node's place. */
		black = !after->red;
		orphan = after->child[1];
		parent = after->parent;
		if (parent == node) {
			parent = after;
		} else {
			replace_below(root, after, orphan);
			after->child[1] = node->child[1];
			after->child[1]->parent = after;
		}
		replace_below(root, node, after);
		after->child[0] = node->child[0];
		after->child[0]->parent = after;
		after->red = node->red;
	} else {
		black = !node->red;
		orphan = node->child[node->child[0] ? 0 : 1];
		parent = node->parent;
		replace_below(root, node, orphan);
	}
	/* Two places changed on one way up; the lower one goes all the way. */
	gaps_update(parent, true);
	if (after)
		gaps_update(after, false);
	if (black)
		erase_balance(root, orphan, parent);
}

bool rb_highest_gap(const struct rb_root *root, uint64_t top, uint64_t size, uint64_t *at)
{
	const struct rb_range *node = root->top;

	if (!node) {
		*at = top - size;
		return top >= size;
	}
	while (node->child[1])
		node = node->child[1];
	if (top - node->last - 1 >= size) {
		*at = top - size;
		return true;
	}
	for (node = root->top; node && node->gap_most >= size;) {
		if (node->child[1] && node->child[1]->gap_most >= size) {
			node = node->child[1];
			continue;
		}
		if (node->gap >= size) {
			*at = node->first - size;
			return true;
		}
		node = node->child[0];
	}
	return false;
}

/* Black nodes on each way down; -1 if something is wrong. */
static int check_below(const struct rb_range *node, uint64_t *next)
{
	int below, above;

	if (!node)
		return 0;
	if (node->red && (is_red(node->child[0]) || is_red(node->child[1])))
		return -1;
	below = check_below(node->child[0], next);
	if (node->first < *next || node->gap != node->first - *next ||
	    node->gap_most != gap_most_of(node))
		return -1;
	*next = node->last + 1;
	above = check_below(node->child[1], next);
	if (below < 0 || below != above)
		return -1;
	return below + !node->red;
}

bool rb_check(const struct rb_root *root)
{
	uint64_t next = 0;

	return !is_red(root->top) && check_below(root->top, &next) >= 0;
}
