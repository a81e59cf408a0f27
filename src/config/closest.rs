//! The known word that is closest to a misspelled one.
//!
//! This module must not decide whether a word is known.

/// The closest of the known words, if it is near enough to be the one that is meant. Of several, the first.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = plain(word);
    let best = known.into_iter().min_by_key(|candidate| edits(&wanted, &plain(candidate)))?;
    is_near(word, best).then_some(best)
}

/// The closest of the known words as a question at the end of a message; or else `otherwise`, which may be empty.
pub(super) fn hint<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: &str,
) -> String {
    closest(word, known).map_or_else(|| otherwise.to_owned(), |it| format!("; did you mean {it}?"))
}

/// Whether one word can be meant by the other: few characters differ, in relation to how many there are.
pub fn is_near(word: &str, known: &str) -> bool {
    let (word, known) = (plain(word), plain(known));
    let longest = word.chars().count().max(known.chars().count());
    let has_more = |rest: &str| rest.starts_with('_');
    edits(&word, &known) <= (longest / 4).max(1) || word.strip_prefix(&*known).is_some_and(has_more)
}

/// Without what people mix up: case and dashes.
fn plain(text: &str) -> String {
    text.trim_start_matches('-').to_ascii_lowercase().replace('-', "_")
}

/// The number of characters to insert, remove, replace or swap with the next, to get from one word to the other.
pub(super) fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("dryrun", "dry_run", 1),
            ("zürich", "zurich", 1),
        ] {
            assert_eq!(edits(from, to), count, "{from} {to}");
            assert_eq!(edits(to, from), count, "{to} {from}");
        }
    }

    #[test]
    fn the_closest_word_ignores_case_and_dashes() {
        let known = ["dry_run", "data", "deadline"];
        assert_eq!(closest("DRYRUN", known), Some("dry_run"));
        assert_eq!(closest("--dry-run", known), Some("dry_run"));
        assert_eq!(closest("dtaa", known), Some("data"));
        assert_eq!(closest("x", []), None);
    }

    #[test]
    fn a_word_that_has_little_in_common_with_all_others_is_not_taken_for_one() {
        for (word, known) in [
            ("all", "tmp"),
            ("age", "name"),
            ("ttl", "tag"),
            ("no", "ignore"),
            ("password", "shard"),
            ("--free", "--relieve"),
            ("--force", "--format"),
            ("sweep", "serve"),
            ("clean", "plan"),
            ("orphans", "plan"),
        ] {
            assert_eq!(closest(word, [known]), None, "{word}");
        }
        for (word, known) in [
            ("lok", "lock"),
            ("temp", "tmp"),
            ("exprot", "export"),
            ("retenton-day", "retention_days"),
            ("listen_port", "listen"),
        ] {
            assert_eq!(closest(word, [known]), Some(known), "{word}");
        }
    }
}
