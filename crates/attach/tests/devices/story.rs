//! Stories of one front-end alone, and of a disk that is a file.

use crate::helper::{Counting, Counts, Scratch, pattern, run, until};
use attach::{Closed, Detach, Error, Frontend, Settings};
use block::Backend;
use block::pure::Ram;
use block::testing::Bench;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// A file on a disk of ours, as a device, with a file system that is there again after another attachment.
pub fn file_system(frontend: &dyn Frontend) {
    let scratch = Scratch::new("file");
    let image = scratch.0.join("disk.img");
    let point = scratch.folder("mnt");
    let at = point.display();
    let content = pattern(24 << 20, 11);
    for round in 0..2 {
        let opened = stores::open(&format!("{},size=128M", image.display())).unwrap();
        let attached = frontend.attach(opened.backend, &scratch.settings()).unwrap();
        let device = attached.device().display().to_string();
        if round == 0 {
            run(&format!("mkfs.ext4 -q {device}"));
        }
        run(&format!("mount {device} {at}"));
        if round == 0 {
            fs::write(point.join("content"), &content).unwrap();
        }
        assert!(fs::read(point.join("content")).unwrap() == content, "round {round}");
        run(&format!("umount {at}"));
        attached.detach(Detach::WhenUnused).unwrap();
    }
    let before = fs::metadata(&image).unwrap().blocks();
    let opened = stores::open(&image.display().to_string()).unwrap();
    let attached = frontend.attach(opened.backend, &scratch.settings()).unwrap();
    run(&format!(
        "mount {0} {at} && rm {at}/content && sync -f {at} && fstrim {at} && umount {at}",
        attached.device().display()
    ));
    attached.detach(Detach::WhenUnused).unwrap();
    let after = fs::metadata(&image).unwrap().blocks();
    assert!(after + 40_000 < before, "fstrim gave space back: {before} sectors, then {after}");
}

/// The file of the front-end fuse without a device: what a program that knows only files can do with it.
pub fn file_alone() {
    let scratch = Scratch::new("alone");
    let ram = Ram::new(4096, 4096);
    let (counting, counts) = Counting::new(ram.clone());
    let settings = Settings { file_only: true, ..scratch.settings() };
    let attached = attach::Frontend::attach(&attach::fuse::Fuse, counting, &settings).unwrap();
    assert_eq!(attached.kind(), "fuse");
    let path = attached.device().to_path_buf();
    assert_eq!(fs::metadata(&path).unwrap().len(), 16 << 20);
    let listed: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(listed, std::slice::from_ref(&path));
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();

    // Any bytes anywhere, from several threads into the same blocks: each keeps what it wrote.
    let expected = Arc::new(pattern(1 << 20, 4));
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (file, expected) = (&file, &expected);
            scope.spawn(move || {
                for start in (thread * 1000..1 << 20).step_by(4000) {
                    let end = (start + 1000).min(1 << 20);
                    file.write_all_at(&expected[start..end], start as u64).unwrap();
                }
            });
        }
    });
    let mut read = vec![0; 999_999];
    file.read_exact_at(&mut read, 1).unwrap();
    assert!(read == expected[1..1_000_000]);
    assert!(Bench::new(ram.clone()).read(0, 1 << 20).unwrap() == *expected);

    let flushes = Counts::of(&counts.flushes);
    file.sync_all().unwrap();
    assert!(Counts::of(&counts.flushes) > flushes);
    run(&format!("fallocate -p -o 8192 -l 8192 {0} && fallocate -z -o 32768 -l 4096 {0}", path.display()));
    let mut read = vec![1; 8192];
    file.read_exact_at(&mut read, 8192).unwrap();
    assert!(read.iter().all(|byte| *byte == 0));
    assert!(Counts::of(&counts.unmaps) > 0 && Counts::of(&counts.zeroes) > 0);
    assert!(file.write_all_at(&[0; 8], 16 << 20).is_err(), "a disk does not grow by writing behind its end");
    assert!(file.set_len(1 << 20).is_err(), "or shrink by cutting");
    run(&format!("head -c 5000000 /dev/urandom >{0}/in && cp {0}/in {1}", scratch.0.display(), path.display()));
    run(&format!("head -c 5000000 {1} | cmp {0}/in", scratch.0.display(), path.display()));

    ram.resize(8192).unwrap();
    assert_eq!(attached.resized().unwrap(), 32 << 20);
    assert_eq!(fs::metadata(&path).unwrap().len(), 32 << 20);
    assert!(matches!(attached.detach(Detach::WhenUnused), Err(Error::Busy { .. })), "we have it open ourselves");
    drop(file);
    attached.detach(Detach::WhenUnused).unwrap();
    assert!(!path.exists() && fs::read_dir(path.parent().unwrap()).unwrap().next().is_none());

    // Unmounted by somebody else: told, and nothing to detach any more.
    let attached = attach::Frontend::attach(&attach::fuse::Fuse, ram.clone(), &settings).unwrap();
    run(&format!("umount {}", path.parent().unwrap().display()));
    until("its end is noticed", || matches!(attached.closed(), Some(Closed::Elsewhere(_))));
    attached.detach(Detach::WhenUnused).unwrap();

    // Taken away with the file open: its reader hears of it.
    let attached = attach::Frontend::attach(&attach::fuse::Fuse, ram, &settings).unwrap();
    let file = File::open(attached.device()).unwrap();
    attached.detach(Detach::Force).unwrap();
    assert!(file.read_at(&mut [0; 512], 0).is_err());
}

/// The same as whoever runs this, for users without privileges: attached, used, refused while open, detached.
pub fn file_of_anybody() {
    let scratch = Scratch::new("anybody");
    let settings = Settings { file_only: true, ..scratch.settings() };
    let attached = attach::fuse::Fuse.attach(Ram::new(512, 8192), &settings).unwrap();
    let path = attached.device().to_path_buf();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.write_all_at(b"anybody's", 5).unwrap();
    let mut read = [0; 9];
    file.read_exact_at(&mut read, 5).unwrap();
    assert_eq!(&read, b"anybody's");
    assert!(matches!(attached.detach(Detach::WhenUnused), Err(Error::Busy { .. })));
    drop(file);
    attached.detach(Detach::WhenUnused).unwrap();
    assert!(!path.exists());
    let attached = attach::fuse::Fuse.attach(Ram::new(512, 8192), &settings).unwrap();
    attached.detach(Detach::Force).unwrap();
    assert!(!path.exists());
}
