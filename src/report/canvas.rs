//! The width and the colors of text, and lines that fit into it.
//!
//! This module must not find out about the terminal: `cmd` says what there is.

use std::io::{self, Write};

/// How text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canvas {
    /// How many columns there are.
    pub width: usize,
    /// Whether to use color.
    pub has_color: bool,
}

/// The colors of text, by what they stand for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Paint {
    Title,
    Kept,
    Expired,
    Faint,
    Warning,
    Failed,
}

/// What begins each line of a text but the first.
const INDENT: &str = "  ";

impl Canvas {
    /// The width where lines may have any length.
    pub const ANY_WIDTH: usize = usize::MAX;

    /// Lines of any length without color, as in a pipe: `grep` finds a whole line.
    pub const PLAIN: Self = Self { width: Self::ANY_WIDTH, has_color: false };

    /// Text in a color, if there is any.
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Title => "1",
            Paint::Kept => "34",
            Paint::Expired | Paint::Warning => "33",
            Paint::Faint => "2",
            Paint::Failed => "31",
        };
        if self.has_color && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Writes a text in as many lines as it takes. Its `label`, if that is in the first line, is painted.
    pub(super) fn write(
        self,
        out: &mut dyn Write,
        before: &str,
        (label, paint): (&str, Paint),
        after: &str,
    ) -> io::Result<()> {
        let begin = format!("{before}{label}");
        for (at, line) in wrapped(&format!("{begin}{after}"), self.width, INDENT).iter().enumerate()
        {
            match line.strip_prefix(&begin).filter(|_| at == 0) {
                Some(rest) => writeln!(out, "{before}{}{rest}", self.paint(paint, label))?,
                None => writeln!(out, "{line}")?,
            }
        }
        Ok(())
    }
}

/// Text in lines of at most `width` columns, divided at spaces; all but the first begin with `indent`. A name in quotes is
/// not divided, so that it can be copied: one that is wider than that has a line of its own.
pub(super) fn wrapped(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut is_empty = true;
    for word in words(text) {
        let used = line.chars().count() + usize::from(!is_empty);
        if !is_empty && used.saturating_add(word.chars().count()) > width {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines
}

/// The words of a text. What is in quotes is one word.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if !is_escaped => is_quoted = !is_quoted,
            ' ' if !is_quoted => {
                words.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    words.push(&text[start..]);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(width: usize, text: &str) -> Vec<String> {
        wrapped(text, width, INDENT)
    }

    #[test]
    fn lines_are_no_wider_than_the_terminal_unless_a_word_is() {
        let text = "tmp: failed: unlink \"/data/tmp/a b\\\" c\" and 3 others: denied; ask root";
        for width in 1..=text.len() + 1 {
            let found = lines(width, text);
            let longest = "\"/data/tmp/a b\\\" c\"".len() + INDENT.len();
            assert!(found.iter().all(|line| line.len() <= width.max(longest)), "{found:?}");
            assert!(found.iter().skip(1).all(|line| line.starts_with(INDENT)), "{found:?}");
            let whole: Vec<&str> = found.iter().map(|line| line.trim_start()).collect();
            assert_eq!(whole.join(" "), text);
        }
        assert_eq!(lines(usize::MAX, text), [text]);
        assert_eq!(lines(10, ""), [""]);
    }

    #[test]
    fn a_name_is_never_divided_and_an_odd_quote_divides_nothing_wrongly() {
        let found = lines(20, "it is \"a name with spaces\" here");
        assert_eq!(found, ["it is", "  \"a name with spaces\"", "  here"]);
        assert_eq!(lines(8, "a 5\" b c").join("").matches('"').count(), 1);
    }

    #[test]
    fn only_the_label_is_painted() {
        let mut out = Vec::new();
        let canvas = Canvas { width: 16, has_color: true };
        let label = ("failed", Paint::Failed);
        canvas.write(&mut out, "tmp: ", label, ": it failed").unwrap();
        canvas.write(&mut out, "failed: ", label, ": it failed").unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "tmp: \u{1b}[31mfailed\u{1b}[0m: it\n  failed\n\
             failed: \u{1b}[31mfailed\u{1b}[0m:\n  it failed\n"
        );
    }
}
