//! Text as HTML.
//!
//! This module must not let a name be anything but text: no tag, no attribute, no mark that changes the direction.

use std::fmt::{self, Display, Write};

use crate::rules::Bytes;
use crate::units::grouped;

/// Text that is shown as it is, between tags and in attributes.
pub(super) struct Plain<'a>(pub(super) &'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Letters with marks are fine; what `Debug` would escape besides them is not.
                _ if is_odd(char) => write!(f, "{}", char.escape_unicode())?,
                _ => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

/// Whether a character steers a terminal or the direction of text, or cannot be seen.
fn is_odd(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(char, '\u{61c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text that is part of a name from outside, escaped as on a terminal.
pub(super) fn name(text: &str) -> String {
    Plain(&text.escape_debug().to_string()).to_string()
}

/// An amount of space, with the exact number for programs.
pub(super) fn bytes(amount: Bytes) -> String {
    format!("<data value=\"{}\">{amount}</data>", amount.0)
}

/// A number, with the plain digits for programs.
pub(super) fn count(number: u64) -> String {
    format!("<data value=\"{number}\">{}</data>", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_text() {
        let evil = "<script>alert(1)</script>\" onload='x' &amp;";
        let shown = Plain(evil).to_string();
        assert!(!shown.contains(['<', '>', '"', '\'']), "{shown}");
        assert_eq!(
            shown,
            "&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&#39;x&#39; &amp;amp;"
        );
        assert_eq!(
            Plain("a\u{202e}b\x1b[31m\u{feff}").to_string(),
            "a\\u{202e}b\\u{1b}[31m\\u{feff}"
        );
        assert_eq!(Plain("Größe Übung").to_string(), "Größe Übung");
    }
}
