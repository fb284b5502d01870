// What there is to know of an open file description: who has it, and which locks end with it.
//
// Problem: a lock of flock, a lock of the description (F_OFD_SETLK) and a lease end with the last reference to their
// description; record locks are the process's. Whoever closes a descriptor late, or opens a file once more to look at
// its locks, has to know which of these are at stake.
//
// Model: the kernel tells of each descriptor the locks of its description, and the record locks that the process has
// taken by it, in /proc/self/fdinfo. References that are not descriptors of this process, those of other processes and
// of mappings, are not told.
//
// Threads: any; nothing is kept but what thread_local says. Descriptors may be closed by others meanwhile: what is
// asked of one that is gone is answered as for one without locks.
#pragma once

#include <sys/stat.h>

#include <set>

namespace multipy {

/// A description of the file of `descriptor` that nobody else has; its mode goes to `access`, which is the mode of
/// `descriptor`. Where none can be had (no permission any more, no /proc, or opening it would do something), it is that
/// of `descriptor`. -1: none at all.
int open_again(int descriptor, const struct stat& status, int& access);

/// Whether the file system, `device`, asks another machine about locks.
bool is_of_a_network(int descriptor, dev_t device);

/// Whether anybody but the description of `descriptor` has a record lock on the file, or a lock of a description.
bool somebody_has_locks(int descriptor);

/// Whether the description of `descriptor` has locks that end with it, or a lease.
bool description_has_locks(int descriptor);

/// Ends these.
void end_locks_of_description(int descriptor);

/// Whether this process has record locks of the kernel's, the host's that is, on a file; true if that cannot be told.
bool process_has_record_locks(const struct stat& status);

/// Whether another descriptor of the process, none of `ignored`, has the description of `descriptor`, as one made by
/// dup does; true if that cannot be told.
bool is_duplicated(int descriptor, const struct stat& status, const std::set<int>& ignored = {});

}  // namespace multipy
