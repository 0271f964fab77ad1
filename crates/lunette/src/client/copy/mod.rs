//! `lunette copy`: everything of one disk or file to another.

mod digest;
mod disk;
mod engine;
mod file;
mod journal;
mod place;
mod report;
mod reread;

use super::login::{Login, Needed};
use super::{print, size};
use crate::failure::Failure;
use block::Buf;
use clap::Args;
use digest::{Checksum, Running, is_zero};
use disk::Disk;
use engine::{ALIGNMENT, Plan, Progress};
use file::{OpenFile, Standing};
use journal::{Checkpoint, Journal, Subject};
pub use place::Place;
use report::{Report, Talk};
use reread::Reading;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use stores::parse_size;

/// At the start and the end of a disk, so much is looked at before it is taken for blank.
const LOOKED_AT: u64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  lunette copy iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0 disk.img
  lunette copy disk.img iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0 --verify
  lunette copy --resume iscsi://192.0.2.7/iqn.2026-11.com.example:a/0 iscsi://192.0.2.8/iqn.2026-11.com.example:b/0
  lunette copy /dev/vdb vdb.img --json | jq .done

A destination that holds something is not written over without --overwrite, one that is too small never. A copy
that was interrupted goes on with --resume: what it has copied is read again and compared with its journal first.";

/// Arguments of `lunette copy`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// From: iscsi://HOST[:PORT]/TARGET/LUN, a file or a block device
    #[arg(value_name = "SOURCE")]
    source: String,
    /// To: the same; a file that does not exist is made
    #[arg(value_name = "DESTINATION")]
    destination: String,
    /// Write over what the destination holds
    #[arg(long)]
    overwrite: bool,
    /// With --overwrite: a file may become shorter
    #[arg(long, requires = "overwrite")]
    shrink: bool,
    /// Go on with a copy that was interrupted
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Where it is noted how far it is [default: DESTINATION.lunette-copy, or in the user's folder of states]
    #[arg(long, value_name = "PATH")]
    journal: Option<PathBuf>,
    /// Keep no journal
    #[arg(long, conflicts_with_all = ["resume", "journal"])]
    no_journal: bool,
    /// Read the destination again at the end and compare
    #[arg(long)]
    verify: bool,
    /// Which checksum of what was copied is told
    #[arg(long, value_enum, default_value_t = Checksum::Sha256)]
    checksum: Checksum,
    /// Pieces in flight; more of them for a network with long ways
    #[arg(long, value_name = "NUMBER", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// Bytes of a piece, a multiple of 64K
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = parse_size)]
    chunk: u64,
    /// Read and write zeros like everything else
    #[arg(long)]
    no_sparse: bool,
    /// The destination is known to read as zeros
    #[arg(long, conflicts_with = "resume")]
    destination_is_zero: bool,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
    /// JSON: a line each second and one at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// A destination that may be written.
struct Destination {
    place: Place,
    is_zero: bool,
    /// The journal is there and the copy goes on.
    resumes: bool,
    /// The file that was not there before.
    made: Option<PathBuf>,
}

/// Copies.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.chunk == 0 || !arguments.chunk.is_multiple_of(ALIGNMENT) || arguments.chunk > 64 << 20 {
        return Err(Failure::input(format!("--chunk {}: give a multiple of 64K, at most 64M", arguments.chunk)));
    }
    super::run(async {
        let source = open_source(&arguments.login, &arguments.source).await?;
        let result = copy(arguments, &source).await;
        leave(&source).await;
        result
    })
}

/// A source of `lunette copy` and `lunette dump`.
pub async fn open_source(login: &Login, text: &str) -> Result<Place, Failure> {
    match is_address(text) {
        true => Ok(Place::Disk(Disk::open(login, &login.address(text, Needed::Unit)?).await?)),
        false => Ok(Place::File(OpenFile::source(Path::new(text))?)),
    }
}

fn is_address(text: &str) -> bool {
    text.contains("://") || text.starts_with("driver=iscsi")
}

async fn leave(place: &Place) {
    if let Place::Disk(disk) = place {
        disk.leave().await;
    }
}

async fn copy(arguments: &Arguments, source: &Place) -> Result<(), Failure> {
    let is_file = !is_address(&arguments.destination)
        && OpenFile::standing(Path::new(&arguments.destination))? != Standing::Device;
    let journal = match arguments.no_journal {
        true => None,
        false => arguments.journal.clone().or_else(|| journal::default_path(&arguments.destination, is_file)),
    };
    let destination = open_destination(arguments, source, journal.as_deref()).await?;
    let result = between(arguments, source, &destination, journal).await;
    leave(&destination.place).await;
    result
}

async fn open_destination(
    arguments: &Arguments,
    source: &Place,
    journal: Option<&Path>,
) -> Result<Destination, Failure> {
    let name = &arguments.destination;
    let interrupted = journal.is_some_and(Path::exists);
    if arguments.resume && !interrupted {
        let place = journal.map_or_else(String::new, |path| format!(" at {}", path.display()));
        return Err(Failure::input(format!("{name}: there is no journal{place}; there is nothing to go on with")));
    }
    if interrupted && !arguments.resume && !arguments.overwrite {
        let how = "add --resume to go on with it, or --overwrite to begin anew";
        return Err(Failure::input(format!("{name}: a copy to it was interrupted; {how}")));
    }
    let stood = is_address(name) || OpenFile::standing(Path::new(name))? != Standing::Nothing;
    let place = match is_address(name) {
        true => {
            let disk = Disk::open(&arguments.login, &arguments.login.address(name, Needed::Unit)?).await?;
            let place = Place::Disk(disk.clone());
            // Everything that is refused from here on leaves a session behind otherwise.
            let checked = async {
                disk.check_writable().await?;
                check_content(arguments, source, &place).await
            };
            if let Err(failure) = checked.await {
                disk.leave().await;
                return Err(failure);
            }
            place
        }
        false => match open_file(arguments, source, Path::new(name))? {
            (file, true) => {
                let made = (!stood).then(|| PathBuf::from(name));
                return Ok(Destination { place: Place::File(file), is_zero: true, resumes: false, made });
            }
            (file, false) => {
                let place = Place::File(file);
                check_content(arguments, source, &place).await?;
                place
            }
        },
    };
    Ok(Destination { place, is_zero: arguments.destination_is_zero, resumes: arguments.resume, made: None })
}

/// A file or device to be written, and whether it was made anew.
fn open_file(arguments: &Arguments, source: &Place, path: &Path) -> Result<(OpenFile, bool), Failure> {
    let name = path.display();
    let refuse = |why: String| Err(Failure::input(format!("{name}: {why}")));
    let found = OpenFile::standing(path)?;
    if found != Standing::Nothing {
        // Before anything of it is cut off.
        check_other(source, &OpenFile::source(path)?.identity(), &arguments.destination)?;
    }
    match found {
        Standing::Nothing | Standing::File(0) => Ok((OpenFile::create(path, source.bytes())?, true)),
        Standing::File(_) if arguments.resume => Ok((OpenFile::existing(path)?, false)),
        Standing::File(_) if !arguments.overwrite => refuse("it exists; add --overwrite to replace it".into()),
        Standing::File(bytes) if bytes > source.bytes() && !arguments.shrink => {
            refuse(format!("it has {bytes} bytes and would have {}; add --shrink if that is meant", source.bytes()))
        }
        Standing::File(_) => Ok((OpenFile::create(path, source.bytes())?, true)),
        Standing::Device => Ok((OpenFile::existing(path)?, false)),
    }
}

fn check_other(source: &Place, identity: &str, name: &str) -> Result<(), Failure> {
    match source.identity() == identity {
        true => Err(Failure::input(format!("{name}: is the source itself"))),
        false => Ok(()),
    }
}

/// A disk that is written over has room for all, is another than the source, and holds nothing unless that is
/// meant to go.
async fn check_content(arguments: &Arguments, source: &Place, place: &Place) -> Result<(), Failure> {
    let name = &place.name();
    check_other(source, &place.identity(), name)?;
    let (needed, room) = (source.bytes(), place.bytes());
    if room < needed {
        let line = format!("{name}: has {room} bytes and {} has {needed}; it does not fit", source.name());
        return Err(Failure::input(line));
    }
    if arguments.overwrite || arguments.resume || room == 0 {
        return Ok(());
    }
    let mut buffer = Buf::new(LOOKED_AT as usize).ok_or_else(|| Failure::runtime("there is no memory"))?;
    for at in [0, room.saturating_sub(LOOKED_AT) / place.block_length() * place.block_length()] {
        let length = (room - at).min(LOOKED_AT) as usize;
        buffer = place.read(at, buffer, length).await?;
        if !is_zero(buffer.as_slice().get(..length).unwrap_or_default()) {
            let what = if at == 0 { "its start" } else { "its end" };
            return Err(Failure::input(format!("{name}: holds data at {what}; add --overwrite to replace it")));
        }
    }
    Ok(())
}

/// The copy between two ends that are open.
async fn between(
    arguments: &Arguments,
    source: &Place,
    destination: &Destination,
    path: Option<PathBuf>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let place = &destination.place;
    let end = source.bytes();
    let how = Reading { chunk: arguments.chunk, parallel: usize::from(arguments.parallel) };
    let subject = Subject {
        source: source.identity(),
        source_state: match source {
            Place::File(file) => file.modified(),
            Place::Disk(_) => String::new(),
        },
        destination: place.identity(),
        bytes: end,
        checksum: arguments.checksum.name().to_owned(),
    };
    let talk = match (arguments.json, arguments.quiet) {
        (true, _) => Talk::Lines,
        (_, true) => Talk::Nothing,
        _ => Talk::Bar,
    };
    let mut start = 0;
    let mut running = Running::new(arguments.checksum);
    let mut is_zero = destination.is_zero;
    let journal = match (path, destination.resumes) {
        (Some(path), true) => {
            let (journal, points) = Journal::resume(&path, &subject)?;
            let reading = Report::new(talk, end, 0, None);
            let said = points.last().map_or(0, |last| last.bytes);
            (start, running) =
                reread::believed(place, &points, running, how, |at| reading.phase("checking, ", at)).await?;
            drop(reading);
            if start < said {
                eprintln!("lunette: {}: holds other data than the journal says from byte {start} on", place.name());
            }
            if let Place::File(file) = place {
                is_zero = file.cut_and_extend(start, end).await?;
            }
            Some(journal)
        }
        (Some(path), false) => Some(Journal::create(&path, &subject)?),
        (None, _) => None,
    };
    let mut report = Report::new(talk, end, start, journal);
    let plan = Plan {
        source: source.clone(),
        destination: place.clone(),
        start,
        end,
        chunk: arguments.chunk,
        parallel: usize::from(arguments.parallel),
        sparse: !arguments.no_sparse,
        destination_is_zero: is_zero,
        running,
    };
    let work = async {
        let (progress, running) = engine::run(plan, &mut report).await?;
        place.flush().await?;
        if arguments.verify {
            report.phase("verifying, ", 0);
            place.forget_cached().await;
            let all = [Checkpoint { bytes: end, checksum: running.text() }];
            let empty = Running::new(arguments.checksum);
            let (good, _) = reread::believed(place, &all, empty, how, |at| report.phase("verifying, ", at)).await?;
            if good != end {
                return Err(differs(source, place, end, arguments.chunk).await);
            }
        }
        Ok((progress, running))
    };
    let result = tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Err(Failure::runtime("interrupted")),
    };
    match result {
        Ok((progress, running)) => {
            report.finish();
            tell(arguments, source, place, start, progress, &running, begun)
        }
        Err(failure) => match report.keep() {
            true => Err(failure.with("; go on with --resume")),
            false => {
                // Nothing is whole of it: what was made for it goes too.
                if let Some(path) = &destination.made {
                    let _ = std::fs::remove_file(path);
                }
                Err(failure)
            }
        },
    }
}

/// Where the destination is not what was copied.
async fn differs(source: &Place, place: &Place, end: u64, chunk: u64) -> Failure {
    match reread::first_difference(source, place, end, chunk).await {
        Ok(Some(at)) => Failure::runtime(format!("{}: differs from {} at byte {at}", place.name(), source.name())),
        Ok(None) => Failure::runtime(format!("{}: the source changed while it was copied", source.name())),
        Err(failure) => failure,
    }
}

fn tell(
    arguments: &Arguments,
    source: &Place,
    place: &Place,
    start: u64,
    progress: Progress,
    running: &Running,
    begun: Instant,
) -> Result<(), Failure> {
    let seconds = begun.elapsed().as_secs_f64();
    let sum = running.text();
    if arguments.json {
        let value = json!({
            "event": "done",
            "source": source.name(),
            "destination": place.name(),
            "bytes": progress.done,
            "resumed_at": start,
            "written": progress.written,
            "skipped": progress.skipped,
            "seconds": seconds,
            "checksum": { "kind": arguments.checksum.name(), "value": sum },
            "verified": arguments.verify,
            "untouched": place.bytes().saturating_sub(progress.done),
        });
        return print(&format!("{value}\n"));
    }
    let rate = size(((progress.done - start) as f64 / seconds.max(1e-9)) as u64);
    let mut text = format!(
        "{} copied in {seconds:.1} s ({rate}/s): {} written, {} zeros\n",
        size(progress.done - start),
        size(progress.written),
        size(progress.skipped)
    );
    if start > 0 {
        text += &format!("{} were there already\n", size(start));
    }
    text += &format!("{}  {sum}{}\n", arguments.checksum.name(), if arguments.verify { "  verified" } else { "" });
    let untouched = place.bytes().saturating_sub(progress.done);
    if untouched > 0 {
        text += &format!("The last {untouched} bytes of {} are as they were\n", place.name());
    }
    print(&text)
}
