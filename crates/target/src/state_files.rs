//! The state of logical units as files of one directory: persistent reservations, saved mode pages.
//!
//! A file is replaced whole: written beside, flushed, renamed, and the directory flushed; so after a
//! crash at any point it is the old one or the new one. Every file carries a checksum. A damaged one
//! is an error each time it is read and stays where it is: to move it away would turn "the fences of
//! this disk are unknown" into "there are none" at the next start. An administrator may do that.
//!
//! ```text
//! "LunettST"  FNV-1a of the content u64  the content            (big-endian)
//! ```

use lun::{Saved, StateError, StateKind, StateStore};
use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc::{SendError, Sender},
    sync::{Arc, Mutex, PoisonError},
};

/// The largest file that is read; more cannot come from [`StateStore::save`].
const MAXIMUM_BYTES: u64 = 1 << 20;

/// A directory with a file for each unit and kind of state. Only this process may write there.
#[derive(Debug)]
pub struct StateFiles {
    place: Arc<Place>,
    /// To the thread that saves, which ends with this.
    saver: Sender<Job>,
}

impl StateFiles {
    /// State in this directory, which is made where it is not there.
    pub fn open(directory: &Path) -> Result<StateFiles, StateError> {
        StateFiles::inherit(directory, Vec::new())
    }

    /// The same in a process that goes on for another one, which handed over what it holds ([`StateFiles::held`]).
    pub fn inherit(directory: &Path, held: Vec<File>) -> Result<StateFiles, StateError> {
        fs::create_dir_all(directory).map_err(|error| failed("cannot make", directory, &error))?;
        let descriptor = File::open(directory).map_err(|error| failed("cannot open", directory, &error))?;
        let inherited = Mutex::new(held);
        let place = Place { directory: directory.to_owned(), descriptor, held: Mutex::default(), inherited };
        let place = Arc::new(place);
        let (saver, jobs) = std::sync::mpsc::channel::<Job>();
        let own = Arc::clone(&place);
        let thread = std::thread::Builder::new().name("saver".into()).spawn(move || {
            for Job { unit, kind, bytes, done } in jobs {
                done(own.save(unit, kind, &bytes));
            }
        });
        thread.map_err(|error| failed("no thread that saves into", directory, &error))?;
        Ok(StateFiles { place, saver })
    }

    /// What is locked for the units that are served, once more: the locks last as long as any of these is open.
    pub fn held(&self) -> io::Result<Vec<File>> {
        let held = self.place.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|(_, file)| file.try_clone()).collect()
    }
}

/// What is to be saved.
struct Job {
    unit: [u8; 16],
    kind: StateKind,
    bytes: Vec<u8>,
    done: Saved,
}

/// The directory itself.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    descriptor: File,
    /// Locked as long as they are open: until the last save has ended.
    held: Mutex<Vec<([u8; 16], File)>>,
    /// Locked by the process before this one, and handed over.
    inherited: Mutex<Vec<File>>,
}

impl Place {
    /// The inherited file that lies at this path.
    fn take_inherited(&self, path: &Path) -> Option<File> {
        let at = |found: &fs::Metadata| (found.dev(), found.ino());
        let wanted = at(&fs::metadata(path).ok()?);
        let mut inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        let found = inherited.iter().position(|file| file.metadata().is_ok_and(|found| at(&found) == wanted))?;
        Some(inherited.swap_remove(found))
    }

    fn save(&self, unit: [u8; 16], kind: StateKind, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.path(unit, kind);
        self.replace(&path, bytes).map_err(|error| failed("cannot save", &path, &error))
    }

    fn path(&self, unit: [u8; 16], kind: StateKind) -> PathBuf {
        let name = match kind {
            StateKind::Reservations => "reservations",
            StateKind::ModePages => "mode-pages",
            StateKind::Occupation => "occupation",
            StateKind::Identification => "identification",
        };
        self.directory.join(format!("{:032x}.{name}", u128::from_be_bytes(unit)))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = path.with_added_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(MAGIC)?;
        file.write_all(&fnv_1a(bytes).to_be_bytes())?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // Without this the rename itself may be lost with the power.
        self.descriptor.sync_all()
    }
}

impl StateStore for StateFiles {
    fn load(&self, unit: [u8; 16], kind: StateKind) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.place.path(unit, kind);
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("cannot read", &path, &error)),
            Ok(found) if found.len() > MAXIMUM_BYTES => return Err(damaged(&path)),
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(|error| failed("cannot read", &path, &error))?;
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged(&path))?;
        let (sum, content) = rest.split_first_chunk::<8>().ok_or_else(|| damaged(&path))?;
        if u64::from_be_bytes(*sum) != fnv_1a(content) {
            return Err(damaged(&path));
        }
        Ok(Some(content.to_vec()))
    }

    fn hold(&self, unit: [u8; 16]) -> Result<(), StateError> {
        let path = self.place.directory.join(format!("{:032x}.lock", u128::from_be_bytes(unit)));
        let file = match self.place.take_inherited(&path) {
            Some(file) => file,
            None => File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(|error| failed("cannot open", &path, &error))?,
        };
        match file.try_lock() {
            Ok(()) => {
                self.place.held.lock().unwrap_or_else(PoisonError::into_inner).push((unit, file));
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(StateError::Failed(
                "another process serves a disk of the same identity; a copied file gets one of its own with: setfattr \
                 -x user.lunette.uuid FILE"
                    .to_owned(),
            )),
            Err(TryLockError::Error(error)) => Err(failed("cannot lock", &path, &error)),
        }
    }

    fn release(&self, unit: [u8; 16]) {
        self.place.held.lock().unwrap_or_else(PoisonError::into_inner).retain(|(held, _)| *held != unit);
    }

    fn set_aside(&self, unit: [u8; 16], kind: StateKind) -> Result<(), StateError> {
        let path = self.place.path(unit, kind);
        let file = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        // A second name, not another one: until the next save is whole, what is damaged stays in its place.
        for number in 1u64.. {
            let aside = path.with_added_extension(format!("damaged-{number}"));
            match fs::hard_link(&path, &aside).map_err(|error| (error.kind(), error)) {
                Err((ErrorKind::AlreadyExists, _)) if file(&aside) != file(&path) => {}
                // Where the save after this failed, it has its second name already.
                Ok(()) | Err((ErrorKind::AlreadyExists | ErrorKind::NotFound, _)) => break,
                Err((_, error)) => return Err(failed("cannot set aside", &path, &error)),
            }
        }
        Ok(())
    }

    fn save_later(&self, unit: [u8; 16], kind: StateKind, bytes: Vec<u8>, done: Saved) {
        if let Err(SendError(job)) = self.saver.send(Job { unit, kind, bytes, done }) {
            (job.done)(Err(StateError::Failed("the thread that saves has ended".into())));
        }
    }

    fn save(&self, unit: [u8; 16], kind: StateKind, bytes: &[u8]) -> Result<(), StateError> {
        self.place.save(unit, kind, bytes)
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StateError {
    StateError::Failed(format!("{what} {}: {error}", path.display()))
}

fn damaged(path: &Path) -> StateError {
    StateError::Damaged(format!(
        "{} is damaged; the disk stays closed until it is repaired or moved away",
        path.display()
    ))
}

/// FNV-1a, 64 bits: enough to tell a torn or rotten file from a whole one.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

const MAGIC: &[u8] = b"LunettST";

#[cfg(test)]
mod tests {
    use super::*;
    use lun::reservation::{Guarded, Nexus, OutRequest, Surroundings};
    use scsi::{persistent::OutList, transport_id::TransportId};
    use std::sync::Arc;

    const UNIT: [u8; 16] = [7; 16];

    /// A directory of this test's own, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("lunette-state-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_saved_last_comes_back_for_its_unit_and_kind_only() {
        let scratch = Scratch::new("last");
        let files = StateFiles::open(&scratch.0).unwrap();
        assert_eq!(files.load(UNIT, StateKind::ModePages), Ok(None));
        files.save(UNIT, StateKind::ModePages, b"old").unwrap();
        files.save(UNIT, StateKind::ModePages, b"new").unwrap();
        files.save([8; 16], StateKind::ModePages, b"").unwrap();
        let again = StateFiles::open(&scratch.0).unwrap();
        assert_eq!(again.load(UNIT, StateKind::ModePages), Ok(Some(b"new".to_vec())));
        assert_eq!(again.load([8; 16], StateKind::ModePages), Ok(Some(Vec::new())));
        assert_eq!(again.load(UNIT, StateKind::Reservations), Ok(None));
    }

    #[test]
    fn prs_09_a_crash_before_the_rename_leaves_the_old_state_and_the_next_save_works() {
        let scratch = Scratch::new("crash");
        let files = StateFiles::open(&scratch.0).unwrap();
        files.save(UNIT, StateKind::Reservations, b"old").unwrap();
        let beside = files.place.path(UNIT, StateKind::Reservations).with_added_extension("new");
        fs::write(&beside, b"half of a n").unwrap();
        assert_eq!(files.load(UNIT, StateKind::Reservations), Ok(Some(b"old".to_vec())));
        files.save(UNIT, StateKind::Reservations, b"new").unwrap();
        assert_eq!(files.load(UNIT, StateKind::Reservations), Ok(Some(b"new".to_vec())));
    }

    #[test]
    fn spc_02_two_processes_do_not_serve_one_identity() {
        let scratch = Scratch::new("hold");
        let (one, other) = (StateFiles::open(&scratch.0).unwrap(), StateFiles::open(&scratch.0).unwrap());
        one.hold(UNIT).unwrap();
        assert!(other.hold(UNIT).unwrap_err().to_string().contains("same identity"));
        other.hold([8; 16]).unwrap();
        other.release([8; 16]);
        one.hold([8; 16]).expect("what is released is there for others");
        // The thread that saves has it to its end.
        drop(one);
        while other.hold(UNIT).is_err() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_damaged_file_is_refused_at_every_byte_and_stays() {
        let scratch = Scratch::new("damage");
        let files = StateFiles::open(&scratch.0).unwrap();
        files.save(UNIT, StateKind::Reservations, b"fences").unwrap();
        let path = files.place.path(UNIT, StateKind::Reservations);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[at] ^= 1;
            for bad in [&whole[..at], &rotten] {
                fs::write(&path, bad).unwrap();
                assert!(files.load(UNIT, StateKind::Reservations).is_err(), "{at}");
                assert_eq!(fs::read(&path).unwrap(), bad);
            }
        }
    }

    #[test]
    fn what_is_set_aside_stays_and_is_in_its_place_until_it_is_replaced() {
        let scratch = Scratch::new("aside");
        let files = StateFiles::open(&scratch.0).unwrap();
        files.set_aside(UNIT, StateKind::Reservations).unwrap();
        for round in 1..=2 {
            let path = files.place.path(UNIT, StateKind::Reservations);
            let _ = fs::remove_file(&path);
            fs::write(&path, [round]).unwrap();
            for _ in 0..3 {
                files.set_aside(UNIT, StateKind::Reservations).unwrap();
            }
            assert!(files.load(UNIT, StateKind::Reservations).is_err(), "it is there until it is replaced");
            let aside =
                files.place.path(UNIT, StateKind::Reservations).with_added_extension(format!("damaged-{round}"));
            assert_eq!(fs::read(aside).unwrap(), [round]);
        }
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 3, "one name for each that was damaged");
    }

    #[test]
    fn prs_09_reservations_with_aptpl_survive_a_restart_and_a_failed_save_changes_nothing() {
        let scratch = Scratch::new("aptpl");
        let open = || Guarded::open(UNIT, Some(Arc::new(StateFiles::open(&scratch.0).unwrap()))).unwrap();
        let initiator = TransportId::port("iqn.2026-01.org.example:a", [0, 2, 0x3D, 0, 0, 1]).encode().into();
        let nexus = Nexus { initiator, relative_port: 1 };
        let register = |guarded: &Guarded, key, action_key| {
            let list = OutList { key, action_key, persist: true, ..OutList::default() }.encode();
            let request = OutRequest { service_action: 0, scope_type: 0, list: &list };
            guarded.write(&nexus, request, Surroundings { ports: &[1], initiators: &[] })
        };
        let guarded = open();
        register(&guarded, 0, 5).unwrap();
        let before = guarded.snapshot();
        let keys = |state: &lun::reservation::Reservations| state.keys().collect::<Vec<_>>();
        assert_eq!((keys(&open().snapshot()), open().snapshot().generation()), (keys(&before), 0));

        fs::remove_dir_all(&scratch.0).unwrap();
        assert!(register(&guarded, 5, 6).is_err());
        assert_eq!(guarded.snapshot(), before);
    }
}
