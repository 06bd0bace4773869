/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Writes. First in place, in one leaf; where that cannot be, build what changes beside the
 * tree, level by level from the leaves up, publish it by one store, retire what it
 * replaced. See the essay in tree.c.
 */
#include "tree_write.h"

#include "base/probe.h"

#include <errno.h>

/* The paths to both ends of what is written; w->left is there. */
static void begin(struct tree_write *w, struct sheaf_tree *tree, struct sheaf *sheaf, uint64_t last)
{
	const struct tree_step none = {.node = NULL, .lo = 0, .hi = UINT64_MAX};
	/* The root may be divided: one level more. */
	const uint32_t levels = tree->height + (tree->height < SHEAF_TREE_HEIGHT_MAX);
	uint32_t level;

	w->tree = tree;
	w->sheaf = sheaf;
	w->appended = false;
	w->n_fresh = w->n_dead = w->n_doomed = 0;
	w->nodes_made = w->entries_made = 0;
	w->left.step[tree->height] = none;
	w->right.step[tree->height] = none;
	w->levels = levels;
	for (level = 0; level < levels; level++)
		w->level_made[level] = 0;
	if (!tree->height)
		return;
	if (last > w->left.step[0].hi) {
		tree_descend(tree, last, &w->right);
		return;
	}
	for (level = 0; level < tree->height; level++)
		w->right.step[level] = w->left.step[level];
}

/* Does the write go behind all there is, and is the last leaf full enough to stay? */
static bool appends(const struct tree_write *w, uint64_t first, const void *entry)
{
	const struct tree_step *step = &w->left.step[0];
	const struct tree_leaf *leaf = tree_leaf(step->node);

	return entry && leaf && tree_step_edge(step) &&
	       leaf->head.count > tree_room(leaf->head.kind) * 3 / 4 && tree_leaf_end(leaf) < first;
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

	if (!level && w->appended)
		return;
	tree_bury(w, left);
	if (right != left)
		tree_bury(w, right);
}

static void release(struct sheaf_tree *tree, void *object)
{
	tree->objects_retired++;
	if (tree->readers)
		sheaf_cache_free_rcu(tree->nodes, object);
	else
		sheaf_cache_free(tree->nodes, object);
}

static void retire(struct sheaf_tree *tree, struct tree_node *node)
{
	tree->level_nodes[node->level]--;
	tree->nodes_retired++;
	if (!node->level) {
		tree->entries -= node->count;
	} else {
		struct tree_gaps *gaps = tree_inner(node)->gaps;

		if (gaps)
			release(tree, gaps);
	}
	release(tree, node);
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

	for (i = 0; i < w->levels; i++)
		tree->level_nodes[i] += w->level_made[i];
	tree->entries += w->entries_made;
	tree->nodes_made += w->nodes_made;
	tree->objects_made += w->n_fresh;
	tree->version++;
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

/* One node takes the place of one; its span may end earlier. */
static void publish_child(struct tree_write *w, uint32_t level, const struct tree_item *item)
{
	struct sheaf_tree *tree = w->tree;
	const struct tree_step *above = &w->left.step[level + 1];

	if (tree->gaps)
		tree_gaps_raise(tree, &w->left, level + 1, item->gap);
	/* Partner: tree_child(). Publishes all that is new below. */
	store_release(&tree_inner(above->node)->child[above->slot], item->what);
	if (item->last != w->right.step[level].hi)
		tree_lower_pivot(tree, &w->left, level, item->last);
	/* Partner: search_child(). It was no smaller before. */
	if (tree->gaps)
		store_release(&tree_inner(above->node)->gaps->gap[above->slot], item->gap);
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
		const uint32_t least = level ? TREE_LEAST : TREE_SPARSE;
		bool borrowed;

		if (level < w->tree->height)
			bury_ends(w, level);
		borrowed = w->pool.n && w->pool.n < least && !tree_step_edge(right);
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
		if (left->node == right->node && made.n == 1) {
			publish_child(w, level, &made.item[0]);
			return true;
		}
		tree_gather_children(w, level + 1, &made);
	}
}

/* What the last leaf of the region gives up will be of the next one; if the region is all of
 * the edge and nothing is left of it, of the one before. Before anything is published. */
static void give_holes(const struct tree_write *w)
{
	const struct tree_step *left = &w->left.step[0], *right = &w->right.step[0];
	const uint64_t next = w->pool.n ? w->pool.item[w->pool.n - 1].last + 1 : left->lo;

	if (!left->node)
		return;
	if (!tree_step_edge(right)) {
		if (next <= right->hi)
			tree_gaps_widen(w->tree, right->hi + 1, next, right->hi + 1);
	} else if (!w->pool.n && left->lo) {
		tree_gaps_widen(w->tree, left->lo - 1, left->lo - 1, UINT64_MAX);
	}
}

/* Replace the ranges in first .. last by one, or by a hole, where w->left begins. */
static int replace(struct tree_write *w, struct sheaf_tree *tree, struct sheaf *sheaf,
		   uint64_t first, uint64_t last, void *entry)
{
	begin(w, tree, sheaf, last);
	w->appended = appends(w, first, entry);
	tree_gather_ranges(w, first, last, entry);
	if (tree->gaps)
		give_holes(w);
	doom_between(w);
	if (!climb(w)) {
		PROBE(tree_no_memory, tree, w->n_fresh);
		undo(w);
		return -ENOMEM;
	}
	settle(w);
	PROBE(tree_replace, tree, w->n_fresh, w->n_dead);
	return 0;
}

/* May the write be done with what was set aside? Once that is so, it stays so while nobody
 * else writes: guarantee 9. */
static bool prepared(const struct sheaf_tree *tree, const struct sheaf_tree_prep *prep)
{
	bool is = prep->writes &&
		  (prep->moment == tree->moment || sheaf_tree_prepared_locked(tree, prep));

	if (!is)
		PROBE(tree_unprepared, tree, prep->writes);
	return is;
}

static void count_write(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, bool changed)
{
	tree->writes += changed;
	if (prep) {
		prep->writes--;
		prep->moment = tree->moment;
	}
}

enum { STORE, INSERT };

static int write_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint64_t first,
			uint64_t last, void *entry, int what)
{
	enum tree_tried tried = TREE_ELSEWHERE;
	struct tree_write w;
	int err = 0;

	if (first > last)
		return -EINVAL;
	if (tree->height) {
		/* cppcheck-suppress uninitvar ; the next call fills it in */
		const struct tree_step *step = &w.left.step[0];

		tree_descend(tree, first, &w.left);
		/* A write over two leaves covers a pivot, which is taken. */
		if (what == INSERT &&
		    (last > step->hi ||
		     tree_leaf_find(tree_leaf(step->node), step->node->live, first, last)))
			return -EEXIST;
	}
	if (prep && !prepared(tree, prep))
		return -EAGAIN;
	tree_moment_begin(tree);
	if (tree->height)
		tried = tree_leaf_store(tree, &w.left, first, last, entry);
	else if (!entry)
		tried = TREE_UNCHANGED;
	if (tried == TREE_ELSEWHERE)
		err = replace(&w, tree, prep ? prep->sheaf : NULL, first, last, entry);
	tree_moment_end(tree);
	if (err)
		return err;
	count_write(tree, prep, tried != TREE_UNCHANGED);
	return 0;
}

int sheaf_tree_store_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint64_t first,
			    uint64_t last, void *entry)
{
	return write_locked(tree, prep, first, last, entry, STORE);
}

int sheaf_tree_store(struct sheaf_tree *tree, uint64_t first, uint64_t last, void *entry)
{
	int err;

	sheaf_tree_lock(tree);
	err = write_locked(tree, NULL, first, last, entry, STORE);
	sheaf_tree_unlock(tree);
	return err;
}

int sheaf_tree_insert_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint64_t first,
			     uint64_t last, void *entry)
{
	return entry ? write_locked(tree, prep, first, last, entry, INSERT) : -EINVAL;
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
	enum tree_tried tried;
	struct tree_leaf *leaf;
	struct tree_write w;
	uint64_t last;
	uint32_t slot;
	void *old;
	int err = 0;

	if (!tree->height)
		return -ENOENT;
	tree_descend(tree, key, &w.left);
	leaf = tree_leaf(w.left.step[0].node);
	slot = tree_leaf_hold(leaf, leaf->head.live, key);
	if (!slot)
		return -ENOENT;
	slot = (uint32_t)__builtin_ctz(slot);
	if (prep && !prepared(tree, prep))
		return -EAGAIN;
	old = entry ? *tree_entry_at(leaf, slot) : NULL;
	key = tree_first(leaf, slot);
	last = tree_last(leaf, slot);
	tree_moment_begin(tree);
	tried = tree_leaf_erase(tree, &w.left, slot);
	if (tried == TREE_ELSEWHERE)
		err = replace(&w, tree, prep ? prep->sheaf : NULL, key, last, NULL);
	tree_moment_end(tree);
	if (err)
		return err;
	count_write(tree, prep, true);
	if (entry)
		*entry = old;
	return 0;
}

int sheaf_tree_erase(struct sheaf_tree *tree, uint64_t key, void **entry)
{
	int err;

	sheaf_tree_lock(tree);
	err = sheaf_tree_erase_locked(tree, NULL, key, entry);
	sheaf_tree_unlock(tree);
	return err;
}

int sheaf_tree_erase_range_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep,
				  uint64_t first, uint64_t last)
{
	return write_locked(tree, prep, first, last, NULL, STORE);
}

int sheaf_tree_erase_range(struct sheaf_tree *tree, uint64_t first, uint64_t last)
{
	return sheaf_tree_store(tree, first, last, NULL);
}
