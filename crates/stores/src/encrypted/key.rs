//! The key of a disk and the file that holds it: 64 bytes, readable by its owner alone.

use crate::host::{self, How, host};
use aes::Aes256;
use aes::cipher::KeyInit;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use xts_mode::{Xts128, get_tweak_default};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 64;
/// Beside the data: what tells the right key from another, and nothing about it.
const ATTRIBUTE: &str = "user.lunette.key-check";

const REMEDY_OF_OTHER: &str = "name the key that the disk was made with, or, if this is it, take the mark off: \
                               setfattr -x user.lunette.key-check";

/// A key, ready for use.
pub(crate) struct Key(Xts128<Aes256>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    fn new(bytes: &[u8; KEY_BYTES]) -> Key {
        let (data, tweak) = bytes.split_at(KEY_BYTES / 2);
        let cipher = |half: &[u8]| {
            let mut key = aes::cipher::Key::<Aes256>::default();
            key.copy_from_slice(half);
            Aes256::new(&key)
        };
        Key(Xts128::new(cipher(data), cipher(tweak)))
    }

    /// Encrypts whole sectors that stand at this byte of the disk.
    pub fn encrypt(&self, bytes: &mut [u8], offset: u64) {
        for (sector, number) in sectors(bytes, offset) {
            self.0.encrypt_sector(sector, get_tweak_default(number));
        }
    }

    /// Decrypts whole sectors, except those of nothing but zeros.
    pub fn decrypt(&self, bytes: &mut [u8], offset: u64) {
        for (sector, number) in sectors(bytes, offset) {
            if sector.iter().any(|byte| *byte != 0) {
                self.0.decrypt_sector(sector, get_tweak_default(number));
            }
        }
    }
}

fn sectors(bytes: &mut [u8], offset: u64) -> impl Iterator<Item = (&mut [u8], u128)> {
    let first = u128::from(offset) / super::SECTOR as u128;
    bytes.chunks_exact_mut(super::SECTOR).zip(first..)
}

/// Why a key cannot be had.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The key file.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What would mend it.
    pub remedy: &'static str,
}

/// The file with the key.
pub(crate) struct KeyFile {
    path: PathBuf,
    /// Open and locked as long as the disk is: another disk with this key would lose it with this one's.
    lock: Mutex<File>,
    /// The file that is encrypted, where it is one.
    disk: Option<Arc<File>>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyFile({})", self.path.display())
    }
}

impl KeyFile {
    /// The open file with its lock.
    pub fn held(&self) -> Result<Arc<File>, &'static str> {
        let held = self.lock.lock().unwrap_or_else(PoisonError::into_inner).try_clone();
        held.map(Arc::new).map_err(|_| "its key file cannot be handed over")
    }

    /// This file and the key in it. For a new disk it is made where it is missing.
    pub fn open(path: &Path, new: bool, disk: Option<Arc<File>>, read_only: bool) -> Result<(KeyFile, Key), Problem> {
        let problem = |what: String, remedy| Problem { path: path.display().to_string(), what, remedy };
        let failed =
            |error: std::io::Error| problem(error.to_string(), "name a place where it can be read and written");
        // A link stays a link: what is renewed is the file behind it.
        let path = &host::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let inherited = host::metadata(path).ok().and_then(|metadata| crate::inherited::take(&metadata));
        let opened = match inherited {
            Some(file) => Ok(file),
            None => host().open(path, How::of(read_only)),
        };
        let (file, bytes) = match opened {
            Ok(file) => {
                if file.try_lock().is_err() {
                    let what = "is the key of another disk that is served".to_owned();
                    return Err(problem(what, "give every disk a key of its own"));
                }
                let bytes =
                    read(&file).map_err(|what| problem(what, "it must be the owner's alone: 64 bytes, mode 600"))?;
                (file, bytes)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && new => {
                let bytes = random().map_err(failed)?;
                let file = write(path, &bytes).map_err(failed)?;
                host().sync_directory(directory_of(path)).map_err(failed)?;
                (file, bytes)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let what = "there is no such file, and the disk is not a new one".to_owned();
                return Err(problem(what, "restore the key; without it what is on the disk is lost"));
            }
            Err(error) => return Err(failed(error)),
        };
        if let Some(disk) = &disk {
            match host().attribute(disk, ATTRIBUTE).ok() {
                Some(kept) if kept != check(&bytes) => {
                    let what = "is not the key of this disk".to_owned();
                    return Err(problem(what, REMEDY_OF_OTHER));
                }
                None if !read_only => remember(disk, &bytes),
                _ => {}
            }
        }
        Ok((KeyFile { path: path.to_owned(), lock: Mutex::new(file), disk }, Key::new(&bytes)))
    }

    /// A new key in place of the old one. An error where nothing has changed; otherwise the new key is the
    /// disk's from now on, even where it could not be made sure that the old one is gone from its medium.
    pub(super) fn renew(&self) -> std::io::Result<Renewed> {
        let bytes = random()?;
        if let Some(disk) = &self.disk {
            // From here on neither key is told to be the wrong one, whenever this ends.
            let _ = host().set_attribute(disk, ATTRIBUTE, None, false);
            disk.sync_all()?;
        }
        let fresh = write(&self.path, &bytes)?;
        let old = std::mem::replace(&mut *self.lock.lock().unwrap_or_else(PoisonError::into_inner), fresh);
        let gone = forget(old, &self.path);
        if let Some(disk) = &self.disk {
            remember(disk, &bytes);
        }
        Ok(Renewed { key: Key::new(&bytes), gone })
    }
}

/// What came of a new key.
pub(super) struct Renewed {
    /// The key of everything that is written from now on.
    pub key: Key,
    /// Whether the old key is gone and the new one stable.
    pub gone: std::io::Result<()>,
}

/// Writes over the old bytes, as a file system may leave those of a file that is replaced, and makes the
/// new name stable.
fn forget(mut old: File, path: &Path) -> std::io::Result<()> {
    let noise = random()?;
    old.seek(SeekFrom::Start(0))?;
    old.write_all(&noise[..])?;
    old.sync_all()?;
    host().sync_directory(directory_of(path))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn random() -> std::io::Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut bytes[..]).map_err(std::io::Error::other)?;
    Ok(bytes)
}

fn read(file: &File) -> Result<Zeroizing<[u8; KEY_BYTES]>, String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.mode() & 0o077 != 0 {
        return Err(format!("others than its owner may use it (mode {:o})", metadata.mode() & 0o777));
    }
    if metadata.len() != KEY_BYTES as u64 {
        return Err(format!("holds {} bytes, not the {KEY_BYTES} of a key", metadata.len()));
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    file.read_exact_at(&mut bytes[..], 0).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Writes the file as a whole or not at all. Returned open, and locked.
fn write(path: &Path, bytes: &[u8; KEY_BYTES]) -> std::io::Result<File> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let _ = host().remove(&fresh);
    let mut file = host().open(&fresh, How { create: true, ..How::WRITE })?;
    file.lock()?;
    file.write_all(bytes)?;
    file.sync_all()?;
    host().rename(&fresh, path)?;
    Ok(file)
}

fn check(bytes: &[u8; KEY_BYTES]) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(b"lunette key check");
    digest.update(bytes);
    digest.finalize().iter().take(8).flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// Where the file system has no attributes, a wrong key is not noticed.
fn remember(disk: &File, bytes: &[u8; KEY_BYTES]) {
    let kept = host().set_attribute(disk, ATTRIBUTE, Some(&check(bytes)), false);
    let _ = kept.map(|()| disk.sync_all());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IEEE 1619-2018, annex B, vector 10.
    #[test]
    fn it_is_xts_aes_256_as_everybody_else_has_it() {
        let digits = "2718281828459045235360287471352662497757247093699959574966967627\
                      3141592653589793238462643383279502884197169399375105820974944592";
        let key: Vec<u8> =
            (0..KEY_BYTES).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect();
        let key = Key::new(key.as_slice().try_into().unwrap());
        let plain: Vec<u8> = (0..512).map(|at| at as u8).collect();
        let mut bytes = plain.clone();
        // The vector's data unit is number FFh.
        key.encrypt(&mut bytes, 0xFF * 512);
        assert_eq!(bytes[..16], 0x1c3b_3a10_2f77_0386_e483_6c99_e370_cf9b_u128.to_be_bytes());
        key.decrypt(&mut bytes, 0xFF * 512);
        assert_eq!(bytes, plain);
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let folder = std::env::temp_dir().join(format!("lunette-key-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("key");
        let open = |new| KeyFile::open(&path, new, None, false).map_err(|problem| problem.what);
        assert!(open(false).unwrap_err().contains("no such file"));
        open(true).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        open(false).unwrap();
        let allow = |mode| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        allow(0o644);
        assert!(open(false).unwrap_err().contains("mode 644"));
        allow(0o600);
        std::fs::write(&path, [0; 63]).unwrap();
        assert!(open(false).unwrap_err().contains("63 bytes"));
        let _ = std::fs::remove_dir_all(folder);
    }
}
