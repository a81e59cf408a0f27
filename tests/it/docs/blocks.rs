//! The fenced blocks and the inline code of a page in Markdown, and the commands in a block for a shell.

use std::process::Command;

use crate::start::Start;
use crate::world::Run;

/// A fenced block.
pub(super) struct Block {
    /// Where it stands, for people: `README.md:15`.
    pub(super) place: String,
    /// What the fence says: `sh`, `toml`...
    pub(super) language: String,
    /// What is in it, without the indentation of the fence.
    pub(super) text: String,
}

/// The fenced blocks of a page.
pub(super) fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut all = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (at, line) in text.lines().enumerate() {
        let content = line.trim_start();
        match &mut open {
            None => {
                if let Some(language) = content.strip_prefix("```") {
                    let place = format!("{page}:{}", at + 1);
                    let block = Block { place, language: language.to_owned(), text: String::new() };
                    open = Some((line.len() - content.len(), block));
                }
            }
            Some(_) if content == "```" => all.extend(open.take().map(|(_, block)| block)),
            Some((indentation, block)) => {
                // Text after the closing fence: a reader's browser takes the rest for code.
                assert!(!content.starts_with("```"), "{page}:{}: {content}", at + 1);
                block.text += line.get(*indentation..).unwrap_or_default();
                block.text += "\n";
            }
        }
    }
    assert!(open.is_none(), "{page}: a block does not end");
    all
}

/// What is between single backticks outside of the blocks, with the number of its line.
pub(super) fn inline(text: &str) -> Vec<(usize, &str)> {
    let mut is_block = false;
    let mut all = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            all.extend(line.split('`').skip(1).step_by(2).map(|code| (at + 1, code)));
        }
    }
    all
}

/// The commands of a block for a shell. A command ends where bash takes the lines for complete.
pub(super) fn commands(block: &Block) -> Vec<String> {
    let mut all = Vec::new();
    let mut text = String::new();
    for line in block.text.lines() {
        if text.is_empty() && (line.trim().is_empty() || line.starts_with('#')) {
            continue;
        }
        text += line;
        text += "\n";
        if !line.ends_with('\\') && is_complete(&text) {
            all.push(std::mem::take(&mut text).trim_end().to_owned());
        }
    }
    assert!(text.is_empty(), "{}: bash does not understand: {text}", block.place);
    all
}

/// A command on one line, without its comment.
pub(super) fn plain(command: &str) -> String {
    let line = command.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = if command.contains('\n') { None } else { line.find(" # ") };
    line[..end.unwrap_or(line.len())].to_owned()
}

/// Whether bash can run this. Of a here-document without an end it only warns.
fn is_complete(text: &str) -> bool {
    let run = Run::from(Command::new("bash").args(["-n", "-c", text]).finish().unwrap());
    run.code == Some(0) && run.stderr.is_empty()
}

#[test]
fn blocks_in_lists_lose_their_indentation() {
    let found = blocks("x.md", "1. a\n\n   ```sh\n   b \\\n     c\n\n   ```\n```toml\n```\n");
    let found = found.iter().map(|block| (&*block.place, &*block.language, &*block.text));
    let found: Vec<_> = found.collect();
    assert_eq!(found, [("x.md:3", "sh", "b \\\n  c\n\n"), ("x.md:8", "toml", "")]);
}

#[test]
fn a_command_may_have_several_lines() {
    let text = "# a comment\na \\\n  b\n\ncat <<'END'\n  x\nEND\necho 'c\nd' # e\nfor x in 1; do\n  y\ndone\n";
    let block = Block { place: String::new(), language: String::new(), text: text.to_owned() };
    let wanted =
        ["a \\\n  b", "cat <<'END'\n  x\nEND", "echo 'c\nd' # e", "for x in 1; do\n  y\ndone"];
    assert_eq!(commands(&block), wanted);
}

#[test]
fn inline_code_is_found_outside_of_blocks() {
    assert_eq!(inline("a `b` c `d`\n```\n`e`\n```\n`f`"), [(1, "b"), (1, "d"), (5, "f")]);
}

#[test]
fn a_comment_is_no_part_of_a_command() {
    assert_eq!(plain("a  b   # c"), "a b");
    assert_eq!(plain("cat <<'END'\n x # y\nEND"), "cat <<'END' x # y END");
}
