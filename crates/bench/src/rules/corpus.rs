//! The events and rules that are judged and measured.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;

use crate::Result;

/// An event, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Labelled {
    /// Its text, as CloudTrail wrote it.
    pub(crate) text: String,
    /// `attack`, `benign`, `setup` or another; nothing where nobody said.
    pub(crate) label: String,
    /// The attack that it is a part of: a run, or a technique.
    pub(crate) attack: Option<String>,
}

/// Events.
#[derive(Clone, Debug)]
pub(crate) struct Corpus {
    /// What they are called.
    pub(crate) name: String,
    /// In the order of their times.
    pub(crate) events: Vec<Labelled>,
}

#[derive(Deserialize)]
struct Row {
    label: Option<String>,
    run: Option<String>,
    technique: Option<String>,
    event: Option<Value>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl Corpus {
    /// All that is kept in the repository, as one.
    pub(crate) fn shipped() -> Result<Self> {
        let events = Self::kept()?.into_iter().flat_map(|corpus| corpus.events).collect();
        Ok(Self { name: "kept".to_owned(), events })
    }

    /// Each that is kept in the repository.
    pub(crate) fn kept() -> Result<Vec<Self>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../eval/cloudtrail/corpus");
        ["invictus", "stratus"].iter().map(|name| Self::read(&folder.join(format!("{name}.jsonl.gz")))).collect()
    }

    /// The events of a file, one a line, labelled or not.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).map_err(|error| format!("`{}`: {error}", file.display()))?;
        let mut text = String::new();
        match file.extension() {
            Some(ending) if ending == "gz" => MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?,
            _ => bytes.as_slice().read_to_string(&mut text)?,
        };
        let mut events = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let row: Row = serde_json::from_str(line).map_err(|error| format!("`{}`:{}: {error}", file.display(), number + 1))?;
            let label = row.label.unwrap_or_else(|| if row.technique.is_some() { "attack".to_owned() } else { String::new() });
            let attack = row.run.or(row.technique).filter(|_| label == "attack");
            let event = row.event.unwrap_or(Value::Object(row.rest));
            let time = event.get("eventTime").and_then(Value::as_str).unwrap_or_default().to_owned();
            events.push((time, Labelled { text: event.to_string(), label, attack }));
        }
        events.sort_by(|(one, _), (other, _)| one.cmp(other));
        let name = file.file_stem().map(|name| name.to_string_lossy().trim_end_matches(".jsonl").to_owned()).unwrap_or_default();
        Ok(Self { name, events: events.into_iter().map(|(_, event)| event).collect() })
    }
}

/// The files of rules in a folder and below.
pub(crate) fn rules_in(folder: &Path) -> Result<Vec<(String, String)>> {
    let (mut files, mut folders): (Vec<PathBuf>, _) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| format!("`{}`: {error}", folder.display()))? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|ending| ending == "yml") => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    files.into_iter().map(|path| Ok((path.display().to_string(), std::fs::read_to_string(path)?))).collect()
}

/// Records of ours in the share that they have in a log: a call is an intent and an outcome, and little else is written.
pub(crate) fn records() -> Vec<String> {
    const EXECUTION: &str = "01a2133f-7502-75c9-ae35-ca48651d1289";
    let intent = |number: usize| {
        let (tool, effect) = match number % 4 {
            0 => ("crm/query_complaints", "read"),
            1 => ("tickets/list", "read"),
            2 => ("reports/create", "write"),
            _ => ("mail/send", "send"),
        };
        format!(
            r#"{{"kind":"intent","at":"2026-11-25T15:07:35.56176224Z","bundle":"sha256:542edadcf838c45a864884af1c776f7d7cff0e37e110128e05e0109ea092b407","state":4,"execution":"{EXECUTION}","sequence":{number},"agent":"agent-{}","tool":"{tool}","effect":"{effect}","protocol":"mcp","method":"tools/call","arguments_digest":"sha256:{number:064}","arguments":{{"since_days":{number},"text":"The customers of the last month wrote about deliveries that came late and invoices that were wrong."}},"facts":{{"calls":{number},"labels":{{"integrity":"trusted"}},"grant":{{"item":0,"uses":1}}}},"verdict":"allow","code":"allowed","policies":["agent:support-summarizer/may:{tool}"],"answers":{{"reasonable":{{"holds":true,"because":"item 0 of the execution's grant includes it; call 1 of the execution"}},"role":{{"holds":true,"because":"policy permits `support-summarizer` to call `{tool}`"}},"delegation":{{"holds":true,"because":"`support-summarizer` acts for itself"}},"normal":{{"holds":null,"because":"no baseline has been learned"}}}}}}"#,
            number % 50
        )
    };
    let outcome = |number: usize| {
        format!(
            r#"{{"kind":"outcome","at":"2026-11-25T15:07:35.573110891Z","intent":{number},"execution":"{EXECUTION}","sequence":{number},"agent":"agent-{}","tool":"crm/query_complaints","code":"done","bytes":24322,"duration_us":6009,"labels":{{"integrity":"untrusted","confidentiality":["customer"]}}}}"#,
            number % 50
        )
    };
    (0..200).flat_map(|number| [intent(number), outcome(number)]).collect()
}
