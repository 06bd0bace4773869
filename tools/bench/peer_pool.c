/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Pools of full and empty sheaves: the barn, and what could have been its mechanism. A pool
 * is two sides; a trade takes from one and gives to the other.
 */
#include "peers_in.h"

#include <ck_ring.h>
#include <ck_spinlock.h>
#include <ck_stack.h>
#include <pthread.h>
#include <sheaf/barn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Places of a ring: more than there ever are sheaves. */
#define RING 1024

static void *zeroed(size_t bytes)
{
	void *memory;

	bytes = (bytes + 127) & ~(size_t)127;
	memory = aligned_alloc(128, bytes);
	if (memory)
		memset(memory, 0, bytes);
	else
		fprintf(stderr, "out of memory\n");
	return memory;
}

/* Gives each pool the functions of its table, from one to put and one to get; they are
 * inlined, as the barn's own are in the library. */
#define POOL_TRADES(name)                                                                          \
	static void name##_give(void *ctx, struct sheaf *sheaf)                                    \
	{                                                                                          \
		name##_put(ctx, !sheaf_empty(sheaf), sheaf);                                       \
	}                                                                                          \
                                                                                                   \
	static struct sheaf *name##_take(void *ctx, bool full)                                     \
	{                                                                                          \
		return name##_get(ctx, full);                                                      \
	}                                                                                          \
                                                                                                   \
	static struct sheaf *name##_trade_empty(void *ctx, struct sheaf *empty)                    \
	{                                                                                          \
		struct sheaf *full = name##_get(ctx, true);                                        \
                                                                                                   \
		if (full)                                                                          \
			name##_put(ctx, false, empty);                                             \
		return full;                                                                       \
	}                                                                                          \
                                                                                                   \
	static struct sheaf *name##_trade_full(void *ctx, struct sheaf *full)                      \
	{                                                                                          \
		struct sheaf *empty = name##_get(ctx, false);                                      \
                                                                                                   \
		if (empty)                                                                         \
			name##_put(ctx, true, full);                                               \
		return empty;                                                                      \
	}

#define POOL_TABLE(name)                                                                           \
	{                                                                                          \
		.setup = name##_setup, .teardown = free, .give = name##_give, .take = name##_take, \
		.trade_empty = name##_trade_empty, .trade_full = name##_trade_full                 \
	}

/* ---- The barn ---- */

static void *barn_setup(const struct bench_env *env)
{
	struct sheaf_barn *barn = zeroed(sizeof(*barn));

	(void)env;
	if (barn)
		sheaf_barn_init(barn, 0, SHEAF_BARN_CELLS, SHEAF_BARN_CELLS);
	return barn;
}

static void barn_teardown(void *ctx)
{
	struct sheaf_barn_stats stats;

	sheaf_barn_stats(ctx, &stats);
	if (!sheaf_barn_check(ctx) || stats.full.held || stats.empty.held) {
		fprintf(stderr, "libsheaf: the barn is not what it should be\n");
		exit(1);
	}
	free(ctx);
}

static void barn_give(void *ctx, struct sheaf *sheaf)
{
	sheaf_barn_keep(ctx, sheaf);
}

static struct sheaf *barn_take(void *ctx, bool full)
{
	return full ? sheaf_barn_take_full(ctx) : sheaf_barn_take_empty(ctx);
}

static struct sheaf *barn_trade_empty(void *ctx, struct sheaf *empty)
{
	return sheaf_barn_trade_empty(ctx, empty);
}

static struct sheaf *barn_trade_full(void *ctx, struct sheaf *full)
{
	return sheaf_barn_trade_full(ctx, full);
}

const struct pool_ops pool_barn = {
	.setup = barn_setup,
	.teardown = barn_teardown,
	.give = barn_give,
	.take = barn_take,
	.trade_empty = barn_trade_empty,
	.trade_full = barn_trade_full,
};

/* ---- Two stacks of Concurrency Kit; the sheaves must outlive all pops ---- */

struct stack_side {
	ck_stack_t stack;
} __attribute__((aligned(128)));

#ifdef CK_F_STACK_POP_MPMC

static void *stacks_setup(const struct bench_env *env)
{
	struct stack_side *sides = zeroed(2 * sizeof(*sides));

	(void)env;
	if (sides) {
		ck_stack_init(&sides[0].stack);
		ck_stack_init(&sides[1].stack);
	}
	return sides;
}

static void stacks_put(struct stack_side *sides, bool full, struct sheaf *sheaf)
{
	ck_stack_push_mpmc(&sides[full].stack, (ck_stack_entry_t *)(void *)&sheaf->link);
}

static struct sheaf *stacks_get(struct stack_side *sides, bool full)
{
	ck_stack_entry_t *entry = ck_stack_pop_mpmc(&sides[full].stack);

	return entry ? (struct sheaf *)(void *)((char *)entry - offsetof(struct sheaf, link))
		     : NULL;
}

POOL_TRADES(stacks)

#else

static void *stacks_setup(const struct bench_env *env)
{
	(void)env;
	fprintf(stderr, "ck_stack has no pop for many consumers on this machine\n");
	return NULL;
}

static void stacks_give(void *ctx, struct sheaf *sheaf)
{
	((struct stack_side *)ctx)->stack.head = (ck_stack_entry_t *)(void *)&sheaf->link;
}

#endif

const struct pool_ops pool_ck_stack = POOL_TABLE(stacks);

/* ---- Two rings of Concurrency Kit: oldest first ---- */

struct ring_side {
	ck_ring_t ring;
	ck_ring_buffer_t buffer[RING];
} __attribute__((aligned(128)));

static void *rings_setup(const struct bench_env *env)
{
	struct ring_side *sides = zeroed(2 * sizeof(*sides));

	(void)env;
	if (sides) {
		ck_ring_init(&sides[0].ring, RING);
		ck_ring_init(&sides[1].ring, RING);
	}
	return sides;
}

static void rings_put(struct ring_side *sides, bool full, struct sheaf *sheaf)
{
	if (!ck_ring_enqueue_mpmc(&sides[full].ring, sides[full].buffer, sheaf)) {
		fprintf(stderr, "ck_ring: full\n");
		abort();
	}
}

static struct sheaf *rings_get(struct ring_side *sides, bool full)
{
	void *sheaf;

	return ck_ring_dequeue_mpmc(&sides[full].ring, sides[full].buffer, &sheaf) ? sheaf : NULL;
}

POOL_TRADES(rings)

const struct pool_ops pool_ck_ring = POOL_TABLE(rings);

/* ---- Two lists under one lock: a trade is one hold ---- */

struct lists {
	struct sheaf *head[2];
};

static inline struct sheaf *lists_get(struct lists *lists, bool full)
{
	struct sheaf *sheaf = lists->head[full];

	if (sheaf)
		lists->head[full] = sheaf->link;
	return sheaf;
}

static inline void lists_put(struct lists *lists, bool full, struct sheaf *sheaf)
{
	sheaf->link = lists->head[full];
	lists->head[full] = sheaf;
}

/* From one list and to the other; either sheaf may be NULL. */
static inline struct sheaf *lists_trade(struct lists *lists, bool take, bool full,
					struct sheaf *mine)
{
	struct sheaf *other = take ? lists_get(lists, full) : NULL;

	if (mine && (other || !take))
		lists_put(lists, !full, mine);
	return other;
}

#define LOCKED_POOL(name, type, init, lock, unlock)                                                \
	struct name {                                                                              \
		type word;                                                                         \
		struct lists lists;                                                                \
	};                                                                                         \
                                                                                                   \
	static void *name##_setup(const struct bench_env *env)                                     \
	{                                                                                          \
		struct name *pool = zeroed(sizeof(*pool));                                         \
                                                                                                   \
		(void)env;                                                                         \
		if (pool)                                                                          \
			init;                                                                      \
		return pool;                                                                       \
	}                                                                                          \
                                                                                                   \
	static struct sheaf *name##_do(void *ctx, bool take, bool full, struct sheaf *mine)        \
	{                                                                                          \
		struct name *pool = ctx;                                                           \
		struct sheaf *other;                                                               \
                                                                                                   \
		lock(&pool->word);                                                                 \
		other = lists_trade(&pool->lists, take, full, mine);                               \
		unlock(&pool->word);                                                               \
		return other;                                                                      \
	}                                                                                          \
                                                                                                   \
	static void name##_give(void *ctx, struct sheaf *sheaf)                                    \
	{                                                                                          \
		name##_do(ctx, false, sheaf_empty(sheaf), sheaf);                                  \
	}                                                                                          \
                                                                                                   \
	static struct sheaf *name##_take(void *ctx, bool full)                                     \
	{                                                                                          \
		return name##_do(ctx, true, full, NULL);                                           \
	}                                                                                          \
                                                                                                   \
	static struct sheaf *name##_trade_empty(void *ctx, struct sheaf *empty)                    \
	{                                                                                          \
		return name##_do(ctx, true, true, empty);                                          \
	}                                                                                          \
                                                                                                   \
	static struct sheaf *name##_trade_full(void *ctx, struct sheaf *full)                      \
	{                                                                                          \
		return name##_do(ctx, true, false, full);                                          \
	}

LOCKED_POOL(fas, ck_spinlock_fas_t, ck_spinlock_fas_init(&pool->word), ck_spinlock_fas_lock,
	    ck_spinlock_fas_unlock)

const struct pool_ops pool_ck_spinlock = POOL_TABLE(fas);

LOCKED_POOL(mutex, pthread_mutex_t, pthread_mutex_init(&pool->word, NULL), pthread_mutex_lock,
	    pthread_mutex_unlock)

const struct pool_ops pool_mutex = POOL_TABLE(mutex);

static void kit_version(char *text, size_t bytes)
{
	snprintf(text, bytes, "%s", CK_VERSION);
}

const struct bench_peer peer_ck_ring = {.pool = &pool_ck_ring, .version = kit_version};
const struct bench_peer peer_ck_spinlock = {.pool = &pool_ck_spinlock, .version = kit_version};
const struct bench_peer peer_mutex = {.pool = &pool_mutex};
