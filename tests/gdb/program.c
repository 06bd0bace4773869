/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A program for gdb: brings objects into each state that they can be in, prints what it knows of them, and stops
 * in a function of its own. gdb has to find the same.
 */
#define _GNU_SOURCE
#include <sheaf/cache.h>
#include <sheaf/debug.h>
#include <sheaf/tree.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define OBJECTS 200

static struct sheaf_gp_manual manual;
struct sheaf_cache *cache, *watched;
struct sheaf_tree *tree;
/* The same as cache, by a name that no function of the library has. */
struct sheaf_cache *counted;

static void must(int err)
{
	if (err)
		exit(1);
}

static void *get(struct sheaf_cache *from)
{
	void *object = sheaf_cache_alloc(from, 0);

	if (!object)
		exit(1);
	return object;
}

/* Where gdb stops. The sheaf that is lent is a variable here. */
static __attribute__((noinline)) void stop_here(struct sheaf *lent)
{
	__asm__ volatile("" : : "r"(lent) : "memory");
}

static void show(const char *state, const void *object)
{
	printf("find %s %p\n", state, object);
}

static void fill_tree(void)
{
	struct sheaf_tree_attr attr = {.size = sizeof(attr), .gp = &manual.gp};
	uint64_t i;

	must(sheaf_tree_create(&tree, &attr));
	for (i = 0; i < 40; i++)
		must(sheaf_tree_store(tree, i * 100, i * 100 + (i & 1 ? 9 : 0), &manual));
	must(sheaf_tree_erase(tree, 300, NULL));
	must(sheaf_tree_check(tree) != NULL);
}

/* Freed ones stay in the quarantine of debug mode. */
static void *watch_one(void)
{
	struct sheaf_debug_attr debug = {
		.size = sizeof(debug), .flags = SHEAF_DEBUG_REDZONE, .quarantine = 16};
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 80, .name = "watched", .debug = &debug};
	void *object;

	must(sheaf_cache_create(&watched, &attr));
	object = get(watched);
	sheaf_cache_free(watched, object);
	return object;
}

/* What lies in which slot is to be the same with slots per CPU. */
static void stay_here(void)
{
	cpu_set_t set;
	int cpu = sched_getcpu();

	CPU_ZERO(&set);
	if (cpu >= 0)
		CPU_SET((unsigned)cpu, &set);
	if (cpu < 0 || sched_setaffinity(0, sizeof(set), &set))
		perror("may move to another CPU");
}

int main(void)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr),
					.object_size = 100,
					.name = "stopped",
					.capacity = 12,
					.nodes = 1,
					.gp = &manual.gp};
	void *objects[OBJECTS], *quarantined;
	struct sheaf_cache_stats stats;
	struct sheaf *lent;
	unsigned i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	stay_here();
	sheaf_gp_manual_init(&manual, 1);
	must(sheaf_cache_create(&cache, &attr));
	counted = cache;
	fill_tree();
	quarantined = watch_one();
	for (i = 0; i < OBJECTS; i++)
		objects[i] = get(cache);
	/* 60 go to slot and barn, 40 are retired: three sheaves sealed, the rest in the slot. */
	for (i = 0; i < 60; i++)
		sheaf_cache_free(cache, objects[i]);
	for (; i < 100; i++)
		sheaf_cache_free_rcu(cache, objects[i]);
	lent = sheaf_cache_prefill(cache, 5, 0);
	if (!lent)
		return 1;

	sheaf_cache_stats(cache, &stats, sizeof(stats));
	printf("cache stopped 100 12 %u %llu %llu %llu %llu\n", OBJECTS - 100,
	       (unsigned long long)stats.held_slots, (unsigned long long)stats.held_barns,
	       (unsigned long long)stats.in_flight, (unsigned long long)stats.held_lent);
	printf("trips %llu %llu %llu %llu %llu\n", (unsigned long long)stats.barn_alloc_trips,
	       (unsigned long long)stats.barn_free_trips,
	       (unsigned long long)stats.backend_alloc_trips,
	       (unsigned long long)stats.backend_free_trips, (unsigned long long)stats.sealed);
	show("use", objects[150]);
	show("barn", objects[0]);
	show("ripening", objects[60]);
	show("rcu", objects[99]);
	show("slot", objects[59]);
	show("lent", lent->objects[0]);
	show("quarantine", quarantined);
	show("none", &attr);
	stop_here(lent);
	/* Their ticket is the very one that has elapsed then. */
	sheaf_gp_manual_step(&manual);
	show("ripe", objects[60]);
	stop_here(lent);

	sheaf_cache_return(cache, lent);
	for (i = 100; i < OBJECTS; i++)
		sheaf_cache_free(cache, objects[i]);
	puts("end");
	return 0;
}
