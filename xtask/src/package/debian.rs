//! The Debian packages: lunette, and lunette-compat with the old names.

use super::{output, target, tree, write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const MAINTAINER: &str = "Lunette developers <lunette@example.org>";
/// The programs of others that the second package stands in for.
const OTHERS: &str = "open-iscsi, tgt";

/// Builds both; their paths.
pub fn build(root: &Path, binary: &Path, dist: &Path) -> Result<Vec<PathBuf>, String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => return Err(format!("{other}: no Debian architecture of this name is known here")),
    };
    let version = env!("CARGO_PKG_VERSION");
    let fresh = |name: &str| {
        let folder = target(root).join("package").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map(|()| folder).map_err(|error| error.to_string())
    };
    let main = fresh("deb")?;
    tree::main(root, binary, dist, &main)?;
    finish(root, &main, "lunette")?;
    let libc = libc(binary)?;
    let control = format!(
        "Package: lunette\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\n\
         Installed-Size: {}\nDepends: libc6 (>= {libc}), libgcc-s1, passwd\nRecommends: bash-completion, procps\n\
         Suggests: lunette-compat\nSection: net\nPriority: optional\n\
         Description: iSCSI target and initiator\n \
         A target daemon that turns files, volumes and memory into SCSI disks on the network, and an\n \
         initiator that makes such a disk a local block device, in user space and in one program.\n",
        size(&main)?
    );
    let main = pack(root, &main, &control, &["postinst", "prerm", "postrm"], "lunette", version, architecture)?;

    let compat = fresh("deb-compat")?;
    tree::old_names(dist, &compat)?;
    finish(root, &compat, "lunette-compat")?;
    let control = format!(
        "Package: lunette-compat\nVersion: {version}\nArchitecture: all\nMaintainer: {MAINTAINER}\n\
         Installed-Size: {}\nDepends: lunette (>= {version})\nConflicts: {OTHERS}\nReplaces: {OTHERS}\n\
         Provides: {OTHERS}\nSection: net\nPriority: optional\n\
         Description: tgtadm, tgtd and iscsiadm as names of Lunette\n \
         Links by which scripts that were written for tgt and open-iscsi find Lunette. It takes the place\n \
         of both packages.\n",
        size(&compat)?
    );
    let compat = pack(root, &compat, &control, &[], "lunette-compat", version, "all")?;
    Ok(vec![main, compat])
}

/// What every Debian package has among its documents.
fn finish(root: &Path, tree: &Path, name: &str) -> Result<(), String> {
    let documents = tree.join("usr/share/doc").join(name);
    tree::file(&root.join("packaging/debian/copyright"), &documents.join("copyright"), 0o644)?;
    let log = format!(
        "lunette ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md of the package lunette.\n\n \
         -- {MAINTAINER}  Thu, 01 Jan 2026 00:00:00 +0000\n",
        env!("CARGO_PKG_VERSION")
    );
    let path = documents.join("changelog");
    write(&path, log.as_bytes())?;
    output(Command::new("gzip").arg("-9nf").arg(&path))?;
    Ok(())
}

fn pack(
    root: &Path,
    tree: &Path,
    control: &str,
    scripts: &[&str],
    name: &str,
    version: &str,
    architecture: &str,
) -> Result<PathBuf, String> {
    let folder = tree.join("DEBIAN");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    write(&folder.join("control"), control.as_bytes())?;
    for script in scripts {
        tree::file(&root.join("packaging/debian").join(script), &folder.join(script), 0o755)?;
    }
    if tree.join("etc").is_dir() {
        write(&folder.join("conffiles"), b"/etc/lunette/lunette.toml\n")?;
    }
    let sums = output(
        Command::new("sh")
            .current_dir(tree)
            .args(["-c", "find usr -type f -print0 2>/dev/null | LC_ALL=C sort -z | xargs -0 -r md5sum"]),
    )?;
    write(&folder.join("md5sums"), &sums)?;
    directories(tree)?;
    let package = target(root).join("dist").join(format!("{name}_{version}_{architecture}.deb"));
    output(Command::new("dpkg-deb").args(["--root-owner-group", "-Zxz", "--build"]).arg(tree).arg(&package))?;
    Ok(package)
}

/// Directories as everybody may use them, whatever our umask is; the one with secrets as its group may.
fn directories(tree: &Path) -> Result<(), String> {
    let modes = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        found.push(folder.to_owned());
        for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() && !path.is_symlink() {
                walk(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(tree, &mut found);
    for folder in found {
        let mode = if folder.ends_with("etc/lunette") { 0o750 } else { 0o755 };
        modes(&folder, mode).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    Ok(())
}

/// The newest symbol version of the C library that the program asks for.
fn libc(binary: &Path) -> Result<String, String> {
    let bytes = std::fs::read(binary).map_err(|error| error.to_string())?;
    let mark = b"GLIBC_2.";
    let versions = bytes.windows(mark.len() + 3).filter(|window| window.starts_with(mark)).filter_map(|window| {
        let digits: String = window
            .iter()
            .skip(mark.len())
            .take_while(|byte| byte.is_ascii_digit())
            .map(|byte| char::from(*byte))
            .collect();
        digits.parse::<u32>().ok()
    });
    Ok(format!("2.{}", versions.max().unwrap_or(17)))
}

/// In KiB, as Debian counts it.
fn size(tree: &Path) -> Result<String, String> {
    let said = output(Command::new("du").args(["-sk", "--apparent-size"]).arg(tree))?;
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok(said.split_whitespace().next().unwrap_or("1").to_owned())
}
