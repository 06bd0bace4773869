/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Where slabs and regions belong when objects come and go. The caller holds the node's mutex. */
#ifndef SLAB_PLACE_H
#define SLAB_PLACE_H

#include "slab_trim.h"

/* The list that a region with that many objects out belongs in; NULL if all are. */
static inline struct list *region_list(const struct sheaf_slab *s, struct node *node, uint32_t used)
{
	if (!used)
		return &node->spare;
	return used < s->region_objects ? &node->bins[region_bin(s, used)] : NULL;
}

/* Link a region, of which `before` objects were out, where it belongs now. One that
 * fills up goes ahead of its new bin and is filled on; one that drains goes last. */
static inline void region_place(const struct sheaf_slab *s, struct node *node,
				struct region *region, uint32_t before)
{
	struct list *list = region_list(s, node, region->used);

	if (list == region_list(s, node, before))
		return;
	list_remove(&region->link);
	region->least = region_least(s, region->used);
	node->spare_count -= !before;
	node->spare_count += !region->used;
	if (list && (region->used > before || !region->used))
		list_add(&region->link, list);
	else if (list)
		list_add_last(&region->link, list);
}

/* Note in the region that slab i, which had `before` objects free, has `after`. */
static inline void slab_place(const struct sheaf_slab *s, struct node *node, struct region *region,
			      uint32_t i, uint64_t before, uint64_t after)
{
	uint64_t bit = (uint64_t)1 << i % 64;

	if (before == s->slab_objects) {
		region->empty_bits[i / 64] &= ~bit;
		region->aging_bits[i / 64] &= ~bit;
		if (region->dirty_bits[i / 64] & bit)
			node->idle--;
		else
			node_missed(s, node);
		region->dirty_bits[i / 64] |= bit;
		node->slabs_used++;
	}
	if (!after || after == s->slab_objects)
		region->partial_bits[i / 64] &= ~bit;
	else
		region->partial_bits[i / 64] |= bit;
	if (after == s->slab_objects) {
		region->empty_bits[i / 64] |= bit;
		node->slabs_used--;
		node->idle++;
	}
}

#endif
