//! Where an authority's parts are kept, and how whoever works on them gets at them.

use std::{fmt, path::PathBuf, sync::Arc};

use zeroize::Zeroizing;

use super::CaError;

/// A part of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The root's key and certificate.
    Root,
    /// The issuer's.
    Issuer,
    /// The roots that are trusted.
    Roots,
}

/// Where an authority is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// In a directory that `weft ca` makes.
    Directory(PathBuf),
    /// In a Secret, `namespace/name`, that controllers make.
    Secret(Arc<str>),
    /// In a Secret, `namespace/name`, that somebody else makes.
    Brought(Arc<str>),
}

/// One part of one authority, as people are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose.
    pub keeping: Keeping,
    /// The name of the file, or the key of the Secret.
    pub name: &'static str,
}

/// What keeps an authority. Reading and writing are of whole parts.
pub(super) trait Shelf {
    /// Where it is.
    fn keeping(&self) -> Keeping;

    /// A part as it is now; [`CaError::Missing`] where it is not there.
    fn read(&self, part: Part) -> Result<Zeroizing<String>, CaError>;

    /// Replaces a part in one step.
    fn write(&mut self, part: Part, text: &str) -> Result<(), CaError>;

    /// How people are told of a part.
    fn place(&self, part: Part) -> Place {
        Place { keeping: self.keeping(), name: part.file() }
    }
}

impl Part {
    /// The name of its file, or of its key in a Secret.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Root => "root.pem",
            Self::Issuer => "issuer.pem",
            Self::Roots => "roots.pem",
        }
    }

    /// How it is called in a sentence.
    pub(super) const fn noun(self) -> &'static str {
        match self {
            Self::Root | Self::Roots => "root",
            Self::Issuer => "issuer",
        }
    }
}

impl Keeping {
    /// The command that does `what` to it, like `issuer` or `root --finish`; where no command does, what to do.
    pub fn rotate(&self, what: &str) -> String {
        match self {
            Self::Directory(dir) => format!("weft ca rotate --dir {} {what}", dir.display()),
            Self::Secret(name) => format!("weft ca rotate --secret {name} {what}"),
            Self::Brought(name) => format!("correct the Secret {name}: who brings an authority rotates it"),
        }
    }

    /// What becomes of a part that is of no use any more.
    pub(super) fn anew(&self, what: &str) -> String {
        match self {
            Self::Directory(_) | Self::Secret(_) if what == Part::Issuer.noun() => {
                format!("{} makes it anew", self.rotate("issuer"))
            }
            Self::Directory(_) => {
                "restore the file, or make an authority in another directory: weft ca init".to_owned()
            }
            Self::Secret(name) => format!(
                "restore the Secret; without {name} controllers make a new authority, which cuts off every workload of \
                 the old one"
            ),
            Self::Brought(name) => format!("correct the Secret {name}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.keeping {
            Keeping::Directory(dir) => dir.join(self.name).display().fmt(f),
            Keeping::Secret(name) | Keeping::Brought(name) => write!(f, "Secret {name}: {}", self.name),
        }
    }
}
