/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "replay_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

uint64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

void progress_begin(struct progress *progress)
{
	*progress = (struct progress){.start = clock_now(), .tty = isatty(STDERR_FILENO)};
	/* The first line comes after one second, whatever the pace. */
	progress->last = progress->start + SECOND - (progress->tty ? SECOND / 5 : 10 * SECOND);
}

void progress_show(struct progress *progress, const char *what, uint64_t done, uint64_t all)
{
	uint64_t now = clock_now();

	if ((int64_t)(now - progress->last) < (int64_t)(progress->tty ? SECOND / 5 : 10 * SECOND))
		return;
	progress->last = now;
	progress->shown = true;
	fprintf(stderr, "%s%s: %" PRIu64 " of %" PRIu64 " (%" PRIu64 " %%)%s", progress->tty ? "\r" : "",
		what, done, all, all ? 100 * done / all : 100, progress->tty ? "\033[K" : "\n");
}

void progress_end(struct progress *progress)
{
	if (progress->shown && progress->tty)
		fputs("\r\033[K", stderr);
}

static double per(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

static void print_reads(const struct report *report)
{
	const struct reader_counts *reads = &report->reads;

	if (!report->readers)
		return;
	printf("  reads          %" PRIu64 " faults by %u readers: %" PRIu64 " hits, %" PRIu64
	       " misses, %" PRIu64 " sharp, %" PRIu64 " bad\n",
	       reads->faults, report->readers, reads->hits, reads->misses, reads->sharp, reads->bad);
}

/* One cache: its objects, and what each operation on it cost in trips. */
static void print_cache(const char *name, const struct sheaf_cache_stats *stats, uint64_t made,
			uint64_t retired, uint64_t peak)
{
	uint64_t operations = made + retired;

	printf("  %-10s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %8zu %11.4f %13.4f\n", name,
	       made, retired, peak, stats->in_flight_peak, stats->object_size,
	       per(stats->barn_alloc_trips + stats->barn_free_trips, operations),
	       per(stats->backend_alloc_trips + stats->backend_free_trips, operations));
}

void report_print(const struct report *report)
{
	const struct trace *trace = report->trace;
	const struct space_counts *counts = &report->spaces->counts;
	struct rusage usage = {0};

	getrusage(RUSAGE_SELF, &usage);
	printf("%s: %s\n", trace->path, trace->command);
	printf("  calls          %" PRIu64 " recorded: %" PRIu64 " failed, %" PRIu64
	       " without effect; %u address spaces\n",
	       trace->calls, trace->failed, trace->without_effect, report->plan->spaces);
	printf("  replay         %" PRIu64 " operations in %u loops, %.3f s, %.0f ns per operation\n",
	       report->writes, report->loops, (double)report->ns / (double)SECOND,
	       per(report->ns, report->writes));
	printf("  maps           %" PRIu64 " compared, %" PRIu64 " identical; %" PRIu64
	       " stack growths taken over\n",
	       (uint64_t)report->plan->checks * report->loops, report->same, counts->stack_growths);
	printf("  places         %" PRIu64 " asked, %" PRIu64 " as the kernel (%.1f %%); %" PRIu64
	       " of the others aligned to 2 MiB by it\n",
	       counts->places, counts->places_same, 100 * per(counts->places_same, counts->places),
	       counts->places_huge);
	print_reads(report);
	printf("  %-10s %10s %10s %10s %10s %8s %11s %13s\n", "objects", "made", "retired", "peak",
	       "in flight", "bytes", "barn trips", "backend trips");
	print_cache("ranges", &report->vmas, counts->vmas_made, counts->vmas_retired, counts->vmas_peak);
	print_cache("nodes", &report->nodes, counts->nodes_made, counts->nodes_retired,
		    counts->nodes_peak);
	printf("  grace periods  %" PRIu64 "\n", report->periods);
	printf("  peak memory    %.1f MiB\n", (double)usage.ru_maxrss / 1024);
}
