/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Writes by cursor. A cursor that has written keeps the leaf, its span and the version of the
 * tree. As long as no node was replaced and no span has ended earlier, the leaf is still
 * there and the span still its own (it may begin earlier by now), so that a key of the span
 * goes there without a search.
 */
#include "tree_node.h"

#include <errno.h>

/* The writer's own tree: a cursor points to const for the readers' sake. */
static struct sheaf_tree *tree_of(const struct sheaf_tree_cursor *cursor)
{
	return (struct sheaf_tree *)cursor->tree;
}

/* A write that found no memory has changed nothing, but where nobody reads it may have put the
 * leaf in order under the cursor, which then goes on by its keys. */
static int failed(struct sheaf_tree_cursor *cursor, int err)
{
	if (err == -ENOMEM)
		sheaf_tree_cursor_pause(cursor);
	return err;
}

/* Remember the leaf of a key. */
static void keep(struct sheaf_tree_cursor *cursor, uint64_t key)
{
	const struct sheaf_tree *tree = cursor->tree;
	struct tree_path path;

	if (!tree->height)
		return;
	tree_descend(tree, key, &path);
	cursor->home = path.step[0].node;
	cursor->lo = path.step[0].lo;
	cursor->hi = path.step[0].hi;
	cursor->version = tree->version;
}

static bool put(struct sheaf_tree_cursor *cursor, uint64_t key, void *entry)
{
	struct sheaf_tree *tree = tree_of(cursor);
	struct tree_leaf *leaf = cursor->home;
	bool done;

	if (!leaf || cursor->version != tree->version || key < cursor->lo || key > cursor->hi ||
	    leaf->head.kind != TREE_KIND_POINTS || tree_leaf_hold(leaf, leaf->head.live, key))
		return false;
	tree_moment_begin(tree);
	done = tree_leaf_put(tree, leaf, key, entry);
	tree_moment_end(tree);
	tree->writes += done;
	return done;
}

int sheaf_tree_cursor_store_locked(struct sheaf_tree_cursor *cursor, uint64_t first, uint64_t last,
				   void *entry)
{
	int err;

	if (!entry || first != last || !put(cursor, first, entry)) {
		err = sheaf_tree_store_locked(tree_of(cursor), NULL, first, last, entry);
		if (err)
			return failed(cursor, err);
		keep(cursor, first);
	}
	tree_cursor_set(cursor, first, last, entry);
	return 0;
}

int sheaf_tree_cursor_store(struct sheaf_tree_cursor *cursor, uint64_t first, uint64_t last,
			    void *entry)
{
	struct sheaf_tree *tree = tree_of(cursor);
	int err;

	sheaf_tree_lock(tree);
	err = sheaf_tree_cursor_store_locked(cursor, first, last, entry);
	sheaf_tree_unlock(tree);
	return err;
}

int sheaf_tree_cursor_erase_locked(struct sheaf_tree_cursor *cursor)
{
	const uint64_t first = cursor->first, last = cursor->last;
	int err;

	if (!cursor->entry)
		return -ENOENT;
	err = sheaf_tree_store_locked(tree_of(cursor), NULL, first, last, NULL);
	if (err)
		return failed(cursor, err);
	tree_cursor_set(cursor, first, last, NULL);
	return 0;
}
