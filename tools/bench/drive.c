/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The run: for each way to run a scenario all competitors are started, warmed up by a
 * round that does not count, and then run one round each, by turns, as often as wanted.
 * Whatever else the machine does in those seconds hits all of them alike.
 */
#include "bench.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETUP_SECONDS 120
#define ROUND_SECONDS 120

/* Shorter rounds than this are a test: trees are small then. */
#define TEST_SECONDS 0.05
#define TEST_KEYS 16384

struct entrant {
	const struct competitor *competitor;
	struct child child;
	struct result *result;
	uint64_t ops;
	bool failed;
};

struct run {
	const struct options *options;
	const struct presence *presence;
	struct results *results;
	struct config *config;
	struct entrant entrants[COMPETITORS_MAX];
	unsigned n;
	unsigned failures;
	double began;
	bool tty;
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct spread spread_of(const double *values, unsigned n)
{
	double sorted[ROUNDS_MAX];
	struct spread spread = {0, 0, 0};

	if (!n)
		return spread;
	memcpy(sorted, values, n * sizeof(*values));
	qsort(sorted, n, sizeof(*sorted), by_value);
	spread.min = sorted[0];
	spread.max = sorted[n - 1];
	spread.median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
	return spread;
}

const double *result_metric(const struct result *result, const char *name)
{
	unsigned i;

	for (i = 0; i < result->n_metrics; i++)
		if (strcmp(result->metrics[i].name, name) == 0)
			return &result->metrics[i].value;
	return NULL;
}

static void metric_set(struct result *result, const char *name, double value)
{
	struct metric *metric;

	if (result->n_metrics == METRICS_MAX)
		return;
	metric = &result->metrics[result->n_metrics++];
	snprintf(metric->name, sizeof(metric->name), "%s", name);
	metric->value = value;
}

/* On one line that is overwritten, or now and then a line of its own. */
static void progress(const struct run *run, const char *what)
{
	static double last;
	double now = now_seconds();
	char params[160];

	if (!run->tty && now - last < 10)
		return;
	last = now;
	config_print(run->config, params, sizeof(params));
	fprintf(stderr, "%s%4.0f s  %s (%s): %s%s", run->tty ? "\r\033[K" : "", now - run->began,
		run->config->scenario->name, params, what, run->tty ? "" : "\n");
	fflush(stderr);
}

static void entrant_fail(struct run *run, struct entrant *entrant)
{
	char params[160];

	config_print(run->config, params, sizeof(params));
	fprintf(stderr, "%ssheaf-bench: %s (%s): %s: %s\n", run->tty ? "\r\033[K" : "",
		run->config->scenario->name, params, entrant->competitor->name,
		entrant->child.failure);
	entrant->failed = true;
	run->failures++;
}

static bool entrant_start(struct run *run, struct entrant *entrant)
{
	char words[BENCH_PARAMS][48], seconds[32];
	char *argv[BENCH_PARAMS + 8];
	unsigned p, n = 0;

	snprintf(seconds, sizeof(seconds), "%.6f", run->options->seconds);
	argv[n++] = (char *)"sheaf-bench";
	argv[n++] = (char *)"--child";
	argv[n++] = (char *)run->config->scenario->name;
	argv[n++] = (char *)entrant->competitor->name;
	argv[n++] = seconds;
	for (p = 0; p < BENCH_PARAMS; p++) {
		/* What a scenario does not show it may still need: one thread. */
		if (!(run->config->set & 1u << p) && p != PARAM_THREADS)
			continue;
		snprintf(words[p], sizeof(words[p]), "%s=%llu", param_name(p),
			 (unsigned long long)(run->config->set & 1u << p ? run->config->param[p]
									 : 1));
		argv[n++] = words[p];
	}
	argv[n] = NULL;
	return child_start(&entrant->child, argv, entrant->competitor->preload, NULL);
}

static struct result *result_new(const struct run *run, const struct entrant *entrant)
{
	struct result *result = calloc(1, sizeof(*result));

	if (!result) {
		fprintf(stderr, "sheaf-bench: out of memory\n");
		exit(1);
	}
	result->config = run->config;
	result->competitor = entrant->competitor;
	return result;
}

/* One round; the first does not count. */
static bool entrant_round(struct run *run, struct entrant *entrant, bool counts)
{
	struct result *result = entrant->result;
	unsigned long long ns, ops, cpu, side, alone_ns, alone_ops;
	const char *answer = NULL;

	progress(run, entrant->competitor->name);
	if (child_tell(&entrant->child, "round"))
		answer = child_hear(&entrant->child, ROUND_SECONDS + run->options->seconds,
				    run->config->scenario->sampled ? result : NULL);
	else
		answer = child_hear(&entrant->child, 1, NULL);
	if (!answer)
		return false;
	if (sscanf(answer, "round %llu %llu %llu %llu %llu %llu", &ns, &ops, &cpu, &side, &alone_ns,
		   &alone_ops) != 6 ||
	    !ops) {
		snprintf(entrant->child.failure, sizeof(entrant->child.failure),
			 "did nothing in a round");
		return false;
	}
	if (!counts)
		return true;
	result->ns[result->rounds] = (double)ns / (double)ops;
	result->cpu[result->rounds] = (double)cpu / (double)ops;
	result->rounds++;
	entrant->ops += ops;
	if (side)
		result->side[result->sides++] = (double)ns / (double)side;
	if (alone_ops && ns) {
		const double alone = (double)alone_ns / (double)alone_ops;

		result->alone[result->alones] = alone;
		result->kept[result->alones++] = 100 * alone / ((double)ns / (double)ops);
	}
	return true;
}

/* Trips are told as totals and kept per operation. */
static void stat_take(struct entrant *entrant, const char *name, double value)
{
	struct result *result = entrant->result;
	bool level = strstr(name, ".held_") || strstr(name, ".in_flight") ||
		     strstr(name, ".capacity") || strstr(name, "fragmentation");

	if (strcmp(name, "base_kib") == 0)
		result->base_kib = (uint64_t)value;
	else if (strcmp(name, "peak_kib") == 0)
		result->peak_kib = (uint64_t)value;
	else if (strncmp(name, "trips.", 6) == 0 && !level)
		metric_set(result, name, value / (double)entrant->ops);
	else
		metric_set(result, name, value);
}

static bool entrant_finish(struct entrant *entrant)
{
	const char *answer;
	char name[32];
	double value;

	if (!child_tell(&entrant->child, "end"))
		return child_hear(&entrant->child, 1, NULL);
	while ((answer = child_hear(&entrant->child, SETUP_SECONDS, NULL))) {
		if (strcmp(answer, "done") == 0)
			return child_end(&entrant->child);
		if (sscanf(answer, "stat %31s %lf", name, &value) == 2)
			stat_take(entrant, name, value);
	}
	return false;
}

static void entrants_collect(struct run *run)
{
	const struct competitor *competitor;
	unsigned i;

	run->n = 0;
	for (i = 0; (competitor = competitor_nth(i)); i++) {
		struct entrant *entrant = &run->entrants[run->n];

		if (!run->presence[i].chosen || !run->presence[i].there ||
		    !competitor_fits(competitor, run->config))
			continue;
		memset(entrant, 0, sizeof(*entrant));
		entrant->competitor = competitor;
		run->n++;
	}
}

static void results_add(struct run *run, struct entrant *entrant)
{
	struct result *result = entrant->result;

	result->ns_op = spread_of(result->ns, result->rounds);
	result->cpu_op = spread_of(result->cpu, result->rounds);
	if (result->sides)
		metric_set(result, "side_ns_op", spread_of(result->side, result->sides).median);
	if (result->alones) {
		metric_set(result, "alone_ns_op",
			   spread_of(result->alone, result->alones).median);
		metric_set(result, "kept_percent", spread_of(result->kept, result->alones).median);
	}
	/* Readers and the writer beside them together. */
	if (result->sides && result->alones)
		metric_set(result, "both_ns_op",
			   1 / (1 / result->ns_op.median +
				1 / spread_of(result->side, result->sides).median));
	*run->results->last = result;
	run->results->last = &result->next;
}

/* All are set up before the first round, so that all find the same machine. */
static void entrants_run(struct run *run)
{
	unsigned i, round;

	for (i = 0; i < run->n; i++) {
		struct entrant *entrant = &run->entrants[i];
		const char *answer = NULL;

		progress(run, "set-up");
		entrant->result = result_new(run, entrant);
		if (entrant_start(run, entrant))
			answer = child_hear(&entrant->child, SETUP_SECONDS, NULL);
		if (!answer || !entrant_round(run, entrant, false))
			entrant_fail(run, entrant);
	}
	for (round = 0; round < run->options->rounds; round++) {
		for (i = 0; i < run->n; i++) {
			/* Another one begins each time. */
			struct entrant *entrant = &run->entrants[(i + round) % run->n];

			if (!entrant->failed && !entrant_round(run, entrant, true))
				entrant_fail(run, entrant);
		}
	}
	for (i = 0; i < run->n; i++) {
		struct entrant *entrant = &run->entrants[i];

		if (!entrant->failed && !entrant_finish(entrant))
			entrant_fail(run, entrant);
		if (entrant->failed) {
			if (entrant->child.pid > 0)
				kill(entrant->child.pid, SIGKILL);
			child_end(&entrant->child);
			free(entrant->result);
		} else {
			results_add(run, entrant);
		}
	}
}

static void ratios_set(struct run *run)
{
	const struct result *own = NULL;
	struct result *result;

	for (result = run->results->first; result; result = result->next)
		if (result->config == run->config &&
		    strcmp(result->competitor->name, "libsheaf") == 0)
			own = result;
	for (result = run->results->first; own && result; result = result->next)
		if (result->config == run->config && own->ns_op.median > 0)
			result->ratio = result->ns_op.median / own->ns_op.median;
}

/* With what the options change; the caller's for ever, because results point to it. */
static struct config *config_adapt(const struct config *from, const struct options *options)
{
	struct config *config = malloc(sizeof(*config));

	if (!config) {
		fprintf(stderr, "sheaf-bench: out of memory\n");
		exit(1);
	}
	*config = *from;
	if (options->threads && config->set & 1u << PARAM_THREADS)
		config->param[PARAM_THREADS] = options->threads;
	if (options->threads && !strcmp(config->scenario->name, "tree-mixed"))
		config->param[PARAM_READERS] = options->threads;
	if (options->size && config->set & 1u << PARAM_SIZE)
		config->param[PARAM_SIZE] = options->size;
	if (options->seconds < TEST_SECONDS) {
		if (config->param[PARAM_KEYS] > TEST_KEYS)
			config->param[PARAM_KEYS] = TEST_KEYS;
		if (config->param[PARAM_RANGES] > TEST_KEYS)
			config->param[PARAM_RANGES] = TEST_KEYS;
	}
	return config;
}

static bool config_wanted(const struct config *config, const struct options *options)
{
	unsigned i;

	if (options->all)
		return true;
	if (!options->n_scenarios)
		return config->standard;
	for (i = 0; i < options->n_scenarios; i++)
		if (strcmp(options->scenarios[i], config->scenario->name) == 0)
			return true;
	return false;
}

/* Options can make two ways the same. */
static bool config_done(const struct config *config, const struct results *results)
{
	const struct result *result;

	for (result = results->first; result; result = result->next)
		if (result->config->scenario == config->scenario &&
		    memcmp(result->config->param, config->param, sizeof(config->param)) == 0)
			return true;
	return false;
}

unsigned drive(const struct options *options, const struct presence *presence,
	       struct results *results)
{
	static struct run run;
	const struct config *config;
	size_t i;

	run = (struct run){.options = options, .presence = presence, .results = results};
	run.began = now_seconds();
	run.tty = isatty(STDERR_FILENO);
	for (i = 0; (config = config_nth(i)); i++) {
		if (!config_wanted(config, options))
			continue;
		run.config = config_adapt(config, options);
		if (config_done(run.config, results)) {
			free(run.config);
			continue;
		}
		entrants_collect(&run);
		if (!run.n) {
			free(run.config);
			continue;
		}
		entrants_run(&run);
		ratios_set(&run);
		if (run.tty)
			fprintf(stderr, "\r\033[K");
		table_config(run.config, results);
	}
	return run.failures;
}

/* One child each, so that a library that cannot be loaded hurts nobody else. */
unsigned probe_all(struct presence *presence)
{
	const struct competitor *competitor;
	unsigned i, failures = 0;

	for (i = 0; (competitor = competitor_nth(i)); i++) {
		char *argv[] = {(char *)"sheaf-bench", (char *)"--probe", (char *)competitor->name,
				NULL};
		const char *answer, *absent = competitor_barred(competitor);
		struct child child;

		if (!presence[i].chosen)
			continue;
		if (absent) {
			snprintf(presence[i].text, sizeof(presence[i].text), "%s", absent);
			continue;
		}
		answer = child_start(&child, argv, competitor->preload, NULL)
				 ? child_hear(&child, SETUP_SECONDS, NULL)
				 : NULL;
		presence[i].there = answer;
		absent = answer ? NULL : strstr(child.failure, "absent: ");
		if (absent)
			snprintf(presence[i].text, sizeof(presence[i].text), "%.*s",
				 (int)strcspn(absent + 8, ";"), absent + 8);
		else
			snprintf(presence[i].text, sizeof(presence[i].text), "%.199s",
				 answer ? answer : child.failure);
		presence[i].broken = !answer && !absent;
		failures += presence[i].broken;
		child_end(&child);
	}
	return failures;
}
