//! The manual page.
//!
//! This module must not define an option: what it shows is the definition of the command line.

use std::io;

use super::texts;

/// No line of the page is longer, as the checkers of manual pages ask.
const WIDTH: usize = 79;

/// The page of `root` in roff.
pub(super) fn page(mut root: clap::Command) -> io::Result<String> {
    root.build();
    let page = clap_mangen::Man::new(root.clone())
        .title("SWEEPER")
        .section("8")
        .date(texts::MAN_DATE)
        .source(concat!("sweeper ", env!("CARGO_PKG_VERSION")))
        .manual("System Administration");
    let mut roff = Vec::new();
    page.render_title(&mut roff)?;
    page.render_name_section(&mut roff)?;
    page.render_synopsis_section(&mut roff)?;
    let mut text = without_preamble(&roff, true);
    text += texts::MAN_DESCRIPTION;
    text += ".SH COMMANDS\n";
    for command in root.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let name = command.get_name().to_owned();
        text += &of_command(command, &name)?;
        for inner in command.get_subcommands_mut() {
            let name = format!("{name} {}", inner.get_name());
            text += &of_command(inner, &name)?;
        }
    }
    text += texts::MAN_SECTIONS;
    Ok(text.lines().map(fold).collect())
}

/// One command as a subsection.
fn of_command(command: &mut clap::Command, name: &str) -> io::Result<String> {
    let usage = command.render_usage().to_string();
    let usage = usage.trim().trim_start_matches("Usage: ").replace('-', "\\-");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!(".SS \"sweeper {name}\"\n.B {usage}\n.PP\n{about}.\n");
    let mut options = Vec::new();
    clap_mangen::Man::new(command.clone()).render_options_section(&mut options)?;
    text += &without_preamble(&options, false);
    Ok(text)
}

/// The lines of a section: without its head unless it `has_head`, and the definitions of roff only once.
fn without_preamble(roff: &[u8], has_head: bool) -> String {
    let (roff, mut has_preamble) = (String::from_utf8_lossy(roff), !has_head);
    let mut text = String::new();
    for line in roff.lines() {
        let is_preamble = line.starts_with(".ie ") || line.starts_with(".el ");
        if (is_preamble && has_preamble) || (line.starts_with(".SH") && !has_head) {
            continue;
        }
        has_preamble |= line.starts_with(".el ");
        text += line;
        text.push('\n');
    }
    text
}

/// A line of text as several that are short enough, broken at spaces.
fn fold(line: &str) -> String {
    let mut lines = vec![String::new()];
    for word in line.trim_end().split(' ') {
        let Some(last) = lines.last_mut() else { continue };
        let is_text = !line.starts_with('.');
        // A line that begins with one of these is a command.
        let can_begin = !word.is_empty() && !word.starts_with(['.', '\'']);
        if is_text && can_begin && !last.is_empty() && last.len() + 1 + word.len() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_of_text_are_broken_at_spaces() {
        let line = "word ".repeat(40);
        assert!(fold(&line).lines().all(|line| line.len() <= WIDTH && !line.ends_with(' ')));
        assert_eq!(fold(&line).replace('\n', " "), line);
        assert_eq!(fold(&format!(".B {line}")).lines().count(), 1);
        let dots = format!("{} .x .y", "a".repeat(WIDTH - 2));
        assert_eq!(fold(&dots).lines().count(), 1, "no line may begin with a dot");
    }
}
