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
 * and the memory of regions is not otherwise; in the type-stable mode all of it is.
 */
#ifndef SHEAF_SLAB_H
#define SHEAF_SLAB_H

#include <sheaf/backend.h>
#include <sheaf/gp.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** Bytes of one region, the unit in which memory comes from the system. */
#define SHEAF_SLAB_REGION ((size_t)2 << 20)

/** Classes of slabs by how full they are; see sheaf_slab_stats.fill. */
#define SHEAF_SLAB_FILLS 8

/** What is wrong with a pointer that was freed. */
enum sheaf_slab_misuse {
	/** Its memory is of no slab backend, or not any more. */
	SHEAF_SLAB_FOREIGN = 1,
	/** It is an object of another slab backend, or inside one. */
	SHEAF_SLAB_OTHER,
	/** It is not the start of an object. */
	SHEAF_SLAB_MISALIGNED,
	/** The object is free already, or was never handed out. */
	SHEAF_SLAB_DOUBLE
};

/** A wrong free, as told to a sheaf_slab_misuse_fn; good during the call. */
struct sheaf_slab_report {
	/** Name of the backend that was called. */
	const char *name;
	/** The pointer that it was given; may point anywhere. */
	const void *object;
	/** What is wrong with it. */
	enum sheaf_slab_misuse why;
	/** All of it in English, as the default prints it. */
	const char *text;
};

/** Called on a wrong free instead of abort(), on the thread that freed, with no lock held. When it
 *  returns the pointer is ignored, and the others of the same call are freed. */
typedef void sheaf_slab_misuse_fn(void *arg, const struct sheaf_slab_report *report);

/** Called over @p n objects that are handed out for the first time since their memory came from
 *  the system, on the thread that allocates, with no lock held. Must not call this backend. */
typedef void sheaf_slab_ctor_fn(void *arg, size_t n, void *const *objects);

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
	/** Memory kept per node, in regions, when no object is in it: empty regions, and one region's
	 *  worth more of empty slabs in others. What is above goes back to the system when objects
	 *  are freed. If what went back is wanted again soon, up to 8 regions more are kept, until
	 *  much more goes back at one time, or sheaf_slab_trim(). Default 1; UINT32_MAX for none. */
	uint32_t spare_regions;
	/** Do not ask for huge pages. Else they are asked for when there are more regions than nodes. */
	bool no_huge_pages;
	/**
	 * Look harder for programs that are wrong, at about a tenth more memory and some time: behind
	 * each slab lies a page that cannot be accessed, with the last object right before it, and
	 * objects of a slab are handed out in random order. No huge pages then.
	 */
	bool hardened;
	/** For messages; copied, cut at 31 characters; default "slab". */
	const char *name;
	/** Of the random order; default: the system's entropy. */
	uint64_t seed;
	/** Called on a wrong free; default: message and abort(). */
	sheaf_slab_misuse_fn *misuse;
	/** Passed to @p misuse. */
	void *misuse_arg;
	/** Makes objects. What it and later users have written stays while an object is free, so who
	 *  frees an object leaves it as the next one wants to find it. Default: none, then
	 *  contents are undefined. */
	sheaf_slab_ctor_fn *ctor;
	/** Passed to @p ctor. */
	void *ctor_arg;
	/** Makes the backend type-stable: a free object may be handed out again at once, but its memory
	 *  leaves for the system only after a grace period of this source, so that who found the
	 *  object in a read section may read it to the end of the section, and see that
	 *  it has become another one. Must outlive the backend. Default: none. */
	struct sheaf_gp *gp;
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
	/** Slabs with objects out, by how full they are: fill[i] counts those of which more than i
	 *  and at most i + 1 eighths are out. They add up to slabs_used. */
	uint64_t fill[SHEAF_SLAB_FILLS];
	/** Regions held, and the most held at one time. */
	uint64_t regions;
	uint64_t regions_peak;
	/** Bytes held from the system: address space of regions and their heads; bytes of slabs that
	 *  have been used since the system gave their pages, which is what is resident at most; and
	 *  bytes given back so far. */
	uint64_t bytes_mapped;
	uint64_t bytes_touched;
	uint64_t bytes_returned;
	/** Bytes of slabs used since they came from the system per thousand bytes of objects that are
	 *  out, as object_size says: fragmentation, 1000 if there is none; 0 without objects. */
	uint64_t fragmentation;
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
 * an object of this backend, is inside one, or is free already is reported, which ends
 * the process unless the attribute misuse says otherwise; it is never read or written.
 *
 * destroy: sheaf_slab_destroy(), with a message and abort() if that fails.
 *
 * Context: any. Ordering: none. Progress: wait-free.
 * Return: a value to copy; good until the slab is destroyed.
 */
struct sheaf_backend sheaf_slab_backend(struct sheaf_slab *slab);

/**
 * End a slab backend: every region goes back to the system. A type-stable one that has
 * regions waits for a grace period first.
 *
 * Context: the only user of @p slab; as sheaf_gp_wait() in the type-stable mode.
 * Ordering: none. Progress: blocking (munmap).
 * Return: 0; -EBUSY if objects are still out; -EDEADLK if the source cannot be waited for, see
 *	sheaf_gp_wait(): the owner of a manual one steps it and calls again, or empties the
 *	backend by sheaf_slab_trim() before (unchanged in both cases).
 */
int sheaf_slab_destroy(struct sheaf_slab *slab);

/**
 * Give every empty region back to the system, whatever spare_regions says, and the
 * pages of empty slabs in the other regions. In the type-stable mode what is empty
 * now takes a ticket, and goes by a call after that has elapsed, if it is still empty.
 *
 * Context: any thread; may block, but not for a grace period. Ordering: none.
 * Progress: blocking.
 * Return: bytes given back by this call.
 */
size_t sheaf_slab_trim(struct sheaf_slab *slab);

/**
 * Read the counters: one consistent moment per node.
 *
 * Context: any thread; may block for a short time. Ordering: none. Progress: blocking,
 *	O(slabs that are neither empty nor full).
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
