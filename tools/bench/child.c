/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A child: one competitor in one scenario. It sets up, says "ready", and does what its
 * standard input says, a line each:
 *
 *	round   run one round; answers "round NS OPS CPU_NS SIDE_OPS ALONE_NS ALONE_OPS"
 *	end     answers "stat NAME VALUE" lines, then "done", and ends
 *
 * Its threads and objects live through all rounds, so caches are warm from the second on.
 */
#include "bench.h"
#include "pattern.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* The driver's end of the pipe: stdout may be written to by libraries. */
static FILE *answers;

static pthread_barrier_t gate;
static bool leaving;

uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

double now_seconds(void)
{
	return (double)clock_ns(CLOCK_MONOTONIC) * 1e-9;
}

uint64_t resident_kib(void)
{
	char text[128];
	unsigned long total = 0, resident = 0;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	sscanf(text, "%lu %lu", &total, &resident);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

uint64_t resident_peak_kib(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[256];

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "VmHWM: %lu kB", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

static void worker_enter(struct worker *w)
{
	if (w->rig->object && w->rig->object->enter)
		w->rig->object->enter(w->rig->ctx, w->id);
	if (w->rig->tree && w->rig->tree->enter)
		w->rig->tree->enter(w->rig->ctx);
	if (w->rig->pattern->enter)
		w->rig->pattern->enter(w);
}

static void worker_leave(struct worker *w)
{
	if (w->rig->pattern->leave)
		w->rig->pattern->leave(w);
	if (w->rig->object && w->rig->object->leave)
		w->rig->object->leave(w->rig->ctx);
	if (w->rig->tree && w->rig->tree->leave)
		w->rig->tree->leave(w->rig->ctx);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	worker_enter(w);
	pthread_barrier_wait(&gate);
	for (;;) {
		pthread_barrier_wait(&gate);
		if (leaving)
			break;
		w->began = clock_ns(CLOCK_MONOTONIC);
		w->rig->pattern->work(w);
		w->ended = clock_ns(CLOCK_MONOTONIC);
		pthread_barrier_wait(&gate);
	}
	worker_leave(w);
	return NULL;
}

static void rest(double seconds)
{
	struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

static void round_run(struct rig *rig, double seconds)
{
	uint64_t began = UINT64_MAX, ended = 0, ops = 0, side_ops = 0, timed = 0, cpu;
	uint64_t alone_ns = 0, alone_ops = 0;
	unsigned i;

	if (rig->pattern->begin)
		rig->pattern->begin(rig);
	for (i = 0; i < rig->n_workers; i++)
		rig->workers[i].ops = rig->workers[i].side_ops = rig->workers[i].timed =
			rig->workers[i].alone_ops = rig->workers[i].alone_ns = 0;
	__atomic_store_n(&rig->stop, 0, __ATOMIC_RELAXED);
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	pthread_barrier_wait(&gate);
	if (!rig->pattern->pass && rig->quota == UINT64_MAX) {
		rest(seconds);
		__atomic_store_n(&rig->stop, 1, __ATOMIC_RELAXED);
	}
	pthread_barrier_wait(&gate);
	/* What was put off is part of the price: in CPU time, not in wall time. */
	if (rig->object && rig->object->settle)
		rig->object->settle(rig->ctx);
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	for (i = 0; i < rig->n_workers; i++) {
		const struct worker *w = &rig->workers[i];

		ops += w->ops;
		side_ops += w->side_ops;
		alone_ops += w->alone_ops;
		alone_ns = w->alone_ns > alone_ns ? w->alone_ns : alone_ns;
		if (!w->ops)
			continue;
		began = w->began < began ? w->began : began;
		ended = w->ended > ended ? w->ended : ended;
		timed = w->timed > timed ? w->timed : timed;
	}
	if (timed)
		ended = began + timed;
	if (rig->pattern->end)
		rig->pattern->end(rig);
	fprintf(answers, "round %llu %llu %llu %llu %llu %llu\n",
		(unsigned long long)(ended > began ? ended - began : 0), (unsigned long long)ops,
		(unsigned long long)cpu, (unsigned long long)side_ops, (unsigned long long)alone_ns,
		(unsigned long long)alone_ops);
	fflush(answers);
}

/* "name=value" arguments. */
static bool params_read(struct bench_env *env, int argc, char **argv)
{
	int i;
	unsigned p;

	for (i = 0; i < argc; i++) {
		size_t n = strcspn(argv[i], "=");

		for (p = 0; p < BENCH_PARAMS; p++)
			if (strlen(param_name(p)) == n && memcmp(argv[i], param_name(p), n) == 0)
				break;
		if (p == BENCH_PARAMS || argv[i][n] != '=') {
			fprintf(stderr, "what is %s?\n", argv[i]);
			return false;
		}
		env->param[p] = strtoull(argv[i] + n + 1, NULL, 10);
	}
	return true;
}

static const struct competitor *competitor_find(const char *name)
{
	const struct competitor *competitor;
	size_t i;

	for (i = 0; (competitor = competitor_nth(i)); i++)
		if (strcmp(competitor->name, name) == 0)
			return competitor;
	return NULL;
}

static bool rig_setup(struct rig *rig, const struct scenario *scenario,
		      const struct competitor *competitor)
{
	const struct bench_peer *peer = competitor_load(competitor);
	const unsigned threads = (unsigned)rig->env.param[PARAM_THREADS];
	const unsigned beside = (unsigned)rig->env.param[PARAM_READERS];
	unsigned i;

	if (!peer)
		return false;
	rig->pattern = scenario->pattern;
	if (scenario->pattern == &pattern_trips) {
		rig->pattern = trip_patterns[rig->env.param[PARAM_PATTERN]].pattern;
		rig->quota = 60 * 200;
	}
	if (rig->pattern->live)
		rig->env.live = rig->pattern->live(&rig->env);
	if (scenario->class == CLASS_POINTS)
		rig->tree = peer->points;
	else if (scenario->class == CLASS_RANGES)
		rig->tree = peer->ranges;
	else if (scenario->class == CLASS_POOL)
		rig->pool = peer->pool;
	else
		rig->object = peer->object;
	rig->ctx = rig->tree   ? rig->tree->setup(&rig->env)
		   : rig->pool ? rig->pool->setup(&rig->env)
			       : rig->object->setup(&rig->env);
	if (!rig->ctx)
		return false;
	if (rig->pattern->prepare && !rig->pattern->prepare(rig))
		return false;
	rig->n_workers = threads + beside;
	rig->workers = aligned_alloc(128, rig->n_workers * sizeof(struct worker));
	if (!rig->workers)
		out_of_memory();
	memset(rig->workers, 0, rig->n_workers * sizeof(struct worker));
	for (i = 0; i < rig->n_workers; i++) {
		rig->workers[i].rig = rig;
		rig->workers[i].id = i;
		rig->workers[i].reader = i >= threads;
		rig->workers[i].random = UINT64_C(0x9e3779b97f4a7c15) * (i + 1);
	}
	return true;
}

static void trips_read(const struct rig *rig, struct bench_trips *trips)
{
	memset(trips, 0, sizeof(*trips));
	if (rig->object && rig->object->trips)
		rig->object->trips(rig->ctx, trips);
	if (rig->tree && rig->tree->trips)
		rig->tree->trips(rig->ctx, trips);
}

static void trips_write(const struct bench_trips *from, const struct bench_trips *to)
{
	fprintf(answers, "stat trips.barn_alloc %llu\n",
		(unsigned long long)(to->barn_alloc - from->barn_alloc));
	fprintf(answers, "stat trips.barn_free %llu\n",
		(unsigned long long)(to->barn_free - from->barn_free));
	fprintf(answers, "stat trips.barn_failed %llu\n",
		(unsigned long long)(to->barn_failed - from->barn_failed));
	fprintf(answers, "stat trips.backend_alloc %llu\n",
		(unsigned long long)(to->backend_alloc - from->backend_alloc));
	fprintf(answers, "stat trips.backend_free %llu\n",
		(unsigned long long)(to->backend_free - from->backend_free));
	fprintf(answers, "stat trips.home %llu\n", (unsigned long long)(to->home - from->home));
	fprintf(answers, "stat trips.held_slots %llu\n", (unsigned long long)to->held_slots);
	fprintf(answers, "stat trips.held_barns %llu\n", (unsigned long long)to->held_barns);
	fprintf(answers, "stat trips.in_flight %llu\n", (unsigned long long)to->in_flight);
	fprintf(answers, "stat cpu_slots %llu\n", (unsigned long long)to->cpu_slots);
	fprintf(answers, "stat trips.capacity %llu\n", (unsigned long long)to->capacity);
	fprintf(answers, "stat trips.slab_fragmentation %llu\n",
		(unsigned long long)to->slab_fragmentation);
	fprintf(answers, "stat trips.fragmentation %llu\n", (unsigned long long)to->fragmentation);
}

/* For tests: a competitor that dies where it is told to. */
static void break_at(const char *place, const char *name)
{
	const char *wanted = getenv("SHEAF_BENCH_BREAK");
	size_t n = strlen(place);

	if (wanted && strncmp(wanted, place, n) == 0 && wanted[n] == ':' &&
	    strcmp(wanted + n + 1, name) == 0) {
		fprintf(stderr, "told to die\n");
		raise(SIGKILL);
	}
}

static void serve(struct rig *rig, double seconds, const char *name)
{
	struct bench_trips before, after;
	bool counting = false;
	char word[16];

	while (scanf("%15s", word) == 1 && strcmp(word, "end") != 0) {
		break_at("round", name);
		round_run(rig, seconds);
		/* The first round warms up. */
		if (!counting)
			trips_read(rig, &before);
		counting = true;
	}
	if (counting) {
		trips_read(rig, &after);
		if (after.capacity)
			trips_write(&before, &after);
	}
}

static void threads_end(struct rig *rig, pthread_t *threads)
{
	unsigned i;

	leaving = true;
	pthread_barrier_wait(&gate);
	for (i = 0; i < rig->n_workers; i++)
		pthread_join(threads[i], NULL);
	free(threads);
}

/* --child SCENARIO COMPETITOR SECONDS NAME=VALUE... */
int child_main(int argc, char **argv)
{
	static struct rig rig = {.quota = UINT64_MAX};
	const struct scenario *scenario = argc < 3 ? NULL : scenario_find(argv[0]);
	const struct competitor *competitor = argc < 3 ? NULL : competitor_find(argv[1]);
	uint64_t base = resident_kib();
	pthread_t *threads;
	unsigned i;

	answers = fdopen(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10), "w");
	if (!answers || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		return 1;
	if (!scenario || !competitor || !params_read(&rig.env, argc - 3, argv + 3))
		return 2;
	rig.seconds = strtod(argv[2], NULL);
	break_at("setup", competitor->name);
	if (!rig_setup(&rig, scenario, competitor))
		return 1;
	pthread_barrier_init(&gate, NULL, rig.n_workers + 1);
	threads = calloc(rig.n_workers, sizeof(*threads));
	if (!threads)
		out_of_memory();
	for (i = 0; i < rig.n_workers; i++)
		if (pthread_create(&threads[i], NULL, worker_main, &rig.workers[i])) {
			fprintf(stderr, "cannot create %u threads\n", rig.n_workers);
			return 1;
		}
	pthread_barrier_wait(&gate);
	fprintf(answers, "ready\n");
	fflush(answers);
	serve(&rig, rig.seconds, competitor->name);
	fprintf(answers, "stat base_kib %llu\n", (unsigned long long)base);
	fprintf(answers, "stat peak_kib %llu\n", (unsigned long long)resident_peak_kib());
	if (tree_bytes_entry > 0)
		fprintf(answers, "stat bytes_entry %.1f\n", tree_bytes_entry);
	if (rig.tree)
		tree_writes_tell(&rig, answers);
	if (rig.pattern->tell)
		rig.pattern->tell(&rig, answers);
	threads_end(&rig, threads);
	if (rig.pattern->finish)
		rig.pattern->finish(&rig);
	if (rig.tree)
		rig.tree->teardown(rig.ctx);
	else if (rig.pool)
		rig.pool->teardown(rig.ctx);
	else
		rig.object->teardown(rig.ctx);
	free(rig.workers);
	fprintf(answers, "done\n");
	fclose(answers);
	return 0;
}

/* --probe COMPETITOR: is it there, and which version? */
int probe_main(const char *name)
{
	const struct competitor *competitor = competitor_find(name);
	const struct bench_peer *peer = competitor ? competitor_load(competitor) : NULL;
	char version[128] = "";

	if (!peer)
		return 1;
	if (peer->version)
		peer->version(version, sizeof(version));
	printf("%s\n", version);
	return 0;
}
