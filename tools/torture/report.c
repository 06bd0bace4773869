/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Faults, counts, memory. The first fault ends the run: what comes after it would be guesswork. */
#define _GNU_SOURCE
#include "torture.h"

#include <inttypes.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What a later round may have more than the one that came first: pages of stacks and of the C
 * library's arenas that the first one happened not to touch. */
#define GROWTH_BASE ((uint64_t)8 << 20)
#define GROWTH_PER_THREAD ((uint64_t)128 << 10)
#define MAPPED_BASE ((uint64_t)64 << 20)
/* Of malloc()'s memory; and what glibc keeps for main() alone and counts as used, if it does. */
#define HEAP_GROWTH ((uint64_t)32 << 10)
#define HEAP_KEPT ((uint64_t)256 << 10)

struct memory {
	uint64_t resident;
	uint64_t mapped;
	uint64_t heap;
};
static struct memory first, last;

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* May be in a signal handler: from the stack, by write(2). */
__attribute__((format(printf, 2, 3))) static void say(int fd, const char *format, ...)
{
	char text[600];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n > (int)sizeof(text) - 1)
		n = (int)sizeof(text) - 1;
	if (n > 0 && write(fd, text, (size_t)n) < 0)
		_exit(1);
}

static void say_thread(int fd, const struct worker *w, const char *name, uint64_t now)
{
	say(fd, "  %s %u: %s (%s) for %" PRIu64 " ms, after %" PRIu64 " operations\n", name,
	    w->number, load_relaxed(&w->doing), load_relaxed(&w->with),
	    now - load_relaxed(&w->since_ms), load_relaxed(&w->steps));
}

void report_threads(int fd)
{
	uint64_t now = load_relaxed(&torture.watched_ms);
	unsigned i;

	for (i = 0; i < torture.options.threads; i++)
		if (load_relaxed(&torture.workers[i].doing))
			say_thread(fd, &torture.workers[i], "thread", now);
	if (load_relaxed(&torture.disturber.doing))
		say_thread(fd, &torture.disturber, "disturber", now);
}

static void say_seed(int fd)
{
	say(fd, "  %sseed %" PRIu64 ", round %u, after %" PRIu64 " ms\n",
	    torture.child ? "in a child process; " : "", torture.options.seed, torture.round,
	    now_ms() - torture.begun_ms);
}

/* A string of JSON; what the tool says of itself needs no more than this. */
static void put_json_text(const char *text)
{
	putchar('"');
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < ' ')
			printf("\\u%04x", *text);
		else
			putchar(*text);
	putchar('"');
}

static uint64_t operations(void)
{
	uint64_t n = torture.counts.operations;
	unsigned i;

	for (i = 0; i < torture.options.threads; i++)
		n += load_relaxed(&torture.workers[i].steps);
	return n;
}

static void put_operations(const struct operation *op, const char *before)
{
	for (; op->name; op++, before = ", ")
		printf("%s\"%s\": %" PRIu64, before, op->name, load_relaxed(&op->done));
}

static void put_json(const char *what)
{
	const struct options *o = &torture.options;
	const struct counts *n = &torture.counts;
	bool some = false;
	unsigned i;

	printf("{\"good\": %s, \"fault\": ", what ? "false" : "true");
	if (what)
		put_json_text(what);
	else
		printf("null");
	printf(", \"seed\": %" PRIu64 ", \"source\": \"%s\", \"backend\": \"%s\", "
	       "\"threads\": %" PRIu64 ", \"ms\": %" PRIu64 ", \"rounds\": %u",
	       o->seed, o->source, o->slab ? "slab" : "malloc", o->threads,
	       now_ms() - torture.begun_ms, torture.round);
	printf(", \"operations\": %" PRIu64 ", \"handed_out\": %" PRIu64 ", \"refused\": %" PRIu64
	       ", \"read_sections\": %" PRIu64 ", \"objects_read\": %" PRIu64
	       ", \"handlers\": %" PRIu64 ", \"children\": %" PRIu64 ", \"threads_made\": %" PRIu64,
	       operations(), load_relaxed(&n->handed_out), load_relaxed(&n->refused),
	       load_relaxed(&n->read_sections), load_relaxed(&n->objects_read),
	       load_relaxed(&n->handlers), load_relaxed(&n->children),
	       load_relaxed(&n->threads_made));
	printf(", \"disturbances\": {");
	for (i = 0; i < DISTURBANCES; i++)
		printf("%s\"%s\": %" PRIu64, i ? ", " : "", disturbance_name(i),
		       load_relaxed(&n->disturbances[i]));
	printf("}, \"enabled\": [");
	for (i = 0; i < DISTURBANCES; i++)
		if (disturbed(i)) {
			printf("%s\"%s\"", some ? ", " : "", disturbance_name(i));
			some = true;
		}
	printf("], \"done\": {");
	put_operations(cache_operations, "");
	put_operations(tree_operations, ", ");
	printf("}, \"resident_first\": %" PRIu64 ", \"resident_last\": %" PRIu64
	       ", \"mapped_first\": %" PRIu64 ", \"mapped_last\": %" PRIu64
	       ", \"heap_first\": %" PRIu64 ", \"heap_last\": %" PRIu64 "}\n",
	       first.resident, last.resident, first.mapped, last.mapped, first.heap, last.heap);
	fflush(stdout);
}

void fault(const char *format, ...)
{
	static uint32_t found;
	char text[400];
	va_list args;

	/* The watch over main() is over, or would come in between here. That of a child goes on. */
	if (getpid() == torture.pid)
		alarm(0);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &(int){0});
	/* Who comes second waits for the end of the process. */
	while (exchange_relaxed(&found, 1))
		sleep(1);
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say(STDERR_FILENO, "sheaf-torture: %s\n", text);
	say_seed(STDERR_FILENO);
	report_threads(STDERR_FILENO);
	if (torture.options.json && !torture.child)
		put_json(text);
	_exit(1);
}

static void crashed(int number)
{
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &(int){0});
	say(STDERR_FILENO, "sheaf-torture: signal %d\n", number);
	say_seed(STDERR_FILENO);
	report_threads(STDERR_FILENO);
	signal(number, SIG_DFL);
	raise(number);
}

void report_crashes(void)
{
	static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	struct sigaction action;
	unsigned i;

	memset(&action, 0, sizeof(action));
	action.sa_handler = crashed;
	action.sa_flags = (int)SA_RESETHAND;
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct sigaction was;

		/* A sanitizer knows better what to say. */
		if (sigaction(numbers[i], NULL, &was) == 0 && was.sa_handler == SIG_DFL)
			sigaction(numbers[i], &action, NULL);
	}
}

void report_result(void)
{
	const struct counts *n = &torture.counts;
	unsigned i;

	if (torture.options.json) {
		put_json(NULL);
		return;
	}
	if (torture.options.quiet)
		return;
	printf("good: %u rounds, %" PRIu64 " operations, %" PRIu64 " objects handed out, %" PRIu64
	       " refused, %" PRIu64 " read sections with %" PRIu64 " objects\n",
	       torture.round, operations(), n->handed_out, n->refused, n->read_sections,
	       n->objects_read);
	printf("      %" PRIu64 " signal handlers, %" PRIu64 " children, %" PRIu64
	       " threads; disturbed:",
	       n->handlers, n->children, n->threads_made);
	for (i = 0; i < DISTURBANCES; i++)
		if (disturbed(i))
			printf(" %s %" PRIu64, disturbance_name(i), n->disturbances[i]);
	printf("\n      resident %" PRIu64 " KiB after the first round, %" PRIu64
	       " after the last; mapped %" PRIu64 ", %" PRIu64 "; by malloc() %" PRIu64 ", %" PRIu64
	       "\n",
	       first.resident >> 10, last.resident >> 10, first.mapped >> 10, last.mapped >> 10,
	       first.heap >> 10, last.heap >> 10);
}

/* What malloc() has given and not got back, in bytes; 0: the C library does not tell. */
static uint64_t heap_used(void)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
	const struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
#else
	return 0;
#endif
}

static bool read_memory(struct memory *memory)
{
	unsigned long long mapped, resident;
	FILE *file = fopen("/proc/self/statm", "re");
	bool read = file && fscanf(file, "%llu %llu", &mapped, &resident) == 2;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (file)
		fclose(file);
	if (read)
		*memory = (struct memory){
			.resident = resident * page, .mapped = mapped * page, .heap = heap_used()};
	return read;
}

/* The book of debug mode keeps what it has got for later objects. */
static uint64_t heap_growth(void)
{
	const char *how = getenv("GLIBC_TUNABLES");

	if (getenv("SHEAF_DEBUG"))
		return UINT64_MAX / 2;
	return how && strstr(how, "glibc.malloc.tcache_count=0") ? HEAP_GROWTH
								 : HEAP_GROWTH + HEAP_KEPT;
}

/* Sanitizers keep books of their own, which grow. */
static bool memory_tells(void)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	return false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
	return false;
#endif
#endif
	return true;
}

void report_memory(void)
{
	uint64_t more = torture.options.threads * GROWTH_PER_THREAD;

#ifdef __GLIBC__
	malloc_trim(0);
#endif
	if (!read_memory(&last))
		return;
	if (torture.round == 1)
		first = last;
	if (!memory_tells())
		return;
	if (last.resident > first.resident + GROWTH_BASE + more)
		fault("memory grows: %" PRIu64 " KiB resident after round 1, %" PRIu64
		      " after round %u, with nothing alive",
		      first.resident >> 10, last.resident >> 10, torture.round);
	if (last.heap > first.heap + heap_growth())
		fault("memory grows: %" PRIu64 " KiB by malloc() after round 1, %" PRIu64
		      " after round %u, with nothing alive",
		      first.heap >> 10, last.heap >> 10, torture.round);
	if (last.mapped > first.mapped + MAPPED_BASE + more)
		fault("memory grows: %" PRIu64 " KiB mapped after round 1, %" PRIu64
		      " after round %u, with nothing alive",
		      first.mapped >> 10, last.mapped >> 10, torture.round);
}
