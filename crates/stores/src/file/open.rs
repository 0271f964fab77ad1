//! From an address to an open, locked file, with an error for every way in which that can fail.

use super::backend::{Access, FileBackend};
use super::facts::{self, Nature};
use super::lock::{self, Hold};
use crate::encrypted::{Encrypted, KeyFile};
use crate::host::{self, How};
use crate::{Address, OpenError, Opened, Size, inherited};
use block::Backend;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

pub(super) fn open(address: &Address) -> Result<Opened, OpenError> {
    let size = address.size()?;
    let block = address.block_length()?;
    if let Some(size) = size {
        address.blocks(size, block.unwrap_or(512))?;
    }
    match host::metadata(&address.place) {
        Ok(metadata) if metadata.is_dir() => {
            let inside = Path::new(&address.place).join("disk.img,size=10G");
            Err(address.error("is a directory").remedy(format!("name a file in it: {}", inside.display())))
        }
        Ok(metadata) if metadata.is_file() || metadata.file_type().is_block_device() => {
            let file = match inherited::take(&metadata) {
                Some(file) => file,
                None => open_existing(address, metadata.file_type().is_block_device())?,
            };
            take(address, file, Origin::Found)
        }
        Ok(_) => Err(address.error("is neither a file nor a block device")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let file = create(address, size)?;
            take(address, file, Origin::Created).inspect_err(|_| {
                // A file that could not be used is not left behind. It was made by us just now.
                let _ = host::host().remove(Path::new(&address.place));
            })
        }
        Err(error) => Err(failed(address, &error)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Found,
    Created,
}

fn open_existing(address: &Address, device: bool) -> Result<File, OpenError> {
    open_as(address, device, address.has("ro"))
}

pub(super) fn open_as(address: &Address, device: bool, read_only: bool) -> Result<File, OpenError> {
    // A block device that nobody has mounted or put into an array.
    let how = How { exclusive: device && !read_only, ..How::of(read_only) };
    host::host().open(Path::new(&address.place), how).map_err(|error| failed(address, &error))
}

fn create(address: &Address, size: Option<u64>) -> Result<File, OpenError> {
    let place = Path::new(&address.place);
    let directory = place.parent().filter(|directory| !directory.as_os_str().is_empty());
    let is_directory = |directory: &&Path| host::metadata(directory).is_ok_and(|found| found.is_dir());
    if let Some(directory) = directory.filter(|directory| !is_directory(directory)) {
        let problem = format!("its directory {} does not exist", directory.display());
        return Err(address.error(problem).remedy(format!("make it with: mkdir -p {}", directory.display())));
    }
    if inherited::is_complete() {
        let remedy = "give the file its name back";
        return Err(address.error("does not exist any more, though it is served").remedy(remedy));
    }
    if address.has("ro") {
        return Err(address.error("does not exist").remedy("with ro it must; leave out ro to create it"));
    }
    if size.is_none() {
        return Err(address.error("does not exist").remedy("add ,size=10G to create it"));
    }
    host::host().open(place, How { create: true, ..How::WRITE }).map_err(|error| failed(address, &error))
}

/// Locks an open file, looks at it, and makes a backend of it.
fn take(address: &Address, file: File, origin: Origin) -> Result<Opened, OpenError> {
    let read_only = address.has("ro");
    let hold = if read_only { Hold::Shared } else { Hold::Exclusive };
    lock::lock(&file, hold).map_err(|problem| address.error(problem).remedy("a disk is served once"))?;
    let facts = facts::look(&file).map_err(|error| failed(address, &error))?;
    let block_length = match (facts.nature, address.block_length()?) {
        (Nature::File, block) => block.unwrap_or(512),
        (Nature::Device, None) if facts.logical_block_length > 512 => 4096,
        (Nature::Device, None) => 512,
        (Nature::Device, Some(block)) if block < facts.logical_block_length => {
            let problem = format!("block={block} is less than the device's {}-byte blocks", facts.logical_block_length);
            return Err(address.error(problem).remedy("use block=4096"));
        }
        (Nature::Device, Some(block)) => block,
    };
    let mut found = facts::size(&file, facts.nature).map_err(|error| failed(address, &error))?;
    if let Some(wanted) = address.size()?
        && wanted != found
    {
        // A file of no bytes is one that somebody made for us with touch(1).
        if found != 0 || read_only || facts.nature == Nature::Device {
            let problem = format!("holds {} ({found} bytes), not the {} asked for", Size(found), Size(wanted));
            let remedy = match facts.nature {
                Nature::File => format!("leave out size=, or change the file: truncate -s {wanted} {}", address.place),
                Nature::Device => "leave out size=".into(),
            };
            return Err(address.error(problem).remedy(remedy));
        }
        file.set_len(wanted).map_err(|error| failed(address, &error))?;
        found = wanted;
    }
    if found == 0 {
        let remedy = match facts.nature {
            Nature::File => "add ,size=10G to give it a size",
            Nature::Device => "is there a medium in it?",
        };
        return Err(address.error("is empty").remedy(remedy));
    }
    let blocks = match facts.nature {
        Nature::File if !found.is_multiple_of(u64::from(block_length)) => {
            let whole = found.next_multiple_of(u64::from(block_length));
            return Err(address
                .error(format!("its {found} bytes are not a whole number of {block_length}-byte blocks"))
                .remedy(format!("fill it up with: truncate -s {whole} {}", address.place)));
        }
        // The end of a device that is no whole block is not used.
        _ => found / u64::from(block_length),
    };
    let access = Access { read_only, direct: address.has("direct") };
    let identity = super::identity::identity(&file, facts.nature, &address.place, read_only);
    let backend = FileBackend::new(address.place.clone(), file, facts, block_length, blocks, access);
    if access.direct {
        backend.try_direct().map_err(|error| {
            let problem = format!("direct I/O does not work here: {error}");
            address.error(problem).remedy("leave out direct")
        })?;
    }
    let created = origin == Origin::Created;
    let backend: Arc<dyn Backend> = match address.option("key") {
        Some(key) => encrypted(address, backend, key, created)?,
        None => backend,
    };
    Ok(Opened { backend, created, identity: Some(identity) })
}

/// The disk behind its key. Only a disk that is new gets a key that is new.
fn encrypted(
    address: &Address,
    backend: Arc<FileBackend>,
    key: &str,
    created: bool,
) -> Result<Arc<dyn Backend>, OpenError> {
    let (file, key) = KeyFile::open(Path::new(key), created, backend.file(), address.has("ro"))
        .map_err(|problem| address.error(format!("key={}: {}", problem.path, problem.what)).remedy(problem.remedy))?;
    Ok(Encrypted::new(backend, file, key))
}

/// A system call's error in words that name what to do.
pub(super) fn failed(address: &Address, error: &std::io::Error) -> OpenError {
    match error.kind() {
        ErrorKind::PermissionDenied if address.has("ro") => {
            address.error("no permission to read it").remedy("give this user read permission")
        }
        ErrorKind::PermissionDenied => address
            .error("no permission to read and write it")
            .remedy("give this user permission, or add ,ro if reading is enough"),
        ErrorKind::ReadOnlyFilesystem => {
            let remedy = "add ,ro if reading is enough; a service may need: systemctl edit lunette, ReadWritePaths=";
            address.error("lies on a file system that cannot be written").remedy(remedy)
        }
        ErrorKind::ResourceBusy => address
            .error("is in use: mounted, or part of an array, a volume group or another target")
            .remedy("unmount it, or name the volume that is to be served"),
        ErrorKind::FileTooLarge => {
            address.error("the file system cannot hold a file of that size").remedy("choose a smaller size")
        }
        ErrorKind::StorageFull => address.error("the file system is full"),
        ErrorKind::NotADirectory => address.error("a part of its path is a file, not a directory"),
        _ => address.error(error.to_string()),
    }
}
