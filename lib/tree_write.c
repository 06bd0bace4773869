/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Writes: build what changes beside the tree, level by level from the leaves up, publish
 * it by one store, retire what it replaced. See the essay in tree.c.
 */
#include "tree_write.h"

#include <errno.h>

/* The paths to both ends of what is written. */
static void seek(struct tree_write *w, struct sheaf_tree *tree, uint64_t first, uint64_t last)
{
	const struct tree_step none = {.node = NULL, .lo = 0, .hi = UINT64_MAX};
	uint32_t level;

	w->tree = tree;
	w->sheaf = NULL;
	w->n_fresh = w->n_dead = w->n_doomed = 0;
	w->left.step[tree->height] = none;
	w->right.step[tree->height] = none;
	if (!tree->height)
		return;
	tree_descend(tree, first, &w->left);
	if (last > w->left.step[0].hi) {
		tree_descend(tree, last, &w->right);
		return;
	}
	for (level = 0; level < tree->height; level++)
		w->right.step[level] = w->left.step[level];
}

/* Is the write within one leaf? */
static bool one_leaf(const struct tree_write *w)
{
	return w->left.step[0].node && w->left.step[0].node == w->right.step[0].node;
}

/* Is any key of first .. last taken? A write over two leaves covers a pivot, which is. */
static bool taken(const struct tree_write *w, uint64_t first, uint64_t last)
{
	const struct tree_leaf *leaf = tree_leaf(w->left.step[0].node);
	uint32_t i;

	if (!leaf)
		return false;
	if (!one_leaf(w))
		return true;
	for (i = 0; i < leaf->head.count && leaf->last[i] < first; i++)
		;
	return i < leaf->head.count && leaf->first[i] <= last;
}

/* If the very range is there, its entry is replaced in place, and no node made. */
static bool replace_entry(struct tree_write *w, uint64_t first, uint64_t last, void *entry)
{
	struct tree_leaf *leaf = tree_leaf(w->left.step[0].node);
	uint32_t i;

	if (!one_leaf(w))
		return false;
	i = tree_place(leaf, first);
	if (i >= leaf->head.count || leaf->first[i] != first || leaf->last[i] != last)
		return false;
	/* Partner: tree_entry(). Publishes what the caller wrote to the entry. */
	store_release(&leaf->entry[i], entry);
	return true;
}

static void doom(struct tree_write *w, struct tree_inner *inner, uint32_t from, uint32_t to)
{
	if (from < to)
		w->doomed[w->n_doomed++] = (struct tree_doomed){inner, from, to};
}

/* Note the subtrees strictly between the two paths. */
static void doom_between(struct tree_write *w)
{
	uint32_t level;

	for (level = 1; level < w->tree->height; level++) {
		const struct tree_step *left = &w->left.step[level];
		const struct tree_step *right = &w->right.step[level];

		if (left->node == right->node) {
			doom(w, tree_inner(left->node), left->slot + 1, right->slot);
			return;
		}
		doom(w, tree_inner(left->node), left->slot + 1, left->node->count);
		doom(w, tree_inner(right->node), 0, right->slot);
	}
}

/* The two ends of what a write replaces on a level. */
static void bury_ends(struct tree_write *w, uint32_t level)
{
	struct tree_node *left = w->left.step[level].node;
	struct tree_node *right = w->right.step[level].node;

	tree_bury(w, left);
	if (right != left)
		tree_bury(w, right);
}

static void retire(struct sheaf_tree *tree, struct tree_node *node)
{
	if (!node->level)
		tree->entries -= node->count;
	tree->level_nodes[node->level]--;
	tree->nodes_retired++;
	sheaf_cache_free_rcu(tree->nodes, node);
}

/* Recursion is as deep as the tree is high. */
static void retire_subtree(struct sheaf_tree *tree, struct tree_node *node)
{
	uint32_t i;

	if (node->level)
		for (i = 0; i < node->count; i++)
			retire_subtree(tree, tree_inner(node)->child[i]);
	retire(tree, node);
}

/* After publication: count what is new, retire what is old. */
static void settle(struct tree_write *w)
{
	struct sheaf_tree *tree = w->tree;
	uint32_t i, child;

	for (i = 0; i < w->n_fresh; i++) {
		tree->level_nodes[w->fresh[i]->level]++;
		if (!w->fresh[i]->level)
			tree->entries += w->fresh[i]->count;
	}
	tree->nodes_made += w->n_fresh;
	for (i = 0; i < w->n_doomed; i++)
		for (child = w->doomed[i].from; child < w->doomed[i].to; child++)
			retire_subtree(tree, w->doomed[i].inner->child[child]);
	for (i = 0; i < w->n_dead; i++)
		retire(tree, w->dead[i]);
}

static void undo(struct tree_write *w)
{
	while (w->n_fresh)
		sheaf_cache_free(w->tree->nodes, w->fresh[--w->n_fresh]);
}

/* The new root, found on @p level: what stood above it is gone, and if it has but one
 * child, that is the root. */
static void publish_root(struct tree_write *w, uint32_t level, struct tree_node *root)
{
	struct sheaf_tree *tree = w->tree;

	while (++level < tree->height)
		bury_ends(w, level);
	while (root && root->level && root->count == 1) {
		tree_bury(w, root);
		root = tree_inner(root)->child[0];
	}
	/* Partner: tree_root(). Publishes all that is new below. */
	store_release(&tree->root, root);
	store_relaxed(&tree->height, root ? root->level + 1 : 0);
}

static void publish_child(struct tree_write *w, uint32_t level, const struct tree_item *item)
{
	const struct tree_step *above = &w->left.step[level + 1];

	/* Partner: tree_child(). Publishes all that is new below. */
	store_release(&tree_inner(above->node)->child[above->slot], item->what);
	tree_gaps_up(w->tree, &w->left, level + 1, item->gap);
}

/*
 * Climb from the leaves to where one pointer changes the tree from before to after: on
 * each level the nodes from left to right are to be replaced by those that are made of
 * the pool.
 */
static bool climb(struct tree_write *w)
{
	struct tree_items made;
	uint32_t level;

	for (level = 0;; level++) {
		const struct tree_step *left = &w->left.step[level];
		const struct tree_step *right = &w->right.step[level];
		bool borrowed;

		if (level < w->tree->height)
			bury_ends(w, level);
		borrowed = w->pool.n && w->pool.n < TREE_LEAST && !tree_step_edge(right);
		if (borrowed)
			tree_borrow(w, level);
		/* From the first to the last node of the level: nothing above is needed. */
		if (!left->lo && tree_step_edge(right) && w->pool.n <= (level ? 1u : 0u)) {
			publish_root(w, level, w->pool.n ? w->pool.item[0].what : NULL);
			return true;
		}
		if (!tree_divide(w, level, borrowed, &made))
			return false;
		if (!left->lo && tree_step_edge(right) && made.n == 1) {
			publish_root(w, level, made.item[0].what);
			return true;
		}
		if (left->node == right->node && made.n == 1 && made.item[0].last == right->hi) {
			publish_child(w, level, &made.item[0]);
			return true;
		}
		tree_gather_children(w, level + 1, &made);
	}
}

/* Replace the ranges in first .. last by one, or by a hole. */
static int replace(struct tree_write *w, uint64_t first, uint64_t last, void *entry)
{
	struct sheaf_tree *tree = w->tree;
	const uint64_t hi = w->right.step[0].hi;
	/* Where the span of the next leaf begins, if that has changed. */
	uint64_t next = w->left.step[0].lo;
	bool refresh = true;

	if (!entry && !taken(w, first, last))
		return 0;
	if (entry && replace_entry(w, first, last, entry)) {
		tree->writes++;
		return 0;
	}
	tree_gather_ranges(w, first, last, entry);
	if (w->pool.n) {
		const uint64_t end = w->pool.item[w->pool.n - 1].last;

		refresh = end < hi && !tree_step_edge(&w->right.step[0]);
		next = end + 1;
	}
	doom_between(w);
	if (!climb(w)) {
		undo(w);
		return -ENOMEM;
	}
	if (refresh && tree->root)
		tree_gaps_refresh(tree, next);
	settle(w);
	tree->writes++;
	return 0;
}

static int write_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint64_t first,
			uint64_t last, void *entry, bool insert)
{
	struct tree_write w;
	int err;

	if (first > last)
		return -EINVAL;
	seek(&w, tree, first, last);
	if (insert && taken(&w, first, last))
		return -EEXIST;
	if (prep) {
		if (!prep->writes || !sheaf_tree_prepared_locked(tree, prep))
			return -EAGAIN;
		w.sheaf = prep->sheaf;
	}
	err = replace(&w, first, last, entry);
	if (!err && prep)
		prep->writes--;
	return err;
}

int sheaf_tree_store_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint64_t first,
			    uint64_t last, void *entry)
{
	return write_locked(tree, prep, first, last, entry, false);
}

int sheaf_tree_store(struct sheaf_tree *tree, uint64_t first, uint64_t last, void *entry)
{
	int err;

	sheaf_tree_lock(tree);
	err = write_locked(tree, NULL, first, last, entry, false);
	sheaf_tree_unlock(tree);
	return err;
}

int sheaf_tree_insert_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint64_t first,
			     uint64_t last, void *entry)
{
	return entry ? write_locked(tree, prep, first, last, entry, true) : -EINVAL;
}

int sheaf_tree_insert(struct sheaf_tree *tree, uint64_t first, uint64_t last, void *entry)
{
	int err;

	sheaf_tree_lock(tree);
	err = sheaf_tree_insert_locked(tree, NULL, first, last, entry);
	sheaf_tree_unlock(tree);
	return err;
}

int sheaf_tree_erase_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint64_t key,
			    void **entry)
{
	const struct tree_leaf *leaf;
	struct tree_path path;
	void *old;
	uint32_t i;
	int err;

	if (!tree->height)
		return -ENOENT;
	tree_descend(tree, key, &path);
	leaf = tree_leaf(path.step[0].node);
	i = tree_place(leaf, key);
	if (i >= leaf->head.count || leaf->first[i] > key || leaf->last[i] < key)
		return -ENOENT;
	old = leaf->entry[i];
	err = write_locked(tree, prep, leaf->first[i], leaf->last[i], NULL, false);
	if (!err && entry)
		*entry = old;
	return err;
}

int sheaf_tree_erase(struct sheaf_tree *tree, uint64_t key, void **entry)
{
	int err;

	sheaf_tree_lock(tree);
	err = sheaf_tree_erase_locked(tree, NULL, key, entry);
	sheaf_tree_unlock(tree);
	return err;
}
