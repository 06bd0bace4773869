/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A B-tree of ranges, whose leaves are changed in place and whose inner nodes are copied.
 *
 * Sources: the B-tree (Bayer and McCreight 1972); replacing nodes instead of changing
 * them, published by one pointer, as in read-copy-update (McKenney and Slingwine 1998).
 *
 * Terms. A leaf holds ranges (level 0), an inner node holds subtrees. The span of a node
 * is the keys for which a search passes it. The pivots of an inner node part its span
 * among its children: child i has the keys above pivot i - 1 up to pivot i. A hole is a
 * largest run of free keys. The edge is the last node of each level: its span ends at
 * UINT64_MAX. A leaf has slots, 15 for single keys (points) or 10 for ranges; the live word
 * of a leaf names those in use. F is the fan-out (TREE_FANOUT), L the least (TREE_LEAST)
 * of inner nodes, P, R and S slots for points and for ranges and the least of a leaf
 * (TREE_POINTS, TREE_RANGES, TREE_SPARSE), h the height, c the objects of an inner node: 1,
 * or 2 with a gap index.
 *
 * Invariants, at rest; sheaf_tree_check() tests them:
 *  I1  all leaves are on level 0, a child is one level below its parent, h is the level
 *      of the root plus one, 0 without a root
 *  I2  an inner node has 1 to F children, L or more off the edge, 2 or more as the root; a
 *      leaf has a live range, S or more off the edge, and count of them
 *  I3  the live ranges of a leaf do not overlap and are within the span; no entry is NULL
 *  I4  pivot i is the last key stored under child i
 *  I5  order lists the used slots of a leaf by their first keys, and live slots are used
 *      ones; what is past count in an inner node or past used in a leaf is padding
 *  I6  no hole in the span of child i is larger than gap i, and for an inner child none of
 *      its gaps is
 *  I7  entries and level_nodes[] are what a walk counts
 *
 * How a write works. The path to its first key is searched. If all its keys are in the span
 * of that leaf, the slots that are not used yet suffice for what is new (the range, and
 * what is left before and behind it of ranges that it cuts), and the leaf is left with S
 * ranges or more, it is done in place: the new slots are written, put into the order, and
 * one store of live takes them in and the overwritten ones out. If the last range of the leaf
 * was erased, the pivot behind it is lowered to the one before, by I4. A slot that live has
 * named is not written again, but for the entry of a store to the very same range.
 *
 * Else nodes are replaced. The path to the last key is searched, too. On each
 * level from the leaves up, the nodes from the left path to the right path, the region,
 * are to be replaced. What is to stay of the two outer nodes, with what was made one
 * level below between, is gathered in one pool. A pool below the least, off the edge, takes
 * in a neighbour of the region. The pool is divided among as few nodes as hold it; but one
 * leaf with next to no slot left makes two. That ends where one node takes the place
 * of one: the pointer to it is replaced in its parent, and if it ends earlier, the pivot
 * lowered. Or at the root. Gaps are raised before that where a hole will grow, and the
 * replaced nodes retired after it. Behind the last range of all a full leaf is kept, and a new
 * one made beside it.
 *
 * Guarantees.
 *  1  Readers see each write as a whole. It is published by one store_release: of a live
 *     word, of an entry, of a child pointer, or of the root; and before it all that is new is
 *     complete. A load follows one path from the root and loads one live word, so it
 *     meets this store at most once, before or after. (Lowering a pivot changes what no
 *     key leads to: see 3.)
 *  2  A load is wait-free: one pointer per level and one live word, no retry. The level is in
 *     the node, so root and height cannot disagree.
 *  3  Stale reads are harmless. Whatever node a reader has come by, each key of the span by
 *     which it came leads to a state that this key had at some time since the read section
 *     began.
 *     - Nobody changes a node that has been replaced: it goes on leading to what was below
 *       it then, and to later states of the nodes it shares with its successors.
 *     - What takes the place of a child has the span that the child had, or ends earlier; and
 *       the span of a node that stays ends earlier by a lowered pivot, or begins earlier when
 *       what is left of it is gone. So the span by which the reader came may have keys
 *       that the node has given up. They were free when it gave them up, which was after
 *       the reader came by, and nobody has stored them into this node since: the
 *       reader finds them free, as they were at that moment. (Unless it is the edge by now
 *       and has got them back; then it has their present state.)
 *     - A reader that has the new pivot goes to the next node, where the key is free as
 *       well, or stored later than the pivot was lowered. As a pivot is only ever lowered,
 *       to the last key that is left under the child, the pivots of a node are in order at each
 *       moment, and whichever of two values of some of them a search has compared, it is led
 *       to a child whose span has the key or had it since the search began.
 *  4  What a reader can reach is alive. A node is retired after the store that unlinks it,
 *     and only a reader that came before that store can reach it, or what hung below it.
 *  5  A reader that has loaded live finds the slots that it names: they were written, and put
 *     into the order, before the store of live that first named them, and are not
 *     written again. The order may be later than live, with more slots; those that were there
 *     have kept theirs, so that what live names is in order. Of slots that live does not name
 *     a load compares what happens to be there, and masks the result.
 *  6  A scan goes strictly up (down) and its ranges never overlap: within a leaf because
 *     the cursor keeps the live word by which it came, and between leaves because it looks for
 *     the key after (before) the range last seen and cuts what reaches back. It goes from leaf
 *     to leaf by the parent that it has come by, from parent to parent by the node above that,
 *     both of which 3 allows for, and by the root after that. Ranges not written to
 *     meanwhile are seen once: the next one is in the leaf whose span has the key, or, if that
 *     has been lowered meanwhile, right of it.
 *  7  Writes fail before they change anything: all objects are taken first. A write in place
 *     takes none.
 *  8  h <= 32. Level i has more than L (leaves: S) times as many items as level i has nodes
 *     beyond one, because all nodes but the last have that many or more; and there are
 *     two nodes on the level below the root. So there are more than S L^(h - 2)
 *     ranges, at most 2^64, and L and S are 4.
 *  9  A write takes at most W+(h) objects, and at most W(h) if the tree does not grow higher:
 *
 *         h     0     1         2 and more
 *         W     1     1         3 + 3c(h - 2) + c
 *         W+          2 + c     3 + 3c(h - 2) + 3c
 *
 *     These are the largest numbers that can happen, for each h.
 *
 * Proof of 9. Let m be the nodes made on a level. Claim: m <= 2 if the region is one
 * node, m <= 3 if it is more; that is, the level gains at most one node.
 *  - Leaves, one, of ranges: a range is cut in two and one put between, R + 2 <= 2R.
 *  - Leaves, one, of points: P + 1 <= 2R, if the new one is a range; P + 1 points else.
 *  - Leaves, more: the left one loses its last key, as a pivot is stored and overwritten.
 *    Ranges: R, one new, R, 2R + 1 <= 3R. Points: P - 1, one new, P, 2P <= 3R.
 *  - Leaves, a pool below S that borrows: S - 1 + P <= 2R, m <= 2, and the region is now more.
 *  - A leaf that makes two for want of free slots is one of a region that made one.
 *  - Inner, one, above a region of one: F - 1 stay, 2 come, F + 1 <= 2F.
 *  - Inner, one, above more: at most F - 2 stay, 3 come, F + 1.
 *  - Inner, more: F - 1, 3, F - 1: 2F + 1.
 *  - Inner, a pool below L that borrows: L - 1 + F <= 2F, m <= 2, and the region is more.
 * The root's level is a region of one. If it makes 2, there is one more node above. So for
 * h >= 2: 3 leaves, 3 nodes on each of h - 2 levels, and 1, or 2 and one above. If the
 * region is a whole level below the root, m of it is at most 3 and one node holds them:
 * fewer. Attained: with all nodes full and all ranges longer than 2 keys, a store from within
 * the last range under one child of the root into the first range under the next one (for h
 * of 1: within a range).
 *
 * By kind: what is done in place takes nothing, an append 1 leaf, a leaf copied for want of
 * slots 1, a leaf that is divided 2, and c for each inner node above up to the first one with
 * room, 2c for each that is full; a merge 1 or 2 leaves and c, and as much for each level
 * whose node falls below the least in turn; a store over many leaves what 9 says.
 *
 * Several writes in a row. Of writes that begin at height h, the level of the root gains
 * one node at most with each, and when p writes are done it has at most p + 1. By the
 * count in 8 a tree that is g levels higher has more than L^(g - 1) there. So it has
 * grown by at most g(p) levels, g(p) the number of j >= 0 with L^j <= p, and n writes
 * take at most
 *
 *	sum over p < n of W(h + g(p))  +  sum over j of (W+ - W)(h + j), g(0) <= j < g(n)
 *
 * objects: W+(h) for one. For more than one it is an upper bound, and not always attained:
 * the writes would have to find full nodes each time. It is told from the present state that
 * it still holds: with w writes left and p the nodes on that level beyond one, what is
 * left must be the same sum over p .. p + w - 1, and g(p) <= j < g(p + w). After each
 * write of one's own that is so again: the sum loses W(h + g(p)), and W+ - W if g(p + 1) >
 * g(p); the height is at most h + g(p), and if the write made it grow without g growing, it
 * was at most h + g(p) - 1, and W+ of that is no more than W(h + g(p)). A first write into
 * an empty tree makes one leaf, and then h is 1.
 *
 * Orders. Four stores publish, each a release with an acquire for partner: publish() and
 * tree_live(), publish_root() and tree_root(), publish_child() and tree_child(), the entry
 * replaced in tree_leaf_store() and tree_entry(). What else readers see is constant by
 * then, but for three words whose value is all they say: pivots (3), which are
 * lowered with release for the search for free keys alone (tree_gap.c); the order of a leaf, and
 * slots that live does not name yet (5). The height is a hint outside of the writer lock:
 * relaxed, publish_root() and sheaf_tree_prepare().
 *
 * Read tree_leaf_store(), climb() and tree_divide() first.
 */
#include "tree_write.h"

#include "base/attr.h"
#include "base/memory.h"

static int nodes_create(struct sheaf_cache **nodes, struct sheaf_gp *gp)
{
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = SHEAF_TREE_NODE_BYTES,
		.object_align = CACHE_LINE,
		.name = "tree-node",
		.gp = gp,
	};

	return sheaf_cache_create(nodes, &attr);
}

int sheaf_tree_nodes_create(struct sheaf_cache **nodes, struct sheaf_gp *gp)
{
	return nodes && gp ? nodes_create(nodes, gp) : -EINVAL;
}

static bool nodes_fit(struct sheaf_cache *nodes)
{
	struct sheaf_cache_stats stats;

	sheaf_cache_stats(nodes, &stats, sizeof(stats));
	return stats.object_size >= SHEAF_TREE_NODE_BYTES;
}

int sheaf_tree_create(struct sheaf_tree **tree, const struct sheaf_tree_attr *attr)
{
	struct sheaf_tree_attr a;
	struct sheaf_tree *t;
	int err = -ENOMEM;

	if (!tree || !attr ||
	    attr_copy(&a, sizeof(a), attr, attr->size, offsetof(struct sheaf_tree_attr, flags)) ||
	    (a.flags & ~(SHEAF_TREE_GAPS | SHEAF_TREE_ALONE)) ||
	    (!a.gp && !(a.flags & SHEAF_TREE_ALONE)) || (a.nodes && !nodes_fit(a.nodes)))
		return -EINVAL;
	t = memory_zalloc(CACHE_LINE, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->gp = a.gp;
	t->nodes = a.nodes;
	t->gaps = a.flags & SHEAF_TREE_GAPS;
	t->readers = !(a.flags & SHEAF_TREE_ALONE);
	if (!t->nodes) {
		err = nodes_create(&t->nodes, a.gp);
		if (err)
			goto free;
		t->own_nodes = true;
	}
	err = -pthread_mutex_init(&t->lock, NULL);
	if (err)
		goto destroy;
	*tree = t;
	return 0;
destroy:
	if (t->own_nodes)
		sheaf_cache_destroy(t->nodes, NULL);
free:
	memory_free(t);
	return err;
}

/* Recursion is as deep as the tree is high. */
void tree_free_subtree(struct sheaf_tree *tree, struct tree_node *node)
{
	uint32_t i;

	tree->level_nodes[node->level]--;
	if (node->level) {
		for (i = 0; i < node->count; i++)
			tree_free_subtree(tree, tree_inner(node)->child[i]);
		sheaf_cache_free(tree->nodes, tree_inner(node)->gaps);
	}
	sheaf_cache_free(tree->nodes, node);
}

void sheaf_tree_clear(struct sheaf_tree *tree)
{
	if (tree->root)
		tree_free_subtree(tree, tree->root);
	tree->root = NULL;
	tree->height = 0;
	tree->entries = 0;
	tree->version++;
}

int sheaf_tree_destroy(struct sheaf_tree *tree)
{
	int err;

	sheaf_tree_clear(tree);
	if (tree->own_nodes) {
		err = sheaf_cache_destroy(tree->nodes, NULL);
		if (err)
			return err;
	}
	pthread_mutex_destroy(&tree->lock);
	memory_free(tree);
	return 0;
}

void sheaf_tree_lock(struct sheaf_tree *tree)
{
	pthread_mutex_lock(&tree->lock);
}

void sheaf_tree_unlock(struct sheaf_tree *tree)
{
	pthread_mutex_unlock(&tree->lock);
}

void sheaf_tree_stats(struct sheaf_tree *tree, struct sheaf_tree_stats *stats)
{
	uint32_t level;

	sheaf_tree_lock(tree);
	*stats = (struct sheaf_tree_stats){
		.entries = tree->entries,
		.height = tree->height,
		.writes = tree->writes,
		.nodes_made = tree->nodes_made,
		.nodes_retired = tree->nodes_retired,
		.objects_made = tree->objects_made,
		.objects_retired = tree->objects_retired,
	};
	for (level = 0; level < tree->height; level++) {
		stats->nodes += tree->level_nodes[level];
		stats->objects += tree->level_nodes[level] * (level ? tree_objects(tree) : 1);
	}
	stats->leaves = tree->level_nodes[0];
	sheaf_tree_unlock(tree);
}

void tree_descend(const struct sheaf_tree *tree, uint64_t key, struct tree_path *path)
{
	struct tree_step *step = &path->step[tree->height - 1];
	struct tree_node *node = tree->root;
	uint64_t lo = 0, hi = UINT64_MAX;

	for (;; step--) {
		const struct tree_inner *inner = tree_inner(node);
		uint32_t slot;

		step->node = node;
		step->lo = lo;
		step->hi = hi;
		if (!node->level)
			return;
		slot = tree_slot(inner, key);
		step->slot = slot;
		node = inner->child[slot];
		tree_prefetch(node);
		if (slot)
			lo = inner->pivot[slot - 1] + 1;
		/* The last child ends where its parent does. */
		if (slot + 1u < inner->head.count)
			hi = inner->pivot[slot];
	}
}
