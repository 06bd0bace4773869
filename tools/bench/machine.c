/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Where figures come from. */
#include "bench.h"

#include <gnu/libc-version.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

#ifdef __OPTIMIZE__
#define OPTIMIZED true
#else
#define OPTIMIZED false
#endif

static void cpu_read(char *text, size_t bytes)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(text, bytes, "unknown CPU");
	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || !colon)
			continue;
		colon[strcspn(colon, "\n")] = '\0';
		snprintf(text, bytes, "%s", colon + 2);
		break;
	}
	fclose(file);
}

static unsigned nodes_count(void)
{
	char path[64];
	unsigned n = 0;

	do
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%u", n++);
	while (access(path, F_OK) == 0);
	return n > 1 ? n - 1 : 1;
}

static void peers_list(char *text, size_t bytes, const struct presence *presence)
{
	const struct competitor *competitor;
	size_t i, n = 0;

	text[0] = '\0';
	for (i = 0; (competitor = competitor_nth(i)); i++) {
		/* The same malloc under another name. */
		if (!presence[i].there || strchr(competitor->name, '+') || competitor->only ||
		    competitor->private_objects)
			continue;
		n += (size_t)snprintf(text + n, bytes - n, "%s%s%s%s", n ? ", " : "",
				      competitor->name, presence[i].text[0] ? " " : "",
				      presence[i].text);
		if (n >= bytes)
			break;
	}
}

void machine_read(struct machine *machine, const struct presence *presence)
{
	struct utsname name;

	memset(machine, 0, sizeof(*machine));
	cpu_read(machine->cpu, sizeof(machine->cpu));
	machine->cores = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	machine->nodes = nodes_count();
	machine->memory_gib = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) /
			      (double)(UINT64_C(1) << 30);
	if (uname(&name) == 0)
		snprintf(machine->kernel, sizeof(machine->kernel), "%s %s", name.sysname,
			 name.release);
	snprintf(machine->libc, sizeof(machine->libc), "glibc %s", gnu_get_libc_version());
	snprintf(machine->compiler, sizeof(machine->compiler), "%s", COMPILER);
	snprintf(machine->build, sizeof(machine->build), "%s", BENCH_BUILD);
#ifdef NDEBUG
	machine->exact = OPTIMIZED;
#endif
#ifdef BENCH_CHECK
	machine->exact = false;
#endif
	peers_list(machine->peers, sizeof(machine->peers), presence);
}

const char *build_key(void)
{
	static char key[96];

#ifdef __clang__
	snprintf(key, sizeof(key), "clang-%d %s %s", __clang_major__, BENCH_ARCH, BENCH_BUILD);
#else
	snprintf(key, sizeof(key), "gcc-%d %s %s", __GNUC__, BENCH_ARCH, BENCH_BUILD);
#endif
	return key;
}
