/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What the slab backends of a process share: the map of regions, and the list of
 * backends that fork() needs. */
#ifndef SLAB_REGISTRY_H
#define SLAB_REGISTRY_H

#include "slab_types.h"

#include "base/atomic.h"

#define REGION_SHIFT 21
#define LEAF_BITS 13
#define ROOT_BITS 14
#define LEAF_SLOTS ((size_t)1 << LEAF_BITS)
#define ROOT_SLOTS ((size_t)1 << ROOT_BITS)

static_assert((size_t)1 << REGION_SHIFT == SHEAF_SLAB_REGION, "a slot is a region");
static_assert(REGION_SHIFT + LEAF_BITS + ROOT_BITS == 48, "all that mmap() gives unasked");

/* The root of the map; see slab_registry.c. */
extern struct region **slab_map[ROOT_SLOTS];

static inline size_t root_index(const void *address)
{
	return (size_t)((uint64_t)(uintptr_t)address >> (REGION_SHIFT + LEAF_BITS));
}

static inline size_t leaf_index(const void *address)
{
	return ((uintptr_t)address >> REGION_SHIFT) & (LEAF_SLOTS - 1);
}

/* The region whose memory @p address is in, of whatever backend, or NULL. Reads
 * nothing near @p address. Lock-free; acquires what region_enter() released. */
static inline struct region *region_find(const void *address)
{
	size_t at = root_index(address);
	struct region **leaf;

	if (unlikely(at >= ROOT_SLOTS))
		return NULL;
	leaf = load_acquire(&slab_map[at]);
	if (unlikely(!leaf))
		return NULL;
	return load_acquire(&leaf[leaf_index(address)]);
}

/* Put a region on the map. Blocking. Returns how many regions its backend has now,
 * or 0 if there is no memory. */
uint64_t region_enter(struct region *region);

/* Nobody finds it on the map any more. Under the mutex of its node. */
void region_hide(struct region *region);

/* Take it off again, before its memory is unmapped. Blocking. */
void region_leave(struct region *region);

/* The most regions that a backend ever had on the map. Blocking. */
uint64_t regions_peak(struct sheaf_slab *s);

/* Let fork() know of a backend. Blocking. Returns 0 or -ENOMEM. */
int slab_register(struct sheaf_slab *s);
void slab_unregister(struct sheaf_slab *s);

#endif
