/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Threads and their slots.
 *
 * Each thread has a table of slots by cache number. The table is the thread's: only it
 * reads it without the registry's lock, and only it replaces the array (under the lock).
 * Other threads write single entries, under the lock, when a cache ends; that cache is
 * idle then, so its entry is not being read.
 *
 * A slot outlives its thread: at thread exit it becomes an orphan of its cache, whole, and
 * the next thread that needs a slot there adopts it. So there are as many slots as
 * there were threads at one time, and exit gives nothing up and waits for nothing.
 *
 * Lock order: list_lock, remote_lock of a cache, registry's lock, lock of a slot.
 */
#include "slot.h"

#include "base/fork.h"
#include "base/membarrier.h"
#include "base/memory.h"
#include "base/probe.h"
#include "base/wait.h"
#include "cache_state.h"

#include <string.h>

/* How others reach a thread's table. Not in the thread's own storage: that goes away even
 * if thread_exit() was not called a last time. */
struct slot_record {
	struct slot **slots;
	uint32_t n;
	struct slot_record *next;
	struct slot_record *prev;
};

static struct {
	pthread_mutex_t list_lock; /* outermost: caches do not come or go */
	pthread_mutex_t lock;
	struct slot_record *records; /* of all threads */
	struct sheaf_cache **caches; /* by number; NULL where free */
	uint32_t n;
	uint64_t made; /* so far */
} registry = {.list_lock = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t thread_exit_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_exit_key;
static bool thread_exit_ready;

/* At thread exit: leave all slots as orphans and drop the table. */
static void thread_exit(void *arg)
{
	struct slot_record *record = arg;
	uint32_t i;

	/* S1: a signal handler on this thread finds no slot from here on, before one can have
	 * another owner. */
	slot_table.n = 0;
	compiler_barrier();
	pthread_mutex_lock(&registry.lock);
	for (i = 0; i < record->n; i++)
		if (record->slots[i] != &slot_none)
			record->slots[i]->orphan = true;
	if (record->prev)
		record->prev->next = record->next;
	else
		registry.records = record->next;
	if (record->next)
		record->next->prev = record->prev;
	pthread_mutex_unlock(&registry.lock);
	slot_table = (struct slot_table){0};
	memory_free(record->slots);
	memory_free(record);
}

static void thread_exit_init(void)
{
	thread_exit_ready = pthread_key_create(&thread_exit_key, thread_exit) == 0;
}

/* A record for the calling thread, dropped at its exit. Under the registry's lock. */
static struct slot_record *record_make(void)
{
	struct slot_record *record;

	pthread_once(&thread_exit_once, thread_exit_init);
	record = thread_exit_ready ? memory_zalloc(CACHE_LINE, sizeof(*record)) : NULL;
	if (!record)
		return NULL;
	if (pthread_setspecific(thread_exit_key, record) != 0) {
		memory_free(record);
		return NULL;
	}
	record->next = registry.records;
	if (record->next)
		record->next->prev = record;
	registry.records = record;
	return record;
}

/* Makes room for cache number id in the caller's table. Under the registry's lock. */
static bool table_reserve(struct slot_table *table, uint32_t id)
{
	uint32_t n = table->n ? table->n : 8, i;
	struct slot **slots, **old = table->slots;

	if (!table->record)
		table->record = record_make();
	if (!table->record)
		return false;
	if (id < table->n)
		return true;
	while (n <= id)
		n *= 2;
	slots = memory_zalloc(CACHE_LINE, n * sizeof(*slots));
	if (!slots)
		return false;
	for (i = 0; i < n; i++)
		slots[i] = i < table->n ? table->slots[i] : &slot_none;
	/* A signal handler on this thread finds an array that is filled, and as long as it is said
	 * to be. */
	compiler_barrier();
	table->slots = table->record->slots = slots;
	compiler_barrier();
	table->n = table->record->n = n;
	memory_free(old);
	return true;
}

/* An orphan of the cache, or a new slot; NULL if there is no memory. Under the lock. */
static struct slot *slot_take(struct sheaf_cache *cache)
{
	struct slot *slot;

	for (slot = cache->slots; slot; slot = slot->next)
		if (slot->orphan) {
			PROBE(slot_make, PROBE_CACHE(cache), slot, 1);
			slot->orphan = false;
			return slot;
		}
	slot = memory_zalloc(CACHE_LINE, sizeof(*slot));
	if (!slot)
		return NULL;
	slot->stop = !membarrier_ready();
	slot->held = slot_no_sheaves;
	slot->cache = cache;
	pthread_mutex_init(&slot->lock, NULL);
	slot->next = cache->slots;
	/* release: whoever walks the list sees the slot as made; partner slots_stop() */
	store_release(&cache->slots, slot);
	cache_fit_barns(cache, ++cache->thread_slots);
	PROBE(slot_make, PROBE_CACHE(cache), slot, 0);
	return slot;
}

struct slot *slot_make(struct sheaf_cache *cache)
{
	struct slot *slot = NULL;

	pthread_mutex_lock(&registry.lock);
	if (table_reserve(&slot_table, cache->id))
		slot = slot_take(cache);
	if (slot)
		slot_table.slots[cache->id] = slot;
	pthread_mutex_unlock(&registry.lock);
	return slot ? slot : &slot_none;
}

int registry_add(struct sheaf_cache *cache)
{
	struct sheaf_cache **caches;
	uint32_t i, n;
	int id = -1;

	pthread_mutex_lock(&registry.list_lock);
	pthread_mutex_lock(&registry.lock);
	for (i = 0; i < registry.n && registry.caches[i]; i++)
		;
	if (i == registry.n) {
		n = registry.n ? registry.n * 2 : 16;
		caches = memory_zalloc(CACHE_LINE, n * sizeof(*caches));
		if (!caches)
			goto out;
		if (registry.n)
			memcpy(caches, registry.caches, registry.n * sizeof(*caches));
		memory_free(registry.caches);
		registry.caches = caches;
		registry.n = n;
	}
	registry.caches[i] = cache;
	cache->number = ++registry.made;
	id = (int)i;
out:
	pthread_mutex_unlock(&registry.lock);
	pthread_mutex_unlock(&registry.list_lock);
	return id;
}

void registry_hold(void)
{
	pthread_mutex_lock(&registry.lock);
}

void registry_let_go(void)
{
	pthread_mutex_unlock(&registry.lock);
}

void registry_remove(struct sheaf_cache *cache)
{
	struct slot_record *record;
	uint32_t i;

	pthread_mutex_lock(&registry.list_lock);
	pthread_mutex_lock(&registry.lock);
	for (record = registry.records; record; record = record->next)
		if (cache->id < record->n)
			record->slots[cache->id] = &slot_none;
	registry.caches[cache->id] = NULL;
	for (i = 0; i < registry.n && !registry.caches[i]; i++)
		;
	if (i == registry.n) {
		/* The last cache is gone: leave nothing for leak checkers to wonder about. */
		memory_free(registry.caches);
		registry.caches = NULL;
		registry.n = 0;
	}
	pthread_mutex_unlock(&registry.lock);
	pthread_mutex_unlock(&registry.list_lock);
}

struct sheaf_cache *registry_pin(uint32_t *next)
{
	struct sheaf_cache *cache = NULL;

	pthread_mutex_lock(&registry.list_lock);
	while (!cache && *next < registry.n) {
		cache = registry.caches[(*next)++];
		if (cache && cache->closed)
			cache = NULL;
	}
	if (cache)
		fetch_add_relaxed(&cache->pins, 1);
	pthread_mutex_unlock(&registry.list_lock);
	return cache;
}

void registry_unpin(struct sheaf_cache *cache)
{
	/* release: partner registry_close() */
	fetch_sub_release(&cache->pins, 1);
}

void registry_close(struct sheaf_cache *cache)
{
	unsigned turns = 0;

	pthread_mutex_lock(&registry.list_lock);
	cache->closed = true;
	pthread_mutex_unlock(&registry.list_lock);
	/* acquire: partner registry_unpin() */
	while (load_acquire(&cache->pins))
		wait_a_little(&turns);
}

void registry_open(struct sheaf_cache *cache)
{
	pthread_mutex_lock(&registry.list_lock);
	cache->closed = false;
	pthread_mutex_unlock(&registry.list_lock);
}

static void each(void (*fn)(struct sheaf_cache *cache))
{
	uint32_t i;

	for (i = 0; i < registry.n; i++)
		if (registry.caches[i])
			fn(registry.caches[i]);
}

/* fn takes locks. A cross cache may have a lower number than its cache, whose lock comes first: G5 in
 * cache_stats.c. */
void registry_fork_prepare(void (*fn)(struct sheaf_cache *cache))
{
	unsigned cross;
	uint32_t i;

	pthread_mutex_lock(&registry.list_lock);
	for (cross = 0; cross < 2; cross++)
		for (i = 0; i < registry.n; i++)
			if (registry.caches[i] && (registry.caches[i]->cross_of != NULL) == cross)
				fn(registry.caches[i]);
	pthread_mutex_lock(&registry.lock);
}

void registry_fork_parent(void (*fn)(struct sheaf_cache *cache))
{
	pthread_mutex_unlock(&registry.lock);
	each(fn);
	pthread_mutex_unlock(&registry.list_lock);
}

/* The tables of threads that are not there any more. */
static void forget_other_threads(void)
{
	struct slot_record *record = registry.records, *next;

	registry.records = slot_table.record;
	for (; record; record = next) {
		next = record->next;
		if (record == slot_table.record) {
			record->next = record->prev = NULL;
			continue;
		}
		memory_free(record->slots);
		memory_free(record);
	}
}

static void orphan_slots(struct sheaf_cache *cache)
{
	const struct slot *own = slot_find(cache);
	struct slot *slot;

	for (slot = cache->slots; slot; slot = slot->next) {
		if (slot == own)
			continue;
		slot->busy = 0;
		slot->orphan = true;
		fork_free_in_child(&slot->lock);
	}
}

void registry_fork_child(void (*fn)(struct sheaf_cache *cache))
{
	forget_other_threads();
	each(orphan_slots);
	pthread_mutex_unlock(&registry.lock);
	each(fn);
	pthread_mutex_unlock(&registry.list_lock);
}
