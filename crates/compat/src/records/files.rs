//! Files that are either what they were or what they shall be, and the lock that open-iscsi takes too.

use super::Error;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of a record's file; what is longer is none.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How long somebody else may have the lock. open-iscsi goes on after as long.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// What our files are called before they are whole.
const UNFINISHED: &str = ".lunette-";

/// The text of a file; none where there is no file.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    let failed = |error| Error::file("cannot read", path, &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(Error::Files(format!("{} is too long to be a record", path.display()))),
        // A byte that is no text costs its character and not the record.
        false => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
    }
}

/// Names in a directory, sorted; none where there is no directory.
pub(super) fn names(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("cannot read", path, &error)),
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

/// Directories down to this one, that only we may look into.
pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Error::file("cannot make", path, &error))
}

/// Puts a file into place: whole, on the disk, and only then under its name.
///
/// It grows in `root`, because in the directories of records every file is a record.
pub(super) fn write(root: &Path, path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(root);
    make_directory(directory)?;
    let unfinished = root.join(format!("{UNFINISHED}{}", std::process::id()));
    let failed = |error| Error::file("cannot write", path, &error);
    let put = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(directory)?.sync_all()
    };
    put().map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        failed(error)
    })
}

/// Removes a file; that it is not there is as good.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(Error::file("cannot remove", path, &error)),
    }
}

/// Removes directories from this one up to, and without, `stop`, as long as they are empty.
pub(super) fn remove_empty(path: &Path, stop: &Path) {
    let mut path = path;
    while path != stop && path.starts_with(stop) && fs::remove_dir(path).is_ok() {
        let Some(parent) = path.parent() else { return };
        path = parent;
    }
}

/// Makes a symbolic link; what was called so before is gone.
pub(super) fn link(target: &Path, path: &Path) -> Result<(), Error> {
    remove(path)?;
    make_directory(path.parent().unwrap_or(path))?;
    std::os::unix::fs::symlink(target, path).map_err(|error| Error::file("cannot link", path, &error))
}

/// The lock of the records, held until it is dropped.
///
/// open-iscsi's protocol: whoever succeeds in making `lock.write` another name of `lock` has it, and removes that name
/// afterwards. So it keeps both programs apart.
pub(super) struct Lock {
    name: Option<PathBuf>,
}

impl Lock {
    pub(super) fn take(directory: &Path, root: &Path) -> Result<Lock, Error> {
        make_directory(directory)?;
        make_directory(root)?;
        let (file, name) = (directory.join("lock"), directory.join("lock.write"));
        let failed = |error: &std::io::Error| Error::file("cannot take the lock", &name, error);
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&file).map_err(|e| failed(&e))?;
        let begin = Instant::now();
        loop {
            match fs::hard_link(&file, &name) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if begin.elapsed() > LOCK_PATIENCE {
                        // Whoever had it died, or is open-iscsi, which would go on as well.
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(failed(&error)),
            }
        }
        // Nobody else has unfinished files now: these are of those that were killed.
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Lock { name: Some(name) })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            let _ = fs::remove_file(name);
        }
    }
}
