//! Sessions captured on the loopback interface, which tshark has to decode without a complaint.

use super::Outcome;
use super::served::{self, Served, command, succeeds};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The tests whose traffic is captured: logins, data both ways in all sizes, task management. None that
/// asks for a part of an answer: the dissector takes what was cut off as asked for a malformed packet.
const TRAFFIC: &[&str] = &[
    "SCSI.Inquiry",
    "SCSI.ModeSense6",
    "SCSI.ReadCapacity16.Simple",
    "SCSI.Read10",
    "SCSI.Write10",
    "SCSI.CompareAndWrite",
    "iSCSI.iSCSIResiduals",
    "iSCSI.iSCSITMF",
];

pub fn run(root: &Path, outcome: &mut Outcome) {
    if let Err(why) = try_run(root, outcome) {
        outcome.count("set-up", Err(why));
    }
}

fn try_run(root: &Path, outcome: &mut Outcome) -> Result<(), String> {
    let binary = served::build(root)?;
    let served = Served::start(&binary, "tshark", &["ram:64M"], &["--listen", "127.0.0.1:0"])?;
    let capture = served.folder.join("session.pcapng");
    let port = served.portals[0].rsplit(':').next().unwrap_or_default().to_owned();
    let mut capturing = Command::new("tshark")
        .args(["-q", "-i", "lo", "-f", &format!("tcp port {port}"), "-w"])
        .arg(&capture)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let bytes = || std::fs::metadata(&capture).map_or(0, |found| found.len());
    // Its file is there before it listens; a first packet in it shows that it does.
    let end = Instant::now() + Duration::from_secs(20);
    let empty = loop {
        let _ = command(10, "iscsi-ls", &[&format!("iscsi://{}", served.portals[0])]);
        std::thread::sleep(Duration::from_millis(200));
        if bytes() > 1000 {
            break false;
        }
        if Instant::now() > end || capturing.try_wait().is_ok_and(|ended| ended.is_some()) {
            break true;
        }
    };
    if empty {
        let _ = capturing.kill();
        outcome.notes.push("not run: tshark may not capture on lo here; it needs root or CAP_NET_RAW".into());
        return Ok(());
    }
    let traces =
        [Trace::start(&binary, &served, "whole", &[])?, Trace::start(&binary, &served, "cut", &["--snap", "16"])?];
    for test in TRAFFIC {
        let _ = command(60, "iscsi-test-cu", &["--dataloss", &format!("--test={test}"), &served.url(1)]);
    }
    std::thread::sleep(Duration::from_millis(500));
    let _ = Command::new("kill").args(["-INT", &capturing.id().to_string()]).status();
    let _ = capturing.wait();
    let path = capture.display().to_string();
    let as_iscsi = format!("tcp.port=={port},iscsi");
    let decode = |filter: &str| succeeds(120, "tshark", &["-r", &path, "-d", &as_iscsi, "-Y", filter]);
    let answers =
        decode(&format!("iscsi && tcp.srcport == {port}"))?.lines().filter(|line| line.contains("iSCSI")).count();
    outcome.count(
        "there is something to decode",
        match answers {
            500.. => Ok(()),
            few => Err(format!("only {few} packets")),
        },
    );
    let wrong = decode(&format!("tcp.srcport == {port} && iscsi && (_ws.malformed || _ws.unreassembled)"))?;
    let first = wrong.lines().find(|line| line.contains("iSCSI")).map(str::to_owned);
    outcome.count("no packet of the target is malformed", first.map_or(Ok(()), Err));
    println!("  {answers} packets of the target decoded");
    for trace in traces {
        let name = trace.name;
        let written = trace.stop().and_then(|file| traced(&file, &as_iscsi));
        outcome.count(&format!("what `lunette trace --write` wrote decodes, {name}"), written);
    }
    Ok(())
}

/// Our own capture, while it runs.
struct Trace {
    name: &'static str,
    child: Child,
    file: PathBuf,
}

impl Trace {
    fn start(binary: &Path, served: &Served, name: &'static str, arguments: &[&str]) -> Result<Trace, String> {
        let file = served.folder.join(format!("{name}.pcapng"));
        let mut child = Command::new(binary)
            .args(["trace", "--all", "--state-dir", "state", "--write"])
            .arg(&file)
            .args(arguments)
            .current_dir(&served.folder)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        // It says when it watches.
        let mut said = String::new();
        if let Some(errors) = &mut child.stderr {
            let _ = BufReader::new(errors).read_line(&mut said);
        }
        match said.starts_with("watching") {
            true => Ok(Trace { name, child, file }),
            false => Err(format!("lunette trace: {said}")),
        }
    }

    fn stop(mut self) -> Result<PathBuf, String> {
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(self.file) } else { Err(format!("lunette trace ended with {status}")) }
    }
}

/// Decodes a file of ours: iSCSI both ways, nothing malformed, no sequence number wrong that is not a hole, sums right.
fn traced(file: &Path, as_iscsi: &str) -> Result<(), String> {
    let path = file.display().to_string();
    let decode = |filter: &str| {
        let sums = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"];
        let all: Vec<&str> = ["-r", &path, "-d", as_iscsi, "-Y", filter].into_iter().chain(sums).collect();
        succeeds(120, "tshark", &all)
    };
    let count = |text: &str| text.lines().filter(|line| line.contains("iSCSI") || line.contains("TCP")).count();
    for opcode in ["0x01", "0x03", "0x21", "0x23", "0x25"] {
        if count(&decode(&format!("iscsi.opcode == {opcode}"))?) == 0 {
            return Err(format!("there is no PDU with opcode {opcode}"));
        }
    }
    let wrong = "_ws.malformed || tcp.analysis.retransmission || tcp.analysis.out_of_order || ip.checksum.status == 0";
    let wrong = decode(wrong)?;
    match wrong.lines().find(|line| line.contains("iSCSI") || line.contains("TCP")) {
        Some(line) => Err(line.to_owned()),
        None => Ok(()),
    }
}
