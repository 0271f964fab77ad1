//! A PDU as a line for people, or as a JSON object for programs.

use super::pdu::{self, Decoded, hex, shown};
use super::record::{Record, Side};
use super::tasks::Task;
use crate::control::timestamp;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufWriter, Stdout, Write};
use std::time::{Duration, UNIX_EPOCH};

/// Writes them to standard output.
pub struct Lines {
    out: BufWriter<Stdout>,
    style: Style,
}

/// How they look.
#[derive(Debug, Clone, Copy)]
struct Style {
    json: bool,
    verbose: bool,
    colour: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const CYAN: &str = "36";
const GREEN: &str = "32";

impl Lines {
    /// Lines of this kind.
    pub fn new(json: bool, verbose: bool, colour: bool) -> Lines {
        Lines { out: BufWriter::new(std::io::stdout()), style: Style { json, verbose, colour } }
    }

    /// One PDU.
    pub fn pdu(&mut self, record: &Record, decoded: &Decoded<'_>, task: Option<&Task>) -> std::io::Result<()> {
        let text = match self.style.json {
            true => format!("{}\n", json_line(record, decoded, task)),
            false => self.style.line(record, decoded, task),
        };
        self.out.write_all(text.as_bytes())
    }

    /// So many were not told.
    pub fn missed(&mut self, pdus: u64) -> std::io::Result<()> {
        let text = match self.style.json {
            true => format!("{}\n", json!({ "missed": pdus })),
            false => format!("{}\n", self.style.paint(RED, &format!("… {pdus} PDUs were not told: there was no room"))),
        };
        self.out.write_all(text.as_bytes())
    }

    /// What was written is seen.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Who speaks where: session and connection, or the address of one who logs in.
fn place(record: &Record) -> String {
    let connection = &record.connection;
    match (connection.session, connection.cid) {
        (Some(session), Some(cid)) => format!("{session}.{cid}"),
        _ => connection.peer.to_string(),
    }
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(self, record: &Record, decoded: &Decoded<'_>, task: Option<&Task>) -> String {
        let (arrow, direction) = match record.side {
            Side::Initiator => (">", CYAN),
            Side::Target => ("<", GREEN),
        };
        let time = clock(record.time_us);
        let name =
            if decoded.bad { self.paint(RED, &pad(&decoded.name)) } else { self.paint(BOLD, &pad(&decoded.name)) };
        let mut words = String::new();
        let lun = decoded.lun.map(pdu::lun_words).or_else(|| task.and_then(|task| task.lun.clone()));
        if let Some(lun) = lun.filter(|_| decoded.cdb.is_some()) {
            let _ = write!(words, "LUN {lun} ");
        }
        words += &decoded.words;
        if let Some(task) = task.filter(|_| record.side == Side::Target) {
            let _ = write!(words, " · {}", task.name);
            if let Some(took) = task.took_us {
                let _ = write!(words, " in {}", microseconds(took));
            }
        }
        let words = if decoded.bad { self.paint(RED, &words) } else { words };
        let numbers: Vec<_> = decoded.numbers.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let tag = match decoded.tag {
            u32::MAX => String::new(),
            tag => format!("ITT {tag:08X} "),
        };
        let numbers = self.paint(DIM, &format!("[{tag}{}]", numbers.join(" ")));
        let place = place(record);
        let arrow = self.paint(direction, arrow);
        let mut line = format!("{} {place:<5} {arrow} {name} {words}  {numbers}\n", self.paint(DIM, &time));
        if self.verbose {
            for (name, value) in &decoded.fields {
                let _ = writeln!(line, "      {name:<28}  {}", shown(name, value));
            }
            for (key, value) in &decoded.text {
                let _ = writeln!(line, "      {key}={value}");
            }
            if decoded.text.is_empty() {
                dump(&mut line, decoded.data);
            }
        }
        line
    }
}

fn pad(name: &str) -> String {
    format!("{name:<18}")
}

/// Bytes as lines of sixteen.
fn dump(out: &mut String, bytes: &[u8]) {
    for (row, line) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            line.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
        let _ = writeln!(out, "      {:06x}  {:<47}  {text}", row * 16, digits.join(" "));
    }
}

/// The time of day, in UTC, to the microsecond.
fn clock(time_us: u64) -> String {
    let seconds = time_us / 1_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, time_us % 1_000_000)
}

fn microseconds(time: u64) -> String {
    match time {
        0..1000 => format!("{time} µs"),
        1000..1_000_000 => format!("{:.2} ms", time as f64 / 1e3),
        _ => format!("{:.2} s", time as f64 / 1e6),
    }
}

fn json_line(record: &Record, decoded: &Decoded<'_>, task: Option<&Task>) -> Value {
    let connection = &record.connection;
    let second = timestamp(UNIX_EPOCH + Duration::from_micros(record.time_us));
    let mut all = pdu::json(decoded);
    all["time"] = format!("{}.{:06}Z", second.trim_end_matches('Z'), record.time_us % 1_000_000).into();
    all["from"] = if record.side == Side::Initiator { "initiator" } else { "target" }.into();
    all["session"] = connection.session.into();
    all["connection"] = connection.cid.into();
    all["phase"] = if connection.login { "login" } else { "full feature" }.into();
    all["initiator"] = connection.initiator.clone().into();
    all["target"] = connection.target.clone().into();
    all["peer"] = connection.peer.to_string().into();
    all["length"] = record.length.into();
    if decoded.text.is_empty() && !decoded.data.is_empty() {
        all["data"] = hex(decoded.data).into();
    }
    if let Some(task) = task.filter(|_| record.side == Side::Target) {
        all["task"] = json!({ "name": task.name, "lun": task.lun, "took_us": task.took_us });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::record::Connection;
    use super::super::tasks::Tasks;
    use super::*;
    use iscsi::wire::{LoginRequest, Pdu, ScsiCommand, ScsiResponse};
    use std::rc::Rc;

    fn record(side: Side, time_us: u64, mut header: impl Pdu, data: &[u8]) -> Record {
        header.set_data_segment_bytes(data.len() as u32);
        let mut bytes = [header.as_bytes(), data].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let connection = Connection {
            number: 1,
            login: false,
            initiator: Some("iqn.a".into()),
            target: Some("iqn.b".into()),
            session: Some(3),
            cid: Some(0),
            peer: "192.0.2.1:40000".parse().unwrap(),
            local: "192.0.2.2:3260".parse().unwrap(),
            header_digest: false,
            data_digest: false,
        };
        let connection = Rc::new(connection);
        let length = bytes.len() as u32;
        Record { time_us, connection, side, offset: 0, length, bytes, header_digest: false, data_digest: false }
    }

    fn exchange() -> [Record; 3] {
        let mut command = ScsiCommand::empty();
        command.flags = 0xa1;
        command.lun[1] = 2;
        command.initiator_task_tag = 0x1a.into();
        command.expected_data_transfer_length = 4096.into();
        command.cmd_sn = 7.into();
        command.cdb[..10].copy_from_slice(&[0x2a, 0x08, 0, 0, 0, 8, 0, 0, 8, 0]);
        let mut response = ScsiResponse::empty();
        (response.flags, response.status) = (0x80, 2);
        response.initiator_task_tag = 0x1a.into();
        response.stat_sn = 9.into();
        let mut sense = vec![0, 18];
        sense.extend([0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0]);
        let mut login = LoginRequest::empty();
        login.flags = 0x81;
        [
            record(Side::Initiator, 1_000_000, command, b""),
            record(Side::Target, 1_000_250, response, &sense),
            record(Side::Initiator, 86_399_999_999, login, b"InitiatorName=iqn.a\0AuthMethod=CHAP,None\0"),
        ]
    }

    #[test]
    fn pdus_are_told_in_words_a_line_each() {
        let style = Style { json: false, verbose: false, colour: false };
        let mut tasks = Tasks::default();
        let mut lines = String::new();
        for record in &exchange() {
            let decoded = Decoded::of(record).unwrap();
            let task = tasks.follow(record, &decoded);
            lines += &style.line(record, &decoded, task.as_ref());
        }
        assert_eq!(
            lines,
            "\
00:00:01.000000 3.0   > SCSI Command       LUN 2 WRITE(10) LBA 8, 8 blocks, FUA; 4096 bytes out  [ITT 0000001A CmdSN 7 ExpStatSN 0]
00:00:01.000250 3.0   < SCSI Response      CHECK CONDITION: ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE · WRITE(10) in 250 µs  [ITT 0000001A StatSN 9 ExpCmdSN 0 MaxCmdSN 0]
23:59:59.999999 3.0   > Login Request      security → operational InitiatorName=iqn.a AuthMethod=CHAP,None  [ITT 00000000 CmdSN 0 ExpStatSN 0]
"
        );
    }

    #[test]
    fn every_field_has_the_name_that_the_standard_gives_it() {
        let [command, response, _] = exchange();
        let fields = |record: &Record| {
            let style = Style { json: false, verbose: true, colour: false };
            style.line(record, &Decoded::of(record).unwrap(), None)
        };
        let (command, response) = (fields(&command), fields(&response));
        for line in [
            "Expected Data Transfer Length  4096",
            "Initiator Task Tag            0000001Ah",
            "Attribute                     simple",
        ] {
            assert!(command.lines().any(|shown| shown.trim_start() == line), "{line}\n{command}");
        }
        assert!(response.contains("Additional Sense              21h/00h LOGICAL BLOCK"), "{response}");
    }

    #[test]
    fn programs_get_an_object_with_the_same_names() {
        let [command, response, login] = exchange();
        let mut tasks = Tasks::default();
        let mut told = |record: &Record| {
            let decoded = Decoded::of(record).unwrap();
            let task = tasks.follow(record, &decoded);
            json_line(record, &decoded, task.as_ref())
        };
        let (command, response, login) = (told(&command), told(&response), told(&login));
        assert_eq!(command["time"], "1970-01-01T00:00:01.000000Z");
        assert_eq!(command["fields"]["expected_data_transfer_length"], 4096);
        assert_eq!(command["command"]["lba"], 8);
        assert_eq!(response["task"], json!({ "name": "WRITE(10)", "lun": "2", "took_us": 250 }));
        assert_eq!(login["text"], json!([["InitiatorName", "iqn.a"], ["AuthMethod", "CHAP,None"]]));
    }

    #[test]
    fn any_bytes_are_told_without_a_panic() {
        let [mut command, ..] = exchange();
        let mut random = 1u32;
        for length in 0..200 {
            for opcode in 0..64 {
                command.bytes = (0..length)
                    .map(|_| {
                        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (random >> 24) as u8
                    })
                    .collect();
                if let Some(first) = command.bytes.first_mut() {
                    *first = opcode;
                }
                command.header_digest = random & 1 == 0;
                command.data_digest = random & 2 == 0;
                command.length = length;
                let style = Style { json: false, verbose: true, colour: true };
                if let Some(decoded) = Decoded::of(&command) {
                    assert!(!style.line(&command, &decoded, None).is_empty());
                }
            }
        }
    }
}
