//! Words that can be written in several ways: addresses, numbers, dates, account and telephone numbers. Each has one form,
//! which begins with its kind and a colon, so that it is like no word of another kind.

use super::{Parts, fold};

/// What a word is, as far as it matters who may have chosen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::flow) enum Kind {
    /// A web address: whoever is sent there learns of it, and is sent what it says.
    Link,
    /// An e-mail address.
    Email,
    /// An account number (ISO 13616).
    Account,
    /// A telephone number.
    Phone,
    /// A number.
    Number,
    /// A day.
    Date,
    /// Anything else.
    Word,
}

/// The kind of a word in its comparable form.
pub(in crate::flow) fn kind_of(form: &str) -> Kind {
    match form.split_once(':').map(|(kind, _)| kind) {
        Some("link") => Kind::Link,
        Some("email") => Kind::Email,
        Some("account") => Kind::Account,
        Some("phone") => Kind::Phone,
        Some("number") => Kind::Number,
        Some("date") => Kind::Date,
        _ => Kind::Word,
    }
}

/// The kind of a word that says who is paid, reached or let in, if it is one: an account, an e-mail address, a telephone number.
/// Whether the check digits of an account hold does not matter here, where only one thing is told from another.
pub(in crate::flow) fn kind_of_party(form: &str) -> Option<Kind> {
    let is_account = |form: &str| {
        let (country, rest) = (form.bytes().take(2), form.bytes().skip(2));
        (15..=34).contains(&form.len())
            && country.clone().all(|byte| byte.is_ascii_lowercase())
            && rest.clone().take(2).all(|byte| byte.is_ascii_digit())
            && rest.clone().all(|byte| byte.is_ascii_alphanumeric())
            && rest.filter(u8::is_ascii_digit).count() >= 10
    };
    match kind_of(form) {
        kind @ (Kind::Account | Kind::Email | Kind::Phone) => Some(kind),
        Kind::Word if is_account(form) => Some(Kind::Account),
        _ => None,
    }
}

/// Writes the `form` of one part by itself, where it has a kind.
pub(super) fn single(part: &str, folded: &str, form: &mut String) -> bool {
    let has_digit = folded.bytes().any(|byte| byte.is_ascii_digit());
    let of_digits = || number(folded).or_else(|| date(folded)).or_else(|| account(folded)).or_else(|| phone(folded));
    if let Some(of_digits) = has_digit.then(of_digits).flatten() {
        *form = of_digits;
        return true;
    }
    email(folded, form) || link(part, folded, form)
}

/// The form of a part together with those that follow it, and what is left after them.
pub(super) fn grouped<'t>(part: &str, rest: &Parts<'t>) -> Option<(String, Parts<'t>)> {
    account_in_groups(part, rest).or_else(|| phone_in_groups(part, rest)).or_else(|| date_in_words(part, rest))
}

/// `1200`, `1,200.00`, `$1'200`: digits, in the first form. An id with leading zeros is none, and neither is `1.2.3`.
fn number(folded: &str) -> Option<String> {
    let bare = folded.trim_start_matches(['€', '$', '£', '¥']).trim_end_matches(['€', '$', '£', '¥', '%']);
    let (sign, digits) = bare.strip_prefix(['-', '−']).map_or(("", bare), |digits| ("-", digits));
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || !digits.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if digits.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b',' | b'\'')) {
        return None;
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let is_id = digits.len() > 1 && digits.starts_with('0');
        return (!is_id).then(|| ["number:", sign, digits].concat());
    }
    let last = digits.rfind(['.', ',', '\'']).map(|at| digits.split_at(at));
    let (whole, fraction) = match last {
        None => (digits, ""),
        // A separator that comes again, or a comma before three digits, parts thousands.
        Some((whole, tail)) => {
            let (separator, tail) = tail.split_at(1);
            let thousands = separator == "'" || whole.contains(separator) || (separator == "," && tail.len() == 3);
            if thousands { (digits, "") } else { (whole, tail) }
        }
    };
    let groups: Vec<&str> = whole.split(['.', ',', '\'']).collect();
    if groups.iter().skip(1).any(|group| group.len() != 3) || groups.first().is_some_and(|first| first.is_empty()) {
        return None;
    }
    let whole = groups.concat();
    if whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    Some(if fraction.is_empty() { format!("number:{sign}{whole}") } else { format!("number:{sign}{whole}.{fraction}") })
}

/// A day in digits, with its year: `2024-05-15`, `15.05.2024`, and `05/15/2024` where only one reading is a day.
fn date(folded: &str) -> Option<String> {
    if folded.len() > 10 || !folded.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let parts: Vec<&str> = folded.split(['-', '/', '.']).collect();
    let [a, b, c] = parts.as_slice() else { return None };
    if !parts.iter().all(|part| !part.is_empty() && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    let number = |text: &str| text.parse::<u16>().ok();
    let (a_n, b_n, c_n) = (number(a)?, number(b)?, number(c)?);
    match (a.len(), c.len()) {
        (4, 1..=2) => day(a_n, b_n, c_n),
        (1..=2, 4) if folded.contains('.') => day(c_n, b_n, a_n),
        (1..=2, 4) if a_n > 12 || a_n == b_n => day(c_n, b_n, a_n),
        (1..=2, 4) if b_n > 12 => day(c_n, a_n, b_n),
        _ => None,
    }
}

/// A day as `2024-05-15`, which is its form already.
pub(super) fn is_day(folded: &str) -> bool {
    folded.len() == 10 && date(folded).is_some_and(|form| form.strip_prefix("date:") == Some(folded))
}

/// Digits, a full stop and digits, without zeros at the end of the fraction, where they are nothing but a number.
pub(super) fn decimal(folded: &str) -> Option<&str> {
    let (whole, fraction) = folded.split_once('.').filter(|(_, fraction)| !fraction.contains('.'))?;
    let is_number = !whole.is_empty() && !fraction.is_empty() && (whole.len() == 1 || !whole.starts_with('0'));
    is_number.then(|| if fraction.bytes().all(|byte| byte == b'0') { whole } else { folded.trim_end_matches('0') })
}

fn day(year: u16, month: u16, day: u16) -> Option<String> {
    ((1..=12).contains(&month) && (1..=31).contains(&day) && year >= 1000).then(|| format!("date:{year:04}-{month:02}-{day:02}"))
}

/// `15 May 2024`, `May 15th, 2024`, `15. mai`: a month's English name, the day beside it and the year, in either order.
fn date_in_words<'t>(part: &str, rest: &Parts<'t>) -> Option<(String, Parts<'t>)> {
    if !begins_as_a_month(part) && !part.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut after = rest.clone();
    let (second, third) = (after.next()?, after.next()?);
    let year = third.parse::<u16>().ok().filter(|_| third.len() == 4)?;
    let (month, of_month) = match (month(part), month(second)) {
        (Some(month), None) => (month, second),
        (None, Some(month)) => (month, part),
        _ => return None,
    };
    let digits = of_month.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    if !matches!(of_month.strip_prefix(digits), Some("" | "st" | "nd" | "rd" | "th")) {
        return None;
    }
    Some((day(year, month, digits.parse().ok()?)?, after))
}

/// Whether a part can be the name of a month.
fn begins_as_a_month(part: &str) -> bool {
    if part.is_ascii() { begins_with_month(part.as_bytes()) } else { true }
}

/// Whether a text of ASCII begins as the name of a month does, in either case.
pub(super) fn begins_with_month(text: &[u8]) -> bool {
    const BEGINNINGS: [[u8; 3]; 12] =
        [*b"jan", *b"feb", *b"mar", *b"apr", *b"may", *b"jun", *b"jul", *b"aug", *b"sep", *b"oct", *b"nov", *b"dec"];
    let Some([a, b, c]) = text.first_chunk() else { return false };
    let begins = [a | 0x20, b | 0x20, c | 0x20];
    matches!(begins, [b'a' | b'd' | b'f' | b'j' | b'm' | b'n' | b'o' | b's', ..]) && BEGINNINGS.contains(&begins)
}

/// Whether a word of ASCII is the name of a month.
pub(super) fn is_month(word: &str) -> bool {
    begins_with_month(word.as_bytes()) && month(word).is_some()
}

fn month(part: &str) -> Option<u16> {
    const MONTHS: [&str; 12] =
        ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"];
    let mut folded = String::new();
    fold(part, &mut folded);
    let is_short = folded.len() == 3 || folded == "sept";
    let index = MONTHS.iter().position(|month| *month == folded || (is_short && month.starts_with(&folded)))?;
    u16::try_from(index).ok().map(|index| index.saturating_add(1))
}

/// An account number in one piece; its check digits have to hold (ISO 7064), or it is a word as any other.
fn account(folded: &str) -> Option<String> {
    let joined = if folded.contains('-') { folded.replace('-', "") } else { String::new() };
    let folded = if joined.is_empty() { folded } else { joined.as_str() };
    let letters = folded.bytes().take(2).all(|byte| byte.is_ascii_lowercase());
    let check = folded.bytes().skip(2).take(2).all(|byte| byte.is_ascii_digit());
    if !letters || !check || !(15..=34).contains(&folded.len()) || !folded.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    // Check digits hold by chance in one of 97, and ids are made at random. Of all countries only Saint Lucia's numbers are as long as a
    // UUID or a digest of 128 bits (ISO 13616), and its `LC` is not hexadecimal.
    if folded.len() == 32 && folded.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (head, tail) = folded.split_at_checked(4)?;
    let remainder = tail
        .chars()
        .chain(head.chars())
        .filter_map(|c| c.to_digit(36))
        .fold(0_u32, |sum, digit| if digit < 10 { (sum * 10 + digit) % 97 } else { (sum * 100 + digit) % 97 });
    (remainder == 1).then(|| format!("account:{folded}"))
}

/// An account number in groups of four.
fn account_in_groups<'t>(part: &str, rest: &Parts<'t>) -> Option<(String, Parts<'t>)> {
    let is_even = match part.as_bytes() {
        [a, b, c, d] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit() => true,
        [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => false,
        _ => return None,
    };
    let (mut whole, mut after, mut found) = (part.to_ascii_lowercase(), rest.clone(), None);
    while whole.len() <= 34 {
        let Some(group) = after.next().filter(|group| group.len() <= 4 && group.is_ascii()) else { break };
        whole.push_str(&group.to_ascii_lowercase());
        if let Some(form) = account(&whole) {
            found = Some((form, after.clone()));
        }
        if is_even && group.len() < 4 {
            break;
        }
    }
    found
}

/// A telephone number in one piece, with its country: `+41791234567`, `0041…`.
fn phone(folded: &str) -> Option<String> {
    let digits = folded.strip_prefix('+').or_else(|| folded.strip_prefix("00"))?;
    let bare: String = digits.chars().filter(|c| !matches!(c, '-' | '.' | '/')).collect();
    ((7..=15).contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_digit())).then(|| format!("phone:{bare}"))
}

/// A telephone number in groups.
fn phone_in_groups<'t>(part: &str, rest: &Parts<'t>) -> Option<(String, Parts<'t>)> {
    if !part.starts_with(['+', '＋']) {
        return None;
    }
    let (mut whole, mut after, mut found) = (String::new(), rest.clone(), None);
    fold(part, &mut whole);
    while whole.len() <= 20 {
        let Some(group) = after.next().filter(|group| group.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.'))) else { break };
        whole.push_str(group);
        if let Some(form) = phone(&whole) {
            found = Some((form, after.clone()));
        }
    }
    found
}

/// An e-mail address (RFC 5321), in lower case as those who keep addresses have it.
fn email(folded: &str, form: &mut String) -> bool {
    let address = folded.strip_prefix("mailto:").unwrap_or(folded);
    let Some((local, domain)) = address.split_once('@') else { return false };
    let is_address = !local.is_empty() && domain.contains('.') && !domain.contains('@') && is_host(domain);
    if is_address {
        write(form, ["email:", address]);
    }
    is_address
}

/// A web address, without its scheme and a slash at its end; the case of its path counts. One of another scheme keeps it.
fn link(part: &str, folded: &str, form: &mut String) -> bool {
    let colon = folded.split_once(':');
    if let Some((name, value)) = colon.filter(|(name, value)| is_script(name, value)) {
        write(form, ["link:", name, ":", value]);
        return true;
    }
    let scheme = colon.and_then(|_| folded.get(..end_of_scheme(folded)?));
    let scheme = scheme.filter(|scheme| !scheme.is_empty() && scheme.chars().all(in_scheme));
    if scheme.is_none() && !folded.contains('.') {
        return false;
    }
    let begin = scheme.and_then(|_| end_of_scheme(part)).map_or(0, |at| at.saturating_add(3));
    let Some(rest) = part.get(begin..) else { return false };
    let rest = if scheme.is_none() { rest.strip_prefix("//").unwrap_or(rest) } else { rest };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let mut folded_authority = String::new();
    fold(authority, &mut folded_authority);
    let host = folded_authority.rsplit_once('@').map_or(folded_authority.as_str(), |(_, host)| host);
    let port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = port.map_or(host, |(name, _)| name).trim_end_matches('.');
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_top = last.chars().count() >= 2 && (last.chars().all(char::is_alphabetic) || last.starts_with("xn--"));
    let is_name = name.contains('.') && is_host(name) && is_top;
    let is_address = || name.parse::<std::net::Ipv4Addr>().is_ok() && (port.is_some() || !path.is_empty());
    if scheme.is_none() && !is_name && !is_address() {
        return false;
    }
    let path = path.trim_end_matches('/');
    match scheme.filter(|scheme| !matches!(*scheme, "http" | "https")) {
        Some(other) => write(form, ["link:", other, "://", &folded_authority, path]),
        None => write(form, ["link:", &folded_authority, path]),
    }
    true
}

/// Where the scheme of an address ends, if it has one.
fn end_of_scheme(text: &str) -> Option<usize> {
    text.as_bytes().windows(3).position(|signs| signs == b"://")
}

/// Writes a form of these pieces.
fn write<const N: usize>(form: &mut String, pieces: [&str; N]) {
    form.clear();
    form.extend(pieces);
}

const fn in_scheme(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-')
}

/// Whether `name:value` is an address that holds what it leads to.
pub(super) fn is_script(name: &str, value: &str) -> bool {
    name.eq_ignore_ascii_case("javascript") || (name.eq_ignore_ascii_case("data") && value.contains(','))
}

fn is_host(name: &str) -> bool {
    name.split('.').all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::super::words;

    #[test]
    fn one_thing_has_one_form_however_it_is_written() {
        for (form, texts) in [
            ("number:1200", &["1200", "1,200", "1'200.00", "$1200", "1200.0", "1.200,00", "1200€"][..]),
            ("number:98.7", &["98.70", "98,7", "-98.7"][..2]),
            ("number:-3", &["-3", "−3.0"]),
            ("date:2024-05-15", &["2024-05-15", "2024/5/15", "15.05.2024", "5/15/2024", "May 15, 2024", "15th May 2024", "15 may 2024"]),
            (
                "account:gb29nwbk60161331926819",
                &["GB29NWBK60161331926819", "GB29 NWBK 6016 1331 9268 19", "gb29 nwbk 6016 1331 9268 19.", "IBAN:GB29NWBK60161331926819"]
                    [..3],
            ),
            (
                "account:gb29nwbk60161331926819",
                &["GB 29NW BK60 1613 3192 6819", "GB  29NW BK60 1613 3192 6819", "GB, 29NW\nBK60 1613 3192 6819"],
            ),
            ("phone:41791234567", &["+41791234567", "+41 79 123 45 67", "0041791234567", "+41-79-123-45-67"]),
            ("email:bob@acme.example", &["Bob@Acme.example", "<bob@acme.example>", "mailto:bob@acme.example", "bob@acme.example,"]),
            ("link:www.acme.example/A", &["www.Acme.example/A", "https://www.acme.example/A/", "(http://www.acme.example/A)"]),
            ("zoë", &["Zoë", "ZOË", "\"Zoe\u{308}\"", "Zoë's", "*Zoë*"]),
        ] {
            for text in texts {
                assert_eq!(words(text), [form], "{text}");
            }
        }
    }

    #[test]
    fn what_is_something_else_has_another_form() {
        for (one, other) in [
            ("15", "2024-05-15"),
            ("1", "1.2.3"),
            ("7", "007"),
            ("1200", "12000"),
            ("1.2", "12"),
            ("GB29NWBK60161331926819", "GB29NWBK60161331926810"),
            ("acme.example/A", "acme.example/a"),
            ("acme.example", "acme.example.evil.example"),
            ("bob@acme.example", "bob@acme.example.evil.example"),
            ("https://acme.example@evil.example/", "acme.example"),
            ("10:30", "30"),
            ("Alice", "аlice"),
        ] {
            assert!(!words(other).ends_with(&words(one)), "{one} in {other}");
            assert!(!words(other).starts_with(&words(one)), "{one} in {other}");
        }
    }

    #[test]
    fn an_id_whose_check_digits_happen_to_hold_is_no_account() {
        for id in ["ac21cf2b-87a3-4199-80de-2fc66524964f", "AC21CF2B87A3419980DE2FC66524964F"] {
            assert_eq!(words(id), [id.to_ascii_lowercase()], "{id}");
        }
        // One of Saint Lucia is as long.
        assert_eq!(words("LC14BOSL123456789012345678901234"), ["account:lc14bosl123456789012345678901234"]);
    }

    #[test]
    fn a_value_follows_its_name() {
        assert_eq!(words("account:Savings to=bob"), ["account", "savings", "to", "bob"]);
        assert_eq!(words("at 10:30, see http://a.example:80/x"), ["at", "10:30", "see", "link:a.example:80/x"]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_words_are_bounded(text in ".{0,200}") {
            for word in words(&text) {
                proptest::prop_assert!(word.len() <= text.len() * 12 + 16);
            }
        }

        /// A comparable form compares as itself, whatever kind it is.
        #[test]
        fn case_and_spacing_change_nothing(text in "[a-zA-Z0-9@./ -]{0,60}") {
            let spaced = text.replace(' ', " \u{a0}\n");
            proptest::prop_assert_eq!(words(&text), words(&spaced));
        }
    }
}
