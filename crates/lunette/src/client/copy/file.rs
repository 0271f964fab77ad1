//! A file or a block device as an end of a copy. What blocks is done by other threads.

use super::place::Extent;
use crate::failure::{Cause, Failure};
use block::Buf;
use rustix::fs::{Advice, FallocateFlags, OFlags, SeekFrom};
use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of zeros that are written at a time where nothing better can be asked for.
const ZEROS_BYTES: usize = 1 << 20;

/// An open file or block device.
#[derive(Clone)]
pub struct OpenFile(Arc<Inner>);

struct Inner {
    file: File,
    path: PathBuf,
    bytes: u64,
    is_device: bool,
    identity: String,
}

/// What stands where a file is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// A regular file of so many bytes.
    File(u64),
    /// A block device.
    Device,
}

impl OpenFile {
    /// A source.
    pub fn source(path: &Path) -> Result<OpenFile, Failure> {
        let failed = |error| Failure::input(format!("{}: {}", path.display(), words(&error)));
        let file = File::open(path).map_err(failed)?;
        let opened = OpenFile::of(file, path)?;
        // A hint; whoever does not know it is read all the same.
        let _ = rustix::fs::fadvise(&opened.0.file, 0, None, Advice::Sequential);
        Ok(opened)
    }

    /// What is there before anything is opened.
    pub fn standing(path: &Path) -> Result<Standing, Failure> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_file() => Ok(Standing::File(found.len())),
            Ok(found) if found.file_type().is_block_device() => Ok(Standing::Device),
            Ok(_) => Err(Failure::input(format!("{}: is neither a file nor a block device", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Standing::Nothing),
            Err(error) => Err(Failure::input(format!("{}: {}", path.display(), words(&error)))),
        }
    }

    /// A file of so many bytes that all read as zeros, made anew.
    pub fn create(path: &Path, bytes: u64) -> Result<OpenFile, Failure> {
        let failed = |error| Failure::input(format!("{}: {}", path.display(), words(&error)));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(failed)?;
        file.set_len(bytes).map_err(|error| {
            Failure::runtime(format!("{}: cannot be made {bytes} bytes long: {}", path.display(), words(&error)))
        })?;
        OpenFile::of(file, path)
    }

    /// A file or device that is written over. A device that is mounted or used otherwise is refused.
    pub fn existing(path: &Path) -> Result<OpenFile, Failure> {
        let is_device = OpenFile::standing(path)? == Standing::Device;
        // On a block device this is the question whether anybody else has it: the kernel answers for mounts,
        // swap, RAID and device mapper.
        let exclusive = if is_device { OFlags::EXCL.bits().cast_signed() } else { 0 };
        let file = File::options().read(true).write(true).custom_flags(exclusive).open(path).map_err(|error| {
            let line = format!("{}: {}", path.display(), words(&error));
            match error.kind() {
                ErrorKind::ResourceBusy => Failure::because(Cause::InUse, format!("{line}; is it mounted?")),
                _ => Failure::input(line),
            }
        })?;
        OpenFile::of(file, path)
    }

    fn of(file: File, path: &Path) -> Result<OpenFile, Failure> {
        let failed = |error| Failure::input(format!("{}: {}", path.display(), words(&error)));
        let found = file.metadata().map_err(failed)?;
        let is_device = found.file_type().is_block_device();
        if !found.is_file() && !is_device {
            return Err(Failure::input(format!("{}: is neither a file nor a block device", path.display())));
        }
        let bytes = match is_device {
            true => rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|error| failed(error.into()))?,
            false => found.len(),
        };
        let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let identity = match is_device {
            true => format!("device {:x} {}", found.rdev(), whole.display()),
            false => format!("file {:x}:{} {}", found.dev(), found.ino(), whole.display()),
        };
        Ok(OpenFile(Arc::new(Inner { file, path: path.to_owned(), bytes, is_device, identity })))
    }

    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Its path, as it was given.
    pub fn name(&self) -> String {
        self.0.path.display().to_string()
    }

    /// Device and number, which a rename does not change.
    pub fn identity(&self) -> String {
        self.0.identity.clone()
    }

    /// When it was last written, for a source that must not have changed.
    pub fn modified(&self) -> String {
        let found = self.0.file.metadata();
        found.map(|found| format!("{}.{:09}", found.mtime(), found.mtime_nsec())).unwrap_or_default()
    }

    /// What writing to it counts in.
    pub fn block_length(&self) -> u64 {
        1
    }

    /// Cuts a regular file at `start` and makes it `end` bytes long again: what is behind `start` reads as zeros
    /// then. False for a device, of which nothing can be cut.
    pub async fn cut_and_extend(&self, start: u64, end: u64) -> Result<bool, Failure> {
        self.run(move |inner| {
            if !inner.is_device {
                inner.file.set_len(start)?;
                inner.file.set_len(end)?;
            }
            Ok(!inner.is_device)
        })
        .await
    }

    /// See [`super::place::Place::extent`].
    pub async fn extent(&self, offset: u64) -> Result<Extent, Failure> {
        let bytes = self.0.bytes;
        let all = Extent { end: bytes, is_zero: false };
        // Where nothing is known of holes, all is data.
        self.run(move |inner| {
            let seek = |whence| rustix::fs::seek(&inner.file, whence);
            match seek(SeekFrom::Data(offset)) {
                Ok(data) if data > offset => Ok(Extent { end: data.min(bytes), is_zero: true }),
                Ok(_) => Ok(seek(SeekFrom::Hole(offset)).map_or(all, |hole| match hole > offset {
                    true => Extent { end: hole.min(bytes), is_zero: false },
                    false => all,
                })),
                // Nothing but a hole to the end, unless holes are not known here at all.
                Err(rustix::io::Errno::NXIO) => Ok(Extent { end: bytes, is_zero: true }),
                Err(_) => Ok(all),
            }
        })
        .await
    }

    /// See [`super::place::Place::read`].
    pub async fn read(&self, offset: u64, mut buffer: Buf, length: usize) -> Result<Buf, Failure> {
        self.run(move |inner| {
            let part = buffer.as_mut_slice().get_mut(..length).ok_or(ErrorKind::InvalidInput)?;
            match inner.file.read_exact_at(part, offset) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    Err(std::io::Error::other("it has become shorter while it was read"))
                }
                other => other.map(|()| buffer),
            }
            .map_err(|error| at("reading", offset, error))
        })
        .await
    }

    /// See [`super::place::Place::write`].
    pub async fn write(&self, offset: u64, buffer: Buf, part: Range<usize>) -> Result<Buf, Failure> {
        self.run(move |inner| {
            let bytes = buffer.as_slice().get(part).ok_or(ErrorKind::InvalidInput)?;
            inner.file.write_all_at(bytes, offset).map_err(|error| at("writing", offset, error))?;
            Ok(buffer)
        })
        .await
    }

    /// See [`super::place::Place::zero`].
    pub async fn zero(&self, offset: u64, length: u64) -> Result<(), Failure> {
        self.run(move |inner| {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let ways: &[FallocateFlags] = match inner.is_device {
                // A device is asked first for zeros that cost it no space and then for zeros.
                true => &[punch, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE],
                false => &[punch],
            };
            if ways.iter().any(|way| rustix::fs::fallocate(&inner.file, *way, offset, length).is_ok()) {
                return Ok(());
            }
            let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(length).unwrap_or(ZEROS_BYTES))];
            let mut done = 0;
            while done < length {
                let step = (length - done).min(zeros.len() as u64);
                let zeros = zeros.get(..step as usize).unwrap_or_default();
                inner.file.write_all_at(zeros, offset + done).map_err(|error| at("writing", offset + done, error))?;
                done += step;
            }
            Ok(())
        })
        .await
    }

    /// See [`super::place::Place::flush`].
    pub async fn flush(&self) -> Result<(), Failure> {
        self.run(|inner| inner.file.sync_all()).await
    }

    /// See [`super::place::Place::forget_cached`].
    pub async fn forget_cached(&self) {
        let _ = self.run(|inner| Ok(rustix::fs::fadvise(&inner.file, 0, None, Advice::DontNeed)?)).await;
    }

    async fn run<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Inner) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || {
            what(&inner).map_err(|error| Failure::runtime(format!("{}: {}", inner.path.display(), words(&error))))
        });
        done.await.unwrap_or_else(|_| Err(Failure::runtime("a thread of the copy ended early")))
    }
}

fn at(what: &str, offset: u64, error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{what} at byte {offset}: {}", words(&error)))
}

/// What the system says, without its number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::daemon::Folder;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn holes_are_found_and_made() {
        let folder = Folder::new();
        let path = folder.path().join("a");
        let file = OpenFile::create(&path, 4 << 20).unwrap();
        run(async {
            assert_eq!(file.extent(0).await, Ok(Extent { end: 4 << 20, is_zero: true }));
            let mut buffer = Buf::new(1 << 20).unwrap();
            buffer.as_mut_slice().fill(7);
            file.write(1 << 20, buffer, 0..1 << 20).await.unwrap();
            assert_eq!(file.extent(0).await, Ok(Extent { end: 1 << 20, is_zero: true }));
            assert_eq!(file.extent(1 << 20).await, Ok(Extent { end: 2 << 20, is_zero: false }));
            file.zero(1 << 20, 1 << 20).await.unwrap();
            let buffer = file.read(1 << 20, Buf::new(1 << 20).unwrap(), 1 << 20).await.unwrap();
            assert!(buffer.as_slice().iter().all(|byte| *byte == 0));
            let error = file.read(4 << 20, Buf::new(4096).unwrap(), 4096).await.unwrap_err();
            assert!(error.to_string().contains("shorter"), "{error}");
        });
    }

    #[test]
    fn what_is_no_file_is_refused_in_a_line() {
        let folder = Folder::new();
        let error = OpenFile::source(folder.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains("neither a file nor a block device"), "{error}");
        let error = OpenFile::source(&folder.path().join("none")).map(drop).unwrap_err().to_string();
        assert!(error.ends_with("No such file or directory"), "{error}");
    }
}
