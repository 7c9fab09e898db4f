//! `bailiwick log import`: what others recorded, judged by the same rules and joined to executions.

mod guardduty;
mod progress;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bailiwick_core::detect::cloudtrail::digest::{Keys, Verified};
use bailiwick_core::detect::cloudtrail::{Sessions, Trail};
use bailiwick_core::detect::finding::{Noted, Response, asff, guardduty, ocsf};
use bailiwick_core::detect::rules::Source;
use bailiwick_core::detect::{Finding, Findings};
use bailiwick_core::model::{Clock as _, Record};
use bailiwick_log::Position;
use clap::{Args, Subcommand, ValueEnum};
use miette::{IntoDiagnostic as _, miette};
use serde_json::{Value, json};

use self::guardduty::GuardDutyFiles;
use self::progress::Progress;
use crate::cloudtrail::{Done, Files, verified_lines};
use crate::findings::send;
use crate::machine::MachineClock;
use crate::problems::counted;
use crate::records::Records;
use crate::rules::{RuleArgs, walk};
use crate::s3::{Bucket, Place};
use crate::show::{self, Paint, complain, safe, say};

/// Arguments of `log import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// AWS CloudTrail's files.
    Cloudtrail(CloudTrail),
    /// What Amazon GuardDuty found.
    Guardduty(GuardDutyFiles),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Files end in .json, .jsonl or either with .gz. With files of digests among them (CloudTrail-Digest/) and the keys that
`aws cloudtrail list-public-keys` prints, the chain is verified.
From S3 they are read with the credentials that AWS' own tools would use, and nothing is written there.
Examples:
  bailiwick log import cloudtrail trail/ --public-keys keys.json
  bailiwick log import cloudtrail s3://acme-trail/AWSLogs/111122223333/ --resume trail.progress --record"
)]
struct CloudTrail {
    /// A file, a directory with all that is in it, or `s3://bucket/prefix`.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The region of the bucket [default: AWS_REGION].
    #[arg(long)]
    region: Option<String>,
    /// Where S3 is, in place of AWS' own [default: AWS_ENDPOINT_URL_S3].
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Of a bucket: go on behind the last object that this file names, and name there how far it was read.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    /// A role of the agents, by its ARN: a call with it that is of no execution is a finding. Roles that are assumed with a token for
    /// an agent of the trust domain are known without this.
    #[arg(long = "role", value_name = "ARN")]
    roles: Vec<String>,
    /// What `aws cloudtrail list-public-keys` prints, to verify the digests with.
    #[arg(long, value_name = "FILE")]
    public_keys: Option<PathBuf>,
    /// How findings are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print JSON: the same as `--format json`.
    #[arg(long)]
    json: bool,
    /// Send what is found to the running server, which records it with its own; what it knows already is not recorded again.
    #[arg(long)]
    record: bool,
    /// Print findings too that ask for nothing.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    records: Records,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object, with what was read.
    Json,
    /// OCSF Detection Findings, one a line.
    Ocsf,
    /// EventBridge events in the shape of GuardDuty's, one a line.
    Guardduty,
    /// AWS Security Finding Format, one a line.
    Asff,
}

impl Import {
    /// Does what the subcommand says.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        match self.from {
            From::Cloudtrail(command) => command.run().await,
            From::Guardduty(command) => command.run().await,
        }
    }
}

/// The executions that may have had a session in AWS, with these roles beside those that are seen to be ours, and whether there is a
/// log to know them from.
fn sessions(records: &Records, roles: &[String]) -> miette::Result<(Sessions, bool)> {
    const AT_ONCE: usize = 4_096;
    let mut reader = match records.reader() {
        Ok(reader) => reader,
        Err(_) if roles.is_empty() => return Ok((Sessions::default(), false)),
        Err(why) => return Err(why),
    };
    let mut sessions = Sessions::of(roles.iter().cloned(), records.trust_domain().as_deref());
    let mut next = 0_u64;
    loop {
        let entries = reader.read(Position(next), AT_ONCE).into_diagnostic()?;
        if entries.is_empty() {
            return Ok((sessions, true));
        }
        next = next.saturating_add(entries.len() as u64);
        entries.iter().filter_map(|entry| Record::read(entry).ok()).for_each(|record| sessions.learn(&record));
    }
}

/// Sends findings to the server that runs on the bundle, and says what became of them.
pub(super) async fn record(by: &str, findings: &[Finding], records: &Records) -> miette::Result<()> {
    let (recorded, known) = send(&records.data()?, by, findings).await?;
    complain!("{} recorded; the server knew {known}", counted(recorded, "finding"));
    Ok(())
}

/// What came of everything.
struct Report {
    /// The closed findings, and then the open ones.
    findings: Vec<Finding>,
    files: Vec<(String, Done)>,
    verified: Option<Verified>,
    is_joined: bool,
}

/// How the names of files end that are read.
const ENDINGS: [&str; 4] = ["json", "json.gz", "jsonl", "jsonl.gz"];

impl CloudTrail {
    async fn run(self) -> miette::Result<ExitCode> {
        let (pack, problems) = self.rules.read(self.records.bundle())?;
        let (rules, uncompiled) = pack.about(Source::CloudTrail);
        problems.iter().chain(&uncompiled).for_each(|problem| complain!("a rule was left out: {problem}"));
        let (sessions, is_joined) = sessions(&self.records, &self.roles)?;
        let keys = self.keys()?;
        let mut trail = Trail::new(Arc::new(rules), sessions);
        let mut findings = Findings::new();
        let mut closed = Vec::new();
        let mut note = |finding: Finding| {
            closed.extend(findings.note(finding).into_iter().filter_map(|noted| match noted {
                Noted::Closed(finding) => Some(finding),
                Noted::New(_) | Noted::More(_) | Noted::Grown(_) => None,
            }));
        };
        let mut reader = Files::new(&mut trail);
        let mut files = Vec::new();
        match Place::of(&self.path.to_string_lossy()) {
            Some(place) => self.read_bucket(&place?, &mut reader, &mut note, &mut files)?,
            None => {
                for path in walk(&self.path, &ENDINGS)? {
                    let done = reader.read(&path, &mut note);
                    files.push((path.display().to_string(), done));
                }
            }
        }
        let verified = keys.filter(|_| !reader.digests().is_empty()).map(|keys| reader.digests().verify(&keys));
        if let Some(verified) = &verified {
            verified.findings(MachineClock.now()).into_iter().for_each(&mut note);
        }
        trail.finish().into_iter().for_each(&mut note);
        closed.extend(findings.open().cloned());
        let mut report = Report { findings: closed, files, verified, is_joined };
        report.findings.retain(|finding| self.all || finding.detector.response > Response::Record);
        report.findings.sort_by(|one, other| other.severity().total_cmp(&one.severity()).then_with(|| one.first.cmp(&other.first)));
        report.print(if self.json { Format::Json } else { self.format }, &trail);
        if self.record {
            record("cloudtrail", &report.findings, &self.records).await?;
        }
        Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Reads the objects under a prefix in the order of their keys, which is that of time for each region.
    fn read_bucket(
        &self,
        place: &Place,
        reader: &mut Files<'_>,
        note: &mut dyn FnMut(Finding),
        files: &mut Vec<(String, Done)>,
    ) -> miette::Result<()> {
        let mut bucket = Bucket::open(&place.bucket, self.region.clone(), self.endpoint_url.as_deref())?;
        let mut progress = Progress::open(self.resume.as_deref(), place)?;
        let after = progress.after.clone();
        let shown = std::io::stderr().is_terminal();
        bucket.list(&place.prefix, &after, |bucket, key, size| {
            if ENDINGS.iter().any(|ending| key.ends_with(&format!(".{ending}"))) {
                let object = bucket.object(key)?;
                let signature = object.metadata.iter().find(|(name, _)| name == "signature").map(|(_, signature)| signature.clone());
                let done = reader.take(key, object, signature.as_deref(), note);
                progress.read(size);
                files.push((format!("s3://{}/{key}", place.bucket), done));
                if shown {
                    progress.show();
                }
            }
            progress.is_at(key)
        })?;
        progress.finish(shown)
    }

    fn keys(&self) -> miette::Result<Option<Keys>> {
        let Some(file) = &self.public_keys else { return Ok(None) };
        let text = std::fs::read_to_string(file).map_err(|error| miette!("`{}`: {error}", file.display()))?;
        Keys::read(&text).map(Some).map_err(|why| miette!("`{}`: {why}", file.display()))
    }
}

impl Report {
    /// Whether everything could be read, and is what was delivered.
    fn is_whole(&self) -> bool {
        self.files.iter().all(|(_, done)| done.wrong.is_empty()) && self.verified.as_ref().is_none_or(|verified| verified.broken.is_empty())
    }

    fn print(&self, format: Format, trail: &Trail) {
        match format {
            Format::Json => show::json(&self.as_json(trail)),
            Format::Text => self.print_text(trail),
            lines => print_lines(lines, &self.findings),
        }
        if format != Format::Text && format != Format::Json {
            self.complaints().iter().for_each(|why| complain!("{why}"));
        }
    }

    fn complaints(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (name, done) in &self.files {
            all.extend(done.wrong.iter().map(|why| format!("`{}`: {}", safe(name, 300), safe(why, 500))));
            if done.more_wrong > 0 {
                all.push(format!("`{}`: and {} more", safe(name, 300), done.more_wrong));
            }
        }
        all
    }

    fn print_text(&self, trail: &Trail) {
        let paint = Paint::stdout();
        self.findings.iter().for_each(print_finding);
        let seen = trail.seen();
        let (rules, correlations) = trail.rules();
        say!(
            "{} in {}, {} and {}: {}",
            counted(seen.events as usize, "event"),
            counted(self.files.len(), "file"),
            counted(rules, "rule"),
            counted(correlations, "correlation"),
            counted(self.findings.len(), "finding")
        );
        for (count, what) in [
            (seen.duplicates, "came twice and count once"),
            (seen.unknown_versions, "are of a version of the format that is not known here, and were read like the others"),
            (seen.without_time, "with a finding have no time that can be read"),
        ] {
            if count > 0 {
                say!("{} {what}", counted(count as usize, "event"));
            }
        }
        match (self.is_joined, trail.sessions().roles()) {
            (false, _) => say!("there is no log here, so that nothing was joined to executions; name the bundle with --dir"),
            (true, 0) => say!("no role is known as the agents'; name them with --role"),
            (true, roles) => say!("{} and {} were joined", counted(roles, "role"), counted(trail.sessions().executions(), "execution")),
        }
        for line in self.verified.iter().flat_map(verified_lines) {
            say!("{}", safe(&line, 600));
        }
        let complaints = self.complaints();
        complaints.iter().for_each(|why| complain!("{}  {why}", paint.red("NOT READ")));
    }

    fn as_json(&self, trail: &Trail) -> Value {
        let seen = trail.seen();
        json!({
            "events": seen.events,
            "duplicates": seen.duplicates,
            "unknown_versions": seen.unknown_versions,
            "without_time": seen.without_time,
            "joined": self.is_joined,
            "findings": self.findings.iter().map(finding_json).collect::<Vec<_>>(),
            "files": self.files.iter().map(|(name, done)| json!({ "name": name, "events": done.events, "wrong": done.wrong, "more_wrong": done.more_wrong })).collect::<Vec<_>>(),
            "digests": self.verified.as_ref().map(|verified| json!({
                "signed": verified.signed, "unsigned": verified.unsigned, "files": verified.files,
                "uncovered": verified.uncovered, "broken": verified.broken,
            })),
        })
    }
}

/// Findings, one a line, in the form of others.
fn print_lines(format: Format, findings: &[Finding]) {
    for finding in findings {
        let shaped = match format {
            Format::Ocsf => ocsf(finding, true, env!("CARGO_PKG_VERSION")),
            Format::Guardduty => guardduty(finding),
            Format::Asff => {
                let cloud = finding.about.cloud.clone().unwrap_or_default();
                asff(finding, &cloud.account, &cloud.region)
            }
            Format::Text | Format::Json => finding_json(finding),
        };
        show::out(&shaped.to_string());
    }
}

/// A finding, for people.
fn print_finding(finding: &Finding) {
    let detector = &finding.detector;
    let times = if finding.count > 1 { format!("  {}×", finding.count) } else { String::new() };
    let name = detector.catalogue.as_ref().map(|name| format!("  {name}")).unwrap_or_default();
    say!("{:<8} {:>4}  {}{name}{times}", finding.level().as_str(), finding.severity(), safe(&detector.title, 120));
    say!("    seen      {}", safe(&finding.seen, 400));
    say!("    expected  {}", safe(&finding.expected, 400));
    let ours = finding.about.execution.map(|execution| format!(", execution {execution}")).unwrap_or_default();
    say!("    when      {} to {}{ours}", show::time(finding.first), show::time(finding.last));
    let like = detector.guardduty.as_ref().map(|name| format!("; resembles {name}")).unwrap_or_default();
    say!("    answer    {}{like}", detector.response.as_str());
    for evidence in finding.evidence.iter().take(3) {
        say!("    {}  {}", show::time(evidence.at), safe(&format!("{:?}", evidence.proof), 120));
    }
    if finding.evidence.len() > 3 {
        say!("    and {} more", finding.evidence.len() - 3);
    }
    say!("");
}

fn finding_json(finding: &Finding) -> Value {
    let mut value = serde_json::to_value(finding).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.insert("severity".to_owned(), json!(finding.severity()));
        members.insert("level".to_owned(), json!(finding.level().as_str()));
    }
    value
}
