/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Replays inputs of a fuzz target: files, all files of folders, or without arguments what
 * is on standard input; after --corpus, first, folders have to ask for all kinds of calls. So a corpus is an ordinary test in every build, and a find is run
 * again under a debugger. AFL++ runs a target by it: afl-fuzz ... -- PROGRAM @@
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#define INPUT_MOST (1u << 20)

static bool play(FILE *in, const char *name)
{
	static uint8_t data[INPUT_MOST];
	size_t size = fread(data, 1, sizeof(data), in);
	uint8_t *copy;

	if (ferror(in)) {
		fprintf(stderr, "%s: %s\n", name, strerror(errno));
		return false;
	}
	/* Of its size exactly, so that checkers see who reads past its end. */
	copy = malloc(size ? size : 1);
	if (!copy) {
		fprintf(stderr, "%s: out of memory\n", name);
		return false;
	}
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	return true;
}

static bool play_file(const char *name)
{
	FILE *in = fopen(name, "re");
	bool played;

	if (!in) {
		fprintf(stderr, "%s: %s\n", name, strerror(errno));
		return false;
	}
	played = play(in, name);
	fclose(in);
	return played;
}

/* Returns how many were played; adds to *failures. */
static unsigned play_folder(DIR *folder, const char *path, unsigned *failures)
{
	const struct dirent *entry;
	char name[PATH_MAX];
	unsigned n = 0;

	while ((entry = readdir(folder))) {
		struct stat about;

		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (stat(name, &about) || !S_ISREG(about.st_mode))
			continue;
		if (play_file(name))
			n++;
		else
			(*failures)++;
	}
	return n;
}

/* A corpus asks for all that its target can do. */
static bool all_played(const char *path)
{
	const uint64_t missing = ~fuzz_played & ((UINT64_C(1) << fuzz_kinds) - 1);

	if (missing)
		fprintf(stderr, "%s: no input of the corpus has calls of these kinds: %#jx\n", path,
			(uintmax_t)missing);
	return !missing;
}

int main(int argc, char **argv)
{
	unsigned n = 0, failures = 0;
	bool all = true, corpus = argc > 1 && !strcmp(argv[1], "--corpus");
	int i;

	argv += corpus;
	argc -= corpus;
	if (argc < 2)
		return play(stdin, "standard input") ? 0 : 1;
	for (i = 1; i < argc; i++) {
		DIR *folder = opendir(argv[i]);

		if (folder) {
			n += play_folder(folder, argv[i], &failures);
			closedir(folder);
			all &= !corpus || all_played(argv[i]);
		} else if (play_file(argv[i])) {
			n++;
		} else {
			failures++;
		}
	}
	printf("%u inputs played, %u could not be read\n", n, failures);
	return failures || !n || !all ? 1 : 0;
}
