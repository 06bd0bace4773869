/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Caches across fork(2). Only the forking thread is in the child; the others may have been at
 * any instruction of the library. What the child gets is a cut through their work: of each thread
 * everything it wrote up to some point, in its order, and nothing after; and if one thread
 * has read what another one wrote, then the write is there wherever the read has shown.
 *
 *  F1  Slots are whole in any cut: each operation has one committing store (slot.h). A sheaf, or an
 *      object, in the hands of a thread that is not there any more stays allocated: the child
 *      cannot tell it from what that thread's program had allocated.
 *  F2  No remote party is at work: prepare holds the remote_lock of every cache. So no slot is
 *      stopped, and who waited for a remote party does not exist in the child.
 *  F3  Thread slots of other threads are orphans in the child, not busy, with a lock that is free;
 *      those threads' tables are gone. No thread was making or leaving a slot: prepare holds
 *      the registry's lock.
 *  F4  Nobody is on the way from a slot to a recycler: transit is 0 in the child, so that no barrier
 *      waits for a thread that is not there.
 *  F5  Nobody is inside a recycler: prepare is its taker. Barns need no holding back: what an
 *      interrupted give or take left in a cell is put right in the child.
 *  F6  The spill lists are single words (F1); a note in the hands of a thread that is not there is
 *      lost, its object stays allocated. What is in the lists is counted anew.
 *  F7  What the kernel forgets with fork(2), or may, is registered again: membarrier(2) and rseq(2).
 *  F8  A task that was armed would be taken for one that somebody will run, and no driver be made
 *      for it: it counts as not armed. What lies in slots is then sealed by the next rcu
 *      sheaf that comes into one, or a barrier; callbacks of the driver's are called for by
 *      the next sheaf sealed, or who is throttled.
 *  F9  The books never have less out of the backend than is: objects are counted before they are
 *      asked for, and as gone after they are. So destroy in the child does not end a backend that
 *      has objects out; and budgets are reckoned anew from these counts, since what somebody has
 *      reserved, who is not there to ask for it or to release it, would be short for ever.
 *
 * prepare waits only for parties who wait for nobody: remote parties collect sheaves under
 * remote_lock and do nothing else there, takers of a recycler do not block inside, and the
 * registry's lock is held for mallocs only, which the C library holds back after us.
 */
#include "base/fork.h"
#include "base/membarrier.h"
#include "base/probe.h"
#include "base/rseq.h"
#include "barn_fork.h"
#include "cache_state.h"
#include "debug_state.h"
#include "recycler_fork.h"

static void hold(struct sheaf_cache *cache)
{
	uint32_t i;

	fork_lock(&cache->remote_lock);
	for (i = 0; cache->gp && i < cache->nodes; i++)
		recycler_fork_prepare(&cache->node[i].recycler);
}

static void let_go(struct sheaf_cache *cache)
{
	uint32_t i;

	for (i = 0; cache->gp && i < cache->nodes; i++)
		recycler_fork_parent(&cache->node[i].recycler);
	fork_unlock(&cache->remote_lock);
}

static void let_go_in_child(struct sheaf_cache *cache)
{
	uint32_t i;

	for (i = 0; i < cache->nodes; i++) {
		struct cache_node *node = &cache->node[i];

		node->transit[0] = node->transit[1] = 0;
		barn_fork_child(&node->barn);
		if (cache->gp)
			recycler_fork_child(&node->recycler);
	}
	cache_recount_left(cache);
	/* F8 */
	store_relaxed(&cache->age_task.armed, 0);
	store_relaxed(&cache->ripe_task.armed, 0);
	store_relaxed(&cache->trim_task.armed, 0);
	if (!cache->cross_of)
		budget_fork_child(cache);
	/* Nobody trims or walks in the child. */
	store_relaxed(&cache->pins, 0);
	fork_free_in_child(&cache->trim_lock);
	/* Who held it was waiting for transits; nobody is in one any more. */
	fork_free_in_child(&cache->phase_lock);
	fork_unlock_in_child(&cache->remote_lock);
}

static void prepare(void)
{
	registry_fork_prepare(hold);
	PROBE(fork, 0);
}

static void parent(void)
{
	registry_fork_parent(let_go);
	PROBE(fork, 1);
}

static void child(void)
{
	membarrier_fork_child();
	rseq_fork_child();
	debug_fork_child();
	budget_fork_child(NULL);
	registry_fork_child(let_go_in_child);
	PROBE(fork, 2);
}

int cache_fork_init(void)
{
	static const struct fork_handlers handlers = {prepare, parent, child};

	return fork_handle(FORK_CACHE, &handlers);
}

FORK_EARLY(cache_fork_init())
