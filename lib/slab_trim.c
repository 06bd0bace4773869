/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * When memory goes back to the system.
 *
 * Idle is a slab that is empty and has pages. Per node `keep` idle slabs stay, whatever regions
 * they are in; spare regions stay up to as many as these fill. Above that,
 *
 *	spare regions		are unmapped, those that were spare longest first;
 *	idle slabs of others	lose their pages, once there are a region's worth more
 *				than `keep`, until there are no more than `keep`.
 *
 * So pages go in portions of a region's worth at least, and a slab that changes between empty
 * and not costs nothing: this is the hysteresis for a fixed `keep`.
 *
 * A program that needs some regions by turns, and not all the time, would have them unmapped
 * and faulted in again at each turn. Therefore `keep` learns. What is given back counts as
 * `regret`; a slab that is used without pages while there is regret was given back too early:
 * it takes one from regret and adds one to keep, up to KEEP_MORE regions. The end of a burst
 * looks different: much goes back in a row, with none missed in between. Once that is four
 * times what is kept, or would be kept at least, keep is what the attribute says again. The
 * cost of a wrong guess is bounded on both sides: KEEP_MORE regions of memory, or one fault
 * per page and doubling of keep.
 *
 * In the type-stable mode all this is decided in the same way, but takes place a grace period
 * later. What is to go is marked, as a generation: regions move to `leaving`, slabs get their
 * aging bit. When the generation is complete, and not before, its ticket is taken, without
 * the mutex because a ticket may start a thread. No other generation is begun until the memory
 * of this one has gone. So
 *
 * 1 what is on `leaving`, or has its aging bit set, when the ticket has elapsed has been free
 *   without a break since before the ticket was taken: whoever takes an object from it first
 *   removes the mark (region_reclaim() in slab.c, slab_place() in slab_place.h);
 * 2 a reader who can still reach an object in it found it before it was free, so its section
 *   had begun before the ticket. The ticket has elapsed, so that section has ended, and the
 *   acquire in sheaf_gp_elapsed() orders what it read before the munmap() or madvise().
 *
 * Nobody waits for a ticket here, and there is no thread: a generation goes by the next call
 * that frees to the node, or trims it. A child of fork() that finds a generation without a
 * ticket, because the thread that was taking it is gone, goes on as if there were none: what
 * is marked belongs to the next generation then, whose ticket is later still.
 */
#include "slab_trim.h"

#include "slab_region.h"
#include "slab_registry.h"

/* Regions looked at per hold of the mutex; at most one of them is given pages back of. */
#define LOOK_MOST 64

void node_missed(const struct sheaf_slab *s, struct node *node)
{
	node->given = 0;
	if (!node->regret)
		return;
	node->regret--;
	if (node->keep < s->most_slabs)
		node->keep++;
}

static void node_gave(const struct sheaf_slab *s, struct node *node, uint64_t slabs)
{
	node->given += slabs;
	node->regret += slabs;
	/* More than can be learned from is forgotten. */
	if (node->regret > s->most_slabs)
		node->regret = s->most_slabs;
	if (node->given > 4 * (node->keep + s->slabs))
		node->keep = s->base_slabs;
}

static uint64_t region_idle(const struct region *region)
{
	uint64_t n = 0;

	for (uint32_t w = 0; w < REGION_WORDS; w++)
		n += (uint64_t)__builtin_popcountll(region->empty_bits[w] & region->dirty_bits[w]);
	return n;
}

/* One pass over a node. */
struct pass {
	struct sheaf_slab *s;
	struct node *node;
	bool all;        /* of sheaf_slab_trim(): keep nothing */
	bool marked;     /* type-stable: this pass has begun a generation */
	uint64_t slabs;  /* marked so far; they still count as idle */
	uint32_t looked; /* regions looked at for idle slabs */
	size_t bytes;    /* given back */
	struct list shed;
};

/* Take a region without an object off its node, to be unmapped later. */
static void region_shed(struct pass *pass, struct region *region)
{
	pass->node->idle -= region_idle(region);
	pass->node->region_count--;
	pass->bytes += SHEAF_SLAB_REGION;
	list_remove(&region->all);
	list_remove(&region->link);
	list_add(&region->link, &pass->shed);
	/* Who frees an object a second time finds no region that another thread is about to unmap. */
	region_hide(region);
}

static uint64_t spare_limit(const struct pass *pass)
{
	return pass->all ? 0 : regions_kept(pass->s, pass->node);
}

/* Spare regions above the limit, those that were spare longest: off, or marked. */
static void shed_spare(struct pass *pass)
{
	struct node *node = pass->node;

	while (node->spare_count > spare_limit(pass)) {
		struct region *region = container_of(node->spare.prev, struct region, link);
		uint64_t slabs = region_idle(region);

		node_gave(pass->s, node, slabs);
		node->spare_count--;
		if (!pass->s->gp) {
			region_shed(pass, region);
			continue;
		}
		list_remove(&region->link);
		list_add(&region->link, &node->leaving);
		region->leaving = true;
		pass->slabs += slabs;
		pass->marked = true;
	}
}

/* The idle slabs of a region that is not spare: their pages go, or they are marked. */
static void shed_pages(struct pass *pass, struct region *region, uint64_t slabs)
{
	struct node *node = pass->node;

	node_gave(pass->s, node, slabs);
	if (!pass->s->gp) {
		node->idle -= slabs;
		pass->bytes += region_discard(region, region->empty_bits);
		return;
	}
	for (uint32_t w = 0; w < REGION_WORDS; w++)
		region->aging_bits[w] = region->empty_bits[w] & region->dirty_bits[w];
	pass->slabs += slabs;
	pass->marked = true;
}

/*
 * Look for idle slabs in some regions, each of which goes to the end of the list, so that the next
 * pass finds others. Returns true if it is worth going on, with the mutex free in between.
 */
static bool look_for_idle(struct pass *pass)
{
	struct node *node = pass->node;
	uint64_t keep = pass->all ? 0 : node->keep;

	for (unsigned i = 0; i < LOOK_MOST; i++) {
		struct region *region = container_of(node->regions.next, struct region, all);
		uint64_t slabs;

		if (node->idle <= keep + pass->slabs || pass->looked >= node->region_count)
			return false;
		pass->looked++;
		list_remove(&region->all);
		list_add_last(&region->all, &node->regions);
		slabs = region->used ? region_idle(region) : 0;
		if (slabs) {
			shed_pages(pass, region, slabs);
			return true;
		}
	}
	return true;
}

static bool over_idle(const struct sheaf_slab *s, const struct node *node)
{
	return node->idle > node->keep + s->slabs;
}

static bool generation_ripe(const struct sheaf_slab *s, const struct node *node)
{
	return node->aging == AGE_WAITING && sheaf_gp_elapsed(s->gp, node->ticket);
}

/* The ticket of the generation has elapsed: all that still belongs to it goes. */
static void generation_reap(struct pass *pass)
{
	struct node *node = pass->node;

	while (!list_empty(&node->leaving))
		region_shed(pass, container_of(node->leaving.next, struct region, link));
	for (struct list *l = node->regions.next; l != &node->regions; l = l->next) {
		struct region *region = container_of(l, struct region, all);
		uint64_t slabs = 0;

		for (uint32_t w = 0; w < REGION_WORDS; w++)
			slabs += (uint64_t)__builtin_popcountll(region->aging_bits[w]);
		if (!slabs)
			continue;
		node->idle -= slabs;
		pass->bytes += region_discard(region, region->aging_bits);
	}
	node->aging = AGE_NONE;
}

/* The marks of a generation are set, and no other will be: take its ticket. */
static void generation_seal(struct pass *pass)
{
	uint64_t ticket = sheaf_gp_ticket(pass->s->gp);

	pthread_mutex_lock(&pass->node->mutex);
	pass->node->ticket = ticket;
	pass->node->aging = AGE_WAITING;
	pthread_mutex_unlock(&pass->node->mutex);
}

/* One hold of the mutex. Returns true if there is more to do. */
static bool pass_step(struct pass *pass)
{
	struct node *node = pass->node;
	size_t before = pass->bytes;
	bool more = false;

	if (!pass->marked && generation_ripe(pass->s, node))
		generation_reap(pass);
	/* Left without a ticket, see fork(). */
	if (node->aging == AGE_NONE && !list_empty(&node->leaving))
		pass->marked = true;
	if (pass->marked || node->aging == AGE_NONE) {
		shed_spare(pass);
		if (pass->all || pass->looked || over_idle(pass->s, node))
			more = look_for_idle(pass);
		/* What was given back in a row may have lowered the limit. */
		more = more || node->spare_count > spare_limit(pass);
		if (pass->marked)
			node->aging = AGE_TAKING;
	}
	/* What was asked for is not missed. */
	if (pass->all) {
		node->keep = pass->s->base_slabs;
		node->regret = node->given = 0;
	}
	node->bytes_returned += pass->bytes - before;
	return more;
}

static size_t node_shed(struct sheaf_slab *s, struct node *node, bool all)
{
	struct pass pass = {.s = s, .node = node, .all = all};
	bool more;

	list_init(&pass.shed);
	do {
		pthread_mutex_lock(&node->mutex);
		more = pass_step(&pass);
		pthread_mutex_unlock(&node->mutex);
	} while (more);
	if (pass.marked)
		generation_seal(&pass);
	region_destroy_all(&pass.shed);
	return pass.bytes;
}

bool node_over(const struct sheaf_slab *s, const struct node *node)
{
	if (s->gp && node->aging != AGE_NONE)
		return generation_ripe(s, node);
	return node->spare_count > regions_kept(s, node) || over_idle(s, node) ||
	       !list_empty(&node->leaving);
}

void node_relieve(struct sheaf_slab *s, struct node *node)
{
	node_shed(s, node, false);
}

size_t sheaf_slab_trim(struct sheaf_slab *slab)
{
	size_t bytes = 0;

	for (unsigned k = 0; k < slab->nodes; k++)
		bytes += node_shed(slab, &slab->node[k], true);
	return bytes;
}
