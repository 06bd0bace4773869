/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What can be run, and with which numbers. Rows marked `true` are the standard run. */
#include "bench.h"
#include "pattern.h"

static const struct scenario scenarios[] = {
	{.name = "pair",
	 .what = "allocate a batch, free it in the same order",
	 .op = "object there and back",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_pair},
	{.name = "shuffle",
	 .what = "allocate many, free them in random order",
	 .op = "object there and back",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_shuffle},
	{.name = "larson",
	 .what = "replace objects at random places; other threads free them",
	 .op = "object replaced",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_larson,
	 .crosses = true},
	{.name = "pipe",
	 .what = "one thread allocates, another frees",
	 .op = "object through the pipe",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_pipe,
	 .crosses = true},
	{.name = "crowd",
	 .what = "pair with many more threads than cores",
	 .op = "object there and back",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_crowd},
	{.name = "bulk",
	 .what = "allocate and free by arrays",
	 .op = "object there and back",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_bulk},
	{.name = "refill",
	 .what = "allocate many by an array, with nothing in the caches",
	 .op = "object allocated",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_refill},
	{.name = "scatter",
	 .what = "free many in random order",
	 .op = "object freed",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_scatter},
	{.name = "scatter-bulk",
	 .what = "free many in random order, by an array",
	 .op = "object freed",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_scatter_bulk},
	{.name = "prefill",
	 .what = "set aside for a worst case, use some, give the rest back",
	 .op = "section",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_prefill},
	{.name = "retire",
	 .what = "allocate, and free after a grace period",
	 .op = "object retired",
	 .class = CLASS_RETIRE,
	 .pattern = &pattern_retire,
	 .sampled = true},
	{.name = "tree-load",
	 .what = "look up random keys that are there",
	 .op = "lookup",
	 .class = CLASS_POINTS,
	 .pattern = &pattern_tree_load},
	{.name = "tree-scan",
	 .what = "visit 1000 entries in order from a random key",
	 .op = "entry visited",
	 .class = CLASS_POINTS,
	 .pattern = &pattern_tree_scan},
	{.name = "tree-fill",
	 .what = "store all keys into an empty tree",
	 .op = "store",
	 .class = CLASS_POINTS,
	 .pattern = &pattern_tree_fill},
	{.name = "tree-append",
	 .what = "store all keys into an empty tree in ascending order, by cursor or with a hint",
	 .op = "store",
	 .class = CLASS_POINTS,
	 .pattern = &pattern_tree_append},
	{.name = "tree-erase",
	 .what = "erase all keys, last stored first",
	 .op = "erase",
	 .class = CLASS_POINTS,
	 .pattern = &pattern_tree_erase},
	{.name = "tree-mixed",
	 .what = "readers look up alone, then while one writer erases and stores",
	 .op = "lookup",
	 .class = CLASS_POINTS,
	 .pattern = &pattern_tree_mixed},
	{.name = "tree-vma",
	 .what = "an address space: nine lookups, then unmap or map at the highest gap",
	 .op = "lookup, map or unmap",
	 .class = CLASS_RANGES,
	 .pattern = &pattern_tree_vma},
	{.name = "tree-vma-load",
	 .what = "look up random pages in the ranges of an address space",
	 .op = "lookup",
	 .class = CLASS_RANGES,
	 .pattern = &pattern_tree_vma_load},
	{.name = "barn",
	 .what = "an empty sheaf for a full one, then that for an empty one",
	 .op = "trade",
	 .class = CLASS_POOL,
	 .pattern = &pattern_barn},
	{.name = "pace",
	 .what = "retire with grace periods and limits of all kinds; our own side only",
	 .op = "object retired",
	 .class = CLASS_RETIRE,
	 .pattern = &pattern_retire,
	 .sampled = true,
	 .own = true},
	{.name = "trips",
	 .what = "trips per operation with injected nodes; our own side only",
	 .op = "operation",
	 .class = CLASS_OBJECT,
	 .pattern = &pattern_trips,
	 .own = true},
};

enum {
	PAIR,
	SHUFFLE,
	LARSON,
	PIPE,
	CROWD,
	BULK,
	REFILL,
	SCATTER,
	SCATTER_BULK,
	PREFILL,
	RETIRE,
	LOAD,
	SCAN,
	FILL,
	APPEND,
	ERASE,
	MIXED,
	VMA,
	VMA_LOAD,
	BARN,
	PACE,
	TRIPS
};

const struct trip_pattern trip_patterns[TRIP_PATTERNS] = {
	{"pair", &pattern_pair},
	{"shuffle", &pattern_shuffle},
	{"larson", &pattern_larson},
	{"pipe", &pattern_pipe},
	[TRIP_REMOTE] = {"remote", &pattern_pipe},
};

#define MILLION UINT64_C(1000000)

#define P(name) [PARAM_##name]
#define OBJECTS(n) P(SIZE) = (n)
#define TREE(n, order) P(KEYS) = (n), P(ORDER) = ORDER_##order

#define NO_LIMIT 65536
#define PACED(spacing, limit, readers)                                                             \
	OBJECTS(256), P(THREADS) = 1, P(SPACING) = (spacing), P(LIMIT) = (limit),                  \
		      P(READERS) = (readers)

/* PARAM_NODES of 0 means the system's and is not shown. */
static const struct row {
	unsigned scenario;
	bool standard;
	uint64_t param[BENCH_PARAMS];
} rows[] = {
	{PAIR, true, {OBJECTS(256), P(BATCH) = 1, P(THREADS) = 1}},
	{PAIR, true, {OBJECTS(256), P(BATCH) = 32, P(THREADS) = 1}},
	{PAIR, true, {OBJECTS(256), P(BATCH) = 512, P(THREADS) = 1}},
	{PAIR, true, {OBJECTS(256), P(BATCH) = 32, P(THREADS) = 2}},
	{PAIR, false, {OBJECTS(256), P(BATCH) = 32, P(THREADS) = 4}},
	{PAIR, false, {OBJECTS(256), P(BATCH) = 32, P(THREADS) = 8}},
	{PAIR, false, {OBJECTS(64), P(BATCH) = 32, P(THREADS) = 1}},
	{PAIR, false, {OBJECTS(1024), P(BATCH) = 32, P(THREADS) = 1}},
	{SHUFFLE, true, {OBJECTS(256), P(LIVE) = 512, P(THREADS) = 1}},
	{SHUFFLE, false, {OBJECTS(256), P(LIVE) = 512, P(THREADS) = 2}},
	{LARSON, false, {OBJECTS(256), P(LIVE) = 1000, P(THREADS) = 1}},
	{LARSON, true, {OBJECTS(256), P(LIVE) = 1000, P(THREADS) = 2}},
	{LARSON, false, {OBJECTS(256), P(LIVE) = 1000, P(THREADS) = 4}},
	{LARSON, false, {OBJECTS(256), P(LIVE) = 1000, P(THREADS) = 8}},
	{PIPE, true, {OBJECTS(256), P(THREADS) = 2}},
	{PIPE, false, {OBJECTS(256), P(THREADS) = 4}},
	{PIPE, false, {OBJECTS(256), P(THREADS) = 8}},
	{CROWD, false, {OBJECTS(256), P(BATCH) = 128, P(THREADS) = 16}},
	{CROWD, true, {OBJECTS(256), P(BATCH) = 128, P(THREADS) = 64}},
	{CROWD, true, {OBJECTS(4096), P(BATCH) = 4, P(THREADS) = 64}},
	{CROWD, false, {OBJECTS(4096), P(BATCH) = 4, P(THREADS) = 256}},
	{BULK, true, {OBJECTS(256), P(BATCH) = 32, P(THREADS) = 1}},
	{BULK, false, {OBJECTS(256), P(BATCH) = 512, P(THREADS) = 1}},
	{REFILL, false, {OBJECTS(64), P(BATCH) = 10000, P(USED) = 0, P(THREADS) = 1}},
	{REFILL, true, {OBJECTS(256), P(BATCH) = 10000, P(USED) = 0, P(THREADS) = 1}},
	{REFILL, false, {OBJECTS(1024), P(BATCH) = 10000, P(USED) = 0, P(THREADS) = 1}},
	{REFILL, false, {OBJECTS(64), P(BATCH) = 10000, P(USED) = 1, P(THREADS) = 1}},
	{REFILL, true, {OBJECTS(256), P(BATCH) = 10000, P(USED) = 1, P(THREADS) = 1}},
	{REFILL, false, {OBJECTS(1024), P(BATCH) = 10000, P(USED) = 1, P(THREADS) = 1}},
	{SCATTER, false, {OBJECTS(64), P(BATCH) = 10000, P(THREADS) = 1}},
	{SCATTER, true, {OBJECTS(256), P(BATCH) = 10000, P(THREADS) = 1}},
	{SCATTER, false, {OBJECTS(1024), P(BATCH) = 10000, P(THREADS) = 1}},
	{SCATTER_BULK, false, {OBJECTS(64), P(BATCH) = 10000, P(THREADS) = 1}},
	{SCATTER_BULK, true, {OBJECTS(256), P(BATCH) = 10000, P(THREADS) = 1}},
	{SCATTER_BULK, false, {OBJECTS(1024), P(BATCH) = 10000, P(THREADS) = 1}},
	{PREFILL, true, {OBJECTS(256), P(BOUND) = 32, P(USED) = 1, P(THREADS) = 1}},
	{PREFILL, true, {OBJECTS(256), P(BOUND) = 32, P(USED) = 3, P(THREADS) = 1}},
	{PREFILL, true, {OBJECTS(256), P(BOUND) = 32, P(USED) = 32, P(THREADS) = 1}},
	{RETIRE, true, {OBJECTS(256), P(THREADS) = 1, P(READERS) = 0}},
	{RETIRE, true, {OBJECTS(256), P(THREADS) = 1, P(READERS) = 1}},
	{RETIRE, false, {OBJECTS(256), P(THREADS) = 2, P(READERS) = 0}},
	{RETIRE, false, {OBJECTS(256), P(THREADS) = 16, P(READERS) = 0}},
	{LOAD, false, {TREE(1000, RANDOM), P(THREADS) = 1}},
	{LOAD, true, {TREE(MILLION, RANDOM), P(THREADS) = 1}},
	{LOAD, false, {TREE(MILLION, RANDOM), P(THREADS) = 2}},
	{LOAD, false, {TREE(MILLION, RANDOM), P(THREADS) = 4}},
	{LOAD, false, {TREE(MILLION, SPARSE), P(THREADS) = 1}},
	{SCAN, true, {TREE(MILLION, RANDOM), P(THREADS) = 1}},
	{FILL, false, {TREE(MILLION, SEQUENTIAL), P(THREADS) = 1}},
	{FILL, true, {TREE(MILLION, RANDOM), P(THREADS) = 1}},
	{FILL, false, {TREE(MILLION, SPARSE), P(THREADS) = 1}},
	{APPEND, false, {TREE(MILLION, SEQUENTIAL), P(THREADS) = 1}},
	{ERASE, true, {TREE(100000, RANDOM), P(THREADS) = 1}},
	{ERASE, false, {TREE(MILLION, RANDOM), P(THREADS) = 1}},
	{ERASE, false, {TREE(MILLION, SPARSE), P(THREADS) = 1}},
	{MIXED, false, {TREE(1000, RANDOM), P(THREADS) = 1, P(READERS) = 1}},
	{MIXED, true, {TREE(100000, RANDOM), P(THREADS) = 1, P(READERS) = 1}},
	{MIXED, false, {TREE(MILLION, RANDOM), P(THREADS) = 1, P(READERS) = 1}},
	{MIXED, false, {TREE(100000, RANDOM), P(THREADS) = 1, P(READERS) = 3}},
	{VMA, true, {P(RANGES) = 1000, P(THREADS) = 1}},
	{VMA, true, {P(RANGES) = 100000, P(THREADS) = 1}},
	{VMA, false, {P(RANGES) = 1000, P(THREADS) = 2}},
	{VMA, false, {P(RANGES) = 100000, P(THREADS) = 2}},
	{VMA_LOAD, false, {P(RANGES) = 1000, P(THREADS) = 1}},
	{VMA_LOAD, false, {P(RANGES) = 100000, P(THREADS) = 1}},
	{BARN, true, {P(THREADS) = 1, P(STEPS) = 0}},
	{BARN, true, {P(THREADS) = 2, P(STEPS) = 0}},
	{BARN, false, {P(THREADS) = 4, P(STEPS) = 0}},
	{BARN, false, {P(THREADS) = 16, P(STEPS) = 0}},
	{BARN, false, {P(THREADS) = 64, P(STEPS) = 0}},
	{BARN, false, {P(THREADS) = 1, P(STEPS) = 100}},
	{BARN, false, {P(THREADS) = 2, P(STEPS) = 100}},
	{BARN, false, {P(THREADS) = 4, P(STEPS) = 100}},
	{BARN, false, {P(THREADS) = 16, P(STEPS) = 100}},
	{BARN, false, {P(THREADS) = 64, P(STEPS) = 100}},
	{PACE, false, {PACED(25, NO_LIMIT, 0)}},
	{PACE, false, {PACED(50, NO_LIMIT, 0)}},
	{PACE, false, {PACED(100, NO_LIMIT, 0)}},
	{PACE, false, {PACED(200, NO_LIMIT, 0)}},
	{PACE, false, {PACED(500, NO_LIMIT, 0)}},
	{PACE, false, {PACED(1000, NO_LIMIT, 0)}},
	{PACE, false, {PACED(4000, NO_LIMIT, 0)}},
	{PACE, false, {PACED(0, 1, 0)}},
	{PACE, false, {PACED(0, 2, 0)}},
	{PACE, false, {PACED(0, 4, 0)}},
	{PACE, false, {PACED(0, 8, 0)}},
	{PACE, false, {PACED(0, 16, 0)}},
	{PACE, false, {PACED(0, 32, 0)}},
	{PACE, false, {PACED(0, 64, 0)}},
	{PACE, false, {PACED(25, NO_LIMIT, 1)}},
	{PACE, false, {PACED(50, NO_LIMIT, 1)}},
	{PACE, false, {PACED(100, NO_LIMIT, 1)}},
	{PACE, false, {PACED(200, NO_LIMIT, 1)}},
	{PACE, false, {PACED(500, NO_LIMIT, 1)}},
	{PACE, false, {PACED(1000, NO_LIMIT, 1)}},
	{PACE, false, {PACED(4000, NO_LIMIT, 1)}},
	{PACE, false, {PACED(0, 1, 1)}},
	{PACE, false, {PACED(0, 2, 1)}},
	{PACE, false, {PACED(0, 4, 1)}},
	{PACE, false, {PACED(0, 8, 1)}},
	{PACE, false, {PACED(0, 16, 1)}},
	{PACE, false, {PACED(0, 32, 1)}},
	{PACE, false, {PACED(0, 64, 1)}},
};

static const unsigned sets[] = {
	[PAIR] = 1u << PARAM_BATCH | 1u << PARAM_SIZE | 1u << PARAM_THREADS,
	[SHUFFLE] = 1u << PARAM_LIVE | 1u << PARAM_SIZE | 1u << PARAM_THREADS,
	[LARSON] = 1u << PARAM_LIVE | 1u << PARAM_SIZE | 1u << PARAM_THREADS,
	[PIPE] = 1u << PARAM_SIZE | 1u << PARAM_THREADS,
	[CROWD] = 1u << PARAM_BATCH | 1u << PARAM_SIZE | 1u << PARAM_THREADS,
	[BULK] = 1u << PARAM_BATCH | 1u << PARAM_SIZE | 1u << PARAM_THREADS,
	[REFILL] = 1u << PARAM_BATCH | 1u << PARAM_USED | 1u << PARAM_SIZE | 1u << PARAM_THREADS,
	[SCATTER] = 1u << PARAM_BATCH | 1u << PARAM_SIZE | 1u << PARAM_THREADS,
	[SCATTER_BULK] = 1u << PARAM_BATCH | 1u << PARAM_SIZE | 1u << PARAM_THREADS,
	[PREFILL] = 1u << PARAM_BOUND | 1u << PARAM_USED | 1u << PARAM_SIZE | 1u << PARAM_THREADS,
	[RETIRE] = 1u << PARAM_SIZE | 1u << PARAM_THREADS | 1u << PARAM_READERS,
	[LOAD] = 1u << PARAM_KEYS | 1u << PARAM_ORDER | 1u << PARAM_THREADS,
	[SCAN] = 1u << PARAM_KEYS | 1u << PARAM_ORDER | 1u << PARAM_THREADS,
	[FILL] = 1u << PARAM_KEYS | 1u << PARAM_ORDER,
	[APPEND] = 1u << PARAM_KEYS | 1u << PARAM_ORDER,
	[ERASE] = 1u << PARAM_KEYS | 1u << PARAM_ORDER,
	[MIXED] = 1u << PARAM_KEYS | 1u << PARAM_ORDER | 1u << PARAM_READERS,
	[VMA] = 1u << PARAM_RANGES | 1u << PARAM_THREADS,
	[VMA_LOAD] = 1u << PARAM_RANGES | 1u << PARAM_THREADS,
	[BARN] = 1u << PARAM_THREADS | 1u << PARAM_STEPS,
	[PACE] = 1u << PARAM_SIZE | 1u << PARAM_SPACING | 1u << PARAM_LIMIT | 1u << PARAM_READERS,
	[TRIPS] = 1u << PARAM_PATTERN | 1u << PARAM_THREADS | 1u << PARAM_NODES | 1u << PARAM_SIZE |
		  1u << PARAM_BATCH | 1u << PARAM_LIVE,
};

#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static const unsigned trip_threads[] = {2, 8, 64, 256};
static const unsigned trip_nodes[] = {1, 2, 4, 8};

static struct config configs[N_ROWS + TRIP_PATTERNS * 4 * 4];

/* The rows, and the product that trips are. */
static size_t configs_make(void)
{
	size_t n = 0;
	unsigned p, t, d;

	for (n = 0; n < N_ROWS; n++) {
		const struct row *row = &rows[n];

		configs[n].scenario = &scenarios[row->scenario];
		memcpy(configs[n].param, row->param, sizeof(row->param));
		configs[n].set = sets[row->scenario];
		configs[n].standard = row->standard;
	}
	for (p = 0; p < TRIP_PATTERNS; p++)
		for (t = 0; t < 4; t++)
			for (d = 0; d < 4; d++) {
				struct config *config = &configs[n++];

				config->scenario = &scenarios[TRIPS];
				config->set = sets[TRIPS];
				config->param[PARAM_PATTERN] = p;
				config->param[PARAM_THREADS] = trip_threads[t];
				config->param[PARAM_NODES] = trip_nodes[d];
				config->param[PARAM_SIZE] = 256;
				config->param[PARAM_BATCH] = 32;
				config->param[PARAM_LIVE] = p == 2 ? 100 : 512;
			}
	return n;
}

const struct config *config_nth(size_t i)
{
	static size_t n;

	if (!n)
		n = configs_make();
	return i < n ? &configs[i] : NULL;
}

const struct scenario *scenario_nth(size_t i)
{
	return i < sizeof(scenarios) / sizeof(scenarios[0]) ? &scenarios[i] : NULL;
}

const struct scenario *scenario_find(const char *name)
{
	const struct scenario *scenario;
	size_t i;

	for (i = 0; (scenario = scenario_nth(i)); i++)
		if (strcmp(scenario->name, name) == 0)
			return scenario;
	return NULL;
}

const char *param_name(enum bench_param param)
{
	static const char *const names[BENCH_PARAMS] = {
		"size", "batch", "live",   "threads", "nodes",   "readers", "bound",
		"used", "keys",  "ranges", "order",   "pattern", "spacing", "limit",
		"steps",
	};

	return names[param];
}

const char *order_name(uint64_t order)
{
	return order == ORDER_SEQUENTIAL ? "sequential"
	       : order == ORDER_RANDOM   ? "random"
					 : "sparse";
}

/* The name that a number stands for, or NULL. */
static const char *value_name(enum bench_param param, uint64_t value)
{
	if (param == PARAM_ORDER)
		return order_name(value);
	return param == PARAM_PATTERN ? trip_patterns[value].name : NULL;
}

void config_print(const struct config *config, char *text, size_t bytes)
{
	size_t n = 0;
	unsigned p;

	text[0] = '\0';
	for (p = 0; p < BENCH_PARAMS && n < bytes; p++) {
		const char *name = value_name(p, config->param[p]);

		if (!(config->set & 1u << p))
			continue;
		n += (size_t)snprintf(text + n, bytes - n, "%s%s ", n ? ", " : "", param_name(p));
		if (n >= bytes)
			break;
		if (name)
			n += (size_t)snprintf(text + n, bytes - n, "%s", name);
		else
			n += (size_t)snprintf(text + n, bytes - n, "%llu",
					      (unsigned long long)config->param[p]);
	}
}

void config_json(const struct config *config, FILE *out)
{
	const char *comma = "";
	unsigned p;

	for (p = 0; p < BENCH_PARAMS; p++) {
		const char *name = value_name(p, config->param[p]);

		if (!(config->set & 1u << p))
			continue;
		if (name)
			fprintf(out, "%s\"%s\": \"%s\"", comma, param_name(p), name);
		else
			fprintf(out, "%s\"%s\": %llu", comma, param_name(p),
				(unsigned long long)config->param[p]);
		comma = ", ";
	}
}
