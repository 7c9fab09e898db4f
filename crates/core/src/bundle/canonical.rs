//! JSON in its one canonical form (RFC 8785), so that two texts that mean the same have one digest.

use serde_json::{Number, Value};

/// The canonical form of `value`.
///
/// Numbers are taken as IEEE 754 doubles, as RFC 8785 §3.2.2.3 says: integers beyond 2^53 lose what a double cannot hold.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&write_number(number)),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // RFC 8785 §3.2.3: by UTF-16 code units, which differs from the order of UTF-8 beyond the basic plane.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, (key, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write(member, out);
            }
            out.push('}');
        }
    }
}

/// RFC 8785 §3.2.2.2: the short escapes where there are some, `\u00xx` for other control characters, nothing else.
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{9}' => out.push_str("\\t"),
            '\u{a}' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\u{d}' => out.push_str("\\r"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// RFC 8785 §3.2.2.3: as ECMAScript's `Number::toString` writes it (ECMA-262 §6.1.6.1.20).
fn write_number(number: &Number) -> String {
    let Some(double) = number.as_f64() else { return number.to_string() };
    if double == 0.0 {
        return "0".to_owned();
    }
    // Rust's exponent form gives the shortest digits that read back as the same double, as ECMAScript asks for.
    // Where two such are equally near it wants the even one, which is how Rust rounds to a given number of digits.
    let shortest = format!("{:e}", double.abs());
    let places = shortest.bytes().take_while(|b| *b != b'e').filter(u8::is_ascii_digit).count().saturating_sub(1);
    let even = format!("{:.places$e}", double.abs());
    let written = if even.parse() == Ok(double.abs()) { even } else { shortest };
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let digits = digits.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // Where the decimal point stands after the first digits: ECMAScript's `n`.
    let point = exponent.saturating_add(1);
    let sign = if double < 0.0 { "-" } else { "" };
    let (zeros, at) = (|count: i32| "0".repeat(usize::try_from(count).unwrap_or(0)), usize::try_from(point).unwrap_or(0));
    if (count..=21).contains(&point) {
        format!("{sign}{digits}{}", zeros(point.saturating_sub(count)))
    } else if (1..=21).contains(&point) {
        let (whole, part) = digits.split_at(at);
        format!("{sign}{whole}.{part}")
    } else if (-5..=0).contains(&point) {
        format!("{sign}0.{}{digits}", zeros(point.saturating_neg()))
    } else {
        let (first, rest) = digits.split_at(1);
        let part = if rest.is_empty() { String::new() } else { format!(".{rest}") };
        let plus = if exponent > 0 { "+" } else { "" };
        format!("{sign}{first}{part}e{plus}{exponent}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8785 appendix B.
    #[test]
    fn numbers_are_written_as_the_rfc_says() {
        for (bits, written) in [
            (0x0000_0000_0000_0000_u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let number = Number::from_f64(f64::from_bits(bits)).unwrap();
            assert_eq!(write_number(&number), written, "{bits:x}");
        }
    }

    /// RFC 8785 §3.2.3 and §3.2.4.
    #[test]
    fn objects_and_texts_are_written_as_the_rfc_says() {
        let value: Value = serde_json::from_str(
            r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
                "\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#,
        )
        .unwrap();
        let order: Vec<String> = serde_json::from_str::<Vec<String>>(
            r#"["Carriage Return","One","Control","Latin Small Letter O With Diaeresis","Euro Sign","Emoji: Grinning Face",
                "Hebrew Letter Dalet With Dagesh"]"#,
        )
        .unwrap();
        let text = canonical(&value);
        let places: Vec<_> = order.iter().map(|one| text.find(one.as_str()).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        let value: Value = serde_json::from_str(
            r#"{ "numbers": [333333333.3333333, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
                 "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false] }"#,
        )
        .unwrap();
        assert_eq!(
            canonical(&value),
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
    }

    proptest::proptest! {
        #[test]
        fn a_double_reads_back(bits: u64) {
            let double = f64::from_bits(bits);
            if let Some(number) = Number::from_f64(double) {
                proptest::prop_assert_eq!(write_number(&number).parse::<f64>().unwrap(), double);
            }
        }
    }
}
