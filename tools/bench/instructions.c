/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Instructions per operation, counted by Callgrind inside one function of the library and
 * what it calls. Each is counted for N and for 2 N operations; the difference is free of
 * the set-up. The grace-period source is stepped by hand, so that no thread runs beside
 * and the count is the same each time.
 */
#include "bench.h"

#include <errno.h>
#include <limits.h>
#include <sheaf/slab.h>
#include <sheaf/tree.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPERATIONS 16384
#define BATCH 32
#define TREE_KEYS 10000
#define BIG_KEYS 100000
#define TOLERANCE 1.05
#define EXIT_SKIP 77

struct counted {
	struct sheaf_gp_manual gp;
	struct sheaf_cache *cache;
	struct sheaf_tree *tree;
	void *objects[BATCH];
	/* A tree of keys from all 64 bits: those of the numbers low to high - 1. */
	struct sheaf_tree *big;
	uint64_t low;
	uint64_t high;
	uint64_t loads;
};

static void count_alloc(struct counted *c)
{
	unsigned i;

	for (i = 0; i < BATCH; i++)
		c->objects[i] = sheaf_cache_alloc(c->cache, 0);
	for (i = 0; i < BATCH; i++)
		sheaf_cache_free(c->cache, c->objects[i]);
}

static void count_retire(struct counted *c)
{
	unsigned i;

	for (i = 0; i < BATCH; i++)
		sheaf_cache_free_rcu(c->cache, sheaf_cache_alloc(c->cache, 0));
	sheaf_gp_manual_step(&c->gp);
}

static void count_section(struct counted *c)
{
	struct sheaf *sheaf = sheaf_cache_prefill(c->cache, BATCH, 0);
	unsigned i;

	for (i = 0; sheaf && i < BATCH; i++)
		c->objects[i] = sheaf_cache_alloc_from(c->cache, sheaf);
	sheaf_cache_return(c->cache, sheaf);
	for (i = 0; i < BATCH; i++)
		sheaf_cache_free(c->cache, c->objects[i]);
}

/* Any key, but the same ones each time. */
static uint64_t tree_key(unsigned i)
{
	static uint64_t state;

	state = state * UINT64_C(6364136223846793005) + 1442695040888963407 + i;
	return (state >> 33) % TREE_KEYS;
}

static void count_load(struct counted *c)
{
	unsigned i;

	for (i = 0; i < BATCH; i++)
		if (!sheaf_tree_load(c->tree, tree_key(i)))
			abort();
}

static void count_store(struct counted *c)
{
	unsigned i;

	for (i = 0; i < BATCH; i++) {
		uint64_t key = tree_key(i);

		if (sheaf_tree_store(c->tree, key, key, c))
			abort();
	}
	sheaf_gp_manual_step(&c->gp);
}

/* A bijection on 64 bits. */
static uint64_t big_key(uint64_t i)
{
	i = (i ^ (i >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	i = (i ^ (i >> 27)) * UINT64_C(0x94d049bb133111eb);
	return i ^ (i >> 31);
}

static void big_store(struct counted *c)
{
	const uint64_t key = big_key(c->high++);

	if (sheaf_tree_store(c->big, key, key, c))
		abort();
}

static void count_big_load(struct counted *c)
{
	unsigned i;

	for (i = 0; i < BATCH; i++)
		if (!sheaf_tree_load(c->big, big_key(c->loads++ * 7919 % BIG_KEYS)))
			abort();
}

/* New keys come, the oldest go: the tree stays as large as it is, and as full. */
static void count_big_write(struct counted *c)
{
	unsigned i;

	for (i = 0; i < BATCH; i++) {
		big_store(c);
		if (sheaf_tree_erase(c->big, big_key(c->low++), NULL))
			abort();
	}
	sheaf_gp_manual_step(&c->gp);
}

static const struct {
	const char *name;
	const char *function;
	void (*batch)(struct counted *c);
} counts[] = {
	{"alloc", "sheaf_cache_alloc", count_alloc},
	{"free", "sheaf_cache_free", count_alloc},
	{"free_rcu", "sheaf_cache_free_rcu", count_retire},
	{"alloc_from", "sheaf_cache_alloc_from", count_section},
	{"tree_load", "sheaf_tree_load", count_load},
	{"tree_store", "sheaf_tree_store", count_store},
	{"tree_load_100k", "sheaf_tree_load", count_big_load},
	{"tree_store_100k", "sheaf_tree_store", count_big_write},
	{"tree_erase_100k", "sheaf_tree_erase", count_big_write},
};

#define N_COUNTS (sizeof(counts) / sizeof(counts[0]))

/* Stored one by one, in no order. */
static int big_setup(struct counted *c)
{
	struct sheaf_tree_attr attr = {.size = sizeof(attr), .gp = &c->gp.gp};
	int err = sheaf_tree_create(&c->big, &attr);

	while (!err && c->high < BIG_KEYS) {
		big_store(c);
		if (c->high % BATCH == 0)
			sheaf_gp_manual_step(&c->gp);
	}
	return err;
}

static int counted_setup(struct counted *c)
{
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 256, .gp = &c->gp.gp, .nodes = 1};
	struct sheaf_tree_attr tree_attr = {.size = sizeof(tree_attr), .gp = &c->gp.gp};
	uint64_t key;
	int err;

	sheaf_gp_manual_init(&c->gp, 0);
	err = sheaf_cache_create(&c->cache, &attr);
	if (!err)
		err = sheaf_tree_create(&c->tree, &tree_attr);
	for (key = 0; !err && key < TREE_KEYS; key++) {
		err = sheaf_tree_store(c->tree, key, key, c);
		if (key % BATCH == 0)
			sheaf_gp_manual_step(&c->gp);
	}
	return err;
}

/* --count OPERATION N: runs under Callgrind. */
int instruction_child(const char *op, uint64_t n)
{
	static struct counted c;
	uint64_t done;
	size_t i;

	for (i = 0; i < N_COUNTS; i++)
		if (strcmp(counts[i].name, op) == 0)
			break;
	/* Caches are not watched for the sake of Callgrind. */
	setenv("SHEAF_DEBUG", "none", 1);
	if (i == N_COUNTS || counted_setup(&c))
		return 1;
	if (strstr(op, "_100k") && big_setup(&c))
		return 1;
	/* Warm up, so that N does not decide how many batches are special. */
	for (done = 0; done < 4096; done += BATCH)
		counts[i].batch(&c);
	for (done = 0; done < n; done += BATCH)
		counts[i].batch(&c);
	return 0;
}

/* Instructions in a run of n; negative after a message. */
static double collect(size_t which, uint64_t n)
{
	char self[PATH_MAX] = "", toggle[64], number[32];
	char *argv[] = {(char *)"valgrind",
			(char *)"--tool=callgrind",
			(char *)"--log-fd=1",
			(char *)"--callgrind-out-file=/dev/null",
			(char *)"--collect-atstart=no",
			toggle,
			self,
			(char *)"--count",
			(char *)counts[which].name,
			number,
			NULL};
	struct child child;
	const char *line, *found;
	char words[256] = "";
	double total = -1;
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[length > 0 ? length : 0] = '\0';
	snprintf(toggle, sizeof(toggle), "--toggle-collect=%s", counts[which].function);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)n);
	if (!child_start(&child, argv, NULL, "valgrind")) {
		fprintf(stderr, "sheaf-bench: %s\n", child.failure);
		return -1;
	}
	while ((line = child_hear(&child, 300, NULL))) {
		found = strstr(line, "Collected :");
		if (found)
			total = strtod(found + 11, NULL);
		/* "==PID== " and a text, or nothing. */
		found = strrchr(line, '=');
		if (total < 0 && found && strlen(found) > 4)
			snprintf(words, sizeof(words), "%.190s; ", found + 2);
	}
	if (total < 0)
		fprintf(stderr, "sheaf-bench: counting %s: %s%s\n", counts[which].name, words,
			child.failure);
	child_end(&child);
	return total;
}

/* The whole file, cut at some size; NULL after a message. */
static char *baseline_read(const char *file)
{
	static char text[65536];
	FILE *in = fopen(file, "re");
	size_t n;

	if (!in) {
		fprintf(stderr, "sheaf-bench: %s: %s\n", file, strerror(errno));
		return NULL;
	}
	n = fread(text, 1, sizeof(text) - 1, in);
	fclose(in);
	text[n] = '\0';
	return text;
}

/* The object of this build in {"BUILD": {"alloc": 20.0, ...}, ...}; cut off behind it. */
static const char *baseline_here(char *text)
{
	char key[128], *here;

	snprintf(key, sizeof(key), "\"%s\"", build_key());
	here = strstr(text, key);
	if (here)
		here[strcspn(here, "}")] = '\0';
	return here;
}

static double baseline_of(const char *here, const char *name)
{
	char key[40];
	const char *place;

	snprintf(key, sizeof(key), "\"%s\":", name);
	place = here ? strstr(here, key) : NULL;
	return place ? strtod(place + strlen(key), NULL) : 0;
}

static int instructions_write(const char *file, const double *each)
{
	FILE *out = strcmp(file, "-") == 0 ? stdout : fopen(file, "we");
	size_t i;
	int err;

	if (!out) {
		fprintf(stderr, "sheaf-bench: %s: %s\n", file, strerror(errno));
		return 1;
	}
	fprintf(out, "{");
	json_string(out, build_key());
	fprintf(out, ": {");
	for (i = 0; i < N_COUNTS; i++)
		fprintf(out, "%s\"%s\": %.2f", i ? ", " : "", counts[i].name, each[i]);
	fprintf(out, "}}\n");
	err = fflush(out) || ferror(out);
	if (out != stdout)
		err |= fclose(out) != 0;
	if (err)
		fprintf(stderr, "sheaf-bench: %s: not written\n", file);
	return err;
}

int instructions_main(const char *baseline, const char *json)
{
	char *text = baseline ? baseline_read(baseline) : NULL;
	const char *here = text ? baseline_here(text) : NULL;
	double each[N_COUNTS];
	int failures = 0;
	size_t i;

	if (baseline && !text)
		return 1;
	if (baseline && !here) {
		printf("%s has no figures for %s\n", baseline, build_key());
		return EXIT_SKIP;
	}
	printf("instructions per operation, %s\n", build_key());
	for (i = 0; i < N_COUNTS; i++) {
		double base, once = collect(i, OPERATIONS);
		double twice = once < 0 ? once : collect(i, 2 * OPERATIONS);

		if (twice < 0)
			return 1;
		each[i] = (twice - once) / OPERATIONS;
		base = baseline_of(here, counts[i].name);
		printf("  %-15s %8.2f", counts[i].name, each[i]);
		if (base > 0)
			printf("  baseline %8.2f  %+.1f %%%s", base, (each[i] / base - 1) * 100,
			       each[i] > base * TOLERANCE ? "  TOO MANY" : "");
		printf("\n");
		fflush(stdout);
		failures += baseline && (base <= 0 || each[i] > base * TOLERANCE);
	}
	if (json && instructions_write(json, each))
		failures++;
	return failures ? 1 : 0;
}
