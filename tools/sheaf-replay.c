/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * sheaf-replay: rebuild the address spaces of a recorded program, while readers look
 * addresses up, and compare them with what the kernel showed. doc/trace.md tells more.
 */
#include "address_space.h"
#include "plan.h"
#include "replay_readers.h"
#include "replay_report.h"
#include "shadow.h"
#include "trace.h"

#include "base/atomic.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>

#define READERS_MAX 256

struct options {
	unsigned readers;
	unsigned loops;
	uint64_t seed;
};

/* All of one recording's replay. */
struct replay {
	struct trace trace;
	struct plan plan;
	struct shadow shadow;
	struct sheaf_gp_urcu urcu;
	struct spaces spaces;
	struct progress progress;
	struct report report;
	uint32_t hot; /* space that is written now; atomic */
};

static int fail(const struct replay *replay)
{
	fprintf(stderr, "sheaf-replay: %s\n", replay->trace.error);
	return -1;
}

/* The nodes there are, all spaces: a sample for the peak. */
static void sample_nodes(struct spaces *spaces)
{
	uint64_t nodes = 0;

	for (uint32_t i = 0; i < spaces->count; i++) {
		struct sheaf_tree_stats stats;

		if (!spaces->table[i])
			continue;
		sheaf_tree_stats(spaces->table[i]->tree, &stats);
		nodes += stats.nodes;
	}
	if (nodes > spaces->counts.nodes_peak)
		spaces->counts.nodes_peak = nodes;
}

static int do_step(struct replay *replay, const struct plan_step *step)
{
	struct spaces *spaces = &replay->spaces;
	const struct trace_event *event =
		step->event == PLAN_NO_EVENT ? NULL : &replay->trace.events[step->event];
	bool same = false;

	store_relaxed(&replay->hot, step->space);
	switch (step->kind) {
	case PLAN_START:
		return space_start(spaces, step->space, &replay->trace.maps[event->map]);
	case PLAN_FORK:
		return space_fork(spaces, step->space, step->from);
	case PLAN_CALL:
		return space_call(spaces, step->space, event);
	case PLAN_CHECK:
		if (space_check(spaces, step->space, event, &same))
			return -1;
		replay->report.same += same;
		if (!same)
			fail(replay); /* and go on: other maps may differ too */
		return 0;
	case PLAN_DROP:
		return space_drop(spaces, step->space);
	}
	return 0;
}

static int do_loop(struct replay *replay, unsigned loop, unsigned loops)
{
	const struct plan *plan = &replay->plan;

	for (size_t i = 0; i < plan->count; i++) {
		if (do_step(replay, &plan->steps[i]))
			return fail(replay);
		replay->report.writes++;
		if (i % 16 == 0 && loop == 0)
			sample_nodes(&replay->spaces);
		if (i % 256 == 0)
			progress_show(&replay->progress, replay->trace.path,
				      (uint64_t)loop * plan->count + i,
				      (uint64_t)loops * plan->count);
	}
	return 0;
}

/* The replay proper, with everything read and the readers not yet there. */
static int do_loops(struct replay *replay, const struct options *options)
{
	struct report *report = &replay->report;
	struct readers *readers = NULL;
	int result = 0;

	if (options->readers) {
		readers = readers_start(options->readers, &replay->spaces, &replay->shadow,
					&replay->hot, options->seed);
		if (!readers) {
			trace_fail(&replay->trace, 0, "cannot start %u readers", options->readers);
			return fail(replay);
		}
	}
	progress_begin(&replay->progress);
	report->ns = clock_now();
	for (unsigned i = 0; i < options->loops && !result; i++) {
		result = do_loop(replay, i, options->loops);
		report->loops = i + 1;
		/* A map that differs does so in each loop. */
		if (report->same != (uint64_t)replay->plan.checks * (i + 1))
			break;
	}
	report->ns = clock_now() - report->ns;
	progress_end(&replay->progress);
	if (readers)
		readers_stop(readers, &report->reads);
	return result;
}

static int replay_spaces(struct replay *replay, const struct options *options)
{
	struct report *report = &replay->report;
	struct sheaf_gp_driver_stats periods;
	int result;
	size_t lost;

	if (sheaf_gp_urcu_init(&replay->urcu, &rcu_flavor, NULL)) {
		trace_fail(&replay->trace, 0, "cannot make a grace-period source");
		return fail(replay);
	}
	result =
		spaces_init(&replay->spaces, &replay->urcu.gp, &replay->trace, replay->plan.spaces);
	if (result) {
		fail(replay);
		sheaf_gp_urcu_fini(&replay->urcu);
		return result;
	}
	result = do_loops(replay, options);
	if (!result && spaces_settle(&replay->spaces))
		result = fail(replay);
	sheaf_cache_stats(replay->spaces.vmas, &report->vmas, sizeof(report->vmas));
	sheaf_cache_stats(replay->spaces.nodes, &report->nodes, sizeof(report->nodes));
	lost = spaces_fini(&replay->spaces);
	sheaf_gp_urcu_stats(&replay->urcu, &periods);
	report->periods = periods.periods;
	sheaf_gp_urcu_fini(&replay->urcu);
	if (!result)
		report_print(report);
	if (report->reads.bad) {
		trace_fail(&replay->trace, 0, "%" PRIu64 " bad reads, the first: %s",
			   report->reads.bad, report->reads.first_bad);
		result = fail(replay);
	}
	if (lost) {
		trace_fail(&replay->trace, 0, "%zu objects were lost", lost);
		result = fail(replay);
	}
	if (result)
		return result;
	return report->same == (uint64_t)replay->plan.checks * report->loops ? 0 : -1;
}

static int replay_file(const char *path, const struct options *options)
{
	struct replay replay = {0};
	int result;

	replay.report = (struct report){.trace = &replay.trace,
					.plan = &replay.plan,
					.spaces = &replay.spaces,
					.readers = options->readers};
	result = trace_read(&replay.trace, path);
	if (!result)
		result = plan_make(&replay.plan, &replay.trace);
	if (!result && !replay.plan.spaces)
		result = trace_fail(&replay.trace, 0, "no address space in it");
	if (!result && options->readers)
		result = shadow_make(&replay.shadow, &replay.plan, &replay.trace);
	result = result ? fail(&replay) : replay_spaces(&replay, options);
	shadow_free(&replay.shadow);
	plan_free(&replay.plan);
	trace_free(&replay.trace);
	return result;
}

static void usage(FILE *out)
{
	fputs("Usage: sheaf-replay [OPTION]... RECORDING...\n"
	      "Rebuild the address spaces of a recorded program (see record-trace) and compare\n"
	      "them with the maps that the kernel showed.\n\n"
	      "  -r, --readers=N  threads that look addresses up meanwhile, 0 to 256; default 0\n"
	      "  -l, --loops=N    replay N times, for timing; default 1\n"
	      "  -s, --seed=N     where readers begin; default 1\n"
	      "  -h, --help       this text\n"
	      "  -V, --version    the version\n\n"
	      "The exit status is 0 if all maps were identical and no read was bad, 1 if not or\n"
	      "if a recording is bad, 2 for a bad option.\n",
	      out);
}

static bool parse_option(const char *name, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(optarg, &end, 10);
	if (*optarg >= '0' && *optarg <= '9' && !*end && !errno && *value >= min && *value <= max)
		return true;
	fprintf(stderr,
		"sheaf-replay: --%s wants a number from %" PRIu64 " to %" PRIu64 ", not '%s'\n",
		name, min, max, optarg);
	return false;
}

/* Returns the exit status if there is nothing more to do, else -1. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option list[] = {
		{"readers", required_argument, NULL, 'r'}, {"loops", required_argument, NULL, 'l'},
		{"seed", required_argument, NULL, 's'},    {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},       {NULL, 0, NULL, 0}};
	uint64_t value;
	int option;

	*options = (struct options){.loops = 1, .seed = 1};
	while ((option = getopt_long(argc, argv, "r:l:s:hV", list, NULL)) != -1) {
		switch (option) {
		case 'r':
			if (!parse_option("readers", 0, READERS_MAX, &value))
				return 2;
			options->readers = (unsigned)value;
			break;
		case 'l':
			if (!parse_option("loops", 1, 1000000000, &value))
				return 2;
			options->loops = (unsigned)value;
			break;
		case 's':
			if (!parse_option("seed", 0, UINT64_MAX, &options->seed))
				return 2;
			break;
		case 'h':
			usage(stdout);
			return 0;
		case 'V':
			puts("sheaf-replay " SHEAF_VERSION);
			return 0;
		default:
			return 2;
		}
	}
	if (optind < argc)
		return -1;
	fputs("sheaf-replay: which recording? (--help tells more)\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	struct options options;
	int result = 0, status = parse_options(argc, argv, &options);

	if (status >= 0)
		return status;
	for (int i = optind; i < argc; i++)
		if (replay_file(argv[i], &options))
			result = 1;
	if (fflush(stdout) || ferror(stdout)) {
		fputs("sheaf-replay: cannot write to standard output\n", stderr);
		return 1;
	}
	return result;
}
