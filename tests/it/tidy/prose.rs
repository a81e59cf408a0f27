//! Words that read oddly, in code and in texts.
//!
//! It must not judge more than words: what a sentence says is for people to read.

/// Words and phrases that are not used. A star stands for any ending.
const ODD: [&str; 19] = [
    "somebody",
    "whoever",
    "spared",
    "rehears*",
    "for want of",
    "let be",
    "stand back",
    "stands back",
    "put aside",
    "has it that",
    "handful",
    "onlooker*",
    "agenda",
    "kindness",
    "reprieve*",
    "condemn*",
    "a pass comes to",
    "asks the disk",
    "by and by",
];

/// The odd words in a text, each with its line. A phrase may be broken over lines, with the marks of a comment
/// between them. What is between backticks is quoted: the old name of a thing, say.
pub(super) fn odd_words(text: &str) -> Vec<(usize, &'static str)> {
    let words = words(text);
    let mut found = Vec::new();
    for at in 0..words.len() {
        for odd in ODD {
            let mut steps =
                odd.split(' ').zip(words[at..].iter().map(Some).chain(std::iter::repeat(None)));
            let is_here = steps.all(|(wanted, word)| {
                word.is_some_and(|(_, word)| match wanted.strip_suffix('*') {
                    Some(stem) => word.starts_with(stem),
                    None => word == wanted,
                })
            });
            if is_here {
                found.push((words[at].0, odd));
            }
        }
    }
    found
}

/// The words of a text in lower case, each with its line, without those between backticks on one line.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let parts: Vec<&str> = line.split('`').collect();
        let last = parts.len() - 1;
        for (index, part) in parts.into_iter().enumerate() {
            // An odd backtick quotes nothing.
            let is_quoted = index % 2 == 1 && index < last;
            if is_quoted {
                found.push((at + 1, String::new()));
                continue;
            }
            let words = part.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
            found.extend(words.map(|word| (at + 1, word.to_lowercase())));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_words_are_found_whole_in_any_case_and_over_lines() {
        let text =
            "/// Somebody waits, for want\n/// of a lock.\nfn rehearsal() {}\nlet x_spared = 1;";
        let wanted = [(1, "somebody"), (1, "for want of"), (3, "rehears*"), (4, "spared")];
        assert_eq!(odd_words(text), wanted);
        assert_eq!(odd_words("a Handful"), [(1, "handful")]);
    }

    #[test]
    fn other_words_and_quoted_ones_pass() {
        for text in ["sparedly", "wants of", "let it be", "`spared` is now `skipped`", "set_aside"]
        {
            assert!(odd_words(text).is_empty(), "{text}");
        }
        assert_eq!(odd_words("a ` agenda").len(), 1, "an odd backtick quotes nothing");
    }
}
