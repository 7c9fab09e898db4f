//! Secrets in files that the bundle names: read when they are needed, from files that nobody else may read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// The text of a secret file, without the white space around it. `file` is absolute, or relative to the bundle in `base`.
pub(crate) async fn read(base: &Path, file: &Path) -> Result<Zeroizing<String>, String> {
    let path = base.join(file);
    let shown = file.display();
    let unreadable = |error: std::io::Error| format!("the secret file `{shown}` cannot be read: {error}");
    let mode = tokio::fs::metadata(&path).await.map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!("the secret file `{shown}` can be read by others; run `chmod 600` on it"));
    }
    let text = Zeroizing::new(tokio::fs::read_to_string(&path).await.map_err(unreadable)?);
    match text.trim() {
        "" => Err(format!("the secret file `{shown}` is empty")),
        secret => Ok(Zeroizing::new(secret.to_owned())),
    }
}
