/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Making and ending a cache; its map is in cache_state.h. */
#define _GNU_SOURCE
#include "cache_state.h"

#include "base/attr.h"
#include "base/memory.h"
#include "base/module.h"
#include "base/probe.h"
#include "base/topology.h"
#include "watch.h"

#include <errno.h>
#include <sheaf/slab.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CAPACITY_MAX 65536
#define OBJECT_MAX (UINT32_C(1) << 30)
#define BARN_LIMIT 32
#define BARN_PER_SLOT 4
#define SLAB_OBJECT_MAX 65536
#define SLAB_ALIGN_MAX 4096
#define MAPPED_BYTES 4096

struct sheaf *sheaf_new(uint32_t capacity)
{
	void *mem = memory_alloc(CACHE_LINE, sheaf_bytes(capacity));

	return mem ? sheaf_init(mem, capacity) : NULL;
}

void sheaf_delete(struct sheaf *sheaf)
{
	if (unlikely(sheaf->mark & MARK_MAPPED))
		munmap(sheaf, MAPPED_BYTES);
	else
		memory_free(sheaf);
}

struct sheaf *sheaf_map(void)
{
	int saved = errno;
	void *mem = mmap(NULL, MAPPED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	struct sheaf *sheaf;

	errno = saved;
	if (mem == MAP_FAILED)
		return NULL;
	sheaf = sheaf_init(mem, (uint32_t)((MAPPED_BYTES - sheaf_bytes(0)) / sizeof(void *)));
	sheaf->mark = MARK_MAPPED;
	return sheaf;
}

struct sheaf *sheaf_renew(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	struct sheaf *fresh;

	if (likely(!sheaf_outdated(cache, sheaf)))
		return sheaf;
	fresh = sheaf_new(cache_capacity(cache));
	if (!fresh)
		return sheaf;
	sheaf_delete(sheaf);
	return fresh;
}

size_t sheaf_discard(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	size_t n = sheaf->size;

	sheaf_flush(cache, sheaf);
	sheaf_delete(sheaf);
	return n;
}

/* Operations of backends that this thread is in: a backend may use caches. */
static __thread unsigned inside __attribute__((tls_model("initial-exec")));

bool cache_inside_backend(void)
{
	return inside != 0;
}

size_t backend_get_on(struct sheaf_cache *cache, unsigned numa, unsigned flags, size_t n,
		      size_t least, void **objects)
{
	size_t may, got;

	/* The book of debug mode may need memory for what comes. */
	if (unlikely(flags & SHEAF_NOWAIT) && watch_writes(cache))
		return 0;
	may = budget_reserve_hard(cache, flags, n, least);
	budget_was_short(may < least);
	if (!may)
		return 0;
	/* Before they are there: F9 in cache_fork.c. */
	fetch_add_relaxed(&cache->backend_allocated, may);
	inside++;
	got = cache->backend.ops->alloc_bulk(cache->backend.ctx, (int)numa,
					     flags & SHEAF_NOWAIT, may, objects);
	inside--;
	if (unlikely(cache->watch))
		got = watch_came(cache, got, objects);
	if (got < may) {
		fetch_sub_relaxed(&cache->backend_allocated, may - got);
		budget_release(cache, may - got);
	}
	fetch_add_relaxed(&cache->backend_alloc_trips, 1);
	PROBE(backend_alloc, PROBE_CACHE(cache), numa, may, got);
	if (cache->ctor && got && !cache->watch) {
		blocks_to_make(cache, got, objects);
		cache->ctor(cache->ctor_arg, got, objects);
	}
	/* Again: backends and constructors may use caches. */
	budget_was_short(may < least && got == may);
	if (!cache->watch)
		blocks_in(cache, got, objects);
	return got;
}

void backend_put(struct sheaf_cache *cache, size_t n, void *const *objects)
{
	if (unlikely(cache->watch))
		watch_gone(cache, n, objects);
	else
		blocks_out(cache, n, objects);
	fetch_add_relaxed(&cache->backend_free_trips, 1);
	PROBE(backend_free, PROBE_CACHE(cache), n);
	inside++;
	cache->backend.ops->free_bulk(cache->backend.ctx, n, objects);
	inside--;
	/* After they are gone: F9 in cache_fork.c. release: G6 in cache_stats.c */
	fetch_add_release(&cache->backend_freed, n);
	if (!cache->cross_of)
		budget_release(cache, n);
}

void sheaf_flush(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	uint32_t n = sheaf->size;

	sheaf->size = 0;
	if (n)
		backend_put(cache, n, sheaf->objects);
	sheaf_forget(sheaf, n);
}

void sheaf_dispose(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	if (sheaf_outdated(cache, sheaf) || sheaf_barn_give_empty(&cache_node(cache)->barn, sheaf))
		sheaf_delete(sheaf);
}

/*
 * So many bytes of objects, in whole cache lines: half a line of header, then arrays of 4, 12, 20
 * ... Slots of CPUs are few, so they may hold more than slots of threads.
 */
static uint32_t default_capacity(size_t object_size, bool cpu_slots)
{
	size_t n = (cpu_slots ? 65536 : 32768) / object_size;
	uint32_t most = cpu_slots ? 252 : 60;

	if (n > most)
		return most;
	return n < 12 ? 4 : ((uint32_t)(n - 4) & ~7u) + 4;
}

static uint32_t default_limit(uint32_t limit)
{
	if (limit == UINT32_MAX)
		return 0;
	return limit ? limit : BARN_LIMIT;
}

void cache_fit_barns(struct sheaf_cache *cache, uint32_t slots)
{
	uint32_t fit = BARN_PER_SLOT * (slots / cache->nodes + 1), i;

	for (i = 0; fit > BARN_LIMIT && i < cache->nodes; i++) {
		struct sheaf_barn *barn = &cache->node[i].barn;

		sheaf_barn_set_limits(
			barn, load_relaxed(&cache->fit_full) ? fit : load_relaxed(&barn->full.limit),
			load_relaxed(&cache->fit_empty) ? fit : load_relaxed(&barn->empty.limit));
	}
}

static bool attr_valid(const struct sheaf_cache_attr *a)
{
	if (!a->object_size || a->object_size > OBJECT_MAX || a->capacity > CAPACITY_MAX)
		return false;
	if (a->object_align & (a->object_align - 1))
		return false;
	if (a->slots > SHEAF_SLOTS_CPU || a->ripe_by > SHEAF_RIPE_BY_DRIVER)
		return false;
	if (a->barns_per_node != SHEAF_BARN_PER_CACHE && a->barns_per_node > TOPOLOGY_CACHES_MAX)
		return false;
	/* Only the injected function can tell injected places. */
	if (a->barns_per_node > 1 && a->barns_per_node != SHEAF_BARN_PER_CACHE && !a->current_node)
		return false;
	if (a->nodes > TOPOLOGY_NODES_MAX || (a->backend.ops && !a->backend.ops->free_bulk) ||
	    (a->backend.ops && !a->backend.ops->alloc_bulk))
		return false;
	return true;
}

/* The backend of the attributes, or the best of our own. */
static int choose_backend(struct sheaf_cache *cache, const struct sheaf_cache_attr *a)
{
	struct sheaf_backend *backend = &cache->backend;
	struct sheaf_slab_attr slab_attr = {
		.size = sizeof(slab_attr),
		.object_size = cache->block_size < 8 ? 8 : cache->block_size,
		.object_align = a->object_align,
		.nodes = a->nodes,
		.name = a->name,
	};
	struct sheaf_slab *slab;
	int err;

	/* A checker's red zone is for our own slabs; malloc has its own. */
	if (a->backend.ops ||
	    (!watch_writes(cache) && (slab_attr.object_size > SLAB_OBJECT_MAX ||
				      a->object_align > SLAB_ALIGN_MAX)))
		cache->block_size = a->object_size;
	if (a->backend.ops) {
		*backend = a->backend;
		return 0;
	}
	if (slab_attr.object_size > SLAB_OBJECT_MAX || a->object_align > SLAB_ALIGN_MAX)
		return sheaf_backend_malloc(backend, cache->block_size, a->object_align);
	err = sheaf_slab_create(&slab, &slab_attr);
	if (!err)
		*backend = sheaf_slab_backend(slab);
	return err;
}

static void barns_init(struct sheaf_cache *cache, const struct sheaf_cache_attr *a)
{
	uint32_t i;

	cache->fit_full = !a->barn_full;
	cache->fit_empty = !a->barn_empty;
	for (i = 0; i < cache->nodes; i++)
		sheaf_barn_init(&cache->node[i].barn, (int)i, default_limit(a->barn_full),
				default_limit(a->barn_empty));
}

/* What kind of slots, and why: the attribute, else the environment, else what there is. */
static bool choose_cpu_slots(const struct sheaf_cache_attr *a, const char **why)
{
	const char *asked = secure_getenv("SHEAF_SLOTS");

	if (a->slots == SHEAF_SLOTS_THREAD) {
		*why = "the attribute asks for slots per thread";
		return false;
	}
	if (!a->slots && asked && !strcmp(asked, "thread")) {
		*why = "SHEAF_SLOTS asks for slots per thread";
		return false;
	}
	return rseq_ready(why);
}

static void cache_delete(struct sheaf_cache *cache)
{
	uint32_t i;

	cache_trim_fini(cache);
	watch_destroy(cache);
	slots_delete(cache);
	for (i = 0; i < cache->nodes; i++)
		if (cache->node[i].notes)
			notes_delete(&cache->node[i]);
	pthread_mutex_destroy(&cache->remote_lock);
	pthread_mutex_destroy(&cache->phase_lock);
	pthread_mutex_destroy(&cache->trim_lock);
	memory_free(cache->node);
	memory_free(cache);
}

/* Slots, their capacity, and notes; false if there is no memory. */
static bool cache_parts(struct sheaf_cache *cache, const struct sheaf_cache_attr *a)
{
	uint32_t i;

	if (!module_pin() || (choose_cpu_slots(a, &cache->slots_why) && !cpu_slots_make(cache)))
		return false;
	if (cache->cpus.n)
		cache_fit_barns(cache, cache->cpus.n);
	/* Cheaper than to ask the system each time. */
	if (cache->cpus.n && cache->nodes > 1 && cache->spread == 1 && !a->current_node)
		cache->cpu_nodes = topology_cpu_nodes();
	cache->capacity =
		a->capacity ? a->capacity : default_capacity(a->object_size, cache->cpus.n);
	for (i = 0; cache->gp && i < cache->nodes; i++)
		if (!notes_make(&cache->node[i]))
			return false;
	return true;
}

/* Barns of one node: as asked, or as many as it has last-level caches. */
static unsigned barns_per_node(const struct sheaf_cache_attr *a)
{
	if (a->barns_per_node == SHEAF_BARN_PER_CACHE)
		return a->nodes || a->current_node ? 1 : topology_node_caches();
	return a->barns_per_node ? a->barns_per_node : 1;
}

/* How the system tells the place of a thread. */
static int (*system_place(unsigned spread))(void *)
{
	return spread > 1 ? topology_current_cache : topology_current_node;
}

/* Memory and attributes of a cache, without backend and number; NULL if there is no memory. */
static struct sheaf_cache *cache_new(const struct sheaf_cache_attr *a)
{
	struct sheaf_cache *cache = memory_zalloc(CACHE_LINE, sizeof(*cache));
	/* Always: the first time it reads files, which is not for signal handlers. */
	unsigned system_nodes = topology_nodes();

	if (!cache)
		return NULL;
	cache->spread = barns_per_node(a);
	cache->nodes = (a->nodes ? a->nodes : system_nodes) * cache->spread;
	cache->node = memory_zalloc(CACHE_LINE, cache->nodes * sizeof(*cache->node));
	if (!cache->node) {
		memory_free(cache);
		return NULL;
	}
	cache->object_size = a->object_size;
	cache->block_size = a->object_size + ANNOTATE_RED_ZONE;
	cache->gp = a->gp;
	cache->current_node = a->current_node ? a->current_node : system_place(cache->spread);
	cache->node_arg = a->node_arg;
	cache->overuse = a->overuse;
	cache->overuse_arg = a->overuse_arg;
	cache->ctor = a->ctor;
	cache->ctor_arg = a->ctor_arg;
	snprintf(cache->name, sizeof(cache->name), "%s", a->name ? a->name : "sheaf");
	pthread_mutex_init(&cache->remote_lock, NULL);
	pthread_mutex_init(&cache->phase_lock, NULL);
	pthread_mutex_init(&cache->trim_lock, NULL);
	budget_init(cache, a->budget);
	barns_init(cache, a);
	if (!cache_parts(cache, a)) {
		cache_delete(cache);
		return NULL;
	}
	return cache;
}

/* Fast paths may be taken from here on, or not at all. */
static void open_gate(struct sheaf_cache *cache)
{
	cache->gate.free_way = FREE_SLOWLY;
	cache->gate.id = UINT32_MAX;
	if (cache->watch)
		return;
	cache->gate.cpus = cache->cpus;
	cache->gate.id = cache->id;
	if (!cache->cross)
		cache->gate.free_way = cache->cpus.n ? FREE_TO_CPU : FREE_TO_THREAD;
}

/* Tasks, backend and number of a new cache; on failure none of them is left. */
static int cache_start(struct sheaf_cache *cache, const struct sheaf_cache_attr *a)
{
	int err = watch_create(cache, a), id;

	if (!err)
		err = cache_ripe_init(cache, a);
	if (err)
		return err;
	err = cache_trim_init(cache, a);
	if (!err)
		err = choose_backend(cache, a);
	if (err)
		goto undo_tasks;
	cache->stable = cache->backend.ops->stable || (cache->cross_of && cache->cross_of->stable);
	err = cache_fork_init();
	id = err ? -1 : registry_add(cache);
	if (id < 0) {
		err = -ENOMEM;
		goto undo_backend;
	}
	cache->id = (uint32_t)id;
	if (cache->watch)
		watch_numbered(cache);
	err = cache_cross_make(cache);
	if (!err) {
		open_gate(cache);
		return 0;
	}
	registry_remove(cache);
undo_backend:
	if (!a->backend.ops && cache->backend.ops->destroy)
		cache->backend.ops->destroy(cache->backend.ctx);
undo_tasks:
	cache_ripe_end(cache);
	return err;
}

int cache_create(struct sheaf_cache **cache, const struct sheaf_cache_attr *attr,
		 struct sheaf_cache *cross_of)
{
	struct sheaf_cache_attr a;
	struct sheaf_cache *c;
	int err;

	if (!attr || attr_copy(&a, sizeof(a), attr, attr->size, sizeof(a)) || !attr_valid(&a))
		return -EINVAL;
	c = cache_new(&a);
	if (!c)
		return -ENOMEM;
	c->cross_of = cross_of;
	c->closed = true;
	err = cache_start(c, &a);
	if (err) {
		cache_delete(c);
		return err;
	}
	annotate_pool_begin(c, c->ctor != NULL);
	if (!cross_of) {
		page_enter(c, &a);
		registry_open(c);
	}
	PROBE(cache_create, PROBE_CACHE(c), c->object_size, c->capacity);
	*cache = c;
	return 0;
}

int sheaf_cache_create(struct sheaf_cache **cache, const struct sheaf_cache_attr *attr)
{
	return cache_create(cache, attr, NULL);
}

int sheaf_cache_destroy(struct sheaf_cache *cache, size_t *live)
{
	int err = cache_barrier(cache);
	bool published = cache->published;
	struct sheaf_cache_stats stats;
	size_t out;

	if (live)
		*live = 0;
	if (err)
		return err;
	/* Else they may have something in their hands. */
	if (!cache->cross_of)
		registry_close(cache);
	cache_ripe_end(cache);
	sheaf_cache_shrink(cache);
	if (cache->cross_of)
		cache->backend_freed = cache->backend_allocated = 0;
	out = cache->backend_allocated - cache->backend_freed;
	if (live)
		*live = out;
	cache_count_loans(cache, &stats);
	PROBE(cache_destroy, PROBE_CACHE(cache), out);
	if (out || stats.lent_sheaves) {
		if (cache->watch)
			watch_leaks(cache, stats.lent_sheaves);
		cache_ripe_again(cache);
		registry_open(cache);
		return -EBUSY;
	}

	if (cache->cross)
		sheaf_cache_destroy(cache->cross, NULL);
	registry_remove(cache);
	annotate_pool_end(cache);
	if (cache->backend.ops->destroy)
		cache->backend.ops->destroy(cache->backend.ctx);
	cache_delete(cache);
	page_leave(published);
	return 0;
}

int sheaf_cache_set_capacity(struct sheaf_cache *cache, uint32_t capacity)
{
	struct sheaf *list = NULL, *sheaf;
	uint32_t i;

	if (!capacity || capacity > CAPACITY_MAX)
		return -EINVAL;
	PROBE(capacity, PROBE_CACHE(cache), cache_capacity(cache), capacity);
	store_relaxed(&cache->capacity, capacity);
	if (cache->cross)
		sheaf_cache_set_capacity(cache->cross, capacity);
	/* Empty ones of the old capacity; those on their way go by sheaf_dispose() and
	 * sheaf_renew(). */
	for (i = 0; i < cache->nodes; i++)
		while ((sheaf = sheaf_barn_take_empty(&cache->node[i].barn)) != NULL) {
			sheaf->link = list;
			list = sheaf;
		}
	while ((sheaf = list) != NULL) {
		list = sheaf->link;
		sheaf_dispose(cache, sheaf);
	}
	return 0;
}

void sheaf_cache_set_barn_limits(struct sheaf_cache *cache, uint32_t full, uint32_t empty)
{
	uint32_t i;

	/* Else who makes a slot meanwhile, and has seen that limits follow the slots, sets them last. */
	registry_hold();
	store_relaxed(&cache->fit_full, false);
	store_relaxed(&cache->fit_empty, false);
	for (i = 0; i < cache->nodes; i++)
		sheaf_barn_set_limits(&cache->node[i].barn, full, empty);
	registry_let_go();
}
