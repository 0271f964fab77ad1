//! Serving a disk without waiting for memory that only this disk's own writes could free.
//!
//! When memory is short, whoever allocates helps to write dirty pages out, and pages of programs are
//! dropped to be read again later. A server of a disk may do neither: the dirty pages can be those of its
//! own disk, and its program can lie on it. So its threads tell the kernel that they are part of the way to
//! a disk, and what it has touched stays in memory.

/// `PR_SET_IO_FLUSHER` (Linux 5.6): allocations of this thread start no I/O.
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// Marks the calling thread, and those that it starts from now on, as part of the way to a disk. Needs
/// `CAP_SYS_RESOURCE`; tells whether it was done.
pub fn protect_thread() -> bool {
    // SAFETY: prctl with this command takes numbers only and changes nothing but the calling thread's flags.
    unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0 }
}

/// Keeps all memory of this process that was touched, or will be, in memory; for a process that does nothing
/// but serve disks. Tells whether it was done: only where no limit is in the way, since beyond one the process
/// would get no more memory at all.
pub fn lock_process() -> bool {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
        return false;
    }
    // SAFETY: mlockall takes flags only; no mapping changes but in whether it may be paged out.
    unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) == 0 }
}
