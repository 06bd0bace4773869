/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Writes to trees. Entries are objects of the first cache; who takes one out of a tree retires
 * it, and readers look at it to the end of their sections. A tree has cells of some keys each, one
 * entry a cell, so that it is always known which entries a write takes out. Under the lock an entry may
 * be cut, and is whole again, or gone, when the lock is dropped.
 *
 * Some cells are never empty, at none of their keys and at no moment: their entries are only replaced.
 * Some of these are not written to at all.
 */
#include "torture.h"

#include "base/thread.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define VALUES 0
#define MOST_OUT 16

static struct victim *values(void)
{
	return &torture.victims[VALUES];
}

/* What is never empty. */
static int fill(struct sheaf_tree *tree)
{
	uint64_t owner = worker_owner(&torture.disturber), key;

	for (key = 0; key < CELLS * CELL_KEYS; key += CELL_KEYS) {
		struct stamp *object = key_kept(key) ? sheaf_cache_alloc(values()->cache, 0) : NULL;
		int err;

		if (!key_kept(key))
			continue;
		if (!object)
			return -ENOMEM;
		object_take(values(), object, owner);
		object_to_tree(values(), object, owner, key);
		err = sheaf_tree_insert(tree, key, last_of(tree, key), object);
		if (err)
			return err;
	}
	return 0;
}

int trees_begin(void)
{
	unsigned i;

	for (i = 0; i < TREES; i++) {
		struct sheaf_tree_attr attr = {.size = sizeof(attr),
					       .gp = torture.gp,
					       .nodes = torture.nodes,
					       .flags = i ? SHEAF_TREE_GAPS : 0};
		int err = sheaf_tree_create(&torture.trees[i], &attr);

		if (err)
			return err;
	}
	/* All are there: last_of() asks which one it is. */
	for (i = 0; i < TREES; i++) {
		int err = fill(torture.trees[i]);

		if (err)
			return err;
	}
	return 0;
}

/* Every node is looked at. */
static void dump(const struct sheaf_tree *tree)
{
	FILE *out = fopen("/dev/null", "w");

	if (!out)
		return;
	if (sheaf_tree_dump(tree, SHEAF_TREE_TEXT, out) ||
	    sheaf_tree_dump(tree, SHEAF_TREE_GRAPHVIZ, out))
		fault("a tree cannot be printed");
	fclose(out);
}

void trees_end(void)
{
	struct sheaf_tree_cursor cursor;
	struct stamp *object;
	const char *wrong;
	unsigned i;
	int err;

	for (i = 0; i < TREES; i++) {
		wrong = sheaf_tree_check(torture.trees[i]);
		if (wrong)
			fault("tree %u: %s", i, wrong);
		dump(torture.trees[i]);
		sheaf_tree_cursor_init(&cursor, torture.trees[i]);
		sheaf_tree_lock(torture.trees[i]);
		while ((object = sheaf_tree_next_rcu(&cursor)) != NULL) {
			object_from_tree(values(), object, worker_owner(&torture.disturber),
					 cursor.first);
			object_free(values(), object, worker_owner(&torture.disturber));
			sheaf_cache_free(values()->cache, object);
		}
		sheaf_tree_unlock(torture.trees[i]);
		sheaf_tree_clear(torture.trees[i]);
		err = sheaf_tree_destroy(torture.trees[i]);
		if (err)
			fault("tree %u: destroy gives %d", i, err);
	}
}

struct sheaf_tree *any_tree(struct worker *w)
{
	static const char *const names[TREES] = {"tree", "tree with gaps", "tree of points"};
	unsigned i = random_below(&w->random, TREES);

	store_relaxed(&w->with, names[i]);
	return torture.trees[i];
}

uint64_t any_key(struct worker *w)
{
	return (uint64_t)random_below(&w->random, CELLS) * CELL_KEYS;
}

uint64_t any_kept_key(struct worker *w)
{
	return ((uint64_t)random_below(&w->random, CELLS / PLACES_KEPT) * PLACES_KEPT +
		PLACES_KEPT - 1) *
	       CELL_KEYS;
}

/* That may be written to. Often where readers look for what vanishes for a moment. */
static uint64_t write_key(struct worker *w)
{
	uint64_t key;

	if (random_below(&w->random, 4) == 0)
		return any_kept_key(w);
	do
		key = any_key(w);
	while (key_still(key));
	return key;
}

/* That may become empty. */
static uint64_t erase_key(struct worker *w)
{
	uint64_t key;

	do
		key = any_key(w);
	while (key_kept(key));
	return key;
}

/* An object that is not in the tree after all, or has just left it. */
static void drop(struct worker *w, struct stamp *object, uint64_t key, bool seen)
{
	object_from_tree(values(), object, worker_owner(w), key);
	if (seen) {
		victim_retire(w, values(), object);
		return;
	}
	object_free(values(), object, worker_owner(w));
	sheaf_cache_free(values()->cache, object);
}

static void wrong(const struct worker *w, const char *what, uint64_t key, int err)
{
	fault("%s: %s at key %#" PRIx64 " gives %d", w->with, what, key, err);
}

static void do_insert(struct worker *w)
{
	struct sheaf_tree *tree = any_tree(w);
	uint64_t key = any_key(w);
	struct stamp *object = victim_alloc(w, VALUES);
	int err;

	if (!object)
		return;
	object_to_tree(values(), object, worker_owner(w), key);
	err = sheaf_tree_insert(tree, key, last_of(tree, key), object);
	if (err && err != -EEXIST && err != -ENOMEM)
		wrong(w, "insert", key, err);
	if (err) {
		drop(w, object, key, false);
		refused(w);
	}
}

/* Where nobody writes, long enough for readers to come by, and again and again, one at a time. */
static void plant_hole(struct sheaf_tree *tree)
{
	static uint32_t planted;
	uint64_t key = (PLACES_KEPT / 2 - 1) * CELL_KEYS;
	void *object = NULL;
	uint64_t end;
	int state;

	if (torture.options.plant != PLANT_HOLE || exchange_relaxed(&planted, 1))
		return;
	state = cancel_off();
	if (!sheaf_tree_erase(tree, key, &object)) {
		/* Signals wake us up. */
		for (end = now_ms() + 100; now_ms() < end;)
			usleep(1000);
		(void)sheaf_tree_store(tree, key, last_of(tree, key), object);
	}
	cancel_on(state);
	store_relaxed(&planted, 0);
}

static void do_erase(struct worker *w)
{
	struct sheaf_tree *tree = any_tree(w);
	uint64_t key = erase_key(w), span = last_of(tree, key) - key + 1;
	uint64_t at = key + random_below(&w->random, (unsigned)span);
	void *object = NULL;
	int err;

	plant_hole(tree);
	if (random_below(&w->random, 2)) {
		err = sheaf_tree_erase(tree, at, &object);
	} else {
		sheaf_tree_lock(tree);
		err = sheaf_tree_erase_locked(tree, NULL, at, &object);
		sheaf_tree_unlock(tree);
	}
	if (err && err != -ENOENT && err != -ENOMEM)
		wrong(w, "erase", key, err);
	if (!err)
		drop(w, object, key, true);
	else
		refused(w);
}

/* One write that cannot fail, under the lock, over whatever is there. */
static void do_prepared(struct worker *w)
{
	struct sheaf_tree *tree = any_tree(w);
	unsigned writes = 1 + random_below(&w->random, MOST_OUT), i, n = 0;
	uint64_t keys[MOST_OUT], gone_keys[MOST_OUT];
	struct stamp *objects[MOST_OUT], *gone[MOST_OUT];
	struct sheaf_tree_prep prep;
	int err;

	for (i = 0; i < writes && (objects[i] = victim_alloc(w, VALUES)) != NULL; i++) {
		keys[i] = write_key(w);
		object_to_tree(values(), objects[i], worker_owner(w), keys[i]);
	}
	writes = i;
	if (!writes)
		return;
	err = sheaf_tree_prepare(tree, &prep, writes);
	if (err) {
		refused(w);
		for (i = 0; i < writes; i++)
			drop(w, objects[i], keys[i], false);
		if (err != -ENOMEM)
			wrong(w, "prepare", keys[0], err);
		return;
	}
	sheaf_tree_lock(tree);
	if (!sheaf_tree_prepared_locked(tree, &prep)) {
		sheaf_tree_unlock(tree);
		sheaf_tree_finish(tree, &prep);
		refused(w);
		for (i = 0; i < writes; i++)
			drop(w, objects[i], keys[i], false);
		return;
	}
	for (i = 0; i < writes; i++) {
		gone[n] = sheaf_tree_load_rcu(tree, keys[i]);
		gone_keys[n] = keys[i];
		err = sheaf_tree_store_locked(tree, &prep, keys[i], last_of(tree, keys[i]),
					      objects[i]);
		if (err)
			wrong(w, "a prepared store", keys[i], err);
		n += gone[n] != NULL;
	}
	sheaf_tree_unlock(tree);
	sheaf_tree_finish(tree, &prep);
	for (i = 0; i < n; i++)
		drop(w, gone[i], gone_keys[i], true);
}

/* Several cells by one write. */
static void do_erase_range(struct worker *w)
{
	struct sheaf_tree *tree = any_tree(w);
	uint64_t first = any_key(w), last, key;
	struct stamp *gone[MOST_OUT];
	uint64_t keys[MOST_OUT];
	unsigned n = 0, i;
	int err;

	/* Kept places are twice as far from each other. */
	if (first / CELL_KEYS % (2 * MOST_OUT) >= MOST_OUT)
		first -= CELL_KEYS * MOST_OUT;
	last = first + CELL_KEYS * (MOST_OUT - 1) + CELL_KEYS - 1;
	sheaf_tree_lock(tree);
	for (key = first; key < last; key += CELL_KEYS) {
		gone[n] = sheaf_tree_load_rcu(tree, key);
		keys[n] = key;
		n += gone[n] != NULL;
	}
	err = sheaf_tree_erase_range_locked(tree, NULL, first, last);
	sheaf_tree_unlock(tree);
	if (err && err != -ENOMEM)
		wrong(w, "erase_range", first, err);
	for (i = 0; !err && i < n; i++)
		drop(w, gone[i], keys[i], true);
	if (err || !n)
		refused(w);
}

/* By each of the calls for that. */
static int find_gap(struct worker *w, struct sheaf_tree *tree, const struct sheaf_tree_gap *gap,
		    uint64_t *at)
{
	if (random_below(&w->random, 2))
		return sheaf_tree_gap_locked(tree, gap, at);
	return gap->highest ? sheaf_tree_highest_gap_locked(tree, gap->min, gap->max, gap->size,
							    gap->align, at)
			    : sheaf_tree_lowest_gap_locked(tree, gap->min, gap->max, gap->size,
							   gap->align, at);
}

/* The object has to say where it is before it is there, so the place is found first. */
static void do_gap(struct worker *w)
{
	struct sheaf_tree *tree = any_tree(w);
	struct sheaf_tree_gap gap = {.max = CELLS * CELL_KEYS - 1,
				     .size = CELL_KEYS,
				     .align = CELL_KEYS,
				     .highest = random_below(&w->random, 2)};
	struct stamp *object = victim_alloc(w, VALUES);
	uint64_t at = 0;
	int err;

	if (!object)
		return;
	gap.min = any_key(w) / 2;
	gap.min -= gap.min % CELL_KEYS;
	sheaf_tree_lock(tree);
	err = find_gap(w, tree, &gap, &at);
	if (!err) {
		object_to_tree(values(), object, worker_owner(w), at);
		err = sheaf_tree_insert_locked(tree, NULL, at, last_of(tree, at), object);
		if (err && err != -ENOMEM)
			wrong(w, "insert into a gap", at, err);
	} else {
		if (err != -ENOSPC)
			wrong(w, "gap", gap.min, err);
		object_to_tree(values(), object, worker_owner(w), 0);
	}
	sheaf_tree_unlock(tree);
	if (err) {
		drop(w, object, object->key, false);
		refused(w);
	}
}

/* Keys in ascending order, as cursors are for; then one entry is erased where it stands. */
static void do_cursor(struct worker *w)
{
	struct sheaf_tree *tree = any_tree(w);
	unsigned writes = 1 + random_below(&w->random, MOST_OUT / 2), n = 0;
	uint64_t key = any_key(w), erased = erase_key(w), gone_keys[MOST_OUT];
	struct stamp *object, *gone[MOST_OUT];
	struct sheaf_tree_cursor cursor;
	int err = 0;

	sheaf_tree_cursor_init(&cursor, tree);
	sheaf_tree_lock(tree);
	for (; writes && !err && key < CELLS * CELL_KEYS; key += CELL_KEYS, writes--) {
		object = key_still(key) ? NULL : victim_alloc(w, VALUES);
		if (!object)
			continue;
		object_to_tree(values(), object, worker_owner(w), key);
		gone_keys[n] = key;
		gone[n] = sheaf_tree_load_rcu(tree, key);
		err = sheaf_tree_cursor_store_locked(&cursor, key, last_of(tree, key), object);
		if (err && err != -ENOMEM)
			wrong(w, "a store by cursor", key, err);
		if (err)
			drop(w, object, key, false);
		else if (cursor.entry != object || cursor.first != key)
			wrong(w, "a cursor that has stored", key, 0);
		n += !err && gone[n];
	}
	gone[n] = sheaf_tree_find_rcu(&cursor, erased);
	gone_keys[n] = erased;
	if (gone[n] && cursor.first == erased) {
		err = sheaf_tree_cursor_erase_locked(&cursor);
		if (err && err != -ENOMEM)
			wrong(w, "an erase by cursor", erased, err);
		n += !err;
	}
	sheaf_tree_unlock(tree);
	while (n--)
		drop(w, gone[n], gone_keys[n], true);
}

/* What the writer finds at a key. */
static void look(struct worker *w, const struct sheaf_tree *tree, uint64_t key, const void *entry)
{
	if (sheaf_tree_load_rcu(tree, key) != entry)
		wrong(w, "a load after a cut", key, 0);
}

/* An entry over the midst of another one, or over an end of it; then one of the two has the whole. */
static void do_cut(struct worker *w)
{
	struct sheaf_tree *tree = torture.trees[random_below(&w->random, POINTS)];
	uint64_t key = write_key(w), last = last_of(tree, key),
		 first = key + random_below(&w->random, CELL_KEYS);
	uint64_t end = first + random_below(&w->random, (unsigned)(last - first) + 1);
	struct stamp *object = victim_alloc(w, VALUES), *was, *stays;
	struct sheaf_tree_prep prep;

	store_relaxed(&w->with, "a cut entry");
	if (!object)
		return;
	object_to_tree(values(), object, worker_owner(w), key);
	if (sheaf_tree_prepare(tree, &prep, 2)) {
		drop(w, object, key, false);
		refused(w);
		return;
	}
	sheaf_tree_lock(tree);
	if (!sheaf_tree_prepared_locked(tree, &prep)) {
		sheaf_tree_unlock(tree);
		sheaf_tree_finish(tree, &prep);
		drop(w, object, key, false);
		refused(w);
		return;
	}
	was = sheaf_tree_load_rcu(tree, key);
	stays = random_below(&w->random, 2) ? object : was;
	if (sheaf_tree_store_locked(tree, &prep, first, end, object))
		wrong(w, "a store that cuts", first, 0);
	look(w, tree, key, first == key ? object : was);
	look(w, tree, end, object);
	look(w, tree, last, end == last ? object : was);
	/* NULL erases, and there may have been nothing. */
	if (sheaf_tree_store_locked(tree, &prep, key, last, stays))
		wrong(w, "a store over pieces", key, 0);
	look(w, tree, last, stays);
	sheaf_tree_unlock(tree);
	sheaf_tree_finish(tree, &prep);
	if (stays != object || was)
		drop(w, stays == object ? was : object, key, true);
}

static void do_tree_stats(struct worker *w)
{
	struct sheaf_tree_stats stats;

	sheaf_tree_stats(any_tree(w), &stats);
	if (stats.entries > CELLS + MOST_OUT)
		fault("%s: %" PRIu64 " entries in %u places", w->with, stats.entries, CELLS);
}

struct operation tree_operations[] = {
	{"read", do_read, 40, 0},
	{"walk", do_walk, 10, 0},
	{"insert", do_insert, 20, 0},
	{"erase", do_erase, 14, 0},
	{"prepared stores", do_prepared, 8, 0},
	{"erase of a range", do_erase_range, 2, 0},
	{"insert into a gap", do_gap, 6, 0},
	{"writes by cursor", do_cursor, 5, 0},
	{"cut", do_cut, 6, 0},
	{"search for a gap", do_gap_rcu, 6, 0},
	{"snapshot", do_snapshot, 3, 0},
	{"copy of a tree", do_copy, 1, 0},
	{"statistics of a tree", do_tree_stats, 1, 0},
	{NULL, NULL, 0, 0},
};
