/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Objects from elsewhere: the limit, malloc (whichever one this process has), and a free
 * list of Concurrency Kit.
 */
#include "peer_generic.h"
#include "peers_in.h"

#include <ck_stack.h>
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The limit: an array of pointers that no other thread sees ---- */

struct limit {
	size_t size;
	size_t per_thread;
};

static __thread void **limit_objects;
static __thread size_t limit_size;
static __thread void *limit_memory;

static void *limit_setup(const struct bench_env *env)
{
	struct limit *limit = calloc(1, sizeof(*limit));

	if (!limit)
		return NULL;
	limit->size = (env->param[PARAM_SIZE] + 15) & ~(size_t)15;
	limit->per_thread = (env->live + env->param[PARAM_THREADS] - 1) / env->param[PARAM_THREADS];
	return limit;
}

static void limit_teardown(void *ctx)
{
	free(ctx);
}

static void limit_enter(void *ctx, unsigned thread)
{
	const struct limit *limit = ctx;
	size_t i;

	(void)thread;
	limit_objects = calloc(limit->per_thread, sizeof(void *));
	limit_memory = aligned_alloc(64, (limit->per_thread * limit->size + 63) & ~(size_t)63);
	if (!limit_objects || !limit_memory) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	for (i = 0; i < limit->per_thread; i++)
		limit_objects[i] = (char *)limit_memory + i * limit->size;
	limit_size = limit->per_thread;
}

static void limit_leave(void *ctx)
{
	(void)ctx;
	free(limit_objects);
	free(limit_memory);
}

static void *limit_alloc(void *ctx)
{
	(void)ctx;
	return limit_size ? limit_objects[--limit_size] : NULL;
}

static void limit_free(void *ctx, void *object)
{
	(void)ctx;
	limit_objects[limit_size++] = object;
}

static ALLOC_BULK_LOOP(limit_alloc_bulk, limit_alloc) static FREE_BULK_LOOP(limit_free_bulk, limit_free) static SECTION_BEGIN_BULK(
	limit_section_begin,
	limit_alloc_bulk) static SECTION_ALLOC_BULK(limit_section_alloc) static SECTION_END_BULK(limit_section_end,
												 limit_free_bulk)

	static const struct object_ops limit_ops = {
		.setup = limit_setup,
		.teardown = limit_teardown,
		.enter = limit_enter,
		.leave = limit_leave,
		.alloc = limit_alloc,
		.free = limit_free,
		.alloc_bulk = limit_alloc_bulk,
		.free_bulk = limit_free_bulk,
		.section_begin = limit_section_begin,
		.section_alloc = limit_section_alloc,
		.section_end = limit_section_end,
};

const struct bench_peer peer_limit = {.object = &limit_ops};

/* ---- malloc ---- */

/* Functions of a malloc that may be there, by name; the union turns data into code. */
union found {
	void *data;
	int (*mallctl)(const char *, void *, size_t *, void *, size_t);
	int (*mi_version)(void);
	void (*mi_collect)(bool);
	void (*tc_idle)(void);
	const char *(*tc_version)(int *, int *, const char **);
};

static union found cold_jemalloc, cold_mimalloc, cold_tcmalloc;

static void *malloc_setup(const struct bench_env *env)
{
	size_t *size = malloc(sizeof(*size));

	cold_jemalloc.data = dlsym(RTLD_DEFAULT, "mallctl");
	cold_mimalloc.data = dlsym(RTLD_DEFAULT, "mi_collect");
	cold_tcmalloc.data = dlsym(RTLD_DEFAULT, "MallocExtension_MarkThreadIdle");
	if (size)
		*size = env->param[PARAM_SIZE];
	return size;
}

static void malloc_teardown(void *ctx)
{
	free(ctx);
}

/* glibc has no such call; its cache per thread holds 7 objects of a size. */
static void malloc_cold(void *ctx)
{
	(void)ctx;
	if (cold_jemalloc.data)
		cold_jemalloc.mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
	if (cold_mimalloc.data)
		cold_mimalloc.mi_collect(false);
	if (cold_tcmalloc.data)
		cold_tcmalloc.tc_idle();
}

static void *malloc_alloc(void *ctx)
{
	return malloc(*(const size_t *)ctx);
}

static void malloc_free(void *ctx, void *object)
{
	(void)ctx;
	free(object);
}

static ALLOC_BULK_LOOP(malloc_alloc_bulk, malloc_alloc) static FREE_BULK_LOOP(malloc_free_bulk, malloc_free) static SECTION_BEGIN_BULK(
	malloc_section_begin,
	malloc_alloc_bulk) static SECTION_ALLOC_BULK(malloc_section_alloc) static SECTION_END_BULK(malloc_section_end,
												   malloc_free_bulk)

	static const struct object_ops malloc_ops = {
		.cold = malloc_cold,
		.setup = malloc_setup,
		.teardown = malloc_teardown,
		.alloc = malloc_alloc,
		.free = malloc_free,
		.alloc_bulk = malloc_alloc_bulk,
		.free_bulk = malloc_free_bulk,
		.section_begin = malloc_section_begin,
		.section_alloc = malloc_section_alloc,
		.section_end = malloc_section_end,
};

void malloc_version(char *text, size_t bytes)
{
	union found f;
	const char *version;
	size_t n = sizeof(version);
	int major, minor;

	f.data = dlsym(RTLD_DEFAULT, "mallctl");
	if (f.data && f.mallctl("version", &version, &n, NULL, 0) == 0) {
		snprintf(text, bytes, "%.*s", (int)strcspn(version, "-"), version);
		return;
	}
	f.data = dlsym(RTLD_DEFAULT, "mi_version");
	if (f.data) {
		int v = f.mi_version();

		snprintf(text, bytes, "%d.%d.%d", v / 100, v / 10 % 10, v % 10);
		return;
	}
	f.data = dlsym(RTLD_DEFAULT, "tc_version");
	if (f.data) {
		snprintf(text, bytes, "%s", f.tc_version(&major, &minor, &version));
		return;
	}
	snprintf(text, bytes, "%s", gnu_get_libc_version());
}

const struct bench_peer peer_malloc = {.object = &malloc_ops, .version = malloc_version};

/* ---- ck_stack: one free list for all threads, over objects set aside at the start ---- */

struct list {
	ck_stack_t stack;
	void *memory;
};

static void *list_setup(const struct bench_env *env)
{
#ifdef CK_F_STACK_POP_MPMC
	size_t size = (env->param[PARAM_SIZE] + 15) & ~(size_t)15, i;
	struct list *list = aligned_alloc(64, (sizeof(*list) + 63) & ~(size_t)63);

	if (!list)
		return NULL;
	ck_stack_init(&list->stack);
	list->memory = aligned_alloc(64, (env->live * size + 63) & ~(size_t)63);
	if (!list->memory) {
		fprintf(stderr, "out of memory\n");
		free(list);
		return NULL;
	}
	for (i = env->live; i-- > 0;)
		ck_stack_push_spnc(&list->stack,
				   (ck_stack_entry_t *)((char *)list->memory + i * size));
	return list;
#else
	(void)env;
	fprintf(stderr, "ck_stack has no pop for many consumers on this machine\n");
	return NULL;
#endif
}

static void list_teardown(void *ctx)
{
	struct list *list = ctx;

	free(list->memory);
	free(list);
}

static void *list_alloc(void *ctx)
{
#ifdef CK_F_STACK_POP_MPMC
	return ck_stack_pop_mpmc(&((struct list *)ctx)->stack);
#else
	return ctx;
#endif
}

static void list_free(void *ctx, void *object)
{
	ck_stack_push_upmc(&((struct list *)ctx)->stack, object);
}

static ALLOC_BULK_LOOP(list_alloc_bulk, list_alloc) static FREE_BULK_LOOP(list_free_bulk, list_free) static SECTION_BEGIN_BULK(
	list_section_begin,
	list_alloc_bulk) static SECTION_ALLOC_BULK(list_section_alloc) static SECTION_END_BULK(list_section_end,
											       list_free_bulk)

	static const struct object_ops list_ops = {
		.setup = list_setup,
		.teardown = list_teardown,
		.alloc = list_alloc,
		.free = list_free,
		.alloc_bulk = list_alloc_bulk,
		.free_bulk = list_free_bulk,
		.section_begin = list_section_begin,
		.section_alloc = list_section_alloc,
		.section_end = list_section_end,
};

static void list_version(char *text, size_t bytes)
{
	snprintf(text, bytes, "%s", CK_VERSION);
}

const struct bench_peer peer_ck_stack = {
	.object = &list_ops, .pool = &pool_ck_stack, .version = list_version};
