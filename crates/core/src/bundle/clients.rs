//! Reading `[[agent.client]]`: which client of a person's is the agent, and which people may sign in by it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;

use super::fields::{Fields, shown};
use super::{Agent, Claims, Federation, Issuer, Settings, agents, schema};
use crate::identity::client::{self, ClientDocument, ClientProof, Redirect};
use crate::model::AgentName;

/// A client that people sign in by, which is then the agent.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its id: the URL of its metadata document, or the id that it was given here.
    pub id: String,
    /// What is declared of one that has no document.
    pub declared: Option<ClientDocument>,
    /// The people who may sign in by it: whose login the issuer of `approvals.login` vouches for with these claims, where of a claim
    /// that is a list one value has to be this.
    pub people: Federation,
    /// The certificate authorities that the server of its document is believed by, in this PEM file. The server may then be inside the
    /// house; at public addresses alone when absent.
    pub ca_file: Option<PathBuf>,
}

/// Reads them all.
pub(super) fn clients(agent: &Fields<'_>, issuers: &BTreeMap<String, Issuer>) -> Vec<Client> {
    agent.tables::<schema::ClientTable>("client").iter().filter_map(|table| client(table, issuers)).collect()
}

fn client(table: &Fields<'_>, issuers: &BTreeMap<String, Issuer>) -> Option<Client> {
    let id = table.required_text("id", "write the URL of the client's metadata document, or an id that the client is set up with");
    let claims: Claims = table.text_members("claims").into_iter().map(|(name, value)| (name, value.into_inner())).collect();
    if claims.is_empty() {
        let at = table.value("claims").map_or_else(|| table.span(), Spanned::span);
        let mend = "say who may sign in, such as `claims = { groups = \"support\" }`; whoever else can log in there may not";
        table.source().error(at, "`[[agent.client]]` names no claim", mend);
    }
    let issuer = table.required_text("issuer", "name the issuer of `approvals.login`, where people log in");
    let issuer = issuer.and_then(|named| agents::declared_issuer(table, &named, issuers)).map(|issuer| issuer.issuer.clone());
    let (name, ca_file) = (table.text("name"), table.text("ca_file"));
    let redirects = table.texts("redirect_uris");
    let id = id?;
    let declared = if client::is_document(id.get_ref()) {
        if let Err(fault) = client::check_id(id.get_ref()) {
            let mend = "write it as the client's maker does, like `https://app.example/client.json`";
            table.source().error(id.span(), format!("the client id `{}` {fault}", shown(id.get_ref())), mend);
        }
        for key in ["name", "redirect_uris"] {
            if let Some(value) = table.value(key) {
                table.source().error(value.span(), format!("`{key}` is what the client's document says"), "take it out");
            }
        }
        None
    } else {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if id.get_ref().len() > 64 || !id.get_ref().bytes().all(plain) {
            let mend = "write letters, digits, `-`, `_` and `.`; or the whole `https` URL of a client's metadata document";
            table.source().error(id.span(), format!("`{}` is no id of a client", shown(id.get_ref())), mend);
        }
        if let Some(value) = &ca_file {
            table.source().error(value.span(), "`ca_file` means nothing for a client without a document", "take it out");
        }
        if table.value("redirect_uris").is_none() {
            table.missing("redirect_uris", "say where its answers go, such as `redirect_uris = [\"http://127.0.0.1/callback\"]`");
        }
        Some(ClientDocument {
            name: name.map(Spanned::into_inner),
            redirects: redirects.iter().filter_map(|text| redirect(table, text)).collect(),
            proof: ClientProof::None,
        })
    };
    let people = Federation { issuer: issuer?, claims };
    Some(Client { id: id.into_inner(), declared, people, ca_file: ca_file.map(|text| PathBuf::from(text.into_inner())) })
}

fn redirect(table: &Fields<'_>, text: &Spanned<String>) -> Option<Redirect> {
    match Redirect::parse(text.get_ref()) {
        Ok(redirect) => Some(redirect),
        Err(fault) => {
            let mend = "write it like `https://app.example/callback`, or `http://127.0.0.1/callback` for a program on the person's machine";
            table.source().error(text.span(), format!("the redirect URI `{}` {fault}", shown(text.get_ref())), mend);
            None
        }
    }
}

/// Notes clients by which nobody can sign in, and those that two declarations describe in two ways; once all else is known.
pub(super) fn resolve(files: &[Fields<'_>], settings: &Settings, agents: &BTreeMap<AgentName, Agent>, issuers: &BTreeMap<String, Issuer>) {
    let login = settings.approvals.login.as_ref().and_then(|login| issuers.get(&login.issuer));
    let differs = |one: &Client| {
        let mut all = agents.values().flat_map(|agent| &agent.clients);
        all.any(|other| other.id == one.id && (other.declared != one.declared || other.ca_file != one.ca_file))
    };
    for agent in files.iter().filter_map(|file| file.table::<schema::AgentTable>("agent")) {
        for table in agent.tables::<schema::ClientTable>("client") {
            let Some(at) = table.value("id").map(Spanned::span) else { continue };
            match login {
                None => {
                    let mend = "add `listen`, and `[approvals.login]`, to `[approvals]` of `bailiwick.toml`: people log in there";
                    table.source().error(at.clone(), "nobody can sign in by this client: the bundle declares no login", mend);
                }
                Some(login) => {
                    let named = table.text("issuer");
                    if let Some(named) = named.filter(|named| *named.get_ref() != login.name && *named.get_ref() != login.issuer) {
                        let message = format!("people log in by `{}`, and nobody by `{}`", login.name, shown(named.get_ref()));
                        table.source().error(named.span(), message, format!("write `issuer = \"{}\"`", login.name));
                    }
                }
            }
            if client(&table, issuers).is_some_and(|client| differs(&client)) {
                let mend = "write the same `name`, `redirect_uris` and `ca_file` wherever the client is declared";
                table.source().error(at, "this client is declared in two ways", mend);
            }
        }
    }
}
