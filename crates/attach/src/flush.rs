//! Having a device that we serve ourselves written out, without waiting for it ourselves.
//!
//! Whoever waits for a device cannot be killed until it answers; if that is the process that serves it, and it is
//! killed all the same, nobody answers any more: its descriptors are closed when its last thread has ended, and the
//! one that waits never ends. So a child waits, which has the device open and nothing else: when we die, what we
//! serve by is closed, the child's wait fails, and it ends.

use rustix::fd::{AsFd, AsRawFd};
use std::io;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(2);
/// `BLKFLSBUF`: what the page cache holds of a block device is forgotten.
const FORGET_CACHE: libc::Ioctl = 0x1261;

/// Writes out what the kernel holds of a block device, and has it forget that. After the limit nobody waits any more,
/// and the error is [`io::ErrorKind::TimedOut`].
pub(crate) fn flush(device: impl AsFd, limit: Duration) -> io::Result<()> {
    let descriptor = device.as_fd().as_raw_fd();
    let end = Instant::now() + limit;
    // SAFETY: between fork and _exit the child makes system calls by their plain numbers only and touches no memory
    // but its own stack, so that it does not matter in the middle of what the other threads were; the descriptor is
    // borrowed until the parent has returned.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: as above.
        0 => unsafe { wait_for(descriptor) },
        child => watch(child, end),
    }
}

/// The child: nothing but the device is open, and what came of it is the exit status.
///
/// # Safety
/// To be called in a child right after fork only, whose descriptors and whose end are nobody else's.
unsafe fn wait_for(descriptor: libc::c_int) -> ! {
    // SAFETY: these calls take numbers only, and the process ends here.
    unsafe {
        if descriptor > 0 {
            libc::syscall(libc::SYS_close_range, 0_u32, (descriptor - 1) as u32, 0_u32);
        }
        libc::syscall(libc::SYS_close_range, (descriptor + 1) as u32, u32::MAX, 0_u32);
        if libc::fsync(descriptor) != 0 {
            libc::_exit(libc::EIO);
        }
        libc::ioctl(descriptor, FORGET_CACHE, 0);
        libc::_exit(0)
    }
}

fn watch(child: libc::pid_t, end: Instant) -> io::Result<()> {
    loop {
        match reap(child, libc::WNOHANG) {
            Some(0) => return Ok(()),
            Some(number) => return Err(io::Error::from_raw_os_error(number)),
            None if Instant::now() >= end => break,
            None => std::thread::sleep(LOOK),
        }
    }
    // It may end late; somebody has to hear of it then.
    std::thread::Builder::new().name("flush-late".into()).spawn(move || reap(child, 0))?;
    Err(io::ErrorKind::TimedOut.into())
}

/// What a child ended with, `None` while it lives.
fn reap(child: libc::pid_t, flags: libc::c_int) -> Option<i32> {
    let mut status = 0;
    // SAFETY: waits for a child of ours and writes its status into a variable that lives until then.
    match unsafe { libc::waitpid(child, &mut status, flags) } {
        0 => None,
        ended if ended == child && libc::WIFEXITED(status) => Some(libc::WEXITSTATUS(status)),
        _ => Some(libc::EIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_it_is_heard_and_nothing_is_waited_for_beyond_the_limit() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        flush(&file, Duration::from_secs(20)).unwrap();
        // What cannot be flushed at all says so.
        let (pipe, _other) = std::io::pipe().unwrap();
        assert_eq!(flush(&pipe, Duration::from_secs(20)).unwrap_err().raw_os_error(), Some(libc::EIO));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let late = watch(child.id() as libc::pid_t, Instant::now());
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        child.kill().unwrap();
        // Its end may have been heard by the thread that was left with it.
        let _ = child.wait();
    }
}
