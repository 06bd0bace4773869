/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The table. Columns that do not fit are left out, the least important ones first; so are rows. */
#include "stat.h"

#include <inttypes.h>
#include <string.h>

static const struct {
	const char *title;
	unsigned width;
} columns[COLUMNS] = {
	{"NAME", 14}, {"MEMORY", 7},  {"IN-USE", 8}, {"HELD", 7},   {"SIZE", 6},
	{"FRAG%", 5}, {"TRIPS/S", 8}, {"BARN%", 6},  {"FLIGHT", 7}, {"AGE", 6},
	{"RECY%", 6}, {"RACES/S", 7}, {"BACK/S", 7},
};

void number_text(char *text, size_t bytes, double value)
{
	static const char letters[] = " KMGTPE";
	unsigned i;

	if (value < 0) {
		(void)snprintf(text, bytes, "-");
		return;
	}
	for (i = 0; value >= 99999.5 && letters[i + 1]; i++)
		value /= 1024;
	if (!i)
		(void)snprintf(text, bytes, "%.0f", value);
	else
		(void)snprintf(text, bytes, value < 100 ? "%.1f%c" : "%.0f%c", value, letters[i]);
}

static void age_text(char *text, size_t bytes, double us)
{
	if (us < 0)
		(void)snprintf(text, bytes, "-");
	else if (us < 1000)
		(void)snprintf(text, bytes, "%.0fus", us);
	else
		(void)snprintf(text, bytes, "%.0fms", us / 1000);
}

static void per_cent_text(char *text, size_t bytes, double value)
{
	if (value < 0)
		(void)snprintf(text, bytes, "-");
	else
		/* 100 only if it is all. */
		(void)snprintf(text, bytes, "%.1f", value > 99.9 && value < 100 ? 99.9 : value);
}

static void cell_text(char *text, size_t bytes, const struct row *row, unsigned column)
{
	switch (column) {
	case 0:
		(void)snprintf(text, bytes, "%s", row->name);
		return;
	case 1:
		number_text(text, bytes, row->memory);
		return;
	case 2:
		number_text(text, bytes, row->in_use);
		return;
	case 3:
		number_text(text, bytes, row->held);
		return;
	case 4:
		number_text(text, bytes, row->size);
		return;
	case 5:
		number_text(text, bytes, row->fragmentation);
		return;
	case 6:
		number_text(text, bytes, row->trips);
		return;
	case 7:
		per_cent_text(text, bytes, row->barn);
		return;
	case 8:
		number_text(text, bytes, row->flight);
		return;
	case 9:
		age_text(text, bytes, row->age);
		return;
	case 10:
		per_cent_text(text, bytes, row->recycler);
		return;
	case 11:
		number_text(text, bytes, row->races);
		return;
	default:
		number_text(text, bytes, row->backend);
	}
}

/* What deserves a look: barns that have nothing, races lost, memory that nobody uses. */
static const char *colour_of(const struct row *row, unsigned column)
{
	if (column == 7 && row->barn >= 0 && row->barn < 50)
		return "\033[33m";
	if (column == 11 && row->races > 1000)
		return "\033[31m";
	if (column == 5 && row->fragmentation > 75 && row->memory > 1 << 20)
		return "\033[33m";
	return NULL;
}

static void print_row(FILE *out, const struct table *table, const struct row *row)
{
	unsigned used = 0, i;

	for (i = 0; i < COLUMNS; i++) {
		unsigned width = columns[i].width;
		const char *colour = row && table->colour ? colour_of(row, i) : NULL;
		char text[40];

		if (i && used + 1 + width > table->width)
			break;
		/* Not even the name fits as a whole. */
		if (width > table->width)
			width = table->width;
		if (row)
			cell_text(text, sizeof(text), row, i);
		else
			(void)snprintf(text, sizeof(text), "%s", columns[i].title);
		if (!row && table->colour && i == table->sort)
			colour = "\033[1m";
		(void)fprintf(out, i ? " %s%*.*s%s" : "%s%-*.*s%s", colour ? colour : "",
			      (int)width, (int)width, text, colour ? "\033[0m" : "");
		used += width + (i != 0);
	}
	(void)fputs(table->newline, out);
}

void table_print(FILE *out, const struct table *table, const struct look *look,
		 const struct rows *rows)
{
	const struct page_head *head = &look->now.head;
	unsigned lines = table->height ? table->height : UINT32_MAX;
	double memory = 0, used = 0;
	char line[160], program[32], a[16], b[16];
	uint32_t i;

	for (i = 0; i + 1 < sizeof(program) && head->program[i]; i++)
		program[i] =
			head->program[i] < ' ' || head->program[i] > '~' ? '?' : head->program[i];
	program[i] = '\0';
	for (i = 0; i < rows->count; i++) {
		memory += rows->row[i].memory;
		used += rows->row[i].in_use * rows->row[i].size;
	}
	number_text(a, sizeof(a), memory);
	number_text(b, sizeof(b), used);
	(void)snprintf(line, sizeof(line),
		       "%s (%d): %" PRIu32 " caches, %s bytes, %s in use; update %.0f us%s",
		       program, (int)look->pid, rows->count, a, b, (double)head->took_ns / 1000,
		       head->missing ? "; not all are shown" : "");
	(void)fprintf(out, "%.*s%s", (int)table->width, line, table->newline);
	if (lines > 1)
		print_row(out, table, NULL);
	for (i = 0; i < rows->count && i + 2 < lines; i++)
		print_row(out, table, &rows->row[i]);
}
