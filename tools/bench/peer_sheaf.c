/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Our own side: a cache over the slab backend (never over malloc, which would be a second
 * cache below), with liburcu's default flavour for what is retired.
 *
 * `libsheaf-bulk` is the same cache, but takes the worst case of a section in bulk instead
 * of borrowing a prefilled sheaf. `libsheaf-thread` is the same with slots per thread, for
 * what slots per CPU save with many threads. `libsheaf-prepared` is our tree, and each write
 * to it has its nodes set aside beforehand; `libsheaf-locked` holds the tree's lock for 64
 * writes in a row, where the tree of `libsheaf` takes it for each.
 */
#include "peer_generic.h"
#include "peers_in.h"

#include <sheaf/cache.h>
#include <sheaf/slab.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

struct own {
	unsigned slots;
	/* Neighbours stand on different nodes. */
	bool remote;
	struct sheaf_cache *cache;
	struct sheaf_slab *slab;
	struct sheaf_gp_urcu gp;
};

static __thread int own_node;

static int own_current_node(void *arg)
{
	(void)arg;
	return own_node;
}

/* Threads stand on injected nodes by pairs, because those of a pipe belong together. */
static void own_enter(void *ctx, unsigned thread)
{
	const struct own *own = ctx;

	own_node = (int)((own->remote ? thread : thread / 2) % 64);
	rcu_register_thread();
}

static void own_leave(void *ctx)
{
	(void)ctx;
	rcu_unregister_thread();
}

static int own_cache(struct own *own, const struct bench_env *env)
{
	struct sheaf_slab_attr slab_attr = {
		.size = sizeof(slab_attr),
		.object_size = env->param[PARAM_SIZE],
		.nodes = (unsigned)env->param[PARAM_NODES],
	};
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = env->param[PARAM_SIZE],
		.name = "bench",
		.gp = &own->gp.gp,
		.rcu_soft_bytes = env->param[PARAM_LIMIT] << 20,
		.rcu_hard_bytes = env->param[PARAM_LIMIT] ? UINT64_MAX : 0,
		.nodes = (unsigned)env->param[PARAM_NODES],
		.current_node = env->param[PARAM_NODES] ? own_current_node : NULL,
		/* Trips with injected nodes are to depend on no machine: not on its CPUs either. */
		.slots = env->param[PARAM_NODES] ? SHEAF_SLOTS_THREAD : own->slots,
		.trim_us = env->param[PARAM_NODES] ? UINT32_MAX : 0,
	};
	struct sheaf_slab *slab;
	int err = sheaf_slab_create(&slab, &slab_attr);

	if (err)
		return err;
	attr.backend = sheaf_slab_backend(slab);
	err = sheaf_cache_create(&own->cache, &attr);
	if (err)
		sheaf_slab_destroy(slab);
	own->slab = slab;
	return err;
}

static void *own_setup_with(const struct bench_env *env, unsigned slots)
{
	const struct sheaf_gp_driver_attr pace = {
		.size = sizeof(pace),
		.spacing_us = (uint32_t)env->param[PARAM_SPACING],
	};
	struct own *own = calloc(1, sizeof(*own));
	int err;

	if (!own)
		return NULL;
	own->slots = slots;
	own->remote = env->param[PARAM_PATTERN] == TRIP_REMOTE;
	err = sheaf_gp_urcu_init(&own->gp, &rcu_flavor, &pace);
	if (!err)
		err = own_cache(own, env);
	if (err) {
		fprintf(stderr, "libsheaf: %s\n", strerror(-err));
		free(own);
		return NULL;
	}
	return own;
}

static void *own_setup(const struct bench_env *env)
{
	return own_setup_with(env, SHEAF_SLOTS_DEFAULT);
}

static void *own_thread_setup(const struct bench_env *env)
{
	return own_setup_with(env, SHEAF_SLOTS_THREAD);
}

/* Everything must be back: a lost object would be a fault of the pattern or of ours. */
static void own_teardown(void *ctx)
{
	struct own *own = ctx;
	size_t live = 0;
	int err = sheaf_cache_destroy(own->cache, &live);

	if (err) {
		fprintf(stderr, "libsheaf: destroy: %s, %zu objects out\n", strerror(-err), live);
		exit(1);
	}
	sheaf_gp_urcu_fini(&own->gp);
	free(own);
}

static void *own_alloc(void *ctx)
{
	return sheaf_cache_alloc(((struct own *)ctx)->cache, 0);
}

static void own_free(void *ctx, void *object)
{
	sheaf_cache_free(((struct own *)ctx)->cache, object);
}

static bool own_alloc_bulk(void *ctx, size_t n, void **objects)
{
	return sheaf_cache_alloc_bulk(((struct own *)ctx)->cache, 0, n, objects) == n;
}

static void own_free_bulk(void *ctx, size_t n, void **objects)
{
	sheaf_cache_free_bulk(((struct own *)ctx)->cache, n, objects);
}

static bool own_section_begin(void *ctx, struct bench_section *section, unsigned bound)
{
	section->sheaf = sheaf_cache_prefill(((struct own *)ctx)->cache, bound, 0);
	return section->sheaf;
}

static void *own_section_alloc(void *ctx, struct bench_section *section)
{
	return sheaf_cache_alloc_from(((struct own *)ctx)->cache, section->sheaf);
}

static void own_section_end(void *ctx, struct bench_section *section)
{
	sheaf_cache_return(((struct own *)ctx)->cache, section->sheaf);
}

static SECTION_BEGIN_BULK(own_bulk_section_begin, own_alloc_bulk) static SECTION_ALLOC_BULK(
	own_bulk_section_alloc) static SECTION_END_BULK(own_bulk_section_end, own_free_bulk)

	static void own_retire(void *ctx, void *object)
{
	sheaf_cache_free_rcu(((struct own *)ctx)->cache, object);
}

static void own_read_lock(void *ctx)
{
	sheaf_gp_read_lock(&((struct own *)ctx)->gp.gp);
}

static void own_read_unlock(void *ctx)
{
	sheaf_gp_read_unlock(&((struct own *)ctx)->gp.gp);
}

static void own_settle(void *ctx)
{
	(void)sheaf_cache_barrier(((struct own *)ctx)->cache);
}

void own_cache_trips(struct sheaf_cache *cache, struct bench_trips *trips)
{
	struct sheaf_cache_stats stats;

	sheaf_cache_stats(cache, &stats, sizeof(stats));
	trips->barn_alloc = stats.barn_alloc_trips;
	trips->barn_free = stats.barn_free_trips;
	trips->barn_failed = stats.barn_failed;
	trips->backend_alloc = stats.backend_alloc_trips;
	trips->backend_free = stats.backend_free_trips;
	trips->home = stats.home_trips;
	trips->held_slots = stats.held_slots;
	trips->held_barns = stats.held_barns;
	trips->in_flight = stats.in_flight;
	trips->capacity = stats.capacity;
	trips->cpu_slots = stats.cpu_slots;
}

static void own_trips(void *ctx, struct bench_trips *trips)
{
	struct own *own = ctx;
	struct sheaf_slab_stats stats;
	uint64_t held;

	own_cache_trips(own->cache, trips);
	sheaf_slab_stats(own->slab, &stats);
	trips->slab_fragmentation = stats.fragmentation;
	/* Exact when nobody is at it. */
	held = trips->held_slots + trips->held_barns + trips->in_flight;
	if (stats.objects > held)
		trips->fragmentation = stats.fragmentation * stats.objects / (stats.objects - held);
}

static void own_cold(void *ctx)
{
	sheaf_cache_shrink(((struct own *)ctx)->cache);
}

static const struct object_ops own_objects = {
	.cold = own_cold,
	.setup = own_setup,
	.teardown = own_teardown,
	.enter = own_enter,
	.leave = own_leave,
	.alloc = own_alloc,
	.free = own_free,
	.alloc_bulk = own_alloc_bulk,
	.free_bulk = own_free_bulk,
	.section_begin = own_section_begin,
	.section_alloc = own_section_alloc,
	.section_end = own_section_end,
	.retire = own_retire,
	.read_lock = own_read_lock,
	.read_unlock = own_read_unlock,
	.settle = own_settle,
	.trips = own_trips,
};

static const struct object_ops own_bulk_objects = {
	.setup = own_setup,
	.teardown = own_teardown,
	.enter = own_enter,
	.leave = own_leave,
	.alloc = own_alloc,
	.free = own_free,
	.alloc_bulk = own_alloc_bulk,
	.free_bulk = own_free_bulk,
	.section_begin = own_bulk_section_begin,
	.section_alloc = own_bulk_section_alloc,
	.section_end = own_bulk_section_end,
	.trips = own_trips,
};

static const struct object_ops own_thread_objects = {
	.setup = own_thread_setup,
	.teardown = own_teardown,
	.enter = own_enter,
	.leave = own_leave,
	.alloc = own_alloc,
	.free = own_free,
	.trips = own_trips,
};

static void own_version(char *text, size_t bytes)
{
	snprintf(text, bytes, "%s", SHEAF_VERSION);
}

const struct bench_peer peer_sheaf = {
	.object = &own_objects,
	.points = &tree_sheaf,
	.ranges = &tree_sheaf,
	.pool = &pool_barn,
	.version = own_version,
};

const struct bench_peer peer_sheaf_bulk = {
	.object = &own_bulk_objects,
	.version = own_version,
};

const struct bench_peer peer_sheaf_thread = {
	.object = &own_thread_objects,
	.version = own_version,
};

const struct bench_peer peer_sheaf_prepared = {
	.points = &tree_sheaf_prepared,
	.ranges = &tree_sheaf_prepared,
	.version = own_version,
};

const struct bench_peer peer_sheaf_locked = {
	.points = &tree_sheaf_locked,
	.version = own_version,
};
