/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* sheaf-stat: options, and what is done without a terminal. */
#define _GNU_SOURCE
#include "stat.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_PROMETHEUS };

static const char usage[] =
	"usage: sheaf-stat [OPTION...] [PID]\n"
	"What the caches of a process hold and do; without PID, which processes can be asked.\n"
	"A process can if it was started with SHEAF_STATS=1 in its environment, or its caches ask "
	"for it.\n"
	"\n"
	"  -1, --once          one update, then the end\n"
	"  -c, --count N       N updates\n"
	"  -i, --interval S    seconds from one to the next; default 1, at least 0.01\n"
	"  -s, --sort KEY      name, memory, in-use, held, size, frag, trips, barn, flight, age,\n"
	"                      recycler, races or backend; default memory\n"
	"  -j, --json          an object of JSON in a line for each update\n"
	"  -p, --prometheus    the text format of Prometheus, once\n"
	"      --colour WHEN   auto, always or never\n"
	"  -h, --help, -V, --version\n"
	"\n"
	"Keys: q ends, s sorts by the next column. doc/statistics.md says what the columns mean.\n";

static int wrong(const char *what, const char *text)
{
	(void)fprintf(stderr, "sheaf-stat: %s %s (try --help)\n", what, text);
	return 2;
}

struct options {
	enum format format;
	unsigned count;
	double interval;
	struct table table;
	const char *colour;
};

static bool read_count(const char *text, unsigned *count)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	*count = (unsigned)n;
	return *text >= '1' && *text <= '9' && !*end && !errno && n <= 1000000000;
}

static bool read_interval(const char *text, double *interval)
{
	char *end;

	*interval = strtod(text, &end);
	return *text && !*end && isfinite(*interval) && *interval >= 0.01 && *interval <= 86400;
}

/* 0, or the exit status plus one. */
static int read_options(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {{"once", no_argument, NULL, '1'},
					      {"count", required_argument, NULL, 'c'},
					      {"interval", required_argument, NULL, 'i'},
					      {"sort", required_argument, NULL, 's'},
					      {"json", no_argument, NULL, 'j'},
					      {"prometheus", no_argument, NULL, 'p'},
					      {"colour", required_argument, NULL, 'C'},
					      {"color", required_argument, NULL, 'C'},
					      {"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'V'},
					      {NULL, 0, NULL, 0}};
	int c, column;

	while ((c = getopt_long(argc, argv, "1c:i:s:jphV", longs, NULL)) != -1) {
		switch (c) {
		case '1':
			o->count = 1;
			break;
		case 'c':
			if (!read_count(optarg, &o->count))
				return 1 + wrong("no count:", optarg);
			break;
		case 'i':
			if (!read_interval(optarg, &o->interval))
				return 1 + wrong("no interval:", optarg);
			break;
		case 's':
			column = column_find(optarg);
			if (column < 0)
				return 1 + wrong("nothing to sort by:", optarg);
			o->table.sort = (unsigned)column;
			break;
		case 'j':
			o->format = FORMAT_JSON;
			break;
		case 'p':
			o->format = FORMAT_PROMETHEUS;
			o->count = 1;
			break;
		case 'C':
			o->colour = optarg;
			if (strcmp(optarg, "auto") && strcmp(optarg, "always") &&
			    strcmp(optarg, "never"))
				return 1 + wrong("colour is auto, always or never, not", optarg);
			break;
		case 'h':
			(void)fputs(usage, stdout);
			return 1;
		case 'V':
			(void)puts("sheaf-stat " SHEAF_VERSION);
			return 1;
		default:
			return 1 + 2;
		}
	}
	return 0;
}

static enum found print_update(struct look *look, const struct options *o, struct rows *rows)
{
	enum found found = look_update(look);

	if (found != FOUND)
		return found;
	if (!rows_make(rows, look))
		return FOUND_NO_MEMORY;
	rows_sort(rows, o->table.sort);
	if (o->format == FORMAT_JSON)
		json_print(stdout, look, rows);
	else if (o->format == FORMAT_PROMETHEUS)
		prometheus_print(stdout, look, rows);
	else
		table_print(stdout, &o->table, look, rows);
	(void)fflush(stdout);
	return FOUND;
}

/* Without a terminal, or for programs: one update below the other. */
static int print_all(struct look *look, const struct options *o)
{
	const struct timespec nap = {(time_t)o->interval,
				     (long)((o->interval - (double)(time_t)o->interval) * 1e9)};
	struct rows rows = {0};
	enum found found;
	unsigned done = 0;

	while ((found = print_update(look, o, &rows)) == FOUND) {
		if ((o->count && ++done >= o->count) || ferror(stdout))
			break;
		nanosleep(&nap, NULL);
		if (o->format == FORMAT_TABLE)
			(void)putchar('\n');
	}
	rows_free(&rows);
	if (found == FOUND)
		return ferror(stdout) != 0;
	look_complain(found, look->pid);
	return 1;
}

static int run(pid_t pid, struct options *o)
{
	bool terminal = isatty(STDOUT_FILENO);
	struct look look;
	enum found found = look_open(&look, pid);
	const char *none = getenv("NO_COLOR");
	int status;

	if (found != FOUND) {
		look_complain(found, pid);
		return 1;
	}
	o->table.colour = !strcmp(o->colour, "always") ||
			  (!strcmp(o->colour, "auto") && terminal && !(none && *none));
	if (terminal && o->format == FORMAT_TABLE && o->count != 1)
		status = screen_run(&look, &o->table, o->interval, o->count);
	else
		status = print_all(&look, o);
	look_close(&look);
	return status;
}

int main(int argc, char **argv)
{
	struct options o = {.interval = 1,
			    .colour = "auto",
			    .table = {.width = 200, .sort = 1, .newline = "\n"}};
	int status = read_options(&o, argc, argv);
	unsigned pid;

	if (status)
		return status - 1;
	if (argc - optind > 1)
		return wrong("one process at a time, not also", argv[optind + 1]);
	if (optind < argc) {
		if (!read_count(argv[optind], &pid))
			return wrong("no process number:", argv[optind]);
		return run((pid_t)pid, &o);
	}
	if (list_pages(stdout))
		return 0;
	(void)fputs("sheaf-stat: no process shows statistics: start one with SHEAF_STATS=1\n",
		    stderr);
	return 1;
}
