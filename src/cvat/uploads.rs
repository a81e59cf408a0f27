//! The names of uploads, and which zones nothing reads any more.
//!
//! This module must not decide whether an upload is abandoned: it says what a name is.
//!
//! CVAT receives large files by the TUS protocol. The content is in a file `<user id>_<uuid4>` (`<uuid4>` before
//! 2.39), and its record beside it in a file of the same name with `.meta`. Each part of an upload writes both. When
//! the last part has arrived, the content gets its own name or is read, and the record is removed. Clients that
//! give up leave both behind. In the temporary directories of projects, tasks and jobs CVAT up to 2.73 removes the
//! content after twelve hours and never the record.

use super::zones::{CHUNK_CACHE, LEGACY};
use crate::rules::Upload;

/// Zones that only versions of CVAT before 2.26 use.
pub const OUT_OF_USE: &[&str] = &[LEGACY, CHUNK_CACHE];

const RECORD: &[u8] = b".meta";

/// The upload that a file is a part of, by its name.
pub fn upload(name: &[u8]) -> Option<Upload> {
    let (stem, is_record) = match name.strip_suffix(RECORD) {
        Some(stem) => (stem, true),
        None => (name, false),
    };
    let id = match stem.iter().position(|byte| *byte == b'_') {
        Some(end) => {
            let (user, id) = (&stem[..end], &stem[end + 1..]);
            let is_number = (1..=19).contains(&user.len()) && user.iter().all(u8::is_ascii_digit);
            is_number.then_some(id)?
        }
        None => stem,
    };
    Some(Upload { id: uuid4(id)?, is_record })
}

/// A random UUID as Python writes it.
fn uuid4(text: &[u8]) -> Option<u128> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    if text.len() != 36 || text[14] != b'4' || !matches!(text[19], b'8' | b'9' | b'a' | b'b') {
        return None;
    }
    let mut id = 0;
    for (at, byte) in text.iter().enumerate() {
        let digit = match byte {
            b'-' if HYPHENS.contains(&at) => continue,
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        if HYPHENS.contains(&at) {
            return None;
        }
        id = id << 4 | u128::from(digit);
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_uploads_are_those_that_cvat_gives_them() {
        const ID: &str = "0b9b1f2e-6c1d-4f0a-9e4b-1234567890ab";
        let found = upload(ID.as_bytes()).unwrap();
        assert_eq!(
            found,
            Upload { id: 0x0b9b_1f2e_6c1d_4f0a_9e4b_1234_5678_90ab, is_record: false }
        );
        for (name, is_record) in [
            (format!("{ID}.meta"), true),
            (format!("17_{ID}"), false),
            (format!("17_{ID}.meta"), true),
        ] {
            assert_eq!(upload(name.as_bytes()), Some(Upload { is_record, ..found }), "{name}");
        }
        for name in [
            String::new(),
            ".meta".to_owned(),
            format!("{ID}.zip"),
            format!("x_{ID}"),
            format!("_{ID}"),
            format!("1_{ID}_"),
            ID.to_uppercase(),
            ID.replace('-', "0"),
            ID.replacen("4f0a", "1f0a", 1),
            "0b9b1f2e-6c1d-4f0a-9e4b-1234567890a-".to_owned(),
            "0b9b1f2e06c1d-4f0a-9e4b-1234567890ab".to_owned(),
        ] {
            assert_eq!(upload(name.as_bytes()), None, "{name}");
        }
    }
}
