/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Blocks of any size, for containers that tell the size again when they free.
 *
 *	class    0   1   2   3   4   5        39    40    large
 *	bytes   64  80  96 112 128 160 ... 57344 65536    above
 *
 * A class is a cache. There are four for each doubling, because what containers ask for
 * is a power of two and a little more, which classes of powers of two would double. The
 * size alone tells the class, so a block has no head, and readers of a retired block can
 * look at all of it. Containers seldom allocate, and a table that has grown does not come back
 * to its old sizes; so a class begins with its first block, has few blocks per sheaf, and
 * malloc behind it.
 *
 * A large block is one piece of malloc with a head:
 *
 *	0              LARGE_HEAD
 *	+--------------+---------------------
 *	| next, ticket | the block
 *	+--------------+---------------------
 *
 * Retired, it waits in a list with a ticket of its own. That takes no memory, and nothing is
 * written where readers are. Each call for a large block frees those in the list that are
 * ripe, whatever their size. A sheaf for them would hold back what is worth freeing soon.
 *
 * Realloc is called for blocks that readers still find: ck_array publishes the new one when
 * it has come back. So the old one may not be retired yet: a ticket taken now could elapse
 * before that, and readers who come in between would be in free memory. It is noted with
 * the thread, and retired in the next call of that thread, which has published by then.
 *
 * Guarantees:
 *  G1  What is freed deferred is not used again before the end of every read section that
 *      ran then. For classes this is G1 of cache_rcu.c; a large block takes its ticket
 *      when it is retired, and is freed when that has elapsed.
 *  G2  What a deferred realloc has moved is retired after the new block is published: by
 *      the thread of the note, which has come back since, or by fini. Another thread that
 *      has the note in its hands just then delays it to a later call.
 *  G3  A class has one cache. Who makes it publishes it by a CAS from NULL; who comes
 *      second ends its own, which nobody has seen. There is nothing retired in it to wait
 *      for, so that may be in a read section.
 *  G4  A realloc that fails has changed nothing: note and new block come first.
 *
 * There are no locks, so that fork() finds none taken. Both lists are pushed one by one and
 * taken whole, which has no ABA; who takes one puts back what it leaves.
 *
 * Read first: class_of(), sheaf_ck_memory_realloc().
 */
#include <sheaf/ck_malloc.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/memory.h"
#include "base/report.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CLASS_MIN_SHIFT 6
#define CLASS_MIN ((size_t)1 << CLASS_MIN_SHIFT)
/* What a class holds at most: bytes and blocks of one sheaf, and sheaves of its barn. */
#define SHEAF_BYTES ((size_t)16 << 10)
#define CAPACITY_BEST 60
#define BARN_SHEAVES 8

#define MALLOC_ALIGN _Alignof(max_align_t)
static_assert(SHEAF_CK_CLASS_MAX == CLASS_MIN << (SHEAF_CK_CLASSES - 1) / 4,
	      "the last class ends where large blocks begin");
static_assert((SHEAF_CK_CLASSES - 1) % 4 == 0, "four classes for each doubling");

/* Before a large block; both are set when it is retired. */
struct sheaf_ck_large {
	struct sheaf_ck_large *next;
	uint64_t ticket;
};

#define LARGE_HEAD ((sizeof(struct sheaf_ck_large) + MALLOC_ALIGN - 1) & ~(MALLOC_ALIGN - 1))

/* A block that a realloc has moved, and who will have published the new one. */
struct sheaf_ck_note {
	struct sheaf_ck_note *next;
	pthread_t thread;
	void *block;
	size_t bytes;
};

static_assert(sizeof(struct sheaf_ck_note) <= CLASS_MIN, "notes are blocks of the first class");

/* The class of a size that is not large; see the table above. */
static unsigned class_of(size_t bytes)
{
	unsigned shift;

	if (bytes <= CLASS_MIN)
		return 0;
	/* 2^shift <= bytes - 1: the two bits below the highest tell the quarter. */
	bytes--;
	shift = 8 * sizeof(long) - 1 - (unsigned)__builtin_clzl(bytes);
	return 4 * (shift - CLASS_MIN_SHIFT) + (unsigned)(bytes >> (shift - 2) & 3) + 1;
}

static size_t class_bytes(unsigned which)
{
	unsigned shift = CLASS_MIN_SHIFT + (which - 1) / 4;

	if (!which)
		return CLASS_MIN;
	return ((size_t)1 << shift) + (((which - 1) % 4 + (size_t)1) << (shift - 2));
}

static bool is_large(size_t bytes)
{
	return unlikely(bytes > SHEAF_CK_CLASS_MAX);
}

/* Makes the cache of a class, unless another thread does; NULL if there is no memory. */
static __attribute__((noinline)) struct sheaf_cache *make_cache(struct sheaf_ck_memory *memory,
								unsigned which)
{
	size_t bytes = class_bytes(which);
	size_t capacity = SHEAF_BYTES / bytes;
	char name[24];
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr),
		.object_size = bytes,
		.name = name,
		.capacity = 1,
		.barn_full = BARN_SHEAVES,
		.barn_empty = BARN_SHEAVES,
		.gp = memory->gp,
	};
	struct sheaf_cache *cache, *other = NULL;

	/* Before init, or after fini. */
	if (!memory->gp)
		return NULL;
	snprintf(name, sizeof(name), "ck %zu", bytes);
	if (capacity)
		attr.capacity = capacity < CAPACITY_BEST ? (uint32_t)capacity : CAPACITY_BEST;
	if (sheaf_backend_malloc(&attr.backend, bytes, MALLOC_ALIGN) ||
	    sheaf_cache_create(&cache, &attr))
		return NULL;
	/* release: G3, partner the loads here and in class_cache() */
	if (cas_release(&memory->caches[which], &other, cache))
		return cache;
	sheaf_cache_destroy(cache, NULL);
	return load_acquire(&memory->caches[which]);
}

static struct sheaf_cache *class_cache(struct sheaf_ck_memory *memory, size_t bytes)
{
	unsigned which = class_of(bytes);
	/* acquire: G3, partner the CAS in make_cache() */
	struct sheaf_cache *cache = load_acquire(&memory->caches[which]);

	return likely(cache) ? cache : make_cache(memory, which);
}

/* The same for a block that has come from it. */
static struct sheaf_cache *block_cache(struct sheaf_ck_memory *memory, size_t bytes)
{
	/* acquire: G3, as above */
	struct sheaf_cache *cache = load_acquire(&memory->caches[class_of(bytes)]);

	if (unlikely(!cache))
		fatal("ck memory: freed a block of %zu bytes, there has never been one", bytes);
	return cache;
}

static void large_push(struct sheaf_ck_memory *memory, struct sheaf_ck_large *large)
{
	large->next = load_relaxed(&memory->retired);
	/* release: partner the exchanges in large_free_ripe() and large_wait() */
	while (!cas_weak_release(&memory->retired, &large->next, large))
		;
}

static size_t large_free_ripe(struct sheaf_ck_memory *memory)
{
	struct sheaf_ck_large *large, *next;
	size_t n = 0;

	if (!load_relaxed(&memory->retired))
		return 0;
	/* acquire: partner the CAS in large_push() */
	for (large = exchange_acquire(&memory->retired, NULL); large; large = next) {
		next = large->next;
		if (sheaf_gp_elapsed(memory->gp, large->ticket)) {
			memory_free(large);
			n++;
		} else {
			large_push(memory, large);
		}
	}
	return n;
}

/* Frees all, ripe or not yet; -EDEADLK if some have to stay. */
static int large_wait(struct sheaf_ck_memory *memory)
{
	/* acquire: partner the CAS in large_push() */
	struct sheaf_ck_large *large = exchange_acquire(&memory->retired, NULL), *next;
	int ret, err = 0;

	for (; large; large = next) {
		next = large->next;
		ret = sheaf_gp_wait(memory->gp, large->ticket);
		if (ret) {
			large_push(memory, large);
			err = ret;
		} else {
			memory_free(large);
		}
	}
	return err;
}

static void *large_alloc(struct sheaf_ck_memory *memory, size_t bytes)
{
	char *head;

	if (!memory->gp || bytes > PTRDIFF_MAX - LARGE_HEAD)
		return NULL;
	large_free_ripe(memory);
	head = memory_alloc(1, LARGE_HEAD + bytes);
	if (!head)
		return NULL;
	fetch_add_relaxed(&memory->large_out, 1);
	return head + LARGE_HEAD;
}

static void large_free(struct sheaf_ck_memory *memory, void *block, bool deferred)
{
	struct sheaf_ck_large *large = (void *)((char *)block - LARGE_HEAD);

	fetch_sub_relaxed(&memory->large_out, 1);
	if (deferred) {
		large->ticket = sheaf_gp_ticket(memory->gp);
		large_push(memory, large);
	} else {
		memory_free(large);
	}
	large_free_ripe(memory);
}

static void *block_alloc(struct sheaf_ck_memory *memory, size_t bytes)
{
	struct sheaf_cache *cache;

	if (is_large(bytes))
		return large_alloc(memory, bytes);
	cache = class_cache(memory, bytes);
	return cache ? sheaf_cache_alloc(cache, 0) : NULL;
}

static void block_free(struct sheaf_ck_memory *memory, void *block, size_t bytes, bool deferred)
{
	if (is_large(bytes))
		large_free(memory, block, deferred);
	else if (deferred)
		sheaf_cache_free_rcu(block_cache(memory, bytes), block);
	else
		sheaf_cache_free(block_cache(memory, bytes), block);
}

static void note_push(struct sheaf_ck_memory *memory, struct sheaf_ck_note *note)
{
	note->next = load_relaxed(&memory->notes);
	/* release: partner the exchange in notes_retire_slow() */
	while (!cas_weak_release(&memory->notes, &note->next, note))
		;
}

static __attribute__((noinline)) void notes_retire_slow(struct sheaf_ck_memory *memory, bool all)
{
	/* acquire: partner the CAS in note_push() */
	struct sheaf_ck_note *note = exchange_acquire(&memory->notes, NULL), *next;

	for (; note; note = next) {
		next = note->next;
		if (all || pthread_equal(note->thread, pthread_self())) {
			block_free(memory, note->block, note->bytes, true);
			block_free(memory, note, sizeof(*note), false);
		} else {
			note_push(memory, note);
		}
	}
}

/* First in each call: what this thread has moved in an earlier one is published. */
static void notes_retire(struct sheaf_ck_memory *memory)
{
	if (unlikely(load_relaxed(&memory->notes) != NULL))
		notes_retire_slow(memory, false);
}

int sheaf_ck_memory_init(struct sheaf_ck_memory *memory, struct sheaf_gp *gp)
{
	if (!gp)
		return -EINVAL;
	memset(memory, 0, sizeof(*memory));
	memory->gp = gp;
	return 0;
}

int sheaf_ck_memory_fini(struct sheaf_ck_memory *memory, size_t *live)
{
	size_t out = 0, n;
	int ret, err;

	if (live)
		*live = 0;
	if (!memory->gp)
		return 0;
	notes_retire_slow(memory, true);
	err = large_wait(memory);
	/* Also after an error, so that one step of a manual source does for all. */
	for (unsigned which = 0; which < SHEAF_CK_CLASSES; which++) {
		if (!memory->caches[which])
			continue;
		ret = sheaf_cache_destroy(memory->caches[which], &n);
		if (!ret)
			memory->caches[which] = NULL;
		else if (ret == -EBUSY)
			out += n;
		else
			err = ret;
	}
	if (err)
		return err;
	out += memory->large_out;
	if (live)
		*live = out;
	if (out)
		return -EBUSY;
	memset(memory, 0, sizeof(*memory));
	return 0;
}

void *sheaf_ck_memory_alloc(struct sheaf_ck_memory *memory, size_t bytes)
{
	notes_retire(memory);
	return block_alloc(memory, bytes);
}

void sheaf_ck_memory_free(struct sheaf_ck_memory *memory, void *block, size_t bytes, bool deferred)
{
	notes_retire(memory);
	if (block)
		block_free(memory, block, bytes, deferred);
}

/* Will a block of one size do for the other as it is? */
static bool fits(size_t old_bytes, size_t bytes)
{
	if (is_large(old_bytes) || is_large(bytes))
		return old_bytes == bytes;
	return class_of(old_bytes) == class_of(bytes);
}

void *sheaf_ck_memory_realloc(struct sheaf_ck_memory *memory, void *block, size_t old_bytes,
			      size_t bytes, bool deferred)
{
	struct sheaf_ck_note *note = NULL;
	void *moved;

	notes_retire(memory);
	if (!block)
		return block_alloc(memory, bytes);
	if (fits(old_bytes, bytes))
		return block;
	if (deferred) {
		note = block_alloc(memory, sizeof(*note));
		if (!note)
			return NULL;
	}
	moved = block_alloc(memory, bytes);
	if (!moved) {
		if (note)
			block_free(memory, note, sizeof(*note), false);
		return NULL;
	}
	memcpy(moved, block, old_bytes < bytes ? old_bytes : bytes);
	if (note) {
		note->thread = pthread_self();
		note->block = block;
		note->bytes = old_bytes;
		note_push(memory, note);
	} else {
		block_free(memory, block, old_bytes, false);
	}
	return moved;
}

size_t sheaf_ck_memory_shrink(struct sheaf_ck_memory *memory)
{
	size_t n;

	if (!memory->gp)
		return 0;
	notes_retire(memory);
	n = large_free_ripe(memory);
	for (unsigned which = 0; which < SHEAF_CK_CLASSES; which++) {
		/* acquire: G3, partner the CAS in make_cache() */
		struct sheaf_cache *cache = load_acquire(&memory->caches[which]);

		if (cache)
			n += sheaf_cache_shrink(cache);
	}
	return n;
}
