//! Which system calls there still are. All others fail with EPERM: a daemon of disks must not die of a library's
//! rare call, and EPERM keeps out what is to be kept out as well as a death would. A call of another architecture's
//! numbers ends the process.
//!
//! What a ring of io_uring is told to do passes no filter; files that it opens are landlock's business, and the
//! user's rights.

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};
use std::collections::BTreeMap;

/// Calls on open files, on memory, time, threads and signals of our own: for everybody.
const COMMON: &[c_long] = &[
    // Data.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_fadvise64,
    libc::SYS_flock,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_pipe2,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fgetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_fremovexattr,
    libc::SYS_fchmod,
    libc::SYS_getdents64,
    // Names.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_mlockall,
    libc::SYS_munlockall,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_memfd_create,
    libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_signalfd4,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    // Threads and signals of this process.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getpriority,
    libc::SYS_getcpu,
    libc::SYS_set_tid_address,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_prlimit64,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // The process that takes our place, watched and, where it does not answer, ended.
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    // It says that it is not there by a filter of its own, so that a C library takes clone, whose flags can be seen.
    libc::SYS_clone3,
    // Sockets that are there, and pairs of them.
    libc::SYS_socketpair,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
];

/// The same by the names that other architectures never had.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_create,
    libc::SYS_eventfd,
    libc::SYS_time,
    libc::SYS_getdents,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// What only the daemon does: the network, rings, looking out for changes.
const OF_DAEMON: &[c_long] = &[
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_pidfd_open,
];

/// What only the opener does.
const OF_OPENER: &[c_long] = &[libc::SYS_fchown, libc::SYS_fchownat];

/// Protocols of sockets: of this machine, IPv4, IPv6, and what the system tells of its addresses by.
const FAMILIES: &[u64] = &[libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_INET6 as u64, libc::AF_NETLINK as u64];
/// What may be set of the process: names of threads and of memory; and what may be asked.
const PRCTL: &[u64] = &[
    libc::PR_SET_NAME as u64,
    libc::PR_GET_NAME as u64,
    libc::PR_GET_DUMPABLE as u64,
    libc::PR_GET_NO_NEW_PRIVS as u64,
    libc::PR_GET_SECCOMP as u64,
    libc::PR_CAPBSET_READ as u64,
    PR_SET_VMA,
];
const PR_SET_VMA: u64 = 0x5356_4d41;
/// What would write into the terminal that we were started from.
const TERMINAL: &[u64] = &[TIOCSTI, TIOCLINUX];
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

/// Whose filter it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The daemon's.
    Daemon,
    /// The opener's.
    Opener,
}

/// From now on this thread and all that it starts have these calls.
pub fn restrict(whose: Whose) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let programs = programs(whose).map_err(|error| failed(&error))?;
    programs.iter().try_for_each(|program| apply_filter(program)).map_err(|error| failed(&error))
}

fn programs(whose: Whose) -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompFilter::new(absent, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), arch)?;
    let allowed =
        SeccompFilter::new(calls(whose)?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch)?;
    // The list is the last: it does not let another filter be put on.
    Ok([absent.try_into()?, allowed.try_into()?])
}

fn calls(whose: Whose) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let own = match whose {
        Whose::Daemon => OF_DAEMON,
        Whose::Opener => OF_OPENER,
    };
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> =
        COMMON.iter().chain(OLD).chain(own).map(|number| (*number, Vec::new())).collect();
    let thread = libc::CLONE_THREAD as u64;
    calls.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    let any_of = |argument, values: &[u64]| {
        values.iter().map(|value| rule(argument, SeccompCmpOp::Eq, *value)).collect::<Result<Vec<_>, _>>()
    };
    calls.insert(libc::SYS_prctl, any_of(0, PRCTL)?);
    let none_of = TERMINAL.iter().map(|value| condition(1, SeccompCmpOp::Ne, *value)).collect::<Result<_, _>>()?;
    calls.insert(libc::SYS_ioctl, vec![SeccompRule::new(none_of)?]);
    if whose == Whose::Daemon {
        calls.insert(libc::SYS_socket, any_of(0, FAMILIES)?);
    }
    Ok(calls)
}

fn condition(argument: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)
}

fn rule(argument: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![condition(argument, how, value)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_over_a_machine_is_no_call_of_ours() {
        for whose in [Whose::Daemon, Whose::Opener] {
            let calls = calls(whose).unwrap();
            for (name, number) in [
                ("execve", libc::SYS_execve),
                ("execveat", libc::SYS_execveat),
                ("ptrace", libc::SYS_ptrace),
                ("process_vm_readv", libc::SYS_process_vm_readv),
                ("process_vm_writev", libc::SYS_process_vm_writev),
                ("pidfd_getfd", libc::SYS_pidfd_getfd),
                ("mount", libc::SYS_mount),
                ("move_mount", libc::SYS_move_mount),
                ("pivot_root", libc::SYS_pivot_root),
                ("chroot", libc::SYS_chroot),
                ("unshare", libc::SYS_unshare),
                ("setns", libc::SYS_setns),
                ("bpf", libc::SYS_bpf),
                ("init_module", libc::SYS_init_module),
                ("finit_module", libc::SYS_finit_module),
                ("kexec_load", libc::SYS_kexec_load),
                ("reboot", libc::SYS_reboot),
                ("keyctl", libc::SYS_keyctl),
                ("perf_event_open", libc::SYS_perf_event_open),
                ("userfaultfd", libc::SYS_userfaultfd),
                ("setuid", libc::SYS_setuid),
                ("mknodat", libc::SYS_mknodat),
                ("kill", libc::SYS_kill),
            ] {
                assert!(!calls.contains_key(&number), "{whose:?}: {name}");
            }
            assert_eq!(calls.contains_key(&libc::SYS_connect), whose == Whose::Daemon);
            assert!(!calls.get(&libc::SYS_clone).unwrap().is_empty(), "threads only");
            programs(whose).unwrap();
        }
    }
}
