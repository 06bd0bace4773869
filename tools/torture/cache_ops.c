/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Operations on caches. Each leaves the caller's hand in order, whatever it was refused. */
#include "torture.h"

#include <errno.h>
#include <sheaf/stats.h>
#include <unistd.h>

/* How many a worker keeps, at most; it changes with time. */
static unsigned target(struct worker *w)
{
	return random_below(&w->random, HAND + 1);
}

static unsigned any_cache(struct worker *w)
{
	unsigned c = random_below(&w->random, CACHES);

	store_relaxed(&w->with, torture.victims[c].spec->name);
	return c;
}

static void not_had(struct worker *w)
{
	fetch_add_relaxed(&torture.counts.refused, 1);
	refused(w);
}

/* An object that came, or that did not. */
static struct stamp *came(struct worker *w, unsigned c, void *object)
{
	if (object)
		object_take(&torture.victims[c], object, worker_owner(w));
	else
		not_had(w);
	return object;
}

struct stamp *victim_alloc(struct worker *w, unsigned c)
{
	return came(w, c, sheaf_cache_alloc(torture.victims[c].cache, 0));
}

static void give(struct worker *w, unsigned c, struct stamp *object)
{
	struct victim *victim = &torture.victims[c];

	if (plant_now(PLANT_LOSE))
		return;
	if (plant_now(PLANT_TWICE)) {
		/* It stays in the hand of nobody who will free it, but its stamp says whose. */
		sheaf_cache_free(victim->cache, object);
		return;
	}
	object_free(victim, object, worker_owner(w));
	sheaf_cache_free(victim->cache, object);
	if (torture.options.plant == PLANT_WRITE && plant_now(PLANT_WRITE))
		object->check ^= 1;
}

void victim_retire(struct worker *w, struct victim *victim, struct stamp *object)
{
	if (torture.options.plant == PLANT_EARLY) {
		object_free(victim, object, worker_owner(w));
		sheaf_cache_free(victim->cache, object);
		return;
	}
	object_retire(victim, object, worker_owner(w));
	sheaf_cache_free_rcu(victim->cache, object);
}

static void do_alloc(struct worker *w)
{
	unsigned c = any_cache(w), most = target(w);
	struct sheaf_cache *cache = torture.victims[c].cache;
	unsigned how = random_below(&w->random, 8);
	struct stamp *object;

	if (w->n[c] >= most)
		refused(w);
	while (w->n[c] < most) {
		if (how == 0)
			object = sheaf_cache_alloc(cache, SHEAF_NOWAIT);
		else if (how == 1)
			object = sheaf_cache_alloc_nowait(cache);
		else if (how == 2)
			object = sheaf_cache_alloc_node(cache, 0, SHEAF_NODE_ANY);
		else if (how == 3)
			object = sheaf_cache_alloc_node(
				cache, 0,
				(int)random_below(&w->random, torture.victims[c].spec->nodes));
		else
			object = sheaf_cache_alloc(cache, 0);
		if (!came(w, c, object))
			break;
		w->hand[c][w->n[c]++] = object;
	}
}

/* Others may be waiting for what we hold: who waits holds nothing. */
static void do_alloc_wait(struct worker *w)
{
	unsigned c = any_cache(w);
	struct stamp *object;

	hand_empty_all(w);
	object = came(w, c, sheaf_cache_alloc(torture.victims[c].cache, SHEAF_WAIT));
	if (object)
		w->hand[c][w->n[c]++] = object;
}

static void do_free(struct worker *w)
{
	unsigned c = any_cache(w), most = target(w), i;
	struct stamp *object;

	if (w->n[c] <= most)
		refused(w);
	while (w->n[c] > most) {
		/* Not the newest one: objects of others are between them. */
		i = random_below(&w->random, w->n[c]);
		object = w->hand[c][i];
		w->hand[c][i] = w->hand[c][--w->n[c]];
		give(w, c, object);
	}
}

static void do_free_nowait(struct worker *w)
{
	unsigned c = any_cache(w), most = target(w);
	struct victim *victim = &torture.victims[c];

	while (w->n[c] > most) {
		struct stamp *object = w->hand[c][--w->n[c]];

		if (w->n[c] % 2) {
			object_free(victim, object, worker_owner(w));
			sheaf_cache_free_nowait(victim->cache, object);
		} else {
			object_retire(victim, object, worker_owner(w));
			sheaf_cache_free_rcu_nowait(victim->cache, object);
		}
	}
}

static void do_retire(struct worker *w)
{
	unsigned c = any_cache(w), most = target(w);
	bool inside = random_below(&w->random, 2);

	if (inside)
		source_read_lock();
	while (w->n[c] > most) {
		struct stamp *object = w->hand[c][--w->n[c]];

		object_retire(&torture.victims[c], object, worker_owner(w));
		sheaf_cache_free_rcu(torture.victims[c].cache, object);
	}
	if (inside)
		source_read_unlock();
}

static void do_bulk(struct worker *w)
{
	unsigned c = any_cache(w), want = target(w), i;
	struct victim *victim = &torture.victims[c];
	void *objects[HAND];
	size_t got;

	if (want > w->n[c]) {
		got = sheaf_cache_alloc_bulk(victim->cache, random_below(&w->random, 2),
					     want - w->n[c], objects);
		for (i = 0; i < got; i++)
			w->hand[c][w->n[c]++] = came(w, c, objects[i]);
		return;
	}
	for (i = 0; w->n[c] > want; i++) {
		objects[i] = w->hand[c][--w->n[c]];
		object_free(victim, objects[i], worker_owner(w));
	}
	sheaf_cache_free_bulk(victim->cache, i, objects);
}

/* So many objects are there, whatever others do. */
static void use_prefilled(struct worker *w, unsigned c, struct sheaf *sheaf, unsigned n)
{
	struct victim *victim = &torture.victims[c];

	for (; n; n--) {
		struct stamp *object = sheaf_cache_alloc_from(victim->cache, sheaf);

		if (!object)
			fault("cache %s: a prefilled sheaf ends %u objects early",
			      victim->spec->name, n);
		came(w, c, object);
		if (w->n[c] < HAND)
			w->hand[c][w->n[c]++] = object;
		else
			give(w, c, object);
	}
}

/* All that was asked for is used: there is no more, and the cache says so. */
static void overuse(struct worker *w, unsigned c, struct sheaf *sheaf)
{
	const uint64_t before = w->overused;

	if (sheaf_cache_alloc_from(torture.victims[c].cache, sheaf) || w->overused != before + 1)
		fault("cache %s: a strict sheaf gives more than was asked for, or does not tell",
		      torture.victims[c].spec->name);
}

static void do_prefill(struct worker *w)
{
	unsigned c = any_cache(w), n = 1 + random_below(&w->random, 40), used, again;
	struct sheaf_cache *cache = torture.victims[c].cache;
	unsigned flags = random_below(&w->random, 4) ? 0 : SHEAF_STRICT;
	struct sheaf *sheaf;

	if (!flags && !random_below(&w->random, 4))
		flags = SHEAF_NOWAIT;
	sheaf = sheaf_cache_prefill(cache, n, flags);
	if (!sheaf) {
		not_had(w);
		return;
	}
	used = random_below(&w->random, 2) ? n : random_below(&w->random, n + 1);
	use_prefilled(w, c, sheaf, used);
	if (flags == SHEAF_STRICT && used == n)
		overuse(w, c, sheaf);
	again = random_below(&w->random, 50);
	if (again && sheaf_cache_refill(cache, &sheaf, again, flags & SHEAF_NOWAIT) == 0)
		use_prefilled(w, c, sheaf, random_below(&w->random, again + 1));
	sheaf_cache_return(cache, sheaf);
}

static void do_local(struct worker *w)
{
	unsigned c = any_cache(w);
	struct sheaf *sheaf = sheaf_cache_prefill(torture.victims[c].cache, 3, SHEAF_LOCAL);

	if (sheaf)
		sheaf_cache_return(torture.victims[c].cache, sheaf);
	else
		refused(w);
}

/* Waits for grace periods end well, but for a source that is stepped by hand: those are refused. */
static bool waited(struct worker *w, int err, const char *what, const char *with)
{
	if (err && !(err == -EDEADLK && source_by_hand()))
		fault("%s: %s gives %d", with, what, err);
	if (err)
		refused(w);
	return !err;
}

static void do_barrier(struct worker *w)
{
	int err = sheaf_cache_barrier(torture.victims[any_cache(w)].cache);

	(void)waited(w, err, "barrier", w->with);
}

static void do_throttle(struct worker *w)
{
	int err = sheaf_cache_throttle(torture.victims[any_cache(w)].cache);

	(void)waited(w, err, "throttle", w->with);
}

static void do_shrink(struct worker *w)
{
	if (disturbed(DISTURB_SHRINK))
		sheaf_cache_shrink(torture.victims[any_cache(w)].cache);
	else
		refused(w);
}

static void do_trim(struct worker *w)
{
	unsigned c = any_cache(w);

	if (random_below(&w->random, 4))
		sheaf_cache_trim(torture.victims[c].cache);
	else
		sheaf_trim(1 + random_below(&w->random, 100000));
}

static void do_flush(struct worker *w)
{
	sheaf_cache_flush(torture.victims[any_cache(w)].cache);
}

static void do_stats(struct worker *w)
{
	struct sheaf_cache_stats stats;
	unsigned slots;

	sheaf_cache_stats(torture.victims[any_cache(w)].cache, &stats, sizeof(stats));
	if (stats.backend_freed > stats.backend_allocated)
		fault("cache %s: more objects went back than came", w->with);
	slots = sheaf_cache_slots(torture.victims[0].cache, NULL);
	if (slots != SHEAF_SLOTS_THREAD &&
	    (slots != SHEAF_SLOTS_CPU || torture.options.slots == SHEAF_SLOTS_THREAD))
		fault("cache values: slots are of kind %u, and %u was wanted", slots,
		      torture.options.slots);
}

/* What a hand has is in no slot, barn or recycler. */
static void do_describe(struct worker *w)
{
	struct sheaf_description d;
	unsigned c = any_cache(w);

	/* Of a backend of ours objects are known in layers, or with debug mode. */
	if (!w->n[c] || !sheaf_describe(w->hand[c][0], &d, sizeof(d))) {
		refused(w);
		return;
	}
	if (d.cache != torture.victims[c].cache || d.place != SHEAF_PLACE_IN_USE)
		fault("cache %s: an object in a hand is said to be in cache %s: %s", w->with,
		      d.name, sheaf_place_name(d.place));
}

static int is_ours(void *arg, struct sheaf_cache *cache)
{
	unsigned *found = arg, c;

	for (c = 0; c < CACHES; c++)
		*found += cache == torture.victims[c].cache;
	return 0;
}

static void do_walk_caches(struct worker *w)
{
	unsigned found = 0;

	(void)w;
	sheaf_cache_walk(is_ours, &found);
	if (found != CACHES)
		fault("a walk finds %u of %u caches", found, CACHES);
}

/* As a user of the source himself. */
static void do_wait(struct worker *w)
{
	uint64_t ticket = sheaf_gp_ticket(torture.gp);

	store_relaxed(&w->with, "the source");
	if (random_below(&w->random, 2))
		sheaf_gp_hurry(torture.gp);
	if (waited(w, sheaf_gp_wait(torture.gp, ticket), "a wait for a grace period", w->with) &&
	    !sheaf_gp_elapsed(torture.gp, ticket))
		fault("a grace period is waited for, and has not elapsed");
}

struct operation cache_operations[] = {
	{"alloc", do_alloc, 30, 0},         {"alloc that waits", do_alloc_wait, 1, 0},
	{"free", do_free, 25, 0},           {"free, nowait", do_free_nowait, 6, 0},
	{"retire", do_retire, 25, 0},       {"bulk", do_bulk, 10, 0},
	{"prefill", do_prefill, 12, 0},     {"local prefill", do_local, 2, 0},
	{"barrier", do_barrier, 2, 0},      {"throttle", do_throttle, 3, 0},
	{"shrink", do_shrink, 2, 0},        {"trim", do_trim, 2, 0},
	{"flush", do_flush, 3, 0},          {"statistics", do_stats, 2, 0},
	{"description", do_describe, 1, 0}, {"walk over caches", do_walk_caches, 1, 0},
	{"grace period", do_wait, 1, 0},    {NULL, NULL, 0, 0},
};

void hand_empty(struct worker *w, unsigned c)
{
	while (w->n[c]) {
		struct stamp *object = w->hand[c][--w->n[c]];

		object_free(&torture.victims[c], object, worker_owner(w));
		sheaf_cache_free(torture.victims[c].cache, object);
	}
}

void hand_empty_all(struct worker *w)
{
	unsigned c;

	for (c = 0; c < CACHES; c++)
		hand_empty(w, c);
}

/*
 * What is in the child's hands came from its parent's thread. It must not wait for grace
 * periods where readers have vanished inside their sections.
 */
void child_run(struct worker *w)
{
	unsigned c, turns;

	alarm((unsigned)torture.options.patience);
	store_relaxed(&w->handling, 0);
	source_child();
	/* Parts with what the parent's stamps say is ours. */
	hand_empty_all(w);
	torture.child = true;
	for (turns = 0; turns < 30; turns++) {
		do_alloc(w);
		do_free(w);
		do_retire(w);
		do_bulk(w);
		do_prefill(w);
		do_free_nowait(w);
	}
	trees_read(w, 200);
	hand_empty_all(w);
	for (c = 0; c < CACHES; c++) {
		struct sheaf_cache *cache = torture.victims[c].cache;

		if (source_ends_in_child()) {
			int err = sheaf_cache_barrier(cache);

			source_tend();
			(void)waited(w, err, "barrier", torture.victims[c].spec->name);
		}
		sheaf_cache_flush(cache);
		sheaf_cache_shrink(cache);
		sheaf_cache_trim(cache);
		if (!sheaf_cache_check(cache))
			fault("cache %s: an invariant does not hold in a child",
			      torture.victims[c].spec->name);
	}
	_exit(0);
}
