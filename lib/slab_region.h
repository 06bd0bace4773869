/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* How regions come from the system and go back. */
#ifndef SLAB_REGION_H
#define SLAB_REGION_H

#include "slab_types.h"

/*
 * Make a region with no object out, on the map but in no list. The caller holds no
 * lock. Blocking. NULL if there is no memory.
 */
struct region *region_create(struct sheaf_slab *s, unsigned node);

/* Give the regions that are linked into a list back, with no object out. The caller
 * holds no lock. Blocking. Returns their number. */
size_t region_destroy_all(struct list *regions);

/*
 * Give the pages of those slabs in a set back that are dirty, and keep the addresses. All in the
 * set are empty. The caller holds the node's mutex. Returns bytes.
 */
size_t region_discard(struct region *region, const uint64_t *set);

#endif
