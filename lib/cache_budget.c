/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Budgets: how many bytes of objects a cache, and all caches together, may have from their backends.
 *
 * What is out counts before the backend is asked, and again less once objects are back there:
 *
 *	reserve n -> ask the backend -> release what did not come
 *	give to the backend -> release
 *
 * Guarantees:
 *  G1  Never more is out than the budget says, as long as nobody lowers it: a reservation is one
 *      compare-and-swap of the sum, which fails if another one came first. So the limit
 *      is exact, and checked in the one place that all objects come through.
 *  G2  What is reserved is out, about to be asked for, or about to be released. Nothing else
 *      hangs on the sums, so they need no order.
 *  G3  Before anybody is refused, what lies free in slots and barns is given back and counts
 *      anew: first that of the cache, then, if the budget of the process is what is short,
 *      that of the others, with what is ripe there unless it has to pass a callback. Not in callbacks over ripe objects, and not under SHEAF_NOWAIT.
 *  G4  Who waits (SHEAF_WAIT) looks again by itself: fast paths do not know of waiters. In
 *      between it waits for a grace period, which brings back what is in flight.
 */
#define _GNU_SOURCE
#include "cache_state.h"

#include "base/probe.h"
#include "base/wait.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define WAIT_NS 200000

/* Was the budget what the last allocation of this thread at a backend was short of? */
static __thread bool short_of_budget __attribute__((tls_model("initial-exec")));

static struct {
	uint64_t budget;
	uint64_t used;
} process = {.budget = UINT64_MAX};

static pthread_once_t environment_once = PTHREAD_ONCE_INIT;

/* "512M". Anything else than a number and a letter is ignored. */
static void read_environment(void)
{
	static const char letters[] = "KMG";
	const char *text = secure_getenv("SHEAF_BUDGET"), *letter;
	unsigned long long bytes;
	char *end;

	if (!text || *text < '0' || *text > '9')
		return;
	errno = 0;
	bytes = strtoull(text, &end, 10);
	for (letter = letters; *end && *letter; letter++)
		if (*letter == *end) {
			unsigned shift = 10 * (unsigned)(letter - letters + 1);

			bytes = bytes > UINT64_MAX >> shift ? UINT64_MAX : bytes << shift;
			end++;
			break;
		}
	if (!errno && !*end && bytes)
		store_relaxed(&process.budget, bytes);
}

void budget_init(struct sheaf_cache *cache, uint64_t bytes)
{
	pthread_once(&environment_once, read_environment);
	cache->budget = bytes ? bytes : UINT64_MAX;
}

/* Adds up to n units to the sum; how many. */
static size_t reserve(uint64_t *used, const uint64_t *budget, size_t n, uint64_t unit)
{
	uint64_t was = load_relaxed(used), may;

	do {
		uint64_t most = load_relaxed(budget);

		may = was < most ? (most - was) / unit : 0;
		if (may > n)
			may = n;
		if (!may)
			return 0;
	} while (!cas_weak_relaxed(used, &was, was + may * unit));
	return may;
}

size_t budget_reserve(struct sheaf_cache *cache, size_t n)
{
	size_t own = reserve(&cache->used, &cache->budget, n, cache->object_size);
	size_t all = reserve(&process.used, &process.budget, own, cache->object_size);

	if (own > all)
		fetch_sub_relaxed(&cache->used, (own - all) * cache->object_size);
	return all;
}

void budget_release(struct sheaf_cache *cache, size_t n)
{
	fetch_sub_relaxed(&cache->used, n * cache->object_size);
	fetch_sub_relaxed(&process.used, n * cache->object_size);
}

/* Not even one more object may come. */
static bool used_up(const uint64_t *used, const uint64_t *budget, uint64_t unit)
{
	uint64_t sum = load_relaxed(used), most = load_relaxed(budget);

	return sum > most || most - sum < unit;
}

static size_t reclaim(struct sheaf_cache *cache, size_t n)
{
	size_t may;

	sheaf_cache_shrink(cache);
	may = budget_reserve(cache, n);
	if (may == n || used_up(&cache->used, &cache->budget, cache->object_size))
		return may;
	/* A backend that uses this cache may hold what its own free wants. */
	if (cache_inside_backend())
		return may;
	sheaf_trim((n - may) * cache->object_size);
	return may + budget_reserve(cache, n - may);
}

size_t budget_reserve_hard(struct sheaf_cache *cache, unsigned flags, size_t n, size_t least)
{
	size_t may = budget_reserve(cache, n);

	if (likely(may >= least))
		return may;
	if (!(flags & SHEAF_NOWAIT) && !cache_inside_ripe())
		may += reclaim(cache, least - may);
	if (may < least) {
		fetch_add_relaxed(&cache->budget_refused, 1);
		PROBE(budget_refused, PROBE_CACHE(cache), least, may);
	}
	return may;
}

void budget_was_short(bool is)
{
	short_of_budget = is;
}

bool budget_is_short(void)
{
	return short_of_budget;
}

bool budget_wait(struct sheaf_cache *cache, unsigned *tries)
{
	/* The backend refused; something may have come back since. */
	if (!short_of_budget)
		return !(*tries)++;
	/* Something has come back, though others may take it again before we do. */
	if (!used_up(&cache->used, &cache->budget, cache->object_size) &&
	    !used_up(&process.used, &process.budget, cache->object_size))
		return true;
	if (cache_inside_ripe() || (cache->gp && sheaf_gp_read_ongoing(cache->gp)))
		return false;
	*tries = 0;
	PROBE(budget_wait, PROBE_CACHE(cache));
	if (cache->gp)
		(void)sheaf_gp_wait(cache->gp, sheaf_gp_ticket(cache->gp));
	wait_ns(WAIT_NS);
	return true;
}

void budget_fork_child(struct sheaf_cache *cache)
{
	uint64_t out;

	if (!cache) {
		store_relaxed(&process.used, 0);
		return;
	}
	out = load_relaxed(&cache->backend_allocated) - load_relaxed(&cache->backend_freed);
	store_relaxed(&cache->used, out * cache->object_size);
	fetch_add_relaxed(&process.used, out * cache->object_size);
}

uint64_t budget_least(const struct sheaf_cache *cache)
{
	uint64_t own = load_relaxed(&cache->budget), all = load_relaxed(&process.budget);

	return own < all ? own : all;
}

void sheaf_cache_set_budget(struct sheaf_cache *cache, uint64_t bytes)
{
	store_relaxed(&cache->budget, bytes ? bytes : UINT64_MAX);
	if (load_relaxed(&cache->used) > load_relaxed(&cache->budget))
		sheaf_cache_shrink(cache);
}

void sheaf_set_budget(uint64_t bytes)
{
	uint64_t used;

	/* Else the environment would come after it. */
	pthread_once(&environment_once, read_environment);
	store_relaxed(&process.budget, bytes ? bytes : UINT64_MAX);
	used = load_relaxed(&process.used);
	if (bytes && used > bytes)
		sheaf_trim(used - bytes);
}

uint64_t sheaf_budget_used(void)
{
	return load_relaxed(&process.used);
}
