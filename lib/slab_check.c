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

#include "slab_registry.h"

struct tally {
	uint64_t bins[REGION_BINS];
	uint64_t spare;
	uint64_t leaving;
	uint64_t regions;
	uint64_t objects;
	uint64_t slabs_used;
	uint64_t idle;
	uint64_t aging;
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

/* A list of regions of the node that all have `least` to `most` objects out. */
static bool check_list(const struct node *node, const struct list *list, uint32_t least,
		       uint32_t most, bool leaving, uint64_t *length)
{
	for (const struct list *l = list->next; l != list; l = l->next, ++*length) {
		const struct region *region = container_of(l, struct region, link);

		if (!link_ok(l) || &region->owner->node[region->node] != node ||
		    region->used < least || region->used > most || region->leaving != leaving)
			return false;
	}
	return true;
}

static bool check_lists(const struct sheaf_slab *s, const struct node *node, struct tally *listed)
{
	uint32_t width = 1u << s->bin_shift;

	for (unsigned i = 0; i < REGION_BINS; i++) {
		uint32_t least = i ? i * width : 1;
		uint32_t most = (i + 1) * width - 1;

		if (most > s->region_objects - 1)
			most = s->region_objects - 1;
		if (!check_list(node, &node->bins[i], least, most, false, &listed->bins[i]))
			return false;
	}
	return check_list(node, &node->spare, 0, 0, false, &listed->spare) &&
	       check_list(node, &node->leaving, 0, 0, true, &listed->leaving);
}

/* Each object that is out has been constructed. */
static bool check_made(const struct sheaf_slab *s, struct slab *slab)
{
	const uint64_t *made = slab_made(s, slab);
	uint32_t rest = s->slab_objects % 64;

	for (uint32_t w = 0; w < s->slab_words; w++) {
		bool last = rest && w == s->slab_words - 1;
		uint64_t all = last ? ((uint64_t)1 << rest) - 1 : ~(uint64_t)0;

		if ((made[w] & ~all) || (~slab->bits[w] & all & ~made[w]))
			return false;
	}
	return true;
}

static bool check_slab(const struct sheaf_slab *s, struct region *region, uint32_t i,
		       uint32_t *used)
{
	struct slab *slab = slab_head(s, region, i);
	uint32_t rest = s->slab_objects % 64;
	bool empty = slab->free == s->slab_objects;
	bool dirty = test_bit(region->dirty_bits, i);

	*used += s->slab_objects - (uint32_t)slab->free;
	return slab->free <= s->slab_objects &&
	       count_bits(slab->bits, s->slab_words) == slab->free &&
	       !(rest && slab->bits[s->slab_words - 1] >> rest) &&
	       test_bit(region->empty_bits, i) == empty &&
	       test_bit(region->partial_bits, i) == (slab->free && !empty) && (empty || dirty) &&
	       (!test_bit(region->aging_bits, i) || (s->gp && empty && dirty)) &&
	       (!s->ctor || check_made(s, slab));
}

static bool check_region(const struct sheaf_slab *s, struct region *region, struct tally *found)
{
	uint32_t used = 0;

	if (((uintptr_t)region->base & (SHEAF_SLAB_REGION - 1)) ||
	    region_find(region->base) != region ||
	    region_find(region->base + SHEAF_SLAB_REGION - 1) != region)
		return false;
	for (uint32_t i = 0; i < s->slabs; i++)
		if (!check_slab(s, region, i, &used))
			return false;
	if (used != region->used || (used == s->region_objects) != list_empty(&region->link))
		return false;
	if (region->least != region_least(s, used) || (region->leaving && (used || !s->gp)))
		return false;
	if (!used && region->leaving)
		found->leaving++;
	else if (!used)
		found->spare++;
	else if (used < s->region_objects)
		found->bins[region_bin(s, used)]++;
	found->objects += used;
	found->slabs_used += s->slabs - count_bits(region->empty_bits, REGION_WORDS);
	for (uint32_t w = 0; w < REGION_WORDS; w++)
		found->idle += (uint64_t)__builtin_popcountll(region->empty_bits[w] &
							      region->dirty_bits[w]);
	found->aging += count_bits(region->aging_bits, REGION_WORDS);
	found->regions++;
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

		if (!link_ok(l) || region->owner != s || &s->node[region->node] != node ||
		    !check_region(s, region, &found))
			return false;
	}
	for (unsigned i = 0; i < REGION_BINS; i++)
		if (listed.bins[i] != found.bins[i])
			return false;
	return listed.spare == found.spare && node->spare_count == found.spare &&
	       listed.leaving == found.leaving && node->region_count == found.regions &&
	       node->objects == found.objects && node->slabs_used == found.slabs_used &&
	       node->idle == found.idle && node->keep >= s->base_slabs &&
	       node->keep <= s->most_slabs && node->regret <= s->most_slabs &&
	       (s->gp || node->aging == AGE_NONE);
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

/* Full slabs are those that are neither partial nor empty; only partial ones are looked at. */
static void count_fill(const struct sheaf_slab *s, struct region *region,
		       struct sheaf_slab_stats *stats)
{
	uint64_t full = s->slabs - count_bits(region->empty_bits, REGION_WORDS);

	for (uint32_t w = 0; w < s->region_words; w++) {
		for (uint64_t bits = region->partial_bits[w]; bits; bits &= bits - 1, full--) {
			uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(bits);
			uint64_t out = s->slab_objects - slab_head(s, region, i)->free;

			stats->fill[(out * SHEAF_SLAB_FILLS - 1) / s->slab_objects]++;
		}
	}
	stats->fill[SHEAF_SLAB_FILLS - 1] += full;
}

static void add_node(const struct sheaf_slab *s, const struct node *node,
		     struct sheaf_slab_stats *stats)
{
	for (struct list *l = node->regions.next; l != &node->regions; l = l->next)
		count_fill(s, container_of(l, struct region, all), stats);
	stats->objects += node->objects;
	stats->slabs_used += node->slabs_used;
	stats->slabs_empty += (uint64_t)node->region_count * s->slabs - node->slabs_used;
	stats->regions += node->region_count;
	stats->bytes_touched += (node->slabs_used + node->idle) << s->slab_shift;
	stats->bytes_returned += node->bytes_returned;
	stats->alloc_calls += node->alloc_calls;
	stats->free_calls += node->free_calls;
}

void sheaf_slab_stats(struct sheaf_slab *slab, struct sheaf_slab_stats *stats)
{
	size_t head = sizeof(struct region) + (size_t)slab->slabs * slab->head_bytes;

	*stats = (struct sheaf_slab_stats){
		.slab_objects = slab->slab_objects,
		.slab_bytes = 1u << slab->slab_shift,
	};
	for (unsigned k = 0; k < slab->nodes; k++) {
		pthread_mutex_lock(&slab->node[k].mutex);
		add_node(slab, &slab->node[k], stats);
		pthread_mutex_unlock(&slab->node[k].mutex);
	}
	stats->regions_peak = regions_peak(slab);
	stats->bytes_mapped = stats->regions * (SHEAF_SLAB_REGION + head);
	if (stats->objects)
		stats->fragmentation =
			stats->bytes_touched * 1000 / (stats->objects * slab->object_size);
}
