/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

bool (*sheaf_memory_fault)(size_t bytes);

void *memory_alloc(size_t align, size_t bytes)
{
	void *mem;

	if (sheaf_memory_fault && sheaf_memory_fault(bytes))
		return NULL;
	if (align == 1)
		return malloc(bytes);
	return posix_memalign(&mem, align, bytes) ? NULL : mem;
}

void *memory_zalloc(size_t align, size_t bytes)
{
	void *mem;

	if (sheaf_memory_fault && sheaf_memory_fault(bytes))
		return NULL;
	if (posix_memalign(&mem, align, bytes))
		return NULL;
	return memset(mem, 0, bytes);
}

void memory_free(void *mem)
{
	free(mem);
}

/* Maps align bytes more than asked and cuts both ends off. */
void *memory_map(size_t align, size_t bytes)
{
	uintptr_t start, aligned;
	void *mem;

	if (sheaf_memory_fault && sheaf_memory_fault(bytes))
		return NULL;
	if (bytes > SIZE_MAX - align)
		return NULL;
	mem = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return NULL;
	start = (uintptr_t)mem;
	aligned = (start + align - 1) & ~(uintptr_t)(align - 1);
	if (aligned > start)
		munmap(mem, aligned - start);
	if (start + align > aligned)
		munmap((void *)(aligned + bytes), start + align - aligned);
	return (void *)aligned;
}

void memory_unmap(void *mem, size_t bytes)
{
	munmap(mem, bytes);
}
