//! Files of detection rules, for commands that use them.

use std::path::{Path, PathBuf};

use bailiwick_control::bundle::Directory;
use bailiwick_core::bundle::{self, Bundle};
use bailiwick_core::detect::rules::{Pack, Problem};
use clap::Args;
use miette::miette;

/// The largest file of rules.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// How many files of rules are read at most.
const FILES_MAX: usize = 20_000;

/// Which rules are meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct RuleArgs {
    /// More rules: a file, or a directory with all that is in it. Sigma rules of others run as they are.
    #[arg(long = "rules", value_name = "PATH")]
    more: Vec<PathBuf>,
    /// Leave out the rules that come with the program, and those of the bundle.
    #[arg(long, requires = "more")]
    without_shipped: bool,
}

/// The rules that the bundle in `directory` runs on; the shipped ones where there is no bundle.
pub(crate) fn of_bundle(directory: &Path) -> miette::Result<Pack> {
    if !directory.join("bailiwick.toml").exists() {
        return Ok(Pack::shipped().clone());
    }
    let files = Directory::new(directory).read().map_err(|error| miette!("{error}"))?;
    match bundle::read(&files) {
        Ok(Bundle { snapshot, .. }) => Ok(Pack::clone(&snapshot.rules)),
        Err(_) => Err(miette!(help = "`bailiwick check` explains them", "the bundle in `{}` has mistakes", directory.display())),
    }
}

impl RuleArgs {
    /// The rules of these files and no others.
    pub(crate) fn of(more: Vec<PathBuf>) -> Self {
        Self { without_shipped: !more.is_empty(), more }
    }

    /// The rules of the bundle in `directory` with these, and what is wrong with some.
    pub(crate) fn read(&self, directory: &Path) -> miette::Result<(Pack, Vec<Problem>)> {
        let base = if self.without_shipped { Pack::default() } else { of_bundle(directory)? };
        let mut files: Vec<(String, String)> = Vec::new();
        for path in &self.more {
            let found = walk(path, &["yml", "yaml"])?;
            if found.is_empty() {
                return Err(miette!("there is no rule in `{}`: they are files that end in `.yml`", path.display()));
            }
            for path in found {
                let name = path.display().to_string();
                let wrong = |error: std::io::Error| miette!("`{name}`: {error}");
                if std::fs::metadata(&path).map_err(wrong)?.len() > FILE_BYTES_MAX {
                    return Err(miette!("`{name}` is larger than {FILE_BYTES_MAX} bytes, which no file of rules is"));
                }
                let text = std::fs::read_to_string(&path).map_err(wrong)?;
                files.push((name, text));
            }
        }
        let (own, mut problems) = Pack::read(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        let (pack, clashes) = base.with(own);
        problems.extend(clashes);
        Ok((pack, problems))
    }
}

/// The files under `path`, or `path` itself, whose names end so; in the order of their names. Links are not followed into directories.
pub(crate) fn walk(path: &Path, endings: &[&str]) -> miette::Result<Vec<PathBuf>> {
    let wrong = |path: &Path, error: std::io::Error| miette!("`{}`: {error}", path.display());
    if !std::fs::metadata(path).map_err(|error| wrong(path, error))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut files, mut folders) = (Vec::new(), vec![path.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| wrong(&folder, error))? {
            let entry = entry.map_err(|error| wrong(&folder, error))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| wrong(&path, error))?;
            let ends_so = endings.iter().any(|ending| path.to_string_lossy().ends_with(&format!(".{ending}")));
            if kind.is_dir() {
                folders.push(path);
            } else if ends_so {
                files.push(path);
            }
        }
        if files.len() > FILES_MAX && endings.contains(&"yml") {
            return Err(miette!("there are more than {FILES_MAX} files under `{}`", path.display()));
        }
    }
    files.sort();
    Ok(files)
}
