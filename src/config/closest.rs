//! The known word that is closest to a misspelled one.
//!
//! It must not decide whether a word is known.

/// The word of `known` with the fewest edits from `word`; ties go to the first. Empty if none is known.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let wanted = plain(word);
    let best = known.into_iter().min_by_key(|candidate| edits(&wanted, &plain(candidate)));
    best.unwrap_or_default().to_owned()
}

/// The number of characters to insert, remove, replace or swap with their neighbor (optimal string
/// alignment) to make one text from the other.
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
        assert_eq!(closest("DRYRUN", known), "dry_run");
        assert_eq!(closest("dry-run", known), "dry_run");
        assert_eq!(closest("dtaa", known), "data");
        assert_eq!(closest("x", []), "");
    }
}
