//! What people may be shown of a text that came from outside.

/// Whether a character would move a cursor, start a line, change how what follows is shown, or show nothing at all: control
/// characters, separators of lines, and the format characters (zero width, bidirectional, tags, variation selectors) by which
/// text is hidden from a reader.
pub fn hides(c: char) -> bool {
    let code = c as u32;
    c.is_control()
        || matches!(code, 0xAD | 0x34F | 0x61C | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F | 0x2028..=0x202E)
        || matches!(code, 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}

/// The first `chars_max` characters of `text`, those that [`hides`] knows escaped as in Rust (`\u{202e}`), and `…` where
/// there are more.
pub fn shown(text: &str, chars_max: usize) -> String {
    // Most texts are short and plain.
    if text.len() <= chars_max && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len().min(chars_max));
    let mut rest = text.chars();
    for c in rest.by_ref().take(chars_max) {
        match c {
            c if c.is_control() => shown.extend(c.escape_debug()),
            c if hides(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_hides_or_moves_is_shown_as_it_is() {
        for (text, expected) in [
            ("plain, Zoë 東京 \"x\" \\\\", "plain, Zoë 東京 \"x\" \\\\"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2J\u{9b}31m\u{7f}\0", "\\u{1b}[2J\\u{9b}31m\\u{7f}\\0"),
            ("safe\u{202e}evil\u{2066}\u{200b}\u{feff}", "safe\\u{202e}evil\\u{2066}\\u{200b}\\u{feff}"),
            ("line\u{2028}line\u{85}", "line\\u{2028}line\\u{85}"),
            ("\u{e0041}\u{fe01}\u{e0101}", "\\u{e0041}\\u{fe01}\\u{e0101}"),
        ] {
            assert_eq!(shown(text, 100), expected);
        }
        assert_eq!(shown("abcd", 3), "abc…");
        let every = (0..=u32::from(char::MAX)).filter_map(char::from_u32).filter(|c| hides(*c)).collect::<String>();
        assert!(!shown(&every, usize::MAX).chars().any(hides));
    }
}
