/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * sheaf-stat: what caches of another process hold and do.
 *
 *	pages.c     the page of a process: found, opened, asked, read
 *	rows.c      what two readings say of a cache
 *	table.c     a table as wide and as high as there is room
 *	formats.c   JSON and the text format of Prometheus
 *	screen.c    a terminal that is drawn again and again
 */
#ifndef SHEAF_STAT_H
#define SHEAF_STAT_H

#include <sheaf/stats.h>
#include <stdio.h>
#include <sys/types.h>

#include "cache_page.h"

/* What a page said at one time; the records are the reader's. */
struct reading {
	struct page_head head;
	uint32_t count;
	struct sheaf_cache_stats *records;
};

/* An open page. */
struct look {
	pid_t pid;
	int fd;
	/* Only its address is used, for futex(2): nobody reads memory that another may truncate. */
	struct page_head *words;
	struct reading now;
	struct reading before; /* without records at first */
};

enum found {
	FOUND,
	FOUND_NO_PROCESS,
	FOUND_NO_PAGE,
	FOUND_NOT_OURS,
	FOUND_LEFT, /* of a process that has ended, or is another program now */
	FOUND_BROKEN,
	FOUND_SILENT, /* no answer in time */
	FOUND_NO_MEMORY,
};

/* Open the page of a process. */
enum found look_open(struct look *look, pid_t pid);
void look_close(struct look *look);

/* Ask for an update and read it: now, what now was is before. */
enum found look_update(struct look *look);

/* Print what went wrong. */
void look_complain(enum found found, pid_t pid);

/* All pages that can be opened, in a table; what is left over is removed. How many. */
unsigned list_pages(FILE *out);

/* What is shown of a cache. Numbers that are not known are negative. */
struct row {
	const struct sheaf_cache_stats *s;
	char name[32]; /* can be printed */
	double memory;
	double size;
	double in_use;
	double held;
	double fragmentation; /* per cent */
	double trips;         /* per second, as those below */
	double races;
	double backend;
	double barn;     /* per cent of trips that found what they went for */
	double recycler; /* per cent of what the barn had not */
	double flight;
	double age; /* microseconds, the middle of the sheaves is below it */
};

struct rows {
	uint32_t count;
	struct row *row;
};

/* False if there is no memory. Frees what was there. */
bool rows_make(struct rows *rows, const struct look *look);
void rows_free(struct rows *rows);

/* Columns by number, the most important one first. */
#define COLUMNS 13
const char *column_key(unsigned column);
/* By a key as column_key() has it; -1 if there is none. */
int column_find(const char *key);
void rows_sort(struct rows *rows, unsigned column);

struct table {
	unsigned width;
	unsigned height; /* 0: no end */
	bool colour;
	unsigned sort;
	const char *newline;
};
void table_print(FILE *out, const struct table *table, const struct look *look,
		 const struct rows *rows);

/* As it fits in so many bytes: 1234, 12K, 3.4M. */
void number_text(char *text, size_t bytes, double value);

void json_print(FILE *out, const struct look *look, const struct rows *rows);
void prometheus_print(FILE *out, const struct look *look, const struct rows *rows);

/* Draw until somebody presses q, the process ends, or count updates are over (0: no end). Exit status. */
int screen_run(struct look *look, struct table *table, double interval, unsigned count);

#endif
