/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/backend.h
 * A backend: where a cache gets objects in bulk, and gives them back.
 *
 * Fill a struct sheaf_backend to bring your own; sheaf_backend_malloc is the plain
 * one, <sheaf/slab.h> the one to prefer.
 */
#ifndef SHEAF_BACKEND_H
#define SHEAF_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** Flag of an allocation: do not block, wait for a lock or ask the system; fail instead. */
#define SHEAF_NOWAIT 1u

/** Any NUMA node will do. */
#define SHEAF_NODE_ANY (-1)

/**
 * Operations of a backend. All of them are called by any number of threads at
 * once, never inside a slot, and with no lock of the library held but that of a trim, for which
 * only other trims of the same cache wait. free_bulk and trim are called on the thread of the
 * grace-period source, too, so they must not wait for grace periods.
 */
struct sheaf_backend_ops {
	/** For messages and statistics: "malloc", "slab". */
	const char *name;
	/**
	 * Get up to @p n objects: all or part.
	 *
	 * @p ctx is the backend's; @p node is where the memory should be, or
	 * SHEAF_NODE_ANY; @p flags is 0 or SHEAF_NOWAIT (under which it neither
	 * blocks, nor waits for a lock, nor asks the system); @p objects has room for @p n
	 * pointers. Returns how many were stored, from 0 to @p n; they are the
	 * caller's. Size and alignment are not passed: each object has at least what the
	 * attributes of the cache say, defaults included, and those who get it rely on it.
	 */
	size_t (*alloc_bulk)(void *ctx, int node, unsigned flags, size_t n, void **objects);
	/** Give back @p n objects that alloc_bulk handed out, in any order. Never fails. */
	void (*free_bulk)(void *ctx, size_t n, void *const *objects);
	/** End of the backend; all objects are back. NULL if there is nothing to do. */
	void (*destroy)(void *ctx);
	/** Give memory without objects back to the system; returns bytes. NULL if there is none to
	 *  give. May block; called after many objects have come back. */
	size_t (*trim)(void *ctx);
	/** The NUMA node where an object's memory is, SHEAF_NODE_ANY if that is not known. Wait-free,
	 *  without a system call: called for each free on machines with several nodes. NULL: never
	 *  known. */
	int (*node_of)(void *ctx, const void *object);
	/** Others than the user may look at free objects, as in a type-stable slab: what is in them
	 *  is left alone, by checkers and debug mode as well. */
	bool stable;
};

/** A backend: operations and what they work on. Copied by value. */
struct sheaf_backend {
	/** What it can do; stays where it is as long as the backend is used. */
	const struct sheaf_backend_ops *ops;
	/** The first argument of each operation. */
	void *ctx;
};

/**
 * A backend over the C library's allocator: malloc() or posix_memalign(), and free(), per object.
 * Under SHEAF_NOWAIT it hands out nothing, because malloc may lock and map.
 *
 * @param backend written; needs no memory of its own and no destroy
 * @param size bytes of one object, 1 to 2^30
 * @param align bytes, a power of two up to 2^20, or 0 for that of malloc
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 * Return: 0; -EINVAL if size or align is out of range.
 */
int sheaf_backend_malloc(struct sheaf_backend *backend, size_t size, size_t align);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
