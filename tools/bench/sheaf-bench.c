/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The kit beside what a user would pick instead. See doc/performance.md; the map of the
 * files is in bench.h.
 */
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2 };

static const char usage[] =
	"usage: sheaf-bench [SCENARIO...] [options]\n"
	"\n"
	"Measures libsheaf beside its competitors, each in a process of its own, rounds by turns.\n"
	"Without a scenario: a chosen part of all, in under 3 minutes. With scenarios: those, "
	"with\n"
	"all their parameters. \"all\": everything, in under 15 minutes.\n"
	"\n"
	"  --list            scenarios and competitors; what is skipped and why\n"
	"  --rounds N        rounds that count, 1 to 64 (default 3; 5 with scenarios)\n"
	"  --seconds S       length of a round (default 0.1; 0.2 with scenarios); below 0.05 the\n"
	"                    trees are small: for tests\n"
	"  --threads N       instead of the scenario's numbers of threads\n"
	"  --size BYTES      instead of the scenario's sizes of objects, 32 to 65536\n"
	"  --peers LIST      only these, by commas, beside libsheaf; \"call_rcu\" means all "
	"call_rcu+...\n"
	"  --json FILE       every figure; \"-\" for standard output\n"
	"  --report DIR      a page with plots: DIR/index.html\n"
	"  --instructions    count instructions per operation with Valgrind instead\n"
	"  --baseline FILE   with --instructions: fail if one is more than 5 % above FILE\n"
	"\n"
	"Exit code: 0; 1 if a competitor failed or output could not be written (the other results\n"
	"are kept); 2 if an option or name is wrong; 77 if --instructions has no Valgrind or no\n"
	"figures to compare with.\n";

static bool number(const char *text, double least, double most, double *value)
{
	char *end;

	errno = 0;
	*value = strtod(text, &end);
	return end != text && !*end && !errno && *value >= least && *value <= most;
}

static bool whole(const char *text, unsigned least, unsigned most, unsigned *value)
{
	double v;

	if (!number(text, least, most, &v) || v != (double)(unsigned)v)
		return false;
	*value = (unsigned)v;
	return true;
}

static int wrong(const char *what, const char *text)
{
	fprintf(stderr, "sheaf-bench: %s: %s (see --help)\n", what, text);
	return EXIT_USAGE;
}

enum {
	OPT_LIST = 256,
	OPT_ROUNDS,
	OPT_SECONDS,
	OPT_THREADS,
	OPT_SIZE,
	OPT_PEERS,
	OPT_JSON,
	OPT_REPORT,
	OPT_INSTRUCTIONS,
	OPT_BASELINE
};

struct command {
	struct options options;
	bool list;
	bool instructions;
	const char *baseline;
};

static int option_take(struct command *command, int opt)
{
	struct options *o = &command->options;

	switch (opt) {
	case OPT_LIST:
		command->list = true;
		return 0;
	case OPT_ROUNDS:
		return whole(optarg, 1, ROUNDS_MAX, &o->rounds) ? 0 : wrong("--rounds", optarg);
	case OPT_SECONDS:
		return number(optarg, 0.001, 60, &o->seconds) ? 0 : wrong("--seconds", optarg);
	case OPT_THREADS:
		return whole(optarg, 1, 256, &o->threads) ? 0 : wrong("--threads", optarg);
	case OPT_SIZE:
		return whole(optarg, 32, 65536, &o->size) ? 0 : wrong("--size", optarg);
	case OPT_PEERS:
		o->peers = optarg;
		return 0;
	case OPT_JSON:
		o->json = optarg;
		return 0;
	case OPT_REPORT:
		o->report = optarg;
		return 0;
	case OPT_INSTRUCTIONS:
		command->instructions = true;
		return 0;
	case OPT_BASELINE:
		command->baseline = optarg;
		return 0;
	case 'h':
		fputs(usage, stdout);
		exit(0);
	default:
		return EXIT_USAGE;
	}
}

static int options_read(struct command *command, int argc, char **argv)
{
	static const struct option table[] = {
		{"list", no_argument, NULL, OPT_LIST},
		{"rounds", required_argument, NULL, OPT_ROUNDS},
		{"seconds", required_argument, NULL, OPT_SECONDS},
		{"threads", required_argument, NULL, OPT_THREADS},
		{"size", required_argument, NULL, OPT_SIZE},
		{"peers", required_argument, NULL, OPT_PEERS},
		{"json", required_argument, NULL, OPT_JSON},
		{"report", required_argument, NULL, OPT_REPORT},
		{"instructions", no_argument, NULL, OPT_INSTRUCTIONS},
		{"baseline", required_argument, NULL, OPT_BASELINE},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct options *o = &command->options;
	int opt, err;

	while ((opt = getopt_long(argc, argv, "h", table, NULL)) != -1) {
		err = option_take(command, opt);
		if (err)
			return err;
	}
	for (; optind < argc; optind++) {
		if (strcmp(argv[optind], "all") == 0)
			o->all = true;
		else if (!scenario_find(argv[optind]))
			return wrong("unknown scenario", argv[optind]);
		else if (o->n_scenarios < sizeof(o->scenarios) / sizeof(o->scenarios[0]))
			o->scenarios[o->n_scenarios++] = argv[optind];
	}
	if (!o->rounds)
		o->rounds = o->all || o->n_scenarios ? 5 : 3;
	if (o->seconds == 0)
		o->seconds = o->all || o->n_scenarios ? 0.2 : 0.1;
	return 0;
}

/* "call_rcu" chooses call_rcu+glibc too. */
static bool named(const char *name, const char *word, size_t n)
{
	return strncmp(name, word, n) == 0 && (name[n] == '\0' || name[n] == '+');
}

static int peers_choose(const char *list, struct presence *presence)
{
	const struct competitor *competitor;
	size_t i, n;

	for (i = 0; (competitor = competitor_nth(i)); i++)
		presence[i].chosen = !list || strncmp(competitor->name, "libsheaf", 8) == 0;
	for (; list && *list; list += n + (list[n] == ',')) {
		bool found = false;

		n = strcspn(list, ",");
		for (i = 0; n && (competitor = competitor_nth(i)); i++)
			if (named(competitor->name, list, n))
				presence[i].chosen = found = true;
		if (n && !found)
			return wrong("unknown peer", list);
	}
	return 0;
}

static void skipped_print(FILE *out, const struct presence *presence)
{
	const struct competitor *competitor;
	size_t i;
	bool any = false;

	for (i = 0; (competitor = competitor_nth(i)); i++) {
		if (!presence[i].chosen || presence[i].there)
			continue;
		if (presence[i].broken)
			fprintf(out, "sheaf-bench: %s does not start: %s\n", competitor->name,
				presence[i].text);
		else
			fprintf(out, "skipped: %s: %s\n", competitor->name, presence[i].text);
		any = any || !presence[i].broken;
	}
	if (any)
		fprintf(out, "tools/bench-peers installs what is missing; then build again\n");
}

static int list_print(const struct presence *presence)
{
	const struct competitor *competitor;
	const struct scenario *scenario;
	size_t i;

	printf("scenarios:\n");
	for (i = 0; (scenario = scenario_nth(i)); i++)
		printf("  %-12s %s\n", scenario->name, scenario->what);
	printf("competitors:\n");
	for (i = 0; (competitor = competitor_nth(i)); i++)
		if (presence[i].there)
			printf("  %-21s %s%s%s%s%s%s\n", competitor->name,
			       competitor->objects ? "objects " : "",
			       competitor->retires ? "retire " : "",
			       competitor->trees ? "trees " : "",
			       competitor->pools ? "pools " : "", *presence[i].text ? "- " : "",
			       presence[i].text);
	fflush(stdout);
	return 0;
}

static void machine_print(const struct machine *machine)
{
	printf("%s, %u cores, %u node%s, %.0f GiB; %s; %s; %s, %s\n%s\n", machine->cpu,
	       machine->cores, machine->nodes, machine->nodes == 1 ? "" : "s", machine->memory_gib,
	       machine->kernel, machine->libc, machine->compiler, machine->build, machine->peers);
	if (!machine->exact)
		printf("this build has assertions or checks in it: figures are too high; "
		       "set up with --buildtype=release\n");
	fflush(stdout);
}

static int written(const char *name, int err)
{
	if (err)
		fprintf(stderr, "sheaf-bench: %s: %s\n", name, strerror(-err));
	return err ? 1 : 0;
}

int main(int argc, char **argv)
{
	static struct presence presence[COMPETITORS_MAX];
	static struct machine machine;
	static struct command command;
	struct results results = {.last = &results.first};
	int status, failures;

	if (argc > 2 && strcmp(argv[1], "--child") == 0)
		return child_main(argc - 2, argv + 2);
	if (argc == 3 && strcmp(argv[1], "--probe") == 0)
		return probe_main(argv[2]);
	if (argc == 4 && strcmp(argv[1], "--count") == 0)
		return instruction_child(argv[2], strtoull(argv[3], NULL, 10));
	status = options_read(&command, argc, argv);
	if (!status)
		status = peers_choose(command.options.peers, presence);
	if (status)
		return status;
	signal(SIGPIPE, SIG_IGN);
	if (command.instructions)
		return instructions_main(command.baseline, command.options.json);
	failures = (int)probe_all(presence);
	skipped_print(stderr, presence);
	if (command.list)
		return failures ? 1 : list_print(presence);
	machine_read(&machine, presence);
	machine_print(&machine);
	failures += (int)drive(&command.options, presence, &results);
	status = failures ? 1 : 0;
	if (command.options.json)
		status |= written(command.options.json,
				  json_write(command.options.json, &machine, &results));
	if (command.options.report)
		status |= written(command.options.report,
				  report_write(command.options.report, &machine, &results));
	if (fflush(stdout) || ferror(stdout))
		status |= written("standard output", -EIO);
	if (failures)
		fprintf(stderr, "sheaf-bench: %d failure%s; the other results are complete\n",
			failures, failures == 1 ? "" : "s");
	return status;
}
