/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "users.h"

#include "base/atomic.h"
#include "common.h"

#include <string.h>

/* What a handler holds at most. */
#define HANDLER_HAND 2
#define OBJECT_BYTES 16

/*
 * Nobody reads what is retired, so any ticket may elapse at any time: each does when a few more
 * are taken, or when somebody waits.
 */
#define TICKETS_OPEN 3

static struct {
	struct sheaf_gp gp;
	uint64_t now;
} source;

static void elapse(struct sheaf_gp *gp, uint64_t ticket)
{
	uint64_t completed = load_relaxed(&gp->completed);

	while (completed < ticket && !cas_weak_release(&gp->completed, &completed, ticket))
		;
}

static uint64_t source_ticket(struct sheaf_gp *gp)
{
	uint64_t ticket = fetch_add_acq_rel(&source.now, 1) + 1;

	if (ticket > TICKETS_OPEN)
		elapse(gp, ticket - TICKETS_OPEN);
	return ticket;
}

static int source_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	elapse(gp, ticket);
	return 0;
}

static bool source_read_ongoing(struct sheaf_gp *gp)
{
	(void)gp;
	return false;
}

static const struct sheaf_gp_ops source_ops = {
	.name = "test",
	.ticket = source_ticket,
	.wait = source_wait,
	.read_ongoing = source_read_ongoing,
};

static void add(struct users *users, struct user *u, void *object)
{
	if (!object)
		return;
	u->errors += !arena_own(&users->arena, object, u->stamp);
	u->object[u->n++] = object;
}

static void *take(struct users *users, struct user *u)
{
	unsigned i = (unsigned)test_below(&u->state, u->n);
	void *object = u->object[i];

	u->object[i] = u->object[--u->n];
	u->errors += !arena_disown(&users->arena, object, u->stamp);
	return object;
}

static void bulk(struct users *users, struct user *u)
{
	size_t n = test_below(&u->state, USER_HAND), i;
	void *objects[USER_HAND];

	if (u->n + n <= USER_HAND) {
		n = sheaf_cache_alloc_bulk(users->cache, n % 2 ? SHEAF_NOWAIT : 0, n, objects);
		for (i = 0; i < n; i++)
			add(users, u, objects[i]);
		return;
	}
	for (i = 0; i < n && u->n; i++)
		objects[i] = take(users, u);
	sheaf_cache_free_bulk(users->cache, i, objects);
}

static void borrow(struct users *users, struct user *u)
{
	uint32_t n = (uint32_t)test_below(&u->state, 6);
	struct sheaf *sheaf = sheaf_cache_prefill(users->cache, n, n % 2 ? SHEAF_NOWAIT : 0);

	if (!sheaf)
		return;
	u->errors += sheaf_size(sheaf) < n;
	while (u->n < USER_HAND && n--)
		add(users, u, sheaf_cache_alloc_from(users->cache, sheaf));
	sheaf_cache_return(users->cache, sheaf);
}

void user_work(struct users *users, unsigned me)
{
	struct sheaf_cache *cache = users->cache;
	struct user *u = &users->user[me];
	uint64_t what = test_below(&u->state, 100);

	if (what < 10)
		bulk(users, u);
	else if (what < 15)
		borrow(users, u);
	else if (what < 17)
		sheaf_cache_flush(cache);
	else if (what < 55 && u->n < USER_HAND)
		add(users, u, sheaf_cache_alloc(cache, what % 8 ? 0 : SHEAF_NOWAIT));
	else if (!u->n)
		return;
	else if (what < 75 && users->retires)
		sheaf_cache_free_rcu(cache, take(users, u));
	else
		sheaf_cache_free(cache, take(users, u));
}

void user_interrupt(struct users *users, unsigned me)
{
	struct sheaf_cache *cache = users->cache;
	struct user *u = &users->user[me];

	if (u->n < HANDLER_HAND && test_below(&u->state, 2))
		add(users, u, sheaf_cache_alloc_nowait(cache));
	else if (u->n && users->retires && test_below(&u->state, 2))
		sheaf_cache_free_rcu_nowait(cache, take(users, u));
	else if (u->n)
		sheaf_cache_free_nowait(cache, take(users, u));
}

void users_remote(struct users *users)
{
	struct sheaf_cache_stats stats;

	switch (test_below(&users->remote.state, 4)) {
	case 0:
		sheaf_cache_shrink(users->cache);
		break;
	case 1:
		users->remote.errors += sheaf_cache_barrier(users->cache) != 0;
		break;
	default:
		sheaf_cache_stats(users->cache, &stats, sizeof(stats));
		users->remote.errors += stats.held_slots > ARENA_OBJECTS;
	}
}

/* A thread takes itself for one of any node, and changes its mind. */
static int wandering_node(void *arg)
{
	static __thread unsigned calls;

	(void)arg;
	return (int)(++calls / 16);
}

/* As arena_init(), which asserts; that is for who runs as a test of Check's. */
static void arena_begin(struct arena *arena)
{
	static char memory[ARENA_OBJECTS * OBJECT_BYTES] __attribute__((aligned(16)));

	pthread_mutex_init(&arena->lock, NULL);
	arena->object_size = OBJECT_BYTES;
	arena->memory = memory;
	for (; arena->free < ARENA_OBJECTS; arena->free++)
		arena->stack[arena->free] = ARENA_OBJECTS - 1 - arena->free;
	arena->most = arena->per_call = ARENA_OBJECTS;
}

bool users_begin(struct users *users, struct sheaf_cache_attr attr, bool retires, uint64_t seed)
{
	uint32_t i;

	memset(users, 0, sizeof(*users));
	arena_begin(&users->arena);
	for (i = 0; i < USERS; i++)
		users->user[i] = (struct user){.stamp = ARENA_USER + i, .state = seed + i};
	users->remote.state = seed;
	users->retires = retires;
	attr.size = sizeof(attr);
	attr.object_size = users->arena.object_size;
	attr.backend = arena_backend(&users->arena);
	attr.current_node = wandering_node;
	source.gp = (struct sheaf_gp){.ops = &source_ops};
	source.now = 0;
	if (retires)
		attr.gp = &source.gp;
	return sheaf_cache_create(&users->cache, &attr) == 0;
}

bool users_begin_small(struct users *users, unsigned slots)
{
	const struct sheaf_cache_attr attr = {
		.capacity = 3, .barn_full = 2, .barn_empty = 2, .slots = slots};

	return users_begin(users, attr, true, test_seed());
}

struct run {
	void (*fn)(void *arg);
	void *arg;
	unsigned *working;
};

static void *run_one(void *arg)
{
	struct run *run = arg;

	run->fn(run->arg);
	fetch_sub_release(run->working, 1);
	return NULL;
}

bool users_run(struct users *users, unsigned n, void (*fn)(void *arg), void *args, size_t arg_bytes)
{
	struct run runs[USERS];
	pthread_t threads[USERS];
	unsigned working = n, made;

	for (made = 0; made < n; made++) {
		runs[made] = (struct run){fn, (char *)args + made * arg_bytes, &working};
		if (pthread_create(&threads[made], NULL, run_one, &runs[made]))
			break;
	}
	fetch_sub_release(&working, n - made);
	while (load_acquire(&working)) {
		users_remote(users);
		test_pause();
	}
	for (unsigned i = 0; i < made; i++)
		pthread_join(threads[i], NULL);
	return made == n;
}

unsigned users_end(struct users *users, struct sheaf_cache_stats *stats)
{
	unsigned wrong = users->remote.errors, i;
	size_t live = 1;

	for (i = 0; i < USERS; i++) {
		struct user *u = &users->user[i];

		while (u->n)
			sheaf_cache_free(users->cache, take(users, u));
		wrong += u->errors;
	}
	/* What handlers retired aside, on any node, is in no count before somebody takes it in. */
	if (users->retires)
		wrong += sheaf_cache_barrier(users->cache) != 0;
	wrong += !sheaf_cache_check(users->cache);
	sheaf_cache_stats(users->cache, stats, sizeof(*stats));
	wrong += stats->held_slots + stats->held_barns + stats->in_flight + stats->spilled !=
		 arena_out(&users->arena);
	wrong += stats->held_lent || stats->abandoned;
	wrong += sheaf_cache_destroy(users->cache, &live) != 0;
	wrong += live != 0;
	wrong += arena_out(&users->arena) != 0;
	wrong += users->arena.errors;
	return wrong;
}
