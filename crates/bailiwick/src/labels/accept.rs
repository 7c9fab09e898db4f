//! Writing an accepted proposal into a server's file, with everything else in it left as it is.

use bailiwick_core::flow::Provenance;
use miette::miette;
use toml_edit::{Array, DocumentMut, Item, TableLike, Value};

use super::{Change, Proposal};

/// The text of a server's file with the proposal in it. Fails where the file is not as it has to be for that.
pub(crate) fn accept(text: &str, proposal: &Proposal) -> miette::Result<String> {
    let mut file: DocumentMut = text.parse().map_err(|error| miette!("the file is not TOML: {error}"))?;
    let tool = proposal.tool.tool();
    match &proposal.change {
        Change::Known { party } => push(table(file.as_table_mut(), "server")?, "known", party)?,
        Change::Minted { field } => push(table(table(table(file.as_table_mut(), "tools")?, tool)?, "returns")?, "minted", field)?,
        Change::Narrow { argument, to } => {
            let targets = table(table(table(file.as_table_mut(), "tools")?, tool)?, "targets")?;
            let pointer = format!("/{argument}");
            let key = if targets.contains_key(&pointer) { pointer.as_str() } else { argument.as_str() };
            let words: Array = to.iter().copied().map(Provenance::as_str).collect();
            targets.insert(key, Item::Value(Value::Array(words)));
        }
    }
    Ok(file.to_string())
}

fn table<'a>(parent: &'a mut dyn TableLike, key: &str) -> miette::Result<&'a mut dyn TableLike> {
    let item = parent.entry(key).or_insert_with(|| Item::Value(Value::InlineTable(toml_edit::InlineTable::new())));
    item.as_table_like_mut().ok_or_else(|| miette!("`{key}` of the file is no table"))
}

fn push(parent: &mut dyn TableLike, key: &str, text: &str) -> miette::Result<()> {
    let item = parent.entry(key).or_insert_with(|| Item::Value(Value::Array(Array::new())));
    let array = item.as_array_mut().ok_or_else(|| miette!("`{key}` of the file is no list"))?;
    if !array.iter().any(|known| known.as_str() == Some(text)) {
        array.push(text);
    }
    Ok(())
}
