/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/slab.h
 * The sample backend: slabs with free bitmaps inside 2 MiB regions, per-node lists.
 *
 * Which operations may run at the same time on one slab backend:
 *
 *	                  | alloc_bulk, | trim, stats, | create,
 *	                  | free_bulk   | check        | destroy
 *	------------------+-------------+--------------+---------
 *	alloc_, free_bulk |     yes     |     yes      |   no
 *	trim .. check     |     yes     |     yes      |   no
 *	create, destroy   |     no      |     no       |   no
 *
 * None of them may be called in a signal handler. After fork() all may be called in
 * the child, whatever the parent's other threads were doing; the child has a copy of
 * every object.
 *
 * Under AddressSanitizer and Memcheck an object is accessible while it is handed out,
 * and the memory of regions is not otherwise.
 */
#ifndef SHEAF_SLAB_H
#define SHEAF_SLAB_H

#include <sheaf/backend.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** Bytes of one region, the unit in which memory comes from the system. */
#define SHEAF_SLAB_REGION ((size_t)2 << 20)

/** How a slab backend is made; zero means default. */
struct sheaf_slab_attr {
	/** sizeof(struct sheaf_slab_attr); an older program has a smaller one. */
	size_t size;
	/** Bytes of one object, 1 to 65536; required. An object takes this, rounded up to
	 *  its alignment, and one bit. */
	size_t object_size;
	/** Alignment of objects in bytes, a power of two up to 4096, below 8 it is 8; default
	 *  16, or 8 for objects below 16 bytes. */
	size_t object_align;
	/** NUMA nodes, 1 to 64; default: what the system has. Higher node numbers fold. */
	unsigned nodes;
	/** Empty regions kept per node before they go back to the system; default 1, UINT32_MAX for none kept. */
	uint32_t spare_regions;
	/** Do not ask for huge pages. Else they are asked for when there are more regions than nodes. */
	bool no_huge_pages;
};

/** Counters of a slab backend; see sheaf_slab_stats(). */
struct sheaf_slab_stats {
	/** Objects handed out and not back. */
	uint64_t objects;
	/** Slabs that hold at least one of them. */
	uint64_t slabs_used;
	/** Slabs carved from regions and empty. */
	uint64_t slabs_empty;
	/** Objects that fit in one slab, and bytes of one slab. */
	uint32_t slab_objects;
	uint32_t slab_bytes;
	/** Regions held, and the most held at one time. */
	uint64_t regions;
	uint64_t regions_peak;
	/** Bulk operations of at least one object; under SHEAF_NOWAIT only those that did not
	 *  find their node busy. */
	uint64_t alloc_calls;
	uint64_t free_calls;
};

/** A slab backend; library's memory. */
struct sheaf_slab;

/**
 * Make a slab backend. It takes no region before the first allocation.
 *
 * @param slab written on success; end it with sheaf_slab_destroy(), or leave that
 *	to the owner of the backend (a cache destroys its backend)
 * @param attr what for; not kept
 *
 * Context: any thread. Ordering: none. Progress: blocking (malloc).
 * Return: 0; -EINVAL if an attribute is out of range; -ENOMEM.
 */
int sheaf_slab_create(struct sheaf_slab **slab, const struct sheaf_slab_attr *attr);

/**
 * The backend that a slab is.
 *
 * alloc_bulk: a node is a preference. For a given node it hands out what that node
 * has, then a new region of it, and what other nodes have if the system gives no
 * memory; for SHEAF_NODE_ANY all that any node has before a new region. Under
 * SHEAF_NOWAIT it passes over a node whose mutex is held, and never brings a region;
 * the one system call it may make wakes a thread that waits for the mutex.
 *
 * free_bulk: each object goes back to the node of its memory. A pointer that is not
 * an object of this backend, is inside one, or is free already ends the process with
 * a message that names it; it is never read or written.
 *
 * destroy: sheaf_slab_destroy(), with a message and abort() if objects are out.
 *
 * Context: any. Ordering: none. Progress: wait-free.
 * Return: a value to copy; good until the slab is destroyed.
 */
struct sheaf_backend sheaf_slab_backend(struct sheaf_slab *slab);

/**
 * End a slab backend: every region goes back to the system.
 *
 * Context: the only user of @p slab. Ordering: none. Progress: blocking (munmap).
 * Return: 0; -EBUSY if objects are still out (unchanged then).
 */
int sheaf_slab_destroy(struct sheaf_slab *slab);

/**
 * Give every empty region back to the system, whatever spare_regions says, and the
 * pages of empty slabs in the other regions.
 *
 * Context: any thread; may block. Ordering: none. Progress: blocking.
 * Return: bytes given back.
 */
size_t sheaf_slab_trim(struct sheaf_slab *slab);

/**
 * Read the counters: one consistent moment per node.
 *
 * Context: any thread; may block for a short time. Ordering: none. Progress: blocking.
 */
void sheaf_slab_stats(struct sheaf_slab *slab, struct sheaf_slab_stats *stats);

/**
 * Do all invariants hold? They are listed in lib/slab_types.h.
 *
 * Context: any thread; for tests; blocks the others for long.
 * Ordering: none. Progress: blocking, O(slabs).
 * Return: true if they hold.
 */
bool sheaf_slab_check(struct sheaf_slab *slab);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
