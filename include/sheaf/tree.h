/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/tree.h
 * A B-tree over non-overlapping inclusive ranges of uint64_t keys to any non-NULL
 * pointer. Readers run under RCU, take no lock and write nothing; one writer at a
 * time; writes between prepare and finish cannot fail for memory.
 *
 * The tree owns its nodes and never touches what the entries point to. Walks over its
 * ranges and holes, and writes by cursor, are in <sheaf/tree_cursor.h>, which comes with this.
 *
 * Which operations may run at the same time on one tree:
 *
 *	                  | _rcu, load | store, insert, | prepare, | create,
 *	                  |            | erase, gaps,   | finish   | destroy,
 *	                  |            | lock           |          | clear,check
 *	------------------+------------+----------------+----------+-----------
 *	_rcu, load        |    yes     |      yes       |   yes    |  no
 *	store .. lock     |    yes     |  they wait     |   yes    |  no
 *	prepare, finish   |    yes     |      yes       |   yes    |  no
 *	create .. check   |    no      |      no        |   no     |  no
 *
 * `_locked` forms run under sheaf_tree_lock(), or under a lock of the caller that
 * all writers of this tree share. `_rcu` forms run inside a read section of the
 * tree's grace-period source.
 *
 * One write is one moment: a load sees the tree before it or after it, never a
 * mixture, however many ranges the write replaced.
 */
#ifndef SHEAF_TREE_H
#define SHEAF_TREE_H

#include <sheaf/cache.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** Bytes of the objects that nodes are made of: what a cache for them must hand out. */
#define SHEAF_TREE_NODE_BYTES 256

/** No tree is higher than this, whatever its keys. */
#define SHEAF_TREE_HEIGHT_MAX 32

/** Most writes that one sheaf_tree_prepare() sets nodes aside for. */
#define SHEAF_TREE_WRITES_MAX 1024

/** A tree; library's memory. */
struct sheaf_tree;

/** The tree keeps for each subtree the size of its largest hole, so that the search for free
 *  keys goes straight there. Without it the search looks through all ranges of its window. */
#define SHEAF_TREE_GAPS 1u

/** Nobody reads while somebody writes: no `_rcu` form runs beside a store, insert or erase.
 *  Replaced nodes are used again at once, and no grace-period source is needed. */
#define SHEAF_TREE_ALONE 2u

/** How a tree is made; zero means default. */
struct sheaf_tree_attr {
	/** sizeof(struct sheaf_tree_attr); an older program has a smaller one. */
	size_t size;
	/** Grace-period source of the readers; must outlive the tree. Required, but for a tree
	 *  with SHEAF_TREE_ALONE. */
	struct sheaf_gp *gp;
	/** Cache for nodes, from sheaf_tree_nodes_create() or alike: objects of at least
	 *  SHEAF_TREE_NODE_BYTES, aligned to 64 bytes, same grace-period source. May
	 *  be shared by many trees and must outlive them. Default: one of its own. */
	struct sheaf_cache *nodes;
	/** SHEAF_TREE_GAPS, SHEAF_TREE_ALONE. */
	unsigned flags;
};

/** Counters of a tree; see sheaf_tree_stats(). */
struct sheaf_tree_stats {
	/** Ranges stored now. */
	uint64_t entries;
	/** Nodes in the tree now, and levels (0 when empty). */
	uint64_t nodes;
	uint32_t height;
	/** Since create: writes that changed something, nodes made and retired by them. */
	uint64_t writes;
	uint64_t nodes_made;
	uint64_t nodes_retired;
	/** Objects of SHEAF_TREE_NODE_BYTES in the tree now: a node is one, an inner node of a
	 *  tree with a gap index two. And since create those taken and retired. */
	uint64_t objects;
	uint64_t objects_made;
	uint64_t objects_retired;
	/** Leaves in the tree now. */
	uint64_t leaves;
};

/**
 * Make a cache that suits tree nodes.
 *
 * @param nodes written on success; end it with sheaf_cache_destroy() after the trees
 * @param gp grace-period source of the trees
 *
 * Context: any thread. Ordering: none. Progress: blocking (malloc).
 * Return: 0; -EINVAL; -ENOMEM.
 */
int sheaf_tree_nodes_create(struct sheaf_cache **nodes, struct sheaf_gp *gp);

/**
 * Make an empty tree. It takes no node before the first store.
 *
 * @param tree written on success; end it with sheaf_tree_destroy()
 * @param attr what for; not kept
 *
 * Context: any thread. Ordering: none. Progress: blocking (malloc).
 * Return: 0; -EINVAL if the source is missing or the objects of the node cache are
 *	too small (their alignment and source are not looked at); -ENOMEM.
 */
int sheaf_tree_create(struct sheaf_tree **tree, const struct sheaf_tree_attr *attr);

/**
 * End a tree and free its nodes at once. The entries stay the caller's.
 *
 * @param tree ended on success; on failure it is empty, and may be used or ended again
 *
 * Context: the only user of @p tree: no reader can reach it any more. A tree with a
 *	node cache of its own waits for a grace period, as sheaf_cache_destroy().
 * Ordering: none. Progress: blocking.
 * Return: 0; and only with a node cache of its own -EBUSY if what was prepared is not
 *	finished, or nodes were abandoned for want of memory (sheaf_cache_free_rcu() says
 *	when), -EDEADLK if the source cannot be waited for, see sheaf_gp_wait().
 */
int sheaf_tree_destroy(struct sheaf_tree *tree);

/**
 * Remove all ranges and free the nodes at once.
 *
 * Context: the only user of @p tree. Ordering: none. Progress: blocking.
 */
void sheaf_tree_clear(struct sheaf_tree *tree);

/**
 * Find the entry whose range holds a key, inside a read section.
 *
 * Context: a read section of the tree's source, or under the writer lock.
 * Ordering: acquires what the writer released when it stored the entry.
 * Progress: wait-free, O(height); no lock, no write, no retry.
 * Return: the entry; NULL if the key is in a hole. What it points to is alive until
 *	the section ends, if its owner retires it after removing it here.
 */
void *sheaf_tree_load_rcu(const struct sheaf_tree *tree, uint64_t key);

/**
 * As sheaf_tree_load_rcu(), in a read section of its own. Whoever uses what the
 * entry points to must know for other reasons that it stays alive.
 *
 * Context: a thread registered with the flavour. Ordering, Progress: as there.
 * Return: the entry; NULL if the key is in a hole.
 */
void *sheaf_tree_load(const struct sheaf_tree *tree, uint64_t key);

/**
 * Take and leave the tree's own writer lock; for `_locked` forms.
 *
 * Context: any thread; may block; not recursive. Ordering: as a mutex.
 * Progress: blocking.
 */
void sheaf_tree_lock(struct sheaf_tree *tree);
void sheaf_tree_unlock(struct sheaf_tree *tree);

/** Nodes set aside for writes that must not fail. In the caller's memory; fields are private. */
struct sheaf_tree_prep {
	struct sheaf *sheaf;
	uint32_t writes;
	uint32_t height;
	/* Of the tree after the last of these writes. */
	uint64_t moment;
	/* Objects in the sheaf beyond what was asked for, which a strict one does not give. */
	uint32_t surplus;
};

/**
 * Set nodes aside for @p writes writes, the worst case at the height that the tree has
 * now: for one write 3 objects a level, and with SHEAF_TREE_GAPS 6 for each but the lowest (1 if
 * empty, 4 at height 1 with gaps), which is the most that can happen; for more a proven sum that
 * allows for growth in between. Proof in lib/tree.c.
 *
 * @param tree which
 * @param prep written; to be finished whether used or not; one thread at a time
 * @param writes stores, inserts or erases to come, 1 to SHEAF_TREE_WRITES_MAX
 *
 * Context: any thread; with or without the writer lock. Blocks only in the backend.
 * Ordering: none. Progress: as sheaf_cache_prefill().
 * Return: 0; -ENOMEM or -EINVAL (nothing to finish then).
 */
int sheaf_tree_prepare(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint32_t writes);

/**
 * Do the nodes set aside still suffice? Ask once under the writer lock if others
 * could write between prepare and lock: a tree that has grown higher needs more. If
 * true, it stays so while all writes to the tree are those of @p prep.
 *
 * Context: under the writer lock. Ordering: none. Progress: wait-free.
 * Return: true if all writes left of @p prep are guaranteed.
 */
bool sheaf_tree_prepared_locked(const struct sheaf_tree *tree, const struct sheaf_tree_prep *prep);

/**
 * Give back what was set aside and not used.
 *
 * @param tree the one it was prepared for
 * @param prep must be prepared again before it is used again
 *
 * Context: any thread; as sheaf_cache_return(). Ordering: none. Progress: as there.
 */
void sheaf_tree_finish(struct sheaf_tree *tree, struct sheaf_tree_prep *prep);

/**
 * Store an entry over a range; what was there is overwritten, and ranges that reach
 * beyond it are cut or split.
 *
 * @param tree which
 * @param first first key of the range
 * @param last last key of the range, inclusive, at least @p first
 * @param entry any pointer; NULL erases the range
 *
 * Context: a thread that may block; not inside a read section.
 * Ordering: releases the caller's writes to whoever loads the entry.
 * Progress: blocking (writer lock, node cache).
 * Return: 0; -EINVAL if first > last; -ENOMEM (tree unchanged).
 */
int sheaf_tree_store(struct sheaf_tree *tree, uint64_t first, uint64_t last, void *entry);

/**
 * As sheaf_tree_store(), under the writer lock, with nodes that were set aside.
 *
 * @param tree which
 * @param prep from sheaf_tree_prepare(); counts as one write; NULL to allocate
 * @param first first key of the range
 * @param last last key, inclusive
 * @param entry any pointer; NULL erases the range
 *
 * Context: under the writer lock; may run inside a read section. With @p prep it
 *	neither blocks nor reaches the backend for nodes; nodes that it replaced
 *	are retired as sheaf_cache_free_rcu() does.
 * Ordering: as there. Progress: with @p prep lock-free, O(height + nodes overwritten).
 * Return: 0; -EINVAL if first > last; without @p prep -ENOMEM; with @p prep -EAGAIN
 *	if its writes are used up or sheaf_tree_prepared_locked() is false. Tree
 *	unchanged and no write counted on failure.
 */
int sheaf_tree_store_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint64_t first,
			    uint64_t last, void *entry);

/**
 * Store an entry over a range that is free.
 *
 * @param tree which
 * @param first first key of the range
 * @param last last key, inclusive
 * @param entry not NULL
 *
 * Context, Ordering, Progress: as sheaf_tree_store().
 * Return: 0; -EEXIST if any key of the range is taken; -EINVAL if first > last or
 *	@p entry is NULL; -ENOMEM. Tree unchanged on failure.
 */
int sheaf_tree_insert(struct sheaf_tree *tree, uint64_t first, uint64_t last, void *entry);

/**
 * As sheaf_tree_insert(), under the writer lock; see sheaf_tree_store_locked().
 *
 * Context, Ordering, Progress: as sheaf_tree_store_locked().
 * Return: as sheaf_tree_store_locked(), and -EEXIST (not counted as a write).
 */
int sheaf_tree_insert_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint64_t first,
			     uint64_t last, void *entry);

/**
 * Remove the one range that holds a key.
 *
 * @param tree which
 * @param key any key of the range
 * @param entry if not NULL, set to the entry that was removed
 *
 * Context, Ordering, Progress: as sheaf_tree_store().
 * Return: 0; -ENOENT if the key is in a hole; -ENOMEM. Tree unchanged on failure.
 */
int sheaf_tree_erase(struct sheaf_tree *tree, uint64_t key, void **entry);

/**
 * As sheaf_tree_erase(), under the writer lock; see sheaf_tree_store_locked().
 *
 * Context, Ordering, Progress: as sheaf_tree_store_locked().
 * Return: as sheaf_tree_store_locked(), and -ENOENT (not counted as a write).
 */
int sheaf_tree_erase_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep, uint64_t key,
			    void **entry);

/**
 * Erase all keys of a range; sheaf_tree_store() of NULL by another name.
 *
 * Context, Ordering, Progress, Return: as sheaf_tree_store().
 */
int sheaf_tree_erase_range(struct sheaf_tree *tree, uint64_t first, uint64_t last);

/**
 * As sheaf_tree_erase_range(), under the writer lock; see sheaf_tree_store_locked().
 *
 * Context, Ordering, Progress, Return: as sheaf_tree_store_locked().
 */
int sheaf_tree_erase_range_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep,
				  uint64_t first, uint64_t last);

/** One range, for arrays of them. */
struct sheaf_tree_range {
	/** First and last key, inclusive. */
	uint64_t first;
	uint64_t last;
	/** What the keys lead to. */
	void *entry;
};

/**
 * Copy all ranges of a window as they were at one moment, however many writes there were
 * meanwhile. Those that reach out of it are given whole.
 *
 * @param tree which
 * @param first lowest key of the window
 * @param last highest key, inclusive
 * @param ranges room for @p n
 * @param n most ranges to copy
 * @param got set to how many there are, also if that is more than @p n
 * @param retries how often to begin anew if the tree was written to meanwhile
 *
 * Context: a read section; or under the writer lock, where no retry is needed.
 * Ordering: as sheaf_tree_load_rcu(). Progress: wait-free, 1 + @p retries walks.
 * Return: 0; -EAGAIN if the tree was written to during each walk; -ENOBUFS if @p n is too
 *	small (@p got is right, and so are the first @p n); -EINVAL if first > last.
 */
int sheaf_tree_snapshot_range(const struct sheaf_tree *tree, uint64_t first, uint64_t last,
			      struct sheaf_tree_range *ranges, size_t n, size_t *got,
			      unsigned retries);

/**
 * Fill an empty tree from ranges in ascending order: full nodes, O(n).
 *
 * @param tree empty
 * @param ranges in ascending order, not overlapping, no entry NULL
 * @param n how many
 *
 * Context: takes the writer lock. Ordering: as sheaf_tree_store(), all at one moment.
 * Progress: blocking.
 * Return: 0; -EINVAL if they are not as they must be, -EEXIST if the tree is not empty,
 *	-ENOMEM (tree unchanged).
 */
int sheaf_tree_build(struct sheaf_tree *tree, const struct sheaf_tree_range *ranges, size_t n);

/**
 * Fill an empty tree with all ranges of another one, as they are at one moment: like
 * fork(). The trees share nothing but the entries.
 *
 * @param copy empty, not reachable by others; may have another node cache and other flags
 * @param tree whose writer lock is taken
 *
 * Context, Ordering, Progress: as sheaf_tree_build(); O(n).
 * Return: 0; -EEXIST if @p copy is not empty; -ENOMEM (it stays empty).
 */
int sheaf_tree_dup(struct sheaf_tree *copy, struct sheaf_tree *tree);

/** Which place to find among free keys. Zero: none, default, or the lowest. */
struct sheaf_tree_gap {
	/** Lowest and highest key of the window. */
	uint64_t min;
	uint64_t max;
	/** Keys wanted, at least 1. */
	uint64_t size;
	/** The place is a multiple of `align`, a power of two, plus `offset`, which is below it. */
	uint64_t align;
	uint64_t offset;
	/** The highest place instead of the lowest. */
	bool highest;
};

/**
 * Find a place where free keys in a row fit, under the writer lock.
 *
 * @param tree which
 * @param gap what for
 * @param at set to the first key of the place on success
 *
 * Context: under the writer lock. Ordering: none. Progress: wait-free.
 * Return: 0; -ENOSPC if nothing fits; -EINVAL.
 */
int sheaf_tree_gap_locked(struct sheaf_tree *tree, const struct sheaf_tree_gap *gap, uint64_t *at);

/**
 * As sheaf_tree_gap_locked(), inside a read section. The place was free at one moment since the
 * section began. That nothing fits is said of one such moment, too.
 *
 * Context, Ordering: as sheaf_tree_load_rcu(). Progress: wait-free, 4 searches at most.
 * Return: 0; -ENOSPC if there was a moment since the call began when nothing fitted; -EAGAIN
 *	if the tree was written to during each search, and none found a place: holes that were
 *	made, cut or joined by these writes may have been overlooked, and the one behind all
 *	ranges if several of them replaced the last leaf; -EINVAL.
 */
int sheaf_tree_gap_rcu(const struct sheaf_tree *tree, const struct sheaf_tree_gap *gap,
		       uint64_t *at);

/**
 * Find a place and store an entry there, as one write.
 *
 * @param tree which
 * @param gap what for
 * @param entry not NULL
 * @param at set to the first key of the place on success
 *
 * Context, Ordering, Progress: as sheaf_tree_store().
 * Return: 0; -ENOSPC, -EINVAL, -ENOMEM (tree unchanged).
 */
int sheaf_tree_store_gap(struct sheaf_tree *tree, const struct sheaf_tree_gap *gap, void *entry,
			 uint64_t *at);

/**
 * As sheaf_tree_store_gap(), under the writer lock; see sheaf_tree_store_locked().
 *
 * Context, Ordering, Progress: as sheaf_tree_store_locked().
 * Return: as sheaf_tree_store_gap() and sheaf_tree_store_locked().
 */
int sheaf_tree_store_gap_locked(struct sheaf_tree *tree, struct sheaf_tree_prep *prep,
				const struct sheaf_tree_gap *gap, void *entry, uint64_t *at);

/**
 * Find the lowest place where @p size free keys in a row fit.
 *
 * @param tree which
 * @param min lowest key of the window
 * @param max highest key of the window, inclusive
 * @param size keys wanted, at least 1
 * @param align the place is a multiple of it; a power of two, or 0 for any
 * @param at set to the first key of the place on success
 *
 * Context: takes the writer lock. Ordering: none. Progress: blocking, O(height) per
 *	candidate that the alignment rules out.
 * Return: 0; -ENOSPC if nothing fits; -EINVAL.
 */
int sheaf_tree_lowest_gap(struct sheaf_tree *tree, uint64_t min, uint64_t max, uint64_t size,
			  uint64_t align, uint64_t *at);

/**
 * As sheaf_tree_lowest_gap(), under the writer lock.
 *
 * Context: under the writer lock. Ordering: none. Progress: wait-free.
 * Return: as sheaf_tree_lowest_gap().
 */
int sheaf_tree_lowest_gap_locked(const struct sheaf_tree *tree, uint64_t min, uint64_t max,
				 uint64_t size, uint64_t align, uint64_t *at);

/**
 * Find the highest place where @p size free keys in a row fit; all else as
 * sheaf_tree_lowest_gap().
 *
 * Context, Ordering, Progress, Return: as sheaf_tree_lowest_gap().
 */
int sheaf_tree_highest_gap(struct sheaf_tree *tree, uint64_t min, uint64_t max, uint64_t size,
			   uint64_t align, uint64_t *at);

/**
 * As sheaf_tree_highest_gap(), under the writer lock.
 *
 * Context: under the writer lock. Ordering: none. Progress: wait-free.
 * Return: as sheaf_tree_lowest_gap().
 */
int sheaf_tree_highest_gap_locked(const struct sheaf_tree *tree, uint64_t min, uint64_t max,
				  uint64_t size, uint64_t align, uint64_t *at);

/**
 * Read the counters.
 *
 * Context: any thread; takes the writer lock. Ordering: none. Progress: blocking.
 */
void sheaf_tree_stats(struct sheaf_tree *tree, struct sheaf_tree_stats *stats);

/**
 * Do all invariants hold? They are listed in lib/tree.c.
 *
 * Context: no writer at the same time; for tests. Ordering: none.
 * Progress: wait-free, O(nodes).
 * Return: NULL if they hold, else a text that says what is wrong (static).
 */
const char *sheaf_tree_check(const struct sheaf_tree *tree);

/** Forms of sheaf_tree_dump(). */
enum sheaf_tree_form {
	/** Lines to read, indented by level. */
	SHEAF_TREE_TEXT,
	/** A graph for dot(1). */
	SHEAF_TREE_GRAPHVIZ
};

/**
 * Print the tree, node by node.
 *
 * @param tree which
 * @param form text to read, or Graphviz for dot(1)
 * @param out where to; check ferror() afterwards
 *
 * Context: no writer at the same time. Ordering: none. Progress: blocking
 *	(stdio); a cancellation point.
 * Return: 0; -EINVAL for an unknown form.
 */
int sheaf_tree_dump(const struct sheaf_tree *tree, enum sheaf_tree_form form, FILE *out);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#include <sheaf/tree_cursor.h>

#endif
