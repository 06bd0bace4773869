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

#include "base/membarrier.h"
#include "base/memory.h"
#include "base/topology.h"
#include "base/wait.h"
#include "cache_state.h"

#include <string.h>

__thread struct slot_table slot_table;

struct sheaf sheaf_none;

#define NO_SHEAVES                                                                                 \
	{                                                                                          \
		&sheaf_none, &sheaf_none,                                                          \
		{                                                                                  \
			&sheaf_none, &sheaf_none                                                   \
		}                                                                                  \
	}

static const struct slot_sheaves no_sheaves = NO_SHEAVES;
struct slot slot_none = {.busy = 1, .held = NO_SHEAVES};

#ifdef RSEQ_WIDEN
uint32_t rseq_pause;
#endif

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
			slot->orphan = false;
			return slot;
		}
	slot = memory_zalloc(CACHE_LINE, sizeof(*slot));
	if (!slot)
		return NULL;
	slot->stop = !membarrier_ready();
	slot->held = no_sheaves;
	slot->cache = cache;
	pthread_mutex_init(&slot->lock, NULL);
	slot->next = cache->slots;
	/* release: whoever walks the list sees the slot as made; partner slots_stop() */
	store_release(&cache->slots, slot);
	return slot;
}

static struct slot *slot_make(struct sheaf_cache *cache)
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

/* The calling thread's slot: found, adopted or made; &slot_none if there is no memory, or nowait
 * is set and it is not there. */
static struct slot *slot_get(struct sheaf_cache *cache, bool nowait)
{
	struct slot *slot = slot_find(cache);

	if (likely(slot != &slot_none) || nowait)
		return slot;
	return slot_make(cache);
}

/* How the owner got in. */
enum slot_way {
	SLOT_ROUND,  /* not in: go round the slot */
	SLOT_INSIDE, /* entered */
	SLOT_LOCKED, /* the same, and holds the lock */
};

static enum slot_way slot_hold(struct slot *slot, bool nowait)
{
	if (likely(slot_enter(slot)))
		return SLOT_INSIDE;
	if (nowait || load_relaxed(&slot->busy))
		return SLOT_ROUND;
	pthread_mutex_lock(&slot->lock);
	store_relaxed(&slot->busy, 1); /* S4 */
	compiler_barrier();
	return SLOT_LOCKED;
}

static void slot_release(struct slot *slot, enum slot_way way)
{
	slot_leave(slot);
	if (unlikely(way == SLOT_LOCKED))
		pthread_mutex_unlock(&slot->lock);
}

/* The place in pair that main is not at. */
static struct sheaf **spare_of(struct slot_sheaves *held)
{
	return &held->pair[held->pair[0] == held->main];
}

static enum slot_did install(struct sheaf **place, struct slot_io *io)
{
	struct sheaf *was = *place;

	/* release: partner the load in has_part() */
	store_release(place, io->sheaf ? io->sheaf : &sheaf_none);
	io->sheaf = sheaf_is_none(was) ? NULL : was;
	return SLOT_DID;
}

/* The operations of slot_cpu.h for who is inside a thread's slot. */
static enum slot_did inside_do(struct slot_sheaves *held, enum slot_op op, struct slot_io *io)
{
	struct sheaf **spare = spare_of(held);
	uint32_t n;

	switch (op) {
	case SLOT_POP_MANY:
		/* sheaf_none is shared by all: never written, not even to what it was. */
		if (sheaf_empty(held->main))
			return SLOT_UNMET;
		io->n = sheaf_pop_many(held->main, io->n, io->objects);
		return SLOT_DID;
	case SLOT_PUSH_MANY:
		for (n = 0; n < io->n && slot_push(held->main, io->objects[n]); n++)
			;
		io->n = n;
		return n ? SLOT_DID : SLOT_UNMET;
	case SLOT_PUSH_RCU:
		return slot_push(held->rcu, io->objects[0]) ? SLOT_DID : SLOT_UNMET;
	case SLOT_SWAP:
		held->main = *spare;
		return SLOT_DID;
	case SLOT_SWAP_FILLED:
		if (sheaf_empty(*spare))
			return SLOT_UNMET;
		held->main = *spare;
		return SLOT_DID;
	case SLOT_SWAP_ROOMY:
		if (sheaf_full(*spare))
			return SLOT_UNMET;
		held->main = *spare;
		return SLOT_DID;
	case SLOT_INSTALL:
		return install(spare, io);
	case SLOT_INSTALL_IF_EMPTY:
		return sheaf_empty(*spare) ? install(spare, io) : SLOT_UNMET;
	case SLOT_INSTALL_RCU:
		return install(&held->rcu, io);
	case SLOT_INSTALL_RCU_FULL:
		return sheaf_full(held->rcu) ? install(&held->rcu, io) : SLOT_UNMET;
	}
	return SLOT_AWAY;
}

static enum slot_did thread_do(struct sheaf_cache *cache, enum slot_op op, bool nowait,
			       struct slot_io *io)
{
	struct slot *slot = slot_get(cache, nowait);
	enum slot_way way = slot_hold(slot, nowait);
	enum slot_did did;

	if (way == SLOT_ROUND)
		return SLOT_AWAY;
	did = inside_do(&slot->held, op, io);
	slot_release(slot, way);
	return did;
}

/* One attempt at the slot of this CPU. */
static enum slot_did cpu_do(const struct cpu_slots *cpus, enum slot_op op, struct slot_io *io)
{
	struct sheaf *sheaf = io->sheaf ? io->sheaf : &sheaf_none, *was = NULL;
	enum slot_did did = SLOT_AWAY;

	switch (op) {
	case SLOT_POP_MANY:
		return cpu_pop_many(cpus, &io->n, io->objects);
	case SLOT_PUSH_MANY:
		return cpu_push_many(cpus, &io->n, io->objects);
	case SLOT_PUSH_RCU:
		return cpu_push_rcu(cpus, io->objects[0]);
	case SLOT_SWAP:
		return cpu_swap(cpus);
	case SLOT_SWAP_FILLED:
		return cpu_swap_filled(cpus);
	case SLOT_SWAP_ROOMY:
		return cpu_swap_roomy(cpus);
	case SLOT_INSTALL:
		did = cpu_install_spare(cpus, sheaf, &was);
		break;
	case SLOT_INSTALL_IF_EMPTY:
		did = cpu_install_spare_if_empty(cpus, sheaf, &was);
		break;
	case SLOT_INSTALL_RCU:
		did = cpu_install_rcu(cpus, sheaf, &was);
		break;
	case SLOT_INSTALL_RCU_FULL:
		did = cpu_install_rcu_if_full(cpus, sheaf, &was);
		break;
	}
	if (did == SLOT_DID)
		io->sheaf = sheaf_is_none(was) ? NULL : was;
	return did;
}

/* There was no way into the slot of this CPU. True if another try makes sense. */
static bool cpu_retry(struct sheaf_cache *cache, bool nowait)
{
	uint32_t cpu = load_relaxed(&rseq_self()->cpu_id);

	if (cpu == RSEQ_CPU_UNREGISTERED)
		return rseq_thread_register();
	if (nowait || cpu >= cache->cpus.n)
		return false;
	/* A remote party is at work, which holds this lock. */
	pthread_mutex_lock(&cache->remote_lock);
	pthread_mutex_unlock(&cache->remote_lock);
	return true;
}

/* So many attempts fail in a row only under a debugger or a storm of signals. */
#define ATTEMPTS 64

enum slot_did slot_do(struct sheaf_cache *cache, enum slot_op op, bool nowait, struct slot_io *io)
{
	unsigned aborts;

	if (!cache->cpus.n)
		return thread_do(cache, op, nowait, io);
	for (aborts = 0; aborts < ATTEMPTS;) {
		enum slot_did did = cpu_do(&cache->cpus, op, io);

		if (did == SLOT_DID || did == SLOT_UNMET)
			return did;
		if (did == SLOT_ABORTED) {
			fetch_add_relaxed(&cache->aborts, 1);
			aborts++;
		} else if (!cpu_retry(cache, nowait)) {
			break;
		}
	}
	return SLOT_AWAY;
}

struct slot_trips *slot_trips(struct sheaf_cache *cache)
{
	struct slot *slot;

	if (cache->cpus.n) {
		uint32_t cpu = load_relaxed(&rseq_self()->cpu_id);

		return cpu < cache->cpus.n ? &cache->cpus.slots[cpu].trips : &cache->trips;
	}
	slot = slot_find(cache);
	return slot != &slot_none ? &slot->trips : &cache->trips;
}

/* Is there something of these parts in the slot? */
static bool has_part(const struct slot_sheaves *held, const struct sheaf *aged, unsigned parts)
{
	/* acquire: partners the stores in install() and cpu_install_rcu(). Who sees that a sheaf is gone
	 * sees the transit that began before. */
	const struct sheaf *rcu = load_acquire(&held->rcu);

	if (parts & PART_ALLOC)
		return true;
	return !sheaf_is_none(rcu) && ((parts & PART_RCU) || rcu == aged);
}

static bool cpu_slots_stop(struct sheaf_cache *cache, unsigned parts)
{
	bool any = false;
	uint32_t i;

	for (i = 0; i < cache->cpus.n; i++) {
		struct cpu_slot *slot = &cache->cpus.slots[i];

		if (!has_part(&slot->held, cache->cpu_aged[i], parts))
			continue;
		slot->taken = any = true;
		store_release(&slot->stop, 1);
	}
	return any;
}

static bool thread_slots_stop(struct sheaf_cache *cache, unsigned parts)
{
	bool any = false;
	struct slot *slot;

	/* acquire: partner store in slot_take() */
	cache->stopped = load_acquire(&cache->slots);
	for (slot = cache->stopped; slot; slot = slot->next) {
		if (!has_part(&slot->held, slot->aged, parts))
			continue;
		slot->taken = any = true;
		if (membarrier_ready())
			store_relaxed(&slot->stop, 1);
	}
	return any;
}

void slots_stop(struct sheaf_cache *cache, unsigned parts)
{
	if (cache->cpus.n) {
		if (cpu_slots_stop(cache, parts))
			rseq_fence(); /* C2 */
	} else if (thread_slots_stop(cache, parts) && membarrier_ready()) {
		membarrier_all(); /* S1, partner compiler_barrier() in slot_enter() */
	}
}

static void look_at(const struct slot_sheaves *held, struct sheaf **aged, struct slots_look *look)
{
	struct sheaf *rcu = load_relaxed(&held->rcu);

	if (sheaf_is_none(rcu)) {
		*aged = NULL;
		return;
	}
	if (rcu == *aged)
		look->aged = true;
	else
		look->young = true;
	*aged = rcu;
}

struct slots_look slots_look(struct sheaf_cache *cache)
{
	struct slots_look look = {0};
	struct slot *slot;
	uint32_t i;

	for (i = 0; i < cache->cpus.n; i++)
		look_at(&cache->cpus.slots[i].held, &cache->cpu_aged[i], &look);
	/* acquire: partner store in slot_take() */
	for (slot = load_acquire(&cache->slots); slot; slot = slot->next)
		look_at(&slot->held, &slot->aged, &look);
	return look;
}

static void seize(struct slot *slot)
{
	unsigned turns = 0;

	pthread_mutex_lock(&slot->lock);
	/* acquire: S3, partner store in slot_leave() */
	while (load_acquire(&slot->busy))
		wait_a_little(&turns);
}

void slots_go(struct sheaf_cache *cache)
{
	struct slot *slot;
	uint32_t i;

	/* C2: what was done to the slots is there for who sees stop gone. */
	for (i = 0; i < cache->cpus.n; i++) {
		if (!cache->cpus.slots[i].taken)
			continue;
		cache->cpus.slots[i].taken = false;
		store_release(&cache->cpus.slots[i].stop, 0);
	}
	if (cache->cpus.n)
		return;
	for (slot = cache->stopped; slot; slot = slot->next) {
		if (!slot->taken)
			continue;
		slot->taken = false;
		if (membarrier_ready())
			store_release(&slot->stop, 0); /* S3, partner load in slot_enter() */
	}
}

/* A sheaf into a list through link. */
static void list_add(struct sheaf **list, struct sheaf *sheaf)
{
	if (sheaf_is_none(sheaf))
		return;
	sheaf->link = *list;
	*list = sheaf;
}

static void collect(struct slot_sheaves *held, const struct sheaf *aged, unsigned parts,
		    struct sheaf **list)
{
	if ((parts & PART_RCU) || ((parts & PART_AGED) && held->rcu == aged)) {
		list_add(list, held->rcu);
		held->rcu = &sheaf_none;
	}
	if (parts & PART_ALLOC) {
		list_add(list, held->pair[0]);
		list_add(list, held->pair[1]);
		held->main = held->pair[0] = held->pair[1] = &sheaf_none;
	}
}

/*
 * C2. Sequences in progress may still push to and pop from the sheaves until the second fence, so
 * their links are not ours before it: what was seen waits in an array.
 */
static struct sheaf *cpu_collect(struct sheaf_cache *cache, unsigned parts)
{
	struct slot_sheaves *seen = cache->cpu_seen;
	struct sheaf *list = NULL;
	bool any = false;
	uint32_t i;

	for (i = 0; i < cache->cpus.n; i++) {
		struct slot_sheaves *held = &cache->cpus.slots[i].held;

		seen[i] = no_sheaves;
		if (!cache->cpus.slots[i].taken)
			continue;
		any = true;
		if ((parts & PART_RCU) ||
		    ((parts & PART_AGED) && held->rcu == cache->cpu_aged[i])) {
			seen[i].rcu = held->rcu;
			store_relaxed(&held->rcu, &sheaf_none);
		}
		if (parts & PART_ALLOC) {
			seen[i].pair[0] = held->pair[0];
			seen[i].pair[1] = held->pair[1];
			store_relaxed(&held->main, &sheaf_none);
			store_relaxed(&held->pair[0], &sheaf_none);
			store_relaxed(&held->pair[1], &sheaf_none);
		}
	}
	if (!any)
		return NULL;
	rseq_fence(); /* C2 */
	for (i = 0; i < cache->cpus.n; i++)
		collect(&seen[i], NULL, PART_RCU | PART_ALLOC, &list);
	return list;
}

struct sheaf *slots_collect(struct sheaf_cache *cache, unsigned parts)
{
	struct sheaf *list = NULL;
	struct slot *slot;

	if (cache->cpus.n)
		return cpu_collect(cache, parts);
	for (slot = cache->stopped; slot; slot = slot->next) {
		if (!slot->taken)
			continue;
		seize(slot);
		collect(&slot->held, slot->aged, parts, &list);
		pthread_mutex_unlock(&slot->lock);
	}
	return list;
}

/* Of pair, what is not main may be main's double only if both are none. */
static uint64_t count(const struct slot_sheaves *held)
{
	return (uint64_t)load_relaxed(&held->pair[0]->size) + load_relaxed(&held->pair[1]->size) +
	       load_relaxed(&held->rcu->size);
}

uint64_t slots_count(struct sheaf_cache *cache)
{
	struct slot *slot;
	uint64_t n = 0;
	uint32_t i;

	/* Sheaves stand still (C2); their sizes may change meanwhile. */
	for (i = 0; i < cache->cpus.n; i++)
		n += count(&cache->cpus.slots[i].held);
	if (cache->cpus.n)
		return n;
	for (slot = cache->stopped; slot; slot = slot->next) {
		seize(slot);
		n += count(&slot->held);
		pthread_mutex_unlock(&slot->lock);
	}
	return n;
}

bool cpu_slots_make(struct sheaf_cache *cache)
{
	uint32_t n = topology_cpus(), i;

	cache->cpus.slots =
		memory_zalloc(sizeof(*cache->cpus.slots), n * sizeof(*cache->cpus.slots));
	cache->cpu_seen = memory_zalloc(CACHE_LINE, n * sizeof(*cache->cpu_seen));
	cache->cpu_aged = memory_zalloc(CACHE_LINE, n * sizeof(*cache->cpu_aged));
	if (!cache->cpus.slots || !cache->cpu_seen || !cache->cpu_aged)
		return false;
	for (i = 0; i < n; i++)
		cache->cpus.slots[i].held = no_sheaves;
	cache->cpus.n = n;
	return true;
}

void slots_delete(struct sheaf_cache *cache)
{
	struct slot *slot;

	while ((slot = cache->slots) != NULL) {
		cache->slots = slot->next;
		pthread_mutex_destroy(&slot->lock);
		memory_free(slot);
	}
	memory_free(cache->cpus.slots);
	memory_free(cache->cpu_seen);
	memory_free(cache->cpu_aged);
}

static bool held_check(const struct slot_sheaves *held)
{
	if (held->main != held->pair[0] && held->main != held->pair[1])
		return false;
	if (held->pair[0] == held->pair[1] && !sheaf_is_none(held->main))
		return false;
	return sheaf_check(held->pair[0]) && sheaf_check(held->pair[1]) && sheaf_check(held->rcu);
}

bool slots_check(const struct sheaf_cache *cache)
{
	const struct slot *slot;
	uint32_t i;

	for (i = 0; i < cache->cpus.n; i++)
		if (cache->cpus.slots[i].stop || !held_check(&cache->cpus.slots[i].held))
			return false;
	for (slot = cache->slots; slot; slot = slot->next)
		if (slot->busy || !held_check(&slot->held))
			return false;
	return true;
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
	id = (int)i;
out:
	pthread_mutex_unlock(&registry.lock);
	pthread_mutex_unlock(&registry.list_lock);
	return id;
}

uint32_t registry_orphans(struct sheaf_cache *cache)
{
	struct slot *slot;
	uint32_t n = 0;

	pthread_mutex_lock(&registry.lock);
	for (slot = cache->slots; slot; slot = slot->next)
		n += slot->orphan;
	pthread_mutex_unlock(&registry.lock);
	return n;
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

static void each(void (*fn)(struct sheaf_cache *cache))
{
	uint32_t i;

	for (i = 0; i < registry.n; i++)
		if (registry.caches[i])
			fn(registry.caches[i]);
}

void registry_fork_prepare(void (*fn)(struct sheaf_cache *cache))
{
	pthread_mutex_lock(&registry.list_lock);
	each(fn);
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
		pthread_mutex_init(&slot->lock, NULL);
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
