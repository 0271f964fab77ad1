//! Whose text is printed.

/// A version of tgt, whose text is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// That of CentOS 6, which people's how-tos show.
    V1_0_24,
    /// That of Debian 12.
    #[default]
    V1_0_85,
}

impl Manner {
    /// The manner of this version.
    pub fn named(version: &str) -> Option<Manner> {
        [Manner::V1_0_24, Manner::V1_0_85].into_iter().find(|manner| manner.version() == version)
    }

    /// The version.
    pub fn version(self) -> &'static str {
        match self {
            Manner::V1_0_24 => "1.0.24",
            Manner::V1_0_85 => "1.0.85",
        }
    }
}
