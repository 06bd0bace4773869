/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * sheaf-bench: a driver, and a child for each competitor.
 *
 *	driver  sheaf-bench.c    options            child   child.c      commands, rounds
 *	        scenarios.c      what is run                pattern_*.c  the work
 *	        peers.c          who competes               peer_*       the competitors
 *	        drive.c          children, rounds
 *	        spawn.c          one child
 *	        table.c json.c report.c svg.c      what comes out
 *	        instructions.c   counted by Valgrind
 */
#ifndef BENCH_H
#define BENCH_H

#include "ops.h"

#include <stdio.h>

/* ---- Scenarios (scenarios.c) ---- */

/* What a competitor must be able to do. */
enum scenario_class { CLASS_OBJECT, CLASS_RETIRE, CLASS_POINTS, CLASS_RANGES, CLASS_POOL };

struct pattern;

struct scenario {
	const char *name;
	const char *what;
	/* What one operation is, for tables. */
	const char *op;
	enum scenario_class class;
	const struct pattern *pattern;
	/* Objects are freed by other threads than those that allocated them. */
	bool crosses;
	/* Only our own side; counts trips over a fixed number of operations. */
	bool own;
	/* Sample the memory of the children. */
	bool sampled;
};

/* One way to run a scenario. */
struct config {
	const struct scenario *scenario;
	uint64_t param[BENCH_PARAMS];
	/* Which of them mean something here. */
	unsigned set;
	/* Run also when no scenario is named. */
	bool standard;
};

const struct scenario *scenario_find(const char *name);
const struct scenario *scenario_nth(size_t i);

/* All ways to run all scenarios, in order; returns NULL past the end. */
const struct config *config_nth(size_t i);

const char *param_name(enum bench_param param);
const char *order_name(uint64_t order);

/* "batch 32, size 256, threads 1"; `json` for the members of an object. */
void config_print(const struct config *config, char *text, size_t bytes);
void config_json(const struct config *config, FILE *out);

struct trip_pattern {
	const char *name;
	const struct pattern *pattern;
};
extern const struct trip_pattern trip_patterns[];
#define TRIP_PATTERNS 5

/* ---- Competitors (peers.c) ---- */

struct competitor {
	const char *name;
	/* Of peer_*.c; NULL: of the module. */
	const struct bench_peer *peer;
	/* What it takes part in. */
	bool objects, retires, trees, pools;
	/* Scenarios that it is for alone; NULL: all. */
	const char *only;
	unsigned threads_most;
	/* Keeps objects per thread: no other thread can free them. */
	bool private_objects;
	/* Knows no order of keys, and so no ranges. */
	bool unordered;
	/* Library that replaces malloc; file beside this program. */
	const char *preload;
	const char *module;
};

const struct competitor *competitor_nth(size_t i);
#define COMPETITORS_MAX 32

/* Can it run this? */
bool competitor_fits(const struct competitor *competitor, const struct config *config);

/* Why it cannot take part in this build; NULL if it can. */
const char *competitor_barred(const struct competitor *competitor);

/* In the child: its tables. NULL after a message: the last line begins with "absent: "
 * if it is not installed. */
const struct bench_peer *competitor_load(const struct competitor *competitor);

/* Name of the file beside this program. */
void beside_program(char *path, size_t bytes, const char *name);

/* ---- Results ---- */

#define ROUNDS_MAX 64
#define METRICS_MAX 24
#define SAMPLES_MAX 400

struct metric {
	char name[32];
	double value;
};

struct spread {
	double median, min, max;
};

struct result {
	const struct config *config;
	const struct competitor *competitor;
	unsigned rounds;
	double ns[ROUNDS_MAX];
	struct spread ns_op;
	/* CPU time of all threads, what was deferred included. */
	double cpu[ROUNDS_MAX];
	struct spread cpu_op;
	/* What readers or a writer beside them do; their median is the metric side_ns_op. */
	double side[ROUNDS_MAX];
	unsigned sides;
	/* The same work with nobody beside; their median is alone_ns_op, and that of what is kept
	 * of this speed beside others kept_percent. */
	double alone[ROUNDS_MAX];
	double kept[ROUNDS_MAX];
	unsigned alones;
	/* This one's median by that of libsheaf; 0 if there is none. */
	double ratio;
	uint64_t base_kib;
	uint64_t peak_kib;
	unsigned n_metrics;
	struct metric metrics[METRICS_MAX];
	unsigned n_samples;
	float sample_ms[SAMPLES_MAX];
	float sample_mib[SAMPLES_MAX];
	struct result *next;
};

struct results {
	struct result *first;
	struct result **last;
};

struct spread spread_of(const double *values, unsigned n);
const double *result_metric(const struct result *result, const char *name);

/* ---- The run (drive.c, spawn.c) ---- */

struct options {
	const char *scenarios[64];
	unsigned n_scenarios;
	bool all;
	unsigned rounds;
	double seconds;
	unsigned threads;
	unsigned size;
	const char *peers;
	const char *json;
	const char *report;
};

/* State of a competitor before the run. */
struct presence {
	bool chosen;
	bool there;
	bool broken;
	char text[200];
};

/* Ask each chosen competitor for its version in a child of its own. Returns failures. */
unsigned probe_all(struct presence *presence);

/* Run everything; returns how many competitors failed. */
unsigned drive(const struct options *options, const struct presence *presence,
	       struct results *results);

struct child {
	int pid;
	int to, from, err;
	char line[512];
	size_t fill;
	double active_ms;
	char failure[400];
};

/* Start a child: argv[0] is replaced by this program. False: child->failure says why. */
bool child_start(struct child *child, char *const argv[], const char *preload, const char *wrapper);
bool child_tell(struct child *child, const char *word);

/* Next line of the child, within some time; NULL on death or silence: child->failure. With
 * a result, memory is sampled into it while waiting. */
const char *child_hear(struct child *child, double seconds, struct result *sampled);

/* Wait for the end of a child that has nothing left to do. False: child->failure. */
bool child_end(struct child *child);

double now_seconds(void);

/* ---- What comes out ---- */

struct machine {
	char cpu[128];
	unsigned cores;
	unsigned nodes;
	double memory_gib;
	char kernel[160];
	char libc[64];
	char compiler[160];
	char build[64];
	bool exact;
	char peers[1024];
};

void machine_read(struct machine *machine, const struct presence *presence);

/* Key of an instruction baseline: compiler and optimisation. */
const char *build_key(void);

void table_config(const struct config *config, const struct results *results);

/* Return 0 or -errno. */
int json_write(const char *file, const struct machine *machine, const struct results *results);
int report_write(const char *dir, const struct machine *machine, const struct results *results);
void json_string(FILE *out, const char *text);

/* ---- SVG (svg.c) ---- */

struct svg_bar {
	const char *name;
	double value, min, max;
	/* To the right of the value; may be empty. */
	char note[24];
	/* "own", "limit" or "peer". */
	const char *kind;
};

/* Horizontal bars from zero; where they differ too much, points on a log scale. */
void svg_bars(FILE *out, const struct svg_bar *bars, unsigned n, const char *title,
	      const char *unit);

struct svg_line {
	const char *name;
	/* 0 to 9; the same for the same competitor. */
	unsigned colour;
	unsigned n;
	double x[SAMPLES_MAX], y[SAMPLES_MAX];
};

/* With a legend. `doubling`: x is 1, 2, 4 ...; else it begins at 0. */
void svg_lines(FILE *out, const struct svg_line *lines, unsigned n, const char *title,
	       const char *unit, const char *x_unit, bool doubling);
void html_text(FILE *out, const char *text);

/* sheaf-bench --instructions [--baseline FILE] [--json FILE]; returns the exit code. */
int instructions_main(const char *baseline, const char *json);

/* Entry points of children; return the exit code. */
int child_main(int argc, char **argv);
int probe_main(const char *name);
int instruction_child(const char *op, uint64_t n);

#endif
