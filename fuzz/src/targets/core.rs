//! Words, records, grants and bundles.

use std::str::FromStr;

use bailiwick_core::bundle::{self, Files, ToolPattern};
use bailiwick_core::catalog;
use bailiwick_core::identity::{Admission, Grant};
use bailiwick_core::json::{self, Limits};
use bailiwick_core::model::{Digest, Duration, Effect, ExecutionId, Record, SpiffeId, ToolName};
use bailiwick_core::recovery::{Kept, Recovery};
use bailiwick_log::tree::Hash;
use serde_json::Value;

/// What is taken means the same once it is written again.
pub(crate) fn json(bytes: &[u8]) -> bool {
    let Ok(value) = json::parse(bytes, &Limits::default()) else { return false };
    let text = value.to_string();
    // The text may be longer, where a number was written shorter than it is printed.
    let again = json::parse(text.as_bytes(), &Limits { bytes_max: usize::MAX, ..Limits::default() });
    assert_eq!(again.as_ref(), Ok(&value), "{text}");
    true
}

/// A name that is taken is printed as it came.
pub(crate) fn names(bytes: &[u8]) -> bool {
    fn same<T: FromStr + ToString>(text: &str) -> bool {
        text.parse::<T>().is_ok_and(|name| {
            assert_eq!(name.to_string(), text);
            true
        })
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let taken = [
        same::<ToolName>(text),
        same::<ToolPattern>(text),
        same::<SpiffeId>(text),
        same::<Digest>(text),
        // These may be written in more than one way.
        text.parse::<ExecutionId>().is_ok(),
        text.parse::<Duration>().is_ok(),
    ];
    taken.contains(&true)
}

/// A record that is read and written again is read as the same.
pub(crate) fn record(bytes: &[u8]) -> bool {
    let Ok(record) = Record::read(bytes) else { return false };
    let encode = |record: &Record| serde_json::to_vec(record).ok();
    let written = encode(&record);
    let again = written.as_deref().and_then(|written| Record::read(written).ok());
    assert_eq!(again.as_ref().and_then(encode), written, "{record:?}");
    assert!(written.is_some(), "{record:?}");
    true
}

/// A kept fold, given the right last line so that what is before it is read: what it restores is kept in the same bytes.
pub(crate) fn fold(bytes: &[u8]) -> bool {
    let sealed = |text: &[u8]| [text, format!("{}\n", Digest::of(text)).as_bytes()].concat();
    let _ = Kept::read(bytes);
    let Ok(kept) = Kept::read(&sealed(bytes)) else { return false };
    let (first, next, root) = (kept.first(), kept.next(), Hash::of_nothing());
    let again = Recovery::resume(&[], kept).keep(first, next, &root);
    let kept = Kept::read(&again).map(|kept| Recovery::resume(&[], kept).keep(first, next, &root));
    assert!(kept.is_ok_and(|kept| kept == again), "{}", again.escape_ascii());
    true
}

/// Two grants apart by the first line end: what is left of the first under the second admits nothing that either does not.
pub(crate) fn grant(bytes: &[u8]) -> bool {
    let mut halves = bytes.splitn(2, |byte| *byte == b'\n');
    let mut read = || json::parse(halves.next()?, &Limits::default()).ok().and_then(|value| Grant::parse(value).ok());
    let Some(first) = read() else { return false };
    let Some(second) = read() else { return true };
    let Ok(narrowed) = first.narrow(&second) else { return true };
    let arguments: [Value; 3] =
        [serde_json::json!({}), serde_json::json!({ "amount": 5, "to": "a" }), serde_json::json!({ "amount": 1e9 })];
    for tool in ["pay/send", "crm/read", "crm/write"].iter().filter_map(|name| name.parse::<ToolName>().ok()) {
        for effect in [Effect::Read, Effect::Write, Effect::Send, Effect::Spend, Effect::Admin] {
            for arguments in &arguments {
                let admits = |grant: &Grant| !matches!(grant.admits(&tool, effect, arguments, |_| 0), Admission::None | Admission::Spent);
                if admits(&narrowed) {
                    assert!(admits(&first) && admits(&second), "{tool} {effect:?} {arguments} is admitted by {narrowed:?} alone");
                }
            }
        }
    }
    true
}

/// Files apart by a line of four bars, each beginning with its path.
pub(crate) fn bundle(bytes: &[u8]) -> bool {
    let mut files = Files::new();
    let text = String::from_utf8_lossy(bytes);
    for file in text.split("||||\n") {
        let (path, content) = file.split_once('\n').unwrap_or((file, ""));
        files.insert(path.to_owned(), content.as_bytes().to_vec());
    }
    match bundle::read(&files) {
        Ok(_) => true,
        Err(problems) => {
            assert!(!problems.is_empty(), "a bundle was refused without a reason");
            false
        }
    }
}

/// A tool's definition as a server offers it, given a digest, reviewed, and compared with itself.
pub(crate) fn definition(bytes: &[u8]) -> bool {
    let Ok(definition) = json::parse(bytes, &Limits::default()) else { return false };
    let digest = catalog::digest(&definition);
    assert_eq!(digest, catalog::digest(&definition));
    bailiwick_gateway::mcp::upstream::mirror::of_schema(definition.get("inputSchema").unwrap_or(&Value::Null)).is_ok()
}
