/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Reads bytes as a recording, and plans its replay. Bad ones are told by a message that names
 * the file; of good ones all that later parts rely on is so: events in the order of their
 * effects, ranges within their maps ascending, indices within their arrays.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include "plan.h"
#include "shadow.h"
#include "trace.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Ranges that a shadow is made of grow with checks times ranges: only of short recordings. */
#define SHADOW_MOST 2000

static void look_at_map(const struct trace *trace, const struct trace_map *map)
{
	size_t i;

	fuzz_check(map->count && map->begin <= trace->range_count &&
		   map->count <= trace->range_count - map->begin);
	for (i = map->begin; i < map->begin + map->count; i++) {
		const struct trace_range *range = &trace->ranges[i];

		fuzz_check(range->first <= range->last);
		fuzz_check(i == map->begin || range[-1].last < range->first);
		fuzz_check(trace_prot_name(range->prot) != NULL);
	}
}

static void look_at(const struct trace *trace)
{
	size_t i;

	fuzz_check(trace->command && trace->event_count && trace->page);
	for (i = 0; i < trace->map_count; i++)
		look_at_map(trace, &trace->maps[i]);
	for (i = 0; i < trace->event_count; i++) {
		const struct trace_event *event = &trace->events[i];

		fuzz_check(event->kind < TRACE_KINDS);
		fuzz_check(!i || event[-1].effect <= event->effect);
		fuzz_check(event->map == TRACE_NO_MAP || event->map < trace->map_count ||
			   (event->kind != TRACE_CHECK && event->kind != TRACE_EXECVE));
		fuzz_check(event->kind != TRACE_MUNMAP ||
			   (event->len && event->len % trace->page == 0 &&
			    event->addr + event->len - 1 >= event->addr));
	}
}

static void look_at_plan(const struct plan *plan, const struct trace *trace)
{
	size_t i;

	for (i = 0; i < plan->count; i++) {
		const struct plan_step *step = &plan->steps[i];

		fuzz_check(step->space < plan->spaces);
		fuzz_check(step->event == PLAN_NO_EVENT || step->event < trace->event_count);
	}
}

static void told(const struct trace *trace, const char *path)
{
	fuzz_check(!strncmp(trace->error, path, strlen(path)));
	fuzz_check(trace->error[strlen(path)] == ':' && strlen(trace->error) > strlen(path) + 3);
}

static void read_and_plan(const char *path)
{
	struct trace trace;
	struct plan plan = {0};
	struct shadow shadow = {0};

	if (trace_read(&trace, path)) {
		told(&trace, path);
		trace_free(&trace);
		return;
	}
	look_at(&trace);
	if (plan_make(&plan, &trace)) {
		told(&trace, path);
	} else {
		look_at_plan(&plan, &trace);
		if (trace.range_count + trace.event_count < SHADOW_MOST &&
		    shadow_make(&shadow, &plan, &trace))
			told(&trace, path);
		shadow_free(&shadow);
	}
	plan_free(&plan);
	trace_free(&trace);
}

const unsigned fuzz_kinds = 0;
uint64_t fuzz_played;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	int file = memfd_create("recording", MFD_CLOEXEC);

	if (file < 0 || write(file, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	read_and_plan(path);
	close(file);
	return 0;
}
