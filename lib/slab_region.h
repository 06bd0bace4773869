/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Regions: how they come from the system, and how slabs in them are opened. */
#ifndef SLAB_REGION_H
#define SLAB_REGION_H

#include "slab_types.h"

/*
 * Make a region with all slabs empty, on the map but in no list. The caller holds
 * no lock. Blocking. @huge: ask for huge pages. NULL if there is no memory.
 */
struct region *region_create(struct sheaf_slab *s, unsigned node, bool huge);

/* Give a region with all slabs empty back to the system. It is in no list, and the
 * caller holds no lock. Blocking. */
void region_destroy(struct region *region);

/* The same for all regions linked into a list. Returns their number. */
size_t region_destroy_all(struct list *regions);

/*
 * Give the pages of the empty slabs of a region back, and keep the addresses. The
 * caller holds the node's mutex. Returns bytes.
 */
size_t region_discard(struct region *region);

/*
 * Take an empty slab out of a region that has one, with all its bits set. One that
 * has been used is preferred, because its pages are there. The caller holds the
 * node's mutex and places the region and the slab.
 */
struct slab *region_open_slab(struct region *region);

/* Put a slab whose objects are all free back into its region, which the caller,
 * who holds the node's mutex, places. */
void region_close_slab(struct slab *slab);

#endif
