//! What tgtadm can be asked for, and how it fails.

use std::fmt;

/// What a command line asks for, with its words checked as tgtadm checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Shall be shown.
    Show(Show),
    /// Shall be done.
    Change(Change),
    /// The mode has no such operation, which only the daemon says.
    Unsupported,
    /// It cannot be had here, for this reason.
    Refused(&'static str),
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// All targets with all that is in them.
    Targets,
    /// The parameters of one.
    Target(u32),
    /// The daemon.
    System,
    /// Where it listens.
    Portals,
    /// The accounts.
    Accounts,
    /// The drivers with their targets.
    Drivers,
    /// The parameters of a session: target and session.
    Session(u32, u64),
    /// The connections of a target.
    Connections(u32),
    /// Counters.
    Statistics(Statistics),
}

/// Whose counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistics {
    /// All.
    System,
    /// Those of a target.
    Target(u32),
    /// Those of a unit.
    Unit(u32, u64),
    /// Those of a session.
    Session(u32, u64),
    /// Those of a connection.
    Connection(u32, u64, u32),
}

/// Whom an entry of an access list means. Where both are there, both are entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// `ALL`, an address or a network.
    pub address: Option<String>,
    /// The name of an initiator.
    pub initiator: Option<String>,
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A target more.
    NewTarget {
        /// Its number.
        tid: u32,
        /// Its name.
        name: String,
        /// The driver that was named, or nothing.
        driver: String,
    },
    /// A target less.
    DeleteTarget {
        /// Its number.
        tid: u32,
        /// Also with sessions.
        force: bool,
    },
    /// A parameter of a target.
    Target {
        /// Its number.
        tid: u32,
        /// Of the parameter.
        name: String,
        /// What it shall be.
        value: String,
    },
    /// An entry of its access list more.
    Bind {
        /// Of the target.
        tid: u32,
        /// Whom it lets in.
        who: Who,
    },
    /// An entry of its access list less.
    Unbind {
        /// Of the target.
        tid: u32,
        /// Whom it let in.
        who: Who,
    },
    /// A logical unit more.
    NewUnit(NewUnit),
    /// A logical unit less.
    DeleteUnit {
        /// Of the target.
        tid: u32,
        /// Its number.
        lun: u64,
    },
    /// Parameters of a logical unit.
    Unit {
        /// Of the target.
        tid: u32,
        /// Its number.
        lun: u64,
        /// `k=v,k=v`.
        parameters: String,
    },
    /// An account more.
    NewAccount {
        /// Its name.
        user: String,
        /// Its secret.
        password: String,
    },
    /// An account less, also where it is bound.
    DeleteAccount {
        /// Its name; tgtadm lets it be left out.
        user: Option<String>,
    },
    /// An account is asked for, or shown.
    BindAccount {
        /// By this target; for discovery where there is none.
        tid: Option<u32>,
        /// The account.
        user: String,
        /// Shown to initiators, instead of asked of them.
        outgoing: bool,
    },
    /// An account is not asked for any more, or not shown.
    UnbindAccount {
        /// By this target; for discovery where there is none.
        tid: Option<u32>,
        /// The account.
        user: String,
        /// The one that is shown.
        outgoing: bool,
    },
    /// A portal more.
    NewPortal {
        /// `portal=ADDRESS[:PORT]`.
        portal: String,
    },
    /// A portal less.
    DeletePortal {
        /// `portal=ADDRESS[:PORT]`.
        portal: String,
    },
    /// A connection is closed.
    CloseConnection {
        /// Of the target.
        tid: u32,
        /// Of the session.
        sid: u64,
        /// Its number.
        cid: u32,
    },
    /// A setting of the daemon.
    System {
        /// Of the setting.
        name: String,
        /// What it shall be.
        value: String,
    },
    /// The daemon shall end.
    End,
    /// The driver shall start.
    StartDriver,
    /// The driver shall stop.
    StopDriver,
}

/// A logical unit that shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewUnit {
    /// Of the target.
    pub tid: u32,
    /// Its number.
    pub lun: u64,
    /// `--backing-store`.
    pub path: Option<String>,
    /// `--bstype`.
    pub store: Option<String>,
    /// `--bsopts`.
    pub store_options: Option<String>,
    /// `--bsoflags`.
    pub open_flags: Option<String>,
    /// `--blocksize`.
    pub block_size: Option<String>,
    /// `--device-type`.
    pub device_type: DeviceType,
}

/// What a unit is to its initiators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceType {
    /// A disk.
    #[default]
    Disk,
    /// A tape.
    Tape,
    /// A CD or DVD drive.
    Cd,
    /// A media changer.
    Changer,
    /// An object store.
    Osd,
    /// Another's device, passed through.
    PassThrough,
}

impl DeviceType {
    /// The type of this word.
    pub fn named(text: &str) -> Option<DeviceType> {
        Some(match text {
            "disk" => DeviceType::Disk,
            "tape" | "ssc" => DeviceType::Tape,
            "cd" => DeviceType::Cd,
            "changer" => DeviceType::Changer,
            "osd" => DeviceType::Osd,
            "pt" => DeviceType::PassThrough,
            _ => return None,
        })
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            DeviceType::Disk => "disk",
            DeviceType::Tape => "tape",
            DeviceType::Cd => "cd",
            DeviceType::Changer => "changer",
            DeviceType::Osd => "osd",
            DeviceType::PassThrough => "pt",
        }
    }

    /// Whether tgtadm refuses to make one without something behind it.
    pub fn needs_store(self) -> bool {
        matches!(self, DeviceType::Changer | DeviceType::Osd | DeviceType::PassThrough)
    }
}

/// What a daemon answers that does not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what its text says")]
pub enum Error {
    Unknown,
    NoMemory,
    NoDriver,
    NoTarget,
    NoUnit,
    NoSession,
    NoConnection,
    NoBinding,
    TargetExists,
    BindingExists,
    UnitExists,
    RuleExists,
    NoRule,
    AccountExists,
    NoAccount,
    TooManyAccounts,
    InvalidRequest,
    OutgoingExists,
    TargetActive,
    UnitActive,
    DriverBusy,
    Unsupported,
    UnknownParameter,
    PreventRemoval,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Unknown => "unknown error",
            Error::NoMemory => "out of memory",
            Error::NoDriver => "can't find the driver",
            Error::NoTarget => "can't find the target",
            Error::NoUnit => "can't find the logical unit",
            Error::NoSession => "can't find the session",
            Error::NoConnection => "can't find the connection",
            Error::NoBinding => "can't find the binding",
            Error::TargetExists => "this target already exists",
            Error::BindingExists => "this binding already exists",
            Error::UnitExists => "this logical unit number already exists",
            Error::RuleExists => "this access control rule already exists",
            Error::NoRule => "this access control rule does not exist",
            Error::AccountExists => "this account already exists",
            Error::NoAccount => "can't find the account",
            Error::TooManyAccounts => "too many accounts",
            Error::InvalidRequest => "invalid request",
            Error::OutgoingExists => "this target already has an outgoing account",
            Error::TargetActive => "this target is still active",
            Error::UnitActive => "this logical unit is still active",
            Error::DriverBusy => "this driver is busy",
            Error::Unsupported => "this operation isn't supported",
            Error::UnknownParameter => "unknown parameter",
            Error::PreventRemoval => "this device has Prevent Removal set",
        })
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody is there: the number of the system's error, and its text.
    Unreachable(i32, String),
    /// The daemon would not: tgt's word for it, and what else there is to say.
    Refused(Error, Option<String>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Refused(error, None)
    }
}

impl Failure {
    /// A refusal with a reason.
    pub fn because(error: Error, why: impl fmt::Display) -> Failure {
        Failure::Refused(error, Some(why.to_string()))
    }
}
