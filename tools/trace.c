/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * From the lines of a recording to events in the order in which they took effect.
 *
 * strace writes a call in two halves when another thread gets between:
 *
 *	71  munmap(0x7f10, 4096 <unfinished ...>
 *	72  mmap(NULL, 4096, ...) = 0x7f10
 *	71  <... munmap resumed>) = 0
 *
 * Each thread has at most one call open; the second half is glued to the first.
 * When did the two calls happen?  All that is known is that each took effect
 * between its entry and its return.  The rule here:
 *
 *	what takes away takes effect at its entry,
 *	what gives, or only changes, takes effect at its return.
 *
 * It never lets two live mappings overlap if the kernel did not: the kernel freed
 * after the entry was logged and gave before the return was, so whoever got an
 * address that another thread gave up returns after that one's entry, and whoever
 * gives up what it got enters after the return that told it the address.  A program
 * that changes one range from two threads at once has no order that a recording
 * could show.  mremap both takes and gives, so no one place is right for it: it counts
 * at its return, and record-trace lets nothing else happen meanwhile.
 *
 * A fork counts at its entry, so that the child exists when its first line comes,
 * which may be before the parent's second half.
 *
 * Read first: take_line(), take_call().
 */
#include "trace_parse.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A thread that has a call open or made an execve whose map is still to come. */
struct thread {
	int tid;
	char *open;	   /* first half of a call; NULL: none */
	uint32_t line;	   /* of that half */
	size_t exec;	   /* 1 + index of the last execve, 0: none or it has its map */
};

struct reader {
	struct trace *trace;
	uint32_t line;
	struct thread *threads;
	size_t thread_count;
	size_t thread_room;
	size_t event_room;
	size_t map_room;
	size_t range_room;
	struct trace_map *map; /* open block; NULL: none */
	size_t map_exec;       /* 1 + index of the execve it belongs to, 0: a check */
	bool ended;
};

const char *trace_prot_name(uint8_t prot)
{
	static const char names[16][5] = {"---p", "r--p", "-w-p", "rw-p", "--xp", "r-xp",
					  "-wxp", "rwxp", "---s", "r--s", "-w-s", "rw-s",
					  "--xs", "r-xs", "-wxs", "rwxs"};

	return names[prot & 15];
}

int trace_fail(struct trace *trace, uint32_t line, const char *format, ...)
{
	size_t length = 0;
	va_list list;

	if (line)
		snprintf(trace->error, sizeof(trace->error), "%s:%u: ", trace->path, line);
	else
		snprintf(trace->error, sizeof(trace->error), "%s: ", trace->path);
	length = strlen(trace->error);
	va_start(list, format);
	vsnprintf(trace->error + length, sizeof(trace->error) - length, format, list);
	va_end(list);
	/* What a file holds must not reach a terminal as control characters. */
	for (char *at = trace->error; *at; at++)
		if (!isprint((unsigned char)*at))
			*at = '?';
	return -1;
}

#define fail(reader, ...) trace_fail((reader)->trace, (reader)->line, __VA_ARGS__)

/* Room for one more element. Returns the array, or NULL with the old one intact. */
static void *grow(void *array, size_t count, size_t *room, size_t bytes)
{
	size_t wanted = *room ? 2 * *room : 64;

	if (count < *room)
		return array;
	array = wanted > SIZE_MAX / bytes ? NULL : realloc(array, wanted * bytes);
	if (array)
		*room = wanted;
	return array;
}

static int add_event(struct reader *reader, const struct trace_event *event)
{
	struct trace *trace = reader->trace;
	void *array = grow(trace->events, trace->event_count, &reader->event_room, sizeof(*event));

	if (!array || trace->event_count == UINT32_MAX)
		return fail(reader, "out of memory");
	trace->events = array;
	trace->events[trace->event_count++] = *event;
	return 0;
}

static struct thread *find_thread(struct reader *reader, int tid)
{
	for (size_t i = 0; i < reader->thread_count; i++)
		if (reader->threads[i].tid == tid)
			return &reader->threads[i];
	return NULL;
}

/* The thread, made if need be; NULL with the error set. */
static struct thread *get_thread(struct reader *reader, int tid)
{
	struct thread *thread = find_thread(reader, tid);
	void *array;

	if (thread)
		return thread;
	array = grow(reader->threads, reader->thread_count, &reader->thread_room, sizeof(*thread));
	if (!array) {
		fail(reader, "out of memory");
		return NULL;
	}
	reader->threads = array;
	thread = &reader->threads[reader->thread_count++];
	*thread = (struct thread){.tid = tid};
	return thread;
}

static int thread_gone(struct reader *reader, int tid)
{
	struct trace_event event = {.kind = TRACE_GONE, .tid = tid, .line = reader->line,
				    .effect = reader->line};
	struct thread *thread = find_thread(reader, tid);

	if (thread) {
		free(thread->open);
		*thread = reader->threads[--reader->thread_count];
	}
	return add_event(reader, &event);
}

/* A whole call of a thread that entered it at line @entry. */
static int take_call(struct reader *reader, struct thread *thread, uint32_t entry, char *text)
{
	struct trace_event event = {.tid = thread->tid, .map = TRACE_NO_MAP};
	int matters = trace_call(reader->trace, reader->line, text, &event);

	if (matters <= 0)
		return matters;
	event.effect = reader->line;
	if (event.kind == TRACE_MUNMAP || event.kind == TRACE_FORK)
		event.effect = entry;
	if (event.kind == TRACE_EXECVE)
		thread->exec = reader->trace->event_count + 1;
	return add_event(reader, &event);
}

/* The first half of a call: keep it. */
static int open_call(struct reader *reader, struct thread *thread, char *text, char *end)
{
	while (end > text && end[-1] == ' ')
		end--;
	thread->open = strndup(text, (size_t)(end - text));
	thread->line = reader->line;
	return thread->open ? 0 : fail(reader, "out of memory");
}

/* "<... munmap resumed>) = 0": glue it to the first half. */
static int resume_call(struct reader *reader, struct thread *thread, char *text)
{
	char *name = text + strlen("<... "), *rest = strstr(name, " resumed>"), *whole;
	size_t length;
	int result;

	if (!rest)
		return fail(reader, "malformed line: '%.64s'", text);
	*rest = '\0';
	rest += strlen(" resumed>");
	if (!thread->open)
		return fail(reader, "%.64s: resumed, but never begun", name);
	length = strlen(name);
	if (strncmp(thread->open, name, length) || thread->open[length] != '(')
		return fail(reader, "%.64s: resumed, but line %u began another call", name, thread->line);
	length = strlen(thread->open);
	whole = malloc(length + strlen(rest) + 2);
	if (!whole)
		return fail(reader, "out of memory");
	memcpy(whole, thread->open, length);
	whole[length] = ' ';
	strcpy(whole + length + 1, rest);
	free(thread->open);
	thread->open = NULL;
	result = take_call(reader, thread, thread->line, whole);
	free(whole);
	return result;
}

/* A thread of @tid's process made the execve and takes over the number @tid. */
static int supersede(struct reader *reader, int tid, uint64_t former)
{
	struct thread *leader = get_thread(reader, tid), *maker;

	if (!leader)
		return -1;
	free(leader->open);
	leader->open = NULL;
	maker = find_thread(reader, (int)former);
	if (!maker || !maker->open)
		return fail(reader, "superseded by a thread that is in no execve");
	leader->open = maker->open;
	leader->line = maker->line;
	maker->open = NULL;
	return thread_gone(reader, (int)former);
}

/* "+++ exited with 0 +++" and the like. */
static int take_end(struct reader *reader, int tid, char *text)
{
	static const char former[] = "+++ superseded by execve in pid ";
	uint64_t number;

	if (!strncmp(text, former, strlen(former))) {
		char *word = text + strlen(former);

		word[strcspn(word, " ")] = '\0';
		if (!trace_number(word, &number) || number > INT_MAX)
			return fail(reader, "malformed line: '%.64s'", text);
		return supersede(reader, tid, number);
	}
	if (strncmp(text, "+++ exited ", 11) && strncmp(text, "+++ killed ", 11))
		return fail(reader, "malformed line: '%.64s'", text);
	return thread_gone(reader, tid);
}

/* "maps after execve {" or "maps before exit {" */
static int open_map(struct reader *reader, int tid, const char *text)
{
	struct trace *trace = reader->trace;
	struct trace_event event = {.kind = TRACE_CHECK, .tid = tid, .line = reader->line,
				    .effect = reader->line, .map = (uint32_t)trace->map_count};
	struct thread *thread = find_thread(reader, tid);
	bool after = !strcmp(text, "maps after execve {");
	void *array = grow(trace->maps, trace->map_count, &reader->map_room, sizeof(*trace->maps));

	if (!array || trace->map_count == TRACE_NO_MAP)
		return fail(reader, "out of memory");
	trace->maps = array;
	if (!after && strcmp(text, "maps before exit {"))
		return fail(reader, "malformed line: '%.64s'", text);
	if (after) {
		if (!thread || !thread->exec)
			return fail(reader, "a map after execve, but process %d made none", tid);
		trace->events[thread->exec - 1].map = event.map;
		thread->exec = 0;
	}
	reader->map = &trace->maps[trace->map_count++];
	*reader->map = (struct trace_map){.line = reader->line, .tid = tid,
					  .begin = trace->range_count};
	return after ? 0 : add_event(reader, &event);
}

/* "7f00-7f10 r-xp", and behind it anything that /proc/PID/maps has. */
static int take_range(struct reader *reader, char *text)
{
	static const char letters[] = "rwxs";
	struct trace *trace = reader->trace;
	struct trace_range range = {0};
	char *perms = text + strcspn(text, " "), *name = strrchr(text, ' '), *end;
	void *array = grow(trace->ranges, trace->range_count, &reader->range_room, sizeof(range));
	unsigned long long first = strtoull(text, &end, 16), last = 0;

	if (!array)
		return fail(reader, "out of memory");
	trace->ranges = array;
	if (end > text && *end == '-' && isxdigit((unsigned char)*text) && isxdigit((unsigned char)end[1]))
		last = strtoull(end + 1, &end, 16);
	if (end != perms || strlen(perms) < 5 || (perms[5] && perms[5] != ' '))
		return fail(reader, "malformed line of a map: '%.64s'", text);
	for (unsigned i = 0; i < 4; i++) {
		if (perms[1 + i] == letters[i])
			range.prot |= (uint8_t)(1u << i);
		else if (perms[1 + i] != (i < 3 ? '-' : 'p'))
			return fail(reader, "malformed permissions: '%.64s'", perms + 1);
	}
	if (first >= last)
		return fail(reader, "the range is empty");
	if ((first | last) & (trace->page - 1))
		return fail(reader, "the range is not page aligned");
	if (reader->map->count && trace->ranges[trace->range_count - 1].last >= first)
		return fail(reader, "the range is not above the one before it");
	range.first = first;
	range.last = last - 1;
	range.stack = !strcmp(name + 1, "[stack]");
	trace->ranges[trace->range_count++] = range;
	reader->map->count++;
	return 0;
}

/* The thread that a line begins with: "71  ..." or "[pid 71] ...". */
static char *take_tid(char *line, int *tid)
{
	bool square = !strncmp(line, "[pid ", 5);
	char *end;
	long number;

	if (square)
		line += 5 + strspn(line + 5, " ");
	if (!isdigit((unsigned char)*line))
		return NULL;
	number = strtol(line, &end, 10);
	if (number <= 0 || number > INT_MAX || *end++ != (square ? ']' : ' '))
		return NULL;
	*tid = (int)number;
	return end + strspn(end, " ");
}

static int take_line(struct reader *reader, char *line)
{
	struct thread *thread;
	size_t length;
	char *text;
	int tid;

	if (reader->map && isxdigit((unsigned char)*line) && memchr(line, '-', strcspn(line, " ")))
		return take_range(reader, line);
	if (!strcmp(line, "end") && !reader->map) {
		reader->ended = true;
		return 0;
	}
	text = take_tid(line, &tid);
	if (!text)
		return fail(reader, reader->map ? "malformed line of a map: '%.64s'" :
						  "malformed line: '%.64s'", line);
	if (reader->map) {
		if (tid != reader->map->tid || strcmp(text, "}"))
			return fail(reader, "the map that line %u begins has no end", reader->map->line);
		if (!reader->map->count)
			return fail(reader, "the map is empty");
		reader->map = NULL;
		return 0;
	}
	if (!strncmp(text, "maps ", 5))
		return open_map(reader, tid, text);
	if (!strncmp(text, "+++ ", 4))
		return take_end(reader, tid, text);
	/* A signal; a call that was killed before strace could read what it was. */
	if (!strncmp(text, "--- ", 4) || !strncmp(text, "??" "?(", 4) || !strncmp(text, "<... ??" "? ", 9))
		return 0;
	thread = get_thread(reader, tid);
	if (!thread)
		return -1;
	if (!strncmp(text, "<... ", 5))
		return resume_call(reader, thread, text);
	if (thread->open)
		return fail(reader, "the call that line %u begins is never resumed", thread->line);
	length = strlen(text);
	if (length > 5 && !strcmp(text + length - 5, " ...>")) {
		char *mark = strrchr(text, '<');

		if (mark && (!strncmp(mark, "<unfinished ", 12) || !strncmp(mark, "<pid changed ", 13)))
			return open_call(reader, thread, text, mark);
	}
	return take_call(reader, thread, reader->line, text);
}

/* The three lines at the top. */
static int take_header(struct reader *reader, char *line)
{
	struct trace *trace = reader->trace;

	if (reader->line == 1)
		return strcmp(line, "sheaf-trace 1") ?
			fail(reader, "not a recording: its first line is not 'sheaf-trace 1'") : 0;
	if (reader->line == 2) {
		if (strncmp(line, "command ", 8))
			return fail(reader, "the second line is not 'command ...'");
		trace->command = strdup(line + 8);
		return trace->command ? 0 : fail(reader, "out of memory");
	}
	if (strncmp(line, "page ", 5) || !trace_number(line + 5, &trace->page) || trace->page < 512 ||
	    trace->page > 1 << 24 || (trace->page & (trace->page - 1)))
		return fail(reader, "the third line is not 'page BYTES'");
	return 0;
}

static int compare_effect(const void *a, const void *b)
{
	const struct trace_event *x = a, *y = b;

	return (x->effect > y->effect) - (x->effect < y->effect);
}

static int finish(struct reader *reader)
{
	struct trace *trace = reader->trace;

	if (!reader->line)
		return trace_fail(trace, 0, "the file is empty");
	if (!reader->ended)
		return fail(reader, "the recording is cut: its last line is not 'end'");
	for (size_t i = 0; i < reader->thread_count; i++)
		if (reader->threads[i].open)
			return trace_fail(trace, reader->threads[i].line, "the call is never resumed");
	if (!trace->event_count)
		return fail(reader, "the recording holds no call");
	qsort(trace->events, trace->event_count, sizeof(*trace->events), compare_effect);
	return 0;
}

int trace_read(struct trace *trace, const char *path)
{
	struct reader reader = {.trace = trace};
	struct trace_lines lines;
	char *line;
	int got;

	*trace = (struct trace){.path = strdup(path)};
	if (!trace->path) {
		snprintf(trace->error, sizeof(trace->error), "out of memory");
		return -1;
	}
	if (trace_lines_open(&lines, trace, path))
		return -1;
	while ((got = trace_lines_next(&lines, trace, &line)) > 0) {
		reader.line = lines.number;
		if (reader.ended)
			got = fail(&reader, "a line after 'end'");
		else
			got = reader.line <= 3 ? take_header(&reader, line) : take_line(&reader, line);
		if (got)
			break;
	}
	if (!got)
		got = finish(&reader);
	for (size_t i = 0; i < reader.thread_count; i++)
		free(reader.threads[i].open);
	free(reader.threads);
	trace_lines_close(&lines);
	return got;
}

void trace_free(struct trace *trace)
{
	free(trace->path);
	free(trace->command);
	free(trace->events);
	free(trace->maps);
	free(trace->ranges);
	*trace = (struct trace){0};
}
