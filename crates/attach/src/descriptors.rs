//! Which of our open files a child process has: its three standard ones, and none that whoever started us left open.

/// Every file that is open now beyond standard error stays out of programs that this process starts.
///
/// A lock that a script holds while it calls us, or the pipe by which it waits for our end, would otherwise be held
/// by a process that outlives us.
pub fn keep_from_children() {
    // SAFETY: with CLOSE_RANGE_CLOEXEC the call closes nothing and touches no memory; it sets a flag of descriptors,
    // which is read when another program takes this process's or a child's place. A kernel that does not know the
    // call (before 5.11) answers with an error, and then nothing has changed.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    #[test]
    fn a_child_does_not_have_what_was_left_open_for_it() {
        let file = std::fs::File::open("/dev/null").unwrap();
        // A duplicate without the flag, as a shell's `exec 9>lock` leaves it.
        let copy = rustix::io::fcntl_dupfd_cloexec(&file, 100).unwrap();
        rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
        let child = |number: i32| {
            let path = format!("/proc/self/fd/{number}");
            std::process::Command::new("test").args(["-e", &path]).status().unwrap().success()
        };
        assert!(child(copy.as_raw_fd()), "or this test would show nothing");
        super::keep_from_children();
        assert!(!child(copy.as_raw_fd()));
    }
}
