/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Our own tree, with a node cache of its own. Prepared and locked: the same, but for their
 * writes. Peers without a lock are to be compared with the locked one.
 */
#include "peers_in.h"

#include <sheaf/tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

struct own_tree {
	struct sheaf_tree *tree;
	struct sheaf_cache *nodes;
	struct sheaf_gp_urcu gp;
	/* Where the last key was appended; under the writer lock. */
	struct sheaf_tree_cursor cursor;
	/* Of the locked one: writes left under the lock that is held; 0 without. */
	unsigned left;
};

/* Writes in a row for which the locked one holds the lock. */
#define IN_A_ROW 64

static void *own_tree_setup(const struct bench_env *env)
{
	struct own_tree *own = calloc(1, sizeof(*own));
	struct sheaf_tree_attr attr = {.size = sizeof(attr)};
	int err;

	if (!own)
		return NULL;
	/* Trees of points are asked for no gaps; no peer keeps any for them. */
	attr.flags = env->param[PARAM_RANGES] ? SHEAF_TREE_GAPS : 0;
	err = sheaf_gp_urcu_init(&own->gp, &rcu_flavor, NULL);
	if (!err)
		err = sheaf_tree_nodes_create(&own->nodes, &own->gp.gp);
	attr.gp = &own->gp.gp;
	attr.nodes = own->nodes;
	if (!err)
		err = sheaf_tree_create(&own->tree, &attr);
	if (err) {
		fprintf(stderr, "libsheaf: tree: %s\n", strerror(-err));
		return NULL;
	}
	sheaf_tree_cursor_init(&own->cursor, own->tree);
	return own;
}

static void own_tree_enter(void *ctx)
{
	(void)ctx;
	rcu_register_thread();
}

static void own_tree_leave(void *ctx)
{
	(void)ctx;
	rcu_unregister_thread();
}

static void *own_tree_load(void *ctx, uint64_t key)
{
	return sheaf_tree_load(((struct own_tree *)ctx)->tree, key);
}

static bool own_tree_store(void *ctx, uint64_t first, uint64_t last, void *value)
{
	return sheaf_tree_store(((struct own_tree *)ctx)->tree, first, last, value) == 0;
}

static bool own_tree_erase(void *ctx, uint64_t key)
{
	return sheaf_tree_erase(((struct own_tree *)ctx)->tree, key, NULL) == 0;
}

static uint64_t own_tree_scan(void *ctx, uint64_t from, uint64_t n, uint64_t *sum)
{
	struct own_tree *own = ctx;
	struct sheaf_tree_cursor cursor;
	uint64_t seen = 0;
	void *entry;

	sheaf_gp_read_lock(&own->gp.gp);
	sheaf_tree_cursor_init(&cursor, own->tree);
	for (entry = sheaf_tree_find_rcu(&cursor, from); entry;
	     entry = sheaf_tree_next_rcu(&cursor)) {
		*sum += (uintptr_t)entry;
		if (++seen == n)
			break;
	}
	sheaf_gp_read_unlock(&own->gp.gp);
	return seen;
}

static uint64_t own_tree_map(void *ctx, uint64_t top, uint64_t size, void *value)
{
	struct sheaf_tree *tree = ((struct own_tree *)ctx)->tree;
	uint64_t at = 0;

	sheaf_tree_lock(tree);
	if (sheaf_tree_highest_gap_locked(tree, 1, top - 1, size, 0, &at) ||
	    sheaf_tree_store_locked(tree, NULL, at, at + size - 1, value))
		at = 0;
	sheaf_tree_unlock(tree);
	return at;
}

/* Before one more write of the locked one; the scenarios that it takes part in have one writer. */
static struct sheaf_tree *locked(struct own_tree *own)
{
	if (!own->left) {
		sheaf_tree_lock(own->tree);
		own->left = IN_A_ROW;
	}
	return own->tree;
}

/* After it; and with `all` set also if more writes could follow. */
static void unlock(struct own_tree *own, bool all)
{
	if (!own->left || (--own->left && !all))
		return;
	own->left = 0;
	sheaf_tree_unlock(own->tree);
}

static void own_tree_teardown(void *ctx)
{
	struct own_tree *own = ctx;
	const char *wrong;
	int err;

	unlock(own, true);
	wrong = sheaf_tree_check(own->tree);
	if (wrong) {
		fprintf(stderr, "libsheaf: tree: %s\n", wrong);
		exit(1);
	}
	sheaf_tree_destroy(own->tree);
	err = sheaf_cache_destroy(own->nodes, NULL);
	if (err) {
		fprintf(stderr, "libsheaf: node cache: %s\n", strerror(-err));
		exit(1);
	}
	sheaf_gp_urcu_fini(&own->gp);
	free(own);
}

static void own_tree_clear(void *ctx)
{
	struct own_tree *own = ctx;

	unlock(own, true);
	sheaf_tree_clear(own->tree);
	sheaf_tree_cursor_init(&own->cursor, own->tree);
}

static bool own_tree_append(void *ctx, uint64_t key, void *value)
{
	return sheaf_tree_cursor_store(&((struct own_tree *)ctx)->cursor, key, key, value) == 0;
}

static void own_tree_writes(void *ctx, struct bench_writes *writes)
{
	struct sheaf_tree_stats stats;

	unlock(ctx, true);
	sheaf_tree_stats(((struct own_tree *)ctx)->tree, &stats);
	*writes = (struct bench_writes){stats.writes, stats.nodes_made, stats.objects_made};
}

static void own_tree_trips(void *ctx, struct bench_trips *trips)
{
	own_cache_trips(((struct own_tree *)ctx)->nodes, trips);
}

/* Under the writer lock with nodes for one write, whatever others write meanwhile. */
static bool prepared_lock(struct sheaf_tree *tree, struct sheaf_tree_prep *prep)
{
	while (sheaf_tree_prepare(tree, prep, 1) == 0) {
		sheaf_tree_lock(tree);
		if (sheaf_tree_prepared_locked(tree, prep))
			return true;
		sheaf_tree_unlock(tree);
		sheaf_tree_finish(tree, prep);
	}
	return false;
}

static void prepared_unlock(struct sheaf_tree *tree, struct sheaf_tree_prep *prep)
{
	sheaf_tree_unlock(tree);
	sheaf_tree_finish(tree, prep);
}

static bool prepared_store(void *ctx, uint64_t first, uint64_t last, void *value)
{
	struct sheaf_tree *tree = ((struct own_tree *)ctx)->tree;
	struct sheaf_tree_prep prep;
	int err;

	if (!prepared_lock(tree, &prep))
		return false;
	err = sheaf_tree_store_locked(tree, &prep, first, last, value);
	prepared_unlock(tree, &prep);
	return err == 0;
}

static bool prepared_erase(void *ctx, uint64_t key)
{
	struct sheaf_tree *tree = ((struct own_tree *)ctx)->tree;
	struct sheaf_tree_prep prep;
	int err;

	if (!prepared_lock(tree, &prep))
		return false;
	err = sheaf_tree_erase_locked(tree, &prep, key, NULL);
	prepared_unlock(tree, &prep);
	return err == 0;
}

static uint64_t prepared_map(void *ctx, uint64_t top, uint64_t size, void *value)
{
	struct sheaf_tree *tree = ((struct own_tree *)ctx)->tree;
	const struct sheaf_tree_gap gap = {.min = 1, .max = top - 1, .size = size, .highest = true};
	struct sheaf_tree_prep prep;
	uint64_t at = 0;

	if (!prepared_lock(tree, &prep))
		return 0;
	if (sheaf_tree_store_gap_locked(tree, &prep, &gap, value, &at))
		at = 0;
	prepared_unlock(tree, &prep);
	return at;
}

static bool locked_store(void *ctx, uint64_t first, uint64_t last, void *value)
{
	int err = sheaf_tree_store_locked(locked(ctx), NULL, first, last, value);

	unlock(ctx, false);
	return err == 0;
}

static bool locked_erase(void *ctx, uint64_t key)
{
	int err = sheaf_tree_erase_locked(locked(ctx), NULL, key, NULL);

	unlock(ctx, false);
	return err == 0;
}

static bool locked_append(void *ctx, uint64_t key, void *value)
{
	struct own_tree *own = ctx;
	int err;

	locked(own);
	err = sheaf_tree_cursor_store_locked(&own->cursor, key, key, value);
	unlock(own, false);
	return err == 0;
}

#define OWN_TREE                                                                                   \
	.setup = own_tree_setup, .teardown = own_tree_teardown, .enter = own_tree_enter,           \
	.leave = own_tree_leave, .load = own_tree_load, .scan = own_tree_scan,                     \
	.clear = own_tree_clear, .trips = own_tree_trips, .writes = own_tree_writes

const struct tree_ops tree_sheaf = {
	OWN_TREE,
	.store = own_tree_store,
	.erase = own_tree_erase,
	.map = own_tree_map,
	.append = own_tree_append,
};

const struct tree_ops tree_sheaf_prepared = {
	OWN_TREE,
	.store = prepared_store,
	.erase = prepared_erase,
	.map = prepared_map,
};

const struct tree_ops tree_sheaf_locked = {
	OWN_TREE,
	.store = locked_store,
	.erase = locked_erase,
	.append = locked_append,
};
