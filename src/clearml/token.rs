//! What a token says about itself.
//!
//! This module must not check a signature: only the server can. A token is never shown.

use std::fmt;

use serde::Deserialize;

/// A token, which its `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
    /// When it ends, in Unix seconds, if it says so.
    pub expires: Option<i64>,
    /// The version of the server's API.
    pub api_version: ApiVersion,
    /// The company that it is for; empty if it does not say.
    pub company: String,
}

/// The version of an API, such as 2.34.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ApiVersion(pub u32, pub u32);

impl ApiVersion {
    /// From text such as `2.34`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let minor = minor.split('.').next()?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[derive(Deserialize, Default)]
struct Claims {
    exp: Option<i64>,
    api_version: Option<String>,
    identity: Option<Identity>,
}

#[derive(Deserialize, Default)]
struct Identity {
    company: Option<String>,
}

impl Token {
    /// Reads the claims of a token. Those that are missing stay unknown.
    pub fn new(text: String) -> Self {
        let claims = claims(&text).unwrap_or_default();
        let version = claims.api_version.as_deref().and_then(ApiVersion::parse);
        Self {
            expires: claims.exp,
            api_version: version.unwrap_or_default(),
            company: claims.identity.and_then(|identity| identity.company).unwrap_or_default(),
            text,
        }
    }

    /// The value of the header that carries it.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&decode(payload)?).ok()
}

/// Reads base64, in either alphabet and with or without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// Writes base64.
pub fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let group = three.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        let group = group << (8 * (3 - three.len()));
        for at in 0..4 {
            let index = (group >> (18 - 6 * at) & 63) as usize;
            text.push(if at <= three.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_written_and_read() {
        for (bytes, text) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v")] {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).unwrap(), bytes);
        }
        assert_eq!(decode("_-8").unwrap(), [0xff, 0xef]);
        assert_eq!(decode("a b"), None);
    }

    #[test]
    fn the_claims_of_a_token_are_read_and_the_token_is_not_shown() {
        let claims = encode(br#"{"exp":7,"api_version":"2.34","identity":{"company":"c1"}}"#);
        let token = Token::new(format!("e30.{claims}.s3cret"));
        assert_eq!((token.expires, token.api_version), (Some(7), ApiVersion(2, 34)));
        assert_eq!(token.company, "c1");
        assert!(!format!("{token:?}").contains("s3cret"));
        let odd = Token::new("no-token".to_owned());
        assert_eq!((odd.expires, odd.api_version), (None, ApiVersion(0, 0)));
        assert!(ApiVersion(2, 9) < ApiVersion(2, 23));
    }
}
