/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What one reading, or two, say of each cache; doc/statistics.md says what it means. */
#include "stat.h"

#include <stdlib.h>
#include <string.h>

static const char *const keys[COLUMNS] = {"name",     "memory", "in-use", "held",   "size",
					  "frag",     "trips",  "barn",   "flight", "age",
					  "recycler", "races",  "backend"};

const char *column_key(unsigned column)
{
	return keys[column];
}

int column_find(const char *key)
{
	int i;

	for (i = 0; i < COLUMNS; i++)
		if (!strcmp(keys[i], key))
			return i;
	return -1;
}

static double value(const struct row *row, unsigned column)
{
	const double values[COLUMNS] = {0,           row->memory,        row->in_use,   row->held,
					row->size,   row->fragmentation, row->trips,    row->barn,
					row->flight, row->age,           row->recycler, row->races,
					row->backend};

	return values[column];
}

static unsigned sort_column;

/* Numbers: the largest first; names: as in a dictionary. */
static int compare(const void *one, const void *other)
{
	const struct row *a = one, *b = other;
	double x = value(a, sort_column), y = value(b, sort_column);

	if (x != y)
		return x < y ? 1 : -1;
	if (strcmp(a->name, b->name))
		return strcmp(a->name, b->name);
	return a->s->number < b->s->number ? -1 : a->s->number > b->s->number;
}

void rows_sort(struct rows *rows, unsigned column)
{
	sort_column = column;
	if (rows->count)
		qsort(rows->row, rows->count, sizeof(*rows->row), compare);
}

/* The same cache at the reading before; NULL if it was not there. */
static const struct sheaf_cache_stats *was(const struct look *look,
					   const struct sheaf_cache_stats *s)
{
	uint32_t i;

	for (i = 0; i < look->before.count; i++)
		if (look->before.records[i].number == s->number)
			return &look->before.records[i];
	return NULL;
}

static double per_cent(double part, double whole)
{
	return whole > 0 ? 100 * part / whole : -1;
}

/* Below which the middle one of what has ripened is. */
static double middle_age(const struct sheaf_cache_stats *s, const struct sheaf_cache_stats *before)
{
	uint64_t all = 0, seen = 0;
	unsigned i;

	for (i = 0; i < SHEAF_RECYCLER_AGES; i++)
		all += s->ages[i] - (before ? before->ages[i] : 0);
	for (i = 0; all && i < SHEAF_RECYCLER_AGES; i++) {
		seen += s->ages[i] - (before ? before->ages[i] : 0);
		if (2 * seen >= all)
			return 16.0 * (UINT32_C(1) << i);
	}
	return -1;
}

static void fill(struct row *row, const struct sheaf_cache_stats *s,
		 const struct sheaf_cache_stats *before, double seconds)
{
	static const struct sheaf_cache_stats none;
	const struct sheaf_cache_stats *b = before ? before : &none;
	double trips = (double)(s->barn_alloc_trips - b->barn_alloc_trips) +
		       (double)(s->barn_free_trips - b->barn_free_trips);
	double backend = (double)(s->backend_alloc_trips - b->backend_alloc_trips) +
			 (double)(s->backend_free_trips - b->backend_free_trips);
	double recycled = (double)(s->recycled - b->recycled);
	double fetched = (double)(s->backend_alloc_trips - b->backend_alloc_trips);
	double races = (double)(s->barn_races - b->barn_races);
	double used = (double)s->in_use * (double)s->object_size;
	unsigned i;

	row->s = s;
	/* It may come from anybody. */
	for (i = 0; i + 1 < sizeof(row->name) && s->name[i]; i++)
		row->name[i] = s->name[i] < ' ' || s->name[i] > '~' ? '?' : s->name[i];
	row->name[i] = '\0';
	row->memory = (double)s->memory_touched;
	row->size = (double)s->object_size;
	row->in_use = (double)s->in_use;
	row->held = (double)s->held_slots + (double)s->held_barns + (double)s->held_quarantine +
		    (double)s->spilled;
	row->fragmentation = per_cent(row->memory - used, row->memory);
	if (row->fragmentation < 0 && row->memory > 0)
		row->fragmentation = 0;
	row->barn = per_cent(trips - (double)(s->barn_failed - b->barn_failed), trips);
	row->recycler = s->retires ? per_cent(recycled, recycled + fetched) : -1;
	row->flight = s->retires ? (double)s->in_flight : -1;
	row->age = middle_age(s, before);
	row->trips = before && seconds > 0 ? trips / seconds : -1;
	row->backend = before && seconds > 0 ? backend / seconds : -1;
	row->races = before && seconds > 0 ? races / seconds : -1;
}

bool rows_make(struct rows *rows, const struct look *look)
{
	double seconds = 0;
	uint32_t i;

	rows_free(rows);
	rows->row = calloc(look->now.count + 1, sizeof(*rows->row));
	if (!rows->row)
		return false;
	if (look->now.head.time_ns > look->before.head.time_ns)
		seconds = (double)(look->now.head.time_ns - look->before.head.time_ns) / 1e9;
	rows->count = look->now.count;
	for (i = 0; i < rows->count; i++)
		fill(&rows->row[i], &look->now.records[i], was(look, &look->now.records[i]),
		     seconds);
	return true;
}

void rows_free(struct rows *rows)
{
	free(rows->row);
	*rows = (struct rows){0};
}
