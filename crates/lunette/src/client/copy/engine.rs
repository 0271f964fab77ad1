//! The copy itself: so many pieces in flight, what is zeros left out, and everything taken into the checksum in
//! its order, so that a prefix of the destination is whole at any moment.

use super::digest::{Running, is_zero};
use super::place::{Extent, Place};
use crate::failure::Failure;
use block::Buf;
use std::collections::VecDeque;
use std::ops::Range;
use tokio::task::JoinHandle;

/// Pieces begin and end at multiples of this: no block of any disk is cut.
pub const ALIGNMENT: u64 = 64 << 10;
/// The longest stretch of zeros that is one piece.
const ZERO_BYTES: u64 = 256 << 20;
/// Zeros are looked for in blocks of this, or of the destination's where those are longer.
const GRAIN: usize = 4 << 10;
/// Fewer zeros than this are written like data: leaving them out would be more work than writing them.
const RUN_BYTES: usize = 64 << 10;

/// What is to be done.
pub struct Plan {
    /// From where.
    pub source: Place,
    /// To where.
    pub destination: Place,
    /// Everything below is copied already and is in the checksum.
    pub start: u64,
    /// The end of what is copied.
    pub end: u64,
    /// Bytes of a piece, a multiple of [`ALIGNMENT`].
    pub chunk: u64,
    /// Pieces in flight.
    pub parallel: usize,
    /// Zeros are neither read, where the source says where they are, nor written.
    pub sparse: bool,
    /// The destination reads as zeros where nothing was written.
    pub destination_is_zero: bool,
    /// The checksum up to `start`.
    pub running: Running,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Everything below is copied.
    pub done: u64,
    /// Bytes that were written since it began.
    pub written: u64,
    /// Bytes that were zeros and were not written.
    pub skipped: u64,
}

/// What is told while it runs.
pub trait Watch {
    /// A piece more is whole. The checksum is of everything up to `progress.done`.
    fn piece(&mut self, progress: Progress, running: &Running) -> Result<(), Failure>;
}

enum Piece {
    Zeros(JoinHandle<Result<(), Failure>>),
    /// Its bytes and how many of them were written.
    Data(JoinHandle<Result<(Buf, u64), Failure>>),
}

struct Flight {
    end: u64,
    length: u64,
    piece: Piece,
}

impl Flight {
    fn abort(&self) {
        match &self.piece {
            Piece::Zeros(task) => task.abort(),
            Piece::Data(task) => task.abort(),
        }
    }
}

/// Copies. Gives what it came to and the checksum of all.
pub async fn run(plan: Plan, watch: &mut impl Watch) -> Result<(Progress, Running), Failure> {
    let mut flights = VecDeque::new();
    let result = pieces(plan, &mut flights, watch).await;
    // What is still under way touches nothing once this has returned.
    for flight in &flights {
        flight.abort();
    }
    for flight in flights {
        match flight.piece {
            Piece::Zeros(task) => drop(task.await),
            Piece::Data(task) => drop(task.await),
        }
    }
    result
}

async fn pieces(
    plan: Plan,
    flights: &mut VecDeque<Flight>,
    watch: &mut impl Watch,
) -> Result<(Progress, Running), Failure> {
    let mut cursor = plan.start;
    let mut known = Extent { end: cursor, is_zero: false };
    let mut spare: Vec<Buf> = Vec::new();
    let mut progress = Progress { done: plan.start, ..Progress::default() };
    let mut hashing: Option<JoinHandle<(Running, Option<Buf>)>> = None;
    let mut running = Some(plan.running.clone());
    let mut hashed = progress;
    loop {
        while cursor < plan.end && flights.len() < plan.parallel {
            if cursor >= known.end {
                known = next_extent(&plan, cursor).await?;
            }
            let flight = begin(&plan, cursor, known, &mut spare)?;
            cursor = flight.end;
            flights.push_back(flight);
        }
        let Some(flight) = flights.pop_front() else { break };
        let length = flight.length;
        let buffer = match flight.piece {
            Piece::Zeros(task) => {
                joined(task.await)?;
                progress.skipped += length;
                None
            }
            Piece::Data(task) => {
                let (buffer, written) = joined(task.await)?;
                progress.written += written;
                progress.skipped += length - written;
                Some(buffer)
            }
        };
        progress.done = flight.end;
        if let Some(task) = hashing.take() {
            let (before, buffer) = task.await.map_err(ended)?;
            spare.extend(buffer);
            watch.piece(hashed, &before)?;
            running = Some(before);
        }
        let Some(mut before) = running.take() else { return Err(Failure::runtime("the checksum is lost")) };
        hashed = progress;
        hashing = Some(tokio::task::spawn_blocking(move || {
            match &buffer {
                Some(buffer) => before.update(buffer.as_slice().get(..length as usize).unwrap_or_default()),
                None => before.update_zeros(length),
            }
            (before, buffer)
        }));
    }
    let running = match hashing {
        Some(task) => task.await.map_err(ended)?.0,
        None => plan.running,
    };
    watch.piece(progress, &running)?;
    Ok((progress, running))
}

/// What the source has from here on, in whole units of the alignment: what is partly data is data.
async fn next_extent(plan: &Plan, cursor: u64) -> Result<Extent, Failure> {
    if !plan.sparse {
        return Ok(Extent { end: plan.end, is_zero: false });
    }
    let found = plan.source.extent(cursor).await?;
    let end = found.end.clamp(cursor + 1, plan.end);
    if found.is_zero {
        let whole = if end == plan.end { end } else { end / ALIGNMENT * ALIGNMENT };
        if whole > cursor {
            return Ok(Extent { end: whole, is_zero: true });
        }
    }
    Ok(Extent { end: end.next_multiple_of(ALIGNMENT).min(plan.end), is_zero: false })
}

fn begin(plan: &Plan, cursor: u64, known: Extent, spare: &mut Vec<Buf>) -> Result<Flight, Failure> {
    let destination = plan.destination.clone();
    if known.is_zero {
        let end = known.end.min(cursor.saturating_add(ZERO_BYTES));
        let (length, nothing) = (end - cursor, plan.destination_is_zero);
        let piece = tokio::spawn(async move {
            match nothing {
                true => Ok(()),
                false => destination.zero(cursor, length).await,
            }
        });
        return Ok(Flight { end, length, piece: Piece::Zeros(piece) });
    }
    let end = known.end.min((cursor / plan.chunk + 1) * plan.chunk);
    let length = end - cursor;
    let buffer = match spare.pop() {
        Some(buffer) => buffer,
        None => Buf::new(plan.chunk as usize).ok_or_else(|| Failure::runtime("there is no memory for the copy"))?,
    };
    let grain = GRAIN.max(destination.block_length() as usize);
    let (source, sparse, is_zero) = (plan.source.clone(), plan.sparse, plan.destination_is_zero);
    let piece = tokio::spawn(async move {
        let mut buffer = source.read(cursor, buffer, length as usize).await?;
        let parts = match sparse {
            true => parts(buffer.as_slice().get(..length as usize).unwrap_or_default(), grain),
            false => vec![(0..length as usize, false)],
        };
        let mut written = 0;
        for (part, zeros) in parts {
            let at = cursor + part.start as u64;
            match (zeros, is_zero) {
                (true, true) => {}
                (true, false) => destination.zero(at, part.len() as u64).await?,
                (false, _) => {
                    written += part.len() as u64;
                    buffer = destination.write(at, buffer, part).await?;
                }
            }
        }
        Ok((buffer, written))
    });
    Ok(Flight { end, length, piece: Piece::Data(piece) })
}

/// The stretches of a piece and whether each is zeros, long enough to be left out.
fn parts(bytes: &[u8], length: usize) -> Vec<(Range<usize>, bool)> {
    let mut parts: Vec<(Range<usize>, bool)> = Vec::new();
    for (number, grain) in bytes.chunks(length).enumerate() {
        let start = number * length;
        let zeros = grain.len() == length && is_zero(grain);
        match parts.last_mut() {
            Some((part, same)) if *same == zeros => part.end = start + grain.len(),
            _ => parts.push((start..start + grain.len(), zeros)),
        }
    }
    let mut joined: Vec<(Range<usize>, bool)> = Vec::new();
    for (part, zeros) in parts {
        // An end of zeros may go on in the next piece; in the middle only long ones count.
        let zeros = zeros && part.len() >= RUN_BYTES;
        match joined.last_mut() {
            Some((before, same)) if *same == zeros => before.end = part.end,
            _ => joined.push((part, zeros)),
        }
    }
    joined
}

fn joined<T>(result: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    result.map_err(ended)?
}

fn ended(_: tokio::task::JoinError) -> Failure {
    Failure::runtime("a part of the copy ended early")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::copy::digest::Checksum;
    use crate::client::copy::file::OpenFile;
    use sim::daemon::Folder;
    use std::os::unix::fs::{FileExt, MetadataExt};

    struct Points(Vec<(Progress, String)>);

    impl Watch for Points {
        fn piece(&mut self, progress: Progress, running: &Running) -> Result<(), Failure> {
            self.0.push((progress, running.text()));
            Ok(())
        }
    }

    fn run_plan(plan: Plan, watch: &mut impl Watch) -> Result<(Progress, Running), Failure> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(plan, watch))
    }

    fn plan(source: OpenFile, destination: OpenFile, kind: Checksum) -> Plan {
        Plan {
            start: 0,
            end: source.bytes(),
            source: Place::File(source),
            destination: Place::File(destination),
            chunk: 256 << 10,
            parallel: 3,
            sparse: true,
            destination_is_zero: true,
            running: Running::new(kind),
        }
    }

    /// Data, a hole, zeros that are stored, and an odd end.
    fn sample(folder: &Folder) -> (std::path::PathBuf, Vec<u8>) {
        let path = folder.path().join("source");
        let length = (5 << 20) + 1234;
        let mut bytes = vec![0; length];
        for (at, size) in [(0usize, 300_000usize), (1 << 20, 4096), (3 << 20, 700_001), (length - 1000, 1000)] {
            for (number, byte) in bytes[at..at + size].iter_mut().enumerate() {
                *byte = (number * 7 + at / 3 + 1) as u8 | 1;
            }
        }
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(length as u64).unwrap();
        for (number, chunk) in bytes.chunks(4096).enumerate() {
            // The second mebibyte holds zeros that take space.
            if chunk.iter().any(|byte| *byte != 0) || (256..512).contains(&number) {
                file.write_all_at(chunk, number as u64 * 4096).unwrap();
            }
        }
        (path, bytes)
    }

    fn sum(bytes: &[u8], kind: Checksum) -> String {
        let mut running = Running::new(kind);
        running.update(bytes);
        running.text()
    }

    #[test]
    fn a_copy_is_equal_sparse_and_its_checksum_is_that_of_every_prefix() {
        let folder = Folder::new();
        let (path, bytes) = sample(&folder);
        for kind in [Checksum::Sha256, Checksum::Crc32c] {
            let source = OpenFile::source(&path).unwrap();
            let target = folder.path().join("target");
            let destination = OpenFile::create(&target, source.bytes()).unwrap();
            let mut points = Points(Vec::new());
            let (progress, running) = run_plan(plan(source, destination, kind), &mut points).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), bytes);
            assert_eq!(running.text(), sum(&bytes, kind));
            assert_eq!(progress.written + progress.skipped, bytes.len() as u64);
            assert!(progress.written < 2 << 20, "{progress:?}");
            assert!(std::fs::metadata(&target).unwrap().blocks() * 512 < 3 << 20, "it is sparse");
            for (progress, text) in points.0 {
                assert_eq!(text, sum(&bytes[..progress.done as usize], kind), "{progress:?}");
            }
        }
    }

    #[test]
    fn zeros_are_made_where_the_destination_has_something_else() {
        let folder = Folder::new();
        let (path, bytes) = sample(&folder);
        let target = folder.path().join("target");
        for sparse in [true, false] {
            std::fs::write(&target, vec![0xee; bytes.len() + 5000]).unwrap();
            let source = OpenFile::source(&path).unwrap();
            let destination = OpenFile::existing(&target).unwrap();
            let plan = Plan { sparse, destination_is_zero: false, ..plan(source, destination, Checksum::Crc32c) };
            run_plan(plan, &mut Points(Vec::new())).unwrap();
            let all = std::fs::read(&target).unwrap();
            assert!(all[..bytes.len()] == bytes, "sparse {sparse}");
            assert!(all[bytes.len()..].iter().all(|byte| *byte == 0xee), "what is behind it is as it was");
        }
    }

    #[test]
    fn it_goes_on_from_the_middle_with_the_checksum_of_all() {
        let folder = Folder::new();
        let (path, bytes) = sample(&folder);
        let target = folder.path().join("target");
        std::fs::write(&target, &bytes[..1 << 20]).unwrap();
        std::fs::File::options().write(true).open(&target).unwrap().set_len(bytes.len() as u64).unwrap();
        let mut running = Running::new(Checksum::Sha256);
        running.update(&bytes[..1 << 20]);
        let source = OpenFile::source(&path).unwrap();
        let destination = OpenFile::existing(&target).unwrap();
        let plan = Plan { start: 1 << 20, running, ..plan(source, destination, Checksum::Sha256) };
        let (_, running) = run_plan(plan, &mut Points(Vec::new())).unwrap();
        assert_eq!(running.text(), sum(&bytes, Checksum::Sha256));
        assert!(std::fs::read(&target).unwrap() == bytes);
    }

    #[test]
    fn an_error_of_the_watch_ends_it_and_nothing_is_left_under_way() {
        struct Stop;
        impl Watch for Stop {
            fn piece(&mut self, _: Progress, _: &Running) -> Result<(), Failure> {
                Err(Failure::runtime("stop"))
            }
        }
        let folder = Folder::new();
        let (path, _) = sample(&folder);
        let source = OpenFile::source(&path).unwrap();
        let destination = OpenFile::create(&folder.path().join("target"), source.bytes()).unwrap();
        let error = run_plan(plan(source, destination, Checksum::Crc32c), &mut Stop).unwrap_err();
        assert_eq!(error.to_string(), "stop");
    }

    #[test]
    fn short_runs_of_zeros_are_data() {
        let mut bytes = vec![1; 1 << 20];
        bytes[4096..8192].fill(0);
        bytes[256 << 10..512 << 10].fill(0);
        assert_eq!(
            parts(&bytes, GRAIN),
            [(0..256 << 10, false), (256 << 10..512 << 10, true), (512 << 10..1 << 20, false)]
        );
        assert_eq!(parts(&vec![0; 1 << 20], GRAIN), [(0..1 << 20, true)]);
        assert_eq!(parts(&[0; 100], GRAIN), [(0..100, false)], "less than a block at the end is written");
    }
}
