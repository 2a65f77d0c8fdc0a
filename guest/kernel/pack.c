/*
 * pack IN OUT: writes the ELF kernel IN without its filler.
 *
 * The linker aligns parts of vmlinux to 2 MiB, so that the kernel can map them with large pages: a quarter of what a
 * VMM would copy into the guest at every start is padding. Guest memory starts as zeros, so a run of zero pages, or of
 * pages of int3 (0xcc, what unused text is filled with), need not be in the file: each loadable segment is split around
 * such runs. Addresses stay as they are. Sections and symbols go.
 */
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum {
	PAGE = 4096,
	/* A shorter run is copied faster than it is skipped. */
	MIN_RUN = 16 * PAGE,
	MAX_PHDRS = 64,
};

static Elf64_Phdr out_phdrs[MAX_PHDRS];
static const unsigned char *pieces[MAX_PHDRS];
static unsigned count;

static bool is_filler(const unsigned char *p, size_t len)
{
	if (p[0] != 0x00 && p[0] != 0xcc)
		return false;
	return len == 1 || memcmp(p, p + 1, len - 1) == 0;
}

/* Bytes of filler from P on, in whole pages; the last page of the segment may be short. */
static size_t filler_run(const unsigned char *p, size_t left)
{
	size_t run = 0;

	while (run < left) {
		size_t len = left - run < PAGE ? left - run : PAGE;

		if (!is_filler(p + run, len))
			break;
		run += len;
	}
	return run;
}

static void add(Elf64_Phdr phdr, const unsigned char *data)
{
	if (count == MAX_PHDRS)
		errx(1, "more than %d segments", MAX_PHDRS);
	pieces[count] = data;
	out_phdrs[count++] = phdr;
}

/* The piece [start, end) of the file's part of SEG; the last one also covers what is in memory only. */
static void add_piece(const Elf64_Phdr *seg, const unsigned char *data, size_t start, size_t end)
{
	Elf64_Phdr piece = *seg;

	piece.p_vaddr += start;
	piece.p_paddr += start;
	piece.p_filesz = end - start;
	piece.p_memsz = (end == seg->p_filesz ? seg->p_memsz : end) - start;
	piece.p_align = PAGE;
	add(piece, data + start);
}

static void split(const Elf64_Phdr *seg, const unsigned char *data)
{
	size_t start = 0, at = 0;

	while (at < seg->p_filesz) {
		size_t run = filler_run(data + at, seg->p_filesz - at);

		if (run < MIN_RUN) {
			at += run ? run : PAGE;
			continue;
		}
		if (at > start)
			add_piece(seg, data, start, at);
		at += run;
		start = at;
	}
	if (start < seg->p_filesz || seg->p_memsz > seg->p_filesz)
		add_piece(seg, data, start < seg->p_filesz ? start : seg->p_filesz, seg->p_filesz);
}

static const unsigned char *map(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", path);
	*len = st.st_size;
	p = mmap(NULL, *len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		err(1, "%s", path);
	return p;
}

static void check(const unsigned char *in, size_t len, const char *path)
{
	const Elf64_Ehdr *eh = (const void *)in;

	if (len < sizeof *eh || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 || eh->e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh->e_type != ET_EXEC || eh->e_phentsize != sizeof(Elf64_Phdr) ||
	    eh->e_phoff + (size_t)eh->e_phnum * sizeof(Elf64_Phdr) > len)
		errx(1, "%s: not an x86-64 kernel image", path);
}

static void collect(const unsigned char *in, size_t len, const char *path)
{
	const Elf64_Ehdr *eh = (const void *)in;
	const Elf64_Phdr *ph = (const void *)(in + eh->e_phoff);

	for (unsigned i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_offset + ph[i].p_filesz > len)
			errx(1, "%s: segment %u is cut short", path, i);
		if (ph[i].p_type == PT_LOAD)
			split(&ph[i], in + ph[i].p_offset);
		else if (ph[i].p_type == PT_NOTE)
			add(ph[i], in + ph[i].p_offset);
	}
}

static void write_out(const Elf64_Ehdr *in, const char *path)
{
	Elf64_Ehdr eh = *in;
	size_t offset = PAGE;
	FILE *f = fopen(path, "w");

	if (!f)
		err(1, "%s", path);
	eh.e_phoff = sizeof eh;
	eh.e_phnum = count;
	eh.e_shoff = 0;
	eh.e_shnum = eh.e_shstrndx = 0;
	for (unsigned i = 0; i < count; i++) {
		offset += (out_phdrs[i].p_paddr - offset) % PAGE;
		out_phdrs[i].p_offset = offset;
		offset += out_phdrs[i].p_filesz;
	}
	fwrite(&eh, sizeof eh, 1, f);
	fwrite(out_phdrs, sizeof *out_phdrs, count, f);
	for (unsigned i = 0; i < count; i++) {
		fseek(f, (long)out_phdrs[i].p_offset, SEEK_SET);
		fwrite(pieces[i], 1, out_phdrs[i].p_filesz, f);
	}
	if (ferror(f) | fclose(f))
		err(1, "%s", path);
}

int main(int argc, char **argv)
{
	const unsigned char *in;
	size_t len;

	if (argc != 3)
		errx(2, "usage: pack IN OUT");
	in = map(argv[1], &len);
	check(in, len, argv[1]);
	collect(in, len, argv[1]);
	write_out((const void *)in, argv[2]);
	return 0;
}
