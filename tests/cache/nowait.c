/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the calls for signal handlers: they try what costs least first, to the object;
 * whatever they meet they neither wait, lock, allocate, call the backend, nor change errno;
 * what they leave aside comes back, free objects with the next normal call, retired ones after
 * a grace period and not before; notes are used again and mapped sheaves go back to the system;
 * a barrier does not miss what was retired before it, whoever has it in hand by then; and a
 * thread that is about to end finds no slot that another one may have.
 */
#define _GNU_SOURCE
#include "arena.h"
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CAPACITY 4
#define NOTES 256
#define MANY 600
#define MAPPED_BYTES 4096

static struct arena arena;
static struct sheaf_cache *cache;
static void *objects[MANY];

/*
 * What the library calls below itself, by the linker's --wrap. Of the calling thread: others
 * may do what they want.
 */
struct calls {
	unsigned memory;
	unsigned locks;
	unsigned files;
};

static __thread struct calls calls;
static unsigned maps, unmaps;
static bool no_pages;
/* Called once: before this lock is taken, or after any is let go. */
static pthread_mutex_t *lock_awaited;
static void (*before_lock)(void);
static __thread void (*after_unlock)(void);

void *__real_memory_alloc(size_t align, size_t bytes);
void *__wrap_memory_alloc(size_t align, size_t bytes);
void *__real_memory_zalloc(size_t align, size_t bytes);
void *__wrap_memory_zalloc(size_t align, size_t bytes);
void __real_memory_free(void *mem);
void __wrap_memory_free(void *mem);
struct sheaf *__real_sheaf_map(void);
struct sheaf *__wrap_sheaf_map(void);
int __real_munmap(void *mem, size_t bytes);
int __wrap_munmap(void *mem, size_t bytes);
int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __real_pthread_mutex_unlock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock);
FILE *__real_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode);

void *__wrap_memory_alloc(size_t align, size_t bytes)
{
	calls.memory++;
	return __real_memory_alloc(align, bytes);
}

void *__wrap_memory_zalloc(size_t align, size_t bytes)
{
	calls.memory++;
	return __real_memory_zalloc(align, bytes);
}

void __wrap_memory_free(void *mem)
{
	calls.memory++;
	__real_memory_free(mem);
}

struct sheaf *__wrap_sheaf_map(void)
{
	if (no_pages)
		return NULL;
	maps++;
	return __real_sheaf_map();
}

int __wrap_munmap(void *mem, size_t bytes)
{
	unmaps += bytes == MAPPED_BYTES;
	return __real_munmap(mem, bytes);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	calls.locks++;
	if (lock == load_relaxed(&lock_awaited)) {
		store_relaxed(&lock_awaited, NULL);
		before_lock();
	}
	return __real_pthread_mutex_lock(lock);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock)
{
	void (*then)(void) = after_unlock;
	int err = __real_pthread_mutex_unlock(lock);

	after_unlock = NULL;
	if (then)
		then();
	return err;
}

FILE *__wrap_fopen64(const char *path, const char *mode)
{
	calls.files++;
	return __real_fopen64(path, mode);
}

/* Around each call that must not be heard below the library. */
struct quiet {
	struct calls calls;
	uint64_t backend;
};

static unsigned loud;

static struct quiet quiet_begin(void)
{
	struct quiet q = {calls, arena.alloc_calls + arena.free_calls};

	errno = EXDEV;
	return q;
}

static void quiet_end(const struct quiet *q)
{
	if (errno != EXDEV || memcmp(&q->calls, &calls, sizeof(calls)) != 0 ||
	    q->backend != arena.alloc_calls + arena.free_calls)
		fetch_add_relaxed(&loud, 1);
}

static void *alloc_now(void)
{
	struct quiet q = quiet_begin();
	void *object = sheaf_cache_alloc_nowait(cache);

	quiet_end(&q);
	if (object)
		arena_own(&arena, object, ARENA_USER);
	return object;
}

static void free_now(void *object)
{
	struct quiet q = quiet_begin();

	arena_disown(&arena, object, ARENA_USER);
	sheaf_cache_free_nowait(cache, object);
	quiet_end(&q);
}

static void retire_now(void *object)
{
	struct quiet q = quiet_begin();

	arena_disown(&arena, object, ARENA_USER);
	sheaf_cache_free_rcu_nowait(cache, object);
	quiet_end(&q);
}

static void *alloc_from_now(struct sheaf *sheaf)
{
	struct quiet q = quiet_begin();
	void *object = sheaf_cache_alloc_from(cache, sheaf);

	quiet_end(&q);
	if (object)
		arena_own(&arena, object, ARENA_USER);
	return object;
}

/* A source that its owner steps, or that waits by stepping if told so, and can hold up whoever
 * takes a ticket. */
static struct {
	struct sheaf_gp gp;
	uint64_t now;
	unsigned waits;
	bool steps_itself;
	/* 1: the next ticket waits while this is not 0; it says so with 2. */
	uint32_t hold;
} source;

static uint64_t source_ticket(struct sheaf_gp *gp)
{
	uint32_t one = 1;

	(void)gp;
	if (cas_acq_rel(&source.hold, &one, 2))
		while (load_acquire(&source.hold))
			test_pause();
	return fetch_add_acq_rel(&source.now, 0);
}

static void source_step(void)
{
	store_release(&source.gp.completed, fetch_add_acq_rel(&source.now, 1));
}

static int source_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	source.waits++;
	if (!source.steps_itself)
		return -EDEADLK;
	while (!sheaf_gp_elapsed(gp, ticket))
		source_step();
	return 0;
}

static bool source_read_ongoing(struct sheaf_gp *gp)
{
	(void)gp;
	return false;
}

static const struct sheaf_gp_ops source_ops = {
	.name = "stepped",
	.ticket = source_ticket,
	.wait = source_wait,
	.read_ongoing = source_read_ongoing,
};

/* A sheaf of a page is not among what the tests below count unless they say so. */
static void begin_with(size_t object_size, struct sheaf_cache_attr attr)
{
	memset(&source, 0, sizeof(source));
	source.gp.ops = &source_ops;
	source.now = 1;
	attr.gp = &source.gp;
	attr.capacity = CAPACITY;
	if (!attr.nodes)
		attr.nodes = 1;
	loud = maps = unmaps = 0;
	no_pages = false;
	arena_init(&arena, object_size);
	cache = arena_cache(&arena, attr);
}

static void begin(uint32_t full, uint32_t empty)
{
	begin_with(32, (struct sheaf_cache_attr){.barn_full = full, .barn_empty = empty});
}

static void end(void)
{
	source.steps_itself = true;
	ck_assert_uint_eq(cache_stats(cache).abandoned, 0);
	arena_cache_end(&arena, cache);
	ck_assert_uint_eq(maps, unmaps);
	ck_assert_msg(loud == 0, "%u calls were heard below", loud);
}

static void get(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		objects[i] = sheaf_cache_alloc(cache, 0);
		ck_assert_ptr_nonnull(objects[i]);
		ck_assert(arena_own(&arena, objects[i], ARENA_USER));
	}
}

static void put_some(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++) {
		ck_assert(arena_disown(&arena, objects[i], ARENA_USER));
		sheaf_cache_free(cache, objects[i]);
	}
}

static void retire_some(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++) {
		arena_disown(&arena, objects[i], ARENA_USER);
		sheaf_cache_free_rcu(cache, objects[i]);
	}
}

/* Takes what can be had without waiting, from objects[from] on; says how many that were. */
static unsigned get_now(unsigned from)
{
	unsigned n = 0;
	void *object;

	while (from + n < MANY && (object = alloc_now()) != NULL)
		objects[from + n++] = object;
	return n;
}

static void free_some_now(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		free_now(objects[i]);
}

static void retire_some_now(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		retire_now(objects[i]);
}

static void add_empties(unsigned n)
{
	while (n--)
		sheaf_barn_keep(&cache->node[0].barn, sheaf_new(CAPACITY));
}

static struct sheaf_barn_stats barn_stats(void)
{
	struct sheaf_barn_stats stats;

	sheaf_barn_stats(&cache->node[0].barn, &stats);
	return stats;
}

/* Nothing in slot and barn, n objects in hand. */
static void get_into_nothing(unsigned n)
{
	get(n);
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(arena_out(&arena), n);
}

/* All that was allocated, wherever it is, is with the backend after a grace period. */
static void all_comes_home(void)
{
	source.steps_itself = true;
	ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(arena_out(&arena), 0);
}

/* First of all, so that nothing has asked the system before. */
START_TEST(first_call_of_a_process)
{
	begin_with(32, (struct sheaf_cache_attr){.nodes = 2});
	ck_assert_ptr_null(alloc_now());
	end();
	/* What is listened for can be heard. */
	ck_assert(calls.memory && calls.locks && calls.files);
}
END_TEST

START_TEST(alloc_takes_what_is_at_hand)
{
	unsigned slots = 2 * CAPACITY, barns = 2 * CAPACITY, ripe = 2 * CAPACITY, spilled = 4;
	unsigned all = slots + barns + ripe + spilled;
	uint64_t trips;

	begin(2, UINT32_MAX);
	get(all);
	put_some(0, slots + barns);
	retire_some(slots + barns, ripe);
	ck_assert_int_eq(sheaf_cache_barrier(cache), -EDEADLK);
	source_step();
	free_some_now(all - spilled, spilled);
	trips = arena.alloc_calls;
	for (unsigned i = 0;; i++) {
		struct sheaf_cache_stats s = cache_stats(cache);

		ck_assert_uint_eq(s.held_slots, slots);
		ck_assert_uint_eq(s.held_barns, barns);
		ck_assert_uint_eq(s.in_flight, ripe);
		ck_assert_uint_eq(s.spilled, spilled);
		objects[i] = alloc_now();
		if (i == all) {
			ck_assert_ptr_null(objects[i]);
			break;
		}
		ck_assert_ptr_nonnull(objects[i]);
		if (slots) {
			slots--;
		} else if (barns) {
			barns -= CAPACITY;
			slots = CAPACITY - 1;
		} else if (ripe) {
			ripe -= CAPACITY;
			slots = CAPACITY - 1;
		} else {
			spilled--;
		}
	}
	ck_assert_uint_eq(arena.alloc_calls, trips);
	put_some(0, all);
	end();
}
END_TEST

/* Two sheaves into the slot, as many into the barn as it has empties or room for, then aside. */
START_TEST(free_fills_slot_and_barn_then_spills)
{
	unsigned empties = _i ? 2 : 4, n;
	unsigned room = _i ? 2 * CAPACITY : 3 * CAPACITY;

	begin(_i ? 8 : 1, 8);
	get_into_nothing(room + 10);
	add_empties(empties);
	for (n = 0; n <= room + 10; n++) {
		unsigned in_barn = n > 2 * CAPACITY && !_i ? CAPACITY : 0;
		unsigned spilled = n > room ? n - room : 0;
		unsigned used = (n + CAPACITY - 1) / CAPACITY;
		struct sheaf_cache_stats s = cache_stats(cache);

		ck_assert_uint_eq(s.held_barns, in_barn);
		ck_assert_uint_eq(s.held_slots, n - in_barn - spilled);
		ck_assert_uint_eq(s.spilled, spilled);
		ck_assert_uint_eq(s.spills, spilled);
		ck_assert_uint_eq(barn_stats().empty.held,
				  empties - (n > room ? room / CAPACITY : used));
		if (n < room + 10)
			free_now(objects[n]);
	}
	ck_assert(sheaf_cache_check(cache));
	end();
}
END_TEST

/*
 * What normal calls do with what lies aside.
 */
static void normal_alloc(void)
{
	uint64_t trips = arena.alloc_calls;

	/* The slot is emptied without a look aside; then that comes before the backend. */
	get(2 * CAPACITY + 1);
	ck_assert_uint_eq(arena.alloc_calls, trips);
	put_some(0, 2 * CAPACITY + 1);
}

static void normal_free(void)
{
	ck_assert(arena_disown(&arena, objects[MANY - 1], ARENA_USER));
	sheaf_cache_free(cache, objects[MANY - 1]);
	objects[MANY - 1] = NULL;
}

static void normal_alloc_bulk(void)
{
	void *one;

	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, 1, &one), 1);
	sheaf_cache_free(cache, one);
}

static void normal_free_bulk(void)
{
	void *one = objects[MANY - 1];

	objects[MANY - 1] = NULL;
	ck_assert(arena_disown(&arena, one, ARENA_USER));
	sheaf_cache_free_bulk(cache, 1, &one);
}

static void normal_flush(void)
{
	sheaf_cache_flush(cache);
}

static void normal_shrink(void)
{
	sheaf_cache_shrink(cache);
}

static void normal_barrier(void)
{
	sheaf_cache_barrier(cache);
}

static void normal_prefill(void)
{
	struct sheaf *sheaf = sheaf_cache_prefill(cache, 3 * CAPACITY, 0);

	ck_assert_ptr_nonnull(sheaf);
	sheaf_cache_return(cache, sheaf);
}

static void (*const normal_calls[])(void) = {
	normal_alloc, normal_free,   normal_alloc_bulk, normal_free_bulk,
	normal_flush, normal_shrink, normal_barrier,    normal_prefill,
};

#define NORMAL_CALLS (sizeof(normal_calls) / sizeof(normal_calls[0]))

START_TEST(next_normal_call_takes_in)
{
	unsigned aside = 8 + 70 * (_i % 2);
	struct sheaf_cache_stats s;

	begin(1, 1);
	get(aside + 3 * CAPACITY);
	objects[MANY - 1] = sheaf_cache_alloc(cache, 0);
	ck_assert(arena_own(&arena, objects[MANY - 1], ARENA_USER));
	put_some(0, 3 * CAPACITY);
	free_some_now(3 * CAPACITY, aside);
	ck_assert_uint_gt(cache_stats(cache).spilled, 0);
	normal_calls[_i]();
	s = cache_stats(cache);
	ck_assert_uint_eq(s.spilled, 0);
	ck_assert_uint_eq(s.held_slots + s.held_barns + (objects[MANY - 1] != NULL),
			  arena_out(&arena));
	if (objects[MANY - 1])
		normal_free();
	end();
}
END_TEST

START_TEST(spilled_are_had_again_one_by_one)
{
	begin(1, 1);
	get_into_nothing(300);
	free_some_now(0, 300);
	ck_assert_uint_eq(cache_stats(cache).spilled, 300);
	ck_assert_uint_eq(get_now(0), 300);
	ck_assert_uint_eq(cache_stats(cache).spilled, 0);
	/* And mixed: some are taken while others are left. */
	for (unsigned i = 0; i < 100; i++) {
		free_some_now(0, 3);
		ck_assert_ptr_nonnull(objects[0] = alloc_now());
		ck_assert_ptr_nonnull(objects[1] = alloc_now());
		ck_assert_uint_eq(cache_stats(cache).spilled, 1);
		ck_assert_ptr_nonnull(objects[2] = alloc_now());
	}
	put_some(0, 300);
	end();
}
END_TEST

/*
 * Where there is no way into the slot.
 */
struct in_vain {
	bool used_before;
	unsigned got;
	uint32_t ready;
	uint32_t go;
};

/* All that can be had, each third of it retired, the rest freed. */
static void all_calls(struct in_vain *v)
{
	unsigned i;

	v->got = get_now(0);
	for (i = 0; i < v->got; i++)
		(i % 3 ? free_now : retire_now)(objects[i]);
}

static void *all_calls_in_thread(void *arg)
{
	struct in_vain *v = arg;

	if (v->used_before)
		sheaf_cache_free(cache, sheaf_cache_alloc(cache, 0));
	store_release(&v->ready, 1);
	while (!load_acquire(&v->go))
		test_pause();
	all_calls(v);
	return NULL;
}

static void lock_slots(bool lock)
{
	for (struct slot *slot = cache->stopped; slot; slot = slot->next)
		(lock ? pthread_mutex_lock : pthread_mutex_unlock)(&slot->lock);
}

enum { NO_SLOT, SLOT_BUSY, SLOT_STOPPED, CONTEXTS };

START_TEST(without_a_slot_nothing_waits_or_is_lost)
{
	struct in_vain v = {.used_before = _i == SLOT_STOPPED};
	unsigned cpu_slots, slots = 0;
	pthread_t thread;

	begin(16, 16);
	cpu_slots = cache->cpus.n;
	get(10 * CAPACITY);
	put_some(0, 10 * CAPACITY);
	ck_assert_uint_eq(cache_stats(cache).held_slots, 2 * CAPACITY);
	if (_i != SLOT_BUSY)
		pthread_create(&thread, NULL, all_calls_in_thread, &v);
	while (_i != SLOT_BUSY && !load_acquire(&v.ready))
		test_pause();
	if (_i == SLOT_STOPPED) {
		pthread_mutex_lock(&cache->remote_lock);
		slots_stop(cache, PART_RCU | PART_ALLOC);
		lock_slots(true);
	} else if (_i == SLOT_BUSY && !cpu_slots) {
		slot_find(cache)->busy = 1;
	}
	store_release(&v.go, 1);
	if (_i == SLOT_BUSY)
		all_calls(&v);
	else
		pthread_join(thread, NULL);
	if (_i == SLOT_STOPPED) {
		lock_slots(false);
		slots_go(cache);
		pthread_mutex_unlock(&cache->remote_lock);
	} else if (_i == SLOT_BUSY && !cpu_slots) {
		slot_find(cache)->busy = 0;
	}
	/* A stopped slot of a CPU still serves from main, one that is not from both. The thread
	 * that had used the cache has emptied one sheaf of the barn into its own slot. */
	if (cpu_slots)
		slots = _i == SLOT_STOPPED ? CAPACITY : 2 * CAPACITY;
	else if (_i == SLOT_STOPPED)
		slots = 0;
	ck_assert_uint_eq(v.got,
			  8 * CAPACITY + slots - (v.used_before && !cpu_slots ? CAPACITY : 0));
	ck_assert_uint_eq(cache_stats(cache).abandoned, 0);
	ck_assert_uint_eq(maps, 0);
	all_comes_home();
	end();
}
END_TEST

/*
 * Objects in which no pointer fits.
 */
#define SMALL 4

static void mark(unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		memset(objects[i], (int)i, SMALL);
}

static unsigned overwritten(unsigned from, unsigned n)
{
	unsigned wrong = 0;

	for (unsigned i = from; i < from + n; i++)
		for (unsigned k = 0; k < SMALL; k++)
			wrong += ((unsigned char *)objects[i])[k] != (unsigned char)i;
	return wrong;
}

START_TEST(small_objects_go_to_a_page)
{
	begin_with(SMALL, (struct sheaf_cache_attr){.barn_full = 1, .barn_empty = UINT32_MAX});
	get(100);
	put_some(0, 3 * CAPACITY);
	mark(50, 50);
	free_some_now(3 * CAPACITY, 50 - 3 * CAPACITY);
	ck_assert_uint_eq(overwritten(50, 50), 0);
	ck_assert_uint_eq(cache_stats(cache).spilled, 0);
	ck_assert_uint_eq(cache_stats(cache).held_slots + cache_stats(cache).held_barns, 50);
	/* One page has room for all. */
	ck_assert_uint_eq(maps, 1);
	ck_assert_uint_eq(get_now(0), 50);
	put_some(0, 100);
	ck_assert_uint_eq(unmaps, 0);
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(unmaps, 1);
	end();
}
END_TEST

/* Without a page there is no place; its neighbours are not one. */
START_TEST(small_objects_without_a_page_are_given_up)
{
	begin_with(SMALL, (struct sheaf_cache_attr){.barn_full = 1, .barn_empty = UINT32_MAX});
	get(100);
	put_some(0, 3 * CAPACITY);
	mark(3 * CAPACITY, 100 - 3 * CAPACITY);
	no_pages = true;
	free_now(objects[50]);
	ck_assert_uint_eq(overwritten(3 * CAPACITY, 50 - 3 * CAPACITY), 0);
	ck_assert_uint_eq(overwritten(51, 49), 0);
	ck_assert_uint_eq(cache_stats(cache).spilled, 0);
	ck_assert_uint_eq(cache_stats(cache).abandoned, 1);
	put_some(3 * CAPACITY, 50 - 3 * CAPACITY);
	put_some(51, 49);
	backend_put(cache, 1, &objects[50]);
	cache->abandoned = 0;
	end();
}
END_TEST

/* What a constructor has written is not chained through: a page here as well. */
static void write_number(void *arg, size_t n, void *const *made)
{
	uint64_t *number = arg;

	for (size_t i = 0; i < n; i++)
		memcpy(made[i], number, sizeof(*number));
}

START_TEST(constructed_objects_go_to_a_page)
{
	uint64_t number = UINT64_C(0x1234567890abcdef), found;
	unsigned wrong = 0;

	begin_with(32, (struct sheaf_cache_attr){.barn_full = 1, .barn_empty = UINT32_MAX,
						 .ctor = write_number, .ctor_arg = &number});
	get(100);
	put_some(0, 3 * CAPACITY);
	free_some_now(3 * CAPACITY, 100 - 3 * CAPACITY);
	ck_assert_uint_eq(cache_stats(cache).spilled, 0);
	ck_assert_uint_eq(maps, 1);
	ck_assert_uint_eq(get_now(0), 100);
	for (unsigned i = 0; i < 100; i++) {
		memcpy(&found, objects[i], sizeof(found));
		wrong += found != number;
	}
	ck_assert_uint_eq(wrong, 0);
	put_some(0, 100);
	end();
}
END_TEST

/*
 * Retiring.
 */
struct layers {
	uint64_t empties;
	uint64_t fulls;
	uint64_t slots;
	uint64_t spilled;
	uint64_t spills;
	unsigned maps;
	unsigned sealed;
	bool spare;
};

static const struct slot_sheaves *own_sheaves(void)
{
	return cache->cpus.n ? &cache->cpus.slots[sched_getcpu()].held : &slot_find(cache)->held;
}

static struct layers look(void)
{
	const struct slot_sheaves *held = own_sheaves();
	struct sheaf_barn_stats barn = barn_stats();
	struct sheaf_cache_stats s = cache_stats(cache);
	struct layers l = {
		.empties = barn.empty.held,
		.fulls = barn.full.held,
		.slots = s.held_slots,
		.spilled = s.spilled,
		.spills = s.spills,
		.maps = maps,
		.spare = held->pair[held->pair[0] == held->main]->size != 0,
	};

	for (const struct sheaf *sheaf = cache->node[0].sealed; sheaf; sheaf = sheaf->link)
		l.sealed++;
	return l;
}

/* Retires one, and sees that it took nothing dear while there was something cheap. */
static void retire_and_look(void *object, unsigned *noted)
{
	struct layers was = look(), is;
	bool note;

	retire_now(object);
	is = look();
	note = is.spills > was.spills && is.sealed == was.sealed && is.spilled == was.spilled;
	ck_assert(!note || !was.empties);
	ck_assert(is.spilled == was.spilled || (!was.empties && *noted == NOTES));
	ck_assert(is.maps == was.maps ||
		  (!was.empties && *noted == NOTES && !was.spare && !was.fulls));
	ck_assert_uint_le(is.spills, was.spills + 1);
	*noted += note;
}

/* With two empties in the barn, a spare and a full sheaf there. */
static void retire_through_all_stages(unsigned n)
{
	unsigned noted = 0;

	get(n + 3 * CAPACITY);
	sheaf_cache_shrink(cache);
	source_step();
	sheaf_cache_shrink(cache);
	put_some(n, 3 * CAPACITY);
	add_empties(2);
	ck_assert(look().spare && look().fulls == 1 && look().empties == 2);
	for (unsigned i = 0; i < n; i++)
		retire_and_look(objects[i], &noted);
	ck_assert_uint_eq(noted, NOTES);
	ck_assert_uint_eq(cache_stats(cache).spilled, 2 * CAPACITY);
	ck_assert_uint_eq(cache_stats(cache).abandoned, 0);
	ck_assert_uint_eq(cache_stats(cache).in_flight, 0);
}

#define STAGED (2 * CAPACITY + NOTES + 2 * CAPACITY + 30)

START_TEST(retire_takes_the_cheapest_place)
{
	begin(1, UINT32_MAX);
	retire_through_all_stages(STAGED);
	ck_assert_uint_ge(maps, 1);
	if (_i) {
		/* Destroy finds everything. */
		end();
		return;
	}
	/* Again, and the notes serve again. */
	for (unsigned round = 0; round < 3; round++) {
		/* Only what is free can be had before the grace period, ticket or not. */
		ck_assert_uint_eq(get_now(0), 3 * CAPACITY);
		ck_assert_int_eq(sheaf_cache_barrier(cache), -EDEADLK);
		ck_assert_uint_eq(cache_stats(cache).in_flight, STAGED);
		ck_assert_ptr_null(alloc_now());
		source_step();
		ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
		ck_assert_uint_eq(get_now(3 * CAPACITY), STAGED);
		put_some(0, STAGED + 3 * CAPACITY);
		sheaf_cache_shrink(cache);
		ck_assert_uint_eq(arena_out(&arena), 0);
		ck_assert_uint_eq(unmaps, maps);
		retire_through_all_stages(STAGED);
	}
	end();
}
END_TEST

/* A page takes in what comes after, and so does a sheaf that had to be emptied. */
START_TEST(a_page_is_filled)
{
	begin(1, UINT32_MAX);
	get_into_nothing(NOTES + 200);
	retire_some_now(0, NOTES + 200);
	ck_assert_uint_eq(maps, 1);
	all_comes_home();
	end();
}
END_TEST

/* In no layer at all, not even a note: it stays, and is counted. */
START_TEST(retire_gives_up_in_the_end)
{
	begin(1, UINT32_MAX);
	get_into_nothing(NOTES + 3);
	no_pages = true;
	retire_some_now(0, NOTES + 3);
	ck_assert_uint_eq(cache_stats(cache).abandoned, 3);
	no_pages = false;
	source.steps_itself = true;
	ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(arena_out(&arena), 3);
	backend_put(cache, 3, objects + NOTES);
	cache->abandoned = 0;
	end();
}
END_TEST

/* Retiring does not visit the backend while there is memory, whatever else lies aside. */
START_TEST(normal_retire_leaves_free_objects_aside)
{
	uint64_t trips;

	begin(1, UINT32_MAX);
	get(100);
	put_some(0, 3 * CAPACITY);
	free_some_now(3 * CAPACITY, 20);
	ck_assert_uint_eq(cache_stats(cache).spilled, 20);
	trips = arena.free_calls;
	retire_some(50, 50);
	ck_assert_uint_eq(arena.free_calls, trips);
	put_some(3 * CAPACITY + 20, 30 - 3 * CAPACITY);
	end();
}
END_TEST

/* Taking in notes may need a sheaf. Without memory the notes stay, and no allocation or free
 * waits for a grace period. */
START_TEST(without_memory_notes_stay)
{
	void *more[3];

	begin(8, 8);
	get_into_nothing(40);
	retire_some_now(0, 20);
	source.steps_itself = true;
	test_fail_nth(0, true);
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, 3, more), 3);
	sheaf_cache_free_bulk(cache, 3, more);
	sheaf_cache_flush(cache);
	ck_assert(test_fail_end());
	ck_assert_uint_eq(source.waits, 0);
	ck_assert_uint_eq(cache_stats(cache).abandoned, 0);
	put_some(20, 20);
	all_comes_home();
	end();
}
END_TEST

/*
 * Sheaves from the kernel, wherever they come by.
 */
static struct sheaf *mapped_with(uint32_t n)
{
	struct sheaf *sheaf = sheaf_map();

	ck_assert_ptr_nonnull(sheaf);
	sheaf->size = (uint32_t)backend_get_on(cache, 0, 0, n, n, sheaf->objects);
	return sheaf;
}

static void mapped_lent(void)
{
	struct sheaf *sheaf;

	sheaf_barn_keep(&cache->node[0].barn, mapped_with(3));
	sheaf = sheaf_cache_prefill(cache, 3, SHEAF_STRICT);
	ck_assert(sheaf->mark & MARK_MAPPED);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_ptr_nonnull(objects[i] = alloc_from_now(sheaf));
	put_some(0, 3);
	ck_assert_int_eq(sheaf_cache_refill(cache, &sheaf, 2, 0), 0);
	sheaf_cache_return(cache, sheaf);
	/* It is the spare now, and can be lent again. */
	sheaf = sheaf_cache_prefill(cache, 1, 0);
	ck_assert_uint_eq(sheaf->mark, MARK_MAPPED | MARK_LENT);
	sheaf_cache_return(cache, sheaf);
}

static void mapped_lent_and_enlarged(void)
{
	struct sheaf *sheaf;

	sheaf_barn_keep(&cache->node[0].barn, mapped_with(3));
	sheaf = sheaf_cache_prefill(cache, 3, 0);
	ck_assert(sheaf->mark & MARK_MAPPED);
	ck_assert_int_eq(sheaf_cache_refill(cache, &sheaf, sheaf->capacity + 1, 0), 0);
	ck_assert(!(sheaf->mark & MARK_MAPPED));
	ck_assert_uint_eq(unmaps, 1);
	sheaf_cache_return(cache, sheaf);
}

static void mapped_in_slot(void)
{
	get_into_nothing(300);
	sheaf_barn_keep(&cache->node[0].barn, sheaf_map());
	put_some(0, 300);
	ck_assert_uint_eq(cache_stats(cache).held_slots, 300);
	sheaf_cache_flush(cache);
	ck_assert_uint_eq(cache_stats(cache).held_barns, 300);
	get(300);
	put_some(0, 300);
}

static void mapped_retired(void)
{
	sheaf_barn_keep(&cache->node[0].barn, sheaf_map());
	get(MANY);
	retire_some(0, MANY);
	/* Most are in the one page. */
	ck_assert_uint_le(cache_stats(cache).sealed, (MANY - 500) / CAPACITY + 1);
	source_step();
	ck_assert_int_eq(sheaf_cache_barrier(cache), -EDEADLK);
	source_step();
	get_now(0);
	put_some(0, MANY);
}

static void mapped_emptied_without_memory(void)
{
	sheaf_barn_keep(&cache->node[0].barn, mapped_with(9));
	get(60);
	sheaf_cache_flush(cache);
	test_fail_nth(0, true);
	retire_some(0, 60);
	test_fail_end();
}

static void (*const mapped_ways[])(void) = {
	mapped_lent,    mapped_lent_and_enlarged,      mapped_in_slot,
	mapped_retired, mapped_emptied_without_memory,
};

#define MAPPED_WAYS (sizeof(mapped_ways) / sizeof(mapped_ways[0]))

START_TEST(mapped_sheaves_are_unmapped)
{
	begin(8, 8);
	mapped_ways[_i]();
	ck_assert(sheaf_cache_check(cache));
	all_comes_home();
	/* In recyclers there may be more after the first look. */
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(maps, 1);
	ck_assert_uint_eq(unmaps, 1);
	end();
}
END_TEST

START_TEST(handlers_use_a_lent_sheaf)
{
	struct sheaf *sheaf;

	begin(8, 8);
	sheaf = sheaf_cache_prefill(cache, 3 * CAPACITY, 0);
	for (unsigned i = 0; i < 3 * CAPACITY; i++)
		ck_assert_ptr_nonnull(objects[i] = alloc_from_now(sheaf));
	ck_assert_ptr_null(alloc_from_now(sheaf));
	sheaf_cache_return(cache, sheaf);
	free_some_now(0, CAPACITY);
	retire_some_now(CAPACITY, 2 * CAPACITY);
	all_comes_home();
	end();
}
END_TEST

/*
 * A barrier, and what is on its way.
 */
static uint32_t over;

static void *barrier_and_tell(void *arg)
{
	(void)arg;
	if (sheaf_cache_barrier(cache) == 0)
		store_release(&over, 1);
	return NULL;
}

static void *take_in(void *arg)
{
	(void)arg;
	store_release(&source.hold, 1);
	sheaf_cache_flush(cache);
	return NULL;
}

/* Another thread has it in hand, and takes its time. */
START_TEST(barrier_waits_for_who_takes_in)
{
	pthread_t taker, waiter;
	unsigned n = 2 * CAPACITY + 2;

	begin(8, 8);
	get_into_nothing(n);
	/* With two empties sheaves are sealed, without notes are written. */
	add_empties(_i ? 0 : 2);
	retire_some_now(0, n);
	ck_assert_uint_eq(look().sealed, _i ? 0 : 1);
	source.steps_itself = true;
	over = 0;
	pthread_create(&taker, NULL, take_in, NULL);
	while (load_acquire(&source.hold) != 2)
		test_pause();
	pthread_create(&waiter, NULL, barrier_and_tell, NULL);
	test_sleep_ms(100);
	ck_assert_uint_eq(load_acquire(&over), 0);
	store_release(&source.hold, 0);
	pthread_join(taker, NULL);
	pthread_join(waiter, NULL);
	ck_assert_uint_eq(over, 1);
	source.steps_itself = false;
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(arena_out(&arena), 0);
	end();
}
END_TEST

static void retire_one_more(void)
{
	retire_now(objects[CAPACITY]);
}

/* A handler comes in between and moves the full rcu sheaf out of the way of the barrier. */
START_TEST(barrier_finds_a_sheaf_that_a_handler_moved)
{
	begin(8, 8);
	get_into_nothing(CAPACITY + 1);
	retire_some(0, CAPACITY);
	ck_assert_uint_eq(cache_stats(cache).held_slots, CAPACITY);
	add_empties(1);
	source.steps_itself = true;
	before_lock = retire_one_more;
	lock_awaited = &cache->remote_lock;
	ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
	ck_assert_ptr_null(lock_awaited);
	source.steps_itself = false;
	sheaf_cache_shrink(cache);
	for (unsigned i = 0; i < CAPACITY; i++)
		ck_assert_uint_eq(arena.owner[arena_index(&arena, objects[i])], ARENA_BACKEND);
	end();
}
END_TEST

/*
 * The end of a thread: after its slot may have a new owner, a handler must not find it.
 */
static unsigned exits, finds;

static void look_for_orphan(void)
{
	struct slot *slot = slot_find(cache);

	exits++;
	if (slot != &slot_none && slot->orphan)
		finds++;
	free_now(objects[0]);
	objects[0] = alloc_now();
}

static void *use_and_end(void *arg)
{
	sheaf_cache_free(cache, sheaf_cache_alloc(cache, 0));
	after_unlock = look_for_orphan;
	return arg;
}

START_TEST(ending_thread_has_no_slot)
{
	pthread_t thread;

	begin(8, 8);
	get(1);
	exits = finds = 0;
	pthread_create(&thread, NULL, use_and_end, NULL);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(exits, !cache->cpus.n);
	ck_assert_uint_eq(finds, 0);
	if (objects[0])
		put_some(0, 1);
	all_comes_home();
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("nowait");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, first_call_of_a_process);
	tcase_add_test(tc, alloc_takes_what_is_at_hand);
	tcase_add_loop_test(tc, free_fills_slot_and_barn_then_spills, 0, 2);
	tcase_add_loop_test(tc, next_normal_call_takes_in, 0, NORMAL_CALLS);
	tcase_add_test(tc, spilled_are_had_again_one_by_one);
	tcase_add_loop_test(tc, without_a_slot_nothing_waits_or_is_lost, 0, CONTEXTS);
	tcase_add_test(tc, small_objects_go_to_a_page);
	tcase_add_test(tc, constructed_objects_go_to_a_page);
	tcase_add_test(tc, small_objects_without_a_page_are_given_up);
	tcase_add_loop_test(tc, retire_takes_the_cheapest_place, 0, 2);
	tcase_add_test(tc, a_page_is_filled);
	tcase_add_test(tc, retire_gives_up_in_the_end);
	tcase_add_test(tc, normal_retire_leaves_free_objects_aside);
	tcase_add_test(tc, without_memory_notes_stay);
	tcase_add_loop_test(tc, mapped_sheaves_are_unmapped, 0, MAPPED_WAYS);
	tcase_add_test(tc, handlers_use_a_lent_sheaf);
	tcase_add_loop_test(tc, barrier_waits_for_who_takes_in, 0, 2);
	tcase_add_test(tc, barrier_finds_a_sheaf_that_a_handler_moved);
	tcase_add_test(tc, ending_thread_has_no_slot);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
