/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/ck_malloc.h
 * Memory for Concurrency Kit's containers: a struct ck_malloc that retires what readers
 * may still be in, so that they need no more than read sections.
 *
 *	static struct sheaf_ck_memory memory;
 *	SHEAF_CK_MALLOC(allocator, &memory);
 *	...
 *	sheaf_ck_memory_init(&memory, gp);
 *	ck_ht_init(&table, CK_HT_MODE_DIRECT, NULL, &allocator, 64, seed);
 *
 * ck_ht, ck_hs, ck_rhs and ck_array exchange their memory as they grow. The last argument
 * of the callbacks for free and realloc says if readers may be in the old block. Where it
 * does, the block is retired: it is free once a grace period has passed. Else it is
 * free at once.
 *
 * A block is any number of bytes. Blocks up to SHEAF_CK_CLASS_MAX come from caches, one
 * for each class of sizes; larger ones from malloc, one by one.
 *
 * An optional header: it needs Concurrency Kit's <ck_malloc.h>, and no other one includes it.
 * The library is not linked with libck.
 *
 * Which operations may run at the same time on one memory:
 *
 *	              | alloc, realloc, | init,
 *	              | free, shrink    | fini
 *	--------------+-----------------+------
 *	alloc .. free |       yes       |  no
 *	init, fini    |       no        |  no
 *
 * After fork() a child may go on with a memory, whatever other threads were doing. Blocks
 * that those had in their hands inside one of these calls stay allocated in the child.
 */
#ifndef SHEAF_CK_MALLOC_H
#define SHEAF_CK_MALLOC_H

#include <ck_malloc.h>
#include <sheaf/cache.h>
#include <sheaf/gp.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** Bytes of the largest block that comes from a cache. */
#define SHEAF_CK_CLASS_MAX 65536

/** Classes of sizes up to there, four for each doubling. */
#define SHEAF_CK_CLASSES 41

struct sheaf_ck_large;
struct sheaf_ck_note;

/** Memory for containers. In the caller's memory; fields are private, see lib/ck_malloc.c. */
struct sheaf_ck_memory {
	struct sheaf_gp *gp;
	struct sheaf_ck_note *notes;
	struct sheaf_ck_large *retired;
	size_t large_out;
	struct sheaf_cache *caches[SHEAF_CK_CLASSES];
};

/**
 * Define a static struct ck_malloc for the containers of one memory, with the three
 * functions in it. Concurrency Kit's callbacks have no argument for the user, so there is
 * one for each memory. Write it at file scope, with a semicolon.
 *
 * @param name of the struct ck_malloc; the functions are name_malloc, name_realloc and
 *	name_free
 * @param memory a struct sheaf_ck_memory *, evaluated in each call: the address of one with
 *	static storage duration
 */
#define SHEAF_CK_MALLOC(name, memory)                                                              \
	static void *name##_malloc(size_t bytes)                                                   \
	{                                                                                          \
		return sheaf_ck_memory_alloc((memory), bytes);                                     \
	}                                                                                          \
	static void *name##_realloc(void *block, size_t old_bytes, size_t bytes, bool deferred)    \
	{                                                                                          \
		return sheaf_ck_memory_realloc((memory), block, old_bytes, bytes, deferred);       \
	}                                                                                          \
	static void name##_free(void *block, size_t bytes, bool deferred)                          \
	{                                                                                          \
		sheaf_ck_memory_free((memory), block, bytes, deferred);                            \
	}                                                                                          \
	static struct ck_malloc name = {name##_malloc, name##_realloc, name##_free}

/**
 * Make a memory. It holds nothing yet: a class makes its cache for its first block.
 *
 * @param memory of the caller; end it with sheaf_ck_memory_fini()
 * @param gp grace-period source that the readers of the containers use; must outlive
 *	@p memory
 *
 * Context: the only user of @p memory. Ordering: none. Progress: wait-free.
 * Return: 0; -EINVAL if @p gp is NULL.
 */
int sheaf_ck_memory_init(struct sheaf_ck_memory *memory, struct sheaf_gp *gp);

/**
 * End a memory: waits for what is retired and gives everything back. Destroy its
 * containers first.
 *
 * @param memory ended on success, all zeros then; usable as before on failure. One that is
 *	all zeros has ended already: allocating from it gives NULL.
 * @param live if not NULL, set to the number of blocks still allocated
 *
 * Context: the only user of @p memory; as sheaf_gp_wait() if anything was retired.
 * Ordering: none. Progress: blocking.
 * Return: 0; -EBUSY if blocks are still allocated; -EDEADLK if the source cannot be waited
 *	for, see sheaf_gp_wait(); a manual one has to be stepped first, once (live is 0 then).
 */
int sheaf_ck_memory_fini(struct sheaf_ck_memory *memory, size_t *live);

/**
 * Allocate a block.
 *
 * @param memory which
 * @param bytes any number; 0 is as 1
 *
 * Context: any thread, also inside a read section; not in a signal handler. Blocks only in
 *	malloc, and to make the cache of a class.
 * Ordering: acquires what the thread that freed the memory released.
 * Progress: as sheaf_cache_alloc(); above SHEAF_CK_CLASS_MAX and for the first block of a
 *	class, blocking.
 * Return: a block with undefined contents, aligned as malloc() does it, the caller's until
 *	it is freed; NULL if there is no memory.
 */
void *sheaf_ck_memory_alloc(struct sheaf_ck_memory *memory, size_t bytes);

/**
 * Free a block, at once or after a grace period.
 *
 * @param memory the one it came from
 * @param block from @p memory; NULL is ignored
 * @param bytes its size, exactly as it was last asked for
 * @param deferred false: the caller alone can reach it, it is free at once. True: readers
 *	may be in it, but no read section that begins now can reach it; it is retired.
 *
 * Context: any thread, not in a signal handler; if @p deferred also inside a read section.
 *	As sheaf_cache_free_rcu() without any memory, up to SHEAF_CK_CLASS_MAX; larger
 *	blocks are retired without any. What is ripe waits for the next block of its class, or
 *	of any size above SHEAF_CK_CLASS_MAX; or for sheaf_ck_memory_shrink().
 * Ordering: releases the caller's writes to whoever gets the memory.
 * Progress: as sheaf_cache_free() and sheaf_cache_free_rcu(); above SHEAF_CK_CLASS_MAX
 *	blocking (free).
 */
void sheaf_ck_memory_free(struct sheaf_ck_memory *memory, void *block, size_t bytes, bool deferred);

/**
 * Change the size of a block, moving it if its class changes.
 *
 * @param memory the one it came from
 * @param block from @p memory; NULL is as sheaf_ck_memory_alloc()
 * @param old_bytes its size, exactly as it was last asked for
 * @param bytes the new size; contents are kept up to the smaller one
 * @param deferred false: the caller alone can reach @p block; if it moves, the old one is
 *	free at once. True: readers may be in it, and find it until the caller has
 *	published the new one. The caller does that before its thread calls for this memory
 *	again: that call, whichever it is, retires the old one, or else fini does.
 *
 * Context: as sheaf_ck_memory_alloc(); nobody writes to the block meanwhile.
 * Ordering: as sheaf_ck_memory_alloc() and sheaf_ck_memory_free().
 * Progress: as there, O(old_bytes).
 * Return: the block, which may be the same, the caller's until it is freed; NULL if there
 *	is no memory (@p block is as before then).
 */
void *sheaf_ck_memory_realloc(struct sheaf_ck_memory *memory, void *block, size_t old_bytes,
			      size_t bytes, bool deferred);

/**
 * Give back what is free and what is ripe. What has been retired before this call begins
 * its grace period now at the latest.
 *
 * @param memory which
 *
 * Context: any thread, not in a signal handler; may block.
 * Ordering: as sheaf_cache_shrink(). Progress: blocking.
 * Return: blocks given back.
 */
size_t sheaf_ck_memory_shrink(struct sheaf_ck_memory *memory);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
