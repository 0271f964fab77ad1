//! The document that is served: its text, and the file that it is kept in.
//!
//! The file is replaced whole: written beside, flushed, renamed, and the directory flushed, by whoever may do that
//! ([`sandbox::replace_configuration`]). So whoever looks, and whoever comes after a crash at any point, finds the old
//! text or the new one.

use super::plan::Refused;
use crate::configuration;
use crate::failure::Failure;
use crate::sandbox;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a document is called that lies in no file.
const MEMORY: &str = "<command-line>";

/// A document with its place.
#[derive(Debug, Clone)]
pub struct Document {
    text: Arc<str>,
    /// The file, as it was named.
    path: Option<PathBuf>,
}

impl Document {
    /// A document that lives as long as the process.
    pub fn in_memory(text: &str) -> Document {
        Document { text: text.into(), path: None }
    }

    /// The document of this file, or of none, with this text.
    pub fn of(path: Option<&Path>, text: &str) -> Document {
        Document { text: text.into(), path: path.map(Path::to_owned) }
    }

    /// The document of this file.
    pub fn load(path: &Path) -> Result<Document, Failure> {
        Ok(Document { text: configuration::load(path)?.into(), path: Some(path.to_owned()) })
    }

    /// The same place with another text.
    pub fn with(&self, text: &str) -> Document {
        Document { text: text.into(), path: self.path.clone() }
    }

    /// Its text, secrets and all.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file that it is kept in.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What findings call it.
    pub fn name(&self) -> String {
        self.path.as_ref().map_or(MEMORY.to_owned(), |path| path.display().to_string())
    }

    /// What the file says now, where there is one.
    pub fn on_disk(&self) -> Option<Result<Document, Failure>> {
        self.path().map(Document::load)
    }

    /// Puts the text into the file, whole, in place of what is there: that is what the change `began` with, where it
    /// read the file, and nothing newer. A document in memory has nothing to write, and neither has one whose file
    /// says it already, which then need not be a file that can be replaced.
    pub fn keep(&self, began: Option<&str>) -> Result<(), Refused> {
        let Some(path) = self.path() else { return Ok(()) };
        let said = Document::load(path);
        if said.is_ok_and(|said| said.text == self.text) {
            return Ok(());
        }
        let may = || match (began, Document::load(path)) {
            (None, _) => true,
            (Some(began), Ok(said)) => said.text() == began,
            (Some(_), Err(_)) => false,
        };
        match sandbox::replace_configuration(path, self.text.as_bytes(), may) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refused::Conflict(format!(
                "{} was written by somebody else meanwhile, and this change would overwrite that; nothing was changed; \
                 look at the file, and try again",
                path.display()
            ))),
            Err(error) => {
                let why = format!("{}: cannot be replaced: {error}", path.display());
                Err(Refused::Failed { step: format!("write {}", self.name()), why })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::daemon::Folder;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode_and_its_link() {
        let folder = Folder::new();
        let (real, link) = (folder.path().join("real.toml"), folder.path().join("lunette.toml"));
        fs::write(&real, "# old\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        let old = Document::load(&link).unwrap();
        old.with("# new\n").keep(Some(old.text())).unwrap();
        assert_eq!(old.on_disk().unwrap().unwrap().text(), "# new\n");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let folder = Folder::new();
        let document = Document { text: "".into(), path: Some(folder.path().join("none/lunette.toml")) };
        assert!(document.keep(None).unwrap_err().to_string().contains("none/lunette.toml: cannot be replaced"));
        assert!(Document::in_memory("").keep(None).is_ok());
    }

    #[test]
    fn what_somebody_else_has_written_meanwhile_is_not_overwritten() {
        let folder = Folder::new();
        let path = folder.path().join("lunette.toml");
        fs::write(&path, "# newer\n").unwrap();
        let change = Document::of(Some(&path), "# of a change\n");
        let refused = change.keep(Some("# old\n")).unwrap_err();
        assert_eq!(refused.code(), "conflict");
        assert_eq!(fs::read_to_string(&path).unwrap(), "# newer\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        change.keep(Some("# newer\n")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# of a change\n");
        change.with("# forced\n").keep(None).unwrap();
    }

    #[test]
    fn a_file_that_says_it_already_is_left_alone() {
        let folder = Folder::new();
        let path = folder.path().join("lunette.toml");
        fs::write(&path, "# same\n").unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        Document::of(Some(&path), "# same\n").keep(Some("# old\n")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    }
}
