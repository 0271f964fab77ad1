//! How iscsiadm ends: a number for scripts and what it means.

/// An exit code of iscsiadm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// All went well.
    pub const SUCCESS: Code = Code(0);
    /// Nothing better fits.
    pub const UNKNOWN: Code = Code(1);
    /// There is no such interface or record to begin with.
    pub const MEMORY: Code = Code(3);
    /// No connection came about.
    pub const CONNECTION: Code = Code(4);
    /// The login failed, and might succeed later.
    pub const LOGIN: Code = Code(5);
    /// The records could not be read or written.
    pub const DATABASE: Code = Code(6);
    /// What was asked is not allowed.
    pub const INVALID: Code = Code(7);
    /// Nobody answered in time.
    pub const TIMED_OUT: Code = Code(8);
    /// Something went wrong on this machine.
    pub const INTERNAL: Code = Code(9);
    /// The logout failed.
    pub const LOGOUT: Code = Code(10);
    /// An answer did not come in time.
    pub const PDU_TIMED_OUT: Code = Code(11);
    /// What attaches disks is not there.
    pub const DRIVER: Code = Code(12);
    /// There is such a session already.
    pub const SESSION_EXISTS: Code = Code(15);
    /// The target refused the login for good.
    pub const LOGIN_FATAL: Code = Code(19);
    /// There is nothing of what was asked for.
    pub const NOTHING_FOUND: Code = Code(21);
    /// What a session is could not be found out.
    pub const SYSFS: Code = Code(22);
    /// The target does not let us in.
    pub const AUTHORIZATION: Code = Code(24);
    /// The iSNS server did not answer.
    pub const ISNS_QUERY: Code = Code(25);
    /// It is not offered.
    pub const UNSUPPORTED: Code = Code(27);
    /// Somebody uses it.
    pub const BUSY: Code = Code(28);

    /// What the number means.
    pub fn text(self) -> &'static str {
        TEXTS.get(usize::from(self.0)).copied().unwrap_or("unknown error")
    }

    /// The first error of several counts.
    pub fn first(self, next: Code) -> Code {
        if self == Code::SUCCESS { next } else { self }
    }
}

const TEXTS: [&str; 34] = [
    "",
    "unknown error",
    "session not found",
    "no available memory",
    "encountered connection failure",
    "encountered iSCSI login failure",
    "encountered iSCSI database failure",
    "invalid parameter",
    "connection timed out",
    "internal error",
    "encountered iSCSI logout failure",
    "iSCSI PDU timed out",
    "iSCSI driver not found. Please make sure it is loaded, and retry the operation",
    "daemon access denied",
    "iSCSI driver does not support requested capability.",
    "session exists",
    "Unknown request",
    "iSNS service not supported",
    "could not communicate to iscsid",
    "encountered non-retryable iSCSI login failure",
    "could not connect to iscsid",
    "no objects found",
    "sysfs lookup failure",
    "host not found",
    "iSCSI login failed due to authorization failure",
    "iSNS query failed",
    "iSNS registration failed",
    "operation not supported",
    "device or resource in use",
    "operation failed but retry may succeed",
    "unknown discovery type",
    "child process terminated",
    "target likely not connected",
    "iscsid request timed out",
];
