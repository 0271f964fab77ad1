//! Reading an end again, in its order, to know what is really there.

use super::digest::Running;
use super::journal::Checkpoint;
use super::place::Place;
use crate::failure::Failure;
use block::Buf;
use std::collections::VecDeque;
use tokio::task::JoinHandle;

/// How an end is read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Bytes at a time.
    pub chunk: u64,
    /// Reads in flight.
    pub parallel: usize,
}

enum Piece {
    Zeros,
    Data(JoinHandle<Result<Buf, Failure>>),
}

/// Reads from the start up to the last of these points, and gives the last one before which all was as its
/// checksum says, with the checksum there. Points are ascending.
pub async fn believed(
    place: &Place,
    points: &[Checkpoint],
    mut running: Running,
    how: Reading,
    mut told: impl FnMut(u64),
) -> Result<(u64, Running), Failure> {
    let mut good = (0, running.clone());
    let mut flights: VecDeque<(u64, u64, Piece)> = VecDeque::new();
    let end = points.last().map_or(0, |last| last.bytes);
    let mut boundaries = points.iter();
    let mut boundary = boundaries.next();
    let mut checks = points.iter().peekable();
    let (mut cursor, mut known) = (0, (0, false));
    while cursor < end || !flights.is_empty() {
        while cursor < end && flights.len() < how.parallel {
            while boundary.is_some_and(|point| point.bytes <= cursor) {
                boundary = boundaries.next();
            }
            let limit = boundary.map_or(end, |point| point.bytes);
            if cursor >= known.0 {
                known = match place {
                    // What a file system says of its own file is so; what another machine says is looked at.
                    Place::File(file) => file.extent(cursor).await.map(|extent| (extent.end, extent.is_zero))?,
                    Place::Disk(_) => (end, false),
                };
            }
            let next = limit.min(known.0.max(cursor + 1));
            let (next, piece) = match known.1 {
                true => (next, Piece::Zeros),
                false => {
                    let next = next.min(cursor + how.chunk);
                    // Of a last block of a disk that is not whole, the rest is read too.
                    let length = (next - cursor).next_multiple_of(place.block_length()) as usize;
                    let buffer = Buf::new(length).ok_or_else(|| Failure::runtime("there is no memory"))?;
                    let place = place.clone();
                    (next, Piece::Data(tokio::spawn(async move { place.read(cursor, buffer, length).await })))
                }
            };
            flights.push_back((next, next - cursor, piece));
            cursor = next;
        }
        let Some((at, length, piece)) = flights.pop_front() else { break };
        let ended = |_| Failure::runtime("a part of the reading ended early");
        let buffer = match piece {
            Piece::Zeros => None,
            Piece::Data(task) => Some(task.await.map_err(ended)??),
        };
        running = tokio::task::spawn_blocking(move || {
            match buffer {
                Some(buffer) => running.update(buffer.as_slice().get(..length as usize).unwrap_or_default()),
                None => running.update_zeros(length),
            }
            running
        })
        .await
        .map_err(ended)?;
        told(at);
        while let Some(point) = checks.next_if(|point| point.bytes <= at) {
            if point.checksum != running.text() {
                flights.iter().for_each(|(_, _, piece)| {
                    if let Piece::Data(task) = piece {
                        task.abort();
                    }
                });
                return Ok(good);
            }
            good = (point.bytes, running.clone());
        }
    }
    Ok(good)
}

/// The first byte below `end` in which two ends differ.
pub async fn first_difference(one: &Place, other: &Place, end: u64, chunk: u64) -> Result<Option<u64>, Failure> {
    let memory = || Buf::new(chunk as usize).ok_or_else(|| Failure::runtime("there is no memory"));
    let (mut left, mut right) = (memory()?, memory()?);
    let mut at = 0;
    while at < end {
        let length = (end - at).min(chunk) as usize;
        let whole = |place: &Place| {
            let left = place.bytes() - at;
            (length as u64).next_multiple_of(place.block_length()).min(left) as usize
        };
        (left, right) = tokio::try_join!(one.read(at, left, whole(one)), other.read(at, right, whole(other)))?;
        let pairs = left.as_slice().iter().zip(right.as_slice()).take(length);
        if let Some(differs) = pairs.into_iter().position(|(left, right)| left != right) {
            return Ok(Some(at + differs as u64));
        }
        at += length as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::copy::digest::Checksum;
    use crate::client::copy::file::OpenFile;
    use sim::daemon::Folder;

    #[test]
    fn only_what_is_there_is_believed() {
        let folder = Folder::new();
        let path = folder.path().join("a");
        let mut bytes: Vec<u8> = (0..300_000u32).map(|number| (number / 7) as u8).collect();
        bytes[100_000..200_000].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        let sum = |end: usize| {
            let mut running = Running::new(Checksum::Sha256);
            running.update(&bytes[..end]);
            Checkpoint { bytes: end as u64, checksum: running.text() }
        };
        let points = [sum(10_000), sum(150_001), sum(300_000)];
        let read = |points: &[Checkpoint]| {
            let place = Place::File(OpenFile::source(&path).unwrap());
            let how = Reading { chunk: 65_536, parallel: 3 };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let future = believed(&place, points, Running::new(Checksum::Sha256), how, |_| ());
            runtime.block_on(future).map(|(at, running)| (at, running.text())).unwrap()
        };
        assert_eq!(read(&points), (300_000, points[2].checksum.clone()));
        let mut spoiled = bytes.clone();
        spoiled[160_000] ^= 1;
        std::fs::write(&path, &spoiled).unwrap();
        assert_eq!(read(&points), (150_001, points[1].checksum.clone()));
        spoiled[0] ^= 1;
        std::fs::write(&path, &spoiled).unwrap();
        assert_eq!(read(&points).0, 0);
        assert_eq!(read(&[]).0, 0);

        let other = folder.path().join("b");
        std::fs::write(&other, &bytes).unwrap();
        let place = |path: &std::path::Path| Place::File(OpenFile::source(path).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let difference = |from: u8| {
            spoiled[0] = bytes[0] ^ from;
            std::fs::write(&path, &spoiled).unwrap();
            runtime.block_on(first_difference(&place(&path), &place(&other), 300_000, 65_536)).unwrap()
        };
        let mut difference = difference;
        assert_eq!((difference(1), difference(0)), (Some(0), Some(160_000)));
    }
}
