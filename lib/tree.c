/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A B-tree of ranges, copied where it changes.
 *
 * Sources: the B-tree (Bayer and McCreight 1972); replacing nodes instead of changing
 * them, published by one pointer, as in read-copy-update (McKenney and Slingwine 1998).
 *
 * Terms. A leaf holds ranges (level 0), an inner node holds subtrees. The span of a node
 * is the keys for which a search passes it. The pivots of an inner node part its span
 * among its children: child i has the keys above pivot i - 1 up to pivot i. A hole is a
 * largest run of free keys. The edge is the last node of each level: its span ends at
 * UINT64_MAX. F is the fan-out (TREE_FANOUT), L the least (TREE_LEAST), h the height.
 *
 * Invariants, at rest; sheaf_tree_check() tests them:
 *  I1  all leaves are on level 0, a child is one level below its parent, h is the level
 *      of the root plus one, 0 without a root
 *  I2  1 <= count <= F; L <= count off the edge; 2 <= count of an inner root
 *  I3  in a leaf first[i] <= last[i] < first[i + 1], all within the span; no entry is NULL
 *  I4  pivot i is the last key stored under child i
 *  I5  items past count are padding
 *  I6  gap i is the size of the largest hole in the span of child i
 *  I7  entries and level_nodes[] are what a walk counts
 *
 * How a write works. The paths to both ends of the written keys are searched. On each
 * level from the leaves up, the nodes from the left path to the right path, the region,
 * are to be replaced. What is to stay of the two outer nodes, with what was made one
 * level below between, is gathered in one pool. A pool below L, off the edge, takes in
 * a neighbour of the region. The pool is divided among as few nodes as hold it. That ends
 * where one node takes the place of one node with the same last key: the pointer to
 * it is replaced in its parent. Or at the root. Then gaps above are brought up to date in
 * place, the replaced nodes retired. A store over a range that is there as it is only
 * replaces the entry.
 *
 * Guarantees.
 *  1  Readers see each write as a whole. It is published by one store_release, of the
 *     root, of a child pointer or of an entry, and before it all that is new is
 *     complete. A load follows one path from the root, so it meets this pointer at
 *     most once, before or after.
 *  2  A load is wait-free: one pointer per level, no retry. The level is in the node, so
 *     root and height cannot disagree.
 *  3  Stale reads are harmless. Nobody changes a node that has been replaced: it goes on
 *     leading to what was below it then, and to later states of the nodes it shares with
 *     its successors. What takes the place of a child has the span and the last key
 *     that the child had. So whatever node a reader has come by, each key of its span
 *     leads to a state that this key had at some time since the read section began, and
 *     below each child there is a range.
 *  4  What a reader can reach is alive. A node is retired after the store that unlinks it,
 *     and only a reader that came before that store can reach it.
 *  5  A scan goes strictly up (down) and its ranges never overlap: within a leaf
 *     because its ranges are constant, and between leaves because it seeks the key after
 *     (before) the range last seen and cuts what reaches back. Ranges not written to
 *     meanwhile are seen once: I4 holds for every node that a reader can come by, so
 *     the next range is in the leaf which it seeks, or is the last one left of it.
 *  6  Writes fail before they change anything: all nodes are taken first.
 *  7  h <= 32. Level i has more than L times as many nodes as level i + 1 has beyond
 *     one, because all nodes but the last have L children or more; and there are two
 *     nodes on the level below the root. So there are more than L^(h - 2) leaves and
 *     L^(h - 1) ranges, at most 2^64, and L is 4.
 *  8  A write makes at most 3h nodes (1 if h is 0), and at most 3h - 2 if the tree
 *     does not grow higher. This is the largest number that can happen, for each h.
 *
 * Proof of 8. Let m be the nodes made on a level. Claim: m <= 2 if the region is one
 * node, m <= 3 if it is more; that is, the level gains at most one node.
 *  - Leaves, one: a range is cut in two and one put between, F + 2 <= 2F ranges.
 *  - Leaves, more: F cut, one new, F cut, 2F + 1 <= 3F.
 *  - Inner, one, above a region of one: F - 1 stay, 2 come, F + 1 <= 2F.
 *  - Inner, one, above more: at most F - 2 stay, 3 come, F + 1.
 *  - Inner, more: F - 1, 3, F - 1: 2F + 1.
 *  - A pool below L that borrows: L - 1 + F <= 2F, m <= 2, and the region is now more.
 * The root's level is a region of one. If it makes 2, there is one more node above. So
 * 3(h - 1) + 2 + 1, or 3(h - 1) + 1 without growth. If the region is a whole level below
 * the root, m of it is at most 3 and one node holds them: fewer. Attained: with all
 * nodes full and all ranges longer than 2 keys, a store from within the last range under
 * one child of the root into the first range under the next one (for h of 1: within a
 * range).
 *
 * Several writes in a row. Of writes that begin at height h, the level of the root gains
 * one node at most with each, and when p writes are done it has at most p + 1. By the
 * count in 7 a tree that is g levels higher has more than L^(g - 1) there. So it has
 * grown by at most g(p) levels, g(p) the number of j >= 0 with L^j <= p, and n writes
 * make at most
 *
 *	sum over p < n of (3(h + g(p)) - 2)  +  2 g(n)
 *
 * nodes: 3h for one. For more than one it is an upper bound, and not always attained: the
 * writes would have to find full nodes each time. It is told from the present state that
 * it still holds: with w writes left and p the nodes on that level beyond one, what is
 * left must be the same sum over p .. p + w - 1, and 2 (g(p + w) - g(p)). After each
 * write of one's own that is so again: the sum loses 3(h + g(p)) - 2, and 2 more if
 * g(p + 1) > g(p); the height is at most h + g(p), and if the write made it grow without
 * g growing, it was at most h + g(p) - 1. A first write into an empty tree makes one node,
 * and then h is 1.
 *
 * Orders. Three stores publish, each a release with an acquire for partner:
 * publish_root() and tree_root(), publish_child() and tree_child(), replace_entry() and
 * tree_entry(). All else that readers see is constant by then. The height is a hint outside of
 * the writer lock: relaxed, publish_root() and sheaf_tree_prepare().
 *
 * Read climb() and tree_divide() first.
 */
#include "tree_node.h"

#include "base/attr.h"
#include "base/memory.h"

int sheaf_tree_nodes_create(struct sheaf_cache **nodes, struct sheaf_gp *gp)
{
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = SHEAF_TREE_NODE_BYTES,
		.object_align = CACHE_LINE,
		.name = "tree-node",
		.gp = gp,
	};

	return nodes && gp ? sheaf_cache_create(nodes, &attr) : -EINVAL;
}

static bool nodes_fit(struct sheaf_cache *nodes)
{
	struct sheaf_cache_stats stats;

	sheaf_cache_stats(nodes, &stats);
	return stats.object_size >= SHEAF_TREE_NODE_BYTES;
}

int sheaf_tree_create(struct sheaf_tree **tree, const struct sheaf_tree_attr *attr)
{
	struct sheaf_tree_attr a;
	struct sheaf_tree *t;
	int err = -ENOMEM;

	if (!tree || !attr || attr_copy(&a, sizeof(a), attr, attr->size, sizeof(a)) || !a.gp ||
	    (a.nodes && !nodes_fit(a.nodes)))
		return -EINVAL;
	t = memory_zalloc(CACHE_LINE, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->gp = a.gp;
	t->nodes = a.nodes;
	if (!t->nodes) {
		err = sheaf_tree_nodes_create(&t->nodes, a.gp);
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
static void free_subtree(struct sheaf_tree *tree, struct tree_node *node)
{
	uint32_t i;

	if (node->level)
		for (i = 0; i < node->count; i++)
			free_subtree(tree, tree_inner(node)->child[i]);
	tree->level_nodes[node->level]--;
	sheaf_cache_free(tree->nodes, node);
}

void sheaf_tree_clear(struct sheaf_tree *tree)
{
	if (tree->root)
		free_subtree(tree, tree->root);
	tree->root = NULL;
	tree->height = 0;
	tree->entries = 0;
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
	};
	for (level = 0; level < tree->height; level++)
		stats->nodes += tree->level_nodes[level];
	sheaf_tree_unlock(tree);
}

void tree_descend(const struct sheaf_tree *tree, uint64_t key, struct tree_path *path)
{
	struct tree_step *step = &path->step[tree->height - 1];

	*step = (struct tree_step){.node = tree->root, .lo = 0, .hi = UINT64_MAX};
	for (; step->node->level; step--) {
		step->slot = tree_slot(tree_inner(step->node), key);
		tree_step_down(step - 1, step, step->slot);
	}
}

/* g(p) of guarantee 8. */
static uint64_t growth(uint64_t p)
{
	uint64_t levels = 0;

	for (; p; p /= TREE_LEAST)
		levels++;
	return levels;
}

/* The sum of g(i) over i < p: each power L^j below p counts for the i from it to p - 1.
 * Large sums wrap; differences of two are right. */
static uint64_t growth_sum(uint64_t p)
{
	uint64_t power, sum = 0;

	for (power = 1; power < p; power *= TREE_LEAST) {
		sum += p - power;
		if (power > UINT64_MAX / TREE_LEAST)
			break;
	}
	return sum;
}

uint64_t tree_bound(uint32_t height, uint64_t extra, uint32_t writes)
{
	const uint64_t end = extra + writes;

	if (!writes)
		return 0;
	if (!height)
		return 1 + tree_bound(1, 0, writes - 1);
	return (uint64_t)writes * (3u * height - 2) + 3 * (growth_sum(end) - growth_sum(extra)) +
	       2 * (growth(end) - growth(extra));
}

int sheaf_tree_prepare(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint32_t writes)
{
	/* Partner: publish_root(). Stale is as if the tree had changed just after. */
	const uint32_t height = load_relaxed(&tree->height);

	if (!writes || writes > SHEAF_TREE_WRITES_MAX)
		return -EINVAL;
	*prep = (struct sheaf_tree_prep){.writes = writes, .height = height};
	prep->sheaf = sheaf_cache_prefill(tree->nodes, (uint32_t)tree_bound(height, 0, writes),
					  SHEAF_STRICT);
	return prep->sheaf ? 0 : -ENOMEM;
}

bool sheaf_tree_prepared_locked(const struct sheaf_tree *tree, const struct sheaf_tree_prep *prep)
{
	uint32_t height = prep->height;
	uint64_t level_nodes;

	if (!prep->sheaf)
		return false;
	/* Prepared for an empty tree: it has a leaf now, or is still empty. */
	if (!height && tree->height)
		height = 1;
	level_nodes = height ? tree->level_nodes[height - 1] : 0;
	return tree_bound(height, level_nodes ? level_nodes - 1 : 0, prep->writes) <=
	       sheaf_size(prep->sheaf);
}

void sheaf_tree_finish(struct sheaf_tree *tree, struct sheaf_tree_prep *prep)
{
	sheaf_cache_return(tree->nodes, prep->sheaf);
	*prep = (struct sheaf_tree_prep){.sheaf = NULL};
}
