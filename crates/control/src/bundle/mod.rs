//! The bundle on disk: reading its directory, and bringing a changed one into force.
//!
//! What the files mean is decided by `core::bundle`; here are the file system, its surprises, and the order in which a
//! new bundle is recorded and put into force.

mod directory;
mod watch;

pub use directory::{Directory, DirectoryError};
pub use watch::{LoadError, Loaded, Loader, Prepare, Status};
