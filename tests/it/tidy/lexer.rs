//! Rust source as tokens, so that comments and string literals are not taken for code.
//!
//! It must not understand what it reads: `graph` does.

use std::sync::LazyLock;

use regex::Regex;

/// What a token is. Comments and lifetimes are no tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or a keyword.
    Word,
    /// A string, a character or a number.
    Literal,
    /// `::`, or any other single character.
    Mark,
}

/// A token and the line that it begins in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn is(&self, text: &str) -> bool {
        self.kind != Kind::Literal && self.text == text
    }
}

static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r#"(?x)^(?:
        (?P<skipped> [\ \t\r\n]+ | //[^\n]* | /\*(?s:.*?)\*/ )
      | (?P<literal>
            [bc]?r"[^"]*" | [bc]?r\#"(?s:.*?)"\# | [bc]?r\#\#"(?s:.*?)"\#\#
          | [bc]?"(?s:\\.|[^"\\])*"
          | b?'(?:\\x..|\\u\{[^}]*\}|\\.|[^'\\])'
          | [0-9][0-9A-Za-z_]*(?:\.[0-9][0-9A-Za-z_]*)? )
      | (?P<lifetime> '[A-Za-z_][0-9A-Za-z_]* )
      | (?P<word> [A-Za-z_][0-9A-Za-z_]* )
      | (?P<mark> :: | (?s:.) )
    )"#;
    Regex::new(pattern).unwrap()
});

/// The tokens of a file.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(captures) = TOKEN.captures(&text[at..]) {
        let token = captures.get(0).unwrap().as_str();
        let kinds = [("literal", Kind::Literal), ("word", Kind::Word), ("mark", Kind::Mark)];
        let kind = kinds.into_iter().find(|(name, _)| captures.name(name).is_some());
        if let Some((_, kind)) = kind {
            found.push(Token { kind, text: token, line });
        }
        line += token.matches('\n').count();
        at += token.len();
    }
    assert_eq!(at, text.len(), "line {line} cannot be read");
    found
}

/// The line of the first place where `wanted` stands in `code`, token by token.
pub(super) fn find(code: &[Token<'_>], wanted: &str) -> Option<usize> {
    let wanted = tokens(wanted);
    let is_same = |(one, other): (&Token<'_>, &Token<'_>)| one.is(other.text);
    let mut places = code.windows(wanted.len());
    places.find(|place| place.iter().zip(&wanted).all(is_same)).map(|place| place[0].line)
}

/// Code without what is only compiled for tests, and the names of the modules that it declares there.
pub(super) fn without_tests<'a>(all: &[Token<'a>]) -> (Vec<Token<'a>>, Vec<String>) {
    let (mut code, mut test_modules) = (Vec::new(), Vec::new());
    let mut rest = all;
    while let Some((first, others)) = rest.split_first() {
        if let Some(item) = after_test_attribute(rest) {
            let (item, after) = item.split_at(length_of_item(item));
            let module = item.windows(2).find(|two| two[0].is("mod"));
            test_modules.extend(module.map(|two| two[1].text.to_owned()));
            rest = after;
        } else {
            code.push(*first);
            rest = others;
        }
    }
    (code, test_modules)
}

fn after_test_attribute<'s, 'a>(tokens: &'s [Token<'a>]) -> Option<&'s [Token<'a>]> {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let is_here = tokens.len() > attribute.len()
        && tokens.iter().zip(attribute).all(|(token, wanted)| token.is(wanted));
    is_here.then(|| &tokens[attribute.len()..])
}

/// How many tokens an item has: up to its `;`, or to the end of its block.
fn length_of_item(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Mark {
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" => depth -= 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 {
                        return at + 1;
                    }
                }
                ";" if depth == 0 => return at + 1,
                _ => {}
            }
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        tokens(text).iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_are_skipped_and_literals_are_whole() {
        let text = "a::b // c::d\n/* e\n */ \"f::g \\\" h\" 'i' '\\'' 'j: r#\"k\"l\"# 1.5 b'm' 'n'";
        let wanted = ["a", "::", "b", "\"f::g \\\" h\"", "'i'", "'\\''", ":", "r#\"k\"l\"#"];
        assert_eq!(texts(text), [&wanted[..], &["1.5", "b'm'", "'n'"]].concat());
        assert_eq!(tokens("a\n/*\n*/\nb")[1].line, 4);
    }

    #[test]
    fn code_is_found_and_text_is_not() {
        let code = tokens("let x = \"unlinkat(\"; // unlinkat(\nunlinkat (a);");
        assert_eq!(find(&code, "unlinkat("), Some(2));
        assert_eq!(find(&code, "unlink"), None);
    }

    #[test]
    fn what_is_compiled_for_tests_alone_is_no_code() {
        let text = "a; #[cfg(test)] mod m; b #[cfg(test)] pub(crate) mod n { c { d } } e \
                    #[cfg(test)] #[x(y)] fn f() -> [u8; 2] { g } h #[cfg(unix)] i";
        let (code, modules) = without_tests(&tokens(text));
        let code: String = code.iter().map(|token| token.text).collect();
        assert_eq!(code, "a;beh#[cfg(unix)]i");
        assert_eq!(modules, ["m", "n"]);
    }
}
