//! The same checks without an agent.

use std::{path::Path, sync::Arc};

use weft_model::Problem;

use crate::{build::Builder, catalog::Catalog, manifests};

/// Everything wrong with the manifests at `paths`, files or directories, taken together.
///
/// A directory is read as the agent reads it; a file is read whatever its name is.
pub fn analyze<P: AsRef<Path>>(paths: &[P]) -> Vec<Problem> {
    let mut catalog = Catalog::default();
    for path in paths.iter().map(AsRef::as_ref) {
        if path.is_dir() {
            read_directory(path, &mut catalog);
        } else {
            read_file(path, &mut catalog);
        }
    }
    let mut builder = Builder::new(Arc::default());
    let built = builder.apply(catalog.settle());
    let notices: Vec<_> = built.notices.values().flatten().cloned().collect();
    catalog.problems(notices.iter().chain(&builder.callers_outside()))
}

fn read_directory(directory: &Path, catalog: &mut Catalog) {
    match manifests::files(directory) {
        Ok(files) => files.iter().for_each(|path| read_file(path, catalog)),
        Err(error) => {
            catalog.put_unreadable(&shown(directory), format!("cannot list the directory: {error}"));
        }
    }
}

fn read_file(path: &Path, catalog: &mut Catalog) {
    catalog.put_bytes(&shown(path), std::fs::read(path));
}

fn shown(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}
