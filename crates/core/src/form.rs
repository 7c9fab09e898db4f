//! Writing `application/x-www-form-urlencoded`, for those who ask a token endpoint.

use zeroize::Zeroizing;

/// Writes parameters as `application/x-www-form-urlencoded` (RFC 6749 appendix B), in memory that is wiped afterwards: some are secret.
pub fn encode(parameters: &[(&str, &str)]) -> Zeroizing<String> {
    let mut form = Zeroizing::new(String::new());
    for (name, value) in parameters {
        if !form.is_empty() {
            form.push('&');
        }
        escape(name, &mut form);
        form.push('=');
        escape(value, &mut form);
    }
    form
}

/// Escapes one part of such a form at the end of `out`.
pub fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
                out.push('%');
                out.extend([byte >> 4, byte & 15].into_iter().filter_map(|half| DIGITS.get(usize::from(half))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_escaped() {
        assert_eq!(*encode(&[("a", "b c"), ("d&", "é=+*~")]), "a=b+c&d%26=%C3%A9%3D%2B*%7E");
    }
}
