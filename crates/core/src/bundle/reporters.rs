//! Reading `[[reporter]]` of `issuers.toml`: others who detect, and send us what they found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::fields::{Fields, shown};
use super::issuers::file_of;
use super::schema;

/// Somebody else who detects, and sends us what was found: Amazon GuardDuty, by EventBridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// Its name, which is the end of the address that it sends to.
    pub name: String,
    /// The file with what its requests must have in their `Authorization` header.
    pub authorization_file: PathBuf,
    /// The accounts whose findings are taken; of every one where none is named.
    pub accounts: Vec<String>,
    /// The roles of our agents, by their ARNs: what is found about a session of one is of the execution, or the agent, that names it.
    pub roles: Vec<String>,
}

/// Reads the reporters.
pub(super) fn reporters(file: &Fields<'_>) -> BTreeMap<String, Reporter> {
    let mut all = BTreeMap::new();
    for table in file.tables::<schema::ReporterTable>("reporter") {
        let name = table.required_text("name", "give it a name, such as `guardduty`").filter(|name| {
            let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            let valid = (1..=64).contains(&name.get_ref().len()) && name.get_ref().bytes().all(is_name);
            if !valid {
                let message = format!("a reporter cannot be called `{}`", shown(name.get_ref()));
                table.source().error(name.span(), message, "use lower-case letters, digits and `-`, at most 64 of them");
            }
            valid
        });
        if table.value("authorization_file").is_none() {
            table.missing("authorization_file", "name the file with what its requests have in their `Authorization` header");
        }
        for account in table.texts("accounts") {
            if account.get_ref().len() != 12 || !account.get_ref().bytes().all(|byte| byte.is_ascii_digit()) {
                let message = format!("`{}` is no account of AWS", shown(account.get_ref()));
                table.source().error(account.span(), message, "write its twelve digits, as a text");
            }
        }
        for role in table.texts("roles") {
            if !role.get_ref().starts_with("arn:") || !role.get_ref().contains(":role/") {
                let message = format!("`{}` is no role of AWS", shown(role.get_ref()));
                table.source().error(role.span(), message, "write its ARN, such as `arn:aws:iam::111122223333:role/reports`");
            }
        }
        let texts = |key| table.texts(key).into_iter().map(toml::Spanned::into_inner).collect();
        let (Some(name), Some(authorization_file)) = (name, file_of(&table, "authorization_file")) else { continue };
        let (name, at) = (name.get_ref().clone(), name.span());
        let reporter = Reporter { name: name.clone(), authorization_file, accounts: texts("accounts"), roles: texts("roles") };
        if all.insert(name.clone(), reporter).is_some() {
            table.source().error(at, format!("the reporter `{name}` is declared twice"), "give each reporter a name of its own");
        }
    }
    all
}
