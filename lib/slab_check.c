/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What a slab backend tells of itself: the counters, and whether the invariants of
 * slab_types.h hold. Each node is looked at under its mutex. The check walks the
 * lists first, forwards and backwards, and counts what is in them; then it walks
 * regions and slabs, and compares. As a member of a list it accepts only what says of
 * itself that it belongs there, so equal counts mean equal sets.
 */
#include "slab_types.h"

#include "base/atomic.h"
#include "slab_registry.h"

struct tally {
	uint64_t bins[SLAB_BINS];
	uint64_t partial;
	uint64_t spare;
	uint64_t regions;
	uint64_t objects;
	uint64_t used;
};

static bool link_ok(const struct list *link)
{
	return link->next->prev == link && link->prev->next == link;
}

static bool test_bit(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

static uint32_t count_bits(const uint64_t *bits, uint32_t words)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < words; i++)
		n += (uint32_t)__builtin_popcountll(bits[i]);
	return n;
}

static bool check_lists(const struct sheaf_slab *s, const struct node *node, struct tally *listed)
{
	unsigned k = (unsigned)(node - s->node);
	const struct list *l;

	for (unsigned i = 0; i < SLAB_BINS; i++)
		for (l = node->bins[i].next; l != &node->bins[i]; l = l->next, listed->bins[i]++) {
			const struct slab *slab = container_of(l, struct slab, link);

			if (!link_ok(l) || slab->place != i || slab->region->node != k ||
			    slab->region->owner != s)
				return false;
		}
	for (l = node->partial.next; l != &node->partial; l = l->next, listed->partial++) {
		const struct region *region = container_of(l, struct region, link);

		if (!link_ok(l) || region->node != k || !region->empty || region->empty >= s->slabs)
			return false;
	}
	for (l = node->spare.next; l != &node->spare; l = l->next, listed->spare++) {
		const struct region *region = container_of(l, struct region, link);

		if (!link_ok(l) || region->node != k || region->empty != s->slabs)
			return false;
	}
	return true;
}

static bool check_slab(const struct sheaf_slab *s, const struct slab *slab, struct tally *found)
{
	const struct region *region = slab->region;
	bool empty = slab->free == s->slab_objects;
	bool full = slab->free == 0;
	uint32_t rest = s->slab_objects % 64;

	if (count_bits(slab->bits, s->words) != slab->free ||
	    (rest && slab->bits[s->words - 1] >> rest) ||
	    test_bit(region->empty_bits, slab->index) != empty ||
	    (!empty && !test_bit(region->dirty_bits, slab->index)))
		return false;
	found->objects += s->slab_objects - slab->free;
	found->used += !empty;
	if (full || empty)
		return slab->place == (full ? SLAB_FULL : SLAB_EMPTY) && list_empty(&slab->link);
	if (slab->place != slab_bin(s, slab->free) || list_empty(&slab->link))
		return false;
	found->bins[slab->place]++;
	return true;
}

static bool check_region(const struct sheaf_slab *s, struct region *region, struct tally *found)
{
	if (((uintptr_t)region->base & (SHEAF_SLAB_REGION - 1)) ||
	    region_find(region->base) != region ||
	    region_find(region->base + SHEAF_SLAB_REGION - 1) != region ||
	    count_bits(region->empty_bits, REGION_WORDS) != region->empty ||
	    (region->empty == 0) != list_empty(&region->link))
		return false;
	for (uint32_t i = 0; i < s->slabs; i++) {
		const struct slab *slab = slab_head(s, region, i);

		if (slab->index != i || slab->region != region || !check_slab(s, slab, found))
			return false;
	}
	found->partial += region->empty > 0 && region->empty < s->slabs;
	found->spare += region->empty == s->slabs;
	return true;
}

static bool check_node(struct sheaf_slab *s, struct node *node)
{
	struct tally listed = {.regions = 0};
	struct tally found = {.regions = 0};

	if (!check_lists(s, node, &listed))
		return false;
	for (struct list *l = node->regions.next; l != &node->regions; l = l->next) {
		struct region *region = container_of(l, struct region, all);

		if (!link_ok(l) || region->owner != s ||
		    region->node != (unsigned)(node - s->node) || !check_region(s, region, &found))
			return false;
		found.regions++;
	}
	for (unsigned i = 0; i < SLAB_BINS; i++)
		if (listed.bins[i] != found.bins[i])
			return false;
	return listed.partial == found.partial && listed.spare == found.spare &&
	       node->spare_count == found.spare && node->spare_count <= s->spare_regions &&
	       node->region_count == found.regions && node->objects == found.objects &&
	       node->slabs_used == found.used;
}

bool sheaf_slab_check(struct sheaf_slab *slab)
{
	bool ok = true;

	for (unsigned k = 0; k < slab->nodes && ok; k++) {
		pthread_mutex_lock(&slab->node[k].mutex);
		ok = check_node(slab, &slab->node[k]);
		pthread_mutex_unlock(&slab->node[k].mutex);
	}
	return ok;
}

void sheaf_slab_stats(struct sheaf_slab *slab, struct sheaf_slab_stats *stats)
{
	*stats = (struct sheaf_slab_stats){
		.slab_objects = slab->slab_objects,
		.slab_bytes = 1u << slab->slab_shift,
	};
	for (unsigned k = 0; k < slab->nodes; k++) {
		struct node *node = &slab->node[k];

		pthread_mutex_lock(&node->mutex);
		stats->objects += node->objects;
		stats->slabs_used += node->slabs_used;
		stats->slabs_empty += (uint64_t)node->region_count * slab->slabs - node->slabs_used;
		stats->regions += node->region_count;
		pthread_mutex_unlock(&node->mutex);
		stats->alloc_calls += load_relaxed(&node->alloc_calls);
		stats->free_calls += load_relaxed(&node->free_calls);
	}
	stats->regions_peak = load_relaxed(&slab->regions_peak);
}
