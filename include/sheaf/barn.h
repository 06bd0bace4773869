/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/barn.h
 * A barn: the pool of full and empty sheaves that the CPUs of one NUMA node share.
 *
 * Lock-free for every caller, on memory the caller provides. Newest first among the
 * first SHEAF_BARN_CELLS sheaves of a side (a trim leaves gaps below, which are filled
 * first); what is given above that comes last. The
 * barn never touches a sheaf that it does not hold at that moment, so a sheaf
 * taken from it may be freed at once. It owns what it holds.
 *
 * Which operations may run at the same time on one barn:
 *
 *	              | take, give, | limits,  | drain, | init,
 *	              | trade, keep | stats    | trim   | fini, check
 *	--------------+-------------+----------+--------+------------
 *	take .. keep  |     yes     |   yes    |  yes   |    no
 *	limits, stats |     yes     |   yes    |  yes   |    no
 *	drain, trim   |     yes     |   yes    |  yes   |    no
 *	init .. check |     no      |   no     |  no    |    no
 *
 * Trims with the same struct sheaf_barn_look exclude each other.
 *
 * "full" is the side of sheaves that hold objects, be it one or capacity;
 * "empty" the side of sheaves that hold none. A taker reads the size.
 */
#ifndef SHEAF_BARN_H
#define SHEAF_BARN_H

#include <sheaf/sheaf.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/** Sheaves per side that a barn keeps in cells; what is above waits in a chain. */
#define SHEAF_BARN_CELLS 64

/** Private to the library: one place for one sheaf. */
struct sheaf_barn_cell {
	struct sheaf *sheaf;
	uint64_t gives;
	uint32_t objects;
	uint32_t reserved[3];
};

/** Private to the library: the full or the empty side; explained in lib/barn.c. */
struct sheaf_barn_side {
	uint64_t filled;
	struct sheaf *chain;
	uint64_t chain_gives;
	uint64_t chain_takes;
	uint64_t chain_objects;
	uint64_t failed_takes;
	uint64_t lost_races;
	uint32_t limit;
	uint32_t peak;
	struct sheaf_barn_cell cells[SHEAF_BARN_CELLS];
} __attribute__((aligned(64)));

/** A barn in the caller's memory. Its fields are private to the library. */
struct sheaf_barn {
	struct sheaf_barn_side full;
	struct sheaf_barn_side empty;
	int node;
};

/** Counters of one side of a barn; see sheaf_barn_stats(). */
struct sheaf_barn_side_stats {
	/** Sheaves given and kept, since init. */
	uint64_t gives;
	/** Sheaves handed out, since init. */
	uint64_t takes;
	/** Takes that found nothing, since init. */
	uint64_t failed_takes;
	/** Times a party had to try again because another was quicker. */
	uint64_t lost_races;
	/** Sheaves held now. */
	uint32_t held;
	/** Most sheaves held at one time. */
	uint32_t peak;
	/** Soft limit, in sheaves. */
	uint32_t limit;
};

/** Counters of a barn; see sheaf_barn_stats(). */
struct sheaf_barn_stats {
	/** The side of sheaves with objects, and the one of sheaves without. */
	struct sheaf_barn_side_stats full;
	struct sheaf_barn_side_stats empty;
	/** Objects in the sheaves held now. */
	uint64_t objects;
};

/**
 * Make an empty barn.
 *
 * @param barn memory of the caller, aligned to 64 bytes; stays the caller's
 * @param node number of the NUMA node it serves; only reported back
 * @param full_limit soft limit of sheaves with objects
 * @param empty_limit soft limit of sheaves without
 *
 * Context: the only user of @p barn. Ordering: none. Progress: wait-free.
 */
void sheaf_barn_init(struct sheaf_barn *barn, int node, uint32_t full_limit, uint32_t empty_limit);

/**
 * End a barn; drain it first.
 *
 * Context: the only user of @p barn. Ordering: none. Progress: wait-free.
 * Return: 0, or -EBUSY if it still holds sheaves (unchanged then).
 */
int sheaf_barn_fini(struct sheaf_barn *barn);

/**
 * Take the newest sheaf that holds objects.
 *
 * Context: any thread, signal handlers included; never blocks.
 * Ordering: acquires what the giver of that sheaf released.
 * Progress: lock-free.
 * Return: the sheaf with at least one object, now the caller's; NULL if none was
 *	at hand (go to the next layer; while another thread rearranges the chain
 *	above SHEAF_BARN_CELLS a take may miss what is in it).
 */
struct sheaf *sheaf_barn_take_full(struct sheaf_barn *barn);

/**
 * Take the newest sheaf without objects. As sheaf_barn_take_full().
 *
 * Context: any thread, signal handlers included; never blocks.
 * Ordering: acquires what the giver of that sheaf released.
 * Progress: lock-free.
 * Return: an empty sheaf, now the caller's; NULL if none was at hand.
 */
struct sheaf *sheaf_barn_take_empty(struct sheaf_barn *barn);

/**
 * Give a sheaf that holds objects.
 *
 * @param barn where
 * @param sheaf with at least one object, owned by the caller; the barn owns it
 *	and its objects on success
 *
 * Context: any thread, signal handlers included; never blocks.
 * Ordering: releases the caller's writes to whoever takes the sheaf.
 * Progress: lock-free.
 * Return: 0; -ENOSPC if the limit is reached, -EINVAL if the sheaf is empty (it
 *	stays the caller's).
 */
int sheaf_barn_give_full(struct sheaf_barn *barn, struct sheaf *sheaf);

/**
 * Give a sheaf without objects. As sheaf_barn_give_full().
 *
 * @param barn where
 * @param sheaf without objects, owned by the caller; the barn owns it on success
 *
 * Context: any thread, signal handlers included; never blocks.
 * Ordering: releases the caller's writes to whoever takes the sheaf.
 * Progress: lock-free.
 * Return: 0; -ENOSPC if the limit is reached, -EINVAL if the sheaf is not empty (it
 *	stays the caller's).
 */
int sheaf_barn_give_empty(struct sheaf_barn *barn, struct sheaf *sheaf);

/**
 * Give a sheaf whatever it holds and whatever the limits say. For undo paths,
 * where the choice is to overshoot or to lose objects.
 *
 * @param barn where
 * @param sheaf owned by the caller; the barn owns it from now on
 *
 * Context: any thread, signal handlers included; never blocks.
 * Ordering: releases the caller's writes to whoever takes the sheaf.
 * Progress: lock-free.
 */
void sheaf_barn_keep(struct sheaf_barn *barn, struct sheaf *sheaf);

/**
 * My empty sheaf for one with objects, in one visit.
 *
 * The empty one is taken in even beyond the limit of the empty side: the number
 * of sheaves in the barn does not change by a trade.
 *
 * @param barn where
 * @param empty without objects, owned by the caller; the barn owns it on success
 *
 * Context: any thread, signal handlers included; never blocks.
 * Ordering: on success acquires as a take and releases as a give; on failure none.
 * Progress: lock-free.
 * Return: a sheaf with at least one object, now the caller's; NULL if none was at
 *	hand (@p empty stays the caller's).
 */
struct sheaf *sheaf_barn_trade_empty(struct sheaf_barn *barn, struct sheaf *empty);

/**
 * My sheaf with objects for an empty one, in one visit.
 *
 * @param barn where
 * @param full with at least one object, owned by the caller; the barn owns it on success
 *
 * Context: any thread, signal handlers included; never blocks.
 * Ordering: on success acquires as a take and releases as a give; on failure none.
 * Progress: lock-free.
 * Return: a sheaf without objects, now the caller's; NULL if the full side is at
 *	its limit or no empty sheaf was at hand (@p full stays the caller's).
 */
struct sheaf *sheaf_barn_trade_full(struct sheaf_barn *barn, struct sheaf *full);

/**
 * Could a sheaf with objects be given now? A hint: it may be wrong at once.
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 * Return: true if the full side is below its limit.
 */
bool sheaf_barn_has_room(const struct sheaf_barn *barn);

/**
 * Change the soft limits, also while the barn is in use. Sheaves above a lowered
 * limit stay until they are taken.
 *
 * @param barn which
 * @param full_limit sheaves with objects
 * @param empty_limit sheaves without
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 */
void sheaf_barn_set_limits(struct sheaf_barn *barn, uint32_t full_limit, uint32_t empty_limit);

/** Receives the sheaves of a drained barn, and owns each from then on. */
typedef void sheaf_barn_drain_fn(void *arg, struct sheaf *sheaf);

/**
 * Hand every sheaf to a callback, those with objects first.
 *
 * @param barn which
 * @param fn called once per sheaf, which it owns from then on; it must not give to
 *	this barn
 * @param arg passed to @p fn
 *
 * Context: any thread; what other threads give meanwhile may stay. The callback
 *	runs in the caller's context.
 * Ordering: acquires what the givers released.
 * Progress: lock-free but for what @p fn does.
 * Return: sheaves handed over.
 */
size_t sheaf_barn_drain(struct sheaf_barn *barn, sheaf_barn_drain_fn *fn, void *arg);

/** What a barn held when it was last trimmed; begins as zero. Private to the library. */
struct sheaf_barn_look {
	/** Full side, then empty side; addresses only, nobody follows them. */
	const void *cells[2][SHEAF_BARN_CELLS];
	const void *chain[2];
};

/**
 * Hand the sheaves that nobody has needed since the last trim to a callback, and note those
 * that are there now. A barn is used from the top; what is still at its bottom is more than its
 * users needed at any time in between.
 *
 * @param barn which
 * @param look the caller's memory between two trims of this barn
 * @param fn called once per sheaf, which it owns from then on; it must not give to
 *	this barn
 * @param arg passed to @p fn
 *
 * Context: any thread; one trim at a time with one @p look. The callback runs in the caller's
 *	context. A sheaf that was taken and given again to the same place may pass for unused.
 * Ordering: acquires what the givers released.
 * Progress: lock-free but for what @p fn does.
 * Return: are there sheaves that a later trim could hand over?
 */
bool sheaf_barn_trim(struct sheaf_barn *barn, struct sheaf_barn_look *look,
		     sheaf_barn_drain_fn *fn, void *arg);

/**
 * Read the counters. Each is exact when the barn is at rest, and a recent value
 * when it is in use.
 *
 * @param barn which
 * @param stats written
 *
 * Context: any thread. Ordering: none. Progress: wait-free.
 */
void sheaf_barn_stats(const struct sheaf_barn *barn, struct sheaf_barn_stats *stats);

/**
 * Do all invariants hold? They are listed in lib/barn.c.
 *
 * Context: the only user of @p barn; for tests.
 * Ordering: none. Progress: wait-free, O(objects held).
 * Return: true if they hold.
 */
bool sheaf_barn_check(const struct sheaf_barn *barn);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
