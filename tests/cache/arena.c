/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "arena.h"

#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <stdlib.h>
#include <string.h>

unsigned arena_index(const struct arena *arena, const void *object)
{
	return (unsigned)((size_t)((const char *)object - arena->memory) / arena->object_size);
}

static bool pass_on(struct arena *arena, const void *object, uint32_t from, uint32_t to)
{
	unsigned i = arena_index(arena, object);
	bool right = i < ARENA_OBJECTS && exchange_relaxed(&arena->owner[i], to) == from;

	if (!right)
		fetch_add_relaxed(&arena->errors, 1);
	return right;
}

bool arena_own(struct arena *arena, void *object, uint32_t user)
{
	return pass_on(arena, object, ARENA_LAYERS, user);
}

bool arena_disown(struct arena *arena, void *object, uint32_t user)
{
	return pass_on(arena, object, user, ARENA_LAYERS);
}

static size_t most_now(const struct arena *arena, size_t n)
{
	size_t out = (size_t)(arena->allocated - arena->freed);

	if (n > arena->per_call)
		n = arena->per_call;
	if (n > arena->free)
		n = arena->free;
	if (out >= arena->most)
		return 0;
	return n > arena->most - out ? arena->most - out : n;
}

static size_t arena_alloc(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	struct arena *arena = ctx;
	size_t i;

	if (arena->hook)
		arena->hook(arena->hook_arg);
	pthread_mutex_lock(&arena->lock);
	arena->alloc_calls++;
	arena->last_alloc = n;
	arena->last_node = node;
	if (flags & SHEAF_NOWAIT)
		arena->nowait_calls++;
	n = (flags & SHEAF_NOWAIT) && !arena->nowait_too ? 0 : most_now(arena, n);
	for (i = 0; i < n; i++) {
		objects[i] = arena->memory + arena->stack[--arena->free] * arena->object_size;
		arena->home[arena_index(arena, objects[i])] =
			arena->memory_nodes && (unsigned)node >= arena->memory_nodes
				? 0
				: (uint8_t)node;
		pass_on(arena, objects[i], ARENA_BACKEND, ARENA_LAYERS);
	}
	arena->allocated += n;
	pthread_mutex_unlock(&arena->lock);
	return n;
}

static void arena_free(void *ctx, size_t n, void *const *objects)
{
	struct arena *arena = ctx;
	size_t i;

	if (arena->hook)
		arena->hook(arena->hook_arg);
	pthread_mutex_lock(&arena->lock);
	arena->free_calls++;
	arena->last_free = n;
	arena->freed += n;
	for (i = 0; i < n; i++)
		if (pass_on(arena, objects[i], ARENA_LAYERS, ARENA_BACKEND))
			arena->stack[arena->free++] = arena_index(arena, objects[i]);
	pthread_mutex_unlock(&arena->lock);
}

static size_t arena_trim(void *ctx)
{
	struct arena *arena = ctx;

	pthread_mutex_lock(&arena->lock);
	arena->trims++;
	pthread_mutex_unlock(&arena->lock);
	return 0;
}

static int arena_node_of(void *ctx, const void *object)
{
	const struct arena *arena = ctx;

	return load_relaxed(&arena->home[arena_index(arena, object)]);
}

static void arena_destroy(void *ctx)
{
	struct arena *arena = ctx;

	arena->destroyed = true;
}

static const struct sheaf_backend_ops arena_ops = {
	.name = "arena",
	.alloc_bulk = arena_alloc,
	.free_bulk = arena_free,
	.destroy = arena_destroy,
	.trim = arena_trim,
};

static const struct sheaf_backend_ops arena_node_ops = {
	.name = "arena",
	.alloc_bulk = arena_alloc,
	.free_bulk = arena_free,
	.destroy = arena_destroy,
	.trim = arena_trim,
	.node_of = arena_node_of,
};

struct sheaf_backend arena_backend(struct arena *arena)
{
	return (struct sheaf_backend){arena->knows_nodes ? &arena_node_ops : &arena_ops, arena};
}

uint64_t arena_out(struct arena *arena)
{
	uint64_t out;

	pthread_mutex_lock(&arena->lock);
	out = arena->allocated - arena->freed;
	pthread_mutex_unlock(&arena->lock);
	return out;
}

void arena_init(struct arena *arena, size_t object_size)
{
	memset(arena, 0, sizeof(*arena));
	pthread_mutex_init(&arena->lock, NULL);
	arena->object_size = object_size;
	arena->memory = malloc(ARENA_OBJECTS * object_size);
	ck_assert_ptr_nonnull(arena->memory);
	/* The lowest is handed out first. */
	for (arena->free = 0; arena->free < ARENA_OBJECTS; arena->free++)
		arena->stack[arena->free] = ARENA_OBJECTS - 1 - arena->free;
	arena->most = arena->per_call = ARENA_OBJECTS;
}

void arena_fini(struct arena *arena)
{
	ck_assert_uint_eq(arena->errors, 0);
	ck_assert_uint_eq(arena->allocated, arena->freed);
	pthread_mutex_destroy(&arena->lock);
	free(arena->memory);
}

struct sheaf_cache *arena_cache(struct arena *arena, struct sheaf_cache_attr attr)
{
	struct sheaf_cache *cache = NULL;

	attr.size = sizeof(attr);
	attr.object_size = arena->object_size;
	attr.backend = arena_backend(arena);
	ck_assert_int_eq(sheaf_cache_create(&cache, &attr), 0);
	return cache;
}

void arena_cache_end(struct arena *arena, struct sheaf_cache *cache)
{
	size_t live = 1;

	ck_assert(sheaf_cache_check(cache));
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), 0);
	ck_assert_uint_eq(live, 0);
	ck_assert(arena->destroyed);
	arena_fini(arena);
}

struct sheaf_cache_stats cache_stats(struct sheaf_cache *cache)
{
	struct sheaf_cache_stats stats;

	sheaf_cache_stats(cache, &stats, sizeof(stats));
	return stats;
}

struct sheaf_cache_stats cache_stats_at_rest(struct sheaf_cache *cache)
{
	struct sheaf_cache_stats stats;

	cache_ripe_end(cache);
	stats = cache_stats(cache);
	cache_ripe_again(cache);
	return stats;
}
