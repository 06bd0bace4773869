/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Plays bytes as calls of a cache by one thread, and beside them on a list that says of each object
 * where it is. After each call the cache's invariants hold; an object that comes is nobody's
 * else, and if it was retired a grace period has passed since; objects out of the backend are
 * those in hand, those that the counters of the cache show, and those it has given up. The
 * first bytes choose attributes; then each call is a byte for what it is, and its arguments.
 * Memory of the library and of the backend ends now and then.
 */
#include "fuzz.h"

#include "base/memory.h"
#include "cache_state.h"

#include <errno.h>
#include <sheaf/cache.h>
#include <sheaf/stats.h>
#include <stdbool.h>
#include <string.h>

#define OBJECTS 1024
#define OBJECT_BYTES 32
#define CALLS_MOST 2000
#define LENT 4

const unsigned fuzz_kinds = 48;
uint64_t fuzz_played;

enum place { AT_BACKEND, FREE, HELD, RETIRED };

static struct game {
	struct fuzz_input in;
	struct sheaf_gp_manual gp;
	struct sheaf_cache *cache;
	enum place place[OBJECTS];
	uint64_t retired_at[OBJECTS]; /* steps of the source that there had been */
	uint64_t steps;
	uint16_t hand[OBJECTS];
	unsigned held;
	unsigned out;
	/* What is still handed out: objects, and blocks of the library. */
	unsigned objects_left;
	unsigned blocks_left;
	bool nowait;
	bool called; /* there is a callback over ripe objects */
	bool by_thread;
	unsigned nodes;
	unsigned node;
	uint64_t budget;
	uint64_t all_budget; /* of the process, which has no other cache */
	struct sheaf *lent[LENT];
	uint32_t promised[LENT];
	bool strict[LENT];
	unsigned overuses;
	/* Retired by nowait calls since the last barrier: these may be in notes, which nobody counts. */
	unsigned aside;
} game;

static char memory[OBJECTS][OBJECT_BYTES] __attribute__((aligned(32)));

static unsigned number_of(const void *object)
{
	size_t offset = (size_t)((const char *)object - memory[0]);

	fuzz_check(offset < sizeof(memory) && offset % OBJECT_BYTES == 0);
	return (unsigned)(offset / OBJECT_BYTES);
}

static bool refuse(size_t bytes)
{
	(void)bytes;
	if (game.blocks_left == UINT32_MAX)
		return false;
	if (!game.blocks_left)
		return true;
	game.blocks_left--;
	return false;
}

static bool short_of_memory(void)
{
	return game.blocks_left != UINT32_MAX || game.objects_left != UINT32_MAX || game.budget ||
	       game.all_budget;
}

static size_t backend_alloc(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	size_t got = 0;
	unsigned i;

	(void)ctx;
	fuzz_check(node >= SHEAF_NODE_ANY && node < (int)game.nodes);
	fuzz_check(!game.nowait || (flags & SHEAF_NOWAIT));
	for (i = 0; i < OBJECTS && got < n && game.objects_left; i++) {
		if (game.place[i] != AT_BACKEND)
			continue;
		game.place[i] = FREE;
		objects[got++] = memory[i];
		game.out++;
		if (game.objects_left != UINT32_MAX)
			game.objects_left--;
	}
	fuzz_check(!game.budget || game.out * OBJECT_BYTES <= game.budget);
	fuzz_check(!game.all_budget || game.out * OBJECT_BYTES <= game.all_budget);
	return got;
}

/* Came the object back to where it may be used? */
static bool usable(unsigned i)
{
	return game.place[i] == FREE ||
	       (game.place[i] == RETIRED && !game.called && game.steps > game.retired_at[i]);
}

static void backend_free(void *ctx, size_t n, void *const *objects)
{
	size_t k;

	(void)ctx;
	fuzz_check(!game.nowait);
	for (k = 0; k < n; k++) {
		unsigned i = number_of(objects[k]);

		fuzz_check(usable(i));
		game.place[i] = AT_BACKEND;
	}
	game.out -= (unsigned)n;
}

static int backend_node_of(void *ctx, const void *object)
{
	(void)ctx;
	return (int)(number_of(object) / 7 % game.nodes);
}

static const struct sheaf_backend_ops plain = {
	.name = "fuzz", .alloc_bulk = backend_alloc, .free_bulk = backend_free};
static const struct sheaf_backend_ops knowing = {.name = "fuzz",
						 .alloc_bulk = backend_alloc,
						 .free_bulk = backend_free,
						 .node_of = backend_node_of};

static int current_node(void *arg)
{
	(void)arg;
	return (int)game.node;
}

static void ripe(void *arg, struct sheaf *sheaf)
{
	uint32_t k;

	(void)arg;
	for (k = 0; k < sheaf_size(sheaf); k++) {
		unsigned i = number_of(sheaf->objects[k]);

		fuzz_check(game.place[i] == RETIRED && game.steps > game.retired_at[i]);
		game.place[i] = FREE;
	}
}

static void overuse(void *arg, struct sheaf_cache *cache, uint32_t asked, const void *caller)
{
	(void)arg;
	(void)asked;
	(void)caller;
	fuzz_check(cache == game.cache);
	game.overuses++;
}

static void take(void *object)
{
	unsigned i = number_of(object);

	fuzz_check(usable(i));
	game.place[i] = HELD;
	memset(object, 0xa5, OBJECT_BYTES);
	game.hand[game.held++] = (uint16_t)i;
}

static void *give(enum place place)
{
	unsigned at = fuzz_byte(&game.in) % game.held, i = game.hand[at];

	game.hand[at] = game.hand[--game.held];
	game.place[i] = place;
	game.retired_at[i] = game.steps;
	return memory[i];
}

/* Of a cache that has lost nothing, with a backend that still has some. */
static bool must_succeed(size_t n)
{
	return !short_of_memory() && game.out + n + 300 < OBJECTS;
}

static void alloc(unsigned how)
{
	static const unsigned flags[] = {0, 0, SHEAF_NOWAIT, 0};
	void *object;

	game.nowait = how == 2 || how == 3;
	if (how == 1)
		object = sheaf_cache_alloc_node(game.cache, 0,
						(int)(fuzz_byte(&game.in) % game.nodes));
	else if (how == 3)
		object = sheaf_cache_alloc_nowait(game.cache);
	else
		object = sheaf_cache_alloc(game.cache, flags[how]);
	game.nowait = false;
	if (object)
		take(object);
	else
		fuzz_check(how > 1 || !must_succeed(1));
}

static void alloc_bulk(void)
{
	size_t n = fuzz_byte(&game.in) % 64, got, i;
	void *objects[64];
	bool nowait = fuzz_byte(&game.in) % 2;

	game.nowait = nowait;
	got = sheaf_cache_alloc_bulk(game.cache, nowait ? SHEAF_NOWAIT : 0, n, objects);
	game.nowait = false;
	fuzz_check(got <= n && (nowait || got == n || !must_succeed(n)));
	for (i = 0; i < got; i++)
		take(objects[i]);
}

static void free_bulk(void)
{
	size_t n = fuzz_byte(&game.in) % 64, i;
	void *objects[64];

	for (i = 0; i < n && game.held; i++)
		objects[i] = give(FREE);
	sheaf_cache_free_bulk(game.cache, i, objects);
}

static void free_one(unsigned how)
{
	if (!game.held)
		return;
	game.nowait = how & 1;
	if (how == 0)
		sheaf_cache_free(game.cache, give(FREE));
	else if (how == 1)
		sheaf_cache_free_nowait(game.cache, give(FREE));
	else if (how == 2)
		sheaf_cache_free_rcu(game.cache, give(RETIRED));
	else
		sheaf_cache_free_rcu_nowait(game.cache, give(RETIRED));
	game.aside += how == 3;
	game.nowait = false;
}

static void prefill(unsigned at, uint32_t n, unsigned flags)
{
	game.nowait = flags & SHEAF_NOWAIT;
	game.lent[at] = sheaf_cache_prefill(game.cache, n, flags);
	game.nowait = false;
	game.promised[at] = n;
	game.strict[at] = flags & SHEAF_STRICT;
	fuzz_check(game.lent[at] || (flags & (SHEAF_NOWAIT | SHEAF_LOCAL)) || !must_succeed(n));
}

static void borrow(unsigned at)
{
	static const unsigned flags[] = {0, SHEAF_STRICT, SHEAF_NOWAIT, SHEAF_LOCAL};
	uint32_t n = fuzz_byte(&game.in) % 40;

	prefill(at, n, flags[fuzz_byte(&game.in) % 4]);
}

static void use(unsigned at)
{
	unsigned n = fuzz_byte(&game.in) % 8;

	for (; n; n--) {
		unsigned before = game.overuses;
		void *object = sheaf_cache_alloc_from(game.cache, game.lent[at]);

		fuzz_check(object || !game.promised[at]);
		fuzz_check(!object || game.promised[at] || !game.strict[at]);
		fuzz_check((game.overuses == before + 1) == (game.strict[at] && !object));
		game.promised[at] -= game.promised[at] != 0;
		if (object)
			take(object);
	}
}

static void refill(unsigned at, unsigned flags)
{
	uint32_t n = fuzz_byte(&game.in) % 40;
	int err;

	game.nowait = flags & SHEAF_NOWAIT;
	err = sheaf_cache_refill(game.cache, &game.lent[at], n, flags);
	game.nowait = false;
	fuzz_check(!err || err == -ENOMEM);
	fuzz_check(!err || (flags & SHEAF_NOWAIT) || !must_succeed(n));
	if (!err)
		game.promised[at] = n;
}

static void lend(unsigned how)
{
	unsigned at = fuzz_byte(&game.in) % LENT;

	if (!game.lent[at]) {
		borrow(at);
	} else if (how == 0) {
		sheaf_cache_return(game.cache, game.lent[at]);
		game.lent[at] = NULL;
	} else if (how == 1) {
		use(at);
	} else {
		refill(at, 0);
	}
}

/* With flags of all kinds together. */
static void lend_by_flags(void)
{
	unsigned at = fuzz_byte(&game.in) % LENT, how = fuzz_byte(&game.in);
	unsigned flags = how & 2 ? SHEAF_STRICT : 0;

	/* Not both of these. */
	flags |= how & 4 ? SHEAF_LOCAL : how & 1 ? SHEAF_NOWAIT : 0;

	if (game.lent[at])
		refill(at, SHEAF_NOWAIT);
	else
		prefill(at, how / 8, flags);
}

static void step(void)
{
	game.steps++;
	sheaf_gp_manual_step(&game.gp);
}

static void barrier(void)
{
	int err = sheaf_cache_barrier(game.cache);

	fuzz_check(!err || err == -EDEADLK);
	step();
	fuzz_check(sheaf_cache_barrier(game.cache) == 0);
	game.aside = 0;
}

static void shrink(void)
{
	struct sheaf_cache_stats stats;

	sheaf_cache_shrink(game.cache);
	sheaf_cache_stats(game.cache, &stats, sizeof(stats));
	fuzz_check(!stats.held_slots && !stats.held_barns && !stats.spilled);
}

static void change(unsigned what)
{
	uint32_t a = fuzz_byte(&game.in), b = fuzz_byte(&game.in);

	switch (what) {
	case 0:
		fuzz_check(sheaf_cache_set_capacity(game.cache, a % 32) == (a % 32 ? 0 : -EINVAL));
		break;
	case 1:
		sheaf_cache_set_barn_limits(game.cache, a % 8, b % 8);
		break;
	case 2:
		fuzz_check(sheaf_cache_set_rcu_limits(game.cache, a, b) ==
			   (a && a <= b ? 0 : -EINVAL));
		break;
	default:
		/* Not below what is out: that may stay. */
		game.budget = a ? (uint64_t)(game.out + b) * OBJECT_BYTES : 0;
		if (!game.budget && a)
			game.budget = OBJECT_BYTES;
		sheaf_cache_set_budget(game.cache, game.budget);
	}
}

static void short_memory(void)
{
	unsigned a = fuzz_byte(&game.in), b = fuzz_byte(&game.in);

	game.objects_left = a < 100 ? a : UINT32_MAX;
	game.blocks_left = b < 100 ? b % 8 : UINT32_MAX;
}

static void destroy_busy(void)
{
	size_t live = 0;
	unsigned i, lent = 0;

	for (i = 0; i < LENT; i++)
		lent += game.lent[i] != NULL;
	if (!game.held && !lent)
		return;
	barrier();
	fuzz_check(sheaf_cache_destroy(game.cache, &live) == -EBUSY && live >= game.held);
}

static void alloc_anywhere(void)
{
	int node = (int)(fuzz_byte(&game.in) % 8) - 2;
	bool bad = node < SHEAF_NODE_ANY || node >= (int)game.nodes;
	void *object = sheaf_cache_alloc_node(game.cache, 0, node);

	fuzz_check(bad ? !object : object || !must_succeed(1));
	if (object)
		take(object);
}

static void alloc_waiting(void)
{
	/* Else it would wait for others, who are not there. */
	if (must_succeed(1))
		take(sheaf_cache_alloc(game.cache, SHEAF_WAIT));
}

/* What is out stays. */
static void limit_all(void)
{
	uint8_t a = fuzz_byte(&game.in);

	/* Often there is none: with one nothing must succeed. */
	game.all_budget = a % 4 ? 0 : (uint64_t)(game.out + a + 1) * OBJECT_BYTES;
	sheaf_set_budget(game.all_budget);
	fuzz_check(sheaf_budget_used() == (uint64_t)game.out * OBJECT_BYTES);
}

/* With a source that is stepped by hand nobody waits. */
static void throttle(void)
{
	int err = sheaf_cache_throttle(game.cache);

	fuzz_check(!err || err == -EDEADLK);
}

/* What is in hand is nowhere else. */
static void describe(void)
{
	struct sheaf_description d;

	if (game.held &&
	    sheaf_describe(memory[game.hand[fuzz_byte(&game.in) % game.held]], &d, sizeof(d)))
		fuzz_check(d.cache == game.cache && d.place == SHEAF_PLACE_IN_USE);
}

static void slots_as_wanted(void)
{
	unsigned slots = sheaf_cache_slots(game.cache, NULL);

	fuzz_check(slots == SHEAF_SLOTS_THREAD || (slots == SHEAF_SLOTS_CPU && !game.by_thread));
}

/* The kinds above the first 40. */
static void call_more(unsigned what)
{
	const bool room = game.held < OBJECTS - 64;

	if (what == 40)
		throttle();
	else if (what == 41)
		sheaf_trim(fuzz_byte(&game.in) * 8);
	else if (what == 42)
		limit_all();
	else if (what == 43 && room)
		alloc_anywhere();
	else if (what == 44 && room)
		alloc_waiting();
	else if (what == 45)
		describe();
	else if (what == 46)
		slots_as_wanted();
	else if (room)
		lend_by_flags();
}

static void call(void)
{
	unsigned what = fuzz_kind(&game.in, 40);

	if (what < 10 && game.held < OBJECTS - 64)
		alloc(what % 4);
	else if (what < 18)
		free_one(what % 4);
	else if (what == 18 && game.held < OBJECTS - 64)
		alloc_bulk();
	else if (what == 19)
		free_bulk();
	else if (what < 26 && game.held < OBJECTS - 64)
		lend(what % 3);
	else if (what < 28)
		step();
	else if (what < 30)
		game.node = fuzz_byte(&game.in) % game.nodes;
	else if (what == 30)
		barrier();
	else if (what == 31)
		shrink();
	else if (what == 32)
		sheaf_cache_trim(game.cache);
	else if (what == 33)
		sheaf_cache_flush(game.cache);
	else if (what < 38)
		change(what - 34);
	else if (what == 38)
		short_memory();
	else if (what == 39)
		destroy_busy();
	else
		call_more(what);
}

/* Rcu sheaves that nowait calls have taken out of a slot, and nobody has taken in yet. */
static uint64_t sealed_aside(void)
{
	const struct sheaf *sheaf;
	uint64_t objects = 0;
	uint32_t i;

	for (i = 0; i < game.cache->nodes; i++)
		for (sheaf = game.cache->node[i].sealed; sheaf; sheaf = sheaf->link)
			objects += sheaf->size;
	return objects;
}

static void look(void)
{
	struct sheaf_cache_stats stats;
	uint64_t lent = 0, known;
	unsigned i;

	fuzz_check(sheaf_cache_check(game.cache));
	sheaf_cache_stats(game.cache, &stats, sizeof(stats));
	for (i = 0; i < LENT; i++)
		lent += game.lent[i] ? sheaf_size(game.lent[i]) : 0;
	known = game.held + lent + stats.held_slots + stats.held_barns + stats.in_flight +
		stats.spilled + stats.abandoned + sealed_aside();
	fuzz_check(known <= game.out && game.out <= known + game.aside);
	fuzz_check(stats.budget_used == (uint64_t)game.out * OBJECT_BYTES);
}

static bool begin(void)
{
	unsigned kind = fuzz_byte(&game.in);
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = OBJECT_BYTES,
		.capacity = 1 + fuzz_byte(&game.in) % 12,
		.barn_full = 1 + fuzz_byte(&game.in) % 4,
		.barn_empty = 1 + fuzz_byte(&game.in) % 4,
		.gp = &game.gp.gp,
		.nodes = 1 + kind % 3,
		.current_node = current_node,
		.backend = {kind & 64 ? &knowing : &plain, NULL},
		.overuse = overuse,
		.trim_us = UINT32_MAX,
		.slots = kind & 128 ? SHEAF_SLOTS_THREAD : SHEAF_SLOTS_CPU,
	};

	game.nodes = attr.nodes;
	game.called = kind & 32;
	game.by_thread = kind & 128;
	if (game.called)
		attr.ripe = ripe;
	game.objects_left = game.blocks_left = UINT32_MAX;
	sheaf_gp_manual_init(&game.gp, kind & 16 ? UINT64_MAX - 3 : 0);
	return sheaf_cache_create(&game.cache, &attr) == 0;
}

static void end(void)
{
	struct sheaf_cache_stats stats;
	size_t live = 0;
	unsigned i;
	int err;

	sheaf_cache_set_budget(game.cache, game.budget = 0);
	sheaf_set_budget(game.all_budget = 0);
	for (i = 0; i < LENT; i++)
		sheaf_cache_return(game.cache, game.lent[i]);
	while (game.held)
		sheaf_cache_free(game.cache, give(FREE));
	barrier();
	game.objects_left = game.blocks_left = UINT32_MAX;
	sheaf_cache_stats(game.cache, &stats, sizeof(stats));
	err = sheaf_cache_destroy(game.cache, &live);
	fuzz_check(live == stats.abandoned && err == (live ? -EBUSY : 0) && game.out == live);
	if (!live)
		return;
	/* The backend is ours: what was given up can be counted as back. */
	game.called = false;
	for (i = 0; i < OBJECTS; i++)
		if (game.place[i] != AT_BACKEND) {
			game.place[i] = HELD;
			game.hand[game.held++] = (uint16_t)i;
		}
	fuzz_check(game.held == live);
	while (game.held)
		sheaf_cache_free(game.cache, give(FREE));
	fuzz_check(sheaf_cache_destroy(game.cache, NULL) == 0 && !game.out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned calls;

	memset(&game, 0, sizeof(game));
	game.in = (struct fuzz_input){data, size};
	if (!begin())
		abort();
	sheaf_memory_fault = refuse;
	for (calls = 0; game.in.left && calls < CALLS_MOST; calls++) {
		call();
		look();
	}
	end();
	sheaf_memory_fault = NULL;
	return 0;
}
