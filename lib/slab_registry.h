/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What the slab backends of a process share: the map of regions, and the list of
 * backends that fork() needs. */
#ifndef SLAB_REGISTRY_H
#define SLAB_REGISTRY_H

#include "slab_types.h"

/* The region whose memory @p address is in, of whatever backend, or NULL. Reads
 * nothing near @p address. Lock-free; acquires what region_enter() released. */
struct region *region_find(const void *address);

/* Put a region on the map. Blocking. Returns how many regions its backend has now,
 * or 0 if there is no memory. */
uint64_t region_enter(struct region *region);

/* Take it off again, before its memory is unmapped. Blocking. */
void region_leave(struct region *region);

/* The most regions that a backend ever had on the map. Blocking. */
uint64_t regions_peak(struct sheaf_slab *s);

/* Let fork() know of a backend. Blocking. Returns 0 or -ENOMEM. */
int slab_register(struct sheaf_slab *s);
void slab_unregister(struct sheaf_slab *s);

#endif
