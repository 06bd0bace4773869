/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/tree_cursor.h
 * Cursors over a tree: readers walk over ranges and holes, writers store and erase where
 * they stand. Part of <sheaf/tree.h>, whose table says what may run at the same time.
 * A cursor is used by one thread at a time.
 */
#ifndef SHEAF_TREE_CURSOR_H
#define SHEAF_TREE_CURSOR_H

#include <sheaf/tree.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/**
 * A place in a tree, in the caller's memory. first, last and entry describe where
 * it stands and may be read; they are valid after a call that returned an entry.
 */
struct sheaf_tree_cursor {
	const struct sheaf_tree *tree;
	uint64_t first;
	uint64_t last;
	void *entry;
	/* private */
	const uint64_t *firsts;
	const uint64_t *lasts;
	void *const *entries;
	/* What the leaf holds, by slots in order, and the part of it that comes next. */
	uint64_t list;
	uint64_t order;
	const void *above;
	const void *higher;
	uint32_t slot;
	uint32_t higher_slot;
	uint32_t state;
	/* Of one that writes: a leaf, its span, and the version of the tree in which it was so. */
	void *home;
	uint64_t lo;
	uint64_t hi;
	uint64_t version;
};

/**
 * Make a cursor that stands nowhere: its first next() gives the lowest range, its
 * first prev() the highest.
 *
 * Context: any. Ordering: none. Progress: wait-free.
 */
void sheaf_tree_cursor_init(struct sheaf_tree_cursor *cursor, const struct sheaf_tree *tree);

/**
 * Go to the range that holds @p key, or else to the first one above it.
 *
 * Context: a read section, or under the writer lock. A cursor may be carried from
 *	one read section to the next only through sheaf_tree_cursor_pause().
 * Ordering: as sheaf_tree_load_rcu(). Progress: lock-free, O(height): it begins anew if all
 *	that was there from @p key to the next leaf's end has been erased meanwhile.
 * Return: the entry; NULL if there is none (the cursor then stands past the end).
 */
void *sheaf_tree_find_rcu(struct sheaf_tree_cursor *cursor, uint64_t key);

/**
 * The part of sheaf_tree_next_rcu() that goes to another leaf.
 *
 * Context, Ordering, Progress, Return: as there.
 */
void *sheaf_tree_next_leaf_rcu(struct sheaf_tree_cursor *cursor);

/**
 * Go to the next range in key order. Ranges that no write touches during a scan are
 * each seen exactly once; ranges never overlap within a scan: if one was stored
 * meanwhile that reaches back over keys already passed, first is the first key after
 * those. What is seen of a range is as new as the call that last went down from the
 * root, or newer.
 *
 * Context, Ordering: as sheaf_tree_find_rcu(). Progress: a step within a leaf is wait-free and
 *	inline; to the next leaf as sheaf_tree_find_rcu().
 * Return: the entry; NULL past the end.
 */
static inline void *sheaf_tree_next_rcu(struct sheaf_tree_cursor *cursor)
{
	const uint64_t order = cursor->order;
	const unsigned slot = (unsigned)order & 15;

	if (slot == 15)
		return sheaf_tree_next_leaf_rcu(cursor);
	cursor->order = order >> 4;
	cursor->first = cursor->firsts[slot];
	cursor->last = cursor->lasts[slot];
	cursor->entry = __atomic_load_n(&cursor->entries[slot], __ATOMIC_ACQUIRE);
	return cursor->entry;
}

/**
 * Go to the previous range in key order; see sheaf_tree_next_rcu().
 *
 * Context, Ordering, Progress: as sheaf_tree_find_rcu().
 * Return: the entry; NULL before the start.
 */
void *sheaf_tree_prev_rcu(struct sheaf_tree_cursor *cursor);

/**
 * Let go of the node that the cursor stands on, keeping its key: call it before the
 * read section ends or after a write, also one that failed, if the cursor is to go on later.
 *
 * Context: any. Ordering: none. Progress: wait-free.
 */
void sheaf_tree_cursor_pause(struct sheaf_tree_cursor *cursor);

/**
 * As sheaf_tree_store_locked() without nodes set aside; the cursor then stands on what was
 * stored (NULL: paused before it). Where it has stood beside, it need not be searched for:
 * this is the fast way to store keys in ascending order.
 *
 * @param cursor made by sheaf_tree_cursor_init() for this tree
 * @param first first key of the range
 * @param last last key, inclusive
 * @param entry any pointer; NULL erases the range
 *
 * Context: under the writer lock; the cursor is used by writers only.
 * Ordering, Progress: as sheaf_tree_store(). Return: as sheaf_tree_store(); the cursor is
 *	unchanged on failure.
 */
int sheaf_tree_cursor_store_locked(struct sheaf_tree_cursor *cursor, uint64_t first, uint64_t last,
				   void *entry);

/**
 * As sheaf_tree_cursor_store_locked(), takes the writer lock.
 *
 * Context, Ordering, Progress: as sheaf_tree_store(). Return: as there.
 */
int sheaf_tree_cursor_store(struct sheaf_tree_cursor *cursor, uint64_t first, uint64_t last,
			    void *entry);

/**
 * Erase what the cursor stands on, its keys first to last; it then is paused there: next and prev
 * go on from these keys. Of a range that sheaf_tree_next_rcu() has shown from the first key on that
 * was not passed before, what is before that key stays.
 *
 * Context: under the writer lock, where the cursor has been set or moved.
 * Ordering, Progress: as sheaf_tree_store().
 * Return: 0; -ENOENT if it stands on none; -ENOMEM (tree and cursor unchanged).
 */
int sheaf_tree_cursor_erase_locked(struct sheaf_tree_cursor *cursor);

/** A walk over holes, in the caller's memory; first and last may be read. */
struct sheaf_tree_holes {
	uint64_t first;
	uint64_t last;
	/* private */
	struct sheaf_tree_cursor cursor;
	uint64_t from;
	uint64_t end;
	bool done;
};

/**
 * Begin a walk over the holes of a window.
 *
 * Context: any. Ordering: none. Progress: wait-free.
 */
void sheaf_tree_holes_init(struct sheaf_tree_holes *holes, const struct sheaf_tree *tree,
			   uint64_t first, uint64_t last);

/**
 * Go to the next hole; what reaches out of the window is cut. What was stored or erased
 * meanwhile may or may not be seen.
 *
 * Context, Ordering, Progress: as sheaf_tree_next_rcu(). One read section for the whole walk.
 * Return: true, and first and last are set; false past the last one.
 */
bool sheaf_tree_hole_next_rcu(struct sheaf_tree_holes *holes);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
