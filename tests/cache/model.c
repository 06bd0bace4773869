/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the cache, used by one thread in any order of all operations, over random
 * limits, capacities, budgets and nodes, with a node that changes at every look, with a backend
 * that knows nodes and one that does not, with memory that ends now and then, and with a backend that calls back into the same cache: every object has
 * one owner; none that was retired is handed out before its ticket has elapsed; after
 * each operation the objects out of the backend are those in hand, in lent sheaves, in
 * slots, in barns, in recyclers and abandoned, to the object, and no more than the budget says;
 * counters are what a plain
 * count says; and under SHEAF_NOWAIT nothing is allocated, nothing freed, and the backend
 * only asked for what it has.
 */
#include "arena.h"
#include "base/memory.h"
#include "cache_state.h"
#include "common.h"

#include <errno.h>
#include <string.h>

#define CAPACITY 3
#define MANY 200
#define BULK 24
#define LENT 6

static struct arena arena;
static struct sheaf_gp_manual manual;
static struct sheaf_cache *cache;
static uint64_t state;

static void *hand[MANY + BULK];
static unsigned in_hand;
static struct sheaf *lent[LENT];
static uint32_t promised[LENT];
static unsigned overuses;
/* Above 0 the backend does not call back. */
static unsigned depth;
static uint64_t called_back;
static uint64_t prefills;
/* Most objects that may be out; and what the cache was told, which may be less than what is out already. */
static uint64_t budget, told;
/* Memory may end in this operation. */
static bool failing;

/* When a retired object may come back; by number. */
static bool retired[ARENA_OBJECTS];
static uint64_t ripe_at[ARENA_OBJECTS];

/* The library's own memory comes and goes here, by the linker's --wrap. */
void *__real_memory_alloc(size_t align, size_t bytes);
void *__wrap_memory_alloc(size_t align, size_t bytes);
void *__real_memory_zalloc(size_t align, size_t bytes);
void *__wrap_memory_zalloc(size_t align, size_t bytes);
void __real_memory_free(void *mem);
void __wrap_memory_free(void *mem);
static unsigned library_calls;
static int64_t library_blocks;

static void *count_block(void *mem)
{
	library_calls++;
	library_blocks += mem != NULL;
	return mem;
}

void *__wrap_memory_alloc(size_t align, size_t bytes)
{
	return count_block(__real_memory_alloc(align, bytes));
}

void *__wrap_memory_zalloc(size_t align, size_t bytes)
{
	return count_block(__real_memory_zalloc(align, bytes));
}

void __wrap_memory_free(void *mem)
{
	library_calls++;
	library_blocks -= mem != NULL;
	__real_memory_free(mem);
}

static unsigned below(uint64_t n)
{
	return (unsigned)test_below(&state, n);
}

static int any_node(void *arg)
{
	(void)arg;
	return (int)below(8);
}

static void on_overuse(void *arg, struct sheaf_cache *which, uint32_t asked, const void *caller)
{
	(void)arg;
	(void)asked;
	(void)caller;
	ck_assert_ptr_eq(which, cache);
	overuses++;
}

static void hand_add(void *object)
{
	unsigned i;

	if (!object)
		return;
	i = arena_index(&arena, object);
	ck_assert_msg(arena_own(&arena, object, ARENA_USER), "an object that was not free");
	ck_assert_msg(!retired[i] || sheaf_gp_elapsed(&manual.gp, ripe_at[i]),
		      "an object before its ticket has elapsed");
	retired[i] = false;
	hand[in_hand++] = object;
}

static void *hand_remove(void)
{
	unsigned i = below(in_hand);
	void *object = hand[i];

	hand[i] = hand[--in_hand];
	ck_assert(arena_disown(&arena, object, ARENA_USER));
	return object;
}

/*
 * Who got less than n objects: there were no more. Not known where the backend called back, as objects may have come
 * home since, nor within that, as the caller may have asked for some already.
 */
static void none_left(unsigned flags, uint64_t n, uint64_t callbacks)
{
	if (failing || depth || (flags & (SHEAF_NOWAIT | SHEAF_LOCAL)) || callbacks != called_back)
		return;
	ck_assert_msg(arena_out(&arena) + n > told, "less than asked for, with %ju of %ju out",
		      (uintmax_t)arena_out(&arena), (uintmax_t)told);
}

static void op_alloc(unsigned flags)
{
	uint64_t callbacks = called_back;
	void *object;

	if (in_hand >= MANY)
		return;
	object = sheaf_cache_alloc(cache, flags);
	if (!object)
		none_left(flags, 1, callbacks);
	hand_add(object);
}

static void op_free(unsigned flags)
{
	(void)flags;
	if (in_hand)
		sheaf_cache_free(cache, hand_remove());
}

static void op_retire(unsigned flags)
{
	void *object;
	unsigned i;

	(void)flags;
	if (!in_hand)
		return;
	object = hand_remove();
	i = arena_index(&arena, object);
	retired[i] = true;
	ripe_at[i] = manual.now;
	sheaf_cache_free_rcu(cache, object);
}

static void op_alloc_bulk(unsigned flags)
{
	void *objects[BULK];
	size_t n = below(BULK), got;
	uint64_t callbacks = called_back;

	if (in_hand > MANY - BULK)
		return;
	got = sheaf_cache_alloc_bulk(cache, flags, n, objects);
	ck_assert_uint_le(got, n);
	if (got < n)
		none_left(flags, n - got, callbacks);
	for (size_t i = 0; i < got; i++)
		hand_add(objects[i]);
}

static void op_free_bulk(unsigned flags)
{
	void *objects[BULK];
	size_t n = below(BULK);

	(void)flags;
	if (n > in_hand)
		n = in_hand;
	for (size_t i = 0; i < n; i++)
		objects[i] = hand_remove();
	sheaf_cache_free_bulk(cache, n, objects);
}

static void op_prefill(unsigned flags)
{
	unsigned i = below(LENT);
	uint32_t n = below(3 * CAPACITY);
	uint64_t callbacks = called_back;

	if (lent[i])
		return;
	if (!(flags & SHEAF_NOWAIT) && !below(4))
		flags |= SHEAF_LOCAL;
	lent[i] = sheaf_cache_prefill(cache, n, flags);
	if (!lent[i]) {
		none_left(flags, n, callbacks);
		return;
	}
	prefills++;
	promised[i] = n;
	ck_assert_uint_ge(sheaf_size(lent[i]), n);
}

static void op_refill(unsigned flags)
{
	unsigned i = below(LENT);
	uint32_t n = below(4 * CAPACITY);
	uint64_t callbacks = called_back;

	if (!lent[i])
		return;
	if (sheaf_cache_refill(cache, &lent[i], n, flags) == 0)
		promised[i] = n;
	else
		none_left(flags, n, callbacks);
	ck_assert_uint_ge(sheaf_size(lent[i]), promised[i]);
}

static void op_alloc_from(unsigned flags)
{
	unsigned i = below(LENT);
	void *object;

	(void)flags;
	if (!lent[i] || in_hand >= MANY)
		return;
	overuses = 0;
	object = sheaf_cache_alloc_from(cache, lent[i]);
	ck_assert(object || !promised[i]);
	ck_assert(!overuses || !object);
	promised[i] -= promised[i] != 0;
	hand_add(object);
}

static void op_return(unsigned flags)
{
	unsigned i = below(LENT);

	(void)flags;
	sheaf_cache_return(cache, lent[i]);
	lent[i] = NULL;
}

static void op_step(unsigned flags)
{
	(void)flags;
	sheaf_gp_manual_step(&manual);
}

static void op_flush(unsigned flags)
{
	(void)flags;
	sheaf_cache_flush(cache);
}

static void op_shrink(unsigned flags)
{
	struct sheaf_cache_stats s;

	(void)flags;
	depth++;
	sheaf_cache_shrink(cache);
	depth--;
	s = cache_stats(cache);
	ck_assert_uint_eq(s.held_slots + s.held_barns, 0);
}

static void op_barrier(unsigned flags)
{
	int err = sheaf_cache_barrier(cache);

	(void)flags;
	ck_assert(err == 0 || err == -EDEADLK);
	sheaf_gp_manual_step(&manual);
	ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
}

static void op_limits(unsigned flags)
{
	(void)flags;
	sheaf_cache_set_barn_limits(cache, below(6), below(6));
}

static void op_capacity(unsigned flags)
{
	(void)flags;
	ck_assert_int_eq(sheaf_cache_set_capacity(cache, 1 + below(2 * CAPACITY)), 0);
}

/* Below what is out as well: then that may stay, and no more may come. */
static void op_budget(unsigned flags)
{
	uint64_t out = arena_out(&arena);

	(void)flags;
	budget = told = below(3) ? out / 2 + below(out + 4) + 1 : ARENA_OBJECTS;
	depth++;
	sheaf_cache_set_budget(cache, budget == ARENA_OBJECTS ? 0 : budget * 24 + below(24));
	depth--;
	out = arena_out(&arena);
	if (budget < out)
		budget = out;
}

static void op_trim(unsigned flags)
{
	(void)flags;
	depth++;
	if (below(4))
		sheaf_cache_trim(cache);
	else
		sheaf_trim(below(20) * 24);
	depth--;
}

static void op_alloc_node(unsigned flags)
{
	if (in_hand < MANY)
		hand_add(sheaf_cache_alloc_node(cache, flags, (int)below(7) - 1));
}

static void op_destroy(unsigned flags)
{
	size_t live = 0;
	uint64_t out = in_hand;
	unsigned borrowed = 0;

	(void)flags;
	for (unsigned i = 0; i < LENT; i++) {
		out += lent[i] ? lent[i]->size : 0;
		borrowed += lent[i] != NULL;
	}
	if (!out && !borrowed)
		return;
	depth++;
	if (sheaf_cache_destroy(cache, &live) == -EDEADLK) {
		sheaf_gp_manual_step(&manual);
		ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EBUSY);
	}
	depth--;
	ck_assert_uint_eq(live, out + cache->abandoned);
}

static const struct op {
	void (*fn)(unsigned flags);
	unsigned weight;
	/* Obeys SHEAF_NOWAIT. */
	bool nowait;
} ops[] = {
	{op_alloc, 30, true},     {op_free, 25, false},       {op_retire, 15, false},
	{op_alloc_bulk, 5, true}, {op_free_bulk, 5, false},   {op_prefill, 5, true},
	{op_refill, 5, true},     {op_alloc_from, 10, false}, {op_return, 5, false},
	{op_step, 3, false},      {op_flush, 2, false},       {op_shrink, 1, false},
	{op_barrier, 1, false},   {op_limits, 1, false},      {op_destroy, 1, false},
	{op_capacity, 1, false},  {op_budget, 1, false},      {op_trim, 2, false},
	{op_alloc_node, 5, true},
};

#define OPS (sizeof(ops) / sizeof(ops[0]))

static const struct op *any_op(void)
{
	unsigned all = 0, at, i;

	for (i = 0; i < OPS; i++)
		all += ops[i].weight;
	at = below(all);
	for (i = 0; at >= ops[i].weight; i++)
		at -= ops[i].weight;
	return &ops[i];
}

/* The backend calls back: any operation but those that would be inside the one running. */
static void call_back(void *arg)
{
	(void)arg;
	if (depth || below(4))
		return;
	depth++;
	called_back++;
	switch (below(5)) {
	case 0:
		op_alloc(0);
		break;
	case 1:
		op_free(0);
		break;
	case 2:
		op_retire(0);
		break;
	case 3:
		op_alloc_bulk(0);
		break;
	default:
		op_free_bulk(0);
	}
	depth--;
}

static void run_nowait(const struct op *op)
{
	uint64_t blocking = arena.alloc_calls - arena.nowait_calls, frees = arena.free_calls;

	depth++;
	library_calls = 0;
	op->fn(SHEAF_NOWAIT | (below(2) ? SHEAF_STRICT : 0));
	depth--;
	ck_assert_msg(library_calls == 0, "memory came or went under NOWAIT");
	ck_assert_uint_eq(arena.alloc_calls - arena.nowait_calls, blocking);
	ck_assert_uint_eq(arena.free_calls, frees);
}

/* Memory of the library, of the backend, or both may end within this operation. */
static void run_failing(const struct op *op)
{
	if (below(2))
		arena.most = (unsigned)arena_out(&arena) + below(4);
	if (below(2))
		test_fail_nth(below(2), below(2));
	failing = true;
	op->fn(0);
	failing = false;
	test_fail_end();
	arena.most = ARENA_OBJECTS;
}

static void compare(void)
{
	struct sheaf_cache_stats s = cache_stats(cache);
	uint64_t borrowed = 0;

	ck_assert(sheaf_cache_check(cache));
	for (unsigned i = 0; i < LENT; i++)
		borrowed += lent[i] ? lent[i]->size : 0;
	ck_assert_uint_eq(arena.errors, 0);
	ck_assert_uint_eq(in_hand + borrowed + s.held_slots + s.held_barns + s.in_flight +
				  s.abandoned,
			  arena_out(&arena));
	ck_assert(s.backend_allocated == arena.allocated && s.backend_freed == arena.freed);
	ck_assert(s.backend_alloc_trips == arena.alloc_calls);
	ck_assert(s.backend_free_trips == arena.free_calls);
	ck_assert(s.prefills == prefills && (s.slots <= 1 || s.cpu_slots) && s.orphans == 0);
	ck_assert_uint_eq(s.budget_used, arena_out(&arena) * 24);
	ck_assert_uint_le(arena_out(&arena), budget);
	if (arena_out(&arena) < budget && s.budget_used > load_relaxed(&cache->budget))
		budget = arena_out(&arena);
	ck_assert(s.barn_failed <= s.barn_alloc_trips + s.barn_free_trips);
}

static void begin(unsigned variant)
{
	unsigned nodes = variant % 6 + 1;

	state = test_seed() + variant;
	arena_init(&arena, 24);
	arena.knows_nodes = variant >= 6;
	budget = told = ARENA_OBJECTS;
	sheaf_gp_manual_init(&manual, UINT64_MAX - 30);
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = CAPACITY,
					    .barn_full = 3,
					    .barn_empty = 2,
					    .nodes = nodes,
					    .current_node = any_node,
					    .gp = &manual.gp,
					    .overuse = on_overuse,
				    });
	arena.hook = call_back;
	arena.nowait_too = nodes % 2;
	in_hand = depth = 0;
	prefills = 0;
	memset(retired, 0, sizeof(retired));
}

static void end(void)
{
	arena.hook = NULL;
	for (unsigned i = 0; i < LENT; i++) {
		sheaf_cache_return(cache, lent[i]);
		lent[i] = NULL;
	}
	while (in_hand)
		sheaf_cache_free(cache, hand_remove());
	op_barrier(0);
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(arena_out(&arena), cache->abandoned);
	/* Nobody reads; the abandoned are all that is left. */
	arena.freed = arena.allocated;
	cache->backend_freed = cache->backend_allocated;
	budget_release(cache, cache->abandoned);
	cache->abandoned = 0;
	arena_cache_end(&arena, cache);
}

START_TEST(every_operation_in_any_order)
{
	int64_t blocks;

	/* A first cache, so that what the thread keeps for good is there. */
	begin(1);
	op_alloc(0);
	end();
	blocks = library_blocks;
	begin((unsigned)_i);
	for (unsigned round = test_rounds(10000); round; round--) {
		const struct op *op = any_op();
		unsigned how = below(100);

		if (how < 25 && op->nowait)
			run_nowait(op);
		else if (how < 30 && op->fn != op_destroy)
			run_failing(op);
		else
			op->fn(op->fn == op_prefill && how < 50 ? SHEAF_STRICT : 0);
		compare();
	}
	end();
	ck_assert_int_eq(library_blocks, blocks);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("model");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, every_operation_in_any_order, 0, 12);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
