//! A drive whose medium is the image that lies at a path: looked at again and again, and exchanged when
//! another file lies there.

use crate::address::split;
use crate::file::{Image, Stamp, open_image};
use crate::{Address, OpenError, Opened};
use block::layer::ReadOnly;
use block::pure::Null;
use block::{Backend, Description, Engine, Error, Limits, Medium, Store};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Options of a store that an image has no use for.
const NOT_OF_IMAGES: &[&str] = &["size", "block", "key"];

/// Whether an address looks like that of an image: a file or device whose name ends in `.iso`.
pub fn is_image(address: &str) -> bool {
    let place = split(address).into_iter().next().unwrap_or_default();
    let elsewhere = ["ram:", "null:"].iter().any(|kind| place.starts_with(kind));
    !elsewhere && place.to_ascii_lowercase().ends_with(".iso")
}

/// Opens the image at this address as the medium of a drive, which is known by the path: the image may be
/// another one tomorrow.
pub fn open_drive(address: &str) -> Result<Opened, OpenError> {
    let address = Address::parse(address)?;
    if !matches!(address.kind.name, "file" | "device") {
        let error = address.error(format!("a CD-ROM cannot be made of {}", address.kind.name));
        return Err(error.remedy("name a file or a device; with type=disk it is a disk"));
    }
    if let Some(name) = NOT_OF_IMAGES.iter().find(|name| address.has(name)) {
        let error =
            address.error(format!("{name} is no option of a CD-ROM, which is served as it is, in 2048-byte blocks"));
        return Err(error.remedy(format!("leave out {name}, or add type=disk to serve a disk")));
    }
    let (image, stamp) = open_image(&address)?;
    let description = image.description();
    let path = std::path::absolute(&address.place).unwrap_or_else(|_| address.place.clone().into());
    let identity = Some(format!("drive:{}", path.display()));
    let current = RwLock::new(Loaded::from((image, stamp)));
    let backend = Arc::new(Tray { address, description, current, next: Mutex::new(None) });
    Ok(Opened { backend, created: false, identity })
}

struct Tray {
    address: Address,
    description: Description,
    current: RwLock<Loaded>,
    /// What the last look found, where that is not what is served.
    next: Mutex<Option<Loaded>>,
}

/// What lies in the drive: an image, or nothing.
#[derive(Clone)]
struct Loaded {
    backend: Arc<dyn Backend>,
    stamp: Option<Stamp>,
}

impl From<(Image, Stamp)> for Loaded {
    fn from((image, stamp): (Image, Stamp)) -> Loaded {
        Loaded { backend: Arc::new(image), stamp: Some(stamp) }
    }
}

impl Loaded {
    fn nothing() -> Loaded {
        Loaded { backend: ReadOnly::new(Null::new(2048, 0)), stamp: None }
    }
}

impl Tray {
    fn current(&self) -> Loaded {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Backend for Tray {
    fn limits(&self) -> Arc<Limits> {
        self.current().backend.limits()
    }

    fn description(&self) -> Description {
        self.description.clone()
    }

    fn open(&self, engine: &Rc<dyn Engine>) -> Result<Box<dyn Store>, Error> {
        self.current().backend.open(engine)
    }

    fn hand_over(&self) -> Result<block::Estate, &'static str> {
        let current = self.current();
        // Another one may lie there by now, which nobody was told of.
        match current.stamp.is_some() && current.stamp == Stamp::of(&self.address.place).ok() {
            true => {
                let mut mark = std::hash::DefaultHasher::new();
                current.stamp.hash(&mut mark);
                Ok(block::Estate { mark: Some(mark.finish()), ..current.backend.hand_over()? })
            }
            false => Err("what lies in the drive is not what lies at its path"),
        }
    }

    fn look(&self) -> Medium {
        let current = self.current();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // One that waits to be put in is not opened anew.
        let waits = next.take();
        let same = |loaded: &Loaded, stamp: &Option<Stamp>| loaded.stamp.is_some() && loaded.stamp == *stamp;
        let now = Stamp::of(&self.address.place).ok();
        if same(&current, &now) {
            return Medium::Same;
        }
        let found = match waits.filter(|waits| same(waits, &now)) {
            Some(waits) => Ok(waits),
            None => match open_image(&self.address) {
                // Between the two looks it may have become the old one again.
                Ok((_, stamp)) if current.stamp.as_ref() == Some(&stamp) => return Medium::Same,
                Ok(found) => Ok(found.into()),
                Err(error) => Err(error.to_string()),
            },
        };
        match found {
            Ok(found) => {
                *next = Some(found);
                Medium::Other
            }
            Err(_) if current.stamp.is_none() => Medium::Same,
            Err(why) => {
                *next = Some(Loaded::nothing());
                Medium::Gone(why)
            }
        }
    }

    fn exchange(&self) {
        if let Some(next) = self.next.lock().unwrap_or_else(PoisonError::into_inner).take() {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::ErrorKind;
    use block::testing::Bench;
    use io::engine::{Choice, Engines};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir().join(format!("lunette-tray-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            Folder(folder)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn drive(path: &Path) -> Arc<dyn Backend> {
        open_drive(path.to_str().unwrap()).unwrap().backend
    }

    fn bench(backend: Arc<dyn Backend>) -> Bench {
        let worker = Engines::new(Choice::Pool).open().unwrap();
        let engine = worker.engine().clone();
        Bench::with_engine(backend, &engine, move || {
            worker.wait(Duration::from_millis(20));
        })
    }

    #[test]
    fn images_are_known_by_their_ending() {
        for image in ["a.iso", "/x/A.ISO", "file:a.iso", "a.iso,ro", "a\\,b.iso"] {
            assert!(is_image(image), "{image}");
        }
        for other in ["a.img", "ram:1G", "a,b.iso", "a.iso.img", "iso", "ram:.iso"] {
            assert!(!is_image(other), "{other}");
        }
    }

    #[test]
    fn what_a_drive_cannot_have_is_refused_with_a_remedy() {
        let folder = Folder::new("refused");
        let image = folder.at("a.iso");
        let line = |address: String| open_drive(&address).unwrap_err().to_string();
        assert!(line(image.display().to_string()).contains("No such file"));
        std::fs::write(&image, []).unwrap();
        assert!(line(image.display().to_string()).contains("is empty"));
        std::fs::write(&image, [1; 2048]).unwrap();
        for option in ["size=1M", "block=512"] {
            assert!(line(format!("{},{option}", image.display())).contains("type=disk"), "{option}");
        }
        assert!(line("ram:1M".into()).contains("type=disk"));
    }

    #[test]
    fn a_tail_is_filled_up_with_zeros() {
        let folder = Folder::new("tail");
        for length in [1, 2047, 2048, 2049, 5 * 2048 - 1] {
            let image = folder.at("a.iso");
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8 + 1).collect();
            std::fs::write(&image, &bytes).unwrap();
            let backend = drive(&image);
            let blocks = (length as u64).div_ceil(2048);
            assert_eq!((backend.limits().blocks, backend.limits().block_length), (blocks, 2048));
            let mut padded = bytes.clone();
            padded.resize(blocks as usize * 2048, 0);
            let mut bench = bench(backend);
            assert!(bench.read(0, padded.len()).unwrap() == padded, "{length}");
            let last = padded.len() - 2048;
            assert!(bench.read(last as u64, 2048).unwrap() == padded[last..], "{length}");
            assert_eq!(bench.read(padded.len() as u64, 2048).unwrap_err().kind, ErrorKind::OutOfRange);
            assert_eq!(bench.write(0, &[0; 2048]).unwrap_err().kind, ErrorKind::ReadOnly);
            std::fs::remove_file(image).unwrap();
        }
    }

    #[test]
    fn another_file_at_the_path_is_another_medium_and_open_channels_stay_with_the_old_one() {
        let folder = Folder::new("exchange");
        let (image, other) = (folder.at("a.iso"), folder.at("b.iso"));
        std::fs::write(&image, [1; 4096]).unwrap();
        let backend = drive(&image);
        assert_eq!(backend.look(), Medium::Same);
        let mut old = bench(backend.clone());
        std::fs::write(&other, [2; 2048]).unwrap();
        std::fs::rename(&other, &image).unwrap();
        for _ in 0..2 {
            assert_eq!(backend.look(), Medium::Other);
            assert_eq!(backend.limits().blocks, 2, "not before the exchange");
        }
        backend.exchange();
        assert_eq!((backend.look(), backend.limits().blocks), (Medium::Same, 1));
        assert_eq!(old.read(2048, 2048).unwrap(), [1; 2048]);
        assert_eq!(bench(backend.clone()).read(0, 2048).unwrap(), [2; 2048]);
        std::fs::remove_file(&image).unwrap();
        assert!(matches!(backend.look(), Medium::Gone(why) if why.contains("No such file")));
        backend.exchange();
        assert_eq!((backend.look(), backend.limits().blocks), (Medium::Same, 0));
        assert!(bench(backend.clone()).read(0, 2048).is_err());
        std::fs::write(&image, [3; 2048]).unwrap();
        assert_eq!(backend.look(), Medium::Other);
        // Gone again before it was put in.
        std::fs::remove_file(&image).unwrap();
        assert_eq!(backend.look(), Medium::Same);
        backend.exchange();
        assert_eq!(backend.limits().blocks, 0);
    }

    #[test]
    fn a_link_that_points_elsewhere_is_another_medium_of_the_same_drive() {
        let folder = Folder::new("link");
        let link = folder.at("drive.iso");
        let identity = |byte: u8| {
            let image = folder.at(&format!("{byte}.img"));
            std::fs::write(&image, [byte; 2048]).unwrap();
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(image, &link).unwrap();
            open_drive(link.to_str().unwrap()).unwrap().identity
        };
        let first = identity(1);
        let backend = drive(&link);
        assert_eq!(identity(2), first);
        assert_eq!(backend.look(), Medium::Other);
    }
}
