/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * An intrusive red-black tree of ranges that do not overlap, with a gap index: what a
 * careful user writes for an address space. No locks, no allocation.
 *
 *	gap       free keys between a range and the one before it
 *	gap_most  the most of any gap in the subtree
 */
#ifndef BENCH_RBTREE_H
#define BENCH_RBTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rb_range {
	struct rb_range *parent;
	struct rb_range *child[2];
	uint64_t first;
	uint64_t last;
	uint64_t gap;
	uint64_t gap_most;
	void *value;
	bool red;
};

struct rb_root {
	struct rb_range *top;
};

/* The range that holds a key, or else the next one above; NULL past the end. */
static inline struct rb_range *rb_find(const struct rb_root *root, uint64_t key)
{
	struct rb_range *node = root->top, *best = NULL;

	while (node) {
		if (key <= node->last) {
			best = node;
			if (key >= node->first)
				break;
			node = node->child[0];
		} else {
			node = node->child[1];
		}
	}
	return best;
}

/* The next one: up (side 1) or down (side 0). */
struct rb_range *rb_step(const struct rb_range *node, int side);

/* first and last are set and free in the tree. */
void rb_insert(struct rb_root *root, struct rb_range *node);
void rb_erase(struct rb_root *root, struct rb_range *node);

/* The highest first key at which `size` free keys end below `top`; false if there is none.
 * Nothing in the tree reaches above top. */
bool rb_highest_gap(const struct rb_root *root, uint64_t top, uint64_t size, uint64_t *at);

/* Red-black, ordered, gaps right? For a build that checks. */
bool rb_check(const struct rb_root *root);

#endif
