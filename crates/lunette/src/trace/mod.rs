//! `lunette trace`: PDUs decoded as they pass, and written for Wireshark.

mod lines;
mod pcapng;
mod pdu;
mod record;
mod tasks;

use crate::control;
use crate::failure::{Cause, Failure};
use clap::Args;
use lines::Lines;
use pcapng::Writer;
use pdu::{Decoded, KINDS};
use record::{Reader, Record, Told};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tasks::Tasks;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer's head, or of one that says why not.
const HEAD_BYTES: u64 = 64 << 10;
/// Ports at which Wireshark expects iSCSI.
const KNOWN_PORTS: [u16; 2] = [3260, 860];
/// Other ports that are told.
const PORTS: usize = 8;

/// Arguments of `lunette trace`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    lunette trace 3                          PDUs of session 3, which `lunette status` lists\n  \
    lunette trace --all --count 20           the next 20 PDUs of anybody, logins included\n  \
    lunette trace --initiator iqn.… -v       every field of what this initiator and we say to each other\n  \
    lunette trace 3 --command write --for 10s  writes with their data and answers, for ten seconds\n  \
    lunette trace 3 --write session.pcapng   for Wireshark, payload included\n  \
    lunette trace --all --write - | wireshark -k -i -\n\n\
    Exit codes: 0 it ended as asked, 1 it failed while running, 2 wrong arguments, 3 no daemon answers, 5 there is \
    no such session, 6 too many traces run.")]
pub struct Arguments {
    /// The session's number, as `lunette status` shows it; it ends with the session
    #[arg(value_name = "SESSION", required_unless_present_any = ["all", "initiator", "target"])]
    session: Option<u16>,
    /// Sessions, discovery and logins of the initiator with this name
    #[arg(long, value_name = "NAME", conflicts_with = "session")]
    initiator: Option<String>,
    /// Sessions and logins at the target of this name
    #[arg(long, value_name = "NAME", conflicts_with = "session")]
    target: Option<String>,
    /// All sessions, discovery and logins
    #[arg(long, conflicts_with_all = ["session", "initiator", "target"])]
    all: bool,
    /// Only commands for this LUN, with their data and answers
    #[arg(long, value_name = "NUMBER")]
    lun: Option<u16>,
    /// Only PDUs of these kinds, with commas between: scsi-command, data-in, r2t, nop-out, … or numbers as 01h
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    opcode: Vec<String>,
    /// Only SCSI commands whose names begin so, with their data and answers: read, `write(16)`, inquiry, …
    #[arg(long, value_name = "NAME")]
    command: Option<String>,
    /// End after so many PDUs
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// End after this time: 10s, 5m, 500ms
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,
    /// Every field by its name
    #[arg(long, short)]
    verbose: bool,
    /// A JSON object for each PDU, a line each
    #[arg(long, conflicts_with = "verbose")]
    json: bool,
    /// Write a pcapng file, which Wireshark opens; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "verbose"])]
    write: Option<PathBuf>,
    /// Bytes of each data segment that are kept [default: all with --write, else none; shown with --verbose]
    #[arg(long, value_name = "BYTES")]
    snap: Option<usize>,
    /// Show CHAP responses as well, which can be tried against guessed secrets
    #[arg(long)]
    secrets: bool,
    /// Colours: auto, always, never
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"])]
    color: String,
    /// The daemon's socket [default: where `lunette serve` puts it]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// The --state-dir of the daemon, where its socket is in it
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    state_dir: Option<PathBuf>,
}

/// A time with its unit.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| "is not a time; say 10s, 5m or 500ms".to_owned())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" | "" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err("has an unknown unit; there are ms, s, m, h".to_owned()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| "is too long".to_owned())
}

/// The numbers of the kinds that are asked for; none where all are.
fn opcodes(words: &[String]) -> Result<Vec<u8>, Failure> {
    let one = |word: &String| {
        let named = KINDS.iter().find(|(.., name)| word.eq_ignore_ascii_case(name)).map(|(opcode, ..)| *opcode as u8);
        let digits = word.strip_suffix(['h', 'H']).or_else(|| word.strip_prefix("0x"));
        let number = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|number| *number < 64);
        named.or(number).ok_or_else(|| {
            let all: Vec<_> = KINDS.iter().map(|(.., name)| *name).collect();
            Failure::input(format!(
                "--opcode {word}: is no kind of PDU; there are {}, and numbers as 01h",
                all.join(", ")
            ))
        })
    };
    words.iter().map(one).collect()
}

/// Follows until it ends as was asked, or by a signal.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let opcodes = opcodes(&arguments.opcode)?;
    let path = control::path(arguments.control.as_deref(), arguments.state_dir.as_deref())
        .ok_or_else(|| Failure::input("where the daemon's socket is, is not known; name it with --control PATH"))?;
    let query = query(arguments, &opcodes);
    // The file before the daemon is asked: what cannot be written need not be watched.
    let mut show = Show::new(arguments, opcodes)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::runtime)?;
    runtime.block_on(follow(arguments, &path, &query, &mut show))?;
    show.end()
}

/// What is asked of the daemon. Filters that need to know the command of an answer are ours.
fn query(arguments: &Arguments, opcodes: &[u8]) -> String {
    let mut query = Vec::new();
    let escaped = |name: &str| name.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    if let Some(session) = arguments.session {
        query.push(format!("session={session}"));
    }
    for (key, name) in [("initiator", &arguments.initiator), ("target", &arguments.target)] {
        if let Some(name) = name {
            query.push(format!("{key}={}", escaped(name)));
        }
    }
    if !opcodes.is_empty() && arguments.lun.is_none() && arguments.command.is_none() {
        let numbers: Vec<_> = opcodes.iter().map(u8::to_string).collect();
        query.push(format!("opcodes={}", numbers.join(",")));
    }
    let snap = arguments.snap.unwrap_or(if arguments.write.is_some() { usize::MAX } else { 0 });
    query.push(format!("data={snap}"));
    query.push(format!("secrets={}", arguments.secrets));
    query.join("&")
}

/// What comes of the PDUs.
struct Show {
    out: Out,
    tasks: Tasks,
    opcodes: Vec<u8>,
    lun: Option<u16>,
    command: Option<String>,
    /// PDUs that may still come.
    left: Option<u64>,
    shown: u64,
    missed: u64,
    /// The target's ports, where they are not those that Wireshark knows.
    ports: BTreeSet<u16>,
}

enum Out {
    Lines(Lines),
    File(Writer<BufWriter<Box<dyn Write>>>),
}

/// The reader has gone: no failure.
fn written(result: std::io::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::runtime(format!("what was traced cannot be written: {error}"))),
    }
}

impl Show {
    fn new(arguments: &Arguments, opcodes: Vec<u8>) -> Result<Show, Failure> {
        let out = match &arguments.write {
            Some(path) => {
                let failed = |error| Failure::input(format!("--write {}: {error}", path.display()));
                let to: Box<dyn Write> = match path.as_os_str() == "-" {
                    true if std::io::stdout().is_terminal() => {
                        return Err(Failure::input(
                            "--write -: standard output is a terminal; pipe it: lunette trace … --write - | wireshark -k -i -",
                        ));
                    }
                    true => Box::new(std::io::stdout()),
                    false => Box::new(File::create(path).map_err(failed)?),
                };
                Out::File(Writer::new(BufWriter::new(to)).map_err(failed)?)
            }
            None => {
                let colour = match arguments.color.as_str() {
                    "always" => true,
                    "never" => false,
                    _ => {
                        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
                    }
                };
                Out::Lines(Lines::new(arguments.json, arguments.verbose, colour))
            }
        };
        Ok(Show {
            out,
            tasks: Tasks::default(),
            opcodes,
            lun: arguments.lun,
            command: arguments.command.clone(),
            left: arguments.count,
            shown: 0,
            missed: 0,
            ports: BTreeSet::new(),
        })
    }

    /// Whether a PDU is asked for, by what is known of its task.
    fn wants(&self, decoded: &Decoded<'_>, task: Option<&tasks::Task>) -> bool {
        let opcode = |opcode: iscsi::wire::Opcode| self.opcodes.contains(&(opcode as u8));
        if !self.opcodes.is_empty() && !decoded.opcode.is_some_and(opcode) {
            return false;
        }
        let lun = task.and_then(|task| task.lun.clone()).or_else(|| decoded.lun.map(pdu::lun_words));
        if self.lun.is_some_and(|wanted| lun != Some(wanted.to_string())) {
            return false;
        }
        let begins = |name: &str| {
            let starts =
                |wanted: &String| name.get(..wanted.len()).is_some_and(|start| start.eq_ignore_ascii_case(wanted));
            self.command.as_ref().is_none_or(starts)
        };
        self.command.is_none() || task.is_some_and(|task| begins(&task.name))
    }

    /// One PDU; `false` where no more are wanted.
    fn pdu(&mut self, record: &Record) -> Result<bool, Failure> {
        let Some(decoded) = Decoded::of(record) else { return Ok(true) };
        let task = self.tasks.follow(record, &decoded);
        if !self.wants(&decoded, task.as_ref()) {
            return Ok(true);
        }
        let result = match &mut self.out {
            Out::Lines(lines) => lines.pdu(record, &decoded, task.as_ref()),
            Out::File(writer) => {
                let port = record.connection.local.port();
                if !KNOWN_PORTS.contains(&port) && self.ports.len() < PORTS {
                    self.ports.insert(port);
                }
                writer.write(record)
            }
        };
        self.shown += 1;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        Ok(written(result)? && self.left != Some(0))
    }

    fn missed(&mut self, pdus: u64) -> Result<bool, Failure> {
        self.missed += pdus;
        match &mut self.out {
            Out::Lines(lines) => written(lines.missed(pdus)),
            Out::File(_) => Ok(true),
        }
    }

    fn flush(&mut self) -> Result<bool, Failure> {
        written(match &mut self.out {
            Out::Lines(lines) => lines.flush(),
            Out::File(writer) => writer.flush(),
        })
    }

    /// The last words, to whoever watches the command itself.
    fn end(mut self) -> Result<(), Failure> {
        self.flush()?;
        if matches!(self.out, Out::File(_)) || self.missed > 0 {
            let missed = match self.missed {
                0 => String::new(),
                missed => format!(", {missed} more found no room and were not told; ask for less (--opcode, --snap)"),
            };
            eprintln!("{} PDUs{missed}", self.shown);
            for port in self.ports {
                eprintln!("port {port} is not known as iSCSI's: wireshark -d tcp.port=={port},iscsi");
            }
        }
        Ok(())
    }
}

async fn follow(arguments: &Arguments, path: &Path, query: &str, show: &mut Show) -> Result<(), Failure> {
    let signals = |kind| signal(kind).map_err(Failure::runtime);
    let (mut interrupt, mut terminate) = (signals(SignalKind::interrupt())?, signals(SignalKind::terminate())?);
    let mut lines = tokio::time::timeout(PATIENCE, open(path, query))
        .await
        .unwrap_or_else(|_| Err(Failure::because(Cause::TimedOut, format!("{}: no answer in time", path.display()))))?
        .lines();
    let mut reader = Reader::default();
    let end = async {
        match arguments.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        // Whoever looks on sees a line as soon as nothing more is there to be read.
        if lines.get_ref().buffer().is_empty() && !show.flush()? {
            return Ok(());
        }
        let line = tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = &mut end => return Ok(()),
            line = lines.next_line() => line,
        };
        let Ok(Some(line)) = line else {
            // A session that has ended, or a daemon.
            if arguments.session.is_none() {
                eprintln!("lunette: the daemon has ended the trace");
            }
            return Ok(());
        };
        let told = reader.read(&line).map_err(|why| Failure::runtime(format!("{}: {why}", path.display())))?;
        let goes_on = match told {
            Told::Start(connections) => {
                // Whoever starts this in a script has to know when it has begun.
                match connections {
                    0 => eprintln!("watching: nobody is logged in now; logins and what follows them are shown"),
                    1 => eprintln!("watching 1 connection"),
                    many => eprintln!("watching {many} connections"),
                }
                true
            }
            Told::Pdu(record) => show.pdu(&record)?,
            Told::Missed(pdus) => show.missed(pdus)?,
            Told::Nothing => true,
        };
        if !goes_on {
            return Ok(());
        }
    }
}

/// Asks; what comes back stands before the first line. HTTP/1.0, so that the answer is plain and ends with the
/// connection.
async fn open(path: &Path, query: &str) -> Result<BufReader<UnixStream>, Failure> {
    let failed = |why: &str| Failure::runtime(format!("{}: {why}", path.display()));
    let mut stream = UnixStream::connect(path).await.map_err(|error| control::nobody(path, &error))?;
    let request = format!("GET /v1/trace?{query} HTTP/1.0\r\nHost: lunette\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| failed(&error.to_string()))?;
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let mut head = String::new();
    loop {
        let before = head.len();
        let read = (&mut reader).take(HEAD_BYTES).read_line(&mut head).await;
        read.map_err(|error| failed(&error.to_string()))?;
        if head.len() == before || head.len() as u64 > HEAD_BYTES {
            return Err(failed("it closed without an answer"));
        }
        if head[before..].trim().is_empty() {
            break;
        }
    }
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(reader);
    }
    let mut body = Vec::new();
    let _ = reader.take(HEAD_BYTES).read_to_end(&mut body).await;
    let why = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
    let why = match (why["message"].as_str(), why["help"].as_str()) {
        (None, _) => format!("status {status}"),
        (Some(message), None | Some("")) => message.to_owned(),
        (Some(message), Some(help)) => format!("{message}; {help}"),
    };
    Err(match status {
        "404" => Failure::because(Cause::NotFound, why),
        "409" | "503" => Failure::because(Cause::InUse, why),
        "400" => Failure::input(why),
        _ => failed(&why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_kinds_are_read_and_others_refused_with_what_there_is() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("1.5m"), Ok(Duration::from_secs(90)));
        assert!(time("soon").is_err() && time("5 parsecs").is_err() && time("-1s").is_err());
        let read = |words: &[&str]| opcodes(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&["SCSI-Command", "31h", "0x3f"]), Ok(vec![1, 0x31, 0x3f]));
        let Err(Failure::Input(line)) = read(&["read"]) else { panic!("it was taken") };
        assert!(line.contains("scsi-command") && line.contains("--opcode read"), "{line}");
    }
}
