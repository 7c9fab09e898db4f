//! Where a bundle and its data are, for commands that look at them.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

/// Which bundle is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct House {
    /// The bundle's directory.
    #[arg(long = "dir", short = 'C', value_name = "DIR", env = "BAILIWICK_DIR", default_value = ".")]
    bundle: PathBuf,
}

impl House {
    /// The bundle in `directory`.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { bundle: directory.to_owned() }
    }

    /// The bundle's directory.
    pub(crate) fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// The trust domain, as `bailiwick.toml` says; none where there is no bundle.
    pub(crate) fn trust_domain(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Settings {
            trust_domain: String,
        }
        let text = std::fs::read_to_string(self.bundle.join("bailiwick.toml")).ok()?;
        toml::from_str::<Settings>(&text).ok().map(|settings| settings.trust_domain)
    }

    /// The directory of the log, the keys and the index, as `bailiwick.toml` says. The rest of the bundle may be broken.
    pub(crate) fn data(&self) -> miette::Result<PathBuf> {
        #[derive(Deserialize)]
        struct Settings {
            #[serde(default = "default")]
            data_dir: PathBuf,
        }
        fn default() -> PathBuf {
            ".bailiwick".into()
        }
        let file = self.bundle.join("bailiwick.toml");
        let text = std::fs::read_to_string(&file).map_err(|error| {
            miette::miette!(
                help = "name the bundle's directory with `--dir`, or make one with `bailiwick init`",
                "no bundle in `{}`: {error}",
                self.bundle.display()
            )
        })?;
        let settings: Settings = toml::from_str(&text)
            .map_err(|error| miette::miette!(help = "`bailiwick check` explains it", "`{}`: {}", file.display(), error.message()))?;
        Ok(self.bundle.join(settings.data_dir))
    }
}
