//! The command line of tgtadm: which options a mode and an operation take, and what is said of those that they do not.

use super::getopt::{Grammar, Item, Long};
use super::request::{Change, DeviceType, NewUnit, Request, Show, Statistics, Who};

/// Exit code of what is not possible.
const INVALID: u8 = 22;

const GRAMMAR: Grammar = Grammar {
    program: "tgtadm",
    // tgt's own string demands arguments of F and O, which are flags; so their short forms never worked there.
    letters: "dhVL:o:m:t:s:c:l:n:v:b:E:f:y:T:I:Q:u:p:H:FP:B:Y:OC:S:",
    longs: &[
        flag("debug", 'd'),
        flag("help", 'h'),
        flag("version", 'V'),
        valued("lld", 'L'),
        valued("op", 'o'),
        valued("mode", 'm'),
        valued("tid", 't'),
        valued("sid", 's'),
        valued("cid", 'c'),
        valued("lun", 'l'),
        valued("name", 'n'),
        valued("value", 'v'),
        valued("backing-store", 'b'),
        valued("bstype", 'E'),
        valued("bsopts", 'S'),
        valued("bsoflags", 'f'),
        valued("blocksize", 'y'),
        valued("targetname", 'T'),
        valued("initiator-address", 'I'),
        valued("initiator-name", 'Q'),
        valued("user", 'u'),
        valued("password", 'p'),
        valued("host", 'H'),
        flag("force", 'F'),
        valued("params", 'P'),
        valued("bus", 'B'),
        valued("device-type", 'Y'),
        flag("outgoing", 'O'),
        valued("control-port", 'C'),
    ],
};

const fn flag(name: &'static str, letter: char) -> Long {
    Long { name, argument: false, letter }
}

const fn valued(name: &'static str, letter: char) -> Long {
    Long { name, argument: true, letter }
}

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// This, of the daemon with this control port.
    Request {
        /// What is asked for.
        request: Box<Request>,
        /// The number behind the socket's name.
        control_port: u16,
        /// Whether to tell what is sent.
        debug: bool,
    },
    /// Help.
    Help,
    /// The version.
    Version,
    /// Nothing that could be done: the exit code, and the lines that say so.
    Wrong(u8, Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    System,
    Target,
    LogicalUnit,
    Portal,
    Session,
    Connection,
    Account,
    Driver,
}

impl Mode {
    fn named(text: &str) -> Option<Mode> {
        Some(match text {
            "system" | "sys" => Mode::System,
            "target" | "tgt" => Mode::Target,
            "logicalunit" | "lu" => Mode::LogicalUnit,
            "portal" | "pt" => Mode::Portal,
            "session" | "sess" => Mode::Session,
            "connection" | "conn" => Mode::Connection,
            "account" => Mode::Account,
            "lld" => Mode::Driver,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    New,
    Delete,
    Bind,
    Unbind,
    Show,
    Update,
    Stat,
    Start,
    Stop,
}

impl Operation {
    /// In the order of tgt's numbers for them.
    const ALL: [(&'static str, Operation); 9] = [
        ("new", Operation::New),
        ("delete", Operation::Delete),
        ("show", Operation::Show),
        ("bind", Operation::Bind),
        ("unbind", Operation::Unbind),
        ("update", Operation::Update),
        ("stat", Operation::Stat),
        ("start", Operation::Start),
        ("stop", Operation::Stop),
    ];

    fn named(text: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, operation)| operation)
    }

    fn name(self) -> &'static str {
        Operation::ALL.into_iter().find(|(_, operation)| *operation == self).map_or("", |(name, _)| name)
    }
}

/// What stands on the line.
#[derive(Default)]
struct Line {
    operation: Option<Operation>,
    mode: Option<Mode>,
    letters: Vec<char>,
    driver: String,
    tid: Option<u32>,
    sid: u64,
    cid: u32,
    lun: Option<u64>,
    name: Option<String>,
    value: Option<String>,
    path: Option<String>,
    bstype: Option<String>,
    bsopts: Option<String>,
    bsoflags: Option<String>,
    blocksize: Option<String>,
    target: Option<String>,
    address: Option<String>,
    initiator: Option<String>,
    user: Option<String>,
    password: Option<String>,
    host: u32,
    force: bool,
    params: Option<String>,
    device_type: DeviceType,
    outgoing: bool,
    control_port: u16,
    debug: bool,
}

/// Reads the words behind the program's name.
pub fn read(words: &[String]) -> Read {
    try_read(words).unwrap_or_else(|stop| stop)
}

fn wrong(line: impl std::fmt::Display) -> Read {
    Read::Wrong(INVALID, vec![format!("tgtadm: {line}")])
}

const TRY: &str = "Try `tgtadm --help' for more information.";

fn try_read(words: &[String]) -> Result<Read, Read> {
    let (items, rest) = GRAMMAR.read(words);
    let mut line = Line::default();
    for item in items {
        match item {
            Item::Wrong(text) => return Err(Read::Wrong(INVALID, vec![text, TRY.to_owned()])),
            Item::Option(letter, value) => {
                line.letters.push(letter);
                line.take(letter, value.unwrap_or_default())?;
            }
        }
    }
    if let Some(extra) = rest.first() {
        let line = format!("tgtadm: unrecognized option '{extra}'");
        return Err(Read::Wrong(INVALID, vec![line, TRY.to_owned()]));
    }
    let operation = line.operation.ok_or_else(|| wrong("specify the operation type"))?;
    let mode = line.mode.ok_or_else(|| wrong("specify the mode"))?;
    let request = Box::new(line.request(mode, operation)?);
    Ok(Read::Request { request, control_port: line.control_port, debug: line.debug })
}

/// A number as C writes them: decimal, 0x… or 0….
fn number(letter: char, text: &str, most: u64) -> Result<u64, Read> {
    let said = |what| Err(Read::Wrong(INVALID, vec![format!("-{letter} argument value '{text}' {what}"), TRY.into()]));
    let trimmed = text.trim_start();
    let digits = trimmed.strip_prefix('+').unwrap_or(trimmed);
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return said("invalid");
    }
    match u64::from_str_radix(digits, radix) {
        Ok(value) if value <= most => Ok(value),
        _ => said("out of range"),
    }
}

impl Line {
    fn take(&mut self, letter: char, value: String) -> Result<(), Read> {
        let wrong_word = |code, what: &str| Read::Wrong(code, vec![format!("tgtadm: unknown {what}: {value}")]);
        match letter {
            'L' => self.driver = value,
            'o' => self.operation = Some(Operation::named(&value).ok_or_else(|| wrong_word(1, "operation"))?),
            'm' => self.mode = Some(Mode::named(&value).ok_or_else(|| wrong_word(1, "mode"))?),
            't' => {
                let tid = number(letter, &value, i32::MAX as u64)?;
                self.tid = u32::try_from(tid).ok();
            }
            's' => self.sid = number(letter, &value, u64::MAX)?,
            'c' => self.cid = u32::try_from(number(letter, &value, u32::MAX.into())?).unwrap_or(u32::MAX),
            'l' => self.lun = Some(number(letter, &value, u64::MAX)?),
            'H' => self.host = u32::try_from(number(letter, &value, u32::MAX.into())?).unwrap_or(u32::MAX),
            'C' => self.control_port = u16::try_from(number(letter, &value, u16::MAX.into())?).unwrap_or(u16::MAX),
            'n' => self.name = Some(value),
            'v' => self.value = Some(value),
            'b' => self.path = Some(value),
            'E' => self.bstype = Some(value),
            'S' => self.bsopts = Some(value),
            'f' => self.bsoflags = Some(value),
            'y' => self.blocksize = Some(value),
            'T' => self.target = Some(value),
            'I' => self.address = Some(value),
            'Q' => self.initiator = Some(value),
            'u' => self.user = Some(value),
            'p' => self.password = Some(value),
            'P' => self.params = Some(value),
            'Y' => self.device_type = DeviceType::named(&value).ok_or_else(|| wrong_word(INVALID, "target type"))?,
            'B' => {
                let bus = value.split(',').next().unwrap_or_default();
                return Err(wrong(format!("can't find bus: {bus}")));
            }
            'F' => self.force = true,
            'O' => self.outgoing = true,
            'd' => self.debug = true,
            'h' => return Err(Read::Help),
            'V' => return Err(Read::Version),
            _ => {}
        }
        Ok(())
    }

    /// Only options of these letters.
    fn only(&self, letters: &str) -> Result<(), char> {
        match self.letters.iter().find(|letter| !letters.contains(**letter) && **letter != 'd') {
            Some(letter) => Err(*letter),
            None => Ok(()),
        }
    }

    fn only_in(&self, mode: &str, letters: &str) -> Result<(), Read> {
        self.only(letters).map_err(|letter| wrong(format!("{mode} mode: option '-{letter}' is not allowed/supported")))
    }

    fn named_value(&self) -> Result<(String, String), Read> {
        match (&self.name, &self.value) {
            (Some(name), Some(value)) => Ok((name.clone(), value.clone())),
            _ => Err(wrong("update operation requires 'name' and 'value' options")),
        }
    }

    /// A target that was named.
    fn tid(&self) -> u32 {
        self.tid.unwrap_or_default()
    }

    fn unsupported(&self, operation: Operation, mode: &str) -> Read {
        wrong(format!("operation {} not supported in {mode} mode", operation.name()))
    }

    fn request(&mut self, mode: Mode, operation: Operation) -> Result<Request, Read> {
        match mode {
            Mode::System => self.system(operation),
            Mode::Target => self.target(operation),
            Mode::Account => self.account(operation),
            Mode::LogicalUnit => self.logical_unit(operation),
            Mode::Portal => self.portal(operation),
            Mode::Driver => self.driver(operation),
            Mode::Session => Ok(self.session(operation)),
            Mode::Connection => Ok(self.connection(operation)),
        }
    }

    fn system(&self, operation: Operation) -> Result<Request, Read> {
        Ok(match operation {
            Operation::Update => {
                self.only_in("system", "LmonvC")?;
                let (name, value) = self.named_value()?;
                Request::Change(Change::System { name, value })
            }
            Operation::Show => Request::Show(Show::System),
            Operation::Delete => Request::Change(Change::End),
            Operation::Stat => Request::Show(Show::Statistics(Statistics::System)),
            _ => return Err(self.unsupported(operation, "system")),
        })
    }

    fn target(&mut self, operation: Operation) -> Result<Request, Read> {
        match self.tid {
            _ if operation == Operation::Show => {}
            Some(0) => return Err(wrong("'tid' cannot be 0")),
            Some(_) => {}
            None => return Err(wrong("'tid' option is necessary")),
        }
        let tid = self.tid();
        Ok(match operation {
            Operation::New => {
                self.only_in("target", "LmotTC")?;
                let name = self.target.take();
                let name = name.ok_or_else(|| wrong("creating new target requires a name, use --targetname"))?;
                Request::Change(Change::NewTarget { tid, name, driver: self.driver.clone() })
            }
            Operation::Delete => {
                self.only_in("target", "LmotCF")?;
                Request::Change(Change::DeleteTarget { tid, force: self.force })
            }
            Operation::Show => {
                self.only_in("target", "LmotC")?;
                Request::Show(self.tid.map_or(Show::Targets, Show::Target))
            }
            Operation::Stat => {
                self.only_in("target", "LmotC")?;
                Request::Show(Show::Statistics(Statistics::Target(tid)))
            }
            Operation::Bind | Operation::Unbind => {
                self.only_in("target", "LmotIQBHC")?;
                let who = match (self.address.take(), self.initiator.take()) {
                    (Some(address), None) => Who { address: Some(address), initiator: None },
                    (address, Some(initiator)) => Who { address, initiator: Some(initiator) },
                    (None, None) if self.host != 0 => {
                        return Ok(Request::Refused("a host adapter cannot be bound: there is only iSCSI"));
                    }
                    (None, None) => {
                        let operation = operation.name();
                        let line = format!("{operation} operation requires initiator-address, initiator-nameor bus");
                        return Err(wrong(line));
                    }
                };
                Request::Change(match operation {
                    Operation::Bind => Change::Bind { tid, who },
                    _ => Change::Unbind { tid, who },
                })
            }
            Operation::Update => {
                self.only_in("target", "LmotnvC")?;
                let (name, value) = self.named_value()?;
                Request::Change(Change::Target { tid, name, value })
            }
            _ => return Err(self.unsupported(operation, "target")),
        })
    }

    fn account(&mut self, operation: Operation) -> Result<Request, Read> {
        Ok(match operation {
            Operation::New => {
                self.only_in("account", "LmoupfC")?;
                let (Some(user), Some(password)) = (self.user.take(), self.password.take()) else {
                    return Err(wrong("'user' and 'password' options are required"));
                };
                Request::Change(Change::NewAccount { user, password })
            }
            Operation::Show => {
                self.only_in("account", "LmoC")?;
                Request::Show(Show::Accounts)
            }
            Operation::Delete => {
                self.only_in("account", "LmouC")?;
                // tgt takes one that says nobody, and then finds nobody.
                Request::Change(Change::DeleteAccount { user: self.user.take() })
            }
            Operation::Bind | Operation::Unbind => {
                self.only_in("account", "LmotuOC")?;
                let user = self.user.take().ok_or_else(|| wrong("'user' option is necessary"))?;
                let (tid, outgoing) = (self.tid.filter(|tid| *tid != 0), self.outgoing);
                Request::Change(match operation {
                    Operation::Bind => Change::BindAccount { tid, user, outgoing },
                    _ => Change::UnbindAccount { tid, user, outgoing },
                })
            }
            _ => return Err(self.unsupported(operation, "account")),
        })
    }

    fn logical_unit(&mut self, operation: Operation) -> Result<Request, Read> {
        match self.tid {
            Some(0) => return Err(wrong("'tid' must not be 0")),
            Some(_) => {}
            None => return Err(wrong("'tid' option is necessary")),
        }
        let tid = self.tid();
        let lun = self.lun.ok_or_else(|| wrong("'lun' option is necessary"))?;
        Ok(match operation {
            Operation::New => {
                self.only_in("logicalunit", "LmofytlbEYCS")?;
                if self.path.is_none() && self.device_type.needs_store() {
                    return Err(wrong("'backing-store' option is necessary"));
                }
                Request::Change(Change::NewUnit(NewUnit {
                    tid,
                    lun,
                    path: self.path.take(),
                    store: self.bstype.take(),
                    store_options: self.bsopts.take(),
                    open_flags: self.bsoflags.take(),
                    block_size: self.blocksize.take(),
                    device_type: self.device_type,
                }))
            }
            Operation::Delete => {
                self.only_in("logicalunit", "LmotlC")?;
                Request::Change(Change::DeleteUnit { tid, lun })
            }
            Operation::Update => {
                self.only("LmofytlPC")
                    .map_err(|letter| wrong(format!("option '-{letter}' not supported in logicalunit mode")))?;
                let parameters = self.params.take().unwrap_or_default();
                Request::Change(Change::Unit { tid, lun, parameters })
            }
            Operation::Stat => {
                self.only_in("logicalunit", "LmotlC")?;
                Request::Show(Show::Statistics(Statistics::Unit(tid, lun)))
            }
            _ => return Err(self.unsupported(operation, "logicalunit")),
        })
    }

    fn portal(&mut self, operation: Operation) -> Result<Request, Read> {
        Ok(match operation {
            Operation::New | Operation::Delete => {
                self.only_in("portal", "LmoCP")?;
                let portal = self.params.take();
                let portal = portal.ok_or_else(|| wrong("you must specify --param portal=<portal>"))?;
                Request::Change(match operation {
                    Operation::New => Change::NewPortal { portal },
                    _ => Change::DeletePortal { portal },
                })
            }
            Operation::Show => {
                self.only("LmoC")
                    .map_err(|letter| wrong(format!("option '-{letter}' not supported in portal mode")))?;
                Request::Show(Show::Portals)
            }
            _ => return Err(self.unsupported(operation, "portal")),
        })
    }

    fn driver(&self, operation: Operation) -> Result<Request, Read> {
        let request = match operation {
            Operation::Show => Request::Show(Show::Drivers),
            Operation::Start => Request::Change(Change::StartDriver),
            Operation::Stop => Request::Change(Change::StopDriver),
            // Here tgt tells the operation's number.
            _ => {
                let number = Operation::ALL.iter().position(|(_, other)| *other == operation).unwrap_or_default();
                return Err(wrong(format!("option {number} not supported in lld mode")));
            }
        };
        self.only_in("lld", "LmoC").map(|()| request)
    }

    fn session(&self, operation: Operation) -> Request {
        match operation {
            Operation::Show => Request::Show(Show::Session(self.tid(), self.sid)),
            Operation::Stat => Request::Show(Show::Statistics(Statistics::Session(self.tid(), self.sid))),
            _ => Request::Unsupported,
        }
    }

    fn connection(&self, operation: Operation) -> Request {
        let (tid, sid, cid) = (self.tid(), self.sid, self.cid);
        match operation {
            Operation::Show => Request::Show(Show::Connections(tid)),
            Operation::Stat => Request::Show(Show::Statistics(Statistics::Connection(tid, sid, cid))),
            Operation::Delete => Request::Change(Change::CloseConnection { tid, sid, cid }),
            _ => Request::Unsupported,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Read {
        read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn request(line: &str) -> Request {
        match read_line(line) {
            Read::Request { request, .. } => *request,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refused(line: &str) -> (u8, String) {
        match read_line(line) {
            Read::Wrong(code, lines) => (code, lines.into_iter().next().unwrap_or_default()),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_people_type_is_understood() {
        let new = Change::NewTarget { tid: 1, name: "iqn.2014-09.com.example:a".into(), driver: "iscsi".into() };
        let words = "--lld iscsi --op new --mode target --tid 1 -T iqn.2014-09.com.example:a";
        assert_eq!(request(words), Request::Change(new));
        assert_eq!(request("--mode target --op show"), Request::Show(Show::Targets));
        assert_eq!(request("-m tgt -o show -t 7"), Request::Show(Show::Target(7)));
        let delete = |force| Request::Change(Change::DeleteTarget { tid: 1, force });
        assert_eq!(request("-L iscsi --op delete --mode target --tid=1 --force"), delete(true));
        assert_eq!(request("-m target -o delete -F -t 1"), delete(true), "the short form is a flag too");
        let bound = |outgoing| Request::Change(Change::BindAccount { tid: Some(1), user: "a".into(), outgoing });
        assert_eq!(request("--op bind --mode account --tid 1 --user a -O"), bound(true));
        assert_eq!(request("--op bind --mode account --tid 0x1 --user a"), bound(false));
        let parameters = "portal=127.0.0.1:3261".to_owned();
        assert_eq!(
            request("--mode portal --op new --param portal=127.0.0.1:3261"),
            Request::Change(Change::NewPortal { portal: parameters })
        );
    }

    #[test]
    fn each_mistake_has_its_line_and_its_code() {
        for (line, code, said) in [
            ("--mode target", 22, "tgtadm: specify the operation type"),
            ("--op show", 22, "tgtadm: specify the mode"),
            ("--op show --mode cake", 1, "tgtadm: unknown mode: cake"),
            ("--op bake --mode target", 1, "tgtadm: unknown operation: bake"),
            ("--op new --mode target --tid 0 -T a", 22, "tgtadm: 'tid' cannot be 0"),
            ("--op new --mode target -T a", 22, "tgtadm: 'tid' option is necessary"),
            ("--op new --mode lu --tid 1 -b /x", 22, "tgtadm: 'lun' option is necessary"),
            ("--op new --mode lu --tid 1 --lun 1 -Y changer", 22, "tgtadm: 'backing-store' option is necessary"),
            ("--op show --mode target -c 1", 22, "tgtadm: target mode: option '-c' is not allowed/supported"),
            ("--op bind --mode system", 22, "tgtadm: operation bind not supported in system mode"),
            ("--op new --mode account --user a", 22, "tgtadm: 'user' and 'password' options are required"),
            ("--op new --mode portal", 22, "tgtadm: you must specify --param portal=<portal>"),
            ("--op show --mode target extra", 22, "tgtadm: unrecognized option 'extra'"),
            ("--op show --mode target --tid x", 22, "-t argument value 'x' invalid"),
        ] {
            assert_eq!(refused(line), (code, said.to_owned()), "{line}");
        }
        let name = "tgtadm: creating new target requires a name, use --targetname";
        assert_eq!(refused("--op new --mode target --tid 1").1, name);
    }
}
