/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A backend for tests: a fixed number of objects, each with a stamp of who has it,
 * counts of all calls, and ways to make it fail.
 *
 *	stamp   0            the backend
 *	        1            the layers above it
 *	        2 and more   a user, as it says with arena_own()
 *
 * Stamps lie beside the objects, so nothing here looks at memory that a checker calls
 * free. They are changed by exchange: of two owners one finds the other.
 */
#ifndef TESTS_CACHE_ARENA_H
#define TESTS_CACHE_ARENA_H

#include <sheaf/cache.h>

#include <pthread.h>

enum { ARENA_BACKEND = 0, ARENA_LAYERS = 1, ARENA_USER = 2 };

#define ARENA_OBJECTS 4096

struct arena {
	pthread_mutex_t lock;
	size_t object_size;
	char *memory;
	unsigned stack[ARENA_OBJECTS];
	unsigned free;
	uint32_t owner[ARENA_OBJECTS];
	/* The node that each object was asked for, what node_of says; under the lock. */
	uint8_t home[ARENA_OBJECTS];

	/* Counted; under the lock. */
	uint64_t alloc_calls;
	uint64_t free_calls;
	uint64_t allocated;
	uint64_t freed;
	uint64_t nowait_calls;
	size_t last_alloc;
	size_t last_free;
	int last_node;
	uint64_t trims;
	bool destroyed;
	/* Objects freed that were not out, or handed over with the wrong stamp; relaxed. */
	unsigned errors;

	/* Knobs. */
	unsigned most;     /* objects that may be out at one time */
	unsigned per_call; /* objects that one call hands out at most */
	bool nowait_too;   /* hands out under SHEAF_NOWAIT as well */
	bool knows_nodes;  /* before the cache is made: has node_of */
	unsigned memory_nodes; /* nodes above have no memory: node_of says 0; 0: all have */
	/* Called first in each operation, if set. */
	void (*hook)(void *arg);
	void *hook_arg;
};

/* Starts all over with nothing out and no limits. */
void arena_init(struct arena *arena, size_t object_size);

/* Frees the memory; all objects must be back. */
void arena_fini(struct arena *arena);

struct sheaf_backend arena_backend(struct arena *arena);

/* A cache over the arena; size, object size and backend of @p attr are filled in. */
struct sheaf_cache *arena_cache(struct arena *arena, struct sheaf_cache_attr attr);

/* Ends the cache, and the arena: everything is back, nothing was wrong. */
void arena_cache_end(struct arena *arena, struct sheaf_cache *cache);

/* Counters of a cache, as a value. */
struct sheaf_cache_stats cache_stats(struct sheaf_cache *cache);

/* The same with the tasks of the source held back: else what one has in hand is in no list. */
struct sheaf_cache_stats cache_stats_at_rest(struct sheaf_cache *cache);

/* Objects that are out. */
uint64_t arena_out(struct arena *arena);

/* The number of an object. */
unsigned arena_index(const struct arena *arena, const void *object);

/* An object goes from the layers to a user (2 or more), and back. False if it was not there. */
bool arena_own(struct arena *arena, void *object, uint32_t user);
bool arena_disown(struct arena *arena, void *object, uint32_t user);

#endif
