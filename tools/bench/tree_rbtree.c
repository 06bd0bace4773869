/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The red-black tree behind a rwlock; its nodes come from malloc, outside the lock. */
#include "peers_in.h"
#include "rbtree.h"
#include "tree_locked.h"

#include <stdio.h>
#include <stdlib.h>

struct rb_tree {
	struct tree_lock lock;
	struct rb_root root;
};

static void *rb_setup(const struct bench_env *env)
{
	struct rb_tree *tree = aligned_alloc(64, sizeof(*tree));

	(void)env;
	if (!tree)
		return NULL;
	pthread_rwlock_init(&tree->lock.lock, NULL);
	tree->root.top = NULL;
	return tree;
}

static void rb_clear(void *ctx)
{
	struct rb_tree *tree = ctx;
	struct rb_range *node = tree->root.top, *up;

	while (node) {
		if (node->child[0]) {
			node = node->child[0];
		} else if (node->child[1]) {
			node = node->child[1];
		} else {
			up = node->parent;
			if (up)
				up->child[up->child[1] == node] = NULL;
			free(node);
			node = up;
		}
	}
	tree->root.top = NULL;
}

static void rb_teardown(void *ctx)
{
	struct rb_tree *tree = ctx;

	if (!rb_check(&tree->root)) {
		fprintf(stderr, "rbtree: an invariant is broken\n");
		abort();
	}
	rb_clear(ctx);
	free(ctx);
}

static void *rb_load(void *ctx, uint64_t key)
{
	struct rb_tree *tree = ctx;
	struct rb_range *node;
	void *value = NULL;

	tree_read_lock(&tree->lock);
	node = rb_find(&tree->root, key);
	if (node && node->first <= key)
		value = node->value;
	tree_unlock(&tree->lock);
	return value;
}

static struct rb_range *rb_new(void *value)
{
	struct rb_range *node = malloc(sizeof(*node));

	if (node)
		node->value = value;
	return node;
}

/* A range that is there exactly gets the new value. */
static bool rb_store(void *ctx, uint64_t first, uint64_t last, void *value)
{
	struct rb_tree *tree = ctx;
	struct rb_range *node = rb_new(value), *old;

	if (!node)
		return false;
	node->first = first;
	node->last = last;
	tree_write_lock(&tree->lock);
	old = rb_find(&tree->root, first);
	if (old && old->first == first) {
		old->value = value;
	} else {
		rb_insert(&tree->root, node);
		node = NULL;
	}
	tree_unlock(&tree->lock);
	free(node);
	return true;
}

static bool rb_erase_key(void *ctx, uint64_t key)
{
	struct rb_tree *tree = ctx;
	struct rb_range *node;
	bool found;

	tree_write_lock(&tree->lock);
	node = rb_find(&tree->root, key);
	found = node && node->first <= key;
	if (found)
		rb_erase(&tree->root, node);
	tree_unlock(&tree->lock);
	if (found)
		free(node);
	return found;
}

static uint64_t rb_scan(void *ctx, uint64_t from, uint64_t n, uint64_t *sum)
{
	struct rb_tree *tree = ctx;
	struct rb_range *node;
	uint64_t seen = 0;

	tree_read_lock(&tree->lock);
	for (node = rb_find(&tree->root, from); node && seen < n; node = rb_step(node, 1)) {
		*sum += (uintptr_t)node->value;
		seen++;
	}
	tree_unlock(&tree->lock);
	return seen;
}

static uint64_t rb_map(void *ctx, uint64_t top, uint64_t size, void *value)
{
	struct rb_tree *tree = ctx;
	struct rb_range *node = rb_new(value);
	uint64_t at = 0;

	if (!node)
		return 0;
	tree_write_lock(&tree->lock);
	if (rb_highest_gap(&tree->root, top, size, &at)) {
		node->first = at;
		node->last = at + size - 1;
		rb_insert(&tree->root, node);
	}
	tree_unlock(&tree->lock);
	return at;
}

static const struct tree_ops rb_ops = {
	.setup = rb_setup,
	.teardown = rb_teardown,
	.load = rb_load,
	.store = rb_store,
	.erase = rb_erase_key,
	.scan = rb_scan,
	.map = rb_map,
	.clear = rb_clear,
};

const struct bench_peer peer_rbtree = {.points = &rb_ops, .ranges = &rb_ops};
