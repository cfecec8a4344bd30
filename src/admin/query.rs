//! The query of a URL: names and values, decoded.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// What stands behind the `?`.
#[derive(Clone, Copy)]
pub(super) struct Query<'a>(pub &'a str);

impl Query<'_> {
    /// The value of a name, the first one; none for an empty one.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut values = pairs.filter(|(known, _)| *known == name).map(|(_, value)| decoded(value));
        values.next().filter(|value| !value.is_empty())
    }

    /// The number that a name stands for, if it is there.
    ///
    /// # Errors
    /// In words, when it is no whole number from 1 to `most`.
    pub(super) fn number<T>(&self, name: &str, most: T) -> Result<Option<T>, String>
    where
        T: Copy + FromStr + PartialOrd + Display + From<u8>,
    {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if (T::from(1)..=most).contains(&number) => Ok(Some(number)),
            _ => Err(format!("{name}={text:?} is no whole number from 1 to {most}")),
        }
    }
}

/// The network of a value that is one, or an address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse().ok().map(<IpAddr as Into<IpNet>>::into))
}

/// As forms write it: `%41` is `A`, `+` a space. What is no UTF-8 then is replaced.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (byte, digits.filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()))) {
            (b'%', Some(two)) => {
                bytes.push(u8::from_str_radix(two, 16).unwrap_or(b'?'));
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_decoded() {
        let query = Query("client=2001%3adb8%3A%3A1&host=*.a.example&x&client=no&empty=");
        assert_eq!(query.get("client").as_deref(), Some("2001:db8::1"));
        assert_eq!(query.get("host").as_deref(), Some("*.a.example"));
        assert_eq!([query.get("x"), query.get("empty"), query.get("none")], [None, None, None]);
        assert_eq!(Query("a=%4&b=%zz+%ff%").get("b").as_deref(), Some("%zz \u{fffd}%"));
        assert_eq!(Query("a=%4").get("a").as_deref(), Some("%4"));
    }
}
