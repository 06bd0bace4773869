/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The caches of a round. Small sheaves and barns, so that every layer is passed all the time;
 * between them they have callbacks of both kinds, several nodes, several barns of a node,
 * capacity that follows the load, and trims. Each stands on a backend that passes calls on to the
 * real one and keeps the books: at the end every object has to be back.
 */
#include "torture.h"

#include <errno.h>
#include <inttypes.h>
#include <sheaf/slab.h>
#include <stdio.h>

static const struct spec specs[CACHES] = {
	{.name = "values", .object_size = 96, .capacity = 4, .nodes = 1},
	{.name = "called",
	 .object_size = 192,
	 .capacity = 13,
	 .nodes = 1,
	 .called = true,
	 .made = true},
	{.name = "driven",
	 .object_size = 1000,
	 .capacity = 7,
	 .nodes = NODES,
	 .called = true,
	 .driven = true},
	{.name = "places",
	 .object_size = 64,
	 .capacity = 2,
	 .barn_limit = 2,
	 .nodes = 2,
	 .barns_per_node = 2,
	 .tuned = true},
};

static size_t counted_alloc(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	struct victim *victim = ctx;
	size_t got = victim->below.ops->alloc_bulk(victim->below.ctx, node, flags, n, objects), i;

	for (i = 0; i < got; i++)
		object_come(victim, objects[i]);
	return got;
}

static void counted_free(void *ctx, size_t n, void *const *objects)
{
	struct victim *victim = ctx;
	size_t i;

	for (i = 0; i < n; i++)
		object_go(victim, objects[i]);
	victim->below.ops->free_bulk(victim->below.ctx, n, objects);
}

static void counted_destroy(void *ctx)
{
	struct victim *victim = ctx;

	victim->ended++;
	if (victim->below.ops->destroy)
		victim->below.ops->destroy(victim->below.ctx);
}

static size_t counted_trim(void *ctx)
{
	struct victim *victim = ctx;

	return victim->below.ops->trim ? victim->below.ops->trim(victim->below.ctx) : 0;
}

static int counted_node_of(void *ctx, const void *object)
{
	struct victim *victim = ctx;

	return victim->below.ops->node_of ? victim->below.ops->node_of(victim->below.ctx, object)
					  : SHEAF_NODE_ANY;
}

static const struct sheaf_backend_ops counted = {
	.name = "counted",
	.alloc_bulk = counted_alloc,
	.free_bulk = counted_free,
	.destroy = counted_destroy,
	.trim = counted_trim,
	.node_of = counted_node_of,
};

/* Now and then an object does not come back the common way. */
static void ripe(void *arg, struct sheaf *sheaf)
{
	struct victim *victim = arg;
	uint32_t i;

	for (i = 0; i < sheaf_size(sheaf); i++)
		object_ripe(victim, sheaf->objects[i]);
	if (sheaf_size(sheaf) > 1 && (uintptr_t)sheaf->objects[0] / 64 % 16 == 0)
		sheaf_cache_free(victim->cache, sheaf_pop(sheaf));
}

/* What the backend gives, once. */
static void make(void *arg, size_t n, void *const *objects)
{
	struct victim *victim = arg;
	size_t i;

	for (i = 0; i < n; i++)
		object_made(victim, objects[i]);
	fetch_add_relaxed(&victim->made, n);
}

/* Instead of abort(). */
static void overused(void *arg, struct sheaf_cache *cache, uint32_t asked, const void *caller)
{
	const struct victim *victim = arg;

	(void)caller;
	if (cache != victim->cache || !self || !asked)
		fault("cache %s: who is told of too much use is not who did it",
		      victim->spec->name);
	self->overused++;
}

int victim_place(void *arg)
{
	const struct victim *victim = arg;
	unsigned places = victim->spec->nodes *
			  (victim->spec->barns_per_node ? victim->spec->barns_per_node : 1);

	return self ? (int)(load_relaxed(&self->place) % places) : 0;
}

static int below_begin(struct victim *victim)
{
	struct sheaf_slab_attr attr = {.size = sizeof(attr),
				       .object_size = victim->spec->object_size,
				       .nodes = victim->spec->nodes,
				       .name = victim->spec->name};
	struct sheaf_slab *slab;
	int err;

	if (!torture.options.slab)
		return sheaf_backend_malloc(&victim->below, victim->spec->object_size, 0);
	err = sheaf_slab_create(&slab, &attr);
	if (!err)
		victim->below = sheaf_slab_backend(slab);
	return err;
}

static int victim_begin(struct victim *victim)
{
	const struct spec *spec = victim->spec;
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = spec->object_size,
		.name = spec->name,
		.capacity = spec->capacity,
		.barn_full = spec->barn_limit,
		.barn_empty = spec->barn_limit,
		.gp = torture.gp,
		.rcu_age_us = 2000,
		.nodes = spec->nodes,
		.barns_per_node = spec->barns_per_node,
		.current_node = spec->nodes > 1 ? victim_place : NULL,
		.node_arg = victim,
		.backend = {&counted, victim},
		.trim_us = spec->tuned ? 3000 : 0,
		.tune = spec->tuned,
		.slots = torture.options.slots,
		.overuse = overused,
		.overuse_arg = victim,
		.ctor = spec->made ? make : NULL,
		.ctor_arg = victim,
	};
	int err = below_begin(victim);

	if (err)
		return err;
	if (spec->called) {
		attr.ripe = ripe;
		attr.ripe_arg = victim;
		attr.ripe_by = spec->driven && torture.gp->ops->attach ? SHEAF_RIPE_BY_DRIVER
								       : SHEAF_RIPE_BY_TAKER;
	}
	err = sheaf_cache_create(&victim->cache, &attr);
	if (err)
		counted_destroy(victim);
	return err;
}

int victims_begin(const char **what)
{
	unsigned c;
	int err;

	for (c = 0; c < CACHES; c++) {
		torture.victims[c] = (struct victim){.spec = &specs[c]};
		*what = specs[c].name;
		err = victim_begin(&torture.victims[c]);
		if (err)
			return err;
	}
	*what = "nodes";
	return sheaf_tree_nodes_create(&torture.nodes, torture.gp);
}

/* Retired objects are free after it; a manual source is stepped meanwhile. */
static int settle(struct sheaf_cache *cache)
{
	int err, tries;

	for (tries = 0; (err = sheaf_cache_barrier(cache)) == -EDEADLK && tries < 1000; tries++)
		source_tend();
	return err;
}

static void end(struct sheaf_cache *cache, const char *name)
{
	struct sheaf_cache_stats stats;
	size_t live = 0;
	int err = settle(cache);

	if (err)
		fault("cache %s: barrier fails (%d)", name, err);
	sheaf_cache_shrink(cache);
	if (!sheaf_cache_check(cache))
		fault("cache %s: an invariant does not hold", name);
	sheaf_cache_stats(cache, &stats, sizeof(stats));
	if (stats.budget_used !=
	    (stats.backend_allocated - stats.backend_freed) * stats.object_size)
		fault("cache %s: its budget says %" PRIu64 " bytes, its counters %" PRIu64, name,
		      stats.budget_used,
		      (stats.backend_allocated - stats.backend_freed) * stats.object_size);
	err = sheaf_cache_destroy(cache, &live);
	if (err)
		fault("cache %s: %zu objects are lost, %" PRIu64 " of them given up for want of "
		      "memory (destroy says %d)",
		      name, live, stats.abandoned, err);
}

void victims_end(void)
{
	unsigned c;

	for (c = 0; c < CACHES; c++) {
		struct victim *victim = &torture.victims[c];

		end(victim->cache, victim->spec->name);
		if (victim->spec->made && victim->made != victim->come)
			fault("cache %s: %" PRIu64 " objects came from the backend, and %" PRIu64
			      " through the constructor",
			      victim->spec->name, victim->come, victim->made);
		if (victim->out || victim->ended != 1)
			fault("cache %s: %" PRIu64 " objects have not come back to the backend, "
			      "which was ended %" PRIu64 " times",
			      victim->spec->name, victim->out, victim->ended);
	}
	end(torture.nodes, "nodes");
	if (sheaf_budget_used())
		fault("%" PRIu64 " bytes are counted that no cache has", sheaf_budget_used());
}
