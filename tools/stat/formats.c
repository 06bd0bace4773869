/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* For programs to read: JSON, a line for each update, and the text format of Prometheus. */
#include "stat.h"

#include <inttypes.h>
#include <string.h>

#define FIELD(name, kind, help)                                                                    \
	{                                                                                          \
#name, kind, help, offsetof(struct sheaf_cache_stats, name)                        \
	}

/* Fields of 64 bits. A gauge goes up and down, a counter up only. */
static const struct {
	const char *name;
	const char *kind;
	const char *help;
	size_t at;
} fields[] = {
	FIELD(in_use, "gauge", "Objects that callers have"),
	FIELD(held_slots, "gauge", "Objects in slots"),
	FIELD(held_rcu, "gauge", "Retired objects in slots"),
	FIELD(held_barns, "gauge", "Objects in barns"),
	FIELD(held_lent, "gauge", "Objects in lent sheaves when they were last filled"),
	FIELD(held_cross, "gauge", "Objects in slots that wait to go to their node"),
	FIELD(held_quarantine, "gauge", "Free objects that debug mode holds back"),
	FIELD(spilled, "gauge", "Free objects that nowait calls left aside"),
	FIELD(left_retired, "gauge", "Retired objects that nowait calls left aside"),
	FIELD(in_flight, "gauge", "Retired objects in recyclers"),
	FIELD(in_flight_peak, "gauge", "Most retired objects in recyclers"),
	FIELD(abandoned, "counter", "Objects given up for want of memory"),
	FIELD(barn_full, "gauge", "Sheaves with objects in barns"),
	FIELD(barn_empty, "gauge", "Sheaves without objects in barns"),
	FIELD(lent_sheaves, "gauge", "Sheaves that are lent"),
	FIELD(backend_allocated, "gauge", "Objects that came from the backend"),
	FIELD(backend_freed, "counter", "Objects that went to the backend"),
	FIELD(backend_alloc_trips, "counter", "Visits to the backend for objects"),
	FIELD(backend_free_trips, "counter", "Visits to the backend with objects"),
	FIELD(budget_used, "gauge", "Bytes of objects that are not with the backend"),
	FIELD(budget_refused, "counter", "Times that a budget refused objects"),
	FIELD(memory_touched, "gauge", "Bytes of the backend that may be resident"),
	FIELD(memory_mapped, "gauge", "Bytes of address space of the backend"),
	FIELD(slab_room, "gauge", "Objects that touched slabs have room for"),
	FIELD(barn_alloc_trips, "counter", "Visits of slots to a barn for allocation"),
	FIELD(barn_free_trips, "counter", "Visits of slots to a barn for free"),
	FIELD(barn_failed, "counter", "Visits to a barn in vain"),
	FIELD(barn_alloc_failed, "counter", "Visits to a barn for allocation in vain"),
	FIELD(barn_races, "counter", "Races lost in barns"),
	FIELD(home_trips, "counter", "Visits to barns that took objects home"),
	FIELD(bypassed, "counter", "Calls that went round the slot"),
	FIELD(aborts, "counter", "Restartable sequences interrupted, as far as noticed"),
	FIELD(spills, "counter", "Times that nowait calls left something"),
	FIELD(sealed, "counter", "Rcu sheaves sealed"),
	FIELD(recycled, "counter", "Ripe sheaves taken back for use"),
	FIELD(aged, "counter", "Retired objects sealed by age"),
	FIELD(surplus, "counter", "Ripe objects that went to the backend"),
	FIELD(gave_way, "counter", "Times that allocation gave way"),
	FIELD(throttled, "counter", "Times that throttle waited"),
	FIELD(prefills, "gauge", "Prefilled sheaves lent"),
	FIELD(prefills_oversize, "counter", "Prefilled sheaves above capacity"),
	FIELD(trimmed, "counter", "Objects that trims gave back"),
	FIELD(tuned, "counter", "Times that the capacity was tuned"),
};

#define FIELDS (sizeof(fields) / sizeof(*fields))

static uint64_t field(const struct sheaf_cache_stats *s, size_t i)
{
	uint64_t value;

	memcpy(&value, (const char *)s + fields[i].at, sizeof(value));
	return value;
}

/* Inside quotation marks, for both formats. Bytes that may not be text are told by their numbers. */
static void print_text(FILE *out, const char *text, size_t most)
{
	size_t i;

	for (i = 0; i < most && text[i]; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\')
			(void)fprintf(out, "\\%c", c);
		else if (c < ' ' || c > '~')
			(void)fprintf(out, "%%%02x", c);
		else
			(void)fputc(c, out);
	}
}

static void print_known(FILE *out, const char *name, double value)
{
	if (value >= 0)
		(void)fprintf(out, ",\"%s\":%.9g", name, value);
	else
		(void)fprintf(out, ",\"%s\":null", name);
}

static void json_histogram(FILE *out, const char *name, const uint64_t *buckets, unsigned n)
{
	unsigned i;

	(void)fprintf(out, ",\"%s\":[", name);
	for (i = 0; i < n; i++)
		(void)fprintf(out, "%s%" PRIu64, i ? "," : "", buckets[i]);
	(void)fputc(']', out);
}

static void json_row(FILE *out, const struct row *row)
{
	const struct sheaf_cache_stats *s = row->s;
	size_t i;

	(void)fputs("{\"name\":\"", out);
	print_text(out, s->name, sizeof(s->name));
	(void)fprintf(out,
		      "\",\"number\":%" PRIu64 ",\"object_size\":%zu,\"capacity\":%" PRIu32
		      ",\"nodes\":%" PRIu32 ",\"slots\":%" PRIu32 ",\"orphans\":%" PRIu32
		      ",\"cpu_slots\":%s,\"retires\":%s,\"debug\":%s,\"slab\":%s",
		      s->number, s->object_size, s->capacity, s->nodes, s->slots, s->orphans,
		      s->cpu_slots ? "true" : "false", s->retires ? "true" : "false",
		      s->debug ? "true" : "false", s->slab ? "true" : "false");
	for (i = 0; i < FIELDS; i++)
		(void)fprintf(out, ",\"%s\":%" PRIu64, fields[i].name, field(s, i));
	json_histogram(out, "ages", s->ages, SHEAF_RECYCLER_AGES);
	json_histogram(out, "prefill_asked", s->prefill_asked, SHEAF_CACHE_PREFILLS);
	json_histogram(out, "prefill_used", s->prefill_used, SHEAF_CACHE_PREFILLS);
	print_known(out, "fragmentation_percent", row->fragmentation);
	print_known(out, "barn_percent", row->barn);
	print_known(out, "recycler_percent", row->recycler);
	print_known(out, "age_us", row->age);
	print_known(out, "trips_per_second", row->trips);
	print_known(out, "races_per_second", row->races);
	print_known(out, "backend_per_second", row->backend);
	(void)fputc('}', out);
}

void json_print(FILE *out, const struct look *look, const struct rows *rows)
{
	const struct page_head *head = &look->now.head;
	uint32_t i;

	(void)fprintf(out, "{\"pid\":%d,\"program\":\"", (int)look->pid);
	print_text(out, head->program, sizeof(head->program));
	(void)fprintf(out,
		      "\",\"time_ns\":%" PRIu64 ",\"took_ns\":%" PRIu64 ",\"updates\":%" PRIu64
		      ",\"missing\":%" PRIu32 ",\"budget_used\":%" PRIu64 ",\"caches\":[",
		      head->time_ns, head->took_ns, head->updates, head->missing,
		      head->budget_used);
	for (i = 0; i < rows->count; i++) {
		if (i)
			(void)fputc(',', out);
		json_row(out, &rows->row[i]);
	}
	(void)fputs("]}\n", out);
}

static void print_labels(FILE *out, const struct look *look, const struct row *row)
{
	(void)fprintf(out, "{pid=\"%d\",program=\"", (int)look->pid);
	print_text(out, look->now.head.program, sizeof(look->now.head.program));
	(void)fputs("\",cache=\"", out);
	print_text(out, row->s->name, sizeof(row->s->name));
	(void)fprintf(out, "\",number=\"%" PRIu64 "\"", row->s->number);
}

/* Ages as a histogram: buckets add up, bounds in seconds. A sum is not known. */
static void prometheus_ages(FILE *out, const struct look *look, const struct rows *rows)
{
	uint32_t r;
	unsigned i;

	(void)fputs(
		"# HELP sheaf_cache_ripening_age_seconds Sheaves by age when they were found ripe\n"
		"# TYPE sheaf_cache_ripening_age_seconds gauge\n",
		out);
	for (r = 0; r < rows->count; r++) {
		uint64_t all = 0;

		for (i = 0; i < SHEAF_RECYCLER_AGES; i++) {
			all += rows->row[r].s->ages[i];
			(void)fputs("sheaf_cache_ripening_age_seconds", out);
			print_labels(out, look, &rows->row[r]);
			if (i + 1 < SHEAF_RECYCLER_AGES)
				(void)fprintf(out, ",le=\"%g\"} %" PRIu64 "\n",
					      16e-6 * (UINT32_C(1) << i), all);
			else
				(void)fprintf(out, ",le=\"+Inf\"} %" PRIu64 "\n", all);
		}
	}
}

void prometheus_print(FILE *out, const struct look *look, const struct rows *rows)
{
	uint32_t r;
	size_t i;

	(void)fputs("# HELP sheaf_cache_object_size_bytes Bytes of an object\n"
		    "# TYPE sheaf_cache_object_size_bytes gauge\n",
		    out);
	for (r = 0; r < rows->count; r++) {
		(void)fputs("sheaf_cache_object_size_bytes", out);
		print_labels(out, look, &rows->row[r]);
		(void)fprintf(out, "} %zu\n", rows->row[r].s->object_size);
	}
	for (i = 0; i < FIELDS; i++) {
		const char *total = fields[i].kind[0] == 'c' ? "_total" : "";

		(void)fprintf(out, "# HELP sheaf_cache_%s%s %s\n# TYPE sheaf_cache_%s%s %s\n",
			      fields[i].name, total, fields[i].help, fields[i].name, total,
			      fields[i].kind);
		for (r = 0; r < rows->count; r++) {
			(void)fprintf(out, "sheaf_cache_%s%s", fields[i].name, total);
			print_labels(out, look, &rows->row[r]);
			(void)fprintf(out, "} %" PRIu64 "\n", field(rows->row[r].s, i));
		}
	}
	prometheus_ages(out, look, rows);
}
