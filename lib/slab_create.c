/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The beginning and the end of a slab backend, and how it cuts regions. */
#include "slab_types.h"

#include "base/attr.h"
#include "base/memory.h"
#include "base/topology.h"
#include "slab_region.h"
#include "slab_registry.h"

/* sizeof(struct sheaf_slab_attr) in the first release. */
#define ATTR_SIZE_MIN sizeof(struct sheaf_slab_attr)

static_assert(TOPOLOGY_NODES_MAX <= 64, "a set of nodes is one word in a bulk free");

/*
 * Cut for objects of one size. The slab is the smallest that holds SLAB_OBJECTS_AIM
 * objects: about what a sheaf does, so that a refill from an empty slab visits one
 * slab, whose bits are one word; and what is left at its end, less than one object,
 * is below 1/64 of it. Above 16 KiB per object a slab is a whole region; above 32 KiB
 * that holds fewer than aimed at, but still 32, and the rest is below 1/32.
 */
static void layout(struct sheaf_slab *s, size_t size, size_t align)
{
	uint32_t shift = (uint32_t)__builtin_ctz(SLAB_BYTES_MIN);

	s->object_size = (uint32_t)size;
	s->stride = (uint32_t)((size + align - 1) & ~(align - 1));
	s->inverse = (((uint64_t)1 << SLAB_INVERSE_SHIFT) + s->stride - 1) / s->stride;
	while (((size_t)1 << shift) < SHEAF_SLAB_REGION &&
	       ((size_t)1 << shift) / s->stride < SLAB_OBJECTS_AIM)
		shift++;
	s->slab_shift = shift;
	s->slab_objects = (1u << shift) / s->stride;
	s->slab_words = (s->slab_objects + 63) / 64;
	s->head_bytes = (uint32_t)(sizeof(struct slab) + s->slab_words * sizeof(uint64_t));
	s->slabs = (uint32_t)(SHEAF_SLAB_REGION >> shift);
	s->region_objects = s->slabs * s->slab_objects;
	s->region_words = (s->slabs + 63) / 64;
	while ((s->region_objects - 1) >> s->bin_shift >= REGION_BINS)
		s->bin_shift++;
}

static void node_init(struct node *node)
{
	pthread_mutex_init(&node->mutex, NULL);
	for (unsigned i = 0; i < REGION_BINS; i++)
		list_init(&node->bins[i]);
	list_init(&node->spare);
	list_init(&node->regions);
}

int sheaf_slab_create(struct sheaf_slab **slab, const struct sheaf_slab_attr *attr)
{
	unsigned system_nodes = topology_nodes();
	struct sheaf_slab_attr a;
	struct sheaf_slab *s;
	int ret = attr_copy(&a, sizeof(a), attr, attr->size, ATTR_SIZE_MIN);

	if (ret)
		return ret;
	if (!a.object_size || a.object_size > OBJECT_SIZE_MAX || a.nodes > TOPOLOGY_NODES_MAX ||
	    a.object_align > OBJECT_ALIGN_MAX || (a.object_align & (a.object_align - 1)))
		return -EINVAL;
	if (!a.object_align)
		a.object_align = a.object_size < 16 ? 8 : 16;
	if (a.object_align < OBJECT_ALIGN_MIN)
		a.object_align = OBJECT_ALIGN_MIN;
	if (!a.nodes)
		a.nodes = system_nodes;

	s = memory_zalloc(CACHE_LINE, sizeof(*s) + a.nodes * sizeof(s->node[0]));
	if (!s)
		return -ENOMEM;
	layout(s, a.object_size, a.object_align);
	s->nodes = a.nodes;
	s->spare_regions = a.spare_regions ? a.spare_regions : 1;
	if (a.spare_regions == UINT32_MAX)
		s->spare_regions = 0;
	s->huge = !a.no_huge_pages;
	/* Numbers that were injected or folded are not those of the system. */
	s->bind = system_nodes > 1 && s->nodes == system_nodes;
	for (unsigned k = 0; k < s->nodes; k++)
		node_init(&s->node[k]);
	ret = slab_register(s);
	if (ret) {
		memory_free(s);
		return ret;
	}
	*slab = s;
	return 0;
}

int sheaf_slab_destroy(struct sheaf_slab *slab)
{
	for (unsigned k = 0; k < slab->nodes; k++)
		if (slab->node[k].objects)
			return -EBUSY;
	slab_unregister(slab);
	for (unsigned k = 0; k < slab->nodes; k++) {
		region_destroy_all(&slab->node[k].spare);
		pthread_mutex_destroy(&slab->node[k].mutex);
	}
	memory_free(slab);
	return 0;
}
