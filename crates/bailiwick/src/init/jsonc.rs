//! JSON as editors write it: with comments and trailing commas.

/// The same text as plain JSON: comments and trailing commas become spaces, so that every place stays where it was.
pub(super) fn plain(text: &str) -> String {
    let mut out: Vec<char> = Vec::with_capacity(text.len());
    let mut chars = text.trim_start_matches('\u{feff}').chars().peekable();
    let mut comma = None;
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) => {
                comma = None;
                out.push('"');
                while let Some(c) = chars.next() {
                    out.push(c);
                    match c {
                        '\\' => out.extend(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            ('/', Some('/')) => while chars.next_if(|c| *c != '\n').is_some() {},
            ('/', Some('*')) => {
                chars.next();
                let mut before = ' ';
                for c in chars.by_ref() {
                    if (before, c) == ('*', '/') {
                        break;
                    }
                    out.push(if c == '\n' { '\n' } else { ' ' });
                    before = c;
                }
            }
            (',', _) => {
                comma = Some(out.len());
                out.push(',');
            }
            (']' | '}', _) => {
                if let Some(comma) = comma.take().and_then(|comma| out.get_mut(comma)) {
                    *comma = ' ';
                }
                out.push(c);
            }
            (c, _) => {
                if !c.is_whitespace() {
                    comma = None;
                }
                out.push(c);
            }
        }
    }
    out.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_taken_out_and_texts_are_not_touched() {
        let text = "{ // one\n \"a\": \"http://h/,}\", /* two,\n */ \"b\\\"//\": [1, 2, ], \"c\": {},\n}";
        let value: serde_json::Value = serde_json::from_str(&plain(text)).unwrap();
        assert_eq!(value, serde_json::json!({ "a": "http://h/,}", "b\"//": [1, 2], "c": {} }));
        assert!(serde_json::from_str::<serde_json::Value>(&plain("[,]")).is_ok_and(|value| value == serde_json::json!([])));
        assert!(serde_json::from_str::<serde_json::Value>(&plain("[1,,]")).is_err());
    }
}
