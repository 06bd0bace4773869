/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Reads of trees, and copies of them. A place that is never empty is found by every load of any of
 * its keys, is in each snapshot, and in no gap. One that nobody writes to is not passed over by a walk.
 */
#include "torture.h"

#include "base/thread.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define VALUES 0
#define LOADS 8
#define WINDOW 32
#define WATCHED 1000

static void loaded(struct worker *w, const void *entry, uint64_t key)
{
	if (!entry && key_kept(key))
		fault("%s: a reader finds nothing at key %#" PRIx64 ", where something always is",
		      w->with, key);
}

/* Long enough that others write meanwhile. */
static void watch(struct worker *w, const struct sheaf_tree *tree)
{
	uint64_t key = any_kept_key(w);
	unsigned i;

	key += random_below(&w->random, (unsigned)(last_of(tree, key) - key) + 1);
	for (i = 0; i < WATCHED; i++)
		loaded(w, sheaf_tree_load_rcu(tree, key), key);
}

/* The first place that no walk from here may pass over; beyond all if there is none. */
static uint64_t still_from(const struct sheaf_tree *tree, uint64_t key)
{
	uint64_t cell = cell_of(key);

	while (cell < CELLS * CELL_KEYS && (!key_still(cell) || last_of(tree, cell) < key))
		cell += CELL_KEYS;
	return cell;
}

/* The last one all below a key; beyond all if there is none. */
static uint64_t still_below(const struct sheaf_tree *tree, uint64_t key)
{
	uint64_t cell = cell_of(key);

	for (; !key_still(cell) || last_of(tree, cell) >= key; cell -= CELL_KEYS)
		if (!cell)
			return UINT64_MAX;
	return cell;
}

static void walk_back(struct worker *w, const struct sheaf_tree *tree)
{
	uint64_t before, due;
	struct sheaf_tree_cursor cursor;
	struct stamp *object;
	unsigned i;

	sheaf_tree_cursor_init(&cursor, tree);
	if (!sheaf_tree_find_rcu(&cursor, any_key(w)))
		return;
	before = cursor.first;
	due = still_below(tree, before);
	for (i = 0; i < 30 && (object = sheaf_tree_prev_rcu(&cursor)) != NULL; i++) {
		if (cursor.last >= before || cursor.last > last_of(tree, cell_of(cursor.first)))
			fault("%s: a walk back comes to keys %#" PRIx64 " to %#" PRIx64
			      " from %#" PRIx64,
			      w->with, cursor.first, cursor.last, before);
		if (due != UINT64_MAX && cursor.last < due)
			fault("%s: a walk back has passed over key %#" PRIx64 ", to %#" PRIx64,
			      w->with, due, cursor.last);
		(void)object_read(&torture.victims[VALUES], object, cell_of(cursor.first));
		before = cursor.first;
		due = still_below(tree, before);
	}
	if (i < 30 && due != UINT64_MAX)
		fault("%s: a walk back ends after key %#" PRIx64, w->with, due);
}

static void walk_holes(struct worker *w, const struct sheaf_tree *tree)
{
	uint64_t first = any_key(w), after = first, cell;
	struct sheaf_tree_holes holes;
	unsigned i;

	sheaf_tree_holes_init(&holes, tree, first, CELLS * CELL_KEYS - 1);
	for (i = 0; i < 30 && sheaf_tree_hole_next_rcu(&holes); i++) {
		if (holes.first < after || holes.last < holes.first ||
		    holes.last >= CELLS * CELL_KEYS)
			fault("%s: a hole is from %#" PRIx64 " to %#" PRIx64 ", after %#" PRIx64,
			      w->with, holes.first, holes.last, after);
		for (cell = cell_of(holes.first); cell <= holes.last; cell += CELL_KEYS)
			if (key_still(cell) && last_of(tree, cell) >= holes.first)
				fault("%s: key %#" PRIx64
				      " is in a hole, and something always is there",
				      w->with, cell);
		after = holes.last + 1;
	}
}

/* With pauses the section ends between two steps. */
static void walk(struct worker *w, const struct sheaf_tree *tree, bool pauses)
{
	uint64_t after = any_key(w), due = still_from(tree, after);
	struct sheaf_tree_cursor cursor;
	struct stamp *object;
	unsigned i;

	sheaf_tree_cursor_init(&cursor, tree);
	object = sheaf_tree_find_rcu(&cursor, after);
	for (i = 0; object && i < 30; i++) {
		if (cursor.last < after || cursor.last > last_of(tree, cell_of(cursor.first)))
			fault("%s: a walk comes to keys %#" PRIx64 " to %#" PRIx64
			      " after %#" PRIx64,
			      w->with, cursor.first, cursor.last, after);
		if (cursor.first > due)
			fault("%s: a walk has passed over key %#" PRIx64 ", to %#" PRIx64, w->with,
			      due, cursor.first);
		(void)object_read(&torture.victims[VALUES], object, cell_of(cursor.first));
		after = cursor.last + 1;
		due = still_from(tree, after);
		if (pauses) {
			sheaf_tree_cursor_pause(&cursor);
			source_read_unlock();
			source_quiescent();
			source_read_lock();
		}
		object = sheaf_tree_next_rcu(&cursor);
	}
	if (!object && due < CELLS * CELL_KEYS)
		fault("%s: a walk ends before key %#" PRIx64, w->with, due);
}

/* A cancellation point in an operation that is not the library's. */
static void stay(void)
{
	int state = cancel_off();

	nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	cancel_on(state);
}

/* Loads and walks; what was found is looked at again before the section ends. */
void trees_read(struct worker *w, unsigned loads)
{
	struct victim *values = &torture.victims[VALUES];
	struct sheaf_tree *tree = any_tree(w);
	struct stamp *found[LOADS] = {NULL};
	uint64_t keys[LOADS], seen[LOADS];
	unsigned n = 0, i;

	source_read_lock();
	for (i = 0; i < loads && n < LOADS; i++) {
		uint64_t key = any_key(w);
		uint64_t span = last_of(tree, key) - key + 1;

		keys[n] = key;
		key += random_below(&w->random, (unsigned)span);
		found[n] = sheaf_tree_load_rcu(tree, key);
		loaded(w, found[n], key);
		if (!found[n])
			continue;
		seen[n] = object_read(values, found[n], keys[n]);
		n++;
	}
	if (random_below(&w->random, 4) == 0)
		walk(w, tree, false);
	if (random_below(&w->random, 2) == 0)
		watch(w, tree);
	/* Some stay in their section for as long as a grace period takes, or two. */
	if (n && random_below(&w->random, 32) == 0)
		stay();
	for (i = 0; i < n; i++)
		object_read_again(values, found[i], keys[i], seen[i]);
	source_read_unlock();
	fetch_add_relaxed(&torture.counts.read_sections, 1);
	fetch_add_relaxed(&torture.counts.objects_read, n);
}

void do_walk(struct worker *w)
{
	struct sheaf_tree *tree = any_tree(w);

	source_read_lock();
	switch (random_below(&w->random, 3)) {
	case 0:
		walk_back(w, tree);
		break;
	case 1:
		walk_holes(w, tree);
		break;
	default:
		walk(w, tree, true);
	}
	source_read_unlock();
}

void do_read(struct worker *w)
{
	trees_read(w, 40);
}

/* A place that was free at some moment does not have in it what always is. */
void do_gap_rcu(struct worker *w)
{
	struct sheaf_tree *tree = any_tree(w);
	struct sheaf_tree_gap gap = {.min = any_key(w) / 2,
				     .max = CELLS * CELL_KEYS - 1,
				     .size = 1 + random_below(&w->random, 3 * CELL_KEYS),
				     .align = UINT64_C(1) << random_below(&w->random, 5),
				     .highest = random_below(&w->random, 2)};
	bool locks = random_below(&w->random, 2);
	uint64_t at = 0, cell;
	int err;

	if (!locks) {
		source_read_lock();
		err = sheaf_tree_gap_rcu(tree, &gap, &at);
		source_read_unlock();
	} else if (gap.highest) {
		err = sheaf_tree_highest_gap(tree, gap.min, gap.max, gap.size, gap.align, &at);
	} else {
		err = sheaf_tree_lowest_gap(tree, gap.min, gap.max, gap.size, gap.align, &at);
	}
	if (err && err != -ENOSPC && (locks || err != -EAGAIN))
		fault("%s: a search for a gap gives %d", w->with, err);
	if (err) {
		refused(w);
		return;
	}
	if (at < gap.min || at > gap.max || gap.max - at < gap.size - 1 || at % gap.align)
		fault("%s: a gap at %#" PRIx64 " is not what was asked for", w->with, at);
	for (cell = cell_of(at); cell < at + gap.size; cell += CELL_KEYS)
		if (key_kept(cell) && last_of(tree, cell) >= at)
			fault("%s: a gap of %" PRIu64 " keys at %#" PRIx64 ", and at %#" PRIx64
			      " something always is",
			      w->with, gap.size, at, cell);
}

/* All places that are never empty, at all of their keys, in a window of ranges in order. */
static void whole(struct worker *w, const struct sheaf_tree *tree, uint64_t first,
		  const struct sheaf_tree_range *ranges, size_t n)
{
	uint64_t cell, end = first + WINDOW * CELL_KEYS, key;
	size_t i;

	for (i = 0; i < n; i++)
		if (ranges[i].last < ranges[i].first ||
		    (i && ranges[i].first <= ranges[i - 1].last))
			fault("%s: a copy has ranges that are not in order", w->with);
	for (i = 0, cell = first; cell < end && cell < CELLS * CELL_KEYS; cell += CELL_KEYS)
		for (key = cell; key_kept(cell) && key <= last_of(tree, cell); key++) {
			while (i < n && ranges[i].last < key)
				i++;
			if (i == n || ranges[i].first > key)
				fault("%s: key %#" PRIx64 " is not in a copy", w->with, key);
		}
}

void do_snapshot(struct worker *w)
{
	struct sheaf_tree_range ranges[WINDOW + 4];
	struct sheaf_tree *tree = any_tree(w);
	uint64_t first = any_key(w), last = first + WINDOW * CELL_KEYS - 1;
	size_t got = 0, i;
	int err;

	source_read_lock();
	err = sheaf_tree_snapshot_range(tree, first, last, ranges, WINDOW + 4, &got, 3);
	if (err && err != -EAGAIN)
		fault("%s: a snapshot gives %d, of %zu ranges", w->with, err, got);
	for (i = 0; !err && i < got; i++)
		(void)object_read(&torture.victims[VALUES], ranges[i].entry,
				  cell_of(ranges[i].first));
	source_read_unlock();
	if (!err)
		whole(w, tree, first, ranges, got);
	else
		refused(w);
}

/* The entries are not looked at: they may be gone. */
static void write_copy(struct worker *w, struct sheaf_tree *copy)
{
	static char one;
	unsigned i;

	for (i = 0; i < 40; i++) {
		uint64_t key = any_key(w) + random_below(&w->random, CELL_KEYS);
		uint64_t last = key + random_below(&w->random, 3 * CELL_KEYS);
		const struct sheaf_tree_gap gap = {
			.min = key, .max = UINT64_MAX, .size = last - key + 1, .align = 1};
		struct sheaf_tree_cursor cursor;
		void *entry = &one;
		int err;

		switch (random_below(&w->random, 5)) {
		case 0:
			entry = NULL;
			err = sheaf_tree_erase_range(copy, key, last);
			break;
		case 1:
			/* What is there is not stored over. */
			err = sheaf_tree_store_gap(copy, &gap, entry, &key);
			last = key + gap.size - 1;
			break;
		case 2:
			sheaf_tree_cursor_init(&cursor, copy);
			err = sheaf_tree_cursor_store(&cursor, key, last, entry);
			break;
		default:
			entry = random_below(&w->random, 3) ? &one : NULL;
			err = sheaf_tree_store(copy, key, last, entry);
		}
		if (!err &&
		    (sheaf_tree_load(copy, key) != entry || sheaf_tree_load(copy, last) != entry))
			fault("%s: a copy has not what was stored", w->with);
		if (err && err != -ENOMEM)
			fault("%s: a write to a copy gives %d", w->with, err);
	}
}

/* Of another kind, and a third one made of its ranges at once. */
void do_copy(struct worker *w)
{
	struct sheaf_tree_attr attr = {.size = sizeof(attr), .nodes = torture.nodes};
	struct sheaf_tree *tree = any_tree(w), *copy = NULL, *built = NULL;
	struct sheaf_tree_range ranges[CELLS];
	struct sheaf_tree_cursor cursor;
	size_t n = 0;
	int err;

	attr.flags = SHEAF_TREE_ALONE | (random_below(&w->random, 2) ? SHEAF_TREE_GAPS : 0);
	err = sheaf_tree_create(&copy, &attr);
	if (!err)
		err = sheaf_tree_create(&built, &attr);
	if (!err)
		err = sheaf_tree_dup(copy, tree);
	if (!err) {
		sheaf_tree_cursor_init(&cursor, copy);
		for (; sheaf_tree_next_rcu(&cursor); n++) {
			if (n == CELLS)
				fault("%s: a copy has more than there is", w->with);
			ranges[n] =
				(struct sheaf_tree_range){cursor.first, cursor.last, cursor.entry};
		}
		whole(w, tree, any_key(w), ranges, n);
		err = sheaf_tree_build(built, ranges, n);
	}
	if (!err) {
		write_copy(w, copy);
		write_copy(w, built);
	}
	if (err && err != -ENOMEM)
		fault("%s: a copy gives %d", w->with, err);
	if (err)
		refused(w);
	if ((copy && sheaf_tree_check(copy)) || (built && sheaf_tree_check(built)))
		fault("%s: an invariant of a copy does not hold", w->with);
	if ((copy && sheaf_tree_destroy(copy)) || (built && sheaf_tree_destroy(built)))
		fault("%s: a copy cannot be ended", w->with);
}
