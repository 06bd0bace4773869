/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Reports, leaks, and what is known of an address. Addresses get their names from dladdr(3) unless the caller may be
 * a signal handler.
 *
 *  R1  The text is made in pages of its own and written by one write(2), so that those of two threads do not mix
 *      (but in a pipe, above 4096 bytes). It
 *      is not on the stack, which may be a handler's of a few thousand bytes. Where the kernel has no pages it
 *      is made and written line by line; a callback then gets the first of them.
 *  R2  The call that reports goes on as if nothing had been said: objects are in its hands, and a lock of
 *      a trim. So its thread is not cancelled here, which write(2) and a callback would allow, and errno stays.
 */
#define _GNU_SOURCE
#include "base/compiler.h"
#include "base/memory.h"
#include "base/report.h"
#include "base/thread.h"
#include "debug_state.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Programs without a dynamic linker. */
#pragma weak dladdr

#define SHOWN 8

/* Three traces with names; pages that are not written to cost nothing. */
#define TEXT_BYTES 65536
#define LINE_BYTES 256

struct text {
	char *bytes;
	size_t n;
	size_t size;
	size_t mapped; /* 0: it is in line */
	bool by_lines; /* each is written, and forgotten, when it ends or the room does */
	char line[LINE_BYTES];
};

static void text_begin(struct text *text, bool by_lines)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (TEXT_BYTES + page - 1) & ~(page - 1);

	text->n = 0;
	text->bytes = memory_map(page, bytes);
	text->mapped = text->bytes ? bytes : 0;
	text->size = text->bytes ? bytes : sizeof(text->line);
	text->by_lines = by_lines && !text->bytes;
	if (!text->bytes)
		text->bytes = text->line;
	text->bytes[0] = '\0';
}

static void text_end(struct text *text)
{
	if (text->mapped)
		memory_unmap(text->bytes, text->mapped);
}

static void text_tell(struct text *text)
{
	(void)tell(text->bytes, text->n);
	text->n = 0;
}

static __attribute__((format(printf, 2, 3))) void add(struct text *text, const char *format, ...)
{
	size_t room = text->size - text->n;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text->bytes + text->n, room, format, args);
	va_end(args);
	if (n > 0)
		text->n += (size_t)n < room ? (size_t)n : room - 1;
	/* Cut. */
	if (n > 0 && (size_t)n >= room && room > 1)
		text->bytes[text->n - 1] = '\n';
	if (text->by_lines && text->n &&
	    (text->bytes[text->n - 1] == '\n' || text->n + 1 == text->size))
		text_tell(text);
}

static void add_frame(struct text *text, const void *frame, bool names)
{
	Dl_info info;

	add(text, "    %p", frame);
	/* It returns there: the call is before it. */
	if (names && dladdr && dladdr((const char *)frame - 1, &info) && info.dli_fname) {
		if (info.dli_sname)
			add(text, " %s+0x%tx", info.dli_sname,
			    (const char *)frame - (const char *)info.dli_saddr);
		add(text, " (%s+0x%tx)", info.dli_fname,
		    (const char *)frame - (const char *)info.dli_fbase);
	}
	add(text, "\n");
}

static void add_trace(struct text *text, const char *what, const struct sheaf_debug_trace *trace,
		      bool names)
{
	uint32_t i;

	if (!trace->n)
		return;
	add(text, "  %s by thread %u\n", what, trace->thread);
	for (i = 0; i < trace->n; i++)
		add_frame(text, trace->frames[i], names);
}

static const char *kind_text(enum sheaf_debug_kind kind)
{
	switch (kind) {
	case SHEAF_DEBUG_WRITE_AFTER_FREE:
		return "write after free";
	case SHEAF_DEBUG_WRITE_BEFORE:
		return "write before the object";
	case SHEAF_DEBUG_WRITE_BEHIND:
		return "write behind the object";
	case SHEAF_DEBUG_DOUBLE_FREE:
		return "double free";
	case SHEAF_DEBUG_RETIRE_FREE:
		return "free object retired";
	case SHEAF_DEBUG_FREE_RETIRED:
		return "retired object freed";
	case SHEAF_DEBUG_RETIRE_TWICE:
		return "object retired twice";
	case SHEAF_DEBUG_WRONG_CACHE:
		return "object of another cache";
	case SHEAF_DEBUG_NO_OBJECT:
		return "pointer that is no object";
	case SHEAF_DEBUG_SHARED_SHEAF:
		return "prefilled sheaf used by two at the same time";
	case SHEAF_DEBUG_OVERUSE:
		return "strict prefilled sheaf used for more than was asked for";
	case SHEAF_DEBUG_BACKEND:
		return "backend gave an object that is out";
	case SHEAF_DEBUG_LEAK:
		return "leak";
	case SHEAF_DEBUG_WRONG_SHEAF:
		return "prefilled sheaf of another cache";
	case SHEAF_DEBUG_RETURNED_SHEAF:
		return "prefilled sheaf used after its return";
	}
	return "wrong use";
}

static const char *state_text(uint32_t state)
{
	switch (state) {
	case OBJECT_FREE:
		return "free";
	case OBJECT_OUT:
		return "allocated";
	case OBJECT_RETIRED:
		return "retired";
	case OBJECT_COMING:
		return "coming from the backend";
	case OBJECT_LENT:
		return "unused, a guarded one is out in its stead";
	default:
		return "with the backend";
	}
}

/* Where the pointer is in the object, or the change was, and what is there. */
static void add_place(struct text *text, const struct finding *f)
{
	size_t i;

	if (f->object != f->of->object)
		add(text, ", byte %td of", f->offset);
	add(text, " object %p of %zu bytes", f->of->object, load_relaxed(&f->of->size));
	if (f->bytes)
		add(text, ", %zu bytes from byte %td on", f->bytes, f->offset);
	for (i = 0; f->found && i < f->bytes && i < SHOWN; i++)
		add(text, "%s%02x", i ? " " : ": now ", f->found[i]);
	if (f->found && f->bytes > SHOWN)
		add(text, " ...");
}

static void add_finding(struct text *text, const struct sheaf_debug_report *report,
			const struct finding *f)
{
	add(text, "libsheaf: cache %s: %s", report->cache, kind_text(f->kind));
	if (f->kind == SHEAF_DEBUG_LEAK)
		add(text, " of %zu %s", f->count, f->object ? "objects" : "prefilled sheaves");
	if (f->of && f->kind == SHEAF_DEBUG_LEAK)
		add(text, " of %zu bytes, the first at %p", load_relaxed(&f->of->size), f->object);
	else if (f->object)
		add(text, ": %p", f->object);
	if (f->of && f->kind != SHEAF_DEBUG_LEAK)
		add_place(text, f);
	if (report->owner &&
	    (f->kind == SHEAF_DEBUG_WRONG_CACHE || f->kind == SHEAF_DEBUG_WRONG_SHEAF))
		add(text, ", of cache %s", report->owner);
	add(text, "\n");
	add_trace(text, "found", &report->here, !f->nowait);
	add_trace(text, "allocated", &report->allocated, !f->nowait);
	add_trace(text, f->of && object_state(f->of) == OBJECT_RETIRED ? "retired" : "freed",
		  &report->freed, !f->nowait);
}

static const char *owner_of(const struct debug_object *o)
{
	uintptr_t whose = load_acquire(&o->whose); /* D5 */

	return whose_state(whose) != OBJECT_GONE ? whose_owner(whose)->name : NULL;
}

void debug_report(struct debug *d, const struct finding *f)
{
	int saved = errno, state = cancel_off(); /* R2 */
	struct text text;
	struct sheaf_debug_report report = {
		.kind = f->kind,
		.cache = d->cache->name,
		.owner = f->owner ? f->owner->name
			 : f->of  ? owner_of(f->of)
				  : NULL,
		.object = f->object,
		.offset = f->offset,
		.bytes = f->bytes,
		.count = f->count,
	};

	text_begin(&text, !d->report);
	report.text = text.bytes;
	if (f->here)
		trace_copy(&report.here, f->here);
	if (f->of) {
		trace_copy(&report.allocated, &f->of->got);
		trace_copy(&report.freed, &f->of->gave);
	}
	add_finding(&text, &report, f);
	if (d->report)
		d->report(d->report_arg, &report);
	else
		text_tell(&text);
	text_end(&text);
	cancel_on(state);
	errno = saved;
	if ((d->flags & SHEAF_DEBUG_ABORT) && f->kind != SHEAF_DEBUG_LEAK)
		abort();
}

static bool is_leaked(const struct debug *d, const struct debug_object *o)
{
	return load_relaxed(&o->whose) == whose_word(d->owner, OBJECT_OUT);
}

/* By the chain of calls, then by address. */
static int compare(const void *one, const void *other)
{
	const struct debug_object *a = *(struct debug_object *const *)one;
	const struct debug_object *b = *(struct debug_object *const *)other;
	uint32_t i;

	for (i = 0; i < a->got.n && i < b->got.n; i++)
		if (a->got.frames[i] != b->got.frames[i])
			return (uintptr_t)a->got.frames[i] < (uintptr_t)b->got.frames[i] ? -1 : 1;
	if (a->got.n != b->got.n)
		return a->got.n < b->got.n ? -1 : 1;
	return a->object < b->object ? -1 : a->object > b->object;
}

static bool same_chain(const struct debug_object *a, const struct debug_object *b)
{
	return a->got.n == b->got.n &&
	       !memcmp(a->got.frames, b->got.frames, a->got.n * sizeof(*a->got.frames));
}

static void report_leak(struct debug *d, const struct debug_object *o, size_t count)
{
	const struct finding finding = {
		.kind = SHEAF_DEBUG_LEAK, .object = o ? o->object : NULL, .of = o, .count = count};

	debug_report(d, &finding);
}

void debug_leaks(struct debug *d, uint64_t loans)
{
	struct debug_object *o, **leaked;
	size_t n = 0, i, first;

	if (!(d->flags & SHEAF_DEBUG_LEAKS))
		return;
	if (loans)
		report_leak(d, NULL, loans);
	for (o = object_first(); o; o = o->next)
		n += is_leaked(d, o);
	if (!n)
		return;
	leaked = memory_zalloc(sizeof(void *), n * sizeof(void *));
	for (o = object_first(), i = 0; o; o = o->next) {
		if (!is_leaked(d, o))
			continue;
		/* Without memory each one is reported by itself. */
		if (!leaked)
			report_leak(d, o, 1);
		else if (i < n)
			leaked[i++] = o;
	}
	if (!leaked)
		return;
	n = i;
	qsort(leaked, n, sizeof(*leaked), compare);
	for (first = 0; first < n; first = i) {
		for (i = first + 1; i < n && same_chain(leaked[first], leaked[i]); i++)
			;
		report_leak(d, leaked[first], i - first);
	}
	memory_free(leaked);
}

static void add_known(struct text *text, const void *address)
{
	const struct debug_object *o = object_at(address);
	const char *owner = o ? owner_of(o) : NULL;
	struct sheaf_debug_trace trace;

	if (!o) {
		add(text, "libsheaf: %p is in no object of a cache with debug mode\n", address);
		return;
	}
	add(text, "libsheaf: %p is byte %td of object %p of %zu bytes, of cache %s, %s\n", address,
	    (const char *)address - (const char *)o->object, o->object, load_relaxed(&o->size),
	    owner ? owner : "?", state_text(object_state(o)));
	trace_copy(&trace, &o->got);
	add_trace(text, "allocated", &trace, false);
	trace_copy(&trace, &o->gave);
	add_trace(text, object_state(o) == OBJECT_RETIRED ? "retired" : "freed", &trace,
		  false);
}

void sheaf_debug_explain(const void *address)
{
	int saved = errno;
	struct text text;

	text_begin(&text, true);
	add_known(&text, address);
	text_tell(&text);
	text_end(&text);
	errno = saved;
}
