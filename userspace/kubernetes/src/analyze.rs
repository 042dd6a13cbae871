//! The same checks without an agent.

use std::{fs, path::Path, sync::Arc};

use weft_model::Problem;

use crate::{
    build::Builder,
    manifests::{Catalog, is_manifest},
};

/// Everything wrong with the manifests at `paths`, files or directories, taken together.
pub fn analyze<P: AsRef<Path>>(paths: &[P]) -> Vec<Problem> {
    let mut catalog = Catalog::default();
    for path in paths {
        read(path.as_ref(), DEPTH, &mut catalog);
    }
    let mut builder = Builder::new(Arc::default());
    let built = builder.apply(catalog.settle());
    catalog.problems(built.notices.values().flatten())
}

/// A directory and what is directly below, as the agent reads it.
const DEPTH: u32 = 2;

fn read(path: &Path, depth: u32, catalog: &mut Catalog) {
    let name: Arc<str> = path.display().to_string().into();
    if path.is_dir() {
        match fs::read_dir(path) {
            Ok(entries) => {
                let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
                paths.sort();
                let wanted = |path: &&std::path::PathBuf| (path.is_dir() && depth > 1) || is_manifest(path);
                paths.iter().filter(wanted).for_each(|path| read(path, depth - 1, catalog));
            }
            Err(error) => catalog.put_unreadable(&name, format!("cannot list the directory: {error}")),
        }
        return;
    }
    match fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => catalog.put(&name, &text),
        Ok(Err(_)) => catalog.put_unreadable(&name, "the file is not UTF-8 text".into()),
        Err(error) => catalog.put_unreadable(&name, format!("cannot read the file: {error}")),
    }
}
