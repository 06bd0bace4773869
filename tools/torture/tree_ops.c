/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Operations on trees. Entries are objects of the first cache; who takes one out of a tree retires
 * it, and readers look at it to the end of their sections. A tree has cells of some keys each, one
 * entry a cell, so that it is always known which entries a write takes out.
 */
#include "torture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define VALUES 0
#define MOST_OUT 16

static struct victim *values(void)
{
	return &torture.victims[VALUES];
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
	return 0;
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

static struct sheaf_tree *any_tree(struct worker *w)
{
	unsigned i = random_below(&w->random, TREES);

	store_relaxed(&w->with, i ? "tree with gaps" : "tree");
	return torture.trees[i];
}

static uint64_t any_key(struct worker *w)
{
	return (uint64_t)random_below(&w->random, CELLS) * CELL_KEYS;
}

static uint64_t last_of(uint64_t key)
{
	return key + CELL_KEYS - 1;
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
	err = sheaf_tree_insert(tree, key, last_of(key), object);
	if (err && err != -EEXIST && err != -ENOMEM)
		wrong(w, "insert", key, err);
	if (err)
		drop(w, object, key, false);
}

static void do_erase(struct worker *w)
{
	struct sheaf_tree *tree = any_tree(w);
	uint64_t key = any_key(w);
	void *object = NULL;
	int err = sheaf_tree_erase(tree, key + random_below(&w->random, CELL_KEYS), &object);

	if (err && err != -ENOENT && err != -ENOMEM)
		wrong(w, "erase", key, err);
	if (!err)
		drop(w, object, key, true);
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
		keys[i] = any_key(w);
		object_to_tree(values(), objects[i], worker_owner(w), keys[i]);
	}
	writes = i;
	if (!writes)
		return;
	err = sheaf_tree_prepare(tree, &prep, writes);
	if (err) {
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
		for (i = 0; i < writes; i++)
			drop(w, objects[i], keys[i], false);
		return;
	}
	for (i = 0; i < writes; i++) {
		gone[n] = sheaf_tree_load_rcu(tree, keys[i]);
		gone_keys[n] = keys[i];
		err = sheaf_tree_store_locked(tree, &prep, keys[i], last_of(keys[i]), objects[i]);
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
	uint64_t first = any_key(w), last = last_of(first + CELL_KEYS * (MOST_OUT - 1)), key;
	struct stamp *gone[MOST_OUT];
	uint64_t keys[MOST_OUT];
	unsigned n = 0, i;
	int err;

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
	err = sheaf_tree_gap_locked(tree, &gap, &at);
	if (!err) {
		object_to_tree(values(), object, worker_owner(w), at);
		err = sheaf_tree_insert_locked(tree, NULL, at, last_of(at), object);
		if (err && err != -ENOMEM)
			wrong(w, "insert into a gap", at, err);
	} else {
		if (err != -ENOSPC)
			wrong(w, "gap", gap.min, err);
		object_to_tree(values(), object, worker_owner(w), 0);
	}
	sheaf_tree_unlock(tree);
	if (err)
		drop(w, object, object->key, false);
}

/* Loads and walks; what was found is looked at again before the section ends. */
void trees_read(struct worker *w, unsigned loads)
{
	struct sheaf_tree *tree = any_tree(w);
	struct stamp *found[8] = {NULL};
	uint64_t keys[8], seen[8];
	struct sheaf_tree_cursor cursor;
	unsigned n = 0, i;

	source_read_lock();
	for (i = 0; i < loads && n < 8; i++) {
		keys[n] = any_key(w);
		found[n] = sheaf_tree_load_rcu(tree, keys[n]);
		if (!found[n])
			continue;
		seen[n] = object_read(values(), found[n], keys[n]);
		n++;
	}
	if (random_below(&w->random, 4) == 0) {
		uint64_t after = any_key(w);
		struct stamp *object;

		sheaf_tree_cursor_init(&cursor, tree);
		object = sheaf_tree_find_rcu(&cursor, after);
		for (i = 0; object && i < 30; i++) {
			if (cursor.last < after || cursor.first % CELL_KEYS)
				fault("%s: a walk comes to keys %#" PRIx64 " to %#" PRIx64
				      " after %#" PRIx64,
				      w->with, cursor.first, cursor.last, after);
			(void)object_read(values(), object, cursor.first);
			after = cursor.last + 1;
			object = sheaf_tree_next_rcu(&cursor);
		}
	}
	/* Some stay in their section for as long as a grace period takes, or two. */
	if (n && random_below(&w->random, 32) == 0)
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	for (i = 0; i < n; i++)
		object_read_again(values(), found[i], keys[i], seen[i]);
	source_read_unlock();
	fetch_add_relaxed(&torture.counts.read_sections, 1);
	fetch_add_relaxed(&torture.counts.objects_read, n);
}

static void do_read(struct worker *w)
{
	trees_read(w, 40);
}

static void do_tree_stats(struct worker *w)
{
	struct sheaf_tree_stats stats;

	sheaf_tree_stats(any_tree(w), &stats);
	if (stats.entries > CELLS + MOST_OUT)
		fault("%s: %" PRIu64 " entries in %u places", w->with, stats.entries, CELLS);
}

const struct operation tree_operations[] = {
	{"read", do_read, 40},
	{"insert", do_insert, 20},
	{"erase", do_erase, 14},
	{"prepared stores", do_prepared, 8},
	{"erase of a range", do_erase_range, 2},
	{"insert into a gap", do_gap, 6},
	{"statistics of a tree", do_tree_stats, 1},
	{NULL, NULL, 0},
};
