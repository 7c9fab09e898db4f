//! Reading `[approvals]` of `bailiwick.toml`: how people are reached, and how they prove who they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;

use super::fields::Fields;
use super::{Approvals, Approver, Claims, Issuer, Login, Webhook, issuers, schema, settings};
use crate::model::Duration;

/// The scopes that a login asks for unless the bundle says otherwise.
const SCOPES: [&str; 3] = ["openid", "profile", "email"];

/// Reads the table; without one, people answer over the admin socket alone.
pub(super) fn approvals(file: &Fields<'_>) -> Approvals {
    let Some(table) = file.table::<schema::ApprovalsTable>("approvals") else { return Approvals::default() };
    let listen = table.value("listen").map(|_| settings::listener(&table, "approvals", 8482));
    let login = table.table::<schema::LoginTable>("login").and_then(|table| login(&table));
    match (table.value("listen"), table.value("login")) {
        (Some(listen), None) => {
            let message = "`approvals` listens, and nobody could prove who they are there";
            table.source().error(listen.span(), message, "add `[approvals.login]` with `issuer`, `client_id` and `claims`");
        }
        (None, Some(login)) => {
            let message = "`approvals.login` says how people log in, and `approvals` does not listen";
            table.source().error(login.span(), message, "add `listen = \"127.0.0.1:8482\"` under `[approvals]`");
        }
        _ => {}
    }
    for key in ["origin", "tls"] {
        if let (Some(value), None) = (table.value(key), table.value("listen")) {
            let mend = "add `listen = \"127.0.0.1:8482\"`, or take it away";
            table.source().error(value.span(), format!("`approvals.{key}` is of no use without `listen`"), mend);
        }
    }
    let webhook = table.table::<schema::WebhookTable>("webhook").and_then(|table| webhook(&table));
    let default = Approvals::default();
    let time = |key, default: Duration, zero: bool| {
        let Some(time) = table.parsed::<Duration>(key, "write a whole number and a unit, such as `15m`") else { return default };
        if !zero && time.get_ref().std().is_zero() {
            table.source().error(time.span(), format!("`approvals.{key}` is no time at all"), "write at least `1s`");
        }
        time.into_inner()
    };
    let approver = table.choice("approver", &[("anyone", Approver::Anyone), ("not-subject", Approver::NotSubject)]);
    let asks_max = table.number("asks_max", 1..=256).and_then(|number| usize::try_from(number.into_inner()).ok());
    Approvals {
        listen,
        login,
        webhook,
        expires: time("expires", default.expires, false),
        valid: time("valid", default.valid, false),
        asks_max: asks_max.unwrap_or(default.asks_max),
        hold: time("hold", default.hold, true),
        approver: approver.map_or(default.approver, Spanned::into_inner),
    }
}

fn login(table: &Fields<'_>) -> Option<Login> {
    let issuer = table.required_text("issuer", "name an issuer of `issuers.toml`");
    let client_id = table.required_text("client_id", "write the id under which the issuer knows Bailiwick");
    let secret_file = table.text("secret_file");
    if let Some(secret) = &secret_file {
        let mend = "register a public client at the login service, which PKCE protects, and take `secret_file` out";
        table.source().warning(secret.span(), "a secret that somebody has to keep and change stands for this page", mend);
    }
    let secret_file = secret_file.map(|text| PathBuf::from(text.into_inner()));
    let claims: Claims = table.text_members("claims").into_iter().map(|(name, value)| (name, value.into_inner())).collect();
    if claims.is_empty() {
        let mend = "say who may answer, such as `claims = { groups = \"approvers\" }`; whoever else can log in there may not";
        let at = table.value("claims").map_or_else(|| table.span(), Spanned::span);
        table.source().error(at, "`approvals.login` names no claim", mend);
    }
    let mut scopes: Vec<String> = table.texts("scopes").into_iter().map(Spanned::into_inner).collect();
    if table.value("scopes").is_none() {
        scopes = SCOPES.map(str::to_owned).to_vec();
    } else if !scopes.iter().any(|scope| scope == "openid") {
        scopes.insert(0, "openid".to_owned());
    }
    Some(Login { issuer: issuer?.into_inner(), client_id: client_id?.into_inner(), secret_file, scopes, claims })
}

pub(super) fn webhook(table: &Fields<'_>) -> Option<Webhook> {
    let url = table.required_text("url", "write where it is to be told, such as `https://chat.acme.example/hooks/approvals`");
    if let Some(url) = &url {
        issuers::check_url(table.source(), url, "the webhook");
    }
    let secret_file = table.required_text("secret_file", "name the file that holds the secret it is signed with, `whsec_…`");
    Some(Webhook { url: url?.into_inner(), secret_file: PathBuf::from(secret_file?.into_inner()) })
}

/// Resolves the issuer of the login, by its name or its URL, once all issuers are known.
pub(super) fn resolve(file: &Fields<'_>, approvals: &mut Approvals, issuers: &BTreeMap<String, Issuer>) {
    let Some(login) = &mut approvals.login else { return };
    if let Some(found) = issuers.values().find(|issuer| issuer.name == login.issuer || issuer.issuer == login.issuer) {
        login.issuer.clone_from(&found.name);
        return;
    }
    let place = file.value("approvals").and_then(|table| table.get_ref().get("login")).and_then(|table| table.get_ref().get("issuer"));
    let near = super::problem::suggest(&login.issuer, issuers.keys().map(String::as_str));
    let message = format!("no issuer `{}` is declared", super::fields::shown(&login.issuer));
    file.source().error(place.map_or_else(|| file.span(), Spanned::span), message, near);
}
