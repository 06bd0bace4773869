/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What sheaf-replay prints: progress on stderr, the summary on stdout. */
#ifndef TOOLS_REPLAY_REPORT_H
#define TOOLS_REPLAY_REPORT_H

#include "address_space.h"
#include "plan.h"
#include "replay_readers.h"

#include <sheaf/gp.h>

struct progress {
	uint64_t start; /* nanoseconds of a clock */
	uint64_t last;
	bool tty;
	bool shown;
};

struct report {
	const struct trace *trace;
	const struct plan *plan;
	const struct spaces *spaces;
	struct sheaf_cache_stats vmas;
	struct sheaf_cache_stats nodes;
	struct reader_counts reads;
	uint64_t periods;
	uint64_t ns;
	uint64_t writes;
	uint64_t same;
	unsigned loops;
	unsigned readers;
};

uint64_t clock_now(void);

/*
 * A line on how far it is, after the first second: on a terminal several times a second
 * in place, elsewhere every ten seconds.
 */
void progress_begin(struct progress *progress);
void progress_show(struct progress *progress, const char *what, uint64_t done, uint64_t all);
void progress_end(struct progress *progress);

void report_print(const struct report *report);

#endif
