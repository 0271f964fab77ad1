//! The files of the packages below a root, as both kinds of packages have them.

use super::OLD_NAMES;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Pages of documentation that are installed.
const DOCUMENTS: &[&str] = &["README.md", "CHANGELOG.md"];

/// Puts the files of the main package below a root that is empty.
pub fn main(source: &Path, binary: &Path, dist: &Path, root: &Path) -> Result<(), String> {
    file(binary, &root.join("usr/bin/lunette"), 0o755)?;
    strip(&root.join("usr/bin/lunette"));
    for unit in names(&source.join("packaging/systemd"))? {
        if unit.contains('.') {
            let from = source.join("packaging/systemd").join(&unit);
            file(&from, &root.join("usr/lib/systemd/system").join(&unit), 0o644)?;
        }
    }
    file(&source.join("packaging/lunette.toml"), &root.join("etc/lunette/lunette.toml"), 0o640)?;
    file(&source.join("packaging/sysusers.conf"), &root.join("usr/lib/sysusers.d/lunette.conf"), 0o644)?;
    for page in names(&dist.join("man"))? {
        let section = page.rsplit('.').next().unwrap_or_default().to_owned();
        if !is_old(&page) {
            compressed(&dist.join("man").join(&page), &root.join(format!("usr/share/man/man{section}/{page}")))?;
        }
    }
    let completions = dist.join("completions");
    file(&completions.join("lunette"), &root.join("usr/share/bash-completion/completions/lunette"), 0o644)?;
    file(&completions.join("_lunette"), &root.join("usr/share/zsh/vendor-completions/_lunette"), 0o644)?;
    file(&completions.join("lunette.fish"), &root.join("usr/share/fish/vendor_completions.d/lunette.fish"), 0o644)?;
    let documents = root.join("usr/share/doc/lunette");
    for name in DOCUMENTS {
        file(&source.join(name), &documents.join(name), 0o644)?;
    }
    for name in names(&source.join("docs"))?.iter().filter(|name| name.ends_with(".md")) {
        file(&source.join("docs").join(name), &documents.join(name), 0o644)?;
    }
    for name in names(&source.join("packaging/systemd/examples"))? {
        let from = source.join("packaging/systemd/examples").join(&name);
        file(&from, &documents.join("examples").join(&name), 0o644)?;
    }
    Ok(())
}

/// Puts the files of the package of old names below another root.
pub fn old_names(dist: &Path, root: &Path) -> Result<(), String> {
    let programs = root.join("usr/sbin");
    std::fs::create_dir_all(&programs).map_err(|error| error.to_string())?;
    for (name, section) in OLD_NAMES {
        symlink("../bin/lunette", programs.join(name)).map_err(|error| error.to_string())?;
        let page = format!("{name}.{section}");
        compressed(&dist.join("man").join(&page), &root.join(format!("usr/share/man/man{section}/{page}")))?;
    }
    Ok(())
}

fn is_old(page: &str) -> bool {
    OLD_NAMES.iter().any(|(name, section)| page == format!("{name}.{section}"))
}

/// The names in a folder, in order, without folders.
pub fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let mut names: Vec<String> = files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Copies a file, with the directories above it.
pub fn file(from: &Path, to: &Path, mode: u32) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", to.display());
    std::fs::create_dir_all(to.parent().unwrap_or(to)).map_err(failed)?;
    std::fs::copy(from, to).map_err(|error| format!("{}: {error}", from.display()))?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode)).map_err(failed)
}

fn compressed(from: &Path, to: &Path) -> Result<(), String> {
    file(from, to, 0o644)?;
    super::output(Command::new("gzip").args(["-9nf"]).arg(to)).map(drop)
}

/// Without its lines of source, which are for debuggers.
fn strip(binary: &Path) {
    let _ = Command::new("strip").arg("--strip-unneeded").arg(binary).status();
}
