#!/bin/sh
# Compiles the small libraries that fuzzing the ELF reader begins with: fuzz_seeds.sh COMPILER FOLDER.
#
# Each holds some of everything the reader looks at, packed as tightly as linkers do: an input of a few kilobytes is
# mutated more often, and in more telling places, than one that is padded to pages.
set -eu
compiler=$1 folder=$2
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/other.c" <<'END'
int other(void) { return 1; }
int elder(void) { return 2; }
END
echo 'OTHER_1 { global: other; local: *; }; OTHER_2 { global: elder; } OTHER_1;' >"$work/other.map"
cat >"$work/seed.c" <<'END'
int other(void), elder(void), PyList_New(long);
int numbers[3] = {1, 2, 3}, zeros[99];
int *pointers[] = {&numbers[0], &numbers[2], &zeros[9]};
__thread int dynamic = 5;
__thread int fixed __attribute__((tls_model("initial-exec"))) = 6;
extern int python(void) __attribute__((alias("reads_python")));
int reads_python(void) {
#ifdef PYTHON
  return PyList_New(0);
#else
  return 0;
#endif
}
static int one(void) { return 1; }
static int (*choose(void))(void) { return one; }
int indirect(void) __attribute__((ifunc("choose")));
__attribute__((visibility("hidden"))) int hidden(void) { return 2; }
__attribute__((weak)) int absent(void);
int old(void) { return 3; }
int new(void) { return ++dynamic + ++fixed + *pointers[0] + hidden() + indirect() + other() + elder() + (absent ? absent() : 0); }
__attribute__((constructor)) static void start(void) { zeros[0] = 1; }
__attribute__((destructor)) static void stop(void) { zeros[0] = 2; }
#ifdef VERSIONS
__asm__(".symver old,call@SEED_1\n.symver new,call@@SEED_2");
#endif
END
echo 'SEED_1 { global: old; }; SEED_2 { global: *; } SEED_1;' >"$work/seed.map"

tight="-shared -fPIC -O1 -w -nostdlib -s -Wl,-z,max-page-size=4096,-z,norelro,--build-id=none"
$compiler $tight -Wl,-soname,libother.so,--version-script="$work/other.map" -o "$work/libother.so" "$work/other.c"
link() {
  $compiler $tight "$@" "$work/seed.c" "$work/libother.so" 2>/dev/null
}
seed() { # NAME FLAGS...: a linker that does not know the flags leaves the seed out; gold packs without being told
  out=$folder/$1.so
  shift
  link -Wl,-z,noseparate-code "$@" -o "$out" || link "$@" -o "$out" || rm -f "$out"
}
seed usual -Wl,-soname,libseed.so,-rpath,/a:/b
seed sysv -Wl,--hash-style=sysv,--disable-new-dtags,-rpath,/a
seed gnu -Wl,--hash-style=gnu,-z,now
seed both -Wl,--hash-style=both,-Bsymbolic,--build-id=sha1
seed packed -Wl,-z,pack-relative-relocs
seed versions -DVERSIONS -Wl,--version-script="$work/seed.map"
seed python -DPYTHON
seed relro -Wl,-z,relro,-z,separate-code
seed lld -fuse-ld=lld
seed lld-packed -fuse-ld=lld -Wl,--pack-dyn-relocs=relr
seed lld-android -fuse-ld=lld -Wl,--pack-dyn-relocs=android+relr
seed gold -fuse-ld=gold
ls "$folder" | grep -q . || { echo "no seed could be compiled with $compiler" >&2; exit 1; }
