/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* A backend of your own: objects inside a shared-memory pool, in huge pages where there are some.
 * Another process that maps the pool finds an object by its offset. */
#define _GNU_SOURCE
#include <sheaf/cache.h>

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL_BYTES ((size_t)4 << 20)
#define OBJECT_BYTES 256
#define OBJECTS (POOL_BYTES / OBJECT_BYTES)

struct pool {
	pthread_mutex_t mutex;
	int fd;
	char *memory;
	size_t free;
	uint32_t number[OBJECTS]; /* of the first `free` objects that are free */
};

/* All or part. Under SHEAF_NOWAIT the mutex is only tried. */
static size_t pool_alloc(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	struct pool *pool = ctx;
	size_t got = 0;

	(void)node;
	if (!(flags & SHEAF_NOWAIT))
		pthread_mutex_lock(&pool->mutex);
	else if (pthread_mutex_trylock(&pool->mutex))
		return 0;
	while (got < n && pool->free)
		objects[got++] = pool->memory + (size_t)pool->number[--pool->free] * OBJECT_BYTES;
	pthread_mutex_unlock(&pool->mutex);
	return got;
}

static void pool_free(void *ctx, size_t n, void *const *objects)
{
	struct pool *pool = ctx;

	pthread_mutex_lock(&pool->mutex);
	for (size_t i = 0; i < n; i++) {
		size_t offset = (size_t)((char *)objects[i] - pool->memory);

		pool->number[pool->free++] = (uint32_t)(offset / OBJECT_BYTES);
	}
	pthread_mutex_unlock(&pool->mutex);
}

static const struct sheaf_backend_ops pool_ops = {
	.name = "pool",
	.alloc_bulk = pool_alloc,
	.free_bulk = pool_free,
};

/* Memory of a file that has no name: of huge pages, else of plain ones. */
static int pool_map(struct pool *pool, unsigned kind)
{
	pool->memory = MAP_FAILED;
	pool->fd = memfd_create("pool", MFD_CLOEXEC | kind);
	if (pool->fd >= 0 && ftruncate(pool->fd, (off_t)POOL_BYTES) == 0)
		pool->memory =
			mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, pool->fd, 0);
	if (pool->memory == MAP_FAILED && pool->fd >= 0)
		close(pool->fd);
	return pool->memory == MAP_FAILED ? -1 : 0;
}

int main(void)
{
	static struct pool pool = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	static void *objects[OBJECTS + 1];
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = OBJECT_BYTES};
	struct sheaf_cache *cache;
	size_t got;
	char *seen;

	if (pool_map(&pool, MFD_HUGETLB) && pool_map(&pool, 0))
		return 1;
	for (pool.free = 0; pool.free < OBJECTS; pool.free++)
		pool.number[pool.free] = (uint32_t)pool.free;

	attr.backend = (struct sheaf_backend){.ops = &pool_ops, .ctx = &pool};
	if (sheaf_cache_create(&cache, &attr))
		return 1;
	/* More than there are: the pool is the limit, and the cache says so. */
	got = sheaf_cache_alloc_bulk(cache, 0, OBJECTS + 1, objects);
	if (got != OBJECTS || sheaf_cache_alloc(cache, 0))
		return 1;

	/* As another process would see it. */
	seen = mmap(NULL, POOL_BYTES, PROT_READ, MAP_SHARED, pool.fd, 0);
	if (seen == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < got; i++)
		snprintf(objects[i], OBJECT_BYTES, "object %zu", i);
	printf("at offset %td: %s\n", (char *)objects[7] - pool.memory,
	       seen + ((char *)objects[7] - pool.memory));

	sheaf_cache_free_bulk(cache, got, objects);
	if (sheaf_cache_destroy(cache, NULL) || pool.free != OBJECTS)
		return 1;
	munmap(seen, POOL_BYTES);
	munmap(pool.memory, POOL_BYTES);
	return close(pool.fd) ? 1 : 0;
}
