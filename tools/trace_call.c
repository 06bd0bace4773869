/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * One call as strace writes it: name(argument, ...) = result. First it is cut up
 * (struct text), whatever its name; then the table at the end says who understands
 * it. A failed call changes nothing and its arguments may be anything, so they
 * are not looked at, but for the one case noted at parse_mprotect().
 */
#include "trace_parse.h"

#include <ctype.h>
#include <string.h>

#define ARGUMENTS 8

struct text {
	const char *name;
	char *arg[ARGUMENTS];
	unsigned args;
	bool known;	   /* false: "= ?", the call never returned */
	bool again;	   /* "= ? ERESTARTSYS": it will be made again */
	bool failed;
	const char *error; /* ENOMEM and so on */
	uint64_t result;
};

bool trace_number(const char *text, uint64_t *value)
{
	unsigned base = 10;
	uint64_t sum = 0;

	if (!strcmp(text, "NULL")) {
		*value = 0;
		return true;
	}
	if (text[0] == '0' && text[1] == 'x') {
		base = 16;
		text += 2;
	}
	if (!*text)
		return false;
	for (; *text; text++) {
		unsigned digit;

		if (*text >= '0' && *text <= '9')
			digit = (unsigned)(*text - '0');
		else if (*text >= 'a' && *text <= 'f')
			digit = (unsigned)(*text - 'a') + 10;
		else
			return false;
		if (digit >= base || sum > (UINT64_MAX - digit) / base)
			return false;
		sum = sum * base + digit;
	}
	*value = sum;
	return true;
}

/* Past a string or a comment that begins here; NULL if it has no end. */
static char *skip_quoted(char *at)
{
	if (*at == '/') {
		at = strstr(at + 2, "*/");
		return at ? at + 2 : NULL;
	}
	for (at++; *at != '"'; at++)
		if (!*at || (*at == '\\' && !*++at))
			return NULL;
	return at + 1;
}

/* The argument between two places, without the spaces around it. */
static bool add_argument(struct text *text, char *from, char *end)
{
	while (from < end && *from == ' ')
		from++;
	while (end > from && end[-1] == ' ')
		end--;
	*end = '\0';
	if (text->args == ARGUMENTS)
		return false;
	text->arg[text->args++] = from;
	return true;
}

/* Cut the arguments; returns what follows the closing bracket, NULL if none. */
static char *cut_arguments(struct text *text, char *at)
{
	char *from = at;
	unsigned depth = 0;

	while (*at) {
		if (*at == '"' || (*at == '/' && at[1] == '*')) {
			at = skip_quoted(at);
			if (!at)
				return NULL;
			continue;
		}
		if (strchr("([{", *at)) {
			depth++;
		} else if (strchr(")]}", *at)) {
			if (!depth)
				break;
			depth--;
		} else if (*at == ',' && !depth) {
			if (!add_argument(text, from, at))
				return NULL;
			from = at + 1;
		}
		at++;
	}
	if (*at != ')')
		return NULL;
	/* "()" and "( )" have no argument. */
	if ((text->args || from + strspn(from, " ") != at) && !add_argument(text, from, at))
		return NULL;
	return at + 1;
}

/* "= 0x7f00", "= -1 ENOMEM (...)", "= ?", each with anything behind it. */
static bool cut_result(struct text *text, char *at)
{
	char *end;

	at += strspn(at, " ");
	if (at[0] != '=' || at[1] != ' ')
		return false;
	at += 2;
	end = at + strcspn(at, " ");
	text->known = *at != '?';
	if (!text->known) {
		text->again = *end == ' ' && end[1] == 'E';
		return true;
	}
	if (*end)
		*end++ = '\0';
	if (!strcmp(at, "-1")) {
		text->failed = true;
		text->error = end;
		end[strcspn(end, " ")] = '\0';
		return *end == 'E';
	}
	return trace_number(at, &text->result);
}

struct flag {
	const char *name;
	unsigned value;
};

#define REFUSED (1u << 31)

static const struct flag prot_flags[] = {
	{"PROT_NONE", 0}, {"PROT_READ", TRACE_R}, {"PROT_WRITE", TRACE_W},
	{"PROT_EXEC", TRACE_X}, {"PROT_SEM", 0}, {"PROT_GROWSDOWN", TRACE_GROWSDOWN},
	{"PROT_GROWSUP", REFUSED}, {NULL, 0}
};

static const struct flag map_flags[] = {
	{"MAP_PRIVATE", 0}, {"MAP_SHARED", TRACE_S}, {"MAP_SHARED_VALIDATE", TRACE_S},
	{"MAP_ANONYMOUS", TRACE_ANON << 8}, {"MAP_FIXED", TRACE_FIXED << 8},
	{"MAP_FIXED_NOREPLACE", TRACE_NOREPLACE << 8}, {"MAP_32BIT", TRACE_LOW << 8},
	{"MAP_GROWSDOWN", REFUSED}, {"MAP_HUGETLB", REFUSED}, {"MAP_DENYWRITE", 0},
	{"MAP_EXECUTABLE", 0}, {"MAP_FILE", 0}, {"MAP_LOCKED", 0}, {"MAP_NONBLOCK", 0},
	{"MAP_NORESERVE", 0}, {"MAP_POPULATE", 0}, {"MAP_STACK", 0}, {"MAP_SYNC", 0},
	{"MAP_DROPPABLE", 0}, {NULL, 0}
};

static const struct flag remap_flags[] = {
	{"0", 0}, {"MREMAP_MAYMOVE", 0}, {"MREMAP_FIXED", TRACE_FIXED},
	{"MREMAP_DONTUNMAP", TRACE_KEEP}, {NULL, 0}
};

/* "A|B|C" by a table; an unknown or refused name is an error. */
static int parse_flags(struct trace *trace, uint32_t line, const struct text *text, char *arg,
		       const struct flag *table, unsigned *flags)
{
	*flags = 0;
	for (char *name = strtok(arg, "|"); name; name = strtok(NULL, "|")) {
		const struct flag *flag = table;

		while (flag->name && strcmp(flag->name, name))
			flag++;
		if (!flag->name)
			return trace_fail(trace, line, "%s: unknown flag '%.64s'", text->name, name);
		if (flag->value == REFUSED)
			return trace_fail(trace, line, "%s: %s is not supported", text->name, name);
		*flags |= flag->value;
	}
	return 0;
}

/* Argument @index as a number. */
static int parse_number(struct trace *trace, uint32_t line, const struct text *text, unsigned index,
			uint64_t *value)
{
	if (!trace_number(text->arg[index], value))
		return trace_fail(trace, line, "%s: argument %u is not a number: '%.64s'", text->name,
				  index + 1, text->arg[index]);
	return 0;
}

/* A length, rounded up to whole pages, not 0. */
static int parse_length(struct trace *trace, uint32_t line, const struct text *text, unsigned index,
			uint64_t *len)
{
	if (parse_number(trace, line, text, index, len))
		return -1;
	if (!*len || *len > UINT64_MAX - trace->page)
		return trace_fail(trace, line, "%s: it succeeded with a length of %s", text->name,
				  text->arg[index]);
	*len = (*len + trace->page - 1) & ~(trace->page - 1);
	return 0;
}

/* Is [addr, addr + len) a range of whole pages? */
static int check_range(struct trace *trace, uint32_t line, const struct text *text, uint64_t addr,
		       uint64_t len)
{
	if (addr & (trace->page - 1))
		return trace_fail(trace, line, "%s: address 0x%llx is not page aligned", text->name,
				  (unsigned long long)addr);
	if (len > UINT64_MAX - addr)
		return trace_fail(trace, line, "%s: the range wraps around", text->name);
	return 0;
}

static int parse_mmap(struct trace *trace, uint32_t line, struct text *text, struct trace_event *event)
{
	unsigned prot, flags;

	if (text->failed)
		return 0;
	if (parse_number(trace, line, text, 0, &event->addr) ||
	    parse_length(trace, line, text, 1, &event->len) ||
	    parse_flags(trace, line, text, text->arg[2], prot_flags, &prot) ||
	    parse_flags(trace, line, text, text->arg[3], map_flags, &flags) ||
	    check_range(trace, line, text, text->result, event->len))
		return -1;
	event->kind = TRACE_MMAP;
	event->prot = (uint8_t)((prot & (TRACE_R | TRACE_W | TRACE_X)) | (flags & TRACE_S));
	event->flags = flags >> 8;
	event->result = text->result;
	if ((event->flags & (TRACE_FIXED | TRACE_NOREPLACE)) && event->addr != event->result)
		return trace_fail(trace, line, "mmap: asked for a fixed address, got another");
	return 1;
}

static int parse_munmap(struct trace *trace, uint32_t line, struct text *text,
			struct trace_event *event)
{
	if (text->failed)
		return 0;
	if (parse_number(trace, line, text, 0, &event->addr) ||
	    parse_length(trace, line, text, 1, &event->len) ||
	    check_range(trace, line, text, event->addr, event->len))
		return -1;
	event->kind = TRACE_MUNMAP;
	return 1;
}

/*
 * mprotect over a hole fails with ENOMEM after it has changed what lies before
 * the hole: the one failed call that has an effect.
 */
static int parse_mprotect(struct trace *trace, uint32_t line, struct text *text,
			  struct trace_event *event)
{
	unsigned prot;

	if (text->failed && strcmp(text->error, "ENOMEM"))
		return 0;
	if (parse_number(trace, line, text, 0, &event->addr) ||
	    parse_number(trace, line, text, 1, &event->len))
		return -1;
	if (!event->len)
		return 0;
	if (parse_length(trace, line, text, 1, &event->len) ||
	    parse_flags(trace, line, text, text->arg[2], prot_flags, &prot))
		return -1;
	/* The kernel says ENOMEM too for a range that wraps around. */
	if (text->failed && event->len > UINT64_MAX - event->addr)
		return 0;
	if (check_range(trace, line, text, event->addr, event->len))
		return -1;
	event->kind = TRACE_MPROTECT;
	event->prot = (uint8_t)(prot & (TRACE_R | TRACE_W | TRACE_X));
	event->flags = (prot & TRACE_GROWSDOWN) | (text->failed ? TRACE_PREFIX : 0);
	return 1;
}

static int parse_mremap(struct trace *trace, uint32_t line, struct text *text,
			struct trace_event *event)
{
	if (text->failed)
		return 0;
	if (parse_number(trace, line, text, 0, &event->addr) ||
	    parse_number(trace, line, text, 1, &event->len) ||
	    parse_length(trace, line, text, 2, &event->new_len) ||
	    parse_flags(trace, line, text, text->arg[3], remap_flags, &event->flags))
		return -1;
	/* Old length 0: a second view of a shared mapping, the first one stays. */
	if (!event->len) {
		event->flags |= TRACE_KEEP;
		event->len = trace->page;
	} else if (parse_length(trace, line, text, 1, &event->len)) {
		return -1;
	}
	if (check_range(trace, line, text, event->addr, event->len) ||
	    check_range(trace, line, text, text->result, event->new_len))
		return -1;
	event->kind = TRACE_MREMAP;
	event->result = text->result;
	if (event->result != event->addr && event->result < event->addr + event->len &&
	    event->addr < event->result + event->new_len)
		return trace_fail(trace, line, "mremap: the old and the new range overlap");
	return 1;
}

static int parse_brk(struct trace *trace, uint32_t line, struct text *text, struct trace_event *event)
{
	if (parse_number(trace, line, text, 0, &event->addr))
		return -1;
	event->kind = TRACE_BRK;
	event->result = text->result;
	if (event->result > UINT64_MAX - trace->page)
		return trace_fail(trace, line, "brk: the result is out of range");
	return 1;
}

static int parse_madvise(struct trace *trace, uint32_t line, struct text *text,
			 struct trace_event *event)
{
	bool no = !strcmp(text->arg[2], "MADV_DONTFORK");

	if (text->failed || (!no && strcmp(text->arg[2], "MADV_DOFORK")))
		return 0;
	if (parse_number(trace, line, text, 0, &event->addr) ||
	    parse_length(trace, line, text, 1, &event->len) ||
	    check_range(trace, line, text, event->addr, event->len))
		return -1;
	event->kind = TRACE_ADVISE;
	event->flags = no ? TRACE_NOFORK : 0;
	return 1;
}

/* Is this word among the flags of a clone? It has no letter on either side. */
static bool has_word(const struct text *text, const char *word)
{
	size_t length = strlen(word);

	for (unsigned i = 0; i < text->args; i++)
		for (const char *at = text->arg[i]; (at = strstr(at, word)); at += length)
			if (!isalnum((unsigned char)at[length]) && at[length] != '_')
				return true;
	return false;
}

static int parse_fork(struct trace *trace, uint32_t line, struct text *text, struct trace_event *event)
{
	if (text->failed)
		return 0;
	if (!text->result || text->result > INT32_MAX)
		return trace_fail(trace, line, "%s: the result is not a process", text->name);
	event->kind = TRACE_FORK;
	event->result = text->result;
	if (!strcmp(text->name, "vfork") || has_word(text, "CLONE_VM"))
		event->flags |= TRACE_SHARE;
	if (has_word(text, "CLONE_THREAD"))
		event->flags |= TRACE_THREAD;
	return 1;
}

static int parse_execve(struct trace *trace, uint32_t line, struct text *text,
			struct trace_event *event)
{
	if (text->failed)
		return 0;
	if (text->result)
		return trace_fail(trace, line, "%s: the result is not 0", text->name);
	event->kind = TRACE_EXECVE;
	event->map = TRACE_NO_MAP;
	return 1;
}

static int parse_nothing(struct trace *trace, uint32_t line, struct text *text,
			 struct trace_event *event)
{
	(void)trace, (void)line, (void)text, (void)event;
	return 0;
}

static int refuse(struct trace *trace, uint32_t line, struct text *text, struct trace_event *event)
{
	(void)event;
	if (text->failed)
		return 0;
	return trace_fail(trace, line, "%s is not supported: the call does not tell its range",
			  text->name);
}

static const struct call {
	const char *name;
	unsigned args_min, args_max;
	int (*parse)(struct trace *trace, uint32_t line, struct text *text, struct trace_event *event);
} calls[] = {
	{"mmap", 6, 6, parse_mmap},
	{"munmap", 2, 2, parse_munmap},
	{"mprotect", 3, 3, parse_mprotect},
	{"pkey_mprotect", 4, 4, parse_mprotect},
	{"mremap", 4, 5, parse_mremap},
	{"brk", 1, 1, parse_brk},
	{"madvise", 3, 3, parse_madvise},
	{"fork", 0, 0, parse_fork},
	{"vfork", 0, 0, parse_fork},
	{"clone", 1, 6, parse_fork},
	{"clone3", 1, 2, parse_fork},
	{"execve", 3, 3, parse_execve},
	{"execveat", 5, 5, parse_execve},
	{"exit", 1, 1, parse_nothing},
	{"exit_group", 1, 1, parse_nothing},
	{"mbind", 0, 8, parse_nothing},
	{"mincore", 0, 8, parse_nothing},
	{"mlock", 0, 8, parse_nothing},
	{"mlock2", 0, 8, parse_nothing},
	{"mlockall", 0, 8, parse_nothing},
	{"msync", 0, 8, parse_nothing},
	{"munlock", 0, 8, parse_nothing},
	{"munlockall", 0, 8, parse_nothing},
	{"io_setup", 0, 8, refuse},
	{"map_shadow_stack", 0, 8, refuse},
	{"remap_file_pages", 0, 8, refuse},
	{"shmat", 0, 8, refuse},
	{"shmdt", 0, 8, refuse},
};

/*
 * A thread was killed inside a call, and nobody knows how far it came. What it may have
 * given up others may have been given meanwhile, so that is gone; what it may have been
 * given nobody has heard of.
 */
static int take_back(const struct text *text, uint64_t page, struct trace_event *event)
{
	if (text->again || (strcmp(text->name, "munmap") && strcmp(text->name, "mremap")) ||
	    text->args < 2 || !trace_number(text->arg[0], &event->addr) ||
	    !trace_number(text->arg[1], &event->len) || (event->addr & (page - 1)) || !event->len ||
	    event->len > UINT64_MAX - page || event->len > UINT64_MAX - page - event->addr)
		return 0;
	event->len = (event->len + page - 1) & ~(page - 1);
	event->kind = TRACE_MUNMAP;
	return 1;
}

int trace_call(struct trace *trace, uint32_t line, char *source, struct trace_event *event)
{
	struct text text = {.name = source};
	const struct call *call = calls, *end = calls + sizeof(calls) / sizeof(*calls);
	int matters;
	size_t length = strspn(source, "abcdefghijklmnopqrstuvwxyz0123456789_");
	char *rest;

	if (!length || source[length] != '(')
		return trace_fail(trace, line, "not a call: '%.64s'", source);
	source[length] = '\0';
	while (call < end && strcmp(call->name, text.name))
		call++;
	if (call == end)
		return trace_fail(trace, line, "unknown call '%.64s'", text.name);
	rest = cut_arguments(&text, source + length + 1);
	if (!rest)
		return trace_fail(trace, line, "%s: the arguments are cut or malformed", text.name);
	if (!cut_result(&text, rest))
		return trace_fail(trace, line, "%s: the result is missing or malformed", text.name);
	trace->calls++;
	event->line = line;
	if (!text.known) {
		trace->without_effect++;
		return take_back(&text, trace->page, event);
	}
	trace->failed += text.failed;
	if (text.args < call->args_min || text.args > call->args_max)
		return trace_fail(trace, line, "%s: %u arguments", text.name, text.args);
	matters = call->parse(trace, line, &text, event);
	trace->without_effect += !matters && !text.failed;
	return matters;
}
