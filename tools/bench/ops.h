/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What a competitor is: a table of operations. The pattern of a scenario is one function
 * that calls through such a table, so every competitor, our own side and the limit
 * included, pays the same one indirect call per operation. What follows is its own affair:
 * a call into a library, or code that is inline in the operation.
 *
 * C++ includes this too. A peer with a library of its own is a module that exports
 * `bench_peer`.
 */
#ifndef BENCH_OPS_H
#define BENCH_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers that a scenario is run with; names in scenarios.c. */
enum bench_param {
	PARAM_SIZE,    /* bytes of an object */
	PARAM_BATCH,   /* objects allocated before they are freed */
	PARAM_LIVE,    /* objects that stay allocated, per thread */
	PARAM_THREADS, /* that run the pattern */
	PARAM_NODES,   /* injected NUMA nodes; 0: those of the system */
	PARAM_READERS, /* threads in read sections meanwhile */
	PARAM_BOUND,   /* most that a section can need */
	PARAM_USED,    /* what it needs */
	PARAM_KEYS,    /* entries of a tree of points */
	PARAM_RANGES,  /* entries of a tree of ranges */
	PARAM_ORDER,   /* enum bench_order */
	PARAM_PATTERN, /* of trips: index into trip_patterns */
	PARAM_SPACING, /* microseconds between grace periods; 0: the controller's */
	PARAM_LIMIT,   /* soft limit of what is in flight, MiB; 0: the default */
	PARAM_STEPS,   /* of private work between two trades, about 2 ns each */
	BENCH_PARAMS
};

/* Keys of a tree of points. */
enum bench_order { ORDER_SEQUENTIAL, ORDER_RANDOM, ORDER_SPARSE };

struct bench_env {
	uint64_t param[BENCH_PARAMS];
	/* Most objects allocated at one time, for those who set them aside at the start. */
	uint64_t live;
};

/* Trips and what is held where; counters since setup. Only our own side has them. */
/* Index into trip_patterns: a pipe whose ends are on different nodes. */
#define TRIP_REMOTE 4

struct bench_trips {
	uint64_t barn_alloc;
	uint64_t barn_free;
	uint64_t barn_failed;
	uint64_t backend_alloc;
	uint64_t backend_free;
	/* Visits to barns of other nodes that took objects home. */
	uint64_t home;
	uint64_t held_slots;
	uint64_t held_barns;
	uint64_t in_flight;
	/* 1 if slots are per CPU, 0 if they are per thread. */
	uint64_t cpu_slots;
	uint64_t capacity;
	/* Bytes in slabs by a thousand bytes of objects: those that are out of the backend, and
	 * those that the program has. */
	uint64_t slab_fragmentation;
	uint64_t fragmentation;
};

/* A section that needs up to `bound` objects: what was set aside for it. */
struct bench_section {
	void *sheaf;
	unsigned n;
	unsigned next;
	void *objects[64];
};

/*
 * Objects. setup() returns NULL after a message on stderr. enter and leave are called by
 * each thread; they, settle and trips may be NULL. So may what a competitor cannot do: it
 * is not run in scenarios that need it.
 */
struct object_ops {
	void *(*setup)(const struct bench_env *env);
	void (*teardown)(void *ctx);
	void (*enter)(void *ctx, unsigned thread);
	void (*leave)(void *ctx);
	void *(*alloc)(void *ctx);
	void (*free)(void *ctx, void *object);
	bool (*alloc_bulk)(void *ctx, size_t n, void **objects);
	void (*free_bulk)(void *ctx, size_t n, void **objects);
	bool (*section_begin)(void *ctx, struct bench_section *section, unsigned bound);
	void *(*section_alloc)(void *ctx, struct bench_section *section);
	void (*section_end)(void *ctx, struct bench_section *section);
	/* Free after a grace period, and the read sections it waits for. */
	void (*retire)(void *ctx, void *object);
	void (*read_lock)(void *ctx);
	void (*read_unlock)(void *ctx);
	/* Wait for what is deferred; after each round, not timed. */
	void (*settle)(void *ctx);
	void (*trips)(void *ctx, struct bench_trips *trips);
	/* What this thread and the process hold ready in caches goes to the layer below; not timed. */
	void (*cold)(void *ctx);
};

/* Writes to a tree that changed something, and what they took for its nodes, since setup. */
struct bench_writes {
	uint64_t writes;
	uint64_t nodes;
	uint64_t objects;
};

/*
 * Trees of uint64_t keys to non-NULL values, safe for any number of threads. In a tree of
 * points first == last. map() finds the highest free place of `size` keys below `top`,
 * stores there, and returns its first key, or 0. append() stores a key above all that are
 * there; who has nothing faster than store() for it leaves it NULL.
 */
struct tree_ops {
	void *(*setup)(const struct bench_env *env);
	void (*teardown)(void *ctx);
	void (*enter)(void *ctx);
	void (*leave)(void *ctx);
	void *(*load)(void *ctx, uint64_t key);
	bool (*store)(void *ctx, uint64_t first, uint64_t last, void *value);
	bool (*erase)(void *ctx, uint64_t key);
	/* Visit up to n entries upwards from a key: adds their values to *sum, returns how many. */
	uint64_t (*scan)(void *ctx, uint64_t from, uint64_t n, uint64_t *sum);
	uint64_t (*map)(void *ctx, uint64_t top, uint64_t size, void *value);
	/* Remove everything; no other thread is in the tree. */
	void (*clear)(void *ctx);
	void (*trips)(void *ctx, struct bench_trips *trips);
	bool (*append)(void *ctx, uint64_t key, void *value);
	/* Only our own side counts. */
	void (*writes)(void *ctx, struct bench_writes *writes);
};

/*
 * Pools of full and empty sheaves, safe for any number of threads. A trade gives the caller's
 * sheaf for one of the other kind, or returns NULL and leaves it. give and take: at the
 * start and at the end, with no other thread in the pool.
 */
struct sheaf;

struct pool_ops {
	void *(*setup)(const struct bench_env *env);
	void (*teardown)(void *ctx);
	void (*give)(void *ctx, struct sheaf *sheaf);
	struct sheaf *(*take)(void *ctx, bool full);
	struct sheaf *(*trade_empty)(void *ctx, struct sheaf *empty);
	struct sheaf *(*trade_full)(void *ctx, struct sheaf *full);
};

struct bench_peer {
	const struct object_ops *object;
	const struct tree_ops *points;
	const struct tree_ops *ranges;
	/* Version of the library, for the machine line; into text of the caller. */
	void (*version)(char *text, size_t bytes);
	const struct pool_ops *pool;
};

#ifdef __cplusplus
}
#endif

#endif
