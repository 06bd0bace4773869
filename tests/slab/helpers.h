/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Short words for what the tests of the slab backend do all the time. */
#ifndef TESTS_SLAB_HELPERS_H
#define TESTS_SLAB_HELPERS_H

#include <sheaf/slab.h>

#include "common.h"
#include "slab_registry.h"

#include <stdlib.h>

static inline struct sheaf_slab *make(size_t size, size_t align, unsigned nodes, uint32_t spare)
{
	struct sheaf_slab_attr attr = {
		.size = sizeof(attr),
		.object_size = size,
		.object_align = align,
		.nodes = nodes,
		.spare_regions = spare,
	};
	struct sheaf_slab *slab;

	ck_assert_int_eq(sheaf_slab_create(&slab, &attr), 0);
	return slab;
}

static inline size_t take_some(struct sheaf_slab *slab, int node, unsigned flags, size_t n,
			       void **objects)
{
	struct sheaf_backend b = sheaf_slab_backend(slab);

	return b.ops->alloc_bulk(b.ctx, node, flags, n, objects);
}

static inline void take(struct sheaf_slab *slab, int node, size_t n, void **objects)
{
	ck_assert_uint_eq(take_some(slab, node, 0, n, objects), n);
}

static inline void give(struct sheaf_slab *slab, size_t n, void *const *objects)
{
	struct sheaf_backend b = sheaf_slab_backend(slab);

	b.ops->free_bulk(b.ctx, n, objects);
	ck_assert(sheaf_slab_check(slab));
}

static inline struct sheaf_slab_stats stats_of(struct sheaf_slab *slab)
{
	struct sheaf_slab_stats stats;

	sheaf_slab_stats(slab, &stats);
	return stats;
}

static inline void **room_for(size_t n)
{
	void **objects = calloc(n, sizeof(objects[0]));

	ck_assert_ptr_nonnull(objects);
	return objects;
}

static inline void shuffle(void **objects, size_t n, uint64_t *state)
{
	for (size_t i = n; i > 1; i--) {
		size_t j = test_below(state, i);
		void *object = objects[i - 1];

		objects[i - 1] = objects[j];
		objects[j] = object;
	}
}

static inline unsigned node_of(const void *object)
{
	return region_find(object)->node;
}

#endif
