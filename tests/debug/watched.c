/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "watched.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct sheaf_gp_manual watched_manual;
struct sheaf_cache *watched;
struct watched_seen watched_seen;

static void on_report(void *arg, const struct sheaf_debug_report *report)
{
	ck_assert_ptr_eq(arg, &watched_seen);
	watched_seen.kind[watched_seen.n++ % WATCHED_MOST] = report->kind;
	watched_seen.last = *report;
	snprintf(watched_seen.text, sizeof(watched_seen.text), "%s", report->text);
	snprintf(watched_seen.owner, sizeof(watched_seen.owner), "%s",
		 report->owner ? report->owner : "");
	if (report->kind == SHEAF_DEBUG_LEAK)
		watched_seen.leaked += report->count;
}

int on_first_node(void *arg)
{
	(void)arg;
	return 0;
}

struct sheaf_cache *watched_make(struct sheaf_debug_attr debug, struct sheaf_cache_attr attr)
{
	struct sheaf_cache *made;

	debug.size = sizeof(debug);
	debug.report = on_report;
	debug.report_arg = &watched_seen;
	attr.size = sizeof(attr);
	attr.debug = &debug;
	if (!attr.object_size)
		attr.object_size = WATCHED_SIZE;
	if (!attr.name)
		attr.name = "watched";
	attr.gp = &watched_manual.gp;
	ck_assert_int_eq(sheaf_cache_create(&made, &attr), 0);
	watched_seen.n = 0;
	watched_seen.leaked = 0;
	return made;
}

void watched_begin(struct sheaf_debug_attr debug)
{
	sheaf_gp_manual_init(&watched_manual, 0);
	watched = watched_make(debug, (struct sheaf_cache_attr){0});
}

void watched_end(void)
{
	size_t live;

	if (sheaf_cache_barrier(watched) == -EDEADLK)
		sheaf_gp_manual_step(&watched_manual);
	ck_assert(sheaf_cache_check(watched));
	ck_assert_int_eq(sheaf_cache_destroy(watched, &live), 0);
}

void *watched_get(void)
{
	void *object = sheaf_cache_alloc(watched, 0);

	ck_assert_ptr_nonnull(object);
	return object;
}

void watched_ripen(void)
{
	if (sheaf_cache_barrier(watched) == -EDEADLK)
		sheaf_gp_manual_step(&watched_manual);
}

bool watched_first_is_ours(void)
{
#ifdef __OPTIMIZE__
	return ANNOTATE_RED_ZONE || test_tsan();
#else
	return true;
#endif
}

void watched_expect(enum sheaf_debug_kind kind, const void *object)
{
	ck_assert_msg(watched_seen.n == 1, "%u reports, last %d: %s", watched_seen.n,
		      (int)watched_seen.last.kind, watched_seen.text);
	ck_assert_int_eq(watched_seen.last.kind, kind);
	ck_assert_ptr_eq(watched_seen.last.object, object);
	ck_assert_str_eq(watched_seen.last.cache, "watched");
	ck_assert_ptr_nonnull(strstr(watched_seen.text, "libsheaf: cache watched: "));
	watched_seen.n = 0;
}
