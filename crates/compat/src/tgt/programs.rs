//! The command lines of tgtd, tgtimg and tgt-setup-lun.

use super::getopt::{Grammar, Item, Long};

/// What tgtd is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tgtd {
    /// To stay with the terminal.
    pub foreground: bool,
    /// The control port.
    pub control_port: u16,
    /// The file that gets the process's number.
    pub pid_file: Option<String>,
    /// To tell more.
    pub debug: bool,
    /// Where to listen; everywhere where nothing is said.
    pub portals: Vec<String>,
    /// Seconds between pings.
    pub nop_interval: Option<u32>,
    /// Pings that may stay unanswered.
    pub nop_count: Option<u32>,
    /// What was said that means nothing here, for a line each.
    pub notes: Vec<String>,
}

/// What comes of reading a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<T> {
    /// This is wanted.
    Wanted(T),
    /// Help.
    Help,
    /// The version.
    Version,
    /// Nothing that could be done: the lines that say so.
    Wrong(Vec<String>),
}

const TGTD: Grammar = Grammar {
    program: "tgtd",
    letters: "fDC:d:t:p:Vh",
    longs: &[
        Long { name: "foreground", argument: false, letter: 'f' },
        Long { name: "nodaemonize", argument: false, letter: 'D' },
        Long { name: "control-port", argument: true, letter: 'C' },
        Long { name: "nr_iothreads", argument: true, letter: 't' },
        Long { name: "pid-file", argument: true, letter: 'p' },
        Long { name: "debug", argument: true, letter: 'd' },
        Long { name: "iscsi", argument: true, letter: 'i' },
        Long { name: "iser", argument: true, letter: 'r' },
        Long { name: "version", argument: false, letter: 'V' },
        Long { name: "help", argument: false, letter: 'h' },
    ],
};

/// The help of tgtd.
pub const TGTD_USAGE: &str = "\
Usage: tgtd [OPTION]
  -f, --foreground          stay in the foreground
  -D, --nodaemonize         the same
  -C, --control-port NNNN   the number behind the control socket's name
  -t, --nr_iothreads NNNN   taken and not needed: how many threads there are is the daemon's own choice
  -p, --pid-file FILE       write the process's number there
  -d, --debug 0|1           tell more
      --iscsi portal=ADDRESS[:PORT][,portal=...][,nop_interval=SECONDS][,nop_count=N]
                            where to listen; 0.0.0.0:3260 and [::]:3260 where nothing is said
  -V, --version
  -h, --help

The control socket is $TGT_IPC_SOCKET.NNNN, or /var/run/tgtd/socket.NNNN. SIGTERM ends the daemon: what is in flight
is finished, and initiators are told.
";

/// Reads tgtd's words.
pub fn tgtd(words: &[String]) -> Read<Tgtd> {
    let (items, rest) = TGTD.read(words);
    let mut wanted = Tgtd::default();
    let number = |letter: char, text: &str| {
        text.parse::<u16>().map_err(|_| vec![format!("-{letter} argument value '{text}' invalid"), TRY_TGTD.to_owned()])
    };
    for item in items {
        let (letter, value) = match item {
            Item::Wrong(line) => return Read::Wrong(vec![line, TRY_TGTD.to_owned()]),
            Item::Option(letter, value) => (letter, value.unwrap_or_default()),
        };
        let read = match letter {
            'f' | 'D' => {
                wanted.foreground = true;
                Ok(())
            }
            'C' => number('C', &value).map(|port| wanted.control_port = port),
            't' => number('t', &value)
                .map(|_| wanted.notes.push("-t: how many threads there are is our own choice".into())),
            'd' => number('d', &value).map(|level| wanted.debug = level > 0),
            'p' => {
                wanted.pid_file = Some(value);
                Ok(())
            }
            'i' => iscsi(&value, &mut wanted).map_err(|line| vec![format!("tgtd: --iscsi {value}: {line}")]),
            'r' => {
                wanted.notes.push("--iser: there is no iSER here, only iSCSI over TCP".into());
                Ok(())
            }
            'V' => return Read::Version,
            _ => return Read::Help,
        };
        if let Err(lines) = read {
            return Read::Wrong(lines);
        }
    }
    match rest.first() {
        Some(extra) => Read::Wrong(vec![format!("tgtd: unrecognized option '{extra}'"), TRY_TGTD.to_owned()]),
        None => Read::Wanted(wanted),
    }
}

const TRY_TGTD: &str = "Try `tgtd --help' for more information.";

fn iscsi(text: &str, wanted: &mut Tgtd) -> Result<(), String> {
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, value) =
            part.split_once('=').ok_or_else(|| format!("'{part}' says nothing; write portal=ADDRESS"))?;
        let number = || value.parse::<u32>().map_err(|_| format!("{name}={value} is no number"));
        match name {
            "portal" => wanted.portals.push(value.to_owned()),
            "nop_interval" => wanted.nop_interval = Some(number()?),
            "nop_count" => wanted.nop_count = Some(number()?),
            _ => return Err(format!("there is no {name}; there are portal, nop_interval and nop_count")),
        }
    }
    Ok(())
}

/// What tgtimg is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tgtimg {
    /// An image that is not there yet.
    New {
        /// Its place.
        file: String,
        /// Its size in bytes.
        size: u64,
        /// Only as much space as is written.
        thin: bool,
        /// What is said when it is there.
        said: &'static str,
    },
    /// What an image is.
    Show {
        /// Its place.
        file: String,
        /// Disk or cd.
        kind: &'static str,
    },
}

const TGTIMG: Grammar = Grammar {
    program: "tgtimg",
    letters: "ho:Y:b:s:t:f:T",
    longs: &[
        Long { name: "help", argument: false, letter: 'h' },
        Long { name: "op", argument: true, letter: 'o' },
        Long { name: "device-type", argument: true, letter: 'Y' },
        Long { name: "barcode", argument: true, letter: 'b' },
        Long { name: "size", argument: true, letter: 's' },
        Long { name: "type", argument: true, letter: 't' },
        Long { name: "file", argument: true, letter: 'f' },
        Long { name: "thin-provisioning", argument: false, letter: 'T' },
    ],
};

/// The help of tgtimg.
pub const TGTIMG_USAGE: &str = "\
Usage: tgtimg [OPTION]
  --op new --device-type disk --type disk --size MB --file PATH [--thin-provisioning]
                            an image of a disk
  --op new --device-type cd --type dvd+r --file PATH
                            an empty image of a DVD
  --op show --device-type disk|cd --file PATH
                            what an image is
  --help

There are no tapes here.
";

/// Reads tgtimg's words.
pub fn tgtimg(words: &[String]) -> Read<Tgtimg> {
    let (items, rest) = TGTIMG.read(words);
    let wrong = |line: String| Read::Wrong(vec![format!("tgtimg: {line}")]);
    let [mut operation, mut device, mut size, mut kind, mut file] = [const { None::<String> }; 5];
    let mut thin = false;
    for item in items {
        let (letter, value) = match item {
            Item::Wrong(line) => return Read::Wrong(vec![line, TRY_TGTIMG.to_owned()]),
            Item::Option(letter, value) => (letter, value.unwrap_or_default()),
        };
        match letter {
            'o' => operation = Some(value),
            'Y' => device = Some(value),
            's' => size = Some(value),
            't' => kind = Some(value.to_lowercase()),
            'f' => file = Some(value),
            'T' => thin = true,
            'h' => return Read::Help,
            _ => {}
        }
    }
    if let Some(extra) = rest.first() {
        return Read::Wrong(vec![format!("tgtimg: unrecognized option '{extra}'"), TRY_TGTIMG.to_owned()]);
    }
    let Some(operation) = operation else { return wrong("specify the operation type".into()) };
    let device = match device.as_deref() {
        Some("disk") => "disk",
        Some("cd") => "cd",
        Some("tape" | "ssc") => return wrong("there are no tapes here; a file is served as a disk or a cd".into()),
        Some(other) => return wrong(format!("unknown target type: {other}")),
        None => return wrong("specify the device type: --device-type disk or cd".into()),
    };
    let Some(file) = file else { return wrong("specify a newly created file".into()) };
    match (operation.as_str(), device, kind.as_deref()) {
        ("show", kind, _) => Read::Wanted(Tgtimg::Show { file, kind }),
        ("new", "cd", Some("dvd+r")) => {
            // An empty medium; whoever burns makes it larger. tgt's own is as empty.
            Read::Wanted(Tgtimg::New { file, size: 0, thin: true, said: "Created blank DVD+R image file : " })
        }
        ("new", "cd", Some(_)) => wrong("Media type must be DVD+R for cd devices".into()),
        ("new", "cd", None) => wrong("Missing media type: DVD+R".into()),
        ("new", _, Some("disk")) => match size.as_deref().map(|size| size.parse::<u64>().ok()) {
            Some(Some(size)) if (1..=1 << 30).contains(&size) => {
                let said = "Created blank DISK image file : ";
                Read::Wanted(Tgtimg::New { file, size: size << 20, thin, said })
            }
            _ => wrong("specify the size in megabytes: --size 1024".into()),
        },
        ("new", _, Some(_)) => wrong("Media type must be DISK for disk devices".into()),
        ("new", _, None) => wrong("Missing media type: DISK".into()),
        _ => wrong("unknown the operation type".into()),
    }
}

const TRY_TGTIMG: &str = "Try `tgtimg --help' for more information.";

/// What tgt-setup-lun is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetupLun {
    /// The store.
    pub device: Option<String>,
    /// The target's name, or the end of it.
    pub name: String,
    /// The kind of store.
    pub store: Option<String>,
    /// Bytes of a block.
    pub block_size: Option<String>,
    /// The driver.
    pub driver: String,
    /// The control port.
    pub control_port: Option<u16>,
    /// Who may log in; everybody where nobody is named.
    pub initiators: Vec<String>,
}

const SETUP_LUN: Grammar = Grammar { program: "tgt-setup-lun", letters: "d:n:b:B:t:hC:", longs: &[] };

/// The help of tgt-setup-lun.
pub const SETUP_LUN_USAGE: &str = "\
usage:
\ttgt-setup-lun -n tgt_name -d dev -b bs_name -B block_size -t transport -C control_port [initiator_IP1 initiator_IP2 ...]
defaults:
\tbacking store: rdwr
\ttransport: iscsi
\tinitiator: ALL
\tcontrol port: 0
examples:
\ttgt-setup-lun -n tgt-1 -d /dev/sdb1 192.168.1.2
\ttgt-setup-lun -n tgt-3 -d ~/disk3.bin -b rdwr 192.168.1.2 192.168.1.3
";

/// Reads tgt-setup-lun's words.
pub fn setup_lun(words: &[String]) -> Read<SetupLun> {
    let (items, rest) = SETUP_LUN.read(words);
    let mut wanted = SetupLun { driver: "iscsi".to_owned(), initiators: rest, ..SetupLun::default() };
    for item in items {
        match item {
            Item::Wrong(line) => return Read::Wrong(vec![line]),
            Item::Option('d', value) => wanted.device = value,
            Item::Option('n', value) => wanted.name = value.unwrap_or_default(),
            Item::Option('b', value) => wanted.store = value,
            Item::Option('B', value) => wanted.block_size = value,
            Item::Option('t', value) => wanted.driver = value.unwrap_or_default(),
            Item::Option('C', value) => match value.as_deref().map(str::parse) {
                Some(Ok(port)) => wanted.control_port = Some(port),
                _ => return Read::Wrong(vec!["Error: the control port is no number".to_owned()]),
            },
            Item::Option(..) => return Read::Help,
        }
    }
    if wanted.device.is_none() && wanted.store.as_deref() != Some("null") {
        return match words.is_empty() {
            true => Read::Help,
            false => Read::Wrong(vec!["Error: a device is mandatory".to_owned()]),
        };
    }
    match wanted.name.is_empty() {
        true => Read::Wrong(vec!["Error: target name is mandatory".to_owned()]),
        false => Read::Wanted(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn tgtd_takes_what_units_and_containers_say() {
        let Read::Wanted(wanted) = tgtd(&words(
            "-f -C 3 -p /run/x.pid -d 1 -t 32 --iscsi portal=192.0.2.7,portal=[::1]:3261,nop_interval=5,nop_count=3",
        )) else {
            panic!()
        };
        assert_eq!(wanted.portals, ["192.0.2.7", "[::1]:3261"]);
        assert_eq!((wanted.nop_interval, wanted.nop_count), (Some(5), Some(3)));
        assert!(wanted.foreground && wanted.debug && wanted.control_port == 3 && wanted.notes.len() == 1);
        assert!(matches!(tgtd(&words("-C x")), Read::Wrong(lines) if lines[0] == "-C argument value 'x' invalid"));
        assert!(matches!(tgtd(&words("--iscsi foo=1")), Read::Wrong(lines) if lines[0].contains("there is no foo")));
    }

    #[test]
    fn tgtimg_makes_disks_and_dvds_and_refuses_tapes_by_name() {
        let made =
            Tgtimg::New { file: "/a".into(), size: 100 << 20, thin: true, said: "Created blank DISK image file : " };
        let line = "--op new --device-type disk --type disk --size 100 --file /a --thin-provisioning";
        assert_eq!(tgtimg(&words(line)), Read::Wanted(made));
        assert!(matches!(tgtimg(&words("--op new --device-type cd --type dvd+r --file /a")), Read::Wanted(_)));
        for (line, said) in [
            (
                "--op new --device-type tape --file /a",
                "tgtimg: there are no tapes here; a file is served as a disk or a cd",
            ),
            ("--device-type disk", "tgtimg: specify the operation type"),
            ("--op new --device-type disk --type data --file /a", "tgtimg: Media type must be DISK for disk devices"),
            ("--op new --device-type disk --type disk --file /a", "tgtimg: specify the size in megabytes: --size 1024"),
        ] {
            assert_eq!(tgtimg(&words(line)), Read::Wrong(vec![said.to_owned()]), "{line}");
        }
    }

    #[test]
    fn tgt_setup_lun_wants_a_device_and_a_name() {
        let Read::Wanted(wanted) = setup_lun(&words("-n tgt-1 -d /dev/sdb1 192.168.1.2 192.168.1.3")) else { panic!() };
        assert_eq!((wanted.name.as_str(), wanted.initiators.len()), ("tgt-1", 2));
        assert_eq!(setup_lun(&words("-n a")), Read::Wrong(vec!["Error: a device is mandatory".into()]));
        assert_eq!(setup_lun(&words("-d /a")), Read::Wrong(vec!["Error: target name is mandatory".into()]));
        assert_eq!(setup_lun(&[]), Read::Help);
    }
}
