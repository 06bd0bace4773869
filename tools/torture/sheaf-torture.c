/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * sheaf-torture: operations of caches and trees by many threads, disturbed in every way that a
 * process can be, with objects that tell when something is wrong. In rounds: each makes its
 * caches, ends them, and counts what has come back.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* What a round may take beyond its time, until every disturbance has happened. */
#define BEYOND_MS 10000

struct torture torture;

static const char *const plant_names[PLANTS] = {"none", "lose",   "twice", "write", "early",
						"leak", "little", "hang",  "stuck", "hole"};

bool plant_now(enum plant plant)
{
	/* Not at once: caches should be warm. */
	return torture.options.plant == plant && load_relaxed(&torture.counts.handed_out) > 2000 &&
	       !exchange_relaxed(&torture.planted, 1);
}

/* Between two looks: more than that is a machine that stands still. */
#define LOOK_MOST_MS 200

/* Ends the run if somebody is in one operation for too long. */
static void watch(void)
{
	static uint64_t looked;
	uint64_t before = looked, now, most = torture.options.patience * 1000;
	unsigned i;

	looked = now_ms();
	now = load_relaxed(&torture.watched_ms);
	now += before && looked - before < LOOK_MOST_MS ? looked - before : LOOK_MOST_MS;
	store_relaxed(&torture.watched_ms, now);
	for (i = 0; i <= torture.options.threads; i++) {
		const struct worker *w =
			i < torture.options.threads ? &torture.workers[i] : &torture.disturber;
		uint64_t since = load_relaxed(&w->since_ms);

		if (load_relaxed(&w->doing) && !load_relaxed(&w->left) && now > since &&
		    now - since > most)
			fault("no progress: %s %u is in %s (%s) for %" PRIu64 " ms",
			      i < torture.options.threads ? "thread" : "disturber", w->number,
			      load_relaxed(&w->doing), load_relaxed(&w->with), now - since);
	}
}

/* What main() does at the end of a round, when nobody watches. */
static const char *ending;

/* All caches, or trees, of a round: more than one operation. */
static unsigned ending_s(void)
{
	const unsigned s = (unsigned)torture.options.patience;

	return s < 30 && torture.options.plant != PLANT_STUCK ? 30 : s;
}

static void not_ended(int number)
{
	(void)number;
	fault("no progress: main() ends %s for %u s", ending, ending_s());
}

/* NULL: it has ended. Children have alarms of their own. */
static void end_of(const char *what)
{
	ending = what;
	signal(SIGALRM, what ? not_ended : SIG_DFL);
	alarm(what ? ending_s() : 0);
}

static void nap(void)
{
	const struct timespec time = {0, 2000000};

	nanosleep(&time, NULL);
}

static void watch_until_left(const struct worker *w)
{
	while (!load_acquire(&w->left)) {
		source_tend();
		watch();
		nap();
	}
}

/* All are joined while they are watched; workers have no more time than the disturber. */
static void stop(pthread_t disturber)
{
	unsigned i;

	store_relaxed(&torture.disturber_stop, 1);
	watch_until_left(&torture.disturber);
	pthread_join(disturber, NULL);
	store_relaxed(&torture.disturber.doing, NULL);
	disturber_undo();
	store_relaxed(&torture.stop, 1);
	for (i = 0; i < torture.options.threads; i++)
		if (torture.workers[i].running)
			watch_until_left(&torture.workers[i]);
	disturber_join(true);
}

/* Who ends a thread leaves what it held to main(). */
static void hands_back(void)
{
	unsigned i, k;

	for (i = 0; i < torture.options.threads; i++) {
		struct worker *w = &torture.workers[i];

		hand_empty_all(w);
		for (k = 0; k < w->handler_n; k++) {
			struct victim *victim = &torture.victims[w->handler_cache[k]];

			object_free(victim, w->handler_hand[k], worker_owner(w) | OWNER_HANDLER);
			sheaf_cache_free(victim->cache, w->handler_hand[k]);
		}
		w->handler_n = 0;
		store_relaxed(&w->doing, NULL);
	}
}

static void leak(void)
{
	const size_t bytes = (size_t)64 << 20, little = (size_t)512 << 10;
	static void *lost;
	void *mem;

	if (torture.options.plant == PLANT_LITTLE)
		store_relaxed(&lost, malloc(little));
	if (torture.options.plant != PLANT_LEAK)
		return;
	mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem != MAP_FAILED)
		memset(mem, 1, bytes);
}

static void round_run(uint64_t ms)
{
	const char *what = "the source";
	uint64_t end = now_ms() + ms, before[DISTURBANCES];
	pthread_t disturber;
	unsigned i;
	int err = source_begin();

	if (!err)
		err = victims_begin(&what);
	if (!err) {
		what = "trees";
		err = trees_begin();
	}
	if (err)
		fault("%s cannot be made (%d)", what, err);
	torture.stop = torture.disturber_stop = 0;
	memcpy(before, torture.counts.disturbances, sizeof(before));
	for (i = 0; i < torture.options.threads; i++)
		if (!worker_start(&torture.workers[i]))
			fault("thread %u cannot be made", i);
	store_relaxed(&torture.disturber.left, 0);
	worker_note(&torture.disturber, "begin", "");
	if (pthread_create(&disturber, NULL, disturber_run, &torture.disturber))
		fault("the disturber cannot be made");
	while (now_ms() < end || (now_ms() < end + BEYOND_MS && !all_happened(before))) {
		source_tend();
		watch();
		nap();
	}
	stop(disturber);
	end_of("hands");
	hands_back();
	end_of("trees");
	trees_end();
	end_of("caches");
	victims_end();
	end_of("the source");
	source_end();
	if (plant_now(PLANT_STUCK))
		pause();
	end_of(NULL);
	leak();
}

static void run(void)
{
	const struct options *o = &torture.options;
	uint64_t ms = o->seconds * 1000 / o->rounds;
	unsigned i;

	torture.begun_ms = now_ms();
	torture.pid = getpid();
	torture.disturber.number = THREADS_MAX;
	torture.disturber.random = random_stream(o->seed, 0);
	for (i = 0; i < o->threads; i++) {
		torture.workers[i].number = i;
		torture.workers[i].random = random_stream(o->seed, 2 * i + 1);
		torture.workers[i].handler_random = random_stream(o->seed, 2 * i + 2);
	}
	report_crashes();
	workers_install_handler();
	for (torture.round = 1;; torture.round++) {
		round_run(ms);
		report_memory();
		if (torture.round == o->rounds)
			break;
	}
	report_result();
}

static void usage(FILE *out)
{
	unsigned d;

	fputs("NAME\n"
	      "  sheaf-torture - look for faults in caches and trees of libsheaf\n\n"
	      "SYNOPSIS\n"
	      "  sheaf-torture [OPTION]...\n\n"
	      "DESCRIPTION\n"
	      "  Many threads allocate, free, retire, prefill, shrink and trim, and read and "
	      "write\n"
	      "  trees, while the process is disturbed. Each object carries a stamp, so that one "
	      "that\n"
	      "  is lost, handed out twice, handed out before its grace period has passed, or "
	      "written\n"
	      "  to while it is free is noticed. Trees are of ranges, with a gap index too, and "
	      "of\n"
	      "  points; ranges are cut, gaps searched for, snapshots and copies taken; some keys "
	      "are\n"
	      "  never free, and no reader may find them so.\n\n"
	      "  After each round every object must be back at its backend, and memory may not "
	      "have\n"
	      "  grown by more than 8 MiB and 128 KiB a thread since the first round (mapped:\n"
	      "  64 MiB).\n\n"
	      "OPTIONS\n"
	      "  -t, --seconds=N      how long, 1 to 1000000; default 10. A round takes longer, "
	      "by\n"
	      "                       10 s at most, where not every disturbance has happened yet\n"
	      "  -r, --rounds=N       caches are made and ended so many times; default 4\n"
	      "  -n, --threads=N      1 to 256; default 6\n"
	      "  -s, --seed=N         of the streams of random numbers, one for each thread;\n"
	      "                       default: by the clock. It is always printed.\n"
	      "  -l, --slots=KIND     of caches: cpu, thread, default\n"
	      "  -g, --source=KIND    of grace periods: memb, mb, qsbr, bp, ck, call_rcu, manual;\n"
	      "                        default memb\n"
	      "  -b, --backend=KIND   slab, malloc; default slab\n"
	      "  -w, --with=LIST      these disturbances only, separated by commas; none: none\n"
	      "  -x, --without=LIST   all disturbances but these\n"
	      "  -p, --patience=N     seconds that one operation may take; default 60. So may, "
	      "and\n"
	      "                       30 at least, each step that ends a round\n"
	      "  -q, --quiet          print faults only\n"
	      "  -j, --json           print the result as one line of JSON\n"
	      "  -h, --help           this text\n"
	      "  -V, --version        the version\n\n"
	      "DISTURBANCES\n  ",
	      out);
	for (d = 0; d < DISTURBANCES; d++)
		fprintf(out, "%s%s", d ? ", " : "", disturbance_name(d));
	fputs("\n  fork is not among them where a sanitizer cannot bear it.\n\n"
	      "EXIT STATUS\n"
	      "  0  nothing was found\n"
	      "  1  a fault was found; standard error says which, the seed, and what each thread\n"
	      "     was doing\n"
	      "  2  a bad option\n"
	      "  A library that aborts, or a crash, ends it by the signal.\n",
	      out);
}

static int bad(const char *format, const char *what)
{
	fputs("sheaf-torture: ", stderr);
	fprintf(stderr, format, what);
	fputs(" (--help tells more)\n", stderr);
	return 2;
}

static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *value >= min && *value <= max;
}

static bool disturbances(const char *text, uint32_t *set)
{
	*set = 0;
	if (!strcmp(text, "none"))
		return true;
	for (;;) {
		size_t length = strcspn(text, ",");
		int d = disturbance_named(text, length);

		if (d < 0)
			return false;
		*set |= UINT32_C(1) << d;
		if (!text[length])
			return true;
		text += length + 1;
	}
}

/* One of a list of words; -1 if it is none. */
static int word(const char *text, const char *const *words, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (!strcmp(text, words[i]))
			return i;
	return -1;
}

/* 0, or 2 after a message. */
static int take_option(int option, struct options *o)
{
	static const char *const slots[] = {"default", "thread", "cpu"};
	static const char *const backends[] = {"malloc", "slab"};
	uint32_t set = 0;
	int at = 0;
	bool good = true;

	switch (option) {
	case 't':
		good = number(optarg, 1, 1000000, &o->seconds);
		break;
	case 'r':
		good = number(optarg, 1, 1000000, &o->rounds);
		break;
	case 'n':
		good = number(optarg, 1, THREADS_MAX, &o->threads);
		break;
	case 's':
		good = number(optarg, 0, UINT64_MAX, &o->seed);
		break;
	case 'p':
		good = number(optarg, 1, 1000000, &o->patience);
		break;
	case 'l':
		at = word(optarg, slots, 3);
		o->slots = (unsigned)at;
		break;
	case 'g':
		good = source_known(optarg);
		o->source = optarg;
		break;
	case 'b':
		at = word(optarg, backends, 2);
		o->slab = at == 1;
		break;
	case 'w':
	case 'x':
		good = disturbances(optarg, &set);
		o->disturb = option == 'w' ? set : o->disturb & ~set;
		break;
	case 'q':
		o->quiet = true;
		break;
	case 'j':
		o->json = true;
		break;
	case 'P':
		at = word(optarg, plant_names, PLANTS);
		o->plant = (enum plant)at;
		break;
	default:
		return 2;
	}
	return good && at >= 0 ? 0 : bad("bad value '%s'", optarg);
}

/* The exit status if there is nothing more to do, else -1. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option list[] = {
		{"seconds", required_argument, NULL, 't'},
		{"rounds", required_argument, NULL, 'r'},
		{"threads", required_argument, NULL, 'n'},
		{"seed", required_argument, NULL, 's'},
		{"slots", required_argument, NULL, 'l'},
		{"source", required_argument, NULL, 'g'},
		{"backend", required_argument, NULL, 'b'},
		{"with", required_argument, NULL, 'w'},
		{"without", required_argument, NULL, 'x'},
		{"patience", required_argument, NULL, 'p'},
		{"quiet", no_argument, NULL, 'q'},
		{"json", no_argument, NULL, 'j'},
		{"plant", required_argument, NULL, 'P'}, /* for tests of this program */
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0}};
	int option;

	*o = (struct options){.seconds = 10,
			      .rounds = 4,
			      .threads = 6,
			      .patience = 60,
			      .seed = now_ms() ^ (uint64_t)getpid() << 32,
			      .source = "memb",
			      .slab = true,
			      .disturb = UINT32_MAX};
	while ((option = getopt_long(argc, argv, "t:r:n:s:l:g:b:w:x:p:qjhV", list, NULL)) != -1) {
		if (option == 'h') {
			usage(stdout);
			return 0;
		}
		if (option == 'V') {
			puts("sheaf-torture " SHEAF_VERSION);
			return 0;
		}
		if (take_option(option, o))
			return 2;
	}
	if (optind < argc)
		return bad("what is '%s'?", argv[optind]);
	o->disturb &= disturbances_possible();
	return -1;
}

int main(int argc, char **argv)
{
	/* A fault may be told in the midst of malloc(). */
	static char out[BUFSIZ];
	int status;

	setvbuf(stdout, out, _IOFBF, sizeof(out));
	status = parse_options(argc, argv, &torture.options);
	if (status >= 0)
		return status;
	if (!torture.options.quiet && !torture.options.json) {
		printf("sheaf-torture --seconds=%" PRIu64 " --rounds=%" PRIu64 " --threads=%" PRIu64
		       " --seed=%" PRIu64 " --source=%s --backend=%s\n",
		       torture.options.seconds, torture.options.rounds, torture.options.threads,
		       torture.options.seed, torture.options.source,
		       torture.options.slab ? "slab" : "malloc");
		fflush(stdout);
	}
#ifdef __GLIBC__
	/* How many there are would depend on who met whom. */
	mallopt(M_ARENA_MAX, 4);
#endif
	run();
	if (fflush(stdout) || ferror(stdout)) {
		fputs("sheaf-torture: cannot write to standard output\n", stderr);
		return 1;
	}
	return 0;
}
